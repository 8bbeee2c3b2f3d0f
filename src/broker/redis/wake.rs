//! Word that a job may have become due earlier than was known: from this
//! process, and from others through a channel of our own.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::keys;
use crate::job::QueueName;
use crate::pool::RedisPool;
use crate::time::Timestamp;

/// The queues of which there was word, until somebody asks.
#[derive(Default)]
struct Heard {
    queues: Mutex<HashSet<QueueName>>,
    changed: Notify,
}

impl Heard {
    fn note(&self, queue: QueueName) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).insert(queue);
        self.changed.notify_one();
    }
}

#[derive(Default)]
pub(super) struct Wake {
    heard: Arc<Heard>,
    /// The next due time of each queue that was forwarded here.
    next: Mutex<HashMap<QueueName, Option<Timestamp>>>,
    subscription: Mutex<Option<Subscription>>,
}

impl Wake {
    /// A job of the queue is due then.
    pub fn due_at(&self, queue: &QueueName, due: Timestamp) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let known = next.entry(queue.clone()).or_default();
        if known.is_none_or(|known| due < known) {
            *known = Some(due);
            self.heard.note(queue.clone());
        }
    }

    /// What forwarding found; nothing earlier is known now.
    pub fn next_is(&self, queue: &QueueName, due: Option<Timestamp>) {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).insert(queue.clone(), due);
    }

    /// Whether a job of the queue is due, as far as is known.
    pub fn is_due(&self, queue: &QueueName, now: Timestamp) -> bool {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.get(queue).is_some_and(|next| next.is_some_and(|due| due <= now))
    }

    /// Returns at the next word, with the queues that it is about; what came before is
    /// not missed.
    pub async fn changed(&self, pool: &Arc<RedisPool>) -> Vec<QueueName> {
        self.subscribe(pool);
        loop {
            self.heard.changed.notified().await;
            let mut queues = self.heard.queues.lock().unwrap_or_else(PoisonError::into_inner);
            if !queues.is_empty() {
                return queues.drain().collect();
            }
        }
    }

    fn subscribe(&self, pool: &Arc<RedisPool>) {
        let mut subscription = self.subscription.lock().unwrap_or_else(PoisonError::into_inner);
        if subscription.as_ref().is_some_and(|running| !running.task.is_finished()) {
            return;
        }
        let (pool, heard, stop) =
            (Arc::clone(pool), Arc::clone(&self.heard), CancellationToken::new());
        let until = stop.clone();
        let task = tokio::spawn(async move {
            let on_message = Arc::new(move |_: String, name: Vec<u8>| {
                // Whatever else anybody publishes there names no queue of ours.
                if let Some(queue) = str::from_utf8(&name).ok().map(QueueName::stored) {
                    heard.note(queue);
                }
            });
            pool.subscribe(vec![keys::WAKE.to_owned()], on_message, until).await;
        });
        *subscription = Some(Subscription { stop, task });
    }
}

/// Ends the listening task when the store goes.
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
