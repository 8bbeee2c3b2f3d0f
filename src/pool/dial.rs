//! Dialling: from settings to a connection that is authenticated, has its database selected and
//! has answered a PING. It knows single servers, Unix sockets, Sentinel, Cluster and TLS, and
//! keeps no state about them.
//!
//! The steps for one server: TCP (if necessary with a descriptor of [`spare`]), TLS (`tls`),
//! `AUTH`, `SELECT`, `PING`, all in `open`. The first error ends it. The PING is what proves that
//! the server serves: one that is loading its data accepts connections too. With Sentinels the
//! server is also asked for its role, in `sentinel`.
//!
//! What may surprise. Nothing here has a timeout except the TLS handshake: the caller bounds
//! the whole dial, and dropping the future closes what is open. Connections speak RESP2. They
//! do not send `CLIENT SETINFO`, which only Redis 7.2 and later know.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::PubSub;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::{Client, ConnectionAddr, ErrorKind, RedisError, RedisResult, TlsMode};

use super::address::{HostPort, host_and_port, hosts_and_ports, shown};
use super::failure::{self, Meaning};
use super::handshake::handshake_failure;
use super::link::Link;
use super::open::open;
use super::sentinel::{self, Sentinels};
use super::settings::{PoolSettings, Topology};
use super::spare;
use super::tls::{Tls, WrongOption};
use super::topology::ClusterTopology;
use crate::error::Error;

/// The servers to dial, with addresses that have been checked.
enum Target {
    /// One server.
    Single(HostPort),
    /// One server, by the path of its socket.
    Unix(PathBuf),
    /// The master that the Sentinels name.
    Sentinel { master: String, sentinels: Arc<Sentinels> },
    /// A Cluster, found through these nodes.
    Cluster { nodes: Vec<HostPort>, timeouts: ClusterTimeouts, topology: Arc<ClusterTopology> },
}

/// How long the Redis library's own connection to a Cluster waits for a node. It dials its
/// nodes itself, so the pool cannot bound each of them.
#[derive(Clone, Copy)]
struct ClusterTimeouts {
    dial: Duration,
    answer: Duration,
}

/// The parsed settings: all that is needed to dial. Pools made from one another share it, and
/// so the certificates, the Sentinels and the topology of a Cluster.
pub(super) struct Dialer {
    target: Target,
    /// For data servers; Sentinels may have credentials of their own.
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    /// The database to select; 0 in a Cluster.
    pub(super) db: i64,
    /// `None` without TLS. Shared, so that changed files are read once.
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) write_timeout: Duration,
}

impl Dialer {
    /// Parses the addresses; `answer` bounds what a Cluster waits for a node.
    ///
    /// # Errors
    /// [`Error::is_config`] with the key, the expected and the found value: a wrong address, a
    /// negative database number, a database other than 0 on a Cluster, no name of the
    /// Sentinels' master, or a TLS file that cannot be used.
    pub(super) fn new(settings: &PoolSettings, answer: Duration) -> Result<Self, Error> {
        let mut dialer = Self {
            target: Target::Single((String::new(), 0)),
            username: settings.username.clone(),
            password: settings.password.clone(),
            db: settings.db,
            tls: tls(settings)?,
            write_timeout: settings.write_timeout,
        };
        if settings.db < 0 {
            return Err(Error::config(format!(
                "db: expected a database number from 0, got {}",
                settings.db
            )));
        }
        dialer.target = match &settings.topology {
            Topology::Single(addr) => Target::Single(host_and_port("addr", addr)?),
            Topology::Unix(path) => Target::Unix(path.clone()),
            Topology::Sentinel { master, addrs } => {
                if master.is_empty() {
                    return Err(Error::config("sentinel.master: expected a name, got nothing"));
                }
                let addrs = hosts_and_ports("sentinel.addrs", addrs)?;
                let to_servers = dialer.of_node((String::new(), 0));
                let to_sentinels = Self {
                    username: settings.sentinel_username.clone(),
                    password: settings.sentinel_password.clone(),
                    db: 0,
                    ..dialer.of_node((String::new(), 0))
                };
                let sentinels =
                    Sentinels::of(settings, master.clone(), addrs, to_sentinels, to_servers);
                Target::Sentinel { master: master.clone(), sentinels }
            }
            Topology::Cluster(addrs) => {
                if settings.db != 0 {
                    return Err(Error::config(format!(
                        "db: expected 0 with a cluster, got {}",
                        settings.db
                    )));
                }
                let nodes = hosts_and_ports("cluster.addrs", addrs)?;
                let dial = settings.dial_timeout.min(settings.request_limit);
                let timeouts = ClusterTimeouts { dial, answer };
                dialer.cluster_client(&nodes, timeouts).map_err(unusable)?;
                Target::Cluster { nodes, timeouts, topology: Arc::default() }
            }
        };
        Ok(dialer)
    }

