//! The line of a job.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::values::{Bytes, Length, Text};
use crate::broker::{JobEntry, JobFailure};
use crate::job::{JobId, JobRecord, JobState, Progress, QueueName};
use crate::time::Timestamp;

/// A job. What it lacks has its default.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobLine {
    queue: Text<QueueName>,
    id: Text<JobId>,
    state: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) was_active: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Text<Timestamp>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending_since: Option<Text<Timestamp>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    turn: Option<Text<Timestamp>>,
    #[serde(rename = "type")]
    job_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<Bytes>,
    #[serde(default, skip_serializing_if = "is_default")]
    headers: BTreeMap<String, String>,
    max_retry: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    retried: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    last_error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_failed_at: Option<Text<Timestamp>>,
    #[serde(default, skip_serializing_if = "is_default")]
    timeout_seconds: Length,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<Text<Timestamp>>,
    #[serde(default, skip_serializing_if = "is_default")]
    retention_seconds: Length,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    completed_at: Option<Text<Timestamp>>,
    #[serde(default, skip_serializing_if = "is_default")]
    lock: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timed_lock: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    unlock_at_start: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_by: Option<Text<Timestamp>>,
    #[serde(default, skip_serializing_if = "is_default")]
    group: String,
    #[serde(default, skip_serializing_if = "is_default")]
    grouped: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    #[serde(default, skip_serializing_if = "is_default")]
    losses: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_failed_version: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    failures: Vec<FailureLine>,
    /// Fields of the message that a newer peer wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unknown: Option<Bytes>,
    /// Numbers of a peer that the fields above cannot hold, by the field's number.
    #[serde(default, skip_serializing_if = "is_default")]
    odd_numbers: Vec<(u32, i64)>,
    /// The message as it was, if this crate would write it in other bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<Bytes>,
}

#[derive(Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
struct FailureLine {
    at: Text<Timestamp>,
    attempt: u32,
    error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waited_micros: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ran_micros: Option<u64>,
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Its name for people.
impl fmt::Display for JobLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job \"{}\" of queue \"{}\"", self.id.0, self.queue.0)
    }
}

impl JobLine {
    pub(super) fn of(job: JobEntry) -> Self {
        let record = job.record;
        let micros = |length: Duration| u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let failure = |failure: JobFailure| FailureLine {
            at: Text(failure.at),
            attempt: failure.attempt,
            error: failure.error,
            version: failure.version,
            worker: failure.worker,
            waited_micros: failure.waited.map(micros),
            ran_micros: failure.ran.map(micros),
        };
        Self {
            queue: Text(record.queue),
            id: Text(record.id),
            state: job.state.as_str().to_owned(),
            was_active: job.was_active,
            at: job.at.map(Text),
            pending_since: job.pending_since.map(Text),
            turn: job.turn.map(Text),
            job_type: record.job_type,
            payload: record.payload.map(Bytes::of),
            headers: record.headers,
            max_retry: record.max_retry,
            retried: record.retried,
            last_error: record.last_error,
            last_failed_at: record.last_failed_at.map(Text),
            timeout_seconds: Length::of(record.timeout),
            deadline: record.deadline.map(Text),
            retention_seconds: Length::of(record.retention),
            completed_at: record.completed_at.map(Text),
            lock: record.unique_key,
            timed_lock: job.timed_lock,
            unlock_at_start: job.unlock_at_start,
            start_by: job.start_by.map(Text),
            group: record.group,
            grouped: job.grouped,
            result: job.result.map(Bytes::of),
            progress: job.progress,
            losses: job.losses,
            version: job.version,
            first_failed_version: job.first_failed_version,
            failures: job.failures.into_iter().map(failure).collect(),
            unknown: Some(record.unknown).filter(|bytes| !bytes.is_empty()).map(Bytes::of),
            odd_numbers: record.odd_numbers,
            message: job.message.map(Bytes::of),
        }
    }

    /// The job; what the line is instead, if it is none.
    pub(super) fn into_job(self) -> Result<JobEntry, &'static str> {
        let state = JobState::parse(&self.state).filter(|state| *state != JobState::Active);
        let bytes = |bytes: Option<Bytes>| match bytes.map(Bytes::read) {
            None => Ok(None),
            Some(Some(bytes)) => Ok(Some(bytes)),
            Some(None) => Err("bytes that are not hexadecimal digits"),
        };
        let at = |at: Option<Text<Timestamp>>| at.map(|at| at.0);
        let failure = |line: FailureLine| JobFailure {
            at: line.at.0,
            attempt: line.attempt,
            error: line.error,
            version: line.version,
            worker: line.worker,
            waited: line.waited_micros.map(Duration::from_micros),
            ran: line.ran_micros.map(Duration::from_micros),
        };
        Ok(JobEntry {
            record: JobRecord {
                job_type: self.job_type,
                payload: bytes(self.payload)?,
                id: self.id.0,
                queue: self.queue.0,
                max_retry: self.max_retry,
                retried: self.retried,
                last_error: self.last_error,
                last_failed_at: at(self.last_failed_at),
                timeout: self.timeout_seconds.read(),
                deadline: at(self.deadline),
                retention: self.retention_seconds.read(),
                completed_at: at(self.completed_at),
                unique_key: self.lock,
                group: self.group,
                headers: self.headers,
                unknown: bytes(self.unknown)?.unwrap_or_default(),
                odd_numbers: self.odd_numbers,
            },
            state: state.ok_or("a job of another state")?,
            was_active: self.was_active,
            at: at(self.at),
            pending_since: at(self.pending_since),
            turn: at(self.turn),
            grouped: self.grouped,
            timed_lock: self.timed_lock,
            unlock_at_start: self.unlock_at_start,
            start_by: at(self.start_by),
            result: bytes(self.result)?,
            progress: self.progress,
            losses: self.losses,
            version: self.version,
            first_failed_version: self.first_failed_version,
            failures: self.failures.into_iter().map(failure).collect(),
            message: bytes(self.message)?,
        })
    }
}
