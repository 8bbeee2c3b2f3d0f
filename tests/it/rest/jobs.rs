//! Jobs that are listed, changed, awaited, watched and cancelled.

use super::*;

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
async fn a_job_says_why_it_is_not_running() {
    let client = still().await;
    let why = async |id: &str| get(&client, &format!("/jobs/mail/{id}/explanation")).await;
    let id = enqueue(&client, 1, "?delay_seconds=172800").await;
    let due = why(&id).await;
    let due_at = get(&client, &format!("/jobs/mail/{id}")).await["due"].clone();
    assert_eq!(
        (&due["queue"], &due["id"], &due["state"]),
        (&"mail".into(), &json!(id), &"scheduled".into())
    );
    let reason = &due["reasons"][0];
    assert_eq!((&reason["kind"], &reason["at"]), (&json!("due"), &due_at));
    assert!(
        (100_000.0..=172_800.0).contains(&reason["wait_seconds"].as_f64().unwrap()),
        "{reason}"
    );
    assert!(due["sentence"].as_str().unwrap().starts_with("due in "), "{due}");

    for (language, sentence) in [("en", ">due in 1 d 23 h (at 2"), ("ja", "1日23時間後（2")] {
        let page = client.get(format!("{BASE}/ui/jobs/mail/{id}"));
        let page = page.header(Header::new("Role", "viewer"));
        let page = page.header(Header::new("Accept-Language", language)).dispatch().await;
        let page = page.into_string().await.unwrap();
        assert!(page.contains(sentence), "{language}: {page}");
    }

    done(&client, Method::Post, &format!("/jobs/mail/{id}/run"), None).await;
    let reasons = why(&id).await["reasons"].clone();
    assert_eq!(reasons, json!([{ "kind": "no_worker", "queue": "mail", "last_seen": null }]));
    done(&client, Method::Post, "/queues/mail/pause", None).await;
    let paused = why(&id).await;
    assert_eq!(paused["reasons"][0]["kind"], "queue_paused");
    assert!(paused["reasons"][0]["since"].is_string(), "{paused}");
    done(&client, Method::Post, &format!("/jobs/mail/{id}/archive"), None).await;
    assert_eq!(why(&id).await["reasons"][0]["kind"], "archived");

    done(&client, Method::Delete, &format!("/jobs/mail/{id}"), None).await;
    let gone = ask(&client, Method::Get, &format!("/jobs/mail/{id}/explanation"), None).await;
    assert_eq!(gone.status, 404, "{}", gone.text);
    let detail = gone.body["detail"].as_str().unwrap();
    assert!(detail.starts_with("queue mail has no such job: it was never stored"), "{detail}");
}

#[tokio::test]
async fn a_refused_enqueue_says_who_holds_the_lock_and_why() {
    let client = still().await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    let welcome = || queue.enqueue(Welcome { user: 1 }).unique_for(Duration::from_secs(600));
    let first = welcome().delay(Duration::from_secs(172_800)).await.unwrap();
    let refused = welcome().await.unwrap_err();

    let why = queue.inspector().explain_refusal(&first.queue, &refused).await.unwrap().unwrap();

    let kinds: Vec<_> = why.reasons.iter().map(|reason| reason.kind()).collect();
    assert_eq!(kinds, ["lock_held", "due", "no_worker"]);
    let held = format!("the unique lock is held by job {} of queue mail; due in 1 d ", first.id);
    assert!(why.to_string().starts_with(&held), "{why}");
    let other = rocket_jobqueue::QueueName::new("no spaces").unwrap_err();
    assert_eq!(queue.inspector().explain_refusal(&first.queue, &other).await.unwrap(), None);
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_reason() {
    let fairing = fairing().set("jobqueue.worker", false);
    let bound = rocket_jobqueue::limits::MaxWaiting::refuse(1);
    let client = start(fairing.max_waiting("mail", bound)).await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    let first = queue.enqueue(Welcome { user: 1 }).await.unwrap();
    let refused = queue.enqueue(Welcome { user: 2 }).id("second").await.unwrap_err();
    assert!(refused.is_queue_full() && refused.is_too_many() && refused.holder().is_none());

    let why = queue.inspector().explain_refusal(&first.queue, &refused).await.unwrap().unwrap();

    assert_eq!((why.id.as_str(), why.state, why.reason().kind()), ("second", None, "queue_full"));
    assert_eq!(why.to_string(), "queue mail is full: 1 jobs may wait");
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
    done(&client, Method::Post, &format!("{job}/run_next"), None).await;
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
    // A success without retention leaves nothing.
    let id = enqueue(&client, 1, "?delay_seconds=1").await;
    let path = format!("/jobs/mail/{id}?wait=30");
    let answer = within(Duration::from_secs(20), ask(&client, Method::Get, &path, None)).await;
    assert_eq!(answer.status, 204, "{}", answer.text);

    let id = enqueue(&client, 13, "?delay_seconds=1").await;
    let job = get(&client, &format!("/jobs/mail/{id}?wait=30")).await;
    assert_eq!(
        (&job["state"], &job["last_error"]),
        (&json!("archived"), &json!("nobody is number 13"))
    );

    let id = enqueue(&client, 2, "?delay_seconds=600").await;
    let path = format!("/jobs/mail/{id}?wait=1");
    let job = within(Duration::from_secs(20), get(&client, &path)).await;
    assert_eq!(job["state"], "scheduled");
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
        assert!(began.elapsed() < PATIENCE);
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
    let (status, _) = post("q=state:scheduled&all=delete&sure=3&confirm=3").await;
    assert_eq!(status, 303);
    assert_eq!(get(&client, "/queues/mail").await["sizes"]["scheduled"], 3);
    for wrong in ["", "action=explode", "q=x&all=delete&sure=yes", "action=run&job=nowhere"] {
        let (status, page) = post(wrong).await;
        assert_eq!(status, 422, "{wrong}: {page}");
        assert!(page.contains("expected"), "{wrong}: {page}");
    }
}
