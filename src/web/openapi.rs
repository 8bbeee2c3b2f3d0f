//! The interface described by itself: an OpenAPI 3.0 document with paths
//! relative to the base. What a type is
//! documented as stands here, beside each other; what it does stands elsewhere.

mod portable;

use rocket::http::{Method, Status};
use rocket::request::{FromRequest, Outcome};
use rocket::response::content::RawJson;
use rocket::route::{self, Handler};
use rocket::{Data, Request, Route};
use rocket_okapi::r#gen::OpenApiGenerator;
use rocket_okapi::okapi::openapi3::{
    Info, License, MediaType, OpenApi, Operation, Parameter, ParameterValue, PathItem, RefOr,
    RequestBody, Response, Responses, Server, Tag,
};
use rocket_okapi::request::{
    OpenApiFromData, OpenApiFromForm, OpenApiFromRequest, RequestHeaderInput,
};
use rocket_okapi::response::OpenApiResponderInner;
use rocket_okapi::{Result, openapi_get_spec};
use schemars::JsonSchema;
use serde_json::json;

use crate::broker::{JobInfo, JobPage};
use crate::job::JobState;
use crate::registry::Entry;
use crate::web::JobQueue;
use crate::web::api::bulk::{self, Counted, Counts, WantsEvents};
use crate::web::api::health::{self, Health, Healthy, Unhealthy};
use crate::web::api::jobs::{self, Found, Watched};
use crate::web::api::queues::JobRows;
use crate::web::api::register::{self, NotRegistered};
use crate::web::api::status::{JobStatus, StatusAnswer};
use crate::web::api::{
    Asked, Caller, Created, IdempotencyKey, JsonBody, NoContent, Param, Refused, RouteScope,
};
use crate::web::api::{enqueue, periodic, queues, status, store};
use crate::web::error::ProblemDetails;
use crate::web::guards::{ActAccess, RegisterAccess, ViewAccess};
use crate::web::proxy::PublicBase;

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// The document, with paths relative to the base; without the reference route
/// where it is switched off. Each of these job types has a path of its own.
pub(crate) fn document(with_register: bool, job_types: &[&Entry]) -> OpenApi {
    let mut document = openapi_get_spec![
        register::register,
        enqueue::enqueue,
        status::status,
        jobs::one,
        jobs::watch,
        jobs::find,
        jobs::run,
        jobs::archive,
        jobs::reschedule,
        jobs::cancel,
        jobs::edit,
        jobs::duplicate,
        jobs::remove,
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
        bulk::act,
        periodic::list,
        periodic::runs,
        periodic::run,
        store::servers,
        store::store,
        store::check,
        store::mend,
        health::health,
        health::live,
        health::ready,
    ];
    document.info = Info {
        title: "Job queue".to_owned(),
        description: Some(ABOUT.to_owned()),
        license: Some(License { name: env!("CARGO_PKG_LICENSE").to_owned(), ..License::default() }),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Info::default()
    };
    document.tags = TAGS
        .map(|(name, description)| Tag {
            name: name.to_owned(),
            description: Some(description.to_owned()),
            ..Tag::default()
        })
        .into();
    if !with_register {
        document.paths.shift_remove("/register");
        document.tags.retain(|tag| tag.name != "jobqueue-demo");
    }
    for item in document.paths.values_mut() {
        for operation in operations(item) {
            describe_parameters(operation);
            // One table says what may happen anywhere; this happens to bodies alone.
            if operation.request_body.is_none() {
                for code in ["400", "413", "415"] {
                    operation.responses.responses.shift_remove(code);
                }
            }
        }
    }
    if !job_types.is_empty() {
        let general = document.paths.shift_remove("/jobs/{type}");
        for entry in job_types {
            let Some(item) = general.as_ref().map(|item| item_of(item, entry)) else { continue };
            document.paths.insert(format!("/jobs/{}", entry.job_type()), item);
        }
    }
    portable::make_portable(&mut document);
    document
}

const ABOUT: &str = "Jobs for a Rocket application, over Asynq's Redis protocol. Errors are \
    problem details (RFC 9457). What looks at queues and jobs asks the application's own guard \
    for viewers, what changes them its guard for administrators; a change has to come from the \
    same origin, with a JSON content type, or with an Authorization other than Basic. Where the application limits requests, each answer \
    may be 429.";

