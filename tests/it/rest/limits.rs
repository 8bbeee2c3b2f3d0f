//! Limits of a queue by REST: seen, set, replaced and removed.

use super::*;

const STRIPE: &str = "/queues/mail/limits/stripe";

async fn set(client: &Client, body: Value) -> Answer {
    ask(client, Method::Put, STRIPE, Some(body)).await
}

#[tokio::test]
async fn a_limit_is_set_seen_replaced_and_removed() {
    let client = still().await;
    enqueue(&client, 1, "").await;
    assert_eq!(get(&client, "/queues/mail/limits").await, json!({ "limits": [] }));

    let body = json!({ "types": ["mail:welcome"], "key": "payload.user", "concurrency": 2 });
    assert_eq!(set(&client, body).await.status, 204);
    let stripe = &get(&client, "/queues/mail/limits").await["limits"][0];
    assert_eq!(
        (&stripe["name"], &stripe["key"], &stripe["concurrency"], &stripe["rate"]),
        (&json!("stripe"), &json!("payload.user"), &json!(2), &Value::Null)
    );
    assert_eq!((&stripe["in_use"], &stripe["waiting"]), (&json!(0), &json!(0)));

    let body = json!({ "rate": "100/1m", "burst": 20 });
    assert_eq!(set(&client, body).await.status, 204);
    let one = get(&client, STRIPE).await;
    assert_eq!(one["limit"]["concurrency"], Value::Null);
    assert!(one["limit"]["rate"].as_str().unwrap().contains("100"), "{one}");
    assert_eq!((&one["uses"].is_array(), &one["more"]), (&true, &json!(false)));

    assert_eq!(ask(&client, Method::Delete, STRIPE, None).await.status, 204);
    let again = ask(&client, Method::Delete, STRIPE, None).await;
    assert_eq!(again.status, 404);
    assert_eq!(again.body["detail"], r#"queue "mail" has no limit "stripe""#);
    assert_eq!(ask(&client, Method::Get, STRIPE, None).await.status, 404);
}

#[tokio::test]
async fn a_wrong_limit_says_what_was_expected_and_found() {
    let client = still().await;
    enqueue(&client, 1, "").await;
    for (body, expected) in [
        (json!({}), "expected concurrency, a rate or both, found neither"),
        (json!({ "concurrency": 0 }), "concurrency: expected at least 1, found 0"),
        (json!({ "concurrency": 1, "key": "account" }), "expected payload.<path>"),
        (json!({ "concurrency": 1, "burst": 2 }), "burst: expected it beside a rate"),
        (json!({ "concurrency": 1, "queue": "mail" }), "unknown field `queue`"),
        (json!({ "rate": "often" }), "often"),
    ] {
        let answer = set(&client, body).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert!(answer.text.contains(expected), "{expected}: {}", answer.text);
    }
    assert_eq!(get(&client, "/queues/mail/limits").await, json!({ "limits": [] }));
    let body = Some(json!({ "concurrency": 1 }));
    let nowhere = ask(&client, Method::Put, "/queues/none/limits/stripe", body).await;
    assert_eq!(nowhere.status, 404, "{}", nowhere.text);
}

#[tokio::test]
async fn declared_limits_are_set_at_launch_over_what_was_there() {
    let limit = rocket_jobqueue::limits::Limit::new("smtp").concurrency(3);
    let client = start(
        fairing()
            .set("jobqueue.worker", false)
            .set("jobqueue.limits.smtp", json!({ "queue": "mail", "concurrency": 7 }))
            .set("jobqueue.limits.slow", json!({ "queue": "mail", "rate": "5/1s" }))
            .limit("mail", limit),
    )
    .await;
    enqueue(&client, 1, "").await;
    let limits = get(&client, "/queues/mail/limits").await["limits"].clone();
    let found: Vec<_> =
        limits.as_array().unwrap().iter().map(|one| (&one["name"], &one["concurrency"])).collect();
    assert_eq!(found, [(&json!("slow"), &Value::Null), (&json!("smtp"), &json!(3))]);
}

/// A client whose queue has a limit with 250 keys, one of them with three waiting jobs.
async fn with_many_keys() -> Client {
    let client = still().await;
    let key = rocket_jobqueue::limits::LimitKey::parse("payload.user").unwrap();
    let limit = rocket_jobqueue::limits::Limit::new("stripe").key(key).concurrency(1);
    let queue: &JobQueue = client.rocket().state().unwrap();
    let mail = rocket_jobqueue::QueueName::new("mail").unwrap();
    queue.inspector().set_limit(&mail, &limit).await.unwrap();
    for user in (0..250).chain([7, 7, 7]) {
        queue.enqueue(Welcome { user }).await.unwrap();
    }
    client
}

#[tokio::test]
async fn the_keys_of_a_limit_come_page_by_page_each_once() {
    let client = with_many_keys().await;
    let (mut users, mut waiting, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = get(&client, &format!("{STRIPE}?size=60&cursor={cursor}")).await;
        let uses = page["uses"].as_array().unwrap();
        assert!(uses.len() <= 60, "{} keys", uses.len());
        users.extend(uses.iter().map(|one| one["key"].as_str().unwrap().parse::<u64>().unwrap()));
        if let Some(fullest) = uses.iter().position(|one| one["waiting"] == 3) {
            assert_eq!((fullest, &uses[0]["key"]), (0, &json!("7")), "the fullest comes first");
            waiting += 1;
        }
        assert_eq!(page["more"], !page["next"].is_null());
        let Some(next) = page["next"].as_str() else { break };
        cursor = next.to_owned();
    }
    users.sort_unstable();
    assert_eq!(users, (0..250).collect::<Vec<_>>());
    assert_eq!(waiting, 1);

    let wrong = ask(&client, Method::Get, &format!("{STRIPE}?cursor=nothing"), None).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
    let wrong = ask(&client, Method::Get, &format!("{STRIPE}?size=1001"), None).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
}

#[cfg(feature = "dashboard")]
#[tokio::test]
async fn the_page_of_a_limit_leads_from_keys_to_the_next_ones() {
    let client = with_many_keys().await;
    let page = async |path: &str| {
        let request =
            client.get(path.to_owned()).header(Header::new("Role", "viewer")).header(Accept::HTML);
        request.dispatch().await.into_string().await.unwrap()
    };
    let queue = page(&format!("{BASE}/ui/queues/mail")).await;
    let mut at = format!("{BASE}/ui/queues/mail/limits/stripe");
    assert!(queue.contains(&format!("href=\"{at}\"")), "{queue}");
    let mut keys = Vec::new();
    loop {
        let shown = page(&at).await;
        keys.push(shown.matches("<th scope=\"row\"").count());
        let Some((_, rest)) = shown.split_once("<p class=\"more\"><a href=\"") else { break };
        at = rest.split_once('"').unwrap().0.replace("&amp;", "&");
        assert!(keys.len() < 10, "{at}");
    }
    assert_eq!(keys, [100, 100, 50]);
    let none = page(&format!("{BASE}/ui/queues/mail/limits/none")).await;
    assert!(none.contains("has no limit"), "{none}");
}

#[cfg(feature = "dashboard")]
#[tokio::test]
async fn the_page_of_a_queue_shows_sets_and_removes_limits() {
    let client = still().await;
    enqueue(&client, 1, "").await;
    let form = async |path: &str, body: &str| {
        let response = client
            .post(format!("{BASE}{path}"))
            .header(ContentType::Form)
            .header(Header::new("Role", "operator"))
            .header(Header::new("Host", "localhost"))
            .header(Header::new("Origin", "http://localhost"))
            .body(body)
            .dispatch()
            .await;
        (response.status().code, response.headers().get_one("Location").map(str::to_owned))
    };
    let page = async || {
        let request = client
            .get(format!("{BASE}/ui/queues/mail"))
            .header(Header::new("Role", "viewer"))
            .header(Accept::HTML);
        request.dispatch().await.into_string().await.unwrap()
    };
    assert!(!page().await.contains("limits/stripe/delete"));
    let body = "name=stripe&types=mail:welcome&key=payload.user&concurrency=2&rate=100/1m";
    let (status, to) = form("/ui/queues/mail/limits", body).await;
    assert_eq!((status, to.unwrap().ends_with("?done=limit")), (303, true));
    let shown = page().await;
    for text in ["limits/stripe/delete", "payload.user", "0 / 2", "mail:welcome"] {
        assert!(shown.contains(text), "{text} is not in {shown}");
    }
    let (status, _) = form("/ui/queues/mail/limits", "name=stripe&concurrency=many").await;
    assert_eq!(status, 422);
    let (status, to) = form("/ui/queues/mail/limits/stripe/delete", "").await;
    assert_eq!((status, to.unwrap().ends_with("?done=unlimit")), (303, true));
    assert!(!page().await.contains("limits/stripe/delete"));
}
