//! Who may do what: the handle as a request guard, and the application's own
//! guards in front of our routes.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use rocket::http::Status;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::{Ignite, Rocket, Sentinel};

use super::JobQueue;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for JobQueue {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        <&JobQueue>::from_request(request).await.map(Clone::clone)
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for &'r JobQueue {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match request.rocket().state::<JobQueue>() {
            Some(queue) => Outcome::Success(queue),
            None => Outcome::Error((Status::InternalServerError, ())),
        }
    }
}

fn is_missing(rocket: &Rocket<Ignite>) -> bool {
    let missing = rocket.state::<JobQueue>().is_none();
    if missing {
        super::log::to_stderr_unless_taken();
        tracing::error!(
            "a route names the guard `JobQueue`, but no job queue is attached: \
             add `.attach(JobQueue::fairing())` to the application"
        );
    }
    missing
}

impl Sentinel for JobQueue {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        is_missing(rocket)
    }
}

impl Sentinel for &JobQueue {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        is_missing(rocket)
    }
}

type Verdict<'a> = Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>>;

/// A guard of the application's whose type is forgotten.
pub(super) trait ErasedGuard: Send + Sync {
    fn check<'r>(&self, request: &'r Request<'_>) -> Verdict<'r>;
}

struct Typed<G>(PhantomData<fn() -> G>);

impl<G> ErasedGuard for Typed<G>
where
    G: for<'r> FromRequest<'r> + Send + 'static,
{
    fn check<'r>(&self, request: &'r Request<'_>) -> Verdict<'r> {
        Box::pin(async move {
            match G::from_request(request).await {
                Outcome::Success(_) => Ok(()),
                Outcome::Error((status, _)) | Outcome::Forward(status) => Err(status),
            }
        })
    }
}

pub(super) fn erase<G>() -> Box<dyn ErasedGuard>
where
    G: for<'r> FromRequest<'r> + Send + 'static,
{
    Box::new(Typed::<G>(PhantomData))
}

/// The application's guards in front of our routes.
#[derive(Default)]
pub(super) struct Hooks {
    pub(super) admin: Option<Box<dyn ErasedGuard>>,
    pub(super) register: Option<Box<dyn ErasedGuard>>,
    /// Whether admin routes are open where no guard is set: in debug only.
    pub(super) open_without_admin: bool,
}

async fn passes(guard: &dyn ErasedGuard, request: &Request<'_>) -> Result<(), Status> {
    // A guard that forwards without a reason still means no.
    guard.check(request).await.map_err(|status| match status.code {
        200..400 | 404 => Status::Forbidden,
        _ => status,
    })
}

/// The right to look at queues and jobs: the application's `admin_guard`. Without
/// one, everybody in debug and nobody in release.
#[cfg_attr(
    not(any(feature = "dashboard", feature = "metrics")),
    expect(dead_code, reason = "nothing to guard without pages and metrics")
)]
pub(crate) struct AdminAccess(());

#[rocket::async_trait]
impl<'r> FromRequest<'r> for AdminAccess {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let allowed = match request.rocket().state::<Hooks>() {
            None => Err(Status::Forbidden),
            Some(Hooks { admin: Some(guard), .. }) => passes(&**guard, request).await,
            Some(Hooks { open_without_admin: true, .. }) => Ok(()),
            Some(_) => Err(Status::Forbidden),
        };
        match allowed {
            Ok(()) => Outcome::Success(AdminAccess(())),
            Err(status) => Outcome::Error((status, ())),
        }
    }
}

/// The right to register the reference job: the application's `register_guard`,
/// where it has set one.
pub(crate) struct RegisterAccess(());

#[rocket::async_trait]
impl<'r> FromRequest<'r> for RegisterAccess {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let guard = request.rocket().state::<Hooks>().and_then(|hooks| hooks.register.as_deref());
        let allowed = match guard {
            None => Ok(()),
            Some(guard) => passes(guard, request).await,
        };
        match allowed {
            Ok(()) => Outcome::Success(RegisterAccess(())),
            Err(status) => Outcome::Error((status, ())),
        }
    }
}

#[cfg(feature = "openapi")]
mod documented {
    use rocket_okapi::r#gen::OpenApiGenerator;
    use rocket_okapi::request::{OpenApiFromRequest, RequestHeaderInput};

    use super::{AdminAccess, JobQueue, RegisterAccess};

    /// Guards without an input of their own that a document could name.
    macro_rules! silent {
        ($($guard:ty),*) => {$(
            impl<'r> OpenApiFromRequest<'r> for $guard {
                fn from_request_input(
                    _: &mut OpenApiGenerator,
                    _: String,
                    _: bool,
                ) -> rocket_okapi::Result<RequestHeaderInput> {
                    Ok(RequestHeaderInput::None)
                }
            }
        )*};
    }

    silent!(JobQueue, &'r JobQueue, AdminAccess, RegisterAccess);
}
