//! Starts the jobs that were taken. Most handlers come to their first wait, or to
//! their end, within microseconds: several of these start on one thread, one after
//! another, which is cheaper than waking others for them. A job that waits goes on in
//! a task of its own, and one that keeps its thread holds up nobody: the others are
//! started elsewhere within a few milliseconds, and its type starts alone from then on.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::poll;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::in_flight::Accepted;
use super::{Shared, execute, suspects};
use crate::sync::lock;

/// A start that takes longer marks its job type as slow.
const QUICK: Duration = Duration::from_micros(500);

/// How often the minder looks while jobs are being started.
const MIND: Duration = Duration::from_millis(1);

/// After how many looks without a job to start it sleeps.
const QUIET: u32 = 100;

/// Jobs that were taken and not started yet.
#[derive(Default)]
pub(super) struct Launcher {
    line: Mutex<VecDeque<Accepted>>,
    /// How many starts began, and how many came to their end or first wait.
    begun: AtomicU64,
    past: AtomicU64,
    /// How many were to be started.
    handed: AtomicU64,
    /// How many jobs are on a thread after their first wait.
    resumed: AtomicUsize,
    asleep: AtomicBool,
    wake: Notify,
    nudge: Notify,
    /// Some have been started.
    started: Notify,
}

impl Launcher {
    fn line(&self) -> MutexGuard<'_, VecDeque<Accepted>> {
        lock(&self.line)
    }

    /// A job has left its thread: others may be asked for, if that was waited for.
    fn left_thread(&self, shared: &Shared) {
        if shared.stall.is_cautious() {
            shared.outbox.call();
        }
    }

    /// Lets jobs start before the caller goes on. The runtime runs the caller again
    /// when this thread has nothing else to do; a job that keeps it would hold the
    /// caller up, unless the minder sees it.
    pub(super) async fn yield_to_handlers(&self) {
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            () = self.nudge.notified() => {}
        }
    }

    /// Waits until jobs that [`start`] has put in line have been started. One that keeps
    /// its thread ends the wait too: the minder sees it. Unlike to
    /// [give way](Self::yield_to_handlers), this looks for no other work meanwhile, for which the
    /// runtime would wake another thread.
    pub(super) async fn started(&self) {
        tokio::select! {
            biased;
            () = self.started.notified() => {}
            () = self.nudge.notified() => {}
        }
    }

    /// How many jobs wait for a thread to start on, or keep one.
    pub(super) fn unstarted_or_on_a_thread(&self) -> usize {
        // In this order, so that none is past that was not handed.
        let past = self.past.load(Ordering::Acquire);
        let starts = self.handed.load(Ordering::Acquire).saturating_sub(past);
        starts as usize + self.resumed.load(Ordering::Relaxed)
    }

    fn wake_minder(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Sees to it that nothing waits for a job that keeps its thread. For ever; on a
    /// thread that runs no handlers.
    pub(super) async fn mind(&self, shared: &Arc<Shared>, runtime: &Handle) {
        let (mut before, mut quiet) = ((0, 0), 0);
        // Whether the last task that was to start jobs has come to run. Where handlers
        // keep all threads, none does, and one is enough.
        let mut ran = Arc::new(AtomicBool::new(true));
        loop {
            if quiet == QUIET {
                self.asleep.store(true, Ordering::SeqCst);
                if self.line().is_empty() {
                    self.wake.notified().await;
                }
                quiet = 0;
            }
            tokio::time::sleep(MIND).await;
            let past = self.past.load(Ordering::Relaxed);
            let now = (self.begun.load(Ordering::Relaxed), past);
            let waiting = !self.line().is_empty();
            let busy = waiting || now.0 > now.1;
            if busy && now == before {
                self.nudge.notify_one();
                if waiting && ran.load(Ordering::Relaxed) {
                    ran = Arc::new(AtomicBool::new(false));
                    let (of_task, runs) = (Arc::clone(shared), Arc::clone(&ran));
                    let start = async move {
                        runs.store(true, Ordering::Relaxed);
                        start_all(of_task).await;
                    };
                    shared.tasks.spawn_on(start, runtime);
                }
            }
            quiet = if busy { 0 } else { quiet + 1 };
            before = now;
        }
    }
}

