//! Fires periodic entries: sleeps until the next tick and asks the store to claim
//! it. All processes with an entry do so; the store lets one of them have each tick.

use std::sync::Arc;
use std::time::Duration;

use super::periodic_jobs::{Listener, PeriodicJob, PeriodicJobs};
use super::{Round, Service};
use crate::broker::{Broker, PeriodicRun, Tick};
use crate::error::Error;
use crate::job::{Missed, Schedule, tick_id};
use crate::time::Timestamp;

/// Until then a tick is late, not missed: each is fired. A pause of this length
/// must not cost a tick of an entry that is due every second.
const LATE: Duration = Duration::from_secs(5);

/// Most late ticks that are fired at once.
const LATE_AT_MOST: usize = 5;

/// The longest sleep: clocks may be set, and hosts may be suspended.
const LOOK: Duration = Duration::from_secs(60);

/// The last stretch before a tick is slept on the precise timer.
const LAST_STRETCH: Duration = Duration::from_secs(9);

/// How soon an entry is served again that the store did not serve.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct PeriodicService {
    broker: Arc<dyn Broker>,
    entries: PeriodicJobs,
}

impl PeriodicService {
    pub(crate) fn new(broker: Arc<dyn Broker>, entries: PeriodicJobs) -> Self {
        Self { broker, entries }
    }

    /// Fires what is due; how long until the next tick of all entries.
    pub(crate) async fn fire_due(&self) -> (Round, Option<Duration>) {
        let entries = self.entries.all();
        let mut round = Round::default();
        // Side by side: all are due on the hour, and none should wait for others.
        let served = entries.iter().map(|entry| self.serve(entry));
        let mut next: Option<Duration> = None;
        for answer in futures_util::future::join_all(served).await {
            // The others' next tick may be too late for one that was not served.
            let wait = round.note(answer).unwrap_or(Some(AGAIN));
            next = next.into_iter().chain(wait).min();
        }
        (round, next)
    }

    /// Fires what is due of an entry; how long until its next tick, if there is one.
    async fn serve(&self, entry: &PeriodicJob) -> Result<Option<Duration>, Error> {
        let claimed = match entry.seen().claimed {
            Some(claimed) => claimed,
            None => {
                let asked = entry.firing(&[], self.broker.now());
                let fired = self.broker.fire(&asked).await?;
                entry.see(&fired);
                if fired.last_run.is_some() {
                    // The first beat has shown "never".
                    self.entries.announce_soon();
                }
                fired.claimed
            }
        };
        let now = self.broker.now();
        let ticks = match due(&entry.schedule, entry.missed, claimed, now) {
            Due::Nothing => Vec::new(),
            Due::Ticks(ticks) => ticks,
            Due::PassedOver(tick) => {
                crate::log::info!(
                    "periodic entry {:?}: its tick of {tick} was missed and is not made up for",
                    entry.name
                );
                entry.pass_over(tick);
                Vec::new()
            }
        };
        if !ticks.is_empty() {
            let fired = self.broker.fire(&entry.firing(&ticks, now)).await?;
            entry.see(&fired);
            for (tick, outcome) in ticks.into_iter().zip(fired.ticks) {
                match outcome {
                    Tick::Fired { at } => self.record(entry, tick, at).await,
                    Tick::Early(left) => return Ok(Some(left)),
                    // Another process was first, or the entry says to skip.
                    skipped => {
                        crate::log::debug!(
                            "periodic entry {:?} at {tick}: {skipped:?}",
                            entry.name
                        );
                    }
                }
            }
        }
        let now = self.broker.now();
        Ok(entry.schedule.next(now).map(|next| next.since(now)))
    }

    /// The job is stored; a history without it is no reason to fire again.
    async fn record(&self, entry: &PeriodicJob, tick: Timestamp, at: Timestamp) {
        crate::log::debug!("periodic entry {:?} fired for {tick}", entry.name);
        let run = PeriodicRun::new(tick_id(&entry.name, tick), at);
        let keep = entry.keep(at);
        if let Err(error) = self.broker.record_run(&entry.id, &run, keep).await {
            crate::log::warn!(
                "the history of periodic entry {:?} lacks a run: {error:?}",
                entry.name
            );
        }
    }
}

impl Service for PeriodicService {
    const NAME: &'static str = "firing periodic entries";

    async fn tick(&self) -> Result<Duration, Error> {
        let (round, next) = self.fire_due().await;
        let next = next.unwrap_or(LOOK).min(LOOK);
        let long = next > LAST_STRETCH + Duration::from_secs(1);
        round.end(if long { next - LAST_STRETCH } else { next })
    }

    async fn wakeup(&self) {
        self.entries.changed(Listener::Firing).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// To be fired, in order.
    Ticks(Vec<Timestamp>),
    /// The last missed one, which is too long ago.
    PassedOver(Timestamp),
}

/// What is due of a schedule whose ticks are claimed up to an instant.
fn due(schedule: &Schedule, missed: Missed, claimed: Timestamp, now: Timestamp) -> Due {
    let mut ticks = Vec::new();
    let mut at = claimed.max(now - LATE);
    while let Some(tick) = schedule.next(at).filter(|tick| *tick <= now) {
        ticks.push(tick);
        at = tick;
    }
    if !ticks.is_empty() {
        ticks.drain(..ticks.len().saturating_sub(LATE_AT_MOST));
        return Due::Ticks(ticks);
    }
    match (schedule.latest(claimed, now), missed) {
        (None, _) => Due::Nothing,
        (Some(tick), Missed::Once) => Due::Ticks(vec![tick]),
        (Some(tick), Missed::Within(long)) if now.since(tick) <= long => Due::Ticks(vec![tick]),
        (Some(tick), Missed::Skip | Missed::Within(_)) => Due::PassedOver(tick),
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
        let ticks = |all: &[i64]| Due::Ticks(all.iter().map(|secs| at(*secs)).collect());
        for (spec, missed, claimed, now, expected) in [
            // In time.
            ("0 * * * *", Missed::Skip, -HOUR, 0, ticks(&[0])),
            ("0 * * * *", Missed::Skip, -HOUR, -1, Due::Nothing),
            ("0 * * * *", Missed::Skip, 0, 0, Due::Nothing),
            // Late: each is fired.
            ("@every 1s", Missed::Skip, -3, 0, ticks(&[-2, -1, 0])),
            ("0 * * * *", Missed::Skip, -HOUR, 4, ticks(&[0])),
            // Missed.
            ("0 * * * *", Missed::Skip, -HOUR, 5, Due::PassedOver(at(0))),
            ("0 * * * *", Missed::Once, -HOUR, 5, ticks(&[0])),
            ("0 * * * *", Missed::Once, -90 * HOUR, 5, ticks(&[0])),
            ("0 * * * *", within(600), -90 * HOUR, 600, ticks(&[0])),
            ("0 * * * *", within(600), -90 * HOUR, 601, Due::PassedOver(at(0))),
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
