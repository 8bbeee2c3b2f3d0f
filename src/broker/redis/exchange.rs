//! Settling finished jobs and dequeuing new ones in one script call, so that a
//! worker needs one round trip where Asynq needs two per job.
//!
//! [`exchange_all`](RedisBroker::exchange_all) plans the calls. It groups the
//! settle requests by queue, adds the queues to dequeue from, and packs them into
//! as few calls as possible: one call for up to [`MAX_QUEUES`] queues on a single
//! server, one call per queue on a Cluster. Each call goes through
//! [`exchange_some`](RedisBroker::exchange_some), which builds the arguments, runs
//! the script and reads its reply.
//!
//! Two scripts do the work. `finish_and_dequeue` covers the ordinary case, jobs that are simply
//! deleted and replaced by new ones, and costs about half. `settle_and_dequeue` covers
//! everything else: retries, results, locks, archiving and unconfirmed dequeues.
//! Both must have the same effect; `tests/it/twins.rs` compares them.
//!
//! What may surprise. On a Cluster, the calls of all queues whose jobs ended are under way at
//! once, so that a worker of many queues waits for one round trip and not for one each. The
//! queues come in order of priority: only [`FIRST_QUEUES`] are asked unless they leave slots
//! free. If one queue refuses,
//! every queue is asked alone, so a damaged queue stops no other. A call that
//! dequeues is never repeated as it is: jobs it may have claimed are remembered as
//! unconfirmed and delivered by the next call. A job that cannot be settled
//! keeps its slot, so `at_most` counts it.

use std::slice::Chunks;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::exchange_call::{CallReply, QueuePart, Settle};
use super::reply;
use super::settle_args::SettleArgs;
use super::{MAX_BATCH_JOBS, RedisBroker, by_queue};
use crate::broker::{Dequeued, ExchangeReply, SettleRequest, Settled};
use crate::error::Error;
use crate::job::QueueName;

/// Maximum queues of one script call: each costs Redis a check.
const MAX_QUEUES: usize = 200;

/// The number of queues asked first. If jobs are plenty, these have enough, and the call stays
/// short however many queues are served.
const FIRST_QUEUES: usize = 16;

/// How long an exchange goes on asking for jobs after one of its queues failed.
const ERROR_TIMEOUT: Duration = Duration::from_secs(1);

/// Sorts settlements by lease if all are plain deletions, so that they form runs. Otherwise
/// they keep the order in which the attempts ended.
fn in_runs(mut settles: Vec<Settle>) -> Vec<Settle> {
    if settles.iter().all(|settle| settle.args.is_deletion()) {
        settles.sort_by_key(|settle| settle.args.lease.ends);
    }
    settles
}

/// One exchange: the calls still to be made, and the results so far.
struct Exchange<'a> {
    broker: &'a RedisBroker,
    /// Maximum jobs in flight after the exchange that it may fill: settled jobs that keep their
    /// slots count.
    at_most: usize,
    /// Parts of the next calls.
    parts: Vec<QueuePart<'a>>,
    /// Queues that are asked if those before leave slots free.
    other_queues: Chunks<'a, QueueName>,
    /// Whether one call may span queues.
    together: bool,
    /// How many parts the next call may have; one after a refusal.
    queues_per_call: usize,
    /// When the exchange began, for [`ERROR_TIMEOUT`].
    began: Instant,
    /// The result of each request, by its index.
    settled: Vec<Result<Settled, Error>>,
    /// Settlements without an answer: their jobs still fill slots.
    unsettled: usize,
    /// All jobs dequeued so far.
    dequeued: Dequeued,
    /// Whether any call succeeded: then the dequeue has no error.
    served: bool,
    /// The last error of a call.
    failed: Option<Error>,
}

