//! The configuration, read from real files in folders of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use rocket_jobqueue::internals::{
    Config, PoolSettings, StorageType, Store, Topology, unused_variables,
};
use rocket_jobqueue::{Error, Periodic};
use rstest::rstest;
use tempfile::TempDir;

/// `ROCKET_*` as Rocket's figment holds them, without touching the process.
struct RocketEnv(Vec<(String, String)>);

impl Provider for RocketEnv {
    fn metadata(&self) -> Metadata {
        Metadata::named("`ROCKET_` environment variable(s)")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let value = |(key, value): &(String, String)| {
            (key.clone(), value.parse::<Value>().expect("figment parses any text"))
        };
        Ok(Profile::Global.collect(self.0.iter().map(value).collect()))
    }
}

struct Project {
    dir: TempDir,
    profile: &'static str,
    env: BTreeMap<&'static str, String>,
    rocket_env: Vec<(String, String)>,
    custom: Figment,
    builder: Figment,
}

impl Project {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            profile: "debug",
            env: BTreeMap::new(),
            rocket_env: Vec::new(),
            custom: Figment::new(),
            builder: Figment::new(),
        }
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn toml(self, text: &str) -> Self {
        self.file("Rocket.toml", text)
    }

    fn cacheserver(self, text: &str) -> Self {
        self.file("config/develop/cacheserver.yaml", text)
    }

    fn yaml(self, text: &str) -> Self {
        self.file("config/develop/config.yaml", text)
    }

    fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.insert(name, value.to_owned());
        self
    }

    fn rocket_env(mut self, key: &str, value: &str) -> Self {
        self.rocket_env.push((key.to_owned(), value.to_owned()));
        self
    }

    fn profile(mut self, profile: &'static str) -> Self {
        self.profile = profile;
        self
    }

    fn custom<T: serde::Serialize>(mut self, key: &str, value: T) -> Self {
        self.custom = self.custom.merge((key, value));
        self
    }

    fn builder<T: serde::Serialize>(mut self, key: &str, value: T) -> Self {
        self.builder = self.builder.merge((key, value));
        self
    }

    fn load_in(&self, cwd: &Path) -> Result<Config, Error> {
        let rocket = Figment::from(rocket::Config::default())
            .merge(Toml::file(self.dir.path().join("Rocket.toml")).nested())
            .merge(RocketEnv(self.rocket_env.clone()))
            .merge(self.custom.clone())
            .select(self.profile);
        Config::load(&rocket, &self.builder, &|name| self.env.get(name).cloned(), cwd)
    }

    fn try_load(&self) -> Result<Config, Error> {
        self.load_in(self.dir.path())
    }

    fn load(&self) -> Config {
        self.try_load().unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(&self) -> String {
        let error = self.try_load().map(|_| ()).expect_err("the launch stops");
        assert!(error.is_config());
        error.to_string()
    }
}

fn single(addr: &str) -> Topology {
    Topology::Single(addr.to_owned())
}

#[test]
fn a_project_without_any_file_runs_with_the_defaults() {
    let config = Project::new().load();
    let jobqueue = &config.jobqueue;

    assert_eq!(config.redis, PoolSettings::default());
    assert_eq!(config.redis.topology, single("localhost:6379"));
    assert_eq!(config.redis_default, None);
    assert_eq!(config.app_env, "develop");
    assert_eq!(jobqueue.base, "/api/dm-jobqueue");
    assert_eq!(jobqueue.store, Store::Redis);
    assert_eq!((jobqueue.concurrency, jobqueue.port), (10, 8082));
    assert_eq!(jobqueue.shutdown_timeout, Duration::from_secs(8));
    assert_eq!(jobqueue.max_payload, 1024 * 1024);
    assert_eq!(jobqueue.group_grace, Duration::from_secs(60));
    assert_eq!((jobqueue.group_max_delay, jobqueue.group_max_size), (Duration::ZERO, 0));
    assert_eq!(format!("{:?}", jobqueue.queues), r#"{"default": 10}"#);
    assert!(jobqueue.worker && jobqueue.register_route && jobqueue.openapi && jobqueue.docs);
    assert_eq!(jobqueue.register_max_waiting, 1000);
    assert!(jobqueue.log_to_stderr && !jobqueue.strict_priority);
    assert!(!jobqueue.allow_memory_in_release && !config.rate_limit.enabled);
    assert!(!jobqueue.allow_eviction);
    assert_eq!(config.rate_limit.storage_type, StorageType::Auto);
    assert!(config.warnings.is_empty() && config.files.is_empty());
}

/// Gives the project the value `n` in one layer.
type Set = fn(Project, u32) -> Project;

const CONCURRENCY: &[Set] = &[
    |p, n| p.toml(&format!("[default.jobqueue]\nconcurrency = {n}")),
    |p, n| p.cacheserver(&format!("jobqueue: {{concurrency: {n}}}")),
    |p, n| p.yaml(&format!("jobqueue:\n  concurrency: {n}")),
    |p, n| p.rocket_env("jobqueue", &format!("{{concurrency={n}}}")),
    |p, n| p.custom("jobqueue.concurrency", n),
    |p, n| p.builder("jobqueue.concurrency", n),
];

const RATE: &[Set] = &[
    |p, n| p.toml(&format!("[default.rate_limit]\nrequests_per_minute = {n}")),
    |p, n| p.yaml(&format!("api: {{rate_limit: {{requests_per_minute: {n}}}}}")),
    |p, n| p.rocket_env("rate_limit", &format!("{{requests_per_minute={n}}}")),
    |p, n| p.custom("rate_limit.requests_per_minute", n),
    |p, n| p.builder("rate_limit.requests_per_minute", n),
];

const ADDRESS: &[Set] = &[
    |p, n| p.toml(&format!("[default.databases.jobqueue]\nurl = 'redis://h:{n}'")),
    |p, n| p.cacheserver(&format!("redis: {{jobqueue: {{addr: 'h:{n}'}}}}")),
    |p, n| p.rocket_env("databases", &format!("{{jobqueue={{url=\"redis://h:{n}\"}}}}")),
    |p, n| p.env("REDIS_JOBQUEUE_ADDR", &format!("h:{n}")),
    |p, n| p.custom("databases.jobqueue.url", format!("redis://h:{n}")),
    |p, n| p.builder("databases.jobqueue.addr", format!("h:{n}")),
];

#[rstest]
#[case::concurrency(CONCURRENCY, 10, |c: &Config| c.jobqueue.concurrency as u32)]
#[case::requests_per_minute(RATE, 60, |c: &Config| c.rate_limit.requests_per_minute)]
#[case::address(ADDRESS, 6379, |c: &Config| match &c.redis.topology {
    Topology::Single(addr) => addr.rsplit_once(':').unwrap().1.parse().unwrap(),
    other => panic!("{other:?}"),
})]
fn of_any_two_layers_the_stronger_wins(
    #[case] layers: &[Set],
    #[case] default: u32,
    #[case] read: fn(&Config) -> u32,
) {
    assert_eq!(read(&Project::new().load()), default);
    for (weak, set_weak) in layers.iter().enumerate() {
        assert_eq!(read(&set_weak(Project::new(), 7).load()), 7, "layer {weak} over the default");
        for (strong, set_strong) in layers.iter().enumerate().skip(weak + 1) {
            let config = set_strong(set_weak(Project::new(), 100), 200).load();
            assert_eq!(read(&config), 200, "layer {strong} over layer {weak}");
        }
    }
}

