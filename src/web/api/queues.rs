//! Queues: their sizes, jobs, history and groups; pausing and deleting them.
//!
//! Lists are paged. A page number is simple and counts from the start of the list, which moves
//! while jobs come and go; a cursor continues where the page before ended, whatever has
//! happened since. Page numbers are limited to the first 10,000 rows, because Redis would have
//! to skip all rows before.
//!
//! Every response is bounded: 1,000 queues, 100 rows, 8 MiB of jobs. `next` leads to the rest.

use rocket::http::{ContentType, Status};
use rocket::response::{self, Responder};
use rocket::serde::json::Json;
use rocket::{Request, Route, delete, get, post, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::Serialize;

use crate::broker::{
    AggregationSet, Coverage, DayStats, GroupPage, JobPage, MinuteStats, QueueInfo, QueueMemory,
    QueueSummaries, QueueSummary,
};
use crate::error::Error;
use crate::inspector::Filter;
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::{
    Asked, Done, JsonResult, NoContent, Param, Refused, audit, number, page, queue_name,
};
use crate::web::guards::{ActAccess, ViewAccess};

/// Maximum queues in one response.
const MAX_QUEUES: u64 = 1000;

/// A page of queues.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueQueues"))]
pub(crate) struct Queues {
    /// By name.
    queues: Vec<QueueSummary>,
    /// The last of these, to send as `after`, if there are more.
    next: Option<QueueName>,
    /// Names in `asynq:queues` that are not UTF-8, at most 100, on the first page: another
    /// program may have put them there. These queues cannot be read by this interface. An empty
    /// name is shown as `""`; `redis-cli SREM asynq:queues ""` deletes it.
    unnamable: Vec<String>,
}

/// # List queues
///
/// Sizes by state, counters, and the age of the oldest pending job of each queue. At most `size`
/// queues by name (1,000 by default, which is also the maximum), beginning `after` a name.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "list-queues"))]
#[get("/queues?<after>&<size>")]
pub(crate) async fn list(
    _access: ViewAccess,
    queue: &JobQueue,
    after: Param<'_>,
    size: Param<'_>,
) -> JsonResult<Queues> {
    let after = after.once("after")?.map(queue_name).transpose()?;
    let size = number("size", size.given("size")?, 1, MAX_QUEUES)?.unwrap_or(MAX_QUEUES);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let inspector = queue.redacted_inspector();
    // One more than asked for, to learn whether there are more.
    let QueueSummaries { mut queues, mut unnamable } =
        inspector.some_queues(after.as_ref(), size + 1).await?;
    if after.is_some() {
        unnamable.clear();
    }
    let has_more = queues.len() > size;
    queues.truncate(size);
    let next = queues.last().filter(|_| has_more).map(|last| last.queue.clone());
    Ok(Json(Queues { queues, next, unnamable }))
}

/// # Get a queue
///
/// Its sizes by state and its counters.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "get-queue"))]
#[get("/queues/<name>")]
pub(crate) async fn one(
    _access: ViewAccess,
    queue: &JobQueue,
    name: &str,
) -> JsonResult<QueueInfo> {
    Ok(Json(queue.redacted_inspector().queue(&queue_name(name)?).await?))
}

/// # Delete a queue
///
/// An empty queue only; with `force=true` a queue with its jobs. A queue with active jobs is never
/// deleted.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "delete-queue"))]
#[delete("/queues/<name>?<force>")]
pub(crate) async fn remove(
    _access: ActAccess,
    asked: Asked,
    queue: &JobQueue,
    name: &str,
    force: Param<'_>,
) -> Done {
    let force = force.once("force")?;
    let force = match force {
        None | Some("false" | "") => false,
        Some("true") => true,
        Some(_) => return Err(Error::invalid("force: expected true or false").into()),
    };
    queue.redacted_inspector().delete_queue(&queue_name(name)?, force).await?;
    audit(&asked, "queue removed", name, if force { "with its jobs" } else { "empty" });
    Ok(NoContent)
}

/// # Pause a queue
///
/// Workers dequeue none of its jobs until it is resumed. Jobs in flight continue, and enqueueing
/// still works.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "pause-queue"))]
#[post("/queues/<name>/pause")]
pub(crate) async fn pause(_access: ActAccess, asked: Asked, queue: &JobQueue, name: &str) -> Done {
    let inspector = queue.redacted_inspector();
    let known = queue_name(name)?;
    inspector.queue(&known).await?;
    inspector.pause(&known).await?;
    audit(&asked, "queue paused", name, "");
    Ok(NoContent)
}

/// # Resume a queue
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "resume-queue"))]
#[post("/queues/<name>/resume")]
pub(crate) async fn resume(_access: ActAccess, asked: Asked, queue: &JobQueue, name: &str) -> Done {
    let inspector = queue.redacted_inspector();
    let known = queue_name(name)?;
    inspector.queue(&known).await?;
    inspector.resume(&known).await?;
    audit(&asked, "queue resumed", name, "");
    Ok(NoContent)
}

