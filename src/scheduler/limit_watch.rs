//! Warns if a process that does not know limits serves a queue that has some: a Go worker, or an
//! older version of this crate. It runs what is pending there without counting.
//!
//! Every [`INTERVAL`] it asks for the limits of the queues of this process, one command for each,
//! and only if there are any for the announced processes. A warning comes once for each queue and
//! process.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Round, Service};
use crate::broker::{Broker, ServerInfo};
use crate::error::Error;
use crate::job::QueueName;
use crate::sync::lock;

/// An operator who starts a worker should hear of it soon; a queue should not be asked often.
const INTERVAL: Duration = Duration::from_secs(60);

/// The service that warns.
pub(crate) struct LimitWatch {
    broker: Arc<dyn Broker>,
    queues: Vec<QueueName>,
    /// What was warned of: the queue, and the id of the process.
    warned: Mutex<HashSet<(QueueName, String)>>,
}

impl LimitWatch {
    pub(crate) fn new(broker: Arc<dyn Broker>, queues: Vec<QueueName>) -> Self {
        Self { broker, queues, warned: Mutex::default() }
    }

    /// Warns of those that serve this queue.
    fn warn(&self, queue: &QueueName, servers: &[ServerInfo]) {
        let mut warned = lock(&self.warned);
        for server in servers.iter().filter(|server| ignores_limits(server, queue)) {
            if warned.insert((queue.clone(), server.server_id.clone())) {
                crate::log::warn!(
                    %queue, host = %server.host, pid = server.pid,
                    "a worker that does not know limits serves a queue with limits: it runs \
                     pending jobs without counting them. It is a Go worker, or an older version \
                     of this crate"
                );
            }
        }
        warned.retain(|(of, id)| of != queue || servers.iter().any(|one| one.server_id == *id));
    }
}

/// Whether a process dequeues from this queue and counts no job for its limits.
fn ignores_limits(server: &ServerInfo, queue: &QueueName) -> bool {
    server.queues.get(queue).is_some_and(|weight| *weight > 0) && !server.knows_limits()
}

impl Service for LimitWatch {
    const NAME: &'static str = "looking for workers that do not know limits";

    async fn tick(&self) -> Result<Duration, Error> {
        let (mut round, mut limited) = (Round::default(), Vec::new());
        for queue in &self.queues {
            let limits = round.add(self.broker.limits(queue).await);
            if limits.is_some_and(|limits| !limits.is_empty()) {
                limited.push(queue);
            }
        }
        if !limited.is_empty() {
            let servers = self.broker.serving().await?.servers;
            limited.into_iter().for_each(|queue| self.warn(queue, &servers));
        }
        round.end(INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::memory::MemoryBroker;
    use crate::broker::{Announcement, Limits, WorkerDetails};
    use crate::job::Limit;
    use crate::time::{Clock, Timestamp};

    fn worker(server_id: &str, queue: &QueueName) -> Announcement {
        Announcement {
            host: "host".to_owned(),
            pid: 1,
            server_id: server_id.to_owned(),
            concurrency: 1,
            queues: [(queue.clone(), 1)].into(),
            strict_priority: false,
            status: "active",
            started: Timestamp::from_secs(0),
            running: Vec::new(),
            details: WorkerDetails::default(),
        }
    }

    #[tokio::test]
    async fn a_worker_that_does_not_know_limits_is_warned_of_once_while_it_serves() {
        let clock = Clock::manual(Timestamp::from_secs(1000));
        let store = Arc::new(MemoryBroker::new(clock.clone()));
        let queue = QueueName::new("mail").unwrap();
        let (ours, go) = (crate::chance::server_id(), "7ab2f53c-0d20-4f22-b1b6-a12ac5a0bb4e");
        let watch = LimitWatch::new(store.clone(), vec![queue.clone()]);
        let look = async || {
            for id in [&*ours, go] {
                store.announce(&worker(id, &queue)).await.unwrap();
            }
            watch.tick().await.unwrap();
            lock(&watch.warned).clone()
        };
        assert!(look().await.is_empty(), "there is no limit");
        store.set_limit(&queue, &Limit::new("smtp").concurrency(1)).await.unwrap();
        let expected = HashSet::from([(queue.clone(), go.to_owned())]);
        assert_eq!(look().await, expected);
        assert_eq!(look().await, expected);

        clock.advance(Duration::from_secs(60));
        store.announce(&worker(&ours, &queue)).await.unwrap();
        watch.tick().await.unwrap();
        assert!(lock(&watch.warned).is_empty(), "it is gone");
    }
}
