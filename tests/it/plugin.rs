//! The fairing in an application: one attach, handlers with state, launch
//! errors, shutdown, and applications side by side. The store is in memory;
//! Redis has files of its own.

mod guards;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::anybody::Anybody;
use crate::support::{PATIENCE, until, within};
use rocket::http::{Accept, Status};
use rocket::local::asynchronous::Client;
use rocket::{Build, Rocket, get, routes, tokio};
use rocket_jobqueue::{
    Job, JobContext, JobError, JobOptions, JobQueue, JobQueueFairing, JobState, Managed, Until,
    inspect::JobInfo, rate_limit::RateLimit,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize)]
struct Work {
    word: String,
}

impl Job for Work {
    const TYPE: &'static str = "test:work";

    fn options() -> JobOptions {
        JobOptions::new().retention(Duration::from_secs(60))
    }
}

fn work(word: &str) -> Work {
    Work { word: word.to_owned() }
}

/// What a handler saw: word, attempt, instant.
type Seen = (String, u32, Instant);

#[derive(Clone)]
struct Tell(mpsc::UnboundedSender<Seen>);

fn told() -> (Tell, mpsc::UnboundedReceiver<Seen>) {
    let (tell, told) = mpsc::unbounded_channel();
    (Tell(tell), told)
}

async fn do_work(job: Work, context: JobContext, tell: Managed<Tell>) -> Result<usize, JobError> {
    let _ = tell.0.send((job.word.clone(), context.attempt(), Instant::now()));
    match job.word.as_str() {
        "fail" => Err(JobError::retry_in(Duration::from_millis(20), "no luck")),
        "give up" => Err(JobError::give_up("hopeless")),
        "snooze" => Err(JobError::snooze(Duration::from_secs(60))),
        "panic" => panic!("boom"),
        "sleep" => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            Ok(0)
        }
        "short sleep" => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(0)
        }
        word => Ok(word.len()),
    }
}

fn app(queue: JobQueueFairing, tell: Tell) -> Rocket<Build> {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    rocket::custom(figment).manage(tell).attach(queue)
}

fn queue() -> JobQueueFairing {
    JobQueue::fairing().memory().handle(do_work)
}

async fn client(rocket: Rocket<Build>) -> Client {
    Client::untracked(rocket).await.expect("the application launches")
}

fn handle(client: &Client) -> JobQueue {
    client.rocket().state::<JobQueue>().expect("the fairing manages the handle").clone()
}

async fn until_state(queue: &JobQueue, id: &rocket_jobqueue::JobId, state: JobState) -> JobInfo {
    until(|| async { queue.job("default", id).await.unwrap().filter(|job| job.state == state) })
        .await
}

/// Set in the child process in which a test's own application is refused.
const CHILD: &str = "JOBQUEUE_TEST_REFUSED";

const MINUTE: Duration = Duration::from_secs(60);

/// What an operator reads on standard error when this application is refused.
///
/// The application runs in a process of its own, which is this very test once
/// more: there nobody has set a subscriber, so the line goes where it goes for
/// an application. `test` is the calling test's name.
async fn refused(test: &str, rocket: Rocket<Build>) -> String {
    if std::env::var_os(CHILD).is_some() {
        // Rocket's error panics when it is dropped unread.
        let error = rocket.ignite().await.err().map(|error| error.to_string());
        std::process::exit(if error.is_some() { 0 } else { 1 });
    }
    let itself = std::env::current_exe().expect("the test knows its own file");
    let child = std::process::Command::new(itself)
        .args(["--exact", &format!("plugin::{test}"), "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("the test runs once more");
    let said = String::from_utf8_lossy(&child.stderr).into_owned();
    assert!(child.status.success(), "the launch was not stopped: {said}");
    let lines: Vec<_> = said.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(lines.len(), 1, "one line says what is wrong: {said}");
    lines[0].to_owned()
}

fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} is missing in {line:?}");
    }
}

#[rocket::async_test]
async fn a_job_runs_with_the_state_its_handler_names_and_its_result_is_kept() {
    let (tell, mut told) = told();
    let client = client(app(queue(), tell)).await;
    let queue = handle(&client);
    let receipt = queue.enqueue(work("hello")).await.unwrap();
    assert_eq!(told.recv().await.unwrap().0, "hello");
    let job = until_state(&queue, &receipt.id, JobState::Completed).await;
    assert_eq!(job.result.as_deref(), Some(&b"5"[..]));
    client.terminate().await;
}

