//! Makes one job of those that waited together in a group. What the one job is,
//! a function of the application's says.

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
use crate::job::{JobRecord, NewJob, QueueName};

/// How often groups are looked at, at least: Asynq's own interval.
const INTERVAL: Duration = Duration::from_secs(7);

/// Most aggregations of one process at a time.
const AT_A_TIME: usize = 3;

/// How long before others may take the jobs back the function has to be done.
const MARGIN: Duration = Duration::from_secs(5);

/// Most sets and jobs repaired by one script.
const BATCH: usize = 100;

/// How long after a function was given up at shutdown its jobs may take to go
/// back; a store that hangs is not waited for. They are back in time anyway.
const LAST_WORDS: Duration = Duration::from_millis(900);

/// What the application's function makes: the one job, or the reason why not.
pub(crate) type Made = Pin<Box<dyn Future<Output = Result<NewJob, String>> + Send>>;

/// How one process aggregates.
#[derive(Clone)]
pub(crate) struct Aggregation {
    /// When a group is aggregated.
    pub(crate) limits: GroupLimits,
    /// Makes one job of a queue's group.
    pub(crate) make: Arc<dyn Fn(QueueName, String, Vec<JobRecord>) -> Made + Send + Sync>,
    /// How long a function may go on at shutdown.
    pub(crate) patience: Duration,
    /// Who reads the log.
    pub(crate) viewer: Viewer,
}

pub(crate) struct Aggregator {
    queues: Vec<QueueName>,
    /// The queue that is looked at first, another one each time.
    first: AtomicUsize,
    work: Arc<Work>,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// What one aggregation needs.
struct Work {
    broker: Arc<dyn Broker>,
    aggregation: Aggregation,
    stop: CancellationToken,
    /// A group, or the rest of one, had to wait for another aggregation to end.
    crowded: AtomicBool,
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
            permits: Arc::new(Semaphore::new(AT_A_TIME)),
            tasks,
        }
    }

    /// Starts what is ready in a queue; how long until the next group is.
    async fn look(&self, queue: &QueueName) -> Result<Option<Duration>, Error> {
        let Work { broker, aggregation, .. } = &*self.work;
        while broker.repair_groups(queue, BATCH).await?.more {}
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
            if let Some(due) = round.note(self.look(queue).await) {
                next = next.min(due.unwrap_or(next));
            }
        }
        round.end(next)
    }

    async fn wakeup(&self) {
        self.work.ended.notified().await;
    }
}

/// What an aggregator does in a queue at this instant, one group after another;
/// how long until the next group is ready. For a test that drives the queue.
pub(crate) async fn aggregate_now(
    broker: &Arc<dyn Broker>,
    aggregation: &Aggregation,
    queue: &QueueName,
) -> Result<Option<Duration>, Error> {
    let work = Work::new(Arc::clone(broker), aggregation.clone(), CancellationToken::new());
    while broker.repair_groups(queue, BATCH).await?.more {}
    loop {
        let seen = broker.ready_groups(queue, &aggregation.limits, 0).await?;
        if seen.ready.is_empty() {
            let now = broker.now();
            let sets = broker.aggregations(queue).await?;
            let returned = sets.first().map(|set| set.expires.since(now));
            return Ok(seen.next.into_iter().chain(returned).min());
        }
        for group in seen.ready {
            work.turn(queue.clone(), group).await;
        }
    }
}

/// How long nothing can become ready that a look has not seen coming.
fn interval(limits: &GroupLimits) -> Duration {
    let second = Duration::from_secs(1);
    let mut interval = INTERVAL.min(limits.grace.max(second));
    if !limits.max_delay.is_zero() {
        interval = interval.min(limits.max_delay.max(second));
    }
    // Nobody tells that a group is full.
    if limits.max_size > 0 { second } else { interval }
}

impl Work {
    fn new(broker: Arc<dyn Broker>, aggregation: Aggregation, stop: CancellationToken) -> Self {
        let (crowded, ended) = (AtomicBool::new(false), Notify::new());
        Self { broker, aggregation, stop, crowded, ended }
    }

