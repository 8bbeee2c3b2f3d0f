//! The arguments by which the settle script carries out one transition.
//!
//! [`SettleArgs::new`] is a pure function of the delivery, the transition and the
//! time: it encodes the job's new message, names the unique lock to release and
//! adds the line for the job's failure log. The script then only checks the lease
//! and moves the job. Keeping the decision here means that Lua never parses a
//! message, and that the whole table can be tested without Redis.
//!
//! An empty message keeps the stored one, so a requeue sends no payload. A plain
//! deletion ([`SettleArgs::is_deletion`]), the most frequent kind, goes into the cheaper
//! of the two exchange scripts.
//!
//! What may surprise. A transition after which the job waits also names the lock that
//! archiving would release, because a cancel request may turn the wait into that. A
//! lock outside the queue's own Cluster slot is left to expire: no script may touch it.

use std::time::Duration;

use super::{keys, wire};
use crate::broker::{AttemptNote, Delivery, JobFailure, Lease, SettleRequest};
use crate::job::{JobRecord, Transition};
use crate::time::Timestamp;

/// The settle script's arguments for one job.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SettleArgs {
    /// The lease under which the job is settled.
    pub lease: Lease,
    /// The script's name of the transition.
    pub kind: &'static str,
    /// The new message; empty to keep the stored one.
    pub msg: Vec<u8>,
    /// The delay of the next attempt, or the retention of a completed job.
    pub time: Duration,
    /// The result to keep with a completed job.
    pub result: Option<Vec<u8>>,
    /// The unique lock to release; empty if none. If the job is to wait, this is the lock
    /// that archiving would release: a cancel request may turn the wait into that.
    pub lock: String,
    /// How the attempt failed, as a line for the job's log; empty if it did not fail.
    pub failure: Vec<u8>,
    /// The application's version, if the attempt failed or completed the job; else empty.
    pub version: String,
    /// Whether it has places of limits to give back.
    pub limited: bool,
}

/// What the arguments are made from.
struct Settlement<'a> {
    delivery: &'a Delivery,
    note: &'a AttemptNote,
    now: Timestamp,
    /// Whether archiving releases the unique lock.
    release: bool,
}

impl SettleArgs {
    /// The arguments that carry out a request, with `now` as the time in the message.
    /// `release` is whether archiving releases the unique lock.
    pub(super) fn new(request: &SettleRequest, now: Timestamp, release: bool) -> Self {
        let SettleRequest { delivery, transition, note } = request;
        let settlement = Settlement { delivery, note, now, release };
        match transition {
            Transition::Complete { result } if !delivery.job.retention.is_zero() => {
                settlement.complete(result.clone())
            }
            Transition::Complete { .. } | Transition::Revoke => {
                Self { lock: own_lock(delivery), ..settlement.bare("delete") }
            }
            Transition::Retry { after, error, counted: true } => settlement.retry(*after, error),
            Transition::Retry { after, error, counted: false } => {
                // A snooze has no error, and the last one stays in the message.
                Self { time: *after, ..settlement.uncounted("snooze", error) }
            }
            Transition::Archive { error } => settlement.archive(error),
            Transition::Requeue => settlement.waiting("requeue"),
            Transition::PutBack { after, error } => {
                // The losses stay as they are.
                let kind = if after.is_zero() { "restore" } else { "defer" };
                Self { time: *after, ..settlement.uncounted(kind, error) }
            }
            Transition::Reclaim { error } => Self {
                msg: settlement.failed_message(error),
                failure: settlement.failure_line(error),
                version: settlement.version(),
                ..settlement.waiting("reclaim")
            },
        }
    }

    /// Archives a job whose message cannot be decoded, with its bytes as they are.
    pub(super) fn quarantine(lease: Lease) -> Self {
        Self::bare(lease, "archive")
    }

