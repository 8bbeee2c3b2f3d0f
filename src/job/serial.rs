//! How values of ours look in JSON where serde has no word of its own for them.

use std::time::Duration;

use serde::Serializer;
use serde::ser::SerializeMap;

/// Bytes: text where they are UTF-8, else an object with one key, `hex`.
pub(crate) fn bytes<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return to.serialize_str(text);
    }
    let mut map = to.serialize_map(Some(1))?;
    map.serialize_entry("hex", &super::record::hex(bytes))?;
    map.end()
}

/// As [`bytes`], or null.
pub(crate) fn some_bytes<S: Serializer>(some: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
    match some {
        Some(some) => bytes(some, to),
        None => to.serialize_none(),
    }
}

/// A length of time in seconds, with decimals where it has them.
pub(crate) fn seconds<S: Serializer>(length: &Duration, to: S) -> Result<S::Ok, S::Error> {
    if length.subsec_nanos() == 0 {
        return to.serialize_u64(length.as_secs());
    }
    to.serialize_f64(length.as_secs_f64())
}
