//! The interface described by itself: an OpenAPI 3.0 document with paths
//! relative to the base, and Swagger UI served from the crate. What a type is
//! documented as stands here, beside each other; what it does stands elsewhere.

use rocket::Route;
use rocket_okapi::r#gen::OpenApiGenerator;
use rocket_okapi::handlers::OpenApiHandler;
use rocket_okapi::okapi::openapi3::{
    Info, License, MediaType, OpenApi, Parameter, ParameterValue, RefOr, RequestBody, Response,
    Responses, Tag,
};
use rocket_okapi::request::{OpenApiFromData, OpenApiFromRequest, RequestHeaderInput};
use rocket_okapi::response::OpenApiResponderInner;
use rocket_okapi::swagger_ui::{SwaggerUIConfig, make_swagger_ui};
use rocket_okapi::{Result, openapi_get_spec};
use schemars::JsonSchema;

use crate::web::api::health::{self, Health, Healthy, NotReady};
use crate::web::api::register::{self, NotRegistered};
use crate::web::api::{Created, IdempotencyKey, JsonBody};
use crate::web::error::ProblemDetails;

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// The document, with paths relative to the base; without the reference route
/// where it is switched off.
pub(crate) fn document(with_register: bool) -> OpenApi {
    let mut document =
        openapi_get_spec![register::register, health::health, health::live, health::ready,];
    document.info = Info {
        title: "Job queue".to_owned(),
        description: Some("Jobs for a Rocket application, over Asynq's Redis protocol.".to_owned()),
        license: Some(License { name: env!("CARGO_PKG_LICENSE").to_owned(), ..License::default() }),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Info::default()
    };
    document.tags = [
        (
            "jobqueue-demo",
            "参考コード: the reference route. Applications have routes of their own.",
        ),
        ("jobqueue-health", "Whether the process lives and its store answers."),
    ]
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
    document
}

/// `{base}/openapi.json`, to mount at the base, which it names as its server.
pub(crate) fn document_route(document: OpenApi) -> Route {
    OpenApiHandler::new(document).into_route("/openapi.json")
}

/// Swagger UI under `{base}/docs`, to mount at the base.
pub(crate) fn docs_routes(base: &str) -> Vec<Route> {
    let url = format!("{}/openapi.json", base.trim_end_matches('/'));
    let config = SwaggerUIConfig { url, ..SwaggerUIConfig::default() };
    let routes: Vec<Route> = make_swagger_ui(&config).into();
    let below = |route: Route| {
        route.map_base(|base| format!("/docs{base}")).expect("a constant prefix makes a valid path")
    };
    routes.into_iter().map(below).collect()
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
            (413, "The body is larger than Rocket's `json` limit (1 MiB)"),
            (415, "The content type is not JSON"),
            (
                422,
                "Fields are wrong: `errors` has one entry each, with a JSON pointer; or the `Idempotency-Key` was used before for another body",
            ),
            (500, "The job could not be enqueued"),
            UNAVAILABLE,
        ];
        Ok(problems(generator, &table))
    }
}

impl OpenApiResponderInner for NotReady {
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
