//! Jobs in flight in this process and their leases, by queue and id.
//!
//! A job is in flight from its delivery until it is settled, lost or given back. It is
//! registered by [`accept`](InFlight::accept) and removed when its [`InFlightGuard`] is
//! dropped, so it is removed on every way out, a panic included. The state of a single job is
//! in [`in_flight_job`](super::in_flight_job); this is the table of all of them, and the
//! operations that concern many: renewing leases, giving back what did not start, passing on
//! cancel requests, listing what runs.
//!
//! Heartbeat and settlement each need a lease exclusively. Both take it from here and give
//! it back, so that neither works with a lease that the other has just changed.
//!
//! What may surprise. The store may deliver a job that is in flight here already, after its
//! lease was lost. It is not started a second time beside itself: it goes on under the new
//! lease, or starts when the settlement of its previous attempt has been answered. The one
//! lock is held for map operations only, never while the store is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::in_flight_job::{Again, InFlightJob};
use crate::broker::{Delivery, Extended, Lease, Running};
use crate::job::{JobId, QueueName};
use crate::sync::lock;

/// Queue and id.
type JobKey = (QueueName, JobId);

/// All jobs in flight. The key has the queue because ids are unique within a queue only.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<Mutex<HashMap<JobKey, Arc<InFlightJob>>>>);

/// A delivery that this process has taken in, with its slot.
pub(super) struct AcceptedDelivery {
    pub(super) delivery: Delivery,
    pub(super) guard: InFlightGuard,
    pub(super) slot: OwnedSemaphorePermit,
}

/// A delivery that goes back to the store without having started.
pub(super) struct GivenBack {
    /// Stays in the table until the store has answered.
    pub(super) job: Arc<InFlightJob>,
    /// When this process received it; the latest goes back first.
    delivered: Instant,
    pub(super) delivery: Delivery,
}

impl AcceptedDelivery {
    /// Lets it start: the settlement it waited for has been answered.
    pub(super) fn ready(self) -> Self {
        self.guard.job().ready();
        self
    }
}

impl InFlight {
    /// The table. Held for operations on the map only, never across an `.await`.
    fn all(&self) -> MutexGuard<'_, HashMap<JobKey, Arc<InFlightJob>>> {
        lock(&self.0)
    }

    /// Takes in a delivery whose lease holds until `holds_until`, and returns it if it is to
    /// be started. It is not if the same job is in flight already: it then goes on under
    /// the new lease, or starts when its previous attempt is settled. A slot that is not
    /// needed is released.
    pub(super) fn accept(
        &self,
        delivery: Delivery,
        holds_until: Instant,
        slot: OwnedSemaphorePermit,
        interrupt: &CancellationToken,
    ) -> Option<AcceptedDelivery> {
        let (guard, before) = self.insert(&delivery, holds_until, interrupt)?;
        let accepted = AcceptedDelivery { delivery, guard, slot };
        match before {
            Some(before) => before.keep_next(accepted),
            None => Some(accepted),
        }
    }

    /// Like [`accept`](Self::accept), for callers that run one job after another without
    /// slots.
    pub(super) fn accept_alone(
        &self,
        delivery: &Delivery,
        holds_until: Instant,
        interrupt: &CancellationToken,
    ) -> Option<InFlightGuard> {
        self.insert(delivery, holds_until, interrupt).map(|(guard, _)| guard)
    }

    /// Registers a delivery. Also returns the same job's earlier delivery if that one is
    /// being settled.
    fn insert(
        &self,
        delivery: &Delivery,
        holds_until: Instant,
        interrupt: &CancellationToken,
    ) -> Option<(InFlightGuard, Option<Arc<InFlightJob>>)> {
        let job = Arc::new(InFlightJob::new(delivery, holds_until, interrupt));
        let key = (job.record.queue.clone(), job.record.id.clone());
        let mut all = self.all();
        let mut before = None;
        if let Some(known) = all.get(&key) {
            match known.deliver_again(delivery, holds_until) {
                Again::TakenOver => {
                    let id = &job.record.id;
                    crate::log::info!("lease regained after a loss: id={id:?} goes on");
                    return None;
                }
                Again::Behind => before = Some(Arc::clone(known)),
                Again::New => {}
            }
        }
        all.insert(key, Arc::clone(&job));
        Some((InFlightGuard { in_flight: self.clone(), job }, before))
    }

    /// Takes back deliveries that have waited for their start since `delivered_before` or
    /// longer, latest first: each is put back in front of the queue, so the earliest ends
    /// up first. Includes suspects only if `suspects` is set.
    pub(super) fn give_back(&self, delivered_before: Instant, suspects: bool) -> Vec<GivenBack> {
        let back = |job: &Arc<InFlightJob>| {
            let (delivered, delivery) = job.give_back(delivered_before, suspects)?;
            Some(GivenBack { job: Arc::clone(job), delivered, delivery })
        };
        let mut all: Vec<_> = self.all().values().filter_map(back).collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.delivered));
        all
    }

    /// Whether suspects wait for their turn.
    pub(super) fn has_waiting_suspects(&self) -> bool {
        self.all().values().any(|job| job.is_waiting_suspect())
    }

    /// Removes a job, unless a later delivery has replaced it.
    pub(super) fn remove(&self, job: &Arc<InFlightJob>) {
        let key = (job.record.queue.clone(), job.record.id.clone());
        let mut all = self.all();
        // A lost job may have been delivered again: that entry is not ours to remove.
        if all.get(&key).is_some_and(|held| Arc::ptr_eq(held, job)) {
            all.remove(&key);
        }
    }

    /// Whether a job with this id is in flight, of whatever queue.
    pub(super) fn has_id(&self, id: &str) -> bool {
        self.all().values().any(|job| job.record.id.as_str() == id)
    }

    /// Notes a cancel request for the jobs with this id. Returns whether it is the first
    /// one for any of them.
    pub(super) fn request_cancel(&self, id: &str) -> bool {
        let all = self.all();
        all.values().filter(|job| job.record.id.as_str() == id).fold(false, |any, job| {
            let new = job.request_cancel();
            any | new
        })
    }

    /// Number of jobs in flight, those that wait for their start included.
    pub(super) fn len(&self) -> usize {
        self.all().len()
    }

    /// The jobs whose attempt has begun. Deliveries that wait for their start are left out.
    pub(super) fn running(&self) -> Vec<Running> {
        self.all().values().filter_map(|job| job.running()).collect()
    }

    /// Cancels attempts whose time is over.
    pub(super) fn end_overdue(&self) {
        self.all().values().for_each(|job| job.end_overdue());
    }

    /// Begins a renewal of all leases, except those that a settlement is using.
    pub(super) fn begin_extending(&self) -> Extension {
        let asked = Instant::now();
        let (mut in_flight, mut leases) = (Vec::new(), Vec::new());
        for job in self.all().values() {
            if let Some((lease, called)) = job.begin_extending() {
                in_flight.push((Arc::clone(job), called));
                leases.push(lease);
            }
        }
        Extension { in_flight, leases, asked }
    }
}

