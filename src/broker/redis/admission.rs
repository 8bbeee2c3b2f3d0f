//! The bound on waiting jobs that a public endpoint enqueued.
//!
//! The ids of such jobs are kept in a sorted set beside the queue, by the time of
//! their last check. A script drops the ids of jobs that have ended, counts the
//! others, adds the new id if there is room, and answers whether it was admitted.
//! The check is bounded: while there is no room, at most 1,000 jobs are looked at.
//! A repeated request with a known idempotency key is always admitted, since it
//! stores no second job.

use super::scripts::SCRIPTS;
use super::{RedisBroker, keys, micros};
use crate::broker::{ADMISSION_LOOK, Admission, Answer};
use crate::job::{Idempotency, JobId, QueueName};
use crate::pool::Repeat;

impl Admission for RedisBroker {
    fn admit<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        max_waiting: u32,
        repeat_guard: Option<&'a Idempotency>,
    ) -> Answer<'a, bool> {
        let guard =
            repeat_guard.map_or(String::new(), |guard| keys::idempotency(queue, &guard.key));
        Box::pin(async move {
            let mut reply = self
                .ask(&SCRIPTS.admit_job, queue, Repeat::Safe, |_, call| {
                    call.arg(id.as_bytes())
                        .arg(max_waiting)
                        .arg(guard.as_str())
                        .arg(micros(ADMISSION_LOOK))
                })
                .await?;
            Ok(reply.int()? == 1)
        })
    }
}
