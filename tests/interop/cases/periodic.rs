//! Periodic entries of either side, as the other side's tools see them, and what
//! their ticks enqueue.

use std::time::Duration;

use rocket_jobqueue::{Periodic, inspect::Page, periodic::PeriodicJobInfo};
use serde_json::{Value, json};

use super::Cases;
use super::cli::table;
use crate::bench::{Bench, Side, Worker};
use crate::settings::WORK;

const AREA: &str = "Periodic jobs";

pub fn add(cases: &mut Cases) {
    cases.one(AREA, "entries of Rust are seen by Asynq's inspector as by ours", rust_periodic_jobs);
    cases.one(AREA, "entries of Rust go when their process stops", rust_stops);
    cases.one(AREA, "ticks of Rust run on Go, with their history", rust_ticks);
    cases.one(AREA, "a Go scheduler's entries are seen by our inspector as by Asynq's", |bench| {
        go_periodic_jobs(bench, false)
    });
    cases.one(AREA, "a Go manager's entries are seen by our inspector as by Asynq's", |bench| {
        go_periodic_jobs(bench, true)
    });
    cases.one(AREA, "ticks of a Go scheduler run on Rust, with their history", go_ticks);
    cases.one(AREA, "our inspector fires a Go scheduler's entry once more", fire);
    let cli = "Asynq's command line";
    cases.one(cli, "cron ls", cron_ls);
    cases.one(cli, "cron history", cron_history);
    let monitor = "asynqmon's HTTP API";
    cases.one(monitor, "GET /scheduler_entries", monitored);
    cases.one(monitor, "GET /scheduler_entries/{id}/enqueue_events", monitored_events);
}

const PAYLOAD: &str = r#"{"n":1}"#;

/// A Rust process with a frequent entry and a rare one. It serves another queue
/// than its entries name.
async fn rust(bench: &Bench) -> Worker {
    let worker = bench.worker(Side::Rust, &bench.setup().queues(&[("other", 1)])).await;
    let Worker::Rust(peer) = &worker else { unreachable!("that is what was started") };
    let entries = peer.queue().periodic();
    let payload = Some(PAYLOAD.as_bytes().to_vec());
    let often = Periodic::raw("@every 1s", WORK, payload.clone()).name("often");
    entries.add(often.retention(Duration::from_secs(90))).unwrap();
    let rare = Periodic::raw("0 3 * * *", WORK, payload).name("rare").queue("low");
    entries.add(rare.max_retry(3).timeout(Duration::from_secs(30))).unwrap();
    worker
}

/// Our inspector's entries, once there are two and they have run or not.
async fn ours(bench: &Bench) -> Vec<PeriodicJobInfo> {
    let two = async || bench.rust.inspector().periodic_jobs().await.unwrap().len() == 2;
    bench.until("both entries are told of", two).await;
    let mut entries = bench.rust.inspector().periodic_jobs().await.unwrap();
    entries.sort_by(|a, b| a.spec.cmp(&b.spec));
    entries
}

/// Asynq's inspector's, in the same order.
async fn theirs(bench: &Bench) -> Vec<Value> {
    let told = bench.ask(json!({"call": "SchedulerEntries"})).await.unwrap();
    let mut entries = told.as_array().unwrap().clone();
    entries.sort_by_key(|entry| entry["spec"].as_str().unwrap().to_owned());
    entries
}

/// What does not change from second to second.
fn same(ours: &[PeriodicJobInfo], theirs: &[Value]) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours.id, theirs["id"]);
        assert_eq!(ours.spec, theirs["spec"]);
        assert_eq!(ours.job_type, theirs["type"]);
        assert_eq!(String::from_utf8_lossy(&ours.payload), theirs["payload"].as_str().unwrap());
        for option in theirs["options"].as_array().unwrap() {
            let option = option.as_str().unwrap().to_owned();
            assert!(ours.options.contains(&option), "{option} is not among {:?}", ours.options);
        }
    }
}