const TAGS: [(&str, &str); 7] = [
    ("jobqueue-demo", "参考コード: the reference route. Applications have routes of their own."),
    ("jobqueue-enqueue", "Jobs of the application's own types."),
    ("jobqueue-jobs", "Looking at jobs and acting on them."),
    ("jobqueue-queues", "What queues hold; pausing and removing them."),
    ("jobqueue-periodic", "Periodic entries."),
    ("jobqueue-store", "Worker processes, and what keeps the jobs."),
    ("jobqueue-health", "Whether the process lives and its store answers."),
];

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// What the text of a parameter has to be: rocket_okapi knows only that it is text,
/// because the routes read it themselves, to say what is wrong with it.
fn describe_parameters(operation: &mut Operation) {
    let of_queues = operation.operation_id.as_deref() == Some("list-queues");
    for parameter in &mut operation.parameters {
        let RefOr::Object(Parameter { name, location, description, value, required, .. }) =
            parameter
        else {
            continue;
        };
        let ParameterValue::Schema { schema, .. } = value else { continue };
        let whole =
            |least: u32, most: u32| json!({ "type": "integer", "minimum": least, "maximum": most });
        let states: Vec<&str> = JobState::ALL.map(JobState::as_str).into();
        // Jobs of groups are listed by their group.
        let states = &states[..states.len() - 1];
        let in_path = location == "path";
        // In a query an empty text is none.
        let queue = "^([A-Za-z0-9_.:-]{1,128})?$";
        let (what, shape) = match name.as_str() {
            "name" => {
                ("The queue.", json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$" }))
            }
            "queue" => (
                "The queue, in place of the job type's.",
                json!({ "type": "string", "pattern": queue }),
            ),
            "id" => ("The id.", json!({ "type": "string", "minLength": 1 })),
            "type" if in_path => ("The job type.", json!({ "type": "string", "minLength": 1 })),
            "type" => ("The job type.", json!({ "type": "string" })),
            "token" => ("What the link ends with.", json!({ "type": "string", "minLength": 1 })),
            "wait" => ("How many seconds to wait for the job's end.", whole(0, 60)),
            "state" => ("The state.", json!({ "type": "string", "enum": states })),
            "group" => ("The group.", json!({ "type": "string" })),
            "search" => (
                "Text in id, type, payload, group or last error, whatever its case.",
                json!({ "type": "string" }),
            ),
            "page" => (
                "The page, from 1; it has to begin within the first 10,000 rows.",
                json!({ "type": "integer", "minimum": 1 }),
            ),
            "size" if of_queues => ("How many queues at most. Default 1000.", whole(1, 1000)),
            "size" => ("How many rows at most. Default 30.", whole(1, 100)),
            "after" => (
                "The `next` of the answer before: queues whose name comes later.",
                json!({ "type": "string" }),
            ),
            "cursor" => ("The `next` of the page before.", json!({ "type": "string" })),
            "days" => ("How many days. Default 7.", whole(1, 90)),
            "force" => (
                "Whether to remove its jobs as well.",
                json!({ "type": "boolean", "default": false }),
            ),
            "delay_seconds" => ("How many seconds from now it is due.", whole(0, 31_536_000)),
            "unique_seconds" => (
                "How many seconds no other job of this type and payload is taken.",
                whole(0, 31_536_000),
            ),
            "max_retry" => ("How often it is tried again.", whole(0, 1000)),
            _ => continue,
        };
        description.get_or_insert_with(|| what.to_owned());
        // A job cannot be found without one.
        *required |= name == "id";
        if let Ok(shape) = serde_json::from_value(shape) {
            *schema = shape;
        }
    }
}

/// The path of one job type, with its payload's schema as the body's.
fn item_of(general: &PathItem, entry: &Entry) -> PathItem {
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

/// `{base}/openapi.json`, to mount at the base, which it names as its server.
pub(crate) fn document_route(document: OpenApi) -> Route {
    Route::new(Method::Get, "/openapi.json", Document(document))
}

/// Sends the document with the path at which whoever asks finds its routes.
#[derive(Clone)]
struct Document(OpenApi);

#[rocket::async_trait]
impl Handler for Document {
    async fn handle<'r>(&self, request: &'r Request<'_>, _: Data<'r>) -> route::Outcome<'r> {
        let PublicBase(url) = match PublicBase::from_request(request).await {
            Outcome::Success(base) => base,
            Outcome::Error((_, never)) => match never {},
            Outcome::Forward(status) => return route::Outcome::Error(status),
        };
        let mut document = self.0.clone();
        if !url.is_empty() {
            document.servers.push(Server { url, ..Server::default() });
        }
        match serde_json::to_string_pretty(&document) {
            Ok(text) => route::Outcome::from(request, RawJson(text)),
            Err(_) => route::Outcome::Error(Status::InternalServerError),
        }
    }
}

