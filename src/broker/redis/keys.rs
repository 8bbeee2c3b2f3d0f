//! The names of Asynq's keys, and of our own beside them.
//!
//! Every key of a queue carries the queue's name in braces, the hash tag of Redis
//! Cluster. So all data of a queue is in one slot, and one script may touch all of
//! it. Keys that several queues share (`asynq:queues` and the registries) have no
//! tag and may lie on another node; no script touches them together with a queue.
//!
//! The names are part of the protocol: Go processes read and write the same keys,
//! so none may change. Our own keys begin with `asynq:{<queue>}:x:` or `asynq:x:`,
//! which no release of Asynq uses. `docs/redis-data.md` lists all keys and fields.
//!
//! What may surprise. Names of Redis keys stay as they were first released, even if
//! the code uses another term today: the turn of the background repair is called
//! `reconciling`.

use crate::broker::{Announcement, WorkerName};
use crate::job::{JobId, QueueName, lock_name};

/// A set: the names of all queues.
pub const QUEUES: &str = "asynq:queues";
/// A sorted set: the keys of all worker processes, by the second they expire.
pub const SERVERS: &str = "asynq:servers";
/// A sorted set: the keys of their jobs in flight, by the second they expire.
pub const WORKERS: &str = "asynq:workers";
/// A sorted set: the keys of all processes with periodic jobs, by the second they expire.
pub const SCHEDULERS: &str = "asynq:schedulers";
/// Ours: the channel of queues with an earlier due time than before. A message is a queue's
/// name.
pub const WAKE: &str = "asynq:x:wake";

/// Ours: the version of the data's format.
pub const FORMAT: &str = "asynq:x:format";

/// Ours: what operators did, the newest first; each namespace has its own.
pub fn audit(namespace: &str) -> String {
    match namespace {
        "" => "asynq:x:audit".to_owned(),
        _ => format!("asynq:x:audit:{namespace}"),
    }
}

/// Ours: how many suspects a process runs; missing if none.
pub fn suspects(process: u64) -> String {
    format!("asynq:x:suspects:{process:x}")
}

/// Ours: when each version of the application of a namespace was seen first and last. The hash tag
/// is the same for all statistics of the namespace.
pub fn type_versions(scope: &str) -> String {
    format!("asynq:x:{{{}}}:versions", types_tag(scope))
}

/// Ours: what was counted of job types in the slice of this letter that begins at this second; `s`
/// for the slowest attempts of a day.
pub fn type_slice(scope: &str, letter: char, at: i64) -> String {
    format!("asynq:x:{{{}}}:{letter}:{at}", types_tag(scope))
}

/// No namespace has a colon.
fn types_tag(scope: &str) -> String {
    if scope.is_empty() { "types".to_owned() } else { format!("{scope}:types") }
}

/// Ours: what a worker process tells besides. The rest of the key is that of [`server`].
pub const WORKER: &str = "asynq:x:worker:";

/// Ours: what operators ask of a worker process. The rest of the key is that of [`server`].
pub const ASKED: &str = "asynq:x:asked:";

/// The channel of cancel requests: job ids.
pub const CANCEL: &str = "asynq:cancel";

/// The prefix of every key of the queue.
pub fn prefix(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:", queue.as_str())
}

/// The list of pending jobs; the next one is at the tail.
pub fn pending(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:pending", queue.as_str())
}

/// Exists while the queue is paused.
pub fn paused(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:paused", queue.as_str())
}

/// One job's hash. Bytes, because an id need not be UTF-8.
pub fn task(queue: &QueueName, id: &JobId) -> Vec<u8> {
    [prefix(queue).as_bytes(), b"t:", id.as_bytes()].concat()
}

/// A set: the names of the queue's groups.
pub fn groups(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:groups", queue.as_str())
}

/// A sorted set: the keys of aggregation sets, by the second they expire.
pub fn aggregation_sets(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:aggregation_sets", queue.as_str())
}

/// One aggregation set: jobs claimed from their group.
pub fn aggregation_set(queue: &QueueName, group: &str, id: &str) -> String {
    format!("asynq:{{{}}}:g:{group}:{id}", queue.as_str())
}

/// Ours: the request that used an idempotency key.
pub fn idempotency(queue: &QueueName, key: &str) -> String {
    format!("asynq:{{{}}}:x:idem:{key}", queue.as_str())
}

/// Ours: the queue of the requests with an idempotency key.
pub fn queue_of_key(key: &str) -> String {
    format!("asynq:x:idem:{key}")
}

