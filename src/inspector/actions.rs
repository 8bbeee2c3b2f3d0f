//! Operator actions that move, change and remove jobs and queues.
//!
//! Every action is one call of the store, atomic for its job: it finds the job in the state that
//! the action permits, or changes nothing and says which state it found. So two operators, or an
//! operator and a worker, cannot both win. Bulk actions are many such calls in steps of at most 200
//! jobs ([`Bulk`]), so that workers and producers go on between them.
//!
//! What may surprise. No action here touches a job that runs: that takes a cancel request
//! ([`Inspector::cancel`]), which its worker carries out. Reads are redacted for viewers, but
//! [`Inspector::duplicate`] copies the stored job, since a copy of the redacted one would lose
//! data.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Inspector;
use crate::broker::{Action, Broker, Enqueued, Removal, Selection, Sweep};
use crate::error::Error;
use crate::job::{Idempotency, JobId, JobRecord, NewJob, Placement, QueueName};

/// Maximum duration of one request to the store, including its repetitions.
pub(super) const MAX_REQUEST_TIME: Duration = Duration::from_secs(10);

/// Actions on one job, then bulk actions. None of them touches a job that runs.
impl Inspector {
    /// Runs a job now: a scheduled, retried, archived or completed job, or one that waits in
    /// a group, becomes pending, last in the queue.
    ///
    /// The attempts counted so far are kept: an archived job without retries left is archived again
    /// at its next failure. A job from a group no longer belongs to it. One script,
    /// O(log n).
    ///
    /// ```
    /// # use rocket_jobqueue::{Error, Inspector, JobId, QueueName};
    /// async fn try_again(inspector: &Inspector, id: &JobId) -> Result<(), Error> {
    ///     inspector.run(&QueueName::new("mail")?, id).await
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such queue or job,
    /// [`Error::is_wrong_state`] (the message names the state) if it is pending
    /// or running, or is being aggregated at the moment.
    pub async fn run(&self, queue: &QueueName, id: &JobId) -> Result<(), Error> {
        self.act(queue, id, Action::Run).await
    }

    /// Runs a job before all others of its queue: in any state but active it becomes pending,
    /// first in the queue. Jobs that are running already keep their slots. Of two calls the later
    /// one wins.
    ///
    /// Otherwise as [`run`](Self::run): attempts are kept, and a job from a group no longer belongs
    /// to it. Cost as [`archive`](Self::archive).
    ///
    /// # Errors
    /// As [`run`](Self::run); the state refused is active.
    pub async fn run_next(&self, queue: &QueueName, id: &JobId) -> Result<(), Error> {
        self.act(queue, id, Action::RunNext).await
    }

    /// Archives a job that is pending, scheduled, retried, completed or waits in a group: no
    /// worker runs it until [`run`](Self::run) is called.
    ///
    /// This does not count as a failure. The job keeps its unique lock unless
    /// `jobqueue.release_lock_on_archive` is set. O(log n); for a pending job in the middle of
    /// a long queue O(n) in pages, none of which blocks the store. In a list of more than
    /// 300,000 pending jobs, the newest job moves into the gap.
    ///
    /// # Errors
    /// As [`run`](Self::run); the states refused are archived and active.
    pub async fn archive(&self, queue: &QueueName, id: &JobId) -> Result<(), Error> {
        self.act(queue, id, Action::Archive).await
    }

    /// Deletes a job that does not run, and its unique lock if it still holds that. Cost as
    /// [`archive`](Self::archive).
    ///
    /// # Errors
    /// As [`run`](Self::run); the state refused is active.
    pub async fn delete(&self, queue: &QueueName, id: &JobId) -> Result<(), Error> {
        self.act(queue, id, Action::Delete).await
    }

    /// Gives a job another due time. A scheduled or retried job keeps its state, a pending or
    /// archived job becomes scheduled. A due time that is now or past makes it pending. Cost
    /// as [`archive`](Self::archive).
    ///
    /// A unique lock keeps its expiry, which was set for the due time when the job was
    /// enqueued.
    ///
    /// # Errors
    /// As [`run`](Self::run); the states refused are active, completed and
    /// aggregating.
    pub async fn reschedule(
        &self,
        queue: &QueueName,
        id: &JobId,
        placement: Placement,
    ) -> Result<(), Error> {
        self.act(queue, id, Action::Reschedule(placement)).await
    }

