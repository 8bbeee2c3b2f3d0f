//! Two versions of the library on one Redis: this one, and another commit's.

use super::{LONG, Scenario, all_at_work, durable, mixed, pause, scenario};
use crate::checker::Allowed;
use crate::process::{Launch, Peer};
use crate::report::Report;
use crate::stage::Stage;
use crate::support::RedisServer;
use crate::versions;

pub fn all() -> Vec<Scenario> {
    vec![
        scenario!(
            side_by_side,
            "two-versions",
            "another commit beside this one, kill -9 of all kinds, ×18",
            110
        ),
        scenario!(rolling, "rolling-deploy", "workers replaced by the other version, and back", 60),
    ]
}

/// Which process, of which version.
#[derive(Clone, Copy)]
enum Kind {
    Worker,
    Producer,
    Operator,
}

fn start(stage: &mut Stage, kind: Kind, launch: &Launch, name: &str) -> Peer {
    stage.launch = launch.clone();
    match kind {
        Kind::Worker => stage.worker(16),
        Kind::Producer => stage.producer(mixed(name, 60)),
        Kind::Operator => stage.operator(),
    }
}

async fn side_by_side(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let other = match versions::other() {
        Ok(other) => other,
        Err(error) => {
            report.fail(format!("the other version cannot be built: {error}"));
            return report;
        }
    };
    report.figure(format!("beside commit {}", other.commit));
    let redis = durable();
    stage.on_single(&redis.addr());
    stage.queues = (0..3).map(|n| format!("q{n}")).collect();
    let launches = [Launch::this_version(), other.launch];
    let mut peers = Vec::new();
    for kind in [Kind::Worker, Kind::Producer, Kind::Operator] {
        for (at, launch) in launches.iter().enumerate() {
            let peer = start(stage, kind, launch, &format!("first{at}"));
            peer.is_up().await;
            peers.push((kind, at, peer));
        }
    }
    pause(3).await;
    for round in 0..18 {
        pause(2).await;
        let victim = round % peers.len();
        let (kind, at, peer) = &mut peers[victim];
        peer.kill();
        *peer = start(stage, *kind, &launches[*at], &format!("again{round}"));
    }
    pause(3).await;
    let mut producers = Vec::new();
    let mut workers = Vec::new();
    for (kind, _, mut peer) in peers {
        match kind {
            Kind::Worker => workers.push(peer),
            Kind::Producer => producers.push(peer),
            Kind::Operator => peer.kill(),
        }
    }
    // An operator that is killed leaves its queue paused.
    for queue in &stage.queues {
        redis.cli(&["DEL", &format!("asynq:{{{queue}}}:paused")]);
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    expect_understood(stage, &mut report);
    report
}

/// No page showed a damaged row, and no operation was refused as an error of ours.
fn expect_understood(stage: &Stage, report: &mut Report) {
    let story = stage.story();
    let damaged = story.operations.iter().filter(|(_, answer)| answer.ends_with("damaged")).count();
    let failed = story.operations.iter().filter(|(_, answer)| answer.starts_with('5')).count();
    report.figure(format!("operations {}", story.operations.len()));
    report.expect(damaged == 0, format!("{damaged} pages with rows that nobody can read"));
    report.expect(failed == 0, format!("{failed} operations failed"));
}

async fn rolling(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let other = match versions::other() {
        Ok(other) => other,
        Err(error) => {
            report.fail(format!("the other version cannot be built: {error}"));
            return report;
        }
    };
    report.figure(format!("from commit {}, and back", other.commit));
    let redis: RedisServer = durable();
    stage.on_single(&redis.addr());
    stage.launch = other.launch.clone();
    let mut workers = stage.workers(3, 16).await;
    let mut producers = vec![stage.producer(mixed("old", 60))];
    stage.launch = Launch::this_version();
    producers.push(stage.producer(mixed("new", 60)));
    all_at_work(stage, &workers).await;
    for launch in [Launch::this_version(), other.launch] {
        stage.launch = launch;
        for worker in &mut workers {
            worker.terminate();
            report.expect(worker.ended(LONG).await, "a terminated worker goes on");
            let next = stage.worker(16);
            next.is_up().await;
            *worker = next;
            pause(1).await;
        }
        all_at_work(stage, &workers).await;
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    let failed = report.figures.refused + report.figures.unknown;
    report.expect(failed == 0, format!("{failed} enqueues failed"));
    report.expect(report.figures.rerun == 0.0, "a drained worker left a job to be recovered");
    report
}
