//! What a process counts of the attempts of one job type, until it is added to the store.
//!
//! An attempt costs three additions to atomic counters and no lock, except that one that failed, or
//! is one of the slowest since the last report, is noted under a mutex. [`Tally::take`] may run at any time: what
//! is counted meanwhile is in this report or in the next one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::job::{
    BUCKETS, JobRecord, MAX_REMEMBERED, Remembered, Sketch, TypeAttempt, TypeRecord, bucket_of,
};
use crate::sync::lock;
use crate::time::Timestamp;

/// Counts of one job type since the last report.
#[derive(Debug)]
pub(crate) struct Tally {
    succeeded: AtomicU64,
    failed: AtomicU64,
    runs: Box<[AtomicU32]>,
    waits: Box<[AtomicU32]>,
    /// An attempt that took no longer, in microseconds, is none of the slowest.
    floor: AtomicU64,
    remembered: Mutex<Attempts>,
}

/// The slowest attempts, and the newest that failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attempts {
    pub(crate) slowest: Vec<TypeAttempt>,
    pub(crate) failed: Vec<TypeAttempt>,
}

impl Default for Tally {
    fn default() -> Self {
        let buckets = || (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        Self {
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            runs: buckets(),
            waits: buckets(),
            floor: AtomicU64::new(0),
            remembered: Mutex::default(),
        }
    }
}

/// An attempt that ended.
pub(crate) struct EndedAttempt<'a> {
    pub(crate) job: &'a JobRecord,
    /// From being ready until the start, if known.
    pub(crate) waited: Option<Duration>,
    pub(crate) ran: Duration,
    pub(crate) failed: bool,
    /// When it began.
    pub(crate) began: Timestamp,
}

impl Tally {
    /// Counts an attempt.
    pub(crate) fn count(&self, ended: &EndedAttempt<'_>) {
        self.runs[bucket_of(ended.ran)].fetch_add(1, Ordering::Relaxed);
        if let Some(waited) = ended.waited {
            self.waits[bucket_of(waited)].fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(ended.ran.as_micros()).unwrap_or(u64::MAX);
        if ended.failed || micros > self.floor.load(Ordering::Relaxed) {
            self.remember(ended);
        }
        // Last: a report looks here whether there is anything.
        let counter = if ended.failed { &self.failed } else { &self.succeeded };
        counter.fetch_add(1, Ordering::Release);
    }

    fn remember(&self, ended: &EndedAttempt<'_>) {
        let EndedAttempt { job, ran, failed, began, .. } = *ended;
        let attempt = TypeAttempt::new(ran, began + ran, failed, job.queue.clone(), job.id.clone());
        let mut all = lock(&self.remembered);
        if failed {
            Remembered::Failed.keep(&mut all.failed, [attempt.clone()]);
        }
        Remembered::Slowest.keep(&mut all.slowest, [attempt]);
        if let (MAX_REMEMBERED, Some(last)) = (all.slowest.len(), all.slowest.last()) {
            let micros = u64::try_from(last.ran.as_micros()).unwrap_or(u64::MAX);
            self.floor.store(micros, Ordering::Relaxed);
        }
    }

    /// Takes what was counted since the last time; `None` if nothing was.
    pub(crate) fn take(&self) -> Option<(TypeRecord, Attempts)> {
        let succeeded = self.succeeded.swap(0, Ordering::Acquire);
        let failed = self.failed.swap(0, Ordering::Acquire);
        if succeeded == 0 && failed == 0 {
            return None;
        }
        let sketch = |buckets: &[AtomicU32]| {
            let mut sketch = Sketch::default();
            for (bucket, count) in buckets.iter().enumerate() {
                if count.load(Ordering::Relaxed) > 0 {
                    sketch.add_to(bucket, count.swap(0, Ordering::Relaxed).into());
                }
            }
            sketch
        };
        let (runs, waits) = (sketch(&self.runs), sketch(&self.waits));
        self.floor.store(0, Ordering::Relaxed);
        let remembered = std::mem::take(&mut *lock(&self.remembered));
        Some((TypeRecord { succeeded, failed, runs, waits }, remembered))
    }

    /// Puts back what could not be reported.
    pub(crate) fn put_back(&self, record: &TypeRecord, remembered: Attempts) {
        for (sketch, buckets) in [(&record.runs, &self.runs), (&record.waits, &self.waits)] {
            for (bucket, count) in sketch.filled() {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                buckets[bucket].fetch_add(count, Ordering::Relaxed);
            }
        }
        let mut all = lock(&self.remembered);
        Remembered::Slowest.keep(&mut all.slowest, remembered.slowest);
        Remembered::Failed.keep(&mut all.failed, remembered.failed);
        drop(all);
        self.succeeded.fetch_add(record.succeeded, Ordering::Release);
        self.failed.fetch_add(record.failed, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::QueueName;

    fn count(tally: &Tally, ran: u64, failed: bool) {
        let job = JobRecord::new("t", None, QueueName::stored("q"));
        let (ran, began) = (Duration::from_millis(ran), Timestamp::from_secs(7));
        let waited = Some(Duration::from_secs(1));
        tally.count(&EndedAttempt { job: &job, waited, ran, failed, began });
    }

    #[test]
    fn a_report_has_what_was_counted_since_the_last_one() {
        let tally = Tally::default();
        assert!(tally.take().is_none());
        for ran in 1..=9 {
            count(&tally, ran, ran > 7);
        }
        let (record, remembered) = tally.take().unwrap();
        assert_eq!((record.succeeded, record.failed), (7, 2));
        assert_eq!((record.runs.count(), record.waits.count()), (9, 9));
        let millis =
            |all: &[TypeAttempt]| all.iter().map(|one| one.ran.as_millis()).collect::<Vec<_>>();
        assert_eq!(millis(&remembered.slowest), [9, 8, 7, 6, 5]);
        assert_eq!(millis(&remembered.failed), [8, 9]);
        assert!(tally.take().is_none());
        // A report that failed goes with the next one.
        count(&tally, 100, false);
        tally.put_back(&record, remembered);
        let (both, remembered) = tally.take().unwrap();
        assert_eq!((both.succeeded, both.failed, both.runs.count()), (8, 2, 10));
        assert_eq!(millis(&remembered.slowest), [100, 9, 8, 7, 6]);
    }

    #[test]
    fn no_attempt_is_lost_to_reports_at_the_same_time() {
        let tally = Tally::default();
        let mut sum = TypeRecord::default();
        std::thread::scope(|threads| {
            let counting: Vec<_> = (0..2)
                .map(|_| threads.spawn(|| (0..5_000).for_each(|n| count(&tally, n, false))))
                .collect();
            while !counting.iter().all(|one| one.is_finished()) {
                tally.take().iter().for_each(|(record, _)| sum.merge(record));
            }
        });
        tally.take().iter().for_each(|(record, _)| sum.merge(record));
        assert_eq!((sum.succeeded, sum.runs.count(), sum.waits.count()), (10_000, 10_000, 10_000));
    }
}
