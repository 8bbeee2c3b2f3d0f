//! Statistics by job type, from the handler to the pages; and what they take in Redis.

use std::time::Duration;

use redis::Commands;
use rocket::http::{ContentType, Header};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::{
    MAX_REPORTED_TYPES, OTHER_TYPES, PoolSettings, RedisPool, ReportedType, Slice, Topology,
    TypeRecord, TypeReport, TypeStats,
};
use rocket_jobqueue::{Clock, Job, JobContext, JobError, JobQueue, JobState, QueueName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::anybody::Anybody;
use crate::support::{PATIENCE, RedisServer, eventually};

const BASE: &str = "/api/dm-jobqueue";
const START: Timestamp = Timestamp::from_secs(4_000_003_200);

#[derive(Serialize, Deserialize)]
struct Send {
    fails: bool,
}

impl Job for Send {
    const TYPE: &'static str = "mail:send/now";
}

async fn send(job: Send, _: JobContext) -> Result<(), JobError> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    if job.fails { Err(JobError::give_up("smtp <is> down")) } else { Ok(()) }
}

async fn get(client: &Client, path: &str) -> (u16, String) {
    let answer = client
        .get(format!("{BASE}{path}"))
        .header(Header::new("Accept-Language", "en"))
        .header(ContentType::HTML)
        .dispatch()
        .await;
    (answer.status().code, answer.into_string().await.unwrap_or_default())
}

