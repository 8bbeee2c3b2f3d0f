//! Finds misspelled tables above our sections, such as `[default.jobqeue]`, and keys that are
//! given twice in a variable.
//!
//! Above our sections a source belongs to the application, so a table is a slip only if its whole
//! path is nearly one of ours, and a table stands at its end: `[default.database.jobqueue]` is
//! one, `[default.database]` and `[default.jobs]` are not. Within a section every unknown key is
//! warned of, see [`layer`](super::layer).

use std::collections::BTreeSet;

use figment::value::{Dict, Value};

use super::schema::{Section, SectionPlace};

/// The path of a table that was probably meant to be one of ours.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slip {
    /// As it is written.
    pub(super) found: String,
    /// The path that is read.
    pub(super) near: String,
}

/// Whether a name is nearly a known one: at most two letters differ, one in a short name, or only
/// case and separators. A name of three letters is too short to guess.
pub(super) fn is_near(name: &str, known: &str) -> bool {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '-', '.', ' '], "");
    let (plain_name, plain_known) = (plain(name), plain(known));
    let most = match plain_known.len() {
        ..=3 => 0,
        4..=6 => 1,
        _ => 2,
    };
    strsim::damerau_levenshtein(&plain_name, &plain_known) <= most
}

/// The tables of this source whose path is nearly, but not quite, the one of a section.
/// `.redis`, `_redis` and `x-redis` usually hold an anchor, and are left out.
pub(super) fn slips<'p>(
    dict: &Dict,
    paths: impl IntoIterator<Item = &'p [&'p str]>,
) -> BTreeSet<Slip> {
    let mut slips = BTreeSet::new();
    for path in paths {
        let mut found = Vec::new();
        near_tables(dict, path, &mut Vec::new(), &mut found);
        let slip = |found: String| Slip { found, near: path.join(".") };
        slips.extend(found.into_iter().map(slip).filter(|slip| slip.found != slip.near));
    }
    slips
}

/// Collects the paths of all tables that are nearly `path`, exact ones included.
fn near_tables<'d>(
    dict: &'d Dict,
    path: &[&str],
    above: &mut Vec<&'d str>,
    found: &mut Vec<String>,
) {
    let Some((known, below)) = path.split_first() else {
        found.push(above.join("."));
        return;
    };
    let is_anchor = |name: &str| name.starts_with(['.', '_']) || name.starts_with("x-");
    for (name, value) in dict {
        if let Value::Dict(_, inner) = value
            && !is_anchor(name)
            && is_near(name, known)
        {
            above.push(name);
            near_tables(inner, below, above, found);
            above.pop();
        }
    }
}

/// What is wrong with a profile of `Rocket.toml` that is not in use: a misspelled name of one
/// (`[defualt.jobqueue]`), or a table of ours without a profile (`[jobqueue]`).
pub(super) fn profile_slips(profile: &str, dict: &Dict, in_use: &[&str]) -> BTreeSet<Slip> {
    let paths = || Section::ALL.map(|section| section.place().rocket);
    let as_table = Dict::from([(profile.to_owned(), Value::from(dict.clone()))]);
    let mut slips = BTreeSet::new();
    for path in paths() {
        let mut without_profile = Vec::new();
        near_tables(&as_table, path, &mut Vec::new(), &mut without_profile);
        let near = format!("default.{}", path.join("."));
        let slip = |found| Slip { found, near: near.clone() };
        slips.extend(without_profile.into_iter().map(slip));
    }
    let known = ["default", "global", "debug", "release"].into_iter().chain(in_use.iter().copied());
    if known.clone().any(|known| known.eq_ignore_ascii_case(profile)) {
        return slips;
    }
    let Some(meant) = known.into_iter().find(|known| is_near(profile, known)) else {
        return slips;
    };
    for path in paths() {
        let mut below = Vec::new();
        near_tables(dict, path, &mut Vec::new(), &mut below);
        slips.extend(below.into_iter().map(|found| Slip {
            found: format!("{profile}.{found}"),
            near: format!("{meant}.{}", path.join(".")),
        }));
    }
    slips
}

