//! How many requests of viewers are answered at a time. Each may ask the store for several
//! MB and hold them until its answer is made: beside the application's own work there is
//! room for a few.

use std::sync::Arc;
use std::time::Duration;

use rocket::http::Status;
use rocket::request::Request;
use rocket::tokio::task::block_in_place;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::JobQueue;
use super::guards::ViewAccess;
use crate::error::Error;

/// Requests at a time. Answers of several MB take a while to make, and the application needs
/// the other threads.
const MAX_READS: usize = 2;

/// How long the next one waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// The turns of a process.
pub(super) struct Reads {
    turns: Arc<Semaphore>,
    /// Of those who look at everything there is.
    check_ups: Arc<Semaphore>,
}

impl Default for Reads {
    fn default() -> Self {
        let turns = Arc::new(Semaphore::new(MAX_READS));
        Self { turns, check_ups: Arc::new(Semaphore::new(1)) }
    }
}

impl Reads {
    /// A check-up takes minutes where jobs are many: it gives its turn to others, and there
    /// is one at a time.
    pub(super) fn check_up(&self, access: ViewAccess) -> Result<OwnedSemaphorePermit, Error> {
        drop(access);
        Arc::clone(&self.check_ups)
            .try_acquire_owned()
            .map_err(|_| Error::too_many("another check-up is under way: try again later"))
    }
}

/// The turn of a request: until its handler is done, or drops this.
pub(super) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

/// A request that was not answered for want of a turn.
struct NoTurn(bool);

/// Waits for the turn of a request that may look; 503 where it does not come.
pub(super) async fn turn(request: &Request<'_>) -> Result<Turn, Status> {
    let Some(queue) = request.rocket().state::<JobQueue>() else {
        return Ok(Turn { _permit: None });
    };
    let permit = Arc::clone(&queue.reads().turns).acquire_owned();
    match tokio::time::timeout(TURN_TIMEOUT, permit).await {
        Ok(permit) => Ok(Turn { _permit: permit.ok() }),
        Err(_) => {
            request.local_cache(|| NoTurn(true));
            Err(Status::ServiceUnavailable)
        }
    }
}

/// Whether it is for want of a turn that this request was not answered.
pub(super) fn had_no_turn(request: &Request<'_>) -> bool {
    request.local_cache(|| NoTurn(false)).0
}

/// Does what takes a thread for long, while the runtime's other tasks go on elsewhere.
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        // A test's, which has no other thread.
        Ok(_) | Err(_) => work(),
    }
}
