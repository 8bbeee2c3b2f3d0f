//! Periodic entries: claims, announcements, history.

use crate::broker_contract::bench::*;
use rocket_jobqueue::OnConflict;
use rocket_jobqueue::internals::{AnnouncedPeriodicJob, Fired, Firing, MAX_PERIODIC_RUNS, Tick};
use rocket_jobqueue::periodic::{PeriodicJobInfo, PeriodicRun};

const KEEP: Duration = Duration::from_secs(90 * 86_400);

impl OpenStore {
    /// These ticks, by seconds from the start, of an entry named like the queue.
    fn firing(&self, known: Option<i64>, ticks: &[i64]) -> Firing {
        let at = |secs: &i64| Timestamp::from_secs(START.as_secs() + secs);
        Firing {
            entry: format!("entry-of-{}", self.queue),
            queue: self.queue.clone(),
            known: known.as_ref().map(at),
            keep: KEEP,
            ticks: ticks.iter().map(|secs| (at(secs), self.job(&format!("t{secs}")))).collect(),
        }
    }

    async fn fire(&self, what: &Firing) -> Fired {
        self.broker.fire(what).await.unwrap()
    }

    /// Begins a claim at the clock's time.
    async fn enter(&self) {
        self.fire(&self.firing(None, &[])).await;
    }

    fn now_fired(&self) -> Tick {
        Tick::Fired { at: self.clock.now() }
    }

    fn entry(&self, id: &str) -> AnnouncedPeriodicJob {
        let mut job = self.job("template");
        job.record.queue = QueueName::new("low").unwrap();
        job.record.max_retry = 3;
        AnnouncedPeriodicJob {
            id: id.to_owned(),
            spec: "@every 30s".to_owned(),
            job,
            next: Some(START + secs(30)),
            prev: None,
        }
    }

    /// The announced entries with this id.
    async fn told(&self, id: &str) -> Vec<PeriodicJobInfo> {
        let mut told = self.broker.periodic_jobs().await.unwrap();
        told.retain(|entry| entry.id == id);
        told
    }
}

fn after(seconds: u64) -> Timestamp {
    START + secs(seconds)
}

#[rstest]
#[tokio::test]
async fn a_tick_is_fired_by_one_of_many_processes(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.enter().await;
    on.clock.advance(secs(10));

    let firing = on.firing(Some(0), &[10]);
    let all = futures_util::future::join_all((0..5).map(|_| on.fire(&firing))).await;

    let fired = all.iter().filter(|fired| fired.ticks == [on.now_fired()]).count();
    let claimed = all.iter().filter(|fired| fired.ticks == [Tick::Claimed]).count();
    assert_eq!((fired, claimed), (1, 4), "{all:?}");
    assert!(all.iter().all(|fired| fired.claimed == after(10)));
    assert!(all.iter().all(|fired| fired.last_run == Some(on.clock.now())));
    assert_eq!(ids(&on.take_many(9).await), ["t10"]);
}

#[rstest]
#[tokio::test]
async fn a_new_entry_counts_from_when_it_was_entered(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let entered = on.fire(&on.firing(None, &[])).await;
    assert_eq!(entered, Fired { claimed: START, last_run: None, ticks: vec![] });
    on.clock.advance(secs(5));

    // A process that comes later has the same claim, not one of its own.
    assert_eq!(on.fire(&on.firing(None, &[])).await, entered);
    let fired = on.fire(&on.firing(None, &[-60, 0, 1])).await;

    assert_eq!(fired.ticks, [Tick::Claimed, Tick::Claimed, on.now_fired()]);
    assert_eq!((fired.claimed, fired.last_run), (after(1), Some(after(5))));
}

#[rstest]
#[tokio::test]
async fn a_late_process_and_one_that_starts_again_fire_no_tick_twice(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.enter().await;
    on.clock.advance(secs(3));
    on.fire(&on.firing(Some(0), &[1, 2, 3])).await;
    let run = on.run(done()).await;
    assert_eq!(run.job.id.as_str(), "t1");

    // The job has vanished with its success; the claim has not.
    let late = on.fire(&on.firing(Some(0), &[1, 2, 3])).await;
    let again = on.fire(&on.firing(None, &[1])).await;

    assert_eq!(late.ticks, [Tick::Claimed, Tick::Claimed, Tick::Claimed]);
    assert_eq!(again.ticks, [Tick::Claimed]);
    assert_eq!(ids(&on.take_many(9).await), ["t2", "t3"]);
}

