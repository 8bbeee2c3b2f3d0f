//! The inspector by REST: every verb, who may use it, and what is said of wrong requests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rocket::http::{Accept, ContentType, Header, Method, Status};
use rocket::local::asynchronous::Client;
use rocket::request::{FromRequest, Outcome, Request};
use rocket_jobqueue::{Job, JobContext, JobError, JobOptions, JobQueue, JobQueueFairing, Periodic};
use rstest::rstest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod filters;
mod payloads;
mod viewer;

const BASE: &str = "/api/dm-jobqueue";

#[derive(Serialize, Deserialize)]
struct Welcome {
    user: u64,
}

impl Job for Welcome {
    const TYPE: &'static str = "mail:welcome";

    fn options() -> JobOptions {
        JobOptions::new().queue("mail").max_retry(4)
    }

    fn schema() -> Option<Value> {
        Some(json!({
            "type": "object",
            "required": ["user"],
            "properties": { "user": { "type": "integer", "minimum": 1 } },
            "additionalProperties": false
        }))
    }
}

async fn welcome(job: Welcome) -> Result<String, JobError> {
    if job.user == 13 {
        return Err(JobError::give_up("nobody is number 13"));
    }
    Ok(format!("welcome, {}", job.user))
}

/// Runs until it is told to stop.
#[derive(Serialize, Deserialize)]
struct Long;

impl Job for Long {
    const TYPE: &'static str = "long";
}

async fn long(_job: Long, context: JobContext) -> Result<(), JobError> {
    context.cancelled().cancelled().await;
    Err(JobError::failed("stopped"))
}

