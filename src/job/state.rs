//! The states a stored job can be in.
//!
//! | State | Becomes |
//! |---|---|
//! | pending | active, when a worker dequeues it |
//! | active | completed, retry or archived; pending after a shutdown or a lost worker; or removed |
//! | scheduled, retry | pending when due, or aggregating if it has a group |
//! | aggregating | removed, when its group has become one job |
//! | completed | removed, after its retention |
//! | archived | removed, when it is too old or the archive is full |
//!
//! An operator can run, archive, delete or reschedule a job that is not active;
//! `Action::permits` says which of it applies to which state.

use std::fmt;

use serde::Serialize;

/// The state of a stored job. The names are Asynq's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueJobState"))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobState {
    /// Waits for a free worker.
    Pending,
    /// Runs.
    Active,
    /// Waits for its due time.
    Scheduled,
    /// Failed, and waits for its next attempt.
    Retry,
    /// Failed for good, and kept so that a person can examine it.
    Archived,
    /// Succeeded, and kept for its retention.
    Completed,
    /// Waits in a group to be aggregated.
    Aggregating,
}

impl JobState {
    /// Every state, in the order of a job's life.
    pub const ALL: [JobState; 7] = [
        JobState::Pending,
        JobState::Active,
        JobState::Scheduled,
        JobState::Retry,
        JobState::Archived,
        JobState::Completed,
        JobState::Aggregating,
    ];

    /// Whether a job in this state has not started yet, and can be too late to do so.
    pub(crate) const fn may_expire(self) -> bool {
        matches!(self, JobState::Pending | JobState::Scheduled)
    }

    /// The name that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            JobState::Pending => "pending",
            JobState::Active => "active",
            JobState::Scheduled => "scheduled",
            JobState::Retry => "retry",
            JobState::Archived => "archived",
            JobState::Completed => "completed",
            JobState::Aggregating => "aggregating",
        }
    }

    /// The state of a stored name; `None` if it is not one.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
