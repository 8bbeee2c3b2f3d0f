//! The pages as a person meets them: headless Chromium against a Rocket that
//! listens. Screenshots go to `target/screenshots/`.
#![cfg(feature = "dashboard")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use rocket::fairing::AdHoc;
use rocket_jobqueue::{
    Draft, Job, JobError, JobQueue, JobQueueFairing, JobState, Page, Periodic, QueueName,
};
use rstest::rstest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// An application on a free port; the address of its pages.
async fn pages() -> String {
    pages_of(JobQueue::fairing().memory()).await.0
}

/// The same with this queue, and its handle.
async fn pages_of(fairing: JobQueueFairing) -> (String, JobQueue) {
    let figment = rocket::Config::figment()
        .merge(("log_level", "off"))
        .merge(("address", "127.0.0.1"))
        .merge(("port", 0))
        .merge(("jobqueue.allow_memory_in_release", true));
    let (tell, mut told) = mpsc::unbounded_channel();
    let rocket =
        rocket::custom(figment).attach(fairing).attach(AdHoc::on_liftoff("port", |rocket| {
            let queue = rocket.state::<JobQueue>().unwrap().clone();
            Box::pin(async move { tell.send((rocket.config().port, queue)).unwrap() })
        }));
    tokio::spawn(rocket.launch());
    let (port, queue) = told.recv().await.expect("the application listens");
    (format!("http://127.0.0.1:{port}/api/dm-jobqueue/ui"), queue)
}

/// How a person's browser is set.
#[derive(Clone, Copy)]
struct Settings {
    language: &'static str,
    dark: bool,
    phone: bool,
    scripts: bool,
}

const PLAIN: Settings = Settings { language: "en", dark: false, phone: false, scripts: true };

struct Browser {
    client: Client,
    // Killed when dropped; the session is closed before.
    _driver: Child,
    _profile: TempDir,
}

impl Browser {
    async fn open(settings: Settings) -> Self {
        let (driver, port) = start_driver().await;
        let profile = TempDir::new().expect("a temporary folder");
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities(settings, profile.path()))
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("Chromium starts: these tests need Debian's package `chromium`");
        Self { client, _driver: driver, _profile: profile }
    }

    async fn close(self) {
        self.client.close().await.expect("the browser closes");
    }

    async fn see(&self, css: &str) -> String {
        let found =
            self.client.wait().at_most(Duration::from_secs(10)).for_element(Locator::Css(css));
        let element = found.await.unwrap_or_else(|error| panic!("{css}: {error}"));
        element.text().await.expect("an element has text")
    }

    async fn value(&self, css: &str) -> String {
        let element = self.client.find(Locator::Css(css)).await.expect("an input");
        element.prop("value").await.expect("a property").unwrap_or_default()
    }

    /// Types where the focus is, as a person without a mouse does.
    async fn keys(&self, keys: &str) {
        let focused = self.client.active_element().await.expect("something has the focus");
        focused.send_keys(keys).await.expect("keys are taken");
    }

    async fn tab(&self) {
        self.keys(&Key::Tab.to_string()).await;
    }

    async fn shoot(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        std::fs::create_dir_all(&folder).expect("a folder for screenshots");
        let image = self.client.screenshot().await.expect("a screenshot");
        std::fs::write(folder.join(format!("{name}.png")), image).expect("the screenshot is kept");
    }
}

/// chromedriver on a free port of its own choice.
async fn start_driver() -> (Child, u16) {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("chromedriver starts: these tests need Debian's package `chromium-driver`");
    let mut lines = BufReader::new(driver.stdout.take().expect("a pipe")).lines();
    while let Some(line) = lines.next_line().await.expect("chromedriver speaks") {
        if let Some((_, port)) = line.split_once("successfully on port ") {
            let port = port.trim_end_matches('.').parse().expect("a port");
            return (driver, port);
        }
    }
    panic!("chromedriver ended without a port");
}

