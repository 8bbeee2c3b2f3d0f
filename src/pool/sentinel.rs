//! Which server is master, according to the Sentinels. They are asked once a second, and ten
//! times a second while anything hints at a failover; every pool of the same settings follows.
//!
//! One watch serves all pools made of the same settings. It has a thread of its own, so a
//! failover is noticed although the application's runtimes are busy or gone, and it ends
//! with the last of these pools. It listens on every Sentinel (`+switch-master` and all
//! that announces a failover) and asks each of them; one that hangs delays no other.
//!
//! Sentinels may disagree for seconds: the one that leads a failover knows the new master
//! first, the others learn of it by gossip, and one that was cut off may name the old master
//! for as long as it likes. The answer with the highest configuration epoch is believed; see
//! [`claim::choose`](super::claim::choose) for what happens when that server proves not to be
//! a master.
//!
//! In a planned failover the old master goes on accepting writes after the replica has been
//! promoted, and Sentinel itself notices up to a second late. All these writes would be lost.
//! But it announces which replica it selected just before it promotes it. From then on
//! requests are held back, the replica is asked whether it is master, and as soon as it
//! says so the pools move there.
//!
//! What may surprise:
//! - A *term* is our own count of masters, from 1. It is not Sentinel's epoch: it rises whenever
//!   another server is believed, also when an earlier master is believed again.
//! - Requests wait at most [`MAX_HOLD`], even if the promotion never comes. A failover that is
//!   announced over and over holds them only once in [`HOLD_INTERVAL`].
//! - Pools with different passwords or certificates have watches of their own, because they may
//!   see different servers. All other settings make no difference.
//! - If no Sentinel can be asked, requests fail although the master may be well. The pools cannot
//!   know whether it still is the master, and a write to a former one would be lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::{FromRedisValue, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::address::HostPort;
use super::claim::{ANSWER_LIFETIME, ClaimState, Doubt, Heard, MasterClaim, all_failed, choose};
use super::dial::{Dialer, check_master, role, unavailable_master};
use super::failure::timed_out;
use super::settings::PoolSettings;
use crate::sync::lock;

/// How often each Sentinel is asked when nothing hints at a failover.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often while something does.
const HINTED_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A hint counts for this long. Sentinel's events come at least once a second.
const HINT_LIFETIME: Duration = Duration::from_secs(3);
/// Minimum interval between two questions to one Sentinel.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Timeout of a Sentinel's answer, and of connecting to it.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause before a lost Sentinel is connected again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);
/// Maximum time that requests are held back for a promotion.
const MAX_HOLD: Duration = Duration::from_millis(1500);
/// Requests are held back at most once in this time.
const HOLD_INTERVAL: Duration = Duration::from_secs(5);
/// How often a server that is doubted is asked whether it is master by now.
const DOUBT_INTERVAL: Duration = Duration::from_millis(500);
/// How often the selected replica is asked whether it is master.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// The settings by which pools share a watch.
#[derive(PartialEq)]
struct WatchKey(PoolSettings);

/// The watches of this process. Entries without a pool are removed when another watch is made.
static SHARED: Mutex<Vec<(WatchKey, Weak<Sentinels>)>> = Mutex::new(Vec::new());

/// The Sentinels of one master, shared by all pools of the same settings.
pub(super) struct Sentinels {
    watch: Arc<SentinelWatch>,
    started: AtomicBool,
    stop: CancellationToken,
}

/// What the thread works on. The pools see only its [`MasterView`].
struct SentinelWatch {
    /// The master's name.
    name: String,
    addrs: Vec<HostPort>,
    /// Dials Sentinels, with their own credentials.
    to_sentinels: Dialer,
    /// Dials the servers that Sentinels name.
    to_servers: Dialer,
    state: Mutex<ClaimState>,
    view: watch::Sender<MasterView>,
    /// When something hinted at a failover last.
    hint: watch::Sender<Option<Instant>>,
}

/// What the pools see. It changes only if something in it changes, so that pools that wait for
/// a change are not woken by every answer of a Sentinel.
#[derive(Clone, Debug, Default)]
struct MasterView {
    /// Rises with each change of the master.
    term: u64,
    master: Option<HostPort>,
    /// Why no Sentinel can be asked at the moment.
    error: Option<RedisError>,
    /// Requests wait until then, or until the term changes.
    held_until: Option<Instant>,
}

