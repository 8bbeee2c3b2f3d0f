//! The fault campaign: real processes, real Redis, faults, and a checker that
//! believes ledgers on disk. `scripts/chaos.sh` builds and runs it.
//!
//! `--list` names the scenarios, `--all` runs them, `--gate` the short selection,
//! `--only NAME…` those whose name begins with one of the words. The last line of
//! the output is `chaos: P of T passed`; the exit status is 0 when all did.
//! `CHAOS_WIDTH=4` runs four at a time.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod checker;
mod contents;
mod ledger;
#[path = "peer/src/peer/mod.rs"]
mod peer;
mod process;
mod proxy;
mod report;
mod run;
mod scenarios;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod verdicts;
mod versions;

use std::process::ExitCode;

/// Names every scenario.
const LIST: &str = include_str!("../../docs/chaos.md");

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let all = scenarios::all();
    let width = std::env::var("CHAOS_WIDTH").ok().and_then(|width| width.parse().ok());
    let width = |otherwise| width.unwrap_or(otherwise);
    match words.first().map(String::as_str) {
        Some("peer") => peer::run(words.get(1).map_or("", String::as_str)),
        Some("--list") => {
            for scenario in &all {
                let gate = if scenario.gate { "gate" } else { "" };
                println!("{:<28} {gate:<5} {}", scenario.name, scenario.injects);
            }
            ExitCode::SUCCESS
        }
        Some("--all") => run::run(all, width(1)),
        // They mostly wait for leases to end.
        Some("--gate") => run::run(all.into_iter().filter(|one| one.gate).collect(), width(4)),
        Some("--only") => {
            let mut chosen = all;
            chosen.retain(|one| words[1..].iter().any(|word| one.name.starts_with(word.as_str())));
            if chosen.is_empty() {
                eprintln!("no scenario is named so; see --list");
                return ExitCode::FAILURE;
            }
            run::run(chosen, width(1))
        }
        _ => {
            let listed = |one: &&scenarios::Scenario| LIST.contains(&format!("`{}`", one.name));
            if let Some(one) = all.iter().find(|one| !listed(one)) {
                eprintln!("docs/chaos.md does not list the scenario {}", one.name);
                return ExitCode::FAILURE;
            }
            let wrong = verdicts::wrong();
            if !wrong.is_empty() {
                eprintln!("wrong verdicts of the checker:\n{}", wrong.join("\n"));
                return ExitCode::FAILURE;
            }
            println!("docs/chaos.md lists {} scenarios; scripts/chaos.sh runs them", all.len());
            ExitCode::SUCCESS
        }
    }
}
