//! A filter that is not understood is an error: it must not become no filter.

use super::*;

#[cfg(feature = "dashboard")]
#[tokio::test]
async fn a_mistyped_filter_lists_nothing_and_nothing_can_be_acted_upon() {
    let client = still().await;
    for user in 1..=3 {
        enqueue(&client, user, "?delay_seconds=600").await;
    }
    let look = async |path: &str| {
        let mut request = client.get(format!("{BASE}{path}"));
        request.add_header(Header::new("Role", "operator"));
        request.add_header(Header::new("Accept-Language", "en"));
        let response = request.dispatch().await;
        (response.status().code, response.into_string().await.unwrap_or_default())
    };
    let act = async |form: String| {
        let mut request = client.post(format!("{BASE}/ui/jobs/act")).body(form);
        request.add_header(ContentType::Form);
        request.add_header(Header::new("Role", "operator"));
        request.add_header(Header::new("Sec-Fetch-Site", "same-origin"));
        request.dispatch().await.status().code
    };
    for wrong in [
        "state:archved",
        "state:Scheduled",
        "state:",
        "state:aggregating",
        "states:scheduled",
        "foo:bar",
        "queue:mial",
        "queue:mail queue:mial",
        "type:a type:mail:welcome",
        "error:%22no end",
    ] {
        let (status, page) = look(&format!("/ui/jobs?q={}", wrong.replace(' ', "+"))).await;
        assert_eq!(status, 422, "{wrong}: {page}");
        assert!(page.contains("expected"), "{wrong}: {page}");
        assert!(!page.contains("/ui/jobs/mail/") && !page.contains("/ui/jobs/act"), "{page}");
        for sure in ["", "&sure=3&confirm=3"] {
            let status = act(format!("q={}&all=delete{sure}", wrong.replace(' ', "+"))).await;
            assert_eq!(status, 422, "{wrong}");
        }
    }
    for wrong in [
        "all=delete&sure=3&confirm=3",
        "Q=state:archived&all=delete&sure=3&confirm=3",
        // Of two values nobody knows which one was meant.
        "q=state:scheduled&q=state:archived&all=delete&sure=3&confirm=3",
        "q=state:scheduled&%71=state:scheduled&all=delete&sure=3&confirm=3",
        "q=state:scheduled&all=delete&sure=3&confirm=3&sure=1",
        "q=state:scheduled&all=run&all=delete&sure=3&confirm=3",
    ] {
        assert_eq!(act(wrong.to_owned()).await, 422, "{wrong}");
    }
    for wrong in [
        "/ui/jobs?Q=state:archived",
        "/ui/jobs?q=state:archived&q=state:scheduled",
        "/ui/jobs?page=abc",
        "/ui/jobs?page=0",
        "/ui/jobs?page=99999999999999999999",
        "/ui/jobs?sort=oldst",
        "/ui/queues/mail?state=scheduled&state=scheduled",
        "/ui/queues/mail?state=archved",
        "/ui/queues/mail?stat=archived",
        "/ui?x=1",
    ] {
        let (status, page) = look(wrong).await;
        assert_eq!(status, 422, "{wrong}");
        assert!(page.contains("<html") && !page.contains("/actions\""), "{wrong}: {page}");
        assert!(!page.contains("/ui/jobs/mail/"), "{wrong}: {page}");
    }
    assert_eq!(get(&client, "/queues/mail").await["sizes"]["scheduled"], 3);
    // Text with a colon stands in quotes.
    let (status, page) = look("/ui/jobs?q=%22mail:welcome%22").await;
    assert!(status == 200 && page.contains("/ui/jobs/mail/"), "{page}");
}

