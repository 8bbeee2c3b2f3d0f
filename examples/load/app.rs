//! The application under load: a job type, its handler, and what the handler records.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::{Job, JobContext, JobError, JobQueue, JobQueueFairing, Managed, Timestamp};
use serde::{Deserialize, Serialize};

use crate::pages::Anybody;
use crate::site::Site;
use crate::{Outcome, nap};

/// The task type `noop` of the Go peers.
#[derive(Serialize, Deserialize)]
pub struct Noop {
    pub n: u64,
    /// When it is due, in microseconds since the epoch, if lateness is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<i64>,
}

impl Noop {
    pub fn new(n: u64) -> Self {
        Self { n, due: None }
    }
}

impl Job for Noop {
    const TYPE: &'static str = "noop";
}

/// What a handler does.
#[derive(Clone, Copy)]
pub enum Work {
    Nothing,
    Sleep(Duration),
    Spin(Duration),
    /// Every twentieth job fails once and is retried after this delay.
    FailSome(Duration),
    /// Every job fails once and is retried after this delay.
    FailOnce(Duration),
}

impl Work {
    pub fn sleep(ms: f64) -> Outcome<Self> {
        match ms {
            0.0 => Ok(Self::Nothing),
            0.0..=60_000.0 => Ok(Self::Sleep(Duration::from_secs_f64(ms / 1e3))),
            _ => Err(format!("--sleep-ms: expected 0 to 60000, found {ms}").into()),
        }
    }
}

/// Microseconds since the epoch.
pub fn now() -> i64 {
    Timestamp::from(SystemTime::now()).as_micros()
}

/// The record of all jobs, by their numbers. Clones share it.
#[derive(Clone)]
pub struct Notes(Arc<Inner>);

struct Inner {
    work: Work,
    ran: Vec<AtomicU8>,
    /// When each started last, and when it was due if it says so.
    began: Vec<AtomicI64>,
    due: Vec<AtomicI64>,
    ended: AtomicU64,
    strays: AtomicU64,
    first: AtomicI64,
    /// How long all handlers slept, in microseconds: no sleep is exact.
    slept: AtomicU64,
}

impl Notes {
    pub fn of(jobs: u64, work: Work) -> Self {
        let numbers = || (0..jobs).map(|_| AtomicI64::new(0)).collect();
        Self(Arc::new(Inner {
            work,
            ran: (0..jobs).map(|_| AtomicU8::new(0)).collect(),
            began: numbers(),
            due: numbers(),
            ended: AtomicU64::new(0),
            strays: AtomicU64::new(0),
            first: AtomicI64::new(0),
            slept: AtomicU64::new(0),
        }))
    }

    /// The number of jobs that succeeded.
    pub fn ended(&self) -> u64 {
        self.0.ended.load(Ordering::Relaxed)
    }

    /// The time since the first handler started.
    pub fn since_first(&self) -> Duration {
        let micros = now() - self.0.first.load(Ordering::Relaxed);
        Duration::from_micros(micros.unsigned_abs())
    }

    /// The average sleep of the handlers.
    pub fn slept(&self) -> Duration {
        let all = self.0.slept.load(Ordering::Relaxed);
        Duration::from_nanos(all * 1000 / self.ended().max(1))
    }

    /// When a job started, in microseconds since the epoch.
    pub fn began(&self, n: u64) -> i64 {
        self.0.began[n as usize].load(Ordering::Relaxed)
    }

    /// The lateness of each job, in milliseconds.
    pub fn lateness(&self) -> Vec<f64> {
        let each = self.0.began.iter().zip(&self.0.due);
        each.map(|(began, due)| {
            (began.load(Ordering::Relaxed) - due.load(Ordering::Relaxed)) as f64 / 1e3
        })
        .collect()
    }

    /// Checks that each job ran exactly once.
    pub fn check(&self) -> Outcome<()> {
        let strays = self.0.strays.load(Ordering::Relaxed);
        if strays > 0 {
            let jobs = self.0.ran.len();
            return Err(
                format!("expected jobs numbered below {jobs}, found {strays} others").into()
            );
        }
        for (n, ran) in self.0.ran.iter().enumerate() {
            let times = ran.load(Ordering::Relaxed);
            if times != 1 {
                return Err(format!("job {n}: expected to run once, found {times} times").into());
            }
        }
        Ok(())
    }

