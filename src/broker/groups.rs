//! The contract of groups: jobs that wait together until they are made into one.

use std::time::Duration;

use super::{Answer, Enqueued};
use crate::job::{JobRecord, NewJob, QueueName};
use crate::time::Timestamp;

/// How long the taker of a set has to make it into a job: Asynq's own limit.
pub const SET_EXPIRY: Duration = Duration::from_secs(120);

/// Most jobs of one set: its taker holds them all in memory.
pub const MOST_IN_SET: usize = 5_000;

/// When a group is aggregated. Whole seconds count, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// How long no job may have joined it. At least a second.
    pub grace: Duration,
    /// How long a job may wait in it, whatever joins; zero for ever.
    pub max_delay: Duration,
    /// How many jobs are enough at once, and the most of one aggregation; 0 for
    /// no number that is enough. Never more than [`MOST_IN_SET`] are taken at once:
    /// the others stay in the group, and are as ready as they were.
    pub max_size: usize,
}

/// What a look at groups found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupsSeen {
    /// Groups that are to be aggregated now.
    pub ready: Vec<String>,
    /// How long until the next one is, unless jobs join; `None` where none waits.
    pub next: Option<Duration>,
    /// Where the next look goes on; 0 where this was all.
    pub cursor: u64,
}

/// The jobs of one aggregation, taken out of their group until `expires`.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSet {
    /// The queue.
    pub queue: QueueName,
    /// The group they were taken from.
    pub group: String,
    /// Random for each set.
    pub id: String,
    /// When others bring the jobs back into the group.
    pub expires: Timestamp,
    /// The jobs, the one that joined first in front. Not those that nobody can
    /// read: they are archived.
    pub jobs: Vec<JobRecord>,
}

/// What repair found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairedGroups {
    /// Sets whose jobs went back into their groups.
    pub returned: usize,
    /// Whether there may be more to do.
    pub more: bool,
}

/// Groups of a store. Sealed as [`Broker`](super::Broker) is.
pub trait Groups: Send + Sync {
    /// Finds groups of a queue that are to be aggregated, from a cursor on (0 at
    /// first). One script, O(100) groups.
    fn ready_groups<'a>(
        &'a self,
        queue: &'a QueueName,
        limits: &'a GroupLimits,
        cursor: u64,
    ) -> Answer<'a, GroupsSeen>;

    /// Takes the jobs of a group, if it is to be aggregated; `None` where it is
    /// not. A script for each 100 jobs, or for about a MiB of them.
    fn take_group<'a>(
        &'a self,
        queue: &'a QueueName,
        group: &'a str,
        limits: &'a GroupLimits,
    ) -> Answer<'a, Option<GroupSet>>;

    /// Stores the job a set was made into and removes the set's jobs and their
    /// locks, all or nothing. `None` where the set is not the caller's any more;
    /// where this call does not create the new job, the set stays. One script.
    fn aggregate<'a>(&'a self, set: &'a GroupSet, job: &'a NewJob) -> Answer<'a, Option<Enqueued>>;

    /// Ends the caller's time with a set: its jobs go back into their group.
    fn return_set<'a>(&'a self, set: &'a GroupSet) -> Answer<'a, ()>;

    /// Brings the jobs of sets whose time is over back into their groups, and
    /// makes groups known again that a Go server filled and told nobody of. One
    /// script, at most `limit` of each, that moves a few hundred jobs at most.
    fn repair_groups<'a>(
        &'a self,
        queue: &'a QueueName,
        limit: usize,
    ) -> Answer<'a, RepairedGroups>;
}

impl GroupLimits {
    /// The same with a size that a set may have.
    pub(super) fn bounded(&self) -> Self {
        Self { max_size: self.max_size.min(MOST_IN_SET), ..*self }
    }

    /// Most jobs taken at once.
    pub(super) fn most(&self) -> usize {
        if self.max_size == 0 { MOST_IN_SET } else { self.max_size.min(MOST_IN_SET) }
    }
}

/// In whole seconds, rounded up.
pub(super) fn ceil_secs(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}
