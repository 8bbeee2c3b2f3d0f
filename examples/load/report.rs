//! The result of a scenario, for people and for programs.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::Outcome;

/// One line of JSON. All names are always present; those without a meaning are null.
#[derive(Serialize)]
pub struct Report {
    scenario: String,
    jobs: u64,
    concurrency: usize,
    jobs_per_s: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
    min_ms: Option<f64>,
    pub cpu_s_per_10k: Option<f64>,
    pub redis_cpu_s_per_10k: Option<f64>,
    pub peak_rss_mib: Option<f64>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl Report {
    pub fn new(scenario: &str, jobs: u64, concurrency: usize) -> Self {
        Self {
            scenario: scenario.to_owned(),
            jobs,
            concurrency,
            jobs_per_s: None,
            p50_ms: None,
            p99_ms: None,
            max_ms: None,
            min_ms: None,
            cpu_s_per_10k: None,
            redis_cpu_s_per_10k: None,
            peak_rss_mib: None,
            more: Map::new(),
        }
    }

    /// The time that all jobs took together.
    pub fn took(mut self, took: Duration) -> Self {
        self.jobs_per_s = Some(self.jobs as f64 / took.as_secs_f64());
        self.with("seconds", took.as_secs_f64())
    }

    /// The milliseconds of each job.
    pub fn spread(mut self, mut each: Vec<f64>) -> Self {
        each.sort_unstable_by(f64::total_cmp);
        (self.min_ms, self.max_ms) = (each.first().copied(), each.last().copied());
        (self.p50_ms, self.p99_ms) = (part(&each, 0.5), part(&each, 0.99));
        self
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    pub fn jobs_per_s(&self) -> f64 {
        self.jobs_per_s.unwrap_or(0.0)
    }

    pub fn print(&self, json: bool) -> Outcome<()> {
        let mut out = std::io::stdout().lock();
        if json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
            return Ok(out.flush()?);
        }
        writeln!(out, "{}: {} jobs, concurrency {}", self.scenario, self.jobs, self.concurrency)?;
        let rows = [
            ("jobs/s", self.jobs_per_s, 0),
            ("min ms", self.min_ms, 3),
            ("p50 ms", self.p50_ms, 3),
            ("p99 ms", self.p99_ms, 3),
            ("max ms", self.max_ms, 3),
            ("CPU s per 10,000 jobs", self.cpu_s_per_10k, 3),
            ("Redis CPU s per 10,000", self.redis_cpu_s_per_10k, 3),
            ("peak memory MiB", self.peak_rss_mib, 1),
        ];
        for (name, value, digits) in rows {
            if let Some(value) = value {
                writeln!(out, "  {name:<24}{value:>14.digits$}")?;
            }
        }
        for (name, value) in &self.more {
            match value.as_f64() {
                Some(number) if number.fract() != 0.0 => {
                    writeln!(out, "  {name:<24}{number:>14.3}")?
                }
                _ => writeln!(out, "  {name:<24}{:>14}", value.to_string())?,
            }
        }
        Ok(out.flush()?)
    }
}

/// The percentile of sorted values.
pub fn part(sorted: &[f64], part: f64) -> Option<f64> {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied()
}
