//! A slot on its way from one server to another, as `redis-cli --cluster reshard` moves
//! it: open for long, or stopped half-way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::*;
use rocket_jobqueue::{
    Clock, Error, Idempotency, JobQueue, JobRecord, JobState, NewJob, Placement, QueueName,
    handler::{AfterCancel, Transition},
    inspect::Page,
    limits::{Limit, Rate},
};

use super::load::{Ledger, addrs, application, enqueue};
use super::support::fleet::Cluster;
use super::support::{RedisServer, eventually};
use super::{PATIENCE, length};

const QUEUE: &str = "moved";

/// The slot of the queue, half-way between two servers.
struct Move<'a> {
    slot: String,
    from: &'a RedisServer,
    to: &'a RedisServer,
    all: &'a [RedisServer],
}

impl<'a> Move<'a> {
    fn of(cluster: &'a Cluster, queue: &str) -> Self {
        let nodes = &cluster.nodes;
        let slot = nodes[0].cli(&["CLUSTER", "KEYSLOT", &format!("asynq:{{{queue}}}:pending")]);
        let has = |node: &&RedisServer| {
            node.cli(&["EXISTS", &format!("asynq:{{{queue}}}:pending")]).parse::<u8>().is_ok()
        };
        let from = nodes.iter().find(has).expect("one server has the slot");
        let to = nodes.iter().find(|node| node.port() != from.port()).expect("there are more");
        Self { slot, from, to, all: nodes }
    }

    fn open(&self) {
        let [from, to] = [self.from, self.to].map(|node| node.cli(&["CLUSTER", "MYID"]));
        let ok = self.to.cli(&["CLUSTER", "SETSLOT", &self.slot, "IMPORTING", &from]);
        assert_eq!(ok, "OK");
        let ok = self.from.cli(&["CLUSTER", "SETSLOT", &self.slot, "MIGRATING", &to]);
        assert_eq!(ok, "OK");
    }

    fn keys(&self) -> Vec<String> {
        let keys = self.from.cli(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "100000"]);
        keys.lines().filter(|key| !key.is_empty()).map(str::to_owned).collect()
    }

    /// Moves these keys, as the reshard does; what `MIGRATE` said.
    fn migrate(&self, keys: &[String]) -> String {
        if keys.is_empty() {
            return "OK".to_owned();
        }
        let port = self.to.port().to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "60000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        self.from.cli(&migrate)
    }

    /// Moves the rest and ends the move.
    fn close(&self) {
        loop {
            let keys = self.keys();
            if keys.is_empty() {
                break;
            }
            assert_eq!(self.migrate(&keys), "OK", "no key is on both servers");
        }
        let id = self.to.cli(&["CLUSTER", "MYID"]);
        let others = self.all.iter().filter(|node| node.port() != self.to.port());
        for node in std::iter::once(self.to).chain(others) {
            assert_eq!(node.cli(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &id]), "OK");
        }
    }

    /// Every key of the slot with its server and its value. Keys may expire meanwhile.
    fn contents(&self) -> BTreeMap<(u16, String), String> {
        let mut contents = BTreeMap::new();
        for node in [self.from, self.to] {
            let keys = node.cli(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "100000"]);
            for key in keys.lines().filter(|key| !key.is_empty()) {
                // A script on the node itself would be refused, as ours are.
                let dump = match node.port() == self.from.port() {
                    true => node.cli(&["DUMP", key]),
                    false => String::new(),
                };
                contents.insert((node.port(), key.to_owned()), dump);
            }
        }
        contents
    }
}

fn broker(cluster: &Cluster) -> Arc<RedisBroker> {
    let topology = Topology::Cluster(addrs(cluster));
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    Arc::new(RedisBroker::new(pool, Clock::system()))
}

/// The answer of a call that is to be refused. Again if it did not come within the short
/// time of a prompt store, as on a busy machine.
macro_rules! refused {
    ($call:expr) => {{
        let begun = Instant::now();
        loop {
            match $call.await.map(drop) {
                Err(error) if !error.is_moving() && begun.elapsed() < PATIENCE => {
                    assert!(error.is_unavailable(), "{error:?}");
                }
                answer => break answer,
            }
        }
    }};
}

