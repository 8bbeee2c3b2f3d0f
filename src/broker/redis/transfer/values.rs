//! The plain values of all queues, for an export: unique locks, idempotency keys, claims of
//! ticks, counters of days.
//!
//! No list has them, so the keys of each server are scanned, once for all its queues: a scan for
//! each queue would take a server with a thousand queues a thousand times as long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::scripts::SCRIPTS;
use super::super::{MAX_DURATION, RedisBroker, keys, reply};
use super::export::RedisExport;
use super::{TIMED, Value, bytes_of, text_of, words};
use crate::broker::{Broker, Entry};
use crate::error::Error;
use crate::job::{JobId, QueueName, periodic_id};
use crate::pool::Repeat;
use crate::time::Timestamp;

/// Keys that one call of the scan looks at, and so the most of them in memory at a time.
const KEYS_PER_SCAN: u32 = 1000;

/// How the names of the keys begin, behind the prefix of their queue.
const LOCK: &str = "unique:";
const REQUEST: &str = "x:idem:";
const CLAIM: &str = "x:cron:";
const DAY: &str = "processed:";

/// A server that is searched for the values of its queues.
pub(super) struct Search {
    /// Its name on a Cluster.
    server: Option<String>,
    queues: BTreeSet<QueueName>,
    cursor: Vec<u8>,
}

impl RedisBroker {
    /// One search for each server that has some of these queues.
    pub(super) fn searches(&self, queues: &[QueueName]) -> Vec<Search> {
        let mut servers: BTreeMap<Option<String>, BTreeSet<QueueName>> = BTreeMap::new();
        for queue in queues {
            servers.entry(self.server_of(queue)).or_default().insert(queue.clone());
        }
        let begin = |(server, queues)| Search { server, queues, cursor: b"0".to_vec() };
        servers.into_iter().map(begin).collect()
    }

    fn server_of(&self, queue: &QueueName) -> Option<String> {
        self.pool.server_of(keys::pending(queue).as_bytes())
    }
}

impl RedisExport {
    /// The entries of the next page of a server's keys, and the search for the rest.
    pub(super) async fn search(
        &mut self,
        search: Search,
    ) -> Result<(Vec<Entry>, Option<Search>), Error> {
        // Any of its queues names the server.
        let Some(one) = search.queues.first() else { return Ok((Vec::new(), None)) };
        let mut found = self
            .broker
            .ask(&SCRIPTS.list_keys, one, Repeat::Safe, |_, call| {
                call.arg(search.cursor.as_slice()).arg(KEYS_PER_SCAN)
            })
            .await?;
        let cursor = found.bytes()?;
        let mut names = Vec::new();
        while !found.is_empty() {
            // Keys that are not text are none of these.
            if let Ok(key) = String::from_utf8(found.bytes()?) {
                names.extend(names_of(&key, &search.queues));
            }
        }
        names.sort();
        let mut page = Vec::new();
        if self.broker.pool.is_cluster() {
            // The keys of a call lie in one slot.
            for of_queue in names.chunk_by(|(queue, _), (next, _)| queue == next) {
                page.extend(self.read_values(of_queue).await?);
            }
        } else {
            page.extend(self.read_values(&names).await?);
        }
        if cursor != b"0" {
            return Ok((page, Some(Search { cursor, ..search })));
        }
        if search.queues.iter().any(|queue| self.broker.server_of(queue) != search.server) {
            return Err(Error::unavailable(
                "queues were moved between the servers of the Cluster meanwhile: make the export \
                 again",
            ));
        }
        Ok((page, None))
    }

    /// The entries of these keys.
    async fn read_values(&mut self, names: &[(QueueName, String)]) -> Result<Vec<Entry>, Error> {
        let reads = names.iter().flat_map(|(queue, name)| {
            let key = [keys::prefix(queue).as_bytes(), name.as_bytes()].concat();
            let failed = name.strip_prefix(DAY).map(|day| keys::failed_on(queue, day));
            let failed = failed.map(|key| words([b"GET", key.as_bytes()]));
            [words([b"GET", &key]), words([b"PTTL", &key])].into_iter().chain(failed)
        });
        let reads: Vec<_> = reads.collect();
        let mut found = self.broker.reads(&reads).await?.into_iter();
        let mut next = || found.next().ok_or_else(reply::unexpected);
        let mut page = Vec::new();
        for (queue, name) in names {
            let (value, left) = (bytes_of(next()?), next()?);
            let failed = if name.starts_with(DAY) { next()? } else { Value::Nil };
            let Value::Int(left) = left else { return Err(reply::unexpected()) };
            // It may be gone by now.
            let Some(value) = value else { continue };
            page.extend(self.value(queue, name, value, text_of(failed), left).await?);
        }
        Ok(page)
    }

