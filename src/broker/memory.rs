//! The store in this process' memory: the executable specification of the contract,
//! and the store of tests and first steps. It keeps nothing across a restart; use
//! Redis for that.
//!
//! One mutex guards all queues. Each operation locks it, acts on one queue through
//! `MemoryBroker::act` and wakes the waiters whom the change concerns; the lock is
//! never held over an await. The rules of a queue are plain data in `queue`, without
//! clock, waiting or waking, so they read like the contract.
//!
//! What may surprise. Times come from the injected [`Clock`]; leases count by its
//! steady time, which a test cannot set back. Whole seconds are kept wherever Asynq
//! keeps whole seconds, so that both stores answer alike. A queue exists once a job
//! was enqueued or a worker announced it, as in Redis.

mod actions;
mod audit;
mod changes;
mod control;
mod doctor;
mod expiring;
mod groups;
mod inspect;
mod late;
mod leases;
mod limits;
mod list;
mod periodic;
mod persist;
mod queue;
mod restore;
mod settle;
mod standing;
mod successor;
mod transfer;
mod type_stats;
mod unique;
mod workers;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, broadcast};

use super::disk::{Journal, Level, Rows};
use super::{
    Announcement, Answer, ArchiveSettings, Broker, Dequeued, Each, Enqueued, ExchangeReply,
    ExpiredLeases, Extended, Forwarded, KeyBinding, Lease, Sealed, SettleRequest, Settled,
    WorkerRequests,
};
use crate::error::Error;
use crate::job::{JobId, NewJob, QueueName};
use crate::sync::lock;
use crate::time::{Clock, Timestamp};
use audit::AuditState;
use expiring::Expiring;
use periodic::PeriodicState;
use queue::Queue;
use type_stats::TypeStatsState;
use workers::AskedChanges;

/// How long an announcement is valid; a worker repeats it every 5 s.
const ANNOUNCED_FOR: Duration = Duration::from_secs(10);

/// A store that lives as long as its handles. Cloning shares it.
#[derive(Clone)]
pub struct MemoryBroker {
    clock: Clock,
    archive: Arc<ArchiveSettings>,
    shared: Arc<MemoryStore>,
    /// Where changes are kept, if they are.
    journal: Option<Arc<DiskJournal>>,
}

/// The journal of a store on disk.
struct DiskJournal {
    journal: Journal,
    /// The folder, as the store describes itself.
    description: String,
    /// The owner numbers of this process are higher: no lease of an earlier one fits.
    first_owner: u64,
}

/// Without the stored jobs.
impl std::fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryBroker")
    }
}

/// What all handles of a store share.
struct MemoryStore {
    /// Never held over an await.
    state: Mutex<StoreState>,
    /// Notified when a queue has more jobs to dequeue than before.
    arrived: Notify,
    /// Notified when a queue has a job that is due earlier than all before.
    due: Notify,
    /// All jobs stored, if a test asked for a record.
    record: Mutex<Option<Vec<Recorded>>>,
    /// Ids of jobs with a new cancel request.
    cancelled: broadcast::Sender<JobId>,
}

impl Default for MemoryStore {
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
    /// The job as it was enqueued.
    pub job: NewJob,
    /// When it was enqueued.
    pub at: Timestamp,
    /// When it is due.
    pub due: Timestamp,
}

/// Everything that the mutex guards.
#[derive(Default)]
struct StoreState {
    /// All queues, also those that do not exist yet for readers.
    queues: BTreeMap<QueueName, Queue>,
    /// Announced worker processes by id.
    announced: Expiring<Announcement>,
    /// What operators ask of them.
    asked: AskedChanges,
    /// The number of suspects in flight.
    suspects: usize,
    /// Announced periodic jobs and their history.
    periodic: PeriodicState,
    /// The queue of the requests with each idempotency key.
    queues_of_keys: Expiring<QueueName>,
    /// Statistics by job type, of each namespace.
    type_stats: BTreeMap<String, TypeStatsState>,
    /// What operators did.
    audit: AuditState,
}

impl MemoryBroker {
    /// An empty store with this clock.
    pub fn new(clock: Clock) -> MemoryBroker {
        Self { clock, archive: Arc::default(), shared: Arc::default(), journal: None }
    }

