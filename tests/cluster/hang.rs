//! Servers that hang: their process is stopped, and their connections stay open.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rocket_jobqueue::JobQueue;
use rocket_jobqueue::internals::{PoolSettings, RedisPool, Topology};

use super::load::{Bystander, Ledger, Load, Sent, addrs, application, enqueue};
use super::support::fleet::Cluster;
use super::support::{RedisServer, eventually};
use super::{PATIENCE, length};

const NODE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long queues of other masters may stand still beyond what they do anyway.
const UNDISTURBED: Duration = Duration::from_millis(500);

/// How long the queues of a master that hangs may stand still after it counts as failed.
const TAKEOVER: Duration = Duration::from_secs(3);

fn master_of<'a>(cluster: &'a Cluster, queue: &str) -> &'a RedisServer {
    master_of_key(cluster, &format!("asynq:{{{queue}}}:pending"))
}

fn master_of_key<'a>(cluster: &'a Cluster, key: &str) -> &'a RedisServer {
    let slot: u16 = cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]).parse().unwrap();
    let nodes = cluster.nodes[0].cli(&["CLUSTER", "NODES"]);
    let has = |line: &&str| {
        line.split(' ').skip(8).any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            match (first.parse::<u16>(), last.parse::<u16>()) {
                (Ok(first), Ok(last)) => (first..=last).contains(&slot),
                _ => false,
            }
        })
    };
    let line = nodes.lines().find(has).expect("the slot has a master");
    let addr = line.split(' ').nth(1).unwrap().split('@').next().unwrap();
    cluster.nodes.iter().find(|node| node.addr() == addr).expect("it is one of ours")
}

/// Two queues of each of the three masters.
fn spread(cluster: &Cluster) -> Vec<(String, u16)> {
    let mut found: Vec<(String, u16)> = Vec::new();
    for name in (0..).map(|n| format!("h{n}")) {
        let port = master_of(cluster, &name).port();
        if found.iter().filter(|(_, other)| *other == port).count() < 2 {
            found.push((name, port));
        }
        if found.len() == 6 {
            return found;
        }
    }
    unreachable!("there are names for every slot")
}

