//! Sends each request to the server of a Cluster that has its keys.
//!
//! Every server has a connection of its own, so that one that hangs delays only
//! requests for its own slots. A redirection is followed once and remembered. While
//! a slot moves, scripts are refused by both of its servers (see
//! [`never_key`](super::slot_map::never_key)), and callers get the error that the queue is
//! being moved.
//!
//! A server that has requests and does not answer for a while is *silent*. Then the
//! other servers are asked for the topology, requests that wait for a server without the slot
//! end, and prompt requests (from loops that serve several queues) are not sent to
//! it at all. The `redis` crate's own cluster connection is used for an application's
//! raw commands only: it stops all traffic while it waits for one server.
//!
//! A request takes one of four ways: with a key, to the server of its slot ([`Cluster::at_slot`]);
//! without one, to any server, or for `PING` and `INFO` to all of them; and raw, through the
//! `redis` crate. The pool's own repetition of requests
//! ([`RedisPool::request`](super::RedisPool::request)) is above: here a request is sent once, or
//! twice if it was redirected.
//!
//! What may surprise. Nothing waits for a refresh of the topology, except the very first request:
//! the others fail or are answered by what is known, and the next one profits. A silent server is
//! only suspected, so a patient request goes on waiting for it. A prompt one fails at once, because
//! its caller has queues on other servers to serve. And in a Cluster a queue is the unit of
//! failure: one server away means that its queues stand still and all others go on.

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::time::{Instant, sleep, timeout_at};

use super::address::{HostPort, host_and_port};
use super::cluster_node::Node;
use super::dial::Dialer;
use super::failure::{Meaning, RequestFailure, timed_out};
use super::request::{Manner, Request};
use super::settings::{PoolSettings, Topology};
use super::slot::Core;
use super::slot_map::slot_of;
use super::topology::ClusterTopology;
use super::{Haste, only};
use crate::chance::Chance;
use crate::sync::lock;

/// Timeout of each server when all are asked, so that one that hangs does not delay the answers
/// of the others.
const SERVER_TIMEOUT: Duration = Duration::from_secs(1);

/// The connections to all servers of a Cluster. Clones of a pool share one of these; a pool
/// made from another one has its own, and shares only the topology.
pub(super) struct Cluster {
    pub settings: PoolSettings,
    /// Credentials, TLS and timeouts for every server of the Cluster.
    pub dialer: Arc<Dialer>,
    topology: Arc<ClusterTopology>,
    /// How long a request may take in all.
    pub limit: Duration,
    /// For blocking commands: how long the server may block.
    longest: Option<Duration>,
    /// Whether lost connections are logged at debug level only.
    quiet: bool,
    /// One entry per server that has been used.
    nodes: Mutex<HashMap<HostPort, Arc<Node>>>,
    /// The `redis` crate's own connection, for raw commands.
    raw: Arc<Core>,
}

impl Cluster {
    pub(super) fn new(
        settings: PoolSettings,
        dialer: Arc<Dialer>,
        topology: Arc<ClusterTopology>,
        longest: Option<Duration>,
        quiet: bool,
    ) -> Self {
        let raw = Core::new(settings, Arc::clone(&dialer), longest, quiet);
        Self {
            settings: raw.settings.clone(),
            dialer,
            topology,
            limit: raw.limit,
            longest,
            quiet,
            nodes: Mutex::default(),
            raw: Arc::new(raw),
        }
    }

    /// Whether any server is connected.
    pub(super) fn is_connected(&self) -> bool {
        lock(&self.nodes).values().any(|node| node.core.is_connected())
    }

    /// Ends the watches; called when the last handle of the pool is gone.
    pub(super) fn end_watch(&self) {
        self.raw.end_watch();
        lock(&self.nodes).values().for_each(|node| node.core.end_watch());
    }

