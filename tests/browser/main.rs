//! The pages as a person meets them: headless Chromium against a Rocket that
//! listens. Screenshots go to `target/screenshots/`.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]
#![cfg(feature = "dashboard")]

#[path = "../support/browser.rs"]
mod browser;
mod busy;
mod desk;
#[path = "../support/front.rs"]
mod front;
mod proxy;
mod registration;
#[path = "../support/mod.rs"]
mod support;
mod tasks;
mod truth;
mod workers;

use std::time::Duration;

use browser::{Browser, PLAIN, Settings, pages_of};
use fantoccini::Locator;
use fantoccini::key::Key;
use front::Front;
use rocket_jobqueue::{
    Draft, Job, JobContext, JobError, JobId, JobOptions, JobQueue, JobQueueFairing, JobRecord,
    JobState, Periodic, QueueName, RetryPolicy, inspect::Page,
};
use rstest::rstest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An application on a free port; the address of its pages.
async fn pages() -> String {
    pages_of(JobQueue::fairing().memory()).await.0
}

/// What people may write into a job, and a page must not believe.
const HOSTILE: &str = "\"><script>document.title='taken'</script><img src=x onerror=alert(1)>";

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
}

impl Job for Mail {
    const TYPE: &'static str = "mail:send";

    fn schema() -> Option<Value> {
        Some(json!({
            "type": "object",
            "required": ["to"],
            "properties": { "to": { "type": "string", "minLength": 3, "description": "Who gets it." } }
        }))
    }
}

async fn mail(job: Mail) -> Result<(), JobError> {
    Err(JobError::give_up(format!("no such address: {}", job.to)))
}

