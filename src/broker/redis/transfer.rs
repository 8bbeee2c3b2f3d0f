//! Moving everything out of Redis and into it.
//!
//! An export reads the lists and sorted sets of a queue page by page with plain commands. Then it
//! finds the locks, idempotency keys, claims and counters of all queues by scanning the keys of
//! each server once.
//! An import reads what is there, compares, and stores the jobs that are missing by one script
//! per page, which tests again that their ids are free. Locks and counters are set only if
//! they are not there.
//!
//! What may surprise. Jobs of an aggregation set are exported as members of their group. The
//! queue of an idempotency key and the history of a periodic job lie beside the queues, where
//! a Cluster cannot be searched: they are found by the keys of the queue that belong to them.

mod export;
mod import;
mod stored_form;
mod values;

use ::redis::Value;

use super::rows::read_versions;
use super::{RedisBroker, keys, wire};
use crate::broker::{Answer, Entry, Export, Imported, JobEntry, JobFailure, Transfer};
use crate::error::Error;
use crate::job::{JobId, JobState, QueueName};
use crate::pool::Repeat;
use crate::time::Timestamp;
use export::RedisExport;

/// The fields of a job's hash that are moved, in the order of [`read_entry`].
const FIELDS: [&str; 15] = [
    "msg",
    "pending_since",
    "group",
    "result",
    "x_progress",
    "x_lost",
    "x_failures",
    "state",
    "unique_key",
    "x_lock",
    "x_unlock",
    "x_wait",
    "x_start_by",
    "x_version",
    "x_then",
];

/// Marks the value of a lock that nothing but time ends, as `common.lua` does.
const TIMED: &[u8] = b"x:expiry:";

impl Transfer for RedisBroker {
    fn foreign_format(&self) -> Answer<'_, Option<String>> {
        Box::pin(self.read_foreign_format())
    }

    fn export(&self) -> Box<dyn Export> {
        Box::new(RedisExport::new(self.clone()))
    }

    fn import<'a>(&'a self, entries: &'a [Entry], dry_run: bool) -> Answer<'a, Vec<Imported>> {
        Box::pin(self.import_all(entries, dry_run))
    }
}

/// A job's hash as text.
type Fields = Vec<Option<Vec<u8>>>;

impl RedisBroker {
    /// Several commands on one queue; their replies in order.
    async fn commands(&self, commands: &[Vec<Vec<u8>>]) -> Result<Vec<Value>, Error> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let build = |_| {
            let mut pipeline = ::redis::pipe();
            for words in commands {
                let mut words = words.iter();
                if let Some(name) = words.next() {
                    let command = pipeline.cmd(&String::from_utf8_lossy(name));
                    words.for_each(|word| _ = command.arg(word.as_slice()));
                }
            }
            pipeline
        };
        self.pool.run_pipeline(Repeat::Safe, build).await
    }

    /// Several commands that read; nil for a key of another type, so that one damaged key does not
    /// keep all others from being read.
    async fn reads(&self, commands: &[Vec<Vec<u8>>]) -> Result<Vec<Value>, Error> {
        let error = match self.commands(commands).await {
            Err(error) if error.is_damaged() => error,
            other => return other,
        };
        if commands.len() == 1 {
            crate::log::debug!("a key is of another type than expected: {error}");
            return Ok(vec![Value::Nil]);
        }
        let mut all = Vec::with_capacity(commands.len());
        for one in commands {
            all.extend(match self.commands(std::slice::from_ref(one)).await {
                Err(error) if error.is_damaged() => vec![Value::Nil],
                other => other?,
            });
        }
        Ok(all)
    }

    /// The hashes of jobs, in order.
    async fn read_fields(&self, queue: &QueueName, ids: &[&JobId]) -> Result<Vec<Fields>, Error> {
        let read = |id: &&JobId| {
            let fields = FIELDS.iter().map(|field| field.as_bytes().to_vec());
            [b"HMGET".to_vec(), keys::task(queue, id)].into_iter().chain(fields).collect()
        };
        let commands: Vec<_> = ids.iter().map(read).collect();
        self.reads(&commands).await?.into_iter().map(fields_of).collect()
    }
}