    /// The same store with other limits on archived jobs.
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
        let (id, due) = match enqueued {
            Enqueued::Created { due, .. } => (&job.record.id, *due),
            Enqueued::Replaced { id, due, .. } => (id, *due),
            _ => return,
        };
        if let Some(record) = &mut *self.record() {
            let mut job = job.clone();
            job.record.id = id.clone();
            record.push(Recorded { job, at, due });
        }
    }

    /// The record of stored jobs, if one is kept.
    fn record(&self) -> MutexGuard<'_, Option<Vec<Recorded>>> {
        lock(&self.shared.record)
    }

    /// Locks the store.
    fn state(&self) -> MutexGuard<'_, StoreState> {
        // A panic cannot leave a queue half changed.
        lock(&self.shared.state)
    }

    /// Acts on a queue at this instant, and wakes the tasks that wait for such a change.
    fn act<T>(&self, name: &QueueName, act: impl FnOnce(&mut Queue, Timestamp) -> T) -> T {
        let mut state = self.state();
        let now = self.clock.now();
        let queue = state.queues.entry(name.clone()).or_insert_with(|| self.new_queue(name));
        let (available, due) = (queue.available(), queue.next_due());
        let answer = act(queue, now);
        queue.admit_waiting(now);
        self.keep(|rows| queue.write_changes(name, rows));
        if queue.available() > available {
            self.shared.arrived.notify_waiters();
        }
        if queue.next_due().is_some_and(|new| due.is_none_or(|old| new < old)) {
            // All that wait now, and one that is about to.
            self.shared.due.notify_waiters();
            self.shared.due.notify_one();
        }
        answer
    }

    /// A queue without jobs.
    fn new_queue(&self, name: &QueueName) -> Queue {
        let mut queue = Queue::keeping(self.archive.of(name), self.archive.release_lock);
        if let Some(disk) = &self.journal {
            queue.begin_owners(disk.first_owner);
            queue.watch();
        }
        queue
    }

    /// Writes what changed, if it is kept. The store is locked meanwhile.
    fn keep(&self, write: impl FnOnce(&mut Rows)) {
        if let Some(disk) = &self.journal {
            disk.journal.add(write);
        }
    }

    /// Whether changes are accepted: a journal may have failed, or have no room for new jobs.
    fn accepts(&self, level: Level) -> Result<(), Error> {
        self.journal.as_ref().map_or(Ok(()), |disk| disk.journal.accepts(level))
    }

    /// Waits until what was changed is safe, if it is kept.
    async fn saved(&self, level: Level) -> Result<(), Error> {
        match &self.journal {
            None => Ok(()),
            Some(disk) => disk.journal.saved(level).await,
        }
    }

    /// Dequeues without waiting until that is safe. Also says whether anything changed: a job that
    /// expires is archived and not delivered.
    fn take(&self, queues: &[QueueName], at_most: usize) -> (Dequeued, bool) {
        let (mut dequeued, mut expired) = (Dequeued::default(), false);
        for name in queues {
            self.act(name, |queue, _| {
                let (now, steady) = (self.clock.now(), self.clock.steady());
                if queue.withholds() {
                    dequeued.paused.push(name.clone());
                }
                let archived = queue.archived.len();
                while dequeued.deliveries.len() < at_most {
                    let Some(delivery) = queue.dequeue(now, steady) else { break };
                    dequeued.deliveries.push(delivery);
                }
                expired |= queue.archived.len() != archived;
            });
        }
        let changed = expired || !dequeued.deliveries.is_empty();
        (dequeued, changed)
    }

    /// Reads a queue; `None` if it does not exist.
    fn look<T>(&self, name: &QueueName, look: impl FnOnce(&Queue, Timestamp) -> T) -> Option<T> {
        let state = self.state();
        state.queues.get(name).filter(|queue| queue.used()).map(|q| look(q, self.clock.now()))
    }

    /// Records the number of suspects in flight.
    fn count_suspects(&self, running: usize) {
        let mut state = self.state();
        state.suspects = running;
        self.keep(|rows| persist::write_suspects(running, rows));
    }

    /// Binds a key to this queue, unless it is bound.
    fn bind(&self, key: &str, queue: &QueueName, kept: Duration) -> KeyBinding {
        let (mut state, now) = (self.state(), self.clock.now());
        let keys = &mut state.queues_of_keys;
        if let Some(first) = keys.get(key, now) {
            return KeyBinding { queue: first.clone(), is_new: false };
        }
        keys.insert(key.to_owned(), queue.clone(), now + kept, now);
        self.keep(|rows| persist::write_key_queues(keys, rows));
        KeyBinding { queue: queue.clone(), is_new: true }
    }

    /// Whether one of the queues has a job to dequeue.
    fn any_available(&self, queues: &[QueueName]) -> bool {
        let state = self.state();
        queues.iter().any(|name| state.queues.get(name).is_some_and(|q| q.available() > 0))
    }
}

