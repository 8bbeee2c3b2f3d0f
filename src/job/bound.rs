//! How many jobs may wait in a queue, and what happens to one more.

use serde::Serialize;

use crate::error::Error;
use crate::job::JobId;

/// The most jobs that wait in a queue: `jobqueue.max_waiting.<queue>`, or
/// [`JobQueueFairing::max_waiting`](crate::JobQueueFairing::max_waiting).
///
/// Pending and scheduled jobs wait, and those that wait for a retry. Jobs that run, and those in a
/// group, do not count. The bound holds for what this process enqueues: each process that has it
/// passes it along, and one that has none is not bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MaxWaiting {
    /// How many, at least 1.
    pub jobs: u32,
    /// What happens to one more.
    pub when_full: WhenFull,
}

impl MaxWaiting {
    /// Refuses further jobs.
    pub const fn refuse(jobs: u32) -> Self {
        Self { jobs, when_full: WhenFull::Refuse }
    }

    /// Archives the oldest waiting job for each further one.
    pub const fn drop_oldest(jobs: u32) -> Self {
        Self { jobs, when_full: WhenFull::DropOldest }
    }
}

/// What happens to a new job if its queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WhenFull {
    /// It is refused: [`Error::is_queue_full`](crate::Error::is_queue_full).
    #[default]
    Refuse,
    /// It is stored, and the job that waits longest (the next pending one or one that waits for a
    /// limit, whichever became due first; else the scheduled one that is due first) is archived with
    /// the error `displaced`, without an attempt. Nothing is deleted.
    DropOldest,
}

impl WhenFull {
    /// Its name in configuration and scripts.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::DropOldest => "drop_oldest",
        }
    }
}

/// The error of a job that was archived to make room for a newer one. The scripts in Redis write
/// the same.
pub(crate) const DISPLACED: &str = "displaced";

/// Maximum jobs that one new job displaces: more than one if the bound was lowered.
pub(crate) const MAX_DISPLACED: usize = 10;

/// The job that a full queue refused; the source of that error.
#[derive(Debug, thiserror::Error)]
#[error("job {id} was refused")]
pub(crate) struct RefusedByBound {
    /// The job.
    pub id: JobId,
    /// How many may wait.
    pub jobs: u32,
}

impl Error {
    /// Names the job that was refused, for explanations.
    pub(crate) fn refusing(self, id: JobId, jobs: u32) -> Self {
        self.caused_by(RefusedByBound { id, jobs })
    }
}