#[rocket::async_test]
async fn a_delayed_job_starts_at_its_due_time_and_not_before() {
    let (tell, mut told) = told();
    let client = client(app(queue(), tell)).await;
    let began = Instant::now();
    let delay = Duration::from_millis(200);
    handle(&client).enqueue(work("later")).delay(delay).await.unwrap();
    let (_, _, at) = told.recv().await.unwrap();
    assert!(at - began >= delay, "started {:?} after it was enqueued", at - began);
    client.terminate().await;
}

#[rocket::async_test]
async fn a_failing_job_is_tried_again_and_archived_when_its_retries_are_used_up() {
    let (tell, mut told) = told();
    let client = client(app(queue(), tell)).await;
    let queue = handle(&client);
    let receipt = queue.enqueue(work("fail")).max_retry(2).await.unwrap();
    for attempt in 1..=3 {
        assert_eq!(told.recv().await.unwrap().1, attempt);
    }
    let job = until_state(&queue, &receipt.id, JobState::Archived).await.record;
    assert_eq!((job.retried, job.last_error.as_str()), (2, "no luck"));
    client.terminate().await;
}

#[rocket::async_test]
async fn giving_up_archives_at_once_and_snoozing_counts_no_attempt() {
    let (tell, _told) = told();
    let client = client(app(queue(), tell)).await;
    let queue = handle(&client);
    let hopeless = queue.enqueue(work("give up")).await.unwrap();
    let sleepy = queue.enqueue(work("snooze")).await.unwrap();
    assert_eq!(until_state(&queue, &hopeless.id, JobState::Archived).await.record.retried, 0);
    assert_eq!(until_state(&queue, &sleepy.id, JobState::Retry).await.record.retried, 0);
    client.terminate().await;
}

#[rocket::async_test]
async fn a_panicking_handler_is_a_failed_attempt_and_the_worker_goes_on() {
    let (tell, _told) = told();
    let client = client(app(queue().set("jobqueue.concurrency", 1), tell)).await;
    let queue = handle(&client);
    let bad = queue.enqueue(work("panic")).max_retry(0).await.unwrap();
    let good = queue.enqueue(work("good")).await.unwrap();
    let job = until_state(&queue, &bad.id, JobState::Archived).await.record;
    assert_eq!(job.last_error, "panic: boom");
    until_state(&queue, &good.id, JobState::Completed).await;
    client.terminate().await;
}

#[rocket::async_test]
async fn an_attempt_over_its_time_limit_fails_and_one_past_its_deadline_is_archived() {
    let (tell, _told) = told();
    let client = client(app(queue(), tell)).await;
    let queue = handle(&client);
    let limit = Duration::from_secs(1);
    let slow = queue.enqueue(work("sleep")).timeout(limit).max_retry(0).await.unwrap();
    let past = std::time::SystemTime::now() - Duration::from_secs(5);
    let late = queue.enqueue(work("never")).deadline(past).await.unwrap();
    let job = until_state(&queue, &late.id, JobState::Archived).await.record;
    assert_eq!(job.last_error, "deadline passed");
    let job = until_state(&queue, &slow.id, JobState::Archived).await.record;
    assert_eq!(job.last_error, "context deadline exceeded");
    client.terminate().await;
}

#[rocket::async_test]
async fn an_unknown_job_type_waits_without_burning_an_attempt() {
    let (tell, _told) = told();
    let client = client(app(queue(), tell)).await;
    let queue = handle(&client);
    let receipt = queue.enqueue_raw("go:only", Some(b"{}".to_vec())).await.unwrap();
    let job = until_state(&queue, &receipt.id, JobState::Retry).await.record;
    assert_eq!(job.retried, 0);
    assert!(job.last_error.contains("go:only"), "{}", job.last_error);
    client.terminate().await;
}

