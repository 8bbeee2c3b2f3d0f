//! The check-up: everything in the store that no operation leaves behind, in one
//! report.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

use super::Inspector;
use crate::broker::{Broker, Fate, Finding, FindingKind, Findings, Mend};
use crate::error::Error;
use crate::job::QueueName;

/// What a check-up found.
///
/// `Display` gives one line for each finding, and one if there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueDoctorReport"))]
#[non_exhaustive]
pub struct Diagnosis {
    /// The queues that were looked at.
    pub queues: Vec<QueueName>,
    /// How many entries were looked at.
    pub looked: u64,
    /// What is wrong, those of the store first.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Whether nothing was found.
    pub fn is_healthy(&self) -> bool {
        self.findings.is_empty()
    }

    /// How many entries were repaired.
    pub fn repaired(&self) -> u64 {
        let repaired = self.findings.iter().filter(|finding| finding.fate == Fate::Repaired);
        repaired.map(|finding| finding.count).sum()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_healthy() {
            let (looked, queues) = (self.looked, self.queues.len());
            return writeln!(f, "healthy: {looked} entries in {queues} queues");
        }
        for finding in &self.findings {
            let Finding { kind, queue, place, count, samples, fate } = finding;
            let queue = queue.as_ref().map_or("the store".into(), QueueName::printable);
            writeln!(f, "{kind:?} in {queue}, {place}: {count} ({fate:?}), {samples:?}")?;
        }
        Ok(())
    }
}

/// A check-up that begins when it is awaited. Made by [`Inspector::doctor`].
#[must_use = "a check-up does nothing until it is awaited"]
#[derive(Clone)]
pub struct CheckUp {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
    mend: Mend,
}

#[cfg(feature = "dashboard")]
impl Inspector {
    /// What is wrong with the store itself, without its queues: a few commands.
    pub(crate) async fn examine(&self) -> Result<Vec<Finding>, Error> {
        self.broker.examine().await
    }
}

impl CheckUp {
    /// Looks at this queue only, or at this one too. The store itself is looked at
    /// in any case.
    pub fn queue(mut self, queue: QueueName) -> Self {
        self.queues.push(queue);
        self
    }

    /// Repairs what is found where it can be: each entry is tested again in the
    /// step that changes it. Jobs that are nowhere go back in line; such a job may
    /// have run before.
    pub fn repair(mut self) -> Self {
        self.mend = Mend::All;
        self
    }

    async fn run(self) -> Result<Diagnosis, Error> {
        let Self { broker, mut queues, mend } = self;
        if queues.is_empty() {
            queues = broker.queues().await?;
        }
        let (mut findings, mut looked) = (Findings::default(), 0);
        broker.examine().await?.into_iter().for_each(|finding| findings.add(finding));
        for queue in &queues {
            let mut page = None;
            loop {
                let checked = match broker.check(queue, page.take(), mend).await {
                    Ok(checked) => checked,
                    Err(error) if error.is_refused() => {
                        let kind = FindingKind::CheckRefused;
                        let place = error.to_string();
                        findings.add(Finding::new(kind, Some(queue), place, "", Fate::Reported));
                        break;
                    }
                    Err(error) => return Err(error),
                };
                looked += checked.looked;
                checked.findings.into_iter().for_each(|finding| findings.add(finding));
                page = checked.next;
                if page.is_none() {
                    break;
                }
            }
        }
        Ok(Diagnosis { queues, looked, findings: findings.into_vec() })
    }
}

impl IntoFuture for CheckUp {
    type Output = Result<Diagnosis, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for CheckUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckUp").field("queues", &self.queues).field("mend", &self.mend).finish()
    }
}

impl Inspector {
    /// Looks for what no operation leaves behind, in all queues and in the store
    /// itself: jobs that are nowhere or in two places, running ones that nobody
    /// holds, locks without a job, settings under which jobs get lost. Workers
    /// repair the provable part by themselves, about once a minute.
    ///
    /// Costs one script for each 100 entries, a millisecond or two each, and a walk
    /// through all keys of the store: a million jobs take a minute, and no other
    /// client waits longer than for one page.
    ///
    /// # Errors
    /// Those of the store. A queue that refuses to be looked at is a finding.
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
    pub fn doctor(&self) -> CheckUp {
        CheckUp { broker: Arc::clone(&self.broker), queues: Vec::new(), mend: Mend::Nothing }
    }
}
