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

/// The repository's lock makes the versions the same, so nothing is looked up.
/// What is built for the dependencies stays for the next run.
fn built(folder: &Path) -> PathBuf {
    let manifest = format!(
        r#"[package]
name = "foreign"
version = "0.0.0"
edition = "2024"

[dependencies]
rocket = {{ version = "0.5.1", default-features = false, features = ["json"] }}
rocket_jobqueue = {{ path = {REPOSITORY:?} }}
serde = {{ version = "1", features = ["derive"] }}

[profile.dev]
debug = "line-tables-only"
"#
    );
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(Path::new(REPOSITORY).join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    std::fs::create_dir(folder.join("src")).unwrap();
    std::fs::write(folder.join("src/main.rs"), MAIN).unwrap();
    // Beside the tests' own: most dependencies are there already.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.args(arguments).current_dir(folder).env("CARGO_TARGET_DIR", &target);
        assert!(command.status().expect("cargo starts").success(), "cargo {arguments:?}");
    };
    cargo(&["build", "--quiet"]);
    let program = folder.join("program");
    std::fs::copy(target.join("debug/foreign"), &program).unwrap();
    // Its folder is another one each time, and so would be its files.
    cargo(&["clean", "--quiet", "--package", "foreign"]);
    program
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
