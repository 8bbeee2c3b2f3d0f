//! The store in Redis, with Asynq's data: Go producers, workers and tools see
//! their own protocol, and what they write is served like our own.
//!
//! Where this store promises more than Asynq (exact due times, fenced leases,
//! recovery without a margin), the rest lies beside Asynq's data, in keys named
//! `asynq:{<queue>}:x:…` and hash fields named `x_…` that Go leaves alone.

mod actions;
mod admission;
mod batcher;
mod clock;
mod control;
mod doctor;
mod enqueue;
mod enqueue_args;
mod entries;
mod exchange;
mod format;
mod groups;
mod inspect;
pub mod keys;
mod order;
mod peek;
mod presence;
mod recovery;
mod reply;
mod rows;
mod scripts;
mod servers;
mod settle_args;
mod suspects;
mod unconfirmed;
mod wake;
pub mod wire;

use std::collections::HashMap;
use std::iter;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use ::redis::Value;
use futures_util::future::join_all;
use futures_util::poll;
use futures_util::stream::{self, StreamExt};
use tokio::sync::Notify;

use crate::broker::{
    Announcement, Answer, ArchiveSettings, Broker, CROWDED, CROWDED_PAUSE, Delivery, Dequeued,
    Each, Enqueued, ExchangeReply, ExpiredLeases, Extended, Forwarded, KeyBinding, Lease, Sealed,
    Settled,
};
use crate::error::Error;
use crate::job::{NewJob, QueueName, Transition};
use crate::pool::{LuaScript, RedisPool, Repeat, ScriptCall};
use crate::time::{Backoff, Clock, Timestamp};
use batcher::Batcher;
use clock::StoreClock;
use enqueue_args::EnqueueArgs;
use order::Order;
use peek::Peeks;
use reply::Reply;
use scripts::SCRIPTS;
use suspects::Process;
use unconfirmed::{Failing, UnconfirmedDequeues, UnconfirmedSettles};
use wake::Wake;

/// Most jobs of one script call: the server does nothing else meanwhile.
const BATCH: usize = 100;

/// Most payload bytes of one script call, unless a single job has more.
const BATCH_BYTES: usize = 1024 * 1024;

/// Most script calls of one bulk enqueue that wait for their answer at a time.
const SIDE_BY_SIDE: usize = 16;

/// How long a dequeue may wait to be run: a little longer than its caller waits
/// for the answer, for what the two clocks differ.
const DEQUEUE_VALID_FOR: Duration = Duration::from_secs(4);

/// How long a look at the queues goes on after one of them failed.
const PATIENCE: Duration = Duration::from_secs(1);

/// A process that looks at more queues at once looks by script instead: every
/// blocking look takes a connection of its own.
const MOST_PEEKS: usize = 16;

/// Most queues of one look for what is due next.
const MOST_LOOKS: usize = 100;

/// What is due by then counts as due: the two clocks are not known to the microsecond.
const SOON: Duration = Duration::from_millis(1);

/// How often a process looks that cannot block.
const POLL: Duration = Duration::from_millis(250);

/// How often a queue's name is written again, in case it was removed.
const REMEMBER_QUEUE: Duration = Duration::from_secs(60);

/// Most queues whose name is known to be written: names may come from requests, and there
/// is no end of them.
const MOST_PUBLISHED: usize = 10_000;

/// How long a job waits on a Cluster for its queue's name to be written, which another
/// server may keep.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(250);

