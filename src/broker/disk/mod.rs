//! The store in a folder: the store in memory, and a journal of its changes.
//!
//! There are no rules here. [`memory`](super::memory) decides, and turns what changed into
//! rows; this folder writes rows in order, says when they are safe, and reads them when the
//! store is opened again. All jobs are in memory as well, payloads included: the number of
//! jobs is bounded by the memory of the process.
//!
//! What may surprise. A worker may get a job whose enqueue is not synced yet: its rows come
//! first, so whatever the job changes is never on disk without it. After a loss of power, a
//! job may have run that nobody was promised. A delivery waits until the operating system has
//! it, not until it is synced: a job that kills its process is found to have been running.

#[cfg(feature = "disk")]
mod database;
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
pub use journal::Durability;
use journal::Storage;
pub(crate) use journal::{Journal, Level};
pub use row_map::RowMap;
pub(crate) use rows::{Key, Kind, Rows};

use std::path::PathBuf;
use std::time::Duration;

use super::ArchiveSettings;
use super::memory::MemoryBroker;
use crate::error::Error;
use crate::time::Clock;
#[cfg(feature = "disk")]
use folder::Folder;

/// What a store is made of when it is opened.
pub(crate) trait Source: Storage + 'static {
    /// All rows, to the end or until `each` returns false.
    ///
    /// # Errors
    /// The rows cannot be read, or `each` does not know one.
    fn read(&self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Error>;

    /// The error about a row that this version does not know.
    fn unknown_row(&self) -> Error;

    /// The store in one line.
    fn describe(&self) -> String;
}

/// Opens the store in these rows for the nth time.
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
    /// The folder. It is made if need be, and belongs to one process at a time.
    pub path: PathBuf,
    /// When a change counts as stored.
    pub durability: Durability,
    /// How long to wait for a process that still uses the folder.
    pub patience: Duration,
}

/// Opens the store in a folder.
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
            let (base, opened) = Rowbase::open(folder)?;
            MemoryBroker::restore(base, opened, durability, clock, archive)
        };
        // It reads everything.
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
