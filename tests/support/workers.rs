//! Worker processes of a test's own: the test program once more, of which it runs
//! [`worker_process`]. Each attempt writes its begin and its end into one file.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocket::local::asynchronous::Client;
use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::{Broker, PoolSettings, RedisPool, Settled, Topology};
use rocket_jobqueue::{
    Clock, Job, JobContext, JobError, JobOptions, JobQueue, Managed, QueueName, handler::Transition,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::{PATIENCE, RedisServer, eventually};

/// What a job does: milliseconds in each of these ways, one after another.
#[derive(Serialize, Deserialize)]
struct Work {
    awaits: u64,
    blocks: u64,
    /// It keeps its thread only until this file is there.
    until: Option<PathBuf>,
}

impl Job for Work {
    const TYPE: &'static str = "test:work";

    fn options() -> JobOptions {
        JobOptions::new().timeout(Duration::from_secs(600)).max_retry(5)
    }
}

#[derive(Clone)]
struct Ledger(PathBuf);

impl Ledger {
    /// One line in one write, so that lines of several processes stay whole.
    fn write(&self, what: &str, job: &JobContext) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let line = format!("{what} {} {} {now}\n", job.id(), std::process::id());
        let mut file = std::fs::File::options().append(true).create(true).open(&self.0).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

async fn work(job: Work, context: JobContext, ledger: Managed<Ledger>) -> Result<(), JobError> {
    struct Ended(Ledger, JobContext);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.write("end", &self.1);
        }
    }
    ledger.write("start", &context);
    let _ended = Ended(ledger.into_inner(), context);
    if job.awaits > 0 {
        tokio::time::sleep(Duration::from_millis(job.awaits)).await;
    }
    let mut left = Duration::from_millis(job.blocks);
    if let Some(file) = job.until {
        const STEP: Duration = Duration::from_millis(20);
        while !left.is_zero() && !file.exists() {
            std::thread::sleep(STEP);
            left = left.saturating_sub(STEP);
        }
        left = Duration::ZERO;
    }
    std::thread::sleep(left);
    Ok(())
}

/// What `#[test] fn a_worker_process` of the test program runs: nothing, unless it was
/// started as one.
pub fn worker_process() {
    let Ok(addr) = std::env::var("TEST_WORKER_REDIS") else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<usize>().unwrap();
    let runtime = match number("TEST_WORKER_THREADS") {
        0 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        threads => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
        }
    };
    let ledger = Ledger(std::env::var("TEST_WORKER_LEDGER").unwrap().into());
    runtime.unwrap().block_on(async {
        let concurrency = number("TEST_WORKER_CONCURRENCY");
        let app = rocket::custom(rocket::Config::figment().merge(("log_level", "off")))
            .manage(ledger)
            .attach(on(&addr).set("jobqueue.concurrency", concurrency).handle(work));
        let _app = Client::untracked(app).await.expect("the application launches");
        std::future::pending::<()>().await;
    });
}

fn on(addr: &str) -> rocket_jobqueue::JobQueueFairing {
    JobQueue::fairing().set("databases.jobqueue.url", format!("redis://{addr}"))
}

pub struct WorkerFleet {
    pub redis: RedisServer,
    workers: Vec<Child>,
    client: Client,
    pub folder: tempfile::TempDir,
    /// Where its workers find Redis, if not at its own address.
    pub front: Option<String>,
    /// More environment of its workers.
    pub variables: Vec<(String, String)>,
    recoverer: Option<tokio::task::JoinHandle<()>>,
    recovered: Arc<AtomicUsize>,
}

/// One run of a job.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub pid: u32,
    pub began: u64,
    pub ended: Option<u64>,
}

impl WorkerFleet {
    pub async fn start() -> Self {
        let redis = RedisServer::start::<&str>(&[]);
        let app = rocket::custom(rocket::Config::figment().merge(("log_level", "off")))
            .attach(on(&redis.addr()).set("jobqueue.worker", false));
        let client = Client::untracked(app).await.expect("the application launches");
        let folder = tempfile::tempdir().unwrap();
        let recovered = Arc::default();
        Self {
            redis,
            workers: Vec::new(),
            client,
            folder,
            front: None,
            variables: Vec::new(),
            recoverer: None,
            recovered,
        }
    }

