//! Successors: where the holder of a unique lock runs, the newest of the jobs that would replace it
//! is kept, and enqueued when the holder has ended.

use crate::broker_contract::bench::*;
use rocket_jobqueue::OnConflict;
use rocket_jobqueue::internals::{Acted, Action, RepairScope};

impl OpenStore {
    /// A job with the lock that all jobs of this test share.
    fn rebuild(&self, name: &str, revision: u32) -> NewJob {
        let mut job = unique(self.job(name), secs(3600));
        job.record.payload = Some(revision.to_string().into_bytes());
        NewJob { unique_key: Some("0c".repeat(32)), on_conflict: OnConflict::Replace, ..job }
    }

    /// The holder runs, and `next` waits for its end.
    async fn one_follows(&self) -> Delivery {
        assert!(created(&self.put(self.rebuild("runs", 1)).await));
        let holder = self.take().await;
        let outcome = self.put(self.rebuild("next", 2)).await;
        let (state, due) = (JobState::Scheduled, self.clock.now());
        assert_eq!(outcome, Enqueued::Created { state, due });
        assert!(self.take_many(9).await.is_empty(), "the holder runs");
        holder
    }

    /// Which job holds the lock.
    async fn holder(&self) -> Option<JobId> {
        let asks = NewJob { on_conflict: OnConflict::Reject, ..self.rebuild("asks", 9) };
        match self.put(asks).await {
            Enqueued::Duplicate { holder } => Some(holder),
            outcome => {
                assert!(created(&outcome));
                assert_eq!(self.act("asks", Action::Delete).await, Acted::Done);
                None
            }
        }
    }

    async fn is_sound(&self) {
        let checked = self.broker.check_queue(&self.queue, None, RepairScope::Nothing).await;
        let findings = checked.unwrap().findings;
        assert!(findings.is_empty(), "{findings:?}");
    }
}

#[rstest]
#[case::success(done())]
#[case::success_that_leaves_nothing(Transition::Revoke)]
#[case::failure_for_good(archive())]
#[case::failure_that_would_be_retried(retry(secs(60)))]
#[case::a_worker_that_stops(Transition::Requeue)]
#[tokio::test]
async fn the_newest_job_follows_the_one_that_runs_however_that_ends(
    #[case] end: Transition,
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let holder = on.one_follows().await;
    assert_eq!(on.holder().await, Some(id("runs")));
    for revision in [3, 4] {
        let outcome = on.put(on.rebuild(&format!("other-{revision}"), revision)).await;
        let (state, due) = (JobState::Scheduled, on.clock.now());
        assert_eq!(outcome, Enqueued::Replaced { id: id("next"), state, due });
        assert_eq!(on.find(&format!("other-{revision}")).await, None, "at most one is kept");
    }
    on.is_sound().await;

    assert_eq!(on.settle(&holder, end.clone()).await, Settled::Done);

    let next = on.take_many(9).await;
    assert_eq!(ids(&next), ["next"]);
    assert_eq!(next[0].job.payload_bytes(), b"4");
    assert_eq!(on.holder().await, Some(id("next")));
    let is_archived = on.state("runs").await == Some(JobState::Archived);
    assert_eq!(is_archived, end == archive());
    on.settle(&next[0], done()).await;
    assert_eq!(on.holder().await, None);
    on.age(secs(4000));
    on.forward().await;
    assert!(on.take_many(9).await.is_empty(), "nothing runs twice");
    on.is_sound().await;
}

#[rstest]
#[tokio::test]
async fn a_successor_has_its_own_time_and_expiry(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let holder = on.one_follows().await;
    let later = on.rebuild("later", 3).placed(Placement::After(secs(90)));
    on.put(NewJob { expires_in: Some(secs(60)), ..later }).await;
    on.clock.advance(secs(10));
    on.settle(&holder, done()).await;
    let found = on.see("next").await;
    assert_eq!((found.state, found.due), (JobState::Scheduled, Some(START + secs(90))));
    assert_eq!(found.start_by, Some(START + secs(150)));
    on.clock.advance(secs(80));
    on.forward().await;
    assert_eq!(ids(&on.take_many(9).await), ["next"]);
}

#[rstest]
#[case::recovered(reclaim())]
#[case::given_up(archive())]
#[tokio::test]
async fn a_vanished_holder_is_followed_too_and_comes_back_for_nothing(
    #[case] end: Transition,
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let stale = on.one_follows().await;
    on.pass(&stale.lease);
    let found = on.first_expired_leases(10).await;
    assert_eq!(on.settle(&found[0], end).await, Settled::Done);
    assert_eq!(ids(&on.take_many(9).await), ["next"]);
    assert_eq!(on.extend(&stale.lease).await, None);
    assert_eq!(on.settle(&stale, done()).await, Settled::Lost);
    assert_eq!(on.holder().await, Some(id("next")));
}

