//! The connection options, the same for every Redis: from keys and URL to
//! [`PoolSettings`]. It parses; the pool connects.
//!
//! The servers are given in one of three ways: a single address (`url`, `addr` or `addrs`),
//! `sentinel`, or `cluster`. Two of them at once are an error. A URL may also contain user,
//! password and database; a key of a stronger layer overrides that part, and so does a key of the
//! same layer.
//!
//! What may surprise. Several `addrs` mean a Cluster, one means a single server. `rediss://` in any
//! layer turns TLS on, and `tls = false` beside it is an error instead of silent plain text. PEM
//! files are read at launch, so that a wrong one stops it. Errors never repeat a URL, which may
//! contain a password.
//!
//! URLs are parsed here rather than by a library, because people write passwords into them with
//! characters that a URL does not allow. The last `@` ends the password, and percent escapes are
//! decoded.

use std::path::PathBuf;

use figment::value::Value;

use super::value::{Leaf, Table, kind, quoted};
use crate::error::Error;
use crate::pool::{PoolSettings, TlsOptions, Topology, WrongOption};

/// The usual ports of Redis and of Sentinel, for addresses without one.
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What a password is, for errors: YAML reads digits as a number.
const QUOTED_TEXT: &str = "text (a number needs quotes)";

/// The job queue's Redis; `localhost:6379` if no address is given.
///
/// # Errors
/// The first wrong value, or a contradiction between two keys, with file and key.
pub(super) fn read(table: &Table) -> Result<PoolSettings, Error> {
    let url = read_url(table)?;
    let topology = topology(table, url.as_ref())?.unwrap_or(PoolSettings::default().topology);
    settings(table, url.as_ref(), topology)
}

/// The application's other Redis; `None` if no address is given.
pub(super) fn read_default(table: &Table) -> Result<Option<PoolSettings>, Error> {
    let url = read_url(table)?;
    let topology = topology(table, url.as_ref())?;
    // Without an address the other keys are still checked.
    let is_given = topology.is_some();
    let topology = topology.unwrap_or(PoolSettings::default().topology);
    Ok(Some(settings(table, url.as_ref(), topology)?).filter(|_| is_given))
}

/// What a URL says, and the key that holds it. A part that the URL leaves out is `None`, so
/// that the section's other keys can give it.
struct Url<'a> {
    leaf: &'a Leaf,
    topology: Topology,
    username: Option<String>,
    password: Option<String>,
    db: Option<u32>,
    tls: bool,
}

/// The servers, from whichever keys name them; `None` if none do.
///
/// If both `url` and `addr` are given, the stronger layer wins, and within one layer `addr`: so
/// an environment variable can replace the address of a file, whichever of the two forms it
/// uses.
fn topology(table: &Table, url: Option<&Url<'_>>) -> Result<Option<Topology>, Error> {
    let addr = table.get("addr");
    let addrs = table.get("addrs");
    let master = table.get("sentinel.master");
    let sentinels = table.get("sentinel.addrs");
    let cluster = table.get("cluster.addrs");

    let single = url.map(|url| url.leaf).or(addr).or(addrs);
    let given: Vec<_> = [single, master.or(sentinels), cluster].into_iter().flatten().collect();
    if let [first, second, ..] = given[..] {
        return Err(second.error(
            "one of a single address, sentinel and cluster",
            &format!("{} as well", first.place()),
        ));
    }
    if let (Some(url), Some(addrs)) = (url, addrs) {
        return Err(addrs.error("either url or addrs", &format!("{} as well", url.leaf.place())));
    }
    if let Some(cluster) = cluster {
        return Ok(Some(Topology::Cluster(addresses(cluster, REDIS_PORT)?)));
    }
    match (master, sentinels) {
        (Some(master), Some(sentinels)) => {
            return Ok(Some(Topology::Sentinel {
                master: master.text("the master's name")?.trim().to_owned(),
                addrs: addresses(sentinels, SENTINEL_PORT)?,
            }));
        }
        (Some(leaf), None) => {
            return Err(leaf.error("sentinel.addrs beside sentinel.master", "none"));
        }
        (None, Some(leaf)) => {
            return Err(leaf.error("sentinel.master beside sentinel.addrs", "none"));
        }
        (None, None) => {}
    }
    if let Some(addrs) = addrs {
        let mut addrs = addresses(addrs, REDIS_PORT)?;
        // A single server does not understand the commands of a Cluster.
        return Ok(Some(match addrs.len() {
            1 => Topology::Single(addrs.remove(0)),
            _ => Topology::Cluster(addrs),
        }));
    }
    match (addr, url) {
        (Some(addr), Some(url)) if addr.rank < url.leaf.rank => Ok(Some(url.topology.clone())),
        (Some(addr), _) => match socket(addr) {
            Some(socket) => socket.map(Some),
            None => Ok(Some(Topology::Single(address(addr, &addr.value, REDIS_PORT)?))),
        },
        (None, Some(url)) => Ok(Some(url.topology.clone())),
        (None, None) => Ok(None),
    }
}

