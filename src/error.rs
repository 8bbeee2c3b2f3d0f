//! One error type for the whole crate. Callers do not match on variants: they ask questions such as
//! [`Error::is_unavailable`], so that a new kind of error breaks nobody.
//!
//! Three texts, for three readers. The message is one line that names the thing, what was expected
//! and what was found; it is safe to show to anybody. What a store said verbatim is the
//! [source](std::error::Error::source), for logs alone ([`ForLogs`] marks it, so that a chain of
//! causes which is written for people stops before it). `Debug` has the kind, the message and the
//! causes.
//!
//! What may surprise. Two questions include others: an unknown outcome also *is unavailable*, and a
//! damaged job also *is refused*. So ask for the special case first. And a store that refuses is
//! not one that is away: a retry helps against the latter only, which is why an outage is logged by
//! the connection and a refusal by [`Refusals`], once each.

use std::fmt;
use std::sync::Arc;

/// What went wrong, in one line, with predicates to ask about it.
///
/// The message names the thing, what was expected and what was found, and is
/// safe to show: it never holds an address, a credential, a payload or a
/// sentence of Redis. What the store said is the [`source`](std::error::Error::source),
/// for logs.
///
/// ```
/// use rocket_jobqueue::QueueName;
///
/// let error = QueueName::new("no spaces").unwrap_err();
/// assert!(error.is_invalid());
/// ```
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<ForLogs>>,
}

