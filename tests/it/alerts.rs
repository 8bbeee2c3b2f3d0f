//! What needs attention, in a Redis that Go workers use too: by REST, on the overview and in the
//! metrics, which show the same list.

use std::sync::Arc;
use std::time::Duration;

use crate::support::anybody::Anybody;
use crate::support::{PATIENCE, RedisServer, until};
use rocket::http::{Header, Status};
use rocket::local::asynchronous::Client;
use rocket::request::{FromRequest, Outcome, Request};
use rocket_jobqueue::inspect::{AlertRule, WorkerDetails};
use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::{
    AnnouncedPeriodicJob, Announcement, Broker, PeriodicStore, PoolSettings, RedisPool, Running,
    Topology,
};
use rocket_jobqueue::limits::Limit;
use rocket_jobqueue::{Clock, JobError, JobQueue, JobQueueFairing, JobRecord, NewJob, QueueName};
use serde_json::{Value, json};

const BASE: &str = "/api/dm-jobqueue";
const HOURS: Duration = Duration::from_secs(3 * 3600);

/// An application that only looks: others work on the queues.
fn watcher(redis: &RedisServer) -> JobQueueFairing {
    JobQueue::fairing()
        .admin_guard::<Anybody>()
        .set("databases.jobqueue.url", format!("redis://{}", redis.addr()))
        .set("jobqueue.worker", false)
        .set("jobqueue.alerts.store_settings", "off")
}

async fn start(fairing: JobQueueFairing) -> Client {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    Client::untracked(rocket::custom(figment).attach(fairing)).await.expect("it starts")
}

async fn text(client: &Client, path: &str) -> String {
    let english = Header::new("Accept-Language", "en");
    let response = client.get(format!("{BASE}{path}")).header(english).dispatch().await;
    assert_eq!(response.status(), Status::Ok, "{path}");
    response.into_string().await.unwrap()
}

async fn alerts(client: &Client) -> Value {
    serde_json::from_str(&text(client, "/alerts").await).unwrap()
}