/// What a request keeps of its time for the answer to its last repetition.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// The longest lock, delay and retention: a century, which every date can hold.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Jobs in Redis. Made from a pool, which it owns. Clones share everything.
#[derive(Clone)]
pub struct RedisBroker {
    pool: Arc<RedisPool>,
    /// For enqueues, if replicas must confirm them.
    confirming: Option<Arc<RedisPool>>,
    clock: Arc<StoreClock>,
    peeks: Arc<Peeks>,
    wake: Arc<Wake>,
    published: Arc<Mutex<HashMap<QueueName, Instant>>>,
    /// Jobs are being made pending by this process.
    arrived: Arc<Notify>,
    /// Single enqueues that wait for each other's answers.
    batcher: Arc<Batcher>,
    /// Under whose numbers jobs are taken.
    process: Arc<Process>,
    /// Takings of jobs that were sent and not answered.
    unconfirmed_dequeues: Arc<UnconfirmedDequeues>,
    /// Queues whose jobs could not be taken.
    failing: Arc<Failing>,
    /// Leases whose job's settlement was sent and not answered.
    unconfirmed_settles: Arc<UnconfirmedSettles>,
    archive: Arc<ArchiveSettings>,
    warned: Arc<AtomicBool>,
    /// The store refuses to make queues known.
    unlisted: Arc<AtomicBool>,
    /// There has been a connection by which jobs were stored.
    loaded: Arc<AtomicBool>,
}

impl RedisBroker {
    /// A store that uses these connections. With a system clock, Redis' own
    /// time rules; a manual clock rules where a test passes one.
    pub fn new(pool: RedisPool, clock: Clock) -> Self {
        Self {
            confirming: pool.confirming().map(Arc::new),
            pool: Arc::new(pool),
            clock: Arc::new(StoreClock::new(clock)),
            peeks: Arc::default(),
            wake: Arc::default(),
            published: Arc::default(),
            arrived: Arc::default(),
            batcher: Arc::default(),
            process: Arc::default(),
            unconfirmed_dequeues: Arc::default(),
            failing: Arc::default(),
            unconfirmed_settles: Arc::default(),
            archive: Arc::default(),
            warned: Arc::default(),
            unlisted: Arc::default(),
            loaded: Arc::default(),
        }
    }

    /// The same store with other limits of what is kept of archived jobs.
    pub fn with_archive(self, archive: ArchiveSettings) -> Self {
        Self { archive: Arc::new(archive), ..self }
    }

    /// For how long archived jobs of a queue are kept, in seconds.
    fn archive_age(&self, queue: &QueueName) -> u64 {
        let age = self.archive.of(queue).age;
        if self.clock.agree() { age.as_secs() } else { LONGEST.as_secs() }
    }

    /// Runs a queue's script and takes the store's time from its answer.
    async fn ask(
        &self,
        script: &LuaScript,
        queue: &QueueName,
        repeat: Repeat,
        arguments: impl FnMut(u32, ScriptCall) -> ScriptCall + Send,
    ) -> Result<Reply, Error> {
        self.ask_all(script, [queue].into_iter(), repeat, arguments).await
    }

