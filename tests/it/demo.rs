//! The README's first command and the example programs, as real processes.

use crate::support;
use crate::support::program;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::program::{BUILD, Program, curl};
use crate::support::{PATIENCE, RedisServer};

#[test]
fn the_first_command_of_the_readme_runs_a_job_with_nothing_installed() {
    let program = Program::start("demo", &[], &[]);
    program.said("running embedded", BUILD);
    program.said("--redis localhost:6379", PATIENCE);
    program.origin();
    let line = program.printed("Hello from the job queue", PATIENCE);
    let stamp = line.strip_prefix('[').and_then(|line| line.split_once("] ")).unwrap().0;
    assert!(chrono::NaiveDateTime::parse_from_str(stamp, "%Y-%m-%d %H:%M:%S").is_ok(), "{line}");
    program.said("registered job", PATIENCE);
    program.said("done", PATIENCE);
}

#[test]
fn the_readmes_curl_registers_a_job_that_prints_its_line() {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let curl = readme.lines().find(|line| line.starts_with("curl ")).expect("a curl command");
    let program = Program::start("demo", &["--no-greeting"], &[]);
    let origin = program.origin();
    let command = curl.replace("http://localhost:8000", &origin);
    let began = Instant::now();
    let answer = Command::new("sh").args(["-c", &command]).output().unwrap();
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(text.contains(r#""status":"registered""#), "{text}");
    program.printed("from curl", PATIENCE);
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[test]
fn the_same_application_uses_redis_when_it_is_given_one() {
    let redis = RedisServer::start::<&str>(&[]);
    let program = Program::start("demo", &["--redis", &redis.addr()], &[]);
    program.origin();
    program.said("registered job", PATIENCE);
    // On a busy machine the job may have run by now.
    let scheduled = redis.cli(&["zcard", "asynq:{default}:scheduled"]);
    assert!(scheduled == "1" || redis.cli(&["get", "asynq:{default}:processed"]) == "1");
    program.printed("Hello from the job queue", PATIENCE);
    program.said("done", PATIENCE);
    assert_eq!(redis.cli(&["keys", "asynq:{default}:t:*"]).trim(), "");

    // Under the files for production the reference route is off, and the client greets. The
    // first process would run that job as well.
    drop(program);
    let variables = [("APP_ENV", "production"), ("REDIS_JOBQUEUE_ADDR", &redis.addr())];
    let program = Program::start("demo", &[], &variables);
    program.said("register_route = false", BUILD);
    let origin = program.origin();
    program.said("the client enqueued job", PATIENCE);
    program.printed("Hello from the job queue", PATIENCE);
    for (method, path) in [("POST", "register"), ("GET", "ui/register"), ("POST", "ui/register")] {
        let url = format!("{origin}/api/dm-jobqueue/{path}");
        assert_eq!(curl(&["-X", method, &url]).0, 404, "{method} {path}");
    }
}

#[test]
fn failed_attempts_archives_and_completions_leave_their_lines() {
    let program = Program::start("demo", &["--no-greeting"], &[]);
    let origin = program.origin();
    let post = |path: &str| {
        assert_eq!(curl(&["-X", "POST", &format!("{origin}{path}")]).0, 200, "{path}");
    };
    post("/orders/7?closed_for=1");
    let failed = program.said("job attempt failed", PATIENCE);
    for part in
        ["WARN", "type=shop:send_order", "id=", "attempt=1 of 4", "shop is closed", "next try in"]
    {
        assert!(failed.contains(part), "{part:?} is missing in {failed:?}");
    }
    let completed = program.said("job completed", PATIENCE);
    assert!(completed.contains("INFO") && completed.contains("shop:send_order"), "{completed}");
    post("/visits/%20");
    let archived = program.said("job archived", PATIENCE);
    assert!(archived.contains("ERROR") && archived.contains("needs a name"), "{archived}");
}

#[test]
fn the_demo_limits_requests_and_a_variable_overrides_its_files() {
    let limits = |variables: &[(&str, &str)]| {
        let program = Program::start("demo", &["--no-greeting"], variables);
        let url = format!("{}/api/dm-jobqueue/register", program.origin());
        let json = "Content-Type: application/json";
        let post = || curl(&["-i", "-X", "POST", "-H", json, "-d", "{}", &url]);
        (0..6).map(|_| post()).collect::<Vec<_>>()
    };
    let answers = limits(&[]);
    let first = answers[0].1.to_lowercase();
    assert!(first.contains("x-ratelimit-limit: 60"), "{first}");
    assert!(first.contains("x-ratelimit-hour-limit: 1000"), "{first}");
    assert!(answers.iter().all(|(status, _)| *status == 201));

    let answers = limits(&[("ROCKET_RATE_LIMIT", "{requests_per_minute=5}")]);
    assert_eq!(
        answers.iter().map(|(status, _)| *status).collect::<Vec<_>>(),
        [201, 201, 201, 201, 201, 429]
    );
    let refused = answers[5].1.to_lowercase();
    assert!(refused.contains("retry-after: ") && refused.contains("\"code\":429"), "{refused}");
}

#[test]
fn pipes_that_nobody_reads_stop_neither_the_worker_nor_the_end() {
    const JOBS: usize = 1500;
    let port = support::free_port();
    let mut command = support::cargo();
    command.args(["run", "--quiet", "--example", "demo", "--", "--no-greeting"]);
    command.envs([("APP_ENV", "embedded"), ("ROCKET_PORT", &port.to_string())]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("cargo starts");
    // Open, and never read; a pipe takes 64 KiB.
    let _unread = (child.stdout.take(), child.stderr.take());
    let origin = format!("http://127.0.0.1:{port}");
    let until = |what: &str, within: Duration, holds: &mut dyn FnMut() -> bool| {
        let end = Instant::now() + within;
        while !holds() {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let page = |path: &str| Command::new("curl").args(["-sS", &format!("{origin}{path}")]).output();
    until("it listens", BUILD, &mut || page("/").unwrap().status.success());
    // Each of these prints a line of 30 KB: two fit into the pipe.
    let body = format!(r#"{{"message":"{}","delay_seconds":1}}"#, "x".repeat(30_000));
    for _ in 0..4 {
        let url = format!("{origin}/api/dm-jobqueue/register");
        assert_eq!(program::post_json(&url, &body, &[]).0, 201);
    }
    // Each of these leaves a line of more than 100 bytes.
    let visits = format!("{origin}/visits/[1-{JOBS}]");
    let posts = Command::new("curl").args(["-sS", "-X", "POST", &visits]).output().unwrap();
    assert!(posts.status.success());
    let done = format!("counted by jobs: {JOBS}");
    until("all jobs run", PATIENCE, &mut || {
        String::from_utf8_lossy(&page("/").unwrap().stdout).contains(&done)
    });
    assert_eq!(curl(&[&format!("{origin}/api/dm-jobqueue/health/live")]).0, 200);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    until("it ends", PATIENCE, &mut || child.try_wait().unwrap().is_some());
}

#[test]
fn idle_connections_do_not_keep_the_worker_from_redis_and_half_bodies_end() {
    let redis = RedisServer::start::<&str>(&[]);
    let mut command = Command::new("sh");
    let program =
        format!("ulimit -n 300; exec {} run --quiet --example demo -- \"$@\"", env!("CARGO"));
    command.args(["-c", &program, "demo", "--redis", &redis.addr(), "--no-greeting"]);
    support::forget_package(&mut command);
    let program = Program::spawn(command, &[]);
    program.said("may open 300 files", BUILD);
    let origin = program.origin();
    program.said("connected to Redis", PATIENCE);
    let json = r#"{"message":"still at work","delay_seconds":4}"#;
    let register = format!("{origin}/api/dm-jobqueue/register");
    assert_eq!(program::post_json(&register, json, &[]).0, 201);
    let connect = || std::net::TcpStream::connect(origin.trim_start_matches("http://")).unwrap();

    // Rocket itself waits for the first 14 bytes, without a limit.
    let mut half = connect();
    let request = "POST /api/dm-jobqueue/register HTTP/1.1\r\nHost: a\r\n\
                   Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"message\":\"half of";
    half.write_all(request.as_bytes()).unwrap();
    // More than may be open: some of them wait for a descriptor.
    let idle: Vec<_> = (0..330)
        .map(|_| {
            let mut idle = connect();
            idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
            idle
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    for kind in ["normal", "pubsub"] {
        redis.cli(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
    }
    program.printed("still at work", PATIENCE);

    half.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("the body did not arrive in time"), "{answer}");
    drop(idle);
}

#[test]
fn a_worker_only_process_answers_health_and_has_no_other_route() {
    let port = support::free_port().to_string();
    let program = Program::start(
        "demo",
        &["--worker"],
        &[("APP_ENV", "embedded"), ("ROCKET_JOBQUEUE", &format!("{{port={port}}}"))],
    );
    program.said("worker only", BUILD);
    let status = |path: &str| {
        let url = format!("http://127.0.0.1:{port}/api/dm-jobqueue{path}");
        curl(&[&url]).0
    };
    assert_eq!(status("/health"), 200);
    assert_eq!(status("/ui/register"), 404);
}

#[test]
fn the_quickstart_runs_its_job() {
    let port = support::free_port().to_string();
    let program = Program::start("quickstart", &[], &[("ROCKET_PORT", &port)]);
    program.printed("launched", BUILD);
    let url = format!("http://127.0.0.1:{port}/sign-up/7");
    assert!(curl(&["-X", "POST", &url]).1.starts_with("job "));
    program.printed("welcome, user 7", PATIENCE);
    only_the_printed_link_leads_in(&program, &port);
}

/// While it is developed, an application without guards asks for a token of its own.
fn only_the_printed_link_leads_in(program: &Program, port: &str) {
    let base = format!("http://127.0.0.1:{port}/api/dm-jobqueue");
    let line = program.said("dashboard of the job queue: ", PATIENCE);
    let link = line.rsplit(' ').next().unwrap();
    let token = link.rsplit_once("token=").unwrap().1;
    assert!(token.len() >= 32 && link.starts_with(&base), "{line}");
    let jar = tempfile::NamedTempFile::new().unwrap();
    let jar = jar.path().to_str().unwrap();
    for path in ["/queues", "/ui", "/metrics", "/ui?token=guessed"] {
        assert_eq!(curl(&[&format!("{base}{path}")]).0, 401, "{path}");
    }
    let queue = format!("{base}/queues/default?force=true");
    let (status, answer) = curl(&["-X", "DELETE", &queue]);
    assert!(status == 401 && answer.contains("login link"), "{status} {answer}");
    assert_eq!(curl(&["-c", jar, link]).0, 200);
    for path in ["/queues", "/ui", "/metrics"] {
        assert_eq!(curl(&["-b", jar, &format!("{base}{path}")]).0, 200, "{path}");
    }
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(curl(&["-H", &bearer, &format!("{base}/queues")]).0, 200);
}

#[test]
fn outside_of_development_an_application_without_guards_shows_and_changes_nothing() {
    let port = support::free_port().to_string();
    let variables =
        [("ROCKET_PORT", &*port), ("ROCKET_PROFILE", "production"), ("APP_ENV", "embedded")];
    let program = Program::start("quickstart", &[], &variables);
    program.printed("launched", BUILD);
    program.said("add `.admin_guard::<G>()`", PATIENCE);
    let base = format!("http://127.0.0.1:{port}/api/dm-jobqueue");
    assert_eq!(curl(&[&format!("{base}/queues")]).0, 403);
    assert_eq!(curl(&[&format!("{base}/ui")]).0, 403);
    let queue = format!("{base}/queues/default?force=true");
    assert_eq!(curl(&["-X", "DELETE", "-H", "Content-Type: application/json", &queue]).0, 403);
    assert_eq!(curl(&[&format!("{base}/health")]).0, 200);
}

#[test]
fn the_recovery_example_tells_how_soon_a_killed_workers_job_runs_again() {
    let redis = RedisServer::start::<&str>(&[]);
    let program = Program::start("recovery", &[&redis.addr(), "2"], &[]);
    program.printed("2 workers, each in the middle of a job", BUILD);
    let line = program.printed("kill -9 to rerun, 2 of 2 jobs", Duration::from_secs(90));
    let longest = line.rsplit_once("max ").unwrap().1.trim_end_matches(" s");
    assert!(longest.parse::<f64>().unwrap() < 45.0, "{line}");
}

#[test]
fn a_wrong_argument_is_answered_with_the_usage() {
    let mut program = Program::start("demo", &["--port"], &[]);
    program.said("unknown argument \"--port\"", BUILD);
    program.said("usage:", PATIENCE);
    assert_eq!(program.child.wait().unwrap().code(), Some(2));
}
