//! The queue in a Rocket application: one fairing to attach, one handle to enqueue with, and the
//! routes. No module outside of this folder knows Rocket.
//!
//! | part | what it does |
//! | --- | --- |
//! | `fairing` | builds the queue at ignition, starts the worker at liftoff, drains at shutdown |
//! | `guards`, `origin`, `login` | who may view and who may act |
//! | `api` | the REST interface, one file a noun; `openapi` documents it, `docs` shows it |
//! | `dashboard` | the pages |
//! | `error` | every error as problem details (RFC 9457) |
//! | `catchers`, `methods` | the answers where a guard refuses, and where no route answers |
//! | `proxy` | who the client is and how it reaches us behind a reverse proxy |
//! | `reads`, `looks` | bounds on what viewers may cost the store |
//! | `rate_limit` | the rate limit, for any Rocket application |
//! | `stderr`, `log` | our log lines in an application without a subscriber |

mod api;
mod catchers;
#[cfg(feature = "dashboard")]
mod dashboard;
mod database;
#[cfg(feature = "openapi")]
mod docs;
mod error;
mod fairing;
mod grouped;
mod guards;
mod log;
mod login;
mod looks;
mod managed;
mod methods;
mod on_success;
mod open_files;
#[cfg(feature = "openapi")]
mod openapi;
mod origin;
mod peers;
mod producer;
mod proxy;
mod query;
mod rate_limit;
mod reads;
mod refusal;
mod routes;
mod schemas;
mod stderr;
mod transfer;
mod unbuffered;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::broker::{Inspect, JobInfo, Viewer};
#[cfg(feature = "metrics")]
use crate::broker::{QueueInfo, QueueSummary};
use crate::client::{Client, Draft, Enqueue, EnqueueAll, Receipt};
use crate::config::JobQueueConfig;
use crate::error::Error;
use crate::inspector::{Alerts, Inspector};
use crate::job::{Job, JobId, Placement, QueueName};
use crate::runtime::Runtime;
use crate::scheduler::PeriodicJobs;
use crate::time::Timestamp;
use crate::trace::Trace;

use api::{ActionHook, status};
use guards::ViewAccess;
use looks::Looks;
use reads::Reads;

pub use api::status::Accepted;
pub use database::JobQueuePool;
pub use error::{FieldProblem, ProblemDetails};
pub use fairing::JobQueueFairing;
pub use managed::Managed;
pub use on_success::OnSuccess;
pub use rate_limit::{RateLimit, RateLimitFairing};
pub use routes::addresses;

/// The job queue of this application: a request guard, managed state, and a handle that can be
/// cloned and kept.
///
/// Routes take it as a parameter, handlers as `Managed<JobQueue>`. If a route takes it and no
/// [`JobQueue::fairing`] is attached, the launch fails.
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
    inner: Arc<QueueInner>,
    /// The trace of the request that this handle serves.
    trace: Option<Trace>,
    /// The path prefix of the proxies before that request.
    prefix: Option<Arc<str>>,
}

/// What all clones of the handle share.
struct QueueInner {
    runtime: Runtime,
    config: JobQueueConfig,
    viewer: Viewer,
    looks: Looks,
    reads: Reads,
    on_action: Vec<ActionHook>,
}

impl JobQueue {
    /// The fairing to attach. It can be set up with handlers, guards and configuration first.
    pub fn fairing() -> JobQueueFairing {
        JobQueueFairing::new()
    }

    /// The OpenAPI 3.0 document of the routes below the base, to merge into the application's
    /// own. Its paths are relative to the base.
    #[cfg(feature = "openapi")]
    pub fn openapi() -> rocket_okapi::okapi::openapi3::OpenApi {
        openapi::document(true, &[])
    }

    /// A queue that shows everything to viewers.
    pub(crate) fn new(runtime: Runtime, config: JobQueueConfig) -> Self {
        Self::shown_to(runtime, config, Viewer::default(), Vec::new())
    }

    /// A queue that shows viewers what this viewer may see.
    pub(crate) fn shown_to(
        runtime: Runtime,
        config: JobQueueConfig,
        viewer: Viewer,
        on_action: Vec<ActionHook>,
    ) -> Self {
        let (looks, reads) = (Looks::default(), Reads::default());
        let inner = Arc::new(QueueInner { runtime, config, viewer, looks, reads, on_action });
        Self { inner, trace: None, prefix: None }
    }

    /// The same queue for a request of this trace, behind proxies with this prefix.
    fn in_request(&self, trace: Option<Trace>, prefix: &str) -> Self {
        let prefix = (!prefix.is_empty()).then(|| prefix.into());
        Self { inner: Arc::clone(&self.inner), trace, prefix }
    }

