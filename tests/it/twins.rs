//! A fast script and its general twin do the same: on random states of two queues,
//! sound and spoilt, with random calls. One database has the fast script, another one
//! the general script; then replies and the whole content of both are compared.
//!
//! `TWINS_ROUNDS` sets how many states each pair is tried on, `TWINS_SEED` which.

use crate::support::scripts;
use std::collections::BTreeMap;

use crate::support::RedisServer;
use redis::{Connection, RedisResult, Value};

/// In seconds; every script is told the time.
const NOW: i64 = 4_000_000_000;
/// Of that second.
const DAY: &str = "2096-10-02";
const MICROS: i64 = 1_000_000;
const QUEUES: [&str; 2] = ["asynq:{q}:", "asynq:{o}:"];
const IDS: [&[u8]; 9] = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"%41", b"\xff\n"];

type Command = Vec<Vec<u8>>;

fn rounds() -> u64 {
    std::env::var("TWINS_ROUNDS").map_or(600, |rounds| rounds.parse().expect("a number"))
}

fn seed() -> u64 {
    let seed = std::env::var("TWINS_SEED").map_or(12, |seed| seed.parse().expect("a number"));
    println!("TWINS_SEED={seed} TWINS_ROUNDS={}", rounds());
    seed
}

/// What a script is called with.
#[derive(Clone, Debug, Default)]
struct Call {
    queues: Vec<usize>,
    args: Command,
}

impl Call {
    fn of(queues: &[usize], now: i64) -> Self {
        Self { queues: queues.to_vec(), args: vec![now.to_string().into()] }
    }

    fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        self.args.push(arg.as_ref().to_vec());
        self
    }

    fn number(self, number: impl std::fmt::Display) -> Self {
        self.arg(number.to_string())
    }

    fn shown(&self) -> String {
        let args = self.args.iter().map(|arg| arg.escape_ascii().to_string());
        format!("queues {:?}: {}", self.queues, args.collect::<Vec<_>>().join("|"))
    }
}

/// One queue's leases in microseconds, for calls that are to find some.
#[derive(Default)]
struct Leases(BTreeMap<Vec<u8>, (i64, String)>);

/// A state of the store, as the commands that make it.
struct State {
    commands: Vec<Command>,
    leases: [Leases; 2],
    now: i64,
}

struct Dice(fastrand::Rng);

impl Dice {
    fn chance(&mut self, percent: u32) -> bool {
        self.0.u32(..100) < percent
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.0.usize(..of.len())].clone()
    }

    fn id(&mut self) -> &'static [u8] {
        self.one(&IDS)
    }
}

/// The end of a lease as its score is written.
fn score(ends: i64) -> String {
    if ends % MICROS == 0 {
        return (ends / MICROS).to_string();
    }
    format!("{}.{:06}", ends / MICROS, ends % MICROS)
}

fn words(words: &[&[u8]]) -> Command {
    words.iter().map(|word| word.to_vec()).collect()
}

fn key(queue: usize, name: impl AsRef<[u8]>) -> Vec<u8> {
    [QUEUES[queue].as_bytes(), name.as_ref()].concat()
}

fn task(queue: usize, id: &[u8]) -> Vec<u8> {
    key(queue, [b"t:", id].concat())
}

impl State {
    fn random(dice: &mut Dice) -> Self {
        let now = NOW * MICROS + dice.one(&[0, 0, 1, 250_000, 999_999]);
        let mut state = Self { commands: Vec::new(), leases: Default::default(), now };
        for queue in 0..2 {
            state.jobs(queue, dice);
            state.locks(queue, dice);
            state.counters(queue, dice);
            state.damage(queue, dice);
        }
        state
    }

    fn add(&mut self, command: &[&[u8]]) {
        self.commands.push(words(command));
    }

