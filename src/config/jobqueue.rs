//! The `jobqueue` section: what this process does with the queue.
//!
//! [`JobQueueConfig`] is what the section holds after all layers; each field says its default
//! and its bounds. Reading a field is one line in [`JobQueueConfig::read`]; a helper beside it
//! checks what a type alone cannot. A new key needs a field, its default, that line, and an
//! entry in [`schema`](super::schema), which a test compares with both.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::alerts;
use super::limits::{self, QueueLimit};
use super::periodic;
use super::value::{Leaf, Table, quoted};
use crate::broker::disk::Durability;
use crate::broker::{ArchiveLimit, ArchiveSettings};
use crate::client::MAX_PAYLOAD;
use crate::error::Error;
use crate::inspector::AlertSettings;
use crate::job::{
    AppVersion, EXPECTED_NAMESPACE, EXPECTED_VERSION, MaxWaiting, Namespace, Periodic, QueueName,
    UndecodableJobs, UnknownJobs, WhenFull,
};

/// Largest `max_payload`: half of what Redis takes in one value.
const MAX_PAYLOAD_BYTES: u32 = 256 * 1024 * 1024;

/// Largest `group_max_size`: the aggregate function gets all these jobs at once.
const MAX_SET_JOBS: u32 = crate::broker::MAX_SET_JOBS as u32;

/// Largest `archive_max`. An archive is for examining failures, not for keeping data.
const MAX_ARCHIVED_JOBS: u32 = 10_000_000;

/// The store of the jobs: `jobqueue.store`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Store {
    /// In Redis: shared by all processes, and durable.
    #[default]
    Redis,
    /// In a folder on disk: durable with nothing installed, for one process at a time. Needs
    /// the feature `disk`; without it the launch stops.
    Disk,
    /// In this process, lost when it ends: for development, tests and trials.
    Memory,
}

