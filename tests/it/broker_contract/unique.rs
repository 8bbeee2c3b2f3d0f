//! Unique locks.

use crate::broker_contract::bench::*;
use rocket_jobqueue::OnConflict;
use rocket_jobqueue::internals::{Acted, Action, RepairScope};

#[rstest]
#[tokio::test]
async fn a_second_job_under_a_lock_is_refused_and_told_the_holder(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert!(created(&on.put(unique(on.job("a"), secs(60))).await));

    let outcome = on.put(unique(on.job("b"), secs(60))).await;

    assert_eq!(outcome, Enqueued::Duplicate { holder: id("a") });
    assert_eq!(on.find("b").await, None);
    assert!(!on.see("a").await.record.unique_key.is_empty());
    assert!(created(&on.put(on.job("c")).await), "a job that asks for no lock is not concerned");
}

#[rstest]
#[tokio::test]
async fn locks_differ_by_queue_type_and_payload(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    let with = |name: &str, job_type: &str, payload: Option<&[u8]>| {
        let mut job = unique(on.job(name), secs(60));
        job.record.job_type = job_type.to_owned();
        job.record.payload = payload.map(<[u8]>::to_vec);
        job
    };
    for job in [
        with("a", "mail", Some(b"{}")),
        with("b", "mail", Some(b"{} ")),
        with("c", "Mail", Some(b"{}")),
        with("d", "mail", Some(b"")),
        with("e", "mail", None),
        unique(other.job("f"), secs(60)),
    ] {
        let name = job.record.id.clone();
        assert!(created(&on.put(job).await), "{name}");
    }
    let outcome = on.put(with("g", "mail", None)).await;
    assert_eq!(outcome, Enqueued::Duplicate { holder: id("e") });
}

#[rstest]
#[tokio::test]
async fn a_lock_is_released_when_the_job_ends_well(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(done(), Transition::Revoke)] end: Transition,
    #[values(0, 60)] retention: u64,
) {
    let on = store.open().await;
    on.put(unique(on.kept("a", secs(retention)), secs(600))).await;

    on.run(end).await;

    assert!(created(&on.put(unique(on.job("b"), secs(60))).await));
}

#[rstest]
#[tokio::test]
async fn a_lock_is_kept_when_the_job_has_not_ended_well(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(retry(secs(1)), archive(), Transition::Requeue, reclaim())] end: Transition,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(600))).await;

    on.run(end).await;

    let outcome = on.put(unique(on.job("b"), secs(60))).await;
    assert_eq!(outcome, Enqueued::Duplicate { holder: id("a") });
}

#[rstest]
#[tokio::test]
async fn a_lock_ends_by_the_clock(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60))).await;
    let refused =
        async || matches!(on.put(unique(on.job("b"), secs(60))).await, Enqueued::Duplicate { .. });

    on.age(secs(59));
    assert!(refused().await);
    on.age(secs(1));
    assert!(!refused().await);
}

#[rstest]
#[tokio::test]
async fn the_lock_of_a_scheduled_job_counts_from_its_due_time(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60)).placed(Placement::After(secs(100)))).await;
    let refused =
        async || matches!(on.put(unique(on.job("b"), secs(60))).await, Enqueued::Duplicate { .. });

    on.age(secs(159));
    assert!(refused().await);
    on.age(secs(1));
    assert!(!refused().await);
}

#[rstest]
#[tokio::test]
async fn a_lock_that_passed_to_another_job_is_not_released_by_the_first(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60))).await;
    on.age(secs(60));
    on.put(unique(on.job("b"), secs(60))).await;

    assert_eq!(on.run(done()).await.job.id, id("a"));

    let outcome = on.put(unique(on.job("c"), secs(60))).await;
    assert_eq!(outcome, Enqueued::Duplicate { holder: id("b") });
}

#[rstest]
#[tokio::test]
async fn a_duplicate_is_reported_before_an_id_conflict(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60))).await;

    let outcome = on.put(unique(on.job("a"), secs(60))).await;

    assert_eq!(outcome, Enqueued::Duplicate { holder: id("a") });
}

#[rstest]
#[tokio::test]
async fn an_id_conflict_takes_no_lock(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;

    assert_eq!(on.put(unique(on.job("a"), secs(60))).await, Enqueued::IdConflict);

    assert!(created(&on.put(unique(on.job("b"), secs(60))).await));
}

