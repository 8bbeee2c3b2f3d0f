//! Why a job is not running: one question, answered with a sentence and its data.
//!
//! What the store knows comes in a few round trips: the job and its place in the queue at the same
//! time; then the workers that announced themselves; then the number of pending jobs in queues that
//! these workers ask first. [`decide`] makes the reasons from that, without I/O. `reason` has their
//! data, `sentence` their English text.
//!
//! What may surprise. The answers are not of one instant, so the job is read again if it moved
//! between them. Announcements are up to 5 s old, and a dead process is noticed after 10 s. A
//! viewer sees texts as the application's redaction leaves them, but the stored job decides which
//! reason holds: a hidden error must not turn a parked job into a failed one.

mod decide;
mod reason;
mod sentence;

use futures_util::future::join;

use self::decide::Facts;
pub use self::reason::{Explanation, Reason};
#[cfg(feature = "dashboard")]
pub(crate) use self::sentence::Span;
pub(crate) use self::sentence::{At, Short};
use super::Inspector;
use crate::broker::{JobInfo, Standing};
use crate::error::Error;
use crate::job::{JobId, JobState, QueueName, RefusedByBound};

/// Maximum attempts to read a job and its place in the same state.
const MAX_TRIES: usize = 3;

impl Inspector {
    /// Says why a job is not running, or that it runs. Works in every state and for the jobs of Go
    /// programs as well. Reads only.
    ///
    /// The job and its place in the queue are read at the same time by [`Inspector::job`] and one
    /// script that searches at most 10,000 pending jobs. Unless the job has ended or its worker
    /// announced it, the announced workers follow (one command, and one per process), and for
    /// workers with strict priorities two commands for each queue of higher priority, at most 100.
    ///
    /// ```
    /// use rocket_jobqueue::inspect::Reason;
    /// use rocket_jobqueue::{Error, Inspector, JobId, QueueName};
    ///
    /// async fn report(inspector: &Inspector, mail: &QueueName, id: &JobId) -> Result<(), Error> {
    ///     let why = inspector.explain(mail, id).await?;
    ///     println!("{why}");
    ///     if let Reason::QueuePaused { .. } = why.reason() {
    ///         inspector.resume(mail).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// Errors of the store, such as [`Error::is_unavailable`]. A job that does not exist or cannot
    /// be read is a reason, not an error.
    pub async fn explain(&self, queue: &QueueName, id: &JobId) -> Result<Explanation, Error> {
        let explained = |state, reasons| {
            Explanation::new(queue.clone(), id.clone(), state, self.broker.now(), reasons)
        };
        match self.job_with_reasons(queue, id).await {
            Ok(Some((job, reasons))) => Ok(explained(Some(job.state), reasons)),
            Ok(None) => {
                let queue_exists = self.exists(queue).await?;
                let reason = Reason::NoSuchJob { queue: queue.clone(), queue_exists };
                Ok(explained(None, vec![reason]))
            }
            Err(error) if error.is_damaged() => {
                let problem = error.to_string();
                Ok(explained(None, vec![Reason::Unreadable { problem }]))
            }
            Err(error) => Err(error),
        }
    }

    /// Says why an enqueue into this queue was refused: who holds the
    /// [unique lock](Error::is_duplicate), and why that job has not ended; or that the queue is
    /// [full](Error::is_queue_full). `None` for another error. Cost as [`Inspector::explain`];
    /// a full queue costs nothing.
    ///
    /// ```
    /// # use rocket_jobqueue::{Error, Inspector, QueueName};
    /// async fn log_refusal(inspector: &Inspector, mail: &QueueName, error: &Error) {
    ///     if let Ok(Some(why)) = inspector.explain_refusal(mail, error).await {
    ///         // The unique lock is held by job 0c7f…; it runs in host:42 since …
    ///         eprintln!("{}: {why}", why.reason().kind());
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn explain_refusal(
        &self,
        queue: &QueueName,
        refused: &Error,
    ) -> Result<Option<Explanation>, Error> {
        if let Some(RefusedByBound { id, jobs }) = refused.cause() {
            let full = vec![Reason::QueueFull { queue: queue.clone(), max_waiting: *jobs }];
            let (id, now) = (id.clone(), self.broker.now());
            return Ok(Some(Explanation::new(queue.clone(), id, None, now, full)));
        }
        let Some(holder) = refused.holder() else { return Ok(None) };
        let why = self.explain(queue, holder).await?;
        let held = Reason::LockHeld { queue: queue.clone(), holder: holder.clone() };
        let reasons = std::iter::once(held).chain(why.reasons).collect();
        Ok(Some(Explanation::new(why.queue, why.id, why.state, why.at, reasons)))
    }

    /// A job as the viewer sees it, and why it is not running; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::is_damaged`] for a job that cannot be read, and errors of the store.
    pub(crate) async fn job_with_reasons(
        &self,
        queue: &QueueName,
        id: &JobId,
    ) -> Result<Option<(JobInfo, Vec<Reason>)>, Error> {
        let (Some(stored), standing) = self.job_and_standing(queue, id).await? else {
            return Ok(None);
        };
        let (mut servers, mut higher) = (Vec::new(), Vec::new());
        if decide::needs_servers(&stored) {
            servers = self.broker.serving().await?.servers;
        }
        if stored.state == JobState::Pending {
            let names = decide::higher_queues(queue, &servers);
            let pending = self.broker.available(&names).await?;
            higher = names.into_iter().zip(pending).collect();
        }
        let shown = self.viewer.job(stored.clone());
        let reasons = decide::reasons(&Facts {
            stored: &stored,
            shown: &shown,
            standing: &standing,
            servers: &servers,
            higher: &higher,
            group_limits: self.group_limits.as_ref(),
            now: self.broker.now(),
        });
        Ok(Some((shown, reasons)))
    }

    /// The job and its place in the queue. Both show the same state, unless the job keeps moving
    /// for [`MAX_TRIES`] reads.
    async fn job_and_standing(
        &self,
        queue: &QueueName,
        id: &JobId,
    ) -> Result<(Option<JobInfo>, Standing), Error> {
        let mut tries = 0;
        loop {
            let (job, standing) =
                join(self.broker.job(queue, id), self.broker.standing(queue, id)).await;
            let (job, standing) = (job?, standing?);
            tries += 1;
            if job.as_ref().map(|job| job.state) == standing.state || tries == MAX_TRIES {
                return Ok((job, standing));
            }
        }
    }

    /// Whether the queue exists.
    async fn exists(&self, queue: &QueueName) -> Result<bool, Error> {
        // The cheapest call that reports a missing queue: without instants it counts no jobs.
        match self.broker.upcoming(queue, &[]).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
