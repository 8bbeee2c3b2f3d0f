//! The OpenAPI 3.0 document of the REST interface, with paths relative to the base.
//!
//! rocket_okapi collects the routes, and the rest of this folder says what it cannot know:
//! `responses` and `requests` document our types, `parameters` the values of a query or a path,
//! `portable` rewrites schemas into what generators of clients understand, and `serve` sends the
//! document.
//!
//! A new route has to be added to [`all_routes`]; its summary and description are its doc comment.
//! A new response type needs an implementation in `responses`, a new guard one in `requests`:
//! without it the route does not compile. A new query parameter without an entry in `parameters`
//! compiles, and is documented as plain text.

mod parameters;
mod portable;
mod requests;
mod responses;
mod serve;

use rocket_okapi::okapi::openapi3::{
    Info, License, OpenApi, Operation, PathItem, RefOr, SecurityRequirement, Tag,
};
use rocket_okapi::openapi_get_spec;

use crate::registry::HandlerEntry;
use crate::web::api::{
    alerts, audit, bulk, enqueue, health, job_actions, jobs, limits, periodic, queues, register,
    search, status, store, types, workers,
};

pub(crate) use serve::document_route;

/// The content type of successful responses.
const JSON: &str = "application/json";
/// The content type of problem details.
const PROBLEM: &str = "application/problem+json";

/// The path that documents enqueueing a job of any type.
const ANY_JOB_TYPE: &str = "/jobs/{type}";

/// Makes the document. Without `with_register` the reference route is left out. If job types are
/// given, each gets a path of its own with its payload's schema, instead of the general one.
pub(crate) fn document(with_register: bool, job_types: &[&HandlerEntry]) -> OpenApi {
    let mut document = all_routes();
    document.info = info();
    document.tags = tags();
    if !with_register {
        document.paths.shift_remove("/register");
        document.tags.retain(|tag| tag.name != "jobqueue-demo");
    }
    for operation in document.paths.values_mut().flat_map(operations) {
        parameters::describe(operation);
        allow_other_credentials(operation);
        drop_body_errors(operation);
    }
    if !job_types.is_empty() {
        add_job_types(&mut document, job_types);
    }
    portable::make_portable(&mut document);
    document
}

/// Every documented route, in the order of the document.
fn all_routes() -> OpenApi {
    openapi_get_spec![
        register::register,
        enqueue::enqueue,
        status::status,
        jobs::one,
        jobs::watch,
        jobs::explain,
        jobs::find,
        search::search,
        job_actions::run,
        job_actions::run_next,
        job_actions::archive,
        job_actions::reschedule,
        job_actions::cancel,
        job_actions::edit,
        job_actions::duplicate,
        job_actions::remove,
        queues::list,
        queues::one,
        queues::history,
        queues::minutes,
        queues::memory,
        queues::jobs,
        queues::groups,
        queues::aggregations,
        queues::pause,
        queues::resume,
        queues::remove,
        limits::list,
        limits::one,
        limits::set,
        limits::remove,
        bulk::act,
        periodic::list,
        periodic::runs,
        periodic::run,
        types::list,
        types::one,
        workers::list,
        workers::one,
        workers::change,
        workers::change_all,
        workers::quiet,
        workers::resume,
        workers::quiet_all,
        workers::resume_all,
        alerts::list,
        audit::list,
        store::servers,
        store::store,
        store::check,
        store::repair,
        health::health,
        health::live,
        health::ready,
    ]
}

/// Title, description, licence and version.
fn info() -> Info {
    Info {
        title: "Job queue".to_owned(),
        description: Some(ABOUT.to_owned()),
        license: Some(License { name: env!("CARGO_PKG_LICENSE").to_owned(), ..License::default() }),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Info::default()
    }
}

/// The groups of routes, in the order of the document.
fn tags() -> Vec<Tag> {
    let tag = |(name, description): (&str, &str)| Tag {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        ..Tag::default()
    };
    TAGS.map(tag).into()
}

/// The description of the whole interface.
const ABOUT: &str = "Jobs for a Rocket application, over Asynq's Redis protocol. Errors are \
    problem details (RFC 9457). Routes that read queues and jobs ask the application's guard for \
    viewers; routes that change them ask its guard for administrators. A change must come from \
    the same origin, have a JSON content type, or carry an Authorization other than Basic. If \
    the application limits requests, every response can be 429.";

/// Name and description of each group.
const TAGS: [(&str, &str); 9] = [
    ("jobqueue-demo", "参考コード: the reference route. Applications have routes of their own."),
    ("jobqueue-enqueue", "Enqueue jobs of the application's own types."),
    ("jobqueue-jobs", "Look at jobs and act on them."),
    ("jobqueue-queues", "Look at queues; pause, resume and delete them."),
    ("jobqueue-periodic", "Periodic jobs."),
    ("jobqueue-types", "Statistics by job type: attempts, failures, waits and run times."),
    ("jobqueue-workers", "Worker processes: look at them, and change them while they run."),
    ("jobqueue-store", "The store and its doctor."),
    ("jobqueue-health", "Whether the process is alive and its store answers."),
];

/// All operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// An operation that names a security scheme may also be called without it: the application's guard
/// may accept a cookie, or a header of its own.
fn allow_other_credentials(operation: &mut Operation) {
    if let Some(ways) = &mut operation.security {
        ways.push(SecurityRequirement::new());
    }
}

/// The errors of a body, which one table documents for all routes, do not apply to an operation
/// without one.
fn drop_body_errors(operation: &mut Operation) {
    if operation.request_body.is_none() {
        for code in ["400", "413", "415"] {
            operation.responses.responses.shift_remove(code);
        }
    }
}

/// Replaces the path of any job type by one path for each of these.
fn add_job_types(document: &mut OpenApi, job_types: &[&HandlerEntry]) {
    let Some(general) = document.paths.shift_remove(ANY_JOB_TYPE) else { return };
    for entry in job_types {
        document.paths.insert(format!("/jobs/{}", entry.job_type()), item_of(&general, entry));
    }
}

/// The path of one job type, whose body has the schema of its payload.
fn item_of(general: &PathItem, entry: &HandlerEntry) -> PathItem {
    let mut item = general.clone();
    let Some(operation) = &mut item.post else { return item };
    let name = entry.job_type();
    operation.summary = Some(format!("Enqueue {name}"));
    operation.operation_id = Some(format!("enqueue-{}", name.replace([':', '/', ' '], "-")));
    operation.parameters.retain(|parameter| match parameter {
        RefOr::Object(parameter) => parameter.name != "type",
        RefOr::Ref(_) => true,
    });
    let schema = entry.schema().and_then(|schema| serde_json::from_value(schema.clone()).ok());
    if let (Some(schema), Some(RefOr::Object(body))) = (schema, &mut operation.request_body)
        && let Some(media) = body.content.get_mut(JSON)
    {
        media.schema = Some(schema);
    }
    item
}
