//! Worker processes: what they do, and changing them while they run.
//!
//! A change is asked, not done: the process reads it within a heartbeat, mostly within
//! milliseconds, and announces it then. So these routes answer before it is applied, and the list
//! says of each change how far it is.

use std::collections::BTreeMap;
use std::time::Duration;

use rocket::serde::json::Json;
use rocket::{Route, get, patch, post, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::{Deserialize, Deserializer, Serialize};

use crate::broker::{ServerInfo, WorkerChangeInfo};
use crate::error::Error;
use crate::inspector::WorkerUpdate;
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::{Asked, Done, JsonBody, JsonResult, NoContent, Refused, audit, queue_name};
use crate::web::guards::{ActAccess, ViewAccess};

/// The worker processes.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueWorkers"))]
pub(crate) struct AllWorkers {
    /// Processes of this crate and of Go, by host, process and start.
    workers: Vec<ServerInfo>,
    /// What all of them are asked to change, also those that start later, until it ends.
    changes: Vec<WorkerChangeInfo>,
    /// Announcements that cannot be decoded.
    unreadable: u64,
}

/// How many processes were asked.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueWorkersAsked"))]
pub(crate) struct AskedWorkers {
    /// Processes that are there now and take changes.
    workers: usize,
}

/// What is to change. A setting that is absent stays as it is; null makes it as configured.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueWorkerUpdate"))]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateBody {
    /// Whether to dequeue nothing.
    #[serde(default)]
    quiet: Option<bool>,
    /// Maximum concurrent jobs, at most the process's `concurrency_max`.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<u32>"))]
    concurrency: Option<Option<u32>>,
    /// Queue → weight, of queues that the process is configured to serve; 0 stops serving one.
    #[serde(default)]
    queues: BTreeMap<String, Option<u32>>,
    /// When the changes end, as RFC 3339. Without it and `seconds` they end with the process.
    #[serde(default)]
    until: Option<String>,
    /// In how many seconds the changes end, instead of `until`; at most 30 days.
    #[serde(default)]
    seconds: Option<u64>,
}

/// A field that may be null: absent and null are different.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl UpdateBody {
    /// The update that it asks for.
    fn update(self) -> Result<WorkerUpdate, Refused> {
        let mut update = WorkerUpdate::new();
        match self.quiet {
            Some(true) => update = update.quiet(),
            Some(false) => update = update.resume(),
            None => {}
        }
        match self.concurrency {
            Some(Some(jobs)) => update = update.concurrency(jobs),
            Some(None) => update = update.configured_concurrency(),
            None => {}
        }
        for (name, weight) in self.queues {
            let queue = queue_name(&name)?;
            update = match weight {
                Some(weight) => update.weight(queue, weight),
                None => update.configured_weight(queue),
            };
        }
        match (self.until, self.seconds) {
            (None, None) => Ok(update),
            (None, Some(seconds)) => Ok(update.lasting(Duration::from_secs(seconds))),
            (Some(text), None) => match Timestamp::parse(&text) {
                Some(at) => Ok(update.until(at)),
                None => {
                    let shown: String = text.chars().take(40).collect();
                    let wrong = format!("until: expected an instant as RFC 3339, found {shown:?}");
                    Err(Error::invalid(wrong).into())
                }
            },
            (Some(_), Some(_)) => {
                Err(Error::invalid("until: expected it or seconds, found both").into())
            }
        }
    }
}

/// # List workers
///
/// Worker processes of this crate and of Go, each with its queues, slots, memory, state and jobs in
/// flight, and what operators changed in it. Of Go processes and older versions `details` is null.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-workers", operation_id = "list-workers"))]
#[get("/workers")]
pub(crate) async fn list(_access: ViewAccess, queue: &JobQueue) -> JsonResult<AllWorkers> {
    let inspector = queue.redacted_inspector();
    let (changes, found) = (inspector.worker_changes().await?, inspector.servers().await?);
    Ok(Json(AllWorkers { workers: found.servers, changes, unreadable: found.unreadable }))
}

