//! What the README and the documents say, compared with what they describe: configuration
//! keys, files, links, commands and counts. Their examples are compiled with the crate's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rocket_jobqueue::internals::{Section, ValueKind};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn known(section: Section) -> BTreeSet<String> {
    section.keys().map(|key| key.name.to_owned()).collect()
}

/// The keys of each table in `docs/configuration.md`, and the table's rows.
fn tables() -> Vec<(BTreeSet<String>, Vec<String>)> {
    let mut tables = Vec::new();
    for line in read("docs/configuration.md").lines() {
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
    let [jobqueue, periodic, limits, connection, rate_limit] = &tables[..] else {
        panic!("five tables, found {}", tables.len());
    };
    assert_eq!(jobqueue.0, known(Section::JobQueue));
    for (name, table) in [("periodic", periodic), ("limits", limits)] {
        let entry = Section::JobQueue.keys().find(|key| key.name == name).unwrap();
        let ValueKind::TablePerName(keys) = entry.kind else { panic!("{entry:?}") };
        assert_eq!(table.0, keys.iter().map(|key| key.name.to_owned()).collect());
    }
    assert_eq!(connection.0, known(Section::Connection));
    let mut others = known(Section::RateLimit);
    others.extend(known(Section::Default).difference(&connection.0).cloned());
    assert_eq!(rate_limit.0, others);
}

#[test]
fn each_key_has_a_default_and_no_row_is_there_twice() {
    for (keys, rows) in tables() {
        let named: usize = rows.iter().map(|row| row.split('|').nth(1).unwrap()).map(count).sum();
        let of = |key: &str| usize::from(keys.contains(key));
        let twice = of("archive") + of("max_waiting");
        assert_eq!(named, keys.len() + twice, "{keys:?}");
        for row in rows {
            assert!(!row.split('|').nth(2).unwrap().trim().is_empty(), "{row}");
        }
    }
}

fn count(cell: &str) -> usize {
    cell.split('`').skip(1).step_by(2).count()
}

/// The paths of all documents: those at the root, and what lies below `docs/`.
fn documents() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec!["benches/peers/README.md".to_owned()];
    for folder in ["", "docs", "docs/guide", ".github"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(Path::new(folder).join(name).to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The anchors of a document's headings.
fn headings(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let plain = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        plain.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}

/// The link definitions at a document's end: `[label]: target`.
fn definitions(text: &str) -> BTreeMap<&str, &str> {
    let definition = |line: &'_ str| -> Option<(usize, usize)> {
        let end = line.starts_with('[').then(|| line.find("]: "))??;
        Some((1, end))
    };
    let lines = text.lines();
    lines.filter_map(|line| definition(line).map(|(a, b)| (&line[a..b], &line[b + 3..]))).collect()
}

#[test]
fn what_documents_link_to_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
        let folder = Path::new(&document).parent().unwrap();
        let inline = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in inline.chain(definitions(&text).into_values()) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if file.contains("://") {
                continue;
            }
            let path = root.join(folder).join(file);
            let there = if file.is_empty() {
                text.clone()
            } else if path.extension() == Some("md".as_ref()) {
                std::fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("{document}: {target}: {error}"))
            } else {
                assert!(path.exists(), "{document}: {target}");
                String::new()
            };
            assert!(anchor.is_empty() || headings(&there).contains(anchor), "{document}: {target}");
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

/// The crate's documentation has each page as a module, whose links are in
/// `src/guide/links.md` and do not lead to files.
#[test]
fn each_page_is_a_module_of_the_guide_and_its_links_lead_to_modules() {
    let (guide, links) = (read("src/guide.rs"), read("src/guide/links.md"));
    let links = definitions(&links);
    for document in documents().iter().filter(|path| path.starts_with("docs/")) {
        assert!(guide.contains(&format!("= \"{document}\",")), "{document} is no page");
        let text = read(document);
        for (label, target) in definitions(&text) {
            assert!(target.contains("://") || links.contains_key(label), "{document}: [{label}]");
        }
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let leads = target.starts_with('#') || target.contains("://");
            assert!(leads, "{document}: write {target} as [text][label], and define the label");
        }
    }
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// `ARCHITECTURE.md` leaves the folder out of the names of Lua files.
#[test]
fn the_files_that_documents_name_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders =
        ["src/", "tests/", "scripts/", "examples/", "docs/", "config/", "benches/", "lua/"];
    let mut seen = 0;
    for document in documents().iter().filter(|path| *path != "CHANGELOG.md") {
        let text = read(document);
        for word in quoted(&text).flat_map(|text| text.split([' ', '(', ')', ','])) {
            let word = word.split("::").next().unwrap();
            if !folders.iter().any(|folder| word.starts_with(folder))
                || word.contains(['{', '<', '…'])
            {
                continue;
            }
            let lua = format!("src/broker/redis/{word}");
            let path = root.join(if word.starts_with("lua/") { lua.as_str() } else { word });
            let there = match word.split_once('*') {
                Some((_, ending)) => {
                    let mut files = std::fs::read_dir(path.parent().unwrap()).into_iter().flatten();
                    files.any(|file| file.unwrap().path().to_str().unwrap().ends_with(ending))
                }
                None => path.exists(),
            };
            assert!(there, "{document}: `{word}` is not there");
            seen += 1;
        }
        for example in text.split("--example ").skip(1) {
            let name = example.split_whitespace().next().unwrap().trim_matches('`');
            let file = root.join(format!("examples/{name}.rs"));
            assert!(
                file.exists() || root.join(format!("examples/{name}/main.rs")).exists(),
                "{name}"
            );
        }
    }
    assert!(seen > 100, "{seen}");
}

