//! What can be changed about a handler before it is attached: [`JobHandler`] turns a function into
//! a [`HandlerEntry`] and changes one field of it.

use super::{HandlerEntry, IntoBlockingEntry, IntoEntry, JobMiddleware};
use crate::job::RetryPolicy;

/// Gives a handler a middleware or a retry policy of its own, or moves it to a thread for blocking
/// work.
///
/// The methods exist for every type. So for a function that is not a handler, the compiler says
/// what is wrong with it, instead of not finding the method.
pub trait JobHandler: Sized {
    /// Runs this function around the handler; see [`JobMiddleware`]. Of several, the one that
    /// was added first is the outermost.
    fn middleware<H, M>(self, middleware: impl JobMiddleware<M>) -> HandlerEntry
    where
        Self: IntoEntry<H>,
    {
        let mut entry = self.entry();
        let layer = middleware.layer();
        entry.needs.extend_from_slice(&layer.needs);
        entry.layers = entry.layers.iter().cloned().chain([layer]).collect();
        entry
    }

    /// The retry policy of this job type. It takes precedence over the policies of
    /// [`Job::retry_policy`](crate::Job::retry_policy) and of the worker.
    ///
    /// ```
    /// # use rocket_jobqueue::handler::JobHandler;
    /// # use rocket_jobqueue::{Job, JobQueue, RetryPolicy};
    /// # use std::time::Duration;
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Welcome;
    /// # impl Job for Welcome { const TYPE: &'static str = "mail:welcome"; }
    /// # async fn send_welcome(_job: Welcome) -> Result<(), std::io::Error> { Ok(()) }
    /// let (first, longest) = (Duration::from_secs(1), Duration::from_secs(600));
    /// let policy = RetryPolicy::exponential(first, longest).jitter(0.2);
    /// let queue = JobQueue::fairing().handle(send_welcome.retry_policy(policy));
    /// ```
    fn retry_policy<H>(self, policy: RetryPolicy) -> HandlerEntry
    where
        Self: IntoEntry<H>,
    {
        let mut entry = self.entry();
        entry.retry = Some(policy);
        entry
    }

    /// Makes a handler of a function that is not async: it runs on a thread for blocking work, of
    /// which Tokio has up to 512. The parameters are those of an async handler.
    ///
    /// A thread cannot be interrupted. When the attempt times out, is cancelled or meets the
    /// shutdown, its slot is free at once and the function goes on: let it look at
    /// [`JobContext::cancelled`](crate::JobContext::cancelled) between two pieces of work.
    ///
    /// ```
    /// use rocket_jobqueue::handler::JobHandler;
    /// use rocket_jobqueue::{Job, JobContext, JobError, JobQueue};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Thumbnail { image: u64 }
    /// # impl Job for Thumbnail { const TYPE: &'static str = "image:thumbnail"; }
    ///
    /// fn thumbnail(job: Thumbnail, context: JobContext) -> Result<(), JobError> {
    ///     let cancelled = context.cancelled();
    ///     for row in 0..job.image {
    ///         if cancelled.is_cancelled() {
    ///             return Err(JobError::failed(format!("cancelled at row {row}")));
    ///         }
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let queue = JobQueue::fairing().handle(thumbnail.blocking());
    /// ```
    fn blocking<H>(self) -> HandlerEntry
    where
        Self: IntoBlockingEntry<H>,
    {
        self.blocking_entry()
    }
}

impl<T> JobHandler for T {}