/// Scripts that serve a queue, and others: whatever is asked is refused, and what single
/// commands do they do on the one server that has the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_slot_moves_no_operation_writes_to_either_server() {
    let cluster = Cluster::start(3, 0, "5000").await;
    let broker = broker(&cluster);
    let queue = QueueName::new(QUEUE).unwrap();
    let queues = [queue.clone()];
    let record = || JobRecord::new("mail", Some(b"{}".to_vec()), queue.clone());
    let new = || NewJob::now(record());
    let later = || new().placed(Placement::After(Duration::from_secs(600)));
    let grouped = || {
        let mut record = record();
        record.group = "digest".to_owned();
        NewJob::now(record)
    };
    for job in [new(), new(), new(), new(), later(), grouped()] {
        broker.enqueue(&[job]).await.unwrap();
    }
    let taken = broker.dequeue(&queues, 2).await.unwrap().deliveries;
    let pending = &broker.jobs(&queue, JobList::State(JobState::Pending), &Page::default()).await;
    let pending = pending.as_ref().unwrap().rows.len();
    assert_eq!((taken.len(), pending), (2, 2));
    let [one, other] = &taken[..] else { panic!("two were taken") };

    let moved = Move::of(&cluster, QUEUE);
    moved.open();
    let keys = moved.keys();
    assert!(keys.len() > 8, "{keys:?}");
    assert_eq!(moved.migrate(&keys[..keys.len() / 2]), "OK");
    let before = moved.contents();

    let id = one.job.id.clone();
    let limits =
        GroupLimits { grace: Duration::from_secs(1), max_delay: Duration::ZERO, max_size: 0 };
    let lease = std::slice::from_ref(&one.lease);
    let complete = [(other.clone(), Transition::Complete { result: None }).into()];
    let unique = || NewJob { unique_for: Some(Duration::from_secs(60)), ..new() };
    let guarded = || NewJob { idempotency: Some(Idempotency::new("test", "k", b"body")), ..new() };
    assert_eq!(broker.extend(lease).await.unwrap(), [Extended::Moving]);
    let prompt = broker.prompt();
    let refused: Vec<(&str, Result<(), Error>)> = vec![
        ("enqueue", refused!(broker.enqueue(&[new()]))),
        ("enqueue later", refused!(prompt.enqueue(&[later()]))),
        ("enqueue some", refused!(prompt.enqueue(&[new(), later(), new()]))),
        ("enqueue unique", refused!(prompt.enqueue(&[unique()]))),
        ("enqueue guarded", refused!(prompt.enqueue(&[guarded()]))),
        ("enqueue grouped", refused!(prompt.enqueue(&[grouped()]))),
        ("dequeue", refused!(prompt.dequeue(&queues, 5))),
        ("settle", refused!(prompt.settle(&complete))),
        ("forward", refused!(prompt.forward(&queue, 10))),
        ("lapsed", refused!(prompt.first_expired_leases(&queue, 10))),
        ("expire", refused!(prompt.delete_expired(&queue, 10))),
        ("trim", refused!(prompt.trim(&queue, 10))),
        ("repair groups", refused!(prompt.repair_groups(&queue, 10))),
        ("ready groups", refused!(prompt.ready_groups(&queue, &limits, 0))),
        ("take group", refused!(prompt.claim_group(&queue, "digest", &limits))),
        ("note", refused!(prompt.write_output(&one.lease, Output::Result(b"x")))),
        ("cancel", refused!(prompt.cancel(&queue, &id, AfterCancel::Retry))),
        ("act", refused!(prompt.act(&queue, &id, Action::Archive))),
        ("queue", refused!(prompt.queue(&queue))),
        ("job", refused!(prompt.job(&queue, &id))),
        ("history", refused!(prompt.history(&queue, 3))),
        ("minutes", refused!(prompt.minutes(&queue))),
        ("memory", refused!(prompt.memory(&queue))),
        ("groups", refused!(prompt.groups(&queue, &Page::default()))),
        ("check", refused!(prompt.check_queue(&queue, None, RepairScope::Nothing))),
        ("remove", refused!(prompt.remove_queue(&queue, true))),
    ];
    for (what, answer) in refused {
        let error = answer.expect_err(what);
        assert!(error.is_moving() && error.is_unavailable(), "{what}: {error:?}");
        assert_eq!(error.to_string(), "the queue is being moved", "{what}");
    }
    broker.wait(&queues, Duration::from_millis(300)).await.unwrap();
    broker.ping().await.unwrap();
    let same = moved.contents();
    assert_eq!(same, before, "nothing was written");

    // One key and one command: it is on one of the two servers, wherever that is.
    assert!(broker.pause(&queue, true).await.unwrap());
    assert!(!broker.pause(&queue, true).await.unwrap());
    assert!(broker.pause(&queue, false).await.unwrap());

    moved.close();
    assert_eq!(broker.settle(&complete).await.unwrap(), [Settled::Done]);
    assert!(matches!(broker.extend(lease).await.unwrap()[..], [Extended::Renewed(_)]));
    broker.enqueue(&[new()]).await.unwrap();
    assert_eq!(broker.dequeue(&queues, 9).await.unwrap().deliveries.len(), 3);
    let never = moved.to.cli(&["EXISTS", &format!("asynq:{{{QUEUE}}}:x:never")]);
    assert_eq!(never, "0");
}

