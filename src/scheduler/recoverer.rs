//! Requeues the jobs of vanished workers.
//!
//! A worker that dies leaves its jobs behind, each with a lease that expires. Every process
//! looks for expired leases every [`INTERVAL`]. The first process to find one decides what
//! happens to its job and settles it instead of the dead worker.
//!
//! An expired lease is proof of a dead worker only if the clock that timed it is right. So
//! this service compares the store's clock with the monotonic clock of its own process
//! ([`ClockWatch`]). Expired leases are acted on only while the two agree. After the store's
//! clock was set, after the store was unreachable, and when this process has just started,
//! they are checked again [`CONFIRM_AFTER`] later: a living worker has renewed its own by
//! then.
//!
//! A Go worker's lease is timed by its host's clock, which may permanently differ from the
//! store's. Once there is a sign of that, each such lease is checked twice.
//!
//! A loss may count against a job, see [`Charge`](crate::job::Charge). The store names the
//! one suspect that had started, if there was one.
//!
//! What may surprise. A job whose worker has died is recovered 25 to 35 s later, and up to 7 s
//! after that if its lease has to be confirmed. A recovery counts as a loss of the job, unless
//! its charge is cleared. If the old worker is alive after all and renews the lease while the
//! job still waits, it gets the job back, and the loss is taken back too (`extend_leases.lua`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::clock_watch::ClockWatch;
use super::{Round, Service};
use crate::broker::{Broker, Delivery, LEASE, SettleRequest, Settled};
use crate::chance::Chance;
use crate::error::Error;
use crate::job::{JobId, Outcome, QueueName, RetryPolicy, decide, report};
use crate::sync::lock;
use crate::time::Timestamp;

/// Interval between two searches. A worker's death is noticed at most this long after its lease
/// of 30 s has expired.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long the store's clock must have been steady, or a Go worker's lease unchanged,
/// before an expired lease is believed: one heartbeat of 5 s and time for its round trip.
const CONFIRM_AFTER: Duration = Duration::from_secs(7);

/// Maximum number of jobs that one script lists or settles.
const MAX_BATCH_JOBS: usize = 100;

/// Maximum number of batches of one queue in one tick. The next tick continues.
const MAX_BATCHES_PER_TICK: usize = 200;

/// The service that requeues the jobs of vanished workers.
pub(crate) struct Recoverer {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
    /// What is known about each queue's server. It is lost with the process: a new one confirms the
    /// first expired leases once more.
    watched: Mutex<HashMap<QueueName, WatchedServer>>,
    /// Draws the jitter of its ticks and of retries.
    chance: Chance,
}

/// What is known about the server of one queue. On a Cluster, queues have different servers.
#[derive(Default)]
struct WatchedServer {
    clock: ClockWatch,
    /// Number of searches to skip after the queue was unreachable. The owners of its jobs could
    /// neither renew nor settle meanwhile and get time to do so.
    looks_to_skip: u32,
    /// Whether the clock may differ from the clocks of Go workers: it was set, or a lease was
    /// renewed that had expired by it.
    differs: bool,
    /// Expired leases of Go workers: when each ends, and since when that is known.
    unconfirmed: HashMap<JobId, (i64, Instant)>,
}

impl WatchedServer {
    /// How long until a second search can confirm that a Go worker's lease has expired, or
    /// `None` if it is confirmed. `before` has the unconfirmed leases of earlier ticks.
    fn confirm(
        &mut self,
        one: &Delivery,
        before: &HashMap<JobId, (i64, Instant)>,
        now: Instant,
    ) -> Option<Duration> {
        let (id, ends) = (&one.lease.id, one.lease.ends);
        let mut seen = before.get(id).copied().unwrap_or((ends, now));
        if seen.0 != ends {
            (seen, self.differs) = ((ends, now), true);
        }
        self.unconfirmed.insert(id.clone(), seen);
        if !self.differs && self.clock.steady() >= LEASE {
            return None;
        }
        let left = CONFIRM_AFTER.saturating_sub(now.saturating_duration_since(seen.1));
        (!left.is_zero()).then_some(left)
    }
}

/// Whether the lease is a Go worker's: those end on a whole second, while ours have microseconds.
fn is_foreign(one: &Delivery) -> bool {
    one.lease.ends % 1_000_000 == 0 && one.lease.ends > 0
}

/// The outcome of checking one batch of expired leases.
#[derive(Default)]
struct Confirmed {
    /// Jobs whose leases have certainly expired.
    jobs: Vec<Delivery>,
    /// How long until another search can confirm the others.
    wait: Option<Duration>,
    /// None of them can be confirmed yet.
    none: bool,
}

