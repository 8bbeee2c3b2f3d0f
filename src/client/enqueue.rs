//! The builder of one job: options, checks, and the call that stores it.
//!
//! A [`Draft`] is the same builder without a client. [`Draft::build`] checks everything at once and
//! makes a [`NewJob`], the value that stores take; errors that a setter could have reported (a
//! payload that cannot be written) are kept until then. Nothing is sent before the builder is
//! awaited.
//!
//! Three options change how an enqueue is repeated, and are easily confused. An *id* protects as
//! long as the job exists. A *unique lock* protects until the job succeeds, or for its time. An
//! *idempotency key* protects the call: repeated with the same key, it gets the id of the first job
//! for as long as the key is kept, even if that job has ended. `confirm_within` makes such a key
//! for one call and repeats it by itself.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use tracing::Instrument;
use tracing::field::Empty;

use super::confirm::MAX_CONFIRM_TIMEOUT;
use super::{Client, Receipt};
use crate::broker::Enqueued;
use crate::error::Error;
use crate::job::serial::marshal_reason;
use crate::job::{
    DEFAULT_TIMEOUT, Idempotency, Job, JobId, JobOptions, JobRecord, MaxWaiting, NewJob,
    OnConflict, QueueName, UniqueKey, check_group, given_header, option_setters, payload_bytes,
};
use crate::text::line;
use crate::time::Timestamp;
use crate::trace::Trace;

/// A job about to be stored. Await it; dropped, nothing happens.
///
/// Options given here override the job type's.
///
/// ```
/// # use rocket_jobqueue::{Job, testing::TestQueue};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Welcome { user: u64 }
/// # impl Job for Welcome { const TYPE: &'static str = "mail:welcome"; }
/// # #[rocket::main]
/// # async fn main() -> Result<(), rocket_jobqueue::Error> {
/// # let tests = TestQueue::new();
/// # let queue = tests.queue();
/// use std::time::Duration;
///
/// let receipt = queue
///     .enqueue(Welcome { user: 7 })
///     .queue("mail")
///     .delay(Duration::from_secs(60))
///     .max_retry(3)
///     .unique_for(Duration::from_secs(3600))
///     .await?;
/// assert_eq!(receipt.queue.as_str(), "mail");
///
/// let again = queue.enqueue(Welcome { user: 7 }).queue("mail").unique_for(Duration::from_secs(60));
/// assert!(again.await.unwrap_err().is_duplicate());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::is_invalid`] for a value out of its domain, before anything is
/// stored; [`Error::is_duplicate`], [`Error::is_id_conflict`] and
/// [`Error::is_idempotency_mismatch`] if it conflicts with another job;
/// [`Error::is_queue_full`] if as many jobs wait as may;
/// [`Error::is_unavailable`] and [`Error::is_refused`] if the store cannot take the job.
#[must_use = "a job is stored when this is awaited"]
pub struct Enqueue<Q = Client> {
    client: Q,
    job_type: String,
    /// An error is kept until the job is built: the setters return none.
    payload: Result<Option<Vec<u8>>, Error>,
    options: JobOptions,
    /// `None` makes a random id.
    id: Option<String>,
    /// In the order given; of two with a name the last counts.
    headers: Vec<(String, String)>,
    idempotency: Option<Idempotency>,
    or_existing: bool,
    on_conflict: OnConflict,
    /// How long it is tried again; `None` sends it once.
    confirm: Option<Duration>,
    max_waiting: Option<MaxWaiting>,
    /// The key of its type's own, in place of the payload.
    own_key: Option<String>,
}

/// Without payload, headers and idempotency key.
impl<Q> std::fmt::Debug for Enqueue<Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enqueue")
            .field("job_type", &self.job_type)
            .field("options", &self.options)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A job with its options that no queue has yet: what
/// [`JobQueue::enqueue_all`](crate::JobQueue::enqueue_all) takes and an aggregate
/// function returns. It has the options of [`Enqueue`].
///
/// ```
/// use rocket_jobqueue::Draft;
/// use std::time::Duration;
///
/// let job = Draft::raw("mail:welcome", Some(br#"{"user":1}"#.to_vec()))
///     .queue("mail")
///     .delay(Duration::from_secs(60))
///     .header("trace", "00-ff");
/// ```
pub type Draft = Enqueue<()>;

