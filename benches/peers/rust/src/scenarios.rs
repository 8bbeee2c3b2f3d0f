//! The scenarios of the load driver for a job queue in Rust, the same for each of them. The crate
//! `azums` includes this file too.

use std::future::Future;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::common::{Measured, Meter, Options, Outcome, Scenario};

/// Callers that fill a queue before it is drained.
const FILLERS: usize = 64;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Noop {
    pub n: usize,
    /// Microseconds since the epoch at which a delayed job is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<i64>,
}

/// What a peer does; everything else is the same.
pub trait Queue: Clone + Send + Sync + 'static {
    /// Stores a job, due after a while if that is not zero.
    fn enqueue(&self, job: Noop, after: Duration) -> impl Future<Output = Outcome<()>> + Send;

    /// Stores jobs that are due now, in as few calls as it can; one by one if it has no such call.
    fn enqueue_all(&self, jobs: Vec<Noop>) -> impl Future<Output = Outcome<()>> + Send {
        async move {
            for job in jobs {
                self.enqueue(job, Duration::ZERO).await?;
            }
            Ok(())
        }
    }

    /// Starts to run jobs, so many at a time, until the process ends. Each calls [`Notes::run`].
    fn work(
        &self,
        concurrency: usize,
        notes: Arc<Notes>,
    ) -> impl Future<Output = Outcome<()>> + Send;
}

/// What handlers record.
pub struct Notes {
    ran: Vec<AtomicU8>,
    began: Vec<AtomicI64>,
    due: Vec<AtomicI64>,
    ended: AtomicUsize,
    first: OnceLock<Instant>,
    naps: Duration,
}

impl Notes {
    fn of(options: &Options) -> Arc<Self> {
        let numbers = || (0..options.jobs).map(|_| AtomicI64::new(0)).collect();
        Arc::new(Self {
            ran: (0..options.jobs).map(|_| AtomicU8::new(0)).collect(),
            began: numbers(),
            due: numbers(),
            ended: AtomicUsize::new(0),
            first: OnceLock::new(),
            naps: Duration::from_secs_f64(options.sleep_ms / 1e3),
        })
    }

    /// The handler.
    pub async fn run(&self, job: Noop) {
        self.first.get_or_init(Instant::now);
        self.began[job.n].store(now(), Ordering::Relaxed);
        self.due[job.n].store(job.due.unwrap_or_default(), Ordering::Relaxed);
        if !self.naps.is_zero() {
            sleep(self.naps).await;
        }
        self.ran[job.n].fetch_add(1, Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    async fn all_ended(&self) {
        while self.ended.load(Ordering::Relaxed) < self.ran.len() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Checks that each job ran exactly once.
    fn check(&self) -> Outcome<()> {
        for (n, ran) in self.ran.iter().enumerate() {
            let times = ran.load(Ordering::Relaxed);
            if times != 1 {
                return Err(format!("job {n}: expected to run once, found {times} times").into());
            }
        }
        Ok(())
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64
}

/// Runs a scenario and prints its line. `store` is where the peer keeps its jobs.
pub async fn run(options: &Options, store: &str, queue: impl Queue) -> Outcome<()> {
    let (meter, measured) = match options.scenario {
        Scenario::EnqueueOne => enqueue(options, store, &queue, 1, 1).await?,
        Scenario::EnqueueConcurrent => {
            enqueue(options, store, &queue, options.concurrency, 1).await?
        }
        Scenario::EnqueueBulk => {
            enqueue(options, store, &queue, options.concurrency, options.batch).await?
        }
        Scenario::Drain => drain(options, store, &queue).await?,
        Scenario::Latency => latency(options, store, &queue).await?,
        Scenario::Delay => delay(options, store, &queue).await?,
    };
    meter.end(options, store, measured)
}

type Run = Outcome<(Meter, Measured)>;

async fn enqueue(
    options: &Options,
    store: &str,
    queue: &impl Queue,
    callers: usize,
    batch: usize,
) -> Run {
    let meter = Meter::begin(store)?;
    fill(queue, options.jobs, callers, batch).await?;
    let took = meter.elapsed();
    Ok((meter, Measured::Took(took)))
}

async fn fill(queue: &impl Queue, jobs: usize, callers: usize, batch: usize) -> Outcome<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (queue, next) = (queue.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= jobs {
                    return Ok(());
                }
                let mut some = (first..jobs.min(first + batch)).map(|n| Noop { n, due: None });
                match some.next() {
                    Some(job) if batch == 1 => queue.enqueue(job, Duration::ZERO).await?,
                    Some(job) => queue.enqueue_all([job].into_iter().chain(some).collect()).await?,
                    None => {}
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        let ended: Outcome<()> = ended?;
        ended?;
    }
    Ok(())
}

async fn drain(options: &Options, store: &str, queue: &impl Queue) -> Run {
    fill(queue, options.jobs, FILLERS, 1).await?;
    let notes = Notes::of(options);
    let meter = Meter::begin(store)?;
    queue.work(options.concurrency, Arc::clone(&notes)).await?;
    notes.all_ended().await;
    let took = notes.first.get().ok_or("no job began")?.elapsed();
    notes.check()?;
    Ok((meter, Measured::Took(took)))
}

async fn latency(options: &Options, store: &str, queue: &impl Queue) -> Run {
    let notes = Notes::of(options);
    queue.work(options.concurrency, Arc::clone(&notes)).await?;
    sleep(Duration::from_millis(2500)).await;
    let meter = Meter::begin(store)?;
    let mut returned = Vec::new();
    for n in 0..options.jobs {
        queue.enqueue(Noop { n, due: None }, Duration::ZERO).await?;
        returned.push(now());
        sleep(Duration::from_millis(50)).await;
    }
    notes.all_ended().await;
    notes.check()?;
    let late = returned.iter().zip(&notes.began);
    let late = late.map(|(at, began)| (began.load(Ordering::Relaxed) - at).max(0) as f64 / 1e3);
    Ok((meter, Measured::Each(late.collect())))
}

async fn delay(options: &Options, store: &str, queue: &impl Queue) -> Run {
    let notes = Notes::of(options);
    queue.work(options.concurrency.max(50), Arc::clone(&notes)).await?;
    let meter = Meter::begin(store)?;
    for n in 0..options.jobs {
        // Spread over five seconds, in no order.
        let after = Duration::from_micros(1_000_000 + (n as u64 * 7_368_787) % 5_000_000);
        let due = now() + after.as_micros() as i64;
        queue.enqueue(Noop { n, due: Some(due) }, after).await?;
    }
    notes.all_ended().await;
    notes.check()?;
    let late = notes.began.iter().zip(&notes.due);
    let late = late.map(|(began, due)| {
        (began.load(Ordering::Relaxed) - due.load(Ordering::Relaxed)) as f64 / 1e3
    });
    Ok((meter, Measured::Each(late.collect())))
}
