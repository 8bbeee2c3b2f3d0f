//! The pages as a person meets them: headless Chromium against a Rocket that
//! listens. Screenshots go to `target/screenshots/`.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]
#![cfg(feature = "dashboard")]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/front.rs"]
mod front;
mod support;

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

#[rstest]
#[case::light("register-light", PLAIN)]
#[case::dark("register-dark", Settings { dark: true, ..PLAIN })]
#[case::phone("register-phone", Settings { phone: true, ..PLAIN })]
#[case::without_scripts("register-without-scripts", Settings { scripts: false, ..PLAIN })]
#[case::japanese("register-ja", Settings { language: "ja", ..PLAIN })]
#[tokio::test]
async fn a_job_is_registered_by_keyboard(#[case] name: &str, #[case] settings: Settings) {
    let pages = pages().await;
    let browser = Browser::open(settings).await;
    browser.client.goto(&format!("{pages}/register")).await.expect("the page opens");
    let japanese = settings.language == "ja";
    let title = browser.client.title().await.expect("a title");
    assert_eq!(title == "ジョブキュー（参考コード）", japanese, "{title}");
    assert_eq!(browser.see("h1").await, title);
    browser.shoot(name).await;

    for typed in ["from a keyboard", "60", "3"] {
        browser.tab().await;
        browser.keys(typed).await;
    }
    assert_eq!(browser.value("#delay_seconds").await, "60");
    browser.keys(&Key::Enter.to_string()).await;

    let said = browser.see("[role=status]").await;
    let expected =
        if japanese { "ジョブを登録しました。" } else { "The job is registered." };
    assert!(said.contains(expected), "{said}");
    let id = browser.see("#job-id").await;
    assert_eq!(id.len(), 36, "{id}");
    assert_eq!(browser.value("#message").await, "");
    browser.shoot(&format!("{name}-done")).await;

    // A reload sends the same form again, and gets the same job.
    browser.client.refresh().await.expect("the page reloads");
    assert_eq!(browser.see("#job-id").await, id);
    browser.close().await;
}

#[rstest]
#[case::light("register-wrong-light", PLAIN)]
#[case::dark_phone_without_scripts(
    "register-wrong-dark-phone",
    Settings { dark: true, phone: true, scripts: false, ..PLAIN }
)]
#[tokio::test]
async fn what_is_wrong_is_said_where_it_is_wrong(#[case] name: &str, #[case] settings: Settings) {
    let pages = pages().await;
    let browser = Browser::open(settings).await;
    browser.client.goto(&format!("{pages}/register")).await.expect("the page opens");
    for typed in ["keep me", "-1", "many"] {
        browser.tab().await;
        browser.keys(typed).await;
    }
    // On to the button, and press it.
    browser.tab().await;
    browser.keys(" ").await;

    assert_eq!(browser.see("[role=alert]").await, "Some fields are invalid.");
    assert_eq!(browser.see("#delay_seconds-error").await, "Enter 0 or more.");
    assert_eq!(browser.see("#max_retry-error").await, "Enter a whole number.");
    for (field, kept) in [("message", "keep me"), ("delay_seconds", "-1"), ("max_retry", "many")] {
        assert_eq!(browser.value(&format!("#{field}")).await, kept);
    }
    let focused = browser.client.active_element().await.expect("something has the focus");
    assert_eq!(focused.attr("id").await.expect("an attribute").as_deref(), Some("delay_seconds"));
    browser.shoot(name).await;
    browser.close().await;
}

