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
//! What an application touches daily is here, at the crate's root; the rest has modules
//! by subject.
//!
//! **Attach.** [`JobQueue::fairing`] makes a [`JobQueueFairing`]. Give it handlers,
//! middleware, periodic jobs, guards and settings, and attach it. It manages the
//! [`JobQueue`], mounts the routes, starts the worker at liftoff and drains it at
//! shutdown. [`JobQueueConfig`](settings::JobQueueConfig) has every setting with its default.
//!
//! **Jobs.** A [`Job`] is a type of the application: data with a name and
//! [`JobOptions`]. A stored instance is a [`JobRecord`] in a [`JobState`], identified by
//! its [`QueueName`] and [`JobId`].
//!
//! **Enqueue.** [`JobQueue::enqueue`] prepares an [`Enqueue`]; awaited, it gives a
//! [`Receipt`]. [`JobQueue::enqueue_all`] takes many, each a [`Draft`] with its own
//! options. [`JobQueue::enqueue_raw`] takes a type and bytes. The guard [`OnSuccess`] enqueues only
//! if the request succeeds. Code that should not know
//! Rocket uses the [`Client`].
//!
//! **Handle** ([`handler`]). A handler is any `async fn(job, extractors…) -> Result<T, E>`.
//! Its extractors are [`JobContext`] (attempt, deadline, cancellation, headers, progress,
//! results) and [`Managed`] state. Its error is any error or text, or a
//! [`JobError`] that says whether and when to retry. Otherwise the [`RetryPolicy`]
//! decides. Middleware runs around handlers; [`JobQueueFairing::on_settled`] reports
//! each finished attempt.
//!
//! **Group.** Jobs enqueued with [`Enqueue::group`] become one job by the function
//! passed to [`JobQueueFairing::aggregate`].
//!
//! **Repeat** ([`periodic`]). A [`Periodic`] job has a [`Schedule`] and a policy for
//! missed ticks. Register it with [`JobQueueFairing::periodic`], under
//! `jobqueue.periodic` in the configuration, or with [`JobQueue::periodic`] while the
//! application runs.
//!
//! **Limit** ([`limits`]). How many jobs of a queue, a type or a key run at once, start in a
//! time, or wait: [`JobQueueFairing::limit`] and [`JobQueueFairing::max_waiting`].
//!
//! **Inspect and act** ([`inspect`], [`doctor`]). [`JobQueue::inspector`] gives the
//! [`Inspector`]. It lists queues, jobs page by page, history and worker processes. It
//! runs, archives, deletes, reschedules, edits and cancels one job or a selection of
//! them. Its doctor finds and repairs what faults left behind.
//!
//! **Move** ([`transfer`]). Everything of a store into another one, directly or through a file.
//!
//! **Test** ([`testing`]). A queue without Redis whose clock the test moves.
//!
//! **Limit requests** ([`rate_limit`]). Bounds on the requests of one client, for any Rocket
//! application, with or without a queue.
//!
//! **Errors.** One [`Error`] with questions such as [`Error::is_duplicate`] and
//! [`Error::is_unavailable`]; as the answer of a route it is a [`ProblemDetails`].
//!
//! Cargo features. On by default: `dashboard` (pages) and `metrics` (Prometheus). Off by
//! default: `disk` (`store = "disk"`), `json-schema` (checks posted payloads) and `openapi`
//! (document and Swagger UI;
//! it holds Rocket at 0.5.1). The [guide] explains the rest: a first job, deploying,
//! troubleshooting, every configuration key and every route.

mod broker;
mod chance;
mod client;
mod config;
pub mod demo;
pub mod doctor;
mod error;
pub mod guide;
pub mod handler;
pub mod inspect;
mod inspector;
mod job;
mod limiter;
pub mod limits;
mod log;
#[cfg(feature = "metrics")]
mod metrics;
pub mod periodic;
mod pool;
pub mod rate_limit;
mod registry;
mod runtime;
mod scheduler;
pub mod settings;
mod sync;
pub mod testing;
mod text;
mod time;
mod trace;
pub mod transfer;
mod web;
mod worker;

pub use client::{Client, Draft, Enqueue, EnqueueAll, MAX_PAYLOAD, Receipt};
pub use error::Error;
pub use inspector::Inspector;
#[doc(hidden)] // What stores take and workers report, for the crate's own tests.
pub use job::{Charge, NewJob, OnConflict, Outcome};
pub use job::{
    DEFAULT_MAX_RETRY, DEFAULT_QUEUE, DEFAULT_TIMEOUT, Idempotency, Job, JobContext, JobError,
    JobId, JobOptions, JobRecord, JobState, MAX_RESULT, Periodic, Placement, Progress, QueueName,
    RetryPolicy, Schedule, Until,
};
pub use pool::Connection as JobQueueConnection;
#[doc(hidden)] // An application's tests move the clock of their `testing::TestQueue`.
pub use time::Clock;
pub use time::Timestamp;
pub use web::{
    Accepted, FieldProblem, JobQueue, JobQueueFairing, JobQueuePool, Managed, OnSuccess,
    ProblemDetails,
};

/// What the crate's own tests use of its private modules. No promises.
#[doc(hidden)]
pub mod internals {
    pub use crate::broker::memory::MemoryBroker;
    pub use crate::broker::*;
    pub use crate::chance::Chance;
    pub use crate::config::*;
    pub use crate::job::{
        AppVersion, MAX_ERROR, MAX_KEYED_PAYLOAD, MAX_LIMIT_KEY, MAX_LIMITS, Namespace, Remembered,
        Sketch, TypeAttempt, TypeRecord, decide,
    };
    pub use crate::pool::*;
    pub use crate::registry::*;
    pub use crate::web::addresses;

    /// An inspector of a store, without an application around it.
    pub fn inspector(broker: std::sync::Arc<dyn Broker>) -> crate::Inspector {
        crate::Inspector::new(broker)
    }
}

/// Compiles the README's example with the other examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