impl Recoverer {
    pub(crate) fn new(broker: Arc<dyn Broker>, queues: Vec<QueueName>, chance: Chance) -> Self {
        Self { broker, queues, watched: Mutex::default(), chance }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<QueueName, WatchedServer>> {
        lock(&self.watched)
    }

    /// Records that the queue could not be reached: trust in its clock begins again, and the
    /// next search is skipped. While a queue is moved within a Cluster, owners rely on their
    /// leases for two more searches. An error reply changes nothing: the store was there.
    fn was_away(&self, queue: &QueueName, error: &Error) {
        if error.is_unavailable() {
            let looks = if error.is_moving() { 2 } else { 1 };
            let mut watched = self.watched();
            let watched = watched.entry(queue.clone()).or_default();
            watched.clock.forget();
            watched.looks_to_skip = looks.max(watched.looks_to_skip);
        }
    }

    /// Recovers the jobs whose expired leases are confirmed. Returns how long until another
    /// search can confirm more, if that is soon.
    async fn recover(&self, queue: &QueueName) -> Result<Option<Duration>, Error> {
        // Leases that can be neither recovered nor removed stay in front of the list; they
        // are skipped, so that the ones behind them are reached.
        let (mut stuck, mut unreadable, mut refusal, mut next) = (0, 0, None, None);
        let before = self
            .watched()
            .get_mut(queue)
            .map(|watched| std::mem::take(&mut watched.unconfirmed))
            .unwrap_or_default();
        for _ in 0..MAX_BATCHES_PER_TICK {
            let asked = Instant::now();
            let found = match self.broker.expired_leases(queue, MAX_BATCH_JOBS, stuck).await {
                Ok(found) => found,
                Err(error) => {
                    self.was_away(queue, &error);
                    return Err(error);
                }
            };
            let seen = found.jobs.len();
            unreadable += found.stuck;
            refusal = found.refusal.or(refusal);
            let certain = self.confirmed(queue, found.jobs, &before, (asked, found.at));
            next = certain.wait.into_iter().chain(next).min();
            if certain.none {
                break;
            }
            let recovered = self.reclaim(certain.jobs).await?;
            stuck += found.stuck;
            // Jobs that another process recovered have left the list too.
            let moved = recovered + found.removed;
            if moved == 0 {
                stuck += seen;
            }
            if !found.more || moved + found.stuck + seen == 0 {
                break;
            }
        }
        if let Some(error) = refusal {
            crate::log::warn!(
                %queue, jobs = unreadable, ?error,
                "could not archive jobs whose messages are unreadable; the others were looked at"
            );
        }
        Ok(next)
    }

    /// Selects the leases that have certainly expired. `asked` and `told` are when the search was
    /// sent and the store's time of it.
    fn confirmed(
        &self,
        queue: &QueueName,
        found: Vec<Delivery>,
        before: &HashMap<JobId, (i64, Instant)>,
        (asked, told): (Instant, Option<Timestamp>),
    ) -> Confirmed {
        let now = Instant::now();
        let mut watched = self.watched();
        let watched = watched.entry(queue.clone()).or_default();
        if let Some(jumped) = told.and_then(|told| watched.clock.note(asked, now, told)) {
            watched.differs = true;
            crate::log::warn!(
                %queue,
                "the store's clock was set by {jumped:+.1} s; expired leases are confirmed by a second look"
            );
        }
        if watched.looks_to_skip > 0 {
            watched.looks_to_skip -= 1;
            return Confirmed { none: true, ..Confirmed::default() };
        }
        // The store's clock cannot be set, or a test moves it.
        if told.is_none() {
            return Confirmed { jobs: found, ..Confirmed::default() };
        }
        let unsteady = CONFIRM_AFTER.saturating_sub(watched.clock.steady());
        if !unsteady.is_zero() {
            let wait = (!found.is_empty()).then_some(unsteady);
            for one in found.iter().filter(|one| is_foreign(one)) {
                watched.confirm(one, before, now);
            }
            return Confirmed { wait, none: true, ..Confirmed::default() };
        }
        let mut confirmed = Confirmed::default();
        for one in found {
            let wait = if is_foreign(&one) { watched.confirm(&one, before, now) } else { None };
            confirmed.wait = wait.into_iter().chain(confirmed.wait).min();
            if wait.is_none() {
                confirmed.jobs.push(one);
            }
        }
        confirmed
    }

    /// Recovers these jobs. Returns how many were not recovered by another process first.
    async fn reclaim(&self, expired: Vec<Delivery>) -> Result<usize, Error> {
        if expired.is_empty() {
            return Ok(0);
        }
        let decided = |delivery: Delivery| {
            let lost = match delivery.on_cancel {
                // An operator cancelled it, and the dead worker did not get to it.
                Some(after) => Outcome::Cancelled(after),
                None => Outcome::LeaseLost { losses: delivery.losses, charge: delivery.charge },
            };
            let now = self.broker.now();
            let transition =
                decide(&delivery.job, lost, &RetryPolicy::default(), now, &self.chance);
            SettleRequest::from((delivery, transition))
        };
        let settlements: Vec<_> = expired.into_iter().map(decided).collect();
        let settled = self.broker.settle(&settlements).await?;
        let mut recovered = 0;
        for (SettleRequest { delivery, transition, .. }, settled) in settlements.iter().zip(settled)
        {
            // Lost: another process has recovered it.
            let done = match settled {
                Settled::Done => transition.clone(),
                Settled::Cancelled(after) => after.carried_out(transition),
                Settled::Lost => continue,
            };
            recovered += 1;
            report(&delivery.job, &done, Duration::ZERO, self.broker.now());
        }
        Ok(recovered)
    }

    /// Whether the clock of this queue's server can be trusted.
    fn is_steady(&self, queue: &QueueName) -> bool {
        let trusted = |watched: &WatchedServer| {
            watched.looks_to_skip == 0 && watched.clock.is_trusted(CONFIRM_AFTER)
        };
        self.watched().get(queue).is_none_or(trusted)
    }
}

impl Recoverer {
    /// Returns jobs whose aggregation did not finish to their groups. Sets expire by the
    /// store's clock, so this too waits until the clock is trusted.
    async fn return_groups(&self, queue: &QueueName) -> Result<(), Error> {
        loop {
            let repaired = self.broker.repair_groups(queue, MAX_BATCH_JOBS).await?;
            if repaired.returned > 0 {
                let sets = repaired.returned;
                crate::log::warn!(%queue, sets, "aggregations did not finish; their jobs are back in their groups");
            }
            if !repaired.more {
                return Ok(());
            }
        }
    }
}

impl Service for Recoverer {
    const NAME: &'static str = "recovering lost leases";