#[test]
fn within_rocket_toml_the_profile_beats_default_and_yaml_beats_the_profile() {
    let project = Project::new()
        .toml("[default.jobqueue]\nconcurrency=1\nport=1\n[debug.jobqueue]\nconcurrency=2\nport=2")
        .yaml("jobqueue: {port: 3}");
    let config = project.load();
    assert_eq!((config.jobqueue.concurrency, config.jobqueue.port), (2, 3));
}

#[test]
fn code_in_the_default_profile_beats_the_environment() {
    let project = Project::new()
        .toml("[debug.jobqueue]\nconcurrency = 2")
        .rocket_env("jobqueue", "{concurrency=3}")
        .custom("jobqueue.concurrency", 4);
    assert_eq!(project.load().jobqueue.concurrency, 4);
}

#[test]
fn real_rocket_variables_are_told_from_code_and_files() {
    // A process of its own, because variables belong to the whole process.
    if std::env::var_os("ROCKET_JOBQUEUE").is_some() {
        let project = Project::new()
            .toml("[default.jobqueue]\nconcurrency = 2\nport = 2")
            .yaml("jobqueue: {concurrency: 3, base: /three}");
        let rocket = Figment::from(rocket::Config::default())
            .merge(Toml::file(project.dir.path().join("Rocket.toml")).nested())
            .merge(figment::providers::Env::prefixed("ROCKET_").ignore(&["PROFILE"]).global())
            .merge(("jobqueue.base", "/five"));
        let load = || Config::load(&rocket, &Figment::new(), &|_| None, project.dir.path());
        let config = load().unwrap();
        assert_eq!((config.jobqueue.concurrency, config.jobqueue.port), (4, 2));
        assert_eq!(config.jobqueue.base, "/five");
        assert!(config.warnings[0].starts_with("environment variable ROCKET_JOBQUEUE: "));
        return;
    }
    let name = "config::real_rocket_variables_are_told_from_code_and_files";
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env("ROCKET_JOBQUEUE", r#"{concurrency=4, base="/four", bass=1}"#)
        .status();
    assert!(status.unwrap().success());
}

#[rstest]
#[case::plain("redis://h1:1/2", "h2:3", "h2:3", None, 2)]
#[case::credentials("redis://joe:p%40ss@h1:1/2", "h2:3", "h2:3", Some("p@ss"), 2)]
#[case::without_port("redis://:pw@h1/2", "h2", "h2:6379", Some("pw"), 2)]
#[case::v6("redis://h1", "[::1]:7", "[::1]:7", None, 0)]
#[case::empty("redis://h1:1/2", "", "h1:1", None, 2)]
fn an_address_replaces_host_and_port_of_a_url_and_nothing_else(
    #[case] url: &str,
    #[case] addr: &str,
    #[case] expected: &str,
    #[case] password: Option<&str>,
    #[case] db: i64,
) {
    let toml = format!("[default.databases.jobqueue]\nurl = '{url}'");
    let redis = Project::new().toml(&toml).env("REDIS_JOBQUEUE_ADDR", addr).load().redis;
    assert_eq!(redis.topology, single(expected));
    assert_eq!((redis.password.as_deref(), redis.db), (password, db));
}

#[test]
fn a_rediss_url_means_tls_also_at_another_address() {
    let project = Project::new()
        .toml("[default.databases.jobqueue]\nurl = 'rediss://joe@h1:1'")
        .cacheserver("redis: {jobqueue: {addr: 'h2:2', username: ann}}");
    let redis = project.load().redis;
    assert!(redis.tls);
    assert_eq!((redis.topology, redis.username.as_deref()), (single("h2:2"), Some("ann")));

    let error = project.cacheserver("redis: {jobqueue: {tls: false}}").error();
    assert!(error.contains("redis.jobqueue.tls: expected true"), "{error}");
}

#[test]
fn every_connection_option_is_read_and_0_means_its_default() {
    let options = "max_retries: 5, min_retry_backoff: 9ms, max_retry_backoff: 1s, \
        dial_timeout: 1m30s, read_timeout: 1.5s, write_timeout: 250us, pool_size: 4, \
        pool_timeout: 1h, username: u, password: p, db: 3, tls: true, wait_replicas: 2";
    let redis =
        Project::new().cacheserver(&format!("redis: {{jobqueue: {{{options}}}}}")).load().redis;
    let expected = PoolSettings {
        username: Some("u".to_owned()),
        password: Some("p".to_owned()),
        db: 3,
        tls: true,
        max_retries: 5,
        min_retry_backoff: Duration::from_millis(9),
        max_retry_backoff: Duration::from_secs(1),
        dial_timeout: Duration::from_secs(90),
        read_timeout: Duration::from_millis(1500),
        write_timeout: Duration::from_micros(250),
        pool_size: 4,
        pool_timeout: Duration::from_secs(3600),
        wait_replicas: 2,
        ..PoolSettings::default()
    };
    assert!(redis == expected);

    let zeros = "max_retries: 0, min_retry_backoff: 0, max_retry_backoff: 0s, dial_timeout: '0', \
        read_timeout: 0ms, write_timeout: 0, pool_size: 0, pool_timeout: , db: 0, addr: ''";
    let redis =
        Project::new().cacheserver(&format!("redis: {{jobqueue: {{{zeros}}}}}")).load().redis;
    assert!(redis == PoolSettings::default());
}

#[test]
fn sentinels_have_credentials_of_their_own() {
    let yaml = "redis: {jobqueue: {password: p, sentinel: {master: m, addrs: [h], username: s, password: hush}}}";
    let redis = Project::new().cacheserver(yaml).load().redis;
    let sentinel = (redis.sentinel_username.as_deref(), redis.sentinel_password.as_deref());
    assert_eq!(sentinel, (Some("s"), Some("hush")));
    assert_eq!((redis.username.as_deref(), redis.password.as_deref()), (None, Some("p")));
    assert!(!format!("{redis:?}").contains("hush"));
}

#[rstest]
#[case::one("addrs: ['h']", single("h:6379"))]
#[case::several("addrs: ['h:1', 'i:2']", Topology::Cluster(vec!["h:1".into(), "i:2".into()]))]
#[case::cluster("cluster: {addrs: ['h:1']}", Topology::Cluster(vec!["h:1".into()]))]
#[case::sentinel(
    "sentinel: {master: m, addrs: [h]}",
    Topology::Sentinel { master: "m".into(), addrs: vec!["h:26379".into()] }
)]
fn the_default_redis_takes_any_topology(#[case] keys: &str, #[case] expected: Topology) {
    let yaml = format!("redis: {{default: {{cluster: {{{keys}}}}}}}");
    let config = Project::new().cacheserver(&yaml).load();
    assert_eq!(config.redis_default.as_ref().map(|redis| &redis.topology), Some(&expected));
    assert!(config.rate_limit_redis().is_some());
}

#[rstest]
#[case::sentinel(
    "sentinel: {master: m, addrs: ['h:1', i]}",
    Topology::Sentinel { master: "m".into(), addrs: vec!["h:1".into(), "i:26379".into()] }
)]
#[case::cluster("cluster: {addrs: ['h:1', i]}", Topology::Cluster(vec!["h:1".into(), "i:6379".into()]))]
fn the_job_queues_redis_may_be_sentinel_or_cluster(#[case] keys: &str, #[case] expected: Topology) {
    let yaml = format!("redis: {{jobqueue: {{{keys}}}}}");
    assert_eq!(Project::new().cacheserver(&yaml).load().redis.topology, expected);
}