impl Sentinels {
    /// The watch of these settings; nothing is dialled yet.
    pub(super) fn of(
        settings: &PoolSettings,
        name: String,
        addrs: Vec<HostPort>,
        to_sentinels: Dialer,
        to_servers: Dialer,
    ) -> Arc<Self> {
        // All other settings stay at their defaults, so that they make no difference.
        let key = WatchKey(PoolSettings {
            topology: settings.topology.clone(),
            username: settings.username.clone(),
            password: settings.password.clone(),
            sentinel_username: settings.sentinel_username.clone(),
            sentinel_password: settings.sentinel_password.clone(),
            tls: settings.tls,
            tls_options: settings.tls_options.clone(),
            ..PoolSettings::default()
        });
        let mut shared = lock(&SHARED);
        shared.retain(|(_, sentinels)| sentinels.strong_count() > 0);
        let same = shared.iter().find(|(other, _)| *other == key);
        if let Some(sentinels) = same.and_then(|(_, sentinels)| sentinels.upgrade()) {
            return sentinels;
        }
        let state =
            ClaimState { reports: vec![Heard::Nothing; addrs.len()], ..ClaimState::default() };
        let sentinels = Arc::new(Self {
            watch: Arc::new(SentinelWatch {
                name,
                addrs,
                to_sentinels,
                to_servers,
                state: Mutex::new(state),
                view: watch::Sender::new(MasterView::default()),
                hint: watch::Sender::new(None),
            }),
            started: AtomicBool::new(false),
            stop: CancellationToken::new(),
        });
        shared.push((key, Arc::downgrade(&sentinels)));
        sentinels
    }

    /// The master and its term. Waits until one is known; the caller bounds the time.
    ///
    /// # Errors
    /// The last error, if no Sentinel can be asked.
    pub(super) async fn master(&self) -> RedisResult<(u64, HostPort)> {
        self.start()?;
        let mut view = self.watch.view.subscribe();
        loop {
            let (is_fresh, mut is_open) = (self.watch.is_fresh(), false);
            {
                let view = view.borrow_and_update();
                match (&view.error, &view.master) {
                    (Some(error), _) => return Err(error.clone()),
                    (None, Some(master)) if is_fresh => {
                        return Ok((view.term, master.clone()));
                    }
                    (None, None) => is_open = true,
                    _ => {}
                }
            }
            if is_open {
                // The last missing answer may be a Sentinel's that hangs.
                self.watch.decide();
            }
            // An answer that changes nothing sends no notification: check again soon.
            let _ = timeout(MIN_POLL_INTERVAL, view.changed()).await;
        }
    }

    /// Reports that this server, named as master in this term, cannot be reached or says that it
    /// is not a master (`is_disproved`).
    fn doubt(&self, term: u64, master: &HostPort, is_disproved: bool) {
        let is_new = {
            let mut state = lock(&self.watch.state);
            let claim = state.current.clone().filter(|claim| claim.master == *master);
            let known = |doubt: &Doubt| {
                Some(&doubt.claim) == claim.as_ref() && doubt.is_disproved >= is_disproved
            };
            let is_new = claim.is_some()
                && term == self.watch.view.borrow().term
                && !state.doubt.as_ref().is_some_and(known);
            if is_new && let Some(claim) = claim {
                let now = Instant::now();
                state.doubt = Some(Doubt::new(claim, is_disproved, &state.reports, now));
            }
            is_new
        };
        if is_new {
            self.watch.decide();
        }
        self.suspect();
    }

    /// Reports that something is wrong with the master: the Sentinels are asked at once.
    pub(super) fn suspect(&self) {
        self.watch.hint();
    }

    /// Whether this is the term of the present master. A connection of an earlier term is not
    /// used again.
    pub(super) fn is_current(&self, term: u64) -> bool {
        self.term() == term
    }

    /// The number of the present master.
    pub(super) fn term(&self) -> u64 {
        self.watch.view.borrow().term
    }

