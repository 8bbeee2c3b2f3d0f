//! The five fields of a cron expression, as sets of numbers.
//!
//! Everything here is a rule of robfig/cron, version 3, including what looks like a mistake:
//! empty parts of a list are ignored, and so is whatever follows `*-`. A specification must
//! mean the same for a Go service, so nothing is corrected.
//!
//! A field is a set: a star, a value, a range, any of them with a step, and lists of these with
//! commas. Each set is the bits of one `u64`, so a test is a shift; [`schedule`](super) walks days
//! and asks [`CronFields::has_day`], then takes the times of the day in order.

use chrono::{Datelike, NaiveDate};

use super::{Wrong, quoted, wrong};

/// The values of each field: bit *n* is set for the value *n*.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct CronFields {
    minute: u64,
    hour: u64,
    day_of_month: u64,
    month: u64,
    day_of_week: u64,
    /// Whether a day field is unrestricted: then both must match, else either.
    both_days: bool,
}

/// What one field may contain.
struct Bounds {
    /// For the error's text.
    name: &'static str,
    min: u64,
    max: u64,
    /// Names for the numbers from `min` on; none for most fields.
    names: &'static [&'static str],
}

/// The five fields, with the bounds that robfig/cron has. Sunday is 0 and not also 7.
const MINUTE: Bounds = Bounds { name: "minute", min: 0, max: 59, names: &[] };
const HOUR: Bounds = Bounds { name: "hour", min: 0, max: 23, names: &[] };
const DAY_OF_MONTH: Bounds = Bounds { name: "day of month", min: 1, max: 31, names: &[] };
/// January is 1, while Sunday is 0.
const MONTH: Bounds = Bounds {
    name: "month",
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const DAY_OF_WEEK: Bounds = Bounds {
    name: "day of week",
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl CronFields {
    /// Reads five fields. Six, with seconds, are refused, as in Asynq.
    pub(super) fn parse(spec: &str) -> Result<Self, Wrong> {
        let texts: Vec<&str> = spec.split_whitespace().collect();
        let [minute, hour, day_of_month, month, day_of_week] = texts[..] else {
            let expected = "five fields (minute, hour, day of month, month, day of week)";
            return Err(wrong(expected, format!("{} in {}", texts.len(), quoted(spec))));
        };
        let (minute, _) = field(minute, &MINUTE)?;
        let (hour, _) = field(hour, &HOUR)?;
        let (day_of_month, any_day) = field(day_of_month, &DAY_OF_MONTH)?;
        let (month, _) = field(month, &MONTH)?;
        let (day_of_week, any_weekday) = field(day_of_week, &DAY_OF_WEEK)?;
        let both_days = any_day || any_weekday;
        Ok(Self { minute, hour, day_of_month, month, day_of_week, both_days })
    }

    /// The fields of `@daily` and similar names.
    pub(super) fn named(name: &str) -> Option<Self> {
        let fields = match name {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ => return None,
        };
        Self::parse(fields).ok()
    }

    /// Whether any date of the calendar and any time of a day match. `0 0 31 2 *` has no date,
    /// and an empty list such as `,` no time.
    pub(super) fn can_match(&self) -> bool {
        const DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let of_month = (1..).zip(DAYS).any(|(month, days)| {
            self.month >> month & 1 == 1 && (1..=days).any(|day| self.day_of_month >> day & 1 == 1)
        });
        let of_week = self.month != 0 && self.day_of_week != 0;
        let has_day = if self.both_days { of_month && of_week } else { of_month || of_week };
        has_day && self.minute != 0 && self.hour != 0
    }

    /// Whether the month of this day matches.
    pub(super) fn has_month(&self, day: NaiveDate) -> bool {
        self.month >> day.month() & 1 == 1
    }

    /// Whether the day matches. Of two restricted day fields one is enough, as in cron: `0 0 13
    /// * 5` is every 13th and every Friday.
    pub(super) fn has_day(&self, day: NaiveDate) -> bool {
        let of_month = self.day_of_month >> day.day() & 1 == 1;
        let of_week = self.day_of_week >> day.weekday().num_days_from_sunday() & 1 == 1;
        if self.both_days { of_month && of_week } else { of_month || of_week }
    }

    /// Hour and minute of each match on a day, in order.
    pub(super) fn times(&self) -> impl Iterator<Item = (u32, u32)> {
        let within = |bits: u64, max: u64| (0..=max as u32).filter(move |n| bits >> n & 1 == 1);
        let minutes = self.minute;
        within(self.hour, HOUR.max)
            .flat_map(move |hour| within(minutes, MINUTE.max).map(move |minute| (hour, minute)))
    }
}

/// The values of a field, and whether a star makes it unrestricted. `*/2` is restricted: only
/// every second value matches.
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), Wrong> {
    let (mut bits, mut any) = (0, false);
    // Go drops what is empty between commas.
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (more, star) = part_of_list(part, bounds).map_err(|what| {
            let Bounds { name, min, max, .. } = bounds;
            wrong(format!("{what} in the field {name} ({min}-{max})"), quoted(part))
        })?;
        bits |= more;
        any |= star;
    }
    Ok((bits, any))
}

/// One range with its step; the error says what was expected.
fn part_of_list(part: &str, bounds: &Bounds) -> Result<(u64, bool), &'static str> {
    let (range, step) = match part.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err("one slash at most"),
        Some((range, step)) => (range, Some(number(step)?)),
        None => (part, None),
    };
    let (low, high) = match range.split_once('-') {
        Some((low, high)) => (low, Some(high)),
        None => (range, None),
    };
    // Whatever follows a star and a hyphen is ignored in Go.
    let star = low == "*" || low == "?";
    let (start, end) = match high {
        _ if star => (bounds.min, bounds.max),
        Some(high) if high.contains('-') => return Err("one hyphen at most"),
        Some(high) => (value(low, bounds)?, value(high, bounds)?),
        None if step.is_some() => (value(low, bounds)?, bounds.max),
        None => (value(low, bounds)?, value(low, bounds)?),
    };
    let step = step.unwrap_or(1);
    // Checked before anything is expanded.
    if start < bounds.min || end > bounds.max {
        return Err("values within the bounds");
    }
    if start > end {
        return Err("a range that begins before it ends");
    }
    if step == 0 {
        return Err("a step of 1 or more");
    }
    let mut bits = 0;
    let mut at = start;
    while at <= end {
        bits |= 1 << at;
        at = at.saturating_add(step);
    }
    Ok((bits, star && step == 1))
}

/// A number or a name, in upper or lower case. The bounds of a number are checked by the
/// caller.
fn value(text: &str, bounds: &Bounds) -> Result<u64, &'static str> {
    let named = bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    match named {
        Some(at) => Ok(bounds.min + at as u64),
        None => number(text),
    }
}

/// A number as Go's `Atoi` reads it: a plus sign is allowed, and leading zeros.
fn number(text: &str) -> Result<u64, &'static str> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("a number");
    }
    digits.parse::<i64>().map(i64::unsigned_abs).map_err(|_| "a smaller number")
}
