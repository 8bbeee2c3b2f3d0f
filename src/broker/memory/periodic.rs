//! Periodic jobs in this process' memory: claims of ticks, announcements and histories.
//!
//! A claim belongs to its queue, so that claiming a tick and storing its job happen under
//! one lock. Announcements and histories belong to the whole store, as their keys do in
//! Redis: announcements expire unless they are repeated, and a history ends some time after
//! its last run.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::{MemoryBroker, persist};
use crate::broker::disk::Level;
use crate::broker::periodic::{
    AnnouncedPeriodicJob, CLAIM_AHEAD, Fired, Firing, MAX_PERIODIC_RUNS, PERIODIC_ANNOUNCEMENT_TTL,
    PeriodicJobInfo, PeriodicRun, PeriodicStore, Tick, merged,
};
use crate::broker::{Answer, Enqueued};
use crate::time::Timestamp;

/// The instant up to which ticks of a periodic job are claimed, and its last run.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub(super) up_to: Timestamp,
    pub(super) last_run: Option<Timestamp>,
}

/// Announced periodic jobs, and the histories of their runs.
#[derive(Default)]
pub(super) struct PeriodicState {
    /// The jobs of each process, with the expiry of its announcement.
    announced: BTreeMap<String, (Vec<AnnouncedPeriodicJob>, Timestamp)>,
    /// Runs by the id of the periodic job, the newest first.
    pub(super) history: HashMap<String, VecDeque<PeriodicRun>>,
}

impl PeriodicStore for MemoryBroker {
    fn fire<'a>(&'a self, what: &'a Firing) -> Answer<'a, Fired> {
        Box::pin(async move {
            self.accepts(Level::NewJobs)?;
            let fired = self.act(&what.queue, |queue, now| {
                let possible = |up_to: &Timestamp| *up_to <= now + CLAIM_AHEAD;
                let kept = queue.claims.get(&what.entry).filter(|claim| possible(&claim.up_to));
                let known = what.known.filter(possible).unwrap_or(now);
                let mut claim = kept.copied().unwrap_or(Claim { up_to: known, last_run: None });
                let mut ticks = Vec::with_capacity(what.ticks.len());
                for (tick, job) in &what.ticks {
                    if *tick > now {
                        ticks.push(Tick::Early(tick.since(now)));
                        continue;
                    }
                    if *tick <= claim.up_to {
                        ticks.push(Tick::Claimed);
                        continue;
                    }
                    claim.up_to = *tick;
                    ticks.push(match queue.enqueue(job, now) {
                        Enqueued::Duplicate { holder } => Tick::Locked { holder },
                        Enqueued::Created { .. } => {
                            claim.last_run = Some(now);
                            Tick::Fired { at: now }
                        }
                        // Of a periodic job every conflict is a skipped tick.
                        Enqueued::Replaced { id: holder, .. } | Enqueued::Extended { holder } => {
                            Tick::Locked { holder }
                        }
                        Enqueued::IdConflict
                        | Enqueued::QueueFull
                        | Enqueued::NotFound
                        | Enqueued::WrongState(_)
                        | Enqueued::Replayed { .. }
                        | Enqueued::KeyReused => Tick::IdConflict,
                    });
                }
                queue.claims_changed.note(|| what.entry.clone());
                queue.claims.insert(what.entry.clone(), claim);
                Fired { claimed: claim.up_to, last_run: claim.last_run, ticks }
            });
            self.saved(Level::NewJobs).await?;
            Ok(fired)
        })
    }

    fn record_run<'a>(
        &'a self,
        periodic_id: &'a str,
        run: &'a PeriodicRun,
        _keep: Duration,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut state = self.state();
            let history = state.periodic.history.entry(periodic_id.to_owned()).or_default();
            if !history.contains(run) {
                history.push_front(run.clone());
                self.keep(|rows| persist::write_run(periodic_id, run, true, rows));
                for old in history.drain(MAX_PERIODIC_RUNS.min(history.len())..) {
                    self.keep(|rows| persist::write_run(periodic_id, &old, false, rows));
                }
            }
            Ok(())
        })
    }

    fn announce_periodic_jobs<'a>(
        &'a self,
        scheduler: &'a str,
        entries: &'a [AnnouncedPeriodicJob],
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let now = self.clock.now();
            let announced = &mut self.state().periodic.announced;
            announced.retain(|_, (_, until)| *until >= now);
            let until = now + PERIODIC_ANNOUNCEMENT_TTL;
            announced.insert(scheduler.to_owned(), (entries.to_vec(), until));
            Ok(())
        })
    }

    fn retire_periodic_jobs<'a>(&'a self, scheduler: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.state().periodic.announced.remove(scheduler);
            Ok(())
        })
    }

    fn periodic_jobs(&self) -> Answer<'_, Vec<PeriodicJobInfo>> {
        Box::pin(async move {
            let now = self.clock.now();
            let state = self.state();
            let alive = state.periodic.announced.iter().filter(|(_, (_, until))| *until >= now);
            Ok(merged(alive.flat_map(|(scheduler, (entries, _))| {
                entries.iter().map(move |entry| entry.seen(scheduler))
            })))
        })
    }

    fn periodic_history<'a>(
        &'a self,
        periodic_id: &'a str,
        skip: usize,
        most: usize,
    ) -> Answer<'a, Vec<PeriodicRun>> {
        Box::pin(async move {
            let state = self.state();
            let history = state.periodic.history.get(periodic_id);
            Ok(history.into_iter().flatten().skip(skip).take(most).cloned().collect())
        })
    }
}
