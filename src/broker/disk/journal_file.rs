//! Checks the journals of `fjall` before it opens them.
//!
//! `fjall` ends a journal at the first place that it cannot read, and cuts off the rest. That is
//! right for a write that a crash left unfinished. If a bit has flipped, however, it would silently
//! drop acknowledged jobs behind that place. The two can be told apart: an unfinished write ends
//! the file, or leaves whole sectors of zeros in it; a flipped bit has intact data around it. An
//! unfinished end is cut off with a warning. Damage stops the launch, because only an operator can
//! decide what to do about it.
//!
//! Zeros in a batch that is intact are a payload's. Zeros in the batch that cannot be read could
//! be either. With [`Durability::Always`] each batch is synced before the next one is written, so
//! that no loss of power leaves intact batches behind a missing sector: such a journal is refused.
//! With [`Durability::EverySecond`] sectors of a second may reach the disk in any order, and the
//! zeros count as lost: a loss of power is the more likely cause. Only the newest journal may be
//! unfinished, because `fjall` syncs a journal before it begins the next one.
//!
//! The layout is that of the third format of `fjall`. A batch is a start (tag 1, number of items,
//! sequence number), items (tag 2) and an end (tag 3, checksum of the items, four magic bytes).
//! Numbers are little-endian.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::Durability;

/// The last bytes of each batch.
const MAGIC: &[u8; 4] = b"FJL\x03";

/// Bytes that a disk writes as a whole: after a crash a sector is there or missing.
const SECTOR: usize = 512;

/// Checks all journals in a folder, and cuts off what a crash left unfinished. `durability` is that
/// of the process which opens it; the one that wrote it is expected to have had the same.
///
/// # Errors
/// A file cannot be read, or is damaged: the text names it and the place.
pub(crate) fn check_all(folder: &Path, durability: Durability) -> Result<(), String> {
    let journals = journals(folder).map_err(|error| error.to_string())?;
    let newest = journals.iter().max_by_key(|path| number(path));
    for path in &journals {
        let told = |error: io::Error| format!("{}: {error}", path.display());
        let bytes = fs::read(path).map_err(told)?;
        match check(&bytes, durability) {
            State::Whole => {}
            State::Unfinished { valid } if Some(path) == newest => {
                crate::log::warn!(
                    "{}: a write was not finished, so what follows byte {valid} is dropped",
                    path.display()
                );
                let file = fs::OpenOptions::new().write(true).open(path).map_err(told)?;
                file.set_len(valid as u64).and_then(|()| file.sync_all()).map_err(told)?;
            }
            State::Unfinished { valid } | State::Damaged { valid } => {
                return Err(format!("{}: it is damaged behind byte {valid}", path.display()));
            }
            State::MissingWithin { valid } => {
                return Err(format!(
                    "{}: a sector behind byte {valid} is missing, and later changes are there. If \
                     the power failed while durability was \"everysec\", open it once with that: it \
                     drops the later ones. Otherwise it is damaged",
                    path.display()
                ));
            }
        }
    }
    Ok(())
}

/// Syncs all journals in a folder. For a database that is closed because its disk was full.
///
/// # Errors
/// A file cannot be opened or synced.
pub(crate) fn sync_all(folder: &Path) -> io::Result<()> {
    journals(folder)?.iter().try_for_each(|path| fs::File::open(path)?.sync_data())
}

/// The files with the ending `.jnl`.
fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The number of a journal, by which they follow each other.
fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Complete batches, and only zeros behind them.
    Whole,
    /// The last writes did not reach the disk completely.
    Unfinished { valid: usize },
    /// Changed by something other than a crash.
    Damaged { valid: usize },
    /// A sector is missing, or a changed batch looks so, and intact batches follow, although each
    /// was synced before the next was written.
    MissingWithin { valid: usize },
}