    fn jobs(&mut self, queue: usize, dice: &mut Dice) {
        // Leases that follow each other, as the leases of one answer do.
        let mut ends = self.now + 30 * MICROS + dice.one(&[0, 0, -5 * MICROS, 1, -1]);
        let owner = dice.one(&["7", "9"]);
        let mut ids = IDS.to_vec();
        dice.0.shuffle(&mut ids);
        for id in ids {
            let hash = task(queue, id);
            let role = dice.0.u32(..12);
            let state = match role {
                0 => continue,
                1..=3 => "pending",
                4..=8 => "active",
                9 => "scheduled",
                10 => "retry",
                _ => "archived",
            };
            match state {
                "pending" => {
                    self.add(&[b"LPUSH", &key(queue, "pending"), id]);
                    if dice.chance(40) {
                        // Recovered from an owner who does not know of it yet.
                        ends += 1;
                        let since = "3999999999000000000";
                        let mark = format!("{owner} {since}");
                        self.add(&[b"HSET", &hash, b"x_reclaimed", mark.as_bytes()]);
                        self.add(&[b"HSET", &hash, b"pending_since", since.as_bytes()]);
                        self.leases[queue].0.insert(id.to_vec(), (ends, owner.to_owned()));
                    }
                }
                "active" => {
                    if dice.chance(95) {
                        self.add(&[b"LPUSH", &key(queue, "active"), id]);
                    }
                    let owner = if dice.chance(85) { owner } else { dice.one(&["7", "9", "?"]) };
                    ends += dice.one(&[1, 1, 1, 1, 2, MICROS]);
                    let end = match dice.0.u32(..12) {
                        // A Go worker's.
                        0 => ends / MICROS * MICROS,
                        1 => self.now - 5 * MICROS + 1,
                        _ => ends,
                    };
                    self.leases[queue].0.insert(id.to_vec(), (end, owner.to_owned()));
                    if dice.chance(90) {
                        let score = score(end);
                        self.add(&[b"ZADD", &key(queue, "lease"), score.as_bytes(), id]);
                    }
                    self.add(&[b"HSET", &hash, b"x_owner", owner.as_bytes()]);
                }
                _ => {
                    let due = self.now + dice.one(&[-3, 0, 1, 7]) * MICROS;
                    let second = (due + MICROS - 1).div_euclid(MICROS).to_string();
                    self.add(&[b"ZADD", &key(queue, state), second.as_bytes(), id]);
                    if dice.chance(70) {
                        let exact = due.to_string();
                        self.add(&[b"ZADD", &key(queue, "x:due"), exact.as_bytes(), id]);
                    }
                }
            }
            if dice.chance(93) {
                self.add(&[b"HSET", &hash, b"msg", b"m", b"state", state.as_bytes()]);
            }
            for (field, values) in [
                ("state", &["pending", "active", "aggregating", "gone"][..]),
                ("x_lost", &["1", "2", "many", "-1"]),
                ("x_cancel", &["retry", "archive", "delete", "?"]),
                ("pending_since", &["1", "4000000000000000000", "x"]),
                ("x_progress", &["{}"]),
                // Of this queue, of another one, and none at all.
                ("x_unlock", &["asynq:{q}:unique:t:1", "asynq:{o}:unique:t:1", "text", ""]),
                ("unique_key", &["asynq:{q}:unique:t:1", "asynq:{o}:unique:t:1", "text", ""]),
                ("x_start_by", &["1", "4100000000000000", "x"]),
                ("group", &["digest", ""]),
            ] {
                let share = if field == "state" { 4 } else { 15 };
                if dice.chance(share) && (field != "group" || role > 8) {
                    let value = dice.one(values);
                    self.add(&[b"HSET", &hash, field.as_bytes(), value.as_bytes()]);
                    if field == "x_start_by" {
                        // Every script that writes one writes the other. The janitor may have
                        // put off its next look.
                        let at: &[u8] = dice.one(&[b"1".as_slice(), b"4100000000000000"]);
                        self.add(&[b"ZADD", &key(queue, "x:start_by"), at, id]);
                    }
                }
            }
            // Remains, a ghost, and something else in a job's place.
            match dice.0.u32(..40) {
                0 => self.add(&[b"HDEL", &hash, b"msg"]),
                1 => self.add(&[b"DEL", &hash]),
                2 => {
                    self.add(&[b"DEL", &hash]);
                    self.add(&[b"SET", &hash, b"text"]);
                }
                _ => {}
            }
        }
        // Entries that are there twice, or in two lists.
        for (list, share) in [("pending", 20), ("active", 10)] {
            if dice.chance(share) {
                let id = dice.id();
                self.add(&[b"RPUSH", &key(queue, list), id]);
            }
        }
        if dice.chance(8) {
            let (id, end) = (dice.id(), score(self.now + 30 * MICROS + dice.one(&[0, 1, MICROS])));
            self.add(&[b"ZADD", &key(queue, "lease"), end.as_bytes(), id]);
        }
        if dice.chance(8) {
            let score = dice.one(&["inf", "-inf", "-5", "1e300"]);
            let set = dice.one(&["lease", "scheduled", "retry", "x:due"]);
            self.add(&[b"ZADD", &key(queue, set), score.as_bytes(), b"odd"]);
        }
        // A list in which an entry is looked for from one of its ends.
        if dice.chance(8) {
            let end: &[u8] = dice.one(&[b"LPUSH".as_slice(), b"RPUSH"]);
            for n in 0..200 {
                self.add(&[end, &key(queue, "active"), format!("filler-{n}").as_bytes()]);
            }
        }
    }

