//! Settling: how a finished attempt moves its job on.
//!
//! A request is carried out if its lease still holds, or if the job is pending only because
//! its lease expired and it has not been dequeued since. The job is taken out of the active
//! ones, changed according to the transition, and put into its next collection. A pending
//! cancel request replaces a transition after which the job would wait.

use super::queue::{Queue, StoredJob};
use crate::broker::{AttemptNote, Lease, SettleRequest, Settled};
use crate::job::{AfterCancel, JobState, Transition};
use crate::time::Timestamp;

impl Queue {
    /// Carries out a transition, unless the lease is lost.
    pub(super) fn settle(&mut self, request: &SettleRequest, now: Timestamp) -> Settled {
        let SettleRequest { delivery, transition, note } = request;
        let Some(mut stored) = self.take_settled(&delivery.lease) else { return Settled::Lost };
        if !matches!(transition, Transition::Reclaim { .. } | Transition::PutBack { .. }) {
            stored.losses = 0;
        }
        let successor = self.successor_of(&stored);
        stored.successor = None;
        let on_cancel = stored.on_cancel.take().filter(|after| *after != AfterCancel::Retry);
        let mut settled = Settled::Done;
        match (transition, on_cancel) {
            (Transition::Complete { result }, _) => {
                // An error that recovery noted for an attempt that went on after all.
                stored.job.last_error.clone_from(&delivery.job.last_error);
                stored.job.last_failed_at = delivery.job.last_failed_at;
                self.count(now, false);
                self.unlock(&stored.job, now);
                stored.attempted(note);
                self.complete(stored, result.clone(), now);
            }
            (Transition::Revoke, _) => {
                self.count(now, false);
                self.unlock(&stored.job, now);
            }
            (Transition::Archive { error }, _) => {
                self.count(now, true);
                stored.failed(error, note, now);
                self.archive(stored, now);
            }
            (waits, Some(after)) => {
                note_failure(&mut stored, waits, note, now);
                stored.losses = 0;
                settled = self.carry_out_cancel(stored, after, now);
            }
            // What would run again is replaced by its successor.
            (waits, None) if successor.is_some() => {
                if matches!(waits, Transition::Retry { counted: true, .. }) {
                    self.count(now, true);
                }
            }
            (waits, None) => {
                note_failure(&mut stored, waits, note, now);
                self.let_wait(stored, waits, &delivery.lease, now);
            }
        }
        if let Some(successor) = successor {
            self.succeed(&delivery.lease.id, &successor, now);
        }
        settled
    }

    /// Takes the job of a lease out of its collection, if the lease may settle it.
    fn take_settled(&mut self, lease: &Lease) -> Option<Box<StoredJob>> {
        let is_reclaimed = self.reclaimed(lease);
        if !is_reclaimed && !self.holds(lease) {
            return None;
        }
        if is_reclaimed {
            self.leave_gates(&lease.id);
        }
        let mut stored = self.jobs.remove(&lease.id)?;
        if is_reclaimed {
            // Its attempt has been made, and must not be made again.
            self.pending.retain(|id| *id != lease.id);
            (stored.pending_since, stored.reclaimed_from) = (None, None);
        } else {
            self.leases.remove(&stored.held.ends);
            self.give_places(&mut stored);
        }
        Some(stored)
    }

    /// Puts a job back whose transition lets it wait for another attempt.
    fn let_wait(
        &mut self,
        mut stored: Box<StoredJob>,
        transition: &Transition,
        lease: &Lease,
        now: Timestamp,
    ) {
        match transition {
            Transition::Retry { after, counted, .. } => {
                if *counted {
                    self.count(now, true);
                }
                self.wait(stored, JobState::Retry, now + *after);
            }
            Transition::PutBack { after, .. } if !after.is_zero() => {
                self.wait(stored, JobState::Retry, now + *after);
            }
            Transition::Reclaim { .. } => {
                stored.losses = stored.losses.saturating_add(1);
                // A recoverer's lease has no owner. An owner that puts its own job back will
                // not come again.
                stored.reclaimed_from = lease.owner.is_none().then_some(stored.held.owner);
                self.next_in_line(stored, now);
            }
            Transition::PutBack { .. }
            | Transition::Requeue
            | Transition::Complete { .. }
            | Transition::Revoke
            | Transition::Archive { .. } => self.next_in_line(stored, now),
        }
    }

    /// Archives or deletes a job whose attempt has ended, as a cancel request asked.
    fn carry_out_cancel(
        &mut self,
        stored: Box<StoredJob>,
        after: AfterCancel,
        now: Timestamp,
    ) -> Settled {
        let is_deleted = after == AfterCancel::Delete;
        self.count(now, !is_deleted);
        if is_deleted {
            self.unlock(&stored.job, now);
        } else {
            self.archive(stored, now);
        }
        Settled::Cancelled(after)
    }
}

/// Notes the error of a transition after which the job waits, if there is one.
fn note_failure(
    stored: &mut StoredJob,
    transition: &Transition,
    note: &AttemptNote,
    now: Timestamp,
) {
    match transition {
        Transition::Retry { error, counted, .. } => {
            if *counted || !error.is_empty() {
                stored.failed(error, note, now);
            }
            if *counted {
                stored.job.retried = stored.job.retried.saturating_add(1);
            }
        }
        Transition::PutBack { error, .. } if error.is_empty() => {}
        Transition::PutBack { error, .. } | Transition::Reclaim { error } => {
            stored.failed(error, note, now);
        }
        Transition::Requeue
        | Transition::Complete { .. }
        | Transition::Revoke
        | Transition::Archive { .. } => {}
    }
}
