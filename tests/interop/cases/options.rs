//! Every option of an enqueue, from one side's client to the other side's worker.
//! Before the worker starts, both inspectors must tell the same about the job.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{BOTH, Cases};
use crate::bench::{Bench, Side};
use crate::rust_peer::millis;
use crate::settings::{Line, Order, Setup, WORK, hex};

pub fn add(cases: &mut Cases) {
    cases.both(BOTH, "type, payload and id arrive, and nothing stays behind", plain);
    cases.both(BOTH, "an absent payload, an empty one and one of all bytes arrive", payloads);
    cases.both(BOTH, "headers arrive, Unicode and empty values among them", headers);
    cases.one(
        BOTH[0],
        "a trace goes from a job to the job it enqueues, and across to the other side",
        trace,
    );
    cases.both(BOTH, "jobs in several queues go to the queue they name", queues);
    cases.both(BOTH, "the retry limit arrives, zero included", max_retry);
    cases.both(BOTH, "a timeout becomes the attempt's deadline and ends it", timeout);
    cases.both(BOTH, "a deadline arrives; of deadline and timeout the earlier rules", deadline);
    cases.both(BOTH, "a deadline that has passed fails the job unrun", past_deadline);
    cases.both(BOTH, "a delayed job starts after its due time and within two seconds", delayed);
    cases.both(BOTH, "a job for an instant starts after it and within two seconds", at_an_instant);
    cases.both(BOTH, "an instant that has passed is now", in_the_past);
    cases.both(BOTH, "a retained job keeps its result, and goes when its time is over", retention);
    cases.both(BOTH, "a result of all bytes is readable on the other side", result);
    cases.both(BOTH, "an id in use is refused on either side, also after completion", own_id);
    cases.one(BOTH[1], "jobs enqueued many at once arrive with all their options", many);
    cases.both(
        BOTH,
        "the defaults of a job without options are what the client promises",
        defaults,
    );
}

fn now() -> i64 {
    millis(SystemTime::now())
}

/// Runs one job of this side on the other side's worker; what its handler saw.
async fn ran(bench: &Bench, side: Side, order: Order) -> Line {
    let id = bench.put(side, &order).await;
    let worker = bench.worker(side.other(), &bench.setup()).await;
    let line = bench.noted(&id, "end", 1).await;
    worker.stop().await;
    line
}

