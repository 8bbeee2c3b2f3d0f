//! The keys that scripts declare on a Cluster, as the server sees them: each call its own
//! and one more of the same slot that never exists. A server refuses such a call while the
//! slot moves, which `moving.rs` shows.
//!
//! A new script needs an operation here that calls it; without one this test fails.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::*;
use rocket_jobqueue::limits::Limit;
use rocket_jobqueue::{
    Clock, JobId, JobRecord, JobState, NewJob, Placement, QueueName, Timestamp,
    handler::{AfterCancel, Transition},
    inspect::Page,
};

use super::PATIENCE;
use super::support::scripts;
use super::support::{RedisServer, eventually};

/// What the pool puts before a script on a Cluster, so that it sees its own keys only.
const HIDES: &str = "KEYS[#KEYS] = nil ";
const NEVER: &str = ":x:never";
/// Not called on a Cluster: it asks for several queues at once.
const NOT_HERE: [&str; 1] = ["next_due"];
/// Ahead of the server's clock, by which keys expire.
const START: Timestamp = Timestamp::from_secs(4_000_003_200);
/// More locks than one call of a script is told.
const LOCKS: usize = 1_001;

/// All commands of a server, also the ones that scripts call.
struct Monitor<'a> {
    server: &'a RedisServer,
    child: Child,
}

impl<'a> Monitor<'a> {
    async fn start(server: &'a RedisServer) -> Self {
        let file = std::fs::File::create(server.dir().join("monitor")).unwrap();
        let mut command = Command::new("redis-cli");
        command.args(["-p", &server.port().to_string(), "MONITOR"]).stdin(Stdio::null());
        let child = command.stdout(file).spawn().expect("redis-cli is installed");
        let monitor = Self { server, child };
        assert!(eventually(PATIENCE, || async { monitor.seen().starts_with("OK") }).await);
        monitor
    }

