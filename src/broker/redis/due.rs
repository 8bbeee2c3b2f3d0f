//! Due times: when the next scheduled or retried job is due, and making due jobs pending.
//!
//! Asynq's sorted sets `scheduled` and `retry` hold whole seconds, rounded up, so that Go
//! can read them; the exact due time is in a sorted set of our own. The forward script
//! moves what is due in batches, and answers how long until the next job is due. The
//! forwarder sleeps for that time, unless [`Wake`](super::wake::Wake) reports an earlier
//! job.
//!
//! What may surprise. While many jobs are pending already, due jobs are forwarded in
//! limited batches, so that new jobs do not queue behind a backlog. On a Cluster the
//! queues live on several nodes, so [`find_next_due`](RedisBroker::find_next_due) sends
//! nothing and answers zero: the forward calls that follow return each queue's time.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;

use super::reply::Reply;
use super::scripts::SCRIPTS;
use super::{RedisBroker, micros};
use crate::broker::{Forwarded, PENDING_HIGH_WATER, PENDING_HIGH_WATER_PAUSE};
use crate::error::Error;
use crate::job::{JobId, QueueName};
use crate::pool::{Repeat, ScriptCall};

/// Maximum queues of one script call that asks for the next due time.
const MAX_DUE_QUEUES: usize = 100;

/// A job due within this time counts as due: the estimate of Redis' clock is not exact.
const DUE_TOLERANCE: Duration = Duration::from_millis(1);

impl RedisBroker {
    /// How long until the next job of each queue is due, in the order of the queues: one call
    /// for [`MAX_DUE_QUEUES`] of them. `None` for a queue in which no job waits.
    pub(super) async fn find_next_due(
        &self,
        queues: &[QueueName],
    ) -> Result<Vec<Option<Duration>>, Error> {
        if self.pool.is_cluster() {
            return Ok(vec![Some(Duration::ZERO); queues.len()]);
        }
        let mut all = Vec::with_capacity(queues.len());
        for some in queues.chunks(MAX_DUE_QUEUES) {
            let mut reply =
                self.ask_all(&SCRIPTS.next_due, some.iter(), Repeat::Safe, |_, call| call).await?;
            for queue in some {
                all.push(self.next_due_of(queue, &mut reply)?);
            }
        }
        Ok(all)
    }

    /// Reads the next due time of a queue and remembers it for
    /// [`forward_due`](Self::forward_due). It counts from when the script ran, not from
    /// when its reply came.
    fn next_due_of(&self, queue: &QueueName, reply: &mut Reply) -> Result<Option<Duration>, Error> {
        let wait = u64::try_from(reply.int()?).ok().map(Duration::from_micros);
        let due = wait.map(|wait| reply.now() + wait);
        self.wake.next_is(queue, due);
        Ok(due.map(|due| due.since(self.clock.now())))
    }

    /// Makes due jobs pending, at most `limit` of them and at most 1,000. Repeating it is safe:
    /// what was moved is no longer due.
    pub(super) async fn forward_due(
        &self,
        queue: &QueueName,
        limit: usize,
    ) -> Result<Forwarded, Error> {
        let limit = limit.clamp(1, 1000);
        let add = |_, call: ScriptCall| {
            call.arg(limit).arg(PENDING_HIGH_WATER).arg(micros(PENDING_HIGH_WATER_PAUSE))
        };
        let mut asked = pin!(self.ask(&SCRIPTS.forward_due, queue, Repeat::Safe, add));
        // If jobs are known to be due, waiting workers send their dequeue right behind this
        // call on the same connection, instead of waiting for Redis to report the jobs.
        let is_due = self.wake.is_due(queue, self.clock.now() + DUE_TOLERANCE);
        let mut reply = match poll!(asked.as_mut()) {
            Poll::Ready(reply) => reply?,
            Poll::Pending => {
                if is_due {
                    self.arrived.notify_waiters();
                }
                asked.await?
            }
        };
        let moved = reply.size()? as usize;
        let next = self.next_due_of(queue, &mut reply)?;
        let ready = reply.int()? == 1;
        let mut old: Vec<JobId> = Vec::new();
        while !reply.is_empty() {
            old.push(reply.id()?);
        }
        if let Some(first) = old.first() {
            warn_of_old_jobs(queue, old.len(), first);
        }
        Ok(Forwarded { moved, next, ready })
    }
}

/// Says that a script archived jobs in Asynq's old format.
pub(super) fn warn_of_old_jobs(queue: &QueueName, jobs: usize, first: &JobId) {
    if jobs > 0 {
        crate::log::warn!(
            %queue, jobs, first = %first.as_str(),
            "archived jobs that an Asynq before 0.18 wrote: run them from the archive, \
             or migrate what is left with `asynq migrate`"
        );
    }
}
