//! Who may do what: roles, origins, credentials, status links, read-only mode, proxies.

use super::*;

#[tokio::test]
async fn every_route_lets_in_whom_it_is_for_and_nobody_else() {
    let client = still().await;
    let table = routes();
    let mut rows = Vec::new();
    for (method, address) in addresses(client.rocket()) {
        let (method, path) = (*method, address.strip_prefix(BASE).unwrap());
        if path.starts_with("/docs") {
            continue;
        }
        let key = (method.as_str().to_owned(), path);
        let found = table.iter().find(|((m, p), _)| (m, *p) == (&key.0, key.1));
        let who = *found.unwrap_or_else(|| panic!("who may use {method} {path}?")).1;
        let address = path.split('?').next().unwrap();
        let address = address
            .replace("<name>", "mail")
            .replace("<id>", "x")
            .replace("<limit>", "smtp")
            .replace("<type>", "mail:welcome");
        let address =
            address.replace("<verb>", "run").replace("<part>", "payload").replace("<token>", "x.y");
        let page = address.starts_with("/ui");
        let asked = async |role: &str, query: &str| {
            let mut request = client.req(method, format!("{BASE}{address}{query}"));
            request.add_header(if page { ContentType::Form } else { ContentType::JSON });
            if page && address != "/ui/register" {
                request.add_header(Header::new("Sec-Fetch-Site", "same-origin"));
            }
            if !role.is_empty() {
                request.add_header(Header::new("Role", role.to_owned()));
            }
            request.dispatch().await.status().code
        };
        let status = async |role: &str| asked(role, "").await;
        let open = |code: u16| code != 401 && code != 403;
        let nobody = status("").await;
        let viewer = status("viewer").await;
        let operator = status("operator").await;
        let form = address == "/ui/register" && method == Method::Post;
        let shown = |code: u16| if open(code) { "yes".to_owned() } else { code.to_string() };
        let [nobody_may, viewer_may, operator_may] = match form {
            // With a page of ours around it.
            true => ["yes".to_owned(), "yes".to_owned(), "yes".to_owned()],
            false => [nobody, viewer, operator].map(shown),
        };
        let bare = path.split('?').next().unwrap();
        rows.push(format!(
            "| `{method} {bare}` | {nobody_may} | {viewer_may} | {operator_may} |\n"
        ));
        match who {
            _ if form => assert_eq!(nobody, 403, "a form from nowhere"),
            For::All => assert!(open(nobody), "{method} {address}: {nobody}"),
            For::Viewers => {
                assert_eq!(nobody, 401, "{method} {address}");
                assert_eq!(asked("", "?odd=1").await, 401, "{method} {address}?odd=1");
                assert!(open(viewer) && open(operator), "{method} {address}: {viewer} {operator}");
            }
            For::Operators => {
                assert_eq!((nobody, viewer), (401, 403), "{method} {address}");
                assert_eq!(asked("", "?odd=1").await, 401, "{method} {address}?odd=1");
                assert!(open(operator), "{method} {address}: {operator}");
            }
        }
    }
    assert_eq!(rows.len(), table.len());
    rows.sort();
    let written = std::fs::read_to_string("docs/roles.md").unwrap();
    let rows: String = rows.concat();
    assert!(written.ends_with(&rows), "docs/roles.md: expected it to end with\n{rows}");
}

