//! The lateness of delayed jobs, and whether any starts early.

use std::path::Path;
use std::time::{Duration, Instant};

use rocket_jobqueue::{JobQueue, Timestamp};

use crate::app::{self, Noop, Notes, Work};
use crate::latency::produce_apart;
use crate::meter::Meter;
use crate::report::{Report, part};
use crate::{Common, Outcome, fill};

/// Enqueues a job that is due at a random instant 1 to 6 s ahead, and returns that instant.
pub async fn enqueue_later(queue: &JobQueue, n: u64) -> Outcome<()> {
    let due = app::now() + fastrand::i64(1_000_000..6_000_000);
    let job = Noop { n, due: Some(due) };
    queue.enqueue(job).at(Timestamp::from_micros(due)).await?;
    Ok(())
}

/// Who enqueues the jobs.
pub enum From<'a> {
    /// The process that runs them.
    Here,
    /// Another of ours.
    Apart,
    /// Another program.
    Program(&'a Path),
    /// Nobody: failed jobs are retried.
    Failure,
}

impl From<'_> {
    fn name(&self) -> &'static str {
        match self {
            From::Here => "here",
            From::Apart => "another process",
            From::Program(_) => "another program",
            From::Failure => "retry",
        }
    }
}

async fn by_program(program: &Path, url: &str, jobs: u64) -> Outcome<()> {
    let mut command = tokio::process::Command::new(program);
    command.args(["schedule", "--redis", url, "--jobs", &jobs.to_string()]);
    let answer = command.kill_on_drop(true).output().await;
    let answer = answer.map_err(|error| format!("--by {}: {error}", program.display()))?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        return Err(format!("--by {}: {}", program.display(), said.trim()).into());
    }
    Ok(())
}

/// The lateness, in milliseconds, of a thread that sleeps until an instant and then asks Redis
/// once: the best that any job queue can reach on this machine at this time.
fn bare(url: &str, times: usize) -> Outcome<Vec<f64>> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let mut late = Vec::with_capacity(times);
    for _ in 0..times {
        let due = Instant::now() + Duration::from_micros(fastrand::u64(5_000..35_000));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        redis::cmd("PING").query::<()>(&mut connection)?;
        late.push(due.elapsed().as_secs_f64() * 1e3);
    }
    late.sort_unstable_by(f64::total_cmp);
    Ok(late)
}

pub async fn delay(common: &Common, from: From<'_>, others: u64) -> Outcome<Report> {
    let mut site = common.site().await?;
    let (jobs, concurrency) = (common.jobs(200), common.concurrency(50));
    let work = match from {
        From::Failure => Work::FailOnce(Duration::from_micros(fastrand::u64(1_000_000..2_000_000))),
        _ => Work::Nothing,
    };
    let notes = Notes::of(jobs, work);
    let worker = app::worker(&site, concurrency, &notes).await?;
    let queue = app::queue(&worker)?;
    if others > 0 {
        fill::bulk(&queue, others, fill::BATCH, 2, fill::due_tomorrow).await?;
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let meter = Meter::begin(&mut site).await?;
    match from {
        From::Apart => {
            produce_apart(&site, jobs, true).await?;
        }
        From::Program(program) => by_program(program, &site.url, jobs).await?,
        From::Failure => {
            for n in 0..jobs {
                queue.enqueue(Noop::new(n)).await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        From::Here => {
            for n in 0..jobs {
                enqueue_later(&queue, n).await?;
            }
        }
    }
    notes.wait_for(jobs, "delay").await?;
    let report = meter.end(&mut site, "delay", jobs, concurrency).await?;
    worker.terminate().await;
    notes.check()?;
    let (url, times) = (site.url.clone(), jobs.min(200) as usize);
    let bare = tokio::task::spawn_blocking(move || bare(&url, times)).await??;
    site.clean().await?;
    let lateness = notes.lateness();
    let early = lateness.iter().filter(|ms| **ms < 0.0).count();
    Ok(report
        .spread(lateness)
        .with("bare_p50_ms", part(&bare, 0.5))
        .with("bare_p99_ms", part(&bare, 0.99))
        .with("early", early)
        .with("others", others)
        .with("from", from.name()))
}
