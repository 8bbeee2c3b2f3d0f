//! Keys, variables and files that nobody reads: the launch goes on, with a warning.

use super::*;

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
        .toml(
            "[default]\nport = 1\nratelimit = 5\n[default.databases.main]\nurl = 'x'\n\
             [default.redis]\na = 1\n[default.jobs]\nport = 1\n[default.workqueue]\nport = 1\n\
             [default.databases.queue]\ndb = 1\n[default.database]\nurl = 'x'\n\
             [production.jobqueue]\nport = 1\n[defaults]\nport = 1\n[jobs]\nport = 1",
        )
        .yaml(
            "server: {port: 1}\napi: {version: 1}\nredis: 'elsewhere'\n\
             app: {rate_limit: {a: 1}}\nx-jobqueue: {a: 1}",
        )
        .cacheserver("redis: {session: {addr: x}}\nmemcached: 1");
    assert_eq!(project.load().warnings, Vec::<String>::new());
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
#[case::wrong_table(
    "database",
    "{jobqueue={db=3, password=hush}}",
    "ROCKET_DATABASE: database.jobqueue is not used; it is set with ROCKET_DATABASES='{jobqueue={…}}'"
)]
#[case::wrong_name(
    "databases",
    "{job_queue={db=3}}",
    "ROCKET_DATABASES: databases.job_queue is not used; it is set with ROCKET_DATABASES='{jobqueue={…}}'"
)]
#[case::misspelt_table("jobqueu", "{concurrency=5}", "it is set with ROCKET_JOBQUEUE='{…}'")]
#[case::plural("rate_limits", "{enabled=true}", "it is set with ROCKET_RATE_LIMIT='{…}'")]
#[case::cluster(
    "redis",
    "{default={clusters={addrs=[h]}}}",
    "ROCKET_REDIS='{default={cluster={…}}}'"
)]
#[case::misspelt_beginning("jobqueu_concurrency", "5", "jobqueue.concurrency is set with")]
#[case::short(
    "db_jobqueue_url",
    "redis://:hush@h",
    "databases.jobqueue.url is set with ROCKET_DATABASES='{jobqueue={url=…}}'"
)]
#[case::app_env(
    "app_env",
    "production",
    "ROCKET_APP_ENV is not used; the environment is chosen with APP_ENV"
)]
#[case::nothing_near("jobqueue_xyzzy", "hush", "jobqueue is set with ROCKET_JOBQUEUE='{…}'")]
#[case::of_redis(
    "jobqueue_url",
    "redis://:hush@h",
    "databases.jobqueue.url is set with ROCKET_DATABASES='{jobqueue={url=…}}'"
)]
#[case::of_redis_by_name(
    "jobqueue_redis_password",
    "hush",
    "databases.jobqueue.password is set with ROCKET_DATABASES='{jobqueue={password=…}}'"
)]
#[case::of_redis_misspelled(
    "jobqueue_redis_passwrd",
    "hush",
    "databases.jobqueue.password is set with ROCKET_DATABASES='{jobqueue={password=…}}'"
)]
#[case::whole_database(
    "databases_jobqueue",
    "{url=\"redis://:hush@h\"}",
    "databases.jobqueue is set with ROCKET_DATABASES='{jobqueue={…}}'"
)]
#[case::name_of_two_words(
    "jobqueue_queues_mail_jobs",
    "5",
    "jobqueue.queues.mail_jobs is set with ROCKET_JOBQUEUE='{queues={mail_jobs=…}}'"
)]
#[case::table_of_a_queue(
    "jobqueue_max_waiting_mail_jobs",
    "5",
    "ROCKET_JOBQUEUE='{max_waiting={<name>={<key>=…}}}'"
)]
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
        ("database", "{main={url=x}}"),
        ("mailqueue", "{concurrency=5}"),
        ("workqueue_concurrency", "5"),
        ("limits", "{json=1}"),
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
        // An application's own.
        ("JOBQUEUE_DASHBOARD_URL", "https://x"),
        ("JOBQUEUE_URL", "https://x"),
        ("JOBQUEUE_PASSWORD", "hush"),
        ("JOBQUEUE_NAME", "{x}"),
        ("JOBS_CONCURRENCY", "5"),
        ("RATE_LIMIT_ENABLED", "true"),
        ("RATE_LIMIT", "{x}"),
        ("DATABASES", "{jobqueue={}}"),
        ("DATABASE_URL", "redis://h"),
        ("app_env", "production"),
        ("APP_END", "develop"),
        ("APPEND", "x"),
        // Read by Rocket.
        ("ROCKET_JOBQUEUE", "{concurrency=5}"),
        ("rocket_jobqueue", "{concurrency=5}"),
    ];
    assert_eq!(found(&fine), Vec::<String>::new());
    let wrong = [
        ("APP_ENVIRONMENT", "production"),
        ("REDIS_JOBQUEUE_ADDRESS", "h:1"),
        ("REDIS_JOBQUEUE_PASSWORD", "hush"),
        ("REDIS_JOBQUEU_ADDR", "h:1"),
        ("REDIS_JOBQUEUE_ADD", "h:1"),
        ("app_env", "production"),
        ("APP_EVN", "production"),
        ("APP_EVE", "yes"),
        ("JOBQUEUE_CONCURRENCY", "5"),
        ("JOBQUEUE_MAX_PAYLAOD", "5"),
        ("JOBQUEUE_URL", "redis://:hush@h"),
        ("DATABASES_JOBQUEUE_DB", "1"),
        ("JOBQUEUE", "{concurrency=5}"),
        ("ROKET_JOBQUEUE", "{concurrency=5}"),
        ("RATE_LIMIT", "5"),
    ];
    assert_eq!(
        found(&wrong),
        [
            "environment variable APP_ENVIRONMENT is not used; the environment is chosen with APP_ENV",
            "environment variable REDIS_JOBQUEUE_ADDRESS is not used; host and port are set with REDIS_JOBQUEUE_ADDR",
            "environment variable REDIS_JOBQUEUE_PASSWORD is not used; databases.jobqueue.password is set with ROCKET_DATABASES='{jobqueue={password=…}}'",
            "environment variable REDIS_JOBQUEU_ADDR is not used; host and port are set with REDIS_JOBQUEUE_ADDR",
            "environment variable REDIS_JOBQUEUE_ADD is not used; host and port are set with REDIS_JOBQUEUE_ADDR",
            "environment variable app_env is not used; the environment is chosen with APP_ENV",
            "environment variable APP_EVN is not used; the environment is chosen with APP_ENV",
            "environment variable JOBQUEUE_CONCURRENCY is not used; jobqueue.concurrency is set with ROCKET_JOBQUEUE='{concurrency=…}'",
            "environment variable JOBQUEUE_MAX_PAYLAOD is not used; jobqueue.max_payload is set with ROCKET_JOBQUEUE='{max_payload=…}'",
            "environment variable JOBQUEUE_URL is not used; databases.jobqueue.url is set with ROCKET_DATABASES='{jobqueue={url=…}}'",
            "environment variable DATABASES_JOBQUEUE_DB is not used; databases.jobqueue.db is set with ROCKET_DATABASES='{jobqueue={db=…}}'",
            "environment variable JOBQUEUE is not used; the nearest is ROCKET_JOBQUEUE",
            "environment variable ROKET_JOBQUEUE is not used; the nearest is ROCKET_JOBQUEUE",
        ]
    );
}

