//! Past one Redis: queues spread over the slots of a Cluster. Clusters of one, two and more masters
//! drain the same jobs, each master held to a share of a core, so that one machine can show what
//! several would do: the masters are the limit, not the worker.

use std::collections::HashMap;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use rocket_jobqueue::Draft;
use serde_json::json;
use tempfile::TempDir;

use crate::app::{self, Noop, Notes, Work};
use crate::meter::{self, memory};
use crate::share::{Share, used};
use crate::{Outcome, fill};

/// How many slots there are.
const SLOTS: u64 = 16_384;

#[derive(Args)]
pub struct Options {
    /// The largest Cluster's number of masters; smaller ones come first.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=16))]
    masters: u64,
    /// Number of queues, spread evenly over the slots.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=1000))]
    queues: u64,
    /// Number of jobs, the same in each queue.
    #[arg(long, default_value_t = 120_000, value_parser = clap::value_parser!(u64).range(1000..))]
    jobs: u64,
    /// Concurrent jobs of each worker.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..))]
    concurrency: u64,
    /// Workers, each of which serves all queues.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=16))]
    workers: u64,
    /// Percent of a core that each master gets; 100 for no limit.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=100))]
    share: u64,
    /// Rounds; each has all Clusters, and the table has medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// A line of JSON for each run instead of the table.
    #[arg(long)]
    json: bool,
}

/// What one Cluster did while each of its masters had jobs.
struct Row {
    jobs_per_s: f64,
    /// The part of a core that each master used.
    shares: Vec<f64>,
    /// Script calls that each master answered.
    calls: Vec<u64>,
    cpu_s_per_10k: f64,
    memory_mib: f64,
}

pub async fn scale(options: &Options) -> Outcome<()> {
    let mut runs: Vec<Vec<Row>> = (0..options.masters).map(|_| Vec::new()).collect();
    for round in 1..=options.rounds {
        for masters in 1..=options.masters {
            eprintln!("round {round} of {}: {masters} masters", options.rounds);
            let row = measure(options, masters as usize).await?;
            if options.json {
                let line = json!({
                    "scenario": "scale", "masters": masters, "queues": options.queues,
                    "jobs": options.jobs, "share": options.share, "workers": options.workers,
                    "concurrency": options.concurrency, "jobs_per_s": row.jobs_per_s,
                    "shares": row.shares, "calls": row.calls,
                    "cpu_s_per_10k": row.cpu_s_per_10k, "memory_mib": row.memory_mib,
                });
                println!("{line}");
            }
            runs[masters as usize - 1].push(row);
        }
    }
    if !options.json {
        show(options, &runs);
    }
    Ok(())
}

