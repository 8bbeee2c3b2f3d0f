//! Looking at what this process holds.

use super::MemoryBroker;
use super::queue::Queue;
use crate::broker::{Answer, Inspect, JobInfo, QueueInfo};
use crate::error::Error;
use crate::job::{JobId, QueueName};

impl Inspect for MemoryBroker {
    fn queues(&self) -> Answer<'_, Vec<QueueName>> {
        Box::pin(async move {
            let state = self.state();
            let used = state.queues.iter().filter(|(_, queue)| queue.used());
            Ok(used.map(|(name, _)| name.clone()).collect())
        })
    }

    fn queue<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueInfo> {
        Box::pin(async move {
            let missing = || Error::not_found(format!("queue {queue:?} does not exist"));
            self.look(queue, Queue::info).ok_or_else(missing)
        })
    }

    fn job<'a>(&'a self, queue: &'a QueueName, id: &'a JobId) -> Answer<'a, Option<JobInfo>> {
        Box::pin(async move { Ok(self.look(queue, |q, _| q.job(id)).flatten()) })
    }

    fn pause<'a>(&'a self, queue: &'a QueueName, paused: bool) -> Answer<'a, bool> {
        Box::pin(async move { Ok(self.act(queue, |q, _| q.pause(paused))) })
    }
}
