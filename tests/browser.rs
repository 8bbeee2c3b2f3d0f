//! The registration page as a person meets it: headless Chromium against a
//! Rocket that listens. Screenshots go to `target/screenshots/`.
#![cfg(feature = "dashboard")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use rocket::fairing::AdHoc;
use rocket_jobqueue::JobQueue;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// An application on a free port; the address of its pages.
async fn pages() -> String {
    let figment = rocket::Config::figment()
        .merge(("log_level", "off"))
        .merge(("address", "127.0.0.1"))
        .merge(("port", 0))
        .merge(("jobqueue.allow_memory_in_release", true));
    let (tell, mut told) = mpsc::unbounded_channel();
    let rocket =
        rocket::custom(figment)
            .attach(JobQueue::fairing().memory())
            .attach(AdHoc::on_liftoff("port", |rocket| {
                Box::pin(async move { tell.send(rocket.config().port).unwrap() })
            }));
    tokio::spawn(rocket.launch());
    let port = told.recv().await.expect("the application listens");
    format!("http://127.0.0.1:{port}/api/dm-jobqueue/ui")
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
