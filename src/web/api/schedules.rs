//! Periodic entries: who has them, what became of them, and one more run.

use rocket::serde::json::Json;
use rocket::{Route, get, post, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::Serialize;

use crate::broker::{EntryInfo, EntryRun};
use crate::job::JobId;
use crate::web::JobQueue;
use crate::web::api::{Answer, Asked, Created, Param, Refused, audit, page};
use crate::web::guards::{ActAccess, ViewAccess};

/// All periodic entries.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueSchedules"))]
pub(crate) struct Schedules {
    /// Those of Go schedulers too.
    entries: Vec<EntryInfo>,
}

/// # All periodic entries
///
/// As the processes that have them tell, Go schedulers included.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-schedules", operation_id = "list-schedules")
)]
#[get("/schedules")]
pub(crate) async fn list(_access: ViewAccess, queue: &JobQueue) -> Answer<Schedules> {
    Ok(Json(Schedules { entries: queue.shown().entries().await? }))
}

/// Runs of an entry.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueEntryRuns"))]
pub(crate) struct Runs {
    /// The newest first.
    runs: Vec<EntryRun>,
}

/// # Runs of a periodic entry
///
/// The last 1,000, the newest first.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-schedules", operation_id = "list-schedule-runs")
)]
#[get("/schedules/<id>/runs?<page>&<size>")]
pub(crate) async fn runs(
    _access: ViewAccess,
    queue: &JobQueue,
    id: &str,
    page: Param<'_>,
    size: Param<'_>,
) -> Answer<Runs> {
    let page = page.once("page")?;
    let size = size.once("size")?;
    let page = self::page(page, size, None)?;
    Ok(Json(Runs { runs: queue.shown().entry_history(id, &page).await? }))
}

/// A job that was enqueued.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueFired"))]
pub(crate) struct Fired {
    /// Its id.
    job_id: JobId,
}

/// # Run a periodic entry now
///
/// Enqueues one job as its next tick would; ticks go on as before.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-schedules", operation_id = "run-schedule"))]
#[post("/schedules/<id>/run")]
pub(crate) async fn run(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    id: &str,
) -> Result<Created<Fired>, Refused> {
    let job_id = queue.shown().fire(id).await?;
    audit(&asked, "periodic entry run now", id, job_id.as_str());
    Ok(Created(Fired { job_id }))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![list, runs, run]
}