async fn rust_periodic_jobs(bench: Bench) {
    let worker = rust(&bench).await;
    let ours = ours(&bench).await;
    let theirs = theirs(&bench).await;
    same(&ours, &theirs);
    let rare = &theirs[0];
    assert_eq!(rare["spec"], "0 3 * * *");
    assert_eq!((&rare["type"], &rare["payload"]), (&json!(WORK), &json!(PAYLOAD)));
    let options = rare["options"].as_array().unwrap();
    for option in [r#"Queue("low")"#, "MaxRetry(3)", "Timeout(30s)"] {
        assert!(options.contains(&json!(option)), "{option} is not among {options:?}");
    }
    assert_eq!(rare["next"], ours[0].next.unwrap().as_secs());
    assert_eq!(rare["prev"], 0, "it has not run yet");
    worker.stop().await;
}

async fn rust_stops(bench: Bench) {
    let worker = rust(&bench).await;
    ours(&bench).await;
    worker.stop().await;
    assert_eq!(theirs(&bench).await, Vec::<Value>::new());
    assert!(bench.rust.inspector().periodic_jobs().await.unwrap().is_empty());
}

/// The jobs of an entry's runs as both inspectors tell them, the newest first.
async fn history(bench: &Bench, id: &str) -> Vec<String> {
    // A tick may come between the two questions.
    for _ in 0..20 {
        let question = json!({"call": "ListSchedulerEnqueueEvents", "id": id});
        let told = bench.ask(question).await.unwrap();
        let theirs: Vec<String> = told
            .as_array()
            .map(|all| all.iter().map(|run| run["TaskID"].as_str().unwrap().to_owned()).collect())
            .unwrap_or_default();
        let ours = bench.rust.inspector().periodic_history(id, &Page::default()).await.unwrap();
        let ours: Vec<String> = ours.iter().map(|run| run.job.to_string()).collect();
        if ours == theirs {
            return ours;
        }
    }
    panic!("Asynq's history of {id} and ours differ");
}

