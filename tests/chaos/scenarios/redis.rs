//! A single Redis killed, frozen, paused, full, read-only. Workers are well.

use std::time::Duration;

use super::{LONG, Scenario, all_at_work, durable, mixed, pause, resumed, scenario};
use crate::checker::Allowed;
use crate::peer::ledger::now;
use crate::peer::settings::{Load, Work};
use crate::process::Peer;
use crate::report::Report;
use crate::stage::Stage;
use crate::support::RedisServer;

/// 3 s are promised after Redis is back; the rest is a busy machine.
const RESUMED: f64 = 5.0;

pub fn all() -> Vec<Scenario> {
    vec![
        scenario!(kill, "redis-kill", "kill -9 of Redis (AOF), back after 0, 5, 15 s", 60, gate),
        scenario!(freeze, "redis-freeze", "SIGSTOP of Redis for 8 s and 20 s", 60),
        scenario!(paused_clients, "redis-pause", "CLIENT PAUSE 8 s WRITE, then ALL", 45),
        scenario!(sleeps, "redis-sleep", "DEBUG SLEEP 5, ×5", 60),
        scenario!(busy, "redis-busy", "a script that runs for 5 s (BUSY), ×3", 40),
        scenario!(flushed, "script-flush", "SCRIPT FLUSH each 20 ms for 10 s", 25, gate),
        scenario!(killed_clients, "client-kill", "CLIENT KILL each 100 ms for 10 s", 30, gate),
        scenario!(full, "redis-full", "maxmemory reached, noeviction", 40, gate),
        scenario!(read_only, "redis-read-only", "READONLY for 5 s", 30),
        scenario!(no_replicas, "redis-no-replicas", "NOREPLICAS for 5 s", 30),
        scenario!(max_clients, "redis-max-clients", "maxclients reached for 5 s", 30),
        scenario!(absent, "redis-absent", "Redis comes up 20 s after the processes", 50),
        scenario!(emptied, "redis-emptied", "FLUSHALL under load", 30),
    ]
}

/// A server, two workers and a producer at work.
async fn at_work(stage: &mut Stage, redis: &RedisServer, load: Load) -> (Vec<Peer>, [Peer; 1]) {
    stage.on_single(&redis.addr());
    let workers = stage.workers(2, 16).await;
    let producers = [stage.producer(load)];
    all_at_work(stage, &workers).await;
    (workers, producers)
}

async fn expect_resumed(stage: &Stage, since: u64, report: &mut Report) {
    let (acknowledged, begun) = resumed(stage, since).await;
    report.at_most("resumed", acknowledged.max(begun), RESUMED);
}

