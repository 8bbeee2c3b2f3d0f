//! Errors as clients read them: problem details (RFC 9457). The status of every error is decided
//! here and nowhere else; [`super::catchers`] answers for guards that refuse, and for paths and
//! methods that do not exist.
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

use std::collections::BTreeMap;

use rocket::Request;
use rocket::http::{ContentType, Header, Status};
use rocket::response::{self, Responder, Response};
use serde::Serialize;

use crate::error::Error;

/// The detail of a 503, whatever made the store unavailable.
pub(super) const UNAVAILABLE: &str = "Job queue service is unavailable: Redis is not connected";

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
