//! Ending jobs that run.

use super::Inspector;
use crate::broker::{Acted, Action, CancelAnswer};
use crate::error::Error;
use crate::job::{AfterCancel, JobId, JobState, QueueName};

/// How often a job that changes its state meanwhile is looked at anew.
const LOOKS: usize = 10;

/// What came of [`Inspector::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cancelled {
    /// The job runs, and was asked to end: at once, or with its worker's next
    /// heartbeat, within 5 s.
    Requested,
    /// It was waiting, and what was wanted has been done.
    Done,
    /// It does not run, and nothing was done: it waits and is to be tried again
    /// anyway, or it has ended.
    NotRunning(JobState),
}

impl Inspector {
    /// Ends a running job's attempt, and says what is to become of the job then.
    /// A job that waits is archived or deleted at once.
    ///
    /// The wish is stored with the job: it is carried out also where its worker did
    /// not hear of it, stops or dies meanwhile; a second wish replaces it. The
    /// handler's future is dropped, and its [`JobContext`](crate::JobContext) says
    /// [`CancelReason::Operator`](crate::CancelReason::Operator). A job that succeeds
    /// before it hears of it has succeeded.
    ///
    /// A Go worker only knows [`AfterCancel::Retry`]: it tries the job again in any
    /// case, and a worker of ours that gets it next carries the wish out. All jobs
    /// with this id hear of it, whatever their queue, as in Asynq: a Go worker ends
    /// those of other queues too, and ours may.
    ///
    /// One script, O(1), for a running job; another one for one that waits.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where there is no such job; those of the store.
    pub async fn cancel(
        &self,
        queue: &QueueName,
        id: &JobId,
        after: AfterCancel,
    ) -> Result<Cancelled, Error> {
        let missing = || Error::not_found(format!("queue {queue:?} has no job {id:?}"));
        let mut last = JobState::Active;
        for _ in 0..LOOKS {
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
                // It began to run, or moved on, in between.
                Acted::WrongState(state) | Acted::Elsewhere(state) => last = state,
            }
        }
        Ok(Cancelled::NotRunning(last))
    }
}
