//! One job in flight and its lease, from its delivery until it is settled.
//!
//! ```text
//!  Waiting ──begin──► Running ──begin_settling──► Settling ──over──► Over
//!     ▲  │                                           │
//!     │  └──────────give_back────────────────────────┼─────────────► Over
//!     └──ready── Behind ◄── second delivery ─────────┘
//! ```
//!
//! The lease counts from the delivery. The heartbeat renews it while the job waits for its
//! start, runs and is settled, and an attempt begins only under a lease that is known to
//! hold. A renewal does not change the owner of the lease, so a renewal that is under way
//! harms no settlement.
//!
//! A lease can be lost although the attempt goes on: the process was stopped for long, or a
//! clock was set. If the store then delivers the same job to this process again, the job
//! must neither run beside itself nor lose what was done. If the attempt still runs, it
//! gets the new lease ([`Again::TakenOver`]). If it has ended and its settlement is on its
//! way, the new delivery waits for the answer ([`Again::Behind`]): after a successful
//! settlement the job is run again, after a late one the settlement is repeated under the
//! new lease.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::in_flight::AcceptedDelivery;
use crate::broker::{Delivery, Extended, LEASE, Lease, Running};
use crate::job::{AfterCancel, CancelReason, Cancellation, Charge, JobRecord, is_suspect};
use crate::sync::lock;
use crate::time::Timestamp;

/// How long an attempt may ignore its cancellation before a warning is logged.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How long a lease holds after the answer that its queue is being moved within a Cluster.
/// Recovery waits at least as long once the move is over.
const MOVING_GRACE: Duration = Duration::from_secs(8);

/// A lease with less time left than this is renewed although its settlement is under way.
const MIN_LEASE_WHILE_SETTLING: Duration = Duration::from_secs(LEASE.as_secs() / 2);

/// Where the job is on its way; see the diagram above.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Delivered; its attempt has not begun.
    Waiting,
    /// Delivered while the settlement of the previous attempt is under way.
    Behind,
    /// Its handler runs, or is about to.
    Running,
    /// The handler has ended, and its outcome is on its way to the store.
    Settling,
    /// Settled, lost or given back.
    Over,
}

/// What changes while a job is in flight.
struct Changing {
    phase: Phase,
    lease: Lease,
    /// When the lease ends at the earliest. Counted from before the request to the store,
    /// so that the store's own end is never earlier.
    holds_until: Instant,
    /// A settlement is using the lease.
    settling: bool,
    /// A second delivery of the same job, kept until the settlement is answered.
    next: Option<Box<AcceptedDelivery>>,
}

/// When an attempt began and has to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptTimes {
    /// In store time, for display.
    pub(super) started: Timestamp,
    /// In store time, for display.
    pub(super) deadline: Timestamp,
    /// When the attempt is ended. Monotonic, so setting a clock does not move it.
    pub(super) ends: Instant,
}

/// Why an attempt may not begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum NotBegun {
    /// The lease has run out or was lost: another worker may have the job.
    LeaseLost,
    /// The job was given back, because it could not start soon.
    GivenBack,
}

/// How a second delivery of a job in flight is handled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Again {
    /// The job goes on under the new lease.
    TakenOver,
    /// The settlement of its last attempt must be answered first.
    Behind,
    /// The first one is over: the job is started again.
    New,
}

/// Answer of [`InFlightJob::over`]: whether this call ended the job.
pub(super) enum Over {
    /// Another call did.
    Already,
    /// This one did. Carries a second delivery that waited for it.
    Now(Option<Box<AcceptedDelivery>>),
}

/// One job in flight, with its lease.
pub(super) struct InFlightJob {
    pub(super) record: Arc<JobRecord>,
    /// When this process received it.
    delivered: Instant,
    losses: u32,
    /// Whether settling it gives places of limits back.
    limited: bool,
    attempt: OnceLock<AttemptTimes>,
    /// Cancels the attempt.
    pub(super) cancellation: Arc<Cancellation>,
    /// What happens to the job once an operator has cancelled it.
    on_cancel: OnceLock<AfterCancel>,
    /// A cancel request was heard. What happens to the job comes with the next renewal.
    cancel_requested: AtomicBool,
    /// When the heartbeat first saw that the attempt is cancelled.
    ending: OnceLock<Instant>,
    /// The warning about it has been logged.
    stuck: AtomicBool,
    changing: Mutex<Changing>,
}

