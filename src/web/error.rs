//! Errors as clients read them: problem details (RFC 9457) for every path below the base,
//! including paths and methods that do not exist. The status of every error is decided here and
//! nowhere else.
//!
//! The kinds of errors and their statuses:
//!
//! | error | status |
//! | --- | --- |
//! | store unavailable, result unknown | 503 with `Retry-After` |
//! | too many of something bounded | 429 with `Retry-After` |
//! | invalid value, idempotency key used for another body | 422 |
//! | not found | 404 |
//! | duplicate, id in use, wrong state, damaged data | 409 |
//! | anything else | 500, logged with its cause |
//!
//! A text for clients is this crate's own. The text of Redis, which may contain an address or a
//! part of a command, stays in the error's source and goes to the log.
//!
//! Three roads lead here: a route returns an error; a guard refuses and Rocket calls the catcher
//! ([`explain`] passes the reason on); no route matches, or not with this method
//! ([`wrong_methods`]).

use std::borrow::Cow;
use std::collections::BTreeMap;

use rocket::http::{ContentType, Header, Method, Status};
#[cfg(feature = "dashboard")]
use rocket::response::Redirect;
use rocket::response::{self, Responder, Response};
use rocket::{Catcher, Request, Route};
use serde::Serialize;

use crate::error::Error;
use crate::web::JobQueue;
use crate::web::api::TOO_SLOW;
use crate::web::reads::had_no_turn;

/// The detail of a 503, whatever made the store unavailable.
pub(super) const UNAVAILABLE: &str = "Job queue service is unavailable: Redis is not connected";

/// The challenge of a 401. No browser asks for a password because of it.
const CHALLENGE: &str = "Bearer realm=\"job queue\"";

/// The detail of a 503 for a viewer while too many others are reading.
const BUSY: &str = "too many requests are reading the job queue: retry later";

/// Appended to errors about damaged data.
const ASK_THE_DOCTOR: &str = "the doctor (GET /doctor) names the damaged keys and jobs";

/// `Retry-After` of a 503: within this time everything works again once Redis is back.
const RETRY_AFTER_SECONDS: &str = "3";

/// `Retry-After` of a 429 of a bounded number of jobs: a job's end frees its slot within this
/// time.
const RETRY_BOUNDED_SECONDS: &str = "5";

/// An error of the REST interface: RFC 9457 problem details, sent as
/// `application/problem+json` with the status it names.
///
/// It never contains an address, a credential or an error text of Redis.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueProblem"))]
pub struct ProblemDetails {
    /// The kind of problem; `about:blank` if the status says everything.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The name of the status.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "openapi", schemars(default))]
    detail: String,
    /// One entry for each invalid field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schemars(default))]
    errors: Vec<FieldProblem>,
    /// Members that a particular problem adds.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schemars(skip))]
    more: BTreeMap<&'static str, serde_json::Value>,
}

/// What is wrong with one field of a request's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueFieldProblem"))]
pub struct FieldProblem {
    /// The field, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What was expected and what was found.
    pub detail: String,
}

impl ProblemDetails {
    /// A problem with this status and a detail about this request.
    pub fn new(status: Status, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.reason().unwrap_or("Error"),
            status: status.code,
            detail: detail.into(),
            errors: Vec::new(),
            more: BTreeMap::new(),
        }
    }

    /// A body with invalid fields: 422 that names all of them.
    pub fn fields(errors: Vec<FieldProblem>) -> Self {
        let detail = match errors.len() {
            1 => "1 field is wrong".to_owned(),
            wrong => format!("{wrong} fields are wrong"),
        };
        Self { errors, ..Self::new(Status::UnprocessableEntity, detail) }
    }

    /// The problem that an error of the queue means. For a 500, the detail begins with `action`,
    /// such as `Failed to enqueue job`.
    pub fn of(error: &Error, action: &str) -> Self {
        if error.is_unavailable() {
            Self::new(Status::ServiceUnavailable, UNAVAILABLE)
        } else if error.is_too_many() {
            Self::new(Status::TooManyRequests, error.to_string())
        } else if error.is_idempotency_mismatch() || error.is_invalid() {
            Self::new(Status::UnprocessableEntity, error.to_string())
        } else if error.is_not_found() {
            Self::new(Status::NotFound, error.to_string())
        } else if error.is_duplicate() || error.is_id_conflict() || error.is_wrong_state() {
            Self::new(Status::Conflict, error.to_string())
        } else {
            Self::new(Status::InternalServerError, format!("{action}: {error}"))
        }
    }

    /// Like [`ProblemDetails::of`], for routes that read or change stored jobs: damaged data is
    /// 409, a state of what the client named, not a failure of this process.
    pub(super) fn of_stored(error: &Error, action: &str) -> Self {
        if error.is_damaged() {
            return Self::new(Status::Conflict, format!("{error}; {ASK_THE_DOCTOR}"));
        }
        Self::of(error, action)
    }

    /// Adds a member.
    pub(crate) fn with(
        mut self,
        member: &'static str,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.more.insert(member, value.into());
        self
    }

    /// The status it is sent with.
    pub fn status(&self) -> Status {
        Status::new(self.status)
    }

    /// The invalid fields, if they are known.
    pub fn errors(&self) -> &[FieldProblem] {
        &self.errors
    }

    /// What is wrong with this request.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<Error> for ProblemDetails {
    fn from(error: Error) -> Self {
        let problem = Self::of(&error, "Failed to enqueue job");
        if problem.status() == Status::InternalServerError {
            crate::log::error!(?error, "cannot enqueue a job");
        }
        problem
    }
}

