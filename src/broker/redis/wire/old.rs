//! Asynq's messages before version 0.18, which were JSON: read, never written.
//!
//! The scripts archive such jobs where they meet them. An operator can run one from the
//! archive; the next failure writes its message in today's form.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::job::{JobId, JobRecord, QueueName};
use crate::time::Timestamp;

/// Asynq's JSON message; missing fields are zero.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct OldMessage<'a> {
    r#type: String,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    retry: u32,
    retried: u32,
    error_msg: String,
    /// Seconds; 0 = none.
    timeout: u32,
    /// Unix seconds; 0 = none.
    deadline: u32,
    unique_key: String,
}

/// The job of such a message. Its payload is JSON as it was written.
pub(super) fn decode(queue: &QueueName, id: &JobId, bytes: &[u8]) -> Option<JobRecord> {
    let message: OldMessage<'_> = serde_json::from_slice(bytes).ok()?;
    let payload = message.payload.map(|payload| payload.get().as_bytes().to_vec());
    let mut record = JobRecord::new(message.r#type, payload, queue.clone());
    record.id = id.clone();
    record.max_retry = message.retry;
    record.retried = message.retried;
    record.last_error = message.error_msg;
    record.timeout = Duration::from_secs(message.timeout.into());
    let deadline = Some(message.deadline).filter(|deadline| *deadline > 0);
    record.deadline = deadline.map(|deadline| Timestamp::from_secs(deadline.into()));
    record.unique_key = message.unique_key;
    Some(record)
}
