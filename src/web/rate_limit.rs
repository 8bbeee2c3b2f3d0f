//! The rate limit as a fairing: who a client is, which requests count, and the headers of the
//! response. The counting itself is in `crate::limiter`.
//!
//! A Rocket fairing cannot answer a request. A refused request gets a query parameter with a
//! random name, and a route of ours answers every request that has it, whatever the path. The
//! path does not change, because fairings of the application, such as one for CORS, decide by it
//! which headers to add.
//!
//! Order matters to a browser: a refused request must still get the CORS headers of the
//! application, or a page could not read that it was refused.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use ipnet::IpNet;
use rocket::fairing::{self, Fairing, Info, Kind};
use rocket::figment::Figment;
use rocket::http::uri::Origin;
use rocket::http::{Header, Method, Status};
use rocket::response::Responder;
use rocket::route::{Handler, Outcome};
use rocket::{Build, Data, Request, Response, Rocket, Route};

use super::error::ProblemDetails;
use super::methods::ALL_METHODS;
use super::refusal::refuse;
use super::{JobQueue, proxy};
use crate::config::{Config, RateLimitConfig, Section, process_env};
use crate::error::Error;
use crate::limiter::{
    CountedRequest, Counter, HOUR, Limiter, Limits, MINUTE, MemoryCounter, RedisCounter, Window,
};
use crate::sync::lock;
use crate::time::Clock;

/// Ranks before every other route, even one that matches all paths.
const FIRST_RANK: isize = -1_000_000;

/// Whether the request is a CORS preflight. Preflights are free: a browser cannot omit them, and
/// they do nothing.
fn is_preflight(request: &Request<'_>) -> bool {
    request.method() == Method::Options
        && request.headers().contains("Access-Control-Request-Method")
}

/// A rate limit per client, for any Rocket application, with or without a job queue.
///
/// It is configured by `rate_limit` (in `Rocket.toml` and `ROCKET_RATE_LIMIT`) or
/// `api.rate_limit` (in `config/{APP_ENV}/config.yaml`);
/// [configuration](crate::guide::configuration) lists the keys. With `enabled = false`, the
/// default, nothing is counted and no header is sent.
///
/// A client has a window of a minute and one of an hour, each of which begins with its first
/// request. Requests over the limit get 429 with `Retry-After` and [`ProblemDetails`], and are
/// not counted. Every counted response has the headers `X-RateLimit-Limit`, `-Remaining` and
/// `-Reset` (Unix seconds), `X-RateLimit-Hour-*` if there is a limit per hour, and the IETF's
/// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
///
/// Requests are counted in this process, or in Redis for all processes together
/// (`storage_type`). While Redis is unavailable or full, each process counts by itself.
///
/// A client is the address of its connection, of an IPv6 address the first 64 bits. Behind a
/// reverse proxy that is the proxy's address: name the proxy in `trusted_proxies`, and the client
/// is the last address in `X-Forwarded-For`, or without that header in `Forwarded: for=`, that is
/// not one of these. The proxy must not pass on a client's own headers: it has to set or append to
/// `X-Forwarded-For`, or to drop that header and set or drop `Forwarded`. Otherwise clients choose
/// their own address, and so evade the limit.
///
/// ```no_run
/// use rocket::{get, launch, routes};
/// use rocket_jobqueue::rate_limit::RateLimit;
///
/// #[get("/time")]
/// fn time() -> &'static str { "now" }
///
/// #[launch]
/// fn rocket() -> _ {
///     rocket::build()
///         .attach(RateLimit::fairing().set("rate_limit.enabled", true))
///         .mount("/api", routes![time])
/// }
/// ```
#[derive(Debug)]
pub struct RateLimit(());

impl RateLimit {
    /// The fairing to attach.
    pub fn fairing() -> RateLimitFairing {
        RateLimitFairing { code: Mutex::default(), ready: OnceLock::new() }
    }
}

