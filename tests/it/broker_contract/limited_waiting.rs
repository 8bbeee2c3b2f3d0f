//! Jobs that wait for a limit, and may not wait for ever or are replaced meanwhile.

use crate::broker_contract::bench::*;
use rocket_jobqueue::OnConflict;
use rocket_jobqueue::internals::{Acted, Action, Entry};
use rocket_jobqueue::limits::{Limit, MaxWaiting};

const MINUTE: Duration = Duration::from_secs(60);

impl OpenStore {
    /// Lets one job run at once: the first of these runs, the others wait.
    async fn one_runs(&self, jobs: Vec<NewJob>) -> Delivery {
        self.broker.set_limit(&self.queue, &Limit::new("one").concurrency(1)).await.unwrap();
        for job in jobs {
            self.put(job).await;
        }
        let mut taken = self.take_many(9).await;
        assert_eq!(taken.len(), 1);
        taken.pop().unwrap()
    }

    fn for_a_minute(&self, name: &str) -> NewJob {
        NewJob { expires_in: Some(MINUTE), ..self.job(name) }
    }

    async fn expect_expired(&self, name: &str) {
        let info = self.see(name).await;
        assert_eq!((info.state, info.record.last_error.as_str()), (JobState::Archived, "expired"));
        assert_eq!((info.waiting_for, info.record.retried), (None, 0));
    }
}

#[rstest]
#[tokio::test]
async fn a_job_that_waits_for_a_limit_expires_while_it_waits(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let jobs = vec![on.job("a"), on.for_a_minute("b"), on.job("c")];
    let first = on.one_runs(jobs).await;
    assert!(on.see("b").await.waiting_for.is_some());

    on.age(MINUTE);
    assert_eq!(on.delete_expired().await, 1);

    on.expect_expired("b").await;
    on.settle(&first, done()).await;
    assert_eq!(ids(&on.take_many(9).await), ["c"], "the place is not its");
}

#[rstest]
#[tokio::test]
async fn a_job_that_expires_once_it_has_a_place_passes_that_on(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let jobs = vec![on.job("a"), on.for_a_minute("b"), on.job("c")];
    let first = on.one_runs(jobs).await;
    // Pending, and not dequeued in time.
    on.settle(&first, done()).await;
    on.age(MINUTE);

    let mut taken = on.take_many(9).await;
    if taken.is_empty() {
        taken = on.take_many(9).await;
    }

    assert_eq!(ids(&taken), ["c"]);
    on.expect_expired("b").await;
}

#[rstest]
#[tokio::test]
async fn a_pending_job_of_a_limited_queue_is_replaced_and_stays_due(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.broker.set_limit(&on.queue, &Limit::new("all").concurrency(2)).await.unwrap();
    on.fill(&["a", "b"]).await;

    let later = on.job("a").placed(Placement::After(MINUTE));
    let replaced = on.put(NewJob { on_conflict: OnConflict::ReplaceJob, ..later }).await;

    assert!(
        matches!(replaced, Enqueued::Replaced { state: JobState::Pending, .. }),
        "{replaced:?}"
    );
    assert_eq!(ids(&on.take_many(9).await), ["a", "b"], "it keeps its place");
}

#[rstest]
#[tokio::test]
async fn a_job_that_waits_for_a_limit_is_deleted_and_leaves_its_place_to_the_next(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Action::Delete, Action::Archive, Action::Reschedule(Placement::After(MINUTE)))]
    action: Action,
) {
    let on = store.open().await;
    let jobs = vec![on.job("a"), on.job("b"), on.job("c")];
    let first = on.one_runs(jobs).await;
    assert_eq!(on.act("b", action).await, Acted::Done);

    on.settle(&first, done()).await;

    assert_eq!(ids(&on.take_many(9).await), ["c"]);
}

#[rstest]
#[case::before(true)]
#[case::after(false)]
#[tokio::test]
async fn jobs_that_move_to_another_store_keep_their_turns(
    #[case] limited_before: bool,
    #[values(Store::Memory, Store::Disk, Store::Redis)] from: Store,
    #[values(Store::Memory, Store::Disk, Store::Redis)] to: Store,
) {
    if matches!((from, to), (Store::Redis, Store::Redis)) {
        // It is one server.
        return;
    }
    let on = from.open().await;
    // By their ids they would come in another order.
    let names = ["runs", "z", "m", "q", "a", "k"];
    let first = on.one_runs(names.iter().map(|name| on.job(name)).collect()).await;
    on.settle(&first, done()).await;
    on.take().await;
    on.clock.advance(Duration::from_secs(1800));
    on.forward().await;
    let (mut export, mut jobs) = (on.broker.export(), Vec::new());
    while let Some(page) = export.next_page().await.unwrap() {
        jobs.extend(page.into_iter().filter(|entry| matches!(entry, Entry::Job(_))));
    }

    let there = OpenStore { queue: on.queue.clone(), ..to.open().await };
    jobs.retain(|entry| entry.queue() == Some(&there.queue));
    assert_eq!(jobs.len(), 5);
    let limit = Limit::new("one").concurrency(1);
    if limited_before {
        there.broker.set_limit(&there.queue, &limit).await.unwrap();
    }
    there.broker.import(&jobs, false).await.unwrap();
    there.broker.set_limit(&there.queue, &limit).await.unwrap();

    for name in &names[1..] {
        let mut taken = there.take_many(9).await;
        if taken.is_empty() {
            // Redis lets the first one go when another comes before its turn.
            taken = there.take_many(9).await;
        }
        assert_eq!(ids(&taken), [*name]);
        there.settle(&taken[0], done()).await;
    }
}

#[rstest]
#[case::one_that_waits_for_a_limit_before_pending_ones(&["waits", "pending"])]
#[case::a_pending_one_that_came_before_it(&["pending", "waits"])]
#[tokio::test]
async fn the_oldest_waiting_job_makes_room_whether_it_is_pending_or_waits_for_a_limit(
    #[case] names: &[&str],
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let limit = Limit::new("calls").types(["call"]).concurrency(1);
    on.broker.set_limit(&on.queue, &limit).await.unwrap();
    let job = |name: &str| {
        let mut job = on.job(name);
        if name != "pending" {
            job.record.job_type = "call".to_owned();
        }
        NewJob { max_waiting: Some(MaxWaiting::drop_oldest(3)), ..job }
    };
    on.put(job("runs")).await;
    on.take().await;
    for name in names {
        on.put(job(name)).await;
        on.age(secs(1));
    }
    assert!(on.see("waits").await.waiting_for.is_some());
    on.put(on.job("soon").placed(Placement::After(secs(5)))).await;

    for (new, displaced) in ["new-1", "new-2"].iter().zip(names) {
        assert!(created(&on.put(job(new)).await));
        let info = on.see(displaced).await;
        let found = (info.state, info.record.last_error.as_str(), info.waiting_for);
        assert_eq!(found, (JobState::Archived, "displaced", None));
    }
    assert_eq!(on.state("soon").await, Some(JobState::Scheduled));
}