#[rstest]
#[case("addr: 'h:1', sentinel: {master: m, addrs: [h]}", "redis.jobqueue.sentinel.master")]
#[case("addr: 'h:1', cluster: {addrs: [h]}", "redis.jobqueue.cluster.addrs")]
#[case("url: 'redis://h', cluster: {addrs: [h]}", "redis.jobqueue.cluster.addrs")]
#[case("sentinel: {master: m, addrs: [h]}, cluster: {addrs: [h]}", "redis.jobqueue.cluster.addrs")]
#[case(
    "addr: 'h:1', sentinel: {password: x}",
    "redis.jobqueue.sentinel.password: expected sentinel.master"
)]
#[case("sentinel: {master: m}", "expected sentinel.addrs beside")]
#[case("sentinel: {addrs: [h]}", "expected sentinel.master beside")]
#[case("cluster: {addrs: [h]}, db: 1", "redis.jobqueue.db: expected 0")]
fn contradicting_topologies_stop_the_launch(#[case] keys: &str, #[case] message: &str) {
    let error = Project::new().cacheserver(&format!("redis: {{jobqueue: {{{keys}}}}}")).error();
    assert!(error.contains(message), "{error}");
}

#[rstest]
#[case(
    "redis: {jobqueue: {addr: 5}}",
    "redis.jobqueue.addr: expected an address as host:port, found a number"
)]
#[case(
    "redis: {jobqueue: {addr: 'h:99999'}}",
    r#"redis.jobqueue.addr: expected an address as host:port, found "h:99999""#
)]
#[case(
    "redis: {jobqueue: {db: -1}}",
    "redis.jobqueue.db: expected a whole number of 0 or more, found -1"
)]
#[case(
    "redis: {jobqueue: {db: x}}",
    r#"redis.jobqueue.db: expected a whole number of 0 or more, found "x""#
)]
#[case(
    "redis: {jobqueue: {tls: yes}}",
    r#"redis.jobqueue.tls: expected true or false, found "yes""#
)]
#[case(
    "redis: {jobqueue: {max_retries: -1}}",
    "redis.jobqueue.max_retries: expected a whole number"
)]
#[case("redis: {jobqueue: {max_retries: 1.5}}", "found 1.5")]
#[case("redis: {jobqueue: {pool_size: -3}}", "redis.jobqueue.pool_size: expected")]
#[case(
    "redis: {jobqueue: {dial_timeout: -5s}}",
    r#"redis.jobqueue.dial_timeout: expected a duration"#
)]
#[case("redis: {jobqueue: {read_timeout: 3}}", "found 3")]
#[case("redis: {jobqueue: {write_timeout: '3 parsecs'}}", r#"found "3 parsecs""#)]
#[case("redis: {jobqueue: {pool_timeout: [1]}}", "found a list")]
#[case("redis: {jobqueue: {min_retry_backoff: 1s}}", "expected min_retry_backoff of at most")]
#[case("redis: {jobqueue: {sentinel: x}}", "redis.jobqueue.sentinel: expected a table, found text")]
#[case(
    "redis: {jobqueue: {cluster: {addrs: 'h:1'}}}",
    "redis.jobqueue.cluster.addrs: expected a list"
)]
#[case("redis: {jobqueue: {cluster: {addrs: [1]}}}", "found a number")]
#[case("redis: {jobqueue: 1}", "redis.jobqueue: expected a table, found a number")]
#[case("redis: 1", "redis: expected a table, found a number")]
#[case("redis: {default: {cluster: {addrs: [':1']}}}", "redis.default.cluster.addrs: expected")]
#[case(
    "redis: {default: {cluster: {dial_timeout: x}}}",
    "redis.default.cluster.dial_timeout: expected"
)]
#[case("cache_server: {redis: {jobqueue: {db: x}}}", "cache_server.redis.jobqueue.db: expected")]
#[case("redis: [", "expected YAML")]
#[case("just text", "expected a table, found text")]
fn a_wrong_connection_value_stops_the_launch(#[case] yaml: &str, #[case] message: &str) {
    let error = Project::new().cacheserver(yaml).error();
    assert!(error.starts_with("config/develop/cacheserver.yaml: "), "{error}");
    assert!(error.contains(message), "{error}");
}

#[rstest]
#[case("jobqueue: {store: disk}", r#"jobqueue.store: expected redis or memory, found "disk""#)]
#[case("jobqueue: {store: 1}", "jobqueue.store: expected redis or memory, found 1")]
#[case("jobqueue: {worker: 1}", "jobqueue.worker: expected true or false, found 1")]
#[case("jobqueue: {concurrency: -1}", "jobqueue.concurrency: expected")]
#[case("jobqueue: {concurrency: many}", r#"found "many""#)]
#[case("jobqueue: {shutdown_timeout: -8s}", "jobqueue.shutdown_timeout: expected a duration")]
#[case("jobqueue: {group_grace: 500ms}", "jobqueue.group_grace: expected a duration of 1s or more")]
#[case("jobqueue: {group_max_size: -1}", "jobqueue.group_max_size: expected a whole number")]
#[case(
    "jobqueue: {group_max_size: 5001}",
    "jobqueue.group_max_size: expected a whole number from 0 to 5000, found 5001"
)]
#[case("jobqueue: {max_payload: 1GiB}", "jobqueue.max_payload: expected a whole number from 0 to")]
#[case(
    "jobqueue: {port: 65536}",
    "jobqueue.port: expected a whole number from 0 to 65535, found 65536"
)]
#[case("jobqueue: {base: api}", r#"jobqueue.base: expected a path such as /api/dm-jobqueue"#)]
#[case("jobqueue: {base: '/a?b'}", r#"found "/a?b""#)]
#[case("jobqueue: {base: '/a//b'}", "jobqueue.base: expected")]
#[case("jobqueue: {base: '/<a>'}", "jobqueue.base: expected")]
#[case("jobqueue: {base: '/'}", "jobqueue.base: expected")]
#[case(
    "jobqueue: {trusted_proxies: [10.0.0.0/99]}",
    r#"jobqueue.trusted_proxies: expected an IP address or a network such as 10.0.0.0/8, found "10.0.0.0/99""#
)]
#[case("jobqueue: {trusted_proxies: 10.0.0.1}", "jobqueue.trusted_proxies: expected a list")]
#[case("jobqueue: {allowed_origins: ['*']}", r#"jobqueue.allowed_origins: expected an origin such as https://app.example or http://localhost:3000, found "*""#)]
#[case("jobqueue: {allowed_origins: ['null']}", r#"found "null""#)]
#[case("jobqueue: {allowed_origins: ['https://a.example/']}", "expected an origin")]
#[case("jobqueue: {allowed_origins: ['ftp://a.example']}", "expected an origin")]
#[case("jobqueue: {allowed_origins: ['https://*.example']}", "expected an origin")]
#[case("jobqueue: {queues: {mail: -1}}", "jobqueue.queues.mail: expected")]
#[case("jobqueue: {queues: {'': 1}}", "expected a queue's name")]
#[case("jobqueue: {queues: {mail: 0}}", "at least one queue")]
#[case("jobqueue: {queues: [mail]}", "jobqueue.queues: expected a table, found a list")]
#[case("jobqueue: nothing", "jobqueue: expected a table, found text")]
#[case("jobqueue: {periodic: [a]}", "jobqueue.periodic: expected a table, found a list")]
#[case("jobqueue: {periodic: {a: x}}", "jobqueue.periodic.a: expected a table, found text")]
#[case("jobqueue: {periodic: {a: {type: t}}}", "jobqueue.periodic.a.spec: expected a schedule")]
#[case(
    "jobqueue: {periodic: {a: {spec: '@daily'}}}",
    "jobqueue.periodic.a.type: expected the type"
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '61 * * * *'}}}",
    r#"jobqueue.periodic.a.spec: expected values within the bounds in the field minute (0-59), found "61""#
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '@daily', time_zone: Berlin}}}",
    r#"jobqueue.periodic.a.time_zone: expected a time zone of the IANA database such as Europe/Berlin, found "Berlin""#
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '@daily', payload: '{'}}}",
    "jobqueue.periodic.a.payload: expected a table, or a text that is JSON, found another text"
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '@daily', missed: never}}}",
    r#"jobqueue.periodic.a.missed: expected skip, once or a duration such as 30m, found "never""#
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '@daily', unique_for: 10ms}}}",
    "jobqueue.periodic.a.unique_for: expected a duration of 1s or more"
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '0 0 31 2 *'}}}",
    r#"jobqueue.periodic.a.spec: expected a schedule that fires at some date, found "0 0 31 2 *", which never does"#
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '@every 0s'}}}",
    r#"jobqueue.periodic.a.spec: expected an interval of 1s or more after @every, found "@every 0s""#
)]
#[case("jobqueue: {periodic: {'a b': {type: t, spec: '@daily'}}}", "expected an entry name")]
#[case("api: {rate_limit: {enabled: 'on'}}", "api.rate_limit.enabled: expected true or false")]
#[case(
    "api: {rate_limit: {requests_per_minute: -1}}",
    "api.rate_limit.requests_per_minute: expected"
)]
#[case("api: {rate_limit: {requests_per_hour: x}}", "api.rate_limit.requests_per_hour: expected")]
#[case(
    "api: {rate_limit: {storage_type: disk}}",
    r#"expected auto or redis or memory, found "disk""#
)]
#[case(
    "api: {rate_limit: {storage_type: redis}}",
    "expected addresses in redis.default.cluster.addrs"
)]
fn a_wrong_value_stops_the_launch(#[case] yaml: &str, #[case] message: &str) {
    let error = Project::new().yaml(yaml).error();
    assert!(error.starts_with("config/develop/config.yaml: "), "{error}");
    assert!(error.contains(message), "{error}");
}

