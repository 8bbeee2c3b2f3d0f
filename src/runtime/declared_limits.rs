//! The limits that an application declares: set in the store at launch, over what was changed there.
//!
//! They are set before the worker dequeues its first job, if the store can be reached by then;
//! otherwise as soon as it can. Limits that are no longer declared stay.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::broker::Broker;
use crate::error::Error;
use crate::job::{Limit, QueueName};
use crate::sync::lock;

/// How long the launch waits for the store.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval between two tries to set them.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A limit of a queue.
#[derive(Clone, Debug)]
pub(crate) struct DeclaredLimit {
    pub(crate) queue: QueueName,
    pub(crate) limit: Limit,
}

/// The limits that the application declares, and those that the store does not have yet.
#[derive(Default)]
pub(super) struct DeclaredLimits {
    missing: Mutex<Vec<DeclaredLimit>>,
}

impl DeclaredLimits {
    pub(super) fn new(limits: Vec<DeclaredLimit>) -> Self {
        Self { missing: Mutex::new(limits) }
    }

    /// Sets all of them, unless the store cannot be reached within 2 s.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the store refuses one: the launch stops.
    pub(super) async fn at_launch(&self, broker: &dyn Broker) -> Result<(), Error> {
        match tokio::time::timeout(LAUNCH_TIMEOUT, self.set(broker)).await {
            Ok(Err(error)) if error.is_invalid() => Err(error),
            // The store cannot be reached. They are set as soon as it can.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Tries until all are set. One that the store refuses is logged and left out.
    pub(super) async fn keep_setting(self: Arc<Self>, broker: Arc<dyn Broker>) {
        let mut told = false;
        while let Err(error) = self.set(&*broker).await {
            if error.is_invalid() {
                crate::log::error!("a declared limit is not set: {error}");
                lock(&self.missing).pop();
                continue;
            }
            if !told {
                told = true;
                crate::log::warn!("declared limits are not set yet, and are tried again: {error}");
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Sets those that are missing, from the last on.
    async fn set(&self, broker: &dyn Broker) -> Result<(), Error> {
        loop {
            let next = lock(&self.missing).last().cloned();
            let Some(DeclaredLimit { queue, limit }) = next else { return Ok(()) };
            let known = broker.limits(&queue).await?;
            let before =
                known.into_iter().map(|info| info.limit).find(|one| one.name == limit.name);
            if before.as_ref() != Some(&limit) {
                broker.set_limit(&queue, &limit).await?;
                crate::log::info!(%queue, limit = %limit.name, replaces = before.is_some(), "limit set");
            }
            lock(&self.missing).pop();
        }
    }
}
