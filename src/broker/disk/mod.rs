//! The store on disk: the store in memory, plus a journal of its changes in a folder.
//!
//! There are no rules here. [`memory`](super::memory) decides what a call does, and turns what
//! changed into rows. This folder writes the rows in order, says when they are safe, and reads them
//! back when the store is opened again:
//!
//! * `rows` is the format: a key and a protobuf value, collected in one buffer.
//! * `journal` batches the rows of concurrent callers and decides who writes them.
//! * `database` stores a batch with `fjall`; `journal_file` checks `fjall`'s own files first;
//!   `folder` keeps other processes out.
//! * `row_map` takes the place of the disk in tests.
//!
//! Only with the feature `disk` is there a real folder. The rest is always compiled, so that the
//! tests of the rows run without it.
//!
//! What may surprise. All jobs are in memory as well, payloads included, so the number of jobs is
//! bounded by the memory of the process; the disk is read only at launch. A worker may get a job
//! whose enqueue is not synced yet. Its rows come first in the journal, so no later change of the
//! job is on disk without it; but after a loss of power, a job may have run although its enqueue
//! was never confirmed. A delivery waits until the operating system has its rows, not until they
//! are synced: that is enough to find out, after a job has killed its process, that it was running.

#[cfg(feature = "disk")]
mod database;
mod durability;
#[cfg(feature = "disk")]
mod folder;
#[cfg(feature = "disk")]
mod hush;
mod journal;
#[cfg(feature = "disk")]
mod journal_file;
mod row_map;
mod rows;

#[cfg(feature = "disk")]
pub(crate) use database::Rowbase;
pub use durability::Durability;
pub(crate) use durability::Level;
use durability::Storage;
pub(crate) use journal::Journal;
pub use row_map::RowMap;
pub(crate) use rows::{Key, Kind, Rows};

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ArchiveSettings;
use super::memory::MemoryBroker;
use crate::error::Error;
use crate::time::Clock;
#[cfg(feature = "disk")]
use folder::Folder;

/// A [`Storage`] whose rows can be read back: what a store is opened from.
pub(crate) trait Source: Storage + 'static {
    /// Passes key and value of every row to `each`, until `each` returns false because it does not
    /// know the row.
    ///
    /// # Errors
    /// The rows cannot be read, or `each` does not know one.
    fn read(&self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Error>;

    /// The error for a row that this version cannot read. It names the store.
    fn unknown_row(&self) -> Error;

    /// The store in one line, for logs and health checks: `on disk in /var/lib/jobs`.
    fn describe(&self) -> String;
}

/// Opens a store whose rows are in memory, for tests that restart it. `opened` counts the times
/// that these rows were opened, this one included; owner numbers of leases begin above those of
/// earlier times.
///
/// # Errors
/// A row cannot be read.
pub fn open_rows(
    rows: RowMap,
    opened: u64,
    clock: Clock,
    archive: ArchiveSettings,
) -> Result<MemoryBroker, Error> {
    MemoryBroker::restore(rows, opened, Durability::EverySecond, clock, archive)
}

/// Where and how jobs are kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSettings {
    /// The folder (`jobqueue.path`). It is created if it does not exist, and belongs to one process
    /// at a time.
    pub path: PathBuf,
    /// When a change counts as stored.
    pub durability: Durability,
    /// How long to wait for another process that still uses the folder. During a deployment the old
    /// process drains while the new one starts, so this is a little longer than the shutdown
    /// timeout.
    pub patience: Duration,
}

/// Whether a folder has a store. Without the feature `disk` opening it says why it cannot.
pub fn exists(path: &Path) -> bool {
    #[cfg(feature = "disk")]
    return database::exists(path);
    #[cfg(not(feature = "disk"))]
    {
        let _ = path;
        true
    }
}

/// Opens the store in a folder. It reads all rows, so the time grows with the number of stored
/// jobs.
///
/// # Errors
/// Another process uses the folder, or the files in it are damaged, of another version, or
/// cannot be written. The message names the folder and the way out. Without the feature
/// `disk` there is no such store.
pub async fn open(
    settings: &DiskSettings,
    clock: Clock,
    archive: ArchiveSettings,
) -> Result<MemoryBroker, Error> {
    #[cfg(feature = "disk")]
    {
        let folder = Folder::take(&settings.path, settings.patience).await?;
        let durability = settings.durability;
        let open = move || {
            let (base, opened) = Rowbase::open(folder, durability)?;
            MemoryBroker::restore(base, opened, durability, clock, archive)
        };
        // Reading every row blocks the thread.
        let opened = tokio::task::spawn_blocking(open).await;
        opened.unwrap_or_else(|_| Err(Error::config("the store on disk could not be opened")))
    }
    #[cfg(not(feature = "disk"))]
    {
        let _ = (clock, archive);
        Err(Error::config(format!(
            "jobqueue.store: expected a build with the feature `disk` for the folder {}, found one \
             without: add features = [\"disk\"] to rocket_jobqueue in Cargo.toml",
            settings.path.display()
        )))
    }
}
