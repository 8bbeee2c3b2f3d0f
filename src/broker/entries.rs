//! Periodic entries in the store: who fires a tick, and what the world is told.

use std::time::Duration;

use serde::Serialize;

use super::{Answer, option_text};
use crate::error::Error;
use crate::job::{JobId, NewJob, QueueName, serial};
use crate::time::Timestamp;

/// How long an announcement of entries stands; it is repeated every 10 s.
pub const ENTRIES_ANNOUNCED_FOR: Duration = Duration::from_secs(20);

/// How many runs of an entry are remembered: Asynq's own number.
pub const HISTORY: usize = 1000;

/// A claim this far ahead of the store's clock was made before that clock was set
/// back: waiting for it could take for ever.
pub const CLAIM_AHEAD: Duration = Duration::from_secs(86_400);

/// Ticks of one entry that a process thinks are due.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// The entry's name.
    pub entry: String,
    /// The queue of its jobs, in which ticks are claimed.
    pub queue: QueueName,
    /// Up to where ticks are claimed as far as this process knows; asked only
    /// where the store knows nothing. `None` in a process that has just begun: for
    /// a new entry, ticks count from now.
    pub known: Option<Timestamp>,
    /// How long the claim is kept.
    pub keep: Duration,
    /// Ticks in order, each with its job. None of them: only ask for the claim,
    /// and begin one where there is none.
    pub ticks: Vec<(Timestamp, NewJob)>,
}

/// How firing went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Up to where ticks are claimed now.
    pub claimed: Timestamp,
    /// When a job was stored last, by whichever process.
    pub last_run: Option<Timestamp>,
    /// What became of each tick.
    pub ticks: Vec<Tick>,
}

/// What became of one tick.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tick {
    /// Its job is stored.
    Fired {
        /// When.
        at: Timestamp,
    },
    /// It, or a later one, was claimed before.
    Claimed,
    /// Skipped: a job holds the unique lock.
    Locked {
        /// That job.
        holder: JobId,
    },
    /// Skipped: a job has its id already.
    IdConflict,
    /// Not claimed: the tick is not due for so long, by the store's clock.
    Early(Duration),
}

/// What a process tells about one of its entries.
#[derive(Clone, Debug, PartialEq)]
pub struct AnnouncedEntry {
    /// The entry's id for Asynq's tools.
    pub id: String,
    /// The specification, with its time zone.
    pub spec: String,
    /// The job of each tick.
    pub job: NewJob,
    /// The next tick.
    pub next: Option<Timestamp>,
    /// When it was fired last.
    pub prev: Option<Timestamp>,
}

/// A periodic entry as the processes tell of it, Go schedulers included.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueEntry"))]
#[non_exhaustive]
pub struct EntryInfo {
    /// Its id. Ours is the same in all processes and after restarts, Go's is
    /// another one in each process.
    pub id: String,
    /// The specification.
    pub spec: String,
    /// The type of its jobs.
    pub job_type: String,
    /// Their payload.
    #[serde(serialize_with = "serial::bytes")]
    #[cfg_attr(feature = "openapi", schemars(with = "serial::Bytes"))]
    pub payload: Vec<u8>,
    /// Their options, in Asynq's words: `Queue("low")`, `MaxRetry(3)`.
    pub options: Vec<String>,
    /// The queue of its jobs.
    pub queue: QueueName,
    /// The next tick; `None` for never.
    pub next: Option<Timestamp>,
    /// When it was fired last; `None` for never.
    pub prev: Option<Timestamp>,
    /// The processes that have it, as `<host>:<pid>:<random id>`.
    pub schedulers: Vec<String>,
}

/// Leaves out the payload and headers, so that no secret reaches a log by accident.
impl std::fmt::Debug for EntryInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryInfo")
            .field("id", &self.id)
            .field("spec", &self.spec)
            .field("job_type", &self.job_type)
            .field("queue", &self.queue)
            .field("next", &self.next)
            .field("prev", &self.prev)
            .field("schedulers", &self.schedulers)
            .finish_non_exhaustive()
    }
}

