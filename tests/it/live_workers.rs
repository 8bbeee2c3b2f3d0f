//! Worker processes that an operator changes while they run jobs: quiet and back, more slots and
//! fewer, other weights. On every kind of store, in this process; under load, and with `kill -9`, in
//! processes of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::workers::{Run, WorkerFleet, twice};
use crate::support::{PATIENCE, RedisServer, eventually};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::inspect::{ServerInfo, WorkerState, WorkerUpdate};
use rocket_jobqueue::{
    Error, Inspector, Job, JobQueue, JobQueueFairing, Managed, QueueName, Timestamp,
};
use rstest::rstest;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// A job that runs until it is let go.
#[derive(Serialize, Deserialize)]
struct Hold;

impl Job for Hold {
    const TYPE: &'static str = "live:hold";
}

#[derive(Clone)]
struct Gate {
    running: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    /// One permit for each job that may end.
    release: Arc<Semaphore>,
}

async fn hold(_: Hold, gate: Managed<Gate>) -> Result<(), Error> {
    gate.running.fetch_add(1, Ordering::SeqCst);
    gate.release.acquire().await.expect("it is not closed").forget();
    gate.running.fetch_sub(1, Ordering::SeqCst);
    gate.ended.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum On {
    Memory,
    Redis,
    Namespace,
}

/// An application with two slots, at most eight, and the queues `default` and `low`.
struct Bench {
    client: Client,
    gate: Gate,
    redis: Option<Arc<RedisServer>>,
}

fn fairing(on: On, redis: Option<&RedisServer>) -> JobQueueFairing {
    let fairing = JobQueue::fairing()
        .set("jobqueue.concurrency", 2)
        .set("jobqueue.concurrency_max", 8)
        .set("jobqueue.queues.default", 5)
        .set("jobqueue.queues.low", 1)
        .handle(hold);
    let fairing = match redis {
        Some(redis) => fairing.set("databases.jobqueue.url", format!("redis://{}", redis.addr())),
        None => fairing.memory(),
    };
    match on {
        On::Namespace => fairing.namespace("shop"),
        On::Memory | On::Redis => fairing,
    }
}

impl Bench {
    async fn start(on: On) -> Self {
        let redis = match on {
            On::Memory => None,
            On::Redis | On::Namespace => Some(Arc::new(RedisServer::start::<&str>(&[]))),
        };
        Self::beside(on, redis).await
    }

    /// Another process on the same store, as far as workers are concerned.
    async fn beside(on: On, redis: Option<Arc<RedisServer>>) -> Self {
        let gate = Gate {
            running: Arc::default(),
            ended: Arc::default(),
            release: Arc::new(Semaphore::new(0)),
        };
        let figment = rocket::Config::figment().merge(("log_level", "off"));
        let app =
            rocket::custom(figment).manage(gate.clone()).attach(fairing(on, redis.as_deref()));
        let client = Client::untracked(app).await.expect("the application launches");
        Self { client, gate, redis }
    }

    fn queue(&self) -> &JobQueue {
        self.client.rocket().state::<JobQueue>().unwrap()
    }

    fn inspector(&self) -> Inspector {
        self.queue().inspector()
    }

    async fn put(&self, jobs: usize, queue: &'static str) {
        for _ in 0..jobs {
            self.queue().enqueue(Hold).queue(queue).await.unwrap();
        }
    }

    fn running(&self) -> usize {
        self.gate.running.load(Ordering::SeqCst)
    }

    async fn until_running(&self, number: usize) {
        let so_many = || async { self.running() == number };
        assert!(eventually(PATIENCE, so_many).await, "{} run, not {number}", self.running());
    }

    /// Lets this many jobs end, and waits for that.
    async fn release(&self, jobs: usize) {
        let before = self.gate.ended.load(Ordering::SeqCst);
        self.gate.release.add_permits(jobs);
        let ended = || async { self.gate.ended.load(Ordering::SeqCst) == before + jobs };
        assert!(eventually(PATIENCE, ended).await);
    }

    async fn servers(&self) -> Vec<ServerInfo> {
        self.inspector().servers().await.unwrap().servers
    }

    /// The process, once it is announced.
    async fn server(&self) -> ServerInfo {
        assert!(eventually(PATIENCE, || async { !self.servers().await.is_empty() }).await);
        self.servers().await.remove(0)
    }

    /// Asks the process, and waits until it says that it has done it.
    async fn update(&self, update: WorkerUpdate) {
        let id = self.server().await.server_id;
        self.inspector().update_worker(&id, &update).await.unwrap();
        self.until(|server| server.changes.iter().all(|change| change.applied)).await;
    }

    async fn until(&self, is_so: impl Fn(&ServerInfo) -> bool) {
        let so = || async { self.servers().await.iter().all(&is_so) };
        assert!(eventually(PATIENCE, so).await, "{:?}", self.servers().await);
    }

    async fn until_state(&self, state: WorkerState) {
        self.until(|server| server.details.as_ref().unwrap().state == state).await;
    }

    async fn pending(&self, queue: &str) -> u64 {
        self.inspector().queue(&QueueName::new(queue).unwrap()).await.unwrap().sizes["pending"]
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_worker_ends_its_jobs_and_takes_no_more_until_it_is_resumed(
    #[values(On::Memory, On::Redis, On::Namespace)] on: On,
) {
    let bench = Bench::start(on).await;
    bench.put(3, "default").await;
    bench.until_running(2).await;

    bench.update(WorkerUpdate::new().quiet().by("ann")).await;
    let server = bench.server().await;
    assert_eq!((server.status.as_str(), server.running.len()), ("stopped", 2));
    assert_eq!(server.changes[0].by.as_deref(), Some("ann"));
    bench.until_state(WorkerState::Draining).await;
    bench.release(2).await;
    bench.until_state(WorkerState::Quiet).await;
    assert_eq!((bench.running(), bench.pending("default").await), (0, 1));

    bench.update(WorkerUpdate::new().resume()).await;
    bench.until_running(1).await;
    let server = bench.server().await;
    assert_eq!((server.status.as_str(), server.changes), ("active", Vec::new()));
    bench.release(1).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn more_slots_are_used_at_once_and_fewer_let_running_jobs_end(
    #[values(On::Memory, On::Redis, On::Namespace)] on: On,
) {
    let bench = Bench::start(on).await;
    bench.put(12, "default").await;
    bench.until_running(2).await;

    bench.update(WorkerUpdate::new().concurrency(5)).await;
    bench.until_running(5).await;
    assert_eq!(bench.server().await.concurrency, 5);

    bench.update(WorkerUpdate::new().concurrency(1)).await;
    assert_eq!(bench.running(), 5, "none is cancelled");
    bench.release(3).await;
    // Whoever of them was settled has not been replaced.
    let settled = || async { bench.servers().await[0].details.as_ref().unwrap().in_use == 2 };
    assert!(eventually(PATIENCE, settled).await);
    assert_eq!((bench.running(), bench.pending("default").await), (2, 7));
    bench.release(1).await;
    bench.until_running(1).await;
    bench.release(1).await;
    bench.until_running(1).await;

    bench.update(WorkerUpdate::new().concurrency(8)).await;
    bench.until_running(7).await;
    bench.update(WorkerUpdate::new().configured_concurrency()).await;
    assert_eq!(bench.server().await.concurrency, 2);
    bench.release(7).await;
    assert_eq!(bench.gate.ended.load(Ordering::SeqCst), 12, "each once");
    // No slot was lost on the way.
    bench.put(4, "default").await;
    bench.until_running(2).await;
    bench.release(4).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_weight_0_is_not_served_until_it_has_its_weight_again(
    #[values(On::Memory, On::Redis, On::Namespace)] on: On,
) {
    let bench = Bench::start(on).await;
    let low = QueueName::new("low").unwrap();
    bench.update(WorkerUpdate::new().weight(low.clone(), 0)).await;
    assert_eq!(bench.server().await.queues[&low], 0);
    bench.put(1, "low").await;
    bench.put(1, "default").await;
    bench.until_running(1).await;
    bench.release(1).await;
    assert_eq!((bench.running(), bench.pending("low").await), (0, 1));

    bench.update(WorkerUpdate::new().configured_weight(low)).await;
    bench.until_running(1).await;
    bench.release(1).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_cannot_do_is_refused_with_its_bounds(
    #[values(On::Memory, On::Redis)] on: On,
) {
    let bench = Bench::start(on).await;
    let (id, inspector) = (bench.server().await.server_id, bench.inspector());
    let now = Timestamp::from(std::time::SystemTime::now());
    let name = |name| QueueName::new(name).unwrap();
    for (update, expected) in [
        (WorkerUpdate::new(), "worker: expected something to change, found nothing"),
        (
            WorkerUpdate::new().concurrency(9),
            "concurrency: expected 1 to 8 (`concurrency_max`), found 9",
        ),
        (
            WorkerUpdate::new().concurrency(0),
            "concurrency: expected 1 to 8 (`concurrency_max`), found 0",
        ),
        (
            WorkerUpdate::new().weight(name("other"), 3),
            "queues: expected one that the process is configured to serve (default, low), found \
             \"other\"",
        ),
        (
            WorkerUpdate::new().weight(name("default"), 0).weight(name("low"), 0),
            "queues: expected a weight of 1 or more for one queue, found none; to stop them all, \
             make the process quiet",
        ),
    ] {
        for error in [
            inspector.update_worker(&id, &update).await.unwrap_err(),
            inspector.update_workers(&update).await.unwrap_err(),
        ] {
            assert!(error.is_invalid() && error.to_string() == expected, "{error}");
        }
    }
    let quiet = WorkerUpdate::new().quiet();
    for update in [
        quiet.clone().until(now - Duration::from_secs(60)),
        quiet.clone().until(now + Duration::from_secs(40 * 86_400)),
        quiet.clone().lasting(Duration::MAX),
        quiet.lasting(Duration::ZERO),
    ] {
        assert!(inspector.update_worker(&id, &update).await.unwrap_err().is_invalid());
    }
    let error = inspector.update_worker("none", &WorkerUpdate::new().quiet()).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert_eq!(bench.server().await.changes, []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_all_are_asked_with_an_end_holds_for_a_process_that_starts_later(
    #[values(On::Redis, On::Namespace)] on: On,
) {
    let bench = Bench::start(on).await;
    bench.server().await;
    let until = Timestamp::from(std::time::SystemTime::now()) + Duration::from_secs(3600);
    let asked = bench.inspector().update_workers(&WorkerUpdate::new().quiet().until(until)).await;
    assert_eq!(asked.unwrap(), 1);
    bench.until_state(WorkerState::Quiet).await;
    bench.put(2, "default").await;

    let later = Bench::beside(on, bench.redis.clone()).await;
    assert!(eventually(PATIENCE, || async { bench.servers().await.len() == 2 }).await);
    later.until_state(WorkerState::Quiet).await;
    assert_eq!((later.running(), later.pending("default").await), (0, 2), "from its start on");
    let servers = later.servers().await;
    let marked = |server: &ServerInfo| {
        let change = &server.changes[0];
        change.applied && change.for_all && change.until == Some(until)
    };
    assert!(servers.iter().all(marked), "{servers:?}");
    assert_eq!(later.inspector().worker_changes().await.unwrap().len(), 1);

    // Resuming all ends it, also for those that start from now on.
    assert_eq!(later.inspector().update_workers(&WorkerUpdate::new().resume()).await.unwrap(), 2);
    let all = || async { bench.running() + later.running() == 2 };
    assert!(eventually(PATIENCE, all).await, "{:?}", bench.servers().await);
    assert_eq!(later.inspector().worker_changes().await.unwrap(), []);
    bench.gate.release.add_permits(2);
    later.gate.release.add_permits(2);
}

/// Nobody hears the message; the heartbeat brings the request.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_message_is_lost_comes_with_the_next_heartbeat() {
    let bench = Bench::start(On::Redis).await;
    let server = bench.server().await;
    let redis = bench.redis.as_ref().unwrap();
    let key = format!("asynq:x:asked:{{{}:{}:{}}}", server.host, server.pid, server.server_id);
    assert_eq!(redis.cli(&["HSET", &key, "concurrency", "1 0 7 "]), "1");
    bench.until(|server| server.concurrency == 7).await;
    let changes = bench.server().await.changes;
    assert!(changes[0].applied && changes[0].by.is_none(), "{changes:?}");
}

/// Processes change their slots and weights all the time, under load, some of them killed: each job
/// runs, none beside itself, and at the end every slot is there.
async fn changed_under_load(jobs: usize, kill: bool) {
    const SLOTS: [u32; 6] = [1, 16, 3, 40, 2, 8];
    let mut bench = WorkerFleet::start().await;
    bench.add_worker(2, 10);
    bench.add_worker(2, 10);
    let inspector = bench.queue().inspector();
    let both = || async { inspector.servers().await.unwrap().servers.len() == 2 };
    assert!(eventually(PATIENCE, both).await);
    for _ in 0..jobs {
        bench.put(40, 0).await;
    }
    let (mut done, mut killed) = (false, None);
    for round in 0.. {
        let slots = SLOTS[round % SLOTS.len()];
        let update = match round % 5 {
            4 => WorkerUpdate::new().quiet(),
            _ => WorkerUpdate::new().resume().concurrency(slots),
        };
        inspector.update_workers(&update).await.unwrap();
        if kill && round == 3 {
            killed = Some(bench.kill(0));
            bench.add_worker(2, 10);
        }
        done = eventually(Duration::from_millis(300), || async { bench.processed() >= jobs }).await;
        if done || round == 400 {
            break;
        }
    }
    let runs = bench.runs();
    assert!(done, "{} of {jobs} ended\n{}", bench.processed(), bench.log(0));
    // Attempts of the process that was killed have no end.
    let beside = runs.values().filter(|runs| {
        let lasts = |one: &Run, next: &Run| match one.ended {
            Some(ended) => ended > next.began,
            None => Some(one.pid) != killed,
        };
        runs.windows(2).any(|two| lasts(&two[0], &two[1]))
    });
    assert_eq!((runs.len(), beside.count()), (jobs, 0));
    let (more, _) = twice(&runs);
    assert!(more == 0 || kill && more <= 40, "{more} ran more than once");

    inspector.update_workers(&WorkerUpdate::new().resume().concurrency(6)).await.unwrap();
    let applied = || async {
        let servers = inspector.servers().await.unwrap().servers;
        servers.len() == 2 && servers.iter().all(|one| one.concurrency == 6)
    };
    assert!(eventually(PATIENCE, applied).await);
    for _ in 0..20 {
        bench.put(60_000, 0).await;
    }
    bench.until_begun(jobs + 12).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bench.runs().len(), jobs + 12, "as many as there are slots, and no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_under_load_lose_no_job_and_no_slot() {
    changed_under_load(1500, false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: a killed worker's jobs wait for the end of their leases"]
async fn changes_under_load_and_kill_9_lose_no_job_and_no_slot() {
    changed_under_load(3000, true).await;
}
