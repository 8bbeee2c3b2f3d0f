//! Counts requests in fixed windows, in this process or in Redis. The web layer defines
//! client and refusal: here a client is a text, and an answer is the count and its limit.
//!
//! Each client has a window of a minute and, if configured, one of an hour. A window begins
//! with the client's first request in it. A request passes if no window is full, and only then
//! it is counted in both: a client that keeps trying does not extend its own exclusion.
//!
//! A [`Limiter`] with a Redis counter asks Redis for each request. If that fails, it counts in
//! this process for [`FAILED_COUNTER_PAUSE`] before it asks Redis again. So an outage delays only
//! the few requests that ask at that moment, and does not lift the limit.
//!
//! What may surprise. Fixed windows allow up to twice the limit around the end of a window.
//! While processes count by themselves, a client may make as many requests to each of them,
//! and what they counted is not added to Redis afterwards.

mod memory;
mod redis;

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::sync::lock;
use crate::time::Clock;

pub(crate) use self::memory::MemoryCounter;
pub(crate) use self::redis::RedisCounter;

/// How long a failed counter is not asked again. Meanwhile this process counts by itself.
const FAILED_COUNTER_PAUSE: Duration = Duration::from_secs(1);

/// Lengths of the two windows. They begin with a request, so they are not calendar minutes or
/// hours.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// How many requests a client may make. A window begins with the client's first
/// request in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Requests per minute, at least 1.
    pub minute: u32,
    /// Requests per hour, at least 1; `None`: no limit.
    pub hour: Option<u32>,
}

/// One window of a client, after the request in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Maximum requests in it.
    pub limit: u32,
    /// Requests that may still pass in it; 0 if it is full.
    pub remaining: u32,
    /// How long until it ends; its whole length if it has not begun.
    pub ends_in: Duration,
}

/// Whether a request may pass, and the state of the client's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CountedRequest {
    /// Whether it may pass. A refused request is not counted.
    pub passes: bool,
    /// The window of a minute.
    pub minute: Window,
    /// The window of an hour; `None` without a limit per hour.
    pub hour: Option<Window>,
}

impl CountedRequest {
    /// Puts together what a counter found: for each window its requests and the time left.
    fn of(limits: Limits, passes: bool, minute: (u32, Duration), hour: (u32, Duration)) -> Self {
        let window = |limit: u32, (count, ends_in): (u32, Duration)| Window {
            limit,
            remaining: limit.saturating_sub(count),
            ends_in,
        };
        let hour = limits.hour.map(|limit| window(limit, hour));
        Self { passes, minute: window(limits.minute, minute), hour }
    }

    /// How long until a refused request would pass: until every full window has ended. Zero if
    /// none is full.
    pub(crate) fn wait(&self) -> Duration {
        let full = [Some(self.minute), self.hour].into_iter().flatten();
        let full = full.filter(|window| window.remaining == 0);
        full.map(|window| window.ends_in).max().unwrap_or_default()
    }
}

/// The place where requests are counted. `rate_limit.storage_type` chooses it.
pub(crate) enum Counter {
    /// In this process.
    Memory(MemoryCounter),
    /// In Redis, for all processes together.
    Redis(Box<RedisCounter>),
}

/// Limits requests. While its counter fails, it counts in this process: neither an outage nor a
/// full store may lift the limit.
pub(crate) struct Limiter {
    limits: Limits,
    counter: Counter,
    /// Counts while the counter fails.
    substitute: MemoryCounter,
    /// Set while the counter fails: when it is asked again.
    failing: Mutex<Option<Instant>>,
}

impl Limiter {
    /// A limiter with empty windows in this process. It connects to nothing yet.
    pub(crate) fn new(limits: Limits, counter: Counter) -> Self {
        let substitute = MemoryCounter::new(Clock::system());
        Self { limits, counter, substitute, failing: Mutex::new(None) }
    }

    fn failing(&self) -> MutexGuard<'_, Option<Instant>> {
        lock(&self.failing)
    }

    /// Counts a request of this client, with the counter or, while that fails, in this process.
    /// Never fails. With a Redis counter it waits for at most half a second.
    pub(crate) async fn count(&self, client: &str) -> CountedRequest {
        let counter = match &self.counter {
            Counter::Memory(counter) => return counter.count(client, self.limits),
            Counter::Redis(counter) => counter,
        };
        let asked = Instant::now();
        if !self.failing().is_some_and(|until| asked < until) {
            let counted = counter.count(client, self.limits).await;
            self.note(&counted);
            if let Ok(counted) = counted {
                return counted;
            }
        }
        self.substitute.count(client, self.limits)
    }

    /// Logs one line when counting begins to fail, and one when it works again. Also sets until
    /// when Redis is not asked.
    fn note(&self, counted: &Result<CountedRequest, Error>) {
        let mut failing = self.failing();
        match counted {
            // A refusal only reads, which a full server permits too, so it proves nothing.
            Ok(counted) => {
                if counted.passes && failing.take().is_some() {
                    crate::log::info!(
                        "requests are counted in Redis again, for all processes together"
                    );
                }
            }
            Err(error) => {
                if failing.replace(Instant::now() + FAILED_COUNTER_PAUSE).is_none() {
                    crate::log::warn!(
                        ?error,
                        "Redis does not count requests: until it does, this process counts by \
                         itself, and a client may make as many requests to each process"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::PoolSettings;

    #[tokio::test]
    async fn while_its_counter_fails_it_counts_by_itself_and_leaves_that_alone_for_a_while() {
        // Nobody listens on port 1.
        let topology = crate::pool::Topology::Single("127.0.0.1:1".to_owned());
        let settings = PoolSettings { topology, ..PoolSettings::default() };
        let limits = Limits { minute: 2, hour: None };
        let limiter = Limiter::new(
            limits,
            Counter::Redis(Box::new(RedisCounter::new(settings, None).unwrap())),
        );
        let began = Instant::now();
        let mut passed = 0;
        for _ in 0..1000 {
            passed += u32::from(limiter.count("a").await.passes);
        }
        assert_eq!(passed, 2);
        assert!(limiter.count("b").await.passes, "another client");
        assert!(
            began.elapsed() < FAILED_COUNTER_PAUSE * 5,
            "each asked again: {:?}",
            began.elapsed()
        );
    }

    #[test]
    fn a_refused_request_waits_for_the_last_full_window() {
        let limits = Limits { minute: 2, hour: Some(3) };
        let secs = Duration::from_secs;
        let wait = |minute, hour| CountedRequest::of(limits, false, minute, hour).wait();
        assert_eq!(wait((2, secs(9)), (2, secs(99))), secs(9));
        assert_eq!(wait((1, secs(9)), (3, secs(99))), secs(99));
        assert_eq!(wait((2, secs(9)), (3, secs(99))), secs(99));
        // Limits that were lowered while a window was open.
        assert_eq!(wait((7, secs(9)), (0, secs(99))), secs(9));
    }
}
