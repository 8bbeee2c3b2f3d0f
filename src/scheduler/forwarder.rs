//! Moves due jobs to the workers, sleeping exactly until the next one is due.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use super::{Round, Service};
use crate::broker::Broker;
use crate::error::Error;
use crate::job::QueueName;
use crate::sync::lock;

/// Most jobs moved by one script.
const BATCH: usize = 100;

/// How many queues are asked at a time: on a way of a millisecond, a thousand asked one
/// after another would take longer than until the next look.
const SIDE_BY_SIDE: usize = 32;

/// After so long without work a server may sleep.
const PEACE: Duration = Duration::from_millis(2);

pub(crate) struct Forwarder {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
    /// When each of them is to be looked at again.
    looks: Mutex<Vec<Instant>>,
    /// The next look is at a job that will be due, after a while of peace.
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

    /// Moves what is due, unless that is too much at once; how long until the next look.
    async fn forward(&self, queue: &QueueName) -> Result<Option<Duration>, Error> {
        loop {
            let forwarded = self.broker.forward(queue, BATCH).await?;
            if forwarded.moved < BATCH || forwarded.next != Some(Duration::ZERO) {
                return Ok(forwarded.next);
            }
        }
    }

    /// Which of these queues, given by their places, have something to move or cannot
    /// tell otherwise. The next look of the others is noted.
    async fn with_due(&self, places: Vec<usize>, latest: Instant) -> Vec<usize> {
        // A single one is forwarded at once.
        if places.len() < 2 {
            return places;
        }
        let queues: Vec<_> = places.iter().map(|at| self.queues[*at].clone()).collect();
        let Ok(next) = self.broker.next_due(&queues).await else {
            // Each will say for itself what is wrong.
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

    /// Go producers do not wake us, and their times are whole seconds: a look
    /// just after each whole second finds what they scheduled.
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
        let mut asked = stream::iter(due.iter().copied()).map(ask).buffer_unordered(SIDE_BY_SIDE);
        let mut round = Round::default();
        while let Some((at, next, then)) = asked.next().await {
            let next = round.note(next).flatten();
            // Also where it failed: the others do not wait for it.
            self.looks()[at] = next.map_or(latest, |next| latest.min(then + next));
        }
        let mut looks = self.looks();
        if round.failed_at_all() {
            // The store is away: how long until they are tried again is the loop's to say.
            due.iter().for_each(|at| looks[*at] = now);
        }
        let next = looks.iter().min().copied().unwrap_or(latest);
        let pause = next.saturating_duration_since(Instant::now());
        self.expects.store(next < latest && pause > PEACE, Ordering::Relaxed);
        round.end(pause)
    }

    /// A server, and the processor below it, that sleep take longer to answer.
    async fn prewarm(&self) {
        if self.expects.load(Ordering::Relaxed) {
            // Who does not answer will be asked again at once.
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
