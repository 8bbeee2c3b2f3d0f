//! What the README says, held against what it speaks of: configuration keys,
//! files, commands and counts. Its examples are compiled with the crate's.

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The keys that a module of the configuration knows: the texts of its list.
fn known(module: &str, list: &str) -> BTreeSet<String> {
    let source = read(&format!("src/config/{module}.rs"));
    let begin = source.find(&format!(" {list}: &[&str] =")).expect("the list of keys");
    let list = source[begin..].split_once("=").unwrap().1;
    let list = list.split_once("];").unwrap().0;
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The keys that the README's tables of the configuration have rows of, table by
/// table, and the rows.
fn tables() -> Vec<(BTreeSet<String>, Vec<String>)> {
    let readme = read("README.md");
    let section = readme.split_once("\n## Configuration\n").expect("the section").1;
    let section = section.split("\n## ").next().unwrap();
    let mut tables = Vec::new();
    for line in section.lines() {
        if line.starts_with("| key |") {
            tables.push((BTreeSet::new(), Vec::new()));
        } else if let (true, Some((keys, rows))) = (line.starts_with("| `"), tables.last_mut()) {
            let first = line.split('|').nth(1).unwrap();
            // `archive.<queue>.max` belongs to `archive`.
            keys.extend(first.split('`').skip(1).step_by(2).map(|key| {
                let plain = key.split_once(".<").map_or(key, |(table, _)| table);
                plain.to_owned()
            }));
            rows.push(line.to_owned());
        }
    }
    tables
}

#[test]
fn the_tables_have_a_row_for_each_key_of_the_configuration_and_for_nothing_else() {
    let tables = tables();
    let [jobqueue, periodic, connection, rate_limit] = &tables[..] else {
        panic!("four tables, found {}", tables.len());
    };
    assert_eq!(jobqueue.0, known("jobqueue", "KEYS"));
    assert_eq!(periodic.0, known("periodic", "KEYS"));
    assert_eq!(connection.0, known("connection", "KEYS"));
    let mut others = known("rate_limit", "KEYS");
    let default = known("connection", "DEFAULT_KEYS");
    others.extend(default.difference(&connection.0).cloned());
    assert_eq!(rate_limit.0, others);
}

#[test]
fn each_key_has_a_default_and_no_row_is_there_twice() {
    for (keys, rows) in tables() {
        let named: usize = rows.iter().map(|row| row.split('|').nth(1).unwrap()).map(count).sum();
        let twice = usize::from(keys.contains("archive"));
        assert_eq!(named, keys.len() + twice, "{keys:?}");
        for row in rows {
            assert!(!row.split('|').nth(2).unwrap().trim().is_empty(), "{row}");
        }
    }
}

fn count(cell: &str) -> usize {
    cell.split('`').skip(1).step_by(2).count()
}

#[test]
fn what_documents_link_to_is_there() {
    for document in [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "docs/chaos.md",
        "docs/cluster.md",
        "docs/defects.md",
        "docs/interop.md",
        "docs/performance.md",
        "docs/reliability.md",
        "docs/roles.md",
        "docs/servers.md",
        "benches/peers/README.md",
    ] {
        let text = read(document);
        let folder = Path::new(document).parent().unwrap();
        let headings: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("## ").or(line.strip_prefix("### ")))
            .map(|heading| heading.to_lowercase().replace(' ', "-"))
            .collect();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if let Some(heading) = target.strip_prefix('#') {
                assert!(headings.contains(heading), "{document}: {target}");
            } else if !target.contains("://") {
                let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
                assert!(file.is_file(), "{document}: {target}");
            }
        }
    }
}

#[test]
fn the_files_that_the_readme_names_are_there() {
    let readme = read("README.md");
    let words = readme.split(|c: char| c.is_whitespace() || "`()".contains(c));
    let mut named = 0;
    for word in words.filter(|word| word.starts_with("scripts/") || word.starts_with("examples/")) {
        read(word);
        named += 1;
    }
    assert!(named > 3);
    for example in readme.split("--example ").skip(1) {
        let name = example.split_whitespace().next().unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let file = folder.join(format!("{name}.rs"));
        assert!(file.exists() || folder.join(name).join("main.rs").exists(), "{name}");
    }
}

/// The words after each place where a document tells to run this command, up to the end
/// of the line or the backquote, without comments.
fn arguments<'d>(text: &'d str, command: &str) -> Vec<Vec<&'d str>> {
    let ends = |c: char| "`\n#|".contains(c);
    let rests = text.split(command).skip(1).filter_map(|rest| rest.split(ends).next());
    rests.map(|rest| rest.split_whitespace().collect()).collect()
}

/// Commands of documents are those of the scripts, the test programs and the scenarios.
#[test]
fn what_documents_tell_to_run_is_there() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let servers = read("scripts/servers.sh");
    let chaos = read("docs/chaos.md");
    let mut seen = 0;
    for document in [
        "README.md",
        "CONTRIBUTING.md",
        "docs/chaos.md",
        "docs/cluster.md",
        "docs/defects.md",
        "docs/reliability.md",
        "docs/servers.md",
    ] {
        let text = read(document);
        for words in arguments(&text, "--test ") {
            let name = words[0];
            let file = manifest.join(format!("tests/{name}.rs"));
            let folder = manifest.join(format!("tests/{name}/main.rs"));
            assert!(file.exists() || folder.exists(), "{document}: no test program {name}");
            seen += 1;
        }
        for words in arguments(&text, "scripts/chaos.sh") {
            for word in words.iter().filter(|word| **word != "…") {
                let is_option = word.starts_with("--") && read("scripts/chaos.sh").contains(word);
                let begins = chaos.contains(&format!("`{word}"));
                assert!(is_option || begins, "{document}: no scenario {word}");
                seen += 1;
            }
        }
        for words in arguments(&text, "scripts/servers.sh") {
            let Some(action) = words.first() else { continue };
            assert!(servers.contains(&format!("servers.sh {action}")), "{document}: {action}");
            let mut names = servers.split(|c: char| c.is_whitespace() || "()".contains(c));
            let server = words.get(1).is_none_or(|name| names.any(|word| word == *name));
            assert!(server, "{document}: {words:?}");
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn the_readme_counts_the_cases_with_go_as_their_table_does() {
    let table = read("docs/interop.md");
    let counts = table.lines().find(|line| line.contains(" cases in ")).expect("the counts");
    let readme = read("README.md").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(readme.contains(counts.trim_end_matches('.')), "{counts}");
}

#[test]
fn the_readme_names_the_oldest_rust_that_the_crate_compiles_with() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let version = version.expect("a rust-version").trim_matches('"');
    assert!(read("README.md").contains(&format!("Rust ({version} or newer")), "{version}");
}
