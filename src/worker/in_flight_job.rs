//! One job in flight and its lease, from its delivery until it is settled.
//!
//! The lease counts from the delivery: the heartbeat renews it while the job waits for
//! its start, runs and is settled, and an attempt begins only under a lease that is
//! known to hold. Whose the lease is does not change by an extension, so that one that is
//! under way harms no settlement.
//!
//! A lease can be lost although the attempt goes on: the process was stopped for long,
//! or a clock was set. If the store then delivers the same job to this process again,
//! the new lease goes to the attempt that runs ([`Again::TakenOver`]), so that the job
//! neither runs beside itself nor loses what was done. If the attempt has ended already
//! and its settlement is on its way, the new delivery waits for the answer
//! ([`Again::Behind`]): a settlement that was carried out leaves the job to be run, one
//! that came too late is repeated under the new lease.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::in_flight::Accepted;
use crate::broker::{Delivery, Extended, LEASE, Lease, Running};
use crate::job::{AfterCancel, CancelReason, Cancellation, Charge, JobRecord, is_suspect};
use crate::sync::lock;
use crate::time::Timestamp;

/// How long after its end an attempt may go on before it is warned of.
const STUCK: Duration = Duration::from_secs(5);

/// How long a lease holds beyond an answer that its queue is being moved. Recovery
/// waits at least as long once the move is over.
const MOVING_GRACE: Duration = Duration::from_secs(8);

/// A settlement that takes so long that less is left of the lease needs more of it.
const LEFT_FOR_SETTLING: Duration = Duration::from_secs(LEASE.as_secs() / 2);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Delivered; its attempt has not begun.
    Waiting,
    /// Delivered while the settlement of the attempt before is under way.
    Behind,
    Running,
    /// The handler is gone, and its outcome is on its way to the store.
    Settling,
    /// Nothing happens to it here any more.
    Over,
}

/// What changes while a job is in flight.
struct Changing {
    phase: Phase,
    lease: Lease,
    /// Until when the lease holds, as this process knows it: counted from before the
    /// store was asked for it.
    holds_until: Instant,
    /// A settlement is under way.
    settling: bool,
    /// A second delivery of the same job.
    next: Option<Box<Accepted>>,
}

/// When an attempt began and has to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// In store time, as it is shown.
    pub(super) started: Timestamp,
    /// In store time, as it is shown.
    pub(super) deadline: Timestamp,
    /// What rules: no clock that is set moves it.
    pub(super) ends: Instant,
}

/// Why an attempt may not begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum NotBegun {
    /// The lease has run out or was lost: another worker may have the job.
    LeaseLost,
    /// It was given back meanwhile, because it could not start soon.
    GivenBack,
}

/// How a second delivery of a job in flight was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Again {
    /// The job goes on under the new lease.
    TakenOver,
    /// The settlement of its last attempt must be answered first.
    Behind,
    /// It is not in flight any more.
    New,
}

/// Whether somebody has seen before that a job is not in flight any more.
pub(super) enum Over {
    Already,
    /// With what was delivered of it meanwhile.
    Now(Option<Box<Accepted>>),
}

/// One job in flight.
pub(super) struct InFlightJob {
    pub(super) record: Arc<JobRecord>,
    /// When this process had it.
    delivered: Instant,
    losses: u32,
    attempt: OnceLock<Attempt>,
    /// How the attempt learns that it is to end.
    pub(super) cancellation: Arc<Cancellation>,
    /// What an operator wants to become of the job, once one wants its end.
    on_cancel: OnceLock<AfterCancel>,
    /// Its id was called out; what is wanted of it comes with the next extension.
    cancel_requested: AtomicBool,
    /// Since when the heartbeat sees that the attempt is to end.
    ending: OnceLock<Instant>,
    /// It was warned of.
    stuck: AtomicBool,
    changing: Mutex<Changing>,
}

impl InFlightJob {
    /// A job just delivered, whose lease holds until then.
    pub(super) fn new(
        delivery: &Delivery,
        holds_until: Instant,
        interrupt: &CancellationToken,
    ) -> Self {
        Self {
            record: Arc::new(delivery.job.clone()),
            delivered: Instant::now(),
            losses: delivery.losses,
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

    /// The lease as it is known now.
    pub(super) fn current(&self) -> Lease {
        self.changing().lease.clone()
    }

    /// Begins the attempt, unless the job is not ours to run.
    pub(super) fn begin(&self, attempt: Attempt) -> Result<(), NotBegun> {
        let mut changing = self.changing();
        if changing.phase != Phase::Waiting {
            return Err(NotBegun::GivenBack);
        }
        if changing.holds_until <= Instant::now() {
            changing.phase = Phase::Over;
            return Err(NotBegun::LeaseLost);
        }
        changing.phase = Phase::Running;
        // Waiting comes once.
        let _ = self.attempt.set(attempt);
        Ok(())
    }

    /// The attempt, once it has begun: what the process is charged with if it dies.
    pub(super) fn running(&self) -> Option<Running> {
        let attempt = self.attempt.get()?;
        let (started, deadline) = (attempt.started, attempt.deadline);
        Some(Running { job: Arc::clone(&self.record), started, deadline })
    }

    /// A delivery that has waited for its start since before then, to be given back: it
    /// does not start here any more. With when it came. A suspect only if that is said.
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
        };
        Some((self.delivered, delivery))
    }

    pub(super) fn is_waiting_suspect(&self) -> bool {
        is_suspect(self.losses) && self.changing().phase == Phase::Waiting
    }

