//! Jobs that are collected in groups.

use crate::bench::*;

#[rstest]
#[tokio::test]
async fn a_job_of_a_group_waits_there_and_not_in_line(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;

    let outcome = on.put(grouped(on.job("a"), "digest")).await;

    assert_eq!(outcome, Enqueued::Created { state: JobState::Aggregating, due: START });
    let info = on.see("a").await;
    assert_eq!((info.state, info.due), (JobState::Aggregating, None));
    assert_eq!(info.job.group, "digest");
    assert!(on.take_many(9).await.is_empty());
    let sizes = on.info().await.sizes;
    assert_eq!((sizes["aggregating"], sizes["pending"]), (1, 0));
}

#[rstest]
#[tokio::test]
async fn a_delayed_job_joins_its_group_when_it_is_due(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let later = grouped(on.job("a"), "digest").placed(Placement::After(secs(5)));

    let outcome = on.put(later).await;

    assert_eq!(outcome, Enqueued::Created { state: JobState::Scheduled, due: START + secs(5) });
    on.clock.advance(secs(5));
    assert_eq!(on.forward().await, Forwarded { moved: 0, next: None, ready: false });
    let info = on.see("a").await;
    assert_eq!((info.state, info.due), (JobState::Aggregating, None));
    assert_eq!(on.info().await.sizes["aggregating"], 1);
}

#[rstest]
#[tokio::test]
async fn a_lock_holds_in_a_group_and_an_id_too(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(grouped(unique(on.job("a"), secs(60)), "digest")).await;

    let second = on.put(grouped(unique(on.job("b"), secs(60)), "other")).await;
    assert_eq!(second, Enqueued::Duplicate { holder: id("a") }, "the group takes no part in it");
    assert_eq!(on.put(grouped(on.job("a"), "other")).await, Enqueued::IdConflict);
    assert_eq!(on.info().await.sizes["aggregating"], 1);
    assert!(!on.see("a").await.job.unique_key.is_empty());
}

#[rstest]
#[tokio::test]
async fn forwarding_counts_only_what_became_pending_and_goes_on_behind_a_group(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    for (name, group, delay) in [("a", "digest", 1), ("b", "", 2), ("c", "digest", 3)] {
        on.put(grouped(on.job(name), group).placed(Placement::After(secs(delay)))).await;
    }
    on.clock.advance(secs(2));

    let next = Some(secs(1));
    assert_eq!(on.forward().await, Forwarded { moved: 1, next, ready: true });

    assert_eq!(on.state("a").await, Some(JobState::Aggregating));
    assert_eq!(on.state("b").await, Some(JobState::Pending));
    assert_eq!(on.state("c").await, Some(JobState::Scheduled));
}