    /// A kind without any argument.
    fn bare(lease: Lease, kind: &'static str) -> Self {
        Self {
            lease,
            kind,
            msg: Vec::new(),
            time: Duration::ZERO,
            result: None,
            lock: String::new(),
            failure: Vec::new(),
            version: String::new(),
            limited: false,
        }
    }

    /// Whether the job is only deleted: it has no lock and no place of a limit, and its owner is
    /// known.
    pub(super) fn is_deletion(&self) -> bool {
        let is_plain = self.lock.is_empty() && !self.limited;
        self.kind == "delete" && is_plain && self.lease.owner.is_some()
    }

    /// How long the job waits for its next attempt, if it does.
    pub(super) fn waits(&self) -> Option<Duration> {
        matches!(self.kind, "retry" | "snooze" | "defer").then_some(self.time)
    }
}

impl Settlement<'_> {
    /// Only the lease and the kind; the stored message stays.
    fn bare(&self, kind: &'static str) -> SettleArgs {
        let limited = self.delivery.limited;
        SettleArgs { limited, ..SettleArgs::bare(self.delivery.lease.clone(), kind) }
    }

    /// A transition after which the job waits.
    fn waiting(&self, kind: &'static str) -> SettleArgs {
        SettleArgs { lock: self.archive_lock(), ..self.bare(kind) }
    }

    /// A transition that counts no attempt; `error` may be empty.
    fn uncounted(&self, kind: &'static str, error: &str) -> SettleArgs {
        if error.is_empty() {
            return self.waiting(kind);
        }
        let (msg, failure) = (self.failed_message(error), self.failure_line(error));
        SettleArgs { msg, failure, version: self.version(), ..self.waiting(kind) }
    }

    /// Keeps the completed job for its retention.
    fn complete(&self, result: Option<Vec<u8>>) -> SettleArgs {
        let mut job = self.delivery.job.clone();
        job.completed_at = Some(self.now);
        SettleArgs {
            msg: wire::encode(&job),
            time: job.retention,
            result,
            lock: own_lock(self.delivery),
            version: self.version(),
            ..self.bare("complete")
        }
    }

    /// Lets the job wait after a counted failure.
    fn retry(&self, after: Duration, error: &str) -> SettleArgs {
        let mut job = self.failed(error);
        job.retried = job.retried.saturating_add(1);
        let (msg, failure) = (wire::encode(&job), self.failure_line(error));
        let version = self.version();
        SettleArgs { msg, time: after, failure, version, ..self.waiting("retry") }
    }

    /// Archives the job with its last error. The unique lock stays unless the configuration
    /// says otherwise: the job may be run again.
    fn archive(&self, error: &str) -> SettleArgs {
        SettleArgs {
            msg: self.failed_message(error),
            lock: self.archive_lock(),
            failure: self.failure_line(error),
            version: self.version(),
            ..self.bare("archive")
        }
    }

    /// The job with its last error.
    fn failed(&self, error: &str) -> JobRecord {
        let mut job = self.delivery.job.clone();
        job.last_error = error.to_owned();
        job.last_failed_at = Some(self.now);
        job
    }

    /// The message with the last error.
    fn failed_message(&self, error: &str) -> Vec<u8> {
        wire::encode(&self.failed(error))
    }

    /// The line of the job's failure log.
    fn failure_line(&self, error: &str) -> Vec<u8> {
        JobFailure::of(&self.delivery.job, error, self.now, self.note).to_line()
    }

    /// The version that made the attempt.
    fn version(&self) -> String {
        self.note.version.as_ref().map(|version| version.as_str().to_owned()).unwrap_or_default()
    }

    /// The lock that archiving releases, if it releases any.
    fn archive_lock(&self) -> String {
        if self.release { own_lock(self.delivery) } else { String::new() }
    }
}

/// The job's lock, if it lies in the queue's own slot: no script may touch another.
fn own_lock(delivery: &Delivery) -> String {
    let key = &delivery.job.unique_key;
    if key.starts_with(&keys::prefix(&delivery.lease.queue)) { key.clone() } else { String::new() }
}