    /// The entries of one key. `failed` is the counter that belongs to it, `left` its time in
    /// milliseconds.
    async fn value(
        &mut self,
        queue: &QueueName,
        name: &str,
        value: Vec<u8>,
        failed: Option<String>,
        left: i64,
    ) -> Result<Vec<Entry>, Error> {
        let (queue, until) = (queue.clone(), self.until(left));
        if let Some(lock) = name.strip_prefix(LOCK) {
            let timed = value.starts_with(TIMED);
            let holder = JobId::stored(value.strip_prefix(TIMED).unwrap_or(&value));
            let name = lock.to_owned();
            return Ok(vec![Entry::Lock { queue, name, holder, until, timed }]);
        }
        if let Some(key) = name.strip_prefix(REQUEST) {
            let separator = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
            let (body, job) = value.split_at(separator);
            let request = Entry::Request {
                queue,
                key: key.to_owned(),
                body: String::from_utf8_lossy(body).into_owned(),
                job: JobId::stored(job.get(1..).unwrap_or_default()),
                until,
            };
            let bound = self.queue_of_key(key).await?;
            return Ok([request].into_iter().chain(bound).collect());
        }
        let text = String::from_utf8_lossy(&value);
        let entry = if let Some(periodic) = name.strip_prefix(CLAIM) {
            self.note_periodic(&queue, periodic);
            claim(queue, periodic, &text, until)
        } else if let Some(day) = name.strip_prefix(DAY) {
            day_entry(queue, day, &text, failed)
        } else {
            None
        };
        Ok(entry.into_iter().collect())
    }

    /// The history of this periodic job is read at the end.
    fn note_periodic(&mut self, queue: &QueueName, name: &str) {
        let id = periodic_id(name);
        // A claim has the bare name, the history the namespace of the queue.
        if let Some((namespace, _)) = queue.as_str().split_once(':') {
            self.periodic.insert(format!("{namespace}:{id}"));
        }
        self.periodic.insert(id);
    }

    /// The queue to which requests with an idempotency key go, if that is stored.
    async fn queue_of_key(&self, key: &str) -> Result<Option<Entry>, Error> {
        let name = keys::queue_of_key(key);
        let reads = [b"GET", b"PTTL" as &[u8]].map(|read| words([read, name.as_bytes()]));
        let mut found = self.broker.reads(&reads).await?.into_iter();
        let Some(queue) = found.next().and_then(text_of) else { return Ok(None) };
        let Some(Value::Int(left)) = found.next() else { return Err(reply::unexpected()) };
        let (key, queue) = (key.to_owned(), QueueName::stored(&queue));
        Ok(Some(Entry::KeyQueue { key, queue, until: self.until(left) }))
    }

    /// When a key expires that has this many milliseconds left; a key that never does has a
    /// century.
    fn until(&self, left: i64) -> Timestamp {
        let left = u64::try_from(left).map_or(MAX_DURATION, Duration::from_millis);
        self.broker.now() + left
    }
}

/// The queues whose key this is, with its name behind the queue's prefix: none if it is not
/// moved, more than one if the name of a queue has a brace.
fn names_of(key: &str, queues: &BTreeSet<QueueName>) -> Vec<(QueueName, String)> {
    let rest = key.strip_prefix("asynq:{").unwrap_or_default();
    let owner = |(at, brace): (usize, &str)| {
        let name = &rest[at + brace.len()..];
        let is_moved = [LOCK, REQUEST, CLAIM, DAY].iter().any(|begin| name.starts_with(begin));
        let queue = is_moved.then(|| queues.get(&QueueName::stored(&rest[..at])))??;
        Some((queue.clone(), name.to_owned()))
    };
    rest.match_indices("}:").filter_map(owner).collect()
}

/// How far the ticks of a periodic job are claimed: `up to:last run` in microseconds.
fn claim(queue: QueueName, name: &str, text: &str, until: Timestamp) -> Option<Entry> {
    let (up_to, last) = text.split_once(':')?;
    let up_to = up_to.parse().map(Timestamp::from_micros).ok()?;
    let last_run = last.parse().ok().map(Timestamp::from_micros);
    Some(Entry::Claim { queue, name: name.to_owned(), up_to, last_run, until: Some(until) })
}

/// The counters of a day such as `2026-11-30`.
fn day_entry(
    queue: QueueName,
    day: &str,
    processed: &str,
    failed: Option<String>,
) -> Option<Entry> {
    let midnight = Timestamp::parse(&format!("{day}T00:00:00Z"))?;
    let processed = processed.parse().unwrap_or(0);
    let failed = failed.and_then(|text| text.parse().ok()).unwrap_or(0);
    Some(Entry::Day { queue, day: midnight.as_secs().div_euclid(86_400), processed, failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_queues_whose_prefix_it_has() {
        let queues: BTreeSet<_> =
            ["a", "a}:unique:b", "shop:mail"].map(QueueName::stored).into_iter().collect();
        let names = |key: &str| -> Vec<String> {
            let all = names_of(key, &queues).into_iter();
            all.map(|(queue, name)| format!("{queue} {name}")).collect()
        };
        assert_eq!(names("asynq:{a}:unique:x"), ["a unique:x"]);
        assert_eq!(names("asynq:{shop:mail}:x:idem:k}:k"), ["shop:mail x:idem:k}:k"]);
        assert_eq!(
            names("asynq:{a}:unique:b}:unique:x"),
            ["a unique:b}:unique:x", "a}:unique:b unique:x"]
        );
        for other in ["asynq:{b}:unique:x", "asynq:{a}:paused", "asynq:{a}:failed:2026-11-30", ""] {
            assert_eq!(names(other), [""; 0], "{other}");
        }
    }
}
