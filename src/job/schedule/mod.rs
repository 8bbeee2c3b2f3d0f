//! When a periodic job is due: a cron expression in a time zone, or an interval.
//! Pure arithmetic on instants. The scheduler fires the jobs and decides about missed
//! ticks.
//!
//! The grammar is robfig/cron's (version 3, standard parser), which Asynq uses,
//! to the letter: Go tools show our specifications, and a schedule that moves
//! between a Go and a Rust service must mean the same. The well-kept crates
//! (croner, cron) read other dialects: 7 as Sunday, `L`, `W` and `#`, seconds and
//! years, another rule for the two day fields, no `n/step`, and no `@every`. Using
//! them would mean to parse this grammar first, which is most of the
//! work. Calendar and time zones are chrono's and chrono-tz's.

mod duration;
mod fields;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use crate::error::Error;
use crate::time::Timestamp;
pub(crate) use duration::{parse as parse_duration, text as duration_text};
use fields::CronFields;

/// Longest specification, which bounds the time that reading one takes.
const MAX_SPEC_BYTES: usize = 256;

/// A schedule without a match in the rest of this year and the five that follow
/// has none, as in robfig/cron.
const MAX_YEARS_AHEAD: i32 = 5;

/// More than clocks are ever set back at the end of summer time.
const MAX_CLOCK_SHIFT: Duration = Duration::from_secs(3 * 3600);

/// When a periodic job is due.
///
/// The forms, as in Asynq:
///
/// * five fields: minute (0–59), hour (0–23), day of month (1–31), month (1–12 or
///   `jan`–`dec`), day of week (0–6 or `sun`–`sat`; 7 is *not* Sunday). A field is
///   `*` or `?`, a number, a range `9-17`, a step `*/15`, `9-17/2` or `5/15` (from
///   5 on), or a list of these. If both day fields are restricted, one of them
///   is enough;
/// * `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`;
/// * `@every <duration>` such as `@every 90s` or `@every 1h30m`, cut to whole
///   seconds, at least one. Unlike Asynq, which counts from the start of each
///   process, the instants are the multiples of the interval since the Unix epoch,
///   so that all processes agree on them: `@every 1h` is due on the hour (UTC).
///
/// Fields are in UTC unless a zone is given, by `CRON_TZ=Europe/Berlin ` (or
/// `TZ=`) before the fields or with
/// [`Periodic::time_zone`](crate::Periodic::time_zone). On a day when clocks
/// are set forward, an expression that names only the skipped hour is not due. When
/// they are set back, an expression that is due in the repeated hour is due in both.
/// For work that must happen exactly once a day, choose an hour that no zone change
/// touches, or UTC.
///
/// ```
/// use rocket_jobqueue::{Schedule, Timestamp};
///
/// let hourly: Schedule = "0 * * * *".parse().unwrap();
/// let next = hourly.next(Timestamp::from_secs(1_770_000_001)).unwrap();
/// assert_eq!(next, Timestamp::from_secs(1_770_001_200));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Schedule {
    spec: String,
    rule: Rule,
}

/// The two kinds of schedules.
#[derive(Clone, PartialEq, Eq)]
enum Rule {
    /// Whole seconds, at least one.
    Every(i64),
    Cron(CronFields, Tz),
}

impl Schedule {
    /// Reads a specification.
    ///
    /// # Errors
    /// [`Error::is_invalid`] with what was expected and what was found.
    pub fn new(spec: impl Into<String>) -> Result<Self, Error> {
        Ok(Self::read(spec.into())?)
    }

    /// As [`new`](Self::new), with the error in two parts for callers that name the source.
    pub(crate) fn read(spec: String) -> Result<Self, Wrong> {
        if spec.len() > MAX_SPEC_BYTES {
            let found = spec.len();
            return Err(wrong(format!("at most {MAX_SPEC_BYTES} bytes"), format!("{found} bytes")));
        }
        let rule = rule(&spec)?;
        Ok(Self { spec, rule })
    }

