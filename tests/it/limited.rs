//! Limits under kill -9: three worker processes write down what they run, and never is more of a
//! key under way than its limit. The worker processes are this test program, started again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::{RedisServer, eventually};
use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::{Broker, Limits, PoolSettings, RedisPool, Topology};
use rocket_jobqueue::limits::{Limit, LimitKey, Rate};
use rocket_jobqueue::{
    Clock, Job, JobContext, JobOptions, JobQueue, JobRecord, Managed, NewJob, OnConflict,
    QueueName, Timestamp, handler::Transition,
};
use serde::{Deserialize, Serialize};

const WORKER: &str = "LIMITED_WORKER_REDIS";
const LEDGER: &str = "LIMITED_WORKER_LEDGER";
const SLOTS: &str = "LIMITED_WORKER_SLOTS";
/// More than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(300);

/// A call for an account.
#[derive(Serialize, Deserialize)]
struct Charge {
    account: u64,
    millis: u64,
}

impl Job for Charge {
    const TYPE: &'static str = "limited:charge";

    fn options() -> JobOptions {
        JobOptions::new().max_retry(5)
    }
}

#[derive(Clone)]
struct Ledger(Arc<Mutex<File>>);

impl Ledger {
    fn write(&self, what: &str, job: &JobContext, account: u64) {
        let line = format!("{what} {account} {} {} {}\n", job.id(), std::process::id(), micros());
        self.0.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }
}

fn micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()
}

async fn charge(
    job: Charge,
    context: JobContext,
    ledger: Managed<Ledger>,
) -> Result<(), std::io::Error> {
    ledger.write("start", &context, job.account);
    tokio::time::sleep(Duration::from_millis(job.millis)).await;
    ledger.write("end", &context, job.account);
    Ok(())
}

/// The worker process, where a test below starts it; otherwise nothing.
#[test]
fn worker_process() {
    let Ok(addr) = std::env::var(WORKER) else { return };
    let path = std::env::var(LEDGER).unwrap();
    let file = File::options().append(true).create(true).open(path).unwrap();
    let slots: usize = std::env::var(SLOTS).unwrap().parse().unwrap();
    let queue = JobQueue::fairing()
        .set("databases.jobqueue.url", format!("redis://{addr}"))
        .set("jobqueue.log_to_stderr", false)
        .set("jobqueue.concurrency", slots)
        .handle(charge);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let figment = rocket::Config::figment().merge(("log_level", "off"));
        let rocket =
            rocket::custom(figment).manage(Ledger(Arc::new(Mutex::new(file)))).attach(queue);
        let _client = rocket::local::asynchronous::Client::untracked(rocket).await.unwrap();
        tokio::time::sleep(PATIENCE).await;
    });
}

/// A job for an account that takes this long.
fn job(queue: &QueueName, account: u64, millis: u64) -> NewJob {
    let payload = serde_json::to_vec(&Charge { account, millis }).unwrap();
    let mut record = JobRecord::new(Charge::TYPE, Some(payload), queue.clone());
    record.max_retry = 5;
    NewJob::now(record)
}

fn default_queue() -> QueueName {
    QueueName::new("default").unwrap()
}

/// What is to be run, and how.
struct Load {
    jobs: u64,
    accounts: u64,
    millis: u64,
    limit: u32,
    slots: u32,
    /// After how many ended jobs a process is killed.
    kills: &'static [usize],
}

/// What the processes wrote.
#[derive(Default)]
struct Written {
    ended: BTreeSet<String>,
    /// Begin and end of each run, by account; of a run that was killed the end is that of its
    /// process.
    runs: BTreeMap<u64, Vec<(u128, u128)>>,
    /// Runs without an end: job and process.
    open: Vec<(String, u32)>,
}

struct Fleet {
    redis: RedisServer,
    broker: RedisBroker,
    folder: tempfile::TempDir,
    workers: Vec<Child>,
    killed: BTreeMap<u32, u128>,
    slots: u32,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

impl Fleet {
    fn start(slots: u32) -> Self {
        let redis = RedisServer::start::<&str>(&[]);
        let topology = Topology::Single(redis.addr());
        let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
        let broker = RedisBroker::new(pool, Clock::system());
        let (folder, workers) = (tempfile::tempdir().unwrap(), Vec::new());
        Self { redis, broker, folder, workers, killed: BTreeMap::new(), slots }
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    fn add_worker(&mut self) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["limited::worker_process", "--exact", "--nocapture"]);
        command.env(WORKER, self.redis.addr()).env(LEDGER, self.ledger());
        command.env(SLOTS, self.slots.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.workers.push(command.spawn().expect("this program starts"));
    }

