//! The settings of a worker that may change while it runs, and the requests that change them.
//!
//! The heartbeat brings the requests ([`Requests::learn`]) and applies what has changed
//! ([`Live::apply`]); the dispatcher sees the new version with its next round and acknowledges it
//! ([`Live::acknowledge`]) once nothing of the old one is under way: after a process was made quiet,
//! a round trip that has left may still bring jobs. Only then is a change announced as applied.
//!
//! A request of this process alone counts until it ends, even if the store has lost it: the process
//! remembers it. One of all processes counts as long as the store has it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::WorkerSettings;
use super::slots::Slots;
use crate::broker::{WorkerChange, WorkerRequests, WorkerSetting, in_force};
use crate::job::QueueName;
use crate::sync::lock;
use crate::time::Timestamp;

/// The settings that may change while the worker runs; the slots stand for themselves.
pub(super) struct Live {
    quiet: AtomicBool,
    queues: Mutex<Arc<BTreeMap<QueueName, u32>>>,
    /// Grows with each change.
    version: AtomicU64,
    /// The version that holds in the dispatcher.
    acknowledged: AtomicU64,
    /// Notified when the dispatcher has news that are to be announced at once.
    news: Notify,
    /// Whether the heartbeat has asked for the first time.
    is_ready: AtomicBool,
    /// Notified when it has.
    ready: Notify,
}

impl Live {
    /// The configured settings.
    pub(super) fn new(settings: &WorkerSettings) -> Self {
        Self {
            quiet: AtomicBool::new(false),
            queues: Mutex::new(Arc::new(settings.queues.clone())),
            version: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            news: Notify::new(),
            is_ready: AtomicBool::new(false),
            ready: Notify::new(),
        }
    }

