//! The stored data's format has a version: a process that does not know it says so and
//! reads nothing wrongly.

use std::time::Duration;

use crate::support::{RedisServer, eventually};
use rocket::http::Status;
use rocket::local::asynchronous::Client;
use rocket_jobqueue::{JobQueue, JobQueueFairing};

const KEY: &str = "asynq:x:format";
/// The store is looked at each 5 s; the rest is room for a busy machine.
const SEEN: Duration = Duration::from_secs(60);

fn fairing(redis: &RedisServer) -> JobQueueFairing {
    JobQueue::fairing()
        .environment("embedded")
        .set("jobqueue.store", "redis")
        .set("jobqueue.log_to_stderr", false)
        .set("databases.jobqueue.url", format!("redis://{}", redis.addr()))
}

async fn launch(redis: &RedisServer) -> Result<Client, String> {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment).attach(fairing(redis));
    // Rocket panics for an error that nobody has looked at.
    Client::untracked(rocket).await.map_err(|error| error.to_string())
}

async fn is_ready(client: &Client, wanted: Status) -> bool {
    let ready = || async {
        client.get("/api/dm-jobqueue/health/ready").dispatch().await.status() == wanted
    };
    eventually(SEEN, ready).await
}

#[rocket::async_test]
async fn the_format_is_noted_at_launch_and_in_a_server_that_was_emptied() {
    let redis = RedisServer::start::<&str>(&[]);
    let client = launch(&redis).await.expect("it launches");
    let noted = || async { redis.cli(&["GET", KEY]) == "1" };
    assert!(eventually(SEEN, noted).await);
    redis.cli(&["FLUSHALL"]);
    assert!(eventually(SEEN, noted).await);
    client.terminate().await;
}

#[rocket::async_test]
async fn data_of_a_newer_format_stops_the_launch() {
    let redis = RedisServer::start::<&str>(&[]);
    redis.cli(&["SET", KEY, "2"]);
    assert!(launch(&redis).await.is_err());
    assert_eq!(redis.cli(&["GET", KEY]), "2", "it is left as it is");
}

#[rocket::async_test]
async fn a_running_process_is_not_ready_while_a_newer_format_is_there() {
    let redis = RedisServer::start::<&str>(&[]);
    let client = launch(&redis).await.expect("it launches");
    assert!(is_ready(&client, Status::Ok).await);
    redis.cli(&["SET", KEY, "2"]);
    assert!(is_ready(&client, Status::ServiceUnavailable).await);
    // Work goes on: an upgrade may replace one process after the other.
    let queue: &JobQueue = client.rocket().state().expect("the fairing manages it");
    queue.enqueue_raw("mail", None).delay(SEEN).await.expect("it is stored");
    redis.cli(&["SET", KEY, "1"]);
    assert!(is_ready(&client, Status::Ok).await);
    client.terminate().await;
}