    /// Runs a script that stores jobs of these queues, once and with the store's time as it is known
    /// here: for what happens now, and is compared with nothing.
    async fn promise_now<'a>(
        &self,
        script: &LuaScript,
        queues: impl Iterator<Item = &'a QueueName> + Clone + Send + Sync,
        arguments: impl Fn(ScriptCall) -> ScriptCall + Send + Sync,
    ) -> Result<Reply, Error> {
        let now = self.clock.told_lately().map(|now| now.as_micros().to_string());
        let now = now.unwrap_or_else(|| self.clock.argument());
        self.promise(script, queues, Repeat::Never, &now, |_, call| arguments(call)).await
    }

    /// Runs a script that promises its caller to keep a job: where `wait_replicas` asks for
    /// it, that many replicas have what it wrote before it counts as done.
    async fn promise<'a>(
        &self,
        script: &LuaScript,
        queues: impl Iterator<Item = &'a QueueName> + Clone + Send + Sync,
        repeat: Repeat,
        now: &str,
        mut arguments: impl FnMut(u32, ScriptCall) -> ScriptCall + Send,
    ) -> Result<Reply, Error> {
        let call = |attempt| arguments(attempt, with_keys(queues.clone()).arg(now));
        let (Some(pool), Some(first)) = (&self.confirming, queues.clone().next()) else {
            let asked = Instant::now();
            let reply = Reply::timed(self.pool.eval(script, repeat, call).await?)?;
            if now.is_empty() {
                self.clock.learn(asked, reply.now());
            }
            return Ok(reply);
        };
        // The answer waited for the replicas, so it teaches nothing about the time.
        Reply::timed(pool.eval_confirmed(script, repeat, &keys::witness(first), call).await?)
    }

    /// Runs a script of several queues, which a Cluster has not in one place.
    async fn ask_all<'a>(
        &self,
        script: &LuaScript,
        queues: impl Iterator<Item = &'a QueueName> + Clone + Send + Sync,
        repeat: Repeat,
        mut arguments: impl FnMut(u32, ScriptCall) -> ScriptCall + Send,
    ) -> Result<Reply, Error> {
        let asked = Instant::now();
        let call =
            |attempt| arguments(attempt, with_keys(queues.clone()).arg(self.clock.argument()));
        let reply = Reply::timed(self.pool.eval(script, repeat, call).await?)?;
        self.clock.learn(asked, reply.now());
        Ok(reply)
    }

    async fn command(&self, repeat: Repeat, name: &str, args: &[Vec<u8>]) -> Result<Value, Error> {
        let command = |_| {
            let mut command = ::redis::cmd(name);
            command.arg(args);
            command
        };
        self.pool.run(repeat, command).await
    }

    /// Makes queues known to Asynq's tools, unless that was done just now.
    /// Where it fails, the next job of the queue tries again.
    async fn publish(&self, queues: impl Iterator<Item = &QueueName>) {
        let fresh = |at: &Instant| at.elapsed() < REMEMBER_QUEUE;
        let new: Vec<&QueueName> = {
            let published = locked(&self.published);
            queues.filter(|queue| !published.get(*queue).is_some_and(fresh)).collect()
        };
        if new.is_empty() {
            return;
        }
        let new: Vec<QueueName> = new.into_iter().cloned().collect();
        if !self.pool.is_cluster() {
            return self.publish_names(&new).await;
        }
        // Their names are on one server, which may hang while the queue's own serves.
        let is_renewal = {
            let (mut published, now) = (locked(&self.published), Instant::now());
            let is_renewal = new.iter().all(|queue| published.contains_key(queue));
            note_published(&mut published, &new, now);
            is_renewal
        };
        let broker = self.clone();
        let publishing = tokio::spawn(async move { broker.publish_names(&new).await });
        if !is_renewal && tokio::time::timeout(PUBLISH_TIMEOUT, publishing).await.is_err() {
            crate::log::debug!("making a queue known takes long");
        }
    }

    async fn publish_names(&self, queues: &[QueueName]) {
        let names = queues.iter().map(QueueName::as_str);
        let args: Vec<_> = iter::once(keys::QUEUES).chain(names).map(Vec::from).collect();
        let error = match self.command(Repeat::Safe, "SADD", &args).await {
            Ok(_) => {
                self.unlisted.store(false, Ordering::Relaxed);
                note_published(&mut locked(&self.published), queues, Instant::now());
                return;
            }
            Err(error) => error,
        };
        if error.is_unavailable() {
            queues.iter().for_each(|queue| self.unpublish(queue));
            crate::log::debug!(?queues, ?error, "could not make queues known");
        } else {
            // They are in use, and the next job tries again. Told once.
            queues.iter().for_each(|queue| self.unpublish(queue));
            if let Some(long_ago) = Instant::now().checked_sub(REMEMBER_QUEUE) {
                note_published(&mut locked(&self.published), queues, long_ago);
            }
            if !self.unlisted.swap(true, Ordering::Relaxed) {
                crate::log::warn!(?queues, ?error, "could not make queues known");
            }
        }
    }
}

