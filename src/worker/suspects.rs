//! Suspects: jobs whose worker vanished twice or more while they were in flight. One of
//! them may be what ends the process, so that it is to be known which.
//!
//! A process runs at most one suspect at a time, beside its other work; the next one
//! starts when that has ended or has run for [`ALONE`]. Before a suspect starts, the
//! store is told. If the process then vanishes, the jobs it had are recovered without a
//! loss, except of that suspect, and the next loss of a suspect that had started archives
//! it. A process that vanishes without a suspect charges all it had, because nothing is
//! known about them.
//!
//! A suspect waits for its turn without a slot, in flight and under its lease. Of many,
//! [`MOST_WAITING`] wait here; the others are put back for a while, so that other
//! processes get some and other jobs are dequeued meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::in_flight::{Accepted, InFlightGuard};
use super::settle::Road;
use super::{Shared, execute};
use crate::broker::{Delivery, Lease};
use crate::error::Refusals;
use crate::job::{Outcome, is_suspect};
use crate::time::Backoff;

/// How long a suspect runs before the next one starts beside it.
const ALONE: Duration = Duration::from_secs(30);

/// Most suspects that wait here for their turn.
const MOST_WAITING: usize = 16;

/// How long those beyond are put back for.
const PUT_BACK: Duration = Duration::from_secs(5);

/// The suspects of a process.
pub(super) struct Suspects {
    turn: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Whether the one whose turn it is waits for a slot.
    wants_slot: AtomicBool,
    /// How many run. Held while the store is told.
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
    /// How many slots jobs that end are to leave.
    pub(super) fn wanted_slots(&self) -> usize {
        usize::from(self.wants_slot.load(Ordering::Relaxed))
    }
}

/// Whether this delivery is to wait for its turn. One that is to end as an operator wants
/// starts nothing.
pub(super) fn waits(delivery: &Delivery) -> bool {
    is_suspect(delivery.losses) && delivery.on_cancel.is_none()
}

/// One that waits until this is dropped.
struct Waiting<'a>(&'a Suspects);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a suspect when it is its turn.
pub(super) async fn run(shared: Arc<Shared>, job: Accepted) {
    let Accepted { delivery, guard, permit } = job;
    // Other work has the slot meanwhile.
    drop(permit);
    shared.outbox.call();
    let waiting = Waiting(&shared.suspects);
    if shared.suspects.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
        return settle(&shared, delivery, guard, Some(Outcome::NotStarted(PUT_BACK))).await;
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
    let noted = begin(&shared, &job.current()).await;
    let mut turn = Some(turn);
    match noted {
        Noted::Ours => {
            // In a task of its own: a handler may keep its thread.
            let of_job = Arc::clone(&shared);
            let attempt = async move { settle(&of_job, delivery, guard, None).await };
            let mut attempt = shared.tasks.spawn(attempt);
            let mut ended = tokio::time::timeout(ALONE, &mut attempt).await;
            if ended.is_err() {
                turn = None;
                ended = Ok(attempt.await);
            }
            if let Ok(Err(error)) = ended {
                crate::log::error!("the task of a suspected job ended: {error}");
            }
        }
        // The next owner has it, or the recoverer will.
        Noted::Lost => drop(guard),
        Noted::Stopped => not_started(&shared, delivery, guard).await,
    }
    drop(slot);
    shared.outbox.call();
    end(&shared).await;
    // Not before: the next one begins with a count that is right.
    drop(turn);
}

/// The turn, and a slot.
async fn turn(shared: &Shared) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
    let suspects = &shared.suspects;
    let turn = Arc::clone(&suspects.turn).acquire_owned().await.ok()?;
    let wants = Wants::slot(suspects);
    let slot = Arc::clone(&shared.permits).acquire_owned().await.ok()?;
    drop(wants);
    // What was left to it may be more than it took.
    shared.outbox.call();
    Some((turn, slot))
}

/// The suspect whose turn it is has no slot until this is dropped.
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

/// Pending again as the next job, or what an operator requested.
async fn not_started(shared: &Arc<Shared>, delivery: Delivery, guard: InFlightGuard) {
    let outcome = match guard.job().on_cancel() {
        Some(after) => Outcome::Cancelled(after),
        None => Outcome::NotStarted(Duration::ZERO),
    };
    settle(shared, delivery, guard, Some(outcome)).await;
}

/// Runs it to its end, unless an outcome is given, and settles it.
async fn settle(
    shared: &Arc<Shared>,
    delivery: Delivery,
    guard: InFlightGuard,
    given: Option<Outcome>,
) {
    if let Some(ended) = execute::to_its_end(shared, delivery, guard, given).await {
        ended.alone(shared, Road::Own).await;
    }
}

enum Noted {
    Ours,
    Lost,
    Stopped,
}

/// Tells the store that this suspect starts, until it has heard.
async fn begin(shared: &Shared, lease: &Lease) -> Noted {
    let mut running = shared.suspects.running.lock().await;
    *running += 1;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut refused = Refusals::default();
    loop {
        match shared.broker.begin_suspect(lease, *running).await {
            Ok(true) => return Noted::Ours,
            Ok(false) => return Noted::Lost,
            Err(error) => refused.note("starting a suspected job", &error),
        }
        tokio::select! {
            () = shared.stop.cancelled() => return Noted::Stopped,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

/// Tells the store that a suspect runs no more, until it has heard or the worker stops.
async fn end(shared: &Shared) {
    let mut running = shared.suspects.running.lock().await;
    *running -= 1;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    while let Err(error) = shared.broker.end_suspect(*running).await {
        crate::log::debug!("the end of a suspected job was not noted: {error:?}");
        tokio::select! {
            () = shared.give_up.cancelled() => return,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}
