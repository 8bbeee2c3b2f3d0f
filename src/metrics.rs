//! Histograms of this process, by job type: how late attempts start and how long they take.
//! `GET {base}/metrics` shows them to Prometheus, beside the counters that the store keeps.
//!
//! Each job type gets a [`Stopwatch`] once, at launch, so that an attempt costs two atomic
//! additions and no lookup by name.
//!
//! Histograms are per process and start at zero with it, as Prometheus expects; it sums them
//! over the processes. Counters of jobs come from the store instead, because a job may be
//! enqueued by one process and run by another.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// Upper bounds of the buckets in seconds, from a millisecond to half an hour, which is the
/// default timeout of a job. Fine below a second, where lateness lies; coarse above, where jobs
/// differ anyway.
const BUCKETS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0];

/// The label of a histogram: the job type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Type {
    r#type: String,
}

/// The labels of a histogram: the job type, and `succeeded` or `failed`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TypeOutcome {
    r#type: String,
    outcome: &'static str,
}

/// Histograms by label, all with the same buckets.
pub(crate) type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Histograms without any observation.
fn histograms<L: Clone + Eq + std::hash::Hash>() -> Histograms<L> {
    Family::new_with_constructor(|| Histogram::new(BUCKETS))
}

/// The histograms of all job types of a process. Clones share them.
#[derive(Clone)]
pub(crate) struct Attempts {
    /// The duration of attempts.
    pub durations: Histograms<TypeOutcome>,
    /// The time from a job's being ready to the start of its attempt.
    pub lateness: Histograms<Type>,
    /// Jobs of successful answers that the store did not take.
    pub lost_on_success: Counter,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            durations: histograms(),
            lateness: histograms(),
            lost_on_success: Counter::default(),
        }
    }
}

impl Attempts {
    /// The histograms of one job type.
    pub(crate) fn of(&self, job_type: &str) -> Stopwatch {
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

/// Records the attempts of one job type.
#[derive(Clone)]
pub(crate) struct Stopwatch {
    succeeded: Histogram,
    failed: Histogram,
    late: Histogram,
}

impl Stopwatch {
    /// Records the start of an attempt, `late` after its job was ready. Not called for a job
    /// whose ready time is unknown.
    pub(crate) fn began(&self, late: Duration) {
        self.late.observe(late.as_secs_f64());
    }

    /// Records the end of an attempt.
    pub(crate) fn ended(&self, took: Duration, succeeded: bool) {
        let histogram = if succeeded { &self.succeeded } else { &self.failed };
        histogram.observe(took.as_secs_f64());
    }
}
