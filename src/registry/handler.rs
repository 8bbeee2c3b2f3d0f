//! Handlers: functions of the application, whose types end here.
//!
//! [`IntoEntry::entry`] makes a [`HandlerEntry`] of an async function: a value without type
//! parameters that knows how to decode a payload, call the function and encode what it returns. A
//! macro implements it for functions with zero to six parameters after the job.
//!
//! What may surprise. The payload is decoded and the parameters are made before the future exists,
//! because the future must not borrow the state. A result that cannot be written as JSON archives
//! the job, although its work is done: every further attempt would end in the same way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

use super::middleware::{JobResult, Layer};
use super::pace::Pace;
use super::tally::{EndedAttempt, Tally};
use super::unmarshal::unmarshal_text;
use super::{AppState, FromContext, Need};
use crate::error::Error;
use crate::job::serial::marshal_reason;
use crate::job::{Job, JobContext, JobError, JobOptions, RetryPolicy};

/// A running attempt, with its types erased.
pub(crate) type RunningAttempt = Pin<Box<dyn Future<Output = JobResult> + Send>>;

/// Starts an attempt: decodes the payload and calls the handler.
pub(super) type Run = Arc<dyn Fn(JobContext, &AppState) -> RunningAttempt + Send + Sync>;

/// The handler of one job type, with its options: what a worker needs to run its jobs.
#[derive(Clone)]
pub struct HandlerEntry {
    /// The stored name of the job type.
    pub(crate) job_type: String,
    /// The default options of its jobs, used by REST and the pages. Stored jobs have their own.
    pub(crate) options: JobOptions,
    /// The payload's JSON Schema, if the type has one.
    pub(crate) schema: Option<serde_json::Value>,
    /// Values that the handler and its middleware need. Missing ones stop the launch.
    pub(crate) needs: Vec<Need>,
    /// `None` uses the worker's policy.
    pub(crate) retry: Option<RetryPolicy>,
    /// Shared by all clones of the entry.
    pub(crate) pace: Arc<Pace>,
    /// Counts its attempts for the statistics; shared by all clones of the entry.
    pub(crate) tally: Arc<Tally>,
    /// Measures its attempts, once it is in a registry.
    #[cfg(feature = "metrics")]
    pub(crate) stopwatch: Option<crate::metrics::Stopwatch>,
    /// Decodes a payload as the handler will, and asks it for its type's unique key. The error says
    /// what is wrong with it.
    pub(super) check: fn(&[u8]) -> Result<Option<String>, String>,
    /// Middleware of this handler, outermost first.
    pub(super) layers: Arc<[Layer]>,
    pub(super) run: Run,
}

impl HandlerEntry {
    /// Counts an attempt that succeeded or failed, for the statistics and for Prometheus.
    pub(crate) fn count(&self, ended: &EndedAttempt<'_>) {
        self.tally.count(ended);
        #[cfg(feature = "metrics")]
        if let Some(stopwatch) = &self.stopwatch {
            stopwatch.ended(ended.ran, !ended.failed);
        }
    }

    /// A handler for a job type without a Rust type. It receives the payload's bytes and returns
    /// the result's bytes, or `None` for no result.
    ///
    /// ```
    /// # use rocket_jobqueue::handler::{HandlerEntry, JobHandler};
    /// # use rocket_jobqueue::{JobContext, JobError, JobQueue, RetryPolicy};
    /// # use std::time::Duration;
    /// let resize = HandlerEntry::raw("image:resize", async |payload: Vec<u8>, _: JobContext| {
    ///     println!("{} bytes", payload.len());
    ///     Ok::<_, JobError>(None)
    /// });
    /// let policy = RetryPolicy::fixed(Duration::from_secs(30));
    /// let queue = JobQueue::fairing().handle(resize.retry_policy(policy));
    /// ```
    pub fn raw<F, Fut, E>(job_type: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Vec<u8>, JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Vec<u8>>, E>> + Send + 'static,
        E: Into<JobError>,
    {
        raw_entry(job_type.into(), JobOptions::new(), handler)
    }

    /// The stored name of the job type.
    pub fn job_type(&self) -> &str {
        &self.job_type
    }

    /// The payload's JSON Schema, if the job type has one.
    pub fn schema(&self) -> Option<&serde_json::Value> {
        self.schema.as_ref()
    }

    /// Checks that the handler can decode a payload, and asks it for its type's unique key.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if it cannot. The message quotes nothing of the payload.
    pub(crate) fn check(&self, payload: &[u8]) -> Result<Option<String>, Error> {
        (self.check)(payload).map_err(Error::invalid)
    }

    /// The policy of this type, or else `default`.
    pub(crate) fn retry_policy_or<'a>(&'a self, default: &'a RetryPolicy) -> &'a RetryPolicy {
        self.retry.as_ref().unwrap_or(default)
    }
}

impl fmt::Debug for HandlerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerEntry").field("job_type", &self.job_type).finish_non_exhaustive()
    }
}

