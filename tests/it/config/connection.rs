//! What the keys of a connection mean: addresses, topologies, credentials, TLS, sockets.

use super::*;

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
#[case("url: 'unix:///r.sock?db=1&db=2'")]
#[case("url: 'unix:///r.sock?user=joe&username=joe'")]
#[case("url: 'unix://:hush@/r.sock?pass=hush'")]
#[case("addr: 'unix://:hush@/r.sock'")]
#[case("addr: 'unix:///r.sock?db=1'")]
fn a_socket_that_cannot_be_is_refused_without_a_secret(#[case] keys: &str) {
    let error = Project::new().cacheserver(&format!("redis: {{jobqueue: {{{keys}}}}}")).error();
    assert!(error.contains("unix://") && !error.contains("hush"), "{error}");
}