    /// A unique lock, which a job that is dequeued may hold.
    fn locks(&mut self, queue: usize, dice: &mut Dice) {
        let lock = key(queue, "unique:t:1");
        match dice.0.u32(..10) {
            0 => self.add(&[b"RPUSH", &lock, b"x"]),
            1..=7 => self.add(&[b"SET", &lock, dice.id()]),
            _ => {}
        }
    }

    fn counters(&mut self, queue: usize, dice: &mut Dice) {
        for name in ["processed", "failed", &format!("processed:{DAY}")] {
            let value = match dice.0.u32(..20) {
                0..=5 => continue,
                6..=12 => "5",
                13 => "9223372036854775807",
                14 => "9223372036854775805",
                15 => "99999999999999999999",
                16 => "many",
                17 => "007",
                18 => "-3",
                _ => {
                    self.add(&[b"RPUSH", &key(queue, name), b"x"]);
                    continue;
                }
            };
            self.add(&[b"SET", &key(queue, name), value.as_bytes()]);
        }
    }

    fn damage(&mut self, queue: usize, dice: &mut Dice) {
        if dice.chance(15) {
            self.add(&[b"SET", &key(queue, "paused"), b"1"]);
        }
        if dice.chance(12) {
            let name = dice.one(&[
                "pending",
                "active",
                "lease",
                "scheduled",
                "retry",
                "x:due",
                "x:start_by",
            ]);
            self.add(&[b"DEL", &key(queue, name)]);
            self.add(&[b"SET", &key(queue, name), b"text"]);
        }
    }
}

/// A database with one of the two scripts.
struct Side {
    connection: Connection,
}

/// All that a database holds, key by key.
const CONTENT: &str = "
    local keys, all = redis.call('KEYS', '*'), {}
    table.sort(keys)
    for _, key in ipairs(keys) do
        local kind, held = redis.call('TYPE', key).ok, nil
        if kind == 'list' then held = redis.call('LRANGE', key, 0, -1)
        elseif kind == 'zset' then held = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
        elseif kind == 'set' then held = redis.call('SMEMBERS', key) table.sort(held)
        elseif kind == 'hash' then
            local fields = redis.call('HGETALL', key)
            local pairs = {}
            for at = 1, #fields, 2 do pairs[#pairs + 1] = fields[at] .. ' = ' .. fields[at + 1] end
            table.sort(pairs)
            held = pairs
        else held = {redis.call('GET', key)} end
        -- Redis 6.2 does not tell the instant: there, that it expires has to do.
        local expires = redis.pcall('EXPIRETIME', key)
        if type(expires) ~= 'number' then expires = redis.call('TTL', key) < 0 and -1 or 1 end
        all[#all + 1] = {key, kind, expires, held}
    end
    return all";

impl Side {
    fn open(server: &RedisServer, database: usize) -> Self {
        let client = redis::Client::open(format!("redis://{}/{database}", server.addr())).unwrap();
        Self { connection: client.get_connection().unwrap() }
    }

    fn fill(&mut self, state: &State) {
        let mut all = redis::pipe();
        all.cmd("FLUSHDB").ignore();
        for command in &state.commands {
            let mut command = command.iter();
            all.cmd(std::str::from_utf8(command.next().unwrap()).unwrap());
            command.for_each(|word| {
                all.arg(word);
            });
            all.ignore();
        }
        // What finds a key of another type there is left out on both sides.
        let _ = all.query::<Value>(&mut self.connection);
    }

    fn call(&mut self, script: &redis::Script, call: &Call) -> RedisResult<Vec<Value>> {
        let mut invocation = script.prepare_invoke();
        for queue in &call.queues {
            invocation.key(key(*queue, "pending"));
        }
        for arg in &call.args {
            invocation.arg(arg);
        }
        invocation.invoke(&mut self.connection)
    }

    fn content(&mut self) -> Value {
        redis::Script::new(CONTENT).invoke(&mut self.connection).unwrap()
    }
}

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::BulkString(text) => std::str::from_utf8(text).unwrap().parse().unwrap(),
        other => panic!("no number: {other:?}"),
    }
}

