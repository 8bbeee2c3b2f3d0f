//! Group commit for single enqueues.
//!
//! A caller that enqueues one job while no more than one other call is running sends it at
//! once. Otherwise its job waits in a [`BatchQueue`] and leaves with all other waiting jobs
//! in the next script call. At most [`MAX_RUNNING_BATCHES`] calls run at a time. There is no
//! timer, so a lone caller pays nothing for batching.
//!
//! A batch holds jobs that one script can store together: the same script, the same answer
//! to "may this call be repeated", and on a Cluster the same queue. The first waiting job
//! decides; others of its kind go with it, up to 100 jobs or 1 MiB, and the rest keep their
//! order for the next batch.
//!
//! What may surprise. Batches run in a task of their own, the *runner*, so that a caller
//! that is cancelled takes no other job with it. The first job that has to wait starts a
//! runner, which ends when no job waits. A caller that gives up before its job was sent
//! removes it from the queue and gets "not sent"; after that the outcome is unknown. If
//! Redis refuses a whole batch, each job is sent alone, so that one bad job fails no other.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::join_all;
use tokio::sync::{Semaphore, oneshot};

use super::enqueue_args::EnqueueArgs;
use super::{MAX_BATCH_BYTES, MAX_BATCH_JOBS, RedisBroker};
use crate::broker::Enqueued;
use crate::error::Error;
use crate::job::{NewJob, QueueName};
use crate::sync::lock;

/// Maximum concurrent calls of one [`BatchQueue`]: while Redis runs one, the next is being
/// sent.
const MAX_RUNNING_BATCHES: usize = 2;

/// Maximum unused batch queues that are kept on a Cluster. Queue names may come from
/// requests, so their number has no bound.
const MAX_IDLE_QUEUES: usize = 64;

/// The single enqueues of this process on their way to the store: all in one batch queue, or
/// on a Cluster in one for each queue, since its nodes reply independently.
#[derive(Default)]
pub(super) struct Batcher {
    /// The batch queue of a single server.
    all: Arc<BatchQueue>,
    /// The batch queues of a Cluster.
    by_queue: Mutex<HashMap<QueueName, Arc<BatchQueue>>>,
}

impl Batcher {
    /// The batch queue of a job. `one_place` is whether all queues are on one server. On a
    /// Cluster, batch queues that nobody uses are dropped once there are [`MAX_IDLE_QUEUES`].
    fn of(&self, queue: &QueueName, one_place: bool) -> Arc<BatchQueue> {
        if one_place {
            return Arc::clone(&self.all);
        }
        let mut queues = lock(&self.by_queue);
        if let Some(known) = queues.get(queue) {
            return Arc::clone(known);
        }
        if queues.len() >= MAX_IDLE_QUEUES {
            // References are only given out under this lock.
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        Arc::clone(queues.entry(queue.clone()).or_default())
    }
}

/// Jobs that wait to be sent together.
struct BatchQueue {
    /// Jobs and runners; never locked over an await.
    waiting: Mutex<WaitingJobs>,
    /// One permit for each running call.
    calls: Semaphore,
}

impl Default for BatchQueue {
    fn default() -> Self {
        Self { waiting: Mutex::default(), calls: Semaphore::new(MAX_RUNNING_BATCHES) }
    }
}

/// What waits for a batch, and who sends it. Locked for moments only.
#[derive(Default)]
struct WaitingJobs {
    /// Waiting jobs in the order of their callers.
    jobs: VecDeque<WaitingEnqueue>,
    /// Tasks that send batches.
    runners: usize,
    /// The number of the last ticket.
    tickets: u64,
}

/// One waiting job.
struct WaitingEnqueue {
    /// Names the job to its caller.
    ticket: u64,
    job: EnqueueArgs,
    answer: oneshot::Sender<Result<Enqueued, Error>>,
}

/// A waiting job of the batch queue.
struct Ticket {
    number: u64,
    answer: oneshot::Receiver<Result<Enqueued, Error>>,
    /// The caller has to start a runner, which is counted already.
    needs_runner: bool,
}

impl BatchQueue {
    fn waiting(&self) -> MutexGuard<'_, WaitingJobs> {
        lock(&self.waiting)
    }

    /// Lets a job wait. If fewer runners than calls are allowed, the caller has to start one.
    fn join(&self, job: EnqueueArgs) -> Ticket {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting();
        waiting.tickets += 1;
        let number = waiting.tickets;
        waiting.jobs.push_back(WaitingEnqueue { ticket: number, job, answer: sender });
        let needs_runner = waiting.runners < MAX_RUNNING_BATCHES;
        waiting.runners += usize::from(needs_runner);
        Ticket { number, answer, needs_runner }
    }

    /// Whether the job was still waiting; it is removed.
    fn leave(&self, ticket: u64) -> bool {
        let mut waiting = self.waiting();
        let at = waiting.jobs.iter().position(|one| one.ticket == ticket);
        at.and_then(|at| waiting.jobs.remove(at)).is_some()
    }
}

