//! Alerts: what an operator should look at now, by rules with thresholds.
//!
//! [`AlertWatch`] reads the store, `judge` decides in a pure function, and every reader gets the same
//! list: the overview, `GET {base}/alerts` and the metrics. A look reads at most
//! [`MAX_QUEUES`](watch::MAX_QUEUES) queues, one script each, the worker processes, the periodic jobs
//! and the store's own figures, once for all readers.
//!
//! What may surprise. *Since* is what the store knows (`known`: the pause, the start of an attempt, the
//! tick that was missed) or what this process has seen (`seen`), which begins anew with the
//! process. A part that cannot be read makes its rules *unchecked*; that is not the same as no alert.

mod judge;
mod sentence;
mod settings;
mod watch;

use std::collections::BTreeMap;

use serde::Serialize;

use super::Inspector;
use crate::broker::FindingKind;
use crate::error::Error;
use crate::job::{JobId, QueueName};
use crate::time::Timestamp;

pub use settings::AlertSettings;
pub(crate) use watch::AlertWatch;

/// A rule for alerts. `jobqueue.alerts.<rule>` has its threshold or switches it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAlertRule"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AlertRule {
    /// Redis evicts keys.
    StoreEvicting,
    /// A server of the store is nearly full.
    StoreMemory,
    /// A setting of the store can lose jobs.
    StoreSettings,
    /// A queue cannot be read, or has a name that this crate cannot handle.
    QueueUnreadable,
    /// Pending jobs, and no worker serves their queue.
    NoWorker,
    /// Many attempts failed in the last hour.
    FailureRate,
    /// Many jobs were archived in the last hour.
    ArchivedGrowing,
    /// A queue is paused.
    QueuePaused,
    /// The oldest pending job has waited for long.
    OldestPending,
    /// An attempt runs for long.
    JobRunning,
    /// A periodic job was not enqueued at its time.
    PeriodicMissed,
    /// Jobs are pending, and every worker of their queue has been busy for long.
    WorkersFull,
    /// Jobs have waited for a limit for long.
    LimitFull,
}

impl AlertRule {
    /// All rules, in the order in which alerts are listed.
    pub const ALL: [Self; 13] = [
        Self::StoreEvicting,
        Self::StoreMemory,
        Self::StoreSettings,
        Self::QueueUnreadable,
        Self::NoWorker,
        Self::FailureRate,
        Self::ArchivedGrowing,
        Self::QueuePaused,
        Self::OldestPending,
        Self::JobRunning,
        Self::PeriodicMissed,
        Self::WorkersFull,
        Self::LimitFull,
    ];

    /// Its name in the configuration, in JSON and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoreEvicting => "store_evicting",
            Self::StoreMemory => "store_memory",
            Self::StoreSettings => "store_settings",
            Self::QueueUnreadable => "queue_unreadable",
            Self::NoWorker => "no_worker",
            Self::FailureRate => "failure_rate",
            Self::ArchivedGrowing => "archived_growing",
            Self::QueuePaused => "queue_paused",
            Self::OldestPending => "oldest_pending",
            Self::JobRunning => "job_running",
            Self::PeriodicMissed => "periodic_missed",
            Self::WorkersFull => "workers_full",
            Self::LimitFull => "limit_full",
        }
    }
}

/// What the numbers of an alert count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAlertUnit"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AlertUnit {
    /// Percent.
    Percent,
    /// Seconds.
    Seconds,
    /// Jobs.
    Jobs,
    /// Keys of Redis.
    Keys,
    /// Problems.
    Problems,
}

/// How well it is known since when an alert holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAlertSince"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AlertSince {
    /// The store knows when it began.
    Known,
    /// This process saw it then for the first time; it may have begun earlier.
    Seen,
}

/// Something an operator should look at.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAlert"))]
#[non_exhaustive]
pub struct Alert {
    /// The rule.
    pub rule: AlertRule,
    /// The queue, if it is about one.
    pub queue: Option<QueueName>,
    /// What else it is about: the oldest of the jobs, a periodic job, a limit, a server.
    pub subject: Option<String>,
    /// What was found, in a sentence.
    pub message: String,
    /// The value that was found.
    pub value: f64,
    /// The threshold that it reached.
    pub threshold: f64,
    /// The unit of both.
    pub unit: AlertUnit,
    /// Since when.
    pub since: Timestamp,
    /// How well that is known.
    pub since_is: AlertSince,
    /// What was found, for sentences in other languages.
    #[serde(skip)]
    #[cfg_attr(feature = "openapi", schemars(skip))]
    pub(crate) found: Found,
}

/// All alerts at one instant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAlerts"))]
#[non_exhaustive]
pub struct Alerts {
    /// When the store was read.
    pub at: Timestamp,
    /// The alerts, by rule; at most 100 of a rule.
    pub alerts: Vec<Alert>,
    /// How many alerts each checked rule has, also those that are not listed. A rule that is
    /// switched off, or that could not be checked, is missing.
    pub counts: BTreeMap<&'static str, u64>,
    /// Rules that could not be checked, because a part of the store did not answer.
    pub unchecked: Vec<AlertRule>,
    /// How many queues were checked.
    pub queues_checked: u64,
    /// Whether there are more queues, which were not checked.
    pub more_queues: bool,
}

impl Inspector {
    /// What needs attention at the moment, by the rules and these thresholds: what
    /// [`JobQueue::alerts`](crate::JobQueue::alerts) lists, for a program beside the application. *Since*
    /// is this moment unless the store knows better. It reads at most 1,000 queues, one script each,
    /// the worker processes, the periodic jobs and the figures of the servers.
    ///
    /// ```
    /// # use rocket_jobqueue::settings::AlertSettings;
    /// # use rocket_jobqueue::{Error, Inspector};
    /// async fn is_quiet(inspector: &Inspector) -> Result<bool, Error> {
    ///     let found = inspector.alerts(&AlertSettings::default()).await?;
    ///     Ok(found.alerts.is_empty() && found.unchecked.is_empty())
    /// }
    /// ```
    ///
    /// # Errors
    /// Errors of the store, if its queues cannot be read.
    pub async fn alerts(&self, settings: &AlertSettings) -> Result<Alerts, Error> {
        Ok(AlertWatch::new(settings.clone()).look(self).await?.as_ref().clone())
    }
}

impl Alerts {
    /// How many alerts are not listed.
    pub fn unlisted(&self) -> u64 {
        let all: u64 = self.counts.values().sum();
        all.saturating_sub(self.alerts.len() as u64)
    }
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    Failures { failed: u64, processed: u64, window: Window },
    Paused { pending: u64 },
    Running { jobs: u64, oldest: JobId, job_type: String },
    Missed { name: String, tick: Timestamp, last: Option<Timestamp> },
    Vanished { name: String, last_seen: Timestamp },
    NoWorker { pending: u64 },
    Waiting { pending: u64 },
    Archived { jobs: u64 },
    Memory { used: u64, max: u64 },
    Evicted { keys: u64 },
    Setting { kind: FindingKind, place: String },
    WorkersFull { slots: u64, pending: u64 },
    LimitFull { limit: String, waiting: u64 },
    Unreadable { problem: String },
    Unnamable { is_empty: bool },
}

/// The attempts that a failure rate is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Window {
    /// The last hour.
    Hour,
    /// Since this instant, because nobody counted before.
    Since(Timestamp),
    /// This UTC day, because nobody counted by minute.
    Today,
}