    /// Returns when another server is master than in this term.
    pub(super) async fn left(&self, term: u64) {
        let mut view = self.watch.view.subscribe();
        if view.wait_for(|view| view.term != term).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns at once, or when requests are no longer held back for a promotion.
    pub(super) async fn ready(&self) {
        let held = |view: &MasterView| view.held_until.filter(|until| *until > Instant::now());
        let Some(until) = held(&self.watch.view.borrow()) else { return };
        let mut view = self.watch.view.subscribe();
        let released = view.wait_for(|view| held(view).is_none());
        // Both ends mean the same: go on.
        let _ = tokio::time::timeout_at(until, released).await;
    }

    /// Starts the thread at the first call. An error lets the next call try again.
    fn start(&self) -> RedisResult<()> {
        if self.started.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let (watch, stop) = (Arc::clone(&self.watch), self.stop.clone());
        let begin = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name("jobqueue-sentinel".to_owned());
            thread.spawn(move || runtime.block_on(stop.run_until_cancelled(watch.run())))
        };
        // Not joined: it ends by itself right after the last pool.
        match begin() {
            Ok(_) => Ok(()),
            Err(error) => {
                self.started.store(false, Ordering::Release);
                Err(error.into())
            }
        }
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl SentinelWatch {
    /// Runs until the last pool is gone.
    async fn run(self: Arc<Self>) {
        self.to_servers.provide_tls();
        lock(&self.state).began = Some(Instant::now());
        let attended = join_all((0..self.addrs.len()).map(|nth| self.attend(nth)));
        tokio::join!(attended, self.recheck());
    }

    /// Asks a doubted server again. Once another one is believed, no other code asks it.
    async fn recheck(&self) {
        loop {
            sleep(DOUBT_INTERVAL).await;
            let doubted = lock(&self.state).doubt.as_ref().map(|doubt| doubt.claim.master.clone());
            let Some(master) = doubted else { continue };
            let asked = async { role(&mut self.to_servers.server(&master).await?).await };
            if let Ok(Ok(role)) = timeout(CONNECT_TIMEOUT, asked).await
                && role == "master"
            {
                self.trust(&master);
                self.decide();
            }
        }
    }

    /// Records that this server has been found to be master.
    fn trust(&self, master: &HostPort) {
        let mut state = lock(&self.state);
        if state.doubt.take_if(|doubt| doubt.claim.master == *master).is_some() {
            state.contradicted = None;
        }
    }

    /// Keeps connected to one Sentinel, the `nth` of the configuration. Never returns. Each
    /// Sentinel has its own loop, so one that hangs delays no other.
    async fn attend(self: &Arc<Self>, nth: usize) {
        loop {
            // If only the subscription ended, its last answer still counts.
            if let Err(error) = self.session(nth).await {
                crate::log::debug!(master = %self.name, nth, %error, "a Sentinel does not answer");
                self.note(nth, Heard::Error(error));
            }
            sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Asks and listens until the Sentinel does not answer, or its events end.
    async fn session(self: &Arc<Self>, nth: usize) -> RedisResult<()> {
        let addr = &self.addrs[nth];
        let connected = timeout(CONNECT_TIMEOUT, self.to_sentinels.server(addr)).await;
        let mut connection = connected.unwrap_or_else(|_| Err(timed_out()))?;
        // Without events, which a user may not be permitted to hear, it is asked more often.
        let mut events =
            timeout(CONNECT_TIMEOUT, self.events(addr)).await.ok().and_then(Result::ok);
        let mut hints = self.hint.subscribe();
        let mut next = Instant::now();
        let mut asked = next;
        loop {
            tokio::select! {
                biased;
                event = next_event(&mut events) => match event {
                    Some((channel, text)) => {
                        self.hear(&channel, &text);
                        next = next.min(asked + MIN_POLL_INTERVAL);
                    }
                    None => return Ok(()),
                },
                _ = hints.changed() => next = next.min(asked + MIN_POLL_INTERVAL),
                () = sleep_until(next) => {
                    asked = Instant::now();
                    let answer = timeout(ANSWER_TIMEOUT, self.ask(&mut connection)).await;
                    let (claim, fails_over) = answer.unwrap_or_else(|_| Err(timed_out()))?;
                    if fails_over {
                        self.hint.send_replace(Some(Instant::now()));
                        hints.mark_unchanged();
                    }
                    self.note(nth, Heard::Claim(claim, Instant::now()));
                    let interval = if self.is_hinted() { HINTED_POLL_INTERVAL } else { POLL_INTERVAL };
                    let interval = if events.is_none() { interval / 4 } else { interval };
                    next = Instant::now() + interval;
                }
            }
        }
    }

    /// Subscribes to a Sentinel's events: all of them, because any event about the master is a
    /// hint. A user whose ACL does not permit that gets `+switch-master` only.
    async fn events(&self, addr: &HostPort) -> RedisResult<PubSub> {
        let mut events = self.to_sentinels.listen_to(addr).await?;
        if events.psubscribe("*").await.is_err() {
            events.subscribe("+switch-master").await?;
        }
        Ok(events)
    }

    /// Which server is master, and whether a failover is under way.
    ///
    /// # Errors
    /// No reply in time, or a Sentinel that does not know this master's name. A user who may
    /// send only the first of the two commands gets a claim without epoch.
    async fn ask(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<(MasterClaim, bool)> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        pipeline.cmd("SENTINEL").arg("MASTER").arg(&self.name);
        let mut answers = connection.req_packed_commands(&pipeline, 0, 2).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil).extract_error();
        // The leader of a failover names the new master here first.
        let named: Option<HostPort> = Option::from_redis_value(next()?)?;
        let master =
            named.ok_or_else(|| unavailable_master("the sentinels do not know this master"))?;
        // A user may not be permitted to ask this: then the majority decides.
        let about: Vec<String> =
            next().ok().and_then(|about| Vec::from_redis_value(about).ok()).unwrap_or_default();
        let field = |name: &str| {
            about.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str())
        };
        let epoch = field("config-epoch").and_then(|epoch| epoch.parse().ok());
        let flags = field("flags").unwrap_or_default();
        let fails_over = flags.contains("o_down") || flags.contains("failover_in_progress");
        Ok((MasterClaim { master, epoch }, fails_over))
    }

    /// Whether something hinted at a failover within [`HINT_LIFETIME`].
    fn is_hinted(&self) -> bool {
        self.hint.borrow().is_some_and(|hint| hint.elapsed() < HINT_LIFETIME)
    }

    /// Records a hint, so that the Sentinels are asked more often.
    fn hint(&self) {
        self.hint.send_replace(Some(Instant::now()));
    }

    /// Whether at least one Sentinel has named a master recently.
    fn is_fresh(&self) -> bool {
        let state = lock(&self.state);
        let fresh =
            |heard: &Heard| matches!(heard, Heard::Claim(_, at) if at.elapsed() < ANSWER_LIFETIME);
        state.reports.iter().any(fresh)
    }

    /// Records a Sentinel's answer and decides again.
    fn note(&self, nth: usize, heard: Heard) {
        lock(&self.state).reports[nth] = heard;
        self.decide();
    }

    /// Publishes the master to believe, or the error if no Sentinel can be asked.
    fn decide(&self) {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let chosen = choose(&mut state, now);
        let error = match &chosen {
            None => all_failed(&state.reports),
            Some(_) => None,
        };
        if let Some(claim) = chosen {
            state.current = Some(claim.clone());
            self.publish(claim.master);
        } else {
            self.view.send_if_modified(|view| {
                let changed = view.error.is_some() != error.is_some();
                view.error = error;
                changed
            });
        }
    }

    /// Tells the pools which server is master; a new term if it is another one than before. The
    /// state's lock is held, so that the order of decisions is kept.
    fn publish(&self, master: HostPort) {
        let mut moved = false;
        self.view.send_if_modified(|view| {
            let recovered = view.error.take().is_some();
            if view.master.as_ref() == Some(&master) {
                return recovered;
            }
            moved = view.term > 0;
            *view =
                MasterView { term: view.term + 1, master: Some(master), ..MasterView::default() };
            true
        });
        if moved {
            crate::log::info!(master = %self.name, "Sentinel: another server is master now");
        }
    }

    /// An event of a Sentinel. Each event about this master is a hint.
    fn hear(self: &Arc<Self>, channel: &str, text: &str) {
        let words: Vec<&str> = text.split(' ').collect();
        if !words.contains(&self.name.as_str()) {
            return;
        }
        self.hint.send_replace(Some(Instant::now()));
        match (channel, &words[..]) {
            ("+selected-slave", [_, _, host, port, ..]) => {
                if let Ok(port) = port.parse() {
                    self.expect_promotion((String::from(*host), port));
                }
            }
            ("+failover-end" | "+failover-end-for-timeout", _) => self.release(),
            (other, _) if other.starts_with("-failover-abort") => self.release(),
            _ => {}
        }
    }

    /// Stops holding requests back.
    fn release(&self) {
        self.view.send_if_modified(|view| view.held_until.take().is_some());
    }

    /// This replica is about to be promoted: holds requests back and watches it.
    fn expect_promotion(self: &Arc<Self>, replica: HostPort) {
        let now = Instant::now();
        {
            let mut state = lock(&self.state);
            let recently = state.held.is_some_and(|held| held + HOLD_INTERVAL > now);
            // Another Sentinel's event of the same failover, or its master already.
            if recently || state.current.as_ref().is_none_or(|claim| claim.master == replica) {
                return;
            }
            state.held = Some(now);
        }
        self.view.send_modify(|view| view.held_until = Some(now + MAX_HOLD));
        let watch = Arc::clone(self);
        // On the watch's own runtime, which outlives no pool; it ends by itself.
        tokio::spawn(async move {
            let promoted = timeout(MAX_HOLD, watch.promotion(&replica)).await;
            if promoted.is_ok() {
                let mut state = lock(&watch.state);
                // Sentinel's own epoch for it is at least this.
                let epoch = state.current.as_ref().and_then(|claim| claim.epoch).unwrap_or(0) + 1;
                state.current = Some(MasterClaim { master: replica.clone(), epoch: Some(epoch) });
                state.contradicted = None;
                watch.publish(replica);
            }
            watch.release();
        });
    }

    /// Returns when this server is a master. It is asked every [`PROBE_INTERVAL`], because each
    /// millisecond counts here: the old master still accepts writes that will be lost.
    async fn promotion(&self, replica: &HostPort) {
        loop {
            if let Ok(mut connection) = self.to_servers.server(replica).await {
                while let Ok(role) = role(&mut connection).await {
                    if role == "master" {
                        return;
                    }
                    sleep(PROBE_INTERVAL).await;
                }
            }
            sleep(PROBE_INTERVAL).await;
        }
    }
}

/// The next event, as channel and text; `None` if the subscription ended. Waits forever without
/// one.
async fn next_event(events: &mut Option<PubSub>) -> Option<(String, String)> {
    let Some(events) = events else { return std::future::pending().await };
    let message = events.on_message().next().await?;
    let text = String::from_utf8_lossy(message.get_payload_bytes()).into_owned();
    Some((message.get_channel_name().to_owned(), text))
}

/// Error for commands sent to a former master: outcome unknown.
pub(super) fn moved() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "another server is master now")
        .into()
}

/// Dials the master that the Sentinels name, and checks that it is one.
pub(super) async fn dial(
    sentinels: &Sentinels,
    dialer: &Dialer,
) -> RedisResult<(u64, MultiplexedConnection)> {
    let (term, addr) = sentinels.master().await?;
    let dialled = async {
        let mut connection = dialer.server(&addr).await?;
        check_master(role(&mut connection).await)?;
        Ok(connection)
    };
    let dialled = timeout(CONNECT_TIMEOUT + ANSWER_TIMEOUT, dialled).await;
    match dialled.unwrap_or_else(|_| Err(timed_out())) {
        Ok(connection) => {
            sentinels.watch.trust(&addr);
            Ok((term, connection))
        }
        Err(error) => {
            let is_no_master = error.kind() == redis::ErrorKind::MasterNameNotFoundBySentinel;
            sentinels.doubt(term, &addr, is_no_master);
            Err(error)
        }
    }
}
