//! Headless Chromium as a person uses it, and an application that it meets. Screenshots go to
//! `target/screenshots/`.
#![allow(dead_code, reason = "no test uses all of it")]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub use crate::support::anybody::Anybody;
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use rocket::fairing::AdHoc;
use rocket_jobqueue::{JobQueue, JobQueueFairing};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// An application with this queue, open to everybody, on a free port; the address of its
/// pages, and its handle.
pub async fn pages_of(fairing: JobQueueFairing) -> (String, JobQueue) {
    pages_at(0, fairing).await
}

/// The same on this port.
pub async fn pages_at(port: u16, fairing: JobQueueFairing) -> (String, JobQueue) {
    let figment = rocket::Config::figment()
        .merge(("log_level", "off"))
        .merge(("address", "127.0.0.1"))
        .merge(("port", port))
        .merge(("jobqueue.allow_memory_in_release", true));
    let (tell, mut told) = mpsc::unbounded_channel();
    let fairing = fairing.admin_guard::<Anybody>();
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
pub struct Settings {
    pub language: &'static str,
    pub dark: bool,
    pub phone: bool,
    pub scripts: bool,
}

/// As most are.
pub const PLAIN: Settings = Settings { language: "en", dark: false, phone: false, scripts: true };

pub struct Browser {
    pub client: Client,
    // Killed when dropped; the session is closed before.
    _driver: Child,
    _profile: TempDir,
}

impl Browser {
    pub async fn open(settings: Settings) -> Self {
        let (driver, port) = start_driver().await;
        let profile = TempDir::new().expect("a temporary folder");
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities(settings, profile.path()))
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("Chromium starts: these tests need Debian's package `chromium`");
        Self { client, _driver: driver, _profile: profile }
    }

    pub async fn close(self) {
        self.client.close().await.expect("the browser closes");
    }

    pub async fn see(&self, css: &str) -> String {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match self.text_of(css).await {
                Ok(text) => return text,
                // A page that is being left, or was just now, has nothing to say.
                Err(error) if is_of_another_page(&error) && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{css}: {error}"),
            }
        }
    }

    async fn text_of(&self, css: &str) -> Result<String, CmdError> {
        let wait = self.client.wait().at_most(Duration::from_secs(10));
        wait.for_element(Locator::Css(css)).await?.text().await
    }

    pub async fn value(&self, css: &str) -> String {
        let element = self.client.find(Locator::Css(css)).await.expect("an input");
        element.prop("value").await.expect("a property").unwrap_or_default()
    }

    /// Types into a field.
    pub async fn fill(&self, css: &str, text: &str) {
        self.see(css).await;
        let field = self.client.find(Locator::Css(css)).await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Types where the focus is, as a person without a mouse does.
    pub async fn keys(&self, keys: &str) {
        let focused = self.client.active_element().await.expect("something has the focus");
        focused.send_keys(keys).await.expect("keys are taken");
    }

    pub async fn tab(&self) {
        self.keys(&Key::Tab.to_string()).await;
    }

    pub async fn shoot(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        std::fs::create_dir_all(&folder).expect("a folder for screenshots");
        let image = self.client.screenshot().await.expect("a screenshot");
        std::fs::write(folder.join(format!("{name}.png")), image).expect("the screenshot is kept");
    }
}

/// chromedriver on a free port of its own choice.
async fn start_driver() -> (Child, u16) {
    // It wants the same port of both kinds of addresses, of which one may be in use.
    for _ in 0..5 {
        if let Some(started) = try_driver().await {
            return started;
        }
    }
    panic!("chromedriver ended without a port");
}

async fn try_driver() -> Option<(Child, u16)> {
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
            return Some((driver, port));
        }
    }
    None
}

pub fn capabilities(settings: Settings, profile: &Path) -> serde_json::Map<String, Value> {
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

impl Browser {
    pub async fn open_page(&self, address: &str) {
        self.client.goto(address).await.expect("the page opens");
    }

    /// Pages stay as they are from here on: a person who fills in a form has its focus, but a
    /// driver's input comes between two updates.
    pub async fn hold_still(&self) {
        self.hold_still_in("Paused").await;
    }

    /// The same in another language.
    pub async fn hold_still_in(&self, paused: &str) {
        self.click("[data-freshness] button").await;
        self.until("[data-sentence]", paused).await;
    }

    pub async fn click(&self, css: &str) {
        let mut last = None;
        for _ in 0..200 {
            // A page that follows may take it away in between.
            match self.client.find(Locator::Css(css)).await {
                Ok(element) => match self.click_in_view(element).await {
                    Ok(()) => return,
                    Err(error) => last = Some(error),
                },
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{css}: {last:?}");
    }

    /// Clicks a link until the page that it leads to has this element. Once, on a busy host, a
    /// click had no effect, for a reason that was not found; a person clicks again.
    pub async fn follow(&self, link: &str, css: &str) {
        for _ in 0..5 {
            self.click(link).await;
            for _ in 0..100 {
                if self.count(css).await == 1 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }
        panic!("{link} leads to no {css}");
    }

    /// Scrolls to it as a person does, who does not click what a bar at the edge of the window
    /// covers, and clicks.
    async fn click_in_view(&self, element: Element) -> Result<(), CmdError> {
        const SCROLL: &str =
            "arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })";
        let argument = serde_json::to_value(&element)?;
        self.client.execute(SCROLL, vec![argument]).await?;
        element.click().await
    }

    /// Opens what is folded until this is seen in it: the page may be replaced meanwhile.
    pub async fn unfold(&self, summary: &str, inner: &str) {
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

    /// What the page's content security policy has kept from it so far.
    pub async fn refusals(&self) -> Vec<String> {
        const ASK: &str = "const done = arguments[0]; const seen = [];
            const watch = new ReportingObserver((found) => seen.push(...found),
                { types: ['csp-violation'], buffered: true });
            watch.observe();
            setTimeout(() => {
                const all = seen.concat(watch.takeRecords());
                done(all.map(({ body }) => `${body.effectiveDirective} ${body.blockedURL}`));
            }, 500);";
        let found = self.client.execute_async(ASK, Vec::new()).await.expect("a list of reports");
        serde_json::from_value(found).expect("texts")
    }

    pub async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.unwrap().len()
    }

    /// Waits for the page that a click leads to: until this element has this text, whatever space
    /// or line is between its words.
    pub async fn until(&self, css: &str, text: &str) {
        assert!(!text.is_empty(), "every element has no text: use until_count");
        let mut found = String::new();
        for _ in 0..500 {
            // It may vanish between two questions.
            if let Ok(element) = self.client.find(Locator::Css(css)).await {
                let text = element.text().await.unwrap_or_default();
                found = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            if found.contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{css}: expected {text:?}, found {found:?}");
    }

    /// The same for this many of them.
    pub async fn until_count(&self, css: &str, expected: usize) {
        for _ in 0..500 {
            if self.count(css).await == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{css}: expected {expected}, found {}", self.count(css).await);
    }
}

/// Whether the browser had turned to another page before it was done.
fn is_of_another_page(error: &CmdError) -> bool {
    let text = error.to_string();
    text.contains("aborted by navigation") || text.contains("stale element")
}