    /// The Redis library's client. It keeps the certificates that it is made with, so each
    /// connection has its own.
    fn cluster_client(
        &self,
        nodes: &[HostPort],
        timeouts: ClusterTimeouts,
    ) -> RedisResult<ClusterClient> {
        let infos: RedisResult<Vec<_>> = nodes.iter().map(|node| self.info(node, false)).collect();
        // The library repeats nothing: it does not know which commands may run twice.
        let mut builder = ClusterClientBuilder::new(infos?)
            .retries(0)
            .connection_timeout(timeouts.dial)
            .response_timeout(timeouts.answer)
            .overall_response_timeout(None)
            .tcp_settings(self.tcp());
        if let Some(tls) = &self.tls {
            builder = builder.tls(TlsMode::Secure).certs(tls.for_cluster());
        }
        if let Some(username) = &self.username {
            builder = builder.username(username);
        }
        if let Some(password) = &self.password {
            builder = builder.password(password);
        }
        builder.build()
    }

    /// The address for log lines and pages, without credentials.
    pub(super) fn describe(&self) -> String {
        match &self.target {
            Target::Single(addr) => format!("{}/{}", shown(addr), self.db),
            Target::Unix(path) => format!("{}, database {}", path.display(), self.db),
            Target::Sentinel { master, .. } => format!("sentinel {master}"),
            Target::Cluster { nodes, .. } => {
                let nodes: Vec<_> = nodes.iter().map(shown).collect();
                format!("cluster {}", nodes.join(","))
            }
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.target, Target::Cluster { .. })
    }

    /// What is known of the Cluster, if it is one.
    pub(super) fn topology(&self) -> Option<&Arc<ClusterTopology>> {
        match &self.target {
            Target::Cluster { topology, .. } => Some(topology),
            Target::Single(_) | Target::Unix(_) | Target::Sentinel { .. } => None,
        }
    }

    /// Shares another dialer's view of the same Cluster, so that a redirection that one pool
    /// meets corrects all of them.
    pub(super) fn sharing(mut self, other: &Self) -> Self {
        if let (Target::Cluster { topology, .. }, Some(known)) =
            (&mut self.target, other.topology())
        {
            *topology = Arc::clone(known);
        }
        self
    }

    /// The configured nodes of a Cluster; empty for other targets.
    pub(super) fn seeds(&self) -> &[HostPort] {
        match &self.target {
            Target::Cluster { nodes, .. } => nodes,
            Target::Single(_) | Target::Unix(_) | Target::Sentinel { .. } => &[],
        }
    }

    /// A dialer with the same credentials for one server, which a Cluster or a Sentinel named.
    pub(super) fn of_node(&self, addr: HostPort) -> Self {
        Self {
            target: Target::Single(addr),
            username: self.username.clone(),
            password: self.password.clone(),
            tls: self.tls.clone(),
            ..*self
        }
    }

    /// The Sentinels that say which server is master, if that is how it is found.
    pub(super) fn sentinels(&self) -> Option<&Sentinels> {
        match &self.target {
            Target::Sentinel { sentinels, .. } => Some(sentinels),
            Target::Single(_) | Target::Unix(_) | Target::Cluster { .. } => None,
        }
    }

