//! Group commit: callers add rows under the store's lock, and wait outside of it until a
//! batch with their rows is durable.
//!
//! Rows reach the disk in the order of the changes, because they are added while the store is
//! locked. One batch is written at a time; what is added meanwhile leaves with the next one,
//! so all concurrent callers share one sync. The first caller writes, and with
//! [`Durability::Always`] syncs, for all that came with it: handing over to a thread would cost
//! about half of what a fast disk takes. What is added meanwhile is written by the thread
//! `jobqueue-disk`. If the disk turns slow, the thread does all of it, so that no thread of the
//! application waits for a busy disk. With [`Durability::EverySecond`] it syncs each second.
//!
//! A failed write or sync closes the journal for good: what the disk holds is then unknown,
//! and only opening it again finds out. A full disk is no failure: the batch is kept and
//! tried again, and meanwhile no new job is accepted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Rows;
use crate::error::Error;
use crate::sync::{lock, wait_timeout};

/// When a change counts as stored: `jobqueue.durability`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Once it is synced to the disk, before the answer. Survives the loss of power.
    #[default]
    Always,
    /// Once the operating system has it; it is synced each second. Survives the end of the
    /// process, however it comes. A loss of power may cost the last second.
    EverySecond,
}

impl Durability {
    fn slow_batch(self) -> Duration {
        match self {
            Durability::Always => SLOW_SYNC,
            Durability::EverySecond => SLOW_WRITE,
        }
    }

    fn max_led_batches(self) -> usize {
        match self {
            Durability::Always => MAX_SYNCED_BATCHES,
            Durability::EverySecond => MAX_LED_BATCHES,
        }
    }
}

/// What rows are written to.
pub(crate) trait Storage: Send {
    /// Writes the rows, all or none of them.
    fn write(&mut self, rows: &Rows) -> Result<(), StorageError>;

    /// Makes everything written survive the loss of power.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Looks after the storage, about once a second; the reason if it has too little room
    /// for new jobs.
    fn tend(&mut self) -> Option<String>;
}

/// Why rows were not written.
#[derive(Debug)]
pub(crate) enum StorageError {
    /// There is no room. The same rows may be written later.
    #[cfg_attr(
        not(any(feature = "disk", test)),
        expect(dead_code, reason = "only a disk has no room")
    )]
    Full(String),
    /// Anything else: what the disk holds is unknown.
    Failed(String),
}

/// How safe a change has to be before its caller goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The operating system has it: it survives the end of this process.
    Written,
    /// As safe as [`Durability`] says.
    Durable,
    /// The same for new jobs, which do not wait for room.
    NewJobs,
}

/// A batch that takes longer is written by the thread from then on. Beside this, handing over
/// costs little.
const SLOW_WRITE: Duration = Duration::from_millis(2);

/// The same with a sync.
const SLOW_SYNC: Duration = Duration::from_micros(500);

/// Batches that one caller writes before the thread goes on.
const MAX_LED_BATCHES: usize = 8;

/// The same if each of them is synced: a caller syncs for itself.
const MAX_SYNCED_BATCHES: usize = 1;

/// Interval between two syncs, between two tries while the disk is full, and between two
/// looks at its room.
const TICK: Duration = Duration::from_secs(1);

/// The way from the store in memory to the disk.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    durability: Durability,
    /// What is to be written. Never held while writing.
    queue: Mutex<Pending>,
    /// Notified when the thread has something to do.
    wake: Condvar,
    /// Held by the one who writes.
    storage: Mutex<Box<dyn Storage>>,
    /// Whether the thread writes because the disk is slow.
    slow: AtomicBool,
}

#[derive(Default)]
struct Pending {
    /// Rows that no batch has yet. They will be the batch behind `taken`.
    rows: Rows,
    /// Callers whose rows those are.
    waiters: Vec<Waiter>,
    /// Callers who wait for batches up to `taken`.
    under_way: Vec<Waiter>,
    /// The number of the last batch: it is written, or is being written, or is stuck.
    taken: u64,
    /// The last batch that the operating system has.
    written: u64,
    /// The last batch that is as safe as [`Durability`] says.
    safe: u64,
    /// Whether somebody writes, who looks for more rows before it stops.
    writing: bool,
    /// A batch for which there was no room.
    stuck: Option<Rows>,
    /// An empty buffer for the next batch.
    spare: Rows,
    /// Whether something was written since the last sync.
    unsynced: bool,
    /// Whether the thread is to write what there is.
    called: bool,
    /// Why no new job is accepted now.
    full: Option<String>,
    /// Why nothing is accepted any more.
    failed: Option<String>,
    /// Whether the journal is closed.
    closed: bool,
}

struct Waiter {
    level: Level,
    done: oneshot::Sender<Result<(), Error>>,
}

