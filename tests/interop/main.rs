//! Proves with real Go Asynq (its library, its command line, asynqmon) that both
//! sides of a queue may be either language. `scripts/interop.sh` builds the Go
//! programs and runs this; without them only the table in `docs/interop.md` is
//! compared with the cases there are.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod bench;
#[path = "../support/browser.rs"]
mod browser;
mod cases;
mod prometheus;
mod run;
mod rust_peer;
mod settings;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

/// Where the Go programs are; set by the script.
const PROGRAMS: &str = "INTEROP_PROGRAMS";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [peer, redis, setup] = words.as_slice()
        && peer == "peer"
    {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(rust_peer::run_until_killed(redis, setup));
        return ExitCode::SUCCESS;
    }
    let cases = cases::all();
    if words.iter().any(|word| word == "--table") {
        print!("{}", table::of(&cases));
        return ExitCode::SUCCESS;
    }
    if let Err(difference) = table::check(&cases) {
        eprintln!("{difference}");
        return ExitCode::FAILURE;
    }
    let Some(programs) = std::env::var_os(PROGRAMS) else {
        println!("docs/interop.md lists the {} cases; scripts/interop.sh runs them", cases.len());
        return ExitCode::SUCCESS;
    };
    run::run(cases, &PathBuf::from(programs), &words)
}
