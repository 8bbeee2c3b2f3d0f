//! What a client of the REST interface reads when Redis answers with an error,
//! each provoked on a real server: whose fault it is, in words of ours.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{PATIENCE, RedisServer, closed_port, eventually, within};
use rocket::http::{ContentType, Status};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::{Job, JobQueue, JobQueueFairing};
use rstest::rstest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const UNAVAILABLE: &str = "Job queue service is unavailable: Redis is not connected";
/// A 503 asks clients to wait for 3 s; the rest is room for a busy machine.
const BACK: Duration = Duration::from_secs(15);
/// The limit of a request is 3.5 s, and two of them are 7 s; the rest is room as well.
const LIMIT: Duration = Duration::from_secs(6);

/// Words of Redis's own.
const ITS_WORDS: [&str; 16] = [
    "ERR",
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "BUSY",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "OOM",
    "MISCONF",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "WRONGTYPE",
    "maxmemory",
    "script",
    "127.0.0.1",
];

fn queue(url: &str) -> JobQueueFairing {
    JobQueue::fairing().set("databases.jobqueue.url", url)
}

async fn client(queue: JobQueueFairing) -> Client {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment).attach(queue);
    Client::untracked(rocket).await.expect("Redis stops no launch")
}

/// An application that enqueues and does not work.
async fn producer(url: &str) -> Client {
    client(queue(url).set("jobqueue.worker", false)).await
}

async fn producer_at(redis: &RedisServer) -> Client {
    producer(&format!("redis://{}", redis.addr())).await
}

async fn register(client: &Client) -> (Status, Value) {
    let request = client.post("/api/dm-jobqueue/register").header(ContentType::JSON).body("{}");
    let response = request.dispatch().await;
    let (status, content) = (response.status(), response.content_type());
    let retry_after = response.headers().get_one("Retry-After").map(str::to_owned);
    let text = response.into_string().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap();
    if status.code >= 400 {
        assert_eq!(content, Some(ContentType::new("application", "problem+json")), "{text}");
        assert_eq!(body["status"], status.code);
        assert_eq!(retry_after.is_some(), status == Status::ServiceUnavailable, "{text}");
        for word in ITS_WORDS {
            assert!(!text.contains(word), "{word:?} of Redis in {text}");
        }
    }
    (status, body)
}

async fn is_registered(client: &Client) {
    let (status, body) = register(client).await;
    assert_eq!(status, Status::Created, "{body}");
}

async fn is_unavailable(client: &Client) {
    let (status, body) = within(LIMIT, register(client)).await;
    assert_eq!((status, &body["detail"]), (Status::ServiceUnavailable, &json!(UNAVAILABLE)));
}

async fn is_refused(client: &Client, words: &str) {
    let (status, body) = register(client).await;
    let detail = format!("Failed to enqueue job: {words}");
    assert_eq!((status, &body["detail"]), (Status::InternalServerError, &json!(detail)));
}

async fn is_back(client: &Client) {
    let is_back = eventually(BACK, || async { register(client).await.0 == Status::Created });
    assert!(is_back.await, "no job could be registered within {BACK:?}");
}

/// A `redis-cli` that waits for its answer, killed when dropped.
struct Asking(Child);

impl Asking {
    fn start(redis: &RedisServer, command: &[&str]) -> Self {
        let port = redis.port().to_string();
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &port]).args(command);
        let child = cli.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.expect("redis-cli is installed"))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the server answers this command with an error of this code.
async fn until_it_says(redis: &RedisServer, command: &[&str], code: &str) {
    let said = eventually(PATIENCE, || async { redis.cli(command).contains(code) });
    assert!(said.await, "no {code}: {}", redis.cli(command));
}

#[tokio::test]
async fn no_connection_is_503() {
    let client = producer(&format!("redis://127.0.0.1:{}", closed_port())).await;
    is_unavailable(&client).await;
}

#[tokio::test]
async fn a_frozen_server_is_503() {
    let redis = RedisServer::start::<&str>(&[]);
    let client = producer_at(&redis).await;
    is_registered(&client).await;
    redis.freeze();
    is_unavailable(&client).await;
    redis.thaw();
    is_back(&client).await;
}

