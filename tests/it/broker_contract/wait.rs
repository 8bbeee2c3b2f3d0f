//! Waiting.

use crate::broker_contract::bench::*;

#[rstest]
#[tokio::test]
async fn a_wait_ends_at_once_where_a_job_is_pending(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let began = Instant::now();

    on.broker.wait(&[fresh_queue(), on.queue.clone()], 6 * PATIENCE).await.unwrap();

    assert!(began.elapsed() < PATIENCE);
    assert_eq!(ids(&on.take_many(9).await), ["a"], "a look, not a take");
}

#[rstest]
#[tokio::test]
async fn a_wait_ends_when_a_job_becomes_pending(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values("enqueue", "forward", "requeue")] how: &str,
) {
    let on = store.open().await;
    let mut delivery = None;
    match how {
        "forward" => {
            on.put(on.job("a").placed(Placement::After(secs(1)))).await;
            on.clock.advance(secs(1));
        }
        "requeue" => {
            on.fill(&["a"]).await;
            delivery = Some(on.take().await);
        }
        _ => {}
    }
    let began = Instant::now();
    let waiter = on.broker.clone();
    let queue = on.queue.clone();
    let waiting = tokio::spawn(async move { waiter.wait(&[queue], 6 * PATIENCE).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished(), "nothing is pending yet");

    match (how, delivery) {
        ("forward", _) => assert_eq!(on.forward().await.moved, 1),
        ("requeue", Some(d)) => assert_eq!(on.settle(&d, Transition::Requeue).await, Settled::Done),
        _ => on.fill(&["a"]).await,
    }

    waiting.await.unwrap().unwrap();
    assert!(began.elapsed() < PATIENCE);
}

#[rstest]
#[tokio::test]
async fn a_wait_is_over_after_its_time(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let (began, at_most) = (Instant::now(), Duration::from_millis(100));

    on.broker.wait(std::slice::from_ref(&on.queue), at_most).await.unwrap();

    assert!((at_most..PATIENCE).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[rstest]
#[tokio::test]
async fn an_earlier_due_time_is_heard_of_from_another_handle(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let listener = on.broker.clone();
    let mut heard = tokio::spawn(async move { listener.due_changed().await });
    let other = on.broker.detached();

    // The listener may still be on its way, so there is always an earlier one.
    for n in 0..600u64 {
        let due = Placement::After(secs(1000 - n));
        other.enqueue(&[on.job(&format!("job-{n}")).placed(due)]).await.unwrap();
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(100), &mut heard).await {
            answer.unwrap().unwrap();
            return;
        }
    }
    panic!("nothing was heard");
}