impl OpenStore {
    /// Whether a further job of this kind is refused, and because of `holder`.
    async fn is_held_by(&self, holder: &str) -> bool {
        let probe = until(self.job("probe"), Until::Success);
        match self.put(probe).await {
            Enqueued::Duplicate { holder: found } => {
                assert_eq!(found, id(holder));
                true
            }
            Enqueued::Created { .. } => {
                assert_eq!(self.act("probe", Action::Delete).await, Acted::Done);
                false
            }
            other => panic!("{other:?}"),
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_lock_until_the_start_covers_jobs_that_wait_and_none_that_runs(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(false, true)] delayed: bool,
    #[values(
        done(),
        Transition::Revoke,
        retry(secs(1)),
        archive(),
        Transition::Requeue,
        reclaim()
    )]
    end: Transition,
) {
    let on = store.open().await;
    let first = until(on.kept("a", secs(60)), Until::Start);
    let due = if delayed { Placement::After(secs(5)) } else { Placement::Now };
    on.put(first.placed(due)).await;
    assert!(on.is_held_by("a").await);
    on.age(secs(5));
    on.forward().await;
    assert!(on.is_held_by("a").await, "it is due and waits");

    let delivery = on.take().await;
    assert!(!on.is_held_by("a").await, "it runs");
    assert!(created(&on.put(until(on.job("b"), Until::Success)).await));
    assert_eq!(on.settle(&delivery, end).await, Settled::Done);

    assert!(on.is_held_by("b").await, "the lock is another job's, whatever the first one does");
    on.age(secs(2));
    on.forward().await;
    on.take_many(9).await;
    assert!(on.is_held_by("b").await, "it is not released by the first job's next attempt");
}

#[rstest]
#[tokio::test]
async fn a_lock_until_the_start_is_released_with_a_job_that_never_starts(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(until(on.job("a"), Until::Start)).await;
    assert_eq!(on.act("a", Action::Archive).await, Acted::Done);
    assert!(on.is_held_by("a").await, "as any lock of an archived job");
    assert_eq!(on.act("a", Action::Run).await, Acted::Done);
    assert!(on.is_held_by("a").await);
    assert_eq!(on.act("a", Action::Delete).await, Acted::Done);
    assert!(!on.is_held_by("a").await);

    on.put(until(grouped(on.job("g"), "digest"), Until::Start)).await;
    assert!(on.is_held_by("g").await);
    assert_eq!(on.act("g", Action::Run).await, Acted::Done);
    assert!(on.is_held_by("g").await);
    on.take().await;
    assert!(!on.is_held_by("g").await);
}

#[rstest]
#[tokio::test]
async fn a_lock_until_expiry_is_kept_however_the_job_ends(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(0, 60)] retention: u64,
    #[values(
        done(),
        Transition::Revoke,
        retry(secs(1)),
        archive(),
        Transition::Requeue,
        reclaim()
    )]
    end: Transition,
) {
    let on = store.open().await;
    on.put(until(on.kept("a", secs(retention)), Until::Expiry)).await;
    assert!(on.is_held_by("a").await, "it waits");
    let delivery = on.take().await;
    assert!(on.is_held_by("a").await, "it runs");

    assert_eq!(on.settle(&delivery, end).await, Settled::Done);

    assert!(on.is_held_by("a").await, "it has ended");
    on.age(secs(3540));
    on.delete_expired().await;
    assert!(on.is_held_by("a").await);
    on.age(secs(60));
    assert!(!on.is_held_by("a").await, "its time is over");
}

#[rstest]
#[tokio::test]
async fn a_lock_until_expiry_is_kept_whatever_an_operator_does(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(false, true)] release_lock: bool,
) {
    let on = store.open().await;
    let mut keep = ArchiveSettings::default();
    keep.release_lock = release_lock;
    let on = on.with_archive(keep).await;
    on.put(until(on.job("a"), Until::Expiry).placed(Placement::After(secs(60)))).await;
    for action in [Action::Reschedule(Placement::Now), Action::Archive, Action::Run, Action::Delete]
    {
        assert_eq!(on.act("a", action).await, Acted::Done);
        assert!(on.is_held_by("a").await, "{action:?}");
    }
    on.age(secs(3660));
    assert!(!on.is_held_by("a").await);

    // A group's jobs end when they have become one.
    on.put(until(grouped(on.job("g"), "digest"), Until::Expiry)).await;
    assert_eq!(on.act("g", Action::Delete).await, Acted::Done);
    assert!(on.is_held_by("g").await);
}

