//! Status links: they show the status of one job to users of the application who have no other
//! rights. A link contains the job and its expiry, and is signed.
//!
//! The signature is an HMAC-SHA-256 over the queue, the id and the expiry. A link cannot be
//! revoked, so its validity should be short. A job that does not exist has the status `gone`,
//! so the holder of a link learns nothing about other jobs.
//!
//! What may surprise. Without `jobqueue.status_key` each process has a random key, so links of
//! one process are unknown to the others and after a restart. A wait sends a space about each second:
//! it means nothing in JSON, and fails once the client has gone, which frees the slot of the
//! wait.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use rocket::http::{ContentType, Header, Status};
use rocket::response::stream::ByteStream;
use rocket::response::{self, Responder, Response};
use rocket::serde::json::Json;
use rocket::{Request, Route, Shutdown, get, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::Sha256;
use tokio::time::Instant;

use crate::broker::JobInfo;
use crate::client::Receipt;
use crate::error::Error;
use crate::job::serial::{hex, unhex};
use crate::job::{JobId, JobState, Progress, QueueName};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::jobs::MAX_WAIT_SECONDS;
use crate::web::api::{Param, Refused, number};
use crate::web::looks::{FollowedJob, Follower, Look, has_ended, next_heartbeat};
use crate::web::proxy::forwarded;

/// Begins every signed text, so that a signature made for another purpose is not valid here.
const PURPOSE: &str = "rocket_jobqueue status 1";

/// The key of this process, if none is configured: 244 random bits from two version 4 UUIDs,
/// drawn at the first link.
fn own_key() -> &'static [u8] {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    KEY.get_or_init(|| {
        let (one, two) = (crate::chance::uuid(), crate::chance::uuid());
        let mut key = [0; 32];
        key[..16].copy_from_slice(one.as_bytes());
        key[16..].copy_from_slice(two.as_bytes());
        key
    })
}

/// The signature of a text, with `jobqueue.status_key` or a random key. A zero byte separates
/// purpose and text, so that no other pair of them has the same bytes.
fn mac(queue: &JobQueue, what: &[u8]) -> Hmac<Sha256> {
    let key = match &queue.config().status_key {
        Some(secret) => secret.bytes(),
        None => own_key(),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(PURPOSE.as_bytes());
    mac.update(&[0]);
    mac.update(what);
    mac
}

/// The last part of a link: the job with its expiry, and the signature.
pub(crate) fn token(queue: &JobQueue, name: &QueueName, id: &JobId, until: Timestamp) -> String {
    let what = format!("{}\n{name}\n", until.as_secs_ceil());
    let what = [what.as_bytes(), id.as_bytes()].concat();
    let signature = mac(queue, &what).finalize().into_bytes();
    format!("{}.{}", hex(&what), hex(&signature))
}

/// The job of a link; `None` if the link is forged or has expired. The signature is compared in
/// constant time, and before anything of the text is believed.
fn read(queue: &JobQueue, token: &str) -> Option<(QueueName, JobId)> {
    let (what, signature) = token.split_once('.')?;
    let (what, signature) = (unhex(what)?, unhex(signature)?);
    mac(queue, &what).verify_slice(&signature).ok()?;
    let mut parts = what.splitn(3, |byte| *byte == b'\n');
    let until: i64 = str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let (name, id) = (str::from_utf8(parts.next()?).ok()?, parts.next()?);
    if queue.now() > Timestamp::from_secs(until) {
        return None;
    }
    Some((name.parse().ok()?, JobId::stored(id)))
}

/// The status of a job, as the holder of its link may see it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueStatus"))]
pub(crate) struct JobStatus {
    /// The job's id.
    job_id: JobId,
    /// `waiting`, `running`, `succeeded`, `failed`, or `gone`: it has ended and is not retained.
    status: &'static str,
    /// When it is due, if it is waiting for that.
    due: Option<Timestamp>,
    /// Its reported progress.
    progress: Option<Progress>,
    /// The result of its handler as it is stored, if it is JSON and the job is retained.
    #[cfg_attr(feature = "openapi", schemars(with = "Option<serde_json::Value>"))]
    result: Option<Box<RawValue>>,
}

impl JobStatus {
    /// The status for the holder of a link: no payload, no error, no headers. A result is shown
    /// only of a job that has succeeded: until then it is partial.
    fn of(info: &JobInfo) -> Self {
        let status = match info.state {
            JobState::Active => "running",
            JobState::Completed => "succeeded",
            JobState::Archived => "failed",
            JobState::Pending | JobState::Scheduled | JobState::Retry | JobState::Aggregating => {
                "waiting"
            }
        };
        let result = info.result.as_deref().filter(|_| info.state == JobState::Completed);
        Self {
            job_id: info.record.id.clone(),
            status,
            due: info.due,
            progress: info.progress.clone(),
            result: result.and_then(|bytes| serde_json::from_slice(bytes).ok()),
        }
    }

    /// The status of a job that may not exist any more.
    fn or_gone(info: Option<&JobInfo>, id: JobId) -> Self {
        info.map_or_else(|| Self::gone(id), Self::of)
    }

    /// The status of a job that has ended and is not retained.
    fn gone(id: JobId) -> Self {
        Self { job_id: id, status: "gone", due: None, progress: None, result: None }
    }
}

/// # The status of a job
///
/// For everyone with the link; no other right is needed. With `wait`, the response comes when the
/// job ends or after that many seconds, at most 60, and may begin with spaces.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-enqueue", operation_id = "get-status", ignore = "shutdown")
)]
#[get("/status/<token>?<wait>")]
pub(crate) async fn status(
    queue: &JobQueue,
    shutdown: Shutdown,
    token: &str,
    wait: Param<'_>,
) -> Result<StatusAnswer, Refused> {
    let wait = number("wait", wait.given("wait")?, 0, MAX_WAIT_SECONDS)?.unwrap_or(0);
    let (name, id) = read(queue, token)
        .ok_or_else(|| Refused::from(Error::not_found("the link is unknown or has expired")))?;
    let inspector = queue.redacted_inspector();
    if wait == 0 {
        let info = inspector.job(&name, &id).await?;
        return Ok(StatusAnswer::Now(JobStatus::or_gone(info.as_ref(), id)));
    }
    let until = Instant::now() + Duration::from_secs(wait);
    let mut followed = queue.looks().follow_job(Follower::Link, &inspector, &name, &id).await?;
    Ok(match followed.first().await {
        Look::Failed(error) => return Err(error.into()),
        Look::Gone => StatusAnswer::Now(JobStatus::gone(id)),
        Look::Job(info) if has_ended(&info) => StatusAnswer::Now(JobStatus::of(&info)),
        Look::Job(first) => {
            StatusAnswer::Later(Box::new(Later { followed, first, until, shutdown }))
        }
    })
}

