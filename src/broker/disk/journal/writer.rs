//! Who writes batches: a caller for all that came with it, or the thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use super::pending::{Pending, answer, fail, unconfirmed};
use super::{Durability, Level, Rows, Storage, StorageError};
use crate::sync::{lock, wait_timeout};

/// Interval between two syncs, between two tries while the disk is full, and between two
/// looks at its room.
const TICK: Duration = Duration::from_secs(1);

pub(super) struct Shared {
    pub(super) durability: Durability,
    /// What is to be written. Never held while writing.
    pub(super) queue: Mutex<Pending>,
    /// Notified when the thread has something to do.
    pub(super) wake: Condvar,
    /// Held by the one who writes.
    pub(super) storage: Mutex<Box<dyn Storage>>,
    /// Whether the thread writes because the disk is slow.
    pub(super) slow: AtomicBool,
}

/// Who writes. When it stops, the thread is called if there is more.
struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.writing = false;
        if !queue.rows.is_empty() && queue.stuck.is_none() {
            self.0.call(&mut queue);
        }
    }
}

impl Shared {
    pub(super) fn queue(&self) -> MutexGuard<'_, Pending> {
        lock(&self.queue)
    }

    /// Lets the thread write.
    pub(super) fn call(&self, queue: &mut Pending) {
        queue.called = true;
        self.wake.notify_one();
    }

    /// The right to write, unless somebody has it, or there is no room.
    fn turn(&self) -> Option<Turn<'_>> {
        let mut queue = self.queue();
        if queue.writing || queue.stuck.is_some() {
            return None;
        }
        queue.writing = true;
        Some(Turn(self))
    }

    /// Writes for a caller who waits for this batch, and for those who came with it.
    pub(super) fn lead(&self, level: Level, batch: u64) {
        if self.queue().known(level, batch).is_some() {
            return;
        }
        let Some(_turn) = self.turn() else { return };
        let mut storage = match self.storage.try_lock() {
            Ok(storage) => storage,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The thread syncs. It is called as the turn ends.
            Err(TryLockError::WouldBlock) => return,
        };
        for _ in 0..self.durability.max_led_batches() {
            if !self.write_batch(&mut **storage) || self.slow.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Writes one batch; false if there was none, or if it could not be written.
    fn write_batch(&self, storage: &mut dyn Storage) -> bool {
        let Some((rows, batch)) = self.queue().take_batch() else { return false };
        let began = Instant::now();
        let mut written = storage.write(&rows);
        if written.is_ok() && self.durability == Durability::Always {
            let mut queue = self.queue();
            queue.written = batch;
            let waiters = queue.waiting(|level| level == Level::Written);
            drop(queue);
            answer(waiters, &Ok(()));
            // Writing again would not bring back what a failed sync lost.
            written = storage.sync().map_err(
                |(StorageError::Full(text) | StorageError::Failed(text))| {
                    StorageError::Failed(text)
                },
            );
        }
        self.slow.store(began.elapsed() > self.durability.slow_batch(), Ordering::Relaxed);
        self.conclude(rows, batch, written)
    }

    /// Says what became of a batch; whether it is safe.
    fn conclude(&self, mut rows: Rows, batch: u64, written: Result<(), StorageError>) -> bool {
        let mut queue = self.queue();
        match written {
            Ok(()) => {
                queue.unsynced = self.durability == Durability::EverySecond;
                (queue.written, queue.safe) = (batch, batch);
                let waiters = std::mem::take(&mut queue.under_way);
                rows.clear();
                queue.spare = rows;
                drop(queue);
                answer(waiters, &Ok(()));
                true
            }
            Err(StorageError::Full(reason)) => {
                crate::log::error!("{reason}; no new job is accepted until there is room");
                let mut waiters = queue.waiting(|level| level == Level::NewJobs);
                waiters
                    .extend(queue.waiters.extract_if(.., |waiter| waiter.level == Level::NewJobs));
                // The others wait for room: their changes are kept.
                answer(waiters, &Err(unconfirmed(&reason)));
                queue.full = Some(reason);
                queue.stuck = Some(rows);
                false
            }
            Err(StorageError::Failed(reason)) => {
                fail(&mut queue, reason);
                false
            }
        }
    }

    /// What the thread does.
    pub(super) fn run(&self) {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let is_closed = {
                let mut queue = self.queue();
                while !queue.called && !queue.closed {
                    let Some(left) = next_tick.checked_duration_since(Instant::now()) else {
                        break;
                    };
                    queue = wait_timeout(&self.wake, queue, left);
                }
                queue.called = false;
                queue.closed
            };
            let is_due = next_tick <= Instant::now();
            let turn = self.turn();
            if turn.is_none() && !is_due && !is_closed {
                // The one who writes calls again.
                continue;
            }
            let mut storage = lock(&self.storage);
            while self.write_batch(&mut **storage) {}
            drop(turn);
            if is_due || is_closed {
                next_tick = Instant::now() + TICK;
                self.sync(&mut **storage);
                self.look_for_room(&mut **storage);
            }
            if is_closed {
                return;
            }
        }
    }

    /// The sync of each second.
    fn sync(&self, storage: &mut dyn Storage) {
        if !std::mem::take(&mut self.queue().unsynced) {
            return;
        }
        if let Err(StorageError::Full(reason) | StorageError::Failed(reason)) = storage.sync() {
            fail(&mut self.queue(), reason);
        }
    }

    /// Accepts new jobs while there is room.
    fn look_for_room(&self, storage: &mut dyn Storage) {
        let full = storage.tend();
        let mut queue = self.queue();
        if queue.stuck.is_some() || queue.failed.is_some() {
            return;
        }
        match (&queue.full, &full) {
            (None, Some(reason)) => crate::log::error!("{reason}; no new job is accepted"),
            (Some(_), None) => crate::log::info!("the disk has room: jobs are accepted again"),
            _ => {}
        }
        queue.full = full;
    }
}