/// Whoever names a role has it.
struct Role(&'static str);

impl Role {
    fn of(request: &Request<'_>) -> Result<&'static str, Status> {
        match request.headers().get_one("Role") {
            Some("operator") => Ok("operator"),
            Some("viewer") => Ok("viewer"),
            _ => Err(Status::Unauthorized),
        }
    }
}

struct Viewer;
struct Operator;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Viewer {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match Role::of(request) {
            Ok(_) => Outcome::Success(Viewer),
            Err(status) => Outcome::Error((status, ())),
        }
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Operator {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match Role::of(request).map(Role) {
            Ok(Role("operator")) => Outcome::Success(Operator),
            Ok(_) => Outcome::Error((Status::Forbidden, ())),
            Err(status) => Outcome::Error((status, ())),
        }
    }
}

fn fairing() -> JobQueueFairing {
    JobQueue::fairing()
        .environment("embedded")
        .memory()
        .handle(welcome)
        .handle(long)
        .set("jobqueue.queues", json!({ "mail": 1, "default": 1 }))
        .view_guard::<Viewer>()
        .admin_guard::<Operator>()
}

async fn start(fairing: JobQueueFairing) -> Client {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    Client::untracked(rocket::custom(figment).attach(fairing)).await.expect("it starts")
}

/// A periodic job that is not due while tests run.
fn nightly() -> Periodic {
    Periodic::new("0 3 * * *", Welcome { user: 3 }).name("nightly")
}

/// An application whose jobs stay where they are.
async fn still() -> Client {
    start(fairing().set("jobqueue.worker", false)).await
}

struct Answer {
    status: u16,
    body: Value,
    text: String,
}

async fn ask(client: &Client, method: Method, path: &str, body: Option<Value>) -> Answer {
    ask_as(client, "operator", method, path, body).await
}

async fn ask_as(
    client: &Client,
    role: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let mut request = client.req(method, format!("{BASE}{path}"));
    request.add_header(ContentType::JSON);
    request.add_header(Header::new("Role", role.to_owned()));
    if let Some(body) = body {
        request.set_body(body.to_string());
    }
    let response = request.dispatch().await;
    let status = response.status().code;
    let problem = response.content_type() == Some(ContentType::new("application", "problem+json"));
    let text = response.into_string().await.unwrap_or_default();
    assert_eq!(problem, status >= 400, "{method} {path}: {status} {text}");
    Answer { status, body: serde_json::from_str(&text).unwrap_or_default(), text }
}

async fn get(client: &Client, path: &str) -> Value {
    let answer = ask(client, Method::Get, path, None).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.body
}

async fn done(client: &Client, method: Method, path: &str, body: Option<Value>) {
    let answer = ask(client, method, path, body).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{method} {path}");
}

/// Enqueues a welcome; its id.
async fn enqueue(client: &Client, user: u64, query: &str) -> String {
    let path = format!("/jobs/mail:welcome{query}");
    let answer = ask(client, Method::Post, &path, Some(json!({ "user": user }))).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.body["job_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_job_of_a_registered_type_is_enqueued_with_its_types_options() {
    let client = still().await;
    let path = "/jobs/mail:welcome";
    let answer = ask(&client, Method::Post, path, Some(json!({ "user": 7 }))).await;
    assert_eq!(answer.status, 201);
    assert_eq!((&answer.body["queue"], &answer.body["state"]), (&json!("mail"), &json!("pending")));
    let id = answer.body["job_id"].as_str().unwrap();
    let job = get(&client, &format!("/jobs/mail/{id}")).await;
    assert_eq!(job["job_type"], "mail:welcome");
    assert_eq!((&job["payload"], &job["max_retry"]), (&json!("{\"user\":7}"), &json!(4)));

    let later = format!("{path}?queue=default&delay_seconds=60&max_retry=2");
    let answer = ask(&client, Method::Post, &later, Some(json!({ "user": 8 }))).await;
    assert_eq!(
        (&answer.body["queue"], &answer.body["state"]),
        (&json!("default"), &json!("scheduled"))
    );
    let id = answer.body["job_id"].as_str().unwrap();
    assert_eq!(get(&client, &format!("/jobs/default/{id}")).await["max_retry"], 2);
}

#[rstest]
#[case::unknown_type("/jobs/mail:unknown", json!({}), 404, "this process has no handler for job type")]
#[case::schema("/jobs/mail:welcome", json!({ "user": 0 }), 422, "1 field is wrong")]
#[case::missing("/jobs/mail:welcome", json!({}), 422, "1 field is wrong")]
#[case::decoding("/jobs/long", json!([1]), 422, "failed to unmarshal payload")]
#[case::queue("/jobs/mail:welcome?queue=a%20b", json!({ "user": 1 }), 422, "queue name: expected")]
#[case::delay("/jobs/mail:welcome?delay_seconds=-1", json!({ "user": 1 }), 422, "delay_seconds: expected a whole number from 0 to 31536000, found \"-1\"")]
#[case::retries("/jobs/mail:welcome?max_retry=1001", json!({ "user": 1 }), 422, "max_retry: expected")]
#[tokio::test]
async fn what_cannot_be_enqueued_is_told(
    #[case] path: &str,
    #[case] body: Value,
    #[case] status: u16,
    #[case] detail: &str,
) {
    let client = still().await;
    let answer = ask(&client, Method::Post, path, Some(body)).await;
    assert_eq!(answer.status, status, "{}", answer.text);
    assert!(answer.body["detail"].as_str().unwrap().contains(detail), "{}", answer.text);
    assert_eq!(get(&client, "/queues").await["queues"], json!([]));
}

#[tokio::test]
async fn each_wrong_place_of_a_payload_is_named_by_a_pointer() {
    let client = still().await;
    let body = Some(json!({ "user": 0, "more": 1 }));
    let answer = ask(&client, Method::Post, "/jobs/mail:welcome", body).await;
    let errors = answer.body["errors"].as_array().unwrap();
    let pointers: Vec<_> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    assert_eq!(errors.len(), 2, "{}", answer.text);
    assert!(pointers.contains(&"/user"), "{pointers:?}");
}

#[tokio::test]
async fn a_repeated_request_is_answered_with_the_first_job() {
    let client = still().await;
    let post = async |path: &str, user: u64| {
        let request = client
            .post(format!("{BASE}{path}"))
            .header(ContentType::JSON)
            .header(Header::new("Role", "operator"))
            .header(Header::new("Idempotency-Key", "once"))
            .body(json!({ "user": user }).to_string());
        let response = request.dispatch().await;
        let status = response.status().code;
        (status, response.into_json::<Value>().await.unwrap())
    };
    let (first, one) = post("/jobs/mail:welcome", 1).await;
    let (second, two) = post("/jobs/mail:welcome", 1).await;
    assert_eq!((first, second), (201, 201));
    assert_eq!(one["job_id"], two["job_id"]);
    assert_eq!((&one["replayed"], &two["replayed"]), (&json!(false), &json!(true)));
    assert_eq!(post("/jobs/mail:welcome", 2).await.0, 422);
    assert_eq!(get(&client, "/queues/mail").await["sizes"]["pending"], 1);
    // Other options are another request.
    for query in ["?delay_seconds=60", "?max_retry=1", "?unique_seconds=60", "?queue=default"] {
        let (status, answer) = post(&format!("/jobs/mail:welcome{query}"), 1).await;
        assert_eq!(status, 422, "{query}: {answer}");
    }
    assert_eq!(get(&client, "/queues").await["queues"].as_array().unwrap().len(), 1);
    // Those that leave what the job type says are none.
    let (status, same) = post("/jobs/mail:welcome?delay_seconds=0&queue=&max_retry=", 1).await;
    assert_eq!((status, &same["job_id"]), (201, &one["job_id"]));
}

#[tokio::test]
async fn a_repeated_request_tells_how_the_first_job_is() {
    let client = still().await;
    let post = async || {
        let request = client
            .post(format!("{BASE}/jobs/mail:welcome?delay_seconds=600"))
            .header(ContentType::JSON)
            .header(Header::new("Role", "operator"))
            .header(Header::new("Idempotency-Key", "later"))
            .body(json!({ "user": 1 }).to_string());
        request.dispatch().await.into_json::<Value>().await.unwrap()
    };
    let (first, again) = (post().await, post().await);
    assert_eq!((&first["state"], &again["state"]), (&json!("scheduled"), &json!("scheduled")));
    assert_eq!(first["due"], again["due"]);
    assert_eq!(again["replayed"], true);
    let job = format!("/jobs/mail/{}", first["job_id"].as_str().unwrap());
    done(&client, Method::Post, &format!("{job}/archive"), None).await;
    assert_eq!(post().await["state"], "archived");
    done(&client, Method::Delete, &job, None).await;
    let gone = post().await;
    assert_eq!((&gone["job_id"], gone.get("state")), (&first["job_id"], None));
}

#[tokio::test]
async fn a_refused_request_leaves_its_idempotency_key_free_for_another_queue() {
    let client = still().await;
    let post = async |queue: &str, key: Option<&'static str>| {
        let mut request = client
            .post(format!("{BASE}/jobs/mail:welcome?unique_seconds=60&queue={queue}"))
            .header(ContentType::JSON)
            .body(json!({ "user": 1 }).to_string());
        key.into_iter().for_each(|key| request.add_header(Header::new("Idempotency-Key", key)));
        request.dispatch().await.status().code
    };
    assert_eq!(post("one", None).await, 201);
    assert_eq!(post("one", Some("k")).await, 409);
    assert_eq!(post("other", Some("k")).await, 201);
    assert_eq!(post("one", Some("k")).await, 422, "it is bound to the queue of the stored job");
}

#[tokio::test]
async fn callers_of_the_public_route_have_idempotency_keys_of_their_own() {
    let client = still().await;
    let post = async |peer: &str, credential: Option<&'static str>, delay: u64| {
        let mut request = client
            .post(format!("{BASE}/register"))
            .header(ContentType::JSON)
            .header(Header::new("Idempotency-Key", "1"))
            .remote(format!("{peer}:4711").parse().unwrap())
            .body(json!({ "delay_seconds": delay }).to_string());
        if let Some(credential) = credential {
            request.add_header(Header::new("Authorization", credential));
        }
        let response = request.dispatch().await;
        let status = response.status().code;
        (status, response.into_json::<Value>().await.unwrap()["job_id"].clone())
    };
    let (one, other) = ("192.0.2.1", "192.0.2.2");
    let first = post(one, None, 60).await;
    assert_eq!(first.0, 201);
    assert_eq!(post(one, None, 60).await, first);
    assert_eq!(post(one, None, 61).await.0, 422);
    let second = post(other, None, 61).await;
    assert_eq!(second.0, 201);
    assert_ne!(second.1, first.1);
    // A credential says who it is, wherever it comes from.
    let third = post(one, Some("Bearer a"), 62).await;
    assert_eq!(third.0, 201);
    assert_eq!(post(other, Some("Bearer a"), 62).await, third);
    assert_ne!(post(other, Some("Bearer b"), 62).await.1, third.1);
}

#[tokio::test]
async fn jobs_are_listed_by_state_type_and_text_page_by_page() {
    let client = still().await;
    for user in 1..=25 {
        enqueue(&client, user, "").await;
    }
    enqueue(&client, 99, "?delay_seconds=600").await;
    let first = get(&client, "/queues/mail/jobs?size=10").await;
    assert_eq!((first["rows"].as_array().unwrap().len(), &first["total"]), (10, &json!(25)));
    let next = first["next"].as_str().unwrap();
    let second = get(&client, &format!("/queues/mail/jobs?size=10&cursor={next}")).await;
    let by_number = get(&client, "/queues/mail/jobs?size=10&page=2").await;
    assert_eq!(second["rows"], by_number["rows"]);
    assert_ne!(first["rows"], second["rows"]);

    let scheduled = get(&client, "/queues/mail/jobs?state=scheduled").await;
    assert_eq!(scheduled["rows"][0]["payload"], "{\"user\":99}");
    let found = get(&client, "/queues/mail/jobs?search=%22USER%22:17").await;
    assert_eq!(found["rows"].as_array().unwrap().len(), 1);
    assert_eq!(get(&client, "/queues/mail/jobs?type=long").await["rows"], json!([]));
    let typed = get(&client, "/queues/mail/jobs?type=mail:welcome&size=100").await;
    assert_eq!(typed["rows"].as_array().unwrap().len(), 25);
}

#[rstest]
#[case("/queues/none", 404, "queue")]
#[case("/queues/none/jobs", 404, "queue")]
#[case("/queues/a%20b", 404, "queue \"a b\" does not exist")]
#[case("/queues/mail/jobs?state=asleep", 422, "state: expected one of pending, active")]
#[case(
    "/queues/mail/jobs?size=101",
    422,
    "size: expected a whole number from 1 to 100, found \"101\""
)]
#[case("/queues/mail/jobs?page=0", 422, "page: expected")]
#[case("/queues/mail/jobs?page=200&size=100", 422, "cursor of the page before")]
#[case("/queues/mail/jobs?cursor=forged", 422, "cursor: expected")]
#[case("/queues/mail/jobs?page=1&cursor=s~00", 422, "page: expected a number or a cursor")]
#[case("/queues/mail/jobs?state=retry&group=g", 422, "group: expected it without a state")]
#[case("/queues/mail/history?days=91", 422, "days: expected a whole number from 1 to 90")]
#[case("/jobs/mail/none", 404, "no job")]
#[case("/jobs/mail/none?wait=61", 422, "wait: expected")]
#[case("/jobs", 422, "id: expected")]
#[case("/nothing", 404, "nothing is at")]
#[tokio::test]
async fn what_cannot_be_shown_is_told(
    #[case] path: &str,
    #[case] status: u16,
    #[case] detail: &str,
) {
    let client = still().await;
    enqueue(&client, 1, "").await;
    let answer = ask(&client, Method::Get, path, None).await;
    assert_eq!(answer.status, status, "{}", answer.text);
    assert!(answer.body["detail"].as_str().unwrap().contains(detail), "{}", answer.text);
}