    fn seen(&self) -> String {
        let bytes = std::fs::read(self.server.dir().join("monitor")).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Per command who sent it and its words.
    async fn end(mut self) -> Vec<(String, Vec<String>)> {
        self.server.cli(&["ECHO", "the end"]);
        let ended = || async { self.seen().contains("\"the end\"\n") };
        assert!(eventually(PATIENCE, ended).await);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let split = |line: &str| {
            let (from, words) = line.split_once("] \"")?;
            let words = words.trim_end_matches('"').split("\" \"").map(str::to_owned);
            Some((from.to_owned(), words.collect()))
        };
        self.seen().lines().filter_map(split).collect()
    }
}

/// A Cluster of one server, which has all slots.
async fn single() -> RedisServer {
    let server = RedisServer::start(&["--cluster-enabled", "yes"]);
    let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
    let add: Vec<&str> =
        ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(|s| &**s)).collect();
    assert_eq!(server.cli(&add), "OK");
    let serves = || async { server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") };
    assert!(eventually(PATIENCE, serves).await, "{}", server.log());
    server
}

fn record(queue: &QueueName) -> JobRecord {
    JobRecord::new("mail", Some(b"{}".to_vec()), queue.clone())
}

fn unique(mut job: NewJob) -> NewJob {
    job.unique_for = Some(Duration::from_secs(600));
    job
}

/// A job of this group that nothing else is like.
fn grouped(queue: &QueueName, group: &str, n: usize) -> NewJob {
    let mut record = record(queue);
    record.group = group.to_owned();
    record.payload = Some(n.to_string().into_bytes());
    unique(NewJob::now(record))
}

async fn work(broker: &RedisBroker, queue: &QueueName) {
    let queues = std::slice::from_ref(queue);
    let new = || NewJob::now(record(queue));
    let later = || new().placed(Placement::After(Duration::from_secs(600)));
    for job in [new(), new(), new(), unique(later()), later()] {
        broker.enqueue(&[job]).await.unwrap();
    }
    broker.next_due(queues).await.unwrap();
    broker.forward(queue, 10).await.unwrap();
    let taken = broker.dequeue(queues, 3).await.unwrap().deliveries;
    let [one, two, three] = &taken[..] else { panic!("three were taken") };
    broker.extend(std::slice::from_ref(&one.lease)).await.unwrap();
    assert!(broker.begin_suspect(&one.lease, 1).await.unwrap());
    broker.write_output(&one.lease, Output::Result(b"42")).await.unwrap();
    broker.cancel(queue, &one.job.id, AfterCancel::Retry).await.unwrap();
    let complete = Transition::Complete { result: None };
    let retry =
        Transition::Retry { after: Duration::from_secs(9), error: String::new(), counted: true };
    broker.settle(&[(one.clone(), complete).into(), (two.clone(), retry).into()]).await.unwrap();
    broker.first_expired_leases(queue, 10).await.unwrap();
    broker.delete_expired(queue, 10).await.unwrap();
    broker.trim(queue, 10).await.unwrap();
    broker.act(queue, &two.job.id, Action::Archive).await.unwrap();
    let run = BulkStep {
        queue,
        action: Action::Run,
        state: JobState::Archived,
        group: "",
        job_type: None,
        position: BulkPosition::default(),
        limit: 10,
    };
    broker.step(&run).await.unwrap();
    let reclaim = Transition::Reclaim { error: String::new() };
    broker.settle(&[(three.clone(), reclaim).into()]).await.unwrap();
}

async fn group(broker: &RedisBroker, clock: &Clock, queue: &QueueName, server: &RedisServer) {
    let limits = GroupLimits {
        grace: Duration::from_secs(1),
        max_delay: Duration::ZERO,
        max_size: MAX_SET_JOBS,
    };
    let jobs: Vec<_> = (0..=LOCKS).map(|n| grouped(queue, "digest", n)).collect();
    let unreadable = jobs[0].record.id.clone();
    broker.enqueue(&jobs).await.unwrap();
    server.cli(&["HSET", &format!("asynq:{{{queue}}}:t:{unreadable}"), "msg", "spoilt"]);
    broker.groups(queue, &Page::default()).await.unwrap();
    broker.waiting_groups(queue).await.unwrap();
    clock.advance(Duration::from_secs(60));
    broker.ready_groups(queue, &limits, 0).await.unwrap();
    let set = broker.claim_group(queue, "digest", &limits).await.unwrap().expect("it is ready");
    assert_eq!(set.jobs.len(), LOCKS);
    broker.aggregations(queue).await.unwrap();
    broker.aggregate(&set, &NewJob::now(record(queue))).await.unwrap();
    broker.repair_groups(queue, 10).await.unwrap();
}

async fn inspect(broker: &RedisBroker, clock: &Clock, queue: &QueueName) {
    let scheduled = JobList::State(JobState::Scheduled);
    broker.jobs(queue, scheduled, &Page::default()).await.unwrap();
    broker.queue(queue).await.unwrap();
    broker.memory(queue).await.unwrap();
    broker.history(queue, 3).await.unwrap();
    broker.minutes(queue).await.unwrap();
    broker.upcoming(queue, &[clock.now(), clock.now() + Duration::from_secs(9)]).await.unwrap();
    broker.job(queue, &JobId::new("gone").unwrap()).await.unwrap();
    broker.standing(queue, &JobId::new("gone").unwrap()).await.unwrap();
    broker.check_queue(queue, None, RepairScope::Nothing).await.unwrap();
}

/// Limits, and jobs that wait for them.
async fn limit(broker: &RedisBroker, queue: &QueueName) {
    let queues = std::slice::from_ref(queue);
    broker.set_limit(queue, &Limit::new("one").concurrency(1)).await.unwrap();
    let new = || NewJob::now(record(queue));
    broker.enqueue(&[new(), new(), new()]).await.unwrap();
    let taken = broker.dequeue(queues, 3).await.unwrap().deliveries;
    assert_eq!(taken.len(), 1, "the others wait");
    broker.enqueue(&[new()]).await.unwrap();
    broker.forward(queue, 10).await.unwrap();
    assert_eq!(broker.limits(queue).await.unwrap()[0].waiting, 3);
    broker.settle(&[(taken[0].clone(), Transition::Requeue).into()]).await.unwrap();
    assert_eq!(broker.limit_keys(queue, "one", &Page::default()).await.unwrap().keys.len(), 1);
    assert!(broker.remove_limit(queue, "one").await.unwrap());
    broker.forward(queue, 10).await.unwrap();
    for delivery in broker.dequeue(queues, 9).await.unwrap().deliveries {
        broker.settle(&[(delivery, Transition::Revoke).into()]).await.unwrap();
    }
}

/// Everything out of the store and into another queue.
async fn transfer(broker: &RedisBroker, queue: &QueueName) {
    let (mut export, mut all) = (broker.export(), Vec::new());
    while let Some(page) = export.next_page().await.unwrap() {
        all.extend(page);
    }
    let job = all.iter().find_map(|entry| match entry {
        Entry::Job(job) => Some(job.clone()),
        _ => None,
    });
    let mut job = job.expect("there are jobs");
    job.record.id = JobId::new("moved").unwrap();
    assert_eq!(&job.record.queue, queue);
    assert_eq!(broker.import(&[Entry::Job(job)], false).await.unwrap(), [Imported::New]);
}

async fn run_periodic(broker: &RedisBroker, clock: &Clock, queue: &QueueName) {
    let firing = Firing {
        entry: "nightly".to_owned(),
        queue: queue.clone(),
        known: None,
        keep: Duration::from_secs(600),
        ticks: vec![(clock.now(), NewJob::now(record(queue)))],
    };
    broker.fire(&firing).await.unwrap();
    let run = PeriodicRun::new(JobId::new("j").unwrap(), clock.now());
    broker.record_run("nightly", &run, Duration::from_secs(600)).await.unwrap();
    let entry = AnnouncedPeriodicJob {
        id: "nightly".to_owned(),
        spec: "0 3 * * *".to_owned(),
        job: NewJob::now(record(queue)),
        next: None,
        prev: None,
    };
    broker.announce_periodic_jobs("scheduler", &[entry]).await.unwrap();
    let worker = Announcement {
        host: "host".to_owned(),
        pid: 42,
        server_id: "w".to_owned(),
        concurrency: 10,
        queues: [(queue.clone(), 1)].into(),
        strict_priority: false,
        status: "active",
        started: START,
        running: Vec::new(),
        details: WorkerDetails::default(),
    };
    broker.announce(&worker).await.unwrap();
    let record = TypeRecord { succeeded: 1, ..TypeRecord::default() };
    let mail = ReportedType { name: "mail".into(), record, ..ReportedType::default() };
    let report = TypeReport { version: None, types: vec![mail] };
    broker.add_type_report("", &report).await.unwrap();
    let (host, server_id) = ("host", "w");
    let name = WorkerName { host, pid: 42, server_id };
    let change = WorkerChange {
        setting: WorkerSetting::Quiet,
        value: Some(1),
        at: START,
        until: None,
        by: String::new(),
        for_all: false,
    };
    broker.request_of_one(name, &[change]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_script_declares_a_second_key_of_its_slot_that_never_exists() {
    let server = single().await;
    let monitor = Monitor::start(&server).await;
    let clock = Clock::manual(START);
    let topology = Topology::Cluster(vec![server.addr()]);
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    let broker = RedisBroker::new(pool, clock.clone());
    let queue = QueueName::new("mail").unwrap();
    work(&broker, &queue).await;
    group(&broker, &clock, &queue, &server).await;
    inspect(&broker, &clock, &queue).await;
    transfer(&broker, &queue).await;
    limit(&broker, &QueueName::new("limited").unwrap()).await;
    run_periodic(&broker, &clock, &queue).await;
    assert_eq!(broker.remove_queue(&queue, true).await.unwrap(), Removal::Gone);
    let commands = monitor.end().await;

    let guarded = |(name, text): (String, String)| {
        (::redis::Script::new(&format!("{HIDES}{text}")).get_hash().to_owned(), name)
    };
    let known: BTreeMap<_, _> = scripts::all().into_iter().map(guarded).collect();
    let mut called = BTreeSet::new();
    let mut slots = BTreeMap::new();
    for (from, words) in &commands {
        let is_call = ["EVAL", "EVALSHA"].contains(&&*words[0]) && !from.ends_with("lua");
        if !is_call {
            assert!(!words.iter().any(|word| word.ends_with(NEVER)), "{from}: {words:?}");
            continue;
        }
        if words[0] == "EVALSHA" {
            let name = known.get(&words[1]).unwrap_or_else(|| panic!("{words:?}"));
            called.insert(name.as_str());
        } else {
            assert!(words[1].starts_with(HIDES), "{words:?}");
        }
        let keys = &words[3..][..words[2].parse().unwrap()];
        let (never, own) = keys.split_last().unwrap();
        assert!(never.ends_with(NEVER) && !own.is_empty(), "{keys:?}");
        assert!(!own.iter().any(|key| key.ends_with(NEVER)), "{keys:?}");
        let mut slot = |key: &String| {
            let asked = || server.cli(&["CLUSTER", "KEYSLOT", key]);
            slots.entry(key.clone()).or_insert_with(asked).clone()
        };
        let of_keys: BTreeSet<_> = keys.iter().map(&mut slot).collect();
        assert_eq!(of_keys.len(), 1, "{keys:?}");
    }
    let missing: Vec<_> =
        known.values().map(String::as_str).filter(|name| !called.contains(name)).collect();
    println!("{} scripts called on a Cluster", called.len());
    assert_eq!(missing, NOT_HERE, "scripts that no operation here calls");
    assert_eq!(server.cli(&["KEYS", &format!("*{NEVER}")]), "");
}