/// Ours: a sorted set: jobs that wait for their due time, by its exact microsecond.
pub fn due(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:x:due", queue.as_str())
}

/// Ours: the counters at the beginning of each of the last minutes.
pub fn minutes(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:x:minutes", queue.as_str())
}

/// Ours: the claimed ticks of a periodic job.
pub fn claim(queue: &QueueName, name: &str) -> String {
    format!("asynq:{{{}}}:x:cron:{name}", queue.as_str())
}

/// The attempts of a UTC day, `YYYY-MM-DD`.
pub fn processed_on(queue: &QueueName, day: &str) -> String {
    format!("asynq:{{{}}}:processed:{day}", queue.as_str())
}

/// The failed attempts of a UTC day, `YYYY-MM-DD`.
pub fn failed_on(queue: &QueueName, day: &str) -> String {
    format!("asynq:{{{}}}:failed:{day}", queue.as_str())
}

/// Ours: exists while one process has its turn to repair the queue.
pub fn repair_turn(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:x:reconciling", queue.as_str())
}

/// Ours: the position of the repair of the queue.
pub fn repair_cursor(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:x:reconciled", queue.as_str())
}

/// Ours: written so that `WAIT` has a write to wait for; expires soon.
pub fn witness(queue: &QueueName) -> String {
    format!("asynq:{{{}}}:x:witness", queue.as_str())
}

/// The unique lock of a job: the MD5 of its payload under its type, as Asynq computes it. As in
/// Asynq, a missing payload and an empty one give different locks.
pub fn unique(queue: &QueueName, job_type: &str, payload: Option<&[u8]>) -> String {
    unique_named(queue, &lock_name(job_type, payload))
}

/// The unique lock of this name. A name of another form is a key that another program chose.
pub fn unique_named(queue: &QueueName, name: &str) -> String {
    match name.starts_with(&prefix(queue)) || name.is_empty() {
        true => name.to_owned(),
        false => format!("asynq:{{{}}}:unique:{name}", queue.as_str()),
    }
}

/// The name of the unique lock with this key; the key itself if it has another form.
pub fn unique_name<'a>(queue: &QueueName, key: &'a str) -> &'a str {
    let rest = key.strip_prefix(&prefix(queue));
    rest.and_then(|rest| rest.strip_prefix("unique:")).unwrap_or(key)
}

/// The unique lock of a job with a key of the application's own, by its SHA-256. Twice as long as
/// Asynq's digests, so that the two never meet.
pub fn unique_by_key(queue: &QueueName, job_type: &str, digest: &str) -> String {
    format!("asynq:{{{}}}:unique:{job_type}:{digest}", queue.as_str())
}

/// A worker process's own key.
pub fn server(who: &Announcement) -> String {
    format!("asynq:servers:{{{}:{}:{}}}", who.host, who.pid, who.server_id)
}

/// The key of its jobs in flight, in the same slot.
pub fn workers(who: &Announcement) -> String {
    format!("asynq:workers:{{{}:{}:{}}}", who.host, who.pid, who.server_id)
}

/// Ours: what a worker process tells besides, in the same slot.
pub fn worker(who: &Announcement) -> String {
    format!("{WORKER}{{{}:{}:{}}}", who.host, who.pid, who.server_id)
}

/// Ours: what operators ask of this worker process, in the same slot.
pub fn asked(who: WorkerName<'_>) -> String {
    format!("{ASKED}{{{}:{}:{}}}", who.host, who.pid, who.server_id)
}

/// Ours: what operators ask of all worker processes of a namespace, which ends with a colon.
pub fn asked_of_all(namespace: &str) -> String {
    match namespace.strip_suffix(':') {
        Some(name) => format!("asynq:x:asked:all:{name}"),
        None => "asynq:x:asked:all".to_owned(),
    }
}

/// The key of a process's periodic jobs.
pub fn scheduler(id: &str) -> String {
    format!("asynq:schedulers:{{{id}}}")
}

/// The process whose key this is; the key itself if it has another form.
pub fn scheduler_of(key: &str) -> &str {
    let id = key.strip_prefix("asynq:schedulers:{").and_then(|rest| rest.strip_suffix('}'));
    id.unwrap_or(key)
}

/// The runs of a periodic job.
pub fn scheduler_history(periodic_id: &str) -> String {
    format!("asynq:scheduler_history:{periodic_id}")
}
