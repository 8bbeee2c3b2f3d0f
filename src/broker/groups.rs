//! The contract of groups: jobs that wait together until they are aggregated into one.
//!
//! A group is *ready* when it is large enough, when no job has joined for a while, or when
//! its oldest job has waited long enough. An aggregator claims its jobs as a [`GroupSet`],
//! makes one job out of them, and stores that job while removing the set, in one atomic
//! step. A set that is not aggregated in time returns to its group.

use std::time::Duration;

use super::{Answer, Enqueued};
use crate::job::{JobRecord, NewJob, QueueName};
use crate::time::Timestamp;

/// How long an aggregator may take for a set. Asynq's own limit.
pub const SET_EXPIRY: Duration = Duration::from_secs(120);

/// Maximum jobs of one set: the aggregator holds them all in memory.
pub const MAX_SET_JOBS: usize = 5_000;

/// When a group is ready. Durations count in whole seconds, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// Ready when no job has joined for this long. At least a second.
    pub grace: Duration,
    /// Maximum wait of its oldest job; zero for no maximum.
    pub max_delay: Duration,
    /// Number of jobs that makes it ready at once, and the maximum of one aggregation; 0 for
    /// none. Never more than [`MAX_SET_JOBS`] are claimed at once: the others stay in the
    /// group.
    pub max_size: usize,
}

/// The result of a search for ready groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadyGroups {
    /// Groups that are ready now.
    pub ready: Vec<String>,
    /// How long until the next group is ready unless jobs join; `None` if none waits.
    pub next: Option<Duration>,
    /// The cursor of the next search; 0 at the end.
    pub cursor: u64,
}

/// The jobs of one aggregation, claimed from their group until `expires`.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSet {
    /// The queue.
    pub queue: QueueName,
    /// The group they were claimed from.
    pub group: String,
    /// A random id.
    pub id: String,
    /// When any process may return the jobs to the group.
    pub expires: Timestamp,
    /// The jobs, in the order in which they joined. Unreadable jobs are archived instead.
    pub jobs: Vec<JobRecord>,
}

/// The result of repairing groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairedGroups {
    /// Expired sets whose jobs returned to their groups.
    pub returned: usize,
    /// Whether there may be more to do.
    pub more: bool,
}

/// The groups of a store.
pub trait Groups: Send + Sync {
    /// Finds ready groups of a queue, from a cursor on (0 at first). One script, O(100)
    /// groups.
    fn ready_groups<'a>(
        &'a self,
        queue: &'a QueueName,
        limits: &'a GroupLimits,
        cursor: u64,
    ) -> Answer<'a, ReadyGroups>;

    /// Claims the jobs of a group; `None` if it is not ready. A script for each 100 jobs, or
    /// for about a MiB of them.
    fn claim_group<'a>(
        &'a self,
        queue: &'a QueueName,
        group: &'a str,
        limits: &'a GroupLimits,
    ) -> Answer<'a, Option<GroupSet>>;

    /// Stores the aggregated job and removes the set's jobs and their locks, all or nothing.
    /// `None` if the set is no longer the caller's. If the new job is not created, the set
    /// stays. One script.
    fn aggregate<'a>(&'a self, set: &'a GroupSet, job: &'a NewJob) -> Answer<'a, Option<Enqueued>>;

    /// Gives a set up: its jobs return to their group.
    fn return_set<'a>(&'a self, set: &'a GroupSet) -> Answer<'a, ()>;

    /// Returns the jobs of expired sets to their groups, and lists groups again that a Go
    /// server filled without listing them. One script, at most `limit` of each; it moves a
    /// few hundred jobs at most.
    fn repair_groups<'a>(
        &'a self,
        queue: &'a QueueName,
        limit: usize,
    ) -> Answer<'a, RepairedGroups>;
}

impl GroupLimits {
    /// The same limits, with a size that a set may have.
    pub(crate) fn bounded(&self) -> Self {
        Self { max_size: self.max_size.min(MAX_SET_JOBS), ..*self }
    }

    /// When a group of this many jobs is ready unless more join; for one that is full, now.
    pub(crate) fn ready_at(
        &self,
        jobs: usize,
        (oldest, newest): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Timestamp {
        let limits = self.bounded();
        if limits.max_size > 0 && jobs >= limits.max_size {
            return now;
        }
        let quiet = newest + Duration::from_secs(ceil_secs(limits.grace).max(1));
        match ceil_secs(limits.max_delay) {
            0 => quiet,
            delay => quiet.min(oldest + Duration::from_secs(delay)),
        }
    }

    /// Maximum jobs that are claimed at once.
    pub(super) fn max_claimed(&self) -> usize {
        if self.max_size == 0 { MAX_SET_JOBS } else { self.max_size.min(MAX_SET_JOBS) }
    }
}

/// A duration in whole seconds, rounded up.
pub(super) fn ceil_secs(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}
