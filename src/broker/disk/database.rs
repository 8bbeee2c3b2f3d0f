//! Stores the rows with `fjall`, an embedded database: a journal with checksums and atomic batches.
//!
//! Its folder is `rows` inside the store's folder. It is built as `rows.new` and renamed when
//! complete, so that a process that dies meanwhile leaves no half-built database. One batch of
//! [`Rows`] is one atomic batch of `fjall`: after a crash either all of them are there or none.
//!
//! `fjall` is used for one thing only, to append and to read everything back. Rows are read when
//! the store is opened and never again, so its caches are as small as it allows.
//!
//! What may surprise:
//!
//! * A write reaches the operating system, not the disk ([`PersistMode::Buffer`]).
//!   [`Storage::sync`] makes it durable, and the journal above decides when.
//! * An error may leave the open database unusable (`Poisoned`). A full disk is no reason to stop
//!   the process, so the database is closed then, and the next write opens it again. A batch that
//!   failed is written again as a whole, which puts the same rows.
//! * `fjall` panics about some kinds of damage. [`unless_it_panics`] turns that into an error that
//!   names the folder.
//! * On Linux some free space is kept in reserve: new jobs are refused before the disk is full, so
//!   that jobs that are stored already can still be settled.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use prost::Message;

use super::durability::{Storage, StorageError};
use super::folder::{Folder, restrict_all};
use super::hush::Hush;
use super::{Durability, Key, Kind, Rows, Source, journal_file};
use crate::error::Error;

/// The version of the rows that this crate writes. Raise it if known rows change their meaning: an
/// older crate refuses a new kind of row by itself.
const FORMAT: u64 = 1;

/// The folder of the database, inside the folder of the store.
const ROWS_FOLDER: &str = "rows";

/// Its name until it is complete.
const NEW_ROWS_FOLDER: &str = "rows.new";

/// The file by which `fjall` recognises a database. Without it `fjall` would create a new one.
const MARKER_FILE: &str = "version";

/// The row with the format, and the one that counts how often the store was opened.
const FORMAT_ROW: &[u8] = b"format";
const OPENED_ROW: &[u8] = b"opened";

/// The problem, if a row was not written by any version of this crate.
const UNKNOWN_ROW: &str = "a row that this version does not know: a newer version of \
     rocket_jobqueue wrote it (open it with that one), or it is damaged";

/// The name of the only keyspace.
const KEYSPACE: &str = "rows";

/// Bytes of rows that `fjall` keeps in memory before it sorts them into a table.
const MEMTABLE_BYTES: u64 = 16 << 20;

/// Maximum bytes of all journals together: the least that `fjall` accepts.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Bytes of the cache. Rows are read once, in order, so a larger one would not help.
const CACHE_BYTES: u64 = 1 << 20;

/// With less free space than this, no new job is accepted. The rest is left to the settlements of
/// jobs that run, and to `fjall`, which needs space in order to free space.
const RESERVE_BYTES: u64 = 64 << 20;

/// On a small disk the reserve is a tenth of it, if that is less.
const RESERVE_DIVISOR: u64 = 10;

/// The value of the two rows about the store itself.
#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(uint64, tag = "1")]
    number: u64,
}

/// The open database of a folder.
pub(crate) struct Rowbase {
    /// `None` after the disk was full; the next write opens it again.
    open: Option<Open>,
    /// Dropped after `open`, because another process may open the database from then on.
    folder: Folder,
    /// How many files had their permissions set. Another number means that there are new files.
    restricted_files: usize,
}

/// The database and its only keyspace.
struct Open {
    database: Database,
    rows: Keyspace,
}

impl Rowbase {
    /// Opens the database, and creates it if there is none. Also returns how often the store was
    /// opened, this time included: it numbers the owners of leases, so that no process repeats the
    /// number of an earlier one.
    ///
    /// # Errors
    /// The files are damaged, of another version, or cannot be read or written.
    pub(crate) fn open(folder: Folder, durability: Durability) -> Result<(Self, u64), Error> {
        let path = folder.path().to_owned();
        let is_here = |error: String| damaged(&path, &error);
        let rows = path.join(ROWS_FOLDER);
        if !rows.exists() {
            make(&path).map_err(|error| cannot(&path, &error))?;
        }
        // fjall would make a new database among files that it does not know, or over its own.
        if !rows.join(MARKER_FILE).is_file() {
            return Err(is_here(format!("{ROWS_FOLDER}/{MARKER_FILE} is missing")));
        }
        journal_file::check_all(&rows, durability).map_err(is_here)?;
        let open = Open::at(&rows).map_err(is_here)?;
        let number = |name| open.number(name);
        match number(FORMAT_ROW).map_err(is_here)? {
            Some(FORMAT) => {}
            found => {
                let found = found.map_or_else(|| "none".to_owned(), |version| version.to_string());
                return Err(Error::config(format!(
                    "{}: expected format {FORMAT} of jobs on disk, found {found}: open it with \
                     the version of rocket_jobqueue that wrote it, or name another folder \
                     (jobqueue.path)",
                    path.display()
                )));
            }
        }
        let opened = number(OPENED_ROW).map_err(is_here)?.unwrap_or(0).saturating_add(1);
        let mut rows = Rows::default();
        rows.put(Key::store(Kind::Store, OPENED_ROW), &Number { number: opened });
        open.write(&rows).and_then(|()| open.sync()).map_err(|error| cannot(&path, &error))?;
        let mut base = Self { folder, open: Some(open), restricted_files: 0 };
        base.restrict_files();
        Ok((base, opened))
    }

