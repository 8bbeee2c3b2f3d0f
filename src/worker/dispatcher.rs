//! The one loop that talks to the store on behalf of a worker.
//!
//! Each round trip does two things in one script: it settles the jobs that have finished
//! since the last one, and it dequeues as many new jobs as there are free slots. A job that
//! ends therefore costs no round trip of its own, and its slot is filled by the same call
//! that settles it.
//!
//! ```text
//!  outbox ──► start_round_trips ──► store ──► process_reply ──► launcher ──► handlers
//!    ▲                                                                          │
//!    └──────────────────────── finished jobs, with their slots ◄────────────────┘
//! ```
//!
//! Up to [`MAX_ROUND_TRIPS`] are under way at a time, so that Redis executes one while this
//! process handles the reply of another. If the queues are empty and a slot is free, the
//! loop polls nothing: it waits with a blocking command until a job arrives.
//!
//! Three things may surprise. A slot travels with its job, from the dequeue until the
//! settlement is confirmed, so that `concurrency` also bounds jobs that cannot be settled
//! while the store is away. A round trip is never dropped half-way: a lost reply may carry
//! jobs, which would wait for their lease to expire. And while settling works but dequeuing
//! fails, the loop goes on settling and pauses only the dequeuing.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, poll};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::WorkerShared;
use super::in_flight::AcceptedDelivery;
use super::launcher::{Launched, launch};
use super::order::order;
use super::outbox::SentSettles;
use super::settle::{FinishedAttempt, PendingSettle, tell};
use crate::broker::{Dequeued, ExchangeReply, LEASE, SettleRequest, Settled};
use crate::error::{Error, Refusals};
use crate::job::{QueueName, Transition};
use crate::time::Backoff;

/// Maximum number of jobs that one script dequeues, and that it settles. Longer scripts
/// would delay the other clients of Redis.
const MAX_BATCH_JOBS: usize = 100;

/// Maximum concurrent round trips. Each may claim at most half of the slots, so one reply
/// is processed while Redis executes the next call. Two suffice under load; the others let
/// jobs that end one by one be settled at once.
const MAX_ROUND_TRIPS: usize = 4;

/// How long one blocking wait for jobs lasts before it is renewed with a new queue order.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a paused queue is checked. Waiting on it would return at once whenever it
/// holds jobs, so only the other queues are waited on.
const PAUSED_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// How long the first dequeue waits for what operators ask of all processes.
const FIRST_REQUESTS_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a stopping worker checks whether its last job has ended.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Shortest and longest pause of dequeuing after the store failed.
const DEQUEUE_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_millis(500));

/// Runs until the worker has stopped and its last job is settled.
///
/// The select is biased: replies come first, because they bring both free slots and jobs. Every
/// beat of the heartbeat wakes the loop, which so proves that it still runs.
pub(super) async fn run(shared: Arc<WorkerShared>) {
    let (min_backoff, max_backoff) = DEQUEUE_BACKOFF;
    let mut dispatcher = Dispatcher {
        shared: &shared,
        round_trips: FuturesUnordered::new(),
        queue_wait: None,
        queues_empty: false,
        paused: Vec::new(),
        backoff: Backoff::new(min_backoff, max_backoff),
        refused: Refusals::default(),
        resume_at: None,
        requested: 0,
        seen_version: shared.live.version(),
        has_drained: false,
        launched: Launched::default(),
    };
    tokio::select! {
        () = shared.live.ready() => {}
        () = shared.stop.cancelled() => {}
        () = tokio::time::sleep(FIRST_REQUESTS_TIMEOUT) => {}
    }
    loop {
        shared.pulse.dispatched();
        dispatcher.see_changes();
        dispatcher.start_round_trips().await;
        shared.outbox.set_full(dispatcher.is_full());
        let stopping = shared.stop.is_cancelled();
        if stopping && dispatcher.is_done() {
            return;
        }
        dispatcher.update_queue_wait();
        tokio::select! {
            biased;
            Some(reply) = dispatcher.round_trips.next() => {
                dispatcher.process_reply(reply);
                // Quick jobs should have ended before the next script leaves, so that it
                // settles them.
                if dispatcher.launched.batched {
                    shared.launcher.batch_started().await;
                }
            }
            () = shared.outbox.woken(), if !dispatcher.is_full() => {}
            () = shared.stop.cancelled(), if !stopping => dispatcher.queue_wait = None,
            () = finished(&mut dispatcher.queue_wait) => {
                dispatcher.queue_wait = None;
                dispatcher.queues_empty = false;
            }
            () = reached(dispatcher.resume_at) => dispatcher.resume_at = None,
            () = tokio::time::sleep(STOP_CHECK_INTERVAL), if stopping => {}
        }
    }
}

