//! Rates: how many jobs may start in a time, and when the next one may.
//!
//! Two rules hold at once. *The window*: of the last starts the instants are kept, so that no
//! window has more than the rate, wherever it begins. *The grid*: starts are planned evenly spaced,
//! and one that comes late is followed by the next at its own planned instant, so that nothing is
//! lost. The stores keep a [`RateState`] for each key; [`Rate`] decides.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schedule::{duration_text, parse_duration};
use crate::error::Error;
use crate::text::cut;

/// Maximum bytes of a text that an error shows.
const MAX_SHOWN: usize = 64;

/// A rate's time lies between these.
const PERIODS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(30 * 86_400);

/// Maximum instants that are kept for a key. Rates with a higher count keep one for several starts.
const MAX_KEPT_STARTS: u32 = 256;

/// Starts that were planned up to this part of the time ago are caught up on while jobs wait.
const CATCH_UP: i64 = 10;

/// Maximum starts in a time, evenly spaced: `100/1m` is one every 0.6 s.
///
/// Any half-open window of [`per`](Self::per) holds at most [`count`](Self::count) starts, by the
/// store's clock. While jobs wait, a start that comes late does not delay the next: what was
/// planned in the last tenth of the time is caught up on. With a [`burst`](Self::burst) of `b` up
/// to `b` jobs start at once, and the window holds all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub struct Rate {
    /// Starts in the time, at least one.
    pub count: u32,
    /// The time: 1 ms to 30 days.
    pub per: Duration,
    /// Starts at once, from one (the default) to `count`.
    pub burst: u32,
}

/// What is remembered of the starts of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RateState {
    /// The next start in even spacing, in microseconds; 0 at first.
    pub(crate) next: i64,
    /// The last starts in microseconds, the newest in front: of each group its last one.
    pub(crate) starts: VecDeque<i64>,
    /// How many starts the newest group has.
    pub(crate) newest: u32,
}

/// The numbers that the scripts in Redis count with; times in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct RateNumbers {
    per: i64,
    /// Time between two starts.
    spacing: i64,
    /// How far ahead of its planned instant a start may be: the burst.
    early: i64,
    /// How late a start may be without any being lost.
    late: i64,
    /// Starts that share one kept instant, and how many instants are kept.
    group: u32,
    groups: u32,
}

impl Rate {
    /// This many starts in a time, evenly spaced.
    pub fn new(count: u32, per: Duration) -> Self {
        Self { count, per, burst: 1 }
    }

    /// The same with up to `burst` starts at once.
    pub fn burst(self, burst: u32) -> Self {
        Self { burst, ..self }
    }

