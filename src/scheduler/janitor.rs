//! Deletes completed jobs whose retention has ended, and archived jobs beyond the limits of
//! the archive (its age and size). Archives pending jobs that did not start in time while their
//! queue was paused or had no free worker.
//!
//! Every [`INTERVAL`] it goes through the queues of this process one after another. In each it
//! deletes in batches of [`MAX_BATCH_JOBS`] jobs per script until a batch is not full, so a large
//! backlog never blocks Redis for long. Deletion is by the store's clock.
//!
//! What may surprise. Every process with a worker does this. No process is elected: the scripts
//! are atomic, and a job that another process has deleted is simply not found. Only queues named
//! in a worker's settings are cleaned, so a queue without any worker keeps its jobs longer than
//! their retention. A job may also outlive its retention by the interval; nothing depends on
//! the exact moment.

use std::sync::Arc;
use std::time::Duration;

use super::{Round, Service};
use crate::broker::Broker;
use crate::error::Error;
use crate::job::QueueName;

/// Asynq's own interval.
const INTERVAL: Duration = Duration::from_secs(8);

/// Maximum number of jobs that one script deletes.
const MAX_BATCH_JOBS: usize = 100;

/// The service that deletes completed and old archived jobs.
pub(crate) struct Janitor {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
}

impl Janitor {
    pub(crate) fn new(broker: Arc<dyn Broker>, queues: Vec<QueueName>) -> Self {
        Self { broker, queues }
    }

    /// Deletes everything in this queue that has outlived its retention or the archive's limits.
    async fn clean(&self, queue: &QueueName) -> Result<(), Error> {
        while self.broker.delete_expired(queue, MAX_BATCH_JOBS).await? >= MAX_BATCH_JOBS {}
        while self.broker.trim(queue, MAX_BATCH_JOBS).await? == MAX_BATCH_JOBS {}
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
