//! Slots that the server moves as a whole: `CLUSTER MIGRATESLOTS` of Valkey 9.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rocket_jobqueue::{JobQueue, QueueName};

use super::PATIENCE;
use super::load::{Ledger, Load, addrs, application, enqueue, schedule};
use super::reshard::queues_by_slot;
use super::support::fleet::Cluster;
use super::support::{RedisServer, eventually, server_program};

const SLOTS: u16 = 400;
/// Per queue: jobs that stay scheduled, and jobs that fall due around the move.
const STAY: usize = 2000;
const DUE: usize = 100;

/// Whether the server knows the command. A server that does not know it says so, and it
/// is one of which we expect that.
fn moves_atomically() -> bool {
    let server = RedisServer::start(&["--cluster-enabled", "yes"]);
    let says_unknown = |command: &str| {
        let answer = server.cli(&["CLUSTER", command]).to_lowercase();
        let unknown = answer.contains("unknown subcommand");
        assert!(unknown || answer.contains("wrong number of arguments"), "{command}: {answer}");
        unknown
    };
    let unknown = says_unknown("MIGRATESLOTS");
    let info = server.cli(&["INFO", "server"]);
    let valkey = info.lines().find_map(|line| line.strip_prefix("valkey_version:"));
    let major = valkey.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    assert_eq!(!unknown, major.is_some_and(|major| major >= 9), "{}: {info}", server_program());
    // Of Redis 8.4. No server of `scripts/servers.sh` knows it; one that does needs a test.
    let other = server.cli(&["CLUSTER", "HELP"]).lines().any(|line| line.starts_with("MIGRATION"));
    assert!(!other, "CLUSTER MIGRATION is not tested yet");
    !unknown
}

/// The state of the latest migration that this server gives slots away by.
fn state(from: &RedisServer) -> String {
    let answer = from.cli(&["CLUSTER", "GETSLOTMIGRATIONS"]);
    let mut lines = answer.lines().skip_while(|line| *line != "state");
    lines.nth(1).unwrap_or_else(|| panic!("no state: {answer}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_atomic_move_under_load_loses_refuses_and_doubles_no_job() {
    if !moves_atomically() {
        println!("{}: CLUSTER MIGRATESLOTS is an unknown subcommand", server_program());
        return;
    }
    let cluster = Cluster::start(3, 0, "5000").await;
    let [from, to] = [0, 1].map(|at: usize| &cluster.nodes[at]);
    let (moving, others) = queues_by_slot(from, SLOTS);
    let queues = [moving.clone(), others.clone()].concat();
    let ledger = Arc::new(Ledger::default());
    let client = application(addrs(&cluster), &queues, Arc::clone(&ledger)).await;
    let on = client.rocket().state::<JobQueue>().unwrap();
    for queue in &queues {
        schedule(on, queue, "later", STAY, Duration::from_secs(3600)).await;
        schedule(on, queue, "due", DUE, Duration::from_secs(3)).await;
        // Runs on both servers.
        enqueue(on, queue, format!("{queue}-long"), 6_000).await.unwrap();
    }
    let load = Load::start(on, &queues, Duration::from_millis(66));
    tokio::time::sleep(Duration::from_secs(1)).await;

    let began = Instant::now();
    let (last, id) = ((SLOTS - 1).to_string(), to.cli(&["CLUSTER", "MYID"]));
    let begun = from.cli(&["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", "0", &last, "NODE", &id]);
    assert_eq!(begun, "OK");
    assert!(eventually(PATIENCE, || async { state(from) == "success" }).await, "{}", state(from));
    let took = began.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sent = load.end().await;

    let gap = |queues: &[String]| queues.iter().map(|queue| sent[queue].gap).max().unwrap();
    let all: Vec<_> = sent.values().flat_map(|sent| &sent.acknowledged).collect();
    println!(
        "atomic move of {SLOTS} slots in {took:?}: {} acknowledged; longest gap {:?} in queues \
         that moved, {:?} in others",
        all.len(),
        gap(&moving),
        gap(&others)
    );
    for (queue, sent) in &sent {
        assert_eq!((sent.refused, sent.unknown), (0, 0), "{queue}: {:?}", sent.errors);
    }
    let due = queues.iter().flat_map(|queue| (0..DUE).map(move |n| format!("{queue}-due-{n}")));
    let long = queues.iter().map(|queue| format!("{queue}-long"));
    let expected: Vec<_> = all.into_iter().cloned().chain(due).chain(long).collect();
    let ran = || async { expected.iter().all(|name| ledger.of(name).ended > 0) };
    let complete = eventually(PATIENCE, ran).await;
    let lost: Vec<_> = expected.iter().filter(|name| ledger.of(name).ended == 0).collect();
    assert!(complete, "{} lost: {lost:?}", lost.len());
    assert_eq!(ledger.doubled(), [""; 0]);
    let inspector = on.inspector();
    for queue in &queues {
        let info = inspector.queue(&QueueName::new(queue.clone()).unwrap()).await.unwrap();
        assert_eq!(info.sizes["scheduled"], STAY as u64, "{queue}");
    }

    // Served where they are now.
    for queue in &moving {
        let key = format!("asynq:{{{queue}}}:scheduled");
        assert_eq!(to.cli(&["ZCARD", &key]), STAY.to_string(), "{queue}");
        assert!(from.cli(&["ZCARD", &key]).starts_with("MOVED "), "{queue}");
        let name = format!("{queue}-after");
        enqueue(on, queue, name.clone(), 1).await.unwrap();
        assert!(eventually(PATIENCE, || async { ledger.of(&name).ended == 1 }).await, "{queue}");
    }
    let report = inspector.doctor().await.unwrap();
    let of_queues = report.findings.iter().filter(|finding| finding.queue.is_some()).count();
    assert_eq!(of_queues, 0, "{report}");
    client.terminate().await;
}
