//! Counts what work costs instead of timing it, so that a busy machine changes nothing:
//!
//! - *commands*: the Redis commands of a fixed sequence of calls, scripts' own commands included
//!   (`INFO commandstats`);
//! - *script*: the instructions of the server in the scripts of these calls (callgrind of
//!   `redis-server`);
//! - *function*: the instructions of single functions of ours (callgrind of this program).
//!
//! `baseline.txt` has what they were. A count that grew by more than 5 % fails, by its name.
//! Commands are always judged. Instructions depend on the compiler, the C library, the processor
//! and the server: with others than the baseline's they are printed and not judged.
//!
//! This program is built as tests are, without optimisation. Its counts say nothing about speed,
//! but they are as exact, they grow with the work too, and a release build of the crate for this
//! alone would cost the gate three minutes.
//!
//! ```sh
//! cargo test --all-features --test costs               # compare; needs valgrind and redis-server
//! cargo test --all-features --test costs -- --write    # a change that costs more on purpose
//! ```
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod baseline;
mod functions;
mod sequence;
mod server;
mod valgrind;

use std::path::Path;
use std::process::ExitCode;

use baseline::Counts;

/// An error of the program: a sentence for the person who runs it.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The word by which this program runs the functions that valgrind counts.
const FUNCTIONS: &str = "functions";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.first().map(String::as_str) {
        Some(FUNCTIONS) => {
            functions::run();
            return ExitCode::SUCCESS;
        }
        Some("--write") => count().and_then(|counts| counts.write(&path())).map(|()| true),
        Some(word) if !word.starts_with("--") => {
            Err(format!("expected --write or nothing, found {word:?}").into())
        }
        // What cargo passes to test programs is for the usual harness.
        Some(_) | None => count().and_then(|counts| counts.compare(&path())),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("costs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/costs/baseline.txt")
}

/// Counts everything; half a minute.
fn count() -> Outcome<Counts> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut counts = Counts::here()?;
    counts.commands = runtime.block_on(sequence::commands())?;
    counts.scripts = runtime.block_on(sequence::instructions())?;
    counts.functions = functions::count()?;
    Ok(counts)
}
