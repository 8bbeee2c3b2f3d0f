//! Moves jobs on when their time has come: due ones to the workers, those of
//! vanished workers back in line, completed ones out. Each service is a `tick`;
//! the loop around it exists once.

mod alarm;
mod forwarder;
mod janitor;
mod recoverer;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Broker;
use crate::error::Error;
use crate::job::QueueName;
use crate::time::Backoff;
use alarm::Alarm;

pub(crate) use forwarder::Forwarder;
pub(crate) use janitor::Janitor;
pub(crate) use recoverer::Recoverer;

/// Something to be done again and again.
pub(crate) trait Service: Send + Sync + 'static {
    /// Its name in logs.
    const NAME: &'static str;

    /// Does it once; says how long until it is due again.
    fn tick(&self) -> impl Future<Output = Result<Duration, Error>> + Send;

    /// Returns when it is due earlier than it said.
    fn woken(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// The running services of one process.
pub(crate) struct Scheduler {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Scheduler {
    pub(crate) fn start(broker: &Arc<dyn Broker>, queues: &[QueueName]) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let alarm = Arc::new(Alarm::start());
        let of = || (Arc::clone(broker), queues.to_vec());
        let (b, q) = of();
        tasks.spawn(run(Forwarder::new(b, q), Arc::clone(&alarm), stop.clone()));
        let (b, q) = of();
        tasks.spawn(run(Recoverer::new(b, q), Arc::clone(&alarm), stop.clone()));
        let (b, q) = of();
        tasks.spawn(run(Janitor::new(b, q), alarm, stop.clone()));
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

/// The loop of every service: tick, wait, and back off while the store is away.
async fn run<S: Service>(service: S, alarm: Arc<Alarm>, stop: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        let pause = match service.tick().await {
            Ok(next) => {
                backoff.reset();
                next
            }
            Err(error) => {
                let pause = backoff.next();
                tracing::debug!("{} failed, next try in {pause:?}: {error:?}", S::NAME);
                // Not to be cut short: a wake-up does not bring the store back.
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => continue,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = alarm.after(pause) => {}
            () = service.woken() => {}
        }
    }
}
