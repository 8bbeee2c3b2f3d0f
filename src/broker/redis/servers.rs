//! The worker processes, and the servers that hold the data.
//!
//! Worker processes of Go and Rust announce themselves in the registries
//! `asynq:servers` and `asynq:workers`, each with a key that expires within
//! seconds. This module reads both, at most [`MAX_PROCESSES`] processes, some of
//! them concurrently. A record that cannot be decoded is counted as unreadable and
//! hides no other. Nothing is written: heartbeats remove what has expired.
//!
//! The second half reads `INFO` of the Redis server, or of each Cluster master, for
//! the store page of the dashboard. Redis-compatible servers report the Redis
//! version they emulate and their own version in another field, by which they are
//! recognised. Values that a server does not report, or that an ACL hides, are
//! missing rather than guessed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use ::redis::Value;
use futures_util::future::{join, join_all, join3};

use super::reply::{Reply, unexpected};
use super::wire::SHOWN_PAYLOAD_BYTES;
use super::{RedisBroker, keys, wire};
use crate::broker::{
    Broker, ClusterPlace, MAX_PAGE_BYTES, ServerInfo, Servers, StoreInfo, StoreKind, StoreNode,
    WorkerChange,
};
use crate::error::Error;
use crate::job::QueueName;
use crate::pool::Repeat;

/// Maximum processes read.
const MAX_PROCESSES: &str = "1000";

/// Maximum concurrent requests.
pub(super) const CONCURRENT_REQUESTS: usize = 50;

/// Jobs of a process that the first `HSCAN` asks for, and after one with large payloads.
const MIN_SCAN_JOBS: usize = 16;

/// Maximum jobs that one `HSCAN` asks for.
const MAX_SCAN_JOBS: usize = 1024;

/// A page of fewer bytes lets the next one ask for four times as many jobs.
const SMALL_PAGE_BYTES: usize = 64 * 1024;

/// Maximum jobs read of one process.
const MAX_RUNNING_JOBS: usize = 1000;

impl RedisBroker {
    /// The keys in a registry that have not expired. Heartbeats remove the others.
    pub(super) async fn live(&self, registry: &str) -> Result<Vec<Vec<u8>>, Error> {
        let now = self.now().as_secs().to_string();
        let args: Vec<Vec<u8>> = vec![
            registry.into(),
            now.into(),
            b"+inf".into(),
            b"LIMIT".into(),
            b"0".into(),
            MAX_PROCESSES.into(),
        ];
        let mut found = Reply::new(self.command(Repeat::Safe, "ZRANGEBYSCORE", &args).await?)?;
        let mut keys = Vec::new();
        while !found.is_empty() {
            keys.push(found.bytes()?);
        }
        Ok(keys)
    }

