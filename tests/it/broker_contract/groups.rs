//! Jobs that are collected in groups.

use rocket_jobqueue::OnConflict;

use crate::broker_contract::bench::*;

#[rstest]
#[tokio::test]
async fn a_job_of_a_group_waits_there_and_not_in_line(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;

    let outcome = on.put(grouped(on.job("a"), "digest")).await;

    assert_eq!(outcome, Enqueued::Created { state: JobState::Aggregating, due: START });
    let info = on.see("a").await;
    assert_eq!((info.state, info.due), (JobState::Aggregating, None));
    assert_eq!(info.record.group, "digest");
    assert!(on.take_many(9).await.is_empty());
    let sizes = on.info().await.sizes;
    assert_eq!((sizes["aggregating"], sizes["pending"]), (1, 0));
}

#[rstest]
#[tokio::test]
async fn a_delayed_job_joins_its_group_when_it_is_due(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let later = grouped(on.job("a"), "digest").placed(Placement::After(secs(5)));

    let outcome = on.put(later).await;

    assert_eq!(outcome, Enqueued::Created { state: JobState::Scheduled, due: START + secs(5) });
    on.clock.advance(secs(5));
    assert_eq!(on.forward().await, Forwarded { moved: 0, next: None, ready: false });
    let info = on.see("a").await;
    assert_eq!((info.state, info.due), (JobState::Aggregating, None));
    assert_eq!(on.info().await.sizes["aggregating"], 1);
}

#[rstest]
#[tokio::test]
async fn a_lock_holds_in_a_group_and_an_id_too(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(grouped(unique(on.job("a"), secs(60)), "digest")).await;

    let second = on.put(grouped(unique(on.job("b"), secs(60)), "other")).await;
    assert_eq!(second, Enqueued::Duplicate { holder: id("a") }, "the group takes no part in it");
    assert_eq!(on.put(grouped(on.job("a"), "other")).await, Enqueued::IdConflict);
    assert_eq!(on.info().await.sizes["aggregating"], 1);
    assert!(!on.see("a").await.record.unique_key.is_empty());
}

#[rstest]
#[tokio::test]
async fn forwarding_counts_only_what_became_pending_and_goes_on_behind_a_group(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    for (name, group, delay) in [("a", "digest", 1), ("b", "", 2), ("c", "digest", 3)] {
        on.put(grouped(on.job(name), group).placed(Placement::After(secs(delay)))).await;
    }
    on.clock.advance(secs(2));

    let next = Some(secs(1));
    assert_eq!(on.forward().await, Forwarded { moved: 1, next, ready: true });

    assert_eq!(on.state("a").await, Some(JobState::Aggregating));
    assert_eq!(on.state("b").await, Some(JobState::Pending));
    assert_eq!(on.state("c").await, Some(JobState::Scheduled));
}

/// A grace period of ten seconds, and no other limit.
fn calm() -> GroupLimits {
    GroupLimits { grace: secs(10), max_delay: Duration::ZERO, max_size: 0 }
}

fn at_most(max_size: usize) -> GroupLimits {
    GroupLimits { max_size, ..calm() }
}

impl OpenStore {
    /// Puts jobs into the group `digest`.
    async fn gather(&self, names: &[&str]) {
        for name in names {
            assert!(created(&self.put(grouped(self.job(name), "digest")).await));
        }
    }

    async fn ready(&self, limits: &GroupLimits) -> ReadyGroups {
        let mut seen = self.broker.ready_groups(&self.queue, limits, 0).await.unwrap();
        assert_eq!(seen.cursor, 0, "few groups are one look");
        seen.ready.sort();
        seen
    }

    async fn claim_group(&self, limits: &GroupLimits) -> Option<GroupSet> {
        self.broker.claim_group(&self.queue, "digest", limits).await.unwrap()
    }

    async fn grab_when_calm(&self) -> GroupSet {
        self.clock.advance(secs(10));
        self.claim_group(&calm()).await.expect("the group is ready")
    }

