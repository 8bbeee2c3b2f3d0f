//! The REST interface as a client sees it: every status of every row of the
//! contract, on the in-process store.

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
        assert_eq!(body["detail"], "20 jobs of this kind wait already: try again later");
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

#[cfg(feature = "openapi")]
mod openapi {
    use super::*;

    async fn document(client: &Client) -> Value {
        read(client.get(format!("{BASE}/openapi.json")).dispatch().await).await.1
    }

    /// What generators stumble over, found in a schema of the document.
    fn stumbling_blocks(at: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let has = |key: &str| fields.contains_key(key);
                // Below `properties` the keys are names.
                if !at.ends_with("/properties") {
                    let is_null = fields.get("nullable") == Some(&json!(true));
                    if is_null && !(fields.get("type").is_some_and(Value::is_string)) {
                        found.push(format!("{at}: nullable without a type"));
                    }
                    if is_null && (has("allOf") || has("enum")) {
                        found.push(format!("{at}: nullable beside allOf or enum"));
                    }
                    let words = fields.get("oneOf").and_then(Value::as_array);
                    if words.is_some_and(|all| all.iter().any(|one| one.get("enum").is_some())) {
                        found.push(format!("{at}: a choice between words"));
                    }
                }
                for (key, value) in fields {
                    stumbling_blocks(&format!("{at}/{key}"), value, found);
                }
            }
            Value::Array(items) => {
                items.iter().for_each(|item| stumbling_blocks(at, item, found));
            }
            _ => {}
        }
    }

    #[tokio::test]
    async fn the_document_has_nothing_that_generators_stumble_over() {
        let client = client(&[]).await;
        let document = document(&client).await;
        let mut found = Vec::new();
        stumbling_blocks("", &document, &mut found);
        assert!(found.is_empty(), "{}", found.join("\n"));

        let schemas = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        for (name, schema) in schemas {
            assert!(
                schema["type"] == "object" || schema.get("oneOf").is_some(),
                "{name}: {schema}"
            );
            assert!(text.contains(&format!("schemas/{name}\"")), "{name} is not used");
        }
        let row = &schemas["JobQueueJobRow"];
        assert_eq!(row["oneOf"][1]["$ref"], "#/components/schemas/JobQueueJobRowCorrupt");
        let corrupt = &schemas["JobQueueJobRowCorrupt"];
        assert_eq!(corrupt["properties"]["row"]["enum"], json!(["corrupt"]));
        assert!(corrupt["required"].as_array().unwrap().contains(&json!("row")));
        // With one a generated Rust client reads no list.
        assert!(row["discriminator"].is_null(), "{row}");
        let state = &schemas["JobQueueJobInfo"]["properties"]["state"];
        assert_eq!(state["enum"].as_array().unwrap().len(), 7, "{state}");
        assert!(state["description"].as_str().unwrap().contains("* `retry`: "), "{state}");
        let worker = &schemas["JobQueueJobInfo"]["properties"]["worker"];
        assert_eq!((&worker["nullable"], &worker["type"]), (&json!(true), &json!("object")));
    }

    #[tokio::test]
    async fn the_document_says_what_the_reference_route_takes_and_answers() {
        let document = document(&client(&[]).await).await;
        assert!(document["openapi"].as_str().unwrap().starts_with("3.0"));
        assert_eq!(document["servers"][0]["url"], BASE);

        let operation = &document["paths"]["/register"]["post"];
        assert_eq!(operation["operationId"], "register-demo-job");
        assert_eq!(operation["tags"], json!(["jobqueue-demo"]));
        assert_eq!(operation["summary"], "ジョブを登録（参考コード）");
        let description = operation["description"].as_str().unwrap();
        assert!(description.contains("jobqueue.register_route = false"), "{description}");
        assert_eq!(operation["parameters"][0]["name"], "Idempotency-Key");

        let responses = operation["responses"].as_object().unwrap();
        let registered = "#/components/schemas/JobQueueRegistered";
        let schema = &responses["201"]["content"]["application/json"]["schema"];
        assert_eq!(schema["$ref"], registered);
        for status in ["400", "413", "415", "422", "500", "503"] {
            let schema = &responses[status]["content"]["application/problem+json"]["schema"];
            assert_eq!(schema["$ref"], "#/components/schemas/JobQueueProblem", "{status}");
            assert_ne!(responses[status]["description"], "", "{status}");
        }

        let request = &document["components"]["schemas"]["JobQueueRegisterRequest"];
        assert_eq!(request["properties"]["delay_seconds"]["maximum"], 31_536_000.0);
        assert_eq!(request["properties"]["max_retry"]["maximum"], 1000.0);
        assert_eq!(request["required"], Value::Null);
        assert_eq!(request["additionalProperties"], false);
    }

    #[tokio::test]
    async fn every_schema_has_our_prefix_and_every_reference_a_schema() {
        let document = document(&client(&[]).await).await;
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas.keys().all(|name| name.starts_with("JobQueue")), "{schemas:?}");
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }

    #[tokio::test]
    async fn a_switched_off_reference_route_is_not_documented() {
        let client = client(&[("jobqueue.register_route", json!(false))]).await;
        assert_eq!(document(&client).await["paths"]["/register"], Value::Null);
    }

    #[tokio::test]
    async fn swagger_ui_is_served_from_the_crate_and_reads_the_document() {
        let client = client(&[]).await;
        let entrance = client.get(format!("{BASE}/docs")).dispatch().await;
        assert_eq!(
            entrance.headers().get_one("Location"),
            Some("/api/dm-jobqueue/docs/index.html")
        );
        let page = client.get(format!("{BASE}/docs/index.html")).dispatch().await;
        assert_eq!(page.content_type(), Some(ContentType::HTML));
        let config = client.get(format!("{BASE}/docs/swagger-ui-config.json")).dispatch().await;
        assert!(config.into_string().await.unwrap().contains("/api/dm-jobqueue/openapi.json"));
        for file in [
            "index.html",
            "swagger-ui-bundle.js",
            "swagger-ui.css",
            "initializer.js",
            "swagger-ui-config.json",
        ] {
            let answer = client.get(format!("{BASE}/docs/{file}")).dispatch().await;
            assert_eq!(answer.status(), Status::Ok, "{file}");
            let policy = answer.headers().get_one("Content-Security-Policy").unwrap().to_owned();
            for rule in ["default-src 'none'", "script-src 'self';", "frame-ancestors 'none'"] {
                assert!(policy.contains(rule), "{file}: {policy}");
            }
            assert!(!policy.contains("unsafe-eval"), "{policy}");
            let text = answer.into_string().await.unwrap();
            // No later release had a hole in what cleans descriptions of scripts.
            assert!(file != "swagger-ui-bundle.js" || text.contains("version=\"3.4.17\""));
        }
    }
}