async fn rust_ticks(bench: Bench) {
    let go = bench.worker(Side::Go, &bench.setup()).await;
    let worker = rust(&bench).await;
    let often = ours(&bench).await.swap_remove(1);
    let ran = async || bench.ledger().iter().filter(|line| line.event == "end").count() >= 3;
    bench.until("three ticks have run", ran).await;
    worker.stop().await;
    // The runs stay readable after the process.
    let runs = history(&bench, &often.id).await;
    assert!(runs.len() >= 3, "{runs:?}");
    for line in bench.ledger() {
        assert!(runs.contains(&line.id), "{} is not among {runs:?}", line.id);
        assert_eq!((line.peer.as_str(), line.r#type.as_str()), ("go", WORK));
    }
    let mut apart = runs.clone();
    apart.sort();
    apart.dedup();
    assert_eq!(apart.len(), runs.len(), "a tick was counted twice");
    go.stop().await;
}

async fn go(bench: &Bench, manager: bool) -> crate::bench::Process {
    let task = |queue: &str| json!({"type": WORK, "payload": PAYLOAD, "queue": queue, "retention": 90, "unique": 0});
    let settings = json!({"manager": manager, "entries": [
        {"spec": "0 3 * * *", "task": task("low")},
        {"spec": "@every 1s", "task": task("default")},
    ]});
    bench.scheduler(&settings).await
}

async fn go_periodic_jobs(bench: Bench, manager: bool) {
    let _scheduler = go(&bench, manager).await;
    let ours = ours(&bench).await;
    let theirs = theirs(&bench).await;
    same(&ours, &theirs);
    assert_eq!(ours[0].queue.as_str(), "low");
    assert_eq!(theirs[0]["next"], ours[0].next.unwrap().as_secs());
    assert_eq!(ours[0].prev, None);
}

async fn go_ticks(bench: Bench) {
    let worker = bench.worker(Side::Rust, &bench.setup()).await;
    let _scheduler = go(&bench, false).await;
    let often = ours(&bench).await.swap_remove(1);
    let ran = async || bench.ledger().iter().filter(|line| line.event == "end").count() >= 3;
    bench.until("three ticks have run", ran).await;
    let runs = history(&bench, &often.id).await;
    let ran: Vec<_> = bench.ledger().into_iter().filter(|line| line.event == "end").collect();
    for line in &ran[..3] {
        assert_eq!(line.peer, "rust");
        assert!(runs.contains(&line.id), "{} is not among {runs:?}", line.id);
    }
    worker.stop().await;
}

async fn fire(bench: Bench) {
    let _scheduler = go(&bench, false).await;
    let rare = ours(&bench).await.swap_remove(0);
    let id = bench.rust.inspector().fire(&rare.id).await.unwrap();
    let job = bench.agreed("low", id.as_str()).await;
    assert_eq!((&job["state"], &job["retention"]), (&json!("pending"), &json!(90.0)));
    assert_eq!(history(&bench, &rare.id).await, [id.to_string()]);
}

async fn cron_ls(bench: Bench) {
    let worker = rust(&bench).await;
    let ours = ours(&bench).await;
    let rows = table(&bench.cli("cron ls").await, "");
    assert_eq!(rows.len(), 2);
    for (row, ours) in rows.iter().zip(&ours) {
        assert_eq!((&row["EntryID"], &row["Spec"]), (&ours.id, &ours.spec));
        assert_eq!((row["Type"].as_str(), row["Payload"].as_str()), (WORK, PAYLOAD));
    }
    assert!(rows[0]["Options"].contains("MaxRetry(3)"), "{rows:?}");
    assert!(rows[0]["Next"].starts_with("In "), "{rows:?}");
    assert_eq!(rows[0]["Prev"], "N/A");
    worker.stop().await;
}

/// A stopped Rust process' frequent entry that has run.
async fn past(bench: &Bench) -> PeriodicJobInfo {
    let worker = rust(bench).await;
    let often = ours(bench).await.swap_remove(1);
    let inspector = bench.rust.inspector();
    let ran =
        async || inspector.periodic_history(&often.id, &Page::default()).await.unwrap().len() >= 2;
    bench.until("it has run twice", ran).await;
    worker.stop().await;
    often
}

async fn cron_history(bench: Bench) {
    let often = past(&bench).await;
    let text = bench.cli(&format!("cron history {}", often.id)).await;
    let rows = table(&text, &format!("Entry: {}", often.id));
    let told: Vec<&str> = rows.iter().map(|row| row["TaskID"].as_str()).collect();
    assert_eq!(told, history(&bench, &often.id).await);
}

async fn monitored(bench: Bench) {
    let worker = rust(&bench).await;
    let mut ours = ours(&bench).await;
    let told = bench.monitor().await.get("/scheduler_entries").await;
    ours.sort_by(|a, b| a.id.cmp(&b.id));
    let mut told = told["entries"].as_array().unwrap().clone();
    told.sort_by_key(|entry| entry["id"].as_str().unwrap().to_owned());
    assert_eq!(told.len(), 2);
    for (told, ours) in told.iter().zip(&ours) {
        assert_eq!((&told["id"], &told["spec"]), (&json!(ours.id), &json!(ours.spec)));
        assert_eq!((&told["task_type"], &told["task_payload"]), (&json!(WORK), &json!(PAYLOAD)));
        for option in told["options"].as_array().unwrap() {
            assert!(ours.options.contains(&option.as_str().unwrap().to_owned()), "{told}");
        }
        assert!(told["next_enqueue_at"].is_string(), "{told}");
    }
    worker.stop().await;
}

async fn monitored_events(bench: Bench) {
    let often = past(&bench).await;
    let path = format!("/scheduler_entries/{}/enqueue_events", often.id);
    let told = bench.monitor().await.get(&path).await;
    let told = told["events"].as_array().unwrap().iter();
    let told: Vec<&str> = told.map(|run| run["task_id"].as_str().unwrap()).collect();
    assert_eq!(told, history(&bench, &often.id).await);
}
