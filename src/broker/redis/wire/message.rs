//! Asynq's message of one job.
//!
//! Fields that a newer peer wrote and this version does not know are kept as bytes
//! and written back. Numbers that a [`JobRecord`] cannot hold, such as a negative
//! retry count, are kept too, until the field is changed.
//!
//! So a job that this version reads and writes back has the same bytes as before, except for the
//! fields that were changed. That matters where scripts compare messages, and when versions of this
//! crate or of Asynq are mixed.
//!
//! What may surprise. [`encode`] writes by hand what [`TaskMessage`] describes, because it is
//! called for each job and should copy nothing; a test compares the two. Times are whole
//! seconds, rounded up if they are limits: exact due times are in keys of our own.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use prost::encoding::{self, DecodeContext, WireType, decode_key, skip_field};

use super::{int32, old};
use crate::job::{JobId, JobRecord, QueueName};
use crate::time::Timestamp;

/// The highest field number of a task message that this version knows.
const LAST_KNOWN: u32 = 15;

/// A stored job, as it is in the `msg` field.
#[derive(Clone, PartialEq, Message)]
pub struct TaskMessage {
    /// The job type.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// Opaque bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
    /// The id; the same as in the key, which need not be UTF-8.
    #[prost(bytes = "vec", tag = "3")]
    pub id: Vec<u8>,
    /// The queue; the same as in the key.
    #[prost(string, tag = "4")]
    pub queue: String,
    /// Maximum retries.
    #[prost(int32, tag = "5")]
    pub retry: i32,
    /// Retries counted so far.
    #[prost(int32, tag = "6")]
    pub retried: i32,
    /// The last failure's text.
    #[prost(string, tag = "7")]
    pub error_msg: String,
    /// Seconds; 0 = none given.
    #[prost(int64, tag = "8")]
    pub timeout: i64,
    /// Unix seconds; 0 = none.
    #[prost(int64, tag = "9")]
    pub deadline: i64,
    /// Key of the unique lock.
    #[prost(string, tag = "10")]
    pub unique_key: String,
    /// Unix seconds; 0 = never failed.
    #[prost(int64, tag = "11")]
    pub last_failed_at: i64,
    /// Seconds.
    #[prost(int64, tag = "12")]
    pub retention: i64,
    /// Unix seconds; 0 = not completed.
    #[prost(int64, tag = "13")]
    pub completed_at: i64,
    /// The group.
    #[prost(string, tag = "14")]
    pub group_key: String,
    /// Headers.
    #[prost(btree_map = "string, string", tag = "15")]
    pub headers: BTreeMap<String, String>,
}

/// Encodes a job as [`TaskMessage`] would, without copying it first.
pub fn encode(job: &JobRecord) -> Vec<u8> {
    let texts = [&job.job_type, &job.last_error, &job.unique_key, &job.group];
    let size: usize = texts.iter().map(|text| text.len()).sum();
    let size = size + job.payload_bytes().len() + job.id.as_bytes().len() + job.unknown.len() + 96;
    let mut bytes = Vec::with_capacity(size);
    let to = &mut bytes;
    put_bytes(1, job.job_type.as_bytes(), to);
    put_bytes(2, job.payload_bytes(), to);
    put_bytes(3, job.id.as_bytes(), to);
    put_bytes(4, job.queue.as_str().as_bytes(), to);
    let number = |tag, value| unless_changed(&job.odd_numbers, tag, value);
    put_number(5, number(5, int32(job.max_retry).into()), to);
    put_number(6, number(6, int32(job.retried).into()), to);
    put_bytes(7, job.last_error.as_bytes(), to);
    put_number(8, number(8, whole_seconds(job.timeout)), to);
    put_number(9, number(9, unix_seconds(job.deadline)), to);
    put_bytes(10, job.unique_key.as_bytes(), to);
    put_number(11, number(11, unix_seconds(job.last_failed_at)), to);
    put_number(12, number(12, whole_seconds(job.retention)), to);
    put_number(13, number(13, unix_seconds(job.completed_at)), to);
    put_bytes(14, job.group.as_bytes(), to);
    encoding::btree_map::encode(
        encoding::string::encode,
        encoding::string::encoded_len,
        encoding::string::encode,
        encoding::string::encoded_len,
        LAST_KNOWN,
        &job.headers,
        to,
    );
    bytes.extend_from_slice(&job.unknown);
    bytes
}

/// How many bytes of an encoded message come before the field with the id, in which scripts
/// write another id.
pub fn bytes_before_id(job: &JobRecord) -> usize {
    let mut before = Vec::with_capacity(job.payload_bytes().len() + job.job_type.len() + 16);
    put_bytes(1, job.job_type.as_bytes(), &mut before);
    put_bytes(2, job.payload_bytes(), &mut before);
    before.len()
}

