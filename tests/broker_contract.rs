//! The contract of a store, case by case, against each store there is. Time is
//! a hand that the cases move; what they wait for is the store alone.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rocket_jobqueue::internals::{
    Announcement, Broker, Delivery, Enqueued, Extended, Forwarded, JobInfo, LEASE, Lease,
    MemoryBroker, PoolSettings, QueueInfo, RedisPool, Settled, Topology, redis::RedisBroker,
};
use rocket_jobqueue::{
    Clock, Idempotency, JobId, JobRecord, JobState, NewJob, Placement, QueueName, Timestamp,
    Transition,
};
use rstest::rstest;
use support::RedisServer;

/// The stores under contract.
#[derive(Clone, Copy, Debug)]
enum Store {
    Memory,
    Redis,
}

/// A whole second, at 08:00 UTC. Far ahead, because Redis ends the daily counters
/// by its own clock.
const START: Timestamp = Timestamp::from_secs(4_000_003_200);
const MICRO: Duration = Duration::from_micros(1);
/// More than any store needs; reached only by a case that fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A store, its clock, and a queue that no other case uses.
#[derive(Clone)]
struct Bench {
    broker: Arc<dyn Broker>,
    clock: Clock,
    queue: QueueName,
    server: Option<Arc<RedisServer>>,
}

impl Store {
    async fn open(self) -> Bench {
        let clock = Clock::manual(START);
        let queue = fresh_queue();
        match self {
            Store::Memory => {
                let broker = Arc::new(MemoryBroker::new(clock.clone()));
                Bench { broker, clock, queue, server: None }
            }
            Store::Redis => {
                let server = shared_server();
                let topology = Topology::Single(server.addr());
                let settings = PoolSettings { topology, ..PoolSettings::default() };
                let pool = RedisPool::new(settings).unwrap();
                let broker = Arc::new(RedisBroker::new(pool, clock.clone()));
                Bench { broker, clock, queue, server: Some(server) }
            }
        }
    }
}

/// One server for the cases that run at a time; it ends with the last of them.
fn shared_server() -> Arc<RedisServer> {
    static SERVER: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
    let mut shared = SERVER.lock().unwrap();
    shared.upgrade().unwrap_or_else(|| {
        let started = Arc::new(RedisServer::start::<&str>(&[]));
        *shared = Arc::downgrade(&started);
        started
    })
}

/// Brings the end of each key of a queue closer: locks and repeat guards end by
/// the server's own clock.
const AGE_KEYS: &str = "
    for _, key in ipairs(redis.call('KEYS', 'asynq:{' .. ARGV[1] .. '}:*')) do
        local left = redis.call('PTTL', key)
        if left >= 0 then redis.call('PEXPIRE', key, left - tonumber(ARGV[2])) end
    end
    return 'aged'";

fn fresh_queue() -> QueueName {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    QueueName::new(format!("contract-{}", NEXT.fetch_add(1, Ordering::Relaxed))).unwrap()
}

fn id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn done() -> Transition {
    Transition::Complete { result: None }
}

fn retry(after: Duration) -> Transition {
    Transition::Retry { after, error: "smtp is down".to_owned(), counted: true }
}

fn archive() -> Transition {
    Transition::Archive { error: "bad address".to_owned() }
}

fn reclaim() -> Transition {
    Transition::Reclaim { error: "its worker vanished".to_owned() }
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.job.id.as_str()).collect()
}

fn created(outcome: &Enqueued) -> bool {
    matches!(outcome, Enqueued::Created { .. })
}

fn unique(mut job: NewJob, lasts: Duration) -> NewJob {
    job.unique_for = Some(lasts);
    job
}

fn guarded(mut job: NewJob, key: &str, body: &str) -> NewJob {
    job.idempotency = Some(Idempotency::new("/jobs", key, body.as_bytes()));
    job
}

impl Bench {
    /// The same store and clock with another queue.
    fn beside(&self) -> Bench {
        Bench { queue: fresh_queue(), ..self.clone() }
    }

    fn job(&self, name: &str) -> NewJob {
        let mut record = JobRecord::new("mail", Some(b"{}".to_vec()), self.queue.clone());
        record.id = id(name);
        record.max_retry = 10;
        NewJob::now(record)
    }

    fn kept(&self, name: &str, retention: Duration) -> NewJob {
        let mut job = self.job(name);
        job.record.retention = retention;
        job
    }

    async fn put(&self, job: NewJob) -> Enqueued {
        self.broker.enqueue(&[job]).await.unwrap().remove(0)
    }

    /// Stores a pending job for each name.
    async fn fill(&self, names: &[&str]) {
        let jobs: Vec<_> = names.iter().map(|name| self.job(name)).collect();
        let outcomes = self.broker.enqueue(&jobs).await.unwrap();
        assert!(outcomes.iter().all(created), "{outcomes:?}");
    }

    async fn take_from(&self, queues: &[QueueName], most: usize) -> Vec<Delivery> {
        self.broker.dequeue(queues, most).await.unwrap().deliveries
    }

    async fn take_many(&self, most: usize) -> Vec<Delivery> {
        self.take_from(std::slice::from_ref(&self.queue), most).await
    }

    async fn take(&self) -> Delivery {
        self.take_many(1).await.pop().expect("a pending job")
    }

    async fn settle(&self, delivery: &Delivery, transition: Transition) -> Settled {
        self.broker.settle(&[(delivery.clone(), transition)]).await.unwrap()[0]
    }

    async fn extend(&self, lease: &Lease) -> Option<Lease> {
        match self.broker.extend(std::slice::from_ref(lease)).await.unwrap().remove(0) {
            Extended::Renewed(lease) => Some(lease),
            Extended::Lost => None,
            Extended::Unknown => panic!("the store answered"),
        }
    }

    /// Takes the job that is next and settles it.
    async fn run(&self, transition: Transition) -> Delivery {
        let delivery = self.take().await;
        assert_eq!(self.settle(&delivery, transition).await, Settled::Done);
        delivery
    }

    async fn lapsed(&self, limit: usize) -> Vec<Delivery> {
        self.broker.lapsed(&self.queue, limit).await.unwrap()
    }