/// All settings of a pool: from the keys, or else from the URL, or else the defaults.
fn settings(
    table: &Table,
    url: Option<&Url<'_>>,
    topology: Topology,
) -> Result<PoolSettings, Error> {
    let default = PoolSettings::default();
    let of_url = url.and_then(|url| url.username.clone());
    let username = credential(table, url, "username", "text", of_url)?;
    let of_url = url.and_then(|url| url.password.clone());
    let password = credential(table, url, "password", QUOTED_TEXT, of_url)?;
    let sentinel_username = of_sentinel(table, &topology, "sentinel.username", "text")?;
    let sentinel_password = of_sentinel(table, &topology, "sentinel.password", QUOTED_TEXT)?;
    let db = database(table, url, &topology)?;
    let tls = tls(table, url)?;
    let tls_options = tls_options(table, tls, &topology)?;
    let settings = PoolSettings {
        topology,
        username,
        password,
        sentinel_username,
        sentinel_password,
        db: i64::from(db),
        tls,
        tls_options,
        max_retries: table.number("max_retries", default.max_retries)?,
        min_retry_backoff: table.duration("min_retry_backoff", default.min_retry_backoff)?,
        max_retry_backoff: table.duration("max_retry_backoff", default.max_retry_backoff)?,
        dial_timeout: table.duration("dial_timeout", default.dial_timeout)?,
        read_timeout: table.duration("read_timeout", default.read_timeout)?,
        write_timeout: table.duration("write_timeout", default.write_timeout)?,
        pool_size: table.number("pool_size", default.pool_size)?,
        pool_timeout: table.duration("pool_timeout", default.pool_timeout)?,
        wait_replicas: table.number("wait_replicas", default.wait_replicas)?,
        request_limit: default.request_limit,
    };
    check_pauses(table, &settings)?;
    Ok(settings)
}

/// The value of a key that the URL has too, unless the URL comes from a stronger layer. In the
/// same layer the key is the more particular statement.
fn beside_url<'a>(
    table: &'a Table,
    url: Option<&Url<'_>>,
    key: &str,
    in_url: bool,
) -> Option<&'a Leaf> {
    let is_weaker = |leaf: &Leaf| url.is_some_and(|url| in_url && leaf.rank < url.leaf.rank);
    table.get(key).filter(|leaf| !is_weaker(leaf))
}

/// A user name or password for the servers, from its key or from the URL.
fn credential(
    table: &Table,
    url: Option<&Url<'_>>,
    key: &str,
    expected: &str,
    of_url: Option<String>,
) -> Result<Option<String>, Error> {
    match beside_url(table, url, key, of_url.is_some()) {
        Some(leaf) => Ok(Some(leaf.text(expected)?.to_owned())),
        None => Ok(of_url),
    }
}

/// A user name or password for the Sentinels; an error without Sentinels. Empty means none.
fn of_sentinel(
    table: &Table,
    topology: &Topology,
    key: &str,
    expected: &str,
) -> Result<Option<String>, Error> {
    let Some(leaf) = table.get(key) else { return Ok(None) };
    if !matches!(topology, Topology::Sentinel { .. }) {
        return Err(leaf.error("sentinel.master and sentinel.addrs beside it", "neither"));
    }
    Ok(Some(leaf.text(expected)?.to_owned()).filter(|text| !text.is_empty()))
}

/// The number of the database; 0 means the URL's. A Cluster has database 0 only.
fn database(table: &Table, url: Option<&Url<'_>>, topology: &Topology) -> Result<u32, Error> {
    let of_url = url.and_then(|url| url.db);
    let key = beside_url(table, url, "db", of_url.is_some());
    let db = match key.map(|leaf| leaf.number(0, u32::MAX)).transpose()? {
        None | Some(0) => of_url.unwrap_or(0),
        Some(db) => db,
    };
    match key.filter(|_| db != 0 && matches!(topology, Topology::Cluster(_))) {
        Some(leaf) => Err(leaf.error("0, a Cluster's only database", &db.to_string())),
        None => Ok(db),
    }
}

