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
use super::super::{RedisBroker, keys};
use super::stored_form::StoredForm;
use super::{Fields, TIMED, bytes_of, instant, read_entry, text_of, words};
use crate::broker::transfer::{Counters, HISTORY_KEPT, differs, job_differs};
use crate::broker::{
    Broker, Entry, Imported, JobEntry, MAX_PERIODIC_RUNS, PeriodicRun, PeriodicStore,
};
use crate::error::Error;
use crate::job::{JobState, QueueName};
use crate::pool::Repeat;
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
                let what = format!("counters of a minute of queue \"{queue}\"");
                let result = found.map_or(Imported::New, |found| compared(&what, &text, &found));
                if !dry_run && !matches!(result, Imported::Conflict(_)) {
                    // Also for a field that is there: a move may have broken off between the two.
                    let set = words([b"HSETNX", &key, &field, text.as_bytes()]);
                    let kept = MINUTES_KEPT.as_secs().to_string();
                    let expire = words([b"EXPIRE", &key, kept.as_bytes()]);
                    self.commands(&[set, expire]).await?;
                }
                Ok(result)
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
            let set = |(key, value): (Vec<u8>, Option<String>)| Some([key, value?.into_bytes()]);
            let pairs: Vec<_> = values.into_iter().filter_map(set).flatten().collect();
            // All of them or none: a part would look like another queue's counters to a move that
            // is made again. Zeros may be there.
            let name = if found.iter().all(Option::is_none) { "MSETNX" } else { "MSET" };
            if !pairs.is_empty() {
                self.command(Repeat::Safe, name, &pairs).await?;
            }
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