#[rstest]
#[case::light("overview-light", PLAIN)]
#[case::dark_phone("overview-dark-phone", Settings { dark: true, phone: true, ..PLAIN })]
#[tokio::test]
async fn the_overview_counts_what_the_form_registered(
    #[case] name: &str,
    #[case] settings: Settings,
) {
    let pages = pages().await;
    let browser = Browser::open(settings).await;
    browser.client.goto(&pages).await.expect("the page opens");
    let to_form = browser.client.find(Locator::Css("nav a[href$='/register']")).await;
    to_form.expect("a link to the form").click().await.expect("a click");
    browser.see("form").await;
    for key in [Key::Tab, Key::Enter] {
        browser.keys(&key.to_string()).await;
    }
    browser.see("#job-id").await;

    browser.client.goto(&pages).await.expect("the page opens");
    assert_eq!(browser.see("tbody th").await, "default");
    assert_eq!(browser.see("tbody td:nth-of-type(3)").await, "1", "scheduled");
    browser.shoot(name).await;
    browser.close().await;
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
    browser.click("a[href$='?edit=payload']").await;
    browser.until_count("#payload", 1).await;
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
    browser.until("[data-live]", "Live").await;
    let scheduled = "tbody td:nth-of-type(3)";
    browser.until(scheduled, "40").await;
    let later = Duration::from_secs(3600);
    queue.enqueue(Mail { to: "another".to_owned() }).delay(later).await.unwrap();
    browser.until(scheduled, "41").await;

    browser.click("[data-live]").await;
    browser.until("[data-live]", "Paused").await;
    queue.enqueue(Mail { to: "one more".to_owned() }).delay(later).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    browser.until(scheduled, "41").await;
    browser.click("[data-live]").await;
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

/// Fails twice, then succeeds and is kept.
#[derive(Serialize, Deserialize)]
struct Flaky;

impl Job for Flaky {
    const TYPE: &'static str = "report:build";

    fn options() -> JobOptions {
        JobOptions::new().retention(Duration::from_secs(3600))
    }

    fn retry_policy() -> Option<RetryPolicy> {
        Some(RetryPolicy::new(|_| Duration::from_millis(1)))
    }
}

async fn flaky(_job: Flaky, context: JobContext) -> Result<Value, JobError> {
    match context.attempt() {
        1 => Err(JobError::failed("the database is away\nconnection refused (os error 111)")),
        2 => Err(JobError::failed("timed out")),
        _ => Ok(json!({ "pages": 12 })),
    }
}

/// Jobs in all states and what a person has to look after.
async fn busy() -> (String, JobQueue) {
    let fairing = JobQueue::fairing()
        .memory()
        .handle(mail)
        .handle(flaky)
        .aggregate(async |_group: String, _jobs: Vec<JobRecord>| {
            Ok::<_, JobError>(Draft::raw("digest", None))
        })
        .set("jobqueue.group_grace", "600s");
    let (pages, queue) = pages_of(fairing).await;
    queue.enqueue(Flaky).id("flaky").await.unwrap();
    for n in 0..20_u64 {
        let mail = Mail { to: format!("later-{n}") };
        queue.enqueue(mail).id(format!("later-{n}")).delay(minutes(1 + 4 * n)).await.unwrap();
    }
    for n in 0..12 {
        queue.enqueue(Mail { to: format!("nobody-{n}") }).await.unwrap();
    }
    for (n, group) in ["daily", "daily", "weekly"].iter().enumerate() {
        let job = queue.enqueue_raw("news", Some(format!("{n}").into_bytes()));
        job.group(*group).await.unwrap();
    }
    // No worker serves it.
    queue.enqueue_raw("mail:go", None).queue("forgotten").await.unwrap();
    let (name, id) = (QueueName::new("default").unwrap(), JobId::new("flaky").unwrap());
    loop {
        let archived = queue.inspector().queue(&name).await.unwrap().sizes["archived"];
        let report = queue.inspector().job(&name, &id).await.unwrap().unwrap();
        if archived == 12 && report.state == JobState::Completed {
            return (pages, queue);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[rstest]
#[case::light("busy-light", PLAIN)]
#[case::dark_phone("busy-phone", Settings { phone: true, dark: true, ..PLAIN })]
#[case::japanese("busy-ja", Settings { language: "ja", ..PLAIN })]
#[tokio::test]
async fn the_overview_says_what_needs_a_look_and_leads_to_the_rest(
    #[case] name: &str,
    #[case] settings: Settings,
) {
    let (pages, _queue) = busy().await;
    let english = settings.language == "en";
    let say = |japanese: &'static str, english_words: &'static str| match english {
        true => english_words,
        false => japanese,
    };
    let browser = Browser::open(settings).await;
    browser.open_page(&pages).await;
    browser.hold_still_in(say("一時停止中", "Paused")).await;
    let needs = say("処理するワーカーがありません", "no worker serves this queue");
    browser.until("section.notice li", needs).await;
    browser.until("dl", say("次の予定", "Next due")).await;
    browser.shoot(&format!("{name}-overview")).await;

    browser.click("nav a[href$='/ui/scheduled']").await;
    browser.until("h1", say("予定", "Scheduled")).await;
    browser.until_count("figure.chart", 2).await;
    browser.until_count("tbody tr", 20).await;
    browser.until("tbody tr:first-child th", "later-0").await;
    browser.shoot(&format!("{name}-scheduled")).await;

    browser.click("nav a[href$='/ui/groups']").await;
    browser.until("h1", say("グループ", "Groups")).await;
    browser.until_count("tbody tr", 2).await;
    browser.shoot(&format!("{name}-groups")).await;
    browser.click("tbody a[href$='group?group=daily']").await;
    browser.until("h1", "daily").await;
    browser.until_count("tbody tr", 2).await;
    let archive = "details:has(input[value='archive'])";
    browser.unfold(&format!("{archive} summary"), &format!("{archive} button")).await;
    browser.click(&format!("{archive} button")).await;
    browser.until("[role=status]", "2").await;
    browser.until_count("tbody tr", 0).await;

    browser.click("nav a[href$='/ui/store']").await;
    browser.until("h1", say("ストア", "Store")).await;
    browser.click(".more a").await;
    browser.until("h1", say("データの検査", "Doctor")).await;
    browser.until("main .card", say("問題はありません", "No problems found")).await;

    browser.open_page(&format!("{pages}/jobs/default/flaky")).await;
    browser.until("h1", "report:build").await;
    browser.until_count(".timeline li", 4).await;
    browser.until(".timeline li:nth-child(1)", "the database is away").await;
    browser.until(".timeline li:nth-child(2)", "timed out").await;
    browser.until("section pre", "").await;
    browser.shoot(&format!("{name}-attempts")).await;
    browser.close().await;
}

#[tokio::test]
async fn jobs_are_selected_and_acted_upon_after_a_question() {
    let (pages, queue) = busy().await;
    let name = QueueName::new("default").unwrap();
    let sizes = async || queue.inspector().queue(&name).await.unwrap().sizes;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&format!("{pages}/jobs?q=state:scheduled")).await;
    browser.hold_still().await;
    browser.until_count("tbody tr", 20).await;
    for n in [3, 7] {
        browser.click(&format!("input[value='default/later-{n}']")).await;
    }
    browser.shoot("select-jobs").await;
    browser.click("fieldset:nth-of-type(1) button[value='archive']").await;
    browser.until("main form p", "Archive: 2 jobs.").await;
    assert_eq!(sizes().await["scheduled"], 20, "nothing has happened yet");
    browser.shoot("select-question").await;
    browser.click("main form:not(.find) button").await;
    browser.until("[role=status]", "2 jobs archived.").await;
    assert_eq!(browser.value("#q").await, "state:scheduled");
    assert_eq!((sizes().await["scheduled"], sizes().await["archived"]), (18, 14));

    // All that match: text too, in whatever queue.
    browser.open_page(&format!("{pages}/jobs?q=state:scheduled+later-1")).await;
    browser.until_count("tbody tr", 11).await;
    browser.click("fieldset:nth-of-type(2) button[value='delete']").await;
    browser.until("main form p", "Delete: 11 jobs.").await;
    browser.click("main form:not(.find) button").await;
    browser.until("[role=status]", "11 jobs deleted.").await;
    assert_eq!(sizes().await["scheduled"], 7);

    // Without a selection nothing happens; what cannot be acted upon is left.
    browser.open_page(&format!("{pages}/jobs?q=state:completed")).await;
    browser.click("fieldset:nth-of-type(1) button[value='delete']").await;
    browser.until("main .card", "No jobs are selected.").await;
    browser.open_page(&format!("{pages}/jobs?q=state:archived")).await;
    browser.click("fieldset:nth-of-type(2) button[value='archive']").await;
    browser.click("main form:not(.find) button").await;
    browser.until("[role=status].bad", "14 were not changed").await;
    browser.close().await;
}

#[tokio::test]
async fn a_job_is_duplicated_and_enqueued_with_options() {
    let (pages, queue) = busy().await;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&format!("{pages}/jobs/default/later-5")).await;
    browser.hold_still().await;
    browser.click("form[action$='/duplicate'] button").await;
    browser.until("[role=status]", "This is the duplicate.").await;
    browser.until("section pre", "").await;
    let at = browser.client.current_url().await.unwrap().to_string();
    assert!(!at.contains("later-5"), "{at}");
    assert!(browser.see("main").await.contains("later-5"), "its payload");

    browser.open_page(&format!("{pages}/enqueue/mail:send")).await;
    for (field, text) in
        [("[name='field.to']", "them"), ("#queue", "other"), ("#unique_seconds", "60")]
    {
        let input = browser.client.find(Locator::Css(field)).await.unwrap();
        input.send_keys(text).await.unwrap();
    }
    browser.click("main form[method=post] button").await;
    browser.until("[role=status]", "The job is enqueued.").await;
    browser.until("main > div pre", "?queue=other&unique_seconds=60").await;
    let other = QueueName::new("other").unwrap();
    assert_eq!(queue.inspector().queue(&other).await.unwrap().sizes["pending"], 1);
    browser.click("main form[method=post] button").await;
    browser.until("[role=alert]", "is in queue").await;

    browser.open_page(&format!("{pages}/queues/other")).await;
    let delete = "form[action$='/delete'] button";
    browser.unfold(&format!("details:has({delete}) summary"), delete).await;
    browser.until("details[open] p", "Deletes the queue and its jobs (1)").await;
    browser.click(delete).await;
    browser.until("[role=status]", "The queue is deleted.").await;
    assert!(queue.inspector().queue(&other).await.unwrap_err().is_not_found());
    browser.close().await;
}

#[rstest]
#[case::light("long-light", PLAIN)]
#[case::without_scripts("long-without-scripts", Settings { scripts: false, ..PLAIN })]
#[tokio::test]
async fn an_action_that_takes_long_shows_how_far_it_is(
    #[case] name: &str,
    #[case] settings: Settings,
) {
    const JOBS: u64 = 200_000;
    let redis = support::RedisServer::start::<&str>(&[]);
    let fairing = JobQueue::fairing()
        .set("databases.jobqueue.url", format!("redis://{}", redis.addr()))
        .set("jobqueue.worker", false);
    let (pages, queue) = pages_of(fairing).await;
    for _ in 0..JOBS / 10_000 {
        let drafts = (0..10_000).map(|_| Draft::raw("mail", None).delay(minutes(60)));
        for stored in queue.enqueue_all(drafts).await {
            stored.unwrap();
        }
    }
    let browser = Browser::open(settings).await;
    if settings.scripts {
        browser.open_page(&format!("{pages}/queues/default?state=scheduled")).await;
        browser.hold_still().await;
        let delete = "details:has(input[value='delete'])";
        browser.unfold(&format!("{delete} summary"), &format!("{delete} button")).await;
        browser.until(&format!("{delete} p"), "All 200000 scheduled jobs.").await;
        browser.click(&format!("{delete} button")).await;
        browser.until("h1", "Delete all: default").await;
        browser.shoot(name).await;
        browser.until("[role=status]", "200000 jobs deleted.").await;
        browser.close().await;
        return;
    }
    // What a permitted click does: a driver's clicks hang without scripts.
    let form = [("state", "scheduled"), ("action", "delete")];
    let answer = reqwest::Client::new()
        .post(format!("{pages}/queues/default/actions"))
        .header("Origin", pages.split("/api").next().unwrap())
        .header("Accept-Language", "en")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form.map(|(key, value)| format!("{key}={value}")).join("&"));
    let mut answer = answer.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["content-security-policy"].to_str().unwrap().contains("default-src"));
    let (mut text, mut parts) = (String::new(), 0);
    while let Some(part) = answer.chunk().await.unwrap() {
        text.push_str(&String::from_utf8_lossy(&part));
        parts += 1;
    }
    assert!(parts > 2, "it comes bit by bit: {parts}");
    assert!(text.contains("<progress max=\"200000\"") && text.ends_with("</html>"), "{text}");
    let file = tempfile::NamedTempFile::with_suffix(".html").unwrap();
    std::fs::write(file.path(), text.replace("http-equiv=\"refresh\"", "")).unwrap();
    browser.open_page(&format!("file://{}", file.path().display())).await;
    browser.until("h1", "Delete all: default").await;
    browser.until(".steps > :last-child", "200000 / 200000 jobs deleted.").await;
    browser.shoot(name).await;
    let name = QueueName::new("default").unwrap();
    assert_eq!(queue.inspector().queue(&name).await.unwrap().size, 0);
    browser.close().await;
}

