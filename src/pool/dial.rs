//! Dialling: from settings to a connection that is authenticated, has its database selected and
//! has answered a PING. It knows single servers, Unix sockets, Sentinel, Cluster and TLS, and
//! keeps no state about them.
//!
//! The steps for one server: TCP (if necessary with a descriptor of [`spare`]), TLS (`tls`),
//! `AUTH`, `SELECT`, `PING`. The first error ends it. The PING is what proves that the server
//! serves: one that is loading its data accepts connections too. With Sentinels the server is
//! also asked for its role, in `sentinel`.
//!
//! What may surprise. Nothing here has a timeout except the TLS handshake: the caller bounds
//! the whole dial, and dropping the future closes what is open. Connections speak RESP2. They
//! do not send `CLIENT SETINFO`, which only Redis 7.2 and later know.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError, RedisFuture, RedisResult,
    TlsMode, Value,
};
use tokio::net::TcpStream;

use super::address::{HostPort, host_and_port, hosts_and_ports, shown};
use super::failure::{self, Meaning};
use super::handshake::handshake_failure;
use super::sentinel::{self, Sentinels};
use super::settings::{PoolSettings, Topology};
use super::spare;
use super::tls::{Tls, WrongOption};
use super::topology::ClusterTopology;
use crate::error::Error;

/// An open connection. Clones share it; it closes with the last clone.
#[derive(Clone)]
pub(super) enum Link {
    /// A single server, or one server of a Cluster.
    Server(MultiplexedConnection),
    /// The master of this term, as the Sentinels say. A later term makes it outdated.
    Master(MultiplexedConnection, u64),
    /// The Redis library's own connection to a Cluster, for raw commands.
    Cluster(ClusterConnection),
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Link::Server(connection) | Link::Master(connection, _) => {
                connection.req_packed_command(cmd)
            }
            Link::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Link::Server(connection) | Link::Master(connection, _) => {
                connection.req_packed_commands(pipeline, offset, count)
            }
            Link::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Link::Server(connection) | Link::Master(connection, _) => connection.get_db(),
            Link::Cluster(connection) => connection.get_db(),
        }
    }
}

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
    username: Option<String>,
    password: Option<String>,
    db: i64,
    tls: Option<Arc<Tls>>,
    write_timeout: Duration,
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
        // No repetition by the library: it does not know which commands allow it.
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

    /// A connection to this server that only listens.
    pub(super) async fn listen_to(&self, addr: &HostPort) -> RedisResult<PubSub> {
        let info = self.info(addr, true)?;
        let Some(tls) = &self.tls else {
            let client = Client::open(info)?;
            return spare::connect(|| client.get_async_pubsub()).await;
        };
        let stream = spare::connect(|| self.tcp_stream(addr)).await?;
        PubSub::new(info.redis_settings(), tls.wrap(stream, &addr.0).await?).await
    }

    /// Dials one server and greets it: credentials, database, a sign of life.
    pub(super) async fn server(&self, addr: &HostPort) -> RedisResult<MultiplexedConnection> {
        self.greet(self.open(addr).await?).await
    }

    /// Authenticates, selects the database and waits for the answer to a PING.
    async fn greet(
        &self,
        mut connection: MultiplexedConnection,
    ) -> RedisResult<MultiplexedConnection> {
        // Not left to the library: its RESP2 greeting turns every refusal, such
        // as "max number of clients reached", into a wrong password.
        if self.username.is_some() || self.password.is_some() {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = &self.username {
                auth.arg(username);
            }
            auth.arg(self.password.as_deref().unwrap_or_default());
            auth.query_async::<()>(&mut connection).await?;
        }
        if self.db != 0 {
            redis::cmd("SELECT").arg(self.db).query_async::<()>(&mut connection).await?;
        }
        alive(redis::cmd("PING").query_async::<Value>(&mut connection).await)?;
        Ok(connection)
    }

    /// Opens a connection without greeting or timeouts. With TLS the stream is wrapped by `tls`
    /// rather than by the library: it knows `tls_server_name` and explains a failed handshake.
    async fn open(&self, addr: &HostPort) -> RedisResult<MultiplexedConnection> {
        let info = self.info(addr, false)?;
        let Some(tls) = &self.tls else { return open(info).await };
        let stream = spare::connect(|| self.tcp_stream(addr)).await?;
        let stream = tls.wrap(stream, &addr.0).await?;
        let (connection, driver) =
            MultiplexedConnection::new_with_config(info.redis_settings(), stream, without_limits())
                .await?;
        // Ends with the last clone of the connection.
        tokio::spawn(driver);
        Ok(connection)
    }

    /// A TCP connection with the options that the Redis library gives its own; see
    /// [`tcp`](Self::tcp).
    async fn tcp_stream(&self, (host, port): &HostPort) -> RedisResult<TcpStream> {
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&keepalive())?;
        #[cfg(target_os = "linux")]
        if !self.write_timeout.is_zero() {
            socket.set_tcp_user_timeout(Some(self.write_timeout))?;
        }
        Ok(stream)
    }

    /// The library's description of a server. Without credentials if [`greet`](Self::greet) sends
    /// them.
    fn info(&self, (host, port): &HostPort, with_credentials: bool) -> RedisResult<ConnectionInfo> {
        let addr = if self.tls.is_some() {
            let host = host.clone();
            ConnectionAddr::TcpTls { host, port: *port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host.clone(), *port)
        };
        self.with_greeting(addr, with_credentials)
    }

    /// The library's description of an address, with or without our credentials.
    fn with_greeting(
        &self,
        addr: ConnectionAddr,
        with_credentials: bool,
    ) -> RedisResult<ConnectionInfo> {
        let mut greeting = RedisConnectionInfo::default().set_skip_set_lib_name();
        if with_credentials {
            if let Some(username) = &self.username {
                greeting = greeting.set_username(username);
            }
            if let Some(password) = &self.password {
                greeting = greeting.set_password(password);
            }
        }
        let info = addr.into_connection_info()?;
        Ok(info.set_redis_settings(greeting).set_tcp_settings(self.tcp()))
    }

    /// The options of a TCP connection: no delay, keepalive, and `write_timeout`.
    ///
    /// They find a peer that vanished without closing (a machine that lost power, a firewall
    /// that drops packets). Keepalive covers a connection that only waits, the user timeout one
    /// with data under way. Without them Linux goes on sending for about 15 minutes.
    fn tcp(&self) -> TcpSettings {
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive());
        // Sent and not even acknowledged by the peer's kernel: the link is cut.
        #[cfg(target_os = "linux")]
        let tcp = if self.write_timeout.is_zero() {
            tcp
        } else {
            tcp.set_user_timeout(self.write_timeout)
        };
        tcp
    }

    /// rustls wants one provider for the process; an application's own stays.
    pub(super) fn provide_tls(&self) {
        if self.tls.is_some() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing a race against another installer is as good as winning it.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
    }
}

