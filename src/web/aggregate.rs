//! The application's aggregate function, with its types erased.

use std::pin::Pin;
use std::sync::Arc;

use crate::broker::GroupLimits;
use crate::client::Draft;
use crate::config::JobQueueConfig;
use crate::job::{JobError, JobRecord};
use crate::scheduler::Aggregation;

type Drafted = Pin<Box<dyn Future<Output = Result<Draft, JobError>> + Send>>;

/// Makes one job of a group's jobs.
pub(super) type Aggregate = Arc<dyn Fn(String, Vec<JobRecord>) -> Drafted + Send + Sync>;

pub(super) fn erase<F, Fut, D, E>(function: F) -> Aggregate
where
    F: Fn(String, Vec<JobRecord>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<D, E>> + Send + 'static,
    D: Into<Draft>,
    E: Into<JobError>,
{
    Arc::new(move |group, jobs| {
        let made = function(group, jobs);
        Box::pin(async move { made.await.map(Into::into).map_err(Into::into) })
    })
}

/// What the scheduler needs to know. The job goes into the group's own queue,
/// whatever it says itself.
pub(super) fn aggregation(config: &JobQueueConfig, function: Aggregate) -> Aggregation {
    let max_payload = config.max_payload;
    Aggregation {
        limits: GroupLimits {
            grace: config.group_grace,
            max_delay: config.group_max_delay,
            max_size: config.group_max_size,
        },
        patience: config.shutdown_timeout,
        make: Arc::new(move |queue, group, jobs| {
            let made = function(group, jobs);
            Box::pin(async move {
                let text = |error: JobError| error.text().unwrap_or("it gave none").to_owned();
                let draft = made.await.map_err(text)?;
                let draft = draft.queue(queue.as_str().to_owned());
                draft.build(max_payload).map_err(|error| error.to_string())
            })
        }),
    }
}