/// The `jobqueue` section: `[<profile>.jobqueue]` in `Rocket.toml`, `jobqueue.*`
/// in `config.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobQueueConfig {
    /// Path below which all routes lie, without a slash at the end. Default
    /// `/api/dm-jobqueue`, chosen to collide with no route of an application.
    pub base: String,
    /// The store of the jobs. Default [`Store::Redis`]; the library never falls back to memory
    /// by itself.
    pub store: Store,
    /// The folder of [`Store::Disk`]. Relative to the folder of `Rocket.toml` if there is one,
    /// else to the current folder; absolute once the configuration is read. Default
    /// `data/jobqueue`. It is made for this user alone, and belongs to one process at a time:
    /// the next one waits for [`shutdown_timeout`](Self::shutdown_timeout) and 5 s more.
    pub path: PathBuf,
    /// When a change counts as stored on disk. Default [`Durability::Always`]: once it is
    /// synced, so that no answer is lost with the power. [`Durability::EverySecond`] is
    /// faster: nothing is lost with the process, at most a second with the power.
    pub durability: Durability,
    /// The namespace of this application's queues, periodic jobs and idempotency keys. Default
    /// none: the store's names are the application's own. With `shop`, the queue `default` is
    /// stored as `shop:default`, and the application knows only queues of `shop`. 1 to 32 of
    /// `A-Z a-z 0-9 _ . -`.
    pub(crate) namespace: Option<Namespace>,
    /// The version of the application: what failures, announcements of workers and statistics say,
    /// so that an operator sees since which deploy. Default none. 1 to 64 of
    /// `A-Z a-z 0-9 . _ + - ~ / : @`.
    pub(crate) version: Option<AppVersion>,
    /// Whether [`Store::Memory`] may serve outside of development, which is Rocket's
    /// profile `debug` in a build with debug assertions. Default `false`: jobs in memory
    /// are lost with the process.
    pub allow_memory_in_release: bool,
    /// Whether to accept a Redis that evicts jobs when its memory is full
    /// (`maxmemory` with an `allkeys-…` policy). Default `false`: such a server stops the
    /// launch, because acknowledged jobs would vanish.
    pub allow_eviction: bool,
    /// Whether this process runs jobs. Default `true`; `false` for a process that only
    /// enqueues.
    pub worker: bool,
    /// Maximum concurrent jobs of this process. Default 10, also for 0. Jobs mostly wait for
    /// other services, so more than the number of cores is usually right.
    pub concurrency: usize,
    /// The highest concurrency that an operator may set while the process runs. Default four
    /// times `concurrency`, also for 0; at least `concurrency`. A bound on what the process's
    /// memory, connections and the services behind its jobs can bear.
    pub concurrency_max: usize,
    /// The queues to serve, each with its weight. Default `{default = 10}`. The layers are
    /// merged by queue; a weight of 0 removes a queue. At least one must remain. Jobs of
    /// queues that no process serves wait.
    pub queues: BTreeMap<QueueName, u32>,
    /// Whether a queue is served only while all queues of greater weight are empty. Default
    /// `false`: the weights are probabilities, so no queue starves.
    pub strict_priority: bool,
    /// How long running jobs may take to finish at shutdown. Default 8 s, also for 0:
    /// supervisors commonly kill a process after 10 s. Jobs that still run are then
    /// cancelled and become pending again, without counting an attempt.
    pub shutdown_timeout: Duration,
    /// What happens to jobs of a type without a handler in this process. Default
    /// [`UnknownJobs::Park`].
    pub unknown_jobs: UnknownJobs,
    /// What happens to jobs whose payload the handler of their type cannot decode. Default
    /// [`UndecodableJobs::Park`].
    pub undecodable_jobs: UndecodableJobs,
    /// The first HTTP status that does not count as success for [`OnSuccess`](crate::OnSuccess).
    /// Default 400; from 200 to 600.
    pub on_success_below: u16,
    /// What happens to a response if the store does not take its [`OnSuccess`](crate::OnSuccess) jobs.
    /// Default [`OnSuccessFailure::Refuse`].
    pub on_success_failure: OnSuccessFailure,
    /// Maximum payload of a job in bytes; enqueueing a larger one is an error. Default 1 MiB,
    /// also for 0; at most 256 MiB. Redis accepts more, but holds all of it in memory, and
    /// every worker fetches it: store large data elsewhere and name it in the job.
    pub max_payload: usize,
    /// A group is aggregated when no job has joined for this long. Default 60 s, also
    /// for 0; at least 1 s, in whole seconds, rounded up: Asynq's times are whole seconds.
    pub group_grace: Duration,
    /// Maximum time that the oldest job waits in a group although others keep joining.
    /// Default 0: no maximum.
    pub group_max_delay: Duration,
    /// Number of jobs at which a group is aggregated without waiting longer, and the
    /// maximum that one aggregation takes. At most 5,000. Default 0: no number ends the
    /// wait, and one aggregation takes at most 5,000; the rest is aggregated next.
    pub group_max_size: usize,
    /// Whether `POST {base}/register` and its page exist. Default `true`; an application
    /// that is open to the public sets `false`.
    pub register_route: bool,
    /// Maximum jobs that wait in the queue of that route and page, for all processes together;
    /// further requests get 429. Default 1,000, also for 0: anonymous clients must not fill
    /// the store.
    pub register_max_waiting: u32,
    /// Whether REST and the pages refuse every change. Default `false`. Handlers and the
    /// application's own calls are not affected.
    pub read_only: bool,
    /// Other origins whose pages may request changes by REST: the application's own front
    /// ends, such as `https://app.example`. Default none. Their browsers send a CORS preflight
    /// first, which the application has to answer.
    pub allowed_origins: Vec<String>,
    /// Addresses or networks of reverse proxies whose `X-Forwarded-Host`, `-Proto`, `-Prefix`
    /// and `-For`, or `Forwarded` (its host, scheme and client), are believed: links begin
    /// with the prefix, forms may come from that host, and the client is the one they name.
    /// The rate limit uses them if it has none of its own. A header that a proxy passes on
    /// unchanged is the client's own claim, so a proxy has to set these headers or drop them.
    /// Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// The key that signs status links, at least 32 bytes; see
    /// [`JobQueue::status_link`](crate::JobQueue::status_link). Default: random for each
    /// process, so that links of another one, or from before a restart, are unknown.
    pub(crate) status_key: Option<Secret>,
    /// The address of a trace in the application's tracing system, with `{trace_id}` in it: the page
    /// of a job that belongs to a trace links to it. Default none.
    pub trace_url: Option<String>,
    /// TCP port of a process that only runs jobs and serves the health routes. Default 8082,
    /// beside Rocket's own 8000; 0 chooses a free one.
    pub port: u16,
    /// Whether `{base}/openapi.json` exists. Default `true`.
    pub openapi: bool,
    /// Whether `{base}/docs` (Swagger UI) exists. Default `true`; needs `openapi`.
    pub docs: bool,
    /// Whether our log lines go to standard error if the application has no `tracing`
    /// subscriber. Default `true`: otherwise they would be lost.
    pub log_to_stderr: bool,
    /// How many jobs may wait in single queues, and what happens to one more. Default none: any
    /// number. It holds for what this process enqueues.
    pub max_waiting: BTreeMap<QueueName, MaxWaiting>,
    /// How many archived jobs are kept in each queue, and how long. Default 9,999 and
    /// 90 days, as in Asynq. At most 10 million; the age is rounded up to whole seconds.
    pub archive: ArchiveSettings,
    /// Whether this process enqueues periodic jobs. Default: as
    /// [`JobQueueConfig::worker`].
    pub fire_periodic: bool,
    /// Periodic jobs by name: `spec` and `type`, and optionally `time_zone`,
    /// `payload` (a table, or a text that is JSON), `queue`, `delay`, `max_retry`,
    /// `timeout`, `expires_in`, `retention`, `unique_for` (with `until`, `unique_by`, `unique_key`
    /// and `on_conflict`), `group` and `missed` (`skip`, `once`, or a duration; default `1h`). The
    /// layers are merged by key; an empty `spec` removes the periodic job. Default none.
    pub periodic: BTreeMap<String, Periodic>,
    /// Limits on jobs by name: `queue`, and `concurrency`, `rate` or both; optionally `types`, `key`
    /// and `burst`. The layers are merged by key; an empty `queue` removes the limit from the
    /// configuration. Each launch sets them in the store. Default none.
    pub limits: Vec<QueueLimit>,
    /// The thresholds of the alerts, one key for each rule; `off` switches one off.
    pub alerts: AlertSettings,
}

