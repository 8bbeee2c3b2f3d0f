//! Who reads a page: below which path, and in which language.
//!
//! The language is the one that was chosen on a page, else the browser's, else English.

use std::convert::Infallible;

use chrono_tz::Tz;
use rocket::http::{Method, RawStr};
use rocket::request::{FromRequest, Outcome, Request};

use super::Texts;
use super::display::{Display, LANGUAGE};
use crate::job::{JobId, QueueName};
use crate::web::proxy::{IgnoredPrefix, forwarded};

/// The longest path of a page that is linked to. HTTP servers accept addresses of up to 64 KiB, and
/// the addresses of a job's actions are longer than its page's.
const MAX_PATH_BYTES: usize = 60_000;

/// Where and in which language a page is read.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    /// The path below which the reader finds the routes, without a slash at its end: the base
    /// they are mounted at, below the prefix that a trusted reverse proxy takes off.
    pub base: String,
    /// Why the prefix that a proxy sends is ignored: links may be wrong, and the page says what
    /// to set.
    pub ignored_prefix: Option<IgnoredPrefix>,
    /// The texts of the page.
    pub texts: &'static Texts,
    /// The time zone in which moments are read and shown.
    pub zone: Tz,
    /// Theme and times.
    pub display: Display,
    /// The page that is read, as a path below the base; the overview after a form.
    pub here: String,
    /// Whether the page answers a form: fetching its address again would show another one.
    pub answers_form: bool,
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
    /// The reader of a request that may have no route of ours, with the configured base.
    pub(crate) fn of(request: &Request<'_>, base: &str) -> Self {
        let forwarded = forwarded(request);
        let display = Display::of(request);
        let language = request.cookies().get(LANGUAGE).and_then(|code| Texts::of(code.value()));
        let accepted = || Texts::preferred(request.headers().get_one("Accept-Language"));
        Self {
            base: format!("{}{base}", forwarded.prefix),
            texts: language.unwrap_or_else(accepted),
            here: here(request, base),
            ignored_prefix: forwarded.ignored.clone(),
            zone: display.zone,
            display,
            answers_form: request.method() == Method::Post,
        }
    }

    /// The address of a queue's page.
    pub(crate) fn queue(&self, queue: &QueueName) -> String {
        format!("{}/ui/queues/{}", self.base, escaped(&queue.printable()))
    }

    /// The address of a job's page, of any length.
    pub(crate) fn job(&self, queue: &QueueName, id: &JobId) -> String {
        format!("{}/ui/jobs/{}/{}", self.base, escaped(&queue.printable()), escaped(id.as_str()))
    }

    /// The address of a job's page; `None` for an id that is too long for an address.
    pub(crate) fn reachable_job(&self, queue: &QueueName, id: &JobId) -> Option<String> {
        Some(self.job(queue, id)).filter(|path| path.len() <= MAX_PATH_BYTES)
    }
}

/// The address of a request below the base, to come back to. What was done before is not said
/// again, and a form is not sent again.
fn here(request: &Request<'_>, base: &str) -> String {
    let path = request.uri().path().as_str().strip_prefix(base).unwrap_or_default();
    if request.method() != Method::Get || !path.starts_with("/ui") {
        return "/ui".to_owned();
    }
    let query = request.uri().query().map(|query| query.as_str()).unwrap_or_default();
    let said = ["done", "count", "left"];
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !said.contains(&pair.split('=').next().unwrap_or(pair)))
        .collect();
    match kept.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", kept.join("&")),
    }
}

/// A text as one segment of a path or one value of a query. Every text from outside that goes
/// into an address passes here; maud escapes for HTML, which is another thing.
pub(crate) fn escaped(text: &str) -> String {
    RawStr::new(text).percent_encode().to_string()
}
