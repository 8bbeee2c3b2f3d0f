//! One queue and its rules, as plain data: no clock, no waiting, no waking.
//!
//! A job is a [`StoredJob`] in the map `jobs`, and its id is in exactly one further
//! collection: pending, leases (active), scheduled, retry, completed, archived or a
//! group. Every operation takes a job out of its collection and puts it into the next
//! one, and gets the time as an argument. This file has the life of a job: enqueue,
//! dequeue and forward. Leases are in `leases`, settling is in `settle`.
//!
//! What may surprise. The end of a lease is unique in its queue and never a whole
//! second, since whole seconds are the leases of Go workers in Redis. A job that was
//! recovered remembers its last owner: if that owner returns before the job is dequeued
//! again, it may still settle or extend it, and the loss is taken back.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::changes::{Changes, Jobs, Saved};
use super::expiring::Expiring;
use super::groups::Grouping;
use super::limits::{End, Gates, Limited};
use super::periodic::Claim;
use super::successor::Follows;
use super::unique::LockHolder;
use crate::broker::{
    ArchiveLimit, AttemptNote, CounterSnapshot, CounterSnapshots, Delivery, Enqueued, Forwarded,
    JobFailure, Lease, MAX_FAILURES, MinuteStats, PENDING_HIGH_WATER, PENDING_HIGH_WATER_PAUSE,
};
use crate::job::{
    AfterCancel, Charge, JobId, JobRecord, JobState, NewJob, OnConflict, Placement, Progress,
    lock_name,
};
use crate::time::Timestamp;

/// Days that daily counters are kept, as in Asynq.
pub(super) const COUNTER_DAYS: i64 = 90;

/// Minutes that snapshots of the counters are kept.
const SNAPSHOT_MINUTES: i64 = 90;

/// Job ids ordered by an instant, then by id.
pub(super) type Timeline = BTreeSet<(Timestamp, JobId)>;

/// One queue.
#[derive(Default)]
pub(super) struct Queue {
    /// A job was enqueued or a worker announced the queue.
    pub(super) used: bool,
    /// Since when the queue is paused.
    pub(super) paused: Option<Timestamp>,
    /// All jobs by id.
    pub(super) jobs: Jobs,
    /// Pending jobs, the next one in front. Each is added by [`Queue::push_pending`], which
    /// numbers them.
    pub(super) pending: VecDeque<JobId>,
    /// The numbers of the first and the last pending job.
    pub(super) order: (i64, i64),
    /// Active jobs by the end of their lease in microseconds; each end is unique.
    pub(super) leases: BTreeMap<i64, JobId>,
    /// The owner number of the last dequeue.
    last_owner: u64,
    /// Scheduled jobs by due time.
    pub(super) scheduled: Timeline,
    /// Jobs to retry, by due time.
    pub(super) retry: Timeline,
    /// Jobs that must have started by an instant. Some may have started since, or be gone.
    pub(super) late: Timeline,
    /// Completed jobs by the end of their retention.
    pub(super) completed: Timeline,
    /// Archived jobs by the time of archiving.
    pub(super) archived: Timeline,
    /// Limits on jobs, and who takes or waits for a place of each.
    pub(super) gates: Gates,
    /// Limits of the archive.
    pub(super) keep: ArchiveLimit,
    /// Whether archiving releases the unique lock.
    release_on_archive: bool,
    /// Groups, and the sets claimed from them.
    pub(super) grouping: Grouping,
    /// Successors. Some may be none any more.
    pub(super) following: BTreeSet<JobId>,
    /// Unique locks by key, each with its holder.
    pub(super) locks: Expiring<LockHolder>,
    /// Idempotency keys, each with its first request.
    pub(super) requests: Expiring<Request>,
    /// Claimed ticks of periodic jobs, by name.
    pub(super) claims: HashMap<String, Claim>,
    /// Periodic jobs with a new claim.
    pub(super) claims_changed: Changes<String>,
    /// Attempts since the queue exists.
    pub(super) total: Tally,
    /// The counters at the beginning of each minute.
    pub(super) snapshots: CounterSnapshots,
    /// Attempts by UTC day since the epoch.
    pub(super) days: BTreeMap<i64, Tally>,
    /// Days with other counters than on disk.
    pub(super) days_changed: Changes<i64>,
    /// Minutes whose snapshot came.
    pub(super) snapshots_changed: Changes<i64>,
    /// Whether the queue exists, and since when it is paused, as it is on disk.
    pub(super) saved: (bool, Option<Timestamp>),
}

