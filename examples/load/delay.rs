//! How late delayed jobs start, and whether any is early.

use std::time::Duration;

use rocket_jobqueue::{JobQueue, Timestamp};

use crate::app::{self, Noop, Notes, Work};
use crate::latency::produce_apart;
use crate::meter::Meter;
use crate::report::Report;
use crate::{Common, Outcome, fill};

/// Enqueues a job that is due at a random instant 1 to 6 s ahead and says when.
pub async fn enqueue_later(queue: &JobQueue, n: u64) -> Outcome<()> {
    let due = app::now() + fastrand::i64(1_000_000..6_000_000);
    let job = Noop { n, due: Some(due) };
    queue.enqueue(job).at(Timestamp::from_micros(due)).await?;
    Ok(())
}

pub async fn delay(common: &Common, split: bool, others: u64, retry: bool) -> Outcome<Report> {
    let mut site = common.site().await?;
    let (jobs, concurrency) = (common.jobs(200), common.concurrency(50));
    let work = match retry {
        true => Work::FailOnce(Duration::from_micros(fastrand::u64(1_000_000..2_000_000))),
        false => Work::Nothing,
    };
    let notes = Notes::of(jobs, work);
    let worker = app::worker(&site, concurrency, &notes).await?;
    let queue = app::queue(&worker)?;
    if others > 0 {
        fill::bulk(&queue, others, fill::BATCH, 2, fill::due_tomorrow).await?;
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let meter = Meter::begin(&mut site).await?;
    if split {
        produce_apart(&site, jobs, true).await?;
    } else if retry {
        for n in 0..jobs {
            queue.enqueue(Noop::new(n)).await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    } else {
        for n in 0..jobs {
            enqueue_later(&queue, n).await?;
        }
    }
    notes.wait_for(jobs, "delay").await?;
    let report = meter.end(&mut site, "delay", jobs, concurrency).await?;
    worker.terminate().await;
    notes.check()?;
    site.clean().await?;
    let lateness = notes.lateness();
    let early = lateness.iter().filter(|ms| **ms < 0.0).count();
    Ok(report
        .spread(lateness)
        .with("early", early)
        .with("others", others)
        .with("split", split)
        .with("retry", retry))
}
