//! Every endpoint of asynqmon's HTTP API on data written by Rust: what it reads is
//! compared with our own inspector, what it does with what both find afterwards.

use serde_json::{Value, json};

use super::Cases;
use super::actions::{Action, ids};
use super::scene::{ACTIVE, GROUP, STATES, Scene};
use crate::bench::{Bench, Monitor, Side};
use crate::settings::{Order, hex};

const AREA: &str = "asynqmon's HTTP API";

/// How an endpoint takes the jobs it acts on.
#[derive(Clone, Copy)]
enum Form {
    One,
    Batch,
    All,
}

/// What asynqmon has routes for: states, and what can be done to their jobs.
const ACTIONS: [(Action, &[&str]); 3] = [
    (Action::Delete, &["pending", "scheduled", "retry", "archived", "completed", "aggregating"]),
    (Action::Run, &["scheduled", "retry", "archived", "aggregating"]),
    (Action::Archive, &["pending", "scheduled", "retry", "aggregating"]),
];

/// Paths below the queue's, with body and answer.
const CANCELS: [(&str, &str, &str); 3] = [
    ("active_tasks/active-1:cancel", "null", "null"),
    ("active_tasks:cancel_all", "null", "null"),
    (
        "active_tasks:batch_cancel",
        r#"{"task_ids":["active-1"]}"#,
        r#"{"canceled_ids":["active-1"],"error_ids":[]}"#,
    ),
];

pub fn add(cases: &mut Cases) {
    cases.one(AREA, "GET /queues", queues);
    cases.one(AREA, "GET /queues/{queue}", queue);
    cases.one(AREA, "DELETE /queues/{queue}", delete_queue);
    cases.one(AREA, "POST /queues/{queue}:pause, :resume", pause);
    cases.one(AREA, "GET /queue_stats", queue_stats);
    cases.one(AREA, "GET …/active_tasks", active);
    for (state, _) in STATES {
        let name = format!("GET …/{}", any_group(&folder(state)));
        cases.one(AREA, &name, move |bench| list(bench, state));
    }
    cases.one(AREA, "GET …/scheduled_tasks?page=&size=", pages);
    for (action, states) in ACTIONS {
        for state in states {
            for form in [Form::One, Form::Batch, Form::All] {
                let (method, path, _) = endpoint(action, state, form);
                let name = format!("{method} …/{}", any_group(&path));
                let name = name.replace(ids(state)[0], "{id}");
                cases.one(AREA, &name, move |bench| act(bench, action, state, form));
            }
        }
    }
    for (path, body, answer) in CANCELS {
        let name = format!("POST …/{}", path.replace(ACTIVE, "{id}"));
        cases.one(AREA, &name, move |bench| cancel(bench, path, body, answer));
    }
    cases.one(AREA, "GET …/tasks/{id}", task);
    cases.one(AREA, "GET …/groups", groups);
    cases.one(AREA, "GET /servers", servers);
    cases.one(AREA, "GET /redis_info", redis_info);
    cases.one(AREA, "GET /metrics", metrics);
}

/// A path with the group's place in place of its name.
fn any_group(path: &str) -> String {
    path.replace(&format!("/{GROUP}/"), "/{group}/")
}

/// Below a queue's path.
fn folder(state: &str) -> String {
    match state {
        "aggregating" => format!("groups/{GROUP}/aggregating_tasks"),
        state => format!("{state}_tasks"),
    }
}

/// Method, path below the queue's, and body.
fn endpoint(action: Action, state: &str, form: Form) -> (&'static str, String, Value) {
    let (folder, ids, verb) = (folder(state), ids(state), action.verb());
    match (form, action) {
        (Form::One, Action::Delete) => ("DELETE", format!("{folder}/{}", ids[0]), Value::Null),
        (Form::One, _) => ("POST", format!("{folder}/{}:{verb}", ids[0]), Value::Null),
        (Form::Batch, _) => {
            let body = json!({"task_ids": [ids[0], ids[1], "none"]});
            ("POST", format!("{folder}:batch_{verb}"), body)
        }
        (Form::All, Action::Delete) => ("DELETE", format!("{folder}:delete_all"), Value::Null),
        (Form::All, _) => ("POST", format!("{folder}:{verb}_all"), Value::Null),
    }
}

