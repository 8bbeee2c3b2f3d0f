//! The Redis store. It speaks Asynq's protocol: Go producers, workers and tools
//! see the keys and messages they know, and their jobs are served like
//! ours.
//!
//! What it promises. Each operation is one Lua script per queue, so a job is in one
//! list before the script and in one list after it, never in between. Redis' own
//! clock decides about due times and leases; the clock of this host decides
//! nothing. A reply that was lost is never guessed: the operation is remembered as
//! *unconfirmed*, and its repetition is recognised.
//!
//! For what this store promises beyond Asynq (due times to the microsecond, fenced
//! leases, recovery without a margin), extra data lies beside Asynq's: keys
//! named `asynq:{<queue>}:x:…` and hash fields named `x_…`, which Go leaves alone.
//!
//! How the pieces move. `enqueue` and `batcher` write new jobs, `exchange` settles
//! finished jobs and dequeues others in one round trip, `recovery` finds expired
//! leases, `wake` and `peek` wake a waiting process. `inspect`, `rows`,
//! `servers`, `actions` and `doctor` serve operators and stay off the hot path.
//! Only `keys` and `wire` know Asynq's names and bytes.
//!
//! What may surprise. On a Cluster each queue lives in one slot, so calls that span
//! queues become one call per queue. A paused queue, or a process with more than
//! `MAX_PEEKS` queues, polls by script instead of blocking.

mod actions;
mod audit;
mod batcher;
mod bulk_enqueue;
mod call;
mod clock;
mod control;
mod doctor;
mod due;
mod enqueue;
mod enqueue_args;
mod exchange;
mod exchange_call;
mod format;
mod groups;
mod inspect;
pub mod keys;
mod leases;
mod limits;
mod order;
mod peek;
mod periodic;
mod presence;
mod processes;
mod queue_names;
mod recovery;
mod reply;
mod rows;
mod scripts;
mod servers;
mod settle_args;
mod slot_move;
mod standing;
mod suspects;
mod transfer;
mod type_stats;
mod unconfirmed;
mod wait;
mod wake;
pub mod wire;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::redis::Value;
use tokio::sync::Notify;

use crate::broker::{
    Announcement, Answer, ArchiveSettings, Broker, Dequeued, Each, Enqueued, ExchangeReply,
    ExpiredLeases, Extended, Forwarded, KeyBinding, Lease, Sealed, SettleRequest, WorkerRequests,
};
use crate::job::{NewJob, QueueName};
use crate::pool::{RedisPool, Repeat};
use crate::time::{Clock, Timestamp};
use batcher::Batcher;
pub use batcher::batch_sizes;
use clock::StoreClock;
use limits::LimitedQueues;
use peek::Peeks;
use queue_names::KnownNames;
use scripts::SCRIPTS;
use suspects::Process;
use unconfirmed::{FailingQueues, UnconfirmedDequeues, UnconfirmedSettles};
use wake::Wake;

/// Maximum jobs of one script call: Redis runs nothing else meanwhile.
const MAX_BATCH_JOBS: usize = 100;

/// Maximum payload bytes of one script call, unless a single job has more.
const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// Maximum lock, delay and retention: a century, so that every sum is a valid date.
const MAX_DURATION: Duration = Duration::from_secs(100 * 366 * 86_400);

/// The Redis store. It owns the pool it was made from; clones share everything.
#[derive(Clone)]
pub struct RedisBroker {
    /// The connections of all calls except confirmed enqueues.
    pool: Arc<RedisPool>,
    /// The pool of enqueues, if replicas must confirm them.
    confirming: Option<Arc<RedisPool>>,
    /// The estimate of Redis' clock.
    clock: Arc<StoreClock>,
    /// Blocking peeks at pending lists.
    peeks: Arc<Peeks>,
    /// Due times, and reports of earlier ones.
    wake: Arc<Wake>,
    /// When the name of each queue was last written to `asynq:queues`.
    published: Arc<Mutex<HashMap<QueueName, Instant>>>,
    /// Counts the names that this process added or removed.
    name_changes: Arc<AtomicU64>,
    /// The names of all queues, remembered for viewers if they are many.
    known_names: Option<Arc<KnownNames>>,
    /// Notified while this process makes jobs pending.
    arrived: Arc<Notify>,
    /// Groups single enqueues into batches.
    batcher: Arc<Batcher>,
    /// Numbers the leases of this process.
    process: Arc<Process>,
    /// Dequeue calls without a reply.
    unconfirmed_dequeues: Arc<UnconfirmedDequeues>,
    /// Queues from which jobs could not be dequeued.
    failing: Arc<FailingQueues>,
    /// Settlements without a reply.
    unconfirmed_settles: Arc<UnconfirmedSettles>,
    /// Queues that have limits, as far as scripts said so.
    limited: Arc<LimitedQueues>,
    /// Limits on archived jobs.
    archive: Arc<ArchiveSettings>,
    /// A warning was logged that Redis refuses to block.
    warned: Arc<AtomicBool>,
    /// Redis refuses to write queue names.
    unlisted: Arc<AtomicBool>,
    /// Jobs were stored before, so a connection exists.
    loaded: Arc<AtomicBool>,
}

