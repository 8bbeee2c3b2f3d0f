//! Changing worker processes while they run: what an operator asks of one process or of all, and
//! what a process tells about itself beyond Asynq's announcement.
//!
//! A request is stored, one value for each setting, and a process reads it with the heartbeat that
//! it sends anyway ([`Broker::announce`](super::Broker::announce)). So a lost message delays a
//! change by one heartbeat and loses nothing. What a process has applied it announces with the
//! instant of the request, which is how a viewer tells *asked* from *applied*.
//!
//! Two places hold requests. Those of one process end with it; the process keeps them in memory too.
//! Those of all processes have an end, and hold for processes that start later. Of the two the newer
//! one counts, for each setting by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Answer;
use crate::job::QueueName;
use crate::time::Timestamp;

/// How long the requests of a process are kept at least after it fell silent.
pub const REQUESTS_KEPT: Duration = Duration::from_secs(3600);

/// The longest time for which a change may be asked: a change that everybody has forgotten is a
/// setting that nobody finds.
pub const MAX_CHANGE_TIME: Duration = Duration::from_secs(30 * 86_400);

/// What the channel of cancel requests carries besides ids of jobs: the beginning of a message that
/// a process, or all of them, have a new request.
const HINT: &str = "x:worker:";

/// Message to one process: it has a new request.
pub fn hint_for(server_id: &str) -> String {
    format!("{HINT}{server_id}")
}

/// Message to all processes: they have a new request.
pub fn hint_for_all() -> String {
    hint_for("*")
}

/// A setting of a worker process that can be changed while it runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WorkerSetting {
    /// 1 if the process dequeues nothing.
    Quiet,
    /// Maximum concurrent jobs.
    Concurrency,
    /// Weight of a queue that the process is configured to serve; 0 if it is not to serve it.
    Weight(QueueName),
}

impl WorkerSetting {
    /// Its name in the store: `quiet`, `concurrency` or `weight:<queue>`.
    pub(crate) fn field(&self) -> String {
        match self {
            Self::Quiet => "quiet".to_owned(),
            Self::Concurrency => "concurrency".to_owned(),
            Self::Weight(queue) => format!("weight:{}", queue.as_str()),
        }
    }

    /// The setting of this name; `None` for one of a later version.
    pub(crate) fn of_field(field: &str) -> Option<Self> {
        match field.split_once(':') {
            Some(("weight", queue)) => Some(Self::Weight(QueueName::stored(queue))),
            None if field == "quiet" => Some(Self::Quiet),
            None if field == "concurrency" => Some(Self::Concurrency),
            _ => None,
        }
    }
}

/// The new value of one setting, as an operator asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerChange {
    /// Which setting.
    pub setting: WorkerSetting,
    /// Its value; `None` for the configured one.
    pub value: Option<u32>,
    /// When it was asked, by the store's clock, which sets it.
    pub at: Timestamp,
    /// When it ends; `None` if only with the process.
    pub until: Option<Timestamp>,
    /// Who asked; empty if that is not known.
    pub by: String,
    /// Whether it was asked of all processes, also of those that start later.
    pub for_all: bool,
}

impl WorkerChange {
    /// Whether it counts at this instant.
    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    /// What the store keeps besides the setting and the instant of the request.
    pub(crate) fn text(&self) -> String {
        let until = self.until.map_or(0, Timestamp::as_micros);
        let value = self.value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        format!("{until} {value} {}", self.by)
    }

    /// The change that the store keeps: the instant, and [`text`](Self::text).
    pub(crate) fn parse(field: &str, stored: &str, for_all: bool) -> Option<Self> {
        let setting = WorkerSetting::of_field(field)?;
        let mut parts = stored.splitn(4, ' ');
        let at = Timestamp::from_micros(parts.next()?.parse().ok()?);
        let until = Some(parts.next()?.parse().ok()?).filter(|micros| *micros > 0);
        let value = match parts.next()? {
            "-" => None,
            value => Some(value.parse().ok()?),
        };
        let by = parts.next().unwrap_or_default().to_owned();
        let until = until.map(Timestamp::from_micros);
        Some(Self { setting, value, at, until, by, for_all })
    }
}

