//! What lies in Redis about the lease of a running job, and who may end the job.

use super::*;

#[tokio::test]
async fn a_go_workers_lease_is_believed_thirty_seconds_longer() {
    let on = Harness::start();
    on.put(on.job("a")).await;
    on.take().await;
    on.q(&format!("ZADD Q:lease {} a", START + 30));
    let lapsed = async || on.broker.first_expired_leases(&on.queue, 10).await.unwrap();

    on.clock.advance(secs(59));
    assert!(lapsed().await.is_empty());
    on.clock.advance(secs(1));
    let found = lapsed().await;
    assert_eq!(found.len(), 1);
    assert_eq!(on.settle(&found[0], reclaim()).await, Settled::Done);
    assert_eq!(on.q("LRANGE Q:pending 0 -1"), "a");
    assert_eq!(on.q("HGET Q:t:a x_lost"), "1");
}

#[tokio::test]
async fn a_job_that_another_worker_leased_cannot_be_settled_or_extended() {
    let on = Harness::start();
    on.put(on.job("a")).await;
    let delivery = on.take().await;
    on.q(&format!("ZADD Q:lease {} a", START + 99));
    let before = on.digest();

    for transition in [done(), retry(secs(1)), archive(), Transition::Requeue, reclaim()] {
        assert_eq!(on.settle(&delivery, transition).await, Settled::Lost);
    }
    assert_eq!(on.extend(&delivery).await, None);
    assert_eq!(on.digest(), before);
}

#[tokio::test]
async fn a_job_whose_lease_entry_is_lost_can_still_be_ended() {
    let on = Harness::start();
    on.put(on.job("a")).await;
    let delivery = on.take().await;
    on.q("DEL Q:lease");

    assert_eq!(on.settle(&delivery, done()).await, Settled::Done);
    assert_eq!(on.q("EXISTS Q:active Q:t:a"), "0");
    assert_eq!(on.settle(&delivery, done()).await, Settled::Lost);
}

#[tokio::test]
async fn an_active_job_without_a_lease_is_recovered_after_the_margin() {
    let on = Harness::start();
    on.put(on.job("a")).await;
    on.take().await;
    on.q("HDEL Q:t:a x_owner"); // as a Go worker would have taken it
    on.q("DEL Q:lease");

    assert!(on.broker.first_expired_leases(&on.queue, 10).await.unwrap().is_empty());
    assert_eq!(on.q("ZSCORE Q:lease a"), START.to_string());
    on.clock.advance(secs(30));
    assert_eq!(on.broker.first_expired_leases(&on.queue, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_owner_of_a_job_whose_lease_entry_is_lost_gets_it_back_or_loses_it_in_time() {
    let on = Harness::start();
    on.put(on.job("a")).await;
    let delivery = on.take().await;
    on.q("DEL Q:lease");

    assert!(on.broker.first_expired_leases(&on.queue, 10).await.unwrap().is_empty());
    assert!(on.extend(&delivery).await.is_some());
    on.q("DEL Q:lease");
    assert!(on.broker.first_expired_leases(&on.queue, 10).await.unwrap().is_empty());
    on.clock.advance(secs(30) + Duration::from_millis(1));
    assert_eq!(on.broker.first_expired_leases(&on.queue, 10).await.unwrap().len(), 1);
}
