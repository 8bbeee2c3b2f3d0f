//! One `.attach()`: reads the configuration, manages the queue, mounts the
//! routes, starts the worker at liftoff and drains it at shutdown.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rocket::fairing::{self, Fairing, Info, Kind};
use rocket::figment::Figment;
use rocket::request::FromRequest;
use rocket::{Build, Orbit, Rocket};

use super::api::enqueue::Schemas;
use super::guards::{Hooks, erase};
use super::login::Login;
use super::{JobQueue, log, open_files, routes, stderr};
use crate::broker::memory::MemoryBroker;
use crate::broker::redis::RedisBroker;
use crate::broker::{Broker, GroupLimits, JobInfo, Redact, Viewer};
use crate::client::{Aggregate, Draft};
use crate::config::{Config, JobQueueConfig, Store, process_env, unused_variables};
use crate::demo;
use crate::error::Error;
use crate::job::{
    JobContext, JobError, JobOptions, JobRecord, Periodic, QueueName, RetryPolicy, Transition,
    UnknownJobs,
};
use crate::pool::RedisPool;
use crate::registry::{Entry, JobHandler, JobMiddleware, Layer, Need, Registry, State, raw_entry};
use crate::runtime::{ByHand, Runtime};
use crate::time::Clock;
use crate::worker::{SettledHook, WorkerSettings};

/// How often leases of 30 s are extended: Asynq's own interval.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Builds the queue of an application: handlers, guards and settings, then
/// `.attach()`.
///
/// Settings made here are stronger than every file and variable. Attached
/// twice, the last one counts.
#[must_use = "a fairing does nothing until it is attached"]
pub struct JobQueueFairing {
    parts: Mutex<Parts>,
}

struct Parts {
    entries: Vec<Entry>,
    layers: Vec<Layer>,
    settled: Vec<SettledHook>,
    periodic: Vec<Periodic>,
    hooks: Hooks,
    overrides: Figment,
    environment: Option<String>,
    retry: RetryPolicy,
    aggregate: Option<Aggregate>,
    worker_only: bool,
    redact: Option<Redact>,
    by_hand: Option<(Arc<dyn Broker>, Arc<ByHand>)>,
}

