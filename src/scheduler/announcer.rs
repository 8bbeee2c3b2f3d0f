//! Tells the world which periodic entries this process has, for our inspector and
//! Asynq's tools.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Service;
use super::periodic_jobs::{Listener, PeriodicJobs};
use crate::broker::{Broker, host_name};
use crate::error::Error;

/// Asynq's own interval. Unlike Asynq's, the first beat comes at once.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_millis(500);

pub(crate) struct Announcer {
    broker: Arc<dyn Broker>,
    entries: PeriodicJobs,
    scheduler: String,
    told: Arc<AtomicBool>,
}

/// Takes the announcement back when the announcer has ended.
pub(crate) struct Retirement {
    broker: Arc<dyn Broker>,
    scheduler: String,
    told: Arc<AtomicBool>,
}

impl Announcer {
    pub(crate) fn new(broker: Arc<dyn Broker>, entries: PeriodicJobs) -> Self {
        let random = uuid::Uuid::new_v4();
        let scheduler = format!("{}:{}:{random}", host_name(), std::process::id());
        Self { broker, entries, scheduler, told: Arc::default() }
    }

    pub(crate) fn farewell(&self) -> Retirement {
        Retirement {
            broker: Arc::clone(&self.broker),
            scheduler: self.scheduler.clone(),
            told: Arc::clone(&self.told),
        }
    }
}

impl Service for Announcer {
    const NAME: &'static str = "announcing periodic entries";

    async fn tick(&self) -> Result<Duration, Error> {
        let now = self.broker.now();
        let entries: Vec<_> = self.entries.all().iter().map(|one| one.announced(now)).collect();
        if !entries.is_empty() {
            self.told.store(true, Ordering::Relaxed);
            self.broker.announce_periodic_jobs(&self.scheduler, &entries).await?;
        } else if self.told.load(Ordering::Relaxed) {
            self.broker.retire_periodic_jobs(&self.scheduler).await?;
            self.told.store(false, Ordering::Relaxed);
        }
        Ok(INTERVAL)
    }

    async fn wakeup(&self) {
        self.entries.changed(Listener::Announcing).await;
    }
}

impl Retirement {
    pub(crate) async fn say(&self) {
        if !self.told.load(Ordering::Relaxed) {
            return;
        }
        let retired = self.broker.retire_periodic_jobs(&self.scheduler);
        if !matches!(tokio::time::timeout(FAREWELL, retired).await, Ok(Ok(()))) {
            crate::log::debug!("the announcement of periodic entries was left to expire");
        }
    }
}
