//! What a store answers about itself: plain values, alike from both stores,
//! that serialize to what REST shows. `Debug` leaves payloads and results out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::job::{AfterCancel, JobId, JobRecord, JobState, Progress, QueueName, serial};
use crate::time::Timestamp;

/// What is kept of an error beside the job's last one, in bytes.
const LONGEST_ERROR: usize = 1000;

/// So many failures of a job are kept.
pub(crate) const FAILURES_KEPT: usize = 10;

/// One stored job and where it stands.
#[derive(Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueJobInfo"))]
#[non_exhaustive]
pub struct JobInfo {
    /// The job; its fields are this object's own when serialized.
    #[serde(flatten)]
    pub record: JobRecord,
    /// Its state.
    pub state: JobState,
    /// When it is due (scheduled, retry); to the microsecond where known.
    pub due: Option<Timestamp>,
    /// Since when it is pending; one that was due, since it was. Missing where a Go
    /// worker or tool put it back.
    pub pending_since: Option<Timestamp>,
    /// Until when its worker has it (active), unless it extends.
    pub lease_ends: Option<Timestamp>,
    /// Active, and its lease is over or missing: it waits to be recovered.
    pub orphaned: bool,
    /// Who runs it (active), as far as that was announced: up to 5 s late.
    pub worker: Option<JobWorker>,
    /// When it was archived (archived).
    pub archived_at: Option<Timestamp>,
    /// When it is removed for good (completed).
    pub expires: Option<Timestamp>,
    /// Since when it waits in its group (aggregating).
    pub grouped_since: Option<Timestamp>,
    /// Whether it holds its unique lock; false also where it takes none.
    pub locked: bool,
    /// What its handler returned, or wrote while it ran.
    #[serde(serialize_with = "serial::some_bytes")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<serial::Bytes>"))]
    pub result: Option<Vec<u8>>,
    /// How far it said it is: in this attempt or, while it does not run, in the last.
    pub progress: Option<Progress>,
    /// What an operator wants to become of it, once its attempt is asked to end.
    pub cancelling: Option<AfterCancel>,
    /// How often a worker vanished with it.
    pub losses: u32,
    /// How its last attempts failed, the oldest first: at most ten, of workers of ours.
    /// Told of a job that is asked for by itself; in lists it is empty.
    pub failures: Vec<JobFailure>,
}

impl JobInfo {
    /// How many bytes it has of what may be large: payload and result.
    pub(crate) fn large_bytes(&self) -> usize {
        self.record.payload_bytes().len() + self.result.as_ref().map_or(0, Vec::len)
    }

    /// A job in a state, with nothing else known.
    pub(crate) fn new(record: JobRecord, state: JobState) -> Self {
        Self {
            record,
            state,
            due: None,
            pending_since: None,
            lease_ends: None,
            orphaned: false,
            worker: None,
            archived_at: None,
            expires: None,
            grouped_since: None,
            locked: false,
            result: None,
            progress: None,
            cancelling: None,
            losses: 0,
            failures: Vec::new(),
        }
    }
}

impl fmt::Debug for JobInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobInfo")
            .field("record", &self.record)
            .field("state", &self.state)
            .field("due", &self.due)
            .field("pending_since", &self.pending_since)
            .field("lease_ends", &self.lease_ends)
            .field("orphaned", &self.orphaned)
            .field("worker", &self.worker)
            .field("archived_at", &self.archived_at)
            .field("expires", &self.expires)
            .field("grouped_since", &self.grouped_since)
            .field("locked", &self.locked)
            .field("progress", &self.progress)
            .field("cancelling", &self.cancelling)
            .field("losses", &self.losses)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

/// How one attempt of a job failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueJobFailure"))]
#[non_exhaustive]
pub struct JobFailure {
    /// When it was settled.
    pub at: Timestamp,
    /// Which attempt it was, from 1. One that did not count has the number of the next.
    pub attempt: u32,
    /// What it failed with: the first 1,000 bytes.
    pub error: String,
}

impl JobFailure {
    pub(crate) fn of(job: &JobRecord, error: &str, at: Timestamp) -> Self {
        let longest = error.len().min(LONGEST_ERROR);
        let end = (0..=longest).rev().find(|at| error.is_char_boundary(*at)).unwrap_or_default();
        let attempt = job.retried.saturating_add(1);
        Self { at, attempt, error: error[..end].to_owned() }
    }

    /// As it is stored with a job: JSON without line breaks.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        let line = (self.at.as_micros(), self.attempt, &self.error);
        serde_json::to_vec(&line).expect("two numbers and a text are JSON")
    }

    pub(crate) fn from_line(line: &[u8]) -> Option<Self> {
        let (at, attempt, error) = serde_json::from_slice(line).ok()?;
        Some(Self { at: Timestamp::from_micros(at), attempt, error })
    }
}

