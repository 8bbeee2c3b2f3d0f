//! Adds what this process has counted of its job types to the store.
//!
//! Every [`INTERVAL`] it takes the counts of all handlers and sends them, in one script unless
//! many types ran. If nothing ran, it sends nothing. At shutdown it does so once more,
//! after the last job has ended.
//!
//! What may surprise. Statistics never delay a job: attempts count in memory, and a report that
//! could not be sent goes with the next one. A report without a reply is given up, because it may
//! have been added, and numbers must not grow by themselves. What a killed process counted in its
//! last ten seconds is missing.

use std::sync::Arc;
use std::time::Duration;

use super::Service;
use crate::broker::{Broker, MAX_REPORTED_DURATIONS, MAX_REPORTED_TYPES, ReportedType, TypeReport};
use crate::error::Error;
use crate::job::AppVersion;
use crate::registry::{Registry, TypeCounts};

/// How often counts are added to the store.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long the last report may take at shutdown.
const LAST_REPORT_TIMEOUT: Duration = Duration::from_millis(500);

/// The service that reports what handlers have counted. Clones share the counts.
#[derive(Clone)]
pub(crate) struct TypeReporter {
    broker: Arc<dyn Broker>,
    registry: Registry,
    version: Option<AppVersion>,
}

impl TypeReporter {
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        registry: Registry,
        version: Option<AppVersion>,
    ) -> Self {
        Self { broker, registry, version }
    }

    /// Sends what was counted since the last report.
    ///
    /// # Errors
    /// The first error of the store. What was certainly not added is sent the next time.
    pub(crate) async fn report(&self) -> Result<(), Error> {
        let mut counts = self.registry.take_counts();
        let mut result = Ok(());
        while !counts.is_empty() {
            let some = counts.split_off(counts.len() - fitting(&counts));
            let types = some.iter().map(reported).collect();
            let report = TypeReport { version: self.version.clone(), types };
            let Err(error) = self.broker.add_type_report("", &report).await else { continue };
            if !error.is_outcome_unknown() {
                some.into_iter().for_each(|counts| self.registry.put_back(counts));
            }
            result = result.and(Err(error));
        }
        result
    }

    /// Sends the rest, once all jobs have ended.
    pub(crate) async fn report_last(&self) {
        match tokio::time::timeout(LAST_REPORT_TIMEOUT, self.report()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => crate::log::debug!("the last statistics were not stored: {error:?}"),
            Err(_) => crate::log::debug!("the last statistics were not stored in time"),
        }
    }
}

/// How many of the last counts fit into one report; at least one.
fn fitting(counts: &[TypeCounts]) -> usize {
    let mut durations = 0;
    let has_room = |one: &&TypeCounts| {
        let room = durations < MAX_REPORTED_DURATIONS;
        durations += one.record.durations();
        room
    };
    counts.iter().rev().take(MAX_REPORTED_TYPES).take_while(has_room).count()
}

/// As it is sent.
fn reported(counts: &TypeCounts) -> ReportedType {
    let TypeCounts { job_type, record, remembered } = counts;
    ReportedType {
        name: job_type.clone(),
        record: record.clone(),
        slowest: remembered.slowest.clone(),
        failed: remembered.failed.clone(),
    }
}

impl Service for TypeReporter {
    const NAME: &'static str = "storing statistics of job types";

    /// Never an error: the next report is soon enough, and repeats what was not stored.
    async fn tick(&self) -> Result<Duration, Error> {
        if let Err(error) = self.report().await {
            crate::log::debug!("statistics of job types were not stored: {error:?}");
        }
        Ok(INTERVAL)
    }
}
