//! One job: its state, and actions on it.
//!
//! Actions answer 204, and 409 if the job's state does not allow them: the store checks the
//! state in the step that changes it, so two clients cannot both succeed. Names of queues and
//! ids in paths are in their printable form (`job::printable`), so that every stored name can
//! be addressed.
//!
//! A request that waits (`wait`) or streams (`events`) shares its reads with others (`looks`)
//! and gives up its turn to read first, so that waiting clients do not keep viewers out.

use std::sync::Arc;
use std::time::Duration;

use rocket::response::stream::{Event, EventStream};
use rocket::response::{self, Responder};
use rocket::serde::json::Json;
use rocket::{Request, Route, Shutdown, delete, get, post, put, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::time::Instant;

use crate::broker::JobInfo;
use crate::error::Error;
use crate::inspector::Cancelled;
use crate::job::{AfterCancel, JobId, Placement, QueueName};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::registration::MAX_DELAY_SECONDS;
use crate::web::api::{
    Asked, Created, Done, JsonBody, JsonResult, NoContent, Param, Refused, audit, number, place,
    queue_name,
};
use crate::web::guards::{ActAccess, ViewAccess};
use crate::web::looks::{FollowedJob, Follower, Look, STREAM_HEARTBEAT_INTERVAL, has_ended};
use crate::web::peers::Peer;

/// Maximum time to wait for a job's end, in seconds.
pub(crate) const MAX_WAIT_SECONDS: u64 = 60;

/// A job, or nothing if it has ended and is not retained.
pub(crate) enum JobLookup {
    /// 200 with the job.
    Job(Arc<JobInfo>),
    /// 204.
    Gone,
}

impl<'r> Responder<'r, 'static> for JobLookup {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        match self {
            JobLookup::Job(info) => Json(&*info).respond_to(request),
            JobLookup::Gone => NoContent.respond_to(request),
        }
    }
}

/// 404 that names the queue and the id.
fn missing(queue: &str, id: &str) -> Refused {
    Error::not_found(format!("queue {queue:?} has no job {id:?}")).into()
}

/// # Get a job
///
/// With `wait`, the response comes when the job ends (archived or completed) or after that many
/// seconds, at most 60. If the job ends during the wait and is not retained, the response is 204.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-jobs", operation_id = "get-job", ignore = "shutdown", ignore = "peer")
)]
#[get("/jobs/<name>/<id>?<wait>")]
pub(crate) async fn one(
    access: ViewAccess,
    queue: &JobQueue,
    mut shutdown: Shutdown,
    peer: Peer,
    name: &str,
    id: &str,
    wait: Param<'_>,
) -> Result<JobLookup, Refused> {
    let wait = wait.given("wait")?;
    let (known, job) = place(name, id)?;
    let wait = number("wait", wait, 0, MAX_WAIT_SECONDS)?.unwrap_or(0);
    let inspector = queue.redacted_inspector();
    if wait == 0 {
        let info = inspector.job(&known, &job).await?.ok_or_else(|| missing(name, id))?;
        return Ok(JobLookup::Job(Arc::new(info)));
    }
    // The wait may take a minute, and turns to read are few.
    drop(access);
    let until = Instant::now() + Duration::from_secs(wait);
    let mut followed = queue.looks().follow_job(Follower::Waiter, &inspector, &known, &job)?;
    let hung_up = queue.looks().hung_up(peer.0);
    let first = match followed.first().await {
        Look::Job(info) => info,
        Look::Gone => return Err(missing(name, id)),
        Look::Failed(error) => return Err(error.into()),
    };
    let known = Arc::clone(&first);
    tokio::select! {
        info = followed.ended(first, until, &mut shutdown) => {
            Ok(info?.map_or(JobLookup::Gone, JobLookup::Job))
        }
        // The client has usually gone. One that closed only its sending side still reads this.
        () = hung_up => Ok(JobLookup::Job(known)),
    }
}

/// A job that is followed until it ends.
pub(crate) struct FollowResponse {
    followed: FollowedJob,
    /// The job when the request came.
    first: Arc<JobInfo>,
    /// Ends the stream when the application stops.
    shutdown: Shutdown,
}

impl<'r> Responder<'r, 'r> for FollowResponse {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'r> {
        let Self { mut followed, first, mut shutdown } = self;
        let events = EventStream! {
            let mut last = first;
            yield Event::json(&*last).event("job");
            while !has_ended(&last) {
                let look = tokio::select! {
                    look = followed.next() => look,
                    () = &mut shutdown => return,
                };
                match look {
                    Some(Look::Job(now)) if now != last => {
                        last = now;
                        yield Event::json(&*last).event("job");
                    }
                    Some(Look::Job(_)) => {}
                    Some(Look::Gone) => {
                        yield Event::data("").event("gone");
                        return;
                    }
                    // The store may come back.
                    Some(Look::Failed(error)) if error.is_unavailable() => {}
                    Some(Look::Failed(error)) => {
                        yield Event::json(&Refused::from(error).0).event("problem");
                        return;
                    }
                    None => return,
                }
            }
            yield Event::data("").event("end");
        };
        events.heartbeat(STREAM_HEARTBEAT_INTERVAL).respond_to(request)
    }
}

/// # Watch a job
///
/// Server-sent events: `job` with the job at the start and after each change, progress included;
/// then `end` once it is archived or completed, `gone` if it has ended and is not retained, or
/// `problem`.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-jobs", operation_id = "watch-job", ignore = "shutdown")
)]
#[get("/jobs/<name>/<id>/events")]
pub(crate) async fn watch(
    _access: ViewAccess,
    queue: &JobQueue,
    shutdown: Shutdown,
    name: &str,
    id: &str,
) -> Result<FollowResponse, Refused> {
    let (known, job) = place(name, id)?;
    let mut followed =
        queue.looks().follow_job(Follower::Viewer, &queue.redacted_inspector(), &known, &job)?;
    match followed.first().await {
        Look::Job(first) => Ok(FollowResponse { followed, first, shutdown }),
        Look::Gone => Err(missing(name, id)),
        Look::Failed(error) => Err(error.into()),
    }
}

/// The jobs with one id.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueFoundJobs"))]
pub(crate) struct JobsWithId {
    /// One for each queue that has the id.
    jobs: Vec<JobInfo>,
    /// The last queue searched, if there are more; send it as `after` to continue.
    next: Option<QueueName>,
}

/// # Find a job
///
/// All jobs with this id, in any queue. One call searches up to 10,000 queues by name and stops
/// when the jobs found reach 8 MiB. To continue, send the last queue searched as `after`.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "find-job"))]
#[get("/jobs?<id>&<after>")]
pub(crate) async fn find(
    _access: ViewAccess,
    queue: &JobQueue,
    id: Param<'_>,
    after: Param<'_>,
) -> JsonResult<JobsWithId> {
    let after = after.once("after")?.map(queue_name).transpose()?;
    let id = id.once("id")?;
    let id = id.ok_or_else(|| Error::invalid("id: expected a job's id, found nothing"))?;
    let id: JobId = id.parse()?;
    let found = queue.redacted_inspector().find_after(&id, after.as_ref()).await?;
    Ok(Json(JobsWithId { jobs: found.jobs, next: found.next }))
}

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
    routes![one, watch, find, run, archive, remove, reschedule, edit, duplicate, cancel]
}
