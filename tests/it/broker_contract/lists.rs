//! Lists of jobs and groups: order, pages, cursors.

use rocket_jobqueue::inspect::{Cursor, JobInfo, JobPage, JobRow, Page};
use rocket_jobqueue::internals::{Action, JobList};

use crate::broker_contract::bench::*;

fn page(number: u32, size: u32) -> Page {
    Page::number(number).unwrap().size(size).unwrap()
}

fn after(page: &JobPage, size: u32) -> Page {
    let next = page.next.clone().expect("a next page");
    // As it comes back from a URL.
    let next: Cursor = next.to_string().parse().unwrap();
    Page::after(next).size(size).unwrap()
}

fn names(page: &JobPage) -> Vec<&str> {
    page.rows.iter().map(|row| row.id().as_str()).collect()
}

fn job(row: &JobRow) -> &JobInfo {
    row.job().unwrap_or_else(|| panic!("{row:?}"))
}

impl OpenStore {
    async fn list(&self, state: JobState, page: &Page) -> JobPage {
        self.broker.jobs(&self.queue, JobList::State(state), page).await.unwrap()
    }

    async fn listed(&self, state: JobState) -> Vec<String> {
        let page = self.list(state, &Page::default()).await;
        names(&page).into_iter().map(str::to_owned).collect()
    }

    async fn later(&self, names: &[&str], delay: Duration) {
        let job = |name: &&str| self.job(name).placed(Placement::After(delay));
        let jobs: Vec<_> = names.iter().map(job).collect();
        self.broker.enqueue(&jobs).await.unwrap();
    }

    /// A job that waits in a group.
    async fn join(&self, name: &str, group: &str) {
        let mut job = self.job(name);
        job.record.group = group.to_owned();
        self.put(job).await;
    }
}

#[rstest]
#[tokio::test]
async fn pending_jobs_are_listed_as_they_will_be_taken(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c", "d"]).await;
    let first = on.take().await;
    on.settle(&first, Transition::Requeue).await;
    on.run(done()).await;

    let listed = on.listed(JobState::Pending).await;

    assert_eq!(listed, ["b", "c", "d"]);
    assert_eq!(on.take().await.job.id, id("b"));
}

#[rstest]
#[tokio::test]
async fn active_jobs_are_listed_as_they_were_taken_with_their_leases(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    let first = on.take().await;
    on.clock.advance(secs(1));
    on.take_many(2).await;
    on.clock.advance(secs(1));
    let extended = on.extend(&first.lease).await.unwrap();

    let page = on.list(JobState::Active, &Page::default()).await;

    assert_eq!(names(&page), ["a", "b", "c"]);
    let ends = Some(Timestamp::from_micros(extended.ends));
    assert_eq!(job(&page.rows[0]).lease_ends, ends);
    assert_eq!(job(&page.rows[0]), &on.see("a").await);
    assert!(page.rows.iter().all(|row| !job(row).orphaned && job(row).worker.is_none()));

    on.clock.advance(secs(29) + MICRO * 10);
    let page = on.list(JobState::Active, &Page::default()).await;
    let orphaned: Vec<bool> = page.rows.iter().map(|row| job(row).orphaned).collect();
    assert_eq!(orphaned, [false, true, true]);
}

#[rstest]
#[tokio::test]
async fn due_jobs_are_listed_by_their_second_and_then_by_id(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.later(&["z"], Duration::from_millis(1200)).await;
    on.later(&["b"], Duration::from_millis(1900)).await;
    on.later(&["a"], Duration::from_millis(2000)).await;
    on.later(&["c"], Duration::from_millis(900)).await;

    let page = on.list(JobState::Scheduled, &Page::default()).await;

    assert_eq!(names(&page), ["c", "a", "b", "z"]);
    assert_eq!(page.total, 4);
    assert_eq!(page.next, None);
    assert_eq!(job(&page.rows[3]).due, Some(START + Duration::from_millis(1200)));
}

