//! Stores exported entries in Redis, unless something is there.
//!
//! Each entry is first compared with what is stored in its place: nothing, the same, or something
//! else, which is a conflict and stays. Only then is it written, with commands that do not
//! overwrite (`SET … NX`, `HSETNX`, a script for jobs). So an import that was interrupted can be
//! made again, and one into a store that is in use does no harm. Consecutive jobs of a queue share
//! their calls; other entries come one after another.
//!
//! What may surprise. What has expired since the export is counted and left out. Locks and keys
//! keep the end that they had.

use std::time::Duration;

use super::super::scripts::SCRIPTS;
use super::super::{RedisBroker, keys, wire};
use super::{Fields, TIMED, Value, bytes_of, instant, read_entry, text_of, words};
use crate::broker::transfer::{Counters, HISTORY_KEPT, differs, job_differs};
use crate::broker::{
    Broker, Entry, Imported, JobEntry, JobFailure, MAX_PERIODIC_RUNS, PeriodicRun, PeriodicStore,
};
use crate::error::Error;
use crate::job::{JobRecord, JobState, QueueName};
use crate::pool::{Repeat, ScriptCall};
use crate::time::Timestamp;

/// How long counters of a day are kept, as in Asynq.
const DAY_COUNTERS_KEPT: Duration = Duration::from_secs(90 * 86_400);

/// How long the counters of minutes are kept.
const MINUTES_KEPT: Duration = Duration::from_secs(7200);

/// How long the claim of a periodic job is kept whose store does not say: longer than a year,
/// so that a yearly job is not fired twice.
const CLAIM_KEPT: Duration = Duration::from_secs(400 * 86_400);

impl RedisBroker {
    /// Imports a page: one result for each entry, in order. Consecutive jobs of one queue share
    /// their calls; other entries come one after another.
    pub(super) async fn import_all(
        &self,
        entries: &[Entry],
        dry_run: bool,
    ) -> Result<Vec<Imported>, Error> {
        let mut results = Vec::with_capacity(entries.len());
        while results.len() < entries.len() {
            let rest = &entries[results.len()..];
            let queue = queue_of_job(&rest[0]);
            let jobs: Vec<&JobEntry> = rest
                .iter()
                .take_while(|entry| queue.is_some() && queue_of_job(entry) == queue)
                .filter_map(|entry| match entry {
                    Entry::Job(job) => Some(&**job),
                    _ => None,
                })
                .collect();
            match queue {
                Some(queue) => results.extend(self.import_jobs(queue, &jobs, dry_run).await?),
                None => results.push(self.import_one(&rest[0], dry_run).await?),
            }
        }
        Ok(results)
    }

    /// Stores those jobs whose ids are free, in order. The script looks again before it writes, so
    /// a job that was stored in between is a conflict and is not overwritten.
    async fn import_jobs(
        &self,
        queue: &QueueName,
        jobs: &[&JobEntry],
        dry_run: bool,
    ) -> Result<Vec<Imported>, Error> {
        let now = self.now();
        let there = self.existing(queue, jobs).await?;
        let mut results = Vec::with_capacity(jobs.len());
        let mut new = Vec::new();
        for (job, there) in jobs.iter().zip(there) {
            let wanted = StoredForm::of(queue, job);
            results.push(match there {
                Found::Job(there) if wanted.entry.is_same(&there) => Imported::AlreadyThere,
                Found::Job(there) => job_differs(&wanted.entry, &there),
                Found::Unreadable => unreadable(job),
                Found::Nothing if job.has_expired(now) => Imported::Expired,
                Found::Nothing => {
                    new.push((results.len(), wanted));
                    Imported::New
                }
            });
        }
        if dry_run || new.is_empty() {
            return Ok(results);
        }
        self.publish(std::iter::once(queue)).await;
        let add = |call| new.iter().fold(call, |call, (_, job)| job.add_args(call, now));
        let mut reply =
            self.ask(&SCRIPTS.restore_jobs, queue, Repeat::Never, |_, call| add(call)).await?;
        for (at, _) in &new {
            if reply.int()? == 0 {
                results[*at] = unreadable(jobs[*at]);
            }
        }
        Ok(results)
    }

