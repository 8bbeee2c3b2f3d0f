//! Limits: how many jobs of a queue may run at once, and how many may start in a time.
//!
//! A [`Limit`] counts all jobs of its queue, those of some types, or those with the same key. It
//! belongs to one queue. What is decided about one job is here: whether a limit covers it, which
//! key it has, and when a rate admits the next start. The stores count.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::JobRecord;
use super::schedule::{duration_text, parse_duration};
use crate::error::Error;

/// Maximum limits of a queue.
pub const MAX_LIMITS: usize = 32;

/// Maximum bytes of a payload in which a key is looked for. Larger payloads have no key.
pub const MAX_KEYED_PAYLOAD: usize = 16 * 1024;

/// Maximum bytes of a key. Longer ones are cut, so that keys with the same beginning are one.
pub const MAX_LIMIT_KEY: usize = 128;

/// Maximum bytes of a limit's name, and of a path or the name of a header.
const MAX_NAME: usize = 64;

/// Maximum types of a limit.
const MAX_TYPES: usize = 32;

/// The header that carries a key which the caller chose, before the limit's name.
const GIVEN: &str = "jobqueue-limit-";

/// The rate of a limit lies between these.
const PERIODS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(30 * 86_400);

/// A bound on the jobs of a queue that run at once, on their starts in a time, or on both.
///
/// It counts over all processes of this crate. A job over its limit waits without using a slot
/// or an attempt, and starts when there is room. A Go worker does not know limits.
///
/// ```
/// use rocket_jobqueue::limits::{Limit, LimitKey, Rate};
///
/// // At most two calls of an account at once, and at most 100 a minute.
/// let limit = Limit::new("stripe")
///     .types(["stripe:charge"])
///     .key(LimitKey::parse("payload.account_id")?)
///     .concurrency(2)
///     .rate(Rate::parse("100/1m")?);
/// limit.check()?;
/// # Ok::<(), rocket_jobqueue::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueLimit"))]
#[non_exhaustive]
pub struct Limit {
    /// Its name, unique in the queue: at most 64 letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// The types of the jobs that it counts, together; empty for all of the queue.
    #[serde(default)]
    pub types: Vec<String>,
    /// What each count is for; without it there is one count.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<String>"))]
    pub key: Option<LimitKey>,
    /// Maximum jobs that run at once.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// Maximum starts in a time.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<String>"))]
    pub rate: Option<Rate>,
}

impl Limit {
    /// A limit of this name. It needs [`concurrency`](Self::concurrency), a
    /// [`rate`](Self::rate) or both.
    pub fn new(name: impl Into<String>) -> Self {
        let types = Vec::new();
        Self { name: name.into(), types, key: None, concurrency: None, rate: None }
    }

    /// At most this many jobs run at once, at least one.
    pub fn concurrency(mut self, jobs: u32) -> Self {
        self.concurrency = Some(jobs);
        self
    }

    /// At most this many jobs start in a time.
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Only jobs of these types, at most 32.
    pub fn types<T: Into<String>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.types = types.into_iter().map(Into::into).collect();
        self
    }

    /// Each key of the jobs has a limit of its own.
    pub fn key(mut self, key: LimitKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Checks all values.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for the first value out of its domain.
    pub fn check(&self) -> Result<(), Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if !(1..=MAX_NAME).contains(&self.name.len()) || !self.name.bytes().all(allowed) {
            return Err(Error::invalid(format!(
                "name of a limit: expected 1 to {MAX_NAME} letters, digits, '_', '-' and '.', \
                 found {:?}",
                cut(&self.name, MAX_NAME)
            )));
        }
        let wrong = |what: &str| Err(Error::invalid(format!("limit {:?}: {what}", self.name)));
        if self.concurrency.is_none() && self.rate.is_none() {
            return wrong("expected concurrency, a rate or both, found neither");
        }
        if self.concurrency == Some(0) {
            return wrong("concurrency: expected at least 1, found 0");
        }
        if self.types.len() > MAX_TYPES {
            return wrong(&format!(
                "types: expected at most {MAX_TYPES}, found {}",
                self.types.len()
            ));
        }
        if self.types.iter().any(|job_type| job_type.trim().is_empty()) {
            return wrong("types: expected names, found a blank");
        }
        self.key.as_ref().map_or(Ok(()), LimitKey::check)?;
        self.rate.map_or(Ok(()), |rate| rate.check())
    }

    /// Whether it counts jobs of this type.
    pub fn covers(&self, job_type: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|known| known == job_type)
    }

    /// The key of a job. Empty without one, and for a job that has none: all those share one
    /// count.
    pub fn key_of(&self, job: &JobRecord) -> String {
        let header = |name: &str| job.headers.get(name).cloned();
        let key = match &self.key {
            None => None,
            Some(LimitKey::Header(name)) => header(name),
            Some(LimitKey::Given) => header(&given_header(&self.name)),
            Some(LimitKey::Payload(path)) => payload_key(job.payload_bytes(), path),
        };
        let key = key.unwrap_or_default().replace(|c: char| c.is_ascii_control(), "?");
        cut(&key, MAX_LIMIT_KEY).to_owned()
    }
}

