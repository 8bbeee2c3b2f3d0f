//! Writes the audit log, beside the requests whose actions it is about: an action that was done must not
//! fail because its entry cannot be written.
//!
//! Entries wait in a bounded queue. While the store is away they are tried again; at the end of the
//! process each gets one more try. One that finds the queue full is dropped with a warning: the
//! line in the log is its record.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use crate::broker::{AuditEntry, Broker};
use crate::error::Error;

/// Maximum entries that wait.
const MAX_WAITING: usize = 1000;

/// Interval between two tries.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long the entries that are left may take at the end of the process.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// The entries that wait to be written.
pub(super) struct AuditLog {
    sender: Sender<AuditEntry>,
    receiver: tokio::sync::Mutex<Receiver<AuditEntry>>,
}

impl Default for AuditLog {
    fn default() -> Self {
        let (sender, receiver) = channel(MAX_WAITING);
        Self { sender, receiver: tokio::sync::Mutex::new(receiver) }
    }
}

impl AuditLog {
    /// Adds an entry.
    pub(super) fn add(&self, entry: AuditEntry) {
        if let Err(error) = self.sender.try_send(entry) {
            crate::log::warn!("an action is missing in the audit log of the store: {error}");
        }
    }

    /// Writes entries until the end of the process, and then those that are left.
    pub(super) async fn keep_writing(
        self: Arc<Self>,
        broker: Arc<dyn Broker>,
        stop: CancellationToken,
    ) {
        let mut receiver = self.receiver.lock().await;
        loop {
            let entry = tokio::select! {
                entry = receiver.recv() => entry,
                () = stop.cancelled() => break,
            };
            let Some(entry) = entry else { return };
            while let Err(error) = broker.add_audit("", &entry).await {
                if is_final(&error) {
                    crate::log::warn!("an action is missing in the audit log: {error:?}");
                    break;
                }
                tokio::select! {
                    () = tokio::time::sleep(RETRY_INTERVAL) => {}
                    () = stop.cancelled() => {
                        crate::log::warn!("an action is missing in the audit log: {error:?}");
                        break;
                    }
                }
            }
        }
        let rest = async {
            while let Ok(entry) = receiver.try_recv() {
                if let Err(error) = broker.add_audit("", &entry).await {
                    crate::log::warn!("an action is missing in the audit log: {error:?}");
                }
            }
        };
        if tokio::time::timeout(LAST_WRITES, rest).await.is_err() {
            crate::log::warn!("actions are missing in the audit log: the store did not answer");
        }
    }
}

/// Whether a further try is useless, or could add the entry twice.
fn is_final(error: &Error) -> bool {
    !error.is_unavailable()
}
