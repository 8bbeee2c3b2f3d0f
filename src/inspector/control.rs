//! Cancelling jobs in flight.

use super::Inspector;
use crate::broker::{Acted, Action, CancelAnswer};
use crate::error::Error;
use crate::job::{AfterCancel, JobId, JobState, QueueName};

/// Maximum attempts to cancel a job that keeps changing its state.
const MAX_ATTEMPTS: usize = 10;

/// The result of [`Inspector::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cancelled {
    /// The job runs, and its cancellation was requested. Its worker gets the request at once
    /// or with its next heartbeat, within 5 s.
    Requested,
    /// The job was waiting, and was archived or deleted.
    Done,
    /// The job does not run, and nothing was done: it is waiting for an attempt, or it has
    /// ended.
    NotRunning(JobState),
}

impl Inspector {
    /// Cancels the attempt of a job in flight; `after` says what happens to the job then. A
    /// job that waits is archived or deleted at once.
    ///
    /// The cancel request is stored with the job, so it is carried out even if the worker
    /// misses it, stops or dies; a second request replaces it. The handler's future is
    /// dropped, and its [`JobContext`](crate::JobContext) reports
    /// [`CancelReason::Operator`](crate::handler::CancelReason::Operator). A job that succeeds before
    /// the request reaches it has succeeded.
    ///
    /// A Go worker only knows [`AfterCancel::Retry`]: it retries the job in any case, and the
    /// next worker of this crate that dequeues it carries the request out. As in Asynq the
    /// request names only an id: a Go worker cancels jobs with this id in all queues, and
    /// workers of this crate may, unless their application has a
    /// [namespace](crate::JobQueueFairing::namespace).
    ///
    /// One script, O(1), for a running job; another one for one that waits.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such job; errors of the store.
    pub async fn cancel(
        &self,
        queue: &QueueName,
        id: &JobId,
        after: AfterCancel,
    ) -> Result<Cancelled, Error> {
        let missing = || Error::not_found(format!("queue {queue:?} has no job {id:?}"));
        let mut last = JobState::Active;
        for _ in 0..MAX_ATTEMPTS {
            let state = match self.broker.cancel(queue, id, after).await? {
                CancelAnswer::Requested => return Ok(Cancelled::Requested),
                CancelAnswer::Missing => return Err(missing()),
                CancelAnswer::NotRunning(state) => state,
            };
            let action = match (after, state) {
                (AfterCancel::Retry, _) | (_, JobState::Archived | JobState::Completed) => {
                    return Ok(Cancelled::NotRunning(state));
                }
                (AfterCancel::Archive, _) => Action::Archive,
                (AfterCancel::Delete, _) => Action::Delete,
            };
            match self.broker.act(queue, id, action).await? {
                Acted::Done => return Ok(Cancelled::Done),
                Acted::NotFound => return Err(missing()),
                // Its state changed in between.
                Acted::WrongState(state) | Acted::Elsewhere(state) => last = state,
            }
        }
        Ok(Cancelled::NotRunning(last))
    }
}
