//! Enqueueing many jobs with few round trips.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use tracing::Instrument;

use super::{Client, Draft, Receipt};
use crate::error::Error;
use crate::job::{JobId, NewJob};

/// Many jobs about to be stored. Await it; dropped, nothing happens.
///
/// The answer has an outcome for each job, in the order they were given:
///
/// * `Ok`: stored, with its [`Receipt`];
/// * [`Error::is_duplicate`] (with [`Error::holder`]), [`Error::is_id_conflict`],
///   [`Error::is_idempotency_mismatch`]: it conflicts with another job;
/// * [`Error::is_queue_full`]: as many jobs wait in its queue as may; earlier ones of the call
///   count;
/// * [`Error::is_invalid`]: a value is out of its domain; it was not sent;
/// * [`Error::is_outcome_unknown`]: no answer came for its part of the jobs: it
///   may be stored, and may have run. [`EnqueueAll::confirm_within`] asks again
///   safely; so does enqueueing it again with the same idempotency key;
/// * [`Error::is_unavailable`], [`Error::is_refused`], [`Error::is_closed`]: it
///   was not stored.
///
/// Every option counts as with a single [`Enqueue`](crate::Enqueue). It is not a
/// transaction: a job is stored or not by itself. Jobs of one queue run in the
/// order given here, as far as they are due alike. On a Cluster, parts that are under way
/// when a move of their queue begins or ends may overtake each other.
///
/// Costs one script call for each 100 jobs (or 1 MiB) of a queue, up to 16 of
/// them at a time. All jobs are in memory meanwhile: give a million in parts.
///
/// ```no_run
/// # use rocket_jobqueue::{Job, JobQueue};
/// # use serde::{Deserialize, Serialize};
/// # use std::time::Duration;
/// # #[derive(Serialize, Deserialize)] struct Welcome { user: u64 }
/// # impl Job for Welcome { const TYPE: &'static str = "mail:welcome"; }
/// # async fn welcome(queue: &JobQueue, users: Vec<u64>) {
/// use rocket_jobqueue::Draft;
///
/// let jobs = users.iter().map(|&user| {
///     Draft::new(Welcome { user }).unique_for(Duration::from_secs(3600)).or_existing()
/// });
/// let outcomes = queue.enqueue_all(jobs).await;
/// for (user, outcome) in users.iter().zip(outcomes) {
///     match outcome {
///         Ok(receipt) => println!("user {user}: job {}", receipt.id),
///         Err(error) => println!("user {user}: {error}"),
///     }
/// }
/// # }
/// ```
#[must_use = "jobs are stored when this is awaited"]
pub struct EnqueueAll {
    client: Client,
    drafts: Vec<Draft>,
}

/// The number of jobs, without their payloads and headers.
impl std::fmt::Debug for EnqueueAll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnqueueAll").field("jobs", &self.drafts.len()).finish_non_exhaustive()
    }
}

impl EnqueueAll {
    pub(super) fn new(client: Client, drafts: Vec<Draft>) -> Self {
        Self { client, drafts }
    }

    /// Asks the store again for each job, for at most `within`, until it has confirmed that
    /// the job is stored: [`Enqueue::confirm_within`](crate::Enqueue::confirm_within) for all
    /// of them, each with a key of its own.
    pub fn confirm_within(mut self, within: Duration) -> Self {
        self.drafts = self.drafts.into_iter().map(|draft| draft.confirm_within(within)).collect();
        self
    }

    /// Builds all jobs and stores those that are valid. An invalid one has its error in its
    /// position; it does not stop the others.
    async fn store(self) -> Vec<Result<Receipt, Error>> {
        let Self { client, drafts } = self;
        let (mut prepared, mut answers, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        for draft in drafts {
            match client.prepare(draft) {
                Ok(job) => {
                    sent.push(answers.len());
                    prepared.push(job);
                    answers.push(Err(Error::refused("the store gave no answer for this job")));
                }
                Err(error) => answers.push(Err(error)),
            }
        }
        for (at, answer) in sent.into_iter().zip(client.store_prepared(prepared).await) {
            answers[at] = answer;
        }
        answers
    }
}

/// A job that is checked and not stored yet.
pub(crate) struct PreparedJob {
    job: NewJob,
    or_existing: bool,
    confirm: Option<Duration>,
}

impl PreparedJob {
    /// The id that it will have.
    pub(crate) fn id(&self) -> &JobId {
        &self.job.record.id
    }
}

impl Client {
    /// Checks a job. It belongs to the trace that is current now.
    ///
    /// # Errors
    /// [`Error::is_closed`], and [`Error::is_invalid`] for a value out of its domain.
    pub(crate) fn prepare(&self, draft: Draft) -> Result<PreparedJob, Error> {
        self.expect_open()?;
        let (or_existing, confirm) = (draft.wants_existing(), draft.confirm());
        Ok(PreparedJob { job: self.build(draft)?, or_existing, confirm })
    }

    /// Stores prepared jobs; one answer for each, in order.
    pub(crate) async fn store_prepared(
        &self,
        prepared: Vec<PreparedJob>,
    ) -> Vec<Result<Receipt, Error>> {
        if let Err(error) = self.expect_open() {
            return prepared.iter().map(|_| Err(error.clone())).collect();
        }
        let (mut jobs, mut confirm, mut existing) = (Vec::new(), Vec::new(), Vec::new());
        for PreparedJob { job, or_existing, confirm: within } in prepared {
            jobs.push(job);
            existing.push(or_existing);
            confirm.push(within);
        }
        let span = tracing::info_span!(
            target: "rocket_jobqueue::enqueue",
            "enqueue_all",
            jobs = jobs.len()
        );
        let outcomes = self.store(&jobs, &confirm).instrument(span).await;
        let now = self.broker.now();
        let answers = jobs.iter().zip(existing).zip(outcomes);
        answers
            .map(|((job, or_existing), outcome)| Receipt::of(job, outcome?, or_existing, now))
            .collect()
    }
}

impl IntoFuture for EnqueueAll {
    type Output = Vec<Result<Receipt, Error>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.store())
    }
}
