//! `redis-cli --cluster reshard` under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rocket_jobqueue::{JobQueue, QueueName, doctor::Finding};

use super::load::{Bystander, Ledger, Load, addrs, application, schedule};
use super::support::fleet::Cluster;
use super::support::{RedisServer, eventually};
use super::{PATIENCE, length};

/// Queues whose slots are among those that the reshard moves, and others.
pub fn queues_by_slot(node: &RedisServer, moved: u16) -> (Vec<String>, Vec<String>) {
    let slot = |name: &str| -> u16 {
        node.cli(&["CLUSTER", "KEYSLOT", &format!("asynq:{{{name}}}:pending")]).parse().unwrap()
    };
    let (mut moving, mut others) = (Vec::new(), Vec::new());
    for name in (0..).map(|n| format!("q{n}")) {
        if slot(&name) < moved {
            moving.push(name);
        } else if others.len() < 4 {
            others.push(name);
        }
        if moving.len() == 4 {
            return (moving, others);
        }
    }
    unreachable!("there are names for every slot")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reshard_under_load_loses_and_doubles_no_job() {
    let cluster = Cluster::start(3, 0, "5000").await;
    // The first slots of the first master, or all of them.
    let slots = if length(0, 1).is_zero() { 400 } else { 5461 };
    let (moving, others) = queues_by_slot(&cluster.nodes[0], slots);
    let queues = [moving.clone(), others.clone()].concat();
    let ledger = Arc::new(Ledger::default());
    let client = application(addrs(&cluster), &queues, Arc::clone(&ledger)).await;
    let on = client.rocket().state::<JobQueue>().unwrap();
    for queue in &queues {
        schedule(on, queue, "later", 2000, Duration::from_secs(3600)).await;
    }
    let load = Load::start(on, &queues, Duration::from_millis(66));
    let bystander = Bystander::start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.longest_gap();
    // What this machine does anyway, busy as it is.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let usual = load.longest_gap();
    bystander.longest_gap();

    let began = Instant::now();
    let [from, to] = [0, 1].map(|n: usize| cluster.nodes[n].cli(&["CLUSTER", "MYID"]));
    let mut reshard = tokio::process::Command::new("redis-cli");
    reshard.args(["--cluster", "reshard", &cluster.nodes[0].addr(), "--cluster-from", &from]);
    reshard.args(["--cluster-to", &to, "--cluster-slots", &slots.to_string(), "--cluster-yes"]);
    let output = reshard.output().await.expect("redis-cli is installed");
    let took = began.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sent = load.end().await;
    let usual = usual + bystander.longest_gap();

    let said = String::from_utf8_lossy(&output.stdout);
    let last: Vec<_> = said.lines().rev().take(3).collect();
    assert!(output.status.success(), "{:?}: {last:?}", output.status);
    let gap = |queues: &[String]| queues.iter().map(|queue| sent[queue].gap).max().unwrap();
    let refused: usize = sent.values().map(|sent| sent.refused).sum();
    let unknown: usize = sent.values().map(|sent| sent.unknown).sum();
    let all: Vec<_> = sent.values().flat_map(|sent| &sent.acknowledged).collect();
    println!(
        "reshard of {slots} slots in {took:?}: {} acknowledged, {refused} refused, {unknown} \
         unknown; longest gap {:?} in queues that moved, {:?} in others, {usual:?} without \
         a move",
        all.len(),
        gap(&moving),
        gap(&others)
    );
    let ran = || async { all.iter().all(|name| ledger.of(name).ended > 0) };
    let complete = eventually(PATIENCE, ran).await;
    let lost: Vec<_> = all.iter().filter(|name| ledger.of(name).ended == 0).collect();
    assert!(complete, "{} lost: {lost:?}", lost.len());
    assert_eq!(ledger.doubled(), [""; 0]);
    assert_eq!(unknown, 0, "both servers refuse, so that it is known what was done");
    assert!(gap(&others) < usual + Duration::from_millis(250), "{:?}", gap(&others));
    let inspector = on.inspector();
    for queue in &queues {
        let info = inspector.queue(&QueueName::new(queue.clone()).unwrap()).await.unwrap();
        assert_eq!(info.sizes["scheduled"], 2000, "{queue}");
    }
    let report = inspector.doctor().await.unwrap();
    let of_a_queue = |finding: &&Finding| finding.queue.is_some();
    assert_eq!(report.findings.iter().filter(of_a_queue).count(), 0, "{report}");
    client.terminate().await;
}
