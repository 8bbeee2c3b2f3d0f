//! One master, two replicas, three Sentinels: failed over on purpose, killed, cut off.

use std::time::Duration;

use super::{LONG, Scenario, all_at_work, mixed, pause, resumed, scenario};
use crate::checker::{Allowed, Figures};
use crate::ledger::Story;
use crate::peer::ledger::now;
use crate::peer::settings::{Load, Work};
use crate::process::Peer;
use crate::proxy::{Mode, Proxy};
use crate::report::Report;
use crate::stage::Stage;
use crate::support::fleet::SentinelFleet;
use crate::support::{eventually, free_port};

/// The replicas of the fleet.
const REPLICAS: u64 = 2;

pub fn all() -> Vec<Scenario> {
    vec![
        scenario!(failover, "sentinel-failover", "SENTINEL FAILOVER ×5", 110),
        scenario!(failover_wait, "sentinel-failover-wait", "the same, wait_replicas = 2", 110),
        scenario!(killed, "sentinel-master-kill", "kill -9 of the master", 40),
        scenario!(killed_wait, "sentinel-master-kill-wait", "the same, wait_replicas = 2", 40),
        scenario!(partition, "sentinel-partition", "the master and its clients cut off 12 s", 60),
        scenario!(partition_wait, "sentinel-partition-wait", "the same, wait_replicas = 2", 60),
        scenario!(hangs, "sentinel-hangs", "SIGSTOP of the first Sentinel, failover", 50),
    ]
}

/// Peers find the master through these Sentinels.
fn on_sentinels(stage: &mut Stage, sentinels: Vec<String>, wait: bool) {
    stage.configure("databases.jobqueue.sentinel.master", "mymaster");
    stage.configure("databases.jobqueue.sentinel.addrs", sentinels);
    if wait {
        stage.configure("databases.jobqueue.wait_replicas", REPLICAS);
    }
}

async fn at_work(stage: &mut Stage, rate: u64) -> (Vec<Peer>, [Peer; 1]) {
    let workers = stage.workers(2, 16).await;
    // Those that run at once prove nothing: they ran, also on a master that is forgotten.
    let later = Work { delay_ms: 20_000, ..Work::default() };
    let load = Load { works: vec![Work::default(), later], ..mixed("job", rate) };
    let producers = [stage.producer(load)];
    all_at_work(stage, &workers).await;
    pause(2).await;
    (workers, producers)
}

/// What asynchronous replication may forget.
const FORGETS: Allowed = Allowed { forgotten: true, cut: true, cut_off: false };

/// How long the acknowledgements lasted that were lost, in seconds, for each of
/// these instants the part that follows it.
fn spans_lost(figures: &Figures, story: &Story, faults: &[u64]) -> Vec<f64> {
    let mut lost: Vec<u64> =
        figures.lost.iter().filter_map(|id| story.calls[id].answer.map(|(at, _)| at)).collect();
    lost.sort_unstable();
    let span = |at: usize| {
        let until = faults.get(at + 1).copied().unwrap_or(u64::MAX);
        let mut of: Vec<u64> = lost.clone();
        of.retain(|&lost| lost >= faults[at] && lost < until);
        match (of.first(), of.last()) {
            (Some(first), Some(last)) => (last - first) as f64 / 1e6,
            _ => 0.0,
        }
    };
    (0..faults.len()).map(span).collect()
}

/// Fails for what is lost beyond the bounds, not for each job.
async fn conclude(
    stage: &Stage,
    producers: &mut [Peer],
    fleet: &SentinelFleet,
    faults: &[u64],
    bound: f64,
    report: &mut Report,
) {
    let masters = [fleet.master_addr()];
    stage.drain(producers, &masters, report).await;
    let mut figures = stage.check(&masters, FORGETS);
    let story = stage.story();
    let mut spans = spans_lost(&figures, &story, faults);
    let lost = std::mem::take(&mut figures.lost);
    let counted = lost.len();
    report.take(figures, &story);
    report.figures.lost = lost;
    spans.sort_unstable_by(f64::total_cmp);
    let (median, longest) = (spans[spans.len() / 2], spans[spans.len() - 1]);
    report.figure(format!("lost acks span: median {median:.2} s, longest {longest:.2} s"));
    report.figure(format!("run again {}", report.figures.explained));
    if bound == 0.0 {
        report.expect(counted == 0, format!("{counted} lost, 0 promised"));
    } else {
        let promise = format!("acks lost over {longest:.2} s, at most {bound} s");
        report.expect(longest <= bound, promise);
    }
}

async fn fail_over(stage: &mut Stage, wait: bool) -> Report {
    let mut report = Report::default();
    let fleet = SentinelFleet::start().await;
    on_sentinels(stage, fleet.sentinel_addrs(), wait);
    let (_workers, mut producers) = at_work(stage, 200).await;
    let mut faults = Vec::new();
    for _ in 0..5 {
        let whole = || async { fleet.is_whole() };
        assert!(eventually(LONG, whole).await, "{}", fleet.sentinels[0].log());
        let old = fleet.master();
        let asked =
            || async { fleet.sentinels[0].cli(&["SENTINEL", "FAILOVER", "mymaster"]) == "OK" };
        faults.push(now());
        assert!(eventually(LONG, asked).await, "{}", fleet.sentinels[0].log());
        let named = || async { fleet.master() != old };
        assert!(eventually(LONG, named).await, "{}", fleet.sentinels[0].log());
        // The old master is demoted about 10 s after the command.
        pause(12).await;
    }
    let bound = if wait { 0.0 } else { 1.5 };
    conclude(stage, &mut producers, &fleet, &faults, bound, &mut report).await;
    let gap = report.gap;
    // 2 s are promised; the rest is a busy machine. Where all replicas must confirm,
    // none of the enqueues is acknowledged until the old master is a replica, 10 s later.
    report.at_most("longest gap", gap, if wait { 15.0 } else { 3.0 });
    report
}

