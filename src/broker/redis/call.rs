//! How scripts and commands are called.
//!
//! A call names its queues by one key each, from which the script derives all others; on a
//! Cluster they must share a slot. Next comes the time: empty, so that the script asks
//! Redis for it, or the time of a manual clock. The script's own arguments follow. Its reply
//! begins with the time at which it ran, from which the store's clock is learned.
//!
//! Three kinds of calls differ in what a lost reply means. [`ask`](RedisBroker::ask) and
//! [`ask_all`](RedisBroker::ask_all) are repeated by the pool only if the caller says that
//! repeating is safe. [`promise`](RedisBroker::promise) stores jobs: with `wait_replicas` it
//! waits until replicas have the write, and otherwise the outcome counts as unknown.
//! [`promise_now`](RedisBroker::promise_now) is the fast path for jobs that are due now.
//!
//! What may surprise. The arguments are built by a closure that gets the number of the
//! attempt: some scripts treat a repetition differently, because it may find the work of
//! the attempt before.

use std::time::Instant;

use ::redis::Value;

use super::reply::Reply;
use super::{RedisBroker, keys};
use crate::error::Error;
use crate::job::QueueName;
use crate::pool::{LuaScript, Repeat, ScriptCall};

impl RedisBroker {
    /// Runs a script on one queue and learns the store's time from its reply. `arguments` gets
    /// the number of earlier attempts that may have run, and a call that has the keys and the
    /// time already.
    ///
    /// # Errors
    /// The pool's, and [`Error::is_damaged`] for a reply that is not this script's.
    pub(super) async fn ask(
        &self,
        script: &LuaScript,
        queue: &QueueName,
        repeat: Repeat,
        arguments: impl FnMut(u32, ScriptCall) -> ScriptCall + Send,
    ) -> Result<Reply, Error> {
        self.ask_all(script, [queue].into_iter(), repeat, arguments).await
    }

    /// Like [`promise`](Self::promise), once, with the estimate of the store's time if it is
    /// recent, which spares the script one reading of the clock. Only for jobs that are due now:
    /// their time is compared with nothing.
    pub(super) async fn promise_now<'a>(
        &self,
        script: &LuaScript,
        queues: impl Iterator<Item = &'a QueueName> + Clone + Send + Sync,
        arguments: impl Fn(ScriptCall) -> ScriptCall + Send + Sync,
    ) -> Result<Reply, Error> {
        let now = self.clock.recent().map(|now| now.as_micros().to_string());
        let now = now.unwrap_or_else(|| self.clock.argument());
        self.promise(script, queues, Repeat::Never, &now, |_, call| arguments(call)).await
    }

    /// Runs a script that stores jobs. If `wait_replicas` is set, that many replicas must
    /// have the write before it counts as done.
    pub(super) async fn promise<'a>(
        &self,
        script: &LuaScript,
        queues: impl Iterator<Item = &'a QueueName> + Clone + Send + Sync,
        repeat: Repeat,
        now: &str,
        mut arguments: impl FnMut(u32, ScriptCall) -> ScriptCall + Send,
    ) -> Result<Reply, Error> {
        let call = |attempt| arguments(attempt, with_keys(queues.clone()).arg(now));
        let (Some(pool), Some(first)) = (&self.confirming, queues.clone().next()) else {
            let asked = Instant::now();
            let reply = Reply::timed(self.pool.eval(script, repeat, call).await?)?;
            if now.is_empty() {
                self.clock.learn(asked, reply.now());
            }
            return Ok(reply);
        };
        // The reply waited for the replicas, so it says little about the time.
        Reply::timed(pool.eval_confirmed(script, repeat, &keys::witness(first), call).await?)
    }

    /// Runs a script on several queues, which must share a Cluster slot.
    pub(super) async fn ask_all<'a>(
        &self,
        script: &LuaScript,
        queues: impl Iterator<Item = &'a QueueName> + Clone + Send + Sync,
        repeat: Repeat,
        mut arguments: impl FnMut(u32, ScriptCall) -> ScriptCall + Send,
    ) -> Result<Reply, Error> {
        let asked = Instant::now();
        let call =
            |attempt| arguments(attempt, with_keys(queues.clone()).arg(self.clock.argument()));
        let reply = Reply::timed(self.pool.eval(script, repeat, call).await?)?;
        self.clock.learn(asked, reply.now());
        Ok(reply)
    }

    /// Runs a plain Redis command, with its key first. Neither the time nor an expected type:
    /// the caller reads the answer.
    pub(super) async fn command(
        &self,
        repeat: Repeat,
        name: &str,
        args: &[Vec<u8>],
    ) -> Result<Value, Error> {
        let command = |_| {
            let mut command = ::redis::cmd(name);
            command.arg(args);
            command
        };
        self.pool.run(repeat, command).await
    }
}

/// A call with one key of each queue; scripts derive the others from it.
fn with_keys<'a>(queues: impl Iterator<Item = &'a QueueName>) -> ScriptCall {
    queues.fold(ScriptCall::new(), |call, queue| call.key(keys::pending(queue)))
}
