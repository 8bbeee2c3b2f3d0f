//! The read side of a store: its queues, their jobs, and the processes that work on
//! them. These methods are off the hot path, and each states its cost. The answers
//! are plain values, the same from both stores.

use super::Answer;
use super::minute_stats::MinuteStats;
use super::page::Page;
use super::{
    AggregationSet, ClusterPlace, DayStats, GroupPage, JobInfo, JobPage, QueueInfo, QueueMemory,
    QueueSummary, Servers, Standing, StoreInfo,
};
use crate::job::{JobId, JobState, QueueName};
use crate::time::Timestamp;

/// Maximum queues that one call of [`Inspect::find`] searches.
pub const MAX_FIND_QUEUES: usize = 10_000;

/// How an empty name of a queue is shown. Asynq and this crate write none, but another program
/// may have put it into the set of names.
pub(crate) const EMPTY_QUEUE_NAME: &str = "\"\"";

/// The result of [`Inspect::summaries`].
#[derive(Clone, Debug, Default)]
pub struct QueueSummaries {
    /// By name.
    pub queues: Vec<QueueSummary>,
    /// Printable forms of the names of queues that are not UTF-8, and `""` for an empty name, at
    /// most 100: other programs may have used them. No method accepts such a name.
    pub unnamable: Vec<String>,
}

/// The result of [`Inspect::find`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundJobs {
    /// The job of each queue that has one with this id.
    pub jobs: Vec<JobInfo>,
    /// The last queue searched, if there are more.
    pub next: Option<QueueName>,
}

/// One list of jobs in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobList<'a> {
    /// All jobs of a state. Aggregating jobs are in groups instead.
    State(JobState),
    /// The jobs that wait in a group.
    Group(&'a str),
}

/// Questions about a store, and pausing a queue.
///
/// If a queue does not exist, its lists, sizes and history give
/// [`Error::is_not_found`](crate::Error::is_not_found). No single call works on more
/// than a few hundred entries, however many there are.
pub trait Inspect: Send + Sync {
    /// Names of all queues, in order. One command per 500 queues. If there are more, a store
    /// [for viewers](super::Broker::aside) may answer with the names of up to half a minute ago.
    fn queues(&self) -> Answer<'_, Vec<QueueName>>;

