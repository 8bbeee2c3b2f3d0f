//! One attempt at a job: from its delivery to the transition that the store is to make.
//!
//! An attempt ends in one of four ways: its handler returns or panics, its time is over, it
//! is cancelled (by an operator, by shutdown or because its lease was lost), or it does not
//! begin. The first that happens decides, with one exception: a handler that fails after an
//! operator has cancelled the job gets what the operator asked for. Every end becomes an
//! [`Outcome`], and [`decide`] turns that into a transition by the job's retry policy.
//!
//! An attempt whose lease was lost writes nothing: another worker may have the job. The
//! handler's future is dropped before the attempt ends, so its slot goes to no other job
//! while it may still do something. A handler that blocks its thread cannot be dropped; it
//! keeps its slot until it returns.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::WorkerShared;
use super::in_flight::{AcceptedDelivery, InFlightGuard};
use super::in_flight_job::{AttemptTimes, InFlightJob, NotBegun};
use super::progress::ProgressWriter;
use super::settle::{FinishedAttempt, PendingSettle};
use crate::broker::{AttemptNote, Delivery, SettleRequest};
use crate::job::{
    AfterCancel, CancelReason, Cancellation, DEFAULT_TIMEOUT, JobContext, JobError, JobRecord,
    Outcome, Reporter, Transition, UndecodableJobs, decide,
};
use crate::registry::{EndedAttempt, HandlerEntry};
use crate::text::line;
use crate::time::Timestamp;
use crate::trace::{self, Trace};

/// Runs a job and puts it into the outbox, together with its slot. If there is nothing to settle,
/// the slot is free again and the dispatcher is told.
pub(super) async fn run(shared: Arc<WorkerShared>, job: AcceptedDelivery) {
    let AcceptedDelivery { delivery, guard, slot } = job;
    match run_to_end(&shared, delivery, guard, None).await {
        Some(mut finished) => {
            finished.attempt.slot = Some(slot);
            finished.begin();
            shared.outbox.put(finished);
        }
        None => {
            drop(slot);
            shared.outbox.wake_dispatcher();
        }
    }
}

/// Runs a job and decides its transition. Returns `None` if its lease was lost or if it was given
/// back before it began: then nothing may be written. If an outcome is `given`, the handler is not
/// called, as for a cancelled job that never started.
pub(super) async fn run_to_end(
    shared: &WorkerShared,
    delivery: Delivery,
    guard: InFlightGuard,
    given: Option<Outcome>,
) -> Option<PendingSettle> {
    let began = Instant::now();
    let now = shared.broker.now();
    let limit = Limit::of(&delivery.job, now);
    let job = Arc::clone(guard.job());
    let ends = began + limit.at.since(now);
    begin(&job, AttemptTimes { started: now, deadline: limit.at, ends })?;
    let cancellation = Arc::clone(&job.cancellation);
    let progress = Arc::new(ProgressWriter::new(Arc::clone(&shared.broker), Arc::clone(&job)));
    let reporter = Arc::clone(&progress) as Arc<dyn Reporter>;
    let context = JobContext::new(Arc::clone(&job.record), limit.at, cancellation, reporter);
    let entry = shared.registry.get(&delivery.job.job_type);
    #[cfg(feature = "metrics")]
    measure_wait(entry, &delivery, now);
    let outcome = match (given, delivery.on_cancel) {
        (Some(outcome), _) => outcome,
        (None, Some(after)) => Outcome::Cancelled(after),
        (None, None) => attempt(shared, entry, &context, &job, &progress, limit, ends).await?,
    };
    // What was reported within the last interval has not been written yet.
    progress.write_latest().await;
    let transition = transition(shared, entry, &delivery.job, outcome);
    let took = began.elapsed();
    let waited = delivery.ready.map(|ready| now.since(ready));
    if let (Some(entry), Some(failed)) = (entry, failed_or_succeeded(&transition)) {
        let (job, ran) = (&delivery.job, took);
        entry.count(&EndedAttempt { job, waited, ran, failed, began: now });
    }
    let note = AttemptNote {
        version: shared.settings.version.clone(),
        worker: Some(Arc::clone(&shared.process)),
        waited,
        ran: Some(took),
    };
    let attempt = FinishedAttempt { guard, context, took, slot: None };
    Some(PendingSettle { request: SettleRequest { delivery, transition, note }, attempt })
}

