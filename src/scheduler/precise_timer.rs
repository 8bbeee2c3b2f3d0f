//! Waits that end on time.
//!
//! Tokio's timer rounds up to whole milliseconds and is as late as the busiest task of the
//! runtime. A plain thread wakes within a tenth of a millisecond. So one thread sleeps until
//! the earliest instant that a task waits for, and wakes that task through a channel.
//!
//! The thread fires [`WAKEUP_LATENCY`] early, because it and the task that it wakes take
//! about that long to run again. The waiter spins for the rest, yielding to other tasks, so
//! that a wait never ends early.
//!
//! What may surprise. Spinning costs up to 0.4 ms of one core for each wait. Waits of more than
//! [`MAX_PRECISE_WAIT`] use Tokio's timer: they belong to services that do not need precision,
//! and those that do split their sleep. If the thread cannot be started, all waits use Tokio's
//! timer, and one warning says so. A wait that is dropped stays in the heap until its instant.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, pending};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::sync::{lock, wait, wait_timeout};

/// Longest wait that uses the thread. Longer ones use Tokio's timer.
const MAX_PRECISE_WAIT: Duration = Duration::from_secs(10);

/// Typical wake-up latency of the timer thread plus the task it wakes. The timer fires this
/// much early and the waiter spins for the rest.
const WAKEUP_LATENCY: Duration = Duration::from_micros(400);

/// One wait, ordered by its instant.
struct Wait {
    /// When to wake the task: [`WAKEUP_LATENCY`] before it is due.
    at: Instant,
    /// Wakes the task. A task that no longer waits has dropped the other end.
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

/// All waits, earliest first.
#[derive(Default)]
struct Waits {
    waiting: BinaryHeap<Reverse<Wait>>,
    /// The timer was dropped: the thread ends.
    closed: bool,
}

/// What the thread and the waiting tasks share.
#[derive(Default)]
struct TimerShared {
    waits: Mutex<Waits>,
    /// Notifies the thread of a new wait or the end.
    changed: Condvar,
}

impl TimerShared {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        lock(&self.waits)
    }
}

/// One thread that wakes tasks at precise instants. It ends when this is dropped.
pub(super) struct PreciseTimer {
    shared: Arc<TimerShared>,
    /// Whether the thread could be started.
    precise: bool,
}

impl PreciseTimer {
    /// Starts the thread. If the system refuses it, waits are less precise.
    pub(super) fn start() -> Self {
        let shared = Arc::new(TimerShared::default());
        let for_thread = Arc::clone(&shared);
        let spawned = std::thread::Builder::new()
            .name("jobqueue-timer".into())
            .spawn(move || run_timer(&for_thread));
        if let Err(error) = &spawned {
            crate::log::warn!("no thread for precise delays, jobs may start 2 ms late: {error}");
        }
        Self { shared, precise: spawned.is_ok() }
    }

    /// Returns when `pause` is over, never earlier. Runs `before` just before that, and drops
    /// it unfinished when the time comes.
    pub(super) async fn after(&self, pause: Duration, before: impl Future<Output = ()>) {
        if !self.precise || pause > MAX_PRECISE_WAIT {
            return tokio::time::sleep(pause).await;
        }
        let (wake, woken) = oneshot::channel();
        let due = Instant::now() + pause;
        let at = due.checked_sub(WAKEUP_LATENCY).unwrap_or(due);
        self.shared.waits().waiting.push(Reverse(Wait { at, wake }));
        self.shared.changed.notify_one();
        // The sender is dropped unsent only if the timer is: then the wait is over.
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

/// Waits without sleeping. Other tasks run in between, so a task that does not yield makes this
/// wait late, but never early.
async fn spin_until(due: Instant) {
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

/// The thread: sleeps until the earliest wait and wakes its task. It ends once the timer is
/// dropped.
fn run_timer(shared: &TimerShared) {
    let mut waits = shared.waits();
    while !waits.closed {
        let now = Instant::now();
        while waits.waiting.peek().is_some_and(|Reverse(next)| next.at <= now) {
            if let Some(Reverse(wait)) = waits.waiting.pop() {
                // A service that was woken by something else does not wait any more.
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
    async fn the_action_before_the_end_of_a_wait_runs_before_it() {
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