#[tokio::test]
async fn a_job_is_duplicated() {
    let client = still().await;
    let id = enqueue(&client, 1, "?delay_seconds=600&max_retry=2").await;
    let due = get(&client, "/queues/mail").await["next_due"].clone();
    assert_eq!(due, get(&client, &format!("/jobs/mail/{id}")).await["due"]);
    let answer = ask(&client, Method::Post, &format!("/jobs/mail/{id}/duplicate"), None).await;
    assert_eq!((answer.status, &answer.body["queue"]), (201, &json!("mail")), "{}", answer.text);
    let copy = answer.body["job_id"].as_str().unwrap();
    assert_ne!(copy, id);
    let copy = get(&client, &format!("/jobs/mail/{copy}")).await;
    assert_eq!((&copy["state"], &copy["max_retry"]), (&json!("pending"), &json!(2)));
    assert_eq!(copy["payload"], "{\"user\":1}");
    assert_eq!(get(&client, &format!("/jobs/mail/{id}")).await["state"], "scheduled");
    let none = ask(&client, Method::Post, "/jobs/mail/none/duplicate", None).await;
    assert_eq!(none.status, 404, "{}", none.text);
    assert!(get(&client, "/queues/mail/minutes").await["minutes"].is_array());
}

#[tokio::test]
async fn a_request_may_ask_for_a_unique_lock() {
    let client = still().await;
    enqueue(&client, 1, "?unique_seconds=60").await;
    let path = "/jobs/mail:welcome?unique_seconds=60";
    let again = ask(&client, Method::Post, path, Some(json!({ "user": 1 }))).await;
    assert_eq!(again.status, 409, "{}", again.text);
    let wrong = "/jobs/mail:welcome?unique_seconds=x";
    let wrong = ask(&client, Method::Post, wrong, Some(json!({ "user": 1 }))).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
}

#[tokio::test]
async fn a_job_is_edited_moved_and_removed() {
    let client = still().await;
    let id = enqueue(&client, 1, "?delay_seconds=600").await;
    let job = format!("/jobs/mail/{id}");
    done(&client, Method::Put, &format!("{job}/payload"), Some(json!({ "user": 2 }))).await;
    assert_eq!(get(&client, &job).await["payload"], "{\"user\":2}");
    done(&client, Method::Post, &format!("{job}/reschedule"), Some(json!({ "delay_seconds": 5 })))
        .await;
    assert_eq!(get(&client, &job).await["state"], "scheduled");
    done(&client, Method::Post, &format!("{job}/run"), None).await;
    assert_eq!(get(&client, &job).await["state"], "pending");
    done(&client, Method::Post, &format!("{job}/archive"), None).await;
    assert_eq!(get(&client, &job).await["state"], "archived");
    let again = ask(&client, Method::Post, &format!("{job}/archive"), None).await;
    assert_eq!(again.status, 409, "{}", again.text);
    assert_eq!(get(&client, &format!("/jobs?id={id}")).await["jobs"][0]["queue"], "mail");
    let wrong = Some(json!({ "then": "explode" }));
    assert_eq!(ask(&client, Method::Post, &format!("{job}/cancel"), wrong).await.status, 422);
    for wrong in [json!(31_536_001_u64), json!(-5), json!("60")] {
        let body = Some(json!({ "delay_seconds": wrong }));
        let answer = ask(&client, Method::Post, &format!("{job}/reschedule"), body).await;
        let detail =
            format!("delay_seconds: expected a whole number from 0 to 31536000, found {wrong}");
        assert_eq!((answer.status, &answer.body["detail"]), (422, &json!(detail)));
    }
    done(&client, Method::Delete, &job, None).await;
    assert_eq!(ask(&client, Method::Delete, &job, None).await.status, 404);
    assert_eq!(get(&client, &format!("/jobs?id={id}")).await["jobs"], json!([]));
}

#[tokio::test]
async fn queues_are_paused_resumed_and_removed() {
    let client = still().await;
    enqueue(&client, 1, "").await;
    done(&client, Method::Post, "/queues/mail/pause", None).await;
    assert_eq!(get(&client, "/queues/mail").await["paused"], true);
    done(&client, Method::Post, "/queues/mail/resume", None).await;
    assert_eq!(get(&client, "/queues").await["queues"][0]["info"]["paused"], false);
    assert_eq!(ask(&client, Method::Post, "/queues/typo/pause", None).await.status, 404);
    assert_eq!(ask(&client, Method::Delete, "/queues/mail", None).await.status, 409);
    assert_eq!(ask(&client, Method::Delete, "/queues/mail?force=yes", None).await.status, 422);
    done(&client, Method::Delete, "/queues/mail?force=true", None).await;
    assert_eq!(ask(&client, Method::Get, "/queues/mail", None).await.status, 404);
}

#[tokio::test]
async fn many_jobs_are_acted_upon_with_counts_and_with_progress() {
    let client = still().await;
    for user in 1..=450 {
        enqueue(&client, user, "").await;
    }
    let act =
        async |body: Value| ask(&client, Method::Post, "/queues/mail/actions", Some(body)).await;
    let archived = act(json!({ "action": "archive", "state": "pending" })).await;
    assert_eq!(archived.body, json!({ "done": 450, "total": 450 }));
    let none = act(json!({ "action": "run", "state": "archived", "type": "long" })).await;
    assert_eq!(none.body["done"], 0);

    let request = client
        .post(format!("{BASE}/queues/mail/actions"))
        .header(ContentType::JSON)
        .header(Accept::EventStream)
        .header(Header::new("Role", "operator"))
        .body(json!({ "action": "run", "state": "archived" }).to_string());
    let events = request.dispatch().await.into_string().await.unwrap();
    assert!(events.matches("event:progress").count() >= 3, "{events}");
    assert!(events.contains("event:end\ndata:{\"done\":450,\"total\":450}"), "{events}");
    assert_eq!(get(&client, "/queues/mail").await["sizes"]["pending"], 450);

    for (wrong, detail) in [
        (json!({ "action": "run" }), "state: expected one"),
        (json!({ "action": "dance", "state": "retry" }), "unknown variant"),
        (json!({ "action": "run", "state": "active" }), ""),
        (json!({ "action": "reschedule", "state": "retry" }), "delay_seconds: expected"),
        (json!({ "action": "run", "state": "retry", "delay_seconds": 1 }), "only with"),
        (json!({ "action": "run", "state": "retry", "all": true }), "unknown field"),
    ] {
        let answer = act(wrong.clone()).await;
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text);
        assert!(answer.text.contains(detail), "{wrong}: {}", answer.text);
    }
}

