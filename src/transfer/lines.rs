//! Reading the lines of an export: the first one, entries, and the closing one with counts.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use serde::Deserialize;

use super::TransferReport;
use super::file::failed;
use super::line::{FORMAT, Line};
use crate::broker::Entry;
use crate::error::Error;

/// Maximum bytes of a line, so that a file without line ends is not read into memory. Redis keeps
/// a value of at most 512 MiB; a job of this size is no work for a queue.
pub(super) const MAX_LINE_BYTES: usize = 256 << 20;

/// How the first line begins.
const BEGIN: &[u8] = br#"{"kind":"begin","format":"#;

/// Reads the lines of an export.
pub(super) struct Lines<'a> {
    from: &'a mut (dyn BufRead + Send),
    /// Maximum bytes of a line.
    most: usize,
    /// The number of the last line that was read.
    number: u64,
    /// The counts of the closing line.
    counts: BTreeMap<String, u64>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(from: &'a mut (dyn BufRead + Send)) -> Self {
        Self { from, most: MAX_LINE_BYTES, number: 0, counts: BTreeMap::new() }
    }

    /// Reads the first line.
    ///
    /// # Errors
    /// It is not that of an export in this format.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        expect_begin(&self.text()?)
    }

    /// The next entry, with the number and the length of its line; `None` at the closing line.
    ///
    /// # Errors
    /// A line is not an entry, or the closing line is missing.
    pub(super) fn next(&mut self) -> Result<Option<(u64, usize, Entry)>, Error> {
        let text = self.text()?;
        if text.is_empty() {
            return Err(self.invalid("the closing line with counts", "the end: the file is cut"));
        }
        let line: Line = match serde_json::from_slice(&text) {
            Ok(line) => line,
            Err(_) if !text.ends_with(b"\n") => {
                return Err(self.invalid("a whole line", "a part of one: the file is cut"));
            }
            // The message of serde_json may quote a value of a field, which may be secret.
            Err(error) => {
                let found = format!("something else at its {}th character", error.column());
                return Err(self.invalid("an entry of an export", &found));
            }
        };
        if let Line::End { counts } = line {
            self.counts = counts;
            if self.text()?.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Err(self.invalid("nothing after the closing line", "more"));
            }
            return Ok(None);
        }
        match line.into_entry() {
            Ok(entry) => Ok(Some((self.number, text.len(), entry))),
            Err(found) => Err(self.invalid("an entry of an export", found)),
        }
    }

    /// Compares the counts of the closing line with what was read.
    ///
    /// # Errors
    /// They differ: lines are missing, or were added.
    pub(super) fn expect_counts(&self, report: &TransferReport) -> Result<(), Error> {
        let found: BTreeMap<String, u64> =
            report.entries.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        if found == self.counts {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "line {}: expected {:?} as the closing line counts, found {found:?}",
            self.number, self.counts
        )))
    }

    /// The next line; empty at the end.
    fn text(&mut self) -> Result<Vec<u8>, Error> {
        self.number += 1;
        let mut text = Vec::new();
        // The line end is not counted.
        let mut bounded = Read::take(&mut *self.from, self.most as u64 + 1);
        let read = bounded.read_until(b'\n', &mut text);
        read.map_err(|error| failed("reading the export", &error))?;
        if text.len() > self.most && !text.ends_with(b"\n") {
            return Err(self.invalid(&format!("at most {} bytes", self.most), "more"));
        }
        Ok(text)
    }

    fn invalid(&self, expected: &str, found: &str) -> Error {
        Error::invalid(format!("line {}: expected {expected}, found {found}", self.number))
    }
}

/// Looks whether this is the first line of an export.
///
/// # Errors
/// It is none in this format: what it is instead.
pub(super) fn expect_begin(text: &[u8]) -> Result<(), Error> {
    // Other versions may have other fields.
    #[derive(Deserialize)]
    struct First {
        kind: String,
        format: u32,
    }
    let common = text.len().min(BEGIN.len());
    let is_part = !text.ends_with(b"\n") && text[..common] == BEGIN[..common];
    let found = match serde_json::from_slice::<First>(text) {
        Ok(first) if first.kind == "begin" && first.format == FORMAT => return Ok(()),
        Ok(first) if first.kind == "begin" => format!("format {}", first.format),
        _ if text.is_empty() => "nothing".to_owned(),
        _ if is_part => "a part of it: the file is cut".to_owned(),
        _ if serde_json::from_slice::<Line>(text).is_ok() => {
            "another line of an export: the beginning of the file is missing".to_owned()
        }
        _ => "something else: this is no export of a job queue".to_owned(),
    };
    Err(Error::invalid(format!(
        "line 1: expected the first line of an export in format {FORMAT}, found {found}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &'static str, most: usize) -> String {
        let mut from = text.as_bytes();
        let mut lines = Lines { most, ..Lines::new(&mut from) };
        let mut read = || -> Result<u32, Error> {
            let mut entries = 0;
            while lines.next()?.is_some() {
                entries += 1;
            }
            Ok(entries)
        };
        read().map_or_else(|error| error.to_string(), |entries| entries.to_string())
    }

    #[test]
    fn a_line_has_a_limit_which_the_error_names() {
        let text = "{\"kind\":\"key_queue\",\"key\":\"k\",\"queue\":\"q\",\"until\":\"2026-11-30T12:00:00Z\"}\n\
                    {\"kind\":\"end\",\"counts\":{}}\n";
        let longest = text.find('\n').unwrap();
        assert_eq!(lines(text, longest), "1");
        assert_eq!(
            lines(text, longest - 1),
            format!("line 1: expected at most {} bytes, found more", longest - 1)
        );
    }

    #[test]
    fn what_is_no_export_is_told_from_one_that_was_cut() {
        for (text, found) in [
            ("", "found nothing"),
            ("{\"ki", "the file is cut"),
            ("{\"kind\":\"begin\",\"format\":1,\"expo", "the file is cut"),
            ("{\"kind\":\"begin\",\"format\":2,\"more\":3}\n", "found format 2"),
            ("{\"kind\":\"end\",\"counts\":{}}\n", "the beginning of the file is missing"),
            ("{\"name\":\"shop\"}\n", "no export of a job queue"),
            ("id,type\n", "no export of a job queue"),
            ("PK\u{3}\u{4}", "no export of a job queue"),
        ] {
            let error = expect_begin(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line 1: expected the first line of an export in format 1"));
            assert!(error.contains(found), "{text:?}: {error}");
        }
    }
}