/// Remembers when the names of these queues were written.
fn note_published(published: &mut HashMap<QueueName, Instant>, queues: &[QueueName], at: Instant) {
    if published.len() >= MOST_PUBLISHED {
        published.retain(|_, at| at.elapsed() < REMEMBER_QUEUE);
    }
    if published.len() >= MOST_PUBLISHED {
        // Written once more, each with its next job.
        published.clear();
    }
    published.extend(queues.iter().map(|queue| (queue.clone(), at)));
}

impl RedisBroker {
    /// The queue's name has been removed: the next job makes it known again.
    fn unpublish(&self, queue: &QueueName) {
        locked(&self.published).remove(queue);
    }
}

impl RedisBroker {
    /// For a request that may wait until its queue has been moved.
    fn moving(&self) -> Moving {
        let most = self.pool.request_limit().saturating_sub(ANSWER_TIME);
        let pauses = (Duration::from_millis(20), Duration::from_millis(250));
        Moving { until: Instant::now() + most, backoff: Backoff::new(pauses.0, pauses.1) }
    }
}

/// A request that waits while its queue moves from one server to another: mostly that
/// takes less than a second.
struct Moving {
    until: Instant,
    backoff: Backoff,
}

impl Moving {
    /// Whether that was the error: then the request must be sent again.
    async fn passes(&mut self, error: Option<&Error>) -> bool {
        if !error.is_some_and(Error::is_moving) || Instant::now() >= self.until {
            return false;
        }
        tokio::time::sleep(self.backoff.next()).await;
        true
    }
}

fn first_error<T>(answers: &[Result<T, Error>]) -> Option<&Error> {
    answers.iter().find_map(|answer| answer.as_ref().err())
}

impl Sealed for RedisBroker {}

impl Broker for RedisBroker {
    fn enqueue_each<'a>(&'a self, jobs: &'a [NewJob]) -> Each<'a, Enqueued> {
        Box::pin(async move {
            if let [new] = jobs {
                let mut moving = self.moving();
                loop {
                    let stored =
                        self.enqueue_batched(EnqueueArgs::of(&new.record.queue, new)).await;
                    if !moving.passes(stored.as_ref().err()).await {
                        return vec![stored];
                    }
                }
            }
            let mut outcomes: Vec<_> = jobs.iter().map(|_| Err(reply::unexpected())).collect();
            // One server takes plain jobs of several queues in one call.
            let together = !self.pool.is_cluster() && jobs.iter().all(enqueue_args::is_plain);
            let queues = match together {
                true => vec![(0..jobs.len()).collect()],
                false => by_queue(jobs.iter().map(|new| &new.record.queue))
                    .into_iter()
                    .map(|(_, places)| places)
                    .collect::<Vec<Vec<usize>>>(),
            };
            let parts = |places| batches(places, |at: usize| jobs[at].record.payload_bytes().len());
            let parts: Vec<Vec<&[usize]>> = queues.iter().map(|places| parts(places)).collect();
            let orders: Vec<Order> = parts.iter().map(|parts| Order::of(parts.len())).collect();
            let (mut leading, mut following) = (Vec::new(), Vec::new());
            for (parts, order) in parts.into_iter().zip(&orders) {
                let several = parts.len() > 1;
                for (nth, part) in parts.into_iter().enumerate() {
                    let call = async move {
                        let _place = order.place(nth);
                        order.turn(nth).await;
                        // Nothing is waited for twice.
                        if let Some(error) = order.failed.get() {
                            return (part, vec![Err(not_sent(error)); part.len()]);
                        }
                        let of = |new: &NewJob| EnqueueArgs::of(&new.record.queue, new);
                        let mut some: Vec<_> = part.iter().map(|&at| of(&jobs[at])).collect();
                        if let Some(first) = some.first_mut() {
                            first.opens = several && nth == 0;
                        }
                        let mut moving = self.moving();
                        let mut stored = self.store_by_queue(&some).await;
                        while moving.passes(first_error(&stored)).await {
                            order.keep();
                            order.turn(nth).await;
                            if let Some(error) = order.failed.get() {
                                return (part, vec![Err(not_sent(error)); part.len()]);
                            }
                            stored = self.store_by_queue(&some).await;
                        }
                        // The first error stays. What one queue is refused stops no other.
                        let stops = |error: &&Error| !together || !error.is_refused();
                        let error = stored.iter().filter_map(|one| one.as_ref().err()).find(stops);
                        if let Some(error) = error {
                            let _ = order.failed.set(error.clone());
                        }
                        (part, stored)
                    };
                    if nth == 0 { leading.push(call) } else { following.push(call) }
                }
            }
            // They leave in their order on one connection, and the answers are waited
            // for together. Where there may be no connection yet, a queue's first call goes
            // ahead: those who wait for it would be overtaken. A confirmed call has a
            // connection for itself, so the order is kept by sending one at a time.
            let side_by_side = if self.confirming.is_some() { 1 } else { SIDE_BY_SIDE };
            let mut stored = Vec::new();
            if !self.loaded.load(Ordering::Relaxed) {
                let first = stream::iter(leading.drain(..)).buffered(side_by_side);
                stored = first.collect().await;
            }
            let calls = leading.into_iter().chain(following).collect::<Vec<_>>();
            let calls = stream::iter(calls).buffered(side_by_side);
            stored.extend(calls.collect::<Vec<_>>().await);
            for (places, stored) in stored {
                for (&at, one) in places.iter().zip(stored) {
                    outcomes[at] = one;
                }
            }
            outcomes
        })
    }

