//! Messages to and from jobs in flight, in this process' memory.
//!
//! A handler's output is written under its lease, so that a stale owner writes
//! nothing, exactly as the script does in Redis. A cancel request is stored with
//! the job and also broadcast by id. A receiver that is too slow may miss some of
//! the broadcast; that is harmless, because the heartbeat reads the request with
//! the lease.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::broadcast::error::RecvError;

use super::MemoryBroker;
use super::queue::Queue;
use crate::broker::disk::Level;
use crate::broker::{Answer, CancelAnswer, CancelListener, Control, Lease, Output, Settled};
use crate::job::{AfterCancel, JobId, JobState, QueueName};

impl Control for MemoryBroker {
    fn write_output<'a>(&'a self, lease: &'a Lease, output: Output<'a>) -> Answer<'a, Settled> {
        Box::pin(async move {
            let level = match output {
                Output::Result(_) => Level::Durable,
                Output::Progress(_) => Level::Written,
            };
            self.accepts(level)?;
            let written = self.act(&lease.queue, |queue, _| queue.write_output(lease, output));
            self.saved(level).await?;
            Ok(written)
        })
    }

    /// The request is stored first and broadcast afterwards, so a worker that hears of it finds
    /// it.
    fn cancel<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        after: AfterCancel,
    ) -> Answer<'a, CancelAnswer> {
        Box::pin(async move {
            self.accepts(Level::Durable)?;
            let answer = self.act(queue, |queue, _| queue.cancel(id, after));
            self.saved(Level::Durable).await?;
            if answer == CancelAnswer::Requested {
                // Nobody may be listening.
                let _ = self.shared.cancelled.send(id.clone());
            }
            Ok(answer)
        })
    }

    /// Ids by a broadcast channel; a receiver that lags misses some, which the heartbeat makes up
    /// for.
    fn hear_cancels(
        &self,
        listener: CancelListener,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut ids = self.shared.cancelled.subscribe();
        Box::pin(async move {
            loop {
                match ids.recv().await {
                    Ok(id) => listener(id.as_str()),
                    // The requests themselves are stored with the jobs.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        })
    }
}

impl Queue {
    fn write_output(&mut self, lease: &Lease, output: Output<'_>) -> Settled {
        if !self.holds(lease) && !self.reclaimed(lease) {
            return Settled::Lost;
        }
        let Some(stored) = self.jobs.get_mut(&lease.id) else {
            return Settled::Lost;
        };
        match output {
            Output::Result(result) => stored.result = Some(result.to_vec()),
            Output::Progress(progress) => stored.progress = Some(progress.clone()),
        }
        Settled::Done
    }

    fn cancel(&mut self, id: &JobId, after: AfterCancel) -> CancelAnswer {
        match self.jobs.get_mut(id) {
            None => CancelAnswer::Missing,
            Some(stored) if stored.state == JobState::Active => {
                stored.on_cancel = Some(after);
                CancelAnswer::Requested
            }
            Some(stored) => CancelAnswer::NotRunning(stored.state),
        }
    }
}