/// The newest change of each setting that counts now.
pub(crate) fn in_force<'a>(
    changes: impl Iterator<Item = &'a WorkerChange>,
    now: Timestamp,
) -> Vec<WorkerChange> {
    let mut newest: BTreeMap<&WorkerSetting, &WorkerChange> = BTreeMap::new();
    for change in changes.filter(|change| change.holds(now)) {
        let known = newest.entry(&change.setting).or_insert(change);
        if change.at > known.at {
            *known = change;
        }
    }
    newest.into_values().cloned().collect()
}

/// What a heartbeat learns: the requests that are stored for its process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerRequests {
    /// Those of this process alone.
    pub own: Vec<WorkerChange>,
    /// Those of all processes; `None` if they could not be read.
    pub all: Option<Vec<WorkerChange>>,
}

/// What a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueWorkerState"))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WorkerState {
    /// It dequeues jobs.
    #[default]
    Running,
    /// It was made quiet: it dequeues nothing, and some of its jobs still run.
    Draining,
    /// It dequeues nothing, and none of its jobs runs.
    Quiet,
    /// It shuts down.
    Stopping,
}

impl WorkerState {
    /// Its name: `running`, `draining`, `quiet` or `stopping`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Quiet => "quiet",
            Self::Stopping => "stopping",
        }
    }

    /// The state of this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Running, Self::Draining, Self::Quiet, Self::Stopping]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// What a worker process of this crate tells about itself beyond Asynq's announcement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueWorkerDetails"))]
#[non_exhaustive]
pub struct WorkerDetails {
    /// Version of the application, if it has one.
    pub version: Option<String>,
    /// Memory of the process in bytes (resident set), if the system tells it: on Linux.
    pub memory: Option<u64>,
    /// What it does.
    pub state: WorkerState,
    /// Jobs in flight, which use its slots.
    pub in_use: u32,
    /// Maximum concurrent jobs by its configuration.
    pub configured_concurrency: u32,
    /// The highest concurrency that it can be given while it runs.
    pub concurrency_max: u32,
    /// Queue → weight by its configuration.
    pub configured_queues: BTreeMap<QueueName, u32>,
    /// The namespace of its application, with a colon; empty without one.
    #[doc(hidden)]
    #[serde(skip)]
    pub namespace: String,
    /// The changes that it has applied; viewers read [`ServerInfo::changes`](super::ServerInfo).
    #[doc(hidden)]
    #[serde(skip)]
    pub applied: Vec<WorkerChange>,
}

/// A change of a worker process, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueWorkerChange"))]
#[non_exhaustive]
pub struct WorkerChangeInfo {
    /// `quiet`, `concurrency` or `weight`.
    pub setting: &'static str,
    /// The queue, for a weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    /// The value that was asked for: for `quiet` 1. Null asks for the configured one.
    pub value: Option<u32>,
    /// When it was asked.
    pub at: Timestamp,
    /// When it ends; null if only with the process.
    pub until: Option<Timestamp>,
    /// Who asked; null if that is not known.
    pub by: Option<String>,
    /// Whether it was asked of all processes, also of those that start later.
    pub for_all: bool,
    /// Whether the process has applied it. Until then it was only asked.
    pub applied: bool,
}

impl WorkerChangeInfo {
    /// How far a change is.
    pub(crate) fn new(change: WorkerChange, applied: bool) -> Self {
        let (setting, queue) = match change.setting {
            WorkerSetting::Quiet => ("quiet", None),
            WorkerSetting::Concurrency => ("concurrency", None),
            WorkerSetting::Weight(queue) => ("weight", Some(queue)),
        };
        let WorkerChange { value, at, until, by, for_all, .. } = change;
        let by = Some(by).filter(|by| !by.is_empty());
        Self { setting, queue, value, at, until, by, for_all, applied }
    }
}

impl WorkerDetails {
    /// Whether the process has this setting: not the weight of a queue that it does not serve.
    fn concerns(&self, setting: &WorkerSetting) -> bool {
        match setting {
            WorkerSetting::Quiet | WorkerSetting::Concurrency => true,
            WorkerSetting::Weight(queue) => self.configured_queues.contains_key(queue),
        }
    }

