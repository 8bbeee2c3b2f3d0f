//! An application on a cluster, and a steady load that keeps a ledger.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rocket::local::asynchronous::Client;
use rocket_jobqueue::internals::{PoolSettings, RedisPool, Repeat, Topology};
use rocket_jobqueue::{Draft, Job, JobQueue, Receipt};
use serde::{Deserialize, Serialize};

use super::support::RedisServer;
use super::support::fleet::Cluster;

/// A job that is worth `millis` of work.
#[derive(Serialize, Deserialize)]
pub struct Chore {
    pub name: String,
    pub millis: u64,
}

impl Job for Chore {
    const TYPE: &'static str = "cluster:chore";
}

/// What ran: per name how often it began and ended, and when ended last.
#[derive(Default)]
pub struct Ledger(Mutex<HashMap<String, Ran>>);

#[derive(Clone, Copy, Debug, Default)]
pub struct Ran {
    pub began: usize,
    pub ended: usize,
}

impl Ledger {
    fn note(&self, name: &str, change: impl FnOnce(&mut Ran)) {
        change(self.0.lock().unwrap().entry(name.to_owned()).or_default());
    }

    pub fn of(&self, name: &str) -> Ran {
        self.0.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    /// How many whose name begins so have ended.
    pub fn ended_with(&self, prefix: &str) -> usize {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(name, ran)| name.starts_with(prefix) && ran.ended > 0).count()
    }

    pub fn begun(&self) -> usize {
        self.0.lock().unwrap().values().filter(|ran| ran.began > 0).count()
    }

    /// Those that began more than once.
    pub fn doubled(&self) -> Vec<String> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(_, ran)| ran.began > 1).map(|(name, _)| name.clone()).collect()
    }
}

/// Launches an application that works on these queues of the cluster.
pub async fn application(addrs: Vec<String>, queues: &[String], ledger: Arc<Ledger>) -> Client {
    let chore = move |chore: Chore| {
        let ledger = Arc::clone(&ledger);
        async move {
            ledger.note(&chore.name, |ran| ran.began += 1);
            tokio::time::sleep(Duration::from_millis(chore.millis)).await;
            ledger.note(&chore.name, |ran| ran.ended += 1);
            Ok::<_, std::io::Error>(())
        }
    };
    let weights: HashMap<&str, u32> = queues.iter().map(|queue| (queue.as_str(), 1)).collect();
    // An environment whose files name no server, which would speak against it.
    let queue = JobQueue::fairing()
        .environment("staging")
        .set("databases.jobqueue.cluster.addrs", addrs)
        .set("jobqueue.queues", weights)
        .set("jobqueue.log_to_stderr", false)
        .handle(chore);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    Client::untracked(rocket::custom(figment).attach(queue)).await.expect("it launches")
}

pub fn addrs(cluster: &Cluster) -> Vec<String> {
    cluster.nodes.iter().map(|node| node.addr()).collect()
}

pub async fn enqueue(
    on: &JobQueue,
    queue: &str,
    name: String,
    millis: u64,
) -> Result<Receipt, rocket_jobqueue::Error> {
    on.enqueue(Chore { name, millis }).queue(queue.to_owned()).max_retry(0).await
}

/// Schedules short jobs named `<queue>-<name>-<number>`.
pub async fn schedule(on: &JobQueue, queue: &str, name: &str, count: usize, delay: Duration) {
    let chore = |n| Chore { name: format!("{queue}-{name}-{n}"), millis: 1 };
    let later = |chore| Draft::new(chore).delay(delay).queue(queue.to_owned());
    let answers = on.enqueue_all((0..count).map(chore).map(later)).await;
    assert!(answers.iter().all(Result::is_ok), "{queue}");
}

/// The results of the enqueues of one queue.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub acknowledged: Vec<String>,
    /// Refused with the advice to try again, and not carried out.
    pub refused: usize,
    pub unknown: usize,
    /// The longest time between two acknowledgements.
    pub gap: Duration,
    pub errors: Vec<String>,
}