/// Reads batch after batch. Behind the last whole one, the rest decides: if no sector is missing in
/// it and a batch ends in it, that is damage; otherwise the last writes were not finished.
fn check(bytes: &[u8], durability: Durability) -> State {
    let (mut valid, mut last_number) = (0, None);
    while let Some((length, number)) = batch(&bytes[valid..]) {
        // The checksum does not cover the sequence number, which decides which of two values of a
        // row is the newer one. Numbers only rise.
        if last_number.is_some_and(|last| number <= last) {
            return State::Damaged { valid };
        }
        (valid, last_number) = (valid + length, Some(number));
    }
    let rest = without_zeros_behind(&bytes[valid..]);
    if rest.is_empty() {
        return State::Whole;
    }
    let intact = intact_behind(rest);
    // Sectors are counted from the beginning of the file.
    let to_sector = (SECTOR - valid % SECTOR) % SECTOR;
    if has_lost_sector(rest, to_sector, &intact) {
        let each_was_synced = durability == Durability::Always;
        return match each_was_synced && !intact.is_empty() {
            true => State::MissingWithin { valid },
            false => State::Unfinished { valid },
        };
    }
    let is_damaged = rest.ends_with(MAGIC)
        || !intact.is_empty()
        || match broken(rest) {
            Broken::Complete => true,
            // It has the end of a batch, and no write stops behind a wrong byte.
            Broken::Unreadable => rest.windows(MAGIC.len()).any(|window| window == MAGIC),
            Broken::Cut => false,
        };
    if is_damaged { State::Damaged { valid } } else { State::Unfinished { valid } }
}

/// Whether a sector was never written: it has zeros alone, and is no part of an intact batch. The
/// first one began before this place.
fn has_lost_sector(rest: &[u8], to_sector: usize, intact: &[Range<usize>]) -> bool {
    let is_lost = |from: usize, to: usize| {
        let is_zero = rest.get(from..to).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
        // The last one that begins before it.
        let behind = intact.partition_point(|batch| batch.start <= from);
        let around = behind.checked_sub(1).map(|nth| &intact[nth]);
        is_zero && around.is_none_or(|batch| batch.end < to)
    };
    (to_sector > 0 && is_lost(0, to_sector))
        || (to_sector..rest.len()).step_by(SECTOR).any(|from| is_lost(from, from + SECTOR))
}

/// The batches behind the first end of one that can be read.
fn intact_behind(rest: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(end) = rest[at..].windows(MAGIC.len()).position(|window| window == MAGIC) {
        at += end + MAGIC.len();
        while let Some((length, _)) = batch(&rest[at..]) {
            found.push(at..at + length);
            at += length;
        }
    }
    found
}

/// Drops the zeros at the end, in large steps: `fjall` allocates a journal as 64 MiB of zeros.
fn without_zeros_behind(mut bytes: &[u8]) -> &[u8] {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    while let Some(before) = bytes.strip_suffix(&ZEROS) {
        bytes = before;
    }
    bytes.iter().rposition(|byte| *byte != 0).map_or(&[], |last| &bytes[..=last])
}

/// The length in bytes and the sequence number of the batch that begins here; `None` if no intact
/// batch does.
fn batch(bytes: &[u8]) -> Option<(usize, u64)> {
    let frame = frame(bytes).ok()?;
    let is_whole = xxh3_64(&bytes[HEAD..frame.items_end]) == frame.checksum;
    is_whole.then_some((frame.items_end + TAIL, frame.number))
}

/// How a batch that is not intact looks.
fn broken(bytes: &[u8]) -> Broken {
    frame(bytes).map_or_else(|broken| broken, |_| Broken::Complete)
}

enum Broken {
    /// From its start to its end, with another checksum.
    Complete,
    /// The bytes end before the batch does.
    Cut,
    /// Something in it has no meaning.
    Unreadable,
}

/// Bytes of a start and of an end.
const HEAD: usize = 1 + 4 + 8;
const TAIL: usize = 1 + 8 + 4;

