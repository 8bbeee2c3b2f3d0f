//! What a running job writes of itself: its result so far, at once; its progress
//! a few times a second, however often it says something.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::in_flight_job::InFlightJob;
use crate::broker::{Broker, Output, Settled};
use crate::error::Error;
use crate::job::{Progress, Reporter};
use crate::sync::lock;

/// How long the words of progress that follow one are gathered.
const GATHERED: Duration = Duration::from_millis(250);

pub(super) struct ProgressWriter {
    broker: Arc<dyn Broker>,
    job: Arc<InFlightJob>,
    /// Said and not yet written.
    latest: Mutex<Option<Progress>>,
    said: Notify,
}

impl ProgressWriter {
    pub(super) fn new(broker: Arc<dyn Broker>, job: Arc<InFlightJob>) -> Self {
        Self { broker, job, latest: Mutex::default(), said: Notify::new() }
    }

    fn latest(&self) -> MutexGuard<'_, Option<Progress>> {
        lock(&self.latest)
    }

    /// Writes progress as it is said, for as long as it is polled.
    pub(super) async fn keep_writing(&self) -> std::convert::Infallible {
        loop {
            self.said.notified().await;
            self.write_latest().await;
            tokio::time::sleep(GATHERED).await;
        }
    }

    /// Writes what was said last, unless that was done.
    pub(super) async fn write_latest(&self) {
        let Some(progress) = self.latest().clone() else { return };
        let (id, lease) = (&self.job.record.id, self.job.current());
        match self.broker.write_output(&lease, Output::Progress(&progress)).await {
            // Only now: where this is dropped half-way, the last call writes it.
            Ok(Settled::Done | Settled::Cancelled(_)) => {
                drop(self.latest().take_if(|latest| *latest == progress))
            }
            Ok(Settled::Lost) => self.job.lose(&lease),
            Err(error) => crate::log::debug!("progress of {id:?} was not written: {error:?}"),
        }
    }
}

impl Reporter for ProgressWriter {
    fn progress(&self, progress: Progress) {
        *self.latest() = Some(progress);
        self.said.notify_one();
    }

    fn result<'a>(
        &'a self,
        result: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>> {
        Box::pin(async move {
            let over = || {
                let id = &self.job.record.id;
                Error::lease_lost(format!("the attempt at job {id:?} is over: nothing was written"))
            };
            if self.job.cancellation.is_cancelled() {
                return Err(over());
            }
            let lease = self.job.current();
            match self.broker.write_output(&lease, Output::Result(result)).await? {
                Settled::Done | Settled::Cancelled(_) => Ok(()),
                Settled::Lost => {
                    self.job.lose(&lease);
                    Err(over())
                }
            }
        })
    }
}
