//! Settling.

use crate::broker_contract::bench::*;
use rocket_jobqueue::inspect::Page;
use rocket_jobqueue::internals::{AppVersion, AttemptNote, JobList, SettleRequest};

#[rstest]
#[tokio::test]
async fn a_completed_job_without_retention_is_gone_and_counted(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;

    on.run(Transition::Complete { result: Some(b"42".to_vec()) }).await;

    assert_eq!(on.find("a").await, None);
    assert_eq!(on.counters().await, (1, 0));
    assert!(on.info().await.sizes.values().all(|size| *size == 0));
}

#[rstest]
#[tokio::test]
async fn a_completed_job_is_kept_with_its_result_until_its_retention_is_over(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(None, Some(vec![]), Some((0..=255).collect()))] result: Option<Vec<u8>>,
) {
    let on = store.open().await;
    on.put(on.kept("a", secs(60))).await;
    on.clock.advance(secs(5));

    on.run(Transition::Complete { result: result.clone() }).await;

    let info = on.see("a").await;
    assert_eq!(info.state, JobState::Completed);
    assert_eq!(info.record.completed_at, Some(START + secs(5)));
    assert_eq!(info.result.unwrap_or_default(), result.unwrap_or_default());
    on.clock.advance(secs(60) - MICRO);
    assert_eq!(on.delete_expired().await, 0);
    on.clock.advance(MICRO);
    assert_eq!(on.delete_expired().await, 1);
    assert_eq!(on.find("a").await, None);
    assert_eq!(on.counters().await, (1, 0));
}

#[rstest]
#[tokio::test]
async fn completed_jobs_expire_in_order_and_within_the_limit(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    for (name, retention) in [("a", 30), ("b", 10), ("c", 20)] {
        on.put(on.kept(name, secs(retention))).await;
        on.run(done()).await;
    }
    on.clock.advance(secs(30));

    assert_eq!(on.broker.delete_expired(&on.queue, 2).await.unwrap(), 2);

    assert_eq!(on.state("a").await, Some(JobState::Completed));
    assert_eq!(on.delete_expired().await, 1);
    assert_eq!(on.delete_expired().await, 0);
}

#[rstest]
#[tokio::test]
async fn a_revoked_job_is_gone_whatever_its_retention(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.kept("a", secs(60))).await;

    on.run(Transition::Revoke).await;

    assert_eq!(on.find("a").await, None);
    assert_eq!(on.counters().await, (1, 0));
}

#[rstest]
#[tokio::test]
async fn a_failure_is_counted_and_waits_to_the_microsecond(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let after = Duration::from_micros(1_000_001);

    on.run(retry(after)).await;

    let info = on.see("a").await;
    assert_eq!((info.state, info.due), (JobState::Retry, Some(START + after)));
    assert_eq!((info.record.retried, info.record.last_error.as_str()), (1, "smtp is down"));
    assert_eq!(info.record.last_failed_at, Some(START));
    assert_eq!(on.counters().await, (1, 1));
    on.clock.advance(after - MICRO);
    assert_eq!(on.forward().await, Forwarded { moved: 0, next: Some(MICRO), ready: false });
    on.clock.advance(MICRO);
    assert_eq!(on.forward().await, Forwarded { moved: 1, next: None, ready: true });
    assert_eq!(on.take().await.job.retried, 1);
}

#[rstest]
#[tokio::test]
async fn a_snoozed_job_waits_and_nothing_is_counted(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.run(retry(secs(1))).await;
    on.clock.advance(secs(1));
    on.forward().await;

    let snooze = |error: &str| Transition::Retry {
        after: Duration::ZERO,
        error: error.to_owned(),
        counted: false,
    };
    on.run(snooze("")).await;
    assert_eq!(
        on.see("a").await.record.last_error,
        "smtp is down",
        "no word, so the last one stays"
    );
    on.forward().await;
    on.run(snooze("no handler")).await;

    let info = on.see("a").await;
    assert_eq!((info.state, info.record.retried), (JobState::Retry, 1));
    assert_eq!(info.record.last_error, "no handler");
    assert_eq!(on.counters().await, (1, 1));
}

#[rstest]
#[tokio::test]
async fn an_archived_job_is_kept_with_its_error(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.clock.advance(secs(3));

    on.run(archive()).await;

    let info = on.see("a").await;
    assert_eq!((info.state, info.record.retried), (JobState::Archived, 0));
    assert_eq!(info.record.last_error, "bad address");
    assert_eq!(info.record.last_failed_at, Some(START + secs(3)));
    assert_eq!(on.counters().await, (1, 1));
}

