//! Enqueues the jobs of periodic jobs at their ticks.
//!
//! There is no leader. Every process that has a periodic job sleeps until its next tick and
//! then asks the store to claim it. One script claims the tick and stores its job, so that
//! each tick makes one job, also if processes are killed at that moment.
//!
//! A tick is *late* for a few seconds after its time, and every late tick is fired: a pause
//! of the process must not cost ticks. Older ticks are *missed*; [`Missed`] decides whether
//! the last of them is made up for. Which ticks are claimed already is the store's to know;
//! this process keeps the answer so that it asks once.
//!
//! What may surprise. The log says of a skipped tick only the last one. A tick is claimed even
//! if its job is not stored, because its unique lock is held or its id is in use: such a tick
//! is over, not late. After the store failed, a periodic job is tried again within a second,
//! which is well within [`MAX_LATENESS`].

use std::sync::Arc;
use std::time::Duration;

use super::periodic_jobs::{Listener, PeriodicJob, PeriodicJobs};
use super::{Round, Service};
use crate::broker::{Broker, PeriodicRun, Tick};
use crate::error::Error;
use crate::job::{Missed, Schedule, tick_id};
use crate::time::Timestamp;

/// How long a tick is late before it is missed. A pause of the process of this length costs
/// no tick, even of a periodic job that is due every second.
const MAX_LATENESS: Duration = Duration::from_secs(5);

/// Maximum number of late ticks of one periodic job that are fired at once.
const MAX_LATE_TICKS: usize = 5;

/// Longest sleep. Clocks may be set, and hosts may be suspended.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// The last part of the sleep before a tick, which is short enough for the precise timer.
const PRECISE_SLEEP: Duration = Duration::from_secs(9);

/// Pause before a periodic job is served again after the store failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The service that fires ticks. Tests that drive the queue call it without its loop.
pub(crate) struct PeriodicService {
    broker: Arc<dyn Broker>,
    jobs: PeriodicJobs,
}

impl PeriodicService {
    pub(crate) fn new(broker: Arc<dyn Broker>, jobs: PeriodicJobs) -> Self {
        Self { broker, jobs }
    }

    /// Fires what is due. Returns how long until the next tick of any periodic job, or `None`
    /// if there is none. Tests that drive the queue call it too.
    pub(crate) async fn fire_due(&self) -> (Round, Option<Duration>) {
        let jobs = self.jobs.all();
        let mut round = Round::default();
        // Concurrently: many are due on the hour, and none should wait for the others.
        let served = jobs.iter().map(|job| self.serve(job));
        let mut next: Option<Duration> = None;
        for answer in futures_util::future::join_all(served).await {
            // The next tick of the others may be too late for one that was not served.
            let wait = round.add(answer).unwrap_or(Some(RETRY_INTERVAL));
            next = next.into_iter().chain(wait).min();
        }
        (round, next)
    }

    /// Fires what is due of one periodic job. Returns how long until its next tick, if there is
    /// one.
    ///
    /// The first time, it asks the store what is claimed: that decides which ticks were missed
    /// while no process had this periodic job. Ticks are in order, so the first that the store
    /// calls early ends the round; by its clock the others are early too.
    async fn serve(&self, job: &PeriodicJob) -> Result<Option<Duration>, Error> {
        let claimed = match job.seen().claimed {
            Some(claimed) => claimed,
            None => {
                let asked = job.firing(&[], self.broker.now());
                let fired = self.broker.fire(&asked).await?;
                job.see(&fired);
                if fired.last_run.is_some() {
                    // The first announcement has said that it never ran.
                    self.jobs.announce_soon();
                }
                fired.claimed
            }
        };
        let now = self.broker.now();
        let ticks = match due(&job.schedule, job.missed, claimed, now) {
            DueTicks::Nothing => Vec::new(),
            DueTicks::Ticks(ticks) => ticks,
            DueTicks::PassedOver(tick) => {
                crate::log::info!(
                    "periodic job {:?}: the tick at {tick} was missed and is skipped",
                    job.name
                );
                job.pass_over(tick);
                Vec::new()
            }
        };
        if !ticks.is_empty() {
            let fired = self.broker.fire(&job.firing(&ticks, now)).await?;
            job.see(&fired);
            for (tick, outcome) in ticks.into_iter().zip(fired.ticks) {
                match outcome {
                    Tick::Fired { at } => self.record(job, tick, at).await,
                    Tick::Early(left) => return Ok(Some(left)),
                    // Another process has it, or the job's options say to skip it.
                    skipped => {
                        crate::log::debug!("periodic job {:?} at {tick}: {skipped:?}", job.name);
                    }
                }
            }
        }
        let now = self.broker.now();
        Ok(job.schedule.next(now).map(|next| next.since(now)))
    }

