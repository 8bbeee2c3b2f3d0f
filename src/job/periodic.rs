//! A periodic job: what is enqueued, and when.
//!
//! This is what the application asked for, unchecked, as the builder leaves it.
//! [`PeriodicJobs`](crate::periodic::PeriodicJobs) checks it and keeps it; the scheduler fires
//! it. What makes it the same periodic job in every process is its name, which is therefore a
//! part of the ids of its jobs and of the store's claim.
//!
//! What may surprise. A periodic job without a name is named by a digest of its specification,
//! type, payload and queue. Two processes with the same code agree on it, but a changed schedule
//! makes another periodic job with a history of its own. The policy for missed ticks is not part of
//! that: it belongs to each process.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::serial::marshal_reason;
use super::{Job, JobId, JobOptions, OnConflict, Schedule, option_setters, payload_bytes};
use crate::error::Error;
use crate::time::Timestamp;

/// Maximum length of a name.
const MAX_NAME_BYTES: usize = 128;

/// What happens to ticks at which no process could enqueue the job, because none ran or the
/// store was unreachable. A tick counts as missed 5 s after its time; until then it is merely
/// late, and its job is still enqueued.
///
/// However many ticks were missed, at most one job makes up for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// Nothing: the next tick is the next job, as in Asynq.
    Skip,
    /// One job at once for the last missed tick, however long ago it was.
    Once,
    /// One job at once for the last missed tick, unless it is longer ago than this.
    Within(Duration),
}

impl Default for Missed {
    /// Within an hour: a deployment or a restart costs no run, and last night's
    /// work does not start at noon.
    fn default() -> Self {
        Self::Within(Duration::from_secs(3600))
    }
}

/// A periodic job: a job that is enqueued at each tick of a [`Schedule`].
///
/// Any number of processes may have the same periodic job. Each tick enqueues one job,
/// without an elected leader and also when processes are killed. The name says which
/// periodic jobs are the same. Without [`Periodic::name`] it is a digest of
/// specification, type, payload and queue. Give a name to a periodic job whose schedule may
/// change, so that its history continues.
///
/// The job's id is `periodic:<name>:<Unix seconds of the tick>`, for which Go
/// peers see a conflict rather than a second job.
///
/// If a tick must not enqueue a job while an earlier tick's job waits or runs, use
/// [`Periodic::unique_for`]: the tick is then skipped.
///
/// ```
/// use rocket_jobqueue::periodic::Missed;
/// use rocket_jobqueue::{Job, JobQueue, Periodic};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct NightlyReport {
///     region: String,
/// }
///
/// impl Job for NightlyReport {
///     const TYPE: &'static str = "report:nightly";
/// }
///
/// let nightly = Periodic::new("0 3 * * *", NightlyReport { region: "eu".to_owned() })
///     .name("nightly-report")
///     .time_zone("Europe/Berlin")
///     .max_retry(3)
///     .missed(Missed::Once);
/// let fairing = JobQueue::fairing()
///     .periodic(nightly)
///     .periodic(Periodic::raw("@every 30s", "cache:refresh", None).queue("low"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Periodic {
    name: Option<String>,
    spec: String,
    time_zone: Option<String>,
    job_type: String,
    /// An error is kept until the periodic job is added: the constructor returns none.
    payload: Result<Option<Vec<u8>>, String>,
    options: JobOptions,
    headers: Vec<(String, String)>,
    missed: Missed,
    on_conflict: OnConflict,
}

impl Periodic {
    /// Enqueues this job at each tick, with the options of its type.
    ///
    /// An error in the specification is reported when the periodic job is added: at
    /// launch, or by [`PeriodicJobs::add`](crate::periodic::PeriodicJobs::add).
    pub fn new<J: Job>(spec: impl Into<String>, job: J) -> Self {
        let payload = payload_bytes(&job).map(Some).map_err(|error| marshal_reason(&error));
        Self::with(spec.into(), J::TYPE.to_owned(), payload, J::options())
    }

    /// A periodic job by job type and payload, for types without a Rust type in this process,
    /// such as the types of a Go worker.
    pub fn raw(
        spec: impl Into<String>,
        job_type: impl Into<String>,
        payload: Option<Vec<u8>>,
    ) -> Self {
        Self::with(spec.into(), job_type.into(), Ok(payload), JobOptions::new())
    }

    fn with(
        spec: String,
        job_type: String,
        payload: Result<Option<Vec<u8>>, String>,
        options: JobOptions,
    ) -> Self {
        Self {
            name: None,
            spec,
            time_zone: None,
            job_type,
            payload,
            options,
            headers: Vec::new(),
            missed: Missed::default(),
            on_conflict: OnConflict::default(),
        }
    }

