//! Status links: what an application's own user may know of one job, without a right to
//! look at any other. A link names the job and when it expires, and is signed.

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
use sha2::Sha256;
use tokio::time::Instant;

use crate::broker::JobInfo;
use crate::error::Error;
use crate::job::serial::{hex, unhex};
use crate::job::{JobId, JobState, Progress, QueueName};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::jobs::LONGEST_WAIT;
use crate::web::api::{Param, Refused, number};
use crate::web::looks::{FollowedJob, Follower, Look, SIGN_OF_LIFE, has_ended};
use crate::web::proxy::forwarded;

/// What a key signs begins with it: a signature made for something else is none here.
const PURPOSE: &str = "rocket_jobqueue status 1";

/// The key of this process, where none is configured.
fn own_key() -> &'static [u8] {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    KEY.get_or_init(|| {
        let (one, two) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let mut key = [0; 32];
        key[..16].copy_from_slice(one.as_bytes());
        key[16..].copy_from_slice(two.as_bytes());
        key
    })
}

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

/// The last part of a link: what it is about, and the signature.
pub(crate) fn token(queue: &JobQueue, name: &QueueName, id: &JobId, until: Timestamp) -> String {
    let what = format!("{}\n{name}\n", until.as_secs_ceil());
    let what = [what.as_bytes(), id.as_bytes()].concat();
    let signature = mac(queue, &what).finalize().into_bytes();
    format!("{}.{}", hex(&what), hex(&signature))
}

/// The job of a link, unless it was forged or has expired.
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

/// What the user of an application may know of a job of theirs.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueStatus"))]
pub(crate) struct JobStatus {
    /// The job's id.
    job_id: JobId,
    /// `waiting`, `running`, `succeeded`, `failed`, or `gone`: it has ended and left nothing, as
    /// the success of a job without retention does.
    status: &'static str,
    /// When it is due, while it waits for that.
    due: Option<Timestamp>,
    /// How far it said it is.
    progress: Option<Progress>,
    /// What its handler returned, where it is JSON and the job is retained.
    result: Option<serde_json::Value>,
}

impl JobStatus {
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

    fn or_gone(info: Option<&JobInfo>, id: JobId) -> Self {
        info.map_or_else(|| Self::gone(id), Self::of)
    }

    fn gone(id: JobId) -> Self {
        Self { job_id: id, status: "gone", due: None, progress: None, result: None }
    }
}

/// # The status of a job
///
/// For whoever was given the link: no other right is asked for. With `wait`, the answer comes
/// when the job has ended, or after so many seconds, at most 60; spaces may come before it.
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
    let wait = number("wait", wait.once("wait")?, 0, LONGEST_WAIT)?.unwrap_or(0);
    let (name, id) = read(queue, token)
        .ok_or_else(|| Refused::from(Error::not_found("the link is unknown or has expired")))?;
    let inspector = queue.redacted_inspector();
    if wait == 0 {
        let info = inspector.job(&name, &id).await?;
        return Ok(StatusAnswer::Now(JobStatus::or_gone(info.as_ref(), id)));
    }
    let until = Instant::now() + Duration::from_secs(wait);
    let mut followed = queue.looks().follow_job(Follower::Link, &inspector, &name, &id)?;
    Ok(match followed.first().await {
        Look::Failed(error) => return Err(error.into()),
        Look::Gone => StatusAnswer::Now(JobStatus::gone(id)),
        Look::Job(info) if has_ended(&info) => StatusAnswer::Now(JobStatus::of(&info)),
        Look::Job(first) => {
            StatusAnswer::Later(Box::new(Later { followed, first, until, shutdown }))
        }
    })
}

/// The status of a job, now or when it is known.
pub(crate) enum StatusAnswer {
    Now(JobStatus),
    Later(Box<Later>),
}

/// A status that is waited for.
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
        // Spaces in front of JSON mean nothing, and a client that has gone takes none: then
        // its place is free.
        let body = ByteStream! {
            let (id, last) = (first.record.id.clone(), JobStatus::of(&first));
            let mut ended = std::pin::pin!(followed.ended(first, until, &mut shutdown));
            let ended = loop {
                tokio::select! {
                    biased;
                    ended = &mut ended => break ended,
                    () = tokio::time::sleep(SIGN_OF_LIFE) => yield b" ".to_vec(),
                }
            };
            // The answer has begun: where the store is gone, it is what was last known.
            let status = match ended {
                Ok(info) => JobStatus::or_gone(info.as_deref(), id),
                Err(error) => {
                    crate::log::debug!(?error, "the status of a job could not be followed");
                    last
                }
            };
            yield serde_json::to_vec(&status).unwrap_or_default();
        };
        (ContentType::JSON, body).respond_to(request)
    }
}

/// 202 for a job that was enqueued, with a link to its status: what a route answers whose
/// work goes on. Made by [`JobQueue::accepted`].
#[derive(Clone, Debug, Serialize)]
pub struct Accepted {
    job_id: JobId,
    status_url: String,
}

impl Accepted {
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

/// How long a link is good where nothing else is said.
pub(crate) const USUAL: Duration = Duration::from_secs(86_400);

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![status]
}
