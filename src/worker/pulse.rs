//! Detects that one of the two loops of a worker, the dispatcher and the heartbeat, is stuck.
//!
//! Each loop records the time at the start of every round. A loop whose thread is blocked, or
//! whose task is never polled, records nothing. The process then runs no jobs although it
//! answers requests, and its liveness check should fail: see
//! [`Worker::is_stuck`](super::Worker::is_stuck) and `GET /health/live`.
//!
//! An idle worker is not stuck: the heartbeat begins a round every few seconds and wakes the
//! dispatcher each time. Neither is one whose store is away, because both loops bound every
//! call.
//!
//! What may surprise. Handlers that block every thread of the application's runtime stop the
//! dispatcher and so make the worker stuck, but not before 30 s. By then the heartbeat's
//! thread has long given back what could not start, see [`stall`](super::stall).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A loop without progress for this long is stuck. Both start a round every few seconds,
/// whatever the store does. After this time another worker may have the jobs.
const STUCK_AFTER: Duration = crate::broker::LEASE;

/// When each loop last began a round, in milliseconds since `began`.
pub(super) struct Pulse {
    began: Instant,
    dispatcher: AtomicU64,
    heartbeat: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        let (dispatcher, heartbeat) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { began: Instant::now(), dispatcher, heartbeat }
    }
}

impl Pulse {
    /// Milliseconds since `began`.
    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The dispatcher begins a round.
    pub(super) fn dispatched(&self) {
        self.dispatcher.store(self.millis(), Ordering::Relaxed);
    }

    /// The heartbeat begins a round.
    pub(super) fn beat(&self) {
        self.heartbeat.store(self.millis(), Ordering::Relaxed);
    }

    /// Whether one of the loops has not begun a round for [`STUCK_AFTER`].
    pub(super) fn is_stuck(&self) -> bool {
        let now = self.millis();
        let stands = |last: &AtomicU64| {
            let silence = now.saturating_sub(last.load(Ordering::Relaxed));
            u128::from(silence) > STUCK_AFTER.as_millis()
        };
        stands(&self.dispatcher) || stands(&self.heartbeat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_stuck_when_either_loop_has_not_come_round_for_long() {
        let long_ago = Instant::now().checked_sub(STUCK_AFTER * 2).unwrap();
        let pulse = || Pulse { began: long_ago, ..Pulse::default() };
        let (neither, dispatched, beat, both) = (pulse(), pulse(), pulse(), pulse());
        dispatched.dispatched();
        beat.beat();
        both.dispatched();
        both.beat();
        assert!(neither.is_stuck() && dispatched.is_stuck() && beat.is_stuck());
        assert!(!both.is_stuck() && !Pulse::default().is_stuck(), "it has just started");
    }
}