#[rstest]
#[tokio::test]
async fn a_row_says_what_the_job_alone_says(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.later(&["s"], secs(60)).await;
    on.fill(&["r", "x"]).await;
    on.put(unique(on.kept("c", secs(60)), secs(600))).await;
    let mut pending = unique(on.job("p"), secs(600));
    pending.record.payload = None;
    on.put(pending).await;
    on.join("g", "digest").await;
    on.run(retry(secs(60))).await;
    on.run(archive()).await;
    on.run(Transition::Complete { result: Some(b"42".to_vec()) }).await;

    for (name, state) in [
        ("s", JobState::Scheduled),
        ("r", JobState::Retry),
        ("x", JobState::Archived),
        ("c", JobState::Completed),
        ("p", JobState::Pending),
    ] {
        let page = on.list(state, &Page::default()).await;
        // Only a single job says how its attempts failed.
        let mut info = on.see(name).await;
        info.failures.clear();
        assert_eq!(page.rows, [JobRow::Job(Box::new(info))], "{name}");
    }
    let group =
        on.broker.jobs(&on.queue, JobList::Group("digest"), &Page::default()).await.unwrap();
    assert_eq!(group.rows, [JobRow::Job(Box::new(on.see("g").await))]);

    let (archived, completed) = (on.see("x").await, on.see("c").await);
    assert_eq!(on.see("s").await.due, Some(START + secs(60)));
    assert_eq!(
        (archived.archived_at, archived.record.last_error.as_str()),
        (Some(START), "bad address")
    );
    assert_eq!(
        (completed.expires, completed.result),
        (Some(START + secs(60)), Some(b"42".to_vec()))
    );
    assert_eq!(on.see("g").await.grouped_since, Some(START));
    assert_eq!(on.see("p").await.pending_since, Some(START));
    assert!(on.see("p").await.locked && !completed.locked && !archived.locked);
}

#[rstest]
#[tokio::test]
async fn pages_by_number_and_by_cursor_are_the_same(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(JobState::Pending, JobState::Active, JobState::Scheduled, JobState::Archived)]
    state: JobState,
) {
    let on = store.open().await;
    let all: Vec<String> = (0..25).map(|n| format!("j{n:02}")).collect();
    let ids: Vec<&str> = all.iter().map(String::as_str).collect();
    match state {
        // Several of the same second, and page ends amid them.
        JobState::Scheduled => {
            on.later(&ids[10..], secs(2)).await;
            on.later(&ids[..10], secs(1)).await;
        }
        _ => on.fill(&ids).await,
    }
    if state == JobState::Active {
        on.take_many(25).await;
    }
    if state == JobState::Archived {
        for _ in 0..25 {
            on.run(archive()).await;
        }
    }

    let mut by_cursor = on.list(state, &page(1, 7)).await;
    for number in 1..=4 {
        let by_number = on.list(state, &page(number, 7)).await;
        assert_eq!(by_number, by_cursor, "page {number}");
        let from = (number as usize - 1) * 7;
        assert_eq!(names(&by_number), ids[from..(from + 7).min(25)], "page {number}");
        assert_eq!(by_number.total, 25);
        if number < 4 {
            by_cursor = on.list(state, &after(&by_cursor, 7)).await;
        }
    }
    assert_eq!(by_cursor.next, None);
    let beyond = on.list(state, &page(5, 7)).await;
    assert_eq!((beyond.rows, beyond.next, beyond.total), (Vec::new(), None, 25));
}

