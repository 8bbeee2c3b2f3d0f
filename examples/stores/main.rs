//! What the stores of one process cost: jobs a second in memory and on disk, and how long a folder
//! with many waiting jobs takes to open. Beside them, in the same run: the sync rate of the disk,
//! SQLite and Redis, which sync before they answer too.
//!
//! ```sh
//! cargo run --release --example stores                     # below the temporary folder
//! cargo run --release --example stores -- /var/lib/jobs    # on that disk
//! cargo run --release --example stores -- /var/lib/jobs 1000000
//! cargo run --release --example stores -- --only always,open /var/lib/jobs
//! cargo run --release --example stores -- --json --only memory /var/lib/jobs
//! ```
//!
//! `--only` names parts: `memory`, `everysec`, `always`, `sqlite`, `redis`, `open`. SQLite
//! needs `python3`, Redis `redis-server`; without the program its lines are left out. `--json`
//! prints the lines of the stores as `scripts/bench-peers.sh` reads them.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod others;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rocket::local::asynchronous::Client;
use rocket::tokio;
use rocket_jobqueue::{Draft, Job, JobError, JobQueue, JobQueueFairing, QueueName};
use serde::{Deserialize, Serialize};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long a line of the table is measured.
const STRETCH: Duration = Duration::from_secs(3);

/// Jobs of one call in bulk.
const BATCH: u64 = 1000;

/// Jobs that a worker drains, and how often: single drains differ.
const DRAINED: u64 = 60_000;
const DRAINS: usize = 3;

static RAN: AtomicU64 = AtomicU64::new(0);

#[derive(Serialize, Deserialize)]
struct Noop {
    n: u64,
}

impl Job for Noop {
    const TYPE: &'static str = "noop";
}

