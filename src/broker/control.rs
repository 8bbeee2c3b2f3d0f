//! Messages to and from jobs in flight.
//!
//! A handler writes its progress and an early result under its lease. An operator's cancel
//! request is stored with the job and published by id: the worker hears it at once, or gets
//! it with the next extension of the lease if it missed the message.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Answer, Lease, Settled};
use crate::job::{AfterCancel, JobId, JobState, Progress, QueueName};

/// What a handler writes while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Output<'a> {
    /// The result so far. It stays with the job even if the attempt fails, and is replaced by
    /// the result that a handler returns.
    Result(&'a [u8]),
    /// The progress. It stays until the job is dequeued again.
    Progress(&'a Progress),
}

/// The answer to a cancel request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelAnswer {
    /// The job runs: the request was published, and is stored until the attempt has ended.
    Requested,
    /// The job does not run; nothing was changed.
    NotRunning(JobState),
    /// There is no such job.
    Missing,
}

/// Called with the id of each cancel request, in its printable form.
pub type CancelListener = Arc<dyn Fn(&str) + Send + Sync>;

/// Messages to and from jobs in flight.
pub trait Control: Send + Sync {
    /// Writes the output of a job in flight, unless the lease is lost. One script.
    fn write_output<'a>(&'a self, lease: &'a Lease, output: Output<'a>) -> Answer<'a, Settled>;

    /// Requests the cancellation of a job in flight. The request is stored with the job: its
    /// owner gets it at once or with the next [`Broker::extend`], and if the owner is lost,
    /// the next worker carries it out. One script.
    ///
    /// A request other than [`AfterCancel::Retry`] is kept if the attempt ends neither in success
    /// nor in archiving, for example with a Go worker, which always retries.
    ///
    /// [`Broker::extend`]: super::Broker::extend
    fn cancel<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        after: AfterCancel,
    ) -> Answer<'a, CancelAnswer>;

    /// Listens to cancel requests of this process and of others, Go's tools included, until
    /// it is dropped. A message has only an id, not the queue, and messages may be missed:
    /// the request itself comes with [`Broker::extend`](super::Broker::extend).
    fn hear_cancels(
        &self,
        listener: CancelListener,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Whether a message alone cancels nothing, so that it is only a reason to look for a stored
    /// request at once. By default a message is enough: Go's tools store none.
    fn cancel_needs_request(&self) -> bool {
        false
    }
}
