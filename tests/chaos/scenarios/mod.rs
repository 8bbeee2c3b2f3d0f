//! The scenarios, by what they disturb.

mod clocks;
mod cluster;
mod endurance;
mod eviction;
mod handlers;
mod network;
mod promises;
mod redis;
mod sentinel;
mod versions;
mod workers;

use std::pin::Pin;
use std::time::Duration;

use crate::peer::settings::{Load, Work};
use crate::process::Peer;
use crate::report::Report;
use crate::stage::Stage;
use crate::support::{RedisServer, eventually};

/// What a scenario does, as a future.
pub type Run<'s> = Pin<Box<dyn Future<Output = Report> + 's>>;

/// One scenario.
pub struct Scenario {
    pub name: &'static str,
    pub injects: &'static str,
    /// About how long it takes.
    pub seconds: u64,
    /// Whether it belongs to the short selection.
    pub gate: bool,
    pub run: for<'s> fn(&'s mut Stage) -> Run<'s>,
}

/// `scenario!(function, "name", "what it injects", seconds)`, with `, gate` behind it
/// for the short selection.
macro_rules! scenario {
    ($function:path, $name:literal, $injects:literal, $seconds:literal) => {
        $crate::scenarios::Scenario {
            name: $name,
            injects: $injects,
            seconds: $seconds,
            gate: false,
            run: |stage| Box::pin($function(stage)),
        }
    };
    ($function:path, $name:literal, $injects:literal, $seconds:literal, gate) => {
        $crate::scenarios::Scenario {
            gate: true,
            ..scenario!($function, $name, $injects, $seconds)
        }
    };
}
use scenario;

/// All of them, in the order of the table.
pub fn all() -> Vec<Scenario> {
    let all = [
        workers::all(),
        handlers::all(),
        promises::all(),
        redis::all(),
        network::all(),
        clocks::all(),
        eviction::all(),
        sentinel::all(),
        cluster::all(),
        versions::all(),
        endurance::all(),
    ];
    all.into_iter().flatten().collect()
}

/// Recovery of a dead worker's job: 45 s are promised, the rest is a busy machine.
const RERUN: f64 = 50.0;

const LONG: Duration = Duration::from_secs(120);

async fn pause(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Redis with an append-only file that survives its process. With `everysec` Redis puts
/// off even the writing for up to 2 s while the disk is busy with the last sync, and
/// forgets acknowledged writes when it is killed then; what a sync adds is for machines.
fn durable() -> RedisServer {
    RedisServer::start(&["--appendonly", "yes", "--appendfsync", "no"])
}

/// The common load: mostly quick jobs, some that fail or panic once, some slow,
/// some scheduled, some kept.
fn mixed(name: &str, rate: u64) -> Load {
    let quick = |ms| Work::ms(ms);
    let mut works: Vec<Work> = (0..40).map(|n| quick(1 + n % 5)).collect();
    works[3].fail = 1;
    works[13].fail = 1;
    works[23].panic = 1;
    works[7].ms = 500;
    works[17].ms = 2_000;
    works[27].delay_ms = 1_500;
    works[37].delay_ms = 3_000;
    works[9].retention_s = 600;
    Load { name: name.into(), rate, works, ..Load::default() }
}

/// Waits until the producers' jobs run: from here on a fault hits something.
async fn under_way(stage: &Stage, jobs: usize) {
    let running = stage.until(LONG, |story| story.runs.len() >= jobs).await;
    assert!(running, "no job runs");
}

/// Waits until each of these workers has begun a run.
async fn all_at_work(stage: &Stage, workers: &[Peer]) {
    let numbers: Vec<u32> = workers.iter().map(|worker| worker.number).collect();
    let at_work = stage.until(LONG, |story| {
        let has_run = |number| story.runs.values().flatten().any(|run| run.process == number);
        numbers.iter().all(|&number| has_run(number))
    });
    assert!(at_work.await, "a worker does not work");
}

/// Waits until an enqueue is acknowledged and a run begins after this instant, as
/// seconds since it for each.
async fn resumed(stage: &Stage, since: u64) -> (f64, f64) {
    let mut found = (None, None);
    eventually(LONG, || {
        let story = stage.story();
        let first = |instants: Box<dyn Iterator<Item = u64> + '_>| {
            instants.filter(|&at| at > since).min().map(|at| (at - since) as f64 / 1e6)
        };
        found = (first(Box::new(story.acknowledged(None))), first(Box::new(story.begun())));
        let both = found.0.is_some() && found.1.is_some();
        async move { both }
    })
    .await;
    (found.0.unwrap_or(f64::INFINITY), found.1.unwrap_or(f64::INFINITY))
}
