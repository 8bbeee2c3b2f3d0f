//! Messages to and from running jobs.
//!
//! A handler writes its progress and its result into the job's hash, under the
//! lease that it holds: a stale owner writes nothing. A cancel request is stored in
//! the hash, so that it survives a restart, and published on Asynq's channel
//! `asynq:cancel`, so that the worker hears it at once. Go's cancel requests arrive
//! on the same channel.
//!
//! The message on the channel is only the job's id. It is a hint: the worker renews the
//! job's lease early, and the reply to the renewal says whether a request is stored and
//! what happens to the job afterwards. So a message for a job of the same id in another
//! queue cancels nothing by itself.
//!
//! What may surprise. A message is lost if the worker's subscription is down at that
//! moment. The stored request is then found with the next heartbeat, or at the latest
//! when the attempt is settled: a cancelled job does not wait for a retry.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::leases::lease_args;
use super::scripts::SCRIPTS;
use super::{RedisBroker, keys, reply};
use crate::broker::{Answer, CancelAnswer, CancelListener, Control, Lease, Output, Settled};
use crate::job::{AfterCancel, JobId, JobState, QueueName};
use crate::pool::Repeat;

impl Control for RedisBroker {
    /// One script, which checks the lease in the step in which it writes. Repeating it is safe: the
    /// same bytes are written again.
    fn write_output<'a>(&'a self, lease: &'a Lease, output: Output<'a>) -> Answer<'a, Settled> {
        Box::pin(async move {
            let (field, value) = match output {
                Output::Result(result) => ("result", result.to_vec()),
                Output::Progress(progress) => {
                    let json = serde_json::to_vec(progress);
                    ("x_progress", json.expect("two numbers and a text are JSON"))
                }
            };
            let mut reply = self
                .ask(&SCRIPTS.write_output, &lease.queue, Repeat::Safe, |_, call| {
                    lease_args(call, lease).arg(field).arg(value.as_slice())
                })
                .await?;
            Ok(if reply.int()? == 1 { Settled::Done } else { Settled::Lost })
        })
    }

    /// Stores the request with the job and publishes its id, so that Go workers hear it too.
    fn cancel<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        after: AfterCancel,
    ) -> Answer<'a, CancelAnswer> {
        Box::pin(async move {
            let mut reply = self
                .ask(&SCRIPTS.request_cancel, queue, Repeat::Safe, |_, call| {
                    call.arg(id.as_bytes()).arg(after.as_str())
                })
                .await?;
            Ok(match (reply.int()?, reply.text()?) {
                (1, _) => CancelAnswer::Requested,
                (0, _) => CancelAnswer::Missing,
                (_, state) => {
                    CancelAnswer::NotRunning(JobState::parse(&state).ok_or_else(reply::unexpected)?)
                }
            })
        })
    }

    /// Subscribes on a connection of its own until dropped.
    fn hear_cancels(
        &self,
        listener: CancelListener,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let on_message = Arc::new(move |_: String, id: Vec<u8>| {
            listener(JobId::stored(id).as_str());
        });
        let channels = vec![keys::CANCEL.to_owned()];
        Box::pin(self.pool.subscribe(channels, on_message, CancellationToken::new()))
    }
}
