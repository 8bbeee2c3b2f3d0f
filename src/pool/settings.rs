//! The settings of a pool: where Redis is, credentials, timeouts and retries.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::tls::TlsOptions;

/// The servers to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server, as `host:port`.
    Single(String),
    /// One server on this machine, by the path of its Unix socket.
    Unix(PathBuf),
    /// The master that these Sentinels name.
    Sentinel {
        /// The master's name.
        master: String,
        /// Sentinels, each as `host:port`.
        addrs: Vec<String>,
    },
    /// A Redis Cluster, found through these nodes, each as `host:port`.
    Cluster(Vec<String>),
}

/// How to connect. The names and defaults are those of the configuration.
///
/// `Debug` leaves the passwords out.
#[derive(Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// The servers. Default: one server at `localhost:6379`.
    pub topology: Topology,
    /// The ACL user, if any.
    pub username: Option<String>,
    /// The password, if any.
    pub password: Option<String>,
    /// The ACL user of the Sentinels, if any. Sentinels do not share the servers' users.
    pub sentinel_username: Option<String>,
    /// The password of the Sentinels, if any.
    pub sentinel_password: Option<String>,
    /// The database number; a Cluster has only 0.
    pub db: i64,
    /// Whether to speak TLS, with certificates verified.
    pub tls: bool,
    /// With which certificates. Default: the system's roots.
    pub tls_options: TlsOptions,
    /// How often a command that is safe to repeat is sent again. Default 2.
    pub max_retries: u32,
    /// The shortest pause before a repetition. Default 8 ms.
    pub min_retry_backoff: Duration,
    /// The longest pause before a repetition. Default 512 ms.
    pub max_retry_backoff: Duration,
    /// How long connecting may take. Default 5 s, but see [`PoolSettings::request_limit`].
    pub dial_timeout: Duration,
    /// How long an answer may take. Default 3 s.
    pub read_timeout: Duration,
    /// How long sending may take. Default 3 s.
    pub write_timeout: Duration,
    /// Connections that share the commands. Default 1: it is multiplexed.
    pub pool_size: u32,
    /// How long a command may wait for a connection. Default 4 s.
    pub pool_timeout: Duration,
    /// How many replicas must have a job before its enqueue is acknowledged. Default 0: none
    /// is waited for.
    pub wait_replicas: u32,
    /// How long one request may take in all, whatever the retries: 3.5 s.
    pub request_limit: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            topology: Topology::Single("localhost:6379".to_owned()),
            username: None,
            password: None,
            sentinel_username: None,
            sentinel_password: None,
            db: 0,
            tls: false,
            tls_options: TlsOptions::default(),
            max_retries: 2,
            min_retry_backoff: Duration::from_millis(8),
            max_retry_backoff: Duration::from_millis(512),
            dial_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(3),
            write_timeout: Duration::from_secs(3),
            pool_size: 1,
            pool_timeout: Duration::from_secs(4),
            wait_replicas: 0,
            request_limit: Duration::from_millis(3500),
        }
    }
}

impl fmt::Debug for PoolSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolSettings")
            .field("topology", &self.topology)
            .field("username", &self.username)
            .field("db", &self.db)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