    /// The store has delivered the job once more.
    pub(super) fn deliver_again(&self, delivery: &Delivery, holds_until: Instant) -> Again {
        {
            let mut changing = self.changing();
            match changing.phase {
                Phase::Over => return Again::New,
                // It may have been carried out, and this be the attempt after it.
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

    /// Keeps a second delivery until the settlement of this one is answered; gives it
    /// back if it was meanwhile.
    pub(super) fn keep_next(&self, next: Accepted) -> Option<Accepted> {
        next.guard.job().changing().phase = Phase::Behind;
        let mut changing = self.changing();
        if changing.phase != Phase::Over {
            changing.next = Some(Box::new(next));
            return None;
        }
        drop(changing);
        Some(next.ready())
    }

    /// It waits for its start, after it was [kept](Self::keep_next).
    pub(super) fn ready(&self) {
        let mut changing = self.changing();
        if changing.phase == Phase::Behind {
            changing.phase = Phase::Waiting;
        }
    }

    /// The job is not ours any more, or was settled.
    pub(super) fn over(&self) -> Over {
        let mut changing = self.changing();
        if changing.phase == Phase::Over {
            return Over::Already;
        }
        changing.phase = Phase::Over;
        Over::Now(changing.next.take())
    }

    /// Whether an attempt that was told of the loss of its lease has none by now. Then
    /// it is over, and a new delivery is another attempt.
    pub(super) fn is_lost(&self) -> bool {
        let mut changing = self.changing();
        let lost = changing.holds_until <= Instant::now();
        if lost {
            changing.phase = Phase::Over;
        }
        lost
    }

    /// The store says that this lease is not ours any more.
    pub(super) fn lose(&self, lease: &Lease) {
        let mut changing = self.changing();
        // A newer lease is not meant, and a settlement hears of it by itself.
        if changing.lease.owner != lease.owner || changing.phase == Phase::Settling {
            return;
        }
        changing.holds_until = Instant::now();
        if changing.phase == Phase::Running {
            self.cancellation.cancel(CancelReason::LeaseLost);
        }
    }

    /// What an operator wants to become of the job.
    pub(super) fn on_cancel(&self) -> Option<AfterCancel> {
        self.on_cancel.get().copied()
    }

    /// Somebody wants its end. Whether that is news.
    pub(super) fn request_cancel(&self) -> bool {
        // Once is enough, however often it is called out.
        !self.cancel_requested.swap(true, Ordering::Relaxed)
    }

    fn end_as(&self, after: AfterCancel) {
        // The first wish stays: the attempt is ending already.
        let _ = self.on_cancel.set(after);
        self.cancellation.cancel(CancelReason::Operator);
    }

    /// The lease, for a settlement.
    pub(super) fn begin_settling(&self) -> Lease {
        let mut changing = self.changing();
        if changing.phase != Phase::Over {
            changing.phase = Phase::Settling;
        }
        changing.settling = true;
        changing.lease.clone()
    }

    /// The settlement has to be tried again.
    pub(super) fn pause_settling(&self) {
        self.changing().settling = false;
    }

    /// The lease, for an extension, unless a settlement is under way and will be quick.
    /// A lease whose time is over here is lost: another worker may have the job. With
    /// whether the job was called out before: its wish comes with this answer.
    pub(super) fn begin_extending(&self) -> Option<(Lease, bool)> {
        let changing = self.changing();
        let left = changing.holds_until.saturating_duration_since(Instant::now());
        if changing.phase == Phase::Over || changing.settling && left > LEFT_FOR_SETTLING {
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

    /// Takes in what the store said about this lease when it was asked then.
    pub(super) fn end_extending(
        &self,
        lease: &Lease,
        extended: Extended,
        asked: Instant,
        called: bool,
    ) {
        {
            let mut changing = self.changing();
            // It may have been delivered again meanwhile: then another lease counts.
            if let Extended::Renewed(renewed) | Extended::Cancelled(renewed, _) = &extended
                && renewed.owner == changing.lease.owner
            {
                changing.lease = renewed.clone();
                changing.holds_until = asked + LEASE;
            }
            // Nobody can take the job, nor before its owner has had time to ask again.
            if extended == Extended::Moving {
                changing.holds_until = changing.holds_until.max(asked + MOVING_GRACE);
            }
        }
        match extended {
            // Called out and no wish with the job: Asynq's own tools.
            Extended::Renewed(_) if called => self.end_as(AfterCancel::Retry),
            Extended::Cancelled(_, after) => self.end_as(after),
            Extended::Lost => self.lose(lease),
            Extended::Renewed(_) | Extended::Unknown | Extended::Moving => {}
        }
    }

    /// Tells the attempt that its time is over. Its own task does so to the moment, but
    /// not while a handler keeps its thread. Warns of one that goes on for long.
    pub(super) fn end_overdue(&self) {
        let overdue = |attempt: &Attempt| attempt.ends < Instant::now();
        if self.attempt.get().is_some_and(overdue) {
            self.cancellation.cancel(CancelReason::TimedOut);
        }
        let Some(reason) = self.cancellation.reason() else { return };
        let ending = self.ending.get_or_init(Instant::now).elapsed();
        let runs = self.changing().phase == Phase::Running;
        if ending >= STUCK && runs && !self.stuck.swap(true, Ordering::Relaxed) {
            let (job_type, id) = (&self.record.job_type, &self.record.id);
            crate::log::warn!(
                "job ignores cancellation ({reason:?}): type={job_type:?} id={id:?} cancelled \
                 more than {STUCK:?} ago; the handler blocks its thread and still holds a slot"
            );
        }
    }
}
