//! Runs suspects: jobs that were in flight at least twice when their worker vanished. Such a job
//! may be what kills the process. Suspects run one at a time, so that the next death proves which
//! one does.
//!
//! A process runs at most one suspect at a time, beside its other work. The next one starts when
//! that one has ended or has run for [`RUN_ALONE_FOR`]. Before a suspect starts, the store records
//! it. If the process then vanishes with only this suspect running, the loss is proven, which
//! archives it from its third loss on; the other jobs are recovered without a loss. If a process
//! vanishes while no suspect runs, the loss counts against every job in flight there, because any
//! of them may be the cause.
//!
//! A suspect waits for its turn without a slot, but in flight and with its lease renewed. At most
//! [`MAX_WAITING`] wait here. Others are put back for [`PUT_BACK_FOR`], so that other processes get
//! some of them, and this one dequeues other jobs meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::in_flight::{AcceptedDelivery, InFlightGuard};
use super::settle::Road;
use super::{WorkerShared, execute};
use crate::broker::{Delivery, Lease};
use crate::error::Refusals;
use crate::job::{Outcome, is_suspect};
use crate::time::Backoff;

/// How long a suspect runs before the next one may start beside it.
const RUN_ALONE_FOR: Duration = Duration::from_secs(30);

/// Maximum number of suspects that wait here for their turn.
const MAX_WAITING: usize = 16;

/// How long a suspect beyond [`MAX_WAITING`] is put back for.
const PUT_BACK_FOR: Duration = Duration::from_secs(5);

/// The suspects of a process.
pub(super) struct Suspects {
    /// One permit: the suspect that has it starts next or runs alone.
    turn: Arc<Semaphore>,
    /// Number of suspects that wait for their turn.
    waiting: AtomicUsize,
    /// Whether the suspect whose turn it is waits for a slot.
    wants_slot: AtomicBool,
    /// Number of suspects in flight. Locked while the store records it.
    running: Mutex<usize>,
}

impl Default for Suspects {
    fn default() -> Self {
        let turn = Arc::new(Semaphore::new(1));
        Self {
            turn,
            waiting: AtomicUsize::new(0),
            wants_slot: AtomicBool::new(false),
            running: Mutex::default(),
        }
    }
}

impl Suspects {
    /// Number of slots to leave free for suspects when jobs end: 0 or 1.
    pub(super) fn wanted_slots(&self) -> usize {
        usize::from(self.wants_slot.load(Ordering::Relaxed))
    }
}

/// Whether this delivery has to wait for its turn. A cancelled job runs no handler, so it
/// does not.
pub(super) fn waits(delivery: &Delivery) -> bool {
    is_suspect(delivery.losses) && delivery.on_cancel.is_none()
}

/// Counts a suspect as waiting until this is dropped.
struct WaitingSuspect<'a>(&'a Suspects);

impl Drop for WaitingSuspect<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a suspect when it is its turn.
pub(super) async fn run(shared: Arc<WorkerShared>, job: AcceptedDelivery) {
    let AcceptedDelivery { delivery, guard, slot } = job;
    // Other jobs use the slot meanwhile.
    drop(slot);
    shared.outbox.wake_dispatcher();
    let waiting = WaitingSuspect(&shared.suspects);
    if shared.suspects.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
        return settle(&shared, delivery, guard, Some(Outcome::NotStarted(PUT_BACK_FOR))).await;
    }
    let job = Arc::clone(guard.job());
    let turn = tokio::select! {
        biased;
        () = shared.stop.cancelled() => None,
        // It ends without having started.
        _ = job.cancellation.cancelled() => None,
        turn = turn(&shared) => turn,
    };
    drop(waiting);
    let Some((turn, slot)) = turn else { return not_started(&shared, delivery, guard).await };
    let recorded = begin(&shared, &job.current()).await;
    let mut turn = Some(turn);
    match recorded {
        StartRecord::Ours => {
            // In a task of its own: a handler may keep its thread.
            let of_job = Arc::clone(&shared);
            let attempt = async move { settle(&of_job, delivery, guard, None).await };
            let mut attempt = shared.tasks.spawn(attempt);
            let mut ended = tokio::time::timeout(RUN_ALONE_FOR, &mut attempt).await;
            if ended.is_err() {
                turn = None;
                ended = Ok(attempt.await);
            }
            if let Ok(Err(error)) = ended {
                crate::log::error!("the task of a suspect ended: {error}");
            }
        }
        // The next owner or the recoverer has it.
        StartRecord::Lost => drop(guard),
        StartRecord::Stopped => not_started(&shared, delivery, guard).await,
    }
    drop(slot);
    shared.outbox.wake_dispatcher();
    end(&shared).await;
    // Last, so that the next suspect begins with the right count.
    drop(turn);
}

