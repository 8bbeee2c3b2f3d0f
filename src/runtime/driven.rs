//! A queue whose worker and scheduler a test drives: no loop runs, and no thread.
//!
//! An application under test launches as usual, with its own fairing and handlers. Where
//! [`Runtime::start`](super::Runtime::start) would start loops, it puts their parts into the
//! [`TestDriver`] instead, and the test queue of [`crate::testing`] takes them from there to run
//! one job, or one tick, at a time. Ids and jitter are drawn from the driver's own chance, so that
//! two runs of a test are alike.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::chance::Chance;
use crate::client::Client;
use crate::job::QueueName;
use crate::scheduler::{Aggregation, PeriodicService};
use crate::sync::lock;
use crate::worker::Worker;

/// Gives a test the parts that it drives instead of the worker, between the start of
/// the queue and the end of the application. Clones share them.
#[derive(Clone)]
pub(crate) struct TestDriver {
    parts: Arc<Mutex<Option<Arc<Driven>>>>,
    pub(super) chance: Chance,
}

/// The parts of a queue whose worker and scheduler are driven by a test.
pub(crate) struct Driven {
    /// Enqueues with consecutive ids.
    pub(crate) client: Client,
    /// `None` in a process that only enqueues.
    pub(crate) worker: Option<Worker>,
    /// `None` in a process that does not fire periodic jobs.
    pub(crate) periodic: Option<PeriodicService>,
    /// `None` if this process aggregates no groups.
    pub(crate) aggregation: Option<Aggregation>,
    /// Queues to serve, highest weight first. Empty means all queues.
    pub(crate) queues: Vec<QueueName>,
    /// What the worker draws from.
    pub(crate) chance: Chance,
    /// The application's own runtime.
    pub(crate) tokio: Option<tokio::runtime::Handle>,
}

impl TestDriver {
    /// Nothing has started yet.
    pub(crate) fn new(chance: Chance) -> Self {
        Self { parts: Arc::default(), chance }
    }

    pub(super) fn slot(&self) -> MutexGuard<'_, Option<Arc<Driven>>> {
        lock(&self.parts)
    }

    /// The parts; `None` before the start and after the end.
    pub(crate) fn driven(&self) -> Option<Arc<Driven>> {
        self.slot().clone()
    }
}