/// What every form of the dashboard refuses, whatever it changes.
#[cfg(feature = "dashboard")]
#[tokio::test]
async fn a_form_with_an_unknown_a_repeated_or_an_undecodable_field_changes_nothing() {
    let client = still().await;
    enqueue(&client, 1, "?delay_seconds=600").await;
    let listed = get(&client, "/queues/mail/jobs?state=scheduled").await;
    let id = listed["rows"][0]["id"].as_str().unwrap().to_owned();
    let send = async |path: &str, body: &[u8]| {
        let request = client
            .post(format!("{BASE}{path}"))
            .body(body)
            .header(ContentType::Form)
            .header(Header::new("Accept-Language", "en"))
            .header(Header::new("Role", "operator"))
            .header(Header::new("Sec-Fetch-Site", "same-origin"));
        let response = request.dispatch().await;
        (response.status().code, response.into_string().await.unwrap_or_default())
    };
    let compressed = async |path: &str, body: &str| {
        let request = client
            .post(format!("{BASE}{path}"))
            .body(body)
            .header(ContentType::Form)
            .header(Header::new("Content-Encoding", "deflate"))
            .header(Header::new("Role", "operator"))
            .header(Header::new("Sec-Fetch-Site", "same-origin"));
        request.dispatch().await.status().code
    };
    // Each form, and fields with which it would act.
    let mut forms = 0;
    for (_, address) in addresses(client.rocket()).iter().filter(|(by, _)| *by == Method::Post) {
        let path = address.split('?').next().unwrap().strip_prefix(BASE).unwrap();
        if !path.starts_with("/ui") {
            continue;
        }
        let verbs: &[&str] = match path.contains("<verb>") {
            true => &["reschedule", "edit", "run", "archive", "delete", "duplicate", "cancel"],
            false => &[""],
        };
        for verb in verbs {
            let good = match (path, *verb) {
                ("/ui/queues/<name>/actions", _) => "state=scheduled&action=delete&confirm=mail",
                ("/ui/queues/<name>/delete", _) => "confirm=mail",
                ("/ui/jobs/act", _) => "all=delete&q=state:scheduled&sure=1&confirm=1",
                ("/ui/enqueue/<type>", _) => "field.user=2",
                ("/ui/register", _) => "message=x",
                ("/ui/queues/<name>/limits", _) => "name=smtp&concurrency=1",
                (_, "reschedule") => "at=2100-01-01T00:00:00Z",
                (_, "edit") => "payload=7",
                _ => "",
            };
            let path = path
                .replace("<name>", "mail")
                .replace("<id>", &id)
                .replace("<limit>", "smtp")
                .replace("<type>", "mail:welcome")
                .replace("<verb>", verb);
            let field = good.split('&').next().unwrap_or_default();
            for extra in ["x=1", "State=retry", "type%00=a", "a=%ff", "a=1&a=1", field, "%ff"] {
                if extra.is_empty() {
                    continue; // A form without fields has none to repeat.
                }
                for body in [format!("{good}&{extra}"), format!("{extra}&{good}")] {
                    let (status, page) = send(&path, body.as_bytes()).await;
                    assert_eq!(status, 422, "{path} {body}: {page}");
                    let is_told = page.contains("expected") || page.contains("unknown field");
                    assert!(is_told, "{path} {body}: {page}");
                }
            }
            assert_eq!(compressed(&path, good).await, 415, "{path}");
            assert_eq!(send(&path, &[good.as_bytes(), b"&a=\xff"].concat()).await.0, 422, "{path}");
            forms += 1;
        }
    }
    assert!(forms >= 15, "{forms}");
    for wrong in [
        "state=scheduld&action=delete",
        "state=scheduled&action=delete&type=",
        "group=&action=delete",
        "state=&action=delete&type=mail:welcome",
        "state=scheduled&action=delete&type=other&type=mail:welcome",
        "state=scheduled&group=a&group=b&action=delete",
        "state=scheduled&group=a&action=delete",
        "state=scheduled&action=run&action=delete",
        "state=scheduled&action=",
        "state=scheduled&action=delete",
        "state=scheduled&action=delete&confirm=other",
        "action=delete",
    ] {
        assert_eq!(send("/ui/queues/mail/actions", wrong.as_bytes()).await.0, 422, "{wrong}");
    }
    // What cannot be undone needs the queue's name, or the number of jobs.
    for wrong in ["", "confirm=", "confirm=Mail", "confirm=mail2"] {
        let (status, page) = send("/ui/queues/mail/delete", wrong.as_bytes()).await;
        assert!(status == 422 && page.contains("expected &quot;mail&quot;"), "{wrong}: {page}");
    }
    for wrong in ["", "&confirm=2", "&confirm=mail"] {
        let body = format!("all=delete&q=state:scheduled&sure=1{wrong}");
        assert_eq!(send("/ui/jobs/act", body.as_bytes()).await.0, 422, "{wrong}");
    }
    let both = b"all=delete&action=run&q=state:scheduled&sure=1";
    assert_eq!(send("/ui/jobs/act", both).await.0, 422);
    assert_eq!(get(&client, "/queues/mail/jobs?state=scheduled").await, listed);
    assert_eq!(get(&client, "/queues/mail").await["size"], 1);
    let good = b"state=scheduled&action=delete&type=mail:welcome&confirm=mail";
    assert_eq!(send("/ui/queues/mail/actions", good).await.0, 303);
    assert_eq!(get(&client, "/queues/mail").await["size"], 0);
}

