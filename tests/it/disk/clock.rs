//! A clock that is behind when the store is opened again: a machine without a battery, a
//! restored snapshot, a wrong time server. Or one that is set back while jobs wait.

use std::time::Duration;

use rocket_jobqueue::handler::Transition;
use rocket_jobqueue::internals::{Broker, Inspect, Settled};
use rocket_jobqueue::{Clock, JobState, Placement};

use super::{HOUR, PROMPT, START, demo_with, id, job, open, put, queue, register};
use crate::support::wall_clock::WallClock;

#[tokio::test]
async fn a_clock_set_back_between_two_starts_loses_no_job_and_delays_none_for_ever() {
    const DAY: Duration = Duration::from_secs(86_400);
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Clock::manual(START)).await;
    put(&store, job("active")).await;
    store.dequeue(&[queue()], 1).await.unwrap();
    put(&store, job("retried")).await;
    let delivery = store.dequeue(&[queue()], 1).await.unwrap().deliveries.remove(0);
    let retry = Transition::Retry { after: HOUR, error: "smtp is down".to_owned(), counted: true };
    store.settle(&[(delivery, retry).into()]).await.unwrap();
    put(&store, job("pending")).await;
    put(&store, job("scheduled").placed(Placement::After(HOUR))).await;
    let mut grouped = job("grouped");
    grouped.record.group = "g".to_owned();
    put(&store, grouped).await;
    drop(store);

    let clock = Clock::manual(START - DAY);
    let store = open(folder.path(), &clock).await;
    for (name, state) in [
        ("active", JobState::Active),
        ("retried", JobState::Retry),
        ("pending", JobState::Pending),
        ("scheduled", JobState::Scheduled),
        ("grouped", JobState::Aggregating),
    ] {
        let info = store.job(&queue(), &id(name)).await.unwrap().expect(name);
        assert_eq!(info.state, state, "{name}");
    }
    // What was active is found at once, and what waits for no time runs.
    let lost = store.first_expired_leases(&queue(), 10).await.unwrap().remove(0);
    let reclaim = Transition::Reclaim { error: "its process ended".to_owned() };
    store.settle(&[(lost, reclaim).into()]).await.unwrap();
    for delivery in store.dequeue(&[queue()], 10).await.unwrap().deliveries {
        let done = Transition::Complete { result: None };
        assert_eq!(store.settle(&[(delivery, done).into()]).await.unwrap(), [Settled::Done]);
    }
    // A due time is an instant: it comes a day later by this clock.
    assert_eq!(store.forward(&queue(), 10).await.unwrap().moved, 0);
    assert_eq!(store.next_due(&[queue()]).await.unwrap(), [Some(DAY + HOUR)]);
    clock.advance(DAY + HOUR);
    assert_eq!(store.forward(&queue(), 10).await.unwrap().moved, 2);
    // A job that is enqueued now goes behind those that came before.
    put(&store, job("last")).await;
    let order = store.dequeue(&[queue()], 10).await.unwrap().deliveries;
    let order: Vec<_> = order.iter().map(|delivery| delivery.job.id.as_str()).collect();
    assert_eq!(order, ["retried", "scheduled", "last"]);
}

#[test]
fn a_clock_set_back_while_jobs_wait_holds_up_no_new_job_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let clock = WallClock::new(folder.path());
    let variables = clock.variables();
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let path = folder.path().join("jobs");
    let mut program = demo_with(&path, &["--no-greeting"], &variables);
    let origin = program.origin();
    register(&origin, "due later", 600);
    register(&origin, "long past", 1);
    program.printed("long past", PROMPT);

    clock.set(-3_600);
    register(&origin, "after it was set", 1);
    program.printed("after it was set", PROMPT);
    // The next process begins with the wrong clock.
    program.signal("KILL");
    program.child.wait().unwrap();
    drop(program);
    let program = demo_with(&path, &["--no-greeting"], &variables);
    let origin = program.origin();
    register(&origin, "of the next process", 1);
    program.printed("of the next process", PROMPT);

    clock.set(601);
    register(&origin, "set right", 1);
    program.printed("due later", PROMPT);
    assert!(program.printed_so_far("due later").is_empty(), "once");
}
