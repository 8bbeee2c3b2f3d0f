//! What the checker says of a few ledgers, so that a verdict can be wrong in neither
//! direction: a run that a fault explains is no fault, and one that nothing explains is.

use crate::checker::{Allowed, check};
use crate::contents::Contents;
use crate::ledger::Story;
use crate::process::{Fate, Note};

/// A name, the ledgers of processes 1 and 2, and whether the last run is one too many.
/// Process 1 is killed at 50, unless the name begins with `alive`.
const CASES: [(&str, &str, &str, bool); 5] = [
    ("killed before the answer", "B 10 a 1\nE 20 a 1 done", "B 60 a 1\nE 70 a 1 done", false),
    (
        "a retry, then killed before the answer",
        "B 10 a 1\nE 12 a 1 failed\nS 13 a retry\nB 20 a 2\nE 30 a 2 done",
        "B 60 a 1\nE 70 a 1 done",
        false,
    ),
    (
        "a retry, then killed after the answer",
        "B 10 a 1\nE 12 a 1 failed\nS 13 a retry\nB 20 a 2\nE 30 a 2 done\nS 31 a complete",
        "B 60 a 1\nE 70 a 1 done",
        true,
    ),
    ("killed after the answer", "B 10 a 1\nE 20 a 1 done\nS 21 a complete", "B 60 a 1", true),
    ("alive, without an answer", "B 10 a 1\nE 20 a 1 done", "B 60 a 1", true),
];

/// Each case whose verdict is another, a line each.
pub fn wrong() -> Vec<String> {
    let wrong = CASES.iter().filter_map(|(name, first, second, expected)| {
        let story = Story::of(&[(1, first), (2, second)]);
        let dead = Note { process: 1, fate: Fate::Dead, at: 50 };
        let notes: Vec<Note> = (!name.starts_with("alive")).then_some(dead).into_iter().collect();
        let found = check(&story, &notes, &Contents::default(), Allowed::default()).duplicates;
        let verdict = format!("{name}: one run too many: expected {expected}, found {found:?}");
        (found.is_empty() == *expected).then_some(verdict)
    });
    wrong.collect()
}