#[rstest]
#[tokio::test]
async fn a_cursor_in_a_list_by_time_outlives_its_job(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.later(&["a", "b", "c", "d", "e"], secs(1)).await;
    on.later(&["f"], secs(3)).await;
    let first = on.list(JobState::Scheduled, &page(1, 2)).await;
    assert_eq!(names(&first), ["a", "b"]);
    let next = after(&first, 3);

    // Before, at and behind the cursor's position.
    on.clock.advance(secs(1));
    on.broker.forward(&on.queue, 3).await.unwrap();
    assert_eq!(names(&on.list(JobState::Scheduled, &next).await), ["d", "e", "f"]);
    on.later(&["bb"], Duration::ZERO).await;
    on.forward().await;

    assert_eq!(names(&on.list(JobState::Scheduled, &next).await), ["f"]);
}

#[rstest]
#[tokio::test]
async fn a_cursor_in_a_moving_list_skips_nobody(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c", "d", "e", "f"]).await;
    let first = on.list(JobState::Pending, &page(1, 3)).await;
    assert_eq!(names(&first), ["a", "b", "c"]);
    let next = after(&first, 3);

    // The list moved up by one.
    on.run(done()).await;
    assert_eq!(names(&on.list(JobState::Pending, &next).await), ["d", "e", "f"]);
    // A job came in at its front.
    let taken = on.take_many(2).await;
    assert_eq!(ids(&taken), ["b", "c"]);
    on.settle(&taken[1], Transition::Requeue).await;
    on.settle(&taken[0], Transition::Requeue).await;
    assert_eq!(names(&on.list(JobState::Pending, &next).await), ["d", "e", "f"]);
    // All that the first page showed has gone.
    for _ in 0..3 {
        on.run(done()).await;
    }
    assert_eq!(names(&on.list(JobState::Pending, &next).await), ["e", "f"]);
}

#[rstest]
#[tokio::test]
async fn a_page_too_far_and_the_cursor_of_another_kind_of_list_are_refused(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b"]).await;
    on.later(&["c", "d"], secs(9)).await;
    let jobs =
        async |state, page: &Page| on.broker.jobs(&on.queue, JobList::State(state), page).await;

    let far = jobs(JobState::Pending, &page(102, 100)).await.unwrap_err();
    assert!(far.is_invalid() && far.to_string().contains("cursor"), "{far}");
    assert!(jobs(JobState::Pending, &page(101, 100)).await.unwrap().rows.is_empty());

    let pending = on.list(JobState::Pending, &page(1, 1)).await;
    let error = jobs(JobState::Scheduled, &after(&pending, 1)).await.unwrap_err();
    assert!(error.is_invalid(), "{error:?}");
    let scheduled = on.list(JobState::Scheduled, &page(1, 1)).await;
    let error = jobs(JobState::Active, &after(&scheduled, 1)).await.unwrap_err();
    assert!(error.is_invalid(), "{error:?}");
    let error = on.broker.groups(&on.queue, &after(&scheduled, 1)).await.unwrap_err();
    assert!(error.is_invalid(), "{error:?}");
}

#[rstest]
#[tokio::test]
async fn jobs_of_a_group_are_listed_by_when_they_joined(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.join("b", "a:b}c").await;
    on.clock.advance(secs(1));
    on.join("a", "a:b}c").await;
    on.join("x", "other").await;
    let list = async |group: &'static str, page: Page| {
        on.broker.jobs(&on.queue, JobList::Group(group), &page).await.unwrap()
    };

    let first = list("a:b}c", page(1, 1)).await;

    assert_eq!((names(&first), first.total), (vec!["b"], 2));
    assert_eq!(names(&list("a:b}c", after(&first, 1)).await), ["a"]);
    assert_eq!(list("unknown", Page::default()).await.total, 0);
}

