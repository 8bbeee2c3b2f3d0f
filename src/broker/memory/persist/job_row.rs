//! The rows of one job. Their fields are numbers of a protobuf message, so the structures of
//! this crate may change while the format stays; unknown fields are ignored.
//!
//! [`JobRow`] is written when a job is enqueued or edited and has all of it, payload included.
//! [`StateRow`] is what changes afterwards: a dequeue or a failure writes only this, so its size
//! does not depend on the payload. Times are microseconds since 1970.
//!
//! A tag is never used again for something else, and a new field must have a sensible value if it
//! is missing: rows of older versions do not have it.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;

use crate::broker::JobFailure;
use crate::broker::memory::limits::{Limited, Pair};
use crate::broker::memory::queue::{HeldLease, StoredJob};
use crate::broker::memory::successor::Follows;
use crate::job::{AfterCancel, JobId, JobRecord, JobState, Progress, QueueName};
use crate::time::Timestamp;

/// The states and their stored numbers.
const STATES: [(JobState, u32); 7] = [
    (JobState::Pending, 1),
    (JobState::Active, 2),
    (JobState::Scheduled, 3),
    (JobState::Retry, 4),
    (JobState::Archived, 5),
    (JobState::Completed, 6),
    (JobState::Aggregating, 7),
];

/// A job as it was enqueued or edited.
#[derive(Clone, PartialEq, Message)]
pub(super) struct JobRow {
    #[prost(string, tag = "1")]
    job_type: String,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
    #[prost(uint32, tag = "3")]
    max_retry: u32,
    #[prost(message, optional, tag = "4")]
    timeout: Option<Span>,
    #[prost(sint64, optional, tag = "5")]
    deadline: Option<i64>,
    #[prost(message, optional, tag = "6")]
    retention: Option<Span>,
    #[prost(string, tag = "7")]
    unique_key: String,
    #[prost(string, tag = "8")]
    group: String,
    #[prost(btree_map = "string, string", tag = "9")]
    headers: BTreeMap<String, String>,
    #[prost(bytes = "vec", tag = "10")]
    unknown: Vec<u8>,
    #[prost(message, repeated, tag = "11")]
    odd_numbers: Vec<OddNumber>,
    /// What was known when the row was written; a state row is newer.
    #[prost(message, optional, tag = "12")]
    state: Option<StateRow>,
    #[prost(string, optional, tag = "13")]
    timed_lock: Option<String>,
}

/// What changes of a job while it lives.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StateRow {
    /// The number of its state in [`STATES`].
    #[prost(uint32, tag = "1")]
    state: u32,
    #[prost(sint64, optional, tag = "2")]
    due: Option<i64>,
    #[prost(sint64, optional, tag = "3")]
    pending_since: Option<i64>,
    #[prost(sint64, tag = "4")]
    order: i64,
    #[prost(sint64, tag = "5")]
    entered: i64,
    #[prost(uint32, tag = "6")]
    retried: u32,
    #[prost(string, tag = "7")]
    last_error: String,
    #[prost(sint64, optional, tag = "8")]
    last_failed_at: Option<i64>,
    #[prost(sint64, optional, tag = "9")]
    completed_at: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "10")]
    result: Option<Vec<u8>>,
    #[prost(message, optional, tag = "11")]
    progress: Option<ProgressRow>,
    #[prost(string, tag = "12")]
    on_cancel: String,
    #[prost(uint32, tag = "13")]
    losses: u32,
    #[prost(message, repeated, tag = "14")]
    failures: Vec<FailureRow>,
    #[prost(bool, tag = "15")]
    started: bool,
    #[prost(uint64, optional, tag = "16")]
    reclaimed_from: Option<u64>,
    #[prost(bool, tag = "17")]
    grouped: bool,
    #[prost(uint64, tag = "18")]
    owner: u64,
    #[prost(bool, tag = "19")]
    unlock_at_start: bool,
    #[prost(sint64, optional, tag = "20")]
    start_by: Option<i64>,
    #[prost(message, optional, tag = "21")]
    follows: Option<FollowsRow>,
    #[prost(bytes = "vec", tag = "22")]
    successor: Vec<u8>,
    #[prost(message, optional, tag = "30")]
    limited: Option<LimitedRow>,
    #[prost(bool, tag = "31")]
    waits_for_place: bool,
    #[prost(string, optional, tag = "32")]
    version: Option<String>,
    #[prost(string, optional, tag = "33")]
    first_failed_version: Option<String>,
}

/// Whose end a successor waits for, and what it is then.
#[derive(Clone, PartialEq, Message)]
struct FollowsRow {
    #[prost(bytes = "vec", tag = "1")]
    holder: Vec<u8>,
    #[prost(string, tag = "2")]
    lock: String,
    #[prost(message, optional, tag = "3")]
    lasts: Option<Span>,
    #[prost(bool, tag = "4")]
    unlock_at_start: bool,
    #[prost(sint64, tag = "5")]
    due: i64,
    #[prost(message, optional, tag = "6")]
    expires_in: Option<Span>,
}

