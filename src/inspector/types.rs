//! Statistics by job type: how many attempts, how long jobs waited and ran, how many failed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Inspector;
use crate::broker::{Slice, TypeHistory, VersionSeen};
use crate::error::Error;
use crate::job::{Remembered, TypeAttempt, TypeRecord, serial};
use crate::time::Timestamp;

/// The statistics of all job types.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueJobTypes"))]
#[non_exhaustive]
pub struct JobTypes {
    /// The job types that ran in the last 14 days, by name: at most 200 of a day, and `(other)`
    /// for the rest.
    pub types: Vec<JobTypeSummary>,
    /// The versions of the application that ran jobs, the newest first: at most 50.
    pub versions: Vec<VersionSeen>,
}

/// The figures of one job type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueJobTypeSummary"))]
#[non_exhaustive]
pub struct JobTypeSummary {
    /// The job type's stored name.
    #[serde(rename = "type")]
    pub job_type: String,
    /// The last 55 to 60 minutes.
    pub last_hour: TypeFigures,
    /// Today and the 13 days of UTC before.
    pub last_14_days: TypeFigures,
}

/// One job type over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueJobTypeDetail"))]
#[non_exhaustive]
pub struct JobTypeDetail {
    /// Its figures.
    #[serde(flatten)]
    pub summary: JobTypeSummary,
    /// The last hour by five minutes, the oldest first; the last one is this moment's.
    pub five_minutes: Vec<TypePoint>,
    /// The last 24 hours, the oldest first.
    pub hours: Vec<TypePoint>,
    /// The last 14 days of UTC, the oldest first.
    pub days: Vec<TypePoint>,
    /// The slowest attempts of today and yesterday, at most 5, the slowest first.
    pub slowest: Vec<TypeAttempt>,
    /// The newest attempts that failed, of today and yesterday, at most 5, the newest first.
    pub failures: Vec<TypeAttempt>,
    /// The versions of the application that ran jobs of any type, the newest first.
    pub versions: Vec<VersionSeen>,
}

/// The figures of a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueTypePoint"))]
#[non_exhaustive]
pub struct TypePoint {
    /// When it began.
    pub at: Timestamp,
    /// The figures.
    #[serde(flatten)]
    pub figures: TypeFigures,
}

/// Attempts of workers of this crate. Snoozed, revoked and requeued jobs, and jobs whose worker
/// vanished, are not counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueTypeFigures"))]
#[non_exhaustive]
pub struct TypeFigures {
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// The share of attempts that failed, from 0 to 1; missing without attempts.
    pub failure_rate: Option<f64>,
    /// From being ready, that is enqueued or due, until the start; missing if unknown.
    pub wait: Option<TypeTimes>,
    /// From the start until the end.
    pub run: Option<TypeTimes>,
}

/// Times that half, 95 % and 99 % of attempts do not exceed, in seconds. Each is within 5 % of the
/// exact one, above 0.1 ms.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueTypeTimes"))]
#[non_exhaustive]
pub struct TypeTimes {
    /// The median.
    #[serde(rename = "p50_seconds", serialize_with = "serial::seconds")]
    #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
    pub p50: Duration,
    /// The 95th percentile.
    #[serde(rename = "p95_seconds", serialize_with = "serial::seconds")]
    #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
    pub p95: Duration,
    /// The 99th percentile.
    #[serde(rename = "p99_seconds", serialize_with = "serial::seconds")]
    #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
    pub p99: Duration,
}

impl TypeFigures {
    fn of(record: &TypeRecord) -> Self {
        let (succeeded, failed) = (record.succeeded, record.failed);
        let all = succeeded.saturating_add(failed);
        let times = |sketch: &crate::job::Sketch| {
            Some(TypeTimes {
                p50: sketch.quantile(0.5)?,
                p95: sketch.quantile(0.95)?,
                p99: sketch.quantile(0.99)?,
            })
        };
        Self {
            succeeded,
            failed,
            failure_rate: (all > 0).then(|| failed as f64 / all as f64),
            wait: times(&record.waits),
            run: times(&record.runs),
        }
    }

    /// Attempts that succeeded or failed.
    pub fn attempts(&self) -> u64 {
        self.succeeded.saturating_add(self.failed)
    }
}

/// The sums of a type over the slices of one length.
#[derive(Default)]
struct Sums {
    hour: TypeRecord,
    days: TypeRecord,
}

impl Sums {
    fn summary(&self, job_type: String) -> JobTypeSummary {
        let (last_hour, last_14_days) = (TypeFigures::of(&self.hour), TypeFigures::of(&self.days));
        JobTypeSummary { job_type, last_hour, last_14_days }
    }
}

fn sums(history: TypeHistory) -> BTreeMap<String, Sums> {
    let mut all: BTreeMap<String, Sums> = BTreeMap::new();
    for ((slice, _), types) in history.slices {
        for (name, record) in types {
            let sums = all.entry(name).or_default();
            match slice {
                Slice::FiveMinutes => sums.hour.merge(&record),
                Slice::Day => sums.days.merge(&record),
                Slice::Hour => {}
            }
        }
    }
    all
}

impl Inspector {
    /// The figures of all job types: attempts, failures, and how long jobs waited and ran, in the
    /// last hour and the last 14 days. Workers of this crate store them every 10 s. 27 commands.
    ///
    /// ```
    /// # use rocket_jobqueue::{Error, Inspector};
    /// async fn slowest_type(inspector: &Inspector) -> Result<Option<String>, Error> {
    ///     let types = inspector.job_types().await?.types;
    ///     let slowest = types.into_iter().max_by_key(|one| {
    ///         one.last_hour.run.as_ref().map(|run| run.p95)
    ///     });
    ///     Ok(slowest.map(|one| one.job_type))
    /// }
    /// ```
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn job_types(&self) -> Result<JobTypes, Error> {
        let slices = [Slice::FiveMinutes, Slice::Day];
        let mut history = self.broker.type_history("", &slices, None).await?;
        let versions = std::mem::take(&mut history.versions);
        let types = sums(history).into_iter().map(|(name, sums)| sums.summary(name)).collect();
        Ok(JobTypes { types, versions })
    }

    /// One job type over time; `None` if it did not run in the last 14 days. 55 commands.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn job_type(&self, job_type: &str) -> Result<Option<JobTypeDetail>, Error> {
        let now = self.broker.now();
        let mut history = self.broker.type_history("", &Slice::ALL, Some(job_type)).await?;
        if history.slices.is_empty() {
            return Ok(None);
        }
        let versions = std::mem::take(&mut history.versions);
        let mut remembered = |which| history.remembered.remove(&which).unwrap_or_default();
        let (slowest, failures) = (remembered(Remembered::Slowest), remembered(Remembered::Failed));
        let points = |slice: Slice| {
            let point = |at: i64| {
                let types = history.slices.get(&(slice, at));
                let record = types.and_then(|types| types.get(job_type));
                let figures = record.map(TypeFigures::of).unwrap_or_default();
                TypePoint { at: Timestamp::from_secs(at), figures }
            };
            slice.starts(now).map(point).collect::<Vec<_>>()
        };
        let [five_minutes, hours, days] = Slice::ALL.map(points);
        let sums = sums(history).remove(job_type).unwrap_or_default();
        let summary = sums.summary(job_type.to_owned());
        Ok(Some(JobTypeDetail { summary, five_minutes, hours, days, slowest, failures, versions }))
    }
}
