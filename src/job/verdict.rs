//! What the queue will do about what happened to an attempt: [`decide`] makes a [`Transition`] from
//! an [`Outcome`]. No other file decides this. It is a pure function, and the table of its tests is
//! the policy.
//!
//! Some ends count no attempt, because the job is not to blame: a snooze, a shutdown, a job that
//! was dequeued and not started, an error that the handler marks as uncounted, and a job that this
//! process cannot run (no handler, or a payload that it cannot decode). The last is *parked*: it
//! waits 15 s and is offered again, in case another version of the application knows it. Some
//! failures are final at once: the handler gave up, or the deadline has passed. All others count,
//! and are tried again until the retries are used up.
//!
//! *Losses.* A job whose worker vanishes may be the cause: it may exhaust the memory or abort
//! the process. Run again and again, it would kill one worker after another. So a vanished
//! worker is a loss for each job that was in flight there. From [`SUSPECT_LOSSES`] on, a job is
//! a suspect. A process starts suspects one at a time and tells the store before: if it
//! vanishes then, the loss of that suspect is proven, and the other jobs are cleared of theirs.
//! After [`POISON_LOSSES`] with the last one proven, or [`UNPROVEN_LOSSES`] without any proof,
//! the job is archived. An attempt that ends in any ordinary way clears the losses: the worker
//! survived it.

use std::time::Duration;

use super::outcome::CANCELLED;
use super::{
    AfterCancel, Charge, JobError, JobRecord, Outcome, RetryPolicy, Transition, UnknownJobs,
};
use crate::chance::Chance;
use crate::job::error::Reason;
use crate::time::Timestamp;

/// The text that Asynq records for a job whose worker vanished.
pub(super) const LEASE_EXPIRED: &str = "asynq: task lease expired";

/// Losses of its worker from which on a job is a suspect: a process runs one of these at
/// a time, so that the next death says which job caused it.
const SUSPECT_LOSSES: u32 = 2;

/// Losses after which a job is taken for the cause, the last one being proven.
const POISON_LOSSES: u32 = 3;

/// The same if no loss is ever proven: its workers are not ours, or they died while several
/// long-running jobs were in flight.
const UNPROVEN_LOSSES: u32 = 2 * POISON_LOSSES;

/// Whether a job with this number of losses is a suspect.
pub(crate) fn is_suspect(losses: u32) -> bool {
    losses >= SUSPECT_LOSSES
}

/// How long a job that this process cannot run waits until it is offered again.
const PARKED_FOR: Duration = Duration::from_secs(15);

/// How long an undecodable job is parked at most before it is archived.
const UNDECODABLE_FOR: Duration = Duration::from_secs(60 * 60);

/// The beginning of the last error of a parked undecodable job, followed by the instant since when
/// it is parked. Every store keeps this text, and so a restart forgets nothing.
const UNDECODABLE_SINCE: &str = "undecodable since ";