impl FollowsRow {
    fn of(follows: &Follows) -> Self {
        Self {
            holder: follows.holder.as_bytes().to_vec(),
            lock: follows.lock.clone(),
            lasts: span(follows.lasts),
            unlock_at_start: follows.unlock_at_start,
            due: follows.due.as_micros(),
            expires_in: follows.expires_in.and_then(span),
        }
    }

    fn into_follows(self) -> Follows {
        Follows {
            holder: JobId::stored(&self.holder),
            lock: self.lock,
            lasts: duration(self.lasts),
            unlock_at_start: self.unlock_at_start,
            due: Timestamp::from_micros(self.due),
            expires_in: self.expires_in.map(|span| duration(Some(span))),
        }
    }
}

/// The number of a job among those that wait, and the places that it holds.
#[derive(Clone, PartialEq, Message)]
struct LimitedRow {
    #[prost(sint64, tag = "1")]
    number: i64,
    #[prost(sint64, tag = "2")]
    taken: i64,
    #[prost(message, repeated, tag = "3")]
    places: Vec<PlaceRow>,
}

#[derive(Clone, PartialEq, Message)]
struct PlaceRow {
    #[prost(string, tag = "1")]
    limit: String,
    #[prost(string, tag = "2")]
    key: String,
}

impl LimitedRow {
    /// Places are held by active jobs only; where others wait follows from the limits.
    fn of(limited: &Limited, is_active: bool) -> Self {
        let place = |pair: &Pair| PlaceRow { limit: pair.limit.clone(), key: pair.key.clone() };
        let held = if is_active { limited.pairs.as_slice() } else { &[] };
        Self {
            number: limited.turn,
            taken: limited.taken.as_micros(),
            places: held.iter().map(place).collect(),
        }
    }

    fn into_limited(self) -> Limited {
        let pair = |place: PlaceRow| Pair { limit: place.limit, key: place.key };
        let pairs = self.places.into_iter().map(pair).collect();
        Limited::holding(pairs, self.number, Timestamp::from_micros(self.taken))
    }
}

/// A length of time.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Span {
    #[prost(uint64, tag = "1")]
    seconds: u64,
    #[prost(uint32, tag = "2")]
    nanos: u32,
}

/// A number of another program that a record cannot hold.
#[derive(Clone, Copy, PartialEq, Message)]
struct OddNumber {
    #[prost(uint32, tag = "1")]
    field: u32,
    #[prost(sint64, tag = "2")]
    number: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ProgressRow {
    #[prost(uint64, tag = "1")]
    done: u64,
    #[prost(uint64, tag = "2")]
    total: u64,
    #[prost(string, tag = "3")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct FailureRow {
    #[prost(sint64, tag = "1")]
    at: i64,
    #[prost(uint32, tag = "2")]
    attempt: u32,
    #[prost(string, tag = "3")]
    error: String,
    #[prost(string, optional, tag = "4")]
    version: Option<String>,
    #[prost(string, optional, tag = "5")]
    worker: Option<String>,
    /// Microseconds.
    #[prost(uint64, optional, tag = "6")]
    waited: Option<u64>,
    /// Microseconds.
    #[prost(uint64, optional, tag = "7")]
    ran: Option<u64>,
}

fn span(duration: Duration) -> Option<Span> {
    let span = Span { seconds: duration.as_secs(), nanos: duration.subsec_nanos() };
    (!duration.is_zero()).then_some(span)
}

fn duration(span: Option<Span>) -> Duration {
    span.map_or(Duration::ZERO, |span| {
        Duration::from_secs(span.seconds)
            .saturating_add(Duration::from_nanos(u64::from(span.nanos)))
    })
}

fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_micros)
}

fn instant(micros: Option<i64>) -> Option<Timestamp> {
    micros.map(Timestamp::from_micros)
}

impl JobRow {
    /// The whole job.
    pub(super) fn of(stored: &StoredJob) -> Self {
        let job = &stored.job;
        let odd = |(field, number): &(u32, i64)| OddNumber { field: *field, number: *number };
        Self {
            job_type: job.job_type.clone(),
            payload: job.payload_bytes().to_vec(),
            max_retry: job.max_retry,
            timeout: span(job.timeout),
            deadline: micros(job.deadline),
            retention: span(job.retention),
            unique_key: job.unique_key.clone(),
            group: job.group.clone(),
            headers: job.headers.clone(),
            unknown: job.unknown.clone(),
            odd_numbers: job.odd_numbers.iter().map(odd).collect(),
            state: Some(StateRow::of(stored)),
            timed_lock: stored.timed_lock.clone(),
        }
    }

