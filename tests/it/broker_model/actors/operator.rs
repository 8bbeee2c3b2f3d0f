//! What an operator does to jobs that do not run, and to a whole queue.

use rocket_jobqueue::internals::{
    Acted, Action, Actions, BulkPosition, BulkStep, BulkStepResult, Cursor, Inspect, JobList,
    JobPage, Removal,
};
use rocket_jobqueue::{
    Error, JobState, Placement, Timestamp,
    inspect::{JobInfo, JobRow, Page},
};

use super::{Actors, TYPES, Twice, alike, plain};
use crate::broker_model::operation::{Do, Due, GROUPS, Of, micros};

/// An action on many jobs under way.
pub struct Walk {
    queue: usize,
    action: Action,
    of: Of,
    position: BulkPosition,
    limit: u64,
}

/// A list that was read to the end of a page.
pub struct Reading {
    queue: usize,
    of: Of,
    size: u32,
    after: Option<Twice<Cursor>>,
}

/// What may be gone after an operation without having ended.
#[derive(Clone, Copy, Default)]
pub struct Gone {
    /// This many of these jobs were deleted.
    pub deleted: Option<(usize, Of, u64)>,
    /// This many jobs were archived, and may have displaced each other.
    pub archived: u64,
}

impl Of {
    /// Whether it is one of these; a job that is being aggregated is of no group.
    pub fn means(self, info: &JobInfo) -> bool {
        let group = self.group.is_none_or(|group| info.record.group == GROUPS[group]);
        let waits = info.state != JobState::Aggregating || info.grouped_since.is_some();
        let meant = self.job_type.is_none_or(|wanted| info.record.job_type == TYPES[wanted]);
        info.state == self.state() && group && waits && meant
    }

    fn state(self) -> JobState {
        if self.group.is_some() { JobState::Aggregating } else { self.state }
    }

    fn list(self) -> JobList<'static> {
        match self.group {
            Some(group) => JobList::Group(GROUPS[group]),
            None => JobList::State(self.state),
        }
    }

    fn group(self) -> &'static str {
        self.group.map_or("", |group| GROUPS[group])
    }
}