/// The values of `HMGET`. A key of another type has something, but no message.
fn fields_of(value: Value) -> Result<Fields, Error> {
    match value {
        Value::Nil => Ok(vec![None, Some(Vec::new())]),
        Value::Array(values) => Ok(values.into_iter().map(bytes_of).collect()),
        _ => Err(super::reply::unexpected()),
    }
}

/// The bytes of a value, if it is text.
fn bytes_of(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn text_of(value: Value) -> Option<String> {
    bytes_of(value).and_then(|bytes| String::from_utf8(bytes).ok())
}

/// Words of a command.
fn words<const N: usize>(words: [&[u8]; N]) -> Vec<Vec<u8>> {
    words.map(<[u8]>::to_vec).into()
}

/// A score in seconds as an instant.
fn instant(score: &str) -> Option<Timestamp> {
    let seconds: f64 = score.parse().ok()?;
    // The calendar's bounds; what is beyond is damage.
    Some(Timestamp::from_micros((seconds.clamp(0.0, 253_402_300_799.0) * 1e6).round() as i64))
}

/// A job in a list of this state. `score` is its score there, `due` its exact due time. `None`
/// if its message cannot be read.
fn read_entry(
    queue: &QueueName,
    id: &JobId,
    state: JobState,
    fields: Fields,
    score: Option<Timestamp>,
    due: Option<Timestamp>,
) -> Option<JobEntry> {
    let mut fields = fields.into_iter();
    let mut next = || fields.next().flatten();
    let message = next()?;
    let mut record = wire::decode(queue, id, &message)?;
    let is_ours = wire::encode(&record) == message;
    let name = keys::unique_name(queue, &record.unique_key).to_owned();
    record.unique_key = name;
    let text =
        |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let pending_since = text(next());
    let grouped = next().is_some();
    let (result, progress, lost) = (next(), next(), text(next()));
    let failures = next().unwrap_or_default();
    let (_state, _lock) = (next(), next());
    let timed_lock = text(next()).map(|key| keys::unique_name(queue, &key).to_owned());
    let unlock_at_start = next().is_some();
    // It is scheduled only because a limit has no room, and limits do not move. Of a job that
    // never waited only the turn is known.
    let wait = text(next()).unwrap_or_default();
    let waits = wait.matches(':').count() > 1 && state == JobState::Scheduled;
    let turn = wait.split(':').next().and_then(|turn| turn.parse().ok());
    let keeps_turn =
        waits || matches!(state, JobState::Pending | JobState::Active | JobState::Retry);
    let start_by = text(next()).and_then(|at| at.parse().ok()).map(Timestamp::from_micros);
    let versions = text(next()).unwrap_or_default();
    let (first_failed_version, version) = read_versions(&versions);
    // What a successor waits for does not move: it is due by itself.
    let then = text(next()).filter(|_| state == JobState::Scheduled);
    let then =
        then.and_then(|then| then.split(',').next()?.parse().ok()).map(Timestamp::from_micros);
    // The exact time counts if it is the one whose second Asynq's tools see.
    let due = due.filter(|due| score.is_some_and(|score| due.as_secs_ceil() == score.as_secs()));
    let was_active = state == JobState::Active;
    Some(JobEntry {
        record,
        state: if was_active || waits { JobState::Pending } else { state },
        was_active,
        at: then.or(due).or(score).filter(|_| !waits),
        turn: turn.filter(|_| keeps_turn).map(Timestamp::from_micros),
        pending_since: pending_since.as_deref().and_then(super::inspect::nanos),
        grouped,
        timed_lock,
        unlock_at_start,
        start_by: start_by.filter(|_| state.may_expire()),
        result,
        progress: progress.and_then(|json| serde_json::from_slice(&json).ok()),
        losses: lost.and_then(|lost| lost.parse().ok()).unwrap_or(0),
        version,
        first_failed_version,
        failures: failures.split(|b| *b == b'\n').filter_map(JobFailure::from_line).collect(),
        message: (!is_ours).then_some(message),
    })
}
