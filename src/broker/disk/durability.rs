//! How safe a change is: what a caller waits for, and what rows are written to.

use std::time::Duration;

use super::Rows;

/// When a change counts as stored: `jobqueue.durability`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Once it is synced to the disk, before the answer. Survives the loss of power.
    #[default]
    Always,
    /// Once the operating system has it; it is synced each second. Survives the end of the
    /// process, however it comes. A loss of power may cost the last second.
    EverySecond,
}

impl Durability {
    pub(super) fn slow_batch(self) -> Duration {
        match self {
            Durability::Always => SLOW_SYNC,
            Durability::EverySecond => SLOW_WRITE,
        }
    }

    pub(super) fn max_led_batches(self) -> usize {
        match self {
            Durability::Always => MAX_SYNCED_BATCHES,
            Durability::EverySecond => MAX_LED_BATCHES,
        }
    }
}

/// What rows are written to.
pub(crate) trait Storage: Send {
    /// Writes the rows, all or none of them.
    fn write(&mut self, rows: &Rows) -> Result<(), StorageError>;

    /// Makes everything written survive the loss of power.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Looks after the storage, about once a second; the reason if it has too little room
    /// for new jobs.
    fn tend(&mut self) -> Option<String>;
}

/// Why rows were not written.
#[derive(Debug)]
pub(crate) enum StorageError {
    /// There is no room. The same rows may be written later.
    #[cfg_attr(
        not(any(feature = "disk", test)),
        expect(dead_code, reason = "only a disk has no room")
    )]
    Full(String),
    /// Anything else: what the disk holds is unknown.
    Failed(String),
}

/// How safe a change has to be before its caller goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The operating system has it: it survives the end of this process.
    Written,
    /// As safe as [`Durability`] says.
    Durable,
    /// The same for new jobs, which do not wait for room.
    NewJobs,
}

/// A batch that takes longer is written by the thread from then on. Beside this, handing over
/// costs little.
const SLOW_WRITE: Duration = Duration::from_millis(2);

/// The same with a sync.
const SLOW_SYNC: Duration = Duration::from_micros(500);

/// Batches that one caller writes before the thread goes on.
const MAX_LED_BATCHES: usize = 8;

/// The same if each of them is synced: a caller syncs for itself.
const MAX_SYNCED_BATCHES: usize = 1;
