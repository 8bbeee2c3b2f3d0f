//! Ignition: makes the queue of what the application and the configuration set. Each step is a
//! function, in the order in which their warnings are logged; every error stops the launch.
//!
//! The order matters. The configuration is read before anything is opened, so that a misspelled key
//! is the error that is reported, and not a store that does not answer. The store is opened next,
//! with the archive's limits under stored queue names, and put behind the application's namespace.
//! Then [`ignite`] makes the registry of handlers, the runtime and the periodic jobs, which only
//! need values. Nothing runs before liftoff.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rocket::http::uri::Reference;
use rocket::{Build, Rocket};

use super::FairingParts;
use super::attach::Ignited;
use crate::broker::disk::{self, DiskSettings};
use crate::broker::memory::MemoryBroker;
use crate::broker::redis::RedisBroker;
use crate::broker::{ArchiveSettings, Broker, GroupLimits, Viewer, in_namespace};
use crate::config::{
    Config, JobQueueConfig, QueueLimit, Section, Store, process_env, unused_variables,
};
use crate::demo;
use crate::error::Error;
use crate::job::{JobOptions, Limit, Namespace, Periodic, QueueName, RetryPolicy};
use crate::pool::RedisPool;
use crate::registry::{HandlerEntry, Layer, Registry, raw_entry};
use crate::runtime::{DeclaredLimit, Runtime, TestDriver};
use crate::time::Clock;
use crate::web::guards::Hooks;
use crate::web::login::Login;
use crate::web::schemas::Schemas;
use crate::web::{JobQueue, log, open_files};
use crate::worker::WorkerSettings;

/// How often leases of 30 s are extended: Asynq's own interval.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How much longer than a drain to wait for a process that still has the folder.
const HANDOVER_MARGIN: Duration = Duration::from_secs(5);

/// Makes the queue, and everything that belongs beside it in the Rocket instance.
///
/// # Errors
/// [`Error::is_invalid`] for a wrong configuration, two handlers of a type, an invalid schema or
/// an invalid periodic job.
pub(super) fn ignite(
    parts: FairingParts,
    config: Config,
    store: OpenedStore,
) -> Result<Ignited, Error> {
    let (broker, test_driver) = store;
    let registry = registry(parts.entries, parts.layers)?;
    let schemas = Schemas::of(&registry)?;
    let (hooks, login) = guards(parts.hooks, &config, parts.worker_only);
    let viewer = Viewer::redacted(parts.redact);
    let settings = config.jobqueue.worker.then(|| WorkerSettings {
        retry: parts.retry,
        settled: parts.settled,
        viewer: viewer.clone(),
        ..worker_settings(&config.jobqueue)
    });
    let mut runtime = Runtime::new(broker, registry, settings, config.jobqueue.max_payload)
        .bounding(config.jobqueue.max_waiting.clone())
        .firing(config.jobqueue.fire_periodic)
        .allowing_eviction(config.jobqueue.allow_eviction)
        .declaring(limits(parts.limits, &config.jobqueue)?);
    if !parts.worker_only {
        runtime = runtime.watching(config.jobqueue.alerts.clone());
    }
    if let Some(function) = parts.aggregate {
        runtime = runtime.aggregating(function, group_limits(&config.jobqueue));
    }
    if let Some(driver) = test_driver {
        runtime = runtime.driven_by(driver);
    }
    add_periodic(&runtime, &parts.periodic, &config.jobqueue)?;
    let queue = JobQueue::shown_to(runtime, config.jobqueue.clone(), viewer, parts.on_action);
    Ok(Ignited { queue, hooks, login, schemas, config, worker_only: parts.worker_only })
}

/// The store, and the driver of a test.
pub(super) type OpenedStore = (Arc<dyn Broker>, Option<TestDriver>);

/// Reads the configuration and says what is odd about it.
///
/// # Errors
/// [`Error::is_config`] for a wrong configuration.
pub(super) fn configure(parts: &FairingParts, rocket: &Rocket<Build>) -> Result<Config, Error> {
    let config = load(parts, rocket)?;
    check_login_url(parts.hooks.login_url.as_deref())?;
    warn(&config);
    Ok(config)
}

