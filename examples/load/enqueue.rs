//! Enqueueing: one caller, many callers, batches.

use crate::app;
use crate::fill;
use crate::meter::Meter;
use crate::report::Report;
use crate::{Common, Outcome};

pub async fn one(common: &Common) -> Outcome<Report> {
    single("enqueue-one", common, 1).await
}

pub async fn concurrent(common: &Common) -> Outcome<Report> {
    single("enqueue-concurrent", common, common.concurrency(10)).await
}

async fn single(scenario: &str, common: &Common, callers: usize) -> Outcome<Report> {
    let mut site = common.site().await?;
    let jobs = common.jobs(50_000);
    let producer = app::producer(&site).await?;
    let queue = app::queue(&producer)?;
    let meter = Meter::begin(&mut site).await?;
    let took = fill::single(&queue, jobs, callers).await?;
    let report = meter.end(&mut site, scenario, jobs, callers).await?.took(took);
    stored(&mut site, jobs).await?;
    producer.terminate().await;
    Ok(report)
}

pub async fn bulk(common: &Common, batch: u64) -> Outcome<Report> {
    let mut site = common.site().await?;
    let (jobs, producers) = (common.jobs(50_000), common.concurrency(2));
    let producer = app::producer(&site).await?;
    let queue = app::queue(&producer)?;
    let meter = Meter::begin(&mut site).await?;
    let took = fill::bulk(&queue, jobs, batch, producers, fill::due_now).await?;
    let report = meter.end(&mut site, "enqueue-bulk", jobs, producers).await?;
    stored(&mut site, jobs).await?;
    producer.terminate().await;
    Ok(report.took(took).with("batch", batch))
}

/// Checks that all jobs are there, and deletes them.
async fn stored(site: &mut crate::site::Site, jobs: u64) -> Outcome<()> {
    let found = site.count("pending").await?;
    site.clean().await?;
    if found == jobs {
        Ok(())
    } else {
        Err(format!("expected {jobs} jobs in Redis, found {found}").into())
    }
}
