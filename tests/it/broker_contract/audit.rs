//! What operators did.

use rocket_jobqueue::inspect::AuditEntry;

use crate::broker_contract::bench::*;

fn entry(on: &OpenStore, nth: usize) -> AuditEntry {
    let mut entry = AuditEntry::new(on.clock.now(), "queue paused", on.queue.as_str());
    (entry.actor, entry.what) = (Some("ada".to_owned()), nth.to_string());
    entry
}

#[rstest]
#[tokio::test]
async fn the_last_thousand_actions_are_kept_newest_first(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    // The log belongs to an application: here one of this name.
    let own = on.queue.as_str();
    // On one that was opened with a namespace, the name given does not matter.
    for nth in 0..1010 {
        on.broker.add_audit(own, &entry(&on, nth)).await.unwrap();
    }
    let newest = on.broker.audit(own, 0, 2).await.unwrap();
    assert_eq!(newest, [entry(&on, 1009), entry(&on, 1008)]);
    let oldest = on.broker.audit(own, 998, 100).await.unwrap();
    assert_eq!(oldest, [entry(&on, 11), entry(&on, 10)]);
    assert_eq!(on.broker.audit(own, 1000, 5).await.unwrap(), []);
    assert_eq!(on.broker.audit(own, usize::MAX, 5).await.unwrap(), []);
}

#[tokio::test]
async fn actions_survive_a_restart_on_disk() {
    let on = Store::Disk.open().await;
    let entries: Vec<_> = (0..1003).map(|nth| entry(&on, nth)).collect();
    let added = entries.iter().map(|entry| on.broker.add_audit("shop", entry));
    for added in futures_util::future::join_all(added).await {
        added.unwrap();
    }
    on.broker.add_audit("", &entry(&on, 7)).await.unwrap();
    let OpenStore { broker, clock, queue, folder, .. } = on;
    drop(broker);
    let on = OpenStore::reopened(folder.unwrap(), clock, queue).await;
    let found = on.broker.audit("shop", 0, 2000).await.unwrap();
    assert_eq!((found.len(), &found[0], &found[999]), (1000, &entry(&on, 1002), &entry(&on, 3)));
    assert_eq!(on.broker.audit("", 0, 9).await.unwrap(), [entry(&on, 7)]);
}
