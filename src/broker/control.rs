//! What reaches a job while it runs, and what it says of itself meanwhile: the
//! wish that it end, its result so far, how far it is.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Answer, Lease, Settled};
use crate::job::{AfterCancel, JobId, JobState, Progress, QueueName};

/// What a running job writes of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Output<'a> {
    /// Its result so far. It stays with the job also where the attempt fails, and
    /// is replaced by what a handler returns.
    Result(&'a [u8]),
    /// How far it is. It stays until the job is taken the next time.
    Progress(&'a Progress),
}

/// How a wish to cancel was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelAnswer {
    /// The job runs; its worker has been told, and the wish is kept until the
    /// attempt has ended.
    Requested,
    /// It does not run; nothing was changed.
    NotRunning(JobState),
    /// There is no such job.
    Missing,
}

/// Called with the id of each job that somebody wants cancelled, in its printable form.
pub type Heard = Arc<dyn Fn(&str) + Send + Sync>;

/// Words to and from running jobs.
pub trait Control: Send + Sync {
    /// Writes what a running job says of itself, if it is still the owner's.
    /// One script.
    fn write_output<'a>(&'a self, lease: &'a Lease, output: Output<'a>) -> Answer<'a, Settled>;

    /// Asks for the end of a running job. The wish is stored with the job: its
    /// owner hears of it at once or with the next [`Broker::extend`], and whoever
    /// gets the job after a lost owner carries it out. One script.
    ///
    /// A wish other than [`AfterCancel::Retry`] also outlives an attempt that ended
    /// in another way than success or archiving, as a Go worker's does.
    ///
    /// [`Broker::extend`]: super::Broker::extend
    fn cancel<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        after: AfterCancel,
    ) -> Answer<'a, CancelAnswer>;

    /// Hears of wishes to cancel, from this process and others, Go's tools
    /// included, until it is dropped. Only an id is heard, without its queue, and
    /// some may be missed: what is wanted of a job is asked with
    /// [`Broker::extend`](super::Broker::extend).
    fn hear_cancels(&self, heard: Heard) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