/// The library's connection without timeouts of its own: the pool bounds every call, with a
/// deadline that differs from call to call.
fn without_limits() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None)
}

/// Opens a connection, if necessary with a reserved descriptor.
async fn open(info: ConnectionInfo) -> RedisResult<MultiplexedConnection> {
    let (client, config) = (Client::open(info)?, without_limits());
    spare::connect(|| client.get_multiplexed_async_connection_with_config(&config)).await
}

/// A dead peer is noticed after 5 s without traffic and unanswered probes every 2 s.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(2))
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

/// Asks a server what it is: `master`, `slave` or `sentinel`.
///
/// # Errors
/// The server's error, for example `NOPERM` for a user who may not send ROLE.
pub(super) async fn role(connection: &mut impl ConnectionLike) -> RedisResult<String> {
    let answer: Vec<Value> = redis::cmd("ROLE").query_async(connection).await?;
    match answer.first() {
        Some(Value::BulkString(role)) => Ok(String::from_utf8_lossy(role).into_owned()),
        _ => Err(unavailable_master("the server does not tell its role")),
    }
}

/// Fails unless that was a master. A user who may not send ROLE is given the benefit of the
/// doubt.
pub(super) fn check_master(role: RedisResult<String>) -> RedisResult<()> {
    match role {
        Ok(role) if role == "master" => Ok(()),
        Ok(_) => Err(unavailable_master("the server is no longer the master")),
        Err(error) => alive::<()>(Err(error)),
    }
}

/// Fails unless this answer to PING or ROLE shows a server that serves. A server that refuses
/// the command to this user, or because it cannot write to its disk, counts as serving.
pub(super) fn alive<T>(answer: RedisResult<T>) -> RedisResult<()> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if failure::is_shut_out(&error) => Err(error),
        Err(error) => match failure::meaning(&error) {
            Meaning::Refused(_) => Ok(()),
            Meaning::Away | Meaning::Moving | Meaning::Unknown => Err(error),
        },
    }
}

/// The error if a server is not a master that can be used.
pub(super) fn unavailable_master(why: &'static str) -> RedisError {
    (redis::ErrorKind::MasterNameNotFoundBySentinel, why).into()
}

/// An address that the library refuses, as a configuration error.
fn unusable(error: RedisError) -> Error {
    Error::config("addr: expected an address of Redis, got one that cannot be used")
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_answers_and_lets_us_in_is_alive() {
        let table = [
            ("+PONG", true),
            ("-NOPERM this user has no permissions to run the 'ping' command", true),
            ("-MISCONF Redis is configured to save RDB snapshots", true),
            ("-NOAUTH Authentication required.", false),
            ("-DENIED Redis is running in protected mode", false),
            ("-LOADING Redis is loading the dataset in memory", false),
            ("-ERR max number of clients reached", false),
        ];
        for (line, expected) in table {
            let reply = redis::parse_redis_value(format!("{line}\r\n").as_bytes());
            let answer = reply.and_then(Value::extract_error);
            assert_eq!(alive(answer).is_ok(), expected, "{line}");
        }
    }
}
