//! Group commit: enqueues that come while others are under way leave together, in
//! one script. Nobody waits for company: who comes alone is sent at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::enqueue_args::EnqueueArgs;
use super::{BATCH, BATCH_BYTES, RedisBroker};
use crate::broker::Enqueued;
use crate::error::Error;
use crate::job::QueueName;

/// Scripts under way at a time: while the server runs one, the next one is on its
/// way.
const MAX_RUNNING_BATCHES: usize = 2;

/// Lines on a Cluster that are kept although nobody is in them: names of queues may come
/// from requests, and there is no end of them.
const MAX_IDLE_QUEUES: usize = 64;

/// Single enqueues of this process on their way to the store: all in one line, or on a
/// Cluster in one for each queue, whose servers answer each in its own time.
#[derive(Default)]
pub(super) struct Batcher {
    all: Arc<BatchQueue>,
    by_queue: Mutex<HashMap<QueueName, Arc<BatchQueue>>>,
}

impl Batcher {
    fn of(&self, queue: &QueueName, one_place: bool) -> Arc<BatchQueue> {
        if one_place {
            return Arc::clone(&self.all);
        }
        let mut lines = self.by_queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(queue) {
            return Arc::clone(line);
        }
        if lines.len() >= MAX_IDLE_QUEUES {
            // Nobody is in those that nobody else holds: they are given out under this lock.
            lines.retain(|_, line| Arc::strong_count(line) > 1);
        }
        Arc::clone(lines.entry(queue.clone()).or_default())
    }
}

#[derive(Default)]
struct BatchQueue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<WaitingEnqueue>,
    running: usize,
    tickets: u64,
}

struct WaitingEnqueue {
    ticket: u64,
    job: EnqueueArgs,
    answer: oneshot::Sender<Result<Enqueued, Error>>,
}

enum Joined {
    /// Nobody is in the way: it leaves now.
    First(EnqueueArgs),
    Waits {
        ticket: u64,
        answer: oneshot::Receiver<Result<Enqueued, Error>>,
    },
}

impl BatchQueue {
    fn locked(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among the running, or one in line.
    fn join(&self, job: EnqueueArgs) -> Joined {
        let mut waiting = self.locked();
        if waiting.running < MAX_RUNNING_BATCHES {
            waiting.running += 1;
            return Joined::First(job);
        }
        let (sender, answer) = oneshot::channel();
        waiting.tickets += 1;
        let ticket = waiting.tickets;
        waiting.jobs.push_back(WaitingEnqueue { ticket, job, answer: sender });
        Joined::Waits { ticket, answer }
    }

    /// Whether the job was still in line; it is not any more.
    fn leave(&self, ticket: u64) -> bool {
        let mut waiting = self.locked();
        let place = waiting.jobs.iter().position(|one| one.ticket == ticket);
        place.and_then(|at| waiting.jobs.remove(at)).is_some()
    }

    /// The first in line and those that go with it in one script.
    fn next(&self, one_place: bool) -> Vec<WaitingEnqueue> {
        let mut waiting = self.locked();
        // Dropped by its caller before it was sent: then nothing happens.
        waiting.jobs.retain(|one| !one.answer.is_closed());
        let Some(first) = waiting.jobs.front() else { return Vec::new() };
        let kind = first.job.kind(one_place);
        let goes = |one: &WaitingEnqueue| one.job.kind(one_place) == kind;
        if waiting.jobs.len() <= BATCH && waiting.jobs.iter().all(goes) {
            let size: usize = waiting.jobs.iter().map(|one| one.job.size()).sum();
            if size <= BATCH_BYTES {
                return waiting.jobs.drain(..).collect();
            }
        }
        let (mut batch, mut others, mut bytes) = (Vec::new(), VecDeque::new(), 0);
        let mut full = false;
        while let Some(one) = waiting.jobs.pop_front() {
            if full || one.job.kind(one_place) != kind {
                others.push_back(one);
                continue;
            }
            bytes += one.job.size();
            full = !batch.is_empty() && (batch.len() == BATCH || bytes > BATCH_BYTES);
            if full { others.push_back(one) } else { batch.push(one) }
        }
        waiting.jobs = others;
        batch
    }
}

impl RedisBroker {
    /// Stores one job, together with others that wait. As every request it ends
    /// within the pool's limit, however long those before it take.
    pub(super) async fn enqueue_batched(&self, job: EnqueueArgs) -> Result<Enqueued, Error> {
        let line = self.batcher.of(job.queue(), !self.pool.is_cluster());
        let (ticket, answer) = match line.join(job) {
            Joined::First(job) => {
                let _running = RunningBatch { broker: self, line: &line };
                let mut stored = self.store_batch(&[&job]).await?;
                return Ok(stored.pop().expect("one answer for each job"));
            }
            Joined::Waits { ticket, answer } => (ticket, answer),
        };
        match tokio::time::timeout(self.pool.request_limit(), answer).await {
            Ok(Ok(stored)) => stored,
            // The runtime of the flight has ended.
            Ok(Err(_)) => Err(Error::outcome_unknown("the store's answer was lost")),
            Err(_) if line.leave(ticket) => {
                Err(Error::unavailable("not sent: the store did not answer to the jobs before"))
            }
            Err(_) => Err(Error::outcome_unknown("the store did not answer in time")),
        }
    }

