//! The stored format: rows to write, in one buffer, and the keys that name them.
//!
//! A key is a letter for the kind of row, the length of the queue's name (two bytes, big-endian),
//! the name, and what tells rows of that kind and queue apart. Rows about the whole store have an
//! empty name. A value is a protobuf message; `src/broker/memory/persist/` has the messages. Fields
//! may be added to them, and a new kind of row gets a new letter. Anything else that an older
//! version could not read needs another format number (`FORMAT` in `database.rs`).

use prost::Message;

/// Changes that are written as one batch: rows put or deleted, in the order of the changes.
#[derive(Default)]
pub(crate) struct Rows {
    /// All keys and values, one after another: one allocation for a whole batch.
    bytes: Vec<u8>,
    /// The lengths of each key and its value in bytes. Without a value the row is deleted.
    spans: Vec<(u32, Option<u32>)>,
}

impl Rows {
    /// Adds a row, or replaces its value.
    pub(crate) fn put(&mut self, key: Key<'_>, value: &impl Message) {
        let begin = self.bytes.len();
        key.append_to(&mut self.bytes);
        let key_ends = self.bytes.len();
        value.encode_raw(&mut self.bytes);
        self.spans.push((span(key_ends - begin), Some(span(self.bytes.len() - key_ends))));
    }

    /// Deletes a row, which need not exist.
    pub(crate) fn delete(&mut self, key: Key<'_>) {
        let begin = self.bytes.len();
        key.append_to(&mut self.bytes);
        self.spans.push((span(self.bytes.len() - begin), None));
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// How many rows change.
    #[cfg(feature = "disk")]
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Removes all rows. The memory is kept for the next ones, up to [`KEPT_BYTES`] and
    /// [`KEPT_ROWS`].
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.spans.shrink_to(KEPT_ROWS);
    }

    /// The changes in order: a key, and its value unless the row is deleted.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut rest = self.bytes.as_slice();
        let mut cut = move |length: u32| {
            let (head, tail) = rest.split_at(length as usize);
            rest = tail;
            head
        };
        self.spans.iter().map(move |(key, value)| (cut(*key), value.map(&mut cut)))
    }
}

/// Maximum bytes of the buffer that is kept for the next rows.
const KEPT_BYTES: usize = 1 << 20;

/// Maximum length of the list of spans that is kept for the next rows.
const KEPT_ROWS: usize = 1 << 14;

fn span(length: usize) -> u32 {
    // A payload has at most 256 MiB, so a length always fits.
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// What a row is about. The letters are part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A job as it was enqueued or edited: queue, job id.
    Job,
    /// What changed of that job since: queue, job id.
    JobState,
    /// That a queue exists, and whether it is paused.
    Queue,
    /// Counters of a day: queue, day since the epoch as eight bytes.
    Day,
    /// Counters at the beginning of each of the last minutes: queue.
    Minutes,
    /// A unique lock: queue, lock's key.
    Lock,
    /// An idempotency key's first request: queue, key.
    Request,
    /// Of earlier versions, which counted the jobs of a public endpoint: queue, job id.
    Admitted,
    /// Jobs claimed from a group: queue, set's id.
    Set,
    /// The claimed ticks of a periodic job: queue, its id.
    Claim,
    /// A run of a periodic job: its id, a zero byte, time as eight bytes, job id.
    Run,
    /// The queue of requests with an idempotency key: key.
    KeyQueue,
    /// A limit: queue, its name.
    Limit,
    /// When the next job of a limit's key may start: queue, limit's name, a zero byte, key.
    LimitRate,
    /// What an operator did: the namespace, a zero byte, the entry's place as two bytes.
    Audit,
    /// Facts about the whole store: a name.
    Store,
}

impl Kind {
    /// Every kind with its letter. A letter is never used again for something else: stores on disk
    /// have it.
    const ALL: [(Kind, u8); 16] = [
        (Kind::Job, b'j'),
        (Kind::JobState, b's'),
        (Kind::Queue, b'q'),
        (Kind::Day, b'd'),
        (Kind::Minutes, b'm'),
        (Kind::Lock, b'l'),
        (Kind::Request, b'i'),
        (Kind::Admitted, b'a'),
        (Kind::Set, b'g'),
        (Kind::Claim, b'c'),
        (Kind::Run, b'r'),
        (Kind::KeyQueue, b'k'),
        (Kind::Limit, b'L'),
        (Kind::LimitRate, b'R'),
        (Kind::Audit, b'u'),
        (Kind::Store, b'A'),
    ];
}

/// The key of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key<'a> {
    pub(crate) kind: Kind,
    /// The queue's name; empty for a row of the whole store.
    pub(crate) queue: &'a str,
    /// What tells rows of this kind and queue apart; see [`Kind`].
    pub(crate) rest: &'a [u8],
}

impl<'a> Key<'a> {
    /// The key of a row of the whole store.
    pub(crate) fn store(kind: Kind, rest: &'a [u8]) -> Self {
        Self { kind, queue: "", rest }
    }

    /// Appends the bytes of the key.
    fn append_to(self, to: &mut Vec<u8>) {
        let letter =
            Kind::ALL.iter().find(|(kind, _)| *kind == self.kind).map(|(_, letter)| *letter);
        to.push(letter.expect("every kind has a letter"));
        // A queue name is far shorter than 64 KiB.
        to.extend_from_slice(&u16::try_from(self.queue.len()).unwrap_or(u16::MAX).to_be_bytes());
        to.extend_from_slice(self.queue.as_bytes());
        to.extend_from_slice(self.rest);
    }

    /// The bytes of the key.
    #[cfg(feature = "disk")]
    pub(crate) fn to_vec(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes);
        bytes
    }

    /// Reads the bytes of a key; `None` if they are not one that this version knows.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (letter, rest) = bytes.split_first()?;
        let (kind, _) = Kind::ALL.iter().find(|(_, known)| known == letter)?;
        let (length, rest) = rest.split_first_chunk()?;
        let (queue, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        Some(Self { kind: *kind, queue: std::str::from_utf8(queue).ok()?, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_as_they_went_in() {
        let mut rows = Rows::default();
        let job = Key { kind: Kind::Job, queue: "mail", rest: b"\0\xff" };
        rows.put(job, &"value".to_owned());
        rows.delete(Key::store(Kind::Store, b"version"));
        let found: Vec<_> = rows.iter().map(|(key, value)| (Key::parse(key), value)).collect();
        let value = "value".to_owned().encode_to_vec();
        let store = Key::store(Kind::Store, b"version");
        assert_eq!(found, [(Some(job), Some(value.as_slice())), (Some(store), None)]);
    }

    #[test]
    fn each_kind_has_a_letter_of_its_own() {
        for (kind, letter) in Kind::ALL {
            assert_eq!(Kind::ALL.iter().filter(|(k, l)| *k == kind || *l == letter).count(), 1);
        }
    }

    #[test]
    fn bytes_that_are_no_key_are_told() {
        for bytes in [&b""[..], b"j", b"j\0", b"j\0\x05mail", b"?\0\0", b"j\0\x01\xff"] {
            assert_eq!(Key::parse(bytes), None, "{bytes:?}");
        }
    }
}