    async fn run(self: Arc<Self>, queue: QueueName, group: String, permit: OwnedSemaphorePermit) {
        let over = async {
            self.stop.cancelled().await;
            tokio::time::sleep(self.aggregation.patience + LAST_WORDS).await;
        };
        // Every operation is atomic: to be dropped half-way does no harm.
        tokio::select! {
            () = self.turn(queue.clone(), group.clone()) => {}
            () = over => crate::log::warn!(
                %queue, ?group,
                "shut down in the middle of an aggregation; unless it is done, the jobs go back into their group in 2 minutes"
            ),
        }
        drop(permit);
        if self.crowded.swap(false, Ordering::SeqCst) {
            self.ended.notify_one();
        }
    }

    async fn turn(&self, queue: QueueName, group: String) {
        if self.stop.is_cancelled() {
            return;
        }
        match self.broker.claim_group(&queue, &group, &self.aggregation.limits).await {
            Ok(Some(set)) if self.stop.is_cancelled() => self.give_back(&set).await,
            Ok(Some(set)) => self.aggregate(set).await,
            // Another process was faster.
            Ok(None) => {}
            Err(error) => crate::log::debug!(%queue, ?group, ?error, "could not take a group"),
        }
    }

    async fn aggregate(&self, mut set: GroupSet) {
        let size = set.jobs.len();
        if size >= MAX_SET_JOBS {
            // The group may have more.
            self.crowded.store(true, Ordering::SeqCst);
        }
        let jobs = std::mem::take(&mut set.jobs);
        // Payloads go to the function and are not kept twice.
        let locked = jobs.iter().filter(|job| !job.unique_key.is_empty());
        set.jobs = locked.map(JobRecord::bare).collect();
        let left = set.expires.since(self.broker.now()).saturating_sub(MARGIN);
        let (queue, group) = (set.queue.clone(), set.group.clone());
        let made = AssertUnwindSafe(async { (self.aggregation.make)(queue, group, jobs).await });
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(self.aggregation.patience).await;
        };
        let failed = tokio::select! {
            made = made.catch_unwind() => match made {
                Ok(Ok(job)) => return self.store(&set, size, &job).await,
                Ok(Err(error)) => self.aggregation.viewer.text(error),
                Err(_) => "the function panicked".to_owned(),
            },
            () = tokio::time::sleep(left) => "the function took too long".to_owned(),
            () = stopped => return self.give_back(&set).await,
        };
        crate::log::error!(
            queue = %set.queue, group = ?set.group, jobs = size,
            "could not aggregate a group, its jobs go back into it in 2 minutes: {failed}"
        );
    }

    async fn give_back(&self, set: &GroupSet) {
        if let Err(error) = self.broker.return_set(set).await {
            let (queue, group) = (&set.queue, &set.group);
            crate::log::debug!(%queue, ?group, ?error, "could not give a group's jobs back");
        }
    }

    async fn store(&self, set: &GroupSet, jobs: usize, job: &NewJob) {
        let (queue, group) = (&set.queue, &set.group);
        let (job_type, id) = (&job.record.job_type, &job.record.id);
        match self.broker.aggregate(set, job).await {
            Ok(Some(Enqueued::Created { .. })) => {
                crate::log::info!(%queue, ?group, jobs, "aggregated: type={job_type:?} id={id:?}");
            }
            Ok(Some(outcome)) => crate::log::error!(
                %queue, ?group, jobs,
                "could not store the job of a group, its jobs go back into it in 2 minutes: {outcome:?}"
            ),
            Ok(None) => crate::log::warn!(
                %queue, ?group, jobs,
                "an aggregation took too long, its jobs went back into their group"
            ),
            Err(error) => crate::log::error!(
                %queue, ?group, jobs,
                "could not store the job of a group; unless it was, its jobs go back into it: {error:?}"
            ),
        }
    }
}
