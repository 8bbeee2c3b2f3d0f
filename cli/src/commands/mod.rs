//! The commands, a file for each noun.

pub(crate) mod act;
pub(crate) mod alerts;
pub(crate) mod doctor;
pub(crate) mod job;
pub(crate) mod man;
pub(crate) mod payload;
pub(crate) mod periodic;
pub(crate) mod queue;
pub(crate) mod stats;
pub(crate) mod transfer;
pub(crate) mod watch;
pub(crate) mod worker;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::output::Cell;
use crate::text::{away, instant, local};

/// An instant of an answer, as a time and how far away it is; a dash if there is none.
fn when(value: &Value, now: DateTime<Utc>) -> Cell {
    match value.as_str().and_then(instant) {
        Some(at) => Cell::new(format!("{} ({})", local(at, now), away(at, now))),
        None => Cell::new("-"),
    }
}

/// How far away an instant of an answer is; a dash if there is none.
fn how_far(value: &Value, now: DateTime<Utc>) -> Cell {
    match value.as_str().and_then(instant) {
        Some(at) => Cell::new(away(at, now)),
        None => Cell::new("-"),
    }
}

/// An instant of an answer in a sentence; `an unknown time` if there is none.
fn since(value: &Value, now: DateTime<Utc>) -> String {
    let at = value.as_str().and_then(instant);
    at.map_or_else(
        || "an unknown time".to_owned(),
        |at| format!("{} ({})", local(at, now), away(at, now)),
    )
}
