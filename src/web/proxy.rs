//! Requests behind reverse proxies: the client's address, and the host, protocol and path
//! prefix that a browser shows. Forwarded headers are trusted only from
//! `jobqueue.trusted_proxies`, because any other client can write anything into them.
//!
//! | header | used for |
//! | --- | --- |
//! | `X-Forwarded-For`, else `Forwarded: for=` | the client's address: log and rate limit |
//! | `X-Forwarded-Host` and `-Port`, else `host=` | whether a form comes from this origin |
//! | `X-Forwarded-Proto`, else `proto=` | the same |
//! | `X-Forwarded-Prefix` | the beginning of links |
//!
//! What may surprise. With several proxies in a row each of them has to be trusted: the client
//! is the last address that is not. A prefix that is not a plain path is ignored, because a
//! link that begins with `//` would lead to another host.

#[cfg(feature = "openapi")]
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Once;

use ipnet::IpNet;
use rocket::Request;
use rocket::http::HeaderMap;
#[cfg(feature = "openapi")]
use rocket::request::{FromRequest, Outcome};

use super::JobQueue;

/// The longest accepted path prefix, in bytes.
const MAX_PREFIX_CHARS: usize = 256;

/// What trusted proxies say about a request; empty if no proxy is trusted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ProxyHeaders {
    /// Hosts, some with ports, one from each proxy that sent one, the outermost first.
    pub hosts: Vec<String>,
    /// `http` or `https`, from the same proxies.
    pub protocols: Vec<String>,
    /// The path at which the proxies publish this application: empty, or beginning with a slash and
    /// ending without one.
    pub prefix: String,
    /// Why a prefix that was sent is not used. Links would lead outside of it.
    pub ignored: Option<IgnoredPrefix>,
}

/// Why a prefix that a proxy sent is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IgnoredPrefix {
    /// This proxy is not trusted.
    Untrusted(IpAddr),
    /// A trusted proxy sent this, which is not a path. Cut to [`MAX_PREFIX_CHARS`] characters.
    NotAPath(String),
}

/// What trusted proxies say about this request, read once.
pub(crate) fn forwarded<'r>(request: &'r Request<'_>) -> &'r ProxyHeaders {
    request.local_cache(|| {
        let peer = request.remote().map(|peer| peer.ip());
        match peer {
            Some(peer) if !is_trusted(request, peer) => {
                let sent = request.headers().contains("X-Forwarded-Prefix");
                let ignored = sent.then_some(IgnoredPrefix::Untrusted(peer));
                ProxyHeaders { ignored, ..ProxyHeaders::default() }
            }
            Some(_) => {
                let forwarded = ProxyHeaders::read(request.headers());
                if let Some(IgnoredPrefix::NotAPath(found)) = &forwarded.ignored {
                    warn_of_prefix(found);
                }
                forwarded
            }
            None => ProxyHeaders::default(),
        }
    })
}

/// Warns once per process that a trusted proxy sends a prefix that is not used.
fn warn_of_prefix(found: &str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        crate::log::warn!(
            ?found,
            "a trusted proxy sends X-Forwarded-Prefix that is ignored: expected a path such as \
             /ops; links do not lead through the proxy's path"
        );
    });
}

/// The path at which a client finds the routes: the prefix of the proxies and our base.
#[cfg(feature = "openapi")]
pub(crate) struct PublicBase(pub String);

#[cfg(feature = "openapi")]
#[rocket::async_trait]
impl<'r> FromRequest<'r> for PublicBase {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Infallible> {
        let base = request.route().map_or("", |route| route.uri.base()).trim_end_matches('/');
        Outcome::Success(Self(format!("{}{base}", forwarded(request).prefix)))
    }
}

/// Whether this peer is one of `jobqueue.trusted_proxies`.
fn is_trusted(request: &Request<'_>, peer: IpAddr) -> bool {
    let queue = request.rocket().state::<JobQueue>();
    queue.is_some_and(|queue| contains(&queue.config().trusted_proxies, peer))
}

