//! Whether the store answers: two tasks ask it, and readiness is answered from memory.
//!
//! [`watch`] sends a `PING` every second and records when the last answer came. A probe of a load
//! balancer only compares that instant with the clock, so it costs the store nothing and is
//! answered at once, even while the store hangs. About every fifth answer also makes [`look`] check
//! the store's settings, in a task of its own.
//!
//! What may surprise. If the first `PING` after the start fails, the log explains what to do about
//! it. Later failures are not explained there: the connections log each loss and each return once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::store_check::StoreCheck;
use crate::broker::Broker;
use crate::error::Error;
use crate::pool::handshake_failure;

/// How long after its last answer the store still counts as ready. Two probes may fail before
/// the load balancer sends requests elsewhere, so a failover of a second or two does not show.
const READY_FOR: Duration = Duration::from_secs(3);

/// Interval between two checks whether the store answers.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Number of such checks between two checks of the store's settings: about 5 s. They change
/// rarely, and reading them costs more than a PING.
const PROBES_PER_STORE_CHECK: u32 = 5;

/// When the store answered last, in milliseconds since `began`; 0 means never.
pub(super) struct StoreHealth {
    began: Instant,
    last_answer: AtomicU64,
}

impl StoreHealth {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), last_answer: AtomicU64::new(0) }
    }

    /// How long ago the store answered last; `None` if it never has.
    pub(super) fn age(&self) -> Option<Duration> {
        let last = self.last_answer.load(Ordering::Relaxed);
        (last > 0).then(|| self.began.elapsed().saturating_sub(Duration::from_millis(last)))
    }

    /// Whether the last answer is at most [`READY_FOR`] old.
    pub(super) fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < READY_FOR)
    }

    /// Sends a PING and records its answer.
    pub(super) async fn probe(&self, broker: &dyn Broker) -> Result<(), Error> {
        let answer = broker.ping().await;
        if answer.is_ok() {
            let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last_answer.store(millis.max(1), Ordering::Relaxed);
        }
        answer
    }
}

/// Checks the store's settings whenever that is due. It has its own task, because one server of
/// a Cluster may hang while the others serve: the probe of readiness must not wait for it.
pub(super) async fn look(broker: Arc<dyn Broker>, check: Arc<StoreCheck>, due: Arc<Notify>) {
    loop {
        due.notified().await;
        check.look(&*broker).await;
    }
}

/// Asks the store at an interval whether it answers, and says when to check its settings.
pub(super) async fn watch(broker: Arc<dyn Broker>, health: Arc<StoreHealth>, due: Arc<Notify>) {
    if let Err(error) = health.probe(&*broker).await {
        let store = broker.describe();
        if let Some(reason) = handshake_failure(&error) {
            crate::log::warn!("{error} ({store}): {reason}. No job is dequeued until it is");
        } else if error.is_unavailable() {
            crate::log::warn!(
                "{error} ({store}): no job is dequeued until it is. Start it with \
                 `scripts/start-redis.sh start`, or run without Redis: APP_ENV=embedded"
            );
        } else {
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            crate::log::warn!(
                reason = %reason.unwrap_or_default(),
                "{store} refuses to serve: {error}. No job is dequeued until it does"
            );
        }
    }
    // A server that has just become reachable is checked at once.
    let mut until_check = 0;
    loop {
        if until_check == 0 && health.is_fresh() {
            due.notify_one();
            until_check = PROBES_PER_STORE_CHECK;
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
        // The pool logs losses and reconnections, once each.
        let answered = health.probe(&*broker).await.is_ok();
        until_check = if answered { until_check.saturating_sub(1) } else { 0 };
    }
}
