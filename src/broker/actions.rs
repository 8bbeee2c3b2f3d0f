//! What an operator does to jobs that are not running, one at a time or all of a
//! state. Nothing here belongs to the hot path; everything says what it costs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Answer;
use crate::error::Error;
use crate::job::{JobId, JobState, Placement, QueueName};
use crate::time::Timestamp;

/// Most jobs of one step of an action on many: a step must not block the store.
pub const BULK_STEP_JOBS: u64 = 200;

/// What is done to a job that is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To pending, at the end of the line, whatever it waited for.
    Run,
    /// To the archive, out of the way of workers.
    Archive,
    /// Away, with its unique lock.
    Delete,
    /// To another due time.
    Reschedule(Placement),
}

impl Action {
    /// Whether a job in this state can be acted upon so.
    pub fn permits(self, state: JobState) -> bool {
        use JobState::{Aggregating, Archived, Completed, Pending, Retry, Scheduled};
        let permitted: &[JobState] = match self {
            Action::Run => &[Scheduled, Retry, Archived, Completed, Aggregating],
            Action::Archive => &[Pending, Scheduled, Retry, Completed, Aggregating],
            Action::Delete => &[Pending, Scheduled, Retry, Archived, Completed, Aggregating],
            Action::Reschedule(_) => &[Pending, Scheduled, Retry, Archived],
        };
        permitted.contains(&state)
    }

    /// What it does, as part of a sentence: `job "x" cannot be …`.
    pub fn done(self) -> &'static str {
        match self {
            Action::Run => "run now",
            Action::Archive => "archived",
            Action::Delete => "deleted",
            Action::Reschedule(_) => "rescheduled",
        }
    }
}

/// How an action on one job went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    /// Carried out.
    Done,
    /// The queue has no such job.
    NotFound,
    /// Its state does not permit it.
    WrongState(JobState),
    /// It is not where its state says: in an aggregation under way, or damaged.
    Elsewhere(JobState),
}

/// Which jobs of a queue an action on many is for: all of a state, or of a group.
///
/// ```
/// use rocket_jobqueue::{JobState, Selection};
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
    /// The jobs that wait in this group to be aggregated. Without a group,
    /// [`JobState::Aggregating`] stands for those of all groups.
    pub fn group(name: impl Into<String>) -> Self {
        Self { group: Some(name.into()), ..Self::from(JobState::Aggregating) }
    }

    /// Only those of this job type.
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

/// Where a walk through the jobs of one container stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkPosition {
    /// How many are still to be looked at; `None` at the beginning.
    pub left: Option<u64>,
    /// How many at the beginning are passed over.
    pub skip: u64,
}

/// One step of an action on many jobs.
#[derive(Clone, Debug)]
pub struct BulkStep<'a> {
    /// The queue.
    pub queue: &'a QueueName,
    /// What is done.
    pub action: Action,
    /// The container.
    pub state: JobState,
    /// The group, where the state is aggregating.
    pub group: &'a str,
    /// Only jobs of this type.
    pub job_type: Option<&'a str>,
    /// Where the walk stands.
    pub position: BulkPosition,
    /// How many jobs at most.
    pub limit: u64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkStepResult {
    /// Where the walk goes on.
    pub position: BulkPosition,
    /// How many jobs were acted upon.
    pub done: u64,
    /// How many the container held before.
    pub size: u64,
    /// The due time of a rescheduling: the same for all steps.
    pub due: Timestamp,
}

/// How the removal of a queue went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nothing of it is left.
    Gone,
    /// Refused: it has jobs, and they were not to be removed.
    NotEmpty,
    /// Refused: jobs are running.
    Running,
}

/// How many archived jobs a queue keeps, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimit {
    /// Most jobs; the oldest go. Default 9,999, which is what Asynq keeps.
    ///
    /// More is for queues that no Go worker serves: its next archiving would trim
    /// them, and fail where they are 17,998 or more.
    pub max: u64,
    /// How long one is kept, whole seconds. Default 90 days, as Asynq.
    pub age: Duration,
}

impl Default for ArchiveLimit {
    fn default() -> Self {
        Self { max: 9_999, age: Duration::from_secs(90 * 86_400) }
    }
}

/// What is kept of archived jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveSettings {
    /// The limit of queues without one of their own: `jobqueue.archive_max`,
    /// `jobqueue.archive_age`.
    pub limit: ArchiveLimit,
    /// Limits of single queues: `jobqueue.archive.<queue>.max`, `.age`.
    pub queues: BTreeMap<QueueName, ArchiveLimit>,
    /// Whether archiving releases a job's unique lock:
    /// `jobqueue.release_lock_on_archive`. Default `false`, as Asynq: the lock
    /// stays until its time is over or the job is deleted, and no other job takes
    /// its place meanwhile.
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
    /// [`Error::is_not_found`] where there is no such queue.
    fn act<'a>(&'a self, queue: &'a QueueName, id: &'a JobId, action: Action) -> Answer<'a, Acted>;

    /// Replaces the payload of a job that is not active; everything else stays,
    /// also what a newer peer wrote. Two scripts, O(log n).
    ///
    /// # Errors
    /// [`Error::is_not_found`] where there is no such queue.
    fn edit<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        payload: &'a [u8],
    ) -> Answer<'a, Acted>;

    /// Acts on the next jobs of a container, in the order of its list. One script,
    /// O(limit · log n). An error may mean that the step was made and its count lost.
    fn step<'a>(&'a self, step: &'a BulkStep<'a>) -> Answer<'a, BulkStepResult>;

    /// Names of the groups in which jobs wait. O(groups), in pages.
    fn waiting_groups<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<String>>;

    /// Removes a queue and everything it has; with `force` its jobs too, unless
    /// they are running. In parts, O(keys of the server).
    ///
    /// # Errors
    /// [`Error::is_not_found`] where there is no such queue.
    fn remove_queue<'a>(&'a self, queue: &'a QueueName, force: bool) -> Answer<'a, Removal>;

    /// Deletes archived jobs over the limits, at most `limit` of them; how many.
    fn trim<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize>;
}

/// An action on many jobs while it is under way.
#[derive(Clone, Debug)]
pub struct Sweep {
    queue: QueueName,
    action: Action,
    of: Selection,
    /// Groups that are still to be walked; `None` until they are known.
    groups: Option<Vec<String>>,
    position: BulkPosition,
    done: u64,
    /// What was found at the beginning of each container so far.
    total: u64,
}

impl Sweep {
    /// An action that has not begun.
    ///
    /// # Errors
    /// [`Error::is_invalid`] where jobs of that state cannot be acted upon so.
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

    /// How many jobs there were when their turn came, also those of other types.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Acts on some jobs; whether more are left.
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