/// A path here or a URL: anything else would be a redirect relative to each page.
fn check_login_url(url: Option<&str>) -> Result<(), Error> {
    let is_path = |url: &str| url.starts_with('/') && !url.starts_with("//");
    let is_url = |url: &str| url.starts_with("https://") || url.starts_with("http://");
    let is_plain = |url: &str| !url.contains('#') && Reference::parse(url).is_ok();
    match url {
        Some(url) if !(is_path(url) || is_url(url)) || !is_plain(url) => Err(Error::config(
            format!("login_url: expected a path such as /login or a URL, found {url:?}"),
        )),
        _ => Ok(()),
    }
}

/// Reads the configuration; the environment that the application set replaces `APP_ENV`.
fn load(parts: &FairingParts, rocket: &Rocket<Build>) -> Result<Config, Error> {
    let env = |name: &str| match (&parts.environment, name) {
        (Some(environment), "APP_ENV") => Some(environment.clone()),
        _ => process_env(name),
    };
    let cwd = std::env::current_dir()
        .map_err(|error| Error::config(format!("the current folder cannot be read: {error}")))?;
    // The rate limit reads its own sections, since its builder may complete them.
    let needed = [Section::Connection, Section::JobQueue];
    Config::load_sections(&needed, rocket.figment(), &parts.overrides, &env, &cwd)
}

/// Starts our own log if it is wanted, and logs what is odd but no error.
fn warn(config: &Config) {
    if config.jobqueue.log_to_stderr {
        log::to_stderr_unless_taken();
    }
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    for warning in config.warnings.iter().chain(&unused_variables(variables)) {
        crate::log::warn!("{warning}");
    }
    warn_of_queues(&config.jobqueue);
    open_files::warn_if_few();
}

/// Logs which served queues are probably meant otherwise.
fn warn_of_queues(config: &JobQueueConfig) {
    for queue in config.queues.keys() {
        if let Some(namespace) = &config.namespace
            && let Some(name) = namespace.shown(queue)
        {
            crate::log::warn!(
                "jobqueue.queues: {queue:?} has the namespace twice in the store; its name in \
                 this application is {name:?}"
            );
        }
        let fits = |namespace: &Namespace| namespace.check(queue);
        let named = QueueName::new(queue.as_str());
        if let Err(error) = named.and(config.namespace.as_ref().map_or(Ok(()), fits)) {
            crate::log::warn!(
                "jobqueue.queues: {queue:?} is served, but nothing can be enqueued there: {error}"
            );
        }
    }
}

/// The configured store. Nothing is connected yet, so an unreachable server is not an error
/// here; a folder is open, once no other process has it.
///
/// # Errors
/// The folder is used by another process, or its files cannot be read or written.
pub(in crate::web) async fn open_store(config: &Config) -> Result<Arc<dyn Broker>, Error> {
    let archive = stored_archive(config);
    let store: Arc<dyn Broker> = match config.jobqueue.store {
        Store::Memory => {
            crate::log::warn!("jobs are kept in this process's memory and are gone when it ends");
            Arc::new(MemoryBroker::new(Clock::system()).with_archive(archive))
        }
        Store::Disk => {
            let settings = DiskSettings {
                path: config.jobqueue.path.clone(),
                durability: config.jobqueue.durability,
                patience: config.jobqueue.shutdown_timeout.saturating_add(HANDOVER_MARGIN),
            };
            Arc::new(disk::open(&settings, Clock::system(), archive).await?)
        }
        Store::Redis => return redis_store(config),
    };
    Ok(in_namespace(store, config.jobqueue.namespace.as_ref()))
}

/// The configured Redis. Nothing is connected yet.
///
/// # Errors
/// The settings of the connection contradict each other.
pub(in crate::web) fn redis_store(config: &Config) -> Result<Arc<dyn Broker>, Error> {
    let pool = RedisPool::new(config.redis.clone())?;
    let store = RedisBroker::new(pool, Clock::system()).with_archive(stored_archive(config));
    Ok(in_namespace(Arc::new(store), config.jobqueue.namespace.as_ref()))
}

/// The limits on archived jobs, for the store below the namespace.
fn stored_archive(config: &Config) -> ArchiveSettings {
    config.jobqueue.archive.clone().stored_in(config.jobqueue.namespace.as_ref())
}

