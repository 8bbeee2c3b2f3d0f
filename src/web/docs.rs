//! `{base}/docs`: Swagger UI with the API document, served from the crate. Its files and their
//! licence are in `docs/`; to update it, replace them.
//!
//! Nothing is loaded from another server, so the page works without internet access, and no third
//! party learns of it. The routes have no guard, like the document: they show how the interface is
//! made, not what is in the queue. Both can be switched off (`jobqueue.docs`, `jobqueue.openapi`).

use maud::{DOCTYPE, Markup, html};
use rocket::http::{ContentType, Header};
use rocket::response::{self, Redirect, Responder, Response};
use rocket::serde::json::{Json, Value, json};
use rocket::{Request, Route, get, routes};

use super::JobQueue;
use super::proxy::PublicBase;

/// Scripts, styles and requests of this origin only, no inline scripts, no framing. Swagger UI
/// has its icons in its styles, as data URLs.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

/// A response with the headers of this page and its files.
struct DocsResponse<R>(R);

impl<'r, 'o: 'r, R: Responder<'r, 'o>> Responder<'r, 'o> for DocsResponse<R> {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'o> {
        Response::build_from(self.0.respond_to(request)?)
            .header(Header::new("Content-Security-Policy", CONTENT_SECURITY_POLICY))
            .header(Header::new("Referrer-Policy", "same-origin"))
            .header(Header::new("X-Content-Type-Options", "nosniff"))
            .ok()
    }
}

/// The short address. The page's own address has a folder, so that its files are beside it.
#[get("/docs")]
fn entrance(base: PublicBase) -> Redirect {
    Redirect::to(format!("{}/docs/index.html", base.0))
}

/// The page: an empty frame that Swagger UI fills. Its texts are English, like the document's.
#[get("/docs/index.html")]
fn page(queue: &JobQueue) -> DocsResponse<(ContentType, String)> {
    let page: Markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "API of the job queue at " (queue.config().base) }
                link rel="stylesheet" href="swagger-ui.css";
                link rel="icon" href="data:,";
            }
            body {
                div #swagger-ui {}
                noscript { "This page needs scripts; the document itself is " a href="../openapi.json" { "openapi.json" } "." }
                script src="swagger-ui-bundle.js" {}
                script src="initializer.js" {}
            }
        }
    };
    DocsResponse((ContentType::HTML, page.into_string()))
}

/// Where Swagger UI finds the document, also behind a proxy with a prefix.
#[get("/docs/swagger-ui-config.json")]
fn config(base: PublicBase) -> DocsResponse<Json<Value>> {
    // Without this, Swagger UI sends the document's address to a validator on another server.
    DocsResponse(Json(json!({ "url": format!("{}/openapi.json", base.0), "validatorUrl": null })))
}

/// A file that is compiled into the crate and changes only with it.
struct DocsAsset(ContentType, &'static [u8]);

impl<'r> Responder<'r, 'static> for DocsAsset {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        Response::build_from((self.0, self.1).respond_to(request)?)
            .header(Header::new("Cache-Control", "public, max-age=3600"))
            .ok()
    }
}

#[get("/docs/swagger-ui-bundle.js")]
fn bundle() -> DocsResponse<DocsAsset> {
    DocsResponse(DocsAsset(ContentType::JavaScript, include_bytes!("docs/swagger-ui-bundle.js")))
}

#[get("/docs/swagger-ui.css")]
fn style() -> DocsResponse<DocsAsset> {
    DocsResponse(DocsAsset(ContentType::CSS, include_bytes!("docs/swagger-ui.css")))
}

#[get("/docs/initializer.js")]
fn initializer() -> DocsResponse<DocsAsset> {
    DocsResponse(DocsAsset(ContentType::JavaScript, include_bytes!("docs/initializer.js")))
}

/// The page and its parts, to mount at the base.
pub(super) fn routes() -> Vec<Route> {
    routes![entrance, page, config, bundle, style, initializer]
}
