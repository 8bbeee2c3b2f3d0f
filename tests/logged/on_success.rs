//! Jobs of a successful answer that the store does not take, with `on_success_failure = "log"`.

use rocket::local::asynchronous::Client;
use rocket::{post, routes};
use rocket_jobqueue::{Draft, Job, JobQueue, OnSuccess};
use serde::{Deserialize, Serialize};

use crate::support::RedisServer;
use crate::support::anybody::Anybody;
use crate::support::log::Log;

#[derive(Serialize, Deserialize)]
struct Welcome {
    user: u64,
}

impl Job for Welcome {
    const TYPE: &'static str = "mail:welcome";
}

#[post("/sign-up")]
fn sign_up(jobs: OnSuccess<'_>) -> &'static str {
    for user in [17_001, 17_002] {
        jobs.enqueue(Draft::new(Welcome { user })).unwrap();
    }
    "welcome"
}

#[rocket::async_test]
async fn jobs_that_are_lost_after_a_success_are_logged_and_counted() {
    let log = Log::of_this_process();
    let server = RedisServer::start::<&str>(&[]);
    let queue = JobQueue::fairing()
        .environment("staging")
        .view_guard::<Anybody>()
        .set("databases.jobqueue.url", format!("redis://{}", server.addr()))
        .set("jobqueue.on_success_failure", "log")
        .set("jobqueue.worker", false);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment).attach(queue).mount("/", routes![sign_up]);
    let client = Client::untracked(rocket).await.unwrap();
    // It reads, and stores nothing more.
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);

    assert_eq!(client.post("/sign-up").dispatch().await.status().code, 200, "it stays a success");

    let lines = log.lines(&["ERROR", "2 jobs of a successful answer were not enqueued"]);
    assert_eq!(lines.len(), 1, "one line for the answer: {lines:?}");
    assert!(!lines[0].contains("17001"), "no payload: {}", lines[0]);
    let metrics = client.get("/api/dm-jobqueue/metrics").dispatch().await;
    let metrics = metrics.into_string().await.unwrap();
    let counted = "jobqueue_on_success_lost_jobs_total 2";
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
}
