//! Puts the jobs of vanished workers back in line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Round, Service};
use crate::broker::{Broker, Settled};
use crate::error::Error;
use crate::job::{Outcome, QueueName, RetryPolicy, decide, report};

/// How often leases are looked at. A worker's death is noticed at most this long
/// after its lease of 30 s.
const INTERVAL: Duration = Duration::from_secs(5);

/// Most jobs recovered by one script.
const BATCH: usize = 100;

/// Most looks at one queue in a row; the next round goes on.
const MOST_LOOKS: usize = 200;

pub(crate) struct Recoverer {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
    /// Queues that could not be looked at, and how many looks are left to their jobs'
    /// owners, who could neither extend nor settle meanwhile.
    owners_first: Mutex<HashMap<QueueName, u32>>,
}

impl Recoverer {
    pub(crate) fn new(broker: Arc<dyn Broker>, queues: Vec<QueueName>) -> Self {
        Self { broker, queues, owners_first: Mutex::default() }
    }

    fn owners_first(&self) -> MutexGuard<'_, HashMap<QueueName, u32>> {
        self.owners_first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue could not be looked at. Where it is being moved, its owners count on
    /// their leases for two looks more.
    fn was_away(&self, queue: &QueueName, error: &Error) {
        if error.is_unavailable() {
            let looks = if error.is_moving() { 2 } else { 1 };
            self.owners_first()
                .entry(queue.clone())
                .and_modify(|left| *left = looks.max(*left))
                .or_insert(looks);
        }
    }

    /// Whether this look is still for the owners. They ask again every second.
    fn is_for_owners(&self, queue: &QueueName) -> bool {
        let mut owners_first = self.owners_first();
        let Some(left) = owners_first.get_mut(queue) else { return false };
        *left -= 1;
        if *left == 0 {
            owners_first.remove(queue);
        }
        true
    }

    async fn recover(&self, queue: &QueueName) -> Result<(), Error> {
        // Entries that can be neither recovered nor removed: they stay in front of the
        // others, and those behind them are looked at all the same.
        let (mut stuck, mut unreadable, mut refusal) = (0, 0, None);
        for _ in 0..MOST_LOOKS {
            let found = match self.broker.expired_leases(queue, BATCH, stuck).await {
                Ok(found) => found,
                Err(error) => {
                    self.was_away(queue, &error);
                    return Err(error);
                }
            };
            if self.is_for_owners(queue) {
                return Ok(());
            }
            let seen = found.jobs.len();
            unreadable += found.stuck;
            refusal = found.refusal.or(refusal);
            let settlements: Vec<_> = found
                .jobs
                .into_iter()
                .map(|delivery| {
                    let lost = match delivery.cancel {
                        // Its worker was to end it, and has ended.
                        Some(after) => Outcome::Cancelled(after),
                        None => Outcome::LeaseLost(delivery.losses.saturating_add(1)),
                    };
                    let transition =
                        decide(&delivery.job, lost, &RetryPolicy::default(), self.broker.now());
                    (delivery, transition)
                })
                .collect();
            let settled = match settlements.is_empty() {
                true => Vec::new(),
                false => self.broker.settle(&settlements).await?,
            };
            let mut recovered = 0;
            for ((delivery, transition), settled) in settlements.iter().zip(settled) {
                // Lost: another process recovered it first.
                let done = match settled {
                    Settled::Done => transition.clone(),
                    Settled::Cancelled(after) => after.carried_out(transition),
                    Settled::Lost => continue,
                };
                recovered += 1;
                report(&delivery.job, &done, Duration::ZERO, self.broker.now());
            }
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
            tracing::warn!(
                %queue, jobs = unreadable, ?error,
                "could not archive jobs whose messages are unreadable; the others were looked at"
            );
        }
        Ok(())
    }
}

impl Recoverer {
    /// Brings jobs whose aggregation did not end back into their groups.
    async fn return_groups(&self, queue: &QueueName) -> Result<(), Error> {
        loop {
            let mended = self.broker.mend_groups(queue, BATCH).await?;
            if mended.returned > 0 {
                let sets = mended.returned;
                tracing::warn!(%queue, sets, "aggregations did not end; their jobs are back in their groups");
            }
            if !mended.more {
                return Ok(());
            }
        }
    }
}

impl Service for Recoverer {
    const NAME: &'static str = "recovering lost leases";

    async fn tick(&self) -> Result<Duration, Error> {
        let mut round = Round::default();
        for queue in &self.queues {
            round.note(self.recover(queue).await);
            // Also where this process aggregates nothing, as in Asynq.
            round.note(self.return_groups(queue).await);
        }
        // Spread, so that many processes do not look at the same instant.
        round.end(INTERVAL.mul_f64(0.8 + fastrand::f64() * 0.2))
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
            assert_eq!(info.map(|info| (info.state, info.job.retried)), expected, "{after:?}");
        }
    }
}
