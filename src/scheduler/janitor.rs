//! Deletes completed jobs whose retention has ended, and archived jobs beyond the limits of
//! the archive (its age and size).

use std::sync::Arc;
use std::time::Duration;

use super::{Round, Service};
use crate::broker::Broker;
use crate::error::Error;
use crate::job::QueueName;

/// Asynq's own interval.
const INTERVAL: Duration = Duration::from_secs(8);

/// Maximum number of jobs that one script deletes.
const MAX_BATCH: usize = 100;

pub(crate) struct Janitor {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
}

impl Janitor {
    pub(crate) fn new(broker: Arc<dyn Broker>, queues: Vec<QueueName>) -> Self {
        Self { broker, queues }
    }

    async fn clean(&self, queue: &QueueName) -> Result<(), Error> {
        while self.broker.delete_expired(queue, MAX_BATCH).await? == MAX_BATCH {}
        while self.broker.trim(queue, MAX_BATCH).await? == MAX_BATCH {}
        Ok(())
    }
}

impl Service for Janitor {
    const NAME: &'static str = "removing completed and old archived jobs";

    async fn tick(&self) -> Result<Duration, Error> {
        let mut round = Round::default();
        for queue in &self.queues {
            round.add(self.clean(queue).await);
        }
        round.end(INTERVAL)
    }
}