impl Draft {
    /// A job of a type, with the type's options.
    pub fn new<J: Job>(job: J) -> Self {
        let payload = payload_bytes(&job).map_err(|error| {
            let reason = marshal_reason(&error);
            Error::invalid(format!("payload of {:?}: {reason}", J::TYPE))
        });
        let draft = Self::begin(J::TYPE, payload.map(Some), J::options());
        Self { own_key: job.unique_key(), ..draft }
    }

    /// A job by type and bytes. `None` and empty bytes differ in the unique lock
    /// only, as in Go.
    pub fn raw(job_type: impl Into<String>, payload: Option<Vec<u8>>) -> Self {
        Self::begin(job_type, Ok(payload), JobOptions::new())
    }

    fn begin(
        job_type: impl Into<String>,
        payload: Result<Option<Vec<u8>>, Error>,
        options: JobOptions,
    ) -> Self {
        Self {
            client: (),
            job_type: job_type.into(),
            payload,
            options,
            id: None,
            headers: Vec::new(),
            idempotency: None,
            or_existing: false,
            on_conflict: OnConflict::default(),
            confirm: None,
            max_waiting: None,
            own_key: None,
        }
    }

    /// The same job, to be stored by this client.
    pub(super) fn by(self, client: Client) -> Enqueue {
        self.within(client).0
    }

    pub(super) fn wants_existing(&self) -> bool {
        self.or_existing
    }

    /// How long it is asked for until it is confirmed.
    pub(super) fn confirm(&self) -> Option<Duration> {
        self.confirm
    }

    /// Checks all values, before anything is sent. `max_payload` is in bytes.
    pub(super) fn build(self, max_payload: usize) -> Result<NewJob, Error> {
        if self.job_type.trim().is_empty() {
            return Err(Error::invalid("job type: expected a name, found a blank"));
        }
        let payload = self.payload?;
        let size = payload.as_ref().map_or(0, Vec::len);
        if size > max_payload {
            return Err(Error::invalid(format!(
                "payload of {:?}: expected at most {max_payload} bytes, found {size}",
                self.job_type
            )));
        }
        let options = self.options;
        if let Some(lock) = options.unique_for.filter(|lock| *lock < Duration::from_secs(1)) {
            return Err(Error::invalid(format!(
                "unique lock: expected at least 1s, found {lock:?}"
            )));
        }
        let has_terms = options.has_lock_terms() || self.on_conflict != OnConflict::default();
        if options.unique_for.is_none() && has_terms {
            return Err(Error::invalid(
                "unique lock: expected unique_for with until, unique_by, unique_key, or_replace or \
                 or_extend, found none",
            ));
        }
        if options.expires_in.is_some_and(|limit| limit.is_zero()) {
            return Err(Error::invalid("expires_in: expected more than 0s, found 0s"));
        }
        if options.expires_in.is_some() && options.group.is_some() {
            return Err(Error::invalid(
                "expires_in: expected a job that runs by itself, found one of a group",
            ));
        }
        let bytes = payload.as_deref().unwrap_or_default();
        let unique_key = match (self.own_key, &options.unique_key) {
            (Some(key), UniqueKey::Payload) if options.unique_for.is_some() => {
                UniqueKey::Text(key.into()).digest(&self.job_type, bytes)?
            }
            (_, given) => given.digest(&self.job_type, bytes)?,
        };
        let mut record = JobRecord::new(self.job_type, payload, QueueName::new(&options.queue)?);
        if let Some(group) = options.group {
            check_group(&group)?;
            record.group = group.into_owned();
        }
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
        let idempotency = match (self.idempotency, self.confirm) {
            (Some(key), Some(within)) => Some(key.kept_for(within)),
            (None, Some(within)) => Some(Idempotency::of_one_call(within)),
            (key, None) => key,
        };
        Ok(NewJob {
            record,
            placement: options.placement,
            unique_for: options.unique_for,
            until: options.until,
            unique_key,
            on_conflict: self.on_conflict,
            expires_in: options.expires_in,
            max_waiting: self.max_waiting,
            idempotency,
        })
    }
}

