//! The script calls of the hot path, each for some jobs of one queue.

use std::time::{Duration, Instant};

use super::reply::Reply;
use super::scripts::SCRIPTS;
use super::settlement::Step;
use super::{HEARD, RedisBroker, keys, micros, wire};
use crate::broker::{Delivery, Enqueued, Extended, IDEMPOTENCY_TTL, Lease, Settled};
use crate::error::Error;
use crate::job::{AfterCancel, JobState, NewJob, Placement, QueueName};
use crate::pool::{Repeat, ScriptCall};
use crate::time::Timestamp;

/// What one call took of one queue.
pub(super) struct Take {
    pub deliveries: Vec<Delivery>,
    pub paused: bool,
    /// Whether the queue has no more at the moment.
    pub all: bool,
}

impl RedisBroker {
    /// Stores the jobs of a queue that are at these places.
    pub(super) async fn enqueue_part(
        &self,
        queue: &QueueName,
        jobs: &[NewJob],
        places: &[usize],
    ) -> Result<Vec<Enqueued>, Error> {
        let some: Vec<&NewJob> = places.iter().map(|&at| &jobs[at]).collect();
        self.enqueue_some(queue, &some).await
    }

    pub(super) async fn enqueue_some(
        &self,
        queue: &QueueName,
        jobs: &[&NewJob],
    ) -> Result<Vec<Enqueued>, Error> {
        let stored: Vec<Storing> = jobs.iter().map(|new| Storing::of(queue, new)).collect();
        let safe = jobs.iter().all(|new| leaves_a_trace(new));
        let repeat = if safe { Repeat::Safe } else { Repeat::Never };
        let mut reply = self
            .ask(&SCRIPTS.enqueue, queue, repeat, |attempt, call| {
                stored.iter().fold(call.arg(attempt), |call, job| job.add_to(call))
            })
            .await?;
        jobs.iter().map(|_| self.stored(queue, &mut reply)).collect()
    }

    /// What a script that stores jobs says about the next one.
    pub(super) fn stored(&self, queue: &QueueName, reply: &mut Reply) -> Result<Enqueued, Error> {
        let (code, id, due) = (reply.int()?, reply.id()?, Timestamp::from_micros(reply.int()?));
        Ok(match code {
            1 => Enqueued::Created { state: JobState::Pending, due },
            2 => {
                self.wake.due_at(queue, due);
                Enqueued::Created { state: JobState::Scheduled, due }
            }
            5 => Enqueued::Created { state: JobState::Aggregating, due },
            0 => Enqueued::IdConflict,
            -1 => Enqueued::Duplicate { holder: id },
            3 => Enqueued::Replayed { id },
            _ => Enqueued::KeyReused,
        })
    }

    /// Takes up to `room` jobs of one queue.
    pub(super) async fn take_some(&self, queue: &QueueName, room: usize) -> Result<Take, Error> {
        loop {
            let owner = fastrand::u64(1..);
            let unheard = self.untaken.earlier(queue);
            let until = self.clock.told().map(|now| (now + HEARD).as_micros().to_string());
            let until = until.unwrap_or_default();
            let asked = Instant::now();
            // Never repeated as it is: the next call asks for the jobs of a lost
            // answer, also where the server runs this one late.
            let answer = self
                .ask(&SCRIPTS.dequeue, queue, Repeat::Never, |_, call| {
                    call.arg(room).arg(until.as_str()).arg(owner.to_string()).arg(unheard.as_str())
                })
                .await;
            let mut reply = match answer {
                Ok(reply) => reply,
                Err(error) => {
                    if error.is_outcome_unknown() {
                        self.untaken.add(queue, owner);
                    }
                    return Err(error);
                }
            };
            let state = reply.int()?;
            let broken = reply.int()?;
            // Too late, and yet here we are: the clock is wrong.
            if state == 2 && !until.is_empty() {
                self.clock.forget();
                continue;
            }
            if broken > 0 {
                tracing::warn!(%queue, broken, "dropped pending entries without a job");
            }
            let deliveries = self.deliveries(queue, Some(owner), &mut reply).await?;
            let short = deliveries.len() < room;
            if short && !unheard.is_empty() {
                self.untaken.answered(queue, asked);
            }
            // A full batch, or one with gaps, may not have been all.
            return Ok(Take { paused: state == 1, all: short && broken == 0, deliveries });
        }
    }

    /// Reads jobs with their leases. A message that nobody can read is archived
    /// with its bytes kept: it would stop every reader of the queue.
    pub(super) async fn deliveries(
        &self,
        queue: &QueueName,
        owner: Option<u64>,
        reply: &mut Reply,
    ) -> Result<Vec<Delivery>, Error> {
        let mut readable = Vec::new();
        let mut unreadable = Vec::new();
        while !reply.is_empty() {
            let id = reply.id()?;
            let message = reply.bytes()?;
            let losses = u32::try_from(reply.int()?).unwrap_or(0);
            let lease = Lease { queue: queue.clone(), id, owner, ends: reply.int()? };
            let cancel = AfterCancel::parse(&reply.text()?);
            match wire::decode(queue, &lease.id, &message) {
                Some(job) => readable.push(Delivery { job, lease, losses, cancel }),
                None => unreadable.push(Step::quarantine(lease)),
            }
        }
        for step in unreadable {
            tracing::warn!(%queue, id = %step.lease.id, "archived a job whose message is unreadable");
            if let Err(error) = self.settle_some(queue, &[&step]).await {
                tracing::warn!(%queue, id = %step.lease.id, ?error, "could not archive it; its lease will run out");
            }
        }
        Ok(readable)
    }