/// The text at a path of a JSON payload.
fn payload_key(payload: &[u8], path: &str) -> Option<String> {
    if payload.len() > MAX_KEYED_PAYLOAD {
        return None;
    }
    let payload: Value = serde_json::from_slice(payload).ok()?;
    let found = path.split('.').try_fold(&payload, |value, name| value.get(name))?;
    match found {
        Value::String(text) => Some(text.clone()),
        // As lib/limits.lua, for which all numbers are floating.
        Value::Number(number) if number.is_f64() => number.as_f64().map(|number| {
            let is_whole = number.fract() == 0.0 && number.abs() < 2f64.powi(63);
            if is_whole { format!("{number:.0}") } else { number.to_string() }
        }),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The beginning of a text, at most this many bytes.
fn cut(text: &str, most: usize) -> &str {
    let most = text.len().min(most);
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    &text[..end]
}

/// The header that carries the key for a limit, if the caller chose it.
pub(crate) fn given_header(limit: &str) -> String {
    format!("{GIVEN}{limit}")
}

/// What tells the jobs of a limit apart, as text: `payload.account_id`, `header.x-account` or
/// `given`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum LimitKey {
    /// A text, number or boolean of the JSON payload: names of fields, with dots between them.
    /// Payloads over 16 KiB have no key. Integers beyond 2^53 may share one.
    Payload(String),
    /// The value of a header.
    Header(String),
    /// What the caller gave with [`Enqueue::limit_key`](crate::Enqueue::limit_key): the key is a
    /// function of the job, computed there and carried with it as a header.
    Given,
}

impl LimitKey {
    /// Reads `payload.<path>`, `header.<name>` or `given`.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for any other text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let key = match text.split_once('.') {
            Some(("payload", path)) => Self::Payload(path.to_owned()),
            Some(("header", name)) => Self::Header(name.to_owned()),
            None if text == "given" => Self::Given,
            _ => {
                return Err(Error::invalid(format!(
                    "key of a limit: expected payload.<path>, header.<name> or given, found {:?}",
                    cut(text, MAX_NAME)
                )));
            }
        };
        key.check()?;
        Ok(key)
    }

    fn check(&self) -> Result<(), Error> {
        let (what, name) = match self {
            Self::Payload(path) => ("path", path),
            Self::Header(name) => ("header", name),
            Self::Given => return Ok(()),
        };
        let blank = name.split('.').any(str::is_empty) && matches!(self, Self::Payload(_));
        if blank || name.trim().is_empty() || name.len() > MAX_NAME {
            return Err(Error::invalid(format!(
                "key of a limit: expected a {what} of 1 to {MAX_NAME} bytes, found {:?}",
                cut(name, MAX_NAME)
            )));
        }
        Ok(())
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payload(path) => write!(f, "payload.{path}"),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Given => f.write_str("given"),
        }
    }
}

impl TryFrom<String> for LimitKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl From<LimitKey> for String {
    fn from(key: LimitKey) -> Self {
        key.to_string()
    }
}

