//! The version of the data's format, in a key of our own, so that a version of this crate
//! that does not know the format says so instead of misreading it.
//!
//! What changes without a new number: keys, fields and arguments that older versions keep
//! and need not know. A new number is for data that an older version would misread.

use redis::Value;

use super::{RedisBroker, keys};
use crate::error::Error;
use crate::pool::Repeat;

/// The format that this version reads and writes.
const FORMAT: u64 = 1;

impl RedisBroker {
    /// Writes the format where the store has none or an older one. What was found, if this
    /// version does not know it.
    pub(super) async fn check_format(&self) -> Result<Option<String>, Error> {
        let key = || Vec::from(keys::FORMAT);
        let ours = || FORMAT.to_string().into_bytes();
        let found = match self.command(Repeat::Safe, "GET", &[key()]).await? {
            Value::BulkString(found) => String::from_utf8_lossy(&found).into_owned(),
            _ => {
                // A newer version may be first: what it wrote is seen the next time.
                self.command(Repeat::Safe, "SET", &[key(), ours(), b"NX".to_vec()]).await?;
                return Ok(None);
            }
        };
        match found.parse::<u64>() {
            Ok(FORMAT) => Ok(None),
            Ok(older) if older < FORMAT => {
                self.command(Repeat::Safe, "SET", &[key(), ours()]).await?;
                Ok(None)
            }
            _ => Ok(Some(found)),
        }
    }
}
