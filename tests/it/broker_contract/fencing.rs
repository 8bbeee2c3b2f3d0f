//! Fencing.

use crate::broker_contract::bench::*;
use rocket_jobqueue::Progress;
use rocket_jobqueue::internals::{Action, Output};

#[rstest]
#[tokio::test]
async fn a_settlement_is_carried_out_once(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(
        done(),
        Transition::Revoke,
        retry(secs(1)),
        archive(),
        Transition::Requeue,
        reclaim()
    )]
    way: Transition,
) {
    let on = store.open().await;
    on.put(on.kept("a", secs(60))).await;
    let delivery = on.run(way.clone()).await;
    let (info, counters) = (on.find("a").await, on.counters().await);

    assert_eq!(on.settle(&delivery, way).await, Settled::Lost);
    assert_eq!(on.settle(&delivery, done()).await, Settled::Lost);

    assert_eq!(on.find("a").await, info);
    assert_eq!(on.counters().await, counters);
}

#[rstest]
#[tokio::test]
async fn a_stale_owner_changes_nothing_after_the_job_was_recovered(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(
        done(),
        Transition::Revoke,
        retry(secs(1)),
        archive(),
        Transition::Requeue,
        reclaim()
    )]
    way: Transition,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let stale = on.take().await;
    on.pass(&stale.lease);
    on.settle(&on.first_expired_leases(1).await[0], reclaim()).await;
    let owner = on.take().await;
    let before = (on.see("a").await, on.info().await);

    assert_eq!(on.settle(&stale, way).await, Settled::Lost);
    assert_eq!(on.extend(&stale.lease).await, None);

    assert_eq!((on.see("a").await, on.info().await), before);
    assert!(on.first_expired_leases(9).await.is_empty(), "the owner's lease is as it was");
    assert_eq!(on.settle(&owner, done()).await, Settled::Done);
    assert_eq!(on.counters().await, (1, 0));
}

/// Its worker may have no slot for it, since it runs there.
#[rstest]
#[tokio::test]
async fn an_owner_takes_a_recovered_job_back_while_it_waits(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(true, false)] paused: bool,
) {
    let on = store.open().await;
    on.fill(&["b", "a"]).await;
    let [stale, other] = on.take_many(2).await.try_into().unwrap();
    on.settle(&other, Transition::Requeue).await;
    if paused {
        on.broker.pause(&on.queue, true).await.unwrap();
    }
    on.pass(&stale.lease);
    on.settle(&on.first_expired_leases(1).await[0], reclaim()).await;
    assert_eq!(on.state("b").await, Some(JobState::Pending));
    let note = Output::Progress(&Progress::new(1, 2));
    assert_eq!(on.broker.write_output(&stale.lease, note).await.unwrap(), Settled::Done);

    let twice = [stale.lease.clone(), stale.lease.clone()];
    let extended = on.broker.extend(&twice).await.unwrap();

    let [Extended::Renewed(_), Extended::Renewed(last)] = &extended[..] else {
        panic!("{extended:?}");
    };
    assert_eq!(last.owner, stale.lease.owner);
    assert_eq!(on.state("b").await, Some(JobState::Active));
    assert_eq!(on.find("b").await.unwrap().pending_since, None);
    on.broker.pause(&on.queue, false).await.unwrap();
    assert_eq!(ids(&on.take_many(9).await), ["a"]);
    on.pass(last);
    let found =
        on.first_expired_leases(9).await.into_iter().find(|one| one.lease.id == id("b")).unwrap();
    assert_eq!(found.losses, 0, "that was none");
    assert_eq!(on.settle(&stale, done()).await, Settled::Done);
    assert_eq!(on.counters().await, (1, 0));
    assert_eq!(on.extend(&stale.lease).await, None);
}

#[rstest]
#[tokio::test]
async fn an_attempt_that_ended_is_settled_although_its_job_was_recovered(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(
        done(),
        Transition::Complete { result: None },
        retry(secs(1)),
        archive(),
        Transition::Requeue
    )]
    way: Transition,
) {
    let (on, twin) = (store.open().await, store.open().await);
    for on in [&on, &twin] {
        on.put(on.kept("a", secs(60))).await;
    }
    let (stale, held) = (on.take().await, twin.take().await);
    on.pass(&stale.lease);
    twin.pass(&held.lease);
    on.settle(&on.first_expired_leases(1).await[0], reclaim()).await;

    assert_eq!(on.settle(&stale, way.clone()).await, Settled::Done);
    assert_eq!(twin.settle(&held, way.clone()).await, Settled::Done);

    assert_eq!(on.state("a").await, twin.state("a").await);
    assert_eq!(on.counters().await, twin.counters().await);
    assert_eq!(on.settle(&stale, way).await, Settled::Lost, "once");
    assert!(on.first_expired_leases(9).await.is_empty());
    let waits = on.state("a").await == Some(JobState::Pending);
    assert_eq!(on.take_many(9).await.len(), usize::from(waits));
}