impl JobQueueFairing {
    pub(super) fn new() -> Self {
        Self {
            parts: Mutex::new(Parts {
                entries: Vec::new(),
                layers: Vec::new(),
                settled: Vec::new(),
                periodic: Vec::new(),
                hooks: Hooks::default(),
                overrides: Figment::new(),
                environment: None,
                retry: RetryPolicy::default(),
                aggregate: None,
                worker_only: false,
                redact: None,
                by_hand: None,
            }),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        change(self.parts.get_mut().unwrap_or_else(PoisonError::into_inner));
        self
    }

    /// Runs jobs of a type with this function: `async fn(job, extractors…) ->
    /// Result<T, E>`. See [`JobHandler`].
    pub fn handle<M>(self, handler: impl JobHandler<M>) -> Self {
        self.with(|parts| parts.entries.push(handler.entry()))
    }

    /// Runs jobs of a type that has no Rust type here: the payload's bytes come
    /// in, the result's bytes go out.
    pub fn handle_raw<F, Fut, E>(self, job_type: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Vec<u8>, JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Vec<u8>>, E>> + Send + 'static,
        E: Into<JobError>,
    {
        let entry = Entry::raw(job_type, handler);
        self.with(|parts| parts.entries.push(entry))
    }

    /// Runs this function around every handler; see [`JobMiddleware`]. Of several,
    /// the one that was added first is the outermost.
    pub fn middleware<M>(self, middleware: impl JobMiddleware<M>) -> Self {
        self.with(|parts| parts.layers.push(middleware.layer()))
    }

    /// Tells this function of every attempt that ended and what became of the job,
    /// after the store has carried it out: what an error tracker needs. Called also
    /// for panics, time limits and cancellations, which no middleware sees; not for
    /// attempts whose lease was lost. Where the store's answer got lost, and the lease
    /// ran out before it could be asked again, the store may have carried it out or
    /// given the job to another worker: the hook is called, so that it misses nothing.
    ///
    /// It runs on the worker's own task: hand slow work to another one. A panic in
    /// it is logged.
    ///
    /// ```
    /// use rocket_jobqueue::handler::Transition;
    /// use rocket_jobqueue::JobQueue;
    ///
    /// let queue = JobQueue::fairing().on_settled(|context, what| {
    ///     if let Transition::Archive { error } = what {
    ///         eprintln!("{} {} needs a look: {error}", context.job_type(), context.id());
    ///     }
    /// });
    /// ```
    pub fn on_settled(
        self,
        hook: impl Fn(&JobContext, &Transition) + Send + Sync + 'static,
    ) -> Self {
        self.with(|parts| parts.settled.push(Arc::new(hook)))
    }

    /// Makes one job of the jobs that wait in a group: the function gets the
    /// group's name and its jobs, the one that joined first in front, and returns
    /// the job to be stored in their place, in the same queue. Jobs join a group
    /// by [`Enqueue::group`](crate::Enqueue::group).
    ///
    /// A group is aggregated when no job has joined it for `jobqueue.group_grace`
    /// (60 s), when its oldest job has waited for `jobqueue.group_max_delay`, or
    /// when it has `jobqueue.group_max_size` jobs; at most three at a time in one
    /// process, of at most 5,000 jobs each: the others of a group are next. Storing the job and removing the others is one step: no jobs are
    /// aggregated twice or lost, whenever a process dies.
    ///
    /// Where the function fails, panics or is not done within two minutes, nothing
    /// happened: the jobs are back in their group after that time, and are tried
    /// again. So it must bear a repetition, and should leave the work to the job
    /// it makes, which can have no idempotency key: the jobs are made into one job
    /// once anyway, and an earlier job in its place would lose them. Without a function groups are left to other processes.
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

    /// Enqueues a job again and again; see [`Periodic`]. Entries may also be
    /// configured (`jobqueue.periodic.<name>`), and added while the application
    /// runs ([`JobQueue::periodic`]). They are fired by processes with a worker, or
    /// as `jobqueue.fire_periodic` says.
    pub fn periodic(self, entry: Periodic) -> Self {
        self.with(|parts| parts.periodic.push(entry))
    }

    /// Asks this guard of the application's before it shows or changes queues
    /// and jobs. `jobqueue.read_only = true` lets nobody change anything.
    ///
    /// Without this guard and a [`view_guard`](Self::view_guard) these routes answer 403.
    /// During development (Rocket's profile `debug` in a build with debug assertions) they
    /// ask for a token instead, which is made at each launch; its link is printed on
    /// standard error.
    pub fn admin_guard<G>(self) -> Self
    where
        G: for<'r> FromRequest<'r> + Send + 'static,
    {
        self.with(|parts| parts.hooks.admin = Some(erase::<G>()))
    }

    /// Asks this guard of the application's before it shows queues and jobs to
    /// somebody who may not change them. Who passes the
    /// [`admin_guard`](Self::admin_guard) may look as well.
    pub fn view_guard<G>(self) -> Self
    where
        G: for<'r> FromRequest<'r> + Send + 'static,
    {
        self.with(|parts| parts.hooks.view = Some(erase::<G>()))
    }

    /// Asks this guard of the application's before it registers the reference
    /// job. Without one the route is public; `jobqueue.register_route = false`
    /// switches it off, and `jobqueue.register_max_waiting` bounds it.
    pub fn register_guard<G>(self) -> Self
    where
        G: for<'r> FromRequest<'r> + Send + 'static,
    {
        self.with(|parts| parts.hooks.register = Some(erase::<G>()))
    }

    /// Changes what REST, pages, status links and log lines show of a job, before it is
    /// shown or searched: payload, result, headers, progress and errors may hold what
    /// operators need not see. What derives from a hidden payload is hidden as well: the
    /// name of the unique lock, and each error, progress, header and result that quotes a
    /// part of the payload which the function took away. Of periodic jobs and of what
    /// workers run no payload is shown then, and pages do not edit payloads.
    /// Names (queue, job type, id, group) are always shown.
    /// [`JobQueue::inspector`] shows everything, as before.
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

    /// How long failed jobs wait. Default: Asynq's formula.
    pub fn retry_policy(self, policy: RetryPolicy) -> Self {
        self.with(|parts| parts.retry = policy)
    }

    /// What becomes of jobs that no handler here takes. Default
    /// [`UnknownJobs::Park`].
    #[track_caller]
    pub fn unknown_jobs(self, what: UnknownJobs) -> Self {
        let word = match what {
            UnknownJobs::Archive => "archive",
            UnknownJobs::Park => "park",
        };
        self.set("jobqueue.unknown_jobs", word)
    }

    /// Sets one value of the configuration by its full path, stronger than every
    /// file and variable: `.set("jobqueue.concurrency", 50)`. Wrong values stop
    /// the launch.
    #[track_caller]
    pub fn set(self, key: &str, value: impl serde::Serialize) -> Self {
        let overrides = self.overrides().merge((key, value));
        self.with(|parts| parts.overrides = overrides)
    }

    fn overrides(&self) -> Figment {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).overrides.clone()
    }

    /// Keeps jobs in this process, gone when it ends: for development, tests and
    /// trying out.
    #[track_caller]
    pub fn memory(self) -> Self {
        self.set("jobqueue.store", "memory")
    }

    /// Uses this environment in place of the variable `APP_ENV`.
    pub fn environment(self, name: impl Into<String>) -> Self {
        self.with(|parts| parts.environment = Some(name.into()))
    }

    /// Makes the application a worker: it listens on `jobqueue.port` (default
    /// 8082), and of our routes it has only those of health.
    pub fn worker_only(self) -> Self {
        self.with(|parts| parts.worker_only = true)
    }

    /// Keeps jobs in this store and leaves running them to a test.
    pub(crate) fn by_hand(self, broker: Arc<dyn Broker>, slot: Arc<ByHand>) -> Self {
        self.with(|parts| parts.by_hand = Some((broker, slot)))
    }

    fn take(&self) -> Parts {
        let parts = Self::new().parts.into_inner().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *self.parts.lock().unwrap_or_else(PoisonError::into_inner), parts)
    }
}

