//! The producer's side: a value becomes a stored job. Leaves running it to the
//! worker and everything about HTTP to the web layer.

use std::borrow::Cow;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::broker::{Broker, Enqueued};
use crate::error::Error;
use crate::job::{
    DEFAULT_TIMEOUT, Idempotency, Job, JobId, JobOptions, JobRecord, JobState, NewJob, Placement,
    QueueName,
};
use crate::time::Timestamp;

/// The largest payload: 1 MiB.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// Enqueues jobs. Cloning is cheap; all clones share the store.
#[derive(Clone)]
pub struct Client {
    broker: Arc<dyn Broker>,
    closed: Arc<AtomicBool>,
}

impl Client {
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, closed: Arc::default() }
    }

    /// Refuses every enqueue from now on, by all clones.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Prepares a job of a type; await it to store it.
    pub fn enqueue<J: Job>(&self, job: J) -> Enqueue {
        let payload = serde_json::to_vec(&job)
            .map_err(|error| Error::invalid(format!("payload of {:?}: {error}", J::TYPE)));
        self.prepare(J::TYPE, payload.map(Some), J::options())
    }

    /// Prepares a job by type and bytes, for job types this process has no Rust
    /// type of. `None` and empty bytes differ in the unique lock only, as in Go.
    pub fn enqueue_raw(&self, job_type: impl Into<String>, payload: Option<Vec<u8>>) -> Enqueue {
        self.prepare(job_type, Ok(payload), JobOptions::new())
    }

    fn prepare(
        &self,
        job_type: impl Into<String>,
        payload: Result<Option<Vec<u8>>, Error>,
        options: JobOptions,
    ) -> Enqueue {
        Enqueue {
            client: self.clone(),
            job_type: job_type.into(),
            payload,
            options,
            id: None,
            headers: Vec::new(),
            idempotency: None,
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.broker.describe())
    }
}

/// What the store answered to an enqueue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The job's id.
    pub id: JobId,
    /// The queue it is in.
    pub queue: QueueName,
    /// Pending, or scheduled where it is due later.
    pub state: JobState,
    /// When it is due, in store time.
    pub due: Timestamp,
    /// Whether an idempotency key brought the receipt of an earlier enqueue;
    /// state and due time are then those of this request, not of that job.
    pub replayed: bool,
}

/// A job about to be stored. Await it; dropped, nothing happens.
///
/// Options given here override those of the job type.
///
/// # Errors
/// [`Error::is_invalid`] for a value out of its domain, before anything is
/// stored; [`Error::is_duplicate`], [`Error::is_id_conflict`] and
/// [`Error::is_idempotency_mismatch`] where another job stands in the way;
/// [`Error::is_unavailable`] and [`Error::is_refused`] where the store does.
#[must_use = "a job is stored when this is awaited"]
pub struct Enqueue {
    client: Client,
    job_type: String,
    payload: Result<Option<Vec<u8>>, Error>,
    options: JobOptions,
    id: Option<String>,
    headers: Vec<(String, String)>,
    idempotency: Option<Idempotency>,
}

impl Enqueue {
    fn with(mut self, change: impl FnOnce(JobOptions) -> JobOptions) -> Self {
        self.options = change(self.options);
        self
    }

    /// All options at once, in place of the job type's.
    pub fn options(mut self, options: JobOptions) -> Self {
        self.options = options;
        self
    }

    /// The queue; see [`QueueName`] for the allowed form.
    pub fn queue(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with(|options| options.queue(name))
    }

