//! Rows in a map: stands in for the disk in tests that restart a store.
//!
//! A test keeps the map, drops the store as a crash would, and opens another one on it
//! ([`open_rows`](super::open_rows)). Every write counts as synced, and there is always room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::durability::{Storage, StorageError};
use super::{Rows, Source};
use crate::error::Error;
use crate::sync::lock;

/// The rows. Clones share them, as two processes in turn share a disk.
#[derive(Clone, Default, Debug)]
pub struct RowMap(Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>);

impl RowMap {
    /// A copy that later writes do not change: what a process leaves if it is killed now.
    #[must_use]
    pub fn copied(&self) -> Self {
        Self(Arc::new(Mutex::new(lock(&self.0).clone())))
    }
}

impl Storage for RowMap {
    fn write(&mut self, rows: &Rows) -> Result<(), StorageError> {
        let mut map = lock(&self.0);
        for (key, value) in rows.iter() {
            match value {
                Some(value) => map.insert(key.to_vec(), value.to_vec()),
                None => map.remove(key),
            };
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn tend(&mut self) -> Option<String> {
        None
    }
}

impl Source for RowMap {
    fn read(&self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Error> {
        match lock(&self.0).iter().all(|(key, value)| each(key, value)) {
            true => Ok(()),
            false => Err(self.unknown_row()),
        }
    }

    fn unknown_row(&self) -> Error {
        Error::config("a row that this version does not know")
    }

    fn describe(&self) -> String {
        "in rows".to_owned()
    }
}