    fn dequeue<'a>(&'a self, queues: &'a [QueueName], most: usize) -> Answer<'a, Dequeued> {
        Box::pin(async move { self.exchange_all(&[], queues, most).await.dequeued })
    }

    fn settle<'a>(&'a self, what: &'a [(Delivery, Transition)]) -> Answer<'a, Vec<Settled>> {
        Box::pin(async move { self.exchange_all(what, &[], 0).await.settled.into_iter().collect() })
    }

    fn exchange<'a>(
        &'a self,
        ended: &'a [(Delivery, Transition)],
        queues: &'a [QueueName],
        most: usize,
    ) -> Pin<Box<dyn Future<Output = ExchangeReply> + Send + 'a>> {
        Box::pin(self.exchange_all(ended, queues, most))
    }

    fn extend<'a>(&'a self, leases: &'a [Lease]) -> Answer<'a, Vec<Extended>> {
        Box::pin(async move {
            let groups = by_queue(leases.iter().map(|lease| &lease.queue));
            // All at once: where one is not answered, the others do not wait for it.
            let calls = groups.iter().flat_map(|(queue, places)| {
                places.chunks(BATCH).map(move |places| async move {
                    let some: Vec<&Lease> = places.iter().map(|&at| &leases[at]).collect();
                    (*queue, places, self.extend_some(queue, &some).await)
                })
            });
            let mut outcomes = vec![Extended::Unknown; leases.len()];
            let (mut any, mut failure) = (false, None);
            for (queue, places, asked) in join_all(calls).await {
                match asked {
                    Ok(some) => {
                        any = true;
                        for (&at, one) in places.iter().zip(some) {
                            outcomes[at] = one;
                        }
                    }
                    Err(error) if error.is_moving() => {
                        any = true;
                        places.iter().for_each(|&at| outcomes[at] = Extended::Moving);
                    }
                    Err(error) => {
                        crate::log::debug!(%queue, ?error, "could not extend leases");
                        failure = Some(error);
                    }
                }
            }
            match failure {
                Some(error) if !any => Err(error),
                _ => Ok(outcomes),
            }
        })
    }

    fn next_due<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<Option<Duration>>> {
        Box::pin(async move {
            if self.pool.is_cluster() {
                // They are in many places.
                return Ok(vec![Some(Duration::ZERO); queues.len()]);
            }
            let mut all = Vec::with_capacity(queues.len());
            for some in queues.chunks(MOST_LOOKS) {
                let mut reply = self
                    .ask_all(&SCRIPTS.next_due, some.iter(), Repeat::Safe, |_, call| call)
                    .await?;
                for queue in some {
                    let wait = u64::try_from(reply.int()?).ok().map(Duration::from_micros);
                    let due = wait.map(|wait| reply.now() + wait);
                    self.wake.next_is(queue, due);
                    all.push(due.map(|due| due.since(self.clock.now())));
                }
            }
            Ok(all)
        })
    }

    fn forward<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, Forwarded> {
        Box::pin(async move {
            let limit = limit.clamp(1, 1000);
            let add = |_, call: ScriptCall| call.arg(limit).arg(CROWDED).arg(micros(CROWDED_PAUSE));
            let mut asked = pin!(self.ask(&SCRIPTS.forward_due, queue, Repeat::Safe, add));
            // Where jobs are known to be due, whoever waits for some asks right behind
            // this, on the same connection, and need not hear of it from Redis first.
            let due = self.wake.is_due(queue, self.clock.now() + SOON);
            let mut reply = match poll!(asked.as_mut()) {
                Poll::Ready(reply) => reply?,
                Poll::Pending => {
                    if due {
                        self.arrived.notify_waiters();
                    }
                    asked.await?
                }
            };
            let moved = reply.size()? as usize;
            let wait = u64::try_from(reply.int()?).ok().map(Duration::from_micros);
            let ready = reply.int()? == 1;
            let mut old = Vec::new();
            while !reply.is_empty() {
                old.push(reply.id()?);
            }
            if let Some(first) = old.first() {
                crate::log::warn!(
                    %queue, jobs = old.len(), first = %first.as_str(),
                    "archived jobs that an Asynq before 0.18 wrote: run them from the archive, \
                     or migrate what is left with `asynq migrate`"
                );
            }
            // Counted from when the script ran, not from when its answer came.
            let due = wait.map(|wait| reply.now() + wait);
            let next = due.map(|due| due.since(self.clock.now()));
            self.wake.next_is(queue, due);
            Ok(Forwarded { moved, next, ready })
        })
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

    fn expire<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize> {
        Box::pin(async move {
            let mut reply = self
                .ask(&SCRIPTS.delete_expired, queue, Repeat::Safe, |_, call| {
                    call.arg(limit.clamp(1, 1000))
                })
                .await?;
            Ok(reply.size()? as usize)
        })
    }

    fn wait<'a>(&'a self, queues: &'a [QueueName], at_most: Duration) -> Answer<'a, ()> {
        Box::pin(async move {
            if queues.is_empty() || queues.len() > MOST_PEEKS {
                let arrived = self.arrived.notified();
                // Both ends of the wait mean the same to the caller: look again.
                let _ = tokio::time::timeout(at_most.min(POLL), arrived).await;
                return Ok(());
            }
            let found = async {
                tokio::select! {
                    found = self.peeks.any(&self.pool, queues) => found,
                    () = self.arrived.notified() => Ok(()),
                }
            };
            match tokio::time::timeout(at_most, found).await {
                Ok(Ok(())) | Err(_) => {}
                // Not permitted, out of memory, read-only, too old, or not there:
                // the dequeue that follows will say so where it matters.
                Ok(Err(error)) => {
                    if error.is_refused() && !self.warned.swap(true, Ordering::Relaxed) {
                        crate::log::warn!(
                            ?error,
                            "cannot block on the queues; looking every 250 ms"
                        );
                    }
                    tokio::time::sleep(at_most.min(POLL)).await;
                }
            }
            Ok(())
        })
    }

    fn due_changed(&self) -> Answer<'_, Vec<QueueName>> {
        Box::pin(async move { Ok(self.wake.changed(&self.pool).await) })
    }

    fn announce<'a>(&'a self, who: &'a Announcement) -> Answer<'a, ()> {
        Box::pin(self.announce_presence(who))
    }

    fn retire<'a>(&'a self, who: &'a Announcement) -> Answer<'a, ()> {
        Box::pin(self.retire_presence(who))
    }

    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(self.pool.ping())
    }

    fn bind_key<'a>(
        &'a self,
        key: &'a str,
        queue: &'a QueueName,
        kept: Duration,
    ) -> Answer<'a, KeyBinding> {
        Box::pin(async move {
            let name = keys::queue_of_key(key).into_bytes();
            let kept = kept.as_secs().to_string().into_bytes();
            let words = [name.clone(), queue.as_str().into(), b"NX".to_vec(), b"EX".to_vec(), kept];
            if self.command(Repeat::Safe, "SET", &words).await? != Value::Nil {
                return Ok(KeyBinding { queue: queue.clone(), is_new: true });
            }
            let bound = match self.command(Repeat::Safe, "GET", &[name]).await? {
                Value::BulkString(found) => QueueName::new(String::from_utf8_lossy(&found))?,
                // It ended in between.
                _ => queue.clone(),
            };
            Ok(KeyBinding { queue: bound, is_new: false })
        })
    }

    fn release_key<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let name = keys::queue_of_key(key).into_bytes();
            self.command(Repeat::Never, "DEL", &[name]).await.map(drop)
        })
    }

    fn unknown_format(&self) -> Answer<'_, Option<String>> {
        Box::pin(self.check_format())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn detached(&self) -> Arc<dyn Broker> {
        // What one of them did not hear of is what the other asks about next.
        Arc::new(Self {
            clock: Arc::clone(&self.clock),
            process: Arc::clone(&self.process),
            unconfirmed_dequeues: Arc::clone(&self.unconfirmed_dequeues),
            unconfirmed_settles: Arc::clone(&self.unconfirmed_settles),
            // A queue that the other call removed must be registered again.
            published: Arc::clone(&self.published),
            archive: Arc::clone(&self.archive),
            ..Self::new(self.pool.detached(), Clock::system())
        })
    }

    fn prompt(&self) -> Arc<dyn Broker> {
        Arc::new(Self { pool: Arc::new(self.pool.prompt()), ..self.clone() })
    }

    fn describe(&self) -> String {
        self.pool.describe()
    }
}

