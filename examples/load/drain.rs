//! A worker against a full queue.

use std::time::Duration;

use crate::app::{self, Notes, Work};
use crate::fill;
use crate::meter::Meter;
use crate::report::Report;
use crate::site::Site;
use crate::{Common, Outcome};

pub async fn drain(common: &Common, no_fill: bool, work: Work) -> Outcome<Report> {
    let mut site = if no_fill { common.full_site().await? } else { common.site().await? };
    let concurrency = common.concurrency(10);
    let jobs = if no_fill {
        let found = site.count("pending").await?;
        if let Some(expected) = common.jobs.filter(|expected| *expected != found) {
            return Err(format!("expected {expected} jobs in the queue, found {found}").into());
        }
        if found == 0 {
            return Err("expected jobs in the queue \"default\", found none".into());
        }
        found
    } else {
        let jobs = common.jobs(50_000);
        let producer = app::producer(&site).await?;
        let queue = app::queue(&producer)?;
        fill::bulk(&queue, jobs, fill::BATCH, 2, fill::due_now).await?;
        producer.terminate().await;
        jobs
    };
    let notes = Notes::of(jobs, work);
    let meter = Meter::begin(&mut site).await?;
    let worker = app::worker(&site, concurrency, &notes).await?;
    notes.wait_for(jobs, "drain").await?;
    until_empty(&mut site).await?;
    let took = notes.since_first();
    let mut report = meter.end(&mut site, "drain", jobs, concurrency).await?.took(took);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let ideal = match work {
        Work::Sleep(time) => Some(concurrency as f64 / time.as_secs_f64()),
        Work::Spin(time) => Some(concurrency.min(cores) as f64 / time.as_secs_f64()),
        Work::Nothing | Work::FailSome(_) | Work::FailOnce(_) => None,
    };
    if let Some(ideal) = ideal {
        let part = report.jobs_per_s() / ideal;
        report = report.with("ideal_per_s", ideal).with("of_ideal", part);
    }
    if let Work::Sleep(_) = work {
        // The cost of the store and this crate, beside the real sleep of the handlers.
        let slept = notes.slept().as_secs_f64();
        let part = report.jobs_per_s() * slept / concurrency as f64;
        report = report.with("slept_ms", slept * 1e3).with("of_slept", part);
    }
    worker.terminate().await;
    notes.check()?;
    let mut left = 0;
    for state in ["pending", "active", "lease", "scheduled", "retry", "archived"] {
        left += site.count(state).await?;
    }
    site.clean().await?;
    if left > 0 {
        return Err(format!("expected nothing to be left in Redis, found {left} entries").into());
    }
    Ok(report.with("ran", notes.ended()).with("left", left))
}

/// Waits until no job is pending or active.
pub async fn until_empty(site: &mut Site) -> Outcome<()> {
    while site.count("pending").await? + site.count("active").await? > 0 {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    Ok(())
}
