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
//! are three stores: Redis, this process' memory, which is the executable specification, and
//! that memory kept on disk. One suite of named cases, `tests/it/broker_contract/`, runs on all.
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
mod announcement;
mod audit;
mod control;
mod delivery;
pub mod disk;
mod doctor;
mod groups;
mod inspect;
mod limits;
pub mod memory;
mod minute_stats;
mod namespaced;
mod option_text;
mod page;
mod periodic;
mod queue_view;
pub mod redis;
mod server_view;
mod standing;
mod suitability;
mod transfer;
pub(crate) mod type_stats;
mod view;
mod viewer;
mod workers;

pub use actions::{
    Acted, Action, Actions, ArchiveLimit, ArchiveSettings, BULK_STEP_JOBS, BulkPosition, BulkStep,
    BulkStepResult, Removal, Selection, Sweep,
};
pub(crate) use announcement::host_name;
pub use announcement::{Announcement, Running};
pub(crate) use audit::MAX_AUDIT_ENTRIES;
pub use audit::{Audit, AuditEntry};
pub use control::{CancelAnswer, CancelListener, Control, Output};
pub use delivery::{
    AttemptNote, Delivery, Dequeued, Enqueued, ExchangeReply, ExpiredLeases, Extended, Forwarded,
    KeyBinding, Lease, SettleRequest, Settled,
};
pub use doctor::{
    CheckedPage, Checkpoint, Doctor, Finding, FindingKind, FindingStatus, Findings, RepairScope,
};
pub use groups::{
    GroupLimits, GroupSet, Groups, MAX_SET_JOBS, ReadyGroups, RepairedGroups, SET_EXPIRY,
};
pub(crate) use inspect::EMPTY_QUEUE_NAME;
pub use inspect::{FoundJobs, Inspect, JobList, MAX_FIND_QUEUES, QueueSummaries};
pub use limits::{
    LimitInfo, LimitKeyPage, LimitStanding, LimitUse, LimitUses, LimitWait, Limits, MAX_LISTED_KEYS,
};
pub use minute_stats::MinuteStats;
pub(crate) use minute_stats::{CounterSnapshot, CounterSnapshots, Coverage};
pub use namespaced::{NamespacedBroker, in_namespace};
pub(crate) use page::{Begin, Mark};
pub use page::{Cursor, MAX_PAGE_BYTES, Page};
pub use periodic::{
    AnnouncedPeriodicJob, Fired, Firing, MAX_PERIODIC_RUNS, PERIODIC_ANNOUNCEMENT_TTL,
    PeriodicJobInfo, PeriodicRun, PeriodicStore, Tick,
};
pub use queue_view::{
    AggregationSet, DayStats, GroupInfo, GroupPage, QueueInfo, QueueMemory, QueueSummary,
};
pub use server_view::{
    ClusterPlace, ServerInfo, Servers, StoreInfo, StoreKind, StoreNode, WorkerInfo,
};
pub(crate) use standing::MAX_SEARCHED_SETS;
pub use standing::{MAX_SEARCHED, Standing};
pub(crate) use suitability::{Eviction, Support};
pub use transfer::{
    Entry, Export, Imported, JobEntry, TRANSFER_PAGE, TRANSFER_PAGE_BYTES, Transfer,
};
pub use type_stats::{
    MAX_REPORTED_DURATIONS, MAX_REPORTED_TYPES, MAX_TYPE_BYTES, MAX_TYPES, MAX_VERSIONS,
    OTHER_TYPES, ReportedType, Slice, TypeHistory, TypeReport, TypeStats, VersionSeen,
};
pub(crate) use view::MAX_FAILURES;
pub use view::{CorruptEntry, Corruption, JobFailure, JobInfo, JobPage, JobRow, JobWorker};
pub(crate) use viewer::{Redact, Viewer};
pub(crate) use workers::in_force;
pub use workers::{
    MAX_CHANGE_TIME, REQUESTS_KEPT, WorkerChange, WorkerChangeInfo, WorkerDetails, WorkerName,
    WorkerRequests, WorkerSetting, WorkerState, Workers, hint_for, hint_for_all,
};

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::job::{NewJob, QueueName};
use crate::time::Timestamp;

/// How long a worker owns a job after dequeuing it, unless it extends the lease.
pub const LEASE: Duration = Duration::from_secs(30);

/// How long after its end a Go worker's lease counts as expired: its host's clock may
/// run behind Redis'. Asynq uses the same margin.
pub const FOREIGN_LEASE_MARGIN: Duration = Duration::from_secs(30);

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

mod sealed {
    pub trait Sealed {}
}
pub(crate) use sealed::Sealed;

/// The hot path of a store. Sealed: all implementations are in this crate.
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
    + Limits
    + Audit
    + Groups
    + Transfer
    + TypeStats
    + Workers
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

    /// Deletes completed jobs whose retention is over, and archives pending jobs that did not start
    /// in time: at most `limit` of each; returns how many of both.
    ///
    /// The first call in a minute also records the counters of the queue for
    /// [`Inspect::minutes`].
    fn delete_expired<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize>;

    /// Records the counters of the queue for [`Inspect::minutes`], unless this minute has a record or
    /// the queue has never had a job: for queues that no worker of this crate serves. The script of
    /// [`delete_expired`](Self::delete_expired), which deletes nothing then. Nothing in memory and on
    /// disk, where no other process works.
    fn record_minute<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, ()>;

    /// Returns when one of the queues may hold a pending job, or after `at_most`. No job is
    /// moved, so nothing is lost if the caller does not dequeue afterwards. It may return
    /// without a job: another worker may have been faster.
    fn wait<'a>(&'a self, queues: &'a [QueueName], at_most: Duration) -> Answer<'a, ()>;

    /// Returns when a job may be due earlier than was known, scheduled by this process or
    /// another. The result names the queues; it is empty if it may be any queue. The forwarder
    /// sleeps until the next due job, and this shortens its sleep. A lost notice delays a job
    /// until the next look.
    fn due_changed(&self) -> Answer<'_, Vec<QueueName>>;

    /// Announces a worker process, and returns what operators ask of it. Must be repeated every
    /// 5 s, or the announcement expires.
    fn announce<'a>(&'a self, who: &'a Announcement) -> Answer<'a, WorkerRequests>;

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

    /// Lets requests with this key go to any queue again, because the request that bound it to
    /// this queue was refused. Does nothing if another request with the key has been stored there.
    fn release_key<'a>(&'a self, key: &'a str, queue: &'a QueueName) -> Answer<'a, ()>;

    /// The version of the stored data's format if this crate does not know it, else `None`.
    /// Writes its own version if the store has none or an older one.
    fn unknown_format(&self) -> Answer<'_, Option<String>>;

    /// The best estimate of the store's time.
    fn now(&self) -> Timestamp;

    /// The same store through connections of its own, for a thread with another runtime.
    fn detached(&self) -> Arc<dyn Broker>;

    /// The same store for viewers: whatever they read, and however many they are, they hardly
    /// delay the calls of others.
    fn aside(&self) -> Arc<dyn Broker> {
        self.detached()
    }

    /// The same store for loops that serve several queues: if one queue's server hangs or its
    /// slot moves, a call for that queue fails within a moment, so that the others do not
    /// wait. The outcome may be unknown then.
    fn prompt(&self) -> Arc<dyn Broker>;

    /// The store with the queues of all applications, under their stored names, if this is the
    /// [namespace](NamespacedBroker) of one.
    fn all_namespaces(&self) -> Option<Arc<dyn Broker>> {
        None
    }

    /// The store in one line, for the log at launch; without credentials.
    fn describe(&self) -> String;
}
