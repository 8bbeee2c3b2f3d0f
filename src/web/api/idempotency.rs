//! The `Idempotency-Key` header, and what keeps the same key of other routes and callers apart.

use std::convert::Infallible;

use rocket::http::Status;
use rocket::request::{self, FromRequest, Request};

use crate::job::Idempotency;
use crate::web::error::ProblemDetails;
use crate::web::proxy::{client_name, client_of};

/// Maximum `Idempotency-Key`, in characters.
const MAX_KEY_CHARS: usize = 255;

/// The `Idempotency-Key` header, if there is one, or why it is refused. A key that is empty or
/// sent twice is refused rather than ignored: the client relies on it.
pub(crate) struct IdempotencyKey<'r>(Result<Option<&'r str>, ProblemDetails>);

impl IdempotencyKey<'_> {
    /// The idempotency key for this route and body. The same key on another route is another key.
    pub(super) fn guard(
        self,
        scope: &str,
        body: &[u8],
    ) -> Result<Option<Idempotency>, ProblemDetails> {
        Ok(self.0?.map(|key| Idempotency::new(scope, key, body)))
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for IdempotencyKey<'r> {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Infallible> {
        let mut keys = request.headers().get("Idempotency-Key");
        let refused = |detail: &str| {
            let detail = format!("header Idempotency-Key: {detail}");
            Err(ProblemDetails::new(Status::UnprocessableEntity, detail))
        };
        let key = match (keys.next(), keys.next()) {
            (None, _) => Ok(None),
            (Some(_), Some(_)) => refused("expected one, got several"),
            (Some(key), None) => match key.chars().count() {
                0 => refused("expected 1 to 255 characters, got none"),
                1..=MAX_KEY_CHARS => Ok(Some(key)),
                length => {
                    refused(&format!("expected 1 to {MAX_KEY_CHARS} characters, got {length}"))
                }
            },
        };
        request::Outcome::Success(Self(key))
    }
}

/// The scope of an idempotency key: the method and the path of the route as it is mounted, however
/// the request spelled it.
pub(crate) struct RouteScope(pub String);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for RouteScope {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Infallible> {
        let path = request.route().map_or("", |route| route.uri.path());
        request::Outcome::Success(Self(format!("{} {path}", request.method())))
    }
}

/// The caller of the public route, as far as it is known: a credential or an address. It separates
/// the idempotency keys of different callers. The text is hashed and never shown.
pub(crate) struct Caller(pub String);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Caller {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Infallible> {
        let credential = request.headers().get_one("Authorization");
        let caller = match (credential, client_of(request)) {
            (Some(credential), _) => format!("credential {credential}"),
            (None, Some(ip)) => format!("address {}", client_name(ip)),
            (None, None) => "local".to_owned(),
        };
        request::Outcome::Success(Self(caller))
    }
}