#[rocket::async_trait]
impl Fairing for JobQueueFairing {
    fn info(&self) -> Info {
        Info {
            name: "Job queue",
            kind: Kind::Ignite | Kind::Liftoff | Kind::Shutdown | Kind::Singleton,
        }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> fairing::Result {
        let parts = self.take();
        let ready = async {
            let ready = ignite(parts, &rocket)?;
            ready.queue.runtime().check_store().await?;
            Ok::<_, Error>(ready)
        };
        match ready.await {
            Ok(ready) => {
                stderr::flush();
                Ok(ready.attach_to(rocket))
            }
            Err(error) => {
                log::to_stderr_unless_taken();
                crate::log::error!("the job queue cannot start: {error}");
                stderr::flush();
                Err(rocket)
            }
        }
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        let Some(queue) = rocket.state::<JobQueue>() else { return };
        let runtime = queue.runtime();
        let mut state = State::default();
        for need in runtime.registry().needs() {
            if let Some(value) = (need.load)(rocket as &dyn Any) {
                state.insert(&need, value);
            }
        }
        runtime.start(state);
        let config = queue.config();
        let store = runtime.describe();
        if config.worker {
            let queues: Vec<_> =
                config.queues.iter().map(|(queue, weight)| format!("{queue}={weight}")).collect();
            crate::log::info!(
                "job queue at {}: {store}, {} jobs at a time from {}",
                config.base,
                config.concurrency,
                queues.join(" ")
            );
        } else {
            crate::log::info!("job queue at {}: {store}, enqueueing only", config.base);
        }
        if let Some(login) = rocket.state::<Login>() {
            login.show(rocket.config(), &config.base);
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

/// What ignition has made of the parts.
struct Ready {
    queue: JobQueue,
    hooks: Hooks,
    login: Option<Login>,
    schemas: Schemas,
    config: Config,
    worker_only: bool,
}

fn ignite(parts: Parts, rocket: &Rocket<Build>) -> Result<Ready, Error> {
    let environment = parts.environment;
    let env = |name: &str| match (&environment, name) {
        (Some(word), "APP_ENV") => Some(word.clone()),
        _ => process_env(name),
    };
    let cwd = std::env::current_dir()
        .map_err(|error| Error::config(format!("the current folder cannot be read: {error}")))?;
    let config = Config::load(rocket.figment(), &parts.overrides, &env, &cwd)?;
    if config.jobqueue.log_to_stderr {
        log::to_stderr_unless_taken();
    }
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    for warning in config.warnings.iter().chain(&unused_variables(variables)) {
        crate::log::warn!("{warning}");
    }
    for queue in config.jobqueue.queues.keys() {
        if let Err(error) = QueueName::new(queue.as_str()) {
            crate::log::warn!(
                "jobqueue.queues: {queue:?} is served, but nothing can be enqueued there: {error}"
            );
        }
    }
    open_files::warn_if_few();
    let archive = config.jobqueue.archive.clone();
    let by_hand = parts.by_hand;
    let broker: Arc<dyn Broker> = match (&by_hand, config.jobqueue.store) {
        (Some((broker, _)), _) => Arc::clone(broker),
        (None, Store::Memory) => {
            crate::log::warn!("jobs are kept in this process's memory and are gone when it ends");
            Arc::new(MemoryBroker::new(Clock::system()).with_archive(archive))
        }
        (None, Store::Redis) => {
            let pool = RedisPool::new(config.redis.clone())?;
            Arc::new(RedisBroker::new(pool, Clock::system()).with_archive(archive))
        }
    };
    let mut registry = Registry::default();
    registry.add(raw_entry(
        demo::TYPE.to_owned(),
        JobOptions::new().delay(demo::DEFAULT_DELAY),
        |payload, _| demo::delay_print(payload),
    ))?;
    for entry in parts.entries {
        registry.add(entry)?;
    }
    registry.surround(parts.layers);
    let schemas = Schemas::of(&registry)?;
    let mut hooks = parts.hooks;
    hooks.read_only = config.jobqueue.read_only;
    let mut login = None;
    if hooks.admin.is_none() && hooks.view.is_none() && !parts.worker_only {
        if config.development {
            let made = login.insert(Login::new());
            hooks.admin = Some(Box::new(made.clone()));
        } else {
            crate::log::warn!(
                "no guard is set: the pages and the REST routes about queues and jobs answer \
                 403; add `.admin_guard::<G>()` with a request guard of the application to \
                 `JobQueue::fairing()`"
            );
        }
    }
    let is_public = config.jobqueue.register_route && hooks.register.is_none();
    if is_public && !parts.worker_only && !config.development {
        crate::log::warn!(
            "everybody may register reference jobs at {}/register, at most {} at a time: switch \
             it off with jobqueue.register_route = false",
            config.jobqueue.base,
            config.jobqueue.register_max_waiting
        );
    }
    let (retry, settled) = (parts.retry, parts.settled);
    let viewer = Viewer::redacted(parts.redact);
    let settings = config.jobqueue.worker.then(|| WorkerSettings {
        retry,
        settled,
        viewer: viewer.clone(),
        ..worker_settings(&config.jobqueue)
    });
    let mut runtime = Runtime::new(broker, registry, settings, config.jobqueue.max_payload)
        .firing(config.jobqueue.fire_periodic)
        .allowing_eviction(config.jobqueue.allow_eviction);
    if let Some(function) = parts.aggregate {
        let limits = GroupLimits {
            grace: config.jobqueue.group_grace,
            max_delay: config.jobqueue.group_max_delay,
            max_size: config.jobqueue.group_max_size,
        };
        runtime = runtime.aggregating(function, limits);
    }
    if let Some((_, slot)) = by_hand {
        runtime = runtime.by_hand(slot);
    }
    for entry in &parts.periodic {
        let wrong = |error| Error::config(format!("periodic entry {entry:?}: {error}"));
        runtime.periodic().add_first(entry).map_err(wrong)?;
    }
    for (name, entry) in &config.jobqueue.periodic {
        let wrong = |error| Error::config(format!("jobqueue.periodic.{name}: {error}"));
        runtime.periodic().add_first(entry).map_err(wrong)?;
    }
    if !config.jobqueue.fire_periodic && !runtime.periodic().list().is_empty() {
        crate::log::info!("periodic entries are left to other processes (jobqueue.fire_periodic)");
    }
    let queue = JobQueue::shown_to(runtime, config.jobqueue.clone(), viewer);
    Ok(Ready { queue, hooks, login, schemas, config, worker_only: parts.worker_only })
}

fn worker_settings(config: &JobQueueConfig) -> WorkerSettings {
    WorkerSettings {
        concurrency: config.concurrency,
        queues: config.queues.clone(),
        strict_priority: config.strict_priority,
        shutdown_timeout: config.shutdown_timeout,
        heartbeat: HEARTBEAT,
        retry: RetryPolicy::default(),
        unknown: config.unknown_jobs,
        settled: Vec::new(),
        viewer: Viewer::default(),
    }
}

impl Ready {
    fn attach_to(self, mut rocket: Rocket<Build>) -> Rocket<Build> {
        // Rocket counts its grace from the signal on, the drain included: a
        // connection that is open after a long drain would fail the shutdown.
        let drain = self.config.jobqueue.shutdown_timeout.as_secs().saturating_add(2);
        let drain = u32::try_from(drain).unwrap_or(u32::MAX);
        let grace = rocket.figment().extract_inner::<u32>("shutdown.grace").unwrap_or(2);
        if self.config.jobqueue.worker && grace < drain {
            let figment = rocket.figment().clone().merge(("shutdown.grace", drain));
            rocket = rocket.configure(figment);
        }
        if self.worker_only {
            let port = self.config.jobqueue.port;
            let figment = rocket.figment().clone().merge(("port", port));
            rocket = rocket.configure(figment);
        }
        let needs = self.queue.runtime().registry().needs();
        let registry = self.queue.runtime().registry().clone();
        if let Some(login) = self.login {
            rocket = rocket.manage(login);
        }
        routes::mount(rocket, &self.config.jobqueue, &registry, self.worker_only)
            .manage(self.schemas)
            .manage(StopOnDrop(self.queue.clone()))
            .manage(self.queue)
            .manage(self.hooks)
            .attach(StateCheck(needs))
    }
}

/// A dropped application leaves no worker behind: Rocket runs no shutdown
/// fairing then.
struct StopOnDrop(JobQueue);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.runtime().abandon();
    }
}

/// Runs after the fairings that manage state, and stops the launch where a
/// handler names state that nobody manages.
struct StateCheck(Vec<Need>);

#[rocket::async_trait]
impl Fairing for StateCheck {
    fn info(&self) -> Info {
        Info { name: "Job queue: state of handlers", kind: Kind::Ignite | Kind::Singleton }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> fairing::Result {
        let missing = self.0.iter().find(|need| (need.load)(&rocket as &dyn Any).is_none());
        let Some(need) = missing else { return Ok(rocket) };
        log::to_stderr_unless_taken();
        crate::log::error!(
            "the job queue cannot start: a handler names `Managed<{name}>`, but the application \
             does not manage a `{name}`: add `.manage(…)` with one",
            name = need.name
        );
        stderr::flush();
        Err(rocket)
    }
}
