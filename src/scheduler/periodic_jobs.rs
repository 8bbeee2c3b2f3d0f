//! The periodic entries of this process: added at launch or while it runs. When
//! they are due and who fires them is `periodic_service`'s affair.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::broker::{AnnouncedPeriodicJob, Fired, Firing};
use crate::error::Error;
use crate::job::{Missed, NewJob, Periodic, Placement, QueueName, Schedule, periodic_id, tick_id};
use crate::sync::lock;
use crate::time::Timestamp;

/// Makes the job of an entry, with all checks of an enqueue.
pub(crate) type Template = Arc<dyn Fn(&Periodic) -> Result<NewJob, Error> + Send + Sync>;

/// How long claims and histories outlive the gap between two ticks.
const KEPT: Duration = Duration::from_secs(90 * 86_400);

/// The longest that is kept: twenty years.
const KEPT_AT_MOST: Duration = Duration::from_secs(20 * 366 * 86_400);

/// The periodic entries of this process, to look at and to change while it runs.
///
/// Obtained from [`JobQueue::periodic`](crate::JobQueue::periodic). What is added
/// or removed here concerns this process only: an entry is fired as long as any
/// process has it. Cloning is cheap; all clones share the entries.
///
/// ```
/// use rocket_jobqueue::{Error, JobQueue, Periodic};
///
/// fn refresh_often(queue: &JobQueue, yes: bool) -> Result<(), Error> {
///     let entries = queue.periodic();
///     if yes {
///         let refresh = Periodic::raw("@every 10s", "cache:refresh", None);
///         entries.add(refresh.name("refresh"))?;
///     } else {
///         entries.remove("refresh");
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct PeriodicJobs {
    shared: Arc<Shared>,
}

struct Shared {
    template: Template,
    entries: Mutex<BTreeMap<String, Arc<PeriodicJob>>>,
    /// For who fires, and for who announces.
    changed: [Notify; 2],
}

/// Which of the two listeners waits for changes.
#[derive(Clone, Copy)]
pub(super) enum Listener {
    Firing,
    Announcing,
}

/// One periodic entry of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeriodicRegistration {
    /// Its name, by which it is removed.
    pub name: String,
    /// Its id in [`PeriodicJobInfo`](crate::periodic::PeriodicJobInfo) and for Asynq's tools.
    pub id: String,
    /// The specification, with its time zone.
    pub spec: String,
    /// The type of its jobs.
    pub job_type: String,
    /// Their queue.
    pub queue: QueueName,
    /// What happens to missed ticks.
    pub missed: Missed,
}

/// An entry that has been checked, and what is known of its ticks.
pub(super) struct PeriodicJob {
    pub name: String,
    pub id: String,
    pub schedule: Schedule,
    pub missed: Missed,
    pub job: NewJob,
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    /// Up to where ticks are claimed; `None` until the store was asked.
    pub claimed: Option<Timestamp>,
    pub last_run: Option<Timestamp>,
}

