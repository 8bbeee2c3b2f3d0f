//! The order of the calls of one bulk enqueue.
//!
//! A bulk enqueue of more than 100 jobs becomes several script calls that run
//! concurrently. On one connection Redis runs them in the order they were sent, so the
//! calls need not wait for each other and the jobs still become pending in the order
//! the caller gave them.
//!
//! This ends when a queue's slot moves to another Cluster node: a call that has to be
//! repeated would be overtaken by the calls behind it. From that moment each call waits
//! for all calls before it ([`CallOrder::keep`]). The order never becomes loose again
//! within one bulk enqueue.
//!
//! What may surprise. A call counts as ended when its [`RunningCall`] is dropped,
//! however it ended, so a call that fails or is cancelled blocks no other. The first
//! error that is not one queue's own stops the calls not yet sent.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::error::Error;

/// The order of one sequence of calls.
pub(super) struct CallOrder {
    /// The error that stops the calls not yet sent.
    pub failed: OnceLock<Error>,
    /// Whether calls wait for those before them.
    is_strict: AtomicBool,
    /// Which calls have ended, by position.
    ended: watch::Sender<Vec<bool>>,
}

impl CallOrder {
    /// The order of this many calls.
    pub(super) fn of(calls: usize) -> Self {
        let ended = watch::Sender::new(vec![false; calls]);
        Self { failed: OnceLock::new(), is_strict: AtomicBool::new(false), ended }
    }

    /// From now on each call waits for those before it.
    pub(super) fn keep(&self) {
        self.is_strict.store(true, Ordering::Relaxed);
    }

    /// Begins a call, which ends when the guard is dropped.
    pub(super) fn begin(&self, nth: usize) -> RunningCall<'_> {
        RunningCall { order: self, nth }
    }

    /// Returns when this call may be sent.
    pub(super) async fn turn(&self, nth: usize) {
        if self.is_strict.load(Ordering::Relaxed) {
            let mut ended = self.ended.subscribe();
            // Only a dropped sender is an error, and `self` holds it.
            let _ = ended.wait_for(|ended| ended[..nth].iter().all(|ended| *ended)).await;
        }
    }
}

/// A call in flight. Dropping it releases the calls that wait for it.
pub(super) struct RunningCall<'a> {
    order: &'a CallOrder,
    nth: usize,
}

impl Drop for RunningCall<'_> {
    fn drop(&mut self) {
        self.order.ended.send_modify(|ended| ended[self.nth] = true);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, poll};

    use super::*;

    #[tokio::test]
    async fn calls_are_concurrent_until_their_queue_moves() {
        let order = CallOrder::of(3);
        let calls = [0, 1, 2].map(|nth| order.begin(nth));
        assert!(order.turn(2).now_or_never().is_some());
        order.keep();
        assert!(order.turn(0).now_or_never().is_some());
        let mut last = Box::pin(order.turn(2));
        assert!(poll!(&mut last).is_pending());
        let [first, second, _third] = calls;
        drop(second);
        assert!(poll!(&mut last).is_pending(), "the first is still in flight");
        drop(first);
        assert!(poll!(&mut last).is_ready());
    }
}
