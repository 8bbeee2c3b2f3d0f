//! `POST {base}/jobs/{type}`: enqueues a job of a registered type. The body is its payload, which
//! is checked against the JSON Schema of the type, if it has one, and decoded as its handler will
//! decode it.
//!
//! The order of the checks decides what a client reads: first 415, 413 and 400 for the body,
//! then 404 for an unknown job type, then 422 for the schema, the decoding and the options.
//! Nothing is stored before all have passed.
//!
//! With an `Idempotency-Key` a repeated request answers 201 with the first job, even if the first
//! response was lost. The key belongs to this route, the job type in its path, the body and the
//! options. The same key with another body is 422, so that a client notices that it reuses keys.

use std::time::Duration;

use rocket::{Route, State, post, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::Serialize;
use serde_json::Value;

use crate::broker::JobInfo;
use crate::client::{Enqueue, Receipt};
use crate::error::Error;
use crate::job::{JobId, JobState, QueueName, Until};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::registration::{MAX_DELAY_SECONDS, MAX_RETRIES};
use crate::web::api::{Asked, Param, RouteScope};
use crate::web::api::{Created, IdempotencyKey, JsonBody, Refused, audit, number};
use crate::web::guards::ActAccess;
use crate::web::schemas::Schemas;

/// The options of a request that override the job type's own, as they were sent.
#[derive(Default)]
pub(crate) struct Overrides<'r> {
    /// The queue.
    pub queue: Option<&'r str>,
    /// Seconds until the job is due, at most a year.
    pub delay_seconds: Option<&'r str>,
    /// Maximum retries, at most 1,000.
    pub max_retry: Option<&'r str>,
    /// Seconds after its due time by which it must have started, at most a year.
    pub expires_seconds: Option<&'r str>,
    /// Seconds that the unique lock holds, at most a year.
    pub unique_seconds: Option<&'r str>,
    /// When that lock ends: `start`, `success` or `expiry`.
    pub unique_until: Option<&'r str>,
    /// The key of that lock, in place of the payload.
    pub unique_key: Option<&'r str>,
    /// If another job has that lock: `reject`, `existing`, `replace` or `extend`.
    pub on_conflict: Option<&'r str>,
}

impl Overrides<'_> {
    /// The part of the idempotency scope that these options make: a repeated request must have the
    /// same ones. Empty if all options are absent, empty or 0.
    fn fingerprint(&self) -> String {
        let mut text = String::new();
        for (name, value) in [
            ("queue", self.queue),
            ("delay_seconds", self.delay_seconds),
            ("max_retry", self.max_retry),
            ("expires_seconds", self.expires_seconds),
            ("unique_seconds", self.unique_seconds),
            ("unique_until", self.unique_until.filter(|text| !text.is_empty())),
            ("on_conflict", self.on_conflict.filter(|text| !text.is_empty())),
            ("unique_key", self.unique_key.filter(|text| !text.is_empty())),
        ] {
            let plain = match (name, value) {
                ("queue" | "unique_until" | "on_conflict" | "unique_key", value) => {
                    value.map(str::to_owned)
                }
                (_, value) => {
                    let number = value.and_then(|text| text.parse::<u64>().ok());
                    number.filter(|number| *number > 0).map(|number| number.to_string())
                }
            };
            if let Some(value) = plain {
                // JSON ends before these characters. Of the values only the last one, the key
                // of a lock, may contain them.
                text.push_str(&format!("\n?{name}={value}"));
            }
        }
        text
    }

    /// Applies these options; absent, empty and 0 keep what the job has.
    ///
    /// # Errors
    /// 422 for a number out of range. The queue is checked when the job is enqueued.
    pub(crate) fn over(&self, mut draft: Enqueue) -> Result<Enqueue, Refused> {
        let above_zero = |name, text: Option<&str>, most| {
            let text = text.filter(|text| !text.is_empty());
            Ok::<_, Refused>(number(name, text, 0, most)?.filter(|number| *number > 0))
        };
        if let Some(name) = self.queue.filter(|name| !name.is_empty()) {
            draft = draft.queue(name.to_owned());
        }
        if let Some(seconds) = above_zero("delay_seconds", self.delay_seconds, MAX_DELAY_SECONDS)? {
            draft = draft.delay(Duration::from_secs(seconds));
        }
        if let Some(retries) = above_zero("max_retry", self.max_retry, MAX_RETRIES)? {
            draft = draft.max_retry(u32::try_from(retries).unwrap_or(u32::MAX));
        }
        if let Some(limit) = above_zero("expires_seconds", self.expires_seconds, MAX_DELAY_SECONDS)?
        {
            draft = draft.expires_in(Duration::from_secs(limit));
        }
        if let Some(lock) = above_zero("unique_seconds", self.unique_seconds, MAX_DELAY_SECONDS)? {
            draft = draft.unique_for(Duration::from_secs(lock));
        }
        if let Some(name) = self.unique_until.filter(|name| !name.is_empty()) {
            draft = draft.until(Until::parse(name).ok_or_else(|| {
                Error::invalid(format!(
                    "unique_until: expected start, success or expiry, found {name:?}"
                ))
            })?);
        }
        if let Some(key) = self.unique_key.filter(|key| !key.is_empty()) {
            draft = draft.unique_key(key.to_owned());
        }
        match self.on_conflict.unwrap_or_default() {
            "" | "reject" => {}
            "existing" => draft = draft.or_existing(),
            "replace" => draft = draft.or_replace(),
            "extend" => draft = draft.or_extend(),
            other => {
                return Err(Error::invalid(format!(
                    "on_conflict: expected reject, existing, replace or extend, found {other:?}"
                ))
                .into());
            }
        }
        Ok(draft)
    }
}

