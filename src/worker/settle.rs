//! Carries out what was decided, and does not let go while the store is away:
//! an acknowledgement that is given up means that the job runs twice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Shared;
use super::hands::Hand;
use crate::broker::{Delivery, Settled};
use crate::error::Refusals;
use crate::job::{JobContext, Transition, report};
use crate::time::Backoff;

/// What became of the job, which an operator may have wanted otherwise.
pub(super) async fn run(
    shared: &Shared,
    mut delivery: Delivery,
    mut transition: Transition,
    context: &JobContext,
    hand: &Hand,
    took: Duration,
) -> Transition {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    let mut refused = Refusals::default();
    loop {
        delivery.lease = hand.begin_settling().await;
        let settlement = [(delivery.clone(), transition.clone())];
        let error = match shared.broker.settle(&settlement).await {
            Ok(settled) => {
                let (job_type, id) = (&delivery.job.job_type, &delivery.job.id);
                match settled.first() {
                    Some(settled @ (Settled::Done | Settled::Cancelled(_))) => {
                        if let Settled::Cancelled(after) = settled {
                            transition = after.carried_out(&transition);
                        }
                        report(&delivery.job, &transition, took, shared.broker.now());
                        tell(shared, context, &transition);
                    }
                    Some(Settled::Lost) | None => tracing::warn!(
                        "lease lost before settling: type={job_type:?} id={id:?}; nothing was written"
                    ),
                }
                return transition;
            }
            Err(error) => error,
        };
        // The heartbeat extends the lease between two tries.
        hand.pause_settling();
        let pause = backoff.next();
        let id = &delivery.job.id;
        refused.note("settling a job", &error);
        tracing::debug!("settling {id:?} failed, next try in {pause:?}: {error:?}");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.give_up.cancelled() => {
                tracing::warn!("job left to its lease: id={id:?}, settling failed: {error}");
                return transition;
            }
        }
    }
}

/// Tells the application's own hooks. One that panics harms nobody else.
fn tell(shared: &Shared, context: &JobContext, transition: &Transition) {
    for hook in &shared.settings.settled {
        if catch_unwind(AssertUnwindSafe(|| hook(context, transition))).is_err() {
            let id = context.id();
            tracing::error!("a hook panicked after job {id:?} was settled");
        }
    }
}