impl Default for JobQueueConfig {
    fn default() -> Self {
        Self {
            base: "/api/dm-jobqueue".to_owned(),
            store: Store::Redis,
            path: PathBuf::from("data/jobqueue"),
            durability: Durability::Always,
            namespace: None,
            version: None,
            allow_memory_in_release: false,
            allow_eviction: false,
            worker: true,
            concurrency: 10,
            concurrency_max: 40,
            queues: BTreeMap::from([(QueueName::stored("default"), 10)]),
            strict_priority: false,
            shutdown_timeout: Duration::from_secs(8),
            unknown_jobs: UnknownJobs::Park,
            undecodable_jobs: UndecodableJobs::Park,
            on_success_below: 400,
            on_success_failure: OnSuccessFailure::Refuse,
            max_payload: MAX_PAYLOAD,
            group_grace: Duration::from_secs(60),
            group_max_delay: Duration::ZERO,
            group_max_size: 0,
            register_route: true,
            register_max_waiting: 1000,
            read_only: false,
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            status_key: None,
            trace_url: None,
            port: 8082,
            openapi: true,
            docs: true,
            log_to_stderr: true,
            max_waiting: BTreeMap::new(),
            archive: ArchiveSettings::default(),
            fire_periodic: true,
            periodic: BTreeMap::new(),
            limits: Vec::new(),
            alerts: AlertSettings::default(),
        }
    }
}

