//! The progress that a running job reports.

use serde::{Deserialize, Serialize};

/// Maximum message in bytes; longer ones are cut.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1024;

/// How far a job is, as its handler reports it: a count, a sentence,
/// or both.
///
/// ```
/// use rocket_jobqueue::Progress;
///
/// let progress = Progress::new(3, 10).message("three of ten files");
/// assert_eq!(progress.percent(), Some(30));
/// assert_eq!(Progress::from("uploading").percent(), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueProgress"))]
#[non_exhaustive]
pub struct Progress {
    /// How much is done.
    #[serde(default)]
    pub done: u64,
    /// The total; 0 if it is not known.
    #[serde(default)]
    pub total: u64,
    /// A sentence for people, at most 1 KiB; empty if there is none.
    #[serde(default)]
    pub message: String,
}

impl Progress {
    /// Progress as a count: `done` of `total`.
    pub fn new(done: u64, total: u64) -> Self {
        Self { done, total, message: String::new() }
    }

    /// The same with a sentence for people, cut after 1 KiB. Operators see it:
    /// keep secrets out of it.
    #[must_use = "the progress is changed and returned"]
    pub fn message(mut self, text: impl Into<String>) -> Self {
        let mut text = text.into();
        let whole = (0..=MAX_MESSAGE_BYTES).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(whole.unwrap_or(0).min(text.len()));
        self.message = text;
        self
    }

    /// Whole per cent, at most 100; `None` if the total is not known.
    pub fn percent(&self) -> Option<u8> {
        let percent = u128::from(self.done.min(self.total)) * 100 / u128::from(self.total.max(1));
        u8::try_from(percent).ok().filter(|_| self.total > 0)
    }
}

impl From<(u64, u64)> for Progress {
    fn from((done, total): (u64, u64)) -> Self {
        Self::new(done, total)
    }
}

impl From<&str> for Progress {
    fn from(message: &str) -> Self {
        Self::default().message(message)
    }
}

impl From<String> for Progress {
    fn from(message: String) -> Self {
        Self::default().message(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let long = "é".repeat(600);
        assert_eq!(Progress::from(long.as_str()).message.chars().count(), 512);
        assert_eq!(Progress::from(format!("x{long}").as_str()).message.len(), 1023);
        assert_eq!(Progress::from("short").message, "short");
    }

    #[test]
    fn more_than_all_is_all() {
        assert_eq!(Progress::new(u64::MAX, 7).percent(), Some(100));
        assert_eq!(Progress::new(u64::MAX - 1, u64::MAX).percent(), Some(99));
        assert_eq!(Progress::new(1, 0).percent(), None);
    }
}
