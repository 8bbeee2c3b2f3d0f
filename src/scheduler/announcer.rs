//! Announces the periodic jobs of this process, for the inspector and Asynq's tools. An
//! announcement expires after 20 s and is repeated every 10 s, so those of killed processes
//! vanish by themselves.

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

pub(crate) struct Announcer {
    broker: Arc<dyn Broker>,
    jobs: PeriodicJobs,
    scheduler: String,
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
        let random = uuid::Uuid::new_v4();
        let scheduler = format!("{}:{}:{random}", host_name(), std::process::id());
        Self { broker, jobs, scheduler, announced: Arc::default() }
    }

    pub(crate) fn retirement(&self) -> Retirement {
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
