//! Our inspector on data written by Go and held by a Go worker.

use rocket_jobqueue::{JobId, JobState, Placement, QueueName, Timestamp, inspect::Selection};
use serde_json::json;

use super::Cases;
use super::actions::{Action, ids};
use super::scene::{ACTIVE, GROUP, STATES, Scene};
use crate::bench::{Bench, Side};
use crate::settings::{Order, hex};

const AREA: &str = "Our inspector on Go's data";

pub fn add(cases: &mut Cases) {
    cases.one(AREA, "its lists of all states, ids in order, are Asynq's", lists);
    cases.one(AREA, "it sees a Go server, its queues and what it runs", servers);
    for action in Action::ALL {
        for (state, _) in STATES {
            let there =
                matches!((action, state), (Action::Run, "pending") | (Action::Archive, "archived"));
            if there {
                continue;
            }
            let name = format!("{} ({state})", action.verb());
            cases.one(AREA, &name, move |bench| one(bench, action, state));
            let name = format!("{}_all ({state})", action.verb());
            cases.one(AREA, &name, move |bench| all(bench, action, state));
        }
    }
    cases.one(AREA, "an action on a running job is refused", running);
    cases.one(AREA, "reschedule", reschedule);
    cases.one(AREA, "edit_payload", edit_payload);
    cases.one(AREA, "delete_queue", delete_queue);
}

fn name() -> QueueName {
    QueueName::new("default").unwrap()
}

async fn lists(bench: Bench) {
    let scene = Scene::by(Side::Go, bench).await;
    for (state, expected) in STATES {
        assert_eq!(scene.ids(state).await, expected, "{state}");
        for id in expected {
            assert_eq!(scene.bench.agreed("default", id).await["state"], state);
        }
    }
    assert_eq!(scene.ids("active").await, [ACTIVE]);
}

async fn servers(bench: Bench) {
    let scene = Scene::by(Side::Go, bench).await;
    let told = scene.bench.ask(json!({"call": "Servers"})).await.unwrap();
    let at_it = async || {
        let ours = scene.bench.rust.inspector().servers().await.unwrap();
        ours.servers.len() == 1 && ours.servers[0].running.len() == 1
    };
    scene.bench.until("the Go server tells of its job", at_it).await;
    let ours = scene.bench.rust.inspector().servers().await.unwrap();
    let server = &ours.servers[0];
    assert_eq!((&told[0]["ID"], &told[0]["PID"]), (&json!(server.server_id), &json!(server.pid)));
    assert_eq!(server.running[0].id.as_str(), ACTIVE);
}

async fn one(bench: Bench, action: Action, state: &'static str) {
    let scene = Scene::by(Side::Go, bench).await;
    let (inspector, id) = (scene.bench.rust.inspector(), JobId::new(ids(state)[0]).unwrap());
    match action {
        Action::Run => inspector.run(&name(), &id).await,
        Action::Archive => inspector.archive(&name(), &id).await,
        Action::Delete => inspector.delete(&name(), &id).await,
    }
    .unwrap();
    scene.moved(state, 1, action).await;
}

async fn all(bench: Bench, action: Action, state: &'static str) {
    let scene = Scene::by(Side::Go, bench).await;
    let inspector = scene.bench.rust.inspector();
    let of = match state {
        "aggregating" => Selection::group(GROUP),
        state => Selection::from(JobState::parse(state).unwrap()),
    };
    let done = match action {
        Action::Run => inspector.run_all(&name(), of).await,
        Action::Archive => inspector.archive_all(&name(), of).await,
        Action::Delete => inspector.delete_all(&name(), of).await,
    };
    assert_eq!(done.unwrap().done, 3);
    scene.moved(state, 3, action).await;
}

async fn running(bench: Bench) {
    let scene = Scene::by(Side::Go, bench).await;
    let (inspector, id) = (scene.bench.rust.inspector(), JobId::new(ACTIVE).unwrap());
    assert!(inspector.delete(&name(), &id).await.unwrap_err().is_wrong_state());
    assert!(inspector.archive(&name(), &id).await.unwrap_err().is_wrong_state());
    assert!(inspector.run(&name(), &id).await.unwrap_err().is_wrong_state());
    assert_eq!(scene.bench.agreed("default", ACTIVE).await["state"], "active");
}

async fn reschedule(bench: Bench) {
    let id = bench.put(Side::Go, &Order { r#in: 3600, ..Order::plain() }).await;
    let at = Timestamp::from_secs(4_000_000_000);
    let job = JobId::new(&id).unwrap();
    bench.rust.inspector().reschedule(&name(), &job, Placement::At(at)).await.unwrap();
    assert_eq!(bench.agreed("default", &id).await["next"], 4_000_000_000_i64);
    let now = Placement::Now;
    bench.rust.inspector().reschedule(&name(), &job, now).await.unwrap();
    let worker = bench.worker(Side::Go, &bench.setup()).await;
    bench.noted(&id, "end", 1).await;
    worker.stop().await;
}

async fn edit_payload(bench: Bench) {
    let id = bench.put(Side::Go, &Order { r#in: 1, ..Order::plain() }).await;
    let job = JobId::new(&id).unwrap();
    bench.rust.inspector().edit_payload(&name(), &job, r#"{"n":2}"#).await.unwrap();
    assert_eq!(bench.agreed("default", &id).await["hex"], hex(br#"{"n":2}"#));
    let worker = bench.worker(Side::Go, &bench.setup()).await;
    assert_eq!(bench.noted(&id, "end", 1).await.hex, hex(br#"{"n":2}"#));
    worker.stop().await;
}

async fn delete_queue(bench: Bench) {
    bench.put(Side::Go, &Order::plain()).await;
    let inspector = bench.rust.inspector();
    assert!(inspector.delete_queue(&name(), false).await.unwrap_err().is_wrong_state());
    inspector.delete_queue(&name(), true).await.unwrap();
    assert_eq!(bench.ask(json!({"call": "Queues"})).await.unwrap(), json!([]));
    assert_eq!(bench.redis.cli(&["keys", "asynq:{default}:[^x]*"]), "");
}