/// Whether one of these networks has this address. An IPv4 address inside IPv6 counts as IPv4.
fn contains(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip.to_canonical()))
}

impl ProxyHeaders {
    /// Reads the headers of a trusted proxy. `X-Forwarded-*` come before `Forwarded`, because a
    /// proxy that sets the former may pass on the latter from its client.
    fn read(headers: &HeaderMap<'_>) -> Self {
        let list = |name: &str| -> Vec<String> {
            let items = headers.get(name).flat_map(|line| line.split(','));
            items.map(|item| item.trim().to_ascii_lowercase()).filter(|it| !it.is_empty()).collect()
        };
        let standard = elements(headers);
        let or_standard = |name: &str, parameter: &str| {
            let ours = list(name);
            if !ours.is_empty() {
                return ours;
            }
            let values = standard.iter().flatten().filter(|(key, _)| key == parameter);
            values.map(|(_, value)| value.to_ascii_lowercase()).collect()
        };
        let ports = list("X-Forwarded-Port");
        let mut hosts = or_standard("X-Forwarded-Host", "host");
        // Some proxies send the port in a header of its own.
        if let (Some(host), Some(port)) = (hosts.first(), ports.first())
            && !has_port(host)
        {
            hosts.push(format!("{host}:{port}"));
        }
        let prefixes = headers.get("X-Forwarded-Prefix").flat_map(|line| line.split(','));
        let prefix: String = prefixes.map(|part| part.trim().trim_end_matches('/')).collect();
        let protocols = or_standard("X-Forwarded-Proto", "proto");
        if prefix.is_empty() || is_prefix(&prefix) {
            return Self { hosts, protocols, prefix, ignored: None };
        }
        let shown = prefix.chars().take(MAX_PREFIX_CHARS).collect();
        let ignored = Some(IgnoredPrefix::NotAPath(shown));
        Self { hosts, protocols, prefix: String::new(), ignored }
    }
}

/// Whether the host ends with a port.
fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether links may begin with it. With two leading slashes they would lead to another host.
fn is_prefix(text: &str) -> bool {
    let segment = |part: &str| !matches!(part, "" | "." | "..") && is_segment(part.as_bytes());
    text.len() <= MAX_PREFIX_CHARS
        && text.strip_prefix('/').is_some_and(|path| path.split('/').all(segment))
}

/// Whether the text is a path segment (RFC 3986) without encoded dots or slashes.
fn is_segment(mut part: &[u8]) -> bool {
    while let Some((&first, rest)) = part.split_first() {
        part = rest;
        if first != b'%' {
            if !first.is_ascii_alphanumeric() && !b"-._~!$&'()*+,;=:@".contains(&first) {
                return false;
            }
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| !digits.starts_with('+'));
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return false;
        };
        if byte.is_ascii_control() || b"./\\%".contains(&byte) {
            return false;
        }
        part = &rest[2..];
    }
    true
}

/// One element of `Forwarded`, added by one proxy: its parameters, with lower-case names.
type Element = Vec<(String, String)>;

/// The elements of `Forwarded` (RFC 7239), in order.
fn elements(headers: &HeaderMap<'_>) -> Vec<Element> {
    let mut all = Vec::new();
    for line in headers.get("Forwarded") {
        for element in split_unquoted(line, ',') {
            let pairs = split_unquoted(element, ';').filter_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                let value = value.trim();
                let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                let value = inner.map_or_else(|| value.to_owned(), |inner| inner.replace('\\', ""));
                Some((name.trim().to_ascii_lowercase(), value))
            });
            all.push(pairs.collect());
        }
    }
    all
}

/// Splits at separators outside of quoted strings.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        match (escaped, c) {
            (true, _) => escaped = false,
            (false, '\\') if quoted => escaped = true,
            (false, '"') => quoted = !quoted,
            (false, c) => return c == separator && !quoted,
        }
        false
    })
    .filter(|part| !part.trim().is_empty())
}