    /// Reads `100/1m`, `5/s` or `100/1m burst 20`. The time is written as Go does.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for any other text, and for a value out of its domain.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let read = || {
            let (count, rest) = text.split_once('/')?;
            let (per, burst) = match rest.split_once(" burst ") {
                Some((per, burst)) => (per, burst.trim().parse().ok()?),
                None => (rest, 1),
            };
            let per = per.trim();
            let unit = per.starts_with(|first: char| first.is_ascii_alphabetic());
            let per = if unit { format!("1{per}") } else { per.to_owned() };
            let nanos = u64::try_from(parse_duration(&per)?).ok()?;
            let per = Duration::from_nanos(nanos);
            Some(Self { count: count.trim().parse().ok()?, per, burst })
        };
        let rate = read().ok_or_else(|| {
            Error::invalid(format!(
                "rate: expected a text such as 100/1m or 100/1m burst 20, found {:?}",
                cut(text, MAX_SHOWN)
            ))
        })?;
        rate.check()?;
        Ok(rate)
    }

    /// Checks all values.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for the first value out of its domain.
    pub fn check(&self) -> Result<(), Error> {
        if !PERIODS.contains(&self.per) {
            return Err(Error::invalid(format!(
                "rate: expected a time of 1ms to 30 days, found {}",
                duration_text(self.per)
            )));
        }
        let most = self.per.as_micros().min(u128::from(u32::MAX));
        if self.count == 0 || u128::from(self.count) > most {
            return Err(Error::invalid(format!(
                "rate: expected 1 to {most} starts in {}, found {}",
                duration_text(self.per),
                self.count
            )));
        }
        if !(1..=self.count).contains(&self.burst) {
            return Err(Error::invalid(format!(
                "rate: expected a burst of 1 to {}, found {}",
                self.count, self.burst
            )));
        }
        Ok(())
    }

    /// The numbers to count with.
    pub(crate) fn numbers(&self) -> RateNumbers {
        let per = i64::try_from(self.per.as_micros()).unwrap_or(i64::MAX / 4);
        let count = self.count.max(1);
        let spacing = (per / i64::from(count)).max(1);
        let group = count.div_ceil(MAX_KEPT_STARTS);
        RateNumbers {
            per,
            spacing,
            early: i64::from(self.burst.max(1) - 1) * spacing,
            late: per / CATCH_UP,
            group,
            // Rounded down: a window has rather less than the rate than more.
            groups: count / group,
        }
    }

    /// When the next job may start, in microseconds: not after `now` if it may now.
    pub(crate) fn next_at(&self, state: &RateState, now: i64) -> i64 {
        let numbers = self.numbers();
        (numbers.next_even(state, now) - numbers.early).max(numbers.window_opens_at(state, now))
    }

    /// How many jobs may start now. `behind` says that jobs waited, so that starts which are
    /// planned and late count too.
    pub(crate) fn admits(&self, state: &RateState, now: i64, behind: bool) -> u32 {
        let numbers = self.numbers();
        let even = (now + numbers.early - numbers.base(state, now, behind))
            .div_euclid(numbers.spacing)
            .saturating_add(1);
        let even = u32::try_from(even.max(0)).unwrap_or(u32::MAX);
        even.min(numbers.room_in_window(state, now, even))
    }

    /// Notes a start now. `behind` as in [`admits`](Self::admits).
    pub(crate) fn start(&self, state: &mut RateState, now: i64, behind: bool) {
        let numbers = self.numbers();
        state.next = numbers.base(state, now, behind) + numbers.spacing;
        if state.starts.front().is_some_and(|newest| *newest > now) {
            // The clock was set back.
            state.starts.clear();
        }
        match state.starts.front_mut().filter(|_| state.newest < numbers.group) {
            Some(newest) => {
                *newest = now;
                state.newest += 1;
            }
            None => {
                state.starts.push_front(now);
                state.starts.truncate(numbers.groups as usize);
                state.newest = 1;
            }
        }
    }

    /// Whether no start counts any more, so that the state may be forgotten.
    pub(crate) fn is_over(&self, state: &RateState, now: i64) -> bool {
        let per = self.numbers().per;
        state.next <= now && state.starts.front().is_none_or(|at| at + per <= now)
    }
}

impl RateNumbers {
    /// The next planned start. One that is farther ahead than it can be, because the clock was set
    /// back, counts as the farthest.
    fn next_even(&self, state: &RateState, now: i64) -> i64 {
        state.next.min(now + self.spacing + self.early)
    }

    /// The planned instant of a start now. A plan that is older than a window says nothing.
    fn base(&self, state: &RateState, now: i64, behind: bool) -> i64 {
        let even = self.next_even(state, now);
        let is_late = behind && even > now - self.per;
        even.max(if is_late { now - self.late } else { now })
    }

    /// When the window has room for one more.
    fn window_opens_at(&self, state: &RateState, now: i64) -> i64 {
        if !state.starts.is_empty() && state.newest < self.group {
            // Its group had room when it began.
            return 0;
        }
        let first = state.starts.get(self.groups as usize - 1).filter(|at| **at <= now);
        first.map_or(0, |at| at + self.per)
    }

    /// How many starts the window has room for; `most` are enough.
    fn room_in_window(&self, state: &RateState, now: i64, most: u32) -> u32 {
        let is_open = !state.starts.is_empty() && state.newest < self.group;
        let mut room = if is_open { self.group - state.newest } else { 0 };
        for nth in (0..self.groups as usize).rev() {
            let in_window = |at: &i64| *at <= now && at + self.per > now;
            if room >= most || state.starts.get(nth).is_some_and(in_window) {
                break;
            }
            room = room.saturating_add(self.group);
        }
        room
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = duration_text(self.per);
        let per = per.strip_suffix("m0s").map_or(per.clone(), |per| format!("{per}m"));
        let per = per.strip_suffix("h0m").map_or(per.clone(), |per| format!("{per}h"));
        write!(f, "{}/{per}", self.count)?;
        if self.burst == 1 { Ok(()) } else { write!(f, " burst {}", self.burst) }
    }
}