    /// At most `most` of these names, the first ones after the name given, and whether there are
    /// more. Cost as [`Inspect::queues`].
    fn queues_after<'a>(
        &'a self,
        after: Option<&'a QueueName>,
        most: usize,
    ) -> Answer<'a, (Vec<QueueName>, bool)> {
        Box::pin(async move {
            let mut names = self.queues().await?;
            names.retain(|name| after.is_none_or(|after| name > after));
            let has_more = names.len() > most;
            names.truncate(most);
            Ok((names, has_more))
        })
    }

    /// Whether each of these queues may have groups or aggregations; cheaper than asking for
    /// them. One command per queue.
    fn may_have_groups<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<bool>> {
        Box::pin(async move { Ok(vec![true; queues.len()]) })
    }

    /// Sizes and counters of a queue. A command and a script, O(1); one more
    /// script per 1,000 groups.
    fn queue<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueInfo>;

    /// [`Inspect::queue`] of at most `most` queues, in order, the first one after the name
    /// given; concurrently. A queue that cannot be read has its error in its own row.
    fn summaries<'a>(
        &'a self,
        after: Option<&'a QueueName>,
        most: usize,
    ) -> Answer<'a, QueueSummaries>;

    /// An estimate of a queue's memory. One script that measures at most 140
    /// jobs and 10 lists; one more per 1,000 groups.
    fn memory<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueMemory>;

    /// Attempts of the last days, today first. One script, O(days).
    fn history<'a>(&'a self, queue: &'a QueueName, days: u32) -> Answer<'a, Vec<DayStats>>;

    /// Attempts of the last hour by minute, the oldest first. One script.
    fn minutes<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<MinuteStats>>;

    /// How many scheduled and retried jobs are due before the first of these whole seconds,
    /// from there to the second, and so on. One script, two commands each.
    fn upcoming<'a>(&'a self, queue: &'a QueueName, ends: &'a [Timestamp]) -> Answer<'a, Vec<u64>>;

    /// One job, or `None`. One script, O(log n); for one that is active, one
    /// more command per worker process.
    fn job<'a>(&'a self, queue: &'a QueueName, id: &'a JobId) -> Answer<'a, Option<JobInfo>>;

    /// The states of some jobs, `None` for one that does not exist or is no job. One command per
    /// job, all in one round trip.
    fn states<'a>(
        &'a self,
        queue: &'a QueueName,
        ids: &'a [JobId],
    ) -> Answer<'a, Vec<Option<JobState>>>;

    /// The jobs of this id in the first [`MAX_FIND_QUEUES`] queues by name that come after the one
    /// given, until they have [`MAX_PAGE_BYTES`](super::MAX_PAGE_BYTES) together. One command per
    /// queue, 100 of them concurrently, and one script per job. A job that cannot be read is
    /// left out.
    fn find<'a>(&'a self, id: &'a JobId, after: Option<&'a QueueName>) -> Answer<'a, FoundJobs> {
        Box::pin(async move {
            let (mut names, has_more) = self.queues_after(after, MAX_FIND_QUEUES).await?;
            let mut found = self.find_in(id, &names).await?;
            if found.next.is_none() && has_more {
                found.next = names.pop();
            }
            Ok(found)
        })
    }

    /// The same in these queues. If jobs of that many bytes were found before the last one,
    /// [`FoundJobs::next`] is the last queue searched.
    fn find_in<'a>(&'a self, id: &'a JobId, queues: &'a [QueueName]) -> Answer<'a, FoundJobs>;

    /// A page of a list, in Asynq's order: pending and active jobs in the order of their
    /// dequeue, the others by their time. One script and another
    /// if locks are held, O(rows · log n); in the middle of a long list O(n / 100).
    fn jobs<'a>(
        &'a self,
        queue: &'a QueueName,
        list: JobList<'a>,
        page: &'a Page,
    ) -> Answer<'a, JobPage>;

    /// A page of a queue's groups. One script, O(rows).
    fn groups<'a>(&'a self, queue: &'a QueueName, page: &'a Page) -> Answer<'a, GroupPage>;

    /// Aggregations in progress, in the order in which they expire, at most 100. One script.
    fn aggregations<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<AggregationSet>>;

    /// The announced worker processes, at most 1,000, and their jobs in flight. A
    /// command and two more per process.
    fn servers(&self) -> Answer<'_, Servers>;

    /// Where a job stands. One script, O(log n) and at most [`MAX_SEARCHED`](super::MAX_SEARCHED)
    /// entries of the pending list for a pending job.
    fn standing<'a>(&'a self, queue: &'a QueueName, id: &'a JobId) -> Answer<'a, Standing>;

    /// The announced worker processes, at most 1,000, each with the number of its jobs in flight
    /// in `more_running` instead of the jobs. A command and one more per process.
    fn serving(&self) -> Answer<'_, Servers> {
        Box::pin(async move {
            let mut all = self.servers().await?;
            for server in &mut all.servers {
                server.more_running += server.running.len() as u64;
                server.running.clear();
            }
            Ok(all)
        })
    }

    /// How many jobs of each queue a worker may dequeue: the pending ones, none of a paused queue.
    /// Two commands per queue, concurrently.
    fn available<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<u64>>;

    /// The slot and nodes of a queue in a Cluster; `None` if there is no Cluster. Two commands.
    fn place<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Option<ClusterPlace>>;

    /// The servers that hold the jobs. One command to each.
    fn store(&self) -> Answer<'_, StoreInfo>;

    /// Pauses or resumes dequeuing from a queue; enqueuing and jobs in flight are not
    /// affected. Returns whether anything changed.
    fn pause<'a>(&'a self, queue: &'a QueueName, paused: bool) -> Answer<'a, bool>;
}
