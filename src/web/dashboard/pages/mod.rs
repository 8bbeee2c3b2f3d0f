//! The pages, one a file: each has its routes, asks the store, and makes its content from the
//! parts of `ui`. `selected` and `job_actions` answer forms of other pages.
//!
//! | page | file | what it costs the store |
//! | --- | --- | --- |
//! | `/ui` | `overview` | one script per queue, three for at most 50 queues, a few commands |
//! | `/ui/jobs` | `jobs` | pages of lists until 100 jobs match, for at most 2 s |
//! | `/ui/failures` | `failures` | at most 1,000 jobs per queue, for at most 2 s |
//! | `/ui/types`, `/ui/types/<type>` | `types` | 27 commands; 55, and a script per remembered attempt |
//! | `/ui/scheduled` | `scheduled` | counts by range and 100 jobs per queue, of at most 200 queues |
//! | `/ui/periodic` | `periodic` | the announcements of running processes |
//! | `/ui/groups`, `/ui/queues/<name>/group` | `groups`, `group` | the groups of at most 500 queues; one page of jobs |
//! | `/ui/servers` | `servers` | four commands per worker process |
//! | `/ui/audit` | `audit` | one command |
//! | `/ui/store`, `/ui/doctor` | `store`, `doctor` | a few commands; every entry of every queue |
//! | `/ui/enqueue` | `enqueue` | nothing, or one job |
//! | `/ui/queues/<name>` | `queue`, `limits` | three scripts, one page of jobs, two commands per limit |
//! | `/ui/queues/<name>/limits/<limit>` | `limits` | two scripts for at most 1,000 keys |
//! | `/ui/jobs/<name>/<id>` | `job` | one script |
//! | `/ui/display` | `display` | nothing |
//! | `/ui/register` | `register` | nothing, or one job |
//! | `/ui/events` | `events` | one script per queue every 2 s, for all open pages together |

mod audit;
mod bulk;
mod display;
mod doctor;
mod enqueue;
mod events;
mod failures;
mod group;
mod groups;
mod job;
mod job_actions;
mod jobs;
mod limits;
mod overview;
mod periodic;
mod queue;
mod register;
mod scheduled;
mod selected;
mod servers;
mod store;
mod types;

use rocket::Route;

use crate::broker::Page;
use crate::error::Error;

/// The page that begins at the cursor of an address; the first one without.
///
/// # Errors
/// [`Error::is_invalid`] for a text that is no cursor.
fn page_from(cursor: Option<&str>) -> Result<Page, Error> {
    match cursor.filter(|text| !text.is_empty()) {
        Some(cursor) => Ok(Page::after(cursor.parse()?)),
        None => Ok(Page::default()),
    }
}

/// The routes of all pages. The reference job's page is included only if it is switched on.
pub(super) fn routes(with_register: bool) -> Vec<Route> {
    let mut routes = Vec::new();
    for more in [
        overview::routes,
        jobs::routes,
        selected::routes,
        failures::routes,
        types::routes,
        scheduled::routes,
        periodic::routes,
        queue::routes,
        limits::routes,
        bulk::routes,
        groups::routes,
        group::routes,
        job::routes,
        job_actions::routes,
        enqueue::routes,
        servers::routes,
        store::routes,
        doctor::routes,
        display::routes,
        audit::routes,
        events::routes,
    ] {
        routes.extend(more());
    }
    if with_register {
        routes.extend(register::routes());
    }
    routes
}
