//! Changing worker processes while they run: making them quiet, resuming them, and giving them more
//! or fewer slots and other weights.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Inspector;
use crate::broker::{
    MAX_CHANGE_TIME, ServerInfo, WorkerChange, WorkerChangeInfo, WorkerDetails, WorkerSetting,
};
use crate::error::Error;
use crate::job::QueueName;
use crate::time::Timestamp;

/// The longest name of who asks, in characters.
const MAX_NAME_CHARS: usize = 64;

/// What a worker process, or all of them, are to change while they run.
///
/// Settings that are not named stay as they are. Every change holds until the process ends, or
/// [until](Self::until) an instant. A process of this crate has it within a heartbeat, mostly within
/// milliseconds; [`Inspector::servers`] shows whether it was asked or has been applied. Go processes
/// and older versions take no changes.
///
/// ```
/// use rocket_jobqueue::inspect::WorkerUpdate;
/// use rocket_jobqueue::{Error, Inspector, QueueName};
/// use std::time::Duration;
///
/// async fn for_the_night(inspector: &Inspector) -> Result<usize, Error> {
///     let mail = QueueName::new("mail")?;
///     let update = WorkerUpdate::new().concurrency(40).weight(mail, 10);
///     let night = Duration::from_secs(8 * 3600);
///     inspector.update_workers(&update.lasting(night).by("ann")).await
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "an update does nothing until an inspector sends it"]
pub struct WorkerUpdate {
    settings: Vec<(WorkerSetting, Option<u32>)>,
    end: End,
    by: String,
}

/// When the changes of an update end.
#[derive(Clone, Copy, Debug, Default)]
enum End {
    /// With the process.
    #[default]
    WithTheProcess,
    At(Timestamp),
    After(Duration),
}

impl End {
    /// The instant, if there is one.
    fn at(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::WithTheProcess => None,
            Self::At(at) => Some(at),
            Self::After(time) => Some(now + time.min(MAX_CHANGE_TIME * 2)),
        }
    }
}

impl WorkerUpdate {
    /// An update that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The process dequeues nothing from now on. Jobs in flight run to their end and are settled as
    /// always: with the last one the process has drained. Its other services go on: due jobs become
    /// pending, and lost ones are recovered.
    pub fn quiet(self) -> Self {
        self.set(WorkerSetting::Quiet, Some(1))
    }

    /// The process dequeues again.
    pub fn resume(self) -> Self {
        self.set(WorkerSetting::Quiet, None)
    }

    /// Maximum concurrent jobs, at least 1 and at most the process's `concurrency_max`. More slots
    /// are used at once; with fewer, running jobs end first, and none is cancelled.
    pub fn concurrency(self, jobs: u32) -> Self {
        self.set(WorkerSetting::Concurrency, Some(jobs))
    }

    /// Maximum concurrent jobs as the process is configured.
    pub fn configured_concurrency(self) -> Self {
        self.set(WorkerSetting::Concurrency, None)
    }

    /// The weight of a queue that the process is configured to serve; with 0 it dequeues none of its
    /// jobs.
    pub fn weight(self, queue: QueueName, weight: u32) -> Self {
        self.set(WorkerSetting::Weight(queue), Some(weight))
    }

    /// The weight of a queue as the process is configured.
    pub fn configured_weight(self, queue: QueueName) -> Self {
        self.set(WorkerSetting::Weight(queue), None)
    }

    /// The changes end at this instant, at most 30 days ahead. For all processes, they then hold
    /// also for those that start before it.
    pub fn until(self, at: Timestamp) -> Self {
        Self { end: End::At(at), ..self }
    }

    /// The same for an instant so much later than now.
    pub fn lasting(self, time: Duration) -> Self {
        Self { end: End::After(time), ..self }
    }

    /// Who asks, which viewers show: the first 64 characters of one line.
    pub fn by(self, name: impl AsRef<str>) -> Self {
        let name = name.as_ref().trim().chars().filter(|c| !c.is_control());
        Self { by: name.take(MAX_NAME_CHARS).collect(), ..self }
    }

    /// Sets a setting; a later value replaces an earlier one.
    fn set(mut self, setting: WorkerSetting, value: Option<u32>) -> Self {
        self.settings.retain(|(known, _)| *known != setting);
        self.settings.push((setting, value));
        self
    }

    /// The changes as a store takes them.
    fn changes(&self, for_all: bool, now: Timestamp) -> Vec<WorkerChange> {
        let change = |(setting, value): &(WorkerSetting, Option<u32>)| WorkerChange {
            setting: setting.clone(),
            value: *value,
            // The store sets it.
            at: Timestamp::from_micros(0),
            until: self.end.at(now),
            by: self.by.clone(),
            for_all,
        };
        self.settings.iter().map(change).collect()
    }

