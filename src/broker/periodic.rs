//! Periodic jobs in the store: which process enqueues a tick, and what is announced.
//!
//! Every process with a periodic job computes its ticks. The store decides who enqueues: a
//! tick is claimed and its job stored in one atomic step, and the store remembers up to which
//! instant ticks are claimed. Processes also announce their periodic jobs, in Asynq's form,
//! and keep a history of runs, for tools and pages.

use std::time::Duration;

use serde::Serialize;

use super::{Answer, option_text};
use crate::error::Error;
use crate::job::{JobId, NewJob, QueueName, serial};
use crate::time::Timestamp;

/// Lifetime of an announcement; it is repeated every 10 s.
pub const PERIODIC_ANNOUNCEMENT_TTL: Duration = Duration::from_secs(20);

/// Maximum runs in the history of a periodic job. Asynq's own number.
pub const MAX_PERIODIC_RUNS: usize = 1000;

/// A claim this far ahead of the store's clock is ignored: it was made before that clock was
/// set back, and waiting for it could take years.
pub(super) const CLAIM_AHEAD: Duration = Duration::from_secs(86_400);

/// The ticks of one periodic job that are due as far as a process knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// The periodic job's name.
    pub entry: String,
    /// The queue of its jobs, in whose data ticks are claimed.
    pub queue: QueueName,
    /// The instant up to which ticks are claimed as far as this process knows; used only if
    /// the store knows nothing. `None` in a process that has just started: the ticks of a new
    /// periodic job count from now.
    pub known: Option<Timestamp>,
    /// How long the claim is remembered.
    pub keep: Duration,
    /// Ticks in order, each with its job. Without ticks the call only reads the claim, or
    /// begins one.
    pub ticks: Vec<(Timestamp, NewJob)>,
}

/// The result of claiming ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The instant up to which ticks are claimed now.
    pub claimed: Timestamp,
    /// When any process last stored a job.
    pub last_run: Option<Timestamp>,
    /// The result of each tick.
    pub ticks: Vec<Tick>,
}

/// The result of one tick.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tick {
    /// Its job was stored.
    Fired {
        /// When.
        at: Timestamp,
    },
    /// It or a later tick was claimed before.
    Claimed,
    /// Skipped: another job holds the unique lock.
    Locked {
        /// That job.
        holder: JobId,
    },
    /// Skipped: a job has this id already.
    IdConflict,
    /// Not claimed: by the store's clock the tick is due only after this time.
    Early(Duration),
}

/// A periodic job as a process announces it.
#[derive(Clone, Debug, PartialEq)]
pub struct AnnouncedPeriodicJob {
    /// The id for Asynq's tools.
    pub id: String,
    /// The schedule, with its time zone.
    pub spec: String,
    /// The job of each tick.
    pub job: NewJob,
    /// The next tick.
    pub next: Option<Timestamp>,
    /// The last tick that was enqueued.
    pub prev: Option<Timestamp>,
}

/// A periodic job as processes announce it, Go schedulers included.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueuePeriodicJob"))]
#[non_exhaustive]
pub struct PeriodicJobInfo {
    /// Its id. Ids of this crate are the same in all processes and after restarts; Go's differ
    /// in each process.
    pub id: String,
    /// The schedule.
    pub spec: String,
    /// The type of its jobs.
    pub job_type: String,
    /// Their payload.
    #[serde(serialize_with = "serial::bytes")]
    #[cfg_attr(feature = "openapi", schemars(with = "serial::Bytes"))]
    pub payload: Vec<u8>,
    /// Their options as Asynq writes them: `Queue("low")`, `MaxRetry(3)`.
    pub options: Vec<String>,
    /// The queue of its jobs.
    pub queue: QueueName,
    /// The next tick; `None` for never.
    pub next: Option<Timestamp>,
    /// The last tick that was enqueued; `None` for never.
    pub prev: Option<Timestamp>,
    /// The processes that have it, as `<host>:<pid>:<random id>`.
    pub schedulers: Vec<String>,
}

/// Omits the payload and headers, so that no secret reaches a log by accident.
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

/// One run of a periodic job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueuePeriodicJobRun"))]
#[non_exhaustive]
pub struct PeriodicRun {
    /// The job that was stored.
    pub job: JobId,
    /// When the job was stored.
    pub at: Timestamp,
}

impl PeriodicRun {
    /// A run that stored this job.
    pub fn new(job: JobId, at: Timestamp) -> Self {
        Self { job, at }
    }
}

impl AnnouncedPeriodicJob {
    /// The form that readers get.
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

/// Merges announcements: each periodic job once, with all processes that announced it.
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

/// The periodic jobs of a store.
pub trait PeriodicStore: Send + Sync {
    /// Stores the jobs of ticks that are unclaimed and due by the store's clock. The claim of
    /// a tick and its job are one atomic step: exactly one of many processes enqueues it, and
    /// if all of them die before, none has claimed it. Repeating the call is safe. One
    /// script, O(ticks · log n).
    fn fire<'a>(&'a self, what: &'a Firing) -> Answer<'a, Fired>;

    /// Adds a run to the history of at most [`MAX_PERIODIC_RUNS`] runs, which expires `keep` after the
    /// last run. Adding the same run twice is harmless. One script, O(log n).
    fn record_run<'a>(
        &'a self,
        periodic_id: &'a str,
        run: &'a PeriodicRun,
        keep: Duration,
    ) -> Answer<'a, ()>;

    /// Announces the periodic jobs of a process for [`PERIODIC_ANNOUNCEMENT_TTL`]. O(jobs).
    fn announce_periodic_jobs<'a>(
        &'a self,
        scheduler: &'a str,
        entries: &'a [AnnouncedPeriodicJob],
    ) -> Answer<'a, ()>;

    /// Removes the announcement. Histories stay.
    fn retire_periodic_jobs<'a>(&'a self, scheduler: &'a str) -> Answer<'a, ()>;

    /// All announced periodic jobs, each once. One command and one for each process; O(jobs of
    /// all processes). Unreadable announcements are left out.
    fn periodic_jobs(&self) -> Answer<'_, Vec<PeriodicJobInfo>>;

    /// Runs of a periodic job, the newest first. One command, O(log n + most).
    fn periodic_history<'a>(
        &'a self,
        periodic_id: &'a str,
        skip: usize,
        most: usize,
    ) -> Answer<'a, Vec<PeriodicRun>>;
}
