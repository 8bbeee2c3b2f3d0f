//! The store's time as this host knows it, learned from every reply.
//!
//! Scripts use Redis' clock. This host needs the same time to compute waits, to
//! stamp messages and to spare the script a `TIME` call, so it keeps an estimate:
//! the offset between Redis' clock and this host's monotonic clock. Setting the
//! wall clock of this host changes nothing once the first reply has arrived.
//!
//! A reply says what Redis' time was at some instant between request and reply, so
//! a quick reply bounds the offset best. The best one stays in use until a later
//! one is as good, counting [`DRIFT_PER_MILLION`] of drift for its age. So the estimate
//! works for distant stores as well as near ones. A reply that contradicts
//! the estimate replaces it at once: the store's clock was set, or another server
//! answers after a failover.
//!
//! What may surprise. With a manual clock (tests) nothing is learned, and the time
//! is sent to the scripts as an argument instead. If the two clocks differ by more
//! than [`MAX_CLOCK_DIFFERENCE`], one of them is wrong, and nothing is deleted for
//! its age until they agree again.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::sync::lock;
use crate::time::{Clock, Timestamp};

/// How old the last reply may be for the estimate to be sent back to Redis. A store whose clock
/// is set is noticed with its next reply, so the estimate is wrong for at most this long.
const REPLY_VALID_FOR: Duration = Duration::from_secs(1);

/// How far off the estimate may be to be sent back to Redis. It only stamps jobs that are due
/// now: nothing is decided by it.
const MAX_ERROR: Duration = Duration::from_millis(25);

/// Assumed drift between two clocks: 200 µs per second, twice the usual worst case.
const DRIFT_PER_MILLION: u32 = 200;

/// Maximum difference of two correct clocks. An hour is far beyond drift, and not beyond the
/// error of a clock that was set to another time zone's time.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(3600);

/// No reply has arrived yet, or the estimate was dropped.
const UNKNOWN: i64 = i64::MIN;

/// The estimate of the store's clock.
pub(super) struct StoreClock {
    /// This host's clock, or the manual clock of a test.
    source: Clock,
    /// The origin of the monotonic clock.
    base: Instant,
    /// The store's time at the origin, in microseconds.
    at_base: AtomicI64,
    /// The reply that the estimate comes from.
    best: Mutex<Estimate>,
}

/// The reply on which the estimate is based.
#[derive(Clone, Copy)]
struct Estimate {
    /// When that reply arrived.
    learned: Instant,
    /// How far off it may have been then.
    within: Duration,
    /// When a reply last agreed with it.
    agreed: Instant,
}

impl Estimate {
    /// How far off it may be by now.
    fn within(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.learned);
        self.within.saturating_add(age * DRIFT_PER_MILLION / 1_000_000)
    }
}

impl StoreClock {
    /// Nothing is known of the store's time yet: until the first answer the host's clock stands
    /// in.
    pub(super) fn new(source: Clock) -> Self {
        let base = Instant::now();
        let best = Estimate { learned: base, within: Duration::MAX, agreed: base };
        Self { source, base, at_base: AtomicI64::new(UNKNOWN), best: Mutex::new(best) }
    }

    fn best(&self) -> MutexGuard<'_, Estimate> {
        lock(&self.best)
    }

    /// The time argument of scripts: empty if Redis' own clock counts.
    pub(super) fn argument(&self) -> String {
        self.source.fixed().map_or(String::new(), |now| now.as_micros().to_string())
    }

    /// Whether it is a real clock, not one that a test moves.
    pub(super) fn moves_by_itself(&self) -> bool {
        self.source.fixed().is_none()
    }

    /// Whether the clocks of the store and this host roughly agree. If they do not, one of
    /// them is wrong, and nothing is deleted for its age.
    pub(super) fn agree(&self) -> bool {
        let host = self.host().as_micros();
        let apart = |told: Timestamp| Duration::from_micros(told.as_micros().abs_diff(host));
        self.estimate().is_none_or(|told| apart(told) < MAX_CLOCK_DIFFERENCE)
    }

    /// This host's time.
    pub(super) fn host(&self) -> Timestamp {
        self.source.now()
    }

    /// The estimate of the store's time; this host's time before the first reply.
    pub(super) fn now(&self) -> Timestamp {
        self.estimate().unwrap_or_else(|| self.source.now())
    }

    /// The estimate of the store's time, if there was a reply. Always `None` with a manual
    /// clock.
    pub(super) fn estimate(&self) -> Option<Timestamp> {
        let at_base = self.at_base.load(Ordering::Relaxed);
        let told = at_base != UNKNOWN && self.source.fixed().is_none();
        told.then(|| Timestamp::from_micros(at_base) + self.base.elapsed())
    }

    /// The estimate, if it is recent and close enough to stand for "now" in a script, which
    /// spares Redis one reading of its clock.
    pub(super) fn recent(&self) -> Option<Timestamp> {
        let told = self.estimate()?;
        let (best, now) = (*self.best(), Instant::now());
        let lately = now.saturating_duration_since(best.agreed) < REPLY_VALID_FOR;
        (lately && best.within(now) <= MAX_ERROR).then_some(told)
    }

    /// Drops the estimate: the store's clock was set.
    pub(super) fn forget(&self) {
        self.at_base.store(UNKNOWN, Ordering::Relaxed);
    }

    /// Learns from a reply: it was `theirs` at some instant since `asked`.
    pub(super) fn learn(&self, asked: Instant, theirs: Timestamp) {
        self.learn_at(asked, Instant::now(), theirs);
    }

    /// Learns from a reply. The store's time is taken to be halfway between request and reply,
    /// which is off by at most half the round trip. A worse reply that agrees only confirms the
    /// estimate; any other replaces it.
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
        *best = Estimate { learned: answered, within, agreed: answered };
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

    /// A store with this time at the clock's origin.
    struct Store<'a>(&'a StoreClock, Timestamp);

    impl Store<'_> {
        /// Asks `after` the origin; the request takes `there`, the reply `back`.
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
        assert_eq!(clock.estimate(), None);
    }

    #[test]
    fn a_store_ahead_of_this_host_is_followed() {
        let clock = StoreClock::new(Clock::system());
        let now = Instant::now();
        clock.learn_at(now, now, clock.host() + HOUR);
        assert!(clock.now().since(clock.host()) > HOUR - ms(60_000));
        assert!(clock.estimate().is_some());
        assert!(clock.recent().is_some());
        clock.forget();
        assert_eq!(clock.estimate(), None);
        assert_eq!(clock.recent(), None);
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
        let now = Instant::now();
        clock.learn_at(now, now, clock.host());
        assert!(clock.recent().is_some());
        clock.best().agreed -= REPLY_VALID_FOR;
        assert!(clock.estimate().is_some());
        assert_eq!(clock.recent(), None);

        let clock = StoreClock::new(Clock::system());
        clock.learn(Instant::now() - ms(64), clock.host());
        assert!(clock.estimate().is_some());
        assert_eq!(clock.recent(), None);
    }
}
