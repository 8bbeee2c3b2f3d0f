//! What is to be written, and who waits for it.

use tokio::sync::oneshot;

use super::super::Rows;
use super::Level;
use crate::error::Error;

#[derive(Default)]
pub(super) struct Pending {
    /// Rows that no batch has yet. They will be the batch behind `taken`.
    pub(super) rows: Rows,
    /// Callers whose rows those are.
    pub(super) waiters: Vec<Waiter>,
    /// Callers who wait for batches up to `taken`.
    pub(super) under_way: Vec<Waiter>,
    /// The number of the last batch: it is written, or is being written, or is stuck.
    pub(super) taken: u64,
    /// The last batch that the operating system has.
    pub(super) written: u64,
    /// The last batch that is as safe as [`Durability`](super::Durability) says.
    pub(super) safe: u64,
    /// Whether somebody writes, who looks for more rows before it stops.
    pub(super) writing: bool,
    /// A batch for which there was no room.
    pub(super) stuck: Option<Rows>,
    /// An empty buffer for the next batch.
    pub(super) spare: Rows,
    /// Whether something was written since the last sync.
    pub(super) unsynced: bool,
    /// Whether the thread is to write what there is.
    pub(super) called: bool,
    /// Why no new job is accepted now.
    pub(super) full: Option<String>,
    /// Why nothing is accepted any more.
    pub(super) failed: Option<String>,
    /// Whether the journal is closed.
    pub(super) closed: bool,
}

pub(super) struct Waiter {
    pub(super) level: Level,
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

impl Pending {
    /// The next batch and its number: the stuck one first.
    pub(super) fn take_batch(&mut self) -> Option<(Rows, u64)> {
        if self.failed.is_some() {
            return None;
        }
        if let Some(stuck) = self.stuck.take() {
            return Some((stuck, self.taken));
        }
        if self.rows.is_empty() {
            return None;
        }
        let (spare, waiters) = (std::mem::take(&mut self.spare), std::mem::take(&mut self.waiters));
        self.under_way.extend(waiters);
        self.taken += 1;
        Some((std::mem::replace(&mut self.rows, spare), self.taken))
    }

    pub(super) fn accepts(&self, level: Level) -> Result<(), Error> {
        match (&self.failed, &self.full) {
            (Some(reason), _) => Err(closed(reason)),
            (None, Some(reason)) if level == Level::NewJobs => Err(Error::refused(reason.clone())),
            (None, _) => Ok(()),
        }
    }

    /// The batch with everything that was added before.
    pub(super) fn last_batch(&self) -> u64 {
        self.taken + u64::from(!self.rows.is_empty())
    }

    /// What is known about a batch already.
    pub(super) fn known(&self, level: Level, batch: u64) -> Option<Result<(), Error>> {
        let reached = if level == Level::Written { self.written } else { self.safe };
        if batch <= reached {
            return Some(Ok(()));
        }
        if let Some(reason) = &self.failed {
            return Some(Err(lost(reason)));
        }
        let waits_for_room = self.stuck.is_some() && level == Level::NewJobs;
        waits_for_room.then(|| Err(unconfirmed(self.full.as_deref().unwrap_or_default())))
    }

    /// The waiters for the batches up to the last one that this concerns.
    pub(super) fn waiting(&mut self, concerns: impl Fn(Level) -> bool) -> Vec<Waiter> {
        self.under_way.extract_if(.., |waiter| concerns(waiter.level)).collect()
    }
}

pub(super) fn answer(waiters: Vec<Waiter>, answer: &Result<(), Error>) {
    for waiter in waiters {
        // A caller that has gone needs no answer.
        let _ = waiter.done.send(answer.clone());
    }
}

/// Closes the journal for good.
pub(super) fn fail(queue: &mut Pending, reason: String) {
    crate::log::error!("the store on disk is closed, because it could not be written: {reason}");
    let waiters = std::mem::take(&mut queue.waiters);
    queue.under_way.extend(waiters);
    answer(std::mem::take(&mut queue.under_way), &Err(lost(&reason)));
    queue.rows.clear();
    queue.failed = Some(reason);
}

pub(super) fn closed(reason: &str) -> Error {
    Error::unavailable(format!(
        "the store on disk is closed, because it could not be written: {reason}; restart the \
         process once the disk works"
    ))
}

/// For a change that was added before the journal was closed: a start may find it.
pub(super) fn lost(reason: &str) -> Error {
    Error::outcome_unknown(format!(
        "the store on disk was closed before this was confirmed: {reason}; restart the process \
         once the disk works"
    ))
}

pub(super) fn unconfirmed(reason: &str) -> Error {
    Error::outcome_unknown(format!("this is not stored yet: {reason}"))
}
