//! A bound on the waiting jobs of a public endpoint.

use std::time::Duration;

use super::Answer;
use crate::job::{Idempotency, JobId, QueueName};

/// How long an admitted job may take to be stored, and how old the last check of its state
/// may be: longer than a whole enqueue takes.
pub const ADMISSION_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Admits jobs of a public endpoint up to a bound.
pub trait Admission: Send + Sync {
    /// Admits a job that is stored right afterwards, unless `max_waiting` jobs admitted to
    /// its queue still wait or run. A job that ends makes room within
    /// [`ADMISSION_CHECK_INTERVAL`]. A request whose `repeat_guard` is known is admitted, since
    /// it stores nothing. So is an `id` that was admitted before: it asks again after a lost
    /// reply. One script, O(log n); if there is no room, it checks at most 1,000 jobs.
    fn admit<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        max_waiting: u32,
        repeat_guard: Option<&'a Idempotency>,
    ) -> Answer<'a, bool>;
}
