//! Many jobs through one process, whose memory must not grow.

use std::time::{Duration, Instant};

use crate::app::{self, Notes, Work};
use crate::meter::{Meter, memory};
use crate::report::Report;
use crate::{Common, Outcome, fill};

/// Maximum pending jobs.
const BACKLOG: u64 = 10_000;

pub async fn soak(common: &Common) -> Outcome<Report> {
    let mut site = common.site().await?;
    let (jobs, concurrency) = (common.jobs(5_000_000), common.concurrency(100));
    // The record of each job is not to be measured, so all of it is touched beforehand.
    let notes = Notes::of(jobs, Work::Nothing);
    let worker = app::worker(&site, concurrency, &notes).await?;
    let queue = app::queue(&worker)?;
    let bar = app::bar(jobs, "soak");
    let meter = Meter::begin(&mut site).await?;
    let began = Instant::now();
    let (mut sent, mut marks) = (0, Vec::new());
    while notes.ended() < jobs {
        bar.set_position(notes.ended());
        if marks.len() < 10 && notes.ended() >= jobs / 10 * (marks.len() as u64 + 1) {
            marks.push(memory("VmRSS")?);
        }
        if sent < jobs && sent - notes.ended() < BACKLOG {
            let some = sent..(sent + fill::BATCH).min(jobs);
            sent = some.end;
            for stored in queue.enqueue_all(some.map(fill::due_now)).await {
                stored?;
            }
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let took = began.elapsed();
    marks.push(memory("VmRSS")?);
    bar.finish_and_clear();
    let report = meter.end(&mut site, "soak", jobs, concurrency).await?.took(took);
    worker.terminate().await;
    notes.check()?;
    site.clean().await?;
    let early = marks[marks.len() / 5];
    let growth = marks[marks.len() - 1] - early;
    Ok(report.with("rss_mib", marks).with("growth_after_20_percent_mib", growth))
}