/// The process that runs a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueJobWorker"))]
#[non_exhaustive]
pub struct JobWorker {
    /// Its host's name.
    pub host: String,
    /// Its process id.
    pub pid: i64,
    /// The id of its start; see [`ServerInfo::server_id`].
    pub server_id: String,
    /// When it took the job.
    pub started: Option<Timestamp>,
    /// When the attempt is ended as failed.
    pub deadline: Option<Timestamp>,
}

/// An entry of a list that is no whole job, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueCorruptEntry"))]
#[non_exhaustive]
pub struct CorruptEntry {
    /// The queue whose list has it.
    pub queue: QueueName,
    /// The id that the list has.
    pub id: JobId,
    /// What is wrong.
    pub corruption: Corruption,
    /// How many bytes its message has.
    pub message_bytes: u64,
}

/// What is wrong with an entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueCorruption"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Corruption {
    /// There is no job with this id: removed behind the list's back, or evicted.
    Missing,
    /// Something else is stored where the job should be.
    WrongType,
    /// The job has no message.
    NoMessage,
    /// Nobody can read its message.
    UnreadableMessage,
    /// The job has no state.
    NoState,
    /// The job has a state that nobody knows.
    UnknownState(String),
    /// The job says it is in another state than that of this list.
    OtherState(JobState),
}

/// One row of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueJobRow"))]
#[serde(tag = "row", rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobRow {
    /// A job.
    Job(Box<JobInfo>),
    /// An entry that is no whole job.
    Corrupt(CorruptEntry),
}

impl JobRow {
    /// The id of the entry.
    pub fn id(&self) -> &JobId {
        match self {
            JobRow::Job(info) => &info.record.id,
            JobRow::Corrupt(broken) => &broken.id,
        }
    }

    /// The job, if it is one.
    pub fn job(&self) -> Option<&JobInfo> {
        match self {
            JobRow::Job(info) => Some(info),
            JobRow::Corrupt(_) => None,
        }
    }
}

/// Some rows of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueJobPage"))]
#[non_exhaustive]
pub struct JobPage {
    /// The rows, in the list's order.
    pub rows: Vec<JobRow>,
    /// How many entries the whole list has.
    pub total: u64,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<super::Cursor>,
}

/// The sizes of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueQueueInfo"))]
#[non_exhaustive]
pub struct QueueInfo {
    /// Jobs per state; states without jobs are there with 0. Jobs that are just
    /// being aggregated are not counted, as in Asynq.
    pub sizes: BTreeMap<&'static str, u64>,
    /// Jobs in all states.
    pub size: u64,
    /// Groups with waiting jobs. Of more than about 12,000, some are counted for `sizes`,
    /// which stand for the others.
    pub groups: u64,
    /// Since when the next job is pending; `None` where none is, or nobody knows.
    pub pending_since: Option<Timestamp>,
    /// How long the next job has been pending; zero where none is, or nobody
    /// knows since when.
    #[serde(rename = "latency_seconds", serialize_with = "serial::seconds")]
    #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
    pub latency: Duration,
    /// Whether the queue is paused.
    pub paused: bool,
    /// Since when, where that was noted.
    pub paused_since: Option<Timestamp>,
    /// Attempts that ended, ever.
    pub processed: u64,
    /// Attempts that failed, ever.
    pub failed: u64,
    /// The same for the current UTC day.
    pub processed_today: u64,
    /// The same for the current UTC day.
    pub failed_today: u64,
    /// When the next scheduled or retried job is due; `None` where none waits.
    pub next_due: Option<Timestamp>,
}

/// One of all queues: its sizes, or why they cannot be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueQueueSummary"))]
#[non_exhaustive]
pub struct QueueSummary {
    /// Its name.
    pub queue: QueueName,
    /// Its sizes and counters.
    pub info: Option<QueueInfo>,
    /// In one line, why there are none: its keys have unexpected types.
    pub problem: Option<String>,
}

/// How much memory a queue takes, estimated from a sample of its jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueQueueMemory"))]
#[non_exhaustive]
pub struct QueueMemory {
    /// Bytes, about.
    pub bytes: u64,
    /// Jobs whose size was measured, at most 140.
    pub sampled: u64,
    /// Jobs the estimate stands for.
    pub jobs: u64,
}

/// What happened in a queue on one UTC day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueDayStats"))]
#[non_exhaustive]
pub struct DayStats {
    /// The day, as `YYYY-MM-DD`.
    pub date: String,
    /// Attempts that ended.
    pub processed: u64,
    /// Attempts that failed.
    pub failed: u64,
}

