//! Ending jobs that run.

use super::Inspector;
use crate::broker::CancelAnswer;
use crate::error::Error;
use crate::job::{AfterCancel, JobId, JobState, QueueName};

/// What came of [`Inspector::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cancelled {
    /// The job runs, and was asked to end: at once, or with its worker's next
    /// heartbeat, within 5 s.
    Requested,
    /// It does not run, and nothing was done.
    NotRunning(JobState),
}

impl Inspector {
    /// Ends a running job's attempt, and says what is to become of the job then.
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
    /// One script, O(1), for a running job.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where there is no such job; those of the store.
    pub async fn cancel(
        &self,
        queue: &QueueName,
        id: &JobId,
        after: AfterCancel,
    ) -> Result<Cancelled, Error> {
        match self.broker.cancel(queue, id, after).await? {
            CancelAnswer::Requested => Ok(Cancelled::Requested),
            CancelAnswer::NotRunning(state) => Ok(Cancelled::NotRunning(state)),
            CancelAnswer::Missing => {
                Err(Error::not_found(format!("queue {queue:?} has no job {id:?}")))
            }
        }
    }
}
