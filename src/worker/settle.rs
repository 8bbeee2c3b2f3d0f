//! Settles finished attempts, and keeps trying while the store is away: an
//! acknowledgement that is given up means that the job runs twice.
//!
//! A [`PendingSettle`] is one value on the whole road from the handler's end to the
//! store's reply: the request, and what belongs to the attempt until it is settled.
//! Normally it goes with the dispatcher's next round trip. If its settlement fails
//! there, it is settled alone, with backoff, until the store replies or the worker
//! gives up at the end of its shutdown; the job then keeps its lease and is recovered.
//!
//! Between two tries the heartbeat may extend the lease; during a try it must not, so
//! the two take turns through the in-flight job. A settlement whose lease was lost
//! may find that this process was given the same job again: the attempt then settles
//! under the new lease, and the job is not run twice.
//!
//! What may surprise. The transition that the hooks see is the one that was carried out, which an
//! operator's cancel request may have changed. A worker that gives up leaves the job to its lease;
//! another one then runs it again, which is why jobs run at least once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::WorkerShared;
use super::in_flight::{AcceptedDelivery, InFlightGuard};
use super::in_flight_job::Over;
use super::launcher::launch;
use crate::broker::{Broker, Delivery, SettleRequest, Settled};
use crate::error::{Error, Refusals};
use crate::job::{JobContext, Transition, report};
use crate::time::Backoff;

/// A finished attempt on its way to the store.
pub(super) struct PendingSettle {
    /// The job, its lease and the transition.
    pub(super) request: SettleRequest,
    pub(super) attempt: FinishedAttempt,
}

/// What belongs to an attempt until it is settled.
pub(super) struct FinishedAttempt {
    pub(super) guard: InFlightGuard,
    pub(super) context: JobContext,
    /// How long the attempt took.
    pub(super) took: Duration,
    /// Its slot in the worker; `None` if a test runs it.
    pub(super) slot: Option<OwnedSemaphorePermit>,
}

impl PendingSettle {
    /// From now on the heartbeat extends the lease only if the settlement takes long.
    pub(super) fn begin(&mut self) {
        self.request.delivery.lease = self.attempt.guard.job().begin_settling();
    }

    /// Settles it alone. Returns the transition that was carried out, which a cancel request
    /// may have changed.
    pub(super) async fn alone(self, shared: &Arc<WorkerShared>, road: Road<'_>) -> Transition {
        self.keep_trying(shared, road, None).await
    }

    /// Settles it alone after its settlement failed, or was lost (no error). While the store is
    /// unreachable it may give up its slot, so that the worker can serve queues on other
    /// servers.
    pub(super) async fn again(mut self, shared: Arc<WorkerShared>, error: Option<Error>) {
        let mut spare = None;
        if error.as_ref().is_some_and(Error::is_unavailable) {
            // Its queue may be the only one that is away, so other jobs get the slot. The
            // number of such jobs is bounded, in case settling alone fails too.
            spare = shared.slots.try_take_unsettled();
            if spare.is_some() {
                self.attempt.slot = None;
                shared.outbox.wake_dispatcher();
            }
        }
        self.keep_trying(&shared, Road::Own, error).await;
        drop(spare);
        shared.outbox.wake_dispatcher();
    }

    /// Settles until the store replies or the worker gives up. `failed` is the error of an
    /// earlier try. The pauses grow from 20 ms to 1 s.
    async fn keep_trying(
        mut self,
        shared: &Arc<WorkerShared>,
        road: Road<'_>,
        mut failed: Option<Error>,
    ) -> Transition {
        let broker = match road {
            Road::Own => &*shared.broker,
            Road::Detached(broker, _) => broker,
        };
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut refused = Refusals::default();
        loop {
            let job = Arc::clone(self.attempt.guard.job());
            if let Some(error) = failed {
                // The heartbeat may extend the lease between two tries.
                job.pause_settling();
                let pause = backoff.next();
                let id = &job.record.id;
                refused.note("settling a job", &error);
                crate::log::debug!("settling {id:?} failed, next try in {pause:?}: {error:?}");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shared.give_up.cancelled() => {
                        crate::log::warn!("job left to its lease: id={id:?}, settling failed: {error}");
                        return self.request.transition;
                    }
                }
            }
            self.request.delivery.lease = job.begin_settling();
            let answer = broker.settle(slice::from_ref(&self.request)).await;
            failed = match answer.map(|settled| settled.first().copied()) {
                Ok(Some(settled @ (Settled::Done | Settled::Cancelled(_)))) => {
                    let done = self.attempt.settled(shared, &road, &self.request, settled);
                    return done.unwrap_or(self.request.transition);
                }
                Ok(Some(Settled::Lost) | None) => {
                    match self.attempt.lost(&self.request.delivery) {
                        Some(attempt) => self.attempt = attempt,
                        None => return self.request.transition,
                    }
                    None
                }
                Err(error) => Some(error),
            };
        }
    }
}

