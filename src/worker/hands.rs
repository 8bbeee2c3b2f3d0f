//! The jobs in flight in this process, by queue and id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::hand::{Again, Hand};
use crate::broker::{Delivery, Extended, Lease, Running};
use crate::job::{JobId, QueueName};

type Key = (QueueName, JobId);

/// All jobs in flight: ids are unique within a queue only.
#[derive(Clone, Default)]
pub(super) struct Hands(Arc<Mutex<HashMap<Key, Arc<Hand>>>>);

/// A delivery in flight here, with its slot.
pub(super) struct Accepted {
    pub(super) delivery: Delivery,
    pub(super) in_hand: InHand,
    pub(super) permit: OwnedSemaphorePermit,
}

/// A delivery that is not started here.
pub(super) struct GivenBack {
    pub(super) hand: Arc<Hand>,
    delivered: Instant,
    pub(super) delivery: Delivery,
}

impl Accepted {
    /// Nothing is waited for any more before it starts.
    pub(super) fn ready(self) -> Self {
        self.in_hand.hand().ready();
        self
    }
}

impl Hands {
    fn all(&self) -> MutexGuard<'_, HashMap<Key, Arc<Hand>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a delivery, whose lease holds until then. Nothing where the job was in
    /// flight already and goes on under the new lease, or will be started when it is
    /// known how its last attempt was settled; a slot that is not needed is given back.
    pub(super) fn accept(
        &self,
        delivery: Delivery,
        holds_until: Instant,
        permit: OwnedSemaphorePermit,
        interrupt: &CancellationToken,
    ) -> Option<Accepted> {
        let (in_hand, before) = self.insert(&delivery, holds_until, interrupt)?;
        let accepted = Accepted { delivery, in_hand, permit };
        match before {
            Some(before) => before.keep_next(accepted),
            None => Some(accepted),
        }
    }

    /// As [`accept`](Self::accept), for who runs one job after another.
    pub(super) fn accept_alone(
        &self,
        delivery: &Delivery,
        holds_until: Instant,
        interrupt: &CancellationToken,
    ) -> Option<InHand> {
        self.insert(delivery, holds_until, interrupt).map(|(in_hand, _)| in_hand)
    }

    /// With the same job whose settlement is under way.
    fn insert(
        &self,
        delivery: &Delivery,
        holds_until: Instant,
        interrupt: &CancellationToken,
    ) -> Option<(InHand, Option<Arc<Hand>>)> {
        let hand = Arc::new(Hand::new(delivery, holds_until, interrupt));
        let key = (hand.job.queue.clone(), hand.job.id.clone());
        let mut all = self.all();
        let mut before = None;
        if let Some(known) = all.get(&key) {
            match known.deliver_again(delivery, holds_until) {
                Again::TakenOver => {
                    let id = &hand.job.id;
                    crate::log::info!("lease was lost and is ours again: id={id:?} goes on");
                    return None;
                }
                Again::Behind => before = Some(Arc::clone(known)),
                Again::New => {}
            }
        }
        all.insert(key, Arc::clone(&hand));
        Some((InHand { hands: self.clone(), hand }, before))
    }