/// One documented answer.
fn answer<T: JsonSchema>(
    generator: &mut OpenApiGenerator,
    responses: &mut Responses,
    content_type: &str,
    (status, description): (u16, &str),
) {
    let schema = Some(generator.json_schema::<T>());
    let mut response = Response { description: description.to_owned(), ..Response::default() };
    let media = MediaType { schema, ..MediaType::default() };
    response.content.insert(content_type.to_owned(), media);
    responses.responses.insert(status.to_string(), RefOr::Object(response));
}

/// Documented problems.
pub(crate) fn problems(generator: &mut OpenApiGenerator, table: &[(u16, &str)]) -> Responses {
    let mut responses = Responses::default();
    for row in table {
        answer::<ProblemDetails>(generator, &mut responses, PROBLEM, *row);
    }
    responses
}

const UNAVAILABLE: (u16, &str) = (503, "Redis is not connected; trying again later is right");

impl OpenApiResponderInner for ProblemDetails {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let failed = (500, "The queue refused, or something is broken");
        Ok(problems(generator, &[failed, UNAVAILABLE]))
    }
}

impl OpenApiResponderInner for NotRegistered {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let table = [
            (400, "The body is not JSON"),
            (403, "The request comes from another site, or nothing can be changed here"),
            (413, "The body is larger than Rocket's `json` limit (1 MiB)"),
            (415, "The content type is not JSON"),
            (
                422,
                "Fields are wrong: `errors` has one entry each, with a JSON pointer; or the `Idempotency-Key` was used before for another body or other options",
            ),
            (429, "Too many requests: `Retry-After` says when the next one is welcome"),
            (500, "The job could not be enqueued"),
            UNAVAILABLE,
        ];
        Ok(problems(generator, &table))
    }
}

/// What may stand in the way of every request about queues and jobs.
const REFUSED: [(u16, &str); 11] = [
    (400, "The body is not JSON"),
    (401, "The application's guard wants to know who asks"),
    (403, "The application's guard does not let it pass, or the change comes from another site"),
    (404, "There is no such queue, job, entry or job type"),
    (
        409,
        "The job's state does not permit it, a job is there already, or what is stored cannot be read",
    ),
    (413, "The body is larger than Rocket's `json` limit (1 MiB)"),
    (415, "The content type is not JSON"),
    (422, "Something about the request is wrong: `detail` and `errors` say what"),
    (429, "Too many requests: `Retry-After` says when the next one is welcome"),
    (500, "The store refused, or something is broken"),
    UNAVAILABLE,
];

impl OpenApiResponderInner for Refused {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        Ok(problems(generator, &REFUSED))
    }
}

impl OpenApiResponderInner for NoContent {
    fn responses(_: &mut OpenApiGenerator) -> Result<Responses> {
        Ok(nothing("It is done"))
    }
}

fn nothing(description: &str) -> Responses {
    let response = Response { description: description.to_owned(), ..Response::default() };
    let mut responses = Responses::default();
    responses.responses.insert("204".to_owned(), RefOr::Object(response));
    responses
}

impl OpenApiResponderInner for Found {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = nothing("It ended while it was waited for, and left nothing");
        answer::<JobInfo>(generator, &mut responses, JSON, (200, "The job as it stands"));
        Ok(responses)
    }
}

impl OpenApiResponderInner for JobRows {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        answer::<JobPage>(generator, &mut responses, JSON, (200, "Some jobs"));
        Ok(responses)
    }
}

impl OpenApiResponderInner for StatusAnswer {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        answer::<JobStatus>(generator, &mut responses, JSON, (200, "How the job is"));
        Ok(responses)
    }
}

