//! Moving everything of a queue out of a store and into one.

use std::collections::BTreeMap;

use rocket_jobqueue::internals::{Entry, Firing, Imported, JobEntry, Output};
use rocket_jobqueue::{OnConflict, Progress, Until};

use crate::broker_contract::bench::*;

/// All entries of the case's queue.
async fn exported(on: &OpenStore) -> Vec<Entry> {
    let (mut export, mut all) = (on.broker.export(), Vec::new());
    while let Some(page) = export.next_page().await.unwrap() {
        all.extend(page.into_iter().filter(|entry| entry.queue() == Some(&on.queue)));
    }
    all
}

fn queue_mut(entry: &mut Entry) -> Option<&mut QueueName> {
    match entry {
        Entry::Job(job) => Some(&mut job.record.queue),
        Entry::Runs { .. } => None,
        Entry::Queue { queue, .. }
        | Entry::Unreadable { queue, .. }
        | Entry::Lock { queue, .. }
        | Entry::Request { queue, .. }
        | Entry::KeyQueue { queue, .. }
        | Entry::Claim { queue, .. }
        | Entry::Day { queue, .. }
        | Entry::Minute { queue, .. } => Some(queue),
    }
}

/// Entries without what depends on the moment of the export, in an order of their own: pending
/// jobs stay in theirs.
fn comparable(entries: &[Entry], queue: &QueueName) -> Vec<String> {
    let (mut ordered, mut others) = (Vec::new(), Vec::new());
    for mut entry in entries.iter().cloned() {
        if let Some(name) = queue_mut(&mut entry) {
            *name = queue.clone();
        }
        match &mut entry {
            Entry::Lock { until, .. }
            | Entry::Request { until, .. }
            | Entry::KeyQueue { until, .. } => *until = START,
            Entry::Claim { until, .. } => *until = None,
            _ => {}
        }
        let Entry::Job(job) = &mut entry else {
            others.push(format!("{entry:?}"));
            continue;
        };
        // An active job becomes pending when it arrives.
        if job.was_active || job.record.id == id("active") {
            (job.was_active, job.pending_since) = (false, None);
        }
        // `Debug` leaves out what may be secret.
        let record = &job.record;
        let hidden = format!(
            "{:?} {:?} {:?} {:?}",
            record.payload, record.headers, record.unique_key, record.last_error
        );
        let list = if job.state == JobState::Pending { &mut ordered } else { &mut others };
        list.push(format!("{hidden} {job:?}"));
    }
    others.sort();
    ordered.extend(others);
    ordered
}

/// A job in each state, and everything that lies beside the jobs.
async fn furnish(on: &OpenStore) {
    let queues = std::slice::from_ref(&on.queue);
    on.put(on.job("retries")).await;
    on.put(on.job("archived")).await;
    on.put(unique(on.kept("completed", secs(3600)), secs(600))).await;
    on.put(on.job("active")).await;
    let taken = on.take_from(queues, 4).await;
    on.broker.write_output(&taken[2].lease, Output::Progress(&Progress::new(1, 2))).await.unwrap();
    let done = Transition::Complete { result: Some(b"\xff\x00".to_vec()) };
    for (delivery, transition) in
        taken.iter().zip([retry(Duration::from_micros(90_500_001)), archive(), done])
    {
        assert_eq!(on.settle(delivery, transition).await, Settled::Done);
    }
    on.clock.advance(secs(1));
    on.fill(&["first", "second"]).await;
    let mut headers = on.job("headers");
    headers.record.headers = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
    headers.record.timeout = secs(90);
    headers.record.payload = Some(b"\xfe".to_vec());
    on.put(headers).await;
    let mut locked = unique(on.job("locked"), secs(600));
    locked.record.payload = Some(b"locked".to_vec());
    locked.until = Until::Start;
    on.put(locked.placed(Placement::After(Duration::from_micros(7_000_001)))).await;
    let mut timed = unique(on.job("timed"), secs(600));
    timed.record.payload = Some(b"timed".to_vec());
    timed.until = Until::Expiry;
    on.put(timed.placed(Placement::After(secs(8)))).await;
    let urgent = NewJob { expires_in: Some(secs(70)), ..on.job("urgent") };
    on.put(urgent).await;
    on.put(guarded(on.job("guarded"), "key", "body")).await;
    on.put(grouped(on.job("in-group"), "digest")).await;
    on.put(grouped(on.job("to-group"), "digest").placed(Placement::After(secs(9)))).await;
    let tick = (on.clock.now(), on.job("tick"));
    let firing = Firing {
        entry: "nightly".to_owned(),
        queue: on.queue.clone(),
        known: Some(on.clock.now() - secs(60)),
        keep: secs(3600),
        ticks: vec![tick],
    };
    on.broker.fire(&firing).await.unwrap();
    // The counters of this minute.
    on.broker.delete_expired(&on.queue, 10).await.unwrap();
    assert!(on.broker.pause(&on.queue, true).await.unwrap());
}