#[rstest]
#[tokio::test]
async fn a_lock_by_key_is_one_of_its_type_and_of_no_payload(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Until::Start, Until::Success, Until::Expiry)] ends: Until,
) {
    let on = store.open().await;
    let by_key = |name: &str, job_type: &str, key: &str, payload: &[u8]| {
        let mut job = until(on.job(name), ends);
        job.record.job_type = job_type.to_owned();
        job.record.payload = Some(payload.to_vec());
        NewJob { unique_key: Some(key.repeat(32)), ..job }
    };
    assert!(created(&on.put(by_key("a", "mail", "0c", b"1")).await));
    let outcome = on.put(by_key("b", "mail", "0c", b"2")).await;
    assert_eq!(outcome, Enqueued::Duplicate { holder: id("a") });
    for other in [by_key("c", "mail", "0d", b"1"), by_key("d", "push", "0c", b"1")] {
        assert!(created(&on.put(other).await));
    }
    let mut by_payload = until(on.job("e"), ends);
    by_payload.record.payload = Some(b"1".to_vec());
    assert!(created(&on.put(by_payload).await), "a payload's lock is another one");
}

/// Where the holder of a lock is when another job comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Holder {
    Pending,
    Scheduled,
    Retry,
    Aggregating,
    Claimed,
    Active,
    Archived,
    Completed,
}

use Holder::{Active, Aggregating, Archived, Claimed, Completed, Pending, Retry, Scheduled};

impl OpenStore {
    /// Stores `a` with this lock and brings it there.
    async fn hold(&self, ends: Until, holder: Holder) {
        let job = until(self.kept("a", secs(600)), ends);
        let job = match holder {
            Scheduled => job.placed(Placement::After(secs(30))),
            Aggregating | Claimed => grouped(job, "digest"),
            Pending | Retry | Active | Archived | Completed => job,
        };
        assert!(created(&self.put(job).await));
        match holder {
            Pending | Scheduled | Aggregating => {}
            Retry => assert_eq!(self.run(retry(secs(30))).await.job.id, id("a")),
            Active => assert_eq!(self.take().await.job.id, id("a")),
            Archived => assert_eq!(self.act("a", Action::Archive).await, Acted::Done),
            Completed => assert_eq!(self.run(done()).await.job.id, id("a")),
            Claimed => {
                let limits =
                    GroupLimits { grace: secs(60), max_delay: Duration::ZERO, max_size: 1 };
                let set = self.broker.claim_group(&self.queue, "digest", &limits).await.unwrap();
                assert_eq!(set.expect("the group has its job").jobs.len(), 1);
            }
        }
    }

    /// A job with the same lock as `a`, and other options.
    fn like(&self, name: &str, ends: Until, on_conflict: OnConflict) -> NewJob {
        let mut job = NewJob { on_conflict, ..until(self.job(name), ends) };
        job.record.max_retry = 3;
        job
    }
}

#[rstest]
#[tokio::test]
async fn a_holder_that_waits_is_replaced_under_its_id(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Until::Start, Until::Success, Until::Expiry)] ends: Until,
    #[values(Pending, Scheduled, Retry, Aggregating)] holder: Holder,
    #[values(None, Some(90))] delay: Option<u64>,
) {
    let on = store.open().await;
    on.put(on.job("before")).await;
    if (ends, holder) == (Until::Start, Retry) {
        // It has started, and holds nothing.
        return;
    }
    let head = on.take().await;
    on.hold(ends, holder).await;
    on.put(on.job("after")).await;
    let due = delay.map_or(Placement::Now, |delay| Placement::After(secs(delay)));
    let job = on.like("b", ends, OnConflict::Replace).placed(due);

    let outcome = on.put(job).await;

    let stays = holder == Pending;
    let state = if stays || delay.is_none() { JobState::Pending } else { JobState::Scheduled };
    let due = on.clock.now() + secs(if stays { 0 } else { delay.unwrap_or_default() });
    assert_eq!(outcome, Enqueued::Replaced { id: id("a"), state, due });
    assert_eq!(on.find("b").await, None);
    let found = on.see("a").await;
    assert_eq!((found.state, found.record.max_retry), (state, 3));
    assert_eq!((found.record.retried, found.failures.len()), (0, 0), "it is as new");
    assert_eq!(found.record.retention, Duration::ZERO);
    assert!(found.record.group.is_empty());
    assert_eq!(on.broker.waiting_groups(&on.queue).await.unwrap(), Vec::<String>::new());
    assert!(on.is_held_by("a").await);
    on.age(secs(90));
    on.forward().await;
    let order = on.take_many(9).await;
    let expected = if stays { ["a", "after"] } else { ["after", "a"] };
    assert_eq!(ids(&order), expected);
    on.settle(&head, done()).await;
    let checked = on.broker.check_queue(&on.queue, None, RepairScope::Nothing).await.unwrap();
    assert!(checked.findings.is_empty(), "{:?}", checked.findings);
    // The time of the lock counts from the new due time.
    if ends == Until::Expiry {
        on.age(secs(3600 - 90 + delay.unwrap_or_default() - 60));
        assert!(on.is_held_by("a").await);
        on.age(secs(60));
        assert!(!on.is_held_by("a").await);
    }
}

