//! Jobs of all queues, found by the terms of the dashboard's job list.

use rocket::http::{ContentType, Status};
use rocket::response::{self, Responder};
use rocket::{Request, Route, get, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;

use crate::inspector::FoundRows;
use crate::web::JobQueue;
use crate::web::api::{Param, Refused, page};
use crate::web::guards::ViewAccess;

/// A page of jobs that were found, of up to 8 MiB.
pub(crate) struct Found {
    rows: FoundRows,
    /// Held until the response is serialized.
    access: ViewAccess,
}

impl<'r> Responder<'r, 'static> for Found {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let Self { rows, access } = self;
        let text = serde_json::to_string(&rows);
        drop((rows, access));
        let text = text.map_err(|_| Status::InternalServerError)?;
        (ContentType::JSON, text).respond_to(request)
    }
}

/// # Search for jobs
///
/// Jobs of all queues by the terms of the dashboard's job list, such as `state:archived
/// type:mail:send error:"timed out" since:1h`; all jobs without a term. Times of day are of UTC. A term that means nothing is 422. A
/// page may be short, or empty, and still have a next one: send its `next` as `cursor`. Jobs that
/// wait in groups are not found.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "search-jobs"))]
#[get("/search?<q>&<size>&<cursor>")]
pub(crate) async fn search(
    access: ViewAccess,
    queue: &JobQueue,
    q: Param<'_>,
    size: Param<'_>,
    cursor: Param<'_>,
) -> Result<Found, Refused> {
    let terms = q.given("q")?.unwrap_or_default();
    let page = page(None, size.given("size")?, cursor.once("cursor")?)?;
    Ok(Found { rows: queue.redacted_inspector().search(terms, &page).await?, access })
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![search]
}
