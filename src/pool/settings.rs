//! The settings of a pool: the servers, credentials, timeouts and retries.
//!
//! How the times relate: a request takes at most `request_limit` in all. Within it an attempt waits
//! up to `pool_timeout` for a connection, dials for up to `dial_timeout`, and waits up to
//! `read_timeout` for the reply. A timeout of zero means no limit of its own, so `request_limit`
//! applies.

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

/// How to connect. Names and defaults are the same as in the configuration.
///
/// `Debug` leaves the passwords out.
#[derive(Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// The servers. Default: one server at `localhost:6379`. A wrong address is an error of
    /// [`RedisPool::new`](super::RedisPool::new).
    pub topology: Topology,
    /// The ACL user, if any. Without one a password authenticates the user `default`.
    pub username: Option<String>,
    /// The password, if any. Never logged.
    pub password: Option<String>,
    /// The ACL user of the Sentinels, if any. Sentinels do not share the servers' users.
    pub sentinel_username: Option<String>,
    /// The password of the Sentinels, if any.
    pub sentinel_password: Option<String>,
    /// The database number. Default 0; a Cluster has only 0.
    pub db: i64,
    /// Whether to speak TLS. Default `false`. Certificates are always verified.
    pub tls: bool,
    /// The certificates for TLS. Default: the system's roots, and no client certificate.
    pub tls_options: TlsOptions,
    /// Maximum repetitions of a command that failed and may be sent again. Default 2; 0 sends
    /// once. While the nodes of a Cluster disagree, a request is repeated for a second instead.
    pub max_retries: u32,
    /// The first pause before a repetition; it doubles each time, with up to 100 % jitter.
    /// Default 8 ms.
    pub min_retry_backoff: Duration,
    /// The longest pause before a repetition, jitter included. Default 512 ms.
    pub max_retry_backoff: Duration,
    /// Timeout of connecting, with TLS and authentication. Default 5 s, but at most 85 % of
    /// [`PoolSettings::request_limit`].
    pub dial_timeout: Duration,
    /// Timeout of a reply. Default 3 s. After it the outcome is unknown: the command may have run.
    pub read_timeout: Duration,
    /// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`) before the connection
    /// counts as lost. Default 3 s; 0 keeps the system's setting. No effect on Unix sockets.
    pub write_timeout: Duration,
    /// Connections that share the commands. Default 1, also for 0: a connection is multiplexed, so
    /// more help only with large replies.
    pub pool_size: u32,
    /// How long a command may wait for a connection, dialling included. Default 4 s.
    pub pool_timeout: Duration,
    /// Number of replicas that must have a job before its enqueue is acknowledged. Default 0. If
    /// fewer confirm within 2 s (two thirds of `read_timeout` if that is less), the outcome is
    /// unknown although the job is stored.
    pub wait_replicas: u32,
    /// How long one request may take in all, dialling, pauses and repetitions included. Default
    /// 3.5 s; no configuration key sets it.
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

/// Means "no timeout": longer than any caller waits, and safe to add to any instant.
pub(super) const UNBOUNDED_TIMEOUT: Duration = Duration::from_secs(365 * 86_400);

/// Replaces a timeout of zero, which means none, by the limit of the whole request, and cuts
/// huge ones, so that they can be added to any instant without overflow.
pub(super) fn within_reason(mut settings: PoolSettings) -> PoolSettings {
    settings.request_limit = settings.request_limit.min(UNBOUNDED_TIMEOUT);
    let limit = settings.request_limit;
    let timeouts =
        [&mut settings.dial_timeout, &mut settings.read_timeout, &mut settings.pool_timeout];
    for timeout in timeouts {
        *timeout = if timeout.is_zero() { limit } else { (*timeout).min(UNBOUNDED_TIMEOUT) };
    }
    for pause in [&mut settings.min_retry_backoff, &mut settings.max_retry_backoff] {
        *pause = (*pause).min(UNBOUNDED_TIMEOUT);
    }
    settings
}
