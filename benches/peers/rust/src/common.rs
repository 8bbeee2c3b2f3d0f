//! What every peer in Rust has: its options, the measurement, and the line that it prints. The crate
//! `azums` includes this file too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;

pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Scenario {
    EnqueueOne,
    EnqueueConcurrent,
    EnqueueBulk,
    Drain,
    Latency,
    Delay,
}

#[derive(Args)]
pub struct Options {
    #[arg(value_enum)]
    pub scenario: Scenario,
    #[arg(long, default_value = "redis://127.0.0.1:6379")]
    pub redis: String,
    #[arg(long, default_value_t = 50_000)]
    pub jobs: usize,
    #[arg(long, default_value_t = 10)]
    pub concurrency: usize,
    #[arg(long, default_value_t = 1000)]
    pub batch: usize,
    /// Milliseconds that each handler sleeps.
    #[arg(long, default_value_t = 0.0)]
    pub sleep_ms: f64,
}

/// What came of a scenario.
pub enum Measured {
    /// How long all jobs took together.
    Took(Duration),
    /// The milliseconds of each job.
    Each(Vec<f64>),
}

/// CPU seconds of this process.
fn own_cpu() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("stat")?.1.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// CPU seconds of Redis; none without one. Peers bring different versions of the crate `redis`, so
/// this needs none.
fn redis_cpu(url: &str) -> Outcome<Option<f64>> {
    let Some(address) = url.strip_prefix("redis://") else { return Ok(None) };
    let mut stream = TcpStream::connect(address.split('/').next().unwrap_or(address))?;
    stream.write_all(b"INFO cpu\r\n")?;
    let mut text = String::new();
    let mut some = [0; 4096];
    while !text.contains("used_cpu_user_children") {
        let read = stream.read(&mut some)?;
        if read == 0 {
            return Err("INFO cpu: the connection was closed".into());
        }
        text.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    let of =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
    let (user, system) = (of("used_cpu_user:"), of("used_cpu_sys:"));
    Ok(Some(user.ok_or("used_cpu_user")? + system.ok_or("used_cpu_sys")?))
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
    redis: Option<f64>,
    began: Instant,
}

impl Meter {
    /// `store` is where the jobs are: only a Redis is asked for its CPU time.
    pub fn begin(store: &str) -> Outcome<Self> {
        Ok(Self { own: own_cpu()?, redis: redis_cpu(store)?, began: Instant::now() })
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Prints the line of JSON.
    pub fn end(self, options: &Options, store: &str, measured: Measured) -> Outcome<()> {
        let per = 1e4 / options.jobs as f64;
        let (mut rate, mut each) = (None, Vec::new());
        match measured {
            Measured::Took(took) => rate = Some(options.jobs as f64 / took.as_secs_f64()),
            Measured::Each(all) => each = all,
        }
        each.sort_unstable_by(f64::total_cmp);
        let part = |part: f64| {
            let at = (each.len() as f64 * part) as usize;
            each.get(at.min(each.len().saturating_sub(1))).copied()
        };
        let redis = redis_cpu(store)?.zip(self.redis).map(|(now, then)| (now - then) * per);
        let line = json!({
            "scenario": options.scenario.to_possible_value().map(|v| v.get_name().to_owned()),
            "jobs": options.jobs,
            "concurrency": options.concurrency,
            "jobs_per_s": rate,
            "p50_ms": part(0.5),
            "p99_ms": part(0.99),
            "max_ms": part(1.0),
            "min_ms": part(0.0),
            "cpu_s_per_10k": (own_cpu()? - self.own) * per,
            "redis_cpu_s_per_10k": redis,
            "peak_rss_mib": peak_rss()?,
        });
        println!("{line}");
        Ok(())
    }
}
