//! Worker processes killed, stopped, terminated. Redis is well.

use std::time::{Duration, Instant};

use super::{LONG, RERUN, Scenario, all_at_work, durable, mixed, pause, scenario, under_way};
use crate::checker::Allowed;
use crate::peer::settings::{Load, Work};
use crate::report::Report;
use crate::stage::Stage;

pub fn all() -> Vec<Scenario> {
    vec![
        scenario!(kill_one, "kill-one", "kill -9 of a worker each 2 s, ×10", 75, gate),
        scenario!(kill_all, "kill-all", "kill -9 of all workers, restart after 10 s", 75),
        scenario!(stop_worker, "stop-worker", "SIGSTOP of a worker for 45 s", 80, gate),
        scenario!(term_each, "term", "SIGTERM of each worker in turn, ×12", 50, gate),
        scenario!(term_then_kill, "term-then-kill", "SIGTERM, kill -9 after 0.5 s, ×6", 75),
        scenario!(kill_producers, "kill-producers", "kill -9 of producers, ×8", 30),
    ]
}

async fn kill_one(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    let mut workers = stage.workers(3, 16).await;
    let mut producers = [stage.producer(mixed("job", 150))];
    all_at_work(stage, &workers).await;
    for round in 0..10 {
        pause(2).await;
        let victim = round % workers.len();
        workers[victim].kill();
        workers[victim] = stage.worker(16);
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    let rerun = report.figures.rerun;
    report.at_most("rerun", rerun, RERUN);
    report
}

async fn kill_all(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    let mut workers = stage.workers(3, 16).await;
    let mut producers = [stage.producer(mixed("job", 150))];
    all_at_work(stage, &workers).await;
    pause(3).await;
    workers.iter_mut().for_each(crate::process::Peer::kill);
    pause(10).await;
    let _workers = stage.workers(3, 16).await;
    pause(3).await;
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    let rerun = report.figures.rerun;
    report.at_most("rerun", rerun, RERUN);
    report
}

async fn stop_worker(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    let workers = stage.workers(2, 16).await;
    let load = Load { works: vec![Work::ms(5), Work::ms(5), Work::ms(1_000)], ..mixed("job", 60) };
    let mut producers = [stage.producer(load)];
    all_at_work(stage, &workers).await;
    pause(2).await;
    workers[0].stop();
    pause(45).await;
    workers[0].resume();
    pause(2).await;
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report.figure(format!("run again {}", report.figures.explained));
    report
}

async fn term_each(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    let mut workers = stage.workers(2, 16).await;
    let mut producers = [stage.producer(mixed("job", 150))];
    all_at_work(stage, &workers).await;
    let mut slowest = Duration::ZERO;
    for round in 0..12 {
        let victim = round % workers.len();
        let began = Instant::now();
        workers[victim].terminate();
        if !workers[victim].ended(LONG).await {
            report.fail("a terminated worker goes on");
        }
        slowest = slowest.max(began.elapsed());
        workers[victim] = stage.worker(16);
        workers[victim].is_up().await;
    }
    // 8 s are the default of `shutdown_timeout`; a second more is promised.
    report.at_most("exit", slowest.as_secs_f64(), 10.0);
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    let rerun = report.figures.rerun;
    report.expect(rerun == 0.0, "a drained worker left a job to be recovered");
    report
}

async fn term_then_kill(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    let mut workers = stage.workers(2, 16).await;
    let mut producers = [stage.producer(mixed("job", 100))];
    all_at_work(stage, &workers).await;
    for round in 0..6 {
        pause(2).await;
        let victim = round % workers.len();
        workers[victim].terminate();
        tokio::time::sleep(Duration::from_millis(500)).await;
        workers[victim].kill();
        workers[victim] = stage.worker(16);
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    let rerun = report.figures.rerun;
    report.at_most("rerun", rerun, RERUN);
    report
}

async fn kill_producers(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    let _workers = stage.workers(2, 16).await;
    for round in 0..8 {
        let load = Load { in_flight: 32, ..mixed(&format!("p{round}"), 400) };
        let mut producer = stage.producer(load);
        under_way(stage, 200 * (round + 1)).await;
        producer.kill();
    }
    stage.conclude(&mut [], &[redis.addr()], Allowed::default(), &mut report).await;
    report
}
