//! The same work beside few and many other jobs, each time on a new Redis: its cost must not grow
//! with the queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use redis::aio::MultiplexedConnection;
use rocket_jobqueue::{Draft, JobQueue, JobState, QueueName, Timestamp, inspect::Page};
use serde_json::json;

use crate::app::{self, Noop, Notes, Work};
use crate::site::Site;
use crate::{Outcome, fill};

/// Jobs that are enqueued and run beside the others.
const WORK: u64 = 20_000;
const CALLERS: usize = 64;
const CONCURRENCY: usize = 100;
/// Microseconds from which a command of Redis counts as slow.
const SLOW: &str = "10000";

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    Waiting,
    Scheduled,
    Retrying,
    Archived,
    Completed,
    /// A worker that serves this many queues.
    Queues,
    /// This many groups with a job each.
    Groups,
    /// This many jobs due at the same instant, and new ones meanwhile.
    Due,
    /// Bytes of Redis memory per job.
    Memory,
}

#[derive(Args)]
pub struct Options {
    /// The kind of load that grows [default: all]
    #[arg(long, value_enum)]
    kind: Vec<Kind>,
    /// The two sizes [default: 1000,1000000; for queues 1,1000; for groups 1000,100000]
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<u64>,
    /// One JSON line for each measurement.
    #[arg(long)]
    json: bool,
}

/// What is measured at one size.
struct Row {
    enqueued_per_s: f64,
    drained_per_s: f64,
    slowest_page_ms: f64,
    slow_commands: u64,
}

pub async fn growth(options: &Options) -> Outcome<()> {
    let all = [
        Kind::Waiting,
        Kind::Scheduled,
        Kind::Retrying,
        Kind::Archived,
        Kind::Completed,
        Kind::Queues,
        Kind::Groups,
        Kind::Due,
        Kind::Memory,
    ];
    if !matches!(options.sizes.len(), 0 | 2) {
        let found = options.sizes.len();
        return Err(format!("--sizes: expected two numbers, found {found}").into());
    }
    let kinds = if options.kind.is_empty() { &all[..] } else { &options.kind[..] };
    for &kind in kinds {
        let sizes = match (&options.sizes[..], kind) {
            (&[few, many], _) => [few, many],
            (_, Kind::Queues) => [1, 1000],
            (_, Kind::Groups) => [1000, 100_000],
            _ => [1000, 1_000_000],
        };
        match kind {
            Kind::Due => due(sizes[1], options.json).await?,
            Kind::Memory => bytes_per_job(options.json).await?,
            _ => {
                let few = measure(kind, sizes[0]).await?;
                let many = measure(kind, sizes[1]).await?;
                show(kind, sizes, &few, &many, options.json);
            }
        }
    }
    Ok(())
}