/// Waits for the turn, then for a slot.
async fn turn(shared: &WorkerShared) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
    let suspects = &shared.suspects;
    let turn = Arc::clone(&suspects.turn).acquire_owned().await.ok()?;
    let wants = Wants::slot(suspects);
    let slot = shared.slots.take().await?;
    drop(wants);
    // More slots than one may have been left for it.
    shared.outbox.wake_dispatcher();
    Some((turn, slot))
}

/// Makes ending jobs leave a slot for the suspect until this is dropped.
struct Wants<'a>(&'a Suspects);

impl<'a> Wants<'a> {
    fn slot(suspects: &'a Suspects) -> Self {
        suspects.wants_slot.store(true, Ordering::Relaxed);
        Self(suspects)
    }
}

impl Drop for Wants<'_> {
    fn drop(&mut self) {
        self.0.wants_slot.store(false, Ordering::Relaxed);
    }
}

/// Settles a suspect that did not start: it becomes pending again, or ends as an operator
/// requested.
async fn not_started(shared: &Arc<WorkerShared>, delivery: Delivery, guard: InFlightGuard) {
    let outcome = match guard.job().on_cancel() {
        Some(after) => Outcome::Cancelled(after),
        None => Outcome::NotStarted(Duration::ZERO),
    };
    settle(shared, delivery, guard, Some(outcome)).await;
}

/// Runs the suspect, unless an outcome is `given`, and settles it.
async fn settle(
    shared: &Arc<WorkerShared>,
    delivery: Delivery,
    guard: InFlightGuard,
    given: Option<Outcome>,
) {
    if let Some(ended) = execute::run_to_end(shared, delivery, guard, given).await {
        ended.alone(shared, Road::Own).await;
    }
}

/// The result of recording that a suspect starts.
enum StartRecord {
    /// It may start.
    Ours,
    /// Its lease was lost.
    Lost,
    /// The worker stops.
    Stopped,
}

/// Records in the store that this suspect starts, and tries until the store has answered. It
/// must not start unrecorded: if it then killed the process, its loss would prove nothing.
async fn begin(shared: &WorkerShared, lease: &Lease) -> StartRecord {
    let mut running = shared.suspects.running.lock().await;
    *running += 1;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut refused = Refusals::default();
    loop {
        match shared.broker.begin_suspect(lease, *running).await {
            Ok(true) => return StartRecord::Ours,
            Ok(false) => return StartRecord::Lost,
            Err(error) => refused.note("starting a suspect", &error),
        }
        tokio::select! {
            () = shared.stop.cancelled() => return StartRecord::Stopped,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

/// Records in the store that a suspect has ended, and tries until the store has answered or
/// the worker gives up.
async fn end(shared: &WorkerShared) {
    let mut running = shared.suspects.running.lock().await;
    *running -= 1;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    while let Err(error) = shared.broker.end_suspect(*running).await {
        crate::log::debug!("the end of a suspect was not recorded: {error:?}");
        tokio::select! {
            () = shared.give_up.cancelled() => return,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}
