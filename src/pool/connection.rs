//! The pool as a connection of the `redis` crate, for an application's own commands.
//!
//! The traits of the `redis` crate expect plain replies, so requests of this kind are *raw*: an
//! error reply of Redis stays among the values, nothing is repeated, and on a Cluster the crate's
//! own connection finds the server.

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisFuture, RedisResult, Value};
use tokio::time::Instant;

use super::request::Request;
use super::{Haste, RedisPool, only};

/// A handle on a [`RedisPool`] for the `redis` crate's own commands, cheap to clone. Commands
/// are sent once and never repeated.
///
/// It shares its connection with the job queue. So a command that blocks (`BLPOP`, `WAIT`) or
/// changes the connection (`SELECT`, `SUBSCRIBE`, `MULTI` outside a pipeline) does not belong
/// here: it would delay or redirect the queue's own commands.
#[derive(Clone, Debug)]
pub struct Connection(pub(super) RedisPool);

impl Connection {
    /// Sends a request once, with the library's error: an application decides itself about
    /// repeating.
    async fn once(&self, request: Request) -> RedisResult<Vec<Value>> {
        let backend = self.0.backend();
        let deadline = Instant::now() + backend.limit();
        let answer = backend.attempt(deadline, &request, Haste::Patient).await;
        answer.map_err(|failure| failure.error)
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move { self.once(Request::RawOne(cmd.clone())).await.map(only) })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let pipeline = pipeline.clone();
        Box::pin(async move { self.once(Request::RawMany { pipeline, offset, count }).await })
    }

    fn get_db(&self) -> i64 {
        self.0.backend().settings().db
    }
}
