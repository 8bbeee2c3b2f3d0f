//! Worker processes: seen, made quiet and resumed, given other slots and weights.

use super::*;

/// The only process, once this is so.
async fn until(client: &Client, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let workers = get(client, "/workers").await["workers"].clone();
        if workers.as_array().is_some_and(|all| all.len() == 1 && is_so(&workers[0])) {
            return workers[0].clone();
        }
        assert!(began.elapsed() < PATIENCE, "{workers}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_worker_is_made_quiet_resumed_and_changed() {
    let named = fairing().admin_guard_named::<Operator>(|_| "ann".to_owned());
    let client = start(named.set("jobqueue.concurrency", 3).version("2.4.1")).await;
    let worker = until(&client, |_| true).await;
    let id = worker["server_id"].as_str().unwrap().to_owned();
    let details = &worker["details"];
    assert_eq!((&details["state"], &details["concurrency_max"]), (&json!("running"), &json!(12)));
    assert_eq!(
        (&details["configured_concurrency"], &details["version"]),
        (&json!(3), &json!("2.4.1"))
    );
    #[cfg(target_os = "linux")]
    assert!(details["memory"].as_u64().unwrap() > 1 << 20, "{details}");
    assert_eq!(worker["changes"], json!([]));

    done(&client, Method::Post, &format!("/workers/{id}/quiet"), None).await;
    let worker = until(&client, |one| one["details"]["state"] == "quiet").await;
    let change = &worker["changes"][0];
    assert_eq!((&change["setting"], &change["by"]), (&json!("quiet"), &json!("ann")), "{change}");
    assert_eq!((&change["value"], &change["applied"]), (&json!(1), &json!(true)), "{change}");
    assert_eq!((&change["until"], &change["for_all"]), (&Value::Null, &json!(false)), "{change}");
    done(&client, Method::Post, &format!("/workers/{id}/resume"), None).await;
    until(&client, |one| one["details"]["state"] == "running" && one["changes"] == json!([])).await;

    let body = json!({ "concurrency": 9, "queues": { "mail": 7 }, "seconds": 3600 });
    done(&client, Method::Patch, &format!("/workers/{id}"), Some(body)).await;
    let worker = until(&client, |one| one["concurrency"] == 9).await;
    assert_eq!(worker["queues"]["mail"], 7);
    let one = get(&client, &format!("/workers/{id}")).await;
    assert_eq!(one["changes"].as_array().unwrap().len(), 2, "{one}");
    assert!(one["changes"][0]["until"].is_string(), "{one}");
    let back = json!({ "concurrency": null, "queues": { "mail": null } });
    done(&client, Method::Patch, &format!("/workers/{id}"), Some(back)).await;
    until(&client, |one| one["concurrency"] == 3 && one["changes"] == json!([])).await;
}

#[tokio::test]
async fn all_workers_are_changed_until_an_instant() {
    let client = start(fairing().set("jobqueue.concurrency", 3)).await;
    until(&client, |_| true).await;
    let body = json!({ "concurrency": 5, "seconds": 600 });
    let answer = ask(&client, Method::Patch, "/workers", Some(body)).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({ "workers": 1 })));
    until(&client, |one| one["concurrency"] == 5).await;
    let of_all = get(&client, "/workers").await["changes"].clone();
    assert_eq!((&of_all[0]["setting"], &of_all[0]["value"]), (&json!("concurrency"), &json!(5)));

    assert_eq!(ask(&client, Method::Post, "/workers/quiet", None).await.status, 200);
    until(&client, |one| one["details"]["state"] == "quiet").await;
    assert_eq!(ask(&client, Method::Post, "/workers/resume", None).await.status, 200);
    until(&client, |one| one["details"]["state"] == "running").await;
}

#[tokio::test]
async fn a_wrong_change_of_a_worker_names_what_is_expected() {
    let client = start(fairing().set("jobqueue.concurrency", 3)).await;
    let id = until(&client, |_| true).await["server_id"].as_str().unwrap().to_owned();
    for (body, detail) in [
        (json!({}), "worker: expected something to change, found nothing"),
        (json!({ "concurrency": 13 }), "concurrency: expected 1 to 12"),
        (json!({ "queues": { "other": 1 } }), "found \"other\""),
        (json!({ "quiet": true, "until": "tomorrow" }), "until: expected an instant as RFC 3339"),
        (json!({ "quiet": true, "seconds": 0 }), "until: expected an instant after"),
        (json!({ "quiet": true, "until": "2000-01-01T00:00:00Z" }), "until: expected an instant"),
        (json!({ "quiet": true, "seconds": 9, "until": "x" }), "found both"),
        (json!({ "speed": 1 }), "speed"),
    ] {
        for path in [format!("/workers/{id}"), "/workers".to_owned()] {
            let answer = ask(&client, Method::Patch, &path, Some(body.clone())).await;
            assert_eq!(answer.status, 422, "{path} {body}: {}", answer.text);
            assert!(answer.text.contains(&detail.replace('"', "\\\"")), "{body}: {}", answer.text);
        }
    }
    for (method, path) in [
        (Method::Get, "/workers/none"),
        (Method::Post, "/workers/none/quiet"),
        (Method::Post, "/workers/none/resume"),
    ] {
        let answer = ask(&client, method, path, None).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.text.contains(r#"worker process \"none\" does not exist"#));
    }
    assert_eq!(until(&client, |_| true).await["changes"], json!([]));
}
