//! The store in this process: the contract's executable specification, and what
//! tests and the first minute with this crate run on. It keeps nothing across a
//! restart; that is what Redis is for.

mod actions;
mod admission;
mod control;
mod doctor;
mod entries;
mod expiring;
mod groups;
mod inspect;
mod list;
mod queue;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast};

use super::{
    Announcement, Answer, ArchiveSettings, Broker, Delivery, Dequeued, Each, Enqueued,
    ExchangeReply, ExpiredLeases, Extended, Forwarded, KeyBinding, Lease, Sealed, Settled,
};
use crate::job::{JobId, NewJob, QueueName, Transition};
use crate::time::{Clock, Timestamp};
use entries::EntryBook;
use expiring::Expiring;
use queue::Queue;

/// How long an announcement stands; a worker repeats it every 5 s.
const ANNOUNCED_FOR: Duration = Duration::from_secs(10);

/// A store that lives as long as its handles. Cloning shares it.
#[derive(Clone)]
pub struct MemoryBroker {
    clock: Clock,
    archive: Arc<ArchiveSettings>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Never held over an await.
    state: Mutex<State>,
    /// A queue has more to give than before.
    arrived: Notify,
    /// A queue has a job that is due earlier than all that were known.
    due: Notify,
    /// What was stored, where somebody wants to know.
    record: Mutex<Option<Vec<Recorded>>>,
    /// Jobs that somebody wants cancelled.
    cancelled: broadcast::Sender<JobId>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            arrived: Notify::new(),
            due: Notify::new(),
            record: Mutex::default(),
            cancelled: broadcast::Sender::new(64),
        }
    }
}

/// A job that was stored.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// As it was handed in.
    pub job: NewJob,
    /// When that was.
    pub at: Timestamp,
    /// When it is due.
    pub due: Timestamp,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<QueueName, Queue>,
    announced: Expiring<Announcement>,
    /// How many suspects run.
    suspects: usize,
    entries: EntryBook,
    /// To which queue requests with an idempotency key go.
    queues_of_keys: Expiring<QueueName>,
}

impl MemoryBroker {
    /// An empty store that tells time by `clock`.
    pub fn new(clock: Clock) -> MemoryBroker {
        Self { clock, archive: Arc::default(), shared: Arc::default() }
    }

    /// The same store with other limits of what is kept of archived jobs.
    pub fn with_archive(self, archive: ArchiveSettings) -> MemoryBroker {
        Self { archive: Arc::new(archive), ..self }
    }

    /// Keeps a record of all jobs stored from now on.
    pub fn keep_record(&self) {
        self.record().get_or_insert_default();
    }

    /// All jobs stored since the record was begun, in order.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.record().clone().unwrap_or_default()
    }

    /// Adds a job that was stored to the record, if one is kept.
    fn note(&self, job: &NewJob, enqueued: &Enqueued, at: Timestamp) {
        if let Enqueued::Created { due, .. } = *enqueued
            && let Some(record) = &mut *self.record()
        {
            record.push(Recorded { job: job.clone(), at, due });
        }
    }

    fn record(&self) -> MutexGuard<'_, Option<Vec<Recorded>>> {
        self.shared.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave a queue half changed that a later call trips over.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts on a queue at this instant, and wakes those whom the change concerns.
    fn act<T>(&self, name: &QueueName, act: impl FnOnce(&mut Queue, Timestamp) -> T) -> T {
        let mut state = self.state();
        let now = self.clock.now();
        let new = || Queue::keeping(self.archive.of(name), self.archive.release_lock);
        let queue = state.queues.entry(name.clone()).or_insert_with(new);
        let (available, due) = (queue.available(), queue.next_due());
        let answer = act(queue, now);
        if queue.available() > available {
            self.shared.arrived.notify_waiters();
        }
        if queue.next_due().is_some_and(|new| due.is_none_or(|old| new < old)) {
            // All who wait now, and one who is about to.
            self.shared.due.notify_waiters();
            self.shared.due.notify_one();
        }
        answer
    }

    /// Looks at a queue; `None` where it was never used.
    fn look<T>(&self, name: &QueueName, look: impl FnOnce(&Queue, Timestamp) -> T) -> Option<T> {
        let state = self.state();
        state.queues.get(name).filter(|queue| queue.used()).map(|q| look(q, self.clock.now()))
    }

    fn any_available(&self, queues: &[QueueName]) -> bool {
        let state = self.state();
        queues.iter().any(|name| state.queues.get(name).is_some_and(|q| q.available() > 0))
    }
}

impl Sealed for MemoryBroker {}

impl Broker for MemoryBroker {
    fn enqueue_each<'a>(&'a self, jobs: &'a [NewJob]) -> Each<'a, Enqueued> {
        Box::pin(async move {
            let store = |job: &NewJob| {
                self.act(&job.record.queue, |q, now| {
                    let enqueued = q.enqueue(job, now);
                    self.note(job, &enqueued, now);
                    enqueued
                })
            };
            jobs.iter().map(|job| Ok(store(job))).collect()
        })
    }

    fn dequeue<'a>(&'a self, queues: &'a [QueueName], most: usize) -> Answer<'a, Dequeued> {
        Box::pin(async move {
            let mut dequeued = Dequeued::default();
            for name in queues {
                self.act(name, |queue, _| {
                    let steady = self.clock.steady();
                    if queue.withholds() {
                        dequeued.paused.push(name.clone());
                    }
                    while dequeued.deliveries.len() < most {
                        let Some(delivery) = queue.dequeue(steady) else { break };
                        dequeued.deliveries.push(delivery);
                    }
                });
            }
            Ok(dequeued)
        })
    }

