//! Lists of jobs and single jobs, for operators.
//!
//! A page is read by one script that returns rows up to a number and to a size, and
//! says where the next page begins. Each row has the entry's id, message, state and
//! score; turning it into a [`JobInfo`] happens here. A row that is not a complete job
//! becomes a [`CorruptEntry`] that describes the defect, so that one damaged job hides
//! no other and no page fails.
//!
//! What the list script does not return is added afterwards: whether unique locks
//! are held, in one call, and which process runs each active job, in one `HMGET`
//! per announced process. Large messages and results are read by plain commands, a
//! bounded number of bytes at a time and one call after another, so that Redis serves
//! others in between. A page ends at [`MAX_PAGE_BYTES`], and then has fewer rows than
//! requested.
//!
//! What may surprise. Pending and active jobs are lists that move while they are
//! read. Their cursor remembers the index and the ids of two rows, and the script
//! searches for these rows near that index.

use std::collections::HashMap;

use ::redis::Value;
use futures_util::future::join_all;

use super::inspect::nanos;
use super::limits::waited_for;
use super::reply::Reply;
use super::scripts::SCRIPTS;
use super::{RedisBroker, keys, wire};
use crate::broker::{
    Begin, Broker, CorruptEntry, Corruption, Cursor, JobFailure, JobInfo, JobList, JobPage, JobRow,
    JobWorker, MAX_PAGE_BYTES, Mark, Page,
};
use crate::error::Error;
use crate::job::{AfterCancel, JobId, JobState, Progress, QueueName};
use crate::pool::Repeat;
use crate::time::Timestamp;

/// The script's mark of a row whose message and result it did not read.
const UNREAD: i64 = 4;

/// Maximum bytes of messages and results that one call reads, unless a single job has more, and
/// maximum jobs: Redis serves nobody else while it copies them.
const MAX_CALL_BYTES: usize = 256 * 1024;
const MAX_CALL_ROWS: usize = 25;

/// Maximum tries to read a job that moves to another state meanwhile.
const MAX_TRIES: u32 = 10;

/// One entry of a list, as the scripts return it.
struct ListEntry {
    /// The id as stored; it need not be UTF-8.
    id: Vec<u8>,
    /// What the script found: 0 a job, 1 nothing, 2 another type, 3 no message, [`UNREAD`].
    found: i64,
    /// The stored message.
    message: Vec<u8>,
    /// The `state` field, unchecked.
    state: String,
    /// The score in the list: due, lease end, archived, expiry or joined.
    at: Option<Timestamp>,
    /// How often its worker has vanished.
    losses: u32,
    /// Asynq's field in nanoseconds; empty if missing.
    pending_since: String,
    /// The result, if one was written.
    result: Option<Vec<u8>>,
    /// `None` also if it cannot be read: a page does not fail for it.
    progress: Option<Progress>,
    /// What an operator wants to happen once the attempt has ended.
    cancelling: Option<AfterCancel>,
    /// Bytes of message and result.
    bytes: usize,
    /// For which limit and key it waits, `<limit>:<key>`; empty if it does not.
    waits_for: String,
    /// The instant by which it must have started.
    start_by: Option<Timestamp>,
    /// The versions of the first failed and of the last attempt.
    versions: String,
}

impl ListEntry {
    /// Reads the next row of a reply.
    fn read(reply: &mut Reply) -> Result<Self, Error> {
        let (id, found, message) = (reply.bytes()?, reply.int()?, reply.bytes()?);
        let (state, at) = (reply.text()?, reply.instant()?);
        let losses = u32::try_from(reply.int()?).unwrap_or(0);
        let pending_since = reply.text()?;
        let (has_result, result) = (reply.int()? == 1, reply.bytes()?);
        let result = has_result.then_some(result);
        let progress = serde_json::from_slice(&reply.bytes()?).ok();
        let cancelling = AfterCancel::parse(&reply.text()?);
        let bytes = usize::try_from(reply.size()?).unwrap_or(usize::MAX);
        let waits_for = reply.text()?;
        let start_by = reply.text()?.parse().ok().map(Timestamp::from_micros);
        let versions = reply.text()?;
        Ok(Self {
            id,
            found,
            message,
            state,
            at,
            losses,
            pending_since,
            result,
            progress,
            cancelling,
            bytes,
            waits_for,
            start_by,
            versions,
        })
    }

    /// The id of the entry.
    fn id(&self) -> JobId {
        JobId::stored(self.id.as_slice())
    }

