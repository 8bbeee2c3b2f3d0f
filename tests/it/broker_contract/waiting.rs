//! Jobs that must start in time.

use crate::broker_contract::bench::*;
use rocket_jobqueue::OnConflict;
use rocket_jobqueue::internals::{Acted, Action};
use rocket_jobqueue::limits::MaxWaiting;

const LIMIT: Duration = Duration::from_secs(60);

impl OpenStore {
    /// A job that must start within a minute.
    fn urgent(&self, name: &str) -> NewJob {
        NewJob { expires_in: Some(LIMIT), ..self.job(name) }
    }

    /// It was archived, and no attempt was counted.
    async fn has_expired(&self, name: &str) {
        let info = self.see(name).await;
        assert_eq!((info.state, info.record.last_error.as_str()), (JobState::Archived, "expired"));
        assert_eq!((info.record.retried, info.record.last_failed_at), (0, None));
        assert_eq!((info.start_by, info.pending_since, info.due), (None, None, None));
        assert!(info.archived_at.is_some() && info.failures.is_empty());
        assert_eq!(self.counters().await, (0, 0));
    }
}

#[rstest]
#[tokio::test]
async fn a_job_that_did_not_start_in_time_is_archived_when_it_is_dequeued(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.urgent("a")).await;
    on.put(on.job("b")).await;
    on.put(on.urgent("c")).await;
    assert_eq!(on.see("a").await.start_by, Some(START + LIMIT));
    assert_eq!(on.see("b").await.start_by, None);
    on.age(LIMIT);
    on.put(on.urgent("d")).await;

    assert_eq!(ids(&on.take_many(9).await), ["b", "d"]);

    on.has_expired("a").await;
    on.has_expired("c").await;
    assert!(on.take_many(9).await.is_empty());
    assert_eq!(on.act("a", Action::Run).await, Acted::Done);
    assert_eq!(ids(&on.take_many(9).await), ["a"], "an operator wants it in spite of that");
}

#[rstest]
#[tokio::test]
async fn a_job_that_has_started_expires_no_more(
    #[values(Store::Memory, Store::Disk, Store::Redis)] store: Store,
    #[values(retry(secs(1)), Transition::Requeue, reclaim())] end: Transition,
) {
    let on = store.open().await;
    on.put(on.urgent("a")).await;
    on.age(LIMIT - MICRO);
    let delivery = on.take().await;
    assert_eq!(on.see("a").await.start_by, None);
    assert_eq!(on.settle(&delivery, end).await, Settled::Done);

    on.age(LIMIT + LIMIT);
    on.forward().await;
    assert_eq!(on.delete_expired().await, 0);

    assert_eq!(on.take().await.job.id, id("a"));
}

#[rstest]
#[tokio::test]
async fn the_limit_of_a_delayed_job_counts_from_its_due_time(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    for name in ["a", "b"] {
        on.put(on.urgent(name).placed(Placement::After(secs(3600)))).await;
    }
    on.put(on.urgent("c").placed(Placement::At(START + secs(9000)))).await;
    assert_eq!(on.see("a").await.start_by, Some(START + secs(3660)));
    assert_eq!(on.see("c").await.start_by, Some(START + secs(9060)));
    on.age(secs(3659));
    assert_eq!(on.forward().await.moved, 2);
    assert_eq!(on.take().await.job.id, id("a"));
    on.age(secs(1));
    assert!(on.take_many(9).await.is_empty());
    on.has_expired("b").await;

    // Nobody forwarded for an hour.
    on.age(secs(9000));
    assert_eq!(on.forward().await.moved, 0);
    on.has_expired("c").await;
}

#[rstest]
#[tokio::test]
async fn the_janitor_archives_late_jobs_of_a_queue_that_nobody_asks(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert!(on.pause(true).await);
    on.put(on.urgent("a")).await;
    on.put(on.job("b")).await;
    on.put(on.urgent("c")).await;
    on.put(on.urgent("later").placed(Placement::After(secs(9)))).await;
    on.put(on.urgent("deleted")).await;
    assert_eq!(on.act("deleted", Action::Delete).await, Acted::Done);
    on.age(LIMIT - MICRO);
    assert_eq!(on.delete_expired().await, 0);
    on.age(MICRO);
    assert_eq!(on.broker.delete_expired(&on.queue, 1).await.unwrap(), 1);
    assert_eq!(on.delete_expired().await, 1);
    on.has_expired("a").await;
    on.has_expired("c").await;

    on.age(secs(9));
    assert_eq!(on.delete_expired().await, 0, "it is the forwarder's");
    on.forward().await;
    on.has_expired("later").await;
    assert!(on.pause(false).await);
    assert_eq!(ids(&on.take_many(9).await), ["b"]);
}

