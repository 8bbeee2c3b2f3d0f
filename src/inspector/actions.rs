//! The verbs that move, change and remove jobs and queues.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Inspector;
use crate::broker::{Acted, Action, Broker, Enqueued, Removal, Selection, Sweep};
use crate::error::Error;
use crate::job::{Idempotency, JobId, JobRecord, NewJob, Placement, QueueName};

/// How long one request to the store takes at most, its repetitions included.
pub(super) const ONE_CALL: Duration = Duration::from_secs(10);

/// One job, then all of a state. None of them touches a job that runs.
impl Inspector {
    /// Runs a job now that is scheduled, retried, archived, completed or waits in a
    /// group: it becomes pending, last in line.
    ///
    /// Attempts are not counted anew: an archived job without retries left is
    /// archived again at its next failure. A job taken out of a group belongs to
    /// none any more. One script, O(log n).
    ///
    /// ```
    /// # use rocket_jobqueue::{Error, Inspector, JobId, QueueName};
    /// async fn try_again(inspector: &Inspector, id: &JobId) -> Result<(), Error> {
    ///     inspector.run(&QueueName::new("mail")?, id).await
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`] where there is no such queue or job,
    /// [`Error::is_wrong_state`] (the message names the state) where it is pending
    /// or running, or is being aggregated at the moment.
    pub async fn run(&self, queue: &QueueName, id: &JobId) -> Result<(), Error> {
        self.act(queue, id, Action::Run).await
    }

    /// Archives a job that is pending, scheduled, retried, completed or waits in a
    /// group: no worker takes it until it is run.
    ///
    /// Not counted as a failure. It keeps its unique lock, unless
    /// `jobqueue.release_lock_on_archive` says otherwise. O(log n); for a pending
    /// job in the middle of a long line O(n) in pages, none of which holds up the
    /// store. From the middle of more than 300,000 pending jobs it is taken by
    /// letting the newest of them take its place in line.
    ///
    /// # Errors
    /// As [`run`](Self::run); the states refused are archived and active.
    pub async fn archive(&self, queue: &QueueName, id: &JobId) -> Result<(), Error> {
        self.act(queue, id, Action::Archive).await
    }

    /// Deletes a job that does not run, and its unique lock if that is still its
    /// own. Cost as [`archive`](Self::archive).
    ///
    /// # Errors
    /// As [`run`](Self::run); the state refused is active.
    pub async fn delete(&self, queue: &QueueName, id: &JobId) -> Result<(), Error> {
        self.act(queue, id, Action::Delete).await
    }

    /// Gives a job another due time: a scheduled or retried one stays what it is, a
    /// pending or archived one becomes scheduled. A due time that is now or has
    /// passed makes it pending. Cost as [`archive`](Self::archive).
    ///
    /// A unique lock keeps its end: it was set for the due time at enqueueing.
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

    /// Replaces the payload of a job that does not run, in whatever other state.
    ///
    /// A change by somebody else meanwhile is not overwritten. The unique lock is
    /// not computed anew: as in Asynq, it stands for the payload at enqueueing, and
    /// is released with the job. Two scripts, O(log n).
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
        answer(id, self.broker.edit(queue, id, payload).await?, "edited")
    }

    /// Enqueues a job like this one again, whatever its state: with its type, payload,
    /// headers, retry limit, time limit and retention, and a deadline that has not passed;
    /// without its unique lock and group. It has an id of its own, which is returned, and is
    /// due at once. Two scripts, O(log n).
    ///
    /// # Errors
    /// [`Error::is_not_found`] where there is no such job, [`Error::is_damaged`] where it
    /// cannot be read, and those of the store. After an
    /// [unknown outcome](Error::is_outcome_unknown) there may be such a job; asked again, it
    /// makes another one.
    pub async fn duplicate(&self, queue: &QueueName, id: &JobId) -> Result<JobId, Error> {
        // Not as it is shown: what was redacted would be lost.
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
        // So that the store may be asked again where an answer is lost.
        let job =
            NewJob { idempotency: Some(Idempotency::of_one_call(ONE_CALL)), ..NewJob::now(record) };
        match self.broker.enqueue(&[job]).await?.pop() {
            Some(Enqueued::Created { .. } | Enqueued::Replayed { .. }) => Ok(new),
            _ => Err(Error::refused(format!("the copy of job \"{id}\" was not stored"))),
        }
    }

    /// Runs all jobs of a state, or of a group, now: [`run`](Self::run) for each,
    /// those that were due (or archived) first being first in line. Seconds count,
    /// as in lists: jobs of the same one stand in the order of their ids.
    ///
    /// Await it, or go step by step to show how far it is: see [`Bulk`].
    ///
    /// ```
    /// # use rocket_jobqueue::{Error, Inspector, JobState, QueueName, Selection};
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

    /// Archives all jobs of a state, or of a group: [`archive`](Self::archive) for
    /// each. Beyond the archive's limit the oldest go. See [`Bulk`], also for lists
    /// of more than 300,000 pending jobs and for selections by type.
    pub fn archive_all(&self, queue: &QueueName, of: impl Into<Selection>) -> Bulk {
        self.bulk(queue, Action::Archive, of)
    }

