//! How long jobs wait and attempts take in this process, by job type: what Prometheus reads.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// Upper ends in seconds: from what needs no waiting to what needs patience.
const ENDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0];

/// Whose attempts a histogram counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Type {
    r#type: String,
}

/// Whose attempts of which end a histogram counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TypeOutcome {
    r#type: String,
    outcome: &'static str,
}

/// Histograms that share their ends.
pub(crate) type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn histograms<L: Clone + Eq + std::hash::Hash>() -> Histograms<L> {
    Family::new_with_constructor(|| Histogram::new(ENDS))
}

/// The attempts of all job types of a process. Clones share them.
#[derive(Clone)]
pub(crate) struct Attempts {
    /// How long they took.
    pub durations: Histograms<TypeOutcome>,
    /// How long after their jobs were ready they began.
    pub lateness: Histograms<Type>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { durations: histograms(), lateness: histograms() }
    }
}

impl Attempts {
    /// Where the attempts of one job type are counted.
    pub fn of(&self, job_type: &str) -> Stopwatch {
        let of_type = || job_type.to_owned();
        let one = |outcome| {
            self.durations.get_or_create(&TypeOutcome { r#type: of_type(), outcome }).clone()
        };
        Stopwatch {
            succeeded: one("succeeded"),
            failed: one("failed"),
            late: self.lateness.get_or_create(&Type { r#type: of_type() }).clone(),
        }
    }
}

/// The attempts of one job type.
#[derive(Clone)]
pub(crate) struct Stopwatch {
    succeeded: Histogram,
    failed: Histogram,
    late: Histogram,
}

impl Stopwatch {
    /// Counts an attempt that begins so long after its job was ready.
    pub fn began(&self, late: Duration) {
        self.late.observe(late.as_secs_f64());
    }

    /// Counts an attempt that has ended.
    pub fn ended(&self, took: Duration, succeeded: bool) {
        let histogram = if succeeded { &self.succeeded } else { &self.failed };
        histogram.observe(took.as_secs_f64());
    }
}
