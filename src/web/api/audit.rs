//! What operators did by REST and pages: one line in the log, one entry in the store, and a call of the
//! application's own functions.
//!
//! An action is recorded when it was done. Foreign text is cut to one plain line. Payloads are not part
//! of it.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rocket::request::{self, FromRequest, Request};
use rocket::serde::json::Json;
use rocket::{Route, get, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::Serialize;

use crate::broker::AuditEntry;
use crate::inspector::Short;
use crate::web::JobQueue;
use crate::web::api::{JsonResult, Param, page};
use crate::web::guards::{AuditAccess, actor_of};
use crate::web::proxy::client_of;

/// A function of the application that is called after each action of an operator.
pub(crate) type ActionHook = Arc<dyn Fn(&AuditEntry) + Send + Sync>;

/// Who asked for a change, and of which queue.
pub(crate) struct Asked {
    /// As the application's guard names them.
    actor: Option<String>,
    /// The client: the address of the connection, or the one that a trusted proxy names; `local`
    /// without an address.
    from: String,
    queue: Option<JobQueue>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Asked {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Infallible> {
        request::Outcome::Success(Self::of(request))
    }
}

impl Asked {
    /// Who sent this request. The guard has to be asked before.
    pub(crate) fn of(request: &Request<'_>) -> Self {
        let from = client_of(request).map_or_else(|| "local".to_owned(), |ip| ip.to_string());
        let queue = request.rocket().state::<JobQueue>().cloned();
        Self { actor: actor_of(request), from, queue }
    }

    /// Who asks, as the application's guard names them; empty if it does not.
    pub(crate) fn actor(&self) -> &str {
        self.actor.as_deref().unwrap_or_default()
    }
}

/// Records a change: in the log with the target `rocket_jobqueue::audit`, so that a subscriber can keep
/// these lines apart, in the store, and for the functions of the application.
pub(crate) fn audit(asked: &Asked, action: &str, queue: &str, what: &str) {
    let plain = |text: &str| Short(text).to_string();
    let (queue, what) = (plain(queue), plain(what));
    let actor = asked.actor.as_deref().unwrap_or("-");
    crate::log::info!(
        target: "rocket_jobqueue::audit",
        %actor, from = %asked.from, %queue, %what, "{action}"
    );
    let Some(jobs) = &asked.queue else { return };
    jobs.changed();
    let entry = AuditEntry {
        at: jobs.now(),
        actor: asked.actor.clone(),
        from: asked.from.clone(),
        action: plain(action),
        queue,
        what,
    };
    for hook in jobs.action_hooks() {
        // The action is done: a panic of the application must not make it look failed.
        if catch_unwind(AssertUnwindSafe(|| hook(&entry))).is_err() {
            crate::log::error!("on_action panicked");
        }
    }
    jobs.runtime().record_action(entry);
}

/// Some of the last actions.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAuditPage"))]
pub(crate) struct AuditPage {
    /// The newest first.
    entries: Vec<AuditEntry>,
}

/// # List what operators did
///
/// Changes by this interface and by pages, the newest first; at most 1,000 are kept. What the
/// application's own code does is not among them. For administrators only, because it names people.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-store", operation_id = "list-audit"))]
#[get("/audit?<page>&<size>")]
pub(crate) async fn list(
    _access: AuditAccess,
    queue: &JobQueue,
    page: Param<'_>,
    size: Param<'_>,
) -> JsonResult<AuditPage> {
    let (number, size) = (page.given("page")?, size.given("size")?);
    let page = self::page(number, size, None)?;
    Ok(Json(AuditPage { entries: queue.redacted_inspector().audit(&page).await? }))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![list]
}