impl JobQueueConfig {
    /// Reads and checks the section.
    ///
    /// # Errors
    /// The first value that is wrong, with its origin and full key.
    pub(super) fn read(table: &Table) -> Result<Self, Error> {
        let default = Self::default();
        let concurrency = table.number("concurrency", 10)?;
        let concurrency = usize::try_from(concurrency).unwrap_or(usize::MAX);
        Ok(Self {
            base: table.get("base").map_or(Ok(default.base), base)?,
            store: table.get("store").map_or(Ok(default.store), store)?,
            path: table.get("path").map_or(Ok(default.path), folder)?,
            durability: table.get("durability").map_or(Ok(default.durability), durability)?,
            namespace: table.0.get("namespace").map(namespace).transpose()?,
            version: table.get("version").map(version).transpose()?,
            allow_memory_in_release: table.bool("allow_memory_in_release", false)?,
            allow_eviction: table.bool("allow_eviction", false)?,
            worker: table.bool("worker", true)?,
            concurrency,
            concurrency_max: concurrency_max(table, concurrency)?,
            queues: queues(table)?.unwrap_or(default.queues),
            strict_priority: table.bool("strict_priority", false)?,
            shutdown_timeout: table.duration("shutdown_timeout", default.shutdown_timeout)?,
            unknown_jobs: table
                .get("unknown_jobs")
                .map_or(Ok(default.unknown_jobs), unknown_jobs)?,
            undecodable_jobs: table
                .get("undecodable_jobs")
                .map_or(Ok(default.undecodable_jobs), undecodable_jobs)?,
            on_success_below: table
                .get("on_success_below")
                .map_or(Ok(default.on_success_below), on_success_below)?,
            on_success_failure: table
                .get("on_success_failure")
                .map_or(Ok(default.on_success_failure), on_success_failure)?,
            max_payload: size(table, "max_payload", default.max_payload)?,
            group_grace: grace(table, default.group_grace)?,
            group_max_delay: table.duration("group_max_delay", default.group_max_delay)?,
            group_max_size: group_size(table)?,
            register_route: table.bool("register_route", true)?,
            register_max_waiting: table
                .number("register_max_waiting", default.register_max_waiting)?,
            read_only: table.bool("read_only", false)?,
            allowed_origins: table
                .get("allowed_origins")
                .map(origins)
                .transpose()?
                .unwrap_or_default(),
            trusted_proxies: table
                .get("trusted_proxies")
                .map(Leaf::networks)
                .transpose()?
                .unwrap_or_default(),
            status_key: table.get("status_key").map(status_key).transpose()?,
            trace_url: table.get("trace_url").map(trace_url).transpose()?,
            port: table.get("port").map_or(Ok(default.port), port)?,
            openapi: table.bool("openapi", true)?,
            docs: table.bool("docs", true)?,
            log_to_stderr: table.bool("log_to_stderr", true)?,
            max_waiting: max_waiting(table)?,
            archive: archive(table)?,
            fire_periodic: table.bool("fire_periodic", table.bool("worker", true)?)?,
            periodic: periodic::read(table)?,
            limits: limits::read(table)?,
            alerts: alerts::read(table)?,
        })
    }
}

/// The folder of the store on disk.
fn folder(leaf: &Leaf) -> Result<PathBuf, Error> {
    match leaf.text("a folder")? {
        "" => Err(leaf.error("a folder", "an empty text")),
        path => Ok(PathBuf::from(path)),
    }
}

/// When a change on disk counts as stored.
fn durability(leaf: &Leaf) -> Result<Durability, Error> {
    let words = [Durability::Always, Durability::EverySecond];
    Ok(words[leaf.word(&["always", "everysec"])?])
}

/// Refuses an empty namespace. It is what a variable that was not set leaves behind, and would mix
/// the jobs of this application with those of others.
fn namespace(leaf: &Leaf) -> Result<Namespace, Error> {
    let text = leaf.text(EXPECTED_NAMESPACE)?;
    Namespace::new(text).map_err(|_| leaf.error(EXPECTED_NAMESPACE, &quoted(text)))
}

fn version(leaf: &Leaf) -> Result<AppVersion, Error> {
    let text = leaf.text(EXPECTED_VERSION)?;
    AppVersion::new(text).map_err(|_| leaf.error(EXPECTED_VERSION, &quoted(text)))
}

fn store(leaf: &Leaf) -> Result<Store, Error> {
    Ok([Store::Redis, Store::Disk, Store::Memory][leaf.word(&["redis", "disk", "memory"])?])
}

fn unknown_jobs(leaf: &Leaf) -> Result<UnknownJobs, Error> {
    Ok([UnknownJobs::Park, UnknownJobs::Archive][leaf.word(&["park", "archive"])?])
}

fn port(leaf: &Leaf) -> Result<u16, Error> {
    Ok(u16::try_from(leaf.number(0, u32::from(u16::MAX))?).unwrap_or(u16::MAX))
}

fn undecodable_jobs(leaf: &Leaf) -> Result<UndecodableJobs, Error> {
    Ok([UndecodableJobs::Park, UndecodableJobs::Fail][leaf.word(&["park", "fail"])?])
}

fn on_success_below(leaf: &Leaf) -> Result<u16, Error> {
    Ok(u16::try_from(leaf.number(200, 600)?).unwrap_or(u16::MAX))
}

fn on_success_failure(leaf: &Leaf) -> Result<OnSuccessFailure, Error> {
    Ok([OnSuccessFailure::Refuse, OnSuccessFailure::Log][leaf.word(&["refuse", "log"])?])
}

/// What happens to a response if the store does not take the jobs that were to leave with it
/// ([`OnSuccess`](crate::OnSuccess)); configured as `jobqueue.on_success_failure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnSuccessFailure {
    /// 503, or 500 if the store refuses the jobs for good.
    #[default]
    Refuse,
    /// The answer stays. An error is logged, and a metric counts the lost jobs.
    Log,
}