/// The page at the proxy, for a queue with a job.
async fn behind(front: Front, fairing: JobQueueFairing) -> String {
    let (pages, queue) = pages_of(fairing).await;
    queue.enqueue_raw("mail", None).await.unwrap();
    let application = pages.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let front_at = front.before(application.parse().unwrap()).await;
    format!("http://{front_at}{}/api/dm-jobqueue/ui", front.prefix)
}

#[tokio::test]
async fn behind_a_reverse_proxy_links_stay_and_buttons_work_or_the_page_says_what_to_set() {
    let still = || JobQueue::fairing().memory().set("jobqueue.worker", false);
    let trusting = || still().set("jobqueue.trusted_proxies", ["127.0.0.1"]);
    let browser = Browser::open(PLAIN).await;

    let pages = behind(Front { prefix: "/ops", tells: true }, trusting()).await;
    browser.open_page(&pages).await;
    browser.hold_still().await;
    let links = browser.client.find_all(Locator::Css("a")).await.unwrap();
    assert!(links.len() > 10);
    for link in links {
        let to = link.prop("href").await.unwrap().unwrap();
        assert!(to.starts_with(&pages) || to.contains("/ops/api/dm-jobqueue/"), "{to}");
    }
    browser.click("tbody th a").await;
    browser.click("form[action$='/pause'] button").await;
    browser.until("[role=status]", "The queue is paused.").await;
    let docs = pages.replace("/ui", "/docs/index.html");
    browser.open_page(&docs).await;
    browser.until("#swagger-ui", "/queues/{name}/pause").await;

    let pages = behind(Front { prefix: "/ops", tells: true }, still()).await;
    browser.open_page(&pages).await;
    browser.until("[role=status]", "add 127.0.0.1 to jobqueue.trusted_proxies").await;

    let pages = behind(Front { prefix: "", tells: false }, trusting()).await;
    browser.open_page(&format!("{pages}/queues/default")).await;
    browser.hold_still().await;
    browser.click("form[action$='/pause'] button").await;
    browser.until("[role=alert]", "let it keep the header Host").await;
    browser.shoot("proxy-refusal").await;
    browser.close().await;
}

