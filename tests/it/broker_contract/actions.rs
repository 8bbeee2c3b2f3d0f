//! What an operator does to jobs that are not running.

use crate::broker_contract::bench::*;
use rocket_jobqueue::internals::{Acted, Action, GroupLimits, Removal, Sweep};
use rocket_jobqueue::{Error, inspect::Selection};

pub const LATER: Duration = Duration::from_secs(3600);

fn reschedule(after: Duration) -> Action {
    Action::Reschedule(Placement::After(after))
}

impl OpenStore {
    pub async fn act(&self, name: &str, action: Action) -> Acted {
        self.broker.act(&self.queue, &id(name), action).await.unwrap()
    }

    /// Brings a job into a state.
    async fn bring(&self, name: &str, state: JobState) {
        let mut job = self.kept(name, LATER);
        if state == JobState::Scheduled {
            job = job.placed(Placement::After(LATER));
        }
        if state == JobState::Aggregating {
            job = grouped(job, "group");
        }
        assert!(created(&self.put(job).await));
        match state {
            JobState::Pending | JobState::Scheduled | JobState::Aggregating => {}
            JobState::Active => drop(self.take().await),
            JobState::Retry => drop(self.run(retry(LATER)).await),
            JobState::Archived => drop(self.run(archive()).await),
            JobState::Completed => drop(self.run(done()).await),
            other => panic!("no way into {other}"),
        }
        assert_eq!(self.state(name).await, Some(state));
    }

    /// Stores jobs in this order, which many at a time do not keep.
    async fn line_up(&self, jobs: &[NewJob]) {
        for some in jobs.chunks(100) {
            assert!(self.broker.enqueue(some).await.unwrap().iter().all(created));
        }
    }

    async fn all(&self, action: Action, of: impl Into<Selection>) -> Result<(u64, u64), Error> {
        let mut sweep = Sweep::new(self.queue.clone(), action, of.into())?;
        while sweep.step(&*self.broker).await? {}
        Ok((sweep.done(), sweep.total()))
    }

    pub async fn size(&self, state: JobState) -> u64 {
        self.info().await.sizes[state.as_str()]
    }
}

#[rstest]
#[tokio::test]
async fn each_action_is_for_certain_states_and_changes_nothing_else(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Action::Run, Action::RunNext, Action::Archive, Action::Delete, reschedule(LATER))]
    action: Action,
    #[values(
        JobState::Pending,
        JobState::Active,
        JobState::Scheduled,
        JobState::Retry,
        JobState::Archived,
        JobState::Completed,
        JobState::Aggregating
    )]
    state: JobState,
) {
    let on = store.open().await;
    on.bring("a", state).await;
    let before = on.see("a").await;
    let counters = on.counters().await;

    let acted = on.act("a", action).await;

    let after = match action {
        _ if !action.permits(state) => Some(state),
        Action::Run | Action::RunNext => Some(JobState::Pending),
        Action::Archive => Some(JobState::Archived),
        Action::Delete => None,
        Action::Reschedule(_) if state == JobState::Retry => Some(state),
        Action::Reschedule(_) => Some(JobState::Scheduled),
    };
    let expected = if action.permits(state) { Acted::Done } else { Acted::WrongState(state) };
    assert_eq!(acted, expected);
    assert_eq!(on.state("a").await, after);
    assert_eq!(on.counters().await, counters, "no attempt has ended");
    let sizes: u64 = on.info().await.sizes.values().sum();
    assert_eq!(sizes, u64::from(after.is_some()), "it is in one place");
    if after.is_some() {
        assert_eq!(on.see("a").await.record, before.record, "the job itself stays as it was");
    }
}

