//! Actions on one job.
//!
//! They answer 204, and 409 if the job's state does not allow them: the store checks the
//! state in the step that changes it, so two clients cannot both succeed. Names of queues and
//! ids in paths are in their printable form (`job::printable`), so that every stored name can
//! be addressed.

use std::time::Duration;

use rocket::serde::json::Json;
use rocket::{Route, delete, post, put, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::Error;
use crate::inspector::Cancelled;
use crate::job::{AfterCancel, JobId, Placement, QueueName};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::registration::MAX_DELAY_SECONDS;
use crate::web::api::{
    Asked, Created, Done, JsonBody, JsonResult, NoContent, Refused, audit, place,
};
use crate::web::guards::ActAccess;

/// # Run a job now
///
/// Moves a job to pending: one that is scheduled, waiting for a retry, archived, completed or in a
/// group.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "run-job"))]
#[post("/jobs/<name>/<id>/run")]
pub(crate) async fn run(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    name: &str,
    id: &str,
) -> Done {
    let (known, job) = place(name, id)?;
    queue.redacted_inspector().run(&known, &job).await?;
    audit(&asked, "job run now", name, id);
    Ok(NoContent)
}

/// # Run a job next
///
/// Makes a job the first pending one of its queue, whatever its state, unless it is active.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "run-job-next"))]
#[post("/jobs/<name>/<id>/run_next")]
pub(crate) async fn run_next(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    name: &str,
    id: &str,
) -> Done {
    let (known, job) = place(name, id)?;
    queue.redacted_inspector().run_next(&known, &job).await?;
    audit(&asked, "job run next", name, id);
    Ok(NoContent)
}

/// # Archive a job
///
/// Any job that is not active.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "archive-job"))]
#[post("/jobs/<name>/<id>/archive")]
pub(crate) async fn archive(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    name: &str,
    id: &str,
) -> Done {
    let (known, job) = place(name, id)?;
    queue.redacted_inspector().archive(&known, &job).await?;
    audit(&asked, "job archived", name, id);
    Ok(NoContent)
}

/// # Delete a job
///
/// Any job that is not active. Its unique lock is released.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "delete-job"))]
#[delete("/jobs/<name>/<id>")]
pub(crate) async fn remove(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    name: &str,
    id: &str,
) -> Done {
    let (known, job) = place(name, id)?;
    queue.redacted_inspector().delete(&known, &job).await?;
    audit(&asked, "job deleted", name, id);
    Ok(NoContent)
}

/// When a job is due.
#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueReschedule", example = "in_an_hour"))]
#[serde(deny_unknown_fields)]
pub(crate) struct Reschedule {
    /// Seconds from now, at most a year.
    #[cfg_attr(feature = "openapi", schemars(range(min = 0, max = 31_536_000)))]
    #[serde(deserialize_with = "delay_seconds")]
    delay_seconds: u64,
}

/// Parses this field itself, because serde's error would name neither the field nor its bounds.
fn delay_seconds<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    let seconds = value.as_u64().filter(|seconds| *seconds <= MAX_DELAY_SECONDS);
    seconds.ok_or_else(|| {
        let shown: String = value.to_string().chars().take(40).collect();
        serde::de::Error::custom(format!(
            "delay_seconds: expected a whole number from 0 to {MAX_DELAY_SECONDS}, found {shown}"
        ))
    })
}

/// The same for a field that may be absent or null.
pub(super) fn some_delay_seconds<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<u64>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    if value.is_null() {
        return Ok(None);
    }
    delay_seconds(value).map(Some).map_err(serde::de::Error::custom)
}

/// An example for the OpenAPI document.
#[cfg(feature = "openapi")]
fn in_an_hour() -> serde_json::Value {
    serde_json::json!({ "delay_seconds": 3600 })
}

