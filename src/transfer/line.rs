//! The lines of an export: one JSON object each, of the kind that its `kind` names.
//!
//! The names are a format of their own: the structures of this crate may change while files
//! stay readable. Texts are the printable forms of ids and names, RFC 3339 in UTC with
//! microseconds for instants, and for bytes a text if they are UTF-8, else `{"hex": "…"}`.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::TransferReport;
use super::file::failed;
use crate::broker::{Entry, JobEntry, JobFailure, PeriodicRun};
use crate::error::Error;
use crate::job::serial::hex;
use crate::job::{JobId, JobRecord, JobState, Progress, QueueName};
use crate::time::Timestamp;

/// The version of this format. A reader refuses others.
const FORMAT: u32 = 1;

/// A line.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    Begin {
        format: u32,
        exported_at: Text<Timestamp>,
        store: String,
    },
    Queue {
        queue: Text<QueueName>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        paused: Option<Text<Timestamp>>,
        processed: u64,
        failed: u64,
    },
    Job(Box<JobLine>),
    Lock {
        queue: Text<QueueName>,
        name: String,
        holder: Text<JobId>,
        until: Text<Timestamp>,
        #[serde(default, skip_serializing_if = "is_default")]
        timed: bool,
    },
    Request {
        queue: Text<QueueName>,
        key: String,
        body: String,
        job: Text<JobId>,
        until: Text<Timestamp>,
    },
    KeyQueue {
        key: String,
        queue: Text<QueueName>,
        until: Text<Timestamp>,
    },
    Admitted {
        queue: Text<QueueName>,
        job: Text<JobId>,
        at: Text<Timestamp>,
    },
    Claim {
        queue: Text<QueueName>,
        name: String,
        up_to: Text<Timestamp>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_run: Option<Text<Timestamp>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Text<Timestamp>>,
    },
    Runs {
        periodic_id: String,
        runs: Vec<RunLine>,
    },
    Day {
        queue: Text<QueueName>,
        day: i64,
        processed: u64,
        failed: u64,
    },
    Minute {
        queue: Text<QueueName>,
        minute: i64,
        processed: u64,
        failed: u64,
        pending: u64,
    },
    End {
        counts: BTreeMap<String, u64>,
    },
}

/// A job. What it lacks has its default.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobLine {
    queue: Text<QueueName>,
    id: Text<JobId>,
    state: String,
    #[serde(default, skip_serializing_if = "is_default")]
    was_active: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Text<Timestamp>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending_since: Option<Text<Timestamp>>,
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
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunLine {
    job: Text<JobId>,
    at: Text<Timestamp>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A value that is written as a text.
#[derive(Clone, Copy, PartialEq, Default)]
pub(super) struct Text<T>(T);

/// What a [`Text`] holds.
trait Written: Sized + std::fmt::Display {
    /// What is expected, for errors.
    const WHAT: &str;

    fn read(text: &str) -> Option<Self>;

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Written for JobId {
    const WHAT: &str = "an id of a job";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Written for QueueName {
    const WHAT: &str = "a queue's name";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Written for Timestamp {
    const WHAT: &str = "an instant such as 2026-11-30T12:00:00.000000Z";

    fn read(text: &str) -> Option<Self> {
        let micros = || Some(Timestamp::from_micros(text.strip_suffix("us")?.parse().ok()?));
        Timestamp::parse(text).or_else(micros)
    }

    /// RFC 3339 ends with the year 9999.
    fn write(&self) -> String {
        let text = self.to_string();
        match Timestamp::parse(&text) == Some(*self) {
            true => text,
            false => format!("{}us", self.as_micros()),
        }
    }
}

impl<T: Written> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.write())
    }
}

impl<'de, T: Written> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let expected = || serde::de::Error::custom(format!("expected {}", T::WHAT));
        T::read(&text).map(Self).ok_or_else(expected)
    }
}

/// Bytes: a text if they are UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Bytes {
    Text(String),
    Hex { hex: String },
}

impl Bytes {
    fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Hex { hex: hex(error.as_bytes()) },
        }
    }

    fn read(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.into_bytes()),
            Self::Hex { hex } => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let pair = |pair: &[u8]| match pair {
                    [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
                    _ => None,
                };
                hex.as_bytes().chunks(2).map(pair).collect()
            }
        }
    }
}

/// A length of time: whole seconds, and nanoseconds if it has a fraction.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(untagged, deny_unknown_fields)]
enum Length {
    Whole(u64),
    Exact { seconds: u64, nanos: u32 },
}

impl Default for Length {
    fn default() -> Self {
        Self::Whole(0)
    }
}

