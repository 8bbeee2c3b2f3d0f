//! The jobs this process holds, each with its lease, which the heartbeat renews
//! while a settlement wants to use it: the two take turns here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::broker::{Delivery, Extended, LEASE, Lease, Running};
use crate::job::{AfterCancel, CancelReason, Cancellation, JobId, JobRecord, QueueName};
use crate::time::Timestamp;

/// How long after its end an attempt may go on before it is warned of.
const STUCK: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    Free,
    Extending,
    Settling,
}

/// One job in hand.
pub(super) struct Hand {
    pub(super) job: Arc<JobRecord>,
    pub(super) started: Timestamp,
    pub(super) deadline: Timestamp,
    /// How the attempt learns that it is to end.
    pub(super) cancellation: Arc<Cancellation>,
    /// What an operator wants to become of the job, once one wants its end.
    wish: OnceLock<AfterCancel>,
    /// Its id was called out; what is wanted of it comes with the next extension.
    called: AtomicBool,
    /// Since when the heartbeat sees that the attempt is to end.
    ending: OnceLock<Instant>,
    /// The handler is gone, and its word is on its way.
    settling: AtomicBool,
    /// It was warned of.
    stuck: AtomicBool,
    lease: Mutex<(Lease, Turn, Instant)>,
    turn_over: Notify,
}

impl Hand {
    pub(super) fn new(
        delivery: &Delivery,
        started: Timestamp,
        deadline: Timestamp,
        cancellation: Arc<Cancellation>,
    ) -> Self {
        Self {
            job: Arc::new(delivery.job.clone()),
            started,
            deadline,
            cancellation,
            wish: OnceLock::new(),
            called: AtomicBool::new(false),
            ending: OnceLock::new(),
            settling: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            lease: Mutex::new((delivery.lease.clone(), Turn::Free, Instant::now() + LEASE)),
            turn_over: Notify::new(),
        }
    }

    fn lease(&self) -> MutexGuard<'_, (Lease, Turn, Instant)> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease as it is known now, for words that need no turn.
    pub(super) fn current(&self) -> Lease {
        self.lease().0.clone()
    }

    /// What an operator wants to become of the job.
    pub(super) fn wish(&self) -> Option<AfterCancel> {
        self.wish.get().copied()
    }

    fn end_as(&self, after: AfterCancel) {
        // The first wish stays: the attempt is ending already.
        let _ = self.wish.set(after);
        self.cancellation.cancel(CancelReason::Operator);
    }

    /// The lease, for a settlement; waits while an extension is under way.
    pub(super) async fn begin_settling(&self) -> Lease {
        self.settling.store(true, Ordering::Relaxed);
        loop {
            let over = self.turn_over.notified();
            {
                let mut lease = self.lease();
                if lease.1 == Turn::Free {
                    lease.1 = Turn::Settling;
                    return lease.0.clone();
                }
            }
            over.await;
        }
    }

    /// Gives the turn back after a settlement that has to be tried again.
    pub(super) fn pause_settling(&self) {
        self.lease().1 = Turn::Free;
    }

    /// The lease, for an extension, unless a settlement has the turn. A lease
    /// whose time is over here is lost: another worker may have the job. With
    /// whether the job was called out before: its wish comes with this answer.
    fn begin_extending(&self) -> Option<(Lease, bool)> {
        let mut lease = self.lease();
        if lease.1 != Turn::Free {
            return None;
        }
        if lease.2 <= Instant::now() {
            self.cancellation.cancel(CancelReason::LeaseLost);
            return None;
        }
        lease.1 = Turn::Extending;
        Some((lease.0.clone(), self.called.load(Ordering::Relaxed)))
    }

    fn end_extending(&self, extended: Extended, asked: Instant, called: bool) {
        {
            let mut lease = self.lease();
            lease.1 = Turn::Free;
            match extended {
                Extended::Renewed(renewed) => {
                    lease.0 = renewed;
                    lease.2 = asked + LEASE;
                    // Called out and no wish with the job: Asynq's own tools.
                    if called {
                        self.end_as(AfterCancel::Retry);
                    }
                }
                Extended::Cancelled(renewed, after) => {
                    lease.0 = renewed;
                    lease.2 = asked + LEASE;
                    self.end_as(after);
                }
                Extended::Lost => self.cancellation.cancel(CancelReason::LeaseLost),
                Extended::Unknown => {}
            }
        }
        self.turn_over.notify_one();
    }
}

type Key = (QueueName, JobId);

/// All jobs in hand, by queue and id: ids are unique within a queue only.
#[derive(Clone, Default)]
pub(super) struct Hands(Arc<Mutex<HashMap<Key, Arc<Hand>>>>);

