//! Keeps the architecture: reads `src/**/*.rs` and reports every import that
//! points up or sideways, and every foreign word outside its folder.
//!
//! It reads text, not types: comments are skipped, strings are looked at apart.
//! That a spawned task is also awaited cannot be seen in text and is left to review.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by level. One may import from levels below its own, and from itself.
const LEVELS: [&[&str]; 9] = [
    &["sync", "text", "chance"],
    &["log"],
    &["error", "time", "trace"],
    &["job", "metrics", "pool"],
    &["registry", "broker", "limiter"],
    &["client", "inspector", "worker", "scheduler"],
    &["config", "runtime", "demo", "transfer"],
    &["web"],
    &[
        "testing",
        "lib",
        "guide",
        "handler",
        "inspect",
        "doctor",
        "periodic",
        "rate_limit",
        "limits",
        "settings",
    ],
];

#[test]
fn imports_point_down_and_foreign_words_stay_in_their_folders() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = files_below(&src);
    assert!(files.len() > 10, "only {} files found below {}", files.len(), src.display());

    let mut found = Vec::new();
    for file in &files {
        let path = file.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        if path.ends_with(".rs") {
            found.extend(violations(&path, &fs::read_to_string(file).unwrap()));
        } else if path.ends_with(".lua") && !may_hold_lua(&path) {
            found.push(format!("src/{path}: Lua belongs in src/broker/redis/"));
        }
    }
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// Asynq's scripts have one home; the rate limit's Redis store has a script of
/// its own, on keys of its own.
fn may_hold_lua(path: &str) -> bool {
    path.starts_with("broker/redis/") || path.starts_with("limiter/redis")
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|modules| modules.contains(&module))
}

/// Everything wrong with one file; `path` is relative to `src/`.
fn violations(path: &str, source: &str) -> Vec<String> {
    let modules: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    let own = modules[0];
    let Some(own_level) = level(own) else {
        return vec![format!("src/{path}: module `{own}` has no level yet: give it one in LEVELS")];
    };
    let (code, literals) = read(source);
    let tokens = tokens(&code);
    let mut found = Vec::new();
    let mut report = |line: usize, what: String| found.push(format!("src/{path}:{line}: {what}"));

    for (line, target) in imports(&tokens, modules_above(&modules)) {
        match level(&target) {
            _ if target == own || own_level == LEVELS.len() - 1 => {}
            None => report(
                line,
                format!("`crate::{target}` names no module: import from where it is defined"),
            ),
            Some(there) if there < own_level => {}
            Some(there) if there == own_level => {
                report(
                    line,
                    format!("`{own}` may not import its neighbour `{target}` (level {there})"),
                );
            }
            Some(there) => report(
                line,
                format!(
                    "`{own}` (level {own_level}) may not import `{target}` above it (level {there})"
                ),
            ),
        }
    }

    let in_redis_broker = path.starts_with("broker/redis/") || path == "broker/redis.rs";
    let may_name_redis = own == "pool"
        || in_redis_broker
        || path == "limiter/redis.rs"
        || path.starts_with("limiter/redis/");
    // There `redis::` is the module below, not the crate.
    let redis_is_a_module = tokens.windows(2).any(|w| w[0].text == "mod" && w[1].text == "redis");
    // The rows of the store on disk are messages too.
    let may_name_prost = may_name_redis
        || path.starts_with("broker/disk/")
        || path.starts_with("broker/memory/persist");
    let may_name_rocket = own == "web" || own == "testing";

    for (at, token) in tokens.iter().enumerate() {
        let word = token.text.as_str();
        if is_crate(&tokens, at) {
            if is_rocket(word) && !may_name_rocket {
                report(token.line, format!("`{word}` is known only to src/web/ and testing"));
            }
            let is_redis = word == "redis" && !redis_is_a_module && !may_name_redis;
            if is_redis || word == "prost" && !may_name_prost {
                report(
                    token.line,
                    format!("`{word}` is known only to the pool, broker/redis/ and limiter/redis"),
                );
            }
        }
        // All that is logged passes the one place that escapes it.
        let logs = ["error", "warn", "info", "debug", "trace", "event"].contains(&word)
            && text(&tokens, at + 1) == "!"
            && !(text(&tokens, at.wrapping_sub(1)) == "::"
                && text(&tokens, at.wrapping_sub(2)) == "log");
        let prints = ["print", "println", "eprint", "eprintln", "dbg"].contains(&word)
            && text(&tokens, at + 1) == "!";
        let spans = word.ends_with("span") && text(&tokens, at + 1) == "!";
        let may_span = ["client/enqueue.rs", "client/bulk.rs", "worker/execute.rs"].contains(&path);
        if (logs || prints) && own != "log" || spans && !may_span {
            report(token.line, format!("`{word}!`: lines are written by `crate::log` only"));
        }
        // A generator with a seed repeats itself.
        let draws = word == "fastrand" && is_crate(&tokens, at) && text(&tokens, at + 2) != "Rng"
            || word == "new_v4";
        if draws && own != "chance" {
            report(token.line, format!("`{word}`: chance and random ids come from `chance`"));
        }
        let reads_clock = ["SystemTime", "Utc", "Local", "OffsetDateTime"].contains(&word)
            && text(&tokens, at + 1) == "::"
            && text(&tokens, at + 2) == "now";
        if reads_clock && own != "time" {
            report(token.line, format!("`{word}::now`: the wall clock is read only in `time`"));
        }
    }

    for (line, literal) in literals {
        if in_redis_broker {
            break;
        }
        // The text of an error that Go tools show too; no key.
        let is_message =
            path == "job/verdict.rs" && literal.starts_with("asynq: task lease expired");
        if literal.contains("asynq:") && !is_message {
            report(line, "Asynq's keys are known only to src/broker/redis/".into());
        }
        let is_lua = ["redis.call(", "redis.pcall("].iter().any(|call| literal.contains(call))
            || literal.ends_with(".lua");
        if is_lua && !may_hold_lua(path) {
            report(line, "Lua belongs in src/broker/redis/".into());
        }
    }
    found
}

