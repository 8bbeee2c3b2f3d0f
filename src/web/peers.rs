//! Whether the client of a waiting request is still connected. Rocket 0.5 does not say: it
//! serves a request to the end even if its connection is closed. On Linux the kernel's tables
//! of TCP connections say it; they are read a few times a second for all waiting requests. On
//! other systems, and for requests that did not come by TCP, a wait ends at its timeout.
//!
//! It matters because waits are bounded in number: without it, clients that wait and hang up
//! would keep the slots of others for up to a minute each. A wrong guess in the other direction
//! ends a wait early with the job's present state, which the client may ask for again.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rocket::Request;
use rocket::request::{FromRequest, Outcome};
use tokio::sync::watch;

/// Interval between two reads of the tables. A client that disconnects before the first read is not
/// detected: the application may have given the request another address.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

/// Maximum bytes of a table that is read: about 28,000 connections.
const MAX_TABLE_BYTES: u64 = 4 << 20;

/// The state of an open connection in the kernel's tables.
const ESTABLISHED: &str = "01";

/// The peers whose connections are open; `None` if that cannot be known.
pub(super) type Peers = Option<Arc<HashSet<SocketAddr>>>;

/// The address and port that a request comes from.
pub(crate) struct Peer(pub Option<SocketAddr>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Peer {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Infallible> {
        Outcome::Success(Self(request.remote()))
    }
}

/// Returns when the connection of this peer was seen open and is then missing in two tables in a
/// row: the kernel may leave a row out of one that changes while it is read.
pub(super) async fn hung_up(mut looks: watch::Receiver<Option<Peers>>, peer: SocketAddr) {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let (mut was_open, mut absences) = (false, 0);
    while looks.changed().await.is_ok() {
        let is_open = match &*looks.borrow_and_update() {
            Some(Some(open)) => open.contains(&peer),
            Some(None) | None => continue,
        };
        was_open |= is_open;
        absences = if is_open { 0 } else { absences + 1 };
        if was_open && absences == 2 {
            return;
        }
    }
    std::future::pending().await
}

/// The peers of all open TCP connections of this host; unknown if it has too many to read them
/// several times a second.
pub(super) async fn open() -> Peers {
    let read = || {
        let mut peers = None;
        for path in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
            let Ok(file) = File::open(path) else { continue };
            let mut table = String::new();
            file.take(MAX_TABLE_BYTES + 1).read_to_string(&mut table).ok()?;
            if table.len() as u64 > MAX_TABLE_BYTES {
                return None;
            }
            let rows = table.lines().skip(1);
            peers.get_or_insert_with(HashSet::new).extend(rows.filter_map(peer_of));
        }
        peers.map(Arc::new)
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// The peer of a row, if its connection is open. The format is `proc_net_tcp`'s: the third
/// column is the remote address, the fourth the state. An IPv4 address in IPv6 form is the same
/// peer.
fn peer_of(row: &str) -> Option<SocketAddr> {
    let mut columns = row.split_whitespace().skip(2);
    let (peer, state) = (columns.next()?, columns.next()?);
    if state != ESTABLISHED {
        return None;
    }
    let (ip, port) = peer.split_once(':')?;
    // 32-bit numbers in the byte order of the machine.
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok();
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?.to_ne_bytes());
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn the_peers_of_open_connections_are_read_from_the_kernels_table() {
        let v4 = "   0: 0100007F:1F40 0201A8C0:D431 01 00000000:00000000 00:00000000";
        let v6 = "   1: 00 0000000000000000FFFF00000100007F:B5C2 01 00000000:00000000";
        let closing = "   2: 0100007F:1F40 0201A8C0:D431 08 00000000:00000000 00:00000000";
        assert_eq!(peer_of(v4), Some("192.168.1.2:54321".parse().unwrap()));
        assert_eq!(peer_of(v6), Some("127.0.0.1:46530".parse().unwrap()));
        for other in [closing, "", "sl local rem st", "0: a b:c 01", "0: x 0100007F:zz 01"] {
            assert_eq!(peer_of(other), None, "{other}");
        }
    }
}
