//! How YAML files are read: merge keys, aliases, scalars.

use super::*;

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