    async fn forward(&self) -> Forwarded {
        self.broker.forward(&self.queue, 100).await.unwrap()
    }

    async fn expire(&self) -> usize {
        self.broker.expire(&self.queue, 100).await.unwrap()
    }

    async fn pause(&self, paused: bool) -> bool {
        self.broker.pause(&self.queue, paused).await.unwrap()
    }

    async fn find(&self, name: &str) -> Option<JobInfo> {
        self.broker.job(&self.queue, &id(name)).await.unwrap()
    }

    async fn see(&self, name: &str) -> JobInfo {
        self.find(name).await.expect("the job is stored")
    }

    async fn state(&self, name: &str) -> Option<JobState> {
        self.find(name).await.map(|info| info.state)
    }

    async fn info(&self) -> QueueInfo {
        self.broker.queue(&self.queue).await.unwrap()
    }

    /// Processed and failed, ever.
    async fn counters(&self) -> (u64, u64) {
        let info = self.info().await;
        (info.processed, info.failed)
    }

    /// Moves the clock on, also for what ends by the store's own clock.
    fn age(&self, by: Duration) {
        self.clock.advance(by);
        if let Some(server) = &self.server {
            let millis = by.as_millis().to_string();
            let aged = server.cli(&["EVAL", AGE_KEYS, "0", self.queue.as_str(), &millis]);
            assert_eq!(aged, "aged");
        }
    }

    /// Moves the clock to the end of this lease.
    fn pass(&self, lease: &Lease) {
        self.clock.advance(Timestamp::from_micros(lease.token).since(self.clock.now()));
    }
}

// Storing a job.

#[rstest]
#[tokio::test]
async fn a_new_job_is_pending_and_its_queue_exists(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;

    let outcome = on.put(on.job("a")).await;

    assert_eq!(outcome, Enqueued::Created { state: JobState::Pending, due: START });
    assert_eq!(on.state("a").await, Some(JobState::Pending));
    assert!(on.broker.queues().await.unwrap().contains(&on.queue));
}

#[rstest]
#[tokio::test]
async fn jobs_are_taken_in_the_order_they_came(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["c", "a"]).await;
    on.fill(&["b"]).await;

    assert_eq!(ids(&on.take_many(10).await), ["c", "a", "b"]);
    assert_eq!(on.state("a").await, Some(JobState::Active));
}

#[rstest]
#[tokio::test]
async fn a_batch_answers_for_each_job_in_order(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let lock = |name| unique(on.job(name), secs(60));
    let later = on.job("d").placed(Placement::After(secs(5)));

    let outcomes = on.broker.enqueue(&[lock("a"), lock("b"), on.job("a"), later]).await.unwrap();

    let due = START + secs(5);
    assert_eq!(
        outcomes,
        [
            Enqueued::Created { state: JobState::Pending, due: START },
            Enqueued::Duplicate { holder: id("a") },
            Enqueued::IdConflict,
            Enqueued::Created { state: JobState::Scheduled, due },
        ]
    );
}

#[rstest]
#[tokio::test]
async fn a_batch_may_be_for_several_queues(#[values(Store::Memory, Store::Redis)] store: Store) {
    let on = store.open().await;
    let other = on.beside();

    on.broker.enqueue(&[on.job("a"), other.job("b"), on.job("c")]).await.unwrap();

    assert_eq!(ids(&on.take_many(9).await), ["a", "c"]);
    assert_eq!(ids(&other.take_many(9).await), ["b"]);
}

#[rstest]
#[tokio::test]
async fn an_id_is_refused_while_a_job_has_it_in_whatever_state(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let conflict = async || on.put(on.job("a")).await == Enqueued::IdConflict;

    on.put(on.kept("a", secs(60))).await;
    assert!(conflict().await, "pending");
    let delivery = on.take().await;
    assert!(conflict().await, "active");
    on.settle(&delivery, retry(secs(1))).await;
    assert!(conflict().await, "retry");
    on.clock.advance(secs(1));
    on.forward().await;
    on.run(done()).await;
    assert_eq!(on.state("a").await, Some(JobState::Completed));
    assert!(conflict().await, "completed");
    on.clock.advance(secs(60));
    assert_eq!(on.expire().await, 1);
    assert!(!conflict().await, "free again");
    on.run(archive()).await;
    assert!(conflict().await, "archived");
}

