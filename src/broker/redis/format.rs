//! The version of the stored data's format.
//!
//! It is a number in a key of our own, `asynq:x:format`. A process checks it at
//! launch and reports a format that it does not know, instead of misreading the
//! data. A newer version writes its own number over an older one.
//!
//! The number changes only if an older version would misread the data. New keys,
//! fields and script arguments that older versions keep and need not know do not
//! change it, so that versions can be mixed during a rolling deployment.
//!
//! What may surprise. A missing key is not an error: the data of Asynq has none, and
//! [`check_format`](RedisBroker::check_format) adds it. On a Cluster the key lies on
//! one node and speaks for all. Text that is not a number is reported as found: a
//! person must decide what it means.

use redis::Value;

use super::{RedisBroker, keys};
use crate::error::Error;
use crate::pool::Repeat;

/// The format that this version reads and writes.
const FORMAT: u64 = 1;

impl RedisBroker {
    /// The version that the store has, if this crate does not know it. Writes nothing.
    pub(super) async fn read_foreign_format(&self) -> Result<Option<String>, Error> {
        let is_known = |found: &str| found.parse::<u64>().is_ok_and(|version| version <= FORMAT);
        Ok(self.read_format().await?.filter(|found| !is_known(found)))
    }

    async fn read_format(&self) -> Result<Option<String>, Error> {
        match self.command(Repeat::Safe, "GET", &[Vec::from(keys::FORMAT)]).await? {
            Value::BulkString(found) => Ok(Some(String::from_utf8_lossy(&found).into_owned())),
            _ => Ok(None),
        }
    }

    /// Writes the format if the store has none or an older one. Returns the version found if
    /// this crate does not know it.
    pub(super) async fn check_format(&self) -> Result<Option<String>, Error> {
        let key = || Vec::from(keys::FORMAT);
        let ours = || FORMAT.to_string().into_bytes();
        let Some(found) = self.read_format().await? else {
            // A newer version may write first; its value is seen by the next call.
            self.command(Repeat::Safe, "SET", &[key(), ours(), b"NX".to_vec()]).await?;
            return Ok(None);
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
