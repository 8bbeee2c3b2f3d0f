//! Unique locks.

use crate::broker_contract::bench::*;

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