    async fn tick(&self) -> Result<Duration, Error> {
        let mut round = Round::default();
        // Jitter, so that many processes do not search at the same instant.
        let mut next = INTERVAL.mul_f64(0.8 + self.chance.share() * 0.2);
        for queue in &self.queues {
            let recovered = self.recover(queue).await;
            next = round.add(recovered).flatten().into_iter().chain([next]).min().unwrap_or(next);
            if self.is_steady(queue) {
                // Also if this process aggregates nothing, as in Asynq.
                round.add(self.return_groups(queue).await);
            }
        }
        round.end(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::memory::MemoryBroker;
    use crate::broker::{CancelAnswer, Control, Inspect, LEASE};
    use crate::job::{AfterCancel, JobRecord, JobState, NewJob};
    use crate::time::{Clock, Timestamp};

    #[tokio::test]
    async fn a_cancelled_job_of_a_vanished_worker_ends_as_requested() {
        for (after, expected) in [
            (AfterCancel::Retry, Some((JobState::Retry, 1))),
            (AfterCancel::Archive, Some((JobState::Archived, 0))),
            (AfterCancel::Delete, None),
        ] {
            let clock = Clock::manual(Timestamp::from_secs(1_000));
            let broker = Arc::new(MemoryBroker::new(clock.clone()));
            let queue = QueueName::new("default").unwrap();
            let mut job = JobRecord::new("t", None, queue.clone());
            job.max_retry = 1;
            let id = job.id.clone();
            broker.enqueue(&[NewJob::now(job)]).await.unwrap();
            broker.dequeue(std::slice::from_ref(&queue), 1).await.unwrap();
            let asked = broker.cancel(&queue, &id, after).await.unwrap();
            assert_eq!(asked, CancelAnswer::Requested);
            clock.advance(LEASE * 2);

            Recoverer::new(broker.clone(), vec![queue.clone()], Chance::none())
                .tick()
                .await
                .unwrap();

            let info = broker.job(&queue, &id).await.unwrap();
            assert_eq!(info.map(|info| (info.state, info.record.retried)), expected, "{after:?}");
        }
    }
}
