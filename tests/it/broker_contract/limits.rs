//! Limits: how many jobs of a queue, a type or a key run at once, and how many start in a time.

use crate::broker_contract::bench::*;
use rocket_jobqueue::inspect::{LimitUse, Page};
use rocket_jobqueue::limits::{Limit, LimitKey, Rate};

/// A job of an account.
pub(super) fn of_account(on: &OpenStore, name: &str, account: &str) -> NewJob {
    let mut job = on.job(name);
    job.record.payload = Some(format!(r#"{{"account":{{"id":"{account}"}}}}"#).into_bytes());
    job
}

pub(super) fn per_account(jobs: u32) -> Limit {
    Limit::new("account").key(LimitKey::parse("payload.account.id").unwrap()).concurrency(jobs)
}

impl OpenStore {
    pub(super) async fn set_limit(&self, limit: &Limit) {
        self.broker.set_limit(&self.queue, limit).await.unwrap();
    }

    /// All jobs that can start now.
    pub(super) async fn start(&self) -> Vec<Delivery> {
        self.take_many(100).await
    }

    async fn use_of(&self, limit: &str, key: &str) -> Option<LimitUse> {
        let all = self.broker.limit_uses(&self.queue, limit, 100).await.unwrap();
        assert!(!all.more);
        all.uses.into_iter().find(|one| one.key == key)
    }

    /// Jobs of the key that run, and that wait.
    pub(super) async fn counted(&self, limit: &str, key: &str) -> (u64, u64) {
        self.use_of(limit, key).await.map_or((0, 0), |one| (one.in_use, one.waiting))
    }
}

#[rstest]
#[tokio::test]
async fn no_more_jobs_of_a_queue_run_than_its_limit_says_and_they_start_in_order(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&Limit::new("all").concurrency(2)).await;
    on.fill(&["a", "b", "c", "d", "e"]).await;

    let first = on.start().await;
    assert_eq!(ids(&first), ["a", "b"]);
    assert!(on.start().await.is_empty(), "both places are taken");
    let waiting = on.see("c").await;
    assert_eq!((waiting.state, waiting.record.retried), (JobState::Scheduled, 0));
    let wait = waiting.waiting_for.unwrap();
    assert_eq!((wait.limit.as_str(), wait.key.as_str()), ("all", ""));
    assert_eq!(on.counted("all", "").await, (2, 3));

    on.settle(&first[1], done()).await;
    let second = on.start().await;
    assert_eq!(ids(&second), ["c"], "the place goes to the one that waits longest");
    assert_eq!(second[0].job.retried, 0);
    assert_eq!(on.see("c").await.waiting_for, None);
    on.settle(&first[0], done()).await;
    on.settle(&second[0], done()).await;
    assert_eq!(ids(&on.start().await), ["d", "e"]);
    assert_eq!(on.counted("all", "").await, (2, 0));
}

#[rstest]
#[tokio::test]
async fn each_key_has_its_own_limit_and_none_delays_another(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&per_account(1)).await;
    for name in ["hot-1", "hot-2", "hot-3"] {
        on.put(of_account(&on, name, "hot")).await;
    }
    on.put(of_account(&on, "cold-1", "cold")).await;
    on.put(on.job("none-1")).await;
    on.put(on.job("none-2")).await;

    let started = on.start().await;
    assert_eq!(ids(&started), ["hot-1", "cold-1", "none-1"], "jobs without a key share one");
    assert_eq!(on.counted("account", "hot").await, (1, 2));
    assert_eq!(on.counted("account", "").await, (1, 1));
    on.settle(&started[1], done()).await;
    assert!(on.start().await.is_empty(), "another key's place is not theirs");
    assert_eq!(on.use_of("account", "cold").await, None, "a key without jobs is forgotten");
    on.settle(&started[0], done()).await;
    assert_eq!(ids(&on.start().await), ["hot-2"]);
}

#[rstest]
#[tokio::test]
async fn a_limit_counts_the_types_that_it_names_and_a_key_may_be_given(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let given = LimitKey::parse("given").unwrap();
    on.set_limit(&Limit::new("api").types(["call", "fetch"]).key(given).concurrency(1)).await;
    let job = |name: &str, job_type: &str, key: &str| {
        let mut job = on.job(name);
        job.record.job_type = job_type.to_owned();
        job.record.headers.insert("jobqueue-limit-api".to_owned(), key.to_owned());
        job
    };
    on.put(job("mail-1", "mail", "x")).await;
    on.put(job("mail-2", "mail", "x")).await;
    on.put(job("call-1", "call", "x")).await;
    on.put(job("fetch-1", "fetch", "x")).await;
    on.put(job("fetch-2", "fetch", "y")).await;
    assert_eq!(ids(&on.start().await), ["mail-1", "mail-2", "call-1", "fetch-2"]);
    assert_eq!(on.see("fetch-1").await.waiting_for.unwrap().key, "x");
}

