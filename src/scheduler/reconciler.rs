//! Mends what faults left behind, where the repair is provable: what a worker of
//! another kind, an eviction or a restored backup broke.

use std::sync::Arc;
use std::time::Duration;

use super::{Round, Service};
use crate::broker::{Broker, Fate};
use crate::error::Error;
use crate::job::QueueName;

/// How often a process asks for its turn; one of them gets it.
const INTERVAL: Duration = Duration::from_secs(60);

pub(crate) struct Reconciler {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
}

impl Reconciler {
    pub(crate) fn new(broker: Arc<dyn Broker>, queues: Vec<QueueName>) -> Self {
        Self { broker, queues }
    }

    async fn reconcile(&self, queue: &QueueName) -> Result<(), Error> {
        for finding in self.broker.reconcile(queue).await? {
            let (kind, place, count) = (finding.kind, &finding.place, finding.count);
            match finding.fate {
                Fate::Repaired => {
                    crate::log::warn!(%queue, ?kind, %place, count, samples = ?finding.samples, "repaired");
                }
                // Known at each turn again; the doctor tells who asks.
                Fate::Reported | Fate::Repairable => {
                    crate::log::debug!(%queue, ?kind, %place, count, "found");
                }
            }
        }
        Ok(())
    }
}

impl Service for Reconciler {
    const NAME: &'static str = "repairing queues";

    async fn tick(&self) -> Result<Duration, Error> {
        let mut round = Round::default();
        for queue in &self.queues {
            round.note(self.reconcile(queue).await);
        }
        // Spread, so that many processes do not ask at the same instant.
        round.end(INTERVAL.mul_f64(0.8 + fastrand::f64() * 0.4))
    }
}