#[rstest]
#[tokio::test]
async fn a_successor_waits_as_long_as_its_holder_runs(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let mut holder = on.one_follows().await;
    for _ in 0..150 {
        on.clock.advance(secs(29));
        holder.lease = on.extend(&holder.lease).await.unwrap();
        on.forward().await;
        on.delete_expired().await;
    }
    assert!(on.take_many(9).await.is_empty());
    on.settle(&holder, done()).await;
    assert_eq!(ids(&on.take_many(9).await), ["next"]);
}

#[rstest]
#[tokio::test]
async fn an_operator_decides_about_a_successor_as_about_any_job(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Action::Run, Action::Archive, Action::Delete)] action: Action,
) {
    let on = store.open().await;
    let holder = on.one_follows().await;
    assert_eq!(on.act("next", action).await, Acted::Done);
    let expected: &[&str] = if action == Action::Run { &["next"] } else { &[] };
    assert_eq!(ids(&on.take_many(9).await), expected);
    // It is a successor no more: the next one is kept beside it.
    assert!(created(&on.put(on.rebuild("other", 3)).await));
    on.settle(&holder, done()).await;
    assert_eq!(ids(&on.take_many(9).await), ["other"]);
    assert_eq!(on.holder().await, Some(id("other")));
}

#[rstest]
#[tokio::test]
async fn a_lock_that_ended_meanwhile_is_the_newer_jobs(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let mut holder = on.one_follows().await;
    on.age(secs(3600));
    assert!(created(&on.put(on.rebuild("newer", 3)).await), "the lock is over");
    if let Some(lease) = on.extend(&holder.lease).await {
        holder.lease = lease;
    }
    on.settle(&holder, done()).await;
    on.forward().await;
    assert_eq!(ids(&on.take_many(9).await), ["newer"], "the successor is older than that");
    assert_eq!(on.state("next").await, None);
}

#[rstest]
#[tokio::test]
async fn a_full_queue_and_an_id_in_use_refuse_a_successor(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    use rocket_jobqueue::limits::MaxWaiting;
    let on = store.open().await;
    assert!(created(&on.put(on.rebuild("runs", 1)).await));
    on.take().await;
    on.put(on.job("waits")).await;
    let full = NewJob { max_waiting: Some(MaxWaiting::refuse(1)), ..on.rebuild("next", 2) };
    assert_eq!(on.put(full).await, Enqueued::QueueFull);
    assert_eq!(on.put(on.rebuild("waits", 2)).await, Enqueued::IdConflict);
    let ends = NewJob { until: Until::Expiry, ..on.rebuild("next", 2) };
    assert_eq!(on.put(ends).await, Enqueued::Duplicate { holder: id("runs") });
}

#[rstest]
#[tokio::test]
async fn the_explanation_of_a_successor_names_its_holder(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.one_follows().await;
    let standing = on.broker.standing(&on.queue, &id("next")).await.unwrap();
    assert_eq!(standing.follows, Some(id("runs")));
    assert_eq!(on.broker.standing(&on.queue, &id("runs")).await.unwrap().follows, None);
}

#[tokio::test]
async fn a_store_on_disk_opens_with_its_successors() {
    let on = Store::Disk.open().await;
    let stale = on.one_follows().await;
    let OpenStore { broker, clock, queue, folder, .. } = on;
    drop(broker);
    let on = OpenStore::reopened(folder.unwrap(), clock, queue).await;
    assert!(on.take_many(9).await.is_empty());
    on.pass(&stale.lease);
    let found = on.first_expired_leases(10).await;
    assert_eq!(on.settle(&found[0], reclaim()).await, Settled::Done);
    assert_eq!(ids(&on.take_many(9).await), ["next"]);
    assert_eq!(on.holder().await, Some(id("next")));
}

/// What Go's scripts do: they know nothing of a successor, and the janitor finds out.
#[rstest]
#[case::done(&["DEL Q:t:runs", "LREM Q:active 1 runs", "ZREM Q:lease runs"])]
#[case::failed(&[
    "LREM Q:active 1 runs", "ZREM Q:lease runs", "ZADD Q:retry 9999999999 runs",
    "HSET Q:t:runs state retry"
])]
#[case::recovered(&[
    "LREM Q:active 1 runs", "ZREM Q:lease runs", "RPUSH Q:pending runs", "HSET Q:t:runs state pending"
])]
#[case::archived(&[
    "LREM Q:active 1 runs", "ZREM Q:lease runs", "ZADD Q:archived 1700000000 runs",
    "HSET Q:t:runs state archived"
])]
#[tokio::test]
async fn a_holder_that_a_go_worker_ended_is_followed_within_seconds(#[case] commands: &[&str]) {
    let on = Store::Redis.open().await;
    on.one_follows().await;
    let server = on.server.as_ref().unwrap();
    for command in commands {
        let command = command.replace("Q:", &format!("asynq:{{{}}}:", on.queue));
        server.cli(&command.split(' ').collect::<Vec<_>>());
    }
    assert!(on.state("next").await == Some(JobState::Scheduled));
    on.delete_expired().await;
    assert_eq!(ids(&on.take_many(9).await), ["next"]);
    assert_eq!(on.holder().await, Some(id("next")));
    on.is_sound().await;
}
