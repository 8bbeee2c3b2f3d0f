//! A Redis that may drop keys when it is full.

use std::time::Duration;

use super::{LONG, Scenario, all_at_work, durable, mixed, scenario};
use crate::checker::Allowed;
use crate::report::Report;
use crate::stage::Stage;
use crate::support::{RedisServer, eventually};

pub fn all() -> Vec<Scenario> {
    vec![
        scenario!(launch, "allkeys-lru", "maxmemory-policy allkeys-lru at launch", 15),
        scenario!(later, "allkeys-lru-later", "the policy is set while workers run", 80),
    ]
}

const EVICTS: [&str; 4] = ["--maxmemory", "40mb", "--maxmemory-policy", "allkeys-lru"];

async fn launch(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = RedisServer::start(&EVICTS);
    stage.on_single(&redis.addr());
    let mut refused = stage.worker(4);
    let ended = refused.ended(Duration::from_secs(20)).await;
    report.expect(ended, "a worker starts on a Redis that evicts jobs");
    let said = refused.log();
    report.expect(said.contains("allow_eviction"), "the log does not name allow_eviction");
    report.expect(said.contains("noeviction"), "the log does not name the fix, noeviction");
    drop(refused);
    if !ended {
        return report;
    }
    stage.configure("jobqueue.allow_eviction", true);
    let permitted = stage.worker(4);
    permitted.is_up().await;
    report
}

async fn later(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    let workers = stage.workers(1, 16).await;
    let mut producers = [stage.producer(mixed("job", 50))];
    all_at_work(stage, &workers).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "500mb"]);
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let ready = async |wanted: u16| {
        eventually(LONG, || async {
            workers[0].get("/health/ready").await.is_some_and(|(status, _)| status == wanted)
        })
        .await
    };
    report.expect(ready(503).await, "it stays ready although Redis may evict jobs");
    report.expect(workers[0].log().contains("allkeys-lru"), "the log does not name the policy");
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    report.expect(ready(200).await, "it does not become ready again");
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report
}
