//! What keeps the jobs and who works on them.

use rocket::serde::json::Json;
use rocket::{Route, get, post, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;

use crate::broker::{Servers, StoreInfo};
use crate::inspector::DoctorReport;
use crate::web::JobQueue;
use crate::web::api::{Answer, Asked, audit};
use crate::web::guards::{ActAccess, ViewAccess};

/// # Worker processes
///
/// Ours and Go's, with what each of them runs.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-store", operation_id = "list-servers"))]
#[get("/servers")]
pub(crate) async fn servers(_access: ViewAccess, queue: &JobQueue) -> Answer<Servers> {
    Ok(Json(queue.redacted_inspector().servers().await?))
}

/// # The store
///
/// Redis' version, memory and clients.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-store", operation_id = "get-store"))]
#[get("/store")]
pub(crate) async fn store(_access: ViewAccess, queue: &JobQueue) -> Answer<StoreInfo> {
    Ok(Json(queue.redacted_inspector().store().await?))
}

/// # Check the store
///
/// What lies there that no operation leaves behind. It looks at everything, page by page:
/// with a million jobs it takes its time.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-store", operation_id = "check-store"))]
#[get("/doctor")]
pub(crate) async fn check(access: ViewAccess, queue: &JobQueue) -> Answer<DoctorReport> {
    let _place = queue.check_up(access)?;
    Ok(Json(queue.redacted_inspector().doctor().await?))
}

/// # Mend the store
///
/// The same, and mends what can be mended. Jobs that are in no place at all go back in
/// line, although they may have run.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-store", operation_id = "repair-store"))]
#[post("/doctor/repair")]
pub(crate) async fn mend(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
) -> Answer<DoctorReport> {
    let found = queue.redacted_inspector().doctor().repair().await?;
    audit(&asked, "store mended", "", &found.repaired().to_string());
    Ok(Json(found))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![servers, store, check, mend]
}
