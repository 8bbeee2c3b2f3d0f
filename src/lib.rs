//! A production-grade job queue for [Rocket](https://rocket.rs), speaking the
//! Redis protocol of Go's [Asynq](https://github.com/hibiken/asynq).
//!
//! Jobs are kept in Redis, where Go services and Asynq's tools see them as their
//! own, or in the process. They run at least once: handlers must bear a repetition.
//!
//! ```no_run
//! use rocket_jobqueue::{Error, Job, JobQueue};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Welcome {
//!     user: u64,
//! }
//!
//! impl Job for Welcome {
//!     const TYPE: &'static str = "mail:welcome";
//! }
//!
//! async fn send_welcome(job: Welcome) -> Result<(), Error> {
//!     Ok(println!("welcome, user {}", job.user))
//! }
//!
//! #[rocket::post("/sign-up/<user>")]
//! async fn sign_up(user: u64, queue: &JobQueue) -> Result<String, Error> {
//!     Ok(queue.enqueue(Welcome { user }).await?.id.to_string())
//! }
//!
//! #[rocket::launch]
//! fn rocket() -> _ {
//!     let queue = JobQueue::fairing().handle(send_welcome);
//!     rocket::build().attach(queue).mount("/", rocket::routes![sign_up])
//! }
//! ```
//!
//! # The API at a glance
//!
//! **Attach.** [`JobQueue::fairing`] makes a [`JobQueueFairing`]: give it handlers,
//! middleware, periodic jobs, guards and settings, and attach it. It manages the
//! [`JobQueue`], mounts the routes, starts the worker at liftoff and drains it at
//! shutdown. [`JobQueueConfig`] tells every setting with its default.
//!
//! **Jobs.** A [`Job`] is a type of the application's: data with a name and
//! [`JobOptions`]. What is stored of it is a [`JobRecord`] in a [`JobState`], known by
//! its [`QueueName`] and [`JobId`].
//!
//! **Enqueue.** [`JobQueue::enqueue`] prepares an [`Enqueue`]; awaited, it gives a
//! [`Receipt`]. [`JobQueue::enqueue_all`] takes many, each a [`Draft`] with options of
//! its own. [`JobQueue::enqueue_raw`] takes a type and bytes. Code that should not
//! know of Rocket gets the [`Client`] alone.
//!
//! **Handle.** A [`JobHandler`] is any `async fn(job, extractors…) -> Result<T, E>`. Its
//! extractors are [`JobContext`] (attempt, deadline, cancellation, headers, progress,
//! results) and [`Managed`] state. As error it may return anything that can be
//! displayed, or a [`JobError`] that says when the job is tried again, if at all. How
//! long it waits otherwise is the [`RetryPolicy`]'s matter. A [`JobMiddleware`] runs
//! around handlers; [`JobQueueFairing::on_settled`] hears what became of each attempt.
//!
//! **Group.** Jobs enqueued with [`Enqueue::group`] become one job by the function
//! given to [`JobQueueFairing::aggregate`].
//!
//! **Repeat.** A [`Periodic`] job has a [`Schedule`] and says what becomes of
//! [`Missed`] ticks: [`JobQueueFairing::periodic`] in code, `jobqueue.periodic` in the
//! configuration, [`JobQueue::periodic`] while the application runs.
//!
//! **Look and act.** [`JobQueue::inspector`] gives the [`Inspector`]: queues, jobs
//! [page](Page) by page, history and worker processes; run, archive, delete,
//! reschedule, edit and [cancel](Inspector::cancel) one job, or all of a
//! [`Selection`] as a [`Bulk`]; [`Inspector::doctor`] finds and repairs what faults left
//! behind.
//!
//! **Test.** [`testing`] has a queue without Redis whose clock the test moves.
//!
//! **Limit.** [`RateLimit::fairing`] bounds what one client may ask of any Rocket
//! application, with or without a queue.
//!
//! **Errors.** One [`Error`] with questions such as [`Error::is_duplicate`] and
//! [`Error::is_unavailable`]; as a route's answer it is a [`ProblemDetails`].
//!
//! Cargo features, all on by default: `openapi` (document and Swagger UI),
//! `dashboard` (pages), `metrics` (Prometheus). The [guide] explains the rest: a first
//! job, deploying, troubleshooting, every configuration key and every route.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod broker;
mod client;
mod config;
pub mod demo;
mod error;
pub mod guide;
mod inspector;
mod job;
mod log;
#[cfg(feature = "metrics")]
mod metrics;
mod pool;
mod rate_limit;
mod registry;
mod runtime;
mod scheduler;
pub mod testing;
mod text;
mod time;
mod trace;
mod web;
mod worker;

pub use broker::{
    AggregationSet, ArchiveLimit, ArchiveSettings, ClusterPlace, CorruptEntry, Corruption, Cursor,
    DayStats, Finding, FindingKind, FindingStatus, GroupInfo, GroupPage, JobFailure, JobInfo,
    JobPage, JobRow, JobWorker, MinuteStats, Page, PeriodicJobInfo, PeriodicRun, QueueInfo,
    QueueMemory, QueueSummary, Selection, ServerInfo, Servers, StoreInfo, StoreNode, WorkerInfo,
};
pub use client::{Client, Draft, Enqueue, EnqueueAll, MAX_PAYLOAD, Receipt};
pub use config::{JobQueueConfig, Store};
pub use error::Error;
pub use inspector::{Bulk, BulkProgress, Cancelled, DoctorReport, DoctorRun, Inspector};
pub use job::{
    AfterCancel, CancelReason, DEFAULT_MAX_RETRY, DEFAULT_QUEUE, DEFAULT_TIMEOUT, Idempotency, Job,
    JobContext, JobError, JobId, JobOptions, JobRecord, JobState, MAX_RESULT, Missed, Periodic,
    Placement, Progress, QueueName, RetryPolicy, Schedule, Transition, UnknownJobs, asynq_delay,
};
#[doc(hidden)] // What stores take and workers report, for the crate's own tests.
pub use job::{Charge, NewJob, Outcome};
pub use pool::Connection as JobQueueConnection;
pub use registry::{
    Entry, FromContext, JobHandler, JobMiddleware, JobResult, Layer, Need, Next, State,
};
pub use scheduler::{PeriodicJobs, PeriodicRegistration};
#[doc(hidden)] // An application's tests move the clock of their `testing::TestQueue`.
pub use time::Clock;
pub use time::Timestamp;
pub use web::{
    Accepted, FieldProblem, JobQueue, JobQueueFairing, JobQueuePool, Managed, ProblemDetails,
    RateLimit, RateLimitFairing,
};

/// What the crate's own tests use of its private modules. No promises.
#[doc(hidden)]
pub mod internals {
    pub use crate::broker::memory::MemoryBroker;
    pub use crate::broker::*;
    pub use crate::config::*;
    pub use crate::job::decide;
    pub use crate::pool::*;
    pub use crate::registry::*;

    /// An inspector of a store, without an application around it.
    pub fn inspector(broker: std::sync::Arc<dyn Broker>) -> crate::Inspector {
        crate::Inspector::new(broker)
    }
}

/// Compiles the README's example with the other examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
