//! Two documents name a test for each thing they promise: the table of Asynq's defects,
//! and `docs/reliability.md`. Here it is checked that both are whole, and that the tests
//! and the scenarios of the fault campaign they name exist.

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a text has in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Asserts that every `file.rs::test` in backquotes exists, and counts them.
fn expect_tests(text: &str, place: &str) -> usize {
    let mut count = 0;
    for (file, test) in quoted(text).filter_map(|quoted| quoted.split_once(".rs::")) {
        let source = read(&format!("{file}.rs"));
        assert!(source.contains(&format!("fn {test}(")), "{place}: no test {test:?} in {file}.rs");
        count += 1;
    }
    count
}

/// The scenarios of the fault campaign: the first text after each `scenario!`.
fn scenarios() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chaos/scenarios");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // The macro itself is there.
        if path.ends_with("mod.rs") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let each = source.split("scenario!(").skip(1);
        names.extend(each.filter_map(|rest| Some(rest.split('"').nth(1)?.to_owned())));
    }
    names
}

#[test]
fn every_defect_has_a_line_and_every_test_it_names_exists() {
    let table = read("docs/asynq-findings.md");
    for number in 1..=28 {
        let line = table.lines().find(|line| line.starts_with(&format!("| D{number} |")));
        let line = line.unwrap_or_else(|| panic!("D{number} has no line"));
        assert!(expect_tests(line, &format!("D{number}")) > 0, "D{number} names no test");
    }
}

#[test]
fn every_promise_names_tests_and_scenarios_that_exist() {
    let document = read("docs/reliability.md");
    let scenarios = scenarios();
    expect_tests(&document, "docs/reliability.md");
    let (mut in_table, mut promises) = (false, 0);
    for line in document.lines() {
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
            in_table = false;
            continue;
        };
        let last = cells.rsplit(" | ").next().unwrap();
        if !in_table {
            in_table = true;
            assert_eq!(last, "shown by", "each table says what shows its rows: {line}");
        } else if !last.starts_with("---") {
            let names: Vec<&str> = quoted(last).filter(|name| !name.contains(".rs::")).collect();
            for &name in &names {
                assert!(scenarios.contains(name), "no scenario {name:?}: {line}");
            }
            assert!(expect_tests(last, line) + names.len() > 0, "nothing shows this: {line}");
            promises += 1;
        }
    }
    assert!(promises > 50, "{promises} rows");
}

#[test]
fn every_scenario_of_the_campaign_shows_a_promise() {
    let document = read("docs/reliability.md");
    let named: BTreeSet<&str> = quoted(&document).collect();
    let scenarios = scenarios();
    assert!(scenarios.len() > 50, "{scenarios:?}");
    for scenario in &scenarios {
        assert!(named.contains(scenario.as_str()), "{scenario} is not in docs/reliability.md");
    }
}