/// Keeps a job in flight; dropping it removes the job.
pub(super) struct InFlightGuard {
    in_flight: InFlight,
    job: Arc<InFlightJob>,
}

impl InFlightGuard {
    pub(super) fn job(&self) -> &Arc<InFlightJob> {
        &self.job
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.in_flight.remove(&self.job);
        // A second delivery that waited for it is left to its lease: another process may
        // have the job by now.
        drop(self.job.over());
    }
}

/// A renewal under way: the leases that the store is asked about. Dropping it unanswered leaves
/// them as they were, so a cancelled call loses nothing.
pub(super) struct Extension {
    /// Each with whether a cancel request was heard before the store was asked.
    in_flight: Vec<(Arc<InFlightJob>, bool)>,
    pub(super) leases: Vec<Lease>,
    asked: Instant,
}

impl Extension {
    /// Takes in the store's answers, one for each lease, in the same order.
    pub(super) fn end(mut self, extended: Vec<Extended>) {
        let each = self.in_flight.drain(..).zip(&self.leases).zip(extended);
        for (((job, called), lease), extended) in each {
            job.end_extending(lease, extended, self.asked, called);
        }
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        for ((job, called), lease) in self.in_flight.drain(..).zip(&self.leases) {
            job.end_extending(lease, Extended::Unknown, self.asked, called);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::super::in_flight_job::{AttemptTimes, NotBegun, Over};
    use super::*;
    use crate::broker::LEASE;
    use crate::job::{AfterCancel, CancelReason, Charge, JobRecord};
    use crate::time::Timestamp;

    fn delivery(owner: u64) -> Delivery {
        let mut job = JobRecord::new("t", None, QueueName::new("default").unwrap());
        job.id = JobId::new("a").unwrap();
        let (queue, id) = (job.queue.clone(), job.id.clone());
        let lease = Lease { queue, id, owner: Some(owner), ends: 1 };
        let charge = Charge::default();
        Delivery { job, lease, ready: None, losses: 0, charge, on_cancel: None, limited: false }
    }

    fn soon() -> Instant {
        Instant::now() + LEASE
    }

    fn attempt() -> AttemptTimes {
        let at = Timestamp::from_secs(1_000);
        AttemptTimes { started: at, deadline: at, ends: soon() }
    }

    /// Delivers the job to this process, with a slot.
    fn accept(in_flight: &InFlight, owner: u64, holds_until: Instant) -> Option<AcceptedDelivery> {
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        in_flight.accept(delivery(owner), holds_until, slot, &CancellationToken::new())
    }

    fn renew(extension: Extension) {
        let answer = extension.leases.iter().cloned().map(Extended::Renewed).collect();
        extension.end(answer);
    }

    #[test]
    fn a_cancel_request_during_a_renewal_is_carried_out_with_the_next_one() {
        let in_flight = InFlight::default();
        let accepted = accept(&in_flight, 1, soon()).unwrap();
        let job = accepted.guard.job();

        let asked = in_flight.begin_extending();
        assert!(in_flight.request_cancel(job.record.id.as_str()));
        renew(asked);
        assert_eq!(job.on_cancel(), None, "the request may have come after the answer");

        renew(in_flight.begin_extending());
        assert_eq!(job.on_cancel(), Some(AfterCancel::Retry));
    }

    #[test]
    fn a_delivery_is_renewed_from_the_beginning_and_is_no_attempt_yet() {
        let in_flight = InFlight::default();
        let accepted = accept(&in_flight, 1, soon()).unwrap();
        assert_eq!(in_flight.begin_extending().leases, [delivery(1).lease]);
        assert!(in_flight.running().is_empty());

        accepted.guard.job().begin(attempt()).unwrap();
        assert_eq!(in_flight.running().len(), 1);
        drop(accepted);
        assert_eq!(in_flight.len(), 0);
    }

    #[test]
    fn nothing_begins_after_its_lease() {
        let in_flight = InFlight::default();
        let late = accept(&in_flight, 1, Instant::now()).unwrap();
        assert_eq!(late.guard.job().begin(attempt()), Err(NotBegun::LeaseLost));

        let lost = accept(&in_flight, 2, soon()).unwrap();
        let extension = in_flight.begin_extending();
        extension.end(vec![Extended::Lost]);
        assert_eq!(lost.guard.job().begin(attempt()), Err(NotBegun::LeaseLost));
    }

    #[test]
    fn a_running_job_that_is_delivered_again_goes_on_under_the_new_lease() {
        let in_flight = InFlight::default();
        let running = accept(&in_flight, 1, soon()).unwrap();
        let job = running.guard.job();
        job.begin(attempt()).unwrap();
        let old = in_flight.begin_extending();

        assert!(accept(&in_flight, 2, soon()).is_none(), "it is not to be started");

        old.end(vec![Extended::Lost]);
        assert_eq!(job.cancellation.reason(), None, "that lease is not the one it has");
        assert_eq!(job.current().owner, Some(2));
        assert_eq!(in_flight.begin_extending().leases[0].owner, Some(2));
    }

    #[test]
    fn an_attempt_whose_lease_came_back_while_it_was_ending_is_made_again_after_it() {
        let in_flight = InFlight::default();
        let running = accept(&in_flight, 1, soon()).unwrap();
        let job = running.guard.job();
        job.begin(attempt()).unwrap();
        in_flight.begin_extending().end(vec![Extended::Lost]);
        assert_eq!(job.cancellation.reason(), Some(CancelReason::LeaseLost));
        assert!(accept(&in_flight, 2, soon()).is_none());
        assert!(!job.is_lost());

        in_flight.begin_extending().end(vec![Extended::Lost]);
        assert!(job.is_lost());
        assert!(accept(&in_flight, 3, soon()).is_some(), "nothing runs any more");
    }

    #[test]
    fn a_job_delivered_again_while_it_is_settled_waits_for_the_answer() {
        let in_flight = InFlight::default();
        let ended = accept(&in_flight, 1, soon()).unwrap();
        let job = ended.guard.job();
        job.begin(attempt()).unwrap();
        job.begin_settling();

        assert!(accept(&in_flight, 2, soon()).is_none());
        assert_eq!(in_flight.begin_extending().leases[0].owner, Some(2), "it is in flight");

        let Over::Now(Some(next)) = job.over() else { panic!("it was kept") };
        let next = next.ready();
        assert!(matches!(job.over(), Over::Already));
        assert_eq!(next.guard.job().begin(attempt()), Ok(()));
        drop(ended);
        assert_eq!(in_flight.len(), 1);
    }

    #[test]
    fn what_does_not_start_soon_is_given_back_and_does_not_start() {
        let in_flight = InFlight::default();
        let waiting = accept(&in_flight, 1, soon()).unwrap();
        let job = waiting.guard.job();
        assert!(in_flight.give_back(Instant::now() - Duration::from_secs(1), true).is_empty());
        let back = in_flight.give_back(Instant::now(), false);
        assert_eq!(back[0].delivery.lease.owner, Some(1));
        assert_eq!(job.begin(attempt()), Err(NotBegun::GivenBack));
        assert!(accept(&in_flight, 2, soon()).is_some(), "it may come back");
    }

    #[test]
    fn a_settlement_that_takes_long_does_not_lose_the_lease() {
        let in_flight = InFlight::default();
        let quick = accept(&in_flight, 1, soon()).unwrap();
        quick.guard.job().begin_settling();
        assert!(in_flight.begin_extending().leases.is_empty());
        drop(quick);

        let slow = accept(&in_flight, 2, Instant::now() + LEASE / 3).unwrap();
        slow.guard.job().begin_settling();
        assert_eq!(in_flight.begin_extending().leases.len(), 1);
    }
}
