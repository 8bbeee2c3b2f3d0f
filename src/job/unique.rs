//! Unique locks: which jobs count as the same, when a lock ends, and the digest that names it.
//!
//! By default two jobs are the same if they have the same queue, type and payload, byte by byte, as
//! in Asynq, which names such a lock by the MD5 of the payload. A key of the application's own, or
//! chosen fields of the payload, have a SHA-256 instead: it is longer, so that the two never meet.
//!
//! [`Until`] says when the lock ends, [`OnConflict`] what an enqueue does that finds it held, and
//! [`UniqueKey`] what is compared. The lock is a key of its own in the store, with the id of the
//! job that holds it. So a job only releases a lock that is still its own, and a refused enqueue
//! can name the holder.
//!
//! What may surprise. Every lock has an end in time, whatever happens to its job: a job that waits
//! for longer than that may meet a second one.

use std::borrow::Cow;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::payload::payload_bytes;
use super::serial::hex;
use crate::error::Error;

/// Maximum bytes of a key, and of the name of a field.
const MAX_KEY: usize = 1024;

/// Maximum fields that make a key.
const MAX_FIELDS: usize = 16;

/// When the lock of a [unique](crate::Enqueue::unique_for) job ends. It ends at the latest when
/// its time is over, whatever happens to the job, the worker or the process.
///
/// ```
/// # use rocket_jobqueue::{Job, Until, testing::TestQueue};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Rebuild { user: u64 }
/// # impl Job for Rebuild { const TYPE: &'static str = "feed:rebuild"; }
/// # #[rocket::main]
/// # async fn main() -> Result<(), rocket_jobqueue::Error> {
/// # let tests = TestQueue::new();
/// # let queue = tests.queue();
/// use std::time::Duration;
///
/// // At most one rebuild of a user in ten minutes, however quickly it is done.
/// let ten_minutes = Duration::from_secs(600);
/// let rebuild = || queue.enqueue(Rebuild { user: 7 }).unique_for(ten_minutes).until(Until::Expiry);
/// rebuild().await?;
/// assert!(rebuild().await.unwrap_err().is_duplicate());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Until {
    /// When a worker dequeues the job. So only jobs that wait count as the same: while one runs,
    /// another can be enqueued, because what the running one has read may have changed since. The
    /// lock is not taken again if the attempt fails, its worker vanishes, or the job is put back or
    /// parked because that worker cannot run it.
    ///
    /// A Go worker does not know this: it releases the lock at success.
    Start,
    /// When the job succeeds, is revoked or is deleted: the default, and what Asynq's `Unique`
    /// does. A job that fails keeps its lock while it waits for its next attempt, and in the
    /// archive unless `jobqueue.release_lock_on_archive` is set.
    #[default]
    Success,
    /// When its time is over, and no earlier: however the job ends, and also if it is deleted.
    Expiry,
}

impl Until {
    /// Its name in REST and in Redis: `start`, `success` or `expiry`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Success => "success",
            Self::Expiry => "expiry",
        }
    }

    /// The one of this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Start, Self::Success, Self::Expiry].into_iter().find(|until| until.as_str() == name)
    }
}

/// What an enqueue does if another job holds its unique lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnConflict {
    /// It is refused. The error names the holder ([`Error::holder`]).
    #[default]
    Reject,
    /// The waiting holder becomes this job, with this job's time and lock. Where the holder runs,
    /// this job is enqueued when that has ended.
    Replace,
    /// The lock, and the due time of a scheduled holder, are moved to where this job's would be,
    /// unless they are later already.
    Extend,
    /// The job of this id becomes this job, if it waits: not a conflict of locks but a replacement
    /// by id. A held lock refuses it.
    ReplaceJob,
}

impl OnConflict {
    /// Its name in scripts.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Replace => "replace",
            Self::Extend => "extend",
            Self::ReplaceJob => "replace_job",
        }
    }

    /// What an enqueue may ask for of this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Reject, Self::Replace, Self::Extend].into_iter().find(|one| one.as_str() == name)
    }
}

/// Which jobs of a queue and type are the same to a unique lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum UniqueKey {
    /// Those with the same payload, byte by byte.
    #[default]
    Payload,
    /// Those with the same text.
    Text(Cow<'static, str>),
    /// Those whose payloads have equal values in these fields.
    Fields(Vec<Cow<'static, str>>),
}

impl UniqueKey {
    /// The digest that names the lock, in 64 hexadecimal digits; `None` for the whole payload,
    /// of which each store makes its own.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a key that is blank or too long, too many fields, and a payload
    /// that is not a JSON object with these fields. No message quotes the payload.
    pub(crate) fn digest(&self, job_type: &str, payload: &[u8]) -> Result<Option<String>, Error> {
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        };
        match self {
            Self::Payload => return Ok(None),
            Self::Text(key) => {
                check("unique key", key)?;
                add(b"key");
                add(key.as_bytes());
            }
            Self::Fields(fields) => {
                if !(1..=MAX_FIELDS).contains(&fields.len()) {
                    return Err(Error::invalid(format!(
                        "unique_by: expected 1 to {MAX_FIELDS} fields, found {}",
                        fields.len()
                    )));
                }
                let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
                add(b"fields");
                let mut fields: Vec<&str> = fields.iter().map(AsRef::as_ref).collect();
                fields.sort_unstable();
                for name in fields {
                    check("unique_by", name)?;
                    let value = if name.starts_with('/') {
                        payload.pointer(name)
                    } else {
                        payload.get(name)
                    };
                    let value = value.ok_or_else(|| {
                        Error::invalid(format!(
                            "unique_by: expected field {name:?} in the payload of {job_type:?}, \
                             found none"
                        ))
                    })?;
                    if has_inexact_number(value) {
                        return Err(Error::invalid(format!(
                            "unique_by: expected numbers below 2^64 in field {name:?} of {job_type:?}, \
                             found one that is only known approximately; give it as text, or \
                             use unique_key"
                        )));
                    }
                    add(name.as_bytes());
                    // Objects are sorted by their keys, at every depth.
                    add(&payload_bytes(value).unwrap_or_default());
                }
            }
        }
        Ok(Some(hex(&digest.finalize())))
    }
}

