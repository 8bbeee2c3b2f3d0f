//! A trace goes with its jobs: from the request that enqueues one to those that the job
//! enqueues, and into the spans around both.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rocket::http::{ContentType, Header};
use rocket::local::asynchronous::{Client, LocalRequest};
use rocket::{post, routes};
use rocket_jobqueue::{Job, JobContext, JobError, JobQueue, Managed};
use serde::{Deserialize, Serialize};
use serde_json::json;
use support::anybody::Anybody;
use support::log::Log;
use tokio::sync::mpsc;

const BASE: &str = "/api/dm-jobqueue";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

type Headers = BTreeMap<String, String>;

/// Where handlers write down what headers they saw.
#[derive(Clone)]
struct Seen(mpsc::UnboundedSender<(String, Headers)>);

#[derive(Serialize, Deserialize)]
struct Import {
    file: u64,
}

impl Job for Import {
    const TYPE: &'static str = "import";
}

/// One of an import's lines.
#[derive(Serialize, Deserialize)]
struct Line;

impl Job for Line {
    const TYPE: &'static str = "line";
}

async fn import(
    _job: Import,
    context: JobContext,
    queue: Managed<JobQueue>,
    seen: Managed<Seen>,
) -> Result<(), JobError> {
    tracing::info!("importing");
    seen.0.send(("import".into(), context.headers().clone())).unwrap();
    queue.enqueue(Line).await?;
    queue.enqueue_all([rocket_jobqueue::Draft::new(Line)]).await.remove(0)?;
    Ok(())
}

async fn line(_job: Line, context: JobContext, seen: Managed<Seen>) -> Result<(), JobError> {
    seen.0.send(("line".into(), context.headers().clone())).unwrap();
    Ok(())
}

#[post("/imports/<file>")]
async fn by_hand(file: u64, queue: &JobQueue) -> Result<String, rocket_jobqueue::Error> {
    let receipt = queue.enqueue(Import { file }).header("tenant", "7").await?;
    Ok(receipt.id.to_string())
}

#[post("/owned")]
async fn by_owned_guard(queue: JobQueue) -> Result<String, rocket_jobqueue::Error> {
    Ok(queue.client().enqueue(Line).await?.id.to_string())
}

async fn start() -> (Client, mpsc::UnboundedReceiver<(String, Headers)>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment)
        .manage(Seen(sender))
        .mount("/", routes![by_hand, by_owned_guard])
        .attach(
            JobQueue::fairing()
                .admin_guard::<Anybody>()
                .environment("embedded")
                .memory()
                .set("jobqueue.log_to_stderr", false)
                .handle(import)
                .handle(line),
        );
    (Client::untracked(rocket).await.expect("it starts"), receiver)
}

async fn next(seen: &mut mpsc::UnboundedReceiver<(String, Headers)>) -> (String, Headers) {
    tokio::time::timeout(Duration::from_secs(20), seen.recv()).await.unwrap().unwrap()
}

fn traced(request: LocalRequest<'_>) -> LocalRequest<'_> {
    request
        .header(Header::new("traceparent", PARENT))
        .header(Header::new("tracestate", "congo=t61rcWkgMzE"))
        .header(Header::new("tracestate", "rojo=00f067aa0ba902b7"))
}

fn carried() -> Headers {
    let state = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7";
    let pairs = [("traceparent", PARENT), ("tracestate", state)];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[rocket::async_test]
async fn a_trace_goes_from_the_request_to_its_job_and_to_the_jobs_of_that() {
    let (client, mut seen) = start().await;
    traced(client.post("/imports/7")).dispatch().await;

    let expected = Headers::from([("tenant".to_owned(), "7".to_owned())]);
    let first = next(&mut seen).await;
    assert_eq!(first, ("import".into(), expected.into_iter().chain(carried()).collect()));
    for _ in 0..2 {
        // Headers of the application's own stay with their job.
        assert_eq!(next(&mut seen).await, ("line".into(), carried()));
    }

    traced(client.post("/owned")).dispatch().await;
    assert_eq!(next(&mut seen).await, ("line".into(), carried()));

    // The routes of the queue itself.
    let request = client.post(format!("{BASE}/jobs/import")).header(ContentType::JSON);
    let answer = traced(request).body(json!({"file": 8}).to_string()).dispatch().await;
    assert_eq!(answer.status().code, 201, "{:?}", answer.into_string().await);
    assert_eq!(next(&mut seen).await, ("import".into(), carried()));
}

#[rocket::async_test]
async fn requests_without_a_trace_or_with_a_wrong_one_give_jobs_none() {
    let (client, mut seen) = start().await;
    client.post("/owned").dispatch().await;
    assert_eq!(next(&mut seen).await, ("line".into(), Headers::new()));
    for wrong in ["", "00-1-2-3", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01"] {
        client.post("/owned").header(Header::new("traceparent", wrong)).dispatch().await;
        assert_eq!(next(&mut seen).await, ("line".into(), Headers::new()), "{wrong}");
    }
    // Two cannot both be right.
    let twice = client.post("/owned").header(Header::new("traceparent", PARENT));
    twice.header(Header::new("traceparent", PARENT)).dispatch().await;
    assert_eq!(next(&mut seen).await, ("line".into(), Headers::new()));
}

#[rocket::async_test]
async fn what_a_handler_logs_says_for_which_job_and_trace() {
    let log = Log::of_this_process_with_spans();
    let (client, mut seen) = start().await;
    let answer = traced(client.post("/imports/77")).dispatch().await;
    let id = answer.into_string().await.unwrap();
    for _ in 0..3 {
        next(&mut seen).await;
    }

    let told = || log.text();
    let has = |words: &[&str]| {
        told()
            .lines()
            .any(|line| line.contains(&id) && words.iter().all(|word| line.contains(word)))
    };
    let of = format!(r#"job_type="import" queue="default" id="{id}""#);
    let run = format!(r#"run{{{of} attempt=1 trace_id="{TRACE}"}}"#);
    let enqueue = format!(r#"enqueue{{{of} trace_id="{TRACE}"}}"#);
    // A span is reported when it is over, which may be after its job began.
    let began = Instant::now();
    while !(has(&[&run, "importing"])
        // The child was enqueued within the span of its parent's run.
        && has(&[&run, r#"enqueue{job_type="line""#, TRACE, "close"])
        && has(&[&enqueue, "close"]))
    {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", told());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!told().contains("congo") && !told().contains("tenant"), "{}", told());
}
