//! The error of a handler: the failure and its consequence.
//!
//! A handler says with its error what should happen to the job; [`decide`](super::decide) turns
//! that into what the store does. Which errors are worth another attempt is known to the
//! handler only, so the default is the safe one: whatever `?` returns is tried again.

use std::fmt::Display;
use std::time::Duration;

use crate::time::Timestamp;

/// Maximum recorded text of a failure, in bytes. It is stored with the job and
/// read by every list that shows it.
const MAX_TEXT_BYTES: usize = 8 * 1024;

/// Why a handler failed, and what to do with the job.
///
/// Anything that can be displayed becomes an ordinary failure through `?` or
/// `.into()`; the constructors say more. Like `anyhow::Error`, it does not
/// implement `Display` itself, so that the conversion can be general.
///
/// | constructor | what happens | an attempt is counted |
/// | --- | --- | --- |
/// | [`failed`](Self::failed), `?` | tried again by the retry policy | yes |
/// | [`retry_in`](Self::retry_in), [`retry_at`](Self::retry_at) | tried again then | yes |
/// | one of these, [`uncounted`](Self::uncounted) | the same, however often | no |
/// | [`give_up`](Self::give_up) | archived at once | yes, as failed |
/// | [`revoke`](Self::revoke) | removed | yes, as processed |
/// | [`snooze`](Self::snooze), [`snooze_until`](Self::snooze_until) | runs again then | no |
///
/// A counted failure of a job whose retries are used up archives it. The text is
/// stored with the job and shown to operators: keep payloads and secrets out of
/// it. It is cut after 8 KiB.
///
/// ```
/// use rocket_jobqueue::JobError;
///
/// fn parse(text: &str) -> Result<u32, JobError> {
///     let n: u32 = text.parse()?; // an ordinary failure: tried again
///     if n == 0 {
///         return Err(JobError::give_up("zero will never work"));
///     }
///     Ok(n)
/// }
/// assert!(parse("x").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobError(pub(crate) Reason);

/// The kinds of a [`JobError`]. Private to the crate, so that more can be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Failed {
        /// At most [`MAX_TEXT_BYTES`] and an ellipsis.
        text: String,
        /// `None` asks the retry policy.
        again: Option<When>,
        /// False after [`JobError::uncounted`].
        counted: bool,
    },
    GiveUp(String),
    Revoke,
    Snooze(When),
}

/// When a job is to run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    After(Duration),
    At(Timestamp),
}

impl When {
    /// How long that is from now; an instant that has passed is at once.
    pub(crate) fn after(self, now: Timestamp) -> Duration {
        match self {
            When::After(delay) => delay,
            When::At(instant) => instant.since(now),
        }
    }
}

impl JobError {
    /// An ordinary failure: counted, and tried again by the retry policy.
    pub fn failed(error: impl Display) -> Self {
        Self(Reason::Failed { text: recorded(error), again: None, counted: true })
    }

    /// A failure, counted, that is tried again after `delay`.
    pub fn retry_in(delay: Duration, error: impl Display) -> Self {
        let again = Some(When::After(delay));
        Self(Reason::Failed { text: recorded(error), again, counted: true })
    }

    /// A failure, counted, that is tried again at an instant, such as the one of an API's
    /// `Retry-After`; at once if it has passed.
    pub fn retry_at(instant: impl Into<Timestamp>, error: impl Display) -> Self {
        let again = Some(When::At(instant.into()));
        Self(Reason::Failed { text: recorded(error), again, counted: true })
    }

    /// The same failure without counting an attempt: the job is tried again
    /// however many retries it had, and its text is recorded. For
    /// temporary conditions outside the job, such as maintenance of a service it
    /// uses. A job that must not wait for ever needs a deadline.
    ///
    /// No effect on `give_up`, `revoke` and `snooze`.
    ///
    /// ```
    /// use rocket_jobqueue::JobError;
    ///
    /// let busy = JobError::failed("the printer is busy").uncounted();
    /// assert!(!busy.is_counted());
    /// assert_eq!(busy.text(), Some("the printer is busy"));
    /// ```
    #[must_use = "the error is changed and returned"]
    pub fn uncounted(mut self) -> Self {
        if let Reason::Failed { counted, .. } = &mut self.0 {
            *counted = false;
        }
        self
    }

    /// No further attempt makes sense: archived at once.
    pub fn give_up(error: impl Display) -> Self {
        Self(Reason::GiveUp(recorded(error)))
    }

    /// The job has become pointless: removed, neither failed nor kept.
    pub fn revoke() -> Self {
        Self(Reason::Revoke)
    }

    /// Not now: runs again after `delay`, and no attempt is counted.
    pub fn snooze(delay: Duration) -> Self {
        Self(Reason::Snooze(When::After(delay)))
    }

    /// Not now: runs again at an instant, and no attempt is counted.
    pub fn snooze_until(instant: impl Into<Timestamp>) -> Self {
        Self(Reason::Snooze(When::At(instant.into())))
    }

    /// The recorded text; `None` for a snooze and a revocation.
    pub fn text(&self) -> Option<&str> {
        match &self.0 {
            Reason::Failed { text, .. } | Reason::GiveUp(text) => Some(text),
            Reason::Revoke | Reason::Snooze(_) => None,
        }
    }

    /// Whether it counts as a failed attempt.
    pub fn is_counted(&self) -> bool {
        matches!(self.0, Reason::Failed { counted: true, .. } | Reason::GiveUp(_))
    }

    /// Whether no further attempt is wanted: given up or revoked.
    pub fn is_final(&self) -> bool {
        matches!(self.0, Reason::GiveUp(_) | Reason::Revoke)
    }

    /// Whether the job is snoozed.
    pub fn is_snooze(&self) -> bool {
        matches!(self.0, Reason::Snooze(_))
    }
}

impl<E: Display> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::failed(error)
    }
}

/// The text as it is stored: cut at the end of a character, with an ellipsis if it was too
/// long.
fn recorded(error: impl Display) -> String {
    let mut text = error.to_string();
    if text.len() > MAX_TEXT_BYTES {
        let whole = (0..=MAX_TEXT_BYTES).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(whole.unwrap_or(0));
        text.push('…');
    }
    text
}

/// The recorded text of a failure, for tests of handlers inside the crate.
#[cfg(test)]
pub(crate) fn text(error: JobError) -> String {
    error.text().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_text_is_cut_between_two_characters() {
        let error = JobError::failed("é".repeat(MAX_TEXT_BYTES));
        assert_eq!(error.text().unwrap().chars().count(), MAX_TEXT_BYTES / 2 + 1);
    }

    #[test]
    fn only_a_failure_can_be_left_uncounted() {
        let delay = Duration::from_secs(1);
        assert!(!JobError::retry_in(delay, "x").uncounted().is_counted());
        assert_eq!(JobError::give_up("x").uncounted(), JobError::give_up("x"));
        assert_eq!(JobError::snooze(delay).uncounted(), JobError::snooze(delay));
    }
}