/// Whether a number in the value stands for many: an integer beyond 64 bits became the nearest one
/// with a fraction, and two of them could be taken for the same.
fn has_inexact_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.is_f64() && number.as_f64().is_none_or(|value| value.abs() >= 2f64.powi(53))
        }
        Value::Array(values) => values.iter().any(has_inexact_number),
        Value::Object(fields) => fields.values().any(has_inexact_number),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// A key or a field's name within its bounds.
fn check(what: &str, text: &str) -> Result<(), Error> {
    if text.trim().is_empty() {
        return Err(Error::invalid(format!("{what}: expected a text, found a blank")));
    }
    if text.len() > MAX_KEY {
        return Err(Error::invalid(format!(
            "{what}: expected at most {MAX_KEY} bytes, found {}",
            text.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_fields(fields: &[&'static str], payload: &str) -> Result<Option<String>, Error> {
        let fields = fields.iter().map(|name| Cow::Borrowed(*name)).collect();
        UniqueKey::Fields(fields).digest("mail", payload.as_bytes())
    }

    fn of_text(key: &str) -> Result<Option<String>, Error> {
        UniqueKey::Text(key.to_owned().into()).digest("mail", b"")
    }

    #[test]
    fn chosen_fields_alone_tell_jobs_apart() {
        let one = of_fields(&["user"], r#"{"user":{"b":1,"a":2},"at":1}"#).unwrap();
        assert_eq!(one, of_fields(&["user"], r#"{"at":2, "user":{"a":2,"b":1}}"#).unwrap());
        assert_eq!(one.as_ref().unwrap().len(), 64);
        assert_ne!(one, of_fields(&["user"], r#"{"user":{"a":2,"b":2}}"#).unwrap());
        assert_eq!(
            of_fields(&["/user/id"], r#"{"user":{"id":7,"name":"a"}}"#).unwrap(),
            of_fields(&["/user/id"], r#"{"user":{"id":7,"name":"b"}}"#).unwrap()
        );
        // A field is told from a key with its text, and a number from its digits.
        let digits = of_fields(&["a"], r#"{"a":"7"}"#).unwrap();
        assert_ne!(digits, of_fields(&["a"], r#"{"a":7}"#).unwrap());
        assert_ne!(digits, of_text("7").unwrap());
        // The order in which fields are named does not matter.
        let both = r#"{"a":1,"b":2}"#;
        assert_eq!(of_fields(&["a", "b"], both).unwrap(), of_fields(&["b", "a"], both).unwrap());
        // Where one value ends and the next begins.
        let pair = |a: &str, b: &str| of_fields(&["a", "b"], &format!(r#"{{"a":{a},"b":{b}}}"#));
        assert_ne!(pair("1", "11").unwrap(), pair("11", "1").unwrap());
    }

    #[test]
    fn a_key_that_cannot_be_is_refused_without_quoting_the_payload() {
        for (found, expected) in [
            (of_text(" "), "unique key: expected a text, found a blank"),
            (of_text(&"x".repeat(1025)), "unique key: expected at most 1024 bytes, found 1025"),
            (of_fields(&[], "{}"), "unique_by: expected 1 to 16 fields, found 0"),
            (of_fields(&["a"; 17], "{}"), "unique_by: expected 1 to 16 fields, found 17"),
            (of_fields(&[""], "{}"), "unique_by: expected a text, found a blank"),
            (
                of_fields(&["user"], r#"{"pin":1234}"#),
                r#"unique_by: expected field "user" in the payload of "mail", found none"#,
            ),
            (
                of_fields(&["id"], r#"{"id":[340282366920938463463374607431768211455]}"#),
                "unique_by: expected numbers below 2^64 in field \"id\" of \"mail\", found one \
                 that is only known approximately; give it as text, or use unique_key",
            ),
            (
                of_fields(&["user"], "no json"),
                r#"unique_by: expected field "user" in the payload of "mail", found none"#,
            ),
        ] {
            let error = found.unwrap_err();
            assert!(error.is_invalid());
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn each_end_has_a_name() {
        for until in [Until::Start, Until::Success, Until::Expiry] {
            assert_eq!(Until::parse(until.as_str()), Some(until));
        }
        assert_eq!(Until::parse("never"), None);
    }
}