/// The enqueued job.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueEnqueued"))]
pub(crate) struct EnqueueReceipt {
    /// Its id.
    job_id: JobId,
    /// Its queue.
    queue: QueueName,
    /// `pending`, or `scheduled` if it is due later. For a repeated request, the current state of
    /// the first job; missing if that job has ended and is not retained.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "JobState", default))]
    state: Option<JobState>,
    /// When it is due, or since when it is pending; missing once it has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "Timestamp", default))]
    due: Option<Timestamp>,
    /// Whether this repeats an earlier request; the id is then the first job's.
    replayed: bool,
    /// Whether nothing was stored because this job has the unique lock, and `on_conflict` asked
    /// for it. State and due time are that job's; they are missing if it has ended.
    existing: bool,
    /// Whether this job waited under the same unique lock, and became the one of this request.
    replaced: bool,
}

/// # Enqueue a job
///
/// The body is the payload. `queue`, `delay_seconds`, `max_retry`, `expires_seconds` (a job that has
/// not started this long after its due time is archived with the error `expired`) and
/// `unique_seconds` (until this job succeeds, but no longer than this, no other job of this type and
/// payload is accepted in the queue) override the job type's options; absent and 0 keep them. So do
/// `unique_until` (when that lock ends), `unique_key` (the jobs with this key are the same, whatever
/// their payloads) and `on_conflict` (what happens if another job has the lock).
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-enqueue", operation_id = "enqueue-job", ignore = "schemas")
)]
#[post(
    "/jobs/<type>?<queue>&<delay_seconds>&<max_retry>&<expires_seconds>&<unique_seconds>&<unique_until>&<unique_key>&<on_conflict>",
    data = "<body>"
)]
#[expect(clippy::too_many_arguments, reason = "a query's parameters are a route's arguments")]
pub(crate) async fn enqueue(
    _access: ActAccess,
    asked: Asked,
    jobs: &JobQueue,
    schemas: &State<Schemas>,
    scope: RouteScope,
    key: IdempotencyKey<'_>,
    r#type: &str,
    queue: Param<'_>,
    delay_seconds: Param<'_>,
    max_retry: Param<'_>,
    expires_seconds: Param<'_>,
    unique_seconds: Param<'_>,
    unique_until: Param<'_>,
    unique_key: Param<'_>,
    on_conflict: Param<'_>,
    body: JsonBody<Value>,
) -> Result<Created<EnqueueReceipt>, Refused> {
    let options = Overrides {
        queue: queue.once("queue")?,
        delay_seconds: delay_seconds.once("delay_seconds")?,
        max_retry: max_retry.once("max_retry")?,
        expires_seconds: expires_seconds.once("expires_seconds")?,
        unique_seconds: unique_seconds.once("unique_seconds")?,
        unique_until: unique_until.once("unique_until")?,
        unique_key: unique_key.once("unique_key")?,
        on_conflict: on_conflict.once("on_conflict")?,
    };
    let body = body.read?;
    let entry = jobs.runtime().registry().get(r#type).ok_or_else(|| {
        Error::not_found(format!("this process has no handler for job type {:?}", r#type))
    })?;
    schemas.check(r#type, &body.value)?;
    let own_key = entry.check(&body.bytes)?;
    // The options are part of the request too: with others it would not be the same one.
    let asked_for = [&*body.bytes, options.fingerprint().as_bytes()].concat();
    let guard = key.guard(&scope.0.replace("<type>", r#type), &asked_for)?;
    let draft = jobs.enqueue_raw(r#type, Some(body.bytes)).options(entry.options.clone());
    let draft = draft.own_key(own_key);
    let mut draft = options.over(draft)?;
    if let Some(guard) = guard {
        draft = draft.idempotency(guard.across_queues());
    }
    let receipt = draft.await?;
    if let Some(deed) = audited(&receipt, options.on_conflict.unwrap_or_default()) {
        audit(&asked, deed, &receipt.queue.printable(), receipt.id.as_str());
    }
    if receipt.replayed || receipt.existing {
        let found = jobs.inspect().job(&receipt.queue, &receipt.id).await?;
        return Ok(Created(EnqueueReceipt::before(receipt, found.as_ref())));
    }
    Ok(Created(EnqueueReceipt {
        job_id: receipt.id,
        queue: receipt.queue,
        state: Some(receipt.state),
        due: Some(receipt.due),
        replayed: false,
        existing: false,
        replaced: receipt.replaced,
    }))
}

/// What an enqueue with this word for conflicts has changed, for the audit line; `None` if nothing.
pub(crate) fn audited(receipt: &Receipt, on_conflict: &str) -> Option<&'static str> {
    match (receipt.replayed, receipt.existing, receipt.replaced) {
        (true, _, _) => None,
        (_, true, _) => (on_conflict == "extend").then_some("unique lock extended"),
        (_, _, true) => Some("job replaced"),
        _ => Some("job enqueued"),
    }
}

impl EnqueueReceipt {
    /// A job that was there before, in its current state.
    fn before(receipt: Receipt, found: Option<&JobInfo>) -> Self {
        Self {
            job_id: receipt.id,
            queue: receipt.queue,
            state: found.map(|info| info.state),
            due: found.and_then(|info| info.due.or(info.pending_since)),
            replayed: receipt.replayed,
            existing: receipt.existing,
            replaced: receipt.replaced,
        }
    }
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![enqueue]
}
