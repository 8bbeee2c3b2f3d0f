//! Actions on many jobs, in batches, with progress.
//!
//! An action covers the jobs that are there when it starts, and takes 200 at a time, so that
//! the store serves others in between. Jobs that change their state meanwhile are left out. The
//! counts say how many were changed; an action that ends early can be repeated.
//!
//! What may surprise. The action is not atomic: if the store fails in the middle, the batches
//! before are done and the rest is not. A client that asked for events and disconnects stops the
//! action after the current batch. Without events the action runs to its end, because Rocket serves
//! a request whose connection is closed.

use std::convert::Infallible;
use std::time::Duration;

use rocket::request::{FromRequest, Outcome};
use rocket::response::stream::{Event, EventStream};
use rocket::response::{self, Responder};
use rocket::serde::json::Json;
use rocket::{Request, Route, post, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::{Deserialize, Serialize};

use crate::broker::Selection;
use crate::error::Error;
use crate::inspector::Bulk;
use crate::job::{JobState, Placement};
use crate::web::JobQueue;
use crate::web::api::queues::state_of;
use crate::web::api::{Asked, JsonBody, Refused, audit, job_actions, queue_name};
use crate::web::guards::ActAccess;
use crate::web::unbuffered::Unbuffered;

/// An action, and the jobs it applies to.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueBulk", example = "run_archived"))]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkRequest {
    /// The action.
    action: BulkVerb,
    /// The state of the jobs; may be omitted with a group.
    #[serde(default)]
    state: Option<String>,
    /// Only jobs of this type.
    #[serde(default, rename = "type")]
    job_type: Option<String>,
    /// Only jobs of this group.
    #[serde(default)]
    group: Option<String>,
    /// For `reschedule`: seconds until the jobs are due, at most a year.
    #[serde(default, deserialize_with = "job_actions::some_delay_seconds")]
    delay_seconds: Option<u64>,
}

/// The jobs of a state or a group, of all types or of one.
///
/// # Errors
/// [`Error::is_invalid`] for an unknown state, a state beside a group, neither of them, and an empty
/// filter, which would apply the action to more jobs than were meant.
pub(crate) fn selection(
    state: Option<&str>,
    group: Option<&str>,
    job_type: Option<&str>,
) -> Result<Selection, Error> {
    for (name, filter) in [("type", job_type), ("group", group)] {
        if filter.is_some_and(str::is_empty) {
            let wrong = format!("{name}: expected a name, found an empty string");
            return Err(Error::invalid(wrong));
        }
    }
    let selection = match (group, state.map(state_of).transpose()?) {
        (Some(group), None | Some(JobState::Aggregating)) => Selection::group(group),
        (None, Some(state)) => Selection::from(state),
        (Some(_), Some(_)) => {
            return Err(Error::invalid("group: expected it without a state, found both"));
        }
        (None, None) => {
            return Err(Error::invalid("state: expected one, or a group, found neither"));
        }
    };
    Ok(match job_type {
        Some(job_type) => selection.of_type(job_type),
        None => selection,
    })
}

/// The actions, by their names in JSON.
#[derive(Clone, Copy, Deserialize, PartialEq)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueBulkAction"))]
#[serde(rename_all = "lowercase")]
enum BulkVerb {
    Run,
    Archive,
    Delete,
    Reschedule,
}

/// An example for the OpenAPI document.
#[cfg(feature = "openapi")]
fn run_archived() -> serde_json::Value {
    serde_json::json!({ "action": "run", "state": "archived", "type": "mail:welcome" })
}

/// The progress of an action on many jobs.
#[derive(Clone, Copy, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueBulkProgress"))]
pub(crate) struct BulkCounts {
    /// Jobs changed so far.
    done: u64,
    /// Jobs that were there at the start, or more if some have come since.
    total: u64,
}

/// The counts at the end, or an event for each batch.
pub(crate) enum BulkResponse {
    /// The action is done.
    Json(BulkCounts),
    /// The action that the response carries out while it is sent.
    Events(Bulk),
}

impl<'r> Responder<'r, 'r> for BulkResponse {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'r> {
        let mut bulk = match self {
            BulkResponse::Json(counts) => return Json(counts).respond_to(request),
            BulkResponse::Events(bulk) => bulk,
        };
        let mut last = BulkCounts { done: 0, total: 0 };
        let events = EventStream! {
            loop {
                match bulk.step().await {
                    Ok(Some(progress)) => {
                        last = BulkCounts { done: progress.done, total: progress.total };
                        yield Event::json(&last).event("progress");
                    }
                    Ok(None) => {
                        yield Event::json(&last).event("end");
                        break;
                    }
                    Err(error) => {
                        yield Event::json(&Refused::from(error).0).event("problem");
                        break;
                    }
                }
            }
        };
        Unbuffered(events).respond_to(request)
    }
}

/// Whether the client asks for progress events: whether `Accept` names `text/event-stream`, in
/// any position.
pub(crate) struct WantsEvents(bool);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for WantsEvents {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Infallible> {
        let accept = request.headers().get_one("Accept").unwrap_or_default();
        Outcome::Success(Self(accept.contains("text/event-stream")))
    }
}

/// # Act on many jobs
///
/// Runs, archives, deletes or reschedules the jobs of a state or group, in batches of at most
/// 200; at most as many as there are at the start. Responds with the counts. With
/// `Accept: text/event-stream` it sends an event `progress` after each batch, then `end` or
/// `problem`, and stops after the current batch if the client disconnects.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "act-on-jobs"))]
#[post("/queues/<name>/actions", data = "<body>")]
pub(crate) async fn act(
    _access: ActAccess,
    asked: Asked,
    events: WantsEvents,
    queue: &JobQueue,
    name: &str,
    body: JsonBody<BulkRequest>,
) -> Result<BulkResponse, Refused> {
    let known = queue_name(name)?;
    let wanted = body.parsed()?;
    let selection =
        selection(wanted.state.as_deref(), wanted.group.as_deref(), wanted.job_type.as_deref())?;
    let inspector = queue.redacted_inspector();
    let (bulk, done) = match (wanted.action, wanted.delay_seconds) {
        (BulkVerb::Reschedule, Some(seconds)) => {
            let placement = Placement::After(Duration::from_secs(seconds));
            (inspector.reschedule_all(&known, selection, placement), "jobs rescheduled")
        }
        (BulkVerb::Reschedule, None) => {
            return Err(Error::invalid("delay_seconds: expected seconds, found nothing").into());
        }
        (_, Some(_)) => {
            let wrong = "delay_seconds: expected only with the action reschedule";
            return Err(Error::invalid(wrong).into());
        }
        (BulkVerb::Run, None) => (inspector.run_all(&known, selection), "jobs run now"),
        (BulkVerb::Archive, None) => (inspector.archive_all(&known, selection), "jobs archived"),
        (BulkVerb::Delete, None) => (inspector.delete_all(&known, selection), "jobs deleted"),
    };
    let what = wanted.state.or(wanted.group).unwrap_or_default();
    // Logged before it starts, because the client may disconnect before the end.
    audit(&asked, "action on many jobs begins", name, &format!("{done}: {what}"));
    if events.0 {
        return Ok(BulkResponse::Events(bulk));
    }
    let progress = bulk.await?;
    let counts = format!("{} of {}", progress.done, progress.total);
    audit(&asked, done, name, &counts);
    Ok(BulkResponse::Json(BulkCounts { done: progress.done, total: progress.total }))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![act]
}
