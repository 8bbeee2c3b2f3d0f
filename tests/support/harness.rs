//! A store on a Redis server of its own under a clock that a test moves, with short words
//! for what most tests do with it. A test file adds its own words in an `impl Harness`.

use std::sync::Arc;

use rocket_jobqueue::handler::Transition;
use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::{
    Broker, Delivery, Enqueued, PoolSettings, RedisPool, Settled, Topology,
};
use rocket_jobqueue::{Clock, JobId, JobRecord, NewJob, QueueName, Timestamp};

use super::{PATIENCE, RedisServer};

/// Where the clock stands, in seconds since 1970: a whole second, ahead of the server's
/// clock, so that nothing that expires is gone at once.
pub const START: i64 = 4_000_000_000;

const PERMITS_DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];

/// A server, its store and the queue `default`.
pub struct Harness {
    pub server: RedisServer,
    pub broker: Arc<RedisBroker>,
    pub clock: Clock,
    pub queue: QueueName,
}

impl Harness {
    /// On a server that permits `DEBUG`, with a clock that stands at [`START`].
    pub fn start() -> Self {
        Self::on(RedisServer::start(&PERMITS_DEBUG), |_| {})
    }

    /// On such a server, by another clock, and with the pool's own limits.
    pub fn by(clock: Clock) -> Self {
        let server = RedisServer::start(&PERMITS_DEBUG);
        Self { broker: broker(&server, &clock), server, clock, queue: default_queue() }
    }

    /// On a given server, with other settings of its pool, and a clock that stands at
    /// [`START`].
    pub fn on(server: RedisServer, adapt: impl FnOnce(&mut PoolSettings)) -> Self {
        let clock = Clock::manual(Timestamp::from_secs(START));
        let topology = Topology::Single(server.addr());
        let mut settings = patient(topology);
        adapt(&mut settings);
        let pool = RedisPool::new(settings).unwrap();
        let broker = Arc::new(RedisBroker::new(pool, clock.clone()));
        Self { server, broker, clock, queue: default_queue() }
    }

    /// A job with this id.
    pub fn job(&self, name: &str) -> NewJob {
        let mut record = JobRecord::new("mail", Some(b"{}".to_vec()), self.queue.clone());
        record.id = JobId::new(name).unwrap();
        record.max_retry = 5;
        NewJob::now(record)
    }

    /// A job with this id in a group; in none if that is empty.
    pub fn grouped(&self, name: &str, group: &str) -> NewJob {
        let mut job = self.job(name);
        job.record.group = group.to_owned();
        job
    }

    pub async fn put(&self, job: NewJob) -> Enqueued {
        self.broker.enqueue(&[job]).await.unwrap().remove(0)
    }

    /// Stores a pending job for each name.
    pub async fn fill(&self, names: &[&str]) {
        let jobs: Vec<_> = names.iter().map(|name| self.job(name)).collect();
        self.broker.enqueue(&jobs).await.unwrap();
    }

    pub async fn take_many(&self, most: usize) -> Vec<Delivery> {
        self.broker.dequeue(std::slice::from_ref(&self.queue), most).await.unwrap().deliveries
    }

    pub async fn take(&self) -> Delivery {
        self.take_many(1).await.pop().expect("a pending job")
    }

    pub async fn settle(&self, delivery: &Delivery, transition: Transition) -> Settled {
        self.broker.settle(&[(delivery.clone(), transition).into()]).await.unwrap()[0]
    }

    /// What `redis-cli` prints for this command, with `Q:` for the queue's prefix.
    pub fn q(&self, command: &str) -> String {
        let command = command.replace("Q:", "asynq:{default}:");
        self.server.cli(&command.split(' ').collect::<Vec<_>>())
    }

    /// What this script returns, with `Q` for the queue's prefix and `M` for a small
    /// message of a job type and an id.
    pub fn eval(&self, script: &str) -> String {
        let begin = "local Q = 'asynq:{default}:'
            local function M(type, id)
                return '\\10' .. string.char(#type) .. type .. '\\26' .. string.char(#id) .. id
            end ";
        self.server.cli(&["EVAL", &format!("{begin}{script}"), "0"])
    }

    /// A sum of all that is stored.
    pub fn digest(&self) -> String {
        self.q("DEBUG DIGEST")
    }
}

/// Settings of a pool for which no answer comes too late, however busy the machine is.
pub fn patient(topology: Topology) -> PoolSettings {
    let (request_limit, read_timeout) = (PATIENCE, PATIENCE);
    PoolSettings { topology, request_limit, read_timeout, ..PoolSettings::default() }
}

/// Another store on this server.
pub fn broker(server: &RedisServer, clock: &Clock) -> Arc<RedisBroker> {
    let topology = Topology::Single(server.addr());
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    Arc::new(RedisBroker::new(pool, clock.clone()))
}

fn default_queue() -> QueueName {
    QueueName::new("default").unwrap()
}
