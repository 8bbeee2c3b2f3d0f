//! Starts the handlers of dequeued jobs.
//!
//! Most handlers finish, or reach their first wait, within microseconds. A task for each
//! of them would wake other runtime threads, which costs more than the handlers do. So the
//! jobs of one reply are started as a batch: one task polls each handler once, one after
//! another. A handler that waits goes on in a task of its own.
//!
//! ```text
//!                          launch()
//!        ┌────────────────────┼──────────────────────┐
//!   StartMode::Suspect   StartMode::Alone      StartMode::Batch
//!        │                    │                      │
//!   suspects module       own task             queue ──► start_batch
//!   (waits for its turn)      └──────────┬───────────┘
//!                                   first poll
//!                              ┌─────────┴─────────┐
//!                           finished            waiting ──► Resumed (own task)
//! ```
//!
//! A handler that blocks its thread must not hold up the rest of its batch. A watch on the
//! heartbeat's thread checks every [`WATCH_INTERVAL`] whether starts make progress. If they
//! do not, it wakes the task that waits for the batch and starts the rest from another task. It
//! sleeps while nothing is being started:
//!
//! ```text
//!              launch() of several jobs
//!   Watch::Asleep ─────────────────────► Watch::Active ──┐ progress, or jobs are starting
//!        ▲                                   │  ▲────────┘
//!        └── MAX_QUIET_LOOKS without a job ──┘
//! ```
//!
//! A job type whose handler needed longer than [`MAX_QUICK_START`] is remembered as slow. Its
//! next jobs start alone, each in its own task.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::poll;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::in_flight::AcceptedDelivery;
use super::{WorkerShared, execute, suspects};
use crate::sync::lock;

/// Longest first poll of a handler that does not mark its job type as slow.
const MAX_QUICK_START: Duration = Duration::from_micros(500);

/// Interval of the watch's checks while jobs are being started.
const WATCH_INTERVAL: Duration = Duration::from_millis(1);

/// Number of checks without a starting job after which the watch goes to sleep.
const MAX_QUIET_CHECKS: u32 = 100;

/// Jobs that have been dequeued and whose handlers have not started, with the counters
/// that show whether starts make progress.
#[derive(Default)]
pub(super) struct Launcher {
    queue: Mutex<VecDeque<AcceptedDelivery>>,
    /// Number of jobs handed to [`launch`].
    launched: AtomicU64,
    /// Number of first polls that have begun.
    polls_begun: AtomicU64,
    /// Number of first polls that have ended: the handler finished or waits.
    polls_ended: AtomicU64,
    /// Number of jobs on a thread after their first wait.
    resumed_on_thread: AtomicUsize,
    /// Whether the watch is in [`StartWatch::Asleep`].
    watch_asleep: AtomicBool,
    /// Ends the sleep of the watch.
    watch_wakeup: Notify,
    /// A handler blocks its thread: tasks that wait for the batch to start go on without it.
    blocked: Notify,
    /// A batch has been started.
    batch_started: Notify,
}

/// How a job is started.
enum StartMode {
    /// In the [`suspects`] module, when it is its turn: it may be what ends processes.
    Suspect,
    /// In its own task: an earlier job of its type blocked its thread.
    Alone,
    /// One after another with the others of its batch.
    Batch,
}

impl StartMode {
    /// Decides how to start a job: by its losses and the pace of its type.
    fn of(shared: &WorkerShared, job: &AcceptedDelivery) -> Self {
        if suspects::waits(&job.delivery) {
            return Self::Suspect;
        }
        let entry = shared.registry.get(&job.delivery.job.job_type);
        if entry.is_some_and(|entry| entry.pace.starts_alone()) { Self::Alone } else { Self::Batch }
    }
}

/// How the jobs of one call of [`launch`] are started.
#[derive(Clone, Copy, Default)]
pub(super) struct Launched {
    /// There is more than one.
    pub several: bool,
    /// Some form a batch. The caller should wait until it has
    /// [started](Launcher::batch_started), so that quick jobs have ended by then.
    pub batched: bool,
}

