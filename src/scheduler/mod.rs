//! Moves jobs on when their time has come: due ones to the workers, those of
//! vanished workers back in line, completed ones out. Each service is a `tick`;
//! the loop around it exists once.

mod aggregator;
mod announcer;
mod clock_watch;
mod forwarder;
mod janitor;
mod periodic_jobs;
mod periodic_service;
mod precise_timer;
mod recoverer;
mod repair_service;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Broker;
use crate::error::Error;
use crate::error::Refusals;
use crate::job::QueueName;
use crate::time::Backoff;
use announcer::{Announcer, Retirement};
use precise_timer::PreciseTimer;

pub(crate) use aggregator::{Aggregation, Aggregator, aggregate_now};
pub(crate) use forwarder::Forwarder;
pub(crate) use janitor::Janitor;
pub use periodic_jobs::{PeriodicJobs, PeriodicRegistration};
pub(crate) use periodic_service::PeriodicService;
pub(crate) use recoverer::Recoverer;
pub(crate) use repair_service::RepairService;

/// Something to be done again and again.
pub(crate) trait Service: Send + Sync + 'static {
    /// Its name in logs.
    const NAME: &'static str;

    /// Does it once; says how long until it is due again.
    fn tick(&self) -> impl Future<Output = Result<Duration, Error>> + Send;

    /// Called a moment before it is due: wakes what it will need, if that may be asleep.
    fn prewarm(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Returns when it is due earlier than it said.
    fn wakeup(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// One look at all queues: a queue that fails does not keep the others waiting.
#[derive(Default)]
pub(crate) struct Round {
    served: bool,
    failed: Option<Error>,
}

impl Round {
    fn note<T>(&mut self, answer: Result<T, Error>) -> Option<T> {
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

    /// Whether no queue was served, and some should have been.
    fn failed_at_all(&self) -> bool {
        self.failed.is_some() && !self.served
    }

    /// Failed only where no queue was served.
    fn end(self, next: Duration) -> Result<Duration, Error> {
        match self.failed {
            Some(error) if !self.served => Err(error),
            Some(error) => {
                crate::log::debug!("a queue was left out: {error:?}");
                Ok(next)
            }
            None => Ok(next),
        }
    }
}

/// The running services of one process.
pub(crate) struct Scheduler {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Scheduler {
    pub(crate) fn start(
        broker: &Arc<dyn Broker>,
        queues: &[QueueName],
        aggregation: Option<Aggregation>,
    ) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let timer = Arc::new(PreciseTimer::start());
        let of = || (Arc::clone(broker), queues.to_vec());
        let (b, q) = of();
        tasks.spawn(run(Forwarder::new(b, q), Arc::clone(&timer), stop.clone()));
        let (b, q) = of();
        tasks.spawn(run(Recoverer::new(b, q), Arc::clone(&timer), stop.clone()));
        if let Some(aggregation) = aggregation {
            let (b, q) = of();
            let aggregator = Aggregator::new(b, q, aggregation, tasks.clone(), stop.clone());
            tasks.spawn(run(aggregator, Arc::clone(&timer), stop.clone()));
        }
        let (b, q) = of();
        tasks.spawn(run(Janitor::new(b, q), Arc::clone(&timer), stop.clone()));
        let (b, q) = of();
        tasks.spawn(run(RepairService::new(b, q), timer, stop.clone()));
        tasks.close();
        Self { stop, tasks }
    }

    /// Ends the services after what they are doing.
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

/// The running services for periodic entries of one process.
pub(crate) struct PeriodicServices {
    scheduler: Scheduler,
    farewell: Retirement,
}

impl PeriodicServices {
    /// Fires and announces these entries, also those that are added later.
    pub(crate) fn start(broker: &Arc<dyn Broker>, entries: &PeriodicJobs) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let timer = Arc::new(PreciseTimer::start());
        let announcer = Announcer::new(Arc::clone(broker), entries.clone());
        let farewell = announcer.farewell();
        tasks.spawn(run(announcer, Arc::clone(&timer), stop.clone()));
        let service = PeriodicService::new(Arc::clone(broker), entries.clone());
        tasks.spawn(run(service, timer, stop.clone()));
        tasks.close();
        Self { scheduler: Scheduler { stop, tasks }, farewell }
    }

    /// Ends firing, and takes the announcement back.
    pub(crate) async fn stop(&self) {
        self.scheduler.stop().await;
        self.farewell.say().await;
    }
}

/// The loop of every service: tick, wait, and back off while the store is away.
async fn run<S: Service>(service: S, timer: Arc<PreciseTimer>, stop: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
    let mut refused = Refusals::default();
    loop {
        // Every operation is atomic: to be dropped half-way does no harm.
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
                crate::log::debug!("{} failed, next try in {pause:?}: {error:?}", S::NAME);
                // Not to be cut short: a wake-up does not bring the store back.
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