    /// The open database. It is opened again if it was closed because the disk was full.
    fn reopened(&mut self) -> Result<&Open, StorageError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let open = Open::at(&self.folder.path().join(ROWS_FOLDER));
                open.map_err(|error| full(self.folder.path(), &error))?
            }
        };
        Ok(self.open.insert(open))
    }

    /// Classifies an error of a write, and closes the database if the disk is full.
    fn judged(&mut self, error: fjall::Error) -> StorageError {
        let path = self.folder.path().to_owned();
        let is_full = match &error {
            fjall::Error::Io(error) => is_full(error),
            // The error happened on a thread of `fjall`, which keeps it to itself. Too little free
            // space says that the disk was full.
            fjall::Error::Poisoned => room(&path).is_some_and(|room| room.is_short()),
            _ => false,
        };
        if is_full {
            self.open = None;
            return full(&path, &error.to_string());
        }
        StorageError::Failed(format!("{}: {error}", path.display()))
    }

    /// Sets the permissions of new files. This is a second line of defence: the folder itself
    /// already keeps other users out.
    fn restrict_files(&mut self) {
        let Some(open) = &self.open else { return };
        let files = open.database.journal_count() + open.rows.table_count();
        if files != self.restricted_files && restrict_all(self.folder.path()).is_ok() {
            self.restricted_files = files;
        }
    }
}

impl Storage for Rowbase {
    fn write(&mut self, rows: &Rows) -> Result<(), StorageError> {
        let open = self.reopened()?;
        let written = unless_it_panics(|| Ok(open.write(rows)));
        match written {
            Ok(written) => written.map_err(|error| self.judged(error)),
            Err(panic) => Err(StorageError::Failed(panic)),
        }
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let path = self.folder.path();
        let Some(open) = &self.open else {
            // The database is closed, but what it wrote before the disk was full must become
            // durable all the same.
            return journal_file::sync_all(&path.join(ROWS_FOLDER))
                .map_err(|error| StorageError::Failed(format!("{}: {error}", path.display())));
        };
        let synced = unless_it_panics(|| open.sync().map_err(|error| error.to_string()));
        synced.map_err(|error| StorageError::Failed(format!("{}: {error}", path.display())))
    }

    fn tend(&mut self) -> Option<String> {
        self.restrict_files();
        let path = self.folder.path();
        let room = room(path).filter(Room::is_short)?;
        Some(format!(
            "the disk of {} has {} MiB left of {} MiB, and keeps {} MiB for jobs that run",
            path.display(),
            room.left >> 20,
            room.total >> 20,
            room.reserve() >> 20,
        ))
    }
}

impl Source for Rowbase {
    fn read(&self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Error> {
        let Some(open) = &self.open else { return Ok(()) };
        let read = || {
            for row in open.rows.iter() {
                let (key, value) = row.into_inner().map_err(|error| error.to_string())?;
                if !each(&key, &value) {
                    return Err(UNKNOWN_ROW.to_owned());
                }
            }
            Ok(())
        };
        unless_it_panics(read).map_err(|error| damaged(self.folder.path(), &error))
    }

    fn unknown_row(&self) -> Error {
        damaged(self.folder.path(), UNKNOWN_ROW)
    }

    fn describe(&self) -> String {
        format!("on disk in {}", self.folder.path().display())
    }
}

impl Open {
    /// Opens or creates the database in this folder. The error is text, without the folder.
    fn at(path: &Path) -> Result<Self, String> {
        unless_it_panics(|| {
            let open = || -> fjall::Result<Self> {
                let _quiet = Hush::begin();
                let database = Database::builder(path)
                    .cache_size(CACHE_BYTES)
                    .max_journaling_size(JOURNAL_BYTES)
                    .worker_threads(1)
                    .manual_journal_persist(true)
                    .open()?;
                let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
                let rows = database.keyspace(KEYSPACE, options)?;
                Ok(Self { database, rows })
            };
            open().map_err(|error| error.to_string())
        })
    }