#[rstest]
#[tokio::test]
async fn every_byte_of_a_payload_and_every_field_come_back(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let mut job = on.job("a");
    job.record.payload = Some((0..=255).collect());
    job.record.headers = [("trace", "00-ff"), ("Ünïcode", "ö\n\0"), ("", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    job.record.timeout = secs(30);
    job.record.deadline = Some(START + secs(3600));
    job.record.retention = secs(86_400);
    let sent = job.record.clone();

    on.put(job).await;

    assert_eq!(on.see("a").await.job, sent);
    assert_eq!(on.take().await.job, sent);
}

#[rstest]
#[tokio::test]
async fn an_empty_payload_and_none_are_both_empty_once_stored(
    #[values(Store::Memory, Store::Redis)] store: Store,
    #[values(None, Some(vec![]))] payload: Option<Vec<u8>>,
) {
    let on = store.open().await;
    let mut job = on.job("a");
    job.record.payload = payload;

    assert!(created(&on.put(job).await));
    assert!(on.take().await.job.payload_bytes().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_due_time_that_is_not_ahead_means_at_once(
    #[values(Store::Memory, Store::Redis)] store: Store,
    #[values(
        Placement::After(Duration::ZERO),
        Placement::At(START),
        Placement::At(Timestamp::from_secs(1)),
        Placement::At(Timestamp::from_micros(-1))
    )]
    placement: Placement,
) {
    let on = store.open().await;

    let outcome = on.put(on.job("a").placed(placement)).await;

    assert!(matches!(outcome, Enqueued::Created { state: JobState::Pending, .. }), "{outcome:?}");
    assert_eq!(ids(&on.take_many(1).await), ["a"]);
}

#[rstest]
#[tokio::test]
async fn a_delayed_job_is_scheduled_to_the_microsecond(
    #[values(Store::Memory, Store::Redis)] store: Store,
    #[values(true, false)] relative: bool,
) {
    let on = store.open().await;
    let delay = Duration::from_micros(2_500_001);
    let placement = if relative { Placement::After(delay) } else { Placement::At(START + delay) };

    let outcome = on.put(on.job("a").placed(placement)).await;

    let due = START + delay;
    assert_eq!(outcome, Enqueued::Created { state: JobState::Scheduled, due });
    let info = on.see("a").await;
    assert_eq!((info.state, info.due), (JobState::Scheduled, Some(due)));
    assert!(on.take_many(1).await.is_empty());
}

// Unique locks.

#[rstest]
#[tokio::test]
async fn a_second_job_under_a_lock_is_refused_and_told_the_holder(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert!(created(&on.put(unique(on.job("a"), secs(60))).await));

    let outcome = on.put(unique(on.job("b"), secs(60))).await;

    assert_eq!(outcome, Enqueued::Duplicate { holder: id("a") });
    assert_eq!(on.find("b").await, None);
    assert!(!on.see("a").await.job.unique_key.is_empty());
    assert!(created(&on.put(on.job("c")).await), "a job that asks for no lock is not concerned");
}

#[rstest]
#[tokio::test]
async fn locks_differ_by_queue_type_and_payload(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    let with = |name: &str, job_type: &str, payload: Option<&[u8]>| {
        let mut job = unique(on.job(name), secs(60));
        job.record.job_type = job_type.to_owned();
        job.record.payload = payload.map(<[u8]>::to_vec);
        job
    };
    for job in [
        with("a", "mail", Some(b"{}")),
        with("b", "mail", Some(b"{} ")),
        with("c", "Mail", Some(b"{}")),
        with("d", "mail", Some(b"")),
        with("e", "mail", None),
        unique(other.job("f"), secs(60)),
    ] {
        let name = job.record.id.clone();
        assert!(created(&on.put(job).await), "{name}");
    }
    let outcome = on.put(with("g", "mail", None)).await;
    assert_eq!(outcome, Enqueued::Duplicate { holder: id("e") });
}

#[rstest]
#[tokio::test]
async fn a_lock_is_released_when_the_job_ends_well(
    #[values(Store::Memory, Store::Redis)] store: Store,
    #[values(done(), Transition::Revoke)] end: Transition,
    #[values(0, 60)] retention: u64,
) {
    let on = store.open().await;
    on.put(unique(on.kept("a", secs(retention)), secs(600))).await;

    on.run(end).await;

    assert!(created(&on.put(unique(on.job("b"), secs(60))).await));
}

#[rstest]
#[tokio::test]
async fn a_lock_is_kept_when_the_job_has_not_ended_well(
    #[values(Store::Memory, Store::Redis)] store: Store,
    #[values(retry(secs(1)), archive(), Transition::Requeue, reclaim())] end: Transition,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(600))).await;

    on.run(end).await;

    let outcome = on.put(unique(on.job("b"), secs(60))).await;
    assert_eq!(outcome, Enqueued::Duplicate { holder: id("a") });
}

#[rstest]
#[tokio::test]
async fn a_lock_ends_by_the_clock(#[values(Store::Memory, Store::Redis)] store: Store) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60))).await;
    let refused =
        async || matches!(on.put(unique(on.job("b"), secs(60))).await, Enqueued::Duplicate { .. });

    on.age(secs(59));
    assert!(refused().await);
    on.age(secs(1));
    assert!(!refused().await);
}

#[rstest]
#[tokio::test]
async fn the_lock_of_a_scheduled_job_counts_from_its_due_time(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60)).placed(Placement::After(secs(100)))).await;
    let refused =
        async || matches!(on.put(unique(on.job("b"), secs(60))).await, Enqueued::Duplicate { .. });

    on.age(secs(159));
    assert!(refused().await);
    on.age(secs(1));
    assert!(!refused().await);
}

#[rstest]
#[tokio::test]
async fn a_lock_that_passed_to_another_job_is_not_released_by_the_first(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60))).await;
    on.age(secs(60));
    on.put(unique(on.job("b"), secs(60))).await;

    assert_eq!(on.run(done()).await.job.id, id("a"));

    let outcome = on.put(unique(on.job("c"), secs(60))).await;
    assert_eq!(outcome, Enqueued::Duplicate { holder: id("b") });
}

#[rstest]
#[tokio::test]
async fn a_duplicate_is_reported_before_an_id_conflict(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60))).await;

    let outcome = on.put(unique(on.job("a"), secs(60))).await;

    assert_eq!(outcome, Enqueued::Duplicate { holder: id("a") });
}

#[rstest]
#[tokio::test]
async fn an_id_conflict_takes_no_lock(#[values(Store::Memory, Store::Redis)] store: Store) {
    let on = store.open().await;
    on.fill(&["a"]).await;

    assert_eq!(on.put(unique(on.job("a"), secs(60))).await, Enqueued::IdConflict);

    assert!(created(&on.put(unique(on.job("b"), secs(60))).await));
}

// Idempotency keys.

#[rstest]
#[tokio::test]
async fn a_repeated_request_is_answered_with_the_first_id(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert!(created(&on.put(guarded(on.job("a"), "k", "body")).await));

    let again = on.put(guarded(on.job("b"), "k", "body")).await;
    let changed = on.put(guarded(on.job("c"), "k", "other body")).await;

    assert_eq!(again, Enqueued::Replayed { id: id("a") });
    assert_eq!(changed, Enqueued::KeyReused);
    assert_eq!(on.info().await.sizes["pending"], 1);
    assert!(created(&on.put(guarded(on.job("d"), "l", "body")).await), "another key");
}

#[rstest]
#[tokio::test]
async fn a_request_is_remembered_for_a_day_though_its_job_has_ended(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(guarded(on.job("a"), "k", "body")).await;
    on.run(done()).await;
    assert_eq!(on.find("a").await, None);

    on.age(secs(86_399));
    let replayed = on.put(guarded(on.job("b"), "k", "body")).await;
    on.age(secs(1));
    let anew = on.put(guarded(on.job("b"), "k", "body")).await;

    assert_eq!(replayed, Enqueued::Replayed { id: id("a") });
    assert!(created(&anew), "{anew:?}");
}

