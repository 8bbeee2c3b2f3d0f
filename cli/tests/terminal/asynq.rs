//! Asynq's command line is the floor: each of its verbs has a counterpart here, which
//! `docs/terminal.md` names.

use std::path::Path;
use std::process::Command;

use crate::bench::Way;

/// Asynq's program as `scripts/interop.sh` builds it.
fn asynq(arguments: &[&str]) -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interop/asynq");
    let output = Command::new(&program).args(arguments).arg("--help").output();
    let output = output.unwrap_or_else(|error| {
        panic!("{}: {error}; scripts/interop.sh builds it", program.display())
    });
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let from = help.lines().skip_while(|line| *line != "COMMANDS").skip(1);
    let lines = from.take_while(|line| !line.trim().is_empty());
    lines.filter_map(|line| Some(line.trim().split_once(':')?.0.to_owned())).collect()
}

/// The rows of the table: Asynq's words, and ours.
fn table() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/terminal.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `asynq ")?.split_once("` | `"));
    rows.map(|(theirs, ours)| {
        let ours = ours.split('`').next().unwrap();
        (theirs.to_owned(), ours.strip_prefix("jobqueue ").unwrap().to_owned())
    })
    .collect()
}

#[test]
fn every_verb_of_asynq_has_a_counterpart_that_exists() {
    let mut verbs = Vec::new();
    for noun in commands(&asynq(&[])) {
        let below = commands(&asynq(&[&noun]));
        match below.is_empty() {
            true => verbs.push(noun),
            false => verbs.extend(below.iter().map(|verb| format!("{noun} {verb}"))),
        }
    }
    assert!(verbs.len() >= 20, "only {verbs:?}");
    let table = table();
    for verb in &verbs {
        assert!(
            table.iter().any(|(theirs, _)| theirs == verb),
            "docs/terminal.md lacks asynq {verb}"
        );
    }
    for (theirs, ours) in &table {
        assert!(verbs.contains(theirs), "asynq has no {theirs}");
        let words: Vec<&str> = ours
            .split_whitespace()
            .take_while(|word| word.chars().all(char::is_lowercase))
            .collect();
        Way::none().ok(&[&words[..], &["--help"]].concat());
    }
}
