//! Every configuration key in one table: where its section is written in each source, its
//! kind of value and its default.
//!
//! The layers use it to recognise unknown keys, the check of environment variables to suggest a
//! spelling, and tests to compare it with the documentation and with the defaults in code. The
//! meaning of a value is decided by the code that reads the section.

/// One of our four sections, in whatever source it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The job queue's Redis.
    Connection,
    /// The application's other Redis, which the rate limit uses.
    Default,
    /// What this process does with the queue.
    JobQueue,
    /// How many requests a client may make.
    RateLimit,
}

/// The location of a section in each kind of source.
pub(super) struct SectionPlace {
    /// The tables above it in Rocket's configuration.
    pub(super) rocket: &'static [&'static str],
    /// The tables above it in the YAML files.
    pub(super) yaml: &'static [&'static str],
    /// The environment variable that holds it, and the tables inside of that.
    pub(super) variable: (&'static str, &'static [&'static str]),
    /// Prefixes of misspelled variables for this section, after `ROCKET_` and without
    /// underscores.
    pub(super) beginnings: &'static [&'static str],
}

/// The job queue's Redis. In Rocket's configuration it is a database, so that an application
/// can use it as one too.
const CONNECTION_PLACE: SectionPlace = SectionPlace {
    rocket: &["databases", "jobqueue"],
    yaml: &["redis", "jobqueue"],
    variable: ("ROCKET_DATABASES", &["jobqueue"]),
    beginnings: &["databasesjobqueue", "databasejobqueue", "dbjobqueue", "redisjobqueue"],
};

/// The application's other Redis, which the rate limit counts in.
const DEFAULT_PLACE: SectionPlace = SectionPlace {
    rocket: &["redis", "default", "cluster"],
    yaml: &["redis", "default", "cluster"],
    variable: ("ROCKET_REDIS", &["default", "cluster"]),
    beginnings: &["redisdefaultcluster", "redisdefault"],
};

const JOBQUEUE_PLACE: SectionPlace = SectionPlace {
    rocket: &["jobqueue"],
    yaml: &["jobqueue"],
    variable: ("ROCKET_JOBQUEUE", &[]),
    beginnings: &["jobqueue"],
};

const RATE_LIMIT_PLACE: SectionPlace = SectionPlace {
    rocket: &["rate_limit"],
    yaml: &["api", "rate_limit"],
    variable: ("ROCKET_RATE_LIMIT", &[]),
    beginnings: &["apiratelimit", "ratelimit"],
};

impl Section {
    /// All sections, in the order of [`Layers`](super::layer::Layers).
    pub(super) const ALL: [Self; 4] =
        [Self::Connection, Self::Default, Self::JobQueue, Self::RateLimit];

    /// Where the section is in each kind of source.
    pub(super) fn place(self) -> &'static SectionPlace {
        match self {
            Self::Connection => &CONNECTION_PLACE,
            Self::Default => &DEFAULT_PLACE,
            Self::JobQueue => &JOBQUEUE_PLACE,
            Self::RateLimit => &RATE_LIMIT_PLACE,
        }
    }

    /// The keys of the section, with dots between tables.
    pub fn keys(self) -> impl Iterator<Item = &'static ConfigKey> {
        let keys = match self {
            Self::Connection | Self::Default => CONNECTION_KEYS,
            Self::JobQueue => JOBQUEUE_KEYS,
            Self::RateLimit => RATE_LIMIT_KEYS,
        };
        keys.iter().filter(move |key| key.only_in.is_none_or(|section| section == self))
    }

    /// The key of this name, if the section has it.
    pub(super) fn key(self, name: &str) -> Option<&'static ConfigKey> {
        self.keys().find(|key| key.name == name)
    }
}

/// One key of a section.
#[derive(Debug)]
pub struct ConfigKey {
    /// The key, with dots between tables: `sentinel.addrs`.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: ValueKind,
    /// Its default as it would be written; empty if there is none.
    pub default: &'static str,
    only_in: Option<Section>,
}

