//! The page with the reference job's form.

use super::*;

const FORM: &str = "message=&delay_seconds=&max_retry=";

async fn submit(client: &Client, body: &str, headers: &[(&'static str, &str)]) -> (u16, String) {
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
#[case(Some("ja"), "ジョブキュー（サンプルジョブ）")]
#[case(Some("en-GB"), "Job queue (reference code)")]
#[case(None, "Job queue (reference code)")]
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
    assert_eq!((page.status(), page.content_type()), (Status::Forbidden, Some(ContentType::HTML)));
    assert!(page.headers().contains("Content-Security-Policy"));
}

#[tokio::test]
async fn it_is_switched_off_with_the_route() {
    let client = client(&[("jobqueue.register_route", json!(false))]).await;
    let response = client.get(format!("{BASE}/ui/register")).dispatch().await;
    assert_eq!(response.status(), Status::NotFound);
}
