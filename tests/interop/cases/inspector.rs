//! The inspector of Asynq's newest library on data written by Rust: its lists and
//! numbers are the same as ours, and what it does leaves both in agreement.

use std::time::Duration;

use rocket_jobqueue::inspect::WorkerUpdate;
use serde_json::json;

use super::Cases;
use super::actions::{Action, ids};
use super::scene::{ACTIVE, GROUP, STATES, Scene};
use crate::bench::{Bench, Side};
use crate::settings::{Order, hex};

const AREA: &str = "Asynq's inspector";

const ALL_OF: [(Action, &[(&str, &str)]); 3] = [
    (
        Action::Run,
        &[
            ("scheduled", "RunAllScheduledTasks"),
            ("retry", "RunAllRetryTasks"),
            ("archived", "RunAllArchivedTasks"),
            ("aggregating", "RunAllAggregatingTasks"),
        ],
    ),
    (
        Action::Archive,
        &[
            ("pending", "ArchiveAllPendingTasks"),
            ("scheduled", "ArchiveAllScheduledTasks"),
            ("retry", "ArchiveAllRetryTasks"),
            ("aggregating", "ArchiveAllAggregatingTasks"),
        ],
    ),
    (
        Action::Delete,
        &[
            ("pending", "DeleteAllPendingTasks"),
            ("scheduled", "DeleteAllScheduledTasks"),
            ("retry", "DeleteAllRetryTasks"),
            ("archived", "DeleteAllArchivedTasks"),
            ("completed", "DeleteAllCompletedTasks"),
            ("aggregating", "DeleteAllAggregatingTasks"),
        ],
    ),
];

pub fn add(cases: &mut Cases) {
    cases.one(AREA, "its lists of all states, ids in order, are ours", lists);
    cases.one(AREA, "GetQueueInfo, History, Groups", numbers);
    cases.one(AREA, "Servers", servers);
    for (action, call) in
        [(Action::Run, "RunTask"), (Action::Archive, "ArchiveTask"), (Action::Delete, "DeleteTask")]
    {
        cases.one(AREA, call, move |bench| one(bench, action, call));
    }
    for (action, states) in ALL_OF {
        for (state, call) in states {
            cases.one(AREA, call, move |bench| all(bench, action, state, call));
        }
    }
    cases.one(AREA, "UpdateTaskPayload", update_payload);
    cases.one(AREA, "DeleteQueue", delete_queue);
}

async fn lists(bench: Bench) {
    let scene = Scene::quick(bench).await;
    for (state, expected) in STATES {
        assert_eq!(scene.ids(state).await, expected, "{state}");
    }
    assert_eq!(scene.ids("active").await, [ACTIVE]);
}

async fn numbers(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let info = scene.info().await;
    let told = scene.bench.ask(json!({"call": "GetQueueInfo", "queue": "default"})).await.unwrap();
    for (name, count) in [
        ("Size", info.size),
        ("Groups", info.groups),
        ("Pending", info.sizes["pending"]),
        ("Active", info.sizes["active"]),
        ("Scheduled", info.sizes["scheduled"]),
        ("Retry", info.sizes["retry"]),
        ("Archived", info.sizes["archived"]),
        ("Completed", info.sizes["completed"]),
        ("Aggregating", info.sizes["aggregating"]),
        ("Processed", info.processed_today),
        ("Failed", info.failed_today),
        ("ProcessedTotal", info.processed),
        ("FailedTotal", info.failed),
    ] {
        assert_eq!(told[name], count, "{name}");
    }
    assert!(told["MemoryUsage"].as_i64().unwrap() > 0);
    let question = json!({"call": "History", "queue": "default", "days": 3});
    let days = scene.bench.ask(question).await.unwrap();
    let name = rocket_jobqueue::QueueName::new("default").unwrap();
    let ours = scene.bench.rust.inspector().history(&name, 3).await.unwrap();
    for (told, ours) in days.as_array().unwrap().iter().zip(ours) {
        assert!(told["Date"].as_str().unwrap().starts_with(&ours.date), "{told} {ours:?}");
        assert_eq!(told["Processed"], ours.processed);
        assert_eq!(told["Failed"], ours.failed);
    }
    let groups = scene.bench.ask(json!({"call": "Groups", "queue": "default"})).await.unwrap();
    assert_eq!(groups, json!([{"Group": GROUP, "Size": 3}]));
}

