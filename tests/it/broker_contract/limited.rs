//! Limits: who waits, who starts, in which order, and where places come back. All of it is what a
//! worker and an operator see; nothing depends on whether a job waits before or behind the list of
//! pending jobs.

use rocket_jobqueue::internals::{Acted, Action, LimitInfo};
use rocket_jobqueue::limits::{Limit, LimitKey, Rate};

use crate::broker_contract::bench::*;

fn at_once(name: &str, jobs: u32) -> Limit {
    Limit::new(name).concurrency(jobs)
}

fn by_account(limit: Limit) -> Limit {
    limit.key(LimitKey::parse("payload.account").unwrap())
}

fn rate(text: &str) -> Rate {
    Rate::parse(text).unwrap()
}

impl OpenStore {
    async fn limit(&self, limit: Limit) {
        self.broker.set_limit(&self.queue, &limit).await.unwrap();
    }

    async fn unlimit(&self, name: &str) -> bool {
        self.broker.remove_limit(&self.queue, name).await.unwrap()
    }

    /// Stores a job of each of these accounts: the letter of the id is the account.
    async fn of_accounts(&self, names: &[&str]) {
        for name in names {
            let mut job = self.job(name);
            job.record.payload = Some(format!(r#"{{"account":"{}"}}"#, &name[..1]).into_bytes());
            assert!(created(&self.put(job).await));
        }
    }

    /// Dequeues all that may run, in a few calls as a worker does.
    async fn take_all(&self) -> Vec<Delivery> {
        let mut all = Vec::new();
        for _ in 0..4 {
            all.extend(self.take_many(100).await);
        }
        all
    }

    async fn limits(&self) -> Vec<LimitInfo> {
        self.broker.limits(&self.queue).await.unwrap()
    }

    /// Running and waiting jobs of the only limit.
    async fn counts(&self) -> (u64, u64) {
        let limits = self.limits().await;
        (limits[0].in_use, limits[0].waiting)
    }

    /// The limit and the key that a job waits for.
    async fn waiting_for(&self, name: &str) -> Option<(String, String)> {
        self.see(name).await.waiting_for.map(|wait| (wait.limit, wait.key))
    }
}

#[rstest]
#[tokio::test]
async fn no_more_jobs_run_than_the_limit_allows_and_the_next_starts_in_order(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(at_once("smtp", 2)).await;
    on.fill(&["a", "b", "c", "d", "e"]).await;

    let running = on.take_all().await;
    assert_eq!(ids(&running), ["a", "b"]);
    assert!(running.iter().all(|delivery| delivery.limited));
    assert_eq!(on.counts().await, (2, 3));
    // As Asynq's tools see it.
    let waits = on.see("c").await;
    assert_eq!((waits.state, waits.record.retried), (JobState::Scheduled, 0));
    assert!(waits.due.unwrap() > on.clock.now() + secs(1800), "{waits:?}");
    assert_eq!(on.waiting_for("c").await, Some(("smtp".to_owned(), String::new())));
    assert_eq!(on.waiting_for("a").await, None);

    assert_eq!(on.settle(&running[1], done()).await, Settled::Done);
    assert_eq!(ids(&on.take_all().await), ["c"]);
    assert_eq!(on.settle(&running[0], archive()).await, Settled::Done);
    assert_eq!(ids(&on.take_all().await), ["d"]);
    assert_eq!(on.counts().await, (2, 1));
}

#[rstest]
#[tokio::test]
async fn a_settlement_and_the_next_start_take_one_call(
    #[values(Store::Memory, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(at_once("smtp", 1)).await;
    on.fill(&["a", "b"]).await;
    let running = on.take_all().await.remove(0);
    let request = (running, done()).into();
    let queues = [on.queue.clone()];
    let reply = on.broker.exchange(&[&request], &queues, 10).await;
    assert_eq!(ids(&reply.dequeued.unwrap().deliveries), ["b"]);
}

#[rstest]
#[tokio::test]
async fn each_key_has_its_own_places_and_a_hot_one_delays_no_other(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(by_account(at_once("stripe", 1))).await;
    on.of_accounts(&["h1", "h2", "h3", "h4", "c1", "d1", "c2"]).await;
    let running = on.take_all().await;
    assert_eq!(ids(&running), ["h1", "c1", "d1"]);
    assert_eq!(on.waiting_for("h4").await, Some(("stripe".to_owned(), "h".to_owned())));

    on.settle(&running[1], done()).await;
    assert_eq!(ids(&on.take_all().await), ["c2"]);
    let uses = on.broker.limit_uses(&on.queue, "stripe", 2).await.unwrap();
    let shown: Vec<_> =
        uses.uses.iter().map(|one| (one.key.as_str(), one.in_use, one.waiting)).collect();
    assert_eq!(shown[0], ("h", 1, 3));
    assert_eq!((shown.len(), uses.more), (2, true));
}

#[rstest]
#[tokio::test]
async fn types_share_a_limit_and_other_types_are_free(
    #[values(Store::Memory, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(at_once("reports", 1).types(["daily", "weekly"])).await;
    for (name, job_type) in [("a", "daily"), ("b", "weekly"), ("c", "mail"), ("d", "mail")] {
        let mut job = on.job(name);
        job.record.job_type = job_type.to_owned();
        on.put(job).await;
    }
    assert_eq!(ids(&on.take_all().await), ["a", "c", "d"]);
    assert_eq!(on.counts().await, (1, 1));
}

#[rstest]
#[tokio::test]
async fn a_job_needs_room_in_every_limit_and_takes_places_only_then(
    #[values(Store::Memory, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(at_once("all", 3)).await;
    on.limit(by_account(at_once("each", 2))).await;
    on.of_accounts(&["h1", "h2", "h3", "h4", "h5", "c1", "c2", "d1"]).await;
    let running = on.take_all().await;
    assert_eq!(ids(&running), ["h1", "h2", "c1"]);
    let totals: Vec<_> =
        on.limits().await.iter().map(|one| (one.limit.name.clone(), one.in_use)).collect();
    assert_eq!(totals, [("all".to_owned(), 3), ("each".to_owned(), 3)]);

    // A place for all, and none for the hot key.
    on.settle(&running[2], done()).await;
    assert_eq!(ids(&on.take_all().await), ["c2"]);
    on.settle(&running[0], done()).await;
    assert_eq!(on.take_all().await.len(), 1);
    let totals = on.limits().await;
    assert_eq!(totals.iter().map(|one| one.in_use).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(totals.iter().map(|one| one.waiting).sum::<u64>(), 3, "{totals:?}");
}

#[rstest]
#[tokio::test]
async fn a_retry_keeps_its_turn_and_holds_no_place_while_it_waits(
    #[values(Store::Memory, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(at_once("smtp", 1)).await;
    on.fill(&["a", "b", "c", "d"]).await;
    let a = on.take_all().await.remove(0);
    assert_eq!(on.settle(&a, retry(secs(60))).await, Settled::Done);
    let b = on.take_all().await.remove(0);
    assert_eq!(ids(std::slice::from_ref(&b)), ["b"]);
    on.clock.advance(secs(61));
    on.forward().await;
    assert!(on.take_all().await.is_empty());
    on.settle(&b, done()).await;
    // Not behind those that came while it ran.
    assert_eq!(ids(&on.take_all().await), ["a"]);
}

#[rstest]
#[tokio::test]
async fn a_job_that_is_put_back_gives_its_place_and_takes_it_again(
    #[values(Store::Memory, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(at_once("smtp", 1)).await;
    on.fill(&["a", "b"]).await;
    for _ in 0..3 {
        let delivery = on.take_all().await.remove(0);
        assert_eq!(delivery.job.id, id("a"));
        assert_eq!(on.settle(&delivery, Transition::Requeue).await, Settled::Done);
    }
    assert_eq!(ids(&on.take_all().await), ["a"]);
    assert_eq!(on.counts().await, (1, 1));
}

#[rstest]
#[tokio::test]
async fn the_place_of_a_lost_worker_comes_back_once_with_the_lease(
    #[values(Store::Memory, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(at_once("smtp", 1)).await;
    on.fill(&["a", "b"]).await;
    let lost = on.take_all().await.remove(0);
    on.pass(&lost.lease);
    assert!(on.take_all().await.is_empty(), "its place is not free yet");
    let found = on.first_expired_leases(10).await.remove(0);
    assert_eq!(on.settle(&found, reclaim()).await, Settled::Done);
    let again = on.take_all().await;
    assert_eq!(ids(&again), ["a"]);

    // The first owner gives nothing back a second time.
    assert_eq!(on.settle(&lost, done()).await, Settled::Lost);
    assert!(on.take_all().await.is_empty());
    on.settle(&again[0], done()).await;
    assert_eq!(ids(&on.take_all().await), ["b"]);
}

#[rstest]
#[tokio::test]
async fn an_attempt_that_takes_its_recovered_job_back_has_its_place_again(
    #[values(Store::Memory, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(at_once("smtp", 1)).await;
    on.fill(&["a", "b"]).await;
    let first = on.take_all().await.remove(0);
    on.pass(&first.lease);
    let found = on.first_expired_leases(10).await.remove(0);
    assert_eq!(on.settle(&found, reclaim()).await, Settled::Done);
    let lease = on.extend(&first.lease).await.expect("it goes on");
    assert_eq!(on.counts().await.0, 1);
    assert!(on.take_all().await.is_empty());
    assert_eq!(on.settle(&Delivery { lease, ..first }, done()).await, Settled::Done);
    assert_eq!(ids(&on.take_all().await), ["b"]);
    assert_eq!(on.counts().await, (1, 0));
}

#[rstest]
#[tokio::test]
async fn starts_are_evenly_spaced_and_no_window_has_more_than_the_rate(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(Limit::new("api").rate(rate("10/1s"))).await;
    let names: Vec<String> = (0..40).map(|n| format!("j{n:02}")).collect();
    on.fill(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut starts = Vec::new();
    let mut order = Vec::new();
    while starts.len() < 40 {
        on.forward().await;
        for delivery in on.take_all().await {
            starts.push(on.clock.now());
            order.push(delivery.job.id.clone());
            on.settle(&delivery, done()).await;
        }
        on.clock.advance(Duration::from_millis(5));
    }
    for (nth, start) in starts.iter().enumerate() {
        let within = starts[nth..].iter().filter(|at| at.since(*start) < secs(1)).count();
        assert!(within <= 10, "{within} starts within a second of {start}");
    }
    let took = starts[39].since(starts[0]);
    assert!(took <= Duration::from_millis(4100), "{took:?}");
    assert!(order.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()), "{order:?}");
}

#[rstest]
#[tokio::test]
async fn a_burst_starts_at_once_and_next_due_says_when_a_rate_admits(
    #[values(Store::Memory, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(Limit::new("api").rate(rate("6/1m").burst(3))).await;
    on.fill(&["a", "b", "c", "d", "e"]).await;
    let mut running = on.take_all().await;
    assert_eq!(ids(&running), ["a", "b", "c"]);
    let next = on.broker.next_due(std::slice::from_ref(&on.queue)).await.unwrap()[0].unwrap();
    assert!(next > secs(8) && next < secs(12), "{next:?}");
    // A token is not given back.
    on.settle(&running.remove(0), done()).await;
    on.forward().await;
    assert!(on.take_all().await.is_empty());
    on.clock.advance(next);
    on.forward().await;
    assert_eq!(ids(&on.take_all().await), ["d"]);
}

#[rstest]
#[tokio::test]
async fn a_changed_limit_holds_at_once(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(at_once("smtp", 1)).await;
    on.fill(&["a", "b", "c", "d", "e", "f"]).await;
    let mut running = on.take_all().await;
    assert_eq!(ids(&running), ["a"]);
    on.limit(at_once("smtp", 3)).await;
    running.extend(on.take_all().await);
    assert_eq!(ids(&running), ["a", "b", "c"]);

    // Nobody is stopped, and none starts until there are fewer.
    on.limit(at_once("smtp", 2)).await;
    on.settle(&running.remove(0), done()).await;
    assert!(on.take_all().await.is_empty());
    on.settle(&running.remove(0), done()).await;
    assert_eq!(ids(&on.take_all().await), ["d"]);

    assert!(on.unlimit("smtp").await);
    assert!(!on.unlimit("smtp").await);
    assert_eq!(ids(&on.take_all().await), ["e", "f"]);
    assert!(on.limits().await.is_empty());
}

#[rstest]
#[tokio::test]
async fn a_limit_counts_jobs_from_the_next_dequeue_on(
    #[values(Store::Memory, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    let before = on.take().await;
    on.limit(at_once("smtp", 1)).await;
    assert_eq!(ids(&on.take_all().await), ["b"]);
    assert_eq!(on.counts().await, (1, 1));
    on.settle(&before, done()).await;
    assert!(on.take_all().await.is_empty());
}

#[rstest]
#[tokio::test]
async fn a_waiting_job_can_be_run_moved_archived_and_deleted(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(at_once("smtp", 1)).await;
    on.fill(&["a", "b", "c", "d", "e", "f"]).await;
    let a = on.take_all().await.remove(0);

    // It waits again, at its old turn.
    assert_eq!(on.act("c", Action::Run).await, Acted::Done);
    assert!(on.take_all().await.is_empty());
    assert_eq!(on.act("b", Action::Delete).await, Acted::Done);
    assert_eq!(on.act("d", Action::Archive).await, Acted::Done);
    let later = Placement::After(secs(60));
    assert_eq!(on.act("e", Action::Reschedule(later)).await, Acted::Done);
    assert_eq!(on.see("e").await.waiting_for, None);
    assert_eq!(on.counts().await, (1, 2));
    on.settle(&a, done()).await;
    let c = on.take_all().await.remove(0);
    assert_eq!(c.job.id, id("c"));
    on.clock.advance(secs(61));
    on.forward().await;
    on.settle(&c, done()).await;
    assert_eq!(on.take_all().await.len(), 1);
    assert_eq!(on.counts().await, (1, 1));
}

#[rstest]
#[tokio::test]
async fn a_paused_queue_and_a_deleted_pending_job_keep_no_place(
    #[values(Store::Memory, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(at_once("smtp", 1)).await;
    on.pause(true).await;
    on.fill(&["a", "b", "c"]).await;
    assert!(on.take_all().await.is_empty());
    assert_eq!(on.act("a", Action::Delete).await, Acted::Done);
    on.pause(false).await;
    assert_eq!(ids(&on.take_all().await), ["b"]);
}

#[rstest]
#[tokio::test]
async fn an_edited_payload_has_another_key(#[values(Store::Memory, Store::Disk)] store: Store) {
    let on = store.open().await;
    on.limit(by_account(at_once("stripe", 1))).await;
    on.of_accounts(&["h1", "h2", "h3"]).await;
    let running = on.take_all().await;
    assert_eq!(ids(&running), ["h1"]);
    on.broker.edit(&on.queue, &id("h3"), br#"{"account":"c"}"#).await.unwrap();
    // Whether it waits until its key is looked at again depends on the store.
    on.act("h3", Action::Run).await;
    assert_eq!(ids(&on.take_all().await), ["h3"]);
}

#[rstest]
#[tokio::test]
async fn the_hour_of_a_waiting_job_is_rolled_on(
    #[values(Store::Memory, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.limit(at_once("smtp", 1)).await;
    on.fill(&["a", "b"]).await;
    let a = on.take_all().await.remove(0);
    let mut lease = a.lease.clone();
    for _ in 0..400 {
        on.clock.advance(secs(20));
        lease = on.extend(&lease).await.unwrap();
        on.forward().await;
        on.delete_expired().await;
    }
    assert!(on.take_all().await.is_empty());
    let due = on.see("b").await.due.unwrap();
    assert!(due > on.clock.now(), "{due} is not after {}", on.clock.now());
    assert_eq!(on.waiting_for("b").await, Some(("smtp".to_owned(), String::new())));
    on.settle(&Delivery { lease, ..a }, done()).await;
    assert_eq!(ids(&on.take_all().await), ["b"]);
}

#[rstest]
#[tokio::test]
async fn idle_keys_vanish(#[values(Store::Memory, Store::Disk)] store: Store) {
    let on = store.open().await;
    on.limit(by_account(at_once("stripe", 1)).rate(rate("1/1s"))).await;
    on.of_accounts(&["h1", "h2", "c1", "d1"]).await;
    for delivery in on.take_all().await {
        on.settle(&delivery, done()).await;
    }
    on.clock.advance(secs(2));
    on.forward().await;
    for delivery in on.take_all().await {
        on.settle(&delivery, done()).await;
    }
    on.clock.advance(secs(2));
    on.forward().await;
    on.delete_expired().await;
    assert_eq!((on.limits().await[0].keys, on.counts().await), (0, (0, 0)));
}

#[rstest]
#[tokio::test]
async fn a_wrong_limit_is_refused_and_so_is_one_too_many(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    let refused = on.broker.set_limit(&on.queue, &Limit::new("none")).await.unwrap_err();
    assert!(refused.is_invalid(), "{refused}");
    for nth in 0..32 {
        on.limit(at_once(&format!("limit-{nth}"), 1)).await;
    }
    let refused = on.broker.set_limit(&on.queue, &at_once("more", 1)).await.unwrap_err();
    assert!(refused.is_invalid(), "{refused}");
    on.limit(at_once("limit-7", 2)).await;
    assert_eq!(on.limits().await.len(), 32);
}

#[tokio::test]
async fn a_store_on_disk_opens_with_its_limits_places_and_turns() {
    let on = Store::Disk.open().await;
    on.limit(at_once("smtp", 2).rate(rate("100/1s").burst(100))).await;
    on.limit(by_account(at_once("stripe", 1))).await;
    on.of_accounts(&["a1", "b1", "c1", "a2", "b2", "a3"]).await;
    assert_eq!(ids(&on.take_all().await), ["a1", "b1"]);
    on.clock.advance(secs(1));
    let (limits, waits) = (on.limits().await, on.waiting_for("a3").await);

    let OpenStore { broker, clock, queue, folder, .. } = on;
    drop(broker);
    let on = OpenStore::reopened(folder.unwrap(), clock, queue).await;
    assert_eq!(on.limits().await, limits);
    assert_eq!(on.waiting_for("a3").await, waits);
    // Both workers are gone with their process, and their places come back with the leases.
    assert!(on.take_all().await.is_empty());
    for found in on.first_expired_leases(10).await {
        assert_eq!(on.settle(&found, done()).await, Settled::Done);
    }
    assert_eq!(on.take_all().await.len(), 2);
    assert_eq!(on.counts().await.0, 2);
}
