//! The documented inputs: bodies, headers, and guards that take nothing a client has to send.
//!
//! Guards are inputs to rocket_okapi. Guards that ask for a client's rights are listed in
//! `guarded!`, guards that read nothing a client has to send in `silent!`; a new guard has to
//! be added to one of them or documented. A body is always required. A query parameter is
//! optional text here; `parameters` refines it.

use rocket_okapi::Result;
use rocket_okapi::r#gen::OpenApiGenerator;
use rocket_okapi::okapi::openapi3::{
    MediaType, Parameter, ParameterValue, RequestBody, SecurityScheme, SecuritySchemeData,
};
use rocket_okapi::request::{
    OpenApiFromData, OpenApiFromForm, OpenApiFromRequest, RequestHeaderInput,
};
use schemars::JsonSchema;

use super::JSON;
use crate::web::JobQueue;
use crate::web::api::bulk::WantsEvents;
use crate::web::api::{Asked, Caller, IdempotencyKey, JsonBody, Param, RouteScope};
use crate::web::guards::{ActAccess, AuditAccess, RegisterAccess, ViewAccess, ViewRight};
use crate::web::on_success::OnSuccess;

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

/// Implements the trait for guards without an input to document.
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
    OnSuccess<'r>,
    RegisterAccess,
    Asked,
    Caller,
    WantsEvents,
    RouteScope
);

/// The name of the security scheme. It is the job queue's own, because the document may be merged
/// into an application's.
const BEARER: &str = "jobqueueBearer";

/// Implements the trait for guards that ask the application who the client is.
///
/// What such a guard accepts is known to the application alone. A bearer token is what clients of
/// a document can be given, so it is the documented way; `openapi::allow_other_credentials` adds
/// that there may be others, such as the cookie of a page.
macro_rules! guarded {
    ($($guard:ty),*) => {$(
        impl<'r> OpenApiFromRequest<'r> for $guard {
            fn from_request_input(
                _: &mut OpenApiGenerator,
                _: String,
                _: bool,
            ) -> Result<RequestHeaderInput> {
                let bearer = SecurityScheme {
                    description: Some("A token that the application's guard accepts.".to_owned()),
                    data: SecuritySchemeData::Http {
                        scheme: "bearer".to_owned(),
                        bearer_format: None,
                    },
                    extensions: Default::default(),
                };
                let needed = [(BEARER.to_owned(), Vec::new())].into_iter().collect();
                Ok(RequestHeaderInput::Security(BEARER.to_owned(), bearer, needed))
            }
        }
    )*};
}

guarded!(ActAccess, AuditAccess, ViewAccess, ViewRight);

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
                "Any text the client chooses. For a day, a repeated request with the same key \
                 and body is answered with the id of the first job."
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
