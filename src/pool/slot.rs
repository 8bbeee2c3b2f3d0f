//! The connections of one pool.
//!
//! A pool has a fixed number of connection slots. A connection is dialled when its slot is
//! first needed; one caller dials and the others wait for the result. A failed dial is
//! remembered for a moment, so that many callers do not dial one after the other.
//!
//! All requests of a slot share its connection. How a request ends decides whether the
//! connection stays: an I/O error or a second timeout in a row gives it up, a refusal by
//! Redis does not. Commands already sent on a connection that is given up still get their
//! answers, because each holds a clone of it.
//!
//! A watch task sends a PING once a second on connections that were idle and dials lost
//! ones again. With Sentinels it also leaves a master that is no longer the master. The
//! watch belongs to the pool, not to one clone of it, and ends with the last clone.
//!
//! What may surprise. A caller that gives up does not stop the command: Redis carries out what it
//! has received, and only the reply is lost. With Sentinels an answer counts only while the server
//! that gave it is still the master, because the writes of a former master may be discarded. And a
//! pool for blocking commands has a single slot: such a command keeps its connection for as long as
//! it blocks.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection_slot::{ConnectionSlot, SentCommand};
use super::dial::Dialer;
use super::failure::{self, Meaning, RequestFailure, timed_out};
use super::health::LinkHealth;
use super::link::Link;
use super::request::{Manner, Request};
use super::role::{alive, check_master, role};
use super::sentinel::{self, Sentinels};
use super::settings::{PoolSettings, UNBOUNDED_TIMEOUT, within_reason};
use crate::sync::lock;

/// How long a failed dial is the answer to every request, without another dial. Without it a
/// hundred requests that wait for the slot would dial one after the other, each up to
/// `dial_timeout`.
const DIAL_FAILURE_LIFETIME: Duration = Duration::from_millis(100);
/// How often an idle connection is sent a PING and a lost one is dialled again.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A pool that another pool was made from is checked at every third tick only: the first
/// one notices earlier that Redis is gone.
const QUIET_TICKS: u32 = 3;
/// Timeouts in a row after which a connection counts as half open and is given up. A single one
/// may be a slow command, and closing the connection would fail all others that wait on it.
const MAX_TIMEOUTS: u32 = 2;
/// The same for the Redis library's Cluster connection, which repairs its own links.
const MAX_CLUSTER_FAILURES: u32 = 3;

/// What all clones of a pool share: the connections to one server, and what is known about
/// them.
pub(super) struct Core {
    pub settings: PoolSettings,
    /// Makes the connections; shared with pools that were made from this one.
    pub dialer: Arc<Dialer>,
    /// How long an answer may take.
    pub answer: Duration,
    /// How long a request may take in all.
    pub limit: Duration,
    /// One blocking command at a time, on a connection of its own.
    pub blocking: bool,
    /// At least one.
    slots: Vec<ConnectionSlot>,
    /// The next slot: requests use them in turn.
    turn: AtomicUsize,
    health: LinkHealth,
    /// Too few replicas confirmed the last time.
    unconfirmed: AtomicBool,
    watch: Mutex<ConnectionWatch>,
}

impl Core {
    pub(super) fn new(
        settings: PoolSettings,
        dialer: Arc<Dialer>,
        longest: Option<Duration>,
        quiet: bool,
    ) -> Self {
        let settings = within_reason(settings);
        let (limit, read) = (settings.request_limit, settings.read_timeout);
        let extra = longest.unwrap_or_default().min(UNBOUNDED_TIMEOUT);
        let size = if longest.is_some() { 1 } else { settings.pool_size.max(1) };
        Self {
            answer: read.saturating_add(extra),
            limit: limit.saturating_add(extra),
            blocking: longest.is_some(),
            slots: (0..size).map(|_| ConnectionSlot::default()).collect(),
            turn: AtomicUsize::new(0),
            health: LinkHealth::new(quiet),
            unconfirmed: AtomicBool::new(false),
            watch: Mutex::default(),
            settings,
            dialer,
        }
    }

    /// Dialling ends before the request does, so that its failure can be reported: at most 85 %
    /// of the request limit.
    fn dial_limit(&self) -> Duration {
        self.settings.request_limit.mul_f32(0.85).min(self.settings.dial_timeout)
    }

    /// Whether any slot has a connection. It may be lost and not noticed yet.
    pub(super) fn is_connected(&self) -> bool {
        self.slots.iter().any(|slot| slot.live().is_some())
    }

