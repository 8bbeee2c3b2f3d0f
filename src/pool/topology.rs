//! Which server of a Cluster has which slot: asked of all known servers at
//! once, shared by all connections of a pool, and corrected by every redirection.
//!
//! A server that does not answer delays no request: the newest view, by configuration epoch,
//! among the servers that answer within a moment counts. A refresh is shared: callers that come
//! while one runs, or right after it, get its result.
//!
//! What may surprise. A view can be wrong at any time. So a redirection corrects a single slot at
//! once ([`ClusterTopology::moved`]), and only a refresh replaces the whole view. Sending is done
//! in `cluster`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::address::HostPort;
use super::dial::{Dialer, Link};
use super::failure::{self, Meaning, timed_out};
use crate::chance::Chance;
use crate::sync::lock;

/// Number of slots of every Cluster.
const SLOT_COUNT: u16 = 16_384;

/// How long one server may take to describe the cluster.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the others may take once one server has described it: a server that was
/// away may report an old view.
const SECOND_OPINION_TIMEOUT: Duration = Duration::from_millis(200);

/// Minimum interval between two refreshes; earlier callers get the last result.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(250);

/// A refresh that runs longer is stuck, with the runtime that runs it: another one begins.
const STUCK_AFTER: Duration = Duration::from_millis(1500);

/// Maximum servers asked in one refresh. In a Cluster of hundreds, a dozen answers show the
/// newest view; asking all of them at every hiccup would be a load of its own.
const MAX_ASKED_SERVERS: usize = 12;

/// The slot of a key: CRC-16 (XMODEM) of its hash tag, or of the whole key.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let hashed = hash_tag(key).map_or(key, |tag| &key[tag]);
    let crc = hashed.iter().fold(0_u16, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    });
    crc % SLOT_COUNT
}

/// The range of the hash tag: between the first brace and the next closing one.
fn hash_tag(key: &[u8]) -> Option<std::ops::Range<usize>> {
    let open = key.iter().position(|&byte| byte == b'{')?;
    let length = key[open + 1..].iter().position(|&byte| byte == b'}')?;
    (length > 0).then(|| open + 1..open + 1 + length)
}

/// A key of the same slot that never exists. `None` for the rare key with braces
/// that leave no way to name one.
///
/// A command that names it beside its own key is refused by both servers while the
/// slot moves from one to the other: with two keys and one of them missing the old
/// server answers ASK or TRYAGAIN, and the new one TRYAGAIN. With one key it would be
/// served by whichever has the key, and the two halves of the data would part.
pub(super) fn never_key(key: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b":x:never";
    match hash_tag(key) {
        Some(tag) => Some([&key[..=tag.end], NAME].concat()),
        None if key.is_empty() || key.contains(&b'}') || key.contains(&b'{') => None,
        None => Some([b"{", key, b"}", NAME].concat()),
    }
}

/// One view of the cluster. An immutable snapshot: readers hold an `Arc` of it and never wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SlotMap {
    /// For each slot the index of its server in `masters`, or an index beyond if no server has
    /// it. Empty while the cluster is unknown. 16,384 entries of two bytes: 32 KiB a view.
    owners: Vec<u16>,
    masters: Vec<HostPort>,
    replicas: Vec<HostPort>,
    epoch: u64,
}

