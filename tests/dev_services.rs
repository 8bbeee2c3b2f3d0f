//! Redis and Redis Insight for development: what the compose files say, and how
//! their scripts behave with a stand-in for Docker.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rocket_jobqueue::internals::parse_yaml;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A tool's path; a missing one fails the test and says what to install.
fn tool(name: &str, package: &str) -> PathBuf {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("`{name}` is missing: apt-get install {package}"))
}

mod compose_files {
    use super::*;
    use pretty::same;

    /// The file as compose itself understands it, in one form for compose 1 and 2.
    fn resolved(file: &str, env: &[(&str, &str)]) -> Value {
        let output = Command::new(tool("docker-compose", "docker-compose"))
            .args(["-p", "test", "-f"])
            .arg(root().join(file))
            .arg("config")
            .env_remove("RI_REDIS_HOST")
            .env_remove("RI_REDIS_PORT")
            .env_remove("RI_REDIS_ALIAS")
            .env_remove("RI_REDIS_USERNAME")
            .env_remove("RI_REDIS_PASSWORD")
            .envs(env.iter().copied())
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{file} is refused: {shown}");
        assert!(!shown.contains("obsolete"), "{file}: {shown}");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut value: Value = parse_yaml(&text).unwrap().value.deserialize().unwrap();
        // Added by compose itself.
        value.as_object_mut().unwrap().retain(|key, _| key != "version" && key != "name");
        for service in value["services"].as_object_mut().unwrap().values_mut() {
            one_form(service);
        }
        value
    }

    fn one_form(service: &mut Value) {
        let fields = service.as_object_mut().unwrap();
        fields.retain(|_, value| !value.is_null());
        let each =
            |fields: &mut serde_json::Map<String, Value>, key: &str, f: fn(&Value) -> String| {
                if let Some(Value::Array(items)) = fields.get_mut(key) {
                    items.iter_mut().for_each(|item| *item = Value::String(f(item)));
                }
            };
        each(fields, "ports", |port| match port {
            Value::String(port) => port.trim_end_matches("/tcp").to_owned(),
            port => {
                let ports = format!("{}:{}", word(&port["published"]), word(&port["target"]));
                port["host_ip"].as_str().map_or(ports.clone(), |ip| format!("{ip}:{ports}"))
            }
        });
        each(fields, "volumes", |volume| {
            let volume = match volume {
                Value::String(volume) => volume.trim_end_matches(":rw").to_owned(),
                volume => format!("{}:{}", word(&volume["source"]), word(&volume["target"])),
            };
            volume.replace(root().to_str().unwrap(), ".")
        });
        each(fields, "extra_hosts", |host| word(host).replace('=', ":"));
        if let Some(Value::Object(environment)) = fields.get_mut("environment") {
            environment.retain(|_, value| !value.is_null());
        }
    }

