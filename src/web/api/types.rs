//! Statistics by job type.

use rocket::serde::json::Json;
use rocket::{Route, get, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;

use crate::error::Error;
use crate::inspector::{JobTypeDetail, JobTypes};
use crate::web::JobQueue;
use crate::web::api::{JsonResult, Refused};
use crate::web::guards::ViewAccess;

/// # List job types
///
/// The job types that ran in the last 14 days, by name: attempts, failures, and how long jobs
/// waited and ran, in the last hour and in 14 days; and which versions of the application ran.
/// Workers of this crate store them every 10 seconds; attempts by Go workers are not counted.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-types", operation_id = "list-types"))]
#[get("/types")]
pub(crate) async fn list(_access: ViewAccess, queue: &JobQueue) -> JsonResult<JobTypes> {
    Ok(Json(queue.redacted_inspector().job_types().await?))
}

/// # Get a job type
///
/// Its figures, and the same over time: by five minutes, hour and day; and the slowest attempts
/// and the newest failed ones of today and yesterday. 404 if no job of this type ran in the last 14 days.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-types", operation_id = "get-type"))]
#[get("/types/<type>")]
pub(crate) async fn one(
    _access: ViewAccess,
    queue: &JobQueue,
    r#type: &str,
) -> JsonResult<JobTypeDetail> {
    let found = queue.redacted_inspector().job_type(r#type).await?;
    let shown: String = r#type.chars().take(128).collect();
    let missing =
        || Refused::from(Error::not_found(format!("no statistics of job type {shown:?}")));
    Ok(Json(found.ok_or_else(missing)?))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![list, one]
}
