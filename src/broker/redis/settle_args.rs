//! What the settle script is told about one job: a pure function of the delivery
//! and the decision.

use std::time::Duration;

use super::{keys, wire};
use crate::broker::{Delivery, JobFailure, Lease};
use crate::job::{JobRecord, Transition};
use crate::time::Timestamp;

/// One job's part of a settle call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SettleArgs {
    pub lease: Lease,
    pub kind: &'static str,
    /// The new message; empty to keep the old one.
    pub msg: Vec<u8>,
    /// The delay or the retention.
    pub time: Duration,
    pub result: Option<Vec<u8>>,
    /// The unique lock to release; empty if none. Where the job would wait: the one
    /// that archiving it, as an operator may want meanwhile, releases.
    pub lock: String,
    /// How the attempt failed, as a line for the job's log; empty where it did not.
    pub failure: Vec<u8>,
}

impl SettleArgs {
    /// The step that carries out `transition`, with `now` in the message.
    /// `release` is whether archiving releases the unique lock.
    pub fn new(
        delivery: &Delivery,
        transition: &Transition,
        now: Timestamp,
        release: bool,
    ) -> Self {
        let job = &delivery.job;
        let step = |kind| Self {
            lease: delivery.lease.clone(),
            kind,
            msg: Vec::new(),
            time: Duration::ZERO,
            result: None,
            lock: String::new(),
            failure: Vec::new(),
        };
        let archived = || if release { own_lock(delivery) } else { String::new() };
        let waits = |kind| Self { lock: archived(), ..step(kind) };
        let line = |error: &str| JobFailure::of(job, error, now).to_line();
        let failed = |error: &str| {
            let mut job = job.clone();
            job.last_error = error.to_owned();
            job.last_failed_at = Some(now);
            job
        };
        match transition {
            Transition::Complete { result } if job.retention > Duration::ZERO => {
                let mut done = job.clone();
                done.completed_at = Some(now);
                Self {
                    msg: wire::encode(&done),
                    time: job.retention,
                    result: result.clone(),
                    lock: own_lock(delivery),
                    ..step("complete")
                }
            }
            Transition::Complete { .. } | Transition::Revoke => {
                Self { lock: own_lock(delivery), ..step("delete") }
            }
            Transition::Retry { after, error, counted: true } => {
                let mut job = failed(error);
                job.retried = job.retried.saturating_add(1);
                let failure = line(error);
                Self { msg: wire::encode(&job), time: *after, failure, ..waits("retry") }
            }
            // A snooze is no failure: what is known of the last one stays.
            Transition::Retry { after, error, counted: false } if error.is_empty() => {
                Self { time: *after, ..waits("snooze") }
            }
            Transition::Retry { after, error, counted: false } => {
                let failure = line(error);
                Self { msg: encoded(failed(error)), time: *after, failure, ..waits("snooze") }
            }
            Transition::Archive { error } => {
                let (lock, failure) = (archived(), line(error));
                Self { msg: encoded(failed(error)), lock, failure, ..step("archive") }
            }
            Transition::Requeue => waits("requeue"),
            // The losses stay as they are.
            Transition::PutBack { after, error } => {
                let put_back = waits(if after.is_zero() { "restore" } else { "defer" });
                let put_back = Self { time: *after, ..put_back };
                match error.is_empty() {
                    true => put_back,
                    false => Self { msg: encoded(failed(error)), failure: line(error), ..put_back },
                }
            }
            Transition::Reclaim { error } => {
                Self { msg: encoded(failed(error)), failure: line(error), ..waits("reclaim") }
            }
        }
    }

    /// Archives a job whose message cannot be read, with its bytes as they are.
    pub fn quarantine(lease: Lease) -> Self {
        Self {
            lease,
            kind: "archive",
            msg: Vec::new(),
            time: Duration::ZERO,
            result: None,
            lock: String::new(),
            failure: Vec::new(),
        }
    }

    /// Whether nothing is to be done but to remove the job, whose owner is known.
    pub fn is_simple(&self) -> bool {
        self.kind == "delete" && self.lock.is_empty() && self.lease.owner.is_some()
    }

    /// When it waits for another attempt: how long.
    pub fn waits(&self) -> Option<Duration> {
        matches!(self.kind, "retry" | "snooze" | "defer").then_some(self.time)
    }
}

fn encoded(job: JobRecord) -> Vec<u8> {
    wire::encode(&job)
}

/// The job's lock, if it lies in the queue's own slot: no script may touch another.
fn own_lock(delivery: &Delivery) -> String {
    let key = &delivery.job.unique_key;
    if key.starts_with(&keys::prefix(&delivery.lease.queue)) { key.clone() } else { String::new() }
}
