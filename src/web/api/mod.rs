//! The REST interface, and what its routes share.
//!
//! Each module has the routes of one subject and a function `routes` that the fairing mounts at the
//! base. A route takes a guard first ([`ViewAccess`](super::guards::ViewAccess) or
//! [`ActAccess`](super::guards::ActAccess)), then its parameters, and answers with [`JsonResult`],
//! [`Done`] or [`Created`]. Every error is a problem document (RFC 9457).
//!
//! Bodies and parameters never fail as Rocket guards: a failed guard leads to a catcher, which does
//! not know what was wrong. They carry the problem instead, and the route returns it, so each kind
//! of mistake has its own status and text.
//!
//! | module | subject |
//! | --- | --- |
//! | `enqueue`, `status` | enqueue a job of the application's types; follow it by a signed link |
//! | `jobs`, `bulk` | one job; many jobs at once |
//! | `queues`, `periodic`, `store` | queues and their lists; periodic jobs; servers and the doctor |
//! | `health`, `metrics` | for probes and Prometheus |
//! | `register`, `registration` | the reference route, and the fields of its request |
//!
//! What may surprise. The doc comments of routes and of serialized types are published: they become
//! the descriptions of the OpenAPI document. Write them for a client.

mod body;
pub(crate) mod bulk;
pub(crate) mod enqueue;
pub(crate) mod health;
pub(crate) mod job_actions;
pub(crate) mod jobs;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
pub(crate) mod periodic;
pub(crate) mod queues;
pub(crate) mod register;
pub(crate) mod registration;
pub(crate) mod status;
pub(crate) mod store;

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use rocket::data::{self, Data, FromData};
use rocket::form::{self, DataField, FromForm, Options, ValueField};
use rocket::http::{ContentType, Status};
use rocket::request::{self, FromRequest, Request};
use rocket::response::{self, Responder, Response};
use rocket::serde::json::Json;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::broker::Page;
use crate::error::Error;
use crate::job::{Idempotency, JobId, QueueName};
use crate::web::error::ProblemDetails;
use crate::web::proxy::{client_name, client_of};

pub(crate) use body::{TOO_SLOW, read_bytes};

/// Maximum `Idempotency-Key`, in characters.
const MAX_KEY_CHARS: usize = 255;

/// Rocket's own default for its `json` limit: 1 MiB. An application that sets the limit sets it
/// here too.
const JSON_LIMIT: u64 = 1 << 20;

/// The byte order mark in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A JSON body: its bytes and the parsed value.
pub(crate) struct Read {
    /// The bytes as sent, without a byte order mark.
    pub bytes: Vec<u8>,
    /// The same, parsed.
    pub value: Value,
}

/// A JSON body, or why it is not one. It never fails as a guard, so the route itself answers.
/// `T` is the documented type of the body.
pub(crate) struct JsonBody<T> {
    /// The body, or the problem to answer with.
    pub read: Result<Read, ProblemDetails>,
    documented: PhantomData<fn() -> T>,
}

#[rocket::async_trait]
impl<'r, T> FromData<'r> for JsonBody<T> {
    type Error = Infallible;

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> data::Outcome<'r, Self> {
        let read = read_json(request, data).await;
        data::Outcome::Success(Self { read, documented: PhantomData })
    }
}

impl<T: DeserializeOwned> JsonBody<T> {
    /// Deserializes the body; 422 with the reason if it does not fit. It reads the bytes, since the
    /// parsed value no longer shows a field that was sent twice.
    pub(super) fn parsed(self) -> Result<T, ProblemDetails> {
        serde_json::from_slice(&self.read?.bytes).map_err(|error| {
            let position = format!(" at line {} column {}", error.line(), error.column());
            let mut detail = error.to_string();
            detail.truncate(detail.strip_suffix(&position).map_or(detail.len(), str::len));
            ProblemDetails::new(Status::UnprocessableEntity, detail)
        })
    }
}

/// Reads the body and parses it.
///
/// # Errors
/// 415 for another content type or a compressed body, 413 and 408 for one that is too long or too
/// slow, 400 for invalid JSON, 422 for a number out of range.
async fn read_json(request: &Request<'_>, data: Data<'_>) -> Result<Read, ProblemDetails> {
    if !request.content_type().is_some_and(is_json) {
        let detail = "expected content type application/json";
        return Err(ProblemDetails::new(Status::UnsupportedMediaType, detail));
    }
    expect_no_coding(request)?;
    let limit = request.limits().get("json").unwrap_or(JSON_LIMIT.into());
    let mut bytes = read_bytes(data, limit).await?;
    // Some programs write a byte order mark, which JSON does not allow.
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    let value = serde_json::from_slice(&bytes).map_err(|error| {
        // JSON's grammar has no largest number, but Rust's types do.
        let status = match error.to_string().starts_with("number out of range") {
            true => Status::UnprocessableEntity,
            false => Status::BadRequest,
        };
        ProblemDetails::new(status, format!("the body is not JSON: {error}"))
    })?;
    Ok(Read { bytes, value })
}

/// The names of an object's fields, also those that occur several times, of which a parsed value
/// has one.
struct FieldNames(Vec<String>);

