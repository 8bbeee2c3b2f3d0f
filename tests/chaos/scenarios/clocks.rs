//! Wall clocks that jump, of a worker's host and of Redis. Monotonic clocks go
//! on.

use std::time::Duration;

use super::{LONG, Scenario, durable, pause, scenario};
use crate::checker::Allowed;
use crate::peer::settings::{Load, Work};
use crate::process::Launch;
use crate::proxy::{Mode, Proxy};
use crate::report::Report;
use crate::stage::Stage;
use crate::support::RedisServer;
use crate::support::wall_clock::WallClock;

pub fn all() -> Vec<Scenario> {
    vec![
        scenario!(host, "host-clock-jump", "worker's clock +2 h, -2 h, Redis 64 ms away", 60),
        scenario!(redis, "redis-clock-jump", "Redis' clock +60 s, -60 s", 90),
    ]
}

async fn host(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    let far = Proxy::to(redis.port()).await;
    far.set(Mode::Delay(Duration::from_millis(64)));
    stage.on_single(&far.addr());
    let clock = WallClock::new(&stage.dir());
    stage.launch = Launch { variables: clock.variables(), ..Launch::this_version() };
    let _workers = stage.workers(2, 20).await;
    stage.launch = Launch::this_version();
    let work = Work { timeout_s: 120, ..Work::ms(25_000) };
    let load = Load { count: 40, rate: 0, works: vec![work], ..Load::default() };
    let mut producers = [stage.producer(load)];
    let running = stage.until(LONG, |story| story.runs.len() == 40).await;
    assert!(running, "not all jobs run");
    for offset in [7_200, -7_200, 0] {
        clock.set(offset);
        pause(7).await;
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    expect_undisturbed(stage, &mut report);
    report
}

async fn redis(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let clock = WallClock::new(&stage.dir());
    let redis =
        RedisServer::prepare(&["--appendonly", "yes"]).with_variables(&clock.variables()).started();
    stage.on_single(&redis.addr());
    let _workers = stage.workers(3, 40).await;
    let load = Load { count: 120, rate: 0, works: vec![Work::ms(45_000)], ..Load::default() };
    let mut producers = [stage.producer(load)];
    let running = stage.until(LONG, |story| story.runs.len() == 120).await;
    assert!(running, "not all jobs run");
    pause(3).await;
    for offset in [60, 0] {
        clock.set(offset);
        pause(18).await;
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    expect_undisturbed(stage, &mut report);
    report
}

/// No attempt was ended early and none was repeated.
fn expect_undisturbed(stage: &Stage, report: &mut Report) {
    let story = stage.story();
    let cut = story.runs.values().flatten().filter(|run| !run.ended_as("done")).count();
    let again: usize = story.runs.values().map(|runs| runs.len() - 1).sum();
    report.figure(format!("ended early {cut} · run again {again}"));
    report.expect(cut == 0, format!("{cut} attempts were ended early"));
    report.expect(again == 0, format!("{again} jobs ran again"));
}
