//! The lines of an export: one JSON object each, of the kind that its `kind` names.
//!
//! The names are a format of their own: the structures of this crate may change while files
//! stay readable. Texts are the printable forms of ids and names, RFC 3339 in UTC with
//! microseconds for instants, and for bytes a text if they are UTF-8, else `{"hex": "…"}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::TransferReport;
use super::job_line::{JobLine, is_default};
use super::values::Text;
use crate::broker::{Entry, PeriodicRun};
use crate::job::{JobId, QueueName};
use crate::time::Timestamp;

/// The version of this format. A reader refuses others.
pub(super) const FORMAT: u32 = 1;

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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunLine {
    job: Text<JobId>,
    at: Text<Timestamp>,
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
    pub(super) fn into_entry(self) -> Result<Entry, &'static str> {
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