/// Who writes. When it stops, the thread is called if there is more.
struct Turn<'a>(&'a Shared);

impl Journal {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub(crate) fn start(storage: Box<dyn Storage>, durability: Durability) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            durability,
            queue: Mutex::default(),
            wake: Condvar::new(),
            storage: Mutex::new(storage),
            slow: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("jobqueue-disk".to_owned())
            .spawn(move || of_thread.run())
            .map_err(|error| Error::config("a thread cannot be started").caused_by(error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Adds rows to the next batch. The store is locked meanwhile, which keeps the order.
    pub(crate) fn add(&self, write: impl FnOnce(&mut Rows)) {
        let mut queue = self.shared.queue();
        write(&mut queue.rows);
        if queue.failed.is_some() {
            queue.rows.clear();
        }
    }

    /// Whether changes are accepted.
    ///
    /// # Errors
    /// The journal has failed; for new jobs also if there is too little room.
    pub(crate) fn accepts(&self, level: Level) -> Result<(), Error> {
        self.shared.queue().accepts(level)
    }

    /// Waits until everything that was added before is as safe as the level says.
    ///
    /// # Errors
    /// It could not be written, or there is no room for new jobs now.
    pub(crate) async fn saved(&self, level: Level) -> Result<(), Error> {
        let batch = {
            let queue = self.shared.queue();
            // Its rows may have been dropped, and then no batch has them.
            if let Some(reason) = &queue.failed {
                return Err(lost(reason));
            }
            queue.last_batch()
        };
        // A caller that needs no sync does not sync for others.
        let syncs_for_others =
            self.shared.durability == Durability::Always && level == Level::Written;
        if !syncs_for_others && !self.shared.slow.load(Ordering::Relaxed) {
            self.shared.lead(level, batch);
        }
        let answer = {
            let mut queue = self.shared.queue();
            if let Some(known) = queue.known(level, batch) {
                return known;
            }
            let (done, answer) = oneshot::channel();
            let is_taken = batch <= queue.taken;
            let waiters = if is_taken { &mut queue.under_way } else { &mut queue.waiters };
            waiters.push(Waiter { level, done });
            if !is_taken && !queue.writing && queue.stuck.is_none() {
                self.shared.call(&mut queue);
            }
            answer
        };
        // Only a panic of the writer loses the other end.
        answer.await.unwrap_or_else(|_| Err(lost("its writer has ended")))
    }
}

impl Drop for Journal {
    /// Writes and syncs what is left, and ends the thread.
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn closed(reason: &str) -> Error {
    Error::unavailable(format!(
        "the store on disk is closed, because it could not be written: {reason}; restart the \
         process once the disk works"
    ))
}

/// For a change that was added before the journal was closed: a start may find it.
fn lost(reason: &str) -> Error {
    Error::outcome_unknown(format!(
        "the store on disk was closed before this was confirmed: {reason}; restart the process \
         once the disk works"
    ))
}

fn unconfirmed(reason: &str) -> Error {
    Error::outcome_unknown(format!("this is not stored yet: {reason}"))
}

impl Pending {
    /// The next batch and its number: the stuck one first.
    fn take_batch(&mut self) -> Option<(Rows, u64)> {
        if self.failed.is_some() {
            return None;
        }
        if let Some(stuck) = self.stuck.take() {
            return Some((stuck, self.taken));
        }
        if self.rows.is_empty() {
            return None;
        }
        let (spare, waiters) = (std::mem::take(&mut self.spare), std::mem::take(&mut self.waiters));
        self.under_way.extend(waiters);
        self.taken += 1;
        Some((std::mem::replace(&mut self.rows, spare), self.taken))
    }

    fn accepts(&self, level: Level) -> Result<(), Error> {
        match (&self.failed, &self.full) {
            (Some(reason), _) => Err(closed(reason)),
            (None, Some(reason)) if level == Level::NewJobs => Err(Error::refused(reason.clone())),
            (None, _) => Ok(()),
        }
    }

    /// The batch with everything that was added before.
    fn last_batch(&self) -> u64 {
        self.taken + u64::from(!self.rows.is_empty())
    }

    /// What is known about a batch already.
    fn known(&self, level: Level, batch: u64) -> Option<Result<(), Error>> {
        let reached = if level == Level::Written { self.written } else { self.safe };
        if batch <= reached {
            return Some(Ok(()));
        }
        if let Some(reason) = &self.failed {
            return Some(Err(lost(reason)));
        }
        let waits_for_room = self.stuck.is_some() && level == Level::NewJobs;
        waits_for_room.then(|| Err(unconfirmed(self.full.as_deref().unwrap_or_default())))
    }

    /// The waiters for the batches up to the last one that this concerns.
    fn waiting(&mut self, concerns: impl Fn(Level) -> bool) -> Vec<Waiter> {
        self.under_way.extract_if(.., |waiter| concerns(waiter.level)).collect()
    }
}

fn answer(waiters: Vec<Waiter>, answer: &Result<(), Error>) {
    for waiter in waiters {
        // A caller that has gone needs no answer.
        let _ = waiter.done.send(answer.clone());
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.writing = false;
        if !queue.rows.is_empty() && queue.stuck.is_none() {
            self.0.call(&mut queue);
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Pending> {
        lock(&self.queue)
    }

    /// Lets the thread write.
    fn call(&self, queue: &mut Pending) {
        queue.called = true;
        self.wake.notify_one();
    }

    /// The right to write, unless somebody has it, or there is no room.
    fn turn(&self) -> Option<Turn<'_>> {
        let mut queue = self.queue();
        if queue.writing || queue.stuck.is_some() {
            return None;
        }
        queue.writing = true;
        Some(Turn(self))
    }

    /// Writes for a caller who waits for this batch, and for those who came with it.
    fn lead(&self, level: Level, batch: u64) {
        if self.queue().known(level, batch).is_some() {
            return;
        }
        let Some(_turn) = self.turn() else { return };
        let mut storage = match self.storage.try_lock() {
            Ok(storage) => storage,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The thread syncs. It is called as the turn ends.
            Err(TryLockError::WouldBlock) => return,
        };
        for _ in 0..self.durability.max_led_batches() {
            if !self.write_batch(&mut **storage) || self.slow.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Writes one batch; false if there was none, or if it could not be written.
    fn write_batch(&self, storage: &mut dyn Storage) -> bool {
        let Some((rows, batch)) = self.queue().take_batch() else { return false };
        let began = Instant::now();
        let mut written = storage.write(&rows);
        if written.is_ok() && self.durability == Durability::Always {
            let mut queue = self.queue();
            queue.written = batch;
            let waiters = queue.waiting(|level| level == Level::Written);
            drop(queue);
            answer(waiters, &Ok(()));
            // Writing again would not bring back what a failed sync lost.
            written = storage.sync().map_err(
                |(StorageError::Full(text) | StorageError::Failed(text))| {
                    StorageError::Failed(text)
                },
            );
        }
        self.slow.store(began.elapsed() > self.durability.slow_batch(), Ordering::Relaxed);
        self.conclude(rows, batch, written)
    }

    /// Says what became of a batch; whether it is safe.
    fn conclude(&self, mut rows: Rows, batch: u64, written: Result<(), StorageError>) -> bool {
        let mut queue = self.queue();
        match written {
            Ok(()) => {
                queue.unsynced = self.durability == Durability::EverySecond;
                (queue.written, queue.safe) = (batch, batch);
                let waiters = std::mem::take(&mut queue.under_way);
                rows.clear();
                queue.spare = rows;
                drop(queue);
                answer(waiters, &Ok(()));
                true
            }
            Err(StorageError::Full(reason)) => {
                crate::log::error!("{reason}; no new job is accepted until there is room");
                let mut waiters = queue.waiting(|level| level == Level::NewJobs);
                waiters
                    .extend(queue.waiters.extract_if(.., |waiter| waiter.level == Level::NewJobs));
                // The others wait for room: their changes are kept.
                answer(waiters, &Err(unconfirmed(&reason)));
                queue.full = Some(reason);
                queue.stuck = Some(rows);
                false
            }
            Err(StorageError::Failed(reason)) => {
                fail(&mut queue, reason);
                false
            }
        }
    }

    /// What the thread does.
    fn run(&self) {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let is_closed = {
                let mut queue = self.queue();
                while !queue.called && !queue.closed {
                    let Some(left) = next_tick.checked_duration_since(Instant::now()) else {
                        break;
                    };
                    queue = wait_timeout(&self.wake, queue, left);
                }
                queue.called = false;
                queue.closed
            };
            let is_due = next_tick <= Instant::now();
            let turn = self.turn();
            if turn.is_none() && !is_due && !is_closed {
                // The one who writes calls again.
                continue;
            }
            let mut storage = lock(&self.storage);
            while self.write_batch(&mut **storage) {}
            drop(turn);
            if is_due || is_closed {
                next_tick = Instant::now() + TICK;
                self.sync(&mut **storage);
                self.look_for_room(&mut **storage);
            }
            if is_closed {
                return;
            }
        }
    }

    /// The sync of each second.
    fn sync(&self, storage: &mut dyn Storage) {
        if !std::mem::take(&mut self.queue().unsynced) {
            return;
        }
        if let Err(StorageError::Full(reason) | StorageError::Failed(reason)) = storage.sync() {
            fail(&mut self.queue(), reason);
        }
    }

    /// Accepts new jobs while there is room.
    fn look_for_room(&self, storage: &mut dyn Storage) {
        let full = storage.tend();
        let mut queue = self.queue();
        if queue.stuck.is_some() || queue.failed.is_some() {
            return;
        }
        match (&queue.full, &full) {
            (None, Some(reason)) => crate::log::error!("{reason}; no new job is accepted"),
            (Some(_), None) => crate::log::info!("the disk has room: jobs are accepted again"),
            _ => {}
        }
        queue.full = full;
    }
}

/// Closes the journal for good.
fn fail(queue: &mut Pending, reason: String) {
    crate::log::error!("the store on disk is closed, because it could not be written: {reason}");
    let waiters = std::mem::take(&mut queue.waiters);
    queue.under_way.extend(waiters);
    answer(std::mem::take(&mut queue.under_way), &Err(lost(&reason)));
    queue.rows.clear();
    queue.failed = Some(reason);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::disk::{Key, Kind};

    /// A disk whose next answers a test decides.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<DiskState>>);

    #[derive(Default)]
    struct DiskState {
        written: Vec<Vec<u8>>,
        synced: usize,
        is_full: bool,
        is_broken: bool,
    }

    impl Storage for Disk {
        fn write(&mut self, rows: &Rows) -> Result<(), StorageError> {
            let mut disk = lock(&self.0);
            if disk.is_full {
                return Err(StorageError::Full("no space left".to_owned()));
            }
            disk.written.extend(rows.iter().map(|(key, _)| key.to_vec()));
            Ok(())
        }

        fn sync(&mut self) -> Result<(), StorageError> {
            let mut disk = lock(&self.0);
            if disk.is_broken {
                return Err(StorageError::Failed("input/output error".to_owned()));
            }
            disk.synced = disk.written.len();
            Ok(())
        }

        fn tend(&mut self) -> Option<String> {
            lock(&self.0).is_full.then(|| "no space left".to_owned())
        }
    }

    fn journal(durability: Durability) -> (Journal, Disk) {
        let disk = Disk::default();
        (Journal::start(Box::new(disk.clone()), durability).unwrap(), disk)
    }

    fn add(journal: &Journal, name: &str) {
        journal.add(|rows| rows.delete(Key::store(Kind::Store, name.as_bytes())));
    }

    #[tokio::test]
    async fn an_answer_comes_after_the_sync_and_rows_stay_in_order() {
        let (journal, disk) = journal(Durability::Always);
        let names: Vec<String> = (0..100).map(|n| format!("{n:03}")).collect();
        let saves = names.iter().map(|name| {
            add(&journal, name);
            journal.saved(Level::Durable)
        });
        for saved in futures_util::future::join_all(saves).await {
            saved.unwrap();
        }
        let disk = lock(&disk.0);
        assert_eq!((disk.synced, disk.written.len()), (100, 100));
        assert!(disk.written.is_sorted());
    }

    #[tokio::test]
    async fn a_failed_sync_closes_the_journal() {
        let (journal, disk) = journal(Durability::Always);
        lock(&disk.0).is_broken = true;
        add(&journal, "a");
        let error = journal.saved(Level::Durable).await.unwrap_err();
        // It was written: a start may find it.
        assert!(error.is_outcome_unknown() && error.to_string().contains("closed"), "{error}");
        // For good, though the disk works again.
        lock(&disk.0).is_broken = false;
        for level in [Level::Written, Level::Durable, Level::NewJobs] {
            assert!(journal.accepts(level).is_err());
            add(&journal, "b");
            assert!(journal.saved(level).await.is_err());
        }
        drop(journal);
        assert_eq!(lock(&disk.0).written.len(), 1);
    }

    #[tokio::test]
    async fn a_full_disk_refuses_new_jobs_and_settles_the_others_once_there_is_room() {
        for durability in [Durability::Always, Durability::EverySecond] {
            let (journal, disk) = journal(durability);
            lock(&disk.0).is_full = true;
            add(&journal, "job");
            let error = journal.saved(Level::NewJobs).await.unwrap_err();
            assert!(error.is_outcome_unknown(), "{error}");
            let error = journal.accepts(Level::NewJobs).unwrap_err();
            assert!(error.to_string().contains("no space left"), "{error}");
            journal.accepts(Level::Durable).unwrap();
            add(&journal, "settled");
            let settled = journal.saved(Level::Durable);
            let room = async {
                tokio::task::yield_now().await;
                lock(&disk.0).is_full = false;
            };
            let (settled, ()) = tokio::join!(settled, room);
            settled.unwrap();
            assert_eq!(lock(&disk.0).written.len(), 2, "in order, nothing twice");
            while journal.accepts(Level::NewJobs).is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
