//! The queue that users' tests drive: with a Rocket application by its local
//! clients, and without one.

mod mistakes;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::log::Log;
use rocket::local::{asynchronous, blocking};
use rocket::{Build, Rocket, State, get, post, routes};
use rocket_jobqueue::testing::{self, AttemptEnd, Report, TestQueue};
use rocket_jobqueue::{
    Draft, Idempotency, Job, JobContext, JobError, JobOptions, JobQueue, JobQueueFairing,
    JobRecord, JobState, Managed, Periodic, RetryPolicy, Timestamp,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Welcome {
    user: u64,
}

impl Job for Welcome {
    const TYPE: &'static str = "mail:welcome";
}

/// What the handlers did, in order.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

async fn send_welcome(job: Welcome, journal: Managed<Journal>) -> Result<u64, JobError> {
    journal.note(format!("welcome {}", job.user));
    match job.user {
        13 => Err(JobError::failed("no such mailbox")),
        14 => Err(JobError::snooze(secs(60))),
        15 => Err(JobError::give_up("no address")),
        16 => Err(JobError::revoke()),
        17 => panic!("boom"),
        user => Ok(user),
    }
}

/// Counts down, a minute at a time.
#[derive(Serialize, Deserialize)]
struct Countdown(u32);

impl Job for Countdown {
    const TYPE: &'static str = "countdown";

    fn options() -> JobOptions {
        JobOptions::new().queue("slow")
    }
}

async fn count_down(job: Countdown, queue: Managed<JobQueue>) -> Result<(), JobError> {
    if job.0 > 0 {
        queue.enqueue(Countdown(job.0 - 1)).delay(secs(60)).await?;
    }
    Ok(())
}

#[post("/users/<user>")]
async fn sign_up(user: u64, queue: &JobQueue) -> Result<String, rocket_jobqueue::Error> {
    let receipt = queue.enqueue(Welcome { user }).delay(secs(180)).max_retry(1).await?;
    Ok(receipt.id.to_string())
}

#[get("/journal")]
fn journal(journal: &State<Journal>) -> String {
    journal.read().join("\n")
}

fn fairing() -> JobQueueFairing {
    JobQueue::fairing().set("jobqueue.log_to_stderr", false).handle(send_welcome).handle(count_down)
}

fn app(jobs: JobQueueFairing) -> Rocket<Build> {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let routes = routes![sign_up, journal];
    rocket::custom(figment).manage(Journal::default()).attach(jobs).mount("/", routes)
}

fn plain() -> (TestQueue, Journal) {
    let journal = Journal::default();
    let tests = TestQueue::new().handle(send_welcome).handle(count_down).manage(journal.clone());
    (tests, journal)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn users(report: &Report) -> Vec<u64> {
    let user = |ran: &testing::Attempt| {
        serde_json::from_slice::<Welcome>(ran.job.payload_bytes()).unwrap().user
    };
    report.of::<Welcome>().map(user).collect()
}

fn message(act: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(AssertUnwindSafe(act)).expect_err("it panics");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().expect("a text").to_string(),
    }
}

#[rocket::async_test]
async fn a_delayed_job_of_an_application_runs_when_the_clock_says_so() {
    let (jobs, tests) = testing::queue(fairing());
    let client = asynchronous::Client::tracked(app(jobs)).await.unwrap();
    let id = client.post("/users/7").dispatch().await.into_string().await.unwrap();
    let began = Instant::now();

    assert!(tests.advance(secs(180) - Duration::from_micros(1)).await.is_empty());
    assert_eq!(client.get("/journal").dispatch().await.into_string().await.unwrap(), "");
    let report = tests.advance(Duration::from_micros(1)).await;

    report.assert_completed();
    assert_eq!((report.len(), report.attempts[0].job.id.as_str()), (1, id.as_str()));
    assert_eq!(report.attempts[0].at, tests.now());
    assert_eq!(report.result::<u64>(&report.attempts[0].job.id), Some(7));
    assert_eq!(client.get("/journal").dispatch().await.into_string().await.unwrap(), "welcome 7");
    assert!(began.elapsed() < secs(100));
}

#[rocket::async_test]
async fn periodic_entries_fire_when_the_clock_reaches_their_ticks() {
    let hourly = Periodic::new("@every 1h", Welcome { user: 3 }).name("hourly");
    let (jobs, tests) = testing::queue(fairing().periodic(hourly));
    let client = asynchronous::Client::tracked(app(jobs)).await.unwrap();
    assert!(tests.run_due().await.is_empty());

    let report = tests.advance(secs(3 * 3600)).await;

    report.assert_completed();
    assert_eq!(users(&report), [3, 3, 3]);
    for ran in &report.attempts {
        assert_eq!(ran.at.as_secs() % 3600, 0, "to the second: {}", ran.at);
        assert_eq!(ran.job.id.as_str(), format!("periodic:hourly:{}", ran.at.as_secs()));
    }
    let entries = client.rocket().state::<JobQueue>().unwrap().periodic();
    assert!(entries.remove("hourly"));
    assert!(tests.advance(secs(2 * 3600)).await.is_empty());
}

#[test]
fn the_same_works_with_the_blocking_client() {
    let (jobs, tests) = testing::queue(fairing());
    let client = blocking::Client::tracked(app(jobs)).unwrap();
    client.post("/users/13").dispatch();
    client.post("/users/7").dispatch();

    assert!(tests.blocking_run_due().is_empty());
    let report = tests.blocking_advance(secs(600));

    assert_eq!(users(&report), [13, 7, 13]);
    assert_eq!(client.get("/journal").dispatch().into_string().unwrap().lines().count(), 3);
}

#[test]
fn nothing_runs_by_itself() {
    let (jobs, tests) = testing::queue(fairing());
    let client = blocking::Client::tracked(app(jobs)).unwrap();
    let queue = client.rocket().state::<JobQueue>().unwrap().clone();
    let runtime = rocket::tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { queue.enqueue(Welcome { user: 1 }).await }).unwrap();

    std::thread::sleep(Duration::from_millis(300));

    assert_eq!(tests.jobs()[0].state, JobState::Pending);
    assert!(runtime.block_on(queue.ready()));
    assert_eq!(users(&tests.blocking_run_due()), [1]);
}

