//! Places of jobs that strangers enqueue, within this process.

use super::MemoryBroker;
use super::queue::Queue;
use crate::broker::{ADMISSION_LOOK, Admission, Answer};
use crate::job::{Idempotency, JobId, JobState, QueueName};
use crate::time::Timestamp;

impl Admission for MemoryBroker {
    fn admit<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        max_waiting: u32,
        repeat_guard: Option<&'a Idempotency>,
    ) -> Answer<'a, bool> {
        Box::pin(async move {
            Ok(self.act(queue, |queue, now| {
                let repeated = repeat_guard.is_some_and(|guard| queue.knows_request(guard, now));
                repeated || queue.admit(id, max_waiting as usize, now)
            }))
        })
    }
}

impl Queue {
    fn admit(&mut self, id: &JobId, max_waiting: usize, now: Timestamp) -> bool {
        // The answer to an earlier try of this very call was lost.
        if self.admitted.contains_key(id) {
            return true;
        }
        if self.admitted.len() >= max_waiting {
            let jobs = &self.jobs;
            let waits = |id: &JobId| match jobs.get(id).map(|stored| stored.state) {
                None | Some(JobState::Archived | JobState::Completed) => false,
                Some(
                    JobState::Pending
                    | JobState::Active
                    | JobState::Scheduled
                    | JobState::Retry
                    | JobState::Aggregating,
                ) => true,
            };
            self.admitted.retain(|id, at| now.since(*at) < ADMISSION_LOOK || waits(id));
        }
        if self.admitted.len() >= max_waiting {
            return false;
        }
        self.admitted.insert(id.clone(), now);
        true
    }
}
