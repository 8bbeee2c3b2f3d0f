//! Turns the jobs that waited together in a group into one job.
//!
//! A group is ready when it is full, when its oldest job has waited for the maximum delay,
//! or when no job has joined for the grace period. The aggregator then claims the group's
//! jobs as a set, gives them to the application's function, and replaces the set by the job
//! that the function returns, in one step.
//!
//! A set expires after two minutes. If the function fails, takes too long or its process
//! dies, the jobs go back into their group at that time, and are aggregated again. Several
//! processes may aggregate; the store gives each set to one of them.
//!
//! What may surprise. Only a process with an aggregation function aggregates, and it aggregates
//! the groups of its own queues. At most [`MAX_CONCURRENT`] functions run at a time; a group
//! for which there is no permit waits until one of them has ended. A group with more jobs than
//! [`MAX_SET_JOBS`] becomes several jobs, one after another. The function may see the same jobs
//! twice: if its process dies before the one job is stored, they are aggregated again. A result
//! that comes too late is not stored, because its set has expired by then; so no job becomes
//! part of two results.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Round, Service};
use crate::broker::{Broker, Enqueued, GroupLimits, GroupSet, MAX_SET_JOBS, Viewer};
use crate::error::Error;
use crate::job::{JobRecord, NewJob, OnConflict, QueueName};

/// Maximum interval between two checks of the groups. Asynq's own interval.
const MAX_INTERVAL: Duration = Duration::from_secs(7);

/// Maximum concurrent aggregations of one process.
const MAX_CONCURRENT: usize = 3;

/// How long before its set expires the function has to be done.
const EXPIRY_MARGIN: Duration = Duration::from_secs(5);

/// Maximum sets and jobs per script.
const MAX_BATCH_JOBS: usize = 100;

/// How long giving the jobs of an interrupted function back may take at shutdown. If the
/// store does not answer, they go back when their set expires.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_millis(900);

/// What the application's function returns: the one job, or why there is none.
pub(crate) type Made = Pin<Box<dyn Future<Output = Result<NewJob, String>> + Send>>;

/// How one process aggregates.
#[derive(Clone)]
pub(crate) struct Aggregation {
    /// When a group is aggregated.
    pub(crate) limits: GroupLimits,
    /// Makes one job of a queue's group.
    pub(crate) make: Arc<dyn Fn(QueueName, String, Vec<JobRecord>) -> Made + Send + Sync>,
    /// How long a function may go on at shutdown.
    pub(crate) shutdown_timeout: Duration,
    /// What the log may show of errors.
    pub(crate) viewer: Viewer,
}

/// The service that aggregates ready groups.
pub(crate) struct Aggregator {
    queues: Vec<QueueName>,
    /// The queue that the next tick begins with; another one each time.
    first: AtomicUsize,
    work: Arc<Work>,
    /// [`MAX_CONCURRENT`] of them.
    permits: Arc<Semaphore>,
    /// The aggregations that run.
    tasks: TaskTracker,
}

/// State that all aggregations of a process share.
struct Work {
    broker: Arc<dyn Broker>,
    /// The application's function and its limits.
    aggregation: Aggregation,
    /// A shutdown has begun: no function is called any more.
    stop: CancellationToken,
    /// A group, or the rest of one, waits for another aggregation to end.
    crowded: AtomicBool,
    /// An aggregation has ended while a group waited: the next tick comes at once.
    ended: Notify,
}

impl Aggregator {
    /// Aggregations run as tasks of this tracker, until a while after `stop`.
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        queues: Vec<QueueName>,
        aggregation: Aggregation,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            queues,
            first: AtomicUsize::new(0),
            work: Arc::new(Work::new(broker, aggregation, stop)),
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            tasks,
        }
    }

    /// Starts aggregating the ready groups of a queue. Returns how long until the next group is
    /// ready.
    ///
    /// Without a free permit it stops early and sets `crowded`; the end of the next aggregation
    /// then starts a new tick.
    async fn look(&self, queue: &QueueName) -> Result<Option<Duration>, Error> {
        let Work { broker, aggregation, .. } = &*self.work;
        while broker.repair_groups(queue, MAX_BATCH_JOBS).await?.more {}
        let mut next: Option<Duration> = None;
        let mut cursor = 0;
        loop {
            let seen = broker.ready_groups(queue, &aggregation.limits, cursor).await?;
            next = next.into_iter().chain(seen.next).min();
            for group in seen.ready {
                let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
                    self.work.crowded.store(true, Ordering::SeqCst);
                    return Ok(next);
                };
                let work = Arc::clone(&self.work);
                self.tasks.spawn(work.run(queue.clone(), group, permit));
            }
            cursor = seen.cursor;
            if cursor == 0 {
                return Ok(next);
            }
        }
    }
}

