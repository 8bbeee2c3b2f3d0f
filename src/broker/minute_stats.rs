//! The last hour by minute.
//!
//! A store keeps ever-growing counters of a queue. Once a minute a snapshot of them is
//! stored; the difference between two snapshots is what happened in between. Minutes
//! without a snapshot share that difference evenly.

use std::collections::BTreeMap;

use serde::Serialize;

use super::QueueInfo;
use crate::time::Timestamp;

/// Minutes that are reported.
const REPORTED_MINUTES: i64 = 60;

/// The attempts of a queue in one minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueMinuteStats"))]
#[non_exhaustive]
pub struct MinuteStats {
    /// When it began.
    pub at: Timestamp,
    /// Attempts that ended. Minutes without a snapshot of the counters have even shares.
    pub processed: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Jobs that were pending when it began.
    pub waiting: u64,
}

/// How much of the last hour was counted by minute. What was not is unknown, and not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// All of it, or no attempt lies outside.
    Whole,
    /// From this minute on.
    Since(Timestamp),
    /// Nothing.
    Nothing,
}

impl Coverage {
    /// What the minutes of a queue with these counters cover.
    pub(crate) fn of(minutes: &[MinuteStats], info: &QueueInfo, now: Timestamp) -> Self {
        let counted =
            minutes.iter().map(|minute| minute.processed).fold(0_u64, u64::saturating_add);
        // The day began before the hour, or the hour before the day.
        let is_early = now.as_secs().rem_euclid(86_400) < 3600;
        let all = if is_early { info.processed } else { info.processed_today };
        match minutes.first() {
            _ if minutes.len() as i64 >= REPORTED_MINUTES || all <= counted => Self::Whole,
            Some(first) => Self::Since(first.at),
            None => Self::Nothing,
        }
    }
}

/// A queue's counters and its pending jobs at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CounterSnapshot {
    pub processed: u64,
    pub failed: u64,
    pub waiting: u64,
}

/// Snapshots by minute since the epoch, each taken at the start of its minute.
pub(crate) type CounterSnapshots = BTreeMap<i64, CounterSnapshot>;

impl CounterSnapshot {
    /// Reads a stored snapshot: four numbers, the first one the minute.
    pub(crate) fn parse(text: &str) -> Option<(i64, Self)> {
        let mut numbers = text.split(' ');
        let minute = numbers.next()?.parse().ok()?;
        let mut number = || numbers.next()?.parse().ok();
        Some((minute, Self { processed: number()?, failed: number()?, waiting: number()? }))
    }
}

impl MinuteStats {
    /// The minute of an instant, since the epoch.
    pub(super) fn minute_of(at: Timestamp) -> i64 {
        at.as_secs().div_euclid(60)
    }