#[rstest]
#[tokio::test]
async fn a_job_under_two_limits_needs_room_in_both(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&per_account(2)).await;
    on.set_limit(&Limit::new("all").concurrency(3)).await;
    for name in ["a-1", "a-2", "a-3"] {
        on.put(of_account(&on, name, "a")).await;
    }
    for name in ["b-1", "b-2"] {
        on.put(of_account(&on, name, "b")).await;
    }
    let started = on.start().await;
    assert_eq!(ids(&started), ["a-1", "a-2", "b-1"]);
    assert_eq!(on.see("a-3").await.waiting_for.unwrap().limit, "account");
    assert_eq!(on.see("b-2").await.waiting_for.unwrap().limit, "all");

    // A place of the account and one of the queue: the queue's goes to the one that waits for it.
    on.settle(&started[0], done()).await;
    let next = on.start().await;
    assert_eq!(next.len(), 1, "{:?}", ids(&next));
    on.settle(&started[1], done()).await;
    on.settle(&started[2], done()).await;
    let mut all: Vec<_> = ids(&next).into_iter().map(str::to_owned).collect();
    all.extend(ids(&on.start().await).into_iter().map(str::to_owned));
    all.sort();
    assert_eq!(all, ["a-3", "b-2"]);
}

#[rstest]
#[case::success(done(), 0)]
#[case::failure(retry(secs(60)), 60)]
#[case::for_good(archive(), 0)]
#[case::requeue(Transition::Requeue, 0)]
#[tokio::test]
async fn however_an_attempt_ends_its_place_is_free(
    #[case] end: Transition,
    #[case] later: u64,
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&Limit::new("all").concurrency(1)).await;
    on.fill(&["a", "b"]).await;
    let [first] = &on.start().await[..] else { panic!("one starts") };
    assert_eq!(on.settle(first, end.clone()).await, Settled::Done);
    let [next] = &on.start().await[..] else { panic!("one starts") };
    let expected = if end == Transition::Requeue { "a" } else { "b" };
    assert_eq!(next.job.id.as_str(), expected);
    assert_eq!(on.counted("all", "").await.0, 1);

    if later > 0 {
        // The one that failed goes in front of those that came after it.
        on.put(on.job("c")).await;
        assert!(on.start().await.is_empty());
        on.clock.advance(secs(later));
        on.forward().await;
        assert!(on.start().await.is_empty());
        let renewed = on.extend(&next.lease).await.unwrap();
        on.settle(&Delivery { lease: renewed, ..next.clone() }, done()).await;
        assert_eq!(ids(&on.start().await), ["a"]);
    }
}

#[rstest]
#[tokio::test]
async fn a_vanished_workers_place_comes_back_with_its_lease_and_only_once(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&Limit::new("all").concurrency(1)).await;
    on.fill(&["a", "b", "c"]).await;
    let stale = on.start().await.remove(0);
    on.pass(&stale.lease);
    assert!(on.start().await.is_empty(), "nobody has recovered it yet");
    let found = on.first_expired_leases(10).await;
    assert_eq!(ids(&found), ["a"]);
    assert_eq!(on.settle(&found[0], archive()).await, Settled::Done);
    let next = on.start().await;
    assert_eq!(ids(&next), ["b"]);

    // The stale owner settles: it has no place to give.
    assert_eq!(on.settle(&stale, done()).await, Settled::Lost);
    assert!(on.start().await.is_empty());
    assert_eq!(on.counted("all", "").await, (1, 1));
}

#[rstest]
#[tokio::test]
async fn an_attempt_that_takes_its_recovered_job_back_takes_its_place_too(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&Limit::new("all").concurrency(1)).await;
    on.fill(&["a", "b"]).await;
    let slow = on.start().await.remove(0);
    on.pass(&slow.lease);
    let found = on.first_expired_leases(10).await;
    assert_eq!(on.settle(&found[0], reclaim()).await, Settled::Done);
    let renewed = on.extend(&slow.lease).await.expect("it still waits, untouched");
    assert!(on.start().await.is_empty(), "it runs, and counts");
    on.settle(&Delivery { lease: renewed, ..slow }, done()).await;
    assert_eq!(ids(&on.start().await), ["b"]);
}

