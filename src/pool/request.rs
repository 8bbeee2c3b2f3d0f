//! What is sent to Redis: a command, a pipeline, or a script by its digest.

use std::sync::Arc;

use redis::aio::ConnectionLike;
use redis::cluster_routing::SingleNodeRoutingInfo;
use redis::{
    Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, ToRedisArgs, Value,
};

use super::dial::Link;
use super::failure;

/// A Lua script, known to Redis by the digest of its code.
///
/// Clones share the code; the digest is computed once.
#[derive(Clone, Debug)]
pub struct LuaScript {
    name: &'static str,
    code: Arc<str>,
    sha: Arc<str>,
}

impl LuaScript {
    /// A script of this name, which is for logs only.
    pub fn new(name: &'static str, code: impl Into<String>) -> Self {
        let code = code.into();
        let sha = redis::Script::new(&code).get_hash().into();
        Self { name, code: code.into(), sha }
    }

    /// The name it was given.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The SHA-1 of its code, in hexadecimal digits.
    pub fn sha(&self) -> &str {
        &self.sha
    }
}

/// The keys and arguments of one call of a [`LuaScript`].
#[derive(Clone, Debug, Default)]
pub struct ScriptCall {
    // Commands hold their arguments in one piece of memory.
    keys: Cmd,
    args: Cmd,
}

impl ScriptCall {
    /// A call without keys and arguments.
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

    fn command(&self, name: &str, body: &str) -> Cmd {
        let (keys, args) = (self.keys.args_iter(), self.args.args_iter());
        let plain = |arg| match arg {
            Arg::Simple(bytes) => Some(bytes),
            _ => None,
        };
        let size: usize = keys.clone().chain(args.clone()).filter_map(plain).map(<[u8]>::len).sum();
        let count = 3 + keys.len() + args.len();
        let mut command = Cmd::with_capacity(count, size + name.len() + body.len() + 8);
        command.arg(name).arg(body).arg(keys.len());
        for bytes in keys.chain(args).filter_map(plain) {
            command.arg(bytes);
        }
        command
    }
}

/// One request in the form in which it is sent.
pub(super) enum Request {
    One(Cmd),
    Many(Pipeline),
    Script(LuaScript, ScriptCall),
    /// As the library's traits ask for it: errors stay in the values.
    RawOne(Cmd),
    RawMany {
        pipeline: Pipeline,
        offset: usize,
        count: usize,
    },
}

impl Request {
    /// Sends it and waits for the answer, however long that takes.
    pub async fn send(&self, mut link: Link) -> RedisResult<Vec<Value>> {
        let link = &mut link;
        match self {
            Request::One(command) => Ok(vec![one(link, command).await?]),
            Request::Many(pipeline) => pipeline.query_async(link).await,
            Request::Script(script, call) => {
                match one(link, &call.command("EVALSHA", &script.sha)).await {
                    // Forgotten by a restart, a failover or SCRIPT FLUSH. It did
                    // not run, and EVAL both runs it and makes it known again.
                    Err(error) if failure::is_noscript(&error) => {
                        Ok(vec![one(link, &call.command("EVAL", &script.code)).await?])
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

    /// Several commands of which some may have run where another was refused.
    pub fn is_divisible(&self) -> bool {
        match self {
            Request::One(_) | Request::Script(..) | Request::RawOne(_) => false,
            Request::Many(pipeline) | Request::RawMany { pipeline, .. } => {
                !pipeline.is_transaction() && pipeline.len() > 1
            }
        }
    }
}

/// Sends one command; where a Cluster names another node for its keys, to that.
///
/// The library would follow too, but only together with repetitions of its own.
async fn one(link: &mut Link, command: &Cmd) -> RedisResult<Value> {
    let error = match command.query_async(link).await {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    match link {
        Link::Cluster(_) => follow(link, command, error).await,
        Link::Server(_) => Err(error),
    }
}

async fn follow(link: &mut Link, command: &Cmd, error: RedisError) -> RedisResult<Value> {
    let asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
    let node = error.redirect_node().and_then(|(addr, _)| addr.rsplit_once(':'));
    let (Link::Cluster(cluster), Some((host, port))) = (link, node) else { return Err(error) };
    let (host, Ok(port)) = (host.to_owned(), port.parse()) else { return Err(error) };
    // In one go, so that no other command comes between the two.
    let mut pipeline = Pipeline::new();
    if asking {
        pipeline.cmd("ASKING");
    }
    pipeline.add_command(command.clone());
    let route = SingleNodeRoutingInfo::ByAddress { host, port };
    match cluster.route_pipeline(pipeline, usize::from(asking), 1, route).await {
        Ok(mut answers) => answers.pop().unwrap_or(Value::Nil).extract_error(),
        // Not met yet: by the next attempt the library may have.
        Err(unknown) if unknown.kind() == ErrorKind::ClusterConnectionNotFound => Err(error),
        Err(other) => Err(other),
    }
}
