//! The store's time as this host knows it, learned from every answer.
//!
//! It goes on by this host's monotonic clock: that somebody sets the wall clock of this
//! host changes nothing once the first answer has come. An answer says what the store's
//! time was at some instant between question and answer, so the quickest ones say most.
//! The best one stays until a later one is as good, the age of the first counted in,
//! which lets a store at any distance be followed. One that contradicts it replaces it
//! at once: the store's clock was set, or another server answers.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::time::{Clock, Timestamp};

/// How long the store's time is known well enough to be told back to it.
const LATELY: Duration = Duration::from_secs(1);

/// And how well.
const CLOSELY: Duration = Duration::from_millis(25);

/// How much two clocks drift apart: 200 us in a second, twice what is usual at worst.
const DRIFT_PER_MILLION: u32 = 200;

/// How far two clocks that are both right may be apart, at the most.
const DIFFERS: Duration = Duration::from_secs(3600);

const UNKNOWN: i64 = i64::MIN;

pub(super) struct StoreClock {
    source: Clock,
    /// What the monotonic clock is counted from.
    base: Instant,
    /// The store's time at the base, in microseconds.
    at_base: AtomicI64,
    best: Mutex<Best>,
}

/// Where the store's time is known from.
#[derive(Clone, Copy)]
struct Best {
    learned: Instant,
    /// How far it may have been off then.
    within: Duration,
    /// When an answer last agreed.
    agreed: Instant,
}

impl Best {
    /// How far it may be off by now.
    fn within(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.learned);
        self.within.saturating_add(age * DRIFT_PER_MILLION / 1_000_000)
    }
}

impl StoreClock {
    pub fn new(source: Clock) -> Self {
        let base = Instant::now();
        let best = Best { learned: base, within: Duration::MAX, agreed: base };
        Self { source, base, at_base: AtomicI64::new(UNKNOWN), best: Mutex::new(best) }
    }

    fn best(&self) -> MutexGuard<'_, Best> {
        self.best.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What scripts get as their time: nothing where the server's rules.
    pub fn argument(&self) -> String {
        self.source.fixed().map_or(String::new(), |now| now.as_micros().to_string())
    }

    /// Whether no test's hand moves it.
    pub fn moves_by_itself(&self) -> bool {
        self.source.fixed().is_none()
    }

    /// Whether the store's clock and this host's show about the same date. Where they do
    /// not, one of them is wrong, and nothing is deleted for its age.
    pub fn agree(&self) -> bool {
        let host = self.host().as_micros();
        let apart = |told: Timestamp| Duration::from_micros(told.as_micros().abs_diff(host));
        self.told().is_none_or(|told| apart(told) < DIFFERS)
    }

    /// This host's time.
    pub fn host(&self) -> Timestamp {
        self.source.now()
    }

    /// The store's time, as well as it is known; this host's before the first answer.
    pub fn now(&self) -> Timestamp {
        self.told().unwrap_or_else(|| self.source.now())
    }

    /// The store's time, once one of its answers has told; not where a manual
    /// clock rules.
    pub fn told(&self) -> Option<Timestamp> {
        let at_base = self.at_base.load(Ordering::Relaxed);
        let told = at_base != UNKNOWN && self.source.fixed().is_none();
        told.then(|| Timestamp::from_micros(at_base) + self.base.elapsed())
    }

    /// The store's time, where one of its answers told it just now. What happens at this
    /// very moment can be given that time, which spares the store a look at its clock.
    pub fn told_lately(&self) -> Option<Timestamp> {
        let told = self.told()?;
        let (best, now) = (*self.best(), Instant::now());
        let lately = now.saturating_duration_since(best.agreed) < LATELY;
        (lately && best.within(now) <= CLOSELY).then_some(told)
    }

    /// What was learned is wrong: the store's clock was set.
    pub fn forget(&self) {
        self.at_base.store(UNKNOWN, Ordering::Relaxed);
    }

    /// The store said that it was `theirs` at some instant since `asked`.
    pub fn learn(&self, asked: Instant, theirs: Timestamp) {
        self.learn_at(asked, Instant::now(), theirs);
    }

