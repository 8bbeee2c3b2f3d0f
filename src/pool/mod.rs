//! Connections to one Redis: a single server, Sentinel or a Cluster. No other module dials.
//!
//! A [`RedisPool`] dials when it is first used and reconnects by itself. While Redis is down
//! each request fails within the request limit instead of waiting. Replies are RESP2.
//!
//! The caller knows what a command means and whether it may be sent twice, and says so with
//! [`Repeat`]. The pool knows how often and how long to try, and reports one of three
//! results: the reply, an error that proves that the command did not run, or an unknown
//! outcome (the command may have run).
//!
//! A request goes through [`slot`] (the connections to one server) or, on a Cluster, through
//! [`cluster`] (one set of connections for each server, chosen by slot). Both dial with
//! [`dial`]; [`sentinel`] says which server is the master, and [`failure`] classifies errors.
//!
//! Three rooms use it: the Redis broker for jobs, the rate limiter for its counters, and the web
//! folder, which lends an application a [`Connection`] for its own commands.
//!
//! What may surprise:
//! - One process has several pools of the same Redis. The dispatcher, the heartbeat, a command
//!   that blocks and a script that waits for replicas must not queue behind each other, so each
//!   gets connections of its own ([`detached`](RedisPool::detached),
//!   [`blocking`](RedisPool::blocking), [`confirming`](RedisPool::confirming)). Only the first
//!   pool logs that Redis is gone and that it is back.
//! - A connection lives on the runtime that dialled it. A pool for another runtime is made with
//!   `detached`.
//! - A request that found no connection is not tried again by itself. The failed dial is
//!   remembered for 100 ms, so another attempt would get the same failure.
//! - With Sentinels, the reply of a server that has lost its role does not count: its writes may
//!   be discarded. The caller gets an unknown outcome.

mod address;
mod aside;
mod backend;
mod claim;
mod cluster;
mod cluster_node;
mod confirm;
mod connection;
mod connection_slot;
mod dial;
mod failure;
mod handshake;
mod health;
mod link;
mod open;
mod pace;
mod repeat;
mod request;
mod role;
mod sentinel;
mod sentinel_watch;
mod settings;
mod slot;
mod slot_map;
mod spare;
mod subscribe;
mod tls;
mod topology;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use address::shown;
use aside::Aside;
use backend::{Backend, Handle, Haste};
use confirm::Confirmation;
use dial::Dialer;
use failure::told;
use request::Request;
use slot_map::slot_of;

pub(crate) use aside::lower_priority;
pub use connection::Connection;
pub use failure::classify;
pub use handshake::handshake_failure;
pub use request::{LuaScript, ScriptCall};
pub use settings::{PoolSettings, Topology};
pub use tls::TlsOptions;
pub(crate) use tls::WrongOption;

/// Connections for scripts that wait for replicas. Such a script blocks its connection until
/// the replicas have answered, so this is also the number of confirmed enqueues at a time.
const CONFIRMING_CONNECTIONS: u32 = 4;

/// Whether a command may be sent again although it may have been carried out.
///
/// A command that certainly did not run (no connection, a server that is loading its data or
/// is no longer the master) is sent again in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Sent once: repeating could do it twice.
    Never,
    /// May be sent again after an unknown outcome.
    Safe,
}

/// The connections to one Redis. Clones share them.
///
/// Nothing is dialled before the first command; from then on one connection is
/// kept, checked with a PING once a second and replaced when it is lost. While Redis is down
/// every command fails at once. Commands succeed again within two seconds of its return.
#[derive(Clone)]
pub struct RedisPool {
    handle: Arc<Handle>,
    haste: Haste,
    /// Only of a pool for viewers.
    aside: Option<Arc<Aside>>,
}

impl RedisPool {
    /// Parses the settings. Nothing is dialled, and no runtime is needed yet.
    ///
    /// A wrong address is an [`Error`] that [`is_config`](Error::is_config).
    pub fn new(settings: PoolSettings) -> Result<Self, Error> {
        Self::with(settings, false)
    }

    /// The same, without log lines about lost connections: the owner writes its own.
    pub(crate) fn quiet(settings: PoolSettings) -> Result<Self, Error> {
        Self::with(settings, true)
    }

