//! The documented responses: what each type that a route answers with looks like, and which
//! problems it can be instead.
//!
//! rocket_okapi asks a route's return type for its responses, so each of our types implements
//! `OpenApiResponderInner` here, beside the others, and the routes stay free of it.
//!
//! rocket_okapi merges the responses of both sides of a `Result`. The tables of problems are common
//! to many routes, so a document may list a problem that a single route never gives; `openapi`
//! removes the ones about bodies from routes without a body.

use rocket_okapi::Result;
use rocket_okapi::r#gen::OpenApiGenerator;
use rocket_okapi::okapi::openapi3::{MediaType, RefOr, Response, Responses};
use rocket_okapi::response::OpenApiResponderInner;
use schemars::JsonSchema;

use super::{JSON, PROBLEM};
use crate::broker::{JobInfo, JobPage};
use crate::client::Receipt;
use crate::error::Error;
use crate::inspector::FoundRows;
use crate::web::api::bulk::{BulkCounts, BulkResponse};
use crate::web::api::health::{Health, Healthy, Unhealthy};
use crate::web::api::jobs::{FollowResponse, JobLookup};
use crate::web::api::queues::JobRows;
use crate::web::api::register::NotRegistered;
use crate::web::api::search::Found;
use crate::web::api::status::{Accepted, JobStatus, StatusAnswer};
use crate::web::api::{Created, NoContent, Refused};
use crate::web::error::ProblemDetails;

/// Documents one response: its status, description, content type and the schema of `T`.
fn answer<T: JsonSchema>(
    generator: &mut OpenApiGenerator,
    responses: &mut Responses,
    content_type: &str,
    (status, description): (u16, &str),
) {
    let schema = Some(generator.json_schema::<T>());
    let mut response = Response { description: description.to_owned(), ..Response::default() };
    let media = MediaType { schema, ..MediaType::default() };
    response.content.insert(content_type.to_owned(), media);
    responses.responses.insert(status.to_string(), RefOr::Object(response));
}

/// Documents problems, each with its status and description.
fn problems(generator: &mut OpenApiGenerator, table: &[(u16, &str)]) -> Responses {
    let mut responses = Responses::default();
    for row in table {
        answer::<ProblemDetails>(generator, &mut responses, PROBLEM, *row);
    }
    responses
}

/// The problem of every route that needs the store.
const UNAVAILABLE: (u16, &str) = (503, "Redis is not connected; retry later");

impl OpenApiResponderInner for ProblemDetails {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let failed = (500, "The request could not be completed");
        Ok(problems(generator, &[failed, UNAVAILABLE]))
    }
}

impl OpenApiResponderInner for NotRegistered {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let table = [
            (400, "The body is not JSON"),
            (403, "The request comes from another site, or the queue is read-only here"),
            (413, "The body is larger than Rocket's `json` limit (1 MiB)"),
            (415, "The content type is not JSON"),
            (
                422,
                "Fields are invalid: `errors` has an entry with a JSON pointer for each; or the `Idempotency-Key` was used for another body or other options",
            ),
            (429, "Requests over the limit: `Retry-After` says when to retry"),
            (500, "The job could not be enqueued"),
            UNAVAILABLE,
        ];
        Ok(problems(generator, &table))
    }
}

/// The problems of every route about queues and jobs.
const REFUSED: [(u16, &str); 11] = [
    (400, "The body is not JSON"),
    (401, "Authentication required"),
    (403, "The application's guard denies access, or the change comes from another site"),
    (404, "The queue, job, periodic job or job type does not exist"),
    (
        409,
        "The job's state does not allow the action, the job already exists, or the stored data is damaged",
    ),
    (413, "The body is larger than Rocket's `json` limit (1 MiB)"),
    (415, "The content type is not JSON"),
    (422, "The request is invalid: `detail` and `errors` say why"),
    (429, "Requests over the limit: `Retry-After` says when to retry"),
    (500, "The request could not be completed"),
    UNAVAILABLE,
];

impl OpenApiResponderInner for Refused {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        Ok(problems(generator, &REFUSED))
    }
}

impl OpenApiResponderInner for NoContent {
    fn responses(_: &mut OpenApiGenerator) -> Result<Responses> {
        Ok(nothing("Done"))
    }
}

/// Documents a 204.
fn nothing(description: &str) -> Responses {
    let response = Response { description: description.to_owned(), ..Response::default() };
    let mut responses = Responses::default();
    responses.responses.insert("204".to_owned(), RefOr::Object(response));
    responses
}

impl OpenApiResponderInner for JobLookup {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = nothing("The job ended during the wait and is not retained");
        answer::<JobInfo>(generator, &mut responses, JSON, (200, "The job"));
        Ok(responses)
    }
}

impl OpenApiResponderInner for JobRows {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        answer::<JobPage>(generator, &mut responses, JSON, (200, "A page of jobs"));
        Ok(responses)
    }
}

impl OpenApiResponderInner for Found {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        answer::<FoundRows>(generator, &mut responses, JSON, (200, "A page of jobs"));
        Ok(responses)
    }
}

impl OpenApiResponderInner for StatusAnswer {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        answer::<JobStatus>(generator, &mut responses, JSON, (200, "The status of the job"));
        Ok(responses)
    }
}

impl OpenApiResponderInner for FollowResponse {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        let events = (200, "Events, each with the job as JSON");
        answer::<String>(generator, &mut responses, "text/event-stream", events);
        Ok(responses)
    }
}

impl OpenApiResponderInner for BulkResponse {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        answer::<BulkCounts>(
            generator,
            &mut responses,
            JSON,
            (200, "The number of jobs that were changed"),
        );
        if let Some(RefOr::Object(counted)) = responses.responses.get_mut("200") {
            let schema = Some(generator.json_schema::<String>());
            let media = MediaType { schema, ..MediaType::default() };
            counted.content.insert("text/event-stream".to_owned(), media);
        }
        Ok(responses)
    }
}

/// The problems of an application's own route that enqueues.
const NOT_ENQUEUED: [(u16, &str); 5] = [
    (409, "An equal job or a job with this id already exists"),
    (422, "A value is invalid, or the idempotency key was used for another body"),
    (429, "Too many jobs are waiting; retry later"),
    (500, "The job could not be enqueued"),
    UNAVAILABLE,
];

impl OpenApiResponderInner for Error {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        Ok(problems(generator, &NOT_ENQUEUED))
    }
}

impl OpenApiResponderInner for Accepted {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        let accepted = (202, "The job is enqueued; `status_url` and `Location` lead to its status");
        answer::<Accepted>(generator, &mut responses, JSON, accepted);
        Ok(responses)
    }
}

impl OpenApiResponderInner for Receipt {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        answer::<Receipt>(generator, &mut responses, JSON, (202, "The job is enqueued"));
        Ok(responses)
    }
}

impl OpenApiResponderInner for Unhealthy {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        Ok(problems(generator, &[(503, "The store does not answer")]))
    }
}

impl OpenApiResponderInner for Healthy {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        answer::<Health>(generator, &mut responses, JSON, (200, "The health of this process"));
        if let Some(RefOr::Object(healthy)) = responses.responses.get_mut("200") {
            let schema = Some(generator.json_schema::<String>());
            let media = MediaType { schema, ..MediaType::default() };
            healthy.content.insert("text/plain".to_owned(), media);
        }
        Ok(responses)
    }
}

impl<T: JsonSchema> OpenApiResponderInner for Created<T> {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        answer::<T>(generator, &mut responses, JSON, (201, "The job is enqueued"));
        Ok(responses)
    }
}
