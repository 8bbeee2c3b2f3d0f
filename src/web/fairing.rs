//! The fairing: one `.attach()` reads the configuration, manages the queue, mounts the routes,
//! starts the worker at liftoff and drains it at shutdown.
//!
//! This file is what an application calls and what Rocket calls. `ignite` makes the queue of the
//! parts that were set, and `attach` puts it into the Rocket instance.
//!
//! Rocket runs the three callbacks in this order: *ignite*, in which every error is one sentence
//! on standard error and stops the launch; *liftoff*, which is awaited before requests are
//! served, so it spawns the worker and blocks on nothing; *shutdown*, which drains for at most
//! `jobqueue.shutdown_timeout`, because Rocket itself sets no limit. An unreachable Redis stops
//! none of them.

mod attach;
mod ignite;

use std::any::Any;
use std::sync::{Arc, Mutex};

use rocket::fairing::{self, Fairing, Info, Kind};
use rocket::figment::Figment;
use rocket::request::FromRequest;
use rocket::{Build, Orbit, Rocket};

use super::api::ActionHook;
use super::guards::{Hooks, erase, erase_named};
use super::login::Login;
use super::refusal::refuse;
use super::{JobQueue, stderr};
use crate::broker::{AuditEntry, Broker, JobInfo, Redact};
use crate::client::{Aggregate, Draft};
use crate::config::JobQueueConfig;
use crate::error::Error;
use crate::job::{
    JobContext, JobError, JobRecord, Limit, MaxWaiting, Periodic, RetryPolicy, Transition,
    UndecodableJobs, UnknownJobs,
};
use crate::registry::{AppState, HandlerEntry, IntoEntry, JobMiddleware, Layer};
use crate::runtime::TestDriver;
use crate::sync::{get_mut, lock};
use crate::worker::SettledHook;

use ignite::{configure, ignite};
pub(super) use ignite::{open_store, redis_store};

/// Builds the queue of an application: handlers, guards and settings, then `.attach()`.
///
/// Settings made here override every file and variable. An application attaches one: a second one
/// stops the launch.
#[must_use = "a fairing does nothing until it is attached"]
pub struct JobQueueFairing {
    parts: Mutex<FairingParts>,
}

/// Without the settings, which may hold credentials.
impl std::fmt::Debug for JobQueueFairing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobQueueFairing")
    }
}

/// What the application has set, until ignition takes it. Behind a mutex, because Rocket hands
/// the fairing out by shared reference only.
#[derive(Default)]
struct FairingParts {
    entries: Vec<HandlerEntry>,
    layers: Vec<Layer>,
    settled: Vec<SettledHook>,
    periodic: Vec<Periodic>,
    limits: Vec<(String, Limit)>,
    hooks: Hooks,
    overrides: Figment,
    environment: Option<String>,
    retry: RetryPolicy,
    aggregate: Option<Aggregate>,
    worker_only: bool,
    redact: Option<Redact>,
    on_action: Vec<ActionHook>,
    test: Option<(Arc<dyn Broker>, TestDriver)>,
}

impl JobQueueFairing {
    /// A fairing without handlers, guards and values.
    pub(super) fn new() -> Self {
        Self { parts: Mutex::default() }
    }

    /// Changes the parts; every setter goes through here.
    fn with(mut self, change: impl FnOnce(&mut FairingParts)) -> Self {
        change(get_mut(&mut self.parts));
        self
    }

    /// Adds the handler of a job type: an `async fn(job, extractors…) -> Result<T, E>`. See
    /// [`IntoEntry`].
    pub fn handle<M>(self, handler: impl IntoEntry<M>) -> Self {
        self.with(|parts| parts.entries.push(handler.entry()))
    }

