//! The REST interface as a client sees it: every status of every row of the
//! contract, on the in-process store.

#[cfg(feature = "openapi")]
mod openapi;
#[cfg(feature = "dashboard")]
mod page;

use rocket::http::{Accept, ContentType, Header, Status};
use rocket::local::asynchronous::{Client, LocalResponse};
use rocket_jobqueue::JobQueue;
use rstest::rstest;
use serde_json::{Value, json};

const BASE: &str = "/api/dm-jobqueue";
const UNAVAILABLE: &str = "Job queue service is unavailable: Redis is not connected";

/// An application with the queue, and these settings on top of the defaults.
async fn client(settings: &[(&str, Value)]) -> Client {
    let release = settings.contains(&("profile", json!("release")));
    let profile =
        if release { rocket::Config::RELEASE_PROFILE } else { rocket::Config::DEBUG_PROFILE };
    let mut figment = rocket::Config::figment()
        .select(profile)
        .merge(("log_level", "off"))
        .merge(("jobqueue.store", "memory"))
        .merge(("jobqueue.allow_memory_in_release", true));
    for (key, value) in settings {
        figment = figment.merge((*key, value));
    }
    let rocket = rocket::custom(figment).attach(JobQueue::fairing());
    Client::tracked(rocket).await.expect("the application starts")
}

async fn post(client: &Client, body: impl AsRef<str>) -> (Status, Value) {
    post_with(client, body, &[]).await
}

async fn post_with(
    client: &Client,
    body: impl AsRef<str>,
    headers: &[(&'static str, &str)],
) -> (Status, Value) {
    let mut request =
        client.post(format!("{BASE}/register")).header(ContentType::JSON).body(body.as_ref());
    for (name, value) in headers {
        request.add_header(Header::new(*name, (*value).to_owned()));
    }
    read(request.dispatch().await).await
}

/// Status and body; an error must be problem details that name its status.
async fn read(response: LocalResponse<'_>) -> (Status, Value) {
    let (status, content) = (response.status(), response.content_type());
    let body = response.into_string().await.unwrap_or_default();
    let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("JSON: {body}"));
    if status.code >= 400 {
        assert_eq!(content, Some(ContentType::new("application", "problem+json")));
        assert_eq!(body["status"], status.code);
        assert_eq!(body["type"], "about:blank");
        assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()));
    } else {
        assert_eq!(content, Some(ContentType::JSON));
    }
    (status, body)
}

