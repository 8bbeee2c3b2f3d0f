//! The reasons why a job is not running, and the answer that they make together.
//!
//! Each reason is a variant with the data that an operator or a program needs, in four renderings
//! that must agree: the variant, its [`kind`](Reason::kind), its English sentence (`sentence.rs`),
//! and its JSON, from which the OpenAPI document follows. Other languages of the dashboard
//! translate the variants.
//!
//! All types may grow, so programs should treat an unknown `kind` as "see the sentence". Durations
//! are relative to [`Explanation::at`], and in JSON they are seconds.

use std::time::Duration;

use serde::Serialize;

use crate::broker::JobWorker;
use crate::job::{AfterCancel, JobId, JobState, QueueName, serial};
use crate::time::Timestamp;

/// Why a job is not running, or that it runs.
///
/// As text it is [`Explanation::sentence`]. As JSON it has the fields below; the REST interface
/// answers with it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueExplanation"))]
#[non_exhaustive]
pub struct Explanation {
    /// The queue that was asked.
    pub queue: QueueName,
    /// The job.
    pub id: JobId,
    /// Its state; `None` if there is no such job, or if it cannot be read.
    pub state: Option<JobState>,
    /// When the store was asked, in store time.
    pub at: Timestamp,
    /// All reasons in one English line, the decisive one first.
    pub sentence: String,
    /// The reasons, the decisive one first; at least one.
    pub reasons: Vec<Reason>,
}

