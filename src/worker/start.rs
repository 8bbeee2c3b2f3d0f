//! Starts the jobs that were taken. Most handlers come to their first wait, or to
//! their end, within microseconds: several of these start on one thread, one after
//! another, which is cheaper than waking others for them. A job that waits goes on in
//! a task of its own, and one that keeps its thread holds up nobody: the others are
//! started elsewhere within a few milliseconds, and its type starts alone from then on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::poll;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::{Shared, execute};
use crate::broker::Delivery;

/// A start that takes longer marks its job type as slow.
const QUICK: Duration = Duration::from_micros(500);

/// How often the minder looks while jobs are being started.
const MIND: Duration = Duration::from_millis(1);

/// After how many looks without a job to start it sleeps.
const QUIET: u32 = 100;

/// A job with its place in the worker.
pub(super) type Taken = (Delivery, OwnedSemaphorePermit);

/// Jobs that were taken and not started yet.
#[derive(Default)]
pub(super) struct Starting {
    line: Mutex<VecDeque<Taken>>,
    /// How many were started.
    started: AtomicU64,
    asleep: AtomicBool,
    wake: Notify,
}

impl Starting {
    fn line(&self) -> MutexGuard<'_, VecDeque<Taken>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Taken> {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.line().pop_front()
    }

    /// Sees to it that none waits for another one's start. For ever; on a thread that
    /// runs no handlers.
    pub(super) async fn mind(&self, shared: &Arc<Shared>, runtime: &Handle) {
        let (mut before, mut quiet) = (0, 0);
        loop {
            if quiet == QUIET {
                self.asleep.store(true, Ordering::SeqCst);
                if self.line().is_empty() {
                    self.wake.notified().await;
                }
                quiet = 0;
            }
            tokio::time::sleep(MIND).await;
            let started = self.started.load(Ordering::Relaxed);
            let waiting = !self.line().is_empty();
            if waiting && started == before {
                shared.tasks.spawn_on(start_all(Arc::clone(shared)), runtime);
            }
            quiet = if waiting { 0 } else { quiet + 1 };
            before = started;
        }
    }
}

/// Starts these jobs, in their order.
pub(super) fn start(shared: &Arc<Shared>, jobs: Vec<Taken>) {
    let starts_alone = |job: &Taken| {
        let entry = shared.registry.get(&job.0.job.job_type);
        entry.is_some_and(|entry| entry.pace.starts_alone())
    };
    let (alone, mut together): (Vec<_>, Vec<_>) = jobs.into_iter().partition(starts_alone);
    let single = if together.len() == 1 { together.pop() } else { None };
    for job in alone.into_iter().chain(single) {
        shared.tasks.spawn(start_alone(Arc::clone(shared), job));
    }
    if together.is_empty() {
        return;
    }
    let starting = &shared.starting;
    starting.line().extend(together);
    shared.tasks.spawn(start_all(Arc::clone(shared)));
    if starting.asleep.swap(false, Ordering::SeqCst) {
        starting.wake.notify_one();
    }
}

async fn start_alone(shared: Arc<Shared>, job: Taken) {
    if let Some(waits) = begin(&shared, job).await {
        waits.await;
    }
}

async fn start_all(shared: Arc<Shared>) {
    while let Some(job) = shared.starting.next() {
        if let Some(waits) = begin(&shared, job).await {
            shared.tasks.spawn(waits);
        }
    }
}

/// Runs a job until it waits; what is left of it, unless that was all.
async fn begin(
    shared: &Arc<Shared>,
    (delivery, permit): Taken,
) -> Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> {
    let pace = shared.registry.get(&delivery.job.job_type).map(|entry| Arc::clone(&entry.pace));
    let mut job = Box::pin(execute::run(Arc::clone(shared), delivery, permit));
    let began = Instant::now();
    let waits = poll!(&mut job).is_pending();
    if let Some(pace) = pace
        && began.elapsed() > QUICK
    {
        pace.was_slow();
    }
    if waits { Some(job) } else { None }
}