/// The places, turns and starts of a limit are keys of the slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_on_while_its_slot_moves_and_afterwards() {
    let cluster = Cluster::start(3, 0, "5000").await;
    let broker = broker(&cluster);
    let queue = QueueName::new(QUEUE).unwrap();
    let queues = [queue.clone()];
    let rate = Rate::parse("3/1h").unwrap().burst(3);
    broker.set_limit(&queue, &Limit::new("one").concurrency(1).rate(rate)).await.unwrap();
    let new = || NewJob::now(JobRecord::new("mail", Some(b"{}".to_vec()), queue.clone()));
    let jobs: Vec<NewJob> = (0..5).map(|_| new()).collect();
    broker.enqueue(&jobs).await.unwrap();
    let running = broker.dequeue(&queues, 9).await.unwrap().deliveries;
    assert_eq!(running.len(), 1);

    let moved = Move::of(&cluster, QUEUE);
    moved.open();
    let keys = moved.keys();
    assert_eq!(moved.migrate(&keys[..keys.len() / 2]), "OK");
    let before = moved.contents();
    let prompt = broker.prompt();
    let complete = |running: &Delivery| [SettleRequest::from((running.clone(), done()))];
    for (what, answer) in [
        ("dequeue", refused!(prompt.dequeue(&queues, 9))),
        ("settle", refused!(prompt.settle(&complete(&running[0])))),
        ("set", refused!(prompt.set_limit(&queue, &Limit::new("one").concurrency(9)))),
        ("limits", refused!(prompt.limits(&queue))),
        ("enqueue", refused!(prompt.enqueue(&[new()]))),
    ] {
        let error = answer.expect_err(what);
        assert!(error.is_moving(), "{what}: {error:?}");
    }
    assert_eq!(moved.contents(), before, "nothing was written");
    moved.close();

    let limit = broker.limits(&queue).await.unwrap().remove(0);
    assert_eq!((limit.in_use, limit.waiting), (1, 4));
    assert!(broker.dequeue(&queues, 9).await.unwrap().deliveries.is_empty());
    let (mut running, mut started) = (running, Vec::new());
    while let Some(delivery) = running.pop() {
        started.push(delivery.job.id.clone());
        assert_eq!(broker.settle(&complete(&delivery)).await.unwrap(), [Settled::Done]);
        running = broker.dequeue(&queues, 9).await.unwrap().deliveries;
    }
    let expected: Vec<_> = jobs.iter().take(3).map(|job| job.record.id.clone()).collect();
    assert_eq!(started, expected, "in their order, and no more than the rate");
}