impl PeriodicJobs {
    pub(crate) fn new(template: Template) -> Self {
        let shared = Shared { template, entries: Mutex::default(), changed: Default::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Adds an entry, or replaces the one of the same name, and returns its name.
    /// It counts from its next tick on; where other processes have had it or this
    /// one had it before, its policy for missed ticks applies.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a schedule, name, time zone or job that is not
    /// allowed, with what was expected and what was found.
    pub fn add(&self, periodic: Periodic) -> Result<String, Error> {
        let entry = self.checked(&periodic)?;
        let name = entry.name.clone();
        self.entries().insert(name.clone(), Arc::new(entry));
        self.tell();
        Ok(name)
    }

    /// As [`PeriodicJobs::add`], where there is none of this name.
    pub(crate) fn add_first(&self, periodic: &Periodic) -> Result<(), Error> {
        let entry = self.checked(periodic)?;
        if self.entries().contains_key(&entry.name) {
            let name = &entry.name;
            return Err(Error::invalid(format!("there are two of the name {name:?}")));
        }
        self.entries().insert(entry.name.clone(), Arc::new(entry));
        self.tell();
        Ok(())
    }

    /// Removes an entry; whether there was one. Jobs it has enqueued stay.
    pub fn remove(&self, name: &str) -> bool {
        let removed = self.entries().remove(name).is_some();
        if removed {
            self.tell();
        }
        removed
    }

    /// All entries of this process, by name. Those of all processes, with their
    /// next and last runs, are [`Inspector::periodic_jobs`](crate::Inspector::periodic_jobs).
    pub fn list(&self) -> Vec<PeriodicRegistration> {
        let info = |entry: Arc<PeriodicJob>| PeriodicRegistration {
            name: entry.name.clone(),
            id: entry.id.clone(),
            spec: entry.schedule.spec().to_owned(),
            job_type: entry.job.record.job_type.clone(),
            queue: entry.job.record.queue.clone(),
            missed: entry.missed,
        };
        self.all().into_iter().map(info).collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<PeriodicJob>> {
        self.entries().values().map(Arc::clone).collect()
    }

    pub(super) async fn changed(&self, listener: Listener) {
        self.shared.changed[listener as usize].notified().await;
    }

    /// What is told of the entries has changed.
    pub(super) fn announce_soon(&self) {
        self.shared.changed[Listener::Announcing as usize].notify_one();
    }

    fn checked(&self, periodic: &Periodic) -> Result<PeriodicJob, Error> {
        let name = periodic.identity()?;
        Ok(PeriodicJob {
            id: periodic_id(&name),
            name,
            schedule: periodic.schedule()?,
            missed: periodic.on_missed(),
            job: (self.shared.template)(periodic)?,
            seen: Mutex::default(),
        })
    }

    fn tell(&self) {
        for listener in &self.shared.changed {
            listener.notify_one();
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Arc<PeriodicJob>>> {
        lock(&self.shared.entries)
    }
}

impl fmt::Debug for PeriodicJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries().keys()).finish()
    }
}

impl PeriodicJob {
    pub fn seen(&self) -> Seen {
        *self.lock()
    }

    /// Takes over what the store said.
    pub fn see(&self, fired: &Fired) {
        let mut seen = self.lock();
        seen.claimed = Some(fired.claimed);
        seen.last_run = seen.last_run.into_iter().chain(fired.last_run).max();
    }

    /// Ticks up to this one are nobody's business any more.
    pub fn pass_over(&self, tick: Timestamp) {
        self.lock().claimed = Some(tick);
    }

    /// What the store is asked for these ticks.
    pub fn firing(&self, ticks: &[Timestamp], now: Timestamp) -> Firing {
        Firing {
            entry: self.name.clone(),
            queue: self.job.record.queue.clone(),
            known: self.seen().claimed,
            keep: self.keep(now),
            ticks: ticks.iter().map(|tick| (*tick, self.job_of(*tick))).collect(),
        }
    }

    /// How long the claim must be remembered: until well after the tick that
    /// follows the next one.
    pub fn keep(&self, now: Timestamp) -> Duration {
        let next = self.schedule.next(now);
        let gap = next.and_then(|next| Some(self.schedule.next(next)?.since(now)));
        (gap.unwrap_or_default() * 2 + KEPT).min(KEPT_AT_MOST)
    }

    /// What is told of it.
    pub fn announced(&self, now: Timestamp) -> AnnouncedPeriodicJob {
        AnnouncedPeriodicJob {
            id: self.id.clone(),
            spec: self.schedule.spec().to_owned(),
            job: self.job.clone(),
            next: self.schedule.next(now),
            prev: self.seen().last_run,
        }
    }

    fn job_of(&self, tick: Timestamp) -> NewJob {
        let mut job = self.job.clone();
        job.record.id = tick_id(&self.name, tick);
        if let Placement::After(delay) = job.placement {
            job.placement = Placement::At(tick + delay);
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}
