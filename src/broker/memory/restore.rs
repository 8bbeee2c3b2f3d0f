//! Opening a store from its rows on disk.

use std::sync::{Arc, Mutex};

use super::persist::Loader;
use super::{DiskJournal, MemoryBroker, MemoryStore};
use crate::broker::ArchiveSettings;
use crate::broker::disk::{Durability, Journal, Source};
use crate::error::Error;
use crate::time::Clock;

/// Owner numbers of one process: as many jobs of a queue as it can dequeue.
const OWNERS_OF_A_PROCESS: u32 = 40;

impl MemoryBroker {
    /// The store whose rows these are. From now on its changes are written there. `opened`
    /// counts how often it was opened.
    ///
    /// # Errors
    /// A row cannot be read.
    pub(crate) fn restore(
        source: impl Source,
        opened: u64,
        durability: Durability,
        clock: Clock,
        archive: ArchiveSettings,
    ) -> Result<Self, Error> {
        let first_owner = opened << OWNERS_OF_A_PROCESS;
        let mut loader = Loader::new(&archive, clock.now(), clock.steady(), first_owner);
        source.read(&mut |key, value| loader.add(key, value))?;
        let (state, leftovers) = loader.finish();
        let description = source.describe();
        let journal = Journal::start(Box::new(source), durability)?;
        journal.add(|rows| *rows = leftovers);
        let shared = MemoryStore { state: Mutex::new(state), ..MemoryStore::default() };
        Ok(Self {
            clock,
            archive: Arc::new(archive),
            shared: Arc::new(shared),
            journal: Some(Arc::new(DiskJournal { journal, description, first_owner })),
        })
    }
}
