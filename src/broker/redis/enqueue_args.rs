//! The arguments of the scripts that store jobs, computed once per job.
//!
//! An [`EnqueueArgs`] holds the encoded message and the keys of the job's unique
//! lock and idempotency guard. The caller makes it before the job waits for its
//! batch, so the task that sends the batch does no encoding. Most jobs have neither
//! lock, guard nor group: those extras are boxed, and an ordinary job stays small.
//!
//! [`EnqueueArgs::script`] names the cheapest script that can store the job, and
//! [`EnqueueArgs::kind`] says which jobs may share a call. The three `add_…` methods
//! append the arguments of the three scripts; each script's arguments begin with those
//! of the cheaper one.
//!
//! What may surprise. A call is repeated after a lost reply only if the repetition
//! would find the first call's work: see [`EnqueueArgs::is_repeatable`]. A plain job
//! that is due now may have run and been deleted by then, so its outcome stays unknown.

use std::time::Duration;

use super::{keys, micros, wire};
use crate::job::{JobId, MaxWaiting, NewJob, OnConflict, Placement, QueueName, Until};
use crate::pool::ScriptCall;

/// Longer than all repetitions of one request take: a job due later than this has not run
/// yet when its enqueue is repeated.
const REPEAT_WINDOW: Duration = Duration::from_secs(10);

/// The script arguments of one new job.
pub(super) struct EnqueueArgs {
    /// The queue of the job.
    queue: QueueName,
    /// The job's id.
    id: JobId,
    /// The encoded message, with the unique key if there is one.
    message: Vec<u8>,
    /// When the job is due.
    placement: Placement,
    /// Lock, guard and group; most jobs have none.
    extras: Option<Box<EnqueueExtras>>,
    /// It opens a sequence of several calls whose order must be kept.
    pub opens: bool,
    /// Whether its queue is known to have limits.
    limited: bool,
}

/// Which script stores a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnqueueScript {
    /// `enqueue_now`: due now, without extras.
    Now,
    /// `enqueue_later`: due later, without extras.
    Later,
    /// `enqueue`: everything else.
    Any,
    /// `enqueue_limited`: as `enqueue`, for a queue that has limits.
    Limited,
}

/// What only some jobs have.
struct EnqueueExtras {
    /// The key of the unique lock, empty if none, and how long it holds.
    lock: String,
    lock_for: Duration,
    /// The key of the idempotency guard, empty if none, and the digest of the request.
    guard: String,
    digest: String,
    guard_for: Duration,
    /// The group; empty if none.
    group: String,
    /// When the lock ends.
    until: Until,
    /// What happens if the lock is held, in the script's words.
    on_conflict: String,
    /// How long after its due time it may start.
    expires_in: Option<Duration>,
    /// How many jobs may wait in the queue.
    max_waiting: Option<MaxWaiting>,
}

impl EnqueueExtras {
    /// Whether it may take the place of a job that waits.
    fn replaces(&self) -> bool {
        self.on_conflict.starts_with("replace")
    }
}

impl EnqueueArgs {
    /// Encodes a new job for a queue.
    pub(super) fn of(queue: &QueueName, new: &NewJob) -> Self {
        let record = &new.record;
        let id = record.id.clone();
        let (unique, guard) = (new.unique_for, new.idempotency.as_ref());
        let (own, placement) = (queue.clone(), new.placement);
        if is_ordinary(new) {
            let message = wire::encode(record);
            let (extras, opens, limited) = (None, false, false);
            return Self { queue: own, id, message, placement, extras, opens, limited };
        }
        let lock = unique.map(|_| match &new.unique_key {
            Some(digest) => keys::unique_by_key(queue, &record.job_type, digest),
            None => keys::unique(queue, &record.job_type, record.payload.as_deref()),
        });
        let message = match &lock {
            // Whoever settles a job whose message names a lock, Go too, releases that.
            Some(lock) if new.until != Until::Expiry => {
                let mut record = record.clone();
                record.unique_key.clone_from(lock);
                wire::encode(&record)
            }
            Some(_) | None => wire::encode(record),
        };
        let extras = EnqueueExtras {
            lock: lock.unwrap_or_default(),
            lock_for: unique.unwrap_or_default(),
            guard: guard.map_or(String::new(), |guard| keys::idempotency(queue, &guard.key)),
            digest: guard.map_or(String::new(), |guard| guard.body.clone()),
            guard_for: guard.map_or(Duration::ZERO, |guard| guard.kept),
            group: record.group.clone(),
            until: new.until,
            on_conflict: match new.on_conflict {
                OnConflict::Replace => format!("replace:{}", wire::bytes_before_id(record)),
                other => other.as_str().to_owned(),
            },
            expires_in: new.expires_in,
            max_waiting: new.max_waiting,
        };
        let (extras, opens, limited) = (Some(Box::new(extras)), false, false);
        Self { queue: own, id, message, placement, extras, opens, limited }
    }

