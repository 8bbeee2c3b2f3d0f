//! How much a server computes. On a busy machine it waits for a processor in the middle of a
//! command, and SLOWLOG counts that wait as the command's own time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::RedisServer;

/// A command of ours should block the server for a third of this at most, and does on a
/// machine of its own. The naive way takes hundreds of milliseconds.
pub const MOST: Duration = Duration::from_millis(30);

/// What the server's own thread computes, whatever else wants its processor.
pub struct Effort(redis::Connection);

impl Effort {
    pub fn of(server: &RedisServer) -> Self {
        let client = redis::Client::open(format!("redis://{}", server.addr())).unwrap();
        Self(client.get_connection().unwrap())
    }

    /// All of it since the server was started.
    pub fn now(&mut self) -> Duration {
        let info: String = redis::cmd("INFO").arg("cpu").query(&mut self.0).unwrap();
        let seconds = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("it is told");
            line.parse::<f64>().unwrap()
        };
        Duration::from_secs_f64(
            seconds("used_cpu_sys_main_thread:") + seconds("used_cpu_user_main_thread:"),
        )
    }

    /// The commands in SLOWLOG, by their words.
    fn slow(&mut self) -> BTreeSet<Vec<String>> {
        type Entry = (u64, u64, u64, Vec<Vec<u8>>, String, String);
        let entries: Vec<Entry> =
            redis::cmd("SLOWLOG").arg("GET").arg(128).query(&mut self.0).unwrap();
        let word = |word: &Vec<u8>| word.escape_ascii().to_string();
        entries.iter().map(|entry| entry.3.iter().map(word).collect()).collect()
    }

    /// How many calls of scripts there were.
    pub fn scripts(&mut self) -> u64 {
        let info: String = redis::cmd("INFO").arg("commandstats").query(&mut self.0).unwrap();
        let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        calls.and_then(|rest| rest.split(',').next()).expect("it is told").parse().unwrap()
    }
}

/// Runs a question until none of its commands blocked the server for [`MOST`]: either SLOWLOG,
/// which must have that limit, is empty, or all of them together computed for less.
pub async fn quick<T, F: Future<Output = T>>(
    server: &RedisServer,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let mut effort = Effort::of(server);
    let mut slow = String::new();
    for _ in 0..10 {
        server.cli(&["SLOWLOG", "RESET"]);
        let before = effort.now();
        let answer = ask().await;
        let computed = effort.now() - before;
        slow = server.cli(&["SLOWLOG", "GET"]);
        if slow.is_empty() || computed < MOST {
            return answer;
        }
    }
    panic!("{what}: always slower than {MOST:?}: {}", slow.chars().take(300).collect::<String>());
}

/// The same for a question of very many commands, which are the same each time. A busy machine
/// interrupts now one of them, now another; one that is slow by itself is so each time.
pub async fn quick_in_parts<T, F: Future<Output = T>>(
    server: &RedisServer,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let mut effort = Effort::of(server);
    let mut always: Option<BTreeSet<Vec<String>>> = None;
    for _ in 0..10 {
        server.cli(&["SLOWLOG", "RESET"]);
        let answer = ask().await;
        let slow = effort.slow();
        let still = match always {
            Some(before) => &before & &slow,
            None => slow,
        };
        if still.is_empty() {
            return answer;
        }
        always = Some(still);
    }
    panic!("{what}: slow each time: {:?}", always.unwrap_or_default().first());
}
