//! Runs jobs: takes them, executes their handlers, settles what came of it, and
//! keeps the leases alive. When jobs become due is the scheduler's affair.

mod dispatcher;
mod execute;
mod heartbeat;
mod in_flight;
mod in_flight_job;
mod launcher;
mod order;
mod progress;
mod pulse;
mod settle;
mod stall;
mod suspects;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::{Broker, Delivery, LEASE, Viewer};
use crate::job::{JobContext, Outcome, QueueName, RetryPolicy, Transition, UnknownJobs};
use crate::registry::{Registry, State};
use crate::sync::lock;
use dispatcher::Outbox;
use in_flight::InFlight;
use launcher::Launcher;
use pulse::Pulse;
use settle::Road;
use stall::Stall;
use suspects::Suspects;

/// How long settling may take after the running jobs were interrupted.
const LAST_WORDS: Duration = Duration::from_millis(900);

/// What is told of every attempt that was settled.
pub(crate) type SettledHook = Arc<dyn Fn(&JobContext, &Transition) + Send + Sync>;

/// How a worker works.
#[derive(Clone)]
pub(crate) struct WorkerSettings {
    /// Most jobs at a time.
    pub concurrency: usize,
    /// Queue → priority.
    pub queues: BTreeMap<QueueName, u32>,
    /// Whether a queue is served only while those of higher priority are empty.
    pub strict_priority: bool,
    /// How long running jobs may go on at shutdown.
    pub shutdown_timeout: Duration,
    /// How often leases are extended and the worker is announced.
    pub heartbeat: Duration,
    /// How long failed jobs wait whose type says nothing else.
    pub retry: RetryPolicy,
    /// What becomes of jobs that no handler takes.
    pub unknown: UnknownJobs,
    /// Called in this order.
    pub settled: Vec<SettledHook>,
    /// Who reads the log.
    pub viewer: Viewer,
}

/// What the parts of a worker share.
struct Shared {
    broker: Arc<dyn Broker>,
    registry: Registry,
    state: Arc<State>,
    settings: WorkerSettings,
    in_flight: InFlight,
    outbox: Outbox,
    launcher: Launcher,
    stall: Stall,
    pulse: Pulse,
    suspects: Suspects,
    permits: Arc<Semaphore>,
    /// As many again, for jobs that have ended and cannot be settled for now.
    unsettled: Arc<Semaphore>,
    tasks: TaskTracker,
    /// No more fetching.
    stop: CancellationToken,
    /// Running handlers end now.
    interrupt: CancellationToken,
    /// Settlements that still fail are left to the lease.
    give_up: CancellationToken,
    /// A test runs the jobs, and each run is to be the same.
    by_hand: bool,
}

/// A worker at work. Stopping it is [`Worker::drain`]; dropping it interrupts
/// what runs and puts it back in line, without waiting.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    heartbeat: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Worker {
    /// Starts fetching and the heartbeat.
    pub(crate) fn start(
        broker: Arc<dyn Broker>,
        registry: Registry,
        state: Arc<State>,
        settings: WorkerSettings,
    ) -> Self {
        let worker = Self::idle(broker, registry, state, settings, false);
        let shared = &worker.shared;
        *lock(&worker.heartbeat) = heartbeat::start(Arc::clone(shared));
        shared.tasks.spawn(dispatcher::run(Arc::clone(shared)));
        worker
    }

    /// A worker that does nothing by itself, see [`Worker::run`], and nothing by
    /// chance.
    pub(crate) fn by_hand(
        broker: Arc<dyn Broker>,
        registry: Registry,
        state: Arc<State>,
        settings: WorkerSettings,
    ) -> Self {
        Self::idle(broker, registry, state, settings, true)
    }

    fn idle(
        broker: Arc<dyn Broker>,
        registry: Registry,
        state: Arc<State>,
        settings: WorkerSettings,
        by_hand: bool,
    ) -> Self {
        let shared = Arc::new(Shared {
            in_flight: InFlight::default(),
            outbox: Outbox::default(),
            launcher: Launcher::default(),
            stall: Stall::default(),
            pulse: Pulse::default(),
            suspects: Suspects::default(),
            permits: Arc::new(Semaphore::new(settings.concurrency)),
            unsettled: Arc::new(Semaphore::new(settings.concurrency)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            interrupt: CancellationToken::new(),
            give_up: CancellationToken::new(),
            by_hand,
            broker,
            registry,
            state,
            settings,
        });
        Self { shared, heartbeat: Mutex::new(None) }
    }

    /// Runs one job to its end and settles it; what became of it, unless its
    /// lease was lost. An outcome that is given takes the place of the handler.
    pub(crate) async fn run(
        &self,
        delivery: Delivery,
        given: Option<Outcome>,
    ) -> Option<Transition> {
        let (shared, holds_until) = (&self.shared, Instant::now() + LEASE);
        let guard = shared.in_flight.accept_alone(&delivery, holds_until, &shared.interrupt)?;
        let ended = execute::to_its_end(shared, delivery, guard, given).await?;
        Some(ended.alone(shared, Road::Own).await)
    }

    /// Whether this worker runs no jobs any more, and will not by itself.
    pub(crate) fn is_stuck(&self) -> bool {
        self.shared.pulse.is_stuck()
    }

    /// Stops fetching, lets running jobs finish within the shutdown timeout,
    /// requeues the rest without counting an attempt, and takes the
    /// announcement back. Returns how many jobs had to be interrupted.
    pub(crate) async fn drain(&self) -> usize {
        let shared = &self.shared;
        shared.stop.cancel();
        shared.tasks.close();
        let timeout = shared.settings.shutdown_timeout;
        let mut interrupted = 0;
        if tokio::time::timeout(timeout, shared.tasks.wait()).await.is_err() {
            interrupted = shared.in_flight.len();
            shared.interrupt.cancel();
            if tokio::time::timeout(LAST_WORDS, shared.tasks.wait()).await.is_err() {
                shared.give_up.cancel();
            }
        }
        shared.give_up.cancel();
        let thread = lock(&self.heartbeat).take();
        if let Some(thread) = thread {
            // The thread ends within its own bound; waiting for it is blocking.
            let joined = tokio::task::spawn_blocking(move || thread.join());
            if tokio::time::timeout(LAST_WORDS, joined).await.is_err() {
                crate::log::debug!("the heartbeat did not end in time");
            }
        }
        interrupted
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without a heartbeat a running job would lose its lease and run twice.
        self.shared.stop.cancel();
        self.shared.interrupt.cancel();
        self.shared.give_up.cancel();
    }
}
