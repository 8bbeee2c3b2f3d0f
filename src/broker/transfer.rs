//! Moving everything from one store to another, entry by entry.
//!
//! An [`Entry`] is one thing that a store keeps, in a form that belongs to no store: times are
//! instants, not scores, and a unique lock has the name that every store gives it. What
//! belongs to a process is none: leases, announcements, and what only a repair needs.
//!
//! A store exports pages of entries and imports pages of them. It never overwrites: an entry
//! that is there already is compared, so a move that was interrupted is simply made again. No
//! other process may work on either store meanwhile, or an export may miss what moves on
//! behind it, and an import may find the work of others.

use std::time::Duration;

use super::{Answer, JobFailure, PeriodicRun};

use crate::job::{JobId, JobRecord, JobState, Progress, QueueName};
use crate::time::Timestamp;

/// Maximum entries of a page.
pub const TRANSFER_PAGE: usize = 100;

/// A page ends when its messages and results reach this many bytes.
pub const TRANSFER_PAGE_BYTES: usize = 1024 * 1024;

/// How long the history of a periodic job is kept at least after it was moved.
pub(super) const HISTORY_KEPT: Duration = Duration::from_secs(90 * 86_400);

/// One thing that a store keeps.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants say what their fields are")]
pub enum Entry {
    /// A queue: whether it is paused, and its counters since it exists.
    Queue { queue: QueueName, paused: Option<Timestamp>, processed: u64, failed: u64 },
    /// A job in any state.
    Job(Box<JobEntry>),
    /// A job whose message cannot be read. It is reported and not moved.
    Unreadable { queue: QueueName, id: JobId },
    /// A unique lock, by the part of its name that all stores share. If it is timed, nothing but
    /// time ends it.
    Lock { queue: QueueName, name: String, holder: JobId, until: Timestamp, timed: bool },
    /// The request that used an idempotency key.
    Request { queue: QueueName, key: String, body: String, job: JobId, until: Timestamp },
    /// The queue of the requests with an idempotency key.
    KeyQueue { key: String, queue: QueueName, until: Timestamp },
    /// How far the ticks of a periodic job are claimed.
    Claim {
        queue: QueueName,
        name: String,
        up_to: Timestamp,
        last_run: Option<Timestamp>,
        /// When the store forgets it, if it does.
        until: Option<Timestamp>,
    },
    /// The history of a periodic job, the oldest run first.
    Runs { periodic_id: String, runs: Vec<PeriodicRun> },
    /// The attempts of a UTC day, by its number since 1970.
    Day { queue: QueueName, day: i64, processed: u64, failed: u64 },
    /// The counters at the beginning of a minute, by its number since 1970.
    Minute { queue: QueueName, minute: i64, processed: u64, failed: u64, pending: u64 },
}

impl Entry {
    /// The queue that it belongs to; the history of a periodic job belongs to none.
    pub fn queue(&self) -> Option<&QueueName> {
        match self {
            Self::Job(job) => Some(&job.record.queue),
            Self::Runs { .. } => None,
            Self::Queue { queue, .. }
            | Self::Unreadable { queue, .. }
            | Self::Lock { queue, .. }
            | Self::Request { queue, .. }
            | Self::KeyQueue { queue, .. }
            | Self::Claim { queue, .. }
            | Self::Day { queue, .. }
            | Self::Minute { queue, .. } => Some(queue),
        }
    }
}

/// A job, as it arrives in another store.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEntry {
    /// The record. Its unique key is the name of the lock, see [`Entry::Lock`].
    pub record: JobRecord,
    /// Its state. An active job is exported as pending: its worker is not there.
    pub state: JobState,
    /// Whether it was active when it was exported.
    pub was_active: bool,
    /// Scheduled and retry: when it is due. Completed: the end of its retention. Archived: when
    /// that was. Aggregating: when it joined its group.
    pub at: Option<Timestamp>,
    /// Since when it is pending.
    pub pending_since: Option<Timestamp>,
    /// Its turn among those that wait for a limit, if it had one: when it first waited or started.
    pub turn: Option<Timestamp>,
    /// Whether it joins its group when it is due.
    pub grouped: bool,
    /// The name of its unique lock if nothing but time ends that.
    pub timed_lock: Option<String>,
    /// Whether its unique lock ends when it is dequeued.
    pub unlock_at_start: bool,
    /// The instant by which it must have started.
    pub start_by: Option<Timestamp>,
    /// What its handler returned or wrote.
    pub result: Option<Vec<u8>>,
    /// The progress of its last attempt.
    pub progress: Option<Progress>,
    /// How often a worker vanished with it.
    pub losses: u32,
    /// See [`JobInfo::version`](super::JobInfo::version).
    pub version: Option<String>,
    /// The version that made the first attempt that failed.
    pub first_failed_version: Option<String>,
    /// Its last failures, the oldest first.
    pub failures: Vec<JobFailure>,
    /// The bytes of Asynq's message, if a peer wrote them in another form than this crate
    /// would. A store that keeps messages writes these.
    pub message: Option<Vec<u8>>,
}