impl SlotMap {
    /// The server that has this slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&HostPort> {
        let nth = self.owners.get(usize::from(slot))?;
        self.masters.get(usize::from(*nth))
    }

    /// The servers that have slots.
    pub(super) fn masters(&self) -> &[HostPort] {
        &self.masters
    }

    /// All servers, masters first.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &HostPort> {
        self.masters.iter().chain(&self.replicas)
    }

    /// Whether any server has slots. A view without masters is the initial one, or a Cluster
    /// that has not been formed.
    fn is_known(&self) -> bool {
        !self.masters.is_empty()
    }

    /// The index of a master in `masters`; adds it if it is new.
    fn place_of(&mut self, master: HostPort) -> u16 {
        let known = self.masters.iter().position(|one| *one == master);
        let place = known.unwrap_or_else(|| {
            self.replicas.retain(|one| *one != master);
            self.masters.push(master);
            self.masters.len() - 1
        });
        u16::try_from(place).unwrap_or(u16::MAX)
    }

    /// Parses a reply to CLUSTER SLOTS. `told_by` replaces hosts without a name: a server that
    /// does not know its own address leaves it out, and then means itself. `None` if the reply
    /// has another form.
    fn parse(slots: Value, told_by: &HostPort) -> Option<Self> {
        let mut map = Self { owners: vec![u16::MAX; usize::from(SLOT_COUNT)], ..Self::default() };
        let Value::Array(ranges) = slots else { return None };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let mut range = range.into_iter();
            let first = u16::from_redis_value(range.next()?).ok()?;
            let last = u16::from_redis_value(range.next()?).ok()?.min(SLOT_COUNT - 1);
            let mut nodes = range.filter_map(|node| {
                let Value::Array(node) = node else { return None };
                let mut node = node.into_iter();
                let host = Option::<String>::from_redis_value(node.next()?).ok()?;
                let port = u16::from_redis_value(node.next()?).ok()?;
                let named = host.filter(|host| !host.is_empty() && host != "?");
                Some((named.unwrap_or_else(|| told_by.0.clone()), port))
            });
            let master = map.place_of(nodes.next()?);
            map.owners[usize::from(first)..=usize::from(last)].fill(master);
            for replica in nodes {
                if !map.masters.contains(&replica) && !map.replicas.contains(&replica) {
                    map.replicas.push(replica);
                }
            }
        }
        Some(map)
    }
}

/// The current view of the cluster, shared by all connections.
pub(super) struct ClusterTopology {
    map: watch::Sender<Arc<SlotMap>>,
    refreshes: Mutex<Refreshes>,
    /// Notifies callers that a refresh has ended.
    ended: watch::Sender<()>,
}

/// One refresh runs at a time, unless it is stuck. The count tells a refresh that was replaced
/// because it was stuck that its result no longer matters.
#[derive(Default)]
struct Refreshes {
    count: u64,
    /// Number and start of the running refresh.
    running: Option<(u64, Instant)>,
    /// When the last one ended, and how.
    last: Option<(Instant, RedisResult<()>)>,
}

impl Refreshes {
    /// The result of a refresh that ended within [`MIN_REFRESH_INTERVAL`].
    fn fresh(&self) -> Option<&RedisResult<()>> {
        let (ended, result) = self.last.as_ref()?;
        (ended.elapsed() < MIN_REFRESH_INTERVAL).then_some(result)
    }

    /// Until when callers wait for the running refresh.
    fn running_until(&self) -> Option<Instant> {
        let (_, began) = self.running?;
        Some(began + STUCK_AFTER).filter(|until| *until > Instant::now())
    }
}

/// A running refresh. If it is dropped before its end, another one may start.
struct RunningRefresh<'a> {
    topology: &'a ClusterTopology,
    number: u64,
}

impl Drop for RunningRefresh<'_> {
    fn drop(&mut self) {
        let mut refreshes = lock(&self.topology.refreshes);
        refreshes.running.take_if(|running| running.0 == self.number);
        drop(refreshes);
        self.topology.ended.send_replace(());
    }
}

impl Default for ClusterTopology {
    fn default() -> Self {
        Self {
            map: watch::Sender::new(Arc::default()),
            refreshes: Mutex::default(),
            ended: watch::Sender::new(()),
        }
    }
}

