//! What Asynq loses, doubles or stands still over, on a real server: the defects of
//! `docs/asynq-findings.md` that no other test is about.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::effort::{Effort, MOST};
use crate::support::harness::{Harness, START};
use crate::support::{PATIENCE, RedisServer, eventually};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::internals::{Announcement, Broker, SettleRequest, Settled, WorkerDetails};
use rocket_jobqueue::{
    Clock, Job, JobQueue, Placement, Timestamp,
    doctor::{Finding, FindingKind, FindingStatus},
    handler::Transition,
};
use serde::{Deserialize, Serialize};

fn reclaim() -> Transition {
    Transition::Reclaim { error: "asynq: task lease expired".to_owned() }
}

/// D17: Asynq reads all of them in one command.
#[tokio::test]
async fn a_hundred_thousand_expired_leases_come_in_parts_that_hold_nobody_up() {
    let on = Harness::start();
    let script = "for n = 1, 100000 do \
        redis.call('HSET', 'asynq:{default}:t:' .. n, 'msg', '', 'state', 'active') \
        redis.call('LPUSH', 'asynq:{default}:active', n) \
        redis.call('ZADD', 'asynq:{default}:lease', 3000000000 + n, n) end return 'ok'";
    assert_eq!(on.server.cli(&["EVAL", script, "0"]), "ok");
    on.broker.first_expired_leases(&on.queue, 100).await.unwrap(); // the server knows the script now
    let (mut effort, mut efforts) = (Effort::of(&on.server), Vec::new());

    for round in 1..=20 {
        let before = effort.now();
        let found = on.broker.first_expired_leases(&on.queue, 100).await.unwrap();
        efforts.push(effort.now() - before);
        assert_eq!(found.len(), 100);
        let settlements: Vec<_> =
            found.into_iter().map(|one| SettleRequest::from((one, reclaim()))).collect();
        let before = effort.now();
        let settled = on.broker.settle(&settlements).await.unwrap();
        efforts.push(effort.now() - before);
        assert!(settled.iter().all(|one| *one == Settled::Done));
        assert_eq!(on.q("LLEN Q:active"), (100_000 - round * 100).to_string());
    }

    // A few of them may have met a machine that had other work.
    efforts.sort_unstable();
    assert!(efforts[efforts.len() - 5] < MOST, "{efforts:?}");
}

/// D8 and D9: Asynq's script fails from 8000 old ids on, with the job in no list;
/// its inspector trims ids and leaves the hashes.
#[tokio::test]
async fn an_archive_that_is_far_too_full_is_trimmed_with_its_hashes() {
    let on = Harness::start();
    let script = "for n = 1, 12000 do \
        redis.call('HSET', 'asynq:{default}:t:old' .. n, 'msg', '', 'state', 'archived') \
        redis.call('ZADD', 'asynq:{default}:archived', 3999990000 + n % 1000, 'old' .. n) end \
        return 'ok'";
    assert_eq!(on.server.cli(&["EVAL", script, "0"]), "ok");
    on.fill(&["new"]).await;
    let delivery = on.take().await;

    let archive = Transition::Archive { error: "bad".to_owned() };
    assert_eq!(on.broker.settle(&[(delivery, archive).into()]).await.unwrap(), [Settled::Done]);

    let count = || {
        let count = "return #redis.call('KEYS', 'asynq:{default}:t:*')";
        on.server.cli(&["EVAL", count, "0"])
    };
    assert_eq!(on.q("ZSCORE Q:archived new"), START.to_string());
    assert_eq!(on.q("EXISTS Q:active Q:lease"), "0");
    assert_eq!(on.q("ZCARD Q:archived"), count(), "no hash is left without its id");
}

