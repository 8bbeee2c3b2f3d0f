//! Moves due jobs to the workers, sleeping exactly until the next one is due.

use std::sync::Arc;
use std::time::Duration;

use super::Service;
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
        for queue in &self.queues {
            let forwarded = loop {
                let forwarded = self.broker.forward(queue, BATCH).await?;
                if forwarded.moved < BATCH {
                    break forwarded;
                }
            };
            next = next.min(forwarded.next.unwrap_or(next));
        }
        Ok(next)
    }

    async fn woken(&self) {
        if self.broker.due_changed().await.is_err() {
            std::future::pending().await
        }
    }
}
