//! The job queue of one process: starts and drains the worker and the services, without any
//! web server.
//!
//! [`Runtime::start`] may be called before the store can be reached. It starts the worker with
//! its [scheduler](crate::scheduler) if the process has one, the services of periodic jobs,
//! and two tasks that watch the store: one asks every second whether it answers, which decides
//! readiness; the other checks every few seconds whether it keeps jobs at all
//! ([`store_check`]).
//!
//! [`Runtime::shutdown`] drains: dequeuing stops, running jobs get the shutdown timeout, the
//! rest is requeued. Enqueuing works until [`Runtime::close`]. All operations may be repeated.
//!
//! The web folder owns a `Runtime` and calls it: `check_store` at ignition, `start` at liftoff,
//! `shutdown` and `close` at the end. Nothing here knows Rocket, so a process without a web server
//! works the same.
//!
//! Four kinds of connections exist side by side, because large or slow replies of one must not
//! delay another: the application's own for enqueuing, `aside` for pages and REST, `prompt` for the
//! loops of worker and scheduler, and the heartbeat's. On the memory store they are all the same.
//!
//! What may surprise:
//! - *Ready* means that the store answered within the last [3 s](store_health), not that a request would
//!   succeed now. It is answered from memory, so a load balancer's probe costs the store nothing.
//! - A store that cannot be reached at launch does not stop the launch, because processes and
//!   Redis may start together. A store that answers and is unsuitable does: it would lose jobs.
//! - In a test the worker is [driven by the test](TestDriver): no loop runs, and no task checks
//!   the store.

mod audit_log;
mod declared_limits;
mod driven;
mod store_check;
mod store_health;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::{AuditEntry, Broker, GroupLimits, Inspect};
use crate::chance::Chance;
use crate::client::{Aggregate, Client};
use crate::error::Error;
use crate::inspector::{AlertSettings, AlertWatch, Inspector};
use crate::job::{MaxWaiting, QueueName};
use crate::registry::{AppState, Registry};
use crate::scheduler::{
    Aggregation, PeriodicJobs, PeriodicService, PeriodicServices, Scheduler, TypeReporter,
    record_minutes,
};
use crate::sync::lock;
use crate::time::Timestamp;
use crate::worker::{Worker, WorkerSettings};
use audit_log::AuditLog;
pub(crate) use declared_limits::DeclaredLimit;
use declared_limits::DeclaredLimits;
pub(crate) use driven::{Driven, TestDriver};
use store_check::StoreCheck;
use store_health::{StoreHealth, look, watch};

/// How long the first check of readiness waits for the store. Shorter than the timeout of any
/// usual probe, so that the answer is "not ready" rather than none.
const FIRST_PROBE_TIMEOUT: Duration = Duration::from_millis(200);

/// The parts of a job queue. All operations may be repeated, and called concurrently.
pub(crate) struct Runtime {
    /// The store.
    broker: Arc<dyn Broker>,
    /// The same store on connections for readers, so that their large replies do not delay the
    /// application's calls.
    aside: OnceLock<Arc<dyn Broker>>,
    /// Enqueues. Works before the start, and until [`close`](Self::close).
    client: Client,
    /// The handlers of this process.
    registry: Registry,
    /// `None` in a process that only enqueues.
    settings: Option<WorkerSettings>,
    /// The periodic jobs of this process, also if others fire them.
    periodic: PeriodicJobs,
    /// Whether this process fires its periodic jobs.
    fires: bool,
    /// `None` if this process aggregates no groups.
    aggregate: Option<(Aggregate, GroupLimits)>,
    /// `None` before the start and after a shutdown.
    running: Mutex<Option<RunningServices>>,
    /// The values that handlers need, from the first start on.
    state: Mutex<Option<Arc<AppState>>>,
    /// Held during a shutdown, so that a second call waits for the first.
    draining: tokio::sync::Mutex<()>,
    health: Arc<StoreHealth>,
    check: Arc<StoreCheck>,
    declared: Arc<DeclaredLimits>,
    /// What needs attention.
    alerts: Arc<AlertWatch>,
    /// What operators did and is not written yet.
    audit: Arc<AuditLog>,
    /// Whether this process looks for it once a minute, and not only when somebody asks.
    watches: bool,
    /// A test runs the jobs.
    test_driver: Option<TestDriver>,
}