async fn noop(_: Noop) -> Result<(), JobError> {
    RAN.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Whether programs read the lines.
static JSON: AtomicBool = AtomicBool::new(false);

/// One line of the table.
fn say(store: &str, what: &str, per_second: f64) {
    if JSON.load(Ordering::Relaxed) {
        let line = match what {
            "one caller" => "one",
            "64 callers" => "64",
            "bulk of 1,000" => "bulk",
            "drain c=10" => "drain-10",
            "drain c=100" => "drain-100",
            _ => return,
        };
        let peer = format!("ours-{}", store.replace("disk, ", "disk-"));
        let line = format!("embedded-{line}");
        println!("{}", serde_json::json!({ "line": line, "peer": peer, "jobs_per_s": per_second }));
        return;
    }
    println!("{store:<16} {what:<18} {per_second:>10.0} /s");
}

/// An application with this store.
async fn start(store: JobQueueFairing, concurrency: Option<usize>) -> Outcome<(Client, JobQueue)> {
    let worker = concurrency.is_some();
    let store = store.set("jobqueue.worker", worker).set("jobqueue.log_to_stderr", false);
    let store = store.set("jobqueue.concurrency", concurrency.unwrap_or(1)).handle(noop);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let store = store.set("jobqueue.allow_memory_in_release", true);
    let client = Client::untracked(rocket::custom(figment).attach(store)).await;
    let client = client.map_err(|error| error.to_string())?;
    let queue = client.rocket().state::<JobQueue>().cloned().ok_or("the queue is attached")?;
    Ok((client, queue))
}

/// Enqueues with some callers until the stretch is over; jobs a second.
async fn enqueue(queue: &JobQueue, callers: usize, batch: u64) -> Outcome<f64> {
    let (began, count) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let callers = (0..callers).map(|_| {
        let (queue, count) = (queue.clone(), Arc::clone(&count));
        tokio::spawn(async move {
            while began.elapsed() < STRETCH {
                if batch == 1 {
                    queue.enqueue(Noop { n: 1 }).await?;
                } else {
                    let drafts = (0..batch).map(|n| Draft::new(Noop { n }));
                    for stored in queue.enqueue_all(drafts).await {
                        stored?;
                    }
                }
                count.fetch_add(batch, Ordering::Relaxed);
            }
            Ok::<_, rocket_jobqueue::Error>(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    Ok(count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}

/// The lines of one store. `open` makes it, empty, for each line.
async fn measure(name: &str, open: impl Fn(usize) -> JobQueueFairing) -> Outcome<()> {
    for (line, (what, callers, batch)) in
        [("one caller", 1, 1), ("64 callers", 64, 1), ("bulk of 1,000", 4, BATCH)]
            .into_iter()
            .enumerate()
    {
        let (client, queue) = start(open(line), None).await?;
        say(name, what, enqueue(&queue, callers, batch).await?);
        client.terminate().await;
    }
    for (line, concurrency) in [(3, 10), (4, 100)] {
        let (client, queue) = start(open(line), Some(concurrency)).await?;
        for _ in 0..DRAINS {
            say(name, &format!("drain c={concurrency}"), drain(&queue).await?);
        }
        client.terminate().await;
    }
    Ok(())
}

/// Lets a worker run what waited; jobs a second.
async fn drain(queue: &JobQueue) -> Outcome<f64> {
    let name = QueueName::new("default")?;
    queue.inspector().pause(&name).await?;
    fill(queue, DRAINED).await?;
    RAN.store(0, Ordering::Relaxed);
    let began = Instant::now();
    queue.inspector().resume(&name).await?;
    while RAN.load(Ordering::Relaxed) < DRAINED {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(DRAINED as f64 / began.elapsed().as_secs_f64())
}

/// Enqueues jobs in bulk.
async fn fill(queue: &JobQueue, jobs: u64) -> Outcome<()> {
    for n in 0..jobs / BATCH {
        let drafts = (0..BATCH).map(|i| Draft::new(Noop { n: n * BATCH + i }));
        for stored in queue.enqueue_all(drafts).await {
            stored?;
        }
    }
    Ok(())
}

/// Appends and syncs of 200 bytes by one thread.
fn syncs(folder: &Path) -> Outcome<f64> {
    let mut file = File::create(folder.join("syncs"))?;
    let (began, mut count) = (Instant::now(), 0u32);
    while began.elapsed() < STRETCH {
        file.write_all(&[7; 200])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// Fills a folder with this many waiting jobs, and opens it in a process of its own.
async fn reopen(folder: &Path, jobs: u64) -> Outcome<()> {
    let (client, queue) = start(store(folder), None).await?;
    fill(&queue, jobs).await?;
    drop(queue);
    client.terminate().await;
    println!("{} bytes a waiting job on disk", size(folder)? / jobs.max(1));
    let opened = Command::new(std::env::current_exe()?).arg(OPEN).arg(folder).status()?;
    opened.success().then_some(()).ok_or_else(|| "the folder does not open".into())
}

fn store(folder: &Path) -> JobQueueFairing {
    JobQueue::fairing().disk(folder).set("jobqueue.durability", "everysec")
}

/// The word by which a process is told to open a folder.
const OPEN: &str = "--open";

async fn open(folder: &Path) -> Outcome<()> {
    let began = Instant::now();
    let (client, queue) = start(store(folder), None).await?;
    let took = began.elapsed();
    let found = queue.inspector().queue(&QueueName::new("default")?).await?.size;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?");
        line.trim().to_owned()
    };
    println!(
        "{found} waiting jobs open in {took:.2?}: resident memory {}, at most {}",
        line("VmRSS:"),
        line("VmHWM:")
    );
    client.terminate().await;
    Ok(())
}

fn size(folder: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.metadata()?;
        // Journals are as long as they may get, but only what is written takes room.
        bytes += if found.is_dir() { size(&entry.path())? } else { found.blocks() * 512 };
    }
    Ok(bytes)
}

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(std::env::args().skip(1)))
}

async fn run(mut words: impl Iterator<Item = String>) -> Outcome<()> {
    let mut first = words.next();
    if first.as_deref() == Some(OPEN) {
        return open(Path::new(&words.next().ok_or("expected a folder")?)).await;
    }
    if first.as_deref() == Some("--json") {
        JSON.store(true, Ordering::Relaxed);
        first = words.next();
    }
    let mut only = None;
    if first.as_deref() == Some("--only") {
        only = words.next();
        first = words.next();
    }
    let is_wanted =
        |part: &str| only.as_ref().is_none_or(|only| only.split(',').any(|word| word == part));
    let parent = first.map_or_else(std::env::temp_dir, Into::into);
    let jobs = words.next().map_or(Ok(100_000), |jobs| jobs.parse())?;
    fs::create_dir_all(&parent)?;
    let folder = tempfile::tempdir_in(parent)?;
    if is_wanted("memory") {
        measure("memory", |_| JobQueue::fairing().memory()).await?;
    }
    for durability in ["everysec", "always"] {
        let open = |line: usize| {
            let path = folder.path().join(format!("{durability}-{line}"));
            JobQueue::fairing().disk(path).set("jobqueue.durability", durability)
        };
        if is_wanted(durability) {
            // Its rate changes by the minute.
            say("the disk itself", "write and sync", syncs(folder.path())?);
            measure(&format!("disk, {durability}"), open).await?;
        }
    }
    say("the disk itself", "write and sync", syncs(folder.path())?);
    if is_wanted("sqlite") {
        others::sqlite(folder.path())?;
    }
    if is_wanted("redis") {
        others::redis(folder.path()).await?;
    }
    if is_wanted("open") {
        reopen(&folder.path().join("many"), jobs).await?;
    }
    Ok(())
}
