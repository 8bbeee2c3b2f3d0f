//! `POST {base}/register`: the reference route, which enqueues the reference job. `registration`
//! checks the request.
//!
//! The route is public by default, so it is bounded: at most `jobqueue.register_max_waiting` jobs may
//! wait in its queue, for all processes together (429 beyond). Pages of other
//! sites cannot call it from a visitor's browser.

use rocket::post;
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::Serialize;

use crate::demo::DelayPrint;
use crate::job::{Idempotency, JobId};
use crate::web::JobQueue;
use crate::web::api::registration::Registration;
use crate::web::api::{Caller, Created, IdempotencyKey, JsonBody, RouteScope, expect_fields_once};
use crate::web::error::ProblemDetails;
use crate::web::guards::RegisterAccess;

/// The response to a registration.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueRegistered"))]
pub(crate) struct Registered {
    /// The job's id.
    job_id: String,
    /// Always `registered`.
    status: &'static str,
}

/// Why a job was not registered.
#[derive(Debug)]
pub(crate) struct NotRegistered(pub ProblemDetails);

impl From<ProblemDetails> for NotRegistered {
    fn from(problem: ProblemDetails) -> Self {
        Self(problem)
    }
}

impl<'r> rocket::response::Responder<'r, 'static> for NotRegistered {
    fn respond_to(self, request: &'r rocket::Request<'_>) -> rocket::response::Result<'static> {
        self.0.respond_to(request)
    }
}

/// # ジョブを登録（参考コード）
///
/// **参考コード** / **Reference route**: registers one `demo:delay_print` job, which prints its
/// message after a delay. All fields are optional; absent, null and 0 mean the default.
/// A repeated request with the same `Idempotency-Key` is answered with the first job's id.
/// Applications have routes of their own; turn this one off in production with
/// `jobqueue.register_route = false`.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-demo", operation_id = "register-demo-job"))]
#[post("/register", data = "<body>")]
pub(crate) async fn register(
    _access: RegisterAccess,
    queue: &JobQueue,
    scope: RouteScope,
    caller: Caller,
    key: IdempotencyKey<'_>,
    body: JsonBody<Registration>,
) -> Result<Created<Registered>, NotRegistered> {
    let body = body.read?;
    expect_fields_once(&body.bytes)?;
    let registration = Registration::from_json(&body.value)?;
    // Different callers may choose the same key, so each has a scope of its own.
    let scope = format!("{}\n{}", scope.0, caller.0);
    let repeat_guard = key.guard(&scope, &body.bytes)?;
    let (id, _) = enqueue(queue, registration, repeat_guard).await?;
    Ok(Created(Registered { job_id: id.to_string(), status: "registered" }))
}

/// Enqueues the reference job. Returns its id, and whether the same request has enqueued it
/// before.
pub(crate) async fn enqueue(
    queue: &JobQueue,
    registration: Registration,
    repeat_guard: Option<Idempotency>,
) -> Result<(JobId, bool), ProblemDetails> {
    let (delay, retries) = (registration.delay(), registration.max_retry);
    let mut enqueue = queue
        .enqueue(DelayPrint { message: registration.message })
        .max_waiting(queue.config().register_max_waiting);
    if let Some(delay) = delay {
        enqueue = enqueue.delay(delay);
    }
    if let Some(retries) = retries {
        enqueue = enqueue.max_retry(retries);
    }
    if let Some(repeat_guard) = repeat_guard {
        enqueue = enqueue.idempotency(repeat_guard);
    }
    let receipt = enqueue.await?;
    Ok((receipt.id, receipt.replayed))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<rocket::Route> {
    rocket::routes![register]
}
