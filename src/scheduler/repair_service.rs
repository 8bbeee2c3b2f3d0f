//! Repairs what faults left behind, where the repair is provable: what a worker of
//! another kind, an eviction or a restored backup broke.

use std::sync::Arc;
use std::time::Duration;

use super::{Round, Service};
use crate::broker::{Broker, FindingStatus};
use crate::error::Error;
use crate::job::QueueName;

/// How often a process asks for its turn; one of them gets it.
const INTERVAL: Duration = Duration::from_secs(60);

pub(crate) struct RepairService {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
}

impl RepairService {
    pub(crate) fn new(broker: Arc<dyn Broker>, queues: Vec<QueueName>) -> Self {
        Self { broker, queues }
    }

    async fn repair_provable(&self, queue: &QueueName) -> Result<(), Error> {
        for finding in self.broker.repair_provable(queue).await? {
            let (kind, place, count) = (finding.kind, &finding.place, finding.count);
            match finding.status {
                FindingStatus::Repaired => {
                    crate::log::warn!(%queue, ?kind, %place, count, samples = ?finding.samples, "repaired");
                }
                // Known at each turn again; the doctor tells who asks.
                FindingStatus::Reported | FindingStatus::Repairable => {
                    crate::log::debug!(%queue, ?kind, %place, count, "found");
                }
            }
        }
        Ok(())
    }
}

impl Service for RepairService {
    const NAME: &'static str = "repairing queues";

    async fn tick(&self) -> Result<Duration, Error> {
        let mut round = Round::default();
        for queue in &self.queues {
            round.note(self.repair_provable(queue).await);
        }
        // Spread, so that many processes do not ask at the same instant.
        round.end(INTERVAL.mul_f64(0.8 + fastrand::f64() * 0.4))
    }
}
