//! What a running handler can know about its job.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::job::{JobId, JobRecord, QueueName};
use crate::time::Timestamp;

/// What a handler can ask about the attempt it runs in. Cloning is cheap.
///
/// Name it as a parameter of the handler to receive it:
///
/// ```
/// # use rocket_jobqueue::{Job, JobContext};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Report;
/// # impl Job for Report { const TYPE: &'static str = "report"; }
/// async fn build_report(_job: Report, context: JobContext) -> Result<(), std::io::Error> {
///     println!("attempt {} of {}", context.attempt(), context.max_attempts());
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct JobContext(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    record: JobRecord,
    deadline: Timestamp,
    cancelled: CancellationToken,
}

impl JobContext {
    pub(crate) fn new(
        record: JobRecord,
        deadline: Timestamp,
        cancelled: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner { record, deadline, cancelled }))
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

    /// Fires when the attempt is to end: shutdown is over its limit, the lease
    /// was lost, or the time is up. The handler's future is dropped then; work
    /// it moved elsewhere (a blocking thread) can look here.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.0.cancelled
    }
}