    fn written(&self) -> Written {
        let mut written = Written::default();
        let mut begun: BTreeMap<(String, u32), (u64, u128)> = BTreeMap::new();
        for line in read(&self.ledger()).lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, account, id, process, at] = words[..] else { continue };
            let (account, at): (u64, u128) = (account.parse().unwrap(), at.parse().unwrap());
            let run = (id.to_owned(), process.parse().unwrap());
            if what == "start" {
                begun.insert(run, (account, at));
            } else if let Some((_, from)) = begun.remove(&run) {
                written.runs.entry(account).or_default().push((from, at));
                written.ended.insert(run.0);
            }
        }
        for (run, (account, from)) in begun {
            let to = self.killed.get(&run.1).copied().unwrap_or(u128::MAX);
            written.runs.entry(account).or_default().push((from, to));
            written.open.push(run);
        }
        written
    }

    /// Kills the oldest process and starts another. The leases of what it ran end at once, so
    /// that nobody waits for them; the others keep theirs.
    fn kill_one(&mut self) {
        let mut worker = self.workers.remove(0);
        worker.kill().unwrap();
        worker.wait().unwrap();
        self.killed.insert(worker.id(), micros());
        self.add_worker();
        for (id, process) in self.written().open {
            if process == worker.id() {
                self.redis.cli(&["ZINCRBY", "asynq:{default}:lease", "-31", &id]);
            }
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// The most runs of one account at the same time.
fn most_at_once(runs: &[(u128, u128)]) -> i64 {
    let mut events: Vec<(u128, i64)> = Vec::new();
    for (from, to) in runs {
        events.extend([(*from, 1), (*to, -1)]);
    }
    // An end before a begin at the same instant.
    events.sort_unstable();
    let running = events.iter().scan(0, |running, (_, change)| {
        *running += change;
        Some(*running)
    });
    running.max().unwrap_or(0)
}

/// Runs the load and compares with the ledger. Returns how long the jobs took.
async fn run(load: Load) -> Duration {
    let mut fleet = Fleet::start(load.slots);
    let queue = default_queue();
    let key = LimitKey::parse("payload.account").unwrap();
    let limit = Limit::new("account").key(key).concurrency(load.limit);
    fleet.broker.set_limit(&queue, &limit).await.unwrap();
    let jobs: Vec<NewJob> =
        (0..load.jobs).map(|nth| job(&queue, nth % load.accounts, load.millis)).collect();
    fleet.broker.enqueue(&jobs).await.unwrap();
    for _ in 0..3 {
        fleet.add_worker();
    }
    let begun = || async { !read(&fleet.ledger()).is_empty() };
    assert!(eventually(PATIENCE, begun).await, "nothing runs");
    let began = Instant::now();
    for at in load.kills {
        let ended = || async { fleet.written().ended.len() >= *at };
        assert!(eventually(PATIENCE, ended).await, "{} ended", fleet.written().ended.len());
        fleet.kill_one();
    }
    let all = || async { fleet.written().ended.len() as u64 == load.jobs };
    let ended = eventually(PATIENCE, all).await;
    let (took, written) = (began.elapsed(), fleet.written());
    assert!(ended, "{} of {} jobs ended", written.ended.len(), load.jobs);
    for (account, runs) in &written.runs {
        let most = most_at_once(runs);
        assert!(most <= i64::from(load.limit), "account {account}: {most} at once");
    }
    let most = written.runs.values().map(|runs| most_at_once(runs)).max();
    assert_eq!(most, Some(i64::from(load.limit)), "the limit is used");

    // Nothing is left once all jobs have ended.
    let settled = || async {
        let all = fleet.broker.limits(&queue).await.unwrap();
        all[0].in_use == 0 && all[0].waiting == 0
    };
    assert!(eventually(PATIENCE, settled).await, "places are left");
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_account_ever_has_more_jobs_under_way_than_its_limit_however_often_workers_die() {
    let load = Load { jobs: 400, accounts: 10, millis: 25, limit: 2, slots: 30, kills: &[60, 200] };
    run(load).await;
}

/// The process that runs the holder of a unique lock is killed: only the newest of the jobs that
/// came meanwhile runs after it, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_job_runs_after_the_holder_of_its_lock_was_killed() {
    let (mut fleet, queue) = (Fleet::start(5), default_queue());
    let revision = |nth, millis| NewJob {
        unique_for: Some(Duration::from_secs(3600)),
        unique_key: Some("0c".repeat(32)),
        on_conflict: OnConflict::Replace,
        ..job(&queue, nth, millis)
    };
    fleet.broker.enqueue(&[revision(1, 600_000)]).await.unwrap();
    fleet.add_worker();
    let begun = || async { fleet.written().runs.contains_key(&1) };
    assert!(eventually(PATIENCE, begun).await, "the holder does not run");
    fleet.broker.enqueue(&[revision(2, 1)]).await.unwrap();
    fleet.broker.enqueue(&[revision(3, 1)]).await.unwrap();

    fleet.kill_one();

    let ended = || async { fleet.written().ended.len() == 1 };
    assert!(eventually(PATIENCE, ended).await, "no successor runs");
    let runs = fleet.written().runs;
    assert_eq!(runs.keys().collect::<Vec<_>>(), [&1, &3], "the newest, and only that");
    assert_eq!((runs[&1].len(), runs[&3].len()), (1, 1), "each once");
}

/// The whole of it: a minute or two. `CONTRIBUTING.md` has the command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; see CONTRIBUTING.md"]
async fn ten_thousand_jobs_of_a_hundred_accounts_keep_their_limits_under_kill_9() {
    let calm =
        || Load { jobs: 10_000, accounts: 100, millis: 200, limit: 2, slots: 100, kills: &[] };
    let took = run(calm()).await;
    let least = Duration::from_millis(10_000 / (100 * 2) * 200);
    println!(
        "without faults: {took:?}, {:.1} % of the limit",
        least.as_secs_f64() / took.as_secs_f64() * 100.0
    );
    let took = run(Load { kills: &[500, 2000, 3500, 5000, 6500, 8000], ..calm() }).await;
    println!("with six kills: {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; see CONTRIBUTING.md"]
async fn a_rate_of_a_hundred_a_second_is_never_exceeded() {
    const SECONDS: u128 = 60;
    let (mut fleet, queue) = (Fleet::start(20), default_queue());
    let limit = Limit::new("rate").rate(Rate::parse("100/1s").unwrap());
    fleet.broker.set_limit(&queue, &limit).await.unwrap();
    for _ in 0..70 {
        let jobs: Vec<NewJob> = (0..100).map(|_| job(&queue, 0, 1)).collect();
        fleet.broker.enqueue(&jobs).await.unwrap();
    }
    (0..3).for_each(|_| fleet.add_worker());
    let begun = || async { !read(&fleet.ledger()).is_empty() };
    assert!(eventually(PATIENCE, begun).await, "nothing runs");
    // What the store counted: its last hundred starts, read often enough to miss none.
    let mut counted: Vec<u128> = Vec::new();
    let until = Instant::now() + Duration::from_secs(SECONDS as u64 + 2);
    while Instant::now() < until {
        let newest_first =
            fleet.redis.cli(&["LRANGE", "asynq:{default}:x:lim:starts:rate:", "0", "-1"]);
        let mut last: Vec<u128> =
            newest_first.lines().filter_map(|at| at.trim().parse().ok()).collect();
        last.reverse();
        let known = (0..=last.len()).rev().find(|known| counted.ends_with(&last[..*known]));
        let known = known.unwrap_or_default();
        assert!(known > 0 || counted.is_empty(), "more than a hundred between two looks");
        counted.extend(&last[known..]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let runs = fleet.written().runs.remove(&0).unwrap();
    let mut starts: Vec<u128> = runs.iter().map(|(from, _)| *from).collect();
    starts.sort_unstable();
    let first = starts[0];
    let in_time = starts.iter().filter(|at| **at < first + SECONDS * 1_000_000).count();
    let most_of = |starts: &[u128]| {
        let window = |from: &u128| starts.partition_point(|at| *at < *from + 1_000_000);
        starts.iter().enumerate().map(|(nth, from)| window(from) - nth).max().unwrap()
    };
    let share = in_time as f64 / (SECONDS * 100) as f64 * 100.0;
    println!(
        "{in_time} starts in {SECONDS} s, {share:.1} %; at most {} in a second by the store's clock, \
         {} as the handlers see it",
        most_of(&counted),
        most_of(&starts)
    );
    assert_eq!(most_of(&counted), 100, "every window by the store's clock");
    assert!(share >= 97.0, "{share} %");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; see CONTRIBUTING.md"]
async fn a_hundred_thousand_keys_cost_bounded_memory_and_idle_ones_vanish() {
    const ACCOUNTS: u64 = 100_000;
    let redis = RedisServer::start::<&str>(&[]);
    let topology = Topology::Single(redis.addr());
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    let clock = Clock::manual(Timestamp::from_secs(4_000_000_000));
    let (broker, queue) = (RedisBroker::new(pool, clock.clone()), default_queue());
    let key = LimitKey::parse("payload.account").unwrap();
    let limit = Limit::new("account").key(key).concurrency(1).rate(Rate::parse("10/1m").unwrap());
    broker.set_limit(&queue, &limit).await.unwrap();
    let memory = || -> u64 {
        let info = redis.cli(&["INFO", "memory"]);
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        line.trim().parse().unwrap()
    };
    // The first round loads all scripts, which stay in the server's memory.
    let (mut before, mut ended) = (0, 0);
    for first in (0..ACCOUNTS).step_by(100) {
        if first == 100 {
            broker.forward(&queue, 100).await.unwrap();
            before = memory();
        }
        let jobs: Vec<NewJob> =
            (first..first + 100).map(|account| job(&queue, account, 1)).collect();
        broker.enqueue(&jobs).await.unwrap();
        let taken = broker.dequeue(std::slice::from_ref(&queue), 100).await.unwrap().deliveries;
        let done = |delivery| (delivery, Transition::Complete { result: None }).into();
        let all: Vec<_> = taken.into_iter().map(done).collect();
        ended += broker.settle(&all).await.unwrap().len() as u64;
    }
    assert_eq!(ended, ACCOUNTS);
    let of_key = (memory() - before) / ACCOUNTS;
    println!("{ACCOUNTS} keys with a start each: {of_key} bytes a key");
    assert!(of_key < 1000, "{of_key} bytes a key");

    clock.advance(Duration::from_secs(61));
    let mut looks = 0;
    while redis.cli(&["EXISTS", "asynq:{default}:x:lim:keys"]) == "1" {
        broker.forward(&queue, 100).await.unwrap();
        looks += 1;
        assert!(looks <= 2 * ACCOUNTS / 100, "they do not vanish");
    }
    let left = redis.cli(&["KEYS", "asynq:{default}:x:lim:*"]);
    assert_eq!(left, "", "nothing is left after {looks} looks");
    // Tables and buffers of the server itself.
    let kept = memory().saturating_sub(before);
    println!("{kept} bytes are left after {looks} looks");
    assert!(kept < of_key * ACCOUNTS / 100, "{kept} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; see CONTRIBUTING.md"]
async fn a_hot_account_with_a_hundred_thousand_waiting_jobs_delays_no_other() {
    const HOT: u64 = 0;
    let (mut fleet, queue) = (Fleet::start(20), default_queue());
    let key = LimitKey::parse("payload.account").unwrap();
    fleet.broker.set_limit(&queue, &Limit::new("account").key(key).concurrency(1)).await.unwrap();
    fleet.add_worker();
    let mut delays = [Vec::new(), Vec::new()];
    for (round, waiting) in [0, 100_000].into_iter().enumerate() {
        for _ in 0..waiting / 1000 {
            let jobs: Vec<NewJob> = (0..1000).map(|_| job(&queue, HOT, 1000)).collect();
            fleet.broker.enqueue(&jobs).await.unwrap();
        }
        let parked = || async {
            let all = fleet.broker.limits(&queue).await.unwrap();
            all[0].waiting + 100 >= waiting
        };
        assert!(eventually(PATIENCE, parked).await, "they do not wait");
        for nth in 0..200 {
            let cold = job(&queue, 1 + nth, 1);
            let (id, asked) = (cold.record.id.to_string(), micros());
            fleet.broker.enqueue(&[cold]).await.unwrap();
            let ended = || async { fleet.written().ended.contains(&id) };
            assert!(eventually(PATIENCE, ended).await, "it does not start");
            let runs = fleet.written().runs;
            let begun = runs[&(1 + nth)].last().unwrap().0;
            delays[round].push(begun.saturating_sub(asked));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        delays[round].sort_unstable();
        let (median, p95) = (delays[round][100], delays[round][190]);
        println!(
            "{waiting} waiting: a job of another account starts after {median} us, p95 {p95} us"
        );
    }
    let (before, after) = (delays[0][100], delays[1][100]);
    assert!(after <= before + 10_000, "{before} us before, {after} us beside the hot account");
}