    /// The same job of a queue that has limits, or of one that has none.
    pub(super) fn of_limited(self, limited: bool) -> Self {
        Self { limited, ..self }
    }

    pub(super) fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// The approximate size of its arguments in bytes.
    pub(super) fn size(&self) -> usize {
        self.message.len() + self.id.as_bytes().len()
    }

    /// The cheapest script that can store it.
    pub(super) fn script(&self) -> EnqueueScript {
        match (&self.extras, self.placement) {
            (Some(_), _) | (None, Placement::Now) if self.limited => EnqueueScript::Limited,
            (Some(_), _) => EnqueueScript::Any,
            (None, Placement::Now) => EnqueueScript::Now,
            (None, Placement::After(_) | Placement::At(_)) => EnqueueScript::Later,
        }
    }

    /// Jobs of the same kind can share a call. The queue belongs to the kind unless the script
    /// serves several queues and they are on one server. Whether the call may be repeated
    /// belongs to it too: one job that must not be sent twice would forbid it for all.
    pub(super) fn kind(&self, one_place: bool) -> (Option<QueueName>, EnqueueScript, bool) {
        let script = self.script();
        let queue = (script != EnqueueScript::Now || !one_place).then(|| self.queue.clone());
        (queue, script, self.is_repeatable())
    }

    /// Whether a repetition after a lost reply would find the work of the first call. A job
    /// that is due soon may have run and been deleted by then; stored again, it would run
    /// twice.
    pub(super) fn is_repeatable(&self) -> bool {
        // A repetition would replace what was stored in between.
        let replaces = self.extras.as_ref().is_some_and(|extras| extras.replaces());
        let late =
            !replaces && matches!(self.placement, Placement::After(delay) if delay > REPEAT_WINDOW);
        late || self.extras.as_ref().is_some_and(|extras| !extras.guard.is_empty())
    }

    /// Adds its two arguments of `enqueue_now`.
    pub(super) fn add_now_args(&self, call: ScriptCall) -> ScriptCall {
        call.arg(self.id.as_bytes()).arg(self.message.as_slice())
    }

    /// Adds its four arguments of `enqueue_later`.
    pub(super) fn add_later_args(&self, call: ScriptCall) -> ScriptCall {
        let (placement, time) = match self.placement {
            Placement::Now => ("now", 0),
            Placement::After(delay) => ("after", micros(delay)),
            Placement::At(due) => ("at", due.as_micros()),
        };
        self.add_now_args(call).arg(placement).arg(time)
    }

    /// Adds its fourteen arguments of `enqueue`.
    pub(super) fn add_args(&self, call: ScriptCall) -> ScriptCall {
        let call = self.add_later_args(call);
        let Some(extras) = &self.extras else {
            let call = call.arg("").arg(0).arg("").arg("").arg(0).arg("").arg("").arg("reject");
            return call.arg("").arg("");
        };
        call.arg(extras.lock.as_str())
            .arg(micros(extras.lock_for))
            .arg(extras.guard.as_str())
            .arg(extras.digest.as_str())
            .arg(micros(extras.guard_for))
            .arg(extras.group.as_str())
            .arg(extras.until.as_str())
            .arg(extras.on_conflict.as_str())
            .arg(extras.expires_in.map_or(String::new(), |limit| micros(limit).to_string()))
            .arg(extras.max_waiting.map_or(String::new(), |bound| {
                format!("{}:{}", bound.when_full.as_str(), bound.jobs)
            }))
    }
}

/// Whether the job has no extras: no lock, guard, group, limit or bound, and replaces none. Most jobs are ordinary.
fn is_ordinary(new: &NewJob) -> bool {
    new.unique_for.is_none()
        && new.idempotency.is_none()
        && new.record.group.is_empty()
        && new.expires_in.is_none()
        && new.max_waiting.is_none()
        && new.on_conflict != OnConflict::ReplaceJob
}

/// Whether `enqueue_now` can store the job.
pub(super) fn is_plain(new: &NewJob) -> bool {
    is_ordinary(new) && new.placement == Placement::Now
}
