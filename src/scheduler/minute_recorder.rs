//! Records the counters of queues by minute that no worker of this crate serves: Go's workers count
//! attempts by day only.
//!
//! The janitor of a worker of this crate records the queues it serves. For the other queues every
//! process with a web interface does it, just after each minute begins: one script for each of at most
//! [`MAX_QUEUES`] queues, the first by name. The script writes only if the minute has no record
//! yet, so it does not matter how many processes do this.
//!
//! What may surprise. A queue is counted from the first record on: what was before stays unknown.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::{Broker, ServerInfo};
use crate::error::Error;
use crate::job::QueueName;

/// Maximum queues that are recorded, the first by name.
const MAX_QUEUES: usize = 1000;

/// How long after the beginning of a minute it is recorded: the clocks of Redis and this host may
/// differ a little.
const MARGIN: Duration = Duration::from_secs(1);

/// Records each minute until this is dropped. A minute in which the store is away has no record.
pub(crate) async fn record_minutes(broker: Arc<dyn Broker>) {
    loop {
        if let Err(error) = record_minute(&*broker).await {
            crate::log::debug!("the counters of this minute are not recorded: {error:?}");
        }
        let into = broker.now().as_secs().rem_euclid(60).unsigned_abs();
        tokio::time::sleep(Duration::from_secs(60 - into) + MARGIN).await;
    }
}

/// Records the counters of this minute.
async fn record_minute(broker: &dyn Broker) -> Result<(), Error> {
    let (queues, more) = broker.queues_after(None, MAX_QUEUES).await?;
    if more {
        crate::log::debug!("only the first {MAX_QUEUES} queues are counted by minute");
    }
    let servers = broker.serving().await?.servers;
    for queue in queues.iter().filter(|queue| !is_recorded(&servers, queue)) {
        // A damaged queue must not keep the others from being recorded.
        if let Err(error) = broker.record_minute(queue).await {
            crate::log::debug!(%queue, "the counters are not recorded: {error:?}");
        }
    }
    Ok(())
}

/// Whether the janitor of a worker records this queue.
fn is_recorded(servers: &[ServerInfo], queue: &QueueName) -> bool {
    servers.iter().any(|server| server.knows_limits() && server.queues.contains_key(queue))
}