#[rstest]
#[case::toml(Project::new().toml("[debug.jobqueue]\nport = 'x'"), "Rocket.toml: debug.jobqueue.port: expected")]
#[case::env(Project::new().rocket_env("jobqueue", "{port=x}"), "environment variable ROCKET_JOBQUEUE: jobqueue.port: expected")]
#[case::address(Project::new().env("REDIS_JOBQUEUE_ADDR", "a b"), "environment variable: REDIS_JOBQUEUE_ADDR: expected")]
#[case::env_table(Project::new().rocket_env("databases", "{jobqueue="), "environment variable ROCKET_DATABASES: databases: expected a table, found text")]
#[case::custom(Project::new().custom("jobqueue.port", "x"), "code (tests/it/config.rs:")]
#[case::builder(Project::new().builder("jobqueue.port", "x"), "code (tests/it/config.rs:")]
#[case::app_env(Project::new().env("APP_ENV", "prod"), "APP_ENV: expected develop, staging, production, embedded")]
#[case::app_env_path(Project::new().env("APP_ENV", "../.."), "APP_ENV: expected")]
fn an_error_names_its_source(#[case] project: Project, #[case] message: &str) {
    let error = project.error();
    assert!(error.contains(message), "{error}");
}

#[rstest]
#[case("redis: {jobqueue: {password: 123456}}")]
#[case("redis: {jobqueue: {password: [s3cret123456]}}")]
#[case("redis: {jobqueue: {url: 'http://u:123456@h'}}")]
#[case("redis: {jobqueue: {url: 'redis://u:123456@h:x'}}")]
#[case("redis: {jobqueue: {url: 'redis://u:123456@h/x'}}")]
#[case("redis: {jobqueue: {url: 'redis://u:123456@h?a=b'}}")]
#[case("redis: {jobqueue: {url: 'redis://u:%zz123456@h'}}")]
#[case("redis: {jobqueue: {addr: 'redis://u:123456@h'}}")]
#[case("redis: {jobqueue: {addr: ':123456@h'}}")]
#[case("redis: {jobqueue: {password: '123456', db: -1}}")]
fn no_message_shows_a_password(#[case] yaml: &str) {
    let project = Project::new().cacheserver(yaml);
    let error = project.try_load().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("123456"), "{error}");
}

#[rstest]
#[case("jobqueue: {concurency: 5}", "jobqueue.concurency", "jobqueue.concurrency")]
#[case("jobqueue: {qeues: {a: 1}}", "jobqueue.qeues", "jobqueue.queues")]
#[case("redis: {jobqueue: {adr: x}}", "redis.jobqueue.adr", "redis.jobqueue.addr")]
#[case(
    "redis: {jobqueue: {sentinel: {mster: x}}}",
    "redis.jobqueue.sentinel.mster",
    "redis.jobqueue.sentinel.master"
)]
#[case(
    "redis: {default: {cluster: {addr: x}}}",
    "redis.default.cluster.addr",
    "redis.default.cluster.addrs"
)]
#[case(
    "api: {rate_limit: {storage: redis}}",
    "api.rate_limit.storage",
    "api.rate_limit.storage_type"
)]
#[case(
    "cache_server: {jobqueue: {prot: 1}}",
    "cache_server.jobqueue.prot",
    "cache_server.jobqueue.port"
)]
#[case("api: {rate_limits: {enabled: true}}", "api.rate_limits", "api.rate_limit")]
#[case("jobqueu: {port: 1}", "jobqueu", "jobqueue")]
fn an_unknown_key_is_warned_of_with_the_nearest(
    #[case] yaml: &str,
    #[case] key: &str,
    #[case] nearest: &str,
) {
    let warnings = Project::new().yaml(yaml).load().warnings;
    let expected = format!(
        "config/develop/config.yaml: {key} is unknown and ignored; the nearest known key is {nearest}"
    );
    assert_eq!(warnings, [expected]);
}

#[test]
fn a_key_given_to_the_builder_outside_our_tables_is_warned_of() {
    let warnings = Project::new().builder("jobqeue.port", 1).load().warnings;
    assert!(warnings[0].ends_with("nearest known key is jobqueue"), "{warnings:?}");
}

#[test]
fn the_applications_own_keys_are_none_of_our_business() {
    let project = Project::new()
        .toml("[default]\nport = 1\n[default.databases.main]\nurl = 'x'\n[default.redis]\na = 1")
        .yaml("server: {port: 1}\napi: {version: 1}\nredis: 'elsewhere'")
        .cacheserver("redis: {session: {addr: x}}\nmemcached: 1");
    assert_eq!(project.load().warnings, Vec::<String>::new());
}

