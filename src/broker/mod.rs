//! The contract between the queue and its store: who may run a job, and where the
//! job goes next.
//!
//! A store keeps jobs in queues. A worker *dequeues* jobs and gets a [`Delivery`]
//! for each: the job and the [`Lease`] it is held under. A lease is the exclusive
//! right to settle the job until it ends; a heartbeat extends it. When an attempt
//! is over, the worker sends a [`SettleRequest`] with the decided transition, and
//! the store answers with a [`Settled`]. [`Broker::expired_leases`] finds leases that
//! ran out, and the recoverer settles their jobs instead of the owner. The forwarder
//! moves due jobs to pending.
//!
//! [`Broker`] is the hot path. The other traits (inspection, bulk actions, periodic
//! jobs, groups, the doctor) are off it, and their methods state their cost. There
//! are two stores: Redis, and this process' memory, which is the executable
//! specification. One suite of named cases, `tests/it/broker_contract/`, runs against
//! both.
//!
//! The parts of a process and what they call most. None of them talks to a store in another way.
//!
//! | who | calls |
//! | --- | --- |
//! | client | [`enqueue_each`](Broker::enqueue_each), [`bind_key`](Broker::bind_key) |
//! | dispatcher | [`exchange`](Broker::exchange), [`wait`](Broker::wait) |
//! | heartbeat | [`extend`](Broker::extend), [`announce`](Broker::announce) |
//! | forwarder | [`next_due`](Broker::next_due), [`forward`](Broker::forward) |
//! | recoverer | [`expired_leases`](Broker::expired_leases), [`settle`](Broker::settle) |
//! | janitor | [`delete_expired`](Broker::delete_expired) |
//! | runtime | [`ping`](Broker::ping), [`unknown_format`](Broker::unknown_format) |
//!
//! Three rules hold for all of it:
//! - *At least once.* A job is removed or moved on only by a settlement. If the process dies before
//!   that, the job runs again.
//! - *Fencing.* A lease names its owner, and the store compares it in the same step in which it
//!   writes. A worker that was suspended for an hour and then settles gets [`Settled::Lost`].
//! - *Store time.* Due times, leases and retentions are measured by the store's clock, never by a
//!   worker's. [`Broker::now`] estimates it.

mod actions;
mod admission;
mod control;
mod doctor;
mod groups;
mod inspect;
pub mod memory;
mod minute_stats;
mod option_text;
mod page;
mod periodic;
mod queue_view;
pub mod redis;
mod server_view;
mod suitability;
mod view;
mod viewer;

pub use actions::{
    Acted, Action, Actions, ArchiveLimit, ArchiveSettings, BULK_STEP_JOBS, BulkPosition, BulkStep,
    BulkStepResult, Removal, Selection, Sweep,
};
pub use admission::{ADMISSION_CHECK_INTERVAL, Admission};
pub use control::{CancelAnswer, CancelListener, Control, Output};
pub use doctor::{
    CheckedPage, Checkpoint, Doctor, Finding, FindingKind, FindingStatus, Findings, RepairScope,
};
pub use groups::{
    GroupLimits, GroupSet, Groups, MAX_SET_JOBS, ReadyGroups, RepairedGroups, SET_EXPIRY,
};
pub use inspect::{FoundJobs, Inspect, JobList, MAX_FIND_QUEUES};
pub use minute_stats::MinuteStats;
pub(crate) use minute_stats::{CounterSnapshot, CounterSnapshots};
pub(crate) use page::{Begin, Mark};
pub use page::{Cursor, MAX_PAGE_BYTES, Page};
pub use periodic::{
    AnnouncedPeriodicJob, Fired, Firing, MAX_PERIODIC_RUNS, PERIODIC_ANNOUNCEMENT_TTL,
    PeriodicJobInfo, PeriodicRun, PeriodicStore, Tick,
};
pub use queue_view::{
    AggregationSet, DayStats, GroupInfo, GroupPage, QueueInfo, QueueMemory, QueueSummary,
};
pub use server_view::{ClusterPlace, ServerInfo, Servers, StoreInfo, StoreNode, WorkerInfo};
pub(crate) use suitability::{Eviction, Support};
pub(crate) use view::MAX_FAILURES;
pub use view::{CorruptEntry, Corruption, JobFailure, JobInfo, JobPage, JobRow, JobWorker};
pub(crate) use viewer::{Redact, Viewer};

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::job::{AfterCancel, Charge, JobId, JobRecord, JobState, NewJob, QueueName, Transition};
use crate::time::Timestamp;

/// How long a worker owns a job after dequeuing it, unless it extends the lease.
pub const LEASE: Duration = Duration::from_secs(30);

/// How long after its end a Go worker's lease counts as expired: its host's clock may
/// run behind Redis'. Asynq uses the same margin.
pub const FOREIGN_LEASE_MARGIN: Duration = Duration::from_secs(30);

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