/// Starts these jobs, in their order.
pub(super) fn launch(shared: &Arc<WorkerShared>, jobs: Vec<AcceptedDelivery>) -> Launched {
    let (mut alone, mut batch) = (Vec::new(), Vec::new());
    for job in jobs {
        match StartMode::of(shared, &job) {
            StartMode::Suspect => {
                shared.tasks.spawn(suspects::run(Arc::clone(shared), job));
            }
            StartMode::Alone => alone.push(job),
            StartMode::Batch => batch.push(job),
        }
    }
    let launched = alone.len() + batch.len();
    shared.launcher.launched.fetch_add(launched as u64, Ordering::Relaxed);
    // A single job needs no batch.
    let single = if batch.len() == 1 { batch.pop() } else { None };
    for job in alone.into_iter().chain(single) {
        shared.tasks.spawn(start_alone(Arc::clone(shared), job));
    }
    let batched = !batch.is_empty();
    if batched {
        shared.launcher.queue().extend(batch);
        shared.tasks.spawn(start_batch(Arc::clone(shared)));
    }
    if launched > 1 {
        // After the queue is filled, so that the watch does not fall asleep over it.
        shared.launcher.wake_watch();
    }
    Launched { several: launched > 1, batched }
}

/// Starts a job in a task of its own and runs it to its end.
async fn start_alone(shared: Arc<WorkerShared>, job: AcceptedDelivery) {
    if let Some(waiting) = start(&shared, job).await {
        waiting.await;
    }
}

/// Starts queued jobs until the queue is empty.
async fn start_batch(shared: Arc<WorkerShared>) {
    // On every way out: the dispatcher waits for it.
    let _notify = NotifyOnDrop(&shared.launcher.batch_started);
    loop {
        let next = shared.launcher.queue().pop_front();
        let Some(job) = next else { return };
        if let Some(waiting) = start(&shared, job).await {
            shared.tasks.spawn(waiting);
        }
    }
}

/// Polls a job's attempt for the first time. Returns what is left of it if it waits.
async fn start(shared: &Arc<WorkerShared>, job: AcceptedDelivery) -> Option<Resumed> {
    let pace = shared.registry.get(&job.delivery.job.job_type).map(|entry| Arc::clone(&entry.pace));
    let mut job = Box::pin(execute::run(Arc::clone(shared), job));
    let (launcher, began) = (&shared.launcher, Instant::now());
    launcher.polls_begun.fetch_add(1, Ordering::Relaxed);
    let polling = CountOnDrop(&launcher.polls_ended);
    let waits = poll!(&mut job).is_pending();
    drop(polling);
    launcher.left_thread(shared);
    if let Some(pace) = pace
        && began.elapsed() > MAX_QUICK_START
    {
        pace.was_slow();
    }
    waits.then(|| Resumed { shared: Arc::clone(shared), job })
}

/// State of the watch over starts.
enum StartWatch {
    /// Until several jobs are launched at once.
    Asleep,
    /// Checks every [`WATCH_INTERVAL`]. `quiet` counts the checks without a starting job.
    Active { quiet: u32 },
}

/// First polls so far, to see whether starts make progress between two checks.
#[derive(Clone, Copy, Default, PartialEq)]
struct StartProgress {
    begun: u64,
    ended: u64,
}