    pub fn queue(&self) -> &JobQueue {
        self.client.rocket().state::<JobQueue>().unwrap()
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    /// A process with this many runtime threads; 0 for the runtime of one thread.
    pub fn add_worker(&mut self, threads: usize, concurrency: usize) {
        let log = |name: &str| {
            let name = format!("{name}-{}.log", self.workers.len());
            std::fs::File::create(self.folder.path().join(name)).unwrap()
        };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["worker::a_worker_process", "--exact", "--nocapture"])
            .env("TEST_WORKER_REDIS", self.front.clone().unwrap_or(self.redis.addr()))
            .env("TEST_WORKER_THREADS", threads.to_string())
            .env("TEST_WORKER_CONCURRENCY", concurrency.to_string())
            .env("TEST_WORKER_LEDGER", self.ledger())
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log("out"))
            .stderr(log("err"));
        self.workers.push(command.spawn().unwrap());
    }

    /// Ends a process as `kill -9` does. Returns its id.
    pub fn kill(&mut self, nth: usize) -> u32 {
        self.workers[nth].kill().unwrap();
        self.workers[nth].wait().unwrap();
        self.workers[nth].id()
    }

    /// Recovers lost leases as another process would, whose threads are free.
    pub fn recover(&mut self) {
        let topology = Topology::Single(self.redis.addr());
        let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
        let (broker, queue) =
            (RedisBroker::new(pool, Clock::system()), QueueName::new("default").unwrap());
        let recovered = Arc::clone(&self.recovered);
        self.recoverer = Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let Ok(expired) = broker.expired_leases(&queue, 100, 0).await else { continue };
                let error = "its lease has ended".to_owned();
                let reclaim = |one| {
                    rocket_jobqueue::internals::SettleRequest::from((
                        one,
                        Transition::Reclaim { error: error.clone() },
                    ))
                };
                let expired: Vec<_> = expired.jobs.into_iter().map(reclaim).collect();
                if let Ok(settled) = broker.settle(&expired).await {
                    let done = settled.iter().filter(|one| **one == Settled::Done).count();
                    recovered.fetch_add(done, Ordering::SeqCst);
                }
            }
        }));
    }

    pub fn recovered(&self) -> usize {
        self.recovered.load(Ordering::SeqCst)
    }

    pub async fn put(&self, awaits: u64, blocks: u64) -> String {
        let work = Work { awaits, blocks, until: None };
        self.queue().enqueue(work).await.unwrap().id.to_string()
    }

    /// A job that keeps its thread until [`release`](Self::release).
    pub async fn put_blocking(&self) -> String {
        let work = Work { awaits: 0, blocks: 300_000, until: Some(self.released()) };
        self.queue().enqueue(work).await.unwrap().id.to_string()
    }

    /// Lets those jobs end.
    pub fn release(&self) {
        std::fs::write(self.released(), "").unwrap();
    }

    fn released(&self) -> PathBuf {
        self.folder.path().join("released")
    }

    pub fn runs(&self) -> BTreeMap<String, Vec<Run>> {
        runs(&self.ledger())
    }

    pub fn log(&self, nth: usize) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("err-{nth}.log"))).unwrap()
    }

    pub fn q(&self, command: &str) -> String {
        let command = command.replace("Q:", "asynq:{default}:");
        self.redis.cli(&command.split(' ').collect::<Vec<_>>())
    }

    pub fn processed(&self) -> usize {
        self.q("GET Q:processed").parse().unwrap_or(0)
    }

    pub async fn until_processed(&self, number: usize, patience: Duration) {
        let done = eventually(patience, || async { self.processed() >= number }).await;
        assert!(done, "{} of {number}: {:#?}\n{}", self.processed(), self.runs(), self.log(0));
    }
    /// Waits until this many jobs have begun.
    pub async fn until_begun(&self, number: usize) {
        let begun = || async { self.runs().len() >= number };
        assert!(eventually(PATIENCE, begun).await, "{:#?}\n{}", self.runs(), self.log(0));
    }

    /// Each job has run once, and no lease was lost.
    pub fn assert_each_ran_once(&self, jobs: usize) {
        let runs = self.runs();
        assert_eq!((runs.len(), twice(&runs), self.recovered()), (jobs, (0, 0), 0), "{runs:#?}");
    }
}

impl Drop for WorkerFleet {
    fn drop(&mut self) {
        self.recoverer.take().inspect(tokio::task::JoinHandle::abort);
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

fn runs(ledger: &Path) -> BTreeMap<String, Vec<Run>> {
    let mut runs = BTreeMap::<String, Vec<Run>>::new();
    for line in std::fs::read_to_string(ledger).unwrap_or_default().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (pid, at) = (words[2].parse().unwrap(), words[3].parse().unwrap());
        let of_job = runs.entry(words[1].to_owned()).or_default();
        match words[0] {
            "start" => of_job.push(Run { pid, began: at, ended: None }),
            _ => {
                let run = of_job.iter_mut().find(|run| run.pid == pid && run.ended.is_none());
                run.expect("what ended has begun").ended = Some(at);
            }
        }
    }
    runs
}

/// A front of this address from which every byte arrives this much later, in both
/// directions. Lasts until the test ends.
pub async fn far_away(addr: String, late: Duration) -> String {
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = front.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((near, _)) = front.accept().await {
            let Ok(far) = TcpStream::connect(&addr).await else { continue };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(near_in, far_out, late));
            tokio::spawn(carry(far_in, near_out, late));
        }
    });
    own
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, late: Duration) {
    let (send, mut carried) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some((at, bytes)) = carried.recv().await {
            tokio::time::sleep_until(at).await;
            let bytes: Vec<u8> = bytes;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut bytes = vec![0; 65536];
    while let Ok(number @ 1..) = from.read(&mut bytes).await {
        let _ = send.send((tokio::time::Instant::now() + late, bytes[..number].to_vec()));
    }
}

/// How many jobs ran more than once, and how many beside themselves.
pub fn twice(runs: &BTreeMap<String, Vec<Run>>) -> (usize, usize) {
    let beside = |runs: &&Vec<Run>| {
        runs.windows(2).any(|two| two[0].ended.is_none_or(|ended| ended > two[1].began))
    };
    let more = runs.values().filter(|runs| runs.len() > 1).count();
    (more, runs.values().filter(beside).count())
}