/// A queue's numbers, as our own inspector has them.
async fn compare(scene: &Scene, told: &Value) {
    let info = scene.info().await;
    for (state, count) in &info.sizes {
        assert_eq!(told[*state], *count, "{state}");
    }
    assert_eq!(told["queue"], "default");
    assert_eq!((&told["size"], &told["groups"]), (&json!(info.size), &json!(info.groups)));
    assert_eq!(
        (&told["paused"], &told["failed"]),
        (&json!(info.paused), &json!(info.failed_today))
    );
    assert_eq!(told["processed"], info.processed_today);
    assert_eq!(told["succeeded"], info.processed_today - info.failed_today);
    let apart = told["latency_msec"].as_i64().unwrap() - info.latency.as_millis() as i64;
    assert!(apart.abs() < 5000, "latencies {apart} ms apart");
    assert!(told["memory_usage_bytes"].as_u64().unwrap() > 0);
}

async fn queues(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let told = scene.bench.monitor().await.get("/queues").await;
    assert_eq!(told["queues"].as_array().unwrap().len(), 1);
    compare(&scene, &told["queues"][0]).await;
}

/// Days as our own inspector has them.
async fn compare_days(scene: &Scene, told: &Value, days: u32) {
    let name = rocket_jobqueue::QueueName::new("default").unwrap();
    let ours = scene.bench.rust.inspector().history(&name, days).await.unwrap();
    let told = told.as_array().unwrap();
    assert_eq!(told.len(), ours.len());
    for (told, ours) in told.iter().zip(ours) {
        let expected = json!({
            "queue": "default", "date": ours.date, "processed": ours.processed,
            "failed": ours.failed, "succeeded": ours.processed - ours.failed,
        });
        assert_eq!(*told, expected);
    }
}

async fn queue(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let told = scene.bench.monitor().await.get("/queues/default").await;
    compare(&scene, &told["current"]).await;
    compare_days(&scene, &told["history"], 10).await;
}

async fn queue_stats(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let told = scene.bench.monitor().await.get("/queue_stats").await;
    compare_days(&scene, &told["stats"]["default"], 90).await;
}

async fn delete_queue(bench: Bench) {
    bench.put(Side::Rust, &Order::plain().queue("full").id("last")).await;
    let monitor = bench.monitor().await;
    let (status, said) = monitor.call("DELETE", "/queues/full", &Value::Null).await;
    assert_eq!(status, 400, "{said}");
    let path = "/queues/full/pending_tasks/last";
    assert_eq!(monitor.call("DELETE", path, &Value::Null).await.0, 204);
    let (status, said) = monitor.call("DELETE", "/queues/full", &Value::Null).await;
    assert_eq!(status, 204, "{said}");
    assert!(bench.rust.inspector().queues().await.unwrap().is_empty());
}

async fn pause(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let monitor = scene.bench.monitor().await;
    for (verb, paused) in [("pause", true), ("resume", false)] {
        let path = format!("/queues/default:{verb}");
        assert_eq!(monitor.call("POST", &path, &Value::Null).await.0, 204);
        assert_eq!(scene.info().await.paused, paused);
        assert_eq!(monitor.get("/queues/default").await["current"]["paused"], paused);
    }
}

