//! The files of exports.
//!
//! A file has its name only once it is complete and synced, and an import looks for the closing
//! line before it stores anything. So neither an interrupted export nor an interrupted copy of the
//! file passes for a whole one.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::line::Line;
use super::lines::expect_begin;
use crate::error::Error;

/// Bytes at both ends of a file in which its first and its closing line are looked for.
const END_BYTES: u64 = 64 * 1024;

/// An error of reading or writing, with what was being done.
pub(super) fn failed(what: &str, error: &std::io::Error) -> Error {
    Error::refused(format!("{what}: {error}"))
}

/// A file that gets its name when it is complete. Until then it is `….part`.
pub(super) struct NewFile {
    file: File,
    part: PathBuf,
    path: PathBuf,
}

impl NewFile {
    /// Creates the file, for its owner only.
    ///
    /// # Errors
    /// There is one of this name, or it cannot be created.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        if path.exists() {
            return Err(Error::refused(format!(
                "export: expected a new file, found {}",
                path.display()
            )));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        // An interrupted export may have left one.
        let _ = std::fs::remove_file(&part);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let what = format!("creating {}", part.display());
        let file = options.open(&part).map_err(|error| failed(&what, &error))?;
        Ok(Self { file, part, path: path.to_owned() })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Syncs the file to the disk, then gives it its name.
    pub(super) fn finish(self) -> Result<(), Error> {
        let what = format!("writing {}", self.path.display());
        let done = self.file.sync_all().and_then(|()| std::fs::rename(&self.part, &self.path));
        done.map_err(|error| failed(&what, &error))
    }
}

/// Opens an export that has its first and its closing line.
///
/// # Errors
/// [`Error::is_invalid`] if one of them is missing.
pub(super) fn open_whole(path: &Path) -> Result<File, Error> {
    let what = format!("reading {}", path.display());
    let mut file = File::open(path).map_err(|error| failed(&what, &error))?;
    let ends = read_ends(&mut file).map_err(|error| failed(&what, &error))?;
    let Some((first, last)) = ends else { return Ok(file) };
    expect_begin(&first)
        .map_err(|error| error.reworded(|words| format!("{}: {words}", path.display())))?;
    if Line::is_end(&last) {
        return Ok(file);
    }
    Err(Error::invalid(format!(
        "{}: expected the closing line of an export at its end, found none: the file is cut",
        path.display()
    )))
}

/// The first line of a file, and the last one if a line end follows; each as far as it is short.
/// `None` for a device: reading it will tell.
fn read_ends(file: &mut File) -> std::io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let length = file.seek(SeekFrom::End(0))?;
    if length == 0 && !file.metadata()?.is_file() {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(length.saturating_sub(END_BYTES)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    file.seek(SeekFrom::Start(0))?;
    let mut first = Vec::new();
    BufReader::new(Read::take(&mut *file, END_BYTES)).read_until(b'\n', &mut first)?;
    file.seek(SeekFrom::Start(0))?;
    let whole = tail.strip_suffix(b"\n").unwrap_or_default();
    let last = whole.split(|byte| *byte == b'\n').next_back().unwrap_or_default();
    Ok(Some((first, last.to_vec())))
}
