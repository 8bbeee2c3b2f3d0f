//! The application's aggregate function, with its types erased.
//!
//! The function returns a [`Draft`], which is checked like any enqueued job. An error of the
//! function or of the checks leaves the group's jobs where they are; see the scheduler's
//! aggregator for what happens then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Client, Draft};
use crate::job::{JobError, JobRecord, NewJob, QueueName};

/// What the application's function returns, boxed.
type Drafted = Pin<Box<dyn Future<Output = Result<Draft, JobError>> + Send>>;

/// Makes one job of a group's jobs.
#[derive(Clone)]
pub(crate) struct Aggregate(Arc<dyn Fn(String, Vec<JobRecord>) -> Drafted + Send + Sync>);

impl Aggregate {
    /// Erases the types of a function.
    pub(crate) fn new<F, Fut, D, E>(function: F) -> Self
    where
        F: Fn(String, Vec<JobRecord>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<D, E>> + Send + 'static,
        D: Into<Draft>,
        E: Into<JobError>,
    {
        Self(Arc::new(move |group, jobs| {
            let made = function(group, jobs);
            Box::pin(async move { made.await.map(Into::into).map_err(Into::into) })
        }))
    }

    /// The one job, checked, or the reason why there is none. It goes into the group's queue,
    /// even if it names another: the set and the job are exchanged in one script, which has one
    /// queue.
    pub(crate) async fn make(
        self,
        client: Client,
        queue: QueueName,
        group: String,
        jobs: Vec<JobRecord>,
    ) -> Result<NewJob, String> {
        let text = |error: JobError| error.text().unwrap_or("it gave none").to_owned();
        let draft = (self.0)(group, jobs).await.map_err(text)?;
        let mut job = client.build(draft).map_err(|error| error.to_string())?;
        job.record.queue = queue;
        // It takes the place of others, and a set that cannot be exchanged would be lost work.
        job.max_waiting = None;
        if job.idempotency.is_some() {
            // A reused job would contain none of the group's jobs.
            return Err("the job of a group can have no idempotency key".to_owned());
        }
        Ok(job)
    }
}