/// One run of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueEntryRun"))]
#[non_exhaustive]
pub struct EntryRun {
    /// The job that was stored.
    pub job: JobId,
    /// When.
    pub at: Timestamp,
}

impl EntryRun {
    /// A run.
    pub fn new(job: JobId, at: Timestamp) -> Self {
        Self { job, at }
    }
}

impl AnnouncedEntry {
    /// What readers see of it.
    pub(crate) fn seen(&self, scheduler: &str) -> EntryInfo {
        EntryInfo {
            id: self.id.clone(),
            spec: self.spec.clone(),
            job_type: self.job.record.job_type.clone(),
            payload: self.job.record.payload_bytes().to_vec(),
            options: option_text::of(&self.job),
            queue: self.job.record.queue.clone(),
            next: self.next,
            prev: self.prev,
            schedulers: vec![scheduler.to_owned()],
        }
    }
}

impl EntryInfo {
    /// A job as a tick would enqueue it, with a random id.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the type is blank.
    pub(crate) fn job(&self) -> Result<NewJob, Error> {
        if self.job_type.trim().is_empty() {
            return Err(Error::invalid("job type: expected a name, found a blank"));
        }
        let payload = Some(self.payload.clone()).filter(|payload| !payload.is_empty());
        Ok(option_text::job(&self.job_type, payload, &self.options))
    }
}

/// Every entry once, with all processes that told of it.
pub(crate) fn merged(told: impl IntoIterator<Item = EntryInfo>) -> Vec<EntryInfo> {
    let mut entries: Vec<EntryInfo> = Vec::new();
    for one in told {
        let same = |known: &&mut EntryInfo| known.id == one.id && known.spec == one.spec;
        match entries.iter_mut().find(same) {
            Some(known) => {
                known.next = known.next.into_iter().chain(one.next).min();
                known.prev = known.prev.into_iter().chain(one.prev).max();
                known.schedulers.extend(one.schedulers);
                known.schedulers.sort();
                known.schedulers.dedup();
            }
            None => entries.push(one),
        }
    }
    let key = |entry: &EntryInfo| (entry.job_type.clone(), entry.spec.clone(), entry.id.clone());
    entries.sort_by_cached_key(key);
    entries
}

/// What a store does for periodic jobs.
pub trait Entries: Send + Sync {
    /// Stores the jobs of those ticks that nobody has claimed and that are due by
    /// the store's clock. For each tick the claim and its job are one atomic step:
    /// of any number of processes one fires it, or, where all die before, none has
    /// claimed it. Repeating the call is safe. One script, O(ticks · log n).
    fn fire<'a>(&'a self, what: &'a Firing) -> Answer<'a, Fired>;

    /// Adds a run to the entry's history of at most [`HISTORY`], which ends `keep`
    /// after the last one. The same run twice counts once. One script, O(log n).
    fn record_run<'a>(
        &'a self,
        entry_id: &'a str,
        run: &'a EntryRun,
        keep: Duration,
    ) -> Answer<'a, ()>;

    /// Tells the world which entries a process has, for
    /// [`ENTRIES_ANNOUNCED_FOR`]. O(entries).
    fn announce_entries<'a>(
        &'a self,
        scheduler: &'a str,
        entries: &'a [AnnouncedEntry],
    ) -> Answer<'a, ()>;

    /// Takes the announcement back. Histories stay.
    fn retire_entries<'a>(&'a self, scheduler: &'a str) -> Answer<'a, ()>;

    /// All entries that processes tell of, each once. One command and one for each
    /// process; O(entries of all processes). What cannot be read is left out.
    fn entries(&self) -> Answer<'_, Vec<EntryInfo>>;

    /// Runs of an entry, the newest first. One command, O(log n + most).
    fn entry_history<'a>(
        &'a self,
        entry_id: &'a str,
        skip: usize,
        most: usize,
    ) -> Answer<'a, Vec<EntryRun>>;
}