    /// The job, or what is wrong with it. `listed` is the state of the list in which it was
    /// found, or `None` if it was asked for by its id; a job that says another state is a
    /// corrupt entry there.
    fn into_info(
        self,
        queue: &QueueName,
        listed: Option<JobState>,
        now: Timestamp,
    ) -> Result<JobInfo, CorruptEntry> {
        let id = self.id();
        let broken = |corruption| CorruptEntry {
            queue: queue.clone(),
            id: id.clone(),
            corruption,
            message_bytes: self.message.len() as u64,
        };
        match self.found {
            0 => {}
            2 => return Err(broken(Corruption::WrongType)),
            3 => return Err(broken(Corruption::NoMessage)),
            _ => return Err(broken(Corruption::Missing)),
        }
        let Some(job) = wire::decode(queue, &id, &self.message) else {
            return Err(broken(Corruption::UnreadableMessage));
        };
        if self.state.is_empty() {
            return Err(broken(Corruption::NoState));
        }
        let Some(state) = JobState::parse(&self.state) else {
            return Err(broken(Corruption::UnknownState(self.state.clone())));
        };
        if listed.is_some_and(|listed| listed != state) {
            return Err(broken(Corruption::OtherState(state)));
        }
        let mut info = JobInfo::new(job, state);
        match state {
            JobState::Pending => info.pending_since = nanos(&self.pending_since),
            JobState::Active => {
                info.lease_ends = self.at;
                info.orphaned = self.at.is_none_or(|ends| ends <= now);
            }
            JobState::Scheduled | JobState::Retry => {
                info.due = self.at;
                info.waiting_for = waited_for(&self.waits_for);
            }
            JobState::Archived => info.archived_at = self.at,
            JobState::Completed => info.expires = self.at,
            JobState::Aggregating => info.grouped_since = self.at,
        }
        info.start_by = self.start_by.filter(|_| state.may_expire());
        info.losses = self.losses;
        (info.first_failed_version, info.version) = read_versions(&self.versions);
        info.result = self.result;
        info.progress = self.progress;
        info.cancelling = self.cancelling;
        Ok(info)
    }
}

/// The versions of the first failed and of the last attempt, of the field `x_version`.
pub(super) fn read_versions(field: &str) -> (Option<String>, Option<String>) {
    let (first, last) = field.split_once(' ').unwrap_or_default();
    let known = |version: &str| Some(version.to_owned()).filter(|version| !version.is_empty());
    (known(first), known(last))
}

/// The inverse of [`read_versions`]; `None` if neither is known.
pub(super) fn write_versions(first: Option<&str>, last: Option<&str>) -> Option<String> {
    let either = first.is_some() || last.is_some();
    either.then(|| format!("{} {}", first.unwrap_or_default(), last.unwrap_or_default()))
}

impl RedisBroker {
    /// Reads one job, with its lock, its failures and the process that runs it. `None` if there
    /// is none.
    ///
    /// # Errors
    /// [`Error::is_damaged`] for a job that is not complete. A list shows such a job as a row;
    /// a question about this one job is answered with the defect.
    pub(super) async fn one_job(
        &self,
        queue: &QueueName,
        id: &JobId,
    ) -> Result<Option<JobInfo>, Error> {
        let Some((row, failures)) = self.read_row(queue, id).await? else { return Ok(None) };
        let mut info = row.into_info(queue, None, self.now()).map_err(|broken| {
            let what = match broken.corruption {
                Corruption::WrongType => "something else is stored in its place",
                Corruption::NoState | Corruption::UnknownState(_) => "its state is unreadable",
                _ => "its message is unreadable",
            };
            Error::damaged(format!("job \"{id}\": {what}"))
        })?;
        info.failures = failures.split(|b| *b == b'\n').filter_map(JobFailure::from_line).collect();
        let mut rows = [JobRow::Job(Box::new(info))];
        self.add_locks_and_workers(queue, &mut rows).await?;
        let [JobRow::Job(info)] = rows else { return Ok(None) };
        Ok(Some(*info))
    }

