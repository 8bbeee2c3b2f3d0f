//! The producer's side: a value becomes a stored job. Running it is the worker's part, and
//! everything about HTTP belongs to the web layer.
//!
//! A [`Draft`] is a job without a store, an [`Enqueue`] is one with a [`Client`]. Awaiting an
//! `Enqueue` checks all values, sends the job, and turns the store's answer into a [`Receipt`]
//! or an error. [`EnqueueAll`] does the same for many jobs with few round trips, and `confirm`
//! asks again if an answer was lost.

mod aggregate;
mod bulk;
mod change;
mod confirm;
mod enqueue;
mod receipt;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::broker::Broker;
use crate::chance::Chance;
use crate::error::Error;
use crate::job::{Job, MaxWaiting, NewJob, Periodic, QueueName};
use crate::trace::Trace;

pub(crate) use aggregate::Aggregate;
pub use bulk::EnqueueAll;
pub(crate) use bulk::PreparedJob;
pub use enqueue::{Draft, Enqueue};
pub use receipt::Receipt;

/// The default of the largest payload: 1 MiB.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// Enqueues jobs. Cloning is cheap; all clones share the store.
#[derive(Clone)]
pub struct Client {
    broker: Arc<dyn Broker>,
    /// Set once, at shutdown.
    closed: Arc<AtomicBool>,
    /// In bytes.
    max_payload: usize,
    /// How many jobs may wait, by queue.
    max_waiting: Arc<BTreeMap<QueueName, MaxWaiting>>,
    /// The trace of new jobs, instead of the trace of the job that enqueues them.
    trace: Option<Trace>,
    /// Draws the ids of new jobs.
    chance: Chance,
}

impl Client {
    pub(crate) fn new(broker: Arc<dyn Broker>, max_payload: usize) -> Self {
        Self {
            broker,
            closed: Arc::default(),
            max_payload,
            max_waiting: Arc::default(),
            trace: None,
            chance: Chance::system(),
        }
    }

    /// Bounds the jobs that wait in these queues.
    pub(crate) fn with_max_waiting(self, bounds: BTreeMap<QueueName, MaxWaiting>) -> Self {
        Self { max_waiting: Arc::new(bounds), ..self }
    }

    /// Draws ids from this chance.
    pub(crate) fn with_chance(self, chance: Chance) -> Self {
        Self { chance, ..self }
    }

    /// The same producer, whose jobs belong to this trace.
    pub(crate) fn in_trace(&self, trace: Option<Trace>) -> Self {
        Self { trace, ..self.clone() }
    }

    /// Its store.
    pub(crate) fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.broker)
    }

    pub(crate) fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Refuses every enqueue from now on, by all clones. The first step of closing the queue: a
    /// job that is enqueued later would get no answer.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// # Errors
    /// [`Error::is_closed`] after [`close`](Self::close).
    fn expect_open(&self) -> Result<(), Error> {
        if self.is_closed() {
            return Err(Error::closed("the job queue has been closed"));
        }
        Ok(())
    }

    /// Prepares a job of a type; await it to store it.
    pub fn enqueue<J: Job>(&self, job: J) -> Enqueue {
        Draft::new(job).by(self.clone())
    }

    /// Prepares a job by type and bytes, for job types this process has no Rust
    /// type of. `None` and empty bytes differ in the unique lock only, as in Go.
    pub fn enqueue_raw(&self, job_type: impl Into<String>, payload: Option<Vec<u8>>) -> Enqueue {
        Draft::raw(job_type, payload).by(self.clone())
    }

    /// What a periodic job enqueues at each tick, except that each tick has an id of its own.
    ///
    /// # Errors
    /// As for an enqueue: [`Error::is_invalid`] for a value out of its domain.
    pub(crate) fn template(&self, periodic: &Periodic) -> Result<NewJob, Error> {
        let draft = Draft::raw(periodic.job_type(), periodic.payload()?);
        let draft = draft.options(periodic.all_options()).on_conflict(periodic.on_conflict());
        let with = |draft: Draft, (name, value): &(String, String)| draft.header(name, value);
        periodic.headers().iter().fold(draft, with).build(self.max_payload)
    }

    /// Prepares many jobs of any types, queues and options; await it to store
    /// them, each with an answer of its own. See [`EnqueueAll`].
    pub fn enqueue_all<I>(&self, jobs: I) -> EnqueueAll
    where
        I: IntoIterator,
        I::Item: Into<Draft>,
    {
        EnqueueAll::new(self.clone(), jobs.into_iter().map(Into::into).collect())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.broker.describe())
    }
}