#[test]
fn everything_may_be_nested_under_cache_server() {
    let config = Project::new()
        .cacheserver(
            "cache_server:\n  redis:\n    jobqueue: {addr: 'h:1'}\n    default: {cluster: {addrs: ['h:2']}}",
        )
        .yaml("cache_server:\n  jobqueue: {port: 5}\n  api: {rate_limit: {storage_type: redis}}")
        .load();
    assert_eq!(config.redis.topology, single("h:1"));
    assert_eq!(config.redis_default.unwrap().topology, single("h:2"));
    assert_eq!(config.jobqueue.port, 5);
    assert_eq!(config.rate_limit.storage_type, StorageType::Redis);
    assert!(config.warnings.is_empty());
}

#[rstest]
#[case("", StorageType::Auto, false)]
#[case("storage_type: ''", StorageType::Auto, false)]
#[case("storage_type: memory", StorageType::Memory, false)]
fn the_storage_type_is_auto_unless_given(
    #[case] keys: &str,
    #[case] expected: StorageType,
    #[case] in_redis: bool,
) {
    let config = Project::new().yaml(&format!("api: {{rate_limit: {{{keys}}}}}")).load();
    assert_eq!(config.rate_limit.storage_type, expected);
    assert_eq!(config.rate_limit_redis().is_some(), in_redis);
}

#[test]
fn memory_is_refused_outside_of_development_unless_allowed() {
    let memory = || Project::new().yaml("jobqueue: {store: memory}");
    assert_eq!(memory().load().jobqueue.store, Store::Memory);
    for profile in ["release", "production", "staging", "default"] {
        let error = memory().profile(profile).error();
        assert!(error.contains("jobqueue.allow_memory_in_release = true permits it"), "{error}");
        assert!(error.contains(&format!("profile {profile:?}")), "{error}");
        let allowed = memory().profile(profile).builder("jobqueue.allow_memory_in_release", true);
        assert_eq!(allowed.load().jobqueue.store, Store::Memory);
    }
}

#[test]
fn eviction_is_allowed_by_every_layer_and_by_nothing_but_a_boolean() {
    let layers = [
        Project::new().toml("[default.jobqueue]\nallow_eviction = true"),
        Project::new().cacheserver("jobqueue: {allow_eviction: true}"),
        Project::new().yaml("jobqueue: {allow_eviction: true}"),
        Project::new().rocket_env("jobqueue", "{allow_eviction=true}"),
        Project::new().custom("jobqueue.allow_eviction", true),
        Project::new().builder("jobqueue.allow_eviction", true),
    ];
    for layer in layers {
        assert!(layer.load().jobqueue.allow_eviction);
    }
    let error = Project::new().yaml("jobqueue: {allow_eviction: maybe}").error();
    assert!(error.contains("jobqueue.allow_eviction"), "{error}");
    let warned = Project::new().yaml("jobqueue: {allow_evictions: true}").load().warnings;
    assert!(warned.iter().any(|warning| warning.contains("allow_eviction")), "{warned:?}");
}

#[test]
fn embedded_works_without_a_folder_in_both_profiles() {
    for profile in ["debug", "release"] {
        let config = Project::new().profile(profile).env("APP_ENV", "embedded").load();
        assert_eq!(config.jobqueue.store, Store::Memory);
    }
}

#[test]
fn queues_of_all_layers_make_one_table() {
    let config = Project::new()
        .toml("[default.jobqueue.queues]\nmail = 1\nslow = 1\n'a.b' = 7")
        .yaml("jobqueue: {queues: {mail: 3, slow: 0}}")
        .load();
    assert_eq!(format!("{:?}", config.jobqueue.queues), r#"{"a.b": 7, "mail": 3}"#);
}

#[rstest]
#[case("/jobs", "/jobs")]
#[case("/a/b/", "/a/b")]
fn the_base_has_no_slash_at_its_end(#[case] base: &str, #[case] expected: &str) {
    assert_eq!(Project::new().builder("jobqueue.base", base).load().jobqueue.base, expected);
}

#[test]
fn config_is_looked_for_where_rocket_looks_for_its_file() {
    let port = |n: u32| format!("jobqueue: {{port: {n}}}");
    let above = Project::new().yaml(&port(1)).file("a/b/note", "");
    let deep = above.dir.path().join("a/b");
    assert_eq!(above.load_in(&deep).unwrap().jobqueue.port, 1, "a parent, without Rocket.toml");

    // Beside Rocket.toml, also when another config/ is nearer.
    let beside = above.file("a/config/develop/config.yaml", &port(2)).toml("");
    assert_eq!(beside.load_in(&deep).unwrap().jobqueue.port, 1);

    // No climbing for single files.
    let alone = Project::new()
        .cacheserver("jobqueue: {port: 1}")
        .file("a/config/develop/config.yaml", "jobqueue: {worker: false}");
    let config = alone.load_in(&alone.dir.path().join("a")).unwrap();
    assert_eq!((config.jobqueue.port, config.jobqueue.worker), (8082, false));

    let elsewhere = TempDir::new().unwrap();
    let path = alone.dir.path().join("Rocket.toml").display().to_string();
    let named = alone.env("ROCKET_CONFIG", &path);
    assert_eq!(named.load_in(elsewhere.path()).unwrap().jobqueue.port, 1);
}

#[test]
fn an_environment_of_the_applications_own_needs_a_folder() {
    let project =
        Project::new().file("config/qa/config.yaml", "jobqueue: {port: 1}").env("APP_ENV", "qa");
    assert_eq!(project.load().jobqueue.port, 1);
}

#[rstest]
fn every_shipped_file_loads_without_a_warning(
    #[values("embedded", "develop", "staging", "production")] app_env: &'static str,
    #[values("debug", "release")] profile: &'static str,
) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rocket = Figment::from(rocket::Config::default())
        .merge(Toml::file(root.join("Rocket.toml")).nested())
        .select(profile);
    let env = |name: &str| (name == "APP_ENV").then(|| app_env.to_owned());
    let config = Config::load(&rocket, &Figment::new(), &env, root).unwrap();

    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.files.len(), 2);
    assert_eq!(config.app_env, app_env);
    assert_eq!(config.jobqueue.store == Store::Memory, app_env == "embedded");
    assert_eq!(config.redis, PoolSettings::default());
    assert_eq!(config.redis_default.is_some(), app_env == "develop");
    assert!(config.rate_limit.enabled);
    let for_trying_out = matches!(app_env, "embedded" | "develop");
    assert_eq!(config.jobqueue.register_route, for_trying_out, "open to everybody");
}

#[test]
fn each_queue_may_have_limits_of_its_archive_and_takes_the_rest_from_all() {
    let config = Project::new()
        .toml(
            "[default.jobqueue]
archive_max = 500
release_lock_on_archive = true
[default.jobqueue.archive.mail]
max = 20
[default.jobqueue.archive.'a.b']
age = '1h'",
        )
        .yaml("jobqueue: {archive_age: 48h, archive: {mail: {max: 30}}}")
        .load();

    let archive = &config.jobqueue.archive;
    let limit = |queue: &str| archive.of(&rocket_jobqueue::QueueName::new(queue).unwrap());
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!((limit("other").max, limit("other").age), (500, hours(48)));
    assert_eq!((limit("mail").max, limit("mail").age), (30, hours(48)), "the stronger layer");
    assert_eq!((limit("a.b").max, limit("a.b").age), (500, hours(1)));
    assert!(archive.release_lock && config.warnings.is_empty(), "{:?}", config.warnings);
    let default = Project::new().load().jobqueue.archive;
    assert_eq!((default.limit.max, default.limit.age), (9_999, hours(90 * 24)));
    assert!(!default.release_lock && default.queues.is_empty());
}