impl ClusterTopology {
    /// The current view. It may be outdated at any time.
    pub(super) fn map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.map.borrow())
    }

    /// A receiver that sees every change.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<SlotMap>> {
        self.map.subscribe()
    }

    /// Records that the server of this slot said that another one has it.
    pub(super) fn moved(&self, slot: u16, to: HostPort) {
        self.map.send_if_modified(|map| {
            if map.owner(slot) == Some(&to) || !map.is_known() {
                return false;
            }
            let map = Arc::make_mut(map);
            let place = map.place_of(to);
            map.owners[usize::from(slot)] = place;
            true
        });
    }

    /// Learns the cluster, unless it is known. Called before each request; after the first one
    /// it costs a look at the view.
    pub(super) async fn learn(&self, dialer: &Dialer) -> RedisResult<()> {
        if self.map.borrow().is_known() {
            return Ok(());
        }
        self.refresh(dialer).await
    }

    /// Asks all known servers again, unless that was done just now. Callers that come while
    /// another refresh runs wait for it and get its result.
    ///
    /// # Errors
    /// No server described the cluster in time. The last view stays in use.
    pub(super) async fn refresh(&self, dialer: &Dialer) -> RedisResult<()> {
        let mut ended = self.ended.subscribe();
        let number = loop {
            let until = {
                let mut refreshes = lock(&self.refreshes);
                if let Some(result) = refreshes.fresh() {
                    return result.clone();
                }
                match refreshes.running_until() {
                    Some(until) => until,
                    None => {
                        refreshes.count += 1;
                        refreshes.running = Some((refreshes.count, Instant::now()));
                        break refreshes.count;
                    }
                }
            };
            // It ended, was given up or is stuck: the code above finds out which.
            let _ = timeout_at(until, ended.changed()).await;
        };
        let running = RunningRefresh { topology: self, number };
        let found = self.ask(dialer).await;
        let result = found.as_ref().map(drop).map_err(Clone::clone);
        {
            let mut refreshes = lock(&self.refreshes);
            // If another refresh replaced this one because it was stuck, that one counts.
            if refreshes.count == number {
                refreshes.last = Some((Instant::now(), result.clone()));
                if let Ok(map) = found {
                    self.learned(map);
                }
            }
        }
        drop(running);
        result
    }

    /// Whether a refresh runs now or has just ended.
    pub(super) fn is_fresh(&self) -> bool {
        let refreshes = lock(&self.refreshes);
        refreshes.running_until().is_some() || refreshes.fresh().is_some()
    }

    /// Replaces the view, and notifies watchers if it changed.
    fn learned(&self, map: SlotMap) {
        self.map.send_if_modified(|current| {
            if **current == map {
                return false;
            }
            *current = Arc::new(map);
            true
        });
    }

    /// Asks the configured and the known servers, at most [`MAX_ASKED_SERVERS`], and returns the
    /// view with the highest epoch. An error if none describes the cluster.
    async fn ask(&self, dialer: &Dialer) -> RedisResult<SlotMap> {
        let known = self.map();
        let mut asked: Vec<HostPort> = known.nodes().cloned().collect();
        Chance::system().shuffle(&mut asked);
        // Configured servers are asked first: others may have left the cluster.
        asked.splice(..0, dialer.seeds().iter().cloned());
        let mut distinct: Vec<HostPort> = Vec::new();
        asked.retain(|addr| {
            let is_new = !distinct.contains(addr);
            if is_new {
                distinct.push(addr.clone());
            }
            is_new
        });
        asked.truncate(MAX_ASKED_SERVERS);
        let mut answers: FuturesUnordered<_> = asked
            .into_iter()
            .map(|addr| async move {
                let described = timeout(ANSWER_TIMEOUT, describe(dialer, &addr));
                described.await.unwrap_or_else(|_| Err(timed_out()))
            })
            .collect();
        let mut best: Option<SlotMap> = None;
        let mut worst: RedisError =
            (ErrorKind::ClusterConnectionNotFound, "no server of the cluster answered").into();
        let mut until = Instant::now() + ANSWER_TIMEOUT;
        while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
            match answer {
                Ok(map) => {
                    until = until.min(Instant::now() + SECOND_OPINION_TIMEOUT);
                    if best.as_ref().is_none_or(|best| map.epoch > best.epoch) {
                        best = Some(map);
                    }
                }
                // A refusal is what the user can do something about.
                Err(error) if matches!(failure::meaning(&worst), Meaning::Refused(_)) => {
                    crate::log::debug!(%error, "a server did not describe the cluster");
                }
                Err(error) => worst = error,
            }
        }
        best.ok_or(worst)
    }
}

