//! What the inspector reads.

use rocket_jobqueue::inspect::Page;
use rocket_jobqueue::internals::JobList;

use crate::broker_contract::bench::*;

#[rstest]
#[tokio::test]
async fn the_sizes_of_a_queue_have_every_state(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let later = |name| on.job(name).placed(Placement::After(secs(60)));
    on.broker.enqueue(&[later("s1"), later("s2"), later("s3")]).await.unwrap();
    on.put(on.kept("c", secs(60))).await;
    on.run(done()).await;
    on.fill(&["r", "x", "y", "act", "p1", "p2"]).await;
    on.run(retry(secs(60))).await;
    on.run(archive()).await;
    on.run(archive()).await;
    on.take().await;

    let sizes: Vec<_> = on.info().await.sizes.into_iter().collect();

    assert_eq!(
        sizes,
        [
            ("active", 1),
            ("aggregating", 0),
            ("archived", 2),
            ("completed", 1),
            ("pending", 2),
            ("retry", 1),
            ("scheduled", 3),
        ]
    );
}

#[rstest]
#[tokio::test]
async fn counters_of_the_day_begin_anew_at_midnight_utc(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    let counters = async || {
        let info = on.info().await;
        [info.processed, info.failed, info.processed_today, info.failed_today]
    };
    on.run(done()).await;
    on.run(archive()).await;
    on.clock.advance(secs(16 * 3600) - MICRO);
    assert_eq!(counters().await, [2, 1, 2, 1]);

    on.clock.advance(MICRO);

    assert_eq!(counters().await, [2, 1, 0, 0]);
    on.run(done()).await;
    assert_eq!(counters().await, [3, 1, 1, 0]);
}

#[rstest]
#[tokio::test]
async fn a_queue_that_was_never_used_does_not_exist(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert!(on.take_many(1).await.is_empty());

    let error = on.broker.queue(&on.queue).await.unwrap_err();

    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(error.to_string(), format!("queue \"{}\" does not exist", on.queue));
    assert_eq!(on.find("a").await, None);
    assert!(!on.broker.queues().await.unwrap().contains(&on.queue));
    on.fill(&["a"]).await;
    assert_eq!(on.find("b").await, None);
}

#[rstest]
#[tokio::test]
async fn what_happens_in_one_queue_leaves_another_alone(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    assert!(created(&on.put(unique(on.kept("a", secs(9)), secs(60))).await));
    assert!(created(&other.put(unique(other.kept("a", secs(9)), secs(60))).await));
    let before = (other.see("a").await, other.info().await);

    on.pause(true).await;
    on.pause(false).await;
    on.run(done()).await;
    on.clock.advance(secs(9));
    on.forward().await;
    on.delete_expired().await;

    assert_eq!(on.find("a").await, None);
    let mut now = (other.see("a").await, other.info().await);
    // It waits, and nothing else.
    assert_eq!(std::mem::replace(&mut now.1.latency, before.1.latency), secs(9));
    assert_eq!(now, before);
    let queues: BTreeSet<_> = on.broker.queues().await.unwrap().into_iter().collect();
    assert!(queues.contains(&on.queue) && queues.contains(&other.queue));
}

#[rstest]
#[tokio::test]
async fn the_latency_is_how_long_the_next_job_has_been_pending(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.clock.advance(Duration::from_millis(1500));
    on.fill(&["b"]).await;
    let latency = async || {
        let info = on.info().await;
        (info.pending_since, info.latency)
    };
    assert_eq!(latency().await, (Some(START), Duration::from_millis(1500)));

    on.take().await;
    assert_eq!(latency().await, (Some(START + Duration::from_millis(1500)), Duration::ZERO));
    on.run(retry(secs(10))).await;
    assert_eq!(latency().await, (None, Duration::ZERO));
    on.clock.advance(secs(20));
    on.forward().await;
    on.clock.advance(secs(1));

    // Since it was due, however late it was seen.
    assert_eq!(latency().await, (Some(on.clock.now() - secs(11)), secs(11)));
}

#[rstest]
#[tokio::test]
async fn a_paused_queue_says_since_when(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.clock.advance(secs(5) + MICRO);
    assert!(on.pause(true).await);
    on.clock.advance(secs(5));
    assert!(!on.pause(true).await);

    let info = on.info().await;
    assert_eq!((info.paused, info.paused_since), (true, Some(START + secs(5))));

    on.pause(false).await;
    let info = on.info().await;
    assert_eq!((info.paused, info.paused_since), (false, None));
}

#[rstest]
#[tokio::test]
async fn jobs_that_were_archived_lately_are_counted(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    on.run(archive()).await;
    on.clock.advance(secs(1800));
    on.run(archive()).await;
    on.run(archive()).await;
    assert_eq!(on.info().await.archived_last_hour, 3);
    on.clock.advance(secs(1801));
    assert_eq!(on.info().await.archived_last_hour, 2);
    on.clock.advance(secs(1801));
    assert_eq!((on.info().await.archived_last_hour, on.info().await.sizes["archived"]), (0, 3));
}

