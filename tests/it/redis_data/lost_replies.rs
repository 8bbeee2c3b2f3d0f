//! Replies that are lost: the operation may have been executed, and is not executed twice.

use super::*;

/// A store that waits for an answer for 1 s only, on the server's clock.
fn impatient() -> Harness {
    let mut on = Harness::by(Clock::system());
    let topology = Topology::Single(on.server.addr());
    let settings = PoolSettings { topology, read_timeout: secs(1), ..PoolSettings::default() };
    on.broker = Arc::new(RedisBroker::new(RedisPool::new(settings).unwrap(), on.clock.clone()));
    on
}

/// Freezes the server over this request, and lets it run what it got when it wakes.
async fn unheard<T>(
    on: &Harness,
    request: impl Future<Output = Result<T, rocket_jobqueue::Error>>,
    carried_out: impl Fn() -> bool,
) {
    on.server.freeze();
    let error = request.await.err().expect("a frozen server does not answer");
    on.server.thaw();
    assert!(error.is_outcome_unknown(), "{error:?}");
    let carried_out = || async { carried_out() };
    assert!(eventually(PATIENCE, carried_out).await, "the server read it when it woke");
    let back = || async { on.broker.ping().await.is_ok() };
    assert!(eventually(PATIENCE, back).await);
}

#[tokio::test]
async fn an_owner_who_did_not_hear_of_an_extension_is_still_known() {
    let on = Harness::by(Clock::system());
    on.put(on.job("a")).await;
    let delivery = on.take().await;
    let stranger = Lease { id: JobId::new("x").unwrap(), ..delivery.lease.clone() };
    on.broker.extend(&[stranger]).await.unwrap(); // the server knows the script now
    let leases = [delivery.lease.clone()];

    let before = on.q("ZSCORE Q:lease a");
    unheard(&on, on.broker.extend(&leases), || on.q("ZSCORE Q:lease a") != before).await;

    assert!(on.extend(&delivery).await.is_some());
    assert_eq!(on.settle(&delivery, done()).await, Settled::Done);
}

/// As its own process would have it, with nothing but the lost answer between.
#[tokio::test]
async fn jobs_whose_delivery_was_not_heard_are_delivered_again_at_once_and_only_once() {
    // Redis runs a dequeue that is up to 4 s old, and is thawed after this second.
    let on = impatient();
    for name in ["known", "a", "b", "c"] {
        on.put(on.job(name)).await;
    }
    on.settle(&on.take().await, done()).await; // the server knows the script and its time
    let queues = [on.queue.clone()];

    unheard(&on, on.broker.dequeue(&queues, 2), || on.q("LLEN Q:active") == "2").await;

    let stranger = broker(&on.server, &on.clock);
    let other = stranger.dequeue(&queues, 1).await.unwrap().deliveries;
    assert_eq!(other[0].job.id.as_str(), "c", "what another took is its own");
    let again = on.broker.dequeue(&queues, 9).await.unwrap().deliveries;
    let ids: std::collections::BTreeSet<_> = again.iter().map(|d| d.job.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"].into());
    assert!(again.iter().all(|delivery| delivery.losses == 0));
    // They are delivered again until the server cannot run the lost call any more. Once
    // delivered, they belong to their owner.
    assert!(on.broker.dequeue(&queues, 9).await.unwrap().deliveries.is_empty());
    for delivery in again {
        assert_eq!(on.settle(&delivery, done()).await, Settled::Done);
    }
}

#[tokio::test]
async fn a_dequeue_that_runs_when_its_caller_is_gone_takes_nothing() {
    let on = Harness::by(Clock::system());
    on.put(on.job("known")).await;
    on.take().await; // the server knows the script now, and its time is known
    on.put(on.job("a")).await;
    let queues = [on.queue.clone()];
    on.cli("CONFIG RESETSTAT");

    let frozen = Instant::now();
    on.server.freeze();
    let error = on.broker.dequeue(&queues, 1).await.unwrap_err();
    tokio::time::sleep(secs(5).saturating_sub(frozen.elapsed())).await;
    on.server.thaw();
    assert!(error.is_outcome_unknown(), "{error:?}");
    let ran = || async { on.cli("INFO commandstats").contains("evalsha:calls=1,") };
    assert!(eventually(PATIENCE, ran).await);
    let back = || async { on.broker.ping().await.is_ok() };
    assert!(eventually(PATIENCE, back).await);

    assert_eq!(on.take().await.job.id.as_str(), "a");
}

#[tokio::test]
async fn an_extension_without_an_answer_is_not_sent_again() {
    let on = impatient();
    on.put(on.job("a")).await;
    let mut delivery = on.take().await;
    delivery.lease = on.extend(&delivery).await.expect("the lease holds"); // knows the script now
    on.cli("CONFIG RESETSTAT");

    on.server.freeze();
    let extended = on.broker.extend(std::slice::from_ref(&delivery.lease)).await;
    on.server.thaw();

    assert!(extended.unwrap_err().is_outcome_unknown());
    let back = || async { on.broker.ping().await.is_ok() };
    assert!(eventually(PATIENCE, back).await);
    let ran = || async { on.cli("INFO commandstats").contains("cmdstat_evalsha:") };
    assert!(eventually(PATIENCE, ran).await);
    assert!(on.cli("INFO commandstats").contains("cmdstat_evalsha:calls=1,"));
}

#[tokio::test]
async fn a_settlement_whose_answer_was_lost_is_done_when_it_is_repeated() {
    let on = Harness::by(Clock::system());
    for name in ["known", "a"] {
        on.put(on.job(name)).await;
    }
    let known = on.take().await;
    on.settle(&known, done()).await; // the server knows the script now
    let delivery = on.take().await;

    on.server.freeze();
    let error = on.broker.settle(&[(delivery.clone(), done()).into()]).await.unwrap_err();
    on.server.thaw();
    assert!(error.is_outcome_unknown(), "{error:?}");
    let carried_out = || async { on.q("EXISTS Q:t:a") == "0" };
    assert!(eventually(PATIENCE, carried_out).await);
    let back = || async { on.broker.ping().await.is_ok() };
    assert!(eventually(PATIENCE, back).await);

    assert_eq!(on.settle(&delivery, done()).await, Settled::Done);
    assert_eq!(on.settle(&delivery, done()).await, Settled::Lost, "it was asked and answered");
    assert_eq!(on.q("GET Q:processed"), "2");
}
