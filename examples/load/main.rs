//! The load driver: throughput, lateness, and how both change with the size of the queue. It starts
//! a Redis of its own unless it is given one, and prints a table, or one JSON line with `--json`.
//!
//! ```sh
//! cargo run --release --example load -- enqueue-one --jobs 20000
//! cargo run --release --example load -- enqueue-concurrent --concurrency 64
//! cargo run --release --example load -- enqueue-bulk --concurrency 2 --batch 1000
//! cargo run --release --example load -- drain --concurrency 100 --redis redis://localhost:6379
//! cargo run --release --example load -- drain --no-fill --redis redis://localhost:6379
//! cargo run --release --example load -- drain --sleep-ms 10 --concurrency 1000
//! cargo run --release --example load -- latency
//! cargo run --release --example load -- delay --others 100000 --split
//! cargo run --release --example load -- delay --retry
//! cargo run --release --example load -- http --concurrency 32
//! cargo run --release --example load -- mixed --concurrency 50
//! cargo run --release --example load -- beside pages
//! cargo run --release --example load -- growth --kind waiting
//! cargo run --release --example load -- scale --share 15
//! cargo run --release --example load -- soak --jobs 5000000
//! ```
//!
//! It uses the queue `default`, which must be empty, and leaves nothing behind.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod app;
mod beside;
mod delay;
mod drain;
mod enqueue;
mod fill;
mod growth;
mod http;
mod latency;
mod meter;
mod mixed;
mod nap;
mod pages;
mod proxy;
mod report;
mod scale;
mod share;
mod site;
mod soak;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use site::Site;

/// An error of the driver: a sentence for the person who runs it.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Drives load against the job queue and measures it.
#[derive(Parser)]
#[command(name = "load", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// One caller enqueues one job after another.
    EnqueueOne(Common),
    /// Many callers, each with one job at a time.
    EnqueueConcurrent(Common),
    /// Batches of jobs, a few producers at a time.
    EnqueueBulk {
        #[command(flatten)]
        common: Common,
        /// Jobs per call.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
        batch: u64,
    },
    /// A worker runs all jobs of a queue.
    Drain {
        #[command(flatten)]
        common: Common,
        /// Run the jobs that are in the queue (type `noop`, payload `{"n":i}`) instead of filling it.
        #[arg(long)]
        no_fill: bool,
        /// Milliseconds that each handler sleeps.
        #[arg(long, default_value_t = 0.0, conflicts_with = "spin_us")]
        sleep_ms: f64,
        /// Microseconds of CPU that each handler uses.
        #[arg(long, default_value_t = 0)]
        spin_us: u64,
    },
    /// One job every 50 ms for an idle worker: from enqueue returned to handler started.
    Latency {
        #[command(flatten)]
        common: Common,
        /// Enqueue from a process of its own.
        #[arg(long)]
        split: bool,
    },
    /// Jobs due at random instants 1 to 6 s ahead: from due to started.
    Delay {
        #[command(flatten)]
        common: Common,
        /// Enqueue from a process of its own.
        #[arg(long, conflicts_with_all = ["retry", "by"])]
        split: bool,
        /// Another program enqueues them, called as `PROGRAM schedule --redis URL --jobs N`. That of
        /// benches/peers/go uses Asynq's client.
        #[arg(long, value_name = "PROGRAM", conflicts_with = "retry")]
        by: Option<std::path::PathBuf>,
        /// Number of other jobs that are scheduled for tomorrow.
        #[arg(long, default_value_t = 0)]
        others: u64,
        /// Measure the retries of failed jobs instead.
        #[arg(long)]
        retry: bool,
    },
    /// `POST /register` against a server in a process of its own.
    Http {
        #[command(flatten)]
        common: Common,
        /// A bare Rocket route that runs one script, to compare with.
        #[arg(long)]
        bare: bool,
    },
    /// Producers and a worker at the same time; 5 % of the jobs fail once.
    Mixed(Common),
    /// The same work beside 1,000 and 1,000,000 other jobs, on a new Redis.
    Growth(growth::Options),
    /// The dashboard's pages beside a million jobs, on a new Redis.
    Pages(pages::Options),
    /// The application's own enqueues and worker beside viewers who overload the pages.
    Beside(beside::Options),
    /// Queues over the slots of Clusters of one, two and three masters, each held to a share of a core.
    Scale(scale::Options),
    /// Enqueues and runs jobs for a long time, and watches the memory of the process.
    Soak(Common),
    #[command(hide = true)]
    Host(beside::HostOptions),
    #[command(hide = true)]
    Ask(beside::Ask),
    #[command(hide = true)]
    Proxy(proxy::Alone),
    #[command(hide = true)]
    Serve(http::Serve),
    #[command(hide = true)]
    Produce(latency::Produce),
}

