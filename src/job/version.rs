//! The version of the application, as an operator knows its deploys.
//!
//! It comes from `jobqueue.version`, and stands beside what a process of the application does:
//! its announcement, its failed attempts, the statistics of its job types. Nothing compares two
//! versions: which came first is known by when each was seen first.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;

/// Maximum characters of a version: a tag and a whole Git hash fit.
const MAX_VERSION_BYTES: usize = 64;

/// Which versions there are, for messages.
pub(crate) const EXPECTED_VERSION: &str = "1 to 64 of A-Z a-z 0-9 . _ + - ~ / : @";

/// A version of the application. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppVersion(Arc<str>);

impl AppVersion {
    /// Checks a version.
    ///
    /// # Errors
    /// [`Error::is_invalid`] with the expected form and the found text.
    pub fn new(version: impl AsRef<str>) -> Result<Self, Error> {
        let version = version.as_ref();
        Self::stored(version).ok_or_else(|| {
            let shown: String = version.chars().take(80).collect();
            Error::invalid(format!("version: expected {EXPECTED_VERSION}, found {shown:?}"))
        })
    }

    /// A version that a store holds; `None` for anything else.
    pub(crate) fn stored(version: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._+-~/:@".contains(c);
        let is_one = (1..=MAX_VERSION_BYTES).contains(&version.len());
        (is_one && version.chars().all(allowed)).then(|| Self(version.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AppVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for AppVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_short_word_without_spaces() {
        for text in ["2.4.1", "v1.0.0-rc.1+build.7", "2026-12-01_0310", "main/4f2c@eu:1~x"] {
            assert_eq!(AppVersion::new(text).unwrap().as_str(), text);
        }
        assert!(AppVersion::new("9".repeat(64)).is_ok());
        for text in ["", "2.4 1", "2.4.1\n", "\"2\"", "二", &"9".repeat(65)] {
            let error = AppVersion::new(text).unwrap_err();
            assert!(error.is_invalid() && error.to_string().contains("1 to 64 of"), "{error}");
        }
    }
}