/// Without the connection's settings.
impl std::fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisBroker")
    }
}

impl RedisBroker {
    /// A store that uses these connections. With a system clock, leases and due times go by
    /// Redis' clock; a manual clock (tests) replaces it.
    pub fn new(pool: RedisPool, clock: Clock) -> Self {
        Self {
            confirming: pool.confirming().map(Arc::new),
            pool: Arc::new(pool),
            clock: Arc::new(StoreClock::new(clock)),
            peeks: Arc::default(),
            wake: Arc::default(),
            published: Arc::default(),
            name_changes: Arc::default(),
            known_names: None,
            arrived: Arc::default(),
            batcher: Arc::default(),
            process: Arc::default(),
            unconfirmed_dequeues: Arc::default(),
            failing: Arc::default(),
            unconfirmed_settles: Arc::default(),
            limited: Arc::default(),
            archive: Arc::default(),
            warned: Arc::default(),
            unlisted: Arc::default(),
            loaded: Arc::default(),
        }
    }

    /// The same store with other limits on archived jobs.
    pub fn with_archive(self, archive: ArchiveSettings) -> Self {
        Self { archive: Arc::new(archive), ..self }
    }

    /// The same store on other connections.
    fn on(&self, pool: RedisPool) -> Self {
        // Unconfirmed operations are shared: either store may repeat them.
        Self {
            clock: Arc::clone(&self.clock),
            process: Arc::clone(&self.process),
            unconfirmed_dequeues: Arc::clone(&self.unconfirmed_dequeues),
            unconfirmed_settles: Arc::clone(&self.unconfirmed_settles),
            // A queue that either removes must be registered again by both.
            published: Arc::clone(&self.published),
            name_changes: Arc::clone(&self.name_changes),
            limited: Arc::clone(&self.limited),
            archive: Arc::clone(&self.archive),
            ..Self::new(pool, Clock::system())
        }
    }

    /// How long archived jobs of a queue are kept, in seconds. Nothing is deleted for its
    /// age while the clocks of Redis and this host disagree.
    fn archive_age(&self, queue: &QueueName) -> u64 {
        let age = self.archive.of(queue).age;
        if self.clock.agree() { age.as_secs() } else { MAX_DURATION.as_secs() }
    }
}

impl Sealed for RedisBroker {}

impl Broker for RedisBroker {
    fn enqueue_each<'a>(&'a self, jobs: &'a [NewJob]) -> Each<'a, Enqueued> {
        Box::pin(self.enqueue_all(jobs))
    }

    fn dequeue<'a>(&'a self, queues: &'a [QueueName], at_most: usize) -> Answer<'a, Dequeued> {
        Box::pin(async move { self.exchange_all(&[], queues, at_most).await.dequeued })
    }

