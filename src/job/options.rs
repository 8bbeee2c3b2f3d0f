//! The options of a job. A job type has its own, and a caller overrides single ones.
//!
//! The options of [`Job::options`](crate::Job::options) are the beginning;
//! [`Enqueue`](crate::Enqueue) and [`Periodic`](crate::Periodic) change a copy of them. The macro
//! `option_setters!` writes the same setters, with the same documentation, for all of these.
//!
//! Setters check nothing, so that a chain of them needs no `?`. All values are checked together
//! when a job is built, before anything is sent.
//!
//! What may surprise. Options are stored with each job: a changed default concerns new jobs only.
//! Durations may have fractions of a second; those that Asynq's message keeps in whole seconds are
//! rounded up, as is said at each setter, so that no limit is shorter than asked for.

use std::borrow::Cow;
use std::time::Duration;

use super::unique::{UniqueKey, Until};
use crate::time::Timestamp;

/// The queue of jobs that name none.
pub const DEFAULT_QUEUE: &str = "default";

/// How often a failed job is retried unless its options say otherwise. Asynq's default is
/// 25; here it is 10.
pub const DEFAULT_MAX_RETRY: u32 = 10;

/// How long one attempt may run unless its options say otherwise: 30 minutes, as in Asynq.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

/// The error of a job that was archived because it did not start in time. The scripts in Redis
/// write the same.
pub(crate) const EXPIRED: &str = "expired";

/// When a job becomes due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// At once.
    #[default]
    Now,
    /// This long after the store accepts it. Zero is at once.
    After(Duration),
    /// At an instant. One that has passed is at once.
    At(Timestamp),
}

