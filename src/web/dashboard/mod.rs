//! The dashboard: pages under `{base}/ui`, in Japanese and English, for operators.
//!
//! Pages are made on the server, from links and forms that work without scripts; with scripts
//! they follow what happens. Three layers, each of which imports the ones below it only:
//! `pages` has the routes, one page a file; `results` and `schema_form` are the larger pieces of
//! logic behind them; `ui` has the components, and the texts of every language.
//!
//! What protects an operator's browser. Every value is escaped by maud's types, so a job cannot
//! bring its own HTML. The Content-Security-Policy forbids scripts that are not this crate's file.
//! Invisible characters get visible marks. A form is taken from a page of this origin only. Stored
//! bytes leave as a download that no browser displays.
//!
//! What may surprise. A page shows the moment at which it was made. The store checks the state of a
//! job again when a button is used, so an old page can do no harm.
//!
//! To add a page: write a file in `pages` whose route takes a [`ui::View`] (or [`ui::Act`] for a
//! form), give its texts keys in `ui/texts`, and name the route in the table of who may do what
//! (`docs/roles.md`).

mod failure;
mod pages;
mod results;
mod schema_form;
mod ui;

pub(crate) use ui::counts::LastCounts;
pub(crate) use ui::layout::trouble;
pub(crate) use ui::{HtmlPage, Reader};

use rocket::http::{ContentType, Header, Method};
use rocket::request::Request;
use rocket::response::{self, Redirect, Responder, Response};
use rocket::{Route, get, routes};

use crate::web::JobQueue;
use crate::web::error::ProblemDetails;
use crate::web::guards::Hooks;
use crate::web::proxy::forwarded;

use ui::reader::escaped;

/// A file that is compiled into the crate.
struct Asset(ContentType, &'static str);

impl<'r> Responder<'r, 'static> for Asset {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        Response::build_from(self.1.respond_to(request)?)
            .header(self.0)
            // Links carry the crate's version, so that an update is seen at once.
            .header(Header::new("Cache-Control", "public, max-age=86400"))
            .ok()
    }
}

/// The styles of all pages as one file, light and dark, wide and narrow. The order matters:
/// colours and type, the frame, its parts.
#[get("/ui/style.css")]
fn style() -> Asset {
    const SHEETS: &str = concat!(
        include_str!("assets/base.css"),
        include_str!("assets/frame.css"),
        include_str!("assets/style.css"),
        include_str!("assets/tables.css"),
        include_str!("assets/charts.css"),
        include_str!("assets/lists.css"),
        include_str!("assets/truth.css"),
    );
    Asset(ContentType::CSS, SHEETS)
}

/// The script that makes a page quicker to use: keys, and the values of charts. Pages work without
/// it.
#[get("/ui/desk.js")]
fn desk() -> Asset {
    Asset(ContentType::JavaScript, include_str!("assets/desk.js"))
}

/// The script that keeps a page current; see `pages::events`. Pages work without it.
#[get("/ui/live.js")]
fn script() -> Asset {
    Asset(ContentType::JavaScript, include_str!("assets/live.js"))
}

/// The icon of the browser tab.
#[get("/ui/icon.svg")]
fn icon() -> Asset {
    Asset(ContentType::SVG, include_str!("assets/icon.svg"))
}

/// The pages and the files they refer to, to mount at the base.
pub(crate) fn routes(with_register: bool) -> Vec<Route> {
    let mut routes = routes![style, icon, script, desk];
    routes.extend(pages::routes(with_register));
    routes
}

/// The page for a request that a guard refused, if a person reads the answer. Other clients get
/// problem details.
pub(crate) fn refusal(request: &Request<'_>, problem: &ProblemDetails) -> Option<HtmlPage> {
    Some(ui::page::refusal(&person(request)?, problem))
}

/// The way to the application's login, if it has one and a person reads the answer. It names the
/// page to come back to: the one that was asked for, or the overview after a form.
pub(crate) fn login(request: &Request<'_>) -> Option<Redirect> {
    let login = request.rocket().state::<Hooks>()?.login_url.as_deref()?;
    let (reader, prefix) = (person(request)?, &forwarded(request).prefix);
    let next = match request.method() {
        Method::Get | Method::Head => format!("{prefix}{}", request.uri()),
        _ => format!("{}/ui", reader.base),
    };
    let prefix = if login.starts_with('/') { prefix.as_str() } else { "" };
    let mark = if login.contains('?') { '&' } else { '?' };
    Some(Redirect::to(format!("{prefix}{login}{mark}next={}", escaped(&next))))
}

/// Who reads the answer, if it is a person: the path is a page's, and the client accepts HTML.
fn person(request: &Request<'_>) -> Option<Reader> {
    let base = &request.rocket().state::<JobQueue>()?.config().base;
    let path = request.uri().path().as_str().strip_prefix(base.as_str())?;
    let is_page = path == "/ui" || path.starts_with("/ui/");
    let reads_html = request.headers().get("Accept").any(|accept| accept.contains("text/html"));
    (is_page && reads_html).then(|| Reader::of(request, base))
}