    async fn aggregate(&self, set: &GroupSet, name: &str) -> Option<Enqueued> {
        self.broker.aggregate(set, &self.job(name)).await.unwrap()
    }

    async fn repair(&self) -> usize {
        self.broker.repair_groups(&self.queue, 100).await.unwrap().returned
    }

    /// Repairs until there is no more to do.
    async fn mend_all(&self) -> usize {
        let mut returned = 0;
        loop {
            let repaired = self.broker.repair_groups(&self.queue, 100).await.unwrap();
            returned += repaired.returned;
            if !repaired.more {
                return returned;
            }
        }
    }

    /// Jobs in groups, without those that are being aggregated.
    async fn aggregating(&self) -> u64 {
        self.info().await.sizes["aggregating"]
    }
}

fn names(set: &GroupSet) -> Vec<&str> {
    set.jobs.iter().map(|job| job.id.as_str()).collect()
}

fn none_ready(next: Duration) -> ReadyGroups {
    ReadyGroups { ready: vec![], next: Some(next), cursor: 0 }
}

fn digest_ready() -> ReadyGroups {
    ReadyGroups { ready: vec!["digest".to_owned()], next: None, cursor: 0 }
}

#[rstest]
#[tokio::test]
async fn a_group_is_ready_when_no_job_has_joined_it_for_a_while(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.gather(&["a"]).await;
    on.clock.advance(secs(9));
    on.gather(&["b"]).await;
    on.clock.advance(secs(10) - MICRO);
    assert_eq!(on.ready(&calm()).await, none_ready(MICRO));
    assert_eq!(on.claim_group(&calm()).await, None);

    on.clock.advance(MICRO);

    assert_eq!(on.ready(&calm()).await, digest_ready());
    let set = on.claim_group(&calm()).await.unwrap();
    assert_eq!((names(&set), set.group.as_str()), (vec!["a", "b"], "digest"));
    assert_eq!(set.expires, START + secs(19 + 120));
}

#[rstest]
#[tokio::test]
async fn a_group_is_ready_when_its_oldest_job_has_waited_long_enough(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let limits = GroupLimits { max_delay: secs(15), ..calm() };
    on.gather(&["a"]).await;
    on.clock.advance(secs(8));
    on.gather(&["b"]).await;
    assert_eq!(on.ready(&limits).await, none_ready(secs(7)));

    on.clock.advance(secs(7));

    assert_eq!(
        on.ready(&calm()).await,
        none_ready(secs(3)),
        "another process may have no such limit"
    );
    assert_eq!(on.ready(&limits).await, digest_ready());
    assert_eq!(names(&on.claim_group(&limits).await.unwrap()), ["a", "b"]);
}

#[rstest]
#[tokio::test]
async fn a_group_of_the_greatest_size_is_ready_at_once_and_the_rest_waits_on(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(3, 4)] jobs: usize,
) {
    let on = store.open().await;
    on.gather(&["c", "d"]).await;
    assert_eq!(on.ready(&at_most(3)).await, none_ready(secs(10)));
    on.clock.advance(secs(1));
    on.gather(&["b", "a"][..jobs - 2]).await;

    assert_eq!(on.ready(&at_most(3)).await, digest_ready());
    let set = on.claim_group(&at_most(3)).await.unwrap();

    let third = if jobs == 3 { "b" } else { "a" };
    assert_eq!(names(&set), ["c", "d", third], "by the second they joined, then by id");
    let left = (jobs - 3) as u64;
    assert_eq!(on.aggregating().await, left);
    let seen = on.ready(&at_most(3)).await;
    assert_eq!(seen.next, (left > 0).then_some(secs(10)));
    assert_eq!(on.claim_group(&at_most(3)).await, None);
}

