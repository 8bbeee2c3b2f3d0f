//! Redis absent, stopped, frozen; workers killed in the middle of a job. Real
//! processes on both sides.

#[path = "support/program.rs"]
mod program;
mod support;

use std::time::{Duration, Instant};

use program::{Program, curl, post_json};
use support::RedisServer;

const PROMPT: Duration = Duration::from_secs(10);
const BASE: &str = "/api/dm-jobqueue";

fn demo(redis: &RedisServer) -> (Program, String) {
    let program = Program::start("demo", &["--no-greeting", "--redis", &redis.addr()], &[]);
    let origin = program.origin();
    (program, format!("{origin}{BASE}"))
}

fn register(base: &str, body: &str) -> (u16, String) {
    post_json(&format!("{base}/register"), body, &[])
}

/// Asks until the answer has this status; how long it took.
fn until_status(within: Duration, status: u16, mut ask: impl FnMut() -> (u16, String)) -> Duration {
    let began = Instant::now();
    loop {
        let (found, body) = ask();
        if found == status {
            return began.elapsed();
        }
        assert!(began.elapsed() < within, "{found} after {within:?}: {body}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_absent_redis_is_one_warning_and_everything_works_once_it_is_there() {
    let mut redis = RedisServer::prepare::<&str>(&[]);
    let (program, base) = demo(&redis);
    let warning = program.said("WARN", PROMPT);
    for part in ["Redis is not connected", "scripts/start-redis.sh start", "APP_ENV=embedded"] {
        assert!(warning.contains(part), "{part:?} is missing in {warning:?}");
    }
    let (status, body) = register(&base, "{}");
    assert_eq!(status, 503);
    assert!(body.contains("Job queue service is unavailable: Redis is not connected"), "{body}");
    assert_eq!(curl(&[&format!("{base}/health")]).1, r#"{"live":true,"ready":false}"#);
    assert_eq!(curl(&[&format!("{base}/health/ready")]).0, 503);
    redis.restart();
    let took = until_status(Duration::from_secs(3), 201, || {
        register(&base, r#"{"message":"after","delay_seconds":1}"#)
    });
    assert!(took < Duration::from_secs(3), "{took:?}");
    program.printed("after", PROMPT);
    assert_eq!(curl(&[&format!("{base}/health/ready")]).0, 200);
}

#[test]
fn a_stopped_redis_is_503_at_once_and_jobs_run_after_it_is_back() {
    let mut redis = RedisServer::start(&["--appendonly", "yes"]);
    let (program, base) = demo(&redis);
    assert_eq!(register(&base, r#"{"message":"survivor","delay_seconds":3}"#).0, 201);
    redis.stop();
    let began = Instant::now();
    assert_eq!(register(&base, "{}").0, 503);
    assert!(began.elapsed() < Duration::from_millis(3600), "{:?}", began.elapsed());
    redis.restart();
    until_status(Duration::from_secs(3), 201, || register(&base, r#"{"delay_seconds":60}"#));
    program.printed("survivor", PROMPT);
}

#[test]
fn a_frozen_redis_is_503_within_the_limit_and_a_repeated_request_makes_no_second_job() {
    let redis = RedisServer::start::<&str>(&[]);
    let (program, base) = demo(&redis);
    assert_eq!(register(&base, r#"{"message":"warm","delay_seconds":60}"#).0, 201);
    redis.freeze();
    let ask = || {
        let body = r#"{"message":"once only","delay_seconds":2}"#;
        post_json(&format!("{base}/register"), body, &["Idempotency-Key: k-1"])
    };
    let began = Instant::now();
    assert_eq!(ask().0, 503);
    let took = began.elapsed();
    assert!(took < Duration::from_millis(3900), "the request waited {took:?}");
    redis.thaw();
    until_status(Duration::from_secs(3), 201, ask);
    let (_, first) = ask();
    assert_eq!(first, ask().1, "every repetition names the same job");
    program.printed("once only", PROMPT);
    std::thread::sleep(Duration::from_secs(2));
    assert!(program.printed_so_far("once only").is_empty(), "a second job ran");
}

#[test]
fn the_job_of_a_killed_worker_runs_again_within_45_seconds() {
    let redis = RedisServer::start::<&str>(&[]);
    let (first, base) = demo(&redis);
    let orders = base.replace(BASE, "/naps/60");
    assert_eq!(curl(&["-X", "POST", &orders]).0, 200);
    first.said("nap begins", PROMPT);
    let (second, _) = demo(&redis);
    first.signal("KILL");
    let killed = Instant::now();
    let line = second.said("job recovered", Duration::from_secs(45));
    assert!(line.contains("asynq: task lease expired"), "{line}");
    second.said("nap begins", Duration::from_secs(5));
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(45), "it took {took:?}");
    println!("kill -9 to rerun: {took:.1?}");
}

#[test]
fn a_terminated_process_puts_its_running_job_back_and_another_takes_it_at_once() {
    let redis = RedisServer::start::<&str>(&[]);
    let (mut first, base) = demo(&redis);
    assert_eq!(curl(&["-X", "POST", &base.replace(BASE, "/naps/60")]).0, 200);
    first.said("nap begins", PROMPT);
    let (second, _) = demo(&redis);
    let began = Instant::now();
    first.signal("TERM");
    assert!(first.child.wait().unwrap().success());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "it took {took:?} to stop");
    second.said("nap begins", Duration::from_secs(2));
    let message = redis.cli(&["keys", "asynq:{default}:t:*"]);
    assert_eq!(message.lines().count(), 1);
}

#[test]
fn no_secret_reaches_a_log_line() {
    let redis = RedisServer::start(&["--requirepass", "s3cr3t-pass"]);
    let program = Program::start(
        "demo",
        &["--no-greeting"],
        &[
            ("APP_ENV", "develop"),
            (
                "ROCKET_DATABASES",
                &format!("{{jobqueue={{url=\"redis://:wrong-s3cr3t@{}\"}}}}", redis.addr()),
            ),
        ],
    );
    let base = format!("{}{BASE}", program.origin());
    let (status, body) = register(&base, r#"{"message":"canary-payload"}"#);
    assert_eq!(status, 500, "{body}");
    assert!(body.contains("Failed to enqueue job: "), "{body}");
    std::thread::sleep(Duration::from_secs(1));
    let said: Vec<_> = program.err.try_iter().collect();
    let all = format!("{body}\n{}", said.join("\n"));
    for secret in ["s3cr3t", "canary"] {
        assert!(!all.contains(secret), "{secret:?} in {all}");
    }
    assert!(!body.contains("WRONGPASS"), "Redis's own words reached the client: {body}");
}
