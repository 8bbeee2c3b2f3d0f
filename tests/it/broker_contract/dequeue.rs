//! Dequeuing jobs.

use crate::broker_contract::bench::*;

#[rstest]
#[tokio::test]
async fn queues_are_tried_in_the_order_given(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    on.fill(&["a", "b", "c"]).await;
    other.fill(&["x", "y"]).await;

    let first = on.take_from(&[other.queue.clone(), on.queue.clone()], 3).await;
    let then = on.take_from(&[on.queue.clone(), other.queue.clone()], 1).await;

    assert_eq!(ids(&first), ["x", "y", "a"]);
    assert_eq!(first[0].lease.queue, other.queue);
    assert_eq!(ids(&then), ["b"]);
}

#[rstest]
#[tokio::test]
async fn no_more_jobs_are_taken_than_asked_for(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;

    assert!(on.take_many(0).await.is_empty());
    assert_eq!(on.take_many(2).await.len(), 2);
    assert_eq!(on.take_many(2).await.len(), 1);
    assert!(on.take_many(2).await.is_empty());
}

#[rstest]
#[tokio::test]
async fn workers_that_take_at_the_same_time_share_no_job(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let names: Vec<_> = (0..200).map(|n| format!("{n:03}")).collect();
    let jobs: Vec<_> = names.iter().map(|name| on.job(name)).collect();
    on.broker.enqueue(&jobs).await.unwrap();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let worker = OpenStore { broker: on.broker.detached(), ..on.clone() };
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let taken = worker.take_many(7).await;
                    if taken.is_empty() {
                        return mine;
                    }
                    mine.extend(taken.into_iter().map(|delivery| delivery.job.id.to_string()));
                }
            })
        })
        .collect();

    let mut taken = Vec::new();
    for worker in workers {
        taken.extend(worker.await.unwrap());
    }

    taken.sort();
    assert_eq!(taken, names);
}

#[rstest]
#[tokio::test]
async fn a_paused_queue_gives_nothing_and_says_so(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    on.fill(&["a", "b"]).await;
    other.fill(&["x"]).await;
    let running = on.take().await;

    assert!(on.pause(true).await);
    assert!(!on.pause(true).await, "nothing changed");
    on.fill(&["c"]).await;
    let queues = [on.queue.clone(), other.queue.clone()];
    let taken = on.broker.dequeue(&queues, 9).await.unwrap();
    assert_eq!(ids(&taken.deliveries), ["x"]);
    assert_eq!(taken.paused, std::slice::from_ref(&on.queue));
    assert!(on.info().await.paused);
    assert_eq!(on.settle(&running, done()).await, Settled::Done, "running jobs end as ever");

    assert!(on.pause(false).await);
    assert!(!on.pause(false).await);
    let taken = on.broker.dequeue(&queues, 9).await.unwrap();
    assert_eq!(ids(&taken.deliveries), ["b", "c"]);
    assert!(taken.paused.is_empty() && !on.info().await.paused);
}

#[rstest]
#[tokio::test]
async fn every_taking_has_an_owner_of_its_own_and_every_lease_tells_its_end(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    let others = on.take_many(2).await;

    // The clock stands still, and yet no owner comes twice.
    let mut delivery = on.take().await;
    let mut owners = vec![others[0].lease.owner.unwrap(), delivery.lease.owner.unwrap()];
    let mut ends = vec![others[0].lease.ends, others[1].lease.ends, delivery.lease.ends];
    for _ in 0..3 {
        delivery.lease = on.extend(&delivery.lease).await.unwrap();
        ends.push(delivery.lease.ends);
        on.settle(&delivery, Transition::Requeue).await;
        delivery = on.take().await;
        owners.push(delivery.lease.owner.unwrap());
        ends.push(delivery.lease.ends);
    }

    let distinct: BTreeSet<_> = owners.iter().collect();
    assert_eq!(distinct.len(), owners.len(), "{owners:?}");
    assert!(ends[..4].windows(2).all(|pair| pair[0] < pair[1]), "in order: {ends:?}");
    let end = (START + LEASE).as_micros();
    for ends in ends {
        assert!((end..end + 1_000).contains(&ends), "{ends}");
        assert_ne!(ends % 1_000_000, 0, "whole seconds are Asynq's");
    }
}