    /// Deliveries that have waited for their start since before then, the latest first:
    /// in this order each goes back in front of those that came after it.
    /// Suspects among them only where this is said.
    pub(super) fn give_back(&self, delivered_before: Instant, suspects: bool) -> Vec<GivenBack> {
        let back = |hand: &Arc<Hand>| {
            let (delivered, delivery) = hand.give_back(delivered_before, suspects)?;
            Some(GivenBack { hand: Arc::clone(hand), delivered, delivery })
        };
        let mut all: Vec<_> = self.all().values().filter_map(back).collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.delivered));
        all
    }

    /// Whether suspects wait for their turn.
    pub(super) fn has_waiting_suspects(&self) -> bool {
        self.all().values().any(|hand| hand.is_waiting_suspect())
    }

    pub(super) fn remove(&self, hand: &Arc<Hand>) {
        let key = (hand.job.queue.clone(), hand.job.id.clone());
        let mut all = self.all();
        // A job that was lost may have been delivered again: the new hand is not ours.
        if all.get(&key).is_some_and(|held| Arc::ptr_eq(held, hand)) {
            all.remove(&key);
        }
    }

    /// Somebody wants the jobs with this id cancelled. Whether that is news.
    pub(super) fn call(&self, id: &str) -> bool {
        let all = self.all();
        all.values().filter(|hand| hand.job.id.as_str() == id).fold(false, |any, hand| {
            let new = hand.call();
            any | new
        })
    }

    pub(super) fn len(&self) -> usize {
        self.all().len()
    }

    /// The jobs whose attempt has begun; a delivery that waits for its start is not
    /// among them.
    pub(super) fn running(&self) -> Vec<Running> {
        self.all().values().filter_map(|hand| hand.running()).collect()
    }

    /// Tells attempts that their time is over.
    pub(super) fn end_overdue(&self) {
        self.all().values().for_each(|hand| hand.end_overdue());
    }

    /// Begins an extension of every lease, except of those that a settlement uses.
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

