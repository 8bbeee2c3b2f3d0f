//! Periodic jobs: which processes announce them, their past runs, and a run by hand.
//!
//! An id is the one that the process announces. Ours is the same in all processes and after restarts;
//! a Go scheduler has another one in each process.

use rocket::serde::json::Json;
use rocket::{Route, get, post, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::Serialize;

use crate::broker::{PeriodicJobInfo, PeriodicRun};
use crate::job::JobId;
use crate::web::JobQueue;
use crate::web::api::{Asked, Created, JsonResult, Param, Refused, audit, page};
use crate::web::guards::{ActAccess, ViewAccess};

/// All periodic jobs.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueuePeriodicJobs"))]
pub(crate) struct AllPeriodic {
    /// The periodic jobs of every running process, Go schedulers included.
    periodic: Vec<PeriodicJobInfo>,
}

/// # List periodic jobs
///
/// As the running processes announce them, Go schedulers included.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-periodic", operation_id = "list-periodic"))]
#[get("/periodic")]
pub(crate) async fn list(_access: ViewAccess, queue: &JobQueue) -> JsonResult<AllPeriodic> {
    Ok(Json(AllPeriodic { periodic: queue.redacted_inspector().periodic_jobs().await? }))
}

/// Past runs of one periodic job.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueuePeriodicRuns"))]
pub(crate) struct Runs {
    /// Newest first.
    runs: Vec<PeriodicRun>,
}

/// # List the runs of a periodic job
///
/// The newest 1,000 runs, newest first.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-periodic", operation_id = "list-periodic-runs")
)]
#[get("/periodic/<id>/runs?<page>&<size>")]
pub(crate) async fn runs(
    _access: ViewAccess,
    queue: &JobQueue,
    id: &str,
    page: Param<'_>,
    size: Param<'_>,
) -> JsonResult<Runs> {
    let page = page.given("page")?;
    let size = size.given("size")?;
    let page = self::page(page, size, None)?;
    Ok(Json(Runs { runs: queue.redacted_inspector().periodic_history(id, &page).await? }))
}

/// The job that a run by hand enqueued.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueuePeriodicRun"))]
pub(crate) struct FiredJob {
    /// Its id.
    job_id: JobId,
}

/// # Run a periodic job now
///
/// Enqueues one job with the payload and options of the next scheduled run. The schedule
/// itself does not change.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-periodic", operation_id = "run-periodic"))]
#[post("/periodic/<id>/run")]
pub(crate) async fn run(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    id: &str,
) -> Result<Created<FiredJob>, Refused> {
    let job_id = queue.redacted_inspector().fire(id).await?;
    audit(&asked, "periodic job run now", id, job_id.as_str());
    Ok(Created(FiredJob { job_id }))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![list, runs, run]
}