#[rstest]
#[tokio::test]
async fn jobs_that_are_being_aggregated_are_in_no_group_but_still_there(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.gather(&["a"]).await;
    on.clock.advance(secs(10));

    let set = on.claim_group(&calm()).await.unwrap();

    let sets = on.broker.aggregations(&on.queue).await.unwrap();
    assert_eq!(sets.len(), 1);
    assert_eq!((&sets[0].group, &sets[0].id, sets[0].size), (&set.group, &set.id, 1));
    assert_eq!(sets[0].expires, set.expires);
    assert_eq!(on.claim_group(&calm()).await, None);
    assert_eq!(on.ready(&calm()).await, ReadyGroups::default());
    assert_eq!(on.state("a").await, Some(JobState::Aggregating));
    assert_eq!(on.put(on.job("a")).await, Enqueued::IdConflict);
}

#[rstest]
#[tokio::test]
async fn an_aggregated_job_takes_the_place_of_its_jobs_and_their_locks_are_free(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(grouped(unique(on.job("a"), secs(600)), "digest")).await;
    on.gather(&["b"]).await;
    on.put(grouped(on.job("other"), "news")).await;
    on.clock.advance(secs(10));
    let set = on.claim_group(&calm()).await.unwrap();
    on.gather(&["late"]).await;

    let outcome = on.aggregate(&set, "one").await;

    let due = START + secs(10);
    assert_eq!(outcome, Some(Enqueued::Created { state: JobState::Pending, due }));
    assert_eq!((on.find("a").await, on.find("b").await), (None, None));
    assert_eq!(ids(&on.take_many(9).await), ["one"]);
    assert!(created(&on.put(unique(on.job("again"), secs(60))).await), "the lock is free");
    assert_eq!(on.aggregating().await, 2, "late and other");
    assert_eq!(on.counters().await, (0, 0), "no job of a group is counted");
}

#[rstest]
#[tokio::test]
async fn a_set_is_aggregated_once(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.gather(&["a"]).await;
    on.clock.advance(secs(10));
    let set = on.claim_group(&calm()).await.unwrap();

    assert!(on.aggregate(&set, "one").await.is_some());

    assert_eq!(on.aggregate(&set, "two").await, None);
    assert_eq!(ids(&on.take_many(9).await), ["one"]);
}

#[rstest]
#[tokio::test]
async fn a_set_whose_job_cannot_be_stored_stays(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["taken"]).await;
    on.put(unique(on.job("holder"), secs(60))).await;
    on.gather(&["a"]).await;
    on.clock.advance(secs(10));
    let set = on.claim_group(&calm()).await.unwrap();

    assert_eq!(on.aggregate(&set, "taken").await, Some(Enqueued::IdConflict));
    let second = on.broker.aggregate(&set, &unique(on.job("second"), secs(60))).await.unwrap();
    assert_eq!(second, Some(Enqueued::Duplicate { holder: id("holder") }));

    assert_eq!(on.state("a").await, Some(JobState::Aggregating));
    assert!(created(&on.aggregate(&set, "free").await.unwrap()));
    assert_eq!(on.find("a").await, None);
}

#[rstest]
#[tokio::test]
async fn a_set_stays_if_its_job_only_changes_the_holder_of_its_lock(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("holder"), secs(60)).placed(Placement::After(secs(30)))).await;
    on.gather(&["a"]).await;
    on.clock.advance(secs(10));
    let set = on.claim_group(&calm()).await.unwrap();
    for conflict in [OnConflict::Extend, OnConflict::Replace] {
        let mut job = unique(on.job("b"), secs(60));
        job.on_conflict = conflict;
        let outcome = on.broker.aggregate(&set, &job).await.unwrap().unwrap();
        assert!(!matches!(outcome, Enqueued::Created { .. }), "{outcome:?}");
        assert_eq!(on.state("a").await, Some(JobState::Aggregating), "{conflict:?}");
    }
    assert!(created(&on.aggregate(&set, "free").await.unwrap()));
    assert_eq!(on.find("a").await, None);
}