#[rstest]
#[tokio::test]
async fn a_tick_is_not_fired_a_microsecond_early(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.enter().await;
    on.clock.advance(secs(10) - MICRO);

    let early = on.fire(&on.firing(Some(0), &[10])).await;
    assert_eq!(early.ticks, [Tick::Early(MICRO)]);
    assert_eq!(early.claimed, START);
    assert_eq!(on.state("t10").await, None);
    on.clock.advance(MICRO);
    assert_eq!(on.fire(&on.firing(Some(0), &[10])).await.ticks, [on.now_fired()]);
}

#[rstest]
#[tokio::test]
async fn a_tick_is_skipped_while_the_job_of_an_earlier_one_holds_the_lock(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.enter().await;
    let firing = |tick: i64| {
        let mut firing = on.firing(Some(0), &[tick]);
        firing.ticks[0].1.unique_for = Some(secs(60));
        firing
    };
    on.clock.advance(secs(1));
    assert_eq!(on.fire(&firing(1)).await.ticks, [on.now_fired()]);
    on.clock.advance(secs(1));

    let skipped = on.fire(&firing(2)).await;

    assert_eq!(skipped.ticks, [Tick::Locked { holder: id("t1") }]);
    assert_eq!((skipped.claimed, skipped.last_run), (after(2), Some(after(1))));
    on.run(done()).await;
    assert_eq!(on.fire(&firing(2)).await.ticks, [Tick::Claimed], "it is not made up for");
    on.clock.advance(secs(1));
    assert_eq!(on.fire(&firing(3)).await.ticks, [on.now_fired()]);
}

#[rstest]
#[tokio::test]
async fn a_tick_replaces_the_job_that_waits_follows_one_that_runs_or_extends_its_lock(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.enter().await;
    let firing = |tick: i64, on_conflict| {
        let mut firing = on.firing(Some(0), &[tick]);
        let job = &mut firing.ticks[0].1;
        (job.unique_for, job.on_conflict) = (Some(secs(60)), on_conflict);
        job.record.max_retry = u32::try_from(tick).unwrap();
        firing
    };
    let holder = || Tick::Locked { holder: id("t1") };
    on.clock.advance(secs(4));
    assert_eq!(on.fire(&firing(1, OnConflict::Replace)).await.ticks, [on.now_fired()]);
    assert_eq!(on.fire(&firing(2, OnConflict::Replace)).await.ticks, [holder()]);
    let first = on.take().await;
    assert_eq!((first.job.id.as_str(), first.job.max_retry), ("t1", 2), "the waiting one");
    assert_eq!(on.fire(&firing(3, OnConflict::Extend)).await.ticks, [holder()]);

    assert_eq!(on.fire(&firing(4, OnConflict::Replace)).await.ticks, [on.now_fired()]);
    assert!(on.take_many(9).await.is_empty());
    on.settle(&first, done()).await;
    assert_eq!(ids(&on.take_many(9).await), ["t4"]);
}

#[rstest]
#[tokio::test]
async fn a_tick_whose_job_a_peer_has_stored_is_a_conflict_and_no_second_job(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.enter().await;
    on.clock.advance(secs(1));
    on.fill(&["t1"]).await;

    let fired = on.fire(&on.firing(Some(0), &[1])).await;

    assert_eq!(fired.ticks, [Tick::IdConflict]);
    assert_eq!((fired.claimed, fired.last_run), (after(1), None));
    assert_eq!(ids(&on.take_many(9).await), ["t1"]);
}