    fn word(value: &Value) -> String {
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    mod pretty {
        use super::Value;

        /// Field by field, so that the one that differs is named.
        pub fn same(found: &Value, expected: &Value, path: &str) {
            match (found, expected) {
                (Value::Object(found), Value::Object(expected)) => {
                    let keys = |map: &serde_json::Map<String, Value>| {
                        let mut keys: Vec<String> = map.keys().cloned().collect();
                        keys.sort();
                        keys
                    };
                    assert_eq!(keys(found), keys(expected), "fields of {path}");
                    for (key, value) in expected {
                        same(&found[key], value, &format!("{path}.{key}"));
                    }
                }
                _ => assert_eq!(found, expected, "{path}"),
            }
        }
    }

    #[test]
    fn redis_keeps_its_log_in_the_project_folder() {
        let found = resolved("docker-compose.redis.yml", &[]);
        let expected = json!({
            "services": {
                "redis": {
                    "image": "redis:7-alpine",
                    "container_name": "redis",
                    "ports": ["127.0.0.1:6379:6379"],
                    "volumes": ["./redis/data/jobqueue:/data"],
                    "command": ["redis-server", "--appendonly", "yes", "--appendfsync", "everysec"],
                    "restart": "unless-stopped",
                    "networks": { "redis-network": null },
                }
            },
            "networks": { "redis-network": { "name": "redis-network", "driver": "bridge" } },
        });
        same(&found, &expected, "docker-compose.redis.yml");
    }

    #[test]
    fn insight_joins_the_network_and_finds_redis_without_the_script() {
        let found = resolved("docker-compose.redis-insight.yml", &[]);
        let expected = json!({
            "services": {
                "redis-insight": {
                    "image": "redis/redisinsight:latest",
                    "container_name": "redis-insight",
                    "ports": ["127.0.0.1:8001:5540"],
                    "environment": {
                        "RI_REDIS_HOST": "redis",
                        "RI_REDIS_PORT": "6379",
                        "RI_REDIS_ALIAS": "local",
                    },
                    "extra_hosts": ["host.docker.internal:host-gateway"],
                    "volumes": ["redis-insight-data:/data"],
                    "restart": "unless-stopped",
                    "networks": { "redis-network": null },
                }
            },
            "volumes": found["volumes"].clone(),
            "networks": { "redis-network": { "name": "redis-network", "external": true } },
        });
        same(&found, &expected, "docker-compose.redis-insight.yml");
        assert_eq!(found["volumes"]["redis-insight-data"]["driver"], "local");
    }

    #[test]
    fn insight_takes_its_connection_from_the_environment() {
        let env = [
            ("RI_REDIS_HOST", "cache.example"),
            ("RI_REDIS_PORT", "6400"),
            ("RI_REDIS_ALIAS", "shared"),
            ("RI_REDIS_USERNAME", "viewer"),
            ("RI_REDIS_PASSWORD", "secret"),
        ];
        let found = resolved("docker-compose.redis-insight.yml", &env);
        let environment = &found["services"]["redis-insight"]["environment"];
        assert_eq!(
            environment,
            &json!(env.into_iter().collect::<std::collections::BTreeMap<_, _>>())
        );
    }

    #[rstest]
    #[case("docker-compose.redis.yml")]
    #[case("docker-compose.redis-insight.yml")]
    fn no_file_carries_the_obsolete_version_or_accepts_a_licence(#[case] file: &str) {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert!(!text.lines().any(|line| line.starts_with("version:")), "{file}");
        assert!(!text.contains("RI_ACCEPT_TERMS"), "{file}");
        assert!(text.starts_with('#') && text.contains("development only"), "{file}");
    }
}

mod scripts {
    use super::*;

    /// A copy of the scripts whose PATH holds a stand-in for Docker and the few
    /// tools they need; the real Docker cannot be reached.
    struct Sandbox {
        folder: TempDir,
        env: Vec<(String, String)>,
    }

    /// What the stand-in does with its arguments in `$args`: logs them with the
    /// variables it was given, prints and ends as a test tells it by variables.
    const STAND_IN: &str = r#"
echo "$name $args" >>"$LOG"
env | grep '^RI_' | sort >"$LOG.env"
case " $args " in
  *" compose version "*) [ "${STUB_PLUGIN:-yes}" = yes ]; exit ;;
  *" network ls "*) exit 0 ;;
  *" network inspect "*)
    [ "${STUB_NETWORK:-yes}" = yes ] || { echo "Error: No such network: redis-network" >&2; exit 1; }
    case "$args" in *Containers*) printf "${STUB_ATTACHED:-redis\n}" ;; esac
    exit 0 ;;
  *" exec "*" ping "*)
    count=$(cat "$LOG.pings" 2>/dev/null || echo 0)
    echo $((count + 1)) >"$LOG.pings"
    if [ "$count" -ge "${STUB_SILENT_PINGS:-0}" ]; then echo PONG
    else echo "LOADING Redis is loading the dataset in memory"; fi ;;
  *" up "*) exit "${STUB_UP:-0}" ;;
  *" down "*) [ -z "${STUB_DOWN_SAYS:-}" ] || echo "$STUB_DOWN_SAYS" >&2; exit "${STUB_DOWN:-0}" ;;
  *" rm "*) exit "${STUB_RM:-0}" ;;
  *) exit 64 ;;