/// The attempts of a queue by day.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueHistory"))]
pub(crate) struct History {
    /// Newest day first.
    days: Vec<DayStats>,
}

/// # Get a queue's history
///
/// Attempts that ended and that failed, by UTC day, for at most 90 days.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "get-history"))]
#[get("/queues/<name>/history?<days>")]
pub(crate) async fn history(
    _access: ViewAccess,
    queue: &JobQueue,
    name: &str,
    days: Param<'_>,
) -> JsonResult<History> {
    let days = days.given("days")?;
    let days = number("days", days, 1, 90)?.unwrap_or(7);
    let days = u32::try_from(days).unwrap_or(u32::MAX);
    Ok(Json(History { days: queue.redacted_inspector().history(&queue_name(name)?, days).await? }))
}

/// The attempts of a queue by minute.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueLastHour"))]
pub(crate) struct LastHour {
    /// Oldest minute first; the last one is not complete. Minutes that nobody counted are missing.
    minutes: Vec<MinuteStats>,
    /// Whether this is the whole hour: all its minutes were counted, or no attempt of the others
    /// is known. Otherwise attempts before `counted_since` are unknown.
    is_whole: bool,
    /// The first minute that was counted; null if none was.
    counted_since: Option<Timestamp>,
}

/// # Get a queue's last hour
///
/// Attempts that ended and that failed, and pending jobs, by minute. Workers of this crate record
/// them, and processes with this interface do so for queues that have Go workers only, from their
/// start on.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "get-last-hour"))]
#[get("/queues/<name>/minutes")]
pub(crate) async fn minutes(
    _access: ViewAccess,
    queue: &JobQueue,
    name: &str,
) -> JsonResult<LastHour> {
    let (inspector, name) = (queue.redacted_inspector(), queue_name(name)?);
    let info = inspector.queue(&name).await?;
    let (minutes, coverage) = inspector.covered_hour(&name, &info).await?;
    let counted_since = minutes.first().map(|minute| minute.at);
    Ok(Json(LastHour { minutes, is_whole: coverage == Coverage::Whole, counted_since }))
}

/// # Get a queue's memory
///
/// Its approximate size in Redis in bytes, estimated from a sample of its jobs.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "get-memory"))]
#[get("/queues/<name>/memory")]
pub(crate) async fn memory(
    _access: ViewAccess,
    queue: &JobQueue,
    name: &str,
) -> JsonResult<QueueMemory> {
    Ok(Json(queue.redacted_inspector().memory(&queue_name(name)?).await?))
}

