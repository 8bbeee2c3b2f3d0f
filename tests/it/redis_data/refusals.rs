//! Servers and keys that refuse: wrong types, full memory, missing permissions, frozen servers.

use super::*;

/// Everything in place for each operation, then one key of another type.
#[tokio::test]
async fn a_key_of_another_type_is_refused_and_nothing_is_changed() {
    let on = Harness::start();
    let day = "2096-10-02";
    let every = [
        "pending",
        "active",
        "lease",
        "scheduled",
        "retry",
        "archived",
        "completed",
        "x:due",
        "t:next",
        "t:held",
        "t:new",
        "processed",
        "failed",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("processed:{day}"), format!("failed:{day}")]);
    let mut refused = 0;
    for key in every {
        for operation in 0..14 {
            on.cli("FLUSHALL");
            let mut kept = on.job("held");
            kept.record.retention = secs(60);
            kept.unique_for = Some(secs(60));
            on.put(kept).await;
            let held = on.take().await;
            on.put(on.job("due").placed(Placement::After(secs(1)))).await;
            on.put(on.job("next")).await;
            let wrong = format!("asynq:{{default}}:{key}");
            on.cli(&format!("DEL {wrong}"));
            let spoil = if key.starts_with(['p', 'f']) && key != "pending" {
                format!("SET {wrong} many")
            } else {
                format!("SETRANGE {wrong} 0 text")
            };
            on.cli(&spoil);
            on.clock.advance(secs(2));
            let before = on.digest();

            let queues = [on.queue.clone()];
            let settle = async |transition| {
                on.broker
                    .settle(&[(held.clone(), transition).into()])
                    .await
                    .map(|settled| settled[0])
            };
            let error = match operation {
                0 => on.broker.enqueue(&[on.job("new")]).await.err(),
                1 => {
                    let later = on.job("new").placed(Placement::After(secs(9)));
                    on.broker.enqueue(&[later]).await.err()
                }
                2 => on.broker.dequeue(&queues, 9).await.err(),
                3 => settle(done()).await.err(),
                4 => settle(Transition::Revoke).await.err(),
                5 => settle(retry(secs(1))).await.err(),
                6 => settle(archive()).await.err(),
                7 => settle(Transition::Requeue).await.err(),
                8 => on.broker.extend(std::slice::from_ref(&held.lease)).await.err(),
                9 => on.broker.forward(&on.queue, 9).await.err(),
                10 => on.broker.write_output(&held.lease, Output::Result(b"half")).await.err(),
                11 => {
                    let after = AfterCancel::Archive;
                    on.broker.cancel(&on.queue, &held.lease.id, after).await.err()
                }
                12 => on.broker.fire(&on.firing("new")).await.err(),
                _ => on.broker.first_expired_leases(&on.queue, 9).await.err(),
            };
            if let Some(error) = error {
                refused += 1;
                assert!(error.is_refused(), "{key}, operation {operation}: {error:?}");
                assert_eq!(on.digest(), before, "{key}, operation {operation}");
            }
        }
    }
    assert!(refused > 40, "{refused}");
}

#[tokio::test]
async fn a_full_server_still_lets_workers_drain_it() {
    let on = Harness::start();
    let mut jobs = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let mut job = on.job(name);
        job.record.retention = secs(60);
        jobs.push(job);
    }
    jobs.push(on.job("later").placed(Placement::After(secs(1))));
    on.broker.enqueue(&jobs).await.unwrap();
    on.clock.advance(secs(1));
    on.cli("CONFIG SET maxmemory 1");

    let error = on.broker.enqueue(&[on.job("x")]).await.unwrap_err();
    assert!(error.is_refused(), "{error:?}");
    assert_eq!(on.broker.forward(&on.queue, 9).await.unwrap().moved, 1);
    for transition in [done(), retry(secs(1)), archive(), Transition::Requeue, reclaim()] {
        let mut delivery = on.take().await;
        delivery.lease = on.extend(&delivery).await.expect("the lease holds");
        assert_eq!(on.settle(&delivery, transition).await, Settled::Done);
    }
}

