//! The contract between the queue and its store: who may have a job, and where
//! it goes next. Two stores keep it, Redis and this process; one suite of named
//! cases (`tests/it/broker_contract/`) runs against both.

mod actions;
mod admission;
mod control;
mod doctor;
mod entries;
mod groups;
mod inspect;
pub mod memory;
mod minute_stats;
mod option_text;
mod page;
pub mod redis;
mod suitability;
mod view;
mod viewer;

pub use actions::{
    Acted, Action, Actions, ArchiveLimit, ArchiveSettings, BULK_STEP_JOBS, BulkPosition, BulkStep,
    BulkStepResult, Removal, Selection, Sweep,
};
pub use admission::{ADMISSION_LOOK, Admission};
pub use control::{CancelAnswer, Control, Heard, Note};
pub use doctor::{
    CheckedPage, Checkpoint, Doctor, Finding, FindingKind, FindingStatus, Findings, RepairScope,
};
pub use entries::{
    AnnouncedEntry, ENTRIES_ANNOUNCED_FOR, Entries, EntryInfo, EntryRun, Fired, Firing, HISTORY,
    Tick,
};
pub use groups::{
    GroupLimits, GroupSet, Groups, GroupsSeen, MOST_IN_SET, RepairedGroups, SET_EXPIRY,
};
pub use inspect::{FIND_QUEUES, FoundJobs, Inspect, JobList};
pub use minute_stats::MinuteStats;
pub(crate) use minute_stats::{CounterSnapshot, CounterSnapshots};
pub(crate) use page::{Begin, Mark};
pub use page::{Cursor, PAGE_BYTES, Page};
pub(crate) use suitability::{Eviction, Support};
pub(crate) use view::FAILURES_KEPT;
pub use view::{
    AggregationSet, ClusterPlace, CorruptEntry, Corruption, DayStats, GroupInfo, GroupPage,
    JobFailure, JobInfo, JobPage, JobRow, JobWorker, QueueInfo, QueueMemory, QueueSummary,
    ServerInfo, Servers, StoreInfo, StoreNode, WorkerInfo,
};
pub(crate) use viewer::{Redact, Viewer};

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::job::{AfterCancel, Charge, JobId, JobRecord, JobState, NewJob, QueueName, Transition};
use crate::time::Timestamp;

/// How long a worker owns a job it has taken, unless it extends.
pub const LEASE: Duration = Duration::from_secs(30);

/// How far the clock of a Go worker's host may run behind before its expired
/// lease is believed. Asynq's own margin.
pub const FOREIGN_LEASE_MARGIN: Duration = Duration::from_secs(30);

/// The queue to which requests with an idempotency key go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBinding {
    /// That of the first request.
    pub queue: QueueName,
    /// Whether this request was the first.
    pub is_new: bool,
}

/// So many pending jobs are enough for now: of what else is due, a limited number is
/// added each [`CROWDED_PAUSE`], so that fresh jobs do not wait behind all of it. A
/// worker that runs more than these by then gets more.
pub const CROWDED: usize = 1000;

/// How often due jobs are added to a crowd.
pub const CROWDED_PAUSE: Duration = Duration::from_millis(100);

/// What an operation of a store returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// What an operation returns that can go differently for each of its items.
pub type Each<'a, T> = Pin<Box<dyn Future<Output = Vec<Result<T, Error>>> + Send + 'a>>;

/// The right to end a job: which one, whose it is, and until when. A stale owner
/// settles, extends and writes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job's queue.
    pub queue: QueueName,
    /// The job.
    pub id: JobId,
    /// Whose it is: another number for each taking of the job, the same through
    /// all extensions, so that none which arrives late takes the job away.
    /// `None` where the lease was found by [`Broker::lapsed`]: then it is a right
    /// until its owner extends it.
    pub owner: Option<u64>,
    /// The instant the lease ends: microseconds of store time.
    pub ends: i64,
}

/// A job and the lease it is held under.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The job as it is stored.
    pub job: JobRecord,
    /// The right to end it.
    pub lease: Lease,
    /// Since when it was ready to run, where that is known: its due time, or when it came
    /// into line.
    pub ready: Option<Timestamp>,
    /// How often a worker vanished with it.
    pub losses: u32,
    /// Where its lease has run out: what the loss of its worker says about it.
    pub charge: Charge,
    /// What an operator wants to become of it, in place of running it.
    pub cancel: Option<AfterCancel>,
}

/// How the store took a new job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Enqueued {
    /// Stored.
    Created {
        /// Pending, scheduled where it is due later, or aggregating in its group.
        state: JobState,
        /// When it is due, in store time.
        due: Timestamp,
    },
    /// A job with the same unique lock is waiting or running.
    Duplicate {
        /// The job that holds the lock.
        holder: JobId,
    },
    /// The queue has a job with this id.
    IdConflict,
    /// The idempotency key was used before for the same request.
    Replayed {
        /// The job that was stored then.
        id: JobId,
    },
    /// The idempotency key was used before for another request.
    KeyReused,
}

