//! The audit log of a store: what operators did by REST and pages, at most [`MAX_AUDIT_ENTRIES`] entries.
//!
//! It belongs to an application: one with a namespace has its own. An entry never has a payload,
//! a header or a credential.

use serde::Serialize;
use serde_json::{Value, json};

use super::Answer;
use crate::time::Timestamp;

/// Maximum entries that are kept; the oldest ones make room.
pub(crate) const MAX_AUDIT_ENTRIES: usize = 1000;

/// Something an operator did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueAuditEntry"))]
#[non_exhaustive]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who, as the application's guard names them; null if it names nobody.
    pub actor: Option<String>,
    /// The client's address, or `local`.
    pub from: String,
    /// What was done: `queue paused`.
    pub action: String,
    /// The queue, or another name that the action is about; empty for the whole store.
    pub queue: String,
    /// The job, or how many, or how; may be empty.
    pub what: String,
}

impl AuditEntry {
    /// An action on this queue, by nobody and from nowhere: its other fields are empty. For tests of
    /// functions that take entries.
    pub fn new(at: Timestamp, action: impl Into<String>, queue: impl Into<String>) -> Self {
        let (actor, from, what) = Default::default();
        Self { at, actor, from, action: action.into(), queue: queue.into(), what }
    }

    /// The stored form, which other programs may read.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { at, actor, from, action, queue, what } = self;
        let at = at.as_micros();
        let entry = json!({
            "at_us": at, "actor": actor, "from": from, "action": action, "queue": queue, "what": what,
        });
        entry.to_string().into_bytes()
    }

    /// Reads the stored form; `None` if it has another one.
    pub(super) fn decode(stored: &[u8]) -> Option<Self> {
        let entry: Value = serde_json::from_slice(stored).ok()?;
        let text = |name: &str| Some(entry[name].as_str()?.to_owned());
        Some(Self {
            at: Timestamp::from_micros(entry["at_us"].as_i64()?),
            actor: text("actor"),
            from: text("from")?,
            action: text("action")?,
            queue: text("queue")?,
            what: text("what")?,
        })
    }
}

/// The audit log. Off the hot path.
pub trait Audit: Send + Sync {
    /// Adds an entry to the log of an application: of this namespace, or of none if it is empty. Two
    /// commands.
    ///
    /// # Errors
    /// Errors of the store. After an unknown outcome the entry may be there; it is not added again.
    fn add_audit<'a>(&'a self, namespace: &'a str, entry: &'a AuditEntry) -> Answer<'a, ()>;

    /// Entries of that log, the newest first. One command.
    fn audit<'a>(
        &'a self,
        namespace: &'a str,
        skip: usize,
        most: usize,
    ) -> Answer<'a, Vec<AuditEntry>>;
}
