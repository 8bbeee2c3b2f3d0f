//! Time as the queue knows it: instants in microseconds and the clock they come from. The only
//! module that reads the wall clock.
//!
//! Three kinds of time must not be mixed up:
//! - *Store time* rules: due times, leases and retentions. It is Redis' own clock, so that
//!   hosts whose clocks differ agree. `Broker::now` estimates it.
//! - The *wall clock* ([`Clock::now`]) is for what people read, and is the store time of the
//!   memory store.
//! - The *steady clock* ([`Clock::steady`]) is for what lasts a while. It does not jump when
//!   the host's clock is set.
//!
//! Tests use [`Clock::manual`] and move it, so nothing waits for real time to pass.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::chance::Chance;

/// Microseconds in a second. All instants are whole microseconds: Redis' `TIME` has no finer
/// ones.
const MICROS_PER_SECOND: i64 = 1_000_000;

/// An instant: microseconds since the Unix epoch, UTC.
///
/// Asynq's data holds whole seconds; the exact instant travels beside it.
/// Arithmetic saturates, so no input can make it panic.
///
/// ```
/// use rocket_jobqueue::Timestamp;
/// use std::time::Duration;
///
/// let due = Timestamp::from_micros(1_500_000) + Duration::from_millis(250);
/// assert_eq!(due.as_secs_ceil(), 2);
/// assert_eq!(due.as_secs(), 1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The instant `secs` seconds after the Unix epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(MICROS_PER_SECOND))
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// Whole seconds since the Unix epoch, rounded up: what Asynq's tools see
    /// of a due time, so that no Go worker starts the job early.
    pub const fn as_secs_ceil(self) -> i64 {
        let floor = self.as_secs();
        if self.0.rem_euclid(MICROS_PER_SECOND) == 0 { floor } else { floor.saturating_add(1) }
    }

    /// How long after `earlier` this is; zero if it is not later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// As the standard library's type.
    pub fn to_system_time(self) -> SystemTime {
        let magnitude = Duration::from_micros(self.0.unsigned_abs());
        if self.0 >= 0 { UNIX_EPOCH + magnitude } else { UNIX_EPOCH - magnitude }
    }

    /// The instant of its displayed form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let utc = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        Some(Self(utc.timestamp_micros()))
    }

    /// The calendar date and time in UTC; `None` outside chrono's range.
    pub(crate) fn to_utc(self) -> Option<chrono::DateTime<chrono::Utc>> {
        chrono::DateTime::from_timestamp_micros(self.0)
    }

    /// `YYYY-MM-DD` in UTC; the displayed form outside the calendar.
    pub(crate) fn date(self) -> String {
        self.to_utc().map_or_else(|| self.to_string(), |utc| utc.format("%Y-%m-%d").to_string())
    }

    /// `YYYY-MM-DD HH:MM:SS` in the host's local time zone.
    pub(crate) fn local_text(self) -> String {
        match self.to_utc() {
            Some(utc) => utc.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S").to_string(),
            None => self.to_string(),
        }
    }
}

/// RFC 3339 in UTC with microseconds; the bare number outside the calendar.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_utc() {
            Some(utc) => f.write_str(&utc.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
            None => write!(f, "{}us", self.0),
        }
    }
}

/// As it is displayed: RFC 3339 in UTC with microseconds.
impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, after: Duration) -> Timestamp {
        let micros = i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;

    fn sub(self, before: Duration) -> Timestamp {
        let micros = i64::try_from(before.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_sub(micros))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp(micros(after)),
            Err(before) => Timestamp(-micros(before.duration())),
        }
    }
}

/// The source of the time: the system, or a manual clock that a test moves.
///
/// ```
/// use rocket_jobqueue::{Clock, Timestamp};
/// use std::time::Duration;
///
/// let clock = Clock::manual(Timestamp::from_secs(1_000));
/// clock.advance(Duration::from_secs(180));
/// assert_eq!(clock.now(), Timestamp::from_secs(1_180));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The system's clock; with Redis, the clock of the Redis server.
    pub const fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `start` until it is advanced. Clones share it.
    pub fn manual(start: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(start.as_micros()))))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => SystemTime::now().into(),
            Some(hand) => Timestamp(hand.load(Ordering::SeqCst)),
        }
    }

    /// The time now by a monotonic clock, which is never set: what lasts for a while is measured by
    /// it. Begins with the time of the process' first look, and differs from
    /// [`now`](Self::now) by what the system's clock was set since.
    pub(crate) fn steady(&self) -> Timestamp {
        static FIRST: OnceLock<(Timestamp, Instant)> = OnceLock::new();
        self.fixed().unwrap_or_else(|| {
            let (wall, monotonic) = FIRST.get_or_init(|| (self.now(), Instant::now()));
            *wall + monotonic.elapsed()
        })
    }

    /// Moves a manual clock on. A system clock moves by itself: nothing happens.
    pub fn advance(&self, by: Duration) {
        if let Some(hand) = &self.0 {
            let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            hand.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// The manual clock's time, or `None` if the store's own clock rules.
    pub(crate) fn fixed(&self) -> Option<Timestamp> {
        self.0.as_ref().map(|hand| Timestamp(hand.load(Ordering::SeqCst)))
    }
}

/// Growing pauses between tries, with jitter so that many processes do not come
/// back at the same instant.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses that double from `first` to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The pause before the next try: between half of the current one and all
    /// of it; the current one doubles up to the longest.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + Chance::system().share() / 2.0);
        self.next = (self.next * 2).min(self.longest);
        pause
    }

    /// Begins with the first pause again. Called after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_due_time_between_two_seconds_is_shown_as_the_later_one() {
        assert_eq!(Timestamp::from_micros(1_000_001).as_secs_ceil(), 2);
        assert_eq!(Timestamp::from_micros(1_000_000).as_secs_ceil(), 1);
        assert_eq!(Timestamp::from_micros(-1).as_secs_ceil(), 0);
        assert_eq!(Timestamp::from_micros(-1).as_secs(), -1);
    }

    #[test]
    fn arithmetic_at_the_ends_saturates() {
        let end = Timestamp::from_micros(i64::MAX);
        assert_eq!(end + Duration::MAX, end);
        assert_eq!(end.as_secs_ceil(), i64::MAX / MICROS_PER_SECOND + 1);
        assert_eq!(Timestamp::from_secs(i64::MAX), end);
    }
}