#[rstest]
#[tokio::test]
async fn a_rate_spaces_the_starts_and_the_next_comes_by_itself(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&Limit::new("api").rate(Rate::parse("2/1s").unwrap())).await;
    on.fill(&["a", "b", "c"]).await;
    let first = on.start().await;
    assert_eq!(ids(&first), ["a"]);
    // A place of a rate is not given back.
    on.settle(&first[0], done()).await;
    assert!(on.start().await.is_empty());
    for name in ["b", "c"] {
        let wait = on.forward().await.next.expect("a job waits");
        assert!(
            wait > Duration::from_millis(450) && wait <= Duration::from_millis(505),
            "{wait:?}"
        );
        let next_at = on.use_of("api", "").await.unwrap().next_at;
        assert_eq!(next_at, Some(on.clock.now() + wait));
        on.clock.advance(wait - MICRO);
        on.forward().await;
        assert!(on.start().await.is_empty(), "a microsecond early");
        on.clock.advance(MICRO);
        assert!(on.forward().await.ready);
        assert_eq!(ids(&on.start().await), [name]);
    }
    on.clock.advance(secs(600));
    on.forward().await;
    assert_eq!(on.use_of("api", "").await.map(|one| one.waiting), Some(0));
}

#[rstest]
#[tokio::test]
async fn a_burst_starts_at_once_and_then_goes_by_the_rate(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&Limit::new("api").rate(Rate::parse("10/1s burst 3").unwrap())).await;
    let names: Vec<String> = (0..30).map(|nth| format!("job-{nth:02}")).collect();
    on.fill(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut starts = Vec::new();
    while starts.len() < 30 {
        let now = on.clock.now();
        starts.extend(on.start().await.iter().map(|_| now));
        on.clock.advance(Duration::from_millis(7));
        on.forward().await;
        assert!(on.clock.now().since(START) < secs(10));
    }
    assert_eq!(starts.iter().filter(|at| **at == START).count(), 3);
    for first in &starts {
        let window = starts.iter().filter(|at| **at >= *first && **at < *first + secs(1));
        assert!(window.count() <= 12);
    }
    assert!(starts.last().unwrap().since(START) < Duration::from_millis(2850));
}

#[rstest]
#[tokio::test]
async fn a_limit_is_changed_and_removed_while_jobs_wait(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&Limit::new("all").concurrency(1)).await;
    on.fill(&["a", "b", "c", "d", "e", "f"]).await;
    let mut running = on.start().await;
    assert_eq!(running.len(), 1);

    on.set_limit(&Limit::new("all").concurrency(3)).await;
    on.forward().await;
    running.extend(on.start().await);
    assert_eq!(ids(&running), ["a", "b", "c"], "a larger one lets jobs start");

    on.set_limit(&Limit::new("all").concurrency(1)).await;
    on.settle(&running.remove(0), done()).await;
    on.settle(&running.remove(0), done()).await;
    assert!(on.start().await.is_empty(), "a smaller one holds at once");
    on.settle(&running.remove(0), done()).await;
    let next = on.start().await;
    assert_eq!(ids(&next), ["d"]);

    let all = on.broker.limits(&on.queue).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].limit.clone(), all[0].in_use, all[0].waiting),
        (Limit::new("all").concurrency(1), 1, 2)
    );

    assert!(on.broker.remove_limit(&on.queue, "all").await.unwrap());
    assert!(!on.broker.remove_limit(&on.queue, "all").await.unwrap());
    on.forward().await;
    assert_eq!(ids(&on.start().await), ["e", "f"]);
    on.settle(&next[0], done()).await;
    on.clock.advance(secs(61));
    on.forward().await;
    assert!(on.broker.limits(&on.queue).await.unwrap().is_empty());
    assert_eq!(on.use_of("all", "").await, None, "nothing is left");
}

