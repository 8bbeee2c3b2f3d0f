//! Word that a job may have become due earlier than was known: from this
//! process, and from others through a channel of our own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::keys;
use crate::job::QueueName;
use crate::pool::RedisPool;
use crate::time::Timestamp;

#[derive(Default)]
pub(super) struct Wake {
    changed: Arc<Notify>,
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
            self.changed.notify_one();
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

    /// Returns at the next word; one that came before is not missed.
    pub async fn changed(&self, pool: &Arc<RedisPool>) {
        self.subscribe(pool);
        self.changed.notified().await;
    }

    fn subscribe(&self, pool: &Arc<RedisPool>) {
        let mut subscription = self.subscription.lock().unwrap_or_else(PoisonError::into_inner);
        if subscription.as_ref().is_some_and(|running| !running.task.is_finished()) {
            return;
        }
        let (pool, changed, stop) =
            (Arc::clone(pool), Arc::clone(&self.changed), CancellationToken::new());
        let heard = stop.clone();
        let task = tokio::spawn(async move {
            let on_message = Arc::new(move |_: String, _: Vec<u8>| changed.notify_one());
            pool.subscribe(vec![keys::WAKE.to_owned()], on_message, heard).await;
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
