//! The store itself.

use crate::broker_contract::bench::*;

#[rstest]
#[tokio::test]
async fn a_detached_handle_is_the_same_store(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;

    let detached = on.broker.detached();

    let taken = detached.dequeue(std::slice::from_ref(&on.queue), 1).await.unwrap();
    assert_eq!(ids(&taken.deliveries), ["a"]);
    assert_eq!(on.settle(&taken.deliveries[0], done()).await, Settled::Done);
    assert_eq!(detached.now(), on.clock.now());
}

#[rstest]
#[tokio::test]
async fn a_store_answers_tells_its_time_and_describes_itself(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.broker.ping().await.unwrap();
    on.clock.advance(secs(5));
    assert_eq!(on.broker.now(), START + secs(5));
    let line = on.broker.describe();
    assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
}

#[rstest]
#[tokio::test]
async fn a_worker_is_announced_repeatedly_and_retired(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let mut worker = Announcement {
        host: "host".to_owned(),
        pid: 42,
        server_id: "1b671a64-40d5-491e-99b0-da01ff1f3341".to_owned(),
        concurrency: 10,
        queues: [(on.queue.clone(), 1)].into(),
        strict_priority: false,
        status: "active",
        started: START,
        running: Vec::new(),
        details: rocket_jobqueue::inspect::WorkerDetails::default(),
    };
    for status in ["active", "active", "stopped"] {
        worker.status = status;
        on.broker.announce(&worker).await.unwrap();
    }
    on.broker.retire(&worker).await.unwrap();
    on.broker.retire(&worker).await.unwrap();
}
