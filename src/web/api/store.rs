//! The store and its doctor, and the worker processes.
//!
//! Settings that an ACL hides from the application are missing in the response rather than an error.

use rocket::serde::json::Json;
use rocket::{Route, get, post, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;

use crate::broker::{Servers, StoreInfo};
use crate::inspector::DoctorReport;
use crate::web::JobQueue;
use crate::web::api::{Asked, JsonResult, audit};
use crate::web::guards::{ActAccess, ViewAccess};

/// # List worker processes
///
/// The same processes as `GET /workers`, which also says what all of them were asked to change.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-store", operation_id = "list-servers"))]
#[get("/servers")]
pub(crate) async fn servers(_access: ViewAccess, queue: &JobQueue) -> JsonResult<Servers> {
    Ok(Json(queue.redacted_inspector().servers().await?))
}

/// # Get the store
///
/// Version, memory, clients and settings of each Redis server.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-store", operation_id = "get-store"))]
#[get("/store")]
pub(crate) async fn store(_access: ViewAccess, queue: &JobQueue) -> JsonResult<StoreInfo> {
    Ok(Json(queue.redacted_inspector().store().await?))
}

/// # Run the doctor
///
/// Finds everything in the store that no operation leaves behind: jobs in no list or in two,
/// leases and locks without a job, damaged messages, dangerous settings. It reads every queue
/// page by page, about a minute for a million jobs. One run at a time: 429 otherwise.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-store", operation_id = "check-store"))]
#[get("/doctor")]
pub(crate) async fn check(access: ViewAccess, queue: &JobQueue) -> JsonResult<DoctorReport> {
    let _place = queue.doctor_run(access)?;
    Ok(Json(queue.redacted_inspector().doctor().await?))
}

/// # Repair the store
///
/// Runs the doctor and repairs what can be repaired. Jobs that are in no list are put back, most
/// of them to pending, and may run a second time.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-store", operation_id = "repair-store"))]
#[post("/doctor/repair")]
pub(crate) async fn repair(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
) -> JsonResult<DoctorReport> {
    let found = queue.redacted_inspector().doctor().repair().await?;
    audit(&asked, "store repaired", "", &found.repaired().to_string());
    Ok(Json(found))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![servers, store, check, repair]
}