#[rstest]
#[tokio::test]
async fn a_repeated_request_does_not_meet_its_own_lock_and_id(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let request = || guarded(unique(on.job("a"), secs(60)), "k", "body");
    on.put(request()).await;

    assert_eq!(on.put(request()).await, Enqueued::Replayed { id: id("a") });
}

#[rstest]
#[tokio::test]
async fn a_refused_request_is_not_remembered(#[values(Store::Memory, Store::Redis)] store: Store) {
    let on = store.open().await;
    on.put(unique(on.job("a"), secs(60))).await;
    let duplicate = on.put(guarded(unique(on.job("b"), secs(60)), "k", "body")).await;
    let conflict = on.put(guarded(on.job("a"), "k", "body")).await;
    assert_eq!(duplicate, Enqueued::Duplicate { holder: id("a") });
    assert_eq!(conflict, Enqueued::IdConflict);

    on.run(done()).await;

    assert!(created(&on.put(guarded(unique(on.job("b"), secs(60)), "k", "another")).await));
}

// Taking jobs.

#[rstest]
#[tokio::test]
async fn queues_are_tried_in_the_order_given(#[values(Store::Memory, Store::Redis)] store: Store) {
    let on = store.open().await;
    let other = on.beside();
    on.fill(&["a", "b", "c"]).await;
    other.fill(&["x", "y"]).await;

    let first = on.take_from(&[other.queue.clone(), on.queue.clone()], 3).await;
    let then = on.take_from(&[on.queue.clone(), other.queue.clone()], 1).await;

    assert_eq!(ids(&first), ["x", "y", "a"]);
    assert_eq!(first[0].lease.queue, other.queue);
    assert_eq!(ids(&then), ["b"]);
}

#[rstest]
#[tokio::test]
async fn no_more_jobs_are_taken_than_asked_for(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;

    assert!(on.take_many(0).await.is_empty());
    assert_eq!(on.take_many(2).await.len(), 2);
    assert_eq!(on.take_many(2).await.len(), 1);
    assert!(on.take_many(2).await.is_empty());
}

#[rstest]
#[tokio::test]
async fn workers_that_take_at_the_same_time_share_no_job(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let names: Vec<_> = (0..200).map(|n| format!("{n:03}")).collect();
    let jobs: Vec<_> = names.iter().map(|name| on.job(name)).collect();
    on.broker.enqueue(&jobs).await.unwrap();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let worker = Bench { broker: on.broker.detached(), ..on.clone() };
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let taken = worker.take_many(7).await;
                    if taken.is_empty() {
                        return mine;
                    }
                    mine.extend(taken.into_iter().map(|delivery| delivery.job.id.to_string()));
                }
            })
        })
        .collect();

    let mut taken = Vec::new();
    for worker in workers {
        taken.extend(worker.await.unwrap());
    }

    taken.sort();
    assert_eq!(taken, names);
}

#[rstest]
#[tokio::test]
async fn a_paused_queue_gives_nothing_and_says_so(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    on.fill(&["a", "b"]).await;
    other.fill(&["x"]).await;
    let running = on.take().await;

    assert!(on.pause(true).await);
    assert!(!on.pause(true).await, "nothing changed");
    on.fill(&["c"]).await;
    let queues = [on.queue.clone(), other.queue.clone()];
    let taken = on.broker.dequeue(&queues, 9).await.unwrap();
    assert_eq!(ids(&taken.deliveries), ["x"]);
    assert_eq!(taken.paused, std::slice::from_ref(&on.queue));
    assert!(on.info().await.paused);
    assert_eq!(on.settle(&running, done()).await, Settled::Done, "running jobs end as ever");

    assert!(on.pause(false).await);
    assert!(!on.pause(false).await);
    let taken = on.broker.dequeue(&queues, 9).await.unwrap();
    assert_eq!(ids(&taken.deliveries), ["b", "c"]);
    assert!(taken.paused.is_empty() && !on.info().await.paused);
}

#[rstest]
#[tokio::test]
async fn every_owner_and_every_extension_has_a_token_that_tells_the_end(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    on.take_many(2).await;

    // The clock stands still, and yet no token comes twice.
    let mut delivery = on.take().await;
    let mut tokens = vec![delivery.lease.token];
    for _ in 0..3 {
        delivery.lease = on.extend(&delivery.lease).await.unwrap();
        tokens.push(delivery.lease.token);
        on.settle(&delivery, Transition::Requeue).await;
        delivery = on.take().await;
        tokens.push(delivery.lease.token);
    }

    let end = (START + LEASE).as_micros();
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
    for token in tokens {
        assert!((end..end + 1_000).contains(&token), "{token}");
        assert_ne!(token % 1_000_000, 0, "whole seconds are Asynq's");
    }
}

// Settling.

#[rstest]
#[tokio::test]
async fn a_completed_job_without_retention_is_gone_and_counted(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;

    on.run(Transition::Complete { result: Some(b"42".to_vec()) }).await;

    assert_eq!(on.find("a").await, None);
    assert_eq!(on.counters().await, (1, 0));
    assert!(on.info().await.sizes.values().all(|size| *size == 0));
}

#[rstest]
#[tokio::test]
async fn a_completed_job_is_kept_with_its_result_until_its_retention_is_over(
    #[values(Store::Memory, Store::Redis)] store: Store,
    #[values(None, Some(vec![]), Some((0..=255).collect()))] result: Option<Vec<u8>>,
) {
    let on = store.open().await;
    on.put(on.kept("a", secs(60))).await;
    on.clock.advance(secs(5));

    on.run(Transition::Complete { result: result.clone() }).await;

    let info = on.see("a").await;
    assert_eq!(info.state, JobState::Completed);
    assert_eq!(info.job.completed_at, Some(START + secs(5)));
    assert_eq!(info.result.unwrap_or_default(), result.unwrap_or_default());
    on.clock.advance(secs(60) - MICRO);
    assert_eq!(on.expire().await, 0);
    on.clock.advance(MICRO);
    assert_eq!(on.expire().await, 1);
    assert_eq!(on.find("a").await, None);
    assert_eq!(on.counters().await, (1, 0));
}

