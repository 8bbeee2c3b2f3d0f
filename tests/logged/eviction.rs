//! A Redis that evicts jobs when its memory is full: it stops the launch, and if it is
//! seen later, the process goes on and says that it is not ready.

use std::time::{Duration, Instant};

use crate::support::anybody::Anybody;
use crate::support::fleet::{Cluster, WatchedPair};
use crate::support::log::Log;
use crate::support::{RedisServer, eventually};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::internals::Topology;
use rocket_jobqueue::{Job, JobQueue, JobQueueFairing};
use serde::{Deserialize, Serialize};

const BASE: &str = "/api/dm-jobqueue";
/// The store is looked at each 5 s; the rest is room for a busy machine.
const SEEN: Duration = Duration::from_secs(30);
const EVICTS: [&str; 4] = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];

#[derive(Serialize, Deserialize)]
struct Work;

impl Job for Work {
    const TYPE: &'static str = "test:work";
}

fn queue() -> JobQueueFairing {
    Log::of_this_process();
    // An environment whose files name no server, which would speak against it.
    JobQueue::fairing()
        .admin_guard::<Anybody>()
        .environment("staging")
        .handle(|_: Work| async { Ok::<_, std::io::Error>(()) })
}

fn at(redis: &RedisServer) -> JobQueueFairing {
    queue().set("databases.jobqueue.url", format!("redis://{}", redis.addr()))
}

async fn launch(queue: JobQueueFairing) -> Result<Client, String> {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let launched = Client::untracked(rocket::custom(figment).attach(queue)).await;
    launched.map_err(|error| error.to_string())
}

async fn health(client: &Client) -> serde_json::Value {
    let response = client.get(format!("{BASE}/health")).dispatch().await;
    serde_json::from_str(&response.into_string().await.unwrap()).unwrap()
}

async fn is_ready(client: &Client) -> bool {
    health(client).await["ready"] == true
}

async fn until_ready(client: &Client, ready: bool) {
    let asked = || async { is_ready(client).await == ready };
    assert!(eventually(SEEN, asked).await, "not {ready}: {}", health(client).await);
}

/// A job is stored and run.
async fn works(client: &Client) {
    let queue = client.rocket().state::<JobQueue>().unwrap();
    let receipt = queue.enqueue(Work).await.unwrap();
    let gone = || async { queue.job("default", &receipt.id).await.unwrap().is_none() };
    assert!(eventually(SEEN, gone).await, "the job was not run");
}

#[rocket::async_test]
async fn a_server_that_evicts_jobs_stops_every_launch() {
    let redis = RedisServer::start(&EVICTS);
    let log = Log::of_this_process();
    let launches = [
        at(&redis),
        at(&redis).set("jobqueue.worker", false),
        at(&redis).worker_only().set("jobqueue.port", 0),
    ];
    for (nth, launched) in launches.into_iter().enumerate() {
        let error = launch(launched).await.err();
        assert!(error.is_some(), "launch {nth} was not stopped");
    }
    for word in ["allkeys-lru", "noeviction", "jobqueue.allow_eviction = true"] {
        assert_eq!(log.lines(&["ERROR", &redis.addr(), word]).len(), 3, "{word}");
    }
}

#[rocket::async_test]
async fn a_server_that_evicts_jobs_is_permitted_loudly() {
    let redis = RedisServer::start(&EVICTS);
    let client = launch(at(&redis).set("jobqueue.allow_eviction", true)).await.unwrap();
    until_ready(&client, true).await;
    works(&client).await;
    assert_eq!(health(&client).await, serde_json::json!({"live": true, "ready": true}));
    let told = Log::of_this_process()
        .lines(&["WARN", &redis.addr(), "acknowledged jobs may vanish"])
        .len();
    assert_eq!(told, 1);
    client.terminate().await;
}

#[rocket::async_test]
async fn a_limit_without_a_policy_and_a_policy_without_a_limit_stop_no_launch() {
    for args in [&EVICTS[..2], &EVICTS[2..]] {
        let redis = RedisServer::start(args);
        let client = launch(at(&redis)).await.unwrap();
        until_ready(&client, true).await;
        client.terminate().await;
    }
}

