//! Keeps the tests together: cargo compiles what a root names and says nothing about a
//! file that nobody names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The Rust files below this folder.
fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.insert(path);
        }
    }
    files
}

/// The file and all that it names as its modules, by their own names.
fn reached_from(file: &Path) -> BTreeSet<PathBuf> {
    let source = std::fs::read_to_string(file).unwrap();
    let is_root = ["main.rs", "mod.rs"].iter().any(|name| file.ends_with(name));
    let folder = if is_root { file.parent().unwrap().to_owned() } else { file.with_extension("") };
    let mut reached = BTreeSet::from([file.to_owned()]);
    for line in source.lines() {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) else {
            continue;
        };
        for path in [format!("{name}.rs"), format!("{name}/mod.rs")] {
            let path = folder.join(path);
            if path.exists() {
                reached.extend(reached_from(&path));
            }
        }
    }
    reached
}

#[test]
fn every_file_of_these_tests_is_a_module() {
    for (root, folder) in [("it/main.rs", "it"), ("support/mod.rs", "support")] {
        let mut forgotten = files_below(&tests().join(folder));
        assert!(forgotten.len() > 5, "{forgotten:?}");
        for reached in reached_from(&tests().join(root)) {
            forgotten.remove(&reached);
        }
        // What drives a browser is included by the programs that do.
        forgotten
            .retain(|file| !["browser.rs", "front.rs"].iter().any(|name| file.ends_with(name)));
        assert!(forgotten.is_empty(), "no module of tests/{root}: {forgotten:#?}");
    }
}

#[test]
fn every_other_test_program_has_a_reason_in_main_rs() {
    let main = std::fs::read_to_string(tests().join("it/main.rs")).unwrap();
    let reasons: Vec<&str> = main.lines().filter(|line| line.starts_with("//! * `")).collect();
    for entry in std::fs::read_dir(tests()).unwrap() {
        let path = entry.unwrap().path();
        let is_program = path.extension().is_some_and(|extension| extension == "rs")
            || path.join("main.rs").exists();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if is_program && name != "it" {
            let quoted = format!("`{name}`");
            assert!(reasons.iter().any(|line| line.contains(&quoted)), "{name} has no reason");
        }
    }
}
