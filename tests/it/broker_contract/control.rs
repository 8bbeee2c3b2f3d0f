//! Cancel requests to running jobs, and progress and results from them.

use rocket_jobqueue::internals::{CancelAnswer, Output, SettleRequest};
use rocket_jobqueue::{Progress, handler::AfterCancel};

use super::bench::*;

impl OpenStore {
    async fn cancel(&self, name: &str, after: AfterCancel) -> CancelAnswer {
        self.broker.cancel(&self.queue, &id(name), after).await.unwrap()
    }

    async fn write_output(&self, lease: &Lease, output: Output<'_>) -> Settled {
        self.broker.write_output(lease, output).await.unwrap()
    }

    async fn extended(&self, lease: &Lease) -> Extended {
        self.broker.extend(std::slice::from_ref(lease)).await.unwrap().remove(0)
    }
}

#[rstest]
#[tokio::test]
async fn a_result_written_while_running_is_seen_and_survives_a_retry(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.kept("a", secs(60))).await;
    let first = on.take().await;

    assert_eq!(on.write_output(&first.lease, Output::Result(b"half")).await, Settled::Done);

    assert_eq!(on.see("a").await.result.as_deref(), Some(&b"half"[..]));
    on.settle(&first, retry(secs(1))).await;
    on.clock.advance(secs(1));
    on.forward().await;
    assert_eq!(on.see("a").await.result.as_deref(), Some(&b"half"[..]));
    on.run(done()).await;
    assert_eq!(on.see("a").await.result.as_deref(), Some(&b"half"[..]), "it returned nothing");
}

#[rstest]
#[tokio::test]
async fn what_a_handler_returns_replaces_what_it_wrote(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.kept("a", secs(60))).await;
    let taken = on.take().await;
    on.write_output(&taken.lease, Output::Result(b"half")).await;

    on.settle(&taken, Transition::Complete { result: Some(b"whole".to_vec()) }).await;

    assert_eq!(on.see("a").await.result.as_deref(), Some(&b"whole"[..]));
    assert_eq!(on.write_output(&taken.lease, Output::Result(b"late")).await, Settled::Lost);
    assert_eq!(on.see("a").await.result.as_deref(), Some(&b"whole"[..]));
}

#[rstest]
#[tokio::test]
async fn a_stale_owner_writes_nothing(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let stale = on.take().await;
    on.pass(&stale.lease);
    on.settle(&on.first_expired_leases(1).await[0], reclaim()).await;
    on.take().await;
    let before = on.see("a").await;

    for output in [Output::Result(b"late"), Output::Progress(&Progress::new(1, 2))] {
        assert_eq!(on.write_output(&stale.lease, output).await, Settled::Lost);
    }

    assert_eq!(on.see("a").await, before);
}

#[rstest]
#[tokio::test]
async fn a_job_that_is_gone_is_not_written_into_being(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let gone = on.run(done()).await;

    assert_eq!(on.write_output(&gone.lease, Output::Result(b"late")).await, Settled::Lost);

    assert_eq!(on.find("a").await, None);
    assert!(created(&on.put(on.job("a")).await), "the id is free");
}

#[rstest]
#[tokio::test]
async fn an_owner_goes_on_writing_after_its_lease_was_extended(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let taken = on.take().await;
    on.clock.advance(secs(5));
    let renewed = on.extend(&taken.lease).await.unwrap();

    for lease in [&taken.lease, &renewed] {
        assert_eq!(on.write_output(lease, Output::Result(b"x")).await, Settled::Done);
    }
}

#[rstest]
#[tokio::test]
async fn progress_stays_with_the_job_until_it_is_taken_again(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let taken = on.take().await;
    let progress = Progress::new(3, 10).message("drei von zehn ✓");
    assert_eq!(on.see("a").await.progress, None);

    on.write_output(&taken.lease, Output::Progress(&Progress::new(1, 10))).await;
    on.write_output(&taken.lease, Output::Progress(&progress)).await;

    assert_eq!(on.see("a").await.progress.as_ref(), Some(&progress));
    on.settle(&taken, retry(secs(1))).await;
    assert_eq!(on.see("a").await.progress.as_ref(), Some(&progress));
    on.clock.advance(secs(1));
    on.forward().await;
    on.take().await;
    assert_eq!(on.see("a").await.progress, None);
}

#[rstest]
#[tokio::test]
async fn the_owner_of_a_cancelled_job_hears_of_it_with_its_next_extension(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(AfterCancel::Retry, AfterCancel::Archive, AfterCancel::Delete)] after: AfterCancel,
) {
    let on = store.open().await;
    on.fill(&["a", "b"]).await;
    let [taken, other] = on.take_many(2).await.try_into().unwrap();

    assert_eq!(on.cancel("a", after).await, CancelAnswer::Requested);

    assert_eq!(on.see("a").await.cancelling, Some(after));
    assert!(matches!(on.extended(&other.lease).await, Extended::Renewed(_)));
    for _ in 0..2 {
        let Extended::Cancelled(lease, heard) = on.extended(&taken.lease).await else {
            panic!("it was to be cancelled");
        };
        assert_eq!((lease.owner, heard), (taken.lease.owner, after));
        assert!(lease.ends > taken.lease.ends);
    }
    assert_eq!(on.settle(&taken, archive()).await, Settled::Done);
}

