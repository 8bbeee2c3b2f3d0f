//! The JSON form of values for which serde has no suitable one: bytes and durations.
//!
//! Payloads and results are bytes, and nearly always text. As text they stay readable for people
//! and programs; only other bytes become an object, `{"hex": "…"}`. A reader tells the two apart by
//! the JSON type. Durations are numbers of seconds.

use std::time::Duration;

use serde::Serializer;
use serde::ser::SerializeMap;

/// Bytes: a string if they are UTF-8, otherwise an object with the one key `hex`.
pub(crate) fn bytes<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return to.serialize_str(text);
    }
    let mut map = to.serialize_map(Some(1))?;
    map.serialize_entry("hex", &hex(bytes))?;
    map.end()
}

/// Bytes as lower-case hexadecimal digits, two for each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The inverse of [`hex`]; `None` if the text is not hexadecimal, or too long.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    /// More than any of our ids needs, and little enough for a request.
    const MAX_HEX_DIGITS: usize = 2 * 132 * 1024;
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > MAX_HEX_DIGITS {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits.chunks(2).map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}

/// As [`bytes`], or null.
pub(crate) fn some_bytes<S: Serializer>(some: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
    match some {
        Some(some) => bytes(some, to),
        None => to.serialize_none(),
    }
}

/// A duration in seconds, with decimals if it has a fraction.
pub(crate) fn seconds<S: Serializer>(length: &Duration, to: S) -> Result<S::Ok, S::Error> {
    if length.subsec_nanos() == 0 {
        return to.serialize_u64(length.as_secs());
    }
    to.serialize_f64(length.as_secs_f64())
}

/// As [`seconds`], or null.
pub(crate) fn some_seconds<S: Serializer>(
    some: &Option<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match some {
        Some(length) => seconds(length, to),
        None => to.serialize_none(),
    }
}

/// Why a value of the application cannot be written as JSON. The message of its type is left
/// out: it may quote the value, and the reason reaches logs and stored errors.
pub(crate) fn marshal_reason(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => "its type refuses to be written".to_owned(),
        _ => error.to_string(),
    }
}

/// How [`bytes`] is documented.
#[cfg(feature = "openapi")]
#[derive(schemars::JsonSchema)]
#[schemars(rename = "JobQueueBytes", untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub(crate) enum Bytes {
    /// UTF-8.
    Text(String),
    /// Bytes that are not UTF-8.
    Hex {
        /// Two hexadecimal digits for each byte.
        hex: String,
    },
}

/// A type that is written as a text, in a schema of its own.
#[cfg(feature = "openapi")]
macro_rules! text_schema {
    ($type:ty, $name:literal, $format:expr, $about:literal) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> String {
                $name.to_owned()
            }

            fn json_schema(_: &mut schemars::r#gen::SchemaGenerator) -> schemars::schema::Schema {
                let metadata = schemars::schema::Metadata {
                    description: Some($about.to_owned()),
                    ..Default::default()
                };
                schemars::schema::SchemaObject {
                    instance_type: Some(schemars::schema::InstanceType::String.into()),
                    format: $format,
                    metadata: Some(Box::new(metadata)),
                    ..Default::default()
                }
                .into()
            }
        }
    };
}

#[cfg(feature = "openapi")]
text_schema!(
    super::JobId,
    "JobQueueJobId",
    None,
    "A job's id, unique within its queue: bytes that are not UTF-8, control characters and `%` are \
     written as `%` and two hexadecimal digits."
);
#[cfg(feature = "openapi")]
text_schema!(super::QueueName, "JobQueueQueueName", None, "A queue's name.");
#[cfg(feature = "openapi")]
text_schema!(
    crate::time::Timestamp,
    "JobQueueTimestamp",
    Some("date-time".to_owned()),
    "An instant in UTC with microseconds."
);
#[cfg(feature = "openapi")]
pub(crate) use text_schema;