/// The store as another program uses it.
fn store(redis: &RedisServer) -> RedisBroker {
    let topology = Topology::Single(redis.addr());
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    RedisBroker::new(pool, Clock::system())
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// Writes what a Go worker's counters are after these attempts on this day.
fn count_as_go_does(redis: &RedisServer, queue: &str, processed: u64, failed: u64) {
    let today = Clock::system().now().to_string();
    let today = &today[..10];
    redis.cli(&["SADD", "asynq:queues", queue]);
    for (name, count) in [("processed", processed), ("failed", failed)] {
        let key = format!("asynq:{{{queue}}}:{name}");
        redis.cli(&["SET", &key, &count.to_string()]);
        redis.cli(&["SET", &format!("{key}:{today}"), &count.to_string()]);
    }
}

/// A worker that has run a job of this queue for three hours, and a periodic job that has not been
/// enqueued for as long.
async fn work_for_hours(store: &RedisBroker, name: &str) {
    let now = store.now();
    let began = now - HOURS;
    let record = JobRecord::new("report", Some(b"secret".to_vec()), queue(name));
    let running = Running { job: Arc::new(record.clone()), started: began, deadline: now + HOURS };
    let who = Announcement {
        host: "host".to_owned(),
        pid: 7,
        server_id: "7ab2f53c-0d20-4f22-b1b6-a12ac5a0bb4e".to_owned(),
        concurrency: 4,
        queues: [(queue(name), 1)].into(),
        strict_priority: false,
        status: "active",
        started: began,
        running: vec![running],
        details: WorkerDetails::default(),
    };
    store.announce(&who).await.unwrap();
    let nightly = AnnouncedPeriodicJob {
        id: "nightly".to_owned(),
        spec: "@every 1h".to_owned(),
        job: NewJob::now(record),
        next: Some(now + HOURS),
        prev: Some(began),
    };
    store.announce_periodic_jobs("host:7:x", &[nightly]).await.unwrap();
}

#[tokio::test]
async fn what_an_operator_must_see_is_in_every_list() {
    let redis = RedisServer::start::<&str>(&[]);
    let store = store(&redis);
    count_as_go_does(&redis, "bills", 854, 721);
    redis.cli(&["SADD", "asynq:queues", "mail"]);
    let two_hours_ago = (store.now() - Duration::from_secs(7200)).as_secs().to_string();
    redis.cli(&["SET", "asynq:{mail}:paused", &two_hours_ago]);
    work_for_hours(&store, "reports").await;
    let client = start(watcher(&redis)).await;

    let found = alerts(&client).await;
    let told: Vec<_> = found["alerts"].as_array().unwrap().iter().collect();
    let of = |rule: &str| *told.iter().find(|alert| alert["rule"] == rule).expect(rule);
    assert_eq!(told.len(), 4, "{found}");
    let failures = of("failure_rate");
    assert_eq!(failures["message"], "721 of 854 attempts failed (84 %) today (UTC)");
    assert_eq!((&failures["value"], &failures["threshold"]), (&json!(84.4), &json!(25.0)));
    assert_eq!((&failures["queue"], &failures["unit"]), (&json!("bills"), &json!("percent")));
    assert_eq!((&failures["since_is"], &failures["since"]), (&json!("seen"), &found["at"]));
    let paused = of("queue_paused");
    assert_eq!((&paused["queue"], &paused["since_is"]), (&json!("mail"), &json!("known")));
    assert!(paused["value"].as_f64().unwrap() >= 7200.0, "{paused}");
    let running = of("job_running");
    assert!(running["value"].as_f64().unwrap() >= HOURS.as_secs_f64(), "{running}");
    let missed = of("periodic_missed");
    assert_eq!((&missed["subject"], &missed["queue"]), (&json!("nightly"), &json!("reports")));
    assert!(missed["message"].as_str().unwrap().starts_with("periodic job report (@every 1h)"));
    assert!(!found.to_string().contains("secret"));

    // Each has a page that is there.
    for alert in &told {
        let page = alert["page"].as_str().unwrap();
        let response = client.get(page).dispatch().await;
        // The long job is announced and not stored.
        assert!([200, 404].contains(&response.status().code), "{page}");
    }
    // The overview has the same, and the metrics count them.
    let overview = text(&client, "/ui").await;
    for alert in &told {
        let sentence = alert["message"].as_str().unwrap();
        assert!(overview.contains(sentence), "{sentence}: {overview}");
    }
    let metrics = text(&client, "/metrics").await;
    for (rule, count) in [("failure_rate", 1), ("queue_paused", 1), ("limit_full", 0)] {
        let line = format!("jobqueue_alert{{rule=\"{rule}\"}} {count}");
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("rule=\"store_settings\""), "it is off: {metrics}");
    // Health is public, and silent about it.
    assert!(!text(&client, "/health").await.contains("alert"));
}

#[tokio::test]
async fn an_alert_ends_with_the_change_that_ends_it() {
    let redis = RedisServer::start::<&str>(&[]);
    redis.cli(&["SADD", "asynq:queues", "mail"]);
    let client = start(watcher(&redis)).await;
    let rules = async || {
        let found = alerts(&client).await;
        let rules = found["alerts"].as_array().unwrap().iter().map(|alert| alert["rule"].clone());
        rules.collect::<Vec<_>>()
    };
    assert_eq!(rules().await, [json!(null); 0]);
    let pause = client.post(format!("{BASE}/queues/mail/pause"));
    let json = Header::new("Content-Type", "application/json");
    assert_eq!(pause.header(json.clone()).dispatch().await.status(), Status::NoContent);
    assert_eq!(rules().await, ["queue_paused"], "at once, although a look has just been");
    let resume = client.post(format!("{BASE}/queues/mail/resume"));
    assert_eq!(resume.header(json).dispatch().await.status(), Status::NoContent);
    assert_eq!(rules().await, [json!(null); 0]);
    // What others change is seen with the next look.
    redis.cli(&["SET", "asynq:{mail}:paused", "1"]);
    until(async || (rules().await == ["queue_paused"]).then_some(())).await;
}

#[tokio::test]
async fn a_store_that_is_away_is_an_error_and_not_an_empty_list() {
    let mut redis = RedisServer::start::<&str>(&[]);
    let client = start(watcher(&redis)).await;
    assert_eq!(alerts(&client).await["alerts"], json!([]));
    redis.stop();
    until(async || {
        let response = client.get(format!("{BASE}/alerts")).dispatch().await;
        (response.status() == Status::ServiceUnavailable).then_some(())
    })
    .await;
}

#[tokio::test]
async fn readers_at_the_same_time_share_one_look() {
    let redis = RedisServer::start::<&str>(&[]);
    for n in 0..200 {
        redis.cli(&["SADD", "asynq:queues", &format!("q{n}")]);
    }
    let client = start(watcher(&redis)).await;
    assert_eq!(alerts(&client).await["queues_checked"], 200);
    let pause = client.post(format!("{BASE}/queues/q1/pause"));
    let json = Header::new("Content-Type", "application/json");
    assert_eq!(pause.header(json).dispatch().await.status(), Status::NoContent);
    let mut effort = crate::support::effort::Effort::of(&redis);
    let before = effort.scripts();
    let all = futures_util::future::join_all((0..20).map(|_| alerts(&client))).await;
    assert!(all.iter().all(|found| found["queues_checked"] == 200 && found["at"] == all[0]["at"]));
    let scripts = effort.scripts() - before;
    assert!(scripts < 2 * 200, "{scripts} scripts for 20 readers of 200 queues");
}

#[tokio::test]
async fn what_nobody_counted_by_minute_is_unknown_and_not_zero() {
    let redis = RedisServer::start::<&str>(&[]);
    let store = store(&redis);
    count_as_go_does(&redis, "bills", 854, 1);
    count_as_go_does(&redis, "quiet", 0, 0);
    let client = start(watcher(&redis)).await;
    let hour = async |name: &str| -> Value {
        serde_json::from_str(&text(&client, &format!("/queues/{name}/minutes")).await).unwrap()
    };
    // Counting begins with this process, for queues that no worker of this crate serves.
    until(async || (!hour("bills").await["counted_since"].is_null()).then_some(())).await;
    count_as_go_does(&redis, "bills", 900, 3);

    let found = hour("bills").await;
    let sum = |field: &str| -> u64 {
        let minutes = found["minutes"].as_array().unwrap().iter();
        minutes.map(|minute| minute[field].as_u64().unwrap()).sum()
    };
    assert_eq!((sum("processed"), sum("failed"), &found["is_whole"]), (46, 2, &json!(false)));
    // A queue that never had an attempt has had none in the last hour.
    assert_eq!(hour("quiet").await["is_whole"], json!(true));
    for page in ["/ui", "/ui/queues/bills"] {
        let page = text(&client, page).await;
        assert!(page.contains("46 in total") && page.contains("Not complete: before "), "{page}");
    }
    // Without any record it is unknown. The process may record the next minute in between.
    until(async || {
        redis.cli(&["DEL", "asynq:{bills}:x:minutes"]);
        let found = hour("bills").await;
        let page = text(&client, "/ui/queues/bills").await;
        let is_told =
            page.contains("Unknown: the attempts of bills were not counted by minute so far.");
        (found["is_whole"] == false && found["counted_since"].is_null() && is_told).then_some(())
    })
    .await;
    // A record without a worker does not say that there was one.
    store.record_minute(&queue("bills")).await.unwrap();
    assert_ne!(redis.cli(&["HLEN", "asynq:{bills}:x:minutes"]).trim(), "0");
    let job = NewJob::now(JobRecord::new("report", None, queue("bills")));
    let id = job.record.id.clone();
    store.enqueue(&[job]).await.unwrap();
    let why = text(&client, &format!("/jobs/bills/{id}/explanation")).await;
    assert!(why.contains("no worker serves queue bills\""), "{why}");
}

/// The words of a text that begin like our metrics.
fn metrics_in(text: &str) -> std::collections::BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("jobqueue_") || word.starts_with("asynq_")).collect()
}