#[rstest]
#[tokio::test]
async fn what_was_archived_ninety_days_ago_makes_room(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    on.run(archive()).await;
    on.clock.advance(secs(1));
    on.run(archive()).await;

    on.clock.advance(secs(90 * 86_400 - 1));
    on.run(archive()).await;

    assert_eq!(on.state("a").await, None);
    assert_eq!(on.state("b").await, Some(JobState::Archived));
    assert_eq!(on.info().await.sizes["archived"], 2);
}

#[rstest]
#[tokio::test]
async fn the_archive_holds_no_more_than_its_limit(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    for batch in 0..101 {
        let jobs: Vec<_> =
            (0..100).map(|n| on.job(&format!("job-{:05}", batch * 100 + n))).collect();
        on.broker.enqueue(&jobs).await.unwrap();
        let settled: Vec<_> = on
            .take_many(100)
            .await
            .into_iter()
            .map(|delivery| SettleRequest::from((delivery, archive())))
            .collect();
        on.broker.settle(&settled).await.unwrap();
        on.clock.advance(secs(1));
    }

    assert_eq!(on.info().await.sizes["archived"], 9_999);
    assert_eq!(on.state("job-00100").await, None, "the oldest had to go");
    assert_eq!(on.state("job-00101").await, Some(JobState::Archived));
    assert_eq!(on.counters().await, (10_100, 10_100));
}

#[rstest]
#[tokio::test]
async fn a_requeued_job_is_next_in_line_as_if_it_had_not_been_taken(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    let before = on.see("a").await;

    on.run(Transition::Requeue).await;

    assert_eq!(on.see("a").await, before);
    assert_eq!(on.counters().await, (0, 0));
    assert_eq!(ids(&on.take_many(9).await), ["a", "b", "c"]);
}

#[rstest]
#[tokio::test]
async fn a_reclaimed_job_is_next_in_line_with_the_loss_recorded(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b"]).await;
    on.clock.advance(secs(7));

    assert_eq!(on.run(reclaim()).await.losses, 0);

    let info = on.see("a").await;
    assert_eq!((info.state, info.losses, info.record.retried), (JobState::Pending, 1, 0));
    assert_eq!(info.record.last_error, "its worker vanished");
    assert_eq!(info.record.last_failed_at, Some(START + secs(7)));
    assert_eq!(on.counters().await, (0, 0));
    assert_eq!(ids(&on.take_many(9).await), ["a", "b"]);
}

#[rstest]
#[tokio::test]
async fn losses_in_a_row_are_seen_by_those_who_find_the_job(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    for losses in 0..3 {
        let taken = on.take().await;
        assert_eq!(taken.losses, losses);
        on.pass(&taken.lease);
        let found = on.first_expired_leases(9).await;
        assert_eq!((found.len(), found[0].losses), (1, losses));
        assert_eq!(on.settle(&found[0], reclaim()).await, Settled::Done);
    }
    assert_eq!(on.see("a").await.losses, 3);
}

#[rstest]
#[tokio::test]
async fn any_other_end_of_an_attempt_forgets_the_losses(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(retry(secs(1)), archive(), Transition::Requeue, done())] end: Transition,
) {
    let on = store.open().await;
    on.put(on.kept("a", secs(60))).await;
    on.run(reclaim()).await;

    on.run(end).await;

    assert_eq!(on.see("a").await.losses, 0);
}

#[rstest]
#[tokio::test]
async fn a_batch_settles_each_job_in_its_own_way(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    on.fill(&["a", "b", "c", "d", "e", "f"]).await;
    other.fill(&["x"]).await;
    let taken = on.take_from(&[on.queue.clone(), other.queue.clone()], 9).await;
    on.settle(&taken[1], done()).await;
    let ways = [
        archive(),
        done(),
        retry(secs(9)),
        Transition::Requeue,
        Transition::Revoke,
        reclaim(),
        archive(),
    ];

    let batch: Vec<_> = taken.into_iter().zip(ways).map(SettleRequest::from).collect();
    let settled = on.broker.settle(&batch).await.unwrap();

    use Settled::{Done, Lost};
    assert_eq!(settled, [Done, Lost, Done, Done, Done, Done, Done]);
    assert_eq!(on.state("a").await, Some(JobState::Archived));
    assert_eq!(on.state("c").await, Some(JobState::Retry));
    assert_eq!(on.state("e").await, None);
    assert_eq!(ids(&on.take_many(9).await), ["f", "d"], "who came last is next");
    assert_eq!(on.counters().await, (4, 2));
    assert_eq!(other.counters().await, (1, 1));
}