/// D16: Asynq's scripts get their times from the client's host.
#[tokio::test]
async fn no_script_is_told_the_time_of_this_host() {
    let on = Harness::by(Clock::system());
    on.q("CONFIG SET slowlog-log-slower-than 0");
    on.q("CONFIG SET slowlog-max-len 1000");
    let later = on.job("b").placed(Placement::After(Duration::from_secs(60)));
    on.broker.enqueue(&[on.job("a"), later]).await.unwrap();
    let delivery = on.take().await;
    on.broker.extend(std::slice::from_ref(&delivery.lease)).await.unwrap();
    let retry = Transition::Retry { after: PATIENCE, error: "x".to_owned(), counted: true };
    on.broker.settle(&[(delivery, retry).into()]).await.unwrap();
    on.broker.forward(&on.queue, 9).await.unwrap();
    on.broker.first_expired_leases(&on.queue, 9).await.unwrap();
    on.broker.delete_expired(&on.queue, 9).await.unwrap();

    // The time is the first argument after the key.
    let log = on.q("SLOWLOG GET 1000");
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    let mut calls = 0;
    for (at, line) in lines.iter().enumerate() {
        // As the one key of a script, not in a command of the script's own.
        let is_script = at > 2 && lines[at - 3].to_ascii_uppercase().starts_with("EVAL");
        if *line == "asynq:{default}:pending" && is_script {
            assert_eq!(lines[at + 1], "", "a time was told: {:?}", &lines[at - 3..at + 3]);
            calls += 1;
        }
    }
    assert!(calls >= 7, "{calls} in {log}");
}

/// D18: Asynq writes a queue's name once per process.
#[tokio::test]
async fn a_queue_is_seen_again_after_the_server_was_emptied() {
    let on = Harness::by(Clock::system());
    on.fill(&["a"]).await;
    on.q("FLUSHALL");
    assert_eq!(on.q("EXISTS asynq:queues"), "0");

    let worker = Announcement {
        host: "host".to_owned(),
        pid: 42,
        server_id: "id".to_owned(),
        concurrency: 1,
        queues: [(on.queue.clone(), 1)].into(),
        strict_priority: false,
        status: "active",
        started: Timestamp::from_secs(START),
        running: Vec::new(),
        details: WorkerDetails::default(),
    };
    on.broker.announce(&worker).await.unwrap();

    assert_eq!(on.q("SMEMBERS asynq:queues"), "default");
}

/// Requirement 3 for a Go worker: whole seconds of its host's clock, and Asynq's
/// margin for it. At the worst instants of its death and of our looks.
#[tokio::test]
async fn the_job_of_a_go_worker_is_in_line_again_within_70_seconds() {
    let on = Harness::start();
    on.fill(&["a"]).await;
    on.take().await;
    // Its last heartbeat was just before it died.
    let died = on.clock.now();
    on.q(&format!("ZADD Q:lease {} a", START + 30));
    on.q("HDEL Q:t:a x_owner");
    // Our looks fall just before the instant at which it may be believed.
    on.clock.advance(Duration::from_micros(4_999_999));
    let took = loop {
        let found = on.broker.first_expired_leases(&on.queue, 9).await.unwrap();
        if let Some(one) = found.into_iter().next() {
            assert_eq!(
                on.broker.settle(&[(one, reclaim()).into()]).await.unwrap(),
                [Settled::Done]
            );
            break on.clock.now().since(died);
        }
        on.clock.advance(Duration::from_secs(5));
    };

    assert!(took >= Duration::from_secs(60), "{took:?}: its host's clock may run behind");
    assert!(took < Duration::from_secs(70), "{took:?}");
    assert_eq!(on.q("LRANGE Q:pending 0 -1"), "a");
    assert_eq!(on.q("HGET Q:t:a x_lost"), "1");
}

#[derive(Serialize, Deserialize)]
struct Chore;

impl Job for Chore {
    const TYPE: &'static str = "recovery:chore";
}

async fn application(server: &RedisServer, runs: Arc<AtomicUsize>, takes: Duration) -> Client {
    let chore = move |_: Chore| {
        let runs = runs.clone();
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(takes).await;
            Ok::<_, std::io::Error>(())
        }
    };
    let queue = JobQueue::fairing()
        .set("databases.jobqueue.url", format!("redis://{}", server.addr()))
        .set("jobqueue.log_to_stderr", false)
        .handle(chore);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    Client::untracked(rocket::custom(figment).attach(queue)).await.expect("it launches")
}

