//! Steps in while handlers block every thread of the application's runtime.
//!
//! During such a stall nothing else runs there: no delivery starts, and the dispatcher,
//! which would settle finished jobs, is not polled. This watch runs on the heartbeat's
//! thread, which runs no handlers, and does two things through connections of its own:
//!
//! - It gives back deliveries that have not started within [`START_TIMEOUT`], without
//!   counting an attempt, so that another process can run them.
//! - It settles jobs that have finished and that the dispatcher does not take or whose
//!   reply is overdue.
//!
//! After a stall the worker is cautious for [`CAUTIOUS_FOR`]: it dequeues no more jobs than
//! there are threads without a handler. Otherwise jobs would bounce between workers, each
//! of which dequeues them and gives them back.
//!
//! A settlement may be sent both from here and by the dispatcher. The store carries out one
//! of them, and [`InFlightJob::over`](super::in_flight_job::InFlightJob::over) lets one
//! reply count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::WorkerShared;
use super::in_flight::GivenBack;
use super::outbox::SentSettles;
use super::settle::{PendingSettle, Road};
use crate::broker::{Broker, Delivery, LEASE, SettleRequest, Settled};
use crate::error::Error;
use crate::job::Transition;

/// A delivery that has not started for this long is given back.
const START_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval of the watch's checks while jobs are in flight.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Settlements whose reply is outstanding for longer are also sent from here, if the
/// runtime stands still.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long after the last stall the worker stays cautious.
const CAUTIOUS_FOR: Duration = Duration::from_secs(60);

/// Pause before a failed attempt to give deliveries back is repeated.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of jobs that are settled at a time.
const MAX_BATCH_JOBS: usize = 100;

/// State of the watch, and whether it has seen a stall within the last [`CAUTIOUS_FOR`].
#[derive(Default)]
pub(super) struct Stall {
    /// The watch sleeps, because nothing is in flight.
    asleep: AtomicBool,
    /// Wakes it.
    wake: Notify,
    /// Handlers have blocked all threads lately.
    cautious: AtomicBool,
}

impl Stall {
    /// Wakes the watch: jobs are in flight.
    pub(super) fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Whether handlers have blocked all threads within the last [`CAUTIOUS_FOR`].
    pub(super) fn is_cautious(&self) -> bool {
        self.cautious.load(Ordering::Relaxed)
    }

    /// Watches for stalls. Never returns; it has to run on a thread that runs no handlers.
    pub(super) async fn watch(
        &self,
        shared: &Arc<WorkerShared>,
        broker: &Arc<dyn Broker>,
        runtime: &Handle,
    ) {
        let probe = Probe { runtime, sent: None };
        let mut watch = StallWatch { shared, broker, runtime, waiting: None, probe };
        let mut stalled: Option<Instant> = None;
        loop {
            if shared.in_flight.len() == 0 {
                self.asleep.store(true, Ordering::SeqCst);
                if shared.in_flight.len() == 0 {
                    self.wake.notified().await;
                }
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
            let stopping = shared.stop.is_cancelled();
            let timeout = if stopping { Duration::ZERO } else { START_TIMEOUT };
            if watch.give_back(timeout) && !stopping {
                if stalled.is_none() {
                    crate::log::warn!(
                        "handlers block all threads of the runtime: jobs that did not start within \
                         {START_TIMEOUT:?} are given back, and only as many are dequeued as \
                         can start; use spawn_blocking for blocking work"
                    );
                }
                stalled = Some(Instant::now());
            }
            if stalled.is_some_and(|at| at.elapsed() > CAUTIOUS_FOR) {
                stalled = None;
                shared.outbox.wake_dispatcher();
            }
            self.cautious.store(stalled.is_some(), Ordering::Relaxed);
            watch.settle_ended();
            watch.repeat_overdue();
        }
    }
}

/// The state of one watch.
struct StallWatch<'a> {
    shared: &'a Arc<WorkerShared>,
    broker: &'a Arc<dyn Broker>,
    runtime: &'a Handle,
    /// The outbox's number of takes at the last check, if jobs were in it.
    waiting: Option<u64>,
    probe: Probe<'a>,
}

/// Finds out whether the application's runtime still runs tasks.
struct Probe<'a> {
    runtime: &'a Handle,
    /// When the last test task was spawned there, and whether it has run.
    sent: Option<(Instant, Arc<AtomicBool>)>,
}

impl Probe<'_> {
    /// For how long the last test task has waited to run; spawns another if it has run.
    fn silence(&mut self) -> Duration {
        if let Some((at, ran)) = &self.sent
            && !ran.load(Ordering::Relaxed)
        {
            return at.elapsed();
        }
        let ran = Arc::new(AtomicBool::new(false));
        self.sent = Some((Instant::now(), Arc::clone(&ran)));
        self.runtime.spawn(async move { ran.store(true, Ordering::Relaxed) });
        Duration::ZERO
    }

    /// Whether the runtime has run nothing for [`WATCH_INTERVAL`].
    fn stands_still(&mut self) -> bool {
        self.silence() >= WATCH_INTERVAL
    }
}