fn capabilities(settings: Settings, profile: &Path) -> serde_json::Map<String, Value> {
    let scheme = if settings.dark { 0 } else { 1 };
    let args = [
        "--headless".to_owned(),
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--no-first-run".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        "--window-size=1100,950".to_owned(),
        format!("--user-data-dir={}", profile.display()),
        format!("--accept-lang={}", settings.language),
        format!("--blink-settings=preferredColorScheme={scheme}"),
    ];
    let mut prefs = json!({ "intl.accept_languages": settings.language });
    if !settings.scripts {
        prefs["profile.managed_default_content_settings.javascript"] = json!(2);
    }
    let mut options = json!({ "args": args, "prefs": prefs });
    if settings.phone {
        let metrics = json!({ "width": 390, "height": 844, "pixelRatio": 2 });
        options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
    }
    json!({ "goog:chromeOptions": options }).as_object().cloned().expect("an object")
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

    assert_eq!(browser.see("[role=alert]").await, "Some fields are wrong.");
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
    let (pages, queue) = pages_of(JobQueue::fairing().memory().handle(mail).periodic(weekly)).await;
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

impl Browser {
    async fn open_page(&self, address: &str) {
        self.client.goto(address).await.expect("the page opens");
    }

    /// Pages stay as they are from here on: whoever fills in a form has its focus, but a
    /// driver's words come between two looks.
    async fn hold_still(&self) {
        self.click("[data-live]").await;
        self.until("[data-live]", "Paused").await;
    }

    async fn click(&self, css: &str) {
        let mut last = None;
        for _ in 0..200 {
            // A page that follows may take it away in between.
            match self.client.find(Locator::Css(css)).await {
                Ok(element) => match element.click().await {
                    Ok(()) => return,
                    Err(error) => last = Some(error),
                },
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{css}: {last:?}");
    }

    /// Opens what is folded until this is seen in it: the page may be made anew meanwhile.
    async fn unfold(&self, summary: &str, inner: &str) {
        for _ in 0..20 {
            self.click(summary).await;
            if let Ok(element) = self.client.find(Locator::Css(inner)).await
                && element.is_displayed().await.unwrap_or(false)
            {
                return;
            }
        }
        panic!("{inner} stays hidden in {summary}");
    }

    async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.unwrap().len()
    }

    /// Waits for the page that a click leads to: until this element has this text.
    async fn until(&self, css: &str, text: &str) {
        let mut found = String::new();
        for _ in 0..500 {
            // It may vanish between two questions.
            if let Ok(element) = self.client.find(Locator::Css(css)).await {
                found = element.text().await.unwrap_or_default();
            }
            if found.contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{css}: expected {text:?}, found {found:?}");
    }

    /// The same for so many of them.
    async fn until_count(&self, css: &str, expected: usize) {
        for _ in 0..500 {
            if self.count(css).await == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{css}: expected {expected}, found {}", self.count(css).await);
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
    browser.unfold("section .sure summary", "#payload").await;
    let payload = browser.client.find(Locator::Css("#payload")).await.unwrap();
    payload.clear().await.unwrap();
    payload.send_keys("{\"to\":\"somebody\"}").await.unwrap();
    browser.click("form[action$='/edit'] button").await;
    browser.until("[role=status]", "The payload is changed.").await;
    browser.click("form[action$='/run'] button").await;
    browser.until("[role=status]", "The job runs now.").await;
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
    browser.until("[role=status]", "40 jobs done.").await;
    let found = queue.inspector().queue(&QueueName::new("default").unwrap()).await.unwrap();
    assert_eq!(found.sizes["archived"], 43);

    browser.click("form[action$='/pause'] button").await;
    browser.until("[role=status]", "The queue is paused.").await;
    browser.click("form[action$='/resume'] button").await;
    browser.until("[role=status]", "The queue is resumed.").await;

    browser.click("nav a[href$='/ui/schedules']").await;
    browser.until("tbody code", "0 3 * * 1").await;
    browser.click("tbody button").await;
    browser.until("[role=status]", "A job is enqueued.").await;
    browser.shoot(&format!("{name}-schedules")).await;
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

    browser.click("nav a[href$='/ui/jobs']").await;
    browser.until("h1", "Jobs").await;
    let words = browser.client.find(Locator::Css("#q")).await.unwrap();
    words.send_keys("state:archived error:NOBODY-2 type:mail:send").await.unwrap();
    browser.click(".search button").await;
    browser.until_count("tbody tr", 1).await;
    assert_eq!(browser.value("#q").await, "state:archived error:NOBODY-2 type:mail:send");
    browser.shoot(&format!("{name}-jobs")).await;
    browser.open_page(&format!("{pages}/jobs?q=state:asleep")).await;
    browser.until("[role=alert]", "state:asleep names no state.").await;
    browser.until_count("tbody tr", 44).await;

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
        ("/schedules", "定期実行"),
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
    let is_hostile = |info: &&rocket_jobqueue::JobInfo| info.job.last_error.contains("<script>");
    let id = found.rows.iter().filter_map(|row| row.job()).find(is_hostile).unwrap().job.id.clone();

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
    browser.until("main .card", "No job has this id.").await;
    browser.close().await;
}