/// The kind of value of a key. It serves documentation and messages; the section converts the
/// value itself.
#[derive(Clone, Copy, Debug)]
pub enum ValueKind {
    /// A text.
    Text,
    /// A text that no message repeats, such as a password.
    Secret,
    /// The path of a file.
    File,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Number,
    /// A number of bytes.
    Bytes,
    /// A duration with its unit.
    Duration,
    /// One of a few strings.
    Word,
    /// A list of texts.
    List,
    /// JSON: a text or a table.
    Json,
    /// A table of numbers under names that the user chooses.
    NumberPerName,
    /// A table of tables with these keys, under names that the user chooses.
    TablePerName(&'static [ConfigKey]),
}

/// A key of every section that uses the list.
const fn key(name: &'static str, kind: ValueKind, default: &'static str) -> ConfigKey {
    ConfigKey { name, kind, default, only_in: None }
}

/// A key of one section, in a list that two sections share.
const fn key_in(
    section: Section,
    name: &'static str,
    kind: ValueKind,
    default: &'static str,
) -> ConfigKey {
    ConfigKey { name, kind, default, only_in: Some(section) }
}

/// `databases.jobqueue` or `redis.jobqueue`, and `redis.default.cluster`.
const CONNECTION_KEYS: &[ConfigKey] = &[
    key("url", ValueKind::Secret, ""),
    key_in(Section::Connection, "addr", ValueKind::Text, "localhost:6379"),
    key_in(Section::Default, "addrs", ValueKind::List, ""),
    key("sentinel.master", ValueKind::Text, ""),
    key("sentinel.addrs", ValueKind::List, ""),
    key("sentinel.username", ValueKind::Text, ""),
    key("sentinel.password", ValueKind::Secret, ""),
    key("cluster.addrs", ValueKind::List, ""),
    key("username", ValueKind::Text, ""),
    key("password", ValueKind::Secret, ""),
    key("db", ValueKind::Number, "0"),
    key("tls", ValueKind::Bool, "false"),
    key("tls_ca_file", ValueKind::File, ""),
    key("tls_cert_file", ValueKind::File, ""),
    key("tls_key_file", ValueKind::File, ""),
    key("tls_server_name", ValueKind::Text, ""),
    key("max_retries", ValueKind::Number, "2"),
    key("min_retry_backoff", ValueKind::Duration, "8ms"),
    key("max_retry_backoff", ValueKind::Duration, "512ms"),
    key("dial_timeout", ValueKind::Duration, "5s"),
    key("read_timeout", ValueKind::Duration, "3s"),
    key("write_timeout", ValueKind::Duration, "3s"),
    key("pool_size", ValueKind::Number, "1"),
    key("pool_timeout", ValueKind::Duration, "4s"),
    key_in(Section::Connection, "wait_replicas", ValueKind::Number, "0"),
];

/// `jobqueue`, in the order of its documentation.
const JOBQUEUE_KEYS: &[ConfigKey] = &[
    key("base", ValueKind::Text, "/api/dm-jobqueue"),
    key("store", ValueKind::Word, "redis"),
    key("path", ValueKind::Text, "data/jobqueue"),
    key("durability", ValueKind::Word, "always"),
    key("namespace", ValueKind::Text, ""),
    key("version", ValueKind::Text, ""),
    key("allow_memory_in_release", ValueKind::Bool, "false"),
    key("allow_eviction", ValueKind::Bool, "false"),
    key("worker", ValueKind::Bool, "true"),
    key("concurrency", ValueKind::Number, "10"),
    key("concurrency_max", ValueKind::Number, ""),
    key("queues", ValueKind::NumberPerName, ""),
    key("strict_priority", ValueKind::Bool, "false"),
    key("shutdown_timeout", ValueKind::Duration, "8s"),
    key("unknown_jobs", ValueKind::Word, "park"),
    key("undecodable_jobs", ValueKind::Word, "park"),
    key("on_success_below", ValueKind::Number, "400"),
    key("on_success_failure", ValueKind::Word, "refuse"),
    key("max_payload", ValueKind::Bytes, "1048576"),
    key("group_grace", ValueKind::Duration, "60s"),
    key("group_max_delay", ValueKind::Duration, "0s"),
    key("group_max_size", ValueKind::Number, "0"),
    key("read_only", ValueKind::Bool, "false"),
    key("allowed_origins", ValueKind::List, ""),
    key("trusted_proxies", ValueKind::List, ""),
    key("register_route", ValueKind::Bool, "true"),
    key("register_max_waiting", ValueKind::Number, "1000"),
    key("status_key", ValueKind::Secret, ""),
    key("trace_url", ValueKind::Text, ""),
    key("port", ValueKind::Number, "8082"),
    key("openapi", ValueKind::Bool, "true"),
    key("docs", ValueKind::Bool, "true"),
    key("log_to_stderr", ValueKind::Bool, "true"),
    key("max_waiting", ValueKind::TablePerName(MAX_WAITING_KEYS), ""),
    key("archive_max", ValueKind::Number, "9999"),
    key("archive_age", ValueKind::Duration, "2160h"),
    key("archive", ValueKind::TablePerName(ARCHIVE_KEYS), ""),
    key("release_lock_on_archive", ValueKind::Bool, "false"),
    key("fire_periodic", ValueKind::Bool, "true"),
    key("periodic", ValueKind::TablePerName(PERIODIC_KEYS), ""),
    key("limits", ValueKind::TablePerName(LIMIT_KEYS), ""),
    key("alerts.failure_rate", ValueKind::Text, "25%"),
    key("alerts.failure_rate_attempts", ValueKind::Number, "20"),
    key("alerts.queue_paused", ValueKind::Duration, "0s"),
    key("alerts.job_running", ValueKind::Duration, "1h"),
    key("alerts.periodic_missed", ValueKind::Duration, "5m"),
    key("alerts.no_worker", ValueKind::Duration, "0s"),
    key("alerts.oldest_pending", ValueKind::Duration, "5m"),
    key("alerts.archived_growing", ValueKind::Number, "20"),
    key("alerts.store_memory", ValueKind::Text, "90%"),
    key("alerts.store_evicting", ValueKind::Word, "on"),
    key("alerts.store_settings", ValueKind::Word, "on"),
    key("alerts.workers_full", ValueKind::Duration, "10m"),
    key("alerts.limit_full", ValueKind::Duration, "10m"),
    key("alerts.queue_unreadable", ValueKind::Word, "on"),
];

/// `jobqueue.max_waiting.<queue>`.
const MAX_WAITING_KEYS: &[ConfigKey] =
    &[key("jobs", ValueKind::Number, ""), key("when_full", ValueKind::Word, "refuse")];

/// `jobqueue.archive.<queue>`.
const ARCHIVE_KEYS: &[ConfigKey] =
    &[key("max", ValueKind::Number, ""), key("age", ValueKind::Duration, "")];

/// `jobqueue.periodic.<name>`. A key without a default uses the job type's.
const PERIODIC_KEYS: &[ConfigKey] = &[
    key("spec", ValueKind::Text, ""),
    key("time_zone", ValueKind::Text, "UTC"),
    key("type", ValueKind::Text, ""),
    key("payload", ValueKind::Json, ""),
    key("queue", ValueKind::Text, ""),
    key("delay", ValueKind::Duration, ""),
    key("max_retry", ValueKind::Number, ""),
    key("timeout", ValueKind::Duration, ""),
    key("expires_in", ValueKind::Duration, ""),
    key("retention", ValueKind::Duration, ""),
    key("unique_for", ValueKind::Duration, ""),
    key("until", ValueKind::Word, "success"),
    key("unique_by", ValueKind::List, ""),
    key("unique_key", ValueKind::Text, ""),
    key("on_conflict", ValueKind::Word, "reject"),
    key("group", ValueKind::Text, ""),
    key("missed", ValueKind::Text, "1h"),
];

/// `jobqueue.limits.<name>`.
const LIMIT_KEYS: &[ConfigKey] = &[
    key("queue", ValueKind::Text, ""),
    key("types", ValueKind::List, ""),
    key("key", ValueKind::Text, ""),
    key("concurrency", ValueKind::Number, ""),
    key("rate", ValueKind::Text, ""),
    key("burst", ValueKind::Number, "1"),
];

/// `rate_limit`, or `api.rate_limit` in the YAML files.
const RATE_LIMIT_KEYS: &[ConfigKey] = &[
    key("enabled", ValueKind::Bool, "false"),
    key("requests_per_minute", ValueKind::Number, "60"),
    key("requests_per_hour", ValueKind::Number, "0"),
    key("storage_type", ValueKind::Word, "auto"),
    key("paths", ValueKind::List, ""),
    key("exempt", ValueKind::List, ""),
    key("trusted_proxies", ValueKind::List, ""),
];

#[cfg(test)]
mod tests {
    use figment::value::Value;