    /// Whether nothing is to be dequeued.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Acquire)
    }

    /// The queues and their weights.
    pub(super) fn queues(&self) -> Arc<BTreeMap<QueueName, u32>> {
        Arc::clone(&lock(&self.queues))
    }

    /// Grows with each change.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The settings of this version hold in the dispatcher.
    pub(super) fn acknowledge(&self, version: u64) {
        if self.acknowledged.load(Ordering::Acquire) != version {
            self.acknowledged.store(version, Ordering::Release);
            self.announce();
        }
    }

    /// Lets the next heartbeat come at once.
    pub(super) fn announce(&self) {
        self.news.notify_one();
    }

    /// Whether all changes hold in the dispatcher.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.acknowledged.load(Ordering::Acquire) == self.version()
    }

    /// Waits until the dispatcher has acknowledged a change, or a quiet worker has drained.
    pub(super) async fn has_news(&self) {
        self.news.notified().await;
    }

    /// The heartbeat has asked for requests, or could not.
    pub(super) fn set_ready(&self) {
        if !self.is_ready.swap(true, Ordering::AcqRel) {
            self.ready.notify_one();
        }
    }

    /// Waits until the heartbeat has asked for the first time: a process that starts while all are
    /// to be quiet must not dequeue before it knows.
    pub(super) async fn ready(&self) {
        if !self.is_ready.load(Ordering::Acquire) {
            self.ready.notified().await;
        }
    }

    /// Applies these changes to the configured settings. The dispatcher is to be woken then.
    fn apply(&self, settings: &WorkerSettings, slots: &Slots, changes: &[WorkerChange]) {
        let (mut quiet, mut concurrency) = (false, settings.concurrency);
        let mut queues = settings.queues.clone();
        for change in changes {
            let Some(value) = change.value else { continue };
            match &change.setting {
                WorkerSetting::Quiet => quiet = value > 0,
                WorkerSetting::Concurrency => {
                    let asked = usize::try_from(value).unwrap_or(usize::MAX);
                    concurrency = asked.clamp(1, settings.concurrency_max.max(1));
                }
                // Only its services look after the jobs of a queue, so no other is added.
                WorkerSetting::Weight(queue) => {
                    queues.entry(queue.clone()).and_modify(|weight| *weight = value);
                }
            }
        }
        self.quiet.store(quiet, Ordering::Release);
        *lock(&self.queues) = Arc::new(queues);
        slots.resize(concurrency);
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

/// The requests that the heartbeat knows.
#[derive(Default)]
pub(super) struct Requests {
    /// The newest of this process alone.
    own: BTreeMap<WorkerSetting, WorkerChange>,
    /// Those of all processes.
    all: Vec<WorkerChange>,
    /// Those that count.
    current: Vec<WorkerChange>,
    /// Those that hold in the dispatcher too.
    applied: Vec<WorkerChange>,
}

impl Requests {
    /// Takes in what the store has.
    pub(super) fn learn(&mut self, stored: WorkerRequests) {
        for change in stored.own {
            let newest = self.own.entry(change.setting.clone()).or_insert_with(|| change.clone());
            if change.at > newest.at {
                *newest = change;
            }
        }
        self.all = stored.all.unwrap_or_else(|| std::mem::take(&mut self.all));
    }

    /// Applies what counts now, unless that holds already. Returns whether something has changed.
    pub(super) fn apply(
        &mut self,
        live: &Live,
        settings: &WorkerSettings,
        slots: &Slots,
        now: Timestamp,
    ) -> bool {
        let current = in_force(self.own.values().chain(&self.all), now);
        if current == self.current {
            return false;
        }
        live.apply(settings, slots, &current);
        self.current = current;
        true
    }

    /// The changes that hold in the dispatcher.
    pub(super) fn applied(&mut self, live: &Live) -> Vec<WorkerChange> {
        if live.is_acknowledged() {
            self.applied.clone_from(&self.current);
        }
        self.applied.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::tests::settings;

    fn change(setting: WorkerSetting, at: i64, value: Option<u32>) -> WorkerChange {
        let (at, by) = (Timestamp::from_secs(at), String::new());
        WorkerChange { setting, value, at, until: None, by, for_all: false }
    }

    #[test]
    fn changes_are_applied_within_the_bounds_of_the_configuration() {
        let mail = QueueName::new("mail").unwrap();
        let settings = settings(2, 8, &[("mail", 3)]);
        let (live, slots) = (Live::new(&settings), Slots::new(2));
        let mut requests = Requests::default();
        let other = WorkerSetting::Weight(QueueName::new("other").unwrap());
        let own = vec![
            change(WorkerSetting::Concurrency, 1, Some(100)),
            change(WorkerSetting::Weight(mail.clone()), 1, Some(0)),
            change(other, 1, Some(5)),
            change(WorkerSetting::Quiet, 1, Some(1)),
        ];
        requests.learn(WorkerRequests { own, all: Some(Vec::new()) });
        let now = Timestamp::from_secs(5);
        assert!(requests.apply(&live, &settings, &slots, now));
        assert!(!requests.apply(&live, &settings, &slots, now), "it holds already");
        assert_eq!((slots.wanted(), live.is_quiet()), (8, true));
        assert_eq!(*live.queues(), [(mail, 0)].into());
        assert!(requests.applied(&live).is_empty(), "the dispatcher has not seen it");
        live.acknowledge(live.version());
        assert_eq!(requests.applied(&live).len(), 4);
    }

    #[test]
    fn a_request_that_the_store_lost_counts_until_it_ends() {
        let settings = settings(2, 8, &[("mail", 3)]);
        let (live, slots) = (Live::new(&settings), Slots::new(2));
        let mut requests = Requests::default();
        let until = Some(Timestamp::from_secs(60));
        let own = WorkerChange { until, ..change(WorkerSetting::Concurrency, 1, Some(5)) };
        let all = WorkerChange { for_all: true, ..change(WorkerSetting::Quiet, 2, Some(1)) };
        requests.learn(WorkerRequests { own: vec![own], all: Some(vec![all]) });
        requests.apply(&live, &settings, &slots, Timestamp::from_secs(5));
        assert_eq!((slots.wanted(), live.is_quiet()), (5, true));
        // The server was emptied.
        requests.learn(WorkerRequests { own: Vec::new(), all: Some(Vec::new()) });
        requests.apply(&live, &settings, &slots, Timestamp::from_secs(6));
        assert_eq!((slots.wanted(), live.is_quiet()), (5, false));
        requests.apply(&live, &settings, &slots, Timestamp::from_secs(60));
        assert_eq!(slots.wanted(), 2);
    }
}