#[rocket::async_test]
async fn jobs_run_one_by_one_in_the_order_of_their_due_times_each_at_its_own() {
    let (tests, journal) = plain();
    let start = tests.now();
    for (user, delay) in [(1, 30), (2, 10), (3, 20), (4, 0), (5, 10)] {
        tests.enqueue(Welcome { user }).delay(secs(delay)).await.unwrap();
    }

    let report = tests.advance(secs(25)).await;

    assert_eq!(users(&report), [4, 2, 5, 3]);
    let times: Vec<_> = report.attempts.iter().map(|ran| ran.at.since(start)).collect();
    assert_eq!(times, [secs(0), secs(10), secs(10), secs(20)]);
    assert_eq!(tests.now(), start + secs(25));
    assert_eq!(journal.read().len(), 4);
    assert_eq!(users(&tests.advance(secs(5)).await), [1]);
}

#[rocket::async_test]
async fn failed_jobs_are_tried_again_after_their_delays_until_they_are_archived() {
    let (tests, _) = plain();
    let start = tests.now();
    let receipt = tests.enqueue(Welcome { user: 13 }).max_retry(2).await.unwrap();

    let report = tests.advance(secs(86_400)).await;

    let waits: Vec<_> = report.attempts.iter().map(|ran| ran.at.since(start).as_secs()).collect();
    assert_eq!(waits, [0, 15, 31], "Asynq's formula, without its chance");
    let error = "no such mailbox".to_owned();
    let retry = |after| AttemptEnd::Retry { at: start + secs(after), error: error.clone() };
    let ended: Vec<_> = report.attempts.iter().map(|ran| ran.end.clone()).collect();
    assert_eq!(ended, [retry(15), retry(31), AttemptEnd::Archived { error: error.clone() }]);
    let info = tests.job(&receipt.id).unwrap();
    assert_eq!(
        (info.state, info.record.last_error.as_str()),
        (JobState::Archived, "no such mailbox")
    );
}