#[rstest]
#[tokio::test]
async fn an_expired_job_keeps_nobody_else_out(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Until::Start, Until::Success, Until::Expiry)] ends: Until,
    #[values(false, true)] by_janitor: bool,
) {
    let on = store.open().await;
    on.put(until(on.urgent("a"), ends)).await;
    on.age(LIMIT);
    match by_janitor {
        true => assert_eq!(on.delete_expired().await, 1),
        false => assert!(on.take_many(9).await.is_empty()),
    }
    on.has_expired("a").await;

    let next = on.put(until(on.job("b"), Until::Success)).await;

    assert_eq!(created(&next), ends != Until::Expiry, "{next:?}");
}

#[rstest]
#[tokio::test]
async fn what_an_operator_has_decided_about_does_not_expire(
    #[values(Store::Memory, Store::Disk, Store::Redis)] store: Store,
    #[values(
        Action::Run,
        Action::Reschedule(Placement::After(secs(90))),
        Action::Archive
    )]
    action: Action,
) {
    let on = store.open().await;
    on.put(on.urgent("a").placed(Placement::After(secs(30)))).await;
    assert_eq!(on.act("a", action).await, Acted::Done);
    on.age(secs(100));
    on.forward().await;
    assert_eq!(on.delete_expired().await, 0);
    if action == Action::Archive {
        assert_eq!(on.act("a", Action::Run).await, Acted::Done);
    }
    assert_eq!(on.take().await.job.id, id("a"));
}

#[rstest]
#[tokio::test]
async fn the_limit_follows_the_job_that_replaces_or_extends(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let later = |name: &str, after, on_conflict| NewJob {
        on_conflict,
        ..until(on.urgent(name), Until::Success).placed(Placement::After(secs(after)))
    };
    on.put(later("a", 30, OnConflict::Reject)).await;
    on.put(later("b", 50, OnConflict::Extend)).await;
    assert_eq!(on.see("a").await.start_by, Some(START + secs(110)));
    on.put(later("b", 70, OnConflict::Replace)).await;
    assert_eq!(on.see("a").await.start_by, Some(START + secs(130)));
    on.put(NewJob { expires_in: None, ..later("b", 70, OnConflict::Replace) }).await;
    assert_eq!(on.see("a").await.start_by, None);
    on.age(secs(130));
    assert_eq!(on.delete_expired().await, 0);
    on.forward().await;
    assert_eq!(on.take().await.job.id, id("a"));
}

#[rstest]
#[tokio::test]
async fn a_job_is_made_the_next_one_from_every_state_in_which_it_does_not_run(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["archived", "retried"]).await;
    on.run(archive()).await;
    on.run(retry(secs(60))).await;
    on.fill(&["first", "middle", "last"]).await;
    on.put(on.job("scheduled").placed(Placement::After(secs(60)))).await;
    on.put(grouped(on.job("grouped"), "digest")).await;
    on.clock.advance(secs(7));
    let names = ["middle", "last", "scheduled", "grouped", "archived", "retried", "retried"];
    for name in names {
        assert_eq!(on.act(name, Action::RunNext).await, Acted::Done, "{name}");
    }
    assert_eq!(on.see("middle").await.pending_since, Some(START), "it goes on waiting");
    assert_eq!(on.see("grouped").await.pending_since, Some(START + secs(7)));

    let order = ["retried", "archived", "grouped", "scheduled", "last", "middle", "first"];
    let taken = on.take_many(9).await;

    assert_eq!(ids(&taken), order);
    assert_eq!(on.act("first", Action::RunNext).await, Acted::WrongState(JobState::Active));
    assert_eq!(on.act("none", Action::RunNext).await, Acted::NotFound);
    assert_eq!(on.forward().await.moved, 0);
}

impl OpenStore {
    /// Replaces the job of this id.
    async fn replace(&self, job: NewJob) -> Enqueued {
        self.put(NewJob { on_conflict: OnConflict::ReplaceJob, ..job }).await
    }

    /// Another job of this name.
    fn other(&self, name: &str) -> NewJob {
        let mut job = self.job(name);
        job.record.job_type = "other".to_owned();
        job.record.payload = Some(b"other".to_vec());
        job.record.max_retry = 3;
        job
    }
}

