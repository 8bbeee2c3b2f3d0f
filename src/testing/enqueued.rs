//! The jobs that were enqueued in a test, whether or not they still exist.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::{TestQueue, at_once};
use crate::broker::Inspect;
use crate::broker::memory::Recorded;
use crate::job::{Job, JobId, JobRecord, JobState, QueueName};
use crate::time::Timestamp;

/// A job that was enqueued. The fields of its payload are accessible by name:
/// `enqueued.user`.
#[derive(Clone)]
#[non_exhaustive]
pub struct EnqueuedJob<J> {
    /// The payload.
    pub job: J,
    /// Its id.
    pub id: JobId,
    /// Its queue.
    pub queue: QueueName,
    /// When it was enqueued, by the test's clock.
    pub at: Timestamp,
    /// When it was due.
    pub due: Timestamp,
    /// The duration of its unique lock, if it has one.
    pub unique_for: Option<Duration>,
    /// Its state now; `None` if it has ended and is not kept.
    pub state: Option<JobState>,
    /// The stored record: retries, timeout, deadline, retention, headers.
    pub record: JobRecord,
}

impl<J> EnqueuedJob<J> {
    /// How long it had to wait until it was due.
    pub fn delay(&self) -> Duration {
        self.due.since(self.at)
    }
}

impl<J> Deref for EnqueuedJob<J> {
    type Target = J;

    fn deref(&self) -> &J {
        &self.job
    }
}

/// Includes the payload: test data is not secret.
impl<J> fmt::Debug for EnqueuedJob<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = String::from_utf8_lossy(self.record.payload_bytes());
        write!(f, "{payload} in queue {}, due {:?} after {}", self.queue, self.delay(), self.at)?;
        match self.state {
            Some(state) => write!(f, ", now {state}"),
            None => write!(f, ", has ended"),
        }
    }
}

impl TestQueue {
    /// All jobs of this type that were enqueued since the beginning, in order.
    /// One that was refused (duplicate, used id) is not among them.
    ///
    /// # Panics
    /// If the payload of one cannot be decoded.
    #[track_caller]
    pub fn enqueued<J: Job>(&self) -> Vec<EnqueuedJob<J>> {
        let mut jobs = Vec::new();
        for Recorded { job, at, due } in self.0.broker.recorded() {
            let record = job.record;
            if record.job_type != J::TYPE {
                continue;
            }
            let payload = match serde_json::from_slice(record.payload_bytes()) {
                Ok(payload) => payload,
                Err(error) => panic!("the payload of a {:?} cannot be decoded: {error}", J::TYPE),
            };
            let info = at_once(self.0.broker.job(&record.queue, &record.id));
            jobs.push(EnqueuedJob {
                job: payload,
                id: record.id.clone(),
                queue: record.queue.clone(),
                at,
                due,
                unique_for: job.unique_for,
                state: info.map(|info| info.state),
                record,
            });
        }
        jobs
    }

    /// The first job of this type that matches.
    ///
    /// # Panics
    /// If there is none, with all enqueued jobs of the type.
    #[track_caller]
    pub fn assert_enqueued<J: Job>(&self, holds: impl Fn(&J) -> bool) -> EnqueuedJob<J> {
        match self.enqueued::<J>().into_iter().find(|enqueued| holds(&enqueued.job)) {
            Some(job) => job,
            None => panic!("no such {:?} was enqueued; there was {}", J::TYPE, self.list::<J>()),
        }
    }

    /// Fails the test if a job of this type matches.
    ///
    /// # Panics
    /// If one matches, with all enqueued jobs of the type.
    #[track_caller]
    pub fn assert_not_enqueued<J: Job>(&self, holds: impl Fn(&J) -> bool) {
        let found = self.enqueued::<J>().into_iter().any(|enqueued| holds(&enqueued.job));
        assert!(!found, "such a {:?} was enqueued; there was {}", J::TYPE, self.list::<J>());
    }

    #[track_caller]
    fn list<J: Job>(&self) -> String {
        let ours: Vec<_> = self.enqueued::<J>().iter().map(|job| format!("\n  {job:?}")).collect();
        if !ours.is_empty() {
            return format!("of this type:{}", ours.concat());
        }
        let mut others: Vec<_> =
            self.0.broker.recorded().into_iter().map(|one| one.job.record.job_type).collect();
        others.sort();
        others.dedup();
        if others.is_empty() {
            "nothing at all".to_owned()
        } else {
            format!("none of this type, but of {}", others.join(", "))
        }
    }
}