#[rocket::async_test]
async fn a_retry_policy_of_ones_own_is_used() {
    let policy = RetryPolicy::new(|retried| secs(100 * u64::from(retried + 1)));
    let (jobs, with_app) = testing::queue(fairing().retry_policy(policy.clone()));
    let client = asynchronous::Client::tracked(app(jobs)).await.unwrap();
    client.post("/users/13").dispatch().await;
    let journal = Journal::default();
    let plain = TestQueue::new().handle(send_welcome).manage(journal).retry_policy(policy);
    plain.enqueue(Welcome { user: 13 }).delay(secs(180)).max_retry(1).await.unwrap();

    for tests in [with_app, plain] {
        let start = tests.now();
        let report = tests.advance(secs(1_000)).await;
        let waits: Vec<_> =
            report.attempts.iter().map(|ran| ran.at.since(start).as_secs()).collect();
        assert_eq!(waits, [180, 280]);
    }
}

#[rocket::async_test]
async fn each_way_to_end_is_told() {
    let (tests, _) = plain();
    let start = tests.now();
    for user in [7, 14, 15, 16, 17] {
        tests.enqueue(Welcome { user }).await.unwrap();
    }

    let report = tests.run_due().await;

    let ended: Vec<_> = report.attempts.iter().map(|ran| &ran.end).collect();
    let expected = [
        AttemptEnd::Completed { result: Some(b"7".to_vec()) },
        AttemptEnd::Postponed { at: start + secs(60), error: String::new() },
        AttemptEnd::Archived { error: "no address".to_owned() },
        AttemptEnd::Revoked,
        AttemptEnd::Retry { at: start + secs(15), error: "panic: boom".to_owned() },
    ];
    assert_eq!(ended, expected.iter().collect::<Vec<_>>());
    let text = message(|| report.assert_completed());
    assert!(text.contains("mail:welcome") && text.contains("archived: no address"), "{text}");
}

#[rocket::async_test]
async fn what_jobs_enqueue_runs_too_and_two_runs_are_alike() {
    let run = async || {
        let (tests, _) = plain();
        tests.enqueue(Countdown(3)).await.unwrap();
        tests.enqueue(Countdown(1)).queue("other").await.unwrap();
        let report = tests.advance(secs(600)).await;
        report.assert_completed();
        let start = tests.now() - secs(600);
        report
            .attempts
            .iter()
            .map(|ran| (ran.job.id.to_string(), ran.at.since(start)))
            .collect::<Vec<_>>()
    };

    let first = run().await;

    assert_eq!(first.len(), 6);
    assert_eq!(run().await, first);
}

#[rocket::async_test]
async fn what_was_enqueued_is_listed_with_its_options_whatever_became_of_it() {
    let (tests, _) = plain();
    let start = tests.now();
    let lock = secs(600);
    tests.enqueue(Welcome { user: 7 }).await.unwrap();
    tests.enqueue(Welcome { user: 13 }).queue("mail").delay(secs(9)).await.unwrap();
    tests.enqueue(Welcome { user: 8 }).unique_for(lock).header("trace", "1").await.unwrap();
    let duplicate = tests.enqueue(Welcome { user: 8 }).unique_for(lock).await;
    assert!(duplicate.unwrap_err().is_duplicate());
    tests.run_due().await;

    let jobs = tests.enqueued::<Welcome>();

    let seen: Vec<_> = jobs.iter().map(|job| (job.user, job.queue.as_str(), job.delay())).collect();
    let none = Duration::ZERO;
    assert_eq!(seen, [(7, "default", none), (13, "mail", secs(9)), (8, "default", none)]);
    let states: Vec<_> = jobs.iter().map(|job| job.state).collect();
    assert_eq!(states, [None, Some(JobState::Scheduled), None]);
    assert_eq!((jobs[1].at, jobs[1].due), (start, start + secs(9)));
    assert_eq!((jobs[2].unique_for, jobs[2].record.headers["trace"].as_str()), (Some(lock), "1"));
    assert!(tests.enqueued::<Countdown>().is_empty());
}

