//! Limits: how many jobs of a queue may run at once, and how many may start in a time.
//!
//! A [`Limit`] counts all jobs of its queue, those of some types, or those with the same key. It
//! belongs to one queue. What is decided about one job is here: whether a limit covers it, and which
//! key it has. When a rate admits the next start is in `rate`. The stores count.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{JobRecord, Rate};
use crate::error::Error;
use crate::text::cut;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::QueueName;

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