fn done() -> Transition {
    Transition::Complete { result: None }
}

/// Its parts are refused, and each waits until the move is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_enqueue_that_waits_for_a_move_keeps_its_order() {
    let cluster = Cluster::start(3, 0, "5000").await;
    let broker = broker(&cluster);
    let queue = QueueName::new(QUEUE).unwrap();
    let new = || NewJob::now(JobRecord::new("mail", Some(b"{}".to_vec()), queue.clone()));
    broker.enqueue(&[new()]).await.unwrap();
    broker.dequeue(std::slice::from_ref(&queue), 1).await.unwrap();
    let moved = Move::of(&cluster, QUEUE);
    moved.open();
    let jobs: Vec<NewJob> = (0..1000).map(|_| new()).collect();
    let close = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        tokio::task::block_in_place(|| moved.close());
    };
    let (stored, ()) = tokio::join!(broker.enqueue(&jobs), close);
    assert_eq!(stored.unwrap().len(), jobs.len());
    let mut taken = Vec::new();
    while taken.len() < jobs.len() {
        let some = broker.dequeue(std::slice::from_ref(&queue), 100).await.unwrap().deliveries;
        assert!(!some.is_empty(), "{} of them", taken.len());
        taken.extend(some.into_iter().map(|delivery| delivery.job.id.clone()));
    }
    let given: Vec<_> = jobs.iter().map(|new| new.record.id.clone()).collect();
    assert!(taken == given, "in the order given");
}

/// Longer than a lease. Nobody can renew it, nor take the job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_job_outlives_a_slot_that_is_held_open() {
    let open = length(40, 90);
    let cluster = Cluster::start(3, 0, "5000").await;
    let ledger = Arc::new(Ledger::default());
    // Others look for lost leases too.
    let queues = [QUEUE.to_owned(), "other".to_owned()];
    let client = application(addrs(&cluster), &queues, Arc::clone(&ledger)).await;
    let watcher = application(addrs(&cluster), &queues, Arc::clone(&ledger)).await;
    let on = client.rocket().state::<JobQueue>().unwrap();
    let millis = u64::try_from(open.as_millis()).unwrap() + 10_000;
    enqueue(on, QUEUE, "long".into(), millis).await.unwrap();
    enqueue(on, QUEUE, "ends meanwhile".into(), 3_000).await.unwrap();
    assert!(eventually(PATIENCE, || async { ledger.begun() == 2 }).await);

    let moved = Move::of(&cluster, QUEUE);
    moved.open();
    let keys = moved.keys();
    assert_eq!(moved.migrate(&keys[..keys.len() / 2]), "OK");
    let until = Instant::now() + open;
    let mut other = 0;
    while Instant::now() < until {
        let ready = client.get("/api/dm-jobqueue/health/ready").dispatch().await.status();
        assert_eq!(ready, rocket::http::Status::Ok);
        let error = enqueue(on, QUEUE, "refused".into(), 1).await.unwrap_err();
        assert!(error.is_moving() && !error.is_outcome_unknown(), "{error:?}");
        enqueue(on, "other", format!("other-{other}"), 1).await.unwrap();
        other += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    moved.close();

    let settled =
        || async { moved.to.cli(&["GET", &format!("asynq:{{{QUEUE}}}:processed")]) == "2" };
    let complete = eventually(PATIENCE, settled).await;
    println!("held open for {open:?}: {:?}, {:?}", ledger.of("long"), ledger.of("ends meanwhile"));
    assert!(complete, "{:?}", ledger.of("long"));
    assert_eq!(ledger.doubled(), [""; 0]);
    assert_eq!((ledger.of("long").ended, ledger.of("refused").began), (1, 0));
    assert_eq!(ledger.ended_with("other-"), other);
    client.terminate().await;
    watcher.terminate().await;
}
