//! Removes completed jobs whose retention is over.

use std::sync::Arc;
use std::time::Duration;

use super::Service;
use crate::broker::Broker;
use crate::error::Error;
use crate::job::QueueName;

/// Asynq's own interval.
const INTERVAL: Duration = Duration::from_secs(8);

/// Most jobs removed by one script.
const BATCH: usize = 100;

pub(crate) struct Janitor {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
}

impl Janitor {
    pub(crate) fn new(broker: Arc<dyn Broker>, queues: Vec<QueueName>) -> Self {
        Self { broker, queues }
    }
}

impl Service for Janitor {
    const NAME: &'static str = "removing completed jobs";

    async fn tick(&self) -> Result<Duration, Error> {
        for queue in &self.queues {
            while self.broker.expire(queue, BATCH).await? == BATCH {}
        }
        Ok(INTERVAL)
    }
}
