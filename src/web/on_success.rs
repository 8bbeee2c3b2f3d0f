//! Jobs that a route enqueues only if its answer is a success.
//!
//! The guard [`OnSuccess`] keeps them with the request. Rocket runs response fairings in the order
//! in which they were attached, before it sends the answer. [`Departure`] is attached at the end of
//! ignition, after every fairing of the application, and so it sees the final status: catchers and
//! the application's own fairings have done their work.
//!
//! It deliberately promises no transaction. If the process dies between the route's own commit and
//! the answer, the jobs are lost; a route that must not lose them enqueues before it commits, with
//! a job that bears to find nothing to do.

use std::sync::Mutex;

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::{Responder, Response};
use rocket::{Ignite, Rocket, Sentinel};

use super::JobQueue;
use super::error::ProblemDetails;
use crate::client::{Draft, PreparedJob};
use crate::config::OnSuccessFailure;
use crate::error::Error;
use crate::job::JobId;
use crate::sync::lock;

/// The jobs that this request holds back.
#[derive(Default)]
struct HeldJobs(Mutex<Vec<PreparedJob>>);

/// A request guard that enqueues jobs only if the answer is a success: if its final status is below
/// 400, so also for the 303 after a form. Otherwise the jobs vanish.
///
/// They are sent in one call, after the route, its responder and every other fairing, and before
/// the answer is sent. If the store does not take one of them, the answer becomes 503 (500 if the
/// store refuses), although the route has done its work; a client that repeats the request then
/// repeats that too. With `jobqueue.on_success_failure = "log"` the answer stays, an error is
/// logged and `jobqueue_on_success_lost_jobs_total` counts the jobs. A duplicate is not a failure.
/// `jobqueue.on_success_below` is the first status that does not count as success, 400 by default.
///
/// This is not a transaction with a database: if the process dies before the answer, the jobs are
/// lost.
///
/// ```no_run
/// use rocket::response::Redirect;
/// use rocket::{post, uri, get};
/// use rocket_jobqueue::{Draft, Error, Job, OnSuccess};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Welcome { user: u64 }
/// impl Job for Welcome { const TYPE: &'static str = "mail:welcome"; }
///
/// # async fn save(_: u64) -> Result<(), Error> { Ok(()) }
/// # #[get("/")] fn index() {}
/// #[post("/sign-up/<user>")]
/// async fn sign_up(user: u64, jobs: OnSuccess<'_>) -> Result<Redirect, Error> {
///     jobs.enqueue(Draft::new(Welcome { user }))?; // checked now, stored with the answer
///     save(user).await?; // if it fails, nobody is welcomed
///     Ok(Redirect::to(uri!(index)))
/// }
/// ```
#[derive(Clone, Copy)]
pub struct OnSuccess<'r> {
    queue: &'r JobQueue,
    held: &'r HeldJobs,
}

impl OnSuccess<'_> {
    /// Holds a job back until the answer. Returns the id that it will have if it is stored: a unique
    /// job may be refused then, which is silent, or be stored under the id of the job that it
    /// replaces. A delay begins with the answer.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a value out of its domain, and [`Error::is_closed`].
    pub fn enqueue(&self, job: impl Into<Draft>) -> Result<JobId, Error> {
        let prepared = self.queue.client().prepare(job.into())?;
        let id = prepared.id().clone();
        lock(&self.held.0).push(prepared);
        Ok(id)
    }
}

impl std::fmt::Debug for OnSuccess<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnSuccess").field("jobs", &lock(&self.held.0).len()).finish_non_exhaustive()
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for OnSuccess<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let queue = <&JobQueue>::from_request(request).await;
        queue.map(|queue| Self { queue, held: request.local_cache(HeldJobs::default) })
    }
}

impl Sentinel for OnSuccess<'_> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        JobQueue::abort(rocket)
    }
}

/// Stores what requests hold back, or drops it; the last fairing that sees a response.
pub(super) struct Departure;

#[rocket::async_trait]
impl Fairing for Departure {
    fn info(&self) -> Info {
        Info { name: "Job queue: jobs of successful answers", kind: Kind::Response }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let held = std::mem::take(&mut *lock(&request.local_cache(HeldJobs::default).0));
        let Some(queue) = request.rocket().state::<JobQueue>().filter(|_| !held.is_empty()) else {
            return;
        };
        if response.status().code >= queue.config().on_success_below {
            return;
        }
        let answers = queue.client().store_prepared(held).await;
        let is_failure = |error: &Error| !error.is_duplicate() && !error.is_id_conflict();
        let errors: Vec<Error> =
            answers.into_iter().filter_map(Result::err).filter(is_failure).collect();
        let (Some(error), lost) = (errors.first(), errors.len()) else { return };
        match queue.config().on_success_failure {
            OnSuccessFailure::Refuse => refuse(request, response, error),
            OnSuccessFailure::Log => {
                crate::log::error!(?error, "{lost} jobs of a successful answer were not enqueued");
                #[cfg(feature = "metrics")]
                queue.runtime().registry().attempts().lost_on_success.inc_by(lost as u64);
            }
        }
    }
}

/// Turns the response into a problem. Headers stay that other fairings have added, except for those
/// about the answer that is replaced.
fn refuse<'r>(request: &'r Request<'_>, response: &mut Response<'r>, error: &Error) {
    for name in ["Location", "ETag", "Last-Modified", "Content-Encoding", "Content-Disposition"] {
        response.remove_header(name);
    }
    match ProblemDetails::from(error.clone()).respond_to(request) {
        Ok(problem) => {
            response.merge(problem);
        }
        Err(_) => response.set_status(Status::InternalServerError),
    }
}
