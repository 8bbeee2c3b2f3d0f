//! The worker processes and the servers of the store.

use super::Inspector;
use crate::broker::{ClusterPlace, Servers, StoreInfo};
use crate::error::Error;
use crate::job::QueueName;

impl Inspector {
    /// The worker processes that announced themselves within the last 10 s, of this crate
    /// and of Go, at most 1,000, and their jobs in flight. One command, and three per process,
    /// four for those of this crate, 50 processes concurrently.
    ///
    /// Unreadable announcements are left out and counted.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn servers(&self) -> Result<Servers, Error> {
        Ok(self.viewer.servers(self.broker.servers().await?))
    }

    /// The slot and nodes of a queue in a Redis Cluster; `None` if the store is not a
    /// Cluster. Two commands.
    ///
    /// # Errors
    /// [`Error::is_refused`] if Redis does not permit `CLUSTER`, and errors of
    /// the store.
    pub async fn cluster_place(&self, queue: &QueueName) -> Result<Option<ClusterPlace>, Error> {
        self.broker.place(queue).await
    }

    /// Version, role, memory and eviction policy of each server, as far as `INFO` reports them.
    /// One command to each.
    ///
    /// # Errors
    /// Errors of the store. If `INFO` is not permitted, the values are missing.
    pub async fn store(&self) -> Result<StoreInfo, Error> {
        self.broker.store().await
    }
}