#[rocket::async_test]
async fn faults_take_the_place_of_the_next_attempts() {
    let (tests, journal) = plain();
    tests.enqueue(Welcome { user: 7 }).await.unwrap();
    tests.enqueue(Countdown(0)).await.unwrap();
    tests.fail_next::<Welcome>(JobError::retry_in(secs(5), "the line is busy"));
    tests.panic_next::<Welcome>("boom");
    tests.time_out_next::<Welcome>();

    let report = tests.advance(secs(3_600)).await;

    let errors: Vec<_> = report.of::<Welcome>().map(|ran| ran.end.error()).collect();
    let failures = ["the line is busy", "panic: boom", "context deadline exceeded"];
    assert_eq!(errors[..3], failures.map(Some));
    assert_eq!((errors.len(), errors[3]), (4, None));
    assert_eq!(journal.read(), ["welcome 7"]);
    assert_eq!(report.of::<Countdown>().count(), 1, "another type is not concerned");
}

#[rocket::async_test]
async fn the_job_of_a_vanished_worker_starts_again_when_its_lease_is_over() {
    let (tests, _) = plain();
    let start = tests.now();
    tests.lose_worker_at_next::<Welcome>();
    let receipt = tests.enqueue(Welcome { user: 7 }).await.unwrap();

    let report = tests.run_due().await;
    assert_eq!(report.attempts[0].end, AttemptEnd::WorkerLost);
    assert_eq!(tests.job(&receipt.id).unwrap().state, JobState::Active);
    let report = tests.advance(secs(60)).await;

    assert_eq!(users(&report), [7]);
    let waited = report.attempts[0].at.since(start);
    assert!((secs(30)..secs(31)).contains(&waited), "{waited:?}");
    assert_eq!(report.attempts[0].job.retried, 0);
}

#[rocket::async_test]
async fn a_job_that_loses_three_workers_is_archived() {
    let (tests, journal) = plain();
    for _ in 0..3 {
        tests.lose_worker_at_next::<Welcome>();
    }
    let receipt = tests.enqueue(Welcome { user: 7 }).await.unwrap();

    tests.advance(secs(600)).await;

    assert_eq!(tests.job(&receipt.id).unwrap().state, JobState::Archived);
    assert!(journal.read().is_empty());
}

#[rocket::async_test]
async fn completed_jobs_are_kept_for_their_retention_by_the_test_s_clock() {
    let (tests, _) = plain();
    let receipt = tests.enqueue(Welcome { user: 7 }).retention(secs(60)).await.unwrap();
    tests.run_due().await;
    let info = tests.job(&receipt.id).unwrap();
    assert_eq!((info.state, info.result.as_deref()), (JobState::Completed, Some(&b"7"[..])));

    tests.advance(secs(60)).await;

    assert!(tests.jobs().is_empty());
}

#[rocket::async_test]
async fn a_paused_queue_runs_nothing_until_it_is_resumed() {
    let (tests, _) = plain();
    let receipt = tests.enqueue(Welcome { user: 7 }).await.unwrap();
    tests.inspector().pause(&receipt.queue).await.unwrap();
    assert!(tests.advance(secs(60)).await.is_empty());

    tests.inspector().resume(&receipt.queue).await.unwrap();

    assert_eq!(tests.run_due().await.len(), 1);
}

#[rocket::async_test]
async fn the_clock_can_begin_at_an_instant_of_the_calendar() {
    let start = Timestamp::from_secs(4_000_000_000);
    let tests = TestQueue::starting_at(start);

    tests.advance(secs(86_400)).await;

    assert_eq!(tests.now(), start + secs(86_400));
}

