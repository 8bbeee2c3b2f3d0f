//! The handlers of a process, by job type.
//!
//! Only here do jobs lose their types: above it a job is a value of the
//! application's type, below it a job is a stored name and bytes. A [`JobHandler`] is an
//! application's function; [`JobHandler::entry`] erases its types into a [`HandlerEntry`], which the
//! worker finds by job type.
//!
//! An attempt decodes the payload, takes the handler's other parameters from the context
//! ([`FromContext`]) and runs the function inside its [middleware](JobMiddleware). A payload
//! that cannot be decoded is a failed attempt.
//!
//! Everything that can be wrong with a handler is found at launch: a type with two handlers, a
//! default queue with a name that is not allowed, and a [`Need`] for state that the application
//! does not manage. So no job is lost to a mistake that shows only when it runs.
//!
//! What may surprise. A job type without a handler in this process is not an error here: another
//! process may have it. The worker decides what to do with such a job.

mod middleware;
mod unmarshal;

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;

use crate::error::Error;
use crate::job::serial::marshal_reason;
use crate::job::{Job, JobContext, JobError, JobOptions, QueueName, RetryPolicy};
pub use middleware::{JobMiddleware, JobResult, Layer, Next};
pub(crate) use unmarshal::unmarshal_text;

/// A running attempt, with its types erased.
pub(crate) type RunningAttempt = Pin<Box<dyn Future<Output = JobResult> + Send>>;

/// Starts an attempt: decodes the payload and calls the handler.
type Run = Arc<dyn Fn(JobContext, &AppState) -> RunningAttempt + Send + Sync>;

/// Values that handlers name in their signatures, cloned out of the application at launch.
///
/// A handler therefore sees the value as it was at launch. What changes later must be behind an
/// `Arc` with a lock or an atomic inside.
#[derive(Default)]
pub struct AppState(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

/// The number of values, without the values.
impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({})", self.0.len())
    }
}

impl AppState {
    /// Adds the value of a need.
    pub(crate) fn insert(&mut self, need: &Need, value: Box<dyn Any + Send + Sync>) {
        self.0.insert(need.id, value);
    }

    /// Adds a value of a type that handlers may name.
    pub(crate) fn put<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Box::new(value));
    }

    /// Whether the value of this need is there.
    pub(crate) fn has(&self, need: &Need) -> bool {
        self.0.contains_key(&need.id)
    }

    /// The value of this type. The launch has checked that it is there.
    pub(crate) fn get<T: Clone + 'static>(&self) -> Option<T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref::<T>().cloned()
    }
}

/// One value that a handler needs: its name for messages, and how to clone it out of the
/// application.
#[derive(Clone, Copy)]
pub struct Need {
    /// The Rust name of the type.
    pub(crate) name: &'static str,
    id: TypeId,
    /// Clones the value; `None` if the application does not manage this type.
    pub(crate) load: fn(&dyn Any) -> Option<Box<dyn Any + Send + Sync>>,
}

impl Need {
    /// The need for a `T`, which `load` clones out of the application.
    pub(crate) fn of<T: 'static>(load: fn(&dyn Any) -> Option<Box<dyn Any + Send + Sync>>) -> Self {
        Self { name: type_name::<T>(), id: TypeId::of::<T>(), load }
    }
}

impl fmt::Debug for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A handler's parameter after the job: [`JobContext`], or
/// [`Managed<T>`](crate::Managed) for state the application manages.
#[diagnostic::on_unimplemented(
    message = "a job handler cannot receive `{Self}`",
    note = "after the job, a handler may name `JobContext` and `Managed<T>` for any `T: Clone` that the application manages"
)]
pub trait FromContext: Sized + Send + 'static {
    /// Adds the values that must be available at launch.
    fn needs(_needs: &mut Vec<Need>) {}

    /// Makes the parameter for one attempt.
    ///
    /// # Errors
    /// The attempt fails with this error.
    fn from_context(context: &JobContext, state: &AppState) -> Result<Self, JobError>;
}