/// What runs and has to be stopped. Dropping it stops everything without waiting.
struct RunningServices {
    /// `None` in a process that only enqueues.
    worker: Option<RunningWorker>,
    /// `None` in a process that does not fire periodic jobs.
    periodic_services: Option<PeriodicServices>,
    /// Ends the two tasks that watch the store.
    probe: CancellationToken,
    /// These two tasks.
    tasks: TaskTracker,
}

/// A worker with what it needs.
struct RunningWorker {
    worker: Worker,
    scheduler: Scheduler,
    reporter: TypeReporter,
}

impl Drop for RunningServices {
    fn drop(&mut self) {
        self.probe.cancel();
    }
}

impl Runtime {
    /// A queue that is not started. `max_payload` is in bytes. Nothing is connected yet.
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        registry: Registry,
        settings: Option<WorkerSettings>,
        max_payload: usize,
    ) -> Self {
        let client = Client::new(Arc::clone(&broker), max_payload);
        let checks = client.clone();
        Self {
            periodic: PeriodicJobs::new(Arc::new(move |periodic| checks.template(periodic))),
            fires: settings.is_some(),
            client,
            broker,
            aside: OnceLock::new(),
            registry,
            settings,
            aggregate: None,
            running: Mutex::new(None),
            state: Mutex::new(None),
            draining: tokio::sync::Mutex::new(()),
            health: Arc::new(StoreHealth::new()),
            check: Arc::default(),
            declared: Arc::default(),
            alerts: Arc::default(),
            audit: Arc::default(),
            watches: false,
            test_driver: None,
        }
    }

    /// The same queue without a worker and scheduler of its own: a test drives it, and draws ids
    /// and jitter from its own chance.
    pub(crate) fn driven_by(mut self, driver: TestDriver) -> Self {
        self.client = self.client.with_chance(driver.chance.clone());
        self.test_driver = Some(driver);
        self
    }

    /// Bounds the jobs that wait in these queues, as far as this process enqueues them.
    pub(crate) fn bounding(mut self, bounds: BTreeMap<QueueName, MaxWaiting>) -> Self {
        self.client = self.client.with_max_waiting(bounds);
        self
    }

    /// Aggregates groups too, if this process has a worker.
    pub(crate) fn aggregating(mut self, function: Aggregate, limits: GroupLimits) -> Self {
        self.aggregate = Some((function, limits));
        self
    }

    /// Enqueues periodic jobs, or leaves that to other processes. By default a process with a
    /// worker does.
    pub(crate) fn firing(mut self, fires: bool) -> Self {
        self.fires = fires;
        self
    }

    /// Lets the store evict jobs when its memory is full.
    pub(crate) fn allowing_eviction(mut self, allow: bool) -> Self {
        self.check = Arc::new(StoreCheck::new(allow));
        self
    }

    /// Sets these limits in the store at launch.
    pub(crate) fn declaring(mut self, limits: Vec<DeclaredLimit>) -> Self {
        self.declared = Arc::new(DeclaredLimits::new(limits));
        self
    }

    /// Looks once a minute for what needs attention, by these thresholds.
    pub(crate) fn watching(mut self, settings: AlertSettings) -> Self {
        self.alerts = Arc::new(AlertWatch::new(settings));
        self.watches = true;
        self
    }

    /// Checks the store and sets declared limits before anything runs, on connections of its own. An error stops the
    /// launch. A store that cannot be reached is not an error.
    pub(crate) async fn check_store(&self) -> Result<(), Error> {
        let broker = self.broker.detached();
        if self.test_driver.is_none() {
            self.check.at_launch(&*broker).await?;
        }
        self.declared.at_launch(&*broker).await
    }

    /// What the aggregator needs; `None` without a function or without a worker.
    fn aggregation(&self) -> Option<Aggregation> {
        let ((function, limits), settings) = (self.aggregate.clone()?, self.settings.as_ref()?);
        let client = self.client.clone();
        Some(Aggregation {
            limits,
            shutdown_timeout: settings.shutdown_timeout,
            viewer: settings.viewer.clone(),
            make: Arc::new(move |queue, group, jobs| {
                Box::pin(function.clone().make(client.clone(), queue, group, jobs))
            }),
        })
    }

    /// The periodic jobs of this process.
    pub(crate) fn periodic(&self) -> &PeriodicJobs {
        &self.periodic
    }

    /// Questions to the store, on the application's own connections.
    pub(crate) fn inspect(&self) -> &dyn Inspect {
        &*self.broker
    }

    /// An inspector on the application's own connections.
    pub(crate) fn inspector(&self) -> Inspector {
        self.inspector_of(&self.broker)
    }

    /// The store on connections for readers; they are made at the first call.
    pub(crate) fn aside(&self) -> &Arc<dyn Broker> {
        self.aside.get_or_init(|| self.broker.aside())
    }

    /// An inspector on the connections for readers.
    pub(crate) fn aside_inspector(&self) -> Inspector {
        self.inspector_of(self.aside())
    }

    /// An inspector of this store that knows the limits of this process.
    fn inspector_of(&self, broker: &Arc<dyn Broker>) -> Inspector {
        Inspector::new(Arc::clone(broker))
            .with_max_payload(self.client.max_payload())
            .with_group_limits(self.aggregate.as_ref().map(|(_, limits)| *limits))
    }

    /// Adds an action of an operator to the audit log, soon.
    pub(crate) fn record_action(&self, entry: AuditEntry) {
        self.audit.add(entry);
    }

    /// What needs attention.
    pub(crate) fn alerts(&self) -> &Arc<AlertWatch> {
        &self.alerts
    }

    /// The store's time, as well as it is known.
    pub(crate) fn now(&self) -> Timestamp {
        self.broker.now()
    }

    /// The store's address without credentials, for the line at liftoff.
    pub(crate) fn describe(&self) -> String {
        self.broker.describe()
    }

    /// The handlers of this process.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The client for enqueueing.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Starts the worker and its scheduler, if this process has one, and the services of periodic
    /// jobs. The store need not be reachable yet. Does nothing if it runs already or is closed.
    /// The state of the first call counts. Must be called within a Tokio runtime.
    pub(crate) fn start(&self, state: AppState) {
        let state = Arc::clone(self.state().get_or_insert_with(|| Arc::new(state)));
        let mut running = lock(&self.running);
        if running.is_some() || self.client.is_closed() {
            return;
        }
        if let Some(driver) = &self.test_driver {
            let parts = || Arc::new(self.driven(state, driver.chance.clone()));
            driver.slot().get_or_insert_with(parts);
            return;
        }
        let (probe, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (broker, health) = (Arc::clone(&self.broker), Arc::clone(&self.health));
        // A loop serves several queues, and no queue should wait for the server of another.
        let prompt = self.broker.prompt();
        let (due, check) = (Arc::new(Notify::new()), Arc::clone(&self.check));
        tasks.spawn(probe.clone().run_until_cancelled_owned(look(
            Arc::clone(&prompt),
            check,
            Arc::clone(&due),
        )));
        let declared = Arc::clone(&self.declared).keep_setting(Arc::clone(&prompt));
        tasks.spawn(probe.clone().run_until_cancelled_owned(declared));
        tasks.spawn(probe.clone().run_until_cancelled_owned(watch(broker, health, due)));
        if self.watches {
            let look = Arc::clone(&self.alerts).keep_looking(self.aside_inspector());
            tasks.spawn(probe.clone().run_until_cancelled_owned(look));
            let minutes = record_minutes(Arc::clone(&self.broker));
            tasks.spawn(probe.clone().run_until_cancelled_owned(minutes));
            let (log, broker) = (Arc::clone(&self.audit), Arc::clone(&self.broker));
            tasks.spawn(log.keep_writing(broker, probe.clone()));
        }
        tasks.close();
        let worker = self.settings.as_ref().map(|settings| {
            let queues: Vec<_> = settings.queues.keys().cloned().collect();
            let version = settings.version.clone();
            let reporter = TypeReporter::new(Arc::clone(&prompt), self.registry.clone(), version);
            let scheduler =
                Scheduler::start(&prompt, &queues, self.aggregation(), reporter.clone());
            let worker =
                Worker::start(Arc::clone(&prompt), self.registry.clone(), state, settings.clone());
            RunningWorker { worker, scheduler, reporter }
        });
        let periodic_services =
            self.fires.then(|| PeriodicServices::start(&prompt, &self.periodic));
        *running = Some(RunningServices { worker, periodic_services, probe, tasks });
    }

    /// The parts for a test, without any loop.
    fn driven(&self, state: Arc<AppState>, chance: Chance) -> Driven {
        let mut queues: Vec<_> =
            self.settings.iter().flat_map(|settings| settings.queues.clone()).collect();
        queues.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
        let worker = self.settings.as_ref().map(|settings| {
            let (broker, registry) = (Arc::clone(&self.broker), self.registry.clone());
            Worker::idle(broker, registry, state, settings.clone(), chance.clone())
        });
        let periodic = || PeriodicService::new(Arc::clone(&self.broker), self.periodic.clone());
        Driven {
            client: self.client.clone(),
            worker,
            periodic: self.fires.then(periodic),
            aggregation: self.aggregation(),
            queues: queues.into_iter().map(|(queue, _)| queue).collect(),
            chance,
            tokio: tokio::runtime::Handle::try_current().ok(),
        }
    }

    /// Whether the store has answered within the last 3 s and keeps jobs. Asks it if nothing
    /// has asked it yet.
    pub(crate) async fn ready(&self) -> bool {
        self.answers().await && self.objection().is_none()
    }

    /// Whether this process has a worker whose loops are stuck. Liveness answers 503 then, so
    /// that the orchestrator restarts the process.
    pub(crate) fn is_stuck(&self) -> bool {
        let running = lock(&self.running);
        let worker = running.as_ref().and_then(|running| running.worker.as_ref());
        worker.is_some_and(|running| running.worker.is_stuck())
    }

    /// Why the process is not ready although the store answers. Safe to show to clients.
    pub(crate) fn objection(&self) -> Option<String> {
        self.check.objection()
    }

    /// Whether the store has answered within the last 3 s. Asks, for at most 200 ms, only if
    /// it has never answered.
    async fn answers(&self) -> bool {
        // No task checks then, and the store is in this process.
        if self.test_driver.is_some() || self.health.is_fresh() {
            return true;
        }
        if self.health.age().is_none() {
            // The answer is recorded in `health`; a failure means "not ready". The caller
            // must not wait for a store that hangs.
            let _ =
                tokio::time::timeout(FIRST_PROBE_TIMEOUT, self.health.probe(&*self.broker)).await;
        }
        self.health.is_fresh()
    }

    /// How long ago the store answered last; `None` if it never has. It is asked only if no task
    /// asks it every second: before the start and after a shutdown.
    #[cfg(feature = "dashboard")]
    pub(crate) async fn last_answer(&self) -> Option<Duration> {
        if self.test_driver.is_some() {
            return Some(Duration::ZERO);
        }
        let is_watched = lock(&self.running).is_some();
        if !is_watched && self.health.age().is_none_or(|age| age > FIRST_PROBE_TIMEOUT) {
            // A failure leaves the last answer as it is.
            let _ =
                tokio::time::timeout(FIRST_PROBE_TIMEOUT, self.health.probe(&*self.broker)).await;
        }
        self.health.age()
    }

    /// Drains the worker: dequeuing stops, running jobs finish within the shutdown timeout, the
    /// rest is requeued. Enqueuing still works, and so do pages and REST. Never fails: what
    /// could not be requeued is recovered by another process when its lease ends.
    pub(crate) async fn shutdown(&self) {
        // A second call waits for the first: when it returns, the worker is drained.
        let _turn = self.draining.lock().await;
        let running = lock(&self.running).take();
        let Some(running) = running else { return };
        let no_more_ticks = async {
            if let Some(periodic_services) = &running.periodic_services {
                periodic_services.stop().await;
            }
        };
        let drained = async {
            let Some(RunningWorker { worker, scheduler, reporter }) = &running.worker else {
                return;
            };
            // From now on due jobs are left to other processes.
            let ((), interrupted) = tokio::join!(scheduler.stop(), worker.drain());
            reporter.report_last().await;
            match interrupted {
                0 => crate::log::info!("job queue drained"),
                n => crate::log::warn!("job queue stopped: {n} running jobs were requeued"),
            }
        };
        // Concurrently: a slow store that delays one does not take time from the other.
        tokio::join!(no_more_ticks, drained);
        running.probe.cancel();
        running.tasks.wait().await;
    }

    fn state(&self) -> MutexGuard<'_, Option<Arc<AppState>>> {
        lock(&self.state)
    }

    /// Starts again after a shutdown.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if it has never been started.
    pub(crate) fn restart(&self) -> Result<(), Error> {
        if self.state().is_none() {
            return Err(Error::invalid("the job queue starts at liftoff, which has not been yet"));
        }
        self.start(AppState::default());
        Ok(())
    }

    /// Drops everything without waiting, as when the application is dropped without a shutdown.
    /// Jobs in flight are recovered by another process when their leases end.
    pub(crate) fn abandon(&self) {
        drop(lock(&self.running).take());
        // It may hold a handle to this runtime, which would keep it alive forever.
        drop(self.state().take());
        drop(self.test_driver.as_ref().map(|driver| driver.slot().take()));
    }

    /// Shuts down and refuses further enqueues.
    pub(crate) async fn close(&self) {
        self.client.close();
        self.shutdown().await;
    }
}
