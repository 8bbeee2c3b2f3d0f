//! The demo's own job types: one that uses managed state, one that fails before it succeeds, and
//! one that takes long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rocket_jobqueue::{Job, JobContext, JobError, JobOptions, Managed};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Managed state of the application that a handler uses.
#[derive(Clone, Default)]
pub struct Visits(Arc<AtomicU64>);

impl Visits {
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts a visit.
#[derive(Serialize, Deserialize)]
pub struct CountVisit {
    pub visitor: String,
}

impl Job for CountVisit {
    const TYPE: &'static str = "shop:count_visit";

    fn options() -> JobOptions {
        JobOptions::new().timeout(Duration::from_secs(10)).retention(Duration::from_secs(600))
    }

    fn schema() -> Option<Value> {
        Some(json!({
            "type": "object",
            "required": ["visitor"],
            "properties": { "visitor": { "type": "string", "description": "Who came." } }
        }))
    }
}

pub async fn count_visit(job: CountVisit, visits: Managed<Visits>) -> Result<String, JobError> {
    if job.visitor.trim().is_empty() {
        return Err(JobError::give_up("a visitor needs a name"));
    }
    let total = visits.0.fetch_add(1, Ordering::Relaxed) + 1;
    Ok(format!("{} is visitor {total}", job.visitor))
}

/// Sends an order to a shop that is closed at first.
#[derive(Serialize, Deserialize)]
pub struct SendOrder {
    pub order: u64,
    /// The number of attempts that find the shop closed.
    pub closed_for: u32,
}

impl Job for SendOrder {
    const TYPE: &'static str = "shop:send_order";

    fn options() -> JobOptions {
        JobOptions::new().max_retry(3)
    }

    fn schema() -> Option<Value> {
        let number = |most: u64, what| json!({ "type": "integer", "minimum": 0, "maximum": most, "description": what });
        Some(json!({
            "type": "object",
            "required": ["order", "closed_for"],
            "properties": {
                "order": number(1 << 53, "The order."),
                "closed_for": number(1000, "How many attempts find the shop closed.")
            }
        }))
    }
}

pub async fn send_order(job: SendOrder, context: JobContext) -> Result<(), JobError> {
    if context.attempt() <= job.closed_for {
        let error = format!("order {}: the shop is closed", job.order);
        return Err(JobError::retry_in(Duration::from_secs(1), error));
    }
    Ok(())
}

/// Takes a while: a job to watch, to cancel and to kill.
#[derive(Serialize, Deserialize)]
pub struct Nap {
    pub seconds: u64,
}

impl Job for Nap {
    const TYPE: &'static str = "shop:nap";

    fn schema() -> Option<Value> {
        let seconds = json!({ "type": "integer", "minimum": 0, "maximum": 3600 });
        Some(json!({
            "type": "object", "required": ["seconds"], "properties": { "seconds": seconds }
        }))
    }
}

pub async fn nap(job: Nap) -> Result<(), JobError> {
    crate::say_aside(format!("nap begins: {} s", job.seconds));
    rocket::tokio::time::sleep(Duration::from_secs(job.seconds)).await;
    crate::say_aside("nap over".to_owned());
    Ok(())
}