/// The status of a job, now or at its end.
pub(crate) enum StatusAnswer {
    Now(JobStatus),
    Later(Box<Later>),
}

/// A status that a request waits for.
pub(crate) struct Later {
    followed: FollowedJob,
    first: Arc<JobInfo>,
    until: Instant,
    shutdown: Shutdown,
}

impl<'r> Responder<'r, 'r> for StatusAnswer {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'r> {
        let later = match self {
            Self::Now(status) => return Json(status).respond_to(request),
            Self::Later(later) => *later,
        };
        let Later { mut followed, first, until, mut shutdown } = later;
        // Spaces before JSON mean nothing, and sending them fails once the client has gone,
        // which releases its slot among the followers.
        let body = ByteStream! {
            let (id, last) = (first.record.id.clone(), JobStatus::of(&first));
            let mut ended = std::pin::pin!(followed.ended(first, until, &mut shutdown));
            let ended = loop {
                tokio::select! {
                    biased;
                    ended = &mut ended => break ended,
                    () = tokio::time::sleep(next_heartbeat()) => yield b" ".to_vec(),
                }
            };
            // The response has begun, so if the store is away it is the last known status.
            let status = match ended {
                Ok(info) => JobStatus::or_gone(info.as_deref(), id),
                Err(error) => {
                    crate::log::debug!(?error, "cannot follow the status of a job");
                    last
                }
            };
            yield serde_json::to_vec(&status).unwrap_or_default();
        };
        (ContentType::JSON, body).respond_to(request)
    }
}

/// 202 for an enqueued job, with a link to its status: the response of a route that leaves its
/// work to the job. Made by [`JobQueue::accepted`].
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAccepted"))]
pub struct Accepted {
    /// The job's id.
    job_id: JobId,
    /// The path of its status, as in the header `Location`.
    status_url: String,
}

impl Accepted {
    /// The response for this job and this path.
    pub(crate) fn new(job_id: JobId, status_url: String) -> Self {
        Self { job_id, status_url }
    }
}

impl<'r> Responder<'r, 'static> for Accepted {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let status_url = format!("{}{}", forwarded(request).prefix, self.status_url);
        let location = Header::new("Location", status_url.clone());
        Response::build_from(Json(Self { status_url, ..self }).respond_to(request)?)
            .status(Status::Accepted)
            .header(location)
            .ok()
    }
}

/// The job is enqueued; nothing says yet that it has run.
impl<'r> Responder<'r, 'static> for Receipt {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        Response::build_from(Json(self).respond_to(request)?).status(Status::Accepted).ok()
    }
}

/// Default validity of a link: a day.
pub(crate) const DEFAULT_LIFETIME: Duration = Duration::from_secs(86_400);

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![status]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobRecord;

    #[test]
    fn a_result_has_the_digits_that_are_stored() {
        let status = |result: &str| {
            let job = JobRecord::new("t", None, QueueName::stored("q"));
            let mut info = JobInfo::new(job, JobState::Completed);
            info.result = Some(result.into());
            serde_json::to_string(&JobStatus::of(&info)).unwrap()
        };
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        for result in ["12345678901234567890123", r#"{"a":1e2,"b":1.00}"#, "1E+400", &deep] {
            let expected = format!(r#""result":{result}}}"#);
            let found = status(result);
            assert!(found.ends_with(&expected), "{found}");
        }
        assert!(status("no JSON").ends_with(r#""result":null}"#));
    }
}