/// A blocking wait for jobs.
type QueueWait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Returns when the wait is over. Never returns without one.
async fn finished(wait: &mut Option<QueueWait>) {
    match wait {
        Some(wait) => wait.await,
        None => pending().await,
    }
}

/// Returns at this instant. Never returns without one.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// The reply to a round trip, with what this process kept meanwhile.
struct RoundTripReply {
    /// The jobs that were to be settled; `reply` has an answer for each, in this order.
    jobs: Vec<PendingSettle>,
    /// Free slots that were claimed for the request. The slots of finished jobs come in
    /// addition: they are in `jobs`.
    slots: Vec<OwnedSemaphorePermit>,
    /// Number of jobs that were requested.
    requested: usize,
    /// The leases of dequeued jobs hold at least until then.
    hold_until: Instant,
    reply: ExchangeReply,
}

/// A round trip under way.
type RoundTrip = Pin<Box<dyn Future<Output = RoundTripReply> + Send>>;

/// The state of the loop.
struct Dispatcher<'a> {
    shared: &'a Arc<WorkerShared>,
    /// At most [`MAX_ROUND_TRIPS`]. They are polled by this loop, not in tasks of their own.
    round_trips: FuturesUnordered<RoundTrip>,
    /// The blocking wait for jobs, while the queues are empty.
    queue_wait: Option<QueueWait>,
    /// The last reply had fewer jobs than requested, and none has arrived since.
    queues_empty: bool,
    /// Queues that were paused according to the last reply.
    paused: Vec<QueueName>,
    /// Between two attempts to dequeue while the store fails.
    backoff: Backoff,
    /// Logs a refusal by the store once, not at each attempt.
    refused: Refusals,
    /// No jobs are requested before then, because the store failed.
    resume_at: Option<Instant>,
    /// Number of jobs that the round trips under way request.
    requested: usize,
    /// The version of the [live settings](super::live) by which jobs are requested.
    seen_version: u64,
    /// The worker is quiet, and its last job has ended.
    has_drained: bool,
    /// How the jobs of the last reply were started.
    launched: Launched,
}