impl Length {
    fn of(length: Duration) -> Self {
        let (seconds, nanos) = (length.as_secs(), length.subsec_nanos());
        if nanos == 0 { Self::Whole(seconds) } else { Self::Exact { seconds, nanos } }
    }

    fn read(self) -> Duration {
        match self {
            Self::Whole(seconds) => Duration::from_secs(seconds),
            Self::Exact { seconds, nanos } => {
                Duration::from_secs(seconds).saturating_add(Duration::from_nanos(u64::from(nanos)))
            }
        }
    }
}

impl Line {
    pub(super) fn begin(now: Timestamp, store: String) -> Self {
        Self::Begin { format: FORMAT, exported_at: Text(now), store }
    }

    pub(super) fn end(report: &TransferReport) -> Self {
        let counts = report.entries.iter().map(|(kind, count)| ((*kind).to_owned(), *count));
        Self::End { counts: counts.collect() }
    }

    /// Whether this text is the closing line.
    pub(super) fn is_end(text: &[u8]) -> bool {
        matches!(serde_json::from_slice(text), Ok(Self::End { .. }))
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts, numbers and lists are JSON")
    }

    /// The line of an entry; none for one that is not moved.
    pub(super) fn of(entry: Entry) -> Option<Self> {
        Some(match entry {
            Entry::Unreadable { .. } => return None,
            Entry::Queue { queue, paused, processed, failed } => {
                Self::Queue { queue: Text(queue), paused: paused.map(Text), processed, failed }
            }
            Entry::Job(job) => Self::Job(Box::new(JobLine::of(*job))),
            Entry::Lock { queue, name, holder, until, timed } => {
                let (queue, holder, until) = (Text(queue), Text(holder), Text(until));
                Self::Lock { queue, name, holder, until, timed }
            }
            Entry::Request { queue, key, body, job, until } => {
                let (queue, job, until) = (Text(queue), Text(job), Text(until));
                Self::Request { queue, key, body, job, until }
            }
            Entry::KeyQueue { key, queue, until } => {
                Self::KeyQueue { key, queue: Text(queue), until: Text(until) }
            }
            Entry::Admitted { queue, job, at } => {
                Self::Admitted { queue: Text(queue), job: Text(job), at: Text(at) }
            }
            Entry::Claim { queue, name, up_to, last_run, until } => Self::Claim {
                queue: Text(queue),
                name,
                up_to: Text(up_to),
                last_run: last_run.map(Text),
                until: until.map(Text),
            },
            Entry::Runs { periodic_id, runs } => {
                let run = |run: PeriodicRun| RunLine { job: Text(run.job), at: Text(run.at) };
                Self::Runs { periodic_id, runs: runs.into_iter().map(run).collect() }
            }
            Entry::Day { queue, day, processed, failed } => {
                Self::Day { queue: Text(queue), day, processed, failed }
            }
            Entry::Minute { queue, minute, processed, failed, pending } => {
                Self::Minute { queue: Text(queue), minute, processed, failed, pending }
            }
        })
    }

    /// The entry of a line; what it is instead, if it is none.
    fn into_entry(self) -> Result<Entry, &'static str> {
        Ok(match self {
            Self::Begin { .. } => return Err("a second first line"),
            Self::End { .. } => return Err("the closing line"),
            Self::Queue { queue, paused, processed, failed } => {
                let paused = paused.map(|paused| paused.0);
                Entry::Queue { queue: queue.0, paused, processed, failed }
            }
            Self::Job(job) => Entry::Job(Box::new(job.into_job()?)),
            Self::Lock { queue, name, holder, until, timed } => {
                Entry::Lock { queue: queue.0, name, holder: holder.0, until: until.0, timed }
            }
            Self::Request { queue, key, body, job, until } => {
                Entry::Request { queue: queue.0, key, body, job: job.0, until: until.0 }
            }
            Self::KeyQueue { key, queue, until } => {
                Entry::KeyQueue { key, queue: queue.0, until: until.0 }
            }
            Self::Admitted { queue, job, at } => {
                Entry::Admitted { queue: queue.0, job: job.0, at: at.0 }
            }
            Self::Claim { queue, name, up_to, last_run, until } => Entry::Claim {
                queue: queue.0,
                name,
                up_to: up_to.0,
                last_run: last_run.map(|last| last.0),
                until: until.map(|until| until.0),
            },
            Self::Runs { periodic_id, runs } => {
                let run = |run: RunLine| PeriodicRun::new(run.job.0, run.at.0);
                Entry::Runs { periodic_id, runs: runs.into_iter().map(run).collect() }
            }
            Self::Day { queue, day, processed, failed } => {
                Entry::Day { queue: queue.0, day, processed, failed }
            }
            Self::Minute { queue, minute, processed, failed, pending } => {
                Entry::Minute { queue: queue.0, minute, processed, failed, pending }
            }
        })
    }
}