/// High-water mark of a pending list, in jobs. Above it, due jobs are forwarded in limited
/// batches, one each [`PENDING_HIGH_WATER_PAUSE`], so that new jobs do not queue behind a
/// backlog. If workers drain the list faster, it falls below the mark and more are forwarded
/// at once.
pub const PENDING_HIGH_WATER: usize = 1000;

/// Interval between such batches.
pub const PENDING_HIGH_WATER_PAUSE: Duration = Duration::from_millis(100);

/// The future that an operation of a store returns. Boxed, so that a store can be a trait
/// object and be chosen by configuration.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The future of an operation that has a result for each of its items. The call as a whole
/// cannot fail: an error is the result of the items that it concerns.
pub type Each<'a, T> = Pin<Box<dyn Future<Output = Vec<Result<T, Error>>> + Send + 'a>>;

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
    /// `None` if the lease was found by [`Broker::first_expired_leases`]: then it is valid
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
    /// The queue has a job with this id already.
    IdConflict,
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
}

impl From<(Delivery, Transition)> for SettleRequest {
    fn from((delivery, transition): (Delivery, Transition)) -> Self {
        Self { delivery, transition }
    }
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

/// What a worker process announces about itself; Asynq's tools read it, and so does the page of
/// servers. The heartbeat sends it every 5 s.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// A random id, new with each start.
    pub server_id: String,
    /// Maximum concurrent jobs.
    pub concurrency: u32,
    /// Queue → priority as configured.
    pub queues: BTreeMap<QueueName, u32>,
    /// Whether priorities are strict.
    pub strict_priority: bool,
    /// `active`, `stopped` or `closed`.
    pub status: &'static str,
    /// When the worker started.
    pub started: Timestamp,
    /// The jobs in flight.
    pub running: Vec<Running>,
}

/// One job in flight, as announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// The job.
    pub job: Arc<JobRecord>,
    /// When its attempt began.
    pub started: Timestamp,
    /// When the attempt is cancelled as timed out.
    pub deadline: Timestamp,
}

/// The name of this host, as announcements show it; `unknown-host` if the system does not tell
/// it. In a container it is the container's id, unless a host name was set.
pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown-host".to_owned())
}

mod sealed {
    pub trait Sealed {}
}
pub(crate) use sealed::Sealed;