/// A job and what the queue knows about it.
pub(super) struct StoredJob {
    /// The job's record, as Asynq's message would have it.
    pub(super) job: JobRecord,
    /// Names the collection that holds the id.
    pub(super) state: JobState,
    /// When it is due, while it is scheduled or waits for a retry.
    pub(super) due: Option<Timestamp>,
    /// Since when it is pending; its due time if it had one.
    pub(super) pending_since: Option<Timestamp>,
    /// The result that its handler wrote or returned.
    pub(super) result: Option<Vec<u8>>,
    /// The progress of its current or last attempt.
    pub(super) progress: Option<Progress>,
    /// The cancel request of an operator.
    pub(super) on_cancel: Option<AfterCancel>,
    /// How often a worker vanished while it ran the job; a settled attempt resets it.
    pub(super) losses: u32,
    /// The version that made its last attempt that failed or completed it.
    pub(super) version: Option<String>,
    /// The version that made the first attempt that failed.
    pub(super) first_failed_version: Option<String>,
    /// Its last failures, the oldest first.
    pub(super) failures: Vec<JobFailure>,
    /// While it is active: its lease.
    pub(super) held: HeldLease,
    /// Whether its attempt began as a suspect's.
    pub(super) started: bool,
    /// The owner whose lease expired, while the job is pending because of that.
    pub(super) reclaimed_from: Option<u64>,
    /// Whether it joins its group when it is due. An operator may make it run alone
    /// instead.
    pub(super) grouped: bool,
    /// The key of its unique lock if nothing but time ends that.
    pub(super) timed_lock: Option<String>,
    /// Whether its unique lock ends when it is dequeued.
    pub(super) unlock_at_start: bool,
    /// Whose end it waits for, if it is a successor.
    pub(super) follows: Option<Box<Follows>>,
    /// The job that waits for its end.
    pub(super) successor: Option<JobId>,
    /// The instant by which it must have started.
    pub(super) start_by: Option<Timestamp>,
    /// When it was archived or joined its group, while it is there.
    pub(super) entered: Timestamp,
    /// Its number in the order of pending jobs, while it is pending.
    pub(super) order: i64,
    /// The limits that it is subject to, if there are any.
    pub(super) limited: Option<Box<Limited>>,
    /// Whether it is scheduled only because a limit has no place for it.
    pub(super) waits_for_place: bool,
    /// Its rows on disk.
    pub(super) saved: Saved,
}

/// The owner and the end of a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeldLease {
    /// The number of the dequeue.
    pub(super) owner: u64,
    /// Microseconds of the steady clock.
    pub(super) ends: i64,
}

/// The request that used an idempotency key.
pub(super) struct Request {
    /// The digest of the request.
    pub(super) body: String,
    /// The job that it stored.
    pub(super) id: JobId,
}

/// Counted attempts.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    /// Attempts that ended.
    pub(super) processed: u64,
    /// Attempts that failed.
    pub(super) failed: u64,
}

impl Queue {
    /// An empty queue with these archive limits.
    pub(super) fn keeping(keep: ArchiveLimit, release_on_archive: bool) -> Self {
        Self { keep, release_on_archive, ..Self::default() }
    }

    /// The empty queue that replaces this one when it is removed. Owner numbers go on, so
    /// that no old lease fits a new job.
    pub(super) fn successor(&self) -> Self {
        let new = Self::keeping(self.keep, self.release_on_archive);
        let mut new = Self { last_owner: self.last_owner, ..new };
        if self.jobs.changed.watched() {
            new.watch();
        }
        new
    }