#[rstest]
#[tokio::test]
async fn a_recovered_job_that_somebody_had_or_moved_is_not_taken_back(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(0, 1, 2)] how: u32,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let stale = on.take().await;
    on.pass(&stale.lease);
    on.settle(&on.first_expired_leases(1).await[0], reclaim()).await;
    match how {
        0 => {
            let next = on.take().await;
            on.settle(&next, Transition::Requeue).await;
        }
        1 => {
            let next = on.take().await;
            on.settle(&next, retry(secs(1))).await;
            on.clock.advance(secs(2));
            on.broker.forward(&on.queue, 9).await.unwrap();
        }
        _ => {
            for action in [Action::Archive, Action::Run] {
                on.broker.act(&on.queue, &id("a"), action).await.unwrap();
            }
        }
    }
    assert_eq!(on.state("a").await, Some(JobState::Pending));
    let before = (on.see("a").await, on.info().await);

    assert_eq!(on.extend(&stale.lease).await, None);
    assert_eq!(on.settle(&stale, done()).await, Settled::Lost);

    assert_eq!((on.see("a").await, on.info().await), before);
}

#[rstest]
#[tokio::test]
async fn an_extension_moves_the_end_and_leaves_the_right(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b"]).await;
    let [first, second] = on.take_many(2).await.try_into().unwrap();
    on.clock.advance(secs(20));

    let leases = [first.lease.clone(), second.lease.clone()];
    let extended = on.broker.extend(&leases).await.unwrap();

    let [Extended::Renewed(renewed), Extended::Renewed(_)] = &extended[..] else {
        panic!("{extended:?}");
    };
    assert!(renewed.ends > first.lease.ends && renewed.owner == first.lease.owner);
    on.clock.advance(secs(20));
    assert!(on.first_expired_leases(9).await.is_empty());
    let renewed = Delivery { lease: renewed.clone(), ..first };
    assert_eq!(on.settle(&renewed, done()).await, Settled::Done);
    assert_eq!(on.extend(&renewed.lease).await, None);
}

/// Two heartbeats hear nothing, a third does, and then the server gets round to the
/// second: the owner is the same throughout.
#[rstest]
#[tokio::test]
async fn an_extension_that_arrives_late_takes_the_job_from_nobody(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(done(), retry(secs(1)), archive(), Transition::Requeue)] way: Transition,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let taken = on.take().await;
    let unconfirmed = || async { on.extend(&taken.lease).await };
    on.clock.advance(secs(5));
    unconfirmed().await;
    on.clock.advance(secs(6));
    let heard = on.extend(&taken.lease).await.expect("still its own");
    on.clock.advance(secs(1));
    unconfirmed().await;

    assert!(on.extend(&heard).await.is_some());
    let held = Delivery { lease: heard, ..taken.clone() };
    assert_eq!(on.settle(&held, way).await, Settled::Done);

    let before = (on.find("a").await, on.info().await);
    assert_eq!(on.extend(&taken.lease).await, None, "nor does one that comes after the end");
    assert_eq!((on.find("a").await, on.info().await), before);
}

#[rstest]
#[tokio::test]
async fn a_lapsed_lease_that_its_owner_extended_is_no_right_to_recover(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let taken = on.take().await;
    on.pass(&taken.lease);
    let found = on.first_expired_leases(1).await.remove(0);

    assert!(on.extend(&taken.lease).await.is_some());

    assert_eq!(on.settle(&found, reclaim()).await, Settled::Lost);
    assert_eq!(on.settle(&taken, done()).await, Settled::Done);
}

