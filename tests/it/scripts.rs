//! Every script against every key of a queue that is not what the protocol says:
//! of another type, missing, without its fields, with text for a number. A script
//! either refuses and changes nothing, or does its work and breaks nothing more.
//!
//! A new script needs a line in `calls`; without one this test fails.

use crate::support::scripts;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::support::RedisServer;
use redis::{Commands, Connection, RedisResult, Value};
use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::{Doctor, PoolSettings, RedisPool, RepairScope, Topology};
use rocket_jobqueue::{Clock, QueueName, Timestamp, doctor::FindingKind};

const NOW: i64 = 4_000_000_000;
/// Of that second.
const DAY: &str = "2096-10-02";
const Q: &str = "asynq:{q}:";
const OTHER: &str = "asynq:{o}:";

/// The ways to call a script: arguments after the time, between bars. `Q:` stands
/// for the queue's prefix, `NOW` for the time in seconds. After a plus the script has
/// another queue first. `None` for a script that has no line yet.
fn calls(script: &str) -> Option<&'static [&'static str]> {
    // A new job: id, message, placement, microseconds, lock, its microseconds,
    // guard, digest, its microseconds, group, when the lock ends, what is
    // done if it is held, microseconds within which it must start,
    // how many may wait.
    Some(match script {
        "enqueue" => &[
            "0|new|m|now|0||0|||0|||reject||",
            "0|new|m|after|5000000|Q:unique:mail:new|60000000|Q:x:idem:new|d|9000000||success|reject||",
            "0|new|m|now|0|Q:unique:mail:a|60000000|Q:x:idem:k|d|9000000|digest|success|reject||",
            "0|new|m|now|0|Q:unique:mail:new|60000000|||0||start|reject||",
            "0|new|m|now|0|Q:unique:mail:new|60000000|||0||expiry|reject||",
            "0|new|m|now|0|Q:unique:mail:timed|60000000|||0||expiry|reject||",
            "0|new|m|now|0|Q:unique:mail:a|60000000|||0||success|replace:0||",
            "0|new|m|now|0|Q:unique:mail:h|60000000|||0||success|replace:0||",
            "0|new|m|now|0|Q:unique:mail:timed|60000000|||0|digest|expiry|replace:0||",
            "0|new|m|now|0|Q:unique:mail:p|60000000|||0|digest|start|replace:0||",
            "0|new|m|after|5000000|Q:unique:mail:s|60000000|Q:x:idem:new|d|9000000||success|replace:0||",
            "0|new|m|now|0|Q:unique:mail:s|60000000|||0||expiry|replace:0|||new2|m|now|0|Q:unique:mail:g|60000000|||0|new|success|replace:0||",
            "0|new|m|after|900000000|Q:unique:mail:s|9000000000|||0||success|extend|||new2|m|now|0|Q:unique:mail:timed|60000000|||0||success|extend||",
            "1|p|m|after|5000000||0|||0|new||reject||",
            "0|new|m|now|0||0|||0|||reject|60000000|",
            "0|new|m|now|0||0|||0|||reject||drop_oldest:1",
            "0|new|m|after|5000000||0|||0|||reject||drop_oldest:1|new2|m|now|0||0|||0|||reject||refuse:9",
            "0|new|m|now|0||0|||0|||reject||refuse:1",
            "0|p|m2|now|0|Q:unique:mail:new|60000000|||0||success|replace_job|60000000|",
            "0|s|m2|after|900000000|Q:unique:mail:s|60000000|||0||start|replace_job||",
            "0|g|m2|now|0||0|||0|||replace_job|||new|m|now|0||0|||0|||replace_job||",
            "0|r|m2|now|0||0|||0|digest||replace_job|||a|m|now|0||0|||0|||replace_job||",
            "0|new|m|after|5000000|Q:unique:mail:s|60000000|||0||success|replace:0|60000000|",
            "0|new|m|after|900000000|Q:unique:mail:s|9000000000|||0||success|extend|60000000|",
        ],
        "enqueue_later" => &[
            "0|new|m|after|5000000",
            "0|new|m|at|1|p|m|at|4100000000000000",
            "1|p|m|after|5|s|m|after|5",
        ],
        "enqueue_now" => &["1|new|m", "2|new|m|p|m", "+1|new|m|1|new|m", "+1|x|m|2|p|m|new|m"],
        // Per queue: what was not heard, archived at most, for how long, how many are
        // done with their leases, how many others ended.
        "settle_and_dequeue" => &[
            "0|9||77|1||9999|7776000|0|0|0",
            "0|9||77|1|7 8|9999|7776000|0|0|0",
            "0|1|4000000009000000|77|1|7|9999|7776000|0|0|0",
            "0|9|3999999999000000|77|1||9999|7776000|1|l|1|1|9|3999999000.5|3999999000.5|0",
            "0|0||77|0||9999|7776000|1|l|1|1|9|3999999000.5|3999999000.5|0",
            "0|2||77|1||9999|7776000|2|l|l|2|1|9|3999999000.5|3999999000.5|1|9|5.1|5.1|0",
            "0|0||77|0||9999|7776000|0|0|1|a|7|0|delete||0|0||Q:unique:mail:a||",
            "0|2||77|1||9999|7776000|0|0|1|a|7|0|complete|m2|60000000|1|42|Q:unique:mail:a||2.4.1",
            "0|2||77|1||9999|7776000|1|l|1|1|9|3999999000.5|3999999000.5|1|a|7|0|retry|m2|60000000|0|||[1]|2.4.1",
            "0|0||77|0||9999|7776000|0|0|1|a|7|0|retry|m2|60000000|0|||[1]|2.4.1",
            "0|0||77|0||9999|7776000|0|0|1|a|7|0|snooze||60000000|0||||",
            "0|0||77|0||9999|7776000|0|0|1|a|7|0|archive|m2|0|0|||[1]|",
            "0|2||77|1||9999|7776000|0|0|1|a|7|0|requeue||0|0||||",
            "1|0||77|0||9999|7776000|0|0|1|l||3999999000500000|reclaim|m2|0|0|||[1]|",
            "0|9||77|1||9999|7776000|0|0|1|h|11|0|delete||0|0||Q:unique:mail:h||",
            "0|0||77|0||9999|7776000|0|0|1|h|11|0|retry|m2|60000000|0||Q:unique:mail:h|[1]|2.4.1",
        ],
        "finish_and_dequeue" => &[
            "9||77|1|0|0",
            "9|3999999999000000|77|1|1|l|1|1|9|3999999000.5|3999999000.5",
            "0||77|1|1|l|1|1|9|5.1|5.1",
            "2||77|1|3|l|l|p|2|2|9|5.1|5.2|1|9|6.1|6.1",
            "+9||77|2|1|b|1|1|7|4000000020.5|4000000020.5|1|l|1|1|9|5.1|5.1",
            "+1||77|1|0|0|1|l|1|1|9|3999999000.5|3999999000.5",
        ],
        "enqueue_limited" => &[
            "0|new|m|now|0||0|||0|||reject||",
            "0|new|m|after|5000000|Q:unique:mail:new|60000000|||0|||reject||",
        ],
        "set_limit" => &[r#"one|{"concurrency":1}|32|0"#, "one||32|0"],
        "read_limits" => &["100"],
        "list_limit_keys" => &["one|9|0"],
        "extend_leases" => &["a|7|0", "a|8|0|l|7|0"],
        "next_due" => &["", "+"],
        "forward_due" => &["9|1000|100000", "1|1|100000"],
        "list_expired_leases" => &["9|0", "9|1"],
        "delete_expired" => &["9"],
        "read_queue" => &[""],
        "count_grouped" => &["0"],
        "list_groups" => &["9|0"],
        "list_aggregations" => &["9"],
        "read_history" => &["3"],
        "read_minutes" => &[""],
        "count_upcoming" => &["3999999999|4000000100"],
        "estimate_memory" => &["1"],
        "read_job" => &["a", "s", "g", "gone"],
        "list_jobs" => &[
            "pending|pending|9|at|0|||8388608|forward",
            "active|active|9|after|0|a|a|8388608|forward",
            "scheduled|scheduled|9|at|0|||8388608|forward",
            "archived|archived|9|after|1|ar||8388608|forward",
            "aggregating|g:digest|9|at|0|||8388608|forward",
            "pending|pending|9|after|0|p|p|8388608|backward",
            "archived|archived|9|after|1|ar||8388608|backward",
        ],
        "check_locks" => &["a|Q:unique:mail:a"],
        "read_standing" => &["a|9|9", "p|9|9", "g|9|9", "ag|9|9", "gone|9|9"],
        "run_doctor" => &[
            "types|0|100|2|9999",
            "active|0|100|2|9999",
            "lease|0|100|2|9999",
            "pending|0|100|2|9999",
            "scheduled|0|100|2|9999",
            "retry|0|100|2|9999",
            "archived|0|100|2|9999",
            "completed|0|100|2|9999",
            "x:due|0|100|2|9999",
            "aggregation_sets|0|100|2|9999",
            "keys|0|1000|2|9999",
        ],
        "list_keys" => &["0|1000"],
        // Per job: id, list, score, exact due time, group, number of texts, texts.
        "restore_jobs" => &[
            "new|pending||||6|msg|m|state|pending|pending_since|1",
            "p|pending||||4|msg|m|state|pending",
            "new|scheduled|4000000100|4000000099500000|digest|6|msg|m|state|scheduled|group|digest|p|pending||||2|msg|m",
            "new|g:new|4000000000||new|6|msg|m|state|aggregating|group|new",
            "new|archived|4000000000|||4|msg|m|state|archived",
        ],
        "request_cancel" => &["a|retry", "p|delete", "gone|archive"],
        "mark_suspect" => &["a|7|0", "a|8|0"],
        "write_output" => &["a|7|0|result|42", "a|8|0|x_progress|1"],
        "act_on_job" => &[
            "run|9999|7776000|0|now|0|,scheduled,retry,archived,completed,aggregating,|s|0|||",
            "run_next|9999|7776000|0|now|0|,pending,scheduled,aggregating,|p|0|||",
            "run_next|9999|7776000|0|now|0|,pending,scheduled,aggregating,|g|0|||",
            "archive|9999|7776000|1|now|0|,pending,scheduled,retry,aggregating,|p|0|0||",
            "delete|9999|7776000|0|now|0|,pending,scheduled,retry,archived,aggregating,|g|0|||",
            "reschedule|9999|7776000|0|after|5000000|,scheduled,retry,|r|0|||",
            "edit|9999|7776000|0|now|0|,scheduled,pending,|s|0||m|m2",
        ],
        "act_in_bulk" => &[
            "run|9999|7776000|0|now|0|retry||-1|0|100|",
            "archive|9999|7776000|0|now|0|pending||-1|0|100|",
            "delete|9999|7776000|0|now|0|aggregating|digest|-1|0|100|",
            "reschedule|9999|7776000|0|after|5000000|scheduled||-1|0|100|",
        ],
        "trim_archive" => &["100|9999|7776000", "100|1|7776000"],
        "begin_removal" => &["0", "1", "2"],
        "delete_leftovers" => &["0|1000"],
        "end_removal" => &[""],
        "fire_ticks" => &[
            "0|entry||86400|1|3999999999000000|new|m|now|0||0|||0|||reject||",
            "0|entry|3999999000000000|86400|1|3999999999000000|new|m|after|5000000|Q:unique:mail:new|60000000|||0||start|reject||",
            "1|entry|3999999000000000|86400|1|3999999999000000|new|m|now|0||0|||0|digest||reject||",
        ],
        "list_ready_groups" => &["0|100|1|60|10"],
        "take_group" => &["digest|set-2|1|60|10|100|9"],
        "read_set" => &["digest|set-1|0|100"],
        "remove_unreadable" => &["digest|set-1|ag"],
        "aggregate_set" => &["0|digest|set-1|new|m|now|0||0|||0|||reject||"],
        "record_locks" => &["digest|set-1|ag|Q:unique:mail:ag"],
        "return_sets" => &["100"],
        _ => return None,
    })
}

/// Scripts that touch no queue.
const WITHOUT_QUEUE: [&str; 5] =
    ["announce_worker", "request_change", "announce_periodic", "record_run", "record_types"];

/// Steps of the removal of a queue: what they leave is the next step's.
const DISMANTLE: [&str; 3] = ["begin_removal", "delete_leftovers", "end_removal"];

/// A job in each state, and all that lies beside the jobs.
const WORLD: &str = "
    HSET Q:t:p msg m state pending pending_since 1 unique_key Q:unique:mail:p x_unlock Q:unique:mail:p
    SET Q:unique:mail:p p EX 1000
    SET Q:unique:mail:timed x:expiry:r EX 1000
    LPUSH Q:pending p
    HSET Q:t:late msg m state pending pending_since 1 x_start_by 2 unique_key Q:unique:mail:late
    SET Q:unique:mail:late late EX 1000
    LPUSH Q:pending late
    ZADD Q:x:start_by 2 late 3 gone 4200000000000000 s
    HSET Q:t:a msg m state active x_owner 7 x_lost 1 unique_key Q:unique:mail:a
    HSET Q:t:l msg m state active x_owner 9
    RPUSH Q:active a l
    ZADD Q:lease 4000000020.5 a 3999999000.5 l
    SET Q:unique:mail:a a EX 1000
    HSET Q:t:s msg m state scheduled unique_key Q:unique:mail:s x_start_by 4200000000000000
    SET Q:unique:mail:s s EX 1000
    ZADD Q:scheduled 3999999999 s
    HSET Q:t:sg msg m state scheduled group digest
    ZADD Q:scheduled 3999999998 sg
    ZADD Q:x:grouped 3999999998 digest
    ZADD Q:x:due 3999999999000000 s
    HSET Q:t:r msg m state retry x_lock Q:unique:mail:timed
    ZADD Q:retry 3999999999 r
    HSET Q:t:ar msg m state archived
    ZADD Q:archived 3999999999 ar
    HSET Q:t:old msg m state archived
    ZADD Q:archived 1 old
    HSET Q:t:c msg m state completed result 42
    ZADD Q:completed 3999999999 c
    HSET Q:t:g msg m state aggregating group digest unique_key Q:unique:mail:g
    SET Q:unique:mail:g g EX 1000
    ZADD Q:g:digest 3999999999 g
    SADD Q:groups digest
    HSET Q:t:ag msg m state aggregating group digest
    ZADD Q:g:digest:set-1 3999999999 ag
    ZADD Q:aggregation_sets 3999999999 Q:g:digest:set-1
    SET Q:x:idem:k d:p EX 1000
    HSET Q:x:minutes 7 66666600
    SET Q:processed 5
    SET Q:failed 2
    SET Q:processed:DAY 5
    SET Q:failed:DAY 2
    HSET O:t:x msg m state pending pending_since 1
    LPUSH O:pending x
    HSET O:t:b msg m state active x_owner 7
    LPUSH O:active b
    ZADD O:lease 4000000020.5 b";

/// Beside it a limit with a job that holds a place, one that waits, and a look that is due.
const LIMITED: &str = r#"
    HSET Q:x:limits one {"concurrency":2,"numbers":{"per":1000,"spacing":1000,"early":0,"late":100,"group":1,"groups":1}}
    HSET Q:t:a x_use one:
    ZADD Q:x:lim:use:one: 1 a
    HSET Q:t:w msg m state scheduled x_wait 1:one:
    ZADD Q:scheduled 4000003600 w
    ZADD Q:x:held 4000003600 w
    ZADD Q:x:lim:wait:one: 1 w
    ZADD Q:x:lim:keys 3999999000000000 one:
    ZADD Q:x:lim:tat 3999999000000000 one:
    LPUSH Q:x:lim:starts:one: 3999998000000000
    ZADD Q:x:due 3999999000000000 ''"#;

/// Beside it a job that runs and holds a lock, and its successor.
const FOLLOWED: &str = "
    HSET Q:t:h msg m state active x_owner 11 unique_key Q:unique:mail:h x_next n
    RPUSH Q:active h
    ZADD Q:lease 4000000025.5 h
    SET Q:unique:mail:h h EX 1000
    HSET Q:t:n msg m state scheduled x_after h x_then 3999999000000000,60000000,success,,Q:unique:mail:h
    ZADD Q:scheduled 4000003600 n
    ZADD Q:x:after 3999999000 n";

/// Keys that are not there and might be met in another type.
const ABSENT: [&str; 5] = ["t:new", "g:new", "unique:mail:new", "x:idem:new", "paused"];

struct World {
    connection: Connection,
    broker: Arc<RedisBroker>,
    runtime: tokio::runtime::Runtime,
    queue: QueueName,
    /// What the world has beside `WORLD`.
    beside: &'static str,
}

fn written(text: &str) -> String {
    text.replace("Q:", Q).replace("O:", OTHER).replace("DAY", DAY)
}

impl World {
    fn run(&mut self, line: &str) -> RedisResult<Value> {
        let line = written(line);
        let mut words = line.split_whitespace();
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.query(&mut self.connection)
    }

    fn world(&mut self) {
        let _: Value = redis::cmd("FLUSHALL").query(&mut self.connection).unwrap();
        let mut all = redis::pipe();
        let lines = written(WORLD) + &written(self.beside);
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            all.cmd(words.next().unwrap());
            words.for_each(|word| {
                all.arg(if word == "''" { "" } else { word });
            });
        }
        all.query::<Value>(&mut self.connection).unwrap();
    }

    fn call(&mut self, text: &str, arguments: &str) -> RedisResult<Value> {
        let script = redis::Script::new(text);
        let (arguments, other) = match arguments.strip_prefix('+') {
            Some(arguments) => (arguments, Some(format!("{OTHER}pending"))),
            None => (arguments, None),
        };
        let mut invocation = script.prepare_invoke();
        invocation.key(other).key(format!("{Q}pending"));
        invocation.arg(format!("{NOW}000000"));
        for argument in written(arguments).split('|') {
            invocation.arg(argument);
        }
        invocation.invoke(&mut self.connection)
    }

    /// The world with this done to it.
    fn spoilt(&mut self, spoil: &str) -> Value {
        self.world();
        for command in spoil.split(';') {
            self.run(command).unwrap();
        }
        self.digest()
    }

    fn digest(&mut self) -> Value {
        redis::cmd("DEBUG").arg("DIGEST").query(&mut self.connection).unwrap()
    }

    /// Which entries of the queue something is wrong with. What it is may change: an
    /// id that is in another place too is there twice once it is moved to that.
    fn wrong(&self) -> BTreeSet<String> {
        self.runtime.block_on(async {
            let (mut wrong, mut page) = (BTreeSet::new(), None);
            loop {
                let checked = self
                    .broker
                    .check_queue(&self.queue, page.take(), RepairScope::Nothing)
                    .await
                    .unwrap();
                for finding in checked.findings {
                    // "m" is not a message of Asynq's, which no script can tell.
                    if finding.kind == FindingKind::UnreadableMessage {
                        continue;
                    }
                    wrong.extend(finding.samples);
                }
                page = checked.next;
                if page.is_none() {
                    return wrong;
                }
            }
        })
    }
}