/// Options of every scenario.
#[derive(Args, Clone)]
pub struct Common {
    /// `redis://host:port[/db]`; without it the driver starts a `redis-server` of its own.
    #[arg(long)]
    redis: Option<String>,
    /// Number of jobs [default: 50000; 200 for latency and delay]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    jobs: Option<u64>,
    /// Concurrent callers or jobs [default: 10; 2 for enqueue-bulk]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    concurrency: Option<u64>,
    /// One JSON line on standard output, and nothing else.
    #[arg(long)]
    json: bool,
    /// The driver's own Redis writes an append-only file, synced every second.
    #[arg(long, conflicts_with = "redis")]
    aof: bool,
    /// Milliseconds to add to each round trip to Redis.
    #[arg(long, default_value_t = 0.0)]
    rtt_ms: f64,
}

impl Common {
    fn jobs(&self, default: u64) -> u64 {
        self.jobs.unwrap_or(default)
    }

    fn concurrency(&self, default: u64) -> usize {
        self.concurrency.unwrap_or(default) as usize
    }

    /// A Redis with any contents.
    async fn full_site(&self) -> Outcome<Site> {
        Site::open(self.redis.as_deref(), self.aof, self.rtt_ms).await
    }

    /// A Redis whose queue is empty.
    async fn site(&self) -> Outcome<Site> {
        let mut site = self.full_site().await?;
        site.expect_empty().await?;
        Ok(site)
    }
}

async fn run(scenario: Scenario) -> Outcome<()> {
    let json = |common: &Common| common.json;
    let (report, json) = match scenario {
        Scenario::EnqueueOne(common) => (enqueue::one(&common).await?, json(&common)),
        Scenario::EnqueueConcurrent(common) => (enqueue::concurrent(&common).await?, json(&common)),
        Scenario::EnqueueBulk { common, batch } => {
            (enqueue::bulk(&common, batch).await?, json(&common))
        }
        Scenario::Drain { common, no_fill, sleep_ms, spin_us } => {
            let work = match spin_us {
                0 => app::Work::sleep(sleep_ms)?,
                spin => app::Work::Spin(Duration::from_micros(spin)),
            };
            (drain::drain(&common, no_fill, work).await?, json(&common))
        }
        Scenario::Latency { common, split } => {
            (latency::latency(&common, split).await?, json(&common))
        }
        Scenario::Delay { common, split, by, others, retry } => {
            let from = match &by {
                Some(program) => delay::From::Program(program),
                None if split => delay::From::Apart,
                None if retry => delay::From::Failure,
                None => delay::From::Here,
            };
            (delay::delay(&common, from, others).await?, json(&common))
        }
        Scenario::Http { common, bare } => (http::http(&common, bare).await?, json(&common)),
        Scenario::Mixed(common) => (mixed::mixed(&common).await?, json(&common)),
        Scenario::Soak(common) => (soak::soak(&common).await?, json(&common)),
        Scenario::Growth(options) => return growth::growth(&options).await,
        Scenario::Scale(options) => return scale::scale(&options).await,
        Scenario::Pages(options) => return pages::pages(&options).await,
        Scenario::Beside(options) => return beside::beside(&options).await,
        Scenario::Host(options) => return beside::host(&options).await,
        Scenario::Ask(options) => return beside::ask(&options).await,
        Scenario::Proxy(options) => return proxy::alone(&options),
        Scenario::Serve(serve) => return http::serve(&serve).await,
        Scenario::Produce(produce) => return latency::produce(&produce).await,
    };
    report.print(json)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("load: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    // In a task, like the code of an application: the main thread is not one of the runtime's, and
    // each await there would switch threads.
    let outcome = runtime.block_on(runtime.spawn(run(cli.scenario)));
    match outcome.unwrap_or_else(|error| Err(error.into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}
