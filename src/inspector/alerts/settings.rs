//! The thresholds of the rules.

use std::time::Duration;

use super::AlertRule;

/// The thresholds of the alerts: `jobqueue.alerts`. `None` switches a rule off.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlertSettings {
    /// Percent of the attempts of the last hour that failed. Default 25.
    pub failure_rate: Option<u32>,
    /// Attempts below which there is no failure rate. Default 20: one failure of three says
    /// little.
    pub failure_rate_attempts: u32,
    /// How long a queue is paused. Default 0: at once, because nothing else reminds of it.
    pub queue_paused: Option<Duration>,
    /// How long an attempt runs. Default 1 h; the default timeout of an attempt is 30 min.
    pub job_running: Option<Duration>,
    /// How long ago a periodic job should have been enqueued. Default 5 min.
    pub periodic_missed: Option<Duration>,
    /// How long jobs are pending in a queue that no worker serves. Default 0: at once.
    pub no_worker: Option<Duration>,
    /// How long the oldest pending job has waited. Default 5 min.
    pub oldest_pending: Option<Duration>,
    /// Jobs of a queue that were archived in the last hour. Default 20.
    pub archived_growing: Option<u32>,
    /// Percent of a server's `maxmemory` in use. Default 90.
    pub store_memory: Option<u32>,
    /// Whether Redis has evicted keys within the last hour. Default on.
    pub store_evicting: bool,
    /// Whether a setting of the store can lose jobs. Default on.
    pub store_settings: bool,
    /// How long all workers of a queue with pending jobs are busy. Default 10 min.
    pub workers_full: Option<Duration>,
    /// How long jobs wait for a limit without a break. Default 10 min.
    pub limit_full: Option<Duration>,
    /// Whether a queue cannot be read. Default on.
    pub queue_unreadable: bool,
}

impl Default for AlertSettings {
    fn default() -> Self {
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        Self {
            failure_rate: Some(25),
            failure_rate_attempts: 20,
            queue_paused: minutes(0),
            job_running: minutes(60),
            periodic_missed: minutes(5),
            no_worker: minutes(0),
            oldest_pending: minutes(5),
            archived_growing: Some(20),
            store_memory: Some(90),
            store_evicting: true,
            store_settings: true,
            workers_full: minutes(10),
            limit_full: minutes(10),
            queue_unreadable: true,
        }
    }
}

impl AlertSettings {
    /// Whether a rule is on.
    pub fn is_on(&self, rule: AlertRule) -> bool {
        match rule {
            AlertRule::StoreEvicting => self.store_evicting,
            AlertRule::StoreMemory => self.store_memory.is_some(),
            AlertRule::StoreSettings => self.store_settings,
            AlertRule::QueueUnreadable => self.queue_unreadable,
            AlertRule::NoWorker => self.no_worker.is_some(),
            AlertRule::FailureRate => self.failure_rate.is_some(),
            AlertRule::ArchivedGrowing => self.archived_growing.is_some(),
            AlertRule::QueuePaused => self.queue_paused.is_some(),
            AlertRule::OldestPending => self.oldest_pending.is_some(),
            AlertRule::JobRunning => self.job_running.is_some(),
            AlertRule::PeriodicMissed => self.periodic_missed.is_some(),
            AlertRule::WorkersFull => self.workers_full.is_some(),
            AlertRule::LimitFull => self.limit_full.is_some(),
        }
    }
}