#[rstest]
#[tokio::test]
async fn completed_jobs_expire_in_order_and_within_the_limit(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    for (name, retention) in [("a", 30), ("b", 10), ("c", 20)] {
        on.put(on.kept(name, secs(retention))).await;
        on.run(done()).await;
    }
    on.clock.advance(secs(30));

    assert_eq!(on.broker.expire(&on.queue, 2).await.unwrap(), 2);

    assert_eq!(on.state("a").await, Some(JobState::Completed));
    assert_eq!(on.expire().await, 1);
    assert_eq!(on.expire().await, 0);
}

#[rstest]
#[tokio::test]
async fn a_revoked_job_is_gone_whatever_its_retention(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.kept("a", secs(60))).await;

    on.run(Transition::Revoke).await;

    assert_eq!(on.find("a").await, None);
    assert_eq!(on.counters().await, (1, 0));
}

#[rstest]
#[tokio::test]
async fn a_failure_is_counted_and_waits_to_the_microsecond(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let after = Duration::from_micros(1_000_001);

    on.run(retry(after)).await;

    let info = on.see("a").await;
    assert_eq!((info.state, info.due), (JobState::Retry, Some(START + after)));
    assert_eq!((info.job.retried, info.job.last_error.as_str()), (1, "smtp is down"));
    assert_eq!(info.job.last_failed_at, Some(START));
    assert_eq!(on.counters().await, (1, 1));
    on.clock.advance(after - MICRO);
    assert_eq!(on.forward().await, Forwarded { moved: 0, next: Some(MICRO), ready: false });
    on.clock.advance(MICRO);
    assert_eq!(on.forward().await, Forwarded { moved: 1, next: None, ready: true });
    assert_eq!(on.take().await.job.retried, 1);
}

#[rstest]
#[tokio::test]
async fn a_snoozed_job_waits_and_nothing_is_counted(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.run(retry(secs(1))).await;
    on.clock.advance(secs(1));
    on.forward().await;

    let snooze = |error: &str| Transition::Retry {
        after: Duration::ZERO,
        error: error.to_owned(),
        counted: false,
    };
    on.run(snooze("")).await;
    assert_eq!(on.see("a").await.job.last_error, "smtp is down", "no word, so the last one stays");
    on.forward().await;
    on.run(snooze("no handler")).await;

    let info = on.see("a").await;
    assert_eq!((info.state, info.job.retried), (JobState::Retry, 1));
    assert_eq!(info.job.last_error, "no handler");
    assert_eq!(on.counters().await, (1, 1));
}

#[rstest]
#[tokio::test]
async fn an_archived_job_is_kept_with_its_error(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.clock.advance(secs(3));

    on.run(archive()).await;

    let info = on.see("a").await;
    assert_eq!((info.state, info.job.retried), (JobState::Archived, 0));
    assert_eq!(info.job.last_error, "bad address");
    assert_eq!(info.job.last_failed_at, Some(START + secs(3)));
    assert_eq!(on.counters().await, (1, 1));
}

#[rstest]
#[tokio::test]
async fn what_was_archived_ninety_days_ago_makes_room(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    on.run(archive()).await;
    on.clock.advance(secs(1));
    on.run(archive()).await;

    on.clock.advance(secs(90 * 86_400 - 1));
    on.run(archive()).await;

    assert_eq!(on.state("a").await, None);
    assert_eq!(on.state("b").await, Some(JobState::Archived));
    assert_eq!(on.info().await.sizes["archived"], 2);
}

#[rstest]
#[tokio::test]
async fn the_archive_holds_no_more_than_its_limit(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    for batch in 0..101 {
        let jobs: Vec<_> =
            (0..100).map(|n| on.job(&format!("job-{:05}", batch * 100 + n))).collect();
        on.broker.enqueue(&jobs).await.unwrap();
        let settled: Vec<_> =
            on.take_many(100).await.into_iter().map(|delivery| (delivery, archive())).collect();
        on.broker.settle(&settled).await.unwrap();
        on.clock.advance(secs(1));
    }

    assert_eq!(on.info().await.sizes["archived"], 9_999);
    assert_eq!(on.state("job-00100").await, None, "the oldest had to go");
    assert_eq!(on.state("job-00101").await, Some(JobState::Archived));
    assert_eq!(on.counters().await, (10_100, 10_100));
}

#[rstest]
#[tokio::test]
async fn a_requeued_job_is_next_in_line_as_if_it_had_not_been_taken(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    let before = on.see("a").await;

    on.run(Transition::Requeue).await;

    assert_eq!(on.see("a").await, before);
    assert_eq!(on.counters().await, (0, 0));
    assert_eq!(ids(&on.take_many(9).await), ["a", "b", "c"]);
}

#[rstest]
#[tokio::test]
async fn a_reclaimed_job_is_next_in_line_with_the_loss_recorded(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b"]).await;
    on.clock.advance(secs(7));

    assert_eq!(on.run(reclaim()).await.losses, 0);

    let info = on.see("a").await;
    assert_eq!((info.state, info.losses, info.job.retried), (JobState::Pending, 1, 0));
    assert_eq!(info.job.last_error, "its worker vanished");
    assert_eq!(info.job.last_failed_at, Some(START + secs(7)));
    assert_eq!(on.counters().await, (0, 0));
    assert_eq!(ids(&on.take_many(9).await), ["a", "b"]);
}

#[rstest]
#[tokio::test]
async fn losses_in_a_row_are_seen_by_those_who_find_the_job(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    for losses in 0..3 {
        let taken = on.take().await;
        assert_eq!(taken.losses, losses);
        on.pass(&taken.lease);
        let found = on.lapsed(9).await;
        assert_eq!((found.len(), found[0].losses), (1, losses));
        assert_eq!(on.settle(&found[0], reclaim()).await, Settled::Done);
    }
    assert_eq!(on.see("a").await.losses, 3);
}