impl JobEntry {
    /// Whether a job that is there is this one: everything but since when it is pending, its turn
    /// and the form of its message.
    pub(super) fn is_same(&self, there: &Self) -> bool {
        // The end of a retention follows from the record.
        let at = |job: &Self| job.at.filter(|_| job.state != JobState::Completed);
        let bare = |job: &Self| Self {
            at: at(job),
            was_active: false,
            pending_since: None,
            turn: None,
            message: None,
            ..job.clone()
        };
        bare(self) == bare(there)
    }

    /// Whether the retention of a completed job has ended.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.state == JobState::Completed && self.at.is_some_and(|at| at <= now)
    }

    /// Approximate bytes of what may be large.
    pub(super) fn bytes(&self) -> usize {
        self.record.payload_bytes().len() + self.result.as_ref().map_or(0, Vec::len)
    }
}

/// The result of importing an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It was stored, or would be.
    New,
    /// It was there already.
    AlreadyThere,
    /// Something else is there, which was left as it is: what was expected and found.
    Conflict(String),
    /// It has expired since it was exported.
    Expired,
}

/// An export under way: it remembers where it is.
pub trait Export: Send {
    /// The next entries; `None` at the end. A queue comes before what is in it, and pending
    /// jobs come in the order in which they would be dequeued.
    fn next_page(&mut self) -> Answer<'_, Option<Vec<Entry>>>;
}

/// Everything in a store, out of it and into it.
pub trait Transfer: Send + Sync {
    /// The version of the stored data's format if this crate does not know it, else `None`.
    /// Nothing is written.
    fn foreign_format(&self) -> Answer<'_, Option<String>>;

    /// Begins an export. It reads a page at a time; nothing is changed.
    fn export(&self) -> Box<dyn Export>;

    /// Stores entries that are not there yet; one result for each, in order. Nothing that is
    /// there is changed. With `dry_run` nothing is stored.
    fn import<'a>(&'a self, entries: &'a [Entry], dry_run: bool) -> Answer<'a, Vec<Imported>>;
}

/// What a difference is called: the thing, the expected and the found value.
pub(super) fn differs(what: &str, wanted: impl ToString, found: impl ToString) -> Imported {
    let (wanted, found) = (wanted.to_string(), found.to_string());
    Imported::Conflict(format!("{what}: expected {wanted}, found {found}"))
}

/// What a job that differs is called: which parts differ, without their values, which may be
/// secrets.
pub(super) fn job_differs(wanted: &JobEntry, found: &JobEntry) -> Imported {
    let job = format!("job \"{}\" of queue \"{}\"", wanted.record.id, wanted.record.queue);
    if wanted.state != found.state {
        return differs(&job, wanted.state, found.state);
    }
    let mut parts = Vec::new();
    let mut part = |name, same: bool| {
        if !same {
            parts.push(name);
        }
    };
    let (a, b) = (&wanted.record, &found.record);
    part("type", a.job_type == b.job_type);
    part("payload", a.payload_bytes() == b.payload_bytes());
    part("headers", a.headers == b.headers);
    part("time", wanted.at == found.at);
    part("attempts", (a.max_retry, a.retried) == (b.max_retry, b.retried));
    part("result", wanted.result == found.result);
    let parts = if parts.is_empty() { "options".to_owned() } else { parts.join(" and ") };
    Imported::Conflict(format!("{job}: expected the same job, found one with another {parts}"))
}

/// A queue's pause and counters, for people.
pub(super) struct Counters(pub(super) (Option<Timestamp>, u64, u64));

impl std::fmt::Display for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (paused, processed, failed) = self.0;
        let paused = if paused.is_some() { "paused" } else { "not paused" };
        write!(f, "{paused}, {processed} processed and {failed} failed")
    }
}