esac
"#;

    impl Sandbox {
        fn new() -> Self {
            let sandbox = Sandbox { folder: TempDir::new().unwrap(), env: Vec::new() };
            fs::create_dir_all(sandbox.path("project/scripts")).unwrap();
            fs::create_dir_all(sandbox.path("bin")).unwrap();
            for script in ["start-redis.sh", "start-redis-insight.sh"] {
                let script = format!("scripts/{script}");
                fs::copy(root().join(&script), sandbox.path(&format!("project/{script}"))).unwrap();
            }
            for name in ["bash", "env", "grep", "awk", "tr", "sort", "cat", "sleep", "dirname"] {
                symlink(tool(name, name), sandbox.path(&format!("bin/{name}"))).unwrap();
            }
            sandbox.stand_in("docker");
            sandbox
        }

        fn path(&self, path: &str) -> PathBuf {
            self.folder.path().join(path)
        }

        fn stand_in(&self, name: &str) {
            let path = self.path(&format!("bin/{name}"));
            fs::write(&path, format!("#!/usr/bin/env bash\nname={name} args=\"$*\"\n{STAND_IN}"))
                .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn remove(self, name: &str) -> Self {
            fs::remove_file(self.path(&format!("bin/{name}"))).unwrap();
            self
        }

        fn with(mut self, name: &str, value: &str) -> Self {
            self.env.push((name.to_owned(), value.to_owned()));
            self
        }

        fn config(self, env: &str, yaml: &str) -> Self {
            let folder = self.path(&format!("project/config/{env}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cacheserver.yaml"), yaml).unwrap();
            self
        }

        fn run(&self, script: &str, args: &[&str]) -> Output {
            Command::new(self.path(&format!("project/scripts/{script}")))
                .args(args)
                .env_clear()
                .env("PATH", self.path("bin"))
                .env("LOG", self.path("log"))
                .envs(self.env.iter().map(|(name, value)| (name, value)))
                .output()
                .unwrap()
        }

        fn redis(&self, verb: &str) -> Output {
            self.run("start-redis.sh", &[verb])
        }

        fn insight(&self, verb: &str) -> Output {
            self.run("start-redis-insight.sh", &[verb])
        }

        /// Calls of the stand-in, one a line.
        fn log(&self) -> String {
            fs::read_to_string(self.path("log")).unwrap_or_default()
        }

        fn called(&self, part: &str) -> bool {
            self.log().lines().any(|line| line.contains(part))
        }

        /// A variable that reached compose's last call.
        fn given(&self, name: &str) -> Option<String> {
            let env = fs::read_to_string(self.path("log.env")).unwrap_or_default();
            env.lines().find_map(|line| line.strip_prefix(&format!("{name}=")).map(str::to_owned))
        }

        /// Where Insight is sent, as `alias:host:port`.
        fn insight_address(&self) -> String {
            let output = self.insight("start");
            assert_eq!(status(&output), 0, "{}", all(&output));
            ["RI_REDIS_ALIAS", "RI_REDIS_HOST", "RI_REDIS_PORT"]
                .map(|name| self.given(name).unwrap_or_default())
                .join(":")
        }
    }

    fn status(output: &Output) -> i32 {
        output.status.code().unwrap()
    }

    fn out(output: &Output) -> String {
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn all(output: &Output) -> String {
        out(output) + &String::from_utf8_lossy(&output.stderr)
    }

    const BOTH: [&str; 2] = ["start-redis.sh", "start-redis-insight.sh"];

    #[rstest]
    #[case(&[])]
    #[case(&["restart"])]
    #[case(&[""])]
    #[case(&["--help"])]
    fn anything_but_start_and_stop_is_answered_with_the_usage(#[case] args: &[&str]) {
        for script in BOTH {
            let sandbox = Sandbox::new();
            let output = sandbox.run(script, args);
            assert_eq!(status(&output), 1, "{script}");
            assert!(
                out(&output).contains("Usage: ") && out(&output).contains("{start|stop}"),
                "{script}"
            );
            assert_eq!(sandbox.log(), "", "{script} called Docker");
        }
    }

    #[test]
    fn the_plugin_is_preferred() {
        let sandbox = Sandbox::new();
        sandbox.stand_in("docker-compose");
        assert_eq!(status(&sandbox.redis("start")), 0);
        assert!(sandbox.called("docker compose -p "), "{}", sandbox.log());
        assert!(!sandbox.called("docker-compose "), "{}", sandbox.log());
    }

    #[test]
    fn the_old_program_does_where_the_plugin_is_missing() {
        let sandbox = Sandbox::new().with("STUB_PLUGIN", "no");
        sandbox.stand_in("docker-compose");
        for output in [sandbox.redis("start"), sandbox.insight("start"), sandbox.redis("stop")] {
            assert_eq!(status(&output), 0, "{}", all(&output));
        }
        assert!(!sandbox.called("docker compose -p "), "{}", sandbox.log());
    }

    #[test]
    fn the_old_program_does_without_docker_itself() {
        let sandbox = Sandbox::new().remove("docker");
        sandbox.stand_in("docker-compose");
        for output in [sandbox.redis("start"), sandbox.insight("start"), sandbox.redis("stop")] {
            assert_eq!(status(&output), 0, "{}", all(&output));
        }
    }

    #[test]
    fn without_any_compose_the_scripts_say_so() {
        for script in BOTH {
            let sandbox = Sandbox::new().with("STUB_PLUGIN", "no");
            let output = sandbox.run(script, &["start"]);
            assert_eq!(status(&output), 1);
            assert!(all(&output).contains("docker-compose"), "{}", all(&output));
        }
    }

    #[test]
    fn the_two_services_are_different_projects_with_files_of_their_own() {
        let sandbox = Sandbox::new();
        sandbox.redis("start");
        sandbox.insight("start");
        sandbox.insight("stop");
        sandbox.redis("stop");
        for call in [
            "-p jobqueue-redis -f * up -d",
            "-p jobqueue-redis -f * down",
            "-p jobqueue-redis-insight -f * up -d",
            "-p jobqueue-redis-insight -f * down",
        ] {
            let (head, tail) = call.split_once('*').unwrap();
            assert!(
                sandbox.log().lines().any(|line| line.contains(head) && line.ends_with(tail)),
                "{call} is missing in:\n{}",
                sandbox.log()
            );
        }
        assert!(sandbox.called("project/docker-compose.redis.yml up"));
        assert!(sandbox.called("project/docker-compose.redis-insight.yml up"));
    }

    #[rstest]
    #[case("start", "STUB_UP", "started")]
    #[case("stop", "STUB_DOWN", "stopped")]
    fn composes_status_is_returned(#[case] verb: &str, #[case] step: &str, #[case] done: &str) {
        for script in BOTH {
            let sandbox = Sandbox::new().with(step, "17");
            let output = sandbox.run(script, &[verb]);
            assert_eq!(status(&output), 17, "{script}: {}", all(&output));
            assert!(!out(&output).contains(&format!(" {done}.")), "{script}: {}", out(&output));
        }
    }

    #[test]
    fn redis_is_said_to_be_started_once_it_answers() {
        let sandbox = Sandbox::new().with("STUB_SILENT_PINGS", "3");
        let output = sandbox.redis("start");
        assert_eq!(status(&output), 0, "{}", all(&output));
        assert!(out(&output).contains("Redis started. Port: 6379"));
        assert_eq!(fs::read_to_string(sandbox.path("log.pings")).unwrap().trim(), "4");
    }

    #[test]
    fn redis_that_never_answers_is_a_failure() {
        let sandbox =
            Sandbox::new().with("STUB_SILENT_PINGS", "1000").with("REDIS_WAIT_SECONDS", "1");
        let output = sandbox.redis("start");
        assert_eq!(status(&output), 1);
        assert!(all(&output).contains("does not answer after 1 s"), "{}", all(&output));
        assert!(!out(&output).contains("Redis started"), "{}", out(&output));
    }

    #[test]
    fn redis_stops_while_insight_is_attached() {
        let sandbox = Sandbox::new()
            .with("STUB_ATTACHED", "redis\\nredis-insight\\n")
            .with("STUB_DOWN", "1")
            .with("STUB_DOWN_SAYS", "error while removing network: has active endpoints");
        let output = sandbox.redis("stop");
        assert_eq!(status(&output), 0, "{}", all(&output));
        assert!(sandbox.called(" rm --stop --force"), "{}", sandbox.log());
        assert!(!sandbox.called(" down"), "{}", sandbox.log());
        assert!(out(&output).contains("in use by redis-insight."), "{}", out(&output));
        assert!(out(&output).contains("Redis stopped."));
    }

    #[test]
    fn redis_stops_while_insight_is_attached_and_docker_cannot_be_asked() {
        let sandbox = Sandbox::new()
            .remove("docker")
            .with("STUB_DOWN", "1")
            .with("STUB_DOWN_SAYS", "error while removing network: has active endpoints");
        sandbox.stand_in("docker-compose");
        let output = sandbox.redis("stop");
        assert_eq!(status(&output), 0, "{}", all(&output));
        assert!(sandbox.called(" rm --stop --force"), "{}", sandbox.log());
    }

    #[test]
    fn a_failed_removal_keeps_its_status() {
        let sandbox =
            Sandbox::new().with("STUB_ATTACHED", "redis\\nredis-insight\\n").with("STUB_RM", "9");
        let output = sandbox.redis("stop");
        assert_eq!(status(&output), 9);
        assert!(!out(&output).contains("Redis stopped."));
    }

    #[test]
    fn insight_without_the_network_asks_for_redis_first() {
        let sandbox = Sandbox::new().with("STUB_NETWORK", "no");
        let output = sandbox.insight("start");
        assert_eq!(status(&output), 1);
        assert!(all(&output).contains("start Redis first"), "{}", all(&output));
        assert!(!sandbox.called(" up "), "{}", sandbox.log());
    }

    #[test]
    fn insight_stops_without_the_network() {
        let sandbox = Sandbox::new().with("STUB_NETWORK", "no");
        assert_eq!(status(&sandbox.insight("stop")), 0);
    }

    #[test]
    fn insight_names_its_page() {
        assert!(out(&Sandbox::new().insight("start")).contains("http://localhost:8001"));
    }

    #[rstest]
    #[case::nothing("", "local:redis:6379")]
    #[case::job_queue("redis:\n  jobqueue:\n    addr: cache:6400\n", "local:cache:6400")]
    #[case::nested(
        "cache_server:\n  redis:\n    jobqueue:\n      addr: cache:6400\n",
        "local:cache:6400"
    )]
    #[case::job_queue_first(
        "redis:\n  default:\n    cluster:\n      addrs: [other:1]\n  jobqueue:\n    addr: cache:6400\n",
        "local:cache:6400"
    )]
    #[case::cluster(
        "redis:\n  default:\n    cluster:\n      addrs:\n        # - \"old:1\"\n        - \"one:7001\"\n        - two:7002\n",
        "local:one:7001"
    )]
    #[case::cluster_when_the_address_is_empty(
        "redis:\n  jobqueue:\n    addr: \"\"\n  default:\n    cluster:\n      addrs:\n      - one:7001\n",
        "local:one:7001"
    )]
    #[case::inline_list(
        "redis: {default: {cluster: {addrs: ['one:7001', two:7002]}}}\n",
        "local:one:7001"
    )]
    #[case::inline_list_over_lines(
        "redis:\n  default:\n    cluster:\n      addrs: [\n        \"one:7001\", # first\n        two:7002,\n      ]\n",
        "local:one:7001"
    )]
    #[case::older_form("redis:\n  cluster:\n    addrs:\n      - one:7001\n", "local:one:7001")]
    #[case::oldest_form("addrs:\n  - one:7001\n", "local:one:7001")]
    #[case::comments_and_quotes(
        "---\n# addr: no:1\nredis: # here\n  jobqueue:\n    # addr: no:2\n    addr: 'cache:6400' # no:3\r\n",
        "local:cache:6400"
    )]
    #[case::other_keys_between(
        "redis:\n  jobqueue:\n    password: 'it''s #1'\n    sentinel:\n      addrs: [no:1]\n    pool_size: 5\n    addr: cache:6400\n",
        "local:cache:6400"
    )]
    #[case::another_table_with_the_same_key(
        "mail:\n  jobqueue:\n    addr: no:1\nredis:\n  jobqueue:\n    db: 0\n",
        "local:redis:6379"
    )]
    #[case::text_block(
        "note: |\n  redis:\n    jobqueue:\n      addr: no:1\nredis:\n  jobqueue:\n    addr: cache:6400\n",
        "local:cache:6400"
    )]
    #[case::merged(
        "x: &base\n  addr: no:1\n  jobqueue: {addr: 'no:2'}\nmore: &more\n  <<: *base\n  addr: &here \"one:7001\"\nredis:\n  <<: *base\n  jobqueue:\n    db: 3\n    <<: [*more, *base]\n",
        "local:one:7001"
    )]
    #[case::an_explicit_key_before_merged_ones(
        "x-redis: &base {addr: 'no:1', password: p}\nredis: {jobqueue: {<<: *base, addr: 'cache:6400'}}\n",
        "local:cache:6400"
    )]
    #[case::a_table_of_its_own_replaces_a_merged_one(
        "x: &base\n  jobqueue:\n    addr: no:1\nredis:\n  <<: *base\n  jobqueue:\n    db: 3\n",
        "local:redis:6379"
    )]
    #[case::merged_list_and_alias(
        "x:\n  - &a\n    db: 1\n  - &b\n    addr: &addr cache:6400\nredis:\n  jobqueue:\n    <<:\n      - *a\n      - *b\n",
        "local:cache:6400"
    )]
    #[case::alias("host: &addr cache:6400\nredis: {jobqueue: {addr: *addr}}\n", "local:cache:6400")]
    #[case::no_port("redis:\n  jobqueue:\n    addr: cache\n", "local:cache:6379")]
    #[case::version_6("redis:\n  jobqueue:\n    addr: \"[fd00::7]:6400\"\n", "local:fd00::7:6400")]
    #[case::here("redis:\n  jobqueue:\n    addr: localhost:6379\n", "local:redis:6379")]
    #[case::here_by_number("redis:\n  jobqueue:\n    addr: 127.0.0.1:6379\n", "local:redis:6379")]
    #[case::here_elsewhere(
        "redis:\n  jobqueue:\n    addr: localhost:6400\n",
        "local:host.docker.internal:6400"
    )]
    #[case::here_elsewhere_by_number(
        "redis:\n  jobqueue:\n    addr: 127.0.0.1:6400\n",
        "local:host.docker.internal:6400"
    )]
    fn insight_reads_its_address_from_the_configuration(
        #[case] yaml: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(Sandbox::new().config("develop", yaml).insight_address(), expected);
    }

    #[test]
    fn a_missing_configuration_means_the_redis_of_the_compose_file() {
        assert_eq!(Sandbox::new().insight_address(), "local:redis:6379");
    }

    #[test]
    fn app_env_chooses_the_configuration() {
        let sandbox = Sandbox::new()
            .config("develop", "redis: {jobqueue: {addr: 'dev:1'}}")
            .config("staging", "redis: {jobqueue: {addr: 'stage:2'}}")
            .with("APP_ENV", "staging");
        assert_eq!(sandbox.insight_address(), "local:stage:2");
    }

    #[rstest]
    #[case("mine:cache:6400", "mine:cache:6400")]
    #[case("mine:localhost:6379", "mine:redis:6379")]
    #[case("mine:localhost:6400", "mine:host.docker.internal:6400")]
    #[case("mine:cache:6400,other:cache:6401", "mine:cache:6400")]
    fn redis_hosts_goes_before_the_configuration(#[case] hosts: &str, #[case] expected: &str) {
        let sandbox = Sandbox::new()
            .config("develop", "redis: {jobqueue: {addr: 'dev:1', password: hidden}}")
            .with("REDIS_HOSTS", hosts);
        assert_eq!(sandbox.insight_address(), expected);
        assert_eq!(sandbox.given("RI_REDIS_PASSWORD"), None, "another server's password");
    }

    #[rstest]
    #[case("cache")]
    #[case("cache:6400")]
    #[case("mine:cache:port")]
    #[case("mine:user:hidden@cache:6400")]
    fn a_wrong_redis_hosts_is_refused_without_repeating_it(#[case] hosts: &str) {
        let output = Sandbox::new().with("REDIS_HOSTS", hosts).insight("start");
        assert_eq!(status(&output), 1);
        assert!(all(&output).contains("REDIS_HOSTS: expected "), "{}", all(&output));
        assert!(!all(&output).contains("hidden"), "{}", all(&output));
    }

    #[test]
    fn user_and_password_are_handed_on_and_never_printed() {
        let sandbox = Sandbox::new().config(
            "develop",
            "redis:\n  jobqueue:\n    addr: cache:6400\n    username: viewer\n    password: \"hid#den: \\\"1\\\"\"\n",
        );
        let output = sandbox.insight("start");
        assert_eq!(sandbox.given("RI_REDIS_USERNAME").as_deref(), Some("viewer"));
        assert_eq!(sandbox.given("RI_REDIS_PASSWORD").as_deref(), Some("hid#den: \"1\""));
        assert!(!all(&output).contains("hid#den"), "{}", all(&output));
        assert!(!sandbox.log().contains("hid#den"), "visible to `ps`: {}", sandbox.log());
    }

    #[test]
    fn a_password_given_by_the_environment_wins() {
        let sandbox = Sandbox::new()
            .config("develop", "redis: {jobqueue: {addr: 'cache:6400', password: file}}")
            .with("RI_REDIS_PASSWORD", "environment");
        sandbox.insight("start");
        assert_eq!(sandbox.given("RI_REDIS_PASSWORD").as_deref(), Some("environment"));
    }
}

mod shell {
    use super::*;

    /// Every shell script of the project.
    fn scripts() -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir(root().join("scripts"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "sh"))
            .collect();
        // Not part of the published package.
        found.extend(Some(root().join(".ci/run")).filter(|path| path.exists()));
        assert!(found.len() >= 4, "{found:?}");
        found
    }

    fn accepts(mut command: Command, path: &Path) {
        let output = command.arg(path).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }

    #[test]
    fn every_script_parses_is_clean_and_can_be_run() {
        for path in scripts() {
            let mut bash = Command::new(tool("bash", "bash"));
            bash.arg("-n");
            accepts(bash, &path);
            accepts(Command::new(tool("shellcheck", "shellcheck")), &path);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{} is not executable", path.display());
        }
    }

    #[test]
    fn every_script_says_how_it_is_used() {
        for path in scripts() {
            let text = fs::read_to_string(&path).unwrap();
            let header: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
            assert!(header.iter().any(|line| line.contains("Usage:")), "{}", path.display());
        }
    }
}
