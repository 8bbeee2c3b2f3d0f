//! A job as it is stored, free of any store's encoding.
//!
//! [`JobRecord`] has the fields of Asynq's message: what a job is, and what happened to it so far.
//! [`NewJob`] adds what matters once, when it is enqueued: when it is due, its locks and its
//! idempotency key. Where a job is now (state, due time, lease) is not in the record, because
//! stores keep that outside of the message.
//!
//! What may surprise. A record that was read from a Go program is written back byte for byte as far
//! as it was not changed: fields that this version does not know are kept (`unknown`), and so are
//! numbers that our types cannot hold (`odd_numbers`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::job::{
    Job, JobId, MaxWaiting, OnConflict, Placement, QueueName, Until, payload_bytes, serial,
};
use crate::time::Timestamp;

/// One stored job: the fields of Asynq's message.
///
/// `Debug` leaves out payload, headers and what a peer added, so that no secret
/// reaches a log by accident. Serialized, it includes the payload: as text if it is
/// UTF-8, otherwise as `{"hex": "…"}`. Durations are seconds.
#[derive(Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueJobRecord"))]
pub struct JobRecord {
    /// The job type's stored name.
    pub job_type: String,
    /// The payload's bytes; JSON for typed jobs. `None` and empty are the same
    /// once stored; only the unique lock distinguishes them.
    #[serde(serialize_with = "serial::some_bytes")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<serial::Bytes>"))]
    pub payload: Option<Vec<u8>>,
    /// The id, unique within the queue: two queues may have jobs of the same id.
    pub id: JobId,
    /// The queue it is in.
    pub queue: QueueName,
    /// Maximum retries after the first attempt: a job that always fails runs once more than that.
    pub max_retry: u32,
    /// Retries used so far. One is used when an attempt fails and the job is to be tried again, so
    /// this is not how often the job ran: after its last retry has failed it ran once more, and
    /// it ran again each time that somebody moved it from the archive to pending.
    pub retried: u32,
    /// The text of the last failure; empty if there was none.
    pub last_error: String,
    /// When it failed last; `None` if it never has.
    pub last_failed_at: Option<Timestamp>,
    /// Time limit of one attempt, whole seconds; zero if none was given.
    #[serde(rename = "timeout_seconds", serialize_with = "serial::seconds")]
    #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
    pub timeout: Duration,
    /// The instant by which it must have ended, in whole seconds; `None` if none was given.
    pub deadline: Option<Timestamp>,
    /// How long it is kept after success, whole seconds; zero removes it at once.
    #[serde(rename = "retention_seconds", serialize_with = "serial::seconds")]
    #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
    pub retention: Duration,
    /// When it succeeded; `None` before that.
    pub completed_at: Option<Timestamp>,
    /// Key of its unique lock; empty if none.
    pub unique_key: String,
    /// The group it waits in; empty if none.
    pub group: String,
    /// The headers that the caller attached.
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
    /// A new record with a random id and nothing optional set: no retries, no time limit, not
    /// kept after success.
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

    /// Decodes the payload if the job has this type.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for another type or a payload that does not fit; the message quotes
    /// nothing of the payload.
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

    /// A record with the same identity, unique lock and group, and nothing else. For work that
    /// needs no payload: releasing the locks of an aggregated set.
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

/// The name of a job's unique lock in its queue: its type, and the MD5 of its payload, as Asynq
/// has it in its keys. A missing payload and an empty one give different names.
pub(crate) fn lock_name(job_type: &str, payload: Option<&[u8]>) -> String {
    use md5::{Digest, Md5};
    let digest = payload.map(|payload| serial::hex(&Md5::digest(payload)));
    format!("{job_type}:{}", digest.unwrap_or_default())
}

/// A repeated enqueue with the same key is answered with the first job's id.
///
/// The store writes key, digest and id together with the job and keeps them for a day. So a
/// repeated enqueue is recognised even if the answer to the first call was lost, or the job has
/// long ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// Scope and key as one digest, of fixed length and in hexadecimal digits.
    pub(crate) key: String,
    /// The digest of the request; another one under the same key is refused.
    pub(crate) body: String,
    /// How long the store keeps it.
    pub(crate) kept: Duration,
    /// Whether a repeated request may name another queue, which has to be detected.
    pub(crate) across_queues: bool,
}

/// How long an idempotency key is kept: a day, as the guide promises.
const KEY_LIFETIME: Duration = Duration::from_secs(86_400);

/// How long a network may deliver a call after its last attempt; a generous bound. Until then
/// the key must not be forgotten, or the late call would store a second job.
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

    /// The same key for requests that may name different queues. The guard is stored with the
    /// jobs of one queue, and a further key records which: one more round trip.
    pub(crate) fn across_queues(self) -> Self {
        Self { across_queues: true, ..self }
    }

    /// Whether only one call knows this key. Such a key has no digest of a body: there is no
    /// other request that it could be compared with.
    pub(crate) fn is_of_one_call(&self) -> bool {
        self.body.is_empty()
    }

    /// A key that only one call knows, which is repeated for at most this long. It makes an
    /// enqueue without a key of the caller safe to repeat after a lost answer.
    pub(crate) fn of_one_call(within: Duration) -> Self {
        Self {
            key: JobId::random().as_str().to_owned(),
            body: String::new(),
            kept: within.saturating_add(LATE_DELIVERY_ALLOWANCE),
            across_queues: false,
        }
    }

    /// The same key, kept long enough for a call that is repeated for at most this long.
    pub(crate) fn kept_for(self, within: Duration) -> Self {
        Self { kept: self.kept.max(within.saturating_add(LATE_DELIVERY_ALLOWANCE)), ..self }
    }
}

/// A job on its way into a store.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// The record to store.
    pub record: JobRecord,
    /// When it becomes due.
    pub placement: Placement,
    /// How long its unique lock holds at most; `None` if it takes none.
    pub unique_for: Option<Duration>,
    /// When that lock ends, if not with its time.
    pub until: Until,
    /// The digest that names the lock; `None` for the whole payload.
    pub unique_key: Option<String>,
    /// What happens if another job holds the lock.
    pub on_conflict: OnConflict,
    /// How long after its due time it may still start; `None` for ever.
    pub expires_in: Option<Duration>,
    /// How many jobs may wait in its queue; `None` for any number.
    pub max_waiting: Option<MaxWaiting>,
    /// The idempotency key, if the caller gave one.
    pub idempotency: Option<Idempotency>,
}

impl NewJob {
    /// A job that is due at once, without lock or repeat guard.
    pub fn now(record: JobRecord) -> Self {
        Self {
            record,
            placement: Placement::Now,
            unique_for: None,
            until: Until::default(),
            unique_key: None,
            on_conflict: OnConflict::default(),
            expires_in: None,
            max_waiting: None,
            idempotency: None,
        }
    }

    /// The same job, due according to `placement`.
    pub fn placed(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }
}
