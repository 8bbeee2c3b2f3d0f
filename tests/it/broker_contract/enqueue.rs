//! Storing a job.

use crate::broker_contract::bench::*;

#[rstest]
#[tokio::test]
async fn a_new_job_is_pending_and_its_queue_exists(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;

    let outcome = on.put(on.job("a")).await;

    assert_eq!(outcome, Enqueued::Created { state: JobState::Pending, due: START });
    assert_eq!(on.state("a").await, Some(JobState::Pending));
    assert!(on.broker.queues().await.unwrap().contains(&on.queue));
}

#[rstest]
#[tokio::test]
async fn jobs_are_taken_in_the_order_they_came(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["c", "a"]).await;
    on.fill(&["b"]).await;

    assert_eq!(ids(&on.take_many(10).await), ["c", "a", "b"]);
    assert_eq!(on.state("a").await, Some(JobState::Active));
}

#[rstest]
#[tokio::test]
async fn a_batch_answers_for_each_job_in_order(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let lock = |name| unique(on.job(name), secs(60));
    let later = on.job("d").placed(Placement::After(secs(5)));

    let outcomes = on.broker.enqueue(&[lock("a"), lock("b"), on.job("a"), later]).await.unwrap();

    let due = START + secs(5);
    assert_eq!(
        outcomes,
        [
            Enqueued::Created { state: JobState::Pending, due: START },
            Enqueued::Duplicate { holder: id("a") },
            Enqueued::IdConflict,
            Enqueued::Created { state: JobState::Scheduled, due },
        ]
    );
}

#[rstest]
#[tokio::test]
async fn a_batch_may_be_for_several_queues(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();

    on.broker.enqueue(&[on.job("a"), other.job("b"), on.job("c")]).await.unwrap();

    assert_eq!(ids(&on.take_many(9).await), ["a", "c"]);
    assert_eq!(ids(&other.take_many(9).await), ["b"]);
}

#[rstest]
#[tokio::test]
async fn an_id_is_refused_while_a_job_has_it_in_whatever_state(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let conflict = async || on.put(on.job("a")).await == Enqueued::IdConflict;

    on.put(on.kept("a", secs(60))).await;
    assert!(conflict().await, "pending");
    let delivery = on.take().await;
    assert!(conflict().await, "active");
    on.settle(&delivery, retry(secs(1))).await;
    assert!(conflict().await, "retry");
    on.clock.advance(secs(1));
    on.forward().await;
    on.run(done()).await;
    assert_eq!(on.state("a").await, Some(JobState::Completed));
    assert!(conflict().await, "completed");
    on.clock.advance(secs(60));
    assert_eq!(on.delete_expired().await, 1);
    assert!(!conflict().await, "free again");
    on.run(archive()).await;
    assert!(conflict().await, "archived");
}

#[rstest]
#[tokio::test]
async fn every_byte_of_a_payload_and_every_field_come_back(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let mut job = on.job("a");
    job.record.payload = Some((0..=255).collect());
    job.record.headers = [("trace", "00-ff"), ("Ünïcode", "ö\n\0"), ("", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    job.record.timeout = secs(30);
    job.record.deadline = Some(START + secs(3600));
    job.record.retention = secs(86_400);
    let sent = job.record.clone();

    on.put(job).await;

    assert_eq!(on.see("a").await.record, sent);
    assert_eq!(on.take().await.job, sent);
}

#[rstest]
#[tokio::test]
async fn an_empty_payload_and_none_are_both_empty_once_stored(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(None, Some(vec![]))] payload: Option<Vec<u8>>,
) {
    let on = store.open().await;
    let mut job = on.job("a");
    job.record.payload = payload;

    assert!(created(&on.put(job).await));
    assert!(on.take().await.job.payload_bytes().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_due_time_that_is_not_ahead_means_at_once(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(
        Placement::After(Duration::ZERO),
        Placement::At(START),
        Placement::At(Timestamp::from_secs(1)),
        Placement::At(Timestamp::from_micros(-1))
    )]
    placement: Placement,
) {
    let on = store.open().await;

    let outcome = on.put(on.job("a").placed(placement)).await;

    assert!(matches!(outcome, Enqueued::Created { state: JobState::Pending, .. }), "{outcome:?}");
    assert_eq!(ids(&on.take_many(1).await), ["a"]);
}

#[rstest]
#[tokio::test]
async fn a_delayed_job_is_scheduled_to_the_microsecond(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(true, false)] relative: bool,
) {
    let on = store.open().await;
    let delay = Duration::from_micros(2_500_001);
    let placement = if relative { Placement::After(delay) } else { Placement::At(START + delay) };

    let outcome = on.put(on.job("a").placed(placement)).await;

    let due = START + delay;
    assert_eq!(outcome, Enqueued::Created { state: JobState::Scheduled, due });
    let info = on.see("a").await;
    assert_eq!((info.state, info.due), (JobState::Scheduled, Some(due)));
    assert!(on.take_many(1).await.is_empty());
}

#[rstest]
#[tokio::test]
async fn a_bulk_of_many_jobs_for_several_queues_keeps_their_order_and_options(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let others = [on.beside(), on.beside()];
    let mut jobs = Vec::new();
    for n in 0..350u64 {
        jobs.push(on.job(&format!("{n:03}")));
        jobs.push(
            others[(n % 2) as usize].job(&format!("{n:03}")).placed(Placement::After(secs(n))),
        );
    }
    jobs[0].record.headers = [("trace".to_owned(), "1".to_owned())].into();
    jobs.push(unique(on.job("lock"), secs(60)));
    jobs.push(unique(on.job("second"), secs(60)));
    jobs.push(grouped(on.job("grouped"), "digest"));
    jobs.push(guarded(on.job("guarded"), "k", "body"));
    jobs.push(guarded(on.job("again"), "k", "body"));
    jobs.push(on.job("007"));

    let outcomes: Vec<_> =
        on.broker.enqueue_each(&jobs).await.into_iter().map(|one| one.unwrap()).collect();

    assert!(outcomes[..701].iter().all(created));
    assert_eq!(
        outcomes[701..],
        [
            Enqueued::Duplicate { holder: id("lock") },
            Enqueued::Created { state: JobState::Aggregating, due: START },
            Enqueued::Created { state: JobState::Pending, due: START },
            Enqueued::Replayed { id: id("guarded") },
            Enqueued::IdConflict,
        ]
    );
    assert_eq!(on.see("000").await.record.headers["trace"], "1");
    let expected: Vec<_> = (0..350).map(|n| format!("{n:03}")).collect();
    assert_eq!(ids(&on.take_many(350).await), expected);
    let sizes: Vec<_> = [others[0].info().await.sizes, others[1].info().await.sizes].into();
    assert_eq!((sizes[0]["scheduled"], sizes[0]["pending"]), (174, 1), "0 s is at once");
    assert_eq!(sizes[1]["scheduled"], 175);
}

#[rstest]
#[tokio::test]
async fn jobs_with_large_payloads_go_in_parts_of_their_own(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let jobs: Vec<_> = ["a", "b", "c", "d"]
        .map(|name| {
            let mut job = on.job(name);
            job.record.payload = Some(vec![b'x'; if name == "c" { 10 } else { 700_000 }]);
            job
        })
        .into();

    assert!(on.broker.enqueue(&jobs).await.unwrap().iter().all(created));

    assert_eq!(ids(&on.take_many(9).await), ["a", "b", "c", "d"]);
}