    /// Reads one of the rows about the store itself; `None` if there is no such row.
    fn number(&self, name: &[u8]) -> Result<Option<u64>, String> {
        let key = Key::store(Kind::Store, name).to_vec();
        unless_it_panics(|| {
            let row = self.rows.get(&key).map_err(|error| error.to_string())?;
            let number = |row: fjall::UserValue| Number::decode(&*row).map(|row| row.number);
            row.map(number).transpose().map_err(|error| error.to_string())
        })
    }

    /// Writes the rows as one atomic batch. It survives the end of the process, but not a loss of
    /// power.
    fn write(&self, rows: &Rows) -> fjall::Result<()> {
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), rows.len());
        for (key, value) in rows.iter() {
            match value {
                Some(value) => batch.insert(&self.rows, key, value),
                None => batch.remove(&self.rows, key),
            }
        }
        batch.durability(Some(PersistMode::Buffer)).commit()
    }

    /// Makes all batches so far survive a loss of power.
    fn sync(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::SyncData)
    }
}

/// Whether there is a database in the folder of a store, whole or not.
pub(super) fn exists(path: &Path) -> bool {
    path.join(ROWS_FOLDER).exists()
}

/// Creates the database of a store without jobs: complete and synced before it gets its name.
fn make(path: &Path) -> Result<(), fjall::Error> {
    let new = path.join(NEW_ROWS_FOLDER);
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let open = Open::at(&new).map_err(io::Error::other)?;
    let mut rows = Rows::default();
    rows.put(Key::store(Kind::Store, FORMAT_ROW), &Number { number: FORMAT });
    open.write(&rows)?;
    open.database.persist(PersistMode::SyncAll)?;
    drop(open);
    fs::rename(&new, path.join(ROWS_FOLDER))?;
    File::open(path)?.sync_all()?;
    Ok(())
}

/// Runs a function, and turns a panic into an error with its text: `fjall` panics about some kinds
/// of damage.
fn unless_it_panics<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "a panic".to_owned()))
    })
}

/// The error for files that cannot be read, with the two ways out.
fn damaged(path: &Path, error: &str) -> Error {
    Error::config(format!(
        "{}: the jobs on disk cannot be read: {error}. Restore the folder from a backup, or move \
         it away to begin without jobs",
        path.display()
    ))
}

/// The error for a folder that cannot be written when the store is opened.
fn cannot(path: &Path, error: &fjall::Error) -> Error {
    Error::config(format!("{}: jobs cannot be stored there: {error}", path.display()))
}

fn full(path: &Path, error: &str) -> StorageError {
    StorageError::Full(format!("the disk of {} is full: {error}", path.display()))
}

/// Whether the space is used up: of the disk, of a quota, or of the largest file that is allowed.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// The space of a file system in bytes: what this process may still use, and all of it.
#[derive(Clone, Copy)]
struct Room {
    left: u64,
    total: u64,
}

impl Room {
    /// The part of it that is kept for jobs that are stored already.
    fn reserve(&self) -> u64 {
        RESERVE_BYTES.min(self.total / RESERVE_DIVISOR)
    }

    fn is_short(&self) -> bool {
        self.left < self.reserve()
    }
}

/// The space of the file system that has this folder; `None` if the system does not say.
#[cfg(target_os = "linux")]
fn room(path: &Path) -> Option<Room> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Room { left: bytes(found.f_bavail), total: bytes(found.f_blocks) })
}

/// Elsewhere the space is not known, and only a write that fails shows that the disk is full.
#[cfg(not(target_os = "linux"))]
fn room(_: &Path) -> Option<Room> {
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::super::hush;
    use super::*;
    use crate::sync::lock;

    #[test]
    fn what_was_written_is_synced_while_the_disk_is_full() {
        let _alone = lock(&hush::LEVEL);
        let folder = tempfile::tempdir().unwrap();
        let taken = Folder::take(folder.path(), Duration::ZERO);
        let taken = taken.now_or_never().expect("nobody has it").unwrap();
        let (mut base, _) = Rowbase::open(taken, Durability::Always).unwrap();
        let mut rows = Rows::default();
        rows.put(Key::store(Kind::Store, b"seven"), &Number { number: 7 });
        base.write(&rows).unwrap();

        // As after a write for which there was no room.
        base.open = None;
        base.sync().unwrap();

        assert_eq!(base.reopened().unwrap().number(b"seven").unwrap(), Some(7));
        base.open = None;
        fs::remove_dir_all(folder.path().join(ROWS_FOLDER)).unwrap();
        assert!(matches!(base.sync(), Err(StorageError::Failed(_))), "the files are looked for");
    }
}