    /// Reads the row of one job, and its last failures.
    async fn read_row(
        &self,
        queue: &QueueName,
        id: &JobId,
    ) -> Result<Option<(ListEntry, Vec<u8>)>, Error> {
        for _ in 0..MAX_TRIES {
            let mut found = self
                .ask(&SCRIPTS.read_job, queue, Repeat::Safe, |_, call| call.arg(id.as_bytes()))
                .await?;
            if found.is_empty() {
                return Ok(None);
            }
            let mut rows = vec![ListEntry::read(&mut found)?];
            self.read_large(queue, &mut rows).await?;
            if let Some(row) = rows.pop() {
                return Ok(Some((row, found.bytes()?)));
            }
        }
        Err(Error::unavailable(format!("job \"{id}\" moves while it is read: retry later")))
    }

    /// Reads a page of a list.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a cursor of another list: one of a sorted set does not fit a
    /// list, and the other way round.
    pub(super) async fn page_of(
        &self,
        queue: &QueueName,
        list: JobList<'_>,
        page: &Page,
    ) -> Result<JobPage, Error> {
        let (state, key) = match list {
            JobList::State(state) => (state, state.as_str().to_owned()),
            JobList::Group(group) => (JobState::Aggregating, format!("g:{group}")),
        };
        let in_list = matches!(state, JobState::Pending | JobState::Active);
        let begin = page.begin()?;
        let from: (&str, Vec<u8>, &[u8], &[u8]) = match begin {
            Begin::At(skip) => ("at", skip.to_string().into(), b"", b""),
            Begin::After(Mark::Scored { score, id }) if !in_list => {
                ("after", score.as_bytes().to_vec(), id, b"")
            }
            Begin::After(Mark::Listed { place, last, first }) if in_list => {
                ("after", place.to_string().into(), last, first)
            }
            Begin::After(_) => return Err(Cursor::foreign()),
        };
        let mut found = self
            .ask(&SCRIPTS.list_jobs, queue, Repeat::Safe, |_, call| {
                let call = call.arg(state.as_str()).arg(key.as_str()).arg(page.rows());
                let call = call.arg(from.0).arg(from.1.as_slice()).arg(from.2).arg(from.3);
                let way = if page.is_backward() { "backward" } else { "forward" };
                call.arg(MAX_PAGE_BYTES).arg(way)
            })
            .await?;
        let (total, before, last_score) = (found.size()?, found.size()?, found.text()?);
        let mut rows = Vec::new();
        while !found.is_empty() {
            rows.push(ListEntry::read(&mut found)?);
        }
        let end = before + rows.len() as u64;
        let next = match (rows.first(), rows.last()) {
            (Some(first), Some(last)) if end < total => Some(Cursor::new(if in_list {
                Mark::Listed { place: end - 1, last: last.id.clone(), first: first.id.clone() }
            } else {
                Mark::Scored { score: last_score, id: last.id.clone() }
            })),
            _ => None,
        };
        self.read_large(queue, &mut rows).await?;
        let now = self.now();
        let understood = rows.into_iter().map(|row| match row.into_info(queue, Some(state), now) {
            Ok(info) => JobRow::Job(Box::new(info)),
            Err(broken) => JobRow::Corrupt(broken),
        });
        let mut rows: Vec<JobRow> = understood.collect();
        self.add_locks_and_workers(queue, &mut rows).await?;
        Ok(JobPage { rows, total, next })
    }

    /// Reads the messages and results that the script left out. Rows whose job has moved to
    /// another state meanwhile are removed.
    async fn read_large(&self, queue: &QueueName, rows: &mut Vec<ListEntry>) -> Result<(), Error> {
        // A pipeline cannot follow a slot that moves.
        let most = if self.pool.is_cluster() { 1 } else { MAX_CALL_ROWS };
        let mut rest: &mut [ListEntry] = rows;
        while let Some(first) = rest.iter().position(|row| row.found == UNREAD) {
            let mut bytes = 0_usize;
            let fits = |row: &&ListEntry| {
                bytes = bytes.saturating_add(row.bytes);
                row.found == UNREAD && bytes <= MAX_CALL_BYTES
            };
            let count = rest[first..].iter().take(most).take_while(fits).count().max(1);
            let (some, others) = rest[first..].split_at_mut(count);
            if let Err(error) = self.read_values(queue, some).await {
                if error.is_unavailable() {
                    return Err(error);
                }
                // A key is of another type by now: each job is read by itself.
                for row in some {
                    match self.read_values(queue, std::slice::from_mut(row)).await {
                        Err(error) if error.is_unavailable() => return Err(error),
                        Err(_) => row.found = 2,
                        Ok(()) => {}
                    }
                }
            }
            rest = others;
        }
        rows.retain(|row| row.found != UNREAD);
        Ok(())
    }

