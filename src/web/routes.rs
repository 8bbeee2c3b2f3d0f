//! Which routes an application gets, by configuration. Each module knows its
//! own; here they become one tree below the base.
//!
//! A worker-only process mounts the health routes alone. Every route is wrapped in a check of its
//! query (`query`), and catchers answer wrong methods with 405 and turn other
//! statuses into problem details.

use rocket::http::Method;
use rocket::{Build, Orbit, Rocket, Route};

#[cfg(feature = "metrics")]
use super::api::metrics;
use super::api::{
    alerts, audit, bulk, enqueue, health, job_actions, jobs, limits, periodic, queues, register,
    search, status, store, types, workers,
};
use super::catchers::catchers;
#[cfg(feature = "dashboard")]
use super::dashboard;
#[cfg(feature = "openapi")]
use super::docs;
use super::methods::Methods;
#[cfg(feature = "openapi")]
use super::openapi;
use super::{grouped, query, reads};
use crate::config::JobQueueConfig;
use crate::registry::Registry;

/// Mounts the routes and the catchers of the base. A process that only runs jobs
/// has just the health routes.
pub(super) fn mount(
    rocket: Rocket<Build>,
    config: &JobQueueConfig,
    registry: &Registry,
    worker_only: bool,
) -> Rocket<Build> {
    let mut routes = health::routes();
    if !worker_only {
        routes.extend(routes_for_people(config, registry));
        // The holder of a link reads a single job, and often.
        routes.extend(status::routes());
    }
    let base = if config.base.is_empty() { "/" } else { &config.base };
    let methods = Methods::of(base, &routes);
    let routes = query::strict(routes);
    let behind = Behind(routes.iter().map(|route| address(base, route)).collect());
    let routes = grouped::grouped("/ui", routes);
    rocket.mount(base, routes).register(base, catchers()).manage(methods).manage(behind)
}

/// The routes that were mounted, before those of the dashboard were grouped.
struct Behind(Vec<(Method, String)>);

/// The method of a route, and its address as one writes it, below the base.
fn address(base: &str, route: &Route) -> (Method, String) {
    (route.method, format!("{}{}", base.trim_end_matches('/'), route.uri))
}

/// The method and the address of each of our routes, for tests that visit every one: Rocket knows
/// those of the dashboard as one a method.
pub fn addresses(rocket: &Rocket<Orbit>) -> &[(Method, String)] {
    rocket.state::<Behind>().map_or(&[], |behind| &behind.0)
}

/// The routes of a process with a web interface. GET routes among them run at low priority
/// ([`reads::quiet`]); health, status links and the API document do not, since they are small
/// and asked often.
#[cfg_attr(not(feature = "openapi"), expect(unused_variables, reason = "for the document alone"))]
fn routes_for_people(config: &JobQueueConfig, registry: &Registry) -> Vec<Route> {
    let mut routes = Vec::new();
    for more in [
        alerts::routes,
        audit::routes,
        queues::routes,
        limits::routes,
        jobs::routes,
        search::routes,
        job_actions::routes,
        bulk::routes,
        enqueue::routes,
        periodic::routes,
        store::routes,
        types::routes,
        workers::routes,
    ] {
        routes.extend(more());
    }
    if config.register_route {
        routes.extend(register::routes());
    }
    #[cfg(feature = "dashboard")]
    routes.extend(dashboard::routes(config.register_route));
    #[cfg(feature = "metrics")]
    routes.extend(metrics::routes());
    let routes = reads::quiet(routes);
    #[cfg(feature = "openapi")]
    let routes = with_document(routes, config, registry);
    routes
}

/// Adds the OpenAPI document and its viewer, if the configuration asks for them.
#[cfg(feature = "openapi")]
fn with_document(
    mut routes: Vec<Route>,
    config: &JobQueueConfig,
    registry: &Registry,
) -> Vec<Route> {
    if config.openapi {
        let document = openapi::document(config.register_route, &registry.entries());
        routes.push(openapi::document_route(document));
        if config.docs {
            routes.extend(docs::routes());
        }
    }
    routes
}
