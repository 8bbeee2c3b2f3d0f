//! Wakes the forwarder if a job may be due earlier than it knew.
//!
//! The forwarder sleeps until the next due time it has seen. A job that is
//! scheduled for an earlier time must wake it: jobs enqueued by this process call
//! [`Wake::due_at`], jobs of other processes of this crate arrive by the channel
//! `asynq:x:wake`, on which the enqueue script publishes the queue's name. Go
//! processes publish nothing; their jobs are due at whole seconds, and the
//! forwarder checks for them once each second.
//!
//! What may surprise. The subscription starts with the first call of
//! [`Wake::changed`] and ends with the store. A message that was missed while the
//! connection was down costs at most that one second.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::keys;
use crate::job::QueueName;
use crate::pool::RedisPool;
use crate::sync::lock;
use crate::time::Timestamp;

/// Queues with an earlier due time than known, until the forwarder asks. As a set,
/// so that several reports of one queue wake it once.
#[derive(Default)]
struct DueChanges {
    /// The queues.
    queues: Mutex<HashSet<QueueName>>,
    /// Notified when a queue is added.
    changed: Notify,
}

impl DueChanges {
    /// Adds a queue and wakes the forwarder.
    fn note(&self, queue: QueueName) {
        lock(&self.queues).insert(queue);
        self.changed.notify_one();
    }
}

/// Wakes the forwarder for jobs that are due earlier than it knew.
#[derive(Default)]
pub(super) struct Wake {
    /// Shared with the subscription's task.
    changes: Arc<DueChanges>,
    /// The next due time of each queue, as forwarding found it.
    next: Mutex<HashMap<QueueName, Option<Timestamp>>>,
    /// The subscription to other processes' reports.
    subscription: Mutex<Option<Subscription>>,
}

impl Wake {
    /// Reports a job of the queue that is due at `due`.
    pub(super) fn due_at(&self, queue: &QueueName, due: Timestamp) {
        let mut next = lock(&self.next);
        let known = next.entry(queue.clone()).or_default();
        if known.is_none_or(|known| due < known) {
            *known = Some(due);
            self.changes.note(queue.clone());
        }
    }

    /// Sets the next due time that forwarding found.
    pub(super) fn next_is(&self, queue: &QueueName, due: Option<Timestamp>) {
        lock(&self.next).insert(queue.clone(), due);
    }

    /// Whether a job of the queue is known to be due.
    pub(super) fn is_due(&self, queue: &QueueName, now: Timestamp) -> bool {
        let next = lock(&self.next);
        next.get(queue).is_some_and(|next| next.is_some_and(|due| due <= now))
    }

    /// Returns with the queues of the next report. A report made before the call is not
    /// missed.
    pub(super) async fn changed(&self, pool: &Arc<RedisPool>) -> Vec<QueueName> {
        self.subscribe(pool);
        loop {
            self.changes.changed.notified().await;
            let mut queues = lock(&self.changes.queues);
            if !queues.is_empty() {
                return queues.drain().collect();
            }
        }
    }

    /// Starts listening to other processes, unless that is running. A task that ended with its
    /// runtime is replaced.
    fn subscribe(&self, pool: &Arc<RedisPool>) {
        let mut subscription = lock(&self.subscription);
        if subscription.as_ref().is_some_and(|running| !running.task.is_finished()) {
            return;
        }
        let (pool, changes, stop) =
            (Arc::clone(pool), Arc::clone(&self.changes), CancellationToken::new());
        let until = stop.clone();
        let task = tokio::spawn(async move {
            let on_message = Arc::new(move |_: String, name: Vec<u8>| {
                // Anything that is not UTF-8 names no queue.
                if let Some(queue) = str::from_utf8(&name).ok().map(QueueName::stored) {
                    changes.note(queue);
                }
            });
            pool.subscribe(vec![keys::WAKE.to_owned()], on_message, until).await;
        });
        *subscription = Some(Subscription { stop, task });
    }
}

/// Ends the listening task when the store is dropped.
struct Subscription {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}
