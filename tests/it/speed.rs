//! What speed must not cost: many callers and many slots at once, and nothing of it
//! holds a job back, takes more than there is room for, or fails one job for another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, RedisServer, eventually, within};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::{Job, JobError, JobQueue, JobQueueFairing, Managed};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Work {
    n: u64,
    /// The handler keeps its thread until this many jobs have begun.
    blocks: usize,
    /// Milliseconds that it waits.
    waits: u64,
}

impl Job for Work {
    const TYPE: &'static str = "speed:work";
}

/// The jobs that have begun, in their order, and how many have ended.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u64>>>, Arc<AtomicU64>);

impl Seen {
    fn began(&self) -> Vec<u64> {
        self.0.lock().unwrap().clone()
    }
}

async fn work(job: Work, seen: Managed<Seen>) -> Result<(), JobError> {
    seen.0.lock().unwrap().push(job.n);
    let end = Instant::now() + PATIENCE;
    while seen.began().len() < job.blocks && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    if job.waits > 0 {
        tokio::time::sleep(Duration::from_millis(job.waits)).await;
    }
    seen.1.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

async fn launch(server: &RedisServer, seen: &Seen, fairing: JobQueueFairing) -> Client {
    let fairing = fairing
        .handle(work)
        .set("databases.jobqueue.url", format!("redis://{}", server.addr()))
        .set("jobqueue.log_to_stderr", false);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment).manage(seen.clone()).attach(fairing);
    Client::untracked(rocket).await.unwrap()
}

fn queue(client: &Client) -> JobQueue {
    client.rocket().state::<JobQueue>().unwrap().clone()
}

fn job(n: u64) -> Work {
    Work { n, blocks: 0, waits: 0 }
}

