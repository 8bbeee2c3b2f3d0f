//! A histogram of durations that is small, adds up exactly, and knows its error.
//!
//! A bucket is 10 % wider than the one before: its bounds are `100 µs · 1.1^(n−1)` and
//! `100 µs · 1.1^n`. So any quantile is off by at most 4.8 % ([`MAX_ERROR`]), whatever the
//! durations, and two histograms add up bucket by bucket, in any order and without further
//! error. The first bucket has everything up to 100 µs, the last one everything from 34 days on.
//!
//! Packed, it is a run of counts from the first bucket with one to the last, all of the same width:
//! some tens of bytes for the durations of a job type, which lie within two or three powers of ten.
//! `src/broker/redis/lua/worker/record_types.lua` adds up the same form, and changes a count
//! without reading the others.

use std::time::Duration;

/// How many buckets there are.
pub(crate) const BUCKETS: usize = 255;

/// The upper bound of the first bucket in seconds.
const SMALLEST: f64 = 1e-4;

/// How much wider each bucket is than the one before.
const GROWTH: f64 = 1.1;

/// The largest relative error of a quantile between 100 µs and 34 days.
pub const MAX_ERROR: f64 = (GROWTH - 1.0) / (GROWTH + 1.0);

/// The upper bound of each bucket in nanoseconds.
const BOUNDS: [u64; BUCKETS] = {
    let (mut bounds, mut bound, mut nth) = ([u64::MAX; BUCKETS], SMALLEST * 1e9, 0);
    while nth < BUCKETS - 1 {
        bounds[nth] = bound as u64;
        bound *= GROWTH;
        nth += 1;
    }
    bounds
};

/// For each power of two the first bucket with durations from that on, in nanoseconds. At most seven
/// buckets lie between two of them.
const FIRST: [u8; 64] = {
    let (mut first, mut power) = ([0; 64], 0);
    while power < 64 {
        let mut bucket = 0;
        while BOUNDS[bucket] < (1_u64 << power) {
            bucket += 1;
        }
        first[power] = bucket as u8;
        power += 1;
    }
    first
};

/// The bucket of a duration. Called for every attempt, so it has no logarithm.
pub(crate) fn bucket_of(length: Duration) -> usize {
    let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
    let Some(power) = nanos.checked_ilog2() else { return 0 };
    let mut bucket = usize::from(FIRST[power as usize]);
    while BOUNDS[bucket] < nanos {
        bucket += 1;
    }
    bucket
}

/// The duration that stands for all of a bucket: no other is nearer to both bounds.
fn duration_of(bucket: usize) -> Duration {
    let seconds = match bucket {
        0 => SMALLEST,
        bucket => SMALLEST * GROWTH.powi(bucket as i32) * 2.0 / (GROWTH + 1.0),
    };
    Duration::from_secs_f64(seconds)
}

/// A histogram of durations.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    /// The bucket of the first count.
    first: usize,
    counts: Vec<u64>,
}

/// By what was counted: empty buckets at the ends do not matter.
impl PartialEq for Sketch {
    fn eq(&self, other: &Self) -> bool {
        self.filled().eq(other.filled())
    }
}

impl Sketch {
    /// Counts a duration.
    pub fn add(&mut self, length: Duration) {
        self.add_to(bucket_of(length), 1);
    }

    /// Counts some durations of one bucket.
    pub(crate) fn add_to(&mut self, bucket: usize, count: u64) {
        if count == 0 {
            return;
        }
        if self.counts.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let missing = self.first - bucket;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = bucket;
        }
        let nth = bucket - self.first;
        if nth >= self.counts.len() {
            self.counts.resize(nth + 1, 0);
        }
        self.counts[nth] = self.counts[nth].saturating_add(count);
    }

    /// Adds everything that another one has counted.
    pub fn merge(&mut self, other: &Self) {
        other.filled().for_each(|(bucket, count)| self.add_to(bucket, count));
    }

    /// The buckets that have a count.
    pub(crate) fn filled(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        (self.first..).zip(self.counts.iter().copied()).filter(|(_, count)| *count > 0)
    }

    /// How many durations it has counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().copied().fold(0, u64::saturating_add)
    }

    /// The duration that a share of all do not exceed, such as 0.95; `None` if it is empty.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all = self.count();
        let rank = ((all as f64 * share).ceil() as u64).clamp(1, all.max(1));
        let mut passed = 0_u64;
        self.filled().find_map(|(bucket, count)| {
            passed = passed.saturating_add(count);
            (passed >= rank).then(|| duration_of(bucket))
        })
    }

    /// Appends the packed form: the number of buckets, and if there are any the first one, the bytes
    /// of a count, and the counts, the lowest byte first.
    pub(super) fn pack(&self, to: &mut Vec<u8>) {
        let (mut used, mut most) = (None, 0);
        for (bucket, count) in self.filled() {
            used = Some(used.map_or((bucket, bucket), |(first, _)| (first, bucket)));
            most = count.max(most);
        }
        let Some((first, last)) = used else { return to.push(0) };
        let width = (most.ilog2() / 8 + 1) as usize;
        // Buckets are fewer than 256.
        to.extend([(last - first + 1) as u8, first as u8, width as u8]);
        for count in &self.counts[first - self.first..=last - self.first] {
            to.extend_from_slice(&count.to_le_bytes()[..width]);
        }
    }

    /// Reads the packed form off the front; `None` if it is something else.
    pub(super) fn unpack(from: &mut &[u8]) -> Option<Self> {
        let (buckets, rest) = from.split_first()?;
        *from = rest;
        let buckets = usize::from(*buckets);
        if buckets == 0 {
            return Some(Self::default());
        }
        let ([first, width], rest) = from.split_first_chunk()?;
        let (first, width) = (usize::from(*first), usize::from(*width));
        if first + buckets > BUCKETS || !(1..=8).contains(&width) {
            return None;
        }
        let (counts, rest) = rest.split_at_checked(buckets * width)?;
        *from = rest;
        let count = |bytes: &[u8]| {
            bytes.iter().rev().fold(0_u64, |count, byte| count << 8 | u64::from(*byte))
        };
        Some(Self { first, counts: counts.chunks(width).map(count).collect() })
    }
}