#[rstest]
#[tokio::test]
async fn a_job_or_a_queue_that_does_not_exist_is_named(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Action::Run, Action::Archive, Action::Delete, reschedule(LATER))] action: Action,
) {
    let on = store.open().await;
    let error = on.broker.act(&on.queue, &id("a"), action).await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    let error = on.broker.edit(&on.queue, &id("a"), b"1").await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    let error = on.broker.remove_queue(&on.queue, true).await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");

    on.fill(&["b"]).await;

    assert_eq!(on.act("a", action).await, Acted::NotFound);
    assert_eq!(on.broker.edit(&on.queue, &id("a"), b"1").await.unwrap(), Acted::NotFound);
}

#[rstest]
#[tokio::test]
async fn a_job_that_is_run_stands_last_in_line_and_can_be_taken(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.bring("s", JobState::Scheduled).await;
    on.bring("r", JobState::Retry).await;
    on.bring("x", JobState::Archived).await;
    on.bring("c", JobState::Completed).await;
    on.fill(&["p"]).await;

    for name in ["c", "s", "x", "r"] {
        assert_eq!(on.act(name, Action::Run).await, Acted::Done);
    }

    assert_eq!(ids(&on.take_many(9).await), ["p", "c", "s", "x", "r"]);
    on.clock.advance(LATER * 2);
    assert_eq!(on.forward().await.moved, 0, "nothing of their due times is left");
    assert_eq!(on.delete_expired().await, 0, "nor of the retention");
}

#[rstest]
#[tokio::test]
async fn a_rescheduled_job_is_due_at_the_new_time_to_the_microsecond(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(JobState::Pending, JobState::Scheduled, JobState::Retry, JobState::Archived)]
    state: JobState,
    #[values(Duration::from_micros(1_500_001), secs(7200))] after: Duration,
) {
    let on = store.open().await;
    on.bring("a", state).await;

    assert_eq!(on.act("a", reschedule(after)).await, Acted::Done);

    assert_eq!(on.see("a").await.due, Some(START + after));
    on.clock.advance(after - MICRO);
    assert_eq!(on.forward().await, Forwarded { moved: 0, next: Some(MICRO), ready: false });
    on.clock.advance(MICRO);
    assert_eq!(on.forward().await, Forwarded { moved: 1, next: None, ready: true });
    assert_eq!(on.take().await.job.id, id("a"));
}

#[rstest]
#[tokio::test]
async fn a_due_time_that_has_come_makes_a_job_pending(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Placement::Now, Placement::After(Duration::ZERO), Placement::At(START))]
    placement: Placement,
) {
    let on = store.open().await;
    on.bring("a", JobState::Pending).await;
    on.bring("s", JobState::Scheduled).await;
    on.fill(&["b"]).await;

    assert_eq!(on.act("s", Action::Reschedule(placement)).await, Acted::Done);
    assert_eq!(on.act("a", Action::Reschedule(placement)).await, Acted::Done);

    assert_eq!(on.see("s").await.due, None);
    assert_eq!(ids(&on.take_many(9).await), ["a", "b", "s"], "who was pending keeps its place");
}

#[rstest]
#[tokio::test]
async fn whoever_waits_for_due_jobs_hears_of_an_earlier_one(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.bring("a", JobState::Scheduled).await;
    on.forward().await;
    let broker = Arc::clone(&on.broker);
    let waiting = tokio::spawn(async move { broker.due_changed().await });
    tokio::task::yield_now().await;

    assert_eq!(on.act("a", reschedule(secs(1))).await, Acted::Done);

    tokio::time::timeout(PATIENCE, waiting).await.expect("it was woken").unwrap().unwrap();
}

#[rstest]
#[tokio::test]
async fn a_deleted_job_leaves_its_lock_and_its_id_to_others(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert!(created(&on.put(unique(on.job("a"), LATER)).await));

    assert_eq!(on.act("a", Action::Delete).await, Acted::Done);

    assert!(created(&on.put(unique(on.job("b"), LATER)).await));
    assert!(created(&on.put(on.job("a")).await));
    assert_eq!(on.act("a", Action::Delete).await, Acted::Done);
    let again = on.put(unique(on.job("c"), LATER)).await;
    assert_eq!(again, Enqueued::Duplicate { holder: id("b") }, "another's lock is not touched");
}

