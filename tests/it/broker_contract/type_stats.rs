//! Statistics by job type.

use crate::broker_contract::bench::*;
use rocket_jobqueue::inspect::{TypeAttempt, VersionSeen};
use rocket_jobqueue::internals::{
    AppVersion, MAX_REPORTED_TYPES, MAX_TYPES, MAX_VERSIONS, Namespace, OTHER_TYPES, Remembered,
    ReportedType, Slice, TypeHistory, TypeRecord, TypeReport, in_namespace,
};

/// What a process counted of a type: run times in milliseconds, each with a wait of a second.
fn counted(name: &str, runs: &[u64], failed: u64) -> ReportedType {
    let mut record = TypeRecord { failed, ..TypeRecord::default() };
    record.succeeded = runs.len() as u64 - failed;
    for run in runs {
        record.runs.add(Duration::from_millis(*run));
        record.waits.add(secs(1));
    }
    ReportedType { name: name.to_owned(), record, ..ReportedType::default() }
}

fn report(types: Vec<ReportedType>) -> TypeReport {
    TypeReport { version: None, types }
}

impl OpenStore {
    /// Cases that share a server have statistics of their own.
    fn scope(&self) -> &str {
        self.queue.as_str()
    }

    async fn add_types(&self, report: &TypeReport) {
        self.broker.add_type_report(self.scope(), report).await.unwrap();
    }

    async fn history(&self, job_type: Option<&str>) -> TypeHistory {
        self.broker.type_history(self.scope(), &Slice::ALL, job_type).await.unwrap()
    }

    /// The sum of a type over all shown slices of a length.
    async fn sum(&self, slice: Slice, name: &str) -> TypeRecord {
        let mut sum = TypeRecord::default();
        let history = self.history(None).await;
        let of = history.slices.iter().filter(|((one, _), _)| *one == slice);
        of.filter_map(|(_, types)| types.get(name)).for_each(|record| sum.merge(record));
        sum
    }
}

#[rstest]
#[tokio::test]
async fn the_counts_of_several_processes_add_up_exactly(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert_eq!(on.history(None).await, TypeHistory::default());
    // Two processes at the same time, with run times from below a millisecond to hours.
    let of = |process: u64| {
        let on = on.clone();
        async move {
            let mut whole = TypeRecord::default();
            for round in 0..20_u64 {
                let run = |nth: u64| (nth * nth * (round + 1) * (process + 7)) % 9_000_017;
                let runs: Vec<u64> = (0..300).map(run).collect();
                let one = counted("mail:send", &runs, round + process);
                whole.merge(&one.record);
                on.add_types(&report(vec![one, counted("report", &[1], 0)])).await;
            }
            whole
        }
    };
    let (mut expected, other) = tokio::join!(of(0), of(1));
    expected.merge(&other);
    assert_eq!(expected.runs.count(), 12_000);
    for slice in Slice::ALL {
        assert_eq!(on.sum(slice, "mail:send").await, expected, "{slice:?}");
        assert_eq!(on.sum(slice, "report").await.succeeded, 40);
    }
    let one = on.history(Some("report")).await;
    assert!(one.slices.values().all(|types| types.len() == 1), "{one:?}");
    // Large counts stay whole numbers.
    let mut many = counted("many", &[5], 0);
    for _ in 0..45 {
        let record = many.record.clone();
        many.record.merge(&record);
    }
    let sent = many.record.clone();
    on.add_types(&report(vec![many.clone()])).await;
    on.add_types(&report(vec![many])).await;
    let mut twice = sent.clone();
    twice.merge(&sent);
    assert_eq!(on.sum(Slice::Day, "many").await, twice);
    assert_eq!(twice.succeeded, 1 << 46);
}

#[rstest]
#[tokio::test]
async fn a_count_is_shown_for_an_hour_a_day_and_two_weeks(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let shown = async || {
        let mut shown = [0; 3];
        for (nth, slice) in Slice::ALL.into_iter().enumerate() {
            shown[nth] = on.sum(slice, "t").await.succeeded;
        }
        shown
    };
    on.add_types(&report(vec![counted("t", &[1], 0)])).await;
    assert_eq!(shown().await, [1, 1, 1]);
    on.clock.advance(secs(55 * 60));
    on.add_types(&report(vec![counted("t", &[1, 2], 0)])).await;
    assert_eq!(shown().await, [3, 3, 3]);
    on.clock.advance(secs(5 * 60));
    assert_eq!(shown().await, [2, 3, 3]);
    on.clock.advance(secs(23 * 3600));
    assert_eq!(shown().await, [0, 0, 3]);
    on.clock.advance(secs(12 * 86_400));
    on.add_types(&report(vec![counted("t", &[1], 0)])).await;
    assert_eq!(shown().await, [1, 1, 4]);
    on.clock.advance(secs(86_400));
    assert_eq!(shown().await, [0, 0, 1]);
}

#[rstest]
#[tokio::test]
async fn types_beyond_two_hundred_and_with_long_names_are_counted_together(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let long = "x".repeat(101);
    let mut types = vec![counted(&long, &[1], 0)];
    types.extend((0..230).map(|nth| counted(&format!("type-{nth}"), &[10, 20], 1)));
    for some in types.chunks(MAX_REPORTED_TYPES) {
        on.add_types(&report(some.to_vec())).await;
        on.add_types(&report(some.to_vec())).await;
    }
    let history = on.history(None).await;
    assert_eq!(history.slices.len(), 3);
    for types in history.slices.values() {
        assert!(types.len() <= MAX_TYPES + 1, "{}", types.len());
        assert!(types.contains_key(OTHER_TYPES) && !types.contains_key(&long));
        let sum: u64 = types.values().map(|record| record.succeeded + record.failed).sum();
        assert_eq!(sum, 2 + 230 * 4, "nothing is lost");
        let runs: u64 = types.values().map(|record| record.runs.count()).sum();
        assert_eq!(runs, sum);
    }
}

