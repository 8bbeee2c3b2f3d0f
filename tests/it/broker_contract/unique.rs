//! Unique locks.

use crate::broker_contract::bench::*;
use rocket_jobqueue::internals::{Acted, Action};

#[rstest]
#[tokio::test]
async fn a_second_job_under_a_lock_is_refused_and_told_the_holder(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert!(created(&on.put(unique(on.job("a"), secs(60))).await));

    let outcome = on.put(unique(on.job("b"), secs(60))).await;

    assert_eq!(outcome, Enqueued::Duplicate { holder: id("a") });
    assert_eq!(on.find("b").await, None);
    assert!(!on.see("a").await.record.unique_key.is_empty());
    assert!(created(&on.put(on.job("c")).await), "a job that asks for no lock is not concerned");
}

#[rstest]
#[tokio::test]
async fn locks_differ_by_queue_type_and_payload(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    let with = |name: &str, job_type: &str, payload: Option<&[u8]>| {
        let mut job = unique(on.job(name), secs(60));
        job.record.job_type = job_type.to_owned();
        job.record.payload = payload.map(<[u8]>::to_vec);
        job
    };
    for job in [
        with("a", "mail", Some(b"{}")),
        with("b", "mail", Some(b"{} ")),
        with("c", "Mail", Some(b"{}")),
        with("d", "mail", Some(b"")),
        with("e", "mail", None),
        unique(other.job("f"), secs(60)),
    ] {
        let name = job.record.id.clone();
        assert!(created(&on.put(job).await), "{name}");
    }
    let outcome = on.put(with("g", "mail", None)).await;
    assert_eq!(outcome, Enqueued::Duplicate { holder: id("e") });
}

#[rstest]
#[tokio::test]
async fn a_lock_is_released_when_the_job_ends_well(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(done(), Transition::Revoke)] end: Transition,
    #[values(0, 60)] retention: u64,
) {
    let on = store.open().await;
    on.put(unique(on.kept("a", secs(retention)), secs(600))).await;

    on.run(end).await;

    assert!(created(&on.put(unique(on.job("b"), secs(60))).await));
}

#[rstest]
#[tokio::test]
async fn a_lock_is_kept_when_the_job_has_not_ended_well(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(retry(secs(1)), archive(), Transition::Requeue, reclaim())] end: Transition,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(600))).await;

    on.run(end).await;

    let outcome = on.put(unique(on.job("b"), secs(60))).await;
    assert_eq!(outcome, Enqueued::Duplicate { holder: id("a") });
}

#[rstest]
#[tokio::test]
async fn a_lock_ends_by_the_clock(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60))).await;
    let refused =
        async || matches!(on.put(unique(on.job("b"), secs(60))).await, Enqueued::Duplicate { .. });

    on.age(secs(59));
    assert!(refused().await);
    on.age(secs(1));
    assert!(!refused().await);
}

#[rstest]
#[tokio::test]
async fn the_lock_of_a_scheduled_job_counts_from_its_due_time(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60)).placed(Placement::After(secs(100)))).await;
    let refused =
        async || matches!(on.put(unique(on.job("b"), secs(60))).await, Enqueued::Duplicate { .. });

    on.age(secs(159));
    assert!(refused().await);
    on.age(secs(1));
    assert!(!refused().await);
}

#[rstest]
#[tokio::test]
async fn a_lock_that_passed_to_another_job_is_not_released_by_the_first(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60))).await;
    on.age(secs(60));
    on.put(unique(on.job("b"), secs(60))).await;

    assert_eq!(on.run(done()).await.job.id, id("a"));

    let outcome = on.put(unique(on.job("c"), secs(60))).await;
    assert_eq!(outcome, Enqueued::Duplicate { holder: id("b") });
}

#[rstest]
#[tokio::test]
async fn a_duplicate_is_reported_before_an_id_conflict(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60))).await;

    let outcome = on.put(unique(on.job("a"), secs(60))).await;

    assert_eq!(outcome, Enqueued::Duplicate { holder: id("a") });
}

#[rstest]
#[tokio::test]
async fn an_id_conflict_takes_no_lock(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;

    assert_eq!(on.put(unique(on.job("a"), secs(60))).await, Enqueued::IdConflict);

    assert!(created(&on.put(unique(on.job("b"), secs(60))).await));
}