/// The words after each place where a document tells to run this command, up to the end
/// of the line or the backquote, without comments.
fn arguments<'d>(text: &'d str, command: &str) -> Vec<Vec<&'d str>> {
    let ends = |c: char| "`\n#|".contains(c);
    let rests = text.split(command).skip(1).filter_map(|rest| rest.split(ends).next());
    rests.map(|rest| rest.split_whitespace().collect()).collect()
}

/// The commands in documents exist: scripts, test programs and scenarios.
#[test]
fn what_documents_tell_to_run_is_there() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let servers = read("scripts/servers.sh");
    let chaos = read("docs/chaos.md");
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
        for words in arguments(&text, "--test ") {
            let name = words[0];
            let file = manifest.join(format!("tests/{name}.rs"));
            let folder = manifest.join(format!("tests/{name}/main.rs"));
            let of_terminal = manifest.join(format!("cli/tests/{name}/main.rs"));
            let is_there = file.exists() || folder.exists() || of_terminal.exists();
            assert!(is_there, "{document}: no test program {name}");
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

/// The versions of Rust in a text: `Rust 1.90` or `Rust (1.90 or newer` in a sentence, `rust:1.90`
/// for an image, `, now 1.90` in a table.
fn rust_versions(text: &str) -> impl Iterator<Item = &str> {
    let named = ["Rust ", "Rust (", "rust:", ", now "].map(|word| text.split(word).skip(1));
    let digits = |rest: &str| rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    let versions = named.into_iter().flatten().map(move |rest| {
        let end = digits(rest).unwrap_or(rest.len());
        rest[..end].trim_end_matches('.')
    });
    versions.filter(|version| version.starts_with("1."))
}

#[test]
fn the_oldest_rust_that_the_crate_compiles_with_is_the_same_everywhere() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let version = version.expect("a rust-version").trim_matches('"');
    let scripts = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")).unwrap();
    let scripts = scripts.map(|file| format!("scripts/{}", file.unwrap().file_name().display()));
    let mut named = BTreeSet::new();
    // The changelog keeps the version of each release.
    for path in documents().into_iter().filter(|path| path != "CHANGELOG.md").chain(scripts) {
        for found in rust_versions(&read(&path)) {
            assert_eq!(found, version, "{path}");
            named.insert(path.clone());
        }
    }
    for path in
        ["README.md", "CONTRIBUTING.md", "docs/guide/first-job.md", "docs/guide/deploying.md"]
    {
        assert!(named.contains(path), "{path} names no version: {named:?}");
    }
}

