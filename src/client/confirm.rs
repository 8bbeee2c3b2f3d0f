//! Enqueueing until the store has confirmed it: an answer that does not come leaves open
//! whether the job is stored, and a job stored twice runs twice.

use std::time::Duration;

use tokio::time::Instant;

use super::Client;
use crate::broker::Enqueued;
use crate::chance::Chance;
use crate::error::Error;
use crate::job::{Idempotency, JobState, NewJob, Placement};
use crate::time::Timestamp;

/// The first and the longest pause between two tries.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Maximum; longer values are cut to it. It can be added to any instant without overflow.
pub(super) const MAX_CONFIRM_TIMEOUT: Duration = Duration::from_secs(365 * 86_400);

/// One job that is being sent, and what is known of it.
struct Try<'a> {
    job: &'a NewJob,
    /// Until when it is tried again; `None`: not at all.
    until: Option<Instant>,
    /// An earlier try may have stored it.
    unknown: bool,
    outcome: Result<Enqueued, Error>,
}

impl Try<'_> {
    /// Whether another try is right: the store was away, or it may have stored the job. Then
    /// even a refusal says nothing of the earlier try.
    fn is_open(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
            && self.outcome.as_ref().is_err_and(|error| self.unknown || error.is_unavailable())
    }

    /// Takes in the answer to a try that began at this instant. A replay of this job's own id
    /// means that an earlier try of this call stored it; to the caller that is a creation.
    fn note(&mut self, outcome: Result<Enqueued, Error>, began: Timestamp) {
        self.unknown |= outcome.as_ref().is_err_and(Error::is_outcome_unknown);
        let own_key = self.job.idempotency.as_ref().is_some_and(Idempotency::is_of_one_call);
        self.outcome = match outcome {
            // Stored by a try of this very call.
            Ok(Enqueued::Replayed { id })
                if (own_key || self.unknown) && id == self.job.record.id =>
            {
                Ok(created(self.job, began))
            }
            outcome => outcome,
        };
    }

    /// The result for the caller. If an earlier try may have stored the job, a later refusal
    /// leaves the outcome unknown.
    fn end(self) -> Result<Enqueued, Error> {
        match self.outcome {
            Err(error) if self.unknown && !error.is_outcome_unknown() => {
                Err(Error::outcome_unknown("the store did not confirm that the job is stored")
                    .caused_by(error))
            }
            outcome => outcome,
        }
    }
}

/// The store's answer when it stored this job, as far as the request reveals it.
fn created(job: &NewJob, began: Timestamp) -> Enqueued {
    let (state, due) = placed(job, began);
    Enqueued::Created { state, due }
}

/// The state and the due time of a job that is enqueued at this instant.
pub(super) fn placed(job: &NewJob, began: Timestamp) -> (JobState, Timestamp) {
    let due = match job.placement {
        Placement::Now => began,
        Placement::After(delay) => began + delay,
        Placement::At(due) => due.max(began),
    };
    let state = match due > began {
        true => JobState::Scheduled,
        false if job.record.group.is_empty() => JobState::Pending,
        false => JobState::Aggregating,
    };
    (state, due)
}

impl Client {
    /// Stores jobs, and asks again for those with a time while they are not confirmed; one
    /// outcome for each, in order. Jobs with a time have an idempotency key, so that asking
    /// again stores nothing twice. The others are sent once.
    pub(super) async fn store(
        &self,
        jobs: &[NewJob],
        within: &[Option<Duration>],
    ) -> Vec<Result<Enqueued, Error>> {
        let (began, start) = (self.broker.now(), Instant::now());
        let outcomes = self.broker.enqueue_each(jobs).await;
        if within.iter().all(Option::is_none) {
            return outcomes;
        }
        let mut tries = Vec::with_capacity(jobs.len());
        for ((job, within), outcome) in jobs.iter().zip(within).zip(outcomes) {
            let until = within.map(|within| start + within.min(MAX_CONFIRM_TIMEOUT));
            let mut one = Try { job, until, unknown: false, outcome: Ok(Enqueued::IdConflict) };
            one.note(outcome, began);
            tries.push(one);
        }
        let (mut pause, longest) = RETRY_PAUSES;
        loop {
            let open: Vec<usize> = (0..tries.len()).filter(|&at| tries[at].is_open()).collect();
            if open.is_empty() || self.is_closed() {
                break;
            }
            crate::log::debug!(jobs = open.len(), "not confirmed, asking the store again");
            // The last try begins when the time is over, and not later.
            let last = open.iter().filter_map(|&at| tries[at].until).max();
            let left = last.map_or(longest, |last| last.saturating_duration_since(Instant::now()));
            tokio::time::sleep(pause.mul_f64(0.5 + Chance::system().share() / 2.0).min(left)).await;
            pause = (pause * 2).min(longest);
            let again: Vec<NewJob> = open.iter().map(|&at| tries[at].job.clone()).collect();
            let outcomes = self.broker.enqueue_each(&again).await;
            for (at, outcome) in open.into_iter().zip(outcomes) {
                tries[at].note(outcome, began);
            }
        }
        tries.into_iter().map(Try::end).collect()
    }
}
