//! The connections behind a pool: to one server, or to all servers of a Cluster.
//!
//! Everything above talks to a [`Backend`] and does not know which of the two it is. [`Haste`] is
//! the one difference that callers see: it only matters in a Cluster, where one server may hang
//! while the others serve.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::dial::Dialer;
use super::failure::RequestFailure;
use super::request::{Manner, Request};
use super::settings::PoolSettings;
use super::slot::Core;

/// How long a request waits for a server that cannot serve it immediately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// As long as a request may take.
    Patient,
    /// Not at all: its sender has other queues to serve, and comes back.
    Prompt,
}

/// What the clones of a pool share. When the last one is dropped, so is this, and the task that
/// watches the connections ends.
pub(super) struct Handle {
    pub(super) backend: Backend,
}

/// The connections behind a pool.
pub(super) enum Backend {
    /// One server at a time, which Sentinel may name.
    Server(Arc<Core>),
    /// All servers of a Cluster.
    Cluster(Arc<Cluster>),
}

impl Backend {
    /// Connections that are dialled at the first request. `longest` is set for a pool of blocking
    /// commands, and says for how long the server may block. A `quiet` pool logs lost
    /// connections at debug level only.
    pub(super) fn new(
        settings: PoolSettings,
        dialer: Arc<Dialer>,
        longest: Option<Duration>,
        quiet: bool,
    ) -> Self {
        match dialer.topology().cloned() {
            Some(known) => {
                Self::Cluster(Arc::new(Cluster::new(settings, dialer, known, longest, quiet)))
            }
            None => Self::Server(Arc::new(Core::new(settings, dialer, longest, quiet))),
        }
    }

    /// The settings that the pool was made with, within bounds.
    pub(super) fn settings(&self) -> &PoolSettings {
        match self {
            Self::Server(core) => &core.settings,
            Self::Cluster(cluster) => &cluster.settings,
        }
    }

    /// What makes its connections, and knows its address.
    pub(super) fn dialer(&self) -> &Arc<Dialer> {
        match self {
            Self::Server(core) => &core.dialer,
            Self::Cluster(cluster) => &cluster.dialer,
        }
    }

    /// Maximum time of one request: `request_limit`, and for a blocking pool the time that the
    /// server may block besides.
    pub(super) fn limit(&self) -> Duration {
        match self {
            Self::Server(core) => core.limit,
            Self::Cluster(cluster) => cluster.limit,
        }
    }

    /// Sends a request once. What to do about a failure is decided in
    /// [`RedisPool::request`](super::RedisPool::request).
    pub(super) async fn attempt(
        &self,
        deadline: Instant,
        request: &Request,
        haste: Haste,
    ) -> Result<Vec<Value>, RequestFailure> {
        match self {
            Self::Server(core) => core.attempt(deadline, request, &Manner::default()).await,
            Self::Cluster(cluster) => cluster.attempt(deadline, request, haste).await,
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        match &self.backend {
            Backend::Server(core) => core.end_watch(),
            Backend::Cluster(cluster) => cluster.end_watch(),
        }
    }
}
