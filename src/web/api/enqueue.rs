//! `POST {base}/jobs/{type}`: puts a job of a registered type on the queue. The body is
//! its payload, checked against the type's JSON Schema, where it gives one, and by
//! reading it as its handler will.

use std::collections::HashMap;
use std::time::Duration;

use jsonschema::Validator;
use rocket::{Route, State, post, routes};
#[cfg(feature = "openapi")]
use rocket_okapi::openapi;
use serde::Serialize;
use serde_json::Value;

use crate::broker::JobInfo;
use crate::client::Enqueue;
use crate::error::Error;
use crate::job::{JobId, JobState, QueueName};
use crate::registry::Registry;
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::registration::{MOST_DELAY_SECONDS, MOST_RETRIES};
use crate::web::api::{Asked, Param, RouteScope};
use crate::web::api::{Created, IdempotencyKey, JsonBody, Refused, audit, number};
use crate::web::error::{FieldProblem, ProblemDetails};
use crate::web::guards::ActAccess;

/// Most wrong places named in one answer.
const MOST_FAULTS: usize = 50;

/// What the payloads of job types have to be, for those that say so.
pub(crate) struct Schemas(HashMap<String, Validator>);

impl Schemas {
    /// # Errors
    /// [`Error::is_config`] for a schema that is none.
    pub fn of(registry: &Registry) -> Result<Self, Error> {
        let mut schemas = HashMap::new();
        for entry in registry.entries() {
            let Some(schema) = entry.schema() else { continue };
            let name = entry.job_type();
            let validator = jsonschema::validator_for(schema).map_err(|error| {
                Error::config(format!("job type {name:?}: its schema is none: {error}"))
            })?;
            schemas.insert(name.to_owned(), validator);
        }
        Ok(Self(schemas))
    }

    /// What is wrong with a payload, by its type's schema.
    pub fn check(&self, job_type: &str, payload: &Value) -> Result<(), ProblemDetails> {
        let Some(validator) = self.0.get(job_type) else { return Ok(()) };
        let faults: Vec<FieldProblem> = validator
            .iter_errors(payload)
            .take(MOST_FAULTS)
            .map(|fault| FieldProblem {
                pointer: fault.instance_path().to_string(),
                detail: fault.to_string(),
            })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(ProblemDetails::fields(faults)) }
    }
}

/// What a request says in place of the job type's own options, as it came.
#[derive(Default)]
pub(crate) struct Overrides<'r> {
    pub queue: Option<&'r str>,
    pub delay_seconds: Option<&'r str>,
    pub max_retry: Option<&'r str>,
    pub unique_seconds: Option<&'r str>,
}

impl Overrides<'_> {
    /// What tells a request with these options from one without: a repetition asks for the
    /// same. Empty where all is left as it is, whichever way that is written.
    fn fingerprint(&self) -> String {
        let mut text = String::new();
        for (name, value) in [
            ("queue", self.queue),
            ("delay_seconds", self.delay_seconds),
            ("max_retry", self.max_retry),
            ("unique_seconds", self.unique_seconds),
        ] {
            let plain = match (name, value) {
                ("queue", value) => value.map(str::to_owned),
                (_, value) => {
                    let number = value.and_then(|text| text.parse::<u64>().ok());
                    number.filter(|number| *number > 0).map(|number| number.to_string())
                }
            };
            if let Some(value) = plain {
                // Names of queues hold none of these characters, and JSON ends before them.
                text.push_str(&format!("\n?{name}={value}"));
            }
        }
        text
    }

    /// The job with these options; absent, empty and 0 leave what it has.
    pub fn over(&self, mut draft: Enqueue) -> Result<Enqueue, Refused> {
        let above_zero = |name, text, most| {
            Ok::<_, Refused>(number(name, text, 0, most)?.filter(|number| *number > 0))
        };
        if let Some(name) = self.queue.filter(|name| !name.is_empty()) {
            draft = draft.queue(name.to_owned());
        }
        if let Some(seconds) = above_zero("delay_seconds", self.delay_seconds, MOST_DELAY_SECONDS)?
        {
            draft = draft.delay(Duration::from_secs(seconds));
        }
        if let Some(retries) = above_zero("max_retry", self.max_retry, MOST_RETRIES)? {
            draft = draft.max_retry(u32::try_from(retries).unwrap_or(u32::MAX));
        }
        if let Some(lock) = above_zero("unique_seconds", self.unique_seconds, MOST_DELAY_SECONDS)? {
            draft = draft.unique_for(Duration::from_secs(lock));
        }
        Ok(draft)
    }
}