#[rstest]
#[tokio::test]
async fn any_other_end_of_an_attempt_forgets_the_losses(
    #[values(Store::Memory, Store::Redis)] store: Store,
    #[values(retry(secs(1)), archive(), Transition::Requeue, done())] end: Transition,
) {
    let on = store.open().await;
    on.put(on.kept("a", secs(60))).await;
    on.run(reclaim()).await;

    on.run(end).await;

    assert_eq!(on.see("a").await.losses, 0);
}

#[rstest]
#[tokio::test]
async fn a_batch_settles_each_job_in_its_own_way(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    on.fill(&["a", "b", "c", "d", "e", "f"]).await;
    other.fill(&["x"]).await;
    let taken = on.take_from(&[on.queue.clone(), other.queue.clone()], 9).await;
    on.settle(&taken[1], done()).await;
    let ways = [
        archive(),
        done(),
        retry(secs(9)),
        Transition::Requeue,
        Transition::Revoke,
        reclaim(),
        archive(),
    ];

    let batch: Vec<_> = taken.into_iter().zip(ways).collect();
    let settled = on.broker.settle(&batch).await.unwrap();

    use Settled::{Done, Lost};
    assert_eq!(settled, [Done, Lost, Done, Done, Done, Done, Done]);
    assert_eq!(on.state("a").await, Some(JobState::Archived));
    assert_eq!(on.state("c").await, Some(JobState::Retry));
    assert_eq!(on.state("e").await, None);
    assert_eq!(ids(&on.take_many(9).await), ["f", "d"], "who came last is next");
    assert_eq!(on.counters().await, (4, 2));
    assert_eq!(other.counters().await, (1, 1));
}

// Fencing.

#[rstest]
#[tokio::test]
async fn a_settlement_is_carried_out_once(
    #[values(Store::Memory, Store::Redis)] store: Store,
    #[values(
        done(),
        Transition::Revoke,
        retry(secs(1)),
        archive(),
        Transition::Requeue,
        reclaim()
    )]
    way: Transition,
) {
    let on = store.open().await;
    on.put(on.kept("a", secs(60))).await;
    let delivery = on.run(way.clone()).await;
    let (info, counters) = (on.find("a").await, on.counters().await);

    assert_eq!(on.settle(&delivery, way).await, Settled::Lost);
    assert_eq!(on.settle(&delivery, done()).await, Settled::Lost);

    assert_eq!(on.find("a").await, info);
    assert_eq!(on.counters().await, counters);
}

#[rstest]
#[tokio::test]
async fn a_stale_owner_changes_nothing_after_the_job_was_recovered(
    #[values(Store::Memory, Store::Redis)] store: Store,
    #[values(
        done(),
        Transition::Revoke,
        retry(secs(1)),
        archive(),
        Transition::Requeue,
        reclaim()
    )]
    way: Transition,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let stale = on.take().await;
    on.pass(&stale.lease);
    on.settle(&on.lapsed(1).await[0], reclaim()).await;
    let owner = on.take().await;
    let before = (on.see("a").await, on.info().await);

    assert_eq!(on.settle(&stale, way).await, Settled::Lost);
    assert_eq!(on.extend(&stale.lease).await, None);

    assert_eq!((on.see("a").await, on.info().await), before);
    assert!(on.lapsed(9).await.is_empty(), "the owner's lease is as it was");
    assert_eq!(on.settle(&owner, done()).await, Settled::Done);
    assert_eq!(on.counters().await, (1, 0));
}

#[rstest]
#[tokio::test]
async fn an_extension_replaces_the_lease(#[values(Store::Memory, Store::Redis)] store: Store) {
    let on = store.open().await;
    on.fill(&["a", "b"]).await;
    let [first, second] = on.take_many(2).await.try_into().unwrap();
    on.clock.advance(secs(20));

    let leases = [first.lease.clone(), second.lease.clone()];
    let extended = on.broker.extend(&leases).await.unwrap();

    let [Extended::Renewed(renewed), Extended::Renewed(_)] = &extended[..] else {
        panic!("{extended:?}");
    };
    assert_eq!(on.extend(&first.lease).await, None);
    on.clock.advance(secs(20));
    assert!(on.lapsed(9).await.is_empty());
    assert_eq!(on.settle(&first, done()).await, Settled::Lost, "the old lease is no right");
    let renewed = Delivery { lease: renewed.clone(), ..first };
    assert_eq!(on.settle(&renewed, done()).await, Settled::Done);
    assert_eq!(on.extend(&renewed.lease).await, None);
}

#[rstest]
#[tokio::test]
async fn an_overdue_owner_whose_job_nobody_recovered_still_settles(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let delivery = on.take().await;
    on.clock.advance(secs(300));

    let lease = on.extend(&delivery.lease).await.expect("nobody else has it");

    assert!(on.lapsed(9).await.is_empty());
    assert_eq!(on.settle(&Delivery { lease, ..delivery }, done()).await, Settled::Done);
}

#[rstest]
#[tokio::test]
async fn a_lease_that_never_was_is_lost(#[values(Store::Memory, Store::Redis)] store: Store) {
    let on = store.open().await;
    on.fill(&["a", "b"]).await;
    let taken = on.take().await;
    let swapped = Lease { id: id("b"), ..taken.lease.clone() };
    let later = Lease { token: taken.lease.token + 1, ..taken.lease.clone() };
    let nobody = Lease { queue: fresh_queue(), ..taken.lease.clone() };

    for lease in [swapped, later, nobody] {
        assert_eq!(on.extend(&lease).await, None, "{lease:?}");
        let delivery = Delivery { lease, ..taken.clone() };
        assert_eq!(on.settle(&delivery, done()).await, Settled::Lost, "{delivery:?}");
    }
    assert_eq!(on.counters().await, (0, 0));
}

#[rstest]
#[tokio::test]
async fn a_lease_lapses_exactly_at_its_end_and_asking_changes_nothing(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let taken = on.take().await;
    on.pass(&Lease { token: taken.lease.token - 1, ..taken.lease.clone() });
    assert!(on.lapsed(9).await.is_empty());

    on.clock.advance(MICRO);

    let found = on.lapsed(9).await;
    assert_eq!(found, [taken]);
    assert_eq!(on.lapsed(9).await, found, "found again as it was");
    assert_eq!(on.state("a").await, Some(JobState::Active));
}

