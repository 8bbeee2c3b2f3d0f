//! Carries out what was decided, and does not let go while the store is away:
//! an acknowledgement that is given up means that the job runs twice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::in_flight::{Accepted, InFlightGuard};
use super::in_flight_job::Over;
use super::launcher::start;
use crate::broker::{Broker, Delivery, SettleRequest, Settled};
use crate::error::{Error, Refusals};
use crate::job::{JobContext, Transition, report};
use crate::time::Backoff;

/// A job whose attempt is over, with what was decided about it.
pub(super) struct PendingSettle {
    pub(super) request: SettleRequest,
    pub(super) attempt: FinishedAttempt,
}

/// What belongs to a job until it is settled.
pub(super) struct FinishedAttempt {
    pub(super) guard: InFlightGuard,
    pub(super) context: JobContext,
    /// How long the attempt took.
    pub(super) took: Duration,
    /// Its place in the worker; `None` where a test runs it.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl PendingSettle {
    /// The heartbeat leaves the lease alone from now on, unless the settlement takes long.
    pub(super) fn begin(&mut self) {
        self.request.delivery.lease = self.attempt.guard.job().begin_settling();
    }

    pub(super) fn parts(self) -> (SettleRequest, FinishedAttempt) {
        (self.request, self.attempt)
    }

    /// Settles it by itself; what became of the job, which an operator may have wanted
    /// otherwise.
    pub(super) async fn alone(self, shared: &Arc<Shared>, road: Road<'_>) -> Transition {
        let Self { request, attempt } = self;
        attempt.keep_trying(shared, road, request, None).await
    }
}

/// How a settlement reaches the store.
#[derive(Clone, Copy)]
pub(super) enum Road<'a> {
    /// From the application's runtime.
    Own,
    /// From the heartbeat's thread, through its own connections. The application's hooks
    /// and jobs do not run there but on this runtime.
    Detached(&'a dyn Broker, &'a Handle),
}

impl FinishedAttempt {
    /// Settles a job by itself, whose settlement failed.
    pub(super) async fn again(
        mut self,
        shared: Arc<Shared>,
        request: SettleRequest,
        error: Option<Error>,
    ) {
        let mut spare = None;
        if error.as_ref().is_some_and(Error::is_unavailable) {
            // Its queue may be the only one that is away: the slot is for the others. Not
            // for ever more of them, should settling alone fail.
            spare = Arc::clone(&shared.unsettled).try_acquire_owned().ok();
            if spare.is_some() {
                self.permit = None;
                shared.outbox.call();
            }
        }
        self.keep_trying(&shared, Road::Own, request, error).await;
        drop(spare);
        shared.outbox.call();
    }

    async fn keep_trying(
        mut self,
        shared: &Arc<Shared>,
        road: Road<'_>,
        mut request: SettleRequest,
        mut failed: Option<Error>,
    ) -> Transition {
        let broker = match road {
            Road::Own => &*shared.broker,
            Road::Detached(broker, _) => broker,
        };
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut refused = Refusals::default();
        loop {
            let job = Arc::clone(self.guard.job());
            if let Some(error) = failed {
                // The heartbeat extends the lease between two tries.
                job.pause_settling();
                let pause = backoff.next();
                let id = &job.record.id;
                refused.note("settling a job", &error);
                crate::log::debug!("settling {id:?} failed, next try in {pause:?}: {error:?}");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shared.give_up.cancelled() => {
                        crate::log::warn!("job left to its lease: id={id:?}, settling failed: {error}");
                        return request.transition;
                    }
                }
            }
            request.delivery.lease = job.begin_settling();
            let answer = broker.settle(slice::from_ref(&request)).await;
            let answer = answer.map(|settled| settled.first().copied());
            let SettleRequest { delivery, transition } = &request;
            failed = match answer {
                Ok(Some(settled @ (Settled::Done | Settled::Cancelled(_)))) => {
                    let done = self.settled(shared, &road, delivery, transition.clone(), settled);
                    return done.unwrap_or_else(|| transition.clone());
                }
                Ok(Some(Settled::Lost) | None) => match self.lost(delivery) {
                    Some(again) => {
                        self = again;
                        None
                    }
                    None => return transition.clone(),
                },
                Err(error) => Some(error),
            };
        }
    }

    /// The store has settled the job: tells the application, and starts what was
    /// delivered of it meanwhile. What became of the job, unless that was known before.
    pub(super) fn settled(
        &self,
        shared: &Arc<Shared>,
        road: &Road<'_>,
        delivery: &Delivery,
        transition: Transition,
        settled: Settled,
    ) -> Option<Transition> {
        let (done, next) = self.done(shared, delivery, transition, settled)?;
        match road {
            Road::Own => {
                tell(shared, &self.context, &done);
                start(shared, next.into_iter().collect());
            }
            Road::Detached(_, runtime) => {
                let (shared, context, done) =
                    (Arc::clone(shared), self.context.clone(), done.clone());
                let after = Arc::clone(&shared);
                shared.tasks.spawn_on(
                    async move {
                        start(&after, next.into_iter().collect());
                        tell(&after, &context, &done);
                    },
                    runtime,
                );
            }
        }
        Some(done)
    }

    /// The store has settled the job: what became of it, and what was delivered of it
    /// meanwhile. Nothing where another sending was answered before.
    pub(super) fn done(
        &self,
        shared: &Shared,
        delivery: &Delivery,
        transition: Transition,
        settled: Settled,
    ) -> Option<(Transition, Option<Accepted>)> {
        let Over::Now(next) = self.guard.job().over() else { return None };
        let transition = match settled {
            Settled::Cancelled(after) => after.carried_out(&transition),
            Settled::Done | Settled::Lost => transition,
        };
        let shown = shared.settings.viewer.transition(&delivery.job, &transition);
        report(&delivery.job, &shown, self.took, shared.broker.now());
        Some((transition, next.map(|next| next.ready())))
    }

    /// The lease was lost. If the job has been delivered to this process again, it is
    /// settled under the new lease: the attempt is not to be made twice.
    pub(super) fn lost(self, delivery: &Delivery) -> Option<Self> {
        match self.guard.job().over() {
            // Settled by another sending.
            Over::Already => None,
            Over::Now(Some(next)) => {
                let Accepted { guard, permit, .. } = *next;
                Some(Self { guard, permit: Some(permit), ..self })
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

/// Tells the application's own hooks. One that panics harms nobody else.
pub(super) fn tell(shared: &Shared, context: &JobContext, transition: &Transition) {
    for hook in &shared.settings.settled {
        if catch_unwind(AssertUnwindSafe(|| hook(context, transition))).is_err() {
            let id = context.id();
            crate::log::error!("a hook panicked after job {id:?} was settled");
        }
    }
}