#[rstest]
#[tokio::test]
async fn a_payload_is_replaced_in_every_state_but_active(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(
        JobState::Pending,
        JobState::Active,
        JobState::Scheduled,
        JobState::Retry,
        JobState::Archived,
        JobState::Completed,
        JobState::Aggregating
    )]
    state: JobState,
) {
    let on = store.open().await;
    on.bring("a", state).await;
    let before = on.see("a").await;

    let edited = on.broker.edit(&on.queue, &id("a"), b"new").await.unwrap();

    let mut expected = before.clone();
    if state == JobState::Active {
        assert_eq!(edited, Acted::WrongState(state));
    } else {
        assert_eq!(edited, Acted::Done);
        expected.record.payload = Some(b"new".to_vec());
    }
    assert_eq!(on.see("a").await, expected);
}

#[rstest]
#[tokio::test]
async fn an_edited_job_keeps_the_lock_of_its_first_payload(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert!(created(&on.put(unique(on.job("a"), LATER)).await));

    on.broker.edit(&on.queue, &id("a"), b"new").await.unwrap();

    assert_eq!(on.put(unique(on.job("b"), LATER)).await, Enqueued::Duplicate { holder: id("a") });
    on.run(done()).await;
    assert!(created(&on.put(unique(on.job("b"), LATER)).await), "released with the job");
}

#[rstest]
#[tokio::test]
async fn an_action_on_all_jobs_of_a_state_reaches_each_and_no_other(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(
        (Action::Run, JobState::Scheduled),
        (Action::Archive, JobState::Scheduled),
        (Action::Delete, JobState::Scheduled),
        (Action::Archive, JobState::Pending),
        (Action::Delete, JobState::Pending),
    )]
    case: (Action, JobState),
) {
    let on = store.open().await;
    let (action, state) = case;
    on.bring("other", JobState::Retry).await;
    let names: Vec<_> = (0..450).map(|n| format!("job-{n:03}")).collect();
    let later = |n: usize| match state {
        JobState::Scheduled => Placement::After(secs(60 + n as u64)),
        _ => Placement::Now,
    };
    let jobs: Vec<_> =
        names.iter().enumerate().map(|(n, name)| on.job(name).placed(later(n))).collect();
    on.line_up(&jobs).await;

    assert_eq!(on.all(action, state).await.unwrap(), (450, 450));

    assert_eq!(on.size(state).await, 0);
    assert_eq!(on.state("other").await, Some(JobState::Retry));
    match action {
        Action::Run => {
            let taken = on.take_many(500).await;
            assert_eq!(ids(&taken), names, "in the order of their due times");
        }
        Action::Archive => assert_eq!(on.size(JobState::Archived).await, 450),
        _ => assert_eq!(on.size(JobState::Archived).await, 0),
    }
    assert_eq!(on.all(action, state).await.unwrap(), (0, 0));
}

#[rstest]
#[tokio::test]
async fn jobs_that_arrive_meanwhile_do_not_keep_an_action_on_all_going(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let fill = async |from: usize| {
        let jobs: Vec<_> = (from..from + 300).map(|n| on.job(&format!("job-{n:04}"))).collect();
        on.line_up(&jobs).await;
    };
    fill(0).await;
    let mut sweep = Sweep::new(on.queue.clone(), Action::Delete, JobState::Pending.into()).unwrap();

    let mut steps = 0;
    while sweep.step(&*on.broker).await.unwrap() {
        steps += 1;
        fill(1000 + steps * 300).await;
    }

    assert_eq!((sweep.done(), sweep.total(), steps), (300, 300, 1));
    assert_eq!(on.state("job-0299").await, None);
    assert_eq!(on.size(JobState::Pending).await, 300, "those that came later are there");
}