/// One reason why a job is not running, or that it runs.
///
/// The [`Display`](std::fmt::Display) form is an English sentence, [`Reason::kind`] the word for
/// logs and programs. Serialized, it is an object with that word as `kind` and the data beside it.
///
/// A later version may add reasons, and fields to a reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueReason"))]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// There is no such job: it never was, has succeeded without retention, or was deleted when
    /// its retention was over.
    #[non_exhaustive]
    NoSuchJob {
        /// The queue that was asked.
        queue: QueueName,
        /// Whether there is such a queue.
        queue_exists: bool,
    },
    /// The job is stored, but its message or state cannot be read.
    #[non_exhaustive]
    Unreadable {
        /// What is wrong.
        problem: String,
    },
    /// It is in its state, but not in the list of that state: only the doctor moves it on.
    #[non_exhaustive]
    NotListed {
        /// The state.
        state: JobState,
    },
    /// Its queue is paused.
    #[non_exhaustive]
    QueuePaused {
        /// The queue.
        queue: QueueName,
        /// Since when, if known.
        since: Option<Timestamp>,
    },
    /// No announced worker, of this crate or of Go, serves its queue.
    #[non_exhaustive]
    NoWorker {
        /// The queue.
        queue: QueueName,
        /// The minute in which a worker of this crate last served it, if that was within the last
        /// two hours.
        last_seen: Option<Timestamp>,
    },
    /// All workers that serve its queue are shutting down, or were told to dequeue no more.
    #[non_exhaustive]
    WorkersStopping {
        /// The queue.
        queue: QueueName,
        /// How many workers.
        workers: u64,
    },
    /// All workers that serve its queue have strict priorities, and queues of higher priority have
    /// pending jobs.
    #[non_exhaustive]
    HigherPriority {
        /// The queue.
        queue: QueueName,
        /// The queues of higher priority with pending jobs.
        higher: Vec<QueueName>,
        /// How many pending jobs these have.
        pending: u64,
    },
    /// It is pending, and its turn has not come.
    #[non_exhaustive]
    InLine {
        /// The queue.
        queue: QueueName,
        /// How many pending jobs are dequeued before it.
        ahead: u64,
        /// Whether there may be more: only the next 10,000 jobs are searched.
        at_least: bool,
        /// Workers that serve the queue.
        workers: u64,
        /// Their slots.
        slots: u64,
        /// How many of these slots are in use, for jobs of any queue, as announced, up to 5 s late.
        in_use: u64,
    },
    /// It waits for its due time.
    #[non_exhaustive]
    Due {
        /// When it is due.
        at: Timestamp,
        /// How long that is from now.
        #[serde(rename = "wait_seconds", serialize_with = "serial::seconds")]
        #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
        wait: Duration,
    },
    /// A limit of its queue has no place for it. It becomes pending by itself when there is one,
    /// and uses no slot and no attempt meanwhile.
    #[non_exhaustive]
    WaitsForLimit {
        /// Name of the limit.
        limit: String,
        /// The job's key there; empty for a limit without keys, and for a job without a key.
        key: String,
        /// Jobs of the key that run.
        in_use: u64,
        /// Maximum jobs of the key that run; `None` if the limit has only a rate.
        max: Option<u32>,
        /// How long ago the first of those that run was dequeued.
        #[serde(rename = "in_use_seconds", serialize_with = "serial::some_seconds")]
        #[cfg_attr(feature = "openapi", schemars(with = "Option<f64>"))]
        since: Option<Duration>,
        /// Waiting jobs of the key that start before it.
        ahead: u64,
        /// When the rate of the limit lets the next job of the key start, if that is not now.
        next_at: Option<Timestamp>,
    },
    /// A job that runs holds its unique lock; it is enqueued when that has ended
    /// ([`or_replace`](crate::Enqueue::or_replace)).
    #[non_exhaustive]
    FollowsJob {
        /// The job that runs.
        holder: JobId,
    },
    /// It is due, and nobody has made it pending yet: a worker that serves the queue does it.
    #[non_exhaustive]
    Overdue {
        /// Since when it is due.
        since: Timestamp,
        /// Pending jobs of the queue. From 1,000 on, due jobs become pending in batches.
        pending: u64,
    },
    /// An attempt failed, and it waits for the next one.
    #[non_exhaustive]
    WaitsForRetry {
        /// When the next attempt is due.
        at: Timestamp,
        /// How long that is from now.
        #[serde(rename = "wait_seconds", serialize_with = "serial::seconds")]
        #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
        wait: Duration,
        /// Retries counted so far.
        retried: u32,
        /// Maximum retries.
        max_retry: u32,
        /// The error of the last attempt.
        error: String,
    },
    /// Its handler put it off, which counts no attempt.
    #[non_exhaustive]
    Snoozed {
        /// When the next attempt is due.
        at: Timestamp,
        /// How long that is from now.
        #[serde(rename = "wait_seconds", serialize_with = "serial::seconds")]
        #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
        wait: Duration,
    },
    /// Parked: the worker that dequeued it has no handler for its type. No attempt is counted.
    #[non_exhaustive]
    NoHandler {
        /// The job type.
        job_type: String,
        /// When it is offered to a worker again.
        at: Timestamp,
        /// How long that is from now.
        #[serde(rename = "wait_seconds", serialize_with = "serial::seconds")]
        #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
        wait: Duration,
    },
    /// Parked: the handler of the worker that dequeued it cannot decode its payload. After an hour
    /// it is archived.
    #[non_exhaustive]
    Undecodable {
        /// Since when it is parked.
        since: Timestamp,
        /// When it is offered to a worker again.
        at: Timestamp,
        /// How long that is from now.
        #[serde(rename = "wait_seconds", serialize_with = "serial::seconds")]
        #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
        wait: Duration,
        /// What was expected and what was found.
        error: String,
    },
    /// Workers vanished while it ran: a process runs one such job at a time.
    #[non_exhaustive]
    Suspect {
        /// How many workers vanished.
        losses: u32,
    },
    /// It runs.
    #[non_exhaustive]
    Running {
        /// The process, as announced, up to 5 s late.
        worker: Option<JobWorker>,
        /// When its lease ends, unless its worker extends it.
        lease_ends: Timestamp,
        /// How long that is from now.
        #[serde(rename = "lease_seconds", serialize_with = "serial::seconds")]
        #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
        lease: Duration,
    },
    /// No announced process runs it, and its lease is not extended: its worker has died or was cut
    /// off.
    #[non_exhaustive]
    WorkerGone {
        /// When its lease ends, or ended; `None` if it has none.
        lease_ends: Option<Timestamp>,
        /// From when it is recovered, if a worker serves its queue.
        recovered: Option<Timestamp>,
    },
    /// An operator asked to cancel it; the request is carried out when its worker hears of it.
    #[non_exhaustive]
    CancelRequested {
        /// What happens to the job then.
        then: AfterCancel,
    },
    /// It waits in a group until that is large or old enough.
    #[non_exhaustive]
    GroupWaits {
        /// The group.
        group: String,
        /// Jobs in it.
        size: u64,
        /// When the first of them joined.
        oldest: Option<Timestamp>,
        /// How many more jobs make it full; `None` if that is not limited, or if the process that
        /// was asked does not aggregate.
        missing: Option<u64>,
        /// When it is aggregated unless more jobs join; `None` if the process that was asked does
        /// not aggregate.
        ready_at: Option<Timestamp>,
    },
    /// An aggregator is making one job of it and others of its group.
    #[non_exhaustive]
    BeingAggregated {
        /// The group.
        group: String,
        /// When the jobs return to the group unless that is done.
        until: Option<Timestamp>,
    },
    /// An enqueue was refused because this job holds the unique lock.
    #[non_exhaustive]
    LockHeld {
        /// The queue of both.
        queue: QueueName,
        /// The job that holds it.
        holder: JobId,
    },
    /// An enqueue was refused because as many jobs wait in its queue as may
    /// ([`MaxWaiting`](crate::limits::MaxWaiting)).
    #[non_exhaustive]
    QueueFull {
        /// The queue.
        queue: QueueName,
        /// How many may wait.
        max_waiting: u32,
    },
    /// Its deadline has passed: the next attempt does not run it, but archives it.
    #[non_exhaustive]
    DeadlinePassed {
        /// The deadline.
        deadline: Timestamp,
    },
    /// It failed for good, or an operator archived it.
    #[non_exhaustive]
    Archived {
        /// When.
        at: Option<Timestamp>,
        /// The error of its last attempt; empty if it has none.
        error: String,
    },
    /// It has succeeded.
    #[non_exhaustive]
    Completed {
        /// When.
        at: Option<Timestamp>,
        /// Until when it is kept.
        kept_until: Option<Timestamp>,
    },
}

