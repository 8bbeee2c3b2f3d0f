//! Jobs that wait for a limit, and may not wait for ever or are replaced meanwhile.

use crate::broker_contract::bench::*;
use rocket_jobqueue::OnConflict;
use rocket_jobqueue::internals::{Acted, Action};
use rocket_jobqueue::limits::Limit;

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