impl Hands {
    fn all(&self) -> MutexGuard<'_, HashMap<Key, Arc<Hand>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a job in hand until the guard is dropped.
    pub(super) fn take(&self, hand: Arc<Hand>) -> InHand {
        let key = (hand.job.queue.clone(), hand.job.id.clone());
        self.all().insert(key, Arc::clone(&hand));
        InHand { hands: self.clone(), hand }
    }

    /// Somebody wants the jobs with this id cancelled. Whether that is news.
    pub(super) fn call(&self, id: &str) -> bool {
        let mut any = false;
        for hand in self.all().values().filter(|hand| hand.job.id.as_str() == id) {
            // Once is enough, however often it is called out.
            any |= !hand.called.swap(true, Ordering::Relaxed);
        }
        any
    }

    pub(super) fn len(&self) -> usize {
        self.all().len()
    }

    pub(super) fn running(&self) -> Vec<Running> {
        let all = self.all();
        all.values()
            .map(|hand| Running {
                job: Arc::clone(&hand.job),
                started: hand.started,
                deadline: hand.deadline,
            })
            .collect()
    }

    /// Tells attempts that their time is over. Their own tasks do so to the moment,
    /// but not while a handler keeps its thread. Warns of those that go on for long.
    pub(super) fn end_overdue(&self, now: Timestamp) {
        for hand in self.all().values() {
            if hand.deadline < now {
                hand.cancellation.cancel(CancelReason::TimedOut);
            }
            let Some(reason) = hand.cancellation.reason() else { continue };
            let ending = hand.ending.get_or_init(Instant::now).elapsed();
            let settling = hand.settling.load(Ordering::Relaxed);
            if ending >= STUCK && !settling && !hand.stuck.swap(true, Ordering::Relaxed) {
                let (job_type, id) = (&hand.job.job_type, &hand.job.id);
                tracing::warn!(
                    "job does not end: type={job_type:?} id={id:?} was to end ({reason:?}) more \
                     than {STUCK:?} ago; its handler blocks its thread, and its place stays taken"
                );
            }
        }
    }

    /// Begins an extension of every lease that is not being settled.
    pub(super) fn begin_extending(&self) -> Extension {
        let asked = Instant::now();
        let (mut hands, mut leases) = (Vec::new(), Vec::new());
        for hand in self.all().values() {
            if let Some((lease, called)) = hand.begin_extending() {
                hands.push((Arc::clone(hand), called));
                leases.push(lease);
            }
        }
        Extension { hands, leases, asked }
    }
}

/// A job in hand; dropping it lets it go.
pub(super) struct InHand {
    hands: Hands,
    hand: Arc<Hand>,
}

impl InHand {
    pub(super) fn hand(&self) -> &Arc<Hand> {
        &self.hand
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let key = (self.hand.job.queue.clone(), self.hand.job.id.clone());
        let mut all = self.hands.all();
        // A job that was lost may have been taken anew: the new hand is not ours.
        if all.get(&key).is_some_and(|held| Arc::ptr_eq(held, &self.hand)) {
            all.remove(&key);
        }
    }
}

/// An extension under way; dropping it unanswered leaves the leases as they were.
pub(super) struct Extension {
    /// Each with whether it was called out before the store was asked.
    hands: Vec<(Arc<Hand>, bool)>,
    pub(super) leases: Vec<Lease>,
    asked: Instant,
}

impl Extension {
    /// Takes in what the store said, one answer for each lease.
    pub(super) fn end(mut self, extended: Vec<Extended>) {
        for ((hand, called), lease) in self.hands.drain(..).zip(extended) {
            hand.end_extending(lease, self.asked, called);
        }
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        for (hand, called) in self.hands.drain(..) {
            hand.end_extending(Extended::Unknown, self.asked, called);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand() -> Arc<Hand> {
        let job = JobRecord::new("t", None, QueueName::new("default").unwrap());
        let (queue, id) = (job.queue.clone(), job.id.clone());
        let lease = Lease { queue, id, owner: Some(1), ends: 1 };
        let delivery = Delivery { job, lease, ready: None, losses: 0, cancel: None };
        let at = Timestamp::from_secs(1_000);
        let cancellation = Cancellation::below(&tokio_util::sync::CancellationToken::new());
        Arc::new(Hand::new(&delivery, at, at, Arc::new(cancellation)))
    }

    #[test]
    fn a_job_called_out_while_the_store_is_asked_ends_with_the_next_answer() {
        let (hands, hand) = (Hands::default(), hand());
        let _in_hand = hands.take(Arc::clone(&hand));
        let renewed = |extension: Extension| {
            let answer = extension.leases.iter().cloned().map(Extended::Renewed).collect();
            extension.end(answer);
        };

        let asked = hands.begin_extending();
        assert!(hands.call(hand.job.id.as_str()));
        renewed(asked);
        assert_eq!(hand.wish(), None, "its wish may have come after the answer");

        renewed(hands.begin_extending());
        assert_eq!(hand.wish(), Some(AfterCancel::Retry));
    }
}