    fn with(settings: PoolSettings, quiet: bool) -> Result<Self, Error> {
        let dialer = Arc::new(Dialer::new(&settings, settings.read_timeout)?);
        Ok(Self::of(Backend::new(settings, dialer, None, quiet)))
    }

    fn of(backend: Backend) -> Self {
        Self { handle: Arc::new(Handle { backend }), haste: Haste::Patient, aside: None }
    }

    fn backend(&self) -> &Backend {
        &self.handle.backend
    }

    /// The same connections for loops that serve several queues.
    ///
    /// On a Cluster a request of this pool is not sent to a server that hangs. If the server
    /// begins to hang, the request ends early with an unknown outcome. While its queue is being
    /// moved it fails at once. So one bad server does not delay the queues of the others: the
    /// loop goes on to the next queue and comes back. A single server has all queues, so there
    /// nothing is different.
    #[must_use]
    pub fn prompt(&self) -> Self {
        Self { haste: Haste::Prompt, ..self.clone() }
    }

    /// Sends a command and returns its answer.
    ///
    /// `build` makes the command for each attempt. It gets the number of earlier attempts that
    /// may have run, so that a repetition can say that it is one. All attempts, the pauses
    /// between them and dialling end within [`PoolSettings::request_limit`].
    ///
    /// # Errors
    /// - [`Error::is_unavailable`] if the command certainly did not run: no connection, or a
    ///   server that does not serve at the moment.
    /// - [`Error::is_outcome_unknown`] if it may have run.
    /// - Otherwise Redis refused it. The message is ours; Redis's own text is the source of the
    ///   error.
    pub async fn run(
        &self,
        repeat: Repeat,
        mut build: impl FnMut(u32) -> Cmd + Send,
    ) -> Result<Value, Error> {
        self.request(repeat, |attempt| Request::One(build(attempt))).await.map(only)
    }

    /// As [`RedisPool::run`] with several commands at once; the first error
    /// among the answers is the error of all.
    ///
    /// On a Cluster all keys must belong to one slot.
    pub async fn run_pipeline(
        &self,
        repeat: Repeat,
        mut build: impl FnMut(u32) -> Pipeline + Send,
    ) -> Result<Vec<Value>, Error> {
        self.request(repeat, |attempt| Request::Many(build(attempt))).await
    }

    /// As [`RedisPool::run`] with a script. It need not be loaded before: a server that does
    /// not know it gets its text within the same attempt.
    pub async fn eval(
        &self,
        script: &LuaScript,
        repeat: Repeat,
        mut build: impl FnMut(u32) -> ScriptCall + Send,
    ) -> Result<Value, Error> {
        let request = |attempt| Request::Script(script.clone(), build(attempt));
        self.request(repeat, request).await.map(only)
    }

    /// As [`RedisPool::eval`], and waits until [`PoolSettings::wait_replicas`] replicas have
    /// what was written.
    ///
    /// If too few confirm in time the outcome is unknown, although the master has the write: a
    /// failover could still lose it. `witness` is a key of the same slot, which is written and
    /// expires; see `confirm` for its use. Only for a pool that
    /// [`confirms`](RedisPool::confirming).
    pub async fn eval_confirmed(
        &self,
        script: &LuaScript,
        repeat: Repeat,
        witness: &str,
        mut build: impl FnMut(u32) -> ScriptCall + Send,
    ) -> Result<Value, Error> {
        let settings = self.backend().settings();
        let confirmation =
            Confirmation::new(witness.to_owned(), settings.wait_replicas, settings.read_timeout);
        let request =
            |attempt| Request::Confirmed(script.clone(), build(attempt), confirmation.clone());
        self.request(repeat, request).await.map(only)
    }

    /// The same settings with connections of its own, for work that must not wait behind other
    /// work, or that lives on another runtime.
    ///
    /// The heartbeat uses one: leases have to be renewed while the dispatcher's connection is
    /// busy with large replies.
    pub fn detached(&self) -> RedisPool {
        let backend = self.backend();
        let other = Backend::new(backend.settings().clone(), backend.dialer().clone(), None, true);
        Self { haste: self.haste, ..Self::of(other) }
    }