impl From<Enqueue> for Draft {
    fn from(enqueue: Enqueue) -> Self {
        enqueue.within(()).0
    }
}

impl<Q> Enqueue<Q> {
    /// The same job with another queue handle, and the one it had.
    fn within<P>(self, client: P) -> (Enqueue<P>, Q) {
        let Self { client: before, job_type, payload, options, id, headers, .. } = self;
        let (idempotency, or_existing, on_conflict) =
            (self.idempotency, self.or_existing, self.on_conflict);
        let (confirm, max_waiting, own_key) = (self.confirm, self.max_waiting, self.own_key);
        let moved = Enqueue {
            client,
            job_type,
            payload,
            options,
            id,
            headers,
            idempotency,
            or_existing,
            on_conflict,
            confirm,
            max_waiting,
            own_key,
        };
        (moved, before)
    }

    option_setters! {
        options;
        queue;
        delay;
        at;
        max_retry;
        timeout;
        deadline;
        expires_in;
        retention;
        /// Refuses another job of the same queue, type and payload until this one succeeds,
        /// for at most this long. Payloads are compared by their bytes; see [`Job`] for sets
        /// and maps. At least one second; for a delayed job the time counts from its due time.
        /// [`until`](Self::until) ends it elsewhere, [`unique_by`](Self::unique_by) and
        /// [`unique_key`](Self::unique_key) compare something else than the payload.
        unique_for;
        until;
        unique_by;
        unique_key;
        group;
    }

    /// An id of the application's own; see [`JobId::new`].
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Adds a header. Go peers since Asynq 0.26 see it.
    ///
    /// `traceparent` and `tracestate` (W3C Trace Context) are added automatically if the
    /// job is enqueued by way of the request guard [`JobQueue`](crate::JobQueue) in a
    /// request that has them, or by the handler of a job that has them. Values given here
    /// replace them.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The key of this job for a limit whose key is [`given`](crate::limits::LimitKey::Given): what the
    /// limit counts the job under, computed from it by the caller. It is a header, so it reaches
    /// every store and process; the first 128 bytes count.
    pub fn limit_key(self, limit: impl AsRef<str>, key: impl Into<String>) -> Self {
        self.header(given_header(limit.as_ref()), key)
    }

    /// Makes a repeated enqueue with the same key answer with the first id.
    pub fn idempotency(mut self, key: Idempotency) -> Self {
        self.idempotency = Some(key);
        self
    }

    /// Asks the store again, for at most `within`, until it has confirmed that the job is
    /// stored: safely, however often an answer is lost.
    ///
    /// Without it an enqueue whose answer does not come within 3 s is an
    /// [unknown outcome](Error::is_outcome_unknown): the job may be stored, may run, may even
    /// have ended, and enqueueing it again may run it twice. This gives it an idempotency key
    /// of its own, unless it [has one](Self::idempotency), and tries again while the store is
    /// away or leaves the outcome open. The possible results then:
    ///
    /// * `Ok`: it is stored once;
    /// * [`Error::is_outcome_unknown`]: the time is over, and it may be stored;
    /// * any other error: it is not stored.
    ///
    /// The last try begins when that time is over, and takes at most 3.5 s more, or 6 s while
    /// a Redis Cluster moves the queue. More than a year counts as a year. The key is one more
    /// key in the store, kept for an hour longer than `within`; nothing else costs anything
    /// while answers come.
    ///
    /// ```
    /// # use rocket_jobqueue::{Job, testing::TestQueue};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Charge { order: u64 }
    /// # impl Job for Charge { const TYPE: &'static str = "charge"; }
    /// # #[rocket::main]
    /// # async fn main() -> Result<(), rocket_jobqueue::Error> {
    /// # let tests = TestQueue::new();
    /// # let queue = tests.queue();
    /// use std::time::Duration;
    ///
    /// let receipt =
    ///     queue.enqueue(Charge { order: 7 }).confirm_within(Duration::from_secs(30)).await?;
    /// # let _ = receipt;
    /// # Ok(())
    /// # }
    /// ```
    pub fn confirm_within(mut self, within: Duration) -> Self {
        self.confirm = Some(within.min(MAX_CONFIRM_TIMEOUT));
        self
    }