#[rstest]
#[case("archive_max: 0", "archive_max: expected a whole number from 1 to 10000000, found 0")]
#[case("archive: {mail: {max: many}}", "archive.mail.max: expected a whole number")]
#[case("archive: {mail: {age: 3}}", "archive.mail.age: expected a duration")]
#[case("archive: {mail: 3}", "archive.mail: expected a table")]
fn a_wrong_limit_of_an_archive_is_named_with_its_place(#[case] line: &str, #[case] found: &str) {
    let error = Project::new().yaml(&format!("jobqueue: {{{line}}}")).error();
    assert!(error.contains(found), "{error}");
}

#[test]
fn an_unknown_key_of_a_queues_archive_is_warned_of() {
    let config = Project::new().yaml("jobqueue: {archive: {mail: {most: 3}}}").load();
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("archive.mail.most is unknown"), "{:?}", config.warnings);
}

#[test]
fn all_layers_together_make_a_periodic_entry_and_an_empty_spec_takes_it_out() {
    let project = Project::new()
        .toml(
            "[default.jobqueue.periodic.a]\nspec = '@daily'\ntype = 'weak'\nqueue = 'low'\n\
             [default.jobqueue.periodic.b]\nspec = '@daily'\ntype = 'gone'",
        )
        .yaml("jobqueue: {periodic: {a: {type: strong, payload: {n: 1}}, b: {spec: ''}}}");

    let periodic = project.load().jobqueue.periodic;

    let strong = Periodic::raw("@daily", "strong", Some(br#"{"n":1}"#.to_vec()));
    assert_eq!(periodic, [("a".to_owned(), strong.name("a").queue("low"))].into());
}

#[test]
fn an_unknown_key_of_a_periodic_entry_is_warned_of_with_the_nearest() {
    let project =
        Project::new().yaml("jobqueue: {periodic: {a: {type: t, spec: '@daily', timezone: UTC}}}");
    let warnings = project.load().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let line = &warnings[0];
    assert!(line.contains("jobqueue.periodic.a.timezone is unknown"), "{line}");
    assert!(line.ends_with("jobqueue.periodic.a.time_zone"), "{line}");
}

#[test]
fn the_periodic_job_of_the_guide_loads_without_a_warning() {
    let guide = include_str!("../../docs/guide/periodic.md");
    let entry = guide.split("```toml\n[default.jobqueue.periodic.").nth(1).expect("an example");
    let entry = entry.split("```").next().unwrap();
    let config = Project::new().toml(&format!("[default.jobqueue.periodic.{entry}")).load();

    assert_eq!(config.warnings, Vec::<String>::new());
    assert!(config.jobqueue.periodic.contains_key("nightly-report"));
}

/// The lines of a file, those in comments too that read like a key and its value.
fn uncommented(text: &str, is_key: impl Fn(&str) -> bool) -> String {
    let lines = text.lines().map(|line| {
        let indent = &line[..line.len() - line.trim_start().len()];
        match line.trim_start().strip_prefix("# ") {
            Some(key) if is_key(key) => format!("{indent}{key}\n"),
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

#[test]
fn the_keys_in_comments_of_the_shipped_files_load_and_hold_the_defaults() {
    let toml = uncommented(include_str!("../../Rocket.toml"), |line| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    });
    let yaml = include_str!("../../config/develop/config.yaml");
    let (before, more) = yaml.split_once("  # More keys").expect("the keys in comments");
    let (more, after) = more.split_once("\n\n").unwrap();
    let (_, more) = more.split_once('\n').unwrap();
    let yaml = format!("{before}{}\n{after}", uncommented(more, |_| true));

    for (name, project) in
        [("Rocket.toml", Project::new().toml(&toml)), ("config.yaml", Project::new().yaml(&yaml))]
    {
        let config = project.load();
        assert_eq!(config.warnings, Vec::<String>::new(), "{name}");
        let mut jobqueue = config.jobqueue;
        assert_eq!(jobqueue.periodic.len(), 1, "{name}");
        assert_eq!(jobqueue.archive.queues.len(), 1, "{name}");
        jobqueue.periodic.clear();
        jobqueue.archive.queues.clear();
        assert_eq!(jobqueue, Project::new().load().jobqueue, "{name}");
        assert_eq!(config.redis, PoolSettings::default(), "{name}");
    }
}

#[test]
fn merge_keys_are_resolved_in_every_file_nested_and_repeated() {
    let config = Project::new()
        .cacheserver(
            "x-auth: &auth {username: joe, password: hush}\n\
             x-redis: &redis\n  <<: *auth\n  db: 3\n  read_timeout: 1s\n\
             redis:\n  jobqueue:\n    <<: *redis\n    addr: h:1\n    read_timeout: 2s\n  \
             default: {cluster: {<<: [{addrs: ['h:2']}, *redis], db: 0}}",
        )
        .yaml(
            "x-low: &low\n  queue: low\n  max_retry: 2\nx-berlin: &berlin {time_zone: Europe/Berlin, queue: no}\n\
             x-job: &job\n  <<: *low\n  type: t\n  payload: &payload {n: 1, deep: {a: [1, 2.5]}}\n\
             cache_server:\n  jobqueue: &jobqueue\n    periodic:\n      \
             listed: {<<: [*job, *berlin], spec: '@daily'}\n      \
             repeated:\n        spec: '@daily'\n        <<: *job\n        <<: *berlin\n        max_retry: 3\n        \
             payload:\n          <<: *payload\n          n: 2\n      \
             kept:\n        \"<<\": x\n        spec: '@daily'\n        type: u\n        <<:\n        \
             # x-nothing\n    queues: {<<: {low: 1}, high: 2}",
        )
        .load();

    let redis = &config.redis;
    assert_eq!((&redis.topology, redis.db), (&single("h:1"), 3));
    assert_eq!((redis.username.as_deref(), redis.password.as_deref()), (Some("joe"), Some("hush")));
    assert_eq!(redis.read_timeout, Duration::from_secs(2), "an explicit key beats a merged one");
    let default = config.redis_default.expect("an address");
    assert_eq!((&default.topology, default.db), (&single("h:2"), 0));
    assert_eq!(default.password.as_deref(), Some("hush"));

    let job = |name: &str, retries: u32, payload: &str| {
        let job = Periodic::raw("@daily", "t", Some(payload.as_bytes().to_vec())).name(name);
        job.queue("low").time_zone("Europe/Berlin").max_retry(retries)
    };
    let periodic = &config.jobqueue.periodic;
    assert_eq!(periodic["listed"], job("listed", 2, r#"{"deep":{"a":[1,2.5]},"n":1}"#));
    assert_eq!(periodic["repeated"], job("repeated", 3, r#"{"deep":{"a":[1,2.5]},"n":2}"#));
    assert_eq!(format!("{:?}", config.jobqueue.queues), r#"{"high": 2, "low": 1}"#);
    // In quotes it is a key like any other, which nobody knows.
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("periodic.kept.<< is unknown"), "{:?}", config.warnings);
}

#[rstest]
#[case::text(
    "jobqueue:\n  <<: low",
    "expected a table or a list of tables, found text behind jobqueue.<< in line 2"
)]
#[case::list("jobqueue: {<<: [{port: 1}, 5]}", "found a number in it behind jobqueue.<< in line 1")]
#[case::unknown("jobqueue: {<<: *nobody}", "unknown anchor")]
#[case::inside_itself(
    "jobqueue: &a\n  queues: *a",
    "an alias inside the value that it names, in line 2"
)]
#[case::documents("jobqueue: {port: 1}\n---\njobqueue: {port: 2}", "a second document in line 2")]
#[case::key("jobqueue: {[a]: 1}", "a list or a table as key in line 1")]
#[case::tag("jobqueue: {port: !!int x}", "a value that is no !!int in line 1")]
fn yaml_that_means_nothing_stops_the_launch_with_its_line(
    #[case] yaml: &str,
    #[case] message: &str,
) {
    let error = Project::new().yaml(yaml).error();
    assert!(error.starts_with("config/develop/config.yaml: expected YAML, found: "), "{error}");
    assert!(error.contains(message), "{error}");
}

#[test]
fn aliases_of_aliases_cannot_fill_the_memory() {
    let bomb = (1..12).fold("x0: &x0 [a, a]\n".to_owned(), |text, n| {
        let items = vec![format!("*x{}", n - 1); 9].join(", ");
        format!("{text}x{n}: &x{n} [{items}]\n")
    });
    let error = Project::new().yaml(&bomb).error();
    assert!(error.contains("more than 100000 values, aliases replaced"), "{error}");
    for (depth, found) in [(150, "more than 100 tables in each other"), (5_000, "recursion limit")]
    {
        let nested = format!("x: {}{}", "[".repeat(depth), "]".repeat(depth));
        let error = Project::new().yaml(&nested).error();
        assert!(error.contains(found), "{error}");
    }
}

#[test]
fn scalars_are_read_as_yaml_1_2_says() {
    let text = "[~, null, '', 'null', yes, true, 'true', 12, -12, +12, 0x1f, 0o17, 0123, 1.5, 1e3, \
        .inf, inf, nan, 1_000, 12345678901234567890, 1.2.3, 10:30, -, .5, !!str 5, !!int '5', !own 5]";
    let document = rocket_jobqueue::internals::parse_yaml(&text.replace(", -,", ",")).unwrap();
    let found: Vec<serde_json::Value> = document.value.deserialize().unwrap();
    let expected = serde_json::json!([
        null,
        null,
        "",
        "null",
        "yes",
        true,
        "true",
        12,
        -12,
        12,
        31,
        15,
        "0123",
        1.5,
        1000.0,
        null,
        "inf",
        "nan",
        "1_000",
        12345678901234567890u64,
        "1.2.3",
        "10:30",
        0.5,
        "5",
        5,
        "5"
    ]);
    assert_eq!(serde_json::Value::from(found), expected);
    assert_eq!(document.warnings.len(), 1, "{:?}", document.warnings);
    assert!(document.warnings[0].contains("unknown tag !own"), "{:?}", document.warnings);
}

#[test]
fn a_key_given_twice_is_warned_of_with_both_lines_and_the_last_one_counts() {
    let config = Project::new()
        .yaml("jobqueue:\n  port: 1\n  queues: {a: 1, a: 2}\n  port: 2\nx-other: {a: 1}")
        .load();
    assert_eq!(config.jobqueue.port, 2);
    assert_eq!(
        config.warnings,
        [
            "config/develop/config.yaml: jobqueue.queues.a is given twice, in lines 3 and 3; the last one counts",
            "config/develop/config.yaml: jobqueue.port is given twice, in lines 2 and 4; the last one counts",
        ]
    );
}

#[rstest]
#[case::key(
    "jobqueue_concurrency",
    "50",
    "ROCKET_JOBQUEUE_CONCURRENCY is not used; jobqueue.concurrency is set with ROCKET_JOBQUEUE='{concurrency=…}'"
)]
#[case::two_underscores(
    "jobqueue__concurrency",
    "50",
    "jobqueue.concurrency is set with ROCKET_JOBQUEUE='{concurrency=…}'"
)]
#[case::url(
    "databases_jobqueue_url",
    "redis://:hush@h",
    "databases.jobqueue.url is set with ROCKET_DATABASES='{jobqueue={url=…}}'"
)]
#[case::one_database(
    "database__jobqueue__password",
    "hush",
    "ROCKET_DATABASES='{jobqueue={password=…}}'"
)]
#[case::nested(
    "databases_jobqueue_sentinel_master",
    "m",
    "ROCKET_DATABASES='{jobqueue={sentinel={master=…}}}'"
)]
#[case::as_in_yaml(
    "redis_jobqueue_addr",
    "h:1",
    "databases.jobqueue.addr is set with ROCKET_DATABASES='{jobqueue={addr=…}}'"
)]
#[case::default_redis(
    "redis_default_cluster_addrs",
    "[h]",
    "ROCKET_REDIS='{default={cluster={addrs=…}}}'"
)]
#[case::rate_limit(
    "rate_limit_requests_per_minute",
    "5",
    "rate_limit.requests_per_minute is set with ROCKET_RATE_LIMIT='{requests_per_minute=…}'"
)]
#[case::api(
    "api_rate_limit_enabled",
    "true",
    "rate_limit.enabled is set with ROCKET_RATE_LIMIT='{enabled=…}'"
)]
#[case::misspelt("jobqueue_concurency", "5", "jobqueue.concurrency is set with")]
#[case::other_words("job_queue_max_payload", "5", "ROCKET_JOBQUEUE='{max_payload=…}'")]
#[case::queue("jobqueue_queues_mail", "5", "ROCKET_JOBQUEUE='{queues={mail=…}}'")]
#[case::archive("jobqueue_archive_mail_max", "5", "ROCKET_JOBQUEUE='{archive={<name>={<key>=…}}}'")]
#[case::nothing_near("jobqueue_xyzzy", "hush", "ROCKET_JOBQUEUE='{<key>=…}'")]
#[case::table_of_yaml(
    "redis",
    "{jobqueue={password=hush}}",
    "ROCKET_REDIS: redis.jobqueue is not used; it is set with ROCKET_DATABASES='{jobqueue={…}}'"
)]
#[case::api_table("api", "{rate_limit={enabled=true}}", "it is set with ROCKET_RATE_LIMIT='{…}'")]
fn a_variable_that_begins_like_ours_and_is_unused_is_warned_of(
    #[case] key: &str,
    #[case] value: &str,
    #[case] expected: &str,
) {
    let config = Project::new().rocket_env(key, value).load();
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    let warning = &config.warnings[0];
    assert!(warning.starts_with("environment variable ROCKET_"), "{warning}");
    assert!(warning.contains(expected) && !warning.contains("hush"), "{warning}");
}

