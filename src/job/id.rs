//! Job ids and queue names: checked once on input, trusted from then on.
//!
//! A value gets in by one of three ways, which differ in what they check:
//!
//! | Way | For | Checks |
//! |---|---|---|
//! | `new` | what this application chooses | all rules |
//! | `parse` | a printable form, from a URL or a form | only that it is not empty or huge |
//! | `stored` | what the store returned | nothing |
//!
//! So a job that another program stored under a strange name can be shown, cancelled and
//! deleted, but this application cannot create one. Once a value exists, nothing checks it
//! again.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use super::printable::{from_printable, printable};
use crate::error::Error;

/// Maximum bytes of an id that the application chooses.
const MAX_ID_BYTES: usize = 512;
/// Maximum length of an id or a queue's name that another program stored: its printable form must
/// fit into a URL.
const MAX_STORED_BYTES: usize = 64 * 1024;
/// Maximum characters of a queue name. All are ASCII, so bytes are the same.
pub(super) const MAX_QUEUE_BYTES: usize = 128;

/// Refuses text that some reader, key or log line cannot hold. `what` names it in the error.
fn plain_text(what: &str, text: &str) -> Result<(), Error> {
    if text.trim().is_empty() {
        return Err(Error::invalid(format!("{what}: expected text, found a blank")));
    }
    if text.len() > MAX_ID_BYTES {
        let found = text.len();
        return Err(Error::invalid(format!(
            "{what}: expected at most {MAX_ID_BYTES} bytes, found {found}"
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{what}: expected no control characters, found one")));
    }
    Ok(())
}

/// Checks the name of a group: the same rules as for an id.
pub(crate) fn check_group(name: &str) -> Result<(), Error> {
    plain_text("group", name)
}

/// The source of a "duplicate" error: the job that holds the unique lock.
#[derive(Debug, thiserror::Error)]
#[error("held by job {0}")]
struct Holder(JobId);

impl Error {
    /// The job that has the unique lock, if [`Error::is_duplicate`].
    pub fn holder(&self) -> Option<&JobId> {
        self.cause::<Holder>().map(|holder| &holder.0)
    }

    /// Names the job that has the lock.
    pub(crate) fn held_by(self, holder: JobId) -> Self {
        self.caused_by(Holder(holder))
    }
}

/// A job's id, unique within its queue. By default a random UUID (version 4),
/// as Asynq makes them; an application may give its own.
///
/// An id is bytes: what other programs put into the store need not be text. It has
/// one printable form, which REST, pages and logs show and take: text as it is,
/// except that bytes that are not UTF-8, control characters and `%` are written as
/// `%` and two hexadecimal digits. Cloning is cheap.
///
/// ```
/// use rocket_jobqueue::JobId;
///
/// assert_eq!(JobId::new("order/17").unwrap().to_string(), "order/17");
/// let foreign: JobId = "%FF%0A-17".parse().unwrap();
/// assert_eq!(foreign.as_bytes(), b"\xff\n-17");
/// assert_eq!(foreign.to_string(), "%FF%0A-17");
/// ```
#[derive(Clone)]
pub struct JobId(IdForm);

/// The two forms of an id in memory.
#[derive(Clone)]
enum IdForm {
    /// The bytes are their own printable form.
    Text(Arc<str>),
    /// They are not: both forms are kept, because both are needed often.
    Bytes(Arc<Unprintable>),
}

/// An id whose printable form differs from its bytes.
struct Unprintable {
    bytes: Box<[u8]>,
    printable: Box<str>,
}

impl JobId {
    /// A new random id.
    pub fn random() -> Self {
        let mut text = uuid::Uuid::encode_buffer();
        let text: &str = crate::chance::uuid().hyphenated().encode_lower(&mut text);
        Self(IdForm::Text(Arc::from(text)))
    }

    /// An id of the application's own, taken literally: not blank, at most 512
    /// bytes, no control characters. A `%` is one like any other character; the
    /// printable form shows it as `%25`.
    ///
    /// # Errors
    /// [`Error::is_invalid`] that says which rule is broken.
    pub fn new(id: impl AsRef<str>) -> Result<Self, Error> {
        let id = id.as_ref();
        plain_text("job id", id)?;
        Ok(Self::stored(id))
    }

    /// An id that a store gave us: taken as it is.
    pub(crate) fn stored(id: impl AsRef<[u8]>) -> Self {
        let id = id.as_ref();
        match (printable(id), std::str::from_utf8(id)) {
            (None, Ok(text)) => Self(IdForm::Text(Arc::from(text))),
            (form, _) => Self(IdForm::Bytes(Arc::new(Unprintable {
                bytes: id.into(),
                printable: form.unwrap_or_default().into(),
            }))),
        }
    }

    /// The printable form.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            IdForm::Text(text) => text,
            IdForm::Bytes(id) => &id.printable,
        }
    }

    fn printable(&self) -> &str {
        self.as_str()
    }

    /// The id itself.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            IdForm::Text(text) => text.as_bytes(),
            IdForm::Bytes(id) => &id.bytes,
        }
    }
}

/// The bytes of a printable form. Characters that it escapes may also be given literally, so
/// what an operator typed and what a page linked are the same id.
fn stored_bytes(what: &str, form: &str) -> Result<Vec<u8>, Error> {
    let bytes = from_printable(form);
    match bytes.len() {
        0 => Err(Error::invalid(format!("{what}: expected text, found nothing"))),
        1..=MAX_STORED_BYTES => Ok(bytes),
        found => Err(Error::invalid(format!(
            "{what}: expected at most {MAX_STORED_BYTES} bytes, found {found}"
        ))),
    }
}