    /// Runs no earlier than `delay` from now, to the millisecond. Zero is now.
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|options| options.delay(delay))
    }

    /// Runs no earlier than `at`. An instant that has passed is now.
    pub fn at(mut self, at: impl Into<Timestamp>) -> Self {
        self.options.placement = Placement::At(at.into());
        self
    }

    /// How often it is tried again; 0 means a single attempt.
    pub fn max_retry(self, retries: u32) -> Self {
        self.with(|options| options.max_retry(retries))
    }

    /// How long one attempt may run, in whole seconds, rounded up.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.timeout(timeout))
    }

    /// The instant by which the job must have ended.
    pub fn deadline(self, deadline: impl Into<Timestamp>) -> Self {
        self.with(|options| options.deadline(deadline))
    }

    /// How long it is kept after success, in whole seconds, rounded up.
    pub fn retention(self, retention: Duration) -> Self {
        self.with(|options| options.retention(retention))
    }

    /// Refuses another of the same queue, type and payload for this long.
    pub fn unique_for(self, lock: Duration) -> Self {
        self.with(|options| options.unique_for(lock))
    }

    /// An id of the application's own; see [`JobId::new`].
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Adds a header. Go peers since Asynq 0.26 see it.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Makes a repeated enqueue with the same key answer with the first id.
    pub fn idempotency(mut self, key: Idempotency) -> Self {
        self.idempotency = Some(key);
        self
    }

    fn build(self) -> Result<(Arc<dyn Broker>, NewJob), Error> {
        if self.client.is_closed() {
            return Err(Error::closed("the job queue has been closed"));
        }
        if self.job_type.trim().is_empty() {
            return Err(Error::invalid("job type: expected a name, found a blank"));
        }
        let payload = self.payload?;
        let size = payload.as_ref().map_or(0, Vec::len);
        if size > MAX_PAYLOAD {
            return Err(Error::invalid(format!(
                "payload of {:?}: expected at most {MAX_PAYLOAD} bytes, found {size}",
                self.job_type
            )));
        }
        let options = self.options;
        if let Some(lock) = options.unique_for.filter(|lock| *lock < Duration::from_secs(1)) {
            return Err(Error::invalid(format!(
                "unique lock: expected at least 1s, found {lock:?}"
            )));
        }
        let mut record = JobRecord::new(self.job_type, payload, QueueName::new(&options.queue)?);
        if let Some(id) = self.id {
            record.id = JobId::new(id)?;
        }
        record.max_retry = options.max_retry.min(i32::MAX as u32);
        record.deadline = options.deadline.map(|at| Timestamp::from_secs(at.as_secs_ceil()));
        record.timeout = match (options.timeout, options.deadline) {
            (None | Some(Duration::ZERO), Some(_)) => Duration::ZERO,
            (None | Some(Duration::ZERO), None) => DEFAULT_TIMEOUT,
            (Some(timeout), _) => whole_seconds(timeout),
        };
        record.retention = whole_seconds(options.retention);
        record.headers = self.headers.into_iter().collect();
        let job = NewJob {
            record,
            placement: options.placement,
            unique_for: options.unique_for,
            idempotency: self.idempotency,
        };
        Ok((self.client.broker, job))
    }

    async fn store(self) -> Result<Receipt, Error> {
        let (broker, job) = self.build()?;
        let jobs = [job];
        let mut outcomes = broker.enqueue(&jobs).await?;
        let [NewJob { record, .. }] = jobs;
        let receipt = |id, state, due, replayed| Receipt {
            id,
            queue: record.queue.clone(),
            state,
            due,
            replayed,
        };
        match outcomes.pop().expect("a store answers once for each job") {
            Enqueued::Created { state, due } => Ok(receipt(record.id.clone(), state, due, false)),
            Enqueued::Replayed { id } => Ok(receipt(id, JobState::Pending, broker.now(), true)),
            Enqueued::Duplicate { holder } => Err(Error::duplicate(format!(
                "a job of type {:?} with this payload is in queue {:?} already: {holder}",
                record.job_type, record.queue
            ))),
            Enqueued::IdConflict => Err(Error::id_conflict(format!(
                "queue {:?} has a job {:?} already",
                record.queue, record.id
            ))),
            Enqueued::KeyReused => Err(Error::idempotency_mismatch(
                "the idempotency key was used before with another body",
            )),
        }
    }
}

impl IntoFuture for Enqueue {
    type Output = Result<Receipt, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.store())
    }
}

/// Asynq stores whole seconds; rounding up never shortens what was asked for.
fn whole_seconds(duration: Duration) -> Duration {
    let up = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(up).min(i64::MAX as u64 / 1_000_000))
}
