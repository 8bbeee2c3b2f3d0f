//! What is sent to Redis: a command, a pipeline, or a script by its digest.
//!
//! A script is sent as `EVALSHA`, with the digest instead of the text. A server that does not know
//! the digest has run nothing; the text then follows with `EVAL` in the same attempt. On a Cluster
//! a script declares one key more than it uses, its *guard*: see [`never_key`] for how that keeps a
//! queue whole while its slot moves.
//!
//! What may surprise. A [`Request`] may be sent several times, so it holds everything by value.
//! One built for the `redis` crate's own traits is *raw*: errors come back among its values, and
//! nothing is repeated.

use std::sync::{Arc, OnceLock};

use redis::aio::ConnectionLike;
use redis::{Arg, Cmd, Pipeline, RedisResult, ToRedisArgs, Value};

use super::confirm::Confirmation;
use super::failure;
use super::link::Link;
use super::slot_map::never_key;

/// A Lua script, known to Redis by the digest of its code.
///
/// Clones share the code; the digest is computed once, when the script is made.
#[derive(Clone, Debug)]
pub struct LuaScript {
    name: &'static str,
    code: Arc<str>,
    sha: Arc<str>,
    guarded: Arc<OnceLock<GuardedScript>>,
}

/// The script as a Cluster runs it: with one key more, which it does not see. The prefix
/// removes that key from `KEYS` before the script's own code runs, so scripts that count their
/// keys need not know. Its digest differs, so it is another script for Redis.
#[derive(Debug)]
struct GuardedScript {
    code: String,
    sha: String,
}

impl LuaScript {
    /// A script of this name, which is for logs only.
    pub fn new(name: &'static str, code: impl Into<String>) -> Self {
        let code = code.into();
        let sha = redis::Script::new(&code).get_hash().into();
        Self { name, code: code.into(), sha, guarded: Arc::default() }
    }

    /// The name it was given, for messages: Redis knows scripts by digest.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The SHA-1 of its code, in hexadecimal digits.
    pub fn sha(&self) -> &str {
        &self.sha
    }

    /// The variant for a Cluster, made at its first use.
    fn guarded(&self) -> &GuardedScript {
        self.guarded.get_or_init(|| {
            // On the first line, so that errors name the line of the file.
            let code = format!("KEYS[#KEYS] = nil {}", self.code);
            let sha = redis::Script::new(&code).get_hash().to_owned();
            GuardedScript { code, sha }
        })
    }
}

/// How a request is sent to a server of a Cluster. Elsewhere the default is used.
#[derive(Clone, Debug, Default)]
pub(super) struct Manner {
    /// A key that never exists, declared by a script beside its own.
    pub guard: Option<Vec<u8>>,
    /// The server is importing the slot: `ASKING` goes before the command.
    pub asking: bool,
}

/// The keys and arguments of one call of a [`LuaScript`].
#[derive(Clone, Debug, Default)]
pub struct ScriptCall {
    // A `Cmd` keeps all arguments in one allocation, so it serves as a list of bytes here.
    keys: Cmd,
    args: Cmd,
    in_full: bool,
}

impl ScriptCall {
    /// A call without keys and arguments; [`key`](Self::key) and [`arg`](Self::arg) add them, in
    /// the order of the script's header.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key: `KEYS[n]` of the script.
    #[must_use]
    pub fn key(mut self, key: impl ToRedisArgs) -> Self {
        key.write_redis_args(&mut self.keys);
        self
    }

    /// Adds an argument: `ARGV[n]` of the script.
    #[must_use]
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        arg.write_redis_args(&mut self.args);
        self
    }

    /// Sends the script's text, not only its hash, if the server may not know it and later
    /// calls must not overtake this one: a server that asks for the text first runs it last.
    #[must_use]
    pub fn in_full(mut self) -> Self {
        self.in_full = true;
        self
    }

    /// `EVALSHA` or `EVAL` with keys and arguments; `guard` is one key more.
    fn command(&self, name: &str, body: &str, guard: Option<&[u8]>) -> Cmd {
        let (keys, args) = (self.keys.args_iter(), self.args.args_iter());
        let size: usize = keys.clone().chain(args.clone()).filter_map(plain).map(<[u8]>::len).sum();
        let (extra, extra_size) = guard.map_or((0, 0), |guard| (1, guard.len()));
        let count = 3 + keys.len() + extra + args.len();
        let size = size + name.len() + body.len() + extra_size + 8;
        let mut command = Cmd::with_capacity(count, size);
        command.arg(name).arg(body).arg(keys.len() + extra);
        for bytes in keys.filter_map(plain).chain(guard).chain(args.filter_map(plain)) {
            command.arg(bytes);
        }
        command
    }
}

/// The bytes of an argument; `None` for the cursor of a SCAN, which the `redis` crate fills in
/// itself.
fn plain(arg: Arg<&[u8]>) -> Option<&[u8]> {
    match arg {
        Arg::Simple(bytes) => Some(bytes),
        _ => None,
    }
}

/// The first key of a command of ours, or `None` if it has none. For a script that is the third
/// argument, after the digest and the number of keys. It knows the commands that this crate
/// sends, not all of Redis: an application's own commands go through the `redis` crate instead.
fn key_of(command: &Cmd) -> Option<&[u8]> {
    const KEYLESS: [&[u8]; 8] =
        [b"PING", b"INFO", b"CLUSTER", b"CONFIG", b"ROLE", b"TIME", b"SCRIPT", b"WAIT"];
    let mut args = command.args_iter().filter_map(plain);
    let name = args.next()?;
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    if KEYLESS.iter().any(|keyless| is(keyless)) {
        return None;
    }
    let place = if is(b"EVAL") || is(b"EVALSHA") { 2 } else { 0 };
    args.nth(place)
}