    /// Sends a request once, on a connection that is made if there is none.
    ///
    /// # Errors
    /// [`RequestFailure::unsent`] if there was no connection in time: the request did not run.
    /// Otherwise [`RequestFailure::sent`], and the error decides whether it may have run.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        deadline: Instant,
        request: &Request,
        manner: &Manner,
    ) -> Result<Vec<Value>, RequestFailure> {
        let slot = self.slot_for(request);
        let patience = deadline.min(Instant::now() + self.settings.pool_timeout);
        let connected = async {
            if let Some(sentinels) = self.dialer.sentinels() {
                sentinels.ready().await;
            }
            self.connection(slot).await
        };
        let connected = timeout_at(patience, connected).await;
        let (generation, link) =
            connected.unwrap_or_else(|_| Err(timed_out())).map_err(RequestFailure::unsent)?;
        let mut in_flight = SentCommand::new(self.blocking, slot, generation);
        let patience = deadline.min(Instant::now() + self.answer);
        let left = self.left(&link);
        let sent = timeout_at(patience, request.send(link, manner));
        let answer = match left {
            None => sent.await.unwrap_or_else(|_| Err(timed_out())),
            // An answer of a former master does not count: its writes may be discarded.
            Some(left) => tokio::select! {
                biased;
                () = left => Err(sentinel::moved()),
                answer = sent => answer.unwrap_or_else(|_| Err(timed_out())),
            },
        };
        in_flight.answered = true;
        if request.occupies() {
            self.note_confirmation(answer.as_ref().err());
        }
        match &answer {
            // The caller reads these errors itself; the connection is given up all the same.
            Ok(values) if request.is_raw() && failure::has_demoted(values) => {
                if slot.give_up(generation) {
                    self.health.down(&self.dialer, &demoted());
                }
            }
            answer => self.note(slot, generation, answer.as_ref().err()),
        }
        answer.map_err(RequestFailure::sent)
    }

    /// Logs once that replicas are missing, and once that they are back.
    fn note_confirmation(&self, error: Option<&RedisError>) {
        let (redis, replicas) = (self.dialer.describe(), self.settings.wait_replicas);
        match error {
            None if self.unconfirmed.swap(false, Ordering::Relaxed) => {
                crate::log::info!(%redis, replicas, "replicas confirm enqueued jobs again");
            }
            Some(error)
                if failure::is_unconfirmed(error)
                    && !self.unconfirmed.swap(true, Ordering::Relaxed) =>
            {
                crate::log::warn!(
                    %redis, replicas,
                    "fewer replicas than wait_replicas confirm: the outcome of enqueues is unknown"
                );
            }
            None | Some(_) => {}
        }
    }

    /// The slot for a request: the next in turn, or for one that blocks its connection the slot
    /// with the fewest requests. Waiting for replicas takes up to 2 s, in which nothing else of
    /// its slot is answered.
    fn slot_for(&self, request: &Request) -> &ConnectionSlot {
        let least = || self.slots.iter().min_by_key(|slot| slot.in_flight.load(Ordering::Relaxed));
        match request.occupies().then(least).flatten() {
            Some(slot) => slot,
            None => &self.slots[self.turn.fetch_add(1, Ordering::Relaxed) % self.slots.len()],
        }
    }

    /// With Sentinels: completes when the link's server is no longer the master.
    fn left(&self, link: &Link) -> Option<impl Future<Output = ()> + use<'_>> {
        match (self.dialer.sentinels(), link) {
            (Some(sentinels), Link::Master(_, term)) => Some(sentinels.left(*term)),
            _ => None,
        }
    }

    /// The slot's connection, unless its server is no longer the master.
    fn live(&self, slot: &ConnectionSlot) -> Option<(u64, Link)> {
        let (generation, link) = slot.live()?;
        if let (Some(sentinels), Link::Master(_, term)) = (self.dialer.sentinels(), &link)
            && !sentinels.is_current(*term)
        {
            if slot.give_up(generation) {
                self.health.down(&self.dialer, &sentinel::moved());
            }
            return None;
        }
        Some((generation, link))
    }

    /// The slot's connection. One caller dials and the others wait for it; all of them get a
    /// failure that has just happened.
    async fn connection(self: &Arc<Self>, slot: &ConnectionSlot) -> RedisResult<(u64, Link)> {
        if let Some(live) = self.live(slot) {
            return Ok(live);
        }
        let mut failed = slot.dialing.lock().await;
        if let Some(live) = self.live(slot) {
            return Ok(live);
        }
        if let Some((when, error)) = &*failed
            && when.elapsed() < DIAL_FAILURE_LIFETIME
        {
            return Err(error.clone());
        }
        self.keep_watch();
        let dialled = timeout(self.dial_limit(), self.dialer.dial()).await;
        match dialled.unwrap_or_else(|_| Err(timed_out())) {
            Ok(link) => {
                *failed = None;
                let live = slot.put(link);
                self.health.up(&self.dialer);
                Ok(live)
            }
            Err(error) => {
                crate::log::debug!(redis = %self.dialer.describe(), %error, "cannot connect to Redis");
                self.health.explain(&self.dialer, &error);
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Decides from the result of a command whether the connection stays. If it is given up,
    /// the Sentinels are asked at once whether there is a new master.
    fn note(&self, slot: &ConnectionSlot, generation: u64, error: Option<&RedisError>) {
        let Some(error) = error else {
            slot.failures.store(0, Ordering::Relaxed);
            slot.heard.store(true, Ordering::Relaxed);
            return;
        };
        if self.is_lost(slot, error) && slot.give_up(generation) {
            if let Some(sentinels) = self.dialer.sentinels() {
                sentinels.suspect();
            }
            self.health.down(&self.dialer, error);
        }
    }

    /// Whether this error means that the connection has to be given up.
    ///
    /// A refusal keeps it: the server is well. An I/O error, an answer of a demoted server and
    /// a refused login give it up at once, timeouts only in a row. A blocking command has a
    /// single timeout, since nothing else uses its connection.
    fn is_lost(&self, slot: &ConnectionSlot, error: &RedisError) -> bool {
        let in_a_row = |limit: u32| slot.failures.fetch_add(1, Ordering::Relaxed) + 1 >= limit;
        if self.dialer.is_cluster() {
            return match failure::meaning(error) {
                _ if error.kind() == ErrorKind::ClusterConnectionNotFound => true,
                Meaning::Unknown => in_a_row(MAX_CLUSTER_FAILURES),
                _ => false,
            };
        }
        if error.is_timeout() {
            return in_a_row(if self.blocking { 1 } else { MAX_TIMEOUTS });
        }
        error.is_io_error()
            || error.is_unrecoverable_error()
            || failure::is_demoted(error)
            || failure::is_shut_out(error)
    }

    /// Starts the watch, unless it runs. It runs on the runtime of the caller, and that may
    /// have ended since: then the next dial starts it again.
    fn keep_watch(self: &Arc<Self>) {
        let mut watch = lock(&self.watch);
        if !watch.ended && watch.task.as_ref().is_none_or(JoinHandle::is_finished) {
            watch.task = Some(tokio::spawn(self.clone().watch()));
        }
    }

    /// Ends the watch; called when the last handle of the pool is gone. The watch holds a
    /// reference to the core, so it would keep the connections open for ever.
    pub(super) fn end_watch(&self) {
        let mut watch = lock(&self.watch);
        watch.ended = true;
        if let Some(task) = watch.task.take() {
            task.abort();
        }
    }

    /// Looks after all slots once a second, and at once after a failover. Never returns.
    async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut term = self.dialer.sentinels().map_or(0, Sentinels::term);
        for nth in (0_u32..).cycle() {
            match self.dialer.sentinels() {
                None => drop(ticks.tick().await),
                // After a failover the new master is dialled at once, also while idle.
                Some(sentinels) => tokio::select! {
                    _ = ticks.tick() => {}
                    () = sentinels.left(term) => term = sentinels.term(),
                },
            }
            let asks = !self.health.quiet || nth % QUIET_TICKS == 0;
            let slots = self.slots.iter().map(|slot| self.look_after(slot, asks));
            futures_util::future::join_all(slots).await;
        }
    }

    /// Dials a lost connection again. Checks an idle one with a PING, or with Sentinels whether its
    /// server is still the master. `asks` is false in most ticks of a quiet pool.
    async fn look_after(self: &Arc<Self>, slot: &ConnectionSlot, asks: bool) {
        let Some((generation, mut link)) = self.live(slot) else {
            // `connection` remembers and logs the result.
            let _ = self.connection(slot).await;
            return;
        };
        // A PING would wait behind the blocking command, which shows by itself whether the
        // connection works.
        if self.blocking && slot.in_flight.load(Ordering::Relaxed) > 0 {
            return;
        }
        // A server may answer although it is no longer the master.
        let heard = slot.heard.swap(false, Ordering::Relaxed);
        if (heard || !asks) && self.dialer.sentinels().is_none() {
            return;
        }
        let sign_of_life = async {
            if self.dialer.sentinels().is_some() {
                check_master(role(&mut link).await)
            } else {
                alive(redis::cmd("PING").query_async::<Value>(&mut link).await)
            }
        };
        let answer =
            timeout(WATCH_INTERVAL, sign_of_life).await.unwrap_or_else(|_| Err(timed_out()));
        // A server whose role has changed still answers, but no longer serves.
        let changed = matches!(&answer, Err(error)
            if error.kind() == ErrorKind::MasterNameNotFoundBySentinel);
        if let (true, Err(error)) = (changed, &answer) {
            if slot.give_up(generation) {
                self.health.down(&self.dialer, error);
            }
            return;
        }
        self.note(slot, generation, answer.as_ref().err());
    }
}

/// The task that watches a pool's connections, started by the first dial.
#[derive(Default)]
struct ConnectionWatch {
    task: Option<JoinHandle<()>>,
    /// Set for good: a dial still in progress must not start a watch that nobody would end.
    ended: bool,
}

/// The error of a server that is no longer the master.
fn demoted() -> RedisError {
    (ErrorKind::Server(ServerErrorKind::ReadOnly), "the server is no longer the master").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_that_has_been_ended_does_not_begin_again() {
        let settings = PoolSettings::default();
        let dialer = Arc::new(Dialer::new(&settings, settings.read_timeout).unwrap());
        let core = Arc::new(Core::new(settings, dialer, None, true));
        core.keep_watch();
        assert!(lock(&core.watch).task.is_some());
        core.end_watch();
        // A probe that waited for its connection.
        core.keep_watch();
        assert!(lock(&core.watch).task.is_none());
    }
}
