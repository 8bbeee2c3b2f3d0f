//! Asynq's protobuf messages, byte for byte.
//!
//! The message of a job is in `message`, and the JSON form that Asynq wrote before
//! version 0.18 in `old`. This file has the records by which processes announce
//! themselves, their jobs in flight and their periodic jobs, and the history of
//! periodic jobs. Field numbers and types match Asynq's
//! `internal/proto/asynq.proto`; `tests/it/wire.rs` compares the bytes with records
//! that Go wrote.
//!
//! What may surprise. Some optional fields are always written, because released Go
//! readers ignore or reject a record without them. Go's "never" is the first
//! instant of year 1, see [`NEVER`]. A decoder returns `None` for a record that Go
//! could not read either.

mod message;
mod old;

use std::collections::BTreeMap;

use prost::Message;

use crate::broker::{
    self, AnnouncedPeriodicJob, Announcement, PeriodicJobInfo, PeriodicRun, Running, option_text,
};
use crate::job::{JobId, QueueName};
use crate::time::Timestamp;
pub use message::{TaskMessage, bytes_before_id, decode, encode, names_queue};

/// Maximum payload bytes of a job in flight that are announced to Asynq's tools.
pub const SHOWN_PAYLOAD_BYTES: usize = 4096;

/// `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, Message)]
pub struct Instant {
    /// Seconds since the Unix epoch.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// 0 to 999 999 999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// The announcement of a worker process.
#[derive(Clone, PartialEq, Message)]
pub struct ServerInfo {
    /// Host name.
    #[prost(string, tag = "1")]
    pub host: String,
    /// Process id.
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// A random id, new with each start.
    #[prost(string, tag = "3")]
    pub server_id: String,
    /// Maximum concurrent jobs.
    #[prost(int32, tag = "4")]
    pub concurrency: i32,
    /// Queue → priority as configured.
    #[prost(btree_map = "string, int32", tag = "5")]
    pub queues: BTreeMap<String, i32>,
    /// Whether priorities are strict.
    #[prost(bool, tag = "6")]
    pub strict_priority: bool,
    /// `active`, `stopped` or `closed`.
    #[prost(string, tag = "7")]
    pub status: String,
    /// Always written: old readers ignore a record without it.
    #[prost(message, optional, tag = "8")]
    pub start_time: Option<Instant>,
    /// Number of jobs in flight.
    #[prost(int32, tag = "9")]
    pub active_worker_count: i32,
}

/// One job in flight.
#[derive(Clone, PartialEq, Message)]
pub struct WorkerInfo {
    /// Host name.
    #[prost(string, tag = "1")]
    pub host: String,
    /// Process id.
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// The process's [`ServerInfo::server_id`].
    #[prost(string, tag = "3")]
    pub server_id: String,
    /// The job, by its printable form.
    #[prost(string, tag = "4")]
    pub task_id: String,
    /// Its type.
    #[prost(string, tag = "5")]
    pub task_type: String,
    /// The beginning of its payload.
    #[prost(bytes = "vec", tag = "6")]
    pub task_payload: Vec<u8>,
    /// Its queue.
    #[prost(string, tag = "7")]
    pub queue: String,
    /// Always written.
    #[prost(message, optional, tag = "8")]
    pub start_time: Option<Instant>,
    /// Always written.
    #[prost(message, optional, tag = "9")]
    pub deadline: Option<Instant>,
}

/// A periodic job, as a process announces it.
#[derive(Clone, PartialEq, Message)]
pub struct SchedulerEntry {
    /// The entry's id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The specification.
    #[prost(string, tag = "2")]
    pub spec: String,
    /// The type of its jobs.
    #[prost(string, tag = "3")]
    pub task_type: String,
    /// Their payload.
    #[prost(bytes = "vec", tag = "4")]
    pub task_payload: Vec<u8>,
    /// Their options, as texts.
    #[prost(string, repeated, tag = "5")]
    pub enqueue_options: Vec<String>,
    /// Always written; [`NEVER`] if there is none.
    #[prost(message, optional, tag = "6")]
    pub next_enqueue_time: Option<Instant>,
    /// Always written; [`NEVER`] if there is none.
    #[prost(message, optional, tag = "7")]
    pub prev_enqueue_time: Option<Instant>,
}

/// One run of a periodic job.
#[derive(Clone, PartialEq, Message)]
pub struct SchedulerEnqueueEvent {
    /// The job.
    #[prost(string, tag = "1")]
    pub task_id: String,
    /// Always written: without it old readers fail the whole listing.
    #[prost(message, optional, tag = "2")]
    pub enqueue_time: Option<Instant>,
}

/// Go's zero time, the first instant of year 1. It means "never".
pub const NEVER: Instant = Instant { seconds: -62_135_596_800, nanos: 0 };

/// The record of a periodic job.
pub fn scheduler_entry(entry: &AnnouncedPeriodicJob) -> Vec<u8> {
    let seen = entry.seen("");
    SchedulerEntry {
        id: seen.id,
        spec: seen.spec,
        task_type: seen.job_type,
        task_payload: seen.payload,
        enqueue_options: seen.options,
        next_enqueue_time: Some(seen.next.map_or(NEVER, Instant::from)),
        prev_enqueue_time: Some(seen.prev.map_or(NEVER, Instant::from)),
    }
    .encode_to_vec()
}

/// Decodes a record; `None` if Go could not read it either.
pub fn periodic_job_info(bytes: &[u8], scheduler: &str) -> Option<PeriodicJobInfo> {
    let entry = SchedulerEntry::decode(bytes).ok()?;
    Some(PeriodicJobInfo {
        id: entry.id,
        spec: entry.spec,
        job_type: entry.task_type,
        payload: entry.task_payload,
        queue: option_text::queue(&entry.enqueue_options),
        options: entry.enqueue_options,
        next: entry.next_enqueue_time.and_then(|at| at.time()),
        prev: entry.prev_enqueue_time.and_then(|at| at.time()),
        schedulers: vec![scheduler.to_owned()],
    })
}

/// The record of a run.
pub fn scheduler_event(run: &PeriodicRun) -> Vec<u8> {
    SchedulerEnqueueEvent {
        task_id: run.job.as_str().to_owned(),
        enqueue_time: Some(run.at.into()),
    }
    .encode_to_vec()
}

/// Decodes the record of a run; `None` if it cannot be decoded.
pub fn periodic_run(bytes: &[u8]) -> Option<PeriodicRun> {
    let event = SchedulerEnqueueEvent::decode(bytes).ok()?;
    Some(PeriodicRun::new(JobId::stored(&event.task_id), event.enqueue_time?.time()?))
}

impl Instant {
    /// `None` for never.
    fn time(&self) -> Option<Timestamp> {
        let part = i64::from(self.nanos.clamp(0, 999_999_999) / 1000);
        let micros = self.seconds.checked_mul(1_000_000)?.checked_add(part)?;
        (*self != NEVER).then(|| Timestamp::from_micros(micros))
    }
}

/// The value of a worker process's key.
pub fn server_info(who: &Announcement) -> Vec<u8> {
    ServerInfo {
        host: who.host.clone(),
        pid: int32(who.pid),
        server_id: who.server_id.clone(),
        concurrency: int32(who.concurrency),
        queues: who
            .queues
            .iter()
            .map(|(queue, priority)| (queue.as_str().to_owned(), int32(*priority)))
            .collect(),
        strict_priority: who.strict_priority,
        status: who.status.to_owned(),
        start_time: Some(who.started.into()),
        active_worker_count: i32::try_from(who.running.len()).unwrap_or(i32::MAX),
    }
    .encode_to_vec()
}

/// The record of one job in flight.
pub fn worker_info(who: &Announcement, running: &Running) -> Vec<u8> {
    let payload = running.job.payload_bytes();
    WorkerInfo {
        host: who.host.clone(),
        pid: int32(who.pid),
        server_id: who.server_id.clone(),
        task_id: running.job.id.as_str().to_owned(),
        task_type: running.job.job_type.clone(),
        task_payload: payload[..payload.len().min(SHOWN_PAYLOAD_BYTES)].to_vec(),
        queue: running.job.queue.as_str().to_owned(),
        start_time: Some(running.started.into()),
        deadline: Some(running.deadline.into()),
    }
    .encode_to_vec()
}

/// Decodes the announcement of a worker process, without its jobs. `None` for a record that
/// cannot be decoded.
pub fn server(bytes: &[u8]) -> Option<broker::ServerInfo> {
    let info = ServerInfo::decode(bytes).ok()?;
    let queues = info.queues.into_iter();
    Some(broker::ServerInfo {
        host: info.host,
        pid: i64::from(info.pid),
        server_id: info.server_id,
        concurrency: i64::from(info.concurrency),
        queues: queues
            .map(|(name, priority)| (QueueName::stored(&name), priority.into()))
            .collect(),
        strict_priority: info.strict_priority,
        status: info.status,
        started: info.start_time.map(Timestamp::from),
        running: Vec::new(),
        more_running: 0,
        details: None,
        changes: Vec::new(),
    })
}

/// Decodes a process that counts its jobs in flight without naming them.
pub fn announced_server(bytes: &[u8]) -> Option<broker::ServerInfo> {
    let running = ServerInfo::decode(bytes).ok()?.active_worker_count;
    let server = server(bytes)?;
    Some(broker::ServerInfo { more_running: u64::try_from(running).unwrap_or(0), ..server })
}

/// Decodes a job in flight and the process that runs it. The id is the field name, which
/// unlike the message need not be UTF-8.
pub fn worker(id: &[u8], bytes: &[u8]) -> Option<(broker::WorkerInfo, WorkerInfo)> {
    let mut by = WorkerInfo::decode(bytes).ok()?;
    let job = broker::WorkerInfo {
        queue: QueueName::stored(&by.queue),
        id: JobId::stored(id),
        job_type: std::mem::take(&mut by.task_type),
        payload: std::mem::take(&mut by.task_payload),
        started: by.start_time.take().map(Timestamp::from),
        deadline: by.deadline.take().map(Timestamp::from),
    };
    Some((job, by))
}

impl From<Instant> for Timestamp {
    fn from(time: Instant) -> Self {
        let micros = i64::from(time.nanos) / 1000;
        Timestamp::from_micros(time.seconds.saturating_mul(1_000_000).saturating_add(micros))
    }
}

impl From<Timestamp> for Instant {
    fn from(time: Timestamp) -> Self {
        let micros = time.as_micros().rem_euclid(1_000_000) as i32;
        Self { seconds: time.as_secs(), nanos: micros * 1000 }
    }
}

/// Asynq's integers have 32 bits: larger values are written as the largest.
fn int32(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