#[rocket::async_test]
async fn no_more_jobs_run_at_a_time_than_the_concurrency_allows() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let count = |_payload: Vec<u8>, _context: JobContext| async {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let full = || async { (MOST.load(Ordering::SeqCst) >= 3).then_some(()) };
        until(full).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        NOW.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, JobError>(Some(b"1".to_vec()))
    };
    let (tell, _told) = told();
    let fairing =
        JobQueue::fairing().memory().set("jobqueue.concurrency", 3).handle_raw("test:count", count);
    let client = client(app(fairing, tell)).await;
    let queue = handle(&client);
    let mut last = None;
    for _ in 0..12 {
        let job = queue.enqueue_raw("test:count", None).retention(Duration::from_secs(60));
        last = Some(job.await.unwrap().id);
    }
    until_state(&queue, &last.unwrap(), JobState::Completed).await;
    assert_eq!(MOST.load(Ordering::SeqCst), 3);
    client.terminate().await;
}

/// The queues in the order in which a worker with one slot dequeues `each` jobs of
/// each of them, all waiting before it starts.
async fn order_taken(
    fairing: JobQueueFairing,
    queues: &[&'static str],
    each: usize,
) -> Vec<String> {
    let (tell, mut told) = told();
    let client = client(app(fairing.set("jobqueue.concurrency", 1), tell)).await;
    let queue = handle(&client);
    queue.shutdown().await;
    for _ in 0..each {
        for name in queues {
            queue.enqueue(work(name)).queue(*name).await.unwrap();
        }
    }
    queue.start().unwrap();
    let mut order = Vec::new();
    while order.len() < each * queues.len() {
        order.push(within(PATIENCE, told.recv()).await.unwrap().0);
    }
    client.terminate().await;
    order
}

/// Weights in which neither the order of names nor the order of enqueueing helps.
fn weighted() -> JobQueueFairing {
    let mut weights = std::collections::BTreeMap::new();
    weights.extend([("low", 2), ("high", 8), ("middle", 3)]);
    queue().set("jobqueue.queues", weights)
}

#[rocket::async_test]
async fn strict_priority_serves_a_queue_only_while_weightier_ones_are_empty() {
    let fairing = weighted().set("jobqueue.strict_priority", true);
    let order = order_taken(fairing, &["low", "middle", "high"], 20).await;
    let expected = ["high", "middle", "low"].map(|name| vec![name; 20]).concat();
    assert_eq!(order, expected);
}

#[rocket::async_test]
async fn weights_give_each_queue_a_share_and_the_heavier_more() {
    // Of the first 200 takes 123 are expected of `high` and 31 of `low`, with
    // standard deviations of 7 and 5; equal shares would be 67 each.
    let order = order_taken(weighted(), &["low", "middle", "high"], 200).await;
    let share = |name: &str| order[..200].iter().filter(|taken| *taken == name).count();
    let (high, middle, low) = (share("high"), share("middle"), share("low"));
    assert!(high > 95 && middle > 10 && low > 8, "{high} high, {middle} middle, {low} low");
}

#[rocket::async_test]
async fn shutdown_lets_short_jobs_finish_and_puts_long_ones_back_uncounted() {
    let (tell, mut told) = told();
    let client = client(app(queue().set("jobqueue.shutdown_timeout", "1s"), tell)).await;
    let queue = handle(&client);
    let short = queue.enqueue(work("short sleep")).await.unwrap();
    let long = queue.enqueue(work("sleep")).await.unwrap();
    told.recv().await.unwrap();
    told.recv().await.unwrap();
    // The long one takes 30 s.
    within(Duration::from_secs(15), client.terminate()).await;
    let state = |id| {
        let queue = queue.clone();
        async move { queue.job("default", &id).await.unwrap().unwrap() }
    };
    assert_eq!(state(short.id).await.state, JobState::Completed);
    let long = state(long.id).await;
    assert_eq!((long.state, long.record.retried), (JobState::Pending, 0));
}

#[rocket::async_test]
async fn start_shutdown_and_close_can_be_repeated() {
    let (tell, mut told) = told();
    let client = client(app(queue(), tell)).await;
    let queue = handle(&client);
    queue.shutdown().await;
    queue.shutdown().await;
    queue.enqueue(work("while stopped")).await.unwrap();
    queue.start().unwrap();
    queue.start().unwrap();
    assert_eq!(told.recv().await.unwrap().0, "while stopped");
    queue.close().await;
    queue.close().await;
    assert!(queue.enqueue(work("closed")).await.unwrap_err().is_closed());
    assert!(queue.start().is_ok(), "starting a closed queue does nothing");
    client.terminate().await;
}

#[rocket::async_test]
async fn a_dropped_application_leaves_no_worker_behind() {
    let (tell, mut told) = told();
    let client = client(app(queue(), tell)).await;
    let queue = handle(&client);
    drop(client);
    queue.enqueue(work("orphan")).await.unwrap();
    let ran = within(PATIENCE, told.recv()).await;
    // The channel has ended: nobody holds the state of the handlers any more.
    assert!(ran.is_none(), "a worker outlived its application: {ran:?}");
}

#[rocket::async_test]
async fn two_applications_in_one_process_do_not_disturb_each_other() {
    let ((first_tell, mut first), (second_tell, mut second)) = (told(), told());
    let one = client(app(queue(), first_tell)).await;
    let two = client(app(queue(), second_tell)).await;
    handle(&one).enqueue(work("one")).await.unwrap();
    handle(&two).enqueue(work("two")).await.unwrap();
    assert_eq!(first.recv().await.unwrap().0, "one");
    assert_eq!(second.recv().await.unwrap().0, "two");
    one.terminate().await;
    handle(&two).enqueue(work("three")).await.unwrap();
    assert_eq!(second.recv().await.unwrap().0, "three");
    two.terminate().await;
}

#[rocket::async_test]
async fn a_process_without_worker_enqueues_and_runs_nothing() {
    let (tell, mut told) = told();
    let client = client(app(queue().set("jobqueue.worker", false), tell)).await;
    let queue = handle(&client);
    let receipt = queue.enqueue(work("for others")).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), told.recv()).await.is_err());
    let job = queue.job("default", &receipt.id).await.unwrap().unwrap();
    assert_eq!(job.state, JobState::Pending);
    client.terminate().await;
}