    /// If another job holds the unique lock, returns that job's receipt in place of
    /// [`Error::is_duplicate`]; [`Receipt::existing`] distinguishes the two.
    pub fn or_existing(mut self) -> Self {
        self.or_existing = true;
        self
    }

    /// If another job holds the unique lock and waits, replaces it: that job keeps its id and gets
    /// this one's payload, options, due time and lock. A debounce: of many changes in a row the
    /// last one counts.
    ///
    /// | the holder | what happens |
    /// | --- | --- |
    /// | scheduled, waiting for a retry, or in a group | it becomes this job, as if new |
    /// | pending | it becomes this job and keeps its place: it is due already, so a later due time does not delay it again |
    /// | runs | this job is kept as its successor, and enqueued at its time once the holder has ended, in whatever way. A further one replaces the successor. If the holder would run again (a retry, a worker that stopped or died), the successor takes its place. With [`Until::Start`](crate::Until::Start) the lock is free by then, and this job is stored; with [`Until::Expiry`](crate::Until::Expiry) [`Error::is_duplicate`] |
    /// | is being aggregated | [`Error::is_duplicate`] |
    /// | archived, completed or gone | this job is stored and takes the lock; with [`Until::Expiry`](crate::Until::Expiry) [`Error::is_duplicate`] |
    ///
    /// [`Receipt::replaced`] says that it happened. `or_existing` counts for what is refused.
    ///
    /// ```
    /// # use rocket_jobqueue::{Job, Until, testing::TestQueue};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Reindex { document: u64, revision: u64 }
    /// # impl Job for Reindex { const TYPE: &'static str = "reindex"; }
    /// # #[rocket::main]
    /// # async fn main() -> Result<(), rocket_jobqueue::Error> {
    /// # let tests = TestQueue::new();
    /// # let queue = tests.queue();
    /// use std::time::Duration;
    ///
    /// // Five seconds after the last change, with the last revision.
    /// let changed = |revision| {
    ///     queue
    ///         .enqueue(Reindex { document: 7, revision })
    ///         .delay(Duration::from_secs(5))
    ///         .unique_for(Duration::from_secs(3600))
    ///         .unique_by(["document"])
    ///         .until(Until::Start)
    ///         .or_replace()
    /// };
    /// let first = changed(1).await?;
    /// let second = changed(2).await?;
    /// assert!(second.replaced && second.id == first.id);
    /// # Ok(())
    /// # }
    /// ```
    pub fn or_replace(mut self) -> Self {
        self.on_conflict = OnConflict::Replace;
        self
    }

    /// If another job holds the unique lock, moves the end of that lock to where this job's would
    /// be, and the due time of the holder too if it is scheduled; neither is ever moved to an
    /// earlier time. Nothing is stored: [`Receipt::existing`] is set and the id is the holder's,
    /// which keeps its payload and may have ended ([`Until::Expiry`](crate::Until::Expiry)). The
    /// lock of a job that failed for good is taken over instead, as by
    /// [`or_replace`](Self::or_replace).
    pub fn or_extend(mut self) -> Self {
        self.on_conflict = OnConflict::Extend;
        self
    }

    /// What it does if another job holds its unique lock.
    pub(crate) fn on_conflict(self, on_conflict: OnConflict) -> Self {
        Self { on_conflict, ..self }
    }

    /// The key of the job's type for its unique lock.
    pub(crate) fn own_key(mut self, key: Option<String>) -> Self {
        self.own_key = key;
        self
    }

