//! Runs jobs: dequeues them, executes their handlers, settles their outcomes and keeps
//! their leases alive. Making due jobs pending is the scheduler's task.
//!
//! A job passes through these modules:
//!
//! 1. [`dispatcher`] dequeues it into a free slot, in the queue [`order`] of priorities.
//! 2. [`in_flight`] registers it with its lease ([`in_flight_job`]).
//! 3. [`launcher`] starts its handler; [`suspects`] delays it if it may be what kills
//!    processes.
//! 4. [`execute`] runs the attempt and decides its transition; [`progress`] writes what
//!    the running job reports.
//! 5. [`outbox`] holds the finished job until the dispatcher settles it ([`settle`]).
//!
//! The heartbeat has a thread and a runtime of its own, so that handlers which block every
//! thread of the application lose no lease. It renews leases and announces the worker
//! ([`heartbeat`]), hears cancel requests, and steps in for the dispatcher while the
//! application's runtime stands still ([`stall`]). [`pulse`] shows health checks whether
//! both loops still run.
//!
//! An operator may change some settings while the worker runs: [`live`] and [`slots`].
//!
//! Shutdown has three steps, each with its own token in [`WorkerShared`]: stop dequeuing, after
//! the shutdown timeout interrupt running handlers, and finally leave what cannot be
//! settled to its lease.

mod dispatcher;
mod execute;
mod heartbeat;
mod in_flight;
mod in_flight_job;
mod launcher;
mod live;
mod order;
mod outbox;
mod progress;
mod pulse;
mod settle;
mod slots;
mod stall;
mod suspects;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::{Broker, Delivery, LEASE, Viewer, host_name};
use crate::chance::Chance;
use crate::job::{
    AppVersion, JobContext, Outcome, QueueName, RetryPolicy, Transition, UndecodableJobs,
    UnknownJobs,
};
use crate::registry::{AppState, Registry};
use crate::sync::lock;
use in_flight::InFlight;
use launcher::Launcher;
use live::Live;
use outbox::Outbox;
use pulse::Pulse;
use settle::Road;
use slots::Slots;
use stall::Stall;
use suspects::Suspects;

/// How long settling may take after the running jobs were interrupted, and how long the
/// heartbeat's thread may take to end.
const INTERRUPTED_TIMEOUT: Duration = Duration::from_millis(900);

/// A hook of the application, called after an attempt was settled.
pub(crate) type SettledHook = Arc<dyn Fn(&JobContext, &Transition) + Send + Sync>;

/// Worker settings.
#[derive(Clone)]
pub(crate) struct WorkerSettings {
    /// Maximum concurrent jobs: the number of slots.
    pub concurrency: usize,
    /// The highest number of slots that an operator may set while the worker runs.
    pub concurrency_max: usize,
    /// Queues with their weights. A weight of 0 means that the queue is not served.
    pub queues: BTreeMap<QueueName, u32>,
    /// Whether a queue is served only while all queues of higher weight are empty.
    pub strict_priority: bool,
    /// How long running jobs may go on at shutdown before they are interrupted.
    pub shutdown_timeout: Duration,
    /// How often leases are extended and the worker is announced.
    pub heartbeat: Duration,
    /// Retry policy of job types that define none.
    pub retry: RetryPolicy,
    /// What happens to jobs of a type without a handler.
    pub unknown: UnknownJobs,
    /// What happens to jobs whose payload the handler of their type cannot decode.
    pub undecodable: UndecodableJobs,
    /// Hooks after each settlement, called in this order.
    pub settled: Vec<SettledHook>,
    /// What the log may show of errors and results.
    pub viewer: Viewer,
    /// The application's version, which failures and announcements name.
    pub version: Option<AppVersion>,
}

/// State that the parts of a worker share.
struct WorkerShared {
    broker: Arc<dyn Broker>,
    registry: Registry,
    state: Arc<AppState>,
    settings: WorkerSettings,
    /// This process, as failures name it: `host:pid`.
    process: Arc<str>,
    in_flight: InFlight,
    outbox: Outbox,
    launcher: Launcher,
    stall: Stall,
    pulse: Pulse,
    suspects: Suspects,
    /// What may change while the worker runs.
    live: Live,
    /// At first `concurrency` slots.
    slots: Slots,
    /// Every task of the worker, so that shutdown can wait for all.
    tasks: TaskTracker,
    /// Dequeuing has ended.
    stop: CancellationToken,
    /// Running handlers are to end now.
    interrupt: CancellationToken,
    /// Jobs that still cannot be settled are left to their lease.
    give_up: CancellationToken,
    /// Draws the order of queues and the jitter of retries.
    chance: Chance,
}

