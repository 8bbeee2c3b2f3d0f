//! What a handler says about an attempt that did not succeed.

use std::fmt::Display;
use std::time::Duration;

/// A handler's word about a job that did not succeed.
///
/// Anything that can be displayed becomes an ordinary failure through `?` or
/// `.into()`; the constructors say more. Like `anyhow::Error`, it does not
/// implement `Display` itself, so that the conversion can be general.
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Failed(String),
    RetryIn(Duration, String),
    GiveUp(String),
    Revoke,
    Snooze(Duration),
}

impl JobError {
    /// An ordinary failure: counted, and tried again by the retry policy.
    pub fn failed(error: impl Display) -> Self {
        Self(Reason::Failed(error.to_string()))
    }

    /// A failure, counted, that is tried again after `delay`.
    pub fn retry_in(delay: Duration, error: impl Display) -> Self {
        Self(Reason::RetryIn(delay, error.to_string()))
    }

    /// No further attempt makes sense: archived at once.
    pub fn give_up(error: impl Display) -> Self {
        Self(Reason::GiveUp(error.to_string()))
    }

    /// The job has become pointless: removed, neither failed nor kept.
    pub fn revoke() -> Self {
        Self(Reason::Revoke)
    }

    /// Not now: runs again after `delay`, and no attempt is counted.
    pub fn snooze(delay: Duration) -> Self {
        Self(Reason::Snooze(delay))
    }
}

impl<E: Display> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::failed(error)
    }
}

/// The recorded text of a failure, for tests of handlers inside the crate.
#[cfg(test)]
pub(crate) fn text(error: JobError) -> String {
    match error.0 {
        Reason::Failed(text) | Reason::RetryIn(_, text) | Reason::GiveUp(text) => text,
        Reason::Revoke | Reason::Snooze(_) => String::new(),
    }
}