#[rstest]
#[tokio::test]
async fn a_holder_that_runs_is_not_replaced_and_one_that_ended_makes_room(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Until::Start, Until::Success, Until::Expiry)] ends: Until,
    #[values(Active, Claimed, Archived, Completed)] holder: Holder,
) {
    if (ends, holder) == (Until::Success, Active) {
        // It has a successor then: see `successor.rs`.
        return;
    }
    let on = store.open().await;
    on.hold(ends, holder).await;
    // What the lock says then, see the table of `or_replace`.
    let is_kept = matches!((ends, holder), (Until::Expiry, _) | (_, Claimed));
    let is_stored = !is_kept;

    let outcome = on.put(on.like("b", ends, OnConflict::Replace)).await;

    assert_eq!(created(&outcome), is_stored, "{outcome:?}");
    if is_stored {
        assert!(on.is_held_by("b").await);
        if holder == Archived {
            assert_eq!(on.act("a", Action::Delete).await, Acted::Done);
            assert!(on.is_held_by("b").await, "the archived job holds it no more");
        }
    } else {
        assert_eq!(outcome, Enqueued::Duplicate { holder: id("a") });
    }
}

#[rstest]
#[tokio::test]
async fn a_repeated_replacement_is_recognised_by_its_idempotency_key(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.hold(Until::Success, Scheduled).await;
    let job = guarded(on.like("b", Until::Success, OnConflict::Replace), "k", "body");
    assert!(matches!(on.put(job.clone()).await, Enqueued::Replaced { .. }));
    assert_eq!(on.put(job).await, Enqueued::Replayed { id: id("a") });
}

#[rstest]
#[tokio::test]
async fn a_lock_is_extended_and_a_scheduled_holder_moved_never_to_an_earlier_time(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Until::Start, Until::Success, Until::Expiry)] ends: Until,
    #[values(Pending, Scheduled, Active, Archived, Completed)] holder: Holder,
) {
    let on = store.open().await;
    on.hold(ends, holder).await;
    if !on.is_held_by("a").await {
        return;
    }
    let before = on.see("a").await;
    let asks = |delay| on.like("b", ends, OnConflict::Extend).placed(Placement::After(secs(delay)));
    if holder == Archived && ends != Until::Expiry {
        // Only its lock is left, which would be extended for ever.
        assert!(created(&on.put(asks(100)).await));
        assert!(on.is_held_by("b").await);
        return;
    }

    for delay in [100, 10] {
        assert_eq!(on.put(asks(delay)).await, Enqueued::Extended { holder: id("a") });
    }

    let after = on.see("a").await;
    assert_eq!((after.record.max_retry, after.state), (10, before.state), "its payload stays");
    let due = if holder == Scheduled { Some(on.clock.now() + secs(100)) } else { before.due };
    assert_eq!(after.due, due);
    assert_eq!(on.find("b").await, None);
    on.age(secs(3640));
    assert!(on.is_held_by("a").await);
    on.age(secs(60));
    assert!(!on.is_held_by("a").await);
    assert!(created(&on.put(asks(1)).await), "a free lock is taken");
}

#[rstest]
#[tokio::test]
async fn another_job_that_got_the_id_of_a_holder_is_left_alone(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(OnConflict::Replace, OnConflict::Extend)] on_conflict: OnConflict,
) {
    let on = store.open().await;
    on.hold(Until::Expiry, Pending).await;
    on.run(done()).await;
    on.age(secs(600));
    on.delete_expired().await;
    let other = on.job("a").placed(Placement::After(secs(30)));
    assert!(created(&on.put(other).await), "its id is free");
    let before = on.see("a").await;

    let job = on.like("b", Until::Expiry, on_conflict).placed(Placement::After(secs(90)));
    let outcome = on.put(job).await;

    assert!(!created(&outcome) && !matches!(outcome, Enqueued::Replaced { .. }), "{outcome:?}");
    assert_eq!(on.see("a").await, before);
}
