//! Whether the handlers of a job type are quick to start.

use std::sync::atomic::{AtomicU32, Ordering};

/// Number of jobs of a type that start alone after one of them blocked its thread. Large,
/// because a handler that blocked once usually blocks again; finite, so that one exception does
/// not slow the type down for ever.
const LONE_STARTS: u32 = 1000;

/// Whether the jobs of a type reach their first wait quickly. The launcher starts jobs of
/// slow types alone, so that they do not hold up others.
#[derive(Default)]
pub(crate) struct Pace(AtomicU32);

impl Pace {
    /// Whether the next job should start alone. Counts it, so that the type is tried together
    /// with others again after [`LONE_STARTS`] jobs.
    pub(crate) fn starts_alone(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        if left > 0 {
            self.0.store(left - 1, Ordering::Relaxed);
        }
        left > 0
    }

    /// One of them blocked its thread. The launcher reports it.
    pub(crate) fn was_slow(&self) {
        self.0.store(LONE_STARTS, Ordering::Relaxed);
    }
}
