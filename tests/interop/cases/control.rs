//! What reaches a job while it runs, and what comes out of it: cancellation and
//! results across the border.

use std::time::Duration;

use rocket_jobqueue::{JobId, QueueName, handler::AfterCancel};
use serde_json::json;

use super::{BOTH, Cases};
use crate::bench::{Bench, Side};
use crate::settings::{Order, hex};

const AREA: &str = "Cancelling and reporting";

pub fn add(cases: &mut Cases) {
    cases.both(BOTH, "a result written while the job runs is seen on the other side", report);
    cases.one(AREA, "Asynq's inspector cancels a job on Rust, which is tried again", |bench| {
        cancelled(bench, Side::Go, Side::Rust)
    });
    cases.one(AREA, "our inspector cancels a job on Go, which is tried again", |bench| {
        cancelled(bench, Side::Rust, Side::Go)
    });
    cases.one(AREA, "our inspector cancels a job on Rust, which is tried again", |bench| {
        cancelled(bench, Side::Rust, Side::Rust)
    });
    cases.one(AREA, "our inspector cancels a job on Rust and has it archived", |bench| {
        for_good(bench, AfterCancel::Archive)
    });
    cases.one(AREA, "our inspector cancels a job on Rust and has it deleted", |bench| {
        for_good(bench, AfterCancel::Delete)
    });
    cases.one(AREA, "a job to be archived is cancelled on Go and archived on Rust", durable);
    cases.one(AREA, "a cancellation for an unknown id disturbs nobody", unknown);
}

const LONG: &str = r#"{"do":"sleep","ms":600000}"#;

async fn report(bench: Bench, side: Side) {
    let order =
        Order { retention: 100, ..Order::that(r#"{"do":"report","result":"half way","ms":1500}"#) };
    let worker = bench.worker(side.other(), &bench.setup()).await;
    let id = bench.put(side, &order).await;
    bench.noted(&id, "reported", 1).await;
    let seen = bench.agreed("default", &id).await;
    assert_eq!((&seen["state"], &seen["result"]), (&json!("active"), &json!(hex(b"half way"))));
    let seen = bench.reached("default", &id, "completed").await;
    assert_eq!(seen["result"], hex(b"half way"));
    worker.stop().await;
}

async fn cancel(bench: &Bench, by: Side, id: &str, after: AfterCancel) {
    match by {
        Side::Go => {
            bench.ask(json!({"call": "CancelProcessing", "id": id})).await.unwrap();
        }
        Side::Rust => {
            let (queue, id) = (QueueName::new("default").unwrap(), JobId::new(id).unwrap());
            bench.rust.inspector().cancel(&queue, &id, after).await.unwrap();
        }
    }
}

async fn cancelled(bench: Bench, by: Side, on: Side) {
    let worker = bench.worker(on, &bench.setup().retry_delay(60_000)).await;
    let id = bench.put(on.other(), &Order::that(LONG)).await;
    let other = bench.put(on.other(), &Order::that(LONG)).await;
    bench.noted(&id, "start", 1).await;
    bench.noted(&other, "start", 1).await;
    cancel(&bench, by, &id, AfterCancel::Retry).await;
    let seen = bench.reached("default", &id, "retry").await;
    assert_eq!((&seen["last_error"], &seen["retried"]), (&json!("context canceled"), &json!(1)));
    assert_eq!(bench.agreed("default", &other).await["state"], "active");
    drop(worker);
}

async fn for_good(bench: Bench, after: AfterCancel) {
    let worker = bench.worker(Side::Rust, &bench.setup()).await;
    let id = bench.put(Side::Go, &Order::that(LONG)).await;
    bench.noted(&id, "start", 1).await;
    cancel(&bench, Side::Rust, &id, after).await;
    if after == AfterCancel::Archive {
        bench.reached("default", &id, "archived").await;
    } else {
        bench.gone("default", &id).await;
        assert_eq!(bench.look(Side::Go, "default", &id).await, None);
    }
    worker.stop().await;
}

async fn durable(bench: Bench) {
    let worker = bench.worker(Side::Go, &bench.setup().retry_delay(500)).await;
    let id = bench.put(Side::Rust, &Order::that(LONG)).await;
    bench.noted(&id, "start", 1).await;
    let name = QueueName::new("default").unwrap();
    cancel(&bench, Side::Rust, &id, AfterCancel::Archive).await;
    // Go knows only how to cancel; what happens afterwards is stored for a worker of ours.
    bench.noted(&id, "end", 1).await;
    worker.stop().await;
    let worker = bench.worker(Side::Rust, &bench.setup()).await;
    bench.reached("default", &id, "archived").await;
    assert_eq!(bench.rust.inspector().queue(&name).await.unwrap().sizes["archived"], 1);
    worker.stop().await;
}

async fn unknown(bench: Bench) {
    let rust = bench.worker(Side::Rust, &bench.setup()).await;
    let id = bench.put(Side::Go, &Order::that(r#"{"do":"sleep","ms":1000}"#)).await;
    bench.noted(&id, "start", 1).await;
    bench.ask(json!({"call": "CancelProcessing", "id": "none"})).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(bench.noted(&id, "end", 1).await.word, "done");
    rust.stop().await;
}