    /// Adds a handler for a job type without a Rust type: it takes the payload as bytes and
    /// returns the result as bytes.
    pub fn handle_raw<F, Fut, E>(self, job_type: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Vec<u8>, JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Vec<u8>>, E>> + Send + 'static,
        E: Into<JobError>,
    {
        let entry = HandlerEntry::raw(job_type, handler);
        self.with(|parts| parts.entries.push(entry))
    }

    /// Wraps every handler in this function; see [`JobMiddleware`]. The first one added is the
    /// outermost.
    pub fn middleware<M>(self, middleware: impl JobMiddleware<M>) -> Self {
        self.with(|parts| parts.layers.push(middleware.layer()))
    }

    /// Calls this function after each attempt, once the store has recorded its end: a place for
    /// an error tracker. It is called for panics, timeouts and cancellations too, which no
    /// middleware sees, but not for attempts whose lease was lost.
    ///
    /// If the store's reply is lost and the lease expires before a retry, the store may have
    /// recorded the end or given the job to another worker. The hook is called in that case, so
    /// that it misses nothing.
    ///
    /// The hook runs on the worker's own task, so hand slow work to another task. A panic in it
    /// is logged.
    ///
    /// ```
    /// use rocket_jobqueue::handler::Transition;
    /// use rocket_jobqueue::JobQueue;
    ///
    /// let queue = JobQueue::fairing().on_settled(|context, what| {
    ///     if let Transition::Archive { error } = what {
    ///         eprintln!("{} {} needs attention: {error}", context.job_type(), context.id());
    ///     }
    /// });
    /// ```
    pub fn on_settled(
        self,
        hook: impl Fn(&JobContext, &Transition) + Send + Sync + 'static,
    ) -> Self {
        self.with(|parts| parts.settled.push(Arc::new(hook)))
    }

    /// Aggregates the jobs of a group into one job. The function gets the group's name and its
    /// jobs, oldest first, and returns the job that replaces them in the same queue. Jobs join a
    /// group by [`Enqueue::group`](crate::Enqueue::group).
    ///
    /// A group is aggregated when no job has joined it for `jobqueue.group_grace` (60 s), when
    /// its oldest job has waited for `jobqueue.group_max_delay`, or when it has
    /// `jobqueue.group_max_size` jobs. A process aggregates at most three groups at a time, at
    /// most 5,000 jobs of each; the rest of a group follows. Storing the new job and removing
    /// the others is one step, so no job is aggregated twice or lost, whenever a process dies.
    ///
    /// If the function fails, panics or takes longer than two minutes, nothing happens: the jobs
    /// return to their group and are tried again. The function must therefore be repeatable, and
    /// should leave the work to the job it returns. That job cannot have an idempotency key: the
    /// jobs are aggregated once anyway, and an earlier job with the key would lose them. Without
    /// a function, groups are left to other processes.
    ///
    /// ```
    /// use rocket_jobqueue::{Draft, Error, Job, JobQueue, JobRecord};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Notify { text: String }
    /// impl Job for Notify { const TYPE: &'static str = "mail:notify"; }
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Digest { user: String, texts: Vec<String> }
    /// impl Job for Digest { const TYPE: &'static str = "mail:digest"; }
    ///
    /// async fn digest(user: String, jobs: Vec<JobRecord>) -> Result<Draft, Error> {
    ///     let texts = jobs.iter().map(|job| Ok(job.decode::<Notify>()?.text));
    ///     Ok(Draft::new(Digest { user, texts: texts.collect::<Result<_, Error>>()? }))
    /// }
    ///
    /// let queue = JobQueue::fairing().aggregate(digest).set("jobqueue.group_grace", "10s");
    /// ```
    pub fn aggregate<F, Fut, D, E>(self, function: F) -> Self
    where
        F: Fn(String, Vec<JobRecord>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<D, E>> + Send + 'static,
        D: Into<Draft>,
        E: Into<JobError>,
    {
        self.with(|parts| parts.aggregate = Some(Aggregate::new(function)))
    }

    /// Adds a periodic job: one that is enqueued by the clock; see [`Periodic`]. Periodic jobs
    /// can also be configured (`jobqueue.periodic.<name>`) and added while the application runs
    /// ([`JobQueue::periodic`]). Processes with a worker fire them, unless
    /// `jobqueue.fire_periodic` says otherwise.
    pub fn periodic(self, periodic: Periodic) -> Self {
        self.with(|parts| parts.periodic.push(periodic))
    }

    /// Declares a [`Limit`] of a queue: how many of its jobs run at once, or start in a time, over all
    /// processes. Limits can also be configured (`jobqueue.limits.<name>`). See the
    /// [guide](crate::guide::limits).
    ///
    /// Each launch sets what is declared in the store, over what an operator has changed there. What
    /// is declared here goes before the configuration's limit of the same queue and name. A limit
    /// that is no longer declared stays in the store until it is
    /// [removed](crate::Inspector::remove_limit).
    ///
    /// ```
    /// use rocket_jobqueue::limits::{Limit, LimitKey, Rate};
    /// use rocket_jobqueue::JobQueue;
    ///
    /// let stripe = Limit::new("stripe")
    ///     .key(LimitKey::parse("payload.account_id")?)
    ///     .concurrency(2)
    ///     .rate(Rate::parse("100/1m")?);
    /// let queue = JobQueue::fairing().limit("default", stripe);
    /// # Ok::<(), rocket_jobqueue::Error>(())
    /// ```
    ///
    /// An invalid limit or name of a queue stops the launch.
    pub fn limit(self, queue: impl Into<String>, limit: Limit) -> Self {
        let queue = queue.into();
        self.with(|parts| parts.limits.push((queue, limit)))
    }

    /// Protects the routes that show or change queues and jobs with a request guard of the
    /// application. With `jobqueue.read_only = true` every change is refused.
    ///
    /// Without this guard and a [`view_guard`](Self::view_guard) these routes answer 403. During
    /// development (Rocket's profile `debug` in a build with debug assertions) they ask for a
    /// token instead. It is random for each launch, and a link with it is printed to standard
    /// error.
    pub fn admin_guard<G>(self) -> Self
    where
        G: for<'r> FromRequest<'r> + Send + 'static,
    {
        self.with(|parts| parts.hooks.admin = Some(erase::<G>()))
    }

    /// As [`admin_guard`](Self::admin_guard), with the name of whom the guard admits: the audit log, its
    /// page, and [`on_action`](Self::on_action) say who did what. The name is cut to 100 characters on
    /// one line.
    ///
    /// ```
    /// # use rocket::request::{FromRequest, Outcome, Request};
    /// # use rocket_jobqueue::JobQueue;
    /// # struct Admin { name: String }
    /// # #[rocket::async_trait]
    /// # impl<'r> FromRequest<'r> for Admin {
    /// #     type Error = ();
    /// #     async fn from_request(_: &'r Request<'_>) -> Outcome<Self, ()> {
    /// #         Outcome::Success(Admin { name: "ada".to_owned() })
    /// #     }
    /// # }
    /// let queue = JobQueue::fairing().admin_guard_named(|admin: &Admin| admin.name.clone());
    /// ```
    pub fn admin_guard_named<G>(self, name: impl Fn(&G) -> String + Send + Sync + 'static) -> Self
    where
        G: for<'r> FromRequest<'r> + Send + 'static,
    {
        self.with(|parts| parts.hooks.admin = Some(erase_named(name)))
    }

    /// Calls a function after each change by REST or a page, with what was done and by whom: the same
    /// entry that `GET {base}/audit` lists, never a payload. What the application's own code does is not
    /// reported. The function runs before the answer is sent, so hand slow work to another task. A
    /// panic in it is logged.
    ///
    /// ```
    /// use rocket_jobqueue::JobQueue;
    ///
    /// let queue = JobQueue::fairing().on_action(|entry| {
    ///     eprintln!("{:?} {} {} {}", entry.actor, entry.action, entry.queue, entry.what);
    /// });
    /// ```
    pub fn on_action(self, hook: impl Fn(&AuditEntry) + Send + Sync + 'static) -> Self {
        self.with(|parts| parts.on_action.push(Arc::new(hook)))
    }

    /// Requests that pass this guard may view queues and jobs without changing them. Requests
    /// that pass the [`admin_guard`](Self::admin_guard) may view them as well.
    pub fn view_guard<G>(self) -> Self
    where
        G: for<'r> FromRequest<'r> + Send + 'static,
    {
        self.with(|parts| parts.hooks.view = Some(erase::<G>()))
    }

    /// Protects the route that registers the reference job. Without a guard the route is public;
    /// `jobqueue.register_max_waiting` bounds it, and `jobqueue.register_route = false` turns it
    /// off.
    pub fn register_guard<G>(self) -> Self
    where
        G: for<'r> FromRequest<'r> + Send + 'static,
    {
        self.with(|parts| parts.hooks.register = Some(erase::<G>()))
    }

    /// Where people log in: a path of this application, such as `/login`, or a URL that begins with
    /// `https://` or `http://`. A browser that asks for a page of the dashboard and is answered 401
    /// by a guard goes there, with the page's path in the parameter `next`. Redirect to it after the
    /// login, but only if it begins with a single `/`. All other clients get 401 with
    /// `WWW-Authenticate: Bearer`.
    ///
    /// ```
    /// # use rocket::request::{FromRequest, Outcome, Request};
    /// # use rocket_jobqueue::JobQueue;
    /// # struct Admin;
    /// # #[rocket::async_trait]
    /// # impl<'r> FromRequest<'r> for Admin {
    /// #     type Error = ();
    /// #     async fn from_request(_: &'r Request<'_>) -> Outcome<Self, ()> { Outcome::Success(Admin) }
    /// # }
    /// let queue = JobQueue::fairing().admin_guard::<Admin>().login_url("/login");
    /// ```
    ///
    /// # Errors
    /// Any other text stops the launch.
    pub fn login_url(self, url: impl Into<String>) -> Self {
        self.with(|parts| parts.hooks.login_url = Some(url.into()))
    }

    /// Hides parts of jobs from REST, pages, status links and log lines. The function changes
    /// each job before it is shown or searched: payload, result, headers, progress and errors may
    /// hold data that operators need not see.
    ///
    /// Everything derived from a hidden payload is hidden as well: the name of the unique lock, and
    /// each error, progress, header and result that quotes a hidden part of the payload. The
    /// payloads of periodic jobs and of jobs in flight are not shown at all, and pages do not
    /// edit payloads. [`JobQueue::inspector`] still shows everything.
    ///
    /// Two things are not hidden. Names (queue, job type, id, group) are always shown, because
    /// operators list and act by them: make none of them from data that they must not see. And a
    /// quoted `true`, `false`, `null` or single letter or digit is not recognised in a text,
    /// because it occurs in almost every text: if that much is a secret, let the function replace
    /// `last_error` and the other texts itself.
    ///
    /// ```
    /// use rocket_jobqueue::JobQueue;
    ///
    /// let queue = JobQueue::fairing().redact(|info| {
    ///     if info.record.job_type == "mail:password_reset" {
    ///         info.record.payload = Some(br#""hidden""#.to_vec());
    ///     }
    /// });
    /// ```
    pub fn redact(self, redact: impl Fn(&mut JobInfo) + Send + Sync + 'static) -> Self {
        self.with(|parts| parts.redact = Some(Arc::new(redact)))
    }

    /// The retry policy of job types that define none. Default: Asynq's formula.
    pub fn retry_policy(self, policy: RetryPolicy) -> Self {
        self.with(|parts| parts.retry = policy)
    }

    /// Keeps the queues, periodic jobs and idempotency keys of this application apart from those of
    /// others in the same store: `jobqueue.namespace`. Default: none.
    ///
    /// Names stay as they are in the application. The store, and Go with it, has `shop:default`
    /// for the queue `default`. Inspector, REST, pages and metrics know only this
    /// application's queues. All processes of an application need the same namespace, and its
    /// producers too.
    ///
    /// ```
    /// use rocket_jobqueue::JobQueue;
    ///
    /// let shop = JobQueue::fairing().namespace("shop");
    /// ```
    ///
    /// 1 to 32 of `A-Z a-z 0-9 _ . -`; another name stops the launch.
    #[track_caller]
    pub fn namespace(self, name: &str) -> Self {
        self.set("jobqueue.namespace", name)
    }

    /// The version of the application: `jobqueue.version`. Default: none.
    ///
    /// The pages, REST and the list of workers then say which version made an attempt, and since
    /// which one a kind of failure is known. Name the version of your own package:
    ///
    /// ```
    /// use rocket_jobqueue::JobQueue;
    ///
    /// let queue = JobQueue::fairing().version(env!("CARGO_PKG_VERSION"));
    /// ```
    ///
    /// What tells two deploys apart is better still: the tag or commit that a build was made of,
    /// such as `option_env!("GIT_SHA")`. Or leave this out, and let the deployment set
    /// `jobqueue.version`.
    ///
    /// 1 to 64 of `A-Z a-z 0-9 . _ + - ~ / : @`; another text stops the launch.
    #[track_caller]
    pub fn version(self, version: &str) -> Self {
        self.set("jobqueue.version", version)
    }

    /// Bounds the jobs that wait in a queue: `jobqueue.max_waiting.<queue>`. Default: any number.
    ///
    /// A further enqueue by this process is refused ([`Error::is_queue_full`]; by REST 429 with
    /// `Retry-After`), or archives the oldest waiting job. Periodic jobs, retries and what operators
    /// do are not bound. A queue without a bound costs nothing.
    ///
    /// ```
    /// use rocket_jobqueue::limits::MaxWaiting;
    /// use rocket_jobqueue::JobQueue;
    ///
    /// let queue = JobQueue::fairing()
    ///     .max_waiting("mail", MaxWaiting::refuse(10_000))
    ///     .max_waiting("metrics", MaxWaiting::drop_oldest(500));
    /// ```
    #[track_caller]
    pub fn max_waiting(self, queue: &str, bound: MaxWaiting) -> Self {
        let path = format!("jobqueue.max_waiting.{queue}");
        self.set(&format!("{path}.jobs"), bound.jobs)
            .set(&format!("{path}.when_full"), bound.when_full.as_str())
    }

    /// What the worker does with a job type that has no handler in this process. Default:
    /// [`UnknownJobs::Park`].
    #[track_caller]
    pub fn unknown_jobs(self, what: UnknownJobs) -> Self {
        let word = match what {
            UnknownJobs::Archive => "archive",
            UnknownJobs::Park => "park",
        };
        self.set("jobqueue.unknown_jobs", word)
    }

    /// What the worker does with a job whose payload its handler cannot decode, because another
    /// version of the application wrote it. Default: [`UndecodableJobs::Park`].
    #[track_caller]
    pub fn undecodable_jobs(self, what: UndecodableJobs) -> Self {
        let word = match what {
            UndecodableJobs::Park => "park",
            UndecodableJobs::Fail => "fail",
        };
        self.set("jobqueue.undecodable_jobs", word)
    }

    /// Sets one configuration value by its full path, overriding every file and variable:
    /// `.set("jobqueue.concurrency", 50)`. An invalid value stops the launch.
    #[track_caller]
    pub fn set(self, key: &str, value: impl serde::Serialize) -> Self {
        let overrides = self.overrides().merge((key, value));
        self.with(|parts| parts.overrides = overrides)
    }

    /// The values set so far.
    fn overrides(&self) -> Figment {
        lock(&self.parts).overrides.clone()
    }

    /// Keeps jobs in the memory of this process, so they are lost when it ends: for development,
    /// tests and trials.
    #[track_caller]
    pub fn memory(self) -> Self {
        self.set("jobqueue.store", "memory")
    }

    /// Keeps jobs in this folder on disk: durable with nothing installed, for one process at a
    /// time. A relative path begins in the folder of `Rocket.toml` if there is one, else in the
    /// current folder. [`durability`](crate::settings::JobQueueConfig::durability) says what a loss of
    /// power may cost. Needs the feature `disk`; without it the launch stops.
    #[track_caller]
    pub fn disk(self, path: impl AsRef<std::path::Path>) -> Self {
        // Values of the configuration are Unicode.
        let path = path.as_ref().to_string_lossy().into_owned();
        self.set("jobqueue.store", "disk").set("jobqueue.path", path)
    }

    /// Sets the environment, instead of the variable `APP_ENV`.
    pub fn environment(self, name: impl Into<String>) -> Self {
        self.with(|parts| parts.environment = Some(name.into()))
    }

    /// Makes the application a worker without a web interface: it listens on `jobqueue.port`
    /// (default 8082) and mounts only the health routes.
    pub fn worker_only(self) -> Self {
        self.with(|parts| parts.worker_only = true)
    }

    /// Keeps jobs in this store; a test runs them step by step.
    pub(crate) fn driven_by(self, broker: Arc<dyn Broker>, driver: TestDriver) -> Self {
        self.with(|parts| parts.test = Some((broker, driver)))
    }

    /// Takes the parts, for ignition, and leaves empty ones.
    fn take(&self) -> FairingParts {
        std::mem::take(&mut *lock(&self.parts))
    }
}

#[rocket::async_trait]
impl Fairing for JobQueueFairing {
    fn info(&self) -> Info {
        Info {
            name: "Job queue",
            // Not a singleton, of which Rocket would drop all but the last without a word.
            kind: Kind::Ignite | Kind::Liftoff | Kind::Shutdown,
        }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> fairing::Result {
        let mut parts = self.take();
        let ready = async {
            if rocket.state::<JobQueue>().is_some() {
                return Err(Error::config(
                    "two `JobQueue::fairing()` are attached: attach one, and give it the handlers, \
                     guards and settings of both",
                ));
            }
            let config = configure(&parts, &rocket)?;
            let store = match parts.test.take() {
                Some((broker, driver)) => (broker, Some(driver)),
                None => (open_store(&config).await?, None),
            };
            let ready = ignite(parts, config, store)?;
            ready.queue.runtime().check_store().await?;
            Ok::<_, Error>(ready)
        };
        match ready.await {
            Ok(ready) => {
                stderr::flush();
                Ok(ready.attach_to(rocket))
            }
            Err(error) => Err(refuse(rocket, "the job queue", &error)),
        }
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        let Some(queue) = rocket.state::<JobQueue>() else { return };
        let runtime = queue.runtime();
        let mut state = AppState::default();
        for need in runtime.registry().needs() {
            if let Some(value) = (need.load)(rocket as &dyn Any) {
                state.insert(&need, value);
            }
        }
        runtime.start(state);
        announce(queue.config(), &runtime.describe());
        if let Some(login) = rocket.state::<Login>() {
            login.show(rocket.config(), &queue.config().base);
        }
        stderr::flush();
    }

    async fn on_shutdown(&self, rocket: &Rocket<Orbit>) {
        if let Some(queue) = rocket.state::<JobQueue>() {
            queue.shutdown().await;
            stderr::flush();
        }
    }
}

/// The line at liftoff: base, store, concurrency and queues. It shows at a glance which
/// settings took effect.
fn announce(config: &JobQueueConfig, store: &str) {
    let base = &config.base;
    if !config.worker {
        crate::log::info!("job queue at {base}: {store}, enqueueing only");
        return;
    }
    let queues: Vec<_> =
        config.queues.iter().map(|(queue, weight)| format!("{queue}={weight}")).collect();
    crate::log::info!(
        "job queue at {base}: {store}, {} jobs at a time from {}",
        config.concurrency,
        queues.join(" ")
    );
}
