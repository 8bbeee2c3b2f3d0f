//! A handler as the function it is, without a queue.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::job::{
    CancelReason, Cancellation, DEFAULT_TIMEOUT, JobContext, JobRecord, Progress, Reporter,
};
use crate::time::Clock;

/// A [`JobContext`] of no worker, for tests that call a handler themselves, and
/// what the handler does with it.
///
/// The attempt is the one that the record says; its deadline is in 30 minutes.
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
    let said = Arc::new(Said { cancellation: Arc::clone(&cancellation), words: Mutex::default() });
    let deadline = Clock::system().now() + DEFAULT_TIMEOUT;
    let reporter = Arc::clone(&said) as Arc<dyn Reporter>;
    (JobContext::new(Arc::new(job), deadline, cancellation, reporter), TestAttempt(said))
}

/// What a handler said by the context of [`context`], and the hand that ends it.
#[derive(Clone)]
pub struct TestAttempt(Arc<Said>);

impl TestAttempt {
    /// How far the handler said last that it is.
    pub fn progress(&self) -> Option<Progress> {
        self.0.words().0.clone()
    }

    /// The bytes of the result that it wrote last.
    pub fn result(&self) -> Option<Vec<u8>> {
        self.0.words().1.clone()
    }

    /// Ends the attempt as a worker would: the context says so, and takes no more
    /// words. The handler's future is the test's own to drop.
    pub fn cancel(&self, reason: CancelReason) {
        self.0.cancellation.cancel(reason);
    }
}

impl std::fmt::Debug for TestAttempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestAttempt").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

struct Said {
    cancellation: Arc<Cancellation>,
    words: Mutex<(Option<Progress>, Option<Vec<u8>>)>,
}

impl Said {
    fn words(&self) -> MutexGuard<'_, (Option<Progress>, Option<Vec<u8>>)> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter for Said {
    fn progress(&self, progress: Progress) {
        self.words().0 = Some(progress);
    }

    fn result<'a>(
        &'a self,
        result: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>> {
        Box::pin(async move {
            if self.cancellation.is_cancelled() {
                return Err(Error::lease_lost("the attempt is over: nothing was written"));
            }
            self.words().1 = Some(result.to_vec());
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
