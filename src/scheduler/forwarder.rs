//! Moves due jobs to the workers, sleeping exactly until the next one is due.

use std::sync::Arc;
use std::time::Duration;

use super::{Round, Service};
use crate::broker::Broker;
use crate::error::Error;
use crate::job::QueueName;

/// Most jobs moved by one script.
const BATCH: usize = 100;

pub(crate) struct Forwarder {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
}

impl Forwarder {
    pub(crate) fn new(broker: Arc<dyn Broker>, queues: Vec<QueueName>) -> Self {
        Self { broker, queues }
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
        let mut next = self.next_whole_second();
        let mut round = Round::default();
        for queue in &self.queues {
            if let Some(due) = round.note(self.forward(queue).await) {
                next = next.min(due.unwrap_or(next));
            }
        }
        round.end(next)
    }

    async fn woken(&self) {
        if self.broker.due_changed().await.is_err() {
            std::future::pending().await
        }
    }
}
