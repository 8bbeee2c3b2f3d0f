//! Unique locks, groups and periodic jobs while processes are killed.

use std::collections::BTreeMap;

use super::{Scenario, all_at_work, durable, pause, scenario};
use crate::checker::Allowed;
use crate::ledger::{Answer, Story};
use crate::peer::settings::{Load, Work};
use crate::report::Report;
use crate::stage::Stage;

pub fn all() -> Vec<Scenario> {
    vec![
        scenario!(unique, "unique", "kill -9 of producers and workers, 50 locks", 80, gate),
        scenario!(groups, "groups", "kill -9 of aggregating workers, ×6", 90),
        scenario!(periodic, "schedulers", "5 processes, @every 1s, kill -9 each 5 s", 90),
    ]
}

async fn unique(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    let mut workers = stage.workers(2, 16).await;
    let work = Work { unique_s: 3_600, key: "*".into(), ..Work::ms(50) };
    let load =
        |name: String| Load { name, works: vec![work.clone()], rate: 100, ..Load::default() };
    let mut producers: Vec<_> = (0..3).map(|n| stage.producer(load(format!("p{n}")))).collect();
    all_at_work(stage, &workers).await;
    for round in 0..6 {
        pause(2).await;
        workers[round % 2].kill();
        workers[round % 2] = stage.worker(16);
        let victim = round % producers.len();
        producers[victim].kill();
        producers[victim] = stage.producer(load(format!("q{round}")));
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    let both = held_by_two(&stage.story());
    report.figure(format!("refused {}", report.figures.refused));
    report.expect(both.is_empty(), format!("a lock had two holders: {}", both.join(", ")));
    report
}

/// Pairs of acknowledged jobs that held the same lock side by side for certain: from the
/// answer of its enqueue to its end. A job that ended before its producer noted the
/// answer, as on a busy host, tells nothing.
fn held_by_two(story: &Story) -> Vec<String> {
    let mut holders: BTreeMap<u64, Vec<(u64, u64, &str)>> = BTreeMap::new();
    for (id, call) in &story.calls {
        let Some((answered, Answer::Ok)) = call.answer else { continue };
        let number: u64 = id.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let runs = story.runs.get(id);
        let ends = runs.and_then(|runs| runs.iter().find(|run| run.ended_as("done")));
        let end = ends.and_then(|run| run.end.as_ref()).map_or(u64::MAX, |(end, _)| *end);
        if answered < end {
            holders.entry(number % 50).or_default().push((answered, end, id));
        }
    }
    let mut both = Vec::new();
    for holders in holders.values_mut() {
        holders.sort_unstable();
        let pairs = holders.windows(2).filter(|pair| pair[1].0 < pair[0].1);
        both.extend(pairs.map(|pair| format!("{} and {}", pair[0].2, pair[1].2)));
    }
    both
}

async fn groups(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    stage.configure("jobqueue.group_grace", "1s");
    stage.configure("jobqueue.group_max_delay", "2s");
    stage.configure("jobqueue.group_max_size", 20);
    let mut workers = stage.workers(2, 10).await;
    let works = (0..5).map(|n| Work { group: format!("g{n}"), ..Work::default() }).collect();
    let load = Load { works, rate: 100, ..Load::default() };
    let mut producers = [stage.producer(load)];
    all_at_work(stage, &workers).await;
    for round in 0..6 {
        pause(2).await;
        workers[round % 2].kill();
        workers[round % 2] = stage.worker(10);
    }
    stage.conclude(&mut producers, &[redis.addr()], Allowed::default(), &mut report).await;
    let story = stage.story();
    let mut batches: BTreeMap<&String, usize> = BTreeMap::new();
    for member in story.batches.values().flatten() {
        *batches.entry(member).or_default() += 1;
    }
    let doubled = batches.values().filter(|&&times| times > 1).count();
    report.figure(format!("batches {}", story.batches.len()));
    report.expect(doubled == 0, format!("{doubled} jobs are in two batches"));
    report
}

async fn periodic(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let redis = durable();
    stage.on_single(&redis.addr());
    stage.configure("jobqueue.periodic.tick.spec", "@every 1s");
    stage.configure("jobqueue.periodic.tick.type", crate::peer::settings::WORK);
    stage.configure("jobqueue.periodic.tick.payload", "{}");
    let mut workers = stage.workers(5, 5).await;
    all_at_work(stage, &workers[..1]).await;
    for round in 0..8 {
        pause(5).await;
        workers[round % 5].kill();
        workers[round % 5] = stage.worker(5);
    }
    pause(2).await;
    // No more ticks: what is left ends.
    for worker in &mut workers {
        worker.terminate();
    }
    for worker in &mut workers {
        worker.ended(super::LONG).await;
    }
    stage.configure("jobqueue.fire_periodic", false);
    let _last = stage.workers(1, 5).await;
    stage.conclude(&mut [], &[redis.addr()], Allowed::default(), &mut report).await;
    let story = stage.story();
    let begun: Vec<u64> = story.runs.values().map(|runs| runs[0].begun).collect();
    let first = begun.iter().min().copied().unwrap_or(0);
    let last = begun.iter().max().copied().unwrap_or(0);
    let ticks = ((last - first) as f64 / 1e6).round() as usize + 1;
    report.figure(format!("ticks {ticks} · jobs {}", begun.len()));
    let difference = ticks.abs_diff(begun.len());
    report.expect(difference <= 1, format!("{} jobs of {ticks} ticks", begun.len()));
    report
}