/// A function that runs jobs of one type: `async fn(job, extractors…) ->
/// Result<T, E>`, where `E` is any error, a text, `anyhow::Error` or [`JobError`].
///
/// What it returns is stored as JSON if the job has a retention; `()` stores nothing.
/// [`JobHandler`](super::JobHandler) changes a handler before it is attached.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job handler",
    label = "expected `async fn(job: J, extractors..) -> Result<T, E>`",
    note = "the job comes first, and `J: Job`; `T: Serialize`; `E` is an error (`std::error::Error + Send + Sync`), a text, `anyhow::Error` or `JobError`",
    note = "extractors are `JobContext` and `Managed<T>`, where `T: Clone`: add `#[derive(Clone)]` to `T`, also beside `#[derive(Database)]`, or manage an `Arc<T>`",
    note = "the future must be `Send`: it holds no `Rc` and no guard of `std::sync` across an `.await`",
    note = "a function that is not `async` is attached by `handle(function.blocking())`, with `use rocket_jobqueue::handler::JobHandler`"
)]
pub trait IntoEntry<Marker>: Send + Sync + 'static {
    /// Erases the types of the job and of the handler.
    fn entry(self) -> HandlerEntry;
}

impl IntoEntry<HandlerEntry> for HandlerEntry {
    fn entry(self) -> HandlerEntry {
        self
    }
}

/// The result as JSON; `None` for `()` and anything else written as `null`. A result that cannot
/// be JSON archives the job: it would fail again.
fn encode<T: Serialize>(value: &T) -> Result<Option<Vec<u8>>, JobError> {
    match serde_json::to_vec(value) {
        Ok(bytes) if bytes == b"null" => Ok(None),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => {
            let reason = marshal_reason(&error);
            Err(JobError::give_up(format!("failed to marshal result: {reason}")))
        }
    }
}

/// The payload as the handler's job, or a failure that quotes nothing of it. Another
/// version of the handler may understand it.
fn decode<J: Job>(context: &JobContext) -> Result<J, JobError> {
    serde_json::from_slice(context.payload())
        .map_err(|error| JobError::undecodable(unmarshal_text::<J>(context.payload(), &error)))
}

/// Implements [`IntoEntry`] for functions with the job and this many parameters after it: none to
/// six. The marker type lists the parameters, so that the implementations do not overlap.
macro_rules! handlers {
    ($($part:ident)*) => {
        impl<F, Fut, J, T, E, $($part,)*> IntoEntry<fn(J, $($part,)*) -> (T, E)> for F
        where
            F: Fn(J, $($part,)*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<T, E>> + Send + 'static,
            J: Job,
            T: Serialize,
            E: Into<JobError>,
            $($part: FromContext,)*
        {
            fn entry(self) -> HandlerEntry {
                let handler = Arc::new(self);
                #[allow(unused_mut)]
                let mut needs = Vec::new();
                $($part::needs(&mut needs);)*
                HandlerEntry {
                    job_type: J::TYPE.to_owned(),
                    options: J::options(),
                    schema: J::schema(),
                    needs,
                    retry: J::retry_policy(),
                    pace: Arc::default(),
                    tally: Arc::default(),
                    #[cfg(feature = "metrics")]
                    stopwatch: None,
                    check: |payload| match serde_json::from_slice::<J>(payload) {
                        Ok(job) => Ok(job.unique_key()),
                        Err(error) => Err(unmarshal_text::<J>(payload, &error)),
                    },
                    layers: Arc::from([]),
                    run: Arc::new(move |context, _state| {
                        #[allow(non_snake_case)]
                        let ready = (|| {
                            let job = decode::<J>(&context)?;
                            $(let $part = $part::from_context(&context, _state)?;)*
                            Ok::<_, JobError>((job, $($part,)*))
                        })();
                        let handler = Arc::clone(&handler);
                        Box::pin(async move {
                            #[allow(non_snake_case)]
                            let (job, $($part,)*) = ready?;
                            match handler(job, $($part,)*).await {
                                Ok(value) => encode(&value),
                                Err(error) => Err(error.into()),
                            }
                        })
                    }),
                }
            }
        }
    };
}

handlers!();
handlers!(A);
handlers!(A B);
handlers!(A B C);
handlers!(A B C D);
handlers!(A B C D G);
handlers!(A B C D G H);

/// A handler for a job type without a Rust type, with the options of its jobs.
pub(crate) fn raw_entry<F, Fut, E>(
    job_type: String,
    options: JobOptions,
    handler: F,
) -> HandlerEntry
where
    F: Fn(Vec<u8>, JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<Vec<u8>>, E>> + Send + 'static,
    E: Into<JobError>,
{
    let handler = Arc::new(handler);
    HandlerEntry {
        job_type,
        options,
        schema: None,
        needs: Vec::new(),
        retry: None,
        pace: Arc::default(),
        tally: Arc::default(),
        #[cfg(feature = "metrics")]
        stopwatch: None,
        check: |_| Ok(None),
        layers: Arc::from([]),
        run: Arc::new(move |context, _| {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                let payload = context.payload().to_vec();
                handler(payload, context).await.map_err(Into::into)
            })
        }),
    }
}