#[rstest]
#[tokio::test]
async fn an_action_on_all_jobs_of_a_type_leaves_the_others_in_their_order(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(JobState::Pending, JobState::Scheduled)] state: JobState,
) {
    let on = store.open().await;
    let jobs: Vec<_> = (0..600u64)
        .map(|n| {
            let mut job = on.job(&format!("job-{n:03}"));
            if n % 3 == 1 {
                job.record.job_type = "report".to_owned();
            }
            if state == JobState::Scheduled {
                job = job.placed(Placement::After(secs(60 + n)));
            }
            job
        })
        .collect();
    on.line_up(&jobs).await;

    let of = Selection::from(state).of_type("report");
    assert_eq!(on.all(Action::Delete, of).await.unwrap(), (200, 600));

    if state == JobState::Scheduled {
        assert_eq!(on.all(Action::Run, state).await.unwrap(), (400, 400));
    }
    let taken = on.take_many(600).await;
    let expected: Vec<_> = (0..600).filter(|n| n % 3 != 1).map(|n| format!("job-{n:03}")).collect();
    assert_eq!(ids(&taken), expected);
}

#[rstest]
#[tokio::test]
async fn all_jobs_of_a_state_get_one_due_time_once(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(secs(10), secs(400), secs(4000))] after: Duration,
) {
    let on = store.open().await;
    // Some are due before the new time, some after it, one just then.
    let jobs: Vec<_> = (0..700u64)
        .map(|n| on.job(&format!("job-{n:03}")).placed(Placement::After(secs(1 + n))))
        .collect();
    on.line_up(&jobs).await;

    let (done, total) = on.all(reschedule(after), JobState::Scheduled).await.unwrap();

    assert_eq!(total, 700);
    assert_eq!(done, if after == secs(4000) { 700 } else { 699 }, "all but that one");
    for name in ["job-000", "job-008", "job-399", "job-401", "job-699"] {
        assert_eq!(on.see(name).await.due, Some(START + after), "{name}");
    }
    on.clock.advance(after);
    let mut moved = 0;
    while let Forwarded { moved: some @ 1.., .. } = on.forward().await {
        moved += some;
    }
    assert_eq!(moved, 700);
}

#[rstest]
#[tokio::test]
async fn a_job_run_out_of_its_group_is_tried_again_by_itself(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(false, true)] all: bool,
) {
    let on = store.open().await;
    on.bring("a", JobState::Aggregating).await;

    if all {
        assert_eq!(on.all(Action::Run, Selection::group("group")).await.unwrap(), (1, 1));
    } else {
        assert_eq!(on.act("a", Action::Run).await, Acted::Done);
    }

    on.run(retry(secs(1))).await;
    on.clock.advance(secs(1));
    assert_eq!(on.forward().await, Forwarded { moved: 1, next: None, ready: true });
    assert_eq!(on.take().await.job.id, id("a"));
}

#[rstest]
#[tokio::test]
async fn a_scheduled_job_of_a_group_still_goes_there_when_it_is_rescheduled(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(grouped(on.job("a"), "group").placed(Placement::After(LATER))).await;

    assert_eq!(on.act("a", reschedule(secs(1))).await, Acted::Done);

    on.clock.advance(secs(1));
    on.forward().await;
    assert_eq!(on.state("a").await, Some(JobState::Aggregating));
}

#[rstest]
#[tokio::test]
async fn a_job_that_is_being_aggregated_is_left_alone_until_it_is_back(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Action::Run, Action::Archive, Action::Delete)] action: Action,
) {
    let on = store.open().await;
    on.bring("a", JobState::Aggregating).await;
    on.clock.advance(secs(60));
    let limits = GroupLimits { grace: secs(10), max_delay: Duration::ZERO, max_size: 0 };
    let set = on.broker.claim_group(&on.queue, "group", &limits).await.unwrap().unwrap();
    let before = on.see("a").await;

    let busy = Acted::Elsewhere(JobState::Aggregating);
    assert_eq!(on.act("a", action).await, busy);
    assert_eq!(on.broker.edit(&on.queue, &id("a"), b"new").await.unwrap(), busy);
    assert_eq!(on.all(action, JobState::Aggregating).await.unwrap().0, 0);
    assert_eq!(on.broker.remove_queue(&on.queue, false).await.unwrap(), Removal::NotEmpty);

    assert_eq!(on.see("a").await, before);
    on.broker.return_set(&set).await.unwrap();
    assert_eq!(on.act("a", action).await, Acted::Done);
}