#[rocket::async_test]
async fn a_unique_job_is_refused_while_the_first_one_waits() {
    let (tell, _told) = told();
    let client = client(app(queue().set("jobqueue.worker", false), tell)).await;
    let queue = handle(&client);
    let lock = Duration::from_secs(60);
    let first = queue.enqueue(work("once")).unique_for(lock).await.unwrap();
    let error = queue.enqueue(work("once")).unique_for(lock).await.unwrap_err();
    assert!(error.is_duplicate() && error.to_string().contains(first.id.as_str()), "{error}");
    let error = queue.enqueue(work("other")).id(first.id.as_str()).await.unwrap_err();
    assert!(error.is_id_conflict(), "{error}");
    client.terminate().await;
}

#[rocket::async_test]
async fn jobs_are_the_same_by_what_was_chosen() {
    let (tell, _told) = told();
    let client = client(app(queue().set("jobqueue.worker", false), tell)).await;
    let queue = handle(&client);
    let by_field = |user: u32, text: &str| {
        let payload = format!(r#"{{"user":{user},"text":"{text}"}}"#);
        queue.enqueue_raw("note", Some(payload.into())).unique_for(MINUTE).unique_by(["user"])
    };
    let first = by_field(7, "a").await.unwrap();
    assert_eq!(by_field(7, "b").await.unwrap_err().holder(), Some(&first.id));
    by_field(8, "a").await.unwrap();
    // In bulk too, and with another key than the fields.
    let drafts = ["user-7", "user-7", "user-8"].map(|key| {
        rocket_jobqueue::Draft::raw("note", Some(key.into())).unique_for(MINUTE).unique_key(key)
    });
    let outcomes = queue.enqueue_all(drafts).await;
    let stored: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(stored, [true, false, true]);
    client.terminate().await;
}

/// Jobs of a user are the same, whenever they were asked for.
#[derive(serde::Serialize, serde::Deserialize)]
struct Rebuild {
    user: u32,
    asked_at: u32,
}

impl rocket_jobqueue::Job for Rebuild {
    const TYPE: &'static str = "rebuild";

    fn unique_key(&self) -> Option<String> {
        Some(format!("user-{}", self.user))
    }
}

#[rocket::async_test]
async fn a_job_type_may_have_a_key_of_its_own() {
    async fn rebuild(_: Rebuild, _: rocket_jobqueue::JobContext) -> Result<(), String> {
        Ok(())
    }
    let (tell, _told) = told();
    let queue = queue().handle(rebuild).set("jobqueue.worker", false);
    let client = client(app(queue, tell)).await;
    let queue = handle(&client);
    let of = |user, asked_at| Rebuild { user, asked_at };
    let first = queue.enqueue(of(7, 1)).unique_for(MINUTE).await.unwrap();
    let second = queue.enqueue(of(7, 2)).unique_for(MINUTE).await.unwrap_err();
    assert_eq!(second.holder(), Some(&first.id));
    queue.enqueue(of(8, 1)).unique_for(MINUTE).await.unwrap();
    queue.enqueue(of(7, 3)).await.expect("without a lock the key says nothing");
    queue
        .enqueue(of(7, 4))
        .unique_for(MINUTE)
        .unique_key("x")
        .await
        .expect("a caller's key counts");
    let drafts = [rocket_jobqueue::Draft::new(of(7, 5)).unique_for(MINUTE)];
    assert!(queue.enqueue_all(drafts).await.remove(0).unwrap_err().is_duplicate());
    client.terminate().await;
}

#[rocket::async_test]
async fn values_out_of_their_domain_are_refused_before_anything_is_stored() {
    let (tell, _told) = told();
    let client = client(app(queue().set("jobqueue.worker", false), tell)).await;
    let queue = handle(&client);
    let errors = [
        queue.enqueue_raw(" ", None).await.unwrap_err(),
        queue.enqueue(work("x")).queue("a b").await.unwrap_err(),
        queue.enqueue(work("x")).id("").await.unwrap_err(),
        queue.enqueue(work("x")).unique_for(Duration::from_millis(999)).await.unwrap_err(),
        queue.enqueue(work("x")).until(Until::Expiry).await.unwrap_err(),
        queue.enqueue(work("x")).unique_key("x").await.unwrap_err(),
        queue.enqueue(work("x")).unique_for(MINUTE).unique_by(["none"]).await.unwrap_err(),
        queue.enqueue(work("x")).expires_in(Duration::ZERO).await.unwrap_err(),
        queue.enqueue(work("x")).expires_in(MINUTE).group("g").await.unwrap_err(),
        queue.enqueue_raw("big", Some(vec![0; 1024 * 1024 + 1])).await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_invalid() && error.to_string().contains("expected"), "{error}");
    }
    client.terminate().await;
}

