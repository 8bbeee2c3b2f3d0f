//! The rows in a database of `fjall`: a journal with checksums and atomic batches.
//!
//! Its folder is `rows` in the store's. It is made under another name first, so that a process
//! that dies meanwhile leaves nothing half made. Rows are read only when the store is opened.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use prost::Message;

use super::folder::{Folder, restrict_all};
use super::hush::Hush;
use super::journal::{Storage, StorageError};
use super::{Key, Kind, Rows, Source, journal_file};
use crate::error::Error;

/// The version of the rows that this crate writes. It changes if an older crate could not
/// read them.
const FORMAT: u64 = 1;

/// The folder of the rows, in the store's.
const ROWS_FOLDER: &str = "rows";

/// Its name while it is made.
const NEW_ROWS_FOLDER: &str = "rows.new";

/// The file by which fjall knows a folder of its own.
const MARKER_FILE: &str = "version";

/// The rows with the format and with the number of times that the store was opened.
const FORMAT_ROW: &[u8] = b"format";
const OPENED_ROW: &[u8] = b"opened";

/// What is wrong with a row that no version of this crate wrote.
const UNKNOWN_ROW: &str = "a row that is none of ours";

/// The name of the only keyspace.
const KEYSPACE: &str = "rows";

/// Rows in memory before they are sorted into a table.
const MEMTABLE_BYTES: u64 = 16 << 20;

/// All journals together; the least that fjall takes.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Rows are read once, in order, so that nothing is read twice.
const CACHE_BYTES: u64 = 1 << 20;

/// Below this much free space no new job is accepted: the rest is left to jobs that run, and
/// to fjall, which needs room to give room back. On small disks it is a part of the whole.
const RESERVE_BYTES: u64 = 64 << 20;

/// The part of a small disk.
const RESERVE_DIVISOR: u64 = 10;

/// A number in a row.
#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(uint64, tag = "1")]
    number: u64,
}

/// The open database of a folder.
pub(crate) struct Rowbase {
    /// `None` after the disk was full, until it is opened again.
    open: Option<Open>,
    /// Given back last: another process may then open the database.
    folder: Folder,
    /// Files whose permissions are set.
    restricted_files: usize,
}

struct Open {
    database: Database,
    rows: Keyspace,
}

impl Rowbase {
    /// Opens the database, and makes it first if there is none. Returns how often the store
    /// was opened, this time included.
    ///
    /// # Errors
    /// The files are damaged, of another version, or cannot be read or written.
    pub(crate) fn open(folder: Folder) -> Result<(Self, u64), Error> {
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
        journal_file::check_all(&rows).map_err(is_here)?;
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

    /// Opens the database again after the disk was full.
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

    /// Closes the database if the error says that the disk is full.
    fn judged(&mut self, error: fjall::Error) -> StorageError {
        let path = self.folder.path().to_owned();
        let is_full = match &error {
            fjall::Error::Io(error) => is_full(error),
            // A thread of fjall has met the error: whether there is room says which.
            fjall::Error::Poisoned => room(&path).is_some_and(|room| room.is_short()),
            _ => false,
        };
        if is_full {
            self.open = None;
            return full(&path, &error.to_string());
        }
        StorageError::Failed(format!("{}: {error}", path.display()))
    }

    /// Sets the permissions of new files. The folder keeps others out anyway.
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
            // What was written before the disk was full is to be safe all the same.
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
    /// Opens the database; an error says what is wrong.
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

    fn number(&self, name: &[u8]) -> Result<Option<u64>, String> {
        let key = Key::store(Kind::Store, name).to_vec();
        unless_it_panics(|| {
            let row = self.rows.get(&key).map_err(|error| error.to_string())?;
            let number = |row: fjall::UserValue| Number::decode(&*row).map(|row| row.number);
            row.map(number).transpose().map_err(|error| error.to_string())
        })
    }

    /// Writes the rows as one batch, which survives the end of the process.
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

    fn sync(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::SyncData)
    }
}

/// Makes the database of a store without jobs.
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

/// The answer of a function, or the text of its panic: fjall panics about some damages.
fn unless_it_panics<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "a panic".to_owned()))
    })
}

fn damaged(path: &Path, error: &str) -> Error {
    Error::config(format!(
        "{}: the jobs on disk cannot be read: {error}. Restore the folder from a backup, or move \
         it away to begin without jobs",
        path.display()
    ))
}

fn cannot(path: &Path, error: &fjall::Error) -> Error {
    Error::config(format!("{}: jobs cannot be stored there: {error}", path.display()))
}

fn full(path: &Path, error: &str) -> StorageError {
    StorageError::Full(format!("the disk of {} is full: {error}", path.display()))
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// The space of a disk in bytes.
#[derive(Clone, Copy)]
struct Room {
    left: u64,
    total: u64,
}

impl Room {
    fn reserve(&self) -> u64 {
        RESERVE_BYTES.min(self.total / RESERVE_DIVISOR)
    }

    fn is_short(&self) -> bool {
        self.left < self.reserve()
    }
}

/// The space of the disk with this folder, if the system says.
#[cfg(target_os = "linux")]
fn room(path: &Path) -> Option<Room> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Room { left: bytes(found.f_bavail), total: bytes(found.f_blocks) })
}

#[cfg(not(target_os = "linux"))]
fn room(_: &Path) -> Option<Room> {
    None
}