/// The outline of a batch: where its items end, its number and its checksum.
struct Frame {
    items_end: usize,
    number: u64,
    checksum: u64,
}

/// The outline of the batch that begins here.
fn frame(bytes: &[u8]) -> Result<Frame, Broken> {
    let mut at = 0_usize;
    let mut take = |length: usize| {
        let taken = at.checked_add(length).and_then(|end| bytes.get(at..end)).ok_or(Broken::Cut)?;
        at += length;
        Ok(taken)
    };
    if take(1)? != [1] {
        return Err(Broken::Unreadable);
    }
    let items = u32::from_le_bytes(array(take(4)?));
    let number = u64::from_le_bytes(array(take(8)?));
    let mut items_end = HEAD;
    for _ in 0..items {
        items_end += 1 + match take(1)? {
            // Type, compression, keyspace, lengths of key, value and stored value.
            [2] => {
                let head = take(1 + 1 + 8 + 2 + 4 + 4)?;
                let key = usize::from(u16::from_le_bytes(array(&head[10..12])));
                let value = u32::from_le_bytes(array(&head[16..20]));
                let length = key.saturating_add(usize::try_from(value).unwrap_or(usize::MAX));
                head.len() + take(length)?.len()
            }
            // A keyspace that was emptied.
            [4] => take(8)?.len(),
            _ => return Err(Broken::Unreadable),
        };
    }
    if take(1)? != [3] {
        return Err(Broken::Unreadable);
    }
    let checksum = u64::from_le_bytes(array(take(8)?));
    match take(MAGIC.len())? == MAGIC {
        true => Ok(Frame { items_end, number, checksum }),
        false => Err(Broken::Unreadable),
    }
}