struct Twins {
    fast: Side,
    general: Side,
    scripts: BTreeMap<String, redis::Script>,
    _server: RedisServer,
}

impl Twins {
    fn open() -> Self {
        let server = RedisServer::start::<&str>(&[]);
        let (fast, general) = (Side::open(&server, 0), Side::open(&server, 1));
        let texts = scripts::all().into_iter();
        let scripts = texts.map(|(name, text)| (name, redis::Script::new(&text))).collect();
        Self { fast, general, scripts, _server: server }
    }

    /// Calls both on this state; what they said, and how often something was changed.
    fn compare(
        &mut self,
        state: &State,
        (fast, fast_call): (&str, &Call),
        (general, general_calls): (&str, &[Call]),
        told: impl Fn(&[Value], &[Vec<Value>]) -> (Vec<i64>, Vec<i64>),
        context: &str,
    ) -> bool {
        self.fast.fill(state);
        self.general.fill(state);
        let before = self.fast.content();
        let one = self.fast.call(&self.scripts[fast], fast_call);
        let others: RedisResult<Vec<_>> = general_calls
            .iter()
            .map(|call| self.general.call(&self.scripts[general], call))
            .collect();
        let (here, there) = (self.fast.content(), self.general.content());
        let shown = || {
            let commands: Vec<String> = state
                .commands
                .iter()
                .map(|words| {
                    let words = words.iter().map(|word| word.escape_ascii().to_string());
                    words.collect::<Vec<_>>().join(" ")
                })
                .collect();
            format!(
                "{context}: {fast} and {general}\n{}\n{fast}: {} gave {one:?}\n{general}: {} gave \
                 {others:?}\n",
                commands.join("\n"),
                fast_call.shown(),
                general_calls.iter().map(Call::shown).collect::<Vec<_>>().join("; ")
            )
        };
        assert_eq!(one.is_ok(), others.is_ok(), "one refuses, the other does not: {}", shown());
        if one.is_err() {
            assert_eq!(here, before, "refused and changed: {}", shown());
            if general_calls.len() == 1 {
                assert_eq!(there, before, "refused and changed: {}", shown());
            }
            return false;
        }
        let (one, others) = (one.as_ref().unwrap(), others.as_ref().unwrap());
        let (said, wanted) = told(one, others);
        assert_eq!(said, wanted, "the replies differ: {}", shown());
        if here != there {
            let (Value::Array(here), Value::Array(there)) = (&here, &there) else { panic!() };
            let only = |these: &[Value], those: &[Value]| {
                let odd = these.iter().filter(|one| !those.contains(one));
                odd.map(|one| format!("{one:?}")).collect::<Vec<_>>().join("\n  ")
            };
            panic!(
                "the content differs: {}only after {fast}:\n  {}\nonly after {general}:\n  {}",
                shown(),
                only(here, there),
                only(there, here)
            );
        }
        here != before
    }
}

/// Jobs that are said to be done, in runs of leases that follow each other.
fn done(call: Call, state: &State, queue: usize, dice: &mut Dice) -> (Call, usize) {
    let mut ended: Vec<(i64, String, Vec<u8>)> = Vec::new();
    let whole = dice.chance(40);
    for (id, (ends, owner)) in &state.leases[queue].0 {
        if ends % MICROS != 0 && (whole || dice.chance(50)) {
            ended.push((*ends, owner.clone(), id.clone()));
        }
    }
    if dice.chance(15) {
        // A lease that was extended or lost meanwhile, or never was.
        let ends = state.now + 12 * MICROS + 1;
        ended.push((ends, dice.one(&["7", "9"]).to_owned(), dice.id().to_vec()));
    }
    if dice.chance(8)
        && let Some(again) = ended.first().cloned()
    {
        ended.push(again);
    }
    ended.sort();
    let follows = |one: &(i64, String, Vec<u8>), other: &(i64, String, Vec<u8>)| {
        one.1 == other.1 && one.0 + 1 == other.0
    };
    let runs: Vec<_> = ended.chunk_by(follows).collect();
    let call = ended.iter().fold(call.number(ended.len()), |call, (_, _, id)| call.arg(id));
    let call = runs.iter().fold(call.number(runs.len()), |call, run| {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        call.number(run.len()).arg(&first.1).arg(score(first.0)).arg(score(last.0))
    });
    (call, ended.len())
}