/// A job in flight; dropping it lets it go.
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
        self.hands.remove(&self.hand);
        // A job that waited for it is left to its lease: another process may have it by now.
        drop(self.hand.over());
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
        let each = self.hands.drain(..).zip(&self.leases).zip(extended);
        for (((hand, called), lease), extended) in each {
            hand.end_extending(lease, extended, self.asked, called);
        }
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        for ((hand, called), lease) in self.hands.drain(..).zip(&self.leases) {
            hand.end_extending(lease, Extended::Unknown, self.asked, called);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::super::hand::{Attempt, NotBegun, Over};
    use super::*;
    use crate::broker::LEASE;
    use crate::job::{AfterCancel, CancelReason, Charge, JobRecord};
    use crate::time::Timestamp;

    fn delivery(owner: u64) -> Delivery {
        let mut job = JobRecord::new("t", None, QueueName::new("default").unwrap());
        job.id = JobId::new("a").unwrap();
        let (queue, id) = (job.queue.clone(), job.id.clone());
        let lease = Lease { queue, id, owner: Some(owner), ends: 1 };
        Delivery { job, lease, ready: None, losses: 0, charge: Charge::default(), cancel: None }
    }

    fn soon() -> Instant {
        Instant::now() + LEASE
    }

    fn attempt() -> Attempt {
        let at = Timestamp::from_secs(1_000);
        Attempt { started: at, deadline: at, ends: soon() }
    }

    /// Delivered to these hands, with a slot.
    fn accept(hands: &Hands, owner: u64, holds_until: Instant) -> Option<Accepted> {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        hands.accept(delivery(owner), holds_until, permit, &CancellationToken::new())
    }

    fn renew(extension: Extension) {
        let answer = extension.leases.iter().cloned().map(Extended::Renewed).collect();
        extension.end(answer);
    }

    #[test]
    fn a_job_called_out_while_the_store_is_asked_ends_with_the_next_answer() {
        let hands = Hands::default();
        let accepted = accept(&hands, 1, soon()).unwrap();
        let hand = accepted.in_hand.hand();

        let asked = hands.begin_extending();
        assert!(hands.call(hand.job.id.as_str()));
        renew(asked);
        assert_eq!(hand.wish(), None, "its wish may have come after the answer");

        renew(hands.begin_extending());
        assert_eq!(hand.wish(), Some(AfterCancel::Retry));
    }

    #[test]
    fn a_delivery_is_renewed_from_the_beginning_and_is_no_attempt_yet() {
        let hands = Hands::default();
        let accepted = accept(&hands, 1, soon()).unwrap();
        assert_eq!(hands.begin_extending().leases, [delivery(1).lease]);
        assert!(hands.running().is_empty());

        accepted.in_hand.hand().begin(attempt()).unwrap();
        assert_eq!(hands.running().len(), 1);
        drop(accepted);
        assert_eq!(hands.len(), 0);
    }

    #[test]
    fn nothing_begins_after_its_lease() {
        let hands = Hands::default();
        let late = accept(&hands, 1, Instant::now()).unwrap();
        assert_eq!(late.in_hand.hand().begin(attempt()), Err(NotBegun::LeaseLost));

        let lost = accept(&hands, 2, soon()).unwrap();
        let extension = hands.begin_extending();
        extension.end(vec![Extended::Lost]);
        assert_eq!(lost.in_hand.hand().begin(attempt()), Err(NotBegun::LeaseLost));
    }

    #[test]
    fn a_running_job_that_is_delivered_again_goes_on_under_the_new_lease() {
        let hands = Hands::default();
        let running = accept(&hands, 1, soon()).unwrap();
        let hand = running.in_hand.hand();
        hand.begin(attempt()).unwrap();
        let old = hands.begin_extending();

        assert!(accept(&hands, 2, soon()).is_none(), "it is not to be started");

        old.end(vec![Extended::Lost]);
        assert_eq!(hand.cancellation.reason(), None, "that lease is not the one it has");
        assert_eq!(hand.current().owner, Some(2));
        assert_eq!(hands.begin_extending().leases[0].owner, Some(2));
    }

    #[test]
    fn an_attempt_whose_lease_came_back_while_it_was_ending_is_made_again_after_it() {
        let hands = Hands::default();
        let running = accept(&hands, 1, soon()).unwrap();
        let hand = running.in_hand.hand();
        hand.begin(attempt()).unwrap();
        hands.begin_extending().end(vec![Extended::Lost]);
        assert_eq!(hand.cancellation.reason(), Some(CancelReason::LeaseLost));
        assert!(accept(&hands, 2, soon()).is_none());
        assert!(!hand.is_lost());

        hands.begin_extending().end(vec![Extended::Lost]);
        assert!(hand.is_lost());
        assert!(accept(&hands, 3, soon()).is_some(), "nothing runs any more");
    }

    #[test]
    fn a_job_delivered_again_while_it_is_settled_waits_for_the_answer() {
        let hands = Hands::default();
        let ended = accept(&hands, 1, soon()).unwrap();
        let hand = ended.in_hand.hand();
        hand.begin(attempt()).unwrap();
        hand.begin_settling();

        assert!(accept(&hands, 2, soon()).is_none());
        assert_eq!(hands.begin_extending().leases[0].owner, Some(2), "it is in flight");

        let Over::Now(Some(next)) = hand.over() else { panic!("it was kept") };
        let next = next.ready();
        assert!(matches!(hand.over(), Over::Already));
        assert_eq!(next.in_hand.hand().begin(attempt()), Ok(()));
        drop(ended);
        assert_eq!(hands.len(), 1);
    }

    #[test]
    fn what_does_not_start_soon_is_given_back_and_does_not_start() {
        let hands = Hands::default();
        let waiting = accept(&hands, 1, soon()).unwrap();
        let hand = waiting.in_hand.hand();
        assert!(hands.give_back(Instant::now() - Duration::from_secs(1), true).is_empty());
        let back = hands.give_back(Instant::now(), false);
        assert_eq!(back[0].delivery.lease.owner, Some(1));
        assert_eq!(hand.begin(attempt()), Err(NotBegun::GivenBack));
        assert!(accept(&hands, 2, soon()).is_some(), "it may come back");
    }

    #[test]
    fn a_settlement_that_takes_long_does_not_lose_the_lease() {
        let hands = Hands::default();
        let quick = accept(&hands, 1, soon()).unwrap();
        quick.in_hand.hand().begin_settling();
        assert!(hands.begin_extending().leases.is_empty());
        drop(quick);

        let slow = accept(&hands, 2, Instant::now() + LEASE / 3).unwrap();
        slow.in_hand.hand().begin_settling();
        assert_eq!(hands.begin_extending().leases.len(), 1);
    }
}
