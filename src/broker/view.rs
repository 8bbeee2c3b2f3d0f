//! What a store answers about its jobs: plain values, the same from both stores, that
//! serialize to the JSON of the REST interface. `Debug` omits payloads and results, so that
//! they do not reach a log by accident. Queues and counters are in `queue_view`, processes
//! and servers in `server_view`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AttemptNote, LimitWait};
use crate::job::{AfterCancel, JobId, JobRecord, JobState, Progress, QueueName, serial};
use crate::time::Timestamp;

/// Maximum bytes of an error in a job's failure log.
pub(super) const MAX_ERROR_BYTES: usize = 1000;

/// Failures of a job that are kept.
pub(crate) const MAX_FAILURES: usize = 10;

/// One stored job with its state and times.
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
    /// When it is due (scheduled, retry); to the microsecond if known.
    pub due: Option<Timestamp>,
    /// What it waits for, if a limit has no room for it. It is scheduled then, and `due` is an
    /// hour ahead or less: Asynq's tools see it so, and it is moved on while it waits.
    pub waiting_for: Option<LimitWait>,
    /// Since when it is pending; for a job that was scheduled, since its due time. Missing if
    /// a Go worker or tool made it pending again.
    pub pending_since: Option<Timestamp>,
    /// When its lease ends (active), unless its worker extends it.
    pub lease_ends: Option<Timestamp>,
    /// It is active, but its lease has expired or is missing: it will be recovered.
    pub orphaned: bool,
    /// The process that runs it (active), as announced, up to 5 s late.
    pub worker: Option<JobWorker>,
    /// The instant by which a worker must have dequeued it; else it is archived with the error
    /// `expired`. Missing for jobs without such a limit, and once they have started.
    pub start_by: Option<Timestamp>,
    /// When it was archived (archived).
    pub archived_at: Option<Timestamp>,
    /// When it is deleted (completed).
    pub expires: Option<Timestamp>,
    /// When it joined its group (aggregating).
    pub grouped_since: Option<Timestamp>,
    /// Whether it holds its unique lock; false if it has none.
    pub locked: bool,
    /// The result that its handler returned, or wrote while it ran.
    #[serde(serialize_with = "serial::some_bytes")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<serial::Bytes>"))]
    pub result: Option<Vec<u8>>,
    /// The progress of the current attempt, or of the last one.
    pub progress: Option<Progress>,
    /// The cancel request of an operator, if there is one.
    pub cancelling: Option<AfterCancel>,
    /// How often a worker vanished while it ran the job.
    pub losses: u32,
    /// The application's version that made its last attempt that failed, or completed it. Missing
    /// if that process has no `jobqueue.version`; attempts of Go workers change nothing.
    pub version: Option<String>,
    /// The version that made the first attempt that failed; missing like the other.
    pub first_failed_version: Option<String>,
    /// Its last failures, the oldest first: at most ten, of workers of this crate. Empty in
    /// lists; present if the job is requested by itself.
    pub failures: Vec<JobFailure>,
}

impl JobInfo {
    /// The bytes of its payload and result.
    pub(crate) fn large_bytes(&self) -> usize {
        self.record.payload_bytes().len() + self.result.as_ref().map_or(0, Vec::len)
    }

    /// The instant that matters in its state: when it is due, since when it is pending or runs,
    /// when it was archived, completed or joined its group. `None` if that is unknown.
    pub(crate) fn moment(&self) -> Option<Timestamp> {
        match self.state {
            JobState::Scheduled | JobState::Retry => self.due,
            JobState::Pending => self.pending_since,
            JobState::Active => self.worker.as_ref().and_then(|worker| worker.started),
            JobState::Archived => self.archived_at,
            JobState::Completed => self.record.completed_at,
            JobState::Aggregating => self.grouped_since,
        }
    }