    /// Replaces the payload of a job that does not run, in any other state.
    ///
    /// A concurrent change is not overwritten. The unique lock still covers the payload that was
    /// enqueued, as in Asynq, and is released with the job. Two scripts, O(log n).
    ///
    /// # Errors
    /// As [`run`](Self::run); the state refused is active. [`Error::is_invalid`] for
    /// more than `jobqueue.max_payload` bytes.
    pub async fn edit_payload(
        &self,
        queue: &QueueName,
        id: &JobId,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        let payload = payload.as_ref();
        let (most, size) = (self.max_payload, payload.len());
        if size > most {
            return Err(Error::invalid(format!(
                "payload of job \"{id}\": expected at most {most} bytes, found {size}"
            )));
        }
        self.broker.edit(queue, id, payload).await?.or_error(id, "edited")
    }

    /// Enqueues a copy of a job in any state, due at once, and returns the id of the copy. The
    /// copy has the same type, payload, headers, retry limit, time limit and retention, and
    /// the deadline if it has not passed. It has no unique lock and no group. Two scripts,
    /// O(log n).
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such job, [`Error::is_damaged`] if it
    /// cannot be read, and errors of the store. After an
    /// [unknown outcome](Error::is_outcome_unknown) the copy may exist; a second call makes
    /// another one.
    pub async fn duplicate(&self, queue: &QueueName, id: &JobId) -> Result<JobId, Error> {
        // Unredacted: a copy of the redacted job would lose data.
        let Some(info) = self.broker.job(queue, id).await? else {
            return Err(Error::not_found(format!("queue \"{queue}\" has no job \"{id}\"")));
        };
        let now = self.broker.now();
        let job = info.record;
        let mut record = JobRecord::new(job.job_type, job.payload, job.queue);
        record.headers = job.headers;
        (record.max_retry, record.timeout) = (job.max_retry, job.timeout);
        record.retention = job.retention;
        record.deadline = job.deadline.filter(|deadline| *deadline > now);
        let new = record.id.clone();
        // So that the request can be repeated after a lost reply.
        let job = NewJob {
            idempotency: Some(Idempotency::of_one_call(MAX_REQUEST_TIME)),
            ..NewJob::now(record)
        };
        match self.broker.enqueue(&[job]).await?.pop() {
            Some(Enqueued::Created { .. } | Enqueued::Replayed { .. }) => Ok(new),
            _ => Err(Error::refused(format!("the copy of job \"{id}\" was not stored"))),
        }
    }

    /// Runs all jobs of a state or a group now: [`run`](Self::run) for each, in the order of
    /// their list (by whole seconds, then by id).
    ///
    /// Await it, or go step by step to show progress: see [`Bulk`].
    ///
    /// ```
    /// # use rocket_jobqueue::inspect::Selection;
    /// # use rocket_jobqueue::{Error, Inspector, JobState, QueueName};
    /// async fn after_the_outage(inspector: &Inspector) -> Result<(), Error> {
    ///     let mail = QueueName::new("mail")?;
    ///     let mut bulk =
    ///         inspector.run_all(&mail, Selection::from(JobState::Archived).of_type("mail:welcome"));
    ///     while let Some(progress) = bulk.step().await? {
    ///         println!("{} of {}", progress.done, progress.total);
    ///     }
    ///     inspector.run_all(&mail, JobState::Retry).await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn run_all(&self, queue: &QueueName, of: impl Into<Selection>) -> Bulk {
        self.bulk(queue, Action::Run, of)
    }

    /// Archives all jobs of a state or a group: [`archive`](Self::archive) for each. Above
    /// the archive's limit the oldest are deleted. See [`Bulk`], also for lists of more than
    /// 300,000 pending jobs and for selections by type.
    pub fn archive_all(&self, queue: &QueueName, of: impl Into<Selection>) -> Bulk {
        self.bulk(queue, Action::Archive, of)
    }

    /// Deletes all jobs of a state or a group: [`delete`](Self::delete) for each. See [`Bulk`],
    /// also for lists of more than 300,000 pending jobs and for selections by type.
    pub fn delete_all(&self, queue: &QueueName, of: impl Into<Selection>) -> Bulk {
        self.bulk(queue, Action::Delete, of)
    }

    /// Gives all jobs of a state one due time: [`reschedule`](Self::reschedule) for
    /// each. A delay counts from the first step. See [`Bulk`].
    pub fn reschedule_all(
        &self,
        queue: &QueueName,
        of: impl Into<Selection>,
        placement: Placement,
    ) -> Bulk {
        self.bulk(queue, Action::Reschedule(placement), of)
    }

    /// Removes a queue without jobs; with `force` also a queue with jobs, if none of them
    /// runs. Everything of it is deleted: jobs, unique locks, groups, counters, the pause and
    /// the idempotency keys.
    ///
    /// The queue is paused during the removal. If the removal fails half-way, it stays paused
    /// until the removal is repeated or the queue is resumed. Jobs that arrive during or after
    /// the removal make it a new queue.
    ///
    /// Many calls of about a millisecond each, together O(keys of the server): the
    /// keys of a queue can only be found among all.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such queue,
    /// [`Error::is_wrong_state`] if it has jobs, or jobs that run.
    pub async fn delete_queue(&self, queue: &QueueName, force: bool) -> Result<(), Error> {
        match self.broker.remove_queue(queue, force).await? {
            Removal::Gone => Ok(()),
            Removal::NotEmpty => Err(Error::wrong_state(format!("queue \"{queue}\" has jobs"))),
            Removal::Running => {
                Err(Error::wrong_state(format!("jobs of queue \"{queue}\" are running")))
            }
        }
    }

    /// Acts on one job, and turns every other outcome than success into an error.
    async fn act(&self, queue: &QueueName, id: &JobId, action: Action) -> Result<(), Error> {
        self.broker.act(queue, id, action).await?.or_error(id, action.done())
    }

    fn bulk(&self, queue: &QueueName, action: Action, of: impl Into<Selection>) -> Bulk {
        Bulk {
            broker: Arc::clone(&self.broker),
            sweep: Sweep::new(queue.clone(), action, of.into()),
            queue: queue.clone(),
            state: BulkWalk::Before,
        }
    }
}

