//! The periodic jobs of this process, added at launch or while it runs.
//!
//! Here they are checked, listed and changed. The [service](super::periodic_service) enqueues
//! their jobs at each tick, and the [announcer](super::announcer) publishes them; a change wakes
//! both. Adding a periodic job builds its job once, with all checks of an enqueue, so that a
//! wrong payload, queue or schedule is an error of [`PeriodicJobs::add`] and not of every tick.
//!
//! The store claims ticks by the name of the periodic job, and each [`PeriodicJob`] keeps the
//! last known claim, so that it asks once. The claim outlives the process: a job that is
//! added again later knows which ticks it has missed.
//!
//! What may surprise. The list is of this process only. If two processes have a periodic job of
//! the same name, each tick still makes one job, and removing it from one process does not stop
//! it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::broker::{AnnouncedPeriodicJob, Fired, Firing};
use crate::error::Error;
use crate::job::{
    Missed, NewJob, Periodic, Placement, QueueName, Schedule, duration_text, periodic_id, tick_id,
};
use crate::sync::lock;
use crate::time::Timestamp;

/// Makes the job that each tick enqueues, with all checks of an enqueue. It is called once,
/// when the periodic job is added; each tick clones the result and gives it the tick's id.
pub(crate) type Template = Arc<dyn Fn(&Periodic) -> Result<NewJob, Error> + Send + Sync>;

/// How long claims and histories are kept beyond two gaps between ticks: 90 days. A process
/// that is started again within this time makes up for what it missed.
const CLAIM_RETENTION: Duration = Duration::from_secs(90 * 86_400);

/// Maximum time that claims and histories are kept: 20 years. It bounds what an `@every` of
/// centuries asks of the store.
const MAX_CLAIM_RETENTION: Duration = Duration::from_secs(20 * 366 * 86_400);

/// The periodic jobs of this process, for listing and changing them while it runs.
///
/// Obtained from [`JobQueue::periodic`](crate::JobQueue::periodic). Changes concern this
/// process only: a periodic job is enqueued as long as any process has it. Cloning is cheap;
/// all clones share the periodic jobs.
///
/// ```
/// use rocket_jobqueue::{Error, JobQueue, Periodic};
///
/// fn refresh_often(queue: &JobQueue, yes: bool) -> Result<(), Error> {
///     let periodic = queue.periodic();
///     if yes {
///         let refresh = Periodic::raw("@every 10s", "cache:refresh", None);
///         periodic.add(refresh.name("refresh"))?;
///     } else {
///         periodic.remove("refresh");
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct PeriodicJobs {
    shared: Arc<PeriodicShared>,
}

/// What all clones share.
struct PeriodicShared {
    template: Template,
    /// By name, so that lists are in the order of names.
    jobs: Mutex<BTreeMap<String, Arc<PeriodicJob>>>,
    /// Wakes the service and the announcer, by [`Listener`].
    changed: [Notify; 2],
}

/// The services that wait for changes.
#[derive(Clone, Copy)]
pub(super) enum Listener {
    /// The service that enqueues jobs: the next tick may be earlier now.
    Firing,
    /// The announcer: the published list has changed.
    Announcing,
}

/// A periodic job as this process has registered it.
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

/// A checked periodic job, and what is known about its ticks.
pub(super) struct PeriodicJob {
    /// By which this process removes it and the store claims its ticks.
    pub name: String,
    /// By which the announcement and the history name it.
    pub id: String,
    /// When its ticks are.
    pub schedule: Schedule,
    /// What happens to ticks that nobody fired in time.
    pub missed: Missed,
    /// What each tick enqueues, but for the id.
    pub job: NewJob,
    seen: Mutex<SeenTicks>,
}

/// What the store said last about the ticks of a periodic job.
#[derive(Clone, Copy, Default)]
pub(super) struct SeenTicks {
    /// The last claimed tick; `None` until the store was asked.
    pub claimed: Option<Timestamp>,
    /// When a job was last stored, by any process. `None` if never, or not asked yet.
    pub last_run: Option<Timestamp>,
}

