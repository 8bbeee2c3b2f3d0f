//! JSON bodies of requests: parsed, or with the problem to answer with.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use rocket::Request;
use rocket::data::{self, Data, FromData};
use rocket::http::{ContentType, Status};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::body::read_bytes;
use crate::web::error::ProblemDetails;

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
    /// Deserializes the body, an object; 422 with the reason if it does not fit. It reads the bytes,
    /// since the parsed value no longer shows a field that was sent twice.
    pub(super) fn parsed(self) -> Result<T, ProblemDetails> {
        let read = self.read?;
        // Serde takes an array for a structure as well: its fields in their order.
        if !read.value.is_object() {
            let found = kind(&read.value);
            let detail = format!("the body: expected a JSON object, found {found}");
            return Err(ProblemDetails::new(Status::UnprocessableEntity, detail));
        }
        serde_json::from_slice(&read.bytes).map_err(|error| {
            let position = format!(" at line {} column {}", error.line(), error.column());
            let mut detail = error.to_string();
            detail.truncate(detail.strip_suffix(&position).map_or(detail.len(), str::len));
            ProblemDetails::new(Status::UnprocessableEntity, detail)
        })
    }
}

/// What a JSON value is, for an error text.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
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
pub(super) fn expect_fields_once(body: &[u8]) -> Result<(), ProblemDetails> {
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