impl FromContext for JobContext {
    fn from_context(context: &JobContext, _: &AppState) -> Result<Self, JobError> {
        Ok(context.clone())
    }
}

/// Number of jobs of a type that start alone after one of them blocked its thread. Large,
/// because a handler that blocked once usually blocks again; finite, so that one exception does
/// not slow the type down for ever.
const LONE_STARTS: u32 = 1000;

/// Whether the jobs of a type reach their first wait quickly. The launcher starts jobs of
/// slow types alone, so that they do not hold up others.
#[derive(Default)]
pub(crate) struct Pace(AtomicU32);

impl Pace {
    /// Whether the next job should start alone. Counts it, so that the type is tried together
    /// with others again after [`LONE_STARTS`] jobs.
    pub(crate) fn starts_alone(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        if left > 0 {
            self.0.store(left - 1, Ordering::Relaxed);
        }
        left > 0
    }

    /// One of them blocked its thread. The launcher reports it.
    pub(crate) fn was_slow(&self) {
        self.0.store(LONE_STARTS, Ordering::Relaxed);
    }
}

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
    /// Measures its attempts, once it is in a registry.
    #[cfg(feature = "metrics")]
    pub(crate) stopwatch: Option<crate::metrics::Stopwatch>,
    /// Decodes a payload as the handler will. The error says what is wrong with it.
    check: fn(&[u8]) -> Result<(), String>,
    /// Middleware of this handler, outermost first.
    layers: Arc<[Layer]>,
    run: Run,
}

impl HandlerEntry {
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

    /// Checks that the handler can decode a payload.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if it cannot. The message quotes nothing of the payload.
    pub(crate) fn check(&self, payload: &[u8]) -> Result<(), Error> {
        (self.check)(payload).map_err(Error::invalid)
    }

    /// The policy of this type, or else `default`.
    pub(crate) fn retry_policy_or<'a>(&'a self, default: &'a RetryPolicy) -> &'a RetryPolicy {
        self.retry.as_ref().unwrap_or(default)
    }
}

impl fmt::Debug for HandlerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("job_type", &self.job_type).finish_non_exhaustive()
    }
}

/// A function that runs jobs of one type: `async fn(job, extractors…) ->
/// Result<T, E>`, where `E` is anything that can be displayed, or [`JobError`].
///
/// What it returns is stored as JSON if the job has a retention; `()` stores nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job handler",
    note = "a handler is `async fn(job: J, extractors..) -> Result<T, E>` with `J: Job`, `T: Serialize` and `E: Display` (or `JobError`)"
)]
pub trait JobHandler<Marker>: Send + Sync + 'static {
    /// Erases the types of the job and of the handler.
    fn entry(self) -> HandlerEntry;

    /// Runs this function around the handler; see [`JobMiddleware`]. Of several, the one that
    /// was added first is the outermost.
    fn middleware<M>(self, middleware: impl JobMiddleware<M>) -> HandlerEntry
    where
        Self: Sized,
    {
        let mut entry = self.entry();
        let layer = middleware.layer();
        entry.needs.extend_from_slice(&layer.needs);
        entry.layers = entry.layers.iter().cloned().chain([layer]).collect();
        entry
    }

    /// The retry policy of this job type. It takes precedence over the policies of
    /// [`Job::retry_policy`] and of the worker.
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
    fn retry_policy(self, policy: RetryPolicy) -> HandlerEntry
    where
        Self: Sized,
    {
        let mut entry = self.entry();
        entry.retry = Some(policy);
        entry
    }
}