impl OpenApiResponderInner for Watched {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        let events = (200, "Events, each with the job as JSON");
        answer::<String>(generator, &mut responses, "text/event-stream", events);
        Ok(responses)
    }
}

impl OpenApiResponderInner for Counted {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        answer::<Counts>(generator, &mut responses, JSON, (200, "How many jobs were acted upon"));
        if let Some(RefOr::Object(counted)) = responses.responses.get_mut("200") {
            let schema = Some(generator.json_schema::<String>());
            let media = MediaType { schema, ..MediaType::default() };
            counted.content.insert("text/event-stream".to_owned(), media);
        }
        Ok(responses)
    }
}

impl OpenApiResponderInner for Unhealthy {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        Ok(problems(generator, &[(503, "The store does not answer")]))
    }
}

impl OpenApiResponderInner for Healthy {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        answer::<Health>(generator, &mut responses, JSON, (200, "What is known of this process"));
        if let Some(RefOr::Object(healthy)) = responses.responses.get_mut("200") {
            let schema = Some(generator.json_schema::<String>());
            let media = MediaType { schema, ..MediaType::default() };
            healthy.content.insert("text/plain".to_owned(), media);
        }
        Ok(responses)
    }
}

impl<T: JsonSchema> OpenApiResponderInner for Created<T> {
    fn responses(generator: &mut OpenApiGenerator) -> Result<Responses> {
        let mut responses = Responses::default();
        answer::<T>(generator, &mut responses, JSON, (201, "The job is on the queue"));
        Ok(responses)
    }
}

impl<'r, T: JsonSchema> OpenApiFromData<'r> for JsonBody<T> {
    fn request_body(generator: &mut OpenApiGenerator) -> Result<RequestBody> {
        let schema = Some(generator.json_schema::<T>());
        let media = MediaType { schema, ..MediaType::default() };
        Ok(RequestBody {
            content: [(JSON.to_owned(), media)].into_iter().collect(),
            required: true,
            ..RequestBody::default()
        })
    }
}

/// Guards without an input of their own that a document could name.
macro_rules! silent {
    ($($guard:ty),*) => {$(
        impl<'r> OpenApiFromRequest<'r> for $guard {
            fn from_request_input(
                _: &mut OpenApiGenerator,
                _: String,
                _: bool,
            ) -> Result<RequestHeaderInput> {
                Ok(RequestHeaderInput::None)
            }
        }
    )*};
}

silent!(
    JobQueue,
    &'r JobQueue,
    ActAccess,
    RegisterAccess,
    ViewAccess,
    Asked,
    Caller,
    WantsEvents,
    RouteScope
);

impl<'r> OpenApiFromForm<'r> for Param<'r> {
    fn form_multi_parameter(
        generator: &mut OpenApiGenerator,
        name: String,
        _required: bool,
    ) -> Result<Vec<Parameter>> {
        Ok(vec![Parameter {
            name,
            location: "query".to_owned(),
            description: None,
            required: false,
            deprecated: false,
            allow_empty_value: false,
            value: ParameterValue::Schema {
                style: None,
                explode: None,
                allow_reserved: false,
                schema: generator.json_schema::<String>(),
                example: None,
                examples: None,
            },
            extensions: Default::default(),
        }])
    }
}

impl<'r> OpenApiFromRequest<'r> for IdempotencyKey<'r> {
    fn from_request_input(
        generator: &mut OpenApiGenerator,
        _name: String,
        _required: bool,
    ) -> Result<RequestHeaderInput> {
        let mut schema = generator.json_schema::<String>();
        schema.string().min_length = Some(1);
        schema.string().max_length = Some(255);
        Ok(RequestHeaderInput::Parameter(Parameter {
            name: "Idempotency-Key".to_owned(),
            location: "header".to_owned(),
            description: Some(
                "Any text of the client's. For a day, a repeated request with the same key and \
                 body is answered with the first job's id."
                    .to_owned(),
            ),
            required: false,
            deprecated: false,
            allow_empty_value: false,
            value: ParameterValue::Schema {
                style: None,
                explode: None,
                allow_reserved: false,
                schema,
                example: None,
                examples: None,
            },
            extensions: Default::default(),
        }))
    }
}