    use super::super::value::{Leaf, Table};
    use super::super::{JobQueueConfig, RateLimitConfig, connection};
    use super::*;
    use crate::pool::PoolSettings;

    /// The section as if every default had been written down.
    fn written(section: Section) -> Table {
        let mut table = Table::default();
        for key in section.keys().filter(|key| !key.default.is_empty()) {
            let text = key.default;
            let value: Value = match key.kind {
                ValueKind::Bool => text.parse::<bool>().unwrap().into(),
                ValueKind::Number | ValueKind::Bytes => text.parse::<u32>().unwrap().into(),
                _ => text.into(),
            };
            let (origin, path) = ("schema".to_owned(), key.name.to_owned());
            table.0.insert(path.clone(), Leaf { value, origin, path, rank: 1 });
        }
        table
    }

    #[test]
    fn the_defaults_in_the_table_are_those_of_the_code() {
        let pool = connection::read(&written(Section::Connection)).unwrap();
        assert_eq!(pool, PoolSettings::default());
        let jobqueue = JobQueueConfig::read(&written(Section::JobQueue)).unwrap();
        assert_eq!(jobqueue, JobQueueConfig::default());
        let rate_limit = RateLimitConfig::read(&written(Section::RateLimit), false).unwrap();
        assert_eq!(rate_limit, RateLimitConfig::default());
    }
}