#[test]
fn finish_and_dequeue_does_what_settle_and_dequeue_does() {
    let (mut twins, seed) = (Twins::open(), seed());
    let (mut changed, mut total) = (0, 0);
    for round in 0..rounds() {
        let mut dice = Dice(fastrand::Rng::with_seed(seed.wrapping_add(round)));
        let state = State::random(&mut dice);
        let queues = dice.one(&[vec![0], vec![0, 1], vec![1, 0]]);
        let giving = dice.0.usize(1..=queues.len());
        let room = dice.one(&[0, 1, 2, 3, 9]);
        let until = match dice.0.u32(..10) {
            0 => (state.now - 1).to_string(),
            1 => (state.now + MICROS).to_string(),
            _ => String::new(),
        };
        let fast = Call::of(&queues, state.now).number(room).arg(&until).arg("77").number(giving);
        let general = Call::of(&queues, state.now).number(0).number(room).arg(&until);
        let (mut fast, mut general) = (fast, general.arg("77").number(giving));
        let mut ended = 0;
        for queue in &queues {
            let (part, number) = done(Call::default(), &state, *queue, &mut dice);
            ended += number;
            fast.args.extend(part.args.iter().cloned());
            general = general.arg("").number(9999).number(7_776_000);
            general.args.extend(part.args);
            general = general.number(0);
        }
        // The fast script names the lost jobs, the general one the result of each.
        let told = |fast: &[Value], general: &[Vec<Value>]| {
            let general = &general[0];
            let number = int(&fast[2]) as usize;
            let lost: Vec<i64> = fast[3..3 + number].iter().map(int).collect();
            let codes = (1..=ended as i64).map(|nth| i64::from(!lost.contains(&nth)));
            let mut said: Vec<i64> = fast[..2].iter().map(int).chain(codes).collect();
            let mut wanted: Vec<i64> = general[..2 + ended].iter().map(int).collect();
            // Both report the dequeued jobs in the same form.
            let (rest, other) = (&fast[3 + number..], &general[2 + ended..]);
            said.push(1);
            wanted.push(i64::from(rest == other));
            (said, wanted)
        };
        let context = format!("seed {} (round {round})", seed.wrapping_add(round));
        let changes = twins.compare(
            &state,
            ("finish_and_dequeue", &fast),
            ("settle_and_dequeue", std::slice::from_ref(&general)),
            told,
            &context,
        );
        changed += u64::from(changes);
        total += 1;
    }
    println!("{changed} of {total} calls changed something");
    assert!(changed * 3 > total, "{changed} of {total}");
}

/// The parts of an answer that begins with the time.
fn after_now(answer: &[Value]) -> Vec<i64> {
    answer[1..].iter().map(int).collect()
}

#[test]
fn enqueue_now_does_what_enqueue_does() {
    let (mut twins, seed) = (Twins::open(), seed());
    let (mut changed, mut total) = (0, 0);
    for round in 0..rounds() {
        let mut dice = Dice(fastrand::Rng::with_seed(seed.wrapping_add(round)));
        let state = State::random(&mut dice);
        let queues = dice.one(&[vec![0], vec![0], vec![0, 1]]);
        let (mut fast, mut general) = (Call::of(&queues, state.now), Vec::new());
        for queue in &queues {
            let number = dice.one(&[1, 1, 2, 5]);
            let mut other = Call::of(&[*queue], state.now).number(0);
            fast = fast.number(number);
            for nth in 0..number {
                let id = if dice.chance(60) { dice.id().to_vec() } else { vec![b'n', nth as u8] };
                fast = fast.arg(&id).arg("new");
                other = other.arg(&id).arg("new").arg("now").number(0);
                other =
                    other.arg("").number(0).arg("").arg("").number(0).arg("").arg("").arg("reject");
                other = other.arg("").arg("");
            }
            general.push(other);
        }
        let told = |fast: &[Value], general: &[Vec<Value>]| {
            let codes = general.iter().flat_map(|answer| answer[1..].chunks(3));
            let codes: Vec<i64> = codes.map(|job| int(&job[0])).collect();
            let in_use = (1..).zip(&codes).filter(|(_, code)| **code == 0).map(|(nth, _)| nth);
            assert!(codes.iter().all(|code| [0, 1].contains(code)), "{codes:?}");
            let now = [int(&fast[0]), int(&general[0][0])];
            let said = now[..1].iter().copied().chain(after_now(fast)).collect();
            (said, now[1..].iter().copied().chain(in_use).collect())
        };
        let context = format!("seed {} (round {round})", seed.wrapping_add(round));
        let changes =
            twins.compare(&state, ("enqueue_now", &fast), ("enqueue", &general), told, &context);
        changed += u64::from(changes);
        total += 1;
    }
    println!("{changed} of {total} calls changed something");
    assert!(changed * 2 > total, "{changed} of {total}");
}