impl Explanation {
    /// The answer with these reasons, of which there is at least one.
    pub(super) fn new(
        queue: QueueName,
        id: JobId,
        state: Option<JobState>,
        at: Timestamp,
        reasons: Vec<Reason>,
    ) -> Self {
        let sentences: Vec<String> = reasons.iter().map(Reason::to_string).collect();
        Self { queue, id, state, at, sentence: sentences.join("; "), reasons }
    }

    /// The decisive reason.
    pub fn reason(&self) -> &Reason {
        self.reasons.first().expect("there is at least one reason")
    }
}

impl Reason {
    /// The word for logs and programs, such as `queue_paused`: the `kind` of the JSON form.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoSuchJob { .. } => "no_such_job",
            Self::Unreadable { .. } => "unreadable",
            Self::NotListed { .. } => "not_listed",
            Self::QueuePaused { .. } => "queue_paused",
            Self::NoWorker { .. } => "no_worker",
            Self::WorkersStopping { .. } => "workers_stopping",
            Self::HigherPriority { .. } => "higher_priority",
            Self::InLine { .. } => "in_line",
            Self::Due { .. } => "due",
            Self::WaitsForLimit { .. } => "waits_for_limit",
            Self::FollowsJob { .. } => "follows_job",
            Self::Overdue { .. } => "overdue",
            Self::WaitsForRetry { .. } => "waits_for_retry",
            Self::Snoozed { .. } => "snoozed",
            Self::NoHandler { .. } => "no_handler",
            Self::Undecodable { .. } => "undecodable",
            Self::Suspect { .. } => "suspect",
            Self::Running { .. } => "running",
            Self::WorkerGone { .. } => "worker_gone",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::GroupWaits { .. } => "group_waits",
            Self::BeingAggregated { .. } => "being_aggregated",
            Self::LockHeld { .. } => "lock_held",
            Self::QueueFull { .. } => "queue_full",
            Self::DeadlinePassed { .. } => "deadline_passed",
            Self::Archived { .. } => "archived",
            Self::Completed { .. } => "completed",
        }
    }
}
