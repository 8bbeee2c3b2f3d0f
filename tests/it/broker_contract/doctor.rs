//! The doctor.

use crate::broker_contract::bench::*;
use rocket_jobqueue::doctor::{Finding, FindingKind};
use rocket_jobqueue::internals::RepairScope;

async fn findings(on: &OpenStore) -> (u64, Vec<Finding>) {
    let (mut entries_checked, mut findings, mut page) = (0, Vec::new(), None);
    loop {
        let checked =
            on.broker.check_queue(&on.queue, page.take(), RepairScope::All).await.unwrap();
        entries_checked += checked.entries_checked;
        findings.extend(checked.findings);
        page = checked.next;
        if page.is_none() {
            return (entries_checked, findings);
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_queue_that_only_its_own_operations_touched_is_healthy(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert_eq!(findings(&on).await.1, [], "there is nothing yet");
    for (name, way) in [
        ("done", done()),
        ("revoked", Transition::Revoke),
        ("retried", retry(secs(60))),
        ("archived", archive()),
        ("requeued", Transition::Requeue),
    ] {
        let mut job = unique(on.kept(name, secs(600)), secs(600));
        job.record.payload = Some(name.into());
        on.put(job).await;
        on.run(way).await;
        on.take_many(9).await;
    }
    on.fill(&["running", "reclaimed"]).await;
    let running = on.take_many(2).await;
    on.extend(&running[0].lease).await.unwrap();
    let lapsing = on.job("later").placed(Placement::After(secs(5)));
    on.put(lapsing).await;
    on.put(on.job("much later").placed(Placement::After(secs(500)))).await;
    on.clock.advance(secs(31));
    for found in on.first_expired_leases(9).await {
        on.settle(&found, reclaim()).await;
    }
    on.forward().await;
    on.take().await;
    let before = (on.info().await, on.see("done").await, on.see("archived").await);

    let (entries_checked, findings) = findings(&on).await;

    assert_eq!(findings, []);
    assert!(entries_checked >= 1, "{entries_checked}");
    assert_eq!((on.info().await, on.see("done").await, on.see("archived").await), before);
}

#[rstest]
#[tokio::test]
async fn a_turn_at_mending_a_sound_queue_changes_nothing(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b"]).await;
    let taken = on.take().await;
    let before = (on.info().await, on.see("a").await);

    assert_eq!(on.broker.repair_provable(&on.queue).await.unwrap(), []);
    assert_eq!(on.broker.repair_provable(&on.queue).await.unwrap(), []);

    assert_eq!((on.info().await, on.see("a").await), before);
    assert_eq!(on.settle(&taken, done()).await, Settled::Done);
}

#[rstest]
#[tokio::test]
async fn the_store_itself_can_be_examined(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;

    let found = on.broker.check_store().await.unwrap();

    // The test's own server keeps nothing on disk.
    let harmless = [FindingKind::NoPersistence, FindingKind::ClockSkew];
    let others: Vec<_> = found.iter().filter(|one| !harmless.contains(&one.kind)).collect();
    assert!(others.is_empty(), "{others:?}");
}
