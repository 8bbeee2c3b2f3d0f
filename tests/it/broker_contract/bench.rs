//! What every case has: a store, its clock, and short words for what it does.

pub use std::collections::BTreeSet;
use std::path::Path;
pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicU32, Ordering};
pub use std::time::{Duration, Instant};

use super::neighbour::{self, Neighbour};
use super::site::{Site, Turn, slot};
pub use crate::support::PATIENCE;
pub use rocket_jobqueue::internals::{
    Announcement, ArchiveSettings, Broker, Delivery, Enqueued, Extended, Forwarded, GroupLimits,
    GroupSet, JobInfo, LEASE, Lease, MemoryBroker, QueueInfo, ReadyGroups, RedisPool, Settled,
    disk::{self, DiskSettings, Durability},
    redis::RedisBroker,
};
pub use rocket_jobqueue::{
    Clock, Idempotency, JobId, JobRecord, JobState, NewJob, Placement, QueueName, Timestamp, Until,
    handler::Transition,
};
pub use rstest::rstest;

/// The stores under contract. What Redis is, one server or several, is up to
/// the test binary: see `Site`.
#[derive(Clone, Copy, Debug)]
pub enum Store {
    Memory,
    /// In memory, as an application with a namespace sees it: others use the same store under the
    /// same names, see `Neighbour`.
    MemoryNamespace,
    Disk,
    Redis,
}

/// A whole second, at 08:00 UTC. Far ahead, because Redis ends the daily counters
/// by its own clock.
pub const START: Timestamp = Timestamp::from_secs(4_000_003_200);
pub const MICRO: Duration = Duration::from_micros(1);

/// A store, its clock, and a queue that no other case uses.
#[derive(Clone)]
pub struct OpenStore {
    pub broker: Arc<dyn Broker>,
    pub clock: Clock,
    pub queue: QueueName,
    pub server: Option<Arc<Site>>,
    /// The Redis pair stays as it is while this case runs.
    pub turn: Option<Turn>,
    /// The folder of a store on disk.
    pub folder: Option<Arc<tempfile::TempDir>>,
    /// The other applications in this store.
    pub neighbour: Option<Arc<Neighbour>>,
}

impl Store {
    pub async fn open(self) -> OpenStore {
        let clock = Clock::manual(START);
        let queue = fresh_queue();
        let (server, turn, folder, neighbour) = (None, None, None, None);
        match self {
            Store::Memory => {
                let broker = Arc::new(MemoryBroker::new(clock.clone()));
                OpenStore { broker, clock, queue, server, turn, folder, neighbour }
            }
            Store::MemoryNamespace => {
                let whole: Arc<dyn Broker> = Arc::new(MemoryBroker::new(clock.clone()));
                let broker = neighbour::seen_by(&whole, Some(neighbour::OWN));
                let neighbour = Some(Neighbour::in_store(whole, &queue).await);
                OpenStore { broker, clock, queue, server, turn, folder, neighbour }
            }
            Store::Disk => {
                let folder = Arc::new(tempfile::tempdir().unwrap());
                let broker = open_folder(folder.path(), &clock, ArchiveSettings::default()).await;
                let folder = Some(folder);
                OpenStore { broker, clock, queue, server, turn, folder, neighbour }
            }
            Store::Redis => {
                let server = Site::open().await;
                let pool = RedisPool::new(server.settings()).unwrap();
                let turn = server.turn(&pool).await;
                let broker = Arc::new(RedisBroker::new(pool, clock.clone()));
                let server = Some(server);
                OpenStore { broker, clock, queue, server, turn, folder, neighbour }
            }
        }
    }
}

/// Opens the store in a folder, once nobody else has it.
async fn open_folder(path: &Path, clock: &Clock, archive: ArchiveSettings) -> Arc<dyn Broker> {
    let settings =
        DiskSettings { path: path.to_owned(), durability: Durability::Always, patience: PATIENCE };
    Arc::new(disk::open(&settings, clock.clone(), archive).await.unwrap())
}

