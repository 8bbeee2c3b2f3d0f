//! The way to Redis: slow, silent, reset, and replies that are lost.

use std::time::Duration;

use super::{Scenario, all_at_work, durable, mixed, pause, resumed, scenario};
use crate::checker::Allowed;
use crate::peer::ledger::now;
use crate::peer::settings::{Again, Load};
use crate::process::Peer;
use crate::proxy::{Mode, Proxy};
use crate::report::Report;
use crate::stage::Stage;
use crate::support::RedisServer;

pub fn all() -> Vec<Scenario> {
    vec![
        scenario!(dropped, "replies-dropped", "replies lost, 1 each 0.5 s, ×40", 45, gate),
        scenario!(dropped_key, "unknown-outcome-retry", "the same, unknown outcomes retried", 45),
        scenario!(late, "replies-late", "replies 2 s, then 5 s late", 70),
        scenario!(black_hole, "black-hole", "nothing goes through for 20 s", 60),
        scenario!(black_hole_60, "black-hole-60s", "a worker is cut off for 60 s", 130),
        scenario!(reset, "reset", "connections reset, refused for 5 s, ×3", 45),
    ]
}

/// Workers and a producer, each behind a proxy of their own.
struct Wires {
    redis: RedisServer,
    workers: Vec<(Proxy, Peer)>,
    producer: Proxy,
    producers: [Peer; 1],
}

async fn at_work(stage: &mut Stage, load: Load) -> Wires {
    let redis = durable();
    let (mut proxies, mut workers) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let proxy = Proxy::to(redis.port()).await;
        stage.on_single(&proxy.addr());
        proxies.push(proxy);
        workers.extend(stage.workers(1, 16).await);
    }
    let producer = Proxy::to(redis.port()).await;
    stage.on_single(&producer.addr());
    let producers = [stage.producer(load)];
    all_at_work(stage, &workers).await;
    Wires { redis, workers: proxies.into_iter().zip(workers).collect(), producer, producers }
}

impl Wires {
    fn set(&self, mode: Mode) {
        self.producer.set(mode);
        for (proxy, _) in &self.workers {
            proxy.set(mode);
        }
    }

    async fn conclude(mut self, stage: &Stage, allowed: Allowed, report: &mut Report) {
        let masters = [self.redis.addr()];
        stage.conclude(&mut self.producers, &masters, allowed, report).await;
    }
}

async fn drop_replies(wires: &Wires, count: usize) -> usize {
    for round in 0..count {
        let proxy = match round % 3 {
            0 => &wires.producer,
            n => &wires.workers[n - 1].0,
        };
        proxy.drop_replies(1);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    wires.producer.dropped() + wires.workers.iter().map(|(proxy, _)| proxy.dropped()).sum::<usize>()
}

async fn dropped(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let wires = at_work(stage, mixed("job", 150)).await;
    let dropped = drop_replies(&wires, 40).await;
    report.figure(format!("replies lost {dropped}"));
    wires.conclude(stage, Allowed::default(), &mut report).await;
    report
}

async fn dropped_key(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let load = Load { again: Again::Key, ..mixed("job", 150) };
    let wires = at_work(stage, load).await;
    for _ in 0..40 {
        wires.producer.drop_replies(1);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    report.figure(format!("replies lost {}", wires.producer.dropped()));
    wires.conclude(stage, Allowed::default(), &mut report).await;
    let failed = report.figures.refused + report.figures.unknown;
    report.expect(failed == 0, format!("{failed} enqueues failed although they were retried"));
    report
}

async fn late(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let wires = at_work(stage, mixed("job", 60)).await;
    for seconds in [2, 5] {
        wires.set(Mode::Delay(Duration::from_secs(seconds)));
        pause(15).await;
        wires.set(Mode::Pass);
        let (acknowledged, begun) = resumed(stage, now()).await;
        report.at_most("resumed", acknowledged.max(begun), 8.0);
        pause(3).await;
    }
    wires.conclude(stage, Allowed::default(), &mut report).await;
    report
}

async fn black_hole(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let wires = at_work(stage, mixed("job", 100)).await;
    wires.set(Mode::BlackHole);
    pause(20).await;
    wires.set(Mode::Pass);
    let (acknowledged, begun) = resumed(stage, now()).await;
    report.at_most("resumed", acknowledged.max(begun), 6.0);
    wires.conclude(stage, Allowed::default(), &mut report).await;
    report
}

async fn black_hole_60(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let wires = at_work(stage, mixed("job", 60)).await;
    wires.workers[0].0.set(Mode::BlackHole);
    pause(60).await;
    wires.workers[0].0.set(Mode::Pass);
    pause(5).await;
    let allowed = Allowed { cut_off: true, cut: true, ..Allowed::default() };
    wires.conclude(stage, allowed, &mut report).await;
    report.figure(format!("run again {}", report.figures.explained));
    report
}

async fn reset(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let wires = at_work(stage, mixed("job", 100)).await;
    for _ in 0..3 {
        wires.set(Mode::Reset);
        pause(5).await;
        wires.set(Mode::Pass);
        let (acknowledged, begun) = resumed(stage, now()).await;
        report.at_most("resumed", acknowledged.max(begun), 5.0);
        pause(1).await;
    }
    wires.conclude(stage, Allowed::default(), &mut report).await;
    report
}