    /// The interval of an `@every` that is not written in whole seconds, as it is kept: `@every
    /// 10ms` fires each second, as in robfig/cron.
    pub(crate) fn rounded(&self) -> Option<Duration> {
        let Rule::Every(secs) = self.rule else { return None };
        let is_whole = self.nanos_of_every()? == secs.checked_mul(1_000_000_000)?;
        (!is_whole).then(|| Duration::from_secs(secs.unsigned_abs()))
    }

    /// The interval of `@every` as it is written.
    fn nanos_of_every(&self) -> Option<i64> {
        self.spec.rsplit("@every ").next().and_then(parse_duration)
    }

    /// Refuses a valid specification that never fires (`0 0 31 2 *`) or whose interval is
    /// not positive (`@every 0s`). A periodic job with such a schedule is a mistake.
    pub(crate) fn fires(self) -> Result<Self, Wrong> {
        let never = match &self.rule {
            Rule::Cron(fields, _) => !fields.can_match(),
            Rule::Every(_) => {
                if self.nanos_of_every().is_some_and(|nanos| nanos <= 0) {
                    return Err(wrong(
                        "an interval of 1s or more after @every",
                        quoted(&self.spec),
                    ));
                }
                false
            }
        };
        if never {
            let found = quoted(&self.spec);
            return Err(wrong(
                "a schedule that fires at some date",
                format!("{found}, which never does"),
            ));
        }
        Ok(self)
    }

    /// The same in a time zone of the IANA database, such as `Europe/Berlin`.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if there is no such zone, or if the specification
    /// names one itself.
    pub fn time_zone(self, name: &str) -> Result<Self, Error> {
        Ok(self.within(name)?)
    }

    /// As [`time_zone`](Self::time_zone), with the error in two parts.
    pub(crate) fn within(self, name: &str) -> Result<Self, Wrong> {
        let zone = zone(name)?;
        if zoned(&self.spec) {
            return Err(wrong("no time zone where the specification names one", quoted(name)));
        }
        Ok(match self.rule {
            // An interval is the same everywhere.
            Rule::Every(_) => self,
            Rule::Cron(fields, _) => Self {
                spec: format!("CRON_TZ={name} {}", self.spec),
                rule: Rule::Cron(fields, zone),
            },
        })
    }

    /// The specification, with its time zone, as Asynq's tools show it.
    pub fn spec(&self) -> &str {
        &self.spec
    }

    /// The first instant after `after` at which it is due; `None` if there is none
    /// within five years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(secs) => {
                let next = after.as_secs().div_euclid(*secs).checked_add(1)?.checked_mul(*secs)?;
                Some(Timestamp::from_secs(next))
            }
            Rule::Cron(fields, zone) => next_match(fields, *zone, after),
        }
    }

    /// The last instant after `after` and not after `until` at which it was due.
    ///
    /// Found by halving the range, because a schedule can only be asked for what comes next:
    /// about 30 questions for a range of years.
    pub fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let due_after =
            |secs: i64| self.next(Timestamp::from_secs(secs)).filter(|due| *due <= until);
        let first = self.next(after).filter(|due| *due <= until)?;
        // In each round something is due after `from` and nothing after `to`, up to `until`.
        let (mut from, mut to) = (first.as_secs() - 1, until.as_secs());
        while to - from > 1 {
            let middle = from + (to - from) / 2;
            if due_after(middle).is_some() { from = middle } else { to = middle }
        }
        due_after(from)
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Self, Error> {
        Self::new(spec)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spec)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({:?})", self.spec)
    }
}

/// Reads time zone and rule. The specification is not normalized: Asynq's tools show it as it
/// was written.
fn rule(spec: &str) -> Result<Rule, Wrong> {
    let (zone, rest) = if zoned(spec) {
        let (named, rest) = spec
            .split_once(' ')
            .ok_or_else(|| wrong("a space after the time zone", quoted(spec)))?;
        let (_, name) = named.split_once('=').unwrap_or_default();
        (zone(name)?, rest.trim())
    } else {
        (Tz::UTC, spec)
    };
    if let Some(interval) = rest.strip_prefix("@every ") {
        let nanos = parse_duration(interval).ok_or_else(|| {
            wrong("a duration such as 90s or 1h30m after @every", quoted(interval))
        })?;
        return Ok(Rule::Every((nanos / 1_000_000_000).max(1)));
    }
    if rest.starts_with('@') {
        return CronFields::named(rest).map(|fields| Rule::Cron(fields, zone)).ok_or_else(|| {
            let known = "@yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly or \
                         @every <duration>";
            wrong(known, quoted(rest))
        });
    }
    Ok(Rule::Cron(CronFields::parse(rest)?, zone))
}