    /// Reads what is stored under the ids of these jobs, with the score of each in the list of its
    /// state: two jobs are the same only if their times are.
    async fn existing(&self, queue: &QueueName, jobs: &[&JobEntry]) -> Result<Vec<Found>, Error> {
        let ids: Vec<_> = jobs.iter().map(|job| &job.record.id).collect();
        let found = self.read_fields(queue, &ids).await?;
        let mut states = Vec::with_capacity(found.len());
        let mut scores = Vec::new();
        for (job, fields) in jobs.iter().zip(&found) {
            let state = state_of(fields);
            states.push(state);
            if let Some(state) = state {
                let line = match state {
                    JobState::Aggregating => format!("g:{}", job.record.group),
                    _ => state.as_str().to_owned(),
                };
                let line = format!("{}{line}", keys::prefix(queue));
                // A list has no scores.
                let is_list = matches!(state, JobState::Pending | JobState::Active);
                let line = if is_list { keys::due(queue) } else { line };
                let id = job.record.id.as_bytes();
                scores.push(words([b"ZSCORE", line.as_bytes(), id]));
                scores.push(words([b"ZSCORE", keys::due(queue).as_bytes(), id]));
            }
        }
        let mut scores = self.commands(&scores).await?.into_iter().map(text_of);
        let all = jobs.iter().zip(found).zip(states).map(|((job, fields), state)| {
            let Some(state) = state else {
                let is_free = fields.iter().all(Option::is_none);
                return if is_free { Found::Nothing } else { Found::Unreadable };
            };
            let score = scores.next().flatten().and_then(|score| instant(&score));
            let due = scores.next().flatten().and_then(|due| due.parse().ok());
            let due = due.map(Timestamp::from_micros);
            let is_list = matches!(state, JobState::Pending | JobState::Active);
            let (score, due) = if is_list { (None, None) } else { (score, due) };
            match read_entry(queue, &job.record.id, state, fields, score, due) {
                Some(entry) => Found::Job(Box::new(entry)),
                None => Found::Unreadable,
            }
        });
        Ok(all.collect())
    }

    /// Imports an entry that is not a job. Most are one key that is set unless it exists.
    async fn import_one(&self, entry: &Entry, dry_run: bool) -> Result<Imported, Error> {
        match entry {
            Entry::Job(_) | Entry::Unreadable { .. } => Ok(Imported::AlreadyThere),
            Entry::Queue { queue, paused, processed, failed } => {
                self.import_queue(queue, (*paused, *processed, *failed), dry_run).await
            }
            Entry::Lock { queue, name, holder, until, timed } => {
                let mark = if *timed { TIMED } else { b"" };
                let value = [mark, holder.as_bytes()].concat();
                let value = (keys::unique_named(queue, name), value);
                let what = format!("a unique lock of queue \"{queue}\"");
                self.set(&what, value, Some(*until), dry_run).await
            }
            Entry::Request { queue, key, body, job, until } => {
                let text = [body.as_bytes(), b":", job.as_bytes()].concat();
                let value = (keys::idempotency(queue, key), text);
                let what = format!("an idempotency key of queue \"{queue}\"");
                self.set(&what, value, Some(*until), dry_run).await
            }
            Entry::KeyQueue { key, queue, until } => {
                let value = (keys::queue_of_key(key), queue.as_str().as_bytes().to_vec());
                self.set("the queue of an idempotency key", value, Some(*until), dry_run).await
            }
            Entry::Claim { queue, name, up_to, last_run, until } => {
                let last = last_run.map(|last| last.as_micros().to_string()).unwrap_or_default();
                let text = format!("{}:{last}", up_to.as_micros()).into_bytes();
                let until = until.unwrap_or(self.now() + CLAIM_KEPT);
                let what = format!("the claim of periodic job \"{name}\" in queue \"{queue}\"");
                self.set(&what, (keys::claim(queue, name), text), Some(until), dry_run).await
            }
            Entry::Admitted { queue, job, at } => {
                let key = keys::admitted(queue).into_bytes();
                let found = [key.clone(), job.as_bytes().to_vec()];
                if self.command(Repeat::Safe, "ZSCORE", &found).await? != Value::Nil {
                    return Ok(Imported::AlreadyThere);
                }
                if !dry_run {
                    let at = at.as_micros().to_string().into_bytes();
                    let add = [key, b"NX".to_vec(), at, job.as_bytes().to_vec()];
                    self.command(Repeat::Safe, "ZADD", &add).await?;
                }
                Ok(Imported::New)
            }
            Entry::Runs { periodic_id, runs } => self.import_runs(periodic_id, runs, dry_run).await,
            Entry::Day { queue, day, processed, failed } => {
                let midnight = Timestamp::from_secs(day.saturating_mul(86_400));
                let (date, until) = (midnight.date(), Some(midnight + DAY_COUNTERS_KEPT));
                let what = format!("counters of queue \"{queue}\" on {date}");
                let value = |key: String, number: &u64| (key, number.to_string().into_bytes());
                let both = [
                    value(keys::processed_on(queue, &date), processed),
                    value(keys::failed_on(queue, &date), failed),
                ];
                self.set_both(&what, both, until, *failed > 0, dry_run).await
            }
            Entry::Minute { queue, minute, processed, failed, pending } => {
                let ends = Timestamp::from_secs(minute.saturating_mul(60)) + MINUTES_KEPT;
                if ends <= self.now() {
                    return Ok(Imported::Expired);
                }
                let key = keys::minutes(queue).into_bytes();
                let field = minute.rem_euclid(90).to_string().into_bytes();
                let text = format!("{minute} {processed} {failed} {pending}");
                let read = [key.clone(), field.clone()];
                let found = text_of(self.command(Repeat::Safe, "HGET", &read).await?);
                if let Some(found) = found {
                    let what = format!("counters of a minute of queue \"{queue}\"");
                    return Ok(compared(&what, &text, &found));
                }
                if !dry_run {
                    let set = [key.clone(), field, text.into_bytes()];
                    self.command(Repeat::Safe, "HSETNX", &set).await?;
                    let kept = MINUTES_KEPT.as_secs().to_string().into_bytes();
                    self.command(Repeat::Safe, "EXPIRE", &[key, kept]).await?;
                }
                Ok(Imported::New)
            }
        }
    }

