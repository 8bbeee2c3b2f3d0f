//! Checks the journals of `fjall` before it opens them.
//!
//! `fjall` ends a journal at the first place that it cannot read, and cuts off the rest. That is
//! right for a write that a crash left unfinished. If a bit has flipped, however, it would silently
//! drop acknowledged jobs behind that place. The two can be told apart: an unfinished write ends
//! the file, or leaves whole sectors of zeros in it; a flipped bit has intact data around it. An
//! unfinished end is cut off with a warning. Damage stops the launch, because only an operator can
//! decide what to do about it.
//!
//! The layout is that of the third format of `fjall`. A batch is a start (tag 1, number of items,
//! sequence number), items (tag 2) and an end (tag 3, checksum of the items, four magic bytes).
//! Numbers are little-endian.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

/// The last bytes of each batch.
const MAGIC: &[u8; 4] = b"FJL\x03";

/// Bytes that a disk writes as a whole: after a crash a sector is there or missing.
const SECTOR: usize = 512;

/// Checks all journals in a folder, and cuts off what a crash left unfinished.
///
/// # Errors
/// A file cannot be read, or is damaged: the text names it and the place.
pub(crate) fn check_all(folder: &Path) -> Result<(), String> {
    for path in journals(folder).map_err(|error| error.to_string())? {
        let told = |error: io::Error| format!("{}: {error}", path.display());
        let bytes = fs::read(&path).map_err(told)?;
        match check(&bytes) {
            State::Whole => {}
            State::Unfinished { valid } => {
                crate::log::warn!(
                    "{}: a write was not finished, so what follows byte {valid} is dropped",
                    path.display()
                );
                let file = fs::OpenOptions::new().write(true).open(&path).map_err(told)?;
                file.set_len(valid as u64).and_then(|()| file.sync_all()).map_err(told)?;
            }
            State::Damaged { valid } => {
                return Err(format!("{}: it is damaged behind byte {valid}", path.display()));
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

/// What a check found. `valid` is the number of bytes before the first place that cannot be read.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Complete batches, and only zeros behind them.
    Whole,
    /// The last writes did not reach the disk completely.
    Unfinished { valid: usize },
    /// Changed by something other than a crash.
    Damaged { valid: usize },
}

/// Reads batch after batch. Behind the last whole one, the rest decides: if no sector is missing in
/// it and a batch ends in it, that is damage; otherwise the last writes were not finished.
fn check(bytes: &[u8]) -> State {
    let (mut valid, mut last_number) = (0, None);
    while let Some((length, number)) = batch(&bytes[valid..]) {
        // The checksum does not cover the sequence number, which decides which of two values of a
        // row is the newer one. Numbers only rise.
        if last_number.is_some_and(|last| number <= last) {
            return State::Damaged { valid };
        }
        (valid, last_number) = (valid + length, Some(number));
    }
    let rest = &bytes[valid..];
    let rest = without_zeros_behind(rest);
    if rest.is_empty() {
        return State::Whole;
    }
    let is_complete = rest.ends_with(MAGIC);
    // Sectors are counted from the beginning of the file.
    let to_sector = (SECTOR - valid % SECTOR) % SECTOR;
    let sectors = rest.get(to_sector..).unwrap_or_default().chunks_exact(SECTOR);
    let lost = sectors.into_iter().any(|sector| sector.iter().all(|byte| *byte == 0));
    let batches = rest.windows(MAGIC.len()).filter(|window| window == MAGIC).count();
    match lost || !is_complete && batches == 0 {
        true => State::Unfinished { valid },
        false => State::Damaged { valid },
    }
}

/// Drops the zeros at the end, in large steps: `fjall` allocates a journal as 64 MiB of zeros.
fn without_zeros_behind(mut bytes: &[u8]) -> &[u8] {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    while let Some(before) = bytes.strip_suffix(&ZEROS) {
        bytes = before;
    }
    bytes.iter().rposition(|byte| *byte != 0).map_or(&[], |last| &bytes[..=last])
}

/// The length in bytes and the sequence number of the batch that begins here; `None` if no complete
/// batch does.
fn batch(bytes: &[u8]) -> Option<(usize, u64)> {
    let mut rest = bytes;
    let mut take = |length: usize| {
        let (head, tail) = rest.split_at_checked(length)?;
        rest = tail;
        Some(head)
    };
    if take(1)? != [1] {
        return None;
    }
    let items = u32::from_le_bytes(take(4)?.try_into().ok()?);
    let number = u64::from_le_bytes(take(8)?.try_into().ok()?);
    let begin = 1 + 4 + 8;
    let mut at = begin;
    for _ in 0..items {
        match take(1)? {
            // Type, compression, keyspace, lengths of key, value and stored value.
            [2] => {
                let head = take(1 + 1 + 8 + 2 + 4 + 4)?;
                let key = u16::from_le_bytes(head[10..12].try_into().ok()?);
                let value = u32::from_le_bytes(head[16..20].try_into().ok()?);
                let length = usize::from(key).checked_add(usize::try_from(value).ok()?)?;
                take(length)?;
                at += 1 + head.len() + length;
            }
            // A keyspace that was emptied.
            [4] => {
                take(8)?;
                at += 1 + 8;
            }
            _ => return None,
        }
    }
    if take(1)? != [3] {
        return None;
    }
    let checksum = u64::from_le_bytes(take(8)?.try_into().ok()?);
    let is_whole = take(MAGIC.len())? == MAGIC && xxh3_64(&bytes[begin..at]) == checksum;
    is_whole.then_some((at + 1 + 8 + MAGIC.len(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch with one value of this length, which is its number too.
    fn written(length: usize) -> Vec<u8> {
        let mut item = vec![2, 0, 0];
        item.extend(1u64.to_le_bytes());
        item.extend(3u16.to_le_bytes());
        item.extend((length as u32).to_le_bytes());
        item.extend((length as u32).to_le_bytes());
        item.extend(b"key");
        item.extend(std::iter::repeat_n(b'x', length));
        let mut bytes = vec![1];
        bytes.extend(1u32.to_le_bytes());
        bytes.extend((length as u64).to_le_bytes());
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
}