/// A way to spoil a key that has this type in the world.
fn spoils(key: &str, kind: &str) -> Vec<String> {
    let mut spoils = Vec::new();
    for (other, command) in [
        ("string", "SET KEY text"),
        ("list", "RPUSH KEY x"),
        ("set", "SADD KEY x"),
        ("hash", "HSET KEY x y"),
        ("zset", "ZADD KEY 1 x"),
    ] {
        // All other types are refused alike; two of them stand for the rest.
        let stands = ["string", if kind == "list" { "zset" } else { "list" }].contains(&other);
        if other != kind && (stands || kind == "string") {
            spoils.push(format!("DEL KEY;{command}"));
        }
    }
    if kind != "none" {
        spoils.push("DEL KEY".to_owned());
    }
    match kind {
        "hash" => spoils.extend(
            ["HDEL KEY msg", "HDEL KEY state", "HSET KEY state gone", "HSET KEY state pending"]
                .into_iter()
                .chain(["HSET KEY x_lost many", "HSET KEY x_owner ?", "HSET KEY group other"])
                .chain(["HSET KEY x_failures ?", "HSET KEY x_version ?"])
                .map(str::to_owned),
        ),
        "string" => spoils.extend(
            ["SET KEY 9223372036854775807", "SET KEY 99999999999999999999", "SET KEY 007"]
                .map(str::to_owned),
        ),
        "zset" => spoils.extend(["ZADD KEY 1 ghost", "ZADD KEY inf ghost"].map(str::to_owned)),
        "list_jobs" => spoils.extend(["RPUSH KEY ghost", "RPUSH KEY p"].map(str::to_owned)),
        "read_set" => spoils.push("SADD KEY ghost".to_owned()),
        _ => {}
    }
    spoils.iter().map(|spoil| spoil.replace("KEY", key)).collect()
}

