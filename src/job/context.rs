//! The context of a running attempt: what a handler can read of its job, how it learns that it
//! has to end, and how it reports progress and results.
//!
//! Three things can end an attempt from outside: the worker (time limit, shutdown), the
//! heartbeat (lost lease) and an operator, whose cancel request the heartbeat delivers. All use
//! one [`Cancellation`]. The handler's future is then dropped at its next `await`; code that
//! runs elsewhere has to look at the token.
//!
//! A report of progress and a stored result go different ways. Progress is for people: only the
//! latest value is sent, at most four times a second. A result belongs to the job, so it is
//! stored before the call returns, and only while this attempt has the lease.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::job::serial::marshal_reason;
use crate::job::{JobId, JobRecord, Progress, QueueName};
use crate::time::Timestamp;

/// Why an attempt is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// The shutdown timeout is over; the job becomes pending.
    Shutdown,
    /// The time limit of the attempt, or the job's deadline, passed.
    TimedOut,
    /// The lease was lost: another worker may have the job, and nothing this attempt
    /// reports is stored.
    LeaseLost,
    /// An operator cancelled the job.
    Operator,
}

/// How an attempt learns that it has to end, and why. Shared by the worker, the
/// heartbeat and the handler. The first reason counts.
#[derive(Debug)]
pub(crate) struct Cancellation {
    /// Fires at any end of the attempt. A child of `shutdown`.
    token: CancellationToken,
    /// The worker's token for attempts that have to stop now.
    shutdown: CancellationToken,
    /// Empty if the attempt ended by itself, or if only `shutdown` fired.
    reason: OnceLock<CancelReason>,
}

impl Cancellation {
    /// For an attempt that also ends with `shutdown`.
    pub(crate) fn below(shutdown: &CancellationToken) -> Self {
        let token = shutdown.child_token();
        Self { token, shutdown: shutdown.clone(), reason: OnceLock::new() }
    }

    /// Cancels the attempt, unless it is cancelled already.
    pub(crate) fn cancel(&self, reason: CancelReason) {
        // The first reason stays.
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    /// The attempt has ended by itself. The token fires, without a reason.
    pub(crate) fn end(&self) {
        self.token.cancel();
    }

    /// Whether the attempt is cancelled or has ended.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns, with the reason, when the attempt has to end.
    pub(crate) async fn cancelled(&self) -> CancelReason {
        self.token.cancelled().await;
        self.reason().unwrap_or(CancelReason::Shutdown)
    }

    /// The reason, if the attempt was cancelled. A shutdown counts if there is no other.
    pub(crate) fn reason(&self) -> Option<CancelReason> {
        let shutdown = self.shutdown.is_cancelled().then_some(CancelReason::Shutdown);
        self.reason.get().copied().or(shutdown)
    }
}

/// The largest result that is stored, in bytes.
pub const MAX_RESULT: usize = 1024 * 1024;

/// Receives what a running job reports.
pub(crate) trait Reporter: Send + Sync {
    /// Returns at once. A later report replaces one that has not been sent yet.
    fn progress(&self, progress: Progress);

    /// Returns when it is stored. Fails if the lease is not this attempt's any more.
    fn result<'a>(
        &'a self,
        result: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;
}

/// The attempt that a handler runs in. Cloning is cheap.
///
/// Name it as a parameter of the handler to receive it:
///
/// ```
/// # use rocket_jobqueue::{Job, JobContext, testing::TestQueue};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Report;
/// # impl Job for Report { const TYPE: &'static str = "report"; }
/// async fn build_report(_job: Report, context: JobContext) -> Result<String, std::io::Error> {
///     Ok(format!("attempt {} of {}", context.attempt(), context.max_attempts()))
/// }
/// # #[rocket::main]
/// # async fn main() -> Result<(), rocket_jobqueue::Error> {
///
/// let tests = TestQueue::new().handle(build_report);
/// let receipt = tests.enqueue(Report).max_retry(2).await?;
/// let result = tests.run_due().await.result::<String>(&receipt.id);
/// assert_eq!(result.as_deref(), Some("attempt 1 of 3"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct JobContext(Arc<ContextInner>);

/// What all clones of a context share.
struct ContextInner {
    record: Arc<JobRecord>,
    /// By the store's clock, as all times of a job.
    deadline: Timestamp,
    cancellation: Arc<Cancellation>,
    reporter: Arc<dyn Reporter>,
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ContextInner { record, deadline, .. } = &*self.0;
        f.debug_struct("JobContext")
            .field("job", record)
            .field("deadline", deadline)
            .field("cancel_reason", &self.cancel_reason())
            .finish_non_exhaustive()
    }
}

impl JobContext {
    pub(crate) fn new(
        record: Arc<JobRecord>,
        deadline: Timestamp,
        cancellation: Arc<Cancellation>,
        reporter: Arc<dyn Reporter>,
    ) -> Self {
        Self(Arc::new(ContextInner { record, deadline, cancellation, reporter }))
    }

    /// The job's id.
    pub fn id(&self) -> &JobId {
        &self.0.record.id
    }