/// One request in the form in which it is sent. It is built again for each attempt, because a
/// repetition may carry a mark that it is one.
pub(super) enum Request {
    /// One command.
    One(Cmd),
    /// Several commands in one write; on a Cluster, of one slot.
    Many(Pipeline),
    /// A script and the keys and arguments of one call.
    Script(LuaScript, ScriptCall),
    /// A script whose writes replicas must confirm.
    Confirmed(LuaScript, ScriptCall, Confirmation),
    /// A command of the `redis` crate's traits: errors stay in the values.
    RawOne(Cmd),
    /// The same for a pipeline, of whose answers `count` from `offset` on are wanted.
    RawMany { pipeline: Pipeline, offset: usize, count: usize },
}

impl Request {
    /// Sends it and waits for the answer without a timeout; the caller bounds the time.
    pub(super) async fn send(&self, mut link: Link, manner: &Manner) -> RedisResult<Vec<Value>> {
        let link = &mut link;
        match self {
            Request::One(command) => Ok(vec![one(link, command, manner).await?]),
            Request::Many(pipeline) => pipeline.query_async(link).await,
            Request::Script(script, call) | Request::Confirmed(script, call, _) => {
                let guard = manner.guard.as_deref();
                let (sha, code) = match guard {
                    None => (&*script.sha, &*script.code),
                    Some(_) => (&*script.guarded().sha, &*script.guarded().code),
                };
                let first = match call.in_full {
                    true => call.command("EVAL", code, guard),
                    false => call.command("EVALSHA", sha, guard),
                };
                match self.one(link, &first, manner).await {
                    // Forgotten by a restart, a failover or SCRIPT FLUSH. It did
                    // not run, and EVAL both runs it and makes it known again.
                    Err(error) if failure::is_noscript(&error) => {
                        let command = call.command("EVAL", code, guard);
                        Ok(vec![self.one(link, &command, manner).await?])
                    }
                    known => Ok(vec![known?]),
                }
            }
            Request::RawOne(command) => Ok(vec![link.req_packed_command(command).await?]),
            Request::RawMany { pipeline, offset, count } => {
                link.req_packed_commands(pipeline, *offset, *count).await
            }
        }
    }

    /// Sends the command, with the wait for replicas if it has one.
    async fn one(&self, link: &mut Link, command: &Cmd, manner: &Manner) -> RedisResult<Value> {
        match self {
            Request::Confirmed(_, _, confirmation) => {
                confirmation.run(link, command, manner.asking).await
            }
            _ => one(link, command, manner).await,
        }
    }

    /// The first key, which decides the slot in a Cluster. `None` for requests that any server
    /// can answer, and for raw ones, which find their server by themselves.
    pub(super) fn key(&self) -> Option<&[u8]> {
        match self {
            Request::One(command) => key_of(command),
            Request::Many(pipeline) => pipeline.cmd_iter().find_map(key_of),
            Request::Script(_, call) | Request::Confirmed(_, call, _) => {
                call.keys.args_iter().find_map(plain)
            }
            Request::RawOne(_) | Request::RawMany { .. } => None,
        }
    }

    /// The key that a script declares beside its own on a Cluster. Plain commands have none:
    /// they use a single key, so whichever server has it answers rightly.
    pub(super) fn guard(&self) -> Option<Vec<u8>> {
        match self {
            Request::Script(..) | Request::Confirmed(..) => self.key().and_then(never_key),
            _ => None,
        }
    }

    /// Whether every server of a Cluster is asked, because each has its own answer.
    pub(super) fn is_for_all(&self) -> bool {
        let name = |command: &Cmd| command.args_iter().find_map(plain).map(<[u8]>::to_vec);
        match self {
            Request::One(command) => name(command).is_some_and(|name| {
                [&b"PING"[..], b"INFO"].iter().any(|one| name.eq_ignore_ascii_case(one))
            }),
            _ => false,
        }
    }

    /// Whether it keeps its connection from all others for a while.
    pub(super) fn occupies(&self) -> bool {
        matches!(self, Request::Confirmed(..))
    }

    /// Whether errors come back among the values.
    pub(super) fn is_raw(&self) -> bool {
        matches!(self, Request::RawOne(_) | Request::RawMany { .. })
    }

    /// Whether it has several commands, of which some may have run although one was refused.
    /// Such a request is not sent again as a whole. A transaction runs as one.
    pub(super) fn is_divisible(&self) -> bool {
        match self {
            Request::One(_) | Request::Script(..) | Request::Confirmed(..) | Request::RawOne(_) => {
                false
            }
            Request::Many(pipeline) | Request::RawMany { pipeline, .. } => {
                !pipeline.is_transaction() && pipeline.len() > 1
            }
        }
    }
}

/// Sends one command, after ASKING if the server is importing its slot.
async fn one(link: &mut Link, command: &Cmd, manner: &Manner) -> RedisResult<Value> {
    if !manner.asking {
        return command.query_async(link).await;
    }
    // In one pipeline, so that no other command of this connection comes between the two.
    let mut pipeline = Pipeline::new();
    pipeline.cmd("ASKING").add_command(command.clone());
    let mut answers = link.req_packed_commands(&pipeline, 1, 1).await?;
    answers.pop().unwrap_or(Value::Nil).extract_error()
}