#[rocket::async_test]
async fn a_handler_knows_its_attempt_and_deadline() {
    async fn tell(_: Countdown, context: JobContext) -> Result<(u32, i64), JobError> {
        Ok((context.attempt(), context.deadline().as_micros()))
    }
    let tests = TestQueue::new().handle(tell);
    let receipt = tests.enqueue(Countdown(0)).timeout(secs(30)).await.unwrap();
    tests.fail_next::<Countdown>("not yet");

    let report = tests.advance(secs(15)).await;

    let deadline = (tests.now() + secs(30)).as_micros();
    assert_eq!(report.result::<(u32, i64)>(&receipt.id), Some((2, deadline)));
}

#[rocket::async_test]
async fn an_application_that_has_ended_leaves_nothing_behind() {
    let (jobs, tests) = testing::queue(fairing());
    let journal = Journal::default();
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let app = rocket::custom(figment).manage(journal.clone()).attach(jobs);
    let client = asynchronous::Client::tracked(app).await.unwrap();
    tests.enqueue(Welcome { user: 7 }).await.unwrap();
    tests.run_due().await;

    drop(client);

    assert_eq!(Arc::strong_count(&journal.0), 1);
    let plain_journal = Journal::default();
    let plain = TestQueue::new().handle(send_welcome).manage(plain_journal.clone());
    plain.enqueue(Welcome { user: 7 }).await.unwrap();
    drop(plain);
    assert_eq!(Arc::strong_count(&plain_journal.0), 1);
}

/// What an application is that has just been written: queues that nobody has used yet, groups,
/// periodic jobs, no job.
#[test]
fn an_application_whose_queues_nobody_has_used_is_driven_without_a_panic() {
    async fn digest(_: String, _: Vec<JobRecord>) -> Result<Draft, JobError> {
        Ok(Draft::new(Welcome { user: 1 }))
    }
    let fairing = fairing()
        .set("jobqueue.queues", serde_json::json!({ "payments": 2, "mail": 1, "default": 1 }))
        .periodic(Periodic::new("@hourly", Welcome { user: 2 }).name("hourly").queue("reports"))
        .aggregate(digest);
    let (jobs, tests) = testing::queue(fairing);
    let _client = blocking::Client::untracked(app(jobs)).unwrap();
    assert!(tests.blocking_run_due().is_empty());
    assert!(tests.blocking_advance(secs(7200)).is_empty());
}

#[tokio::test]
async fn a_failure_is_recorded_with_all_its_causes() {
    async fn send(_: Welcome) -> anyhow::Result<()> {
        use anyhow::Context;
        let disk = std::io::Error::other("disk on fire");
        Err(std::io::Error::other(disk)).context("reading the template").context("sending")
    }
    let tests = TestQueue::new().handle(send);
    let receipt = tests.enqueue(Welcome { user: 7 }).await.unwrap();
    tests.run_due().await;
    let error = tests.job(&receipt.id).unwrap().record.last_error;
    assert!(error.starts_with("sending: reading the template: disk on fire"), "{error}");
}

#[tokio::test]
async fn a_payload_of_another_version_waits_for_an_hour_and_burns_no_attempt() {
    let (tests, journal) = plain();
    let new_version = br#"{"user":"ann"}"#.to_vec();
    let draft = Draft::raw(Welcome::TYPE, Some(new_version)).max_retry(1);
    let receipt = tests.queue().enqueue_all([draft]).await.remove(0).unwrap();

    tests.advance(secs(3599)).await;
    let parked = tests.job(&receipt.id).unwrap();
    assert_eq!((parked.state, parked.record.retried), (JobState::Retry, 0));
    let error = &parked.record.last_error;
    assert!(error.starts_with("undecodable since ") && error.contains("expected u64"), "{error}");

    tests.advance(secs(15)).await;
    let archived = tests.job(&receipt.id).unwrap();
    assert_eq!((archived.state, archived.record.retried), (JobState::Archived, 0));
    let error = &archived.record.last_error;
    assert!(error.contains("expected u64, found a string"), "{error}");
    assert!(!error.contains("ann") && journal.read().is_empty(), "{error}");
}