/// Jobs of every kind that a person looks for.
async fn operated() -> (String, JobQueue) {
    let weekly = Periodic::new("0 3 * * 1", Mail { to: "everybody".to_owned() });
    let fairing = JobQueue::fairing().memory().set("jobqueue.max_payload", 32 * 1024 * 1024);
    let (pages, queue) = pages_of(fairing.handle(mail).periodic(weekly)).await;
    for n in 0..3 {
        queue.enqueue(Mail { to: format!("nobody-{n}") }).await.unwrap();
    }
    queue.enqueue(Mail { to: HOSTILE.to_owned() }).await.unwrap();
    let later = Duration::from_secs(3600);
    let drafts = (0..40).map(|n| Draft::new(Mail { to: format!("later-{n}") }).delay(later));
    queue.enqueue_all(drafts).await.into_iter().for_each(|stored| drop(stored.unwrap()));
    let name = QueueName::new("default").unwrap();
    loop {
        let info = queue.inspector().queue(&name).await.unwrap();
        if info.sizes.get("archived").copied() == Some(4) {
            return (pages, queue);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[rstest]
#[case::light("operate-light", PLAIN)]
#[case::dark("operate-dark", Settings { dark: true, ..PLAIN })]
#[case::dark_phone("operate-phone", Settings { phone: true, dark: true, ..PLAIN })]
#[tokio::test]
async fn an_operator_finds_jobs_and_acts_on_them(#[case] name: &str, #[case] settings: Settings) {
    let (pages, queue) = operated().await;
    let browser = Browser::open(settings).await;
    browser.open_page(&pages).await;
    browser.shoot(&format!("{name}-overview")).await;
    browser.hold_still().await;
    browser.click("tbody th a").await;
    browser.until("h1", "Queue default").await;
    browser.click(".tabs a[href$='state=archived']").await;
    browser.until_count("tbody tr", 4).await;
    browser.shoot(&format!("{name}-archived")).await;

    // One of them, by its text.
    browser
        .client
        .find(Locator::Css("#search"))
        .await
        .unwrap()
        .send_keys("NOBODY-1")
        .await
        .unwrap();
    browser.click(".search button").await;
    browser.see("#search[value='NOBODY-1']").await;
    browser.until_count("tbody tr", 1).await;
    browser.click("tbody th a").await;
    browser.until("h1", "Job mail:send").await;
    browser.until("pre.bad", "no such address: nobody-1").await;
    browser.shoot(&format!("{name}-job")).await;

    // Its payload is changed, and it runs again, and fails again.
    browser.follow("a[href$='?edit=payload']", "#payload").await;
    let payload = browser.client.find(Locator::Css("#payload")).await.unwrap();
    payload.clear().await.unwrap();
    payload.send_keys("{\"to\":\"somebody\"}").await.unwrap();
    browser.click("form[action$='/edit'] button").await;
    browser.until("[role=status]", "The payload is changed.").await;
    browser.click("form[action$='/run'] button").await;
    browser.until("[role=status]", "The job is moved to pending.").await;
    for _ in 0..100 {
        browser.client.refresh().await.unwrap();
        browser.until("h1", "Job mail:send").await;
        let error = browser.client.find(Locator::Css("pre.bad")).await;
        if let Ok(error) = error
            && error.text().await.is_ok_and(|text| text.contains("somebody"))
        {
            break;
        }
    }
    browser.until("pre.bad", "no such address: somebody").await;
    let delete = "form[action$='/delete'] button";
    browser.unfold("details:has(form[action$='/delete']) summary", delete).await;
    browser.click("form[action$='/delete'] button").await;
    browser.until("[role=status]", "The job is deleted.").await;

    // All that are left, after being told how many.
    browser.click(".tabs a[href$='state=scheduled']").await;
    browser.until_count("tbody tr", 30).await;
    browser.click(".more a").await;
    browser.see("tbody").await;
    browser.until_count("tbody tr", 10).await;
    browser.unfold("details:has(input[value='archive']) summary", "details[open] button").await;
    browser.until("details[open] p", "All 40 scheduled jobs.").await;
    browser.click("details[open] button").await;
    browser.until("[role=status]", "40 jobs archived.").await;
    let found = queue.inspector().queue(&QueueName::new("default").unwrap()).await.unwrap();
    assert_eq!(found.sizes["archived"], 43);

    browser.click("form[action$='/pause'] button").await;
    browser.until("[role=status]", "The queue is paused.").await;
    browser.click("form[action$='/resume'] button").await;
    browser.until("[role=status]", "The queue is resumed.").await;

    browser.click("nav a[href$='/ui/periodic']").await;
    browser.until("tbody code", "0 3 * * 1").await;
    browser.click("tbody button").await;
    browser.until("[role=status]", "A job is enqueued.").await;
    browser.shoot(&format!("{name}-periodic")).await;
    browser.click("nav a[href$='/ui/servers']").await;
    browser.until("h1", "Workers").await;
    browser.shoot(&format!("{name}-servers")).await;
    browser.close().await;
}

#[rstest]
#[case::light("types-light", PLAIN)]
#[case::dark_phone("types-phone", Settings { phone: true, dark: true, ..PLAIN })]
#[tokio::test]
async fn the_slowest_job_type_is_one_click_away(#[case] name: &str, #[case] settings: Settings) {
    let (pages, queue) = operated().await;
    // What was counted since the last report is stored.
    queue.shutdown().await;
    let browser = Browser::open(settings).await;
    browser.open_page(&pages).await;
    browser.hold_still().await;
    browser.click("nav a[href$='/ui/types']").await;
    browser.until("h1", "Job types").await;
    browser.until("tbody tr:first-child th", "mail:send").await;
    browser.shoot(&format!("{name}-list")).await;
    browser.click("tbody tr:first-child th a").await;
    browser.until("h1", "mail:send").await;
    browser.until(".chart figcaption", "4 in total, 4 failed").await;
    browser.until("td.error", "no such address").await;
    browser.shoot(&format!("{name}-one")).await;
    browser.close().await;
}

#[rstest]
#[case::light("explore-light", PLAIN)]
#[case::dark_phone("explore-phone", Settings { phone: true, dark: true, ..PLAIN })]
#[tokio::test]
async fn an_operator_looks_for_what_failed_and_enqueues_by_hand(
    #[case] name: &str,
    #[case] settings: Settings,
) {
    let (pages, _queue) = operated().await;
    let browser = Browser::open(settings).await;
    browser.open_page(&format!("{pages}/failures")).await;
    browser.hold_still().await;
    browser.until("tbody tr:first-child td", "mail:send").await;
    browser.shoot(&format!("{name}-failures")).await;

    // All that failed alike are found, to be acted upon.
    browser.click("tbody tr:first-child th a").await;
    browser.until("h1", "Jobs").await;
    assert!(browser.value("#q").await.contains(r#"error:"no such address:""#));
    browser.until_count("tbody tr", 4).await;

    browser.click("nav a[href$='/ui/jobs']").await;
    browser.until_count("tbody tr", 44).await;
    let words = browser.client.find(Locator::Css("#q")).await.unwrap();
    words.send_keys("state:archived error:NOBODY-2 type:mail:send").await.unwrap();
    browser.click(".search button").await;
    browser.until_count("tbody tr", 1).await;
    assert_eq!(browser.value("#q").await, "state:archived error:NOBODY-2 type:mail:send");
    browser.shoot(&format!("{name}-jobs")).await;
    browser.open_page(&format!("{pages}/jobs?q=state:asleep")).await;
    browser.until("[role=alert]", "Nothing was searched").await;
    browser.until_count("tbody tr, form.select", 0).await;

    browser.click("nav a[href$='/ui/enqueue']").await;
    browser.click("main li a[href$='mail:send']").await;
    browser.until("h1", "mail:send").await;
    let to = browser.client.find(Locator::Css("[name='field.to']")).await.unwrap();
    to.send_keys("me").await.unwrap();
    browser.click("main form[method=post] button").await;
    browser.until("[role=alert]", "1 field is wrong").await;
    assert_eq!(browser.value("[name='field.to']").await, "me");
    let to = browser.client.find(Locator::Css("[name='field.to']")).await.unwrap();
    to.send_keys(" and you").await.unwrap();
    browser
        .client
        .find(Locator::Css("#delay_seconds"))
        .await
        .unwrap()
        .send_keys("600")
        .await
        .unwrap();
    browser.click("main form[method=post] button").await;
    browser.until("[role=status]", "The job is enqueued.").await;
    browser.until("pre", r#"{"to":"me and you"}"#).await;
    browser.shoot(&format!("{name}-enqueue")).await;
    browser.click("[role=status] a").await;
    browser.until("section pre", "me and you").await;
    browser.close().await;
}

#[tokio::test]
async fn a_page_follows_what_happens_until_it_is_paused() {
    let (pages, queue) = operated().await;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&pages).await;
    browser.until("[data-sentence]", "Live, as of ").await;
    let scheduled = "tbody td:nth-of-type(3)";
    browser.until(scheduled, "40").await;
    let later = Duration::from_secs(3600);
    queue.enqueue(Mail { to: "another".to_owned() }).delay(later).await.unwrap();
    browser.until(scheduled, "41").await;

    browser.hold_still().await;
    queue.enqueue(Mail { to: "one more".to_owned() }).delay(later).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    browser.until(scheduled, "41").await;
    browser.click("[data-freshness] button").await;
    browser.until(scheduled, "42").await;
    browser.close().await;
}

#[tokio::test]
async fn everything_can_be_read_without_scripts_and_in_japanese() {
    let (pages, queue) = operated().await;
    let browser = Browser::open(Settings { scripts: false, language: "ja", ..PLAIN }).await;
    for (path, title) in [
        ("", "ジョブキュー"),
        ("/queues/default?state=archived", "キュー default"),
        ("/jobs?q=state:archived", "ジョブ検索"),
        ("/failures", "失敗"),
        ("/enqueue", "ジョブを登録"),
        ("/enqueue/mail:send", "mail:send"),
        ("/periodic", "定期実行"),
        ("/servers", "ワーカー"),
        ("/queues/none", "ジョブキュー"),
    ] {
        browser.open_page(&format!("{pages}{path}")).await;
        browser.until("h1", title).await;
    }
    let name = QueueName::new("default").unwrap();
    let found = queue.inspector().jobs(&name, JobState::Scheduled, &Page::default()).await.unwrap();
    let id = found.rows[0].id();
    browser.open_page(&format!("{pages}/jobs/default/{id}")).await;
    browser.until("h1", "ジョブ mail:send").await;
    assert!(browser.see("pre").await.contains("later-"));
    browser.shoot("operate-ja-job").await;
    browser.close().await;
}

#[tokio::test]
async fn a_job_is_found_by_its_id_and_hostile_text_stays_text() {
    let (pages, queue) = operated().await;
    let name = QueueName::new("default").unwrap();
    let page = Page::default().size(100).unwrap();
    let found = queue.inspector().jobs(&name, JobState::Archived, &page).await.unwrap();
    let is_hostile =
        |info: &&rocket_jobqueue::inspect::JobInfo| info.record.last_error.contains("<script>");
    let id =
        found.rows.iter().filter_map(|row| row.job()).find(is_hostile).unwrap().record.id.clone();

    let browser = Browser::open(PLAIN).await;
    browser.open_page(&pages).await;
    browser.hold_still().await;
    browser.client.find(Locator::Css("#find")).await.unwrap().send_keys(id.as_str()).await.unwrap();
    browser.click(".find button").await;
    browser.until("h1", "Job mail:send").await;
    assert!(browser.see("pre.bad").await.contains(HOSTILE));
    assert!(browser.see("section pre:not(.bad)").await.contains("<script>"));
    assert_eq!(browser.client.title().await.unwrap(), "Job mail:send");
    browser.until_count("img, script:not([src])", 0).await;

    browser.open_page(&format!("{pages}/queues/default?state=archived&search=%3Cscript%3E")).await;
    assert_eq!(browser.value("#search").await, "<script>");
    browser.until_count("tbody tr", 1).await;
    browser.until_count("img, script:not([src])", 0).await;

    browser.open_page(&format!("{pages}/find?id=nobody")).await;
    browser.until("main .card", "No job has this ID.").await;
    browser.close().await;
}

#[tokio::test]
async fn a_job_of_any_size_and_id_has_a_page_that_is_drawn_at_once() {
    let (pages, queue) = operated().await;
    let words = format!("{{\"text\":\"{}\"}}", "Wort ".repeat(14 * 1024 * 1024 / 5));
    let numbers = format!("[{}0]", "1234567, ".repeat(1_200_000));
    let browser = Browser::open(PLAIN).await;
    for (kind, id, payload) in [("words", "..", words), ("numbers", "7\u{202e}8", numbers)] {
        let job = queue.enqueue_raw(format!("large:{kind}"), Some(payload.into_bytes()));
        job.id(id).delay(Duration::from_secs(3600)).await.unwrap();
        // By the link that the list has.
        browser.open_page(&format!("{pages}/jobs?q=state:scheduled+type:large:{kind}")).await;
        browser.until_count("tbody tr", 1).await;
        browser.click("tbody th a").await;
        browser.until("h1", &format!("Job large:{kind}")).await;
        browser.until("section p.hint", "The beginning of ").await;
        browser.until_count("textarea", 0).await;
        let paint = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime";
        let paint = browser.client.execute(paint, Vec::new()).await.unwrap();
        println!("{kind}: first paint after {paint} ms");
        assert!(paint.as_f64().is_none_or(|ms| ms < 20_000.0), "{paint}");
        let text = browser.see("main").await;
        assert!(!text.contains('\u{202e}'), "{text}");
        browser.click("form[action$='/archive'] button").await;
        browser.until("[role=status]", "The job is archived.").await;
    }
    browser.close().await;
}