#[tokio::test]
async fn whoever_has_the_link_sees_how_one_job_is() {
    let client = start(fairing()).await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    let read = async |path: &str| {
        let response = client.get(path.to_owned()).dispatch().await;
        let status = response.status().code;
        (status, response.into_json::<Value>().await.unwrap())
    };
    let kept = queue.enqueue(Welcome { user: 1 }).retention(Duration::from_secs(60));
    let kept = kept.delay(Duration::from_secs(600)).await.unwrap();
    let link = queue.status_link(&kept.queue, &kept.id, Duration::from_secs(60));
    assert!(link.starts_with("/api/dm-jobqueue/status/"), "{link}");
    let (status, answer) = read(&link).await;
    assert_eq!((status, &answer["status"]), (200, &json!("waiting")), "{answer}");
    queue.inspector().run(&kept.queue, &kept.id).await.unwrap();
    let (_, answer) = read(&format!("{link}?wait=20")).await;
    assert_eq!((&answer["status"], &answer["result"]), (&json!("succeeded"), &json!("welcome, 1")));
    assert!(!answer.to_string().contains("payload"), "{answer}");

    let failed = queue.enqueue(Welcome { user: 13 }).await.unwrap();
    let link = queue.status_link(&failed.queue, &failed.id, Duration::from_secs(60));
    let (_, answer) = read(&format!("{link}?wait=20")).await;
    assert_eq!(answer["status"], "failed");
    assert!(!answer.to_string().contains("nobody is number 13"), "{answer}");

    let forgotten = queue.enqueue(Welcome { user: 2 }).await.unwrap();
    let link = queue.status_link(&forgotten.queue, &forgotten.id, Duration::from_secs(60));
    assert_eq!(read(&format!("{link}?wait=20")).await.1["status"], "gone");

    // Forged, for another job, and expired.
    let (what, signature) = link.rsplit_once('.').unwrap();
    let other = queue.status_link(&failed.queue, &failed.id, Duration::from_secs(60));
    let expired = queue.status_link(&failed.queue, &failed.id, Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for wrong in [
        format!("{what}.{}", signature.replace(['1', '2', '3'], "0")),
        format!("{}.{signature}", other.rsplit_once('.').unwrap().0),
        what.to_owned(),
        format!("{what}."),
        expired,
    ] {
        assert_eq!(read(&wrong).await.0, 404, "{wrong}");
    }
}

#[tokio::test]
async fn a_status_key_signs_for_all_processes_and_is_never_shown() {
    let key = "a key that is long enough to be one";
    let keyed = |key: &str| fairing().set("jobqueue.worker", false).set("jobqueue.status_key", key);
    let (one, two) = (start(keyed(key)).await, start(keyed(key)).await);
    let third = start(fairing().set("jobqueue.worker", false)).await;
    let queue = |client: &Client| client.rocket().state::<JobQueue>().unwrap().clone();
    let receipt = queue(&one).enqueue(Welcome { user: 1 }).await.unwrap();
    let link = queue(&one).status_link(&receipt.queue, &receipt.id, Duration::from_secs(60));
    // Each has a store of its own here; who knows the link says that the job is gone.
    assert_eq!(two.get(link.clone()).dispatch().await.status(), Status::Ok);
    assert_eq!(third.get(link).dispatch().await.status(), Status::NotFound);
    assert!(!format!("{:?}", queue(&one).config()).contains(key));

    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let short = rocket::custom(figment).attach(keyed("short"));
    let Err(error) = Client::untracked(short).await else { panic!("it starts") };
    let _ = error.kind();
}

#[tokio::test]
async fn what_is_redacted_is_neither_shown_nor_found() {
    let hide = |info: &mut rocket_jobqueue::inspect::JobInfo| {
        info.record.payload = Some(br#""hidden""#.to_vec());
    };
    let weekly = Periodic::new("0 3 * * 1", Welcome { user: 4711 });
    let client = start(fairing().set("jobqueue.worker", false).periodic(weekly).redact(hide)).await;
    let id = enqueue(&client, 4711, "").await;
    for path in [
        format!("/jobs/mail/{id}"),
        format!("/jobs?id={id}"),
        "/queues/mail/jobs".to_owned(),
        "/search".to_owned(),
        "/periodic".to_owned(),
        "/servers".to_owned(),
        "/workers".to_owned(),
    ] {
        let answer = ask(&client, Method::Get, &path, None).await;
        assert!(answer.status == 200 && !answer.text.contains("4711"), "{path}: {}", answer.text);
    }
    assert_eq!(get(&client, "/queues/mail/jobs?search=4711").await["rows"], json!([]));
    let request =
        client.get(format!("{BASE}/ui/jobs/mail/{id}")).header(Header::new("Role", "operator"));
    let page = request.dispatch().await.into_string().await.unwrap();
    assert!(page.contains("hidden") && !page.contains("4711") && !page.contains("/edit"), "{page}");
    // The job itself is as it was.
    let queue = client.rocket().state::<JobQueue>().unwrap();
    let job = queue.job("mail", &rocket_jobqueue::JobId::new(&id).unwrap()).await.unwrap().unwrap();
    assert_eq!(job.record.payload_bytes(), br#"{"user":4711}"#);
}

#[cfg(feature = "dashboard")]
#[tokio::test]
async fn a_browser_without_credentials_is_sent_to_the_login_and_back() {
    let client = start(fairing().set("jobqueue.worker", false).login_url("/login?by=page")).await;
    let send = async |method: Method, path: &str, accept: Accept| {
        let url = format!("{BASE}{path}");
        let response = client.req(method, url).header(accept).dispatch().await;
        let header = |name| response.headers().get_one(name).map(str::to_owned);
        (response.status().code, header("Location"), header("WWW-Authenticate"))
    };
    let next = |path: &str| rocket::http::RawStr::new(path).percent_encode().to_string();
    let way = |path: &str| Some(format!("/login?by=page&next={}", next(&format!("{BASE}{path}"))));
    let page = "/ui/jobs?q=a%26b";
    assert_eq!(send(Method::Get, page, Accept::HTML).await, (303, way(page), None));
    assert_eq!(send(Method::Post, "/ui/jobs/act", Accept::HTML).await, (303, way("/ui"), None));
    let challenge = Some("Bearer realm=\"job queue\"".to_owned());
    for (path, accept) in [(page, Accept::JSON), ("/queues", Accept::HTML)] {
        assert_eq!(send(Method::Get, path, accept).await, (401, None, challenge.clone()), "{path}");
    }
}

#[tokio::test]
async fn a_change_that_comes_from_elsewhere_is_refused() {
    let client = still().await;
    enqueue(&client, 1, "").await;
    let pause = async |headers: &[(&'static str, &'static str)]| {
        let mut request = client.post(format!("{BASE}/queues/mail/pause"));
        request.add_header(Header::new("Role", "operator"));
        request.add_header(Header::new("Host", "jobs.example.com"));
        for (name, value) in headers {
            request.add_header(Header::new(*name, *value));
        }
        request.dispatch().await.status().code
    };
    let json = ("Content-Type", "application/json");
    assert_eq!(pause(&[json]).await, 204, "a program");
    assert_eq!(pause(&[]).await, 403, "perhaps another site's form");
    assert_eq!(pause(&[("Content-Type", "text/plain")]).await, 403);
    assert_eq!(pause(&[("Sec-Fetch-Site", "same-origin")]).await, 204);
    assert_eq!(pause(&[("Sec-Fetch-Site", "cross-site"), json]).await, 403);
    assert_eq!(pause(&[("Origin", "http://jobs.example.com")]).await, 204);
    assert_eq!(pause(&[("Origin", "http://evil.example.com"), json]).await, 403);
}

#[tokio::test]
async fn where_it_is_read_only_nobody_changes_anything() {
    let client =
        start(fairing().set("jobqueue.worker", false).set("jobqueue.read_only", true)).await;
    for (method, path) in [
        (Method::Post, "/jobs/mail:welcome"),
        (Method::Post, "/queues/mail/pause"),
        (Method::Delete, "/queues/mail"),
        (Method::Post, "/doctor/repair"),
        (Method::Post, "/workers/quiet"),
        (Method::Patch, "/workers/x"),
    ] {
        let answer = ask(&client, method, path, Some(json!({ "user": 1 }))).await;
        assert_eq!(answer.status, 403, "{method} {path}");
    }
    assert_eq!(register(&client, &[]).await.0, 403);
    let form = client
        .post(format!("{BASE}/ui/register"))
        .header(ContentType::Form)
        .header(Header::new("Sec-Fetch-Site", "same-origin"))
        .body("message=x");
    assert_eq!(form.dispatch().await.status().code, 403);
    assert_eq!(client.get(format!("{BASE}/ui/register")).dispatch().await.status().code, 200);
    assert_eq!(get(&client, "/queues").await["queues"], json!([]));
}

/// Registers the reference job without any role; status and answer.
async fn register(client: &Client, headers: &[(&'static str, &'static str)]) -> (u16, Value) {
    let mut request = client
        .post(format!("{BASE}/register"))
        .header(ContentType::JSON)
        .header(Header::new("Host", "jobs.example.com"))
        .body("{}");
    headers.iter().for_each(|(name, value)| request.add_header(Header::new(*name, *value)));
    let response = request.dispatch().await;
    let status = response.status().code;
    (status, response.into_json().await.unwrap_or_default())
}

#[tokio::test]
async fn pages_of_other_sites_register_and_change_nothing_unless_their_origin_is_allowed() {
    let cross = ("Sec-Fetch-Site", "cross-site");
    let shop = ("Origin", "https://shop.example");
    let evil = ("Origin", "https://evil.example");
    let foreign: [&[(&str, &str)]; 6] = [
        &[cross],
        &[cross, evil],
        &[("Sec-Fetch-Site", "same-site")],
        &[evil],
        &[("Origin", "null")],
        &[("Origin", "http://shop.example")],
    ];
    let own: [&[(&str, &str)]; 3] =
        [&[], &[("Sec-Fetch-Site", "same-origin")], &[("Origin", "http://jobs.example.com")]];
    let closed = still().await;
    let allowing = ["HTTPS://Shop.example:443", "http://localhost:3000"];
    let open = fairing().set("jobqueue.worker", false).set("jobqueue.allowed_origins", allowing);
    let open = start(open).await;
    for (client, shop_may) in [(&closed, 403), (&open, 201)] {
        for headers in foreign {
            assert_eq!(register(client, headers).await.0, 403, "{headers:?}");
        }
        for headers in own {
            assert_eq!(register(client, headers).await.0, 201, "{headers:?}");
        }
        assert_eq!(register(client, &[cross, shop]).await.0, shop_may);
        assert_eq!(register(client, &[shop]).await.0, shop_may);
        let request = client
            .post(format!("{BASE}/queues/default/pause"))
            .header(Header::new("Role", "operator"))
            .header(Header::new(shop.0, shop.1));
        let expected = if shop_may == 201 { 204 } else { 403 };
        assert_eq!(request.dispatch().await.status().code, expected);
        // Forms are taken from our own pages alone.
        let request = client
            .post(format!("{BASE}/ui/queues/default/pause"))
            .header(ContentType::Form)
            .header(Header::new("Role", "operator"))
            .header(Header::new(shop.0, shop.1));
        assert_eq!(request.dispatch().await.status().code, 403);
    }
    let (_, why) = register(&closed, &[cross]).await;
    assert!(why["detail"].as_str().unwrap().contains("jobqueue.allowed_origins"), "{why}");
}

#[tokio::test]
async fn a_client_with_a_credential_of_its_own_needs_no_body_to_change_something() {
    let fairing = fairing().set("jobqueue.worker", false).set("jobqueue.fire_periodic", true);
    let client = start(fairing.periodic(nightly())).await;
    let token = ("Authorization", "Bearer abc");
    let began = Instant::now();
    let periodic = loop {
        let found = get(&client, "/periodic").await;
        if let Some(id) = found["periodic"][0]["id"].as_str() {
            break format!("/periodic/{id}/run");
        }
        assert!(began.elapsed() < PATIENCE, "the periodic job is announced");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let act = async |method: Method, path: &str, headers: &[(&'static str, &'static str)]| {
        let mut request = client.req(method, format!("{BASE}{path}"));
        request.add_header(Header::new("Role", "operator"));
        request.add_header(Header::new("Host", "jobs.example.com"));
        headers.iter().for_each(|(name, value)| request.add_header(Header::new(*name, *value)));
        request.dispatch().await.status().code
    };
    let id = async || enqueue(&client, 1, "?delay_seconds=600").await;
    let (run, archive, duplicate, delete) = (id().await, id().await, id().await, id().await);
    for (method, path, expected) in [
        (Method::Post, format!("/jobs/mail/{run}/run"), 204),
        (Method::Post, format!("/jobs/mail/{archive}/archive"), 204),
        (Method::Post, format!("/jobs/mail/{duplicate}/duplicate"), 201),
        (Method::Delete, format!("/jobs/mail/{delete}"), 204),
        (Method::Post, "/queues/mail/pause".to_owned(), 204),
        (Method::Post, "/queues/mail/resume".to_owned(), 204),
        (Method::Post, periodic, 201),
        (Method::Post, "/doctor/repair".to_owned(), 200),
        (Method::Delete, "/queues/mail?force=true".to_owned(), 204),
    ] {
        for headers in [
            // What no client has by itself, or a browser adds by itself.
            &[][..],
            &[("Cookie", "session=abc")],
            &[("Authorization", "Basic YTpi")],
            &[("Authorization", "basic YTpi")],
            &[("Authorization", "Negotiate abc")],
            &[("Authorization", "NTLM abc")],
            &[("Authorization", "Digest username=a")],
            &[("Authorization", "Bearer")],
            &[("Authorization", "Bearer ")],
            &[token, ("Authorization", "Basic YTpi")],
            // What a browser says about another site counts more than any credential.
            &[token, ("Sec-Fetch-Site", "cross-site")],
            &[token, ("Sec-Fetch-Site", "none")],
            &[token, ("Origin", "http://evil.example")],
            &[token, ("Origin", "null")],
        ] {
            assert_eq!(act(method, &path, headers).await, 403, "{method} {path} {headers:?}");
        }
        assert_eq!(act(method, &path, &[token]).await, expected, "{method} {path}");
    }
    enqueue(&client, 1, "").await;
    for credential in
        ["bearer abc", "s3cret", "Token abc", "ApiKey abc", "AWS4-HMAC-SHA256 Credential=a"]
    {
        let headers = [("Authorization", credential)];
        assert_eq!(act(Method::Post, "/queues/mail/pause", &headers).await, 204, "{credential}");
    }
}

#[tokio::test]
async fn links_and_forms_follow_what_a_trusted_proxy_says() {
    let proxies = ["10.0.0.0/8"];
    let client =
        start(fairing().set("jobqueue.worker", false).set("jobqueue.trusted_proxies", proxies))
            .await;
    enqueue(&client, 1, "").await;
    let ask = async |method: Method, path: &str, peer: &str, headers: &[(&'static str, &str)]| {
        let mut request = client.req(method, format!("{BASE}{path}"));
        request.set_remote(format!("{peer}:4711").parse().unwrap());
        request.add_header(Header::new("Role", "operator"));
        request.add_header(Header::new("Accept", "text/html"));
        request.add_header(Header::new("Accept-Language", "en"));
        request.add_header(Header::new("Host", "app:8000"));
        request.add_header(ContentType::Form);
        for (name, value) in headers {
            request.add_header(Header::new(*name, (*value).to_owned()));
        }
        let response = request.dispatch().await;
        let to = response.headers().get_one("Location").unwrap_or_default().to_owned();
        (response.status().code, to, response.into_string().await.unwrap_or_default())
    };
    let (trusted, other) = ("10.1.2.3", "203.0.113.9");
    // A host that the proxy changed.
    let pause = "/ui/queues/mail/pause";
    let origin = ("Origin", "http://ops.example:8080");
    let host = ("X-Forwarded-Host", "ops.example:8080");
    let apart: &[(&str, &str)] =
        &[origin, ("X-Forwarded-Host", "ops.example"), ("X-Forwarded-Port", "8080")];
    let standard = &[origin, ("Forwarded", "for=1.2.3.4;host=\"ops.example:8080\";proto=http")];
    for (peer, headers, expected) in [
        (trusted, &[origin, host][..], 303),
        (trusted, &[origin, host, ("X-Forwarded-Proto", "http")], 303),
        (trusted, apart, 303),
        (trusted, standard, 303),
        (trusted, &[origin, host, ("X-Forwarded-Proto", "https")], 403),
        (trusted, &[("Origin", "http://evil.example"), host], 403),
        (trusted, &[("Origin", "http://app:8000"), host], 403),
        (trusted, &[origin], 403),
        (other, &[origin, host], 403),
        (other, standard, 403),
        (other, &[("Origin", "http://app:8000")], 303),
    ] {
        let (status, _, page) = ask(Method::Post, pause, peer, headers).await;
        assert_eq!(status, expected, "{peer} {headers:?}");
        if status == 403 {
            // A person reads what to do, on a page.
            assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
            for word in ["jobqueue.trusted_proxies", "X-Forwarded-Host", "header Host"] {
                assert!(page.contains(word), "{word}: {page}");
            }
        }
    }
    // A prefix that the proxy took off.
    let prefix = ("X-Forwarded-Prefix", "/ops");
    for path in [
        "/ui",
        "/ui/jobs",
        "/ui/failures",
        "/ui/types",
        "/ui/scheduled",
        "/ui/periodic",
        "/ui/groups",
        "/ui/servers",
        "/ui/store",
        "/ui/doctor",
        "/ui/enqueue",
        "/ui/enqueue/mail:welcome",
        "/ui/register",
        "/ui/queues/mail",
    ] {
        let (status, _, page) = ask(Method::Get, path, trusted, &[prefix]).await;
        assert_eq!(status, 200, "{path}");
        assert_eq!(repeated_attribute(&page), None, "{path}");
        for attribute in ["href=\"", "src=\"", "action=\"", "data-events=\"", "content=\"0;url="] {
            for link in page.split(attribute).skip(1) {
                let link = link.split('"').next().unwrap();
                let stays = link.starts_with("/ops/api/") || link.starts_with(['?', '#']);
                assert!(stays || link.is_empty(), "{path}: {link}");
            }
        }
        let (_, _, page) = ask(Method::Get, path, other, &[prefix]).await;
        assert!(!page.contains("/ops/"), "{path}");
        assert!(page.contains("add 203.0.113.9 to jobqueue.trusted_proxies"), "{page}");
        let (_, _, page) =
            ask(Method::Get, path, trusted, &[("X-Forwarded-Prefix", "//evil.example")]).await;
        assert!(!page.contains("\"//evil") && !page.contains("\"/evil"), "{path}");
        assert!(page.contains("X-Forwarded-Prefix is ignored"), "{path}");
    }
    let (_, to, _) = ask(Method::Post, pause, trusted, &[origin, host, prefix]).await;
    assert!(to.starts_with("/ops/api/dm-jobqueue/ui/queues/mail"), "{to}");
    let (_, _, document) = ask(Method::Get, "/openapi.json", trusted, &[prefix]).await;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["servers"][0]["url"], "/ops/api/dm-jobqueue");
    let (_, to, _) = ask(Method::Get, "/docs", trusted, &[prefix]).await;
    assert_eq!(to, "/ops/api/dm-jobqueue/docs/index.html");
}

/// The first tag with an attribute that is given twice: a browser ignores the second one.
fn repeated_attribute(page: &str) -> Option<&str> {
    let is_repeated = |tag: &&str| {
        let mut seen = std::collections::BTreeSet::new();
        // Every second part is a value in quotes.
        let names = tag.split('"').step_by(2).flat_map(str::split_whitespace).skip(1);
        let mut names = names.filter(|name| *name != "/");
        names.any(|name| !seen.insert(name.trim_end_matches('=')))
    };
    let tags = page.split('<').skip(1).filter_map(|tag| Some(tag.split_once('>')?.0));
    tags.into_iter().find(is_repeated)
}