/// A job that was enqueued.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueEnqueued"))]
pub(crate) struct Enqueued {
    /// Its id.
    job_id: JobId,
    /// Its queue.
    queue: QueueName,
    /// `pending`, or `scheduled` where it is due later. For a repeated request, the state of
    /// the first job as it stands now; missing where that has ended and left nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "JobState", default))]
    state: Option<JobState>,
    /// When it is due, or has been since it waits; missing where it has begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "Timestamp", default))]
    due: Option<Timestamp>,
    /// Whether the same request was answered before, and this is that job's id.
    replayed: bool,
}

/// # Enqueue a job
///
/// The body is the payload. `queue`, `delay_seconds`, `max_retry` and `unique_seconds` (no
/// other job of this type and payload in the queue for so long) take the place of what the
/// job type says; 0 and absent leave it.
#[cfg_attr(
    feature = "openapi",
    openapi(tag = "jobqueue-enqueue", operation_id = "enqueue-job", ignore = "schemas")
)]
#[post("/jobs/<type>?<queue>&<delay_seconds>&<max_retry>&<unique_seconds>", data = "<body>")]
#[expect(clippy::too_many_arguments, reason = "a query's parameters are a route's arguments")]
pub(crate) async fn enqueue(
    _access: ActAccess,
    asked: Asked,
    jobs: &JobQueue,
    schemas: &State<Schemas>,
    scope: RouteScope,
    key: IdempotencyKey<'_>,
    r#type: &str,
    queue: Param<'_>,
    delay_seconds: Param<'_>,
    max_retry: Param<'_>,
    unique_seconds: Param<'_>,
    body: JsonBody<Value>,
) -> Result<Created<Enqueued>, Refused> {
    let options = Overrides {
        queue: queue.once("queue")?,
        delay_seconds: delay_seconds.once("delay_seconds")?,
        max_retry: max_retry.once("max_retry")?,
        unique_seconds: unique_seconds.once("unique_seconds")?,
    };
    let body = body.read?;
    let entry = jobs.runtime().registry().get(r#type).ok_or_else(|| {
        Error::not_found(format!("no handler here takes jobs of type {:?}", r#type))
    })?;
    schemas.check(r#type, &body.value)?;
    entry.check(&body.bytes)?;
    let asked_for = [&*body.bytes, options.fingerprint().as_bytes()].concat();
    let guard = key.guard(&scope.0.replace("<type>", r#type), &asked_for)?;
    let draft = jobs.enqueue_raw(r#type, Some(body.bytes)).options(entry.options.clone());
    let mut draft = options.over(draft)?;
    if let Some(guard) = guard {
        draft = draft.idempotency(guard.across_queues());
    }
    let receipt = draft.await?;
    if receipt.replayed {
        let found = jobs.inspect().job(&receipt.queue, &receipt.id).await?;
        return Ok(Created(Enqueued::before(receipt.queue, receipt.id, found.as_ref())));
    }
    audit(&asked, "job enqueued", &receipt.queue.printable(), receipt.id.as_str());
    Ok(Created(Enqueued {
        job_id: receipt.id,
        queue: receipt.queue,
        state: Some(receipt.state),
        due: Some(receipt.due),
        replayed: false,
    }))
}

impl Enqueued {
    /// A job that the same request has enqueued before, as it stands now.
    fn before(queue: QueueName, job_id: JobId, found: Option<&JobInfo>) -> Self {
        Self {
            job_id,
            queue,
            state: found.map(|info| info.state),
            due: found.and_then(|info| info.due.or(info.pending_since)),
            replayed: true,
        }
    }
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![enqueue]
}
