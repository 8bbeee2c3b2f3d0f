//! How long attempts take in this process, by job type: what Prometheus reads.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// Upper ends in seconds: from what needs no waiting to what needs patience.
const ENDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0];

/// Which attempts a histogram counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Labels {
    r#type: String,
    outcome: &'static str,
}

/// All histograms.
pub(crate) type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// The attempts of all job types of a process. Clones share them.
#[derive(Clone)]
pub(crate) struct Attempts(Histograms);

impl Default for Attempts {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(ENDS)))
    }
}

impl Attempts {
    /// Where the attempts of one job type are counted.
    pub fn of(&self, job_type: &str) -> Stopwatch {
        let one = |outcome| {
            let labels = Labels { r#type: job_type.to_owned(), outcome };
            self.0.get_or_create(&labels).clone()
        };
        Stopwatch { succeeded: one("succeeded"), failed: one("failed") }
    }

    /// All of them, to be written out.
    pub fn histograms(&self) -> Histograms {
        self.0.clone()
    }
}

/// The attempts of one job type.
#[derive(Clone)]
pub(crate) struct Stopwatch {
    succeeded: Histogram,
    failed: Histogram,
}

impl Stopwatch {
    /// Counts an attempt that has ended.
    pub fn record(&self, took: Duration, succeeded: bool) {
        let histogram = if succeeded { &self.succeeded } else { &self.failed };
        histogram.observe(took.as_secs_f64());
    }
}
