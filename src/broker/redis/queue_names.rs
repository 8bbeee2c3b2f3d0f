//! Makes the names of queues known to Asynq's tools.
//!
//! Asynq lists queues in the set `asynq:queues`. A name is written beside the first enqueue
//! of each minute and queue, and with each heartbeat, since an emptied or restored server
//! may lack it. The write may fail without failing the job: the next job tries again, and a
//! refusal is logged once.
//!
//! On a Cluster the set lives on one node, which may hang while the queue's own node
//! serves. There the write runs in a task of its own, and a job waits for it only if the
//! name is new, for at most [`PUBLISH_TIMEOUT`].

use std::collections::HashMap;
use std::iter;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{RedisBroker, keys};
use crate::job::QueueName;
use crate::pool::Repeat;
use crate::sync::lock;

/// Interval after which a queue's name is written again, in case it was removed: by an
/// operator, or by a restore of older data.
const QUEUE_NAME_REFRESH: Duration = Duration::from_secs(60);

/// Maximum queues that are remembered as written. Names may come from requests, so their
/// number has no bound.
const MAX_PUBLISHED_QUEUES: usize = 10_000;

/// How long a job waits on a Cluster for its queue's name to be written to another node.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(250);

impl RedisBroker {
    /// Makes queues known to Asynq's tools, unless that was done just now.
    /// If it fails, the next job of the queue tries again.
    pub(super) async fn publish(&self, queues: impl Iterator<Item = &QueueName>) {
        let fresh = |at: &Instant| at.elapsed() < QUEUE_NAME_REFRESH;
        let new: Vec<&QueueName> = {
            let published = lock(&self.published);
            queues.filter(|queue| !published.get(*queue).is_some_and(fresh)).collect()
        };
        if new.is_empty() {
            return;
        }
        let new: Vec<QueueName> = new.into_iter().cloned().collect();
        if !self.pool.is_cluster() {
            return self.publish_names(&new).await;
        }
        // The node of the names may hang while the queue's own node serves.
        let is_renewal = {
            let (mut published, now) = (lock(&self.published), Instant::now());
            let is_renewal = new.iter().all(|queue| published.contains_key(queue));
            note_published(&mut published, &new, now);
            is_renewal
        };
        let broker = self.clone();
        let publishing = tokio::spawn(async move { broker.publish_names(&new).await });
        if !is_renewal && tokio::time::timeout(PUBLISH_TIMEOUT, publishing).await.is_err() {
            crate::log::debug!("making a queue known takes long");
        }
    }

    /// Writes the names. Those that could not be written are tried again with the next job;
    /// a refusal is logged once.
    async fn publish_names(&self, queues: &[QueueName]) {
        let names = queues.iter().map(QueueName::as_str);
        let args: Vec<_> = iter::once(keys::QUEUES).chain(names).map(Vec::from).collect();
        let error = match self.command(Repeat::Safe, "SADD", &args).await {
            Ok(_) => {
                self.unlisted.store(false, Ordering::Relaxed);
                note_published(&mut lock(&self.published), queues, Instant::now());
                return;
            }
            Err(error) => error,
        };
        if error.is_unavailable() {
            queues.iter().for_each(|queue| self.unpublish(queue));
            crate::log::debug!(?queues, ?error, "could not make queues known");
        } else {
            // The queues stay known as in use, with an old time, so that they are retried.
            queues.iter().for_each(|queue| self.unpublish(queue));
            if let Some(long_ago) = Instant::now().checked_sub(QUEUE_NAME_REFRESH) {
                note_published(&mut lock(&self.published), queues, long_ago);
            }
            if !self.unlisted.swap(true, Ordering::Relaxed) {
                crate::log::warn!(?queues, ?error, "could not make queues known");
            }
        }
    }

    /// Forgets that a name was written, because it was removed: the next job writes it again.
    pub(super) fn unpublish(&self, queue: &QueueName) {
        lock(&self.published).remove(queue);
    }
}

/// Remembers when the names of these queues were written.
fn note_published(published: &mut HashMap<QueueName, Instant>, queues: &[QueueName], at: Instant) {
    if published.len() >= MAX_PUBLISHED_QUEUES {
        published.retain(|_, at| at.elapsed() < QUEUE_NAME_REFRESH);
    }
    if published.len() >= MAX_PUBLISHED_QUEUES {
        // All are written once more, each with its next job.
        published.clear();
    }
    published.extend(queues.iter().map(|queue| (queue.clone(), at)));
}