#[test]
fn variables_of_others_and_those_in_use_are_not_warned_of() {
    let variables = [
        ("jobqueue", "{concurrency=5}"),
        ("databases", "{jobqueue={db=1}, main={url=x}}"),
        ("databases_main_url", "x"),
        ("rate_limit", "{enabled=true}"),
        ("redis", "{default={cluster={addrs=[h]}}}"),
        ("port", "8000"),
        ("log_level", "off"),
        ("jobs", "1"),
        // Kubernetes, for a service that is called rocket-jobqueue.
        ("jobqueue_service_host", "10.0.0.1"),
        ("jobqueue_port", "tcp://10.0.0.1:80"),
        ("jobqueue_port_80_tcp_addr", "10.0.0.1"),
    ];
    let project = variables.iter().fold(Project::new(), |p, (key, value)| p.rocket_env(key, value));
    assert_eq!(project.load().warnings, Vec::<String>::new());

    let found = |variables: &[(&str, &str)]| {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        unused_variables(owned)
    };
    let fine = [
        ("REDIS_JOBQUEUE_ADDR", "h:1"),
        ("APP_ENV", "develop"),
        ("APP_ENVIRONMENT", "x"),
        ("REDIS_JOBQUEUE_SERVICE_PORT", "6379"),
        ("REDIS_JOBQUEUE_PORT", "tcp://10.0.0.1:6379"),
        ("REDIS_HOSTS", "local:h:1"),
    ];
    assert_eq!(found(&fine), Vec::<String>::new());
    let wrong = [
        ("APP_ENVIRONMENT", "production"),
        ("REDIS_JOBQUEUE_ADDRESS", "h:1"),
        ("REDIS_JOBQUEUE_PASSWORD", "hush"),
    ];
    assert_eq!(
        found(&wrong),
        [
            "environment variable APP_ENVIRONMENT is not used; the environment is chosen with APP_ENV",
            "environment variable REDIS_JOBQUEUE_ADDRESS is not used; host and port are set with REDIS_JOBQUEUE_ADDR",
            "environment variable REDIS_JOBQUEUE_PASSWORD is not used; databases.jobqueue.password is set with ROCKET_DATABASES='{jobqueue={password=…}}'",
        ]
    );
}

