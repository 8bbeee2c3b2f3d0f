//! Tells whether the two loops of a worker still come round: the dispatcher and the
//! heartbeat. A loop whose thread is blocked, or whose task is never polled, does not. The
//! process then runs no jobs although it answers requests, and its health check should
//! fail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A loop that has not come round for this long is stuck. Both come round every few
/// seconds, whatever the store does. After this time another worker may have the jobs.
const STUCK_AFTER: Duration = crate::broker::LEASE;

/// When each loop came round last, in milliseconds since `began`.
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
    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The dispatcher has come round.
    pub(super) fn dispatched(&self) {
        self.dispatcher.store(self.millis(), Ordering::Relaxed);
    }

    /// The heartbeat has come round.
    pub(super) fn beat(&self) {
        self.heartbeat.store(self.millis(), Ordering::Relaxed);
    }

    /// Whether one of the loops has not come round for [`STUCK_AFTER`].
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
