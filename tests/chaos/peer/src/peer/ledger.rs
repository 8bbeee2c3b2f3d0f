//! What a process did, outside Redis: one `write(2)` per event to a file opened with
//! O_APPEND. The page cache survives kill -9 of the writer.
//!
//! A line is `<kind> <microseconds since boot> <rest>`:
//!
//! | kind | rest | meaning |
//! | --- | --- | --- |
//! | `U`, `D`, `X text` | | the process is up, is done, has failed |
//! | `P` | id, queue | an enqueue is sent |
//! | `A` | id, `ok`/`refused`/`unknown`, text | its answer |
//! | `B` | id, run, attempt | a handler begins |
//! | `E` | id, run, outcome | it ends; `dropped` where its future was dropped |
//! | `S` | id, transition | its end is settled in Redis |
//! | `G` | id, members… | a job stands for these members of a group |
//! | `O` | what, `ok` or text | an operation of an operator |

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

/// The file of one process.
pub struct Ledger(File);

impl Ledger {
    /// Opens the file, and makes it if it is not there.
    pub fn open(path: &Path) -> Self {
        let file = OpenOptions::new().append(true).create(true).open(path);
        Self(file.expect("the ledger can be written"))
    }

    /// Writes one event, stamped with the time since boot. A wall clock that jumps
    /// does not touch it.
    pub fn line(&self, event: &str) {
        let (kind, rest) = event.split_once(' ').unwrap_or((event, ""));
        let line = format!("{kind} {} {rest}\n", now());
        (&self.0).write_all(line.as_bytes()).expect("the ledger takes a line");
    }
}

/// Microseconds since boot, the same for all processes of this machine.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * 1_000_000 + nanos / 1_000
}