async fn producer(server: &RedisServer) -> Client {
    launch(server, &Seen::default(), JobQueue::fairing().set("jobqueue.worker", false)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_at_once_are_each_answered_for_their_own_job() {
    let server = RedisServer::start::<&str>(&[]);
    let client = producer(&server).await;
    let queue = queue(&client);
    // The same id twice, and a key of another type in one job's way: each is that
    // caller's affair alone.
    server.cli(&["SET", "asynq:{default}:t:own-7", "no hash"]);
    let callers = (0..300u64).map(|n| {
        let queue = queue.clone();
        tokio::spawn(async move {
            let enqueue = queue.enqueue(job(n)).id(format!("own-{}", n % 250));
            let enqueue = match n % 3 {
                0 => enqueue,
                1 => enqueue.delay(Duration::from_secs(3600)),
                _ => enqueue.unique_for(Duration::from_secs(60)),
            };
            enqueue.await
        })
    });
    let mut answers = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        answers.push(caller.await.unwrap());
    }
    let stored = answers.iter().filter(|answer| answer.is_ok()).count();
    let conflicts: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!((stored, conflicts.len()), (249, 51));
    assert!(conflicts.iter().all(|error| error.is_id_conflict() || error.is_refused()));
    let count = |command, key| server.cli(&[command, key]).parse::<u64>().unwrap();
    let all =
        count("LLEN", "asynq:{default}:pending") + count("ZCARD", "asynq:{default}:scheduled");
    assert_eq!(all, 249);
    client.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enqueues_that_waited_behind_a_frozen_redis_end_within_the_limit() {
    let server = RedisServer::start::<&str>(&[]);
    let client = producer(&server).await;
    let queue = queue(&client);
    queue.enqueue(job(0)).await.unwrap();
    server.freeze();
    let callers = (1..50).map(|n| {
        let queue = queue.clone();
        tokio::spawn(async move { queue.enqueue(job(n)).await })
    });
    let callers: Vec<_> = callers.collect();
    let all = async {
        for caller in callers {
            assert!(caller.await.unwrap().unwrap_err().is_unavailable());
        }
    };
    // The limit is 3.5 s. Two in a row would need 7 s.
    within(Duration::from_secs(6), all).await;
    server.thaw();
    let works = async || queue.enqueue(job(99)).await.is_ok();
    assert!(eventually(PATIENCE, works).await);
    client.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_jobs_are_taken_than_there_are_places() {
    let server = RedisServer::start::<&str>(&[]);
    let producer = producer(&server).await;
    let jobs = (0..400).map(|n| Work { n, blocks: 0, waits: 5 });
    for stored in queue(&producer).enqueue_all(jobs.map(rocket_jobqueue::Draft::new)).await {
        stored.unwrap();
    }
    let seen = Seen::default();
    let worker = launch(&server, &seen, JobQueue::fairing().set("jobqueue.concurrency", 7)).await;
    let mut most = 0;
    while seen.1.load(Ordering::SeqCst) < 400 {
        most = most.max(server.cli(&["LLEN", "asynq:{default}:active"]).parse::<u64>().unwrap());
    }
    assert!((2..=7).contains(&most), "{most} active at once");
    worker.terminate().await;
    assert_eq!(server.cli(&["KEYS", "asynq:{default}:t:*"]), "");
    assert_eq!(server.cli(&["GET", "asynq:{default}:processed"]), "400");
    producer.terminate().await;
}

/// Quick jobs start on one thread, one after another: one of them that keeps the
/// thread is found out, and the others start elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_keeps_its_thread_holds_up_none_that_came_with_it() {
    let server = RedisServer::start::<&str>(&[]);
    let producer = producer(&server).await;
    let jobs = (0..20).map(|n| Work { n, blocks: if n % 10 == 0 { 20 } else { 0 }, waits: 0 });
    for stored in queue(&producer).enqueue_all(jobs.map(rocket_jobqueue::Draft::new)).await {
        stored.unwrap();
    }
    let seen = Seen::default();
    let worker = launch(&server, &seen, JobQueue::fairing().set("jobqueue.concurrency", 20)).await;
    // Two of them keep their threads until then, so no other may wait for those.
    let all = async || seen.began().len() == 20;
    assert!(eventually(PATIENCE / 2, all).await, "{:?} have begun", seen.began());
    worker.terminate().await;
    producer.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_queues_the_important_one_is_served_first() {
    let server = RedisServer::start::<&str>(&[]);
    let producer = producer(&server).await;
    let queue = queue(&producer);
    for n in 0..90 {
        let name = ["low", "mid", "high"][n as usize % 3];
        queue.enqueue(job(n)).queue(name).await.unwrap();
    }
    let seen = Seen::default();
    let queues = HashMap::from([("low", 1), ("mid", 3), ("high", 9)]);
    let fairing = JobQueue::fairing()
        .set("jobqueue.concurrency", 1)
        .set("jobqueue.queues", queues)
        .set("jobqueue.strict_priority", true);
    let worker = launch(&server, &seen, fairing).await;
    assert!(eventually(PATIENCE, async || seen.began().len() == 90).await);
    let order: Vec<u64> = seen.began().iter().map(|n| 2 - n % 3).collect();
    assert!(order.is_sorted(), "{order:?}");
    worker.terminate().await;
    producer.terminate().await;
}

/// What a crash costs with a batch in flight: its leases, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_in_hand_of_a_worker_that_is_dropped_run_again() {
    let server = RedisServer::start::<&str>(&[]);
    let producer = producer(&server).await;
    let jobs = (0..50).map(|n| Work { n, blocks: 0, waits: 60_000 });
    for stored in queue(&producer).enqueue_all(jobs.map(rocket_jobqueue::Draft::new)).await {
        stored.unwrap();
    }
    let seen = Seen::default();
    let fairing = || JobQueue::fairing().set("jobqueue.concurrency", 50);
    let worker = launch(&server, &seen, fairing()).await;
    assert!(eventually(PATIENCE, async || seen.began().len() == 50).await);
    drop(worker);
    let back = async || server.cli(&["LLEN", "asynq:{default}:pending"]) == "50";
    assert!(eventually(PATIENCE, back).await, "interrupted jobs go back in line");
    let again = Seen::default();
    let next = launch(&server, &again, fairing()).await;
    assert!(eventually(PATIENCE, async || again.began().len() == 50).await);
    drop(next);
    producer.terminate().await;
}
