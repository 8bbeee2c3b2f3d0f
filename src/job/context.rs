//! What a running handler can know about its job.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::job::{JobId, JobRecord, QueueName};
use crate::time::Timestamp;

/// Why an attempt is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// The application stops, and the time for running jobs is over. The job goes
    /// back in line.
    Shutdown,
    /// The time limit of the attempt, or the job's deadline, passed.
    TimedOut,
    /// The lease was lost: another worker may have the job, and nothing that this
    /// attempt says is written any more.
    LeaseLost,
    /// An operator cancelled the job.
    Operator,
}

/// How an attempt learns that it is to end, and why. Shared by the worker, the
/// heartbeat and the handler; cancelled by the first who has a reason.
#[derive(Debug)]
pub(crate) struct Cancellation {
    token: CancellationToken,
    shutdown: CancellationToken,
    reason: OnceLock<CancelReason>,
}

impl Cancellation {
    /// Of an attempt that also ends with `shutdown`.
    pub(crate) fn below(shutdown: &CancellationToken) -> Self {
        let token = shutdown.child_token();
        Self { token, shutdown: shutdown.clone(), reason: OnceLock::new() }
    }

    pub(crate) fn cancel(&self, reason: CancelReason) {
        // The first reason stays.
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    /// The attempt is over by itself: whoever holds the token learns it.
    pub(crate) fn end(&self) {
        self.token.cancel();
    }

    /// Returns when the attempt is to end.
    pub(crate) async fn cancelled(&self) -> CancelReason {
        self.token.cancelled().await;
        self.reason().unwrap_or(CancelReason::Shutdown)
    }

    pub(crate) fn reason(&self) -> Option<CancelReason> {
        let shutdown = self.shutdown.is_cancelled().then_some(CancelReason::Shutdown);
        self.reason.get().copied().or(shutdown)
    }
}

/// What a handler can ask about the attempt it runs in. Cloning is cheap.
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
#[derive(Clone, Debug)]
pub struct JobContext(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    record: JobRecord,
    deadline: Timestamp,
    cancellation: Arc<Cancellation>,
}

impl JobContext {
    pub(crate) fn new(
        record: JobRecord,
        deadline: Timestamp,
        cancellation: Arc<Cancellation>,
    ) -> Self {
        Self(Arc::new(Inner { record, deadline, cancellation }))
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

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.0.record.retried.saturating_add(1)
    }

    /// How many attempts there are at most: one more than the retries.
    pub fn max_attempts(&self) -> u32 {
        self.0.record.max_retry.saturating_add(1)
    }

    /// The instant at which this attempt is ended as failed.
    pub fn deadline(&self) -> Timestamp {
        self.0.deadline
    }

    /// The caller's headers.
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.0.record.headers
    }

    /// The payload's bytes as they are stored.
    pub fn payload(&self) -> &[u8] {
        self.0.record.payload_bytes()
    }

    /// What the previous attempt failed with; `None` if none failed.
    pub fn last_error(&self) -> Option<&str> {
        Some(self.0.record.last_error.as_str()).filter(|error| !error.is_empty())
    }

    /// Fires when the attempt is to end: shutdown is over its limit, the lease
    /// was lost, the time is up, an operator cancelled the job; also when it has
    /// ended by itself. The handler's future is dropped then; work it moved
    /// elsewhere (a blocking thread) can look here, and
    /// [`cancel_reason`](Self::cancel_reason) says why.
    ///
    /// The job's place among `concurrency` is free again only when the future has
    /// been dropped. What it started with `spawn_blocking` or `spawn` is not part
    /// of it and goes on until it looks here:
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

    /// Why the attempt is ended from outside; `None` while it is not, and when it
    /// ended by itself.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.0.cancellation.reason()
    }
}