    /// A job in a state, without further knowledge.
    pub(crate) fn new(record: JobRecord, state: JobState) -> Self {
        Self {
            record,
            state,
            due: None,
            waiting_for: None,
            pending_since: None,
            lease_ends: None,
            orphaned: false,
            worker: None,
            start_by: None,
            archived_at: None,
            expires: None,
            grouped_since: None,
            locked: false,
            result: None,
            progress: None,
            cancelling: None,
            losses: 0,
            version: None,
            first_failed_version: None,
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
            .field("waiting_for", &self.waiting_for)
            .field("pending_since", &self.pending_since)
            .field("lease_ends", &self.lease_ends)
            .field("orphaned", &self.orphaned)
            .field("worker", &self.worker)
            .field("start_by", &self.start_by)
            .field("archived_at", &self.archived_at)
            .field("expires", &self.expires)
            .field("grouped_since", &self.grouped_since)
            .field("locked", &self.locked)
            .field("progress", &self.progress)
            .field("cancelling", &self.cancelling)
            .field("losses", &self.losses)
            .field("version", &self.version)
            .field("first_failed_version", &self.first_failed_version)
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
    /// The number of the attempt, from 1. An attempt that did not count has the number of the
    /// next one.
    pub attempt: u32,
    /// The error: its first 1,000 bytes.
    pub error: String,
    /// The application's version that made the attempt: `jobqueue.version` of its process.
    pub version: Option<String>,
    /// The process that made the attempt, as `host:pid`.
    pub worker: Option<String>,
    /// From being ready to run until the start, in seconds.
    #[serde(rename = "waited_seconds", serialize_with = "serial::some_seconds")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<f64>"))]
    pub waited: Option<Duration>,
    /// From the start until the end, in seconds.
    #[serde(rename = "ran_seconds", serialize_with = "serial::some_seconds")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<f64>"))]
    pub ran: Option<Duration>,
}

/// The stored form of what is known of an attempt beside its error. What is missing is left out.
#[derive(Default, Deserialize, Serialize)]
struct FailureNote<'a> {
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    version: Option<Cow<'a, str>>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    worker: Option<Cow<'a, str>>,
    /// Microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waited: Option<u64>,
    /// Microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ran: Option<u64>,
}

impl JobFailure {
    /// The failure of an attempt, as it is kept with the job. `job` is the record before the
    /// attempt was counted.
    pub(crate) fn of(job: &JobRecord, error: &str, at: Timestamp, note: &AttemptNote) -> Self {
        let longest = error.len().min(MAX_ERROR_BYTES);
        let end = (0..=longest).rev().find(|at| error.is_char_boundary(*at)).unwrap_or_default();
        let attempt = job.retried.saturating_add(1);
        Self {
            at,
            attempt,
            error: error[..end].to_owned(),
            version: note.version.as_ref().map(|version| version.as_str().to_owned()),
            worker: note.worker.as_deref().map(str::to_owned),
            waited: note.waited.map(whole_micros),
            ran: note.ran.map(whole_micros),
        }
    }

    /// The stored form: JSON without line breaks, `[at, attempt, error]` and an object with the
    /// rest if anything of that is known.
    pub(super) fn to_line(&self) -> Vec<u8> {
        let (at, attempt, error) = (self.at.as_micros(), self.attempt, &self.error);
        let is_bare = self.version.is_none()
            && self.worker.is_none()
            && self.waited.is_none()
            && self.ran.is_none();
        let line = match is_bare {
            true => serde_json::to_vec(&(at, attempt, error)),
            false => serde_json::to_vec(&(at, attempt, error, self.note())),
        };
        line.expect("numbers and texts are JSON")
    }

    /// What is known beside the error.
    fn note(&self) -> FailureNote<'_> {
        let micros = |length: Duration| u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        FailureNote {
            version: self.version.as_deref().map(Cow::Borrowed),
            worker: self.worker.as_deref().map(Cow::Borrowed),
            waited: self.waited.map(micros),
            ran: self.ran.map(micros),
        }
    }

    /// Reads the stored form; `None` for a line that is something else. Such a line is left
    /// out: a job can be shown without it.
    pub(super) fn from_line(line: &[u8]) -> Option<Self> {
        let bare = |(at, attempt, error)| (at, attempt, error, FailureNote::default());
        let (at, attempt, error, note): (i64, u32, String, FailureNote<'_>) =
            serde_json::from_slice(line)
                .or_else(|_| serde_json::from_slice(line).map(bare))
                .ok()?;
        Some(Self {
            at: Timestamp::from_micros(at),
            attempt,
            error,
            version: note.version.map(Cow::into_owned),
            worker: note.worker.map(Cow::into_owned),
            waited: note.waited.map(Duration::from_micros),
            ran: note.ran.map(Duration::from_micros),
        })
    }
}

/// As stores keep it.
fn whole_micros(length: Duration) -> Duration {
    Duration::from_micros(u64::try_from(length.as_micros()).unwrap_or(u64::MAX))
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
    /// See [`ServerInfo::server_id`](crate::inspect::ServerInfo::server_id).
    pub server_id: String,
    /// When the attempt began.
    pub started: Option<Timestamp>,
    /// When the attempt is cancelled as timed out.
    pub deadline: Option<Timestamp>,
}

/// A corrupt entry of a list: one that is not a complete job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueCorruptEntry"))]
#[non_exhaustive]
pub struct CorruptEntry {
    /// The queue of the list.
    pub queue: QueueName,
    /// The id in the list.
    pub id: JobId,
    /// What is wrong.
    pub corruption: Corruption,
    /// The size of its message in bytes.
    pub message_bytes: u64,
}

/// What is wrong with a corrupt entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueCorruption"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Corruption {
    /// There is no job with this id: it was evicted, or deleted by another program.
    Missing,
    /// The job's key holds another Redis type.
    WrongType,
    /// The job has no message.
    NoMessage,
    /// The message cannot be decoded.
    UnreadableMessage,
    /// The job has no state.
    NoState,
    /// The job has an unknown state.
    UnknownState(String),
    /// The job's state belongs to another list.
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
    /// A corrupt entry.
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

/// A page of a list.
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