/// The hot path of a store. Sealed: both implementations are in this crate.
///
/// Every operation is atomic per job. After an error of
/// [`Error::is_outcome_unknown`] it may have been carried out; the methods say what a
/// repetition does.
pub trait Broker:
    Inspect
    + PeriodicStore
    + Control
    + Doctor
    + Actions
    + Admission
    + Groups
    + Send
    + Sync
    + Sealed
    + 'static
{
    /// Stores new jobs; one result for each, in order.
    ///
    /// # Errors
    /// The first error of a job. Others may have been stored.
    fn enqueue<'a>(&'a self, jobs: &'a [NewJob]) -> Answer<'a, Vec<Enqueued>> {
        Box::pin(async move { self.enqueue_each(jobs).await.into_iter().collect() })
    }

    /// Stores new jobs; one result for each, in order. A job that cannot be stored stops no
    /// other. Jobs of one queue are dequeued in the order given, unless some of them had to
    /// be sent again.
    fn enqueue_each<'a>(&'a self, jobs: &'a [NewJob]) -> Each<'a, Enqueued>;

    /// Dequeues up to `at_most` jobs, trying the queues in the order given, each job under a
    /// lease of [`LEASE`]. Paused queues give nothing. A failing queue delays those after it
    /// only by its own timeout. Jobs of a lost reply are delivered by a later call.
    ///
    /// # Errors
    /// No queue replied.
    fn dequeue<'a>(&'a self, queues: &'a [QueueName], at_most: usize) -> Answer<'a, Dequeued>;

    /// Carries out each request whose lease still holds; one result for each, in
    /// order. Repeating a settlement whose reply was lost is safe.
    ///
    /// # Errors
    /// The first of them: that settlement, and others, may have been carried out.
    fn settle<'a>(&'a self, requests: &'a [SettleRequest]) -> Answer<'a, Vec<Settled>> {
        Box::pin(async move {
            let requests: Vec<&SettleRequest> = requests.iter().collect();
            self.exchange(&requests, &[], 0).await.settled.into_iter().collect()
        })
    }

    /// [Settles](Broker::settle) and [dequeues](Broker::dequeue), in as few round trips
    /// as the store can. `at_most` counts the slots of the settled jobs too: a job that
    /// cannot be settled keeps its slot.
    fn exchange<'a>(
        &'a self,
        requests: &'a [&'a SettleRequest],
        queues: &'a [QueueName],
        at_most: usize,
    ) -> Pin<Box<dyn Future<Output = ExchangeReply> + Send + 'a>>;

    /// Extends leases to [`LEASE`] from now; one result for each, in order.
    ///
    /// # Errors
    /// No queue replied, so nothing is known of any lease.
    fn extend<'a>(&'a self, leases: &'a [Lease]) -> Answer<'a, Vec<Extended>>;

    /// How long until the next job of each queue is due, in the order of the queues: zero if
    /// one is due or only [`forward`](Self::forward) knows, `None` if none waits. With
    /// many queues this is cheaper than forwarding each.
    fn next_due<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<Option<Duration>>>;

    /// Makes due jobs pending, at most `limit` of them. While [`PENDING_HIGH_WATER`] or more are
    /// pending, [`Forwarded::next`] says when to call again.
    fn forward<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, Forwarded>;

    /// Jobs whose lease has expired, at most `limit`, with the lease as found: settle them to
    /// recover them. The first `skip` entries are skipped: earlier searches found them
    /// and left them as they are. A job that cannot be read is archived, and an id without
    /// a job is removed.
    fn expired_leases<'a>(
        &'a self,
        queue: &'a QueueName,
        limit: usize,
        skip: usize,
    ) -> Answer<'a, ExpiredLeases>;

    /// The first [expired leases](Self::expired_leases).
    fn first_expired_leases<'a>(
        &'a self,
        queue: &'a QueueName,
        limit: usize,
    ) -> Answer<'a, Vec<Delivery>> {
        Box::pin(async move { Ok(self.expired_leases(queue, limit, 0).await?.jobs) })
    }

    /// Records that a suspect is about to start; `running` counts the suspects of this process
    /// including it. False if the lease is no longer the caller's: then it must not start.
    ///
    /// If the process then dies, the record shows which job it was running. With a single
    /// suspect that proves the cause, and the job is archived instead of killing the next
    /// worker.
    fn begin_suspect<'a>(&'a self, lease: &'a Lease, running: usize) -> Answer<'a, bool>;

    /// Records that a suspect was settled; `running` counts those that still run in this
    /// process.
    fn end_suspect(&self, running: usize) -> Answer<'_, ()>;

    /// Deletes completed jobs whose retention is over, at most `limit`; returns how many.
    fn delete_expired<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize>;

    /// Returns when one of the queues may hold a pending job, or after `at_most`. No job is
    /// moved, so nothing is lost if the caller does not dequeue afterwards. It may return
    /// without a job: another worker may have been faster.
    fn wait<'a>(&'a self, queues: &'a [QueueName], at_most: Duration) -> Answer<'a, ()>;

    /// Returns when a job may be due earlier than was known, scheduled by this process or
    /// another. The result names the queues; it is empty if it may be any queue. The forwarder
    /// sleeps until the next due job, and this shortens its sleep. A lost notice delays a job
    /// until the next look.
    fn due_changed(&self) -> Answer<'_, Vec<QueueName>>;

    /// Announces a worker process. Must be repeated every 5 s, or the announcement expires.
    fn announce<'a>(&'a self, who: &'a Announcement) -> Answer<'a, ()>;

    /// Removes the announcement, at the end of a drain. Without it the page of servers would
    /// show the process until the announcement expires.
    fn retire<'a>(&'a self, who: &'a Announcement) -> Answer<'a, ()>;

    /// Succeeds if the store serves. On a Cluster a majority of the masters has to answer.
    ///
    /// # Errors
    /// [`Error::is_unavailable`] if it cannot be reached, or why it refuses this process.
    fn ping(&self) -> Answer<'_, ()>;

    /// Binds an idempotency key to a queue for the duration `kept`: the queue of the first
    /// call. The [guard](NewJob::idempotency) of a key lies in one queue only.
    fn bind_key<'a>(
        &'a self,
        key: &'a str,
        queue: &'a QueueName,
        kept: Duration,
    ) -> Answer<'a, KeyBinding>;

    /// Lets requests with this key go to any queue again, because the request that bound it was
    /// refused.
    fn release_key<'a>(&'a self, key: &'a str) -> Answer<'a, ()>;

    /// The version of the stored data's format if this crate does not know it, else `None`.
    /// Writes its own version if the store has none or an older one.
    fn unknown_format(&self) -> Answer<'_, Option<String>>;

    /// The best estimate of the store's time.
    fn now(&self) -> Timestamp;

    /// The same store through connections of its own, for a thread with another runtime.
    fn detached(&self) -> Arc<dyn Broker>;

    /// The same store for loops that serve several queues: if one queue's server hangs or its
    /// slot moves, a call for that queue fails within a moment, so that the others do not
    /// wait. The outcome may be unknown then.
    fn prompt(&self) -> Arc<dyn Broker>;

    /// The store in one line, for the log at launch; without credentials.
    fn describe(&self) -> String;
}
