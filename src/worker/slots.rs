//! The slots of a worker: how many jobs run at once, which may change while they run.
//!
//! A slot is a permit that travels with its job until the settlement is confirmed. Growing adds
//! permits, and waiting jobs get them at once. Shrinking takes away free permits; those in use are
//! *owed*: no job is cancelled, and as jobs end their permits are taken away instead of being used
//! again, because the dispatcher [repays](Slots::repay) before it requests jobs and requests fewer
//! as long as something is owed. The number of permits is always `wanted + owed`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sync::lock;

/// The slots of a worker.
pub(super) struct Slots {
    /// Free slots.
    free: Arc<Semaphore>,
    /// One permit for each slot, for finished jobs that have released their slot although the
    /// store is away. It never shrinks: it only bounds memory.
    unsettled: Arc<Semaphore>,
    /// How many there are to be; read without the lock.
    wanted: AtomicUsize,
    /// How many more there are, because jobs use them; read without the lock.
    owed: AtomicUsize,
    /// The size of `unsettled`. Held while the numbers change.
    sizes: Mutex<usize>,
}

impl Slots {
    /// So many slots, all free.
    pub(super) fn new(wanted: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(wanted)),
            unsettled: Arc::new(Semaphore::new(wanted)),
            wanted: AtomicUsize::new(wanted),
            owed: AtomicUsize::new(0),
            sizes: Mutex::new(wanted),
        }
    }

    /// How many slots there are to be. More are in use for a while after that was lowered.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Acquire)
    }

    /// How many slots in use go away with their jobs.
    pub(super) fn owed(&self) -> usize {
        self.owed.load(Ordering::Acquire)
    }

    /// Changes the number of slots.
    pub(super) fn resize(&self, wanted: usize) {
        let mut unsettled = lock(&self.sizes);
        let existing = self.wanted() + self.owed();
        if wanted > existing {
            self.free.add_permits(wanted - existing);
        }
        self.owed.store(existing.saturating_sub(wanted), Ordering::Release);
        self.wanted.store(wanted, Ordering::Release);
        if wanted > *unsettled {
            self.unsettled.add_permits(wanted - *unsettled);
            *unsettled = wanted;
        }
        drop(unsettled);
        self.repay();
    }

    /// Takes away free slots as long as some are owed.
    pub(super) fn repay(&self) {
        if self.owed() == 0 {
            return;
        }
        let _sizes = lock(&self.sizes);
        let owed = self.owed();
        let repaid = self.free.forget_permits(owed);
        self.owed.store(owed - repaid, Ordering::Release);
    }

    /// A free slot, if there is one.
    pub(super) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// The next free slot. `None` never happens: the slots are not closed.
    pub(super) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Room for a finished job without a slot, if there is some.
    pub(super) fn try_take_unsettled(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.unsettled).try_acquire_owned().ok()
    }

    /// Whether a slot is free.
    pub(super) fn has_free(&self) -> bool {
        self.free.available_permits() > 0
    }

    /// Whether no slot is in use.
    pub(super) fn are_all_free(&self) -> bool {
        let _sizes = lock(&self.sizes);
        self.free.available_permits() == self.wanted() + self.owed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_in_use_goes_away_when_its_job_ends() {
        let slots = Slots::new(3);
        let mut used: Vec<_> = std::iter::from_fn(|| slots.try_take()).collect();
        assert_eq!(used.len(), 3);
        slots.resize(1);
        assert_eq!((slots.wanted(), slots.owed()), (1, 2));
        used.pop();
        slots.repay();
        assert!(!slots.has_free(), "the slot was owed");
        used.pop();
        slots.repay();
        assert_eq!((slots.owed(), slots.has_free(), slots.are_all_free()), (0, false, false));
        used.pop();
        assert!(slots.are_all_free());
        assert_eq!(std::iter::from_fn(|| slots.try_take().map(std::mem::forget)).count(), 1);
    }

    #[test]
    fn growing_after_shrinking_loses_no_slot_and_adds_none() {
        let slots = Slots::new(4);
        let used: Vec<_> = std::iter::from_fn(|| slots.try_take()).collect();
        slots.resize(1);
        slots.resize(3);
        assert_eq!((slots.wanted(), slots.owed(), slots.has_free()), (3, 1, false));
        slots.resize(6);
        assert_eq!(std::iter::from_fn(|| slots.try_take().map(std::mem::forget)).count(), 2);
        drop(used);
        slots.resize(1);
        assert_eq!((slots.wanted(), slots.owed()), (1, 1), "two are in use");
    }
}
