//! Access: the application's own guards in front of our routes, and the handle as a
//! request guard.
//!
//! There are four rights: to view, to act, to read what operators did, and to register the reference job. A route takes the
//! right as a parameter, and a route without that parameter is public. A test catches
//! it: `routes()` in `tests/it/rest.rs` says who may use each route, and `tests/it/rest/access.rs`
//! tries them all and compares the table with `docs/roles.md`. Without a guard of the application,
//! viewing and acting are denied.
//!
//! The application's guards are `FromRequest` types that this crate cannot name, so they are
//! kept as closures over their type (`erase`). A guard that forwards instead of failing counts
//! as a refusal.
//!
//! What happens for a route that shows something: the view guard, else the admin guard; then
//! the wait for a turn to read (`reads`). For a route that changes something: the admin guard;
//! then `read_only`; then the origin ([`may_change`]). The application's guard goes first, so a
//! stranger learns nothing about the settings.
//!
//! What may surprise. Without a guard everything is denied, except during development, where
//! [`Login`](super::login::Login) takes the place of the admin guard.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use rocket::http::{Method, Status};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::{Ignite, Rocket, Sentinel};

use super::JobQueue;
use super::catchers::explain;
use super::origin::{may_change, may_register};
use super::proxy::forwarded;
use super::reads::{Turn, turn};
use crate::text::Line;
use crate::trace::{self, Trace};

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
            Some(queue) => {
                let (trace, prefix) = (trace_of(request), &forwarded(request).prefix);
                let is_plain = trace.is_none() && prefix.is_empty();
                let own = || request.local_cache(|| queue.in_request(trace, prefix));
                Outcome::Success(if is_plain { queue } else { own() })
            }
            None => Outcome::Error((Status::InternalServerError, ())),
        }
    }
}

/// The trace that a request belongs to. The jobs it enqueues continue it.
fn trace_of(request: &Request<'_>) -> Option<Trace> {
    let mut parents = request.headers().get(trace::PARENT);
    let (parent, None) = (parents.next()?, parents.next()) else { return None };
    let state: Vec<&str> = request.headers().get(trace::STATE).collect();
    Trace::parse(parent, &state.join(","))
}

/// Whether no fairing is attached; logs what to do. Rocket asks at launch, so a forgotten
/// `.attach()` does not wait for the first request to be noticed.
fn is_missing(rocket: &Rocket<Ignite>) -> bool {
    let missing = rocket.state::<JobQueue>().is_none();
    if missing {
        super::log::to_stderr_unless_taken();
        crate::log::error!(
            "a route names the guard `JobQueue`, but no job queue is attached: \
             add `.attach(JobQueue::fairing())` to the application"
        );
        super::stderr::flush();
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

/// The decision of a guard: whom it admits, if it names people, or the status with which it does not.
pub(super) type Verdict<'a> =
    Pin<Box<dyn Future<Output = Result<Option<String>, Status>> + Send + 'a>>;

/// How the application names whom its guard admits.
type NameOf<G> = Box<dyn Fn(&G) -> String + Send + Sync>;

/// A guard of the application, without its type.
pub(super) trait ErasedGuard: Send + Sync {
    /// Asks the guard.
    fn check<'r>(&'r self, request: &'r Request<'_>) -> Verdict<'r>;
}

/// A guard of this type.
struct Typed<G> {
    guard: PhantomData<fn() -> G>,
    name: Option<NameOf<G>>,
}

impl<G> ErasedGuard for Typed<G>
where
    G: for<'r> FromRequest<'r> + Send + 'static,
{
    fn check<'r>(&'r self, request: &'r Request<'_>) -> Verdict<'r> {
        Box::pin(async move {
            match G::from_request(request).await {
                Outcome::Success(guard) => Ok(self.name.as_ref().map(|name| name(&guard))),
                Outcome::Error((status, _)) | Outcome::Forward(status) => Err(status),
            }
        })
    }
}

/// Keeps a guard of the application without its type.
pub(super) fn erase<G>() -> Box<dyn ErasedGuard>
where
    G: for<'r> FromRequest<'r> + Send + 'static,
{
    Box::new(Typed::<G> { guard: PhantomData, name: None })
}

/// The same for a guard that names whom it admits.
pub(super) fn erase_named<G>(
    name: impl Fn(&G) -> String + Send + Sync + 'static,
) -> Box<dyn ErasedGuard>
where
    G: for<'r> FromRequest<'r> + Send + 'static,
{
    Box::new(Typed::<G> { guard: PhantomData, name: Some(Box::new(name)) })
}

/// The guards that the application has set.
#[derive(Default)]
pub(super) struct Hooks {
    /// The application's `admin_guard`; during development without any guard, our own
    /// [`Login`](super::login::Login).
    pub(super) admin: Option<Box<dyn ErasedGuard>>,
    pub(super) view: Option<Box<dyn ErasedGuard>>,
    pub(super) register: Option<Box<dyn ErasedGuard>>,
    /// Where browsers log in: a path of this application, or a URL.
    pub(super) login_url: Option<String>,
    /// Whether every change is refused.
    pub(super) read_only: bool,
}

/// Whether a guard admits the request, or the status with which it does not.
async fn passes(guard: &dyn ErasedGuard, request: &Request<'_>) -> Result<Option<String>, Status> {
    // A guard that forwards without a reason still means no.
    guard.check(request).await.map_err(|status| match status.code {
        200..400 | 404 => Status::Forbidden,
        _ => status,
    })
}