#[tokio::test]
async fn a_registered_job_is_answered_with_its_id() {
    let client = client(&[]).await;
    for body in [
        json!({}),
        json!({"message": null, "delay_seconds": null, "max_retry": 0}),
        json!({"message": "こんにちは", "delay_seconds": 31_536_000, "max_retry": 1000}),
    ] {
        let (status, answer) = post(&client, body.to_string()).await;
        assert_eq!(status, Status::Created, "{body}: {answer}");
        assert_eq!(answer["status"], "registered");
        assert!(answer["job_id"].as_str().is_some_and(|id| id.len() == 36));
        assert_eq!(answer.as_object().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped_and_a_compressed_body_is_refused_in_words() {
    let client = client(&[]).await;
    let (status, answer) = post(&client, "\u{feff}{\"message\": \"marked\"}").await;
    assert_eq!(status, Status::Created, "{answer}");
    let (status, _) = post(&client, "{}\u{feff}").await;
    assert_eq!(status, Status::BadRequest);
    let (status, _) = post_with(&client, "{}", &[("Content-Encoding", "identity")]).await;
    assert_eq!(status, Status::Created);
    for coding in ["gzip", "identity, br", "GZIP"] {
        let (status, answer) = post_with(&client, "{}", &[("Content-Encoding", coding)]).await;
        assert_eq!(status, Status::UnsupportedMediaType, "{coding}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.starts_with("expected a body without Content-Encoding"), "{detail}");
    }
}

#[tokio::test]
async fn a_field_that_is_given_twice_is_refused() {
    let client = client(&[]).await;
    for body in [
        r#"{"message": "a", "message": "b"}"#,
        r#"{"delay_seconds": 1, "message": "a", "delay_seconds": 1}"#,
        "{\"message\": \"a\", \"mess\\u0061ge\": \"b\"}",
    ] {
        let (status, answer) = post(&client, body).await;
        assert_eq!(status, Status::UnprocessableEntity, "{body}: {answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.ends_with("expected once, found 2 times"), "{detail}");
    }
}

#[rstest]
#[case::nothing("", 400)]
#[case::half_a_body("{\"message\":", 400)]
#[case::words("message=hello", 400)]
#[case::array("[]", 422)]
#[case::null("null", 422)]
#[case::number_nobody_can_hold("{\"delay_seconds\": 1e999}", 422)]
#[tokio::test]
async fn a_body_that_is_no_object_is_refused(#[case] body: &str, #[case] expected: u16) {
    let client = client(&[]).await;
    let (status, problem) = post(&client, body).await;
    assert_eq!(status.code, expected, "{problem}");
}

#[rstest]
#[case(json!({"delay_seconds": -1}), "/delay_seconds", "expected 0 or more")]
#[case(json!({"delay_seconds": 31_536_001}), "/delay_seconds", "at most 31536000")]
#[case(json!({"delay_seconds": 2.5}), "/delay_seconds", "whole number")]
#[case(json!({"delay_seconds": "60"}), "/delay_seconds", "got a string")]
#[case(json!({"max_retry": -1}), "/max_retry", "expected 0 or more")]
#[case(json!({"max_retry": 1001}), "/max_retry", "at most 1000")]
#[case(json!({"max_retry": true}), "/max_retry", "got a boolean")]
#[case(json!({"message": 1}), "/message", "expected a string")]
#[case(json!({"message": "x".repeat(65_537)}), "/message", "at most 65536 bytes")]
#[case(json!({"delaySeconds": 1}), "/delaySeconds", "\"delay_seconds\"")]
#[tokio::test]
async fn a_wrong_field_is_named(#[case] body: Value, #[case] pointer: &str, #[case] detail: &str) {
    let client = client(&[]).await;
    let (status, problem) = post(&client, body.to_string()).await;
    assert_eq!(status, Status::UnprocessableEntity);
    assert_eq!(problem["errors"].as_array().unwrap().len(), 1);
    assert_eq!(problem["errors"][0]["pointer"], pointer);
    let said = problem["errors"][0]["detail"].as_str().unwrap();
    assert!(said.contains(detail), "{said}");
}

#[tokio::test]
async fn all_wrong_fields_are_named_at_once() {
    let client = client(&[]).await;
    let body = json!({"message": [], "delay_seconds": -5, "max_retry": 5000, "x": 1});
    let (status, problem) = post(&client, body.to_string()).await;
    assert_eq!(status, Status::UnprocessableEntity);
    assert_eq!(problem["errors"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_body_over_rockets_json_limit_is_413() {
    let client = client(&[("limits.json", json!("1KiB"))]).await;
    let (status, _) = post(&client, json!({"message": "x".repeat(2000)}).to_string()).await;
    assert_eq!(status, Status::PayloadTooLarge);
}

#[rstest]
#[case(None, 415)]
#[case(Some("text/plain"), 415)]
#[case(Some("application/x-www-form-urlencoded"), 415)]
#[case(Some("application/json; charset=utf-8"), 201)]
#[case(Some("application/vnd.example+json"), 201)]
#[tokio::test]
async fn the_content_type_must_be_json(#[case] content: Option<&str>, #[case] expected: u16) {
    let client = client(&[]).await;
    let mut request = client.post(format!("{BASE}/register")).body("{}");
    if let Some(content) = content {
        request.add_header(Header::new("Content-Type", content.to_owned()));
    }
    assert_eq!(read(request.dispatch().await).await.0.code, expected);
}

#[tokio::test]
async fn a_repeated_request_has_the_first_answer() {
    let client = client(&[]).await;
    let key = [("Idempotency-Key", "order 7")];
    let first = post_with(&client, r#"{"message":"a"}"#, &key).await;
    assert_eq!(first.0, Status::Created);
    assert_eq!(post_with(&client, r#"{"message":"a"}"#, &key).await, first);

    let (status, _) = post_with(&client, r#"{"message":"b"}"#, &key).await;
    assert_eq!(status, Status::UnprocessableEntity);
    let other = post_with(&client, r#"{"message":"a"}"#, &[("Idempotency-Key", "order 8")]).await;
    assert_eq!(other.0, Status::Created);
    assert_ne!(other.1["job_id"], first.1["job_id"]);
}

#[rstest]
#[case(255, 201)]
#[case(256, 422)]
#[case(0, 422)]
#[tokio::test]
async fn an_idempotency_key_has_1_to_255_characters(#[case] length: usize, #[case] expected: u16) {
    let client = client(&[]).await;
    let (status, answer) =
        post_with(&client, "{}", &[("Idempotency-Key", &"k".repeat(length))]).await;
    assert_eq!(status.code, expected, "{answer}");
}

#[tokio::test]
async fn no_more_reference_jobs_wait_than_may() {
    let client = client(&[("jobqueue.register_max_waiting", json!(20))]).await;
    let bodies: Vec<_> = (0..60).map(|n| json!({ "message": n.to_string() }).to_string()).collect();
    let answers = bodies.iter().map(|body| post(&client, body));
    let answers = futures_util::future::join_all(answers).await;
    let (created, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(status, _)| *status == Status::Created);
    assert_eq!((created.len(), refused.len()), (20, 40));
    for (status, body) in refused {
        assert_eq!(status, Status::TooManyRequests);
        assert_eq!(body["detail"], "queue \"default\" is full: 20 jobs wait");
    }
    let full = client.post(format!("{BASE}/register")).header(ContentType::JSON).body("{}");
    let full = full.dispatch().await;
    assert_eq!(full.headers().get_one("Retry-After"), Some("5"));
    #[cfg(feature = "dashboard")]
    {
        let form = client.post(format!("{BASE}/ui/register")).header(ContentType::Form);
        let form = form.header(Header::new("Sec-Fetch-Site", "same-origin")).body("message=hi");
        let page = form.dispatch().await;
        assert_eq!(page.status(), Status::TooManyRequests);
        assert_eq!(page.headers().get_one("Retry-After"), Some("5"));
    }
    // The application itself is not bound.
    let queue = client.rocket().state::<JobQueue>().unwrap();
    queue.enqueue(rocket_jobqueue::demo::DelayPrint::default()).await.unwrap();
}

#[tokio::test]
async fn a_switched_off_reference_route_is_not_there() {
    let client = client(&[("jobqueue.register_route", json!(false))]).await;
    assert_eq!(post(&client, "{}").await.0, Status::NotFound);
}

#[rstest]
#[case("/register", "POST")]
#[case("/health", "GET, HEAD")]
#[case("/health/ready", "GET, HEAD")]
#[tokio::test]
async fn a_wrong_method_is_405_and_says_which_are_right(#[case] path: &str, #[case] allow: &str) {
    let client = client(&[]).await;
    let response = client.delete(format!("{BASE}{path}")).dispatch().await;
    assert_eq!(response.headers().get_one("Allow"), Some(allow));
    assert_eq!(read(response).await.0, Status::MethodNotAllowed);
}

#[tokio::test]
async fn get_on_the_reference_route_is_405() {
    let client = client(&[]).await;
    let response = client.get(format!("{BASE}/register")).dispatch().await;
    assert_eq!(response.headers().get_one("Allow"), Some("POST"));
    assert_eq!(read(response).await.0, Status::MethodNotAllowed);
}

#[tokio::test]
async fn an_unknown_path_is_a_problem_below_the_base_only() {
    let client = client(&[]).await;
    let (status, problem) = read(client.get(format!("{BASE}/nowhere")).dispatch().await).await;
    assert_eq!(status, Status::NotFound);
    assert_eq!(problem["detail"], format!("nothing is at {BASE}/nowhere"));

    let elsewhere = client.get("/nowhere").dispatch().await;
    assert_eq!(elsewhere.status(), Status::NotFound);
    assert_eq!(elsewhere.content_type(), Some(ContentType::HTML));
}

#[tokio::test]
async fn health_is_json_unless_plain_text_is_preferred() {
    let client = client(&[]).await;
    for path in ["/health", "/health/live", "/health/ready"] {
        let uri = format!("{BASE}{path}");
        let answer = read(client.get(&uri).dispatch().await).await;
        assert_eq!(answer, (Status::Ok, json!({"live": true, "ready": true})), "{path}");

        let response = client.get(&uri).header(Accept::Plain).dispatch().await;
        assert_eq!(response.into_string().await.as_deref(), Some("OK"), "{path}");
    }
}

#[tokio::test]
async fn without_redis_the_application_starts_and_says_503() {
    let client = client(&[
        ("jobqueue.store", json!("redis")),
        ("databases.jobqueue.url", json!("redis://127.0.0.1:1/")),
    ])
    .await;
    let (status, problem) = post(&client, "{}").await;
    assert_eq!((status, &problem["detail"]), (Status::ServiceUnavailable, &json!(UNAVAILABLE)));

    let get = async |path: &str| read(client.get(format!("{BASE}{path}")).dispatch().await).await;
    assert_eq!(get("/health").await, (Status::Ok, json!({"live": true, "ready": false})));
    assert_eq!(get("/health/live").await.0, Status::Ok);
    let (status, problem) = get("/health/ready").await;
    assert_eq!((status, &problem["ready"]), (Status::ServiceUnavailable, &json!(false)));
}

/// Generated clients have a setting for a token only if the document names one.
#[tokio::test]
async fn the_document_names_a_bearer_token_where_a_guard_asks() {
    let client = client(&[]).await;
    let (status, document) =
        read(client.get(format!("{BASE}/openapi.json")).dispatch().await).await;
    assert_eq!(status, Status::Ok);
    assert_eq!(document["components"]["securitySchemes"]["jobqueueBearer"]["scheme"], "bearer");
    let mut public = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let security = &operation["security"];
            if security.is_null() {
                public.push(path.as_str());
            } else {
                assert_eq!(*security, json!([{ "jobqueueBearer": [] }, {}]), "{path}");
            }
        }
    }
    public.sort_unstable();
    let expected = ["/health", "/health/live", "/health/ready", "/register", "/status/{token}"];
    assert_eq!(public, expected);
}
