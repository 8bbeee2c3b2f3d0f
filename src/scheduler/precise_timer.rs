//! Waits that end on time: a runtime's timer rounds up to whole milliseconds and
//! is as late as its busiest task; a plain thread wakes within a tenth of one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, pending};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::sync::{lock, wait, wait_timeout};

/// Waits longer than this need no thread.
const PRECISE: Duration = Duration::from_secs(10);

/// A thread that slept wakes late by less than this, mostly, and so does the one that it
/// wakes: it rings so much earlier, and the rest is waited awake.
const SPIN: Duration = Duration::from_micros(400);

struct Wait {
    at: Instant,
    wake: oneshot::Sender<()>,
}

impl PartialEq for Wait {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Wait {}
impl PartialOrd for Wait {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Wait {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

#[derive(Default)]
struct Waits {
    waiting: BinaryHeap<Reverse<Wait>>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    waits: Mutex<Waits>,
    changed: Condvar,
}

impl Shared {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        lock(&self.waits)
    }
}

/// One thread that wakes tasks at precise instants. It ends with its owner.
pub(super) struct PreciseTimer {
    shared: Arc<Shared>,
    precise: bool,
}

impl PreciseTimer {
    pub(super) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let spawned = std::thread::Builder::new()
            .name("jobqueue-timer".into())
            .spawn(move || keep_watch(&for_thread));
        if let Err(error) = &spawned {
            crate::log::warn!("no thread for precise delays, they may be late by 2 ms: {error}");
        }
        Self { shared, precise: spawned.is_ok() }
    }

    /// Returns when `pause` is over, never before. Does `before` a moment earlier, as far
    /// as it comes.
    pub(super) async fn after(&self, pause: Duration, before: impl Future<Output = ()>) {
        if !self.precise || pause > PRECISE {
            return tokio::time::sleep(pause).await;
        }
        let (wake, woken) = oneshot::channel();
        let due = Instant::now() + pause;
        let at = due.checked_sub(SPIN).unwrap_or(due);
        self.shared.waits().waiting.push(Reverse(Wait { at, wake }));
        self.shared.changed.notify_one();
        // The sender is dropped unsent only when the timer is: the wait is over then.
        let _ = woken.await;
        tokio::select! {
            biased;
            () = spin_until(due) => {}
            () = async { before.await; pending().await } => {}
        }
    }
}

impl Drop for PreciseTimer {
    fn drop(&mut self) {
        self.shared.waits().closed = true;
        self.shared.changed.notify_one();
    }
}

/// Keeps its thread from sleeping, but no other task from running.
async fn spin_until(due: Instant) {
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

fn keep_watch(shared: &Shared) {
    let mut waits = shared.waits();
    while !waits.closed {
        let now = Instant::now();
        while waits.waiting.peek().is_some_and(|Reverse(next)| next.at <= now) {
            if let Some(Reverse(wait)) = waits.waiting.pop() {
                // Nobody waits any more where a service was woken otherwise.
                let _ = wait.wake.send(());
            }
        }
        let next = waits.waiting.peek().map(|Reverse(next)| next.at);
        waits = match next {
            Some(at) => {
                let pause = at.saturating_duration_since(Instant::now());
                wait_timeout(&shared.changed, waits, pause)
            }
            None => wait(&shared.changed, waits),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_end_in_their_order_and_never_early() {
        let timer = PreciseTimer::start();
        let began = Instant::now();
        let wait = |ms| {
            let timer = &timer;
            async move {
                timer.after(Duration::from_millis(ms), std::future::ready(())).await;
                began.elapsed()
            }
        };
        let (late, early) = tokio::join!(wait(200), wait(10));
        assert!(early >= Duration::from_millis(10) && late >= Duration::from_millis(200));
        assert!(early < late);
    }

    #[tokio::test]
    async fn what_is_to_be_done_before_is_done_before() {
        let timer = PreciseTimer::start();
        // On a busy machine a wait may be over before anything could be done.
        for _ in 0..200 {
            let due = Instant::now() + Duration::from_millis(5);
            let mut done = None;
            let before = async { done = Some(Instant::now()) };
            timer.after(Duration::from_millis(5), before).await;
            if done.is_some_and(|done| done < due) {
                return;
            }
        }
        panic!("not once in 200 waits");
    }
}