    /// Makes the queue exist, paused and with its counters.
    async fn import_queue(
        &self,
        queue: &QueueName,
        wanted: (Option<Timestamp>, u64, u64),
        dry_run: bool,
    ) -> Result<Imported, Error> {
        let prefix = keys::prefix(queue);
        let key = |name: &str| format!("{prefix}{name}").into_bytes();
        let (paused, processed, failed) = wanted;
        let paused = paused.map(|since| since.as_secs());
        let values = [
            (key("paused"), paused.map(|since| since.to_string())),
            (key("processed"), Some(processed.to_string()).filter(|_| processed > 0)),
            (key("failed"), Some(failed.to_string()).filter(|_| failed > 0)),
        ];
        let get = |(key, _): &(Vec<u8>, _)| words([b"GET", key]);
        let found = self.commands(&values.each_ref().map(get)).await?;
        let found: Vec<Option<String>> = found.into_iter().map(text_of).collect();
        let is_known = self.is_known(queue).await?;
        let number = |at: usize| -> Option<u64> { found[at].as_ref()?.parse().ok() };
        if found.iter().any(Option::is_some) || is_known {
            let paused = number(0).map(|since| Timestamp::from_secs(since.cast_signed()));
            let there = (paused, number(1).unwrap_or(0), number(2).unwrap_or(0));
            let wanted = (wanted.0.map(|at| Timestamp::from_secs(at.as_secs())), processed, failed);
            let is_empty = there == (None, 0, 0);
            if there == wanted && is_known {
                return Ok(Imported::AlreadyThere);
            }
            if !is_empty && there != wanted {
                let what = format!("pause and counters of queue \"{queue}\"");
                return Ok(differs(&what, Counters(wanted), Counters(there)));
            }
        }
        if !dry_run {
            self.publish(std::iter::once(queue)).await;
            let set = |(key, value): (Vec<u8>, Option<String>)| {
                Some(words([b"SET", &key, value?.as_bytes(), b"NX"]))
            };
            let sets: Vec<_> = values.into_iter().filter_map(set).collect();
            self.commands(&sets).await?;
        }
        Ok(Imported::New)
    }

