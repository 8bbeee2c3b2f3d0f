//! Operator actions on jobs that are not running, one at a time or in bulk. They are off
//! the hot path, and each method states its cost.
//!
//! A bulk action is a [`Sweep`]: it walks the jobs of a state or a group in steps of at most
//! [`BULK_STEP_JOBS`], and keeps its position between the steps. The position counts entries
//! from the front, because jobs that were acted upon leave the list; jobs of other types are
//! skipped and counted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Answer;
use crate::error::Error;
use crate::job::{JobId, JobState, Placement, QueueName};
use crate::time::Timestamp;

/// Maximum jobs of one step of a bulk action: a step must not block the store.
pub const BULK_STEP_JOBS: u64 = 200;

/// An action on a job that is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes it pending, last in the queue.
    Run,
    /// Makes it pending, first in the queue.
    RunNext,
    /// Archives it: no worker runs it.
    Archive,
    /// Deletes it, with its unique lock.
    Delete,
    /// Gives it another due time.
    Reschedule(Placement),
}

impl Action {
    /// Whether the action applies to jobs in this state.
    pub fn permits(self, state: JobState) -> bool {
        use JobState::{Aggregating, Archived, Completed, Pending, Retry, Scheduled};
        let permitted: &[JobState] = match self {
            Action::Run => &[Scheduled, Retry, Archived, Completed, Aggregating],
            Action::RunNext => &[Pending, Scheduled, Retry, Archived, Completed, Aggregating],
            Action::Archive => &[Pending, Scheduled, Retry, Completed, Aggregating],
            Action::Delete => &[Pending, Scheduled, Retry, Archived, Completed, Aggregating],
            Action::Reschedule(_) => &[Pending, Scheduled, Retry, Archived],
        };
        permitted.contains(&state)
    }

    /// The participle for messages: `job "x" cannot be …`.
    pub fn done(self) -> &'static str {
        match self {
            Action::Run => "run now",
            Action::RunNext => "run next",
            Action::Archive => "archived",
            Action::Delete => "deleted",
            Action::Reschedule(_) => "rescheduled",
        }
    }
}

/// The result of an action on one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    /// Carried out.
    Done,
    /// The queue has no such job.
    NotFound,
    /// The action does not apply to its state.
    WrongState(JobState),
    /// It is not in the list of its state: it is being aggregated, or damaged.
    Elsewhere(JobState),
}

impl Acted {
    /// Done, or the error that says why not. `done` is the participle for its message.
    pub(crate) fn or_error(self, id: &JobId, done: &str) -> Result<(), Error> {
        match self {
            Acted::Done => Ok(()),
            Acted::NotFound => Err(Error::not_found(format!("job \"{id}\" does not exist"))),
            Acted::WrongState(state) => {
                Err(Error::wrong_state(format!("job \"{id}\" is {state}: it cannot be {done}")))
            }
            Acted::Elsewhere(state) => Err(Error::wrong_state(format!(
                "job \"{id}\" is {state}, but moves at the moment, or its queue is damaged"
            ))),
        }
    }
}

/// The jobs of a bulk action: all of a state, or all of a group.
///
/// ```
/// use rocket_jobqueue::inspect::Selection;
/// use rocket_jobqueue::JobState;
///
/// let _all = Selection::from(JobState::Archived);
/// let _some = Selection::from(JobState::Retry).of_type("mail:welcome");
/// let _one_group = Selection::group("customer-7");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub(crate) state: JobState,
    pub(crate) group: Option<String>,
    pub(crate) job_type: Option<String>,
}

impl Selection {
    /// The jobs that wait in this group. [`JobState::Aggregating`] selects the jobs of all
    /// groups.
    pub fn group(name: impl Into<String>) -> Self {
        Self { group: Some(name.into()), ..Self::from(JobState::Aggregating) }
    }

    /// Only jobs of this type.
    pub fn of_type(mut self, job_type: impl Into<String>) -> Self {
        self.job_type = Some(job_type.into());
        self
    }
}

impl From<JobState> for Selection {
    fn from(state: JobState) -> Self {
        Self { state, group: None, job_type: None }
    }
}

/// The position of a bulk action in one list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkPosition {
    /// How many entries are left to examine; `None` at the beginning.
    pub left: Option<u64>,
    /// How many entries at the front are skipped.
    pub skip: u64,
}

/// One step of a bulk action.
#[derive(Clone, Debug)]
pub struct BulkStep<'a> {
    /// The queue.
    pub queue: &'a QueueName,
    /// The action.
    pub action: Action,
    /// The state of the jobs.
    pub state: JobState,
    /// The group, if the state is aggregating.
    pub group: &'a str,
    /// Only jobs of this type.
    pub job_type: Option<&'a str>,
    /// The position in the list.
    pub position: BulkPosition,
    /// Maximum jobs to act upon.
    pub limit: u64,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkStepResult {
    /// The position of the next step.
    pub position: BulkPosition,
    /// How many jobs were acted upon.
    pub done: u64,
    /// How many jobs the list held before.
    pub size: u64,
    /// The due time that a rescheduling set; the same for all steps.
    pub due: Timestamp,
}

/// The result of removing a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nothing of it is left.
    Gone,
    /// Refused: it has jobs, and `force` was not given.
    NotEmpty,
    /// Refused: jobs are running.
    Running,
}

/// How many archived jobs a queue keeps, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimit {
    /// Maximum archived jobs; the oldest are deleted. Default 9,999, as in Asynq.
    ///
    /// Set more only for queues that no Go worker serves: it would trim them when it archives
    /// its next job, and fail if there are 17,998 or more.
    pub max: u64,
    /// How long a job stays archived, in whole seconds. Default 90 days, as in Asynq.
    pub age: Duration,
}