/// D1 and requirement 6: Asynq's repeated acknowledgement is dead from the start, and
/// the job runs again.
#[tokio::test]
async fn a_job_that_ends_while_redis_is_away_is_not_run_again() {
    let server = RedisServer::start::<&str>(&[]);
    let runs = Arc::new(AtomicUsize::new(0));
    let client = application(&server, Arc::clone(&runs), Duration::from_secs(1)).await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    queue.enqueue(Chore).await.unwrap();
    assert!(eventually(PATIENCE, || async { runs.load(Ordering::SeqCst) == 1 }).await);

    server.freeze();
    tokio::time::sleep(Duration::from_secs(12)).await;
    server.thaw();

    let settled = || async { server.cli(&["GET", "asynq:{default}:processed"]) == "1" };
    assert!(eventually(PATIENCE, settled).await);
    assert_eq!(server.cli(&["KEYS", "asynq:{default}:t:*"]), "");
    assert_eq!(server.cli(&["EXISTS", "asynq:{default}:active", "asynq:{default}:lease"]), "0");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    client.terminate().await;
}

/// D14: Asynq asks again at once, for as long as the error lasts.
#[tokio::test]
async fn a_queue_that_refuses_is_not_asked_without_a_pause() {
    let server = RedisServer::start::<&str>(&[]);
    server.cli(&["SET", "asynq:{default}:active", "x"]);
    server.cli(&["LPUSH", "asynq:{default}:pending", "a"]);
    let runs = Arc::new(AtomicUsize::new(0));
    let client = application(&server, runs, Duration::ZERO).await;
    server.cli(&["CONFIG", "RESETSTAT"]);
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(4)).await;

    let stats = server.cli(&["INFO", "commandstats"]);
    let calls: f64 = stats
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_evalsha:calls="))
        .map(|rest| rest.split(',').next().unwrap().parse::<f64>().unwrap())
        .sum();
    // All services together; a loop without a pause makes thousands.
    let per_second = calls / began.elapsed().as_secs_f64();
    assert!(calls > 0.0 && per_second < 40.0, "{per_second} scripts a second: {stats}");
    client.terminate().await;
}

#[tokio::test]
async fn a_worker_mends_its_queues_and_the_inspector_tells_the_rest() {
    let server = RedisServer::start::<&str>(&[]);
    server.cli(&["SADD", "asynq:queues", "default"]);
    server.cli(&["ZADD", "asynq:{default}:archived", "4000000000", "ghost"]);
    // A job of a type that nobody here knows, in no list at all.
    server.cli(&["HSET", "asynq:{default}:t:lost", "msg", "", "state", "archived"]);
    let client = application(&server, Arc::default(), Duration::ZERO).await;

    let repaired = || async { server.cli(&["EXISTS", "asynq:{default}:archived"]) == "0" };
    assert!(eventually(PATIENCE, repaired).await, "the ghost is removed by itself");
    let inspector = client.rocket().state::<JobQueue>().unwrap().inspector();
    let report = inspector.doctor().await.unwrap();
    let found = |status| {
        let here = |one: &&Finding| one.kind == FindingKind::Orphan && one.status == status;
        report.findings.iter().find(here).map(|one| one.samples.clone())
    };
    assert_eq!(found(FindingStatus::Repairable), Some(vec!["lost".to_owned()]), "{report}");

    let report = inspector.doctor().repair().await.unwrap();

    assert_eq!(report.repaired(), 1, "{report}");
    assert!(!server.cli(&["ZSCORE", "asynq:{default}:archived", "lost"]).is_empty());
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["findings"].as_array().unwrap().iter().any(|one| one["kind"] == "orphan"));
    client.terminate().await;
}

/// Each call's part is bounded, whatever was lost; the next one goes on.
async fn lapses_in_parts(on: &Harness, most: i64, is_over: impl Fn(&Harness) -> bool) {
    let size =
        |key: &str| on.q(&format!("{} Q:{key}", if key == "lease" { "ZCARD" } else { "LLEN" }));
    let sizes = || ["active", "lease"].map(|key| size(key).parse::<i64>().unwrap());
    let mut before = sizes();
    for _ in 0..10_000 / most * 3 {
        on.broker.first_expired_leases(&on.queue, 100).await.unwrap();
        let after = sizes();
        for (before, after) in before.iter().zip(after) {
            assert!((before - after).abs() <= most, "{before} became {after} in one call");
        }
        before = after;
        if is_over(on) {
            return;
        }
    }
    panic!("it comes to no end: {before:?}");
}

