//! Operations whose reply was lost. They may have been executed, so a retry must be
//! recognised as the same operation, not as a stale owner.
//!
//! [`UnconfirmedSettles`] remembers leases whose settlement got no reply. If the
//! retry then finds the lease gone, the first attempt most likely succeeded, and
//! the job counts as settled. [`UnconfirmedDequeues`] remembers dequeue calls that
//! got no reply. The next dequeue from that queue names their owners, and the
//! script returns the jobs they claimed, so that no job waits for its lease to run
//! out. [`FailingQueues`] only keeps the log quiet: it reports a refusing queue
//! once, and once more when it serves again.
//!
//! All of it lives in memory and is shared by the connections of one process. A
//! process that dies leaves its claimed jobs to the recoverer.
//!
//! What may surprise. An entry is dropped by time, not by count: a settlement can
//! succeed as long as its lease may be extended, twice [`LEASE`] after its end; a
//! dequeue can run until the deadline sent with it, [`DEQUEUE_VALID_FOR`] plus a
//! second for the difference between the two clocks.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::broker::{LEASE, Lease};
use crate::error::Error;
use crate::job::{JobId, QueueName};
use crate::sync::lock;
use crate::time::Timestamp;

/// How long a dequeue may wait before Redis runs it: a little longer than its caller waits
/// for the reply, to allow for the difference between the two clocks.
pub(super) const DEQUEUE_VALID_FOR: Duration = Duration::from_secs(4);

/// How long after its end a lease is remembered: an extension may have added [`LEASE`] to
/// it, and a settlement is repeated no longer than that.
const SETTLE_REMEMBERED_FOR: Duration = Duration::from_secs(2 * LEASE.as_secs());

/// Redis runs no dequeue later than this after it was sent: its own limit, and a second
/// for the difference between the two clocks.
const DEQUEUE_RUNS_WITHIN: Duration = Duration::from_secs(DEQUEUE_VALID_FOR.as_secs() + 1);

/// Maximum unconfirmed dequeues of a queue that are remembered.
const MAX_UNCONFIRMED_DEQUEUES: usize = 8;

/// Leases whose settlement got no reply, each with its end.
#[derive(Default)]
pub(super) struct UnconfirmedSettles(Mutex<HashMap<LeaseKey, i64>>);

/// What identifies a lease for as long as it is extended.
type LeaseKey = (QueueName, JobId, Fence);

/// What a script compares to distinguish a lease from a later one of the same job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Fence {
    /// The number of the dequeue that made the lease; it survives extensions.
    Owner(u64),
    /// A lease that was found expired has no known owner: its end, in microseconds.
    EndsAt(i64),
}

impl UnconfirmedSettles {
    /// These settlements got no reply. Forgets leases that ended long before `now`.
    pub(super) fn add<'a>(&self, leases: impl IntoIterator<Item = &'a Lease>, now: Timestamp) {
        let oldest = (now - SETTLE_REMEMBERED_FOR).as_micros();
        let mut unconfirmed = lock(&self.0);
        unconfirmed.retain(|_, ends| *ends >= oldest);
        unconfirmed.extend(leases.into_iter().map(|lease| (lease_key(lease), lease.ends)));
    }

    /// A reply came for this lease. Whether an earlier settlement of it is unconfirmed.
    pub(super) fn remove(&self, lease: &Lease) -> bool {
        let mut unconfirmed = lock(&self.0);
        !unconfirmed.is_empty() && unconfirmed.remove(&lease_key(lease)).is_some()
    }
}

/// The identity of a lease.
fn lease_key(lease: &Lease) -> LeaseKey {
    let fence = lease.owner.map_or(Fence::EndsAt(lease.ends), Fence::Owner);
    (lease.queue.clone(), lease.id.clone(), fence)
}

/// Dequeues without a reply, by queue: the owner of their leases, and when each was sent.
#[derive(Default)]
pub(super) struct UnconfirmedDequeues(Mutex<HashMap<QueueName, Vec<(u64, Instant)>>>);