/// The progress of a bulk action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkProgress {
    /// Jobs that were acted upon.
    pub done: u64,
    /// Jobs that the list held when the action began, other types included. With
    /// several groups: of the groups so far.
    pub total: u64,
}

/// A bulk action. Await it to run it to its end, or call [`step`](Bulk::step) to show
/// progress and to be able to stop.
///
/// Each step is one script of at most 200 jobs, O(log n) each, so that workers and producers
/// go on meanwhile. The action ends when it has examined as many jobs as the list held at
/// the beginning: jobs that arrive meanwhile do not prolong it. A new job that is placed
/// before others is acted upon instead of one of them.
///
/// Two limits on long lists:
///
/// * Jobs [of a type](Selection::of_type) are found by walking a list that workers and other
///   callers change meanwhile, so some may be skipped. Repeat the action for the rest.
/// * If some of more than 300,000 pending jobs are removed from the middle of their list,
///   the newest jobs may move into the gaps and run earlier: closing the gaps in order would
///   block the store.
///
/// Dropped, it stops between two steps. Nothing happens before the first step.
#[must_use = "nothing happens until it is awaited or stepped"]
pub struct Bulk {
    broker: Arc<dyn Broker>,
    queue: QueueName,
    sweep: Result<Sweep, Error>,
    state: BulkWalk,
}

/// How far a bulk action is. Only the first step asks whether the queue exists: one that is
/// removed meanwhile has no jobs left.
#[derive(Clone, Copy, PartialEq)]
enum BulkWalk {
    Before,
    Between,
    Over,
}

impl Bulk {
    /// Makes the next step; `None` if nothing is left to do.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such queue, [`Error::is_invalid`]
    /// if the action does not apply to that state. After an error that
    /// [is unavailable](Error::is_unavailable) the next step goes on; the step of an
    /// [unknown outcome](Error::is_outcome_unknown) may have been made, and is then
    /// missing in the count.
    pub async fn step(&mut self) -> Result<Option<BulkProgress>, Error> {
        let sweep = match &mut self.sweep {
            Ok(sweep) => sweep,
            Err(error) => return Err(Error::invalid(error.to_string())),
        };
        if self.state == BulkWalk::Over {
            return Ok(None);
        }
        if self.state == BulkWalk::Before {
            self.broker.queue(&self.queue).await?;
            self.state = BulkWalk::Between;
        }
        if !sweep.step(&*self.broker).await? {
            self.state = BulkWalk::Over;
        }
        Ok(Some(BulkProgress { done: sweep.done(), total: sweep.total() }))
    }

    /// Makes all steps. The count is the last one that a step reported.
    async fn finish(mut self) -> Result<BulkProgress, Error> {
        let mut progress = BulkProgress::default();
        while let Some(further) = self.step().await? {
            progress = further;
        }
        Ok(progress)
    }
}

impl std::fmt::Debug for Bulk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bulk").field("sweep", &self.sweep).finish_non_exhaustive()
    }
}

impl IntoFuture for Bulk {
    type Output = Result<BulkProgress, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.finish())
    }
}
