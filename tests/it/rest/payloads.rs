//! Large and odd payloads on pages: as they are stored, and no page is larger than a
//! browser draws at once.

#![cfg(feature = "dashboard")]

use super::*;

async fn page(client: &Client, path: &str) -> (u16, String) {
    let mut request = client.get(format!("{BASE}{path}"));
    request.add_header(Header::new("Role", "operator"));
    request.add_header(Header::new("Accept-Language", "en"));
    let response = request.dispatch().await;
    let status = response.status().code;
    (status, response.into_string().await.unwrap_or_default())
}

/// A page's text, as a browser shows it.
fn text(page: &str) -> String {
    page.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[tokio::test]
async fn payloads_are_shown_as_they_are_stored() {
    let client = still().await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    let odd: [(&[u8], &str); 9] = [
        (b"12345678901234567890123", "12345678901234567890123"),
        (b"{\"a\":1e2,\"b\":[1.00,-0]}", "\"a\": 1e2"),
        (b"[1E+999]", "1E+999"),
        (b"{\"a\":1,\"a\":2}", "\"a\": 1,\n  \"a\": 2"),
        (b"\"\\u0041\"", "\"\\u0041\""),
        (b"{\"a\":", "{\"a\":"),
        (b"\xff\xfe", "ff fe"),
        (b"<script>", "<script>"),
        (b"\"\xe2\x80\xae\"", "U+202E"),
    ];
    for (nth, (payload, shown)) in odd.into_iter().enumerate() {
        let raw = queue.enqueue_raw("odd", Some(payload.to_vec())).queue("mail");
        let raw = raw.id(format!("odd-{nth}")).header("n", "12345678901234567890123");
        raw.await.unwrap();
        let (status, page) = page(&client, &format!("/ui/jobs/mail/odd-{nth}")).await;
        assert_eq!(status, 200);
        assert!(text(&page).contains(shown), "{shown}: {page}");
        assert!(!page.contains("<textarea"), "the form is there unasked");
        let mut request = client.get(format!("{BASE}/ui/jobs/mail/odd-{nth}/payload"));
        request.add_header(Header::new("Role", "viewer"));
        let response = request.dispatch().await;
        let disposition = response.headers().get_one("Content-Disposition").unwrap();
        assert!(disposition.starts_with("attachment"), "{disposition}");
        assert_eq!(response.content_type(), Some(ContentType::Binary));
        assert_eq!(response.into_bytes().await.unwrap(), payload);
    }
    let (_, form) = page(&client, "/ui/jobs/mail/odd-0?edit=payload").await;
    assert!(form.contains("<textarea") && form.contains("\n12345678901234567890123</textarea>"));
    // What is saved unchanged is unchanged, and what a form enqueues has its digits.
    let post = async |path: &str, body: String| {
        let mut request = client.post(format!("{BASE}{path}")).body(body);
        request.add_header(ContentType::Form);
        request.add_header(Header::new("Role", "operator"));
        request.add_header(Header::new("Sec-Fetch-Site", "same-origin"));
        let response = request.dispatch().await;
        (response.status().code, response.into_string().await.unwrap_or_default())
    };
    let (status, _) =
        post("/ui/jobs/mail/odd-0/edit", "payload=12345678901234567890123".to_owned()).await;
    assert_eq!(status, 303);
    let job = get(&client, "/jobs/mail/odd-0").await;
    assert_eq!(job["payload"], "12345678901234567890123");
    let no_json = format!("payload={}", "%41".repeat(50_000));
    let (status, answer) = post("/ui/jobs/mail/odd-0/edit", no_json).await;
    assert!(status == 422 && answer.contains("payload: expected JSON"), "{status}");
    let (status, answer) =
        post("/ui/jobs/mail/odd-0/edit", format!("payload=\"{}\"", "x".repeat(60_000))).await;
    assert_eq!(status, 303, "{answer}");
    let (status, answer) =
        post("/ui/enqueue/long", "json=[1.00,+12345678901234567890123]".to_owned()).await;
    assert!(status == 422 && answer.contains("expected unit struct"), "{answer}");
}

#[tokio::test]
async fn a_page_of_a_large_job_has_the_beginning_its_size_and_a_download() {
    let client = start(
        fairing().set("jobqueue.worker", false).set("jobqueue.max_payload", 32 * 1024 * 1024),
    )
    .await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    let words = format!("{{\"text\":\"{}\"}}", "Wort ".repeat(14 * 1024 * 1024 / 5));
    let numbers = format!("[{}0]", "1234567, ".repeat(1_200_000));
    let deep = "[".repeat(30_000) + &"]".repeat(30_000);
    let bytes = vec![0xfe; 70_000];
    let whole = format!("[{}0]", "1, ".repeat(21_000));
    for (id, payload) in [
        ("words", words.into_bytes()),
        ("numbers", numbers.into_bytes()),
        ("deep", deep.into_bytes()),
        ("bytes", bytes),
        ("whole", whole.into_bytes()),
    ] {
        let size = payload.len();
        let raw = queue.enqueue_raw("large", Some(payload)).queue("mail").id(id);
        let mut raw = raw.delay(Duration::from_secs(600));
        for n in 0..300 {
            raw = raw.header(format!("header-{n}"), "x".repeat(5_000));
        }
        raw.await.unwrap();
        for path in [format!("/ui/jobs/mail/{id}"), format!("/ui/jobs/mail/{id}?edit=payload")] {
            let (status, page) = page(&client, &path).await;
            assert_eq!(status, 200);
            println!("{path}: {size} bytes of payload, {} of page", page.len());
            assert!(page.len() < 600 * 1024, "{path}: {}", page.len());
            assert!(page.contains(&format!("{size} bytes")), "{path}");
            assert!(page.contains(&format!("/ui/jobs/mail/{id}/payload\" download")), "{path}");
            assert!(page.contains(&format!("/ui/jobs/mail/{id}/headers\" download")), "{path}");
            assert!(!page.contains("<textarea") || size <= 64 * 1024, "{path}");
        }
        let mut request = client.get(format!("{BASE}/ui/jobs/mail/{id}/payload"));
        request.add_header(Header::new("Role", "viewer"));
        assert_eq!(request.dispatch().await.into_bytes().await.unwrap().len(), size);
    }
    let mut request = client.get(format!("{BASE}/ui/jobs/mail/words/nothing"));
    request.add_header(Header::new("Role", "viewer"));
    assert_eq!(request.dispatch().await.status().code, 404);
}

#[tokio::test]
async fn a_list_shows_the_beginning_of_a_large_job_type() {
    let client = still().await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    let name = "t".repeat(500_000);
    for nth in 0..3 {
        let job = queue.enqueue_raw(&name, None).queue("mail").id(format!("large-{nth}"));
        let job = job.await.unwrap();
        queue.inspector().archive(&job.queue, &job.id).await.unwrap();
    }
    // The first line of this one is empty, and its link must have a text.
    let odd = queue.enqueue_raw("\nodd:type", None).queue("mail").await.unwrap();
    let (_, list) = page(&client, "/ui/jobs").await;
    let link = list.split(&format!("/ui/jobs/mail/{}\">", odd.id)).nth(1).unwrap();
    assert!(link.split("</a>").next().unwrap().contains("odd:type"), "{list}");
    for path in ["/ui/jobs", "/ui/failures", "/ui/queues/mail?state=archived", "/ui"] {
        let (status, page) = page(&client, path).await;
        assert_eq!(status, 200, "{path}");
        assert!(page.len() < 50_000, "{path}: {} bytes", page.len());
        assert!(path == "/ui" || page.contains("tttt"), "{path}");
    }
}