impl Default for ArchiveLimit {
    fn default() -> Self {
        Self { max: 9_999, age: Duration::from_secs(90 * 86_400) }
    }
}

/// Limits on archived jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveSettings {
    /// The limit of queues without one of their own: `jobqueue.archive_max`,
    /// `jobqueue.archive_age`.
    pub limit: ArchiveLimit,
    /// Limits of single queues: `jobqueue.archive.<queue>.max`, `.age`.
    pub queues: BTreeMap<QueueName, ArchiveLimit>,
    /// Whether archiving releases a job's unique lock:
    /// `jobqueue.release_lock_on_archive`. Default `false`, as in Asynq: the lock stays until
    /// it expires or the job is deleted, and no other job can take it meanwhile.
    pub release_lock: bool,
}

impl ArchiveSettings {
    /// The limit of a queue.
    pub fn of(&self, queue: &QueueName) -> ArchiveLimit {
        self.queues.get(queue).copied().unwrap_or(self.limit)
    }
}

/// Actions on jobs that are not running, off the hot path.
pub trait Actions: Send + Sync {
    /// Acts on one job. One script, O(log n); for a pending job that is neither
    /// among the next nor the newest 5,000, O(n) in pages of 10,000.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such queue.
    fn act<'a>(&'a self, queue: &'a QueueName, id: &'a JobId, action: Action) -> Answer<'a, Acted>;

    /// Replaces the payload of a job that is not active. Everything else stays, including
    /// fields of newer versions. Two scripts, O(log n).
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such queue.
    fn edit<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        payload: &'a [u8],
    ) -> Answer<'a, Acted>;

    /// Acts on the next jobs of a list, in its order. One script, O(limit · log n). After an
    /// error the step may have been made and its count lost.
    fn step<'a>(&'a self, step: &'a BulkStep<'a>) -> Answer<'a, BulkStepResult>;

    /// Names of the groups in which jobs wait. O(groups), in pages.
    fn waiting_groups<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<String>>;

    /// Removes an empty queue with everything that belongs to it; with `force` its jobs too,
    /// unless some are running. Many calls, together O(keys of the server).
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such queue.
    fn remove_queue<'a>(&'a self, queue: &'a QueueName, force: bool) -> Answer<'a, Removal>;

    /// Deletes archived jobs above the limits, at most `limit`; returns how many.
    fn trim<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize>;
}

/// A bulk action in progress.
#[derive(Clone, Debug)]
pub struct Sweep {
    queue: QueueName,
    action: Action,
    of: Selection,
    /// Groups that are still to be walked; `None` until they are known.
    groups: Option<Vec<String>>,
    position: BulkPosition,
    done: u64,
    /// The sizes of the lists so far, each at its beginning.
    total: u64,
}

impl Sweep {
    /// A bulk action that has not begun.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the action does not apply to that state.
    pub fn new(queue: QueueName, action: Action, of: Selection) -> Result<Self, Error> {
        if !action.permits(of.state) {
            let (state, done) = (of.state, action.done());
            return Err(Error::invalid(format!("{state} jobs cannot be {done}")));
        }
        let groups = match (&of.group, of.state) {
            (Some(group), _) => Some(vec![group.clone()]),
            (None, JobState::Aggregating) => None,
            _ => Some(vec![String::new()]),
        };
        Ok(Self { queue, action, of, groups, position: BulkPosition::default(), done: 0, total: 0 })
    }

    /// How many jobs were acted upon.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// How many jobs each list held when the action reached it, other types included.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Makes the next step; returns whether more are left.
    pub async fn step(&mut self, store: &(impl Actions + ?Sized)) -> Result<bool, Error> {
        if self.groups.is_none() {
            self.groups = Some(store.waiting_groups(&self.queue).await?);
        }
        let groups = self.groups.get_or_insert_default();
        let Some(group) = groups.last() else { return Ok(false) };
        let step = BulkStep {
            queue: &self.queue,
            action: self.action,
            state: self.of.state,
            group,
            job_type: self.of.job_type.as_deref(),
            position: self.position,
            limit: BULK_STEP_JOBS,
        };
        let stepped = store.step(&step).await?;
        if self.position.left.is_none() {
            self.total += stepped.size;
        }
        self.done += stepped.done;
        self.position = stepped.position;
        // A delay counts from the first step, so that all jobs are due at once.
        if let Action::Reschedule(Placement::After(_)) = self.action {
            self.action = Action::Reschedule(Placement::At(stepped.due));
        }
        if self.position.left.is_none_or(|left| left == 0) {
            groups.pop();
            self.position = BulkPosition::default();
        }
        Ok(!groups.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_action_is_for_jobs_that_run() {
        let later = Action::Reschedule(Placement::Now);
        for action in [Action::Run, Action::Archive, Action::Delete, later] {
            assert!(!action.permits(JobState::Active), "{action:?}");
            let sweep = Sweep::new(
                QueueName::new("mail").unwrap(),
                action,
                Selection::from(JobState::Active),
            );
            assert!(sweep.unwrap_err().is_invalid());
        }
    }

    #[test]
    fn a_queue_without_limits_of_its_own_has_those_of_all() {
        let own = ArchiveLimit { max: 5, age: Duration::from_secs(60) };
        let mail = QueueName::new("mail").unwrap();
        let settings =
            ArchiveSettings { queues: [(mail.clone(), own)].into(), ..Default::default() };
        assert_eq!(settings.of(&mail), own);
        assert_eq!(settings.of(&QueueName::new("other").unwrap()).max, 9_999);
    }
}