fn open(beside: &'static str) -> (RedisServer, World) {
    let server = RedisServer::start(&["--enable-debug-command", "yes"]);
    let client = redis::Client::open(format!("redis://{}", server.addr())).unwrap();
    let clock = Clock::manual(Timestamp::from_secs(NOW));
    let topology = Topology::Single(server.addr());
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    let on = World {
        connection: client.get_connection().unwrap(),
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        broker: Arc::new(RedisBroker::new(pool, clock)),
        queue: QueueName::new("q").unwrap(),
        beside,
    };
    (server, on)
}

impl World {
    /// Runs each call of the scripts in the sound world.
    fn run_all(&mut self, scripts: &BTreeMap<String, String>) {
        self.world();
        assert_eq!(self.wrong(), BTreeSet::new(), "the world is sound");
        for (name, text) in scripts {
            for call in calls(name).unwrap_or_default() {
                self.world();
                self.call(text, call).unwrap_or_else(|error| panic!("{name} {call:?}: {error}"));
                let sound = DISMANTLE.contains(&name.as_str()) || self.wrong().is_empty();
                assert!(sound, "{name} {call:?}: {:?}", self.wrong());
            }
        }
    }

    /// Spoils each of the keys in turn, and runs each call of the scripts. Returns how many runs
    /// were refused, and what went wrong.
    fn spoil_all(
        &mut self,
        scripts: &BTreeMap<String, String>,
        keys: &[String],
    ) -> (usize, Vec<String>) {
        let (mut runs, mut refused, mut failures) = (0, 0, Vec::new());
        // The gate looks at a part of the keys on servers that are not the machine's own.
        let sample = std::env::var("JOBQUEUE_TEST_SAMPLE").map_or(1, |n| n.parse().unwrap());
        let sample = sample.min(keys.len().div_ceil(3)); // Three of a few keys.
        for key in keys.iter().step_by(sample) {
            self.world();
            let kind: String = redis::cmd("TYPE").arg(key).query(&mut self.connection).unwrap();
            for spoil in spoils(key, &kind) {
                let mut wrong_before = None;
                let mut spoilt = None;
                for (name, text) in scripts {
                    for call in calls(name).unwrap_or_default() {
                        // Most scripts refuse or only look: then it is as it was.
                        let before = match spoilt.take() {
                            Some(digest) => digest,
                            None => self.spoilt(&spoil),
                        };
                        let answer = self.call(text, call);
                        runs += 1;
                        let after = self.digest();
                        spoilt = (after == before).then(|| after.clone());
                        match answer {
                            Err(error) if after != before => {
                                failures.push(format!(
                                    "{name} {call:?} after {spoil:?} left half: {error}"
                                ));
                            }
                            Err(_) => refused += 1,
                            Ok(_) if after == before || DISMANTLE.contains(&name.as_str()) => {}
                            Ok(_) => {
                                let wrong = self.wrong();
                                let before = wrong_before.get_or_insert_with(|| {
                                    self.spoilt(&spoil);
                                    self.wrong()
                                });
                                let new: Vec<_> = wrong.difference(before).collect();
                                if !new.is_empty() {
                                    failures
                                        .push(format!("{name} {call:?} after {spoil:?}: {new:?}"));
                                }
                            }
                        }
                    }
                }
            }
        }
        println!("{runs} runs, {refused} refused, {} failures", failures.len());
        (refused, failures)
    }
}

