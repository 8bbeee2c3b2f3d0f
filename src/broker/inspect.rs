//! What can be asked of a store: its queues, their jobs and who works on them.
//! Questions off the hot path, each with its cost; the answers are plain values
//! that both stores give alike.

use std::collections::BTreeMap;

use super::Answer;
use crate::job::{JobId, JobRecord, JobState, QueueName};
use crate::time::Timestamp;

/// One stored job and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct JobInfo {
    /// The job.
    pub job: JobRecord,
    /// Its state.
    pub state: JobState,
    /// When it is due (scheduled, retry); to the microsecond where known.
    pub due: Option<Timestamp>,
    /// What its handler returned, while it is retained.
    pub result: Option<Vec<u8>>,
    /// How often a worker vanished with it.
    pub losses: u32,
}

/// The sizes of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueInfo {
    /// Jobs per state; states without jobs are there with 0.
    pub sizes: BTreeMap<&'static str, u64>,
    /// Whether the queue is paused.
    pub paused: bool,
    /// Attempts that ended, ever.
    pub processed: u64,
    /// Attempts that failed, ever.
    pub failed: u64,
    /// The same for the current UTC day.
    pub processed_today: u64,
    /// The same for the current UTC day.
    pub failed_today: u64,
}

/// The looking-glass: questions and rare actions, off the hot path.
pub trait Inspect: Send + Sync {
    /// Names of all queues. One command, O(queues).
    fn queues(&self) -> Answer<'_, Vec<QueueName>>;

    /// Sizes and counters of a queue. One script, O(1).
    ///
    /// # Errors
    /// [`Error::is_not_found`] where there is no such queue.
    fn queue<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueInfo>;

    /// One job, or `None`. One script, O(log n).
    fn job<'a>(&'a self, queue: &'a QueueName, id: &'a JobId) -> Answer<'a, Option<JobInfo>>;

    /// Stops (or resumes) taking jobs from a queue; enqueueing and running jobs
    /// are not affected. Whether anything changed.
    fn pause<'a>(&'a self, queue: &'a QueueName, paused: bool) -> Answer<'a, bool>;
}
