//! Carries out what was decided, and does not let go while the store is away:
//! an acknowledgement that is given up means that the job runs twice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::hands::{Accepted, InHand};
use super::start::start;
use crate::broker::{Delivery, Settled};
use crate::error::{Error, Refusals};
use crate::job::{JobContext, Transition, report};
use crate::time::Backoff;

/// A job whose attempt is over, with what was decided about it.
pub(super) struct Ended {
    pub(super) delivery: Delivery,
    pub(super) transition: Transition,
    pub(super) settling: Settling,
}

/// What belongs to a job until it is settled.
pub(super) struct Settling {
    pub(super) in_hand: InHand,
    pub(super) context: JobContext,
    /// How long the attempt took.
    pub(super) took: Duration,
    /// Its place in the worker; `None` where a test runs it.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Ended {
    /// Takes the turn at the lease, so that the heartbeat leaves it alone until the
    /// settlement has been tried.
    pub(super) async fn begin(&mut self) {
        self.delivery.lease = self.settling.in_hand.hand().begin_settling().await;
    }

    pub(super) fn parts(self) -> ((Delivery, Transition), Settling) {
        ((self.delivery, self.transition), self.settling)
    }

    /// Settles it by itself; what became of the job, which an operator may have wanted
    /// otherwise.
    pub(super) async fn alone(self, shared: &Arc<Shared>) -> Transition {
        let Self { delivery, transition, settling } = self;
        settling.keep_trying(shared, delivery, transition, None).await
    }
}

impl Settling {
    /// Settles a job by itself whose settlement failed.
    pub(super) async fn again(
        mut self,
        shared: Arc<Shared>,
        delivery: Delivery,
        transition: Transition,
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
        self.keep_trying(&shared, delivery, transition, error).await;
        drop(spare);
        shared.outbox.call();
    }

    async fn keep_trying(
        mut self,
        shared: &Arc<Shared>,
        delivery: Delivery,
        transition: Transition,
        mut failed: Option<Error>,
    ) -> Transition {
        let mut settlement = [(delivery, transition)];
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut refused = Refusals::default();
        loop {
            let hand = Arc::clone(self.in_hand.hand());
            if let Some(error) = failed {
                // The heartbeat extends the lease between two tries.
                hand.pause_settling();
                let pause = backoff.next();
                let id = &hand.job.id;
                refused.note("settling a job", &error);
                tracing::debug!("settling {id:?} failed, next try in {pause:?}: {error:?}");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shared.give_up.cancelled() => {
                        tracing::warn!("job left to its lease: id={id:?}, settling failed: {error}");
                        let [(_, transition)] = settlement;
                        return transition;
                    }
                }
            }
            settlement[0].0.lease = hand.begin_settling().await;
            match shared.broker.settle(&settlement).await {
                Ok(settled) => {
                    let [(delivery, transition)] = &settlement;
                    match settled.first() {
                        Some(&settled @ (Settled::Done | Settled::Cancelled(_))) => {
                            let done = self.done(shared, delivery, transition.clone(), settled);
                            self.tell(shared, &done);
                            start(shared, self.next().into_iter().collect());
                            return done;
                        }
                        Some(Settled::Lost) | None => match self.lost(delivery) {
                            Some(again) => (self, failed) = (again, None),
                            None => {
                                let [(_, transition)] = settlement;
                                return transition;
                            }
                        },
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
    }

    /// The store has carried it out; what became of the job.
    pub(super) fn done(
        &self,
        shared: &Shared,
        delivery: &Delivery,
        transition: Transition,
        settled: Settled,
    ) -> Transition {
        let transition = match settled {
            Settled::Cancelled(after) => after.carried_out(&transition),
            Settled::Done | Settled::Lost => transition,
        };
        report(&delivery.job, &transition, self.took, shared.broker.now());
        transition
    }

    /// What was delivered of the job while its settlement was under way, which is
    /// answered.
    pub(super) fn next(&self) -> Option<Accepted> {
        self.in_hand.hand().over().map(Accepted::ready)
    }

    /// The lease was lost. If the job has been delivered to this process again, it is
    /// settled under the new lease: the attempt is not to be made twice.
    pub(super) fn lost(self, delivery: &Delivery) -> Option<Self> {
        if let Some(next) = self.in_hand.hand().over() {
            let Accepted { in_hand, permit, .. } = next;
            return Some(Self { in_hand, permit: Some(permit), ..self });
        }
        let (job_type, id) = (&delivery.job.job_type, &delivery.job.id);
        tracing::warn!(
            "lease lost before settling: type={job_type:?} id={id:?}; nothing was written"
        );
        None
    }

    /// Tells the application's own hooks. One that panics harms nobody else.
    pub(super) fn tell(&self, shared: &Shared, transition: &Transition) {
        for hook in &shared.settings.settled {
            if catch_unwind(AssertUnwindSafe(|| hook(&self.context, transition))).is_err() {
                let id = self.context.id();
                tracing::error!("a hook panicked after job {id:?} was settled");
            }
        }
    }
}