/// # Get a worker
///
/// One worker process, by its `server_id`.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-workers", operation_id = "get-worker"))]
#[get("/workers/<id>")]
pub(crate) async fn one(_access: ViewAccess, queue: &JobQueue, id: &str) -> JsonResult<ServerInfo> {
    let mut found = queue.redacted_inspector().servers().await?.servers.into_iter();
    found.find(|server| server.server_id == id).map(Json).ok_or_else(|| {
        let shown: String = id.chars().take(64).collect();
        Error::not_found(format!("worker process {shown:?} does not exist")).into()
    })
}

/// # Change a worker
///
/// Changes slots and queue weights of one process while it runs, or makes it quiet. With more slots
/// it starts more jobs at once; with fewer, running jobs end first, and none is cancelled. The
/// process applies it with its next heartbeat, mostly within milliseconds; the list says when it has.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-workers", operation_id = "change-worker"))]
#[patch("/workers/<id>", data = "<body>")]
pub(crate) async fn change(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    id: &str,
    body: JsonBody<UpdateBody>,
) -> Done {
    let update = body.parsed()?.update()?.by(asked.actor());
    queue.redacted_inspector().update_worker(id, &update).await?;
    audit(&asked, "worker changed", "", id);
    Ok(NoContent)
}

/// # Change all workers
///
/// As for one. With an end the change also holds for processes that start before it. Each process
/// goes as far as its own `concurrency_max`.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-workers", operation_id = "change-all-workers")
)]
#[patch("/workers", data = "<body>")]
pub(crate) async fn change_all(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    body: JsonBody<UpdateBody>,
) -> JsonResult<AskedWorkers> {
    let update = body.parsed()?.update()?;
    ask_all(queue, &asked, update, "all workers changed").await
}

/// # Quiet a worker
///
/// The process dequeues nothing from now on; jobs in flight run to their end. It holds until the
/// process ends or is resumed. Its state is `draining` while jobs run, then `quiet`.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-workers", operation_id = "quiet-worker"))]
#[post("/workers/<id>/quiet")]
pub(crate) async fn quiet(_access: ActAccess, asked: Asked, queue: &JobQueue, id: &str) -> Done {
    let update = WorkerUpdate::new().quiet().by(asked.actor());
    queue.redacted_inspector().update_worker(id, &update).await?;
    audit(&asked, "worker made quiet", "", id);
    Ok(NoContent)
}

/// # Resume a worker
///
/// The process dequeues again.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-workers", operation_id = "resume-worker"))]
#[post("/workers/<id>/resume")]
pub(crate) async fn resume(_access: ActAccess, asked: Asked, queue: &JobQueue, id: &str) -> Done {
    let update = WorkerUpdate::new().resume().by(asked.actor());
    queue.redacted_inspector().update_worker(id, &update).await?;
    audit(&asked, "worker resumed", "", id);
    Ok(NoContent)
}

/// # Quiet all workers
///
/// As for one. Processes that start later are not quiet; for that, change all workers with an end.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-workers", operation_id = "quiet-all-workers")
)]
#[post("/workers/quiet")]
pub(crate) async fn quiet_all(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
) -> JsonResult<AskedWorkers> {
    ask_all(queue, &asked, WorkerUpdate::new().quiet(), "all workers made quiet").await
}

/// # Resume all workers
///
/// Every process dequeues again, also those that were made quiet one by one.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-workers", operation_id = "resume-all-workers")
)]
#[post("/workers/resume")]
pub(crate) async fn resume_all(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
) -> JsonResult<AskedWorkers> {
    ask_all(queue, &asked, WorkerUpdate::new().resume(), "all workers resumed").await
}

/// Asks all processes, and logs it under this name.
async fn ask_all(
    queue: &JobQueue,
    asked: &Asked,
    update: WorkerUpdate,
    action: &str,
) -> JsonResult<AskedWorkers> {
    let update = update.by(asked.actor());
    let workers = queue.redacted_inspector().update_workers(&update).await?;
    audit(asked, action, "", &workers.to_string());
    Ok(Json(AskedWorkers { workers }))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![list, one, change, change_all, quiet, resume, quiet_all, resume_all]
}
