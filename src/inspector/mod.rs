//! What an operator asks and does: the operations that REST, the dashboard and an application's own
//! code share. The client enqueues, the worker runs jobs.
//!
//! One file for each kind of question: [`lists`] and `servers` read, [`actions`] and [`control`]
//! change, `workers` changes processes while they
//! run, [`explain`] says why a job is not running, [`doctor`] checks whether the store is sound,
//! and [`periodic`] covers periodic jobs. An inspector for viewers hides what the application
//! redacts (`Viewer`); the application's own sees everything. None of it is on the hot path, and
//! every public method says what it costs the store.

mod actions;
mod alerts;
mod audit;
mod control;
mod doctor;
mod explain;
mod found;
mod limits;
mod lists;
pub(crate) mod moment;
mod periodic;
pub(crate) mod search;
mod servers;
mod types;
mod workers;

use std::sync::Arc;

use crate::broker::{Broker, GroupLimits, JobInfo, QueueInfo, Viewer};
use crate::error::Error;
use crate::job::{JobId, JobState, QueueName};
use crate::time::Timestamp;

pub use actions::{Bulk, BulkProgress};
#[cfg(feature = "dashboard")]
pub(crate) use alerts::Window;
pub use alerts::{Alert, AlertRule, AlertSettings, AlertSince, AlertUnit, Alerts};
pub(crate) use alerts::{AlertWatch, Found};
pub use control::Cancelled;
pub use doctor::{DoctorReport, DoctorRun};
#[cfg(feature = "dashboard")]
pub(crate) use explain::Span;
pub(crate) use explain::{At, Short};
pub use explain::{Explanation, Reason};
pub use found::FoundRows;
pub(crate) use lists::Filter;
#[cfg(feature = "dashboard")]
pub(crate) use lists::bytes_of;
pub use types::{JobTypeDetail, JobTypeSummary, JobTypes, TypeFigures, TypePoint, TypeTimes};
pub use workers::WorkerUpdate;

/// Reads queues and jobs, and acts on them from outside their handlers.
///
/// Obtained from [`JobQueue::inspector`](crate::JobQueue::inspector). Cloning is
/// cheap; all clones share the store. Every method states its cost for the store.
#[derive(Clone)]
pub struct Inspector {
    broker: Arc<dyn Broker>,
    max_payload: usize,
    viewer: Viewer,
    /// When this process aggregates a group, if it does.
    group_limits: Option<GroupLimits>,
}

impl Inspector {
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, max_payload: usize::MAX, viewer: Viewer::default(), group_limits: None }
    }

    /// The same inspector, with a maximum size in bytes for payloads that it writes.
    pub(crate) fn with_max_payload(self, max_payload: usize) -> Self {
        Self { max_payload, ..self }
    }

    /// The same inspector, which knows when this process aggregates a group.
    pub(crate) fn with_group_limits(self, group_limits: Option<GroupLimits>) -> Self {
        Self { group_limits, ..self }
    }

    /// The same inspector for this viewer.
    pub(crate) fn shown_to(self, viewer: Viewer) -> Self {
        Self { viewer, ..self }
    }

    /// The queues of all applications in this store, each under its stored name (`shop:default`).
    ///
    /// For an application with a [namespace](crate::JobQueueFairing::namespace), whose inspectors
    /// otherwise know its own queues only, as `default`. Without a namespace this is the same
    /// inspector. REST and pages never use it: who may see an application's jobs is decided
    /// by its own guards, which say nothing about the jobs of others.
    ///
    /// ```
    /// # use rocket_jobqueue::{Error, Inspector};
    /// async fn jobs_in_this_redis(inspector: &Inspector) -> Result<u64, Error> {
    ///     let queues = inspector.all_namespaces().all_queues().await?;
    ///     Ok(queues.iter().filter_map(|queue| queue.info.as_ref()).map(|info| info.size).sum())
    /// }
    /// ```
    pub fn all_namespaces(&self) -> Self {
        match self.broker.all_namespaces() {
            Some(broker) => Self { broker, ..self.clone() },
            None => self.clone(),
        }
    }

    /// The store's time, as far as this process knows it.
    pub(crate) fn now(&self) -> Timestamp {
        self.broker.now()
    }

    /// Names of all queues, in order. One command per 500 queues.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn queues(&self) -> Result<Vec<QueueName>, Error> {
        self.broker.queues().await
    }

    /// Sizes and counters of a queue, and how long its next job has waited. A
    /// command and a script concurrently, O(1); one more script per 1,000 groups, at most 12.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such queue.
    pub async fn queue(&self, queue: &QueueName) -> Result<QueueInfo, Error> {
        self.broker.queue(queue).await
    }

    /// One job with its state; `None` if there is none, such as a completed job
    /// without retention. One script, O(log n), and another
    /// for a unique job; for an active one, a command per worker process.
    ///
    /// # Errors
    /// [`Error::is_damaged`] if its message or state cannot be read, and errors
    /// of the store.
    pub async fn job(&self, queue: &QueueName, id: &JobId) -> Result<Option<JobInfo>, Error> {
        Ok(self.broker.job(queue, id).await?.map(|info| self.viewer.job(info)))
    }

    /// The state of each of these jobs; `None` for one that does not exist, such as a completed
    /// job without retention. Cheaper than reading the jobs: one command each, all of them in one
    /// round trip.
    ///
    /// # Errors
    /// Errors of the store; also if one of the keys holds another type.
    ///
    /// ```
    /// # use rocket_jobqueue::{Error, Inspector, JobId, JobState, QueueName};
    /// async fn ended(jobs: &Inspector, queue: &QueueName, ids: &[JobId]) -> Result<usize, Error> {
    ///     let states = jobs.states(queue, ids).await?;
    ///     let waits = |state| matches!(state, JobState::Pending | JobState::Active);
    ///     Ok(states.into_iter().filter(|state| !state.is_some_and(waits)).count())
    /// }
    /// ```
    pub async fn states(
        &self,
        queue: &QueueName,
        ids: &[JobId],
    ) -> Result<Vec<Option<JobState>>, Error> {
        self.broker.states(queue, ids).await
    }

    /// Pauses a queue: workers dequeue no more jobs from it. Enqueuing and jobs in flight
    /// are not affected. Returns whether the queue was not paused before. One command.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn pause(&self, queue: &QueueName) -> Result<bool, Error> {
        self.broker.pause(queue, true).await
    }

    /// Resumes a paused queue. Returns whether it was paused. One command.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn resume(&self, queue: &QueueName) -> Result<bool, Error> {
        self.broker.pause(queue, false).await
    }
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inspector({})", self.broker.describe())
    }
}
