//! One connection that can be replaced: its generation, its failures, and the commands that are on
//! their way.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use redis::RedisError;
use tokio::time::Instant;

use super::link::Link;
use crate::sync::lock;

/// One connection that can be replaced, and what is known about it.
#[derive(Default)]
pub(super) struct ConnectionSlot {
    /// The connection and its generation.
    pub(super) live: Mutex<Option<(u64, Link)>>,
    /// The next generation. A late failure of an earlier one does not close the present one.
    pub(super) generation: AtomicU64,
    /// Held while one caller dials. Keeps the last failure.
    pub(super) dialing: tokio::sync::Mutex<Option<(Instant, RedisError)>>,
    /// Timeouts in a row.
    pub(super) failures: AtomicU32,
    /// Whether an answer has come since the last tick of the watch.
    pub(super) heard: AtomicBool,
    /// Requests that are sent and not answered.
    pub(super) in_flight: AtomicUsize,
}

impl ConnectionSlot {
    /// The connection, if there is one.
    pub(super) fn live(&self) -> Option<(u64, Link)> {
        lock(&self.live).clone()
    }

    /// Installs a new connection, with a new generation and no timeouts counted.
    pub(super) fn put(&self, link: Link) -> (u64, Link) {
        let live = (self.generation.fetch_add(1, Ordering::Relaxed), link);
        self.failures.store(0, Ordering::Relaxed);
        *lock(&self.live) = Some(live.clone());
        live
    }

    /// Gives the connection up, unless it has been replaced already. Commands that are on their
    /// way keep it open until they end. Whether this call was the one that did it: only that
    /// one logs.
    pub(super) fn give_up(&self, generation: u64) -> bool {
        lock(&self.live).take_if(|live| live.0 == generation).is_some()
    }
}

/// A command that was sent and not answered yet. If it is dropped on a blocking connection,
/// the connection is given up: the server would go on blocking for a caller that is gone.
pub(super) struct SentCommand<'a> {
    /// Whether the commands of this connection block.
    blocking: bool,
    slot: &'a ConnectionSlot,
    generation: u64,
    pub(super) answered: bool,
}

impl<'a> SentCommand<'a> {
    pub(super) fn new(blocking: bool, slot: &'a ConnectionSlot, generation: u64) -> Self {
        slot.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { blocking, slot, generation, answered: false }
    }
}

impl Drop for SentCommand<'_> {
    fn drop(&mut self) {
        self.slot.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.blocking && !self.answered {
            self.slot.give_up(self.generation);
        }
    }
}