impl Launcher {
    fn queue(&self) -> MutexGuard<'_, VecDeque<AcceptedDelivery>> {
        lock(&self.queue)
    }

    /// A job has left its thread. After a stall the dispatcher waits for that before it
    /// requests more.
    fn left_thread(&self, shared: &WorkerShared) {
        if shared.stall.is_cautious() {
            shared.outbox.wake_dispatcher();
        }
    }

    /// Lets launched jobs start before the caller goes on: the runtime polls the caller
    /// again when this thread has nothing else to do. If a handler blocks the thread, the
    /// watch ends the wait.
    pub(super) async fn yield_to_handlers(&self) {
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            () = self.blocked.notified() => {}
        }
    }

    /// Waits until the batch of the last [`launch`] has been started, or a handler blocks
    /// its thread. Unlike [`yield_to_handlers`](Self::yield_to_handlers), the caller is not
    /// runnable meanwhile, so the runtime wakes no other thread to steal it.
    pub(super) async fn batch_started(&self) {
        tokio::select! {
            biased;
            () = self.batch_started.notified() => {}
            () = self.blocked.notified() => {}
        }
    }

    /// Number of jobs that wait for a thread to start on, or occupy one.
    pub(super) fn unstarted_or_on_a_thread(&self) -> usize {
        // Read in this order: a job counts as launched before its poll ends.
        let ended = self.polls_ended.load(Ordering::Acquire);
        let starts = self.launched.load(Ordering::Acquire).saturating_sub(ended);
        starts as usize + self.resumed_on_thread.load(Ordering::Relaxed)
    }

    /// Wakes the watch, if it sleeps.
    fn wake_watch(&self) {
        if self.watch_asleep.swap(false, Ordering::SeqCst) {
            self.watch_wakeup.notify_one();
        }
    }

    /// Keeps jobs starting although a handler blocks its thread. Never returns; it has to
    /// run on a thread that runs no handlers.
    pub(super) async fn watch(&self, shared: &Arc<WorkerShared>, runtime: &Handle) {
        let mut state = StartWatch::Active { quiet: 0 };
        let mut before = StartProgress::default();
        // Whether the last extra start task has run. While handlers block all threads,
        // none runs, and one is enough.
        let mut extra_ran = Arc::new(AtomicBool::new(true));
        loop {
            let StartWatch::Active { quiet } = state else {
                self.sleep_until_launch().await;
                state = StartWatch::Active { quiet: 0 };
                continue;
            };
            tokio::time::sleep(WATCH_INTERVAL).await;
            let ended = self.polls_ended.load(Ordering::Relaxed);
            let now = StartProgress { begun: self.polls_begun.load(Ordering::Relaxed), ended };
            let queued = !self.queue().is_empty();
            let starting = queued || now.begun > now.ended;
            if starting && now == before {
                self.blocked.notify_one();
                if queued && extra_ran.load(Ordering::Relaxed) {
                    extra_ran = start_elsewhere(shared, runtime);
                }
            }
            before = now;
            state = match starting {
                true => StartWatch::Active { quiet: 0 },
                false if quiet + 1 < MAX_QUIET_CHECKS => StartWatch::Active { quiet: quiet + 1 },
                false => StartWatch::Asleep,
            };
        }
    }

    /// Returns when several jobs are launched, at once if some are queued.
    async fn sleep_until_launch(&self) {
        self.watch_asleep.store(true, Ordering::SeqCst);
        // A launch that has not seen the flag has filled the queue before.
        if self.queue().is_empty() {
            self.watch_wakeup.notified().await;
        }
    }
}

/// Starts the queued jobs in another task. Returns a flag that says whether it has run.
fn start_elsewhere(shared: &Arc<WorkerShared>, runtime: &Handle) -> Arc<AtomicBool> {
    let ran = Arc::new(AtomicBool::new(false));
    let (of_task, runs) = (Arc::clone(shared), Arc::clone(&ran));
    let start = async move {
        runs.store(true, Ordering::Relaxed);
        start_batch(of_task).await;
    };
    shared.tasks.spawn_on(start, runtime);
    ran
}

/// Notifies when it is dropped.
struct NotifyOnDrop<'a>(&'a Notify);

impl Drop for NotifyOnDrop<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Counts one more when it is dropped.
struct CountOnDrop<'a>(&'a AtomicU64);

impl Drop for CountOnDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A job after its first wait. It counts as occupying a thread while it is polled.
struct Resumed {
    shared: Arc<WorkerShared>,
    job: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Resumed {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { shared, job } = self.get_mut();
        let _on_thread = OnThread::of(shared);
        job.as_mut().poll(context)
    }
}

/// Counts a job as occupying a thread until it is dropped.
struct OnThread<'a>(&'a WorkerShared);

impl<'a> OnThread<'a> {
    fn of(shared: &'a WorkerShared) -> Self {
        shared.launcher.resumed_on_thread.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for OnThread<'_> {
    fn drop(&mut self) {
        self.0.launcher.resumed_on_thread.fetch_sub(1, Ordering::Relaxed);
        self.0.launcher.left_thread(self.0);
    }
}
