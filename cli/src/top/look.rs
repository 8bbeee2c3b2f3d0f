//! One look at the store: everything that a screen shows, of about one instant.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::failure::{Exit, Outcome};
use crate::store::{JobPlace, Store, list};

/// Jobs that a list shows.
const MAX_JOBS: u32 = 100;

/// What the screen shows beside the queues and the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The jobs that match this query.
    pub query: Option<String>,
    /// This job, with its explanation.
    pub job: Option<(String, String)>,
    /// What needs attention.
    pub alerts: bool,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Look {
    /// When it began: no figure is older.
    pub at: DateTime<Utc>,
    pub began: Instant,
    pub queues: Vec<Value>,
    pub servers: Vec<Value>,
    /// The jobs of this query, and whether there are more.
    pub jobs: Option<Jobs>,
    pub job: Option<(Value, Option<String>)>,
    /// What needs attention, as it was answered; or why it is not known.
    pub alerts: Option<Result<Value, String>>,
}

#[derive(Debug)]
pub(crate) struct Jobs {
    pub query: String,
    /// Or why there are none: a query may be wrong.
    pub rows: Result<Vec<Value>, String>,
    pub more: bool,
}

/// # Errors
/// The store does not answer.
pub(crate) async fn look(store: &Arc<dyn Store>, wanted: &Wanted) -> Outcome<Look> {
    let (at, began) = (Utc::now(), Instant::now());
    let queues = list(&store.queues().await?["queues"]).to_vec();
    let servers = list(&store.servers().await?["servers"]).to_vec();
    let jobs = match &wanted.query {
        Some(query) => Some(search(store, query).await?),
        None => None,
    };
    let job = match &wanted.job {
        Some((queue, id)) => {
            let place = JobPlace { queue: queue.clone(), id: id.clone() };
            one(store, &place).await?
        }
        None => None,
    };
    let alerts = match wanted.alerts {
        true => Some(attention(store).await?),
        false => None,
    };
    Ok(Look { at, began, queues, servers, jobs, job, alerts })
}

/// The first jobs of a query. A wrong query is shown, not an outage.
async fn search(store: &Arc<dyn Store>, query: &str) -> Outcome<Jobs> {
    let found = store.search(query, MAX_JOBS, None).await;
    let (rows, more) = match found {
        Ok(page) => (Ok(list(&page["rows"]).to_vec()), !page["next"].is_null()),
        Err(failure) if failure.exit == Exit::Unreachable => return Err(failure),
        Err(failure) => (Err(failure.message), false),
    };
    Ok(Jobs { query: query.to_owned(), rows, more })
}

/// One job and why it is not running; nothing once it is gone.
async fn one(store: &Arc<dyn Store>, place: &JobPlace) -> Outcome<Option<(Value, Option<String>)>> {
    match store.job(place).await {
        Ok(job) => {
            let why = store.explain(place).await.ok();
            Ok(Some((job, why.and_then(|why| why["sentence"].as_str().map(str::to_owned)))))
        }
        Err(failure) if failure.exit == Exit::NotFound => Ok(None),
        Err(failure) if failure.exit == Exit::Unreachable => Err(failure),
        // A damaged job is shown as such, and is no outage.
        Err(failure) => {
            let job = json!({ "queue": place.queue, "id": place.id, "state": "unreadable" });
            Ok(Some((job, Some(failure.message))))
        }
    }
}

/// What needs attention; or why that is not known, as of an application that has no such list.
async fn attention(store: &Arc<dyn Store>) -> Outcome<Result<Value, String>> {
    match store.alerts().await {
        Ok(found) => Ok(Ok(found)),
        Err(failure) if failure.exit == Exit::Unreachable => Err(failure),
        Err(failure) => Ok(Err(failure.message)),
    }
}
