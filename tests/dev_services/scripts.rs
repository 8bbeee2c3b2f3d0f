//! The scripts, with a stand-in for Docker.

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
    let sandbox = Sandbox::new().with("STUB_SILENT_PINGS", "1000").with("REDIS_WAIT_SECONDS", "1");
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
fn insight_reads_its_address_from_the_configuration(#[case] yaml: &str, #[case] expected: &str) {
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
