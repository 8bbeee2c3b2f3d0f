//! Groups whose members come from both sides, and who makes one job of them.

use std::time::Duration;

use serde_json::{Value, json};

use super::Cases;
use crate::bench::{Bench, Side};
use crate::settings::{BATCH, Line, Order, unhex};

const AREA: &str = "Groups";

pub fn add(cases: &mut Cases) {
    for side in [Side::Go, Side::Rust] {
        let name = format!("members from both sides become one job on {side:?}, in order");
        cases.one(AREA, &name, move |bench| aggregated(bench, side));
        let name = format!("a group that is full becomes one job at once on {side:?}");
        cases.one(AREA, &name, move |bench| full(bench, side));
        let name = format!("what {side:?} made of a group is run by the other side");
        cases.one(AREA, &name, move |bench| run_elsewhere(bench, side));
        let name = format!("members are seen by both inspectors until {side:?} takes them");
        cases.one(AREA, &name, move |bench| seen(bench, side));
    }
    cases.one(AREA, "a unique member is refused on both sides", unique);
    cases.one(AREA, "a delayed member from Rust joins its group when it is due", delayed);
    cases.slow(AREA, "Rust takes up what a killed Go server was aggregating", killed);
}

fn member(payload: &str) -> Order {
    Order { group: "g".into(), payload: Some(payload.into()), ..Order::plain() }
}

/// Members from either side in turn.
async fn put(bench: &Bench, payloads: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for (n, payload) in payloads.iter().enumerate() {
        let side = if n % 2 == 0 { Side::Go } else { Side::Rust };
        ids.push(bench.put(side, &member(payload)).await);
    }
    ids
}

async fn batch(bench: &Bench) -> Line {
    let ended = |line: &Line| line.r#type == BATCH && line.event == "end";
    bench
        .until("a group has become a job that ran", async || bench.ledger().iter().any(ended))
        .await;
    bench.ledger().into_iter().find(ended).unwrap()
}

fn members(line: &Line) -> Vec<String> {
    let payload: Value = serde_json::from_slice(&unhex(&line.hex)).unwrap();
    assert_eq!(payload["group"], "g");
    serde_json::from_value(payload["members"].clone()).unwrap()
}

async fn nothing_left(bench: &Bench, ids: &[String]) {
    for id in ids {
        bench.gone("default", id).await;
        assert_eq!(bench.look(Side::Go, "default", id).await, None);
    }
    let empty = async || {
        let left = bench.redis.cli(&["keys", "asynq:{default}:g:*"]);
        left.is_empty() && bench.redis.cli(&["zcard", "asynq:{default}:aggregation_sets"]) == "0"
    };
    bench.until("no set is left", empty).await;
    assert_eq!(bench.redis.cli(&["smembers", "asynq:{default}:groups"]), "");
}

/// Members of one second have no order among themselves.
fn sorted(mut payloads: Vec<String>) -> Vec<String> {
    payloads.sort();
    payloads
}

async fn aggregated(bench: Bench, side: Side) {
    let mut ids = put(&bench, &["a"]).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    ids.extend(put(&bench, &["b", "c", "d"]).await);
    let worker = bench.worker(side, &bench.setup().aggregate(1, 0)).await;
    let line = batch(&bench).await;
    let members = members(&line);
    assert_eq!(members[0], "a", "the oldest comes first");
    assert_eq!(sorted(members), ["a", "b", "c", "d"]);
    nothing_left(&bench, &ids).await;
    worker.stop().await;
}

async fn full(bench: Bench, side: Side) {
    let worker = bench.worker(side, &bench.setup().aggregate(30, 2)).await;
    let ids = put(&bench, &["a", "b"]).await;
    let line = batch(&bench).await;
    assert_eq!(sorted(members(&line)), ["a", "b"]);
    nothing_left(&bench, &ids).await;
    worker.stop().await;
}

async fn run_elsewhere(bench: Bench, side: Side) {
    put(&bench, &["a", "b"]).await;
    // The maker serves the queue too: whichever is idle dequeues the job.
    let maker = bench.worker(side, &bench.setup().aggregate(1, 0)).await;
    let busy = Order::that(r#"{"do":"sleep","ms":3000}"#);
    for _ in 0..4 {
        bench.put(side, &busy).await;
    }
    bench
        .until("the maker has its hands full", async || {
            bench.ledger().iter().filter(|line| line.event == "start").count() == 4
        })
        .await;
    let runner = bench.worker(side.other(), &bench.setup()).await;
    let line = batch(&bench).await;
    assert!(line.id.starts_with(&format!("batch-{side:?}").to_lowercase()), "{line:?}");
    runner.stop().await;
    maker.stop().await;
}

async fn seen(bench: Bench, side: Side) {
    let ids = put(&bench, &["a", "b"]).await;
    for id in &ids {
        let job = bench.agreed("default", id).await;
        assert_eq!((&job["state"], &job["group"]), (&json!("aggregating"), &json!("g")));
    }
    let told = bench.ask(json!({"call": "Groups", "queue": "default"})).await.unwrap();
    assert_eq!(told, json!([{"Group": "g", "Size": 2}]));
    let worker = bench.worker(side, &bench.setup().aggregate(1, 0)).await;
    nothing_left(&bench, &ids).await;
    worker.stop().await;
}

async fn unique(bench: Bench) {
    for side in [Side::Go, Side::Rust] {
        let order = Order { unique: 100, ..member(&format!("{side:?}")) };
        bench.put(side, &order).await;
        for again in [Side::Go, Side::Rust] {
            let refused = bench.produce(again, &order).await.unwrap_err();
            assert_eq!(refused, "task already exists", "{side:?} and {again:?}");
        }
    }
}

async fn delayed(bench: Bench) {
    let order = Order { r#in: 2, ..member("late") };
    let id = bench.put(Side::Rust, &order).await;
    assert_eq!(bench.agreed("default", &id).await["state"], "scheduled");
    let worker = bench.worker(Side::Rust, &bench.setup().aggregate(1, 0)).await;
    assert_eq!(members(&batch(&bench).await), ["late"]);
    nothing_left(&bench, &[id]).await;
    worker.stop().await;
}

async fn killed(bench: Bench) {
    let ids = put(&bench, &["a", "hang"]).await;
    let process = bench.process(Side::Go, &bench.setup().aggregate(1, 0)).await;
    bench.until("Go is at it", async || bench.log().contains("hangs while it aggregates")).await;
    process.kill().await;
    let worker = bench.worker(Side::Rust, &bench.setup().aggregate(1, 0)).await;
    // Asynq gives an aggregation two minutes.
    let over = async || bench.ledger().iter().any(|line| line.r#type == BATCH);
    bench.within(Duration::from_secs(160), "the set was taken up", over).await;
    assert_eq!(sorted(members(&batch(&bench).await)), ["a", "hang"]);
    nothing_left(&bench, &ids).await;
    worker.stop().await;
}
