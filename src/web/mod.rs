//! What a Rocket application sees of the queue: one fairing to attach, one
//! handle to enqueue with, and the routes. The only place that knows Rocket.

mod api;
#[cfg(feature = "dashboard")]
mod dashboard;
mod database;
#[cfg(feature = "openapi")]
mod docs;
mod error;
mod fairing;
mod guards;
mod log;
mod login;
mod looks;
mod managed;
mod open_files;
#[cfg(feature = "openapi")]
mod openapi;
mod origin;
mod peers;
mod proxy;
mod query;
mod rate_limit;
mod reads;
mod routes;
mod stderr;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::broker::{Inspect, JobInfo, Viewer};
#[cfg(feature = "metrics")]
use crate::broker::{QueueInfo, QueueSummary};
use crate::client::{Client, Draft, Enqueue, EnqueueAll, Receipt};
use crate::config::JobQueueConfig;
use crate::error::Error;
use crate::inspector::Inspector;
use crate::job::{Job, JobId, QueueName};
use crate::runtime::Runtime;
use crate::scheduler::PeriodicJobs;
use crate::time::Timestamp;
use crate::trace::Trace;

use api::status;
use guards::ViewAccess;
use looks::Looks;
use reads::Reads;

pub use api::status::Accepted;
pub use database::JobQueuePool;
pub use error::{FieldProblem, ProblemDetails};
pub use fairing::JobQueueFairing;
pub use managed::Managed;
pub use rate_limit::{RateLimit, RateLimitFairing};

/// The job queue of this application: a request guard, a piece of managed
/// state, and a handle that can be cloned and kept.
///
/// Routes name it as a parameter, handlers as `Managed<JobQueue>`. A route that
/// names it in an application without [`JobQueue::fairing`] stops the launch.
///
/// ```no_run
/// use rocket::serde::{Deserialize, Serialize};
/// use rocket::{get, launch, routes};
/// use rocket_jobqueue::{Job, JobQueue};
/// use std::time::Duration;
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(crate = "rocket::serde")]
/// struct Welcome {
///     user: u64,
/// }
///
/// impl Job for Welcome {
///     const TYPE: &'static str = "mail:welcome";
/// }
///
/// async fn send_welcome(job: Welcome) -> Result<(), std::io::Error> {
///     println!("welcome, user {}", job.user);
///     Ok(())
/// }
///
/// #[get("/sign-up/<user>")]
/// async fn sign_up(user: u64, queue: &JobQueue) -> Result<String, rocket_jobqueue::Error> {
///     let receipt = queue.enqueue(Welcome { user }).delay(Duration::from_secs(60)).await?;
///     Ok(format!("job {}\n", receipt.id))
/// }
///
/// #[launch]
/// fn rocket() -> _ {
///     rocket::build()
///         .attach(JobQueue::fairing().handle(send_welcome))
///         .mount("/", routes![sign_up])
/// }
/// ```
#[derive(Clone)]
pub struct JobQueue {
    inner: Arc<Inner>,
    /// The trace of the request that this handle serves.
    trace: Option<Trace>,
    /// The path prefix of the proxies before that request.
    prefix: Option<Arc<str>>,
}

struct Inner {
    runtime: Runtime,
    config: JobQueueConfig,
    viewer: Viewer,
    looks: Looks,
    reads: Reads,
}

impl JobQueue {
    /// The fairing that gives an application its queue.
    pub fn fairing() -> JobQueueFairing {
        JobQueueFairing::new()
    }

    /// What the routes below the base take and answer: an OpenAPI 3.0 document
    /// with paths relative to the base, to merge into the application's own.
    #[cfg(feature = "openapi")]
    pub fn openapi() -> rocket_okapi::okapi::openapi3::OpenApi {
        openapi::document(true, &[])
    }

    pub(crate) fn new(runtime: Runtime, config: JobQueueConfig) -> Self {
        Self::shown_to(runtime, config, Viewer::default())
    }

    pub(crate) fn shown_to(runtime: Runtime, config: JobQueueConfig, viewer: Viewer) -> Self {
        let (looks, reads) = (Looks::default(), Reads::default());
        let inner = Arc::new(Inner { runtime, config, viewer, looks, reads });
        Self { inner, trace: None, prefix: None }
    }

    /// The same queue for a request of this trace, behind proxies with this prefix.
    fn in_request(&self, trace: Option<Trace>, prefix: &str) -> Self {
        let prefix = (!prefix.is_empty()).then(|| prefix.into());
        Self { inner: Arc::clone(&self.inner), trace, prefix }
    }

    /// What REST and the pages show of it, through connections of their own.
    pub(crate) fn redacted_inspector(&self) -> Inspector {
        self.inner.runtime.aside_inspector().shown_to(self.inner.viewer.clone())
    }

    /// What this process looks at for requests that wait or follow.
    pub(crate) fn looks(&self) -> &Looks {
        &self.inner.looks
    }

    fn reads(&self) -> &Reads {
        &self.inner.reads
    }

    /// The place of a check-up, for somebody who may look.
    pub(crate) fn check_up(&self, access: ViewAccess) -> Result<OwnedSemaphorePermit, Error> {
        self.inner.reads.check_up(access)
    }

    /// Whether something of a job may be left out there.
    #[cfg(feature = "dashboard")]
    pub(crate) fn redacts(&self) -> bool {
        self.inner.viewer.is_restricted()
    }

    /// Prepares a job; await it to store it. See [`Enqueue`] for the options.
    pub fn enqueue<J: Job>(&self, job: J) -> Enqueue {
        self.client().enqueue(job)
    }

