//! Faults of many kinds, one after the other, for minutes; what processes use must
//! stay flat.

use std::time::Duration;

use tokio::time::Instant;

use super::{Scenario, all_at_work, durable, mixed, pause, scenario};
use crate::checker::Allowed;
use crate::process::Resources;
use crate::report::Report;
use crate::stage::Stage;

/// How many minutes, where not two.
const MINUTES: &str = "CHAOS_MINUTES";

pub fn all() -> Vec<Scenario> {
    vec![scenario!(endurance, "endurance", "all of it for 2 minutes (CHAOS_MINUTES)", 190)]
}

async fn endurance(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let mut redis = durable();
    stage.on_single(&redis.addr());
    let minutes = std::env::var(MINUTES).ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let mut workers = stage.workers(3, 16).await;
    let mut producers = [stage.producer(mixed("job", 100))];
    all_at_work(stage, &workers).await;
    pause(10).await;
    // The first one lives through everything.
    let before = workers[0].resources();
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut round = 0;
    while Instant::now() < end {
        match round % 6 {
            0 => {
                redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
            }
            1 => {
                workers[1].kill();
                workers[1] = stage.worker(16);
            }
            2 => {
                redis.cli(&["SCRIPT", "FLUSH"]);
            }
            3 => redis.restart(),
            4 => {
                workers[2].terminate();
                workers[2].ended(super::LONG).await;
                workers[2] = stage.worker(16);
            }
            _ => {
                redis.freeze();
                pause(4).await;
                redis.thaw();
            }
        }
        round += 1;
        pause(3).await;
    }
    pause(10).await;
    expect_flat(&before, &workers[0].resources(), &mut report);
    let lines = workers[0].log().lines().filter(|line| !line.contains("completed")).count();
    report.figure(format!("faults {round} · log lines besides completions {lines}"));
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report
}

/// I9: a little more is a busy allocator, a lot is a leak.
fn expect_flat(before: &Resources, after: &Resources, report: &mut Report) {
    report.figure(format!(
        "memory {} → {} MB · threads {} → {} · files {} → {}",
        before.megabytes, after.megabytes, before.threads, after.threads, before.files, after.files
    ));
    report.expect(after.megabytes <= before.megabytes * 6 / 5 + 10, "memory grows");
    report.expect(after.threads <= before.threads + 4, "threads are left");
    report.expect(after.files <= before.files + 8, "files are left open");
}