    /// Sends a request once to the server that has its keys, and once more if that server
    /// names another.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        deadline: Instant,
        request: &Request,
        haste: Haste,
    ) -> Result<Vec<Value>, RequestFailure> {
        if request.is_raw() {
            return self.raw.attempt(deadline, request, &Manner::default()).await;
        }
        let known = timeout_at(deadline, self.topology.learn(&self.dialer));
        known.await.unwrap_or_else(|_| Err(timed_out())).map_err(RequestFailure::unsent)?;
        match request.key() {
            Some(key) => self.at_slot(deadline, request, slot_of(key), haste).await,
            None if request.is_for_all() => {
                self.at_all(deadline, request).await.map(|all| vec![Value::Map(all)])
            }
            None => self.anywhere(deadline, request, haste).await,
        }
    }

    /// Sends a request to the server of this slot, and once more to the server that a
    /// redirection names.
    ///
    /// MOVED says that the slot has a new server for good: it is remembered, and the topology
    /// refreshed in the background. ASK says that it is being moved: the other server is asked
    /// for this one request, after `ASKING`. A pipeline is not sent again after a redirection,
    /// because some of its commands may have run.
    async fn at_slot(
        self: &Arc<Self>,
        deadline: Instant,
        request: &Request,
        slot: u16,
        haste: Haste,
    ) -> Result<Vec<Value>, RequestFailure> {
        let map = self.topology.map();
        let Some(owner) = map.owner(slot) else {
            self.refresh_soon();
            let none = (ErrorKind::ClusterConnectionNotFound, "no server has this slot");
            return Err(RequestFailure::unsent(none.into()));
        };
        let manner = Manner { guard: request.guard(), asking: false };
        let failure = match self.send(owner, Some(slot), deadline, request, &manner, haste).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let Some((other, asking)) = redirection(&failure.error, owner) else {
            if matches!(failure.meaning(), Meaning::Away | Meaning::Unknown) {
                self.refresh_soon();
            }
            return Err(failure);
        };
        if !asking {
            self.topology.moved(slot, other.clone());
            self.refresh_soon();
        }
        if request.is_divisible() {
            return Err(failure);
        }
        let manner = Manner { asking, ..manner };
        let of_slot = (!asking).then_some(slot);
        self.send(&other, of_slot, deadline, request, &manner, haste).await
    }

    /// Sends a request to one server. `slot` is the one that has to stay there.
    ///
    /// The wait ends early in two cases. If the topology changes and gives the slot to another
    /// server, a reply of this one no longer counts. If the server falls silent, the topology
    /// is refreshed, and a prompt request gives up; a patient one goes on waiting, because the
    /// server may only be slow. A blocking command is not measured: its server is expected to
    /// be silent.
    async fn send(
        self: &Arc<Self>,
        addr: &HostPort,
        slot: Option<u16>,
        deadline: Instant,
        request: &Request,
        manner: &Manner,
        haste: Haste,
    ) -> Result<Vec<Value>, RequestFailure> {
        let node = self.node(addr).map_err(RequestFailure::unsent)?;
        if haste == Haste::Prompt && node.is_silent() {
            self.refresh_soon();
            node.probe(self.settings.read_timeout);
            return Err(RequestFailure::unsent(timed_out()));
        }
        let blocks = self.longest.is_some();
        let mut changes = blocks.then(|| self.topology.changes());
        let mut answer = pin!(node.attempt(deadline, request, manner));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = changed(changes.as_mut()) => {}
                () = sleep(node.until_silent()), if !blocks => {
                    if !node.is_silent() {
                        continue;
                    }
                    self.refresh_soon();
                    if haste == Haste::Prompt {
                        return Err(RequestFailure::sent(timed_out()));
                    }
                    changes.get_or_insert_with(|| self.topology.changes());
                }
            }
            let map = self.topology.map();
            if slot.is_some_and(|slot| map.owner(slot).is_some_and(|owner| owner != addr)) {
                // An answer that still comes is from a server that has been replaced, so it does
                // not count.
                return Err(RequestFailure::sent(
                    io::Error::from(io::ErrorKind::BrokenPipe).into(),
                ));
            }
        }
    }

    /// Sends a request to every master, and returns a map of their answers by address. Servers that
    /// do not answer in time are left out; if none answers, that is an error.
    async fn at_all(
        self: &Arc<Self>,
        deadline: Instant,
        request: &Request,
    ) -> Result<Vec<(Value, Value)>, RequestFailure> {
        let mut failed = None;
        let mut all = Vec::new();
        for (addr, answer) in join_all(self.ask_each(deadline, request)).await {
            match answer {
                Ok(answer) => all.push((Value::BulkString(addr.into_bytes()), only(answer))),
                Err(failure) => failed = Some(failure),
            }
        }
        match failed {
            Some(failure) if all.is_empty() => Err(failure),
            _ => Ok(all),
        }
    }

    /// Sends a request to every master, each with a timeout of its own. The futures give the
    /// address and the answer.
    fn ask_each(
        self: &Arc<Self>,
        deadline: Instant,
        request: &Request,
    ) -> Vec<impl Future<Output = (String, Result<Vec<Value>, RequestFailure>)>> {
        let deadline = deadline.min(Instant::now() + SERVER_TIMEOUT);
        let masters = self.topology.map().masters().to_vec();
        let ask = |addr: HostPort| async move {
            let (manner, haste) = (Manner::default(), Haste::Patient);
            let asked = self.send(&addr, None, deadline, request, &manner, haste);
            let answer = timeout_at(deadline, asked).await;
            let answer = answer.unwrap_or_else(|_| Err(RequestFailure::sent(timed_out())));
            (format!("{}:{}", addr.0, addr.1), answer)
        };
        masters.into_iter().map(ask).collect()
    }

    /// Sends a request without a key to any master, preferably one that is not silent. Which
    /// one is left to chance, so that the load is spread.
    async fn anywhere(
        self: &Arc<Self>,
        deadline: Instant,
        request: &Request,
        haste: Haste,
    ) -> Result<Vec<Value>, RequestFailure> {
        let mut masters = self.topology.map().masters().to_vec();
        Chance::system().shuffle(&mut masters);
        let lively = |addr: &&HostPort| self.node(addr).is_ok_and(|node| !node.is_silent());
        let Some(addr) = masters.iter().find(lively).or(masters.first()) else {
            let none = (ErrorKind::ClusterConnectionNotFound, "no server has slots");
            return Err(RequestFailure::unsent(none.into()));
        };
        self.send(addr, None, deadline, request, &Manner::default(), haste).await
    }

    /// Sends a PING to every master. Like the Cluster itself, this is satisfied with the
    /// majority: the others serve while one is being replaced.
    pub(super) async fn ping(self: &Arc<Self>, request: &Request) -> Result<(), RequestFailure> {
        let deadline = Instant::now() + self.limit;
        let known = timeout_at(deadline, self.topology.learn(&self.dialer));
        known.await.unwrap_or_else(|_| Err(timed_out())).map_err(RequestFailure::unsent)?;
        let mut asked: FuturesUnordered<_> = self.ask_each(deadline, request).into_iter().collect();
        let (needed, mut answered) = (asked.len() / 2 + 1, 0);
        let none = (ErrorKind::ClusterConnectionNotFound, "no server has slots");
        let mut failed = RequestFailure::unsent(none.into());
        while let Some((_, answer)) = asked.next().await {
            match answer {
                Ok(_) => answered += 1,
                Err(failure) if matches!(failure.meaning(), Meaning::Refused(_)) => answered += 1,
                Err(failure) => failed = failure,
            }
            if answered == needed {
                return Ok(());
            }
        }
        self.refresh_soon();
        Err(failed)
    }

    /// Refreshes the topology in the background, unless that was done just now. The request at
    /// hand does not wait for it: it fails or has its answer already, and the next one profits.
    fn refresh_soon(&self) {
        if self.topology.is_fresh() {
            return;
        }
        let (topology, dialer) = (Arc::clone(&self.topology), Arc::clone(&self.dialer));
        drop(tokio::spawn(async move {
            if let Err(error) = topology.refresh(&dialer).await {
                crate::log::debug!(redis = %dialer.describe(), %error, "the topology is unknown");
            }
        }));
    }

    /// The connections to this server; makes them if it is new, and drops servers that have left
    /// the Cluster and owe no answer.
    fn node(&self, addr: &HostPort) -> RedisResult<Arc<Node>> {
        let mut nodes = lock(&self.nodes);
        if let Some(node) = nodes.get(addr) {
            return Ok(Arc::clone(node));
        }
        let map = self.topology.map();
        // A server that has left the Cluster is dropped once it owes no answer.
        nodes.retain(|known, node| {
            let stays = node.is_awaited() || map.nodes().any(|one| one == known);
            if !stays {
                node.core.end_watch();
            }
            stays
        });
        let settings = PoolSettings {
            topology: Topology::Single(format!("{}:{}", addr.0, addr.1)),
            ..self.settings.clone()
        };
        let dialer = Arc::new(self.dialer.of_node(addr.clone()));
        let node = Arc::new(Node::new(Core::new(settings, dialer, self.longest, self.quiet)));
        nodes.insert(addr.clone(), Arc::clone(&node));
        Ok(node)
    }
}

