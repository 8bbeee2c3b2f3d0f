//! How attempts end, and what the other side sees of it: retries, archives,
//! revocations, locks, counters, pauses, and workers in the registry.

use std::time::Duration;

use rocket_jobqueue::Until;
use serde_json::json;

use super::{BOTH, Cases};
use crate::bench::{Bench, Side};
use crate::settings::Order;

pub fn add(cases: &mut Cases) {
    cases.both(BOTH, "a failed job is tried again until it succeeds", retries);
    cases.both(BOTH, "a job whose retries are used up is archived with its error", used_up);
    cases.both(BOTH, "a job that fails with no retry allowed is archived at once", no_retry);
    cases.both(BOTH, "a handler that gives up archives the job, retries left or not", skip);
    cases.both(BOTH, "a revoked job is gone, counted as no failure", revoke);
    cases.both(BOTH, "a panic is a failed attempt", panics);
    cases.both(BOTH, "a unique job is refused on both sides until it succeeds", unique);
    cases.both(BOTH, "a unique lock is kept by a job that was archived", unique_archived);
    cases.both(BOTH, "a scheduled job's lock lasts beyond its due time", unique_scheduled);
    cases.both(BOTH, "the lock tells an absent payload from an empty one", unique_empty);
    cases.one(BOTH[1], "a lock until expiry outlives a Go worker's success", until_expiry);
    cases.one(BOTH[1], "a lock until the start is to Go one until success", until_start);
    cases.one(BOTH[1], "a job that must start in time is archived by us, not by Go", expires_in);
    cases.both(BOTH, "counters of the day and in all are right for both inspectors", counters);
    cases.both(BOTH, "a queue paused by one side is not served by the other", pause);
    cases.both(BOTH, "headers and payload outlive retries by the other side", kept);
    cases.one(BOTH[0], "a field of a newer Asynq outlives retry and completion", unknown_field);
    cases.one(
        BOTH[0],
        "a job type that Rust has no handler for waits for Go unharmed",
        unknown_type,
    );
    cases.both(BOTH, "a job that failed on one side is finished by the other", handed_over);
    cases.both(BOTH, "jobs running at a stop go back in line and run on the other side", drained);
}

