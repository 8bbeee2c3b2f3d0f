//! Due times.

use crate::broker_contract::bench::*;

#[rstest]
#[tokio::test]
async fn a_job_is_never_forwarded_a_microsecond_early(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(1, 999_999, 1_000_000, 1_000_001, 86_400_000_123)] delay: u64,
) {
    let on = store.open().await;
    let delay = Duration::from_micros(delay);
    on.put(on.job("a").placed(Placement::After(delay))).await;

    on.clock.advance(delay - MICRO);
    assert_eq!(on.forward().await, Forwarded { moved: 0, next: Some(MICRO), ready: false });
    assert_eq!(on.state("a").await, Some(JobState::Scheduled));
    on.clock.advance(MICRO);
    assert_eq!(on.forward().await, Forwarded { moved: 1, next: None, ready: true });
    let info = on.see("a").await;
    assert_eq!((info.state, info.due), (JobState::Pending, None));
}

#[rstest]
#[tokio::test]
async fn jobs_due_within_one_second_keep_their_order(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    for (name, micros) in [("a", 500_002), ("b", 500_001), ("c", 999_999), ("d", 1)] {
        on.put(on.job(name).placed(Placement::After(Duration::from_micros(micros)))).await;
    }
    on.clock.advance(secs(1));

    assert_eq!(on.forward().await.moved, 4);

    assert_eq!(ids(&on.take_many(9).await), ["d", "b", "a", "c"]);
}

#[rstest]
#[tokio::test]
async fn scheduled_and_retried_jobs_share_one_order(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["r1", "r2"]).await;
    on.run(retry(secs(2))).await;
    on.run(retry(secs(4))).await;
    for (name, delay) in [("s3", 3), ("s1", 1)] {
        on.put(on.job(name).placed(Placement::After(secs(delay)))).await;
    }
    on.clock.advance(secs(9));

    on.forward().await;

    assert_eq!(ids(&on.take_many(9).await), ["s1", "r1", "s3", "r2"]);
}

#[rstest]
#[tokio::test]
async fn many_due_jobs_move_in_batches_and_keep_their_order(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let jobs: Vec<_> = (0..250u64)
        .rev()
        .map(|n| on.job(&format!("{n:03}")).placed(Placement::After(Duration::from_millis(n + 1))))
        .collect();
    on.broker.enqueue(&jobs).await.unwrap();
    on.clock.advance(secs(1));

    let at_once = Some(Duration::ZERO);
    assert_eq!(on.forward().await, Forwarded { moved: 100, next: at_once, ready: true });
    assert_eq!(on.forward().await, Forwarded { moved: 100, next: at_once, ready: true });
    assert_eq!(on.forward().await, Forwarded { moved: 50, next: None, ready: true });
    assert_eq!(on.forward().await, Forwarded { moved: 0, next: None, ready: true });

    let expected: Vec<_> = (0..250).map(|n| format!("{n:03}")).collect();
    assert_eq!(ids(&on.take_many(250).await), expected);
}

#[rstest]
#[tokio::test]
async fn a_forwarded_job_waits_behind_those_that_are_pending(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.job("due").placed(Placement::After(secs(1)))).await;
    on.fill(&["a", "b"]).await;
    on.clock.advance(secs(1));
    on.forward().await;
    on.fill(&["c"]).await;

    assert_eq!(ids(&on.take_many(9).await), ["a", "b", "due", "c"]);
}

#[rstest]
#[tokio::test]
async fn forwarding_tells_when_the_next_job_is_due(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert_eq!(on.forward().await, Forwarded::default());
    on.put(on.job("a").placed(Placement::After(secs(5)))).await;
    on.put(on.job("b").placed(Placement::After(Duration::from_micros(8_000_001)))).await;

    on.clock.advance(secs(5));

    let next = Some(Duration::from_micros(3_000_001));
    assert_eq!(on.forward().await, Forwarded { moved: 1, next, ready: true });
    on.take().await;
    assert_eq!(on.forward().await, Forwarded { moved: 0, next, ready: false });
}

#[rstest]
#[tokio::test]
async fn a_paused_queue_forwards_but_is_not_ready(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.job("a").placed(Placement::After(secs(1)))).await;
    on.pause(true).await;
    on.clock.advance(secs(1));

    assert_eq!(on.forward().await, Forwarded { moved: 1, next: None, ready: false });

    on.pause(false).await;
    assert!(on.forward().await.ready);
}

#[rstest]
#[tokio::test]
async fn a_delivery_says_since_when_its_job_was_ready(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.job("late").placed(Placement::After(secs(2)))).await;
    on.fill(&["a", "b"]).await;
    on.clock.advance(secs(1));
    assert_eq!(on.take().await.ready, Some(START));
    let queues = [on.beside().queue, on.queue.clone()];
    let taken = on.take_from(&queues, 1).await;
    assert_eq!(taken[0].ready, Some(START), "also where queues are several");
    // Nobody looked in time: it is late since it was due.
    on.clock.advance(secs(9));
    on.forward().await;
    assert_eq!(on.see("late").await.pending_since, Some(START + secs(2)));
    let late = on.take().await;
    assert_eq!(late.ready, Some(START + secs(2)));
    // Given back, it is ready again.
    on.settle(&late, Transition::Requeue).await;
    assert_eq!(on.take().await.ready, Some(START + secs(10)));
}
