//! Several queues in one call.

use crate::broker_contract::bench::*;
use rocket_jobqueue::internals::SettleRequest;

/// A store with three queues, which in a Cluster lie on different nodes, and jobs in each.
async fn three(store: Store) -> [OpenStore; 3] {
    let first = store.open().await;
    let three = [first.clone(), first.beside(), first.beside()];
    let jobs: Vec<_> =
        ["a", "b", "c"].iter().flat_map(|name| three.iter().map(|on| on.job(name))).collect();
    let outcomes = first.broker.enqueue_each(&jobs).await;
    assert!(outcomes.iter().all(|one| one.as_ref().is_ok_and(created)), "{outcomes:?}");
    three
}

fn names(three: &[OpenStore; 3]) -> Vec<QueueName> {
    three.iter().map(|on| on.queue.clone()).collect()
}

#[rstest]
#[tokio::test]
async fn jobs_of_several_queues_are_stored_in_the_order_of_each(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let three = three(store).await;

    let again: Vec<_> = three.iter().flat_map(|on| [on.job("c"), on.job("d")]).collect();
    let outcomes = three[0].broker.enqueue_each(&again).await;

    for (nth, outcome) in outcomes.into_iter().enumerate() {
        let outcome = outcome.unwrap();
        assert_eq!(outcome == Enqueued::IdConflict, nth % 2 == 0, "{nth}: {outcome:?}");
    }
    for on in &three {
        assert_eq!(ids(&on.take_many(9).await), ["a", "b", "c", "d"]);
    }
}

#[rstest]
#[tokio::test]
async fn one_call_settles_jobs_of_several_queues_and_takes_others(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let three = three(store).await;
    let broker = &three[0].broker;
    let [first, second, third] = [0, 1, 2].map(|nth| &three[nth]);
    let mut ended = first.take_many(2).await;
    ended.extend(third.take_many(2).await);
    ended.extend(second.take_many(1).await);
    // Of these the third has been lost: its number counts through all queues.
    assert_eq!(third.settle(&ended[2], done()).await, Settled::Done);
    let ended: Vec<SettleRequest> =
        ended.into_iter().map(|delivery| (delivery, done()).into()).collect();
    let ended: Vec<_> = ended.iter().collect();

    let exchanged = broker.exchange(&ended, &[first.queue.clone(), second.queue.clone()], 8).await;

    let settled: Vec<_> = exchanged.settled.into_iter().map(Result::unwrap).collect();
    let expected = [Settled::Done, Settled::Done, Settled::Lost, Settled::Done, Settled::Done];
    assert_eq!(settled, expected);
    let taken = exchanged.dequeued.unwrap().deliveries;
    let of = |on: &OpenStore| {
        let own = taken.iter().filter(|one| one.lease.queue == on.queue);
        own.map(|one| one.job.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        (of(first), of(second), of(third)),
        (vec!["c".into()], vec!["b".into(), "c".into()], vec![])
    );
    for (on, processed, pending, active) in [(first, 2, 0, 1), (second, 1, 0, 2), (third, 2, 1, 0)]
    {
        let info = on.info().await;
        let found = (info.processed, info.sizes["pending"], info.sizes["active"]);
        assert_eq!(found, (processed, pending, active), "{}", on.queue);
    }
    for delivery in &taken {
        assert_eq!(first.settle(delivery, done()).await, Settled::Done);
    }
}

#[rstest]
#[case(2)]
#[case(3)]
#[case(9)]
#[tokio::test]
async fn jobs_of_several_queues_that_end_together_give_no_more_than_was_asked_for(
    #[case] at_most: usize,
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let three = three(store).await;
    let mut ended = Vec::new();
    for on in &three {
        ended.push(SettleRequest::from((on.take().await, done())));
    }
    let ended: Vec<&SettleRequest> = ended.iter().collect();

    let exchanged = three[0].broker.exchange(&ended, &names(&three), at_most).await;

    let settled: Vec<_> = exchanged.settled.into_iter().map(Result::unwrap).collect();
    assert_eq!(settled, [Settled::Done; 3]);
    // Each queue had two more.
    let taken = exchanged.dequeued.unwrap().deliveries;
    assert_eq!(taken.len(), at_most.min(6));
    for on in &three {
        let own = taken.iter().filter(|one| one.lease.queue == on.queue).count() as u64;
        let info = on.info().await;
        let found = (info.processed, info.sizes["active"], info.sizes["pending"]);
        assert_eq!(found, (1, own, 2 - own), "{}", on.queue);
    }
}

#[rstest]
#[tokio::test]
async fn a_job_named_twice_in_a_call_is_done_once(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let three = three(store).await;
    let on = &three[0];
    let once = SettleRequest::from((on.take().await, done()));
    let twice = [&once, &once];

    let exchanged = on.broker.exchange(&twice, std::slice::from_ref(&on.queue), 2).await;

    let settled: Vec<_> = exchanged.settled.into_iter().map(Result::unwrap).collect();
    assert_eq!(settled, [Settled::Done, Settled::Lost]);
    assert_eq!(on.info().await.processed, 1);
    assert_eq!(ids(&exchanged.dequeued.unwrap().deliveries), ["b", "c"]);
}

#[rstest]
#[tokio::test]
async fn a_call_gives_no_more_than_was_asked_for_and_the_first_queues_go_first(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let three = three(store).await;
    three[1].pause(true).await;

    let taken = three[0].broker.dequeue(&names(&three), 5).await.unwrap();

    let from: Vec<_> = taken.deliveries.iter().map(|one| &one.lease.queue).collect();
    let [first, third] = [&three[0].queue, &three[2].queue];
    assert_eq!(from, [first, first, first, third, third]);
    assert_eq!(taken.paused, [three[1].queue.clone()]);
}

#[rstest]
#[tokio::test]
async fn when_each_queue_has_something_due_is_told_in_one_call(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let three = [on.clone(), on.beside(), on.beside()];
    three[0].put(three[0].job("a").placed(Placement::After(secs(5)))).await;
    three[2].put(three[2].job("b").placed(Placement::After(Duration::from_micros(1)))).await;
    three[2].put(three[2].job("c").placed(Placement::After(secs(9)))).await;
    on.clock.advance(MICRO);

    let next = on.broker.next_due(&names(&three)).await.unwrap();

    // A Cluster has them in several places: there each is to be forwarded.
    let cluster = next == [Some(Duration::ZERO); 3];
    assert!(cluster || next == [Some(secs(5) - MICRO), None, Some(Duration::ZERO)], "{next:?}");
}