    /// The name that makes it the same periodic job in all processes and across restarts: 1
    /// to 128 of `A-Z a-z 0-9 _ . : -`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The zone of the fields, by its name in the IANA database. Default UTC.
    /// No effect on `@every`.
    pub fn time_zone(mut self, zone: impl Into<String>) -> Self {
        self.time_zone = Some(zone.into());
        self
    }

    /// What happens to ticks at which no process could fire. Default: one job, if
    /// the last of them was within the hour.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    option_setters! {
        options;
        /// A tick is claimed within its queue: while some processes have the periodic job in
        /// one queue and some in another, each queue gets a job.
        queue;
        /// The delay counts from the tick.
        delay;
        max_retry;
        timeout;
        expires_in;
        retention;
        /// Skips ticks while a job of the same queue, type and payload waits or runs, for at
        /// most this long.
        unique_for;
        until;
        unique_by;
        unique_key;
        group;
    }

    /// If another job holds the lock of [`unique_for`](Self::unique_for), a tick replaces it where
    /// it waits, and follows it where it runs, in place of being skipped; see
    /// [`Enqueue::or_replace`](crate::Enqueue::or_replace).
    pub fn or_replace(mut self) -> Self {
        self.on_conflict = OnConflict::Replace;
        self
    }

    /// If another job holds the lock of [`unique_for`](Self::unique_for), a tick moves the end of
    /// that; see [`Enqueue::or_extend`](crate::Enqueue::or_extend).
    pub fn or_extend(mut self) -> Self {
        self.on_conflict = OnConflict::Extend;
        self
    }

    /// Adds a header to the jobs.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The name it was given, or the digest.
    ///
    /// The digest writes the length before each part, so that no two different entries have
    /// equal input. Its first 16 hexadecimal digits are enough: a collision needs billions of
    /// entries.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a name that is not allowed.
    pub(crate) fn identity(&self) -> Result<String, Error> {
        let Some(name) = &self.name else {
            let mut digest = Sha256::new();
            let payload = self.payload.as_ref().ok().and_then(Option::as_deref);
            let zone = self.time_zone.as_deref().unwrap_or_default();
            for part in [
                self.spec.as_bytes(),
                zone.as_bytes(),
                self.job_type.as_bytes(),
                payload.unwrap_or_default(),
                self.options.queue.as_bytes(),
            ] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
            let hex: String =
                digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            return Ok(format!("unnamed-{hex}"));
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(allowed) {
            let shown: String = name.chars().take(60).collect();
            return Err(Error::invalid(format!(
                "name of a periodic job: expected 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 _ . : -, \
                 found {shown:?}"
            )));
        }
        Ok(name.clone())
    }

    /// Its schedule, in its time zone. A schedule that never fires is refused here.
    ///
    /// # Errors
    /// [`Error::is_invalid`] with what was expected and what was found.
    pub(crate) fn schedule(&self) -> Result<Schedule, Error> {
        let schedule = Schedule::read(self.spec.clone())?.fires()?;
        match &self.time_zone {
            Some(zone) => schedule.time_zone(zone),
            None => Ok(schedule),
        }
    }

    pub(crate) fn job_type(&self) -> &str {
        &self.job_type
    }

    /// # Errors
    /// [`Error::is_invalid`] if the job cannot be written as JSON.
    pub(crate) fn payload(&self) -> Result<Option<Vec<u8>>, Error> {
        let wrong = |error| Error::invalid(format!("payload of {:?}: {error}", self.job_type));
        self.payload.clone().map_err(wrong)
    }

    /// The options of its jobs: the type's, with what the setters replaced.
    pub(crate) fn all_options(&self) -> JobOptions {
        self.options.clone()
    }

    pub(crate) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    pub(crate) fn on_conflict(&self) -> OnConflict {
        self.on_conflict
    }

    pub(crate) fn on_missed(&self) -> Missed {
        self.missed
    }
}

/// Leaves out payload and headers, so that no secret reaches a log by accident.
impl fmt::Debug for Periodic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Periodic")
            .field("name", &self.name)
            .field("spec", &self.spec)
            .field("time_zone", &self.time_zone)
            .field("job_type", &self.job_type)
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}

/// The id under which Asynq's tools know an entry: the same in all processes and
/// after every restart, in the form of the UUIDs that Asynq makes.
pub(crate) fn periodic_id(name: &str) -> String {
    let digest = Sha256::new().chain_update("periodic entry:").chain_update(name).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// The id of the job of a tick. Ticks are whole seconds, so no two have the same.
pub(crate) fn tick_id(name: &str, tick: Timestamp) -> JobId {
    JobId::stored(format!("periodic:{name}:{}", tick.as_secs()))
}