    /// Prepares a job by type and bytes, for types this process has no Rust type
    /// of: those of a Go worker, for example.
    pub fn enqueue_raw(&self, job_type: impl Into<String>, payload: Option<Vec<u8>>) -> Enqueue {
        self.client().enqueue_raw(job_type, payload)
    }

    /// Prepares many jobs of any types, queues and options; await it to store
    /// them, each with an answer of its own. See [`EnqueueAll`].
    pub fn enqueue_all<I>(&self, jobs: I) -> EnqueueAll
    where
        I: IntoIterator,
        I::Item: Into<Draft>,
    {
        self.client().enqueue_all(jobs)
    }

    /// The periodic entries of this process, to add, remove and list them.
    pub fn periodic(&self) -> PeriodicJobs {
        self.inner.runtime.periodic().clone()
    }

    /// Looks at queues and jobs and acts on them, as an operator does.
    pub fn inspector(&self) -> Inspector {
        self.inner.runtime.inspector()
    }

    /// The producer alone, for code that should not know of Rocket.
    pub fn client(&self) -> Client {
        self.inner.runtime.client().in_trace(self.trace.clone())
    }

    /// Whether the store has answered within the last 3 s, and keeps jobs: one that may evict
    /// them, as it was set to while this process ran, makes it unready.
    pub async fn ready(&self) -> bool {
        self.inner.runtime.ready().await
    }

    /// A path, `{base}/status/…`, at which whoever has it may see how this job is: what an
    /// application gives its own users, who may look at nothing else. It is good for so
    /// long, to the second, rounded up.
    ///
    /// If the handle is a request guard, the path begins with the `X-Forwarded-Prefix` of
    /// that request's trusted proxies, so that it is right for whoever asked. Any other
    /// handle (a job's, a clone of managed state) knows no request: the path begins with
    /// `jobqueue.base`.
    ///
    /// Links are signed with `jobqueue.status_key`; set it where there are several
    /// processes, or links are to outlive one. The answer tells whether the job waits, runs,
    /// succeeded or failed, its progress, and the result of one that is retained; never its
    /// payload or error.
    pub fn status_link(&self, queue: &QueueName, id: &JobId, good_for: Duration) -> String {
        let path = self.status_path(queue, id, good_for);
        format!("{}{path}", self.prefix.as_deref().unwrap_or_default())
    }

    fn status_path(&self, queue: &QueueName, id: &JobId, good_for: Duration) -> String {
        let token = status::token(self, queue, id, self.now() + good_for);
        format!("{}/status/{token}", self.inner.config.base)
    }

    /// 202 with the job's id and a status link that is good for a day: what a route answers
    /// whose work goes on in a job. See [`JobQueue::status_link`].
    ///
    /// ```
    /// use rocket::post;
    /// use rocket_jobqueue::{Accepted, Error, Job, JobQueue};
    ///
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Import { file: u64 }
    /// # impl Job for Import { const TYPE: &'static str = "import"; }
    /// #[post("/imports/<file>")]
    /// async fn import(file: u64, queue: &JobQueue) -> Result<Accepted, Error> {
    ///     let receipt = queue.enqueue(Import { file }).await?;
    ///     Ok(queue.accepted(&receipt))
    /// }
    /// ```
    pub fn accepted(&self, receipt: &Receipt) -> Accepted {
        // The answer adds the prefix of its request.
        let link = self.status_path(&receipt.queue, &receipt.id, status::USUAL);
        Accepted::new(receipt.id.clone(), link)
    }

    /// The configuration in force.
    pub fn config(&self) -> &JobQueueConfig {
        &self.inner.config
    }

    /// Stops fetching, lets running jobs finish within `shutdown_timeout`, and
    /// puts the rest back in line without counting an attempt. Enqueueing still
    /// works. The fairing does it at shutdown; repeating it is harmless.
    pub async fn shutdown(&self) {
        self.inner.runtime.shutdown().await;
    }

    /// [`JobQueue::shutdown`], after which enqueueing answers
    /// [`Error::is_closed`] too.
    pub async fn close(&self) {
        self.inner.runtime.close().await;
    }

    /// Starts the worker again after a [`JobQueue::shutdown`]; the fairing has
    /// started it at liftoff. Does nothing while it runs, in a process without
    /// worker, and after [`JobQueue::close`].
    ///
    /// # Errors
    /// [`Error::is_invalid`] before liftoff, when handlers have no state yet.
    pub fn start(&self) -> Result<(), Error> {
        self.inner.runtime.restart()
    }

    /// One stored job and where it stands; `None` where there is none, as after
    /// the success of a job that is not retained.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a queue name that cannot be, and those of the
    /// store.
    pub async fn job(&self, queue: &str, id: &JobId) -> Result<Option<JobInfo>, Error> {
        self.inspect().job(&queue.parse()?, id).await
    }

    /// The queues that can be read, by name, at most so many of the first.
    #[cfg(feature = "metrics")]
    pub(crate) async fn some_queues(
        &self,
        most: usize,
    ) -> Result<Vec<(QueueName, QueueInfo)>, Error> {
        let read = |summary: QueueSummary| {
            if let Some(problem) = &summary.problem {
                crate::log::warn!(queue = %summary.queue, %problem, "could not read a queue");
            }
            Some((summary.queue, summary.info?))
        };
        let some = self.inner.runtime.aside().summaries(None, most).await?;
        Ok(some.into_iter().filter_map(read).collect())
    }

    /// The store's time, as well as it is known.
    pub(crate) fn now(&self) -> Timestamp {
        self.inner.runtime.now()
    }

    pub(crate) fn inspect(&self) -> &dyn Inspect {
        self.inner.runtime.inspect()
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }
}

impl std::fmt::Debug for JobQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JobQueue({:?})", self.inner.runtime.client())
    }
}
