//! Middleware: functions that run around handlers and see each attempt and its outcome.
//!
//! [`JobMiddleware`] is what an application writes; [`JobMiddleware::layer`] erases its types
//! into a [`Layer`]. For each attempt the registry makes a [`Next`] with the layers of the whole
//! process and of the handler. Each layer gets the rest as its `next`, so the call stack is
//! global middleware, the handler's own middleware, handler. The payload is decoded innermost:
//! middleware also sees attempts that fail because of it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::handler::Run;
use super::{AppState, FromContext, Need, RunningAttempt};
use crate::job::{JobContext, JobError};

/// The result of an attempt: the encoded result, if any, or the handler's error.
pub type JobResult = Result<Option<Vec<u8>>, JobError>;

/// A function around handlers: `async fn(JobContext, Next, extractors…) ->
/// Result<Option<Vec<u8>>, E>`, where `E` is [`JobError`], any error, a text or
/// `anyhow::Error`.
///
/// It runs for each attempt, after the deadline was checked and before the payload is
/// decoded. It may read the [`JobContext`], continue the attempt with `next.run().await`,
/// inspect the result and return another one, or return at once without running the
/// handler. A panic in it is the attempt's panic. Timeout, cancellation and shutdown end it
/// together with the handler, by dropping it; cleanup that must always run belongs in a
/// `Drop` impl. A process without a handler for a job type runs no middleware for it.
///
/// Middleware of the fairing ([`JobQueueFairing::middleware`](crate::JobQueueFairing::middleware))
/// runs around middleware of the job type
/// ([`JobHandler::middleware`](crate::handler::JobHandler::middleware)); within each group the
/// first one added is the outermost.
///
/// ```
/// # use rocket_jobqueue::handler::{JobHandler, JobResult, Next};
/// # use rocket_jobqueue::{Job, JobContext, JobError, JobQueue};
/// # use std::time::{Duration, Instant};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Welcome;
/// # impl Job for Welcome { const TYPE: &'static str = "mail:welcome"; }
/// # async fn send_welcome(_job: Welcome) -> Result<(), std::io::Error> { Ok(()) }
/// async fn timed(context: JobContext, next: Next) -> JobResult {
///     let began = Instant::now();
///     let result = next.run().await;
///     println!("{} took {:?}", context.job_type(), began.elapsed());
///     result
/// }
///
/// async fn not_at_night(_: JobContext, next: Next) -> JobResult {
/// #   let night = false;
///     if night {
///         return Err(JobError::snooze(Duration::from_secs(3600))); // the handler does not run
///     }
///     next.run().await
/// }
///
/// let queue = JobQueue::fairing()
///     .middleware(timed) // around all handlers
///     .handle(send_welcome.middleware(not_at_night)); // around this one
/// ```
///
/// Around every attempt, middleware included, is a `tracing` span `run` (target
/// `rocket_jobqueue::run`) with `job_type`, `queue`, `id`, `attempt` and, for a job with
/// the W3C header `traceparent`, `trace_id`. A span of the application's own within it:
///
/// ```
/// # use rocket_jobqueue::handler::Next;
/// # use rocket_jobqueue::{JobContext, JobQueue};
/// use tracing::Instrument;
///
/// let queue = JobQueue::fairing().middleware(|context: JobContext, next: Next| {
///     let tenant = context.headers().get("tenant").cloned().unwrap_or_default();
///     next.run().instrument(tracing::info_span!("tenant", tenant))
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job middleware",
    note = "a middleware is `async fn(context: JobContext, next: Next, extractors..) -> Result<Option<Vec<u8>>, E>` with `E: Error + Send + Sync` (or a text, `anyhow::Error`, `JobError`)"
)]
pub trait JobMiddleware<Marker>: Send + Sync + 'static {
    /// Erases the types.
    fn layer(self) -> Layer;
}

/// A middleware with its types erased: gets the context, the rest of the attempt and the state.
type Wrap = Arc<dyn Fn(JobContext, Next, &AppState) -> RunningAttempt + Send + Sync>;

/// One middleware, ready to run around handlers.
#[derive(Clone)]
pub struct Layer {
    pub(super) needs: Vec<Need>,
    wrap: Wrap,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// The rest of an attempt: the middleware further in, then the handler. Dropped
/// without being run, the handler does not run.
#[must_use = "without `next.run()` the handler does not run"]
pub struct Next {
    /// Global middleware, then the handler's own.
    pub(super) layers: [Arc<[Layer]>; 2],
    /// Number of them already entered.
    pub(super) entered: usize,
    pub(super) run: Run,
    pub(super) context: JobContext,
    pub(super) state: Arc<AppState>,
}

impl Next {
    /// Runs the rest of the attempt and returns its result.
    pub async fn run(self) -> JobResult {
        self.attempt().await
    }

    /// Enters the next layer, or starts the handler if all are entered.
    pub(super) fn attempt(mut self) -> RunningAttempt {
        let [all, own] = &self.layers;
        let layer = all.get(self.entered).or_else(|| own.get(self.entered - all.len()));
        match layer.cloned() {
            Some(layer) => {
                self.entered += 1;
                let (context, state) = (self.context.clone(), Arc::clone(&self.state));
                (layer.wrap)(context, self, &state)
            }
            None => (self.run)(self.context, &self.state),
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("context", &self.context).finish_non_exhaustive()
    }
}

/// Implements [`JobMiddleware`] for functions with none to four parameters after the context and
/// `Next`.
macro_rules! middleware {
    ($($part:ident)*) => {
        impl<F, Fut, E, $($part,)*> JobMiddleware<fn($($part,)*) -> E> for F
        where
            F: Fn(JobContext, Next, $($part,)*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<Option<Vec<u8>>, E>> + Send + 'static,
            E: Into<JobError>,
            $($part: FromContext,)*
        {
            fn layer(self) -> Layer {
                let middleware = Arc::new(self);
                #[allow(unused_mut)]
                let mut needs = Vec::new();
                $($part::needs(&mut needs);)*
                Layer {
                    needs,
                    wrap: Arc::new(move |context, next, _state| {
                        let extract = || {
                            Ok::<_, JobError>(($($part::from_context(&context, _state)?,)*))
                        };
                        let ready = extract();
                        let middleware = Arc::clone(&middleware);
                        Box::pin(async move {
                            #[allow(non_snake_case)]
                            let ($($part,)*) = ready?;
                            middleware(context, next, $($part,)*).await.map_err(Into::into)
                        })
                    }),
                }
            }
        }
    };
}

middleware!();
middleware!(A);
middleware!(A B);
middleware!(A B C);
middleware!(A B C D);
