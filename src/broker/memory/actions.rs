//! Operator actions on jobs that are not running, in this process' memory.
//!
//! An action takes the job out of its collection ([`Queue::leave`]) and puts it
//! into the next one ([`Queue::enter`]), so single and bulk actions share the same
//! two steps, as the scripts do in Redis.
//!
//! A bulk step walks the collection in the order of lists: by whole seconds, then
//! by id. It examines the entries behind its position, acts on jobs of the wanted
//! type, and counts the entries it examined, so that the walk ends even if producers add
//! jobs all the time. Jobs that an action moves into the same collection again
//! (rescheduling a scheduled job) are not acted upon twice.
//!
//! What may surprise. The position arithmetic follows the script, step by step,
//! because the model test compares both stores after each step.

use super::MemoryBroker;
use super::queue::{Queue, Timeline};
use crate::broker::Answer;
use crate::broker::actions::{
    Acted, Action, Actions, ArchiveLimit, BulkPosition, BulkStep, BulkStepResult, Removal,
};
use crate::broker::disk::Level;
use crate::error::Error;
use crate::job::{JobId, JobState, Placement, QueueName};
use crate::time::Timestamp;

impl Actions for MemoryBroker {
    /// One step under the lock: nothing moves in between, so there is no second attempt as in
    /// Redis.
    fn act<'a>(&'a self, queue: &'a QueueName, id: &'a JobId, action: Action) -> Answer<'a, Acted> {
        Box::pin(async move {
            self.must_exist(queue)?;
            self.accepts(Level::Durable)?;
            let acted = self.act(queue, |q, now| q.act_on(id, action, now));
            self.saved(Level::Durable).await?;
            Ok(acted)
        })
    }

    /// Keeps the fields of newer versions, which are part of the record.
    fn edit<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        payload: &'a [u8],
    ) -> Answer<'a, Acted> {
        Box::pin(async move {
            self.must_exist(queue)?;
            self.accepts(Level::Durable)?;
            let acted = self.act(queue, |q, now| q.edit(id, payload, now));
            self.saved(Level::Durable).await?;
            Ok(acted)
        })
    }

    /// Bounded by the same number of jobs as a step in Redis.
    fn step<'a>(&'a self, step: &'a BulkStep<'a>) -> Answer<'a, BulkStepResult> {
        Box::pin(async move {
            self.accepts(Level::Durable)?;
            let result = self.act(step.queue, |q, now| q.step(step, now));
            self.saved(Level::Durable).await?;
            Ok(result)
        })
    }

    /// All groups with waiting jobs, in the order in which a sweep takes them.
    fn waiting_groups<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let names = |q: &Queue| q.grouping.waiting.keys().rev().cloned().collect();
            Ok(self.look(queue, |q, _| names(q)).unwrap_or_default())
        })
    }

    /// A removed queue is replaced by an empty one, which readers do not see until it is used.
    fn remove_queue<'a>(&'a self, queue: &'a QueueName, force: bool) -> Answer<'a, Removal> {
        Box::pin(async move {
            self.must_exist(queue)?;
            self.accepts(Level::Durable)?;
            let removal = self.replace_queue(queue, force);
            self.saved(Level::Durable).await?;
            Ok(removal)
        })
    }

    /// Redis trims in batches; here one call does it.
    fn trim<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize> {
        Box::pin(async move { Ok(self.act(queue, |q, now| q.trim(limit, now))) })
    }
}

impl MemoryBroker {
    /// Replaces a queue by an empty one, unless it has jobs.
    fn replace_queue(&self, queue: &QueueName, force: bool) -> Removal {
        let mut state = self.state();
        let Some(found) = state.queues.get(queue) else { return Removal::Gone };
        if found.has_active() {
            return Removal::Running;
        }
        if !force && found.has_jobs() {
            return Removal::NotEmpty;
        }
        self.keep(|rows| found.delete_rows(queue, rows));
        let successor = found.successor();
        state.queues.insert(queue.clone(), successor);
        Removal::Gone
    }

    /// An error if the queue does not exist.
    fn must_exist(&self, queue: &QueueName) -> Result<(), Error> {
        self.look(queue, |_, _| ())
            .ok_or_else(|| Error::not_found(format!("queue \"{queue}\" does not exist")))
    }
}

impl Queue {
    /// Acts on one job: checks the state, takes it out, puts it in.
    fn act_on(&mut self, id: &JobId, action: Action, now: Timestamp) -> Acted {
        let Some(stored) = self.jobs.get(id) else { return Acted::NotFound };
        let state = stored.state;
        if !action.permits(state) {
            return Acted::WrongState(state);
        }
        let due = due(action, now);
        if state == JobState::Pending && matches!(action, Action::Reschedule(_)) && due <= now {
            // Rescheduling to a time that has come changes nothing here.
            return Acted::Done;
        }
        if !self.leave(id, state) {
            return Acted::Elsewhere(state);
        }
        self.enter(id, action, due, now);
        Acted::Done
    }