impl<'de> Deserialize<'de> for FieldNames {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = FieldNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldNames, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(FieldNames(names))
            }
        }
        from.deserialize_map(Names)
    }
}

/// 422 for an object with a field that is given twice; anything else is judged elsewhere.
fn expect_fields_once(body: &[u8]) -> Result<(), ProblemDetails> {
    let Ok(FieldNames(names)) = serde_json::from_slice(body) else { return Ok(()) };
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        None => Ok(()),
        Some(name) => {
            let times = names.iter().filter(|other| *other == name).count();
            let shown: String = name.chars().take(40).collect();
            let detail = format!("{shown}: expected once, found {times} times");
            Err(ProblemDetails::new(Status::UnprocessableEntity, detail))
        }
    }
}

/// 415 for a compressed body, which would otherwise be reported as invalid.
pub(crate) fn expect_no_coding(request: &Request<'_>) -> Result<(), ProblemDetails> {
    let codings = request.headers().get("Content-Encoding").flat_map(|line| line.split(','));
    let mut codings = codings.map(str::trim).filter(|coding| !coding.is_empty());
    match codings.find(|coding| !coding.eq_ignore_ascii_case("identity")) {
        Some(coding) => {
            let shown: String = coding.chars().take(40).collect();
            let detail = format!("expected a body without Content-Encoding, found {shown:?}");
            Err(ProblemDetails::new(Status::UnsupportedMediaType, detail))
        }
        None => Ok(()),
    }
}

/// Whether the type is `application/json` or ends with `+json`, whatever its parameters.
pub(crate) fn is_json(content: &ContentType) -> bool {
    let subtype = content.sub().as_str().to_ascii_lowercase();
    (content.top() == "application" && subtype == "json") || subtype.ends_with("+json")
}

/// The `Idempotency-Key` header, if there is one, or why it is refused. A key that is empty or
/// sent twice is refused rather than ignored: the client relies on it.
pub(crate) struct IdempotencyKey<'r>(Result<Option<&'r str>, ProblemDetails>);

impl IdempotencyKey<'_> {
    /// The idempotency key for this route and body. The same key on another route is another key.
    pub(super) fn guard(
        self,
        scope: &str,
        body: &[u8],
    ) -> Result<Option<Idempotency>, ProblemDetails> {
        Ok(self.0?.map(|key| Idempotency::new(scope, key, body)))
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for IdempotencyKey<'r> {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Infallible> {
        let mut keys = request.headers().get("Idempotency-Key");
        let refused = |detail: &str| {
            let detail = format!("header Idempotency-Key: {detail}");
            Err(ProblemDetails::new(Status::UnprocessableEntity, detail))
        };
        let key = match (keys.next(), keys.next()) {
            (None, _) => Ok(None),
            (Some(_), Some(_)) => refused("expected one, got several"),
            (Some(key), None) => match key.chars().count() {
                0 => refused("expected 1 to 255 characters, got none"),
                1..=MAX_KEY_CHARS => Ok(Some(key)),
                length => {
                    refused(&format!("expected 1 to {MAX_KEY_CHARS} characters, got {length}"))
                }
            },
        };
        request::Outcome::Success(Self(key))
    }
}

/// The scope of an idempotency key: the method and the path of the route as it is mounted, however
/// the request spelled it.
pub(crate) struct RouteScope(pub String);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for RouteScope {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Infallible> {
        let path = request.route().map_or("", |route| route.uri.path());
        request::Outcome::Success(Self(format!("{} {path}", request.method())))
    }
}

/// The caller of the public route, as far as it is known: a credential or an address. It separates
/// the idempotency keys of different callers. The text is hashed and never shown.
pub(crate) struct Caller(pub String);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Caller {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Infallible> {
        let credential = request.headers().get_one("Authorization");
        let caller = match (credential, client_of(request)) {
            (Some(credential), _) => format!("credential {credential}"),
            (None, Some(ip)) => format!("address {}", client_name(ip)),
            (None, None) => "local".to_owned(),
        };
        request::Outcome::Success(Self(caller))
    }
}

/// Why a request about queues and jobs failed. An internal error is also logged, with its cause.
#[derive(Debug)]
pub(crate) struct Refused(pub ProblemDetails);

impl From<ProblemDetails> for Refused {
    fn from(problem: ProblemDetails) -> Self {
        Self(problem)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let problem = ProblemDetails::of_stored(&error, "The request could not be completed");
        if problem.status() == Status::InternalServerError {
            crate::log::error!(?error, "a request about the job queue failed");
        }
        Self(problem)
    }
}

impl<'r> Responder<'r, 'static> for Refused {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        self.0.respond_to(request)
    }
}

/// A JSON response, or why there is none.
pub(crate) type JsonResult<T> = Result<Json<T>, Refused>;

/// 204, or why the action failed.
pub(crate) type Done = Result<NoContent, Refused>;

/// The response 204.
pub(crate) struct NoContent;

impl<'r> Responder<'r, 'static> for NoContent {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        Response::build().status(Status::NoContent).ok()
    }
}

