//! `GET {base}/health`: whether this process and its worker are alive, and whether its store
//! answers. The routes report what is known already, so a probe never waits for Redis.
//!
//! Use `live` for a restart and `ready` for routing: a process whose Redis is away is live but not
//! ready, and restarting it would not help. Both are public, and by default
//! exempt from the rate limit.
//!
//! What may surprise. `health` itself answers 200 while Redis is away, and says `ready: false`
//! in its body: it is for people and dashboards. A load balancer that looks at the status has
//! to use `ready`.

use rocket::http::{Accept, Header, Status};
use rocket::response::{self, Responder, Response};
use rocket::serde::json::Json;
use rocket::{Request, get};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::Serialize;

use crate::web::JobQueue;
use crate::web::error::{ProblemDetails, UNAVAILABLE};

/// The health of this process.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueHealth"))]
pub(crate) struct Health {
    /// The process answers, and its worker, if it has one, is not stuck.
    live: bool,
    /// The store has answered within the last 3 seconds and does not evict jobs.
    ready: bool,
    /// Why it is not ready although the store answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Health {
    /// Reads what the runtime knows. Only a store that has never answered is asked, for 200 ms.
    async fn of(queue: &JobQueue) -> Self {
        let live = !queue.runtime().is_stuck();
        let ready = queue.ready().await && live;
        let reason = match live {
            true => queue.runtime().objection().filter(|_| !ready),
            false => Some(STUCK.to_owned()),
        };
        Self { live, ready, reason }
    }
}

/// Health as 200: JSON, or `OK` if the client prefers plain text.
pub(crate) struct Healthy(Health);

impl<'r> Responder<'r, 'static> for Healthy {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let response = match prefers_text(request) {
            true => "OK".respond_to(request)?,
            false => Json(self.0).respond_to(request)?,
        };
        unstored(response)
    }
}

/// The detail for a process that answers but is not live.
const STUCK: &str = "the worker is stuck: no progress for 30 s";

/// 503: a problem with the members `live` and `ready`. Without a reason, the store does not
/// answer.
pub(crate) struct Unhealthy(Health);

impl<'r> Responder<'r, 'static> for Unhealthy {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let Health { live, reason, .. } = self.0;
        let reason = reason.unwrap_or_else(|| UNAVAILABLE.to_owned());
        let response = match prefers_text(request) {
            true => (Status::ServiceUnavailable, reason).respond_to(request)?,
            false => ProblemDetails::new(Status::ServiceUnavailable, reason)
                .with("live", live)
                .with("ready", false)
                .respond_to(request)?,
        };
        unstored(response)
    }
}

/// Whether the client asks for plain text.
fn prefers_text(request: &Request<'_>) -> bool {
    request.accept().map(Accept::preferred).is_some_and(|best| best.is_plain())
}

/// Forbids caches to keep the response: a probe must see the present.
fn unstored(response: Response<'static>) -> response::Result<'static> {
    let headers = [Header::new("Cache-Control", "no-store"), Header::new("Vary", "Accept")];
    let mut response = response;
    headers.into_iter().for_each(|header| _ = response.set_header(header));
    Ok(response)
}

/// # Health
///
/// Whether the process is live and its store answers. 200 whatever the store does, unless the
/// worker is stuck (503). `OK` for `Accept: text/plain`.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-health", operation_id = "jobqueue-health"))]
#[get("/health")]
pub(crate) async fn health(queue: &JobQueue) -> Result<Healthy, Unhealthy> {
    let health = Health::of(queue).await;
    if health.live { Ok(Healthy(health)) } else { Err(Unhealthy(health)) }
}

/// # Liveness
///
/// 200 whatever the store does; 503 if the worker has been stuck for 30 s, when only a restart
/// helps.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-health", operation_id = "jobqueue-health-live")
)]
#[get("/health/live")]
pub(crate) async fn live(queue: &JobQueue) -> Result<Healthy, Unhealthy> {
    health(queue).await
}

/// # Readiness
///
/// 200 if the store has answered within the last 3 seconds and does not evict jobs, and the
/// worker is not stuck; 503 otherwise.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-health", operation_id = "jobqueue-health-ready")
)]
#[get("/health/ready")]
pub(crate) async fn ready(queue: &JobQueue) -> Result<Healthy, Unhealthy> {
    let health = Health::of(queue).await;
    if health.ready { Ok(Healthy(health)) } else { Err(Unhealthy(health)) }
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<rocket::Route> {
    rocket::routes![health, live, ready]
}

#[cfg(test)]
mod tests {
    use rocket::local::blocking::Client;

    use super::*;

    #[get("/")]
    fn stuck() -> Unhealthy {
        Unhealthy(Health { live: false, ready: false, reason: Some(STUCK.to_owned()) })
    }

    #[test]
    fn a_stuck_worker_is_503_and_says_so() {
        let rocket = rocket::custom(rocket::Config {
            log_level: rocket::log::LogLevel::Off,
            ..rocket::Config::debug_default()
        });
        let client = Client::untracked(rocket.mount("/", rocket::routes![stuck])).unwrap();
        let answer = client.get("/").dispatch();
        assert_eq!(answer.status(), Status::ServiceUnavailable);
        let body: serde_json::Value = serde_json::from_str(&answer.into_string().unwrap()).unwrap();
        assert_eq!((&body["live"], &body["ready"]), (&false.into(), &false.into()));
        assert!(body["detail"].as_str().unwrap().contains("stuck"), "{body}");
    }
}