impl Service for Aggregator {
    const NAME: &'static str = "aggregating groups";

    async fn tick(&self) -> Result<Duration, Error> {
        let mut next = interval(&self.work.aggregation.limits);
        self.work.crowded.store(false, Ordering::SeqCst);
        let mut round = Round::default();
        let first = self.first.fetch_add(1, Ordering::Relaxed) % self.queues.len().max(1);
        let (last, begin) = self.queues.split_at(first);
        for queue in begin.iter().chain(last) {
            if let Some(due) = round.add(self.look(queue).await) {
                next = next.min(due.unwrap_or(next));
            }
        }
        round.end(next)
    }

    async fn wakeup(&self) {
        self.work.ended.notified().await;
    }
}

/// Aggregates the ready groups of a queue one after another, for tests that drive the
/// queue. Returns how long until the next group is ready.
pub(crate) async fn aggregate_now(
    broker: &Arc<dyn Broker>,
    aggregation: &Aggregation,
    queue: &QueueName,
) -> Result<Option<Duration>, Error> {
    let work = Work::new(Arc::clone(broker), aggregation.clone(), CancellationToken::new());
    while broker.repair_groups(queue, MAX_BATCH_JOBS).await?.more {}
    loop {
        let seen = broker.ready_groups(queue, &aggregation.limits, 0).await?;
        if seen.ready.is_empty() {
            let now = broker.now();
            let sets = match broker.aggregations(queue).await {
                // A configured queue comes into being with its first job.
                Err(error) if error.is_not_found() => Vec::new(),
                sets => sets?,
            };
            let returned = sets.first().map(|set| set.expires.since(now));
            return Ok(seen.next.into_iter().chain(returned).min());
        }
        for group in seen.ready {
            work.turn(queue.clone(), group).await;
        }
    }
}

/// How long no group can become ready that the last check has not foreseen.
///
/// The last check knows when the present groups will be ready. A group that did not exist then
/// is ready after the grace period or the maximum delay at the earliest, unless it becomes
/// full; so with a maximum size the groups are checked every second.
fn interval(limits: &GroupLimits) -> Duration {
    let second = Duration::from_secs(1);
    let mut interval = MAX_INTERVAL.min(limits.grace.max(second));
    if !limits.max_delay.is_zero() {
        interval = interval.min(limits.max_delay.max(second));
    }
    // No message says that a group has become full.
    if limits.max_size > 0 { second } else { interval }
}

impl Work {
    fn new(broker: Arc<dyn Broker>, aggregation: Aggregation, stop: CancellationToken) -> Self {
        let (crowded, ended) = (AtomicBool::new(false), Notify::new());
        Self { broker, aggregation, stop, crowded, ended }
    }

    /// One aggregation with its permit. At shutdown the function gets the shutdown timeout, and
    /// then [`GIVE_BACK_TIMEOUT`] more for returning its jobs.
    async fn run(self: Arc<Self>, queue: QueueName, group: String, permit: OwnedSemaphorePermit) {
        let over = async {
            self.stop.cancelled().await;
            tokio::time::sleep(self.aggregation.shutdown_timeout + GIVE_BACK_TIMEOUT).await;
        };
        // Dropping it half-way is safe: every operation is atomic.
        tokio::select! {
            () = self.turn(queue.clone(), group.clone()) => {}
            () = over => crate::log::warn!(
                %queue, ?group,
                "aggregation interrupted by shutdown; unless it was stored, the jobs return to their group within 2 minutes"
            ),
        }
        drop(permit);
        if self.crowded.swap(false, Ordering::SeqCst) {
            self.ended.notify_one();
        }
    }