/// Maximum starts in a time, evenly spaced: `100/1m` is one every 0.6 s.
///
/// Any half-open window of [`per`](Self::per) holds at most [`count`](Self::count) starts. With a
/// [`burst`](Self::burst) of `b` up to `b` jobs start at once, and a window holds at most
/// `count + b − 1`. In the long run 99 % of the rate start if there are jobs and workers are never
/// later than 1 % of the time: what a start is later than that is lost. Without a burst each start
/// follows the one before by a few round trips, so rates beyond some tens a second need a burst.
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
                cut(text, MAX_NAME)
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

    /// How late starts may be without any being lost, in microseconds.
    fn slack(&self) -> i64 {
        self.per_micros() / 100
    }

    fn per_micros(&self) -> i64 {
        i64::try_from(self.per.as_micros()).unwrap_or(i64::MAX / 4)
    }

    /// Microseconds between two starts. The slack is spread over them, which keeps every window
    /// exact: `n` starts take at least `(n − 1) · spacing − tolerance`.
    pub(crate) fn spacing(&self) -> i64 {
        let (whole, count) = (self.per_micros() + self.slack(), i64::from(self.count.max(1)));
        whole / count + i64::from(whole % count != 0)
    }

    /// How far ahead of the even spacing a start may be, in microseconds.
    pub(crate) fn tolerance(&self) -> i64 {
        i64::from(self.burst.max(1) - 1) * self.spacing() + self.slack()
    }

    /// When the next job may start, in microseconds: not after `now` if it may now. `next` is the
    /// state of the limit, the instant of the next start in even spacing; 0 at first. A state that
    /// is farther ahead than it can be, because the clock was set back, counts as the farthest.
    pub(crate) fn next_at(&self, next: i64, now: i64) -> i64 {
        let farthest = now + self.spacing() + self.tolerance();
        next.min(farthest) - self.tolerance()
    }

    /// The state after a start now.
    pub(crate) fn start(&self, next: i64, now: i64) -> i64 {
        let farthest = now + self.spacing() + self.tolerance();
        next.min(farthest).max(now) + self.spacing()
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
    use crate::job::QueueName;

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

    /// Starts as early as a rate allows, each late by what `late` says.
    fn starts(rate: Rate, until: i64, mut late: impl FnMut(usize) -> i64) -> Vec<i64> {
        let (mut next, mut now, mut starts) = (0, 5_000_000, Vec::new());
        while now < until {
            now = rate.next_at(next, now).max(now) + late(starts.len());
            next = rate.start(next, now);
            starts.push(now);
        }
        starts
    }

    fn most_in_a_window(starts: &[i64], per: i64) -> usize {
        let in_window =
            |first: &i64| starts.iter().filter(|at| (*first..first + per).contains(*at)).count();
        starts.iter().map(in_window).max().unwrap()
    }

    #[test]
    fn every_window_holds_at_most_the_rate_and_the_sum_is_kept() {
        for (text, most) in [("100/1s", 100), ("3/1s", 3), ("7/100ms", 7), ("10/1s burst 4", 13)] {
            let rate = Rate::parse(text).unwrap();
            let per = rate.per_micros();
            let span = 20 * per;
            for step in [0, 37, 1000] {
                let starts =
                    starts(rate, 5_000_000 + span, |nth| (nth as i64 * step) % (per / 200));
                assert!(most_in_a_window(&starts, per) <= most, "{text}");
                let expected = 20 * usize::try_from(rate.count).unwrap();
                assert!(starts.len() * 100 >= expected * 97, "{text}: {}", starts.len());
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_back_stalls_a_rate_for_one_spacing() {
        let rate = Rate::parse("1/1m").unwrap();
        let next = rate.start(0, 1_000_000_000_000);
        let wait = rate.next_at(next, 1_000_000) - 1_000_000;
        assert!(wait <= rate.spacing(), "{wait}");
    }

    fn job(payload: &str) -> JobRecord {
        let queue = QueueName::new("mail").unwrap();
        let mut job = JobRecord::new("mail", Some(payload.as_bytes().to_vec()), queue);
        job.headers.insert("x-account".to_owned(), "acct_7".to_owned());
        job.headers.insert("jobqueue-limit-stripe".to_owned(), "seven".to_owned());
        job
    }

    #[test]
    fn the_key_of_a_job_is_found() {
        let key = |key: &str, payload: &str| {
            Limit::new("stripe").key(LimitKey::parse(key).unwrap()).key_of(&job(payload))
        };
        assert_eq!(key("payload.user.id", r#"{"user":{"id":7}}"#), "7");
        assert_eq!(key("payload.user", r#"{"user":"é"}"#), "é");
        assert_eq!(key("payload.user", r#"{"user":{"id":7}}"#), "");
        assert_eq!(key("payload.user", "no json"), "");
        assert_eq!(key("header.x-account", "{}"), "acct_7");
        assert_eq!(key("header.other", "{}"), "");
        assert_eq!(key("given", "{}"), "seven");
        let long = "é".repeat(100);
        assert_eq!(key("payload.user", &format!(r#"{{"user":"a{long}"}}"#)).len(), 127);
    }

    #[test]
    fn a_wrong_limit_is_refused_by_name() {
        for (limit, expected) in [
            (
                Limit::new("a").concurrency(0),
                "limit \"a\": concurrency: expected at least 1, found 0",
            ),
            (Limit::new("a"), "limit \"a\": expected concurrency, a rate or both, found neither"),
            (
                Limit::new("a:b").concurrency(1),
                "name of a limit: expected 1 to 64 letters, digits, '_', '-' and '.', found \"a:b\"",
            ),
            (
                Limit::new("a").concurrency(1).types([" "]),
                "limit \"a\": types: expected names, found a blank",
            ),
        ] {
            assert_eq!(limit.check().unwrap_err().to_string(), expected);
        }
        for text in ["payload.", "payload.a..b", "header.", "cookie.a", "account"] {
            assert!(LimitKey::parse(text).unwrap_err().is_invalid(), "{text}");
        }
    }
}
