//! Makes due jobs pending, exactly when they are due.
//!
//! The store says how long until the next job of a queue is due, and the forwarder sleeps
//! until then on the [precise timer](super::precise_timer). It is woken when an earlier job
//! is scheduled, in this or another process. Go producers send no wake-up, but their due times
//! are whole seconds, so one look just after each whole second finds their jobs.
//!
//! Each queue has its own next look. A tick asks the queues whose look has come which of them
//! have due jobs, in one call, and forwards only those, up to [`MAX_CONCURRENT_QUEUES`]
//! concurrently. A queue that fails is tried again at the next whole second and delays no
//! other.
//!
//! What may surprise. Every process with a worker forwards; the script moves each job once. If
//! the pending list is long, due jobs are forwarded in limited batches, so that new jobs do not
//! queue behind a backlog: the store decides that and says when to come back. After an idle
//! time a PING goes out just before the next due time, so that Redis answers without delay.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use super::{Round, Service};
use crate::broker::Broker;
use crate::error::Error;
use crate::job::QueueName;
use crate::sync::lock;

/// Maximum number of jobs that one script moves.
const MAX_BATCH_JOBS: usize = 100;

/// Maximum number of queues that are asked concurrently. At a millisecond for each round
/// trip, a thousand queues one after another would take longer than until the next look.
const MAX_CONCURRENT_QUEUES: usize = 32;

/// An idle time after which Redis or its core may be asleep, so that a PING just before the
/// next due time pays.
const IDLE_BEFORE_PREWARM: Duration = Duration::from_millis(2);

/// The service that makes due jobs pending.
pub(crate) struct Forwarder {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
    /// When each of them is asked next, in the same order.
    looks: Mutex<Vec<Instant>>,
    /// The next look is for a job that becomes due, after an idle time: then a PING is sent just
    /// before.
    expects: AtomicBool,
}

impl Forwarder {
    pub(crate) fn new(broker: Arc<dyn Broker>, queues: Vec<QueueName>) -> Self {
        let looks = Mutex::new(vec![Instant::now(); queues.len()]);
        Self { broker, queues, looks, expects: AtomicBool::new(false) }
    }

    fn looks(&self) -> MutexGuard<'_, Vec<Instant>> {
        lock(&self.looks)
    }

    /// Moves the due jobs of a queue, one batch after another, as long as batches are full and the
    /// store says that more may be moved now. Returns how long until the next look.
    async fn forward(&self, queue: &QueueName) -> Result<Option<Duration>, Error> {
        loop {
            let forwarded = self.broker.forward(queue, MAX_BATCH_JOBS).await?;
            if forwarded.moved < MAX_BATCH_JOBS || forwarded.next != Some(Duration::ZERO) {
                return Ok(forwarded.next);
            }
        }
    }

    /// Of these queues, given by index, keeps the ones with due jobs or without an answer.
    /// Schedules the next look at the others, at `latest` if none of their jobs is due earlier.
    async fn with_due(&self, places: Vec<usize>, latest: Instant) -> Vec<usize> {
        // For a single queue, asking costs as much as forwarding.
        if places.len() < 2 {
            return places;
        }
        let queues: Vec<_> = places.iter().map(|at| self.queues[*at].clone()).collect();
        let Ok(next) = self.broker.next_due(&queues).await else {
            // Each queue's own call reports what is wrong.
            return places;
        };
        let (then, mut looks) = (Instant::now(), self.looks());
        let mut due = Vec::new();
        for (at, next) in places.into_iter().zip(next) {
            match next {
                Some(Duration::ZERO) => due.push(at),
                next => looks[at] = next.map_or(latest, |next| latest.min(then + next)),
            }
        }
        due
    }

    /// How long until half a millisecond after the next whole second, when jobs of Go producers are
    /// due.
    fn next_whole_second(&self) -> Duration {
        let micros = self.broker.now().as_micros().rem_euclid(1_000_000);
        Duration::from_micros(1_000_500 - micros.unsigned_abs())
    }
}

impl Service for Forwarder {
    const NAME: &'static str = "forwarding due jobs";

    async fn tick(&self) -> Result<Duration, Error> {
        let now = Instant::now();
        let due: Vec<usize> =
            self.looks().iter().enumerate().filter(|(_, at)| **at <= now).map(|(n, _)| n).collect();
        let latest = now + self.next_whole_second();
        let due = self.with_due(due, latest).await;
        let ask = |at: usize| async move {
            let next = self.forward(&self.queues[at]).await;
            (at, next, Instant::now())
        };
        let mut asked =
            stream::iter(due.iter().copied()).map(ask).buffer_unordered(MAX_CONCURRENT_QUEUES);
        let mut round = Round::default();
        while let Some((at, next, then)) = asked.next().await {
            let next = round.add(next).flatten();
            // Also after a failure: the other queues do not wait for this one.
            self.looks()[at] = next.map_or(latest, |next| latest.min(then + next));
        }
        let mut looks = self.looks();
        if round.failed_at_all() {
            // The store cannot be reached: the loop decides when to try again.
            due.iter().for_each(|at| looks[*at] = now);
        }
        let next = looks.iter().min().copied().unwrap_or(latest);
        let pause = next.saturating_duration_since(Instant::now());
        self.expects.store(next < latest && pause > IDLE_BEFORE_PREWARM, Ordering::Relaxed);
        round.end(pause)
    }

    /// An idle Redis on a sleeping core answers late; a PING just before wakes both.
    async fn prewarm(&self) {
        if self.expects.load(Ordering::Relaxed) {
            // If this fails, the call right after it reports the error.
            let _ = self.broker.ping().await;
        }
    }

    async fn wakeup(&self) {
        let Ok(changed) = self.broker.due_changed().await else {
            return std::future::pending().await;
        };
        let now = Instant::now();
        let mut looks = self.looks();
        for (queue, at) in self.queues.iter().zip(looks.iter_mut()) {
            if changed.is_empty() || changed.contains(queue) {
                *at = now;
            }
        }
    }
}