/// What each command of the README and the guides is run by, as a text that stands in a
/// test or a script: `what the command begins with, where it is run`.
const COMMANDS: [(&str, &str); 8] = [
    ("cargo run --example demo", "Program::start(\"demo\""),
    ("cargo run --example move -- ", "\"--example\", \"move\""),
    (
        "curl -X POST http://localhost:8000/api/dm-jobqueue/register",
        "find(|line| line.starts_with(\"curl \"))",
    ),
    ("curl -X POST http://localhost:8000/sign-up/7", "/sign-up/7\""),
    ("cargo run --example recovery -- localhost:6379", "Program::start(\"recovery\""),
    ("cargo run --release --example load -- ", "\"--example\", \"load\""),
    ("scripts/test.sh", "exec scripts/test.sh"),
    // It takes half an hour; that its programs build is checked.
    ("scripts/bench-peers.sh", "cd benches/peers/go"),
];

#[test]
fn each_command_of_the_readme_and_the_guides_is_run_by_a_test_or_ci() {
    let mut runners = read(".ci/run") + &read("scripts/test.sh");
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension() == Some("rs".as_ref()) && !path.ends_with("readme.rs") {
                runners += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    for (command, runner) in COMMANDS {
        assert!(runners.contains(runner), "nothing runs {command}: {runner} is not there");
    }
    let mut seen = 0;
    let guides = |path: &&String| *path == "README.md" || path.starts_with("docs/guide/");
    let reference = ["docs/operations.md", "docs/performance.md"].map(str::to_owned);
    for document in documents().iter().filter(guides).chain(&reference) {
        let text = read(document);
        for block in text.split("```sh\n").skip(1) {
            // In a numbered list a block is indented.
            let lines = block.split("```").next().unwrap().lines().map(str::trim);
            for line in lines.filter(|line| !line.is_empty()) {
                let known = COMMANDS.iter().any(|(command, _)| line.starts_with(command));
                assert!(known, "{document}: {line}: say in COMMANDS what runs it");
                seen += 1;
            }
        }
    }
    assert!(seen > 7, "{seen}");
}

/// A lower one would not build, and a higher one would keep users out for nothing.
#[test]
fn the_oldest_rust_is_the_highest_that_a_dependency_asks_for() {
    // Not offline: what the terminal alone needs may not have been downloaded yet.
    let mut cargo = crate::support::cargo();
    cargo.args(["metadata", "--format-version", "1", "--locked", "--all-features"]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let node = |id: &str| nodes.iter().find(|node| node["id"] == *id).unwrap();

    // What users build: normal and build dependencies, whatever they are for.
    let (mut needed, mut next) = (BTreeSet::new(), vec![metadata["resolve"]["root"].clone()]);
    while let Some(id) = next.pop() {
        let id = id.as_str().unwrap();
        if !needed.insert(id.to_owned()) {
            continue;
        }
        for dependency in node(id)["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"] != "dev") {
                next.push(dependency["pkg"].clone());
            }
        }
    }
    let version = |text: &str| -> Vec<u32> {
        let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap()).collect();
        parts.resize(3, 0);
        parts
    };
    let (mut ours, mut highest) = (Vec::new(), (Vec::new(), ""));
    for package in metadata["packages"].as_array().unwrap() {
        let Some(rust) = package["rust_version"].as_str() else { continue };
        if package["id"] == metadata["resolve"]["root"] {
            ours = version(rust);
        } else if needed.contains(package["id"].as_str().unwrap()) {
            highest = highest.max((version(rust), package["name"].as_str().unwrap()));
        }
    }
    assert_eq!(ours, highest.0, "{} asks for the most", highest.1);
}

/// The unit test of `src/inspector/explain/sentence.rs` compares kinds and sentences.
#[test]
fn each_reason_why_a_job_does_not_run_has_a_test_and_the_guide_names_it() {
    let guide = read("docs/guide/troubleshooting.md");
    let (_, rest) = guide.split_once("| state | `kind` | sentence |").unwrap();
    let contract = read("tests/it/broker_contract/explain.rs");
    let (mut known, mut named) = (String::new(), 0);
    for row in rest.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (kind, mut cell) = (cells[2].trim_matches('`'), cells[5]);
        if cell == "the same" {
            cell = &known;
        }
        let words: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let file = words.iter().find(|word| word.starts_with("tests/"));
        let source = file.map_or_else(|| contract.clone(), |file| read(file));
        assert!(!words.is_empty(), "{kind}: no test in {row}");
        for test in words.iter().filter(|word| !word.starts_with("tests/")) {
            assert!(source.contains(&format!("async fn {test}(")), "{kind}: no test {test}");
            named += 1;
        }
        known = cell.to_owned();
    }
    assert!(named > 25, "{named} tests");
}
