//! The worker and the scheduler of a test: the same services as in an application, called one after
//! another in a fixed order, so that a test runs the same way each time.
//!
//! [`advance`] alternates two things until the given time is reached: it runs all that is due at
//! this instant, one job at a time, and then moves the manual clock to the next instant at which
//! there is something to do. So a test of a week with retries and periodic jobs takes milliseconds,
//! and no instant is skipped.
//!
//! What may surprise. A worker that vanishes is simulated: its job is not run and stays active, and
//! the recoverer settles it when its lease has ended. Jobs that enqueue themselves without a delay
//! would never let the clock move, so the number of attempts at one instant is bounded.

use std::time::Duration;

use super::report::{Attempt, AttemptEnd, Report};
use super::{TestQueue, at_once};
use crate::broker::{Broker, Inspect};
use crate::job::{JobState, Outcome, QueueName, is_suspect};
use crate::runtime::Driven;
use crate::scheduler::{Recoverer, Service, aggregate_now};
use crate::sync::lock;
use crate::time::Timestamp;

/// Maximum attempts at one instant; more means that jobs enqueue each other endlessly.
const MAX_ATTEMPTS_AT_ONCE: usize = 10_000;

/// Maximum jobs that one call of the store moves.
const MAX_BATCH_JOBS: usize = 100;

/// Moves the clock to each instant at which there is something to do, up to `by` from now, and
/// runs it. Two tasks that drive the same queue take turns.
pub(super) async fn advance(tests: &TestQueue, by: Duration) -> Report {
    let _turn = tests.0.driving.lock().await;
    let driven = tests.driven();
    let mut report = Report::default();
    let end = tests.now() + by;
    loop {
        let next = run_due(tests, &driven, &mut report).await;
        let now = tests.now();
        match next.filter(|next| *next <= end) {
            Some(next) => tests.0.clock.advance(next.since(now)),
            None if now < end => tests.0.clock.advance(end.since(now)),
            None => break,
        }
    }
    report.unserved = unserved(tests, &driven);
    report
}

/// Runs what is due now; returns when there is something to do next.
async fn run_due(tests: &TestQueue, driven: &Driven, report: &mut Report) -> Option<Timestamp> {
    let mut attempts = 0;
    loop {
        let queues = served(tests, driven);
        let next = tend(tests, driven, &queues).await;
        let Some(worker) = &driven.worker else { return next };
        // One at a time, so that jobs run in the order of their queue and each sees what the one
        // before has done.
        let taken = at_once(tests.0.broker.dequeue(&queues, 1)).deliveries.pop();
        let Some(delivery) = taken else { return next };
        attempts += 1;
        let (job, at) = (delivery.job.clone(), tests.now());
        assert!(
            attempts <= MAX_ATTEMPTS_AT_ONCE,
            "{MAX_ATTEMPTS_AT_ONCE} attempts at one instant, the last of {:?}: do its jobs enqueue \
             themselves without a delay?",
            job.job_type
        );
        let fault = tests.take_fault(&job.job_type);
        let end = if let Some(Outcome::LeaseLost { .. }) = fault {
            if is_suspect(delivery.losses) {
                // As a worker would have started it: it is the proven cause of the loss.
                at_once(tests.0.broker.begin_suspect(&delivery.lease, 1));
                at_once(tests.0.broker.end_suspect(0));
            }
            lock(&tests.0.vanished).push(Timestamp::from_micros(delivery.lease.ends));
            AttemptEnd::WorkerLost
        } else {
            AttemptEnd::of(worker.run(delivery, fault).await, tests.now())
        };
        report.attempts.push(Attempt { job, at, end });
    }
}

/// Runs the services of the scheduler; returns when they have something to do next. Leases are
/// checked only when one of a vanished worker has ended: no other lease can expire here.
async fn tend(tests: &TestQueue, driven: &Driven, queues: &[QueueName]) -> Option<Timestamp> {
    let (broker, now) = (&tests.0.broker, tests.now());
    let vanished = {
        let mut vanished = lock(&tests.0.vanished);
        let before = vanished.len();
        vanished.retain(|end| *end > now);
        vanished.len() < before
    };
    if vanished {
        let recoverer = Recoverer::new(broker.detached(), queues.to_vec(), driven.chance.clone());
        recoverer.tick().await.expect("the store in memory does not fail");
    }
    let mut next = lock(&tests.0.vanished).iter().min().copied();
    if let Some(periodic) = &driven.periodic {
        let (_, tick) = periodic.fire_due().await;
        next = next.into_iter().chain(tick.map(|wait| now + wait)).min();
    }
    for queue in queues {
        while at_once(broker.delete_expired(queue, MAX_BATCH_JOBS)) >= MAX_BATCH_JOBS {}
        let due = loop {
            let forwarded = at_once(broker.forward(queue, MAX_BATCH_JOBS));
            if forwarded.moved < MAX_BATCH_JOBS {
                break forwarded.next.map(|wait| now + wait);
            }
        };
        next = next.into_iter().chain(due).min();
        if let Some(aggregation) = &driven.aggregation {
            let ready = aggregate_now(&broker.detached(), aggregation, queue).await;
            let ready = ready.expect("the store in memory does not fail");
            next = next.into_iter().chain(ready.map(|wait| now + wait)).min();
        }
    }
    next
}

/// The queues that the application's worker serves: all that exist if it was given none by
/// name, and none without a worker.
fn served(tests: &TestQueue, driven: &Driven) -> Vec<QueueName> {
    match (&driven.worker, driven.queues.is_empty()) {
        (None, _) => Vec::new(),
        (Some(_), true) => at_once(tests.0.broker.queues()),
        (Some(_), false) => driven.queues.clone(),
    }
}

/// Queues with waiting jobs that this application does not serve.
fn unserved(tests: &TestQueue, driven: &Driven) -> Vec<QueueName> {
    let served = served(tests, driven);
    let waits = |queue: &QueueName| {
        let sizes = at_once(tests.0.broker.queue(queue)).sizes;
        let waiting = [JobState::Pending, JobState::Scheduled, JobState::Retry];
        waiting.iter().any(|state| sizes.get(state.as_str()).is_some_and(|size| *size > 0))
    };
    let mut names = at_once(tests.0.broker.queues());
    names.retain(|queue| !served.contains(queue) && waits(queue));
    names
}