/// A secret text: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The secret itself, for signing.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

/// What stands for the id in `trace_url`.
const TRACE_ID: &str = "{trace_id}";

impl JobQueueConfig {
    /// The address of a trace in the application's tracing system, if that is configured.
    #[cfg(feature = "dashboard")]
    pub(crate) fn trace_link(&self, trace_id: &str) -> Option<String> {
        Some(self.trace_url.as_ref()?.replace(TRACE_ID, trace_id))
    }
}

/// A link that no page may turn into a script.
fn trace_url(leaf: &Leaf) -> Result<String, Error> {
    const EXPECTED: &str = "an address that begins with http://, https:// or / and has {trace_id}";
    let text = leaf.text(EXPECTED)?;
    let is_address = ["http://", "https://", "/"].iter().any(|begin| text.starts_with(begin));
    match is_address && text.contains(TRACE_ID) {
        true => Ok(text.to_owned()),
        false => Err(leaf.error(EXPECTED, &quoted(text))),
    }
}

/// Shortest `status_key`: as long as the digest that signs with it.
const MIN_STATUS_KEY_BYTES: usize = 32;

/// The key of status links. An error does not show it.
fn status_key(leaf: &Leaf) -> Result<Secret, Error> {
    let text = leaf.text("text of 32 characters or more")?;
    if text.len() < MIN_STATUS_KEY_BYTES {
        return Err(leaf.error("text of 32 characters or more", "a shorter one (not shown)"));
    }
    Ok(Secret(text.to_owned()))
}

/// A number of bytes; 0 and absent mean the default.
fn size(table: &Table, key: &str, default: usize) -> Result<usize, Error> {
    let size = table.get(key).map_or(Ok(0), |leaf| leaf.number(0, MAX_PAYLOAD_BYTES))?;
    Ok(if size == 0 { default } else { size as usize })
}

/// A number of jobs; 0 and absent mean no limit.
fn group_size(table: &Table) -> Result<usize, Error> {
    let size = table.get("group_max_size").map_or(Ok(0), |leaf| leaf.number(0, MAX_SET_JOBS))?;
    Ok(size as usize)
}

/// The bounds of single queues.
fn max_waiting(table: &Table) -> Result<BTreeMap<QueueName, MaxWaiting>, Error> {
    let mut bounds = BTreeMap::new();
    for (key, leaf) in &table.0 {
        let Some((name, _)) = key.strip_prefix("max_waiting.").and_then(|key| key.rsplit_once('.'))
        else {
            continue;
        };
        let queue = queue_name(leaf, name)?;
        let expected = "a number of jobs from 1";
        let jobs = match table.get(&format!("max_waiting.{name}.jobs")) {
            Some(leaf) => leaf.number(1, u32::MAX)?,
            None => {
                let missing =
                    Leaf { path: format!("jobqueue.max_waiting.{name}.jobs"), ..leaf.clone() };
                return Err(missing.error(expected, "nothing"));
            }
        };
        let words = [WhenFull::Refuse, WhenFull::DropOldest];
        let when_full = match table.get(&format!("max_waiting.{name}.when_full")) {
            Some(leaf) => words[leaf.word(&words.map(WhenFull::as_str))?],
            None => WhenFull::default(),
        };
        bounds.insert(queue, MaxWaiting { jobs, when_full });
    }
    Ok(bounds)
}

/// The limits for all queues, and exceptions for single queues. A single queue may set one of
/// the two limits and inherit the other.
fn archive(table: &Table) -> Result<ArchiveSettings, Error> {
    let limit = archive_limit(table, "archive_max", "archive_age", ArchiveLimit::default())?;
    let mut settings = ArchiveSettings {
        limit,
        release_lock: table.bool("release_lock_on_archive", false)?,
        ..ArchiveSettings::default()
    };
    for (key, leaf) in &table.0 {
        let Some((name, _)) = key.strip_prefix("archive.").and_then(|key| key.rsplit_once('.'))
        else {
            continue;
        };
        let queue = queue_name(leaf, name)?;
        let (max, age) = (format!("archive.{name}.max"), format!("archive.{name}.age"));
        settings.queues.insert(queue, archive_limit(table, &max, &age, limit)?);
    }
    Ok(settings)
}

