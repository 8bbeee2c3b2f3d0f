//! Background services that move jobs when their time has come.
//!
//! - [`forwarder`] makes due jobs pending.
//! - [`recoverer`] requeues jobs whose worker vanished.
//! - [`janitor`] deletes completed jobs after their retention and trims the archive.
//! - [`repair_service`] repairs what faults left behind.
//! - [`limit_watch`] warns of workers that do not know limits.
//! - [`type_reporter`] stores statistics of job types.
//! - [`minute_recorder`] counts by minute what Go's workers count by day.
//! - [`aggregator`] turns the jobs of a group into one.
//! - [`periodic_service`] enqueues periodic jobs; [`announcer`] publishes which of them this
//!   process has.
//!
//! Every process with a worker runs all of them, without electing a leader; the minute recorder runs
//! in processes with a web interface. Each operation
//! is an atomic script that several processes may run at the same time, and that may be
//! interrupted between any two calls.
//!
//! A service is a [`Service::tick`], which does the work once and returns how long until it
//! is due again. The loop around it exists once ([`run`]): it waits, ends the wait early on
//! a [`Service::wakeup`], stops at shutdown, and backs off while the store cannot be
//! reached. Waits of up to ten seconds end on time to a tenth of a millisecond, see
//! [`precise_timer`].
//!
//! When the services are due, and how much they do at once:
//!
//! | Service | Due | In one script |
//! |---|---|---|
//! | forwarder | when the next job is due, and just after each whole second | 100 jobs |
//! | recoverer | every 4 to 5 s | 100 jobs |
//! | janitor | every 8 s | 100 jobs |
//! | repair service | every 48 to 72 s | a part of the queue |
//! | limit watch | every 60 s | nothing |
//! | type reporter | every 10 s, if jobs ended | the counts of 50 job types |
//! | minute recorder | just after each minute begins | one queue |
//! | aggregator | when the next group is ready, at least every 7 s | one group |
//! | periodic service | at the next tick, at least every 60 s | the ticks of one periodic job |
//! | announcer | every 10 s, and at a change of the list | all periodic jobs |
//!
//! Three rules hold for all. Which job is due, expired or over is decided by the store's clock,
//! never by the clock of this host, which may be wrong. A queue that fails delays no other
//! queue: [`Round`] collects the results, and only if every queue failed does the loop back
//! off. And a tick may be dropped at any `await`, because a shutdown does not wait for it.

mod aggregator;
mod announcer;
mod clock_watch;
mod forwarder;
mod janitor;
mod limit_watch;
mod minute_recorder;
mod periodic_jobs;
mod periodic_service;
mod precise_timer;
mod recoverer;
mod repair_service;
mod type_reporter;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Broker;
use crate::chance::Chance;
use crate::error::Error;
use crate::error::Refusals;
use crate::job::QueueName;
use crate::time::Backoff;
use announcer::{Announcer, Retirement};
use limit_watch::LimitWatch;
use precise_timer::PreciseTimer;

pub(crate) use aggregator::{Aggregation, Aggregator, aggregate_now};
pub(crate) use forwarder::Forwarder;
pub(crate) use janitor::Janitor;
pub(crate) use minute_recorder::record_minutes;
pub use periodic_jobs::{PeriodicJobs, PeriodicRegistration};
pub(crate) use periodic_service::PeriodicService;
pub(crate) use recoverer::Recoverer;
pub(crate) use repair_service::RepairService;
pub(crate) use type_reporter::TypeReporter;