/// How jobs were started.
#[derive(Clone, Copy, Default)]
pub(super) struct Begun {
    /// They are more than one.
    pub several: bool,
    /// Some were put in line: the caller should wait until these have
    /// [started](Launcher::started), so that quick ones have ended when it goes on.
    pub in_line: bool,
}

/// Starts these jobs, in their order.
pub(super) fn start(shared: &Arc<Shared>, jobs: Vec<Accepted>) -> Begun {
    if jobs.iter().any(|job| suspects::waits(&job.delivery)) {
        let (waiting, others): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| suspects::waits(&job.delivery));
        for job in waiting {
            shared.tasks.spawn(suspects::run(Arc::clone(shared), job));
        }
        return start(shared, others);
    }
    let several = jobs.len() > 1;
    shared.launcher.handed.fetch_add(jobs.len() as u64, Ordering::Relaxed);
    if several {
        shared.launcher.wake_minder();
    }
    let starts_alone = |job: &Accepted| {
        let entry = shared.registry.get(&job.delivery.job.job_type);
        entry.is_some_and(|entry| entry.pace.starts_alone())
    };
    let (alone, mut together): (Vec<_>, Vec<_>) = jobs.into_iter().partition(starts_alone);
    let single = if together.len() == 1 { together.pop() } else { None };
    for job in alone.into_iter().chain(single) {
        shared.tasks.spawn(start_alone(Arc::clone(shared), job));
    }
    let in_line = !together.is_empty();
    if in_line {
        shared.launcher.line().extend(together);
        shared.tasks.spawn(start_all(Arc::clone(shared)));
    }
    Begun { several, in_line }
}

async fn start_alone(shared: Arc<Shared>, job: Accepted) {
    if let Some(waits) = begin(&shared, job).await {
        waits.await;
    }
}

async fn start_all(shared: Arc<Shared>) {
    // Told however it ends.
    let _told = Told(&shared.launcher.started);
    loop {
        let next = shared.launcher.line().pop_front();
        let Some(job) = next else { return };
        if let Some(waits) = begin(&shared, job).await {
            shared.tasks.spawn(waits);
        }
    }
}

/// Tells whoever waits when this is dropped.
struct Told<'a>(&'a Notify);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A start that is over when this is dropped, however it ended.
struct Past<'a>(&'a AtomicU64);

impl Drop for Past<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs a job until it waits; what is left of it, unless that was all.
async fn begin(shared: &Arc<Shared>, job: Accepted) -> Option<Resumed> {
    let pace = shared.registry.get(&job.delivery.job.job_type).map(|entry| Arc::clone(&entry.pace));
    let mut job = Box::pin(execute::run(Arc::clone(shared), job));
    let (starting, began) = (&shared.launcher, Instant::now());
    starting.begun.fetch_add(1, Ordering::Relaxed);
    let over = Past(&starting.past);
    let waits = poll!(&mut job).is_pending();
    drop(over);
    shared.launcher.left_thread(shared);
    if let Some(pace) = pace
        && began.elapsed() > QUICK
    {
        pace.was_slow();
    }
    waits.then(|| Resumed { shared: Arc::clone(shared), job })
}

/// A job after its first wait; counts while it is on a thread.
struct Resumed {
    shared: Arc<Shared>,
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

struct OnThread<'a>(&'a Shared);

impl<'a> OnThread<'a> {
    fn of(shared: &'a Shared) -> Self {
        shared.launcher.resumed.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for OnThread<'_> {
    fn drop(&mut self) {
        self.0.launcher.resumed.fetch_sub(1, Ordering::Relaxed);
        self.0.launcher.left_thread(self.0);
    }
}