#[rstest]
#[tokio::test]
async fn an_aggregated_job_may_be_delayed_unique_or_grouped_itself(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    for (name, job, state) in [
        ("a", on.job("1").placed(Placement::After(secs(60))), JobState::Scheduled),
        ("b", grouped(on.job("2"), "next"), JobState::Aggregating),
        ("c", unique(guarded(on.job("3"), "key", "body"), secs(60)), JobState::Pending),
    ] {
        on.gather(&[name]).await;
        on.clock.advance(secs(10));
        let set = on.claim_group(&calm()).await.unwrap();
        let outcome = on.broker.aggregate(&set, &job).await.unwrap();
        assert!(matches!(outcome, Some(Enqueued::Created { state: s, .. }) if s == state));
        assert_eq!(on.state(job.record.id.as_str()).await, Some(state));
        assert_eq!(on.find(name).await, None);
    }
    assert_eq!(on.ready(&calm()).await.ready, ["next"]);
}

#[rstest]
#[tokio::test]
async fn jobs_whose_aggregation_did_not_end_are_back_in_their_group_after_two_minutes(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(false, true)] others_joined: bool,
) {
    let on = store.open().await;
    on.gather(&["a", "b"]).await;
    on.clock.advance(secs(10));
    let set = on.claim_group(&calm()).await.unwrap();
    if others_joined {
        on.gather(&["c"]).await;
    }
    on.clock.advance(secs(119));
    assert_eq!(on.repair().await, 0);
    on.clock.advance(secs(1));

    assert_eq!(on.repair().await, 1);

    assert_eq!(on.aggregate(&set, "late").await, None, "the set is not its taker's any more");
    assert_eq!(on.find("late").await, None);
    assert_eq!(on.ready(&calm()).await, digest_ready());
    let again = on.claim_group(&calm()).await.unwrap();
    let expected: &[_] = if others_joined { &["a", "b", "c"] } else { &["a", "b"] };
    assert_eq!(names(&again), expected);
    assert_eq!(on.repair().await, 0);
}

#[rstest]
#[tokio::test]
async fn whoever_gives_a_set_back_that_has_ended_brings_back_those_whose_time_is_over(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.gather(&["a"]).await;
    on.clock.advance(secs(10));
    let ended = on.claim_group(&calm()).await.unwrap();
    on.gather(&["b"]).await;
    on.clock.advance(secs(10));
    on.claim_group(&calm()).await.unwrap();
    on.aggregate(&ended, "one").await.unwrap();
    on.clock.advance(secs(121));
    assert_eq!(on.aggregating().await, 0);

    on.broker.return_set(&ended).await.unwrap();

    assert_eq!(on.aggregating().await, 1);
}

#[rstest]
#[tokio::test]
async fn a_set_can_be_given_back_at_once(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.gather(&["a"]).await;
    on.clock.advance(secs(10));
    let set = on.claim_group(&calm()).await.unwrap();

    on.broker.return_set(&set).await.unwrap();

    assert_eq!(on.aggregating().await, 1);
    assert_eq!(on.aggregate(&set, "late").await, None);
    let again = on.claim_group(&calm()).await.unwrap();
    on.broker.return_set(&set).await.unwrap();
    assert!(on.aggregate(&again, "one").await.is_some(), "the earlier set is nobody's concern");
}

#[rstest]
#[tokio::test]
async fn groups_of_any_name_are_kept_apart(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let groups = ["a", "a:b", "a:b:c", "größe 1"];
    for (at, group) in groups.into_iter().enumerate() {
        on.put(grouped(on.job(&at.to_string()), group)).await;
    }
    on.clock.advance(secs(10));
    assert_eq!(on.ready(&calm()).await.ready, groups);

    let mut sets = Vec::new();
    for group in groups {
        sets.push(on.broker.claim_group(&on.queue, group, &calm()).await.unwrap().unwrap());
    }
    on.clock.advance(secs(120));
    assert_eq!(on.repair().await, 4);

    assert_eq!(on.ready(&calm()).await.ready, groups);
    for (at, group) in groups.into_iter().enumerate() {
        let set = on.broker.claim_group(&on.queue, group, &calm()).await.unwrap().unwrap();
        assert_eq!(names(&set), [at.to_string()]);
    }
}

