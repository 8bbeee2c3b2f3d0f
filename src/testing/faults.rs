//! Attempts that end as a test says, without their handler.

use super::TestQueue;
use crate::job::{Charge, Job, JobError, Outcome};
use crate::sync::lock;

impl TestQueue {
    /// Lets the next attempt of this job type fail with this error instead of calling its
    /// handler. Called twice, the next two attempts fail.
    pub fn fail_next<J: Job>(&self, error: impl Into<JobError>) {
        self.fault(J::TYPE, Outcome::Failed(error.into()));
    }

    /// Lets the next attempt of this job type end like a panic with this message: an ordinary
    /// failure.
    pub fn panic_next<J: Job>(&self, message: impl Into<String>) {
        self.fault(J::TYPE, Outcome::Panicked(message.into()));
    }

    /// Lets the next attempt of this job type time out.
    pub fn time_out_next<J: Job>(&self) {
        self.fault(J::TYPE, Outcome::TimedOut);
    }

    /// Lets the worker vanish at the next attempt of this job type, as in a power failure. The
    /// job starts again when its lease has expired, 30 s later; after the third loss in a row
    /// it is archived.
    pub fn lose_worker_at_next<J: Job>(&self) {
        self.fault(J::TYPE, Outcome::LeaseLost { losses: 0, charge: Charge::Possible });
    }

    /// Adds an outcome that the next attempt of this type has instead of calling its handler.
    fn fault(&self, job_type: &'static str, outcome: Outcome) {
        lock(&self.0.faults).entry(job_type).or_default().push_back(outcome);
    }

    pub(super) fn take_fault(&self, job_type: &str) -> Option<Outcome> {
        lock(&self.0.faults).get_mut(job_type)?.pop_front()
    }
}
