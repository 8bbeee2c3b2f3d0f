//! How many jobs strangers may keep waiting.

use crate::broker_contract::bench::*;
use rocket_jobqueue::internals::ADMISSION_CHECK_INTERVAL;

#[rstest]
#[tokio::test]
async fn a_place_is_free_again_when_its_job_does_not_wait_any_more(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let admit = async |name: &str| on.broker.admit(&on.queue, &id(name), 3, None).await.unwrap();
    for name in ["a", "b", "c"] {
        assert!(admit(name).await, "{name}");
        assert!(created(&on.put(on.job(name)).await));
    }
    assert!(!admit("d").await);
    assert!(admit("b").await, "one that is admitted may ask again, though all places are taken");
    let key = Idempotency::new("/jobs", "k", b"body");
    assert!(!on.broker.admit(&on.queue, &id("d"), 3, Some(&key)).await.unwrap());
    on.put(guarded(on.job("first"), "k", "body")).await;
    let repeated = on.broker.admit(&on.queue, &id("d"), 3, Some(&key)).await.unwrap();
    assert!(repeated, "nothing is stored for a request that is known");
    assert!(!admit("e").await, "a repeated request takes no place");

    // One has ended, one waits for its next attempt, one is archived.
    on.run(done()).await;
    on.run(retry(secs(60))).await;
    on.run(archive()).await;
    assert!(!admit("e").await, "each was looked at a moment ago");
    on.age(ADMISSION_CHECK_INTERVAL);
    assert!(admit("e").await);
    assert!(admit("f").await);
    assert!(!admit("g").await, "the one that waits keeps its place");
}

#[rstest]
#[tokio::test]
async fn no_more_are_admitted_than_may_wait_however_many_ask_at_once(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.broker.detached();
    let names: Vec<_> = (0..300).map(|n| id(&format!("job-{n}"))).collect();
    let ask = names.iter().enumerate().map(|(n, name)| {
        let broker = if n % 2 == 0 { &on.broker } else { &other };
        broker.admit(&on.queue, name, 100, None)
    });
    let answers = futures_util::future::join_all(ask).await;
    assert_eq!(answers.into_iter().filter(|answer| *answer.as_ref().unwrap()).count(), 100);
}
