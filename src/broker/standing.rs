//! Where a job stands: what a store knows about a job's place beyond the job itself. The
//! inspector makes the explanation of a waiting job from it.

use super::LimitStanding;
use crate::job::{JobId, JobState};
use crate::time::Timestamp;

/// Maximum pending jobs that are searched for one, from the next job on. A job farther back has at
/// least that many before it.
pub const MAX_SEARCHED: u64 = 10_000;

/// Maximum aggregation sets that are searched for a job.
pub(crate) const MAX_SEARCHED_SETS: usize = 100;

/// The result of [`Inspect::standing`](super::Inspect::standing).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The job's state; `None` if there is no such job, or if its state is unknown.
    pub state: Option<JobState>,
    /// How it stands with the limit that it waits for.
    pub waits_for: Option<LimitStanding>,
    /// The job whose end it waits for, because that holds its unique lock.
    pub follows: Option<JobId>,
    /// Whether its queue is paused.
    pub is_paused: bool,
    /// Since when, if known.
    pub paused_since: Option<Timestamp>,
    /// Pending jobs of the queue.
    pub pending: u64,
    /// Pending jobs that are dequeued before it; `None` if it is not among the next
    /// [`MAX_SEARCHED`].
    pub ahead: Option<u64>,
    /// The minute in which a worker of this crate last served the queue, if that was within the
    /// last two hours.
    pub served: Option<Timestamp>,
    /// Whether the store recorded that its attempt has started, as it does for a suspect.
    pub has_started: bool,
    /// Whether a Go worker has its lease: it counts as expired
    /// [`FOREIGN_LEASE_MARGIN`](super::FOREIGN_LEASE_MARGIN) after its end.
    pub has_foreign_lease: bool,
    /// Jobs that wait in its group.
    pub group_size: u64,
    /// When the first of them joined.
    pub group_oldest: Option<Timestamp>,
    /// When the last of them joined.
    pub group_newest: Option<Timestamp>,
    /// When the aggregation that claimed it expires.
    pub set_expires: Option<Timestamp>,
    /// Whether there are more aggregation sets than were searched for it.
    pub has_more_sets: bool,
}
