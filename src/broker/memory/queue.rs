//! One queue and its rules, as plain data: no clock, no waiting, no waking.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::entries::Claim;
use super::expiring::Expiring;
use super::groups::Grouping;
use crate::broker::{
    ArchiveLimit, CROWDED, CROWDED_PAUSE, CounterSnapshot, CounterSnapshots, Delivery, Enqueued,
    Extended, FAILURES_KEPT, Forwarded, JobFailure, LEASE, Lease, MinuteStats, Settled,
};
use crate::job::{
    AfterCancel, Charge, Idempotency, JobId, JobRecord, JobState, NewJob, Placement, Progress,
    Transition, is_suspect,
};
use crate::time::Timestamp;

/// How long Asynq keeps the daily counters.
const DAYS_KEPT: i64 = 90;

/// How many minutes the levels of counters are kept.
const LEVELS_KEPT: i64 = 90;

/// Jobs in the order of an instant, equal ones by id.
pub(super) type Timeline = BTreeSet<(Timestamp, JobId)>;

/// One queue.
#[derive(Default)]
pub(super) struct Queue {
    used: bool,
    /// Since when.
    pub(super) paused: Option<Timestamp>,
    pub(super) jobs: HashMap<JobId, Stored>,
    /// The next one is in front.
    pub(super) pending: VecDeque<JobId>,
    /// Active jobs, by the end of their lease, which no two have in common.
    pub(super) leases: BTreeMap<i64, JobId>,
    last_owner: u64,
    pub(super) scheduled: Timeline,
    pub(super) retry: Timeline,
    /// By the end of their retention.
    pub(super) completed: Timeline,
    /// By the time of their archiving.
    pub(super) archived: Timeline,
    pub(super) keep: ArchiveLimit,
    release_on_archive: bool,
    pub(super) grouping: Grouping,
    pub(super) locks: Expiring<JobId>,
    requests: Expiring<Request>,
    /// Jobs that strangers enqueue, and since when each has its place.
    pub(super) admitted: HashMap<JobId, Timestamp>,
    /// Of periodic entries, by their name.
    pub(super) claims: HashMap<String, Claim>,
    pub(super) total: Tally,
    /// The counters at the beginning of minutes.
    pub(super) levels: CounterSnapshots,
    pub(super) days: BTreeMap<i64, Tally>,
}

pub(super) struct Stored {
    pub(super) job: JobRecord,
    pub(super) state: JobState,
    pub(super) due: Option<Timestamp>,
    pub(super) pending_since: Option<Timestamp>,
    pub(super) result: Option<Vec<u8>>,
    pub(super) progress: Option<Progress>,
    /// What an operator wants to become of it.
    pub(super) cancel: Option<AfterCancel>,
    pub(super) losses: u32,
    /// How its last attempts failed, the oldest first.
    pub(super) failures: Vec<JobFailure>,
    /// While it is active: whose it is, and until when.
    pub(super) held: (u64, i64),
    /// Whether it was started as a suspect.
    started: bool,
    /// Under whom its lease ran out, where it is pending since that was found.
    pub(super) reclaimed_from: Option<u64>,
    /// Whether it goes to its group when it is due. Not any more once it was
    /// made to run by itself.
    pub(super) grouped: bool,
}

/// What an idempotency key was used for.
struct Request {
    body: String,
    id: JobId,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) processed: u64,
    pub(super) failed: u64,
}

impl Queue {
    /// An empty queue with these limits of its archive.
    pub(super) fn keeping(keep: ArchiveLimit, release_on_archive: bool) -> Self {
        Self { keep, release_on_archive, ..Self::default() }
    }

    /// What a queue of this name begins with once this one is removed. No lease of
    /// the old one may fit a job of the new one.
    pub(super) fn successor(&self) -> Self {
        let new = Self::keeping(self.keep, self.release_on_archive);
        Self { last_owner: self.last_owner, ..new }
    }

    /// It exists, whether or not it ever had a job.
    pub(super) fn publish(&mut self) {
        self.used = true;
    }

    /// Whether it exists: a job was handed in, or a worker announced it.
    pub(super) fn used(&self) -> bool {
        self.used
    }

    pub(super) fn paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Whether it has jobs that nobody is to take.
    pub(super) fn withholds(&self) -> bool {
        self.paused() && !self.pending.is_empty()
    }

