//! A store as commands see it: the same questions and actions, whether it is reached directly or
//! through an application's REST interface.
//!
//! Answers are the JSON of REST, from both: what `--json` prints is therefore the same too, and the
//! OpenAPI document describes it.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::failure::{Exit, Failure, Outcome};

/// What is done to one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Run,
    Archive,
    Delete,
}

impl Verb {
    /// As in sentences and in REST.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Run => "run",
            Verb::Archive => "archive",
            Verb::Delete => "delete",
        }
    }

    pub fn done(self) -> &'static str {
        match self {
            Verb::Run => "made pending",
            Verb::Archive => "archived",
            Verb::Delete => "deleted",
        }
    }

    /// Whether it applies to a job in this state.
    pub fn permits(self, state: &str) -> bool {
        let refused: &[&str] = match self {
            Verb::Run => &["active", "pending"],
            Verb::Archive => &["active", "archived"],
            Verb::Delete => &["active"],
        };
        !refused.contains(&state)
    }
}

/// What becomes of a job whose attempt is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Then {
    /// It is retried; the attempt counts as failed.
    Retry,
    /// It is archived.
    Archive,
    /// It is deleted.
    Delete,
}

impl Then {
    pub fn name(self) -> &'static str {
        match self {
            Then::Retry => "retry",
            Then::Archive => "archive",
            Then::Delete => "delete",
        }
    }
}

/// A job to enqueue.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewJob {
    pub job_type: String,
    pub payload: Vec<u8>,
    pub queue: Option<String>,
    pub delay: Option<Duration>,
    pub max_retry: Option<u32>,
    pub expires: Option<Duration>,
    pub unique: Option<Duration>,
}

/// What worker processes are to change. What is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerChange {
    pub quiet: Option<bool>,
    /// Slots; `None` within as configured.
    pub concurrency: Option<Option<u32>>,
    pub weights: Vec<(String, Option<u32>)>,
    pub lasting: Option<Duration>,
}

/// A queue and an id, in their printable forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobPlace {
    pub queue: String,
    pub id: String,
}

/// A store. Names and ids are in their printable form.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Where it is, without credentials.
    fn describe(&self) -> String;

    /// `{"queues": […]}`: all queues by name, each with its `info` or its `problem`.
    async fn queues(&self) -> Outcome<Value>;
    /// The sizes and counters of one queue.
    async fn queue(&self, queue: &str) -> Outcome<Value>;
    /// `{"days": […]}`, today first.
    async fn history(&self, queue: &str, days: u32) -> Outcome<Value>;
    /// `{"minutes": […]}`, the oldest first.
    async fn minutes(&self, queue: &str) -> Outcome<Value>;
    /// The approximate bytes of a queue.
    async fn memory(&self, queue: &str) -> Outcome<Value>;
    /// A page of groups.
    async fn groups(&self, queue: &str, cursor: Option<&str>) -> Outcome<Value>;
    /// Pauses or resumes a queue.
    async fn pause(&self, queue: &str, pause: bool) -> Outcome;
    async fn delete_queue(&self, queue: &str, force: bool) -> Outcome;

    /// A page of the jobs that match a query: `{"rows", "next", "unreadable"}`.
    async fn search(&self, query: &str, size: u32, cursor: Option<&str>) -> Outcome<Value>;
    /// A page of the jobs of a group: `{"rows", "total", "next"}`.
    async fn group_jobs(
        &self,
        queue: &str,
        group: &str,
        size: u32,
        cursor: Option<&str>,
    ) -> Outcome<Value>;
    /// All jobs with this id, in any queue.
    async fn find(&self, id: &str) -> Outcome<Vec<Value>>;
    /// One job.
    async fn job(&self, place: &JobPlace) -> Outcome<Value>;
    /// Why it is not running.
    async fn explain(&self, place: &JobPlace) -> Outcome<Value>;
    async fn act(&self, place: &JobPlace, verb: Verb) -> Outcome;
    /// Whether it was `requested` from the worker, or `done` since the job was not active.
    async fn cancel(&self, place: &JobPlace, then: Then) -> Outcome<String>;
    async fn edit(&self, place: &JobPlace, payload: &[u8]) -> Outcome;
    /// The receipt: `{"job_id", "queue", …}`.
    async fn enqueue(&self, job: &NewJob) -> Outcome<Value>;

    /// `{"periodic": […]}`.
    async fn periodic(&self) -> Outcome<Value>;
    /// `{"runs": […]}`, the newest first.
    async fn runs(&self, periodic: &str, size: u32) -> Outcome<Value>;
    /// The id of the job.
    async fn run_periodic(&self, periodic: &str) -> Outcome<String>;

    /// `{"servers": […], "unreadable"}`: the worker processes.
    async fn servers(&self) -> Outcome<Value>;
    /// Asks one process, or all, to change; how many were asked.
    async fn change_workers(&self, id: Option<&str>, update: &WorkerChange) -> Outcome<u64>;
    /// The servers of the store.
    async fn info(&self) -> Outcome<Value>;
    /// What needs attention: `{"at", "alerts": […], "counts", "unchecked", …}`.
    async fn alerts(&self) -> Outcome<Value>;
    /// The doctor's report.
    async fn doctor(&self, repair: bool) -> Outcome<Value>;
}

/// The place of the one job with this id, in this queue or in any.
///
/// # Errors
/// There is none, or there are several.
pub(crate) async fn place(store: &dyn Store, queue: Option<&str>, id: &str) -> Outcome<JobPlace> {
    if let Some(queue) = queue {
        return Ok(JobPlace { queue: queue.to_owned(), id: id.to_owned() });
    }
    let found = store.find(id).await?;
    let places: Vec<JobPlace> = found
        .iter()
        .map(|job| JobPlace {
            queue: text(&job["queue"]).to_owned(),
            id: text(&job["id"]).to_owned(),
        })
        .collect();
    match &places[..] {
        [] => Err(Failure::new(Exit::NotFound, format!("no queue has a job {id:?}"))),
        [place] => Ok(place.clone()),
        several => {
            let queues: Vec<&str> = several.iter().map(|place| place.queue.as_str()).collect();
            let queues = queues.join(", ");
            Err(Failure::usage(format!(
                "job {id:?}: expected it in one queue, found it in {queues}; name one with --queue"
            )))
        }
    }
}

/// The text of a JSON value; empty for another kind.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The number of a JSON value; 0 for another kind.
pub(crate) fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// The elements of a JSON array; none for another kind.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
