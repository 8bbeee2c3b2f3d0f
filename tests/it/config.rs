//! The configuration, read from real files in folders of their own.

mod connection;
mod queues;
mod unknown;
mod yaml;

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
use rocket_jobqueue::{Error, Periodic, Until};
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
#[case(
    "jobqueue: {store: file}",
    r#"jobqueue.store: expected redis or disk or memory, found "file""#
)]
#[case("jobqueue: {store: 1}", "jobqueue.store: expected redis or disk or memory, found 1")]
#[case(
    "jobqueue: {namespace: 'shop:eu'}",
    "jobqueue.namespace: expected 1 to 32 of A-Z a-z 0-9 _ . - (a colon ends the namespace in the \
     name of a stored queue), found \"shop:eu\""
)]
#[case("jobqueue: {namespace: ''}", "jobqueue.namespace: expected 1 to 32 of")]
#[case("jobqueue: {namespace: 7}", "jobqueue.namespace: expected 1 to 32 of")]
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
#[case("jobqueue: {allowed_origins: ['*']}", r#"jobqueue.allowed_origins: expected an origin such as https://app.example or http://localhost:3000, without a path, found "*""#)]
#[case("jobqueue: {allowed_origins: ['null']}", r#"found "null""#)]
#[case(
    "jobqueue: {allowed_origins: ['https://a.example/hush']}",
    r#"found "https://a.example" with a path (not shown)"#
)]
#[case("jobqueue: {allowed_origins: ['https://a.example//']}", "without a path, found")]
#[case("jobqueue: {allowed_origins: ['https://joe:hush@a.example']}", "credentials (not shown)")]
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
    "jobqueue: {periodic: {a: {type: t, spec: '@daily', on_conflict: replace}}}",
    "jobqueue.periodic.a.on_conflict: expected it beside unique_for, found no unique_for"
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '@daily', unique_for: 1h, until: end}}}",
    r#"jobqueue.periodic.a.until: expected start or success or expiry, found "end""#
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '@daily', unique_for: 1h, on_conflict: fail}}}",
    r#"jobqueue.periodic.a.on_conflict: expected reject or replace or extend, found "fail""#
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '@daily', unique_for: 1h, unique_by: [user], payload: {id: 1}}}}",
    r#"jobqueue.periodic.a.unique_by: expected 1 to 16 fields of the payload, found "user""#
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '@daily', unique_for: 1h, unique_by: [id], unique_key: k, payload: {id: 1}}}}",
    "jobqueue.periodic.a.unique_key: expected it or unique_by, found both"
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '0 0 31 2 *'}}}",
    r#"jobqueue.periodic.a.spec: expected a schedule that fires at some date, found "0 0 31 2 *", which never does"#
)]
#[case(
    "jobqueue: {periodic: {a: {type: t, spec: '@every 0s'}}}",
    r#"jobqueue.periodic.a.spec: expected an interval of 1s or more after @every, found "@every 0s""#
)]
#[case("jobqueue: {periodic: {'a b': {type: t, spec: '@daily'}}}", "expected a name of A-Z")]
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
        let expected = Project::new().load().jobqueue;
        // Each project has a folder of its own.
        jobqueue.path.clone_from(&expected.path);
        assert_eq!(jobqueue, expected, "{name}");
        assert_eq!(config.redis, PoolSettings::default(), "{name}");
    }
}

#[test]
fn the_lock_of_a_periodic_job_has_all_its_terms() {
    let config = Project::new()
        .yaml(
            "cache_server:\n  jobqueue:\n    periodic:\n      \
             fields: {type: t, spec: '@daily', payload: {user: {id: 1}, at: 2}, unique_for: 1h, until: expiry, \
             unique_by: [/user/id, at], on_conflict: extend}\n      \
             key: {type: t, spec: '@daily', unique_for: 1h, until: start, unique_key: one, on_conflict: replace}",
        )
        .load();
    let hour = Duration::from_secs(3600);
    let payload = br#"{"at":2,"user":{"id":1}}"#.to_vec();
    let fields = Periodic::raw("@daily", "t", Some(payload)).name("fields").unique_for(hour);
    let fields = fields.until(Until::Expiry).unique_by(["/user/id", "at"]).or_extend();
    let key = Periodic::raw("@daily", "t", None).name("key").unique_for(hour);
    let key = key.until(Until::Start).unique_key("one").or_replace();
    assert_eq!(config.jobqueue.periodic["fields"], fields);
    assert_eq!(config.jobqueue.periodic["key"], key);
}