#[tokio::test]
async fn ten_thousand_ids_without_a_job_go_in_parts() {
    let on = Harness::start();
    let script = "for n = 1, 10000 do \
        redis.call('LPUSH', 'asynq:{default}:active', n) \
        redis.call('ZADD', 'asynq:{default}:lease', 3000000000 + n, n) end return 'ok'";
    assert_eq!(on.server.cli(&["EVAL", script, "0"]), "ok");
    on.fill(&["sound"]).await;
    on.take().await;

    lapses_in_parts(&on, 200, |on| on.q("LLEN Q:active") == "1").await;

    assert_eq!(on.q("LRANGE Q:active 0 -1"), "sound");
    assert_eq!(on.q("ZRANGE Q:lease 0 -1"), "sound");
    on.broker.first_expired_leases(&on.queue, 100).await.unwrap();
    assert_eq!(on.q("EXISTS Q:x:swept"), "0");
}

#[tokio::test]
async fn ten_thousand_running_jobs_without_a_lease_get_theirs_in_parts() {
    let on = Harness::start();
    let script = "for n = 1, 10000 do \
        redis.call('HSET', 'asynq:{default}:t:' .. n, 'msg', '', 'state', 'active', 'x_owner', n) \
        redis.call('LPUSH', 'asynq:{default}:active', n) end \
        redis.call('LSET', 'asynq:{default}:active', 5000, 'ghost') return 'ok'";
    assert_eq!(on.server.cli(&["EVAL", script, "0"]), "ok");

    lapses_in_parts(&on, 200, |on| on.q("ZCARD Q:lease") == "9999").await;

    lapses_in_parts(&on, 200, |on| on.q("LLEN Q:active") == "9999").await;
    assert_eq!(on.q("ZSCORE Q:lease 9999"), format!("{}.000001", START + 30));
}

/// Of a long pending list, a call searches a bounded part.
#[tokio::test]
async fn what_is_in_line_as_well_leaves_the_running_ones() {
    let on = Harness::start();
    let script = "for n = 1, 100000 do redis.call('LPUSH', 'asynq:{default}:pending', 'p' .. n) end \
        for _, n in ipairs({'p1', 'p50000', 'p100000', 'nowhere'}) do \
        redis.call('HSET', 'asynq:{default}:t:' .. n, 'msg', '', 'state', 'pending') \
        redis.call('LPUSH', 'asynq:{default}:active', n) end return 'ok'";
    assert_eq!(on.server.cli(&["EVAL", script, "0"]), "ok");

    on.broker.first_expired_leases(&on.queue, 100).await.unwrap();

    // If it cannot be known within the time, nothing is done.
    assert_eq!(on.q("LRANGE Q:active 0 -1"), "nowhere\np50000");
    assert_eq!(on.q("ZCARD Q:lease"), "0");
    on.q("LTRIM Q:pending 0 1");
    on.broker.first_expired_leases(&on.queue, 100).await.unwrap();
    assert_eq!(on.q("ZCARD Q:lease"), "2", "now it is known");
}

#[tokio::test]
async fn a_key_of_another_type_in_a_jobs_place_keeps_no_other_from_recovery() {
    let on = Harness::start();
    on.fill(&["job"]).await;
    on.take().await;
    on.q("SET Q:t:odd x");
    on.q("SET Q:t:unleased x");
    on.q("LPUSH Q:active odd unleased");
    on.q("ZADD Q:lease 1 odd");
    on.clock.advance(Duration::from_secs(31));

    let found = on.broker.first_expired_leases(&on.queue, 9).await.unwrap();

    assert_eq!(found.len(), 1);
    assert_eq!(on.q("LRANGE Q:active 0 -1"), "job");
    assert_eq!(on.q("ZRANGE Q:lease 0 -1"), "job");
    assert_eq!(on.q("MGET Q:t:odd Q:t:unleased"), "x\nx", "they are somebody else's");
}
