//! The bound on waiting jobs that a public endpoint enqueued.
//!
//! The ids of such jobs are kept in a sorted set beside the queue, by the time of
//! their last check. One script answers whether a new job is admitted, and adds its
//! id if so. While the set has room, that is all it does. If the set is full, the
//! script first drops the ids of jobs that have ended: it checks at most 1,000 ids,
//! longest unchecked first, and skips those checked within [`ADMISSION_CHECK_INTERVAL`].
//!
//! Admission comes before the enqueue, in a call of its own, and nothing holds the two
//! together: an admitted job that is never stored counts until that time
//! has passed and a full set is searched.
//!
//! What may surprise. A repeated request with a known idempotency key is always
//! admitted, since it stores no second job. So is an id that is admitted already: its
//! request was sent again after a lost reply.

use super::scripts::SCRIPTS;
use super::{RedisBroker, keys, micros};
use crate::broker::{ADMISSION_CHECK_INTERVAL, Admission, Answer};
use crate::job::{Idempotency, JobId, QueueName};
use crate::pool::Repeat;

impl Admission for RedisBroker {
    /// One script. Repeating it is safe: an id that is in the set already is admitted again and
    /// counts once.
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
                        .arg(micros(ADMISSION_CHECK_INTERVAL))
                })
                .await?;
            Ok(reply.int()? == 1)
        })
    }
}