#[rstest]
#[tokio::test]
async fn a_job_that_waits_is_replaced_by_its_id(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(
        JobState::Pending,
        JobState::Scheduled,
        JobState::Retry,
        JobState::Aggregating
    )]
    state: JobState,
) {
    let on = store.open().await;
    on.put(match state {
        JobState::Scheduled => on.urgent("a").placed(Placement::After(secs(60))),
        JobState::Aggregating => grouped(on.job("a"), "digest"),
        _ => on.urgent("a"),
    })
    .await;
    if state == JobState::Retry {
        on.run(retry(secs(60))).await;
    }
    on.fill(&["b"]).await;
    let stays = state == JobState::Pending;

    let later = on.other("a").placed(Placement::After(secs(30)));
    let replaced = on.replace(later).await;

    let found = on.see("a").await;
    let expected = if stays { JobState::Pending } else { JobState::Scheduled };
    let due = if stays { START } else { START + secs(30) };
    assert_eq!(replaced, Enqueued::Replaced { id: id("a"), state: expected, due });
    assert_eq!((found.state, found.start_by), (expected, None));
    let record = &found.record;
    assert_eq!((record.job_type.as_str(), record.payload_bytes()), ("other", &b"other"[..]));
    assert_eq!((record.max_retry, record.retried, record.last_error.as_str()), (3, 0, ""));
    assert!(record.group.is_empty() && found.failures.is_empty());
    on.age(secs(60));
    on.forward().await;
    let order = if stays { ["a", "b"] } else { ["b", "a"] };
    assert_eq!(ids(&on.take_many(9).await), order, "once");
}

#[rstest]
#[tokio::test]
async fn a_job_that_does_not_wait_is_not_replaced(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert_eq!(on.replace(on.other("a")).await, Enqueued::NotFound);
    assert_eq!(on.find("a").await, None);
    on.put(on.kept("a", secs(60))).await;
    let delivery = on.take().await;
    assert_eq!(on.replace(on.other("a")).await, Enqueued::WrongState(JobState::Active));
    assert_eq!(on.settle(&delivery, done()).await, Settled::Done);
    assert_eq!(on.replace(on.other("a")).await, Enqueued::WrongState(JobState::Completed));
    on.put(on.job("b")).await;
    assert_eq!(on.act("b", Action::Archive).await, Acted::Done);
    assert_eq!(on.replace(on.other("b")).await, Enqueued::WrongState(JobState::Archived));
    assert_eq!(on.see("b").await.record.job_type, "mail");
}

#[rstest]
#[tokio::test]
async fn the_lock_of_a_replaced_job_is_the_new_one(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(until(on.job("a"), Until::Success)).await;
    on.put(until(on.other("b"), Until::Success)).await;
    let taken = on.replace(until(on.other("a"), Until::Success)).await;
    assert_eq!(taken, Enqueued::Duplicate { holder: id("b") });
    assert_eq!(on.see("a").await.record.job_type, "mail");

    // The same lock, then none, then one that lasts.
    for job in [until(on.job("a"), Until::Start), on.job("a")] {
        assert!(matches!(on.replace(job).await, Enqueued::Replaced { .. }));
    }
    assert!(created(&on.put(until(on.job("c"), Until::Success)).await), "it is free");
    assert_eq!(on.act("b", Action::Delete).await, Acted::Done);
    let replaced = on.replace(until(on.other("a"), Until::Expiry)).await;
    assert!(matches!(replaced, Enqueued::Replaced { .. }), "{replaced:?}");
    assert!(matches!(on.replace(on.job("a")).await, Enqueued::Replaced { .. }));
    let again = on.put(until(on.other("d"), Until::Success)).await;
    assert_eq!(again, Enqueued::Duplicate { holder: id("a") });
}

/// A job of a queue in which three may wait.
fn bound(job: NewJob, bound: MaxWaiting) -> NewJob {
    NewJob { max_waiting: Some(bound), ..job }
}