/// What a worker got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dequeued {
    /// The jobs, in the order they are to start.
    pub deliveries: Vec<Delivery>,
    /// Those of the queues asked that give nothing although they hold jobs, or may,
    /// because they are paused or refuse to: a wait on them would not block.
    pub paused: Vec<QueueName>,
}

/// How a settlement went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Carried out.
    Done,
    /// The job would have waited to be taken again, but an operator had asked for
    /// its end: archived or deleted in place of that.
    Cancelled(AfterCancel),
    /// The lease is not ours any more; nothing was changed.
    Lost,
}

/// What came of handing jobs back and taking others.
#[derive(Debug)]
pub struct ExchangeReply {
    /// One for each settlement, in order. An error means that it may have been
    /// carried out; to repeat it is safe.
    pub settled: Vec<Result<Settled, Error>>,
    /// What was taken, or why no queue was served.
    pub dequeued: Result<Dequeued, Error>,
}

/// How the extension of one lease went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extended {
    /// The same right, until later.
    Renewed(Lease),
    /// The same, and an operator wants the job's attempt to end.
    Cancelled(Lease, AfterCancel),
    /// The lease is not ours any more.
    Lost,
    /// The store did not say. The lease goes on being used as it was: whose it is
    /// does not change with its end.
    Unknown,
    /// The queue moves to another server. Nobody can take the job meanwhile, and
    /// recovery waits afterwards until its owner has had time to ask again.
    Moving,
}

/// What moving due jobs on found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Jobs that became pending.
    pub moved: usize,
    /// How long until the next one is due, or should be asked for; `None` where none
    /// waits.
    pub next: Option<Duration>,
    /// Whether jobs are pending and the queue is not paused.
    pub ready: bool,
}

/// What a look for leases that have run out found.
#[derive(Clone, Debug, Default)]
pub struct ExpiredLeases {
    /// Jobs to be recovered.
    pub jobs: Vec<Delivery>,
    /// Entries of which no attempt can be made, and which are gone: of unreadable jobs,
    /// which are archived, and of no job.
    pub removed: usize,
    /// Unreadable jobs that were not archived: refused, or another process was first.
    pub stuck: usize,
    /// Why the store refused to archive some.
    pub refusal: Option<Error>,
    /// Whether there may be more: the look ended at its bounds.
    pub more: bool,
    /// The store's time when it looked; `None` where its clock cannot be set.
    pub at: Option<Timestamp>,
}

/// What a worker process tells about itself; read by Asynq's tools.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Random for each start.
    pub server_id: String,
    /// Most jobs at a time.
    pub concurrency: u32,
    /// Queue → priority as configured.
    pub queues: BTreeMap<QueueName, u32>,
    /// Whether priorities are strict.
    pub strict_priority: bool,
    /// `active`, `stopped` or `closed`.
    pub status: &'static str,
    /// When the worker started.
    pub started: Timestamp,
    /// What it runs at the moment.
    pub running: Vec<Running>,
}

/// One job in progress.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// The job.
    pub job: Arc<JobRecord>,
    /// When the worker took it.
    pub started: Timestamp,
    /// When the attempt is ended as failed.
    pub deadline: Timestamp,
}

/// The name of this host, as announcements show it.
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