async fn kill(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let mut redis = durable();
    let (_workers, mut producers) = at_work(stage, &redis, mixed("job", 150)).await;
    for outage in [0, 5, 15] {
        pause(2).await;
        redis.stop();
        pause(outage).await;
        redis.restart();
        expect_resumed(stage, now(), &mut report).await;
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report
}

async fn freeze(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    let (_workers, mut producers) = at_work(stage, &redis, mixed("job", 100)).await;
    for outage in [8, 20] {
        pause(2).await;
        redis.freeze();
        pause(outage).await;
        redis.thaw();
        expect_resumed(stage, now(), &mut report).await;
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report
}

async fn paused_clients(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    let (_workers, mut producers) = at_work(stage, &redis, mixed("job", 100)).await;
    for what in ["WRITE", "ALL"] {
        pause(2).await;
        redis.cli(&["CLIENT", "PAUSE", "8000", what]);
        pause(8).await;
        expect_resumed(stage, now(), &mut report).await;
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report
}

async fn sleeps(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = RedisServer::start(&["--enable-debug-command", "local"]);
    let (_workers, mut producers) = at_work(stage, &redis, mixed("job", 100)).await;
    for _ in 0..5 {
        redis.cli(&["DEBUG", "SLEEP", "5"]);
        expect_resumed(stage, now(), &mut report).await;
        pause(1).await;
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report
}

async fn busy(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = RedisServer::start(&["--busy-reply-threshold", "200"]);
    let (_workers, mut producers) = at_work(stage, &redis, mixed("job", 100)).await;
    let script = "local e = tonumber(redis.call('TIME')[1]) + 5 \
                  while tonumber(redis.call('TIME')[1]) < e do end return 1";
    for _ in 0..3 {
        redis.cli(&["EVAL", script, "0"]);
        expect_resumed(stage, now(), &mut report).await;
        pause(1).await;
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report
}

/// Does something over and over for this long.
async fn each(interval: u64, seconds: u64, mut act: impl FnMut()) {
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    while tokio::time::Instant::now() < end {
        act();
        tokio::time::sleep(Duration::from_millis(interval)).await;
    }
}

async fn flushed(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    let (_workers, mut producers) = at_work(stage, &redis, mixed("job", 100)).await;
    each(20, 10, || drop(redis.cli(&["SCRIPT", "FLUSH"]))).await;
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    let failed = report.figures.refused + report.figures.unknown;
    report.expect(failed == 0, format!("{failed} enqueues failed, 0 promised"));
    report
}

async fn killed_clients(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    let (_workers, mut producers) = at_work(stage, &redis, mixed("job", 100)).await;
    each(100, 10, || {
        for kind in ["normal", "pubsub"] {
            redis.cli(&["CLIENT", "KILL", "TYPE", kind]);
        }
    })
    .await;
    expect_resumed(stage, now(), &mut report).await;
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report
}

async fn full(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    let load = Load { works: vec![Work::ms(20), Work::ms(2_000)], ..mixed("job", 150) };
    let (_workers, mut producers) = at_work(stage, &redis, load).await;
    pause(2).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1mb"]);
    // Refused from here on, while the workers drain what there is.
    let busy = ["pending", "active", "scheduled", "retry"];
    let drained = crate::support::eventually(LONG, || async {
        let contents = crate::contents::Contents::read(&[redis.addr()]);
        contents.is_ok_and(|contents| contents.count(&busy) == 0)
    });
    report.expect(drained.await, "the workers do not drain a full server");
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    expect_resumed(stage, now(), &mut report).await;
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report.expect(report.figures.refused > 0, "no enqueue was refused");
    report
}

/// Sets a configuration for 5 s, then the other one.
async fn for_5_s(stage: &mut Stage, begin: &[&str], end: &[&str]) -> Report {
    let mut report = Report::default();
    let redis = durable();
    let (_workers, mut producers) = at_work(stage, &redis, mixed("job", 100)).await;
    redis.cli(begin);
    pause(5).await;
    redis.cli(end);
    expect_resumed(stage, now(), &mut report).await;
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report
}

async fn read_only(stage: &mut Stage) -> Report {
    for_5_s(stage, &["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]).await
}

async fn no_replicas(stage: &mut Stage) -> Report {
    let set = |value| ["CONFIG", "SET", "min-replicas-to-write", value];
    for_5_s(stage, &set("1"), &set("0")).await
}

async fn max_clients(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    let (_workers, mut producers) = at_work(stage, &redis, mixed("job", 100)).await;
    // A client without a connection gets none from now on: the harness keeps its own.
    let client = ::redis::Client::open(format!("redis://{}", redis.addr())).expect("an address");
    let mut connection = client.get_connection().expect("a connection");
    let mut tell = |words: &[&str]| {
        let command = ::redis::Cmd::new().arg(words).to_owned();
        command.query::<::redis::Value>(&mut connection).expect("Redis answers");
    };
    tell(&["CONFIG", "SET", "maxclients", "1"]);
    tell(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    pause(5).await;
    tell(&["CONFIG", "SET", "maxclients", "1000"]);
    expect_resumed(stage, now(), &mut report).await;
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report
}

async fn absent(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let mut redis = RedisServer::prepare(&["--appendonly", "yes"]);
    stage.on_single(&redis.addr());
    let workers = stage.workers(2, 16).await;
    let mut producers = [stage.producer(mixed("job", 50))];
    pause(20).await;
    redis.restart();
    expect_resumed(stage, now(), &mut report).await;
    all_at_work(stage, &workers).await;
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report
}

async fn emptied(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    let (workers, mut producers) = at_work(stage, &redis, mixed("job", 100)).await;
    redis.cli(&["FLUSHALL"]);
    let at = now();
    expect_resumed(stage, at, &mut report).await;
    let listed = crate::support::eventually(Duration::from_secs(15), || async {
        redis.cli(&["SMEMBERS", "asynq:queues"]).contains("default")
    });
    report.expect(listed.await, "the queue is not listed again");
    all_at_work(stage, &workers).await;
    stage.drain(&mut producers, &[redis.addr()], &mut report).await;
    let allowed = Allowed { forgotten: true, cut: true, ..Allowed::default() };
    let mut figures = stage.check(&[redis.addr()], allowed);
    // What was in Redis is gone; what came later must run.
    let story = stage.story();
    figures.lost.retain(|id| story.calls[id].sent > at);
    report.take(figures, &story);
    report
}