#[rstest]
#[tokio::test]
async fn a_group_of_thousands_is_aggregated_whole_and_leaves_nothing(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let jobs: Vec<_> = (0..2500)
        .map(|n| {
            let mut job = grouped(on.job(&format!("{n:04}")), "digest");
            job.record.payload = Some(n.to_string().into_bytes());
            job.unique_for = (n % 100 == 0).then_some(secs(600));
            job
        })
        .collect();
    assert!(on.broker.enqueue(&jobs).await.unwrap().iter().all(created));
    let set = on.grab_when_calm().await;
    assert_eq!(set.jobs.len(), 2500);
    assert!(set.jobs.is_sorted_by_key(|job| job.id.clone()));

    assert!(on.aggregate(&set, "one").await.is_some());
    while on.broker.repair_groups(&on.queue, 100).await.unwrap().more {}

    for at in [0, 999, 1000, 1001, 2400, 2499] {
        assert_eq!(on.find(&format!("{at:04}")).await, None, "{at}");
    }
    assert_eq!(on.aggregating().await, 0);
    let again: Vec<_> = jobs.into_iter().filter(|job| job.unique_for.is_some()).collect();
    assert!(on.broker.enqueue(&again).await.unwrap().iter().all(created), "all locks are free");
}

#[rstest]
#[tokio::test]
async fn large_sets_go_back_into_large_groups_whole(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values((1200, 30), (30, 1200), (700, 700))] sizes: (usize, usize),
) {
    let on = store.open().await;
    let add = async |prefix: &str, count: usize| {
        let jobs: Vec<_> =
            (0..count).map(|n| grouped(on.job(&format!("{prefix}{n:04}")), "digest")).collect();
        assert!(on.broker.enqueue(&jobs).await.unwrap().iter().all(created));
    };
    add("a", sizes.0).await;
    on.grab_when_calm().await;
    add("b", sizes.1).await;
    on.clock.advance(secs(120));

    assert_eq!(on.mend_all().await, 1);

    assert_eq!(on.aggregating().await, (sizes.0 + sizes.1) as u64);
    let set = on.claim_group(&calm()).await.unwrap();
    assert_eq!(set.jobs.len(), sizes.0 + sizes.1);
    assert!(set.jobs.is_sorted_by_key(|job| job.id.clone()), "each kept the second it joined");
}

#[rstest]
#[tokio::test]
async fn a_part_of_a_large_set_or_more_than_it_had_is_nobodys_to_aggregate(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values((1300, 1200), (1200, 1300))] sizes: (usize, usize),
) {
    let on = store.open().await;
    let add = async |prefix: &str, count: usize| {
        let jobs: Vec<_> =
            (0..count).map(|n| grouped(on.job(&format!("{prefix}{n:04}")), "digest")).collect();
        assert!(on.broker.enqueue(&jobs).await.unwrap().iter().all(created));
    };
    add("a", sizes.0).await;
    let late = on.grab_when_calm().await;
    add("b", sizes.1).await;
    on.clock.advance(secs(120));
    let first = on.broker.repair_groups(&on.queue, 100).await.unwrap();
    assert!(first.returned == 1 || first.more);

    assert_eq!(on.aggregate(&late, "one").await, None);
    on.mend_all().await;

    let set = on.claim_group(&calm()).await.unwrap();
    assert_eq!(set.jobs.len(), 2500);
    assert!(set.jobs.is_sorted_by_key(|job| job.id.clone()));
    assert!(on.broker.aggregations(&on.queue).await.unwrap().len() == 1, "only that set");
}

#[rstest]
#[tokio::test]
async fn a_set_has_a_bound_where_its_group_has_none_and_the_rest_is_as_ready(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(0, 6_000)] max_size: usize,
) {
    let on = store.open().await;
    let jobs: Vec<_> = (0..5_003).map(|n| grouped(on.job(&format!("{n:04}")), "digest")).collect();
    assert!(on.broker.enqueue(&jobs).await.unwrap().iter().all(created));
    on.clock.advance(secs(10));

    let first = on.claim_group(&at_most(max_size)).await.unwrap();
    assert_eq!(first.jobs.len(), 5_000);
    assert_eq!(on.ready(&calm()).await, digest_ready());
    let second = on.claim_group(&at_most(max_size)).await.unwrap();
    assert_eq!(names(&second), ["5000", "5001", "5002"]);
}

