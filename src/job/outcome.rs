//! What happened to an attempt, and the choices that its outcome leaves to settings and operators.

use std::time::Duration;

use super::{JobError, Transition};

/// The text that Asynq records for a job that was cancelled.
pub(super) const CANCELLED: &str = "context canceled";

/// What happened to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler succeeded, perhaps with a result to keep.
    Done(Option<Vec<u8>>),
    /// The handler returned an error.
    Failed(JobError),
    /// The handler panicked with this message.
    Panicked(String),
    /// The time limit of the attempt passed.
    TimedOut,
    /// The job's absolute deadline had passed, before or while it ran.
    DeadlinePassed,
    /// No handler is registered for its type in this process.
    Unknown(UnknownJobs),
    /// The payload could not be decoded, and the job is to be parked.
    Undecodable(String),
    /// The application stops, and the attempt did not end within the shutdown timeout.
    Interrupted,
    /// Cancelled by an operator.
    Cancelled(AfterCancel),
    /// The worker that ran it vanished.
    LeaseLost {
        /// How often that had happened to this job before.
        losses: u32,
        /// What the loss says about the job.
        charge: Charge,
    },
    /// Dequeued but not started; pending again after this delay.
    NotStarted(Duration),
}

/// What the death of its worker says about a job in flight there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Charge {
    /// The job may be the cause, like every other in flight there.
    #[default]
    Possible,
    /// It was the one suspect that had started.
    Proven,
    /// None: a suspect had started beside it, or it had not started.
    Cleared,
}

/// What happens to a job without a handler in the process that dequeued it;
/// configured as `jobqueue.unknown_jobs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownJobs {
    /// It waits 15 s and becomes pending again, without counting an attempt: while a new
    /// version is rolled out, some process has a handler for the type.
    #[default]
    Park,
    /// The job is archived at once, for an operator to inspect.
    Archive,
}

/// What happens to a job whose payload the handler of its type cannot decode, because another
/// version of the application wrote it; configured as `jobqueue.undecodable_jobs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UndecodableJobs {
    /// It waits 15 s and becomes pending again, without counting an attempt, for at most an hour:
    /// while a new version is rolled out, some process can decode it. Then it is archived, with
    /// what was expected and what was found.
    #[default]
    Park,
    /// A failed attempt, tried again by the retry policy.
    Fail,
}

/// What happens to a job whose attempt an operator cancels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAfterCancel"))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AfterCancel {
    /// A failed attempt, counted, as every cancellation is in Asynq: tried again by
    /// the retry policy, archived if the retries are used up.
    Retry,
    /// Archived, so that a person can examine it.
    Archive,
    /// Removed.
    Delete,
}

impl AfterCancel {
    /// The transition of a cancelled job whose attempt would otherwise have ended as `instead`.
    pub(crate) fn carried_out(self, instead: &Transition) -> Transition {
        match self {
            Self::Retry => instead.clone(),
            Self::Archive => {
                Transition::Archive { error: instead.error().unwrap_or(CANCELLED).to_owned() }
            }
            Self::Delete => Transition::Revoke,
        }
    }

    /// Its stored form.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Archive => "archive",
            Self::Delete => "delete",
        }
    }

    /// The value of a stored form.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Retry, Self::Archive, Self::Delete].into_iter().find(|one| one.as_str() == word)
    }
}