/// RFC 3339 of a Unix time, as Go writes whole seconds in UTC.
fn date(unix: &Value) -> Value {
    let at = chrono::DateTime::from_timestamp(unix.as_i64().unwrap(), 0).unwrap();
    json!(at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

/// One row of a list, with our own inspector's word on the job.
fn compare_row(row: &Value, job: &Value, state: &str) {
    for (theirs, ours) in [
        ("type", "type"),
        ("queue", "queue"),
        ("max_retry", "max_retry"),
        ("retried", "retried"),
        ("error_message", "last_error"),
    ] {
        assert_eq!(row[theirs], job[ours], "{theirs} of {row}");
    }
    assert_eq!(hex(row["payload"].as_str().unwrap().as_bytes()), job["hex"]);
    match state {
        "scheduled" | "retry" => assert_eq!(row["next_process_at"], date(&job["next"])),
        "archived" => assert_eq!(row["last_failed_at"], date(&job["last_failed_at"])),
        "completed" => {
            assert_eq!(row["completed_at"], date(&job["completed_at"]));
            assert_eq!(hex(row["result"].as_str().unwrap().as_bytes()), job["result"]);
            assert!((3500..=3600).contains(&row["ttl_seconds"].as_i64().unwrap()), "{row}");
        }
        "aggregating" => assert_eq!(row["group"], job["group"]),
        _ => {}
    }
}

async fn list(bench: Bench, state: &'static str) {
    let scene = Scene::quick(bench).await;
    let told = scene.bench.monitor().await.get(&format!("/queues/default/{}", folder(state))).await;
    compare(&scene, &told["stats"]).await;
    let rows = told["tasks"].as_array().unwrap();
    let order: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(order, scene.ids(state).await);
    assert_eq!(order, ids(state));
    for (row, id) in rows.iter().zip(order) {
        let job = scene.bench.look(Side::Rust, "default", id).await.unwrap();
        compare_row(row, &job, state);
    }
}

async fn active(bench: Bench) {
    let scene = Scene::set(bench).await;
    let told = scene.bench.monitor().await.get("/queues/default/active_tasks").await;
    let rows = told["tasks"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    let job = scene.bench.look(Side::Rust, "default", ACTIVE).await.unwrap();
    compare_row(&rows[0], &job, "active");
    assert_eq!((&rows[0]["id"], &rows[0]["is_orphaned"]), (&json!(ACTIVE), &json!(false)));
    let line = scene.bench.noted(ACTIVE, "start", 1).await;
    assert_eq!(rows[0]["deadline"], date(&json!(line.deadline)));
    assert_eq!(rows[0]["start_time"], date(&json!(line.at / 1000)));
}

async fn pages(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let monitor = scene.bench.monitor().await;
    let mut seen = Vec::new();
    for page in 1..=2 {
        let path = format!("/queues/default/scheduled_tasks?page={page}&size=2");
        let told = monitor.get(&path).await;
        let rows = told["tasks"].as_array().unwrap();
        seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen, ids("scheduled"));
}

async fn act(bench: Bench, action: Action, state: &'static str, form: Form) {
    let scene = Scene::quick(bench).await;
    let monitor: Monitor = scene.bench.monitor().await;
    let (method, path, body) = endpoint(action, state, form);
    let (status, said) = monitor.call(method, &format!("/queues/default/{path}"), &body).await;
    let three = ids(state);
    let (expected, moved) = match form {
        Form::One => ((204, Value::Null), 1),
        Form::Batch => {
            let (done, failed) = match action {
                Action::Delete => ("deleted_ids", "failed_ids"),
                Action::Run => ("pending_ids", "error_ids"),
                Action::Archive => ("archived_ids", "error_ids"),
            };
            ((200, json!({done: three[..2], failed: ["none"]})), 2)
        }
        Form::All => {
            let counted = match (action, state) {
                (Action::Delete, _) => json!({"deleted": 3}),
                (Action::Archive, _) => json!({"archived": 3}),
                (Action::Run, _) => json!({"scheduled": 3}),
            };
            ((200, counted), 3)
        }
    };
    assert_eq!((status, said), expected);
    scene.moved(state, moved, action).await;
}

async fn cancel(bench: Bench, path: &'static str, body: &'static str, answer: &'static str) {
    let scene = Scene::quick(bench).await;
    let monitor = scene.bench.monitor().await;
    let body = serde_json::from_str(body).unwrap();
    let (status, said) = monitor.call("POST", &format!("/queues/default/{path}"), &body).await;
    let answer: Value = serde_json::from_str(answer).unwrap();
    assert_eq!((status, &said), (if answer.is_null() { 204 } else { 200 }, &answer));
    scene.cancelled().await;
}

async fn task(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let monitor = scene.bench.monitor().await;
    for (state, three) in STATES.into_iter().chain([("active", [ACTIVE; 3])]) {
        let id = three[0];
        let told = monitor.get(&format!("/queues/default/tasks/{id}")).await;
        let job = scene.bench.look(Side::Rust, "default", id).await.unwrap();
        assert_eq!((&told["id"], &told["state"]), (&json!(id), &json!(state)));
        assert_eq!(told["timeout_seconds"].as_f64(), job["timeout"].as_f64());
        // A single job is told without its group.
        compare_row(&told, &job, if state == "aggregating" { "" } else { state });
    }
    let (status, _) = monitor.call("GET", "/queues/default/tasks/none", &Value::Null).await;
    assert_eq!(status, 404);
}

async fn groups(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let told = scene.bench.monitor().await.get("/queues/default/groups").await;
    compare(&scene, &told["stats"]).await;
    assert_eq!(told["groups"], json!([{"group": GROUP, "size": 3}]));
    let name = rocket_jobqueue::QueueName::new("default").unwrap();
    let page = rocket_jobqueue::inspect::Page::default();
    let ours = scene.bench.rust.inspector().groups(&name, &page).await.unwrap();
    assert_eq!((ours.groups[0].group.as_str(), ours.groups[0].size), (GROUP, 3));
}

async fn servers(bench: Bench) {
    let scene = Scene::set(bench).await;
    let told = scene.bench.monitor().await.get("/servers").await;
    let ours = scene.bench.rust.inspector().servers().await.unwrap();
    let (told, ours) = (&told["servers"][0], &ours.servers[0]);
    assert_eq!(told["id"], ours.server_id.as_str());
    assert_eq!(told["host"], ours.host.as_str());
    assert_eq!(told["pid"], std::process::id());
    let said = ["concurrency", "queue_priorities", "status", "strict_priority_enabled"];
    let said = said.map(|name| told[name].clone());
    assert_eq!(said, [json!(1), json!({"default": 1}), json!("active"), json!(false)]);
    let worker = &told["active_workers"][0];
    assert_eq!(worker["task_id"], ours.running[0].id.as_str());
    assert_eq!(
        (&worker["queue"], &worker["task_type"]),
        (&json!("default"), &json!("interop:work"))
    );
    assert_eq!(worker["task_payload"], r#"{"do":"sleep","ms":600000}"#);
}

async fn redis_info(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let told = scene.bench.monitor().await.get("/redis_info").await;
    assert_eq!(told["address"], scene.bench.redis.addr());
    assert!(!told["info"]["redis_version"].as_str().unwrap().is_empty());
}

/// asynqmon asks a Prometheus by names; ours must be those that we export.
async fn metrics(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let ours = scene.bench.rust.get("/api/dm-jobqueue/metrics").await;
    let prometheus = crate::prometheus::start(ours).await;
    let monitor = scene.bench.monitor_with(&prometheus).await;
    let told = monitor.get("/metrics?queues=default").await;
    let series = |name: &str| told[name]["data"]["result"][0]["value"].clone();
    let info = scene.info().await;
    assert_eq!(series("queue_size"), info.size.to_string());
    let counters =
        [("tasks_processed_per_second", info.processed), ("tasks_failed_per_second", info.failed)];
    for (name, count) in counters {
        assert_eq!(series(name), count.to_string(), "{name} of {told}");
    }
    let latency: f64 = series("queue_latency_seconds").as_str().unwrap().parse().unwrap();
    assert!(latency > 0.0);
    for (name, state) in [
        ("pending_tasks_by_queue", "pending"),
        ("retry_tasks_by_queue", "retry"),
        ("archived_tasks_by_queue", "archived"),
    ] {
        assert_eq!(series(name), info.sizes[state].to_string(), "{name} of {told}");
    }
}
