//! Waits that end on time: a runtime's timer rounds up to whole milliseconds and
//! is as late as its busiest task; a plain thread wakes within a tenth of one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, pending};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Waits longer than this need no thread.
const PRECISE: Duration = Duration::from_secs(10);

/// A thread that slept wakes late by less than this, mostly, and so does the one that it
/// wakes: it rings so much earlier, and the rest is waited awake.
const AWAKE: Duration = Duration::from_micros(400);

struct Entry {
    at: Instant,
    ring: oneshot::Sender<()>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

#[derive(Default)]
struct Book {
    waiting: BinaryHeap<Reverse<Entry>>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    book: Mutex<Book>,
    changed: Condvar,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread that wakes tasks at precise instants. It ends with its owner.
pub(super) struct Alarm {
    shared: Arc<Shared>,
    precise: bool,
}

impl Alarm {
    pub(super) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let spawned = std::thread::Builder::new()
            .name("jobqueue-alarm".into())
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
        let (ring, rung) = oneshot::channel();
        let due = Instant::now() + pause;
        let at = due.checked_sub(AWAKE).unwrap_or(due);
        self.shared.book().waiting.push(Reverse(Entry { at, ring }));
        self.shared.changed.notify_one();
        // The sender is dropped unsent only when the alarm is: the wait is over then.
        let _ = rung.await;
        tokio::select! {
            biased;
            () = awake_until(due) => {}
            () = async { before.await; pending().await } => {}
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared.book().closed = true;
        self.shared.changed.notify_one();
    }
}

/// Keeps its thread from sleeping, but no other task from running.
async fn awake_until(due: Instant) {
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

fn keep_watch(shared: &Shared) {
    let mut book = shared.book();
    while !book.closed {
        let now = Instant::now();
        while book.waiting.peek().is_some_and(|Reverse(next)| next.at <= now) {
            if let Some(Reverse(entry)) = book.waiting.pop() {
                // Nobody waits any more where a service was woken otherwise.
                let _ = entry.ring.send(());
            }
        }
        let next = book.waiting.peek().map(|Reverse(next)| next.at);
        book = match next {
            Some(at) => {
                let pause = at.saturating_duration_since(Instant::now());
                shared.changed.wait_timeout(book, pause).unwrap_or_else(PoisonError::into_inner).0
            }
            None => shared.changed.wait(book).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_end_in_their_order_and_never_early() {
        let alarm = Alarm::start();
        let began = Instant::now();
        let wait = |ms| {
            let alarm = &alarm;
            async move {
                alarm.after(Duration::from_millis(ms), std::future::ready(())).await;
                began.elapsed()
            }
        };
        let (late, early) = tokio::join!(wait(200), wait(10));
        assert!(early >= Duration::from_millis(10) && late >= Duration::from_millis(200));
        assert!(early < late);
    }

    #[tokio::test]
    async fn what_is_to_be_done_before_is_done_before() {
        let alarm = Alarm::start();
        // On a busy machine a wait may be over before anything could be done.
        for _ in 0..200 {
            let due = Instant::now() + Duration::from_millis(5);
            let mut done = None;
            let before = async { done = Some(Instant::now()) };
            alarm.after(Duration::from_millis(5), before).await;
            if done.is_some_and(|done| done < due) {
                return;
            }
        }
        panic!("not once in 200 waits");
    }
}