#[rstest]
#[tokio::test]
async fn versions_are_known_by_when_they_were_seen_first_and_last(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let run = async |version: &str| {
        let version = Some(AppVersion::new(version).unwrap());
        on.add_types(&TypeReport { version, types: vec![counted("t", &[1], 0)] }).await;
        on.clock.advance(secs(60));
    };
    let seen = async || {
        let versions = on.history(None).await.versions;
        let seconds = |at: Timestamp| at.since(START).as_secs();
        let one =
            |seen: VersionSeen| (seen.version, seconds(seen.first_seen), seconds(seen.last_seen));
        versions.into_iter().map(one).collect::<Vec<_>>()
    };
    for version in ["2.4.0", "2.4.1", "2.4.0"] {
        run(version).await;
    }
    assert_eq!(seen().await, [("2.4.1".to_owned(), 60, 60), ("2.4.0".to_owned(), 0, 120)]);
    for nth in 0..MAX_VERSIONS {
        run(&format!("3.{nth}")).await;
    }
    let all = seen().await;
    assert_eq!(all.len(), MAX_VERSIONS);
    assert!(all.iter().all(|(version, ..)| version.starts_with("3.")), "{all:?}");
}

#[rstest]
#[tokio::test]
async fn the_slowest_attempts_and_the_newest_failures_are_remembered(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let mail = QueueName::new("mail").unwrap();
    let attempt = |nth: u64, failed| {
        let (ran, at) = (Duration::from_millis(nth), on.clock.now());
        TypeAttempt::new(ran, at, failed, mail.clone(), id(&format!("job {nth}: \"é\"")))
    };
    let add = async |runs: &[u64]| {
        let slowest: Vec<_> = runs.iter().map(|nth| attempt(*nth, false)).collect();
        let failed = runs.iter().map(|nth| attempt(*nth, true)).collect();
        let one = ReportedType { slowest, failed, ..counted("t", runs, 0) };
        on.add_types(&report(vec![one])).await;
        on.clock.advance(secs(1));
    };
    let millis = async |which: Remembered| {
        let found = on.history(Some("t")).await.remembered.remove(&which).unwrap_or_default();
        found.iter().map(|one| one.ran.as_millis()).collect::<Vec<_>>()
    };
    add(&[9, 7, 5, 3, 1]).await;
    add(&[8, 2]).await;
    assert_eq!(millis(Remembered::Slowest).await, [9, 8, 7, 5, 3]);
    assert_eq!(millis(Remembered::Failed).await[..2], [8, 2]);
    let found = on.history(Some("t")).await;
    let first = &found.remembered[&Remembered::Slowest][1];
    assert_eq!((first.at, first.failed), (START + secs(1), false));
    assert_eq!((first.queue.as_str(), first.id.clone()), ("mail", id("job 8: \"é\"")));
    assert_eq!(on.history(Some("other")).await.remembered, Default::default());
    on.clock.advance(secs(2 * 86_400));
    assert_eq!(millis(Remembered::Slowest).await, [0; 0], "neither today's nor yesterday's");
}

#[rstest]
#[tokio::test]
async fn applications_with_a_namespace_have_statistics_of_their_own(
    #[values(Store::Memory, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let shop = Namespace::new("shop").unwrap();
    let own = in_namespace(on.broker.clone(), Some(&shop));
    own.add_type_report("", &report(vec![counted("t", &[1], 0)])).await.unwrap();
    on.broker.add_type_report("", &report(vec![counted("t", &[1, 2], 0)])).await.unwrap();
    let history = own.type_history("", &[Slice::Day], None).await.unwrap();
    let counts: Vec<_> = history.slices.values().map(|types| types["t"].succeeded).collect();
    assert_eq!(counts, [1]);
}

#[tokio::test]
async fn statistics_on_disk_survive_a_restart() {
    let on = Store::Disk.open().await;
    let version = Some(AppVersion::new("2.4.1").unwrap());
    let attempt = TypeAttempt::new(secs(7), START, true, on.queue.clone(), id("a"));
    let one = ReportedType { slowest: vec![attempt], ..counted("t", &[1, 900], 1) };
    on.add_types(&TypeReport { version, types: vec![one] }).await;
    let before = on.history(Some("t")).await;
    // A change that is waited for, after which all before it is safe.
    on.fill(&["a"]).await;
    let (folder, clock, queue) = (on.folder.clone().unwrap(), on.clock.clone(), on.queue.clone());
    drop(on);
    let on = OpenStore::reopened(folder, clock, queue).await;
    assert_eq!(on.history(Some("t")).await, before);
    assert_eq!((before.slices.len(), before.versions.len(), before.remembered.len()), (3, 1, 1));
    // What is too old is dropped from the folder too.
    on.clock.advance(secs(20 * 86_400));
    on.add_types(&report(vec![counted("t", &[1], 0)])).await;
    assert_eq!(on.history(Some("t")).await.slices.len(), 3);
}