impl OpenStore {
    /// The store in a folder that was closed, which is opened again.
    pub async fn reopened(
        folder: Arc<tempfile::TempDir>,
        clock: Clock,
        queue: QueueName,
    ) -> OpenStore {
        let broker = open_folder(folder.path(), &clock, ArchiveSettings::default()).await;
        let folder = Some(folder);
        OpenStore { broker, clock, queue, server: None, turn: None, folder, neighbour: None }
    }
}

/// Brings the end of each key of a queue closer: locks and repeat guards end by
/// the server's own clock.
pub const AGE_KEYS: &str = "
    for _, key in ipairs(redis.call('KEYS', KEYS[1])) do
        local left = redis.call('PTTL', key)
        if left >= 0 then redis.call('PEXPIRE', key, left - tonumber(ARGV[1])) end
    end
    return 'aged'";

pub fn fresh_queue() -> QueueName {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    QueueName::new(format!("contract-{}", NEXT.fetch_add(1, Ordering::Relaxed))).unwrap()
}

pub fn id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn done() -> Transition {
    Transition::Complete { result: None }
}

pub fn retry(after: Duration) -> Transition {
    Transition::Retry { after, error: "smtp is down".to_owned(), counted: true }
}

pub fn archive() -> Transition {
    Transition::Archive { error: "bad address".to_owned() }
}

pub fn reclaim() -> Transition {
    Transition::Reclaim { error: "its worker vanished".to_owned() }
}

pub fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.job.id.as_str()).collect()
}

pub fn created(outcome: &Enqueued) -> bool {
    matches!(outcome, Enqueued::Created { .. })
}

pub fn unique(mut job: NewJob, lasts: Duration) -> NewJob {
    job.unique_for = Some(lasts);
    job
}

/// A unique job for an hour whose lock ends then.
pub fn until(job: NewJob, until: Until) -> NewJob {
    NewJob { until, ..unique(job, secs(3600)) }
}

pub fn grouped(mut job: NewJob, group: &str) -> NewJob {
    job.record.group = group.to_owned();
    job
}

pub fn guarded(mut job: NewJob, key: &str, body: &str) -> NewJob {
    job.idempotency = Some(Idempotency::new("/jobs", key, body.as_bytes()));
    job
}

impl OpenStore {
    /// The same queue through a store with other limits of its archive. Nothing may
    /// have been stored before: a store in memory begins empty.
    pub async fn with_archive(mut self, archive: ArchiveSettings) -> OpenStore {
        let clock = self.clock.clone();
        let broker: Arc<dyn Broker> = match &self.server {
            None if self.folder.is_some() => {
                let folder = Arc::new(tempfile::tempdir().unwrap());
                let broker = open_folder(folder.path(), &clock, archive).await;
                self.folder = Some(folder);
                broker
            }
            None if self.neighbour.is_some() => {
                let archive = neighbour::stored(archive);
                let whole: Arc<dyn Broker> =
                    Arc::new(MemoryBroker::new(clock).with_archive(archive));
                let broker = neighbour::seen_by(&whole, Some(neighbour::OWN));
                self.neighbour = Some(Neighbour::in_store(whole, &self.queue).await);
                broker
            }
            None => Arc::new(MemoryBroker::new(clock).with_archive(archive)),
            Some(server) => {
                let pool = RedisPool::new(server.settings()).unwrap();
                Arc::new(RedisBroker::new(pool, clock).with_archive(archive))
            }
        };
        OpenStore { broker, ..self }
    }

    /// The same store and clock with another queue, which in a cluster lies on
    /// another node.
    pub fn beside(&self) -> OpenStore {
        let third = |queue: &QueueName| slot(queue.as_str()) / (16_384 / 3);
        let elsewhere = |queue: &QueueName| third(queue) != third(&self.queue);
        let queue = std::iter::repeat_with(fresh_queue).find(elsewhere).expect("there is no end");
        OpenStore { queue, ..self.clone() }
    }

    pub fn job(&self, name: &str) -> NewJob {
        let mut record = JobRecord::new("mail", Some(b"{}".to_vec()), self.queue.clone());
        record.id = id(name);
        record.max_retry = 10;
        NewJob::now(record)
    }

