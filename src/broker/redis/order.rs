//! The order of a bulk enqueue's parts: they leave side by side, and one at a time once
//! their queue is being moved, since one that waits would be overtaken by those after it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::error::Error;

/// The parts of one queue.
pub(super) struct Order {
    /// Why no more of them are sent.
    pub failed: OnceLock<Error>,
    is_kept: AtomicBool,
    ended: watch::Sender<Vec<bool>>,
}

impl Order {
    pub fn of(parts: usize) -> Self {
        let ended = watch::Sender::new(vec![false; parts]);
        Self { failed: OnceLock::new(), is_kept: AtomicBool::new(false), ended }
    }

    /// From now on each part waits for those before it.
    pub fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// This part begins; it has ended when that is dropped.
    pub fn place(&self, nth: usize) -> Place<'_> {
        Place { order: self, nth }
    }

    /// Returns when this part may be sent.
    pub async fn turn(&self, nth: usize) {
        if self.is_kept.load(Ordering::Relaxed) {
            let mut ended = self.ended.subscribe();
            // The sender is ours, so it ends only well.
            let _ = ended.wait_for(|ended| ended[..nth].iter().all(|ended| *ended)).await;
        }
    }
}

/// A part on its way.
pub(super) struct Place<'a> {
    order: &'a Order,
    nth: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.order.ended.send_modify(|ended| ended[self.nth] = true);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, poll};

    use super::*;

    #[tokio::test]
    async fn parts_leave_side_by_side_until_their_queue_moves() {
        let order = Order::of(3);
        let places = [0, 1, 2].map(|nth| order.place(nth));
        assert!(order.turn(2).now_or_never().is_some());
        order.keep();
        assert!(order.turn(0).now_or_never().is_some());
        let mut last = Box::pin(order.turn(2));
        assert!(poll!(&mut last).is_pending());
        let [first, second, _third] = places;
        drop(second);
        assert!(poll!(&mut last).is_pending(), "the first is still on its way");
        drop(first);
        assert!(poll!(&mut last).is_ready());
    }
}
