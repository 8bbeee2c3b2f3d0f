//! The inspector by REST: every verb, who may use it, and what is said of wrong requests.

mod access;
mod enqueue;
mod filters;
mod jobs;
mod languages;
mod limits;
mod payloads;
mod viewer;
mod workers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, within};
use rocket::http::{Accept, ContentType, Header, Method, Status};
use rocket::local::asynchronous::Client;
use rocket::request::{FromRequest, Outcome, Request};
use rocket_jobqueue::internals::addresses;
use rocket_jobqueue::{Job, JobContext, JobError, JobOptions, JobQueue, JobQueueFairing, Periodic};
use rstest::rstest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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

/// A request that names a role has it.
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
#[case("/queues/mail/history?days=", 422, "days: expected a whole number from 1 to 90, found \"\"")]
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
async fn entries_servers_and_the_store_are_shown() {
    let client = start(fairing().periodic(nightly())).await;
    let began = Instant::now();
    let entry = loop {
        let found = get(&client, "/periodic").await;
        if let Some(entry) = found["periodic"].as_array().unwrap().first() {
            break entry.clone();
        }
        assert!(began.elapsed() < PATIENCE);
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
        ("GET", "/ui/queues/<name>?<state>&<type>&<search>&<cursor>&<done>&<count>&<follow>", Viewers),
        ("POST", "/ui/queues/<name>/actions", Operators),
        ("POST", "/ui/queues/<name>/pause", Operators),
        ("POST", "/ui/queues/<name>/resume", Operators),
        ("POST", "/ui/queues/<name>/delete", Operators),
        ("GET", "/ui/queues/<name>/limits/<limit>?<cursor>", Viewers),
        ("POST", "/ui/queues/<name>/limits", Operators),
        ("POST", "/ui/queues/<name>/limits/<limit>/delete", Operators),
        ("GET", "/ui/jobs/<name>/<id>?<done>&<edit>", Viewers),
        ("GET", "/ui/jobs/<name>/<id>/<part>", Viewers),
        ("POST", "/ui/jobs/<name>/<id>/<verb>", Operators),
        ("GET", "/ui/find?<id>&<after>", Viewers),
        ("GET", "/ui/jobs?<q>&<sort>&<page>&<done>&<count>&<left>&<follow>", Viewers),
        ("POST", "/ui/jobs/act", Operators),
        ("GET", "/ui/scheduled", Viewers),
        ("GET", "/ui/groups?<after>", Viewers),
        ("GET", "/ui/queues/<name>/group?<group>&<cursor>&<done>&<count>&<follow>", Viewers),
        ("GET", "/ui/store", Viewers),
        ("GET", "/ui/doctor?<done>", Viewers),
        ("POST", "/ui/doctor", Operators),
        ("GET", "/ui/failures", Viewers),
        ("GET", "/ui/types?<sort>", Viewers),
        ("GET", "/ui/types/<type>", Viewers),
        ("GET", "/ui/enqueue", Viewers),
        ("GET", "/ui/enqueue/<type>?<like>", Viewers),
        ("POST", "/ui/enqueue/<type>", Operators),
        ("GET", "/ui/events?<once>", Viewers),
        ("GET", "/ui/live.js", All),
        ("GET", "/ui/desk.js", All),
        ("POST", "/ui/display", Viewers),
        ("GET", "/ui/servers?<done>", Viewers),
        ("POST", "/ui/servers/quiet", Operators),
        ("POST", "/ui/servers/resume", Operators),
        ("POST", "/ui/servers/change", Operators),
        ("POST", "/ui/servers/<id>/quiet", Operators),
        ("POST", "/ui/servers/<id>/resume", Operators),
        ("POST", "/ui/servers/<id>/change", Operators),
        ("GET", "/ui/periodic?<done>&<job>", Viewers),
        ("GET", "/ui/audit?<page>", Operators),
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
        ("GET", "/queues/<name>/limits", Viewers),
        ("GET", "/queues/<name>/limits/<limit>?<size>&<cursor>", Viewers),
        ("PUT", "/queues/<name>/limits/<limit>", Operators),
        ("DELETE", "/queues/<name>/limits/<limit>", Operators),
        ("POST", "/queues/<name>/actions", Operators),
        ("GET", "/jobs?<id>&<after>", Viewers),
        ("GET", "/jobs/<name>/<id>?<wait>", Viewers),
        ("GET", "/jobs/<name>/<id>/events", Viewers),
        ("GET", "/jobs/<name>/<id>/explanation", Viewers),
        ("DELETE", "/jobs/<name>/<id>", Operators),
        ("POST", "/jobs/<name>/<id>/run", Operators),
        ("POST", "/jobs/<name>/<id>/run_next", Operators),
        ("POST", "/jobs/<name>/<id>/archive", Operators),
        ("POST", "/jobs/<name>/<id>/reschedule", Operators),
        ("POST", "/jobs/<name>/<id>/cancel", Operators),
        ("PUT", "/jobs/<name>/<id>/payload", Operators),
        ("GET", "/status/<token>?<wait>", All),
        ("POST", "/jobs/<type>?<queue>&<delay_seconds>&<max_retry>&<expires_seconds>&<unique_seconds>&<unique_until>&<unique_key>&<on_conflict>", Operators),
        ("GET", "/periodic", Viewers),
        ("GET", "/periodic/<id>/runs?<page>&<size>", Viewers),
        ("POST", "/periodic/<id>/run", Operators),
        ("GET", "/types", Viewers),
        ("GET", "/types/<type>", Viewers),
        ("GET", "/search?<q>&<size>&<cursor>", Viewers),
        ("GET", "/alerts", Viewers),
        ("GET", "/audit?<page>&<size>", Operators),
        ("GET", "/servers", Viewers),
        ("GET", "/workers", Viewers),
        ("GET", "/workers/<id>", Viewers),
        ("PATCH", "/workers", Operators),
        ("PATCH", "/workers/<id>", Operators),
        ("POST", "/workers/quiet", Operators),
        ("POST", "/workers/resume", Operators),
        ("POST", "/workers/<id>/quiet", Operators),
        ("POST", "/workers/<id>/resume", Operators),
        ("GET", "/store", Viewers),
        ("GET", "/doctor", Viewers),
        ("POST", "/doctor/repair", Operators),
    ]
    .into_iter()
    .map(|(method, path, who)| ((method.to_owned(), path), who))
    .collect()
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
        // Not a worker of this name.
        (Method::Options, "/workers/quiet", "POST"),
        (Method::Options, "/workers/x", "GET, HEAD, PATCH"),
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
