//! Why a job that Go wrote, or that a Go worker holds, is not running.

use rocket_jobqueue::inspect::{Explanation, Reason};
use rocket_jobqueue::{JobId, QueueName};
use serde_json::json;

use super::Cases;
use super::scene::{ACTIVE, ARCHIVED, COMPLETED, MEMBERS, PENDING, RETRY, SCHEDULED, Scene};
use crate::bench::{Bench, Side};

const AREA: &str = "Our inspector on Go's data";

pub fn add(cases: &mut Cases) {
    cases.one(AREA, "explain says why Go's job is not running, in each state", each_state);
    cases.one(AREA, "explain says that a job's Go worker is gone", killed);
}

async fn why(bench: &Bench, id: &str) -> Explanation {
    let (queue, id) = (QueueName::new("default").unwrap(), JobId::new(id).unwrap());
    bench.rust.inspector().explain(&queue, &id).await.unwrap()
}

/// Waits until the first reason is of this kind: a Go worker tells of its jobs each 5 s.
async fn until(bench: &Bench, id: &str, kind: &str) -> Explanation {
    let what = format!("job {id} is explained as {kind}");
    bench.until(&what, async || why(bench, id).await.reasons[0].kind() == kind).await;
    why(bench, id).await
}

async fn each_state(bench: Bench) {
    let scene = Scene::by(Side::Go, bench).await;
    let bench = &scene.bench;
    let told = async || {
        let why = why(bench, ACTIVE).await;
        matches!(&why.reasons[0], Reason::Running { worker: Some(_), .. })
    };
    bench.until("the Go worker tells of its job", told).await;
    let servers = bench.ask(json!({"call": "Servers"})).await.unwrap();
    let active = why(bench, ACTIVE).await;
    let Reason::Running { worker: Some(worker), .. } = &active.reasons[0] else {
        panic!("{active}");
    };
    assert_eq!(json!(worker.pid), servers[0]["PID"]);
    assert_eq!(json!(worker.host), servers[0]["Host"]);

    for (nth, id) in PENDING.into_iter().enumerate() {
        let why = why(bench, id).await;
        let Reason::InLine { ahead, at_least, workers, slots, in_use, .. } = why.reasons[0] else {
            panic!("{why}");
        };
        assert_eq!((ahead, at_least), (nth as u64, false));
        assert_eq!((workers, slots, in_use), (1, 1, 1), "{why}");
    }
    let scheduled = why(bench, SCHEDULED[0]).await;
    let Reason::Due { wait, .. } = scheduled.reasons[0] else { panic!("{scheduled}") };
    assert!((3500..=3600).contains(&wait.as_secs()), "{scheduled}");

    let said = bench.agreed("default", RETRY[0]).await["last_error"].clone();
    let retry = why(bench, RETRY[0]).await;
    let Reason::WaitsForRetry { retried, max_retry, error, .. } = &retry.reasons[0] else {
        panic!("{retry}");
    };
    assert_eq!((*retried, *max_retry, json!(error)), (1, 25, said));

    let said = bench.agreed("default", ARCHIVED[0]).await["last_error"].clone();
    let archived = why(bench, ARCHIVED[0]).await;
    let Reason::Archived { at: Some(_), error, .. } = &archived.reasons[0] else {
        panic!("{archived}");
    };
    assert_eq!(json!(error), said);

    let completed = why(bench, COMPLETED[0]).await;
    let Reason::Completed { at: Some(at), kept_until: Some(until), .. } = completed.reasons[0]
    else {
        panic!("{completed}");
    };
    assert_eq!(until.as_secs() - at.as_secs(), 3600);

    let member = why(bench, MEMBERS[0]).await;
    let Reason::GroupWaits { size, .. } = member.reasons[0] else { panic!("{member}") };
    assert_eq!(size, 3);

    bench.ask(json!({"call": "PauseQueue", "queue": "default"})).await.unwrap();
    let paused = why(bench, PENDING[0]).await;
    assert!(matches!(paused.reasons[0], Reason::QueuePaused { since: Some(_), .. }), "{paused}");
}

/// Nothing recovers the job here: no worker is left.
async fn killed(bench: Bench) {
    let scene = Scene::by(Side::Go, bench).await;
    until(&scene.bench, ACTIVE, "running").await;
    let bench = scene.kill().await;
    let gone = until(&bench, ACTIVE, "worker_gone").await;
    let Reason::WorkerGone { lease_ends: Some(ends), recovered: Some(at), .. } = gone.reasons[0]
    else {
        panic!("{gone}");
    };
    // Workers of this crate leave a Go worker's lease to Go for as long.
    assert_eq!(at.as_secs() - ends.as_secs(), 30);
    let pending = until(&bench, PENDING[0], "no_worker").await;
    assert!(pending.sentence.starts_with("no worker serves queue default"), "{pending}");
}