impl<'r> Responder<'r, 'static> for ProblemDetails {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let body = serde_json::to_string(&self).map_err(|_| Status::InternalServerError)?;
        let mut response = Response::build_from(body.respond_to(request)?);
        response
            .status(self.status())
            .header(ContentType::new("application", "problem+json"))
            .header(Header::new("Cache-Control", "no-store"));
        if let Some(header) = retry_after(self.status()) {
            response.header(header);
        }
        response.ok()
    }
}

/// The `Retry-After` header of a status that a client may retry.
pub(super) fn retry_after(status: Status) -> Option<Header<'static>> {
    let seconds = match status.code {
        503 => RETRY_AFTER_SECONDS,
        429 => RETRY_BOUNDED_SECONDS,
        _ => return None,
    };
    Some(Header::new("Retry-After", seconds))
}

/// The catchers to register at the base. They apply below it only; the application keeps its
/// own everywhere else.
pub(super) fn catchers() -> Vec<Catcher> {
    rocket::catchers![any_status]
}

/// Why a guard refused a request, for the catcher.
struct RefusalReason(Cow<'static, str>);

/// Records why this request is refused. The first reason counts.
pub(crate) fn explain(request: &Request<'_>, reason: impl Into<Cow<'static, str>>) {
    request.local_cache(|| RefusalReason(reason.into()));
}

/// The answer of the catcher: a page if a person reads it, problem details otherwise.
enum Caught {
    Problem(ProblemDetails),
    WrongMethod(WrongMethod),
    /// Refused for want of credentials: with a challenge, as RFC 9110 asks.
    Challenge(ProblemDetails),
    #[cfg(feature = "dashboard")]
    Login(Redirect),
    #[cfg(feature = "dashboard")]
    Page(super::dashboard::HtmlPage),
}

impl<'r> Responder<'r, 'static> for Caught {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        match self {
            Caught::Problem(problem) => problem.respond_to(request),
            Caught::WrongMethod(wrong) => wrong.respond_to(request),
            Caught::Challenge(problem) => {
                let mut response = problem.respond_to(request)?;
                response.set_header(Header::new("WWW-Authenticate", CHALLENGE));
                Ok(response)
            }
            #[cfg(feature = "dashboard")]
            Caught::Login(redirect) => redirect.respond_to(request),
            #[cfg(feature = "dashboard")]
            Caught::Page(page) => page.respond_to(request),
        }
    }
}

/// A method that a path does not have, and the ones it has.
struct WrongMethod {
    allow: String,
}

impl<'r> Responder<'r, 'static> for WrongMethod {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let detail = format!("{} takes {}", request.uri().path(), self.allow);
        let problem = ProblemDetails::new(Status::MethodNotAllowed, detail);
        let mut response = problem.respond_to(request)?;
        response.set_header(Header::new("Allow", self.allow));
        Ok(response)
    }
}

/// Answers every status without a response of its own, below the base.
#[rocket::catch(default)]
fn any_status(status: Status, request: &Request<'_>) -> Caught {
    let methods = request.rocket().state::<Methods>().filter(|_| status == Status::NotFound);
    if let Some(allow) = methods.and_then(|methods| methods.allowed(request)) {
        return Caught::WrongMethod(WrongMethod { allow });
    }
    let problem = problem_of(status, request);
    #[cfg(feature = "dashboard")]
    if status == Status::Unauthorized
        && let Some(login) = super::dashboard::login(request)
    {
        return Caught::Login(login);
    }
    #[cfg(feature = "dashboard")]
    if matches!(status.code, 401 | 403)
        && let Some(page) = super::dashboard::refusal(request, &problem)
    {
        return Caught::Page(page);
    }
    match status.code {
        401 => Caught::Challenge(problem),
        _ => Caught::Problem(problem),
    }
}