    pub(super) async fn settle_some(
        &self,
        queue: &QueueName,
        steps: &[&Step],
    ) -> Result<Vec<Settled>, Error> {
        let keep = self.archive.of(queue);
        let asked = self
            .ask(&SCRIPTS.settle, queue, Repeat::Safe, |attempt, mut call| {
                call = call.arg(attempt).arg(keep.max).arg(keep.age.as_secs());
                for step in steps {
                    call = lease_args(call, &step.lease)
                        .arg(step.kind)
                        .arg(step.msg.as_slice())
                        .arg(micros(step.time))
                        .arg(u32::from(step.result.is_some()))
                        .arg(step.result.as_deref().unwrap_or_default())
                        .arg(step.lock.as_str());
                }
                call
            })
            .await;
        let mut reply = match asked {
            Ok(reply) => reply,
            Err(error) => {
                if error.is_outcome_unknown() {
                    self.settling.add(steps.iter().map(|step| &step.lease), self.clock.now());
                }
                return Err(error);
            }
        };
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            // Lost to an earlier sending of the same settlement: that one did it.
            let before = self.settling.remove(&step.lease);
            let settled = match reply.int()? {
                1 => Settled::Done,
                2 => Settled::Cancelled(AfterCancel::Archive),
                3 => Settled::Cancelled(AfterCancel::Delete),
                _ if before => Settled::Done,
                _ => Settled::Lost,
            };
            outcomes.push(settled);
            if let (Settled::Done, Some(after)) = (settled, step.waits()) {
                self.wake.due_at(queue, self.clock.now() + after);
            }
        }
        Ok(outcomes)
    }

    pub(super) async fn extend_some(
        &self,
        queue: &QueueName,
        leases: &[&Lease],
    ) -> Result<Vec<Extended>, Error> {
        // Never repeated: the next heartbeat asks again, and one that arrives late
        // would keep a job longer than its owner knows.
        let mut reply = self
            .ask(&SCRIPTS.extend, queue, Repeat::Never, |_, mut call| {
                for lease in leases {
                    call = lease_args(call, lease);
                }
                call
            })
            .await?;
        let mut extended = Vec::with_capacity(leases.len());
        for lease in leases {
            let (ends, wish) = (reply.int()?, AfterCancel::parse(&reply.text()?));
            let renewed = Lease { ends, ..(*lease).clone() };
            extended.push(match (ends, wish) {
                (0, _) => Extended::Lost,
                (_, None) => Extended::Renewed(renewed),
                (_, Some(after)) => Extended::Cancelled(renewed, after),
            });
        }
        Ok(extended)
    }
}

/// Id, owner and end, as scripts take a lease.
pub(super) fn lease_args(call: ScriptCall, lease: &Lease) -> ScriptCall {
    let owner = lease.owner.map_or(String::new(), |owner| owner.to_string());
    call.arg(lease.id.as_str()).arg(owner).arg(lease.ends)
}

/// What the scripts that store jobs are told about one.
pub(super) struct Storing<'a> {
    new: &'a NewJob,
    lock: String,
    guard: String,
    message: Vec<u8>,
}

impl<'a> Storing<'a> {
    pub fn of(queue: &QueueName, new: &'a NewJob) -> Self {
        let mut record = new.record.clone();
        if new.unique_for.is_some() {
            record.unique_key = keys::unique(queue, &record.job_type, record.payload.as_deref());
        }
        let lock = new.unique_for.map_or(String::new(), |_| record.unique_key.clone());
        let guard = new.idempotency.as_ref();
        let guard = guard.map_or(String::new(), |guard| keys::idempotency(queue, &guard.key));
        Self { new, lock, guard, message: wire::encode(&record) }
    }

    /// Its ten values, as in `store.lua`.
    pub fn add_to(&self, call: ScriptCall) -> ScriptCall {
        let (placement, time) = match self.new.placement {
            Placement::Now => ("now", 0),
            Placement::After(delay) => ("after", micros(delay)),
            Placement::At(due) => ("at", due.as_micros()),
        };
        call.arg(self.new.record.id.as_str())
            .arg(self.message.as_slice())
            .arg(placement)
            .arg(time)
            .arg(self.lock.as_str())
            .arg(micros(self.new.unique_for.unwrap_or_default()))
            .arg(self.guard.as_str())
            .arg(self.new.idempotency.as_ref().map_or("", |guard| guard.body.as_str()))
            .arg(micros(IDEMPOTENCY_TTL))
            .arg(self.new.record.group.as_str())
    }
}

/// Whether a repetition after a lost answer would find the first call's work. A
/// job that is due soon may have run and vanished by then: stored again, it would
/// run twice.
fn leaves_a_trace(new: &NewJob) -> bool {
    /// Well beyond the time that all repetitions of one request take.
    const SOON: Duration = Duration::from_secs(10);
    new.idempotency.is_some() || matches!(new.placement, Placement::After(delay) if delay > SOON)
}
