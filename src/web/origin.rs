//! The origin of requests that change something. A browser sends a person's credentials with every
//! request, including those that a page of another site makes (CSRF).
//!
//! Two kinds of clients are told apart. A browser says where a request comes from: by
//! `Sec-Fetch-Site`, or by `Origin`, which is compared with `Host` or with what trusted proxies
//! report. A program says nothing. It proves that it is not a form of another site by something
//! that a form cannot send: a JSON content type or a credential of its own.
//!
//! What may surprise. A reverse proxy that changes `Host` makes every change look foreign in
//! browsers without `Sec-Fetch-Site`. The refusal then says what to configure.

#[cfg(feature = "dashboard")]
pub(crate) use form::SameOrigin;
use rocket::Request;

use super::JobQueue;
use super::catchers::explain;
use super::proxy::{ProxyHeaders, forwarded};

/// Authentication schemes whose credentials a browser sends by itself once they were entered.
const SENT_BY_BROWSERS: [&str; 4] = ["basic", "digest", "negotiate", "ntlm"];

/// How much of a foreign header a response repeats, in characters.
const MAX_SHOWN_CHARS: usize = 100;

/// Whether the request's headers say that it comes from a page of this origin; `None` if they say
/// nothing.
fn is_same_origin(request: &Request<'_>) -> Option<bool> {
    let header = |name| request.headers().get_one(name);
    // The browser's own judgement is right even behind a proxy that changes `Host`.
    if let Some(site) = header("Sec-Fetch-Site") {
        return Some(site == "same-origin");
    }
    Some(is_here(header("Origin")?, header("Host"), forwarded(request)))
}

/// Whether this origin is the application's address as the browser shows it.
fn is_here(origin: &str, host: Option<&str>, forwarded: &ProxyHeaders) -> bool {
    let Some((scheme, at)) = origin.split_once("://") else { return false };
    let (scheme, at) = (scheme.to_ascii_lowercase(), at.to_ascii_lowercase());
    let protocols = &forwarded.protocols;
    if !protocols.is_empty() && !protocols.contains(&scheme) {
        return false;
    }
    let is_at = |host: &str| plain(&scheme, &host.to_ascii_lowercase()) == plain(&scheme, &at);
    match &forwarded.hosts[..] {
        [] => host.is_some_and(is_at),
        hosts => hosts.iter().any(|host| is_at(host)),
    }
}

/// The host without the default port of its scheme.
fn plain(scheme: &str, host: &str) -> String {
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    host.strip_suffix(usual).unwrap_or(host).to_owned()
}

/// Whether the request comes from an origin of `jobqueue.allowed_origins`.
fn is_allowed(request: &Request<'_>) -> bool {
    let origin = request.headers().get_one("Origin").map(str::to_ascii_lowercase);
    let queue = request.rocket().state::<JobQueue>();
    origin
        .zip(queue)
        .is_some_and(|(origin, queue)| queue.config().allowed_origins.contains(&origin))
}

/// Whether the request has a credential that no browser adds by itself. A page of another site
/// cannot make a browser send one unless this application allows it (CORS).
fn has_credential(request: &Request<'_>) -> bool {
    let mut headers = request.headers().get("Authorization");
    let (Some(header), None) = (headers.next(), headers.next()) else { return false };
    let mut words = header.split_whitespace();
    let Some(scheme) = words.next() else { return false };
    let by_browser = SENT_BY_BROWSERS.iter().any(|known| scheme.eq_ignore_ascii_case(known));
    // Clients generated for a key in this header send it without a scheme.
    let is_empty = words.next().is_none() && scheme.eq_ignore_ascii_case("bearer");
    !by_browser && !is_empty
}

/// Whether a change by REST is allowed: from this origin, an allowed origin, or a program. A
/// form or link of another site cannot send a JSON content type or a credential of its own.
/// Records the reason of a refusal.
pub(super) fn may_change(request: &Request<'_>) -> bool {
    let by_program = || {
        let passes =
            request.content_type().is_some_and(super::api::is_json) || has_credential(request);
        if !passes {
            explain(request, NO_PROGRAM);
        }
        passes
    };
    is_same_origin(request).map_or_else(by_program, |same| same || is_allowed_elsewhere(request))
}

/// Whether the public route may enqueue: always, except for a page of another site in a visitor's
/// browser. Records the reason of a refusal.
pub(super) fn may_register(request: &Request<'_>) -> bool {
    is_same_origin(request).unwrap_or(true) || is_allowed_elsewhere(request)
}