    /// Sends what waits until nothing does.
    async fn run_batches(self, line: Arc<BatchQueue>) {
        let running = RunningBatch { broker: &self, line: &line };
        let one_place = !self.pool.is_cluster();
        loop {
            let batch = line.next(one_place);
            if batch.is_empty() {
                break;
            }
            let (jobs, answers): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|one| (one.job, one.answer)).unzip();
            match self.store_batch(&jobs.iter().collect::<Vec<_>>()).await {
                Ok(stored) => {
                    for (answer, one) in answers.into_iter().zip(stored) {
                        // Nobody waits any more where an enqueue was dropped.
                        let _ = answer.send(Ok(one));
                    }
                }
                // It did not run: perhaps for one job's sake, which is to stop no other.
                Err(error) if error.is_refused() && jobs.len() > 1 => {
                    let each = jobs.iter().map(async |job| self.store_batch(&[job]).await);
                    let each = futures_util::future::join_all(each).await;
                    for (answer, one) in answers.into_iter().zip(each) {
                        let one = one.map(|mut one| one.pop().expect("one answer for each job"));
                        let _ = answer.send(one);
                    }
                }
                Err(error) => {
                    for answer in answers {
                        let _ = answer.send(Err(error.clone()));
                    }
                }
            }
        }
        drop(running);
    }
}

/// A script under way. When it has landed, another one takes off if any job waits.
struct RunningBatch<'a> {
    broker: &'a RedisBroker,
    line: &'a Arc<BatchQueue>,
}

impl Drop for RunningBatch<'_> {
    fn drop(&mut self) {
        let mut waiting = self.line.locked();
        if waiting.jobs.is_empty() {
            waiting.running -= 1;
            return;
        }
        match Handle::try_current() {
            // The place among the running goes over to it.
            Ok(runtime) => {
                drop(runtime.spawn(self.broker.clone().run_batches(Arc::clone(self.line))))
            }
            Err(_) => {
                waiting.running -= 1;
                waiting.jobs.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_queues_that_nobody_uses_are_forgotten() {
        let lines = Batcher::default();
        let queue = |n: usize| QueueName::stored(&format!("q{n}"));
        let used = lines.of(&queue(0), false);
        for n in 1..10 * MAX_IDLE_QUEUES {
            lines.of(&queue(n), false);
        }
        assert!(lines.by_queue.lock().unwrap().len() <= MAX_IDLE_QUEUES + 1);
        assert!(Arc::ptr_eq(&used, &lines.of(&queue(0), false)));
    }
}
