//! The table of Asynq's defects names a test for each; here it is seen that it is
//! whole and that the tests are there.

use std::path::Path;

#[test]
fn every_defect_has_a_line_and_every_test_it_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("docs/defects.md")).unwrap();
    for number in 1..=28 {
        let line = table.lines().find(|line| line.starts_with(&format!("| D{number} |")));
        let line = line.unwrap_or_else(|| panic!("D{number} has no line"));
        // In backquotes: `file::test`.
        let tests: Vec<(&str, &str)> = line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|quoted| quoted.split_once(".rs::"))
            .collect();
        assert!(!tests.is_empty(), "D{number} names no test");
        for (file, test) in tests {
            let source = std::fs::read_to_string(root.join(format!("{file}.rs")));
            let source = source.unwrap_or_else(|error| panic!("D{number}, {file}.rs: {error}"));
            assert!(
                source.contains(&format!("fn {test}(")),
                "D{number}: no test {test:?} in {file}.rs"
            );
        }
    }
}