/// Some groups of a queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueGroupPage"))]
#[non_exhaustive]
pub struct GroupPage {
    /// The groups, in no order.
    pub groups: Vec<GroupInfo>,
    /// How many groups the queue has.
    pub total: u64,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<super::Cursor>,
}

/// A group of jobs that wait to be aggregated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueGroupInfo"))]
#[non_exhaustive]
pub struct GroupInfo {
    /// Its name.
    pub group: String,
    /// How many jobs wait in it.
    pub size: u64,
    /// When the first of them joined.
    pub oldest: Option<Timestamp>,
    /// When the last of them joined.
    pub newest: Option<Timestamp>,
}

/// The jobs that some worker is just making into one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAggregationSet"))]
#[non_exhaustive]
pub struct AggregationSet {
    /// The group they come from.
    pub group: String,
    /// The set's id.
    pub id: String,
    /// How many jobs it has.
    pub size: u64,
    /// When it is given back to its group if it has not ended.
    pub expires: Timestamp,
}

/// The worker processes there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueServers"))]
#[non_exhaustive]
pub struct Servers {
    /// Ours and Go's, by host, process and start.
    pub servers: Vec<ServerInfo>,
    /// Announcements that nobody can read.
    pub unreadable: u64,
}

impl Servers {
    /// Into the order in which they are shown.
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

/// What a worker process tells about itself, at least every 5 s.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueServerInfo"))]
#[non_exhaustive]
pub struct ServerInfo {
    /// Its host's name.
    pub host: String,
    /// Its process id.
    pub pid: i64,
    /// Random for each start.
    pub server_id: String,
    /// Most jobs at a time.
    pub concurrency: i64,
    /// Queue → priority as configured.
    pub queues: BTreeMap<QueueName, i64>,
    /// Whether priorities are strict.
    pub strict_priority: bool,
    /// `active`, `stopped` or `closed`; a Go process may say `new`.
    pub status: String,
    /// When it started; missing where it did not say.
    pub started: Option<Timestamp>,
    /// What it runs, oldest first; at most 1,000 jobs, and fewer where the announcements of
    /// all processes have more than 8 MiB together.
    pub running: Vec<WorkerInfo>,
    /// How many jobs more it says it runs.
    pub more_running: u64,
}

/// One job that a process runs.
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
    /// The beginning of its payload, where it is long.
    #[serde(serialize_with = "serial::bytes")]
    #[cfg_attr(feature = "openapi", schemars(with = "serial::Bytes"))]
    pub payload: Vec<u8>,
    /// When the process took it.
    pub started: Option<Timestamp>,
    /// When the attempt is ended as failed.
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

/// Where a queue lives in a Redis Cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueClusterPlace"))]
#[non_exhaustive]
pub struct ClusterPlace {
    /// The slot of all the queue's keys.
    pub slot: u16,
    /// The nodes that have it, as `host:port`, the master first.
    pub nodes: Vec<String>,
}

/// What keeps the jobs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueStoreInfo"))]
#[non_exhaustive]
pub struct StoreInfo {
    /// In one line, without credentials.
    pub description: String,
    /// Whether it is a Redis Cluster.
    pub cluster: bool,
    /// Its servers: one, or the masters of a Cluster; none in process.
    pub nodes: Vec<StoreNode>,
}

/// One Redis server. What it did not tell, as where `INFO` is not permitted, is
/// missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueStoreNode"))]
#[non_exhaustive]
pub struct StoreNode {
    /// Its address in a Cluster.
    pub address: Option<String>,
    /// Which program it is: `Redis`, `Valkey`, …
    pub server: Option<String>,
    /// That program's version.
    pub version: Option<String>,
    /// `master` or `slave`.
    pub role: Option<String>,
    /// How long it has run.
    pub uptime_seconds: Option<u64>,
    /// Bytes of memory in use.
    pub used_memory: Option<u64>,
    /// Most bytes it may use; 0 is no limit.
    pub max_memory: Option<u64>,
    /// What it does when memory is full: `noeviction` keeps everything, `volatile-…` loses
    /// unique locks and idempotency keys, `allkeys-…` loses jobs.
    pub eviction_policy: Option<String>,
    /// Connected clients.
    pub clients: Option<u64>,
    /// Commands in the last second.
    pub commands_per_second: Option<u64>,
    /// Keys that were thrown away because memory was full, since it started.
    pub evicted_keys: Option<u64>,
    /// Memory that the system gave for each byte in use; far above 1 it is scattered.
    pub fragmentation: Option<f64>,
    /// The append-only file (`aof`, where it is on) and the last snapshot (`rdb`), each with
    /// how its last write went.
    pub persistence: Option<String>,
    /// Connected replicas.
    pub replicas: Option<u64>,
}
