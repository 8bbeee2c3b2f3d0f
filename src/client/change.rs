//! Changes of a job that was enqueued and still waits.

use super::{Client, Draft, Receipt};
use crate::broker::Action;
use crate::error::Error;
use crate::job::{JobId, OnConflict, Placement, QueueName};

impl Client {
    /// Gives a job that waits another due time: as
    /// [`Inspector::reschedule`](crate::Inspector::reschedule), from where jobs are enqueued.
    ///
    /// A scheduled or retried job keeps its state, a pending or archived one becomes scheduled. A
    /// time that has come makes it pending. A limit by
    /// [`expires_in`](crate::Enqueue::expires_in) ends.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such queue or job (it may have succeeded),
    /// [`Error::is_wrong_state`] if it runs, is completed or waits in a group,
    /// [`Error::is_closed`], and errors of the store.
    pub async fn reschedule(
        &self,
        queue: &QueueName,
        id: &JobId,
        when: Placement,
    ) -> Result<(), Error> {
        self.expect_open()?;
        let action = Action::Reschedule(when);
        self.broker.act(queue, id, action).await?.or_error(id, action.done())
    }

    /// Makes a job that waits another one: it keeps its id and gets this one's payload, options,
    /// due time, headers and lock, as if new: its failures and retries are forgotten. The queue is
    /// this job's.
    ///
    /// A scheduled job, one that waits for a retry and one in a group move to where this one
    /// belongs. A pending job keeps its place: it is due already, so that a later due time
    /// does not delay it. A unique lock that the job held is released, unless it lasts for its
    /// time. One script; nothing is replaced in part.
    ///
    /// ```
    /// # use rocket_jobqueue::{Draft, Job, testing::TestQueue};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Remind { user: u64, text: String }
    /// # impl Job for Remind { const TYPE: &'static str = "remind"; }
    /// # #[rocket::main]
    /// # async fn main() -> Result<(), rocket_jobqueue::Error> {
    /// # let tests = TestQueue::new();
    /// # let queue = tests.queue();
    /// use std::time::Duration;
    ///
    /// let tomorrow = Duration::from_secs(86_400);
    /// let remind = |text: &str| Draft::new(Remind { user: 7, text: text.to_owned() }).delay(tomorrow);
    /// let first = queue.enqueue_all([remind("tea")]).await.remove(0)?;
    /// let changed = queue.client().replace(&first.id, remind("coffee")).await?;
    /// assert!(changed.replaced && changed.id == first.id);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`] if the queue has no such job (it may have succeeded),
    /// [`Error::is_wrong_state`] if it runs, is being aggregated, has been archived or completed,
    /// [`Error::is_duplicate`] if another job holds the new lock,
    /// [`Error::is_invalid`] for a value out of its domain, also an idempotency key,
    /// `confirm_within`, `or_replace` or `or_extend`; and those of an
    /// [`Enqueue`](crate::Enqueue).
    pub async fn replace(&self, id: &JobId, job: impl Into<Draft>) -> Result<Receipt, Error> {
        self.expect_open()?;
        let draft = job.into();
        let or_existing = draft.wants_existing();
        let asks_more = draft.confirm().is_some();
        let mut job = self.build(draft)?;
        if asks_more || job.idempotency.is_some() || job.on_conflict != OnConflict::Reject {
            return Err(Error::invalid(
                "replace: expected a job without idempotency key, confirm_within, or_replace and \
                 or_extend, found one with",
            ));
        }
        job.record.id = id.clone();
        job.on_conflict = OnConflict::ReplaceJob;
        // It adds none.
        job.max_waiting = None;
        let jobs = [job];
        let mut outcomes = self.store(&jobs, &[None]).await;
        let outcome = outcomes.pop().expect("a store answers once for each job")?;
        Receipt::of(&jobs[0], outcome, or_existing, self.broker.now())
    }
}