    /// Refuses the job with [`Error::is_queue_full`] while this many jobs wait in its queue, or as
    /// many as may by configuration if that is less.
    pub(crate) fn max_waiting(mut self, jobs: u32) -> Self {
        self.max_waiting = Some(MaxWaiting::refuse(jobs));
        self
    }
}

impl Client {
    /// Checks a job, numbers it in a test whose ids are consecutive, and names the trace it
    /// belongs to.
    pub(super) fn build(&self, mut draft: Draft) -> Result<NewJob, Error> {
        if draft.id.is_none() {
            draft.id = self.chance.numbered_id();
        }
        let mut job = draft.build(self.max_payload)?;
        let configured = self.max_waiting.get(&job.record.queue).copied();
        job.max_waiting = job.max_waiting.into_iter().chain(configured).min_by_key(|one| one.jobs);
        if let Some(trace) = self.trace.clone().or_else(Trace::current) {
            trace.add_to(&mut job.record.headers);
        }
        Ok(job)
    }
}

impl Client {
    /// Releases the key that a refused request has bound to its queue, and binds the one of a
    /// stored job again if another request with it was refused meanwhile.
    async fn settle_key(
        &self,
        key: &Idempotency,
        queue: &QueueName,
        bound_here: bool,
        outcome: &Result<Enqueued, Error>,
    ) {
        let is_refused = match outcome {
            // Nothing is remembered of an extension.
            Ok(
                Enqueued::Duplicate { .. }
                | Enqueued::IdConflict
                | Enqueued::QueueFull
                | Enqueued::NotFound
                | Enqueued::WrongState(_)
                | Enqueued::Extended { .. },
            ) => true,
            Ok(
                Enqueued::Created { .. }
                | Enqueued::Replaced { .. }
                | Enqueued::Replayed { .. }
                | Enqueued::KeyReused,
            ) => false,
            Err(error) => !error.is_outcome_unknown() && !error.is_unavailable(),
        };
        let is_stored = matches!(outcome, Ok(Enqueued::Created { .. } | Enqueued::Replaced { .. }));
        let done = match bound_here {
            true if is_refused => self.broker.release_key(&key.key, queue).await,
            false if is_stored => self.broker.bind_key(&key.key, queue, key.kept).await.map(drop),
            true | false => return,
        };
        if let Err(error) = done {
            crate::log::debug!(?error, "could not release or rebind an idempotency key");
        }
    }
}

impl IntoFuture for Enqueue {
    type Output = Result<Receipt, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (draft, client) = self.within(());
            client.expect_open()?;
            let (or_existing, confirm) = (draft.or_existing, draft.confirm);
            let jobs = [client.build(draft)?];
            let record = &jobs[0].record;
            let across = jobs[0].idempotency.as_ref().filter(|key| key.across_queues);
            let mut bound_here = false;
            if let Some(key) = across {
                let bound = client.broker.bind_key(&key.key, &record.queue, key.kept).await?;
                if bound.queue != record.queue {
                    return Err(Error::idempotency_mismatch(format!(
                        "the idempotency key was used before for queue {:?}",
                        bound.queue
                    )));
                }
                bound_here = bound.is_new;
            }
            let span = tracing::info_span!(
                target: "rocket_jobqueue::enqueue",
                "enqueue",
                job_type = &*line(&record.job_type),
                queue = &*line(record.queue.as_str()),
                id = &*line(record.id.as_str()),
                trace_id = Empty
            );
            if !span.is_disabled()
                && let Some(trace) = Trace::of(&record.headers)
            {
                span.record("trace_id", trace.id());
            }
            let mut outcomes = client.store(&jobs, &[confirm]).instrument(span).await;
            let outcome = outcomes.pop().expect("a store answers once for each job");
            if let Some(key) = across {
                client.settle_key(key, &record.queue, bound_here, &outcome).await;
            }
            let outcome = outcome?;
            Receipt::of(&jobs[0], outcome, or_existing, client.broker.now())
        })
    }
}

/// Asynq stores whole seconds; rounding up never shortens what was asked for.
fn whole_seconds(duration: Duration) -> Duration {
    let up = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(up).min(i64::MAX as u64 / 1_000_000))
}
