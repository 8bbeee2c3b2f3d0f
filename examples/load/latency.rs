//! How fast an idle worker starts a job.

use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::app::{self, Noop, Notes, Work};
use crate::meter::Meter;
use crate::report::Report;
use crate::site::Site;
use crate::{Common, Outcome};

/// Pause between two jobs.
const PAUSE: Duration = Duration::from_millis(50);

/// A producer in a process of its own. It prints when each call started and returned.
#[derive(Args)]
pub struct Produce {
    #[arg(long)]
    redis: String,
    #[arg(long)]
    jobs: u64,
    /// Schedule the jobs at random instants 1 to 6 s ahead, all at once.
    #[arg(long)]
    later: bool,
}

/// When a call started and returned, in microseconds since the epoch.
type Call = (i64, i64);

pub async fn latency(common: &Common, split: bool) -> Outcome<Report> {
    let mut site = common.site().await?;
    let (jobs, concurrency) = (common.jobs(200), common.concurrency(10));
    let notes = Notes::of(jobs, Work::Nothing);
    let worker = app::worker(&site, concurrency, &notes).await?;
    // Wait until the worker is idle and connected.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let meter = Meter::begin(&mut site).await?;
    let calls = if split {
        produce_apart(&site, jobs, false).await?
    } else {
        let queue = app::queue(&worker)?;
        let mut calls = Vec::new();
        for n in 0..jobs {
            let before = app::now();
            queue.enqueue(Noop::new(n)).await?;
            calls.push((before, app::now()));
            tokio::time::sleep(PAUSE).await;
        }
        calls
    };
    notes.wait_for(jobs, "latency").await?;
    let report = meter.end(&mut site, "latency", jobs, concurrency).await?;
    worker.terminate().await;
    notes.check()?;
    site.clean().await?;
    let since = |at: fn(&Call) -> i64| {
        let each = (0..).zip(&calls).map(|(n, call)| (notes.began(n) - at(call)) as f64 / 1e3);
        // A job may start before its enqueue returns.
        each.map(|ms| ms.max(0.0)).collect::<Vec<_>>()
    };
    let mut from_call = since(|call| call.0);
    from_call.sort_unstable_by(f64::total_cmp);
    let middle = from_call[from_call.len() / 2];
    Ok(report
        .spread(since(|call| call.1))
        .with("call_to_start_p50_ms", middle)
        .with("split", split))
}

/// Enqueues from a process of its own.
pub async fn produce_apart(site: &Site, jobs: u64, later: bool) -> Outcome<Vec<Call>> {
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.args(["produce", "--redis", &site.url, "--jobs", &jobs.to_string()]);
    if later {
        command.arg("--later");
    }
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("its output")?).lines();
    let mut calls = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let (before, after) = line.split_once(' ').ok_or("expected two numbers of the producer")?;
        calls.push((before.parse()?, after.parse()?));
    }
    if !child.wait().await?.success() || calls.len() as u64 != jobs {
        return Err(format!("the producer: expected {jobs} calls, found {}", calls.len()).into());
    }
    Ok(calls)
}

pub async fn produce(options: &Produce) -> Outcome<()> {
    let site = Site::open(Some(&options.redis), false, 0.0).await?;
    let producer = app::producer(&site).await?;
    let queue = app::queue(&producer)?;
    let mut calls = Vec::new();
    for n in 0..options.jobs {
        let before = app::now();
        if options.later {
            crate::delay::enqueue_later(&queue, n).await?;
        } else {
            queue.enqueue(Noop::new(n)).await?;
        }
        calls.push((before, app::now()));
        if !options.later {
            tokio::time::sleep(PAUSE).await;
        }
    }
    for (before, after) in calls {
        println!("{before} {after}");
    }
    producer.terminate().await;
    Ok(())
}
