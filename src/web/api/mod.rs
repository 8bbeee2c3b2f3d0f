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
//! | `jobs`, `search`, `bulk` | one job; jobs by search terms; many jobs at once |
//! | `queues`, `limits` | queues and their lists; how many of their jobs run at once |
//! | `periodic`, `store`, `workers` | periodic jobs; servers and the doctor; worker processes |
//! | `types` | statistics by job type |
//! | `audit` | what operators did |
//! | `alerts`, `health`, `metrics` | what needs attention; for probes and Prometheus |
//! | `register`, `registration` | the reference route, and the fields of its request |
//! | `body`, `json_body`, `params`, `idempotency` | what requests carry |
//!
//! What may surprise. The doc comments of routes and of serialized types are published: they become
//! the descriptions of the OpenAPI document. Write them for a client.

pub(crate) mod alerts;
pub(crate) mod audit;
mod body;
pub(crate) mod bulk;
pub(crate) mod enqueue;
pub(crate) mod health;
mod idempotency;
pub(crate) mod job_actions;
pub(crate) mod jobs;
mod json_body;
pub(crate) mod limits;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
mod params;
pub(crate) mod periodic;
pub(crate) mod queues;
pub(crate) mod register;
pub(crate) mod registration;
pub(crate) mod search;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod types;
pub(crate) mod workers;

use rocket::http::Status;
use rocket::request::Request;
use rocket::response::{self, Responder, Response};
use rocket::serde::json::Json;
use serde::Serialize;

use crate::error::Error;
use crate::web::error::ProblemDetails;

pub(crate) use audit::{ActionHook, Asked, audit};
pub(crate) use body::TOO_SLOW;
#[cfg(feature = "dashboard")]
pub(crate) use body::read_bytes;
pub(crate) use idempotency::{Caller, IdempotencyKey, RouteScope};
use json_body::expect_fields_once;
#[cfg(feature = "dashboard")]
pub(crate) use json_body::expect_no_coding;
pub(crate) use json_body::{JsonBody, is_json};
pub(crate) use params::{Param, number, page, place, queue_name};

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

/// 201 with a JSON body.
pub(crate) struct Created<T>(pub T);

impl<'r, T: Serialize> Responder<'r, 'static> for Created<T> {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        Response::build_from(Json(self.0).respond_to(request)?).status(Status::Created).ok()
    }
}
