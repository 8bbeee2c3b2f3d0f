//! One open connection, of whichever kind.
//!
//! All three kinds multiplex: many requests may be under way on one connection. A [`Link::Master`]
//! also carries the *term* under which it was dialled, so that a connection to a former master is
//! recognised after a failover.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisFuture, Value};

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
