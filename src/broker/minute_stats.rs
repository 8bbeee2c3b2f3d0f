//! The last hour, minute by minute: what the levels of counters, noted once a minute, say
//! about the time between them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::time::Timestamp;

/// So many minutes are told of.
const TOLD: i64 = 60;

/// What happened in a queue in one minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueMinuteStats"))]
#[non_exhaustive]
pub struct MinuteStats {
    /// When it began.
    pub at: Timestamp,
    /// Attempts that ended. Where nobody noted the counters for some minutes, these have
    /// an even part each of what happened in them.
    pub processed: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Jobs that were pending when it began.
    pub waiting: u64,
}

/// How far the counters of a queue are, and how many jobs are pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CounterSnapshot {
    pub processed: u64,
    pub failed: u64,
    pub waiting: u64,
}

/// CounterSnapshots by the minute since the epoch at whose beginning they were noted.
pub(crate) type CounterSnapshots = BTreeMap<i64, CounterSnapshot>;

impl CounterSnapshot {
    /// Reads one that is stored as four numbers.
    pub fn parse(text: &str) -> Option<(i64, Self)> {
        let mut numbers = text.split(' ');
        let minute = numbers.next()?.parse().ok()?;
        let mut number = || numbers.next()?.parse().ok();
        Some((minute, Self { processed: number()?, failed: number()?, waiting: number()? }))
    }
}

impl MinuteStats {
    /// The minute that an instant is in.
    pub(crate) fn minute_of(at: Timestamp) -> i64 {
        at.as_secs().div_euclid(60)
    }

    /// The last hour, the oldest minute first; what happens now is in the last one, which
    /// is not over. It begins with the first level there is.
    pub(crate) fn between(
        levels: &CounterSnapshots,
        latest: CounterSnapshot,
        now: Timestamp,
    ) -> Vec<Self> {
        let this = Self::minute_of(now);
        let mut all = Vec::new();
        let known: Vec<(i64, CounterSnapshot)> = levels
            .range(this - TOLD..=this)
            .map(|(minute, level)| (*minute, *level))
            .chain([(this + 1, latest)])
            .collect();
        for pair in known.windows(2) {
            let [(from, before), (until, after)] = pair else { continue };
            let minutes = u128::try_from(until - from).unwrap_or(1).max(1);
            // A counter that began anew says nothing of what was before.
            let part = |before: u64, after: u64, nth: u128| {
                let sum = u128::from(after.checked_sub(before).unwrap_or(after));
                let part = sum * (nth + 1) / minutes - sum * nth / minutes;
                u64::try_from(part).unwrap_or(u64::MAX)
            };
            all.extend((0..minutes).zip(*from..).map(|(nth, minute)| Self {
                at: Timestamp::from_secs(minute * 60),
                processed: part(before.processed, after.processed, nth),
                failed: part(before.failed, after.failed, nth),
                waiting: before.waiting,
            }));
        }
        let told = usize::try_from(TOLD).unwrap_or(usize::MAX);
        all.split_off(all.len().saturating_sub(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(processed: u64, failed: u64, waiting: u64) -> CounterSnapshot {
        CounterSnapshot { processed, failed, waiting }
    }

    #[test]
    fn what_happened_between_two_levels_is_their_difference() {
        let levels = CounterSnapshots::from([(100, level(10, 1, 5)), (101, level(25, 2, 0))]);
        let found =
            MinuteStats::between(&levels, level(26, 2, 7), Timestamp::from_secs(101 * 60 + 5));
        let told: Vec<_> =
            found.iter().map(|m| (m.at.as_secs(), m.processed, m.failed, m.waiting)).collect();
        assert_eq!(told, [(6000, 15, 1, 5), (6060, 1, 0, 0)]);
    }

    #[test]
    fn minutes_that_nobody_noted_have_even_parts() {
        let levels = CounterSnapshots::from([(100, level(0, 0, 1))]);
        let found = MinuteStats::between(&levels, level(10, 0, 0), Timestamp::from_secs(102 * 60));
        assert_eq!(found.iter().map(|m| m.processed).collect::<Vec<_>>(), [3, 3, 4]);
    }

    #[test]
    fn a_counter_that_began_anew_is_no_negative_number() {
        let levels = CounterSnapshots::from([(100, level(50, 9, 0)), (101, level(3, 0, 0))]);
        let found = MinuteStats::between(&levels, level(3, 0, 0), Timestamp::from_secs(101 * 60));
        assert_eq!(found.iter().map(|m| m.processed).collect::<Vec<_>>(), [3, 0]);
        // Nor does a large one overflow.
        let levels = CounterSnapshots::from([(100, level(0, 0, 0))]);
        let full = level(u64::MAX, 0, 0);
        let found = MinuteStats::between(&levels, full, Timestamp::from_secs(159 * 60));
        assert_eq!(
            found.iter().map(|m| u128::from(m.processed)).sum::<u128>(),
            u128::from(u64::MAX)
        );
    }

    #[test]
    fn an_hour_is_told_and_no_more() {
        let levels: CounterSnapshots = (0..200).map(|m| (m, level(m as u64, 0, 0))).collect();
        let found = MinuteStats::between(&levels, level(200, 0, 0), Timestamp::from_secs(199 * 60));
        assert_eq!((found.len(), found[0].at.as_secs()), (60, 140 * 60));
        assert!(
            MinuteStats::between(
                &CounterSnapshots::new(),
                CounterSnapshot::default(),
                Timestamp::from_secs(0)
            )
            .is_empty()
        );
    }

    #[test]
    fn a_stored_level_is_read_or_left_out() {
        assert_eq!(CounterSnapshot::parse("7 1 2 3"), Some((7, level(1, 2, 3))));
        assert_eq!(CounterSnapshot::parse("7 1 2"), None);
        assert_eq!(CounterSnapshot::parse("x"), None);
    }
}