    fn learn_at(&self, asked: Instant, answered: Instant, theirs: Timestamp) {
        let within = answered.saturating_duration_since(asked) / 2;
        let then = (asked + within).saturating_duration_since(self.base);
        let at_base = (theirs - then).as_micros();
        let mut best = self.best();
        let before = self.at_base.load(Ordering::Relaxed);
        let known = before != UNKNOWN;
        let difference = Duration::from_micros(at_base.abs_diff(before));
        let so_far = best.within(answered);
        if known && within > so_far && difference <= so_far.saturating_add(within) {
            best.agreed = answered;
            return;
        }
        *best = Best { learned: answered, within, agreed: answered };
        self.at_base.store(at_base, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A store whose time is this at the clock's base, asked so long after it.
    struct Store<'a>(&'a StoreClock, Timestamp);

    impl Store<'_> {
        /// The request takes so long, and so does the answer.
        fn ask(&self, after: Duration, there: Duration, back: Duration) {
            let asked = self.0.base + after;
            self.0.learn_at(asked, asked + there + back, self.1 + after + there);
        }

        fn off(&self) -> Duration {
            let at_base = Timestamp::from_micros(self.0.at_base.load(Ordering::Relaxed));
            at_base.since(self.1).max(self.1.since(at_base))
        }
    }

    #[test]
    fn a_manual_clock_is_not_corrected() {
        let clock = StoreClock::new(Clock::manual(Timestamp::from_secs(10)));
        clock.learn(Instant::now(), Timestamp::from_secs(99));
        assert_eq!(clock.now(), Timestamp::from_secs(10));
        assert_eq!(clock.told(), None);
    }

    #[test]
    fn a_store_ahead_of_this_host_is_followed() {
        let clock = StoreClock::new(Clock::system());
        clock.learn(Instant::now(), clock.host() + HOUR);
        assert!(clock.now().since(clock.host()) > HOUR - ms(1000));
        assert!(clock.told().is_some());
        assert!(clock.told_lately().is_some());
        clock.forget();
        assert_eq!(clock.told(), None);
        assert_eq!(clock.told_lately(), None);
    }

    #[test]
    fn clocks_that_show_another_date_do_not_agree() {
        let clock = StoreClock::new(Clock::system());
        assert!(clock.agree(), "nothing is known yet");
        for (minutes, agree) in [(50, true), (70, false)] {
            let apart = Duration::from_secs(minutes * 60);
            clock.learn(Instant::now(), clock.host() + apart);
            assert_eq!(clock.agree(), agree);
            clock.learn(Instant::now(), clock.host() - apart);
            assert_eq!(clock.agree(), agree);
        }
    }

    #[test]
    fn a_store_far_away_is_followed_wherever_its_clock_is_set_to() {
        let clock = StoreClock::new(Clock::system());
        let store = Store(&clock, Timestamp::from_secs(1_000_000));
        store.ask(ms(0), ms(32), ms(32));
        assert_eq!(store.off(), ms(0));
        let set = Store(&clock, store.1 + HOUR);
        set.ask(ms(100), ms(32), ms(34));
        assert!(set.off() <= ms(1), "{:?}", set.off());
        let set = Store(&clock, store.1 - HOUR);
        set.ask(ms(200), ms(500), ms(500));
        assert!(set.off() <= ms(500), "{:?}", set.off());
    }

    #[test]
    fn the_quickest_answer_counts_until_another_is_as_good() {
        let clock = StoreClock::new(Clock::system());
        let store = Store(&clock, Timestamp::from_secs(1_000_000));
        store.ask(ms(0), ms(40), ms(40));
        store.ask(ms(100), ms(1), ms(1));
        // Asked quickly and answered late: taken by itself, it would be off by 450 ms.
        store.ask(ms(200), ms(50), ms(950));
        assert!(store.off() <= ms(1), "{:?}", store.off());
        // Ten minutes later the two may have drifted apart by 120 ms.
        let drifted = Store(&clock, store.1 + ms(30));
        drifted.ask(ms(600_000), ms(60), ms(60));
        assert!(drifted.off() <= ms(1), "{:?}", drifted.off());
    }

    #[test]
    fn what_was_learned_long_ago_or_from_far_away_is_not_told_back() {
        let clock = StoreClock::new(Clock::system());
        clock.learn(Instant::now(), clock.host());
        assert!(clock.told_lately().is_some());
        clock.best().agreed -= LATELY;
        assert!(clock.told().is_some());
        assert_eq!(clock.told_lately(), None);

        let clock = StoreClock::new(Clock::system());
        clock.learn(Instant::now() - ms(64), clock.host());
        assert!(clock.told().is_some());
        assert_eq!(clock.told_lately(), None);
    }
}