#[rstest]
#[tokio::test]
async fn lapsed_leases_come_oldest_first_and_within_the_limit(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["c", "b", "a"]).await;
    let first = on.take_many(2).await.remove(0);
    on.clock.advance(secs(1));
    on.take().await;
    on.clock.advance(secs(1));
    on.extend(&first.lease).await.unwrap();
    on.clock.advance(secs(60));

    assert_eq!(ids(&on.lapsed(2).await), ["b", "a"]);
    assert_eq!(ids(&on.lapsed(9).await), ["b", "a", "c"]);
    assert!(on.broker.lapsed(&fresh_queue(), 9).await.unwrap().is_empty());
}

// Due times.

#[rstest]
#[tokio::test]
async fn a_job_is_never_forwarded_a_microsecond_early(
    #[values(Store::Memory, Store::Redis)] store: Store,
    #[values(1, 999_999, 1_000_000, 1_000_001, 86_400_000_123)] delay: u64,
) {
    let on = store.open().await;
    let delay = Duration::from_micros(delay);
    on.put(on.job("a").placed(Placement::After(delay))).await;

    on.clock.advance(delay - MICRO);
    assert_eq!(on.forward().await, Forwarded { moved: 0, next: Some(MICRO), ready: false });
    assert_eq!(on.state("a").await, Some(JobState::Scheduled));
    on.clock.advance(MICRO);
    assert_eq!(on.forward().await, Forwarded { moved: 1, next: None, ready: true });
    let info = on.see("a").await;
    assert_eq!((info.state, info.due), (JobState::Pending, None));
}

#[rstest]
#[tokio::test]
async fn jobs_due_within_one_second_keep_their_order(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    for (name, micros) in [("a", 500_002), ("b", 500_001), ("c", 999_999), ("d", 1)] {
        on.put(on.job(name).placed(Placement::After(Duration::from_micros(micros)))).await;
    }
    on.clock.advance(secs(1));

    assert_eq!(on.forward().await.moved, 4);

    assert_eq!(ids(&on.take_many(9).await), ["d", "b", "a", "c"]);
}

#[rstest]
#[tokio::test]
async fn scheduled_and_retried_jobs_share_one_order(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["r1", "r2"]).await;
    on.run(retry(secs(2))).await;
    on.run(retry(secs(4))).await;
    for (name, delay) in [("s3", 3), ("s1", 1)] {
        on.put(on.job(name).placed(Placement::After(secs(delay)))).await;
    }
    on.clock.advance(secs(9));

    on.forward().await;

    assert_eq!(ids(&on.take_many(9).await), ["s1", "r1", "s3", "r2"]);
}

#[rstest]
#[tokio::test]
async fn many_due_jobs_move_in_batches_and_keep_their_order(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let jobs: Vec<_> = (0..250u64)
        .rev()
        .map(|n| on.job(&format!("{n:03}")).placed(Placement::After(Duration::from_millis(n + 1))))
        .collect();
    on.broker.enqueue(&jobs).await.unwrap();
    on.clock.advance(secs(1));

    let at_once = Some(Duration::ZERO);
    assert_eq!(on.forward().await, Forwarded { moved: 100, next: at_once, ready: true });
    assert_eq!(on.forward().await, Forwarded { moved: 100, next: at_once, ready: true });
    assert_eq!(on.forward().await, Forwarded { moved: 50, next: None, ready: true });
    assert_eq!(on.forward().await, Forwarded { moved: 0, next: None, ready: true });

    let expected: Vec<_> = (0..250).map(|n| format!("{n:03}")).collect();
    assert_eq!(ids(&on.take_many(250).await), expected);
}

#[rstest]
#[tokio::test]
async fn a_forwarded_job_waits_behind_those_that_are_pending(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.job("due").placed(Placement::After(secs(1)))).await;
    on.fill(&["a", "b"]).await;
    on.clock.advance(secs(1));
    on.forward().await;
    on.fill(&["c"]).await;

    assert_eq!(ids(&on.take_many(9).await), ["a", "b", "due", "c"]);
}

#[rstest]
#[tokio::test]
async fn forwarding_tells_when_the_next_job_is_due(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert_eq!(on.forward().await, Forwarded::default());
    on.put(on.job("a").placed(Placement::After(secs(5)))).await;
    on.put(on.job("b").placed(Placement::After(Duration::from_micros(8_000_001)))).await;

    on.clock.advance(secs(5));

    let next = Some(Duration::from_micros(3_000_001));
    assert_eq!(on.forward().await, Forwarded { moved: 1, next, ready: true });
    on.take().await;
    assert_eq!(on.forward().await, Forwarded { moved: 0, next, ready: false });
}

#[rstest]
#[tokio::test]
async fn a_paused_queue_forwards_but_is_not_ready(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.put(on.job("a").placed(Placement::After(secs(1)))).await;
    on.pause(true).await;
    on.clock.advance(secs(1));

    assert_eq!(on.forward().await, Forwarded { moved: 1, next: None, ready: false });

    on.pause(false).await;
    assert!(on.forward().await.ready);
}

// Looking.

#[rstest]
#[tokio::test]
async fn the_sizes_of_a_queue_have_every_state(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let later = |name| on.job(name).placed(Placement::After(secs(60)));
    on.broker.enqueue(&[later("s1"), later("s2"), later("s3")]).await.unwrap();
    on.put(on.kept("c", secs(60))).await;
    on.run(done()).await;
    on.fill(&["r", "x", "y", "act", "p1", "p2"]).await;
    on.run(retry(secs(60))).await;
    on.run(archive()).await;
    on.run(archive()).await;
    on.take().await;

    let sizes: Vec<_> = on.info().await.sizes.into_iter().collect();

    assert_eq!(
        sizes,
        [
            ("active", 1),
            ("aggregating", 0),
            ("archived", 2),
            ("completed", 1),
            ("pending", 2),
            ("retry", 1),
            ("scheduled", 3),
        ]
    );
}