/// The paths of all sections in a kind of source.
pub(super) fn section_paths(
    root: fn(&SectionPlace) -> &'static [&'static str],
) -> [&'static [&'static str]; 4] {
    Section::ALL.map(|section| root(section.place()))
}

/// A table that is open while a variable is read, or a list, which has no keys.
struct OpenTable {
    /// The keys so far; `None` for a list.
    keys: Option<BTreeSet<String>>,
    /// The last of them, or nothing.
    key: String,
    /// Whether the key has been read and its value begins: a `=` in it is text.
    in_value: bool,
}

/// The keys that a variable gives twice, as paths: of `{a=1,b={c=1,c=2}}` it is `b.c`. figment,
/// which reads the value, takes the last one. Values are skipped, since they may be secrets.
pub(super) fn repeated_keys(text: &str) -> BTreeSet<String> {
    let mut repeated = BTreeSet::new();
    let mut open: Vec<OpenTable> = Vec::new();
    let mut token = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                while let Some(c) = rest.next().filter(|c| *c != '"') {
                    token.extend(if c == '\\' { rest.next() } else { Some(c) });
                }
            }
            '{' | '[' => {
                let keys = (c == '{').then(BTreeSet::new);
                open.push(OpenTable { keys, key: String::new(), in_value: false });
                token.clear();
            }
            '}' | ']' => {
                open.pop();
                token.clear();
            }
            ',' => {
                token.clear();
                if let Some(table) = open.last_mut() {
                    table.in_value = false;
                }
            }
            '=' => {
                let Some(table) = open.last_mut().filter(|table| !table.in_value) else { continue };
                let Some(keys) = &mut table.keys else { continue };
                table.in_value = true;
                table.key = std::mem::take(&mut token).trim().to_owned();
                if !keys.insert(table.key.clone()) {
                    let path = open.iter().map(|table| table.key.as_str());
                    repeated
                        .insert(path.filter(|key| !key.is_empty()).collect::<Vec<_>>().join("."));
                }
            }
            c => token.push(c),
        }
    }
    repeated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_repeated_only_within_its_own_table() {
        let repeated = |text| repeated_keys(text).into_iter().collect::<Vec<_>>().join(" ");
        for (text, expected) in [
            ("{concurrency=5,concurrency=6}", "concurrency"),
            ("{ queues = {a=1, b=2, a = 3}, port=1 }", "queues.a"),
            (
                "{jobqueue={db=1,sentinel={addrs=[x],master=m,master=n}},main={}}",
                "jobqueue.sentinel.master",
            ),
            ("{jobqueue={db=1}, jobqueue={db=2}}", "jobqueue"),
            ("{a=1,\"a\"=2}", "a"),
            ("{a=[{b=1,b=2}]}", "a.b"),
            ("{a={b=1},c={b=1},b=[{a=1},{a=2}]}", ""),
            ("{a=\"x,b=1,b=2\",b=3}", ""),
            ("{a=\"\\\"b=1,b=\",b=3}", ""),
            ("{a=b=c,d=b=c,e=b=}", ""),
            ("a=1,a=2", ""),
            ("}}]{{=", ""),
            ("", ""),
        ] {
            assert_eq!(repeated(text), expected, "{text}");
        }
    }

    #[test]
    fn a_name_is_near_if_few_letters_differ() {
        for near in ["jobqeue", "job_queue", "Job-Queue", "jobqueues", "jobqueue", "jbqueue"] {
            assert!(is_near(near, "jobqueue"), "{near}");
        }
        for other in ["jobs", "queue", "workqueue", "mailqueue", "job", "jobqueue_dashboard"] {
            assert!(!is_near(other, "jobqueue"), "{other}");
        }
        assert!(is_near("API", "api") && !is_near("app", "api") && !is_near("apis", "api"));
        assert!(!is_near("readies", "redis") && is_near("rediss", "redis"));
    }
}
