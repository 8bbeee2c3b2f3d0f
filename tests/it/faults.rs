//! Redis absent, stopped, frozen; workers killed in the middle of a job. Real
//! processes on both sides.

use std::time::{Duration, Instant};

use crate::support::program::{Program, curl, post_json};
use crate::support::{PATIENCE, RedisServer};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::JobQueue;

/// 3 s are promised after Redis came up; the rest is room for a busy machine.
const HEALED: Duration = Duration::from_secs(15);
/// The limit of a request is 3.5 s, and two of them are 7 s; the rest is room as well.
const LIMIT: Duration = Duration::from_millis(6_900);
const BASE: &str = "/api/dm-jobqueue";

fn demo(redis: &RedisServer) -> (Program, String) {
    let program = Program::start("demo", &["--no-greeting", "--redis", &redis.addr()], &[]);
    let origin = program.origin();
    (program, format!("{origin}{BASE}"))
}

fn register(base: &str, body: &str) -> (u16, String) {
    post_json(&format!("{base}/register"), body, &[])
}

/// Asks until the answer has this status.
fn until_status(within: Duration, status: u16, mut ask: impl FnMut() -> (u16, String)) {
    let began = Instant::now();
    loop {
        let (found, body) = ask();
        if found == status {
            return;
        }
        assert!(began.elapsed() < within, "{found} after {within:?}: {body}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_absent_redis_is_one_warning_and_everything_works_once_it_is_there() {
    let mut redis = RedisServer::prepare::<&str>(&[]);
    let (program, base) = demo(&redis);
    let warning = program.said("WARN", PATIENCE);
    for part in ["Redis is not connected", "scripts/start-redis.sh start", "APP_ENV=embedded"] {
        assert!(warning.contains(part), "{part:?} is missing in {warning:?}");
    }
    let (status, body) = register(&base, "{}");
    assert_eq!(status, 503);
    assert!(body.contains("Job queue service is unavailable: Redis is not connected"), "{body}");
    assert_eq!(curl(&[&format!("{base}/health")]).1, r#"{"live":true,"ready":false}"#);
    assert_eq!(curl(&[&format!("{base}/health/ready")]).0, 503);
    redis.restart();
    until_status(HEALED, 201, || register(&base, r#"{"message":"after","delay_seconds":1}"#));
    program.printed("after", PATIENCE);
    assert_eq!(curl(&[&format!("{base}/health/ready")]).0, 200);
}

#[test]
fn a_stopped_redis_is_503_at_once_and_jobs_run_after_it_is_back() {
    let mut redis = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "no"]);
    let (program, base) = demo(&redis);
    assert_eq!(register(&base, r#"{"message":"survivor","delay_seconds":3}"#).0, 201);
    redis.stop();
    let began = Instant::now();
    assert_eq!(register(&base, "{}").0, 503);
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    redis.restart();
    until_status(HEALED, 201, || register(&base, r#"{"delay_seconds":60}"#));
    program.printed("survivor", PATIENCE);
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
    assert!(took < LIMIT, "the request waited {took:?}");
    redis.thaw();
    until_status(HEALED, 201, ask);
    let (_, first) = ask();
    assert_eq!(first, ask().1, "every repetition names the same job");
    program.printed("once only", PATIENCE);
    std::thread::sleep(Duration::from_secs(2));
    assert!(program.printed_so_far("once only").is_empty(), "a second job ran");
}

#[test]
fn the_job_of_a_killed_worker_runs_again_within_45_seconds() {
    let redis = RedisServer::start::<&str>(&[]);
    let (first, base) = demo(&redis);
    let orders = base.replace(BASE, "/naps/60");
    assert_eq!(curl(&["-X", "POST", &orders]).0, 200);
    first.said("nap begins", PATIENCE);
    let (second, _) = demo(&redis);
    first.signal("KILL");
    let killed = Instant::now();
    let line = second.said("job recovered", Duration::from_secs(45));
    assert!(line.contains("asynq: task lease expired"), "{line}");
    second.said("nap begins", PATIENCE);
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(45), "it took {took:?}");
    println!("kill -9 to rerun: {took:.1?}");
}

#[test]
fn a_terminated_process_puts_its_running_job_back_and_another_takes_it_at_once() {
    let redis = RedisServer::start::<&str>(&[]);
    let (mut first, base) = demo(&redis);
    assert_eq!(curl(&["-X", "POST", &base.replace(BASE, "/naps/60")]).0, 200);
    first.said("nap begins", PATIENCE);
    let (second, _) = demo(&redis);
    let began = Instant::now();
    first.signal("TERM");
    assert!(first.child.wait().unwrap().success());
    let took = began.elapsed();
    // Running jobs have 8 s; the job of 60 s must not be waited for.
    assert!(took < Duration::from_secs(15), "it took {took:?} to stop");
    // Without being put back it would wait for its lease of 30 s.
    second.said("nap begins", Duration::from_secs(20));
    let message = redis.cli(&["keys", "asynq:{default}:t:*"]);
    assert_eq!(message.lines().count(), 1);
}

/// The demo on this Redis, which asks for a password.
fn demo_with_password(redis: &RedisServer, password: &str) -> (Program, String) {
    let url = format!("redis://:{password}@{}", redis.addr());
    let database = format!("{{jobqueue={{url=\"{url}\"}}}}");
    let variables = [("APP_ENV", "develop"), ("ROCKET_DATABASES", database.as_str())];
    let program = Program::start("demo", &["--no-greeting"], &variables);
    let base = format!("{}{BASE}", program.origin());
    (program, base)
}

fn assert_no_secret(text: &str) {
    for secret in ["s3cr3t", "canary"] {
        assert!(!text.contains(secret), "{secret:?} in {text}");
    }
}

#[test]
fn no_secret_reaches_a_log_line_when_redis_refuses_the_password() {
    let redis = RedisServer::start(&["--requirepass", "s3cr3t-pass"]);
    let (program, base) = demo_with_password(&redis, "wrong-s3cr3t");
    let (status, body) = register(&base, r#"{"message":"canary-payload"}"#);
    assert_eq!(status, 500, "{body}");
    assert!(body.contains("Failed to enqueue job: "), "{body}");
    std::thread::sleep(Duration::from_secs(1));
    let said: Vec<_> = program.err.try_iter().collect();
    assert_no_secret(&format!("{body}\n{}", said.join("\n")));
    assert!(!body.contains("WRONGPASS"), "Redis's own words reached the client: {body}");
}

/// Here the process has the payload: one job prints it, which is its purpose, and one
/// cannot be decoded and fails.
#[rocket::async_test]
async fn no_secret_reaches_a_log_line_when_jobs_run_and_fail() {
    let redis = RedisServer::start(&["--requirepass", "s3cr3t-pass"]);
    let (program, base) = demo_with_password(&redis, "s3cr3t-pass");
    let body = r#"{"message":"canary-one","delay_seconds":1}"#;
    let (status, answer) = post_json(&format!("{base}/register"), body, &["X-Note: canary-two"]);
    assert_eq!(status, 201, "{answer}");
    program.printed("canary-one", PATIENCE);

    let url = format!("redis://:s3cr3t-pass@{}", redis.addr());
    let producer = JobQueue::fairing()
        .set("databases.jobqueue.url", url)
        .set("jobqueue.worker", false)
        .set("jobqueue.log_to_stderr", false);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let producer = Client::untracked(rocket::custom(figment).attach(producer)).await.unwrap();
    let queue = producer.rocket().state::<JobQueue>().unwrap();
    // A text where an object is expected: serde quotes it in its own message.
    let payload = br#""canary-three""#.to_vec();
    let job = queue.enqueue_raw(rocket_jobqueue::demo::TYPE, Some(payload)).max_retry(0);
    job.header("note", "canary-four").await.unwrap();
    let mut said = Vec::new();
    let end = Instant::now() + PATIENCE;
    while !said.iter().any(|line: &String| line.contains("job archived")) {
        let left = end.saturating_duration_since(Instant::now());
        said.push(program.err.recv_timeout(left).expect("the failed job is logged"));
    }
    assert!(said.iter().any(|line| line.contains("job completed")), "{said:#?}");
    assert_no_secret(&said.join("\n"));
    producer.terminate().await;
}
