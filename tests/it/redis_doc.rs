//! `docs/redis-data.md` names every key and every hash field that the scripts and `keys.rs`
//! use, and no other.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::scripts;

/// Fields of other hashes than a job's have variable names.
const COMMANDS_WITH_FIELDS: [&str; 7] =
    ["HSET", "HSETNX", "HGET", "HMGET", "HDEL", "HEXISTS", "HSTRLEN"];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The code of all scripts, without comments.
fn lua() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/broker/redis/lua");
    let texts =
        scripts::files(&folder).into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    let code = |text: String| {
        let lines = text.lines().map(|line| line.split("--").next().unwrap().to_owned());
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    texts.map(code).collect()
}

/// The literals between these quotation marks.
fn literals(code: &str, quote: char) -> impl Iterator<Item = &str> {
    code.split(quote).skip(1).step_by(2)
}

/// What stands between the parenthesis that has just been opened and its end.
fn to_closing(code: &str) -> &str {
    let mut depth = 1;
    for (at, letter) in code.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &code[..at];
        }
    }
    code
}

/// The arguments of a call, split at the commas outside parentheses.
fn arguments(call: &str) -> Vec<&str> {
    let (mut depth, mut from, mut all) = (0, 0, Vec::new());
    for (at, letter) in call.char_indices() {
        match letter {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                all.push(&call[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    all.push(&call[from..]);
    all
}

/// The fixed part of a key: `Q:g:` of `Q:g:<group>:<set>`.
fn fixed(key: &str) -> String {
    key.split(['<', '{', '%']).next().unwrap().to_owned()
}

fn keys_of_scripts(code: &str) -> BTreeSet<String> {
    let after = |mark: &'static str| code.split(mark).skip(1);
    let built = after("Q .. '").map(|rest| rest.split('\'').next().unwrap());
    let tested = after("expect_lists(").chain(after("expect_zsets("));
    let tested = tested.map(to_closing).flat_map(|call| literals(call, '\''));
    let mut keys: BTreeSet<String> = built.chain(tested).map(|name| format!("Q:{name}")).collect();
    let global = literals(code, '\'').filter(|text| text.starts_with("asynq:"));
    keys.extend(global.map(fixed));
    keys
}

fn keys_of_rust(code: &str) -> BTreeSet<String> {
    let all = literals(code, '"').filter(|text| text.starts_with("asynq:"));
    let keys = all.map(|key| match key.strip_prefix("asynq:{{{}}}:") {
        Some(name) => format!("Q:{}", fixed(name)),
        None => fixed(key),
    });
    keys.filter(|key| key != "Q:").collect()
}

fn is_field(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn fields_of_scripts(code: &str) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for command in COMMANDS_WITH_FIELDS {
        for rest in code.split(&format!("'{command}'")).skip(1) {
            let names = arguments(to_closing(rest)).into_iter().skip(2);
            // Of a write, every second argument is a value.
            let step = if command.starts_with("HSET") { 2 } else { 1 };
            for name in names.step_by(step) {
                // A text that is only compared is not a field.
                let name = name.replace("== '", "'-").replace("~= '", "'-");
                let names = literals(&name, '\'').filter(|name| is_field(name));
                fields.extend(names.map(str::to_owned));
            }
        }
    }
    // Fields that are collected first.
    for rest in code.split(" set('").skip(1) {
        fields.insert(rest.split('\'').next().unwrap().to_owned());
    }
    fields
}

/// The names in the first column of the tables below this heading.
fn documented(document: &str, headings: &[&str]) -> BTreeSet<String> {
    let sections = document.split("\n## ").skip(1);
    let chosen = sections.filter(|text| headings.iter().any(|heading| text.starts_with(heading)));
    let rows = chosen.flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
}

#[test]
fn the_document_names_every_key_and_no_other() {
    let document = read("docs/redis-data.md");
    let named: BTreeSet<String> =
        documented(&document, &["Keys of a queue", "Keys beside the queues", "Channels"])
            .iter()
            .map(|key| fixed(key))
            .collect();
    let mut used = keys_of_scripts(&lua());
    used.extend(keys_of_rust(&read("src/broker/redis/keys.rs")));

    let missing: Vec<_> = used.difference(&named).collect();
    assert!(missing.is_empty(), "used, but not in docs/redis-data.md: {missing:?}");
    let unused: Vec<_> = named.difference(&used).collect();
    assert!(unused.is_empty(), "in docs/redis-data.md, but used by no script: {unused:?}");
    assert!(used.len() > 30, "{used:?}");
}

#[test]
fn the_document_names_every_field_of_a_job_and_no_other() {
    let named = documented(&read("docs/redis-data.md"), &["Fields of a job"]);
    let used = fields_of_scripts(&lua());

    let missing: Vec<_> = used.difference(&named).collect();
    assert!(missing.is_empty(), "used, but not in docs/redis-data.md: {missing:?}");
    let unused: Vec<_> = named.difference(&used).collect();
    assert!(unused.is_empty(), "in docs/redis-data.md, but used by no script: {unused:?}");
}

#[test]
fn every_script_that_the_document_names_exists() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/broker/redis/lua");
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let files: BTreeSet<_> = scripts::files(&folder).iter().map(|path| name(path)).collect();
    let document = read("docs/redis-data.md");
    let strange: Vec<_> = literals(&document, '`')
        .filter(|text| text.len() > 4 && text.ends_with(".lua") && !files.contains(*text))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}