    /// All announced worker processes.
    pub(super) async fn all_servers(&self) -> Result<Servers, Error> {
        let mut all = Servers::default();
        let live = match self.live(keys::SERVERS).await {
            Ok(live) => live,
            // The doctor reports the damaged registry.
            Err(error) if error.is_damaged() => {
                all.unreadable += 1;
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let (budget, mut found) = (AtomicUsize::new(MAX_PAGE_BYTES), Vec::new());
        for keys in live.chunks(CONCURRENT_REQUESTS) {
            for answer in join_all(keys.iter().map(|key| self.server(key, &budget))).await {
                match answer {
                    Ok(Announced::Gone) => {}
                    Ok(Announced::Unreadable) => all.unreadable += 1,
                    Ok(Announced::Server { server, asked, unreadable }) => {
                        found.push((*server, asked));
                        all.unreadable += unreadable;
                    }
                    Err(error) if error.is_unavailable() => return Err(error),
                    // A key of another type.
                    Err(_) => all.unreadable += 1,
                }
            }
        }
        all.servers = self.add_changes(found).await?;
        all.sort();
        Ok(all)
    }

    /// Reads one process and its jobs in flight, while all together have not used up this many
    /// bytes. All keys are read at the same time; if one of them has expired in between, the
    /// process is gone, or has no jobs.
    async fn server(&self, key: &[u8], budget: &AtomicUsize) -> Result<Announced, Error> {
        let Some(who) = key.strip_prefix(keys::SERVERS.as_bytes()) else {
            return Ok(Announced::Unreadable);
        };
        let workers = [keys::WORKERS.as_bytes(), who].concat();
        let tag = who.strip_prefix(b":").unwrap_or(who);
        let get = [key.into()];
        let (server, running, details) = join3(
            self.command(Repeat::Safe, "GET", &get),
            self.running(&workers, budget),
            self.details(tag),
        )
        .await;
        let Value::BulkString(server) = server? else { return Ok(Announced::Gone) };
        let Some(mut server) = wire::server(&server) else { return Ok(Announced::Unreadable) };
        let (mut unreadable, mut asked) = (0, Vec::new());
        if let Some((details, requests)) = details? {
            server.details = Some(details);
            asked = requests;
        }
        match running {
            Ok((running, more)) => {
                server.more_running = more;
                for (id, announced) in running {
                    match wire::worker(&id, &announced) {
                        // As in Asynq, jobs announced under another server id are skipped.
                        Some((_, by)) if by.server_id != server.server_id => {}
                        Some((mut job, _)) => {
                            job.payload.truncate(SHOWN_PAYLOAD_BYTES);
                            job.payload.shrink_to_fit();
                            server.running.push(job);
                        }
                        None => unreadable += 1,
                    }
                }
            }
            Err(error) if error.is_unavailable() => return Err(error),
            Err(_) => unreadable += 1,
        }
        Ok(Announced::Server { server: Box::new(server), asked, unreadable })
    }

    /// The announced jobs of a process by id, and how many more there are. Go workers announce
    /// whole payloads, so the hash is read in pages that shrink if payloads are large: one
    /// page must not block Redis. `budget` is the number of bytes that all processes together
    /// may still bring.
    async fn running(
        &self,
        key: &[u8],
        budget: &AtomicUsize,
    ) -> Result<(BTreeMap<Vec<u8>, Vec<u8>>, u64), Error> {
        let (mut running, mut step) = (BTreeMap::new(), MIN_SCAN_JOBS);
        let mut cursor: Vec<u8> = b"0".into();
        loop {
            let scan = [key.into(), cursor, b"COUNT".into(), step.to_string().into()];
            let mut page = Reply::new(self.command(Repeat::Safe, "HSCAN", &scan).await?)?;
            cursor = page.bytes()?;
            let mut bytes = 0;
            let mut pairs = page.rest()?;
            while !pairs.is_empty() {
                let (id, announced) = (pairs.bytes()?, pairs.bytes()?);
                bytes += id.len() + announced.len();
                running.insert(id, announced);
            }
            let spend = |left: usize| Some(left.saturating_sub(bytes));
            let left = budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
            let is_over = left.is_ok_and(|left| left <= bytes) || running.len() >= MAX_RUNNING_JOBS;
            if cursor == b"0" || is_over {
                break;
            }
            step = match bytes < SMALL_PAGE_BYTES {
                true => (step * 4).min(MAX_SCAN_JOBS),
                false => MIN_SCAN_JOBS,
            };
        }
        let all = match cursor == b"0" && running.len() <= MAX_RUNNING_JOBS {
            true => running.len(),
            false => match self.command(Repeat::Safe, "HLEN", &[key.into()]).await? {
                Value::Int(all) => usize::try_from(all).unwrap_or_default(),
                _ => return Err(unexpected()),
            },
        };
        while running.len() > MAX_RUNNING_JOBS {
            running.pop_last();
        }
        let more = all.saturating_sub(running.len()) as u64;
        Ok((running, more))
    }

    /// The slot of a queue and the nodes that have it, the master first; `None` without a
    /// Cluster.
    pub(super) async fn place_of(&self, queue: &QueueName) -> Result<Option<ClusterPlace>, Error> {
        if !self.pool.is_cluster() {
            return Ok(None);
        }
        let slot = [b"KEYSLOT".to_vec(), keys::pending(queue).into()];
        let (slot, ranges) = join(
            self.command(Repeat::Safe, "CLUSTER", &slot),
            self.command(Repeat::Safe, "CLUSTER", &[b"SLOTS".into()]),
        )
        .await;
        let Value::Int(slot) = slot? else { return Err(unexpected()) };
        let mut nodes = Vec::new();
        let mut ranges = Reply::new(ranges?)?;
        while !ranges.is_empty() {
            let mut range = ranges.array()?;
            if !(range.int()?..=range.int()?).contains(&slot) {
                continue;
            }
            while !range.is_empty() {
                let mut node = range.array()?;
                nodes.push(format!("{}:{}", node.text()?, node.int()?));
            }
        }
        Ok(Some(ClusterPlace { slot: u16::try_from(slot).map_err(|_| unexpected())?, nodes }))
    }

    /// Reads `INFO` of each server. A server that refuses it is listed without values, because
    /// an operator wants to see that it is there.
    pub(super) async fn store_info(&self) -> Result<StoreInfo, Error> {
        let nodes = match self.command(Repeat::Safe, "INFO", &[]).await {
            // A Cluster's masters, each with its address.
            Ok(Value::Map(nodes)) => nodes
                .into_iter()
                .map(|(address, text)| StoreNode { address: Some(plain(address)), ..node(text) })
                .collect(),
            Ok(text) => vec![node(text)],
            Err(error) if error.is_unavailable() => return Err(error),
            Err(_) => vec![StoreNode::default()],
        };
        let (description, cluster) = (self.describe(), self.pool.is_cluster());
        Ok(StoreInfo { kind: StoreKind::Redis, description, cluster, nodes })
    }
}

/// How one announcement was read.
enum Announced {
    /// It expired in between.
    Gone,
    /// It is not what Asynq's workers write.
    Unreadable,
    /// One process.
    Server {
        /// What it announces.
        server: Box<ServerInfo>,
        /// What was asked of it alone.
        asked: Vec<WorkerChange>,
        /// How many of its jobs are unreadable.
        unreadable: u64,
    },
}

/// A reply as text, whatever string type Redis chose.
fn plain(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text,
        _ => String::new(),
    }
}

/// The parts of a server's `INFO` that an operator of queues needs.
fn node(info: Value) -> StoreNode {
    let info = plain(info);
    let fields: HashMap<&str, &str> =
        info.lines().filter_map(|line| line.split_once(':')).collect();
    let text = |name| fields.get(name).map(|value| value.trim().to_owned());
    let number = |name| fields.get(name).and_then(|value| value.trim().parse().ok());
    let (server, version) = program(&fields);
    StoreNode {
        address: None,
        server,
        version,
        role: text("role"),
        uptime_seconds: number("uptime_in_seconds"),
        used_memory: number("used_memory"),
        max_memory: number("maxmemory"),
        eviction_policy: text("maxmemory_policy"),
        clients: number("connected_clients"),
        commands_per_second: number("instantaneous_ops_per_sec"),
        evicted_keys: number("evicted_keys"),
        fragmentation: text("mem_fragmentation_ratio").and_then(|ratio| ratio.parse().ok()),
        persistence: persistence(&fields),
        replicas: number("connected_slaves"),
    }
}

/// The version fields of Redis-compatible servers, which also report the Redis version they
/// emulate.
const PROGRAMS: [(&str, &str); 7] = [
    ("valkey_version", "Valkey"),
    ("dragonfly_version", "Dragonfly"),
    ("garnet_version", "Garnet"),
    ("kvrocks_version", "Kvrocks"),
    ("redict_version", "Redict"),
    ("upstash_version", "Upstash"),
    ("redis_version", "Redis"),
];

/// The name and version of the server program, as far as `INFO` says.
fn program(fields: &HashMap<&str, &str>) -> (Option<String>, Option<String>) {
    let told = |field: &str| fields.get(field).map(|version| version.trim().to_owned());
    let known = PROGRAMS.iter().find_map(|(field, name)| Some((*name, told(field)?)));
    let Some((mut name, version)) = known else { return (None, None) };
    // KeyDB has no version field of its own.
    let executable = fields.get("executable").copied().unwrap_or_default();
    if fields.contains_key("mvcc_depth") || executable.contains("keydb") {
        name = "KeyDB";
    }
    (Some(name.to_owned()), Some(version))
}

/// How the data survives a restart, as far as `INFO` says: the append-only file, and the
/// changes since the last snapshot.
fn persistence(fields: &HashMap<&str, &str>) -> Option<String> {
    let field = |name| fields.get(name).map(|value| value.trim());
    let log = match (field("aof_enabled")?, field("aof_last_write_status")) {
        ("1", Some("ok") | None) => Some("aof".to_owned()),
        ("1", Some(status)) => Some(format!("aof: {status}")),
        _ => None,
    };
    let snapshot = match (field("rdb_last_bgsave_status"), field("rdb_changes_since_last_save")) {
        (Some("ok"), Some(changes)) => format!("rdb: ok, {changes} changes since the last one"),
        (Some(status), _) => format!("rdb: {status}"),
        (None, _) => return log,
    };
    Some(log.map_or(snapshot.clone(), |log| format!("{log}; {snapshot}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_does_not_say_is_missing() {
        let text = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nused_memory:x\r\n";
        let node = node(Value::BulkString(text.into()));
        assert_eq!(node.version.as_deref(), Some("7.0.15"));
        assert_eq!(node.role.as_deref(), Some("master"));
        assert_eq!((node.used_memory, node.eviction_policy), (None, None));
    }

    #[test]
    fn a_server_is_named_by_the_version_of_its_own() {
        for (text, server, version) in [
            ("redis_version:7.0.15\r\n", "Redis", "7.0.15"),
            ("redis_version:7.2.4\r\nvalkey_version:8.1.1\r\n", "Valkey", "8.1.1"),
            ("redis_version:7.4.0\r\ndragonfly_version:df-v1.40.1\r\n", "Dragonfly", "df-v1.40.1"),
            ("redis_version:6.3.4\r\nexecutable:/usr/bin/keydb-server\r\n", "KeyDB", "6.3.4"),
        ] {
            let node = node(Value::BulkString(text.into()));
            let told = (node.server.as_deref(), node.version.as_deref());
            assert_eq!(told, (Some(server), Some(version)));
        }
    }
}