async fn retries(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup().retry_delay(100)).await;
    let order = Order { max_retry: Some(5), ..Order::that(r#"{"do":"fail","times":2}"#) };
    let id = bench.put(side, &order).await;
    let seen = bench.reached("default", &id, "retry").await;
    assert!(seen["last_error"].as_str().unwrap().starts_with("failed on purpose: attempt "));
    let third = bench.noted(&id, "end", 3).await;
    assert_eq!((third.retried, third.word.as_str()), (2, "done"));
    bench.gone("default", &id).await;
    worker.stop().await;
}

async fn used_up(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup().retry_delay(100)).await;
    let order = Order { max_retry: Some(1), ..Order::that(r#"{"do":"fail","times":9}"#) };
    let id = bench.put(side, &order).await;
    let seen = bench.reached("default", &id, "archived").await;
    assert_eq!(seen["last_error"], "failed on purpose: attempt 2");
    assert_eq!(seen["retried"], 1);
    assert_ne!(seen["last_failed_at"], 0);
    let starts = bench.ledger().iter().filter(|line| line.event == "start").count();
    assert_eq!(starts, 2);
    worker.stop().await;
}

async fn no_retry(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup()).await;
    let order = Order { max_retry: Some(0), ..Order::that(r#"{"do":"fail","times":9}"#) };
    let id = bench.put(side, &order).await;
    let seen = bench.reached("default", &id, "archived").await;
    assert_eq!((&seen["retried"], &seen["max_retry"]), (&json!(0), &json!(0)));
    worker.stop().await;
}

async fn skip(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup()).await;
    let id = bench.put(side, &Order::that(r#"{"do":"skip"}"#)).await;
    let seen = bench.reached("default", &id, "archived").await;
    assert!(seen["last_error"].as_str().unwrap().starts_with("never again"), "{seen}");
    assert_eq!(seen["retried"], 0);
    worker.stop().await;
}

/// Today's numbers as both inspectors tell them: processed and failed.
async fn counted(bench: &Bench) -> (u64, u64) {
    let go = bench.ask(json!({"call": "GetQueueInfo", "queue": "default"})).await.unwrap();
    let number = |name: &str| go[name].as_u64().unwrap();
    let name = rocket_jobqueue::QueueName::new("default").unwrap();
    let ours = bench.rust.inspector().queue(&name).await.unwrap();
    assert_eq!((ours.processed, ours.failed), (number("ProcessedTotal"), number("FailedTotal")));
    assert_eq!((ours.processed_today, ours.failed_today), (number("Processed"), number("Failed")));
    (ours.processed, ours.failed)
}

async fn revoke(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup()).await;
    let order = Order { retention: 100, ..Order::that(r#"{"do":"revoke"}"#) };
    let id = bench.put(side, &order).await;
    bench.noted(&id, "end", 1).await;
    bench.gone("default", &id).await;
    assert_eq!(counted(&bench).await, (1, 0));
    worker.stop().await;
}

async fn panics(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup().retry_delay(60_000)).await;
    let id = bench.put(side, &Order::that(r#"{"do":"panic"}"#)).await;
    let seen = bench.reached("default", &id, "retry").await;
    assert!(seen["last_error"].as_str().unwrap().contains("panic"), "{seen}");
    assert_eq!(seen["retried"], 1);
    worker.stop().await;
}

const TAKEN: &str = "task already exists";

async fn unique(bench: Bench, side: Side) {
    let order = Order { unique: 100, ..Order::that(r#"{"do":"fail","times":1}"#) };
    let id = bench.put(side, &order).await;
    let refused = async || {
        for again in [Side::Go, Side::Rust] {
            assert_eq!(bench.produce(again, &order).await.unwrap_err(), TAKEN, "{again:?}");
        }
    };
    refused().await;
    let worker = bench.worker(side.other(), &bench.setup().retry_delay(2000)).await;
    bench.reached("default", &id, "retry").await;
    refused().await;
    bench.gone("default", &id).await;
    worker.stop().await;
    bench.put(side.other(), &order).await;
}

async fn unique_archived(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup()).await;
    let order = Order { unique: 100, ..Order::that(r#"{"do":"skip"}"#) };
    let id = bench.put(side, &order).await;
    bench.reached("default", &id, "archived").await;
    assert_eq!(bench.produce(side.other(), &order).await.unwrap_err(), TAKEN);
    // Deleting it frees the lock, whichever tool deletes.
    bench.ask(json!({"call": "DeleteTask", "queue": "default", "id": id})).await.unwrap();
    bench.put(side.other(), &order).await;
    worker.stop().await;
}

async fn unique_scheduled(bench: Bench, side: Side) {
    let order = Order { unique: 50, r#in: 100, ..Order::plain() };
    bench.put(side, &order).await;
    let key = bench.redis.cli(&["keys", "asynq:{default}:unique:*"]);
    let left: i64 = bench.redis.cli(&["ttl", &key]).parse().unwrap();
    assert!((140..=150).contains(&left), "the lock of {key} lasts {left} s");
    assert_eq!(bench.produce(side.other(), &order).await.unwrap_err(), TAKEN);
}

async fn unique_empty(bench: Bench, side: Side) {
    let absent = Order { payload: None, unique: 100, ..Order::plain() };
    let empty = Order { payload: Some(String::new()), ..absent.clone() };
    bench.put(side, &absent).await;
    bench.put(side.other(), &empty).await;
    assert_eq!(bench.produce(side.other(), &absent).await.unwrap_err(), TAKEN);
    assert_eq!(bench.produce(side, &empty).await.unwrap_err(), TAKEN);
}

/// No client may take this lock.
async fn is_taken(bench: &Bench, order: &Order) {
    for side in [Side::Go, Side::Rust] {
        assert_eq!(bench.produce(side, order).await.unwrap_err(), TAKEN, "{side:?}");
    }
}

async fn until_expiry(bench: Bench) {
    let order = Order { unique: 100, until: Some(Until::Expiry), ..Order::plain() };
    let id = bench.put(Side::Rust, &order).await;
    is_taken(&bench, &order).await;
    let worker = bench.worker(Side::Go, &bench.setup()).await;
    bench.gone("default", &id).await;
    worker.stop().await;
    is_taken(&bench, &order).await;
}

async fn until_start(bench: Bench) {
    let order = Order {
        unique: 100,
        until: Some(Until::Start),
        ..Order::that(r#"{"do":"fail","times":1}"#)
    };
    let id = bench.put(Side::Rust, &order).await;
    let worker = bench.worker(Side::Go, &bench.setup().retry_delay(2000)).await;
    bench.reached("default", &id, "retry").await;
    is_taken(&bench, &order).await;
    bench.gone("default", &id).await;
    worker.stop().await;

    let id = bench.put(Side::Rust, &order).await;
    let worker = bench.worker(Side::Rust, &bench.setup().retry_delay(60_000)).await;
    bench.reached("default", &id, "retry").await;
    worker.stop().await;
    bench.put(Side::Go, &order).await;
}

async fn expires_in(bench: Bench) {
    let order = Order { expires_in: 1, retention: 100, ..Order::plain() };
    let (first, second) = (
        bench.put(Side::Rust, &order).await,
        bench.put(Side::Rust, &order.clone().queue("go")).await,
    );
    tokio::time::sleep(Duration::from_millis(1001)).await;
    let worker = bench.worker(Side::Rust, &bench.setup()).await;
    let seen = bench.reached("default", &first, "archived").await;
    assert_eq!((&seen["last_error"], &seen["retried"]), (&json!("expired"), &json!(0)));
    worker.stop().await;
    let worker = bench.worker(Side::Go, &bench.setup().queues(&[("go", 1)])).await;
    bench.reached("go", &second, "completed").await;
    worker.stop().await;
}

async fn counters(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup().retry_delay(100)).await;
    let good = bench.put(side, &Order::plain()).await;
    let poor = bench.put(side, &Order::that(r#"{"do":"fail","times":1}"#)).await;
    let lost = bench.put(side, &Order::that(r#"{"do":"skip"}"#)).await;
    bench.gone("default", &good).await;
    bench.gone("default", &poor).await;
    bench.reached("default", &lost, "archived").await;
    // A success, a failure and a success, an archive.
    assert_eq!(counted(&bench).await, (4, 2));
    worker.stop().await;
}

async fn pause(bench: Bench, side: Side) {
    let name = rocket_jobqueue::QueueName::new("default").unwrap();
    let inspector = bench.rust.inspector();
    bench.put(side, &Order::plain()).await;
    match side {
        Side::Go => {
            bench.ask(json!({"call": "PauseQueue", "queue": "default"})).await.unwrap();
        }
        Side::Rust => assert!(inspector.pause(&name).await.unwrap()),
    }
    assert!(inspector.queue(&name).await.unwrap().paused);
    let seen = bench.ask(json!({"call": "GetQueueInfo", "queue": "default"})).await.unwrap();
    assert_eq!(seen["Paused"], true);
    let worker = bench.worker(side.other(), &bench.setup()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(bench.ledger().is_empty(), "a paused queue was served");
    match side {
        Side::Go => {
            bench.ask(json!({"call": "UnpauseQueue", "queue": "default"})).await.unwrap();
        }
        Side::Rust => assert!(inspector.resume(&name).await.unwrap()),
    }
    bench.until("the job ran", async || !bench.ledger().is_empty()).await;
    worker.stop().await;
}

async fn kept(bench: Bench, side: Side) {
    let headers = [("trace".to_owned(), "77".to_owned())].into_iter().collect();
    let order = Order {
        headers: Some(headers),
        retention: 100,
        ..Order::that(r#"{"do":"fail","times":1}"#)
    };
    let id = bench.put(side, &order).await;
    let worker = bench.worker(side.other(), &bench.setup().retry_delay(100)).await;
    let seen = bench.reached("default", &id, "completed").await;
    assert_eq!(seen["headers"], json!({"trace": "77"}));
    assert_eq!(seen["hex"], crate::settings::hex(&order.bytes().unwrap()));
    worker.stop().await;
}

async fn handed_over(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup().retry_delay(3000)).await;
    let id = bench.put(side, &Order::that(r#"{"do":"fail","times":1}"#)).await;
    bench.reached("default", &id, "retry").await;
    worker.stop().await;
    let worker = bench.worker(side, &bench.setup()).await;
    let line = bench.noted(&id, "end", 2).await;
    assert_eq!((line.retried, line.word.as_str()), (1, "done"));
    bench.gone("default", &id).await;
    worker.stop().await;
}

async fn drained(bench: Bench, side: Side) {
    let order = Order::that(r#"{"do":"sleep","ms":13000}"#);
    let id = bench.put(side, &order).await;
    let worker = bench.worker(side.other(), &bench.setup()).await;
    bench.noted(&id, "start", 1).await;
    // 8 s for what runs, on either side; then it is put back.
    worker.stop().await;
    let seen = bench.agreed("default", &id).await;
    assert_eq!((&seen["state"], &seen["retried"]), (&json!("pending"), &json!(0)));
    let worker = bench.worker(side, &bench.setup()).await;
    bench.noted(&id, "start", 2).await;
    bench.gone("default", &id).await;
    worker.stop().await;
}

async fn unknown_field(bench: Bench) {
    let order = Order { retention: 100, ..Order::that(r#"{"do":"fail","times":1}"#) };
    let id = bench.put(Side::Go, &order).await;
    let client = redis::Client::open(format!("redis://{}", bench.redis.addr())).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("asynq:{{default}}:t:{id}");
    let mut message = async |set: Option<&[u8]>| -> Vec<u8> {
        if let Some(bytes) = set {
            let set = redis::Cmd::hset(&key, "msg", bytes);
            set.exec_async(&mut redis).await.unwrap();
        }
        redis::Cmd::hget(&key, "msg").query_async(&mut redis).await.unwrap()
    };
    // Field 16, which Asynq does not use yet: a text of three letters.
    let field = b"\x82\x01\x03new";
    let newer = [message(None).await, field.to_vec()].concat();
    message(Some(&newer)).await;
    let worker = bench.worker(Side::Rust, &bench.setup().retry_delay(2000)).await;
    let holds = |bytes: Vec<u8>| bytes.windows(field.len()).any(|part| part == field);
    bench.reached("default", &id, "retry").await;
    assert!(holds(message(None).await), "lost by the retry");
    bench.reached("default", &id, "completed").await;
    assert!(holds(message(None).await), "lost by the completion");
    worker.stop().await;
}

async fn unknown_type(bench: Bench) {
    let rust = bench.worker(Side::Rust, &bench.setup()).await;
    let order = Order { r#type: "interop:go-only".into(), ..Order::plain() };
    let id = bench.put(Side::Go, &order).await;
    let parked = async || {
        let job = bench.rust.look("default", &id).await;
        job.is_some_and(|job| !matches!(job["state"].as_str(), Some("pending" | "active")))
    };
    bench.until("Rust has put it aside", parked).await;
    let seen = bench.agreed("default", &id).await;
    assert_eq!(seen["retried"], 0, "an attempt was counted");
    rust.stop().await;
    let go = bench.worker(Side::Go, &bench.setup()).await;
    let run = json!({"call": "RunTask", "queue": "default", "id": id});
    bench.ask(run).await.unwrap();
    let line = bench.noted(&id, "end", 1).await;
    assert_eq!((line.retried, line.peer.as_str()), (0, "go"));
    go.stop().await;
}