#[rstest]
#[tokio::test]
async fn a_full_queue_refuses_a_job_and_nothing_else(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let three = |job| bound(job, MaxWaiting::refuse(3));
    on.put(guarded(three(on.job("retried")), "key", "body")).await;
    on.run(retry(secs(60))).await;
    let delayed = on.job("scheduled").placed(Placement::After(secs(60)));
    assert!(created(&on.put(three(delayed)).await));
    let mut locked = unique(three(on.job("locked")), secs(60));
    locked.record.payload = Some(b"locked".to_vec());
    let batch = [locked.clone(), three(on.job("d")), three(on.job("e"))];
    let outcomes = on.broker.enqueue(&batch).await.unwrap();
    assert!(created(&outcomes[0]));
    assert_eq!(outcomes[1..], [Enqueued::QueueFull, Enqueued::QueueFull]);
    let delayed = three(on.job("f").placed(Placement::After(secs(60))));
    assert_eq!(on.put(delayed).await, Enqueued::QueueFull);
    assert_eq!(on.find("d").await, None, "nothing is stored of it");
    let mut kept = unique(on.job("g"), secs(60));
    kept.record.payload = Some(b"g".to_vec());
    assert_eq!(on.put(three(kept.clone())).await, Enqueued::QueueFull);
    assert!(created(&on.put(kept).await), "nor its lock, and who has no bound is not bound");
    assert_eq!(on.act("g", Action::Delete).await, Acted::Done);

    // What adds no job that waits.
    locked.record.id = id("h");
    let again = |on_conflict| NewJob { on_conflict, ..locked.clone() };
    let duplicate = Enqueued::Duplicate { holder: id("locked") };
    assert_eq!(on.put(again(OnConflict::Reject)).await, duplicate);
    assert!(matches!(on.put(again(OnConflict::Replace)).await, Enqueued::Replaced { .. }));
    let replayed = on.put(guarded(three(on.job("i")), "key", "body")).await;
    assert_eq!(replayed, Enqueued::Replayed { id: id("retried") });
    assert!(created(&on.put(three(grouped(on.job("j"), "digest"))).await));

    on.take().await;
    assert!(created(&on.put(three(on.job("k"))).await), "one that runs does not wait");
    assert_eq!(on.put(three(on.job("l"))).await, Enqueued::QueueFull);
}

#[rstest]
#[tokio::test]
async fn the_oldest_waiting_job_makes_room_for_the_newest(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let three = |job| bound(job, MaxWaiting::drop_oldest(3));
    for name in ["a", "b"] {
        on.put(unique_by(three(on.urgent(name)), name)).await;
    }
    on.put(three(on.job("later").placed(Placement::After(secs(60))))).await;
    for name in ["c", "d"] {
        assert!(created(&on.put(three(on.job(name))).await));
    }
    for name in ["a", "b"] {
        let info = on.see(name).await;
        let found = (info.state, info.record.last_error.as_str(), info.start_by);
        assert_eq!(found, (JobState::Archived, "displaced", None));
        assert!(created(&on.put(unique_by(on.job(&format!("{name}2")), name)).await));
    }
    assert_eq!(on.counters().await, (0, 0), "no attempt is counted");
    assert_eq!(ids(&on.take_many(9).await), ["c", "d", "a2", "b2"]);

    // None is pending: the one that is due first. The bound is lower now.
    for (name, after) in [("e", 30), ("f", 90)] {
        on.put(on.job(name).placed(Placement::After(secs(after)))).await;
    }
    let one = bound(on.job("g"), MaxWaiting::drop_oldest(1));
    assert!(created(&on.put(one).await));
    for name in ["e", "later", "f"] {
        assert_eq!(on.state(name).await, Some(JobState::Archived), "{name}");
    }
    assert_eq!(ids(&on.take_many(9).await), ["g"]);
    assert_eq!(on.delete_expired().await, 0);
    assert_eq!(on.forward().await, Forwarded::default());
}

/// A job with a lock of this payload.
fn unique_by(mut job: NewJob, payload: &str) -> NewJob {
    job.record.payload = Some(payload.as_bytes().to_vec());
    unique(job, secs(3600))
}

#[rstest]
#[tokio::test]
async fn no_more_jobs_wait_than_may_however_many_come_at_once(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.broker.detached();
    let jobs: Vec<_> =
        (0..300).map(|n| [bound(on.job(&format!("job-{n}")), MaxWaiting::refuse(100))]).collect();
    let ask = jobs.iter().enumerate().map(|(n, job)| {
        let broker = if n % 2 == 0 { &on.broker } else { &other };
        broker.enqueue(job)
    });
    let answers = futures_util::future::join_all(ask).await;
    let stored = answers.iter().filter(|answer| created(&answer.as_ref().unwrap()[0]));
    assert_eq!(stored.count(), 100);
    assert_eq!(on.size(JobState::Pending).await, 100);
}
