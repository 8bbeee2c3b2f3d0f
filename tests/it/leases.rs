//! Leases whose score no clock shows, on a real server: whatever wrote it, the job is
//! neither lost nor taken from its owner.

use std::time::Duration;

use crate::support::harness::{Harness, START};
use rocket_jobqueue::internals::{Broker, Delivery, Extended, Inspect, Settled};
use rocket_jobqueue::{JobId, JobState, handler::Transition};

impl Harness {
    async fn first_expired_leases(&self) -> Vec<Delivery> {
        self.broker.first_expired_leases(&self.queue, 9).await.unwrap()
    }
}

fn done() -> Transition {
    Transition::Complete { result: None }
}

fn reclaim() -> Transition {
    Transition::Reclaim { error: "gone".to_owned() }
}

#[tokio::test]
async fn a_lease_that_ends_before_1970_is_over_whosever_it_is() {
    for score in ["-inf", "-1e300", "-1700000000", "-5.5", "-1", "-0.000001", "0"] {
        for ours in [true, false] {
            let on = Harness::start();
            on.fill(&["a"]).await;
            on.take().await;
            if !ours {
                on.q("HDEL Q:t:a x_owner");
            }
            on.q(&format!("ZADD Q:lease {score} a"));

            let mut found = on.first_expired_leases().await;

            assert_eq!(found.len(), 1, "{score}");
            assert_eq!(on.settle(&found.remove(0), reclaim()).await, Settled::Done, "{score}");
            assert_eq!(on.q("LRANGE Q:pending 0 -1"), "a");
            assert_eq!(on.q("EXISTS Q:lease Q:active"), "0");
        }
    }
}

#[tokio::test]
async fn a_lease_that_ends_far_ahead_is_over_thirty_seconds_from_now() {
    let seconds = START + 7_200;
    let fraction = format!("{}.5", START + 61);
    let millis = format!("{START}000");
    let scores = ["inf", "+inf", "1e300", "253402300799", &seconds.to_string(), &fraction, &millis];
    for score in scores {
        for ours in [true, false] {
            let on = Harness::start();
            on.fill(&["a"]).await;
            on.take().await;
            if !ours {
                on.q("HDEL Q:t:a x_owner");
            }
            on.q(&format!("ZADD Q:lease {score} a"));

            assert!(on.first_expired_leases().await.is_empty(), "{score}");
            on.clock.advance(Duration::from_secs(29));
            assert!(on.first_expired_leases().await.is_empty(), "{score}");
            on.clock.advance(Duration::from_secs(1) + Duration::from_millis(1));
            let mut found = on.first_expired_leases().await;

            assert_eq!(found.len(), 1, "{score}, ours: {ours}");
            assert_eq!(on.settle(&found.remove(0), reclaim()).await, Settled::Done, "{score}");
            assert_eq!(on.q("EXISTS Q:lease Q:active"), "0");
        }
    }
}

#[tokio::test]
async fn the_owner_of_a_job_goes_on_whatever_its_lease_shows() {
    for score in ["-inf", "-1e300", "-7", "-7.5", "0", "1e300", "inf"] {
        let on = Harness::start();
        on.fill(&["a"]).await;
        let delivery = on.take().await;
        let queues = [on.queue.clone()];
        let spoil = || on.q(&format!("ZADD Q:lease {score} a"));

        spoil();
        let extended = on.broker.extend(std::slice::from_ref(&delivery.lease)).await.unwrap();
        let [Extended::Renewed(lease)] = &extended[..] else { panic!("{score}: {extended:?}") };
        let shown: f64 = on.q("ZSCORE Q:lease a").parse().unwrap();
        assert!((shown * 1e6 - lease.ends as f64).abs() < 2.0, "{score}: {shown} {lease:?}");

        // By both scripts that settle: the general one and the one for jobs that are done.
        spoil();
        assert_eq!(on.settle(&delivery, Transition::Requeue).await, Settled::Done, "{score}");
        let delivery = on.take().await;
        spoil();
        on.fill(&["b"]).await;
        let exchanged = on.broker.exchange(&[&(delivery, done()).into()], &queues, 1).await;
        assert_eq!(exchanged.settled[0].as_ref().unwrap(), &Settled::Done, "{score}");
        assert_eq!(exchanged.dequeued.unwrap().deliveries.len(), 1);
        assert_eq!(on.q("ZRANGE Q:lease 0 -1"), "b", "{score}");
    }
}

#[tokio::test]
async fn jobs_are_taken_and_shown_beside_a_lease_without_end() {
    let on = Harness::start();
    on.fill(&["a", "b", "c", "d", "e", "f", "g"]).await;
    on.take().await;
    on.q("ZADD Q:lease inf a");
    let queues = [on.queue.clone()];
    let taken = on.broker.dequeue(&queues, 5).await.unwrap().deliveries;
    assert_eq!(taken.len(), 5);
    assert!(taken.iter().all(|one| one.lease.ends < (START + 31) * 1_000_000), "{taken:?}");

    for score in ["inf", "-inf"] {
        on.q(&format!("ZADD Q:lease {score} a"));
        let info = on.broker.job(&on.queue, &JobId::new("a").unwrap()).await.unwrap().unwrap();
        assert_eq!(info.state, JobState::Active);
        assert_eq!(on.broker.queue(&on.queue).await.unwrap().sizes["active"], 6);
        let ends: Vec<_> = taken.iter().map(|one| one.lease.clone()).collect();
        let extended = on.broker.extend(&ends).await.unwrap();
        assert!(extended.iter().all(|one| matches!(one, Extended::Renewed(_))), "{extended:?}");
    }
}

/// Its host's clock may be a little ahead, and it is renewed by that clock.
#[tokio::test]
async fn a_go_workers_lease_an_hour_ahead_is_left_alone() {
    let on = Harness::start();
    on.fill(&["a"]).await;
    let delivery = on.take().await;
    on.q(&format!("ZADD Q:lease {} a", START + 3_599));

    assert!(on.first_expired_leases().await.is_empty());

    assert_eq!(on.q("ZSCORE Q:lease a"), (START + 3_599).to_string());
    assert_eq!(on.settle(&delivery, done()).await, Settled::Lost);
}

/// The clock of a server may be set back, and a failover may lead to one that is behind.
#[tokio::test]
async fn leases_from_before_the_clock_was_set_back_are_over_thirty_seconds_later() {
    let on = Harness::start();
    on.fill(&["a"]).await;
    on.fill(&["b"]).await;
    let gone = on.take().await;
    let alive = on.take().await;
    on.server.cli(&[
        "ZADD",
        "asynq:{default}:lease",
        "4000007230.000001",
        "a",
        "4000007230.000002",
        "b",
    ]);

    assert!(on.first_expired_leases().await.is_empty());
    on.clock.advance(Duration::from_secs(20));
    let renewed = on.broker.extend(std::slice::from_ref(&alive.lease)).await.unwrap();
    assert!(
        matches!(&renewed[..], [Extended::Renewed(lease)] if lease.ends < (START + 51) * 1_000_000)
    );
    on.clock.advance(Duration::from_secs(11));

    let found = on.first_expired_leases().await;
    assert_eq!(found.iter().map(|one| &one.lease.id).collect::<Vec<_>>(), [&gone.lease.id]);
}
