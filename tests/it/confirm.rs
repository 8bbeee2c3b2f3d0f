//! Enqueueing over a connection that loses answers: with `confirm_within` no job is lost and
//! none runs twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{RedisServer, eventually};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::{Draft, Error, Job, JobQueue, JobState, Managed};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const JOBS: usize = 3_000;
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Serialize, Deserialize)]
struct Quick {
    n: usize,
}

impl Job for Quick {
    const TYPE: &'static str = "test:quick";
}

/// How often each job has run.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<HashMap<usize, usize>>>);

impl Runs {
    fn total(&self) -> usize {
        self.0.lock().unwrap().values().sum()
    }

    fn more_than_once(&self) -> usize {
        self.0.lock().unwrap().values().filter(|&&runs| runs > 1).count()
    }
}

async fn run(job: Quick, runs: Managed<Runs>) -> Result<(), std::io::Error> {
    *runs.0.lock().unwrap().entry(job.n).or_default() += 1;
    Ok(())
}

/// Passes everything on, but each n-th answer: in its place it hangs up. What was asked has
/// been carried out by then.
struct Lossy {
    addr: String,
    lost: Arc<AtomicUsize>,
    loses: Arc<AtomicBool>,
}

impl Lossy {
    async fn start(target: String, nth: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (lost, loses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let (count, on) = (Arc::clone(&lost), Arc::clone(&loses));
        let answers = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
                });
                let (count, answers, on) =
                    (Arc::clone(&count), Arc::clone(&answers), Arc::clone(&on));
                tokio::spawn(async move {
                    let mut bytes = vec![0; 64 * 1024];
                    while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                        let nth_answer = answers.fetch_add(1, Ordering::SeqCst) + 1;
                        if on.load(Ordering::SeqCst) && nth_answer % nth == 0 {
                            count.fetch_add(1, Ordering::SeqCst);
                            break;
                        }
                        if to_client.write_all(&bytes[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { addr, lost, loses }
    }
}

async fn app(addr: &str, worker: bool, runs: Runs) -> Client {
    let queue = JobQueue::fairing()
        .set("databases.jobqueue.url", format!("redis://{addr}"))
        .set("jobqueue.worker", worker)
        .set("jobqueue.concurrency", 50)
        .set("jobqueue.log_to_stderr", false)
        .handle(run);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment).manage(runs).attach(queue);
    Client::untracked(rocket).await.expect("it launches")
}

struct LossyPair {
    redis: RedisServer,
    lossy: Lossy,
    runs: Runs,
    worker: Client,
    producer: Client,
}

impl LossyPair {
    async fn open(nth: usize) -> Self {
        let redis = RedisServer::start::<&str>(&[]);
        let (lossy, runs) = (Lossy::start(redis.addr(), nth).await, Runs::default());
        let worker = app(&redis.addr(), true, runs.clone()).await;
        let producer = app(&lossy.addr, false, runs.clone()).await;
        Self { redis, lossy, runs, worker, producer }
    }

    fn queue(&self) -> JobQueue {
        self.producer.rocket().state::<JobQueue>().unwrap().clone()
    }

    async fn all_have_run_once(&self, jobs: usize) {
        let done = || async { self.runs.total() >= jobs };
        assert!(eventually(PATIENCE, done).await, "{} of {jobs} have run", self.runs.total());
        let left = || async { self.redis.cli(&["KEYS", "asynq:{default}:t:*"]).is_empty() };
        assert!(eventually(PATIENCE, left).await);
        let (runs, twice) = (self.runs.total(), self.runs.more_than_once());
        let lost = self.lossy.lost.load(Ordering::SeqCst);
        println!("{jobs} jobs, {lost} answers lost: {runs} runs, {twice} jobs ran twice");
        assert_eq!((runs, twice), (jobs, 0));
        assert!(lost > 5, "only {lost} answers were lost");
    }

    async fn close(self) {
        self.producer.terminate().await;
        self.worker.terminate().await;
    }
}

#[rocket::async_test]
async fn jobs_that_are_confirmed_are_neither_lost_nor_run_twice() {
    let on = LossyPair::open(10).await;
    let next = Arc::new(AtomicUsize::new(0));
    // For the figure without it: the caller tries again with the same id.
    let same_id = std::env::var_os("JOBQUEUE_TEST_SAME_ID").is_some();
    let producers: Vec<_> = (0..30)
        .map(|_| {
            let (queue, next) = (on.queue(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= JOBS {
                        return;
                    }
                    if same_id {
                        loop {
                            let stored = queue.enqueue(Quick { n }).id(format!("job-{n}")).await;
                            if !stored.is_err_and(|error| error.is_unavailable()) {
                                break;
                            }
                        }
                    } else {
                        let job = queue.enqueue(Quick { n }).confirm_within(PATIENCE);
                        let receipt = job.await.unwrap();
                        assert!(!receipt.replayed && receipt.state == JobState::Pending);
                    }
                }
            })
        })
        .collect();
    for producer in producers {
        producer.await.unwrap();
    }
    on.all_have_run_once(JOBS).await;
    on.close().await;
}

#[rocket::async_test]
async fn so_are_many_at_once() {
    let on = LossyPair::open(4).await;
    for part in 0..10 {
        let jobs = (0..JOBS / 10).map(|n| Draft::new(Quick { n: part * JOBS / 10 + n }));
        let outcomes = on.queue().enqueue_all(jobs).confirm_within(PATIENCE).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }
    let done = || async { on.runs.total() >= JOBS };
    assert!(eventually(PATIENCE, done).await);
    assert_eq!((on.runs.total(), on.runs.more_than_once()), (JOBS, 0));
    assert!(on.lossy.lost.load(Ordering::SeqCst) > 2);
    on.close().await;
}

#[rocket::async_test]
async fn what_is_not_confirmed_in_time_is_an_unknown_outcome() {
    let on = LossyPair::open(1_000_000).await;
    let queue = on.queue();
    queue.enqueue(Quick { n: 0 }).confirm_within(PATIENCE).await.unwrap();
    on.redis.freeze();
    let began = std::time::Instant::now();
    let error = queue.enqueue(Quick { n: 1 }).confirm_within(Duration::from_secs(1)).await;
    assert!(error.as_ref().is_err_and(Error::is_outcome_unknown), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    on.redis.thaw();
    // The server reads it when it wakes.
    let ran = || async { on.runs.total() == 2 };
    assert!(eventually(PATIENCE, ran).await, "{} have run", on.runs.total());
    on.close().await;
}

#[rocket::async_test]
async fn a_store_that_is_away_is_waited_for_and_a_refusal_is_not() {
    let mut on = LossyPair::open(1_000_000).await;
    let queue = on.queue();
    queue.enqueue(Quick { n: 0 }).confirm_within(PATIENCE).await.unwrap();
    on.redis.stop();
    let waiting = {
        let queue = queue.clone();
        // For as long as it takes.
        tokio::spawn(
            async move { queue.enqueue(Quick { n: 1 }).confirm_within(Duration::MAX).await },
        )
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    on.redis.restart();
    waiting.await.unwrap().unwrap();

    on.redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let began = std::time::Instant::now();
    let error = queue.enqueue(Quick { n: 2 }).confirm_within(PATIENCE).await.unwrap_err();
    assert!(error.is_refused() && !error.is_outcome_unknown(), "{error:?}");
    assert!(began.elapsed() < PATIENCE / 2);
    on.lossy.loses.store(false, Ordering::SeqCst);
    on.close().await;
}
