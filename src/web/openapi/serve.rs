//! `{base}/openapi.json`.
//!
//! The document is made once, at launch. For each request only the server's address is added,
//! because behind a reverse proxy it depends on the request. The route has no guard;
//! `jobqueue.openapi` switches it off.

use rocket::http::{Method, Status};
use rocket::request::{FromRequest, Outcome};
use rocket::response::content::RawJson;
use rocket::route::{self, Handler};
use rocket::{Data, Request, Route};
use rocket_okapi::okapi::openapi3::{OpenApi, Server};

use crate::web::proxy::PublicBase;

/// The route to mount at the base, which the document names as its server.
pub(crate) fn document_route(document: OpenApi) -> Route {
    Route::new(Method::Get, "/openapi.json", ServedDocument(document))
}

/// Sends the document, with the path under which the client reaches the routes. A reverse proxy
/// may have changed it, so the document is serialized for each request.
#[derive(Clone)]
struct ServedDocument(OpenApi);

#[rocket::async_trait]
impl Handler for ServedDocument {
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
