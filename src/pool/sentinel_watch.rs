//! Follows the Sentinels of one master on a thread of its own: asks them, hears their events, and
//! publishes which server [`choose`] believes to be master.
//!
//! Each Sentinel has a loop of its own ([`SentinelWatch::attend`]), so that one that hangs delays
//! no other. It is asked every second, and every 100 ms while something hints at a failover: an
//! event, a flag in its answer, or a pool that has just lost its connection. Each answer is
//! recorded and the decision made again; pools see only its result, the [`MasterView`], whose
//! *term* rises with each change of the master.
//!
//! During a failover there is a moment in which the old master still accepts writes that will be
//! lost. When Sentinels announce which replica they promote, requests are therefore held back, for
//! at most 1.5 s, and that replica is asked every 20 ms whether it is master yet. If it is, it is
//! believed before any Sentinel says so.
//!
//! What may surprise. A server that was named and turned out not to be a master stays *doubted*,
//! and is asked again every 500 ms: once another one is believed, nobody else would ask it. Without
//! the permission to subscribe, Sentinels are asked four times as often instead.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::{FromRedisValue, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::address::HostPort;
use super::claim::{ANSWER_LIFETIME, ClaimState, Heard, MasterClaim, all_failed, choose};
use super::dial::Dialer;
use super::failure::timed_out;
use super::role::{role, unavailable_master};
use super::sentinel::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, MIN_POLL_INTERVAL};
use crate::sync::lock;
/// How often each Sentinel is asked when nothing hints at a failover.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often each is asked while something does.
const HINTED_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A hint counts for this long. Sentinel's events come at least once a second.
const HINT_LIFETIME: Duration = Duration::from_secs(3);

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

/// What the thread works on. The pools see only its [`MasterView`].
pub(super) struct SentinelWatch {
    /// The master's name.
    pub(super) name: String,
    /// The Sentinels, in the order of the configuration.
    pub(super) addrs: Vec<HostPort>,
    /// Dials Sentinels, with their own credentials.
    pub(super) to_sentinels: Dialer,
    /// Dials the servers that Sentinels name.
    pub(super) to_servers: Dialer,
    /// What all Sentinels said, and what was decided from it.
    pub(super) state: Mutex<ClaimState>,
    /// What the pools see.
    pub(super) view: watch::Sender<MasterView>,
    /// When something hinted at a failover last.
    pub(super) hint: watch::Sender<Option<Instant>>,
}

/// What the pools see. It changes only if something in it changes, so that pools that wait for
/// a change are not woken by every answer of a Sentinel.
#[derive(Clone, Debug, Default)]
pub(super) struct MasterView {
    /// Rises with each change of the master.
    pub(super) term: u64,
    /// The server that is believed to be master; `None` before the first decision.
    pub(super) master: Option<HostPort>,
    /// Why no Sentinel can be asked at the moment.
    pub(super) error: Option<RedisError>,
    /// Requests wait until then, or until the term changes.
    pub(super) held_until: Option<Instant>,
}

impl SentinelWatch {
    /// Runs until the last pool is gone.
    pub(super) async fn run(self: Arc<Self>) {
        self.to_servers.provide_tls();
        lock(&self.state).began = Some(Instant::now());
        let attended = join_all((0..self.addrs.len()).map(|nth| self.attend(nth)));
        tokio::join!(attended, self.recheck());
    }

    /// Asks a doubted server again. Once another one is believed, no other code asks it.
    pub(super) async fn recheck(&self) {
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
    pub(super) fn trust(&self, master: &HostPort) {
        let mut state = lock(&self.state);
        if state.doubt.take_if(|doubt| doubt.claim.master == *master).is_some() {
            state.contradicted = None;
        }
    }

    /// Keeps connected to one Sentinel, the `nth` of the configuration. Never returns. Each
    /// Sentinel has its own loop, so one that hangs delays no other.
    pub(super) async fn attend(self: &Arc<Self>, nth: usize) {
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
    pub(super) async fn session(self: &Arc<Self>, nth: usize) -> RedisResult<()> {
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
    pub(super) async fn events(&self, addr: &HostPort) -> RedisResult<PubSub> {
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
    pub(super) async fn ask(
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
    pub(super) fn is_hinted(&self) -> bool {
        self.hint.borrow().is_some_and(|hint| hint.elapsed() < HINT_LIFETIME)
    }

    /// Records a hint, so that the Sentinels are asked more often.
    pub(super) fn hint(&self) {
        self.hint.send_replace(Some(Instant::now()));
    }

    /// Whether at least one Sentinel has named a master within [`ANSWER_LIFETIME`].
    pub(super) fn is_fresh(&self) -> bool {
        let state = lock(&self.state);
        let fresh =
            |heard: &Heard| matches!(heard, Heard::Claim(_, at) if at.elapsed() < ANSWER_LIFETIME);
        state.reports.iter().any(fresh)
    }

    /// Records a Sentinel's answer and decides again.
    pub(super) fn note(&self, nth: usize, heard: Heard) {
        lock(&self.state).reports[nth] = heard;
        self.decide();
    }

    /// Publishes the master to believe, or the error if no Sentinel can be asked.
    pub(super) fn decide(&self) {
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
    pub(super) fn publish(&self, master: HostPort) {
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
    pub(super) fn hear(self: &Arc<Self>, channel: &str, text: &str) {
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
    pub(super) fn release(&self) {
        self.view.send_if_modified(|view| view.held_until.take().is_some());
    }

    /// This replica is about to be promoted: holds requests back and watches it.
    pub(super) fn expect_promotion(self: &Arc<Self>, replica: HostPort) {
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
        // On the runtime of this watch. The task ends by itself after [`MAX_HOLD`].
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
    pub(super) async fn promotion(&self, replica: &HostPort) {
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