    /// Like [`detached`](RedisPool::detached), for viewers: on a thread of low priority, few
    /// calls at a time, and a bounded number of bytes per second. The thread runs until the last
    /// clone is dropped.
    pub(crate) fn aside(&self) -> RedisPool {
        RedisPool { aside: Some(Aside::start()), ..self.detached() }
    }

    /// Connections of their own for [`RedisPool::eval_confirmed`], if
    /// [`PoolSettings::wait_replicas`] asks for it.
    pub fn confirming(&self) -> Option<RedisPool> {
        let backend = self.backend();
        (backend.settings().wait_replicas > 0).then(|| {
            let pool_size = CONFIRMING_CONNECTIONS;
            let settings = PoolSettings { pool_size, ..backend.settings().clone() };
            Self::of(Backend::new(settings, backend.dialer().clone(), None, true))
        })
    }

    /// A connection of its own for blocking commands, such as `BLMOVE`, that
    /// block the server's side for `longest` at most: one at a time.
    ///
    /// Dropping such a call before its reply closes the connection, so that
    /// the server does not go on blocking for a caller that is gone.
    pub fn blocking(&self, longest: Duration) -> RedisPool {
        let (settings, known) = (self.backend().settings(), self.backend().dialer());
        let answer = settings.read_timeout.saturating_add(longest);
        // These settings were parsed before, so parsing them again cannot fail.
        let dialer = Dialer::new(settings, answer).map(|dialer| Arc::new(dialer.sharing(known)));
        let dialer = dialer.unwrap_or_else(|_| Arc::clone(known));
        Self::of(Backend::new(settings.clone(), dialer, Some(longest), true))
    }

    /// Hands every message of these channels to `on_message` until `stop`.
    ///
    /// It has a connection of its own and reconnects by itself, within about a second of
    /// Redis being back. Messages published meanwhile are lost.
    pub fn subscribe(
        &self,
        channels: Vec<String>,
        on_message: Arc<dyn Fn(String, Vec<u8>) + Send + Sync>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        subscribe::listen(self.backend().dialer().clone(), channels, on_message, stop)
    }

    /// How long one request may take in all.
    pub fn request_limit(&self) -> Duration {
        self.backend().limit()
    }

    /// Whether Redis is a Cluster.
    pub fn is_cluster(&self) -> bool {
        self.backend().dialer().is_cluster()
    }

    /// The server of a Cluster that has a key, as far as is known. `None` elsewhere: one server has
    /// all keys.
    pub fn server_of(&self, key: &[u8]) -> Option<String> {
        let map = self.backend().dialer().topology()?.map();
        map.owner(slot_of(key)).map(shown)
    }

    /// The address for log lines and pages: `localhost:6379/0`, `sentinel mymaster`. Without
    /// credentials.
    pub fn describe(&self) -> String {
        self.backend().dialer().describe()
    }

    /// Sends a PING. On a Cluster it goes to all masters, and a majority has to answer.
    pub async fn ping(&self) -> Result<(), Error> {
        if let Backend::Cluster(cluster) = self.backend() {
            let ping = Request::One(redis::cmd("PING"));
            let answer = cluster.ping(&ping).await;
            return answer.map_err(|failure| told(failure.meaning(), &failure.error));
        }
        self.run(Repeat::Safe, |_| redis::cmd("PING")).await.map(drop)
    }

    /// Whether there is a connection right now. Asks nobody, so it may be a second out of date:
    /// a lost connection is noticed by the next request or by the watch.
    pub fn is_connected(&self) -> bool {
        match self.backend() {
            Backend::Server(core) => core.is_connected(),
            Backend::Cluster(cluster) => cluster.is_connected(),
        }
    }

    /// A handle on which the `redis` crate's own commands run.
    pub fn connection(&self) -> Connection {
        Connection(self.clone())
    }
}

impl fmt::Debug for RedisPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisPool").field(&self.describe()).finish()
    }
}

/// The answer to a single command. Redis sends exactly one; nil stands in for a missing one.
fn only(mut answers: Vec<Value>) -> Value {
    answers.pop().unwrap_or(Value::Nil)
}
