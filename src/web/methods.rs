//! The methods that paths have, for the answer to others: 405 with `Allow`.

use std::collections::BTreeMap;

use rocket::http::Method;
use rocket::{Request, Route};

/// Which methods each path below the base has. The catcher answers any other method with 405 and
/// `Allow`, for which Rocket itself answers 404. Routes for it would fill the launch log, and at the
/// base `/` they would come between the application's own routes and its catchers.
pub(super) struct Methods(Vec<(Vec<String>, Vec<Method>)>);

impl Methods {
    /// The methods of these routes, which are not mounted yet, below `base`.
    pub(super) fn of(base: &str, routes: &[Route]) -> Self {
        let mut paths: BTreeMap<String, Vec<Method>> = BTreeMap::new();
        for route in routes {
            let methods = paths.entry(format!("{base}/{}", route.uri.path())).or_default();
            methods.push(route.method);
            if route.method == Method::Get {
                // Rocket answers HEAD for every GET route.
                methods.push(Method::Head);
            }
        }
        Self(paths.into_iter().map(|(path, methods)| (segments(&path), methods)).collect())
    }

    /// The methods that the path of a request has, if its own is none of them.
    pub(super) fn allowed(&self, request: &Request<'_>) -> Option<String> {
        let path: Vec<&str> = request.uri().path().segments().collect();
        let mut found: Vec<_> = self.0.iter().filter(|(route, _)| matches(route, &path)).collect();
        if found.iter().any(|(_, methods)| methods.contains(&request.method())) {
            return None;
        }
        // `/workers/quiet` is no worker of that name.
        if found.iter().any(|(route, _)| is_fixed(route)) {
            found.retain(|(route, _)| is_fixed(route));
        }
        let mut methods: Vec<&str> = Vec::new();
        for method in found.iter().flat_map(|(_, methods)| methods) {
            if !methods.contains(&method.as_str()) {
                methods.push(method.as_str());
            }
        }
        (!methods.is_empty()).then(|| methods.join(", "))
    }
}

/// The segments of a path, without empty ones.
pub(super) fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Whether a route's path has no parameters.
fn is_fixed(route: &[String]) -> bool {
    route.iter().all(|segment| !segment.starts_with('<'))
}

/// Whether a route has this path, as Rocket compares them.
pub(super) fn matches(route: &[String], path: &[&str]) -> bool {
    let is_trailing = route.last().is_some_and(|last| last.ends_with("..>"));
    let fixed = &route[..route.len() - usize::from(is_trailing)];
    let same = |(one, found): (&String, &&str)| one.starts_with('<') || one == found;
    (path.len() == fixed.len() || is_trailing && path.len() > fixed.len())
        && fixed.iter().zip(path).all(same)
}

/// The methods that Rocket knows.
pub(super) const ALL_METHODS: [Method; 9] = [
    Method::Get,
    Method::Put,
    Method::Post,
    Method::Delete,
    Method::Options,
    Method::Head,
    Method::Trace,
    Method::Connect,
    Method::Patch,
];
