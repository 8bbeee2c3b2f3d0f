//! The parameters of paths and queries. rocket_okapi knows only that each is text, because the
//! routes read it themselves to say what is wrong with it.
//!
//! A parameter is identified by its name: the same name means the same in every operation, except
//! for `type` and `size`. A parameter without an entry here stays plain text in the document.
//!
//! The bounds repeat those that the routes check; a generated client may check them before it sends
//! a request. Absent is always allowed in a query, except for `id`.

use rocket_okapi::okapi::openapi3::{Operation, Parameter, ParameterValue, RefOr};
use serde_json::{Value, json};

use crate::job::JobState;

/// A year in seconds: the longest delay and the longest unique lock.
const SECONDS_PER_YEAR: u32 = 31_536_000;

/// Gives each parameter of an operation its description and its schema. A description from the
/// route's own comment stays.
pub(super) fn describe(operation: &mut Operation) {
    let of_queues = operation.operation_id.as_deref() == Some("list-queues");
    let of_keys = operation.operation_id.as_deref() == Some("get-limit");
    for parameter in &mut operation.parameters {
        let RefOr::Object(Parameter { name, location, description, value, required, .. }) =
            parameter
        else {
            continue;
        };
        let ParameterValue::Schema { schema, .. } = value else { continue };
        let in_path = location == "path";
        let known = match name.as_str() {
            "size" if of_queues => Some(("Maximum queues. Default 1000.", whole(1, 1000))),
            "size" if of_keys => Some(("Maximum keys. Default 100.", whole(1, 1000))),
            "type" if in_path => Some(("The job type.", text_of_any_length())),
            name => described(name),
        };
        let Some((what, shape)) = known else { continue };
        description.get_or_insert_with(|| what.to_owned());
        // A job cannot be found without an id.
        *required |= name == "id";
        if let Ok(shape) = serde_json::from_value(shape) {
            *schema = shape;
        }
    }
}

/// Description and schema of a parameter of this name, in any operation; `None` for an unknown one.
fn described(name: &str) -> Option<(&'static str, Value)> {
    let text = || json!({ "type": "string" });
    Some(match name {
        "name" => {
            ("The queue.", json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$" }))
        }
        // In a query, empty text counts as absent.
        "queue" => (
            "The queue, instead of the job type's own.",
            json!({ "type": "string", "pattern": "^([A-Za-z0-9_.:-]{1,128})?$" }),
        ),
        "id" => ("The id.", text_of_any_length()),
        "limit" => (
            "The name of the limit.",
            json!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$" }),
        ),
        "type" => ("The job type.", text()),
        "token" => ("The signed end of the link.", text_of_any_length()),
        "wait" => ("Seconds to wait for the end of the job.", whole(0, 60)),
        "state" => ("The state.", json!({ "type": "string", "enum": listed_states() })),
        "group" => ("The group.", text()),
        "search" => ("Text in id, type, payload, group or last error, case-insensitive.", text()),
        "q" => ("Search terms, as in the dashboard's job list.", text()),
        "page" => (
            "The page, from 1. It must begin within the first 10,000 rows.",
            json!({ "type": "integer", "minimum": 1 }),
        ),
        "size" => ("Maximum rows. Default 30.", whole(1, 100)),
        "after" => ("The `next` of the previous response: queues with a later name.", text()),
        "cursor" => ("The `next` of the previous page.", text()),
        "days" => ("Number of days. Default 7.", whole(1, 90)),
        "force" => {
            ("Whether to delete its jobs as well.", json!({ "type": "boolean", "default": false }))
        }
        "delay_seconds" => ("Seconds until the job is due.", whole(0, SECONDS_PER_YEAR)),
        "expires_seconds" => (
            "Seconds after its due time by which the job must have started; else it is archived.",
            whole(0, SECONDS_PER_YEAR),
        ),
        "unique_seconds" => (
            "Seconds for which no other job of this type and payload is accepted.",
            whole(0, SECONDS_PER_YEAR),
        ),
        "unique_until" => (
            "When that lock ends: with the start, the success, or its time. Default success.",
            json!({ "type": "string", "enum": ["", "start", "success", "expiry"] }),
        ),
        "unique_key" => (
            "The key of that lock, instead of the payload.",
            json!({ "type": "string", "maxLength": 1024 }),
        ),
        "on_conflict" => (
            "If another job has that lock: 409 (the default), that job as it is, that job replaced \
             by this one while it waits (this one kept until that has ended where it runs), or its \
             lock and due time extended.",
            json!({
                "type": "string",
                "enum": ["", "reject", "existing", "replace", "extend"]
            }),
        ),
        "max_retry" => ("Maximum retries.", whole(0, 1000)),
        _ => return None,
    })
}

/// The schema of a whole number within these bounds.
fn whole(least: u32, most: u32) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

/// The schema of text that is not empty.
fn text_of_any_length() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

/// The states that have a list. Aggregating jobs are listed by their group.
fn listed_states() -> Vec<&'static str> {
    let states = JobState::ALL.into_iter().filter(|state| *state != JobState::Aggregating);
    states.map(JobState::as_str).collect()
}