/// Decides the transition of `job` after `outcome`, at the instant `now`.
///
/// `policy` is asked only if the job is tried again and its error names no instant; it draws from
/// `chance`. A job with `max_retry` 0 is archived at its first failure. The same inputs always
/// give the same transition, except for what is left to chance.
pub fn decide(
    job: &JobRecord,
    outcome: Outcome,
    policy: &RetryPolicy,
    now: Timestamp,
    chance: &Chance,
) -> Transition {
    let failed = |error: String, after: Option<Duration>| {
        if job.retried >= job.max_retry {
            Transition::Archive { error }
        } else {
            let after = after.unwrap_or_else(|| policy.drawn_delay(job.retried, chance));
            Transition::Retry { after, error, counted: true }
        }
    };
    match outcome {
        Outcome::Done(result) => Transition::Complete { result },
        Outcome::Failed(JobError(reason)) => match reason {
            Reason::Failed { text, again, counted: true } => {
                failed(text, again.map(|when| when.after(now)))
            }
            Reason::Failed { text, again, counted: false } => {
                let after = again.map(|when| when.after(now));
                let after = after.unwrap_or_else(|| policy.drawn_delay(job.retried, chance));
                Transition::Retry { after, error: text, counted: false }
            }
            Reason::GiveUp(error) => Transition::Archive { error },
            Reason::Undecodable(text) => failed(text, None),
            Reason::Revoke => Transition::Revoke,
            Reason::Snooze(when) => {
                Transition::Retry { after: when.after(now), error: String::new(), counted: false }
            }
        },
        Outcome::Panicked(message) => failed(format!("panic: {message}"), None),
        Outcome::TimedOut => failed("context deadline exceeded".to_owned(), None),
        // Another attempt could only find the deadline passed again.
        Outcome::DeadlinePassed => Transition::Archive { error: "deadline passed".to_owned() },
        // A rolling deploy: another process, or the next version, knows the type.
        Outcome::Unknown(UnknownJobs::Archive) => Transition::Archive { error: no_handler(job) },
        Outcome::Unknown(UnknownJobs::Park) => {
            Transition::Retry { after: PARKED_FOR, error: no_handler(job), counted: false }
        }
        Outcome::Undecodable(text) => undecodable(job, &text, now),
        Outcome::Interrupted => Transition::Requeue,
        Outcome::Cancelled(AfterCancel::Retry) => failed(CANCELLED.to_owned(), None),
        Outcome::Cancelled(AfterCancel::Archive) => {
            Transition::Archive { error: CANCELLED.to_owned() }
        }
        Outcome::Cancelled(AfterCancel::Delete) => Transition::Revoke,
        Outcome::LeaseLost { losses, charge } => lease_lost(losses.saturating_add(1), charge),
        Outcome::NotStarted(after) => Transition::PutBack { after, error: String::new() },
    }
}

/// Parks a job that cannot be decoded, or archives it when it has been parked for an hour.
fn undecodable(job: &JobRecord, text: &str, now: Timestamp) -> Transition {
    let parked = job.last_error.strip_prefix(UNDECODABLE_SINCE);
    let since = parked.and_then(|parked| Timestamp::parse(parked.split_once(": ")?.0));
    // A clock that was set back would otherwise park the job until it is right again.
    let since = since.filter(|since| *since <= now).unwrap_or(now);
    if now.since(since) >= UNDECODABLE_FOR {
        return Transition::Archive { error: format!("undecodable for an hour: {text}") };
    }
    let error = format!("{UNDECODABLE_SINCE}{since}: {text}");
    Transition::Retry { after: PARKED_FOR, error, counted: false }
}

/// Why a job is parked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parked<'a> {
    /// There was no handler for its type.
    NoHandler,
    /// Its payload could not be decoded.
    Undecodable {
        /// Since when.
        since: Timestamp,
        /// What was expected and what was found.
        text: &'a str,
    },
}

/// Why a job that waits for a retry with this last error is parked; `None` if it is not. Every
/// store keeps that text.
pub(crate) fn parked<'a>(job: &JobRecord, last_error: &'a str) -> Option<Parked<'a>> {
    if last_error == no_handler(job) {
        return Some(Parked::NoHandler);
    }
    let (since, text) = last_error.strip_prefix(UNDECODABLE_SINCE)?.split_once(": ")?;
    Some(Parked::Undecodable { since: Timestamp::parse(since)?, text })
}

/// What happens to a job at its n-th loss: archived if that is enough for its charge, else
/// pending again. A cleared loss is not counted at all.
fn lease_lost(losses: u32, charge: Charge) -> Transition {
    let most = match charge {
        Charge::Possible => UNPROVEN_LOSSES,
        Charge::Proven => POISON_LOSSES,
        Charge::Cleared => {
            return Transition::PutBack { after: Duration::ZERO, error: LEASE_EXPIRED.to_owned() };
        }
    };
    if losses < most {
        return Transition::Reclaim { error: LEASE_EXPIRED.to_owned() };
    }
    Transition::Archive { error: format!("{LEASE_EXPIRED}: its worker vanished {losses} times") }
}

