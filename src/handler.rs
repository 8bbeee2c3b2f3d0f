//! What runs jobs: handlers, the values they ask for, and middleware around them.
//!
//! A handler is any `async fn(job, extractors…) -> Result<T, E>` ([`IntoEntry`]). Most code
//! names no trait and passes the function to
//! [`JobQueueFairing::handle`](crate::JobQueueFairing::handle). Import [`JobHandler`] to
//! give one job type a middleware or a retry policy of its own, or to run a function that blocks:
//!
//! ```
//! use rocket_jobqueue::handler::{JobHandler, JobResult, Next};
//! use rocket_jobqueue::{Job, JobContext, JobQueue};
//! use serde::{Deserialize, Serialize};
//! use std::time::Instant;
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
//! async fn send_welcome(job: Welcome) -> Result<(), std::io::Error> {
//!     Ok(println!("welcome, user {}", job.user))
//! }
//!
//! async fn timed(context: JobContext, next: Next) -> JobResult {
//!     let start = Instant::now();
//!     let result = next.run().await;
//!     println!("{} took {:?}", context.job_type(), start.elapsed());
//!     result
//! }
//!
//! let queue = JobQueue::fairing().handle(send_welcome.middleware(timed));
//! ```
//!
//! The parameters of a handler after the job are extractors:
//! [`JobContext`](crate::JobContext), [`Managed`](crate::Managed) state of the
//! application, or another type with [`FromContext`]. A [`JobMiddleware`] runs around
//! every attempt, to add a span, a transaction or a condition.
//! [`JobQueueFairing::on_settled`](crate::JobQueueFairing::on_settled) reports the
//! [`Transition`] of each attempt.

pub use crate::job::{AfterCancel, CancelReason, Transition, asynq_delay};
pub use crate::registry::{
    AppState, FromContext, HandlerEntry, IntoBlockingEntry, IntoEntry, JobHandler, JobMiddleware,
    JobResult, Layer, Need, Next,
};