#[rstest]
#[tokio::test]
async fn an_action_is_for_one_group_or_for_all(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(Action::Run, Action::Archive, Action::Delete)] action: Action,
    #[values(false, true)] one: bool,
) {
    let on = store.open().await;
    let jobs: Vec<_> =
        (0..500).map(|n| grouped(on.job(&format!("{n:03}")), ["a", "b"][n % 2])).collect();
    on.line_up(&jobs).await;
    let of = if one { Selection::group("b") } else { JobState::Aggregating.into() };

    let expected = if one { 250 } else { 500 };
    assert_eq!(on.all(action, of).await.unwrap(), (expected, expected));

    assert_eq!(on.size(JobState::Aggregating).await, 500 - expected);
    assert_eq!(on.broker.waiting_groups(&on.queue).await.unwrap().len(), usize::from(one));
    let after = match action {
        Action::Run => Some(JobState::Pending),
        Action::Archive => Some(JobState::Archived),
        _ => None,
    };
    assert_eq!(on.state("001").await, after);
}

#[rstest]
#[tokio::test]
async fn no_action_on_all_is_for_jobs_that_run_or_would_stay_what_they_are(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    for (action, state) in [
        (Action::Run, JobState::Pending),
        (Action::Run, JobState::Active),
        (Action::Archive, JobState::Archived),
        (Action::Delete, JobState::Active),
        (reschedule(LATER), JobState::Completed),
    ] {
        assert!(on.all(action, state).await.unwrap_err().is_invalid(), "{action:?} {state}");
    }
}

#[rstest]
#[tokio::test]
async fn a_queue_with_a_job_of_any_state_is_removed_by_force_alone(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(
        JobState::Pending,
        JobState::Active,
        JobState::Scheduled,
        JobState::Retry,
        JobState::Archived,
        JobState::Completed,
        JobState::Aggregating
    )]
    state: JobState,
) {
    let on = store.open().await;
    let remove = async |force| on.broker.remove_queue(&on.queue, force).await.unwrap();
    on.bring("a", state).await;
    let before = (on.see("a").await, on.info().await);

    let running = state == JobState::Active;
    assert_eq!(remove(false).await, if running { Removal::Running } else { Removal::NotEmpty });
    assert_eq!((on.see("a").await, on.info().await), before);

    if running {
        assert_eq!(remove(true).await, Removal::Running);
        assert_eq!((on.see("a").await, on.info().await), before);
    } else {
        assert_eq!(remove(true).await, Removal::Gone);
        assert!(on.broker.queue(&on.queue).await.unwrap_err().is_not_found());
        assert!(!on.broker.queues().await.unwrap().contains(&on.queue));
    }
}

#[rstest]
#[tokio::test]
async fn a_removed_queue_leaves_nothing_and_begins_anew_with_the_next_job(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let beside = on.beside();
    beside.bring("a", JobState::Retry).await;
    for state in
        [JobState::Scheduled, JobState::Completed, JobState::Archived, JobState::Aggregating]
    {
        on.bring(state.as_str(), state).await;
    }
    assert!(created(&on.put(unique(on.job("u"), LATER)).await));
    assert!(created(&on.put(guarded(on.job("g"), "key", "body")).await));
    on.pause(true).await;

    assert_eq!(on.broker.remove_queue(&on.queue, true).await.unwrap(), Removal::Gone);

    if let Some(server) = &on.server {
        let left = server.cli(&["KEYS", &format!("asynq:{{{}}}:*", on.queue)]);
        assert_eq!(left, "");
    }
    assert!(created(&on.put(unique(on.job("u"), LATER)).await), "lock and id are free");
    assert!(created(&on.put(guarded(on.job("g"), "key", "body")).await), "so is the key");
    assert!(on.broker.queues().await.unwrap().contains(&on.queue), "it is seen again");
    let info = on.info().await;
    assert_eq!((info.processed, info.failed, info.processed_today, info.paused), (0, 0, 0, false));
    assert_eq!(ids(&on.take_many(9).await), ["u", "g"]);
    assert_eq!(beside.state("a").await, Some(JobState::Retry));
}