#[rocket::async_test]
async fn a_server_that_evicts_what_expires_is_a_warning() {
    let redis = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"]);
    let client = launch(at(&redis)).await.unwrap();
    until_ready(&client, true).await;
    assert_eq!(Log::of_this_process().lines(&["WARN", &redis.addr(), "idempotency keys"]).len(), 1);
    assert_eq!(Log::of_this_process().lines(&["INFO", &redis.addr(), "tested"]).len(), 1);
    client.terminate().await;
}

#[rocket::async_test]
async fn a_user_who_may_not_ask_launches() {
    let redis = RedisServer::start(&EVICTS);
    let rule = "ACL SETUSER app on >pw ~* &* +@all -info -config -role";
    assert_eq!(redis.cli(&rule.split(' ').collect::<Vec<_>>()), "OK");
    let url = format!("redis://app:pw@{}", redis.addr());
    let client = launch(queue().set("databases.jobqueue.url", url)).await.unwrap();
    until_ready(&client, true).await;
    works(&client).await;
    client.terminate().await;
}

#[rocket::async_test]
async fn a_server_without_config_is_asked_by_info() {
    let redis = RedisServer::start(&EVICTS);
    let rule = "ACL SETUSER app on >pw ~* &* +@all -config";
    assert_eq!(redis.cli(&rule.split(' ').collect::<Vec<_>>()), "OK");
    let url = format!("redis://app:pw@{}", redis.addr());
    assert!(launch(queue().set("databases.jobqueue.url", url)).await.is_err());
}

#[rocket::async_test]
async fn a_server_that_does_not_answer_stops_no_launch() {
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let began = Instant::now();
    let client = launch(queue().set("databases.jobqueue.url", url)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(!is_ready(&client).await);
    client.terminate().await;
}

#[rocket::async_test]
async fn a_policy_that_changes_later_makes_a_process_unready_that_works_on() {
    let mut redis = RedisServer::prepare(&EVICTS);
    let (log, addr) = (Log::of_this_process(), redis.addr());
    let client = launch(at(&redis)).await.expect("a server that is not there stops no launch");
    redis.restart();
    // Connected by now, and seen.
    let objects = || async { !health(&client).await["reason"].is_null() };
    assert!(eventually(SEEN, objects).await, "{}", health(&client).await);
    assert!(!is_ready(&client).await);
    works(&client).await;
    let probe = client.get(format!("{BASE}/health/ready")).dispatch().await;
    assert_eq!(probe.status().code, 503);
    let said = probe.into_string().await.unwrap();
    assert!(said.contains("allkeys-lru") && !said.contains("not connected"), "{said}");
    let page = client.get(format!("{BASE}/ui")).dispatch().await.into_string().await.unwrap();
    assert!(page.contains("maxmemory-policy"), "{page}");
    assert_eq!(log.lines(&["ERROR", &addr, "not ready"]).len(), 1);

    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    until_ready(&client, true).await;
    works(&client).await;
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    until_ready(&client, false).await;
    works(&client).await;
    assert_eq!(log.lines(&["ERROR", &addr, "not ready"]).len(), 2, "one line for each change");
    client.terminate().await;
}

#[rocket::async_test]
async fn one_master_of_a_cluster_that_evicts_stops_the_launch() {
    let cluster = Cluster::start(3, 0, "5000").await;
    let Topology::Cluster(addrs) = cluster.topology() else { unreachable!() };
    let app = || queue().set("databases.jobqueue.cluster.addrs", addrs.clone());
    let client = launch(app()).await.unwrap();
    until_ready(&client, true).await;
    let last = cluster.nodes.last().unwrap();
    last.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
    last.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    assert!(launch(app()).await.is_err(), "it was not stopped");
    until_ready(&client, false).await;
    client.terminate().await;
}

#[rocket::async_test]
async fn a_failover_to_a_server_that_evicts_is_seen() {
    let pair = WatchedPair::start().await;
    pair.replica.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
    pair.replica.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let Topology::Sentinel { master, addrs } = pair.topology() else { unreachable!() };
    let app = queue()
        .set("databases.jobqueue.sentinel.master", master)
        .set("databases.jobqueue.sentinel.addrs", addrs);
    let client = launch(app).await.expect("a replica evicts nothing");
    until_ready(&client, true).await;
    pair.fail_over().await;
    let objects = || async { !health(&client).await["reason"].is_null() };
    assert!(eventually(Duration::from_secs(60), objects).await, "{}", health(&client).await);
    client.terminate().await;
}
