//! One job: its state, its end, and why it does not run. Names of queues and
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
use rocket::{Request, Route, Shutdown, get, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::Serialize;
use tokio::time::Instant;

use crate::broker::JobInfo;
use crate::error::Error;
use crate::inspector::{Explanation, Reason};
use crate::job::{JobId, QueueName};
use crate::web::JobQueue;
use crate::web::api::{JsonResult, NoContent, Param, Refused, number, place, queue_name};
use crate::web::guards::{ViewAccess, ViewRight};
use crate::web::looks::{FollowedJob, Follower, Look, has_ended, next_heartbeat};
use crate::web::peers::Peer;
use crate::web::unbuffered::Unbuffered;

/// Maximum time to wait for a job's end, in seconds.
pub(super) const MAX_WAIT_SECONDS: u64 = 60;

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
    let mut followed = queue.looks().follow_job(Follower::Waiter, &inspector, &known, &job).await?;
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
    queue: JobQueue,
}

impl<'r> Responder<'r, 'r> for FollowResponse {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'r> {
        let Self { mut followed, first, mut shutdown, queue } = self;
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
                        queue.looks().spread().await;
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
        Unbuffered(events.heartbeat(next_heartbeat())).respond_to(request)
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
    _right: ViewRight,
    queue: &JobQueue,
    shutdown: Shutdown,
    name: &str,
    id: &str,
) -> Result<FollowResponse, Refused> {
    let (known, job) = place(name, id)?;
    let (looks, inspector) = (queue.looks(), queue.redacted_inspector());
    let mut followed = looks.follow_job(Follower::Viewer, &inspector, &known, &job).await?;
    let queue = queue.clone();
    match followed.first().await {
        Look::Job(first) => Ok(FollowResponse { followed, first, shutdown, queue }),
        Look::Gone => Err(missing(name, id)),
        Look::Failed(error) => Err(error.into()),
    }
}

/// # Explain a job
///
/// Why a job is not running, or that it runs: a sentence, and the reasons with their data, the
/// decisive one first. A job that does not exist is 404, and the detail says what may have
/// become of it.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "explain-job"))]
#[get("/jobs/<name>/<id>/explanation")]
pub(crate) async fn explain(
    _access: ViewAccess,
    queue: &JobQueue,
    name: &str,
    id: &str,
) -> JsonResult<Explanation> {
    let (known, job) = place(name, id)?;
    let explanation = queue.redacted_inspector().explain(&known, &job).await?;
    match explanation.reason() {
        Reason::NoSuchJob { .. } => Err(Error::not_found(explanation.to_string()).into()),
        _ => Ok(Json(explanation)),
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

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![one, watch, explain, find]
}
