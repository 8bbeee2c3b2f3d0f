//! Calling a handler as a plain function, without a queue.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::job::{
    CancelReason, Cancellation, DEFAULT_TIMEOUT, JobContext, JobRecord, Progress, Reporter,
};
use crate::sync::lock;
use crate::time::Clock;

/// A [`JobContext`] without a worker, for tests that call a handler themselves, and a
/// [`TestAttempt`] that shows what the handler did with it.
///
/// The record says which attempt it is; its deadline is in 30 minutes.
///
/// ```
/// use rocket_jobqueue::{JobContext, JobError, JobRecord, Progress, QueueName, testing};
///
/// async fn import(context: JobContext) -> Result<(), JobError> {
///     context.progress((1, 2));
///     context.write_result("half").await?;
///     Ok(())
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let job = JobRecord::new("import", None, QueueName::new("default").unwrap());
/// let (context, attempt) = testing::context(job);
/// assert!(import(context).await.is_ok());
/// assert_eq!(attempt.progress(), Some(Progress::new(1, 2)));
/// assert_eq!(attempt.result().unwrap(), b"\"half\"");
/// # });
/// ```
pub fn context(job: JobRecord) -> (JobContext, TestAttempt) {
    let cancellation = Arc::new(Cancellation::below(&CancellationToken::new()));
    let reported =
        Arc::new(Reported { cancellation: Arc::clone(&cancellation), values: Mutex::default() });
    let deadline = Clock::system().now() + DEFAULT_TIMEOUT;
    let reporter = Arc::clone(&reported) as Arc<dyn Reporter>;
    (JobContext::new(Arc::new(job), deadline, cancellation, reporter), TestAttempt(reported))
}

/// What a handler reported through the context of [`context`]. It can cancel the attempt.
#[derive(Clone)]
pub struct TestAttempt(Arc<Reported>);

impl TestAttempt {
    /// The last progress that the handler reported.
    pub fn progress(&self) -> Option<Progress> {
        self.0.values().0.clone()
    }

    /// The last result that it wrote, in bytes.
    pub fn result(&self) -> Option<Vec<u8>> {
        self.0.values().1.clone()
    }

    /// Cancels the attempt as a worker would: the context reports it and accepts no further
    /// progress or result. Dropping the handler's future is up to the test.
    pub fn cancel(&self, reason: CancelReason) {
        self.0.cancellation.cancel(reason);
    }
}

impl std::fmt::Debug for TestAttempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestAttempt").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

/// What a handler reported, kept instead of stored.
struct Reported {
    cancellation: Arc<Cancellation>,
    values: Mutex<(Option<Progress>, Option<Vec<u8>>)>,
}

impl Reported {
    fn values(&self) -> MutexGuard<'_, (Option<Progress>, Option<Vec<u8>>)> {
        lock(&self.values)
    }
}

impl Reporter for Reported {
    fn progress(&self, progress: Progress) {
        self.values().0 = Some(progress);
    }

    fn result<'a>(
        &'a self,
        result: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>> {
        Box::pin(async move {
            if self.cancellation.is_cancelled() {
                return Err(Error::lease_lost("the attempt is over: nothing was written"));
            }
            self.values().1 = Some(result.to_vec());
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::QueueName;

    #[tokio::test]
    async fn a_context_without_worker_keeps_what_is_said_until_it_is_cancelled() {
        let mut job = JobRecord::new("t", None, QueueName::new("default").unwrap());
        (job.retried, job.max_retry) = (1, 2);
        let (context, attempt) = context(job);

        context.progress((1, 2));
        context.write_result(&7).await.unwrap();
        assert_eq!((context.attempt(), context.max_attempts()), (2, 3));
        attempt.cancel(CancelReason::TimedOut);
        context.progress((2, 2));

        assert!(context.write_result(&8).await.unwrap_err().is_lease_lost());
        assert_eq!(context.cancel_reason(), Some(CancelReason::TimedOut));
        assert_eq!(attempt.progress(), Some(Progress::new(1, 2)));
        assert_eq!(attempt.result().as_deref(), Some(&b"7"[..]));
    }
}