/// The address of the client: the peer of the connection, unless that is a trusted proxy. Then it
/// is the last address in `X-Forwarded-For`, or in `Forwarded` without that header, that is not a
/// trusted proxy. The client may have invented the addresses before it.
pub(super) fn client(peer: IpAddr, request: &HeaderMap<'_>, proxies: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    let lines = request.get("X-Forwarded-For");
    // A proxy that appends to an empty header leaves an empty element.
    let hops = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|hop| !hop.is_empty());
    let mut hops: Vec<Option<IpAddr>> = hops.map(address).collect();
    if hops.is_empty() {
        hops = elements(request).iter().map(hop).collect();
    }
    for hop in hops.into_iter().rev() {
        if !contains(proxies, client) {
            break;
        }
        let Some(before) = hop else { break };
        client = before;
    }
    client
}

/// The client of the proxy that added this element, if it is named exactly once.
fn hop(element: &Element) -> Option<IpAddr> {
    let mut named = element.iter().filter(|(name, _)| name == "for").map(|(_, value)| value);
    let (value, None) = (named.next()?, named.next()) else { return None };
    address(value)
}

/// The client of a request, by `jobqueue.trusted_proxies`.
pub(super) fn client_of(request: &Request<'_>) -> Option<IpAddr> {
    let peer = request.remote()?.ip();
    let queue = request.rocket().state::<JobQueue>();
    let proxies = queue.map_or(&[][..], |queue| &queue.config().trusted_proxies);
    Some(client(peer, request.headers(), proxies))
}

/// Parses an address as proxies write it, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().ok();
    let ip = ip.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|addr| addr.ip()));
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    ip.or_else(bare).map(|ip| ip.to_canonical())
}