impl TryFrom<String> for Rate {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_and_written() {
        for (text, expected) in [
            ("100/1m", "100/1m"),
            ("5/s", "5/1s"),
            ("1/250ms", "1/250ms"),
            ("7/1h", "7/1h"),
            ("7/1h30m", "7/1h30m"),
            ("100/1m burst 20", "100/1m burst 20"),
        ] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!(rate.to_string(), expected);
            assert_eq!(Rate::parse(expected).unwrap(), rate);
        }
        for (text, expected) in [
            ("100", "rate: expected a text such as 100/1m or 100/1m burst 20, found \"100\""),
            ("0/1s", "rate: expected 1 to 1000000 starts in 1s, found 0"),
            ("2/1us", "rate: expected a time of 1ms to 30 days, found 1µs"),
            ("2/1s burst 3", "rate: expected a burst of 1 to 2, found 3"),
            ("2/-1s", "rate: expected a text such as 100/1m or 100/1m burst 20, found \"2/-1s\""),
        ] {
            let error = Rate::parse(text).unwrap_err();
            assert!(error.is_invalid());
            assert_eq!(error.to_string(), expected);
        }
    }

    /// Starts as early as a rate allows, each noticed late by what `late` says. Jobs wait all the
    /// time, and all that may start then do.
    fn starts(rate: Rate, until: i64, mut late: impl FnMut(usize) -> i64) -> Vec<i64> {
        let (mut state, mut now, mut starts) = (RateState::default(), 5_000_000, Vec::new());
        while now < until {
            now = rate.next_at(&state, now).max(now) + late(starts.len());
            let most = rate.admits(&state, now, !starts.is_empty());
            assert!(most > 0, "the instant of the next start has come");
            for _ in 0..most {
                assert!(rate.next_at(&state, now) <= now, "as many as it says");
                rate.start(&mut state, now, !starts.is_empty());
                starts.push(now);
            }
        }
        starts
    }

    fn most_in_a_window(starts: &[i64], per: i64) -> usize {
        let ends = |first: i64| starts.partition_point(|at| *at < first + per);
        starts.iter().enumerate().map(|(nth, first)| ends(*first) - nth).max().unwrap()
    }

    #[test]
    fn every_window_holds_at_most_the_rate_however_late_starts_are() {
        for text in ["100/1s", "3/1s", "1/1s", "7/100ms", "10/1s burst 4", "1000/1s burst 1000"] {
            let rate = Rate::parse(text).unwrap();
            let per = rate.numbers().per;
            let mut seed = 7_u64;
            let mut late = |_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let draw = (seed >> 33) as i64;
                // Mostly a little, now and then by up to two windows.
                if draw % 40 == 0 { draw % (2 * per) } else { draw % (per / 50) }
            };
            let starts = starts(rate, 5_000_000 + 60 * per, &mut late);
            let most = most_in_a_window(&starts, per);
            assert!(most <= rate.count as usize, "{text}: {most}");
        }
    }

    #[test]
    fn late_starts_are_caught_up_on() {
        // Each notice comes up to 3 % of the time late, which may be longer than the spacing.
        for text in ["100/1s", "20/1s", "1000/1s", "257/1s", "100/1m", "100/1s burst 20"] {
            let rate = Rate::parse(text).unwrap();
            let per = rate.numbers().per;
            let late = |nth: usize| (nth as i64 * 7919) % (per * 3 / 100);
            let starts = starts(rate, 5_000_000 + 60 * per, late);
            let share = starts.len() as f64 / f64::from(rate.count * 60);
            assert!(share >= 0.97, "{text}: {share}");
            assert!(most_in_a_window(&starts, per) <= rate.count as usize, "{text}");
        }
    }

    #[test]
    fn starts_are_evenly_spaced_and_nothing_is_saved_up_while_nobody_waits() {
        let rate = Rate::parse("10/1s").unwrap();
        let mut state = RateState::default();
        for now in [5_000_000, 60_000_000] {
            assert_eq!((rate.admits(&state, now, false), rate.admits(&state, now, true)), (1, 1));
            rate.start(&mut state, now, true);
            assert_eq!(rate.next_at(&state, now), now + 100_000);
        }
        let burst = rate.burst(4);
        assert_eq!(burst.admits(&RateState::default(), 5_000_000, false), 4);
    }

    #[test]
    fn a_clock_that_is_set_back_stalls_a_rate_for_one_spacing() {
        for text in ["1/1m", "100/1s"] {
            let rate = Rate::parse(text).unwrap();
            let mut state = RateState::default();
            for nth in 0..100 {
                rate.start(&mut state, 1_000_000_000_000 + nth, true);
            }
            let now = 1_000_000;
            let next = rate.next_at(&state, now);
            assert!(next - now <= rate.numbers().spacing, "{}", next - now);
            rate.start(&mut state, next, true);
            assert_eq!(state.starts, [next]);
        }
    }
}