/// An error if the first pause between two tries is longer than the longest.
fn check_pauses(table: &Table, settings: &PoolSettings) -> Result<(), Error> {
    let pauses = table.get("min_retry_backoff").or(table.get("max_retry_backoff"));
    match pauses.filter(|_| settings.min_retry_backoff > settings.max_retry_backoff) {
        Some(leaf) => Err(leaf.error(
            "min_retry_backoff of at most max_retry_backoff",
            &format!("{:?} and {:?}", settings.min_retry_backoff, settings.max_retry_backoff),
        )),
        None => Ok(()),
    }
}

/// Whether to speak TLS. `rediss://` means yes, and a contradiction is an error.
fn tls(table: &Table, url: Option<&Url<'_>>) -> Result<bool, Error> {
    let secure = url.filter(|url| url.tls);
    match (table.get("tls"), secure) {
        (None, secure) => Ok(secure.is_some()),
        (Some(leaf), None) => leaf.bool(),
        // Never leave TLS by accident: a layer may say `false` without knowing the URL.
        (Some(leaf), Some(url)) if !leaf.bool()? => {
            let found = format!("false, and rediss:// in {}", url.leaf.place());
            Err(leaf.error("true, or a redis:// URL", &found))
        }
        (Some(_), Some(_)) => Ok(true),
    }
}

/// Reads the TLS options and checks the files, so that a wrong one stops the launch with its key.
fn tls_options(table: &Table, tls: bool, topology: &Topology) -> Result<TlsOptions, Error> {
    let text = |option: &str, expected: &str| {
        let leaf = table.get(&format!("tls_{option}"));
        leaf.map(|leaf| leaf.text(expected).map(str::to_owned)).transpose()
    };
    let file = |option| Ok::<_, Error>(text(option, "the path of a PEM file")?.map(PathBuf::from));
    let options = TlsOptions {
        ca_file: file("ca_file")?,
        cert_file: file("cert_file")?,
        key_file: file("key_file")?,
        server_name: text("server_name", "a host name")?,
    };
    let given = ["tls_ca_file", "tls_cert_file", "tls_key_file", "tls_server_name"];
    let first = given.iter().find_map(|key| table.get(key));
    match (first, tls) {
        (None, _) => {
            if let Some(leaf) = table.get("tls").filter(|_| tls && is_unix(topology)) {
                return Err(leaf.error("false with a Unix socket", "true"));
            }
            return Ok(options);
        }
        // A layer may switch TLS off without knowing what the others say of it.
        (Some(_), false) if table.get("tls").is_some() => return Ok(TlsOptions::default()),
        (Some(leaf), false) => return Err(leaf.error("tls = true beside it", "no tls")),
        (Some(_), true) => {}
    }
    options.check().map_err(|WrongOption { option, expected, found }| {
        let leaf = table.get(&format!("tls_{option}")).or(first).expect("the option was given");
        leaf.error(expected, &found)
    })?;
    Ok(options)
}

/// Whether the server is on this machine, where TLS makes no sense.
fn is_unix(topology: &Topology) -> bool {
    matches!(topology, Topology::Unix(_))
}

/// The URL, if one is given. An error does not repeat it.
fn read_url(table: &Table) -> Result<Option<Url<'_>>, Error> {
    const EXPECTED: &str = "redis:// or rediss://[user[:password]@]host[:port][/db], \
                            or unix://[user[:password]@]/path[?db=n], each part once";
    let Some(leaf) = table.get("url") else { return Ok(None) };
    let text = leaf.text(EXPECTED)?;
    parse_url(leaf, text.trim())
        .map(Some)
        // A URL may hold a password, so what was found is not repeated.
        .ok_or_else(|| leaf.error(EXPECTED, "something else (not shown)"))
}

/// Parses a `redis://`, `rediss://` or socket URL; `None` if it is not one.
fn parse_url<'a>(leaf: &'a Leaf, text: &str) -> Option<Url<'a>> {
    let (scheme, rest) = text.split_once("://")?;
    if SOCKET_SCHEMES.contains(&scheme) {
        return parse_socket(leaf, rest);
    }
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    if rest.contains(['?', '#']) {
        return None;
    }
    // A password may hold a slash or an `@` unescaped: the last `@` ends it.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (user, rest),
        None => ("", rest),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (username, password) = user.split_once(':').unwrap_or((user, ""));
    let db = if path.is_empty() { None } else { Some(path.parse().ok()?) };
    let given = |text: &str| decoded(text).map(|text| Some(text).filter(|text| !text.is_empty()));
    Some(Url {
        leaf,
        topology: Topology::Single(host_and_port(host, REDIS_PORT)?),
        username: given(username)?,
        password: given(password)?,
        db,
        tls,
    })
}

