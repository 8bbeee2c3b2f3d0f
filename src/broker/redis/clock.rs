//! The store's time as this host knows it: learned from every answer.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::time::{Clock, Timestamp};

/// An answer that took longer says little about the time between.
const PROMPT: Duration = Duration::from_millis(50);

/// How long the store's time is known well enough to be told back to it.
const LATELY: Duration = Duration::from_secs(1);

const UNKNOWN: i64 = i64::MIN;

pub(super) struct StoreClock {
    source: Clock,
    /// Microseconds the store is ahead of this host.
    ahead: AtomicI64,
    /// When that was learned, in microseconds of this host.
    learned: AtomicI64,
}

impl StoreClock {
    pub fn new(source: Clock) -> Self {
        let unknown = || AtomicI64::new(UNKNOWN);
        Self { source, ahead: unknown(), learned: unknown() }
    }

    /// What scripts get as their time: nothing where the server's rules.
    pub fn argument(&self) -> String {
        self.source.fixed().map_or(String::new(), |now| now.as_micros().to_string())
    }

    /// This host's time.
    pub fn host(&self) -> Timestamp {
        self.source.now()
    }

    /// The store's time, as well as it is known.
    pub fn now(&self) -> Timestamp {
        let host = self.source.now();
        match self.ahead.load(Ordering::Relaxed) {
            UNKNOWN => host,
            _ if self.source.fixed().is_some() => host,
            ahead => Timestamp::from_micros(host.as_micros().saturating_add(ahead)),
        }
    }

    /// The store's time, once one of its answers has told; not where a manual
    /// clock rules.
    pub fn told(&self) -> Option<Timestamp> {
        let told = self.ahead.load(Ordering::Relaxed) != UNKNOWN;
        (told && self.source.fixed().is_none()).then(|| self.now())
    }

    /// The store's time, where one of its answers told it just now. What happens at this
    /// very moment can be given that time, which spares the store a look at its clock.
    pub fn told_lately(&self) -> Option<Timestamp> {
        let told = self.told()?;
        let age = self.source.now().as_micros().abs_diff(self.learned.load(Ordering::Relaxed));
        (u128::from(age) < LATELY.as_micros()).then_some(told)
    }

    /// What was learned is wrong: this host's clock was set, or the store's.
    pub fn forget(&self) {
        self.ahead.store(UNKNOWN, Ordering::Relaxed);
    }

    /// The store said that it was `theirs` at some instant since `asked`.
    pub fn learn(&self, asked: Timestamp, theirs: Timestamp) {
        let took = self.source.now().since(asked);
        if took > PROMPT && self.ahead.load(Ordering::Relaxed) != UNKNOWN {
            return;
        }
        let then = asked + took / 2;
        self.learned.store(asked.as_micros(), Ordering::Relaxed);
        self.ahead.store(theirs.as_micros().saturating_sub(then.as_micros()), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_is_not_corrected() {
        let clock = StoreClock::new(Clock::manual(Timestamp::from_secs(10)));
        clock.learn(clock.host(), Timestamp::from_secs(99));
        assert_eq!(clock.now(), Timestamp::from_secs(10));
        assert_eq!(clock.told(), None);
    }

    #[test]
    fn a_store_ahead_of_this_host_is_followed() {
        let clock = StoreClock::new(Clock::system());
        clock.learn(clock.host(), clock.host() + Duration::from_secs(3600));
        assert!(clock.now().since(clock.host()) > Duration::from_secs(3599));
        assert!(clock.told().is_some());
        assert!(clock.told_lately().is_some());
        clock.forget();
        assert_eq!(clock.told(), None);
        assert_eq!(clock.told_lately(), None);
    }

    #[test]
    fn what_was_learned_long_ago_is_not_told_back() {
        let clock = StoreClock::new(Clock::system());
        let now = clock.host();
        clock.learn(now, now);
        clock.learned.store(now.as_micros() - 1_000_001, Ordering::Relaxed);
        assert!(clock.told().is_some());
        assert_eq!(clock.told_lately(), None);
    }
}