async fn json_of(client: &Client, path: &str) -> Value {
    let (status, text) = get(client, path).await;
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Runs six jobs, of which two fail, and drains the worker, which stores what it has counted.
async fn after_six_jobs(store: &str) -> (Client, JobQueue) {
    let fairing = JobQueue::fairing()
        .environment("embedded")
        .set("jobqueue.store", store)
        .version("2.4.1")
        .handle(send)
        .admin_guard::<Anybody>();
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let client = Client::untracked(rocket::custom(figment).attach(fairing)).await.unwrap();
    let queue = client.rocket().state::<JobQueue>().unwrap().clone();
    for nth in 0..6 {
        queue.enqueue(Send { fails: nth % 3 == 0 }).await.unwrap();
    }
    let name = QueueName::new("default").unwrap();
    let ended = async || {
        let info = queue.inspector().queue(&name).await.unwrap();
        info.processed_today == 6
    };
    assert!(eventually(PATIENCE, ended).await);
    queue.shutdown().await;
    (client, queue)
}

#[tokio::test]
async fn what_handlers_did_is_shown_by_rest_and_on_pages() {
    let (client, queue) = after_six_jobs("memory").await;
    let all = json_of(&client, "/types").await;
    assert_eq!(all["types"].as_array().unwrap().len(), 1, "{all}");
    let one = &all["types"][0];
    assert_eq!(one["type"], "mail:send/now");
    for time in ["last_hour", "last_14_days"] {
        let figures = &one[time];
        assert_eq!((&figures["succeeded"], &figures["failed"]), (&json!(4), &json!(2)), "{one}");
        assert!((figures["failure_rate"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9);
        let run = figures["run"]["p50_seconds"].as_f64().unwrap();
        assert!(run > 0.018, "it slept 20 ms: {run}");
        assert!(figures["wait"]["p99_seconds"].is_number(), "{figures}");
    }
    assert_eq!(all["versions"][0]["version"], "2.4.1");

    let detail = json_of(&client, "/types/mail:send%2Fnow").await;
    let lengths =
        ["five_minutes", "hours", "days"].map(|one| detail[one].as_array().unwrap().len());
    assert_eq!(lengths, [12, 24, 14]);
    let sum = |points: &str| -> u64 {
        let points = detail[points].as_array().unwrap().iter();
        points.map(|one| one["succeeded"].as_u64().unwrap() + one["failed"].as_u64().unwrap()).sum()
    };
    assert_eq!(["five_minutes", "hours", "days"].map(sum), [6; 3]);
    assert_eq!(detail["slowest"].as_array().unwrap().len(), 5);
    assert_eq!(detail["failures"].as_array().unwrap().len(), 2);
    assert_eq!(get(&client, "/types/none").await.0, 404);

    // The failed jobs say which version failed, and are found by it.
    let (name, first) = (QueueName::new("default").unwrap(), Default::default());
    let inspector = queue.inspector();
    let page = inspector.jobs_of_type(&name, JobState::Archived, Send::TYPE, &first).await;
    let failed = page.unwrap().rows;
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|row| row.job().unwrap().version.as_deref() == Some("2.4.1")));
    let (_, found) = get(&client, "/ui/jobs?q=version:2.4.1").await;
    let (_, other) = get(&client, "/ui/jobs?q=version:2.4.0").await;
    let id = failed[0].id().as_str();
    assert!(found.contains(id) && !other.contains(id));
    let (_, failures) = get(&client, "/ui/failures").await;
    assert!(failures.contains("Since version") && failures.contains("2.4.1"), "{failures}");

    for sort in ["", "?sort=slowest", "?sort=failing", "?sort=busiest"] {
        let (status, list) = get(&client, &format!("/ui/types{sort}")).await;
        assert_eq!(status, 200);
        assert!(list.contains("send%2Fnow") && list.contains("2 (33 %)"), "{list}");
    }
    assert_eq!(get(&client, "/ui/types?sort=best").await.0, 422);
    let (status, page) = get(&client, "/ui/types/mail:send%2Fnow").await;
    assert_eq!(status, 200);
    for text in ["6 in total, 2 failed", "first with version 2.4.1", "smtp &lt;is&gt; down", id] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert_eq!(get(&client, "/ui/types/none").await.0, 404);
    client.terminate().await;
}

fn connection(server: &RedisServer) -> redis::Connection {
    redis::Client::open(format!("redis://{}", server.addr())).unwrap().get_connection().unwrap()
}

fn redis(server: &RedisServer, clock: &Clock) -> RedisBroker {
    let topology = Topology::Single(server.addr());
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    RedisBroker::new(pool, clock.clone())
}

/// Durations over five powers of ten, thousands of each length.
fn wide(seed: u64) -> TypeRecord {
    let mut record =
        TypeRecord { succeeded: 40_000_000, failed: 2_000_000, ..TypeRecord::default() };
    for nth in 0..600_u64 {
        let length = Duration::from_secs_f64(1e-3 * 1.02_f64.powi(((nth * 7 + seed) % 580) as i32));
        record.runs.add(length);
        record.waits.add(length * 3);
    }
    for _ in 0..9 {
        let (runs, waits) = (record.runs.clone(), record.waits.clone());
        record.runs.merge(&runs);
        record.waits.merge(&waits);
    }
    record
}

/// The worst that is allowed: 200 types of which each runs in every slice of time, with durations
/// from milliseconds to minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_of_200_busy_types_take_at_most_10_mb() {
    let server = RedisServer::start::<&str>(&[]);
    let clock = Clock::manual(START);
    let broker = redis(&server, &clock);
    let types: Vec<ReportedType> = (0..205)
        .map(|nth| {
            let name = format!("application:some-job-type-{nth}");
            ReportedType { name, record: wide(nth), ..ReportedType::default() }
        })
        .collect();
    let add = async || {
        for some in types.chunks(MAX_REPORTED_TYPES) {
            let report = TypeReport { version: None, types: some.to_vec() };
            broker.add_type_report("", &report).await.unwrap();
        }
    };
    for (steps, pause) in [(13, 86_400), (24, 3600), (12, 300)] {
        for _ in 0..steps {
            add().await;
            clock.advance(Duration::from_secs(pause));
        }
    }
    let mut connection = connection(&server);
    let keys: Vec<String> = connection.keys("asynq:x:*").unwrap();
    let now = clock.now().as_secs();
    let (mut bytes, mut counted) = (0_u64, 0);
    for key in keys {
        let (letter, start) =
            key.strip_prefix("asynq:x:{types}:").unwrap().split_once(':').unwrap();
        // As long as each kind is kept; the clock went faster than Redis'.
        let kept = match letter {
            "m" => 300 + 4200,
            "h" => 3600 + 93_600,
            _ => i64::MAX,
        };
        if start.parse::<i64>().unwrap().saturating_add(kept) >= now {
            let of_key: u64 = redis::cmd("MEMORY")
                .arg("USAGE")
                .arg(&key)
                .arg("SAMPLES")
                .arg(0)
                .query(&mut connection)
                .unwrap();
            (bytes, counted) = (bytes + of_key, counted + 1);
        }
    }
    println!("{counted} slices of 200 types: {bytes} bytes");
    assert!(counted >= 12 + 24 + 14 && bytes <= 10_000_000, "{counted} slices: {bytes} bytes");
}