impl InFlightJob {
    /// A job that was just delivered, and when its lease ends at the earliest.
    pub(super) fn new(
        delivery: &Delivery,
        holds_until: Instant,
        interrupt: &CancellationToken,
    ) -> Self {
        Self {
            record: Arc::new(delivery.job.clone()),
            delivered: Instant::now(),
            losses: delivery.losses,
            limited: delivery.limited,
            attempt: OnceLock::new(),
            cancellation: Arc::new(Cancellation::below(interrupt)),
            on_cancel: OnceLock::new(),
            cancel_requested: AtomicBool::new(false),
            ending: OnceLock::new(),
            stuck: AtomicBool::new(false),
            changing: Mutex::new(Changing {
                phase: Phase::Waiting,
                lease: delivery.lease.clone(),
                holds_until,
                settling: false,
                next: None,
            }),
        }
    }

    fn changing(&self) -> MutexGuard<'_, Changing> {
        lock(&self.changing)
    }

    /// The current lease.
    pub(super) fn current(&self) -> Lease {
        self.changing().lease.clone()
    }

    /// Begins the attempt, unless the lease was lost or the job was given back.
    pub(super) fn begin(&self, attempt: AttemptTimes) -> Result<(), NotBegun> {
        let mut changing = self.changing();
        if changing.phase != Phase::Waiting {
            return Err(NotBegun::GivenBack);
        }
        if changing.holds_until <= Instant::now() {
            changing.phase = Phase::Over;
            return Err(NotBegun::LeaseLost);
        }
        changing.phase = Phase::Running;
        // Set once: a job leaves `Waiting` once.
        let _ = self.attempt.set(attempt);
        Ok(())
    }

    /// The attempt, once it has begun. If the process dies, the loss counts against it.
    pub(super) fn running(&self) -> Option<Running> {
        let attempt = self.attempt.get()?;
        let (started, deadline) = (attempt.started, attempt.deadline);
        Some(Running { job: Arc::clone(&self.record), started, deadline })
    }

    /// Takes back the delivery of a job that has waited for its start since
    /// `delivered_before` or longer. It does not start here afterwards. Suspects are left
    /// alone unless `suspects` is set. Returns the delivery and when it was received.
    pub(super) fn give_back(
        &self,
        delivered_before: Instant,
        suspects: bool,
    ) -> Option<(Instant, Delivery)> {
        let mut changing = self.changing();
        let waits = changing.phase == Phase::Waiting && (suspects || !is_suspect(self.losses));
        if !waits || self.delivered > delivered_before {
            return None;
        }
        changing.phase = Phase::Over;
        let (job, lease) = ((*self.record).clone(), changing.lease.clone());
        let delivery = Delivery {
            job,
            lease,
            ready: None,
            losses: self.losses,
            charge: Charge::default(),
            on_cancel: None,
            limited: self.limited,
        };
        Some((self.delivered, delivery))
    }

    /// Whether it is a suspect that waits for its turn.
    pub(super) fn is_waiting_suspect(&self) -> bool {
        is_suspect(self.losses) && self.changing().phase == Phase::Waiting
    }

    /// Handles a second delivery of the job: the lease of the first one was lost.
    pub(super) fn deliver_again(&self, delivery: &Delivery, holds_until: Instant) -> Again {
        {
            let mut changing = self.changing();
            match changing.phase {
                Phase::Over => return Again::New,
                // The settlement may have succeeded, and this be the next attempt.
                Phase::Settling => return Again::Behind,
                Phase::Waiting | Phase::Behind | Phase::Running => {}
            }
            changing.lease = delivery.lease.clone();
            changing.holds_until = holds_until;
        }
        if let Some(after) = delivery.on_cancel {
            self.end_as(after);
        }
        Again::TakenOver
    }

    /// Keeps a second delivery until the settlement of this one is answered. Returns it if
    /// the settlement has been answered meanwhile: the job can start.
    pub(super) fn keep_next(&self, next: AcceptedDelivery) -> Option<AcceptedDelivery> {
        next.guard.job().changing().phase = Phase::Behind;
        let mut changing = self.changing();
        if changing.phase != Phase::Over {
            changing.next = Some(Box::new(next));
            return None;
        }
        drop(changing);
        Some(next.ready())
    }

    /// Lets a delivery that was [kept](Self::keep_next) start.
    pub(super) fn ready(&self) {
        let mut changing = self.changing();
        if changing.phase == Phase::Behind {
            changing.phase = Phase::Waiting;
        }
    }

    /// The job was settled or its lease was lost. Several replies may say so; only the
    /// first call gets [`Over::Now`].
    pub(super) fn over(&self) -> Over {
        let mut changing = self.changing();
        if changing.phase == Phase::Over {
            return Over::Already;
        }
        changing.phase = Phase::Over;
        Over::Now(changing.next.take())
    }

    /// Whether an attempt that was cancelled for the loss of its lease has no new lease.
    /// Then the job is over, and a new delivery is another attempt.
    pub(super) fn is_lost(&self) -> bool {
        let mut changing = self.changing();
        let lost = changing.holds_until <= Instant::now();
        if lost {
            changing.phase = Phase::Over;
        }
        lost
    }

    /// The store says that this lease belongs to another worker.
    pub(super) fn lose(&self, lease: &Lease) {
        let mut changing = self.changing();
        // A newer lease is not affected, and a settlement gets its own answer.
        if changing.lease.owner != lease.owner || changing.phase == Phase::Settling {
            return;
        }
        changing.holds_until = Instant::now();
        if changing.phase == Phase::Running {
            self.cancellation.cancel(CancelReason::LeaseLost);
        }
    }

    /// What happens to the job, if an operator has cancelled it.
    pub(super) fn on_cancel(&self) -> Option<AfterCancel> {
        self.on_cancel.get().copied()
    }

    /// Notes a cancel request. Returns whether it is the first one.
    pub(super) fn request_cancel(&self) -> bool {
        !self.cancel_requested.swap(true, Ordering::Relaxed)
    }

    /// Cancels the attempt as an operator requested. The first request counts.
    fn end_as(&self, after: AfterCancel) {
        // The first request stands: the attempt is ending already.
        let _ = self.on_cancel.set(after);
        self.cancellation.cancel(CancelReason::Operator);
    }

    /// Takes the lease for a settlement.
    pub(super) fn begin_settling(&self) -> Lease {
        let mut changing = self.changing();
        if changing.phase != Phase::Over {
            changing.phase = Phase::Settling;
        }
        changing.settling = true;
        changing.lease.clone()
    }

    /// Releases the lease between two attempts to settle, so that it can be renewed.
    pub(super) fn pause_settling(&self) {
        self.changing().settling = false;
    }

    /// Takes the lease for a renewal, unless a settlement is using it and has enough time
    /// left. An expired lease is lost: another worker may have the job, so the attempt is
    /// cancelled. The flag says whether a cancel request was heard before: then the answer
    /// to this renewal decides what happens to the job.
    pub(super) fn begin_extending(&self) -> Option<(Lease, bool)> {
        let changing = self.changing();
        let left = changing.holds_until.saturating_duration_since(Instant::now());
        if changing.phase == Phase::Over || changing.settling && left > MIN_LEASE_WHILE_SETTLING {
            return None;
        }
        if left.is_zero() {
            if changing.phase == Phase::Running {
                self.cancellation.cancel(CancelReason::LeaseLost);
            }
            return None;
        }
        Some((changing.lease.clone(), self.cancel_requested.load(Ordering::Relaxed)))
    }

    /// Takes in the store's answer to a renewal that was requested at `asked`.
    pub(super) fn end_extending(
        &self,
        lease: &Lease,
        extended: Extended,
        asked: Instant,
        called: bool,
    ) {
        {
            let mut changing = self.changing();
            // If the job was delivered again meanwhile, the newer lease counts.
            if let Extended::Renewed(renewed) | Extended::Cancelled(renewed, _) = &extended
                && renewed.owner == changing.lease.owner
            {
                changing.lease = renewed.clone();
                changing.holds_until = asked + LEASE;
            }
            // Nobody can dequeue the job while its queue is moved, and afterwards its owner
            // gets time to ask again.
            if extended == Extended::Moving {
                changing.holds_until = changing.holds_until.max(asked + MOVING_GRACE);
            }
        }
        match extended {
            // A request without a stored action: it came from Asynq's tools.
            Extended::Renewed(_) if called => self.end_as(AfterCancel::Retry),
            Extended::Cancelled(_, after) => self.end_as(after),
            Extended::Lost => self.lose(lease),
            Extended::Renewed(_) | Extended::Unknown | Extended::Moving => {}
        }
    }

    /// Cancels the attempt if its time is over. Its own task does that on time, except
    /// while the handler blocks its thread. Logs a warning if it ignores that.
    pub(super) fn end_overdue(&self) {
        let overdue = |attempt: &AttemptTimes| attempt.ends < Instant::now();
        if self.attempt.get().is_some_and(overdue) {
            self.cancellation.cancel(CancelReason::TimedOut);
        }
        let Some(reason) = self.cancellation.reason() else { return };
        let ending = self.ending.get_or_init(Instant::now).elapsed();
        let runs = self.changing().phase == Phase::Running;
        if ending >= STUCK_AFTER && runs && !self.stuck.swap(true, Ordering::Relaxed) {
            let (job_type, id) = (&self.record.job_type, &self.record.id);
            crate::log::warn!(
                "job ignores cancellation ({reason:?}): type={job_type:?} id={id:?} cancelled \
                 more than {STUCK_AFTER:?} ago; the handler blocks its thread and still holds a slot"
            );
        }
    }
}
