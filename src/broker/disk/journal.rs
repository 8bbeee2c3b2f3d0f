//! Group commit: callers add rows under the store's lock, and wait outside of it until a
//! batch with their rows is durable.
//!
//! Rows reach the disk in the order of the changes, because they are added while the store is
//! locked. One batch is written at a time; what is added meanwhile leaves with the next one,
//! so all concurrent callers share one sync. With [`Durability::Always`] the thread
//! `jobqueue-disk` writes and syncs. With [`Durability::EverySecond`] an answer only has to
//! survive the process, so the first caller writes for all that came with it, and the thread
//! syncs each second; if writing turns slow, the thread writes too.
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

/// A batch that takes longer is written by the thread from then on, so that no thread of the
/// application waits for a busy disk.
const SLOW_WRITE: Duration = Duration::from_millis(2);

/// Batches that one caller writes for others before the thread goes on.
const MAX_LED_BATCHES: usize = 8;

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
    /// Rows that no batch has yet.
    rows: Rows,
    /// Callers whose rows those are.
    waiters: Vec<Waiter>,
    /// Callers whose rows are being written.
    under_way: Vec<Waiter>,
    /// Whether a batch is being written, and whether only its sync is missing.
    stage: Stage,
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

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Writing,
    Syncing,
}

struct Waiter {
    level: Level,
    done: oneshot::Sender<Result<(), Error>>,
}

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
        if self.shared.durability == Durability::EverySecond
            && !self.shared.slow.load(Ordering::Relaxed)
        {
            self.shared.lead();
        }
        let answer = {
            let mut queue = self.shared.queue();
            if let Some(reason) = &queue.failed {
                return Err(closed(reason));
            }
            let idle = queue.rows.is_empty() && queue.stuck.is_none();
            match queue.stage {
                Stage::Idle if idle => return Ok(()),
                Stage::Syncing if idle && level == Level::Written => return Ok(()),
                Stage::Idle | Stage::Writing | Stage::Syncing => {}
            }
            let (done, answer) = oneshot::channel();
            let waiter = Waiter { level, done };
            if queue.stuck.is_some() {
                if level == Level::NewJobs {
                    return Err(unconfirmed(queue.full.as_deref().unwrap_or_default()));
                }
                queue.waiters.push(waiter);
            } else if !queue.rows.is_empty() {
                queue.waiters.push(waiter);
                queue.called = true;
                self.shared.wake.notify_one();
            } else {
                queue.under_way.push(waiter);
            }
            answer
        };
        // Only a panic of the writer loses the other end.
        answer.await.unwrap_or_else(|_| Err(closed("its writer has ended")))
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

fn unconfirmed(reason: &str) -> Error {
    Error::outcome_unknown(format!("the job is not stored yet: {reason}"))
}

impl Pending {
    fn accepts(&self, level: Level) -> Result<(), Error> {
        match (&self.failed, &self.full) {
            (Some(reason), _) => Err(closed(reason)),
            (None, Some(reason)) if level == Level::NewJobs => Err(Error::refused(reason.clone())),
            (None, _) => Ok(()),
        }
    }

    /// Answers the waiters of the batch under way that this concerns.
    fn answer(&mut self, answer: &Result<(), Error>, concerns: impl Fn(Level) -> bool) {
        for waiter in self.under_way.extract_if(.., |waiter| concerns(waiter.level)) {
            // A caller that has gone needs no answer.
            let _ = waiter.done.send(answer.clone());
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Pending> {
        lock(&self.queue)
    }

    /// Writes what there is, unless another caller does already.
    fn lead(&self) {
        for _ in 0..MAX_LED_BATCHES {
            let mut storage = match self.storage.try_lock() {
                Ok(storage) => storage,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // The one who writes looks again before it leaves.
                Err(TryLockError::WouldBlock) => return,
            };
            if self.queue().stuck.is_some() {
                return;
            }
            while self.write_batch(&mut **storage) {
                if self.slow.load(Ordering::Relaxed) {
                    break;
                }
            }
            drop(storage);
            if self.queue().rows.is_empty() {
                return;
            }
        }
        self.queue().called = true;
        self.wake.notify_one();
    }

    /// Writes one batch; false if there was none, or if it could not be written.
    fn write_batch(&self, storage: &mut dyn Storage) -> bool {
        let mut rows = {
            let mut queue = self.queue();
            if queue.failed.is_some() {
                return false;
            }
            let stuck = queue.stuck.take();
            if stuck.is_none() && queue.rows.is_empty() {
                return false;
            }
            queue.stage = Stage::Writing;
            stuck.unwrap_or_else(|| {
                let spare = std::mem::take(&mut queue.spare);
                let waiters = std::mem::take(&mut queue.waiters);
                queue.under_way.extend(waiters);
                std::mem::replace(&mut queue.rows, spare)
            })
        };
        let began = Instant::now();
        let written = storage.write(&rows);
        self.slow.store(began.elapsed() > SLOW_WRITE, Ordering::Relaxed);
        let synced = match written {
            Ok(()) if self.durability == Durability::Always => {
                let mut queue = self.queue();
                queue.stage = Stage::Syncing;
                queue.answer(&Ok(()), |level| level == Level::Written);
                drop(queue);
                // Writing again would not bring back what a failed sync lost.
                storage.sync().map_err(|(StorageError::Full(text) | StorageError::Failed(text))| {
                    StorageError::Failed(text)
                })
            }
            other => other,
        };
        let mut queue = self.queue();
        queue.stage = Stage::Idle;
        match synced {
            Ok(()) => {
                queue.unsynced = self.durability == Durability::EverySecond;
                queue.answer(&Ok(()), |_| true);
                rows.clear();
                queue.spare = rows;
                true
            }
            Err(StorageError::Full(reason)) => {
                crate::log::error!("{reason}; no new job is accepted until there is room");
                let later = queue.waiters.extract_if(.., |waiter| waiter.level == Level::NewJobs);
                let later: Vec<_> = later.collect();
                queue.under_way.extend(later);
                queue.answer(&Err(unconfirmed(&reason)), |level| level == Level::NewJobs);
                // The others wait for room: their changes are kept.
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
            let mut storage = lock(&self.storage);
            let is_due = next_tick <= Instant::now();
            if is_due || is_closed || self.queue().stuck.is_none() {
                while self.write_batch(&mut **storage) {}
            }
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
    queue.answer(&Err(closed(&reason)), |_| true);
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
        assert!(error.is_unavailable() && error.to_string().contains("closed"), "{error}");
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