/// Reads the printable form.
///
/// # Errors
/// [`Error::is_invalid`] if it is empty or longer than 64 KiB.
impl FromStr for JobId {
    type Err = Error;

    fn from_str(form: &str) -> Result<Self, Error> {
        Ok(Self::stored(stored_bytes("job id", form)?))
    }
}

impl PartialEq for JobId {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for JobId {}

impl Hash for JobId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Ord for JobId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for JobId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The name of a queue: `[A-Za-z0-9_.:-]`, 1 to 128 characters, case-sensitive.
///
/// Asynq accepts any text; these characters work in every reader, URL and Redis
/// Cluster slot. A queue that another program has named otherwise can still be
/// inspected, changed and deleted: such a name is parsed from its printable form, the
/// same as for [`JobId`]. Cloning is cheap.
///
/// ```
/// use rocket_jobqueue::QueueName;
///
/// assert_eq!(QueueName::new("mail").unwrap().as_str(), "mail");
/// assert!(QueueName::new("a}b").is_err());
/// let foreign: QueueName = "a}b%0A".parse().unwrap();
/// assert_eq!((foreign.as_str(), foreign.to_string().as_str()), ("a}b\n", "a}b%0A"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(Arc<str>);

impl QueueName {
    /// Checks the name.
    ///
    /// # Errors
    /// [`Error::is_invalid`] with the expected form and the found name.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Error> {
        let name = name.as_ref();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
        if name.is_empty() || name.len() > MAX_QUEUE_BYTES || !name.chars().all(allowed) {
            let shown: String = name.chars().take(MAX_QUEUE_BYTES).collect();
            return Err(Error::invalid(format!(
                "queue name: expected 1 to {MAX_QUEUE_BYTES} of A-Z a-z 0-9 _ . : -, found {shown:?}"
            )));
        }
        Ok(Self(Arc::from(name)))
    }

    /// A name that a store gave us: taken as it is.
    pub(crate) fn stored(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name itself, as it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The printable form.
    pub(crate) fn printable(&self) -> Cow<'_, str> {
        printable(self.0.as_bytes()).map_or(Cow::Borrowed(&self.0), Cow::Owned)
    }
}

/// Reads the printable form of any queue's name, also of one that
/// [`new`](QueueName::new) refuses.
///
/// # Errors
/// [`Error::is_invalid`] if it is empty, longer than 64 KiB or not UTF-8.
impl FromStr for QueueName {
    type Err = Error;

    fn from_str(form: &str) -> Result<Self, Error> {
        let bytes = stored_bytes("queue name", form)?;
        match String::from_utf8(bytes) {
            Ok(name) => Ok(Self::stored(&name)),
            Err(_) => Err(Error::invalid("queue name: expected UTF-8, found other bytes")),
        }
    }
}

/// Shows, logs and serializes an id or a name in its printable form.
macro_rules! text_like {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.printable())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.printable(), f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.printable())
            }
        }
    };
}

text_like!(JobId);
text_like!(QueueName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_id_has_asynqs_form() {
        let id = JobId::random();
        assert_eq!(id.as_str().len(), 36);
        assert_eq!(id.as_str().split('-').count(), 5);
        assert_eq!(id.as_str(), id.as_str().to_lowercase());
    }

    #[test]
    fn an_id_is_its_bytes_whatever_its_printable_form() {
        let (literal, escaped) = (JobId::new("%41").unwrap(), "%2541".parse().unwrap());
        assert_eq!(literal, escaped);
        assert_eq!((literal.as_bytes(), literal.as_str()), (&b"%41"[..], "%2541"));
        assert_ne!(literal, JobId::new("A").unwrap());
        let mut ids = [b"b".as_slice(), b"\xff", b"%", b"", b" ", b"a"].map(JobId::stored);
        ids.sort();
        let sorted: Vec<&str> = ids.iter().map(JobId::as_str).collect();
        assert_eq!(sorted, ["", "%20", "%25", "a", "b", "%FF"]);
        for id in &ids[1..] {
            assert_eq!(id.as_str().parse::<JobId>().unwrap(), *id);
        }
        // An address may carry the id itself.
        assert_eq!("a\nb".parse::<JobId>().unwrap(), "a%0Ab".parse().unwrap());
        for bad in ["", &"%FF".repeat(64 * 1024 + 1)] {
            assert!(bad.parse::<JobId>().unwrap_err().is_invalid(), "{bad:?}");
        }
    }

    #[test]
    fn any_queue_that_another_program_named_can_be_named() {
        for (name, form) in [
            ("mail", "mail"),
            ("日本 {x}", "日本 {x}"),
            ("a\tb\u{202e}", "a%09b%E2%80%AE"),
            ("50%", "50%25"),
            ("..", "%2E%2E"),
            (" ", "%20"),
        ] {
            let named: QueueName = form.parse().unwrap();
            assert_eq!((named.as_str(), named.to_string().as_str()), (name, form));
            assert_eq!(serde_json::to_value(&named).unwrap(), form);
        }
        for bad in ["", "%FF"] {
            assert!(bad.parse::<QueueName>().unwrap_err().is_invalid(), "{bad:?}");
        }
    }

    #[test]
    fn names_outside_their_domain_are_refused_with_what_was_found() {
        for bad in ["", " ", "a b", "a}b", "{x}", "a/b", "q\r\n", "ü", &"x".repeat(129)] {
            let error = QueueName::new(bad).unwrap_err();
            assert!(error.is_invalid() && error.to_string().contains("found"), "{bad:?}: {error}");
        }
        for bad in ["", " \t", "a\nb", &"x".repeat(513)] {
            assert!(JobId::new(bad).unwrap_err().is_invalid(), "{bad:?}");
        }
    }
}