#[rstest]
#[tokio::test]
async fn an_empty_queue_is_removed_without_force(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.run(done()).await;

    assert_eq!(on.broker.remove_queue(&on.queue, false).await.unwrap(), Removal::Gone);

    assert!(on.broker.queue(&on.queue).await.unwrap_err().is_not_found());
}

/// Whether a transition counts as processed, and as failed.
#[rstest]
#[tokio::test]
async fn every_transition_counts_what_ended_and_nothing_else(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(
        (done(), 1, 0),
        (Transition::Revoke, 1, 0),
        (retry(secs(9)), 1, 1),
        (Transition::Retry { after: secs(9), error: String::new(), counted: false }, 0, 0),
        (Transition::Retry { after: secs(9), error: "why".to_owned(), counted: false }, 0, 0),
        (archive(), 1, 1),
        (Transition::Requeue, 0, 0),
        (reclaim(), 0, 0),
    )]
    case: (Transition, u64, u64),
    #[values(Duration::ZERO, LATER)] retention: Duration,
) {
    let on = store.open().await;
    let (transition, processed, failed) = case;
    // Something before, so that a counter that is set instead of counted shows.
    on.fill(&["before"]).await;
    on.run(archive()).await;
    on.put(on.kept("a", retention)).await;
    on.run(transition.clone()).await;

    let info = on.info().await;
    assert_eq!((info.processed, info.failed), (1 + processed, 1 + failed));
    assert_eq!((info.processed_today, info.failed_today), (1 + processed, 1 + failed));

    // 08:00 to midnight.
    on.clock.advance(secs(16 * 3600));
    on.put(on.kept("b", retention)).await;
    if on.state("a").await == Some(JobState::Pending) {
        on.act("a", Action::Delete).await;
    }
    on.run(transition).await;
    let info = on.info().await;
    assert_eq!((info.processed, info.failed), (1 + 2 * processed, 1 + 2 * failed));
    assert_eq!((info.processed_today, info.failed_today), (processed, failed), "of the new day");
}

#[rstest]
#[tokio::test]
async fn a_lease_of_a_removed_queue_fits_no_job_of_the_next_one(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let stale = on.run(done()).await;
    assert_eq!(on.broker.remove_queue(&on.queue, true).await.unwrap(), Removal::Gone);
    on.fill(&["a"]).await;
    let owner = on.take().await;

    assert_eq!(on.settle(&stale, archive()).await, Settled::Lost);
    assert_eq!(on.extend(&stale.lease).await, None);

    assert_eq!(on.settle(&owner, done()).await, Settled::Done);
    assert_eq!(on.counters().await, (1, 0));
}

#[rstest]
#[tokio::test]
async fn an_action_on_all_takes_jobs_in_the_order_of_their_list(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    // Of one second, as lists have it; the other of the next.
    for (name, micros) in [("b", 1), ("c", 400_000), ("a", 1_000_000), ("0", 1_000_001)] {
        let due = Placement::After(secs(60) + Duration::from_micros(micros));
        on.put(on.job(name).placed(due)).await;
    }

    on.all(Action::Run, JobState::Scheduled).await.unwrap();

    assert_eq!(ids(&on.take_many(9).await), ["a", "b", "c", "0"]);
}
