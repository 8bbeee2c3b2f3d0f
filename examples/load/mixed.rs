//! Producers and a worker at the same time; some jobs fail once.

use std::time::{Duration, Instant};

use crate::app::{self, Notes, Work};
use crate::meter::Meter;
use crate::report::Report;
use crate::{Common, Outcome, drain, fill};

pub async fn mixed(common: &Common) -> Outcome<Report> {
    let mut site = common.site().await?;
    let (jobs, concurrency) = (common.jobs(50_000), common.concurrency(10));
    let notes = Notes::of(jobs, Work::FailSome(Duration::from_millis(100)));
    let producer = app::producer(&site).await?;
    let queue = app::queue(&producer)?;
    let worker = app::worker(&site, concurrency, &notes).await?;
    let meter = Meter::begin(&mut site).await?;
    let began = Instant::now();
    let enqueueing =
        tokio::spawn(async move { fill::single(&queue, jobs, concurrency.div_ceil(2)).await });
    notes.wait_for(jobs, "mixed").await?;
    drain::until_empty(&mut site).await?;
    let took = began.elapsed();
    enqueueing.await??;
    let report = meter.end(&mut site, "mixed", jobs, concurrency).await?.took(took);
    worker.terminate().await;
    producer.terminate().await;
    notes.check()?;
    let left = site.count("retry").await? + site.count("archived").await?;
    site.clean().await?;
    if left > 0 {
        return Err(format!("expected no job to be left, found {left}").into());
    }
    Ok(report.with("failed_once", jobs.div_ceil(20)))
}