/// Whether the request comes from an allowed origin; records the reason if not.
fn is_allowed_elsewhere(request: &Request<'_>) -> bool {
    let allowed = is_allowed(request);
    if !allowed {
        explain_foreign(request);
    }
    allowed
}

/// The detail of a 403 for a request that names no origin and could be a form of another site.
const NO_PROGRAM: &str = "a change needs the content type application/json, or an Authorization \
     header other than Basic, to prove that no page of another site asks for it";

/// The detail of a 403 for a request that a browser marks as another site's.
const OTHER_SITE: &str = "the request comes from a page of another site: changes are taken from \
     this origin and from those in jobqueue.allowed_origins";

/// Records why a browser's request counts as one of another site.
fn explain_foreign(request: &Request<'_>) {
    let header = |name| request.headers().get_one(name);
    if header("Sec-Fetch-Site").is_some() {
        return explain(request, OTHER_SITE);
    }
    let Some(origin) = header("Origin") else { return explain(request, OTHER_SITE) };
    let shown = |text: &str| text.chars().take(MAX_SHOWN_CHARS).collect::<String>();
    let forwarded = forwarded(request);
    let here = match &forwarded.hosts[..] {
        [] => shown(header("Host").unwrap_or("an unknown host")),
        hosts => shown(&hosts.join(", ")),
    };
    explain(
        request,
        format!(
            "the request comes from a page of {}, but this application was asked as {here}: if \
             both are its own, a reverse proxy in front of it changes the host; let it keep the \
             header Host, or name its address in jobqueue.trusted_proxies and let it send \
             X-Forwarded-Host and X-Forwarded-Proto",
            shown(origin)
        ),
    );
}

#[cfg(feature = "dashboard")]
mod form {
    use rocket::Request;
    use rocket::http::Status;
    use rocket::request::{FromRequest, Outcome};

    use super::{explain, explain_foreign, is_same_origin};

    /// Proof that a form was sent from a page of this origin. Anything else is refused with 403,
    /// including a request that does not name its origin.
    pub(crate) struct SameOrigin;

    #[rocket::async_trait]
    impl<'r> FromRequest<'r> for SameOrigin {
        type Error = &'static str;

        async fn from_request(request: &'r Request<'_>) -> Outcome<Self, &'static str> {
            const SAME_ORIGIN: &str = "forms are taken from the same origin only";
            match is_same_origin(request) {
                Some(true) => return Outcome::Success(SameOrigin),
                Some(false) => explain_foreign(request),
                None => explain(request, SAME_ORIGIN),
            }
            Outcome::Error((Status::Forbidden, SAME_ORIGIN))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxied(hosts: &[&str], protocols: &[&str]) -> ProxyHeaders {
        let own = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        ProxyHeaders { hosts: own(hosts), protocols: own(protocols), ..ProxyHeaders::default() }
    }

    #[test]
    fn an_origin_is_compared_with_the_host_that_a_person_sees() {
        let nothing = || proxied(&[], &[]);
        for (origin, host, forwarded, expected) in [
            ("http://a.example", "a.example", nothing(), true),
            ("http://A.example:80", "a.EXAMPLE", nothing(), true),
            ("https://a.example", "a.example:443", nothing(), true),
            ("http://a.example", "a.example:443", nothing(), false),
            ("http://a.example:8000", "a.example", nothing(), false),
            ("http://evil.example", "a.example", nothing(), false),
            ("null", "a.example", nothing(), false),
            ("a.example", "a.example", nothing(), false),
            ("http://a.example", "app:8000", nothing(), false),
            ("http://a.example", "app:8000", proxied(&["a.example"], &[]), true),
            ("http://a.example:80", "app:8000", proxied(&["a.example"], &["http"]), true),
            ("http://a.example", "app:8000", proxied(&["a.example"], &["https"]), false),
            ("https://a.example", "app:8000", proxied(&["a.example", "inner"], &["https"]), true),
            // If the proxies report the original host, the host that they connect to does not
            // count.
            ("http://app:8000", "app:8000", proxied(&["a.example"], &[]), false),
        ] {
            let found = is_here(origin, Some(host), &forwarded);
            assert_eq!(found, expected, "{origin} {host} {forwarded:?}");
        }
        assert!(!is_here("http://a.example", None, &nothing()));
    }
}