#[rstest]
#[tokio::test]
async fn a_lease_that_is_named_twice_in_one_call_is_renewed_twice(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let taken = on.take().await;
    let twice = [taken.lease.clone(), taken.lease.clone()];

    let extended = on.broker.extend(&twice).await.unwrap();

    let [Extended::Renewed(first), Extended::Renewed(second)] = &extended[..] else {
        panic!("{extended:?}");
    };
    assert!(first.ends < second.ends);
    on.pass(first);
    assert!(on.first_expired_leases(9).await.is_empty(), "the later end counts");
    on.pass(second);
    assert_eq!(on.first_expired_leases(9).await.len(), 1);
    assert_eq!(on.settle(&taken, done()).await, Settled::Done);
}

#[rstest]
#[tokio::test]
async fn an_overdue_owner_whose_job_nobody_recovered_still_settles(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let delivery = on.take().await;
    on.clock.advance(secs(300));

    let lease = on.extend(&delivery.lease).await.expect("nobody else has it");

    assert!(on.first_expired_leases(9).await.is_empty());
    assert_eq!(on.settle(&Delivery { lease, ..delivery }, done()).await, Settled::Done);
}

#[rstest]
#[tokio::test]
async fn a_lease_that_never_was_is_lost(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b"]).await;
    let taken = on.take().await;
    let swapped = Lease { id: id("b"), ..taken.lease.clone() };
    let another = Lease { owner: taken.lease.owner.map(|owner| owner ^ 1), ..taken.lease.clone() };
    let found = Lease { owner: None, ends: taken.lease.ends + 1, ..taken.lease.clone() };
    let nobody = Lease { queue: fresh_queue(), ..taken.lease.clone() };

    for lease in [swapped, another, found, nobody] {
        assert_eq!(on.extend(&lease).await, None, "{lease:?}");
        let delivery = Delivery { lease, ..taken.clone() };
        assert_eq!(on.settle(&delivery, done()).await, Settled::Lost, "{delivery:?}");
    }
    assert_eq!(on.counters().await, (0, 0));
}

#[rstest]
#[tokio::test]
async fn a_lease_lapses_exactly_at_its_end_and_asking_changes_nothing(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let taken = on.take().await;
    on.pass(&Lease { ends: taken.lease.ends - 1, ..taken.lease.clone() });
    assert!(on.first_expired_leases(9).await.is_empty());

    on.clock.advance(MICRO);

    let found = on.first_expired_leases(9).await;
    let lease = Lease { owner: None, ..taken.lease.clone() };
    assert_eq!(found, [Delivery { lease, ready: None, ..taken }]);
    assert_eq!(on.first_expired_leases(9).await, found, "found again as it was");
    assert_eq!(on.state("a").await, Some(JobState::Active));
}

#[rstest]
#[tokio::test]
async fn lapsed_leases_come_oldest_first_and_within_the_limit(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["c", "b", "a"]).await;
    let first = on.take_many(2).await.remove(0);
    on.clock.advance(secs(1));
    on.take().await;
    on.clock.advance(secs(1));
    on.extend(&first.lease).await.unwrap();
    on.clock.advance(secs(60));

    assert_eq!(ids(&on.first_expired_leases(2).await), ["b", "a"]);
    assert_eq!(ids(&on.first_expired_leases(9).await), ["b", "a", "c"]);
    // Those that stay where they are can be passed over.
    for (limit, skip, expected, more) in [
        (2, 0, &["b", "a"][..], true),
        (2, 1, &["a", "c"], true),
        (9, 2, &["c"], false),
        (9, 3, &[], false),
    ] {
        let found = on.broker.expired_leases(&on.queue, limit, skip).await.unwrap();
        assert_eq!((ids(&found.jobs), found.more), (expected.to_vec(), more), "{limit} {skip}");
        assert_eq!((found.removed, found.stuck), (0, 0));
    }
    assert!(on.broker.first_expired_leases(&fresh_queue(), 9).await.unwrap().is_empty());
}

/// Found by the model test: a store that counted on from leases long settled gave
/// later ends than the other.
#[rstest]
#[tokio::test]
async fn a_lease_ends_after_its_time_or_just_after_another_that_stands(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c", "d"]).await;
    let end = (START + LEASE).as_micros();
    let ends = |taken: &[Delivery]| -> Vec<i64> {
        taken.iter().map(|delivery| delivery.lease.ends - end).collect()
    };

    let first = on.take_many(2).await;
    assert_eq!(ends(&first), [1, 2], "a whole second is how a Go worker's lease is known");
    let third = on.take_many(1).await;
    assert_eq!(ends(&third), [3]);
    for delivery in first.iter().chain(&third) {
        on.settle(delivery, done()).await;
    }

    assert_eq!(ends(&on.take_many(1).await), [1]);
}
