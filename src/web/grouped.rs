//! Many paths below one as one route for each method.
//!
//! Rocket logs a line for each route at launch, and an application's own routes must not drown in
//! those of the dashboard. So the dashboard's are mounted as `/ui/<path..>`, for GET and for POST,
//! and found here as Rocket would find them: fixed paths before those with parameters. The
//! handlers see no difference, because the segments of a path are counted from the mount point.

use std::sync::Arc;

use rocket::http::{Method, Status};
use rocket::route::{Handler, Outcome};
use rocket::{Data, Request, Route};

use super::methods::{matches, segments};

/// Before all ranks that Rocket gives by itself (-12 to -1): an application at the same base may
/// have routes of its own below the prefix, which would otherwise collide with these. What no
/// member matches goes on to them.
const RANK: isize = -13;

/// The routes below `prefix` as one route for each method; all others as they are.
pub(super) fn grouped(prefix: &str, routes: Vec<Route>) -> Vec<Route> {
    let is_below = |route: &Route| {
        let rest = route.uri.path().strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let (mut below, mut all): (Vec<Route>, Vec<Route>) = routes.into_iter().partition(is_below);
    // Stable: routes of the same rank never match the same path.
    below.sort_by_key(|route| route.rank);
    for method in [Method::Get, Method::Post] {
        let members: Vec<Member> = below
            .extract_if(.., |route| route.method == method)
            .map(|route| Member { path: segments(route.uri.path()), handler: route.handler })
            .collect();
        if !members.is_empty() {
            let path = format!("{prefix}/<path..>");
            let mut route = Route::new(method, &path, Group(members.into()));
            route.rank = RANK;
            route.name = Some("jobqueue_dashboard".into());
            all.push(route);
        }
    }
    // Of other methods there is none so far.
    all.extend(below);
    all
}

/// A route of the group.
struct Member {
    /// The segments of its path, from the mount point.
    path: Vec<String>,
    handler: Box<dyn Handler>,
}

/// The routes of one method, in the order of their ranks.
#[derive(Clone)]
struct Group(Arc<[Member]>);

#[rocket::async_trait]
impl Handler for Group {
    async fn handle<'r>(&self, request: &'r Request<'_>, mut data: Data<'r>) -> Outcome<'r> {
        let path: Vec<&str> = request.routed_segments(0..).collect();
        let mut status = Status::NotFound;
        for member in self.0.iter().filter(|member| matches(&member.path, &path)) {
            match member.handler.handle(request, data).await {
                Outcome::Forward((rest, why)) => (data, status) = (rest, why),
                outcome => return outcome,
            }
        }
        Outcome::Forward((data, status))
    }
}
