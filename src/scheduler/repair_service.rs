//! Repairs in the background what faults left behind in the store: a worker of another kind, an
//! eviction or a restored backup.
//!
//! About once a minute every process asks the store for each of its queues whether a repair is
//! due. The store gives one process its turn, which then checks a bounded part of the queue;
//! the next turn continues there. So the cost is spread over time and does not grow with the
//! number of processes.
//!
//! Only findings whose repair is provably right are repaired, and each is logged as a
//! warning with its number and samples. The others are left to an operator, who sees them in the
//! doctor's report and decides.
//!
//! What may surprise. A long queue needs several turns, so a defect may be repaired minutes
//! after it appeared. The doctor of the inspector uses the same checks and does not wait for a
//! turn.

use std::sync::Arc;
use std::time::Duration;

use super::{Round, Service};
use crate::broker::{Broker, FindingStatus};
use crate::chance::Chance;
use crate::error::Error;
use crate::job::QueueName;

/// Mean interval at which each process asks the store whether a repair is due. The store
/// lets one of them do it.
const INTERVAL: Duration = Duration::from_secs(60);

/// The service that repairs queues in the background.
pub(crate) struct RepairService {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
}

impl RepairService {
    pub(crate) fn new(broker: Arc<dyn Broker>, queues: Vec<QueueName>) -> Self {
        Self { broker, queues }
    }

    /// Repairs a part of this queue, if it is this process's turn, and logs what it found.
    async fn repair_provable(&self, queue: &QueueName) -> Result<(), Error> {
        for finding in self.broker.repair_provable(queue).await? {
            let (kind, place, count) = (finding.kind, &finding.place, finding.count);
            match finding.status {
                FindingStatus::Repaired => {
                    crate::log::warn!(%queue, ?kind, %place, count, samples = ?finding.samples, "repaired");
                }
                // Found again every turn; operators see it in the doctor's report.
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
            round.add(self.repair_provable(queue).await);
        }
        // Jitter, so that many processes do not ask at the same instant.
        round.end(INTERVAL.mul_f64(0.8 + Chance::system().share() * 0.4))
    }
}