fn show(options: &Options, runs: &[Vec<Row>]) {
    println!(
        "{} queues, {} jobs, {} workers at {}, {} % of a core for each master; medians of {}\n",
        options.queues,
        options.jobs,
        options.workers,
        options.concurrency,
        options.share,
        options.rounds
    );
    println!(
        "| masters | jobs/s | × one | part of a core each used | script calls at each | jobs a call | \
         worker's CPU s per 10,000 jobs |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut one = None;
    for rows in runs {
        let mut rows: Vec<&Row> = rows.iter().collect();
        rows.sort_by(|a, b| a.jobs_per_s.total_cmp(&b.jobs_per_s));
        let row = rows[(rows.len() - 1) / 2];
        let first = *one.get_or_insert(row.jobs_per_s);
        let list = |each: Vec<String>| each.join(", ");
        println!(
            "| {} | {:.0} | {:.2} | {} | {} | {:.1} | {:.2} |",
            row.calls.len(),
            row.jobs_per_s,
            row.jobs_per_s / first,
            list(row.shares.iter().map(|share| format!("{share:.3}")).collect()),
            list(row.calls.iter().map(ToString::to_string).collect()),
            options.jobs as f64 / row.calls.iter().sum::<u64>().max(1) as f64,
            row.cpu_s_per_10k,
        );
    }
}

async fn measure(options: &Options, masters: usize) -> Outcome<Row> {
    let cluster = Cluster::start(masters).await?;
    // An application reads the files of the folder it is started in: here those of another store.
    std::env::set_current_dir(cluster.nodes[0].folder.path())?;
    let addresses = cluster.addresses();
    let queues = cluster.queues(options.queues)?;
    // As many in each queue.
    let jobs = options.jobs / options.queues * options.queues;
    let producer = app::producer_on(&addresses).await?;
    enqueue(&app::queue(&producer)?, &queues, jobs).await?;
    producer.terminate().await;

    let notes = Notes::of(jobs, Work::Nothing);
    let part = options.share as f64 / 100.0;
    let held = (part < 1.0).then(|| Share::hold(&cluster.pids(), part)).transpose()?;
    let weights: HashMap<String, u32> = queues.iter().map(|name| (name.clone(), 1)).collect();
    let calls = cluster.calls()?;
    let mut workers = Vec::new();
    for _ in 0..options.workers {
        let concurrency = options.concurrency as usize;
        workers.push(app::worker_on(&addresses, concurrency, weights.clone(), &notes).await?);
    }
    let samples = watch(&cluster, &notes, jobs).await?;
    drop(held);
    let calls = cluster.calls()?.iter().zip(calls).map(|(now, then)| now - then).collect();
    let memory_mib = memory("VmRSS")?;
    for worker in workers {
        worker.terminate().await;
    }
    notes.check()?;
    // Queue and number belong together: see `enqueue`.
    let of_queue = |nth: usize| (0..jobs).filter(move |n| (*n % options.queues) as usize == nth);
    let last = |master: usize| {
        let own = (0..queues.len()).filter(|nth| nth * masters / queues.len() == master);
        own.flat_map(of_queue).map(|n| notes.began(n)).max().unwrap_or_default()
    };
    // Only while every master has jobs.
    let until = (0..masters).map(last).min().unwrap_or_default();
    let began: Vec<i64> = (0..jobs).map(|n| notes.began(n)).collect();
    let from = began.iter().copied().min().unwrap_or_default();
    let ran = began.iter().filter(|at| **at <= until).count() as f64;
    let seconds = (until - from) as f64 / 1e6;
    // Between the samples that are nearest to that time.
    let at = |micros: i64| samples.iter().min_by_key(|sample| sample.at.abs_diff(micros));
    let (first, second) = at(from).zip(at(until)).ok_or("expected samples, found none")?;
    let between = ((second.at - first.at) as f64 / 1e6).max(1e-3);
    let shares = first.used.iter().zip(&second.used).map(|(a, b)| (b - a) / between).collect();
    let cpu_s_per_10k = (second.own - first.own) / between * seconds / ran * 1e4;
    Ok(Row { jobs_per_s: ran / seconds, shares, calls, cpu_s_per_10k, memory_mib })
}

/// What processes had used at an instant.
struct Sample {
    /// Microseconds since the epoch.
    at: i64,
    own: f64,
    used: Vec<f64>,
}

/// Waits until all jobs have ended, and looks at the processes meanwhile.
async fn watch(cluster: &Cluster, notes: &Notes, jobs: u64) -> Outcome<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut last = (0, Instant::now());
    loop {
        let used = cluster.pids().into_iter().map(used).collect::<Outcome<_>>()?;
        samples.push(Sample { at: app::now(), own: meter::cpu("self")?, used });
        let ended = notes.ended();
        if ended >= jobs {
            return Ok(samples);
        }
        if ended > last.0 {
            last = (ended, Instant::now());
        }
        if last.1.elapsed() > Duration::from_secs(60) {
            let found = format!("found {ended}, and no more for a minute");
            return Err(format!("expected {jobs} jobs to run, {found}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Job `n` goes to queue `n` modulo their number.
async fn enqueue(queue: &rocket_jobqueue::JobQueue, queues: &[String], jobs: u64) -> Outcome<()> {
    let many = queues.len() as u64;
    for first in (0..jobs).step_by(fill::BATCH as usize) {
        let some = first..jobs.min(first + fill::BATCH);
        let drafts =
            some.map(|n| Draft::new(Noop::new(n)).queue(queues[(n % many) as usize].clone()));
        for stored in queue.enqueue_all(drafts).await {
            stored?;
        }
    }
    Ok(())
}

/// Masters on the loopback interface, each with as many slots as the others.
struct Cluster {
    nodes: Vec<Node>,
}

struct Node {
    port: u16,
    child: Child,
    folder: TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn start() -> Outcome<Self> {
        let (port, folder) = (port()?, TempDir::new()?);
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(folder.path())
            // One that is stopped for milliseconds is no failure.
            .args(["--cluster-enabled", "yes", "--cluster-node-timeout", "60000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server: expected it to be installed: {error}"))?;
        Ok(Self { port, child, folder })
    }

    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> Outcome<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        Ok(command.query(&mut client.get_connection()?)?)
    }

    /// Asks until the answer is as wanted.
    async fn until(&self, words: &[&str], wanted: impl Fn(&str) -> bool) -> Outcome<()> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            if self.ask::<String>(words).is_ok_and(|text| wanted(&text)) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("a Redis Cluster did not come up: {}", words.join(" ")).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Cluster {
    async fn start(masters: usize) -> Outcome<Self> {
        let nodes = (0..masters).map(|_| Node::start()).collect::<Outcome<Vec<_>>>()?;
        let first = nodes[0].port.to_string();
        for (nth, node) in nodes.iter().enumerate() {
            node.until(&["PING"], |text| text == "PONG").await?;
            let edge = |nth: usize| nth as u64 * SLOTS / masters as u64;
            let slots = (edge(nth)..edge(nth + 1)).map(|slot| slot.to_string());
            let words: Vec<String> =
                ["CLUSTER", "ADDSLOTS"].map(str::to_owned).into_iter().chain(slots).collect();
            node.ask::<()>(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
            if nth > 0 {
                node.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &first])?;
            }
        }
        let known = format!("cluster_known_nodes:{masters}");
        let covered = format!("cluster_slots_ok:{SLOTS}");
        for node in &nodes {
            node.until(&["CLUSTER", "INFO"], |text| {
                let has = |wanted: &str| text.lines().any(|line| line == wanted);
                has("cluster_state:ok") && has(&known) && has(&covered)
            })
            .await?;
        }
        Ok(Self { nodes })
    }

    fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect()
    }

    fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.child.id()).collect()
    }

    /// Names of queues, one in each of as many equal parts of the slots.
    fn queues(&self, count: u64) -> Outcome<Vec<String>> {
        let mut names = Vec::new();
        for nth in 0.. {
            let name = format!("queue-{nth}");
            let slot: u64 = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", &name])?;
            if slot * count / SLOTS == names.len() as u64 {
                names.push(name);
            }
            if names.len() as u64 == count {
                break;
            }
        }
        Ok(names)
    }

    /// How many scripts each master ran.
    fn calls(&self) -> Outcome<Vec<u64>> {
        let of = |node: &Node| {
            let text: String = node.ask(&["INFO", "commandstats"])?;
            let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
            let calls = line.and_then(|rest| rest.split(',').next()?.parse().ok());
            Ok(calls.unwrap_or(0))
        };
        self.nodes.iter().map(of).collect()
    }
}

/// A free port; the Cluster's own connections use the one ten thousand above.
fn port() -> Outcome<u16> {
    loop {
        let port = fastrand::u16(11_000..30_000);
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return Ok(port);
        }
    }
}