/// The problem of a status: with the reason of the guard, if there is one.
fn problem_of(status: Status, request: &Request<'_>) -> ProblemDetails {
    let RefusalReason(reason) = request.local_cache(|| RefusalReason("".into()));
    let detail = match status.code {
        401 | 403 if !reason.is_empty() => reason.to_string(),
        404 => not_found(request),
        503 if had_no_turn(request) => BUSY.to_owned(),
        503 => UNAVAILABLE.to_owned(),
        401 => "credentials are missing or wrong".to_owned(),
        403 => "access is not allowed".to_owned(),
        408 => TOO_SLOW.to_owned(),
        429 => "too many requests".to_owned(),
        _ => String::new(),
    };
    ProblemDetails::new(status, detail)
}

/// Renamed routes below the base: the old and the new beginning of their paths. The old ones only
/// answer with the new name.
const RENAMED: [(&str, &str); 2] = [("/schedules", "/periodic"), ("/ui/schedules", "/ui/periodic")];

/// The detail of a 404. It names the new route for an old one: a client of an earlier version
/// would otherwise have to guess.
fn not_found(request: &Request<'_>) -> String {
    let path = request.uri().path();
    let base = request.rocket().state::<JobQueue>().map_or("", |queue| &queue.config().base);
    let below = path.as_str().strip_prefix(base).unwrap_or_default();
    let is_below = |old: &str| {
        below.strip_prefix(old).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match RENAMED.into_iter().find(|(old, _)| is_below(old)) {
        Some((old, new)) => format!("{base}{old} is now {base}{new}"),
        None => format!("nothing is at {path}"),
    }
}

/// Which methods each path below the base has. The catcher answers any other method with 405 and
/// `Allow`, for which Rocket itself answers 404. Routes for it would fill the launch log, and at the
/// base `/` they would come between the application's own routes and its catchers.
pub(super) struct Methods(Vec<(Vec<String>, Vec<Method>)>);

impl Methods {
    /// The methods of these routes, which are not mounted yet, below `base`.
    pub(super) fn of(base: &str, routes: &[Route]) -> Self {
        let mut paths: BTreeMap<String, Vec<Method>> = BTreeMap::new();
        for route in routes {
            let methods = paths.entry(format!("{base}/{}", route.uri.path())).or_default();
            methods.push(route.method);
            if route.method == Method::Get {
                // Rocket answers HEAD for every GET route.
                methods.push(Method::Head);
            }
        }
        Self(paths.into_iter().map(|(path, methods)| (segments(&path), methods)).collect())
    }

    /// The methods that the path of a request has, if its own is none of them.
    fn allowed(&self, request: &Request<'_>) -> Option<String> {
        let path: Vec<&str> = request.uri().path().segments().collect();
        let paths = self.0.iter().filter(|(route, _)| matches(route, &path));
        let mut methods: Vec<&str> = Vec::new();
        for method in paths.flat_map(|(_, methods)| methods) {
            if *method == request.method() {
                return None;
            }
            if !methods.contains(&method.as_str()) {
                methods.push(method.as_str());
            }
        }
        (!methods.is_empty()).then(|| methods.join(", "))
    }
}

/// The segments of a path, without empty ones.
fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Whether a route has this path, as Rocket compares them.
fn matches(route: &[String], path: &[&str]) -> bool {
    let is_trailing = route.last().is_some_and(|last| last.ends_with("..>"));
    let fixed = &route[..route.len() - usize::from(is_trailing)];
    let same = |(one, found): (&String, &&str)| one.starts_with('<') || one == found;
    (path.len() == fixed.len() || is_trailing && path.len() > fixed.len())
        && fixed.iter().zip(path).all(same)
}

/// The methods that Rocket knows.
pub(super) const ALL_METHODS: [Method; 9] = [
    Method::Get,
    Method::Put,
    Method::Post,
    Method::Delete,
    Method::Options,
    Method::Head,
    Method::Trace,
    Method::Connect,
    Method::Patch,
];

/// An error of the queue as an answer: problem details with the status it means.
impl<'r> Responder<'r, 'static> for Error {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        ProblemDetails::from(self).respond_to(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_its_status() {
        let table = [
            (Error::unavailable("no connection"), 503, UNAVAILABLE),
            (Error::outcome_unknown("no answer"), 503, UNAVAILABLE),
            (Error::idempotency_mismatch("used before"), 422, "used before"),
            (Error::invalid("too long"), 422, "too long"),
            (Error::refused("storage is full"), 500, "Failed to enqueue job: storage is full"),
            (Error::closed("shut down"), 500, "Failed to enqueue job: shut down"),
            (Error::not_found("queue \"q\" does not exist"), 404, "queue \"q\" does not exist"),
            (Error::duplicate("held"), 409, "held"),
        ];
        for (error, status, detail) in table {
            let problem = ProblemDetails::from(error);
            assert_eq!((problem.status().code, problem.detail()), (status, detail));
        }
    }

    #[test]
    fn members_that_are_empty_are_left_out() {
        let problem = ProblemDetails::new(Status::NotFound, "");
        assert_eq!(
            serde_json::to_string(&problem).unwrap(),
            r#"{"type":"about:blank","title":"Not Found","status":404}"#
        );
    }
}
