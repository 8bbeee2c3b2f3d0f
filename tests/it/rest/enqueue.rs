//! Jobs that are enqueued by HTTP, and requests that are repeated.

use super::*;
use rocket_jobqueue::limits::MaxWaiting;

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
            .header(Header::new("Role", "operator"))
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
async fn a_request_may_ask_for_a_unique_lock() {
    let client = still().await;
    enqueue(&client, 1, "?unique_seconds=60").await;
    let path = "/jobs/mail:welcome?unique_seconds=60";
    let again = ask(&client, Method::Post, path, Some(json!({ "user": 1 }))).await;
    assert_eq!(again.status, 409, "{}", again.text);
    for wrong in [
        "unique_seconds=x",
        "unique_seconds=60&unique_until=never",
        "unique_until=expiry",
        "unique_key=user-7",
        "unique_seconds=60&unique_key=%20",
        "unique_seconds=60&on_conflict=ask",
        "on_conflict=replace",
    ] {
        let path = format!("/jobs/mail:welcome?{wrong}");
        let wrong = ask(&client, Method::Post, &path, Some(json!({ "user": 1 }))).await;
        assert_eq!(wrong.status, 422, "{}", wrong.text);
    }
}

#[tokio::test]
async fn a_request_may_say_which_jobs_are_the_same_and_until_when() {
    let client = still().await;
    let query = "?unique_seconds=60&unique_until=expiry&unique_key=user-7";
    let first = enqueue(&client, 1, query).await;
    done(&client, Method::Delete, &format!("/jobs/mail/{first}"), None).await;
    let path = format!("/jobs/mail:welcome{query}");
    let again = ask(&client, Method::Post, &path, Some(json!({ "user": 2 }))).await;
    assert_eq!(again.status, 409, "{}", again.text);
    assert!(again.text.contains(&first), "{}", again.text);
    for (conflict, existing) in [("existing", true), ("extend", true), ("replace", false)] {
        let path = format!("{path}&on_conflict={conflict}");
        let asked = ask(&client, Method::Post, &path, Some(json!({ "user": 2 }))).await;
        if !existing {
            assert_eq!(asked.status, 409, "its holder is gone: {}", asked.text);
            continue;
        }
        assert_eq!(asked.status, 201, "{}", asked.text);
        assert_eq!((&asked.body["job_id"], &asked.body["existing"]), (&json!(first), &json!(true)));
        assert_eq!(asked.body.get("state"), None, "it has ended");
    }
    let other = path.replace("user-7", "user-8");
    let other = ask(&client, Method::Post, &other, Some(json!({ "user": 2 }))).await;
    assert_eq!(other.status, 201, "{}", other.text);
    let replace = "/jobs/mail:welcome?unique_seconds=60&unique_key=user-8&on_conflict=replace";
    let replaced = ask(&client, Method::Post, replace, Some(json!({ "user": 3 }))).await;
    assert_eq!((replaced.status, &replaced.body["replaced"]), (201, &json!(true)));
    assert_eq!(replaced.body["job_id"], other.body["job_id"]);
    let job = format!("/jobs/mail/{}", other.body["job_id"].as_str().unwrap());
    assert_eq!(get(&client, &job).await["payload"], r#"{"user":3}"#);
}

#[tokio::test]
async fn a_request_may_say_until_when_the_job_is_worth_a_start() {
    let client = still().await;
    let id = enqueue(&client, 1, "?delay_seconds=60&expires_seconds=600").await;
    let job = get(&client, &format!("/jobs/mail/{id}")).await;
    let at =
        |name: &str| chrono::DateTime::parse_from_rfc3339(job[name].as_str().unwrap()).unwrap();
    assert_eq!((at("start_by") - at("due")).num_milliseconds(), 600_000);
    let id = enqueue(&client, 2, "").await;
    assert_eq!(get(&client, &format!("/jobs/mail/{id}")).await["start_by"], json!(null));
    for wrong in ["expires_seconds=x", "expires_seconds=31536001"] {
        let path = format!("/jobs/mail:welcome?{wrong}");
        let wrong = ask(&client, Method::Post, &path, Some(json!({ "user": 1 }))).await;
        assert_eq!(wrong.status, 422, "{}", wrong.text);
    }
}

#[tokio::test]
async fn a_full_queue_is_429() {
    let fairing = fairing().set("jobqueue.worker", false);
    let client = start(fairing.max_waiting("mail", MaxWaiting::refuse(1))).await;
    let first = enqueue(&client, 1, "").await;
    let request = client.post(format!("{BASE}/jobs/mail:welcome")).header(ContentType::JSON);
    let request = request.header(Header::new("Role", "operator")).body(r#"{"user":2}"#);
    let full = request.dispatch().await;
    assert_eq!(full.status().code, 429);
    assert_eq!(full.headers().get_one("Retry-After"), Some("5"));
    let text = full.into_string().await.unwrap();
    assert!(text.contains(r#"queue \"mail\" is full: 1 jobs wait"#), "{text}");
    // Another queue, and a job that is archived, do not count.
    enqueue(&client, 2, "?queue=other").await;
    done(&client, Method::Post, &format!("/jobs/mail/{first}/archive"), None).await;
    enqueue(&client, 3, "").await;
}
