//! Moving everything in and out of the store in this process' memory, and so of the store on
//! disk.
//!
//! An export takes the ids of a queue's jobs when it comes to the queue, and reads the jobs
//! page by page, so that the store is locked for a page at a time. Everything else of a queue
//! is small and read at once.
//!
//! An import compares each entry and stores it under the store's lock, and waits for the disk once a
//! page: what is there already is the same, or a conflict that stays. On a store on disk the rows of an
//! import go the way of all others, through the journal.

use std::collections::VecDeque;

use super::MemoryBroker;
use super::periodic::Claim;
use super::queue::{Queue, Request, StoredJob, Tally, day, whole_second};
use super::unique::LockHolder;
use crate::broker::disk::Level;
use crate::broker::transfer::{Counters, HISTORY_KEPT, differs, job_differs};
use crate::broker::{
    Answer, CounterSnapshot, Entry, Export, Imported, JobEntry, PeriodicRun, PeriodicStore,
    TRANSFER_PAGE, TRANSFER_PAGE_BYTES, Transfer,
};
use crate::error::Error;
use crate::job::{JobId, JobState, QueueName};
use crate::time::Timestamp;

impl Transfer for MemoryBroker {
    /// A folder in another format is not opened.
    fn foreign_format(&self) -> Answer<'_, Option<String>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn export(&self) -> Box<dyn Export> {
        let queues = self.state().queues.keys().cloned().collect();
        let (broker, entries) = (self.clone(), VecDeque::new());
        Box::new(MemoryExport { broker, queues, jobs: None, entries, is_last: false })
    }

    /// Each entry is compared and stored under the store's lock; the page waits for the disk once.
    fn import<'a>(&'a self, entries: &'a [Entry], dry_run: bool) -> Answer<'a, Vec<Imported>> {
        Box::pin(async move {
            if !dry_run {
                self.accepts(Level::NewJobs)?;
            }
            let mut results = Vec::with_capacity(entries.len());
            for entry in entries {
                results.push(match entry {
                    Entry::KeyQueue { key, queue, until } => {
                        self.import_key_queue(key, queue, *until, dry_run)
                    }
                    Entry::Runs { periodic_id, runs } => {
                        self.import_runs(periodic_id, runs, dry_run).await?
                    }
                    _ => match entry.queue() {
                        Some(queue) => self.import_into(queue, entry, dry_run),
                        None => Imported::AlreadyThere,
                    },
                });
            }
            if !dry_run {
                self.saved(Level::NewJobs).await?;
            }
            Ok(results)
        })
    }
}

impl MemoryBroker {
    fn import_into(&self, queue: &QueueName, entry: &Entry, dry_run: bool) -> Imported {
        if dry_run {
            // Not made for a look.
            let state = self.state();
            let mut none = Queue::default();
            let found = state.queues.get(queue).unwrap_or(&none).compare(entry, self.clock.now());
            drop(state);
            return found.unwrap_or_else(|| none.import(entry, self.clock.now()));
        }
        self.act(queue, |queue, now| {
            queue.compare(entry, now).unwrap_or_else(|| queue.import(entry, now))
        })
    }

    fn import_key_queue(
        &self,
        key: &str,
        queue: &QueueName,
        until: Timestamp,
        dry_run: bool,
    ) -> Imported {
        let (mut state, now) = (self.state(), self.clock.now());
        let keys = &mut state.queues_of_keys;
        if until <= now {
            return Imported::Expired;
        }
        match keys.get(key, now) {
            Some(found) if found == queue => Imported::AlreadyThere,
            Some(found) => differs("queue of an idempotency key", queue, found),
            None if dry_run => Imported::New,
            None => {
                keys.insert(key.to_owned(), queue.clone(), until, now);
                self.keep(|rows| super::persist::write_key_queues(keys, rows));
                Imported::New
            }
        }
    }

    async fn import_runs(
        &self,
        periodic_id: &str,
        runs: &[PeriodicRun],
        dry_run: bool,
    ) -> Result<Imported, Error> {
        let known: Vec<PeriodicRun> = {
            let state = self.state();
            state.periodic.history.get(periodic_id).into_iter().flatten().cloned().collect()
        };
        let new: Vec<_> = runs.iter().filter(|run| !known.contains(run)).collect();
        if new.is_empty() {
            return Ok(Imported::AlreadyThere);
        }
        for run in new.into_iter().filter(|_| !dry_run) {
            self.record_run(periodic_id, run, HISTORY_KEPT).await?;
        }
        Ok(Imported::New)
    }
}

