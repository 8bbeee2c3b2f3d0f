//! The values in the lines of an export, in forms that belong to no structure of this crate.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::job::serial::hex;
use crate::job::{JobId, QueueName};
use crate::time::Timestamp;

/// A value that is written as a text.
#[derive(Clone, Copy, PartialEq, Default)]
pub(super) struct Text<T>(pub(super) T);

/// What a [`Text`] holds.
pub(super) trait Written: Sized + std::fmt::Display {
    /// What is expected, for errors.
    const WHAT: &str;

    fn read(text: &str) -> Option<Self>;

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Written for JobId {
    const WHAT: &str = "an id of a job";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Written for QueueName {
    const WHAT: &str = "a queue's name";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Written for Timestamp {
    const WHAT: &str = "an instant such as 2026-11-30T12:00:00.000000Z";

    fn read(text: &str) -> Option<Self> {
        let micros = || Some(Timestamp::from_micros(text.strip_suffix("us")?.parse().ok()?));
        Timestamp::parse(text).or_else(micros)
    }

    /// RFC 3339 ends with the year 9999.
    fn write(&self) -> String {
        let text = self.to_string();
        match Timestamp::parse(&text) == Some(*self) {
            true => text,
            false => format!("{}us", self.as_micros()),
        }
    }
}

impl<T: Written> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.write())
    }
}

impl<'de, T: Written> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let expected = || serde::de::Error::custom(format!("expected {}", T::WHAT));
        T::read(&text).map(Self).ok_or_else(expected)
    }
}

/// Bytes: a text if they are UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Bytes {
    Text(String),
    Hex { hex: String },
}

impl Bytes {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Hex { hex: hex(error.as_bytes()) },
        }
    }

    pub(super) fn read(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.into_bytes()),
            Self::Hex { hex } => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let pair = |pair: &[u8]| match pair {
                    [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
                    _ => None,
                };
                hex.as_bytes().chunks(2).map(pair).collect()
            }
        }
    }
}

/// A length of time: whole seconds, and nanoseconds if it has a fraction.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Length {
    Whole(u64),
    Exact { seconds: u64, nanos: u32 },
}

impl Default for Length {
    fn default() -> Self {
        Self::Whole(0)
    }
}

impl Length {
    pub(super) fn of(length: Duration) -> Self {
        let (seconds, nanos) = (length.as_secs(), length.subsec_nanos());
        if nanos == 0 { Self::Whole(seconds) } else { Self::Exact { seconds, nanos } }
    }

    pub(super) fn read(self) -> Duration {
        match self {
            Self::Whole(seconds) => Duration::from_secs(seconds),
            Self::Exact { seconds, nanos } => {
                Duration::from_secs(seconds).saturating_add(Duration::from_nanos(u64::from(nanos)))
            }
        }
    }
}
