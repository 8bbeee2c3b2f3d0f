//! What the store does with a job after an outcome.

use std::time::Duration;

/// What the store does with a job after an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transition {
    /// Counted as processed; kept for its retention with the result, or removed.
    Complete {
        /// What the handler returned, if anything.
        result: Option<Vec<u8>>,
    },
    /// Removed and counted as processed; retention is ignored.
    Revoke,
    /// Waits for another attempt.
    Retry {
        /// How long it waits.
        after: Duration,
        /// Recorded as the last error; empty for a snooze.
        error: String,
        /// Whether it counts as a retry and a failure.
        counted: bool,
    },
    /// Archived, so that a person can examine it.
    Archive {
        /// Recorded as the last error.
        error: String,
    },
    /// Pending again, at the head of the queue, as if it had not been dequeued.
    Requeue,
    /// Pending again with its losses unchanged: nothing is known against it.
    PutBack {
        /// After how long; zero puts it at the head of the queue.
        after: Duration,
        /// The recorded last error; empty if the job was merely not started.
        error: String,
    },
    /// Pending again, at the head of the queue, with the loss of its worker recorded.
    Reclaim {
        /// What is recorded as the last error.
        error: String,
    },
}

impl Transition {
    /// The recorded last error; `None` if nothing failed.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Retry { error, .. }
            | Self::Archive { error }
            | Self::Reclaim { error }
            | Self::PutBack { error, .. } => Some(error.as_str()).filter(|error| !error.is_empty()),
            Self::Complete { .. } | Self::Revoke | Self::Requeue => None,
        }
    }
}
