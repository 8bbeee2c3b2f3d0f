//! A cluster of six nodes with node-timeout 2 s: masters killed and hung, slots moved.

use super::{LONG, Scenario, all_at_work, mixed, pause, resumed, scenario};
use crate::checker::Allowed;
use crate::contents::Contents;
use crate::ledger::{Answer, Story};
use crate::peer::ledger::now;
use crate::peer::settings::{Load, Work};
use crate::process::Peer;
use crate::report::Report;
use crate::stage::Stage;
use crate::support::eventually;
use crate::support::fleet::Cluster;

const NODE_TIMEOUT: f64 = 2.0;

pub fn all() -> Vec<Scenario> {
    vec![
        scenario!(killed, "cluster-master-kill", "kill -9 of a master", 60),
        scenario!(asked, "cluster-failover", "CLUSTER FAILOVER, then FORCE, TAKEOVER", 60),
        scenario!(hung, "hung-master", "SIGSTOP of a master for 40 s", 90),
        scenario!(replica, "hung-replica-start", "a configured replica hangs at start", 60),
        scenario!(reshard, "reshard", "--cluster reshard, 16,000 scheduled jobs", 240),
        scenario!(held, "slot-held-open-90s", "SETSLOT MIGRATING/IMPORTING for 90 s", 180),
    ]
}

/// Eight queues, in slots of all masters.
fn queues() -> Vec<String> {
    (0..8).map(|n| format!("q{n}")).collect()
}