/// An export of this store.
struct MemoryExport {
    broker: MemoryBroker,
    /// Queues that are still to come.
    queues: VecDeque<QueueName>,
    /// Jobs of the current queue that are still to come.
    jobs: Option<(QueueName, VecDeque<JobId>)>,
    /// Everything else that comes before the next queue.
    entries: VecDeque<Entry>,
    /// What belongs to no queue was read.
    is_last: bool,
}

impl Export for MemoryExport {
    fn next_page(&mut self) -> Answer<'_, Option<Vec<Entry>>> {
        Box::pin(async move { Ok(self.page()) })
    }
}

impl MemoryExport {
    fn page(&mut self) -> Option<Vec<Entry>> {
        loop {
            if let Some((queue, ids)) = &mut self.jobs {
                let page = self.broker.look(queue, |queue, _| queue.export_jobs(ids));
                match page.filter(|page| !page.is_empty()) {
                    Some(page) => return Some(page),
                    None => self.jobs = None,
                }
            }
            if !self.entries.is_empty() {
                let some = self.entries.len().min(TRANSFER_PAGE);
                return Some(self.entries.drain(..some).collect());
            }
            let Some(name) = self.queues.pop_front() else {
                if self.is_last {
                    return None;
                }
                (self.is_last, self.entries) = (true, self.broker.export_store());
                continue;
            };
            let found = self.broker.look(&name, |queue, now| {
                (queue.export_info(&name), queue.all_ids(), queue.export_rest(&name, now))
            });
            if let Some((info, ids, rest)) = found {
                (self.jobs, self.entries) = (Some((name, ids)), rest);
                return Some(vec![info]);
            }
        }
    }
}

impl MemoryBroker {
    /// What belongs to no queue.
    fn export_store(&self) -> VecDeque<Entry> {
        let (state, now) = (self.state(), self.clock.now());
        let keys = state.queues_of_keys.alive(now).map(|(key, queue, until)| Entry::KeyQueue {
            key: key.clone(),
            queue: queue.clone(),
            until,
        });
        let runs = state.periodic.history.iter().map(|(id, runs)| Entry::Runs {
            periodic_id: id.clone(),
            runs: runs.iter().rev().cloned().collect(),
        });
        keys.chain(runs).collect()
    }
}

impl Queue {
    fn export_info(&self, name: &QueueName) -> Entry {
        let Tally { processed, failed } = self.total;
        Entry::Queue { queue: name.clone(), paused: self.paused, processed, failed }
    }

    /// All jobs: what ran, then what is pending, then what waits for a limit, each in its order,
    /// then the others.
    fn all_ids(&self) -> VecDeque<JobId> {
        let mut waiting: Vec<(i64, &JobId)> = self.gates.turns().collect();
        waiting.sort_unstable();
        let waits = |id: &&JobId| self.jobs.get(id).is_some_and(StoredJob::waits_for_limit);
        let lines = [&self.scheduled, &self.retry, &self.archived, &self.completed];
        let lines = lines.into_iter().flatten().map(|(_, id)| id);
        let lines = lines.filter(|id| !waits(id));
        let waiting = waiting.into_iter().map(|(_, id)| id);
        let ids = self.leases.values().chain(&self.pending).chain(waiting).chain(lines);
        ids.chain(self.grouping.all()).cloned().collect()
    }

