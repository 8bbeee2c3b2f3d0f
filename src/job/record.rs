//! A job as it is stored, free of any store's encoding.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::job::{Job, JobId, Placement, QueueName, payload_bytes, serial};
use crate::time::Timestamp;

/// One stored job: the fields of Asynq's message.
///
/// `Debug` leaves out payload, headers and what a peer added, so that no secret
/// reaches a log by accident. Serialized, it has the payload, as text where it is
/// UTF-8 and else as `{"hex": "…"}`; lengths of time are seconds.
#[derive(Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueJobRecord"))]
pub struct JobRecord {
    /// The job type's stored name.
    pub job_type: String,
    /// The payload's bytes; JSON for typed jobs. `None` and empty are the same
    /// once stored; they differ in the unique lock only.
    #[serde(serialize_with = "serial::some_bytes")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<serial::Bytes>"))]
    pub payload: Option<Vec<u8>>,
    /// The id, unique within the queue.
    pub id: JobId,
    /// The queue it is in.
    pub queue: QueueName,
    /// Most retries after the first attempt.
    pub max_retry: u32,
    /// Retries counted so far.
    pub retried: u32,
    /// The last failure's text; empty if there was none.
    pub last_error: String,
    /// When it failed last.
    pub last_failed_at: Option<Timestamp>,
    /// Time limit of one attempt, whole seconds; zero if none was given.
    #[serde(rename = "timeout_seconds", serialize_with = "serial::seconds")]
    #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
    pub timeout: Duration,
    /// Instant by which it must have ended, whole seconds.
    pub deadline: Option<Timestamp>,
    /// How long it is kept after success, whole seconds.
    #[serde(rename = "retention_seconds", serialize_with = "serial::seconds")]
    #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
    pub retention: Duration,
    /// When it succeeded.
    pub completed_at: Option<Timestamp>,
    /// The unique lock it holds, in the store's own words; empty if none.
    pub unique_key: String,
    /// The group it waits in; empty if none.
    pub group: String,
    /// The caller's headers.
    pub headers: BTreeMap<String, String>,
    /// Fields a newer peer wrote and this version does not know, byte for byte.
    #[serde(skip)]
    pub(crate) unknown: Vec<u8>,
    /// Numbers of a peer that the fields above cannot hold, such as a negative timeout,
    /// by the store's number for the field. Written back while the field is unchanged.
    #[serde(skip)]
    pub(crate) odd_numbers: Vec<(u32, i64)>,
}

impl JobRecord {
    /// A new record with a random id and nothing optional set.
    pub fn new(job_type: impl Into<String>, payload: Option<Vec<u8>>, queue: QueueName) -> Self {
        Self {
            job_type: job_type.into(),
            payload,
            id: JobId::random(),
            queue,
            max_retry: 0,
            retried: 0,
            last_error: String::new(),
            last_failed_at: None,
            timeout: Duration::ZERO,
            deadline: None,
            retention: Duration::ZERO,
            completed_at: None,
            unique_key: String::new(),
            group: String::new(),
            headers: BTreeMap::new(),
            unknown: Vec::new(),
            odd_numbers: Vec::new(),
        }
    }

    /// The job's data, where it is of this type and its payload is JSON, as that
    /// of typed jobs is.
    ///
    /// # Errors
    /// [`Error::is_invalid`] otherwise; the message quotes nothing of the payload.
    pub fn decode<J: Job>(&self) -> Result<J, Error> {
        if self.job_type != J::TYPE {
            return Err(Error::invalid(format!(
                "job type: expected {:?}, found {:?}",
                J::TYPE,
                self.job_type
            )));
        }
        serde_json::from_slice(self.payload_bytes()).map_err(|error| {
            let place = (error.line(), error.column());
            let text = format!("payload of {:?}: it cannot be read at {place:?}", J::TYPE);
            Error::invalid(text)
        })
    }