/// Schemes of a Unix socket. `redis-socket` is the one that Asynq uses.
const SOCKET_SCHEMES: [&str; 3] = ["unix", "redis+unix", "redis-socket"];

/// `[user[:password]@]/path[?db=n]`, with user and password in the query too, as other clients
/// write it. An unknown name in the query is an error: it may be a misspelled `password`. So is a
/// part that is given twice, in whatever form: nobody can tell which one was meant.
fn parse_socket<'a>(leaf: &'a Leaf, text: &str) -> Option<Url<'a>> {
    let (rest, query) = text.split_once('?').unwrap_or((text, ""));
    // Before the path only: a path may hold an `@`.
    let (user, path) = match rest.find('/')? {
        0 => ("", rest),
        slash => (rest[..slash].strip_suffix('@')?, &rest[slash..]),
    };
    let (username, password) = user.split_once(':').unwrap_or((user, ""));
    let given = |text: &str| decoded(text).map(|text| Some(text).filter(|text| !text.is_empty()));
    let path = decoded(path).filter(|path| path.len() > 1)?;
    let mut url = Url {
        leaf,
        topology: Topology::Unix(path.into()),
        username: given(username)?,
        password: given(password)?,
        db: None,
        tls: false,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=')?;
        let is_repeated = match key {
            "db" => url.db.replace(value.parse().ok()?).is_some(),
            "user" | "username" => repeats(&mut url.username, given(value)?),
            "pass" | "password" => repeats(&mut url.password, given(value)?),
            _ => return None,
        };
        if is_repeated {
            return None;
        }
    }
    Some(url)
}

/// Takes the given part of a URL. Returns whether an earlier one is replaced.
fn repeats(part: &mut Option<String>, given: Option<String>) -> bool {
    given.is_some_and(|text| part.replace(text).is_some())
}

/// The socket that `addr` names, if it is one. It must not contain credentials.
fn socket(leaf: &Leaf) -> Option<Result<Topology, Error>> {
    let Value::String(_, text) = &leaf.value else { return None };
    let (scheme, _) = text.trim().split_once("://")?;
    SOCKET_SCHEMES.contains(&scheme).then_some(())?;
    let plain = parse_url(leaf, text.trim())
        .filter(|url| url.username.is_none() && url.password.is_none() && url.db.is_none());
    Some(plain.map(|url| url.topology).ok_or_else(|| {
        leaf.error("host:port, or unix:// with a path alone", "another text (not shown)")
    }))
}

/// Text without its percent escapes. `None` for a broken escape, or for bytes that are not
/// UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// A list of addresses, with the default port if one has none.
fn addresses(leaf: &Leaf, port: u16) -> Result<Vec<String>, Error> {
    let items = leaf.list("a list of addresses, each as host:port")?;
    items.iter().map(|item| address(leaf, item, port)).collect()
}

/// One address as `host:port`, with the default port if it has none. An error quotes it unless
/// it may hold credentials.
fn address(leaf: &Leaf, value: &Value, port: u16) -> Result<String, Error> {
    const EXPECTED: &str = "an address as host:port";
    match value {
        Value::String(_, text) => {
            host_and_port(text.trim(), port).ok_or_else(|| leaf.error(EXPECTED, &quoted(text)))
        }
        other => Err(leaf.error(EXPECTED, kind(other))),
    }
}

/// `host:port`, with the default port if none is given. An IPv6 address needs brackets: without
/// them nobody can tell its last group from a port. `None` for anything that cannot be a host,
/// such as a text with a slash or a space, and for port 0.
fn host_and_port(text: &str, default: u16) -> Option<String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
            (format!("[{host}]"), port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        },
    };
    let name = host.trim_matches(['[', ']']);
    let is_host =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
    let port = match port {
        Some(port) if port.chars().all(|c| c.is_ascii_digit()) => port.parse().ok()?,
        Some(_) => return None,
        None => default,
    };
    (is_host && port != 0).then(|| format!("{host}:{port}"))
}