/// A job whose maps have another order in each instance.
#[derive(Serialize, Deserialize)]
struct Labels {
    zone: String,
    labels: HashMap<String, HashMap<u32, String>>,
    #[serde(flatten)]
    more: HashMap<String, String>,
}

impl Job for Labels {
    const TYPE: &'static str = "labels";
}

#[tokio::test]
async fn a_unique_lock_meets_equal_jobs_whatever_the_order_of_their_maps() {
    let tests = TestQueue::new();
    let queue = tests.queue();
    let job = || {
        let words = || (0..6).map(|n| (format!("k{n}"), n.to_string())).collect();
        let labels = (0..6).map(|n| (format!("l{n}"), (0..6).map(|n| (n, "x".into())).collect()));
        Labels { zone: "eu".into(), labels: labels.collect(), more: words() }
    };
    let (mut single, mut key) = (0, 0);
    for _ in 0..20 {
        let one = queue.enqueue(job()).unique_for(secs(600)).await;
        single += usize::from(one.map_err(|error| assert!(error.is_duplicate())).is_ok());
        let guard = Idempotency::of_value("labels", "key", &job()).unwrap();
        let receipt = queue.enqueue(job()).queue("other").idempotency(guard).await.unwrap();
        key += usize::from(!receipt.replayed);
    }
    let bulk = (0..20).map(|_| Draft::new(job()).queue("bulk").unique_for(secs(600)));
    let bulk = queue.enqueue_all(bulk).await.into_iter().filter(Result::is_ok).count();
    assert_eq!((single, key, bulk), (1, 1, 1));

    let payload = |job: Labels| Periodic::new("@daily", job).name("labels");
    assert!(payload(job()) == payload(job()), "a periodic job has one definition in all processes");
}

#[test]
fn a_periodic_job_that_never_fires_is_refused() {
    let tests = TestQueue::new();
    let entries = tests.queue().periodic();
    let add = |spec: &str| entries.add(Periodic::raw(spec, "t", None));
    for (spec, expected) in [
        ("0 0 31 2 *", "which never does"),
        ("0 0 30 feb ?", "which never does"),
        ("0 0 31 4,6,9,11 *", "which never does"),
        ("TZ=Europe/Berlin 0 0 30,31 2 *", "which never does"),
        (", * * * *", "which never does"),
        ("* * * , *", "which never does"),
        ("@every 0s", "an interval of 1s or more"),
        ("@every 0", "an interval of 1s or more"),
        ("CRON_TZ=UTC @every -5m", "an interval of 1s or more"),
    ] {
        let error = add(spec).expect_err(spec);
        assert!(error.is_invalid() && error.to_string().contains(expected), "{spec}: {error}");
    }
    // The weekday is enough, and leap days come.
    for spec in ["0 0 31 2 mon", "0 0 29 2 *", "0 0 31 2,3 *"] {
        add(spec).unwrap_or_else(|error| panic!("{spec}: {error}"));
    }
}

#[test]
fn an_interval_that_is_not_in_whole_seconds_is_cut_with_a_line() {
    let (log, _taken) = Log::of_this_thread(tracing::Level::WARN);
    let tests = TestQueue::new();
    let entries = tests.queue().periodic();
    let add = |spec: &str| entries.add(Periodic::raw(spec, "t", None)).unwrap();
    for spec in ["@every 1s", "@every 1m30s", "@every 1000ms", "* * * * *", "@hourly"] {
        add(spec);
        assert!(!log.text().contains("@every is cut"), "{spec}: {}", log.text());
    }
    for (spec, interval) in [("@every 10ms", "1s"), ("@every 90.7s", "1m30s")] {
        add(spec);
        let kept = format!("interval={interval}");
        assert_eq!(log.lines(&["@every is cut to whole seconds", spec, &kept]).len(), 1, "{spec}");
    }
}