/// The places of each queue's items, queues and places in the order they came.
fn by_queue<'a>(names: impl Iterator<Item = &'a QueueName>) -> Vec<(&'a QueueName, Vec<usize>)> {
    let mut groups: Vec<(&QueueName, Vec<usize>)> = Vec::new();
    let mut known = HashMap::new();
    for (at, name) in names.enumerate() {
        match groups.last_mut() {
            // Neighbours are mostly alike.
            Some((queue, places)) if *queue == name => places.push(at),
            _ => {
                let group = *known.entry(name).or_insert(groups.len());
                match groups.get_mut(group) {
                    Some((_, places)) => places.push(at),
                    None => groups.push((name, vec![at])),
                }
            }
        }
    }
    groups
}

/// A call with the keys of these queues.
fn with_keys<'a>(queues: impl Iterator<Item = &'a QueueName>) -> ScriptCall {
    queues.fold(ScriptCall::new(), |call, queue| call.key(keys::pending(queue)))
}

/// What is said of jobs that stayed here because those before them failed so.
fn not_sent(before: &Error) -> Error {
    if before.is_outcome_unknown() {
        return Error::unavailable("not sent: the store did not answer to the jobs before");
    }
    before.clone()
}

/// The places in parts that one script call takes, by number and size.
fn batches(places: &[usize], size: impl Fn(usize) -> usize) -> Vec<&[usize]> {
    let mut parts = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (at, &place) in places.iter().enumerate() {
        let size = size(place);
        if at > begin && (at - begin == BATCH || bytes + size > BATCH_BYTES) {
            parts.push(&places[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += size;
    }
    if begin < places.len() {
        parts.push(&places[begin..]);
    }
    parts
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.min(LONGEST).as_micros()).unwrap_or(i64::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