fn is_rocket(word: &str) -> bool {
    (word == "rocket" || word.starts_with("rocket_")) && word != "rocket_jobqueue"
}

/// Whether the word at `at` names an external crate: it begins a path, or
/// follows `use` or `extern crate`.
fn is_crate(tokens: &[Token], at: usize) -> bool {
    let before = if at == 0 { "" } else { text(tokens, at - 1) };
    let begins_path = match before {
        "::" => match at.checked_sub(2).map(|at| text(tokens, at)) {
            None | Some("use") => true,
            Some(word) => !is_word(word) && word != ">",
        },
        _ => true,
    };
    let is_declared =
        before == "use" || (before == "crate" && text(tokens, at.wrapping_sub(2)) == "extern");
    begins_path && (text(tokens, at + 1) == "::" || is_declared)
}

/// The modules a file's `super` counts down from: `job/mod.rs` is `job` itself.
fn modules_above(modules: &[&str]) -> usize {
    match modules.last() {
        Some(&"lib") => 0,
        Some(&"mod") => modules.len() - 1,
        _ => modules.len(),
    }
}

/// First module of each path that begins at the crate's root, by `crate::` or by
/// enough `super::`, with its line. `depth` is the depth of the file's module.
fn imports(tokens: &[Token], depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut braces = 0usize;
    // Depth of braces at which each inline module was opened.
    let mut inline: Vec<usize> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let previous = if at == 0 { "" } else { text(tokens, at - 1) };
        match text(tokens, at) {
            "{" => {
                let opens_module = at >= 2 && text(tokens, at - 2) == "mod";
                if opens_module {
                    inline.push(braces);
                }
                braces += 1;
            }
            "}" => {
                braces = braces.saturating_sub(1);
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
            }
            "crate" if text(tokens, at + 1) == "::" && previous != "$" => {
                first_words(tokens, at + 2, &mut found);
                at += 1;
            }
            "super" if previous != "::" && text(tokens, at + 1) == "::" => {
                let mut supers = 1;
                at += 2;
                while text(tokens, at) == "super" && text(tokens, at + 1) == "::" {
                    supers += 1;
                    at += 2;
                }
                if supers >= depth + inline.len() && depth > 0 {
                    first_words(tokens, at, &mut found);
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The word at `at`, or the first word of each branch of the group there.
fn first_words(tokens: &[Token], at: usize, found: &mut Vec<(usize, String)>) {
    if text(tokens, at) != "{" {
        if let Some(token) = tokens.get(at) {
            found.push((token.line, token.text.clone()));
        }
        return;
    }
    let mut depth = 0;
    for at in at..tokens.len() {
        match text(tokens, at) {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
        let begins_branch = depth == 1 && ["{", ","].contains(&text(tokens, at));
        if begins_branch && !["}", ""].contains(&text(tokens, at + 1)) {
            let token = &tokens[at + 1];
            found.push((token.line, token.text.clone()));
        }
    }
}

struct Token {
    line: usize,
    text: String,
}

fn text(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| token.text.as_str())
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Words, `::`, and single characters for the rest.
fn tokens(code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    for (line, content) in code.lines().enumerate() {
        let mut rest = content.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(rest) {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            found.push(Token { line: line + 1, text: rest[..length].to_owned() });
            rest = rest[length..].trim_start();
        }
    }
    found
}

/// Source without comments and strings, line by line, and the strings with
/// their lines.
fn read(source: &str) -> (String, Vec<(usize, String)>) {
    let chars: Vec<char> = source.chars().collect();
    let (mut code, mut literals) = (String::new(), Vec::new());
    let (mut at, mut line) = (0, 1);
    let peek = |at: usize| chars.get(at).copied().unwrap_or('\0');
    while at < chars.len() {
        let begin = at;
        let follows_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        match chars[at] {
            '/' if peek(at + 1) == '/' => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            '/' if peek(at + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (peek(at), peek(at + 1)) {
                        ('/', '*') => (depth, at) = (depth + 1, at + 2),
                        ('*', '/') => (depth, at) = (depth - 1, at + 2),
                        _ => at += 1,
                    }
                    if depth == 0 || at >= chars.len() {
                        break;
                    }
                }
            }
            'r' if !follows_word && raw_hashes(&chars[at..]).is_some() => {
                at = raw_string(&chars, at, line, &mut literals);
            }
            'b' if !follows_word
                && peek(at + 1) == 'r'
                && raw_hashes(&chars[at + 1..]).is_some() =>
            {
                at = raw_string(&chars, at + 1, line, &mut literals);
            }
            '"' => {
                at += 1;
                while at < chars.len() && chars[at] != '"' {
                    at += if chars[at] == '\\' { 2 } else { 1 };
                }
                literals.push((line, chars[begin + 1..at.min(chars.len())].iter().collect()));
                at += 1;
            }
            // A character; a lifetime has no second quote there.
            '\'' if peek(at + 1) == '\\' => {
                at += 3;
                while at < chars.len() && chars[at] != '\'' {
                    at += 1;
                }
                at += 1;
            }
            '\'' if peek(at + 2) == '\'' => at += 3,
            c => {
                code.push(c);
                at += 1;
                line += usize::from(c == '\n');
                continue;
            }
        }
        // What was left out leaves its line breaks, and a blank between its neighbours.
        at = at.min(chars.len());
        code.push(' ');
        for _ in chars[begin..at].iter().filter(|&&c| c == '\n') {
            code.push('\n');
            line += 1;
        }
    }
    (code, literals)
}

/// Number of `#` of the raw string beginning at `r`, if one does.
fn raw_hashes(chars: &[char]) -> Option<usize> {
    let hashes = chars[1..].iter().take_while(|&&c| c == '#').count();
    (chars.get(1 + hashes) == Some(&'"')).then_some(hashes)
}

fn raw_string(chars: &[char], r: usize, line: usize, literals: &mut Vec<(usize, String)>) -> usize {
    let hashes = raw_hashes(&chars[r..]).unwrap_or(0);
    let begin = r + hashes + 2;
    let mut at = begin;
    while at < chars.len() {
        let closes = chars[at] == '"'
            && chars.len() > at + hashes
            && chars[at + 1..=at + hashes].iter().all(|&c| c == '#');
        if closes {
            break;
        }
        at += 1;
    }
    literals.push((line, chars[begin..at].iter().collect()));
    at + hashes + 1
}

/// The checker itself: samples it must catch and samples it must leave alone.
mod checker {
    use super::violations;
    use rstest::rstest;

    #[rstest]
    #[case::upward("job/mod.rs", "use crate::client::Client;", "may not import `client` above it")]
    #[case::sideways(
        "client.rs",
        "use crate::worker::Worker;",
        "may not import its neighbour `worker`"
    )]
    #[case::sideways_at_the_bottom("error.rs", "use crate::time::Clock;", "neighbour `time`")]
    #[case::group("client.rs", "use crate::{error::Error, web::{a, b}};", "`web` above it")]
    #[case::group_over_lines(
        "client.rs",
        "use crate::{\n    error::Error,\n    web,\n};",
        "client.rs:3"
    )]
    #[case::path("time.rs", "fn f() { crate::pool::open() }", "`pool` above it")]
    #[case::in_tests("time.rs", "#[cfg(test)]\nmod tests {\n use crate::web::Api;\n}", "time.rs:3")]
    #[case::super_of_a_file("client.rs", "use super::worker::Worker;", "neighbour `worker`")]
    #[case::super_of_a_folder("job/id.rs", "use super::super::web::Api;", "`web` above it")]
    #[case::super_in_tests("client.rs", "mod tests { use super::super::web; }", "`web` above it")]
    #[case::root("client.rs", "use crate::JobId;", "names no module")]
    #[case::unknown_module("surprise.rs", "", "has no level yet")]
    #[case::rocket("config.rs", "use rocket::figment::Figment;", "`rocket` is known only")]
    #[case::rocket_path(
        "runtime.rs",
        "#[rocket::async_trait] impl A for B {}",
        "`rocket` is known only"
    )]
    #[case::rocket_family(
        "runtime.rs",
        "use rocket_okapi::openapi;",
        "`rocket_okapi` is known only"
    )]
    #[case::rocket_in_lib("lib.rs", "pub use rocket::Build;", "`rocket` is known only")]
    #[case::redis("error.rs", "impl From<redis::RedisError> for Error {}", "`redis` is known only")]
    #[case::redis_from_the_root("client.rs", "use ::redis::Cmd;", "`redis` is known only")]
    #[case::prost("job/mod.rs", "use prost::Message;", "`prost` is known only")]
    #[case::keys("broker/memory.rs", r#"let k = "asynq:{default}:pending";"#, "Asynq's keys")]
    #[case::keys_raw("client.rs", r##"let k = r#"asynq:{q}"#;"##, "Asynq's keys")]
    #[case::lua("inspector.rs", r#"let s = "return redis.call('GET', KEYS[1])";"#, "Lua belongs")]
    #[case::lua_file("worker/mod.rs", r#"let s = include_str!("a.lua");"#, "Lua belongs")]
    #[case::lua_in_the_pool("pool.rs", r#"let s = "redis.call('PING')";"#, "Lua belongs")]
    #[case::clock("worker/mod.rs", "let now = SystemTime::now();", "only in `time`")]
    #[case::clock_path("demo.rs", "let now = chrono::Local::now();", "only in `time`")]
    #[case::chance("pool/mod.rs", "let share = fastrand::f64();", "come from `chance`")]
    #[case::ids("web/login.rs", "let token = uuid::Uuid::new_v4();", "come from `chance`")]
    #[case::log("client.rs", "fn f(id: &str) { tracing::warn!(id, \"no\"); }", "`warn!`")]
    #[case::log_by_name("client.rs", "use tracing::info; fn f() { info!(\"x\"); }", "`info!`")]
    #[case::span("client/mod.rs", "fn f() { tracing::info_span!(\"x\"); }", "`info_span!`")]
    #[case::print("web/log.rs", "fn f() { eprintln!(\"x\"); }", "`eprintln!`")]
    #[case::after_a_lifetime("client.rs", "fn f<'a>(s: &'a str) { crate::web::g(s) }", "`web`")]
    #[case::after_a_quote("client.rs", "let c = '\"'; use crate::web::A;", "`web`")]
    fn catches(#[case] path: &str, #[case] source: &str, #[case] expected: &str) {
        let found = violations(path, source);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected), "{found:?}");
    }

    #[rstest]
    #[case::downward("web/api/jobs.rs", "use crate::{client::Client, job::JobId};")]
    #[case::own_module("job/verdict.rs", "use crate::job::error::Reason;")]
    #[case::own_folder("worker/mod.rs", "mod fetch; use self::fetch::Fetch; use super::worker;")]
    #[case::super_in_a_folder("job/id.rs", "use super::state::JobState;")]
    #[case::super_in_tests("client.rs", "mod tests { use super::*; use super::Client; }")]
    #[case::tests_close("client.rs", "mod tests { fn f() {} } fn g() { self::h() }")]
    #[case::documentation("job/mod.rs", "//! use crate::web::A;\n/// use rocket::get;\nstruct S;")]
    #[case::comments("time.rs", "/* use crate::web::A; /* \"asynq:\" */ SystemTime::now() */")]
    #[case::text("time.rs", r#"let s = "use crate::web::A; rocket::get \" Utc::now";"#)]
    #[case::visibility("job/id.rs", "pub(crate) struct A; pub(in crate::job) struct B;")]
    #[case::lib("lib.rs", "pub use crate::web::JobQueue; pub use job::*;")]
    #[case::testing("testing.rs", "use crate::web::A; use rocket::Build;")]
    #[case::rocket_in_web("web/mod.rs", "use rocket::get; use rocket_okapi::openapi;")]
    #[case::a_variable_named_rocket("web/mod.rs", "let rocket = rocket.attach(x);")]
    #[case::our_redis_module("broker/mod.rs", "pub mod redis; pub use redis::RedisBroker;")]
    #[case::our_redis_path("runtime.rs", "use crate::broker::redis::RedisBroker;")]
    #[case::redis_at_home("broker/redis/mod.rs", r#"use redis::Script; let k = "asynq:{q}";"#)]
    #[case::redis_in_the_pool("pool.rs", "use redis::aio::MultiplexedConnection;")]
    #[case::redis_in_the_limiter("limiter/redis.rs", "use redis::Script;")]
    #[case::lease_message("job/verdict.rs", r#"const A: &str = "asynq: task lease expired";"#)]
    #[case::monotonic_clock("worker/mod.rs", "let now = Instant::now();")]
    #[case::our_log(
        "client.rs",
        "use crate::log; fn f() { log::warn!(\"x\"); crate::log::info!(\"y\"); }"
    )]
    #[case::chance_at_home("chance.rs", "fastrand::shuffle(&mut all); Uuid::new_v4()")]
    #[case::seeded("job/printable.rs", "let mut random = fastrand::Rng::with_seed(1);")]
    #[case::clock_at_home("time.rs", "SystemTime::now()")]
    fn lets_pass(#[case] path: &str, #[case] source: &str) {
        assert_eq!(violations(path, source), Vec::<String>::new());
    }
}