    /// Begins the owner numbers after this one.
    pub(super) fn begin_owners(&mut self, after: u64) {
        self.last_owner = after;
    }

    /// Makes the queue exist without a job.
    pub(super) fn publish(&mut self) {
        self.used = true;
    }

    /// Whether the queue exists.
    pub(super) fn used(&self) -> bool {
        self.used
    }

    /// Whether the queue is paused.
    pub(super) fn paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Whether it holds pending jobs and is paused.
    pub(super) fn withholds(&self) -> bool {
        self.paused() && !self.pending.is_empty()
    }

    /// How many jobs a worker could dequeue now.
    pub(super) fn available(&self) -> usize {
        if self.paused() { 0 } else { self.pending.len() }
    }

    /// When the next scheduled or retried job is due, or a limit lets one pass.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.next_in_lines().into_iter().chain(self.gates.next_ready()).min()
    }

    /// When the next scheduled or retried job is due.
    fn next_in_lines(&self) -> Option<Timestamp> {
        let first = |line: &Timeline| line.first().map(|(due, _)| *due);
        first(&self.scheduled).into_iter().chain(first(&self.retry)).min()
    }

    /// Stores a new job, unless its idempotency key, its unique lock or its id is in use. All
    /// three are tested before anything is written.
    pub(super) fn enqueue(&mut self, new: &NewJob, now: Timestamp) -> Enqueued {
        self.used = true;
        let due = match new.placement {
            Placement::Now => now,
            Placement::After(delay) => now + delay,
            Placement::At(when) => when.max(now),
        };
        if let Some(answer) = self.refusal(new, due, now) {
            return answer;
        }
        if !self.has_room(new, due, now) {
            return Enqueued::QueueFull;
        }
        let id = new.record.id.clone();
        let mut stored = Box::new(StoredJob::new(new.record.clone()));
        self.lock(new, &id, &mut stored, due, now);
        self.must_start_by(&mut stored, new.expires_in.map(|limit| due + limit));
        self.remember(new, &id, now);
        let (state, due) = self.enter_new(stored, due, now);
        Enqueued::Created { state, due }
    }

    /// Remembers for its idempotency key that the new job is `id`.
    pub(super) fn remember(&mut self, new: &NewJob, id: &JobId, now: Timestamp) {
        if let Some(guard) = &new.idempotency {
            let request = Request { body: guard.body.clone(), id: id.clone() };
            self.requests.insert(guard.key.clone(), request, now + guard.kept, now);
        }
    }

    /// Puts a new job where it waits.
    pub(super) fn enter_new(
        &mut self,
        mut stored: Box<StoredJob>,
        due: Timestamp,
        now: Timestamp,
    ) -> (JobState, Timestamp) {
        if due > now {
            self.wait(stored, JobState::Scheduled, due);
            return (JobState::Scheduled, due);
        }
        if stored.grouped {
            self.join_group(stored, now);
            return (JobState::Aggregating, due);
        }
        stored.pending_since = Some(now);
        self.append_pending(stored, now);
        // Also if a limit has no place for it yet.
        (JobState::Pending, due)
    }

    /// Whether a job was stored for a request with this idempotency key.
    pub(super) fn has_stored_for(&self, key: &str, now: Timestamp) -> bool {
        self.requests.get(key, now).is_some()
    }

    /// Why a new job is not stored, or what is done in its place. The idempotency guard comes
    /// first: a repeated request would otherwise meet the lock and the id of its own job.
    fn refusal(&mut self, new: &NewJob, due: Timestamp, now: Timestamp) -> Option<Enqueued> {
        if let Some(guard) = &new.idempotency
            && let Some(first) = self.requests.get(&guard.key, now)
        {
            return Some(match first.body == guard.body {
                true => Enqueued::Replayed { id: first.id.clone() },
                false => Enqueued::KeyReused,
            });
        }
        if new.on_conflict == OnConflict::ReplaceJob {
            return Some(self.replace_job(new, due, now));
        }
        if new.unique_for.is_some()
            && let Some(holder) = self.locks.get(&unique_key(new), now).cloned()
            && let Some(answer) = self.on_conflict(new, holder, due, now)
        {
            return Some(answer);
        }
        self.jobs.contains_key(&new.record.id).then_some(Enqueued::IdConflict)
    }

    /// Dequeues the next job, unless the queue is paused. Jobs that did not start in time are
    /// archived. Leases go by the [steady](crate::time::Clock::steady) time.
    pub(super) fn dequeue(&mut self, now: Timestamp, steady: Timestamp) -> Option<Delivery> {
        if self.paused() {
            return None;
        }
        let id = loop {
            let next = self.pending.pop_front()?;
            if self.archive_if_late(&next, now) {
                continue;
            }
            if self.take_places(&next, now) {
                break next;
            }
        };
        let ends = self.next_end(steady);
        self.last_owner += 1;
        let stored = self.jobs.get_mut(&id)?;
        if std::mem::take(&mut stored.unlock_at_start)
            && self.locks.raw(&stored.job.unique_key).is_some_and(|(holder, _)| holder.id == id)
        {
            self.locks.remove(&stored.job.unique_key);
        }
        if let Some(at) = stored.start_by.take() {
            self.late.remove(&(at, id.clone()));
        }
        stored.state = JobState::Active;
        let ready = stored.pending_since.take();
        let held = HeldLease { owner: self.last_owner, ends };
        (stored.held, stored.started) = (held, false);
        (stored.progress, stored.reclaimed_from) = (None, None);
        let delivery = Delivery { ready, ..stored.delivery(Some(self.last_owner)) };
        self.leases.insert(ends, id);
        Some(delivery)
    }

    /// Makes due jobs pending, at most `limit`, in the order of their due times. Jobs of a group
    /// join it instead.
    pub(super) fn forward(&mut self, limit: usize, now: Timestamp) -> Forwarded {
        let mut moved = 0;
        for _ in 0..limit {
            if self.next_in_lines().is_none_or(|due| due > now) {
                break;
            }
            let scheduled_is_next = match (self.scheduled.first(), self.retry.first()) {
                (Some(scheduled), Some(retry)) => scheduled < retry,
                (scheduled, _) => scheduled.is_some(),
            };
            let line = if scheduled_is_next { &mut self.scheduled } else { &mut self.retry };
            let Some((_, id)) = line.pop_first() else { break };
            if self.archive_if_late(&id, now) {
                continue;
            }
            let Some(stored) = self.jobs.remove(&id) else { continue };
            let Some(mut stored) = self.roll_on(stored, now) else { continue };
            if stored.grouped {
                self.join_group(stored, now);
                continue;
            }
            stored.state = JobState::Pending;
            stored.pending_since = Some(stored.due.take().unwrap_or(now).min(now));
            self.append_pending(stored, now);
            moved += 1;
        }
        self.admit_waiting(now);
        let crowded = moved == limit && self.pending.len() >= PENDING_HIGH_WATER;
        let least = if crowded { PENDING_HIGH_WATER_PAUSE } else { Duration::ZERO };
        let next = self.next_due().map(|due| due.since(now).max(least));
        Forwarded { moved, next, ready: self.available() > 0 }
    }

    /// Deletes completed jobs whose retention is over, and archives pending jobs that did not start
    /// in time, because nobody may ask for them: at most `limit` of each; returns how many. Takes
    /// the snapshot of the counters of this minute.
    pub(super) fn expire(&mut self, limit: usize, now: Timestamp) -> usize {
        let (snapshot, minute) = (self.snapshot(), MinuteStats::minute_of(now));
        // As in Redis, where a removed queue leaves nothing.
        if (snapshot.processed > 0 || snapshot.waiting > 0)
            && let Entry::Vacant(entry) = self.snapshots.entry(minute)
        {
            entry.insert(snapshot);
            self.snapshots_changed.note(|| minute);
        }
        self.snapshots.retain(|noted, _| *noted > minute - SNAPSHOT_MINUTES);
        self.gates.sweep(now);
        self.move_successors_on(now);
        let late = self.archive_late(limit, now);
        let mut removed = 0;
        while removed < limit && self.completed.first().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, id)) = self.completed.pop_first() {
                self.jobs.remove(&id);
            }
            removed += 1;
        }
        removed + late
    }

    /// The counters now.
    pub(super) fn snapshot(&self) -> CounterSnapshot {
        let Tally { processed, failed } = self.total;
        CounterSnapshot { processed, failed, waiting: self.pending.len() as u64 }
    }

    /// Pauses or resumes; returns whether anything changed.
    pub(super) fn pause(&mut self, paused: bool, now: Timestamp) -> bool {
        if paused == self.paused() {
            return false;
        }
        self.paused = paused.then(|| whole_second(now));
        true
    }

    /// Makes the job the next pending one, if the limits have a place for it.
    pub(super) fn next_in_line(&mut self, mut stored: Box<StoredJob>, now: Timestamp) {
        stored.pending_since = Some(now);
        self.enter_gates(stored, End::Front, now);
    }

    /// The same for a job that says itself since when it is pending.
    pub(super) fn prepend_pending(&mut self, stored: Box<StoredJob>, now: Timestamp) {
        self.enter_gates(stored, End::Front, now);
    }

    /// Makes the job the last pending one, if the limits have a place for it.
    pub(super) fn append_pending(&mut self, stored: Box<StoredJob>, now: Timestamp) {
        self.enter_gates(stored, End::Back, now);
    }

    /// Makes a job pending that no limit keeps.
    pub(super) fn push_pending(&mut self, mut stored: Box<StoredJob>, end: End) {
        let id = stored.job.id.clone();
        stored.state = JobState::Pending;
        match end {
            End::Front => {
                self.order.0 -= 1;
                stored.order = self.order.0;
                self.pending.push_front(id.clone());
            }
            End::Back => {
                self.order.1 += 1;
                stored.order = self.order.1;
                self.pending.push_back(id.clone());
            }
        }
        self.jobs.insert(id, stored);
    }

    /// Lets the job wait for its due time.
    pub(super) fn wait(&mut self, mut stored: Box<StoredJob>, state: JobState, due: Timestamp) {
        let id = stored.job.id.clone();
        let retries = state == JobState::Retry;
        let line = if retries { &mut self.retry } else { &mut self.scheduled };
        line.insert((due, id.clone()));
        stored.state = state;
        stored.due = Some(due);
        self.jobs.insert(id, stored);
    }

    /// Keeps a completed job for its retention, which may be zero.
    pub(super) fn complete(
        &mut self,
        mut stored: Box<StoredJob>,
        result: Option<Vec<u8>>,
        now: Timestamp,
    ) {
        if stored.job.retention.is_zero() {
            return;
        }
        let id = stored.job.id.clone();
        let completed_at = whole_second(now);
        (stored.state, stored.limited) = (JobState::Completed, None);
        // What it wrote while it ran stays if it returned nothing.
        stored.result = result.or(stored.result);
        stored.job.completed_at = Some(completed_at);
        self.completed.insert((completed_at + stored.job.retention, id.clone()));
        self.jobs.insert(id, stored);
    }

    /// Archives the job. Makes room first, so that the archive never exceeds its limit.
    pub(super) fn archive(&mut self, stored: Box<StoredJob>, now: Timestamp) {
        self.make_room(1, usize::MAX, now);
        if self.release_on_archive {
            self.unlock(&stored.job, now);
        }
        self.put_into_archive(stored, now);
    }

    /// Puts the job into the archive, whatever that holds.
    pub(super) fn put_into_archive(&mut self, mut stored: Box<StoredJob>, now: Timestamp) {
        let (id, at) = (stored.job.id.clone(), whole_second(now));
        (stored.state, stored.limited) = (JobState::Archived, None);
        stored.entered = at;
        self.archived.insert((at, id.clone()));
        self.jobs.insert(id, stored);
    }

    /// Releases the job's unique lock, unless it expired and another job holds it.
    pub(super) fn unlock(&mut self, job: &JobRecord, now: Timestamp) {
        if self.locks.get(&job.unique_key, now).is_some_and(|holder| holder.id == job.id) {
            self.locks.remove(&job.unique_key);
        }
    }

    /// Counts an attempt that ended.
    pub(super) fn count(&mut self, now: Timestamp, failed: bool) {
        let today = day(now);
        self.days_changed.note(|| today);
        self.days.retain(|day, _| *day > today - COUNTER_DAYS);
        for tally in [&mut self.total, self.days.entry(today).or_default()] {
            tally.processed += 1;
            tally.failed += u64::from(failed);
        }
    }
}