    /// The inspector for REST and pages: with what [`redact`](JobQueueFairing::redact) hides
    /// removed, and on connections that enqueueing does not use.
    pub(crate) fn redacted_inspector(&self) -> Inspector {
        self.inner.runtime.aside_inspector().shown_to(self.inner.viewer.clone())
    }

    /// Readings of the store that requests which wait or follow share.
    pub(crate) fn looks(&self) -> &Looks {
        &self.inner.looks
    }

    /// The turns of requests that read.
    fn reads(&self) -> &Reads {
        &self.inner.reads
    }

    /// The right to run the doctor, which one request has at a time.
    pub(crate) fn doctor_run(&self, access: ViewAccess) -> Result<OwnedSemaphorePermit, Error> {
        self.inner.reads.doctor_run(access)
    }

    /// Whether parts of jobs may be hidden from viewers.
    #[cfg(feature = "dashboard")]
    pub(crate) fn redacts(&self) -> bool {
        self.inner.viewer.is_restricted()
    }

    /// Prepares a job; await it to store it. See [`Enqueue`] for the options.
    pub fn enqueue<J: Job>(&self, job: J) -> Enqueue {
        self.client().enqueue(job)
    }

    /// Prepares a job by type name and payload bytes, for job types without a Rust type here, such
    /// as a Go worker's.
    pub fn enqueue_raw(&self, job_type: impl Into<String>, payload: Option<Vec<u8>>) -> Enqueue {
        self.client().enqueue_raw(job_type, payload)
    }

    /// Prepares many jobs of any types, queues and options; await it to store them. Each job has
    /// its own result. See [`EnqueueAll`].
    pub fn enqueue_all<I>(&self, jobs: I) -> EnqueueAll
    where
        I: IntoIterator,
        I::Item: Into<Draft>,
    {
        self.client().enqueue_all(jobs)
    }

    /// Gives a job that waits another due time; see [`Client::reschedule`].
    ///
    /// # Errors
    /// [`Error::is_not_found`], [`Error::is_wrong_state`], and errors of the store.
    pub async fn reschedule(
        &self,
        queue: &QueueName,
        id: &JobId,
        when: Placement,
    ) -> Result<(), Error> {
        self.client().reschedule(queue, id, when).await
    }

    /// Makes a job that waits another one, with its id; see [`Client::replace`].
    ///
    /// # Errors
    /// [`Error::is_not_found`], [`Error::is_wrong_state`], [`Error::is_duplicate`],
    /// [`Error::is_invalid`], and errors of the store.
    pub async fn replace(&self, id: &JobId, job: impl Into<Draft>) -> Result<Receipt, Error> {
        self.client().replace(id, job).await
    }

    /// The periodic jobs of this process, to add, remove and list.
    pub fn periodic(&self) -> PeriodicJobs {
        self.inner.runtime.periodic().clone()
    }

    /// Reads queues and jobs and acts on them, as an operator does.
    pub fn inspector(&self) -> Inspector {
        self.inner.runtime.inspector()
    }

    /// The producer alone, for code that does not depend on Rocket.
    pub fn client(&self) -> Client {
        self.inner.runtime.client().in_trace(self.trace.clone())
    }

    /// Whether the store has answered within the last 3 s and can be trusted to keep jobs. A store
    /// that is reconfigured to evict keys while this process runs makes it unready.
    pub async fn ready(&self) -> bool {
        self.inner.runtime.ready().await
    }

    /// A path, `{base}/status/…`, that shows the status of this job to everyone who has it. Give
    /// it to the application's own users, who have no access to other routes. It is valid for
    /// `good_for`, rounded up to a whole second.
    ///
    /// If the handle is a request guard, the path begins with the `X-Forwarded-Prefix` of the
    /// request's trusted proxies, so that it is right for the client. Other handles (a job's, a
    /// clone of managed state) have no request, so the path begins with `jobqueue.base`.
    ///
    /// Links are signed with `jobqueue.status_key`. Set the key if there are several processes,
    /// or if links must survive a restart. The response says whether the job is waiting, running,
    /// succeeded or failed, its progress, and the result if it is retained; never its payload or
    /// error.
    pub fn status_link(&self, queue: &QueueName, id: &JobId, good_for: Duration) -> String {
        let path = self.status_path(queue, id, good_for);
        format!("{}{path}", self.prefix.as_deref().unwrap_or_default())
    }

    /// A path below the base, as the client of this request reaches it.
    pub(crate) fn linked(&self, path: &str) -> String {
        format!("{}{}{path}", self.prefix.as_deref().unwrap_or_default(), self.inner.config.base)
    }

    /// The path of a status link, with the base and without a proxy's prefix.
    fn status_path(&self, queue: &QueueName, id: &JobId, good_for: Duration) -> String {
        let token = status::token(self, queue, id, self.now() + good_for);
        format!("{}/status/{token}", self.inner.config.base)
    }