#[rstest]
#[tokio::test]
async fn groups_are_listed_with_their_sizes_and_ages(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.join("1", "a").await;
    on.clock.advance(secs(5));
    on.join("2", "a").await;
    on.join("3", "b").await;

    let mut page = on.broker.groups(&on.queue, &Page::default()).await.unwrap();

    page.groups.sort_by(|one, other| one.group.cmp(&other.group));
    let seen: Vec<_> =
        page.groups.iter().map(|g| (g.group.as_str(), g.size, g.oldest, g.newest)).collect();
    let now = Some(START + secs(5));
    assert_eq!(seen, [("a", 2, Some(START), now), ("b", 1, now, now)]);
    assert_eq!((page.total, page.next), (2, None));
    let info = on.info().await;
    assert_eq!((info.groups, info.sizes["aggregating"], info.size), (2, 3, 3));
    assert!(on.broker.aggregations(&on.queue).await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_walk_over_many_groups_sees_each(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let grouped = |n: usize| {
        let mut job = on.job(&format!("j{n}"));
        job.record.group = format!("g{n}");
        job
    };
    let jobs: Vec<_> = (0..250).map(grouped).collect();
    on.broker.enqueue(&jobs).await.unwrap();

    let mut seen = BTreeSet::new();
    let mut page = Page::default().size(100).unwrap();
    loop {
        let found = on.broker.groups(&on.queue, &page).await.unwrap();
        assert_eq!(found.total, 250);
        seen.extend(found.groups.into_iter().map(|group| group.group));
        let Some(next) = found.next else { break };
        page = Page::after(next).size(100).unwrap();
    }

    assert_eq!(seen.len(), 250);
    let error = on.broker.groups(&on.queue, &Page::number(2).unwrap()).await.unwrap_err();
    assert!(error.is_invalid(), "{error:?}");
}

#[rstest]
#[tokio::test]
async fn a_list_can_be_read_from_its_end_page_by_page(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c", "d", "e"]).await;
    on.later(&["s2", "s1"], secs(10)).await;
    on.later(&["s3"], secs(20)).await;
    on.later(&["s4"], secs(30)).await;
    for (state, expected) in [
        (JobState::Pending, vec!["e", "d", "c", "b", "a"]),
        (JobState::Scheduled, vec!["s4", "s3", "s2", "s1"]),
    ] {
        let mut page = on.list(state, &Page::default().backward().size(2).unwrap()).await;
        let mut seen: Vec<String> = names(&page).into_iter().map(str::to_owned).collect();
        while page.next.is_some() {
            page = on.list(state, &after(&page, 2).backward()).await;
            seen.extend(names(&page).into_iter().map(str::to_owned));
        }
        assert_eq!(seen, expected);
        let numbered = on.list(state, &self::page(2, 2).backward()).await;
        assert_eq!(names(&numbered), expected[2..4]);
    }

    // The last row of the first page moves on before the next one is read.
    let first = on.list(JobState::Scheduled, &page(1, 2).backward()).await;
    on.broker.act(&on.queue, &id("s3"), Action::Delete).await.unwrap();
    let rest = on.list(JobState::Scheduled, &after(&first, 3).backward()).await;
    assert_eq!(names(&rest), ["s2", "s1"]);

    // New jobs come before the pages that were read, not among the next ones.
    let first = on.list(JobState::Pending, &page(1, 2).backward()).await;
    on.fill(&["f", "g"]).await;
    let rest = on.list(JobState::Pending, &after(&first, 3).backward()).await;
    assert_eq!(names(&rest), ["c", "b", "a"]);
}

#[rstest]
#[tokio::test]
async fn the_states_of_some_jobs_are_read_at_once(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b"]).await;
    on.later(&["c"], Duration::from_secs(60)).await;
    on.take().await;
    let ids = ["c", "gone", "b", "a"].map(|id| JobId::new(id).unwrap());
    let states = on.broker.states(&on.queue, &ids).await.unwrap();
    let expected =
        [Some(JobState::Scheduled), None, Some(JobState::Pending), Some(JobState::Active)];
    assert_eq!(states, expected);
    assert_eq!(on.broker.states(&on.queue, &[]).await.unwrap(), []);
    let nobody = QueueName::new("nobody").unwrap();
    assert_eq!(on.broker.states(&nobody, &ids[..1]).await.unwrap(), [None]);
}