    /// How many jobs a worker could take now.
    pub(super) fn available(&self) -> usize {
        if self.paused() { 0 } else { self.pending.len() }
    }

    /// When the next scheduled or retried job is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let first = |line: &Timeline| line.first().map(|(due, _)| *due);
        first(&self.scheduled).into_iter().chain(first(&self.retry)).min()
    }

    /// Whether a request with this key was stored before.
    pub(super) fn knows_request(&self, guard: &Idempotency, now: Timestamp) -> bool {
        self.requests.get(&guard.key, now).is_some()
    }

    pub(super) fn enqueue(&mut self, new: &NewJob, now: Timestamp) -> Enqueued {
        self.used = true;
        // The repeat guard comes first: a repeated request would otherwise meet
        // the lock and the id of the job it made itself.
        if let Some(guard) = &new.idempotency
            && let Some(first) = self.requests.get(&guard.key, now)
        {
            return if first.body == guard.body {
                Enqueued::Replayed { id: first.id.clone() }
            } else {
                Enqueued::KeyReused
            };
        }
        let lock = new.unique_for.map(|lasts| (unique_key(&new.record), lasts));
        if let Some((key, _)) = &lock
            && let Some(holder) = self.locks.get(key, now)
        {
            return Enqueued::Duplicate { holder: holder.clone() };
        }
        let id = new.record.id.clone();
        if self.jobs.contains_key(&id) {
            return Enqueued::IdConflict;
        }

        let due = match new.placement {
            Placement::Now => now,
            Placement::After(delay) => now + delay,
            Placement::At(when) => when.max(now),
        };
        let mut job = new.record.clone();
        if let Some((key, lasts)) = lock {
            job.unique_key.clone_from(&key);
            self.locks.insert(key, id.clone(), due + lasts, now);
        }
        if let Some(guard) = &new.idempotency {
            let request = Request { body: guard.body.clone(), id: id.clone() };
            self.requests.insert(guard.key.clone(), request, now + guard.kept, now);
        }
        let grouped = !job.group.is_empty();
        let mut stored = Stored {
            job,
            state: JobState::Pending,
            due: None,
            pending_since: None,
            result: None,
            progress: None,
            cancel: None,
            losses: 0,
            failures: Vec::new(),
            held: (0, 0),
            started: false,
            reclaimed_from: None,
            grouped,
        };
        if due > now {
            self.wait(stored, JobState::Scheduled, due);
            return Enqueued::Created { state: JobState::Scheduled, due };
        }
        if grouped {
            self.join_group(stored, now);
            return Enqueued::Created { state: JobState::Aggregating, due };
        }
        stored.pending_since = Some(now);
        self.pending.push_back(id.clone());
        self.jobs.insert(id, stored);
        Enqueued::Created { state: JobState::Pending, due }
    }

    /// Takes the next job, unless the queue is paused. Leases count by the
    /// [steady](crate::time::Clock::steady) time.
    pub(super) fn dequeue(&mut self, steady: Timestamp) -> Option<Delivery> {
        if self.paused() {
            return None;
        }
        let id = self.pending.pop_front()?;
        let ends = self.next_end(steady);
        self.last_owner += 1;
        let stored = self.jobs.get_mut(&id)?;
        stored.state = JobState::Active;
        let ready = stored.pending_since.take();
        (stored.held, stored.started) = ((self.last_owner, ends), false);
        (stored.progress, stored.reclaimed_from) = (None, None);
        let delivery = Delivery { ready, ..stored.delivery(Some(self.last_owner)) };
        self.leases.insert(ends, id);
        Some(delivery)
    }

    pub(super) fn settle(
        &mut self,
        delivery: &Delivery,
        what: &Transition,
        now: Timestamp,
    ) -> Settled {
        let lease = &delivery.lease;
        let waits = self.reclaimed(lease);
        if !waits && !self.holds(lease) {
            return Settled::Lost;
        }
        let Some(mut stored) = self.jobs.remove(&lease.id) else {
            return Settled::Lost;
        };
        if waits {
            // Its attempt has been made, and is not to be made again.
            self.pending.retain(|id| *id != lease.id);
            (stored.pending_since, stored.reclaimed_from) = (None, None);
        } else {
            self.leases.remove(&stored.held.1);
        }
        if !matches!(what, Transition::Reclaim { .. } | Transition::PutBack { .. }) {
            stored.losses = 0;
        }
        // What an operator wants of a job that would wait is done to it here.
        let wish = stored.cancel.take().filter(|wish| *wish != AfterCancel::Retry);
        match what {
            Transition::Complete { result } => {
                self.count(now, false);
                self.unlock(&stored.job, now);
                // A loss that turned out to be none is no failure.
                stored.job.last_error.clone_from(&delivery.job.last_error);
                stored.job.last_failed_at = delivery.job.last_failed_at;
                self.complete(stored, result.clone(), now);
            }
            Transition::Revoke => {
                self.count(now, false);
                self.unlock(&stored.job, now);
            }
            Transition::Retry { after, error, counted } => {
                if *counted || !error.is_empty() {
                    stored.failed(error, now);
                }
                if *counted {
                    stored.job.retried = stored.job.retried.saturating_add(1);
                }
                if let Some(after) = wish {
                    return self.end_as_wished(stored, after, now);
                }
                if *counted {
                    self.count(now, true);
                }
                self.wait(stored, JobState::Retry, now + *after);
            }
            Transition::Archive { error } => {
                self.count(now, true);
                stored.failed(error, now);
                self.archive(stored, now);
            }
            Transition::Requeue => match wish {
                Some(after) => return self.end_as_wished(stored, after, now),
                None => self.next_in_line(stored, now),
            },
            Transition::PutBack { after, error } => {
                if !error.is_empty() {
                    stored.failed(error, now);
                }
                match wish {
                    Some(wish) => {
                        stored.losses = 0;
                        return self.end_as_wished(stored, wish, now);
                    }
                    None if after.is_zero() => self.next_in_line(stored, now),
                    None => self.wait(stored, JobState::Retry, now + *after),
                }
            }
            Transition::Reclaim { error } => {
                stored.failed(error, now);
                if let Some(after) = wish {
                    stored.losses = 0;
                    return self.end_as_wished(stored, after, now);
                }
                stored.losses = stored.losses.saturating_add(1);
                // Only a recoverer has no owner; an owner that gives a job back knows what it does.
                stored.reclaimed_from = lease.owner.is_none().then_some(stored.held.0);
                self.next_in_line(stored, now);
            }
        }
        Settled::Done
    }

    /// Archives or deletes a job whose attempt has ended, as an operator wanted.
    fn end_as_wished(&mut self, stored: Stored, after: AfterCancel, now: Timestamp) -> Settled {
        let deleted = after == AfterCancel::Delete;
        self.count(now, !deleted);
        if deleted {
            self.unlock(&stored.job, now);
        } else {
            self.archive(stored, now);
        }
        Settled::Cancelled(after)
    }

    pub(super) fn extend(&mut self, lease: &Lease, steady: Timestamp) -> Extended {
        let waits = self.reclaimed(lease);
        if !waits && !self.holds(lease) {
            return Extended::Lost;
        }
        let ends = self.next_end(steady);
        let Some(stored) = self.jobs.get_mut(&lease.id) else {
            return Extended::Lost;
        };
        if waits {
            // Nobody has had it since: it goes on, and the loss was none.
            self.pending.retain(|id| *id != lease.id);
            stored.state = JobState::Active;
            stored.losses = stored.losses.saturating_sub(1);
            (stored.pending_since, stored.reclaimed_from) = (None, None);
        } else {
            self.leases.remove(&stored.held.1);
        }
        stored.held.1 = ends;
        let wish = stored.cancel;
        self.leases.insert(ends, lease.id.clone());
        let lease = Lease { ends, ..lease.clone() };
        match wish {
            Some(after) => Extended::Cancelled(lease, after),
            None => Extended::Renewed(lease),
        }
    }

    pub(super) fn forward(&mut self, limit: usize, now: Timestamp) -> Forwarded {
        let mut moved = 0;
        for _ in 0..limit {
            if self.next_due().is_none_or(|due| due > now) {
                break;
            }
            let scheduled_is_next = match (self.scheduled.first(), self.retry.first()) {
                (Some(scheduled), Some(retry)) => scheduled < retry,
                (scheduled, _) => scheduled.is_some(),
            };
            let line = if scheduled_is_next { &mut self.scheduled } else { &mut self.retry };
            let Some((_, id)) = line.pop_first() else { break };
            let Some(mut stored) = self.jobs.remove(&id) else { continue };
            if stored.grouped {
                self.join_group(stored, now);
                continue;
            }
            stored.state = JobState::Pending;
            stored.pending_since = Some(stored.due.take().unwrap_or(now).min(now));
            self.jobs.insert(id.clone(), stored);
            self.pending.push_back(id);
            moved += 1;
        }
        let crowded = moved == limit && self.pending.len() >= CROWDED;
        let least = if crowded { CROWDED_PAUSE } else { Duration::ZERO };
        let next = self.next_due().map(|due| due.since(now).max(least));
        Forwarded { moved, next, ready: self.available() > 0 }
    }

    /// `suspects` of them run.
    pub(super) fn expired_leases(
        &mut self,
        limit: usize,
        skip: usize,
        suspects: usize,
        steady: Timestamp,
    ) -> Vec<Delivery> {
        self.shorten_leases(steady);
        let found = |stored: &Stored| {
            let charge = match (is_suspect(stored.losses), stored.started, suspects) {
                (true, true, 0 | 1) => Charge::Proven,
                (true, false, _) | (false, _, 1..) => Charge::Cleared,
                _ => Charge::Possible,
            };
            Delivery { charge, ..stored.delivery(None) }
        };
        let ended = self.leases.range(..=steady.as_micros()).skip(skip).take(limit);
        ended.filter_map(|(_, id)| Some(found(self.jobs.get(id)?))).collect()
    }

    /// Notes that a suspect starts, unless the lease is not the caller's any more.
    pub(super) fn begin_suspect(&mut self, lease: &Lease) -> bool {
        let held = self.holds(lease);
        if let Some(stored) = self.jobs.get_mut(&lease.id).filter(|_| held) {
            stored.started = true;
        }
        held
    }

    pub(super) fn expire(&mut self, limit: usize, now: Timestamp) -> usize {
        let (level, minute) = (self.level(), MinuteStats::minute_of(now));
        // As in Redis, where one that was removed leaves nothing.
        if level.processed > 0 || level.waiting > 0 {
            self.levels.entry(minute).or_insert(level);
        }
        self.levels.retain(|noted, _| *noted > minute - LEVELS_KEPT);
        let mut removed = 0;
        while removed < limit && self.completed.first().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, id)) = self.completed.pop_first() {
                self.jobs.remove(&id);
            }
            removed += 1;
        }
        removed
    }

    /// How far its counters are.
    pub(super) fn level(&self) -> CounterSnapshot {
        let Tally { processed, failed } = self.total;
        CounterSnapshot { processed, failed, waiting: self.pending.len() as u64 }
    }

    /// Whether anything changed.
    pub(super) fn pause(&mut self, paused: bool, now: Timestamp) -> bool {
        if paused == self.paused() {
            return false;
        }
        self.paused = paused.then(|| whole_second(now));
        true
    }

    pub(super) fn holds(&self, lease: &Lease) -> bool {
        let active = |job: &&Stored| job.state == JobState::Active;
        self.jobs.get(&lease.id).filter(active).is_some_and(|job| match lease.owner {
            Some(owner) => job.held.0 == owner,
            None => job.held.1 == lease.ends,
        })
    }

    /// Whether the job waits as it was recovered from the owner of this lease, and nobody
    /// has had it since.
    pub(super) fn reclaimed(&self, lease: &Lease) -> bool {
        let pending = |job: &&Stored| job.state == JobState::Pending;
        let stored = self.jobs.get(&lease.id).filter(pending);
        lease.owner.is_some() && stored.is_some_and(|job| job.reclaimed_from == lease.owner)
    }

    /// Ends leases within [`LEASE`] from now that end more than twice that later: this
    /// host's clock was set back.
    fn shorten_leases(&mut self, steady: Timestamp) {
        let far = (steady + LEASE * 2).as_micros();
        while let Some((ends, _)) = self.leases.last_key_value().filter(|(ends, _)| **ends > far) {
            let (ends, new) = (*ends, self.next_end(steady));
            let Some(id) = self.leases.remove(&ends) else { return };
            if let Some(stored) = self.jobs.get_mut(&id) {
                stored.held.1 = new;
            }
            self.leases.insert(new, id);
        }
    }

    /// The end of a lease that begins now, moved on until no other has it. Never
    /// a whole second: those are Asynq's own leases.
    fn next_end(&self, steady: Timestamp) -> i64 {
        let mut ends = (steady + LEASE).as_micros();
        // Beyond that, they are from before the clock was set back.
        if let Some((last, _)) = self.leases.range(..=(steady + LEASE * 2).as_micros()).next_back()
        {
            ends = ends.max(last.saturating_add(1));
        }
        if ends % 1_000_000 == 0 {
            ends = ends.saturating_add(1);
        }
        ends
    }

    fn next_in_line(&mut self, mut stored: Stored, now: Timestamp) {
        let id = stored.job.id.clone();
        stored.state = JobState::Pending;
        stored.pending_since = Some(now);
        self.pending.push_front(id.clone());
        self.jobs.insert(id, stored);
    }

    pub(super) fn wait(&mut self, mut stored: Stored, state: JobState, due: Timestamp) {
        let id = stored.job.id.clone();
        let retries = state == JobState::Retry;
        let line = if retries { &mut self.retry } else { &mut self.scheduled };
        line.insert((due, id.clone()));
        stored.state = state;
        stored.due = Some(due);
        self.jobs.insert(id, stored);
    }

    /// Keeps a job for its retention, which may be none.
    fn complete(&mut self, mut stored: Stored, result: Option<Vec<u8>>, now: Timestamp) {
        if stored.job.retention.is_zero() {
            return;
        }
        let id = stored.job.id.clone();
        let completed_at = whole_second(now);
        stored.state = JobState::Completed;
        // What it wrote while it ran stays where it returned nothing.
        stored.result = result.or(stored.result);
        stored.job.completed_at = Some(completed_at);
        self.completed.insert((completed_at + stored.job.retention, id.clone()));
        self.jobs.insert(id, stored);
    }

    /// Keeps a job for a person to look at. Makes room first, so that the
    /// archive never holds more than its limit.
    pub(super) fn archive(&mut self, mut stored: Stored, now: Timestamp) {
        let at = whole_second(now);
        self.make_room(1, usize::MAX, now);
        if self.release_on_archive {
            self.unlock(&stored.job, now);
        }
        let id = stored.job.id.clone();
        stored.state = JobState::Archived;
        self.archived.insert((at, id.clone()));
        self.jobs.insert(id, stored);
    }

    /// Releases the job's lock, unless it has ended and another job took it.
    pub(super) fn unlock(&mut self, job: &JobRecord, now: Timestamp) {
        if self.locks.get(&job.unique_key, now) == Some(&job.id) {
            self.locks.remove(&job.unique_key);
        }
    }

    fn count(&mut self, now: Timestamp, failed: bool) {
        let today = day(now);
        self.days.retain(|day, _| *day > today - DAYS_KEPT);
        for tally in [&mut self.total, self.days.entry(today).or_default()] {
            tally.processed += 1;
            tally.failed += u64::from(failed);
        }
    }
}