fn name(kind: Kind) -> String {
    kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn show(kind: Kind, sizes: [u64; 2], few: &Row, many: &Row, json: bool) {
    let ratio = |of: fn(&Row) -> f64| of(many) / of(few);
    if json {
        for (size, row) in sizes.iter().zip([few, many]) {
            let line = json!({
                "scenario": "growth", "kind": name(kind), "size": size,
                "enqueued_per_s": row.enqueued_per_s, "drained_per_s": row.drained_per_s,
                "slowest_page_ms": row.slowest_page_ms, "slow_commands": row.slow_commands,
            });
            println!("{line}");
        }
        return;
    }
    println!(
        "{:<10} {:>10} {:>12} {:>12} {:>14} {:>14}",
        name(kind),
        "",
        "enqueue/s",
        "drain/s",
        "slowest page",
        "over 10 ms"
    );
    for (size, row) in sizes.iter().zip([few, many]) {
        println!(
            "{:<10} {size:>10} {:>12.0} {:>12.0} {:>11.1} ms {:>14}",
            "", row.enqueued_per_s, row.drained_per_s, row.slowest_page_ms, row.slow_commands
        );
    }
    println!(
        "{:<10} {:>10} {:>12.2} {:>12.2}",
        "",
        "ratio",
        ratio(|row| row.enqueued_per_s),
        ratio(|row| row.drained_per_s)
    );
}

async fn measure(kind: Kind, size: u64) -> Outcome<Row> {
    let mut site = Site::open(None, false, 0.0).await?;
    let producer = app::producer(&site).await?;
    let queue = app::queue(&producer)?;
    let queues = if kind == Kind::Queues { size } else { 1 };
    prepare(kind, size, &mut site, &queue).await?;
    watch(&mut site).await?;

    let took = if queues > 1 {
        spread(&queue, queues).await?
    } else {
        fill::single(&queue, WORK, CALLERS).await?
    };
    let enqueued_per_s = WORK as f64 / took.as_secs_f64();
    let slowest_page_ms = pages(kind, &queue).await?;

    let notes = Notes::of(WORK, Work::Nothing);
    let names =
        (0..queues).map(|n| (if n == 0 { "default".to_owned() } else { format!("q{n}") }, 1));
    let worker =
        app::worker_of(&site, CONCURRENCY, names.collect::<HashMap<_, _>>(), &notes).await?;
    // With others pending before them, as many of these are measured.
    notes.wait_for(WORK.min(notes.ended() + WORK), "drain").await?;
    let drained_per_s = WORK as f64 / notes.since_first().as_secs_f64();
    let slow_commands = slow(&mut site).await?;
    worker.terminate().await;
    producer.terminate().await;
    Ok(Row { enqueued_per_s, drained_per_s, slowest_page_ms, slow_commands })
}

/// Resets the count of slow commands.
pub async fn watch(site: &mut Site) -> Outcome<()> {
    let connection = &mut site.connection;
    redis::cmd("CONFIG")
        .arg(&["SET", "slowlog-log-slower-than", SLOW])
        .query_async::<()>(connection)
        .await?;
    redis::cmd("SLOWLOG").arg("RESET").query_async::<()>(connection).await?;
    Ok(())
}

/// The number of slow commands; each is printed to standard error.
pub async fn slow(site: &mut Site) -> Outcome<u64> {
    // Arguments are bytes: keys, messages and scripts, some of them truncated.
    type Entry = (u64, u64, u64, Vec<Vec<u8>>, String, String);
    let found: Vec<Entry> =
        redis::cmd("SLOWLOG").arg(&["GET", "128"]).query_async(&mut site.connection).await?;
    for (.., micros, words, _, _) in &found {
        let shown = |word: &Vec<u8>| -> String {
            String::from_utf8_lossy(word).escape_debug().take(60).collect()
        };
        let words: Vec<String> = words.iter().take(4).map(shown).collect();
        eprintln!("{:.1} ms: {}", *micros as f64 / 1e3, words.join(" "));
    }
    Ok(found.len() as u64)
}

/// Jobs spread over many queues.
async fn spread(queue: &JobQueue, queues: u64) -> Outcome<Duration> {
    let began = Instant::now();
    for first in (0..WORK).step_by(1000) {
        let jobs = (first..first + 1000).map(|n| {
            let draft = Draft::new(Noop::new(n));
            if n % queues == 0 { draft } else { draft.queue(format!("q{}", n % queues)) }
        });
        for stored in queue.enqueue_all(jobs).await {
            stored?;
        }
    }
    Ok(began.elapsed())
}

/// A number that none of the measured jobs has, so that these jobs are counted apart.
fn other(n: u64) -> u64 {
    n + 1_000_000_000
}

async fn prepare(kind: Kind, size: u64, site: &mut Site, queue: &JobQueue) -> Outcome<()> {
    match kind {
        Kind::Waiting => {
            // They run too, before anything of the others is measured. In another queue they would not
            // be in the way at all.
            let draft = |n| Draft::new(Noop::new(other(n)));
            fill::bulk(queue, size, fill::BATCH, 2, draft).await?;
        }
        Kind::Scheduled => {
            fill::bulk(queue, size, fill::BATCH, 2, fill::due_tomorrow).await?;
        }
        Kind::Groups => {
            let draft = |n| Draft::new(Noop::new(other(n))).group(format!("group {n}"));
            fill::bulk(queue, size, fill::BATCH, 2, draft).await?;
        }
        Kind::Retrying => put(&mut site.connection, "retry", size, 86_400).await?,
        Kind::Archived => put(&mut site.connection, "archived", size, 0).await?,
        Kind::Completed => put(&mut site.connection, "completed", size, 86_400).await?,
        Kind::Queues | Kind::Due | Kind::Memory => {}
    }
    Ok(())
}

/// Writes jobs of a state as Asynq stores them: none of our calls makes so many of these.
pub async fn put(
    connection: &mut MultiplexedConnection,
    state: &str,
    size: u64,
    ahead: i64,
) -> Outcome<()> {
    let score = app::now() / 1_000_000 + ahead;
    for first in (0..size).step_by(5_000) {
        let mut pipe = redis::pipe();
        for n in first..(first + 5_000).min(size) {
            let id = format!("00000000-0000-4000-8000-{n:012}");
            let key = format!("asynq:{{default}}:t:{id}");
            pipe.cmd("HSET").arg(key).arg(&["state", state, "msg"]).arg(message(&id)).ignore();
            pipe.cmd("ZADD").arg(format!("asynq:{{default}}:{state}")).arg(score).arg(id).ignore();
        }
        pipe.query_async::<()>(connection).await?;
    }
    Ok(())
}

/// A message of Asynq with type, payload, id, queue and 25 retries.
fn message(id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, text) in
        [(0x0a, "noop"), (0x12, r#"{"n":1000000000}"#), (0x1a, id), (0x22, "default")]
    {
        bytes.extend([tag, text.len() as u8]);
        bytes.extend(text.as_bytes());
    }
    bytes.extend([0x28, 25]);
    bytes
}

/// The slowest read of an inspector, in milliseconds.
async fn pages(kind: Kind, queue: &JobQueue) -> Outcome<f64> {
    let (inspector, name) = (queue.inspector(), QueueName::new("default")?);
    let mut slowest = Duration::ZERO;
    let mut began = Instant::now();
    let mut note = || {
        slowest = slowest.max(began.elapsed());
        began = Instant::now();
        slowest
    };
    inspector.queues().await?;
    note();
    inspector.queue(&name).await?;
    note();
    inspector.history(&name, 90).await?;
    note();
    if kind == Kind::Groups {
        inspector.groups(&name, &Page::default().size(100)?).await?;
    }
    let states = [
        JobState::Pending,
        JobState::Scheduled,
        JobState::Retry,
        JobState::Archived,
        JobState::Completed,
    ];
    for state in states {
        let mut page = Page::default().size(100)?;
        for _ in 0..10 {
            let found = inspector.jobs(&name, state, &page).await?;
            note();
            let Some(next) = found.next else { break };
            page = Page::after(next).size(100)?;
        }
    }
    Ok(note().as_secs_f64() * 1e3)
}

/// Many jobs due at one instant; new ones must start meanwhile.
async fn due(size: u64, json: bool) -> Outcome<()> {
    let mut site = Site::open(None, false, 0.0).await?;
    let fresh = 200;
    let notes = Notes::of(fresh, Work::Nothing);
    let worker = app::worker(&site, CONCURRENCY, &notes).await?;
    let queue = app::queue(&worker)?;
    // Long enough to store them all.
    let instant = app::now() + 20_000_000 + size as i64 * 20;
    let drafts = move |first: u64| {
        let at = Timestamp::from_micros(instant);
        (first..first + fill::BATCH).map(move |n| Draft::new(Noop::new(other(n))).at(at))
    };
    for first in (0..size).step_by(fill::BATCH as usize) {
        for stored in queue.enqueue_all(drafts(first)).await {
            stored?;
        }
    }
    let early = app::now() < instant;
    watch(&mut site).await?;
    let ahead = Duration::from_micros((instant - app::now()).max(0).unsigned_abs());
    tokio::time::sleep(ahead + Duration::from_millis(50)).await;
    let mut calls = Vec::new();
    for n in 0..fresh {
        queue.enqueue(Noop::new(n)).await?;
        calls.push(app::now());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let waited = Arc::new(calls);
    notes.wait_for(size + fresh, "due").await?;
    let took = (app::now() - instant) as f64 / 1e6;
    let mut each: Vec<f64> =
        (0..fresh).map(|n| (notes.began(n) - waited[n as usize]) as f64 / 1e3).collect();
    each.sort_unstable_by(f64::total_cmp);
    let (p50, p99) = (each[each.len() / 2], each[each.len() * 99 / 100]);
    let (slow_commands, rate) = (slow(&mut site).await?, size as f64 / took);
    worker.terminate().await;
    if !early {
        return Err("expected all jobs to be stored before they were due".into());
    }
    if json {
        let line = json!({
            "scenario": "growth", "kind": "due", "size": size, "jobs_per_s": rate,
            "fresh_p50_ms": p50, "fresh_p99_ms": p99, "slow_commands": slow_commands,
        });
        println!("{line}");
    } else {
        println!(
            "due        {size} at one instant: {rate:.0} run/s; fresh jobs start after p50 {p50:.1} ms, p99 {p99:.1} ms; {slow_commands} commands over 10 ms"
        );
    }
    Ok(())
}

/// Bytes of Redis memory per job with a payload of 20 bytes.
async fn bytes_per_job(json: bool) -> Outcome<()> {
    const JOBS: u64 = 100_000;
    // {"n":1000000000000}: 19 bytes, and one more from 10^13 on.
    let now = |n: u64| Draft::new(Noop::new(10_000_000_000_000 + n));
    let later =
        |n| Draft::new(Noop::new(10_000_000_000_000 + n)).delay(Duration::from_secs(86_400));
    for (state, draft) in [("pending", now as fn(u64) -> Draft), ("scheduled", later)] {
        let mut site = Site::open(None, false, 0.0).await?;
        let producer = app::producer(&site).await?;
        let before = site.info("memory", "used_memory").await?;
        fill::bulk(&app::queue(&producer)?, JOBS, fill::BATCH, 2, draft).await?;
        let bytes = (site.info("memory", "used_memory").await? - before) / JOBS as f64;
        producer.terminate().await;
        if json {
            println!(
                "{}",
                json!({ "scenario": "growth", "kind": "memory", "state": state, "bytes_per_job": bytes })
            );
        } else {
            println!("memory     {state}: {bytes:.0} bytes of Redis for each job");
        }
    }
    Ok(())
}
