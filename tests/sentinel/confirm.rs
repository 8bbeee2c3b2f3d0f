//! Enqueues that replicas confirm: `wait_replicas`.
//!
//! `SENTINEL_WAIT=1` measures another number than all replicas, and asserts nothing then.

use std::time::Duration;

use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::{Broker, Enqueued, PoolSettings, RedisPool, Topology};
use rocket_jobqueue::{Clock, Error, Idempotency, JobRecord, NewJob, QueueName};

use super::producers::{PATIENCE, Producers, settings, toll};
use super::support::border::Border;
use super::support::fleet::{Cluster, WatchedTrio};
use super::support::{RedisServer, eventually};

/// All replicas of a trio, unless something else is to be measured.
fn replicas() -> u32 {
    std::env::var("SENTINEL_WAIT").ok().and_then(|count| count.parse().ok()).unwrap_or(2)
}

/// Whether one of the replicas is a master by now.
async fn has_promoted(trio: &WatchedTrio) -> bool {
    trio.replicas.iter().any(|replica| replica.cli(&["ROLE"]).starts_with("master"))
}

async fn nothing_is_lost(trio: &WatchedTrio, producers: Producers, what: &str) {
    producers.advance(50).await;
    let ledger = producers.stop().await;
    assert!(trio.is_ready().await);
    let toll = toll(&ledger, trio.serving().await);
    eprintln!("{what}, {} of 2 replicas: {toll:?}", replicas());
    if replicas() == 2 {
        assert_eq!(toll.lost, 0, "{toll:?}");
        assert!(toll.unknown > 0, "nobody noticed: {toll:?}");
    }
}

async fn store(broker: &RedisBroker, queue: &str, key: &str) -> Result<Enqueued, Error> {
    let record = JobRecord::new("t".to_owned(), None, QueueName::new(queue).unwrap());
    let idempotency = Some(Idempotency::new("s", key, b"b"));
    let job = NewJob { idempotency, ..NewJob::now(record) };
    broker.enqueue(&[job]).await.map(|mut one| one.remove(0))
}

/// Answers are waited for 400 ms.
fn broker(topology: Topology, wait_replicas: u32) -> RedisBroker {
    let settings = PoolSettings {
        read_timeout: Duration::from_millis(600),
        ..settings(topology, wait_replicas)
    };
    RedisBroker::new(RedisPool::new(settings).unwrap(), Clock::system())
}