#[rstest]
#[tokio::test]
async fn a_tick_may_enqueue_for_later(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.enter().await;
    on.clock.advance(secs(1));
    let mut firing = on.firing(Some(0), &[1]);
    firing.ticks[0].1.placement = Placement::At(after(31));

    assert_eq!(on.fire(&firing).await.ticks, [on.now_fired()]);

    let job = on.see("t1").await;
    assert_eq!((job.state, job.due), (JobState::Scheduled, Some(after(31))));
}

#[rstest]
#[tokio::test]
async fn a_store_that_lost_the_claim_believes_the_process(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.clock.advance(secs(9));

    let fired = on.fire(&on.firing(Some(5), &[4, 5, 6])).await;

    assert_eq!(fired.ticks, [Tick::Claimed, Tick::Claimed, on.now_fired()]);
}

#[rstest]
#[tokio::test]
async fn a_claim_far_ahead_is_from_before_the_clock_was_set_back(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let far = 2 * 86_400;

    let entered = on.fire(&on.firing(Some(far), &[])).await;

    assert_eq!(entered.claimed, START);
    on.clock.advance(secs(1));
    assert_eq!(on.fire(&on.firing(Some(far), &[1])).await.ticks, [on.now_fired()]);
}

#[rstest]
#[tokio::test]
async fn an_entry_of_several_processes_is_shown_once_with_all_of_them(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let id = format!("e-{}", on.queue);
    let (first, second) = (format!("b:2:{id}"), format!("a:1:{id}"));
    let mut entry = on.entry(&id);
    on.broker.announce_periodic_jobs(&first, std::slice::from_ref(&entry)).await.unwrap();
    entry.next = Some(after(60));
    entry.prev = Some(after(30));
    on.broker.announce_periodic_jobs(&second, &[entry]).await.unwrap();

    let told = on.told(&id).await;

    let [one] = &told[..] else { panic!("{told:?}") };
    assert_eq!(one.spec, "@every 30s");
    assert_eq!((one.job_type.as_str(), &one.payload[..]), ("mail", &b"{}"[..]));
    assert_eq!(one.options, ["Queue(\"low\")", "MaxRetry(3)"]);
    assert_eq!(one.queue.as_str(), "low");
    assert_eq!((one.next, one.prev), (Some(after(30)), Some(after(30))));
    assert_eq!(one.schedulers, [second.clone(), first.clone()]);

    on.broker.retire_periodic_jobs(&first).await.unwrap();
    assert_eq!(on.told(&id).await[0].schedulers, [second.as_str()]);
    on.broker.retire_periodic_jobs(&second).await.unwrap();
    on.broker.retire_periodic_jobs(&second).await.unwrap();
    assert!(on.told(&id).await.is_empty());
}

#[rstest]
#[tokio::test]
async fn an_announcement_that_is_not_repeated_ends(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let id = format!("e-{}", on.queue);
    on.broker.announce_periodic_jobs(&id, &[on.entry(&id)]).await.unwrap();
    on.clock.advance(secs(20));
    assert_eq!(on.told(&id).await.len(), 1);

    on.clock.advance(secs(1));

    assert!(on.told(&id).await.is_empty());
}

#[rstest]
#[tokio::test]
async fn runs_are_kept_newest_first_each_once_and_not_without_end(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let entry = format!("e-{}", on.queue);
    let run = |secs: u64| PeriodicRun::new(id(&format!("t{secs}")), after(secs));
    for nth in 0..MAX_PERIODIC_RUNS as u64 + 5 {
        on.broker.record_run(&entry, &run(nth), KEEP).await.unwrap();
    }
    let newest = MAX_PERIODIC_RUNS as u64 + 4;
    on.broker.record_run(&entry, &run(newest), KEEP).await.unwrap();

    let history = async |skip, most| on.broker.periodic_history(&entry, skip, most).await.unwrap();

    assert_eq!(history(0, 2).await, [run(newest), run(newest - 1)]);
    assert_eq!(history(2, 1).await, [run(newest - 2)]);
    assert_eq!(history(MAX_PERIODIC_RUNS - 1, 100).await, [run(5)]);
    assert_eq!(history(0, 0).await, []);
    assert_eq!(on.broker.periodic_history("none", 0, 100).await.unwrap(), []);
}
