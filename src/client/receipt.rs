//! The answer to an enqueue.
//!
//! Of a store's outcomes four are a receipt in any case (created, replaced, extended, replayed),
//! one is a receipt if the caller wants the existing job, and the others are errors.

use serde::Serialize;

use super::confirm::placed;
use crate::broker::Enqueued;
use crate::error::Error;
use crate::job::{JobId, JobState, NewJob, QueueName};
use crate::time::Timestamp;

/// What the store answered to an enqueue.
///
/// As the answer of a route it is a 202 with these fields as JSON.
/// [`JobQueue::accepted`](crate::JobQueue::accepted) answers with a link to the job's status instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueReceipt"))]
#[non_exhaustive]
pub struct Receipt {
    /// The job's id.
    #[serde(rename = "job_id")]
    pub id: JobId,
    /// The queue it is in.
    pub queue: QueueName,
    /// Pending, scheduled if due later, or aggregating.
    pub state: JobState,
    /// When it is due, in store time.
    pub due: Timestamp,
    /// Whether an idempotency key brought the receipt of an earlier enqueue;
    /// state and due time are then what this request asked for, which that job need not have.
    pub replayed: bool,
    /// Whether the job was there before: it holds the unique lock, and
    /// [`Enqueue::or_existing`](crate::Enqueue::or_existing) or
    /// [`or_extend`](crate::Enqueue::or_extend) asked for it.
    /// Nothing was stored; state and due time are unknown and say pending, now. With
    /// [`Until::Expiry`](crate::Until::Expiry) that job may have ended.
    pub existing: bool,
    /// Whether the waiting holder of the unique lock became this job, as
    /// [`Enqueue::or_replace`](crate::Enqueue::or_replace) asked, or the waiting job of this id, as
    /// [`Client::replace`](crate::Client::replace) did. The id is that job's.
    pub replaced: bool,
}

impl Receipt {
    /// The receipt for a job, or the conflict.
    pub(super) fn of(
        job: &NewJob,
        outcome: Enqueued,
        or_existing: bool,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let (record, asked) = (&job.record, placed(job, now));
        let receipt = |id, state, due| Self {
            id,
            queue: record.queue.clone(),
            state,
            due,
            replayed: false,
            existing: false,
            replaced: false,
        };
        match outcome {
            Enqueued::Created { state, due } => Ok(receipt(record.id.clone(), state, due)),
            Enqueued::Replayed { id } => {
                Ok(Self { replayed: true, ..receipt(id, asked.0, asked.1) })
            }
            Enqueued::Replaced { id, state, due } => {
                Ok(Self { replaced: true, ..receipt(id, state, due) })
            }
            Enqueued::Extended { holder } => {
                Ok(Self { existing: true, ..receipt(holder, JobState::Pending, now) })
            }
            Enqueued::Duplicate { holder } if or_existing => {
                Ok(Self { existing: true, ..receipt(holder, JobState::Pending, now) })
            }
            Enqueued::Duplicate { holder } => Err(Error::duplicate(format!(
                "queue {:?} has a job of type {:?} with this unique lock already: {holder}",
                record.queue, record.job_type
            ))
            .held_by(holder)),
            Enqueued::IdConflict => Err(Error::id_conflict(format!(
                "queue {:?} has a job {:?} already",
                record.queue, record.id
            ))),
            Enqueued::QueueFull => {
                let jobs = job.max_waiting.map_or(0, |bound| bound.jobs);
                let text = format!("queue {:?} is full: {jobs} jobs wait", record.queue);
                Err(Error::queue_full(text).refusing(record.id.clone(), jobs))
            }
            Enqueued::NotFound => Err(Error::not_found(format!(
                "queue {:?} has no job {:?}",
                record.queue, record.id
            ))),
            Enqueued::WrongState(state) => Err(Error::wrong_state(format!(
                "job {:?} is {state}: it cannot be replaced",
                record.id
            ))),
            Enqueued::KeyReused => Err(Error::idempotency_mismatch(
                "the idempotency key was used before with another body or other options",
            )),
        }
    }
}