    /// The first of these jobs, as many as make a page.
    fn export_jobs(&self, ids: &mut VecDeque<JobId>) -> Vec<Entry> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        while page.len() < TRANSFER_PAGE && bytes < TRANSFER_PAGE_BYTES {
            let Some(id) = ids.pop_front() else { break };
            let Some(stored) = self.jobs.get(&id) else { continue };
            let entry = stored.entry();
            bytes += entry.bytes();
            page.push(Entry::Job(Box::new(entry)));
        }
        page
    }

    /// Everything of the queue but its jobs.
    fn export_rest(&self, name: &QueueName, now: Timestamp) -> VecDeque<Entry> {
        let queue = || name.clone();
        let mut all = VecDeque::new();
        all.extend(self.locks.alive(now).map(|(lock, holder, until)| Entry::Lock {
            queue: queue(),
            name: lock.clone(),
            holder: holder.id.clone(),
            until,
            timed: holder.timed,
        }));
        all.extend(self.requests.alive(now).map(|(key, request, until)| Entry::Request {
            queue: queue(),
            key: key.clone(),
            body: request.body.clone(),
            job: request.id.clone(),
            until,
        }));
        all.extend(self.claims.iter().map(|(claimed, claim)| Entry::Claim {
            queue: queue(),
            name: claimed.clone(),
            up_to: claim.up_to,
            last_run: claim.last_run,
            until: None,
        }));
        // A day without attempts only keeps the totals on disk.
        let days = self.days.iter().filter(|(_, tally)| tally.processed + tally.failed > 0);
        all.extend(days.map(|(day, tally)| Entry::Day {
            queue: queue(),
            day: *day,
            processed: tally.processed,
            failed: tally.failed,
        }));
        all.extend(self.snapshots.iter().map(|(minute, one)| Entry::Minute {
            queue: queue(),
            minute: *minute,
            processed: one.processed,
            failed: one.failed,
            pending: one.waiting,
        }));
        all
    }

    /// Whether the entry may be stored: nothing if it may.
    fn compare(&self, entry: &Entry, now: Timestamp) -> Option<Imported> {
        let same = |is_same: bool, otherwise: &dyn Fn() -> Imported| {
            Some(if is_same { Imported::AlreadyThere } else { otherwise() })
        };
        match entry {
            Entry::Job(job) => {
                let found = self.jobs.get(&job.record.id).map(|stored| stored.entry());
                match found {
                    Some(found) => same(job.is_same(&found), &|| job_differs(job, &found)),
                    None => job.has_expired(now).then_some(Imported::Expired),
                }
            }
            Entry::Queue { queue, paused, processed, failed } => {
                let wanted = (*paused, *processed, *failed);
                let found = (self.paused, self.total.processed, self.total.failed);
                // Nobody may have used it, and yet it may be paused.
                let is_empty = found == (None, 0, 0);
                if is_empty && (!self.used || wanted != found) {
                    return None;
                }
                let what = format!("pause and counters of queue \"{queue}\"");
                same(wanted == found, &|| differs(&what, Counters(wanted), Counters(found)))
            }
            Entry::Lock { queue, name, holder, until, timed } => {
                let found = self.locks.get(name, now);
                let what = || format!("holder of a unique lock of queue \"{queue}\"");
                let wanted = LockHolder { id: holder.clone(), timed: *timed };
                match found {
                    Some(found) => same(*found == wanted, &|| differs(&what(), &wanted, found)),
                    None => (*until <= now).then_some(Imported::Expired),
                }
            }
            Entry::Request { queue, key, body, job, until } => {
                let found = self.requests.get(key, now);
                let what = || format!("job of an idempotency key of queue \"{queue}\"");
                match found {
                    Some(found) => same(found.body == *body && found.id == *job, &|| {
                        differs(&what(), job, &found.id)
                    }),
                    None => (*until <= now).then_some(Imported::Expired),
                }
            }
            Entry::Claim { queue, name, up_to, last_run, .. } => {
                let found = self.claims.get(name)?;
                let what = format!("claimed ticks of periodic job \"{name}\" in queue \"{queue}\"");
                let is_same = (found.up_to, found.last_run) == (*up_to, *last_run);
                same(is_same, &|| differs(&what, up_to, found.up_to))
            }
            Entry::Day { queue, day, processed, failed } => {
                // A day without attempts is there only for the totals in its row.
                let found =
                    self.days.get(day).filter(|found| found.processed + found.failed > 0)?;
                let what = format!("counters of queue \"{queue}\" on day {day} since 1970");
                let is_same = (found.processed, found.failed) == (*processed, *failed);
                same(is_same, &|| differs(&what, processed, found.processed))
            }
            Entry::Minute { queue, minute, processed, failed, pending } => {
                let found = self.snapshots.get(minute)?;
                let wanted =
                    CounterSnapshot { processed: *processed, failed: *failed, waiting: *pending };
                let what = format!("counters of queue \"{queue}\" in minute {minute} since 1970");
                same(*found == wanted, &|| differs(&what, processed, found.processed))
            }
            Entry::Unreadable { .. } | Entry::KeyQueue { .. } | Entry::Runs { .. } => {
                Some(Imported::AlreadyThere)
            }
        }
    }

    /// Stores an entry that is not there.
    fn import(&mut self, entry: &Entry, now: Timestamp) -> Imported {
        self.used = true;
        match entry {
            Entry::Job(job) => self.import_job(job, now),
            Entry::Queue { paused, processed, failed, .. } => {
                self.paused = paused.map(whole_second);
                self.total = Tally { processed: *processed, failed: *failed };
                // The row of a day has the totals.
                let today = self.days.keys().next_back().copied().unwrap_or(day(now));
                self.days_changed.note(|| today);
            }
            Entry::Lock { name, holder, until, timed, .. } => {
                let holder = LockHolder { id: holder.clone(), timed: *timed };
                self.locks.insert(name.clone(), holder, *until, now);
            }
            Entry::Request { key, body, job, until, .. } => {
                let request = Request { body: body.clone(), id: job.clone() };
                self.requests.insert(key.clone(), request, *until, now);
            }
            Entry::Claim { name, up_to, last_run, .. } => {
                self.claims_changed.note(|| name.clone());
                self.claims.insert(name.clone(), Claim { up_to: *up_to, last_run: *last_run });
            }
            Entry::Day { day, processed, failed, .. } => {
                self.days_changed.note(|| *day);
                self.days.insert(*day, Tally { processed: *processed, failed: *failed });
            }
            Entry::Minute { minute, processed, failed, pending, .. } => {
                let one =
                    CounterSnapshot { processed: *processed, failed: *failed, waiting: *pending };
                self.snapshots_changed.note(|| *minute);
                self.snapshots.insert(*minute, one);
            }
            Entry::Unreadable { .. } | Entry::KeyQueue { .. } | Entry::Runs { .. } => {}
        }
        Imported::New
    }

    fn import_job(&mut self, job: &JobEntry, now: Timestamp) {
        let mut stored = Box::new(StoredJob::new(job.record.clone()));
        let (id, at) = (job.record.id.clone(), job.at.unwrap_or(now));
        stored.grouped = job.grouped;
        stored.timed_lock.clone_from(&job.timed_lock);
        stored.unlock_at_start = job.unlock_at_start;
        self.must_start_by(&mut stored, job.start_by);
        stored.result.clone_from(&job.result);
        stored.progress.clone_from(&job.progress);
        stored.losses = job.losses;
        stored.version.clone_from(&job.version);
        stored.first_failed_version.clone_from(&job.first_failed_version);
        stored.failures.clone_from(&job.failures);
        if let Some(turn) = job.turn {
            self.take_turn(&mut stored, turn);
        }
        match job.state {
            JobState::Pending | JobState::Active => {
                stored.pending_since = Some(job.pending_since.unwrap_or(now));
                self.append_pending(stored, now);
            }
            JobState::Scheduled | JobState::Retry => self.wait(stored, job.state, at),
            JobState::Aggregating => self.join_group(stored, at),
            JobState::Archived => {
                (stored.state, stored.entered) = (JobState::Archived, whole_second(at));
                self.archived.insert((stored.entered, id.clone()));
                self.jobs.insert(id, stored);
            }
            JobState::Completed => {
                stored.state = JobState::Completed;
                let completed = stored.job.completed_at.unwrap_or(at - stored.job.retention);
                stored.job.completed_at = Some(completed);
                self.completed.insert((completed + stored.job.retention, id.clone()));
                self.jobs.insert(id, stored);
            }
        }
    }
}