#[test]
fn a_key_given_twice_in_a_variable_is_warned_of() {
    let config = Project::new()
        .rocket_env("jobqueue", "{concurrency=6}")
        .env("ROCKET_JOBQUEUE", "{concurrency=5,concurrency=6}")
        .env("ROCKET_DATABASES", "{jobqueue={password=hush,password=\"hush=a,db=1\"},main={db=1}}")
        .load();
    let warnings = ["ROCKET_JOBQUEUE: concurrency", "ROCKET_DATABASES: jobqueue.password"]
        .map(|key| format!("environment variable {key} is given twice; the last one counts"));
    assert_eq!(config.warnings, warnings);
}

#[rstest]
#[case("[default.jobqeue]\nport = 1", "default.jobqeue", "default.jobqueue")]
#[case("[defualt.jobqueue]\nport = 1", "defualt.jobqueue", "default.jobqueue")]
#[case("[debug.rate-limit]\nenabled = true", "debug.rate-limit", "debug.rate_limit")]
#[case(
    "[default.database.jobqueue]\ndb = 1",
    "default.database.jobqueue",
    "default.databases.jobqueue"
)]
#[case(
    "[default.databases.job_queue]\ndb = 1",
    "default.databases.job_queue",
    "default.databases.jobqueue"
)]
#[case(
    "[default.redis.defaults.cluster]\ndb = 1",
    "default.redis.defaults.cluster",
    "default.redis.default.cluster"
)]
#[case("[default.redis.jobqueue]\ndb = 1", "default.redis.jobqueue", "default.databases.jobqueue")]
#[case("[default.api.rate_limit]\nenabled = true", "default.api.rate_limit", "default.rate_limit")]
#[case("[jobqueue]\nport = 1", "jobqueue", "default.jobqueue")]
#[case("[databases.jobqueue]\ndb = 1", "databases.jobqueue", "default.databases.jobqueue")]
fn a_misspelled_table_of_rockets_file_is_warned_of(
    #[case] toml: &str,
    #[case] table: &str,
    #[case] nearest: &str,
) {
    let expected =
        format!("Rocket.toml: {table} is unknown and ignored; the nearest known key is {nearest}");
    assert_eq!(Project::new().toml(toml).load().warnings, [expected]);
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
    // One that has only the rate limit.
    let config = Project::new()
        .file("config/develop/config.yml", "api: {rate_limit: {enabled: true}}")
        .load();
    assert_eq!(
        config.warnings,
        ["config/develop/config.yml is not read; the file's name must be config.yaml"]
    );
}
