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
    // Taken while the worker was being dropped: nobody is there for a handler.
    if shared.interrupt.is_cancelled() {
        return Some(Outcome::Interrupted);
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
    use tokio::sync::Semaphore;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::super::hands::Hands;
    use super::*;
    use crate::broker::Broker;
    use crate::broker::memory::MemoryBroker;
    use crate::job::{JobError, JobOptions, JobState, NewJob, QueueName, RetryPolicy};
    use crate::registry::{Registry, State, raw_entry};
    use crate::time::Clock;
    use crate::worker::WorkerSettings;

    #[tokio::test]
    async fn a_job_taken_while_its_worker_is_dropped_goes_back_in_line_without_running() {
        let broker = Arc::new(MemoryBroker::new(Clock::system()));
        let queue = QueueName::new("default").unwrap();
        let job = JobRecord::new("t", None, queue.clone());
        let id = job.id.clone();
        broker.enqueue(&[NewJob::now(job)]).await.unwrap();
        let mut registry = Registry::default();
        let handler = raw_entry("t".to_owned(), JobOptions::new(), |_, _| async {
            Err::<Option<Vec<u8>>, _>(JobError::give_up("the handler ran"))
        });
        registry.add(handler).unwrap();
        let interrupt = CancellationToken::new();
        interrupt.cancel();
        let shared = Arc::new(Shared {
            broker: broker.clone(),
            registry,
            state: Arc::new(State::default()),
            settings: WorkerSettings {
                concurrency: 1,
                queues: [(queue.clone(), 1)].into(),
                strict_priority: false,
                shutdown_timeout: Duration::ZERO,
                heartbeat: Duration::from_secs(5),
                retry: RetryPolicy::default(),
            },
            hands: Hands::default(),
            permits: Arc::new(Semaphore::new(1)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            interrupt,
            give_up: CancellationToken::new(),
        });
        let queues = [queue.clone()];
        let delivery = broker.dequeue(&queues, 1).await.unwrap().deliveries.remove(0);
        let permit = Arc::clone(&shared.permits).acquire_owned().await.unwrap();

        run(shared, delivery, permit).await;

        let info = crate::broker::Inspect::job(&*broker, &queue, &id).await.unwrap().unwrap();
        assert_eq!((info.state, info.job.retried), (JobState::Pending, 0));
    }

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
