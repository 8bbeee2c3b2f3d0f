//! Global keys and jobs of a wrong type: every route and page still answers, and says
//! what is wrong.

use crate::support::anybody::Anybody;
use crate::support::{PATIENCE, RedisServer, eventually};
use rocket::http::{Accept, ContentType, Header};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::{JobId, JobQueue, JobState, QueueName};

const BASE: &str = "/api/dm-jobqueue";

/// The keys that all queues share, and some that belong to one process or entry.
const GLOBAL: [&str; 4] = ["asynq:queues", "asynq:servers", "asynq:workers", "asynq:schedulers"];

/// Commands that give a key a type, after the key.
const TYPES: [&[&str]; 5] = [
    &["SET", "KEY", "text"],
    &["LPUSH", "KEY", "entry"],
    &["SADD", "KEY", "member"],
    &["ZADD", "KEY", "9999999999", "member"],
    &["HSET", "KEY", "field", "value"],
];

/// Jobs that cannot be read, by id and the commands that make them.
const DAMAGED: [(&str, &[&[&str]]); 6] = [
    ("text", &[&["SET", "KEY", "text"]]),
    ("set", &[&["SADD", "KEY", "member"]]),
    ("nothing", &[&["HSET", "KEY", "field", "value"]]),
    ("no-message", &[&["HSET", "KEY", "state", "archived"]]),
    ("garbage", &[&["HSET", "KEY", "state", "archived", "msg", "\u{1}garbage"]]),
    ("no-state", &[&["HSET", "KEY", "state", "lost", "msg", "\n\u{4}mail"]]),
];

async fn app(redis: &RedisServer, worker: bool) -> Client {
    let queue = JobQueue::fairing()
        .admin_guard::<Anybody>()
        .set("databases.jobqueue.url", format!("redis://{}", redis.addr()))
        .set("jobqueue.worker", worker)
        .set("jobqueue.periodic.nightly.spec", "@every 1h")
        .set("jobqueue.periodic.nightly.type", "report");
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    Client::untracked(rocket::custom(figment).attach(queue)).await.expect("it launches")
}

fn spoil(redis: &RedisServer, key: &str, command: &[&str]) {
    let command: Vec<_> = command.iter().map(|word| word.replace("KEY", key)).collect();
    redis.cli(&command);
}

fn gets() -> Vec<String> {
    let mut paths: Vec<String> = [
        "/queues",
        "/queues/default",
        "/queues/default/history",
        "/queues/default/minutes",
        "/queues/default/memory",
        "/queues/default/groups",
        "/queues/default/aggregations",
        "/queues/other/jobs?state=pending",
        "/servers",
        "/store",
        "/doctor",
        "/periodic",
        "/metrics",
        "/health",
        "/ui",
        "/ui/jobs",
        "/ui/jobs?q=mail",
        "/ui/failures",
        "/ui/types",
        "/ui/scheduled",
        "/ui/groups",
        "/ui/enqueue",
        "/ui/enqueue/demo:delay_print",
        "/ui/register",
        "/ui/store",
        "/ui/doctor",
        "/ui/servers",
        "/ui/periodic",
        "/ui/queues/default",
    ]
    .map(str::to_owned)
    .into();
    for state in ["pending", "active", "scheduled", "retry", "archived", "completed"] {
        paths.push(format!("/queues/default/jobs?state={state}"));
        paths.push(format!("/ui/queues/default?state={state}"));
    }
    for id in DAMAGED.iter().map(|(id, _)| *id).chain(["whole", "absent"]) {
        paths.push(format!("/jobs/default/{id}"));
        paths.push(format!("/jobs?id={id}"));
        paths.push(format!("/ui/jobs/default/{id}"));
        paths.push(format!("/ui/find?id={id}"));
    }
    paths
}

