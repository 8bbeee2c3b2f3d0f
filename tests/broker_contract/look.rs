//! Looking.

use crate::bench::*;

#[rstest]
#[tokio::test]
async fn the_sizes_of_a_queue_have_every_state(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let later = |name| on.job(name).placed(Placement::After(secs(60)));
    on.broker.enqueue(&[later("s1"), later("s2"), later("s3")]).await.unwrap();
    on.put(on.kept("c", secs(60))).await;
    on.run(done()).await;
    on.fill(&["r", "x", "y", "act", "p1", "p2"]).await;
    on.run(retry(secs(60))).await;
    on.run(archive()).await;
    on.run(archive()).await;
    on.take().await;

    let sizes: Vec<_> = on.info().await.sizes.into_iter().collect();

    assert_eq!(
        sizes,
        [
            ("active", 1),
            ("aggregating", 0),
            ("archived", 2),
            ("completed", 1),
            ("pending", 2),
            ("retry", 1),
            ("scheduled", 3),
        ]
    );
}

#[rstest]
#[tokio::test]
async fn counters_of_the_day_begin_anew_at_midnight_utc(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    let counters = async || {
        let info = on.info().await;
        [info.processed, info.failed, info.processed_today, info.failed_today]
    };
    on.run(done()).await;
    on.run(archive()).await;
    on.clock.advance(secs(16 * 3600) - MICRO);
    assert_eq!(counters().await, [2, 1, 2, 1]);

    on.clock.advance(MICRO);

    assert_eq!(counters().await, [2, 1, 0, 0]);
    on.run(done()).await;
    assert_eq!(counters().await, [3, 1, 1, 0]);
}

#[rstest]
#[tokio::test]
async fn a_queue_that_was_never_used_does_not_exist(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert!(on.take_many(1).await.is_empty());

    let error = on.broker.queue(&on.queue).await.unwrap_err();

    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(error.to_string(), format!("queue \"{}\" does not exist", on.queue));
    assert_eq!(on.find("a").await, None);
    assert!(!on.broker.queues().await.unwrap().contains(&on.queue));
    on.fill(&["a"]).await;
    assert_eq!(on.find("b").await, None);
}

#[rstest]
#[tokio::test]
async fn what_happens_in_one_queue_leaves_another_alone(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    assert!(created(&on.put(unique(on.kept("a", secs(9)), secs(60))).await));
    assert!(created(&other.put(unique(other.kept("a", secs(9)), secs(60))).await));
    let before = (other.see("a").await, other.info().await);

    on.pause(true).await;
    on.pause(false).await;
    on.run(done()).await;
    on.clock.advance(secs(9));
    on.forward().await;
    on.expire().await;

    assert_eq!(on.find("a").await, None);
    assert_eq!((other.see("a").await, other.info().await), before);
    let queues: BTreeSet<_> = on.broker.queues().await.unwrap().into_iter().collect();
    assert!(queues.contains(&on.queue) && queues.contains(&other.queue));
}
