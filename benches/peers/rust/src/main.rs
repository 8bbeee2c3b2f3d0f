//! Peers in Rust under the same load as `cargo run --example load`: one JSON line on
//! standard output. See ../README.md.

mod apalis_peer;
mod bare;

use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use redis::aio::MultiplexedConnection;
use serde_json::json;

pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Peer {
    /// apalis-redis.
    Apalis,
    /// What Redis itself allows with Asynq's data: no retries, time limits or leases that
    /// are extended.
    Bare,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Scenario {
    EnqueueOne,
    EnqueueConcurrent,
    EnqueueBulk,
    Drain,
}

#[derive(Parser)]
#[command(args_override_self = true)]
pub struct Options {
    #[arg(value_enum)]
    peer: Peer,
    #[arg(value_enum)]
    scenario: Scenario,
    #[arg(long, default_value = "redis://127.0.0.1:6379")]
    redis: String,
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    #[arg(long, default_value_t = 10)]
    concurrency: usize,
    #[arg(long, default_value_t = 1000)]
    batch: usize,
}

/// CPU seconds of this process.
fn own_cpu() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("stat")?.1.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

async fn redis_cpu(redis: &mut MultiplexedConnection) -> Outcome<f64> {
    let info: String = redis::cmd("INFO").arg("cpu").query_async(redis).await?;
    let of =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
    Ok(of("used_cpu_user:").unwrap_or(0.0) + of("used_cpu_sys:").unwrap_or(0.0))
}

fn peak_rss() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
    Ok(kib.ok_or("VmHWM")?.parse::<f64>()? / 1024.0)
}

/// What was used before the measured part.
pub struct Meter {
    own: f64,
    redis: f64,
    began: Instant,
}

impl Meter {
    pub async fn begin(redis: &mut MultiplexedConnection) -> Outcome<Self> {
        Ok(Self { own: own_cpu()?, redis: redis_cpu(redis).await?, began: Instant::now() })
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let options = Options::parse();
    let client = redis::Client::open(options.redis.as_str())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let (meter, took) = match options.peer {
        Peer::Apalis => apalis_peer::run(&options, &mut redis).await?,
        Peer::Bare => bare::run(&options, &mut redis).await?,
    };
    let per = 1e4 / options.jobs as f64;
    let line = json!({
        "scenario": options.scenario.to_possible_value().map(|v| v.get_name().to_owned()),
        "jobs": options.jobs,
        "concurrency": options.concurrency,
        "jobs_per_s": options.jobs as f64 / took.as_secs_f64(),
        "cpu_s_per_10k": (own_cpu()? - meter.own) * per,
        "redis_cpu_s_per_10k": (redis_cpu(&mut redis).await? - meter.redis) * per,
        "peak_rss_mib": peak_rss()?,
    });
    println!("{line}");
    // Workers of peers that know no end.
    std::process::exit(0)
}
