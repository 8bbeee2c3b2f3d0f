//! The error of a handler: the failure and its consequence.
//!
//! A handler says with its error what should happen to the job; [`decide`](super::decide) turns
//! that into what the store does. Which errors are worth another attempt is known to the
//! handler only, so the default is the safe one: whatever `?` returns is tried again.

use std::time::Duration;

use super::failure_text::{Failure, failure_text};
use crate::time::Timestamp;

/// Why a handler failed, and what to do with the job.
///
/// Every error (`std::error::Error`, `anyhow::Error`, `eyre::Report`) and every text becomes an
/// ordinary failure through `?` or `.into()`; the constructors say more. Like `anyhow::Error`, it
/// implements neither `Display` nor `Error` itself, so that the conversion can be general.
///
/// | constructor | what happens | an attempt is counted |
/// | --- | --- | --- |
/// | [`failed`](Self::failed), `?` | tried again by the retry policy | yes |
/// | [`retry_in`](Self::retry_in), [`retry_at`](Self::retry_at) | tried again then | yes |
/// | one of these, [`uncounted`](Self::uncounted) | the same, however often | no |
/// | [`undecodable`](Self::undecodable) | parked, by `jobqueue.undecodable_jobs` | no |
/// | [`give_up`](Self::give_up) | archived at once | yes, as failed |
/// | [`revoke`](Self::revoke) | removed | yes, as processed |
/// | [`snooze`](Self::snooze), [`snooze_until`](Self::snooze_until) | runs again then | no |
///
/// A counted failure of a job whose retries are used up archives it. The error is recorded with all
/// its causes (`source()`) on one line, and with its backtrace if it carries one, as an `anyhow`
/// error does with `RUST_BACKTRACE=1`. The text is stored with the job and shown to operators: keep
/// payloads and secrets out of it. It is cut after 8 KiB, half of which may be a backtrace.
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
        /// At most 8 KiB; a longer text is cut and ends with an ellipsis.
        text: String,
        /// `None` asks the retry policy.
        again: Option<When>,
        /// False after [`JobError::uncounted`].
        counted: bool,
    },
    GiveUp(String),
    /// The payload does not fit the handler's job type.
    Undecodable(String),
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
    pub fn failed<'a>(error: impl Into<Failure<'a>>) -> Self {
        Self(Reason::Failed { text: recorded(error), again: None, counted: true })
    }

    /// A failure, counted, that is tried again after `delay`.
    pub fn retry_in<'a>(delay: Duration, error: impl Into<Failure<'a>>) -> Self {
        let again = Some(When::After(delay));
        Self(Reason::Failed { text: recorded(error), again, counted: true })
    }

    /// A failure, counted, that is tried again at an instant, such as the one of an API's
    /// `Retry-After`; at once if it has passed.
    pub fn retry_at<'a>(instant: impl Into<Timestamp>, error: impl Into<Failure<'a>>) -> Self {
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
    pub fn give_up<'a>(error: impl Into<Failure<'a>>) -> Self {
        Self(Reason::GiveUp(recorded(error)))
    }

    /// The payload is of another version than this handler. A handler of a typed job need not say
    /// so itself; one that gets bytes ([`handle_raw`](crate::JobQueueFairing::handle_raw)) does.
    /// [`UndecodableJobs`](crate::settings::UndecodableJobs) says what happens to the job.
    pub fn undecodable<'a>(error: impl Into<Failure<'a>>) -> Self {
        Self(Reason::Undecodable(recorded(error)))
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
            Reason::Failed { text, .. } | Reason::GiveUp(text) | Reason::Undecodable(text) => {
                Some(text)
            }
            Reason::Revoke | Reason::Snooze(_) => None,
        }
    }

    /// Whether it counts as a failed attempt. An undecodable payload does only under
    /// [`UndecodableJobs::Fail`](crate::settings::UndecodableJobs::Fail).
    pub fn is_counted(&self) -> bool {
        matches!(self.0, Reason::Failed { counted: true, .. } | Reason::GiveUp(_))
    }

    /// Whether no further attempt is wanted: given up or revoked.
    pub fn is_final(&self) -> bool {
        matches!(self.0, Reason::GiveUp(_) | Reason::Revoke)
    }

    /// Whether the payload could not be decoded.
    pub fn is_undecodable(&self) -> bool {
        matches!(self.0, Reason::Undecodable(_))
    }

    /// Whether the job is snoozed.
    pub fn is_snooze(&self) -> bool {
        matches!(self.0, Reason::Snooze(_))
    }
}

impl<E> From<E> for JobError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn from(error: E) -> Self {
        Self::failed(error)
    }
}

/// The text as it is stored: with all causes, and bounded.
fn recorded<'a>(error: impl Into<Failure<'a>>) -> String {
    failure_text(&error.into())
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
    fn only_a_failure_can_be_left_uncounted() {
        let delay = Duration::from_secs(1);
        assert!(!JobError::retry_in(delay, "x").uncounted().is_counted());
        assert_eq!(JobError::give_up("x").uncounted(), JobError::give_up("x"));
        assert_eq!(JobError::snooze(delay).uncounted(), JobError::snooze(delay));
    }
}
