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
        for sure in ["", "&sure=3"] {
            let status = act(format!("q={}&all=delete{sure}", wrong.replace(' ', "+"))).await;
            assert_eq!(status, 422, "{wrong}");
        }
    }
    for wrong in [
        "all=delete&sure=3",
        "Q=state:archived&all=delete&sure=3",
        // Of two values nobody knows which one was meant.
        "q=state:scheduled&q=state:archived&all=delete&sure=3",
        "q=state:scheduled&%71=state:scheduled&all=delete&sure=3",
        "q=state:scheduled&all=delete&sure=3&sure=1",
        "q=state:scheduled&all=run&all=delete&sure=3",
    ] {
        assert_eq!(act(wrong.to_owned()).await, 422, "{wrong}");
    }
    for wrong in [
        "/ui/jobs?Q=state:archived",
        "/ui/jobs?q=state:archived&q=state:scheduled",
        "/ui/queues/mail?state=scheduled&state=scheduled",
        "/ui/queues/mail?state=archved",
        "/ui/queues/mail?stat=archived",
        "/ui?x=1",
    ] {
        let (status, page) = look(wrong).await;
        assert_eq!(status, 422, "{wrong}");
        assert!(page.contains("<html") && !page.contains("/actions\""), "{wrong}: {page}");
    }
    for (path, body) in [
        ("/ui/queues/mail/actions", "state=scheduld&action=delete"),
        ("/ui/queues/mail/actions", "state=archived&state=scheduled&action=delete"),
    ] {
        let request = client
            .post(format!("{BASE}{path}"))
            .body(body)
            .header(ContentType::Form)
            .header(Header::new("Role", "operator"))
            .header(Header::new("Sec-Fetch-Site", "same-origin"));
        assert_eq!(request.dispatch().await.status().code, 422, "{path} {body}");
    }
    assert_eq!(get(&client, "/queues/mail").await["sizes"]["scheduled"], 3);
    // Text with a colon stands in quotes.
    let (status, page) = look("/ui/jobs?q=%22mail:welcome%22").await;
    assert!(status == 200 && page.contains("/ui/jobs/mail/"), "{page}");
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
    for route in client.rocket().routes().filter(|route| route.rank < 1000) {
        let Some(path) = route.uri.path().strip_prefix(BASE) else { continue };
        let is_file = [".css", ".js", ".svg"].iter().any(|end| path.ends_with(end));
        if is_file || path.starts_with("/docs") || path.starts_with("/ui") {
            continue;
        }
        let path = path
            .replace("<name>", "mail")
            .replace("<id>", "x")
            .replace("<type>", "mail:welcome")
            .replace("<token>", "x");
        let body = json!({ "user": 1 });
        let answer = ask(&client, route.method, &format!("{path}?stat=x"), Some(body)).await;
        assert_eq!(answer.status, 422, "{} {path}: {}", route.method, answer.text);
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
    let answer = ask(&client, Method::Get, "/queues/mail/jobs?stat=archived", None).await;
    assert!(answer.text.contains("the nearest is \\\"state\\\""), "{}", answer.text);
}
