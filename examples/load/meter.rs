//! The cost of a stretch of work: CPU of this process, its children and Redis.

use crate::Outcome;
use crate::report::Report;
use crate::site::Site;

/// Clock ticks per second, in which Linux counts CPU time.
const TICKS: f64 = 100.0;

/// The start of a stretch.
pub struct Meter {
    own: f64,
    redis: f64,
}

impl Meter {
    pub async fn begin(site: &mut Site) -> Outcome<Self> {
        Ok(Self { own: cpu("self")?, redis: redis_cpu(site).await? })
    }

    /// The report on this many jobs, with the costs.
    pub async fn end(
        self,
        site: &mut Site,
        scenario: &str,
        jobs: u64,
        at: usize,
    ) -> Outcome<Report> {
        let per_10k = 1e4 / jobs as f64;
        let mut report = Report::new(scenario, jobs, at);
        report.cpu_s_per_10k = Some((cpu("self")? - self.own) * per_10k);
        report.redis_cpu_s_per_10k = Some((redis_cpu(site).await? - self.redis) * per_10k);
        report.peak_rss_mib = Some(memory("VmHWM")?);
        Ok(report)
    }
}

async fn redis_cpu(site: &mut Site) -> Outcome<f64> {
    Ok(site.info("cpu", "used_cpu_user").await? + site.info("cpu", "used_cpu_sys").await?)
}

/// CPU seconds used by a process: `self` or its id.
pub fn cpu(process: &str) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok());
    let user = ticks(11).ok_or("/proc: expected the CPU time of a process")?;
    Ok((user + ticks(12).unwrap_or(0.0)) / TICKS)
}

/// Memory of this process in MiB: current (`VmRSS`) or maximum (`VmHWM`).
pub fn memory(name: &str) -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(kib.ok_or("/proc: expected the memory of a process")? / 1024.0)
}
