//! Looks at the store for alerts: what one look reads, how long its result is fresh, and the look
//! once a minute that keeps *since* right while nobody reads.
//!
//! The bounds: at most [`MAX_QUEUES`] queues by name, the last hour of at most [`MAX_HOURS`] of them,
//! those with most failures today, and the limits of at most [`MAX_LIMITED`]. A result is
//! fresh for a second, and for longer with more queues, so that at most about 100 queues are read
//! per second, however many readers there are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};

use super::judge::{Memory, Observed, judge};
use super::{AlertRule, AlertSettings, Alerts};
use crate::broker::{LimitInfo, MinuteStats, QueueSummary};
use crate::error::Error;
use crate::inspector::Inspector;
use crate::job::{JobState, QueueName};
use crate::sync::lock;
use crate::time::Timestamp;

/// Maximum queues of a look, the first by name.
pub(super) const MAX_QUEUES: usize = 1000;

/// Maximum queues whose last hour is read.
pub(super) const MAX_HOURS: usize = 100;

/// Maximum queues whose limits are read.
pub(super) const MAX_LIMITED: usize = 100;

/// How long a result is fresh, and how much longer with each queue.
const FRESH: Duration = Duration::from_secs(1);
const FRESH_PER_QUEUE: Duration = Duration::from_millis(10);

/// How often this process looks by itself.
const INTERVAL: Duration = Duration::from_secs(60);

/// The alerts of a process.
#[derive(Default)]
pub(crate) struct AlertWatch {
    settings: AlertSettings,
    state: Mutex<WatchState>,
}

#[derive(Default)]
struct WatchState {
    memory: Memory,
    latest: Option<(Instant, Arc<Alerts>)>,
    /// How often something was changed here; a look that began before is not fresh after it.
    changes: u64,
}

impl AlertWatch {
    pub(crate) fn new(settings: AlertSettings) -> Self {
        Self { settings, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, WatchState> {
        lock(&self.state)
    }

    /// The last result, if it is fresh.
    pub(crate) fn fresh(&self) -> Option<Arc<Alerts>> {
        let state = self.state();
        let (at, alerts) = state.latest.as_ref()?;
        let queues = u32::try_from(alerts.queues_checked).unwrap_or(u32::MAX);
        let lasts = FRESH.max(FRESH_PER_QUEUE.saturating_mul(queues));
        (at.elapsed() < lasts).then(|| Arc::clone(alerts))
    }

    /// Forgets the last result, because something was changed.
    pub(crate) fn outdate(&self) {
        let mut state = self.state();
        state.latest = None;
        state.changes += 1;
    }

    /// How often the result was [outdated](Self::outdate).
    pub(crate) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Looks at the store.
    ///
    /// # Errors
    /// Errors of the store, if its queues cannot be read.
    pub(crate) async fn look(&self, inspector: &Inspector) -> Result<Arc<Alerts>, Error> {
        let (began, changes) = (Instant::now(), self.changes());
        let observed = observe(inspector, &self.settings).await?;
        let mut state = self.state();
        let alerts = Arc::new(judge(&observed, &self.settings, &mut state.memory));
        if state.changes == changes {
            state.latest = Some((began, Arc::clone(&alerts)));
        }
        Ok(alerts)
    }

    /// Looks once a minute, until this is dropped.
    pub(crate) async fn keep_looking(self: Arc<Self>, inspector: Inspector) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if let Err(error) = self.look(&inspector).await {
                crate::log::debug!("the alerts could not be checked: {error:?}");
            }
        }
    }
}

/// Reads what the rules need; parts that only rules need that are off are not read.
async fn observe(inspector: &Inspector, settings: &AlertSettings) -> Result<Observed, Error> {
    let is_on = |rules: &[AlertRule]| rules.iter().any(|rule| settings.is_on(*rule));
    let servers = async {
        match is_on(&[AlertRule::NoWorker, AlertRule::JobRunning, AlertRule::WorkersFull]) {
            true => inspector.servers().await.ok().map(|all| all.servers),
            false => None,
        }
    };
    let periodic = async {
        match is_on(&[AlertRule::PeriodicMissed]) {
            true => inspector.periodic_jobs().await.ok(),
            false => None,
        }
    };
    let nodes = async {
        match is_on(&[AlertRule::StoreMemory, AlertRule::StoreEvicting]) {
            true => inspector.store().await.ok().map(|store| store.nodes),
            false => None,
        }
    };
    let findings = async {
        match is_on(&[AlertRule::StoreSettings]) {
            true => inspector.check_store().await.ok(),
            false => None,
        }
    };
    let rest = join(join(servers, periodic), join(nodes, findings));
    let queues = inspector.some_queues(None, MAX_QUEUES + 1);
    let (queues, ((servers, periodic), (nodes, findings))) = join(queues, rest).await;
    let mut queues = queues?;
    let more_queues = queues.queues.len() > MAX_QUEUES;
    queues.queues.truncate(MAX_QUEUES);
    let now = inspector.now();
    let hours = async {
        match is_on(&[AlertRule::FailureRate]) {
            true => hours(inspector, now, &queues.queues).await,
            false => BTreeMap::new(),
        }
    };
    let limits = async {
        match is_on(&[AlertRule::LimitFull]) {
            true => limits(inspector, &queues.queues).await,
            false => None,
        }
    };
    let (hours, limits) = join(hours, limits).await;
    Ok(Observed { now, queues, more_queues, hours, servers, periodic, nodes, findings, limits })
}

/// The last hour of the queues that failed today, or may have just before midnight.
async fn hours(
    inspector: &Inspector,
    now: Timestamp,
    queues: &[QueueSummary],
) -> BTreeMap<QueueName, Vec<MinuteStats>> {
    let is_early = now.as_secs().rem_euclid(86_400) < 3600;
    let mut failed: Vec<_> = (queues.iter())
        .filter_map(|one| Some((one.info.as_ref()?, &one.queue)))
        .filter(|(info, _)| info.failed_today > 0 || is_early && info.failed > 0)
        .collect();
    failed.sort_by_key(|(info, _)| std::cmp::Reverse((info.failed_today, info.failed)));
    failed.truncate(MAX_HOURS);
    let read = failed.into_iter().map(|(_, queue)| async move {
        Some((queue.clone(), inspector.last_hour(queue).await.ok()?))
    });
    join_all(read).await.into_iter().flatten().collect()
}

/// The limits of queues with scheduled jobs: a job that waits for a limit is one of them.
async fn limits(
    inspector: &Inspector,
    queues: &[QueueSummary],
) -> Option<BTreeMap<QueueName, Vec<LimitInfo>>> {
    let waits = |one: &&QueueSummary| {
        let scheduled = JobState::Scheduled.as_str();
        let info = one.info.as_ref();
        info.is_some_and(|info| info.sizes.get(scheduled).is_some_and(|jobs| *jobs > 0))
    };
    let read = queues
        .iter()
        .filter(waits)
        .take(MAX_LIMITED)
        .map(|one| async move { (one.queue.clone(), inspector.limits(&one.queue).await) });
    let answers = join_all(read).await;
    let is_read = answers.is_empty() || answers.iter().any(|(_, limits)| limits.is_ok());
    let limits = answers.into_iter().filter_map(|(queue, limits)| Some((queue, limits.ok()?)));
    is_read.then(|| limits.collect())
}