#[tokio::test]
async fn the_rules_and_the_dashboard_name_metrics_and_alerts_that_there_are() {
    let fairing = JobQueue::fairing()
        .admin_guard::<Anybody>()
        .set("jobqueue.store", "memory")
        .set("jobqueue.allow_memory_in_release", true)
        .limit("default", Limit::new("smtp").concurrency(1))
        .handle_raw("work", async |_, _| Ok::<_, JobError>(None));
    let client = start(fairing).await;
    client.rocket().state::<JobQueue>().unwrap().enqueue_raw("work", None).await.unwrap();
    let is_there = |metrics: &str, name: &str| {
        let kind = |suffix: &str| {
            let name = format!("# TYPE {} ", name.strip_suffix(suffix)?);
            metrics.lines().find_map(|line| line.strip_prefix(&name))
        };
        kind("") == Some("gauge")
            || kind("_total") == Some("counter")
            || ["_bucket", "_count", "_sum"].iter().any(|one| kind(one) == Some("histogram"))
    };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring");
    let rules = std::fs::read_to_string(format!("{folder}/alerts.yml")).unwrap();
    let board = std::fs::read_to_string(format!("{folder}/grafana.json")).unwrap();
    let board: Value = serde_json::from_str(&board).unwrap();
    let mut queries = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            queries.push(target["expr"].as_str().unwrap());
        }
    }
    assert!(queries.len() > 20, "{}", queries.len());
    let queries = queries.join(" ");
    let named: Vec<_> = metrics_in(&rules).into_iter().chain(metrics_in(&queries)).collect();
    assert!(named.len() > 15, "{named:?}");
    // Some appear with the first attempt.
    let began = std::time::Instant::now();
    loop {
        let metrics = text(&client, "/metrics").await;
        let missing: Vec<_> = named.iter().filter(|name| !is_there(&metrics, name)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{missing:?} are missing in {metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Each rule of ours that the file names is one, and all but the pause are named.
    let known: std::collections::BTreeSet<_> =
        AlertRule::ALL.into_iter().map(AlertRule::as_str).collect();
    let in_file = rules
        .split("jobqueue_alert{rule=")
        .skip(1)
        .flat_map(|rest| rest.split('}').next().unwrap().trim_matches(['~', '"']).split('|'));
    let in_file: std::collections::BTreeSet<_> = in_file.collect();
    let missing: Vec<_> = known.difference(&in_file).collect();
    assert_eq!(missing, [&"queue_paused"]);
    assert!(in_file.is_subset(&known), "{in_file:?}");
}

struct Admin {
    name: String,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Admin {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match request.headers().get_one("User") {
            Some(name) => Outcome::Success(Admin { name: name.to_owned() }),
            None => Outcome::Error((Status::Unauthorized, ())),
        }
    }
}

#[tokio::test]
async fn who_did_what_is_in_the_store_and_told_to_the_application() {
    let redis = RedisServer::start::<&str>(&[]);
    redis.cli(&["SADD", "asynq:queues", "mail"]);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let app = |namespace: &str| {
        let fairing = JobQueue::fairing()
            .admin_guard_named(|admin: &Admin| admin.name.clone())
            .set("databases.jobqueue.url", format!("redis://{}", redis.addr()))
            .set("jobqueue.worker", false);
        match namespace {
            "" => fairing,
            _ => fairing.set("jobqueue.namespace", namespace),
        }
    };
    let client = start(app("").on_action(move |entry| {
        log.lock().unwrap().push(format!("{:?} {} {}", entry.actor, entry.action, entry.queue));
        panic!("the application's own fault");
    }))
    .await;
    let pause = async |client: &Client, user: &str| {
        let request = client.post(format!("{BASE}/queues/mail/pause"));
        let json = Header::new("Content-Type", "application/json");
        let user = Header::new("User", user.to_owned());
        request.header(json).header(user).dispatch().await.status()
    };
    let audit = async |client: &Client| -> Vec<Value> {
        let user = Header::new("User", "ada");
        let response = client.get(format!("{BASE}/audit")).header(user).dispatch().await;
        let found: Value = serde_json::from_str(&response.into_string().await.unwrap()).unwrap();
        found["entries"].as_array().unwrap().clone()
    };
    assert_eq!(pause(&client, "ada").await, Status::NoContent);
    let name = format!("<b>eve</b>\u{202e}{}", "x".repeat(300));
    assert_eq!(pause(&client, &name).await, Status::NoContent);
    let entries = until(async || {
        let entries = audit(&client).await;
        (entries.len() == 2).then_some(entries)
    })
    .await;
    assert_eq!(
        (&entries[1]["actor"], &entries[1]["action"]),
        (&json!("ada"), &json!("queue paused"))
    );
    assert_eq!((&entries[1]["queue"], &entries[1]["from"]), (&json!("mail"), &json!("local")));
    // A name from outside is cut, and cannot speak to a terminal or a page.
    let shown = entries[0]["actor"].as_str().unwrap();
    assert!(shown.starts_with("<b>eve</b>") && shown.len() < 150, "{shown}");
    assert!(!shown.contains('\u{202e}'), "{shown}");
    let page = client.get(format!("{BASE}/ui/audit")).header(Header::new("User", "ada"));
    let page = page.dispatch().await.into_string().await.unwrap();
    assert!(page.contains("&lt;b&gt;eve") && !page.contains("<b>eve"), "{page}");
    assert_eq!(told.lock().unwrap()[0], "Some(\"ada\") queue paused mail");

    // Another application in the same store has a log of its own.
    let shop = start(app("shop")).await;
    assert_eq!(audit(&shop).await, [json!(null); 0]);
    redis.cli(&["SADD", "asynq:queues", "shop:mail"]);
    assert_eq!(pause(&shop, "bob").await, Status::NoContent);
    until(async || (audit(&shop).await.len() == 1).then_some(())).await;
    assert_eq!(audit(&client).await.len(), 2);
    assert_eq!(redis.cli(&["LLEN", "asynq:x:audit:shop"]).trim(), "1");
}