async fn servers(bench: Bench) {
    let scene = Scene::set(bench).await;
    let told = scene.bench.ask(json!({"call": "Servers"})).await.unwrap();
    let ours = scene.bench.rust.inspector().servers().await.unwrap();
    let (told, ours) = (&told[0], &ours.servers[0]);
    assert_eq!((&told["ID"], &told["Host"]), (&json!(ours.server_id), &json!(ours.host)));
    assert_eq!((&told["PID"], &told["Status"]), (&json!(std::process::id()), &json!("active")));
    let worker = &told["ActiveWorkers"][0];
    assert_eq!(worker["TaskID"], ours.running[0].id.as_str());
    assert_eq!(worker["TaskType"], "interop:work");

    // Changed while it runs: Go's tools read what it is now.
    let slots = u32::try_from(ours.concurrency).unwrap() + 1;
    let update = WorkerUpdate::new().quiet().concurrency(slots);
    let inspector = scene.bench.rust.inspector();
    inspector.update_worker(&ours.server_id, &update).await.unwrap();
    let changed = async || {
        let told = scene.bench.ask(json!({"call": "Servers"})).await.unwrap();
        told[0]["Status"] == "stopped" && told[0]["Concurrency"] == slots
    };
    scene.bench.within(Duration::from_secs(20), "Go reads the change", changed).await;
}

/// The first job of every state for which the action is possible.
async fn one(bench: Bench, action: Action, call: &'static str) {
    let scene = Scene::quick(bench).await;
    for (state, three) in STATES {
        let here =
            matches!((action, state), (Action::Run, "pending") | (Action::Archive, "archived"));
        let question = json!({"call": call, "queue": "default", "id": three[0]});
        let answer = scene.bench.ask(question).await;
        assert_eq!(answer.is_err(), here, "{state}: {answer:?}");
        let job = scene.bench.look(Side::Rust, "default", three[0]).await;
        assert_eq!(job, scene.bench.look(Side::Go, "default", three[0]).await);
        let expected = match action {
            Action::Run => Some("pending"),
            Action::Archive => Some("archived"),
            Action::Delete => None,
        };
        let state = job.as_ref().and_then(|job| job["state"].as_str());
        assert_eq!(state, expected);
    }
    let question = json!({"call": call, "queue": "default", "id": ACTIVE});
    scene.bench.ask(question).await.expect_err("a running job is left alone");
    for (state, _) in STATES {
        scene.ids(state).await;
    }
}

async fn all(bench: Bench, action: Action, state: &'static str, call: &'static str) {
    let scene = Scene::quick(bench).await;
    let question = json!({"call": call, "queue": "default", "group": GROUP});
    assert_eq!(scene.bench.ask(question).await.unwrap(), 3);
    scene.moved(state, ids(state).len(), action).await;
}

async fn update_payload(bench: Bench) {
    let headers = [("trace".to_owned(), "77".to_owned())].into_iter().collect();
    let order = Order { r#in: 2, headers: Some(headers), ..Order::plain() };
    let id = bench.put(Side::Rust, &order).await;
    let new = r#"{"result":"new"}"#;
    let question =
        json!({"call": "UpdateTaskPayload", "queue": "default", "id": id, "payload": new});
    bench.ask(question).await.unwrap();
    let seen = bench.agreed("default", &id).await;
    assert_eq!(
        (&seen["hex"], &seen["headers"]),
        (&json!(hex(new.as_bytes())), &json!({"trace": "77"}))
    );
    let worker = bench.worker(Side::Rust, &bench.setup()).await;
    assert_eq!(bench.noted(&id, "end", 1).await.hex, hex(new.as_bytes()));
    worker.stop().await;
}

async fn delete_queue(bench: Bench) {
    bench.put(Side::Rust, &Order::plain().queue("full")).await;
    let question = |force: bool| json!({"call": "DeleteQueue", "queue": "full", "force": force});
    bench.ask(question(false)).await.expect_err("it holds a job");
    bench.ask(question(true)).await.unwrap();
    let ours = bench.rust.inspector().queues().await.unwrap();
    assert!(ours.is_empty(), "{ours:?}");
}