/// The way of a settlement to the store.
#[derive(Clone, Copy)]
pub(super) enum Road<'a> {
    /// From the application's runtime.
    Own,
    /// From the heartbeat's thread, through its own connections. Hooks and jobs of the
    /// application still run on this runtime.
    Detached(&'a dyn Broker, &'a Handle),
}

impl FinishedAttempt {
    /// The store has settled the job: calls the application's hooks, and starts a delivery of the
    /// same job that came meanwhile. Returns the transition that was carried out. A settlement may
    /// have been sent twice (see [`stall`](super::stall)): `None` if its other reply came first.
    pub(super) fn settled(
        &self,
        shared: &Arc<WorkerShared>,
        road: &Road<'_>,
        request: &SettleRequest,
        settled: Settled,
    ) -> Option<Transition> {
        let transition = request.transition.clone();
        let (done, next) = self.done(shared, &request.delivery, transition, settled)?;
        match road {
            Road::Own => {
                tell(shared, &self.context, &done);
                launch(shared, next.into_iter().collect());
            }
            Road::Detached(_, runtime) => {
                let (shared, context, done) =
                    (Arc::clone(shared), self.context.clone(), done.clone());
                let after = Arc::clone(&shared);
                shared.tasks.spawn_on(
                    async move {
                        launch(&after, next.into_iter().collect());
                        tell(&after, &context, &done);
                    },
                    runtime,
                );
            }
        }
        Some(done)
    }

    /// The store has settled the job. Returns the transition that was carried out and a delivery of
    /// the same job that came meanwhile; `None` if another reply to this settlement came first.
    pub(super) fn done(
        &self,
        shared: &WorkerShared,
        delivery: &Delivery,
        transition: Transition,
        settled: Settled,
    ) -> Option<(Transition, Option<AcceptedDelivery>)> {
        let Over::Now(next) = self.guard.job().over() else { return None };
        let transition = match settled {
            Settled::Cancelled(after) => after.carried_out(&transition),
            Settled::Done | Settled::Lost => transition,
        };
        let shown = shared.settings.viewer.transition(&delivery.job, &transition);
        report(&delivery.job, &shown, self.took, shared.broker.now());
        Some((transition, next.map(|next| next.ready())))
    }

    /// The lease was lost. If the job was delivered to this process again, the attempt settles
    /// under the new lease, so that it is not made twice.
    pub(super) fn lost(self, delivery: &Delivery) -> Option<Self> {
        match self.guard.job().over() {
            // The other copy of this settlement was carried out.
            Over::Already => None,
            Over::Now(Some(next)) => {
                let AcceptedDelivery { guard, slot, .. } = *next;
                Some(Self { guard, slot: Some(slot), ..self })
            }
            Over::Now(None) => {
                let (job_type, id) = (&delivery.job.job_type, &delivery.job.id);
                crate::log::warn!(
                    "lease lost before settling: type={job_type:?} id={id:?}; nothing was written"
                );
                None
            }
        }
    }
}

/// Calls the application's hooks. One that panics stops no other.
pub(super) fn tell(shared: &WorkerShared, context: &JobContext, transition: &Transition) {
    for hook in &shared.settings.settled {
        if catch_unwind(AssertUnwindSafe(|| hook(context, transition))).is_err() {
            let id = context.id();
            crate::log::error!("a hook panicked after job {id:?} was settled");
        }
    }
}
