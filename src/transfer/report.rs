//! Counts what a move did, and describes the first problems.
//!
//! Every entry is counted twice: by kind when it is read, and by its result when it is stored. An
//! export stores nothing, so it has only the former.

use std::collections::BTreeMap;
use std::fmt;

use super::line::Line;
use super::lines::MAX_LINE_BYTES;
use crate::broker::Entry;

/// Maximum conflicts and unreadable jobs that a report describes.
const MAX_PROBLEMS: usize = 20;

/// The counts of an export, an import or a copy.
///
/// Displayed as one line: `jobs 1200 (3 were running), others 14; new 1214, already there 0, …`. If
/// [`conflicts`](Self::conflicts) and [`unreadable`](Self::unreadable) are both 0, nothing was left
/// behind but what has expired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferReport {
    /// Entries that were read, by kind: `job`, `lock`, `queue` …
    pub entries: BTreeMap<&'static str, u64>,
    /// Jobs that were running when they were read. They arrive as pending, and the interrupted
    /// attempt is not counted.
    pub was_active: u64,
    /// Jobs whose message cannot be read, or is too long for a file; they are not moved.
    pub unreadable: u64,
    /// Entries that were stored, or in a dry run would be.
    pub new: u64,
    /// Entries that were there already, the same in all that matters: from an earlier move.
    pub already_there: u64,
    /// Entries in whose place something else was found. That was left as it is.
    pub conflicts: u64,
    /// Locks, keys and completed jobs that have expired since the export.
    pub expired: u64,
    /// The first conflicts and unreadable jobs, each with its line if it has one: what was
    /// expected, and what was found. At most 20.
    pub problems: Vec<String>,
}

impl TransferReport {
    /// The number of jobs that were read.
    pub fn jobs(&self) -> u64 {
        self.entries.get("job").copied().unwrap_or(0)
    }

    /// Counts an entry that was read.
    pub(super) fn read(&mut self, entry: &Entry) {
        if let Entry::Unreadable { queue, id } = entry {
            self.unreadable += 1;
            self.note(0, format!("\"{id}\" of queue \"{queue}\" cannot be read"));
            return;
        }
        if let Entry::Job(job) = entry {
            self.was_active += u64::from(job.was_active);
        }
        *self.entries.entry(kind(entry)).or_default() += 1;
    }

    /// Takes back a job that was read, because its line would be too long.
    pub(super) fn too_long(&mut self, line: &Line, length: usize) {
        let Line::Job(job) = line else { return };
        self.was_active -= u64::from(job.was_active);
        self.entries.entry("job").and_modify(|count| *count -= 1);
        self.unreadable += 1;
        self.note(
            0,
            format!("{job}: expected a line of at most {MAX_LINE_BYTES} bytes, found {length}"),
        );
    }

    /// Describes a problem in this line; 0 for none.
    pub(super) fn note(&mut self, line: u64, what: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(match line {
                0 => what,
                line => format!("line {line}: {what}"),
            });
        }
    }
}

/// The name of an entry's kind, as in the lines of an export.
fn kind(entry: &Entry) -> &'static str {
    match entry {
        Entry::Queue { .. } => "queue",
        Entry::Job(_) => "job",
        Entry::Unreadable { .. } => "unreadable",
        Entry::Lock { .. } => "lock",
        Entry::Request { .. } => "request",
        Entry::KeyQueue { .. } => "key_queue",
        Entry::Claim { .. } => "claim",
        Entry::Runs { .. } => "runs",
        Entry::Day { .. } => "day",
        Entry::Minute { .. } => "minute",
    }
}

impl fmt::Display for TransferReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: u64 = self.entries.values().sum();
        write!(f, "jobs {}", self.jobs())?;
        if self.was_active > 0 {
            write!(f, " ({} were running)", self.was_active)?;
        }
        write!(f, ", others {}", all - self.jobs())?;
        if self.new + self.already_there + self.conflicts + self.expired > 0 {
            write!(f, "; new {}, already there {}", self.new, self.already_there)?;
            write!(f, ", conflicts {}, expired {}", self.conflicts, self.expired)?;
        }
        if self.unreadable > 0 {
            write!(f, "; unreadable {}", self.unreadable)?;
        }
        Ok(())
    }
}