impl<'a> Exchange<'a> {
    /// Divides the requests and the first queues into parts, and decides how many parts a call
    /// has: as many as need to be settled, at least [`FIRST_QUEUES`]. On a Cluster, or while a
    /// queue refuses, each part is a call of its own.
    fn plan(
        broker: &'a RedisBroker,
        requests: &[&'a SettleRequest],
        queues: &'a [QueueName],
        at_most: usize,
    ) -> Self {
        let queues = if at_most > 0 { queues } else { &[] };
        let (first, others) = queues.split_at(queues.len().min(FIRST_QUEUES));
        let mut parts = broker.parts(requests, first);
        let together = !broker.pool.is_cluster() && broker.failing.is_empty();
        if !together {
            // One by one, settlements first: they free slots for all that follow.
            parts.sort_by_key(|part| part.dequeues);
        }
        // The first call has all settlements.
        let with_settles = parts.iter().rposition(|part| !part.settles.is_empty());
        let first = with_settles.map_or(0, |at| at + 1);
        Self {
            broker,
            at_most,
            parts,
            other_queues: others.chunks(MAX_QUEUES),
            together,
            queues_per_call: if together { first.clamp(FIRST_QUEUES, MAX_QUEUES) } else { 1 },
            began: Instant::now(),
            settled: requests.iter().map(|_| Err(reply::unexpected())).collect(),
            unsettled: requests.len(),
            dequeued: Dequeued::default(),
            served: false,
            failed: None,
        }
    }

    /// Makes the calls one after another until all parts are done and no slot is left, or no
    /// queue.
    async fn run(mut self) -> ExchangeReply {
        if self.broker.pool.is_cluster() {
            self.settle_everywhere().await;
        }
        while let Some((call, room)) = self.next_call() {
            if call.is_empty() {
                continue;
            }
            match self.broker.exchange_some(&call, room, &mut self.settled).await {
                Ok(reply) => self.accept(call, room, reply),
                Err(error) if call.len() > 1 && error.is_refused() => {
                    // Each queue separately, so that one stops no other.
                    self.queues_per_call = 1;
                    self.parts.splice(..0, call);
                }
                Err(error) => self.fail(call, error),
            }
        }
        let dequeued = match self.failed {
            Some(error) if !self.served => Err(error),
            _ => Ok(self.dequeued),
        };
        ExchangeReply { settled: self.settled, dequeued }
    }

    /// Makes the calls of all queues with settlements at the same time. Each may fill the slots
    /// that it frees; those that are free already are for the queue that comes first.
    async fn settle_everywhere(&mut self) {
        let first = self.parts.iter().find(|part| part.dequeues).map(|part| part.queue);
        let is_settling = |part: &QueuePart| !part.settles.is_empty();
        if self.parts.iter().filter(|part| is_settling(part)).count() < 2 {
            return;
        }
        let mut free = self.at_most.saturating_sub(self.unsettled);
        let mut left = self.at_most;
        let mut calls = Vec::new();
        for mut part in std::mem::take(&mut self.parts) {
            if !is_settling(&part) {
                self.parts.push(part);
                continue;
            }
            let own = part.settles.len();
            // A queue may have two parts, of which one dequeues.
            let is_first = part.dequeues && first == Some(part.queue);
            let room = if is_first { own + std::mem::take(&mut free) } else { own };
            let room = if part.dequeues { room.min(left).min(MAX_BATCH_JOBS) } else { 0 };
            left -= room;
            part.dequeues = room > 0;
            calls.push(SideCall::of(part, room).run(self.broker));
        }
        for (call, answer) in join_all(calls).await {
            let SideCall { part, room, settled } = call;
            for (settle, one) in part.settles.iter().zip(settled) {
                self.settled[settle.index] = one;
            }
            match answer {
                Ok(reply) => self.accept(vec![part], room, reply),
                Err(error) => self.fail(vec![part], error),
            }
        }
    }

    /// The parts of the next call and how many jobs it may dequeue; `None` at the end. A
    /// part with nothing left to do is dropped.
    fn next_call(&mut self) -> Option<(Vec<QueuePart<'a>>, usize)> {
        if self.parts.is_empty() && self.dequeued.deliveries.len() + self.unsettled < self.at_most {
            let look = |queue| QueuePart { queue, settles: Vec::new(), dequeues: true };
            self.parts.extend(self.other_queues.next().unwrap_or_default().iter().map(look));
        }
        if self.parts.is_empty() {
            return None;
        }
        let number = self.queues_per_call.min(self.parts.len());
        let mut call: Vec<QueuePart> = self.parts.drain(..number).collect();
        if self.together && self.queues_per_call > 1 {
            self.queues_per_call = MAX_QUEUES;
        }
        let used = self.dequeued.deliveries.len() + self.unsettled - settles_of(&call);
        let room = self.at_most.saturating_sub(used).min(MAX_BATCH_JOBS);
        // A server that does not reply is waited for only once.
        let gave_up = self.failed.is_some() && self.began.elapsed() > ERROR_TIMEOUT;
        for part in &mut call {
            part.dequeues &= room > 0 && !gave_up;
        }
        call.retain(|part| part.dequeues || !part.settles.is_empty());
        // The scripts expect the queues to dequeue from in front.
        call.sort_by_key(|part| !part.dequeues);
        Some((call, room))
    }

    /// Adds the reply of a call, and plans another call for queues that may have more jobs.
    fn accept(&mut self, call: Vec<QueuePart<'a>>, room: usize, reply: CallReply) {
        let CallReply { dequeued, gaps } = reply;
        self.served = true;
        self.unsettled -= settles_of(&call);
        let full = dequeued.deliveries.len() == room;
        self.dequeued.deliveries.extend(dequeued.deliveries);
        // A call that left gaps is made again, and finds the same queues paused.
        for queue in dequeued.paused {
            if !self.dequeued.paused.contains(&queue) {
                self.dequeued.paused.push(queue);
            }
        }
        for part in &call {
            self.broker.failing.over(part.queue);
        }
        // A full batch, or one with gaps, may not have been all.
        if full && self.dequeued.deliveries.len() < self.at_most || gaps {
            let again = call.into_iter().filter(|part| part.dequeues);
            let again = again.map(|part| QueuePart { settles: Vec::new(), ..part });
            self.parts.splice(..0, again);
        }
    }

    /// The other queues do not wait for a failed one, and jobs dequeued before must reach
    /// their worker.
    fn fail(&mut self, call: Vec<QueuePart<'a>>, error: Error) {
        for part in call {
            for settle in part.settles {
                self.settled[settle.index] = Err(error.clone());
            }
            if part.dequeues {
                self.broker.failing.note(part.queue, &error);
                self.dequeued.paused.push(part.queue.clone());
            }
        }
        self.failed = Some(error);
    }
}

/// A call beside others, with the results of its own settlements.
struct SideCall<'a> {
    part: QueuePart<'a>,
    room: usize,
    /// In the order of the part's settlements.
    settled: Vec<Result<Settled, Error>>,
}

