//! The folder of a store on disk: one process at a time, and nobody else may read it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Error;

/// The file whose lock its process holds, and in which it writes its id.
const HOLDER_FILE: &str = "holder";

/// Interval between two tries to get the folder.
const TRY_INTERVAL: Duration = Duration::from_millis(50);

/// A folder that only this process uses, until this is dropped.
pub(crate) struct Folder {
    path: PathBuf,
    /// Locked as long as it is open.
    _holder: File,
}

impl Folder {
    /// Makes the folder if need be, and waits until no other process uses it.
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

/// The process that has the folder, as it wrote.
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

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes the folder, for this user only.
fn make(path: &Path) -> io::Result<()> {
    let is_new = !path.exists();
    fs::create_dir_all(path)?;
    if is_new {
        restrict(path, 0o700)?;
    }
    Ok(())
}

/// Lets only this user read the folder and every file in it.
pub(crate) fn restrict_all(path: &Path) -> io::Result<()> {
    restrict(path, 0o700)?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let done = match entry.file_type()?.is_dir() {
            true => restrict_all(&entry.path()),
            false => restrict(&entry.path(), 0o600),
        };
        match done {
            // The library removes files by itself.
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
