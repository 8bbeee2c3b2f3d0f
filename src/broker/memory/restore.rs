//! Opening a store from its rows on disk.

use std::sync::{Arc, Mutex, mpsc};

use super::persist::Loader;
use super::{DiskJournal, MemoryBroker, MemoryStore};
use crate::broker::ArchiveSettings;
use crate::broker::disk::{Durability, Journal, Source};
use crate::error::Error;
use crate::time::Clock;

/// The size of a [`Chunk`] that is handed over.
const CHUNK_BYTES: usize = 256 << 10;

/// How far reading may be ahead.
const CHUNKS_IN_FLIGHT: usize = 8;

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
        let loader = Loader::new(&archive, clock.now(), clock.steady(), first_owner);
        let (state, leftovers) = load(&source, loader)?.finish();
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

/// Reads all rows, while another thread makes jobs of those that were read.
fn load<'a>(source: &impl Source, mut loader: Loader<'a>) -> Result<Loader<'a>, Error> {
    std::thread::scope(|scope| {
        let (send, chunks) = mpsc::sync_channel::<Chunk>(CHUNKS_IN_FLIGHT);
        let add = move || {
            chunks
                .iter()
                .all(|chunk| chunk.rows().all(|(key, value)| loader.add(key, value)))
                .then_some(loader)
        };
        let adding = std::thread::Builder::new()
            .name("jobqueue-open".to_owned())
            .spawn_scoped(scope, add)
            .map_err(|error| Error::config("a thread cannot be started").caused_by(error))?;
        let mut chunk = Chunk::default();
        source.read(&mut |key, value| {
            chunk.push(key, value);
            // It fails if the other thread has met a row that it does not know.
            chunk.bytes.len() < CHUNK_BYTES || send.send(std::mem::take(&mut chunk)).is_ok()
        })?;
        let _ = send.send(chunk);
        drop(send);
        let loaded = adding.join().ok().flatten();
        loaded.ok_or_else(|| source.unknown_row())
    })
}

/// Rows on their way to the thread that makes jobs of them.
#[derive(Default)]
struct Chunk {
    /// Keys and values behind each other.
    bytes: Vec<u8>,
    /// The length of each key and value.
    lengths: Vec<(usize, usize)>,
}

impl Chunk {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.lengths.push((key.len(), value.len()));
    }

    fn rows(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map(move |(key, value)| {
            let (row, tail) = rest.split_at(key + value);
            rest = tail;
            row.split_at(*key)
        })
    }
}