#[rstest]
#[tokio::test]
async fn the_history_has_every_day_newest_first(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    on.run(done()).await;
    on.run(archive()).await;
    on.clock.advance(secs(2 * 86_400));
    on.run(done()).await;

    let history = on.broker.history(&on.queue, 90).await.unwrap();

    let days: Vec<_> =
        history.iter().take(4).map(|day| (day.date.as_str(), day.processed, day.failed)).collect();
    let none = |date| (date, 0, 0);
    assert_eq!(
        days,
        [("2096-10-04", 1, 0), none("2096-10-03"), ("2096-10-02", 2, 1), none("2096-10-01")]
    );
    assert_eq!(history.len(), 90);
}

#[rstest]
#[tokio::test]
async fn the_memory_of_a_queue_grows_with_its_jobs(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.run(done()).await;
    let empty = on.broker.memory(&on.queue).await.unwrap();
    assert_eq!((empty.sampled, empty.jobs), (0, 0));
    assert!(empty.bytes < 1000, "{empty:?}");

    let heavy = |n: usize| {
        let mut job = on.job(&format!("h{n}"));
        job.record.payload = Some(vec![b'x'; 10_000]);
        if n.is_multiple_of(2) { job.placed(Placement::After(secs(60))) } else { job }
    };
    let jobs: Vec<_> = (0..200).map(heavy).collect();
    on.broker.enqueue(&jobs).await.unwrap();

    let memory = on.broker.memory(&on.queue).await.unwrap();
    assert_eq!((memory.sampled, memory.jobs), (40, 200));
    assert!((2_000_000..4_000_000).contains(&memory.bytes), "{memory:?}");
}

#[rstest]
#[tokio::test]
async fn a_queue_that_does_not_exist_is_not_found_by_any_question(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let (queue, page) = (&on.queue, Page::default());
    let list = JobList::State(JobState::Pending);

    assert!(on.broker.jobs(queue, list, &page).await.unwrap_err().is_not_found());
    assert!(on.broker.history(queue, 1).await.unwrap_err().is_not_found());
    assert!(on.broker.memory(queue).await.unwrap_err().is_not_found());
    assert!(on.broker.groups(queue, &page).await.unwrap_err().is_not_found());
    assert!(on.broker.aggregations(queue).await.unwrap_err().is_not_found());
}

#[rstest]
#[tokio::test]
async fn all_queues_are_summed_up_as_each_alone(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    on.fill(&["a", "b"]).await;
    other.fill(&["c"]).await;
    other.pause(true).await;

    let all = on.broker.summaries(None, usize::MAX).await.unwrap().queues;

    let of =
        |bench: &OpenStore| all.iter().find(|one| one.queue == bench.queue).unwrap().info.clone();
    assert_eq!(of(&on), Some(on.info().await));
    assert_eq!(of(&other), Some(other.info().await));
    assert!(all.iter().all(|one| one.problem.is_none()));
    assert!(all.is_sorted_by(|one, next| one.queue < next.queue));
}

#[rstest]
#[tokio::test]
async fn the_last_hour_is_told_by_the_minute(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let told = async || {
        let minutes = on.broker.minutes(&on.queue).await.unwrap();
        minutes.iter().map(|m| (m.processed, m.failed, m.waiting)).collect::<Vec<_>>()
    };
    on.fill(&["a", "b", "c", "d"]).await;
    assert_eq!(told().await, [], "nobody has noted anything");
    on.delete_expired().await;
    on.run(done()).await;
    on.run(retry(secs(500))).await;
    assert_eq!(told().await, [(2, 1, 4)]);
    on.clock.advance(secs(60));
    on.delete_expired().await;
    // Noted once a minute.
    on.run(done()).await;
    on.delete_expired().await;
    assert_eq!(told().await, [(2, 1, 4), (1, 0, 2)]);
    on.clock.advance(secs(3600));
    on.delete_expired().await;
    assert_eq!(told().await.len(), 60);
    on.clock.advance(secs(3 * 3600));
    assert_eq!(told().await, []);
}

#[rstest]
#[tokio::test]
async fn what_is_due_when_is_counted_and_the_next_one_named(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["now"]).await;
    assert_eq!(on.info().await.next_due, None);
    on.run(retry(secs(30))).await;
    assert_eq!(on.info().await.next_due, Some(START + secs(30)));
    let exact = Duration::from_micros(10_000_001);
    for (name, after) in [("a", exact), ("b", secs(10)), ("c", secs(60)), ("d", secs(999))] {
        on.put(on.job(name).placed(Placement::After(after))).await;
    }
    assert_eq!(on.info().await.next_due, Some(START + secs(10)));
    let ends = [10, 30, 60, 120].map(|after| START + secs(after));
    let found = on.broker.upcoming(&on.queue, &ends).await.unwrap();
    assert_eq!(found, [1, 2, 1, 0]);
    assert!(on.broker.upcoming(&on.queue, &[]).await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_queue_without_jobs_and_counters_is_not_noted(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.job("a").placed(Placement::After(secs(600)))).await;
    on.delete_expired().await;
    assert_eq!(on.broker.minutes(&on.queue).await.unwrap(), []);
}