#[rstest]
#[tokio::test]
async fn the_last_ten_failures_of_a_job_stay_with_it(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.kept("a", secs(100))).await;
    let error = |text: &str| Transition::Retry {
        after: Duration::ZERO,
        error: text.to_owned(),
        counted: true,
    };
    let told = async || {
        let failures = on.see("a").await.failures;
        failures.into_iter().map(|one| (one.at, one.attempt, one.error)).collect::<Vec<_>>()
    };
    assert_eq!(told().await, []);
    let long = "é".repeat(600);
    for text in ["first\nof two lines", &long] {
        on.run(error(text)).await;
        on.clock.advance(secs(2));
        on.forward().await;
    }
    let expected =
        [(START, 1, "first\nof two lines".to_owned()), (START + secs(2), 2, "é".repeat(500))];
    assert_eq!(told().await, expected);
    for n in 3..=13 {
        on.run(error(&format!("failure {n}"))).await;
        on.clock.advance(secs(2));
        on.forward().await;
    }
    let kept = told().await;
    let attempts: Vec<u32> = kept.iter().map(|(_, attempt, _)| *attempt).collect();
    assert_eq!(attempts, (4..=13).collect::<Vec<_>>());
    assert_eq!(kept[9].2, "failure 13");
    // A transition that is not a failure adds nothing; an archive and a success keep the list.
    on.run(Transition::Requeue).await;
    assert_eq!(told().await, kept);
    on.run(done()).await;
    assert_eq!((on.state("a").await, told().await), (Some(JobState::Completed), kept));
    let (list, page) = (JobList::State(JobState::Completed), Page::default());
    let page = on.broker.jobs(&on.queue, list, &page).await.unwrap();
    assert!(page.rows[0].job().unwrap().failures.is_empty(), "not in lists");
    assert!(page.rows[0].job().unwrap().record.last_error == "failure 13");
}

#[rstest]
#[tokio::test]
async fn the_failure_that_archives_a_job_and_a_vanished_worker_are_told_too(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.run(reclaim()).await;
    on.run(archive()).await;
    let failures = on.see("a").await.failures;
    assert_eq!(failures.iter().map(|one| one.attempt).collect::<Vec<_>>(), [1, 1]);
    assert!(failures.iter().all(|one| !one.error.is_empty()));
}

#[rstest]
#[tokio::test]
async fn a_job_says_which_versions_made_its_attempts(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let settle = async |version: Option<&str>, transition: Transition| {
        let delivery = on.take().await;
        let note = AttemptNote {
            version: version.map(|version| AppVersion::new(version).unwrap()),
            worker: Some("host:7".into()),
            waited: Some(secs(3)),
            ran: Some(Duration::from_micros(1_500_000)),
        };
        on.broker.settle(&[SettleRequest { delivery, transition, note }]).await.unwrap();
        on.clock.advance(secs(2));
        on.forward().await;
    };
    let versions = async |id: &str| {
        let found = on.see(id).await;
        let page = Page::default();
        let list = on.broker.jobs(&on.queue, JobList::State(found.state), &page).await.unwrap();
        let row = list
            .rows
            .iter()
            .find_map(|row| row.job().filter(|job| job.record.id == found.record.id));
        assert_eq!(row.map(|row| &row.version), Some(&found.version), "lists say it too");
        (found.first_failed_version, found.version)
    };
    let some = |version: &str| Some(version.to_owned());
    on.put(on.kept("a", secs(100))).await;
    settle(Some("2.4.0"), Transition::Requeue).await;
    assert_eq!(versions("a").await, (None, None), "nothing failed");
    settle(Some("2.4.0"), retry(secs(1))).await;
    settle(Some("2.4.1"), retry(secs(1))).await;
    assert_eq!(versions("a").await, (some("2.4.0"), some("2.4.1")));
    let failures = on.see("a").await.failures;
    let told: Vec<_> = failures.iter().map(|one| one.version.as_deref()).collect();
    assert_eq!(told, [Some("2.4.0"), Some("2.4.1")]);
    let last = &failures[1];
    assert_eq!(last.worker.as_deref(), Some("host:7"));
    assert_eq!((last.waited, last.ran), (Some(secs(3)), Some(Duration::from_millis(1500))));
    // A process that does not say its version leaves the last one unknown, not the former one.
    settle(None, retry(secs(1))).await;
    assert_eq!(versions("a").await, (some("2.4.0"), None));
    settle(Some("2.5.0"), done()).await;
    assert_eq!(versions("a").await, (some("2.4.0"), some("2.5.0")));

    on.put(on.kept("b", secs(100))).await;
    settle(None, retry(secs(1))).await;
    settle(Some("2.5.0"), archive()).await;
    assert_eq!(versions("b").await, (None, some("2.5.0")), "an earlier version may have failed");
}