impl<'a> SideCall<'a> {
    fn of(part: QueuePart<'a>, room: usize) -> Self {
        let settled = part.settles.iter().map(|_| Err(reply::unexpected())).collect();
        Self { part, room, settled }
    }

    async fn run(mut self, broker: &RedisBroker) -> (Self, Result<CallReply, Error>) {
        // A call writes its results by their indexes, which are its own meanwhile.
        let number = |settles: &mut Vec<Settle>, indexes: Vec<usize>| {
            settles.iter_mut().zip(indexes).for_each(|(settle, index)| settle.index = index);
        };
        let indexes = self.part.settles.iter().map(|settle| settle.index).collect();
        number(&mut self.part.settles, (0..self.settled.len()).collect());
        let call = std::slice::from_ref(&self.part);
        let answer = broker.exchange_some(call, self.room, &mut self.settled).await;
        number(&mut self.part.settles, indexes);
        (self, answer)
    }
}

/// The number of settlements in a call.
fn settles_of(call: &[QueuePart<'_>]) -> usize {
    call.iter().map(|part| part.settles.len()).sum()
}

impl RedisBroker {
    /// Settles the requests and dequeues jobs, in as few calls as possible.
    pub(super) async fn exchange_all<'a>(
        &'a self,
        requests: &[&'a SettleRequest],
        queues: &'a [QueueName],
        at_most: usize,
    ) -> ExchangeReply {
        Exchange::plan(self, requests, queues, at_most).run().await
    }

    /// The queues to dequeue from, each with its settlements; then the other settlements.
    /// A part has at most [`MAX_BATCH_JOBS`] settlements.
    fn parts<'a>(
        &self,
        requests: &[&'a SettleRequest],
        queues: &'a [QueueName],
    ) -> Vec<QueuePart<'a>> {
        let now = self.clock.now();
        let release = self.archive.release_lock;
        let mut groups = by_queue(requests.iter().map(|request| &request.delivery.lease.queue));
        let mut parts = Vec::with_capacity(queues.len());
        let settle =
            |&index: &usize| Settle { index, args: SettleArgs::new(requests[index], now, release) };
        for queue in queues {
            let own = groups.iter().position(|(name, _)| *name == queue);
            let mut indexes = own.map(|own| groups.remove(own).1).unwrap_or_default();
            let more = indexes.split_off(indexes.len().min(MAX_BATCH_JOBS));
            let settles = in_runs(indexes.iter().map(settle).collect());
            parts.push(QueuePart { queue, settles, dequeues: true });
            if !more.is_empty() {
                groups.push((queue, more));
            }
        }
        for (queue, indexes) in groups {
            for indexes in indexes.chunks(MAX_BATCH_JOBS) {
                let settles = in_runs(indexes.iter().map(settle).collect());
                parts.push(QueuePart { queue, settles, dequeues: false });
            }
        }
        parts
    }
}
