//! Periodic entries in this process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::MemoryBroker;
use crate::broker::entries::{
    AnnouncedEntry, CLAIM_AHEAD, ENTRIES_ANNOUNCED_FOR, Entries, EntryInfo, EntryRun, Fired,
    Firing, HISTORY, Tick, merged,
};
use crate::broker::{Answer, Enqueued};
use crate::time::Timestamp;

/// Up to where the ticks of an entry are claimed, and when one was fired last.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    up_to: Timestamp,
    last_run: Option<Timestamp>,
}

/// What processes tell about their entries, and what became of these.
#[derive(Default)]
pub(super) struct EntryBook {
    announced: BTreeMap<String, (Vec<AnnouncedEntry>, Timestamp)>,
    /// Newest first.
    history: HashMap<String, VecDeque<EntryRun>>,
}

impl Entries for MemoryBroker {
    fn fire<'a>(&'a self, what: &'a Firing) -> Answer<'a, Fired> {
        Box::pin(async move {
            Ok(self.act(&what.queue, |queue, now| {
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
                        Enqueued::IdConflict | Enqueued::Replayed { .. } | Enqueued::KeyReused => {
                            Tick::IdConflict
                        }
                    });
                }
                queue.claims.insert(what.entry.clone(), claim);
                Fired { claimed: claim.up_to, last_run: claim.last_run, ticks }
            }))
        })
    }

    fn record_run<'a>(
        &'a self,
        entry_id: &'a str,
        run: &'a EntryRun,
        _keep: Duration,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut state = self.state();
            let history = state.entries.history.entry(entry_id.to_owned()).or_default();
            if !history.contains(run) {
                history.push_front(run.clone());
                history.truncate(HISTORY);
            }
            Ok(())
        })
    }

    fn announce_entries<'a>(
        &'a self,
        scheduler: &'a str,
        entries: &'a [AnnouncedEntry],
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let now = self.clock.now();
            let announced = &mut self.state().entries.announced;
            announced.retain(|_, (_, until)| *until >= now);
            let until = now + ENTRIES_ANNOUNCED_FOR;
            announced.insert(scheduler.to_owned(), (entries.to_vec(), until));
            Ok(())
        })
    }

    fn retire_entries<'a>(&'a self, scheduler: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.state().entries.announced.remove(scheduler);
            Ok(())
        })
    }

    fn entries(&self) -> Answer<'_, Vec<EntryInfo>> {
        Box::pin(async move {
            let now = self.clock.now();
            let state = self.state();
            let alive = state.entries.announced.iter().filter(|(_, (_, until))| *until >= now);
            Ok(merged(alive.flat_map(|(scheduler, (entries, _))| {
                entries.iter().map(move |entry| entry.seen(scheduler))
            })))
        })
    }

    fn entry_history<'a>(
        &'a self,
        entry_id: &'a str,
        skip: usize,
        most: usize,
    ) -> Answer<'a, Vec<EntryRun>> {
        Box::pin(async move {
            let state = self.state();
            let history = state.entries.history.get(entry_id);
            Ok(history.into_iter().flatten().skip(skip).take(most).cloned().collect())
        })
    }
}