    /// # Errors
    /// [`Error::is_invalid`] if there is nothing to change, or for an end that is not ahead.
    fn check(&self, now: Timestamp) -> Result<(), Error> {
        if self.settings.is_empty() {
            return Err(Error::invalid("worker: expected something to change, found nothing"));
        }
        match self.end.at(now) {
            Some(until) if until <= now => Err(Error::invalid(format!(
                "until: expected an instant after {now}, found {until}"
            ))),
            Some(until) if until.since(now) > MAX_CHANGE_TIME + Duration::from_secs(60) => {
                let days = MAX_CHANGE_TIME.as_secs() / 86_400;
                Err(Error::invalid(format!("until: expected at most {days} days, found {until}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether this process can do it.
    ///
    /// # Errors
    /// [`Error::is_invalid`] that names the setting and its bounds.
    fn fits(&self, server: &ServerInfo, details: &WorkerDetails) -> Result<(), Error> {
        for (setting, value) in &self.settings {
            match setting {
                WorkerSetting::Quiet => {}
                WorkerSetting::Concurrency => {
                    let most = details.concurrency_max;
                    if let Some(jobs) = value.filter(|jobs| *jobs < 1 || *jobs > most) {
                        return Err(Error::invalid(format!(
                            "concurrency: expected 1 to {most} (`concurrency_max`), found {jobs}"
                        )));
                    }
                }
                WorkerSetting::Weight(queue) => {
                    if !details.configured_queues.contains_key(queue) {
                        let known: Vec<_> =
                            details.configured_queues.keys().map(QueueName::to_string).collect();
                        return Err(Error::invalid(format!(
                            "queues: expected one that the process is configured to serve ({}), \
                             found {queue:?}",
                            known.join(", ")
                        )));
                    }
                }
            }
        }
        let serves = |queue: &QueueName| {
            let changed =
                self.settings.iter().find_map(|(setting, value)| match (setting, value) {
                    (WorkerSetting::Weight(name), value) if name == queue => Some(*value),
                    _ => None,
                });
            let configured = details.configured_queues.get(queue).map_or(0, |one| i64::from(*one));
            match changed {
                Some(value) => value.map_or(configured, i64::from) > 0,
                None => server.queues.get(queue).is_some_and(|weight| *weight > 0),
            }
        };
        let weights = |(setting, _): &(_, _)| matches!(setting, WorkerSetting::Weight(_));
        if self.settings.iter().any(weights) && !details.configured_queues.keys().any(serves) {
            return Err(Error::invalid(
                "queues: expected a weight of 1 or more for one queue, found none; to stop them \
                 all, make the process quiet",
            ));
        }
        Ok(())
    }
}

impl Inspector {
    /// Asks one worker process to change, by its [`server_id`](crate::inspect::ServerInfo::server_id).
    /// Two commands per process to find it, and one script.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such process; [`Error::is_invalid`] for a Go process,
    /// for a value outside its bounds and for a queue that it is not configured to serve; errors of
    /// the store.
    pub async fn update_worker(&self, id: &str, update: &WorkerUpdate) -> Result<(), Error> {
        let now = self.broker.now();
        update.check(now)?;
        let servers = self.broker.serving().await?.servers;
        let server = servers.iter().find(|server| server.server_id == id).ok_or_else(|| {
            let shown: String = id.chars().take(64).collect();
            Error::not_found(format!("worker process {shown:?} does not exist"))
        })?;
        let Some(details) = &server.details else {
            return Err(Error::invalid(format!(
                "worker process {id}: expected one that takes changes, found a Go process or an \
                 older version"
            )));
        };
        update.fits(server, details)?;
        self.broker.request_of_one(server.name(), &update.changes(false, now)).await
    }

    /// Asks all worker processes to change. Returns how many there are now that take changes. With an
    /// [end](WorkerUpdate::until) the request also holds for processes that start before it; each
    /// goes as far as its own `concurrency_max`. A queue that a process is not configured to serve
    /// stays unserved. One script, without an end one more per process.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for values that no process could take; errors of the store, after which
    /// some processes may have been asked.
    pub async fn update_workers(&self, update: &WorkerUpdate) -> Result<usize, Error> {
        let now = self.broker.now();
        update.check(now)?;
        let servers = self.broker.serving().await?.servers;
        let ours: Vec<_> = servers
            .iter()
            .filter_map(|server| server.details.as_ref().map(|details| (server, details)))
            .collect();
        let mut refused = ours.iter().map(|(server, details)| update.fits(server, details));
        let all_refuse = !ours.is_empty() && refused.clone().all(|fits| fits.is_err());
        if all_refuse && let Some(Err(error)) = refused.next() {
            return Err(error);
        }
        // First, so that a process that starts meanwhile reads it or is among the others.
        // The inspector of an application without a namespace sees those of others too.
        let mut namespaces: BTreeSet<&str> =
            ours.iter().map(|(_, details)| details.namespace.as_str()).collect();
        namespaces.insert("");
        let changes = update.changes(true, now);
        for namespace in namespaces {
            self.broker.request_of_all(namespace, &changes).await?;
        }
        if update.end.at(now).is_none() {
            let changes = update.changes(false, now);
            for (server, _) in &ours {
                self.broker.request_of_one(server.name(), &changes).await?;
            }
        }
        Ok(ours.len())
    }

    /// What all worker processes are asked to change, also those that start later, until it ends.
    /// One command.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn worker_changes(&self) -> Result<Vec<WorkerChangeInfo>, Error> {
        let stored = self.broker.requests_of_all("").await?.into_iter();
        let shown = stored.map(|change| WorkerChangeInfo::new(change, true));
        Ok(shown.collect())
    }
}
