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
use super::dial::Dialer;
use super::failure::{self, Meaning, timed_out};
use super::link::Link;
use super::slot_map::SlotMap;
use crate::chance::Chance;
use crate::sync::lock;

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
        let mut map = SlotMap { owners: vec![0; 16_384], ..SlotMap::default() };
        map.place_of(("a".into(), 1));
        topology.map.send_replace(Arc::new(map));
        topology.moved(5, ("b".into(), 2));
        let map = topology.map();
        assert_eq!(map.owner(5), Some(&("b".to_owned(), 2)));
        assert_eq!(map.owner(6), Some(&("a".to_owned(), 1)));
    }
}