impl UnconfirmedDequeues {
    /// This dequeue got no reply.
    pub(super) fn add(&self, queue: &QueueName, owner: u64) {
        let mut unconfirmed_dequeues = lock(&self.0);
        let of_queue = unconfirmed_dequeues.entry(queue.clone()).or_default();
        if of_queue.len() == MAX_UNCONFIRMED_DEQUEUES {
            of_queue.remove(0);
        }
        of_queue.push((owner, Instant::now()));
    }

    /// The owners whose jobs the next dequeue asks for, between spaces. A dequeue whose
    /// leases have run out is left to the recoverer.
    pub(super) fn earlier(&self, queue: &QueueName) -> String {
        let mut unconfirmed_dequeues = lock(&self.0);
        let Some(of_queue) = unconfirmed_dequeues.get_mut(queue) else { return String::new() };
        of_queue.retain(|(_, since)| since.elapsed() < LEASE);
        if of_queue.is_empty() {
            unconfirmed_dequeues.remove(queue);
            return String::new();
        }
        let owners: Vec<String> = of_queue.iter().map(|(owner, _)| owner.to_string()).collect();
        owners.join(" ")
    }

    /// A dequeue sent at `asked` returned all of their jobs. Forgets those that Redis
    /// cannot run any more; the others may still claim jobs.
    pub(super) fn answered(&self, queue: &QueueName, asked: Instant) {
        if let Some(of_queue) = lock(&self.0).get_mut(queue) {
            of_queue.retain(|(_, since)| *since + DEQUEUE_RUNS_WITHIN > asked);
        }
    }
}

/// Queues from which jobs cannot be dequeued; each is logged once until it serves again.
#[derive(Default)]
pub(super) struct FailingQueues(Mutex<HashSet<QueueName>>);

impl FailingQueues {
    /// Whether no queue fails.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Jobs of this queue could not be dequeued.
    pub(super) fn note(&self, queue: &QueueName, error: &Error) {
        // The pool reports an unreachable store.
        if error.is_refused() && lock(&self.0).insert(queue.clone()) {
            crate::log::warn!(%queue, ?error, "cannot dequeue from a queue; the others are served");
        }
    }

    /// Jobs of this queue could be dequeued.
    pub(super) fn over(&self, queue: &QueueName) {
        let mut failing = lock(&self.0);
        if !failing.is_empty() && failing.remove(queue) {
            crate::log::info!(%queue, "dequeuing from the queue again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_that_ended_long_ago_are_forgotten() {
        let lease = |secs| Lease {
            queue: QueueName::stored("q"),
            id: JobId::stored("a"),
            owner: None,
            ends: Timestamp::from_secs(secs).as_micros(),
        };
        let unconfirmed = UnconfirmedSettles::default();
        unconfirmed.add(&[lease(100), lease(170)], Timestamp::from_secs(150));
        unconfirmed.add(&[], Timestamp::from_secs(200));
        assert!(!unconfirmed.remove(&lease(100)));
        assert!(unconfirmed.remove(&lease(170)) && !unconfirmed.remove(&lease(170)));
    }

    #[test]
    fn a_dequeue_is_asked_about_until_redis_cannot_run_it_any_more() {
        let queue = QueueName::stored("q");
        let unconfirmed_dequeues = UnconfirmedDequeues::default();
        unconfirmed_dequeues.add(&queue, 7);
        unconfirmed_dequeues.add(&queue, 8);
        let now = Instant::now();
        assert_eq!(unconfirmed_dequeues.earlier(&queue), "7 8");
        unconfirmed_dequeues.answered(&queue, now);
        assert_eq!(unconfirmed_dequeues.earlier(&queue), "7 8", "it may still be run");
        unconfirmed_dequeues.answered(&queue, now + DEQUEUE_RUNS_WITHIN + DEQUEUE_RUNS_WITHIN);
        assert_eq!(unconfirmed_dequeues.earlier(&queue), "");
    }
}
