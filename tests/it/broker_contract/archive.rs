//! The limits of an archive, and the locks of archived jobs.

use super::actions::LATER;
use crate::broker_contract::bench::*;
use rocket_jobqueue::internals::{Acted, Action, ArchiveLimit, ArchiveSettings};

fn small_archive(queue: &QueueName, release_lock: bool) -> ArchiveSettings {
    let mut settings = ArchiveSettings::default();
    settings.queues.insert(queue.clone(), ArchiveLimit { max: 3, age: secs(60) });
    settings.release_lock = release_lock;
    settings
}

#[rstest]
#[tokio::test]
async fn an_archive_keeps_what_its_queues_own_limits_say(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(false, true)] by_the_operator: bool,
) {
    let mut on = store.open().await;
    let limits = small_archive(&on.queue, false);
    on = on.with_archive(limits).await;
    for name in ["a", "b", "c", "d", "e"] {
        on.fill(&[name]).await;
        if by_the_operator {
            assert_eq!(on.act(name, Action::Archive).await, Acted::Done);
        } else {
            on.run(archive()).await;
        }
        on.clock.advance(secs(10));
    }
    assert_eq!(on.size(JobState::Archived).await, 3);
    assert_eq!(on.state("b").await, None);
    assert_eq!(on.broker.trim(&on.queue, 100).await.unwrap(), 0);

    // Archived at 20, 30 and 40; it is 50.
    on.clock.advance(secs(30));
    assert_eq!(on.broker.trim(&on.queue, 100).await.unwrap(), 1);
    assert_eq!(on.state("c").await, None);
    assert!(created(&on.put(on.job("c")).await), "its id is free");
    on.clock.advance(secs(20));
    assert_eq!(on.broker.trim(&on.queue, 1).await.unwrap(), 1, "no more than asked for");
    assert_eq!(on.size(JobState::Archived).await, 1);
}

#[rstest]
#[tokio::test]
async fn a_job_trimmed_from_the_archive_releases_its_own_lock(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let mut on = store.open().await;
    let limits = small_archive(&on.queue, false);
    on = on.with_archive(limits).await;
    assert!(created(&on.put(unique(on.job("a"), LATER)).await));
    on.run(archive()).await;
    let second = async || on.put(unique(on.job("b"), LATER)).await;
    assert_eq!(second().await, Enqueued::Duplicate { holder: id("a") }, "kept in the archive");

    on.clock.advance(secs(60));
    assert_eq!(on.broker.trim(&on.queue, 100).await.unwrap(), 1);

    assert!(created(&second().await));
}

#[rstest]
#[tokio::test]
async fn archiving_releases_the_lock_where_that_is_wanted(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(false, true)] by_the_operator: bool,
) {
    let mut on = store.open().await;
    let limits = small_archive(&on.queue, true);
    on = on.with_archive(limits).await;
    assert!(created(&on.put(unique(on.job("a"), LATER)).await));

    if by_the_operator {
        assert_eq!(on.act("a", Action::Archive).await, Acted::Done);
    } else {
        on.run(archive()).await;
    }

    assert!(created(&on.put(unique(on.job("b"), LATER)).await));
    assert_eq!(on.act("a", Action::Delete).await, Acted::Done);
    let third = on.put(unique(on.job("c"), LATER)).await;
    assert_eq!(third, Enqueued::Duplicate { holder: id("b") }, "b's lock is b's");
}

#[rstest]
#[tokio::test]
async fn a_queue_that_a_worker_announced_first_has_its_own_archive_limits(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let mut on = store.open().await;
    let limits = small_archive(&on.queue, true);
    on = on.with_archive(limits).await;
    let worker = Announcement {
        host: "host".to_owned(),
        pid: 42,
        server_id: "1b671a64-40d5-491e-99b0-da01ff1f3341".to_owned(),
        concurrency: 10,
        queues: [(on.queue.clone(), 1)].into(),
        strict_priority: false,
        status: "active",
        started: START,
        running: Vec::new(),
        details: rocket_jobqueue::inspect::WorkerDetails::default(),
    };
    on.broker.announce(&worker).await.unwrap();

    for name in ["a", "b", "c", "d"] {
        assert!(created(&on.put(unique(on.job(name), LATER)).await), "archiving released the lock");
        on.run(archive()).await;
    }

    assert_eq!(on.size(JobState::Archived).await, 3);
}
