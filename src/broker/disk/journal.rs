//! Group commit: callers add rows under the store's lock, and wait outside of it until a
//! batch with their rows is durable.
//!
//! Rows reach the disk in the order of the changes, because they are added while the store is
//! locked. One batch is written at a time; what is added meanwhile leaves with the next one,
//! so all concurrent callers share one sync. The first caller writes, and with
//! [`Durability::Always`] syncs, for all that came with it: handing over to a thread would cost
//! about half of what a fast disk takes. What is added meanwhile is written by the thread
//! `jobqueue-disk`. If the disk turns slow, the thread does all of it, so that no thread of the
//! application waits for a busy disk. With [`Durability::EverySecond`] it syncs each second.
//!
//! A failed write or sync closes the journal for good: what the disk holds is then unknown,
//! and only opening it again finds out. A full disk is no failure: the batch is kept and
//! tried again, and meanwhile no new job is accepted.

mod pending;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::Rows;
use super::durability::{Durability, Level, Storage, StorageError};
use crate::error::Error;
use pending::{Waiter, lost};
use writer::Shared;

/// The way from the store in memory to the disk.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub(crate) fn start(storage: Box<dyn Storage>, durability: Durability) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            durability,
            queue: Mutex::default(),
            wake: Condvar::new(),
            storage: Mutex::new(storage),
            slow: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("jobqueue-disk".to_owned())
            .spawn(move || of_thread.run())
            .map_err(|error| Error::config("a thread cannot be started").caused_by(error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Adds rows to the next batch. The store is locked meanwhile, which keeps the order.
    pub(crate) fn add(&self, write: impl FnOnce(&mut Rows)) {
        let mut queue = self.shared.queue();
        write(&mut queue.rows);
        if queue.failed.is_some() {
            queue.rows.clear();
        }
    }

    /// Whether changes are accepted.
    ///
    /// # Errors
    /// The journal has failed; for new jobs also if there is too little room.
    pub(crate) fn accepts(&self, level: Level) -> Result<(), Error> {
        self.shared.queue().accepts(level)
    }

    /// Waits until everything that was added before is as safe as the level says.
    ///
    /// # Errors
    /// It could not be written, or there is no room for new jobs now.
    pub(crate) async fn saved(&self, level: Level) -> Result<(), Error> {
        let batch = {
            let queue = self.shared.queue();
            // Its rows may have been dropped, and then no batch has them.
            if let Some(reason) = &queue.failed {
                return Err(lost(reason));
            }
            queue.last_batch()
        };
        // A caller that needs no sync does not sync for others.
        let syncs_for_others =
            self.shared.durability == Durability::Always && level == Level::Written;
        if !syncs_for_others && !self.shared.slow.load(Ordering::Relaxed) {
            self.shared.lead(level, batch);
        }
        let answer = {
            let mut queue = self.shared.queue();
            if let Some(known) = queue.known(level, batch) {
                return known;
            }
            let (done, answer) = oneshot::channel();
            let is_taken = batch <= queue.taken;
            let waiters = if is_taken { &mut queue.under_way } else { &mut queue.waiters };
            waiters.push(Waiter { level, done });
            if !is_taken && !queue.writing && queue.stuck.is_none() {
                self.shared.call(&mut queue);
            }
            answer
        };
        // Only a panic of the writer loses the other end.
        answer.await.unwrap_or_else(|_| Err(lost("its writer has ended")))
    }
}

impl Drop for Journal {
    /// Writes and syncs what is left, and ends the thread.
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
