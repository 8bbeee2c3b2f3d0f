//! The form in which Redis keeps a job that is imported.

use super::super::rows::write_versions;
use super::super::{keys, wire};
use crate::broker::{JobEntry, JobFailure};
use crate::job::{JobRecord, JobState, QueueName};
use crate::pool::ScriptCall;
use crate::time::Timestamp;

/// A job as Redis will have it.
pub(super) struct StoredForm {
    /// Without what Asynq's message cannot hold.
    pub(super) entry: JobEntry,
    /// The message.
    message: Vec<u8>,
    /// The key of its unique lock; empty if it has none.
    lock: String,
    /// The key of its unique lock if nothing but time ends that.
    timed_lock: Option<String>,
}

impl StoredForm {
    /// The job as Redis would give it back. It is encoded and decoded once, so that what the
    /// message cannot hold (a fraction of a second, for example) does not count as a difference.
    pub(super) fn of(queue: &QueueName, job: &JobEntry) -> Self {
        let lock = keys::unique_named(queue, &job.record.unique_key);
        let record = JobRecord { unique_key: lock.clone(), ..job.record.clone() };
        let ours = wire::encode(&record);
        let id = &record.id;
        let stored = wire::decode(queue, id, &ours).unwrap_or_else(|| record.clone());
        // The bytes as they were, unless someone edited the file, or the job comes from a queue of
        // another name: a Go worker builds its keys from the message.
        let theirs = job.message.clone().filter(|message| {
            wire::names_queue(message, queue)
                && wire::decode(queue, id, message).is_some_and(|theirs| theirs == stored)
        });
        let record = JobRecord { unique_key: job.record.unique_key.clone(), ..stored };
        let at = job.at.filter(|_| job.state != JobState::Pending);
        let entry = JobEntry { record, at: at.map(|at| as_scored(job.state, at)), ..job.clone() };
        let timed = job.timed_lock.as_ref().map(|name| keys::unique_named(queue, name));
        Self { entry, message: theirs.unwrap_or(ours), lock, timed_lock: timed }
    }

    /// Its arguments for the script.
    pub(super) fn add_args(&self, call: ScriptCall, now: Timestamp) -> ScriptCall {
        let job = &self.entry;
        let (group, at) = (&job.record.group, job.at.unwrap_or(now));
        let waits = matches!(job.state, JobState::Scheduled | JobState::Retry);
        let (list, score) = match job.state {
            JobState::Pending | JobState::Active => ("pending".to_owned(), String::new()),
            JobState::Aggregating => (format!("g:{group}"), at.as_secs().to_string()),
            JobState::Scheduled | JobState::Retry => {
                (job.state.as_str().to_owned(), at.as_secs_ceil().to_string())
            }
            JobState::Archived | JobState::Completed => {
                (job.state.as_str().to_owned(), at.as_secs().to_string())
            }
        };
        let due = if waits { at.as_micros().to_string() } else { String::new() };
        let is_aggregating = job.state == JobState::Aggregating;
        let joins = is_aggregating || waits && job.grouped;
        let fields = self.fields(now);
        let call = call
            .arg(job.record.id.as_bytes())
            .arg(list)
            .arg(score)
            .arg(due)
            .arg(if joins { group.as_str() } else { "" })
            .arg(fields.len() * 2);
        fields.into_iter().fold(call, |call, (name, value)| call.arg(name).arg(value.as_slice()))
    }

    /// The fields of its hash.
    fn fields(&self, now: Timestamp) -> Vec<(&'static str, Vec<u8>)> {
        let job = &self.entry;
        let mut fields =
            vec![("msg", self.message.clone()), ("state", job.state.as_str().as_bytes().to_vec())];
        let mut set = |name, value: Option<Vec<u8>>| {
            fields.extend(value.map(|value| (name, value)));
        };
        let since = job.pending_since.unwrap_or(now).as_micros();
        let is_pending = job.state == JobState::Pending;
        set("pending_since", is_pending.then(|| format!("{since}000").into_bytes()));
        set("group", job.grouped.then(|| job.record.group.clone().into_bytes()));
        set("unique_key", (!self.lock.is_empty()).then(|| self.lock.clone().into_bytes()));
        let at_start = job.unlock_at_start && !self.lock.is_empty();
        set("x_unlock", at_start.then(|| self.lock.clone().into_bytes()));
        let start_by = job.start_by.map(|at| at.as_micros().to_string().into_bytes());
        set("x_start_by", start_by);
        set("x_wait", job.turn.map(|turn| format!("{}:", turn.as_micros()).into_bytes()));
        set("x_lock", self.timed_lock.clone().map(String::into_bytes));
        set("result", job.result.clone());
        set("x_lost", (job.losses > 0).then(|| job.losses.to_string().into_bytes()));
        let json = |progress| serde_json::to_vec(progress).expect("two numbers and a text");
        set("x_progress", job.progress.as_ref().map(json));
        let lines: Vec<_> = job.failures.iter().map(JobFailure::to_line).collect();
        let versions = write_versions(job.first_failed_version.as_deref(), job.version.as_deref());
        set("x_version", versions.map(String::into_bytes));
        set("x_failures", (!lines.is_empty()).then(|| lines.join(&b'\n')));
        fields
    }
}

/// The instant that the score of this state keeps.
fn as_scored(state: JobState, at: Timestamp) -> Timestamp {
    match state {
        JobState::Scheduled | JobState::Retry => at,
        _ => Timestamp::from_secs(at.as_secs()),
    }
}