    /// Adds the run to the history. The job is stored by now, so a failure is only logged.
    async fn record(&self, job: &PeriodicJob, tick: Timestamp, at: Timestamp) {
        crate::log::debug!("periodic job {:?} fired for {tick}", job.name);
        let run = PeriodicRun::new(tick_id(&job.name, tick), at);
        let keep = job.keep(at);
        if let Err(error) = self.broker.record_run(&job.id, &run, keep).await {
            crate::log::warn!("the history of periodic job {:?} lacks a run: {error:?}", job.name);
        }
    }
}

impl Service for PeriodicService {
    const NAME: &'static str = "enqueuing periodic jobs";

    async fn tick(&self) -> Result<Duration, Error> {
        let (round, next) = self.fire_due().await;
        let next = next.unwrap_or(MAX_SLEEP).min(MAX_SLEEP);
        let long = next > PRECISE_SLEEP + Duration::from_secs(1);
        round.end(if long { next - PRECISE_SLEEP } else { next })
    }

    async fn wakeup(&self) {
        self.jobs.changed(Listener::Firing).await;
    }
}

/// What is due of a periodic job.
#[derive(Debug, PartialEq, Eq)]
enum DueTicks {
    Nothing,
    /// Ticks to fire, in order.
    Ticks(Vec<Timestamp>),
    /// The last missed tick, which is not made up for.
    PassedOver(Timestamp),
}

/// What is due of a schedule at `now` if its ticks are claimed up to `claimed`.
///
/// Late ticks come first: if there are any, older ones are not looked at, and of more than
/// [`MAX_LATE_TICKS`] the last are fired. Of missed ones, at most the last counts.
fn due(schedule: &Schedule, missed: Missed, claimed: Timestamp, now: Timestamp) -> DueTicks {
    let mut ticks = Vec::new();
    let mut at = claimed.max(now - MAX_LATENESS);
    while let Some(tick) = schedule.next(at).filter(|tick| *tick <= now) {
        ticks.push(tick);
        at = tick;
    }
    if !ticks.is_empty() {
        ticks.drain(..ticks.len().saturating_sub(MAX_LATE_TICKS));
        return DueTicks::Ticks(ticks);
    }
    match (schedule.latest(claimed, now), missed) {
        (None, _) => DueTicks::Nothing,
        (Some(tick), Missed::Once) => DueTicks::Ticks(vec![tick]),
        (Some(tick), Missed::Within(long)) if now.since(tick) <= long => {
            DueTicks::Ticks(vec![tick])
        }
        (Some(tick), Missed::Skip | Missed::Within(_)) => DueTicks::PassedOver(tick),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_depends_on_the_claim_the_time_and_the_policy() {
        const HOUR: i64 = 3600;
        let within = |secs| Missed::Within(Duration::from_secs(secs));
        let at = |secs: i64| Timestamp::from_secs(100 * HOUR + secs);
        let ticks = |all: &[i64]| DueTicks::Ticks(all.iter().map(|secs| at(*secs)).collect());
        for (spec, missed, claimed, now, expected) in [
            // In time.
            ("0 * * * *", Missed::Skip, -HOUR, 0, ticks(&[0])),
            ("0 * * * *", Missed::Skip, -HOUR, -1, DueTicks::Nothing),
            ("0 * * * *", Missed::Skip, 0, 0, DueTicks::Nothing),
            // Late: each is fired.
            ("@every 1s", Missed::Skip, -3, 0, ticks(&[-2, -1, 0])),
            ("0 * * * *", Missed::Skip, -HOUR, 4, ticks(&[0])),
            // Missed.
            ("0 * * * *", Missed::Skip, -HOUR, 5, DueTicks::PassedOver(at(0))),
            ("0 * * * *", Missed::Once, -HOUR, 5, ticks(&[0])),
            ("0 * * * *", Missed::Once, -90 * HOUR, 5, ticks(&[0])),
            ("0 * * * *", within(600), -90 * HOUR, 600, ticks(&[0])),
            ("0 * * * *", within(600), -90 * HOUR, 601, DueTicks::PassedOver(at(0))),
            // Never a flood.
            ("@every 1s", Missed::Once, -HOUR, 0, ticks(&[-4, -3, -2, -1, 0])),
            ("*/1 * * * *", Missed::Once, -HOUR, 30, ticks(&[0])),
        ] {
            let schedule = Schedule::new(spec).unwrap();
            let found = due(&schedule, missed, at(claimed), at(now));
            assert_eq!(found, expected, "{spec} {missed:?} {claimed} {now}");
        }
    }
}
