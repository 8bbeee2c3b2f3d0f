//! A test queue without a Rocket application: its handlers, state and settings, and its start.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::{TestQueue, TestQueueInner};
use crate::broker::Viewer;
use crate::broker::memory::MemoryBroker;
use crate::chance::Chance;
use crate::config::JobQueueConfig;
use crate::job::{JobContext, JobError, JobOptions, RetryPolicy, UndecodableJobs, UnknownJobs};
use crate::registry::{AppState, IntoEntry, Registry, raw_entry};
use crate::runtime::{Runtime, TestDriver};
use crate::sync::lock;
use crate::time::{Clock, Timestamp};
use crate::web::JobQueue;
use crate::worker::WorkerSettings;

/// A queue without a Rocket application: handlers and state are added until it is first used.
pub(super) enum QueueStage {
    Building { registry: Registry, state: AppState, retry: RetryPolicy },
    Started(JobQueue),
}

impl TestQueue {
    /// A queue without an application. Its clock starts at the system's time, and it serves
    /// all queues.
    pub fn new() -> Self {
        Self::starting_at(Clock::system().now())
    }

    /// The same with the clock at an instant, for tests that depend on the calendar.
    pub fn starting_at(start: impl Into<Timestamp>) -> Self {
        let building = QueueStage::Building {
            registry: Registry::default(),
            state: AppState::default(),
            retry: RetryPolicy::default(),
        };
        Self::made(Clock::manual(start.into()), Some(Mutex::new(building)))
    }

    pub(super) fn made(clock: Clock, plain: Option<Mutex<QueueStage>>) -> Self {
        let broker = MemoryBroker::new(clock.clone());
        broker.keep_record();
        Self(Arc::new(TestQueueInner {
            clock,
            broker,
            driver: TestDriver::new(Chance::none()),
            plain,
            faults: Mutex::default(),
            vanished: Mutex::default(),
            driving: tokio::sync::Mutex::default(),
        }))
    }

    /// Runs jobs of a type with this function, as
    /// [`JobQueueFairing::handle`](crate::JobQueueFairing::handle) does.
    ///
    /// # Panics
    /// If the type has a handler already, or the queue is in use.
    #[track_caller]
    pub fn handle<M>(self, handler: impl IntoEntry<M>) -> Self {
        self.building(|registry, _, _| {
            if let Err(error) = registry.add(handler.entry()) {
                panic!("{error}");
            }
        })
    }

    /// Runs jobs of a type without a Rust type, as
    /// [`JobQueueFairing::handle_raw`](crate::JobQueueFairing::handle_raw) does.
    ///
    /// # Panics
    /// If the type has a handler already, or the queue is in use.
    #[track_caller]
    pub fn handle_raw<F, Fut, E>(self, job_type: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Vec<u8>, JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Vec<u8>>, E>> + Send + 'static,
        E: Into<JobError>,
    {
        let entry = raw_entry(job_type.into(), JobOptions::new(), handler);
        self.building(|registry, _, _| {
            if let Err(error) = registry.add(entry) {
                panic!("{error}");
            }
        })
    }

    /// Adds a value for handlers with a [`Managed<T>`](crate::Managed) argument. The
    /// [`JobQueue`] itself is always available.
    ///
    /// # Panics
    /// If the queue is in use already.
    #[track_caller]
    pub fn manage<T: Clone + Send + Sync + 'static>(self, value: T) -> Self {
        self.building(|_, state, _| state.put(value))
    }

    /// Sets how long failed jobs wait. Default: Asynq's formula at its shortest.
    ///
    /// # Panics
    /// If the queue is in use already.
    #[track_caller]
    pub fn retry_policy(self, policy: RetryPolicy) -> Self {
        self.building(|_, _, retry| *retry = policy)
    }

    /// Changes the set-up. Panics once the queue is in use, and if an application has it.
    #[track_caller]
    fn building(self, change: impl FnOnce(&mut Registry, &mut AppState, &mut RetryPolicy)) -> Self {
        match self.plain().as_deref_mut() {
            Some(QueueStage::Building { registry, state, retry }) => change(registry, state, retry),
            Some(QueueStage::Started(_)) => {
                panic!("the test queue is in use: set it up before the first job")
            }
            None => panic!("the application's fairing has the handlers and settings"),
        }
        self
    }

    fn plain(&self) -> Option<MutexGuard<'_, QueueStage>> {
        self.0.plain.as_ref().map(lock)
    }

    /// The handle for code that takes a [`JobQueue`], without an application.
    ///
    /// # Panics
    /// With an application, whose handle is `rocket.state::<JobQueue>()`; and if a handler
    /// needs state that is not managed.
    #[track_caller]
    pub fn queue(&self) -> JobQueue {
        let Some(mut plain) = self.plain() else {
            panic!("the application has the handle: `rocket.state::<JobQueue>()`");
        };
        let (registry, mut state, retry) = match &mut *plain {
            QueueStage::Started(queue) => return queue.clone(),
            QueueStage::Building { registry, state, retry } => {
                (std::mem::take(registry), std::mem::take(state), std::mem::take(retry))
            }
        };
        let needs = registry.needs();
        let settings = WorkerSettings {
            concurrency: 1,
            concurrency_max: 1,
            queues: [].into(),
            strict_priority: true,
            shutdown_timeout: Duration::ZERO,
            heartbeat: Duration::MAX,
            retry,
            unknown: UnknownJobs::default(),
            undecodable: UndecodableJobs::default(),
            settled: Vec::new(),
            viewer: Viewer::default(),
            version: None,
        };
        let config = JobQueueConfig::default();
        let broker = Arc::new(self.0.broker.clone());
        let runtime = Runtime::new(broker, registry, Some(settings), config.max_payload)
            .driven_by(self.0.driver.clone());
        let queue = JobQueue::new(runtime, config);
        state.put(queue.clone());
        if let Some(need) = needs.iter().find(|need| !state.has(need)) {
            panic!("a handler names `Managed<{need:?}>`: add `.manage(…)` with one");
        }
        queue.runtime().start(state);
        *plain = QueueStage::Started(queue.clone());
        queue
    }
}