impl Dispatcher<'_> {
    /// Whether all round trips are under way.
    fn is_full(&self) -> bool {
        self.round_trips.len() >= MAX_ROUND_TRIPS
    }

    /// Goes by settings that have changed, and says so once nothing of the old ones is under way.
    fn see_changes(&mut self) {
        let live = &self.shared.live;
        let version = live.version();
        if version != self.seen_version {
            self.seen_version = version;
            // A queue that was not served, or all of them, may have jobs.
            self.queue_wait = None;
            self.queues_empty = false;
        }
        // Before anything is requested: a slot that is owed must not be used again.
        self.shared.slots.repay();
        if !live.is_quiet() || self.requested == 0 {
            live.acknowledge(version);
        }
        let has_drained = live.is_quiet() && self.is_done();
        if has_drained && !self.has_drained {
            live.announce();
        }
        self.has_drained = has_drained;
    }

    /// Starts round trips while there is something to settle or to request.
    async fn start_round_trips(&mut self) {
        while !self.is_full() {
            let lane = self.shared.slots.wanted().div_ceil(2).min(MAX_BATCH_JOBS);
            let ended = self.shared.outbox.take(lane);
            let (slots, requested) = self.claim_slots(&ended, lane);
            if ended.is_empty() && requested == 0 {
                return;
            }
            self.requested += requested;
            let shared = Arc::clone(self.shared);
            let mut round_trip: RoundTrip = Box::pin(exchange(shared, ended, slots, requested));
            // The first poll sends the request.
            if let Poll::Ready(reply) = poll!(&mut round_trip) {
                round_trip = Box::pin(std::future::ready(reply));
            }
            self.round_trips.push(round_trip);
            // Let this call reach the socket before reading the other reply. Otherwise the
            // two fall into lockstep and Redis idles between them.
            if self.launched.several {
                self.shared.launcher.yield_to_handlers().await;
            }
        }
    }

    /// Claims free slots for one round trip, and computes how many jobs it may request:
    /// one for each claimed slot and for each slot of a job that it settles.
    fn claim_slots(
        &self,
        ended: &[PendingSettle],
        lane: usize,
    ) -> (Vec<OwnedSemaphorePermit>, usize) {
        let is_idle = self.shared.stop.is_cancelled() || self.shared.live.is_quiet();
        if is_idle || self.resume_at.is_some() {
            return (Vec::new(), 0);
        }
        let limit = self.start_limit();
        let slots = match self.queues_empty && ended.is_empty() {
            true => Vec::new(),
            false => self.free_slots(lane.min(limit).saturating_sub(ended.len())),
        };
        let available = (ended.len() + slots.len()).min(limit);
        let kept_back = self.shared.suspects.wanted_slots() + self.shared.slots.owed();
        (slots, available.saturating_sub(kept_back))
    }

    /// Maximum number of jobs to request. Unlimited, except after a stall: then no more
    /// than can start at once. A thread that a handler blocks counts as occupied.
    fn start_limit(&self) -> usize {
        let shared = self.shared;
        if !shared.stall.is_cautious() {
            return usize::MAX;
        }
        let threads = Handle::current().metrics().num_workers();
        threads.saturating_sub(shared.launcher.unstarted_or_on_a_thread() + self.requested)
    }

    /// At most `limit` free slots, without waiting for one.
    fn free_slots(&self, limit: usize) -> Vec<OwnedSemaphorePermit> {
        std::iter::from_fn(|| self.shared.slots.try_take()).take(limit).collect()
    }

    /// Starts waiting for jobs if a slot is free and the queues are empty; otherwise ends the
    /// wait. Ending it loses nothing: the blocking command moves no job.
    fn update_queue_wait(&mut self) {
        let shared = self.shared;
        let idle = self.queues_empty && shared.slots.has_free() && !shared.live.is_quiet();
        if !idle || self.resume_at.is_some() || shared.stop.is_cancelled() {
            self.queue_wait = None;
        } else if self.queue_wait.is_none() {
            self.queue_wait = Some(self.wait_for_jobs());
        }
    }

    /// Waits for a job in any queue that is not paused. A store that refuses the blocking
    /// wait is asked again after [`PAUSED_CHECK_INTERVAL`].
    fn wait_for_jobs(&self) -> QueueWait {
        let shared = Arc::clone(self.shared);
        let mut open =
            order(&shared.live.queues(), shared.settings.strict_priority, &shared.chance);
        open.retain(|queue| !self.paused.contains(queue));
        let timeout = if self.paused.is_empty() { WAIT_TIMEOUT } else { PAUSED_CHECK_INTERVAL };
        Box::pin(async move {
            if open.is_empty() || shared.broker.wait(&open, timeout).await.is_err() {
                tokio::time::sleep(PAUSED_CHECK_INTERVAL).await;
            }
        })
    }

    /// Handles a reply: releases what was settled, retries what was not, and starts the
    /// jobs that were dequeued.
    fn process_reply(&mut self, reply: RoundTripReply) {
        let RoundTripReply { jobs: settling, mut slots, requested, hold_until, reply } = reply;
        self.requested -= requested;
        let (mut settled_jobs, mut lost, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
        for (mut job, settled) in settling.into_iter().zip(reply.settled) {
            match settled {
                Ok(Settled::Lost) => {
                    slots.extend(job.attempt.slot.take());
                    lost.push(job);
                }
                Ok(settled) => {
                    slots.extend(job.attempt.slot.take());
                    let PendingSettle { request, attempt } = job;
                    let SettleRequest { delivery, transition, .. } = request;
                    let done = attempt.done(self.shared, &delivery, transition, settled);
                    if let Some((transition, next)) = done {
                        jobs.extend(next);
                        settled_jobs.push((attempt, transition));
                    }
                }
                // Retried alone: it may be what made the batch fail. It keeps its slot.
                Err(error) => {
                    let again = job.again(Arc::clone(self.shared), Some(error));
                    self.shared.tasks.spawn(again);
                }
            }
        }
        self.call_hooks(settled_jobs);
        if requested > 0 {
            jobs.extend(self.accept(reply.dequeued, slots, hold_until, requested));
        }
        // After `accept`, which shows whether this process has such a job again.
        self.retry_lost(lost);
        self.launched = launch(self.shared, jobs);
    }

    /// Calls the application's hooks in a task, because they may take their time.
    fn call_hooks(&self, settled: Vec<(FinishedAttempt, Transition)>) {
        if self.shared.settings.settled.is_empty() || settled.is_empty() {
            return;
        }
        let shared = Arc::clone(self.shared);
        self.shared.tasks.spawn(async move {
            for (attempt, transition) in &settled {
                tell(&shared, &attempt.context, transition);
            }
        });
    }

    /// Settles jobs whose lease was lost, if this process has received them again.
    fn retry_lost(&self, lost: Vec<PendingSettle>) {
        for PendingSettle { request, attempt } in lost {
            if let Some(attempt) = attempt.lost(&request.delivery) {
                let again = PendingSettle { request, attempt };
                self.shared.tasks.spawn(again.again(Arc::clone(self.shared), None));
            }
        }
    }

    /// Takes in the dequeued jobs, each with a slot. Returns those that are to be started.
    /// On an error, dequeuing pauses; settling goes on.
    fn accept(
        &mut self,
        dequeued: Result<Dequeued, Error>,
        mut slots: Vec<OwnedSemaphorePermit>,
        hold_until: Instant,
        requested: usize,
    ) -> Vec<AcceptedDelivery> {
        let dequeued = match dequeued {
            Ok(dequeued) => dequeued,
            Err(error) => {
                let pause = self.backoff.next();
                self.refused.note("dequeuing jobs", &error);
                crate::log::debug!("dequeuing failed, next attempt in {pause:?}: {error:?}");
                self.resume_at = Some(Instant::now() + pause);
                return Vec::new();
            }
        };
        self.backoff.reset();
        self.refused.over();
        self.queues_empty = dequeued.deliveries.len() < requested;
        self.paused = dequeued.paused;
        let (shared, number) = (self.shared, dequeued.deliveries.len());
        let mut jobs = Vec::with_capacity(number);
        for delivery in dequeued.deliveries {
            let slot = slots.pop().expect("a store returns at most the requested number of jobs");
            jobs.extend(shared.in_flight.accept(delivery, hold_until, slot, &shared.interrupt));
        }
        // Only now: the stall watch goes back to sleep if it finds nothing in flight.
        if number > 0 {
            shared.stall.wake();
        }
        jobs
    }

    /// Whether nothing runs, waits to be settled, or is under way.
    fn is_done(&self) -> bool {
        let shared = self.shared;
        self.round_trips.is_empty() && shared.slots.are_all_free() && shared.outbox.is_empty()
    }
}

/// One round trip: settles these jobs and requests new ones. The end of the new leases is
/// counted from before the request, so it is never later than the store's.
async fn exchange(
    shared: Arc<WorkerShared>,
    jobs: Vec<PendingSettle>,
    slots: Vec<OwnedSemaphorePermit>,
    requested: usize,
) -> RoundTripReply {
    let order = match requested {
        0 => Vec::new(),
        _ => order(&shared.live.queues(), shared.settings.strict_priority, &shared.chance),
    };
    let hold_until = Instant::now() + LEASE;
    let has_settles = !jobs.is_empty();
    let sent = Arc::new(SentSettles::new(jobs));
    if has_settles {
        shared.outbox.add_sent(&sent);
    }
    let reply = {
        let pending = sent.pending.try_read().expect("only this round trip takes them out");
        let requests: Vec<&SettleRequest> = pending.iter().map(|one| &one.request).collect();
        shared.broker.exchange(&requests, &order, requested).await
    };
    // Waits for the heartbeat's thread, if it is sending them again.
    let jobs = std::mem::take(&mut *sent.pending.write().await);
    shared.outbox.remove_sent(&sent);
    RoundTripReply { jobs, slots, requested, hold_until, reply }
}