    /// Replaces the payload of a job that is not active.
    fn edit(&mut self, id: &JobId, payload: &[u8], now: Timestamp) -> Acted {
        let Some(stored) = self.jobs.get_mut(id) else { return Acted::NotFound };
        match stored.state {
            JobState::Active => return Acted::WrongState(stored.state),
            // Its aggregator has read it already.
            JobState::Aggregating if !self.grouping.holds(&stored.job) => {
                return Acted::Elsewhere(stored.state);
            }
            _ => {}
        }
        stored.saved.job = false;
        stored.job.payload = Some(payload.to_vec()).filter(|payload| !payload.is_empty());
        self.check_gates(id, now);
        Acted::Done
    }

    /// One step of a bulk action, with the same position arithmetic as the script.
    fn step(&mut self, step: &BulkStep<'_>, now: Timestamp) -> BulkStepResult {
        let size = self.length(step);
        let left = step.position.left.unwrap_or(size);
        let limit = usize::try_from(step.limit.min(left)).unwrap_or(usize::MAX);
        let mut skip = step.position.skip;
        let some = self.some(step, usize::try_from(skip).unwrap_or(usize::MAX), limit);
        let due = due(step.action, now);
        let in_place = matches!(step.action, Action::Reschedule(_))
            && due > now
            && matches!(step.state, JobState::Scheduled | JobState::Retry);
        let (mut spent, mut done) = (0, 0);
        if some.is_empty() {
            spent = left;
        }
        for (at, id) in some {
            let Some(stored) = self.jobs.get(&id) else { continue };
            if step.job_type.is_some_and(|wanted| wanted != stored.job.job_type) {
                skip += 1;
                spent += 1;
            } else if in_place && at == due {
                // An earlier step may have moved it here; that step counted it.
                skip += 1;
            } else if due <= now
                && stored.waits_for_limit()
                && !matches!(step.action, Action::Archive | Action::Delete)
            {
                // It is due already, and waits on at its turn in the same place.
                if let Some(stored) = self.jobs.get_mut(&id) {
                    stored.start_by = None;
                }
                skip += 1;
                spent += 1;
                done += 1;
            } else {
                self.leave(&id, step.state);
                self.enter(&id, step.action, due, now);
                skip += u64::from(in_place && at.as_secs_ceil() > due.as_secs_ceil());
                spent += 1;
                done += 1;
            }
        }
        BulkStepResult {
            position: BulkPosition { left: Some(left - spent), skip },
            done,
            size,
            due,
        }
    }

    /// The next jobs of a state, each with its instant if the state has one.
    fn some(&self, step: &BulkStep<'_>, skip: usize, limit: usize) -> Vec<(Timestamp, JobId)> {
        let of = |line: &Timeline| shown(line).skip(skip).take(limit).cloned().collect();
        match step.state {
            JobState::Pending => {
                let ids = self.pending.iter().skip(skip).take(limit);
                ids.map(|id| (Timestamp::from_micros(0), id.clone())).collect()
            }
            JobState::Scheduled => of(&self.scheduled),
            JobState::Retry => of(&self.retry),
            JobState::Archived => of(&self.archived),
            JobState::Completed => of(&self.completed),
            JobState::Aggregating => {
                self.grouping.waiting.get(step.group).map(of).unwrap_or_default()
            }
            JobState::Active => Vec::new(),
        }
    }

    /// The number of jobs in the list of a step.
    fn length(&self, step: &BulkStep<'_>) -> u64 {
        let size = match step.state {
            JobState::Pending => self.pending.len(),
            JobState::Scheduled => self.scheduled.len(),
            JobState::Retry => self.retry.len(),
            JobState::Archived => self.archived.len(),
            JobState::Completed => self.completed.len(),
            JobState::Aggregating => self.grouping.waiting.get(step.group).map_or(0, Timeline::len),
            JobState::Active => 0,
        };
        size as u64
    }

    /// Takes a job out of the collection of its state; false if it was not there.
    pub(super) fn leave(&mut self, id: &JobId, state: JobState) -> bool {
        let has_left = self.leave_line(id, state);
        if has_left && matches!(state, JobState::Pending | JobState::Scheduled) {
            self.leave_gates(id);
        }
        has_left
    }