impl OpenStore {
    /// Whether a further job of this kind is refused, and because of `holder`.
    async fn is_held_by(&self, holder: &str) -> bool {
        let probe = until(self.job("probe"), Until::Success);
        match self.put(probe).await {
            Enqueued::Duplicate { holder: found } => {
                assert_eq!(found, id(holder));
                true
            }
            Enqueued::Created { .. } => {
                assert_eq!(self.act("probe", Action::Delete).await, Acted::Done);
                false
            }
            other => panic!("{other:?}"),
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_lock_until_the_start_covers_jobs_that_wait_and_none_that_runs(
    #[values(Store::Memory, Store::Disk, Store::Redis)] store: Store,
    #[values(false, true)] delayed: bool,
    #[values(
        done(),
        Transition::Revoke,
        retry(secs(1)),
        archive(),
        Transition::Requeue,
        reclaim()
    )]
    end: Transition,
) {
    let on = store.open().await;
    let first = until(on.kept("a", secs(60)), Until::Start);
    let due = if delayed { Placement::After(secs(5)) } else { Placement::Now };
    on.put(first.placed(due)).await;
    assert!(on.is_held_by("a").await);
    on.age(secs(5));
    on.forward().await;
    assert!(on.is_held_by("a").await, "it is due and waits");

    let delivery = on.take().await;
    assert!(!on.is_held_by("a").await, "it runs");
    assert!(created(&on.put(until(on.job("b"), Until::Success)).await));
    assert_eq!(on.settle(&delivery, end).await, Settled::Done);

    assert!(on.is_held_by("b").await, "the lock is another job's, whatever the first one does");
    on.age(secs(2));
    on.forward().await;
    on.take_many(9).await;
    assert!(on.is_held_by("b").await, "it is not released by the first job's next attempt");
}

#[rstest]
#[tokio::test]
async fn a_lock_until_the_start_is_released_with_a_job_that_never_starts(
    #[values(Store::Memory, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(until(on.job("a"), Until::Start)).await;
    assert_eq!(on.act("a", Action::Archive).await, Acted::Done);
    assert!(on.is_held_by("a").await, "as any lock of an archived job");
    assert_eq!(on.act("a", Action::Run).await, Acted::Done);
    assert!(on.is_held_by("a").await);
    assert_eq!(on.act("a", Action::Delete).await, Acted::Done);
    assert!(!on.is_held_by("a").await);

    on.put(until(grouped(on.job("g"), "digest"), Until::Start)).await;
    assert!(on.is_held_by("g").await);
    assert_eq!(on.act("g", Action::Run).await, Acted::Done);
    assert!(on.is_held_by("g").await);
    on.take().await;
    assert!(!on.is_held_by("g").await);
}

#[rstest]
#[tokio::test]
async fn a_lock_until_expiry_is_kept_however_the_job_ends(
    #[values(Store::Memory, Store::Disk, Store::Redis)] store: Store,
    #[values(0, 60)] retention: u64,
    #[values(
        done(),
        Transition::Revoke,
        retry(secs(1)),
        archive(),
        Transition::Requeue,
        reclaim()
    )]
    end: Transition,
) {
    let on = store.open().await;
    on.put(until(on.kept("a", secs(retention)), Until::Expiry)).await;
    assert!(on.is_held_by("a").await, "it waits");
    let delivery = on.take().await;
    assert!(on.is_held_by("a").await, "it runs");

    assert_eq!(on.settle(&delivery, end).await, Settled::Done);

    assert!(on.is_held_by("a").await, "it has ended");
    on.age(secs(3599));
    on.delete_expired().await;
    assert!(on.is_held_by("a").await);
    on.age(secs(1));
    assert!(!on.is_held_by("a").await, "its time is over");
}

#[rstest]
#[tokio::test]
async fn a_lock_until_expiry_is_kept_whatever_an_operator_does(
    #[values(Store::Memory, Store::Disk, Store::Redis)] store: Store,
    #[values(false, true)] release_lock: bool,
) {
    let on = store.open().await;
    let keep = ArchiveSettings { release_lock, ..ArchiveSettings::default() };
    let on = on.with_archive(keep).await;
    on.put(until(on.job("a"), Until::Expiry).placed(Placement::After(secs(60)))).await;
    for action in [Action::Reschedule(Placement::Now), Action::Archive, Action::Run, Action::Delete]
    {
        assert_eq!(on.act("a", action).await, Acted::Done);
        assert!(on.is_held_by("a").await, "{action:?}");
    }
    on.age(secs(3660));
    assert!(!on.is_held_by("a").await);

    // A group's jobs end when they have become one.
    on.put(until(grouped(on.job("g"), "digest"), Until::Expiry)).await;
    assert_eq!(on.act("g", Action::Delete).await, Acted::Done);
    assert!(on.is_held_by("g").await);
}

#[rstest]
#[tokio::test]
async fn a_lock_by_key_is_one_of_its_type_and_of_no_payload(
    #[values(Store::Memory, Store::Disk, Store::Redis)] store: Store,
    #[values(Until::Start, Until::Success, Until::Expiry)] ends: Until,
) {
    let on = store.open().await;
    let by_key = |name: &str, job_type: &str, key: &str, payload: &[u8]| {
        let mut job = until(on.job(name), ends);
        job.record.job_type = job_type.to_owned();
        job.record.payload = Some(payload.to_vec());
        NewJob { unique_key: Some(key.repeat(32)), ..job }
    };
    assert!(created(&on.put(by_key("a", "mail", "0c", b"1")).await));
    let outcome = on.put(by_key("b", "mail", "0c", b"2")).await;
    assert_eq!(outcome, Enqueued::Duplicate { holder: id("a") });
    for other in [by_key("c", "mail", "0d", b"1"), by_key("d", "push", "0c", b"1")] {
        assert!(created(&on.put(other).await));
    }
    let mut by_payload = until(on.job("e"), ends);
    by_payload.record.payload = Some(b"1".to_vec());
    assert!(created(&on.put(by_payload).await), "a payload's lock is another one");
}