#[test]
fn a_file_with_nearly_the_right_name_is_warned_of() {
    let config = Project::new()
        .yaml("jobqueue: {port: 1}")
        .file("config/develop/config.yml", "jobqueue: {port: 2}")
        .file("config/develop/cache_server.yaml", "")
        .file("config/develop/notes.yaml", "")
        // An application's own files of that name.
        .file("config/develop/config.json", r#"{"title": "jobqueues", "rate_limit": 5}"#)
        .file("config/develop/config.toml", "[server]\nport = 1")
        .load();
    assert_eq!(config.jobqueue.port, 1);
    assert_eq!(
        config.warnings,
        [
            "config/develop/cache_server.yaml is not read; the file's name must be cacheserver.yaml",
            "config/develop/config.yml is not read; the file's name must be config.yaml",
        ]
    );
}

#[test]
fn tls_options_are_read_and_wrong_ones_are_named() {
    let project = || {
        let ca = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=ca", "-keyout", "/dev/null"])
            .output()
            .unwrap();
        let pem = String::from_utf8(ca.stdout).unwrap();
        Project::new().file("ca.pem", &pem).file("empty.pem", "")
    };
    let with = |project: Project, keys: &str| {
        let folder = project.dir.path().display().to_string();
        project.cacheserver(&format!("redis: {{jobqueue: {{{}}}}}", keys.replace('@', &folder)))
    };
    let loaded = with(project(), "tls: true, tls_ca_file: '@/ca.pem', tls_server_name: r.internal");
    let redis = loaded.load().redis;
    assert!(redis.tls && redis.tls_options.ca_file.unwrap().ends_with("ca.pem"));
    assert_eq!(redis.tls_options.server_name.as_deref(), Some("r.internal"));
    let cluster = "tls: true, tls_server_name: r.internal, cluster: {addrs: [h]}";
    let cluster = with(project(), cluster).load().redis;
    assert_eq!(cluster.tls_options.server_name.as_deref(), Some("r.internal"));
    // Switched off by a layer that does not know them.
    let off = with(project(), "tls: false, tls_ca_file: '@/none.pem'").load().redis;
    assert!(!off.tls && off.tls_options == PoolSettings::default().tls_options);

    for (keys, expected) in [
        ("tls_ca_file: '@/ca.pem'", "tls_ca_file: expected tls = true beside it, found no tls"),
        (
            "tls: true, tls_ca_file: '@/none.pem'",
            "tls_ca_file: expected a PEM file with one certificate or more, found No such file",
        ),
        (
            "tls: true, tls_ca_file: '@/empty.pem'",
            "tls_ca_file: expected a PEM file with one certificate or more, found a file without one",
        ),
        (
            "tls: true, tls_ca_file: 5",
            "tls_ca_file: expected the path of a PEM file, found a number",
        ),
        (
            "tls: true, tls_cert_file: '@/ca.pem'",
            "tls_cert_file: expected tls_key_file beside it, found none",
        ),
        (
            "tls: true, tls_cert_file: '@/ca.pem', tls_key_file: '@/ca.pem'",
            "tls_key_file: expected a PEM file with the private key of that certificate, not encrypted, found a file without one",
        ),
        (
            "tls: true, tls_server_name: 'a b'",
            "tls_server_name: expected a host name or an address",
        ),
        (
            "tls: true, url: 'unix:///run/r.sock'",
            "tls: expected false with a Unix socket, found true",
        ),
    ] {
        let error = with(project(), keys).error();
        assert!(error.contains(&format!("redis.jobqueue.{expected}")), "{keys}: {error}");
    }
    let slip = with(project(), "tls: true, tls_cafile: x").load().warnings;
    assert!(slip[0].ends_with("nearest known key is redis.jobqueue.tls_ca_file"), "{slip:?}");
}

#[rstest]
#[case::url("url: 'unix:///run/redis.sock'", "/run/redis.sock", None, None, 0)]
#[case::redis_unix("url: 'redis+unix:///run/redis.sock?db=3'", "/run/redis.sock", None, None, 3)]
#[case::user(
    "url: 'unix://joe:p%40ss@/run/a@b.sock?db=1'",
    "/run/a@b.sock",
    Some("joe"),
    Some("p@ss"),
    1
)]
#[case::query(
    "url: 'redis+unix:///r.sock?user=joe&pass=hush'",
    "/r.sock",
    Some("joe"),
    Some("hush"),
    0
)]
#[case::asynq("url: 'redis-socket://:hush@/r.sock?db=2'", "/r.sock", None, Some("hush"), 2)]
#[case::escaped("url: 'unix:///a%20b.sock'", "/a b.sock", None, None, 0)]
#[case::addr(
    "addr: 'unix:///run/redis.sock', db: 4, password: p",
    "/run/redis.sock",
    None,
    Some("p"),
    4
)]
fn a_unix_socket_is_an_address(
    #[case] keys: &str,
    #[case] path: &str,
    #[case] username: Option<&str>,
    #[case] password: Option<&str>,
    #[case] db: i64,
) {
    let redis =
        Project::new().cacheserver(&format!("redis: {{jobqueue: {{{keys}}}}}")).load().redis;
    assert_eq!(redis.topology, Topology::Unix(path.into()));
    assert_eq!((redis.username.as_deref(), redis.password.as_deref()), (username, password));
    assert_eq!(redis.db, db);
}

#[rstest]
#[case("url: 'unix://hush@nowhere'")]
#[case("url: 'unix:///'")]
#[case("url: 'unix:///r.sock?db=hush'")]
#[case("url: 'unix:///r.sock?hush=1'")]
#[case("addr: 'unix://:hush@/r.sock'")]
#[case("addr: 'unix:///r.sock?db=1'")]
fn a_socket_that_cannot_be_is_refused_without_a_secret(#[case] keys: &str) {
    let error = Project::new().cacheserver(&format!("redis: {{jobqueue: {{{keys}}}}}")).error();
    assert!(error.contains("unix://") && !error.contains("hush"), "{error}");
}