#[tokio::test]
async fn damaged_statistics_are_replaced_or_left_alone() {
    let server = RedisServer::start::<&str>(&[]);
    let clock = Clock::manual(START);
    let broker = redis(&server, &clock);
    let mut record = TypeRecord { succeeded: 1, ..TypeRecord::default() };
    record.runs.add(Duration::from_secs(1));
    let one = |name: &str| ReportedType {
        name: name.into(),
        record: record.clone(),
        ..ReportedType::default()
    };
    let report = TypeReport { version: None, types: vec![one("a"), one("b"), one(OTHER_TYPES)] };
    let start = START.as_secs();
    let mut connection = connection(&server);
    let (minutes, hour) =
        (format!("asynq:x:{{types}}:m:{start}"), format!("asynq:x:{{types}}:h:{start}"));
    let _: () = connection.hset(&minutes, "a", b"\xff\xff".as_slice()).unwrap();
    let _: () = connection.hset(&minutes, "b", "").unwrap();
    let _: () = connection.set(&hour, "another program's").unwrap();
    broker.add_type_report("", &report).await.unwrap();
    let history = broker.type_history("", &Slice::ALL, None).await.unwrap();
    let of = |slice: Slice| {
        history
            .slices
            .values()
            .zip(history.slices.keys())
            .filter(move |(_, key)| key.0 == slice)
            .count()
    };
    assert_eq!([of(Slice::FiveMinutes), of(Slice::Hour), of(Slice::Day)], [1, 0, 1]);
    for types in history.slices.values() {
        assert_eq!(types.len(), 3);
        assert!(types.values().all(|found| *found == record), "{types:?}");
    }
    let kept: String = connection.get(&hour).unwrap();
    assert_eq!(kept, "another program's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_stores_nothing_and_a_draining_one_its_last_counts() {
    let server = RedisServer::start::<&str>(&[]);
    let fairing = JobQueue::fairing()
        .environment("embedded")
        .set("databases.jobqueue.url", format!("redis://{}", server.addr()))
        .handle(send)
        .admin_guard::<Anybody>();
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let client = Client::untracked(rocket::custom(figment).attach(fairing)).await.unwrap();
    let queue = client.rocket().state::<JobQueue>().unwrap().clone();
    let mut connection = connection(&server);
    let stored: Vec<String> = connection.keys("asynq:x:{types}*").unwrap();
    assert_eq!(stored, [""; 0], "nothing ran");
    queue.enqueue(Send { fails: false }).await.unwrap();
    let name = QueueName::new("default").unwrap();
    let ended =
        async || queue.inspector().queue(&name).await.is_ok_and(|info| info.processed_today == 1);
    assert!(eventually(PATIENCE, ended).await);
    queue.shutdown().await;
    let found = queue.inspector().job_types().await.unwrap();
    assert_eq!(found.types.iter().map(|one| one.last_hour.succeeded).sum::<u64>(), 1);
    client.terminate().await;
}
