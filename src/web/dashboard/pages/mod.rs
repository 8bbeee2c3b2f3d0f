//! The pages, one a file: each has its routes, asks the store, and makes its content from the
//! parts of `ui`. `selected` and `job_actions` answer forms of other pages.

mod bulk;
mod doctor;
mod enqueue;
mod events;
mod failures;
mod group;
mod groups;
mod job;
mod job_actions;
mod jobs;
mod overview;
mod periodic;
mod queue;
mod register;
mod scheduled;
mod selected;
mod servers;
mod store;

use rocket::Route;

/// The routes of all pages; that of the reference job only if it is switched on.
pub(super) fn routes(with_register: bool) -> Vec<Route> {
    let mut routes = Vec::new();
    for more in [
        overview::routes,
        jobs::routes,
        selected::routes,
        failures::routes,
        scheduled::routes,
        periodic::routes,
        queue::routes,
        bulk::routes,
        groups::routes,
        group::routes,
        job::routes,
        job_actions::routes,
        enqueue::routes,
        servers::routes,
        store::routes,
        doctor::routes,
        events::routes,
    ] {
        routes.extend(more());
    }
    if with_register {
        routes.extend(register::routes());
    }
    routes
}
