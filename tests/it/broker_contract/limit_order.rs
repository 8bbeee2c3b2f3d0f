//! The order in which the jobs of a limit start, over time: turns, rates, what an operator changes
//! meanwhile, and what is left when nobody is there any more.

use rocket_jobqueue::internals::{Acted, Action};
use rocket_jobqueue::limits::{Limit, Rate};

use super::limits::{of_account, per_account};
use crate::broker_contract::bench::*;

fn at_once(jobs: u32) -> Limit {
    Limit::new("smtp").concurrency(jobs)
}

fn rate(text: &str) -> Rate {
    Rate::parse(text).unwrap()
}

impl OpenStore {
    /// Stores a job of each of these accounts: the letter of the id is the account.
    async fn of_accounts(&self, names: &[&str]) {
        for name in names {
            assert!(created(&self.put(of_account(self, name, &name[..1])).await));
        }
    }

    /// Dequeues all that may run, in a few calls as a worker does.
    async fn take_all(&self) -> Vec<Delivery> {
        let mut all = Vec::new();
        for _ in 0..4 {
            all.extend(self.start().await);
        }
        all
    }
}

#[rstest]
#[tokio::test]
async fn a_settlement_and_the_next_start_take_one_call(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&at_once(1)).await;
    on.fill(&["a", "b"]).await;
    let running = on.take_all().await.remove(0);
    let request = (running, done()).into();
    let queues = [on.queue.clone()];
    let reply = on.broker.exchange(&[&request], &queues, 10).await;
    assert_eq!(ids(&reply.dequeued.unwrap().deliveries), ["b"]);
}

#[rstest]
#[tokio::test]
async fn a_retry_keeps_its_turn_and_holds_no_place_while_it_waits(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&at_once(1)).await;
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
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&at_once(1)).await;
    on.fill(&["a", "b"]).await;
    for _ in 0..3 {
        let delivery = on.take_all().await.remove(0);
        assert_eq!(delivery.job.id, id("a"));
        assert_eq!(on.settle(&delivery, Transition::Requeue).await, Settled::Done);
    }
    assert_eq!(ids(&on.take_all().await), ["a"]);
    assert_eq!(on.counted("smtp", "").await, (1, 1));
}

#[rstest]
#[tokio::test]
async fn starts_are_evenly_spaced_and_no_window_has_more_than_the_rate(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&Limit::new("api").rate(rate("10/1s"))).await;
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
#[case::a_start_for_each_notice("100/1s", 8, 100)]
#[case::several_starts_for_each_notice("100/1s", 25, 100)]
#[case::more_starts_than_are_kept_one_by_one("600/1s burst 10", 15, 600)]
#[tokio::test]
async fn a_start_that_comes_late_does_not_delay_the_next_ones(
    #[case] text: &str,
    #[case] step: u64,
    #[case] count: usize,
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    const SECONDS: usize = 3;
    let on = store.open().await;
    on.set_limit(&Limit::new("api").rate(rate(text))).await;
    let jobs: Vec<NewJob> =
        (0..(SECONDS + 1) * count).map(|n| on.job(&format!("j{n:04}"))).collect();
    for some in jobs.chunks(500) {
        on.broker.enqueue(some).await.unwrap();
    }
    let mut starts = Vec::new();
    for _ in 0..1000 * SECONDS as u64 / step {
        on.forward().await;
        for delivery in on.take_all().await {
            starts.push(on.clock.now());
            on.settle(&delivery, done()).await;
        }
        on.clock.advance(Duration::from_millis(step));
    }
    for (nth, start) in starts.iter().enumerate() {
        let within = starts[nth..].iter().take_while(|at| at.since(*start) < secs(1)).count();
        assert!(within <= count, "{within} starts within a second of {start}");
    }
    let share = starts.len() * 100 / (SECONDS * count);
    assert!(share >= 97, "{share} %");
}

#[rstest]
#[tokio::test]
async fn a_limit_counts_jobs_from_the_next_dequeue_on(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    let before = on.take().await;
    on.set_limit(&at_once(1)).await;
    assert_eq!(ids(&on.take_all().await), ["b"]);
    assert_eq!(on.counted("smtp", "").await, (1, 1));
    on.settle(&before, done()).await;
    assert!(on.take_all().await.is_empty());
}

#[rstest]
#[tokio::test]
async fn a_paused_queue_and_a_deleted_pending_job_keep_no_place(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&at_once(1)).await;
    on.pause(true).await;
    on.fill(&["a", "b", "c"]).await;
    assert!(on.take_all().await.is_empty());
    assert_eq!(on.act("a", Action::Delete).await, Acted::Done);
    on.pause(false).await;
    // In Redis what came behind it is looked at a second later.
    on.clock.advance(secs(1));
    on.forward().await;
    assert_eq!(ids(&on.take_all().await), ["b"]);
}

#[rstest]
#[tokio::test]
async fn an_edited_payload_has_another_key(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&per_account(1)).await;
    on.of_accounts(&["h1", "h2", "h3"]).await;
    let running = on.take_all().await;
    assert_eq!(ids(&running), ["h1"]);
    on.broker.edit(&on.queue, &id("h3"), br#"{"account":{"id":"c"}}"#).await.unwrap();
    // Whether it waits until its key is looked at again depends on the store.
    on.act("h3", Action::Run).await;
    assert_eq!(ids(&on.take_all().await), ["h3"]);
}

#[rstest]
#[tokio::test]
async fn idle_keys_vanish(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.set_limit(&per_account(1).rate(rate("1/1s"))).await;
    on.of_accounts(&["h1", "h2", "c1", "d1"]).await;
    for delivery in on.take_all().await {
        on.settle(&delivery, done()).await;
    }
    on.clock.advance(secs(2));
    on.forward().await;
    for delivery in on.take_all().await {
        on.settle(&delivery, done()).await;
    }
    // In Redis a key is looked at once a minute.
    on.clock.advance(secs(61));
    on.forward().await;
    on.delete_expired().await;
    let limits = on.broker.limits(&on.queue).await.unwrap();
    assert_eq!((limits[0].keys, limits[0].in_use, limits[0].waiting), (0, 0, 0));
}

#[tokio::test]
async fn a_store_on_disk_opens_with_its_limits_places_and_turns() {
    let on = Store::Disk.open().await;
    on.set_limit(&at_once(2).rate(rate("100/1s").burst(100))).await;
    on.set_limit(&per_account(1)).await;
    on.of_accounts(&["a1", "b1", "c1", "a2", "b2", "a3"]).await;
    assert_eq!(ids(&on.take_all().await), ["a1", "b1"]);
    on.clock.advance(secs(1));
    let limits = on.broker.limits(&on.queue).await.unwrap();
    let waits = on.see("a3").await.waiting_for;
    assert!(waits.is_some());

    let OpenStore { broker, clock, queue, folder, .. } = on;
    drop(broker);
    let on = OpenStore::reopened(folder.unwrap(), clock, queue).await;
    assert_eq!(on.broker.limits(&on.queue).await.unwrap(), limits);
    assert_eq!(on.see("a3").await.waiting_for, waits);
    // Both workers are gone with their process, and their places come back with the leases.
    assert!(on.take_all().await.is_empty());
    for found in on.first_expired_leases(10).await {
        assert_eq!(on.settle(&found, done()).await, Settled::Done);
    }
    assert_eq!(on.take_all().await.len(), 2);
    assert_eq!(on.counted("smtp", "").await.0, 2);
}