impl PeriodicJobs {
    pub(crate) fn new(template: Template) -> Self {
        let shared =
            PeriodicShared { template, jobs: Mutex::default(), changed: Default::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Adds a periodic job, or replaces the one of the same name. Returns its name.
    ///
    /// It starts with its next tick. If any process has had it before, its policy for
    /// [missed](Periodic::missed) ticks applies to the time since.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a schedule, name, time zone or job that is not allowed. The
    /// message says what was expected and what was found.
    pub fn add(&self, periodic: Periodic) -> Result<String, Error> {
        let job = self.checked(&periodic)?;
        let name = job.name.clone();
        self.jobs().insert(name.clone(), Arc::new(job));
        self.notify_listeners();
        Ok(name)
    }

    /// Like [`PeriodicJobs::add`], but an error if there is one of this name. Used at ignite,
    /// where two of a name are a mistake and not a change.
    pub(crate) fn add_first(&self, periodic: &Periodic) -> Result<(), Error> {
        let job = self.checked(periodic)?;
        if self.jobs().contains_key(&job.name) {
            let name = &job.name;
            return Err(Error::invalid(format!("there are two periodic jobs named {name:?}")));
        }
        self.jobs().insert(job.name.clone(), Arc::new(job));
        self.notify_listeners();
        Ok(())
    }

    /// Removes a periodic job from this process. Returns whether there was one. Jobs that it
    /// has enqueued stay.
    pub fn remove(&self, name: &str) -> bool {
        let removed = self.jobs().remove(name).is_some();
        if removed {
            self.notify_listeners();
        }
        removed
    }

    /// The periodic jobs of this process, by name. For all processes, with next and last runs,
    /// see [`Inspector::periodic_jobs`](crate::Inspector::periodic_jobs).
    pub fn list(&self) -> Vec<PeriodicRegistration> {
        let info = |job: Arc<PeriodicJob>| PeriodicRegistration {
            name: job.name.clone(),
            id: job.id.clone(),
            spec: job.schedule.spec().to_owned(),
            job_type: job.job.record.job_type.clone(),
            queue: job.job.record.queue.clone(),
            missed: job.missed,
        };
        self.all().into_iter().map(info).collect()
    }

    /// A snapshot of the list, by name.
    pub(super) fn all(&self) -> Vec<Arc<PeriodicJob>> {
        self.jobs().values().map(Arc::clone).collect()
    }

    /// Returns when the list has changed since the last call. Several changes count as one.
    pub(super) async fn changed(&self, listener: Listener) {
        self.shared.changed[listener as usize].notified().await;
    }

    /// Makes the announcer repeat its announcement: something in it has changed.
    pub(super) fn announce_soon(&self) {
        self.shared.changed[Listener::Announcing as usize].notify_one();
    }

    /// Checks name, schedule and job. The job is built here once, as a test of everything that
    /// each tick would otherwise find out.
    fn checked(&self, periodic: &Periodic) -> Result<PeriodicJob, Error> {
        let (name, schedule) = (periodic.identity()?, periodic.schedule()?);
        if let Some(kept) = schedule.rounded() {
            let (spec, interval) = (schedule.spec(), duration_text(kept));
            crate::log::warn!(%name, %spec, %interval, "@every is cut to whole seconds, at least one");
        }
        Ok(PeriodicJob {
            id: periodic_id(&name),
            name,
            schedule,
            missed: periodic.on_missed(),
            job: (self.shared.template)(periodic)?,
            seen: Mutex::default(),
        })
    }

    /// Wakes both services: the list has changed.
    fn notify_listeners(&self) {
        for listener in &self.shared.changed {
            listener.notify_one();
        }
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Arc<PeriodicJob>>> {
        lock(&self.shared.jobs)
    }
}

impl fmt::Debug for PeriodicJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.jobs().keys()).finish()
    }
}

impl PeriodicJob {
    /// What the store said last about its ticks.
    pub(super) fn seen(&self) -> SeenTicks {
        *self.lock()
    }

    /// Takes in what the store said about its ticks. An answer without a last run does not
    /// erase the one that is known.
    pub(super) fn see(&self, fired: &Fired) {
        let mut seen = self.lock();
        seen.claimed = Some(fired.claimed);
        seen.last_run = seen.last_run.into_iter().chain(fired.last_run).max();
    }

    /// Ticks up to this one are skipped. Only this process notes it; the store's claim stays,
    /// and another process with another policy may still fire them.
    pub(super) fn pass_over(&self, tick: Timestamp) {
        self.lock().claimed = Some(tick);
    }

    /// The request to claim and fire these ticks. Without ticks it only asks what is claimed.
    pub(super) fn firing(&self, ticks: &[Timestamp], now: Timestamp) -> Firing {
        Firing {
            entry: self.name.clone(),
            queue: self.job.record.queue.clone(),
            known: self.seen().claimed,
            keep: self.keep(now),
            ticks: ticks.iter().map(|tick| (*tick, self.job_of(*tick))).collect(),
        }
    }

    /// How long the store has to keep the claim: until well after the second tick from now.
    pub(super) fn keep(&self, now: Timestamp) -> Duration {
        let next = self.schedule.next(now);
        let gap = next.and_then(|next| Some(self.schedule.next(next)?.since(now)));
        (gap.unwrap_or_default() * 2 + CLAIM_RETENTION).min(MAX_CLAIM_RETENTION)
    }

    /// Its announcement.
    pub(super) fn announced(&self, now: Timestamp) -> AnnouncedPeriodicJob {
        AnnouncedPeriodicJob {
            id: self.id.clone(),
            spec: self.schedule.spec().to_owned(),
            job: self.job.clone(),
            next: self.schedule.next(now),
            prev: self.seen().last_run,
        }
    }

    /// The job of one tick. Its id is made of the name and the tick, so a second process that
    /// fires the same tick makes the same id. A delay in the job's options counts from the
    /// tick, not from when it is fired.
    fn job_of(&self, tick: Timestamp) -> NewJob {
        let mut job = self.job.clone();
        job.record.id = tick_id(&self.name, tick);
        if let Placement::After(delay) = job.placement {
            job.placement = Placement::At(tick + delay);
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, SeenTicks> {
        lock(&self.seen)
    }
}
