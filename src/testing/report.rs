//! The report of a test: which attempts were made, and how each ended.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::job::{Job, JobId, JobRecord, QueueName, Transition};
use crate::time::Timestamp;

/// The attempts that ran while a test moved the clock, in order.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The attempts, in order.
    pub attempts: Vec<Attempt>,
    /// Queues with waiting jobs that this application does not serve (`jobqueue.queues`,
    /// `jobqueue.worker`): they wait until another process serves them.
    pub unserved: Vec<QueueName>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Attempt {
    /// The job as it was before the attempt.
    pub job: JobRecord,
    /// When it began, by the test's clock.
    pub at: Timestamp,
    /// How it ended.
    pub end: AttemptEnd,
}

/// How an attempt ended, and what the queue did with the job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// It succeeded.
    Completed {
        /// What the handler returned, as JSON, unless it was nothing.
        result: Option<Vec<u8>>,
    },
    /// Its handler revoked it: it is not needed any more.
    Revoked,
    /// It failed and waits for another attempt.
    Retry {
        /// When that is due.
        at: Timestamp,
        /// Why.
        error: String,
    },
    /// It was postponed without counting the attempt.
    Postponed {
        /// When it is due again.
        at: Timestamp,
        /// Why; empty if the handler asked for it.
        error: String,
    },
    /// It failed for good and is kept in the archive.
    Archived {
        /// Why.
        error: String,
    },
    /// It became pending again, without counting the attempt.
    Requeued,
    /// Its worker vanished, as the test had requested, or its lease was lost while it ran.
    WorkerLost,
}

impl AttemptEnd {
    /// `None` means that the lease was lost and nothing was written.
    pub(super) fn of(transition: Option<Transition>, now: Timestamp) -> Self {
        match transition {
            None => Self::WorkerLost,
            Some(Transition::Complete { result }) => Self::Completed { result },
            Some(Transition::Revoke) => Self::Revoked,
            Some(Transition::Retry { after, error, counted: true }) => {
                Self::Retry { at: now + after, error }
            }
            Some(Transition::Retry { after, error, counted: false }) => {
                Self::Postponed { at: now + after, error }
            }
            Some(Transition::Archive { error }) => Self::Archived { error },
            Some(Transition::Requeue | Transition::Reclaim { .. } | Transition::PutBack { .. }) => {
                Self::Requeued
            }
        }
    }

    /// Whether it succeeded.
    pub fn is_completed(&self) -> bool {
        matches!(self, Self::Completed { .. })
    }

    /// The error, if it failed.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Retry { error, .. } | Self::Archived { error } => Some(error),
            Self::Completed { .. }
            | Self::Revoked
            | Self::Postponed { .. }
            | Self::Requeued
            | Self::WorkerLost => None,
        }
    }
}

impl Report {
    /// How many attempts there were.
    pub fn len(&self) -> usize {
        self.attempts.len()
    }

    /// Whether nothing ran.
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// The attempts of jobs of one type.
    pub fn of<J: Job>(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|ran| ran.job.job_type == J::TYPE)
    }

    /// The result that the handler returned for this job; `None` if the job did not complete
    /// here, or has no result.
    ///
    /// # Panics
    /// If the result is not a `T`.
    #[track_caller]
    pub fn result<T: DeserializeOwned>(&self, id: &JobId) -> Option<T> {
        let result = self.attempts.iter().find_map(|ran| match &ran.end {
            AttemptEnd::Completed { result } if ran.job.id == *id => result.as_deref(),
            _ => None,
        })?;
        match serde_json::from_slice(result) {
            Ok(value) => Some(value),
            Err(error) => panic!("the result of job {id} is of another type: {error}"),
        }
    }

    /// Fails the test unless all attempts succeeded.
    ///
    /// # Panics
    /// If one did not, with a line for each attempt.
    #[track_caller]
    pub fn assert_completed(&self) {
        assert!(
            self.attempts.iter().all(|ran| ran.end.is_completed()),
            "not all jobs completed:\n{self}"
        );
    }
}

/// A line for each attempt.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Attempt { job, at, end } in &self.attempts {
            let JobRecord { job_type, id, queue, .. } = job;
            let attempt = job.retried.saturating_add(1);
            let end = match end {
                AttemptEnd::Completed { .. } => "completed".to_owned(),
                AttemptEnd::Revoked => "revoked".to_owned(),
                AttemptEnd::Retry { at, error } => format!("failed, again at {at}: {error}"),
                AttemptEnd::Postponed { at, error } if error.is_empty() => {
                    format!("postponed to {at}")
                }
                AttemptEnd::Postponed { at, error } => format!("postponed to {at}: {error}"),
                AttemptEnd::Archived { error } => format!("archived: {error}"),
                AttemptEnd::Requeued => "requeued".to_owned(),
                AttemptEnd::WorkerLost => "lost its worker".to_owned(),
            };
            writeln!(f, "{at} {job_type} {id} in {queue}, attempt {attempt}: {end}")?;
        }
        for queue in &self.unserved {
            writeln!(f, "jobs wait in queue {queue}, which this application does not serve")?;
        }
        Ok(())
    }
}
