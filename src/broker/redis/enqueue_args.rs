//! What the scripts that store jobs are told about one: made where the job comes
//! from, so that whoever sends it has nothing to do but send.

use std::time::Duration;

use super::{keys, micros, wire};
use crate::job::{JobId, NewJob, Placement, QueueName};
use crate::pool::ScriptCall;

/// Well beyond the time that all repetitions of one request take.
const SOON: Duration = Duration::from_secs(10);

/// A new job in the store's own words.
pub(super) struct EnqueueArgs {
    queue: QueueName,
    id: JobId,
    message: Vec<u8>,
    placement: Placement,
    /// What most jobs do not have.
    extras: Option<Box<EnqueueExtras>>,
    /// The first of a bulk of several calls, which are to run in their order.
    pub opens: bool,
}

/// Which script stores a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnqueueScript {
    /// `enqueue_now.lua`: it is due now, and has nothing special.
    Push,
    /// `enqueue_later.lua`: it is due later, and has nothing special.
    Schedule,
    /// `enqueue.lua`, which knows all.
    Enqueue,
}

struct EnqueueExtras {
    /// The key of the unique lock, and how long it holds; empty if none.
    lock: String,
    lock_for: Duration,
    /// The key of the repeat guard and the request's digest; empty if none.
    guard: String,
    digest: String,
    guard_for: Duration,
    group: String,
}

impl EnqueueArgs {
    pub fn of(queue: &QueueName, new: &NewJob) -> Self {
        let record = &new.record;
        let id = record.id.clone();
        let (unique, guard) = (new.unique_for, new.idempotency.as_ref());
        let (own, placement) = (queue.clone(), new.placement);
        if is_ordinary(new) {
            let message = wire::encode(record);
            return Self { queue: own, id, message, placement, extras: None, opens: false };
        }
        let lock = unique.map(|_| keys::unique(queue, &record.job_type, record.payload.as_deref()));
        let message = match &lock {
            Some(lock) => {
                let mut record = record.clone();
                record.unique_key.clone_from(lock);
                wire::encode(&record)
            }
            None => wire::encode(record),
        };
        let extras = EnqueueExtras {
            lock: lock.unwrap_or_default(),
            lock_for: unique.unwrap_or_default(),
            guard: guard.map_or(String::new(), |guard| keys::idempotency(queue, &guard.key)),
            digest: guard.map_or(String::new(), |guard| guard.body.clone()),
            guard_for: guard.map_or(Duration::ZERO, |guard| guard.kept),
            group: record.group.clone(),
        };
        Self { queue: own, id, message, placement, extras: Some(Box::new(extras)), opens: false }
    }

    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// About how many bytes it takes in a script call.
    pub fn size(&self) -> usize {
        self.message.len() + self.id.as_bytes().len()
    }

    /// The script that stores it with the least effort.
    pub fn by(&self) -> EnqueueScript {
        match (&self.extras, self.placement) {
            (Some(_), _) => EnqueueScript::Enqueue,
            (None, Placement::Now) => EnqueueScript::Push,
            (None, Placement::After(_) | Placement::At(_)) => EnqueueScript::Schedule,
        }
    }

    /// What must be the same for jobs that go together; their queue too, unless the
    /// script serves several and these are in one place.
    pub fn kind(&self, one_place: bool) -> (Option<QueueName>, EnqueueScript, bool) {
        let by = self.by();
        let queue = (by != EnqueueScript::Push || !one_place).then(|| self.queue.clone());
        (queue, by, self.leaves_a_trace())
    }

    /// Whether a repetition after a lost answer would find the first call's work. A
    /// job that is due soon may have run and vanished by then: stored again, it
    /// would run twice.
    pub fn leaves_a_trace(&self) -> bool {
        let late = matches!(self.placement, Placement::After(delay) if delay > SOON);
        late || self.extras.as_ref().is_some_and(|extras| !extras.guard.is_empty())
    }

    /// Its two values, as in `enqueue_now.lua`.
    pub fn add_plain_to(&self, call: ScriptCall) -> ScriptCall {
        call.arg(self.id.as_bytes()).arg(self.message.as_slice())
    }

    /// Its four values, as in `enqueue_later.lua`.
    pub fn add_later_to(&self, call: ScriptCall) -> ScriptCall {
        let (placement, time) = match self.placement {
            Placement::Now => ("now", 0),
            Placement::After(delay) => ("after", micros(delay)),
            Placement::At(due) => ("at", due.as_micros()),
        };
        self.add_plain_to(call).arg(placement).arg(time)
    }

    /// Its ten values, as in `store_job.lua`.
    pub fn add_to(&self, call: ScriptCall) -> ScriptCall {
        let call = self.add_later_to(call);
        let Some(extras) = &self.extras else {
            return call.arg("").arg(0).arg("").arg("").arg(0).arg("");
        };
        call.arg(extras.lock.as_str())
            .arg(micros(extras.lock_for))
            .arg(extras.guard.as_str())
            .arg(extras.digest.as_str())
            .arg(micros(extras.guard_for))
            .arg(extras.group.as_str())
    }
}

/// Whether the job has nothing special: no lock, repeat guard or group.
fn is_ordinary(new: &NewJob) -> bool {
    new.unique_for.is_none() && new.idempotency.is_none() && new.record.group.is_empty()
}

/// Whether `enqueue_now.lua` stores the job.
pub(super) fn is_plain(new: &NewJob) -> bool {
    is_ordinary(new) && new.placement == Placement::Now
}
