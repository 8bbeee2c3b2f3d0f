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
//! - Requests wait at most 1.5 s, even if the promotion never comes. A failover that is announced
//!   over and over holds them back only once in 5 s.
//! - Pools with different passwords or certificates have watches of their own, because they may
//!   see different servers. All other settings make no difference.
//! - If no Sentinel can be asked, requests fail although the master may be well. The pools cannot
//!   know whether it still is the master, and a write to a former one would be lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::address::HostPort;
use super::claim::{ClaimState, Doubt, Heard};
use super::dial::Dialer;
use super::failure::timed_out;
use super::role::{check_master, role};
use super::sentinel_watch::{MasterView, SentinelWatch};
use super::settings::PoolSettings;
use crate::sync::lock;

/// Minimum interval between two questions to one Sentinel.
pub(super) const MIN_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Timeout of a Sentinel's answer, and of connecting to it.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

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