#[rstest]
#[case::from_the_start(false)]
#[case::after_it_was_master(true)]
#[tokio::test]
async fn a_replica_is_503(#[case] was_master: bool) {
    let master = RedisServer::start::<&str>(&[]);
    let redis = RedisServer::start::<&str>(&[]);
    let early = producer_at(&redis).await;
    if was_master {
        is_registered(&early).await;
    }
    redis.cli(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    until_it_says(&redis, &["SET", "x", "y"], "READONLY").await;
    is_unavailable(&early).await;
    redis.cli(&["REPLICAOF", "NO", "ONE"]);
    is_back(&early).await;
}

#[tokio::test]
async fn a_replica_that_lost_its_master_and_serves_nothing_stale_is_503() {
    let redis = RedisServer::start(&["--replica-serve-stale-data", "no"]);
    let client = producer_at(&redis).await;
    is_registered(&client).await;
    redis.cli(&["REPLICAOF", "127.0.0.1", &closed_port().to_string()]);
    until_it_says(&redis, &["GET", "x"], "MASTERDOWN").await;
    is_unavailable(&client).await;
    // A process that comes now finds it so.
    is_unavailable(&producer_at(&redis).await).await;
    redis.cli(&["REPLICAOF", "NO", "ONE"]);
    is_back(&client).await;
}

#[tokio::test]
async fn a_server_that_loads_its_data_is_503() {
    let redis = RedisServer::start(&["--enable-debug-command", "local"]);
    let client = producer_at(&redis).await;
    is_registered(&client).await;
    // 8000 keys of 1500 µs each, until the delay is set to 0. It listens in between: each
    // 2 MiB, and Redis 6.2 cannot be told to do so more often.
    redis.cli(&["CONFIG", "SET", "rdbcompression", "no"]);
    redis.cli(&["DEBUG", "POPULATE", "8000", "key", "8192"]);
    redis.cli(&["CONFIG", "SET", "key-load-delay", "1500"]);
    let _reload = Asking::start(&redis, &["DEBUG", "RELOAD"]);
    until_it_says(&redis, &["GET", "x"], "LOADING").await;
    is_unavailable(&client).await;
    is_unavailable(&producer_at(&redis).await).await;
    redis.cli(&["CONFIG", "SET", "key-load-delay", "0"]);
    let loaded = || async { !redis.cli(&["GET", "x"]).contains("LOADING") };
    assert!(eventually(PATIENCE, loaded).await);
    is_back(&client).await;
}

#[tokio::test]
async fn a_server_busy_with_a_script_is_503() {
    let redis = RedisServer::start(&["--lua-time-limit", "100"]);
    let client = producer_at(&redis).await;
    is_registered(&client).await;
    let _script = Asking::start(&redis, &["EVAL", "while true do end", "0"]);
    until_it_says(&redis, &["GET", "x"], "BUSY").await;
    is_unavailable(&client).await;
    is_unavailable(&producer_at(&redis).await).await;
    redis.cli(&["SCRIPT", "KILL"]);
    is_back(&client).await;
}

#[tokio::test]
async fn a_master_with_too_few_replicas_is_503() {
    let redis = RedisServer::start(&["--min-replicas-to-write", "1"]);
    let client = producer_at(&redis).await;
    is_unavailable(&client).await;
    redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    is_back(&client).await;
}

#[tokio::test]
async fn a_server_with_too_many_clients_is_503() {
    let redis = RedisServer::start(&["--maxclients", "1"]);
    // The only place; the test's own question at the start may still have it.
    let mut only = None;
    let taken = eventually(PATIENCE, || {
        let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut reply = [0; 64];
        let read = stream.write_all(b"PING\r\n").and_then(|()| stream.read(&mut reply));
        let is_in = matches!(read, Ok(n) if reply[..n].starts_with(b"+PONG"));
        only = is_in.then_some(stream);
        async move { is_in }
    });
    assert!(taken.await);
    let client = producer_at(&redis).await;
    is_unavailable(&client).await;
    drop(only);
    is_back(&client).await;
}

#[rstest]
#[case::as_one_server("url")]
#[case::as_a_cluster("cluster.addrs")]
#[tokio::test]
async fn a_cluster_without_slots_is_503(#[case] key: &str) {
    let redis = RedisServer::start(&["--cluster-enabled", "yes"]);
    // An environment whose files name no server, which would speak against it.
    let queue = JobQueue::fairing().environment("staging").set("jobqueue.worker", false);
    let queue = queue.set("jobqueue.register_route", true);
    let queue = match key {
        "url" => queue.set("databases.jobqueue.url", format!("redis://{}", redis.addr())),
        _ => queue.set("databases.jobqueue.cluster.addrs", vec![redis.addr()]),
    };
    let client = client(queue).await;
    is_unavailable(&client).await;
    if key != "url" {
        redis.own_all_slots();
        until_it_says(&redis, &["CLUSTER", "INFO"], "cluster_state:ok").await;
        is_back(&client).await;
    }
}

#[tokio::test]
async fn a_full_server_is_500() {
    let redis = RedisServer::start(&["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"]);
    redis.cli(&["SETRANGE", "filler", "1048576", "x"]);
    until_it_says(&redis, &["SET", "x", "y"], "OOM").await;
    let client = producer_at(&redis).await;
    is_refused(&client, "storage is full").await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    is_back(&client).await;
}

#[tokio::test]
async fn a_server_that_cannot_save_is_500() {
    let redis = RedisServer::start(&["--save", "3600", "1"]);
    let client = producer_at(&redis).await;
    is_registered(&client).await;
    // A file cannot take a folder's place.
    std::fs::create_dir(redis.dir().join("dump.rdb")).unwrap();
    redis.cli(&["BGSAVE"]);
    until_it_says(&redis, &["SET", "x", "y"], "MISCONF").await;
    is_refused(&client, "storage cannot be written").await;
}

#[rstest]
#[case::no_password("")]
#[case::wrong_password(":wrong@")]
#[case::wrong_user("nobody:s3cr3t@")]
#[tokio::test]
async fn wrong_credentials_are_500(#[case] credentials: &str) {
    let redis = RedisServer::start(&["--requirepass", "s3cr3t"]);
    let client = producer(&format!("redis://{credentials}{}", redis.addr())).await;
    is_refused(&client, "not permitted by the storage (credentials)").await;
}

#[rstest]
#[case::no_scripts("+@all -@scripting ~*")]
#[case::no_keys_of_ours("+@all ~other:*")]
#[tokio::test]
async fn a_user_without_the_permission_is_500(#[case] rules: &str) {
    let redis = RedisServer::start::<&str>(&[]);
    let mut rule = vec!["ACL", "SETUSER", "app", "on", ">pw"];
    rule.extend(rules.split(' '));
    assert_eq!(redis.cli(&rule), "OK");
    let client = producer(&format!("redis://app:pw@{}", redis.addr())).await;
    is_refused(&client, "not permitted by the storage").await;
}

#[tokio::test]
async fn data_of_another_type_is_500() {
    let redis = RedisServer::start::<&str>(&[]);
    redis.cli(&["SET", "asynq:{default}:scheduled", "text"]);
    let client = producer_at(&redis).await;
    is_refused(&client, "stored data has an unexpected type").await;
    assert_eq!(redis.cli(&["KEYS", "asynq:{default}:t:*"]), "", "nothing was left half done");
}

#[derive(Serialize, Deserialize)]
struct Chore;

impl Job for Chore {
    const TYPE: &'static str = "test:chore";
}

#[tokio::test]
async fn a_worker_drains_a_full_server() {
    let redis = RedisServer::start::<&str>(&[]);
    let before = producer_at(&redis).await;
    let handle = before.rocket().state::<JobQueue>().unwrap();
    for _ in 0..25 {
        handle.enqueue(Chore).await.unwrap();
    }
    let left = || redis.cli(&["KEYS", "asynq:{default}:t:*"]).lines().count();
    assert_eq!(left(), 25);
    redis.cli(&["CONFIG", "SET", "maxmemory", "500kb"]);
    until_it_says(&redis, &["SET", "x", "y"], "OOM").await;
    is_refused(&before, "storage is full").await;
    let (done, mut ran) = tokio::sync::mpsc::unbounded_channel();
    let queue = queue(&format!("redis://{}", redis.addr()));
    let chore = move |_: Chore| {
        let done = done.clone();
        async move { done.send(()).map_err(|_| std::io::Error::other("the test is over")) }
    };
    let worker = client(queue.handle(chore)).await;
    assert!(eventually(PATIENCE, || async { left() == 0 }).await, "{} are left", left());
    assert_eq!(std::iter::from_fn(|| ran.try_recv().ok()).count(), 25);
    worker.terminate().await;
}
