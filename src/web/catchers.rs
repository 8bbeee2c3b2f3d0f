//! The catcher of everything below the base: what a guard refuses, and what no route answers, as
//! problem details or, for a person, as a page.
//!
//! Three roads lead to an error: a route returns one ([`super::error`]); a guard refuses and Rocket
//! calls the catcher ([`explain`] passes the reason on); no route matches, or not with this method
//! ([`Methods`]).

use std::borrow::Cow;

use rocket::http::{Header, Status};
#[cfg(feature = "dashboard")]
use rocket::response::Redirect;
use rocket::response::{self, Responder};
use rocket::{Catcher, Request};

use super::error::{ProblemDetails, UNAVAILABLE};
use super::methods::Methods;
use crate::web::JobQueue;
use crate::web::api::TOO_SLOW;
use crate::web::reads::had_no_turn;

/// The challenge of a 401. No browser asks for a password because of it.
const CHALLENGE: &str = "Bearer realm=\"job queue\"";

/// The detail of a 503 for a viewer while too many others are reading.
const BUSY: &str = "too many requests are reading the job queue: retry later";

/// The catchers to register at the base. They apply below it only; the application keeps its
/// own everywhere else.
pub(super) fn catchers() -> Vec<Catcher> {
    rocket::catchers![any_status]
}

/// Why a guard refused a request, for the catcher.
struct RefusalReason(Cow<'static, str>);

/// Records why this request is refused. The first reason counts.
pub(crate) fn explain(request: &Request<'_>, reason: impl Into<Cow<'static, str>>) {
    request.local_cache(|| RefusalReason(reason.into()));
}

/// The answer of the catcher: a page if a person reads it, problem details otherwise.
enum Caught {
    Problem(ProblemDetails),
    WrongMethod(WrongMethod),
    /// Refused for want of credentials: with a challenge, as RFC 9110 asks.
    Challenge(ProblemDetails),
    #[cfg(feature = "dashboard")]
    Login(Redirect),
    #[cfg(feature = "dashboard")]
    Page(super::dashboard::HtmlPage),
}

impl<'r> Responder<'r, 'static> for Caught {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        match self {
            Caught::Problem(problem) => problem.respond_to(request),
            Caught::WrongMethod(wrong) => wrong.respond_to(request),
            Caught::Challenge(problem) => {
                let mut response = problem.respond_to(request)?;
                response.set_header(Header::new("WWW-Authenticate", CHALLENGE));
                Ok(response)
            }
            #[cfg(feature = "dashboard")]
            Caught::Login(redirect) => redirect.respond_to(request),
            #[cfg(feature = "dashboard")]
            Caught::Page(page) => page.respond_to(request),
        }
    }
}

/// A method that a path does not have, and the ones it has.
struct WrongMethod {
    allow: String,
}

impl<'r> Responder<'r, 'static> for WrongMethod {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let detail = format!("{} takes {}", request.uri().path(), self.allow);
        let problem = ProblemDetails::new(Status::MethodNotAllowed, detail);
        let mut response = problem.respond_to(request)?;
        response.set_header(Header::new("Allow", self.allow));
        Ok(response)
    }
}

/// Answers every status without a response of its own, below the base.
#[rocket::catch(default)]
fn any_status(status: Status, request: &Request<'_>) -> Caught {
    let methods = request.rocket().state::<Methods>().filter(|_| status == Status::NotFound);
    if let Some(allow) = methods.and_then(|methods| methods.allowed(request)) {
        return Caught::WrongMethod(WrongMethod { allow });
    }
    let problem = problem_of(status, request);
    #[cfg(feature = "dashboard")]
    if status == Status::Unauthorized
        && let Some(login) = super::dashboard::login(request)
    {
        return Caught::Login(login);
    }
    #[cfg(feature = "dashboard")]
    if matches!(status.code, 401 | 403)
        && let Some(page) = super::dashboard::refusal(request, &problem)
    {
        return Caught::Page(page);
    }
    match status.code {
        401 => Caught::Challenge(problem),
        _ => Caught::Problem(problem),
    }
}

/// The problem of a status: with the reason of the guard, if there is one.
fn problem_of(status: Status, request: &Request<'_>) -> ProblemDetails {
    let RefusalReason(reason) = request.local_cache(|| RefusalReason("".into()));
    let detail = match status.code {
        401 | 403 if !reason.is_empty() => reason.to_string(),
        404 => not_found(request),
        503 if had_no_turn(request) => BUSY.to_owned(),
        503 => UNAVAILABLE.to_owned(),
        401 => "credentials are missing or wrong".to_owned(),
        403 => "access is not allowed".to_owned(),
        408 => TOO_SLOW.to_owned(),
        429 => "too many requests".to_owned(),
        _ => String::new(),
    };
    ProblemDetails::new(status, detail)
}

/// Renamed routes below the base: the old and the new beginning of their paths. The old ones only
/// answer with the new name.
const RENAMED: [(&str, &str); 2] = [("/schedules", "/periodic"), ("/ui/schedules", "/ui/periodic")];

/// The detail of a 404. It names the new route for an old one: a client of an earlier version
/// would otherwise have to guess.
fn not_found(request: &Request<'_>) -> String {
    let path = request.uri().path();
    let base = request.rocket().state::<JobQueue>().map_or("", |queue| &queue.config().base);
    let below = path.as_str().strip_prefix(base).unwrap_or_default();
    let is_below = |old: &str| {
        below.strip_prefix(old).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match RENAMED.into_iter().find(|(old, _)| is_below(old)) {
        Some((old, new)) => format!("{base}{old} is now {base}{new}"),
        None => format!("nothing is at {path}"),
    }
}