#[cfg(feature = "dashboard")]
mod page {
    use super::*;

    const FORM: &str = "message=&delay_seconds=&max_retry=";

    async fn submit(
        client: &Client,
        body: &str,
        headers: &[(&'static str, &str)],
    ) -> (u16, String) {
        let mut request =
            client.post(format!("{BASE}/ui/register")).header(ContentType::Form).body(body);
        request.add_header(Header::new("Accept-Language", "en"));
        for (name, value) in headers {
            request.add_header(Header::new(*name, (*value).to_owned()));
        }
        let response = request.dispatch().await;
        (response.status().code, response.into_string().await.unwrap())
    }

    const OURS: [(&str, &str); 1] = [("Sec-Fetch-Site", "same-origin")];

    #[rstest]
    #[case(Some("ja"), "ジョブキュー（参考コード）")]
    #[case(Some("en-GB"), "Job queue (reference code)")]
    #[case(None, "ジョブキュー（参考コード）")]
    #[tokio::test]
    async fn it_speaks_the_readers_language(#[case] language: Option<&str>, #[case] title: &str) {
        let client = client(&[]).await;
        let mut request = client.get(format!("{BASE}/ui/register"));
        if let Some(language) = language {
            request.add_header(Header::new("Accept-Language", language.to_owned()));
        }
        let page = request.dispatch().await.into_string().await.unwrap();
        assert!(page.contains(&format!("<title>{title}</title>")), "{page}");
    }

    #[tokio::test]
    async fn it_runs_nothing_and_loads_nothing_from_elsewhere() {
        let client = client(&[]).await;
        let response = client.get(format!("{BASE}/ui/register")).dispatch().await;
        let policy = response.headers().get_one("Content-Security-Policy").unwrap().to_owned();
        for rule in [
            "default-src 'none'",
            "style-src 'self'",
            "img-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(rule), "{policy}");
        }
        let page = response.into_string().await.unwrap();
        assert!(!page.contains("<script") && !page.contains(" style=") && !page.contains("<style"));
    }

    #[rstest]
    #[case::nothing_said(&[], 403)]
    #[case::judged_same(&[("Sec-Fetch-Site", "same-origin")], 200)]
    #[case::judged_other(&[("Sec-Fetch-Site", "cross-site")], 403)]
    #[case::judged_sibling(&[("Sec-Fetch-Site", "same-site")], 403)]
    #[case::same(&[("Origin", "http://app.example:8000"), ("Host", "app.example:8000")], 200)]
    #[case::other_port(&[("Origin", "http://app.example:81"), ("Host", "app.example:8000")], 403)]
    #[case::hidden(&[("Origin", "null"), ("Host", "app.example")], 403)]
    #[tokio::test]
    async fn a_form_is_taken_from_the_same_origin_only(
        #[case] headers: &[(&'static str, &str)],
        #[case] expected: u16,
    ) {
        let client = client(&[]).await;
        assert_eq!(submit(&client, FORM, headers).await.0, expected);
    }

    #[tokio::test]
    async fn a_sent_form_shows_the_id_and_sent_again_the_same_id() {
        let client = client(&[]).await;
        let id_in = |page: &str| page.split("id=\"job-id\">").nth(1).unwrap()[..36].to_owned();
        let form = "ticket=1&message=hi&delay_seconds=%EF%BC%96%EF%BC%90&max_retry=0";
        let (status, page) = submit(&client, form, &OURS).await;
        assert_eq!(status, 200);
        assert!(page.contains("role=\"status\""), "{page}");
        assert_eq!(id_in(&submit(&client, form, &OURS).await.1), id_in(&page));
        let other = submit(&client, &form.replace("ticket=1", "ticket=2"), &OURS).await.1;
        assert_ne!(id_in(&other), id_in(&page));
    }

    #[tokio::test]
    async fn wrong_fields_are_explained_beside_them_and_values_are_kept() {
        let client = client(&[]).await;
        let form = "message=%3Cb%3Ehi&delay_seconds=-1&max_retry=many";
        let (status, page) = submit(&client, form, &OURS).await;
        assert_eq!(status, 422);
        for expected in [
            "role=\"alert\"",
            "value=\"&lt;b&gt;hi\"",
            "value=\"-1\"",
            "value=\"many\"",
            "id=\"delay_seconds-error\"",
            "aria-describedby=\"max_retry-error max_retry-hint\"",
        ] {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        assert!(!page.contains("message-error"));
    }

    #[tokio::test]
    async fn the_longest_message_fits_into_a_form_and_a_longer_body_does_not() {
        let client = client(&[]).await;
        let longest = format!("message={}", "%41".repeat(64 * 1024));
        assert_eq!(submit(&client, &longest, &OURS).await.0, 200);
        assert_eq!(submit(&client, &longest.repeat(2), &OURS).await.0, 413);
    }

    #[tokio::test]
    async fn its_wrong_methods_are_405_and_its_style_is_a_file() {
        let client = client(&[]).await;
        let response = client.put(format!("{BASE}/ui/register")).dispatch().await;
        assert_eq!(response.headers().get_one("Allow"), Some("GET, HEAD, POST"));
        assert_eq!(response.status(), Status::MethodNotAllowed);
        let style = client.get(format!("{BASE}/ui/style.css")).dispatch().await;
        assert_eq!(style.content_type(), Some(ContentType::CSS));
    }

    #[tokio::test]
    async fn the_overview_is_closed_without_a_guard_and_programs_read_problem_details() {
        let developed = client(&[]).await;
        let answer = read(developed.get(format!("{BASE}/ui")).dispatch().await).await;
        assert_eq!(answer.0, Status::Unauthorized);
        let detail = answer.1["detail"].as_str().unwrap();
        assert!(detail.contains("login link"), "{detail}");

        let closed = client(&[("profile", json!("release"))]).await;
        let answer = read(closed.get(format!("{BASE}/ui")).dispatch().await).await;
        assert_eq!(answer.0, Status::Forbidden);
        let page = closed.get(format!("{BASE}/ui")).header(Accept::HTML).dispatch().await;
        assert_eq!(
            (page.status(), page.content_type()),
            (Status::Forbidden, Some(ContentType::HTML))
        );
        assert!(page.headers().contains("Content-Security-Policy"));
    }

    #[tokio::test]
    async fn it_is_switched_off_with_the_route() {
        let client = client(&[("jobqueue.register_route", json!(false))]).await;
        let response = client.get(format!("{BASE}/ui/register")).dispatch().await;
        assert_eq!(response.status(), Status::NotFound);
    }
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
