//! A page as an HTML document and as a response. The headers that decide what may run in a
//! page are set here for all of them.
//!
//! The Content-Security-Policy forbids everything that a page does not need. It is the last line of
//! defence if a value from a job were ever written without escaping; the first is maud, which escapes
//! every value.

use maud::{DOCTYPE, Markup, html};
use rocket::http::{ContentType, Header, Status};
use rocket::request::Request;
use rocket::response::{self, Responder, Response};

use super::display::{self, Display};
use super::{Reader, Texts, marks};
use crate::web::error::{ProblemDetails, UNAVAILABLE, retry_after};
use crate::web::proxy::IgnoredPrefix;

/// Nothing from other origins, no inline scripts or styles, no framing: one script, the
/// styles, the icon and forms of this origin.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; \
     script-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; \
     base-uri 'none'";

/// A page and the status it is sent with. Invisible characters of the finished page are
/// marked (see `marks`), so no page can forget it.
pub(crate) struct HtmlPage(pub Status, pub Markup);

impl<'r> Responder<'r, 'static> for HtmlPage {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let page = marked(&self.1);
        let page = display::shown(&page, &Display::of(request)).into_owned();
        let mut page = sent_as_page(page.respond_to(request)?)?;
        page.set_status(self.0);
        retry_after(self.0).into_iter().for_each(|header| _ = page.set_header(header));
        Ok(page)
    }
}

/// The markup as it is sent: with a visible mark for each invisible character.
pub(crate) fn marked(markup: &Markup) -> String {
    marks::shown(&markup.0).into_owned()
}

/// Adds the headers of every page: type, policies, no caching, the language it varies with.
pub(crate) fn sent_as_page(answer: Response<'_>) -> response::Result<'_> {
    Response::build_from(answer)
        .header(ContentType::HTML)
        .header(Header::new("Content-Security-Policy", CONTENT_SECURITY_POLICY))
        // Not `no-referrer`: browsers would send forms with `Origin: null`.
        .header(Header::new("Referrer-Policy", "same-origin"))
        .header(Header::new("Cache-Control", "no-store"))
        .header(Header::new("Vary", "Accept-Language, Cookie"))
        .ok()
}

/// The HTML document around a page's content. Links to files carry the crate's version, so
/// that a browser fetches them again after an update.
pub(crate) fn document(reader: &Reader, title: &str, content: Markup) -> Markup {
    let base = &reader.base;
    let version = env!("CARGO_PKG_VERSION");
    html! {
        (DOCTYPE)
        html lang=(reader.texts.code) data-theme=[reader.display.theme] {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content=(reader.display.theme.unwrap_or("light dark"));
                title { (title) }
                link rel="stylesheet" href={ (base) "/ui/style.css?v=" (version) };
                link rel="icon" type="image/svg+xml" href={ (base) "/ui/icon.svg?v=" (version) };
            }
            body {
                @if let Some(ignored) = &reader.ignored_prefix {
                    (prefix_ignored(reader.texts, ignored))
                }
                (content)
            }
        }
    }
}

/// Links would leave the path that the proxy takes off: what to set.
fn prefix_ignored(texts: &Texts, ignored: &IgnoredPrefix) -> Markup {
    html! { div.notice.bad role="status" { p { ((texts.prefix_ignored)(ignored)) } } }
}

/// The page for a request that a guard refused: 401 or 403, and the reason.
pub(crate) fn refusal(reader: &Reader, problem: &ProblemDetails) -> HtmlPage {
    let texts = reader.texts;
    let title = match problem.status().code {
        401 => texts.authentication_required,
        _ => texts.not_allowed,
    };
    let content = html! {
        main {
            header { h1 { (title) } }
            (trouble(texts, problem))
            p.more { a href={ (reader.base) "/ui" } { (texts.back_to_overview) } }
        }
    };
    HtmlPage(problem.status(), document(reader, title, content))
}

/// A problem, read aloud by screen readers at once.
pub(crate) fn trouble(texts: &Texts, problem: &ProblemDetails) -> Markup {
    html! { div.notice.bad role="alert" { (reason(texts, problem)) } }
}

/// Why a request failed. A store that is away is explained in the reader's language; other
/// details are English.
pub(crate) fn reason(texts: &Texts, problem: &ProblemDetails) -> Markup {
    let unavailable = problem.detail() == UNAVAILABLE;
    html! {
        p { @if unavailable { (texts.unavailable) } @else { (problem.detail()) } }
    }
}
