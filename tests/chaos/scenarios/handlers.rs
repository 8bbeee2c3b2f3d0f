//! Handlers that end the process, panic, block their thread; leases that are moved.

use std::time::Duration;

use super::{LONG, RERUN, Scenario, all_at_work, durable, mixed, pause, scenario};
use crate::checker::Allowed;
use crate::contents::Contents;
use crate::peer::settings::{Load, Work};
use crate::process::Launch;
use crate::report::Report;
use crate::stage::Stage;

pub fn all() -> Vec<Scenario> {
    vec![
        scenario!(abort, "poison-abort", "1 of 6 jobs aborts the process", 130),
        scenario!(stack, "poison-stack", "1 of 6 jobs overflows the stack", 130),
        scenario!(exit, "poison-exit", "1 of 6 jobs calls exit(0)", 130),
        scenario!(memory, "poison-memory", "1 of 6 jobs takes all memory (ulimit -v)", 130),
        scenario!(panics, "panics", "each 5th job panics", 20),
        scenario!(blocked, "blocked-threads", "24 handlers block 20 s, 2×2 threads", 160),
        scenario!(one_thread, "blocked-one-thread", "6 handlers block 20 s, 1 thread", 160),
        scenario!(past, "lease-set-into-past", "the lease of a 40 s job moved into the past", 55),
        scenario!(past_blocked, "lease-past-blocked", "the same, its handler blocks", 55),
        scenario!(scores, "lease-scores", "leases at -5, -inf and +inf after kill -9", 100),
        scenario!(unreadable, "unreadable-100", "765 unreadable entries among the active", 70),
    ]
}

/// One poison job and five good ones that run together; a process that dies is started again.
async fn poison(stage: &mut Stage, how: &str) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    if how == "memory" {
        stage.launch = Launch::this_version().with_memory(3_000);
    }
    let mut works = vec![Work::ms(5_000); 6];
    works[2] = Work { death: how.into(), ms: 1_000, ..Work::default() };
    let load = Load { count: 6, rate: 0, works, ..Load::default() };
    let mut producer = stage.producer(load);
    assert!(producer.ended(LONG).await, "the producer does not end");
    let mut worker = stage.worker(10);
    let (mut deaths, masters) = (0, [redis.addr()]);
    let end = tokio::time::Instant::now() + Duration::from_secs(240);
    let settled = loop {
        if worker.has_ended() {
            deaths += 1;
            worker = stage.worker(10);
        }
        let contents = Contents::read(&masters).expect("Redis answers");
        if contents.count(&["pending", "active", "retry", "scheduled"]) == 0 {
            break true;
        }
        if tokio::time::Instant::now() > end {
            break false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    report.expect(settled, "not all jobs have ended after 240 s");
    stage.conclude(&mut [], &masters, Allowed::default(), &mut report).await;
    let archived = Contents::read(&masters).expect("Redis answers").count(&["archived"]);
    let done = stage.story().runs.keys().filter(|id| stage.story().is_done(id)).count();
    report.figure(format!("deaths {deaths} · archived {archived} · done {done}"));
    report.expect((1..=3).contains(&deaths), format!("{deaths} deaths, at most 3"));
    report.expect(archived == 1, format!("{archived} archived, 1 is poison"));
    report.expect(done == 5, format!("{done} of 5 good jobs done"));
    report
}

async fn abort(stage: &mut Stage) -> Report {
    poison(stage, "abort").await
}

async fn stack(stage: &mut Stage) -> Report {
    poison(stage, "stack").await
}

async fn exit(stage: &mut Stage) -> Report {
    poison(stage, "exit").await
}

async fn memory(stage: &mut Stage) -> Report {
    poison(stage, "memory").await
}

async fn panics(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    let workers = stage.workers(1, 10).await;
    let mut works = vec![Work::ms(5); 5];
    works[4].panic = 2;
    let load = Load { works, count: 500, ..mixed("job", 100) };
    let mut producers = [stage.producer(load)];
    all_at_work(stage, &workers).await;
    assert!(producers[0].ended(LONG).await, "the producer does not end");
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    report.figure(format!("run again {}", report.figures.explained));
    report.expect(report.figures.explained == 200, "100 jobs panic twice each");
    report
}

/// Jobs that block their thread, once each, side by side with nothing.
async fn blocking(stage: &mut Stage, processes: usize, threads: usize, jobs: u64) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    stage.threads = threads;
    let load = Load {
        count: jobs,
        rate: 0,
        works: vec![Work { block_ms: 20_000, ms: 0, ..Work::default() }],
        ..Load::default()
    };
    // The jobs are there before the workers: what these dequeue at once they cannot
    // start at once.
    let mut producer = stage.producer(load);
    assert!(producer.ended(LONG).await, "the producer does not end");
    let _workers: Vec<_> = (0..processes).map(|_| stage.worker(10)).collect();
    stage.conclude(&mut [], &[redis.addr()], Allowed::default(), &mut report).await;
    report.expect(report.figures.explained == 0, "a job ran again");
    report.figure(format!("longest overlap {:.1} s", report.figures.longest_overlap));
    report
}