    /// Which job it is and what it holds, and nothing else of it.
    pub(crate) fn bare(&self) -> Self {
        let mut bare = Self::new(self.job_type.clone(), None, self.queue.clone());
        bare.id = self.id.clone();
        bare.unique_key.clone_from(&self.unique_key);
        bare.group.clone_from(&self.group);
        bare
    }

    /// The payload's bytes, empty if there is none.
    pub fn payload_bytes(&self) -> &[u8] {
        self.payload.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for JobRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRecord")
            .field("job_type", &self.job_type)
            .field("id", &self.id)
            .field("queue", &self.queue)
            .field("max_retry", &self.max_retry)
            .field("retried", &self.retried)
            .finish_non_exhaustive()
    }
}

/// A repeated enqueue with the same key is answered with the first job's id.
///
/// The store keeps key, digest and id for a day, written together with the job,
/// also when the answer to the first call was lost and when the job has long ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// Scope and key as one digest, so that its length and characters are ours.
    pub(crate) key: String,
    /// The digest of what was asked for; another one under the same key is refused.
    pub(crate) body: String,
    /// How long the store keeps it.
    pub(crate) kept: Duration,
    /// Whether the same key may come with another queue, which has to be told.
    pub(crate) across_queues: bool,
}

/// How long an idempotency key is kept.
const KEY_LIFETIME: Duration = Duration::from_secs(86_400);

/// What a network may still deliver when the last try is over, with ample room.
const LATE_DELIVERY_ALLOWANCE: Duration = Duration::from_secs(3600);

impl Idempotency {
    /// A key within a scope (for REST, the route) for a request with this body.
    pub fn new(scope: &str, key: &str, body: &[u8]) -> Self {
        use sha2::{Digest, Sha256};
        let mut scoped = Sha256::new();
        scoped.update((scope.len() as u64).to_be_bytes());
        scoped.update(scope);
        scoped.update(key);
        Self {
            key: serial::hex(&scoped.finalize()),
            body: serial::hex(&Sha256::digest(body)),
            kept: KEY_LIFETIME,
            across_queues: false,
        }
    }

    /// A key for a request whose body is this value, written as a job's payload is: equal
    /// values are the same body, whatever the order of their maps.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a value that JSON cannot hold.
    pub fn of_value<T: Serialize>(scope: &str, key: &str, value: &T) -> Result<Self, Error> {
        let body = payload_bytes(value)
            .map_err(|error| Error::invalid(format!("body of an idempotency key: {error}")))?;
        Ok(Self::new(scope, key, &body))
    }

    /// The same key where each request may name another queue. The guard lies beside the
    /// jobs of one queue, so that a further key notes which: one more round trip.
    pub(crate) fn across_queues(self) -> Self {
        Self { across_queues: true, ..self }
    }

    /// Whether only one call knows this key.
    pub(crate) fn is_of_one_call(&self) -> bool {
        self.body.is_empty()
    }

    /// A key that only one call knows, which asks again for at most this long.
    pub(crate) fn of_one_call(within: Duration) -> Self {
        Self {
            key: JobId::random().as_str().to_owned(),
            body: String::new(),
            kept: within.saturating_add(LATE_DELIVERY_ALLOWANCE),
            across_queues: false,
        }
    }

    /// The same key, kept long enough for a call that asks again for at most this long.
    pub(crate) fn kept_for(self, within: Duration) -> Self {
        Self { kept: self.kept.max(within.saturating_add(LATE_DELIVERY_ALLOWANCE)), ..self }
    }
}

/// A job on its way into a store.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// What is stored.
    pub record: JobRecord,
    /// When it becomes due.
    pub placement: Placement,
    /// How long its unique lock holds, if it takes one.
    pub unique_for: Option<Duration>,
    /// The repeat guard, if the caller gave one.
    pub idempotency: Option<Idempotency>,
}

impl NewJob {
    /// A job that is due at once, without lock or repeat guard.
    pub fn now(record: JobRecord) -> Self {
        Self { record, placement: Placement::Now, unique_for: None, idempotency: None }
    }

    /// The same job, due according to `placement`.
    pub fn placed(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }
}
