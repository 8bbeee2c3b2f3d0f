//! Periodic entries in the store: who fires a tick, and what the world is told.

use std::time::Duration;

use serde::Serialize;

use super::{Answer, option_text};
use crate::error::Error;
use crate::job::{JobId, NewJob, QueueName, serial};
use crate::time::Timestamp;

/// How long an announcement of entries stands; it is repeated every 10 s.
pub const PERIODIC_ANNOUNCEMENT_TTL: Duration = Duration::from_secs(20);

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
pub struct AnnouncedPeriodicJob {
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
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueuePeriodicJob"))]
#[non_exhaustive]
pub struct PeriodicJobInfo {
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
impl std::fmt::Debug for PeriodicJobInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeriodicJobInfo")
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
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueuePeriodicJobRun"))]
#[non_exhaustive]
pub struct PeriodicRun {
    /// The job that was stored.
    pub job: JobId,
    /// When.
    pub at: Timestamp,
}

impl PeriodicRun {
    /// A run.
    pub fn new(job: JobId, at: Timestamp) -> Self {
        Self { job, at }
    }
}

impl AnnouncedPeriodicJob {
    /// What readers see of it.
    pub(crate) fn seen(&self, scheduler: &str) -> PeriodicJobInfo {
        PeriodicJobInfo {
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

impl PeriodicJobInfo {
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
pub(crate) fn merged(told: impl IntoIterator<Item = PeriodicJobInfo>) -> Vec<PeriodicJobInfo> {
    let mut entries: Vec<PeriodicJobInfo> = Vec::new();
    for one in told {
        let same = |known: &&mut PeriodicJobInfo| known.id == one.id && known.spec == one.spec;
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
    let key =
        |entry: &PeriodicJobInfo| (entry.job_type.clone(), entry.spec.clone(), entry.id.clone());
    entries.sort_by_cached_key(key);
    entries
}

/// What a store does for periodic jobs.
pub trait PeriodicStore: Send + Sync {
    /// Stores the jobs of those ticks that nobody has claimed and that are due by
    /// the store's clock. For each tick the claim and its job are one atomic step:
    /// of any number of processes one fires it, or, where all die before, none has
    /// claimed it. Repeating the call is safe. One script, O(ticks · log n).
    fn fire<'a>(&'a self, what: &'a Firing) -> Answer<'a, Fired>;

    /// Adds a run to the entry's history of at most [`HISTORY`], which ends `keep`
    /// after the last one. The same run twice counts once. One script, O(log n).
    fn record_run<'a>(
        &'a self,
        periodic_id: &'a str,
        run: &'a PeriodicRun,
        keep: Duration,
    ) -> Answer<'a, ()>;

    /// Tells the world which entries a process has, for
    /// [`PERIODIC_ANNOUNCEMENT_TTL`]. O(entries).
    fn announce_periodic_jobs<'a>(
        &'a self,
        scheduler: &'a str,
        entries: &'a [AnnouncedPeriodicJob],
    ) -> Answer<'a, ()>;

    /// Takes the announcement back. Histories stay.
    fn retire_periodic_jobs<'a>(&'a self, scheduler: &'a str) -> Answer<'a, ()>;

    /// All entries that processes tell of, each once. One command and one for each
    /// process; O(entries of all processes). What cannot be read is left out.
    fn periodic_jobs(&self) -> Answer<'_, Vec<PeriodicJobInfo>>;

    /// Runs of an entry, the newest first. One command, O(log n + most).
    fn periodic_history<'a>(
        &'a self,
        periodic_id: &'a str,
        skip: usize,
        most: usize,
    ) -> Answer<'a, Vec<PeriodicRun>>;
}