/// Returns at the next change. Never returns if there is nothing to watch.
async fn changed<T>(changes: Option<&mut tokio::sync::watch::Receiver<T>>) {
    let ended = match changes {
        Some(changes) => changes.changed().await.is_err(),
        None => true,
    };
    if ended {
        std::future::pending::<()>().await;
    }
}

/// The server that a redirection names, and whether the request has to be preceded by `ASKING`.
/// `None` if the error is no redirection, or names an address that cannot be read.
fn redirection(error: &RedisError, told_by: &HostPort) -> Option<(HostPort, bool)> {
    let asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
    let (addr, _) = error.redirect_node()?;
    // A server that does not know the host's name leaves it out.
    let addr = match addr.strip_prefix(':') {
        Some(port) => (told_by.0.clone(), port.parse().ok()?),
        None => host_and_port("", addr).ok().or_else(|| {
            let (host, port) = addr.rsplit_once(':')?;
            Some((host.to_owned(), port.parse().ok()?))
        })?,
    };
    Some((addr, asking))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_names_a_server() {
        let told_by = ("seven".to_owned(), 7);
        let table = [
            ("MOVED 5 10.0.0.1:6380", Some((("10.0.0.1".to_owned(), 6380), false))),
            ("ASK 5 host:6380", Some((("host".to_owned(), 6380), true))),
            ("ASK 5 fe80::1:6380", Some((("fe80::1".to_owned(), 6380), true))),
            ("MOVED 5 :6380", Some((("seven".to_owned(), 6380), false))),
            ("TRYAGAIN Multiple keys request during rehashing of slot", None),
            ("MOVED 5 nowhere", None),
        ];
        for (line, expected) in table {
            let reply = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
            let error = reply.and_then(Value::extract_error).unwrap_err();
            assert_eq!(redirection(&error, &told_by), expected, "{line}");
        }
    }
}
