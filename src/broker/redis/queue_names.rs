//! The names of queues: makes ours known to Asynq's tools, and reads those of all.
//!
//! Asynq lists queues in the set `asynq:queues`. A name is written beside the first enqueue
//! of each minute and queue, and with each heartbeat, since an emptied or restored server
//! may lack it. The write may fail without failing the job: the next job tries again, and a
//! refusal is logged once.
//!
//! On a Cluster the set lives on one node, which may hang while the queue's own node
//! serves. There the write runs in a task of its own, and a job waits for it only if the
//! name is new, for at most [`PUBLISH_TIMEOUT`].
//!
//! The set has no order, so a page of queues needs all names. With thousands of names that
//! takes many calls, and viewers share what one of them has read.

use std::collections::{BTreeSet, HashMap};
use std::iter;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ::redis::Value;

use super::reply::Reply;
use super::{RedisBroker, keys};
use crate::error::Error;
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

/// Names read per `SSCAN`, which takes Redis a twentieth of a millisecond.
const NAMES_PER_SCAN: &str = "500";

/// How long viewers share the names that took more than one call to read: a multiple of the
/// time that this took, within these bounds. Jobs start later while names are read: when viewers read
/// 100,000 of them for a tenth of the time, the p99 of all starts was a quarter higher.
const LIFETIME_PER_READ: u32 = 300;
const LIFETIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The names in `asynq:queues`, in order.
#[derive(Debug, Default)]
pub(super) struct QueueNames {
    pub(super) names: Vec<QueueName>,
    /// Names that are not UTF-8.
    pub(super) others: Vec<Vec<u8>>,
}

impl QueueNames {
    /// At most this many names, the first ones after a name, and whether there are more.
    pub(super) fn after(&self, after: Option<&QueueName>, most: usize) -> (Vec<QueueName>, bool) {
        let begin = after.map_or(0, |after| self.names.partition_point(|name| name <= after));
        let rest = &self.names[begin..];
        (rest[..rest.len().min(most)].to_vec(), rest.len() > most)
    }
}

/// The names that viewers share.
#[derive(Default)]
pub(super) struct KnownNames(tokio::sync::Mutex<Option<KeptNames>>);

struct KeptNames {
    names: Arc<QueueNames>,
    /// The number of changes by this process before they were read.
    changes: u64,
    until: Instant,
}

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
            Ok(added) => {
                if added != Value::Int(0) {
                    self.name_changes.fetch_add(1, Ordering::Relaxed);
                }
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
        self.name_changes.fetch_add(1, Ordering::Relaxed);
    }

    /// The names of all queues. If they are many, viewers share what was read a moment ago,
    /// unless this process has added or removed a name since.
    pub(super) async fn names(&self) -> Result<Arc<QueueNames>, Error> {
        let Some(known) = &self.known_names else {
            return Ok(Arc::new(self.read_names().await?.0));
        };
        // Held meanwhile, so that all who want the names read them once.
        let mut known = known.0.lock().await;
        let changes = self.name_changes.load(Ordering::Relaxed);
        if let Some(kept) = &*known
            && kept.changes == changes
            && Instant::now() < kept.until
        {
            return Ok(Arc::clone(&kept.names));
        }
        let began = Instant::now();
        let (names, calls) = self.read_names().await?;
        let (names, took) = (Arc::new(names), began.elapsed());
        let lifetime = took.saturating_mul(LIFETIME_PER_READ).clamp(LIFETIMES.0, LIFETIMES.1);
        let kept =
            || KeptNames { names: Arc::clone(&names), changes, until: began + took + lifetime };
        *known = (calls > 1).then(kept);
        Ok(names)
    }

    /// Reads the names; also the number of calls.
    async fn read_names(&self) -> Result<(QueueNames, u32), Error> {
        let mut found = QueueNames::default();
        let (mut cursor, mut calls): (Vec<u8>, u32) = (b"0".into(), 0);
        loop {
            let args = [keys::QUEUES.into(), cursor, b"COUNT".into(), NAMES_PER_SCAN.into()];
            let mut page = match self.command(Repeat::Safe, "SSCAN", &args).await {
                Ok(page) => Reply::new(page)?,
                Err(error) if error.is_damaged() => {
                    let names = self.queues_in_use().await?;
                    return Ok((QueueNames { names, others: Vec::new() }, 1));
                }
                Err(error) => return Err(error),
            };
            calls += 1;
            cursor = page.bytes()?;
            let mut some = page.array()?;
            while !some.is_empty() {
                match String::from_utf8(some.bytes()?) {
                    // No queue has this name, so nothing could be done to it.
                    Ok(name) if name.is_empty() => found.others.push(Vec::new()),
                    Ok(name) => found.names.push(QueueName::stored(&name)),
                    Err(error) => found.others.push(error.into_bytes()),
                }
            }
            if cursor == b"0" {
                // A set that changes may return a name twice.
                found.names.sort_unstable();
                found.names.dedup();
                found.others.sort_unstable();
                found.others.dedup();
                return Ok((found, calls));
            }
        }
    }

    /// The queues that this process enqueued to and that workers announce: a substitute for
    /// a damaged set of names.
    async fn queues_in_use(&self) -> Result<Vec<QueueName>, Error> {
        let mut names: BTreeSet<_> = lock(&self.published).keys().cloned().collect();
        for server in self.all_servers().await?.servers {
            names.extend(server.queues.into_keys());
        }
        Ok(names.into_iter().collect())
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
