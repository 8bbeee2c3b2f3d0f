//! Applications with namespaces in one Redis: under the same names of queues, job types, ids and
//! keys each has, sees and changes its own jobs only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{PATIENCE, RedisServer, eventually};
use rocket::figment::Figment;
use rocket::http::{ContentType, Header};
use rocket::local::asynchronous::Client;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::tokio::sync::Semaphore;
use rocket_jobqueue::doctor::FindingKind;
use rocket_jobqueue::handler::AfterCancel;
use rocket_jobqueue::inspect::Page;
use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::{Broker, Inspect, PoolSettings, RedisPool, Topology};
use rocket_jobqueue::{
    Clock, Idempotency, Job, JobContext, JobError, JobId, JobQueue, JobState, Managed, Periodic,
    QueueName,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const BASE: &str = "/api/dm-jobqueue";

/// Two namespaces of which one begins with the other's name.
const NAMES: [&str; 2] = ["shop", "shop-eu"];

/// Waits until a test lets it end, or it is cancelled.
#[derive(Serialize, Deserialize)]
struct Order {
    by: String,
}

impl Job for Order {
    const TYPE: &'static str = "shop:order";
}

/// What ends the jobs of an application.
#[derive(Clone)]
struct Gate(Arc<Semaphore>);

async fn order(job: Order, context: JobContext, gate: Managed<Gate>) -> Result<String, JobError> {
    tokio::select! {
        _ = gate.0.acquire() => Ok(format!("{} in {}", job.by, context.queue())),
        () = context.cancelled().cancelled() => Err(JobError::give_up("cancelled")),
    }
}

struct Anybody;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Anybody {
    type Error = ();

    async fn from_request(_: &'r Request<'_>) -> Outcome<Self, ()> {
        Outcome::Success(Anybody)
    }
}

struct Application {
    name: &'static str,
    client: Client,
    queue: JobQueue,
    gate: Gate,
}

fn url(redis: &RedisServer) -> String {
    format!("redis://{}", redis.addr())
}

fn default_queue() -> QueueName {
    QueueName::new("default").unwrap()
}

fn id(name: &str) -> JobId {
    JobId::new(name).unwrap()
}

impl Application {
    async fn launch(redis: &RedisServer, name: &'static str, worker: bool) -> Self {
        let gate = Gate(Arc::new(Semaphore::new(0)));
        let fairing = JobQueue::fairing()
            .namespace(name)
            .set("databases.jobqueue.url", url(redis))
            .set("jobqueue.worker", worker)
            .set("jobqueue.archive.default.max", 3)
            .handle(order)
            .admin_guard::<Anybody>();
        let fairing = match worker {
            true => fairing.periodic(Periodic::raw("@every 1s", "tick", None).name("nightly")),
            false => fairing,
        };
        let figment = rocket::Config::figment().merge(("log_level", "off"));
        let rocket = rocket::custom(figment).manage(gate.clone()).attach(fairing);
        let client = Client::untracked(rocket).await.expect("it starts");
        let queue = client.rocket().state::<JobQueue>().unwrap().clone();
        Self { name, client, queue, gate }
    }

    async fn both(redis: &RedisServer, worker: bool) -> [Self; 2] {
        [Self::launch(redis, NAMES[0], worker).await, Self::launch(redis, NAMES[1], worker).await]
    }

    fn order(&self) -> Order {
        Order { by: self.name.to_owned() }
    }

    async fn text(&self, path: &str) -> String {
        let response = self.client.get(format!("{BASE}{path}")).dispatch().await;
        assert_eq!(response.status().code, 200, "{path}");
        response.into_string().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    async fn state(&self, name: &str) -> Option<JobState> {
        self.queue.job("default", &id(name)).await.unwrap().map(|info| info.state)
    }

    async fn until_state(&self, name: &str, state: JobState) {
        let reached = eventually(PATIENCE, async || self.state(name).await == Some(state)).await;
        assert!(reached, "{} {name}: {:?}", self.name, self.state(name).await);
    }
}

/// What an application without a namespace, or a Go process, finds.
fn whole(redis: &RedisServer) -> RedisBroker {
    let topology = Topology::Single(redis.addr());
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    RedisBroker::new(pool, Clock::system())
}

fn keys(redis: &RedisServer) -> BTreeSet<String> {
    redis.cli(&["KEYS", "*"]).lines().map(str::to_owned).collect()
}

#[rocket::async_test]
async fn the_same_ids_locks_and_keys_are_free_in_each_namespace() {
    let redis = RedisServer::start::<&str>(&[]);
    let applications = Application::both(&redis, false).await;
    for one in &applications {
        // Equal payloads, so that only the queue tells the locks apart.
        let same = || Order { by: "all".to_owned() };
        let hour = Duration::from_secs(3600);
        let first = one.queue.enqueue(same()).id("order-17").unique_for(hour).await.unwrap();
        assert_eq!(first.id, id("order-17"));
        let again = one.queue.enqueue(same()).unique_for(hour).await.unwrap_err();
        assert_eq!(again.holder(), Some(&id("order-17")));

        // By REST the key may name any queue, so it is bound outside of queues.
        let mut made = Vec::new();
        for _ in 0..2 {
            let request = one.client.post(format!("{BASE}/jobs/{}", Order::TYPE));
            let request = request.header(ContentType::JSON).body(json!(one.order()).to_string());
            let response = request.header(Header::new("Idempotency-Key", "k-1")).dispatch().await;
            assert_eq!(response.status().code, 201, "{}", one.name);
            let text = response.into_string().await.unwrap();
            made.push(serde_json::from_str::<Value>(&text).unwrap()["id"].clone());
        }
        assert_eq!(made[0], made[1], "replayed");
        let key = Idempotency::new("orders", "k-2", b"");
        one.queue.enqueue(one.order()).id("keyed").idempotency(key).await.unwrap();
        assert_eq!(one.queue.inspector().queue(&default_queue()).await.unwrap().size, 3);
    }

    let common: BTreeSet<&str> = ["asynq:queues", "asynq:x:format"].into();
    for key in keys(&redis) {
        let is_own = NAMES.iter().any(|name| {
            key.starts_with(&format!("asynq:{{{name}:default}}:"))
                || key.starts_with(&format!("asynq:x:idem:{name}:"))
                || key == format!("asynq:x:audit:{name}")
                || key.starts_with(&format!("asynq:x:{{{name}:types}}:"))
        });
        assert!(is_own || common.contains(key.as_str()), "{key}");
    }
    let names = redis.cli(&["SMEMBERS", "asynq:queues"]);
    let names: BTreeSet<&str> = names.lines().collect();
    assert_eq!(names, ["shop:default", "shop-eu:default"].into());
}

#[rocket::async_test]
async fn each_application_runs_its_own_jobs_and_shows_nothing_of_others() {
    let redis = RedisServer::start::<&str>(&[]);
    let applications = Application::both(&redis, true).await;
    for one in &applications {
        one.queue.enqueue(one.order()).id("a").retention(Duration::from_secs(60)).await.unwrap();
        one.until_state("a", JobState::Active).await;
    }
    // What the worker announces comes with its heartbeat.
    for one in &applications {
        let announced = async || {
            let servers = one.queue.inspector().servers().await.unwrap().servers;
            servers.iter().any(|server| !server.running.is_empty())
        };
        assert!(eventually(PATIENCE, announced).await, "{}", one.name);
    }
    for (one, other) in applications.iter().zip(applications.iter().rev()) {
        let inspector = one.queue.inspector();
        assert_eq!(inspector.queues().await.unwrap(), [default_queue()], "{}", one.name);
        assert_eq!(inspector.find(&id("a")).await.unwrap().len(), 1);
        let servers = inspector.servers().await.unwrap().servers;
        assert_eq!(servers.len(), 1, "{servers:?}");
        assert_eq!(servers[0].queues.keys().collect::<Vec<_>>(), [&default_queue()]);
        assert_eq!(servers[0].running.len(), 1);
        assert_eq!(servers[0].running[0].queue, default_queue());
        let info = one.queue.job("default", &id("a")).await.unwrap().unwrap();
        assert_eq!(info.record.decode::<Order>().unwrap().by, one.name);
        assert!(info.worker.is_some());

        let queues = one.json("/queues").await;
        let names: Vec<&Value> =
            queues["queues"].as_array().unwrap().iter().map(|queue| &queue["queue"]).collect();
        assert_eq!(names, ["default"], "{queues}");
        let metrics = one.text("/metrics").await;
        assert!(
            metrics.contains(r#"asynq_tasks_enqueued_total{queue="default",state="active"} 1"#)
        );
        assert!(metrics.contains("jobqueue_servers 1"), "{metrics}");
        for path in ["/queues", "/servers", "/periodic", "/metrics", "/ui", "/ui/servers"] {
            let text = one.text(path).await;
            for stored in NAMES {
                assert!(!text.contains(&format!("{stored}:default")), "{path} of {}", one.name);
            }
        }
        let list = one.text("/queues/default/jobs?state=active").await;
        assert!(!list.contains(&format!("\"{}\"", other.name)), "{list}");

        // Everything on request, under the names of the store.
        let all = inspector.all_namespaces().queues().await.unwrap();
        let all: Vec<&str> = all.iter().map(QueueName::as_str).collect();
        assert_eq!(all, ["shop-eu:default", "shop:default"]);
        let error = inspector.queue(&QueueName::new("none").unwrap()).await.unwrap_err();
        assert_eq!(error.to_string(), r#"queue "none" does not exist"#);
    }
    for one in &applications {
        one.gate.0.add_permits(10);
        one.until_state("a", JobState::Completed).await;
        let info = one.queue.job("default", &id("a")).await.unwrap().unwrap();
        let result: String = serde_json::from_slice(&info.result.unwrap()).unwrap();
        assert_eq!(result, format!("{} in default", one.name));
    }
}

#[rocket::async_test]
async fn a_periodic_job_of_the_same_name_fires_the_same_tick_in_each_namespace() {
    let redis = RedisServer::start::<&str>(&[]);
    let applications = Application::both(&redis, true).await;
    let runs = async |one: &Application| -> BTreeSet<String> {
        let inspector = one.queue.inspector();
        let entries = inspector.periodic_jobs().await.unwrap();
        let [entry] = &entries[..] else { return BTreeSet::new() };
        assert_eq!(entry.queue, default_queue());
        assert_eq!(entry.options[0], r#"Queue("default")"#);
        assert_eq!(entry.id, one.queue.periodic().list()[0].id);
        let runs = inspector.periodic_history(&entry.id, &Page::default()).await.unwrap();
        runs.into_iter().map(|run| run.job.to_string()).collect()
    };
    let same = async || {
        let [shop, eu] = [runs(&applications[0]).await, runs(&applications[1]).await];
        shop.intersection(&eu).any(|run| run.starts_with("periodic:nightly:"))
    };
    assert!(eventually(PATIENCE, same).await, "no tick that both have fired");
    let all = applications[0].queue.inspector().all_namespaces().periodic_jobs().await.unwrap();
    let all: BTreeSet<&str> = all.iter().map(|entry| entry.queue.as_str()).collect();
    assert_eq!(all, ["shop:default", "shop-eu:default"].into());

    // By hand: the job goes to this application's queue, and the run into its history.
    let inspector = applications[0].queue.inspector();
    let entry = inspector.periodic_jobs().await.unwrap().remove(0);
    let fired = inspector.fire(&entry.id).await.unwrap().to_string();
    assert!(runs(&applications[0]).await.contains(&fired));
    assert!(!runs(&applications[1]).await.contains(&fired));
}

#[rocket::async_test]
async fn a_cancel_request_does_not_reach_a_job_of_the_same_id_elsewhere() {
    let redis = RedisServer::start::<&str>(&[]);
    let applications = Application::both(&redis, true).await;
    let [shop, eu] = &applications;
    for one in &applications {
        one.queue.enqueue(one.order()).id("a").retention(Duration::from_secs(60)).await.unwrap();
        one.until_state("a", JobState::Active).await;
    }
    eu.queue.enqueue(eu.order()).id("b").await.unwrap();
    eu.until_state("b", JobState::Active).await;
    shop.queue.inspector().cancel(&default_queue(), &id("a"), AfterCancel::Archive).await.unwrap();
    shop.until_state("a", JobState::Archived).await;
    // A later message of the same channel: when it has had its effect, the first one has been heard.
    eu.queue.inspector().cancel(&default_queue(), &id("b"), AfterCancel::Archive).await.unwrap();
    eu.until_state("b", JobState::Archived).await;
    assert_eq!(eu.state("a").await, Some(JobState::Active));
    eu.gate.0.add_permits(10);
    eu.until_state("a", JobState::Completed).await;
}

#[rocket::async_test]
async fn doctor_bulk_actions_and_removal_leave_other_namespaces_alone() {
    let redis = RedisServer::start::<&str>(&[]);
    let applications = Application::both(&redis, false).await;
    let [shop, eu] = &applications;
    for one in &applications {
        for name in ["a", "b", "c", "d", "e"] {
            one.queue.enqueue(one.order()).id(name).await.unwrap();
        }
        // An id without a job, and a name that nobody can use.
        redis.cli(&["LPUSH", &format!("asynq:{{{}:default}}:pending", one.name), "ghost"]);
        redis.cli(&["SADD", "asynq:queues", &format!("{}:no good", one.name)]);
    }
    let inspector = shop.queue.inspector();
    let report = inspector.doctor().repair().await.unwrap();
    assert!(report.queues.contains(&default_queue()) && report.queues.len() == 2, "{report:?}");
    let ghosts: Vec<_> = report.findings.iter().filter(|f| f.kind == FindingKind::Ghost).collect();
    assert_eq!(ghosts.len(), 1, "{report}");
    assert_eq!((ghosts[0].queue.as_ref(), ghosts[0].count), (Some(&default_queue()), 1));
    let odd = report.findings.iter().find(|f| f.kind == FindingKind::ForeignQueueName).unwrap();
    assert_eq!(odd.samples, ["no good"]);

    // The archive's limit of the configuration is the one of this namespace's queue.
    inspector.archive_all(&default_queue(), JobState::Pending).await.unwrap();
    assert_eq!(inspector.queue(&default_queue()).await.unwrap().sizes["archived"], 3);
    inspector.delete_queue(&default_queue(), true).await.unwrap();
    assert!(!inspector.queues().await.unwrap().contains(&default_queue()));

    let left = eu.queue.inspector().queue(&default_queue()).await.unwrap();
    assert_eq!(left.sizes["pending"], 6, "five jobs and an id without one");
}

#[rocket::async_test]
async fn go_sees_the_whole_name_and_what_it_enqueues_there_is_run() {
    let redis = RedisServer::start::<&str>(&[]);
    let shop = Application::launch(&redis, "shop", true).await;
    let figment = Figment::new()
        .merge(("databases.jobqueue.url", url(&redis)))
        .merge(("jobqueue.namespace", "shop"));
    let client = rocket_jobqueue::Client::from_figment(&figment).unwrap();
    shop.gate.0.add_permits(10);

    // As a consumer in Go, which is told the whole name.
    let whole = whole(&redis);
    client.enqueue(shop.order()).queue("away").id("to-go").await.unwrap();
    let stored = QueueName::new("shop:away").unwrap();
    let taken = whole.dequeue(std::slice::from_ref(&stored), 1).await.unwrap().deliveries;
    assert_eq!((taken[0].job.queue.as_str(), taken[0].job.id.as_str()), ("shop:away", "to-go"));
    let message = redis.cli(&["HGET", "asynq:{shop:away}:t:to-go", "msg"]);
    assert!(message.contains("shop:away"), "{message}");

    // As a producer in Go.
    let there = QueueName::new("shop:default").unwrap();
    let mut job = taken[0].job.clone();
    (job.queue, job.id) = (there, id("from-go"));
    job.retention = Duration::from_secs(60);
    whole.enqueue(&[rocket_jobqueue::NewJob::now(job)]).await.unwrap();
    shop.until_state("from-go", JobState::Completed).await;
    assert_eq!(whole.queues().await.unwrap().len(), 2);
}