#[rstest]
#[tokio::test]
async fn an_earlier_requests_job_takes_no_sets_place(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(guarded(on.job("earlier"), "key", "body")).await;
    on.gather(&["a"]).await;
    on.clock.advance(secs(10));
    let set = on.claim_group(&calm()).await.unwrap();

    let outcome = on.broker.aggregate(&set, &guarded(on.job("one"), "key", "body")).await.unwrap();

    assert!(matches!(outcome, Some(Enqueued::Replayed { .. })), "{outcome:?}");
    assert_eq!(on.state("a").await, Some(JobState::Aggregating));
    assert!(created(&on.aggregate(&set, "two").await.unwrap()), "the set is still there");
}

#[rstest]
#[tokio::test]
async fn a_group_of_large_jobs_is_taken_whole_and_in_order(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let size = |n: usize| [10, 700_000, 1_500_000][n % 3];
    for n in 0..9 {
        let mut job = grouped(on.job(&n.to_string()), "digest");
        job.record.payload = Some(vec![b'x'; size(n)]);
        on.put(job).await;
    }

    let set = on.grab_when_calm().await;

    assert_eq!(names(&set), ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    let sizes = set.jobs.iter().map(|job| job.payload_bytes().len());
    assert_eq!(sizes.collect::<Vec<_>>(), (0..9).map(size).collect::<Vec<_>>());
}

/// Faults F34 of the reliability notes: an aggregator dies at any step, or does
/// its step late.
#[rstest]
#[tokio::test]
async fn wherever_aggregators_die_each_job_is_aggregated_once(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let mut late: Vec<(GroupSet, NewJob)> = Vec::new();
    let made = |set: &GroupSet, round: usize| {
        let mut job = on.job(&format!("made {round}"));
        job.record.payload = Some(names(set).join(" ").into_bytes());
        job
    };
    for round in 0..60 {
        on.gather(&[&format!("{round}"), &format!("{round}b")]).await;
        on.clock.advance(secs(10));
        if round % 7 == 0 {
            on.clock.advance(secs(120));
        }
        on.repair().await;
        let Some(set) = on.claim_group(&calm()).await else { continue };
        let job = made(&set, round);
        match round % 5 {
            // Dies after claiming the set.
            0 => {}
            1 => drop(on.broker.aggregate(&set, &job).await.unwrap()),
            // Does not get the answer, and asks again much later.
            2 => {
                on.broker.aggregate(&set, &job).await.unwrap();
                late.push((set, job));
            }
            // Is frozen before it stores the job.
            3 => late.push((set, job)),
            _ => {
                on.broker.return_set(&set).await.unwrap();
                late.push((set, job));
            }
        }
        if round % 3 == 0 {
            for (set, job) in late.drain(..) {
                on.broker.aggregate(&set, &job).await.unwrap();
            }
        }
    }
    for round in 60.. {
        on.clock.advance(secs(130));
        on.repair().await;
        for (set, job) in late.drain(..) {
            on.broker.aggregate(&set, &job).await.unwrap();
        }
        let Some(set) = on.claim_group(&calm()).await else { break };
        on.broker.aggregate(&set, &made(&set, round)).await.unwrap().unwrap();
    }

    let jobs = on.take_many(1000).await;
    let payloads = jobs.iter().map(|taken| taken.job.payload_bytes().to_vec());
    let payloads = payloads.map(|payload| String::from_utf8(payload).unwrap());
    let mut all: Vec<_> =
        payloads.flat_map(|p| p.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
    all.sort();
    let mut expected: Vec<_> = (0..60).flat_map(|n| [format!("{n}"), format!("{n}b")]).collect();
    expected.sort();
    assert_eq!(all, expected);
    assert_eq!(on.aggregating().await, 0);
    assert!(on.broker.aggregations(&on.queue).await.unwrap().is_empty());
}
