//! Pages under `{base}/ui`: links and forms that work without scripts, in
//! Japanese and English; with scripts they follow what happens. What may run in a page is settled by one header here;
//! what a page shows is `view`'s matter.

mod bulk;
mod charts;
mod enqueue;
mod explorer;
mod groups;
mod job;
mod layout;
mod live;
mod marks;
mod overview;
mod payload;
mod queue;
pub(crate) mod register;
mod rows;
mod scheduled;
mod selected;
mod store;
mod system;
pub(crate) mod view;

pub(crate) use layout::trouble;

use std::convert::Infallible;

use maud::Markup;
use rocket::http::{ContentType, Header, RawStr, Status};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::{self, Responder, Response};
use rocket::{Route, get, routes};

use crate::web::JobQueue;
use crate::web::error::{ProblemDetails, retry_after};
use crate::web::proxy::{IgnoredPrefix, forwarded};

/// Nothing from elsewhere, nothing written into a page, no framing; one script, styles,
/// icon and forms from this origin.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; \
     script-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; \
     base-uri 'none'";

/// A page and the status it is sent with.
pub(crate) struct Page(pub Status, pub Markup);

impl<'r> Responder<'r, 'static> for Page {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let page = marks::shown(&self.1.into_string()).into_owned();
        let mut page = sent_as_page(page.respond_to(request)?)?;
        page.set_status(self.0);
        retry_after(self.0).into_iter().for_each(|header| _ = page.set_header(header));
        Ok(page)
    }
}

/// The answer with what all pages are sent with.
fn sent_as_page(answer: Response<'_>) -> response::Result<'_> {
    Response::build_from(answer)
        .header(ContentType::HTML)
        .header(Header::new("Content-Security-Policy", CONTENT_SECURITY_POLICY))
        // Not `no-referrer`: browsers would send forms with `Origin: null`.
        .header(Header::new("Referrer-Policy", "same-origin"))
        .header(Header::new("Cache-Control", "no-store"))
        .header(Header::new("Vary", "Accept-Language"))
        .ok()
}

/// A file of the crate's own.
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

#[get("/ui/style.css")]
fn style() -> Asset {
    Asset(ContentType::CSS, include_str!("assets/style.css"))
}

#[get("/ui/live.js")]
fn script() -> Asset {
    Asset(ContentType::JavaScript, include_str!("assets/live.js"))
}

#[get("/ui/icon.svg")]
fn icon() -> Asset {
    Asset(ContentType::SVG, include_str!("assets/icon.svg"))
}

/// The pages and the files they refer to, to mount at the base.
pub(crate) fn routes(with_register: bool) -> Vec<Route> {
    let mut routes = routes![style, icon, script];
    for more in [
        overview::routes,
        explorer::routes,
        selected::routes,
        scheduled::routes,
        queue::routes,
        bulk::routes,
        groups::routes,
        job::routes,
        enqueue::routes,
        system::routes,
        store::routes,
        live::routes,
    ] {
        routes.extend(more());
    }
    if with_register {
        routes.extend(register::routes());
    }
    routes
}

/// The pairs of an urlencoded form.
fn form_pairs(body: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| RawStr::new(text).url_decode_lossy().into_owned();
    body.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(move |(name, value)| (decode(name), decode(value)))
}

/// Where and in which language a page is read.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    /// The path below which the reader finds the routes, without a slash at its end: where
    /// they are mounted, below what a reverse proxy takes off.
    pub base: String,
    /// Why links may leave the path that a proxy takes off.
    pub ignored_prefix: Option<IgnoredPrefix>,
    /// The language of the page.
    pub language: Language,
}

/// The languages there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Japanese,
    English,
}

impl Language {
    /// The one of ours that the header prefers. Japanese, the language of the
    /// page's first readers, where nothing is asked for; English for readers of
    /// other languages.
    fn preferred(header: Option<&str>) -> Self {
        let Some(header) = header.filter(|header| !header.trim().is_empty()) else {
            return Language::Japanese;
        };
        let (mut japanese, mut english, mut any) = (0.0_f32, 0.0_f32, 0.0_f32);
        for range in header.split(',') {
            let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
            let quality = match parameters.trim().strip_prefix("q=") {
                Some(quality) => quality.trim().parse().unwrap_or(0.0),
                None => 1.0,
            };
            let tag = tag.trim().to_ascii_lowercase();
            match tag.split('-').next() {
                Some("ja") => japanese = japanese.max(quality),
                Some("en") => english = english.max(quality),
                Some("*") => any = quality,
                _ => {}
            }
        }
        match japanese > 0.0 || english > 0.0 {
            true if japanese >= english => Language::Japanese,
            false if any > 0.0 => Language::Japanese,
            _ => Language::English,
        }
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Reader {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Infallible> {
        let base = request.route().map_or("", |route| route.uri.base());
        Outcome::Success(Reader::of(request, base.trim_end_matches('/')))
    }
}

impl Reader {
    fn of(request: &Request<'_>, base: &str) -> Self {
        let forwarded = forwarded(request);
        Self {
            base: format!("{}{base}", forwarded.prefix),
            language: Language::preferred(request.headers().get_one("Accept-Language")),
            ignored_prefix: forwarded.ignored.clone(),
        }
    }
}

/// Why a request of a page's was refused, as a page: a person pressed a button, or followed a
/// link. `None` for requests of others, which read problem details.
pub(crate) fn refusal(request: &Request<'_>, problem: &ProblemDetails) -> Option<Page> {
    let base = &request.rocket().state::<JobQueue>()?.config().base;
    let path = request.uri().path().as_str().strip_prefix(base.as_str())?;
    let is_page = path == "/ui" || path.starts_with("/ui/");
    let reads_html = request.headers().get("Accept").any(|accept| accept.contains("text/html"));
    if !is_page || !reads_html {
        return None;
    }
    let reader = Reader::of(request, base);
    Some(Page(problem.status(), view::refusal(&reader, problem)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_preferred_of_ours() {
        use Language::{English, Japanese};
        for (header, expected) in [
            (None, Japanese),
            (Some(""), Japanese),
            (Some("*"), Japanese),
            (Some("ja"), Japanese),
            (Some("en-US,en;q=0.9"), English),
            (Some("en;q=0.8, ja;q=0.9"), Japanese),
            (Some("fr-FR, en;q=0.5, ja;q=0.4"), English),
            (Some("fr"), English),
            (Some("ja;q=0, en;q=0.1"), English),
        ] {
            assert_eq!(Language::preferred(header), expected, "{header:?}");
        }
    }
}