impl StoredJob {
    /// A new job that is about to become pending.
    pub(super) fn new(job: JobRecord) -> Self {
        Self {
            grouped: !job.group.is_empty(),
            job,
            state: JobState::Pending,
            due: None,
            pending_since: None,
            result: None,
            progress: None,
            on_cancel: None,
            losses: 0,
            version: None,
            first_failed_version: None,
            failures: Vec::new(),
            held: HeldLease::default(),
            started: false,
            reclaimed_from: None,
            timed_lock: None,
            unlock_at_start: false,
            follows: None,
            successor: None,
            start_by: None,
            entered: Timestamp::default(),
            order: 0,
            limited: None,
            waits_for_place: false,
            saved: Saved::default(),
        }
    }

    /// The delivery of this job, under a lease of `owner` (none for a recoverer).
    pub(super) fn delivery(&self, owner: Option<u64>) -> Delivery {
        let (queue, id) = (self.job.queue.clone(), self.job.id.clone());
        let lease = Lease { queue, id, owner, ends: self.held.ends };
        let (job, losses, on_cancel) = (self.job.clone(), self.losses, self.on_cancel);
        let charge = Charge::default();
        let limited = self.limited.as_ref().is_some_and(|limited| !limited.pairs.is_empty());
        Delivery { job, lease, ready: None, losses, charge, on_cancel, limited }
    }