impl Sealed for MemoryBroker {}

impl Broker for MemoryBroker {
    /// Each job is stored or refused separately; Redis batches them.
    fn enqueue_each<'a>(&'a self, jobs: &'a [NewJob]) -> Each<'a, Enqueued> {
        Box::pin(async move {
            let store = |job: &NewJob| {
                self.act(&job.record.queue, |q, now| {
                    let enqueued = q.enqueue(job, now);
                    self.note(job, &enqueued, now);
                    enqueued
                })
            };
            if let Err(error) = self.accepts(Level::NewJobs) {
                return jobs.iter().map(|_| Err(error.clone())).collect();
            }
            let stored: Vec<Enqueued> = jobs.iter().map(store).collect();
            let saved = self.saved(Level::NewJobs).await;
            stored.into_iter().map(|stored| saved.clone().map(|()| stored)).collect()
        })
    }

    /// Locks one queue at a time, so that two workers share the jobs of many queues.
    fn dequeue<'a>(&'a self, queues: &'a [QueueName], at_most: usize) -> Answer<'a, Dequeued> {
        Box::pin(async move {
            self.accepts(Level::Written)?;
            let (dequeued, changed) = self.take(queues, at_most);
            if changed {
                self.saved(Level::Written).await?;
            }
            Ok(dequeued)
        })
    }