/// # List a queue's jobs
///
/// The jobs of a state (`pending` by default) or of a group, at most 100 a page, and fewer once a
/// page has 8 MiB. `type` filters by job type, `search` by text in id, type, payload, group or last
/// error, case-insensitive. A filter reads at most ten pages per request, so a page may be short or
/// empty and `next` continues. Beyond row 10,000 use `cursor`, the `next` of the previous page.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-jobs", operation_id = "list-jobs"))]
#[get("/queues/<name>/jobs?<state>&<group>&<type>&<search>&<page>&<size>&<cursor>")]
#[expect(clippy::too_many_arguments, reason = "a query's parameters are a route's arguments")]
pub(crate) async fn jobs(
    access: ViewAccess,
    queue: &JobQueue,
    name: &str,
    state: Param<'_>,
    group: Param<'_>,
    r#type: Param<'_>,
    search: Param<'_>,
    page: Param<'_>,
    size: Param<'_>,
    cursor: Param<'_>,
) -> Result<JobRows, Refused> {
    let state = state.filter("state")?;
    let group = group.filter("group")?;
    let r#type = r#type.filter("type")?;
    let search = search.filter("search")?;
    let page = page.given("page")?;
    let size = size.given("size")?;
    let cursor = cursor.once("cursor")?;
    let (known, page) = (queue_name(name)?, self::page(page, size, cursor)?);
    let (job_type, text) = (r#type.map(str::to_owned), search.map(str::to_owned));
    let filter = Filter { job_type, text, ..Filter::default() };
    let inspector = queue.redacted_inspector();
    let found = match (group, state) {
        (Some(group), None | Some("aggregating")) => {
            inspector.group_jobs_where(&known, group, &filter, &page).await?
        }
        (Some(_), Some(_)) => {
            return Err(Error::invalid("group: expected it without a state, found both").into());
        }
        (None, word) => {
            let state = state_of(word.unwrap_or("pending"))?;
            inspector.jobs_where(&known, state, &filter, &page).await?
        }
    };
    Ok(JobRows { page: found, access })
}

/// A page of jobs, of up to 8 MiB.
pub(crate) struct JobRows {
    page: JobPage,
    /// Held until the response is serialized.
    access: ViewAccess,
}

impl<'r> Responder<'r, 'static> for JobRows {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let Self { page, access } = self;
        let text = serde_json::to_string(&page);
        drop((page, access));
        let text = text.map_err(|_| Status::InternalServerError)?;
        (ContentType::JSON, text).respond_to(request)
    }
}

/// The state of this name. 422 for another one, with the list of all states.
pub(crate) fn state_of(word: &str) -> Result<JobState, Error> {
    let states = || JobState::ALL.map(JobState::as_str).join(", ");
    let shown = || word.chars().take(40).collect::<String>();
    JobState::parse(word).ok_or_else(|| {
        Error::invalid(format!("state: expected one of {}, found {:?}", states(), shown()))
    })
}

/// # List a queue's groups
///
/// Groups of jobs that wait to be aggregated, in no particular order, paged by `cursor`.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-queues", operation_id = "list-groups"))]
#[get("/queues/<name>/groups?<size>&<cursor>")]
pub(crate) async fn groups(
    _access: ViewAccess,
    queue: &JobQueue,
    name: &str,
    size: Param<'_>,
    cursor: Param<'_>,
) -> JsonResult<GroupPage> {
    let size = size.given("size")?;
    let cursor = cursor.once("cursor")?;
    let (known, page) = (queue_name(name)?, self::page(None, size, cursor)?);
    Ok(Json(queue.redacted_inspector().groups(&known, &page).await?))
}

/// The sets that are being aggregated.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAggregations"))]
pub(crate) struct Aggregations {
    /// The sets.
    sets: Vec<AggregationSet>,
}

/// # List a queue's aggregations
///
/// The sets of jobs that workers are aggregating now.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-queues", operation_id = "list-aggregations")
)]
#[get("/queues/<name>/aggregations")]
pub(crate) async fn aggregations(
    _access: ViewAccess,
    queue: &JobQueue,
    name: &str,
) -> JsonResult<Aggregations> {
    Ok(Json(Aggregations {
        sets: queue.redacted_inspector().aggregations(&queue_name(name)?).await?,
    }))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![list, one, remove, pause, resume, history, minutes, memory, jobs, groups, aggregations]
}