    fn exchange<'a>(
        &'a self,
        requests: &'a [&'a SettleRequest],
        queues: &'a [QueueName],
        at_most: usize,
    ) -> Pin<Box<dyn Future<Output = ExchangeReply> + Send + 'a>> {
        Box::pin(self.exchange_all(requests, queues, at_most))
    }

    fn extend<'a>(&'a self, leases: &'a [Lease]) -> Answer<'a, Vec<Extended>> {
        Box::pin(self.extend_all(leases))
    }

    fn next_due<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<Option<Duration>>> {
        Box::pin(self.find_next_due(queues))
    }

    fn forward<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, Forwarded> {
        Box::pin(self.forward_due(queue, limit))
    }

    fn expired_leases<'a>(
        &'a self,
        queue: &'a QueueName,
        limit: usize,
        skip: usize,
    ) -> Answer<'a, ExpiredLeases> {
        Box::pin(self.find_expired(queue, limit, skip))
    }

    fn begin_suspect<'a>(&'a self, lease: &'a Lease, running: usize) -> Answer<'a, bool> {
        Box::pin(self.note_suspect(lease, running))
    }

    fn end_suspect(&self, running: usize) -> Answer<'_, ()> {
        Box::pin(self.note_suspects(running))
    }

    fn delete_expired<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize> {
        Box::pin(async move {
            let mut reply = self
                .ask(&SCRIPTS.delete_expired, queue, Repeat::Safe, |_, call| {
                    call.arg(limit.clamp(1, 1000))
                })
                .await?;
            let (deleted, late) = (reply.size()?, reply.size()?);
            if late > 0 {
                crate::log::info!(%queue, jobs = late, "archived jobs that did not start in time");
            }
            Ok((deleted + late) as usize)
        })
    }

    fn record_minute<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, ()> {
        Box::pin(async move {
            self.ask(&SCRIPTS.delete_expired, queue, Repeat::Safe, |_, call| call.arg(0)).await?;
            Ok(())
        })
    }

    fn wait<'a>(&'a self, queues: &'a [QueueName], at_most: Duration) -> Answer<'a, ()> {
        Box::pin(self.wait_for_jobs(queues, at_most))
    }

    fn due_changed(&self) -> Answer<'_, Vec<QueueName>> {
        Box::pin(async move { Ok(self.wake.changed(&self.pool).await) })
    }

    fn announce<'a>(&'a self, who: &'a Announcement) -> Answer<'a, WorkerRequests> {
        Box::pin(self.announce_presence(who))
    }

    fn retire<'a>(&'a self, who: &'a Announcement) -> Answer<'a, ()> {
        Box::pin(self.retire_presence(who))
    }

    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(self.pool.ping())
    }

    /// `SET NX`, and `GET` for what was there. A key that expires between the two counts as
    /// bound to the queue of this request.
    fn bind_key<'a>(
        &'a self,
        key: &'a str,
        queue: &'a QueueName,
        kept: Duration,
    ) -> Answer<'a, KeyBinding> {
        Box::pin(async move {
            let name = keys::queue_of_key(key).into_bytes();
            let kept = kept.as_secs().to_string().into_bytes();
            let set = [name.clone(), queue.as_str().into(), b"NX".to_vec(), b"EX".to_vec(), kept];
            if self.command(Repeat::Safe, "SET", &set).await? != Value::Nil {
                return Ok(KeyBinding { queue: queue.clone(), is_new: true });
            }
            let bound = match self.command(Repeat::Safe, "GET", &[name]).await? {
                Value::BulkString(found) => QueueName::new(String::from_utf8_lossy(&found))?,
                // It expired in between.
                _ => queue.clone(),
            };
            Ok(KeyBinding { queue: bound, is_new: false })
        })
    }

    /// Deletes the binding. Never repeated: a repetition could delete the binding of a later
    /// request.
    ///
    /// The guard of a stored job lies in another slot, so no script can compare the two. A request
    /// that is stored before the deletion is seen here, and its key is bound again; one that is
    /// stored later finds no binding and binds its key itself.
    fn release_key<'a>(&'a self, key: &'a str, queue: &'a QueueName) -> Answer<'a, ()> {
        Box::pin(async move {
            let name = keys::queue_of_key(key).into_bytes();
            self.command(Repeat::Never, "DEL", std::slice::from_ref(&name)).await?;
            let guard = keys::idempotency(queue, key).into_bytes();
            let left = self.command(Repeat::Safe, "PTTL", &[guard]).await?;
            if let Value::Int(millis @ 1..) = left {
                let kept = millis.to_string().into_bytes();
                let bind = [name, queue.as_str().into(), b"NX".to_vec(), b"PX".to_vec(), kept];
                self.command(Repeat::Safe, "SET", &bind).await?;
            }
            Ok(())
        })
    }

    fn unknown_format(&self) -> Answer<'_, Option<String>> {
        Box::pin(self.check_format())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn detached(&self) -> Arc<dyn Broker> {
        Arc::new(self.on(self.pool.detached()))
    }

    fn aside(&self) -> Arc<dyn Broker> {
        Arc::new(Self { known_names: Some(Arc::default()), ..self.on(self.pool.aside()) })
    }

    fn prompt(&self) -> Arc<dyn Broker> {
        Arc::new(Self { pool: Arc::new(self.pool.prompt()), ..self.clone() })
    }

    fn describe(&self) -> String {
        self.pool.describe()
    }
}

/// The indexes of each queue's items, queues and indexes in the order of the items.
fn by_queue<'a>(names: impl Iterator<Item = &'a QueueName>) -> Vec<(&'a QueueName, Vec<usize>)> {
    let mut groups: Vec<(&QueueName, Vec<usize>)> = Vec::new();
    let mut known = HashMap::new();
    for (at, name) in names.enumerate() {
        match groups.last_mut() {
            // Neighbours are mostly of one queue.
            Some((queue, indexes)) if *queue == name => indexes.push(at),
            _ => {
                let group = *known.entry(name).or_insert(groups.len());
                match groups.get_mut(group) {
                    Some((_, indexes)) => indexes.push(at),
                    None => groups.push((name, vec![at])),
                }
            }
        }
    }
    groups
}

/// Microseconds as scripts read them, at most [`MAX_DURATION`].
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.min(MAX_DURATION).as_micros()).unwrap_or(i64::MAX)
}