/// Enqueues a short job per interval in each queue until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<(String, Progress, tokio::task::JoinHandle<()>)>,
}

/// What was sent so far, and when the last acknowledgement came.
type Progress = Arc<Mutex<(Sent, Instant)>>;

impl Load {
    pub fn start(on: &JobQueue, queues: &[String], interval: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = queues.iter().map(|queue| {
            let (on, own, stop) = (on.clone(), queue.clone(), Arc::clone(&stop));
            let sent = Progress::new(Mutex::new((Sent::default(), Instant::now())));
            let task = tokio::spawn(produce(on, own, interval, stop, Arc::clone(&sent)));
            (queue.clone(), sent, task)
        });
        Self { tasks: tasks.collect(), stop }
    }

    /// The longest gap of any queue until now; from now on they are measured from zero.
    pub fn longest_gap(&self) -> Duration {
        let gap = |(_, sent, _): &(_, Progress, _)| {
            let (sent, last) = &mut *sent.lock().unwrap();
            std::mem::take(&mut sent.gap).max(last.elapsed())
        };
        self.tasks.iter().map(gap).max().unwrap()
    }

    pub async fn end(self) -> HashMap<String, Sent> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = HashMap::new();
        for (queue, sent, task) in self.tasks {
            task.await.expect("a producer does not panic");
            let (mut sent, last) = sent.lock().unwrap().clone();
            sent.gap = sent.gap.max(last.elapsed());
            sent.errors.sort_unstable();
            sent.errors.dedup();
            all.insert(queue, sent);
        }
        all
    }
}

async fn produce(
    on: JobQueue,
    queue: String,
    interval: Duration,
    stop: Arc<AtomicBool>,
    sent: Progress,
) {
    // Several at a time, as the requests of a web server are.
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut tasks = tokio::task::JoinSet::new();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        ticks.tick().await;
        number += 1;
        let name = format!("{queue}-{number}");
        let (on, queue, sent) = (on.clone(), queue.clone(), Arc::clone(&sent));
        tasks.spawn(async move {
            let answer = enqueue(&on, &queue, name.clone(), 1).await;
            let (sent, last) = &mut *sent.lock().unwrap();
            match answer {
                Ok(_) => {
                    sent.gap = sent.gap.max(last.elapsed());
                    *last = Instant::now();
                    sent.acknowledged.push(name);
                }
                Err(error) if error.is_outcome_unknown() => sent.unknown += 1,
                Err(error) => {
                    sent.refused += 1;
                    sent.errors.push(error.to_string());
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// A client with a server and a thread of its own, which no fault touches: what it has to
/// wait for is the machine's doing.
pub struct Bystander {
    longest: Arc<Mutex<Duration>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bystander {
    pub fn start() -> Self {
        let (longest, stop) = (Arc::new(Mutex::new(Duration::ZERO)), Arc::default());
        let (gaps, ended) = (Arc::clone(&longest), Arc::<AtomicBool>::clone(&stop));
        let thread = std::thread::spawn(move || {
            let server = RedisServer::start::<&str>(&[]);
            let topology = Topology::Single(server.addr());
            let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() });
            let (pool, mut last) = (pool.unwrap(), Instant::now());
            let file = server.dir().join("synced");
            let note = |gap: Duration| {
                let mut longest = gaps.lock().unwrap();
                *longest = gap.max(*longest);
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                while !ended.load(Ordering::SeqCst) {
                    // A Cluster's server waits for its disk whenever its view changes.
                    std::fs::File::create(&file).and_then(|file| file.sync_all()).unwrap();
                    pool.run(Repeat::Safe, |_| redis::Cmd::set("k", 1)).await.unwrap();
                    let gap = std::mem::replace(&mut last, Instant::now()).elapsed();
                    note(gap);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        });
        Self { longest, stop, thread: Some(thread) }
    }

    /// The longest time between two answers until now; from now on measured from zero.
    pub fn longest_gap(&self) -> Duration {
        std::mem::take(&mut *self.longest.lock().unwrap())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // It takes its server along.
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}