    /// Connects, authenticates, selects the database and waits for a reply. The caller bounds
    /// the time.
    ///
    /// For a Cluster this is the Redis library's own connection, for raw commands only. The
    /// pool's own requests dial single nodes, with a dialer of [`of_node`](Self::of_node).
    ///
    /// # Errors
    /// The error of the step that failed. A server that refuses this client answers with its
    /// own error, such as `WRONGPASS`.
    pub(super) async fn dial(&self) -> RedisResult<Link> {
        self.provide_tls();
        match &self.target {
            Target::Single(addr) => self.server(addr).await.map(Link::Server),
            Target::Unix(path) => {
                let info = self.with_greeting(ConnectionAddr::Unix(path.clone()), false)?;
                self.greet(open(info).await?).await.map(Link::Server)
            }
            Target::Sentinel { sentinels, .. } => {
                let (term, connection) = sentinel::dial(sentinels, self).await?;
                Ok(Link::Master(connection, term))
            }
            Target::Cluster { nodes, timeouts, .. } => {
                if self.tls.as_ref().is_some_and(|tls| tls.has_name()) {
                    return Err((
                        ErrorKind::InvalidClientConfig,
                        "tls_server_name: an application's own commands on a Cluster go through \
                         the redis crate, which checks certificates for each node's own name",
                    )
                        .into());
                }
                let client = self.cluster_client(nodes, *timeouts)?;
                match spare::connect(|| client.get_async_connection()).await {
                    Ok(connection) => Ok(Link::Cluster(connection)),
                    Err(error) => Err(self.cluster_refusal(nodes).await.unwrap_or(error)),
                }
            }
        }
    }

    /// The Cluster's own error hides a refused password or certificate: a node is asked.
    async fn cluster_refusal(&self, nodes: &[HostPort]) -> Option<RedisError> {
        let error = self.server(nodes.first()?).await.err()?;
        let is_refusal = matches!(failure::meaning(&error), Meaning::Refused(_))
            || handshake_failure(&error).is_some();
        is_refusal.then_some(error)
    }

    /// A connection that only listens, to a server that hears all messages: the master and its
    /// term (zero without Sentinels), or the `turn`th node of a Cluster.
    ///
    /// A Cluster passes every message on to all its nodes, so any one will do. Callers count
    /// `turn` up with each attempt, so that the next attempt goes to another node.
    pub(super) async fn listen(&self, turn: usize) -> RedisResult<(PubSub, u64)> {
        self.provide_tls();
        let (term, addr) = match &self.target {
            Target::Single(addr) => (0, addr.clone()),
            Target::Unix(path) => {
                let info = self.with_greeting(ConnectionAddr::Unix(path.clone()), true)?;
                return Ok((Client::open(info)?.get_async_pubsub().await?, 0));
            }
            Target::Sentinel { sentinels, .. } => sentinels.master().await?,
            Target::Cluster { nodes, topology, .. } => {
                // Those that serve, rather than those that were configured long ago.
                let map = topology.map();
                let nodes = if map.masters().is_empty() { nodes } else { map.masters() };
                (0, nodes[turn % nodes.len()].clone())
            }
        };
        Ok((self.listen_to(&addr).await?, term))
    }
}

/// Prepares TLS, if it is switched on. The handshake gets less time than the dial, so that its
/// failure can be reported.
///
/// # Errors
/// [`Error::is_config`] for a wrong file or name, and for TLS on a Unix socket.
fn tls(settings: &PoolSettings) -> Result<Option<Arc<Tls>>, Error> {
    if !settings.tls {
        return Ok(None);
    }
    if matches!(settings.topology, Topology::Unix(_)) {
        return Err(Error::config("tls: expected false with a Unix socket, got true"));
    }
    let timeout = settings.request_limit.mul_f32(0.75).min(settings.dial_timeout.mul_f32(0.9));
    Tls::new(&settings.tls_options, timeout).map(Arc::new).map(Some).map_err(|wrong| {
        let WrongOption { option, expected, found } = wrong;
        Error::config(format!("tls_{option}: expected {expected}, got {found}"))
    })
}

/// An address that the library refuses, as a configuration error.
fn unusable(error: RedisError) -> Error {
    Error::config("addr: expected an address of Redis, got one that cannot be used")
        .caused_by(error)
}