/// The right to view queues and jobs, granted by the application's `view_guard` or its
/// `admin_guard`. Without either, it is always denied.
///
/// For routes that read nothing themselves because they follow what others read too, such as
/// streams. All others ask for [`ViewAccess`].
pub(crate) struct ViewRight(());

#[rocket::async_trait]
impl<'r> FromRequest<'r> for ViewRight {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match may_view(request).await {
            Ok(()) => Outcome::Success(ViewRight(())),
            Err(status) => Outcome::Error((status, ())),
        }
    }
}

async fn may_view(request: &Request<'_>) -> Result<(), Status> {
    let hooks = request.rocket().state::<Hooks>().ok_or(Status::Forbidden)?;
    match (&hooks.view, &hooks.admin) {
        (None, None) => Err(Status::Forbidden),
        (Some(one), None) | (None, Some(one)) => passes(&**one, request).await.map(drop),
        (Some(view), Some(admin)) => match passes(&**view, request).await {
            Ok(_) => Ok(()),
            // The right to act includes viewing. Otherwise the view guard gives the reason.
            Err(status) => passes(&**admin, request).await.map(drop).map_err(|_| status),
        },
    }
}

/// The [right to view](ViewRight) and, while it is held, this request's turn to read the store.
/// Turns are few, so a route that waits drops it first.
pub(crate) struct ViewAccess {
    _turn: Turn,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for ViewAccess {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let turn = match may_view(request).await {
            Ok(()) => turn(request).await,
            Err(status) => Err(status),
        };
        match turn {
            Ok(turn) => Outcome::Success(ViewAccess { _turn: turn }),
            Err(status) => Outcome::Error((status, ())),
        }
    }
}

/// The right to change queues and jobs: the application's `admin_guard`, from this
/// origin, unless `jobqueue.read_only` is set. Without a guard, it is always denied.
pub(crate) struct ActAccess(());

#[rocket::async_trait]
impl<'r> FromRequest<'r> for ActAccess {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let Some(hooks) = request.rocket().state::<Hooks>() else {
            return Outcome::Error((Status::Forbidden, ()));
        };
        let allowed = match &hooks.admin {
            Some(guard) => passes(&**guard, request).await,
            None => Err(Status::Forbidden),
        };
        match allowed {
            Ok(_) if is_read_only(hooks, request) || !may_change(request) => {
                Outcome::Error((Status::Forbidden, ()))
            }
            Ok(name) => {
                request.local_cache(|| Actor(name.map(|name| plain_name(&name))));
                Outcome::Success(ActAccess(()))
            }
            Err(status) => Outcome::Error((status, ())),
        }
    }
}

/// Longest name of an actor, in characters.
const MAX_NAME_CHARS: usize = 100;

/// Who sends a request, as the guard names them.
struct Actor(Option<String>);

/// The name on one line, and not too long: the application may take it from outside.
fn plain_name(name: &str) -> String {
    let name: String = name.chars().take(MAX_NAME_CHARS).collect();
    Line(format_args!("{name}")).to_string()
}

/// Who sends this request, once [`ActAccess`] has admitted it.
pub(crate) fn actor_of(request: &Request<'_>) -> Option<String> {
    request.local_cache(|| Actor(None)).0.clone()
}

/// The right to read what operators did, which names people: granted by the application's
/// `admin_guard` alone. While it is held, it is this request's turn to read the store.
pub(crate) struct AuditAccess {
    _turn: Turn,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for AuditAccess {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let guard = request.rocket().state::<Hooks>().and_then(|hooks| hooks.admin.as_deref());
        let allowed = match guard {
            Some(guard) => passes(guard, request).await,
            None => Err(Status::Forbidden),
        };
        let turn = match allowed {
            Ok(_) => turn(request).await,
            Err(status) => Err(status),
        };
        match turn {
            Ok(turn) => Outcome::Success(AuditAccess { _turn: turn }),
            Err(status) => Outcome::Error((status, ())),
        }
    }
}

/// Whether changes are switched off; records the reason.
fn is_read_only(hooks: &Hooks, request: &Request<'_>) -> bool {
    if hooks.read_only {
        explain(request, "nothing can be changed here: jobqueue.read_only is set");
    }
    hooks.read_only
}

/// The right to register the reference job: the application's `register_guard`, or everybody
/// without one. Sending the form, as opposed to seeing it, also requires that
/// `jobqueue.read_only` is not set and that the request does not come from another site.
pub(crate) struct RegisterAccess(());

#[rocket::async_trait]
impl<'r> FromRequest<'r> for RegisterAccess {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let Some(hooks) = request.rocket().state::<Hooks>() else {
            return Outcome::Error((Status::Forbidden, ()));
        };
        let allowed = match hooks.register.as_deref() {
            None => Ok(()),
            Some(guard) => passes(guard, request).await.map(drop),
        };
        let looks = matches!(request.method(), Method::Get | Method::Head);
        match allowed {
            Ok(()) if !looks && (is_read_only(hooks, request) || !may_register(request)) => {
                Outcome::Error((Status::Forbidden, ()))
            }
            Ok(()) => Outcome::Success(RegisterAccess(())),
            Err(status) => Outcome::Error((status, ())),
        }
    }
}