/// Begins the attempt. Returns `None` if the job is not this process's to run.
fn begin(job: &InFlightJob, attempt: AttemptTimes) -> Option<()> {
    match job.begin(attempt) {
        Ok(()) => Some(()),
        Err(NotBegun::GivenBack) => None,
        Err(NotBegun::LeaseLost) => {
            let (job_type, id) = (&job.record.job_type, &job.record.id);
            crate::log::warn!(
                "lease lost before the start: type={job_type:?} id={id:?}; left to its next owner"
            );
            None
        }
    }
}

/// What happens to the job after this outcome, by the retry policy of its handler, its type
/// or the worker.
fn transition(
    shared: &WorkerShared,
    entry: Option<&HandlerEntry>,
    job: &JobRecord,
    outcome: Outcome,
) -> Transition {
    let policy = &shared.settings.retry;
    let policy = entry.map_or(policy, |entry| entry.retry_policy_or(policy));
    decide(job, outcome, policy, shared.broker.now(), &shared.chance)
}

/// Counts how long a job waited from being ready until its start.
#[cfg(feature = "metrics")]
fn measure_wait(entry: Option<&HandlerEntry>, delivery: &Delivery, now: Timestamp) {
    let stopwatch = entry.and_then(|entry| entry.stopwatch.as_ref());
    if let (Some(ready), Some(stopwatch)) = (delivery.ready, stopwatch) {
        stopwatch.began(now.since(ready));
    }
}

/// Whether the attempt failed; `None` for one that did neither: snoozed, revoked and requeued jobs.
/// Losses are not counted: when a vanished worker stopped is not known.
fn failed_or_succeeded(transition: &Transition) -> Option<bool> {
    match transition {
        Transition::Complete { .. } => Some(false),
        Transition::Archive { .. } | Transition::Retry { counted: true, .. } => Some(true),
        Transition::Retry { counted: false, .. }
        | Transition::Revoke
        | Transition::Requeue
        | Transition::PutBack { .. }
        | Transition::Reclaim { .. } => None,
    }
}

/// When the attempt has to end, and whether that is the job's deadline or its timeout. They end
/// differently: after a timeout the job is tried again, after its deadline it is archived.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Limit {
    at: Timestamp,
    is_deadline: bool,
}