    fn settle<'a>(&'a self, what: &'a [(Delivery, Transition)]) -> Answer<'a, Vec<Settled>> {
        Box::pin(async move {
            let settle = |(delivery, transition): &(Delivery, Transition)| {
                self.act(&delivery.lease.queue, |queue, now| {
                    queue.settle(delivery, transition, now)
                })
            };
            Ok(what.iter().map(settle).collect())
        })
    }

    fn exchange<'a>(
        &'a self,
        ended: &'a [(Delivery, Transition)],
        queues: &'a [QueueName],
        most: usize,
    ) -> Pin<Box<dyn Future<Output = ExchangeReply> + Send + 'a>> {
        Box::pin(async move {
            let settled = match self.settle(ended).await {
                Ok(settled) => settled.into_iter().map(Ok).collect(),
                Err(error) => ended.iter().map(|_| Err(error.clone())).collect(),
            };
            ExchangeReply { settled, dequeued: self.dequeue(queues, most).await }
        })
    }

    fn extend<'a>(&'a self, leases: &'a [Lease]) -> Answer<'a, Vec<Extended>> {
        Box::pin(async move {
            let extend =
                |lease: &Lease| self.act(&lease.queue, |q, _| q.extend(lease, self.clock.steady()));
            Ok(leases.iter().map(extend).collect())
        })
    }

    fn next_due<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<Option<Duration>>> {
        let next = |queue| self.look(queue, |q, now| q.next_due().map(|due| due.since(now)));
        Box::pin(async move { Ok(queues.iter().map(|queue| next(queue).flatten()).collect()) })
    }

    fn forward<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, Forwarded> {
        Box::pin(async move { Ok(self.act(queue, |q, now| q.forward(limit, now))) })
    }

    fn expired_leases<'a>(
        &'a self,
        queue: &'a QueueName,
        limit: usize,
        skip: usize,
    ) -> Answer<'a, ExpiredLeases> {
        Box::pin(async move {
            // Timed by a clock that nobody sets.
            let at = None;
            if self.look(queue, |_, _| ()).is_none() {
                return Ok(ExpiredLeases { at, ..ExpiredLeases::default() });
            }
            let (steady, suspects) = (self.clock.steady(), self.state().suspects);
            let jobs = self.act(queue, |q, _| q.expired_leases(limit, skip, suspects, steady));
            let more = jobs.len() == limit;
            Ok(ExpiredLeases { jobs, more, at, ..ExpiredLeases::default() })
        })
    }

    fn begin_suspect<'a>(&'a self, lease: &'a Lease, running: usize) -> Answer<'a, bool> {
        Box::pin(async move {
            self.state().suspects = running;
            Ok(self.act(&lease.queue, |q, _| q.begin_suspect(lease)))
        })
    }

    fn end_suspect(&self, running: usize) -> Answer<'_, ()> {
        Box::pin(async move {
            self.state().suspects = running;
            Ok(())
        })
    }

    fn expire<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize> {
        Box::pin(async move { Ok(self.act(queue, |q, now| q.expire(limit, now))) })
    }

    fn wait<'a>(&'a self, queues: &'a [QueueName], at_most: Duration) -> Answer<'a, ()> {
        Box::pin(async move {
            let available = async {
                loop {
                    let mut arrived = std::pin::pin!(self.shared.arrived.notified());
                    // Listen before looking, so that nothing arrives in between.
                    arrived.as_mut().enable();
                    if self.any_available(queues) {
                        return;
                    }
                    arrived.await;
                }
            };
            // Both ends of the wait mean the same to the caller: look again.
            let _ = tokio::time::timeout(at_most, available).await;
            Ok(())
        })
    }

    fn due_changed(&self) -> Answer<'_, Vec<QueueName>> {
        Box::pin(async move {
            self.shared.due.notified().await;
            Ok(Vec::new())
        })
    }

    fn announce<'a>(&'a self, who: &'a Announcement) -> Answer<'a, ()> {
        Box::pin(async move {
            let now = self.clock.now();
            let until = now + ANNOUNCED_FOR;
            let mut state = self.state();
            // As in Redis, where an operator sees a worker's queues before its first job.
            for name in who.queues.keys() {
                let new = || Queue::keeping(self.archive.of(name), self.archive.release_lock);
                state.queues.entry(name.clone()).or_insert_with(new).publish();
            }
            state.announced.insert(who.server_id.clone(), who.clone(), until, now);
            Ok(())
        })
    }

    fn retire<'a>(&'a self, who: &'a Announcement) -> Answer<'a, ()> {
        Box::pin(async move {
            self.state().announced.remove(&who.server_id);
            Ok(())
        })
    }

    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn bind_key<'a>(
        &'a self,
        key: &'a str,
        queue: &'a QueueName,
        kept: Duration,
    ) -> Answer<'a, KeyBinding> {
        Box::pin(async move {
            let (mut state, now) = (self.state(), self.clock.now());
            if let Some(first) = state.queues_of_keys.get(key, now) {
                return Ok(KeyBinding { queue: first.clone(), is_new: false });
            }
            state.queues_of_keys.insert(key.to_owned(), queue.clone(), now + kept, now);
            Ok(KeyBinding { queue: queue.clone(), is_new: true })
        })
    }

    fn release_key<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        self.state().queues_of_keys.remove(key);
        Box::pin(std::future::ready(Ok(())))
    }

    fn unknown_format(&self) -> Answer<'_, Option<String>> {
        // Written by this very process.
        Box::pin(std::future::ready(Ok(None)))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn detached(&self) -> Arc<dyn Broker> {
        Arc::new(self.clone())
    }

    fn prompt(&self) -> Arc<dyn Broker> {
        self.detached()
    }

    fn describe(&self) -> String {
        "in this process's memory".to_owned()
    }
}