    /// The changes that count now, each with whether this process has applied it. Left out are one
    /// that was applied and gave the configured value back, which is over, and the weights of queues
    /// that only other processes serve.
    pub(crate) fn changes(
        &self,
        own: &[WorkerChange],
        all: &[WorkerChange],
        now: Timestamp,
    ) -> Vec<WorkerChangeInfo> {
        let known = own.iter().chain(all).chain(&self.applied);
        let newest = in_force(known, now).into_iter();
        let shown = newest.filter(|change| self.concerns(&change.setting)).filter_map(|change| {
            let is_it = |one: &&WorkerChange| one.setting == change.setting && one.at >= change.at;
            let applied = self.applied.iter().any(|one| is_it(&one));
            let is_over = applied && change.value.is_none();
            (!is_over).then(|| WorkerChangeInfo::new(change, applied))
        });
        shown.collect()
    }
}

/// Which process: the parts of its key.
#[derive(Clone, Copy, Debug)]
pub struct WorkerName<'a> {
    /// Its host.
    pub host: &'a str,
    /// Its process id.
    pub pid: i64,
    /// Its random id.
    pub server_id: &'a str,
}

/// Requests of operators to worker processes.
pub trait Workers: Send + Sync {
    /// Stores what one process is asked to change, and tells it. A request replaces an earlier one
    /// of the same setting. [`WorkerChange::at`] is set by the store. One script.
    fn request_of_one<'a>(
        &'a self,
        who: WorkerName<'a>,
        changes: &'a [WorkerChange],
    ) -> Answer<'a, ()>;

    /// Stores what all processes of a namespace are asked to change, and tells them. A change
    /// without an end removes the stored one of its setting. One script.
    fn request_of_all<'a>(
        &'a self,
        namespace: &'a str,
        changes: &'a [WorkerChange],
    ) -> Answer<'a, ()>;

    /// The requests of all processes of a namespace that have not ended. One command.
    fn requests_of_all<'a>(&'a self, namespace: &'a str) -> Answer<'a, Vec<WorkerChange>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(field: &str, at: i64, value: Option<u32>) -> WorkerChange {
        WorkerChange {
            setting: WorkerSetting::of_field(field).unwrap(),
            value,
            at: Timestamp::from_secs(at),
            until: None,
            by: "ann the first".to_owned(),
            for_all: false,
        }
    }

    #[test]
    fn a_change_is_read_as_it_was_written() {
        for field in ["quiet", "concurrency", "weight:shop:mail"] {
            for (value, until) in [(None, None), (Some(0), Some(Timestamp::from_micros(7)))] {
                let change = WorkerChange { until, ..change(field, 5, value) };
                let stored = format!("5000000 {}", change.text());
                let read = WorkerChange::parse(&change.setting.field(), &stored, false);
                assert_eq!(read, Some(change));
            }
        }
        for (field, stored) in
            [("speed", "1 0 1 "), ("quiet", ""), ("quiet", "x 0 1 "), ("quiet", "1 0 much ")]
        {
            assert_eq!(WorkerChange::parse(field, stored, true), None, "{field} {stored}");
        }
    }

    #[test]
    fn the_newest_change_of_a_setting_counts_until_it_ends() {
        let own = change("concurrency", 1, Some(5));
        let until = Some(Timestamp::from_secs(9));
        let all = WorkerChange { until, for_all: true, ..change("concurrency", 2, Some(40)) };
        let both = [own.clone(), all.clone()];
        let at = |secs| in_force(both.iter(), Timestamp::from_secs(secs));
        assert_eq!((at(8), at(9)), (vec![all], vec![own]));
    }

    #[test]
    fn a_change_is_asked_until_the_process_announces_it() {
        let asked = change("quiet", 3, Some(1));
        let now = Timestamp::from_secs(4);
        let mut details = WorkerDetails::default();
        let told = |details: &WorkerDetails, own: &[WorkerChange]| {
            let changes = details.changes(own, &[], now);
            changes.iter().map(|one| (one.setting, one.value, one.applied)).collect::<Vec<_>>()
        };
        assert_eq!(told(&details, std::slice::from_ref(&asked)), [("quiet", Some(1), false)]);
        details.applied = vec![asked.clone()];
        assert_eq!(told(&details, &[asked]), [("quiet", Some(1), true)]);
        let back = change("quiet", 4, None);
        assert_eq!(told(&details, std::slice::from_ref(&back)), [("quiet", None, false)]);
        details.applied = vec![back.clone()];
        assert_eq!(told(&details, &[back]), []);
    }
}
