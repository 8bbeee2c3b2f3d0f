//! What can be asked of a store: its queues, their jobs and who works on them.
//! Questions off the hot path, each with its cost; the answers are plain values
//! that both stores give alike.

use super::Answer;
use super::minute_stats::MinuteStats;
use super::page::Page;
use super::view::{
    AggregationSet, ClusterPlace, DayStats, GroupPage, JobInfo, JobPage, QueueInfo, QueueMemory,
    QueueSummary, Servers, StoreInfo,
};
use crate::job::{JobId, JobState, QueueName};
use crate::time::Timestamp;

/// Queues that one call of [`Inspect::find`] looks into.
pub const FIND_QUEUES: usize = 10_000;

/// What one call of [`Inspect::find`] has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundJobs {
    /// One for each queue that has it.
    pub jobs: Vec<JobInfo>,
    /// The last queue that was looked into, where there are more.
    pub next: Option<QueueName>,
}

/// Which list of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobList<'a> {
    /// All of a state; not aggregating, whose jobs are in groups.
    State(JobState),
    /// The waiting jobs of a group.
    Group(&'a str),
}

/// The looking-glass: questions and rare actions, off the hot path.
///
/// Where a queue does not exist, its lists, sizes and history are an
/// [`Error::is_not_found`](crate::Error::is_not_found). No call of a store works
/// on more than a few hundred entries, however many there are.
pub trait Inspect: Send + Sync {
    /// Names of all queues, in order. One command per 1,000 queues.
    fn queues(&self) -> Answer<'_, Vec<QueueName>>;

    /// Sizes and counters of a queue. A command and a script, O(1); one more
    /// script per 1,000 groups.
    fn queue<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueInfo>;

    /// As [`Inspect::queue`] of at most `most` queues, the first in order whose name comes
    /// after the one given, side by side. A queue that cannot be read says so for itself
    /// alone.
    fn summaries<'a>(
        &'a self,
        after: Option<&'a QueueName>,
        most: usize,
    ) -> Answer<'a, Vec<QueueSummary>>;

    /// About how much memory a queue takes. One script that measures at most 140
    /// jobs and 10 lists; one more per 1,000 groups.
    fn memory<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueMemory>;

    /// What happened on the last days, today first. One script, O(days).
    fn history<'a>(&'a self, queue: &'a QueueName, days: u32) -> Answer<'a, Vec<DayStats>>;

    /// What happened in the last hour, minute by minute, the oldest first. One script.
    fn minutes<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<MinuteStats>>;

    /// How many scheduled and retried jobs are due until the first of these whole
    /// seconds, from there until the second, and so on. One script, two commands each.
    fn upcoming<'a>(&'a self, queue: &'a QueueName, ends: &'a [Timestamp]) -> Answer<'a, Vec<u64>>;

    /// One job, or `None`. One script, O(log n); for one that is active, one
    /// more command per worker process.
    fn job<'a>(&'a self, queue: &'a QueueName, id: &'a JobId) -> Answer<'a, Option<JobInfo>>;

    /// The jobs of this id in the first [`FIND_QUEUES`] queues by name that come after the one
    /// given, until they have [`PAGE_BYTES`](super::PAGE_BYTES) together. One command per
    /// queue, 100 of them side by side, and one script per job. A job that cannot be read is
    /// left out.
    fn find<'a>(&'a self, id: &'a JobId, after: Option<&'a QueueName>) -> Answer<'a, FoundJobs>;

    /// Printable forms of the names of queues that are not UTF-8, at most 100: other programs
    /// may have given them. Nothing else can be asked of such a queue.
    fn unnamable(&self) -> Answer<'_, Vec<String>>;

    /// Some jobs of a list, in Asynq's order: pending and active ones as they
    /// were or will be taken, the others by their time. One script and another
    /// where locks are held, O(rows · log n); a long list's middle is O(n / 100).
    fn jobs<'a>(
        &'a self,
        queue: &'a QueueName,
        list: JobList<'a>,
        page: &'a Page,
    ) -> Answer<'a, JobPage>;

    /// Some groups of a queue. One script, O(rows).
    fn groups<'a>(&'a self, queue: &'a QueueName, page: &'a Page) -> Answer<'a, GroupPage>;

    /// The aggregations in progress that end first, at most 100. One script.
    fn aggregations<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<AggregationSet>>;

    /// The worker processes there are, at most 1,000, and what they run. A
    /// command and two more per process.
    fn servers(&self) -> Answer<'_, Servers>;

    /// Where in a Cluster a queue lives; `None` where there is none. Two commands.
    fn place<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Option<ClusterPlace>>;

    /// What keeps the jobs. One command to each server.
    fn store(&self) -> Answer<'_, StoreInfo>;

    /// Stops (or resumes) taking jobs from a queue; enqueueing and running jobs
    /// are not affected. Whether anything changed.
    fn pause<'a>(&'a self, queue: &'a QueueName, paused: bool) -> Answer<'a, bool>;
}
