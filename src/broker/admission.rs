//! How many jobs a route that is open to everybody may keep waiting.

use std::time::Duration;

use super::Answer;
use crate::job::{Idempotency, JobId, QueueName};

/// How long an admitted job may take to be stored, and how old a look at it may be: longer
/// than an enqueue takes in all.
pub const ADMISSION_LOOK: Duration = Duration::from_secs(5);

/// A bound on jobs that strangers enqueue. Sealed as [`Broker`](super::Broker) is.
pub trait Admission: Send + Sync {
    /// Admits this job, unless `max_waiting` of those admitted to its queue still wait or
    /// run; to be stored right afterwards. A place is free again within
    /// [`ADMISSION_LOOK`] of its job's end. A request whose `repeat_guard` is known is
    /// admitted, since nothing is stored for it, and so is an `id` that has its place
    /// already, which asks again when an answer was lost. One script, O(log n); while all places
    /// are taken, it looks at no more than 1,000 jobs.
    fn admit<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        max_waiting: u32,
        repeat_guard: Option<&'a Idempotency>,
    ) -> Answer<'a, bool>;
}
