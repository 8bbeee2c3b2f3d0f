//! Leases about which something was sent and no answer came: it may have been
//! carried out, and whoever asks again is not to be treated as a stranger.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::broker::{LEASE, Lease};
use crate::job::{JobId, QueueName};
use crate::time::Timestamp;

/// How long after its end a lease is remembered: its extension may have given it
/// [`LEASE`] more, and a settlement is repeated no longer than that.
const REMEMBERED: Duration = Duration::from_secs(2 * LEASE.as_secs());

#[derive(Default)]
pub(super) struct Unheard(Mutex<HashSet<(QueueName, JobId, i64)>>);

impl Unheard {
    /// Nothing was heard of these. Forgets those that ended long before `now`.
    pub fn add<'a>(&self, leases: impl IntoIterator<Item = &'a Lease>, now: Timestamp) {
        let oldest = (now - REMEMBERED).as_micros();
        let mut unheard = self.lock();
        unheard.retain(|(_, _, token)| *token >= oldest);
        unheard.extend(leases.into_iter().map(key));
    }

    /// Whether this is one of them.
    pub fn has(&self, lease: &Lease) -> bool {
        let unheard = self.lock();
        !unheard.is_empty() && unheard.contains(&key(lease))
    }

    /// An answer came. Whether it was one of them.
    pub fn remove(&self, lease: &Lease) -> bool {
        let mut unheard = self.lock();
        !unheard.is_empty() && unheard.remove(&key(lease))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(QueueName, JobId, i64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(lease: &Lease) -> (QueueName, JobId, i64) {
    (lease.queue.clone(), lease.id.clone(), lease.token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_long_ago_is_forgotten() {
        let lease = |secs| Lease {
            queue: QueueName::stored("q"),
            id: JobId::stored("a"),
            token: Timestamp::from_secs(secs).as_micros(),
        };
        let unheard = Unheard::default();
        unheard.add(&[lease(100), lease(170)], Timestamp::from_secs(150));
        unheard.add(&[], Timestamp::from_secs(200));
        assert!(!unheard.has(&lease(100)) && unheard.has(&lease(170)));
        assert!(unheard.remove(&lease(170)) && !unheard.remove(&lease(170)));
    }
}