/// The source of one of our errors. Its text is for logs alone: code that writes a chain of errors
/// for clients or operators stops before it.
#[derive(Debug)]
pub(crate) struct ForLogs(Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for ForLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ForLogs {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// Maximum causes that `Debug` writes.
const MAX_CAUSES: usize = 8;

/// The kinds of errors, one for each question such as [`Error::is_unavailable`]. Not public:
/// callers ask, and a new kind breaks no match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorKind {
    Unavailable,
    Moving,
    OutcomeUnknown,
    Refused,
    Damaged,
    Duplicate,
    IdConflict,
    IdempotencyMismatch,
    Invalid,
    Config,
    NotFound,
    WrongState,
    Closed,
    LeaseLost,
    TooMany,
    QueueFull,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The store cannot be reached or does not serve at the moment.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// The queue is on its way from one server of a Redis Cluster to another.
    pub(crate) fn moving() -> Self {
        Self::new(ErrorKind::Moving, "the queue is being moved")
    }

    /// The store did not answer in time: the operation may have happened.
    pub(crate) fn outcome_unknown(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::OutcomeUnknown, message)
    }

    /// The store answered and refused: full, not permitted.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// What is stored is not what it should be: of another type, or unreadable.
    pub(crate) fn damaged(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Damaged, message)
    }

    /// Another job holds the unique lock. [`Error::held_by`] names it.
    pub(crate) fn duplicate(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Duplicate, message)
    }

    /// The queue has a job with this id.
    pub(crate) fn id_conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::IdConflict, message)
    }

    /// The key was used before, for another request.
    pub(crate) fn idempotency_mismatch(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::IdempotencyMismatch, message)
    }

    /// A value is out of its domain. The message says what was expected and found.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A configured value is wrong. The message names its origin and key.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// There is no such queue, job or periodic job.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// The job or queue is not in a state that allows the operation.
    pub(crate) fn wrong_state(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::WrongState, message)
    }

    /// The queue of this process has been closed.
    pub(crate) fn closed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Closed, message)
    }

    /// The attempt is over for the store, so nothing was written.
    pub(crate) fn lease_lost(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::LeaseLost, message)
    }

    /// A bound on how much may wait is reached.
    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooMany, message)
    }

    /// As many jobs wait in the queue as may.
    pub(crate) fn queue_full(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::QueueFull, message)
    }

    /// The same error with another message.
    pub(crate) fn reworded(self, words: impl FnOnce(&str) -> String) -> Self {
        Self { message: words(&self.message), ..self }
    }

    /// Keeps the cause for logs; it is never part of the message.
    pub(crate) fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(Arc::new(ForLogs(source.into())));
        self
    }

    /// The cause, if it is of this type.
    pub(crate) fn cause<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.source.as_ref()?.0.downcast_ref()
    }

    /// The store cannot be reached, does not serve now, or did not answer in time: retry later.
    /// Includes [`Error::is_outcome_unknown`].
    pub fn is_unavailable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Moving | ErrorKind::OutcomeUnknown)
    }

    /// The queue moves between two servers of a Redis Cluster, neither of which serves it
    /// meanwhile. Its jobs cannot be dequeued, and nothing was done: retry later.
    pub fn is_moving(&self) -> bool {
        self.kind == ErrorKind::Moving
    }

    /// The request left and no answer came: it may have been carried out. So may an enqueue
    /// that fewer replicas confirmed than the connection's `wait_replicas` asks for.
    ///
    /// What a second request does depends on the operation:
    ///
    /// * *Enqueue*: [`Enqueue::confirm_within`](crate::Enqueue::confirm_within) repeats the request
    ///   by itself, safely. The same [idempotency key](crate::Enqueue::idempotency) makes it safe
    ///   for a day. The same *id* is not enough: it is in use only while the job exists, and a job
    ///   that has succeeded is gone unless it is retained. Enqueued again, it runs a second time.
    /// * *Pause, resume, archive, delete, reschedule, edit* a job: safe. If it was carried out, the
    ///   answer is the same, or says that the job is [gone](Error::is_not_found) or [in that state
    ///   already](Error::is_wrong_state).
    /// * *Run* and *cancel* a job: look at the [job](crate::Inspector::job) first. One that was
    ///   run, and has failed again since, would be run once more; one that is already at its next
    ///   attempt would be cancelled once more.
    /// * *Duplicate* a job, *run a periodic job now*: each makes a new job. Look first, or there
    ///   may be two.
    pub fn is_outcome_unknown(&self) -> bool {
        self.kind == ErrorKind::OutcomeUnknown
    }

    /// The store answered and refused: it is full, it does not permit the
    /// operation, or its data is damaged. Includes [`Error::is_damaged`].
    pub fn is_refused(&self) -> bool {
        matches!(self.kind, ErrorKind::Refused | ErrorKind::Damaged)
    }

    /// What is stored is not what it should be: a key of another type, or a job whose
    /// message or state cannot be read. [`Inspector::doctor`](crate::Inspector::doctor)
    /// says which.
    pub fn is_damaged(&self) -> bool {
        self.kind == ErrorKind::Damaged
    }

    /// Another job holds the same unique lock: it waits, runs, is archived, or has left a lock that
    /// [lasts for its time](crate::Until::Expiry).
    pub fn is_duplicate(&self) -> bool {
        self.kind == ErrorKind::Duplicate
    }

    /// The queue holds a job with this id already.
    pub fn is_id_conflict(&self) -> bool {
        self.kind == ErrorKind::IdConflict
    }

    /// The idempotency key was used before with another body, other options or another queue.
    pub fn is_idempotency_mismatch(&self) -> bool {
        self.kind == ErrorKind::IdempotencyMismatch
    }

    /// A value the caller gave is out of its domain.
    pub fn is_invalid(&self) -> bool {
        self.kind == ErrorKind::Invalid
    }

    /// The configuration is wrong; the message has the key's full path.
    pub fn is_config(&self) -> bool {
        self.kind == ErrorKind::Config
    }

    /// The queue or job does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }

    /// The attempt that wanted to write is over: it ended, or its lease was lost and
    /// another worker may have the job. Nothing was written.
    pub fn is_lease_lost(&self) -> bool {
        self.kind == ErrorKind::LeaseLost
    }

    /// The job or queue exists, and its state does not permit what was asked: the
    /// message names the state.
    pub fn is_wrong_state(&self) -> bool {
        self.kind == ErrorKind::WrongState
    }

    /// The maximum number that may wait is reached: of requests that wait for a job or follow it, or
    /// of jobs ([`Error::is_queue_full`]). Nothing was done: retry later.
    pub fn is_too_many(&self) -> bool {
        matches!(self.kind, ErrorKind::TooMany | ErrorKind::QueueFull)
    }

    /// The maximum number of jobs waits in the queue ([`MaxWaiting`](crate::limits::MaxWaiting)): the job was
    /// not stored. Retry later, or do without it.
    pub fn is_queue_full(&self) -> bool {
        self.kind == ErrorKind::QueueFull
    }

    /// The queue has been closed or shut down.
    pub fn is_closed(&self) -> bool {
        self.kind == ErrorKind::Closed
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        let causes = std::iter::successors(std::error::Error::source(self), |cause| cause.source());
        causes.take(MAX_CAUSES).try_for_each(|cause| write!(f, " ({cause})"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Logs once that a store refuses, until it has served again. The connection logs an outage, but
/// nothing else logs a refusal.
#[derive(Debug, Default)]
pub(crate) struct Refusals(bool);

impl Refusals {
    /// Logs the error if it is a refusal and none was logged since the store last served.
    /// `what` begins the line.
    pub(crate) fn note(&mut self, what: &str, error: &Error) {
        if error.is_refused() && !std::mem::replace(&mut self.0, true) {
            crate::log::warn!("{what} does not work: {error:?}; it is tried again until it does");
        }
    }

    /// The store has served: the next refusal is logged again.
    pub(crate) fn over(&mut self) {
        self.0 = false;
    }
}