    /// Settles first, so that the slots of settled jobs are free. The caller counts them in
    /// `at_most`; nothing else is needed, since a settlement cannot stay unanswered.
    fn exchange<'a>(
        &'a self,
        requests: &'a [&'a SettleRequest],
        queues: &'a [QueueName],
        at_most: usize,
    ) -> Pin<Box<dyn Future<Output = ExchangeReply> + Send + 'a>> {
        Box::pin(async move {
            let settle = |request: &SettleRequest| {
                let queue = &request.delivery.lease.queue;
                self.act(queue, |queue, now| queue.settle(request, now))
            };
            let refused = |error: Error| ExchangeReply {
                settled: requests.iter().map(|_| Err(error.clone())).collect(),
                dequeued: Err(error.clone()),
            };
            if let Err(error) = self.accepts(Level::Durable) {
                return refused(error);
            }
            let settled: Vec<Settled> = requests.iter().map(|request| settle(request)).collect();
            let (dequeued, changed) = self.take(queues, at_most);
            let saved = match (settled.is_empty(), changed) {
                (true, false) => Ok(()),
                (true, true) => self.saved(Level::Written).await,
                (false, _) => self.saved(Level::Durable).await,
            };
            match saved {
                Ok(()) => ExchangeReply {
                    settled: settled.into_iter().map(Ok).collect(),
                    dequeued: Ok(dequeued),
                },
                Err(error) => refused(error),
            }
        })
    }

    /// The steady clock counts, which cannot be set back.
    fn extend<'a>(&'a self, leases: &'a [Lease]) -> Answer<'a, Vec<Extended>> {
        Box::pin(async move {
            let extend = |lease: &Lease| {
                self.act(&lease.queue, |q, now| q.extend(lease, self.clock.steady(), now))
            };
            Ok(leases.iter().map(extend).collect())
        })
    }

    /// An unknown queue has no job that is due.
    fn next_due<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<Option<Duration>>> {
        let next = |queue| self.look(queue, |q, now| q.next_due().map(|due| due.since(now)));
        Box::pin(async move { Ok(queues.iter().map(|queue| next(queue).flatten()).collect()) })
    }

    /// Wakes waiting workers through [`MemoryBroker::act`].
    fn forward<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, Forwarded> {
        Box::pin(async move { Ok(self.act(queue, |q, now| q.forward(limit, now))) })
    }

    /// No message can be unreadable here, so nothing is removed or stuck.
    fn expired_leases<'a>(
        &'a self,
        queue: &'a QueueName,
        limit: usize,
        skip: usize,
    ) -> Answer<'a, ExpiredLeases> {
        Box::pin(async move {
            // The steady clock cannot be set.
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

    /// Records the number first, as in Redis: a reader of the started suspect must find the
    /// number too.
    fn begin_suspect<'a>(&'a self, lease: &'a Lease, running: usize) -> Answer<'a, bool> {
        Box::pin(async move {
            self.count_suspects(running);
            let begins = self.act(&lease.queue, |q, _| q.begin_suspect(lease));
            // If it kills this process, the next one has to know.
            self.saved(Level::Written).await?;
            Ok(begins)
        })
    }

    /// Only the number changes; the job was settled before.
    fn end_suspect(&self, running: usize) -> Answer<'_, ()> {
        Box::pin(async move {
            self.count_suspects(running);
            Ok(())
        })
    }

    fn delete_expired<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize> {
        Box::pin(async move { Ok(self.act(queue, |q, now| q.expire(limit, now))) })
    }

    /// Nothing: only this process works on the store, and its janitor records the queues that it
    /// serves.
    fn record_minute<'a>(&'a self, _: &'a QueueName) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Any queue with a job ends the wait. Redis blocks on the same queues with one connection
    /// each.
    fn wait<'a>(&'a self, queues: &'a [QueueName], at_most: Duration) -> Answer<'a, ()> {
        Box::pin(async move {
            let available = async {
                loop {
                    let mut arrived = std::pin::pin!(self.shared.arrived.notified());
                    // Register before looking, so that no job arrives unnoticed.
                    arrived.as_mut().enable();
                    if self.any_available(queues) {
                        return;
                    }
                    arrived.await;
                }
            };
            // After a timeout the caller checks again as well.
            let _ = tokio::time::timeout(at_most, available).await;
            Ok(())
        })
    }

    /// Names no queue, so that the forwarder checks all of them.
    fn due_changed(&self) -> Answer<'_, Vec<QueueName>> {
        Box::pin(async move {
            self.shared.due.notified().await;
            Ok(Vec::new())
        })
    }

    /// Announced queues exist for readers, even without jobs.
    fn announce<'a>(&'a self, who: &'a Announcement) -> Answer<'a, WorkerRequests> {
        Box::pin(async move {
            let now = self.clock.now();
            let until = now + ANNOUNCED_FOR;
            let mut state = self.state();
            // As in Redis, an announced queue exists before its first job.
            for name in who.queues.keys() {
                let queue =
                    state.queues.entry(name.clone()).or_insert_with(|| self.new_queue(name));
                queue.publish();
                self.keep(|rows| queue.write_changes(name, rows));
            }
            state.announced.insert(who.server_id.clone(), who.clone(), until, now);
            Ok(state.asked.of(who, now))
        })
    }

    /// Only the announcement goes; its queues stay.
    fn retire<'a>(&'a self, who: &'a Announcement) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut state = self.state();
            state.announced.remove(&who.server_id);
            state.asked.forget(&who.server_id);
            Ok(())
        })
    }

    /// The store is always there, unless the disk failed.
    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(self.accepts(Level::Durable)))
    }

    /// The first caller decides the queue until the binding expires.
    fn bind_key<'a>(
        &'a self,
        key: &'a str,
        queue: &'a QueueName,
        kept: Duration,
    ) -> Answer<'a, KeyBinding> {
        Box::pin(async move {
            self.accepts(Level::NewJobs)?;
            let binding = self.bind(key, queue, kept);
            self.saved(Level::NewJobs).await?;
            Ok(binding)
        })
    }

    fn release_key<'a>(&'a self, key: &'a str, queue: &'a QueueName) -> Answer<'a, ()> {
        Box::pin(async move {
            let (mut state, now) = (self.state(), self.clock.now());
            if !state.queues.get(queue).is_some_and(|queue| queue.has_stored_for(key, now)) {
                state.queues_of_keys.remove(key);
                self.keep(|rows| persist::write_key_queues(&mut state.queues_of_keys, rows));
            }
            Ok(())
        })
    }

    /// The data was written by this process, so its format is known.
    fn unknown_format(&self) -> Answer<'_, Option<String>> {
        // The data was written by this process.
        Box::pin(std::future::ready(Ok(None)))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Handles share everything, and no runtime owns the store.
    fn detached(&self) -> Arc<dyn Broker> {
        Arc::new(self.clone())
    }

    /// Nothing here hangs, so every handle is prompt.
    fn prompt(&self) -> Arc<dyn Broker> {
        self.detached()
    }

    fn describe(&self) -> String {
        match &self.journal {
            None => "in this process's memory".to_owned(),
            Some(disk) => disk.description.clone(),
        }
    }
}
