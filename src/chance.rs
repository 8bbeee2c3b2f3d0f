//! Chance as the queue knows it: jitter, the order of queues and servers, and random ids.
//! The only module that draws them, so that a test can leave nothing to chance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// The source of random choices: the system, or none, so that every run of a test is the same.
/// Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Chance(Option<Arc<AtomicU64>>);

impl Chance {
    /// Draws at random.
    pub const fn system() -> Self {
        Self(None)
    }

    /// Draws the smallest value each time, keeps the order of what is shuffled, and counts ids.
    pub fn none() -> Self {
        Self(Some(Arc::default()))
    }

    /// A share of one: at least 0, below 1.
    pub(crate) fn share(&self) -> f64 {
        if self.0.is_some() { 0.0 } else { fastrand::f64() }
    }

    /// A whole number below `end`, which is above 0.
    pub(crate) fn below(&self, end: u32) -> u32 {
        if self.0.is_some() { 0 } else { fastrand::u32(0..end) }
    }

    /// Puts the items in a random order.
    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        if self.0.is_none() {
            fastrand::shuffle(items);
        }
    }

    /// The next job id if nothing is left to chance: consecutive numbers in the form of a UUID.
    /// `None` if ids are random.
    pub(crate) fn numbered_id(&self) -> Option<String> {
        let last = self.0.as_ref()?;
        let number = last.fetch_add(1, Ordering::SeqCst) + 1;
        Some(format!("00000000-0000-4000-8000-{number:012}"))
    }
}

/// An id that nobody guesses: of a job, a process, or a secret. No test replaces it.
pub(crate) fn uuid() -> Uuid {
    Uuid::new_v4()
}

/// The id of a worker process. It has the form that RFC 9562 leaves to applications (version 8),
/// unlike those of Go workers and of older versions of this crate, which do not know limits.
pub(crate) fn server_id() -> String {
    let id = uuid::Builder::from_bytes(uuid().into_bytes());
    id.with_variant(uuid::Variant::RFC4122)
        .with_version(uuid::Version::Custom)
        .into_uuid()
        .to_string()
}

/// A number from 1 to below `end` that differs between processes. No test replaces it.
pub(crate) fn process_number(end: u64) -> u64 {
    fastrand::u64(1..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_chance_every_run_is_the_same() {
        let chance = Chance::none();
        let mut items = [3, 1, 2];
        chance.shuffle(&mut items);
        assert_eq!((items, chance.share(), chance.below(30)), ([3, 1, 2], 0.0, 0));
        assert_eq!(chance.numbered_id().unwrap(), "00000000-0000-4000-8000-000000000001");
        assert!(chance.clone().numbered_id().unwrap().ends_with('2'));
        assert_eq!(Chance::system().numbered_id(), None);
    }
}
