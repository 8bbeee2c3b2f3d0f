//! A job that ends its process: it is found out within three deaths, and the jobs beside
//! it end well. Worker processes of their own: this test program, started again.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{RedisServer, eventually};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::{Job, JobQueue};
use serde::{Deserialize, Serialize};

const WORKER: &str = "SUSPECTS_WORKER_REDIS";
/// More than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(150);
const QUEUES: [&str; 2] = ["default", "other"];

#[derive(Serialize, Deserialize)]
struct Poison {
    kind: String,
}

impl Job for Poison {
    const TYPE: &'static str = "suspects:poison";
}

#[derive(Serialize, Deserialize)]
struct Good {
    millis: u64,
}

impl Job for Good {
    const TYPE: &'static str = "suspects:good";
}

#[allow(unconditional_recursion)]
fn overflow(depth: u64) -> u64 {
    let page = [depth; 512];
    std::hint::black_box(&page);
    overflow(depth + 1) + page[(depth % 512) as usize]
}

async fn kill_the_process(poison: Poison) -> Result<(), std::io::Error> {
    // The others have begun meanwhile.
    tokio::time::sleep(Duration::from_millis(400)).await;
    match poison.kind.as_str() {
        "abort" => std::process::abort(),
        "exit" => std::process::exit(0),
        "overflow" => drop(std::hint::black_box(overflow(0))),
        "memory" => {
            let mut all: Vec<Vec<u8>> = Vec::new();
            loop {
                all.push(std::hint::black_box(Vec::with_capacity(64 << 20)));
            }
        }
        other => panic!("{other}"),
    }
    Ok(())
}

async fn end_well(good: Good) -> Result<(), std::io::Error> {
    tokio::time::sleep(Duration::from_millis(good.millis)).await;
    Ok(())
}

/// The worker process, where the test below starts it; otherwise nothing.
#[test]
fn worker_process() {
    let Ok(addr) = std::env::var(WORKER) else { return };
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let queue = JobQueue::fairing()
        .set("databases.jobqueue.url", format!("redis://{addr}"))
        .set("jobqueue.log_to_stderr", false)
        .set("jobqueue.queues", serde_json::json!({"default": 5, "other": 5}))
        .handle(kill_the_process)
        .handle(end_well);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let rocket = rocket::custom(figment).attach(queue);
        let _client = rocket::local::asynchronous::Client::untracked(rocket).await.unwrap();
        tokio::time::sleep(PATIENCE).await;
    });
}

fn start_worker(redis: &RedisServer) -> Child {
    let exe = std::env::current_exe().unwrap();
    // What "out of memory" is to mean.
    let script = "ulimit -v 3000000; exec \"$0\" suspects::worker_process --exact --nocapture";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(exe).env(WORKER, redis.addr());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("a shell")
}

/// Nobody waits for the leases of a process that is gone.
fn end_leases(redis: &RedisServer) {
    const PAST: &str = "for _, key in ipairs(redis.call('KEYS', 'asynq:*:lease')) do \
        for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do \
        redis.call('ZINCRBY', key, -31, id) end end return 'ok'";
    assert_eq!(redis.cli(&["EVAL", PAST, "0"]), "ok");
}

fn sum(redis: &RedisServer, command: &str, key: &str) -> u64 {
    let of = |queue: &str| redis.cli(&[command, &format!("asynq:{{{queue}}}:{key}")]);
    QUEUES.iter().map(|queue| of(queue).parse::<u64>().unwrap_or(0)).sum()
}

/// Runs the jobs in one process after another; how many died.
fn run_until(redis: &RedisServer, done: impl Fn() -> bool) -> usize {
    let (began, mut deaths) = (Instant::now(), 0);
    let mut worker = start_worker(redis);
    while !done() {
        if worker.try_wait().unwrap().is_some() {
            deaths += 1;
            end_leases(redis);
            worker = start_worker(redis);
        }
        let state = || redis.cli(&["--raw", "KEYS", "*"]);
        assert!(began.elapsed() < PATIENCE, "after {deaths} deaths: {}", state());
        std::thread::sleep(Duration::from_millis(50));
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
    deaths
}

async fn a_poison_and_five_good_ones(kind: &str) {
    let redis = RedisServer::start::<&str>(&[]);
    let producer = JobQueue::fairing()
        .set("databases.jobqueue.url", format!("redis://{}", redis.addr()))
        .set("jobqueue.log_to_stderr", false)
        .set("jobqueue.worker", false);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment).attach(producer);
    let client = rocket::local::asynchronous::Client::untracked(rocket).await.unwrap();
    let queue = client.rocket().state::<JobQueue>().unwrap();
    for nth in 0..5 {
        // Also in another queue, which on a Cluster lies elsewhere.
        let good = queue.enqueue(Good { millis: 1_000 }).queue(QUEUES[nth % 2]);
        good.max_retry(0).await.unwrap();
        if nth == 2 {
            queue.enqueue(Poison { kind: kind.to_owned() }).await.unwrap();
        }
    }

    let ended = || sum(&redis, "GET", "processed") == 6;
    let deaths = run_until(&redis, ended);

    assert_eq!(sum(&redis, "ZCARD", "archived"), 1, "{kind}");
    assert_eq!(sum(&redis, "GET", "failed"), 1, "{kind}");
    assert!(deaths <= 3, "{kind}: {deaths} deaths");
    println!("{kind}: 1 archived, 5 done, {deaths} deaths");
    client.terminate().await;
}