fn of_queue(entries: &[Entry], queue: &QueueName) -> Vec<Entry> {
    let mut entries = entries.to_vec();
    entries.iter_mut().filter_map(queue_mut).for_each(|name| *name = queue.clone());
    entries
}

fn all(results: &[Imported], expected: &Imported) {
    for result in results {
        assert_eq!(result, expected, "{results:?}");
    }
}

fn jobs(entries: &[Entry]) -> Vec<&JobEntry> {
    entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Job(job) => Some(&**job),
            _ => None,
        })
        .collect()
}

#[rstest]
#[tokio::test]
async fn everything_of_a_queue_moves_to_memory_and_back_unchanged(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    furnish(&on).await;
    let all_entries = exported(&on).await;
    let moved = jobs(&all_entries);
    let states: BTreeSet<_> = moved.iter().map(|job| job.state.as_str()).collect();
    assert_eq!(states.len(), 6, "{states:?}: active jobs are pending again");
    assert_eq!(moved.iter().filter(|job| job.was_active).count(), 1);
    let kinds: BTreeSet<_> =
        all_entries.iter().map(std::mem::discriminant).map(|kind| format!("{kind:?}")).collect();
    assert_eq!(kinds.len(), 7, "queue, job, lock, request, claim, day, minute");

    let between = OpenStore { queue: on.queue.clone(), ..Store::Memory.open().await };
    between.clock.advance(secs(1));
    let results = between.broker.import(&all_entries, false).await.unwrap();
    all(&results, &Imported::New);
    let again = between.broker.import(&all_entries, false).await.unwrap();
    all(&again, &Imported::AlreadyThere);
    let through = exported(&between).await;
    assert_eq!(comparable(&through, &on.queue), comparable(&all_entries, &on.queue));

    // Back under another name, beside the first one.
    let back = on.beside();
    let entries = of_queue(&through, &back.queue);
    let dry = back.broker.import(&entries, true).await.unwrap();
    all(&dry, &Imported::New);
    assert!(exported(&back).await.is_empty(), "a dry run stores nothing");
    all(&back.broker.import(&entries, false).await.unwrap(), &Imported::New);
    let there = exported(&back).await;
    assert_eq!(comparable(&there, &on.queue), comparable(&all_entries, &on.queue));
    all(&back.broker.import(&entries, false).await.unwrap(), &Imported::AlreadyThere);

    // What ran comes first; locks, pauses and due times hold.
    let taken = back.take_from(std::slice::from_ref(&back.queue), 9).await;
    assert!(taken.is_empty(), "it is paused");
    back.broker.pause(&back.queue, false).await.unwrap();
    let taken = back.take_from(std::slice::from_ref(&back.queue), 9).await;
    assert_eq!(ids(&taken), ["active", "first", "second", "headers", "urgent", "guarded", "tick"]);
    let mut second = unique(back.job("other"), secs(60));
    second.record.payload = Some(b"locked".to_vec());
    assert_eq!(back.put(second).await, Enqueued::Duplicate { holder: id("locked") });
    let mut third = unique(back.job("third"), secs(60));
    third.record.payload = Some(b"timed".to_vec());
    assert_eq!(back.put(third).await, Enqueued::Duplicate { holder: id("timed") });
    let repeated = back.put(guarded(back.job("guarded-again"), "key", "body")).await;
    assert_eq!(repeated, Enqueued::Replayed { id: id("guarded") });
    let forwarded = back.broker.forward(&back.queue, 9).await.unwrap();
    assert_eq!((forwarded.moved, forwarded.next), (0, Some(Duration::from_micros(7_000_001))));
}