    fn leave_line(&mut self, id: &JobId, state: JobState) -> bool {
        let line = match state {
            JobState::Pending => {
                let place = self.pending.iter().position(|one| one == id);
                return place.is_some_and(|place| self.pending.remove(place).is_some());
            }
            JobState::Scheduled => &mut self.scheduled,
            JobState::Retry => &mut self.retry,
            JobState::Archived => &mut self.archived,
            JobState::Completed => &mut self.completed,
            JobState::Aggregating => return self.leave_group(id),
            JobState::Active => return false,
        };
        // The front first: a bulk action takes its jobs there.
        let Some(entry) = line.iter().find(|(_, one)| one == id).cloned() else { return false };
        line.remove(&entry)
    }

    /// Takes a job out of its group; an empty group is removed.
    fn leave_group(&mut self, id: &JobId) -> bool {
        let Some(name) = self.jobs.get(id).map(|stored| stored.job.group.clone()) else {
            return false;
        };
        let Some(line) = self.grouping.waiting.get_mut(&name) else { return false };
        let Some(entry) = line.iter().find(|(_, one)| one == id).cloned() else { return false };
        line.remove(&entry);
        if line.is_empty() {
            self.grouping.waiting.remove(&name);
        }
        true
    }

    /// Puts a job that has left its collection into the one that the action names.
    fn enter(&mut self, id: &JobId, action: Action, due: Timestamp, now: Timestamp) {
        let Some(mut stored) = self.jobs.remove(id) else { return };
        let waits =
            if stored.state == JobState::Retry { stored.state } else { JobState::Scheduled };
        stored.due = None;
        let before = stored.pending_since.take();
        stored.reclaimed_from = None;
        // An operator has decided about it.
        (stored.start_by, stored.follows) = (None, None);
        match action {
            Action::Delete => self.unlock(&stored.job, now),
            Action::Archive => self.archive(stored, now),
            Action::Reschedule(_) if due > now => self.wait(stored, waits, due),
            Action::Run | Action::RunNext | Action::Reschedule(_) => {
                // Otherwise it would wait in its group again after a failure.
                stored.grouped = false;
                // One that is pending goes on waiting.
                stored.pending_since = Some(before.unwrap_or(now));
                if action == Action::RunNext {
                    self.prepend_pending(stored, now);
                } else {
                    self.append_pending(stored, now);
                }
            }
        }
    }

    /// Whether jobs are in flight.
    fn has_active(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Whether there are jobs in any state.
    fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Deletes archived jobs above the limits; returns how many.
    fn trim(&mut self, limit: usize, now: Timestamp) -> usize {
        let before = self.archived.len();
        self.make_room(0, limit, now);
        before - self.archived.len()
    }

    /// Deletes archived jobs that are too old, or too many if `more` are added; at most
    /// `limit` of them.
    pub(super) fn make_room(&mut self, more: usize, limit: usize, now: Timestamp) {
        let ArchiveLimit { max, age } = self.keep;
        let most = usize::try_from(max).unwrap_or(usize::MAX);
        let oldest = Timestamp::from_secs(now.as_secs()) - age;
        for _ in 0..limit {
            let too_many = self.archived.len() + more > most;
            let too_old = self.archived.first().is_some_and(|(at, _)| *at <= oldest);
            if !too_many && !too_old {
                return;
            }
            let Some((_, id)) = self.archived.pop_first() else { return };
            if let Some(stored) = self.jobs.remove(&id) {
                self.unlock(&stored.job, now);
            }
        }
    }
}

/// The entries in the order of lists: by whole seconds, then by id.
fn shown(line: &Timeline) -> impl Iterator<Item = &(Timestamp, JobId)> {
    let from = |at: Timestamp| (at, JobId::stored(""));
    let mut next = line.first();
    let seconds = std::iter::from_fn(move || {
        let (at, _) = next?;
        let end = from(Timestamp::from_micros(at.as_secs_ceil() * 1_000_000 + 1));
        let second = line.range(from(*at)..end.clone());
        next = line.range(end..).next();
        Some(second)
    });
    seconds.flat_map(|second| -> Box<dyn Iterator<Item = _>> {
        let at = |entry: Option<&(Timestamp, JobId)>| entry.map(|(at, _)| *at);
        if at(second.clone().next()) == at(second.clone().next_back()) {
            return Box::new(second);
        }
        let mut second: Vec<_> = second.collect();
        second.sort_by_key(|(_, id)| id);
        Box::new(second.into_iter())
    })
}

/// The due time that an action sets; now for all but rescheduling.
fn due(action: Action, now: Timestamp) -> Timestamp {
    match action {
        Action::Reschedule(Placement::After(delay)) => now + delay,
        Action::Reschedule(Placement::At(when)) => when.max(now),
        Action::Reschedule(Placement::Now)
        | Action::Run
        | Action::RunNext
        | Action::Archive
        | Action::Delete => now,
    }
}
