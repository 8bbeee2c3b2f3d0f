//! Who works on the queues, and what keeps them.

use super::Inspector;
use crate::broker::{ClusterPlace, Servers, StoreInfo};
use crate::error::Error;
use crate::job::QueueName;

impl Inspector {
    /// The worker processes that announced themselves within the last 10 s, ours
    /// and Go's, at most 1,000, and what each runs. One command, and two per
    /// process, 50 processes side by side.
    ///
    /// What nobody can read is left out and counted.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn servers(&self) -> Result<Servers, Error> {
        Ok(self.viewer.servers(self.broker.servers().await?))
    }

    /// Where in a Redis Cluster a queue lives; `None` where the store is no
    /// Cluster. Two commands.
    ///
    /// # Errors
    /// [`Error::is_refused`] where Redis does not permit `CLUSTER`, and those of
    /// the store.
    pub async fn cluster_place(&self, queue: &QueueName) -> Result<Option<ClusterPlace>, Error> {
        self.broker.place(queue).await
    }

    /// What keeps the jobs: version, role, memory and eviction policy of each
    /// server, as far as it tells. One command to each.
    ///
    /// # Errors
    /// Those of the store; where `INFO` is not permitted, the values are missing.
    pub async fn store(&self) -> Result<StoreInfo, Error> {
        self.broker.store().await
    }
}
