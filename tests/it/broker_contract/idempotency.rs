//! Idempotency keys.

use crate::broker_contract::bench::*;

#[rstest]
#[tokio::test]
async fn a_repeated_request_is_answered_with_the_first_id(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert!(created(&on.put(guarded(on.job("a"), "k", "body")).await));

    let again = on.put(guarded(on.job("b"), "k", "body")).await;
    let changed = on.put(guarded(on.job("c"), "k", "other body")).await;

    assert_eq!(again, Enqueued::Replayed { id: id("a") });
    assert_eq!(changed, Enqueued::KeyReused);
    assert_eq!(on.info().await.sizes["pending"], 1);
    assert!(created(&on.put(guarded(on.job("d"), "l", "body")).await), "another key");
}

#[rstest]
#[tokio::test]
async fn a_request_is_remembered_for_a_day_though_its_job_has_ended(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(guarded(on.job("a"), "k", "body")).await;
    on.run(done()).await;
    assert_eq!(on.find("a").await, None);

    on.age(secs(86_399));
    let replayed = on.put(guarded(on.job("b"), "k", "body")).await;
    on.age(secs(1));
    let anew = on.put(guarded(on.job("b"), "k", "body")).await;

    assert_eq!(replayed, Enqueued::Replayed { id: id("a") });
    assert!(created(&anew), "{anew:?}");
}

#[rstest]
#[tokio::test]
async fn a_repeated_request_does_not_meet_its_own_lock_and_id(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let request = || guarded(unique(on.job("a"), secs(60)), "k", "body");
    on.put(request()).await;

    assert_eq!(on.put(request()).await, Enqueued::Replayed { id: id("a") });
}

#[rstest]
#[tokio::test]
async fn a_refused_request_is_not_remembered(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60))).await;
    let duplicate = on.put(guarded(unique(on.job("b"), secs(60)), "k", "body")).await;
    let conflict = on.put(guarded(on.job("a"), "k", "body")).await;
    assert_eq!(duplicate, Enqueued::Duplicate { holder: id("a") });
    assert_eq!(conflict, Enqueued::IdConflict);

    on.run(done()).await;

    assert!(created(&on.put(guarded(unique(on.job("b"), secs(60)), "k", "another")).await));
}

#[rstest]
#[tokio::test]
async fn requests_with_a_key_go_to_the_queue_of_the_first_for_as_long_as_it_is_kept(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let [one, other] = ["one", "other"].map(|name| QueueName::new(name).unwrap());
    let ask = async |key: &str, queue: &QueueName| {
        let key = format!("{} {key}", on.queue);
        on.broker.bind_key(&key, queue, secs(86_400)).await.unwrap().queue
    };
    assert_eq!(ask("k", &one).await, one);
    assert_eq!(ask("k", &other).await, one);
    assert_eq!(ask("k", &one).await, one);
    assert_eq!(ask("l", &other).await, other);

    on.broker.release_key(&format!("{} k", on.queue), &one).await.unwrap();
    assert_eq!(ask("k", &other).await, other);
}

#[rstest]
#[tokio::test]
async fn a_refused_request_does_not_release_the_key_of_a_stored_job(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = QueueName::new("other").unwrap();
    let job = guarded(on.job("a"), on.queue.as_str(), "body");
    // The digest that names the key in the store is private.
    let guard = format!("{:?}", job.idempotency);
    let key = guard.split('"').nth(1).unwrap().to_owned();
    on.broker.bind_key(&key, &on.queue, secs(60)).await.unwrap();
    // Another request with the key, which was stored while the first one was refused.
    assert!(created(&on.put(job).await));

    on.broker.release_key(&key, &on.queue).await.unwrap();

    let bound = on.broker.bind_key(&key, &other, secs(60)).await.unwrap();
    assert_eq!((bound.queue, bound.is_new), (on.queue.clone(), false));
}
