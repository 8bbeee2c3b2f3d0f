//! The leases of one queue: extending them, finding expired ones, and telling whether a
//! lease still holds.
//!
//! Leases are ordered by their end, which is unique in the queue, so the expired ones are at
//! the front. A lease holds while its job is active and has the same owner; a lease that a
//! recoverer found has no owner and holds until its end changes. The clock is the steady
//! one, which no test and no operator sets back; if it is set back all the same, leases that
//! end too far in the future are shortened.

use super::queue::{Queue, StoredJob};
use crate::broker::{Delivery, Extended, LEASE, Lease};
use crate::job::{Charge, JobId, JobState, is_suspect};
use crate::time::Timestamp;

impl Queue {
    /// Extends a lease to [`LEASE`] from now.
    pub(super) fn extend(&mut self, lease: &Lease, steady: Timestamp, now: Timestamp) -> Extended {
        let waits = self.reclaimed(lease);
        if !waits && !self.holds(lease) {
            return Extended::Lost;
        }
        let ends = self.next_end(steady);
        if waits {
            // Its places went to nobody else: it claimed them again when it became pending.
            self.occupy(&lease.id, now);
        }
        // Where a lease ends is not kept on disk; who holds it is.
        let found = match waits {
            true => self.jobs.get_mut(&lease.id),
            false => self.jobs.get_unnoted(&lease.id),
        };
        let Some(stored) = found else {
            return Extended::Lost;
        };
        if waits {
            // It has not been dequeued since: it goes on, and its worker was not lost.
            self.pending.retain(|id| *id != lease.id);
            stored.state = JobState::Active;
            stored.losses = stored.losses.saturating_sub(1);
            (stored.pending_since, stored.reclaimed_from) = (None, None);
        } else {
            self.leases.remove(&stored.held.ends);
        }
        stored.held.ends = ends;
        let on_cancel = stored.on_cancel;
        self.leases.insert(ends, lease.id.clone());
        let lease = Lease { ends, ..lease.clone() };
        match on_cancel {
            Some(after) => Extended::Cancelled(lease, after),
            None => Extended::Renewed(lease),
        }
    }

    /// Jobs whose lease has expired. `suspects` is the number of suspects in flight.
    pub(super) fn expired_leases(
        &mut self,
        limit: usize,
        skip: usize,
        suspects: usize,
        steady: Timestamp,
    ) -> Vec<Delivery> {
        self.shorten_leases(steady);
        let found = |stored: &StoredJob| {
            let charge = match (is_suspect(stored.losses), stored.started, suspects) {
                (true, true, 0 | 1) => Charge::Proven,
                (true, false, _) | (false, _, 1..) => Charge::Cleared,
                _ => Charge::Possible,
            };
            Delivery { charge, ..stored.delivery(None) }
        };
        let ended = self.leases.range(..=steady.as_micros()).skip(skip).take(limit);
        ended.filter_map(|(_, id)| Some(found(self.jobs.get(id)?))).collect()
    }

    /// Gives these active jobs leases that have expired, in this order.
    pub(super) fn expire_all(&mut self, jobs: impl Iterator<Item = JobId>, steady: Timestamp) {
        let mut ends = (steady - LEASE).as_micros();
        for id in jobs {
            ends += if (ends + 1) % 1_000_000 == 0 { 2 } else { 1 };
            if let Some(stored) = self.jobs.get_unnoted(&id) {
                stored.held.ends = ends;
            }
            self.leases.insert(ends, id);
        }
    }

    /// Records that a suspect starts, unless the lease is no longer the caller's.
    pub(super) fn begin_suspect(&mut self, lease: &Lease) -> bool {
        let held = self.holds(lease);
        if let Some(stored) = self.jobs.get_mut(&lease.id).filter(|_| held) {
            stored.started = true;
        }
        held
    }

    /// Whether the lease still holds.
    pub(super) fn holds(&self, lease: &Lease) -> bool {
        let active = |job: &&StoredJob| job.state == JobState::Active;
        self.jobs.get(&lease.id).filter(active).is_some_and(|job| match lease.owner {
            Some(owner) => job.held.owner == owner,
            None => job.held.ends == lease.ends,
        })
    }

    /// Whether the job is pending because it was recovered from this lease's owner, and has not
    /// been dequeued since.
    pub(super) fn reclaimed(&self, lease: &Lease) -> bool {
        let pending = |job: &&StoredJob| job.state == JobState::Pending;
        let stored = self.jobs.get(&lease.id).filter(pending);
        lease.owner.is_some() && stored.is_some_and(|job| job.reclaimed_from == lease.owner)
    }

    /// Shortens leases that end more than twice [`LEASE`] from now to [`LEASE`]: the clock was
    /// set back.
    fn shorten_leases(&mut self, steady: Timestamp) {
        let far = (steady + LEASE * 2).as_micros();
        while let Some((ends, _)) = self.leases.last_key_value().filter(|(ends, _)| **ends > far) {
            let (ends, new) = (*ends, self.next_end(steady));
            let Some(id) = self.leases.remove(&ends) else { return };
            if let Some(stored) = self.jobs.get_unnoted(&id) {
                stored.held.ends = new;
            }
            self.leases.insert(new, id);
        }
    }

    /// The end of a lease that begins now: later than all others of the queue, and never a
    /// whole second, which is left to Go workers.
    pub(super) fn next_end(&self, steady: Timestamp) -> i64 {
        let mut ends = (steady + LEASE).as_micros();
        // Later ends are from before the clock was set back.
        if let Some((last, _)) = self.leases.range(..=(steady + LEASE * 2).as_micros()).next_back()
        {
            ends = ends.max(last.saturating_add(1));
        }
        if ends % 1_000_000 == 0 {
            ends = ends.saturating_add(1);
        }
        ends
    }
}
