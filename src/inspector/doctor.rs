//! The doctor: everything in the store that no operation leaves behind, in one report.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

use super::Inspector;
use crate::broker::{Broker, Finding, FindingKind, FindingStatus, Findings, RepairScope};
use crate::error::Error;
use crate::job::QueueName;

/// What the doctor found.
///
/// `Display` gives one line for each finding, and one if there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueDoctorReport"))]
#[non_exhaustive]
pub struct DoctorReport {
    /// The checked queues.
    pub queues: Vec<QueueName>,
    /// How many entries were checked.
    pub entries_checked: u64,
    /// The findings; the ones about the store come first.
    pub findings: Vec<Finding>,
}

impl DoctorReport {
    /// Whether nothing was found.
    pub fn is_healthy(&self) -> bool {
        self.findings.is_empty()
    }

    /// How many entries were repaired.
    pub fn repaired(&self) -> u64 {
        let repaired =
            self.findings.iter().filter(|finding| finding.status == FindingStatus::Repaired);
        repaired.map(|finding| finding.count).sum()
    }
}

impl fmt::Display for DoctorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_healthy() {
            let (entries_checked, queues) = (self.entries_checked, self.queues.len());
            return writeln!(f, "healthy: {entries_checked} entries in {queues} queues");
        }
        for finding in &self.findings {
            let Finding { kind, queue, place, count, samples, status } = finding;
            let queue = queue.as_ref().map_or("the store".into(), QueueName::printable);
            writeln!(f, "{kind:?} in {queue}, {place}: {count} ({status:?}), {samples:?}")?;
        }
        Ok(())
    }
}

/// A run of the doctor, which begins when it is awaited. Made by [`Inspector::doctor`].
#[must_use = "the doctor does nothing until it is awaited"]
#[derive(Clone)]
pub struct DoctorRun {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
    repair: RepairScope,
}

impl Inspector {
    /// The findings about the store itself, without its queues: a few commands.
    pub(crate) async fn check_store(&self) -> Result<Vec<Finding>, Error> {
        self.broker.check_store().await
    }
}

impl DoctorRun {
    /// Checks only this queue; called again, this queue too. The store itself is always
    /// checked.
    pub fn queue(mut self, queue: QueueName) -> Self {
        self.queues.push(queue);
        self
    }

    /// Repairs what can be repaired: each entry is tested again in the step that changes it.
    /// Jobs that are in no list become pending; such a job may have run before.
    pub fn repair(mut self) -> Self {
        self.repair = RepairScope::All;
        self
    }

    /// Checks the store, then queue by queue and page by page. A queue that refuses the check
    /// becomes a finding, so that it does not hide the others.
    async fn run(self) -> Result<DoctorReport, Error> {
        let Self { broker, mut queues, repair } = self;
        if queues.is_empty() {
            queues = broker.queues().await?;
        }
        let (mut findings, mut entries_checked) = (Findings::default(), 0);
        broker.check_store().await?.into_iter().for_each(|finding| findings.add(finding));
        for queue in &queues {
            let mut page = None;
            loop {
                let checked = match broker.check_queue(queue, page.take(), repair).await {
                    Ok(checked) => checked,
                    Err(error) if error.is_refused() => {
                        let kind = FindingKind::CheckRefused;
                        let place = error.to_string();
                        findings.add(Finding::new(
                            kind,
                            Some(queue),
                            place,
                            "",
                            FindingStatus::Reported,
                        ));
                        break;
                    }
                    Err(error) => return Err(error),
                };
                entries_checked += checked.entries_checked;
                checked.findings.into_iter().for_each(|finding| findings.add(finding));
                page = checked.next;
                if page.is_none() {
                    break;
                }
            }
        }
        Ok(DoctorReport { queues, entries_checked, findings: findings.into_vec() })
    }
}

impl IntoFuture for DoctorRun {
    type Output = Result<DoctorReport, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for DoctorRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DoctorRun")
            .field("queues", &self.queues)
            .field("repair", &self.repair)
            .finish()
    }
}

impl Inspector {
    /// Searches all queues and the store itself for what no operation leaves behind: jobs in
    /// no list or in two, active jobs without a lease, locks without a job, settings that
    /// lose jobs. Workers make the provable repairs by themselves, about once a minute.
    ///
    /// Costs one script for each 100 entries, a millisecond or two each, and a walk through
    /// all keys of the store. A million jobs take a minute, and no other client waits longer
    /// than for one page.
    ///
    /// # Errors
    /// Errors of the store. A queue that refuses the check is a finding.
    ///
    /// ```
    /// # async fn example(queue: &rocket_jobqueue::JobQueue) -> Result<(), rocket_jobqueue::Error> {
    /// let report = queue.inspector().doctor().await?;
    /// if !report.is_healthy() {
    ///     println!("{report}");
    ///     queue.inspector().doctor().repair().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn doctor(&self) -> DoctorRun {
        DoctorRun {
            broker: Arc::clone(&self.broker),
            queues: Vec::new(),
            repair: RepairScope::Nothing,
        }
    }
}