#[tokio::test]
async fn a_job_that_aborts_the_process_is_archived_and_its_neighbours_end_well() {
    a_poison_and_five_good_ones("abort").await;
}

#[tokio::test]
async fn a_job_that_overflows_the_stack_is_archived_and_its_neighbours_end_well() {
    a_poison_and_five_good_ones("overflow").await;
}

#[tokio::test]
async fn a_job_that_exits_is_archived_and_its_neighbours_end_well() {
    a_poison_and_five_good_ones("exit").await;
}

#[tokio::test]
async fn a_job_that_needs_too_much_memory_is_archived_and_its_neighbours_end_well() {
    a_poison_and_five_good_ones("memory").await;
}

/// Jobs that lost their worker twice, and others beside them.
struct Beside {
    redis: RedisServer,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    running: AtomicUsize,
    /// The maximum number of suspects that ran at a time, and how many have ended.
    most: AtomicUsize,
    suspects: AtomicUsize,
    others: AtomicUsize,
    /// How many others had ended when the last suspect did.
    before: AtomicUsize,
}

async fn launch(redis: &RedisServer, worker: bool, seen: &Arc<Seen>) -> Client {
    let (of_suspect, of_other) = (Arc::clone(seen), Arc::clone(seen));
    let suspect = move |good: Good| {
        let seen = Arc::clone(&of_suspect);
        async move {
            let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most.fetch_max(running, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(good.millis)).await;
            seen.running.fetch_sub(1, Ordering::SeqCst);
            seen.suspects.fetch_add(1, Ordering::SeqCst);
            seen.before.store(seen.others.load(Ordering::SeqCst), Ordering::SeqCst);
            Ok::<_, std::io::Error>(())
        }
    };
    let other = move |_: Poison| {
        let seen = Arc::clone(&of_other);
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            seen.others.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(())
        }
    };
    let queue = JobQueue::fairing()
        .set("databases.jobqueue.url", format!("redis://{}", redis.addr()))
        .set("jobqueue.log_to_stderr", false)
        .set("jobqueue.worker", worker)
        .set("jobqueue.concurrency", 2)
        .set("jobqueue.shutdown_timeout", "200ms")
        .handle(suspect)
        .handle(other);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    Client::untracked(rocket::custom(figment).attach(queue)).await.unwrap()
}

impl Beside {
    async fn open(suspects: usize, millis: u64, others: usize) -> Self {
        let redis = RedisServer::start::<&str>(&[]);
        let seen = Arc::default();
        let client = launch(&redis, false, &seen).await;
        let queue = client.rocket().state::<JobQueue>().unwrap();
        for _ in 0..suspects {
            let job = queue.enqueue(Good { millis }).await.unwrap();
            let key = format!("asynq:{{default}}:t:{}", job.id);
            assert_eq!(redis.cli(&["HSET", &key, "x_lost", "2"]), "1");
        }
        for _ in 0..others {
            queue.enqueue(Poison { kind: String::new() }).await.unwrap();
        }
        client.terminate().await;
        Self { redis, seen }
    }

    async fn processes(&self, number: usize) -> bool {
        let processed = || async { sum(&self.redis, "GET", "processed") == number as u64 };
        eventually(PATIENCE, processed).await
    }
}

#[tokio::test]
async fn suspects_run_one_at_a_time_and_hold_up_no_other_job() {
    let on = Beside::open(40, 20, 400).await;
    let client = launch(&on.redis, true, &on.seen).await;

    assert!(on.processes(440).await, "{}", on.redis.cli(&["--raw", "KEYS", "*"]));

    let seen = &on.seen;
    assert_eq!(seen.most.load(Ordering::SeqCst), 1);
    assert_eq!(seen.suspects.load(Ordering::SeqCst), 40);
    assert!(seen.before.load(Ordering::SeqCst) > 10, "others ran meanwhile");
    // What was recorded of them is removed.
    let none = || async { on.redis.cli(&["KEYS", "asynq:x:suspects:*"]).is_empty() };
    assert!(eventually(PATIENCE, none).await);
    client.terminate().await;
}

#[tokio::test]
async fn a_suspect_gets_a_slot_although_others_never_run_out() {
    let on = Beside::open(3, 20, 400).await;
    let client = launch(&on.redis, true, &on.seen).await;

    assert!(on.processes(403).await);

    let before = on.seen.before.load(Ordering::SeqCst);
    assert!(before < 300, "the last suspect ended after {before} of 400 others");
    client.terminate().await;
}

#[tokio::test]
async fn suspects_that_wait_when_the_worker_stops_are_in_line_with_their_losses() {
    let on = Beside::open(4, 60_000, 0).await;
    let client = launch(&on.redis, true, &on.seen).await;
    let one_runs = || async { on.seen.running.load(Ordering::SeqCst) == 1 };
    assert!(eventually(PATIENCE, one_runs).await);
    let all_wait = || async { on.redis.cli(&["LLEN", "asynq:{default}:active"]) == "4" };
    assert!(eventually(PATIENCE, all_wait).await);

    client.terminate().await;

    assert_eq!(on.redis.cli(&["LLEN", "asynq:{default}:pending"]), "4");
    let keys = on.redis.cli(&["KEYS", "asynq:{default}:t:*"]);
    let lost = |key: &str| on.redis.cli(&["HGET", key, "x_lost"]);
    // The one that ran ended without harm.
    assert_eq!(keys.lines().filter(|key| lost(key) == "2").count(), 3);
    assert_eq!(on.redis.cli(&["KEYS", "asynq:x:suspects:*"]), "");
}