impl Stored {
    fn delivery(&self, owner: Option<u64>) -> Delivery {
        let (queue, id) = (self.job.queue.clone(), self.job.id.clone());
        let lease = Lease { queue, id, owner, ends: self.held.1 };
        let (job, losses, cancel) = (self.job.clone(), self.losses, self.cancel);
        Delivery { job, lease, ready: None, losses, charge: Charge::default(), cancel }
    }

    fn failed(&mut self, error: &str, now: Timestamp) {
        if self.failures.len() == FAILURES_KEPT {
            self.failures.remove(0);
        }
        self.failures.push(JobFailure::of(&self.job, error, now));
        error.clone_into(&mut self.job.last_error);
        self.job.last_failed_at = Some(whole_second(now));
    }
}

/// Asynq's message holds whole seconds, and both stores answer alike.
pub(super) fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_secs(time.as_secs())
}

/// Days of UTC since the epoch.
pub(super) fn day(time: Timestamp) -> i64 {
    time.as_secs().div_euclid(86_400)
}

/// What the lock is on: type and payload, where none and empty differ.
fn unique_key(job: &JobRecord) -> String {
    let digest = |payload: &Vec<u8>| {
        Sha256::digest(payload).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let payload = job.payload.as_ref().map(digest).unwrap_or_default();
    format!("{}:{payload}", job.job_type)
}