fn posts() -> Vec<(String, &'static str)> {
    let mut asked: Vec<(String, &str)> = vec![
        ("/register".into(), "{}"),
        ("/jobs/demo:delay_print".into(), "{}"),
        ("/queues/default/pause".into(), "{}"),
        ("/queues/default/resume".into(), "{}"),
        ("/doctor/repair".into(), "{}"),
        ("/queues/default/actions".into(), r#"{"action":"run","state":"archived"}"#),
    ];
    for id in DAMAGED.iter().map(|(id, _)| *id).chain(["whole"]) {
        for verb in ["run", "archive", "duplicate", "cancel", "reschedule"] {
            let body = if verb == "reschedule" { r#"{"delay_seconds":60}"# } else { "{}" };
            asked.push((format!("/jobs/default/{id}/{verb}"), body));
        }
    }
    asked
}

async fn get(client: &Client, path: &str) -> (u16, String) {
    let response = client.get(format!("{BASE}{path}")).header(Accept::Any).dispatch().await;
    let status = response.status().code;
    (status, response.into_string().await.unwrap_or_default())
}

async fn post(client: &Client, path: &str, body: &str) -> (u16, String) {
    let request = client.post(format!("{BASE}{path}")).header(ContentType::JSON);
    let same_origin = Header::new("Sec-Fetch-Site", "same-origin");
    let response = request.header(same_origin).body(body).dispatch().await;
    let status = response.status().code;
    (status, response.into_string().await.unwrap_or_default())
}

/// Everything that is answered with a 5xx.
async fn failures(client: &Client, what: &str) -> Vec<String> {
    let mut failed = Vec::new();
    for path in gets() {
        let (status, body) = get(client, &path).await;
        if status >= 500 {
            let body: String = body.chars().take(200).collect();
            failed.push(format!("{what}: GET {path}: {status} {body}"));
        }
    }
    for (path, body) in posts() {
        let (status, answer) = post(client, &path, body).await;
        if status >= 500 {
            failed.push(format!("{what}: POST {path}: {status} {answer}"));
        }
    }
    failed
}

async fn prepared() -> (RedisServer, Client) {
    let redis = RedisServer::start::<&str>(&[]);
    let client = app(&redis, false).await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    queue.enqueue_raw("mail", Some(b"{}".to_vec())).id("whole").await.unwrap();
    for (id, commands) in DAMAGED {
        for command in commands {
            spoil(&redis, &format!("asynq:{{default}}:t:{id}"), command);
        }
        redis.cli(&["ZADD", "asynq:{default}:archived", "1700000000", id]);
    }
    let known = || async { redis.cli(&["SISMEMBER", "asynq:queues", "default"]) == "1" };
    assert!(eventually(PATIENCE, known).await);
    (redis, client)
}

#[tokio::test]
async fn damaged_jobs_are_shown_as_such() {
    let (_redis, client) = prepared().await;
    let failed = failures(&client, "damaged jobs").await;
    assert!(failed.is_empty(), "{}:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test]
async fn a_global_key_of_another_type_stops_no_route() {
    let mut failed = Vec::new();
    for key in GLOBAL {
        for kind in TYPES {
            let (redis, client) = prepared().await;
            redis.cli(&["DEL", key]);
            spoil(&redis, key, kind);
            failed.extend(failures(&client, &format!("{key} {}", kind[0])).await);
        }
    }
    assert!(failed.is_empty(), "{}:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test]
async fn what_is_damaged_is_named_and_the_rest_is_shown() {
    let (redis, client) = prepared().await;
    redis.cli(&["SET", "asynq:queues", "text"]);
    redis.cli(&["SET", "asynq:servers", "text"]);

    let (status, doctor) = get(&client, "/doctor").await;
    assert_eq!(status, 200, "{doctor}");
    for word in ["wrong_type", "asynq:queues", "asynq:servers"] {
        assert!(doctor.contains(word), "{word:?} is missing in {doctor}");
    }
    let (status, queues) = get(&client, "/queues").await;
    assert!(status == 200 && queues.contains(r#""queue":"default""#), "{queues}");
    let (status, servers) = get(&client, "/servers").await;
    assert!(status == 200 && servers.contains(r#""unreadable":1"#), "{servers}");
    let (status, page) = get(&client, "/ui").await;
    assert!(status == 200 && page.contains("key asynq:queues has another type"), "{page}");
    let queue = client.rocket().state::<JobQueue>().unwrap();
    queue.enqueue_raw("mail", None).await.expect("enqueueing needs no list of queues");
}

#[tokio::test]
async fn counters_near_the_end_of_an_integer_are_shown_and_add_up_to_no_less() {
    let redis = RedisServer::start::<&str>(&[]);
    let client = app(&redis, false).await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    let most = i64::MAX.to_string();
    let today = chrono::Utc::now();
    // It may be midnight in between.
    let days = [0, 1].map(|n| (today + chrono::Duration::days(n)).format("%Y-%m-%d").to_string());
    for name in ["a", "b", "c"] {
        queue.enqueue_raw("mail", None).queue(name).await.unwrap();
        for counter in ["processed", "failed"] {
            redis.cli(&["SET", &format!("asynq:{{{name}}}:{counter}"), &most]);
            for day in &days {
                redis.cli(&["SET", &format!("asynq:{{{name}}}:{counter}:{day}"), &most]);
            }
        }
        // More failures than attempts.
        redis.cli(&["SET", &format!("asynq:{{{name}}}:processed:2026-01-01"), "1"]);
    }
    for path in ["/ui", "/ui/queues/a", "/queues/a", "/queues/a/history?days=90", "/metrics"] {
        let (status, text) = get(&client, path).await;
        assert_eq!(status, 200, "{path}: {text}");
        let sum = if path == "/ui" { u64::MAX.to_string() } else { most.clone() };
        assert!(text.contains(&sum), "{path}: {sum} is missing in {text}");
    }
    let (status, text) = get(&client, "/queues/a/minutes").await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test]
async fn a_damaged_list_of_schedulers_is_said_to_be_so() {
    let (redis, client) = prepared().await;
    redis.cli(&["SET", "asynq:schedulers", "text"]);
    for path in ["/periodic", "/ui/periodic"] {
        let (status, body) = get(&client, path).await;
        assert!(status == 409 && body.contains("asynq:schedulers"), "{path}: {status} {body}");
    }
}

#[tokio::test]
async fn a_damaged_job_is_no_failure_of_the_server() {
    let (_redis, client) = prepared().await;
    for (id, what) in [("text", "something else"), ("garbage", "message"), ("no-state", "state")] {
        let (status, body) = get(&client, &format!("/jobs/default/{id}")).await;
        let named = body.contains(&format!(r#"job \"{id}\""#)) && body.contains(what);
        assert!(status == 409 && named && body.contains("/doctor"), "{status} {body}");
        let (status, page) = get(&client, &format!("/ui/jobs/default/{id}")).await;
        assert!(status == 409 && page.contains("/ui/doctor\""), "{status} {page}");
    }
}

#[tokio::test]
async fn a_damaged_job_stops_no_action_on_the_others_and_can_be_deleted() {
    let (redis, client) = prepared().await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    let name = QueueName::new("default").unwrap();
    let whole = JobId::new("whole").unwrap();
    queue.inspector().archive(&name, &whole).await.unwrap();

    let run = r#"{"action":"run","state":"archived"}"#;
    let (status, body) = post(&client, "/queues/default/actions", run).await;
    assert!(status < 300, "{status} {body}");
    let job = queue.job("default", &whole).await.unwrap().unwrap();
    assert_eq!(job.state, JobState::Pending);
    let delete = r#"{"action":"delete","state":"archived"}"#;
    let (status, body) = post(&client, "/queues/default/actions", delete).await;
    assert!(status < 300, "{status} {body}");
    for id in ["text", "set"] {
        let key = format!("asynq:{{default}}:t:{id}");
        assert_eq!(redis.cli(&["EXISTS", &key]), "0", "{id} is gone");
    }
}

#[tokio::test]
async fn a_worker_is_seen_although_the_list_of_jobs_at_work_is_damaged() {
    let redis = RedisServer::start::<&str>(&[]);
    redis.cli(&["SET", "asynq:workers", "text"]);
    let client = app(&redis, true).await;
    let seen = || async { get(&client, "/servers").await.1.contains("server_id") };
    assert!(eventually(PATIENCE, seen).await, "{}", get(&client, "/servers").await.1);
    client.terminate().await;
}
