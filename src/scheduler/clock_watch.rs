//! Compares a store's clock with the monotonic clock of this process.
//!
//! Leases are timed by the store's clock. If that clock is set forward, leases seem to have
//! expired that living workers are about to renew, and their jobs would run twice. So the
//! [recoverer](super::recoverer) feeds every reading of the store's clock to a [`ClockWatch`]
//! and acts on expired leases only while both clocks have advanced equally for long enough.
//!
//! A reading is not exact: the store read its clock at some instant between request and answer.
//! Two readings therefore give a range for the time that passed, and only a difference outside
//! that range and [`JUMP_TOLERANCE`] counts as a jump. A slow answer makes the range wider and
//! never looks like a jump.
//!
//! What may surprise. One reading proves nothing, so a fresh process trusts no clock at first.
//! A clock that drifts slowly stays trusted: each pair of readings is compared by itself.
//! A store whose clock cannot be set, such as the one in memory, gives no readings and is
//! always trusted.

use std::time::{Duration, Instant};

use crate::time::Timestamp;

/// Maximum difference of the two clocks between two readings. It is more than any clock is
/// slewed by, and much less than the time by which a lease is renewed before its end.
const JUMP_TOLERANCE: Duration = Duration::from_secs(1);

/// What is known about one store's clock.
#[derive(Default)]
pub(super) struct ClockWatch {
    /// The last reading. `None` before the first, and after [`forget`](Self::forget).
    last: Option<ClockReading>,
    /// Since when the two clocks agree.
    since: Option<Instant>,
}

/// A reading of the store's clock, taken at some instant between request and answer. `told` is
/// the store's time; the other two are this process's.
#[derive(Clone, Copy)]
struct ClockReading {
    asked: Instant,
    answered: Instant,
    told: Timestamp,
}

impl ClockWatch {
    /// Adds a reading. Returns by how many seconds the clock was set since the last one, if
    /// it was.
    pub(super) fn note(
        &mut self,
        asked: Instant,
        answered: Instant,
        told: Timestamp,
    ) -> Option<f64> {
        let look = ClockReading { asked, answered, told };
        let before = self.last.replace(look);
        let jumped = before.and_then(|before| jump(before, look));
        if self.since.is_none() || jumped.is_some() {
            self.since = Some(answered);
        }
        jumped
    }

    /// Forgets everything: the store did not answer, so its clock may have been set.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether the clocks have agreed for at least `long`, or the store's clock cannot be set.
    pub(super) fn is_trusted(&self, long: Duration) -> bool {
        self.last.is_none() || self.steady() >= long
    }

    /// How long the two clocks are known to agree.
    pub(super) fn steady(&self) -> Duration {
        match (self.since, self.last) {
            (Some(since), Some(last)) => last.asked.saturating_duration_since(since),
            _ => Duration::ZERO,
        }
    }
}

/// By how many seconds the store's clock was set between two readings, if it was.
///
/// Between `least` and `most` seconds have passed here: `least` from the earlier answer to the
/// later request, `most` from the earlier request to the later answer. A correct clock has
/// advanced by something in between.
fn jump(before: ClockReading, look: ClockReading) -> Option<f64> {
    let theirs = (look.told.as_micros() - before.told.as_micros()) as f64 / 1e6;
    let least = look.asked.saturating_duration_since(before.answered).as_secs_f64();
    let most = look.answered.saturating_duration_since(before.asked).as_secs_f64();
    let tolerance = JUMP_TOLERANCE.as_secs_f64();
    if theirs > most + tolerance {
        Some(theirs - most)
    } else if theirs < least - tolerance {
        Some(theirs - least)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings as (second of this process, how long the answer took, the store's second);
    /// returns for how many seconds the clock was steady after each.
    fn steady(looks: &[(u64, u64, i64)]) -> Vec<u64> {
        let (begin, mut watch) = (Instant::now(), ClockWatch::default());
        let at = |secs| begin + Duration::from_secs(secs);
        let note = |(asked, took, told): &(u64, u64, i64)| {
            watch.note(at(*asked), at(asked + took), Timestamp::from_secs(*told));
            watch.steady().as_secs()
        };
        looks.iter().map(note).collect()
    }

    #[test]
    fn a_clock_is_steady_from_the_first_look_or_the_last_jump() {
        let quiet = [(0, 0, 1000), (5, 0, 1005), (10, 0, 1011), (40, 0, 1041)];
        assert_eq!(steady(&quiet), [0, 5, 10, 40]);
        let forward = [(0, 0, 1000), (5, 0, 1065), (10, 0, 1070), (12, 0, 1072)];
        assert_eq!(steady(&forward), [0, 0, 5, 7]);
        let back = [(0, 0, 1000), (5, 0, 945), (12, 0, 952), (17, 0, 1017)];
        assert_eq!(steady(&back), [0, 0, 7, 0]);
    }

    #[test]
    fn an_answer_that_took_long_is_no_jump() {
        // Read at the request or at the answer; counted from the answer.
        assert_eq!(steady(&[(0, 3, 1000), (5, 3, 1008), (10, 3, 1010)]), [0, 2, 7]);
        assert_eq!(steady(&[(0, 3, 1000), (5, 3, 1010)]), [0, 0]);
    }

    #[test]
    fn a_store_that_was_away_is_watched_from_the_beginning() {
        let (begin, mut watch) = (Instant::now(), ClockWatch::default());
        watch.note(begin, begin, Timestamp::from_secs(1000));
        watch.forget();
        assert_eq!(watch.steady(), Duration::ZERO);
        let later = begin + Duration::from_secs(60);
        assert_eq!(watch.note(later, later, Timestamp::from_secs(1)), None);
    }
}