    /// Waits until this many jobs have ended, with a progress bar on a terminal.
    pub async fn wait_for(&self, jobs: u64, what: &'static str) -> Outcome<()> {
        let bar = bar(jobs, what);
        let mut last = (0, Instant::now());
        loop {
            let ended = self.ended();
            bar.set_position(ended);
            if ended >= jobs {
                bar.finish_and_clear();
                return Ok(());
            }
            if ended > last.0 {
                last = (ended, Instant::now());
            }
            if last.1.elapsed() > Duration::from_secs(60) {
                return Err(format!(
                    "expected {jobs} jobs to run, found {ended}, and no more for a minute"
                )
                .into());
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
}

/// A progress bar on standard error, if that is a terminal.
pub fn bar(jobs: u64, what: &'static str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg:>10} {bar:40} {human_pos}/{human_len} {per_sec}");
    let bar = ProgressBar::new(jobs).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

async fn noop(job: Noop, context: JobContext, notes: Managed<Notes>) -> Result<(), JobError> {
    let began = now();
    let notes = &notes.0;
    let _ = notes.first.compare_exchange(0, began, Ordering::Relaxed, Ordering::Relaxed);
    let at = job.n as usize;
    let Some(ran) = notes.ran.get(at) else {
        notes.strays.fetch_add(1, Ordering::Relaxed);
        notes.ended.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    };
    notes.began[at].store(began, Ordering::Relaxed);
    if let Some(due) = job.due {
        notes.due[at].store(due, Ordering::Relaxed);
    }
    match notes.work {
        Work::Nothing => {}
        Work::Sleep(time) => {
            let began = Instant::now();
            nap::nap(time).await;
            let slept = began.elapsed().as_micros() as u64;
            notes.slept.fetch_add(slept, Ordering::Relaxed);
        }
        Work::Spin(time) => {
            let end = Instant::now() + time;
            while Instant::now() < end {
                std::hint::spin_loop();
            }
        }
        Work::FailSome(after) => {
            if job.n.is_multiple_of(20) && context.attempt() == 1 {
                return Err(JobError::retry_in(after, "the first attempt fails"));
            }
        }
        Work::FailOnce(after) => {
            if context.attempt() == 1 {
                let due = now() + after.as_micros() as i64;
                notes.due[at].store(due, Ordering::Relaxed);
                return Err(JobError::retry_in(after, "the first attempt fails"));
            }
        }
    }
    ran.fetch_add(1, Ordering::Relaxed);
    notes.ended.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn launch(fairing: JobQueueFairing, notes: Notes) -> Outcome<Client> {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment).manage(notes).attach(fairing);
    Client::untracked(rocket).await.map_err(|error| error.to_string().into())
}

fn fairing(site: &Site) -> JobQueueFairing {
    anywhere().set("databases.jobqueue.url", site.url.as_str())
}

/// Without a store.
fn anywhere() -> JobQueueFairing {
    JobQueue::fairing()
        .handle(noop)
        .set("jobqueue.log_to_stderr", false)
        // Old jobs stay in the store: removing them would be work of its own.
        .set("jobqueue.archive_max", 10_000_000)
}

/// An application that only enqueues.
pub async fn producer(site: &Site) -> Outcome<Client> {
    let client =
        launch(fairing(site).set("jobqueue.worker", false), Notes::of(0, Work::Nothing)).await?;
    // Connects before anything is measured.
    queue(&client)?.inspector().queues().await?;
    Ok(client)
}

/// The same with public pages and routes.
pub async fn open_to_anybody(site: &Site) -> Outcome<Client> {
    let fairing = fairing(site).set("jobqueue.worker", false).admin_guard::<Anybody>();
    launch(fairing, Notes::of(0, Work::Nothing)).await
}

/// An application that runs the jobs of the queue `default`.
pub async fn worker(site: &Site, concurrency: usize, notes: &Notes) -> Outcome<Client> {
    launch(fairing(site).set("jobqueue.concurrency", concurrency), notes.clone()).await
}

/// The same with many queues.
pub async fn worker_of(
    site: &Site,
    concurrency: usize,
    queues: HashMap<String, u32>,
    notes: &Notes,
) -> Outcome<Client> {
    let fairing = fairing(site).set("jobqueue.concurrency", concurrency);
    launch(fairing.set("jobqueue.queues", queues), notes.clone()).await
}

/// An application on a Cluster that only enqueues.
pub async fn producer_on(cluster: &[String]) -> Outcome<Client> {
    let fairing = anywhere().set("databases.jobqueue.cluster.addrs", cluster);
    launch(fairing.set("jobqueue.worker", false), Notes::of(0, Work::Nothing)).await
}

/// An application on a Cluster that runs the jobs of these queues.
pub async fn worker_on(
    cluster: &[String],
    concurrency: usize,
    queues: HashMap<String, u32>,
    notes: &Notes,
) -> Outcome<Client> {
    let fairing = anywhere().set("databases.jobqueue.cluster.addrs", cluster);
    let fairing = fairing.set("jobqueue.concurrency", concurrency);
    launch(fairing.set("jobqueue.queues", queues), notes.clone()).await
}

/// The queue of an application.
pub fn queue(client: &Client) -> Outcome<JobQueue> {
    Ok(client.rocket().state::<JobQueue>().ok_or("the fairing is attached")?.clone())
}
