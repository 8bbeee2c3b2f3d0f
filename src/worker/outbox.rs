//! Finished jobs on their way to the store.
//!
//! A job enters the outbox when its attempt is over. The [dispatcher](super::dispatcher)
//! takes jobs out and settles them with its next round trip; until the reply of that round
//! trip has been read, its settlements are listed as sent. A settlement that failed does not
//! come back here: the job is settled alone from then on, see [`settle`](super::settle).
//!
//! If handlers block every thread of the application's runtime, the dispatcher does not run.
//! The heartbeat's thread then settles from here as well, see [`stall`](super::stall). It
//! recognises that case by [`takes`](Outbox::takes), which no longer rises, and by
//! settlements that are [`overdue`](Outbox::overdue).
//!
//! What may surprise. A settlement may be sent twice, by the dispatcher and by the
//! heartbeat's thread. The store carries out one of them. The list needs no bound: a job that
//! waits here still holds its slot, so there are at most `concurrency` of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, RwLock};

use super::settle::PendingSettle;
use crate::sync::lock;

/// Jobs whose attempt is over and whose settlement the store has not confirmed.
#[derive(Default)]
pub(super) struct Outbox {
    /// Finished jobs that no round trip has taken yet, oldest first.
    ended: Mutex<VecDeque<PendingSettle>>,
    dispatcher_wakeup: Notify,
    /// Number of calls of [`take`](Self::take). If it does not rise, the dispatcher is stuck.
    takes: AtomicU64,
    /// Every round trip is under way, so nothing is taken until one returns.
    full: AtomicBool,
    /// Settlements whose reply has not been read, one entry for each round trip.
    sent: Mutex<Vec<Arc<SentSettles>>>,
}

/// The settlements of one round trip, from sending until the reply has been read.
pub(super) struct SentSettles {
    /// The round trip reads them and takes them out when it has its reply. The heartbeat's
    /// thread may read them meanwhile and send them again; then the round trip waits for
    /// that before it takes them out.
    pub(super) pending: RwLock<Vec<PendingSettle>>,
    /// When they were sent.
    since: Instant,
    /// The heartbeat's thread has sent them as well.
    pub(super) sent_again: AtomicBool,
}

impl SentSettles {
    /// Settlements that are about to be sent.
    pub(super) fn new(pending: Vec<PendingSettle>) -> Self {
        let sent_again = AtomicBool::new(false);
        Self { pending: RwLock::new(pending), since: Instant::now(), sent_again }
    }
}

impl Outbox {
    fn ended(&self) -> MutexGuard<'_, VecDeque<PendingSettle>> {
        lock(&self.ended)
    }

    fn sent(&self) -> MutexGuard<'_, Vec<Arc<SentSettles>>> {
        lock(&self.sent)
    }

    /// Adds a finished job, together with the slot that it still holds.
    pub(super) fn put(&self, ended: PendingSettle) {
        self.ended().push_back(ended);
        self.wake_dispatcher();
    }

    /// Wakes the dispatcher: a slot has become free, or the heartbeat wants to see that it
    /// still runs. Calls before the dispatcher has woken count once.
    pub(super) fn wake_dispatcher(&self) {
        self.dispatcher_wakeup.notify_one();
    }

    /// Waits for the next [wake-up](Self::wake_dispatcher).
    pub(super) async fn woken(&self) {
        self.dispatcher_wakeup.notified().await;
    }

    /// Takes out at most `limit` finished jobs, oldest first.
    pub(super) fn take(&self, limit: usize) -> Vec<PendingSettle> {
        self.takes.fetch_add(1, Ordering::Relaxed);
        let mut ended = self.ended();
        let count = ended.len().min(limit);
        ended.drain(..count).collect()
    }

    /// Number of [`take`](Self::take) calls so far. Two equal readings mean that the
    /// dispatcher has not run in between.
    pub(super) fn takes(&self) -> u64 {
        self.takes.load(Ordering::Relaxed)
    }

    /// Says whether every round trip is under way.
    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Whether nothing is taken because every round trip is under way.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Whether no finished job waits to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.ended().is_empty()
    }

    /// Lists settlements as sent.
    pub(super) fn add_sent(&self, sent: &Arc<SentSettles>) {
        self.sent().push(Arc::clone(sent));
    }

    /// The reply to these settlements has been read.
    pub(super) fn remove_sent(&self, sent: &Arc<SentSettles>) {
        self.sent().retain(|other| !Arc::ptr_eq(other, sent));
    }

    /// Sent settlements whose reply has been outstanding for longer than `timeout`. They may
    /// have been carried out: only the reply is missing.
    pub(super) fn overdue(&self, timeout: Duration) -> Vec<Arc<SentSettles>> {
        self.sent().iter().filter(|sent| sent.since.elapsed() > timeout).cloned().collect()
    }
}