#[tokio::test]
async fn an_empty_filter_of_an_action_is_an_error_and_so_is_one_sent_twice() {
    let client = still().await;
    enqueue(&client, 1, "?delay_seconds=600").await;
    for wrong in [
        r#"{"action":"delete","state":"scheduled","type":""}"#,
        r#"{"action":"delete","group":""}"#,
        r#"{"action":"delete","state":"","type":"mail:welcome"}"#,
        r#"{"action":"delete","state":"archived","state":"scheduled"}"#,
        r#"{"action":"run","state":"scheduled","type":"other","type":"mail:welcome"}"#,
        // Serde would take the fields in their order.
        r#"["delete"]"#,
        r#"["delete","scheduled",null,null]"#,
    ] {
        let request = client
            .post(format!("{BASE}/queues/mail/actions"))
            .header(ContentType::JSON)
            .header(Header::new("Role", "operator"))
            .body(wrong);
        let response = request.dispatch().await;
        assert_eq!(response.status().code, 422, "{wrong}");
        let said = response.into_string().await.unwrap_or_default();
        assert!(said.contains("expected") || said.contains("duplicate field"), "{said}");
    }
    assert_eq!(get(&client, "/queues/mail").await["sizes"]["scheduled"], 1);
}

#[tokio::test]
async fn a_query_parameter_that_a_route_does_not_know_is_422() {
    let client = still().await;
    enqueue(&client, 1, "").await;
    let mut refused = 0;
    for (method, address) in addresses(client.rocket()) {
        let path = address.split('?').next().unwrap().strip_prefix(BASE).unwrap();
        let is_file = [".css", ".js", ".svg"].iter().any(|end| path.ends_with(end));
        if is_file || path.starts_with("/docs") || path.starts_with("/ui") {
            continue;
        }
        let path = path
            .replace("<name>", "mail")
            .replace("<id>", "x")
            .replace("<limit>", "smtp")
            .replace("<type>", "mail:welcome")
            .replace("<token>", "x");
        let body = json!({ "user": 1 });
        let answer = ask(&client, *method, &format!("{path}?stat=x"), Some(body)).await;
        assert_eq!(answer.status, 422, "{method} {path}: {}", answer.text);
        assert!(answer.text.contains("stat"), "{path}: {}", answer.text);
        refused += 1;
    }
    assert!(refused > 30, "{refused}");
    // Nothing was done.
    assert_eq!(get(&client, "/queues/mail").await["size"], 1);
    for twice in ["/queues/mail/jobs?state=retry&state=pending", "/queues/mail?force=a&force=true"]
    {
        let method = if twice.contains("force") { Method::Delete } else { Method::Get };
        let answer = ask(&client, method, twice, None).await;
        assert_eq!(answer.status, 422, "{twice}: {}", answer.text);
        assert!(answer.text.contains("expected once, found 2 times"), "{twice}: {}", answer.text);
    }
    for name in ["state", "group", "type", "search"] {
        let answer = ask(&client, Method::Get, &format!("/queues/mail/jobs?{name}="), None).await;
        assert_eq!(answer.status, 422, "{name}: {}", answer.text);
        let said = format!("{name}: expected a value, found nothing");
        assert!(answer.text.contains(&said), "{}", answer.text);
    }
    let answer = ask(&client, Method::Get, "/queues/mail/jobs?stat=archived", None).await;
    assert!(answer.text.contains("the nearest is \\\"state\\\""), "{}", answer.text);
}

#[tokio::test]
async fn a_search_goes_through_all_lists_and_ends() {
    let client = still().await;
    for user in 1..=7 {
        enqueue(&client, user, "").await;
        enqueue(&client, user, "?delay_seconds=600&queue=default").await;
    }
    let walk = async |q: &str| {
        let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = get(&client, &format!("/search?q={q}&size=3{cursor}")).await;
            for row in page["rows"].as_array().unwrap() {
                assert_eq!(row["row"], "job");
                found.push(format!("{} {}", row["queue"].as_str().unwrap(), row["id"]));
            }
            (pages, cursor) = match page["next"].as_str() {
                Some(next) => (pages + 1, format!("&cursor={next}")),
                None => return (found, pages + 1),
            };
            assert!(pages < 50, "it has no end");
        }
    };
    let (all, pages) = walk("").await;
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (14, 14));
    assert!(pages >= 5, "{pages}");
    assert_eq!(walk("state:scheduled").await.0.len(), 7);
    assert_eq!(walk("queue:mail+type:mail:welcome").await.0.len(), 7);
    assert_eq!(walk("state:archived").await.0.len(), 0);
    for wrong in ["sate:pending", "state:", "queue:mial", "foo:bar"] {
        let answer = ask(&client, Method::Get, &format!("/search?q={wrong}"), None).await;
        assert!(answer.status == 422 && answer.text.contains("expected"), "{}", answer.text);
    }
    // A cursor of another list leads nowhere.
    let list = get(&client, "/queues/mail/jobs?size=1").await;
    let foreign = format!("/search?q=&cursor={}", list["next"].as_str().unwrap());
    assert_eq!(ask(&client, Method::Get, &foreign, None).await.status, 422);
    let found = get(&client, "/search?q=&size=3").await["next"].as_str().unwrap().to_owned();
    let foreign = format!("/queues/mail/jobs?cursor={found}");
    assert_eq!(ask(&client, Method::Get, &foreign, None).await.status, 422);
}
