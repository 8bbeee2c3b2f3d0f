//! What the stores of one process cost: jobs a second in memory and on disk, the sync rate of
//! the disk beside it, and how long a folder with many waiting jobs takes to open.
//!
//! ```sh
//! cargo run --release --example stores                     # below the temporary folder
//! cargo run --release --example stores -- /var/lib/jobs    # on that disk
//! cargo run --release --example stores -- /var/lib/jobs 1000000
//! ```
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Jobs that a worker drains.
const DRAINED: u64 = 30_000;

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

/// One line of the table.
fn say(store: &str, what: &str, per_second: f64) {
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
        let store = open(line);
        let (client, queue) = start(store, Some(concurrency)).await?;
        let name_of_queue = QueueName::new("default")?;
        queue.inspector().pause(&name_of_queue).await?;
        for n in 0..DRAINED / BATCH {
            for stored in
                queue.enqueue_all((0..BATCH).map(|i| Draft::new(Noop { n: n * BATCH + i }))).await
            {
                stored?;
            }
        }
        RAN.store(0, Ordering::Relaxed);
        let began = Instant::now();
        queue.inspector().resume(&name_of_queue).await?;
        while RAN.load(Ordering::Relaxed) < DRAINED {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let what = format!("drain c={concurrency}");
        say(name, &what, DRAINED as f64 / began.elapsed().as_secs_f64());
        client.terminate().await;
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

/// Opens a folder with this many waiting jobs.
async fn reopen(folder: &Path, jobs: u64) -> Outcome<()> {
    let store = || JobQueue::fairing().disk(folder).set("jobqueue.durability", "everysec");
    let (client, queue) = start(store(), None).await?;
    for n in 0..jobs / BATCH {
        for stored in
            queue.enqueue_all((0..BATCH).map(|i| Draft::new(Noop { n: n * BATCH + i }))).await
        {
            stored?;
        }
    }
    drop(queue);
    client.terminate().await;
    let bytes = size(folder)?;
    let began = Instant::now();
    let (client, queue) = start(store(), None).await?;
    let took = began.elapsed();
    let found = queue.inspector().queue(&QueueName::new("default")?).await?.size;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("?");
    println!(
        "{found} waiting jobs open in {took:.2?}: {} bytes each on disk, resident memory {}",
        bytes / jobs.max(1),
        resident.trim()
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
    let parent = words.next().map_or_else(std::env::temp_dir, Into::into);
    let jobs = words.next().map_or(Ok(100_000), |jobs| jobs.parse())?;
    fs::create_dir_all(&parent)?;
    let folder = tempfile::tempdir_in(parent)?;
    say("the disk itself", "write and sync", syncs(folder.path())?);
    measure("memory", |_| JobQueue::fairing().memory()).await?;
    for durability in ["everysec", "always"] {
        let open = |line: usize| {
            let path = folder.path().join(format!("{durability}-{line}"));
            JobQueue::fairing().disk(path).set("jobqueue.durability", durability)
        };
        measure(&format!("disk, {durability}"), open).await?;
    }
    reopen(&folder.path().join("many"), jobs).await
}