/// Work that is repeated in the background.
pub(crate) trait Service: Send + Sync + 'static {
    /// What it does, as log lines say it: "forwarding due jobs".
    const NAME: &'static str;

    /// Does the work once. Returns how long until it is due again.
    ///
    /// An error means that no queue could be served. The loop then waits for at most half a
    /// second, whatever the service's interval, so that work goes on as soon as the store is
    /// back.
    fn tick(&self) -> impl Future<Output = Result<Duration, Error>> + Send;

    /// Called just before it is due, to wake what may be asleep by then: an idle Redis on a
    /// sleeping core answers late. May be cut short.
    fn prewarm(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Returns when the work is due earlier than [`tick`](Self::tick) said. It is dropped and
    /// called again for every wait: a notice in between must not be lost, as it is not with
    /// [`Notify::notify_one`](tokio::sync::Notify::notify_one).
    fn wakeup(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// Collects the results of one tick over all queues. A queue that fails does not keep the
/// others from being served.
#[derive(Default)]
pub(crate) struct Round {
    served: bool,
    failed: Option<Error>,
}

impl Round {
    /// Takes in the result of one queue. Returns the value if the queue was served. Of several
    /// errors the first is kept.
    fn add<T>(&mut self, answer: Result<T, Error>) -> Option<T> {
        match answer {
            Ok(value) => {
                self.served = true;
                Some(value)
            }
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }

    /// Whether every queue failed.
    fn failed_at_all(&self) -> bool {
        self.failed.is_some() && !self.served
    }

    /// The result of the tick: an error only if every queue failed.
    fn end(self, next: Duration) -> Result<Duration, Error> {
        match self.failed {
            Some(error) if !self.served => Err(error),
            Some(error) => {
                crate::log::debug!("a queue was not served: {error:?}");
                Ok(next)
            }
            None => Ok(next),
        }
    }
}

/// The running services of one process, for the queues of its worker. Dropping it stops them
/// without waiting for their end.
pub(crate) struct Scheduler {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Scheduler {
    /// Starts the services for these queues. Called at launch, if the process has a worker.
    /// Groups are aggregated only with an `aggregation`. All share one timer thread.
    pub(crate) fn start(
        broker: &Arc<dyn Broker>,
        queues: &[QueueName],
        aggregation: Option<Aggregation>,
        reporter: TypeReporter,
    ) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let timer = Arc::new(PreciseTimer::start());
        let of = || (Arc::clone(broker), queues.to_vec());
        let (b, q) = of();
        tasks.spawn(run(Forwarder::new(b, q), Arc::clone(&timer), stop.clone()));
        let (b, q) = of();
        tasks.spawn(run(Recoverer::new(b, q, Chance::system()), Arc::clone(&timer), stop.clone()));
        if let Some(aggregation) = aggregation {
            let (b, q) = of();
            let aggregator = Aggregator::new(b, q, aggregation, tasks.clone(), stop.clone());
            tasks.spawn(run(aggregator, Arc::clone(&timer), stop.clone()));
        }
        let (b, q) = of();
        tasks.spawn(run(Janitor::new(b, q), Arc::clone(&timer), stop.clone()));
        let (b, q) = of();
        tasks.spawn(run(LimitWatch::new(b, q), Arc::clone(&timer), stop.clone()));
        tasks.spawn(run(reporter, Arc::clone(&timer), stop.clone()));
        let (b, q) = of();
        tasks.spawn(run(RepairService::new(b, q), timer, stop.clone()));
        tasks.close();
        Self { stop, tasks }
    }

    /// Stops the services and waits until they have ended.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The running services for the periodic jobs of one process.
pub(crate) struct PeriodicServices {
    scheduler: Scheduler,
    retirement: Retirement,
}

impl PeriodicServices {
    /// Enqueues and announces these periodic jobs, including those that are added later.
    pub(crate) fn start(broker: &Arc<dyn Broker>, entries: &PeriodicJobs) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let timer = Arc::new(PreciseTimer::start());
        let announcer = Announcer::new(Arc::clone(broker), entries.clone());
        let retirement = announcer.retirement();
        tasks.spawn(run(announcer, Arc::clone(&timer), stop.clone()));
        let service = PeriodicService::new(Arc::clone(broker), entries.clone());
        tasks.spawn(run(service, timer, stop.clone()));
        tasks.close();
        Self { scheduler: Scheduler { stop, tasks }, retirement }
    }

    /// Stops enqueuing and withdraws the announcement.
    pub(crate) async fn stop(&self) {
        self.scheduler.stop().await;
        self.retirement.retire().await;
    }
}

/// The loop of every service: tick, wait, and back off while the store is away.
///
/// An outage is logged once, by the connection, and a refusal once, by [`Refusals`]; each
/// failed tick is on the debug level.
async fn run<S: Service>(service: S, timer: Arc<PreciseTimer>, stop: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
    let mut refused = Refusals::default();
    loop {
        // Dropping a tick half-way is safe: every operation is atomic.
        let ticked = tokio::select! {
            () = stop.cancelled() => return,
            ticked = service.tick() => ticked,
        };
        let pause = match ticked {
            Ok(next) => {
                backoff.reset();
                refused.over();
                next
            }
            Err(error) => {
                let pause = backoff.next();
                refused.note(S::NAME, &error);
                crate::log::debug!("{} failed, next attempt in {pause:?}: {error:?}", S::NAME);
                // A wake-up does not shorten this: it does not bring the store back.
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => continue,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = timer.after(pause, service.prewarm()) => {}
            () = service.wakeup() => {}
        }
    }
}
