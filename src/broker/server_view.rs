//! What a store answers about worker processes and its own servers: plain values that
//! serialize to the JSON of the REST interface. `Debug` omits payloads.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{WorkerChangeInfo, WorkerDetails, WorkerName};
use crate::job::{JobId, QueueName, serial};
use crate::time::Timestamp;

/// The announced worker processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueServers"))]
#[non_exhaustive]
pub struct Servers {
    /// Processes of this crate and of Go, by host, process and start.
    pub servers: Vec<ServerInfo>,
    /// Announcements that cannot be decoded.
    pub unreadable: u64,
}

impl Servers {
    /// Sorts the processes and their jobs.
    pub(crate) fn sort(&mut self) {
        let order =
            |server: &ServerInfo| (server.host.clone(), server.pid, server.server_id.clone());
        self.servers.sort_by_cached_key(order);
        for server in &mut self.servers {
            server
                .running
                .sort_by(|a, b| (a.started, &a.queue, &a.id).cmp(&(b.started, &b.queue, &b.id)));
        }
    }
}

/// One worker process, as it announces itself at least every 5 s.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueServerInfo"))]
#[non_exhaustive]
pub struct ServerInfo {
    /// Its host's name.
    pub host: String,
    /// Its process id.
    pub pid: i64,
    /// A random id, new with each start.
    pub server_id: String,
    /// Maximum concurrent jobs, today's if it was changed while the process runs.
    pub concurrency: i64,
    /// Queue → priority, today's if it was changed while the process runs.
    pub queues: BTreeMap<QueueName, i64>,
    /// Whether priorities are strict.
    pub strict_priority: bool,
    /// `active`, `stopped` or `closed`; a Go process may say `new`. A process that was made quiet
    /// says `stopped`, as in Asynq; `details` tells more.
    pub status: String,
    /// When it started, if announced.
    pub started: Option<Timestamp>,
    /// Its jobs in flight, the oldest first; at most 1,000, and fewer if the announcements of
    /// all processes exceed 8 MiB together.
    pub running: Vec<WorkerInfo>,
    /// How many more jobs it announces.
    pub more_running: u64,
    /// What a process of this crate tells besides; null for Go processes and older versions, which
    /// cannot be changed from here.
    pub details: Option<WorkerDetails>,
    /// What operators changed in it, or have asked to change.
    pub changes: Vec<WorkerChangeInfo>,
}

impl ServerInfo {
    /// The parts of its key.
    pub(crate) fn name(&self) -> WorkerName<'_> {
        WorkerName { host: &self.host, pid: self.pid, server_id: &self.server_id }
    }

    /// Whether it is a process of this crate that counts jobs for limits: its id is a UUID of
    /// version 8 ([`server_id`](crate::chance::server_id)). Those of Go workers and of older
    /// versions have version 4.
    pub(crate) fn knows_limits(&self) -> bool {
        self.server_id.as_bytes().get(14) == Some(&b'8')
    }
}

/// One job in flight, as its process announces it.
#[derive(Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueWorkerInfo"))]
#[non_exhaustive]
pub struct WorkerInfo {
    /// The job's queue.
    pub queue: QueueName,
    /// The job.
    pub id: JobId,
    /// Its type.
    pub job_type: String,
    /// Its payload, or the beginning of a long one.
    #[serde(serialize_with = "serial::bytes")]
    #[cfg_attr(feature = "openapi", schemars(with = "serial::Bytes"))]
    pub payload: Vec<u8>,
    /// When the attempt began.
    pub started: Option<Timestamp>,
    /// When the attempt is cancelled as timed out.
    pub deadline: Option<Timestamp>,
}

impl fmt::Debug for WorkerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerInfo")
            .field("queue", &self.queue)
            .field("id", &self.id)
            .field("job_type", &self.job_type)
            .field("started", &self.started)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// The slot of a queue in a Redis Cluster, and its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueClusterPlace"))]
#[non_exhaustive]
pub struct ClusterPlace {
    /// The slot of all the queue's keys.
    pub slot: u16,
    /// The nodes of the slot, as `host:port`, the master first.
    pub nodes: Vec<String>,
}

/// Where a store keeps its jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueStoreKind"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StoreKind {
    /// In the memory of this process, with which they end.
    Memory,
    /// In a folder on disk.
    Disk,
    /// In Redis, or a server that speaks its protocol.
    Redis,
}

/// The store and its servers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueStoreInfo"))]
#[non_exhaustive]
pub struct StoreInfo {
    /// Where it keeps its jobs.
    pub kind: StoreKind,
    /// The store in one line, without credentials.
    pub description: String,
    /// Whether it is a Redis Cluster.
    pub cluster: bool,
    /// Its servers: one, or the masters of a Cluster; none for a store in memory or on disk.
    pub nodes: Vec<StoreNode>,
}

/// One Redis server. Values that `INFO` does not have, or that an ACL hides, are missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueStoreNode"))]
#[non_exhaustive]
pub struct StoreNode {
    /// Its address in a Cluster.
    pub address: Option<String>,
    /// The program: `Redis`, `Valkey`, …
    pub server: Option<String>,
    /// That program's version.
    pub version: Option<String>,
    /// `master` or `slave`.
    pub role: Option<String>,
    /// Uptime in seconds.
    pub uptime_seconds: Option<u64>,
    /// Bytes of memory in use.
    pub used_memory: Option<u64>,
    /// Maximum memory in bytes; 0 for no limit.
    pub max_memory: Option<u64>,
    /// What it does if memory is full: `noeviction` keeps everything, `volatile-…` evicts
    /// unique locks and idempotency keys, `allkeys-…` evicts jobs.
    pub eviction_policy: Option<String>,
    /// Connected clients.
    pub clients: Option<u64>,
    /// Commands in the last second.
    pub commands_per_second: Option<u64>,
    /// Keys evicted since it started.
    pub evicted_keys: Option<u64>,
    /// Memory taken from the system per byte in use; far above 1 means fragmentation.
    pub fragmentation: Option<f64>,
    /// The append-only file (`aof`, if enabled) and the last snapshot (`rdb`), each with the
    /// result of its last write.
    pub persistence: Option<String>,
    /// Connected replicas.
    pub replicas: Option<u64>,
}
