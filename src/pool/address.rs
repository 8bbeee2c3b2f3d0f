//! Addresses of servers: a host and a port, read from text once.
//!
//! All addresses of the configuration pass through here: the single server's, the Sentinels'
//! and the Cluster's. An IPv6 address needs brackets in the text (`[::1]:6379`), and has none
//! in [`HostPort`]. Nothing is looked up: a host name is resolved when it is dialled, so a name
//! may point to another machine after a failover.

use crate::error::Error;

/// A host name or address without brackets, and a port from 1.
pub(super) type HostPort = (String, u16);

/// The address as written in a configuration, with brackets around IPv6.
pub(super) fn shown((host, port): &HostPort) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Parses a list of addresses; `key` is for messages.
///
/// # Errors
/// [`Error::is_config`](crate::Error) for an empty list or a wrong address.
pub(super) fn hosts_and_ports(key: &str, addrs: &[String]) -> Result<Vec<HostPort>, Error> {
    if addrs.is_empty() {
        return Err(Error::config(format!("{key}: expected at least one host:port, got none")));
    }
    addrs.iter().map(|addr| host_and_port(key, addr)).collect()
}

/// Parses `host:port`. The port is required.
///
/// # Errors
/// Says what was expected. It does not repeat the address, which may contain a password by mistake.
pub(super) fn host_and_port(key: &str, addr: &str) -> Result<HostPort, Error> {
    let wrong = |got: &str| Error::config(format!("{key}: expected host:port, got {got}"));
    if addr.contains("://") {
        return Err(wrong("a URL"));
    }
    if addr.contains(['@', '/', ' ']) {
        return Err(wrong("something with more than a host and a port"));
    }
    let (host, port) = addr.rsplit_once(':').ok_or_else(|| wrong("no port"))?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
        Some(_) => return Err(wrong("brackets around something other than an IPv6 address")),
        None if host.contains(':') => return Err(wrong("an IPv6 address without brackets")),
        None => host,
    };
    if host.is_empty() {
        return Err(wrong("no host"));
    }
    match port.parse() {
        Ok(0) | Err(_) => Err(wrong("a port outside 1 to 65535")),
        Ok(port) => Ok((host.to_owned(), port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let ok = |addr: &str| host_and_port("addr", addr).unwrap();
        assert_eq!(ok("localhost:6379"), ("localhost".to_owned(), 6379));
        assert_eq!(ok("[::1]:6379"), ("::1".to_owned(), 6379));
    }

    #[test]
    fn a_wrong_address_is_told_apart_and_never_repeated() {
        let table = [
            ("localhost", "no port"),
            (":6379", "no host"),
            ("localhost:0", "a port outside 1 to 65535"),
            ("localhost:99999", "a port outside 1 to 65535"),
            ("redis://:secret@localhost:6379", "a URL"),
            ("user:secret@localhost:6379", "something with more than a host and a port"),
            ("::1:6379", "an IPv6 address without brackets"),
        ];
        for (addr, got) in table {
            let error = host_and_port("redis.jobqueue.addr", addr).unwrap_err();
            assert!(error.is_config());
            assert_eq!(
                error.to_string(),
                format!("redis.jobqueue.addr: expected host:port, got {got}")
            );
        }
    }
}
