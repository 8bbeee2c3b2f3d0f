//! What happens to a new job whose unique lock another job holds: it is refused, replaces a
//! holder that waits, follows one that runs (see `successor`), or extends the lock.
//!
//! A lock that ends only with its time is not named by its holder's record, and the holder may be
//! gone. A job that was given its id since does not name the lock at all, and is left alone.

use std::fmt;
use std::time::Duration;

use super::queue::{Queue, StoredJob, unique_key};
use crate::broker::Enqueued;
use crate::job::{JobId, JobState, NewJob, OnConflict, Until};
use crate::time::Timestamp;

/// Who holds a unique lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LockHolder {
    pub(super) id: JobId,
    /// Whether nothing but time ends the lock.
    pub(super) timed: bool,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.id, if self.timed { ", until it expires" } else { "" })
    }
}

impl Queue {
    /// Gives the lock of a new job to `id`, even if another job holds it.
    pub(super) fn lock(
        &mut self,
        new: &NewJob,
        id: &JobId,
        stored: &mut StoredJob,
        due: Timestamp,
        now: Timestamp,
    ) {
        let Some(lasts) = new.unique_for else { return };
        let lock = unique_key(new);
        let holder = LockHolder { id: id.clone(), timed: new.until == Until::Expiry };
        self.locks.insert(lock.clone(), holder, due + lasts, now);
        // What the record names is released with the job.
        match new.until {
            Until::Expiry => stored.timed_lock = Some(lock),
            Until::Start | Until::Success => stored.job.unique_key = lock,
        }
        stored.unlock_at_start = new.until == Until::Start;
    }

    /// The answer to a new job whose lock this job holds; `None` if it is stored all the same.
    pub(super) fn on_conflict(
        &mut self,
        new: &NewJob,
        LockHolder { id: holder, timed }: LockHolder,
        due: Timestamp,
        now: Timestamp,
    ) -> Option<Enqueued> {
        let refused = Some(Enqueued::Duplicate { holder: holder.clone() });
        let (lock, found) = (unique_key(new), self.jobs.get(&holder));
        // Only the lock is left of it, and not one that lasts for its time.
        let is_over =
            |held: &StoredJob| matches!(held.state, JobState::Archived | JobState::Completed);
        let has_ended = !timed && found.is_none_or(is_over);
        match new.on_conflict {
            OnConflict::Reject | OnConflict::ReplaceJob => refused,
            // Extending the lock of a job that has ended would keep all others out for ever.
            OnConflict::Extend | OnConflict::Replace if has_ended => None,
            OnConflict::Extend => {
                self.extend_lock(new, &LockHolder { id: holder.clone(), timed }, due, now);
                Some(Enqueued::Extended { holder })
            }
            OnConflict::Replace if found.is_some_and(|held| self.may_change(held, &lock)) => {
                self.replace(new, holder, due, now)
            }
            OnConflict::Replace
                if !timed
                    && new.until != Until::Expiry
                    && found.is_some_and(|held| {
                        held.state == JobState::Active && held.job.unique_key == lock
                    }) =>
            {
                Some(self.keep_successor(new, holder, due, now))
            }
            OnConflict::Replace => refused,
        }
    }

    /// Whether a job waits, so that another one may take its place.
    fn waits(&self, held: &StoredJob) -> bool {
        match held.state {
            JobState::Pending | JobState::Scheduled | JobState::Retry => true,
            JobState::Aggregating => self.grouping.holds(&held.job),
            JobState::Active | JobState::Archived | JobState::Completed => false,
        }
    }

    /// Makes the waiting job of this id the new one.
    pub(super) fn replace_job(&mut self, new: &NewJob, due: Timestamp, now: Timestamp) -> Enqueued {
        let id = new.record.id.clone();
        let Some(held) = self.jobs.get(&id) else { return Enqueued::NotFound };
        if !self.waits(held) {
            return Enqueued::WrongState(held.state);
        }
        let before = held.job.clone();
        if new.unique_for.is_some()
            && let Some(holder) = self.locks.get(&unique_key(new), now)
            && holder.id != id
        {
            return Enqueued::Duplicate { holder: holder.id.clone() };
        }
        self.unlock(&before, now);
        self.replace(new, id, due, now).unwrap_or(Enqueued::NotFound)
    }

    /// Whether this job waits and is the one that took the lock, not another one of its id.
    fn may_change(&self, held: &StoredJob, lock: &str) -> bool {
        self.waits(held)
            && (held.job.unique_key == lock || held.timed_lock.as_deref() == Some(lock))
    }

    /// Moves the end of the lock, and the due time of a holder that is scheduled, to those of the
    /// new job; neither to an earlier time.
    fn extend_lock(&mut self, new: &NewJob, holder: &LockHolder, due: Timestamp, now: Timestamp) {
        let (lock, ends) = (unique_key(new), due + new.unique_for.unwrap_or_default());
        if self.locks.raw(&lock).is_some_and(|(_, until)| *until < ends) {
            self.locks.insert(lock.clone(), holder.clone(), ends, now);
        }
        let holder = &holder.id;
        let is_earlier = |held: &StoredJob| {
            held.state == JobState::Scheduled
                // One that waits for a limit is due already, as a pending one.
                && !held.waits_for_limit()
                && held.due.is_some_and(|before| before < due)
                && self.may_change(held, &lock)
        };
        if self.jobs.get(holder).is_some_and(is_earlier)
            && self.leave(holder, JobState::Scheduled)
            && let Some(mut stored) = self.jobs.remove(holder)
        {
            let moved = stored.due.map_or(Duration::ZERO, |before| due.since(before));
            let start_by = stored.start_by.map(|at| at + moved);
            self.must_start_by(&mut stored, start_by);
            self.wait(stored, JobState::Scheduled, due);
        }
    }

    /// Makes a waiting job the new one, with its own id.
    fn replace(
        &mut self,
        new: &NewJob,
        id: JobId,
        due: Timestamp,
        now: Timestamp,
    ) -> Option<Enqueued> {
        let held = self.jobs.get(&id)?;
        let (state, is_grouped) = (held.state, !new.record.group.is_empty());
        // It is due already: a later due time does not delay it again. It keeps its place too,
        // unless it is of another key now.
        let stays_due = state == JobState::Pending && !is_grouped;
        let pairs = held.limited.as_ref().map_or(&[][..], |limited| &limited.pairs);
        let stays = stays_due && self.gates.pairs_of(&new.record) == pairs;
        if !stays {
            self.leave(&id, state);
        }
        let mut before = self.jobs.remove(&id)?;
        let mut job = new.record.clone();
        job.id = id.clone();
        let mut stored = Box::new(StoredJob::new(job));
        self.lock(new, &id, &mut stored, due, now);
        self.must_start_by(&mut stored, new.expires_in.map(|limit| due + limit));
        self.remember(new, &id, now);
        // Its turn stays, and while it keeps its place what it has passed.
        stored.limited = before.limited.take();
        if stays_due {
            stored.pending_since = before.pending_since;
            if stays {
                stored.order = before.order;
                self.jobs.insert(id.clone(), stored);
            } else {
                self.append_pending(stored, now);
            }
            return Some(Enqueued::Replaced { id, state: JobState::Pending, due: now });
        }
        let (state, due) = self.enter_new(stored, due, now);
        Some(Enqueued::Replaced { id, state, due })
    }
}
