//! A planned failover, in which nobody waits for replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rocket_jobqueue::internals::{PoolSettings, RedisPool, Repeat};
use tokio_util::sync::CancellationToken;

use super::producers::{PATIENCE, Producers, settings, toll};
use super::support::fleet::WatchedTrio;
use super::support::{RedisServer, eventually};

/// Issue 12, A1: 431 of 800 acknowledged jobs were lost, over 11 s. How many failovers can be
/// given for a measurement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_costs_at_most_what_sentinel_notices_late() {
    let count: Option<u32> =
        std::env::var("SENTINEL_FAILOVERS").ok().and_then(|count| count.parse().ok());
    let trio = WatchedTrio::start("").await;
    for nth in 0..count.unwrap_or(1) {
        assert!(trio.is_ready().await);
        let producers = Producers::start(&settings(trio.topology(), 0));
        producers.advance(100).await;
        trio.fail_over().await;
        // In a measurement longer than it takes Sentinel to demote the old master.
        let while_both = if count.is_some() { 13 } else { 4 };
        tokio::time::sleep(Duration::from_secs(while_both)).await;
        producers.advance(50).await;
        let ledger = producers.stop().await;
        let toll = toll(&ledger, trio.serving().await);
        eprintln!("planned failover {nth}: {toll:?}");
        assert!(toll.window <= Duration::from_millis(1500), "{toll:?}");
        assert!(toll.gap <= Duration::from_secs(2), "{toll:?}");
    }
}

/// As `redis-cli CLIENT LIST` counts them: neither replicas nor Sentinels nor itself.
fn clients(server: &RedisServer) -> usize {
    let list = server.cli(&["CLIENT", "LIST"]);
    let ours = |line: &&str| {
        !line.contains("name=sentinel-")
            && !line.contains("cmd=client")
            && !line.contains("flags=S")
    };
    list.lines().filter(ours).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_connection_leaves_the_old_master_at_once() {
    let trio = WatchedTrio::start("").await;
    let ours = settings(trio.topology(), 0);
    let before = clients(&trio.master);
    let pool = RedisPool::new(ours.clone()).unwrap();
    let others = [pool.detached(), RedisPool::new(PoolSettings { db: 1, ..ours }).unwrap()];
    for one in others.iter().chain([&pool]) {
        one.ping().await.unwrap();
    }
    let blocking = pool.blocking(Duration::from_secs(60));
    let blocked = tokio::spawn(async move {
        let look = |_| {
            let mut look = redis::cmd("BLPOP");
            look.arg("nothing").arg(60);
            look
        };
        blocking.run(Repeat::Never, look).await
    });
    let stop = CancellationToken::new();
    let heard = Arc::new(AtomicU64::new(0));
    let on_message = {
        let heard = Arc::clone(&heard);
        Arc::new(move |_: String, _: Vec<u8>| {
            heard.fetch_add(1, Ordering::SeqCst);
        })
    };
    let listening = tokio::spawn(pool.subscribe(vec!["c".to_owned()], on_message, stop.clone()));
    let all = || async { clients(&trio.master) >= before + 5 };
    assert!(eventually(PATIENCE, all).await, "{}", trio.master.cli(&["CLIENT", "LIST"]));

    trio.fail_over().await;
    let moved = || async { trio.replicas.iter().any(|replica| clients(replica) >= 4) };
    assert!(eventually(Duration::from_secs(4), moved).await, "not there yet");
    // Sentinel has not touched the old master yet.
    assert!(trio.master.cli(&["ROLE"]).starts_with("master"));
    let left = || async { clients(&trio.master) <= before };
    assert!(
        eventually(Duration::from_millis(500), left).await,
        "{}",
        trio.master.cli(&["CLIENT", "LIST"])
    );
    assert!(blocked.await.unwrap().unwrap_err().is_outcome_unknown());
    let promoted = |server: &&RedisServer| server.cli(&["ROLE"]).starts_with("master");
    let serving = trio.replicas.iter().find(promoted).expect("one was promoted");
    let hears = || async {
        serving.cli(&["PUBLISH", "c", "m"]);
        heard.load(Ordering::SeqCst) > 0
    };
    assert!(eventually(Duration::from_secs(5), hears).await);
    stop.cancel();
    listening.await.unwrap();
}
