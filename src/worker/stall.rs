//! What the heartbeat's thread does for jobs while handlers keep all threads of the
//! application's runtime busy.
//!
//! Nothing else runs there meanwhile: no delivery starts, and the loop that talks to the
//! store stands still with what it has to say. So this thread, which runs no handlers,
//! gives back what could not start soon, uncounted, for another process to run; and it
//! settles what has ended, through connections of its own. From then on the worker
//! dequeues no more than there are threads without a handler on them, until a minute has
//! passed without such a stall: otherwise what one stuck worker gives back would go to
//! the next one and return.
//!
//! A settlement may leave both here and there. The store carries out one of them, and
//! [`InFlightJob::over`](super::in_flight_job::InFlightJob::over) lets one of the answers be heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::Shared;
use super::dispatcher::SentSettles;
use super::in_flight::GivenBack;
use super::settle::{PendingSettle, Road};
use crate::broker::{Broker, Delivery, LEASE, SettleRequest, Settled};
use crate::error::Error;
use crate::job::Transition;

/// A delivery that has not started by then is given back.
const START_TIMEOUT: Duration = Duration::from_secs(1);

/// How often is looked while jobs are in flight.
const INTERVAL: Duration = Duration::from_millis(100);

/// Settlements that take longer are sent from here as well, if the runtime stands still.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long after a stall the worker dequeues with caution.
const CAUTIOUS_FOR: Duration = Duration::from_secs(60);

/// How soon giving back is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Jobs settled at a time.
const BATCH: usize = 100;

#[derive(Default)]
pub(super) struct Stall {
    asleep: AtomicBool,
    wake: Notify,
    cautious: AtomicBool,
}

impl Stall {
    /// Jobs are in flight.
    pub(super) fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Whether handlers have kept all threads lately.
    pub(super) fn is_cautious(&self) -> bool {
        self.cautious.load(Ordering::Relaxed)
    }

    /// For ever; on a thread that runs no handlers.
    pub(super) async fn watch(
        &self,
        shared: &Arc<Shared>,
        broker: &Arc<dyn Broker>,
        runtime: &Handle,
    ) {
        let probe = Probe { runtime, sent: None };
        let mut watch = Watch { shared, broker, runtime, waiting: None, probe };
        let mut stalled: Option<Instant> = None;
        loop {
            if shared.in_flight.len() == 0 {
                self.asleep.store(true, Ordering::SeqCst);
                if shared.in_flight.len() == 0 {
                    self.wake.notified().await;
                }
            }
            tokio::time::sleep(INTERVAL).await;
            let stopping = shared.stop.is_cancelled();
            let timeout = if stopping { Duration::ZERO } else { START_TIMEOUT };
            if watch.give_back(timeout) && !stopping {
                if stalled.is_none() {
                    crate::log::warn!(
                        "handlers block all threads of the runtime: what did not start within \
                         {START_TIMEOUT:?} goes back, and no more is dequeued than can start; \
                         use spawn_blocking for blocking work"
                    );
                }
                stalled = Some(Instant::now());
            }
            if stalled.is_some_and(|at| at.elapsed() > CAUTIOUS_FOR) {
                stalled = None;
                shared.outbox.call();
            }
            self.cautious.store(stalled.is_some(), Ordering::Relaxed);
            watch.settle_ended();
            watch.settle_on_their_way();
        }
    }
}

struct Watch<'a> {
    shared: &'a Arc<Shared>,
    broker: &'a Arc<dyn Broker>,
    runtime: &'a Handle,
    /// If jobs were in the outbox at the last look: how often some had been taken out.
    waiting: Option<u64>,
    probe: Probe<'a>,
}

/// Finds out whether the application's runtime runs anything.
struct Probe<'a> {
    runtime: &'a Handle,
    /// When a task was spawned there, and whether it has run.
    sent: Option<(Instant, Arc<AtomicBool>)>,
}

