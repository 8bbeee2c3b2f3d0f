//! What goes between the queue and its store: leases, deliveries, settlements, and the result of
//! each operation.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::job::{
    AfterCancel, AppVersion, Charge, JobId, JobRecord, JobState, QueueName, Transition,
};
use crate::time::Timestamp;

/// The queue to which requests with an idempotency key go.
///
/// A guard against repetition lies in one queue. Without the binding, a repeated request that
/// names another queue would find no guard there and store the job twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBinding {
    /// The queue of the first request.
    pub queue: QueueName,
    /// Whether this request was the first.
    pub is_new: bool,
}

/// The exclusive right to settle a job until it ends. The store checks the owner at each
/// settlement, extension and write, so a stale owner changes nothing (fencing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job's queue.
    pub queue: QueueName,
    /// The job.
    pub id: JobId,
    /// The number of the dequeue that made the lease. It stays the same through all
    /// extensions, so an extension that arrives late cannot take the job from a later owner.
    /// `None` if the lease was found by [`Broker::first_expired_leases`](super::Broker::first_expired_leases): then it is valid
    /// until its owner extends it.
    pub owner: Option<u64>,
    /// When the lease ends, in microseconds since 1970 of store time.
    pub ends: i64,
}

/// The result of dequeuing a job: the job and the lease it is held under.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The job as it is stored.
    pub job: JobRecord,
    /// The right to settle it.
    pub lease: Lease,
    /// When it became ready to run, if known: its due time, or when it became pending.
    pub ready: Option<Timestamp>,
    /// How often a worker vanished while it ran the job. From two on the job is a suspect, which
    /// is started alone.
    pub losses: u32,
    /// If the lease ran out: what the loss of its worker says about the job.
    pub charge: Charge,
    /// The cancel request of an operator, if any: carried out instead of an attempt.
    pub on_cancel: Option<AfterCancel>,
    /// Whether it counts for limits: settling it gives its places back.
    pub limited: bool,
}

/// The result of enqueuing a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Enqueued {
    /// Stored.
    Created {
        /// Pending, scheduled if it is due later, or aggregating in its group.
        state: JobState,
        /// When it is due, in store time.
        due: Timestamp,
    },
    /// Another job holds the same unique lock.
    Duplicate {
        /// The job that holds the lock.
        holder: JobId,
    },
    /// The waiting holder of the lock, or the waiting job of this id, became this job; the id is
    /// kept.
    Replaced {
        /// The job.
        id: JobId,
        /// As of a new job.
        state: JobState,
        /// When it is due, in store time.
        due: Timestamp,
    },
    /// The holder's lock, and its due time if it is scheduled, are as late as this job asked.
    Extended {
        /// The job that holds the lock; it may have ended.
        holder: JobId,
    },
    /// The queue has a job with this id already.
    IdConflict,
    /// As many jobs wait in the queue as may.
    QueueFull,
    /// The job to replace is not there.
    NotFound,
    /// The job to replace does not wait.
    WrongState(JobState),
    /// The idempotency key was used before for the same request.
    Replayed {
        /// The job that the first request stored.
        id: JobId,
    },
    /// The idempotency key was used before for another request.
    KeyReused,
}

/// The result of a dequeue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dequeued {
    /// The jobs, in the order in which they are to start.
    pub deliveries: Vec<Delivery>,
    /// Queues that may hold jobs but gave none, because they are paused or failed: a wait on
    /// them would return at once.
    pub paused: Vec<QueueName>,
}

/// What to do about one finished attempt: the store's half of the road
/// `Outcome → Transition → SettleRequest → Settled`.
#[derive(Clone, Debug, PartialEq)]
pub struct SettleRequest {
    /// The job, under the lease it was run with.
    pub delivery: Delivery,
    /// What happens to the job.
    pub transition: Transition,
    /// What the process that made the attempt says about it; nothing if none was made here.
    pub note: AttemptNote,
}

impl From<(Delivery, Transition)> for SettleRequest {
    fn from((delivery, transition): (Delivery, Transition)) -> Self {
        Self { delivery, transition, note: AttemptNote::default() }
    }
}

/// What the process that made an attempt says about it. A failure is stored with it, and a job
/// with the version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttemptNote {
    /// The application's version, if it has one.
    pub version: Option<AppVersion>,
    /// The process, as `host:pid`.
    pub worker: Option<Arc<str>>,
    /// From being ready to run until the start.
    pub waited: Option<Duration>,
    /// From the start until the end.
    pub ran: Option<Duration>,
}

/// The result of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Carried out.
    Done,
    /// The job was to wait for another attempt, but a cancel request asked for its end: it
    /// was archived or deleted instead.
    Cancelled(AfterCancel),
    /// The lease is no longer the caller's; nothing was changed.
    Lost,
}

/// The result of an exchange: settlements and a dequeue in one.
#[derive(Debug)]
pub struct ExchangeReply {
    /// One result for each request, in order. After an error the settlement may have been
    /// carried out; repeating it is safe.
    pub settled: Vec<Result<Settled, Error>>,
    /// The dequeued jobs, or the error if no queue replied.
    pub dequeued: Result<Dequeued, Error>,
}

/// The result of extending one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extended {
    /// The lease, with its new end.
    Renewed(Lease),
    /// The lease, with its new end; a cancel request asks the attempt to end.
    Cancelled(Lease, AfterCancel),
    /// The lease is no longer the caller's.
    Lost,
    /// The store did not reply. The lease can be used as before: its owner does not change
    /// with its end.
    Unknown,
    /// The queue is moving to another server. The job cannot be dequeued meanwhile, and
    /// recovery waits afterwards until its owner has had time to ask again.
    Moving,
}

/// The result of forwarding due jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Jobs that became pending.
    pub moved: usize,
    /// How long until the next job is due, or until the next call makes sense; `None` if no
    /// job waits.
    pub next: Option<Duration>,
    /// Whether jobs are pending and the queue is not paused.
    pub ready: bool,
}

/// The result of a search for expired leases.
#[derive(Clone, Debug, Default)]
pub struct ExpiredLeases {
    /// Jobs to recover, with the leases as found.
    pub jobs: Vec<Delivery>,
    /// Entries removed: unreadable jobs (archived) and ids without a job.
    pub removed: usize,
    /// Unreadable jobs that were not archived: the store refused, or another process was
    /// first.
    pub stuck: usize,
    /// The error, if the store refused to archive some.
    pub refusal: Option<Error>,
    /// Whether there may be more: the search reached its limit.
    pub more: bool,
    /// The store's time of the search; `None` if its clock cannot be set.
    pub at: Option<Timestamp>,
}
