//! How late jobs start, on both stores. Never early, and late by so little that
//! no scheduler could do it that looks for due jobs at intervals.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod support;

use std::time::{Duration, Instant, SystemTime};

use rocket::local::asynchronous::Client;
use rocket::tokio;
use rocket_jobqueue::{Job, JobError, JobQueue, JobQueueFairing, Managed};
use serde::{Deserialize, Serialize};
use support::RedisServer;
use tokio::sync::mpsc;

/// The most that is allowed at the median. A scheduler that polls once in 250 ms
/// would be late by 125 ms at the median, Asynq's own (5 s) by 2.5 s. On an idle
/// machine the median is about a millisecond; the rest is room for a busy one.
const MEDIAN: Duration = Duration::from_millis(50);

#[derive(Serialize, Deserialize)]
struct Tick {
    number: usize,
}

impl Job for Tick {
    const TYPE: &'static str = "test:tick";
}

type Start = (usize, SystemTime, Instant);

#[derive(Clone)]
struct Tell(mpsc::UnboundedSender<Start>);

async fn tick(job: Tick, tell: Managed<Tell>) -> Result<(), JobError> {
    let _ = tell.0.send((job.number, SystemTime::now(), Instant::now()));
    Ok(())
}

struct App {
    client: Client,
    queue: JobQueue,
    started: mpsc::UnboundedReceiver<Start>,
}

impl App {
    async fn launch(fairing: JobQueueFairing) -> Self {
        let (tell, started) = mpsc::unbounded_channel();
        let figment = rocket::Config::figment().merge(("log_level", "off"));
        let rocket = rocket::custom(figment).manage(Tell(tell)).attach(fairing.handle(tick));
        let client = Client::untracked(rocket).await.expect("the application launches");
        let queue = client.rocket().state::<JobQueue>().expect("the queue is managed").clone();
        Self { client, queue, started }
    }

    async fn next(&mut self) -> Start {
        let start = tokio::time::timeout(Duration::from_secs(10), self.started.recv()).await;
        start.expect("the job starts within 10 s").expect("the application lives")
    }
}

fn on_redis(redis: &RedisServer) -> JobQueueFairing {
    JobQueue::fairing().set("databases.jobqueue.url", format!("redis://{}", redis.addr()))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    println!("median {:?}, most {:?}", times[times.len() / 2], times[times.len() - 1]);
    times[times.len() / 2]
}

/// 40 jobs due at instants 37 ms apart, enqueued from the last to the first, so
/// that each becomes the next one to wait for.
async fn delayed_jobs_are_punctual(fairing: JobQueueFairing) {
    const JOBS: usize = 40;
    let mut app = App::launch(fairing).await;
    let base = SystemTime::now() + Duration::from_millis(700);
    let due = |number: usize| base + Duration::from_millis(37) * number as u32;
    for number in (0..JOBS).rev() {
        app.queue.enqueue(Tick { number }).at(due(number)).await.unwrap();
    }
    assert!(SystemTime::now() < base, "enqueueing took so long that jobs were due already");
    let mut late = Vec::new();
    for _ in 0..JOBS {
        let (number, at, _) = app.next().await;
        match at.duration_since(due(number)) {
            Ok(lateness) => late.push(lateness),
            Err(early) => panic!("job {number} started {:?} early", early.duration()),
        }
    }
    let median = median(late);
    assert!(median < MEDIAN, "late by {median:?} at the median");
    app.client.terminate().await;
}

/// 20 jobs, each enqueued once the worker is idle and waits.
async fn a_fresh_job_starts_at_once(fairing: JobQueueFairing) {
    let mut app = App::launch(fairing).await;
    let mut waits = Vec::new();
    for number in 0..20 {
        tokio::time::sleep(Duration::from_millis(60 + 13 * (number as u64 % 5))).await;
        let enqueued = Instant::now();
        app.queue.enqueue(Tick { number }).await.unwrap();
        let (started, _, at) = app.next().await;
        assert_eq!(started, number);
        waits.push(at - enqueued);
    }
    let median = median(waits);
    assert!(median < MEDIAN, "started {median:?} after it was enqueued, at the median");
    app.client.terminate().await;
}

#[rocket::async_test]
async fn delayed_jobs_in_memory_are_never_early_and_hardly_late() {
    delayed_jobs_are_punctual(JobQueue::fairing().memory()).await;
}

#[rocket::async_test]
async fn delayed_jobs_in_redis_are_never_early_and_hardly_late() {
    let redis = RedisServer::start::<&str>(&[]);
    delayed_jobs_are_punctual(on_redis(&redis)).await;
}

#[rocket::async_test]
async fn a_fresh_job_in_memory_starts_at_once_on_an_idle_worker() {
    a_fresh_job_starts_at_once(JobQueue::fairing().memory()).await;
}

#[rocket::async_test]
async fn a_fresh_job_in_redis_starts_at_once_on_an_idle_worker() {
    let redis = RedisServer::start::<&str>(&[]);
    a_fresh_job_starts_at_once(on_redis(&redis)).await;
}