/// A running worker. [`Worker::drain`] stops it. Dropping it interrupts running jobs,
/// which become pending again, and does not wait for that.
pub(crate) struct Worker {
    shared: Arc<WorkerShared>,
    heartbeat: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Worker {
    /// Starts the dispatcher and the heartbeat.
    pub(crate) fn start(
        broker: Arc<dyn Broker>,
        registry: Registry,
        state: Arc<AppState>,
        settings: WorkerSettings,
    ) -> Self {
        let worker = Self::idle(broker, registry, state, settings, Chance::system());
        let shared = &worker.shared;
        *lock(&worker.heartbeat) = heartbeat::start(Arc::clone(shared));
        shared.tasks.spawn(dispatcher::run(Arc::clone(shared)));
        worker
    }

    /// A worker without loops: each job is run by [`Worker::run`].
    pub(crate) fn idle(
        broker: Arc<dyn Broker>,
        registry: Registry,
        state: Arc<AppState>,
        settings: WorkerSettings,
        chance: Chance,
    ) -> Self {
        let shared = Arc::new(WorkerShared {
            in_flight: InFlight::default(),
            outbox: Outbox::default(),
            launcher: Launcher::default(),
            stall: Stall::default(),
            pulse: Pulse::default(),
            suspects: Suspects::default(),
            live: Live::new(&settings),
            slots: Slots::new(settings.concurrency),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            interrupt: CancellationToken::new(),
            give_up: CancellationToken::new(),
            chance,
            broker,
            registry,
            state,
            settings,
            process: format!("{}:{}", host_name(), std::process::id()).into(),
        });
        Self { shared, heartbeat: Mutex::new(None) }
    }

    /// Runs one job to its end and settles it. Returns its transition, or `None` if its
    /// lease was lost. If an outcome is `given`, the handler is not called.
    pub(crate) async fn run(
        &self,
        delivery: Delivery,
        given: Option<Outcome>,
    ) -> Option<Transition> {
        let (shared, holds_until) = (&self.shared, Instant::now() + LEASE);
        let guard = shared.in_flight.accept_alone(&delivery, holds_until, &shared.interrupt)?;
        let ended = execute::run_to_end(shared, delivery, guard, given).await?;
        Some(ended.alone(shared, Road::Own).await)
    }

    /// Whether one of the worker's loops is stuck, so that it runs no jobs.
    pub(crate) fn is_stuck(&self) -> bool {
        self.shared.pulse.is_stuck()
    }

    /// Stops dequeuing, lets running jobs finish within the shutdown timeout, requeues the rest
    /// without counting an attempt, and withdraws the worker's announcement. Returns how many
    /// jobs had to be interrupted.
    ///
    /// It takes at most the shutdown timeout and twice [`INTERRUPTED_TIMEOUT`]. Jobs that could
    /// not be settled by then run again when their lease has expired.
    pub(crate) async fn drain(&self) -> usize {
        let shared = &self.shared;
        shared.stop.cancel();
        shared.tasks.close();
        let timeout = shared.settings.shutdown_timeout;
        let mut interrupted = 0;
        if tokio::time::timeout(timeout, shared.tasks.wait()).await.is_err() {
            interrupted = shared.in_flight.len();
            shared.interrupt.cancel();
            if tokio::time::timeout(INTERRUPTED_TIMEOUT, shared.tasks.wait()).await.is_err() {
                shared.give_up.cancel();
            }
        }
        shared.give_up.cancel();
        let thread = lock(&self.heartbeat).take();
        if let Some(thread) = thread {
            // The thread ends by itself; joining it blocks, so a blocking thread does it.
            let joined = tokio::task::spawn_blocking(move || thread.join());
            if tokio::time::timeout(INTERRUPTED_TIMEOUT, joined).await.is_err() {
                crate::log::debug!("the heartbeat did not end within {INTERRUPTED_TIMEOUT:?}");
            }
        }
        interrupted
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The heartbeat ends too, and a job that went on would lose its lease and run twice.
        self.shared.stop.cancel();
        self.shared.interrupt.cancel();
        self.shared.give_up.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings with these slots and queues.
    pub(super) fn settings(
        concurrency: usize,
        concurrency_max: usize,
        queues: &[(&str, u32)],
    ) -> WorkerSettings {
        let queues = queues.iter().map(|(name, weight)| (QueueName::stored(name), *weight));
        WorkerSettings {
            concurrency,
            concurrency_max,
            queues: queues.collect(),
            strict_priority: false,
            shutdown_timeout: Duration::ZERO,
            heartbeat: Duration::from_secs(5),
            retry: RetryPolicy::default(),
            unknown: UnknownJobs::Park,
            undecodable: UndecodableJobs::Park,
            settled: Vec::new(),
            viewer: Viewer::default(),
            version: None,
        }
    }
}
