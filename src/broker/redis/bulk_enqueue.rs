//! Stores several jobs in as few script calls as possible, in their order.
//!
//! Plain jobs that are due now share calls across queues on a single server; all other
//! jobs, and all jobs on a Cluster, go in one sequence of calls per queue. A call takes up
//! to 100 jobs or 1 MiB of payload, so that no call occupies Redis for long. Up to
//! [`MAX_CONCURRENT_CALLS`] calls are in flight at a time on one connection, where Redis
//! runs them in the order they were sent.
//!
//! What may surprise. If a queue's slot moves to another Cluster node while its calls are
//! in flight, repeated calls would be overtaken; from then on [`CallOrder`] lets each call
//! wait for those before it. The first error stops the calls of its sequence that were not
//! sent yet, and their jobs are reported as not sent. Before the first connection exists,
//! the first call of every sequence goes ahead, because calls that wait for a connection
//! lose their order. Calls that replicas must confirm use a connection each, so they are
//! sent one at a time.

use std::sync::atomic::Ordering;

use futures_util::stream::{self, StreamExt};

use super::enqueue_args::{self, EnqueueArgs};
use super::order::CallOrder;
use super::{MAX_BATCH_BYTES, MAX_BATCH_JOBS, RedisBroker, by_queue, reply};
use crate::broker::Enqueued;
use crate::error::Error;
use crate::job::{NewJob, QueueName};

/// Maximum script calls of one bulk enqueue that are in flight at a time.
const MAX_CONCURRENT_CALLS: usize = 16;

/// One script call of a bulk enqueue.
struct BulkCall<'a> {
    /// The indexes of its jobs in the request.
    indexes: &'a [usize],
    /// Shared by all calls of its sequence.
    order: &'a CallOrder,
    /// Its position in the sequence of its queue.
    nth: usize,
    /// It opens a sequence of several calls.
    opens: bool,
    /// The sequence has jobs of several queues, so one queue's refusal does not stop it.
    spans_queues: bool,
}

/// The indexes of a call's jobs, and the result of each.
type CallResult<'a> = (&'a [usize], Vec<Result<Enqueued, Error>>);

impl RedisBroker {
    /// Stores the jobs; one result for each, in their order.
    pub(super) async fn enqueue_all(&self, jobs: &[NewJob]) -> Vec<Result<Enqueued, Error>> {
        match jobs {
            [new] => vec![self.enqueue_one(new).await],
            _ => self.enqueue_bulk(jobs).await,
        }
    }

    /// Stores one job, in a batch with jobs of other callers; again while its queue's slot
    /// moves. That answer proves that nothing was stored.
    async fn enqueue_one(&self, new: &NewJob) -> Result<Enqueued, Error> {
        let mut moving = self.moving();
        loop {
            let queue = &new.record.queue;
            let args = EnqueueArgs::of(queue, new).of_limited(self.limited.contains(queue));
            let stored = self.enqueue_batched(args).await;
            if !moving.passes(stored.as_ref().err()).await {
                return stored;
            }
        }
    }

    /// Divides the jobs into sequences of calls, one sequence per queue or one for all queues.
    /// Within a sequence the order of the jobs is kept; sequences run side by side.
    async fn enqueue_bulk(&self, jobs: &[NewJob]) -> Vec<Result<Enqueued, Error>> {
        // One server takes plain jobs of several queues in one call.
        let is_plain =
            |new: &NewJob| enqueue_args::is_plain(new) && !self.limited.contains(&new.record.queue);
        let spans_queues = !self.pool.is_cluster() && jobs.iter().all(is_plain);
        let sequences: Vec<Vec<usize>> = match spans_queues {
            true => vec![(0..jobs.len()).collect()],
            false => by_queue(jobs.iter().map(|new| &new.record.queue))
                .into_iter()
                .map(|(_, indexes)| indexes)
                .collect(),
        };
        let size = |index: usize| jobs[index].record.payload_bytes().len();
        let sequences: Vec<Vec<&[usize]>> =
            sequences.iter().map(|indexes| batches(indexes, size)).collect();
        let orders: Vec<CallOrder> =
            sequences.iter().map(|calls| CallOrder::of(calls.len())).collect();
        let (mut leading, mut following) = (Vec::new(), Vec::new());
        for (calls, order) in sequences.into_iter().zip(&orders) {
            let several = calls.len() > 1;
            for (nth, indexes) in calls.into_iter().enumerate() {
                let opens = several && nth == 0;
                let call = BulkCall { indexes, order, nth, opens, spans_queues };
                if nth == 0 { leading.push(call) } else { following.push(call) }
            }
        }
        let mut results: Vec<_> = jobs.iter().map(|_| Err(reply::unexpected())).collect();
        for (indexes, stored) in self.send_calls(jobs, leading, following).await {
            for (&index, one) in indexes.iter().zip(stored) {
                results[index] = one;
            }
        }
        results
    }