#[tokio::test]
async fn the_end_of_a_job_can_be_waited_for() {
    let client = start(fairing()).await;
    let began = Instant::now();
    // A success without retention leaves nothing.
    let id = enqueue(&client, 1, "?delay_seconds=1").await;
    let answer = ask(&client, Method::Get, &format!("/jobs/mail/{id}?wait=30"), None).await;
    assert_eq!(answer.status, 204, "{}", answer.text);
    assert!(began.elapsed() < Duration::from_secs(5));

    let id = enqueue(&client, 13, "?delay_seconds=1").await;
    let job = get(&client, &format!("/jobs/mail/{id}?wait=30")).await;
    assert_eq!(
        (&job["state"], &job["last_error"]),
        (&json!("archived"), &json!("nobody is number 13"))
    );

    let id = enqueue(&client, 2, "?delay_seconds=600").await;
    let began = Instant::now();
    let job = get(&client, &format!("/jobs/mail/{id}?wait=1")).await;
    assert_eq!(job["state"], "scheduled");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_job_is_watched_to_its_end() {
    let client = start(fairing()).await;
    let events = async |path: String| {
        let request =
            client.get(format!("{BASE}{path}/events")).header(Header::new("Role", "viewer"));
        request.dispatch().await.into_string().await.unwrap()
    };
    let id = enqueue(&client, 13, "?delay_seconds=1").await;
    let told = events(format!("/jobs/mail/{id}")).await;
    let states: Vec<Value> = told
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .map(|job| job["state"].clone())
        .collect();
    assert_eq!(
        (states.first(), states.last()),
        (Some(&json!("scheduled")), Some(&json!("archived")))
    );
    assert!(told.trim_end().ends_with("event:end\ndata:"), "{told}");
    let id = enqueue(&client, 1, "?delay_seconds=1").await;
    let told = events(format!("/jobs/mail/{id}")).await;
    assert!(told.contains("event:gone"), "{told}");
}

#[tokio::test]
async fn a_running_job_is_cancelled() {
    let client = start(fairing()).await;
    let answer = ask(&client, Method::Post, "/jobs/long", Some(json!(null))).await;
    let id = answer.body["job_id"].as_str().unwrap();
    let job = format!("/jobs/default/{id}");
    let began = Instant::now();
    while get(&client, &job).await["state"] != "active" {
        assert!(began.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let wish = Some(json!({ "then": "archive" }));
    let answer = ask(&client, Method::Post, &format!("{job}/cancel"), wish.clone()).await;
    assert_eq!(
        (answer.status, &answer.body["outcome"]),
        (200, &json!("requested")),
        "{}",
        answer.text
    );
    assert_eq!(get(&client, &format!("{job}?wait=30")).await["state"], "archived");
    assert_eq!(ask(&client, Method::Post, &format!("{job}/cancel"), wish).await.status, 409);
}

#[tokio::test]
async fn entries_servers_and_the_store_are_shown() {
    let client = start(fairing().periodic(nightly())).await;
    let began = Instant::now();
    let entry = loop {
        let found = get(&client, "/periodic").await;
        if let Some(entry) = found["periodic"].as_array().unwrap().first() {
            break entry.clone();
        }
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&entry["spec"], &entry["payload"]), (&json!("0 3 * * *"), &json!("{\"user\":3}")));
    let path = format!("/periodic/{}", entry["id"].as_str().unwrap());
    let fired = ask(&client, Method::Post, &format!("{path}/run"), None).await;
    assert_eq!(fired.status, 201, "{}", fired.text);
    assert_eq!(get(&client, &format!("{path}/runs")).await["runs"][0]["job"], fired.body["job_id"]);
    assert_eq!(ask(&client, Method::Post, "/periodic/none/run", None).await.status, 404);

    assert!(
        get(&client, "/store").await["description"].as_str().is_some_and(|text| !text.is_empty())
    );
    assert!(get(&client, "/servers").await["servers"].is_array());
    assert_eq!(get(&client, "/doctor").await["findings"], json!([]));
    assert_eq!(
        get(&client, "/queues/mail/history?days=3").await["days"].as_array().unwrap().len(),
        3
    );
    assert!(get(&client, "/queues/mail/memory").await["bytes"].is_u64());
    assert_eq!(get(&client, "/queues/mail/groups").await["total"], 0);
    assert_eq!(get(&client, "/queues/mail/aggregations").await["sets"], json!([]));
    assert_eq!(ask(&client, Method::Post, "/doctor/repair", None).await.status, 200);
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq)]
enum For {
    All,
    Viewers,
    Operators,
}

/// Every route. One that is new has to be added here.
fn routes() -> BTreeMap<(String, &'static str), For> {
    use For::{All, Operators, Viewers};
    [
        ("POST", "/register", All),
        ("GET", "/ui/register", All),
        ("POST", "/ui/register", All),
        ("GET", "/ui?<done>&<after>", Viewers),
        ("GET", "/ui/queues/<name>?<state>&<type>&<search>&<cursor>&<done>&<count>", Viewers),
        ("POST", "/ui/queues/<name>/actions", Operators),
        ("POST", "/ui/queues/<name>/pause", Operators),
        ("POST", "/ui/queues/<name>/resume", Operators),
        ("POST", "/ui/queues/<name>/delete", Operators),
        ("GET", "/ui/jobs/<name>/<id>?<done>&<edit>", Viewers),
        ("GET", "/ui/jobs/<name>/<id>/<part>", Viewers),
        ("POST", "/ui/jobs/<name>/<id>/<verb>", Operators),
        ("GET", "/ui/find?<id>", Viewers),
        ("GET", "/ui/jobs?<q>&<done>&<count>&<left>", Viewers),
        ("POST", "/ui/jobs/act", Operators),
        ("GET", "/ui/scheduled", Viewers),
        ("GET", "/ui/groups?<after>", Viewers),
        ("GET", "/ui/queues/<name>/group?<group>&<cursor>&<done>&<count>", Viewers),
        ("GET", "/ui/store", Viewers),
        ("GET", "/ui/doctor?<done>", Viewers),
        ("POST", "/ui/doctor", Operators),
        ("GET", "/ui/failures", Viewers),
        ("GET", "/ui/enqueue", Viewers),
        ("GET", "/ui/enqueue/<type>", Viewers),
        ("POST", "/ui/enqueue/<type>", Operators),
        ("GET", "/ui/events", Viewers),
        ("GET", "/ui/live.js", All),
        ("GET", "/ui/servers", Viewers),
        ("GET", "/ui/periodic?<done>", Viewers),
        ("POST", "/ui/periodic/<id>/run", Operators),
        ("GET", "/ui/style.css", All),
        ("GET", "/ui/icon.svg", All),
        ("GET", "/health", All),
        ("GET", "/health/live", All),
        ("GET", "/health/ready", All),
        ("GET", "/openapi.json", All),
        ("GET", "/metrics", Viewers),
        ("GET", "/queues?<after>&<size>", Viewers),
        ("GET", "/queues/<name>", Viewers),
        ("DELETE", "/queues/<name>?<force>", Operators),
        ("POST", "/queues/<name>/pause", Operators),
        ("POST", "/queues/<name>/resume", Operators),
        ("GET", "/queues/<name>/history?<days>", Viewers),
        ("GET", "/queues/<name>/minutes", Viewers),
        ("POST", "/jobs/<name>/<id>/duplicate", Operators),
        ("GET", "/queues/<name>/memory", Viewers),
        (
            "GET",
            "/queues/<name>/jobs?<state>&<group>&<type>&<search>&<page>&<size>&<cursor>",
            Viewers,
        ),
        ("GET", "/queues/<name>/groups?<size>&<cursor>", Viewers),
        ("GET", "/queues/<name>/aggregations", Viewers),
        ("POST", "/queues/<name>/actions", Operators),
        ("GET", "/jobs?<id>", Viewers),
        ("GET", "/jobs/<name>/<id>?<wait>", Viewers),
        ("GET", "/jobs/<name>/<id>/events", Viewers),
        ("DELETE", "/jobs/<name>/<id>", Operators),
        ("POST", "/jobs/<name>/<id>/run", Operators),
        ("POST", "/jobs/<name>/<id>/archive", Operators),
        ("POST", "/jobs/<name>/<id>/reschedule", Operators),
        ("POST", "/jobs/<name>/<id>/cancel", Operators),
        ("PUT", "/jobs/<name>/<id>/payload", Operators),
        ("GET", "/status/<token>?<wait>", All),
        ("POST", "/jobs/<type>?<queue>&<delay_seconds>&<max_retry>&<unique_seconds>", Operators),
        ("GET", "/periodic", Viewers),
        ("GET", "/periodic/<id>/runs?<page>&<size>", Viewers),
        ("POST", "/periodic/<id>/run", Operators),
        ("GET", "/servers", Viewers),
        ("GET", "/store", Viewers),
        ("GET", "/doctor", Viewers),
        ("POST", "/doctor/repair", Operators),
    ]
    .into_iter()
    .map(|(method, path, who)| ((method.to_owned(), path), who))
    .collect()
}

#[tokio::test]
async fn every_route_lets_in_whom_it_is_for_and_nobody_else() {
    let client = still().await;
    let table = routes();
    let mut rows = Vec::new();
    // Answers to wrong methods have the highest ranks.
    for route in client.rocket().routes().filter(|route| route.rank < 1000) {
        let Some(path) = route.uri.as_str().strip_prefix(BASE) else { continue };
        if path.starts_with("/docs") {
            continue;
        }
        let method = route.method;
        let key = (method.as_str().to_owned(), path);
        let found = table.iter().find(|((m, p), _)| (m, *p) == (&key.0, key.1));
        let who = *found.unwrap_or_else(|| panic!("who may use {method} {path}?")).1;
        let address = path.split('?').next().unwrap();
        let address = address
            .replace("<name>", "mail")
            .replace("<id>", "x")
            .replace("<type>", "mail:welcome");
        let address =
            address.replace("<verb>", "run").replace("<part>", "payload").replace("<token>", "x.y");
        let page = address.starts_with("/ui");
        let asked = async |role: &str, query: &str| {
            let mut request = client.req(method, format!("{BASE}{address}{query}"));
            request.add_header(if page { ContentType::Form } else { ContentType::JSON });
            if page && address != "/ui/register" {
                request.add_header(Header::new("Sec-Fetch-Site", "same-origin"));
            }
            if !role.is_empty() {
                request.add_header(Header::new("Role", role.to_owned()));
            }
            request.dispatch().await.status().code
        };
        let status = async |role: &str| asked(role, "").await;
        let open = |code: u16| code != 401 && code != 403;
        let nobody = status("").await;
        let viewer = status("viewer").await;
        let operator = status("operator").await;
        let form = address == "/ui/register" && method == Method::Post;
        let shown = |code: u16| if open(code) { "yes".to_owned() } else { code.to_string() };
        let [nobody_may, viewer_may, operator_may] = match form {
            // With a page of ours around it.
            true => ["yes".to_owned(), "yes".to_owned(), "yes".to_owned()],
            false => [nobody, viewer, operator].map(shown),
        };
        let bare = path.split('?').next().unwrap();
        rows.push(format!(
            "| `{method} {bare}` | {nobody_may} | {viewer_may} | {operator_may} |\n"
        ));
        match who {
            _ if form => assert_eq!(nobody, 403, "a form from nowhere"),
            For::All => assert!(open(nobody), "{method} {address}: {nobody}"),
            For::Viewers => {
                assert_eq!(nobody, 401, "{method} {address}");
                assert_eq!(asked("", "?odd=1").await, 401, "{method} {address}?odd=1");
                assert!(open(viewer) && open(operator), "{method} {address}: {viewer} {operator}");
            }
            For::Operators => {
                assert_eq!((nobody, viewer), (401, 403), "{method} {address}");
                assert_eq!(asked("", "?odd=1").await, 401, "{method} {address}?odd=1");
                assert!(open(operator), "{method} {address}: {operator}");
            }
        }
    }
    assert_eq!(rows.len(), table.len());
    rows.sort();
    let written = std::fs::read_to_string("docs/roles.md").unwrap();
    let rows: String = rows.concat();
    assert!(written.ends_with(&rows), "docs/roles.md: expected it to end with\n{rows}");
}

#[tokio::test]
async fn whoever_has_the_link_sees_how_one_job_is() {
    let client = start(fairing()).await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    let read = async |path: &str| {
        let response = client.get(path.to_owned()).dispatch().await;
        let status = response.status().code;
        (status, response.into_json::<Value>().await.unwrap())
    };
    let kept = queue.enqueue(Welcome { user: 1 }).retention(Duration::from_secs(60));
    let kept = kept.delay(Duration::from_millis(300)).await.unwrap();
    let link = queue.status_link(&kept.queue, &kept.id, Duration::from_secs(60));
    assert!(link.starts_with("/api/dm-jobqueue/status/"), "{link}");
    let (status, answer) = read(&link).await;
    assert_eq!((status, &answer["status"]), (200, &json!("waiting")), "{answer}");
    let (_, answer) = read(&format!("{link}?wait=20")).await;
    assert_eq!((&answer["status"], &answer["result"]), (&json!("succeeded"), &json!("welcome, 1")));
    assert!(!answer.to_string().contains("payload"), "{answer}");

    let failed = queue.enqueue(Welcome { user: 13 }).await.unwrap();
    let link = queue.status_link(&failed.queue, &failed.id, Duration::from_secs(60));
    let (_, answer) = read(&format!("{link}?wait=20")).await;
    assert_eq!(answer["status"], "failed");
    assert!(!answer.to_string().contains("nobody is number 13"), "{answer}");

    let forgotten = queue.enqueue(Welcome { user: 2 }).await.unwrap();
    let link = queue.status_link(&forgotten.queue, &forgotten.id, Duration::from_secs(60));
    assert_eq!(read(&format!("{link}?wait=20")).await.1["status"], "gone");

    // Forged, for another job, and expired.
    let (what, signature) = link.rsplit_once('.').unwrap();
    let other = queue.status_link(&failed.queue, &failed.id, Duration::from_secs(60));
    let expired = queue.status_link(&failed.queue, &failed.id, Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for wrong in [
        format!("{what}.{}", signature.replace(['1', '2', '3'], "0")),
        format!("{}.{signature}", other.rsplit_once('.').unwrap().0),
        what.to_owned(),
        format!("{what}."),
        expired,
    ] {
        assert_eq!(read(&wrong).await.0, 404, "{wrong}");
    }
}

#[tokio::test]
async fn a_status_key_signs_for_all_processes_and_is_never_shown() {
    let key = "a key that is long enough to be one";
    let keyed = |key: &str| fairing().set("jobqueue.worker", false).set("jobqueue.status_key", key);
    let (one, two) = (start(keyed(key)).await, start(keyed(key)).await);
    let third = start(fairing().set("jobqueue.worker", false)).await;
    let queue = |client: &Client| client.rocket().state::<JobQueue>().unwrap().clone();
    let receipt = queue(&one).enqueue(Welcome { user: 1 }).await.unwrap();
    let link = queue(&one).status_link(&receipt.queue, &receipt.id, Duration::from_secs(60));
    // Each has a store of its own here; who knows the link says that the job is gone.
    assert_eq!(two.get(link.clone()).dispatch().await.status(), Status::Ok);
    assert_eq!(third.get(link).dispatch().await.status(), Status::NotFound);
    assert!(!format!("{:?}", queue(&one).config()).contains(key));

    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let short = rocket::custom(figment).attach(keyed("short"));
    let Err(error) = Client::untracked(short).await else { panic!("it starts") };
    let _ = error.kind();
}

#[tokio::test]
async fn what_is_redacted_is_neither_shown_nor_found() {
    let hide = |info: &mut rocket_jobqueue::inspect::JobInfo| {
        info.record.payload = Some(br#""hidden""#.to_vec());
    };
    let weekly = Periodic::new("0 3 * * 1", Welcome { user: 4711 });
    let client = start(fairing().set("jobqueue.worker", false).periodic(weekly).redact(hide)).await;
    let id = enqueue(&client, 4711, "").await;
    for path in [
        format!("/jobs/mail/{id}"),
        format!("/jobs?id={id}"),
        "/queues/mail/jobs".to_owned(),
        "/periodic".to_owned(),
        "/servers".to_owned(),
    ] {
        let answer = ask(&client, Method::Get, &path, None).await;
        assert!(answer.status == 200 && !answer.text.contains("4711"), "{path}: {}", answer.text);
    }
    assert_eq!(get(&client, "/queues/mail/jobs?search=4711").await["rows"], json!([]));
    let request =
        client.get(format!("{BASE}/ui/jobs/mail/{id}")).header(Header::new("Role", "operator"));
    let page = request.dispatch().await.into_string().await.unwrap();
    assert!(page.contains("hidden") && !page.contains("4711") && !page.contains("/edit"), "{page}");
    // The job itself is as it was.
    let queue = client.rocket().state::<JobQueue>().unwrap();
    let job = queue.job("mail", &rocket_jobqueue::JobId::new(&id).unwrap()).await.unwrap().unwrap();
    assert_eq!(job.record.payload_bytes(), br#"{"user":4711}"#);
}

#[tokio::test]
async fn a_change_that_comes_from_elsewhere_is_refused() {
    let client = still().await;
    enqueue(&client, 1, "").await;
    let pause = async |headers: &[(&'static str, &'static str)]| {
        let mut request = client.post(format!("{BASE}/queues/mail/pause"));
        request.add_header(Header::new("Role", "operator"));
        request.add_header(Header::new("Host", "jobs.example.com"));
        for (name, value) in headers {
            request.add_header(Header::new(*name, *value));
        }
        request.dispatch().await.status().code
    };
    let json = ("Content-Type", "application/json");
    assert_eq!(pause(&[json]).await, 204, "a program");
    assert_eq!(pause(&[]).await, 403, "perhaps another site's form");
    assert_eq!(pause(&[("Content-Type", "text/plain")]).await, 403);
    assert_eq!(pause(&[("Sec-Fetch-Site", "same-origin")]).await, 204);
    assert_eq!(pause(&[("Sec-Fetch-Site", "cross-site"), json]).await, 403);
    assert_eq!(pause(&[("Origin", "http://jobs.example.com")]).await, 204);
    assert_eq!(pause(&[("Origin", "http://evil.example.com"), json]).await, 403);
}

#[tokio::test]
async fn where_it_is_read_only_nobody_changes_anything() {
    let client =
        start(fairing().set("jobqueue.worker", false).set("jobqueue.read_only", true)).await;
    for (method, path) in [
        (Method::Post, "/jobs/mail:welcome"),
        (Method::Post, "/queues/mail/pause"),
        (Method::Delete, "/queues/mail"),
        (Method::Post, "/doctor/repair"),
    ] {
        let answer = ask(&client, method, path, Some(json!({ "user": 1 }))).await;
        assert_eq!(answer.status, 403, "{method} {path}");
    }
    assert_eq!(register(&client, &[]).await.0, 403);
    let form = client
        .post(format!("{BASE}/ui/register"))
        .header(ContentType::Form)
        .header(Header::new("Sec-Fetch-Site", "same-origin"))
        .body("message=x");
    assert_eq!(form.dispatch().await.status().code, 403);
    assert_eq!(client.get(format!("{BASE}/ui/register")).dispatch().await.status().code, 200);
    assert_eq!(get(&client, "/queues").await["queues"], json!([]));
}

/// Registers the reference job without any role; status and answer.
async fn register(client: &Client, headers: &[(&'static str, &'static str)]) -> (u16, Value) {
    let mut request = client
        .post(format!("{BASE}/register"))
        .header(ContentType::JSON)
        .header(Header::new("Host", "jobs.example.com"))
        .body("{}");
    headers.iter().for_each(|(name, value)| request.add_header(Header::new(*name, *value)));
    let response = request.dispatch().await;
    let status = response.status().code;
    (status, response.into_json().await.unwrap_or_default())
}

#[tokio::test]
async fn pages_of_other_sites_register_and_change_nothing_unless_their_origin_is_allowed() {
    let cross = ("Sec-Fetch-Site", "cross-site");
    let shop = ("Origin", "https://shop.example");
    let evil = ("Origin", "https://evil.example");
    let foreign: [&[(&str, &str)]; 6] = [
        &[cross],
        &[cross, evil],
        &[("Sec-Fetch-Site", "same-site")],
        &[evil],
        &[("Origin", "null")],
        &[("Origin", "http://shop.example")],
    ];
    let own: [&[(&str, &str)]; 3] =
        [&[], &[("Sec-Fetch-Site", "same-origin")], &[("Origin", "http://jobs.example.com")]];
    let closed = still().await;
    let allowing = ["HTTPS://Shop.example:443", "http://localhost:3000"];
    let open = fairing().set("jobqueue.worker", false).set("jobqueue.allowed_origins", allowing);
    let open = start(open).await;
    for (client, shop_may) in [(&closed, 403), (&open, 201)] {
        for headers in foreign {
            assert_eq!(register(client, headers).await.0, 403, "{headers:?}");
        }
        for headers in own {
            assert_eq!(register(client, headers).await.0, 201, "{headers:?}");
        }
        assert_eq!(register(client, &[cross, shop]).await.0, shop_may);
        assert_eq!(register(client, &[shop]).await.0, shop_may);
        let request = client
            .post(format!("{BASE}/queues/default/pause"))
            .header(Header::new("Role", "operator"))
            .header(Header::new(shop.0, shop.1));
        let expected = if shop_may == 201 { 204 } else { 403 };
        assert_eq!(request.dispatch().await.status().code, expected);
        // Forms are taken from our own pages alone.
        let request = client
            .post(format!("{BASE}/ui/queues/default/pause"))
            .header(ContentType::Form)
            .header(Header::new("Role", "operator"))
            .header(Header::new(shop.0, shop.1));
        assert_eq!(request.dispatch().await.status().code, 403);
    }
    let (_, why) = register(&closed, &[cross]).await;
    assert!(why["detail"].as_str().unwrap().contains("jobqueue.allowed_origins"), "{why}");
}

#[tokio::test]
async fn a_client_with_a_credential_of_its_own_needs_no_body_to_change_something() {
    let fairing = fairing().set("jobqueue.worker", false).set("jobqueue.fire_periodic", true);
    let client = start(fairing.periodic(nightly())).await;
    let token = ("Authorization", "Bearer abc");
    let began = Instant::now();
    let periodic = loop {
        let found = get(&client, "/periodic").await;
        if let Some(id) = found["periodic"][0]["id"].as_str() {
            break format!("/periodic/{id}/run");
        }
        assert!(began.elapsed() < Duration::from_secs(20), "the periodic job is announced");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let act = async |method: Method, path: &str, headers: &[(&'static str, &'static str)]| {
        let mut request = client.req(method, format!("{BASE}{path}"));
        request.add_header(Header::new("Role", "operator"));
        request.add_header(Header::new("Host", "jobs.example.com"));
        headers.iter().for_each(|(name, value)| request.add_header(Header::new(*name, *value)));
        request.dispatch().await.status().code
    };
    let id = async || enqueue(&client, 1, "?delay_seconds=600").await;
    let (run, archive, duplicate, delete) = (id().await, id().await, id().await, id().await);
    for (method, path, expected) in [
        (Method::Post, format!("/jobs/mail/{run}/run"), 204),
        (Method::Post, format!("/jobs/mail/{archive}/archive"), 204),
        (Method::Post, format!("/jobs/mail/{duplicate}/duplicate"), 201),
        (Method::Delete, format!("/jobs/mail/{delete}"), 204),
        (Method::Post, "/queues/mail/pause".to_owned(), 204),
        (Method::Post, "/queues/mail/resume".to_owned(), 204),
        (Method::Post, periodic, 201),
        (Method::Post, "/doctor/repair".to_owned(), 200),
        (Method::Delete, "/queues/mail?force=true".to_owned(), 204),
    ] {
        for headers in [
            // What no client has by itself, or a browser adds by itself.
            &[][..],
            &[("Cookie", "session=abc")],
            &[("Authorization", "Basic YTpi")],
            &[("Authorization", "basic YTpi")],
            &[("Authorization", "Negotiate abc")],
            &[("Authorization", "NTLM abc")],
            &[("Authorization", "Digest username=a")],
            &[("Authorization", "Bearer")],
            &[("Authorization", "Bearer ")],
            &[token, ("Authorization", "Basic YTpi")],
            // What a browser says about another site counts more than any credential.
            &[token, ("Sec-Fetch-Site", "cross-site")],
            &[token, ("Sec-Fetch-Site", "none")],
            &[token, ("Origin", "http://evil.example")],
            &[token, ("Origin", "null")],
        ] {
            assert_eq!(act(method, &path, headers).await, 403, "{method} {path} {headers:?}");
        }
        assert_eq!(act(method, &path, &[token]).await, expected, "{method} {path}");
    }
    enqueue(&client, 1, "").await;
    for credential in ["bearer abc", "Token abc", "ApiKey abc", "AWS4-HMAC-SHA256 Credential=a"] {
        let headers = [("Authorization", credential)];
        assert_eq!(act(Method::Post, "/queues/mail/pause", &headers).await, 204, "{credential}");
    }
}

#[tokio::test]
async fn links_and_forms_follow_what_a_trusted_proxy_says() {
    let proxies = ["10.0.0.0/8"];
    let client =
        start(fairing().set("jobqueue.worker", false).set("jobqueue.trusted_proxies", proxies))
            .await;
    enqueue(&client, 1, "").await;
    let ask = async |method: Method, path: &str, peer: &str, headers: &[(&'static str, &str)]| {
        let mut request = client.req(method, format!("{BASE}{path}"));
        request.set_remote(format!("{peer}:4711").parse().unwrap());
        request.add_header(Header::new("Role", "operator"));
        request.add_header(Header::new("Accept", "text/html"));
        request.add_header(Header::new("Accept-Language", "en"));
        request.add_header(Header::new("Host", "app:8000"));
        request.add_header(ContentType::Form);
        for (name, value) in headers {
            request.add_header(Header::new(*name, (*value).to_owned()));
        }
        let response = request.dispatch().await;
        let to = response.headers().get_one("Location").unwrap_or_default().to_owned();
        (response.status().code, to, response.into_string().await.unwrap_or_default())
    };
    let (trusted, other) = ("10.1.2.3", "203.0.113.9");
    // A host that the proxy changed.
    let pause = "/ui/queues/mail/pause";
    let origin = ("Origin", "http://ops.example:8080");
    let host = ("X-Forwarded-Host", "ops.example:8080");
    let apart: &[(&str, &str)] =
        &[origin, ("X-Forwarded-Host", "ops.example"), ("X-Forwarded-Port", "8080")];
    let standard = &[origin, ("Forwarded", "for=1.2.3.4;host=\"ops.example:8080\";proto=http")];
    for (peer, headers, expected) in [
        (trusted, &[origin, host][..], 303),
        (trusted, &[origin, host, ("X-Forwarded-Proto", "http")], 303),
        (trusted, apart, 303),
        (trusted, standard, 303),
        (trusted, &[origin, host, ("X-Forwarded-Proto", "https")], 403),
        (trusted, &[("Origin", "http://evil.example"), host], 403),
        (trusted, &[("Origin", "http://app:8000"), host], 403),
        (trusted, &[origin], 403),
        (other, &[origin, host], 403),
        (other, standard, 403),
        (other, &[("Origin", "http://app:8000")], 303),
    ] {
        let (status, _, page) = ask(Method::Post, pause, peer, headers).await;
        assert_eq!(status, expected, "{peer} {headers:?}");
        if status == 403 {
            // A person reads what to do, on a page.
            assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
            for word in ["jobqueue.trusted_proxies", "X-Forwarded-Host", "header Host"] {
                assert!(page.contains(word), "{word}: {page}");
            }
        }
    }
    // A prefix that the proxy took off.
    let prefix = ("X-Forwarded-Prefix", "/ops");
    for path in [
        "/ui",
        "/ui/jobs",
        "/ui/failures",
        "/ui/scheduled",
        "/ui/periodic",
        "/ui/groups",
        "/ui/servers",
        "/ui/store",
        "/ui/doctor",
        "/ui/enqueue",
        "/ui/enqueue/mail:welcome",
        "/ui/register",
        "/ui/queues/mail",
    ] {
        let (status, _, page) = ask(Method::Get, path, trusted, &[prefix]).await;
        assert_eq!(status, 200, "{path}");
        for attribute in ["href=\"", "src=\"", "action=\"", "data-events=\"", "content=\"0;url="] {
            for link in page.split(attribute).skip(1) {
                let link = link.split('"').next().unwrap();
                let stays = link.starts_with("/ops/api/") || link.starts_with('?');
                assert!(stays || link.is_empty(), "{path}: {link}");
            }
        }
        let (_, _, page) = ask(Method::Get, path, other, &[prefix]).await;
        assert!(!page.contains("/ops/"), "{path}");
        assert!(page.contains("add 203.0.113.9 to jobqueue.trusted_proxies"), "{page}");
        let (_, _, page) =
            ask(Method::Get, path, trusted, &[("X-Forwarded-Prefix", "//evil.example")]).await;
        assert!(!page.contains("evil"), "{path}");
    }
    let (_, to, _) = ask(Method::Post, pause, trusted, &[origin, host, prefix]).await;
    assert!(to.starts_with("/ops/api/dm-jobqueue/ui/queues/mail"), "{to}");
    let (_, _, document) = ask(Method::Get, "/openapi.json", trusted, &[prefix]).await;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["servers"][0]["url"], "/ops/api/dm-jobqueue");
    let (_, to, _) = ask(Method::Get, "/docs", trusted, &[prefix]).await;
    assert_eq!(to, "/ops/api/dm-jobqueue/docs/index.html");
}

#[tokio::test]
async fn a_renamed_route_names_the_new_one() {
    let client = still().await;
    for (method, path, renamed) in [
        (Method::Get, "/schedules", "/periodic"),
        (Method::Post, "/schedules/nightly/run", "/periodic"),
        (Method::Get, "/ui/schedules", "/ui/periodic"),
    ] {
        let answer = ask(&client, method, path, None).await;
        let detail = answer.body["detail"].as_str().unwrap();
        let expected = format!(" is now {BASE}{renamed}");
        assert!(answer.status == 404 && detail.ends_with(&expected), "{path}: {detail}");
    }
    let answer = ask(&client, Method::Get, "/schedulesx", None).await;
    assert_eq!(answer.body["detail"], format!("nothing is at {BASE}/schedulesx"));
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_those_there_are() {
    let client = still().await;
    for (method, path, allow) in [
        (Method::Patch, "/queues/mail", "GET, HEAD, DELETE"),
        (Method::Get, "/queues/mail/pause", "POST"),
        (Method::Put, "/jobs/mail/x", "GET, HEAD, DELETE"),
        (Method::Delete, "/periodic", "GET, HEAD"),
    ] {
        let request =
            client.req(method, format!("{BASE}{path}")).header(Header::new("Role", "operator"));
        let response = request.dispatch().await;
        assert_eq!(response.status(), Status::MethodNotAllowed, "{method} {path}");
        let mut found: Vec<_> = response.headers().get_one("Allow").unwrap().split(", ").collect();
        let mut expected: Vec<_> = allow.split(", ").collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{method} {path}");
    }
}

#[cfg(feature = "openapi")]
#[tokio::test]
async fn the_document_has_every_route_and_every_job_type_with_its_schema() {
    let client = still().await;
    let response = client.get(format!("{BASE}/openapi.json")).dispatch().await;
    let document: Value = response.into_json().await.unwrap();
    let paths = document["paths"].as_object().unwrap();
    for (method, path) in routes().into_keys() {
        let path = path.split('?').next().unwrap().replace('<', "{").replace('>', "}");
        if path.starts_with("/ui") || path == "/openapi.json" || path == "/metrics" {
            continue;
        }
        if path == "/jobs/{type}" {
            continue;
        }
        let operation = &paths[&path][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path}");
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().any(|code| code.starts_with('2')), "{method} {path}");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{method} {path} {}", parameter["name"]);
        }
    }
    let welcome = &paths["/jobs/mail:welcome"]["post"];
    let schema = &welcome["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["properties"]["user"]["minimum"], 1.0);
    assert!(welcome["responses"]["422"].is_object());
    assert!(paths.contains_key("/jobs/demo:delay_print"));
    assert_eq!(
        paths["/queues/{name}/jobs"]["get"]["parameters"][1]["schema"]["enum"][0],
        "pending"
    );
}

#[cfg(feature = "dashboard")]
#[tokio::test]
async fn no_more_jobs_are_acted_upon_than_the_question_named() {
    let client = still().await;
    for user in 1..=3 {
        enqueue(&client, user, "?delay_seconds=600").await;
    }
    let post = async |body: &str| {
        let request = client
            .post(format!("{BASE}/ui/jobs/act"))
            .header(ContentType::Form)
            .header(Header::new("Role", "operator"))
            .header(Header::new("Accept-Language", "en"))
            .header(Header::new("Sec-Fetch-Site", "same-origin"));
        let response = request.body(body).dispatch().await;
        (response.status().code, response.into_string().await.unwrap_or_default())
    };
    let (status, page) = post("q=state:scheduled&all=delete").await;
    assert_eq!(status, 200);
    assert!(page.contains(r#"name="sure" value="3""#), "{page}");
    for user in 4..=6 {
        enqueue(&client, user, "?delay_seconds=600").await;
    }
    let (status, _) = post("q=state:scheduled&all=delete&sure=3").await;
    assert_eq!(status, 303);
    assert_eq!(get(&client, "/queues/mail").await["sizes"]["scheduled"], 3);
    for wrong in ["", "action=explode", "q=x&all=delete&sure=yes", "action=run&job=nowhere"] {
        let (status, page) = post(wrong).await;
        assert_eq!(status, 422, "{wrong}: {page}");
        assert!(page.contains("expected"), "{wrong}: {page}");
    }
}

/// What people may write into anything that a page shows.
const HOSTILE: [&str; 12] = [
    "<script>alert(1)</script>",
    "\"><svg onload=alert(1)>",
    "'\"><img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</pre><iframe src=javascript:alert(1)>",
    "\" onmouseover=\"alert(1)",
    "<a href=\"javascript:alert(1)\">x</a>",
    "<!--<b>",
    "{{<b>7*7</b>}}",
    "\u{202e}<b>\u{2028}",
    "%22%3E<b>%0d%0aSet-Cookie:<b>",
];

#[cfg(feature = "dashboard")]
#[tokio::test]
async fn strings_from_outside_stay_text_on_every_page() {
    for hostile in HOSTILE {
        let client = still().await;
        let queue = client.rocket().state::<JobQueue>().unwrap();
        let bytes = hostile.as_bytes().to_vec();
        let raw = || queue.enqueue_raw(hostile, Some(bytes.clone())).queue("mail");
        raw().id(hostile).header(hostile, hostile).await.unwrap();
        raw().id("later").delay(Duration::from_secs(600)).await.unwrap();
        // Some names are refused, by the store and for everybody.
        let grouped = raw().id("grouped").group(hostile).await.is_ok();
        let escaped = rocket::http::RawStr::new(hostile).percent_encode().to_string();
        let mut pages = vec![
            "/ui".to_owned(),
            format!("/ui/jobs/mail/{escaped}"),
            "/ui/jobs/mail/later".to_owned(),
            "/ui/queues/mail".to_owned(),
            "/ui/queues/mail?state=scheduled".to_owned(),
            format!("/ui/queues/mail?type={escaped}&search={escaped}"),
            format!("/ui/queues/{escaped}"),
            "/ui/jobs".to_owned(),
            format!("/ui/jobs?q={escaped}"),
            format!("/ui/jobs?q=state:{escaped}"),
            format!("/ui/find?id={escaped}"),
            "/ui/failures".to_owned(),
            "/ui/scheduled".to_owned(),
            "/ui/groups".to_owned(),
            format!("/ui/enqueue/{escaped}"),
            format!("/ui/jobs?q=x&count={escaped}"),
            format!("/ui?done={escaped}"),
        ];
        if grouped {
            pages.push(format!("/ui/queues/mail/group?group={escaped}"));
            pages.push("/ui/queues/mail?state=aggregating".to_owned());
        }
        for page in pages {
            let request = client
                .get(format!("{BASE}{page}"))
                .header(Header::new("Role", "operator"))
                .header(Accept::HTML);
            let response = request.dispatch().await;
            assert!(response.status().code < 500, "{page}: {}", response.status());
            if let Some(to) = response.headers().get_one("Location") {
                assert!(!to.contains(['<', '"', '\r', '\n']), "{page}: {to}");
            }
            let text = response.into_string().await.unwrap_or_default();
            assert!(!text.contains(hostile), "{page}: {text}");
            for element in ["<svg onload", "<img", "<iframe", "<b>", "onerror=alert(1)>\""] {
                assert!(!text.contains(element), "{page} has {element}");
            }
        }
        // Asked about and acted upon.
        let quoted = format!("\"{}\"", hostile.replace('\\', "\\\\").replace('"', "\\\""));
        let quoted = rocket::http::RawStr::new(&quoted).percent_encode().to_string();
        let form = format!("q={quoted}&all=archive");
        let request = client
            .post(format!("{BASE}/ui/jobs/act"))
            .header(ContentType::Form)
            .header(Header::new("Role", "operator"))
            .header(Header::new("Sec-Fetch-Site", "same-origin"));
        let response = request.body(form).dispatch().await;
        assert_eq!(response.status().code, 200, "{hostile}");
        let text = response.into_string().await.unwrap();
        assert!(!text.contains(hostile), "{text}");
    }
}