/// # Reschedule a job
///
/// A job that is pending, scheduled, waiting for a retry or archived.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "reschedule-job"))]
#[post("/jobs/<name>/<id>/reschedule", data = "<body>")]
pub(crate) async fn reschedule(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    name: &str,
    id: &str,
    body: JsonBody<Reschedule>,
) -> Done {
    let (known, job) = place(name, id)?;
    let after = Placement::After(Duration::from_secs(body.parsed()?.delay_seconds));
    queue.redacted_inspector().reschedule(&known, &job, after).await?;
    audit(&asked, "job rescheduled", name, id);
    Ok(NoContent)
}

/// # Edit a job's payload
///
/// The payload of a job that is not active. The body is the new payload. A unique lock still covers
/// the old payload.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "edit-job"))]
#[put("/jobs/<name>/<id>/payload", data = "<body>")]
pub(crate) async fn edit(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    name: &str,
    id: &str,
    body: JsonBody<serde_json::Value>,
) -> Done {
    let (known, job) = place(name, id)?;
    let body = body.read?;
    queue.redacted_inspector().edit_payload(&known, &job, body.bytes).await?;
    audit(&asked, "payload changed", name, id);
    Ok(NoContent)
}

/// The duplicate of a job.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueDuplicate"))]
pub(crate) struct Duplicate {
    /// Its id.
    job_id: JobId,
    /// Its queue.
    queue: QueueName,
}

/// # Duplicate a job
///
/// Enqueues a job with the same type, payload, headers and limits. It is due at once, has a new id
/// and takes no unique lock.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "duplicate-job"))]
#[post("/jobs/<name>/<id>/duplicate")]
pub(crate) async fn duplicate(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    name: &str,
    id: &str,
) -> Result<Created<Duplicate>, Refused> {
    let (known, job) = place(name, id)?;
    let job_id = queue.redacted_inspector().duplicate(&known, &job).await?;
    audit(&asked, "job duplicated", name, &format!("{id} as {job_id}"));
    Ok(Created(Duplicate { job_id, queue: known }))
}

/// What happens to a cancelled job.
#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueCancel", example = "and_archive"))]
#[serde(deny_unknown_fields)]
pub(crate) struct Cancel {
    /// `retry` counts as a failed attempt; `archive`; `delete`.
    then: Then,
}

/// The fates of a cancelled job, by their names in JSON.
#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueCancelThen"))]
#[serde(rename_all = "lowercase")]
enum Then {
    Retry,
    Archive,
    Delete,
}

/// An example for the OpenAPI document.
#[cfg(feature = "openapi")]
fn and_archive() -> serde_json::Value {
    serde_json::json!({ "then": "archive" })
}

/// The result of a cancellation.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueCancelled"))]
pub(crate) struct CancelResult {
    /// `requested`: the worker of an active job has been asked to stop it. `done`: the job was not
    /// active and has been archived or deleted.
    outcome: &'static str,
    /// When.
    at: Timestamp,
}

/// # Cancel a job
///
/// Requests the cancellation of an active job's attempt; a job that is not active is archived or
/// deleted at once.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "cancel-job"))]
#[post("/jobs/<name>/<id>/cancel", data = "<body>")]
pub(crate) async fn cancel(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    name: &str,
    id: &str,
    body: JsonBody<Cancel>,
) -> JsonResult<CancelResult> {
    let (known, job) = place(name, id)?;
    let after = match body.parsed()?.then {
        Then::Retry => AfterCancel::Retry,
        Then::Archive => AfterCancel::Archive,
        Then::Delete => AfterCancel::Delete,
    };
    let outcome = match queue.redacted_inspector().cancel(&known, &job, after).await? {
        Cancelled::Requested => "requested",
        Cancelled::Done => "done",
        Cancelled::NotRunning(state) => {
            let wrong = format!("job {id:?} is {state}: there is no attempt to end");
            return Err(Error::wrong_state(wrong).into());
        }
    };
    audit(&asked, "job cancelled", name, id);
    Ok(Json(CancelResult { outcome, at: queue.now() }))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![run, run_next, archive, remove, reschedule, edit, duplicate, cancel]
}