impl Probe<'_> {
    /// For how long the runtime has run nothing, since this was first asked.
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

    fn stands_still(&mut self) -> bool {
        self.silence() >= INTERVAL
    }
}

impl Watch<'_> {
    /// Whether deliveries are given back that have waited for longer.
    fn give_back(&mut self, timeout: Duration) -> bool {
        let Some(before) = Instant::now().checked_sub(timeout) else { return false };
        // Suspects wait for their turn as well, and see to themselves where they can.
        let suspects = self.shared.in_flight.has_waiting_suspects()
            && self.probe.silence() >= timeout.max(INTERVAL);
        let back = self.shared.in_flight.give_back(before, suspects);
        if back.is_empty() {
            return false;
        }
        let (shared, broker) = (Arc::clone(self.shared), Arc::clone(self.broker));
        self.shared.tasks.spawn(requeue(shared, broker, back));
        true
    }

    /// Settles what has ended and is not taken by the worker's own loop.
    fn settle_ended(&mut self) {
        let outbox = &self.shared.outbox;
        let waiting = (!outbox.is_empty()).then(|| outbox.times_taken());
        let before = std::mem::replace(&mut self.waiting, waiting);
        if waiting.is_none() || waiting != before {
            return;
        }
        // With all round trips under way, the loop takes nothing either: the store may be
        // slow, or far away, and not the runtime.
        if outbox.is_full() && !self.probe.stands_still() {
            return;
        }
        let ended = outbox.take(BATCH);
        for one in ended {
            let (shared, broker) = (Arc::clone(self.shared), Arc::clone(self.broker));
            self.shared.tasks.spawn(settle(shared, broker, self.runtime.clone(), one));
        }
    }

    /// Settles what the worker's own loop has sent and the runtime perhaps has not.
    fn settle_on_their_way(&mut self) {
        let late = self.shared.outbox.late(SETTLE_TIMEOUT);
        // Else the store is slow, not the runtime.
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

/// Puts deliveries back to where they came from.
async fn requeue(shared: Arc<Shared>, broker: Arc<dyn Broker>, back: Vec<GivenBack>) {
    let began = Instant::now();
    let next_in_line = |delivery: Delivery| {
        // It has not started, so that nothing is known of it that was not before.
        let transition = match delivery.losses {
            0 => Transition::Requeue,
            _ => Transition::PutBack { after: Duration::ZERO, error: String::new() },
        };
        SettleRequest { delivery, transition }
    };
    let (hands, settlements): (Vec<_>, Vec<_>) =
        back.into_iter().map(|one| (one.job, next_in_line(one.delivery))).unzip();
    while let Err(error) = broker.settle(&settlements).await {
        crate::log::debug!("giving deliveries back failed: {error:?}");
        // They do not start here, so that their leases run out.
        if began.elapsed() > LEASE || shared.give_up.is_cancelled() {
            break;
        }
        tokio::time::sleep(AGAIN).await;
    }
    hands.iter().for_each(|job| shared.in_flight.remove(job));
}

async fn settle(
    shared: Arc<Shared>,
    broker: Arc<dyn Broker>,
    runtime: Handle,
    ended: PendingSettle,
) {
    ended.alone(&shared, Road::Detached(&*broker, &runtime)).await;
    shared.outbox.call();
}

async fn settle_again(
    shared: Arc<Shared>,
    broker: Arc<dyn Broker>,
    runtime: Handle,
    sent: Arc<SentSettles>,
) {
    // The round trip waits for this before it takes them out.
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
                // Lost: to the first sending, most likely, whose reply will say so.
                if settled != Settled::Lost {
                    one.attempt.settled(&shared, &road, &one.request, settled);
                }
            }
        }
        Err(error) => {
            crate::log::debug!("settling for a busy runtime failed: {error:?}");
            sent.sent_again.store(false, Ordering::Relaxed);
        }
    }
}
