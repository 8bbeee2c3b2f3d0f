//! Writes what a running job reports.
//!
//! A handler may report progress as often as it likes: reporting only replaces the latest
//! report in memory. [`ProgressWriter::keep_writing`] runs beside the handler and writes the
//! latest report, at most one each [`WRITE_INTERVAL`]. When the attempt is over, the report
//! that is still unwritten is written once more, so the last one is never lost. A partial
//! result is different: it is written at once, and the handler waits for the store's answer.
//!
//! Every write is fenced by the job's lease. If the store answers that the lease is lost, the
//! attempt is cancelled: another worker may have the job.
//!
//! What may surprise. A failed write of progress is logged at debug level and not repeated;
//! the next report replaces it. After a cancellation a partial result is refused without
//! asking the store.

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

/// Minimum interval between two writes of progress. Only the latest report is written.
const WRITE_INTERVAL: Duration = Duration::from_millis(250);

/// Writes the reports of one attempt, under its lease.
pub(super) struct ProgressWriter {
    broker: Arc<dyn Broker>,
    job: Arc<InFlightJob>,
    /// The latest report that has not been written. `None` if it has.
    latest: Mutex<Option<Progress>>,
    reported: Notify,
}

impl ProgressWriter {
    /// A writer for one attempt. Nothing is written before the first report.
    pub(super) fn new(broker: Arc<dyn Broker>, job: Arc<InFlightJob>) -> Self {
        Self { broker, job, latest: Mutex::default(), reported: Notify::new() }
    }

    fn latest(&self) -> MutexGuard<'_, Option<Progress>> {
        lock(&self.latest)
    }

    /// Writes progress as it is reported. Runs beside the handler and never returns.
    pub(super) async fn keep_writing(&self) -> std::convert::Infallible {
        loop {
            self.reported.notified().await;
            self.write_latest().await;
            tokio::time::sleep(WRITE_INTERVAL).await;
        }
    }

    /// Writes the latest report, unless it is written already.
    pub(super) async fn write_latest(&self) {
        let Some(progress) = self.latest().clone() else { return };
        let (id, lease) = (&self.job.record.id, self.job.current());
        match self.broker.write_output(&lease, Output::Progress(&progress)).await {
            // Only after the write: if this future is dropped half-way, the call after the
            // attempt writes it.
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
        self.reported.notify_one();
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