#[rstest]
#[tokio::test]
async fn a_lock_that_is_left_of_a_job_is_taken_over_and_a_timed_one_is_not(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    for conflict in [OnConflict::Extend, OnConflict::Replace] {
        for timed in [false, true] {
            let on = store.open().await;
            let mut job = unique(on.job("new"), secs(60));
            (job.record.payload, job.on_conflict) = (None, conflict);
            let lock = Entry::Lock {
                queue: on.queue.clone(),
                name: format!("{}:", job.record.job_type),
                holder: id("gone"),
                until: START + secs(600),
                timed,
            };
            let queue = on.queue.clone();
            let queue = Entry::Queue { queue, paused: None, processed: 0, failed: 0 };
            all(&on.broker.import(&[queue, lock], false).await.unwrap(), &Imported::New);
            let is_lock = |entry: &Entry| match entry {
                Entry::Lock { holder, timed: found, .. } => {
                    *holder == id("gone") && *found == timed
                }
                _ => false,
            };
            let there = exported(&on).await;
            assert!(there.iter().any(is_lock), "{there:?}");

            let outcome = on.put(job).await;

            let expected = match (timed, conflict) {
                (false, _) => Enqueued::Created { state: JobState::Pending, due: START },
                (true, OnConflict::Extend) => Enqueued::Extended { holder: id("gone") },
                (true, _) => Enqueued::Duplicate { holder: id("gone") },
            };
            assert_eq!(outcome, expected, "{conflict:?}, timed: {timed}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn what_is_there_is_never_overwritten(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    furnish(&on).await;
    let entries = exported(&on).await;
    let before = comparable(&entries, &on.queue);
    let mut others = Vec::new();
    for entry in &entries {
        let mut other = entry.clone();
        match &mut other {
            Entry::Job(job) => job.record.payload = Some(b"secret".to_vec()),
            Entry::Queue { processed, .. } | Entry::Day { processed, .. } => *processed += 1,
            Entry::Lock { holder, .. } => *holder = id("somebody"),
            Entry::Request { job, .. } => *job = id("somebody"),
            Entry::Claim { up_to, .. } => *up_to = *up_to + secs(1),
            Entry::Minute { pending, processed, .. } => (*pending, *processed) = (77, 77),
            _ => continue,
        }
        others.push(other);
    }
    for result in on.broker.import(&others, false).await.unwrap() {
        let Imported::Conflict(what) = &result else { panic!("{result:?}") };
        assert!(what.contains("expected") && what.contains("found"), "{what}");
        assert!(!what.contains("secret"), "{what}");
    }
    assert_eq!(comparable(&exported(&on).await, &on.queue), before);
}

#[rstest]
#[tokio::test]
async fn what_has_expired_since_the_export_is_left_out(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.kept("completed", secs(10))).await;
    let taken = on.take_from(std::slice::from_ref(&on.queue), 1).await;
    assert_eq!(on.settle(&taken[0], done()).await, Settled::Done);
    let entries = exported(&on).await;
    let back = on.beside();
    on.clock.advance(secs(11));
    let job = entries.iter().filter(|entry| matches!(entry, Entry::Job(_))).cloned();
    let queue = back.queue.clone();
    let lock = Entry::Lock {
        queue,
        name: "mail:".to_owned(),
        holder: id("a"),
        until: START,
        timed: false,
    };
    let entries = of_queue(&job.chain([lock]).collect::<Vec<_>>(), &back.queue);
    assert_eq!(entries.len(), 2);
    all(&back.broker.import(&entries, false).await.unwrap(), &Imported::Expired);
    assert!(exported(&back).await.iter().all(|entry| matches!(entry, Entry::Queue { .. })));
}

#[rstest]
#[tokio::test]
async fn a_job_that_waits_for_a_limit_arrives_pending(#[values(Store::Redis)] store: Store) {
    use rocket_jobqueue::limits::Limit;
    let on = store.open().await;
    on.broker.set_limit(&on.queue, &Limit::new("all").concurrency(1)).await.unwrap();
    on.fill(&["a", "b"]).await;
    assert_eq!(ids(&on.take_many(2).await), ["a"]);
    assert_eq!(on.state("b").await, Some(JobState::Scheduled));

    let target = on.beside();
    let mut entries: Vec<Entry> = exported(&on).await;
    entries.iter_mut().filter_map(queue_mut).for_each(|queue| *queue = target.queue.clone());
    target.broker.import(&entries, false).await.unwrap();
    assert_eq!(target.state("b").await, Some(JobState::Pending), "limits do not move");
    assert_eq!(target.take_many(2).await.len(), 2);
}