/// The fairing that limits requests; see [`RateLimit`]. An application attaches one: a second one
/// stops the launch.
#[must_use = "a fairing does nothing until it is attached"]
pub struct RateLimitFairing {
    code: Mutex<(Figment, Option<String>)>,
    ready: OnceLock<ReadyLimits>,
}

/// Without the settings, which may hold credentials.
impl std::fmt::Debug for RateLimitFairing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RateLimitFairing")
    }
}

/// The limits, ready to be applied.
struct ReadyLimits {
    limiter: Limiter,
    paths: Vec<Vec<String>>,
    exempt: Vec<Vec<String>>,
    /// Whether paths are exempt for every method: if the configuration names them. Our own default
    /// exempts reading only.
    exempts_writes: bool,
    proxies: Vec<IpNet>,
    /// The query parameter of refused requests.
    mark: String,
}

impl RateLimitFairing {
    /// Sets one configuration value by its full path, overriding every file and variable:
    /// `.set("rate_limit.requests_per_minute", 5)`. An invalid value stops the launch.
    #[track_caller]
    pub fn set(self, key: &str, value: impl serde::Serialize) -> Self {
        {
            let mut code = lock(&self.code);
            code.0 = code.0.clone().merge((key, value));
        }
        self
    }

    /// Sets the environment, instead of the variable `APP_ENV`.
    pub fn environment(self, name: impl Into<String>) -> Self {
        lock(&self.code).1 = Some(name.into());
        self
    }

    /// Reads the configuration and prepares the limits; `None` if they are switched off.
    fn ignite(&self, rocket: &Rocket<Build>) -> Result<Option<ReadyLimits>, Error> {
        let (code, environment) = lock(&self.code).clone();
        let env = |name: &str| match (&environment, name) {
            (Some(word), "APP_ENV") => Some(word.clone()),
            _ => process_env(name),
        };
        let cwd = std::env::current_dir().map_err(|error| {
            Error::config(format!("the current folder cannot be read: {error}"))
        })?;
        // The job queue reads the connection itself, since its builder may complete it.
        let needed = [Section::Default, Section::RateLimit, Section::JobQueue];
        let mut config = Config::load_sections(&needed, rocket.figment(), &code, &env, &cwd)?;
        if rocket.state::<JobQueue>().is_none() {
            // With a job queue, its fairing logs the other warnings.
            let ours = |warning: &&String| warning.contains("rate_limit");
            config.warnings.iter().filter(ours).for_each(|warning| crate::log::warn!("{warning}"));
        }
        if let Some(queue) = rocket.state::<JobQueue>() {
            // What the queue's builder has set is known to the queue alone.
            if config.rate_limit.trusted_proxies == config.jobqueue.trusted_proxies {
                config.rate_limit.trusted_proxies.clone_from(&queue.config().trusted_proxies);
            }
            config.jobqueue.base.clone_from(&queue.config().base);
            config.jobqueue.namespace.clone_from(&queue.config().namespace);
        }
        let settings = &config.rate_limit;
        if !settings.enabled {
            return Ok(None);
        }
        let counter = match config.rate_limit_redis() {
            Some(redis) => {
                let namespace = config.jobqueue.namespace.clone();
                Counter::Redis(Box::new(RedisCounter::new(redis.clone(), namespace)?))
            }
            None => Counter::Memory(MemoryCounter::new(Clock::system())),
        };
        let place = match counter {
            Counter::Redis(_) => "in Redis, for all processes together",
            Counter::Memory(_) => "in this process",
        };
        let limits = Limits {
            minute: settings.requests_per_minute,
            hour: Some(settings.requests_per_hour).filter(|limit| *limit > 0),
        };
        let hour = limits.hour.map_or(String::new(), |limit| format!(" and {limit} an hour"));
        crate::log::info!(
            "a client may make {} requests a minute{hour} below {}, counted {place}",
            limits.minute,
            settings.paths.join(", ")
        );
        let exempt = exempt(settings, &config.jobqueue.base);
        Ok(Some(ReadyLimits {
            limiter: Limiter::new(limits, counter),
            paths: settings.paths.iter().map(|path| segments(path)).collect(),
            exempt: exempt.iter().map(|path| segments(path)).collect(),
            exempts_writes: settings.exempt.is_some(),
            proxies: settings.trusted_proxies.clone(),
            mark: format!("too_many_requests={}", crate::chance::uuid().simple()),
        }))
    }
}