impl JobLine {
    fn of(job: JobEntry) -> Self {
        let record = job.record;
        let failure = |failure: JobFailure| FailureLine {
            at: Text(failure.at),
            attempt: failure.attempt,
            error: failure.error,
        };
        Self {
            queue: Text(record.queue),
            id: Text(record.id),
            state: job.state.as_str().to_owned(),
            was_active: job.was_active,
            at: job.at.map(Text),
            pending_since: job.pending_since.map(Text),
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
            group: record.group,
            grouped: job.grouped,
            result: job.result.map(Bytes::of),
            progress: job.progress,
            losses: job.losses,
            failures: job.failures.into_iter().map(failure).collect(),
            unknown: Some(record.unknown).filter(|bytes| !bytes.is_empty()).map(Bytes::of),
            odd_numbers: record.odd_numbers,
            message: job.message.map(Bytes::of),
        }
    }

    fn into_job(self) -> Result<JobEntry, &'static str> {
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
            grouped: self.grouped,
            timed_lock: self.timed_lock,
            unlock_at_start: self.unlock_at_start,
            result: bytes(self.result)?,
            progress: self.progress,
            losses: self.losses,
            failures: self.failures.into_iter().map(failure).collect(),
            message: bytes(self.message)?,
        })
    }
}

/// Reads the lines of an export.
pub(super) struct Lines<'a> {
    from: &'a mut (dyn BufRead + Send),
    /// The number of the last line that was read.
    number: u64,
    /// The counts of the closing line.
    counts: BTreeMap<String, u64>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(from: &'a mut (dyn BufRead + Send)) -> Self {
        Self { from, number: 0, counts: BTreeMap::new() }
    }

    /// Reads the first line.
    ///
    /// # Errors
    /// It is not that of an export in this format.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let text = self.text()?;
        // Other versions may have other fields.
        #[derive(Deserialize)]
        struct First {
            kind: String,
            format: u32,
        }
        let found = match serde_json::from_slice::<First>(&text) {
            Ok(first) if first.kind == "begin" && first.format == FORMAT => return Ok(()),
            Ok(first) if first.kind == "begin" => format!("format {}", first.format),
            _ if text.is_empty() => "nothing".to_owned(),
            _ => "another line".to_owned(),
        };
        Err(Error::invalid(format!(
            "line 1: expected the first line of an export in format {FORMAT}, found {found}"
        )))
    }

    /// The next entry, with the number and the length of its line; `None` at the closing line.
    ///
    /// # Errors
    /// A line is not an entry, or the closing line is missing.
    pub(super) fn next(&mut self) -> Result<Option<(u64, usize, Entry)>, Error> {
        let text = self.text()?;
        if text.is_empty() {
            return Err(self.invalid("the closing line with counts", "the end: the file is cut"));
        }
        let line: Line = match serde_json::from_slice(&text) {
            Ok(line) => line,
            Err(_) if !text.ends_with(b"\n") => {
                return Err(self.invalid("a whole line", "a part of one: the file is cut"));
            }
            // The message of serde_json may quote a value of a field, which may be secret.
            Err(error) => {
                let found = format!("something else at its {}th character", error.column());
                return Err(self.invalid("an entry of an export", &found));
            }
        };
        if let Line::End { counts } = line {
            self.counts = counts;
            if self.text()?.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Err(self.invalid("nothing after the closing line", "more"));
            }
            return Ok(None);
        }
        match line.into_entry() {
            Ok(entry) => Ok(Some((self.number, text.len(), entry))),
            Err(found) => Err(self.invalid("an entry of an export", found)),
        }
    }

    /// Compares the counts of the closing line with what was read.
    ///
    /// # Errors
    /// They differ: lines are missing, or were added.
    pub(super) fn expect_counts(&self, report: &TransferReport) -> Result<(), Error> {
        let found: BTreeMap<String, u64> =
            report.entries.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        if found == self.counts {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "line {}: expected {:?} as the closing line counts, found {found:?}",
            self.number, self.counts
        )))
    }

    fn text(&mut self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        let read = self.from.read_until(b'\n', &mut text);
        read.map_err(|error| failed("reading the export", &error))?;
        self.number += 1;
        Ok(text)
    }

    fn invalid(&self, expected: &str, found: &str) -> Error {
        Error::invalid(format!("line {}: expected {expected}, found {found}", self.number))
    }
}