    /// Sends the calls in their order and waits for all replies together. `leading` has the
    /// first call of each sequence.
    async fn send_calls<'a>(
        &self,
        jobs: &[NewJob],
        mut leading: Vec<BulkCall<'a>>,
        following: Vec<BulkCall<'a>>,
    ) -> Vec<CallResult<'a>> {
        let concurrent = if self.confirming.is_some() { 1 } else { MAX_CONCURRENT_CALLS };
        let send = |call| self.send_call(jobs, call);
        let mut results = Vec::new();
        if !self.loaded.load(Ordering::Relaxed) {
            let first: Vec<_> = leading.drain(..).map(send).collect();
            results = stream::iter(first).buffered(concurrent).collect().await;
        }
        let calls: Vec<_> = leading.into_iter().chain(following).map(send).collect();
        let others: Vec<_> = stream::iter(calls).buffered(concurrent).collect().await;
        results.extend(others);
        results
    }

    /// Makes one call, again while its queue's slot moves. Nothing is sent after an error of an
    /// earlier call.
    async fn send_call<'a>(&self, jobs: &[NewJob], call: BulkCall<'a>) -> CallResult<'a> {
        let BulkCall { indexes, order, nth, opens, spans_queues } = call;
        let not_sent = |error: &Error| (indexes, vec![Err(not_sent(error)); indexes.len()]);
        let _running = order.begin(nth);
        order.turn(nth).await;
        if let Some(error) = order.failed.get() {
            return not_sent(error);
        }
        // Jobs of several queues go by the script that serves several; then the dequeue decides.
        let limited = |queue: &QueueName| !spans_queues && self.limited.contains(queue);
        let args = |&index: &usize| {
            let queue = &jobs[index].record.queue;
            EnqueueArgs::of(queue, &jobs[index]).of_limited(limited(queue))
        };
        let mut args: Vec<EnqueueArgs> = indexes.iter().map(args).collect();
        if let Some(first) = args.first_mut() {
            first.opens = opens;
        }
        let mut moving = self.moving();
        let mut stored = self.store_by_queue(&args).await;
        while moving.passes(first_error(&stored)).await {
            order.keep();
            order.turn(nth).await;
            if let Some(error) = order.failed.get() {
                return not_sent(error);
            }
            stored = self.store_by_queue(&args).await;
        }
        let stops = |error: &&Error| !spans_queues || !error.is_refused();
        let error = stored.iter().filter_map(|one| one.as_ref().err()).find(stops);
        if let Some(error) = error {
            // The first error of a sequence stays.
            let _ = order.failed.set(error.clone());
        }
        (indexes, stored)
    }
}

/// The first error of a call, in the order of its jobs.
fn first_error<T>(results: &[Result<T, Error>]) -> Option<&Error> {
    results.iter().find_map(|result| result.as_ref().err())
}

/// The error of jobs that were not sent because a call before theirs failed.
fn not_sent(before: &Error) -> Error {
    if before.is_outcome_unknown() {
        return Error::unavailable("not sent: the store did not reply to the jobs before");
    }
    before.clone()
}

/// Splits indexes into parts for one script call each, by number and size. A job that is larger
/// than the limit by itself gets a part of its own.
fn batches(indexes: &[usize], size: impl Fn(usize) -> usize) -> Vec<&[usize]> {
    let mut parts = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (at, &index) in indexes.iter().enumerate() {
        let size = size(index);
        if at > begin && (at - begin == MAX_BATCH_JOBS || bytes + size > MAX_BATCH_BYTES) {
            parts.push(&indexes[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += size;
    }
    if begin < indexes.len() {
        parts.push(&indexes[begin..]);
    }
    parts
}