#[tokio::test]
async fn a_queue_that_cannot_be_extended_costs_the_others_nothing() {
    let on = Harness::by(Clock::system());
    let names = ["first", "broken", "last"].map(|name| QueueName::new(name).unwrap());
    for name in &names {
        let mut job = on.job("a");
        job.record.queue = name.clone();
        on.put(job).await;
    }
    let held = on.broker.dequeue(&names, 3).await.unwrap().deliveries;
    let leases: Vec<Lease> = held.iter().map(|delivery| delivery.lease.clone()).collect();
    on.cli("SET asynq:{broken}:lease x");

    let extended = on.broker.extend(&leases).await.unwrap();

    assert_eq!(extended[1], Extended::Unknown);
    for at in [0, 2] {
        let Extended::Renewed(lease) = extended[at].clone() else { panic!("{extended:?}") };
        let delivery = Delivery { lease, ..held[at].clone() };
        assert_eq!(on.settle(&delivery, done()).await, Settled::Done);
    }
    let error = on.broker.extend(&leases[1..2]).await.unwrap_err();
    assert!(error.is_refused(), "nothing is known of any: {error:?}");
}

#[tokio::test]
async fn a_queue_that_refuses_keeps_no_other_waiting() {
    let on = Harness::start();
    let names = ["first", "broken", "last"].map(|name| QueueName::new(name).unwrap());
    for name in &names {
        let mut job = on.job("a");
        job.record.queue = name.clone();
        on.put(job).await;
    }
    on.cli("SET asynq:{broken}:active x");

    let taken = on.broker.dequeue(&names, 9).await.unwrap();
    let from: Vec<_> = taken.deliveries.iter().map(|d| d.job.queue.as_str()).collect();
    assert_eq!(from, ["first", "last"]);
    assert_eq!(taken.paused, [names[1].clone()], "a wait on it would not block");

    let rest = on.broker.dequeue(&names, 9).await.unwrap();
    assert!(rest.deliveries.is_empty(), "two were served and had nothing");
    let error = on.broker.dequeue(&names[1..2], 9).await.unwrap_err();
    assert!(error.is_refused(), "nothing was served: {error:?}");
    on.cli("DEL asynq:{broken}:active");
    assert_eq!(on.broker.dequeue(&names, 9).await.unwrap().deliveries.len(), 1);
}

#[tokio::test]
async fn a_job_is_stored_where_its_queue_cannot_be_made_known() {
    let on = Harness::by(Clock::system());
    on.cli("SET asynq:queues x");

    assert!(matches!(on.put(on.job("a")).await, Enqueued::Created { .. }));

    on.cli("DEL asynq:queues");
    on.put(on.job("b")).await;
    assert_eq!(on.cli("SMEMBERS asynq:queues"), "default", "the next job tried again");
    assert_eq!(on.take().await.job.id.as_str(), "a");
}

#[tokio::test]
async fn a_frozen_server_costs_an_enqueue_one_deadline() {
    let on = Harness::by(Clock::system());
    on.put(on.job("known")).await;
    let mut job = on.job("a").placed(Placement::After(secs(60)));
    job.record.queue = QueueName::new("new").unwrap();

    on.server.freeze();
    // 3 s, and two of them are 6 s.
    let error = within(secs(5), on.broker.enqueue(&[job])).await.unwrap_err();
    on.server.thaw();

    assert!(error.is_outcome_unknown(), "{error:?}");
}

#[tokio::test]
async fn a_user_who_may_not_block_looks_four_times_a_second() {
    let server = RedisServer::start(&["--maxclients", "100"]);
    server.cli(&["ACL", "SETUSER", "default", "-blmove"]);
    let broker = broker(&server, &Clock::system());
    let begin = Instant::now();

    let queues = [QueueName::new("default").unwrap()];
    within(secs(30), broker.wait(&queues, secs(60))).await.unwrap();

    assert!(begin.elapsed() >= Duration::from_millis(240), "{:?}", begin.elapsed());
}