    /// Adds the runs that the history of this periodic job lacks. Runs are not compared one by one:
    /// a history is for reading, so more runs are never a conflict.
    async fn import_runs(
        &self,
        periodic_id: &str,
        runs: &[PeriodicRun],
        dry_run: bool,
    ) -> Result<Imported, Error> {
        let known = self.periodic_history(periodic_id, 0, MAX_PERIODIC_RUNS).await?;
        let new: Vec<_> = runs.iter().filter(|run| !known.contains(run)).collect();
        if new.is_empty() {
            return Ok(Imported::AlreadyThere);
        }
        for run in new.into_iter().filter(|_| !dry_run) {
            self.record_run(periodic_id, run, HISTORY_KEPT).await?;
        }
        Ok(Imported::New)
    }

    /// Sets a key unless it exists, with the rest of its time. An equal value is there already,
    /// another one is a conflict, described by `what`.
    async fn set(
        &self,
        what: &str,
        (key, value): (String, Vec<u8>),
        until: Option<Timestamp>,
        dry_run: bool,
    ) -> Result<Imported, Error> {
        let read = [key.clone().into_bytes()];
        if let Some(found) = bytes_of(self.command(Repeat::Safe, "GET", &read).await?) {
            let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Ok(compared(what, &shown(&value), &shown(&found)));
        }
        let left = until.map(|until| until.since(self.now()).as_millis());
        if left == Some(0) {
            return Ok(Imported::Expired);
        }
        if dry_run {
            return Ok(Imported::New);
        }
        let mut set = vec![key.into_bytes(), value, b"NX".to_vec()];
        if let Some(left) = left {
            set.extend([b"PX".to_vec(), left.to_string().into_bytes()]);
        }
        self.command(Repeat::Safe, "SET", &set).await?;
        Ok(Imported::New)
    }

    /// Sets the two counters of a day unless they exist; the second one only if it is not zero, as
    /// Asynq keeps no counter of zero failures.
    async fn set_both(
        &self,
        what: &str,
        [first, second]: [(String, Vec<u8>); 2],
        until: Option<Timestamp>,
        with_second: bool,
        dry_run: bool,
    ) -> Result<Imported, Error> {
        let one = self.set(what, first, until, dry_run).await?;
        if !with_second || matches!(one, Imported::Conflict(_) | Imported::Expired) {
            return Ok(one);
        }
        let other = self.set(what, second, until, dry_run).await?;
        Ok(if other == Imported::AlreadyThere { one } else { other })
    }
}

/// The queue of a job; `None` for another entry.
fn queue_of_job(entry: &Entry) -> Option<&QueueName> {
    match entry {
        Entry::Job(job) => Some(&job.record.queue),
        _ => None,
    }
}

/// What is stored under an id.
enum Found {
    Nothing,
    Job(Box<JobEntry>),
    Unreadable,
}

/// The state of a job with a message.
fn state_of(fields: &Fields) -> Option<JobState> {
    fields.first()?.as_ref()?;
    let state = fields.get(7)?.as_ref()?;
    JobState::parse(std::str::from_utf8(state).ok()?)
}

/// The conflict of an id that is taken by something that cannot be read as a job.
fn unreadable(job: &JobEntry) -> Imported {
    Imported::Conflict(format!(
        "job \"{}\" of queue \"{}\": expected the same job, found something else with its id",
        job.record.id, job.record.queue
    ))
}

/// The result for a value that exists: the same one, or a conflict.
fn compared(what: &str, wanted: &str, found: &str) -> Imported {
    if wanted == found { Imported::AlreadyThere } else { differs(what, wanted, found) }
}

/// A job as Redis will have it.
struct StoredForm {
    /// Without what Asynq's message cannot hold.
    entry: JobEntry,
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
    fn of(queue: &QueueName, job: &JobEntry) -> Self {
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
    fn add_args(&self, call: ScriptCall, now: Timestamp) -> ScriptCall {
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
        set("x_lock", self.timed_lock.clone().map(String::into_bytes));
        set("result", job.result.clone());
        set("x_lost", (job.losses > 0).then(|| job.losses.to_string().into_bytes()));
        let json = |progress| serde_json::to_vec(progress).expect("two numbers and a text");
        set("x_progress", job.progress.as_ref().map(json));
        let lines: Vec<_> = job.failures.iter().map(JobFailure::to_line).collect();
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
