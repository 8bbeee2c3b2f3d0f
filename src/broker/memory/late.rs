//! Jobs that are archived without an attempt: those that did not start in time, and those that make
//! room for newer ones.

use std::collections::HashSet;

use super::queue::{Queue, StoredJob};
use crate::job::{DISPLACED, EXPIRED, JobId, JobState, MAX_DISPLACED, NewJob, WhenFull};
use crate::time::Timestamp;

impl Queue {
    /// Gives a job the instant by which it must have started.
    pub(super) fn must_start_by(&mut self, stored: &mut StoredJob, at: Option<Timestamp>) {
        stored.start_by = at;
        self.late.extend(at.map(|at| (at, stored.job.id.clone())));
    }

    /// Archives a job that has left its list, if it may not start any more.
    pub(super) fn archive_if_late(&mut self, id: &JobId, now: Timestamp) -> bool {
        let is_late = self.jobs.get(id).is_some_and(|stored| stored.is_late(now));
        if is_late {
            self.archive_unrun(id, EXPIRED, now);
        }
        is_late
    }

    /// Archives jobs that are pending, or wait for a limit, and did not start in time: at most
    /// `limit`; returns how many. Those that are scheduled are the forwarder's.
    pub(super) fn archive_late(&mut self, limit: usize, now: Timestamp) -> usize {
        let mut found = HashSet::new();
        while found.len() < limit && self.late.first().is_some_and(|(at, _)| *at <= now) {
            let Some((at, id)) = self.late.pop_first() else { break };
            let stored = self.jobs.get(&id);
            let Some(one) = stored.filter(|one| one.start_by == Some(at) && one.is_late(now))
            else {
                continue;
            };
            if one.waits_for_limit() {
                self.leave(&id, JobState::Scheduled);
                found.insert(id);
            } else if one.state == JobState::Pending {
                found.insert(id);
            }
        }
        if found.is_empty() {
            return 0;
        }
        self.pending.retain(|id| !found.contains(id));
        for id in &found {
            self.archive_unrun(id, EXPIRED, now);
        }
        found.len()
    }

    /// Whether one more job may wait. If its bound says so, the oldest ones are archived for it.
    pub(super) fn has_room(&mut self, new: &NewJob, due: Timestamp, now: Timestamp) -> bool {
        let joins_group = due <= now && !new.record.group.is_empty();
        let Some(bound) = new.max_waiting.filter(|_| !joins_group) else { return true };
        let waiting = self.pending.len() + self.scheduled.len() + self.retry.len();
        let excess = (waiting + 1).saturating_sub(bound.jobs as usize);
        if excess > 0 && bound.when_full == WhenFull::Refuse {
            return false;
        }
        for _ in 0..excess.min(MAX_DISPLACED) {
            let Some(id) = self.pop_longest_waiting() else { break };
            self.archive_unrun(&id, DISPLACED, now);
        }
        true
    }

    /// Takes the job that waits longest out of its list: the next pending one or one that waits
    /// for a limit, whichever became due first, else the one that is due first.
    fn pop_longest_waiting(&mut self) -> Option<JobId> {
        let since = |id: &JobId| self.jobs.get(id).and_then(|stored| stored.pending_since);
        let pending = self.pending.front().map(|id| since(id).map_or(0, Timestamp::as_micros));
        if let Some((turn, id)) = self.gates.longest_waiting()
            && pending.is_none_or(|since| turn <= since)
        {
            if let Some(due) = self.jobs.get(&id).and_then(|stored| stored.due) {
                self.scheduled.remove(&(due, id.clone()));
            }
            return Some(id);
        }
        let next = self.pending.pop_front();
        let next = next.or_else(|| self.scheduled.pop_first().map(|(_, id)| id));
        next.or_else(|| self.retry.pop_first().map(|(_, id)| id))
    }

    /// Archives a job that has left its list, without an attempt. Its lock is released, unless
    /// nothing but time ends that: the job keeps nobody else out.
    fn archive_unrun(&mut self, id: &JobId, reason: &str, now: Timestamp) {
        self.leave_gates(id);
        let Some(mut stored) = self.jobs.remove(id) else { return };
        if let Some(at) = stored.start_by.take() {
            self.late.remove(&(at, id.clone()));
        }
        self.unlock(&stored.job, now);
        reason.clone_into(&mut stored.job.last_error);
        (stored.due, stored.pending_since) = (None, None);
        (stored.on_cancel, stored.reclaimed_from) = (None, None);
        (stored.unlock_at_start, stored.follows) = (false, None);
        // The janitor trims.
        self.put_into_archive(stored, now);
    }
}

impl StoredJob {
    /// Whether it may not start any more.
    fn is_late(&self, now: Timestamp) -> bool {
        self.state.may_expire() && self.start_by.is_some_and(|at| at <= now)
    }
}
