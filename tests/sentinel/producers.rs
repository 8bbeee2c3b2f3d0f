//! Producers with a ledger of what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::{Broker, PoolSettings, RedisPool, Topology};
use rocket_jobqueue::{Clock, JobRecord, NewJob, Placement, QueueName};
use tokio::task::JoinHandle;

use super::support::{RedisServer, eventually};

pub const PATIENCE: Duration = Duration::from_secs(30);
pub const QUEUE: &str = "q";

pub fn settings(topology: Topology, wait_replicas: u32) -> PoolSettings {
    PoolSettings { topology, wait_replicas, ..PoolSettings::default() }
}

/// One enqueue: its id, when it was sent and answered, and whether it was acknowledged.
pub struct Entry {
    id: String,
    sent: Instant,
    answered: Instant,
    acknowledged: bool,
    unknown: bool,
}

/// Producers that enqueue about 200 jobs a second and write down what they were told.
pub struct Producers {
    tasks: Vec<JoinHandle<Vec<Entry>>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Producers {
    pub fn start(settings: &PoolSettings) -> Self {
        let broker = RedisBroker::new(RedisPool::new(settings.clone()).unwrap(), Clock::system());
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..8).map(|_| {
            let (broker, stop, count) = (broker.clone(), stop.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let mut ledger = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let queue = QueueName::new(QUEUE).unwrap();
                    let record = JobRecord::new("t".to_owned(), None, queue);
                    let (id, placement) = (record.id.to_string(), Placement::Now);
                    let job = NewJob::now(record).placed(placement);
                    let sent = Instant::now();
                    let answer = broker.enqueue(&[job]).await;
                    let unknown = answer.as_ref().is_err_and(|error| error.is_outcome_unknown());
                    if let Err(error) = &answer {
                        assert!(error.is_unavailable(), "{error:?}");
                    }
                    let acknowledged = answer.is_ok();
                    count.fetch_add(u64::from(acknowledged), Ordering::SeqCst);
                    let answered = Instant::now();
                    ledger.push(Entry { id, sent, answered, acknowledged, unknown });
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
                ledger
            })
        });
        Self { tasks: tasks.collect(), stop, acknowledged }
    }

    /// Waits until this many more jobs have been acknowledged.
    pub async fn advance(&self, more: u64) {
        let goal = self.acknowledged.load(Ordering::SeqCst) + more;
        let reached = || async { self.acknowledged.load(Ordering::SeqCst) >= goal };
        assert!(eventually(PATIENCE, reached).await, "enqueues do not get on");
    }

    pub async fn stop(self) -> Vec<Entry> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.unwrap());
        }
        all.sort_by_key(|entry| entry.answered);
        all
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Toll {
    /// For the output.
    #[allow(dead_code)]
    pub acknowledged: usize,
    pub unknown: usize,
    /// Acknowledged, and not there.
    pub lost: usize,
    /// From the first to the last acknowledgement that was lost.
    pub window: Duration,
    /// The longest time without an acknowledgement.
    pub gap: Duration,
}

pub fn toll(ledger: &[Entry], server: &RedisServer) -> Toll {
    let client = redis::Client::open(format!("redis://{}", server.addr())).unwrap();
    let mut connection = client.get_connection().unwrap();
    let acknowledged: Vec<&Entry> = ledger.iter().filter(|entry| entry.acknowledged).collect();
    let mut pipeline = redis::pipe();
    for entry in &acknowledged {
        pipeline.cmd("EXISTS").arg(format!("asynq:{{{QUEUE}}}:t:{}", entry.id));
    }
    let there: Vec<bool> = pipeline.query(&mut connection).unwrap();
    let lost: Vec<&&Entry> = acknowledged
        .iter()
        .zip(there)
        .filter(|(_, there)| !there)
        .map(|(entry, _)| entry)
        .collect();
    let window = match (lost.first(), lost.last()) {
        (Some(first), Some(last)) => last.answered - first.sent,
        _ => Duration::ZERO,
    };
    let pairs = acknowledged.windows(2);
    Toll {
        acknowledged: acknowledged.len(),
        unknown: ledger.iter().filter(|entry| entry.unknown).count(),
        lost: lost.len(),
        window,
        gap: pairs.map(|pair| pair[1].answered - pair[0].answered).max().unwrap_or_default(),
    }
}