#[rstest]
#[tokio::test]
async fn the_later_of_two_wishes_counts(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let taken = on.take().await;

    on.cancel("a", AfterCancel::Retry).await;
    on.cancel("a", AfterCancel::Delete).await;

    assert!(matches!(on.extended(&taken.lease).await, Extended::Cancelled(_, AfterCancel::Delete)));
}

#[rstest]
#[tokio::test]
async fn a_job_that_does_not_run_is_left_alone(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.kept("completed", secs(60))).await;
    on.run(done()).await;
    on.fill(&["archived", "retried", "pending"]).await;
    on.run(archive()).await;
    on.run(retry(secs(60))).await;
    on.put(on.job("scheduled").placed(Placement::After(secs(60)))).await;
    let states = [
        ("completed", JobState::Completed),
        ("archived", JobState::Archived),
        ("retried", JobState::Retry),
        ("pending", JobState::Pending),
        ("scheduled", JobState::Scheduled),
    ];
    for (name, state) in states {
        let before = on.see(name).await;
        assert_eq!(before.state, state);
        assert_eq!(on.cancel(name, AfterCancel::Delete).await, CancelAnswer::NotRunning(state));
        assert_eq!(on.see(name).await, before);
    }
    assert_eq!(on.cancel("nobody", AfterCancel::Delete).await, CancelAnswer::Missing);
    assert_eq!(on.find("nobody").await, None);
}

#[rstest]
#[tokio::test]
async fn whoever_finds_a_cancelled_job_of_a_lost_worker_learns_the_wish(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(AfterCancel::Retry, AfterCancel::Archive, AfterCancel::Delete)] after: AfterCancel,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let taken = on.take().await;
    on.cancel("a", after).await;
    on.pass(&taken.lease);

    assert_eq!(on.first_expired_leases(1).await[0].on_cancel, Some(after));
}

fn snooze(after: Duration) -> Transition {
    Transition::Retry { after, error: String::new(), counted: false }
}

/// The attempt ended before its worker saw the cancel request.
#[rstest]
#[tokio::test]
async fn a_wish_does_not_wait_until_the_job_is_tried_again(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(AfterCancel::Archive, AfterCancel::Delete)] after: AfterCancel,
    #[values(Transition::Requeue, reclaim(), retry(secs(900)), snooze(secs(900)))] end: Transition,
    #[values(false, true)] release: bool,
) {
    let mut settings = ArchiveSettings::default();
    settings.release_lock = release;
    let on = store.open().await.with_archive(settings).await;
    on.put(unique(on.job("a"), secs(9_000))).await;
    let mut twin = on.job("a");
    twin.record.id = id("b");
    let taken = on.take().await;
    on.cancel("a", after).await;
    let what = SettleRequest::from((taken.clone(), end.clone()));

    let settled = on.broker.settle(std::slice::from_ref(&what)).await.unwrap();

    assert_eq!(settled, [Settled::Cancelled(after)]);
    let left = on.broker.job(&on.queue, &id("a")).await.unwrap();
    let archived = after == AfterCancel::Archive;
    assert_eq!(left.is_some(), archived);
    if let Some(left) = left {
        assert_eq!((left.state, left.cancelling), (JobState::Archived, None));
        assert_eq!(left.record.last_error, end.error().unwrap_or_default());
    }
    assert_eq!(on.counters().await, (1, u64::from(archived)));
    let again = on.put(unique(twin, secs(9))).await;
    assert_eq!(created(&again), !archived || release, "{again:?}");
    on.clock.advance(secs(901));
    on.forward().await;
    let next = on.take_many(9).await;
    assert!(next.iter().all(|next| next.job.id.as_str() == "b"), "{next:?}");
}

#[rstest]
#[tokio::test]
async fn a_job_that_was_to_be_tried_again_is(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Transition::Requeue, reclaim(), retry(secs(1)))] end: Transition,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let taken = on.take().await;
    on.cancel("a", AfterCancel::Retry).await;
    on.settle(&taken, end).await;
    assert_eq!(on.see("a").await.cancelling, None);
    on.clock.advance(secs(1));
    on.forward().await;

    assert_eq!(on.take().await.on_cancel, None);
}

#[rstest]
#[tokio::test]
async fn a_wish_names_its_queue(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    on.fill(&["a"]).await;
    other.fill(&["a"]).await;
    let (taken, others) = (on.take().await, other.take().await);

    on.cancel("a", AfterCancel::Delete).await;

    assert!(matches!(on.extended(&taken.lease).await, Extended::Cancelled(..)));
    assert!(matches!(on.extended(&others.lease).await, Extended::Renewed(_)));
}

#[rstest]
#[tokio::test]
async fn a_wish_is_heard_of_at_once_also_through_another_handle(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let name = format!("heard-{}", on.queue);
    on.fill(&[&name]).await;
    on.take().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let wanted = name.clone();
    let hears = on.broker.detached();
    let hearing = tokio::spawn(async move {
        let heard = move |id: &str| {
            if id == wanted {
                let _ = tell.send(());
            }
        };
        hears.hear_cancels(Arc::new(heard)).await;
    });

    // Until it listens, nothing is heard.
    let heard = async {
        loop {
            on.cancel(&name, AfterCancel::Retry).await;
            let wait = tokio::time::timeout(Duration::from_millis(100), told.recv());
            if wait.await.is_ok() {
                break;
            }
        }
    };

    assert!(tokio::time::timeout(PATIENCE, heard).await.is_ok());
    hearing.abort();
}
