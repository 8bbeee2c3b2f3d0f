//! Access during development, before the application has guards: a random token for each launch,
//! and a link with it on standard error. Everyone who can read the terminal is admitted.
//!
//! A local address would prove nothing: in a container no peer is local, and a page of another
//! site can reach local ports through a host name of its own (DNS rebinding).
//!
//! The link is opened once; it sets a cookie that lasts as long as the browser's session and that
//! pages of other sites cannot use (`SameSite=Strict`). Programs send the token as
//! `Authorization: Bearer`. After a restart of the application both are worthless. Outside of
//! development this guard does not exist.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

use rocket::http::{Cookie, Method, SameSite, Status};
use rocket::{Config, Request};
use sha2::{Digest, Sha256};

use super::catchers::explain;
use super::guards::{ErasedGuard, Verdict};
use super::stderr;

/// The query parameter of the link.
pub(super) const PARAMETER: &str = "token";

/// Who acts with the token, in the audit log.
const ACTOR: &str = "development login";

/// The detail of a 401 without the token.
const REASON: &str = "open the login link that the application printed to standard error at \
     launch, or send its token as `Authorization: Bearer …`; an application with an admin_guard \
     uses that instead";

/// The guard of an application under development that has set none.
#[derive(Clone)]
pub(super) struct Login {
    token: Arc<str>,
}

impl Login {
    /// A login with a new token of 122 random bits.
    pub(super) fn new() -> Self {
        Self { token: crate::chance::uuid().simple().to_string().into() }
    }

    /// Prints the link. It is a credential, so it does not go to the log, which may be collected.
    pub(super) fn show(&self, config: &Config, base: &str) {
        let (origin, token) = (origin(config), &self.token);
        let way = match cfg!(feature = "dashboard") {
            true => format!("dashboard of the job queue: {origin}{base}/ui?{PARAMETER}={token}"),
            false => format!("job queue at {origin}{base}: `Authorization: Bearer {token}`"),
        };
        let line = format!(
            "{way}\n(no guard is set: outside development these routes answer 403 until you add \
             `.admin_guard::<G>()`)\n"
        );
        // A closed standard error must not stop the launch.
        let _ = stderr::writer().write_all(line.as_bytes());
    }

    /// Whether a text is the token.
    fn is_token(&self, given: &str) -> bool {
        // Digests are compared, so that the time taken reveals nothing about the token.
        Sha256::digest(given) == Sha256::digest(&*self.token)
    }

    /// Whether a request has the token: as a bearer token, as our cookie, or as the parameter
    /// of the link, which then sets the cookie.
    fn admits(&self, request: &Request<'_>) -> bool {
        let header = request.headers().get_one("Authorization");
        let scheme = header.and_then(|value| value.split_once(' '));
        if let Some((scheme, token)) = scheme
            && scheme.eq_ignore_ascii_case("bearer")
            && self.is_token(token.trim())
        {
            return true;
        }
        let name = cookie_name(request);
        if request.cookies().get(&name).is_some_and(|cookie| self.is_token(cookie.value())) {
            return true;
        }
        let linked = matches!(request.method(), Method::Get | Method::Head)
            && request
                .query_value::<&str>(PARAMETER)
                .is_some_and(|given| given.is_ok_and(|given| self.is_token(given)));
        if linked {
            // The links of the page then work without the token in them.
            let cookie = Cookie::build((name, self.token.to_string()));
            let cookie = cookie.same_site(SameSite::Strict).http_only(true);
            request.cookies().add(cookie);
        }
        linked
    }
}

impl ErasedGuard for Login {
    fn check<'r>(&self, request: &'r Request<'_>) -> Verdict<'r> {
        let admitted = self.admits(request);
        Box::pin(async move {
            if admitted {
                return Ok(Some(ACTOR.to_owned()));
            }
            explain(request, REASON);
            Err(Status::Unauthorized)
        })
    }
}

/// Cookies belong to a host, not to a port, so each application on this machine needs its own
/// name.
fn cookie_name(request: &Request<'_>) -> String {
    format!("jobqueue_login_{}", request.rocket().config().port)
}

/// The address to type on this machine.
fn origin(config: &Config) -> String {
    let scheme = if config.tls_enabled() { "https" } else { "http" };
    let host = match config.address {
        any if any.is_unspecified() => "localhost".to_owned(),
        IpAddr::V6(address) => format!("[{address}]"),
        address => address.to_string(),
    };
    format!("{scheme}://{host}:{}", config.port)
}