#[rstest]
#[tokio::test]
async fn an_operator_may_do_with_a_waiting_job_what_any_scheduled_one_allows(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    use rocket_jobqueue::internals::{Acted, Action};
    let on = store.open().await;
    on.set_limit(&Limit::new("all").concurrency(1)).await;
    on.fill(&["a", "b", "c", "d", "e"]).await;
    let running = on.start().await;
    let act = async |name: &str, action: Action| {
        on.broker.act(&on.queue, &id(name), action).await.unwrap()
    };
    assert_eq!(act("b", Action::Run).await, Acted::Done);
    assert!(on.start().await.is_empty(), "run now does not break the limit");
    assert_eq!(act("c", Action::Delete).await, Acted::Done);
    assert_eq!(act("b", Action::Archive).await, Acted::Done);
    assert_eq!(act("d", Action::Reschedule(Placement::After(secs(5)))).await, Acted::Done);
    let later = on.see("d").await;
    assert_eq!((later.waiting_for, later.due), (None, Some(on.clock.now() + secs(5))));

    on.settle(&running[0], done()).await;
    let next = on.start().await;
    assert_eq!(ids(&next), ["e"], "the others do not wait any more");
    on.clock.advance(secs(5));
    on.forward().await;
    assert!(on.start().await.is_empty());
    on.settle(&next[0], done()).await;
    assert_eq!(ids(&on.start().await), ["d"]);
}

#[rstest]
#[tokio::test]
async fn a_job_that_waits_for_long_stays_an_hour_ahead(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&Limit::new("all").concurrency(1)).await;
    on.fill(&["a", "b"]).await;
    let mut running = on.start().await.remove(0);
    assert_eq!(on.see("b").await.due, Some(START + secs(3600)));
    for _ in 0..200 {
        on.clock.advance(secs(25));
        running.lease = on.extend(&running.lease).await.unwrap();
        on.forward().await;
    }
    let waiting = on.see("b").await;
    assert_eq!(waiting.state, JobState::Scheduled);
    assert!(waiting.due.unwrap() > on.clock.now() + secs(1700), "{waiting:?}");
    on.settle(&running, done()).await;
    assert_eq!(ids(&on.start().await), ["b"]);
}

#[rstest]
#[tokio::test]
async fn a_wrong_limit_is_refused_and_a_queue_has_a_bounded_number(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let refused = on.broker.set_limit(&on.queue, &Limit::new("a")).await.unwrap_err();
    assert!(refused.is_invalid(), "{refused}");
    for nth in 0..32 {
        on.set_limit(&Limit::new(format!("limit-{nth:02}")).concurrency(nth + 1)).await;
    }
    let refused = on.broker.set_limit(&on.queue, &Limit::new("a").concurrency(1)).await;
    assert!(refused.unwrap_err().is_invalid());
    on.set_limit(&Limit::new("limit-07").concurrency(70)).await;
    let all = on.broker.limits(&on.queue).await.unwrap();
    assert_eq!(all.len(), 32);
    assert_eq!(all[7].limit.concurrency, Some(70));
    assert!(on.broker.limits(&on.beside().queue).await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn the_keys_of_a_limit_are_paged_and_each_is_on_one_page(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    const ACCOUNTS: usize = 700;
    let on = store.open().await;
    on.set_limit(&per_account(1)).await;
    // Keys of another limit are in the same set of Redis.
    on.set_limit(&Limit::new("accounts").key(LimitKey::Given).concurrency(1000)).await;
    let accounts: BTreeSet<String> = (0..ACCOUNTS).map(|nth| format!("acct_{nth}")).collect();
    for account in &accounts {
        on.put(of_account(&on, account, account)).await;
    }
    while !on.start().await.is_empty() {}

    let pages = async |limit: &str| {
        let (mut keys, mut page) = (Vec::new(), Page::default().size(100).unwrap());
        loop {
            let found = on.broker.limit_keys(&on.queue, limit, &page).await.unwrap();
            // Redis gives whole buckets of its set.
            assert!(found.keys.len() <= 120, "{} keys on a page", found.keys.len());
            keys.extend(found.keys);
            let Some(next) = found.next else { return keys };
            // As it comes back from a client.
            page = Page::after(next.to_string().parse().unwrap()).size(100).unwrap();
        }
    };
    let keys = pages("account").await;
    assert_eq!(keys.len(), ACCOUNTS, "no key is on two pages");
    assert_eq!(keys.iter().map(|one| one.key.clone()).collect::<BTreeSet<_>>(), accounts);
    assert!(keys.iter().all(|one| one.in_use == 1 && one.waiting == 0 && one.since.is_some()));
    assert_eq!(pages("accounts").await.len(), 1, "the empty key");
    assert_eq!(pages("none").await, []);

    let refused = async |page: Page| {
        on.broker.limit_keys(&on.queue, "account", &page).await.unwrap_err().is_invalid()
    };
    assert!(refused(Page::number(2).unwrap()).await);
    assert!(refused(Page::after("l~0~61~61".parse().unwrap())).await, "of another list");
    assert!(refused(Page::after("s~2d31".parse().unwrap())).await, "no place of a scan");
}