#[get("/")]
async fn names_the_guard(_queue: &JobQueue) {}

#[rocket::async_test]
async fn a_route_that_names_the_guard_without_the_fairing_stops_the_launch() {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment).mount("/", routes![names_the_guard]);
    let test = "a_route_that_names_the_guard_without_the_fairing_stops_the_launch";
    let line = refused(test, rocket).await;
    assert_says(&line, &["`JobQueue`", "add `.attach(JobQueue::fairing())`"]);
}

#[rocket::async_test]
async fn a_handler_whose_state_nobody_manages_stops_the_launch() {
    async fn needy(_job: Work, _state: Managed<Arc<u128>>) -> Result<(), JobError> {
        Ok(())
    }
    let (tell, _told) = told();
    let rocket = app(JobQueue::fairing().memory().handle(needy), tell);
    let line = refused("a_handler_whose_state_nobody_manages_stops_the_launch", rocket).await;
    assert_says(&line, &["`Managed<", "Arc<u128>", "add `.manage("]);
}

#[rocket::async_test]
async fn state_managed_by_a_later_fairing_is_found() {
    async fn needy(_job: Work, state: Managed<Arc<u128>>) -> Result<u64, JobError> {
        Ok(**state as u64)
    }
    let (tell, _told) = told();
    let late = rocket::fairing::AdHoc::on_ignite("late", |rocket| async {
        rocket.manage(Arc::new(7_u128))
    });
    let fairing = JobQueue::fairing().memory().handle(needy);
    let client = client(app(fairing, tell).attach(late)).await;
    let queue = handle(&client);
    let receipt = queue.enqueue(work("needs")).await.unwrap();
    let job = until_state(&queue, &receipt.id, JobState::Completed).await;
    assert_eq!(job.result.as_deref(), Some(&b"7"[..]));
    client.terminate().await;
}

#[rocket::async_test]
async fn two_handlers_of_one_type_stop_the_launch() {
    let (tell, _told) = told();
    let twice = app(queue().handle(do_work), tell);
    let line = refused("two_handlers_of_one_type_stop_the_launch", twice).await;
    assert_says(&line, &["\"test:work\"", "two handlers"]);
}

#[rocket::async_test]
async fn two_fairings_stop_the_launch() {
    let (tell, _told) = told();
    let twice = app(queue(), tell).attach(JobQueue::fairing().memory());
    let line = refused("two_fairings_stop_the_launch", twice).await;
    assert_says(&line, &["two `JobQueue::fairing()` are attached", "attach one"]);
}