async fn blocked(stage: &mut Stage) -> Report {
    blocking(stage, 2, 2, 24).await
}

async fn one_thread(stage: &mut Stage) -> Report {
    blocking(stage, 1, 1, 6).await
}

/// Moves the lease of a running job into the past, so that it looks lost.
async fn lease_into_past(stage: &mut Stage, work: Work) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    let workers = stage.workers(1, 10).await;
    let load = Load { count: 1, works: vec![work], ..Load::default() };
    let mut producers = [stage.producer(load)];
    all_at_work(stage, &workers).await;
    pause(2).await;
    let moved = redis.cli(&["ZINCRBY", "asynq:{default}:lease", "-100", "job-0"]);
    assert!(moved.starts_with('1'), "no lease: {moved}");
    // The recoverer finds it within seconds, and a second run would begin.
    pause(30).await;
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    let runs = stage.story().runs.get("job-0").map_or(0, Vec::len);
    report.figure(format!("runs {runs} · overlap {:.1} s", report.figures.longest_overlap));
    report.expect(runs == 1, format!("{runs} runs of one job"));
    report
}

async fn past(stage: &mut Stage) -> Report {
    lease_into_past(stage, Work::ms(40_000)).await
}

async fn past_blocked(stage: &mut Stage) -> Report {
    lease_into_past(stage, Work { block_ms: 40_000, ms: 0, ..Work::default() }).await
}

async fn scores(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    let mut workers = stage.workers(1, 10).await;
    let load = Load { count: 3, works: vec![Work::ms(3_000)], ..Load::default() };
    let mut producer = stage.producer(load);
    assert!(producer.ended(LONG).await, "the producer does not end");
    let running = stage.until(LONG, |story| story.runs.len() == 3).await;
    assert!(running, "not all jobs run");
    workers[0].kill();
    for (score, id) in [("-5", "job-0"), ("-inf", "job-1"), ("+inf", "job-2")] {
        redis.cli(&["ZADD", "asynq:{default}:lease", score, id]);
    }
    let _rescuer = stage.workers(1, 10).await;
    stage.conclude(&mut [], &[redis.addr()], Allowed::default(), &mut report).await;
    report.at_most("rerun", report.figures.rerun, RERUN + 15.0);
    report
}

async fn unreadable(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    let mut workers = stage.workers(1, 10).await;
    let load = Load { count: 1, works: vec![Work::ms(3_000)], ..Load::default() };
    let mut producer = stage.producer(load);
    assert!(producer.ended(LONG).await, "the producer does not end");
    all_at_work(stage, &workers).await;
    workers[0].kill();
    let script = "for n = 1, 765 do local id = '\\255\\254' .. n \
        redis.call('HSET', 'asynq:{default}:t:' .. id, 'msg', '\\255', 'state', 'active') \
        redis.call('LPUSH', 'asynq:{default}:active', id) \
        redis.call('ZADD', 'asynq:{default}:lease', n, id) end return 'ok'";
    assert_eq!(redis.cli(&["EVAL", script, "0"]), "ok");
    let _rescuer = stage.workers(1, 10).await;
    stage.conclude(&mut [], &[redis.addr()], Allowed::default(), &mut report).await;
    report.at_most("rerun", report.figures.rerun, RERUN);
    report
}
