//! Unknown and repeated query parameters are refused: a filter with a typing error must not be
//! dropped, and of two values of a filter none.
//!
//! Rocket ignores parameters that a route does not name: `…/jobs?stat=archived` would list the
//! pending jobs. So each route is wrapped in a check that knows the names from the route's
//! address, and the answer is 422 with the nearest name. A client without rights is answered by
//! the route's guard first, and learns nothing about parameters.

use rocket::http::RawStr;
use rocket::request::FromRequest;
use rocket::response::Responder;
use rocket::route::{Handler, Outcome};
use rocket::{Data, Request, Route};

use super::guards::ViewRight;
use super::login;
use crate::error::Error;
use crate::web::api::Refused;

/// The ends of the paths that need no right.
const OPEN: [&str; 5] = ["/register", "/health", "/health/live", "/health/ready", "/openapi.json"];

/// Puts a check of the query in front of each route, except for files, whose addresses carry a
/// version.
pub(super) fn strict(routes: Vec<Route>) -> Vec<Route> {
    let is_file = |route: &Route| {
        let path = route.uri.path();
        path.starts_with("/docs") || [".css", ".js", ".svg"].iter().any(|end| path.ends_with(end))
    };
    let check = |mut route: Route| {
        if !is_file(&route) {
            let inner = route.handler.clone();
            let mut known = known(route.uri.query().unwrap_or_default());
            let is_page = route.uri.path().starts_with("/ui");
            if is_page {
                known.push(login::PARAMETER.to_owned());
            }
            let path = route.uri.path();
            let is_open = OPEN.iter().any(|open| path.ends_with(open)) || path.contains("/status/");
            route.handler = Box::new(Strict { known, is_page, is_open, inner });
        }
        route
    };
    routes.into_iter().map(check).collect()
}

/// The names in the query of a route's address, such as `<page>&<size>`.
fn known(query: &str) -> Vec<String> {
    let names = query.split('&').filter(|name| !name.is_empty());
    names.map(|name| name.trim_matches(['<', '>']).to_owned()).collect()
}

/// A route's handler behind the check of its query.
#[derive(Clone)]
struct Strict {
    /// The names that the route's address has.
    known: Vec<String>,
    /// Whether the answer is a page.
    is_page: bool,
    /// Whether the route needs no right.
    is_open: bool,
    inner: Box<dyn Handler>,
}

#[rocket::async_trait]
impl Handler for Strict {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let query = request.uri().query().map_or("", |query| query.as_str());
        let Err(error) = check(query, &self.known) else {
            return self.inner.handle(request, data).await;
        };
        // A client without rights gets the answer of the route's own guard, and nothing else.
        if !self.is_open && !ViewRight::from_request(request).await.is_success() {
            return self.inner.handle(request, data).await;
        }
        let answer = match answer(request, error, self.is_page).await {
            Ok(answer) => answer,
            Err(status) => return Outcome::Error(status),
        };
        Outcome::Success(answer)
    }
}

/// The answer about an unknown parameter: a page for a page, otherwise problem details.
async fn answer<'r>(
    request: &'r Request<'_>,
    error: Error,
    is_page: bool,
) -> rocket::response::Result<'r> {
    #[cfg(not(feature = "dashboard"))]
    let _ = is_page;
    #[cfg(feature = "dashboard")]
    if is_page
        && let Some(queue) = request.rocket().state::<super::JobQueue>()
        && let Some(reader) = super::dashboard::Reader::from_request(request).await.succeeded()
    {
        return super::dashboard::trouble(&reader, queue, &error).respond_to(request);
    }
    Refused::from(error).respond_to(request)
}

/// Checks the names of a query, decoded as Rocket decodes them.
///
/// # Errors
/// [`Error::is_invalid`] for the first unknown one, with the known ones and the nearest of
/// them, and for one that is given more than once.
fn check(query: &str, known: &[String]) -> Result<(), Error> {
    let mut times = vec![0_usize; known.len()];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        let name = RawStr::new(name).url_decode_lossy();
        if let Some(at) = known.iter().position(|known| *known == name) {
            times[at] += 1;
            continue;
        }
        expect_known("query parameter", &name, known)?;
    }
    match known.iter().zip(times).find(|(_, times)| *times > 1) {
        Some((name, times)) => {
            Err(Error::invalid(format!("{name}: expected once, found {times} times")))
        }
        None => Ok(()),
    }
}

/// Checks that a name is one of those that are known here.
///
/// # Errors
/// [`Error::is_invalid`] with the known names, and the nearest of them.
pub(super) fn expect_known(kind: &str, name: &str, known: &[impl AsRef<str>]) -> Result<(), Error> {
    let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    if known.contains(&name) {
        return Ok(());
    }
    let found: String = name.chars().take(40).collect();
    let likeness = |known: &&&str| strsim::jaro_winkler(&name.to_lowercase(), known);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let hint = nearest.map_or_else(String::new, |near| format!("; the nearest is {near:?}"));
    let expected = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(Error::invalid(format!("{kind}: expected {expected}, found {found:?}{hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_a_route_does_not_know_is_named_with_the_nearest() {
        let known = known("<state>&<page>&<size>");
        for good in ["", "&", "state=x", "page=1&size=2&state", "st%61te=x"] {
            assert!(check(good, &known).is_ok(), "{good}");
        }
        for bad in ["stat=archived", "state=x&Page=2", "page[]=1", "=1", "%ff"] {
            assert!(check(bad, &known).unwrap_err().is_invalid(), "{bad}");
        }
        let error = check("stat=archived", &known).unwrap_err().to_string();
        assert!(
            error.contains("\"stat\"") && error.ends_with("the nearest is \"state\""),
            "{error}"
        );
        for twice in ["page=1&state=a&state=b", "state&st%61te=a", "page=1&size=2&page=1"] {
            let error = check(twice, &known).unwrap_err();
            assert!(error.is_invalid() && error.to_string().contains("expected once, found 2"));
        }
        assert!(check("x", &[]).unwrap_err().to_string().contains("expected none"));
    }
}