/// The hot path of a store. Sealed: this crate has both implementations.
///
/// Every operation is atomic per job: it happens as a whole or not at all.
pub trait Broker:
    Inspect + Entries + Control + Doctor + Actions + Admission + Groups + Send + Sync + Sealed + 'static
{
    /// Stores new jobs; one outcome for each, in order. An error means that the
    /// outcome of at least one is unknown or that none was stored.
    fn enqueue<'a>(&'a self, jobs: &'a [NewJob]) -> Answer<'a, Vec<Enqueued>> {
        Box::pin(async move { self.enqueue_each(jobs).await.into_iter().collect() })
    }

    /// Stores new jobs; one outcome for each, in order. What cannot be stored
    /// does not keep the others from it. Jobs of one queue are taken in the
    /// order they came, unless a part of them had to be sent again.
    fn enqueue_each<'a>(&'a self, jobs: &'a [NewJob]) -> Each<'a, Enqueued>;

    /// Takes up to `most` jobs, trying the queues in the order given, each under
    /// a lease of [`LEASE`]. Paused queues give nothing, and a queue that fails
    /// keeps those after it waiting no longer than that takes: an error means that
    /// none was served. Jobs of an answer that was lost come with a later one.
    fn dequeue<'a>(&'a self, queues: &'a [QueueName], most: usize) -> Answer<'a, Dequeued>;

    /// Carries out what was decided, for each job whose lease still holds.
    /// Repeating a settlement whose answer was lost is safe.
    fn settle<'a>(&'a self, what: &'a [(Delivery, Transition)]) -> Answer<'a, Vec<Settled>>;

    /// [Settles](Broker::settle) and [takes](Broker::dequeue), in as few round trips
    /// as the store can. `most` counts the places of the jobs handed back too: one
    /// that cannot be settled makes no room.
    fn exchange<'a>(
        &'a self,
        ended: &'a [(Delivery, Transition)],
        queues: &'a [QueueName],
        most: usize,
    ) -> Pin<Box<dyn Future<Output = ExchangeReply> + Send + 'a>>;

    /// Extends leases to [`LEASE`] from now; one outcome for each, in order. An
    /// error means that nothing is known of any of them.
    fn extend<'a>(&'a self, leases: &'a [Lease]) -> Answer<'a, Vec<Extended>>;

    /// How long until the next job of each queue is due, in the order of the queues:
    /// zero where one is due or only [`forward`](Self::forward) can tell, `None` where
    /// none waits. Cheaper than to forward where queues are many.
    fn next_due<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<Option<Duration>>>;

    /// Makes due jobs pending, at most `limit` of them. While [`CROWDED`] or more are
    /// pending, more are not asked for at once: see [`Forwarded::next`].
    fn forward<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, Forwarded>;

    /// Jobs whose lease has run out, at most `limit`, with the lease as found: settle
    /// them to recover them. `skip` entries in front of them are passed over: those
    /// that an earlier look found and that stay where they are. A job that cannot be
    /// read is archived, and entries of no job are removed.
    fn expired_leases<'a>(
        &'a self,
        queue: &'a QueueName,
        limit: usize,
        skip: usize,
    ) -> Answer<'a, ExpiredLeases>;

    /// The first [expired leases](Self::expired_leases).
    fn lapsed<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, Vec<Delivery>> {
        Box::pin(async move { Ok(self.expired_leases(queue, limit, 0).await?.jobs) })
    }

    /// Notes that a suspect is about to start; `running` of them run in this process then.
    /// False where the lease is not ours any more: it must not start.
    fn begin_suspect<'a>(&'a self, lease: &'a Lease, running: usize) -> Answer<'a, bool>;

    /// Notes that a suspect has ended and was settled; `running` of them still run in
    /// this process.
    fn end_suspect(&self, running: usize) -> Answer<'_, ()>;

    /// Removes completed jobs whose retention is over, at most `limit`; how many.
    fn expire<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize>;

    /// Returns when one of the queues may hold a pending job, or `at_most` is
    /// over. A look, not a take: the jobs stay where they are.
    fn wait<'a>(&'a self, queues: &'a [QueueName], at_most: Duration) -> Answer<'a, ()>;

    /// Returns when a job may have become due earlier than was known, from this
    /// process or another: the queues in which, or none where it may be any.
    fn due_changed(&self) -> Answer<'_, Vec<QueueName>>;

    /// Tells the world about a worker process; to be repeated every 5 s.
    fn announce<'a>(&'a self, who: &'a Announcement) -> Answer<'a, ()>;

    /// Takes the announcement back.
    fn retire<'a>(&'a self, who: &'a Announcement) -> Answer<'a, ()>;

    /// Answers when the store serves.
    fn ping(&self) -> Answer<'_, ()>;

    /// The queue to which requests with this idempotency key go for `kept`: that of the first
    /// call. The [guard](NewJob::idempotency) of a key is known to one queue alone.
    fn bind_key<'a>(
        &'a self,
        key: &'a str,
        queue: &'a QueueName,
        kept: Duration,
    ) -> Answer<'a, KeyBinding>;

    /// Lets requests with this key go to any queue again: the request that bound it is
    /// refused.
    fn release_key<'a>(&'a self, key: &'a str) -> Answer<'a, ()>;

    /// The version of the stored data's format, if this crate's version does not know it;
    /// `None` where it does. Notes its own where the store has none or an older one.
    fn unknown_format(&self) -> Answer<'_, Option<String>>;

    /// The store's time, as well as it is known.
    fn now(&self) -> Timestamp;

    /// The same store through connections of its own, for a thread whose
    /// runtime is not the one that made this.
    fn detached(&self) -> Arc<dyn Broker>;

    /// The same store for loops that serve several queues: where one queue's server
    /// hangs or its data moves, a call for that queue fails within a moment, so that
    /// the others do not wait. The outcome may be unknown then.
    fn prompt(&self) -> Arc<dyn Broker>;

    /// What the operator should know at launch, in one line.
    fn describe(&self) -> String;
}