/// The last error of a job without a handler. [`parked`] recognises it, so it must not change.
fn no_handler(job: &JobRecord) -> String {
    format!("no handler for job type {:?} in this worker", job.job_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::QueueName;

    fn job(retried: u32, max_retry: u32) -> JobRecord {
        let mut job = JobRecord::new("t", None, QueueName::new("default").unwrap());
        job.retried = retried;
        job.max_retry = max_retry;
        job
    }

    fn failed(text: &str) -> Outcome {
        Outcome::Failed(JobError::failed(text))
    }

    fn archive(text: &str) -> Transition {
        Transition::Archive { error: text.to_owned() }
    }

    fn retry(secs: u64, text: &str, counted: bool) -> Transition {
        Transition::Retry { after: Duration::from_secs(secs), error: text.to_owned(), counted }
    }

    fn lost(losses: u32, charge: Charge) -> Outcome {
        Outcome::LeaseLost { losses, charge }
    }

    fn reclaim() -> Transition {
        Transition::Reclaim { error: LEASE_EXPIRED.to_owned() }
    }

    fn put_back(secs: u64, text: &str) -> Transition {
        Transition::PutBack { after: Duration::from_secs(secs), error: text.to_owned() }
    }

    #[test]
    fn every_outcome_has_its_transition() {
        let policy = RetryPolicy::new(|retried| Duration::from_secs(100 + u64::from(retried)));
        let snooze = Outcome::Failed(JobError::snooze(Duration::from_secs(7)));
        let now = Timestamp::from_secs(1_000);
        let hinted = || Outcome::Failed(JobError::retry_in(Duration::from_secs(9), "later"));
        let at = |secs| Outcome::Failed(JobError::retry_at(Timestamp::from_secs(secs), "then"));
        let until = |secs| Outcome::Failed(JobError::snooze_until(Timestamp::from_secs(secs)));
        let uncounted = |error: JobError| Outcome::Failed(error.uncounted());
        let table = [
            // outcome, retried, max, expected
            (Outcome::Done(None), 0, 25, Transition::Complete { result: None }),
            (failed("smtp is down"), 3, 25, retry(103, "smtp is down", true)),
            (failed("smtp is down"), 25, 25, archive("smtp is down")),
            (failed("smtp is down"), 0, 0, archive("smtp is down")),
            (hinted(), 0, 1, retry(9, "later", true)),
            (hinted(), 1, 1, archive("later")),
            (at(1_060), 0, 1, retry(60, "then", true)),
            (at(900), 0, 1, retry(0, "then", true)),
            (at(1_060), 1, 1, archive("then")),
            (uncounted(JobError::failed("busy")), 25, 25, retry(125, "busy", false)),
            (
                uncounted(JobError::retry_in(Duration::from_secs(9), "x")),
                0,
                0,
                retry(9, "x", false),
            ),
            (uncounted(JobError::give_up("bad")), 0, 25, archive("bad")),
            (until(1_030), 25, 25, retry(30, "", false)),
            (until(1), 25, 25, retry(0, "", false)),
            (Outcome::Failed(JobError::give_up("bad address")), 0, 25, archive("bad address")),
            (Outcome::Failed(JobError::revoke()), 0, 25, Transition::Revoke),
            (snooze, 25, 25, retry(7, "", false)),
            (Outcome::Panicked("oh".into()), 0, 1, retry(100, "panic: oh", true)),
            (Outcome::Panicked("oh".into()), 1, 1, archive("panic: oh")),
            (Outcome::TimedOut, 0, 1, retry(100, "context deadline exceeded", true)),
            (Outcome::DeadlinePassed, 0, 25, archive("deadline passed")),
            (Outcome::Interrupted, 25, 25, Transition::Requeue),
            (Outcome::Cancelled(AfterCancel::Retry), 0, 1, retry(100, "context canceled", true)),
            (Outcome::Cancelled(AfterCancel::Retry), 1, 1, archive("context canceled")),
            (Outcome::Cancelled(AfterCancel::Archive), 0, 25, archive("context canceled")),
            (Outcome::Cancelled(AfterCancel::Delete), 0, 25, Transition::Revoke),
            (lost(0, Charge::Possible), 0, 0, reclaim()),
            (lost(1, Charge::Possible), 0, 0, reclaim()),
            (lost(2, Charge::Possible), 0, 0, reclaim()),
            (lost(1, Charge::Proven), 0, 0, reclaim()),
            (
                lost(2, Charge::Proven),
                0,
                25,
                archive("asynq: task lease expired: its worker vanished 3 times"),
            ),
            (
                lost(5, Charge::Possible),
                0,
                25,
                archive("asynq: task lease expired: its worker vanished 6 times"),
            ),
            (lost(9, Charge::Cleared), 0, 0, put_back(0, LEASE_EXPIRED)),
            (Outcome::NotStarted(Duration::from_secs(5)), 0, 0, put_back(5, "")),
            (
                Outcome::Unknown(UnknownJobs::Park),
                25,
                25,
                retry(15, "no handler for job type \"t\" in this worker", false),
            ),
            (
                Outcome::Undecodable("expected a, found b".to_owned()),
                25,
                25,
                retry(15, &format!("undecodable since {now}: expected a, found b"), false),
            ),
            (Outcome::Failed(JobError::undecodable("bad")), 25, 25, archive("bad")),
            (
                Outcome::Unknown(UnknownJobs::Archive),
                0,
                25,
                archive("no handler for job type \"t\" in this worker"),
            ),
        ];
        for (outcome, retried, max, expected) in table {
            let label = format!("{outcome:?} at {retried} of {max}");
            assert_eq!(
                decide(&job(retried, max), outcome, &policy, now, &Chance::none()),
                expected,
                "{label}"
            );
        }
    }

    #[test]
    fn an_undecodable_job_is_parked_for_an_hour_and_then_archived() {
        let (mut job, policy) = (job(0, 25), RetryPolicy::default());
        let start = Timestamp::from_micros(1_000_000_007);
        let at = |job: &JobRecord, minutes: u64| {
            let now = start + Duration::from_secs(60 * minutes);
            decide(
                job,
                Outcome::Undecodable("found 1: x".to_owned()),
                &policy,
                now,
                &Chance::none(),
            )
        };
        let parked = at(&job, 0);
        job.last_error = parked.error().unwrap().to_owned();
        assert_eq!(at(&job, 59), parked, "the instant of the beginning is kept");
        assert_eq!(at(&job, 60), archive("undecodable for an hour: found 1: x"));
        // An operator who runs it again gives it another hour.
        job.last_error = at(&job, 60).error().unwrap().to_owned();
        assert!(matches!(at(&job, 61), Transition::Retry { counted: false, .. }));
        // The clock was set back by a day.
        job.last_error = format!("{UNDECODABLE_SINCE}{}: x", start + Duration::from_secs(86_400));
        assert_eq!(at(&job, 0), parked);
    }

    #[test]
    fn why_a_job_is_parked_is_recognised_by_its_error() {
        let (job, now) = (job(0, 25), Timestamp::from_micros(1_000_000_007));
        let error = |outcome| {
            let transition = decide(&job, outcome, &RetryPolicy::default(), now, &Chance::none());
            transition.error().unwrap().to_owned()
        };
        let no_handler = error(Outcome::Unknown(UnknownJobs::Park));
        assert_eq!(parked(&job, &no_handler), Some(Parked::NoHandler));
        let undecodable = error(Outcome::Undecodable("expected 1: x".to_owned()));
        let expected = Parked::Undecodable { since: now, text: "expected 1: x" };
        assert_eq!(parked(&job, &undecodable), Some(expected));
        assert_eq!(parked(&job, &error(failed("no handler"))), None);
    }
}