#[rstest]
#[tokio::test]
async fn counters_of_the_day_begin_anew_at_midnight_utc(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b", "c"]).await;
    let counters = async || {
        let info = on.info().await;
        [info.processed, info.failed, info.processed_today, info.failed_today]
    };
    on.run(done()).await;
    on.run(archive()).await;
    on.clock.advance(secs(16 * 3600) - MICRO);
    assert_eq!(counters().await, [2, 1, 2, 1]);

    on.clock.advance(MICRO);

    assert_eq!(counters().await, [2, 1, 0, 0]);
    on.run(done()).await;
    assert_eq!(counters().await, [3, 1, 1, 0]);
}

#[rstest]
#[tokio::test]
async fn a_queue_that_was_never_used_does_not_exist(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert!(on.take_many(1).await.is_empty());

    let error = on.broker.queue(&on.queue).await.unwrap_err();

    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(error.to_string(), format!("queue \"{}\" does not exist", on.queue));
    assert_eq!(on.find("a").await, None);
    assert!(!on.broker.queues().await.unwrap().contains(&on.queue));
    on.fill(&["a"]).await;
    assert_eq!(on.find("b").await, None);
}

#[rstest]
#[tokio::test]
async fn what_happens_in_one_queue_leaves_another_alone(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    assert!(created(&on.put(unique(on.kept("a", secs(9)), secs(60))).await));
    assert!(created(&other.put(unique(other.kept("a", secs(9)), secs(60))).await));
    let before = (other.see("a").await, other.info().await);

    on.pause(true).await;
    on.pause(false).await;
    on.run(done()).await;
    on.clock.advance(secs(9));
    on.forward().await;
    on.expire().await;

    assert_eq!(on.find("a").await, None);
    assert_eq!((other.see("a").await, other.info().await), before);
    let queues: BTreeSet<_> = on.broker.queues().await.unwrap().into_iter().collect();
    assert!(queues.contains(&on.queue) && queues.contains(&other.queue));
}

// Waiting.

#[rstest]
#[tokio::test]
async fn a_wait_ends_at_once_where_a_job_is_pending(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let began = Instant::now();

    on.broker.wait(&[fresh_queue(), on.queue.clone()], 6 * PATIENCE).await.unwrap();

    assert!(began.elapsed() < PATIENCE);
    assert_eq!(ids(&on.take_many(9).await), ["a"], "a look, not a take");
}

#[rstest]
#[tokio::test]
async fn a_wait_ends_when_a_job_becomes_pending(
    #[values(Store::Memory, Store::Redis)] store: Store,
    #[values("enqueue", "forward", "requeue")] how: &str,
) {
    let on = store.open().await;
    let mut delivery = None;
    match how {
        "forward" => {
            on.put(on.job("a").placed(Placement::After(secs(1)))).await;
            on.clock.advance(secs(1));
        }
        "requeue" => {
            on.fill(&["a"]).await;
            delivery = Some(on.take().await);
        }
        _ => {}
    }
    let began = Instant::now();
    let waiter = on.broker.clone();
    let queue = on.queue.clone();
    let waiting = tokio::spawn(async move { waiter.wait(&[queue], 6 * PATIENCE).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished(), "nothing is pending yet");

    match (how, delivery) {
        ("forward", _) => assert_eq!(on.forward().await.moved, 1),
        ("requeue", Some(d)) => assert_eq!(on.settle(&d, Transition::Requeue).await, Settled::Done),
        _ => on.fill(&["a"]).await,
    }

    waiting.await.unwrap().unwrap();
    assert!(began.elapsed() < PATIENCE);
}

#[rstest]
#[tokio::test]
async fn a_wait_is_over_after_its_time(#[values(Store::Memory, Store::Redis)] store: Store) {
    let on = store.open().await;
    let (began, at_most) = (Instant::now(), Duration::from_millis(100));

    on.broker.wait(std::slice::from_ref(&on.queue), at_most).await.unwrap();

    assert!((at_most..PATIENCE).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[rstest]
#[tokio::test]
async fn an_earlier_due_time_is_heard_of_from_another_handle(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let listener = on.broker.clone();
    let mut heard = tokio::spawn(async move { listener.due_changed().await });
    let other = on.broker.detached();

    // The listener may still be on its way, so there is always an earlier one.
    for n in 0..100u64 {
        let due = Placement::After(secs(1000 - n));
        other.enqueue(&[on.job(&format!("job-{n}")).placed(due)]).await.unwrap();
        if let Ok(answer) = tokio::time::timeout(PATIENCE / 100, &mut heard).await {
            return answer.unwrap().unwrap();
        }
    }
    panic!("nothing was heard");
}

// The store itself.

#[rstest]
#[tokio::test]
async fn a_detached_handle_is_the_same_store(#[values(Store::Memory, Store::Redis)] store: Store) {
    let on = store.open().await;
    on.fill(&["a"]).await;

    let detached = on.broker.detached();

    let taken = detached.dequeue(std::slice::from_ref(&on.queue), 1).await.unwrap();
    assert_eq!(ids(&taken.deliveries), ["a"]);
    assert_eq!(on.settle(&taken.deliveries[0], done()).await, Settled::Done);
    assert_eq!(detached.now(), on.clock.now());
}

#[rstest]
#[tokio::test]
async fn a_store_answers_tells_its_time_and_describes_itself(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.broker.ping().await.unwrap();
    on.clock.advance(secs(5));
    assert_eq!(on.broker.now(), START + secs(5));
    let line = on.broker.describe();
    assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
}

#[rstest]
#[tokio::test]
async fn a_worker_is_announced_repeatedly_and_retired(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let mut worker = Announcement {
        host: "host".to_owned(),
        pid: 42,
        server_id: "1b671a64-40d5-491e-99b0-da01ff1f3341".to_owned(),
        concurrency: 10,
        queues: [(on.queue.clone(), 1)].into(),
        strict_priority: false,
        status: "active",
        started: START,
        running: Vec::new(),
    };
    for status in ["active", "active", "stopped"] {
        worker.status = status;
        on.broker.announce(&worker).await.unwrap();
    }
    on.broker.retire(&worker).await.unwrap();
    on.broker.retire(&worker).await.unwrap();
}
