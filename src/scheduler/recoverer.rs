//! Puts the jobs of vanished workers back in line.
//!
//! A lease that has run out by the store's clock is believed only while that clock goes
//! as this process' monotonic one does. After it was set, after the store was away and
//! when this process is new, the leases found are looked at again [`CONFIRMED`] later:
//! a living worker has renewed its own by then. A Go worker's lease is timed by its
//! host's clock, which may differ from the store's for good: once there is reason to
//! think so, each is looked at twice.
//!
//! What a loss says about a job is the store's to know ([`Charge`](crate::job::Charge)):
//! it names the one suspect that had started, if there was one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::clock_watch::ClockWatch;
use super::{Round, Service};
use crate::broker::{Broker, Delivery, LEASE, SettleRequest, Settled};
use crate::error::Error;
use crate::job::{JobId, Outcome, QueueName, RetryPolicy, decide, report};
use crate::sync::lock;
use crate::time::Timestamp;

/// How often leases are looked at. A worker's death is noticed at most this long
/// after its lease of 30 s.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long the store's clock must have been steady, or a Go worker's lease the same:
/// one heartbeat of 5 s, and time for its round trip.
const CONFIRMED: Duration = Duration::from_secs(7);

/// Most jobs recovered by one script.
const BATCH: usize = 100;

/// Most looks at one queue in a row; the next round goes on.
const MOST_LOOKS: usize = 200;

pub(crate) struct Recoverer {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
    watched: Mutex<HashMap<QueueName, Watched>>,
}

/// What is known of a queue's store: on a Cluster each queue may have another.
#[derive(Default)]
struct Watched {
    clock: ClockWatch,
    /// It could not be looked at: how many looks are left to the owners of its jobs, who
    /// could neither extend nor settle meanwhile.
    for_owners: u32,
    /// Whether the clock may differ from those of Go workers: it was set, or a lease was
    /// renewed that had run out by it.
    differs: bool,
    /// Leases of Go workers that had run out, by their end: since when that is known.
    unconfirmed: HashMap<JobId, (i64, Instant)>,
}

impl Watched {
    /// How long until a second look at a Go worker's lease tells more than the first;
    /// `before` is what earlier rounds saw.
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
        let left = CONFIRMED.saturating_sub(now.saturating_duration_since(seen.1));
        (!left.is_zero()).then_some(left)
    }
}

/// Whether the lease is a Go worker's: a whole second.
fn is_foreign(one: &Delivery) -> bool {
    one.lease.ends % 1_000_000 == 0 && one.lease.ends > 0
}

/// The jobs of one look.
#[derive(Default)]
struct Confirmed {
    /// Whose leases are over.
    jobs: Vec<Delivery>,
    /// How long until a look tells about the others.
    wait: Option<Duration>,
    /// Nothing can be said of any of them yet.
    none: bool,
}

impl Recoverer {
    pub(crate) fn new(broker: Arc<dyn Broker>, queues: Vec<QueueName>) -> Self {
        Self { broker, queues, watched: Mutex::default() }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<QueueName, Watched>> {
        lock(&self.watched)
    }

    /// The queue could not be looked at. Where it is being moved, its owners count on
    /// their leases for two looks more.
    fn was_away(&self, queue: &QueueName, error: &Error) {
        if error.is_unavailable() {
            let looks = if error.is_moving() { 2 } else { 1 };
            let mut watched = self.watched();
            let watched = watched.entry(queue.clone()).or_default();
            watched.clock.forget();
            watched.for_owners = looks.max(watched.for_owners);
        }
    }

    /// Recovers what can be, and says when a look tells more, if one does soon.
    async fn recover(&self, queue: &QueueName) -> Result<Option<Duration>, Error> {
        // Entries that can be neither recovered nor removed: they stay in front of the
        // others, and those behind them are looked at all the same.
        let (mut stuck, mut unreadable, mut refusal, mut next) = (0, 0, None, None);
        let before = self
            .watched()
            .get_mut(queue)
            .map(|watched| std::mem::take(&mut watched.unconfirmed))
            .unwrap_or_default();
        for _ in 0..MOST_LOOKS {
            let asked = Instant::now();
            let found = match self.broker.expired_leases(queue, BATCH, stuck).await {
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
            // Most that another process was first with are gone.
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

    /// Those of the leases that are over for certain.
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
                "the store's clock was set by {jumped:+.1} s; leases are looked at twice"
            );
        }
        if watched.for_owners > 0 {
            watched.for_owners -= 1;
            return Confirmed { none: true, ..Confirmed::default() };
        }
        // Its clock cannot be set, or only by a test.
        if told.is_none() {
            return Confirmed { jobs: found, ..Confirmed::default() };
        }
        let unsteady = CONFIRMED.saturating_sub(watched.clock.steady());
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

    /// Recovers these jobs; returns how many no other process had recovered first.
    async fn reclaim(&self, lapsed: Vec<Delivery>) -> Result<usize, Error> {
        if lapsed.is_empty() {
            return Ok(0);
        }
        let decided = |delivery: Delivery| {
            let lost = match delivery.on_cancel {
                // Its worker was to end it, and has ended.
                Some(after) => Outcome::Cancelled(after),
                None => Outcome::LeaseLost { losses: delivery.losses, charge: delivery.charge },
            };
            let now = self.broker.now();
            let transition = decide(&delivery.job, lost, &RetryPolicy::default(), now);
            SettleRequest { delivery, transition }
        };
        let settlements: Vec<_> = lapsed.into_iter().map(decided).collect();
        let settled = self.broker.settle(&settlements).await?;
        let mut recovered = 0;
        for (SettleRequest { delivery, transition }, settled) in settlements.iter().zip(settled) {
            // Lost: another process recovered it first.
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

    /// Whether what this queue's store says of its time can be believed.
    fn is_steady(&self, queue: &QueueName) -> bool {
        let trusted =
            |watched: &Watched| watched.for_owners == 0 && watched.clock.is_trusted(CONFIRMED);
        self.watched().get(queue).is_none_or(trusted)
    }
}

impl Recoverer {
    /// Brings jobs whose aggregation did not end back into their groups.
    async fn return_groups(&self, queue: &QueueName) -> Result<(), Error> {
        loop {
            let repaired = self.broker.repair_groups(queue, BATCH).await?;
            if repaired.returned > 0 {
                let sets = repaired.returned;
                crate::log::warn!(%queue, sets, "aggregations did not end; their jobs are back in their groups");
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
        // Spread, so that many processes do not look at the same instant.
        let mut next = INTERVAL.mul_f64(0.8 + fastrand::f64() * 0.2);
        for queue in &self.queues {
            let recovered = self.recover(queue).await;
            next = round.note(recovered).flatten().into_iter().chain([next]).min().unwrap_or(next);
            if self.is_steady(queue) {
                // Also where this process aggregates nothing, as in Asynq.
                round.note(self.return_groups(queue).await);
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
    async fn a_cancelled_job_of_a_vanished_worker_becomes_what_was_wanted() {
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

            Recoverer::new(broker.clone(), vec![queue.clone()]).tick().await.unwrap();

            let info = broker.job(&queue, &id).await.unwrap();
            assert_eq!(info.map(|info| (info.state, info.record.retried)), expected, "{after:?}");
        }
    }
}
