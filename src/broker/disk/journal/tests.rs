use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use super::*;
use crate::broker::disk::{Key, Kind};
use crate::sync::lock;

/// A disk whose next answers a test decides.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Default)]
struct DiskState {
    written: Vec<Vec<u8>>,
    synced: usize,
    is_full: bool,
    is_broken: bool,
    /// Told of a sync that begins, and what it waits for.
    gate: Option<(Sender<()>, Receiver<()>)>,
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
        let gate = lock(&self.0).gate.take();
        if let Some((begun, opened)) = gate {
            begun.send(()).unwrap();
            opened.recv().unwrap();
        }
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

/// A disk whose next sync says that it begins, and ends when it is told to.
fn held(disk: &Disk) -> (Receiver<()>, Sender<()>) {
    let ((begun, wait_for_begin), (open, opened)) = (mpsc::channel(), mpsc::channel());
    lock(&disk.0).gate = Some((begun, opened));
    (wait_for_begin, open)
}

/// Long enough on any host.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn who_needs_no_sync_does_not_wait_for_one() {
    let (journal, disk) = journal(Durability::Always);
    let (begun, open) = held(&disk);
    add(&journal, "delivery");
    // The thread writes it, and then syncs.
    let saved = {
        let journal = Arc::new(journal);
        let (of_caller, (done, saved)) = (Arc::clone(&journal), mpsc::channel());
        std::thread::spawn(move || {
            let answer = run(of_caller.saved(Level::Written));
            done.send(answer).unwrap();
        });
        begun.recv_timeout(LONG).unwrap();
        let saved = saved.recv_timeout(LONG).expect("answered while the sync goes on");
        open.send(()).unwrap();
        saved
    };
    saved.unwrap();
}

#[test]
fn a_caller_does_not_block_while_the_thread_syncs() {
    let (journal, disk) = journal(Durability::EverySecond);
    let (begun, open) = held(&disk);
    add(&journal, "a");
    run(journal.saved(Level::Durable)).unwrap();
    // The sync of each second.
    begun.recv_timeout(LONG).unwrap();
    let (polled, first_poll) = mpsc::channel();
    let caller = std::thread::spawn(move || {
        add(&journal, "b");
        let mut saved = std::pin::pin!(journal.saved(Level::Durable));
        let is_pending = futures_util::FutureExt::now_or_never(saved.as_mut()).is_none();
        polled.send(is_pending).unwrap();
        run(saved)
    });
    let is_pending = first_poll.recv_timeout(LONG).expect("the poll returns during the sync");
    assert!(is_pending);
    open.send(()).unwrap();
    caller.join().unwrap().unwrap();
    assert_eq!(lock(&disk.0).written.len(), 2);
}

/// Runs a future on this thread.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