impl JobHandler<HandlerEntry> for HandlerEntry {
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

/// The payload as the handler's job, or a failure that quotes nothing of it. It is an ordinary
/// failure, so the job is retried: a newer version of the handler may understand it.
fn decode<J: Job>(context: &JobContext) -> Result<J, JobError> {
    serde_json::from_slice(context.payload())
        .map_err(|error| JobError::failed(unmarshal_text::<J>(context.payload(), &error)))
}

/// Implements [`JobHandler`] for functions with the job and this many parameters after it: none to
/// six. The marker type lists the parameters, so that the implementations do not overlap.
macro_rules! handlers {
    ($($part:ident)*) => {
        impl<F, Fut, J, T, E, $($part,)*> JobHandler<fn(J, $($part,)*) -> (T, E)> for F
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
                    #[cfg(feature = "metrics")]
                    stopwatch: None,
                    check: |payload| match serde_json::from_slice::<J>(payload) {
                        Ok(_) => Ok(()),
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

/// The handlers of one process, and the middleware around all of them.
#[derive(Clone)]
pub struct Registry {
    entries: HashMap<String, HandlerEntry>,
    /// Middleware of all handlers, outermost first.
    layers: Arc<[Layer]>,
    #[cfg(feature = "metrics")]
    attempts: crate::metrics::Attempts,
}

/// The names of the job types.
impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registry").field(&self.entries.keys()).finish()
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            layers: Arc::from([]),
            #[cfg(feature = "metrics")]
            attempts: Default::default(),
        }
    }
}

impl Registry {
    /// Adds a handler.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a blank type, a second handler of one type, or
    /// a default queue whose name is not allowed.
    pub fn add(&mut self, entry: HandlerEntry) -> Result<(), Error> {
        let name = &entry.job_type;
        if name.trim().is_empty() {
            return Err(Error::invalid("job type: expected a name, found a blank"));
        }
        QueueName::new(&entry.options.queue)
            .map_err(|error| Error::invalid(format!("job type {name:?}: {error}")))?;
        if self.entries.contains_key(name) {
            return Err(Error::invalid(format!("job type {name:?} has two handlers")));
        }
        let name = name.clone();
        #[cfg(feature = "metrics")]
        let entry = HandlerEntry { stopwatch: Some(self.attempts.of(&name)), ..entry };
        self.entries.insert(name, entry);
        Ok(())
    }

    /// Durations of the attempts of all types.
    #[cfg(feature = "metrics")]
    pub(crate) fn attempts(&self) -> &crate::metrics::Attempts {
        &self.attempts
    }

    /// Sets the middleware around all handlers, outermost first. Replaces what was set before.
    pub(crate) fn surround(&mut self, layers: Vec<Layer>) {
        self.layers = layers.into();
    }

    /// All handlers, sorted by job type.
    pub(crate) fn entries(&self) -> Vec<&HandlerEntry> {
        let mut entries: Vec<&HandlerEntry> = self.entries.values().collect();
        entries.sort_by_key(|entry| &entry.job_type);
        entries
    }

    /// The handler of a job type, if this process has one.
    pub(crate) fn get(&self, job_type: &str) -> Option<&HandlerEntry> {
        self.entries.get(job_type)
    }

    /// An attempt of the entry's handler, inside all its middleware. Without middleware the
    /// payload is decoded here already, before the attempt is polled.
    pub(crate) fn run(
        &self,
        entry: &HandlerEntry,
        context: JobContext,
        state: &Arc<AppState>,
    ) -> RunningAttempt {
        let next = Next {
            layers: [Arc::clone(&self.layers), Arc::clone(&entry.layers)],
            entered: 0,
            run: Arc::clone(&entry.run),
            context,
            state: Arc::clone(state),
        };
        next.attempt()
    }

    /// The values that handlers and middleware need from the application, each once.
    pub(crate) fn needs(&self) -> Vec<Need> {
        let of_all = self.layers.iter().flat_map(|layer| layer.needs.clone());
        let of_each = self.entries.values().flat_map(|entry| entry.needs.clone());
        let mut needs: Vec<Need> = of_all.chain(of_each).collect();
        needs.sort_by_key(|need| need.name);
        needs.dedup_by_key(|need| need.id);
        needs
    }
}

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
        #[cfg(feature = "metrics")]
        stopwatch: None,
        check: |_| Ok(()),
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
