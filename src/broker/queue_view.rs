//! What a store answers about its queues and groups: plain values that serialize to the
//! JSON of the REST interface.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::job::{QueueName, serial};
use crate::time::Timestamp;

/// The sizes of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueQueueInfo"))]
#[non_exhaustive]
pub struct QueueInfo {
    /// Jobs per state, 0 included. Jobs that are being aggregated are not counted, as in
    /// Asynq.
    pub sizes: BTreeMap<&'static str, u64>,
    /// Jobs in all states.
    pub size: u64,
    /// Groups with waiting jobs. If there are more than about 12,000, the size of aggregating
    /// jobs in `sizes` is extrapolated.
    pub groups: u64,
    /// Since when the next job is pending; `None` if no job is, or if that is unknown.
    pub pending_since: Option<Timestamp>,
    /// How long the next job has been pending; zero if no job is, or if that is unknown.
    #[serde(rename = "latency_seconds", serialize_with = "serial::seconds")]
    #[cfg_attr(feature = "openapi", schemars(with = "f64"))]
    pub latency: Duration,
    /// Whether the queue is paused.
    pub paused: bool,
    /// Since when it is paused, if known.
    pub paused_since: Option<Timestamp>,
    /// Attempts that ended, ever.
    pub processed: u64,
    /// Attempts that failed, ever.
    pub failed: u64,
    /// Attempts that ended on the current UTC day.
    pub processed_today: u64,
    /// Attempts that failed on the current UTC day.
    pub failed_today: u64,
    /// Jobs that were archived within the last hour and still are.
    pub archived_last_hour: u64,
    /// When the next scheduled or retried job is due; `None` if none waits.
    pub next_due: Option<Timestamp>,
}

/// One queue in a list of queues: its sizes, or why they cannot be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueQueueSummary"))]
#[non_exhaustive]
pub struct QueueSummary {
    /// Its name.
    pub queue: QueueName,
    /// Its sizes and counters.
    pub info: Option<QueueInfo>,
    /// The reason in one line if they cannot be read, such as keys of unexpected types.
    pub problem: Option<String>,
}

/// How much memory a queue takes, estimated from a sample of its jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueQueueMemory"))]
#[non_exhaustive]
pub struct QueueMemory {
    /// Approximate bytes.
    pub bytes: u64,
    /// Jobs whose size was measured, at most 140.
    pub sampled: u64,
    /// Jobs that the estimate covers.
    pub jobs: u64,
}

/// The attempts of a queue on one UTC day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueDayStats"))]
#[non_exhaustive]
pub struct DayStats {
    /// The day, as `YYYY-MM-DD`.
    pub date: String,
    /// Attempts that ended.
    pub processed: u64,
    /// Attempts that failed.
    pub failed: u64,
}

/// A page of a queue's groups.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueGroupPage"))]
#[non_exhaustive]
pub struct GroupPage {
    /// The groups, in no particular order.
    pub groups: Vec<GroupInfo>,
    /// How many groups the queue has.
    pub total: u64,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<super::page::Cursor>,
}

/// A group of jobs that wait to be aggregated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueGroupInfo"))]
#[non_exhaustive]
pub struct GroupInfo {
    /// Its name.
    pub group: String,
    /// How many jobs wait in it.
    pub size: u64,
    /// When the first of them joined.
    pub oldest: Option<Timestamp>,
    /// When the last of them joined.
    pub newest: Option<Timestamp>,
}

/// Jobs that an aggregator is making into one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAggregationSet"))]
#[non_exhaustive]
pub struct AggregationSet {
    /// The group they come from.
    pub group: String,
    /// The set's id.
    pub id: String,
    /// How many jobs it has.
    pub size: u64,
    /// When its jobs return to the group unless it is aggregated.
    pub expires: Timestamp,
}