#[test]
fn enqueue_later_does_what_enqueue_does() {
    let (mut twins, seed) = (Twins::open(), seed());
    let (mut changed, mut total) = (0, 0);
    for round in 0..rounds() {
        let mut dice = Dice(fastrand::Rng::with_seed(seed.wrapping_add(round)));
        let state = State::random(&mut dice);
        let repeated = i64::from(dice.chance(30));
        let mut fast = Call::of(&[0], state.now).number(repeated);
        let mut general = fast.clone();
        for nth in 0..dice.one(&[1, 1, 2, 4]) {
            let id = if dice.chance(50) { dice.id().to_vec() } else { vec![b'n', nth] };
            // Of a repetition, some have the very message that is stored.
            let message = dice.one(&["m", "new"]);
            let (placement, time) = match dice.0.u32(..6) {
                0 => ("after", 0),
                1 => ("after", 1),
                2 => ("after", 4_100_000_000 * MICROS * 100),
                3 => ("at", dice.one(&[1, state.now, -MICROS])),
                4 => ("at", state.now + dice.one(&[1, MICROS, 7 * MICROS + 1])),
                _ => ("after", dice.one(&[5 * MICROS, 90 * MICROS + 1])),
            };
            let job = |call: Call| call.arg(&id).arg(message).arg(placement).number(time);
            fast = job(fast);
            general = job(general)
                .arg("")
                .number(0)
                .arg("")
                .arg("")
                .number(0)
                .arg("")
                .arg("")
                .arg("reject")
                .arg("")
                .arg("");
        }
        let told = |fast: &[Value], general: &[Vec<Value>]| {
            let general = &general[0];
            // When it is due says nothing if the id is in use.
            let due = |code: i64, due: &Value| [code, if code == 0 { 0 } else { int(due) }];
            let said = fast[1..].chunks(2).flat_map(|job| due(int(&job[0]), &job[1]));
            let wanted = general[1..].chunks(3).flat_map(|job| due(int(&job[0]), &job[2]));
            (
                [int(&fast[0])].into_iter().chain(said).collect(),
                [int(&general[0])].into_iter().chain(wanted).collect(),
            )
        };
        let context = format!("seed {} (round {round})", seed.wrapping_add(round));
        let general = [general];
        let changes =
            twins.compare(&state, ("enqueue_later", &fast), ("enqueue", &general), told, &context);
        changed += u64::from(changes);
        total += 1;
    }
    println!("{changed} of {total} calls changed something");
    assert!(changed * 3 > total, "{changed} of {total}");
}

/// Due only looks; forward does the work and says when the next job is due.
#[test]
fn next_due_tells_what_forward_due_finds() {
    let (mut twins, seed) = (Twins::open(), seed());
    let mut moved = 0;
    for round in 0..rounds() {
        let mut dice = Dice(fastrand::Rng::with_seed(seed.wrapping_add(round)));
        let state = State::random(&mut dice);
        let context = format!("seed {} (round {round})", seed.wrapping_add(round));
        twins.fast.fill(&state);
        let before = twins.fast.content();
        let look = Call::of(&[0], state.now);
        let due = twins.fast.call(&twins.scripts["next_due"], &look).unwrap();
        assert_eq!(twins.fast.content(), before, "{context}: it only looks");
        let due = int(&due[1]);

        let call = Call::of(&[0], state.now).number(1000).number(1_000_000).number(1000);
        let Ok(forwarded) = twins.fast.call(&twins.scripts["forward_due"], &call) else {
            assert_eq!(twins.fast.content(), before, "{context}: refused and changed");
            continue;
        };
        let (number, wait) = (int(&forwarded[1]), int(&forwarded[2]));
        moved += number;
        if due != 0 {
            assert_eq!((number, wait), (0, due), "{context}: nothing was due");
        }
        let next = twins.fast.call(&twins.scripts["next_due"], &look).unwrap();
        assert_eq!(int(&next[1]), wait, "{context}: what is left");
    }
    assert!(moved as u64 > rounds() / 4, "{moved}");
}