#[rocket::async_test]
async fn two_rate_limits_stop_the_launch() {
    let (tell, _told) = told();
    let limit = RateLimit::fairing;
    let twice = app(queue(), tell).attach(limit()).attach(limit());
    let line = refused("two_rate_limits_stop_the_launch", twice).await;
    assert_says(&line, &["two `RateLimit::fairing()` are attached", "attach one"]);
}

#[rocket::get("/ui/<page>")]
fn own_page(page: &str) -> String {
    format!("own page {page}")
}

#[rocket::get("/<_..>")]
fn own_rest() -> &'static str {
    "own rest"
}

/// The dashboard's routes are one a method, which leaves to others what it does not have.
#[rocket::async_test]
async fn an_application_has_routes_beside_those_of_the_dashboard() {
    let (tell, _told) = told();
    let queue = queue().set("jobqueue.base", "/jobs").admin_guard::<Anybody>();
    let app = app(queue, tell).mount("/jobs", rocket::routes![own_page, own_rest]);
    let client = client(app).await;
    for (path, expected) in [
        ("/ui/jobs", "<!DOCTYPE html>"),
        ("/ui", "<!DOCTYPE html>"),
        ("/ui/own", "own page own"),
        ("/ui/jobs/too/many/of/them", "own rest"),
        ("/elsewhere", "own rest"),
    ] {
        let answer = client.get(format!("/jobs{path}")).header(Accept::HTML).dispatch().await;
        let text = answer.into_string().await.unwrap_or_default();
        assert!(text.starts_with(expected), "{path}: {text:.200}");
    }
    assert_eq!(client.head("/jobs/ui/jobs").dispatch().await.status(), Status::Ok);
    client.terminate().await;
}

/// Rocket logs one line for each route and catcher at launch.
#[rocket::async_test]
async fn the_launch_log_has_at_most_80_lines_of_ours() {
    let (tell, _told) = told();
    let client = client(app(queue(), tell)).await;
    let rocket = client.rocket();
    let (routes, catchers) = (rocket.routes().count(), rocket.catchers().count());
    assert!(routes > 50 && routes + catchers <= 80, "{routes} routes, {catchers} catchers");
    client.terminate().await;
}

#[rocket::async_test]
async fn a_login_that_is_no_address_stops_the_launch() {
    let (tell, _told) = told();
    let wrong = app(queue().login_url("//evil.example"), tell);
    let line = refused("a_login_that_is_no_address_stops_the_launch", wrong).await;
    assert_says(&line, &["login_url: expected a path such as /login", "\"//evil.example\""]);
}

#[rocket::async_test]
async fn a_wrong_setting_stops_the_launch() {
    let (tell, _told) = told();
    let wrong = app(queue().set("jobqueue.concurrency", "many"), tell);
    let line = refused("a_wrong_setting_stops_the_launch", wrong).await;
    assert_says(&line, &["tests/it/plugin.rs", "jobqueue.concurrency: expected", "found \"many\""]);
}

#[rocket::async_test]
async fn a_wrong_setting_that_two_fairings_read_is_reported_once() {
    let (tell, _told) = told();
    let wrong = rocket::Config::figment().merge(("log_level", "off"));
    let wrong = wrong.merge(("jobqueue.concurrency", "many"));
    let wrong = rocket::custom(wrong).manage(tell).attach(queue()).attach(RateLimit::fairing());
    let test = "a_wrong_setting_that_two_fairings_read_is_reported_once";
    let line = refused(test, wrong).await;
    assert_says(&line, &["the job queue cannot start", "jobqueue.concurrency: expected"]);
}

#[rocket::async_test]
async fn a_handler_can_enqueue_more_jobs() {
    #[derive(Serialize, Deserialize)]
    struct Parent;
    impl Job for Parent {
        const TYPE: &'static str = "test:parent";
    }
    async fn parent(_job: Parent, queue: Managed<JobQueue>) -> Result<(), rocket_jobqueue::Error> {
        queue.enqueue(work("child")).await?;
        Ok(())
    }
    let (tell, mut told) = told();
    let client = client(app(queue().handle(parent), tell)).await;
    handle(&client).enqueue(Parent).await.unwrap();
    assert_eq!(told.recv().await.unwrap().0, "child");
    client.terminate().await;
}
