//! Announces the periodic jobs of this process, for the inspector and Asynq's tools.
//!
//! An announcement lists each periodic job with its next and last run. It expires after 20 s
//! and is repeated every 10 s, so the announcement of a killed process vanishes by itself. A
//! change of the list is announced at once; a new last run, with the next repetition. At
//! shutdown [`Retirement`] withdraws the announcement, after the announcer has ended: otherwise
//! the two could overtake each other.
//!
//! The announcement is for display only. Which ticks have been enqueued is in the store's
//! claims, see [`periodic_service`](super::periodic_service): a process that cannot announce
//! fires its periodic jobs all the same.
//!
//! What may surprise. A process without periodic jobs writes nothing. Every start of a process
//! has a new id, so after a kill and a restart there are two announcements for up to 20 s; the
//! inspector merges equal ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Service;
use super::periodic_jobs::{Listener, PeriodicJobs};
use crate::broker::{Broker, host_name};
use crate::error::Error;

/// Asynq's own interval. Unlike in Asynq, the first announcement comes at once.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long withdrawing the announcement may take at shutdown. It expires anyway.
const RETIRE_TIMEOUT: Duration = Duration::from_millis(500);

/// The service that announces periodic jobs.
pub(crate) struct Announcer {
    broker: Arc<dyn Broker>,
    jobs: PeriodicJobs,
    /// The id of this process, `host:pid:uuid`, as in Asynq.
    scheduler: String,
    /// Whether there is an announcement to withdraw.
    announced: Arc<AtomicBool>,
}

/// Withdraws the announcement after the announcer has ended.
pub(crate) struct Retirement {
    broker: Arc<dyn Broker>,
    scheduler: String,
    announced: Arc<AtomicBool>,
}

impl Announcer {
    pub(crate) fn new(broker: Arc<dyn Broker>, jobs: PeriodicJobs) -> Self {
        let random = crate::chance::uuid();
        let scheduler = format!("{}:{}:{random}", host_name(), std::process::id());
        Self { broker, jobs, scheduler, announced: Arc::default() }
    }

    /// What withdraws the announcement once the announcer has ended.
    pub(super) fn retirement(&self) -> Retirement {
        Retirement {
            broker: Arc::clone(&self.broker),
            scheduler: self.scheduler.clone(),
            announced: Arc::clone(&self.announced),
        }
    }
}

impl Service for Announcer {
    const NAME: &'static str = "announcing periodic jobs";

    async fn tick(&self) -> Result<Duration, Error> {
        let now = self.broker.now();
        let jobs: Vec<_> = self.jobs.all().iter().map(|one| one.announced(now)).collect();
        if !jobs.is_empty() {
            self.announced.store(true, Ordering::Relaxed);
            self.broker.announce_periodic_jobs(&self.scheduler, &jobs).await?;
        } else if self.announced.load(Ordering::Relaxed) {
            self.broker.retire_periodic_jobs(&self.scheduler).await?;
            self.announced.store(false, Ordering::Relaxed);
        }
        Ok(INTERVAL)
    }

    async fn wakeup(&self) {
        self.jobs.changed(Listener::Announcing).await;
    }
}

impl Retirement {
    /// Withdraws the announcement, if there is one. A failure is only logged: it expires anyway.
    pub(crate) async fn retire(&self) {
        if !self.announced.load(Ordering::Relaxed) {
            return;
        }
        let retired = self.broker.retire_periodic_jobs(&self.scheduler);
        if !matches!(tokio::time::timeout(RETIRE_TIMEOUT, retired).await, Ok(Ok(()))) {
            crate::log::debug!("the announcement of periodic jobs was left to expire");
        }
    }
}