impl StallWatch<'_> {
    /// Gives back deliveries that have waited for longer than `timeout`. Returns whether
    /// there were any.
    fn give_back(&mut self, timeout: Duration) -> bool {
        let Some(before) = Instant::now().checked_sub(timeout) else { return false };
        // Suspects may be waiting for their turn, which is not a stall. They are given back
        // only if the runtime has run nothing.
        let suspects = self.shared.in_flight.has_waiting_suspects()
            && self.probe.silence() >= timeout.max(WATCH_INTERVAL);
        let back = self.shared.in_flight.give_back(before, suspects);
        if back.is_empty() {
            return false;
        }
        let (shared, broker) = (Arc::clone(self.shared), Arc::clone(self.broker));
        self.shared.tasks.spawn(requeue(shared, broker, back));
        true
    }

    /// Settles finished jobs that the dispatcher does not take.
    fn settle_ended(&mut self) {
        let outbox = &self.shared.outbox;
        let waiting = (!outbox.is_empty()).then(|| outbox.takes());
        let before = std::mem::replace(&mut self.waiting, waiting);
        if waiting.is_none() || waiting != before {
            return;
        }
        // With all round trips under way the dispatcher takes nothing either. Then the store
        // may be slow, not the runtime.
        if outbox.is_full() && !self.probe.stands_still() {
            return;
        }
        let ended = outbox.take(MAX_BATCH_JOBS);
        for one in ended {
            let (shared, broker) = (Arc::clone(self.shared), Arc::clone(self.broker));
            self.shared.tasks.spawn(settle(shared, broker, self.runtime.clone(), one));
        }
    }

    /// Repeats overdue settlements of the dispatcher, which the runtime may not have sent.
    fn repeat_overdue(&mut self) {
        let late = self.shared.outbox.overdue(SETTLE_TIMEOUT);
        // If the runtime runs tasks, it is the store that is slow.
        if late.is_empty() || !self.probe.stands_still() {
            return;
        }
        for one in late.into_iter().filter(|one| !one.sent_again.swap(true, Ordering::Relaxed)) {
            let (shared, broker) = (Arc::clone(self.shared), Arc::clone(self.broker));
            let again = settle_again(shared, broker, self.runtime.clone(), one);
            self.shared.tasks.spawn(again);
        }
    }
}

/// Makes deliveries pending again, as the next jobs of their queues. It is repeated for as long
/// as their leases may hold; after that the recoverer has them.
async fn requeue(shared: Arc<WorkerShared>, broker: Arc<dyn Broker>, back: Vec<GivenBack>) {
    let began = Instant::now();
    let next_in_line = |delivery: Delivery| {
        // It has not started, so its number of losses stays as it was.
        let transition = match delivery.losses {
            0 => Transition::Requeue,
            _ => Transition::PutBack { after: Duration::ZERO, error: String::new() },
        };
        SettleRequest::from((delivery, transition))
    };
    let (hands, settlements): (Vec<_>, Vec<_>) =
        back.into_iter().map(|one| (one.job, next_in_line(one.delivery))).unzip();
    while let Err(error) = broker.settle(&settlements).await {
        crate::log::debug!("deliveries could not be given back: {error:?}");
        // They do not start here, so their leases expire.
        if began.elapsed() > LEASE || shared.give_up.is_cancelled() {
            break;
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    hands.iter().for_each(|job| shared.in_flight.remove(job));
}

/// Settles a finished job that the dispatcher did not take.
async fn settle(
    shared: Arc<WorkerShared>,
    broker: Arc<dyn Broker>,
    runtime: Handle,
    ended: PendingSettle,
) {
    ended.alone(&shared, Road::Detached(&*broker, &runtime)).await;
    shared.outbox.wake_dispatcher();
}

/// Sends settlements of the dispatcher a second time. A failure lets the watch send them again.
async fn settle_again(
    shared: Arc<WorkerShared>,
    broker: Arc<dyn Broker>,
    runtime: Handle,
    sent: Arc<SentSettles>,
) {
    // The dispatcher waits for this before it takes them out and processes its own reply.
    let pending = sent.pending.read().await;
    if pending.is_empty() {
        return;
    }
    let requests: Vec<&SettleRequest> = pending.iter().map(|one| &one.request).collect();
    let settled: Result<Vec<Settled>, Error> =
        broker.exchange(&requests, &[], 0).await.settled.into_iter().collect();
    match settled {
        Ok(settled) => {
            let road = Road::Detached(&*broker, &runtime);
            for (one, settled) in pending.iter().zip(settled) {
                // Most likely the first copy was carried out. The dispatcher learns that from its
                // own reply.
                if settled != Settled::Lost {
                    one.attempt.settled(&shared, &road, &one.request, settled);
                }
            }
        }
        Err(error) => {
            crate::log::debug!("settling for a blocked runtime failed: {error:?}");
            sent.sent_again.store(false, Ordering::Relaxed);
        }
    }
}