async fn failover(stage: &mut Stage) -> Report {
    fail_over(stage, false).await
}

async fn failover_wait(stage: &mut Stage) -> Report {
    fail_over(stage, true).await
}

async fn kill_master(stage: &mut Stage, wait: bool) -> Report {
    let mut report = Report::default();
    let mut fleet = SentinelFleet::start().await;
    on_sentinels(stage, fleet.sentinel_addrs(), wait);
    let (_workers, mut producers) = at_work(stage, 200).await;
    let old = fleet.master();
    let faults = [now()];
    fleet.nodes[old].stop();
    let named = || async { fleet.master() != old };
    assert!(eventually(LONG, named).await, "{}", fleet.sentinels[0].log());
    if wait {
        // With one replica fewer no enqueue is acknowledged: it must be back.
        fleet.nodes[old].restart();
    }
    let (acknowledged, begun) = resumed(stage, now()).await;
    report
        .figure(format!("resumed {:.1} s after the new master is named", acknowledged.max(begun)));
    pause(5).await;
    // Replicas are idle: what was acknowledged is on its way within milliseconds.
    let bound = if wait { 0.0 } else { 0.1 };
    conclude(stage, &mut producers, &fleet, &faults, bound, &mut report).await;
    if !wait {
        // down-after 2 s, and 3 s.
        let gap = report.gap;
        report.at_most("gap", gap, 6.0);
    }
    report
}

async fn killed(stage: &mut Stage) -> Report {
    kill_master(stage, false).await
}

async fn killed_wait(stage: &mut Stage) -> Report {
    kill_master(stage, true).await
}

async fn cut_off(stage: &mut Stage, wait: bool) -> Report {
    let mut report = Report::default();
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let mut proxies = Vec::new();
    for port in &ports {
        proxies.push(Proxy::to(*port).await);
    }
    let announced: Vec<u16> = proxies.iter().map(Proxy::port).collect();
    let fleet = SentinelFleet::start_known_as(&ports, &announced).await;
    let mut to_sentinels = Vec::new();
    for sentinel in &fleet.sentinels {
        to_sentinels.push(Proxy::to(sentinel.port()).await);
    }
    on_sentinels(stage, to_sentinels.iter().map(Proxy::addr).collect(), wait);
    let (_workers, mut producers) = at_work(stage, 200).await;

    let old = fleet.master();
    let faults = [now()];
    // The master and all clients on one side, the replicas and Sentinels on the other.
    proxies[old].set_for_servers(Mode::BlackHole);
    to_sentinels.iter().for_each(|proxy| proxy.set(Mode::BlackHole));
    pause(12).await;
    report.expect(fleet.master() != old, "no failover during the partition");
    proxies[old].set_for_servers(Mode::Pass);
    to_sentinels.iter().for_each(|proxy| proxy.set(Mode::Pass));
    let healed = now();
    let demoted = || async {
        fleet.nodes[old].cli(&["INFO", "replication"]).contains("master_link_status:up")
    };
    report.expect(eventually(LONG, demoted).await, "the old master is not demoted");
    let (acknowledged, begun) = resumed(stage, now()).await;
    report.at_most("resumed", acknowledged.max(begun), 3.0);
    pause(3).await;
    let length = (now() - healed) as f64 / 1e6;
    // Without replicas to wait for, all that the old master acknowledged is lost.
    let bound = if wait { 0.0 } else { 12.0 + length };
    conclude(stage, &mut producers, &fleet, &faults, bound, &mut report).await;
    report
}

async fn partition(stage: &mut Stage) -> Report {
    cut_off(stage, false).await
}

async fn partition_wait(stage: &mut Stage) -> Report {
    cut_off(stage, true).await
}

async fn hangs(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let mut fleet = SentinelFleet::start().await;
    on_sentinels(stage, fleet.sentinel_addrs(), false);
    fleet.sentinels[0].freeze();
    let began = now();
    let workers = stage.workers(2, 16).await;
    let mut producers = [stage.producer(mixed("job", 200))];
    all_at_work(stage, &workers).await;
    let first = stage.story().acknowledged(None).min().unwrap_or(u64::MAX);
    report.at_most("start", (first.saturating_sub(began)) as f64 / 1e6, 15.0);
    // The others fail over without it.
    let mut others = fleet.sentinels.split_off(1);
    let frozen = std::mem::replace(&mut fleet.sentinels, others.split_off(0));
    let old = fleet.master();
    let faults = [now()];
    let asked = || async { fleet.sentinels[0].cli(&["SENTINEL", "FAILOVER", "mymaster"]) == "OK" };
    assert!(eventually(LONG, asked).await, "{}", fleet.sentinels[0].log());
    let named = || async { fleet.master() != old };
    assert!(eventually(LONG, named).await, "{}", fleet.sentinels[0].log());
    let (acknowledged, begun) = resumed(stage, now()).await;
    report.at_most("resumed", acknowledged.max(begun), 2.0);
    tokio::time::sleep(Duration::from_secs(12)).await;
    conclude(stage, &mut producers, &fleet, &faults, 1.5, &mut report).await;
    frozen[0].thaw();
    report
}
