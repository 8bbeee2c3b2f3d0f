//! The folder of a store on disk: used by one process at a time, and readable by one user.
//!
//! The lock is that of the operating system on the file `holder`, so it ends with the process,
//! however the process ends. The id that is written into the file only serves the message of the
//! next process. A process that finds the folder locked waits for a while: during a deployment the
//! old process drains while the new one starts.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Error;

/// The file that the process locks, and into which it writes its id.
const HOLDER_FILE: &str = "holder";

/// Interval between two attempts to lock the folder.
const TRY_INTERVAL: Duration = Duration::from_millis(50);

/// A folder that this process has for itself, until this value is dropped.
pub(crate) struct Folder {
    path: PathBuf,
    /// The lock is released when the file is closed.
    _holder: File,
}

impl Folder {
    /// Creates the folder if it does not exist, and waits until no other process uses it.
    ///
    /// # Errors
    /// Another process still uses it after `patience`, or the folder cannot be used.
    pub(crate) async fn take(path: &Path, patience: Duration) -> Result<Self, Error> {
        let began = Instant::now();
        make(path).map_err(|error| unusable(path, &error))?;
        let mut holder = open(&path.join(HOLDER_FILE)).map_err(|error| unusable(path, &error))?;
        let mut is_told = false;
        loop {
            match holder.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(unusable(path, &error)),
                Err(TryLockError::WouldBlock) => {}
            }
            let by = holder_of(&mut holder);
            if began.elapsed() >= patience {
                return Err(Error::config(format!(
                    "{} is used by {by}: stop that process, or give this one another folder \
                     (jobqueue.path)",
                    path.display()
                )));
            }
            if !std::mem::replace(&mut is_told, true) {
                crate::log::info!("waiting until {by} no longer uses {}", path.display());
            }
            tokio::time::sleep(TRY_INTERVAL).await;
        }
        let mut name = || -> io::Result<()> {
            holder.set_len(0)?;
            holder.rewind()?;
            write!(holder, "{}", std::process::id())
        };
        name().map_err(|error| unusable(path, &error))?;
        Ok(Self { path: path.to_owned(), _holder: holder })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Names the process that has the folder, by the id that it wrote, for messages.
fn holder_of(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match read.ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::config(format!(
        "{}: expected a folder that this process may write (jobqueue.path), found: {error}",
        path.display()
    ))
}

/// Opens the file to lock, and creates it if need be. It keeps its content, the id of its process,
/// until the lock is ours.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates the folder for this user only. One that exists gets these permissions when its database
/// is opened ([`restrict_all`]). A new one is there for good: a loss of power does not take it
/// away with what is synced in it.
fn make(path: &Path) -> io::Result<()> {
    let parents = parents_of_new(path);
    fs::create_dir_all(path)?;
    if !parents.is_empty() {
        restrict(path, 0o700)?;
    }
    parents.iter().try_for_each(|parent| File::open(parent)?.sync_all())
}

/// The folders that get an entry when this folder is made, with those above it that are missing.
fn parents_of_new(path: &Path) -> Vec<PathBuf> {
    let is_new = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let parent = |path: &Path| match path.parent() {
        // A relative path begins in the current folder.
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    };
    path.ancestors().take_while(is_new).map(parent).collect()
}

/// Lets only this user read the folder and, at any depth, every file in it: they hold payloads.
pub(crate) fn restrict_all(path: &Path) -> io::Result<()> {
    restrict(path, 0o700)?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let done = match entry.file_type()?.is_dir() {
            true => restrict_all(&entry.path()),
            false => restrict(&entry.path(), 0o600),
        };
        match done {
            // `fjall` may remove a file between the listing and this call.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn restrict(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_that_gets_an_entry_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/shop/jobs");
        let parents = ["data/shop", "data", ""].map(|name| folder.path().join(name));
        assert_eq!(parents_of_new(&path), parents);
        make(&path).unwrap();
        assert!(parents_of_new(&path).is_empty());
        let relative = Path::new("no-such-folder/jobs");
        assert_eq!(parents_of_new(relative), ["no-such-folder", "."].map(PathBuf::from));
    }
}