    pub fn kept(&self, name: &str, retention: Duration) -> NewJob {
        let mut job = self.job(name);
        job.record.retention = retention;
        job
    }

    pub async fn put(&self, job: NewJob) -> Enqueued {
        self.broker.enqueue(&[job]).await.unwrap().remove(0)
    }

    /// Stores a pending job for each name.
    pub async fn fill(&self, names: &[&str]) {
        let jobs: Vec<_> = names.iter().map(|name| self.job(name)).collect();
        let outcomes = self.broker.enqueue(&jobs).await.unwrap();
        assert!(outcomes.iter().all(created), "{outcomes:?}");
    }

    pub async fn take_from(&self, queues: &[QueueName], most: usize) -> Vec<Delivery> {
        self.broker.dequeue(queues, most).await.unwrap().deliveries
    }

    pub async fn take_many(&self, most: usize) -> Vec<Delivery> {
        self.take_from(std::slice::from_ref(&self.queue), most).await
    }

    pub async fn take(&self) -> Delivery {
        self.take_many(1).await.pop().expect("a pending job")
    }

    pub async fn settle(&self, delivery: &Delivery, transition: Transition) -> Settled {
        self.broker.settle(&[(delivery.clone(), transition).into()]).await.unwrap()[0]
    }

    pub async fn extend(&self, lease: &Lease) -> Option<Lease> {
        match self.broker.extend(std::slice::from_ref(lease)).await.unwrap().remove(0) {
            Extended::Renewed(lease) => Some(lease),
            Extended::Cancelled(..) => panic!("nobody cancelled it"),
            Extended::Lost => None,
            Extended::Unknown | Extended::Moving => panic!("the store answered"),
        }
    }

    /// Dequeues the next job and settles it.
    pub async fn run(&self, transition: Transition) -> Delivery {
        let delivery = self.take().await;
        assert_eq!(self.settle(&delivery, transition).await, Settled::Done);
        delivery
    }

    pub async fn first_expired_leases(&self, limit: usize) -> Vec<Delivery> {
        self.broker.first_expired_leases(&self.queue, limit).await.unwrap()
    }

    pub async fn forward(&self) -> Forwarded {
        self.broker.forward(&self.queue, 100).await.unwrap()
    }

    pub async fn delete_expired(&self) -> usize {
        self.broker.delete_expired(&self.queue, 100).await.unwrap()
    }

    pub async fn pause(&self, paused: bool) -> bool {
        self.broker.pause(&self.queue, paused).await.unwrap()
    }

    pub async fn find(&self, name: &str) -> Option<JobInfo> {
        self.broker.job(&self.queue, &id(name)).await.unwrap()
    }

    pub async fn see(&self, name: &str) -> JobInfo {
        self.find(name).await.expect("the job is stored")
    }

    pub async fn state(&self, name: &str) -> Option<JobState> {
        self.find(name).await.map(|info| info.state)
    }

    pub async fn info(&self) -> QueueInfo {
        self.broker.queue(&self.queue).await.unwrap()
    }

    /// Processed and failed, ever.
    pub async fn counters(&self) -> (u64, u64) {
        let info = self.info().await;
        (info.processed, info.failed)
    }

    /// Lets master and replica change places while this store is used.
    #[allow(dead_code)]
    pub fn give_up_turn(&mut self) {
        drop(self.turn.take());
    }

    /// Moves the clock on, also for what ends by the store's own clock.
    pub fn age(&self, by: Duration) {
        self.clock.advance(by);
        if let Some(server) = &self.server {
            let millis = by.as_millis().to_string();
            let keys = format!("asynq:{{{}}}:*", self.queue);
            let aged = server.cli(&["EVAL", AGE_KEYS, "1", &keys, &millis]);
            assert_eq!(aged, "aged");
        }
    }

    /// Moves the clock to the end of this lease.
    pub fn pass(&self, lease: &Lease) {
        self.clock.advance(Timestamp::from_micros(lease.ends).since(self.clock.now()));
    }
}