/// The name under which a client is counted. A household or a server can choose any address within
/// 64 bits of IPv6, so these are one client.
pub(super) fn client_name(client: IpAddr) -> String {
    match client {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) if ip.is_loopback() => ip.to_string(),
        IpAddr::V6(ip) => {
            let network = std::net::Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64);
            format!("{network}/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use rocket::http::Header;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap<'static> {
        let mut headers = HeaderMap::new();
        all.iter().for_each(|(name, value)| headers.add(Header::new(*name, *value)));
        headers
    }

    #[test]
    fn a_forwarded_address_counts_only_behind_a_trusted_proxy() {
        let proxies: Vec<IpNet> =
            ["10.0.0.0/8", "fd00::/8"].iter().map(|text| text.parse().unwrap()).collect();
        let table: &[(&str, &[&'static str], &str)] = &[
            // Only a trusted proxy may name the client.
            ("8.8.8.8", &["1.1.1.1"], "8.8.8.8"),
            ("10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            // What the client wrote itself stands in front.
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6", "1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["6.6.6.6, unknown"], "10.0.0.1"),
            // An empty element says nothing.
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1, "], "1.1.1.1"),
            ("10.0.0.1", &["1.1.1.1,, ,10.0.0.2", "", " , "], "1.1.1.1"),
            ("10.0.0.1", &[", "], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("fd00::1", &["1.1.1.1:80"], "1.1.1.1"),
        ];
        for (peer, forwarded, expected) in table {
            let lines: Vec<_> = forwarded.iter().map(|line| ("X-Forwarded-For", *line)).collect();
            let found = client(ip(peer), &headers(&lines), &proxies);
            assert_eq!(found, ip(expected), "{peer} {forwarded:?}");
        }
        let one = headers(&[("X-Forwarded-For", "1.1.1.1")]);
        assert_eq!(client(ip("10.0.0.1"), &one, &[]), ip("10.0.0.1"));
    }

    #[test]
    fn the_standard_header_names_the_client_by_the_same_rules() {
        let proxies: Vec<IpNet> = ["10.0.0.0/8".parse().unwrap()].into();
        for (peer, forwarded, expected) in [
            ("8.8.8.8", r"for=1.1.1.1", "8.8.8.8"),
            ("10.0.0.1", r"for=1.1.1.1", "1.1.1.1"),
            ("10.0.0.1", r#"For="[2001:db8::7]:4711";proto=https"#, "2001:db8::7"),
            ("10.0.0.1", r"for=6.6.6.6, for=1.1.1.1;by=10.0.0.9, for=10.0.0.2", "1.1.1.1"),
            // An element that does not name exactly one client ends the chain.
            ("10.0.0.1", r"for=6.6.6.6, for=_hidden", "10.0.0.1"),
            ("10.0.0.1", r"for=6.6.6.6, for=unknown", "10.0.0.1"),
            ("10.0.0.1", r"for=6.6.6.6, proto=https", "10.0.0.1"),
            ("10.0.0.1", r"for=6.6.6.6;for=1.1.1.1", "10.0.0.1"),
            // A quote that a client leaves open swallows what the proxy adds.
            ("10.0.0.1", r#"for=6.6.6.6, x=", for=1.1.1.1"#, "10.0.0.1"),
        ] {
            let found = client(ip(peer), &headers(&[("Forwarded", forwarded)]), &proxies);
            assert_eq!(found, ip(expected), "{peer} {forwarded:?}");
        }
        let both = headers(&[("Forwarded", "for=1.1.1.1"), ("X-Forwarded-For", "2.2.2.2")]);
        assert_eq!(client(ip("10.0.0.1"), &both, &proxies), ip("2.2.2.2"));
    }

    #[test]
    fn ipv6_addresses_of_one_network_are_one_client() {
        assert_eq!(client_name(ip("2001:db8:1:2:3:4:5:6")), "2001:db8:1:2::/64");
        assert_eq!(client_name(ip("2001:db8:1:2:ffff::")), "2001:db8:1:2::/64");
        assert_eq!(client_name(ip("::1")), "::1");
        assert_eq!(client_name(ip("192.0.2.1")), "192.0.2.1");
    }

    #[test]
    fn a_prefix_is_a_plain_path_or_is_not_taken() {
        for (given, expected) in [
            (&["/ops"][..], "/ops"),
            (&["/ops/"], "/ops"),
            (&["/a, /b"], "/a/b"),
            (&["/a", "/b"], "/a/b"),
            (&["/ops@eu:1"], "/ops@eu:1"),
            (&["/a%20b"], "/a%20b"),
            (&["/a%2e%2E"], ""),
            (&["/a%2fb"], ""),
            (&["/a%2"], ""),
            (&["/"], ""),
            (&["ops"], ""),
            (&["//evil.example"], ""),
            (&["/a//b"], ""),
            (&["/a/../b"], ""),
            (&["/a?b"], ""),
            (&["/a\"b"], ""),
            (&["/\\evil.example"], ""),
            (&["https://evil.example"], ""),
        ] {
            let lines: Vec<_> = given.iter().map(|line| ("X-Forwarded-Prefix", *line)).collect();
            let found = ProxyHeaders::read(&headers(&lines));
            assert_eq!(found.prefix, expected, "{given:?}");
            let is_said = found.ignored.is_some();
            assert_eq!(is_said, expected.is_empty() && given != ["/"], "{given:?}");
        }
    }

    #[test]
    fn the_standard_header_is_read_where_the_others_are_absent() {
        let read = |all: &[(&'static str, &'static str)]| ProxyHeaders::read(&headers(all));
        let standard =
            ("Forwarded", r#"for="[2001:db8::1]";Host="shop.example:8443" ; proto=HTTPS, host=b"#);
        let found = read(&[standard]);
        assert_eq!(found.hosts, ["shop.example:8443", "b"]);
        assert_eq!(found.protocols, ["https"]);
        let both = read(&[standard, ("X-Forwarded-Host", "Other.example")]);
        assert_eq!(both.hosts, ["other.example"]);
        let port = read(&[("X-Forwarded-Host", "a.example"), ("X-Forwarded-Port", "8080")]);
        assert_eq!(port.hosts, ["a.example", "a.example:8080"]);
        assert_eq!(read(&[("Forwarded", r#"host="a,b;c"; by="#)]).hosts, ["a,b;c"]);
    }
}