/// Writes a field of text or bytes; protobuf leaves empty ones out.
fn put_bytes(tag: u32, value: &[u8], to: &mut Vec<u8>) {
    if !value.is_empty() {
        encoding::encode_key(tag, WireType::LengthDelimited, to);
        encoding::encode_varint(value.len() as u64, to);
        to.extend_from_slice(value);
    }
}

/// Writes a field with a whole number; protobuf leaves zero out.
fn put_number(tag: u32, value: i64, to: &mut Vec<u8>) {
    if value != 0 {
        encoding::encode_key(tag, WireType::Varint, to);
        encoding::encode_varint(value.cast_unsigned(), to);
    }
}

/// The number that encoding writes after this number was read; `None` if the field is not
/// a number.
fn bounded(tag: u32, number: i64) -> Option<i64> {
    match tag {
        // Retries, and lengths of time.
        5 | 6 | 8 | 12 => Some(number.max(0)),
        // Instants.
        9 | 11 | 13 => Some(unix_seconds(instant(number))),
        _ => None,
    }
}

/// A number that a record cannot hold, as a peer wrote it, unless the record's field was
/// changed since.
fn unless_changed(odd: &[(u32, i64)], tag: u32, value: i64) -> i64 {
    let found = odd.iter().find(|(at, _)| *at == tag).map(|(_, number)| *number);
    found.filter(|number| bounded(tag, *number) == Some(value)).unwrap_or(value)
}

/// Decodes a message; `None` if Go could not read it either. Unlike in Go, the id need not
/// be UTF-8.
///
/// Queue and id come from the key. A message that names others is corrected by the next
/// write, since Go builds its keys from the message.
pub fn decode(queue: &QueueName, id: &JobId, bytes: &[u8]) -> Option<JobRecord> {
    if bytes.starts_with(br#"{"Type":"#) {
        return old::decode(queue, id, bytes);
    }
    let (message, unknown) = read(bytes)?;
    let numbers = [
        (5, message.retry.into()),
        (6, message.retried.into()),
        (8, message.timeout),
        (9, message.deadline),
        (11, message.last_failed_at),
        (12, message.retention),
        (13, message.completed_at),
    ];
    let is_odd = |(tag, number): &(u32, i64)| bounded(*tag, *number) != Some(*number);
    Some(JobRecord {
        job_type: message.r#type,
        payload: Some(message.payload).filter(|payload| !payload.is_empty()),
        id: id.clone(),
        queue: queue.clone(),
        max_retry: u32::try_from(message.retry).unwrap_or(0),
        retried: u32::try_from(message.retried).unwrap_or(0),
        last_error: message.error_msg,
        last_failed_at: instant(message.last_failed_at),
        timeout: duration(message.timeout),
        deadline: instant(message.deadline),
        retention: duration(message.retention),
        completed_at: instant(message.completed_at),
        unique_key: message.unique_key,
        group: message.group_key,
        headers: message.headers,
        odd_numbers: numbers.into_iter().filter(is_odd).collect(),
        unknown,
    })
}

/// Whether a message names this queue, from which Go builds the keys of its job. A message of an
/// Asynq before 0.18 is never kept as it is.
pub fn names_queue(bytes: &[u8], queue: &QueueName) -> bool {
    read(bytes).is_some_and(|(message, _)| message.queue == queue.as_str())
}

/// The fields that this version knows, and all others as bytes. As in Go, a field with a
/// known number but another type counts as unknown.
fn read(bytes: &[u8]) -> Option<(TaskMessage, Vec<u8>)> {
    let (mut message, mut unknown) = (TaskMessage::default(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let begin = rest;
        let (tag, wire_type) = decode_key(&mut rest).ok()?;
        let known = match bounded(tag, 0) {
            Some(_) => wire_type == WireType::Varint,
            None => tag <= LAST_KNOWN && wire_type == WireType::LengthDelimited,
        };
        if known {
            message.merge_field(tag, wire_type, &mut rest, DecodeContext::default()).ok()?;
        } else {
            skip_field(wire_type, tag, &mut rest, DecodeContext::default()).ok()?;
            unknown.extend_from_slice(&begin[..begin.len() - rest.len()]);
        }
    }
    Some((message, unknown))
}

/// Whole seconds, rounded up: a limit is never shorter than requested.
fn whole_seconds(duration: Duration) -> i64 {
    let up = u64::from(duration.subsec_nanos() > 0);
    i64::try_from(duration.as_secs().saturating_add(up)).unwrap_or(i64::MAX)
}

/// Seconds of the message; negative ones count as zero.
fn duration(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Unix seconds of the message; 0 for none.
fn unix_seconds(time: Option<Timestamp>) -> i64 {
    time.map_or(0, Timestamp::as_secs)
}

/// Unix seconds of the message; 0 is none.
fn instant(seconds: i64) -> Option<Timestamp> {
    (seconds != 0).then(|| Timestamp::from_secs(seconds))
}