/// One pair of limits; an absent one keeps the default. The age is rounded up to whole seconds.
fn archive_limit(
    table: &Table,
    max: &str,
    age: &str,
    default: ArchiveLimit,
) -> Result<ArchiveLimit, Error> {
    let max = match table.get(max) {
        Some(leaf) => u64::from(leaf.number(1, MAX_ARCHIVED_JOBS)?),
        None => default.max,
    };
    let age = table.duration(age, default.age)?;
    // Asynq's archive knows whole seconds.
    let up = u64::from(age.subsec_nanos() > 0);
    Ok(ArchiveLimit { max, age: Duration::from_secs(age.as_secs().saturating_add(up)) })
}

/// The queue of this name. Any name that pages show is accepted: another program may have given
/// a queue a name that this crate would not.
fn queue_name(leaf: &Leaf, name: &str) -> Result<QueueName, Error> {
    name.parse().map_err(|_| leaf.error("a queue's name, as pages show it", &quoted(name)))
}

/// At least a second; 0 and absent mean the default.
fn grace(table: &Table, default: Duration) -> Result<Duration, Error> {
    let grace = table.duration("group_grace", default)?;
    match table.get("group_grace") {
        Some(leaf) if grace < Duration::from_secs(1) => {
            Err(leaf.error("a duration of 1s or more", &format!("{grace:?}")))
        }
        _ => Ok(grace),
    }
}

/// The highest concurrency: the one that is set, or four times the configured one.
fn concurrency_max(table: &Table, concurrency: usize) -> Result<usize, Error> {
    let set = usize::try_from(table.number("concurrency_max", 0)?).unwrap_or(usize::MAX);
    match table.get("concurrency_max") {
        Some(leaf) if set > 0 && set < concurrency => {
            let expected = format!("at least `concurrency`, which is {concurrency}");
            Err(leaf.error(&expected, &set.to_string()))
        }
        _ if set > 0 => Ok(set),
        _ => Ok(concurrency.saturating_mul(4)),
    }
}

/// The queues to serve, with their weights; `None` if no layer names one. Queues are merged one
/// by one, so a weight of 0 is how a stronger layer removes a queue of a weaker one.
///
/// # Errors
/// Every queue has been removed: such a worker would run nothing without anybody noticing.
fn queues(table: &Table) -> Result<Option<BTreeMap<QueueName, u32>>, Error> {
    let mut queues = BTreeMap::new();
    let mut last = None;
    for (key, leaf) in &table.0 {
        let Some(name) = key.strip_prefix("queues.") else { continue };
        let name = queue_name(leaf, name)?;
        let share = leaf.number(0, u32::MAX)?;
        if share > 0 {
            queues.insert(name, share);
        }
        last = Some(leaf);
    }
    match last {
        Some(leaf) if queues.is_empty() => {
            Err(leaf.error("a share of 1 or more for at least one queue", "none"))
        }
        last => Ok(last.map(|_| queues)),
    }
}

/// Origins as browsers write them: in lower case, without the scheme's default port. A single
/// slash at the end is dropped, because addresses are often copied with it.
fn origins(leaf: &Leaf) -> Result<Vec<String>, Error> {
    leaf.list_of(
        "an origin such as https://app.example or http://localhost:3000, without a path",
        |text| {
            let text = text.to_ascii_lowercase();
            let (scheme, host) = text.split_once("://")?;
            let usual = match scheme {
                "http" => ":80",
                "https" => ":443",
                _ => return None,
            };
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
            let host = host.strip_suffix('/').unwrap_or(host);
            let host = host.strip_suffix(usual).unwrap_or(host);
            let is_host = !host.is_empty() && host.chars().all(allowed);
            is_host.then(|| format!("{scheme}://{host}"))
        },
    )
}

/// A path that Rocket can mount, normalised to end without a slash. The root is refused: it
/// would collide with the application's own routes.
fn base(leaf: &Leaf) -> Result<String, Error> {
    let expected = "a path such as /api/dm-jobqueue, without query";
    let text = leaf.text(expected)?;
    let path = text.trim().trim_end_matches('/');
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(c);
    let segments = path.strip_prefix('/').map(|path| path.split('/'));
    let is_path = segments.is_some_and(|mut segments| {
        segments.all(|s| !s.is_empty() && s != "." && s != ".." && s.chars().all(allowed))
    });
    if is_path { Ok(path.to_owned()) } else { Err(leaf.error(expected, &quoted(text))) }
}