    /// Deletes all jobs of a state, or of a group: [`delete`](Self::delete) for
    /// each. See [`Bulk`], also for lists of more than 300,000 pending jobs and for
    /// selections by type.
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

    /// Removes a queue that has no jobs, of any state; with `force` one that has
    /// jobs, if none of them runs. Nothing of it stays: jobs, unique locks, groups,
    /// counters, whether it was paused, what repeated requests are known by.
    ///
    /// While it is under way the queue is paused; where it fails half-way it stays
    /// so until the removal is repeated (or the queue resumed). Jobs that arrive
    /// meanwhile, or later, make it a new queue.
    ///
    /// Many calls of about a millisecond each, together O(keys of the server): the
    /// keys of a queue can only be found among all.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where there is no such queue,
    /// [`Error::is_wrong_state`] where it has jobs, or jobs that run.
    pub async fn delete_queue(&self, queue: &QueueName, force: bool) -> Result<(), Error> {
        match self.broker.remove_queue(queue, force).await? {
            Removal::Gone => Ok(()),
            Removal::NotEmpty => Err(Error::wrong_state(format!("queue \"{queue}\" has jobs"))),
            Removal::Running => {
                Err(Error::wrong_state(format!("jobs of queue \"{queue}\" are running")))
            }
        }
    }

    async fn act(&self, queue: &QueueName, id: &JobId, action: Action) -> Result<(), Error> {
        answer(id, self.broker.act(queue, id, action).await?, action.done())
    }

    fn bulk(&self, queue: &QueueName, action: Action, of: impl Into<Selection>) -> Bulk {
        Bulk {
            broker: Arc::clone(&self.broker),
            sweep: Sweep::new(queue.clone(), action, of.into()),
            queue: queue.clone(),
            state: Walk::Before,
        }
    }
}

fn answer(id: &JobId, acted: Acted, done: &str) -> Result<(), Error> {
    match acted {
        Acted::Done => Ok(()),
        Acted::NotFound => Err(Error::not_found(format!("job \"{id}\" does not exist"))),
        Acted::WrongState(state) => {
            Err(Error::wrong_state(format!("job \"{id}\" is {state}: it cannot be {done}")))
        }
        Acted::Elsewhere(state) => Err(Error::wrong_state(format!(
            "job \"{id}\" is {state}, but moves at the moment, or its queue is damaged"
        ))),
    }
}

/// How far an action on many jobs is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkProgress {
    /// Jobs that were acted upon.
    pub done: u64,
    /// Jobs that were there when the action began, also those of other types. Of a
    /// state with several groups: in the groups so far.
    pub total: u64,
}

/// An action on many jobs: awaited it runs to its end; [`step`](Bulk::step) by step
/// its caller can show how far it is, or stop.
///
/// Each step is one script of at most 200 jobs, O(log n) each, so that workers and
/// producers go on meanwhile. It ends when as many jobs were looked at as there
/// were at the beginning: jobs that arrive meanwhile do not keep it going. Where
/// they come to stand before others, they are acted upon in the place of as many
/// that are then left.
///
/// Two things to know of long lists:
///
/// * [Of a type](Selection::of_type), jobs are found by walking along a list that
///   workers and other callers shorten and shift meanwhile: some may be skipped.
///   Do it again for the rest.
/// * Where some of more than 300,000 pending jobs are taken out of the middle of
///   their line, the newest ones may take their places, and run earlier: moving half
///   of such a list together would hold up the store.
///
/// Dropped, it stops between two steps. Nothing happens before the first one.
#[must_use = "nothing happens until it is awaited or stepped"]
pub struct Bulk {
    broker: Arc<dyn Broker>,
    queue: QueueName,
    sweep: Result<Sweep, Error>,
    state: Walk,
}

#[derive(Clone, Copy, PartialEq)]
enum Walk {
    Before,
    Between,
    Over,
}

impl Bulk {
    /// Acts on the next jobs; `None` where nothing was left to do.
    ///
    /// # Errors
    /// [`Error::is_not_found`] where there is no such queue, [`Error::is_invalid`]
    /// where jobs of that state cannot be acted upon so. After an error that
    /// [is unavailable](Error::is_unavailable) the next step goes on; that of an
    /// [unknown outcome](Error::is_outcome_unknown) may have been made, and is then
    /// missing in the count.
    pub async fn step(&mut self) -> Result<Option<BulkProgress>, Error> {
        let sweep = match &mut self.sweep {
            Ok(sweep) => sweep,
            Err(error) => return Err(Error::invalid(error.to_string())),
        };
        if self.state == Walk::Over {
            return Ok(None);
        }
        if self.state == Walk::Before {
            self.broker.queue(&self.queue).await?;
            self.state = Walk::Between;
        }
        if !sweep.step(&*self.broker).await? {
            self.state = Walk::Over;
        }
        Ok(Some(BulkProgress { done: sweep.done(), total: sweep.total() }))
    }

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