impl WaitingJobs {
    /// The first waiting job and those that go with it in one script; empty if none waits. The
    /// usual case, in which all waiting jobs go together, moves the whole queue at once.
    fn next_batch(&mut self, one_place: bool) -> Vec<WaitingEnqueue> {
        // Jobs whose caller is gone are not sent.
        self.jobs.retain(|one| !one.answer.is_closed());
        let Some(first) = self.jobs.front() else { return Vec::new() };
        let kind = first.job.kind(one_place);
        let goes = |one: &WaitingEnqueue| one.job.kind(one_place) == kind;
        if self.jobs.len() <= MAX_BATCH_JOBS && self.jobs.iter().all(goes) {
            let size: usize = self.jobs.iter().map(|one| one.job.size()).sum();
            if size <= MAX_BATCH_BYTES {
                return self.jobs.drain(..).collect();
            }
        }
        let (mut batch, mut others, mut bytes) = (Vec::new(), VecDeque::new(), 0);
        let mut full = false;
        while let Some(one) = self.jobs.pop_front() {
            if full || one.job.kind(one_place) != kind {
                others.push_back(one);
                continue;
            }
            bytes += one.job.size();
            full = !batch.is_empty() && (batch.len() == MAX_BATCH_JOBS || bytes > MAX_BATCH_BYTES);
            if full { others.push_back(one) } else { batch.push(one) }
        }
        self.jobs = others;
        batch
    }
}

/// How many of these jobs leave together, batch by batch, if all of them wait at once for one
/// server. For the crate's own tests, which count what this costs.
pub fn batch_sizes(jobs: &[NewJob]) -> Vec<usize> {
    let queue = BatchQueue::default();
    let join = |new: &NewJob| queue.join(EnqueueArgs::of(&new.record.queue, new));
    // A job without its ticket is a caller that is gone.
    let _tickets: Vec<Ticket> = jobs.iter().map(join).collect();
    let next = || Some(queue.waiting().next_batch(true).len()).filter(|jobs| *jobs > 0);
    std::iter::from_fn(next).collect()
}

impl RedisBroker {
    /// Stores one job, together with others that wait. Ends within the pool's request limit,
    /// however long the calls before it take.
    ///
    /// # Errors
    /// - [`Error::is_unavailable`] if the job was certainly not sent, for example because the
    ///   calls before it were not answered in time.
    /// - [`Error::is_outcome_unknown`] if it was, and no reply came.
    /// - The store's refusal of this one job: jobs of other callers do not matter.
    pub(super) async fn enqueue_batched(&self, job: EnqueueArgs) -> Result<Enqueued, Error> {
        let queue = self.batcher.of(job.queue(), !self.pool.is_cluster());
        if let Ok(_call) = queue.calls.try_acquire() {
            return self.store_one(&job).await;
        }
        let Ticket { number, answer, needs_runner } = queue.join(job);
        if needs_runner {
            tokio::spawn(self.clone().run_batches(Arc::clone(&queue)));
        }
        match tokio::time::timeout(self.pool.request_limit(), answer).await {
            Ok(Ok(stored)) => stored,
            // The runtime of the runner has ended.
            Ok(Err(_)) => Err(Error::outcome_unknown("the store's reply was lost")),
            Err(_) if queue.leave(number) => {
                Err(Error::unavailable("not sent: the store did not reply to the jobs before"))
            }
            Err(_) => Err(Error::outcome_unknown("the store did not reply in time")),
        }
    }

    /// Stores one job by itself.
    async fn store_one(&self, job: &EnqueueArgs) -> Result<Enqueued, Error> {
        let mut stored = self.store_batch(&[job]).await?;
        Ok(stored.pop().expect("one result for each job"))
    }

    /// Sends waiting jobs until there are none.
    async fn run_batches(self, queue: Arc<BatchQueue>) {
        let mut runner = Runner { queue: &queue, has_ended: false };
        let one_place = !self.pool.is_cluster();
        loop {
            let _call = queue.calls.acquire().await.expect("the semaphore is never closed");
            let batch = {
                let mut waiting = queue.waiting();
                let batch = waiting.next_batch(one_place);
                if batch.is_empty() {
                    // Under the lock: the next job that waits starts another runner.
                    waiting.runners -= 1;
                    runner.has_ended = true;
                    return;
                }
                batch
            };
            self.send_batch(batch).await;
        }
    }

    /// Makes one call and answers all callers.
    async fn send_batch(&self, batch: Vec<WaitingEnqueue>) {
        let (jobs, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|one| (one.job, one.answer)).unzip();
        let stored = match self.store_batch(&jobs.iter().collect::<Vec<_>>()).await {
            Ok(stored) => stored.into_iter().map(Ok).collect(),
            // It did not run, perhaps because of one job: the others are sent alone.
            Err(error) if error.is_refused() && jobs.len() > 1 => {
                join_all(jobs.iter().map(|job| self.store_one(job))).await
            }
            Err(error) => jobs.iter().map(|_| Err(error.clone())).collect(),
        };
        for (answer, one) in answers.into_iter().zip(stored) {
            // A caller that is gone needs no answer.
            let _ = answer.send(one);
        }
    }
}

/// A running runner. If it is dropped with its runtime, no job goes on waiting for it.
struct Runner<'a> {
    queue: &'a BatchQueue,
    has_ended: bool,
}

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut waiting = self.queue.waiting();
        waiting.runners -= 1;
        if waiting.runners == 0 {
            waiting.jobs.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_queues_that_nobody_uses_are_forgotten() {
        let batcher = Batcher::default();
        let queue = |n: usize| QueueName::stored(&format!("q{n}"));
        let used = batcher.of(&queue(0), false);
        for n in 1..10 * MAX_IDLE_QUEUES {
            batcher.of(&queue(n), false);
        }
        assert!(batcher.by_queue.lock().unwrap().len() <= MAX_IDLE_QUEUES + 1);
        assert!(Arc::ptr_eq(&used, &batcher.of(&queue(0), false)));
    }
}
