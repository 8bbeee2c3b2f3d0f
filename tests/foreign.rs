//! An application elsewhere, which has nothing but the two dependencies and one
//! attach: no file of configuration, no variable but its port.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod support;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::program::{Program, curl, post_json};
use support::{RedisServer, free_port};
use tempfile::TempDir;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
const PROMPT: Duration = Duration::from_secs(10);

const MAIN: &str = r#"
use rocket_jobqueue::{Error, Job, JobQueue};

#[derive(serde::Serialize, serde::Deserialize)]
struct Checked;

impl Job for Checked {
    const TYPE: &'static str = "elsewhere:checked";

    fn schema() -> Option<rocket::serde::json::Value> {
        Some(rocket::serde::json::json!({ "type": "null" }))
    }
}

#[rocket::launch]
fn rocket() -> _ {
    let queue = JobQueue::fairing();
    rocket::build().attach(match std::env::var_os("WITH_SCHEMA") {
        Some(_) => queue.handle(async |_: Checked| Ok::<_, Error>(())),
        None => queue,
    })
}
"#;

/// A package that depends on this crate. The repository's lock makes the versions the same, so
/// nothing is looked up, and the crates that only our tests use are named so that the features
/// of what they share are the same too: all but this crate is built already.
fn write_manifest(folder: &Path, name: &str) {
    let manifest = format!(
        r#"[package]
name = {name:?}
version = "0.0.0"
edition = "2024"

[dependencies]
rocket = {{ version = "0.5.1", default-features = false, features = ["json"] }}
rocket_jobqueue = {{ path = {REPOSITORY:?} }}
serde = {{ version = "1", features = ["derive"] }}
{}

[profile.dev]
debug = "line-tables-only"
"#,
        dependencies_of_tests()
    );
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(Path::new(REPOSITORY).join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
}

/// What the tests have beside the default features: the optional dependencies, and those of
/// `[dev-dependencies]`, each in one line of the manifest.
fn dependencies_of_tests() -> String {
    let manifest = std::fs::read_to_string(Path::new(REPOSITORY).join("Cargo.toml")).unwrap();
    let (before, from) = manifest.split_once("\n[dev-dependencies]\n").unwrap();
    let dev = from.lines().take_while(|line| !line.starts_with('['));
    let dev = dev.filter(|line| !line.starts_with("rocket_jobqueue") && !line.starts_with('#'));
    let optional = before.lines().filter(|line| line.ends_with(", optional = true }"));
    let optional = optional.map(|line| line.replace(", optional = true", ""));
    optional.chain(dev.map(str::to_owned)).collect::<Vec<_>>().join("\n")
}

/// The folder of what is built. Beside the tests' own: most dependencies are there already.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("..")
}

/// Cargo in this package.
fn cargo(folder: &Path) -> Command {
    let mut command = support::cargo();
    command.current_dir(folder).env("CARGO_TARGET_DIR", target());
    command
}

/// The program of an application elsewhere. What is built for the dependencies stays for the next
/// run.
fn built(folder: &Path) -> PathBuf {
    write_manifest(folder, "foreign");
    std::fs::create_dir(folder.join("src")).unwrap();
    std::fs::write(folder.join("src/main.rs"), MAIN).unwrap();
    let run = |arguments: &[&str]| {
        let status = cargo(folder).args(arguments).status().expect("cargo starts");
        assert!(status.success(), "cargo {arguments:?}");
    };
    run(&["build", "--quiet"]);
    let program = folder.join("program");
    std::fs::copy(target().join("debug/foreign"), &program).unwrap();
    // Its folder is another one each time, and so would be its files.
    run(&["clean", "--quiet", "--package", "foreign"]);
    program
}