/// The handlers of all job types, the reference job included, each within the middleware. The
/// reference job comes first, so an application that handles its type gets the error about two
/// handlers.
fn registry(entries: Vec<HandlerEntry>, layers: Vec<Layer>) -> Result<Registry, Error> {
    let mut registry = Registry::default();
    registry.add(raw_entry(
        demo::TYPE.to_owned(),
        JobOptions::new().delay(demo::DEFAULT_DELAY),
        |payload, _| demo::delay_print(payload),
    ))?;
    for entry in entries {
        registry.add(entry)?;
    }
    registry.surround(layers);
    Ok(registry)
}

/// The guards of the routes: the application's own; without any, a login with a
/// token during development, and nobody otherwise. Says what is open or closed to everybody.
fn guards(mut hooks: Hooks, config: &Config, worker_only: bool) -> (Hooks, Option<Login>) {
    hooks.read_only = config.jobqueue.read_only;
    let mut login = None;
    if worker_only {
        return (hooks, login);
    }
    if hooks.admin.is_none() && hooks.view.is_none() {
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
    if is_public && !config.development {
        crate::log::warn!(
            "everybody may register reference jobs at {}/register, at most {} at a time: switch \
             it off with jobqueue.register_route = false",
            config.jobqueue.base,
            config.jobqueue.register_max_waiting
        );
    }
    (hooks, login)
}

/// The settings of a worker by the configuration alone. Retry policy, hooks and viewer are the
/// application's and follow.
fn worker_settings(config: &JobQueueConfig) -> WorkerSettings {
    WorkerSettings {
        concurrency: config.concurrency,
        concurrency_max: config.concurrency_max,
        queues: config.queues.clone(),
        strict_priority: config.strict_priority,
        shutdown_timeout: config.shutdown_timeout,
        heartbeat: HEARTBEAT_INTERVAL,
        retry: RetryPolicy::default(),
        unknown: config.unknown_jobs,
        undecodable: config.undecodable_jobs,
        settled: Vec::new(),
        viewer: Viewer::default(),
        version: config.version.clone(),
    }
}

/// The limits of the configuration and of the application, which go before those of the same queue
/// and name.
///
/// # Errors
/// [`Error::is_config`] for an invalid limit or name of a queue.
fn limits(
    declared: Vec<(String, Limit)>,
    config: &JobQueueConfig,
) -> Result<Vec<DeclaredLimit>, Error> {
    let mut all: BTreeMap<(QueueName, String), Limit> = BTreeMap::new();
    for QueueLimit { queue, limit, .. } in &config.limits {
        all.insert((queue.clone(), limit.name.clone()), limit.clone());
    }
    for (queue, limit) in declared {
        let wrong = |error| Error::config(format!("limit {:?}: {error}", limit.name));
        let queue = QueueName::new(&queue).map_err(wrong)?;
        limit.check().map_err(wrong)?;
        all.insert((queue, limit.name.clone()), limit);
    }
    Ok(all.into_iter().map(|((queue, _), limit)| DeclaredLimit { queue, limit }).collect())
}

/// When a group is aggregated.
fn group_limits(config: &JobQueueConfig) -> GroupLimits {
    GroupLimits {
        grace: config.group_grace,
        max_delay: config.group_max_delay,
        max_size: config.group_max_size,
    }
}

/// Adds the periodic jobs of the application, then the ones from the configuration.
fn add_periodic(
    runtime: &Runtime,
    periodic: &[Periodic],
    config: &JobQueueConfig,
) -> Result<(), Error> {
    for periodic in periodic {
        let wrong = |error| Error::config(format!("periodic job {periodic:?}: {error}"));
        runtime.periodic().add_first(periodic).map_err(wrong)?;
    }
    for (name, periodic) in &config.periodic {
        let wrong = |error| Error::config(format!("jobqueue.periodic.{name}: {error}"));
        runtime.periodic().add_first(periodic).map_err(wrong)?;
    }
    if !config.fire_periodic && !runtime.periodic().list().is_empty() {
        crate::log::info!("periodic jobs are left to other processes (jobqueue.fire_periodic)");
    }
    Ok(())
}