    /// Records an error: in the message and in the log of the last failures.
    pub(super) fn failed(&mut self, error: &str, note: &AttemptNote, now: Timestamp) {
        self.attempted(note);
        // An earlier failure without a version leaves the first one unknown.
        if self.failures.is_empty() {
            self.first_failed_version.clone_from(&self.version);
        }
        if self.failures.len() == MAX_FAILURES {
            self.failures.remove(0);
        }
        self.failures.push(JobFailure::of(&self.job, error, now, note));
        error.clone_into(&mut self.job.last_error);
        self.job.last_failed_at = Some(whole_second(now));
    }

    /// Notes which version made an attempt.
    pub(super) fn attempted(&mut self, note: &AttemptNote) {
        self.version = note.version.as_ref().map(|version| version.as_str().to_owned());
    }
}

/// The whole second of an instant: Asynq's message holds no more, and both stores answer
/// alike.
pub(super) fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_secs(time.as_secs())
}

/// Days of UTC since the epoch.
pub(super) fn day(time: Timestamp) -> i64 {
    time.as_secs().div_euclid(86_400)
}

/// The key of a unique lock: type and payload, or type and a digest of what was chosen in its
/// place. No payload differs from an empty one.
pub(super) fn unique_key(new: &NewJob) -> String {
    let job_type = &new.record.job_type;
    if let Some(digest) = &new.unique_key {
        return format!("{job_type}:{digest}");
    }
    lock_name(job_type, new.record.payload.as_deref())
}