/// Options of a job type. Each has a default, and a caller can override it at enqueue.
///
/// ```
/// use rocket_jobqueue::JobOptions;
/// use std::time::Duration;
///
/// let nightly = JobOptions::new()
///     .queue("reports")
///     .max_retry(3)
///     .timeout(Duration::from_secs(600))
///     .retention(Duration::from_secs(86_400));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOptions {
    pub(crate) queue: Cow<'static, str>,
    pub(crate) placement: Placement,
    pub(crate) max_retry: u32,
    /// `None` is [`DEFAULT_TIMEOUT`], or no limit but the deadline if there is one.
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) retention: Duration,
    /// `None` takes no lock.
    pub(crate) unique_for: Option<Duration>,
    /// When that lock ends, if not with its time.
    pub(crate) until: Until,
    /// Which jobs are the same to it.
    pub(crate) unique_key: UniqueKey,
    /// After its due time; `None` starts it however late it is.
    pub(crate) expires_in: Option<Duration>,
    /// `None` runs the job by itself.
    pub(crate) group: Option<Cow<'static, str>>,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl JobOptions {
    /// Queue `default`, at once, 10 retries, 30 minutes an attempt, not kept
    /// after success, not unique, in no group.
    pub const fn new() -> Self {
        Self {
            queue: Cow::Borrowed(DEFAULT_QUEUE),
            placement: Placement::Now,
            max_retry: DEFAULT_MAX_RETRY,
            timeout: None,
            deadline: None,
            retention: Duration::ZERO,
            unique_for: None,
            until: Until::Success,
            unique_key: UniqueKey::Payload,
            expires_in: None,
            group: None,
        }
    }

    /// The queue; see [`QueueName`](crate::QueueName) for the allowed form.
    pub fn queue(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.queue = name.into();
        self
    }

    /// Runs no earlier than `delay` after it was enqueued, to the millisecond.
    /// Zero is at once.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.placement = Placement::After(delay);
        self
    }

    /// Runs no earlier than `at`. An instant that has passed is at once.
    pub fn at(mut self, at: impl Into<Timestamp>) -> Self {
        self.placement = Placement::At(at.into());
        self
    }

    /// How often a failed job is tried again; 0 means a single attempt.
    pub fn max_retry(mut self, retries: u32) -> Self {
        self.max_retry = retries;
        self
    }

    /// How long one attempt may run. Stored in whole seconds, rounded up.
    /// Without it, and without a deadline, 30 minutes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The instant by which the job must have ended. Stored in whole seconds.
    /// An attempt that would begin later fails without running.
    pub fn deadline(mut self, deadline: impl Into<Timestamp>) -> Self {
        self.deadline = Some(deadline.into());
        self
    }

    /// How long after its due time (for a job without delay, after it was enqueued) the job may
    /// still start; more than zero. Off by default.
    ///
    /// A job that no worker has dequeued by then is archived with the error `expired`. No attempt
    /// is counted, its handler never sees it, and its unique lock is released unless that lasts
    /// for its time ([`Until::Expiry`](crate::Until::Expiry)). Once a worker has dequeued the job,
    /// nothing is left of this limit: it may run, fail and be retried for as long as its other
    /// options allow. Contrast [`deadline`](Self::deadline), an instant by which the job must
    /// have *ended*: past it, attempts are cancelled and retries fail.
    ///
    /// An operator who runs, reschedules or archives the job ends the limit too. Workers written
    /// in Go do not know it. A job of a [`group`](Self::group) cannot have it.
    pub fn expires_in(mut self, limit: Duration) -> Self {
        self.expires_in = Some(limit);
        self
    }

    /// How long a completed job and its result are kept, in whole seconds,
    /// rounded up. Zero (the default) removes it at success.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Refuses another job of the same queue, type and payload until this one succeeds, for
    /// at most this long. At least one second; for a delayed job the time counts from its
    /// due time. [`until`](Self::until) ends it elsewhere, [`unique_by`](Self::unique_by) and
    /// [`unique_key`](Self::unique_key) compare something else than the payload.
    pub fn unique_for(mut self, lock: Duration) -> Self {
        self.unique_for = Some(lock);
        self
    }

    /// When the lock of [`unique_for`](Self::unique_for) ends: with the job's start, its
    /// success (the default), or not before its time is over.
    pub fn until(mut self, until: Until) -> Self {
        self.until = until;
        self
    }

    /// Jobs are the same to the lock of [`unique_for`](Self::unique_for) if these fields of
    /// their payloads are equal, in place of the whole payload. A name that begins with `/` is a
    /// JSON pointer, such as `/user/id`. 1 to 16 fields, which every payload must have: with a
    /// missing one the enqueue is invalid, because otherwise a misspelled name would make all
    /// jobs of the type the same.
    ///
    /// ```
    /// use rocket_jobqueue::{JobOptions, Until};
    /// use std::time::Duration;
    ///
    /// // One reminder a day for each user, whatever its text.
    /// let reminder = JobOptions::new()
    ///     .unique_for(Duration::from_secs(86_400))
    ///     .unique_by(["user"])
    ///     .until(Until::Expiry);
    /// ```
    pub fn unique_by<F: Into<Cow<'static, str>>>(
        mut self,
        fields: impl IntoIterator<Item = F>,
    ) -> Self {
        self.unique_key = UniqueKey::Fields(fields.into_iter().map(Into::into).collect());
        self
    }

    /// Jobs of a queue and type are the same to the lock of [`unique_for`](Self::unique_for) if
    /// they have this key, whatever their payloads. Not blank, at most 1024 bytes; stored as a
    /// digest.
    pub fn unique_key(mut self, key: impl Into<Cow<'static, str>>) -> Self {
        self.unique_key = UniqueKey::Text(key.into());
        self
    }

    /// Whether something is said about a unique lock, apart from its time.
    pub(crate) fn has_lock_terms(&self) -> bool {
        self.until != Until::default() || self.unique_key != UniqueKey::default()
    }

    /// Collects the job in this group of its queue instead of running it: a
    /// worker with an aggregate function turns the jobs of the group into one.
    /// A job with a delay joins the group when it is due. Not blank, at most 512
    /// bytes, no control characters.
    ///
    /// If no worker of the queue has an aggregate function, the job waits for ever; see
    /// [`JobQueueFairing::aggregate`](crate::JobQueueFairing::aggregate).
    pub fn group(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.group = Some(name.into());
        self
    }
}

