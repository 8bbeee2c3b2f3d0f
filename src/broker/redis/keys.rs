//! The names of Asynq's keys, and of our own beside them. Every key of a queue
//! carries its hash tag, hence lies in one Cluster slot.

use md5::{Digest, Md5};

use crate::broker::Announcement;
use crate::job::{JobId, QueueName};

/// Names of all queues, a set.
pub const QUEUES: &str = "asynq:queues";
/// Keys of all worker processes, scored by the second they expire.
pub const SERVERS: &str = "asynq:servers";
/// Keys of what they run, scored alike.
pub const WORKERS: &str = "asynq:workers";
/// Keys of all processes with periodic entries, scored alike.
pub const SCHEDULERS: &str = "asynq:schedulers";
/// Ours: the channel that tells of jobs due earlier than any was before.
pub const WAKE: &str = "asynq:x:wake";

/// Ours: the version of the data's format.
pub const FORMAT: &str = "asynq:x:format";

/// Ours: how many suspects a process runs, while it runs any.
pub fn suspects(process: u64) -> String {
    format!("asynq:x:suspects:{process:x}")
}

/// The channel of ids that somebody wants cancelled.
pub const CANCEL: &str = "asynq:cancel";

/// What every key of the queue begins with.
pub fn prefix(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:", queue.as_str())
}

/// The list of pending jobs; the tail is the next one.
pub fn pending(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:pending", queue.as_str())
}

/// Exists while the queue is paused.
pub fn paused(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:paused", queue.as_str())
}

/// One job's hash.
pub fn task(queue: &QueueName, id: &JobId) -> Vec<u8> {
    [prefix(queue).as_bytes(), b"t:", id.as_bytes()].concat()
}

/// The sets that are being aggregated, by the second their time is over.
pub fn aggregation_sets(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:aggregation_sets", queue.as_str())
}

/// One of them: jobs taken out of their group.
pub fn aggregation_set(queue: &QueueName, group: &str, id: &str) -> String {
    format!("asynq:{{{}}}:g:{group}:{id}", queue.as_str())
}

/// Ours: what an idempotency key stands for.
pub fn idempotency(queue: &QueueName, key: &str) -> String {
    format!("asynq:{{{}}}:x:idem:{key}", queue.as_str())
}

/// Ours: the queue to which requests with an idempotency key go.
pub fn queue_of_key(key: &str) -> String {
    format!("asynq:x:idem:{key}")
}

/// Ours: exists while one of the processes has its turn at repairing the queue.
pub fn repair_turn(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:x:reconciling", queue.as_str())
}

/// Ours: how far the repair of the queue has come.
pub fn repair_cursor(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:x:reconciled", queue.as_str())
}

/// Ours: written so that replicas can be waited for, and soon gone.
pub fn witness(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:x:witness", queue.as_str())
}

/// The unique lock of a job: no payload and an empty one are different here.
pub fn unique(queue: &QueueName, job_type: &str, payload: Option<&[u8]>) -> String {
    let mut key = format!("asynq:{{{}}}:unique:{job_type}:", queue.as_str());
    if let Some(payload) = payload {
        for byte in Md5::digest(payload) {
            key.push_str(&format!("{byte:02x}"));
        }
    }
    key
}

/// A worker process's own key.
pub fn server(who: &Announcement) -> String {
    format!("asynq:servers:{{{}:{}:{}}}", who.host, who.pid, who.server_id)
}

/// The key of what it runs, in the same slot.
pub fn workers(who: &Announcement) -> String {
    format!("asynq:workers:{{{}:{}:{}}}", who.host, who.pid, who.server_id)
}

/// The key of a process's periodic entries.
pub fn scheduler(id: &str) -> String {
    format!("asynq:schedulers:{{{id}}}")
}

/// The process whose key this is.
pub fn scheduler_of(key: &str) -> &str {
    let id = key.strip_prefix("asynq:schedulers:{").and_then(|rest| rest.strip_suffix('}'));
    id.unwrap_or(key)
}

/// The runs of a periodic entry.
pub fn scheduler_history(entry_id: &str) -> String {
    format!("asynq:scheduler_history:{entry_id}")
}