async fn plain(bench: Bench, side: Side) {
    let order =
        Order { payload: Some(r#"{"user":7,"text":"こんにちは"}"#.into()), ..Order::plain() };
    let id = bench.put(side, &order).await;
    let seen = bench.agreed("default", &id).await;
    assert_eq!(seen["state"], "pending");
    assert_eq!(seen["hex"], hex(&order.bytes().unwrap()));
    let worker = bench.worker(side.other(), &bench.setup()).await;
    let line = bench.noted(&id, "end", 1).await;
    assert_eq!((line.r#type.as_str(), line.id.as_str()), (WORK, id.as_str()));
    assert_eq!((line.queue.as_str(), line.retried), ("default", 0));
    assert_eq!(line.hex, hex(&order.bytes().unwrap()));
    bench.gone("default", &id).await;
    worker.stop().await;
    let left = bench.redis.cli(&["keys", "asynq:{default}:*"]);
    let mut left: Vec<&str> = left.lines().filter(|key| !key.contains(":processed")).collect();
    // What the two workers keep for themselves is not a trace of the job.
    left.retain(|key| !key.contains(":x:"));
    assert_eq!(left, Vec::<&str>::new());
}

async fn payloads(bench: Bench, side: Side) {
    let every = Order { hex: hex(&(0..=255).collect::<Vec<u8>>()), ..Order::plain() };
    let absent = Order { payload: None, ..Order::plain() };
    let empty = Order { payload: Some(String::new()), ..Order::plain() };
    let worker = bench.worker(side.other(), &bench.setup()).await;
    for order in [every, absent, empty] {
        let id = bench.put(side, &order).await;
        let line = bench.noted(&id, "end", 1).await;
        assert_eq!(line.hex, hex(&order.bytes().unwrap_or_default()));
    }
    worker.stop().await;
}

async fn headers(bench: Bench, side: Side) {
    let pairs = [("trace-id", "00-4bf9-01"), ("名前", "値 \"quoted\""), ("empty", "")];
    let headers: BTreeMap<String, String> =
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let line = ran(&bench, side, Order { headers: Some(headers.clone()), ..Order::plain() }).await;
    assert_eq!(line.headers, Some(headers));
}

async fn trace(bench: Bench) {
    let pairs = [
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "congo=t61rcWkgMzE"),
    ];
    let headers: BTreeMap<String, String> =
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let order = Order { headers: Some(headers.clone()), ..Order::that(r#"{"do":"child"}"#) };
    let id = bench.put(Side::Go, &order).await;
    let ours = bench.worker(Side::Rust, &bench.setup()).await;
    let theirs = bench.worker(Side::Go, &bench.setup().queues(&[("children", 1)])).await;
    assert_eq!(bench.noted(&id, "end", 1).await.peer, "rust");
    let child = bench.noted(&format!("child-of-{id}"), "end", 1).await;
    assert_eq!((child.peer.as_str(), child.headers), ("go", Some(headers)));
    ours.stop().await;
    theirs.stop().await;
}

async fn queues(bench: Bench, side: Side) {
    let names = ["critical", "low", "Gross-Klein_1"];
    let mut ids = Vec::new();
    for name in names {
        ids.push(bench.put(side, &Order::plain().queue(name)).await);
    }
    let weights = [("critical", 6), ("low", 1), ("Gross-Klein_1", 2)];
    let worker = bench.worker(side.other(), &bench.setup().queues(&weights)).await;
    for (name, id) in names.into_iter().zip(&ids) {
        assert_eq!(bench.noted(id, "end", 1).await.queue, name);
    }
    worker.stop().await;
    let mut known: Vec<String> =
        serde_json::from_value(bench.ask(json!({"call": "Queues"})).await.unwrap()).unwrap();
    known.sort();
    assert_eq!(known, ["Gross-Klein_1", "critical", "low"]);
    let ours = bench.rust.inspector().queues().await.unwrap();
    assert_eq!(ours.iter().map(|name| name.as_str()).collect::<Vec<_>>(), known);
}

async fn max_retry(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup()).await;
    for retries in [0, 3, 1000] {
        let order = Order { max_retry: Some(retries), ..Order::plain() };
        let id = bench.put(side, &order).await;
        assert_eq!(bench.noted(&id, "end", 1).await.max_retry, retries);
    }
    worker.stop().await;
}

async fn timeout(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup().retry_delay(60_000)).await;
    let order = Order { timeout: 100, ..Order::plain() };
    let line = bench.noted(&bench.put(side, &order).await, "end", 1).await;
    let given = line.deadline - line.at / 1000;
    assert!((95..=101).contains(&given), "{given} s from start to deadline");

    let order = Order { timeout: 1, ..Order::that(r#"{"do":"sleep","ms":60000}"#) };
    let id = bench.put(side, &order).await;
    let seen = bench.reached("default", &id, "retry").await;
    assert_eq!(seen["last_error"], "context deadline exceeded");
    assert_eq!((&seen["retried"], &seen["timeout"]), (&json!(1), &json!(1.0)));
    worker.stop().await;
}

async fn deadline(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup()).await;
    let soon = now() / 1000 + 500;
    for (timeout, expected) in [(0, soon), (1000, soon), (50, now() / 1000 + 50)] {
        let order = Order { deadline: soon, timeout, ..Order::plain() };
        let line = bench.noted(&bench.put(side, &order).await, "end", 1).await;
        let off = line.deadline - expected;
        assert!((0..=5).contains(&off), "timeout {timeout}: {off} s after what was expected");
    }
    worker.stop().await;
}

async fn past_deadline(bench: Bench, side: Side) {
    let order = Order { deadline: now() / 1000 - 10, max_retry: Some(0), ..Order::plain() };
    let id = bench.put(side, &order).await;
    let worker = bench.worker(side.other(), &bench.setup()).await;
    let seen = bench.reached("default", &id, "archived").await;
    // Ours says what happened; Go reports the context's error.
    let expected = if side == Side::Go { "deadline passed" } else { "context deadline exceeded" };
    assert_eq!(seen["last_error"], expected);
    assert!(bench.ledger().is_empty(), "the handler ran");
    worker.stop().await;
}

/// Started neither before this instant nor long after it.
fn punctual(line: &Line, due: i64) {
    let late = line.at - due;
    // A loaded machine is late by more than the worker's interval.
    assert!((0..=5000).contains(&late), "started {late} ms after its due time");
}

async fn delayed(bench: Bench, side: Side) {
    let before = now();
    let id = bench.put(side, &Order { r#in: 3, ..Order::plain() }).await;
    let seen = bench.agreed("default", &id).await;
    assert_eq!(seen["state"], "scheduled");
    let worker = bench.worker(side.other(), &bench.setup()).await;
    // Go's clients round a due time down to the second, ours up.
    let earliest = if side == Side::Go { before / 1000 * 1000 } else { before };
    punctual(&bench.noted(&id, "start", 1).await, earliest + 3000);
    worker.stop().await;
}

async fn at_an_instant(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup()).await;
    let at = now() / 1000 + 3;
    let id = bench.put(side, &Order { at, ..Order::plain() }).await;
    assert_eq!(bench.agreed("default", &id).await["next"], at);
    punctual(&bench.noted(&id, "start", 1).await, at * 1000);
    worker.stop().await;
}

async fn in_the_past(bench: Bench, side: Side) {
    let id = bench.put(side, &Order { at: now() / 1000 - 100, ..Order::plain() }).await;
    assert_eq!(bench.agreed("default", &id).await["state"], "pending");
}

async fn retention(bench: Bench, side: Side) {
    let worker = bench.worker(side.other(), &bench.setup()).await;
    let order = Order { retention: 100, ..Order::that(r#"{"result":"42"}"#) };
    let id = bench.put(side, &order).await;
    let seen = bench.reached("default", &id, "completed").await;
    assert_eq!((&seen["result"], &seen["retention"]), (&json!(hex(b"42")), &json!(100.0)));
    let age = now() / 1000 - seen["completed_at"].as_i64().unwrap();
    assert!((0..=10).contains(&age), "completed {age} s ago");

    let order = Order { retention: 2, ..Order::plain() };
    let short = bench.put(side, &order).await;
    bench.noted(&short, "end", 1).await;
    bench.gone("default", &short).await;
    assert!(bench.look(Side::Go, "default", &id).await.is_some(), "the other one went too");
    worker.stop().await;
}

async fn result(bench: Bench, side: Side) {
    // Every character below 256, most of which are two bytes of UTF-8.
    let text: String = (0..=255).map(char::from).collect();
    let payload = json!({"result": text}).to_string();
    let worker = bench.worker(side.other(), &bench.setup()).await;
    let id = bench.put(side, &Order { retention: 100, ..Order::that(&payload) }).await;
    let seen = bench.reached("default", &id, "completed").await;
    assert_eq!(seen["result"], hex(text.as_bytes()));
    worker.stop().await;
}

async fn own_id(bench: Bench, side: Side) {
    let order = Order { retention: 100, ..Order::plain() }.id("order-7");
    assert_eq!(bench.put(side, &order).await, "order-7");
    for again in [side, side.other()] {
        let answer = bench.produce(again, &order).await;
        assert_eq!(answer.unwrap_err(), "task ID conflicts with another task", "{again:?}");
    }
    let worker = bench.worker(side.other(), &bench.setup()).await;
    bench.reached("default", "order-7", "completed").await;
    let answer = bench.produce(side.other(), &order).await;
    assert_eq!(answer.unwrap_err(), "task ID conflicts with another task");
    // Ids are unique in their queue only.
    bench.put(side.other(), &order.queue("elsewhere")).await;
    worker.stop().await;
}

async fn many(bench: Bench) {
    let headers = BTreeMap::from([("trace".to_owned(), "77".to_owned())]);
    let orders: Vec<Order> = (0..50)
        .map(|n| Order {
            max_retry: Some(n),
            headers: Some(headers.clone()),
            retention: 100,
            queue: if n % 2 == 0 { "default" } else { "low" }.into(),
            ..Order::that(&json!({"result": n.to_string()}).to_string())
        })
        .collect();
    let ids = bench.rust.produce_all(&orders).await;
    let setup = bench.setup().queues(&[("default", 2), ("low", 1)]);
    let worker = bench.worker(Side::Go, &setup).await;
    for (n, (order, id)) in orders.iter().zip(&ids).enumerate() {
        let line = bench.noted(id, "end", 1).await;
        assert_eq!((line.max_retry as usize, &line.queue), (n, &order.queue));
        assert_eq!(line.headers.as_ref(), Some(&headers));
        let seen = bench.reached(&order.queue, id, "completed").await;
        assert_eq!(seen["result"], hex(n.to_string().as_bytes()));
    }
    worker.stop().await;
}

async fn defaults(bench: Bench, side: Side) {
    let id = bench.put(side, &Order { payload: None, ..Order::plain() }).await;
    let mut seen = bench.agreed("default", &id).await;
    let fields = seen.as_object_mut().unwrap();
    let retries = if side == Side::Go { 25 } else { 10 };
    let expected = json!({
        "id": id, "queue": "default", "type": WORK, "hex": "", "headers": Value::Null,
        "state": "pending", "max_retry": retries, "retried": 0, "last_error": "",
        "last_failed_at": 0, "timeout": 1800.0, "deadline": 0, "group": "", "retention": 0.0,
        "completed_at": 0, "result": "",
    });
    assert_eq!(Value::Object(fields.clone()), expected);
    assert_eq!(id.len(), 36);
    let setup: Setup = bench.setup();
    let worker = bench.worker(side.other(), &setup).await;
    let line = bench.noted(&id, "end", 1).await;
    let given = Duration::from_secs((line.deadline - line.at / 1000).try_into().unwrap());
    assert!(given >= Duration::from_secs(1790) && given <= Duration::from_secs(1801), "{given:?}");
    worker.stop().await;
}