/// How one server sees the cluster: its epoch and the owner of each slot. The connection is
/// made for this one question, so that a server that hangs on other connections is still asked.
async fn describe(dialer: &Dialer, addr: &HostPort) -> RedisResult<SlotMap> {
    let mut link = Link::Server(dialer.server(addr).await?);
    let mut pipeline = redis::pipe();
    pipeline.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    // Two answers, each with its own error: a user may lack permission for the first.
    let answers =
        redis::aio::ConnectionLike::req_packed_commands(&mut link, &pipeline, 0, 2).await?;
    let [info, slots] = <[Value; 2]>::try_from(answers)
        .map_err(|_| RedisError::from((ErrorKind::UnexpectedReturnType, "two answers expected")))?;
    let info = String::from_redis_value(info).unwrap_or_default();
    let epoch = info.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:"));
    let epoch = epoch.and_then(|epoch| epoch.trim().parse().ok()).unwrap_or(0);
    let map = SlotMap::parse(slots.extract_error()?, addr).filter(SlotMap::is_known);
    let none = "no server has slots of the cluster";
    map.map(|map| SlotMap { epoch, ..map })
        .ok_or_else(|| (ErrorKind::ClusterConnectionNotFound, none).into())
}

#[cfg(test)]
mod tests {
    use super::super::settings::{PoolSettings, Topology};
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn a_key_has_the_slot_that_redis_gives_it() {
        let table: [(&str, u16); 5] = [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("bar{foo}{x}", 12_182),
            ("foo{}{bar}", 8_363),
        ];
        for (key, slot) in table {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn the_key_that_never_exists_is_in_the_same_slot() {
        for (key, never) in [
            ("app:{mail}:pending", Some("app:{mail}:x:never")),
            ("app:{a:b}:pending", Some("app:{a:b}:x:never")),
            ("app:queues", Some("{app:queues}:x:never")),
            ("odd}key", None),
            ("odd{}key", None),
        ] {
            let found = never_key(key.as_bytes());
            assert_eq!(found.as_deref(), never.map(str::as_bytes), "{key}");
            if let Some(found) = found {
                assert_eq!(slot_of(&found), slot_of(key.as_bytes()), "{key}");
            }
        }
    }

    #[test]
    fn an_answer_to_cluster_slots_names_the_owner_of_each_slot() {
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range = |first, last, nodes: Vec<Value>| {
            Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
        };
        let slots = Value::Array(vec![
            range(0, 9, vec![node(text("a"), 1), node(text("b"), 2)]),
            range(10, 16_382, vec![node(Value::Nil, 3)]),
        ]);
        let map = SlotMap::parse(slots, &("asked".into(), 9)).unwrap();
        assert_eq!(map.owner(9), Some(&("a".to_owned(), 1)));
        assert_eq!(map.owner(10), Some(&("asked".to_owned(), 3)));
        assert_eq!(map.owner(16_383), None);
        assert_eq!(map.nodes().count(), 3);
    }

    #[tokio::test]
    async fn a_refresh_that_is_stuck_stops_no_other_one() {
        let settings = PoolSettings {
            topology: Topology::Cluster(vec!["127.0.0.1:1".to_owned()]),
            ..PoolSettings::default()
        };
        let dialer = Dialer::new(&settings, settings.read_timeout).unwrap();
        let topology = ClusterTopology::default();
        let mut stuck = Box::pin(topology.refresh(&dialer));
        assert!(futures_util::poll!(&mut stuck).is_pending());
        assert!(topology.is_fresh());
        let other = timeout(4 * STUCK_AFTER, topology.refresh(&dialer)).await;
        assert!(other.is_ok_and(|answer| answer.is_err()), "nobody is there, which is told");
        tokio::time::sleep(MIN_REFRESH_INTERVAL).await;
        assert!(!topology.is_fresh());
        // One that is given up makes room at once.
        let mut given_up = Box::pin(topology.refresh(&dialer));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        drop(given_up);
        assert!(!topology.is_fresh());
    }

    #[test]
    fn a_redirection_moves_one_slot() {
        let topology = ClusterTopology::default();
        topology.moved(5, ("b".into(), 2));
        assert_eq!(topology.map().owner(5), None, "nothing is known yet");
        let mut map = SlotMap { owners: vec![0; usize::from(SLOT_COUNT)], ..SlotMap::default() };
        map.place_of(("a".into(), 1));
        topology.map.send_replace(Arc::new(map));
        topology.moved(5, ("b".into(), 2));
        let map = topology.map();
        assert_eq!(map.owner(5), Some(&("b".to_owned(), 2)));
        assert_eq!(map.owner(6), Some(&("a".to_owned(), 1)));
    }
}