/// One whose other masters go on serving while one has no successor yet.
async fn partial(stage: &mut Stage) -> Cluster {
    let cluster = cluster(stage).await;
    for node in &cluster.nodes {
        node.cli(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    cluster
}

async fn cluster(stage: &mut Stage) -> Cluster {
    let cluster = Cluster::start(3, 1, "2000").await;
    stage.queues = queues();
    stage.configure("databases.jobqueue.cluster.addrs", addrs(&cluster, 0..6));
    cluster
}

fn addrs(cluster: &Cluster, nodes: impl Iterator<Item = usize>) -> Vec<String> {
    nodes.map(|at| cluster.nodes[at].addr()).collect()
}

async fn at_work(stage: &mut Stage, load: Load) -> (Vec<Peer>, [Peer; 1]) {
    // The enqueues that wait for one master must not use up the producer's own limit.
    let load = Load { in_flight: 1_000, ..load };
    let workers = stage.workers(2, 16).await;
    let producers = [stage.producer(load)];
    all_at_work(stage, &workers).await;
    pause(5).await;
    (workers, producers)
}

/// The longest time without an acknowledgement since a fault, for the queues of one master
/// and for all others.
fn gaps(stage: &Stage, of_master: &[String], since: u64) -> (f64, f64) {
    let story = stage.story();
    let gap = |queue: &String| {
        let acknowledged = story.acknowledged(Some(queue)).filter(|&at| at >= since);
        Story::longest_gap(acknowledged.chain([since, now()]))
    };
    let longest = |queues: Vec<&String>| queues.into_iter().map(gap).fold(0.0, f64::max);
    let (own, others): (Vec<&String>, Vec<&String>) =
        stage.queues.iter().partition(|queue| of_master.contains(queue));
    (longest(own), longest(others))
}

/// Fails if other queues stood still for longer than promised. What they stood still
/// for before the fault is the machine's doing, and is permitted on top.
fn expect_undisturbed(stage: &Stage, others: f64, since: u64, most: f64, report: &mut Report) {
    let story = stage.story();
    let gap = |queue: &String| {
        Story::longest_gap(story.acknowledged(Some(queue)).filter(|&at| at < since))
    };
    let before = stage.queues.iter().map(gap).fold(0.0, f64::max);
    report.figure(format!("before the fault {before:.1} s"));
    report.at_most("gap of other queues", others, most + before);
}

/// Waits until the others have another master for the queue; how long that took since
/// the fault, in seconds.
async fn successor(cluster: &Cluster, master: usize, queue: &str, since: u64) -> f64 {
    let asked = usize::from(master == 0);
    let named = || async { cluster.owner(queue, asked) != master };
    assert!(eventually(LONG, named).await, "the master has no successor");
    (now() - since) as f64 / 1e6
}

/// Fails if the queues of the master stood still for longer than promised: 3 s beyond
/// the node timeout or, if the cluster itself took most of that, 1.5 s beyond its choice.
fn expect_short(gap: f64, named: f64, report: &mut Report) {
    report.figure(format!("successor after {named:.1} s"));
    report.at_most("gap", gap, (NODE_TIMEOUT + 3.0).max(named + 1.5));
}

/// The queues of the master that has the first one, and that master.
fn of_one_master(cluster: &Cluster, asked: usize) -> (usize, Vec<String>) {
    let master = cluster.owner(&queues()[0], asked);
    let own = queues().into_iter().filter(|queue| cluster.owner(queue, asked) == master);
    (master, own.collect())
}

/// At 160 jobs/s each of 8 queues gets one each 50 ms.
const RATE: u64 = 160;

async fn killed(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let mut cluster = partial(stage).await;
    let (_workers, mut producers) = at_work(stage, mixed("job", RATE)).await;
    let (master, own) = of_one_master(&cluster, 0);
    let since = now();
    cluster.nodes[master].stop();
    let named = successor(&cluster, master, &own[0], since).await;
    pause(8).await;
    cluster.nodes[master].restart();
    let (gap, others) = gaps(stage, &own, since);
    expect_short(gap, named, &mut report);
    expect_undisturbed(stage, others, since, 0.5, &mut report);
    let serves =
        || async { cluster.nodes[0].cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") };
    assert!(eventually(LONG, serves).await, "the cluster does not recover");
    let allowed = Allowed { forgotten: true, ..Allowed::default() };
    stage.conclude(&mut producers, &cluster.master_addrs(), allowed, &mut report).await;
    report
}

async fn asked(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let cluster = cluster(stage).await;
    let (_workers, mut producers) = at_work(stage, mixed("job", RATE)).await;
    for how in [&["CLUSTER", "FAILOVER"][..], &["CLUSTER", "FAILOVER", "TAKEOVER"]] {
        let masters = cluster.masters();
        let replica = (0..6).find(|at| !masters.contains(at)).expect("a replica");
        let since = now();
        cluster.nodes[replica].cli(how);
        let promoted = || async { cluster.masters().contains(&replica) };
        assert!(eventually(LONG, promoted).await, "no failover");
        pause(4).await;
        let (_, gap) = gaps(stage, &[], since);
        report.at_most("gap", gap, NODE_TIMEOUT + 3.0);
    }
    let whole = || async { cluster.masters().len() == 3 };
    assert!(eventually(LONG, whole).await, "the cluster does not settle");
    let allowed = Allowed { forgotten: true, ..Allowed::default() };
    stage.conclude(&mut producers, &cluster.master_addrs(), allowed, &mut report).await;
    report
}

async fn hung(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let cluster = partial(stage).await;
    let (_workers, mut producers) = at_work(stage, mixed("job", RATE)).await;
    let (master, own) = of_one_master(&cluster, 0);
    let since = now();
    cluster.nodes[master].freeze();
    let named = successor(&cluster, master, &own[0], since).await;
    pause(36).await;
    let (gap, others) = gaps(stage, &own, since);
    cluster.nodes[master].thaw();
    expect_short(gap, named, &mut report);
    expect_undisturbed(stage, others, since, 0.5, &mut report);
    let demoted = || async { !cluster.masters().contains(&master) };
    assert!(eventually(LONG, demoted).await, "the hung master stays one");
    let allowed = Allowed { forgotten: true, ..Allowed::default() };
    stage.conclude(&mut producers, &cluster.master_addrs(), allowed, &mut report).await;
    report
}

async fn replica(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let cluster = cluster(stage).await;
    let masters = cluster.masters();
    let replica = (0..6).find(|at| !masters.contains(at)).expect("a replica");
    let rest = (0..6).filter(|&at| at != replica);
    let mut order = addrs(&cluster, std::iter::once(replica));
    order.extend(addrs(&cluster, rest));
    stage.configure("databases.jobqueue.cluster.addrs", order);
    cluster.nodes[replica].freeze();
    let began = now();
    let mut workers = vec![stage.worker(16)];
    let mut producers = [stage.producer(mixed("job", RATE))];
    pause(15).await;
    let story = stage.story();
    let seconds = |at: Option<u64>| at.map_or(f64::INFINITY, |at| (at - began) as f64 / 1e6);
    report.at_most("first enqueue", seconds(story.acknowledged(None).min()), 5.0);
    report.at_most("first run", seconds(story.begun().min()), 5.0);
    cluster.nodes[replica].thaw();
    workers.push(stage.worker(16));
    stage.conclude(&mut producers, &cluster.master_addrs(), Allowed::default(), &mut report).await;
    report
}

async fn reshard(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let cluster = cluster(stage).await;
    let work = Work { delay_ms: 120_000, ..Work::default() };
    let scheduled = Load { name: "later".into(), count: 16_000, rate: 0, ..Load::default() };
    let mut filler = stage.producer(Load { works: vec![work], ..scheduled });
    assert!(filler.ended(LONG).await, "the scheduled jobs are not enqueued");
    let (_workers, mut producers) = at_work(stage, mixed("job", 120)).await;

    let (from, own) = of_one_master(&cluster, 0);
    let to = cluster.masters().into_iter().find(|&at| at != from).expect("another master");
    let (addr, from_id, to_id) = (cluster.nodes[from].addr(), cluster.id(from), cluster.id(to));
    let since = now();
    let arguments = ["--cluster", "reshard", &addr, "--cluster-from", &from_id, "--cluster-to"];
    // One key at a time: a slot is open for seconds, not for moments.
    let rest = [&to_id, "--cluster-slots", "6000", "--cluster-pipeline", "1", "--cluster-yes"];
    let arguments: Vec<String> =
        arguments.iter().chain(&rest).map(|&argument| argument.to_owned()).collect();
    let (done, text) = {
        let (host, port) = (addr.clone(), cluster.nodes[to].port());
        tokio::task::spawn_blocking(move || {
            let output = std::process::Command::new("redis-cli")
                .args(["-h", "127.0.0.1", "-p", &port.to_string()])
                .args(arguments)
                .output()
                .expect("redis-cli is installed");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (output.status.success(), format!("{host}: {}", last_line(&text)))
        })
        .await
        .expect("no panic")
    };
    let took = (now() - since) as f64 / 1e6;
    let (gap, others) = gaps(stage, &own, since);
    report.figure(format!("reshard {took:.0} s · gap of moved queues {gap:.1} s"));
    report.expect(done, format!("the reshard failed: {text}"));
    let moved = own.iter().filter(|queue| cluster.owner(queue, to) == to).count();
    report.figure(format!("queues moved {moved} of {}", own.len()));
    report.expect(moved == own.len(), "not all queues have moved");
    expect_undisturbed(stage, others, since, 0.25, &mut report);
    stage.conclude(&mut producers, &cluster.master_addrs(), Allowed::default(), &mut report).await;
    report
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().to_owned()
}

async fn held(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    let cluster = cluster(stage).await;
    let works = [Work::ms(5), Work::ms(5), Work::ms(5), Work::ms(110_000)];
    let (from, own) = of_one_master(&cluster, 0);
    let queue = own[0].clone();
    let slot = cluster.slot(&queue);
    let to = cluster.masters().into_iter().find(|&at| at != from).expect("another master");
    let (from_id, to_id) = (cluster.id(from), cluster.id(to));
    // Long jobs of the queue run when its slot opens.
    let long =
        Load { name: "long".into(), queues: vec![queue.clone()], count: 4, ..Load::default() };
    let mut long = stage.producer(Load { works: vec![works[3].clone()], ..long });
    assert!(long.ended(LONG).await, "the long jobs are not enqueued");
    let load = Load { works: works[..3].to_vec(), rate: RATE, ..Load::default() };
    let (workers, mut producers) = at_work(stage, load).await;
    let running = stage
        .until(LONG, |story| story.runs.keys().filter(|id| id.starts_with("long")).count() == 4);
    assert!(running.await, "the long jobs do not run");

    let since = now();
    cluster.nodes[to].cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    cluster.nodes[from].cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    let mut unready = 0;
    for _ in 0..30 {
        pause(3).await;
        for worker in &workers {
            let answer = worker.get("/health/ready").await;
            unready += usize::from(answer.is_none_or(|(status, _)| status != 200));
        }
    }
    let (_, others) = gaps(stage, std::slice::from_ref(&queue), since);
    expect_undisturbed(stage, others, since, 0.5, &mut report);
    report.expect(unready == 0, format!("not ready {unready} times of 60"));
    finish_move(&cluster, from, to, &slot);
    let (acknowledged, begun) = resumed(stage, now()).await;
    report.at_most("resumed", acknowledged.max(begun), 5.0);
    stage.conclude(&mut producers, &cluster.master_addrs(), Allowed::default(), &mut report).await;
    let story = stage.story();
    let refused = story.calls.values().find(|call| call.is(Answer::Refused));
    if let Some(call) = refused {
        report.figure(format!("refused as {:?}", call.text));
    }
    let unknown = story.calls.values().filter(|call| call.is(Answer::Unknown)).count();
    report.figure(format!("unknown {unknown} · run again {}", report.figures.explained));
    report.expect(report.figures.explained == 0, "a running job was run again");
    let places = Contents::read(&cluster.master_addrs()).map(|contents| contents.queues.len());
    report.expect(places.is_ok_and(|queues| queues == 8), "not all queues are left");
    report
}

/// Moves the keys and tells all masters whose the slot is now.
fn finish_move(cluster: &Cluster, from: usize, to: usize, slot: &str) {
    let port = cluster.nodes[to].port().to_string();
    loop {
        let keys = cluster.nodes[from].cli(&["CLUSTER", "GETKEYSINSLOT", slot, "100"]);
        let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
        if keys.is_empty() {
            break;
        }
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        migrate.extend(keys);
        let answer = cluster.nodes[from].cli(&migrate);
        if answer != "OK" && answer != "NOKEY" {
            eprintln!("MIGRATE: {answer}");
            break;
        }
    }
    let to_id = cluster.id(to);
    for at in std::iter::once(to).chain(std::iter::once(from)).chain(cluster.masters()) {
        cluster.nodes[at].cli(&["CLUSTER", "SETSLOT", slot, "NODE", &to_id]);
    }
}