#[tokio::test]
async fn a_job_that_no_replica_has_is_not_confirmed_by_asking_again_on_another_connection() {
    let master = RedisServer::start::<&str>(&[]);
    let single = || Topology::Single(master.addr());
    let alone = store(&broker(single(), 1), "q", "a").await.unwrap_err();
    assert!(alone.is_outcome_unknown(), "{alone:?}");
    assert_eq!(alone.to_string(), "too few replicas confirmed in time");

    let port = master.port().to_string();
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]);
    let with_it = broker(single(), 1);
    let confirmed = || async { store(&with_it, "q", "b").await.is_ok() };
    assert!(eventually(PATIENCE, confirmed).await, "{}", replica.log());

    replica.freeze();
    let first = store(&with_it, "q", "c").await.unwrap_err();
    assert!(first.is_outcome_unknown(), "{first:?}");
    // It is stored there, and this connection has not written yet.
    let second = store(&broker(single(), 1), "q", "c").await.unwrap_err();
    assert!(second.is_outcome_unknown(), "{second:?}");
    let without = store(&broker(single(), 0), "q", "c").await;
    assert!(matches!(without, Ok(Enqueued::Replayed { .. })), "{without:?}");
    replica.thaw();
    let confirmed =
        || async { matches!(store(&with_it, "q", "c").await, Ok(Enqueued::Replayed { .. })) };
    assert!(eventually(PATIENCE, confirmed).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_enqueues_share_their_waits_and_a_bulk_has_few() {
    const JOBS: usize = 2000;
    let master = RedisServer::start::<&str>(&[]);
    let port = master.port().to_string();
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]);
    let synced =
        || async { replica.cli(&["INFO", "replication"]).contains("master_link_status:up") };
    assert!(eventually(PATIENCE, synced).await, "{}", replica.log());
    let waits = || {
        let stats = master.cli(&["INFO", "commandstats"]);
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_wait:calls="));
        calls.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    };
    let job = || {
        let record = JobRecord::new("t".to_owned(), None, QueueName::new("q").unwrap());
        NewJob::now(record)
    };
    let confirmed = RedisBroker::new(
        RedisPool::new(settings(Topology::Single(master.addr()), 1)).unwrap(),
        Clock::system(),
    );
    let plain = RedisBroker::new(
        RedisPool::new(settings(Topology::Single(master.addr()), 0)).unwrap(),
        Clock::system(),
    );
    let mut took = Vec::new();
    for broker in [&plain, &confirmed] {
        let began = std::time::Instant::now();
        let tasks = (0..100).map(|_| {
            let broker = broker.clone();
            let jobs: Vec<_> = (0..JOBS / 100).map(|_| job()).collect();
            tokio::spawn(async move {
                for job in jobs {
                    broker.enqueue(&[job]).await.unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        took.push(began.elapsed());
    }
    let shared = waits();
    eprintln!("{JOBS} jobs of 100 callers: {took:?} without and with a replica, {shared} waits");
    assert!((1..JOBS / 4).contains(&shared), "{shared} waits");

    let jobs: Vec<_> = (0..JOBS).map(|_| job()).collect();
    assert!(confirmed.enqueue_each(&jobs).await.iter().all(Result::is_ok));
    assert_eq!(waits() - shared, JOBS / 100);
    // In their order: the first is at the tail.
    let first = master.cli(&["LINDEX", "asynq:{q}:pending", &(JOBS - 1).to_string()]);
    assert_eq!(first, jobs[0].record.id.to_string());
}

#[tokio::test]
async fn on_a_cluster_the_replicas_of_the_queues_master_count() {
    let cluster = Cluster::start(3, 1, "2000").await;
    let (one, two) = (broker(cluster.topology(), 1), broker(cluster.topology(), 2));
    for queue in ["a", "b", "c", "d"] {
        let stored = || async { store(&one, queue, "k").await.is_ok() };
        assert!(eventually(PATIENCE, stored).await, "{queue}");
        assert!(store(&two, queue, "k").await.unwrap_err().is_outcome_unknown());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_replicas_nothing_is_lost_in_a_planned_failover() {
    let trio = WatchedTrio::start("").await;
    let producers = Producers::start(&settings(trio.topology(), replicas()));
    producers.advance(100).await;
    trio.fail_over().await;
    assert!(eventually(PATIENCE, || has_promoted(&trio)).await, "{}", trio.sentinels[0].log());
    // With the old master only one replica is there, until Sentinel makes it one.
    nothing_is_lost(&trio, producers, "planned failover").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_replicas_nothing_is_lost_with_a_killed_master() {
    let mut trio = WatchedTrio::start("").await;
    let producers = Producers::start(&settings(trio.topology(), replicas()));
    producers.advance(100).await;
    trio.master.stop();
    assert!(eventually(PATIENCE, || has_promoted(&trio)).await, "{}", trio.sentinels[0].log());
    trio.master.restart();
    nothing_is_lost(&trio, producers, "killed master").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_replicas_nothing_is_lost_when_the_old_master_is_cut_off_with_its_clients() {
    let trio = WatchedTrio::start("").await;
    let mut borders = Vec::new();
    for sentinel in &trio.sentinels {
        borders.push(Border::around(sentinel.addr()).await);
    }
    let addrs = borders.iter().map(Border::addr).collect();
    let topology = Topology::Sentinel { master: "mymaster".into(), addrs };
    let producers = Producers::start(&settings(topology, replicas()));
    producers.advance(100).await;

    trio.border.close_to_peers(true);
    borders.iter().for_each(|border| border.close_to_clients(true));
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(has_promoted(&trio).await, "{}", trio.sentinels[0].log());
    assert!(trio.master.cli(&["ROLE"]).starts_with("master"), "both call themselves master");
    trio.border.close_to_peers(false);
    borders.iter().for_each(|border| border.close_to_clients(false));

    nothing_is_lost(&trio, producers, "partition").await;
}