/// The exempt paths: the configured ones, or our own pages and probes.
fn exempt(settings: &RateLimitConfig, base: &str) -> Vec<String> {
    let default = || {
        let own = ["health", "metrics", "ui", "docs", "openapi.json"];
        own.iter().map(|name| format!("{base}/{name}")).collect()
    };
    settings.exempt.clone().unwrap_or_else(default)
}

/// The segments of a path, without empty ones.
fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

impl ReadyLimits {
    /// Whether a request for this path is counted. Decoded segments are compared, as Rocket
    /// compares them with routes, so no spelling of a path evades the limit. On the job queue's
    /// own paths only reading is exempt, because forms are sent to pages.
    fn covers(&self, method: Method, uri: &Origin<'_>) -> bool {
        let path: Vec<&str> = uri.path().segments().collect();
        let below = |prefix: &Vec<String>| {
            path.len() >= prefix.len() && prefix.iter().zip(&path).all(|(a, b)| a == b)
        };
        let may_be_exempt = self.exempts_writes || matches!(method, Method::Get | Method::Head);
        self.paths.iter().any(below) && !(may_be_exempt && self.exempt.iter().any(below))
    }

    /// The URI with the parameter of refused requests, or the root with it if Rocket cannot parse
    /// the URI.
    fn marked(&self, uri: &Origin<'_>) -> Origin<'static> {
        let query = uri.query().map_or(String::new(), |query| format!("{query}&"));
        let marked = Origin::parse_owned(format!("{}?{query}{}", uri.path(), self.mark));
        let bare = || Origin::parse_owned(format!("/?{}", self.mark));
        marked.or_else(|_| bare()).expect("a root with a plain parameter is a URI")
    }

    /// The name under which a client is counted.
    fn client(&self, request: &Request<'_>) -> String {
        // Connections of a local socket have no address; they count as one client.
        let Some(peer) = request.remote() else { return "local".to_owned() };
        proxy::client_name(proxy::client(peer.ip(), request.headers(), &self.proxies))
    }
}

/// Managed once a rate limit is attached.
struct Attached;

/// The count of a request, for its response.
struct RequestCount(Option<CountedRequest>);

/// The count of a request, if it was counted.
fn seen<'r>(request: &'r Request<'_>) -> Option<&'r CountedRequest> {
    request.local_cache(|| RequestCount(None)).0.as_ref()
}

#[rocket::async_trait]
impl Fairing for RateLimitFairing {
    fn info(&self) -> Info {
        Info {
            name: "Rate limit",
            // Not a singleton, of which Rocket would drop all but the last without a word.
            kind: Kind::Ignite | Kind::Request | Kind::Response,
        }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> fairing::Result {
        let made = match rocket.state::<Attached>() {
            None => self.ignite(&rocket),
            Some(Attached) => Err(Error::config(
                "two `RateLimit::fairing()` are attached: attach one, and give it the settings of \
                 both",
            )),
        };
        match made {
            Ok(None) => Ok(rocket.manage(Attached)),
            Ok(Some(ready)) => {
                let path = format!("/<_..>?{}", ready.mark);
                let routes =
                    ALL_METHODS.map(|method| Route::ranked(FIRST_RANK, method, &path, Refuse));
                // Ignited once; Rocket keeps no fairing for a second time.
                let _ = self.ready.set(ready);
                Ok(rocket.manage(Attached).mount("/", routes))
            }
            Err(error) => Err(refuse(rocket, "the rate limit", &error)),
        }
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        let Some(ready) = self.ready.get() else { return };
        if is_preflight(request) || !ready.covers(request.method(), request.uri()) {
            return;
        }
        let client = ready.client(request);
        let counted = ready.limiter.count(&client).await;
        request.local_cache(|| RequestCount(Some(counted)));
        if !counted.passes {
            request.set_uri(ready.marked(request.uri()));
        }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        if self.ready.get().is_some()
            && let Some(counted) = seen(request)
        {
            tell(counted, response);
        }
    }
}

/// Answers refused requests.
#[derive(Clone)]
struct Refuse;

#[rocket::async_trait]
impl Handler for Refuse {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let Some(counted) = seen(request).filter(|counted| !counted.passes) else {
            return Outcome::Forward((data, Status::NotFound));
        };
        let wait = whole_seconds(counted.wait()).max(1);
        let problem = ProblemDetails::new(
            Status::TooManyRequests,
            format!("too many requests: retry in {wait} s"),
        )
        .with("code", 429)
        .with("message", "Too Many Requests");
        match problem.respond_to(request) {
            Ok(mut response) => {
                response.set_header(Header::new("Retry-After", wait.to_string()));
                Outcome::Success(response)
            }
            Err(status) => Outcome::Error(status),
        }
    }
}

/// Rounds up, so that a client that waits this long is not refused again.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The headers: the common ones, and the ones of the IETF draft.
fn tell(counted: &CountedRequest, response: &mut Response<'_>) {
    let now = Clock::system().now();
    let mut set = |name: String, value: String| response.set_header(Header::new(name, value));
    let (mut policy, mut standing) = (Vec::new(), Vec::new());
    let windows =
        [("minute", "", MINUTE, Some(counted.minute)), ("hour", "Hour-", HOUR, counted.hour)];
    for (name, infix, length, window) in windows {
        let Some(Window { limit, remaining, ends_in }) = window else { continue };
        let reset = (now + ends_in).as_secs_ceil();
        set(format!("X-RateLimit-{infix}Limit"), limit.to_string());
        set(format!("X-RateLimit-{infix}Remaining"), remaining.to_string());
        set(format!("X-RateLimit-{infix}Reset"), reset.to_string());
        policy.push(format!("\"{name}\";q={limit};w={}", length.as_secs()));
        standing.push(format!("\"{name}\";r={remaining};t={}", whole_seconds(ends_in)));
    }
    set("RateLimit-Policy".to_owned(), policy.join(", "));
    set("RateLimit".to_owned(), standing.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_a_path_evades_the_limit() {
        let settings = RateLimitConfig::default();
        let exempt = exempt(&settings, "/api/dm-jobqueue");
        let ready = ReadyLimits {
            limiter: Limiter::new(
                Limits { minute: 1, hour: None },
                Counter::Memory(MemoryCounter::new(Clock::system())),
            ),
            paths: settings.paths.iter().map(|path| segments(path)).collect(),
            exempt: exempt.iter().map(|path| segments(path)).collect(),
            exempts_writes: false,
            proxies: Vec::new(),
            mark: String::new(),
        };
        let covers_by = |method, path: &str| {
            ready.covers(method, &Origin::parse_owned(path.to_owned()).unwrap())
        };
        let covers = |path: &str| covers_by(Method::Get, path);
        for path in [
            "/api",
            "/api/",
            "/api/x?q",
            "//api//x",
            "/%61pi/x",
            "/api/dm-jobqueue/register",
            "/api/dm-jobqueue/healthy",
            "/api/dm-jobqueue/openapi.jsonx",
        ] {
            assert!(covers(path), "{path}");
        }
        for path in [
            "/",
            "/apis",
            "/other/api",
            "/api/dm-jobqueue/health/live",
            "/api/dm-jobqueue/ui",
            "/api/dm-jobqueue/ui/style.css",
            "/api/dm-jobqueue/docs/",
        ] {
            assert!(!covers(path), "{path}");
            assert!(!covers_by(Method::Head, path), "{path}");
        }
        for method in [Method::Post, Method::Put, Method::Patch, Method::Delete] {
            for path in ["/ui/register", "/%75i/register", "/health", "/docs/x", "/metrics"] {
                let path = format!("/api/dm-jobqueue{path}");
                assert!(covers_by(method, &path), "{method} {path}");
            }
        }
    }
}