/// Whether the specification names a time zone itself.
fn zoned(spec: &str) -> bool {
    spec.starts_with("TZ=") || spec.starts_with("CRON_TZ=")
}

/// Go reads no name as UTC. Its `Local` would differ from host to host.
fn zone(name: &str) -> Result<Tz, Wrong> {
    if name.is_empty() {
        return Ok(Tz::UTC);
    }
    Tz::from_str(name)
        .map_err(|_| wrong("a time zone of the IANA database such as Europe/Berlin", quoted(name)))
}

/// Why a specification was refused.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub expected: String,
    pub found: String,
}

impl From<Wrong> for Error {
    fn from(Wrong { expected, found }: Wrong) -> Self {
        Self::invalid(format!("schedule: expected {expected}, found {found}"))
    }
}

fn wrong(expected: impl fmt::Display, found: impl fmt::Display) -> Wrong {
    Wrong { expected: expected.to_string(), found: found.to_string() }
}

/// The text in quotes, cut to 60 characters: it ends up in logs and pages.
fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    format!("{cut:?}")
}

/// The first instant after `after` whose date and time in the zone match.
///
/// It goes from day to day, and from month to month if the month does not match, so a rare
/// date costs a few hundred steps. Within a day the times are tried in order.
fn next_match(fields: &CronFields, zone: Tz, after: Timestamp) -> Option<Timestamp> {
    let local = |time: Timestamp| Some(time.to_utc()?.with_timezone(&zone).naive_local());
    // Clocks may show a time again that they showed before `after`.
    let from = local(after - MAX_CLOCK_SHIFT)?;
    let last_year =
        local(Timestamp::from_secs(after.as_secs().checked_add(1)?))?.year() + MAX_YEARS_AHEAD;
    let mut day = from.date();
    while day.year() <= last_year {
        if !fields.has_month(day) {
            day = first_of_next_month(day)?;
            continue;
        }
        let earliest = if day == from.date() { from.hour() * 60 + from.minute() } else { 0 };
        if fields.has_day(day)
            && let Some(due) = first_of_day(fields, zone, day, earliest, after)
        {
            return Some(due);
        }
        day = day.checked_add_days(Days::new(1))?;
    }
    None
}

/// The first match of a day after `after`, not looking before this minute of the day.
///
/// A local time can belong to no instant or to two. None: clocks were set forward past it, and
/// it is not due. Two: they were set back, and it is due at both.
fn first_of_day(
    fields: &CronFields,
    zone: Tz,
    day: NaiveDate,
    earliest: u32,
    after: Timestamp,
) -> Option<Timestamp> {
    let mut first: Option<Timestamp> = None;
    for (hour, minute) in fields.times() {
        if hour * 60 + minute < earliest {
            continue;
        }
        let at = zone.from_local_datetime(&day.and_hms_opt(hour, minute, 0)?);
        let twice = at.earliest() != at.latest();
        let found = [at.earliest(), at.latest()].into_iter().flatten().map(instant);
        first = found.chain(first).filter(|due| *due > after).min();
        // What is shown only once is followed by nothing earlier.
        if first.is_some() && !twice {
            break;
        }
    }
    first
}

fn instant(time: DateTime<Tz>) -> Timestamp {
    Timestamp::from_secs(time.with_timezone(&Utc).timestamp())
}

fn first_of_next_month(day: NaiveDate) -> Option<NaiveDate> {
    match day.month() {
        12 => NaiveDate::from_ymd_opt(day.year() + 1, 1, 1),
        month => NaiveDate::from_ymd_opt(day.year(), month + 1, 1),
    }
}