/// Defines the setters of [`JobOptions`] for a type with a field `options`, with the same
/// documentation for all such types. A setter may be given documentation of its own, which
/// follows the common one.
macro_rules! option_setters {
    ($($(#[$more:meta])* $setter:ident;)*) => {
        $($crate::job::option_setters!(@$setter [$(#[$more])*]);)*
    };
    (@options [$($more:tt)*]) => {
        /// Replaces all options of the job type at once.
        $($more)*
        pub fn options(mut self, options: $crate::job::JobOptions) -> Self {
            self.options = options;
            self
        }
    };
    (@queue [$($more:tt)*]) => {
        /// The queue; see [`QueueName`](crate::QueueName) for the allowed form.
        $($more)*
        pub fn queue(mut self, name: impl Into<std::borrow::Cow<'static, str>>) -> Self {
            self.options = self.options.queue(name);
            self
        }
    };
    (@delay [$($more:tt)*]) => {
        /// Runs the job no earlier than `delay` after it is enqueued, to the millisecond.
        /// Zero is at once.
        $($more)*
        pub fn delay(mut self, delay: std::time::Duration) -> Self {
            self.options = self.options.delay(delay);
            self
        }
    };
    (@at [$($more:tt)*]) => {
        /// Runs the job no earlier than `at`. An instant that has passed is now.
        $($more)*
        pub fn at(mut self, at: impl Into<$crate::time::Timestamp>) -> Self {
            self.options = self.options.at(at);
            self
        }
    };
    (@max_retry [$($more:tt)*]) => {
        /// How often a failed job is tried again; 0 means a single attempt.
        $($more)*
        pub fn max_retry(mut self, retries: u32) -> Self {
            self.options = self.options.max_retry(retries);
            self
        }
    };
    (@timeout [$($more:tt)*]) => {
        /// How long one attempt may run, in whole seconds, rounded up.
        $($more)*
        pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
            self.options = self.options.timeout(timeout);
            self
        }
    };
    (@deadline [$($more:tt)*]) => {
        /// The instant by which the job must have ended, in whole seconds. An attempt that
        /// would begin later fails without running.
        $($more)*
        pub fn deadline(mut self, deadline: impl Into<$crate::time::Timestamp>) -> Self {
            self.options = self.options.deadline(deadline);
            self
        }
    };
    (@expires_in [$($more:tt)*]) => {
        /// How long after its due time the job may still start; more than zero. A job that no
        /// worker has dequeued by then is archived with the error `expired`, without an attempt;
        /// see [`JobOptions::expires_in`](crate::JobOptions::expires_in).
        $($more)*
        pub fn expires_in(mut self, limit: std::time::Duration) -> Self {
            self.options = self.options.expires_in(limit);
            self
        }
    };
    (@retention [$($more:tt)*]) => {
        /// How long the job and its result are kept after success, in whole seconds, rounded
        /// up. Zero removes the job at success.
        $($more)*
        pub fn retention(mut self, retention: std::time::Duration) -> Self {
            self.options = self.options.retention(retention);
            self
        }
    };
    (@unique_for [$($more:tt)*]) => {
        $($more)*
        pub fn unique_for(mut self, lock: std::time::Duration) -> Self {
            self.options = self.options.unique_for(lock);
            self
        }
    };
    (@until [$($more:tt)*]) => {
        /// When the lock of `unique_for` ends: with the job's start, its success (the default),
        /// or not before its time is over; see [`Until`](crate::Until).
        $($more)*
        pub fn until(mut self, until: $crate::job::Until) -> Self {
            self.options = self.options.until(until);
            self
        }
    };
    (@unique_by [$($more:tt)*]) => {
        /// Compares these fields of the payloads for `unique_for`, in place of the whole
        /// payload; see [`JobOptions::unique_by`](crate::JobOptions::unique_by).
        $($more)*
        pub fn unique_by<F: Into<std::borrow::Cow<'static, str>>>(
            mut self,
            fields: impl IntoIterator<Item = F>,
        ) -> Self {
            self.options = self.options.unique_by(fields);
            self
        }
    };
    (@unique_key [$($more:tt)*]) => {
        /// Compares this key for `unique_for`, in place of the payload: a function of the job,
        /// such as `format!("user-{}", job.user)`. Jobs of the same queue, type and key are the
        /// same. Not blank, at most 1024 bytes; stored as a digest.
        $($more)*
        pub fn unique_key(mut self, key: impl Into<std::borrow::Cow<'static, str>>) -> Self {
            self.options = self.options.unique_key(key);
            self
        }
    };
    (@group [$($more:tt)*]) => {
        /// Collects the job in this group of its queue: a worker with an aggregate function
        /// makes one job of all that came together. See
        /// [`JobOptions::group`](crate::JobOptions::group).
        $($more)*
        pub fn group(mut self, name: impl Into<std::borrow::Cow<'static, str>>) -> Self {
            self.options = self.options.group(name);
            self
        }
    };
}
pub(crate) use option_setters;