    /// Claims a group's jobs as a set and aggregates them, unless another process has them.
    /// After the beginning of a shutdown no function is called any more.
    async fn turn(&self, queue: QueueName, group: String) {
        if self.stop.is_cancelled() {
            return;
        }
        match self.broker.claim_group(&queue, &group, &self.aggregation.limits).await {
            Ok(Some(set)) if self.stop.is_cancelled() => self.give_back(&set).await,
            Ok(Some(set)) => self.aggregate(set).await,
            // Another process has it.
            Ok(None) => {}
            Err(error) => {
                crate::log::debug!(%queue, ?group, ?error, "a group could not be claimed")
            }
        }
    }

    /// Calls the function and stores its job. If it fails, panics or takes too long, the set
    /// expires and its jobs return to their group. They are not returned at once: a function
    /// that always fails would be called without a pause.
    async fn aggregate(&self, mut set: GroupSet) {
        let size = set.jobs.len();
        if size >= MAX_SET_JOBS {
            // The group may have more jobs.
            self.crowded.store(true, Ordering::SeqCst);
        }
        let jobs = std::mem::take(&mut set.jobs);
        // The function gets the payloads; no second copy is kept.
        let locked = jobs.iter().filter(|job| !job.unique_key.is_empty());
        set.jobs = locked.map(JobRecord::bare).collect();
        let left = set.expires.since(self.broker.now()).saturating_sub(EXPIRY_MARGIN);
        let (queue, group) = (set.queue.clone(), set.group.clone());
        let made = AssertUnwindSafe(async { (self.aggregation.make)(queue, group, jobs).await });
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(self.aggregation.shutdown_timeout).await;
        };
        let failed = tokio::select! {
            made = made.catch_unwind() => match made {
                Ok(Ok(mut job)) => {
                    // It is stored, or the jobs of the set stay: nothing else would be atomic.
                    job.on_conflict = OnConflict::Reject;
                    return self.store(&set, size, &job).await;
                }
                Ok(Err(error)) => self.aggregation.viewer.text(error),
                Err(_) => "the function panicked".to_owned(),
            },
            () = tokio::time::sleep(left) => "the function took too long".to_owned(),
            () = stopped => return self.give_back(&set).await,
        };
        crate::log::error!(
            queue = %set.queue, group = ?set.group, jobs = size,
            "a group could not be aggregated, its jobs return to it within 2 minutes: {failed}"
        );
    }

    /// Returns the jobs of a set to their group at once: it was shutdown that stopped the
    /// function, not an error of it.
    async fn give_back(&self, set: &GroupSet) {
        if let Err(error) = self.broker.return_set(set).await {
            let (queue, group) = (&set.queue, &set.group);
            crate::log::debug!(%queue, ?group, ?error, "a group's jobs could not be given back");
        }
    }

    /// Replaces the set by the aggregated job, and logs the result. In the log, `id` is the new
    /// job and `jobs` the number of jobs that it replaces.
    async fn store(&self, set: &GroupSet, jobs: usize, job: &NewJob) {
        let (queue, group) = (&set.queue, &set.group);
        let (job_type, id) = (&job.record.job_type, &job.record.id);
        match self.broker.aggregate(set, job).await {
            Ok(Some(Enqueued::Created { .. })) => {
                crate::log::info!(%queue, ?group, jobs, "aggregated: type={job_type:?} id={id:?}");
            }
            Ok(Some(outcome)) => crate::log::error!(
                %queue, ?group, jobs,
                "the job of a group could not be stored, its jobs return to it within 2 minutes: {outcome:?}"
            ),
            Ok(None) => crate::log::warn!(
                %queue, ?group, jobs,
                "an aggregation took too long, its jobs have returned to their group"
            ),
            Err(error) => crate::log::error!(
                %queue, ?group, jobs,
                "no answer to storing the job of a group; unless it was stored, its jobs return to the group: {error:?}"
            ),
        }
    }
}