#[cfg(feature = "openapi")]
#[tokio::test]
async fn the_documentation_breaks_no_rule_of_its_own_policy() {
    let pages = pages().await;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&pages.replace("/ui", "/docs")).await;
    browser.until("#swagger-ui", "/register").await;
    browser.click("#operations-jobqueue-demo-register-demo-job button").await;
    browser.until("#operations-jobqueue-demo-register-demo-job", "delay_seconds").await;
    browser.click("#operations-jobqueue-demo-register-demo-job .try-out button").await;
    browser.click("#operations-jobqueue-demo-register-demo-job .execute").await;
    browser.until("#operations-jobqueue-demo-register-demo-job .live-responses-table", "201").await;
    browser.shoot("docs").await;
    assert_eq!(browser.refusals().await, Vec::<String>::new());
    // Such a thing would be told.
    let styled = "document.body.insertAdjacentHTML('beforeend', '<p style=\"color:red\">')";
    browser.client.execute(styled, Vec::new()).await.unwrap();
    let refusals = browser.refusals().await;
    assert!(refusals[0].starts_with("style-src"), "{refusals:?}");
    browser.close().await;
}

/// What a page of another origin may try with the credentials of its reader.
const ATTACK: &str = r#"
    const [base, done] = arguments;
    const tries = [];
    const ask = (method, path, options) =>
        tries.push(fetch(base + path, { method, credentials: 'include', ...options }).catch(() => 0));
    for (const mode of ['no-cors', 'cors']) {
        ask('POST', '/queues/default/pause', { mode });
        ask('POST', '/queues/default/pause', { mode, headers: { 'Content-Type': 'text/plain' }, body: '{}' });
        ask('POST', '/queues/default/pause', { mode, headers: { Authorization: 'Bearer x' } });
        ask('POST', '/register', { mode, headers: { 'Content-Type': 'text/plain' }, body: '{}' });
        ask('POST', '/register', { mode, headers: { 'Content-Type': 'application/json' }, body: '{}' });
        ask('POST', '/ui/register', { mode, body: new URLSearchParams({ message: 'x' }) });
        ask('POST', '/ui/queues/default/pause', { mode, body: new URLSearchParams() });
    }
    ask('DELETE', '/queues/default?force=true', {});
    for (const type of ['application/json', 'text/plain']) {
        navigator.sendBeacon(base + '/register', new Blob(['{}'], { type }));
        navigator.sendBeacon(base + '/queues/default/pause', new Blob(['{}'], { type }));
    }
    const sent = (path, enctype) => new Promise((resolve) => {
        const frame = document.createElement('iframe');
        frame.name = `f${path}${enctype}`;
        const form = document.createElement('form');
        Object.assign(form, { method: 'post', action: base + path, enctype, target: frame.name });
        const input = document.createElement('input');
        Object.assign(input, { name: '{"message":"x', value: '"}' });
        form.append(input);
        document.body.append(frame, form);
        frame.addEventListener('load', () => setTimeout(resolve, 200), { once: true });
        form.submit();
        setTimeout(resolve, 1500);
    });
    for (const path of ['/register', '/ui/register', '/queues/default/pause', '/ui/queues/default/pause'])
        for (const enctype of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data'])
            tries.push(sent(path, enctype));
    Promise.all(tries).then((all) => setTimeout(() => done(all.length), 500));
"#;

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing_whatever_it_sends() {
    let fairing = JobQueue::fairing()
        .memory()
        .set("jobqueue.worker", false)
        .set("jobqueue.trusted_proxies", ["127.0.0.1"]);
    let (pages, queue) = pages_of(fairing).await;
    let elsewhere = self::pages().await;
    queue.enqueue_raw("mail", None).await.unwrap();
    let direct = pages.strip_suffix("/ui").unwrap().to_owned();
    let application = pages.strip_prefix("http://").unwrap().split('/').next().unwrap();
    // Through it, the browser's own judgement does not arrive, as on plain http.
    let front = Front { prefix: "", tells: true }.before(application.parse().unwrap()).await;
    let browser = Browser::open(PLAIN).await;
    // A plain answer of another application: a page there with no rules of its own.
    let front = format!("http://{front}/api/dm-jobqueue");
    for (host, base) in [("127.0.0.1", &direct), ("localhost", &direct), ("localhost", &front)] {
        let page = elsewhere.replace("127.0.0.1", host).replace("/ui", "/health");
        browser.open_page(&page).await;
        let tries = browser.client.execute_async(ATTACK, vec![json!(base)]).await.unwrap();
        assert_eq!(tries, json!(27), "from {host} to {base}");
        let name = QueueName::new("default").unwrap();
        let found = queue.inspector().queue(&name).await.unwrap();
        assert!(!found.paused && found.size == 1, "from {host} to {base}: {found:?}");
    }
    browser.close().await;
}