    /// Reads the messages and results of these rows in one call. A row whose job has moved
    /// stays unread.
    async fn read_values(&self, queue: &QueueName, rows: &mut [ListEntry]) -> Result<(), Error> {
        let arguments = |row: &ListEntry| {
            let fields = ["state", "msg", "result"].map(Vec::from);
            [vec![keys::task(queue, &row.id())], fields.to_vec()].concat()
        };
        let answers = match &*rows {
            [row] => vec![self.command(Repeat::Safe, "HMGET", &arguments(row)).await?],
            rows => {
                let build = |_| {
                    let mut pipeline = ::redis::pipe();
                    for row in rows {
                        pipeline.cmd("HMGET").arg(arguments(row));
                    }
                    pipeline
                };
                self.pool.run_pipeline(Repeat::Safe, build).await?
            }
        };
        for (row, answer) in rows.iter_mut().zip(answers) {
            let mut values = Reply::new(answer)?;
            let (state, message) = (values.value(), values.value());
            let text = |value| match value {
                Some(Value::BulkString(bytes)) => Some(bytes),
                _ => None,
            };
            if text(state).unwrap_or_default() != row.state.as_bytes() {
                continue;
            }
            let message = text(message);
            row.found = if message.is_some() { 0 } else { 3 };
            row.message = message.unwrap_or_default();
            row.result = text(values.value());
        }
        Ok(())
    }

    /// Adds what the list script does not return: held locks, and the processes of active jobs.
    async fn add_locks_and_workers(
        &self,
        queue: &QueueName,
        rows: &mut [JobRow],
    ) -> Result<(), Error> {
        let mut jobs: Vec<&mut JobInfo> = rows
            .iter_mut()
            .filter_map(|row| match row {
                JobRow::Job(info) => Some(&mut **info),
                JobRow::Corrupt(_) => None,
            })
            .collect();
        self.add_locks(queue, &mut jobs).await?;
        if jobs.iter().any(|info| info.state == JobState::Active) {
            self.add_workers(queue, &mut jobs).await?;
        }
        Ok(())
    }

    /// Adds whether each job holds its unique lock. That a message names a lock does not mean
    /// that the job has it: the lock may have expired, and another job may have taken it.
    async fn add_locks(&self, queue: &QueueName, jobs: &mut [&mut JobInfo]) -> Result<(), Error> {
        let mut unique: Vec<_> =
            jobs.iter_mut().filter(|info| !info.record.unique_key.is_empty()).collect();
        if unique.is_empty() {
            return Ok(());
        }
        let mut held = self
            .ask(&SCRIPTS.check_locks, queue, Repeat::Safe, |_, mut call| {
                for info in &unique {
                    call = call.arg(info.record.id.as_bytes()).arg(info.record.unique_key.as_str());
                }
                call
            })
            .await?;
        for info in &mut unique {
            info.locked = held.int()? == 1;
        }
        Ok(())
    }

    /// Adds the processes that announced to run these jobs. If an ACL forbids reading the
    /// announcements, none is added.
    async fn add_workers(&self, queue: &QueueName, jobs: &mut [&mut JobInfo]) -> Result<(), Error> {
        let processes = match self.live(keys::WORKERS).await {
            Ok(processes) => processes,
            Err(error) if error.is_unavailable() => return Err(error),
            Err(_) => return Ok(()),
        };
        let asked = processes.into_iter().map(|process| {
            let mut args = vec![process];
            args.extend(jobs.iter().map(|info| info.record.id.as_bytes().to_vec()));
            async move { self.command(Repeat::Safe, "HMGET", &args).await }
        });
        let mut workers = HashMap::new();
        for answer in join_all(asked).await {
            let values = match answer {
                Ok(Value::Array(values)) => values,
                Err(error) if error.is_unavailable() => return Err(error),
                _ => continue,
            };
            for (job, value) in jobs.iter().zip(values) {
                let Value::BulkString(bytes) = value else { continue };
                let id = job.record.id.as_bytes();
                let Some((info, by)) = wire::worker(id, &bytes) else { continue };
                if info.queue == *queue {
                    let worker = JobWorker {
                        host: by.host,
                        pid: i64::from(by.pid),
                        server_id: by.server_id,
                        started: info.started,
                        deadline: info.deadline,
                    };
                    workers.insert(info.id, worker);
                }
            }
        }
        for info in jobs {
            info.worker = workers.remove(&info.record.id);
        }
        Ok(())
    }
}
