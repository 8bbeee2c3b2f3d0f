//! Names that are checked once, where they enter.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;

const MAX_ID: usize = 512;
const MAX_QUEUE: usize = 128;

/// Text that every reader, key and log line can hold.
fn plain_text(what: &str, text: &str) -> Result<(), Error> {
    if text.trim().is_empty() {
        return Err(Error::invalid(format!("{what}: expected text, found a blank")));
    }
    if text.len() > MAX_ID {
        let found = text.len();
        return Err(Error::invalid(format!(
            "{what}: expected at most {MAX_ID} bytes, found {found}"
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

/// The job that stands in the way of another; the source of that error.
#[derive(Debug, thiserror::Error)]
#[error("held by job {0}")]
struct Holder(JobId);

impl Error {
    /// The job that has the unique lock, where [`Error::is_duplicate`].
    pub fn holder(&self) -> Option<&JobId> {
        std::error::Error::source(self)?.downcast_ref::<Holder>().map(|holder| &holder.0)
    }

    /// Names the job that has the lock.
    pub(crate) fn held_by(self, holder: JobId) -> Self {
        self.caused_by(Holder(holder))
    }
}

/// A job's id, unique within its queue. By default a random UUID (version 4),
/// as Asynq makes them; an application may give its own.
///
/// Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(Arc<str>);

impl JobId {
    /// A new random id.
    pub fn random() -> Self {
        let mut text = uuid::Uuid::encode_buffer();
        Self(Arc::from(&*uuid::Uuid::new_v4().hyphenated().encode_lower(&mut text)))
    }

    /// An id of the application's own: not blank, at most 512 bytes, no
    /// control characters.
    ///
    /// # Errors
    /// [`Error::is_invalid`] that says which rule is broken.
    pub fn new(id: impl AsRef<str>) -> Result<Self, Error> {
        let id = id.as_ref();
        plain_text("job id", id)?;
        Ok(Self(Arc::from(id)))
    }

    /// An id that a store gave us: taken as it is.
    pub(crate) fn stored(id: &str) -> Self {
        Self(Arc::from(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a queue: `[A-Za-z0-9_.:-]`, 1 to 128 characters, case-sensitive.
///
/// Asynq takes any text; these characters are those that keep every reader,
/// URL and Redis Cluster slot working. Cloning is cheap.
///
/// ```
/// use rocket_jobqueue::QueueName;
///
/// assert_eq!(QueueName::new("mail").unwrap().as_str(), "mail");
/// assert!(QueueName::new("a}b").is_err());
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
        if name.is_empty() || name.len() > MAX_QUEUE || !name.chars().all(allowed) {
            let shown: String = name.chars().take(MAX_QUEUE).collect();
            return Err(Error::invalid(format!(
                "queue name: expected 1 to {MAX_QUEUE} of A-Z a-z 0-9 _ . : -, found {shown:?}"
            )));
        }
        Ok(Self(Arc::from(name)))
    }

    /// A name that a store gave us: taken as it is.
    pub(crate) fn stored(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_like {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
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