/// Parses a queue name in its printable form. The queue need not exist. 422 for an invalid form.
pub(crate) fn queue_name(name: &str) -> Result<QueueName, Refused> {
    Ok(name.parse()?)
}

/// Parses the queue and id of a path, in their printable forms. 422 for an invalid form;
/// whether the job exists is for the store to say.
pub(crate) fn place(queue: &str, id: &str) -> Result<(QueueName, JobId), Refused> {
    Ok((queue_name(queue)?, id.parse()?))
}

/// A query parameter as it was sent, however often; the route reports what is wrong with it.
pub(crate) struct Param<'r>(Vec<&'r str>);

impl<'r> Param<'r> {
    /// Its text; `None` if it is absent or empty.
    ///
    /// # Errors
    /// 422 if it was sent more than once.
    pub(super) fn once(&self, name: &str) -> Result<Option<&'r str>, Refused> {
        Ok(self.given(name)?.filter(|text| !text.is_empty()))
    }

    /// A filter's text; `None` if it is absent.
    ///
    /// # Errors
    /// 422 if it was sent more than once, or empty: it must not become no filter.
    pub(super) fn filter(&self, name: &str) -> Result<Option<&'r str>, Refused> {
        match self.given(name)? {
            Some("") => {
                Err(Error::invalid(format!("{name}: expected a value, found nothing")).into())
            }
            given => Ok(given),
        }
    }

    /// Its text, also an empty one, which is not a number; `None` if it is absent.
    pub(super) fn given(&self, name: &str) -> Result<Option<&'r str>, Refused> {
        match self.0[..] {
            [] => Ok(None),
            [text] => Ok(Some(text)),
            _ => {
                let times = self.0.len();
                Err(Error::invalid(format!("{name}: expected once, found {times} times")).into())
            }
        }
    }
}

#[rocket::async_trait]
impl<'r> FromForm<'r> for Param<'r> {
    type Context = Self;

    fn init(_: Options) -> Self {
        Self(Vec::new())
    }

    fn push_value(context: &mut Self, field: ValueField<'r>) {
        context.0.push(field.value);
    }

    async fn push_data(_: &mut Self, _: DataField<'r, '_>) {}

    fn finalize(context: Self) -> form::Result<'r, Self> {
        Ok(context)
    }
}

/// Parses a whole number within these bounds; `None` if it is absent.
pub(crate) fn number(
    name: &str,
    value: Option<&str>,
    least: u64,
    most: u64,
) -> Result<Option<u64>, Refused> {
    let Some(text) = value else { return Ok(None) };
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ => {
            let shown: String = text.chars().take(40).collect();
            Err(Error::invalid(format!(
                "{name}: expected a whole number from {least} to {most}, found {shown:?}"
            ))
            .into())
        }
    }
}

/// The requested page, by number or by cursor. Default: the first page of 30 rows; at most 100.
///
/// # Errors
/// 422 for both a number and a cursor, or for a value out of range.
pub(crate) fn page(
    number: Option<&str>,
    size: Option<&str>,
    cursor: Option<&str>,
) -> Result<Page, Refused> {
    let given = |text: &Option<&str>| text.is_some_and(|text| !text.is_empty());
    if given(&number) && given(&cursor) {
        return Err(Error::invalid("page: expected a number or a cursor, found both").into());
    }
    let page = match cursor.filter(|text| !text.is_empty()) {
        Some(cursor) => Page::after(cursor.parse()?),
        None => {
            let number = self::number("page", number, 1, u64::from(u32::MAX))?.unwrap_or(1);
            Page::number(u32::try_from(number).unwrap_or(u32::MAX))?
        }
    };
    let size = self::number("size", size, 1, 100)?.unwrap_or(30);
    Ok(page.size(u32::try_from(size).unwrap_or(u32::MAX))?)
}

/// Logs a change and its client, with the target `rocket_jobqueue::audit`, so that a subscriber
/// can keep these lines apart. Payloads are not among them.
pub(super) fn audit(request: &Asked, action: &str, queue: &str, what: &str) {
    crate::log::info!(target: "rocket_jobqueue::audit", from = %request.0, %queue, %what, "{action}");
}

/// The client of a request, for the log: the address of the connection, or the one that a trusted
/// proxy names; `local` without an address.
pub(crate) struct Asked(String);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Asked {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Infallible> {
        request::Outcome::Success(Self::of(request))
    }
}

impl Asked {
    /// The client of this request.
    pub(super) fn of(request: &Request<'_>) -> Self {
        Self(client_of(request).map_or_else(|| "local".to_owned(), |ip| ip.to_string()))
    }
}

/// 201 with a JSON body.
pub(crate) struct Created<T>(pub T);

impl<'r, T: Serialize> Responder<'r, 'static> for Created<T> {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        Response::build_from(Json(self.0).respond_to(request)?).status(Status::Created).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_type_or_its_suffix() {
        for (text, expected) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("Application/JSON", true),
            ("application/vnd.api+json", true),
            ("application/jsonp", false),
            ("text/json", false),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            assert_eq!(is_json(&text.parse().unwrap()), expected, "{text}");
        }
    }
}
