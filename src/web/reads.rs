//! Bounds concurrent reads by viewers and runs them in low-priority threads. Each may read
//! several MB from the store and hold them until its answer is written, so only a few fit
//! beside the application's own work.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
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

/// Maximum concurrent reads. Answers of several MB take a while to make, and the application needs
/// the other threads.
const MAX_READS: usize = 2;

/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

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
        std::future::poll_fn(|context| {
            if !turn_lasts(request).load(Ordering::Relaxed) {
                return work.as_mut().poll(context);
            }
            let waker = context.waker().clone();
            quietly(|| work.as_mut().poll(&mut Context::from_waker(&waker)))
        })
        .await
    }
}

/// Runs long work in a thread of low priority, while the runtime moves its other tasks to other
/// threads.
fn quietly<T: Send>(mut work: impl FnMut() -> T + Send) -> T {
    let runtime = match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => runtime,
        // The runtime of a test, which has no other thread.
        Ok(_) | Err(_) => return work(),
    };
    let mut in_thread = || {
        let _within = runtime.enter();
        give_way();
        work()
    };
    let done = block_in_place(|| {
        thread::scope(|scope| {
            let name = "jobqueue-read".to_owned();
            let started = thread::Builder::new().name(name).spawn_scoped(scope, &mut in_thread);
            started.ok().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })
    });
    done.unwrap_or_else(work)
}

/// Lowers the priority of this thread permanently. Only on Linux: elsewhere the call would lower
/// the priority of the process.
#[cfg(target_os = "linux")]
fn give_way() {
    // Not the lowest: a thread that holds a lock must come to its end beside busy ones.
    const READ_NICENESS: i32 = 10;
    // If refused, the work runs at normal priority.
    let _ = rustix::process::setpriority_process(None, READ_NICENESS);
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

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
        let done = quietly(|| (name(), priority(), Handle::try_current().is_ok()));
        assert_eq!(done, (Some("jobqueue-read".to_owned()), priority().max(10), true));
    }
}
