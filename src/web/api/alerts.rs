//! What needs attention, by the rules of `jobqueue.alerts`.
//!
//! The overview, this route and the metrics show the same list, which one look at the store makes
//! for all of them.

use std::collections::BTreeMap;

use rocket::http::RawStr;
use rocket::serde::json::Json;
use rocket::{Route, get, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::Serialize;

use crate::inspector::{Alert, AlertRule, Alerts, Found};
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::JsonResult;
use crate::web::guards::ViewAccess;

/// The alerts.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAlertList"))]
pub(crate) struct AlertList {
    /// When the store was read.
    at: Timestamp,
    /// The alerts, by rule; at most 100 of a rule.
    alerts: Vec<LinkedAlert>,
    /// How many alerts each checked rule has, also those that are not listed. A rule that is
    /// switched off, or that could not be checked, is missing.
    counts: BTreeMap<&'static str, u64>,
    /// Rules that could not be checked, because a part of the store did not answer.
    unchecked: Vec<AlertRule>,
    /// How many queues were checked.
    queues_checked: u64,
    /// Whether there are more queues, which were not checked.
    more_queues: bool,
}

/// An alert and its page.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueLinkedAlert"))]
struct LinkedAlert {
    #[serde(flatten)]
    alert: Alert,
    /// The path of the page that shows it; null without the dashboard.
    page: Option<String>,
}

impl AlertList {
    fn of(queue: &JobQueue, alerts: &Alerts) -> Self {
        let linked = |alert: &Alert| LinkedAlert {
            page: cfg!(feature = "dashboard").then(|| queue.linked(&page_of(alert))),
            alert: alert.clone(),
        };
        Self {
            at: alerts.at,
            alerts: alerts.alerts.iter().map(linked).collect(),
            counts: alerts.counts.clone(),
            unchecked: alerts.unchecked.clone(),
            queues_checked: alerts.queues_checked,
            more_queues: alerts.more_queues,
        }
    }
}

/// The path of the page that shows an alert, below the base.
pub(crate) fn page_of(alert: &Alert) -> String {
    let escaped = |text: &str| RawStr::new(text).percent_encode().to_string();
    let of_queue = |queue: &QueueName| format!("/ui/queues/{}", escaped(&queue.printable()));
    let list = |state: JobState| match &alert.queue {
        Some(queue) => format!("{}?state={}", of_queue(queue), state.as_str()),
        None => "/ui".to_owned(),
    };
    match (alert.rule, &alert.queue, &alert.found) {
        (AlertRule::FailureRate, ..) => "/ui/failures".to_owned(),
        (AlertRule::ArchivedGrowing, ..) => list(JobState::Archived),
        (AlertRule::QueuePaused | AlertRule::NoWorker | AlertRule::OldestPending, ..) => {
            list(JobState::Pending)
        }
        (AlertRule::JobRunning, Some(queue), Found::Running { jobs: 1, oldest, .. }) => {
            let (queue, id) = (escaped(&queue.printable()), escaped(oldest.as_str()));
            format!("/ui/jobs/{queue}/{id}")
        }
        (AlertRule::JobRunning, ..) => list(JobState::Active),
        (AlertRule::PeriodicMissed, ..) => "/ui/periodic".to_owned(),
        (AlertRule::WorkersFull, ..) => "/ui/servers".to_owned(),
        (AlertRule::StoreEvicting | AlertRule::StoreMemory | AlertRule::StoreSettings, ..) => {
            "/ui/store".to_owned()
        }
        (AlertRule::LimitFull | AlertRule::QueueUnreadable, Some(queue), _) => of_queue(queue),
        (AlertRule::LimitFull, None, _) => "/ui".to_owned(),
        (AlertRule::QueueUnreadable, None, _) => "/ui/doctor".to_owned(),
    }
}

/// # List alerts
///
/// What needs attention, by the rules of `jobqueue.alerts`: each with what was found, the
/// threshold, and since when. `since_is` is `seen` if the store does not know when it began, and this
/// process saw it then for the first time. At most 1,000 queues are checked. An empty list with rules in `unchecked` does
/// not mean that all is well.
#[cfg_attr(feature = "openapi", openapi(tag = "jobqueue-store", operation_id = "list-alerts"))]
#[get("/alerts")]
pub(crate) async fn list(_access: ViewAccess, queue: &JobQueue) -> JsonResult<AlertList> {
    Ok(Json(AlertList::of(queue, &*queue.shared_alerts().await?)))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![list]
}
