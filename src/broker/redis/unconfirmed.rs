//! What was sent and not answered: it may have been carried out, and whoever asks
//! again is not to be treated as a stranger.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::DEQUEUE_VALID_FOR;
use crate::broker::{LEASE, Lease};
use crate::error::Error;
use crate::job::{JobId, QueueName};
use crate::time::Timestamp;

/// How long after its end a lease is remembered: its extension may have given it
/// [`LEASE`] more, and a settlement is repeated no longer than that.
const REMEMBERED: Duration = Duration::from_secs(2 * LEASE.as_secs());

/// A server runs no taking later than this after it was sent: the limit that goes
/// with it, and what the two clocks differ.
const RUN_BY: Duration = Duration::from_secs(DEQUEUE_VALID_FOR.as_secs() + 1);

/// Most takings that are asked about at once.
const MAX_UNCONFIRMED_DEQUEUES: usize = 8;

/// Leases whose job's settlement was sent and not answered.
#[derive(Default)]
pub(super) struct UnconfirmedSettles(Mutex<HashMap<LeaseKey, i64>>);

/// What identifies a lease for as long as it is extended.
type LeaseKey = (QueueName, JobId, Fence);

/// What a script compares to tell a lease from a later one of the same job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Fence {
    /// The number of the dequeue that made the lease; it survives extensions.
    Owner(u64),
    /// A lease that was found expired has no known owner: its end, in microseconds.
    EndsAt(i64),
}

impl UnconfirmedSettles {
    /// Nothing was heard of these. Forgets those that ended long before `now`.
    pub fn add<'a>(&self, leases: impl IntoIterator<Item = &'a Lease>, now: Timestamp) {
        let oldest = (now - REMEMBERED).as_micros();
        let mut unconfirmed = locked(&self.0);
        unconfirmed.retain(|_, ends| *ends >= oldest);
        unconfirmed.extend(leases.into_iter().map(|lease| (lease_key(lease), lease.ends)));
    }

    /// An answer came. Whether it was one of them.
    pub fn remove(&self, lease: &Lease) -> bool {
        let mut unconfirmed = locked(&self.0);
        !unconfirmed.is_empty() && unconfirmed.remove(&lease_key(lease)).is_some()
    }
}

fn lease_key(lease: &Lease) -> LeaseKey {
    let fence = lease.owner.map_or(Fence::EndsAt(lease.ends), Fence::Owner);
    (lease.queue.clone(), lease.id.clone(), fence)
}

/// Takings of jobs without an answer, by queue: their owners, and when each was
/// asked.
#[derive(Default)]
pub(super) struct UnconfirmedDequeues(Mutex<HashMap<QueueName, Vec<(u64, Instant)>>>);

impl UnconfirmedDequeues {
    /// Nothing was heard of this taking.
    pub fn add(&self, queue: &QueueName, owner: u64) {
        let mut unconfirmed_dequeues = locked(&self.0);
        let of_queue = unconfirmed_dequeues.entry(queue.clone()).or_default();
        if of_queue.len() == MAX_UNCONFIRMED_DEQUEUES {
            of_queue.remove(0);
        }
        of_queue.push((owner, Instant::now()));
    }

    /// The owners to ask about, between spaces. Whom the lease has left already
    /// is the recoverer's.
    pub fn earlier(&self, queue: &QueueName) -> String {
        let mut unconfirmed_dequeues = locked(&self.0);
        let Some(of_queue) = unconfirmed_dequeues.get_mut(queue) else { return String::new() };
        of_queue.retain(|(_, since)| since.elapsed() < LEASE);
        if of_queue.is_empty() {
            unconfirmed_dequeues.remove(queue);
            return String::new();
        }
        let owners: Vec<String> = of_queue.iter().map(|(owner, _)| owner.to_string()).collect();
        owners.join(" ")
    }

    /// All their jobs were given to a call of `asked`, and nothing is given for
    /// those which the server cannot run any more.
    pub fn answered(&self, queue: &QueueName, asked: Instant) {
        if let Some(of_queue) = locked(&self.0).get_mut(queue) {
            of_queue.retain(|(_, since)| *since + RUN_BY > asked);
        }
    }
}

/// Queues that fail, each told of once until it serves again.
#[derive(Default)]
pub(super) struct Failing(Mutex<HashSet<QueueName>>);

impl Failing {
    /// Whether all queues serve.
    pub fn is_empty(&self) -> bool {
        locked(&self.0).is_empty()
    }

    /// Jobs of this queue could not be taken.
    pub fn note(&self, queue: &QueueName, error: &Error) {
        // That the store is away is said where its connections are kept.
        if error.is_refused() && locked(&self.0).insert(queue.clone()) {
            crate::log::warn!(%queue, ?error, "a queue gives no jobs; the others are served");
        }
    }

    /// This queue serves.
    pub fn over(&self, queue: &QueueName) {
        let mut failing = locked(&self.0);
        if !failing.is_empty() && failing.remove(queue) {
            crate::log::info!(%queue, "the queue gives jobs again");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_long_ago_is_forgotten() {
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
    fn a_taking_is_asked_about_until_the_server_cannot_run_it_any_more() {
        let queue = QueueName::stored("q");
        let unconfirmed_dequeues = UnconfirmedDequeues::default();
        unconfirmed_dequeues.add(&queue, 7);
        unconfirmed_dequeues.add(&queue, 8);
        let now = Instant::now();
        assert_eq!(unconfirmed_dequeues.earlier(&queue), "7 8");
        unconfirmed_dequeues.answered(&queue, now);
        assert_eq!(unconfirmed_dequeues.earlier(&queue), "7 8", "it may still be run");
        unconfirmed_dequeues.answered(&queue, now + RUN_BY + RUN_BY);
        assert_eq!(unconfirmed_dequeues.earlier(&queue), "");
    }
}
