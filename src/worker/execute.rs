//! One attempt: from a delivery to an outcome to a settlement.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::OwnedSemaphorePermit;

use super::hands::Hand;
use super::{Shared, settle};
use crate::broker::Delivery;
use crate::job::{DEFAULT_TIMEOUT, JobContext, JobRecord, Outcome, decide};
use crate::time::Timestamp;

pub(super) async fn run(shared: Arc<Shared>, delivery: Delivery, permit: OwnedSemaphorePermit) {
    let now = shared.broker.now();
    let limit = Limit::of(&delivery.job, now);
    let hand = Arc::new(Hand::new(&delivery, now, limit.at));
    let _in_hand = shared.hands.take(Arc::clone(&hand));
    let began = Instant::now();
    if let Some(outcome) = attempt(&shared, &delivery, &hand, limit, now).await {
        let transition = decide(&delivery.job, outcome, &shared.settings.retry);
        settle::run(&shared, delivery, transition, &hand, began.elapsed()).await;
    }
    drop(permit);
}

/// When the attempt has to end, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Limit {
    at: Timestamp,
    is_deadline: bool,
}

impl Limit {
    /// The earlier of timeout and deadline; 30 minutes where a message has
    /// neither. Source: `asynq-protocol.md` 8.2.
    fn of(job: &JobRecord, now: Timestamp) -> Self {
        let timeout = (job.timeout > Duration::ZERO).then(|| now + job.timeout);
        match (timeout, job.deadline) {
            (Some(at), Some(deadline)) if at < deadline => Self { at, is_deadline: false },
            (_, Some(at)) => Self { at, is_deadline: true },
            (Some(at), None) => Self { at, is_deadline: false },
            (None, None) => Self { at: now + DEFAULT_TIMEOUT, is_deadline: false },
        }
    }
}

/// Runs the handler; `None` when the lease was lost and nothing may be written.
async fn attempt(
    shared: &Shared,
    delivery: &Delivery,
    hand: &Hand,
    limit: Limit,
    now: Timestamp,
) -> Option<Outcome> {
    if limit.is_deadline && limit.at <= now {
        return Some(Outcome::DeadlinePassed);
    }
    let Some(entry) = shared.registry.get(&delivery.job.job_type) else {
        return Some(Outcome::Unknown);
    };
    let cancelled = shared.interrupt.child_token();
    // Whoever holds a copy of the token learns that the attempt is over.
    let _over = cancelled.clone().drop_guard();
    let context = JobContext::new(delivery.job.clone(), limit.at, cancelled);
    let handler = AssertUnwindSafe(async { entry.run(context, &shared.state).await });
    tokio::select! {
        biased;
        ended = handler.catch_unwind() => Some(match ended {
            Ok(Ok(result)) => Outcome::Done(result),
            Ok(Err(error)) => Outcome::Failed(error),
            Err(panic) => Outcome::Panicked(panic_text(&*panic)),
        }),
        () = hand.lost.cancelled() => {
            let (job_type, id) = (&delivery.job.job_type, &delivery.job.id);
            tracing::warn!("lease lost while running: type={job_type:?} id={id:?}; left to its next owner");
            None
        }
        () = shared.interrupt.cancelled() => Some(Outcome::Interrupted),
        () = tokio::time::sleep(limit.at.since(now)) => Some(
            if limit.is_deadline { Outcome::DeadlinePassed } else { Outcome::TimedOut },
        ),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::QueueName;

    #[test]
    fn the_earlier_of_timeout_and_deadline_ends_an_attempt() {
        let now = Timestamp::from_secs(1_000);
        let limit = |timeout, deadline: Option<i64>| {
            let mut job = JobRecord::new("t", None, QueueName::new("default").unwrap());
            job.timeout = Duration::from_secs(timeout);
            job.deadline = deadline.map(Timestamp::from_secs);
            let limit = Limit::of(&job, now);
            (limit.at.as_secs(), limit.is_deadline)
        };
        assert_eq!(limit(60, None), (1_060, false));
        assert_eq!(limit(60, Some(1_030)), (1_030, true));
        assert_eq!(limit(60, Some(1_090)), (1_060, false));
        assert_eq!(limit(0, Some(1_090)), (1_090, true));
        assert_eq!(limit(0, None), (2_800, false));
    }
}
