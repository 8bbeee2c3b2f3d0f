//! Bounds concurrent reads by viewers and runs them in low-priority threads. Each may read
//! several MB from the store and hold them until its answer is written, so only a few fit
//! beside the application's own work. What they may read of the store in all is bounded by its
//! connections for viewers (`Broker::aside`).

use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use rocket::http::{Method, Status};
use rocket::request::Request;
use rocket::route::{Handler, Outcome};
use rocket::tokio::task::block_in_place;
use rocket::{Data, Route};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::JobQueue;
use super::guards::ViewAccess;
use crate::error::Error;
use crate::pool::lower_priority;

/// Maximum concurrent reads. Answers of several MB take a while to make, and the application needs
/// the other threads.
const MAX_READS: usize = 2;

/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// Large answers are written in pieces of this size. By default Rocket writes 4 KB at a time, and
/// each piece wakes a thread of the application.
const LARGE_CHUNK_BYTES: usize = 64 * 1024;

/// The turns of a process: permits for concurrent reads.
pub(super) struct Reads {
    turns: Arc<Semaphore>,
    /// Runs of the doctor.
    doctor_runs: Arc<Semaphore>,
}

impl Default for Reads {
    fn default() -> Self {
        let turns = Arc::new(Semaphore::new(MAX_READS));
        Self { turns, doctor_runs: Arc::new(Semaphore::new(1)) }
    }
}

impl Reads {
    /// Admits a run of the doctor. It takes minutes with many jobs, so it gives up its turn, and
    /// only one runs at a time.
    pub(super) fn doctor_run(&self, access: ViewAccess) -> Result<OwnedSemaphorePermit, Error> {
        drop(access);
        Arc::clone(&self.doctor_runs)
            .try_acquire_owned()
            .map_err(|_| Error::too_many("the doctor is running already: retry later"))
    }
}

/// The turn of a request: until its handler is done, or drops this.
pub(super) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
    lasts: Arc<AtomicBool>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.lasts.store(false, Ordering::Relaxed);
    }
}

/// Whether it is a request's turn.
struct TurnLasts(Arc<AtomicBool>);

fn turn_lasts<'r>(request: &'r Request<'_>) -> &'r Arc<AtomicBool> {
    &request.local_cache(|| TurnLasts(Arc::default())).0
}

/// Whether the request was refused because no turn came.
struct NoTurn(bool);

/// Waits for the turn of a request that passed its guard; 503 on timeout.
pub(super) async fn turn(request: &Request<'_>) -> Result<Turn, Status> {
    let lasts = Arc::clone(turn_lasts(request));
    let Some(queue) = request.rocket().state::<JobQueue>() else {
        return Ok(Turn { _permit: None, lasts });
    };
    let permit = Arc::clone(&queue.reads().turns).acquire_owned();
    match tokio::time::timeout(TURN_TIMEOUT, permit).await {
        Ok(permit) => {
            lasts.store(true, Ordering::Relaxed);
            // The rest of the request runs in a low-priority thread.
            tokio::task::yield_now().await;
            Ok(Turn { _permit: permit.ok(), lasts })
        }
        Err(_) => {
            request.local_cache(|| NoTurn(true));
            Err(Status::ServiceUnavailable)
        }
    }
}

/// Whether this request was refused because no turn came.
pub(super) fn had_no_turn(request: &Request<'_>) -> bool {
    request.local_cache(|| NoTurn(false)).0
}

/// Wraps GET routes so that their work runs at low priority: reading, filtering and rendering
/// several MB takes tens of milliseconds, which jobs and other requests would otherwise wait.
///
/// This applies only during the request's turn, so that there are at most as many such threads as
/// turns. Guards, and requests that they refuse, run on the runtime.
pub(super) fn quiet(routes: Vec<Route>) -> Vec<Route> {
    let wrap = |mut route: Route| {
        if route.method == Method::Get {
            route.handler = Box::new(Quiet { inner: route.handler });
        }
        route
    };
    routes.into_iter().map(wrap).collect()
}

#[derive(Clone)]
struct Quiet {
    inner: Box<dyn Handler>,
}

#[rocket::async_trait]
impl Handler for Quiet {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let mut work = self.inner.handle(request, data);
        let lasts = turn_lasts(request);
        let mut outcome = loop {
            if let Some(outcome) = poll_while(&mut work, || !is_set(lasts)).await {
                break outcome;
            }
            if let Some(outcome) = quietly(poll_while(&mut work, || is_set(lasts))).await {
                break outcome;
            }
        };
        if let Outcome::Success(response) = &mut outcome
            && response.body().preset_size().is_some_and(|size| size > LARGE_CHUNK_BYTES)
        {
            response.set_max_chunk_size(LARGE_CHUNK_BYTES);
        }
        outcome
    }
}

fn is_set(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}

/// Polls as long as the condition holds. `None`: it does not hold any more, and another call has
/// to continue.
async fn poll_while<F: Future + Unpin>(
    work: &mut F,
    holds: impl Fn() -> bool,
) -> Option<F::Output> {
    poll_fn(|context| match Pin::new(&mut *work).poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if holds() => Poll::Pending,
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Runs work to its end in a thread of low priority, while the runtime moves its other tasks to
/// other threads.
async fn quietly<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let runtime = match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => runtime,
        // The runtime of a test, which has no other thread.
        Ok(_) | Err(_) => return work.await,
    };
    let mut work = Some(work);
    let mut in_thread = || {
        lower_priority();
        work.take().map(|work| runtime.block_on(work))
    };
    let done = block_in_place(|| {
        thread::scope(|scope| {
            let name = "jobqueue-read".to_owned();
            let started = thread::Builder::new().name(name).spawn_scoped(scope, &mut in_thread);
            let thread = started.ok()?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    });
    match (done, work) {
        (Some(done), _) => done,
        // There was no thread to start.
        (None, Some(work)) => work.await,
        (None, None) => unreachable!("the thread returns what the work returned"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn quiet_work_is_done_in_a_thread_that_gives_way() {
        #[cfg(target_os = "linux")]
        let priority = || rustix::process::getpriority_process(None).unwrap();
        #[cfg(not(target_os = "linux"))]
        let priority = || 10;
        let name = || thread::current().name().map(str::to_owned);
        let done = quietly(async {
            let before = name();
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert_eq!(before, name());
            (before, priority(), Handle::try_current().is_ok())
        });
        assert_eq!(done.await, (Some("jobqueue-read".to_owned()), priority().max(10), true));
    }

    #[tokio::test]
    async fn work_changes_over_with_its_turn() {
        let lasts = AtomicBool::new(false);
        let mut work = Box::pin(async {
            lasts.store(true, Ordering::Relaxed);
            tokio::task::yield_now().await;
            lasts.store(false, Ordering::Relaxed);
            tokio::task::yield_now().await;
            "done"
        });
        assert_eq!(poll_while(&mut work, || !is_set(&lasts)).await, None);
        assert_eq!(poll_while(&mut work, || is_set(&lasts)).await, None);
        assert_eq!(poll_while(&mut work, || !is_set(&lasts)).await, Some("done"));
    }
}
