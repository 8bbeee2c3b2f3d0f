//! What is counted of a job type within a time: how many attempts, how long they waited and ran.

use std::time::Duration;

use serde::Serialize;

use super::sketch::{Sketch, put, take};
use super::{JobId, QueueName, serial};
use crate::time::Timestamp;

/// How many attempts of a job type are remembered of a day: the slowest, and the newest that failed.
pub(crate) const MAX_REMEMBERED: usize = 5;

/// The attempts of a job type within a time, as far as they succeeded or failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TypeRecord {
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// How long attempts ran.
    pub runs: Sketch,
    /// How long jobs waited from being ready, that is enqueued or due, until their start, as far
    /// as that is known.
    pub waits: Sketch,
}

impl TypeRecord {
    /// Adds everything that another one has counted.
    pub fn merge(&mut self, other: &Self) {
        self.succeeded = self.succeeded.saturating_add(other.succeeded);
        self.failed = self.failed.saturating_add(other.failed);
        self.runs.merge(&other.runs);
        self.waits.merge(&other.waits);
    }

    /// How many different durations it has counted.
    pub(crate) fn durations(&self) -> usize {
        self.runs.filled().count() + self.waits.filled().count()
    }

    /// The stored form.
    pub(crate) fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, self.succeeded);
        put(&mut bytes, self.failed);
        self.runs.pack(&mut bytes);
        self.waits.pack(&mut bytes);
        bytes
    }

    /// Reads the stored form; `None` if it is something else.
    pub(crate) fn unpack(mut bytes: &[u8]) -> Option<Self> {
        let from = &mut bytes;
        let (succeeded, failed) = (take(from)?, take(from)?);
        let (runs, waits) = (Sketch::unpack(from)?, Sketch::unpack(from)?);
        from.is_empty().then_some(Self { succeeded, failed, runs, waits })
    }
}

/// An attempt that is remembered: one of the slowest of its job type, or of the newest that failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueTypeAttempt"))]
#[non_exhaustive]
pub struct TypeAttempt {
    /// How long it ran, in seconds.
    #[serde(rename = "ran_seconds", serialize_with = "serial::seconds")]
    #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
    pub ran: Duration,
    /// When it ended, to the second.
    pub at: Timestamp,
    /// Whether it failed.
    pub failed: bool,
    /// The job's queue.
    pub queue: QueueName,
    /// The job, which may be gone.
    pub id: JobId,
}

/// Which attempts are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remembered {
    /// The slowest.
    Slowest,
    /// The newest that failed.
    Failed,
}

impl Remembered {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Slowest, Self::Failed];

    /// The letter by which stores name it.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Slowest => 's',
            Self::Failed => 'f',
        }
    }

    /// Adds some to others, and keeps as many as are remembered.
    pub(crate) fn keep(
        self,
        all: &mut Vec<TypeAttempt>,
        more: impl IntoIterator<Item = TypeAttempt>,
    ) {
        all.extend(more);
        match self {
            Self::Slowest => all.sort_by_key(|one| std::cmp::Reverse(one.ran)),
            Self::Failed => all.sort_by_key(|one| std::cmp::Reverse(one.at)),
        }
        all.truncate(MAX_REMEMBERED);
    }
}

/// The stored form: microseconds, second, whether it failed, queue, id.
type AttemptRow = (u64, i64, bool, String, String);

impl TypeAttempt {
    /// A new one. For tests of stores.
    #[doc(hidden)]
    pub fn new(ran: Duration, at: Timestamp, failed: bool, queue: QueueName, id: JobId) -> Self {
        let ran = Duration::from_micros(u64::try_from(ran.as_micros()).unwrap_or(u64::MAX));
        Self { ran, at: Timestamp::from_secs(at.as_secs()), failed, queue, id }
    }

    /// The stored form of some: JSON.
    pub(crate) fn pack(all: &[Self]) -> Vec<u8> {
        let row = |one: &Self| -> AttemptRow {
            let micros = u64::try_from(one.ran.as_micros()).unwrap_or(u64::MAX);
            let (queue, id) = (one.queue.as_str().to_owned(), one.id.as_str().to_owned());
            (micros, one.at.as_secs(), one.failed, queue, id)
        };
        let rows: Vec<AttemptRow> = all.iter().map(row).collect();
        serde_json::to_vec(&rows).expect("numbers and texts are JSON")
    }

    /// Reads the stored form; nothing if it is something else.
    pub(crate) fn unpack(bytes: &[u8]) -> Vec<Self> {
        let rows: Vec<AttemptRow> = serde_json::from_slice(bytes).unwrap_or_default();
        let read = |(micros, second, failed, queue, id): AttemptRow| {
            Some(Self {
                ran: Duration::from_micros(micros),
                at: Timestamp::from_secs(second),
                failed,
                queue: QueueName::stored(&queue),
                id: id.parse().ok()?,
            })
        };
        rows.into_iter().filter_map(read).collect()
    }
}