#[test]
fn every_script_refuses_or_keeps_the_queue_sound_whatever_key_is_spoilt() {
    let (_server, mut on) = open("");
    let scripts = scripts::all();
    assert!(scripts.len() > 10, "{:?}", scripts.keys());
    let missing: Vec<_> = scripts
        .keys()
        .filter(|name| calls(name).is_none() && !WITHOUT_QUEUE.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "scripts without a line in `calls`: {missing:?}");

    on.run_all(&scripts);
    on.world();
    let mut keys: Vec<String> = on.connection.keys(format!("{Q}*")).unwrap();
    keys.extend(ABSENT.map(|name| format!("{Q}{name}")));
    keys.sort();
    let (refused, failures) = on.spoil_all(&scripts, &keys);
    assert!(refused > 100, "{refused}");
    assert!(failures.is_empty(), "{}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_queue_with_limits_stays_sound_too_whatever_key_of_them_is_spoilt() {
    let (_server, mut on) = open(LIMITED);
    let scripts = scripts::all();
    on.run_all(&scripts);
    let limited: BTreeMap<_, _> =
        scripts.into_iter().filter(|(_, text)| text.contains("x:limits")).collect();
    assert!(limited.len() > 5, "{:?}", limited.keys());
    on.world();
    let mut keys: Vec<String> = on.connection.keys(format!("{Q}x:lim*")).unwrap();
    keys.extend(
        ["x:held", "x:due", "scheduled", "pending", "t:w"].map(|name| format!("{Q}{name}")),
    );
    keys.sort();
    let (refused, failures) = on.spoil_all(&limited, &keys);
    assert!(refused > 20, "{refused}");
    assert!(failures.is_empty(), "{}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_queue_with_successors_stays_sound_too_whatever_key_of_them_is_spoilt() {
    let (_server, mut on) = open(FOLLOWED);
    let scripts = scripts::all();
    on.run_all(&scripts);
    let followed: BTreeMap<_, _> =
        scripts.into_iter().filter(|(_, text)| text.contains("'x_after'")).collect();
    assert!(followed.len() > 5, "{:?}", followed.keys());
    let keys = ["t:h", "t:n", "x:after", "unique:mail:h", "scheduled", "pending"];
    let keys: Vec<String> = keys.iter().map(|name| format!("{Q}{name}")).collect();
    let (refused, failures) = on.spoil_all(&followed, &keys);
    assert!(refused > 20, "{refused}");
    assert!(failures.is_empty(), "{}:\n{}", failures.len(), failures.join("\n"));
}

/// Asynq answers errors with the state or the group in their text, which breaks the
/// protocol's lines where that holds one (CVE-2025-67733).
#[test]
fn no_script_puts_stored_text_into_an_error() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/broker/redis/lua");
    for path in scripts::files(&folder) {
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let code = line.split("--").next().unwrap();
            for word in ["error_reply", "status_reply", "{err", "{ok", "{ err", "{ ok"] {
                assert!(!code.contains(word), "{word:?} in {path:?}: {line}");
            }
            let Some((_, raised)) = code.split_once(" error(") else { continue };
            let text = raised.strip_prefix('\'').and_then(|text| text.strip_suffix("')"));
            assert!(text.is_some_and(|text| !text.contains('\'')), "{path:?}: {line}");
        }
    }
}