/// What every mistake begins with: a job type, and a database as `#[derive(Database)]` makes it,
/// which is not `Clone`.
const SHOP: &str = r#"
#![allow(dead_code, unused_imports)]
use rocket_jobqueue::handler::JobHandler;
use rocket_jobqueue::{Draft, Error, Job, JobContext, JobQueue, Managed, RetryPolicy};
use std::time::Duration;
#[derive(serde::Serialize, serde::Deserialize)]
struct Charge { order: u64 }
impl Job for Charge { const TYPE: &'static str = "shop:charge"; }
struct Db(u64);
"#;

const NO_HANDLER: &str = "is not a job handler";

/// The likeliest mistakes: a name, the code, and what the compiler's message has.
const MISTAKES: [(&str, &str, &[&str]); 11] = [
    (
        "state_that_is_not_clone",
        "async fn charge(_: Charge, _: Managed<Db>) -> Result<(), Error> { Ok(()) }
         fn main() { let _ = JobQueue::fairing().handle(charge); }",
        &[NO_HANDLER, "`T: Clone`", "`#[derive(Database)]`"],
    ),
    (
        "state_that_is_not_clone_with_a_policy",
        "async fn charge(_: Charge, _: Managed<Db>) -> Result<(), Error> { Ok(()) }
         fn main() { let _ = charge.retry_policy(RetryPolicy::fixed(Duration::ZERO)); }",
        &[NO_HANDLER, "`T: Clone`", "`#[derive(Database)]`"],
    ),
    (
        "not_async",
        "fn charge(_: Charge) -> Result<(), Error> { Ok(()) }
         fn main() { let _ = JobQueue::fairing().handle(charge); }",
        &[NO_HANDLER, "`handle(function.blocking())`"],
    ),
    (
        "async_and_blocking",
        "async fn charge(_: Charge) -> Result<(), Error> { Ok(()) }
         fn main() { let _ = JobQueue::fairing().handle(charge.blocking()); }",
        &["is not a job handler that blocks", "attached without `.blocking()`"],
    ),
    (
        "no_result",
        "async fn charge(_: Charge) {}
         fn main() { let _ = JobQueue::fairing().handle(charge); }",
        &[NO_HANDLER, "-> Result<T, E>`"],
    ),
    (
        "an_error_that_is_none",
        "struct Broken;
         async fn charge(_: Charge) -> Result<(), Broken> { Ok(()) }
         fn main() { let _ = JobQueue::fairing().handle(charge); }",
        &[NO_HANDLER, "`E` is an error (`std::error::Error + Send + Sync`)"],
    ),
    (
        "the_job_comes_second",
        "async fn charge(_: JobContext, _: Charge) -> Result<(), Error> { Ok(()) }
         fn main() { let _ = JobQueue::fairing().handle(charge); }",
        &[NO_HANDLER, "the job comes first"],
    ),
    (
        "rockets_state",
        "async fn charge(_: Charge, _: &rocket::State<Db>) -> Result<(), Error> { Ok(()) }
         fn main() { let _ = JobQueue::fairing().handle(charge); }",
        &[NO_HANDLER, "extractors are `JobContext` and `Managed<T>`"],
    ),
    (
        "a_future_that_is_not_send",
        "async fn charge(_: Charge) -> Result<(), Error> {
             let shared = std::rc::Rc::new(1);
             std::future::ready(()).await;
             drop(shared);
             Ok(())
         }
         fn main() { let _ = JobQueue::fairing().handle(charge); }",
        &[NO_HANDLER, "the future must be `Send`: it holds no `Rc`"],
    ),
    (
        "a_payload_without_serde",
        "struct Refund;
         impl Job for Refund { const TYPE: &'static str = \"shop:refund\"; }
         fn main() {}",
        &["`Refund: serde::Serialize` is not satisfied", "`#[derive(serde::Serialize)]`"],
    ),
    (
        "a_guard_that_is_none",
        "struct Admin;
         fn main() { let _ = JobQueue::fairing().admin_guard::<Admin>(); }",
        &["`for<'r> Admin: ", "FromRequest<'r>` is not satisfied"],
    ),
];

/// The package of the mistakes: each a program of its own, so that one hides no other.
fn mistakes(folder: &Path) {
    let programs = folder.join("src/bin");
    std::fs::create_dir_all(&programs).unwrap();
    for (name, code, _) in MISTAKES {
        std::fs::write(programs.join(format!("{name}.rs")), format!("{SHOP}{code}")).unwrap();
    }
}

/// What a person reads when they make a mistake. The dependencies are those of the other test.
#[test]
fn every_mistake_is_told_what_is_wrong() {
    let folder = TempDir::new().unwrap();
    write_manifest(folder.path(), "mistakes");
    mistakes(folder.path());
    let mut command = cargo(folder.path());
    command.args(["build", "--quiet", "--keep-going", "--message-format", "json"]);
    let output = command.output().expect("cargo starts");
    let text = String::from_utf8(output.stdout).unwrap();
    let messages: Vec<serde_json::Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for (name, _, parts) in MISTAKES {
        let of_it = |message: &&serde_json::Value| message["target"]["name"] == name;
        let rendered = |message: &serde_json::Value| {
            message["message"]["rendered"].as_str().unwrap_or_default().to_owned()
        };
        let said: String = messages.iter().filter(of_it).map(rendered).collect();
        for part in parts {
            assert!(said.contains(part), "{name}: {part:?} is missing in\n{said}");
        }
    }
}

/// A server of our own where applications expect one; `None` if another
/// program has the port.
fn redis_at_the_default() -> Option<RedisServer> {
    // Without IPv6 the second cannot be bound, but nobody has it either.
    let is_taken = |host| {
        TcpListener::bind((host, 6379)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
    };
    if is_taken("127.0.0.1") || is_taken("::1") {
        return None;
    }
    let redis = RedisServer::prepare::<&str>(&[]).with_port(6379).started();
    let folder = redis.dir().to_string_lossy().into_owned();
    redis.cli(&["config", "get", "dir"]).contains(&folder).then_some(redis)
}

#[test]
fn an_application_elsewhere_needs_one_attach_and_a_redis_on_localhost() {
    let folder = TempDir::new().unwrap();
    let program = built(folder.path());
    let port = free_port();
    let port_text = port.to_string();
    let mut variables = vec![("ROCKET_PORT", port_text.as_str())];
    let redis = redis_at_the_default().unwrap_or_else(|| RedisServer::start::<&str>(&[]));
    let address = redis.addr();
    if redis.port() != 6379 {
        println!("port 6379 is taken: the address comes from REDIS_JOBQUEUE_ADDR");
        variables.push(("REDIS_JOBQUEUE_ADDR", &address));
    }
    let mut command = Command::new(&program);
    command.current_dir(folder.path());
    refuses_a_schema_that_it_cannot_check(&program, folder.path());
    refuses_a_store_that_it_was_built_without(&program, folder.path());
    let mut program = Program::spawn(command, &variables);
    program.printed("launched from", PROMPT);

    let base = format!("http://127.0.0.1:{port}/api/dm-jobqueue");
    assert_eq!(curl(&[&format!("{base}/health/ready")]).0, 200);
    let body = r#"{"message":"from elsewhere","delay_seconds":1}"#;
    let (status, answer) = post_json(&format!("{base}/register"), body, &[]);
    assert_eq!(status, 201, "{answer}");
    let line = program.printed("] from elsewhere", PROMPT);
    assert!(line.starts_with('['), "{line}");

    program.signal("TERM");
    let status = program.child.wait().unwrap();
    assert!(status.success(), "{status}");
}

/// The default features have no compiler of JSON Schema.
fn refuses_a_schema_that_it_cannot_check(program: &Path, folder: &Path) {
    let mut command = Command::new(program);
    let output = command.current_dir(folder).env("WITH_SCHEMA", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(r#"job type "elsewhere:checked" has a JSON Schema"#), "{said}");
    assert!(said.contains("json-schema"), "{said}");
}

/// Nor a store on disk. Nothing is made in the folder that it would have.
fn refuses_a_store_that_it_was_built_without(program: &Path, folder: &Path) {
    let mut command = Command::new(program);
    command.current_dir(folder).env("ROCKET_JOBQUEUE", r#"{store="disk",path="jobs"}"#);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("jobqueue.store: expected a build with the feature `disk`"), "{said}");
    assert!(said.contains(r#"features = ["disk"]"#), "the way out: {said}");
    assert!(!folder.join("jobs").exists());
}