    /// The job as it was stored; `None` if its state is unknown.
    pub(super) fn into_stored(self, queue: &QueueName, id: &JobId) -> Option<StoredJob> {
        let odd = |odd: OddNumber| (odd.field, odd.number);
        let mut stored = StoredJob::new(JobRecord {
            payload: Some(self.payload).filter(|payload| !payload.is_empty()),
            id: id.clone(),
            max_retry: self.max_retry,
            timeout: duration(self.timeout),
            deadline: instant(self.deadline),
            retention: duration(self.retention),
            unique_key: self.unique_key,
            group: self.group,
            headers: self.headers,
            unknown: self.unknown,
            odd_numbers: self.odd_numbers.into_iter().map(odd).collect(),
            job_type: self.job_type,
            queue: queue.clone(),
            // The row of what changes has these.
            retried: 0,
            last_error: String::new(),
            last_failed_at: None,
            completed_at: None,
        });
        stored.timed_lock = self.timed_lock;
        self.state.filter(StateRow::is_known)?.apply_to(&mut stored);
        Some(stored)
    }
}

impl StateRow {
    /// What changes of this job.
    pub(super) fn of(stored: &StoredJob) -> Self {
        let job = &stored.job;
        let state = STATES.iter().find(|(state, _)| *state == stored.state);
        let failure = |failure: &JobFailure| FailureRow {
            at: failure.at.as_micros(),
            attempt: failure.attempt,
            error: failure.error.clone(),
            version: failure.version.clone(),
            worker: failure.worker.clone(),
            waited: failure.waited.map(|waited| waited.as_micros() as u64),
            ran: failure.ran.map(|ran| ran.as_micros() as u64),
        };
        let progress = |progress: &Progress| ProgressRow {
            done: progress.done,
            total: progress.total,
            message: progress.message.clone(),
        };
        Self {
            state: state.map(|(_, number)| *number).expect("every state has a number"),
            due: micros(stored.due),
            pending_since: micros(stored.pending_since),
            order: stored.order,
            entered: stored.entered.as_micros(),
            retried: job.retried,
            last_error: job.last_error.clone(),
            last_failed_at: micros(job.last_failed_at),
            completed_at: micros(job.completed_at),
            result: stored.result.clone(),
            progress: stored.progress.as_ref().map(progress),
            on_cancel: stored.on_cancel.map(AfterCancel::as_str).unwrap_or_default().to_owned(),
            losses: stored.losses,
            failures: stored.failures.iter().map(failure).collect(),
            started: stored.started,
            reclaimed_from: stored.reclaimed_from,
            grouped: stored.grouped,
            owner: stored.held.owner,
            unlock_at_start: stored.unlock_at_start,
            start_by: micros(stored.start_by),
            follows: stored.follows.as_deref().map(FollowsRow::of),
            successor: stored.successor.as_ref().map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
            limited: stored
                .limited
                .as_ref()
                .map(|limited| LimitedRow::of(limited, stored.state == JobState::Active)),
            waits_for_place: stored.waits_for_place,
            version: stored.version.clone(),
            first_failed_version: stored.first_failed_version.clone(),
        }
    }

    /// The state, unless this version does not know it.
    fn job_state(&self) -> Option<JobState> {
        STATES.iter().find(|(_, number)| *number == self.state).map(|(state, _)| *state)
    }

    /// Whether this version knows the state.
    pub(super) fn is_known(&self) -> bool {
        self.job_state().is_some()
    }

    /// Changes the job to this, which has a row of its own.
    pub(super) fn apply_after_save(self, stored: &mut StoredJob) {
        stored.saved.state = true;
        self.apply_to(stored);
    }

    /// Changes the job to this; the state stays if it is unknown.
    fn apply_to(self, stored: &mut StoredJob) {
        stored.state = self.job_state().unwrap_or(stored.state);
        stored.due = instant(self.due);
        stored.pending_since = instant(self.pending_since);
        stored.order = self.order;
        stored.entered = Timestamp::from_micros(self.entered);
        stored.job.retried = self.retried;
        stored.job.last_error = self.last_error;
        stored.job.last_failed_at = instant(self.last_failed_at);
        stored.job.completed_at = instant(self.completed_at);
        stored.result = self.result;
        stored.progress =
            self.progress.map(|row| Progress::new(row.done, row.total).message(row.message));
        stored.on_cancel = AfterCancel::parse(&self.on_cancel);
        stored.losses = self.losses;
        let failure = |row: FailureRow| JobFailure {
            at: Timestamp::from_micros(row.at),
            attempt: row.attempt,
            error: row.error,
            version: row.version,
            worker: row.worker,
            waited: row.waited.map(Duration::from_micros),
            ran: row.ran.map(Duration::from_micros),
        };
        stored.failures = self.failures.into_iter().map(failure).collect();
        stored.started = self.started;
        stored.reclaimed_from = self.reclaimed_from;
        stored.grouped = self.grouped;
        stored.unlock_at_start = self.unlock_at_start;
        stored.start_by = instant(self.start_by);
        stored.follows = self.follows.map(|row| Box::new(row.into_follows()));
        stored.successor = (!self.successor.is_empty()).then(|| JobId::stored(&self.successor));
        stored.limited = self.limited.map(|row| Box::new(row.into_limited()));
        stored.waits_for_place = self.waits_for_place;
        stored.version = self.version;
        stored.first_failed_version = self.first_failed_version;
        stored.held = HeldLease { owner: self.owner, ends: 0 };
    }
}