fn longest<'a>(sent: impl Iterator<Item = &'a Sent>) -> Duration {
    sent.map(|sent| sent.gap).max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_hangs_delays_only_its_own_queues() {
    let millis = NODE_TIMEOUT.as_millis().to_string();
    let cluster = Cluster::start(3, 1, &millis).await;
    for node in &cluster.nodes {
        // Else the Cluster itself refuses everything until the replica has taken over.
        node.cli(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let spread = spread(&cluster);
    let queues: Vec<String> = spread.iter().map(|(name, _)| name.clone()).collect();
    let ledger = Arc::new(Ledger::default());
    let client = application(addrs(&cluster), &queues, Arc::clone(&ledger)).await;
    let on = client.rocket().state::<JobQueue>().unwrap();
    let load = Load::start(on, &queues, Duration::from_millis(50));
    let bystander = Bystander::start();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let completions = Completions::start(&queues, Arc::clone(&ledger));
    load.longest_gap();
    // What this machine does anyway, busy as it is.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let usual = (load.longest_gap(), completions.longest_gap());
    bystander.longest_gap();

    let hung = master_of(&cluster, &queues[0]);
    hung.freeze();
    tokio::time::sleep(length(10, 40)).await;
    let answered = client.get("/api/dm-jobqueue/health/ready").dispatch().await.status();
    hung.thaw();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let gaps = completions.end().await;
    let sent = load.end().await;
    let meanwhile = bystander.longest_gap();
    let usual = (usual.0 + meanwhile, usual.1 + meanwhile);

    let is_hung = |queue: &str| spread.iter().any(|(n, port)| n == queue && *port == hung.port());
    let others = || sent.iter().filter(|(queue, _)| !is_hung(queue));
    let own = longest(sent.iter().filter(|(queue, _)| is_hung(queue)).map(|(_, sent)| sent));
    let other = longest(others().map(|(_, sent)| sent));
    let runs = gaps.iter().filter(|(queue, _)| !is_hung(queue)).map(|(_, gap)| *gap).max().unwrap();
    println!(
        "hung: gap {own:?} in its queues; of others {other:?} enqueued, {runs:?} run; without \
         a fault {usual:?}"
    );
    assert_eq!(answered, rocket::http::Status::Ok, "the others serve");
    assert!(other < usual.0 + UNDISTURBED, "{other:?}");
    assert!(runs < usual.1 + UNDISTURBED, "{runs:?}");
    assert!(own < usual.0 + NODE_TIMEOUT + TAKEOVER, "{own:?}");
    for (queue, sent) in others() {
        assert_eq!((sent.refused, sent.unknown), (0, 0), "{queue}: {:?}", sent.errors);
        let all = &sent.acknowledged;
        let ran = || async { all.iter().all(|name| ledger.of(name).ended == 1) };
        assert!(eventually(PATIENCE, ran).await, "{queue}");
    }
    client.terminate().await;
}

/// The longest time between two runs of each queue.
struct Completions {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<tokio::sync::Notify>,
    task: tokio::task::JoinHandle<()>,
}

struct Seen {
    queue: String,
    count: usize,
    last: Instant,
    gap: Duration,
}

impl Completions {
    fn start(queues: &[String], ledger: Arc<Ledger>) -> Self {
        let new = |queue: &String| Seen {
            count: ledger.ended_with(&format!("{queue}-")),
            queue: queue.clone(),
            last: Instant::now(),
            gap: Duration::ZERO,
        };
        let seen = Arc::new(Mutex::new(queues.iter().map(new).collect::<Vec<_>>()));
        let stop = Arc::new(tokio::sync::Notify::new());
        let (all, ended) = (Arc::clone(&seen), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            loop {
                for seen in &mut *all.lock().unwrap() {
                    seen.gap = seen.last.elapsed().max(seen.gap);
                    let count = ledger.ended_with(&format!("{}-", seen.queue));
                    if count > seen.count {
                        (seen.count, seen.last) = (count, Instant::now());
                    }
                }
                let pause = tokio::time::sleep(Duration::from_millis(20));
                tokio::select! { () = pause => {}, () = ended.notified() => break }
            }
        });
        Self { seen, stop, task }
    }

    /// The longest of any queue until now; from now on they are measured from zero.
    fn longest_gap(&self) -> Duration {
        let mut seen = self.seen.lock().unwrap();
        seen.iter_mut().map(|seen| std::mem::take(&mut seen.gap)).max().unwrap()
    }

    async fn end(self) -> Vec<(String, Duration)> {
        self.stop.notify_one();
        self.task.await.expect("it only counts");
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|seen| (seen.queue.clone(), seen.gap)).collect()
    }
}

/// The version of the data's format is read every few seconds, from whichever server has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_stays_ready_while_the_server_of_the_formats_key_hangs() {
    let cluster = Cluster::start(3, 0, "60000").await;
    let client = application(addrs(&cluster), &["r".to_owned()], Arc::default()).await;
    let status = || async { client.get("/api/dm-jobqueue/health/ready").dispatch().await.status() };
    let is_ready = || async { status().await == rocket::http::Status::Ok };
    assert!(eventually(PATIENCE, is_ready).await);
    // Shortly before the next look, whose request is then on its way.
    tokio::time::sleep(Duration::from_millis(4500)).await;
    let hung = master_of_key(&cluster, "asynq:x:format");
    hung.freeze();
    let began = Instant::now();
    let mut unready = Vec::new();
    while began.elapsed() < Duration::from_secs(12) {
        if !is_ready().await {
            unready.push(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    hung.thaw();
    assert_eq!(unready, [Duration::ZERO; 0], "two of three masters answer");
    client.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_starts_while_a_configured_server_hangs() {
    let cluster = Cluster::start(3, 1, "60000").await;
    let queues: Vec<String> = (0..6).map(|n| format!("s{n}")).collect();
    // A replica of nobody's queue, and the first that is configured.
    let hung = cluster.nodes.last().unwrap();
    hung.freeze();
    let addrs = addrs(&cluster).into_iter().rev().collect();
    let began = Instant::now();
    let client = application(addrs, &queues, Arc::default()).await;
    let on = client.rocket().state::<JobQueue>().unwrap();
    let load = Load::start(on, &queues, Duration::from_millis(50));
    let started = || async { enqueue(on, "s0", "first".into(), 1).await.is_ok() };
    assert!(eventually(Duration::from_secs(5), started).await);
    let took = began.elapsed();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let sent = load.end().await;
    let refused: usize = sent.values().map(|sent| sent.refused + sent.unknown).sum();
    let gap = longest(sent.values());
    println!("start beside a server that hangs: {took:?}, {refused} refused, gap {gap:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(refused, 0);
    assert!(gap < Duration::from_secs(3), "{gap:?}");
    client.terminate().await;
    hung.thaw();
}

/// Also if it is a master that has slots, whose queues wait for it.
#[tokio::test]
async fn a_pool_finds_the_cluster_beside_a_configured_master_that_hangs() {
    let cluster = Cluster::start(3, 0, "60000").await;
    cluster.nodes[0].freeze();
    let topology = Topology::Cluster(addrs(&cluster));
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    let began = Instant::now();
    pool.ping().await.expect("two of three masters answer");
    let mut served = 0;
    for n in 0..30 {
        let set = |_| redis::Cmd::set(format!("k{n}"), n);
        let pool = pool.prompt();
        served += u32::from(pool.run(rocket_jobqueue::internals::Repeat::Safe, set).await.is_ok());
    }
    let took = began.elapsed();
    println!("{served} of 30 served in {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!((10..30).contains(&served), "{served}");
    cluster.nodes[0].thaw();
}
