//! A disk that is full, that may only be read, or that gets its space back. The disks are real
//! and small: a test runs again as a process that has mounted one for itself.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rocket_jobqueue::handler::Transition;
use rocket_jobqueue::internals::disk::{self, DiskSettings};
use rocket_jobqueue::internals::{
    ArchiveSettings, Broker, Inspect, MemoryBroker, SettleRequest, Settled,
};
use rocket_jobqueue::settings::Durability;
use rocket_jobqueue::{Clock, Error, NewJob};

use super::{PROMPT, START, files_below, id, job, open, put, queue, try_open};

/// The variable with the folder of the mounted disk.
const DISK: &str = "ROOM_TEST_DISK";

/// The folder of a disk of 24 MB, in a process that this test has started with it. That process
/// runs the same test; in the one that started it this is `None`, once the other has passed.
fn small_disk(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(DISK) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let test = format!("disk::room::{test}");
    let may_mount = |way: &&[&str]| {
        let mounts = ["sh", "-c", "mount -t tmpfs none \"$0\""];
        let mut command = Command::new(way[0]);
        let done = command.args(&way[1..]).args(mounts).arg(folder.path()).output();
        done.is_ok_and(|done| done.status.success())
    };
    let ways: [&[&str]; 3] = [
        &["unshare", "--mount"],
        &["unshare", "--mount", "--user", "--map-root-user"],
        &["sudo", "--non-interactive", "unshare", "--mount"],
    ];
    let way = ways.into_iter().find(may_mount).expect(
        "this test mounts a small disk: run it as root, or allow user namespaces \
         (unshare --user --mount) or sudo without a password",
    );
    let script = "mount -t tmpfs -o size=24m none \"$0\" && export ROOM_TEST_DISK=\"$0\" && \
                  exec \"$1\" --exact \"$2\" --nocapture";
    let mut command = Command::new(way[0]);
    command.args(&way[1..]).args(["sh", "-c", script]).arg(folder.path());
    let done = command.arg(std::env::current_exe().unwrap()).arg(&test).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    None
}

/// Takes what is left of a disk.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![7u8; size]).is_ok() {}
    }
}

async fn large(store: &MemoryBroker, name: &str) -> Result<(), Error> {
    let mut new = job(name);
    new.record.payload = Some(vec![7; 64 << 10]);
    store.enqueue(&[new]).await.map(drop)
}

#[tokio::test]
async fn a_full_disk_refuses_new_jobs_and_settles_running_ones_once_there_is_room() {
    let test = "a_full_disk_refuses_new_jobs_and_settles_running_ones_once_there_is_room";
    let Some(disk) = small_disk(test) else { return };
    for durability in [Durability::Always, Durability::EverySecond] {
        let (path, clock) = (disk.join(format!("{durability:?}")), Clock::manual(START));
        let settings = DiskSettings { path: path.clone(), durability, patience: Duration::ZERO };
        let store = disk::open(&settings, clock.clone(), ArchiveSettings::default()).await.unwrap();
        put(&store, job("running")).await;
        let running = store.dequeue(&[queue()], 1).await.unwrap().deliveries.remove(0);
        let (ballast, rest) = (disk.join("ballast"), disk.join("rest"));
        fs::write(&ballast, vec![7u8; 8 << 20]).unwrap();

        // Until the disk has no room for a job.
        let mut acknowledged = Vec::new();
        let refused = loop {
            let name = format!("job-{}", acknowledged.len());
            match large(&store, &name).await {
                Ok(()) => acknowledged.push(name),
                Err(error) => break error,
            }
        };
        let text = refused.to_string();
        assert!(acknowledged.len() > 50, "{durability:?}: {} jobs", acknowledged.len());
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(refused.is_outcome_unknown() || refused.is_refused(), "{text}");
        // And for nothing else.
        fill(&rest);
        let refused = large(&store, "refused").await.unwrap_err();
        assert!(refused.is_refused(), "known as not stored: {refused}");
        assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");
        let settle = async {
            let done = Transition::Complete { result: None };
            store.settle(&[SettleRequest::from((running, done))]).await
        };
        let room = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            fs::remove_file(&ballast).unwrap();
            fs::remove_file(&rest).unwrap();
        };
        let (settled, ()) = tokio::time::timeout(PROMPT, async { tokio::join!(settle, room) })
            .await
            .expect("there is room again");
        assert_eq!(settled.unwrap(), [Settled::Done]);
        let began = Instant::now();
        while let Err(error) = large(&store, "later").await {
            assert!(began.elapsed() < PROMPT, "there is room, but: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(store);

        let store = open(&path, &clock).await;
        for name in acknowledged.iter().map(String::as_str).chain(["later"]) {
            assert!(store.job(&queue(), &id(name)).await.unwrap().is_some(), "{name} is lost");
        }
        for name in ["running", "refused"] {
            assert!(store.job(&queue(), &id(name)).await.unwrap().is_none(), "{name}");
        }
        drop(store);
        fs::remove_dir_all(&path).unwrap();
    }
}

#[tokio::test]
async fn a_disk_that_may_only_be_read_is_told_and_opens_once_it_may_be_written() {
    let test = "a_disk_that_may_only_be_read_is_told_and_opens_once_it_may_be_written";
    let Some(disk) = small_disk(test) else { return };
    let (path, clock) = (disk.join("jobs"), Clock::manual(START));
    let store = open(&path, &clock).await;
    put(&store, job("kept")).await;
    drop(store);
    let remount = |how: &str| {
        let how = format!("remount,{how}");
        let done = Command::new("mount").args(["-o", &how]).arg(&disk).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    remount("ro");
    for path in [&path, &disk.join("new")] {
        let error = try_open(path, &clock).await.unwrap_err();
        let text = error.to_string();
        assert!(error.is_config(), "{text}");
        for part in [path.to_str().unwrap(), "jobqueue.path", "may write", "Read-only"] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }
    remount("rw");
    let store = open(&path, &clock).await;
    assert!(store.job(&queue(), &id("kept")).await.unwrap().is_some());
}

/// What the files take of the disk.
fn size(path: &Path) -> u64 {
    files_below(path).iter().map(|file| fs::metadata(file).unwrap().blocks() * 512).sum()
}

#[tokio::test]
async fn a_folder_is_small_again_after_many_jobs_came_and_went() {
    const ROUNDS: usize = 200;
    const BATCH: usize = 100;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual(START));
    let store = open(folder.path(), &clock).await;
    let payload = vec![7; 10 << 10];
    for round in 0..ROUNDS {
        let new = |n: usize| {
            let mut new = job(&format!("job-{round}-{n}"));
            new.record.payload = Some(payload.clone());
            new
        };
        let jobs: Vec<NewJob> = (0..BATCH).map(new).collect();
        store.enqueue(&jobs).await.unwrap();
        let deliveries = store.dequeue(&[queue()], BATCH).await.unwrap().deliveries;
        assert_eq!(deliveries.len(), BATCH);
        let done = Transition::Complete { result: None };
        let done: Vec<_> =
            deliveries.into_iter().map(|delivery| (delivery, done.clone()).into()).collect();
        store.settle(&done).await.unwrap();
    }
    drop(store);
    let written = (ROUNDS * BATCH * payload.len()) as u64;
    let left = size(folder.path());
    println!("{} MB of jobs came and went, and {} MB are left", written >> 20, left >> 20);
    assert!(left < 160 << 20 && left < written / 2, "{left} of {written}");
    let store = open(folder.path(), &clock).await;
    assert_eq!(store.queue(&queue()).await.unwrap().size, 0);
}
