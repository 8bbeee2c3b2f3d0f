//! Who reads a page: below which path, and in which language.
//!
//! Without `Accept-Language` a page is Japanese, the language of the first readers; a browser that
//! asks for none of our languages gets English.

use std::convert::Infallible;

use rocket::http::RawStr;
use rocket::request::{FromRequest, Outcome, Request};

use super::Texts;
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
        Self {
            base: format!("{}{base}", forwarded.prefix),
            texts: Texts::preferred(request.headers().get_one("Accept-Language")),
            ignored_prefix: forwarded.ignored.clone(),
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

/// A text as one segment of a path or one value of a query. Every text from outside that goes
/// into an address passes here; maud escapes for HTML, which is another thing.
pub(crate) fn escaped(text: &str) -> String {
    RawStr::new(text).percent_encode().to_string()
}