    /// The queue the job came from.
    pub fn queue(&self) -> &QueueName {
        &self.0.record.queue
    }

    /// The job type's stored name.
    pub fn job_type(&self) -> &str {
        &self.0.record.job_type
    }

    /// The number of this attempt, from 1. Attempts that were not counted do not raise it.
    pub fn attempt(&self) -> u32 {
        self.0.record.retried.saturating_add(1)
    }

    /// How many attempts there are at most: one more than the retries.
    pub fn max_attempts(&self) -> u32 {
        self.0.record.max_retry.saturating_add(1)
    }

    /// The instant at which this attempt is ended as failed: its time limit or the job's
    /// deadline, whichever comes first.
    pub fn deadline(&self) -> Timestamp {
        self.0.deadline
    }

    /// The headers that the caller attached.
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.0.record.headers
    }

    /// The payload's bytes as they are stored.
    pub fn payload(&self) -> &[u8] {
        self.0.record.payload_bytes()
    }

    /// The text of the last failure; `None` if no attempt has failed.
    pub fn last_error(&self) -> Option<&str> {
        Some(self.0.record.last_error.as_str()).filter(|error| !error.is_empty())
    }

    /// Fires when the attempt has to end: the shutdown timeout is over, the lease was
    /// lost, the time limit passed or an operator cancelled the job; also when it has
    /// ended by itself. The handler's future is then dropped. Work that it moved
    /// elsewhere, such as to a blocking thread, can check this token;
    /// [`cancel_reason`](Self::cancel_reason) says why it fired.
    ///
    /// The job's slot is released only when the future has been dropped. Tasks that it
    /// started with `spawn_blocking` or `spawn` are not part of it and go on until they
    /// check the token:
    ///
    /// ```
    /// # use rocket_jobqueue::{Job, JobContext};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Report;
    /// # impl Job for Report { const TYPE: &'static str = "report"; }
    /// # fn next_page() -> bool { false }
    /// async fn build_report(_job: Report, context: JobContext) -> Result<(), rocket_jobqueue::JobError> {
    ///     let cancelled = context.cancelled().clone();
    ///     tokio::task::spawn_blocking(move || {
    ///         while !cancelled.is_cancelled() && next_page() {}
    ///     })
    ///     .await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn cancelled(&self) -> &CancellationToken {
        &self.0.cancellation.token
    }

    /// Reports progress, as a count, a sentence, or both. The inspector and the
    /// pages show it ([`JobInfo::progress`](crate::inspect::JobInfo)). It stays with the
    /// job, even after its end, until the job is dequeued again.
    ///
    /// Cheap: it returns at once. The latest report is stored within a quarter of a
    /// second, and reports in between are skipped. An unreachable store is not an error,
    /// and a report after the end of the attempt is ignored.
    ///
    /// ```
    /// # use rocket_jobqueue::{JobContext, Progress};
    /// # fn import(context: JobContext) {
    /// context.progress((3, 10));
    /// context.progress("uploading");
    /// context.progress(Progress::new(4, 10).message("four of ten files"));
    /// # }
    /// ```
    pub fn progress(&self, progress: impl Into<Progress>) {
        if !self.0.cancellation.is_cancelled() {
            self.0.reporter.progress(progress.into());
        }
    }

    /// Stores a result as JSON while the job runs. It stays with the job when the attempt
    /// fails. The value that the handler returns replaces it, unless that is `()`. It is
    /// deleted with the job. One script call.
    ///
    /// # Errors
    /// [`Error::is_lease_lost`] if the attempt is over: nothing was written, and this
    /// attempt should end. [`Error::is_invalid`] if it cannot be JSON or is larger than
    /// [`MAX_RESULT`]. Errors of the store.
    ///
    /// ```
    /// # use rocket_jobqueue::{Error, JobContext};
    /// # async fn import(context: JobContext) -> Result<(), Error> {
    /// context.write_result(&serde_json::json!({ "imported": 1000 })).await?;
    /// # Ok(()) }
    /// ```
    pub async fn write_result<T: Serialize + ?Sized>(&self, result: &T) -> Result<(), Error> {
        let unfit = |error| {
            let reason = marshal_reason(&error);
            Error::invalid(format!("result: expected what can be written as JSON: {reason}"))
        };
        self.write_result_bytes(&serde_json::to_vec(result).map_err(unfit)?).await
    }

    /// Like [`JobContext::write_result`], with bytes in any form.
    ///
    /// # Errors
    /// [`Error::is_lease_lost`], [`Error::is_invalid`] if there are more than [`MAX_RESULT`], and
    /// errors of the store.
    pub async fn write_result_bytes(&self, result: &[u8]) -> Result<(), Error> {
        if result.len() > MAX_RESULT {
            let found = result.len();
            return Err(Error::invalid(format!(
                "result: expected at most {MAX_RESULT} bytes, found {found}"
            )));
        }
        self.0.reporter.result(result).await
    }

    /// Why the attempt was cancelled; `None` if it was not, or if it ended by itself.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.0.cancellation.reason()
    }
}
