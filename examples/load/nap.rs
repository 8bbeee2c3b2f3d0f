//! A precise sleep. The runtime's own sleep rounds up to whole milliseconds, which would distort the
//! measurement.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

struct Sleeper {
    until: Instant,
    wake: oneshot::Sender<()>,
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.until == other.until
    }
}
impl Eq for Sleeper {}
impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.until.cmp(&other.until)
    }
}

#[derive(Default)]
struct Dormitory {
    sleepers: Mutex<BinaryHeap<Reverse<Sleeper>>>,
    changed: Condvar,
}

static DORMITORY: LazyLock<&Dormitory> = LazyLock::new(|| {
    let dormitory: &Dormitory = Box::leak(Box::default());
    std::thread::spawn(|| keep_watch(dormitory));
    dormitory
});

/// Returns after this time.
pub async fn nap(time: Duration) {
    let until = Instant::now() + time;
    let (wake, woken) = oneshot::channel();
    {
        let mut sleepers = DORMITORY.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        let first = sleepers.peek().is_none_or(|Reverse(first)| until < first.until);
        sleepers.push(Reverse(Sleeper { until, wake }));
        if first {
            DORMITORY.changed.notify_one();
        }
    }
    // The timer thread lasts as long as the process.
    let _ = woken.await;
}

fn keep_watch(dormitory: &Dormitory) {
    let mut sleepers = dormitory.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let now = Instant::now();
        while sleepers.peek().is_some_and(|Reverse(first)| first.until <= now) {
            if let Some(Reverse(sleeper)) = sleepers.pop() {
                // The sleeper may have been dropped.
                let _ = sleeper.wake.send(());
            }
        }
        let pause =
            sleepers.peek().map(|Reverse(first)| first.until.saturating_duration_since(now));
        let pause = pause.unwrap_or(Duration::from_secs(1));
        let waited = dormitory.changed.wait_timeout(sleepers, pause);
        sleepers = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}