impl StoredJob {
    /// The job as it is exported.
    fn entry(&self) -> JobEntry {
        let at = match self.state {
            JobState::Pending | JobState::Active => None,
            JobState::Scheduled if self.waits_for_place => None,
            // What it waits for does not move.
            JobState::Scheduled | JobState::Retry => {
                self.follows.as_ref().map(|follows| follows.due).or(self.due)
            }
            JobState::Archived | JobState::Aggregating => Some(self.entered),
            JobState::Completed => self.job.completed_at.map(|at| at + self.job.retention),
        };
        // Limits are set there again, and find it a place.
        let waits = self.waits_for_limit();
        let was_active = self.state == JobState::Active;
        JobEntry {
            record: self.job.clone(),
            state: if was_active || waits { JobState::Pending } else { self.state },
            was_active,
            at,
            turn: self.turn(),
            pending_since: self.pending_since,
            grouped: self.grouped,
            timed_lock: self.timed_lock.clone(),
            unlock_at_start: self.unlock_at_start,
            start_by: self.start_by,
            result: self.result.clone(),
            progress: self.progress.clone(),
            losses: self.losses,
            version: self.version.clone(),
            first_failed_version: self.first_failed_version.clone(),
            failures: self.failures.clone(),
            message: None,
        }
    }
}