impl Limit {
    /// The earlier of timeout and deadline; 30 minutes if a message has neither, as in
    /// Asynq.
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

/// Runs the handler. Returns `None` if the lease was lost and nothing may be written.
///
/// Before the handler is called, everything that forbids it is checked: a deadline that has
/// passed, a stopping worker, a cancellation, a type without a handler.
async fn attempt(
    shared: &WorkerShared,
    entry: Option<&HandlerEntry>,
    context: &JobContext,
    job: &InFlightJob,
    progress: &ProgressWriter,
    limit: Limit,
    ends: Instant,
) -> Option<Outcome> {
    if limit.is_deadline && ends <= Instant::now() {
        return Some(Outcome::DeadlinePassed);
    }
    // Delivered but not started when the worker stops: other workers have time for it.
    if shared.stop.is_cancelled() {
        return Some(Outcome::Interrupted);
    }
    if let Some(reason) = job.cancellation.reason() {
        return cancelled(job, limit, reason);
    }
    let Some(entry) = entry else {
        return Some(Outcome::Unknown(shared.settings.unknown));
    };
    // Copies of the token show that the attempt is over.
    let _over = End(&job.cancellation);
    let running = async { shared.registry.run(entry, context.clone(), &shared.state).await };
    let trace = Trace::of(&job.record.headers);
    let span = run_span(context, trace.as_ref());
    let running = trace::within(trace, running).instrument(span);
    let reason = tokio::select! {
        biased;
        ended = AssertUnwindSafe(running).catch_unwind() => return Some(match ended {
            Ok(Ok(result)) => Outcome::Done(result),
            Ok(Err(error)) => own_end(job, failed(error, shared.settings.undecodable)),
            Err(panic) => own_end(job, Outcome::Panicked(panic_text(&*panic))),
        }),
        reason = job.cancellation.cancelled() => reason,
        never = progress.keep_writing() => match never {},
        () = tokio::time::sleep_until(ends.into()) => {
            job.cancellation.cancel(CancelReason::TimedOut);
            CancelReason::TimedOut
        }
    };
    cancelled(job, limit, reason)
}

/// The outcome of a handler's error.
fn failed(error: JobError, undecodable: UndecodableJobs) -> Outcome {
    match (error.is_undecodable(), undecodable, error.text()) {
        (true, UndecodableJobs::Park, Some(text)) => Outcome::Undecodable(text.to_owned()),
        _ => Outcome::Failed(error),
    }
}

/// The outcome of an attempt that was cancelled; `None` if its lease was lost.
fn cancelled(job: &InFlightJob, limit: Limit, reason: CancelReason) -> Option<Outcome> {
    match reason {
        CancelReason::TimedOut if limit.is_deadline => Some(Outcome::DeadlinePassed),
        CancelReason::TimedOut => Some(Outcome::TimedOut),
        CancelReason::Shutdown => Some(Outcome::Interrupted),
        CancelReason::Operator => {
            Some(Outcome::Cancelled(job.on_cancel().unwrap_or(AfterCancel::Retry)))
        }
        // Delivered to this process again while the attempt was ending: the next attempt
        // begins after this one.
        CancelReason::LeaseLost if !job.is_lost() => Some(Outcome::Interrupted),
        CancelReason::LeaseLost => {
            let (job_type, id) = (&job.record.job_type, &job.record.id);
            crate::log::warn!(
                "lease lost while running: type={job_type:?} id={id:?}; left to its next owner"
            );
            None
        }
    }
}

/// The span around a handler, so that its log lines name the job. It has no parent: what the
/// process did when it dequeued the job does not belong to the job. Text of callers is made a
/// single printable line.
fn run_span(context: &JobContext, trace: Option<&Trace>) -> Span {
    let span = tracing::info_span!(
        target: "rocket_jobqueue::run",
        parent: None,
        "run",
        job_type = &*line(context.job_type()),
        queue = &*line(context.queue().as_str()),
        id = &*line(context.id().as_str()),
        attempt = context.attempt(),
        trace_id = Empty
    );
    if let Some(trace) = trace {
        span.record("trace_id", trace.id());
    }
    span
}

/// The outcome of a handler that failed, possibly because it noticed its cancellation. A
/// cancel request to archive or delete the job counts then. A request to retry does not:
/// the handler's own error may say that there should be no other attempt.
fn own_end(job: &InFlightJob, failed: Outcome) -> Outcome {
    match job.on_cancel() {
        None | Some(AfterCancel::Retry) => failed,
        Some(after) => Outcome::Cancelled(after),
    }
}

/// Ends the attempt when it is dropped, so that copies of its token fire.
struct End<'a>(&'a Cancellation);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The message of a panic.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::super::in_flight::InFlight;
    use super::super::launcher::Launcher;
    use super::super::live::Live;
    use super::super::outbox::Outbox;
    use super::super::pulse::Pulse;
    use super::super::slots::Slots;
    use super::super::stall::Stall;
    use super::super::suspects::Suspects;
    use super::*;
    use crate::broker::memory::MemoryBroker;
    use crate::broker::{Broker, LEASE};
    use crate::chance::Chance;
    use crate::job::{JobOptions, JobState, NewJob, QueueName};
    use crate::registry::{AppState, Registry, raw_entry};
    use crate::time::Clock;

    #[tokio::test]
    async fn a_job_dequeued_while_its_worker_is_dropped_is_requeued_without_running() {
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
        let stop = CancellationToken::new();
        stop.cancel();
        let settings = crate::worker::tests::settings(1, 1, &[(queue.as_str(), 1)]);
        let shared = Arc::new(WorkerShared {
            broker: broker.clone(),
            registry,
            state: Arc::new(AppState::default()),
            live: Live::new(&settings),
            settings,
            process: "test:1".into(),
            in_flight: InFlight::default(),
            outbox: Outbox::default(),
            launcher: Launcher::default(),
            stall: Stall::default(),
            pulse: Pulse::default(),
            suspects: Suspects::default(),
            slots: Slots::new(1),
            tasks: TaskTracker::new(),
            stop,
            interrupt,
            give_up: CancellationToken::new(),
            chance: Chance::system(),
        });
        let queues = [queue.clone()];
        let delivery = broker.dequeue(&queues, 1).await.unwrap().deliveries.remove(0);
        let slot = shared.slots.take().await.unwrap();
        let holds_until = Instant::now() + LEASE;
        let job = shared.in_flight.accept(delivery, holds_until, slot, &shared.interrupt).unwrap();

        run(Arc::clone(&shared), job).await;
        super::super::dispatcher::run(shared).await;

        let info = crate::broker::Inspect::job(&*broker, &queue, &id).await.unwrap().unwrap();
        assert_eq!((info.state, info.record.retried), (JobState::Pending, 0));
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
