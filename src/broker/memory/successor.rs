//! Successors: where a job that runs holds a unique lock, `or_replace` keeps one job, the newest,
//! which waits until the holder ends and has the lock then.
//!
//! A successor looks scheduled, an hour ahead, which is rolled on. The holder knows its successor
//! and the successor its holder: the pair counts only while both agree, so that whatever an
//! operator does with a successor makes it a job like others.

use std::time::Duration;

use super::limits::HELD_FOR;
use super::queue::{Queue, StoredJob, unique_key, whole_second};
use super::unique::LockHolder;
use crate::broker::Enqueued;
use crate::job::{JobId, JobState, NewJob, Until};
use crate::time::Timestamp;

/// What a successor is and has once its holder has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Follows {
    pub(super) holder: JobId,
    pub(super) lock: String,
    pub(super) lasts: Duration,
    /// The lock ends when it is dequeued.
    pub(super) unlock_at_start: bool,
    pub(super) due: Timestamp,
    pub(super) expires_in: Option<Duration>,
}

/// How long before its time a successor is moved on.
const MOVED_ON: Duration = Duration::from_secs(1800);

/// For when a successor is scheduled: whole seconds, as in Redis.
pub(super) fn follows_at(now: Timestamp) -> Timestamp {
    whole_second(now) + HELD_FOR
}

impl StoredJob {
    /// Whether it waits for the end of this job.
    pub(super) fn follows(&self, holder: &JobId) -> bool {
        self.state == JobState::Scheduled
            && self.follows.as_ref().is_some_and(|follows| follows.holder == *holder)
    }
}

impl Queue {
    /// The successor of a job that runs, if it has one.
    pub(super) fn successor_of(&self, holder: &StoredJob) -> Option<JobId> {
        let id = holder.successor.clone()?;
        self.jobs.get(&id).is_some_and(|stored| stored.follows(&holder.job.id)).then_some(id)
    }

    /// Keeps a new job until the one that runs and holds its lock has ended. It replaces one that is
    /// kept already, under the id of that.
    pub(super) fn keep_successor(
        &mut self,
        new: &NewJob,
        holder: JobId,
        due: Timestamp,
        now: Timestamp,
    ) -> Enqueued {
        let before = self.jobs.get(&holder).and_then(|held| self.successor_of(held));
        let id = match &before {
            Some(before) => before.clone(),
            None if self.jobs.contains_key(&new.record.id) => return Enqueued::IdConflict,
            None if !self.has_room(new, due, now) => return Enqueued::QueueFull,
            None => new.record.id.clone(),
        };
        if before.is_some() {
            self.leave(&id, JobState::Scheduled);
            self.jobs.remove(&id);
        }
        let (mut job, lock) = (new.record.clone(), unique_key(new));
        (job.id, job.unique_key) = (id.clone(), lock.clone());
        let mut stored = Box::new(StoredJob::new(job));
        stored.follows = Some(Box::new(Follows {
            holder: holder.clone(),
            lock,
            lasts: new.unique_for.unwrap_or_default(),
            unlock_at_start: new.until == Until::Start,
            due,
            expires_in: new.expires_in,
        }));
        self.remember(new, &id, now);
        if let Some(held) = self.jobs.get_mut(&holder) {
            held.successor = Some(id.clone());
        }
        self.following.insert(id);
        self.wait(stored, JobState::Scheduled, follows_at(now));
        let state = JobState::Scheduled;
        match before {
            Some(id) => Enqueued::Replaced { id, state, due },
            None => Enqueued::Created { state, due },
        }
    }

    /// Moves the time on for which successors are scheduled, and forgets those that are none any
    /// more.
    pub(super) fn move_successors_on(&mut self, now: Timestamp) {
        for id in std::mem::take(&mut self.following) {
            let Some(stored) = self.jobs.get(&id) else { continue };
            let Some(due) = stored.due.filter(|_| stored.follows.is_some()) else { continue };
            if due <= now + MOVED_ON && self.leave(&id, JobState::Scheduled) {
                let Some(stored) = self.jobs.remove(&id) else { continue };
                self.wait(stored, JobState::Scheduled, follows_at(now));
            }
            self.following.insert(id);
        }
    }

    /// Enqueues the successor of a job that has ended. One that came before the newer job which has
    /// the lock meanwhile, because the holder ran longer than the lock lasted, is removed.
    pub(super) fn succeed(&mut self, holder: &JobId, id: &JobId, now: Timestamp) {
        if self.jobs.get(id).is_none_or(|stored| !stored.follows(holder)) {
            return;
        }
        self.leave(id, JobState::Scheduled);
        let Some(mut stored) = self.jobs.remove(id) else { return };
        let Some(follows) = stored.follows.take() else { return };
        if self.locks.get(&follows.lock, now).is_some_and(|other| other.id != *holder) {
            return;
        }
        let due = follows.due.max(now);
        let heir = LockHolder { id: id.clone(), timed: false };
        self.locks.insert(follows.lock, heir, due + follows.lasts, now);
        stored.unlock_at_start = follows.unlock_at_start;
        stored.due = None;
        self.must_start_by(&mut stored, follows.expires_in.map(|limit| due + limit));
        self.enter_new(stored, due, now);
    }
}
