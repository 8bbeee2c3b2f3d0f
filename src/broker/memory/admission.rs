//! The bound on waiting jobs that a public endpoint enqueued, in this process' memory.
//!
//! Admitted ids are kept in a map with the time of their admission. Before the
//! bound is checked, ids are dropped whose job has ended, and ids whose job was not
//! stored within [`ADMISSION_CHECK_INTERVAL`], so that a request that failed between its
//! admission and its enqueue gives its room back.

use super::MemoryBroker;
use super::queue::Queue;
use crate::broker::{ADMISSION_CHECK_INTERVAL, Admission, Answer};
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
    /// Admits the job if fewer than `max_waiting` admitted jobs still exist. Jobs that ended,
    /// or that were admitted and never stored, are forgotten first.
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
            let changed = &mut self.admitted_changed;
            self.admitted.retain(|id, at| {
                let stays = now.since(*at) < ADMISSION_CHECK_INTERVAL || waits(id);
                if !stays {
                    changed.note(|| id.clone());
                }
                stays
            });
        }
        if self.admitted.len() >= max_waiting {
            return false;
        }
        self.admitted_changed.note(|| id.clone());
        self.admitted.insert(id.clone(), now);
        true
    }
}