    /// 202 with the job's id and a status link that is valid for a day: the response of a route
    /// that leaves its work to a job. See [`JobQueue::status_link`].
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
        // The response adds the prefix of its request.
        let link = self.status_path(&receipt.queue, &receipt.id, status::DEFAULT_LIFETIME);
        Accepted::new(receipt.id.clone(), link)
    }

    /// What needs attention, by the rules and thresholds of `jobqueue.alerts`: the list that the overview,
    /// `GET {base}/alerts` and the metrics show. All readers share one look at the store, which is
    /// at most a second old, or 10 ms for each queue; it reads at most 1,000 queues.
    ///
    /// ```
    /// # use rocket_jobqueue::{Error, JobQueue};
    /// async fn call_somebody(queue: &JobQueue) -> Result<(), Error> {
    ///     for alert in queue.alerts().await?.alerts {
    ///         println!("{:?} {}", alert.queue, alert.message);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// Errors of the store, if its queues cannot be read.
    pub async fn alerts(&self) -> Result<Alerts, Error> {
        Ok(self.shared_alerts().await?.as_ref().clone())
    }

    /// The same, shared. Requests that ask at the same time wait for one look.
    pub(crate) async fn shared_alerts(&self) -> Result<Arc<Alerts>, Error> {
        let watch = self.inner.runtime.alerts();
        if let Some(fresh) = watch.fresh() {
            return Ok(fresh);
        }
        let (look, inspector) = (Arc::clone(watch), self.redacted_inspector());
        let mut looks = self.looks().alerts.follow(watch.changes(), move || {
            let (look, inspector) = (Arc::clone(&look), inspector.clone());
            async move { (look.look(&inspector).await, None) }
        });
        let found = looks.wait_for(Option::is_some).await;
        let found =
            found.map_err(|_| Error::unavailable("the look at the store was broken off"))?;
        found.clone().expect("the wait was for it")
    }

    /// What the application wants to be called after an action.
    pub(crate) fn action_hooks(&self) -> &[ActionHook] {
        &self.inner.on_action
    }

    /// After a change by REST or a page: what was seen before is no longer shown.
    pub(crate) fn changed(&self) {
        self.inner.runtime.alerts().outdate();
    }

    /// The effective configuration.
    pub fn config(&self) -> &JobQueueConfig {
        &self.inner.config
    }

    /// Stops the worker: no new jobs are dequeued, jobs in flight may finish within
    /// `shutdown_timeout`, and the rest return to pending without counting an attempt. Enqueueing
    /// still works. The fairing calls this at shutdown; calling it twice is harmless.
    pub async fn shutdown(&self) {
        self.inner.runtime.shutdown().await;
    }

    /// Like [`JobQueue::shutdown`]; afterwards enqueueing fails with [`Error::is_closed`].
    pub async fn close(&self) {
        self.inner.runtime.close().await;
    }

    /// Starts the worker again after [`JobQueue::shutdown`]; the fairing starts it at liftoff. Does
    /// nothing while the worker runs, in a process without a worker, and after
    /// [`JobQueue::close`].
    ///
    /// # Errors
    /// [`Error::is_invalid`] before liftoff, because handlers have no state yet.
    pub fn start(&self) -> Result<(), Error> {
        self.inner.runtime.restart()
    }

    /// One stored job and its state. `None` if it does not exist; a job without retention is
    /// removed when it succeeds.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for an invalid queue name, and the errors of the store.
    pub async fn job(&self, queue: &str, id: &JobId) -> Result<Option<JobInfo>, Error> {
        self.inspect().job(&queue.parse()?, id).await
    }

    /// The readable queues, by name, at most `most` of them. The others are logged.
    #[cfg(feature = "metrics")]
    pub(crate) async fn some_queues(
        &self,
        most: usize,
    ) -> Result<Vec<(QueueName, QueueInfo)>, Error> {
        let read = |summary: QueueSummary| {
            if let Some(problem) = &summary.problem {
                crate::log::warn!(queue = %summary.queue, %problem, "cannot read a queue");
            }
            Some((summary.queue, summary.info?))
        };
        let some = self.inner.runtime.aside().summaries(None, most).await?;
        Ok(some.queues.into_iter().filter_map(read).collect())
    }

    /// The store's time, as far as this process knows it.
    pub(crate) fn now(&self) -> Timestamp {
        self.inner.runtime.now()
    }

    /// The store's reading side, without redaction.
    pub(crate) fn inspect(&self) -> &dyn Inspect {
        self.inner.runtime.inspect()
    }

    /// The machinery below the handle.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }
}

impl std::fmt::Debug for JobQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JobQueue({:?})", self.inner.runtime.client())
    }
}