/// What can be compared of an answer that may name a queue that is not there.
fn said<T>(answer: Result<T, Error>) -> Result<Option<T>, String> {
    match answer {
        Ok(said) => Ok(Some(said)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(format!("{error:?}")),
    }
}

/// Rows with what each store says in its own words made alike.
fn comparable(page: &JobPage) -> (u64, Vec<JobRow>, bool) {
    let mut rows = page.rows.clone();
    for row in &mut rows {
        if let JobRow::Job(info) = row {
            info.record = plain(&info.record);
        }
    }
    (page.total, rows, page.next.is_some())
}

impl Actors {
    fn action(&self, what: Do) -> Action {
        match what {
            Do::Run => Action::Run,
            Do::RunNext => Action::RunNext,
            Do::Archive => Action::Archive,
            Do::Delete => Action::Delete,
            Do::Reschedule(due) => Action::Reschedule(self.placement(due)),
        }
    }

    pub(super) fn placement(&self, due: Due) -> Placement {
        match due {
            Due::Now => Placement::Now,
            Due::After(after) => Placement::After(micros(after)),
            Due::At(from_now) => {
                let at = self.clock.now().as_micros() + from_now;
                Placement::At(Timestamp::from_micros(at))
            }
        }
    }

    pub(super) async fn act_on(
        &mut self,
        queue: usize,
        job: usize,
        what: Do,
    ) -> Result<(), String> {
        self.touched[queue] = true;
        let action = self.action(what);
        let before = self.seen[queue].jobs[job].as_ref().map(|info| info.state);
        let (name, id) = (&self.queues[queue], &self.names[job]);
        let memory = said(Actions::act(&self.memory, name, id, action).await)?;
        let redis = said(Actions::act(&self.redis, name, id, action).await)?;
        alike("answers to an action", &memory, &redis)?;
        let expected = match before {
            None => Acted::NotFound,
            Some(state) if !action.permits(state) => Acted::WrongState(state),
            Some(state) => {
                let info = self.seen[queue].jobs[job].as_ref();
                let taken = info.is_some_and(|info| {
                    state == JobState::Aggregating && info.grouped_since.is_none()
                });
                if taken { Acted::Elsewhere(state) } else { Acted::Done }
            }
        };
        let Some(acted) = memory else { return Ok(()) };
        alike("what was done to a job and what was to be expected", &acted, &expected)?;
        if acted == Acted::Done && action == Action::Delete {
            self.alive.remove(&(queue, self.names[job].clone()));
        }
        Ok(())
    }

    pub(super) async fn edit(
        &mut self,
        queue: usize,
        job: usize,
        text: &[u8],
    ) -> Result<(), String> {
        self.touched[queue] = true;
        let (name, id) = (&self.queues[queue], &self.names[job]);
        let memory = said(self.memory.edit(name, id, text).await)?;
        let redis = said(self.redis.edit(name, id, text).await)?;
        alike("answers to an edit", &memory, &redis)
    }

    /// Begins an action on many and makes some steps of it.
    pub(super) async fn sweep(
        &mut self,
        queue: usize,
        what: Do,
        of: Of,
        limit: u64,
        steps: usize,
    ) -> Result<(), String> {
        let action = self.action(what);
        // As the sweep that makes the steps asks, before it begins.
        if !action.permits(of.state()) {
            return Ok(());
        }
        self.walk = Some(Walk { queue, action, of, position: BulkPosition::default(), limit });
        let meant = self.seen[queue].jobs.iter().flatten().filter(|info| of.means(info)).count();
        let done = self.sweep_on(steps).await?;
        if self.walk.is_none() {
            // Those that have that due time already do not count.
            let all = match action {
                Action::Reschedule(_) => done.min(meant as u64),
                _ => meant as u64,
            };
            alike("how many jobs were acted upon and how many there were", &done, &all)?;
        }
        Ok(())
    }

    /// Goes on with it, whatever has happened since; how many jobs that was.
    pub(super) async fn sweep_on(&mut self, steps: usize) -> Result<u64, String> {
        let mut done = 0;
        let Some(mut walk) = self.walk.take() else { return Ok(0) };
        self.touched[walk.queue] = true;
        for _ in 0..steps {
            let step = BulkStep {
                queue: &self.queues[walk.queue],
                action: walk.action,
                state: walk.of.state(),
                group: walk.of.group(),
                job_type: walk.of.job_type.map(|wanted| TYPES[wanted]),
                position: walk.position,
                limit: walk.limit,
            };
            let memory: BulkStepResult =
                self.memory.step(&step).await.map_err(|e| format!("{e:?}"))?;
            let redis = self.redis.step(&step).await.map_err(|e| format!("{e:?}"))?;
            alike("steps", &memory, &redis)?;
            walk.position = memory.position;
            done += memory.done;
            if let Action::Reschedule(Placement::After(_)) = walk.action {
                walk.action = Action::Reschedule(Placement::At(memory.due));
            }
            if walk.position.left.is_none_or(|left| left == 0) {
                self.allow(&walk, done);
                return Ok(done);
            }
        }
        self.allow(&walk, done);
        self.walk = Some(walk);
        Ok(done)
    }

    fn allow(&mut self, walk: &Walk, done: u64) {
        match walk.action {
            Action::Delete => self.gone.deleted = Some((walk.queue, walk.of, done)),
            Action::Archive => self.gone.archived = done,
            Action::Run | Action::RunNext | Action::Reschedule(_) => {}
        }
    }

    pub(super) async fn trim(&mut self, queue: usize, limit: usize) -> Result<(), String> {
        self.touched[queue] = true;
        let name = &self.queues[queue];
        let memory = self.memory.trim(name, limit).await.map_err(|e| format!("{e:?}"))?;
        let redis = self.redis.trim(name, limit).await.map_err(|e| format!("{e:?}"))?;
        alike("how many were trimmed", &memory, &redis)
    }

    /// A queue that is gone left nothing.
    pub(super) async fn delete_queue(&mut self, queue: usize, force: bool) -> Result<(), String> {
        self.touched[queue] = true;
        let name = &self.queues[queue];
        let memory = said(self.memory.remove_queue(name, force).await)?;
        let redis = said(self.redis.remove_queue(name, force).await)?;
        alike("answers to the removal of a queue", &memory, &redis)?;
        let jobs = || self.seen[queue].jobs.iter().flatten();
        let expected = if self.seen[queue].info.is_none() {
            None
        } else if jobs().any(|info| info.state == JobState::Active) {
            Some(Removal::Running)
        } else if !force && jobs().next().is_some() {
            Some(Removal::NotEmpty)
        } else {
            Some(Removal::Gone)
        };
        alike("what became of a queue and what was to be expected", &memory, &expected)?;
        if memory == Some(Removal::Gone) {
            self.alive.retain(|(of, _)| *of != queue);
            self.ends[queue] = (0, 0);
            self.raw(queue).await?.check_gone()?;
        }
        Ok(())
    }

    /// Reads a list from its beginning, page by page.
    pub(super) async fn list(
        &mut self,
        queue: usize,
        of: Of,
        size: u32,
        pages: usize,
    ) -> Result<(), String> {
        self.reading = Some(Reading { queue, of, size, after: None });
        self.read_on(pages).await
    }

    /// Reads some pages.
    pub(super) async fn read_on(&mut self, pages: usize) -> Result<(), String> {
        for _ in 0..pages {
            let Some(reading) = self.reading.take() else { break };
            let page = |cursor: Option<&Cursor>| {
                let page = cursor.map_or_else(Page::default, |cursor| Page::after(cursor.clone()));
                page.size(reading.size).expect("a size")
            };
            let (before, too) = match &reading.after {
                Some((memory, redis)) => (Some(memory), Some(redis)),
                None => (None, None),
            };
            let (name, list) = (&self.queues[reading.queue], reading.of.list());
            let memory = said(self.memory.jobs(name, list, &page(before)).await)?;
            let redis = said(self.redis.jobs(name, list, &page(too)).await)?;
            alike("lists", &memory.as_ref().map(comparable), &redis.as_ref().map(comparable))?;
            let next = memory.and_then(|page| page.next).zip(redis.and_then(|page| page.next));
            self.reading = next.map(|next| Reading { after: Some(next), ..reading });
        }
        Ok(())
    }
}
