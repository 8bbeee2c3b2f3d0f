//! Waits until a queue may hold a pending job.
//!
//! An idle dispatcher must neither poll in a tight loop nor be late for a new job. A process
//! with up to [`MAX_PEEKS`] queues therefore blocks on them in Redis, see
//! [`Peeks`](super::peek::Peeks), each queue on a connection of its own. With more queues,
//! or if Redis refuses the blocking command (an ACL, a full or read-only server), the caller
//! looks again every [`POLL_INTERVAL`] instead; a refusal is logged once. Jobs that this
//! process is forwarding wake the caller without waiting for Redis.
//!
//! What may surprise. The end of the wait promises nothing: another worker may have been
//! faster, and after `at_most` there may be no job at all. The caller dequeues and sees. An
//! error of the store also ends the wait, after a pause; the dequeue that follows reports it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::RedisBroker;
use crate::error::Error;
use crate::job::QueueName;

/// Maximum queues that one process blocks on: every peek takes a connection.
pub(super) const MAX_PEEKS: usize = 16;

/// Polling interval if blocking is not possible.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

impl RedisBroker {
    /// Returns when one of the queues may hold a pending job, or after `at_most`. In both cases
    /// the caller dequeues again.
    pub(super) async fn wait_for_jobs(
        &self,
        queues: &[QueueName],
        at_most: Duration,
    ) -> Result<(), Error> {
        if queues.is_empty() || queues.len() > MAX_PEEKS {
            let arrived = self.arrived.notified();
            let _ = tokio::time::timeout(at_most.min(POLL_INTERVAL), arrived).await;
            return Ok(());
        }
        let found = async {
            tokio::select! {
                found = self.peeks.any(&self.pool, queues) => found,
                () = self.arrived.notified() => Ok(()),
            }
        };
        if let Ok(Err(error)) = tokio::time::timeout(at_most, found).await {
            // Not permitted, out of memory, read-only, too old or away: the dequeue that
            // follows reports what the operator needs to know.
            if error.is_refused() && !self.warned.swap(true, Ordering::Relaxed) {
                crate::log::warn!(?error, "cannot block on the queues; polling every 250 ms");
            }
            tokio::time::sleep(at_most.min(POLL_INTERVAL)).await;
        }
        Ok(())
    }
}
