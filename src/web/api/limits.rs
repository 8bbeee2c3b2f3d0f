//! Limits of a queue: which there are, how full they are, and changing them while jobs run.

use rocket::serde::json::Json;
use rocket::{Route, delete, get, put, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::{Deserialize, Serialize};

use crate::broker::{Cursor, LimitInfo, LimitKeyPage, LimitUse, MAX_LISTED_KEYS};
use crate::error::Error;
use crate::job::{Limit, LimitKey, QueueName, Rate};
use crate::web::JobQueue;
use crate::web::api::{
    Asked, Done, JsonBody, JsonResult, NoContent, Param, Refused, audit, number, queue_name,
};
use crate::web::guards::{ActAccess, ViewAccess};

/// Keys in one response unless the request says otherwise.
const DEFAULT_KEYS: u64 = 100;

/// The limits of a queue.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueLimits"))]
pub(crate) struct AllLimits {
    /// By name.
    limits: Vec<LimitInfo>,
}

/// One limit and its keys.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueLimitWithKeys"))]
pub(crate) struct OneLimit {
    /// The limit, and the sums of its keys.
    limit: LimitInfo,
    /// Keys of this page with jobs that run or wait, or whose rate is in use; those with the most
    /// waiting jobs first.
    uses: Vec<LimitUse>,
    /// Whether there are more keys.
    more: bool,
    /// The `cursor` of the next page; null after the last one.
    next: Option<Cursor>,
}

/// A limit as it is set; its name is in the path.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueLimitChange"))]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitBody {
    /// The job types that it counts, together; without them it counts all jobs of the queue.
    #[serde(default)]
    types: Vec<String>,
    /// What each count is for: `payload.<path>`, `header.<name>` or `given`. Without it there is
    /// one count.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<String>"))]
    key: Option<LimitKey>,
    /// Maximum jobs that run at once.
    #[serde(default)]
    concurrency: Option<u32>,
    /// Maximum starts in a time, such as `100/1m`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<String>"))]
    rate: Option<Rate>,
    /// Maximum starts at once within the rate; 1 unless given.
    #[serde(default)]
    burst: Option<u32>,
}

impl LimitBody {
    /// The limit of this name.
    fn named(self, name: &str) -> Result<Limit, Error> {
        let mut limit = Limit::new(name).types(self.types);
        (limit.key, limit.concurrency) = (self.key, self.concurrency);
        limit.rate = match (self.rate, self.burst) {
            (None, Some(_)) => {
                return Err(Error::invalid("burst: expected it beside a rate, found no rate"));
            }
            (Some(rate), Some(burst)) => Some(rate.burst(burst)),
            (rate, None) => rate,
        };
        limit.check()?;
        Ok(limit)
    }
}

/// # List a queue's limits
///
/// By name, each with the number of jobs that run and that wait for a place.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "list-limits"))]
#[get("/queues/<name>/limits")]
pub(crate) async fn list(
    _access: ViewAccess,
    queue: &JobQueue,
    name: &str,
) -> JsonResult<AllLimits> {
    let (inspector, known) = (queue.redacted_inspector(), queue_name(name)?);
    inspector.queue(&known).await?;
    Ok(Json(AllLimits { limits: inspector.limits(&known).await? }))
}

/// # Get a limit
///
/// The limit and a page of its keys, paged by `cursor`: about `size` of them (100 by default, at
/// most 1,000). Pages are in no particular order; within one, the keys with the most waiting jobs
/// come first. While no key comes or goes, each is on exactly one page. A page may be empty although
/// `next` is not null. If the application redacts jobs, the keys are hidden.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "get-limit"))]
#[get("/queues/<name>/limits/<limit>?<size>&<cursor>")]
pub(crate) async fn one(
    _access: ViewAccess,
    queue: &JobQueue,
    name: &str,
    limit: &str,
    size: Param<'_>,
    cursor: Param<'_>,
) -> JsonResult<OneLimit> {
    let size = number("size", size.given("size")?, 1, MAX_LISTED_KEYS as u64)?;
    let size = u32::try_from(size.unwrap_or(DEFAULT_KEYS)).unwrap_or(u32::MAX);
    let page = super::page(None, None, cursor.once("cursor")?)?.with_rows(size);
    let (inspector, known) = (queue.redacted_inspector(), queue_name(name)?);
    inspector.queue(&known).await?;
    let found = inspector.limits(&known).await?.into_iter().find(|found| found.limit.name == limit);
    let found = found.ok_or_else(|| missing(&known, limit))?;
    let LimitKeyPage { keys: mut uses, next } = inspector.limit_keys(&known, limit, &page).await?;
    uses.sort_by(LimitUse::fullest_first);
    Ok(Json(OneLimit { limit: found, uses, more: next.is_some(), next }))
}

/// # Set a limit
///
/// Sets the limit of this name, or replaces it. It holds from the next dequeue of every process on:
/// jobs that run go on, and a larger limit lets waiting jobs start at once. What an application
/// declares in its code or configuration is set again when it starts.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "set-limit"))]
#[put("/queues/<name>/limits/<limit>", data = "<body>")]
pub(crate) async fn set(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    name: &str,
    limit: &str,
    body: JsonBody<LimitBody>,
) -> Done {
    let (inspector, known) = (queue.redacted_inspector(), queue_name(name)?);
    let limit = body.parsed()?.named(limit)?;
    // A queue that does not exist is an error, not one that is limited in advance.
    inspector.queue(&known).await?;
    inspector.set_limit(&known, &limit).await?;
    audit(&asked, "limit set", name, &limit.name);
    Ok(NoContent)
}

/// # Remove a limit
///
/// Jobs that waited for it become pending.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "remove-limit"))]
#[delete("/queues/<name>/limits/<limit>")]
pub(crate) async fn remove(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    name: &str,
    limit: &str,
) -> Done {
    let known = queue_name(name)?;
    if !queue.redacted_inspector().remove_limit(&known, limit).await? {
        return Err(missing(&known, limit));
    }
    audit(&asked, "limit removed", name, limit);
    Ok(NoContent)
}

/// 404 that names the queue and the limit.
fn missing(queue: &QueueName, limit: &str) -> Refused {
    let shown: String = limit.chars().take(64).collect();
    Error::not_found(format!("queue {queue:?} has no limit {shown:?}")).into()
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![list, one, set, remove]
}