/// Bytes of this length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("as many as were taken")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was synced each second may miss any sector of the last one.
    fn check(bytes: &[u8]) -> State {
        super::check(bytes, Durability::EverySecond)
    }

    /// A batch with one value of this length, which is its number too.
    fn written(length: usize) -> Vec<u8> {
        with_value(length as u64, &vec![b'x'; length])
    }

    /// A batch with one value.
    fn with_value(number: u64, value: &[u8]) -> Vec<u8> {
        let mut item = vec![2, 0, 0];
        item.extend(1u64.to_le_bytes());
        item.extend(3u16.to_le_bytes());
        item.extend((value.len() as u32).to_le_bytes());
        item.extend((value.len() as u32).to_le_bytes());
        item.extend(b"key");
        item.extend(value);
        let mut bytes = vec![1];
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(number.to_le_bytes());
        bytes.extend(&item);
        bytes.push(3);
        bytes.extend(xxh3_64(&item).to_le_bytes());
        bytes.extend(MAGIC);
        bytes
    }

    #[test]
    fn a_journal_that_ends_early_or_misses_sectors_is_unfinished() {
        let (one, large) = (written(10), written(3 * SECTOR));
        let whole = [one.clone(), large.clone(), vec![0; 2 * SECTOR]].concat();
        assert_eq!(check(&whole), State::Whole);
        let unfinished = State::Unfinished { valid: one.len() };
        for end in [one.len() + 1, one.len() + SECTOR, one.len() + large.len() - 1] {
            let mut cut = whole.clone();
            cut.truncate(end);
            assert_eq!(check(&cut), unfinished, "{end}");
            cut.extend([0; 3 * SECTOR]);
            assert_eq!(check(&cut), unfinished, "{end} and zeros");
        }
        let mut hole = whole;
        hole[SECTOR..2 * SECTOR].fill(0);
        assert_eq!(check(&hole), unfinished);
    }

    #[test]
    fn however_many_zeros_are_behind_the_last_batch() {
        for zeros in [0, 1, (1 << 16) - 1, 1 << 16, (3 << 16) + 5] {
            let mut journal = written(10);
            journal.resize(journal.len() + zeros, 0);
            assert_eq!(check(&journal), State::Whole, "{zeros}");
            journal.push(1);
            assert_ne!(check(&journal), State::Whole, "{zeros}");
        }
    }

    #[test]
    fn a_flipped_bit_is_damage() {
        let whole = [written(10), written(20), written(30)].concat();
        let first = written(10).len();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            let valid = [0, first, first + written(20).len()];
            let valid = valid.into_iter().rev().find(|begin| *begin <= at).unwrap();
            // The last magic bytes cannot be told from an unfinished batch, and a number is
            // wrong only beside others.
            let is_number = (5..13).contains(&(at - valid));
            if at + MAGIC.len() < whole.len() && !is_number {
                assert_eq!(check(&flipped), State::Damaged { valid }, "{at}");
            }
        }
        let mut renumbered = whole;
        renumbered[5] = 25;
        assert_eq!(check(&renumbered), State::Damaged { valid: first });
    }

    #[test]
    fn zeros_in_a_payload_are_no_lost_sectors() {
        let mut journal = [written(10), with_value(20, &[0; 3 * SECTOR]), written(30)].concat();
        assert_eq!(check(&journal), State::Whole);
        // A bit of the first batch flips: what is behind it was acknowledged.
        journal[HEAD + 30] ^= 0x10;
        assert_eq!(check(&journal), State::Damaged { valid: 0 });
    }

    #[test]
    fn what_was_synced_batch_by_batch_is_not_dropped_for_zeros_before_it() {
        let zeros = with_value(
            20,
            &[b'x'; SECTOR].iter().chain(&[0; 3 * SECTOR]).copied().collect::<Vec<_>>(),
        );
        let (first, last) = (written(10), written(30));
        let valid = first.len();
        let mut journal = [first, zeros.clone(), last].concat();
        // A bit of the batch with zeros flips.
        journal[valid + HEAD + 30] ^= 0x10;
        let state = |bytes: &[u8], durability| super::check(bytes, durability);
        assert_eq!(state(&journal, Durability::Always), State::MissingWithin { valid });
        assert_eq!(state(&journal, Durability::EverySecond), State::Unfinished { valid });
        // Nothing that was acknowledged follows.
        journal.truncate(valid + zeros.len());
        assert_eq!(state(&journal, Durability::Always), State::Unfinished { valid });
    }

    #[test]
    fn the_rest_of_a_sector_that_was_written_before_may_be_lost_too() {
        let first = written(10);
        let mut journal = [first.clone(), written(SECTOR + 100)].concat();
        assert!(journal.len() < 2 * SECTOR + 100 && first.len() < SECTOR);
        journal[first.len()..SECTOR].fill(0);
        assert_eq!(check(&journal), State::Unfinished { valid: first.len() });
    }

    #[test]
    fn the_end_of_a_batch_in_a_payload_is_none() {
        let payload = [b"text ".as_slice(), MAGIC, &[b'x'; 100]].concat();
        let (first, second) = (written(10), with_value(20, &payload));
        let cut = [first.clone(), second[..second.len() - 50].to_vec()].concat();
        assert_eq!(check(&cut), State::Unfinished { valid: first.len() });
    }

    #[test]
    fn only_the_newest_journal_may_be_unfinished() {
        let folder = tempfile::tempdir().unwrap();
        let whole = [written(10), written(20)].concat();
        let cut = &whole[..whole.len() - 1];
        let path = |name: &str| folder.path().join(name);
        fs::write(path("9.jnl"), &whole).unwrap();
        fs::write(path("10.jnl"), cut).unwrap();
        check_all(folder.path(), Durability::Always).unwrap();
        assert_eq!(fs::read(path("10.jnl")).unwrap(), written(10));
        fs::write(path("9.jnl"), cut).unwrap();
        let error = check_all(folder.path(), Durability::Always).unwrap_err();
        assert!(error.contains("9.jnl: it is damaged behind byte"), "{error}");
    }
}
