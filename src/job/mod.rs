//! The vocabulary of jobs.
//!
//! An author implements [`Job`] for a payload type and gives it [`JobOptions`]. Enqueued, it is
//! stored as a [`JobRecord`] with a [`JobId`], a [`QueueName`] and a [`JobState`]. An attempt ends
//! with an [`Outcome`], from which [`decide`] makes the [`Transition`] that the store carries
//! out. Everything here is pure: no I/O, no clock, no locks.

mod backoff;
mod bound;
mod context;
mod error;
mod failure_text;
mod id;
mod limit;
mod namespace;
mod options;
mod outcome;
mod payload;
mod periodic;
pub(crate) mod printable;
mod progress;
mod rate;
mod record;
mod report;
mod schedule;
pub(crate) mod serial;
mod sketch;
mod state;
mod transition;
mod type_record;
mod unique;
mod verdict;
mod version;

pub use backoff::{RetryPolicy, asynq_delay};
pub(crate) use bound::{DISPLACED, MAX_DISPLACED, RefusedByBound};
pub use bound::{MaxWaiting, WhenFull};
pub use context::MAX_RESULT;
pub use context::{CancelReason, JobContext};
pub(crate) use context::{Cancellation, Reporter};
pub use error::JobError;
#[cfg(test)]
pub(crate) use error::text as error_text;
#[cfg(test)]
pub(crate) use failure_text::failure_text;
pub(crate) use failure_text::without_backtrace;
pub(crate) use id::check_group;
pub use id::{JobId, QueueName};
pub(crate) use limit::given_header;
pub use limit::{Limit, LimitKey, MAX_KEYED_PAYLOAD, MAX_LIMIT_KEY, MAX_LIMITS};
pub(crate) use namespace::EXPECTED_NAMESPACE;
pub use namespace::Namespace;
pub use options::{DEFAULT_MAX_RETRY, DEFAULT_QUEUE, DEFAULT_TIMEOUT, JobOptions, Placement};
pub(crate) use options::{EXPIRED, option_setters};
pub use outcome::{AfterCancel, Charge, Outcome, UndecodableJobs, UnknownJobs};
pub(crate) use payload::payload_bytes;
pub use periodic::{Missed, Periodic};
pub(crate) use periodic::{periodic_id, tick_id};
pub(crate) use progress::MAX_MESSAGE_BYTES;
pub use progress::Progress;
pub use rate::Rate;
pub(crate) use rate::{RateNumbers, RateState};
pub(crate) use record::lock_name;
pub use record::{Idempotency, JobRecord, NewJob};
pub(crate) use report::report;
pub use schedule::Schedule;
pub(crate) use schedule::{Wrong, duration_text, parse_duration};
pub(crate) use sketch::{BUCKETS, bucket_of};
pub use sketch::{MAX_ERROR, Sketch};
pub use state::JobState;
pub use transition::Transition;
pub(crate) use type_record::MAX_REMEMBERED;
pub use type_record::{Remembered, TypeAttempt, TypeRecord};
pub(crate) use unique::UniqueKey;
pub use unique::{OnConflict, Until};
pub use verdict::decide;
pub(crate) use verdict::{Parked, is_suspect, parked};
pub use version::AppVersion;
pub(crate) use version::EXPECTED_VERSION;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A job type: the data of one kind of work, and how it is queued by default.
///
/// Any serializable structure becomes a job type by naming its `TYPE`, the name
/// under which jobs are stored and by which Go peers know them. What is done
/// with it is a function, the *handler*, attached with the fairing; a process
/// that only enqueues needs none.
///
/// The payload is JSON on one line, as Asynq's tools like to show it. Maps are written
/// sorted at every depth by their keys as they are written (text by its bytes, numbers by
/// value), and fields in the order of their declaration (with
/// `#[serde(flatten)]` the structure is a map), so that equal jobs have equal bytes and meet
/// the same unique lock. A `HashSet` has no order to sort by: use a `BTreeSet` or a sorted
/// list if jobs of this type are unique.
///
/// ```
/// use rocket_jobqueue::{Job, JobOptions};
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
///
/// #[derive(Serialize, Deserialize)]
/// struct Welcome {
///     user: u64,
/// }
///
/// impl Job for Welcome {
///     const TYPE: &'static str = "mail:welcome";
///
///     fn options() -> JobOptions {
///         JobOptions::new().queue("mail").timeout(Duration::from_secs(30))
///     }
/// }
/// ```
pub trait Job: Serialize + DeserializeOwned + Send + 'static {
    /// The stored name of this job type, customarily `area:verb`. Not blank.
    const TYPE: &'static str;

    /// The options of jobs of this type; a caller may override each of them.
    fn options() -> JobOptions {
        JobOptions::new()
    }

    /// What makes jobs of this type the same to a unique lock, in place of the payload; `None` (the
    /// default) compares the payload. It counts only with a lock
    /// ([`unique_for`](JobOptions::unique_for)), and a caller may override it by `unique_by` or
    /// `unique_key`. Not blank, at most 1024 bytes; stored as a digest.
    ///
    /// Jobs enqueued by type name ([`JobQueue::enqueue_raw`](crate::JobQueue::enqueue_raw)) and
    /// periodic jobs have no value to ask: give those a `unique_key`. REST and the form of a type
    /// with a handler ask it.
    ///
    /// ```
    /// # use rocket_jobqueue::{Job, JobOptions};
    /// # use serde::{Deserialize, Serialize};
    /// # use std::time::Duration;
    /// #[derive(Serialize, Deserialize)]
    /// struct Rebuild {
    ///     user: u64,
    ///     asked_at: u64,
    /// }
    ///
    /// impl Job for Rebuild {
    ///     const TYPE: &'static str = "rebuild";
    ///
    ///     fn options() -> JobOptions {
    ///         JobOptions::new().unique_for(Duration::from_secs(600))
    ///     }
    ///
    ///     fn unique_key(&self) -> Option<String> {
    ///         Some(format!("user-{}", self.user))
    ///     }
    /// }
    /// ```
    fn unique_key(&self) -> Option<String> {
        None
    }

    /// How long a failed job of this type waits for its next attempt; `None` (the
    /// default) leaves it to the application's policy.
    fn retry_policy() -> Option<RetryPolicy> {
        None
    }

    /// The payload's JSON Schema, for documentation, forms and validation.
    ///
    /// It needs the feature `json-schema`, which `openapi` includes: without it the launch stops,
    /// because payloads would be stored unchecked.
    fn schema() -> Option<serde_json::Value> {
        None
    }
}