    /// The last hour, the oldest minute first. The last minute is the current one. The hour
    /// begins with the first snapshot there is.
    pub(crate) fn between(
        snapshots: &CounterSnapshots,
        latest: CounterSnapshot,
        now: Timestamp,
    ) -> Vec<Self> {
        let this = Self::minute_of(now);
        let mut all = Vec::new();
        let known: Vec<(i64, CounterSnapshot)> = snapshots
            .range(this - REPORTED_MINUTES..=this)
            .map(|(minute, snapshot)| (*minute, *snapshot))
            .chain([(this + 1, latest)])
            .collect();
        for pair in known.windows(2) {
            let [(from, before), (until, after)] = pair else { continue };
            let minutes = u128::try_from(until - from).unwrap_or(1).max(1);
            // A counter that was reset says nothing about the time before.
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
        let told = usize::try_from(REPORTED_MINUTES).unwrap_or(usize::MAX);
        all.split_off(all.len().saturating_sub(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(processed: u64, failed: u64, waiting: u64) -> CounterSnapshot {
        CounterSnapshot { processed, failed, waiting }
    }

    #[test]
    fn the_difference_of_two_snapshots_is_what_happened_between_them() {
        let snapshots =
            CounterSnapshots::from([(100, snapshot(10, 1, 5)), (101, snapshot(25, 2, 0))]);
        let found = MinuteStats::between(
            &snapshots,
            snapshot(26, 2, 7),
            Timestamp::from_secs(101 * 60 + 5),
        );
        let told: Vec<_> =
            found.iter().map(|m| (m.at.as_secs(), m.processed, m.failed, m.waiting)).collect();
        assert_eq!(told, [(6000, 15, 1, 5), (6060, 1, 0, 0)]);
    }

    #[test]
    fn minutes_without_a_snapshot_have_even_shares() {
        let snapshots = CounterSnapshots::from([(100, snapshot(0, 0, 1))]);
        let found =
            MinuteStats::between(&snapshots, snapshot(10, 0, 0), Timestamp::from_secs(102 * 60));
        assert_eq!(found.iter().map(|m| m.processed).collect::<Vec<_>>(), [3, 3, 4]);
    }

    #[test]
    fn a_counter_that_was_reset_gives_no_negative_number() {
        let snapshots =
            CounterSnapshots::from([(100, snapshot(50, 9, 0)), (101, snapshot(3, 0, 0))]);
        let found =
            MinuteStats::between(&snapshots, snapshot(3, 0, 0), Timestamp::from_secs(101 * 60));
        assert_eq!(found.iter().map(|m| m.processed).collect::<Vec<_>>(), [3, 0]);
        // Nor does a large one overflow.
        let snapshots = CounterSnapshots::from([(100, snapshot(0, 0, 0))]);
        let full = snapshot(u64::MAX, 0, 0);
        let found = MinuteStats::between(&snapshots, full, Timestamp::from_secs(159 * 60));
        assert_eq!(
            found.iter().map(|m| u128::from(m.processed)).sum::<u128>(),
            u128::from(u64::MAX)
        );
    }

    #[test]
    fn what_was_not_counted_is_unknown_unless_there_was_nothing() {
        let minute = |at: i64| MinuteStats {
            at: Timestamp::from_secs(60 * at),
            processed: 5,
            failed: 0,
            waiting: 0,
        };
        let info = |processed, processed_today| QueueInfo {
            processed,
            processed_today,
            ..QueueInfo::default()
        };
        let noon = Timestamp::from_secs(43_200);
        let of = |minutes: &[MinuteStats], info: &QueueInfo| Coverage::of(minutes, info, noon);
        let two = [minute(718), minute(719)];
        assert_eq!(of(&two, &info(999, 854)), Coverage::Since(Timestamp::from_secs(60 * 718)));
        assert_eq!(of(&two, &info(999, 10)), Coverage::Whole);
        assert_eq!(of(&[], &info(999, 854)), Coverage::Nothing);
        assert_eq!(of(&[], &info(999, 0)), Coverage::Whole);
        let sixty: Vec<_> = (660..720).map(minute).collect();
        assert_eq!(of(&sixty, &info(999, 854)), Coverage::Whole);
        // Just after midnight the hour has attempts of yesterday.
        let early = Timestamp::from_secs(600);
        assert_eq!(Coverage::of(&[], &info(999, 0), early), Coverage::Nothing);
        assert_eq!(Coverage::of(&[], &info(0, 0), early), Coverage::Whole);
    }

    #[test]
    fn one_hour_is_reported() {
        let snapshots: CounterSnapshots = (0..200).map(|m| (m, snapshot(m as u64, 0, 0))).collect();
        let found =
            MinuteStats::between(&snapshots, snapshot(200, 0, 0), Timestamp::from_secs(199 * 60));
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
    fn a_stored_snapshot_is_read_or_left_out() {
        assert_eq!(CounterSnapshot::parse("7 1 2 3"), Some((7, snapshot(1, 2, 3))));
        assert_eq!(CounterSnapshot::parse("7 1 2"), None);
        assert_eq!(CounterSnapshot::parse("x"), None);
    }
}