/// Appends a number: seven bits to a byte, the lowest first.
pub(super) fn put(to: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        to.push((number % 128) as u8 | 128);
        number /= 128;
    }
    to.push(number as u8);
}

/// Reads a number off the front; `None` if there is none, or one beyond what Lua counts exactly.
pub(super) fn take(from: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0_u64, 0);
    loop {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(number);
        }
        shift += 7;
        if shift > 49 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers below an end, by a generator of Knuth's.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % end
        }
    }

    /// The exact quantile of some durations.
    fn exact(sorted: &[Duration], share: f64) -> Duration {
        sorted[((sorted.len() as f64 * share).ceil() as usize).max(1) - 1]
    }

    #[test]
    fn quantiles_are_within_the_stated_error_of_the_exact_ones() {
        const { assert!(MAX_ERROR < 0.048) };
        let mut dice = Dice(17);
        // Powers of ten between which the durations lie, evenly on a logarithmic scale.
        for (low, high) in [(-4.0, -2.0), (-3.0, 1.0), (-4.0, 6.0), (0.0, 0.01), (5.9, 6.0)] {
            for number in [1, 2, 7, 100, 5_000] {
                let mut draw = || {
                    let at = dice.below(1_000_001) as f64 / 1e6;
                    Duration::from_secs_f64(10_f64.powf(low + (high - low) * at) * 1.000_001)
                };
                let mut all: Vec<Duration> = (0..number).map(|_| draw()).collect();
                let mut sketch = Sketch::default();
                all.iter().for_each(|one| sketch.add(*one));
                all.sort();
                for share in [0.0, 0.5, 0.95, 0.99, 1.0] {
                    let (found, exact) = (sketch.quantile(share).unwrap(), exact(&all, share));
                    let off = (found.as_secs_f64() / exact.as_secs_f64() - 1.0).abs();
                    // Bounds are whole nanoseconds.
                    assert!(off <= MAX_ERROR + 2e-5, "{share} of {number}: {found:?} {exact:?}");
                }
            }
        }
        assert_eq!(Sketch::default().quantile(0.5), None);
    }

    #[test]
    fn what_is_too_short_or_too_long_is_counted_at_the_ends() {
        let of = |length: Duration| {
            let mut sketch = Sketch::default();
            sketch.add(length);
            sketch.quantile(0.5).unwrap()
        };
        assert_eq!(of(Duration::ZERO), Duration::from_micros(100));
        assert_eq!(of(Duration::from_nanos(100_000)), Duration::from_micros(100));
        assert!(of(Duration::MAX) > Duration::from_secs(34 * 86_400));
    }

    #[test]
    fn parts_add_up_exactly_and_survive_packing() {
        let mut dice = Dice(3);
        let (mut whole, mut packed) = (Sketch::default(), Vec::new());
        let mut sum = Sketch::default();
        for _ in 0..20 {
            let mut part = Sketch::default();
            for _ in 0..dice.below(300) {
                let length = Duration::from_micros(10_u64.pow(dice.below(10) as u32) * 3);
                whole.add(length);
                part.add(length);
            }
            packed.clear();
            part.pack(&mut packed);
            let mut rest = packed.as_slice();
            let read = Sketch::unpack(&mut rest).unwrap();
            assert_eq!((&read, rest.len()), (&part, 0));
            sum.merge(&read);
        }
        assert_eq!(sum, whole);
    }

    #[test]
    fn bytes_that_are_no_sketch_are_told() {
        for bytes in
            [&[][..], &[1], &[1, 5], &[2, 254, 1, 1, 1], &[255; 20], &[1, 0, 9], &[1, 0, 2, 7]]
        {
            assert_eq!(Sketch::unpack(&mut &*bytes), None, "{bytes:?}");
        }
    }
}
