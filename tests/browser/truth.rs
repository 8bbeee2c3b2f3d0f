//! Nothing on a page is untrue: what it says while its store or its application is away, or while
//! something between them and the browser keeps the stream back.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use browser::pages_at;
use support::{RedisServer, free_port};

/// An application on this store whose worker does nothing, so that figures stay.
fn idle_on(redis: &RedisServer) -> JobQueueFairing {
    let url = format!("redis://{}", redis.addr());
    JobQueue::fairing().set("databases.jobqueue.url", url).set("jobqueue.worker", false)
}

/// The process of [`Application`], which runs this test program once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_process() {
    let Ok(told) = std::env::var("TEST_PAGES_OF") else { return };
    let (port, redis) = told.split_once(' ').unwrap();
    let url = format!("redis://{redis}");
    let fairing = JobQueue::fairing().set("databases.jobqueue.url", url);
    let _running = pages_at(port.parse().unwrap(), fairing.set("jobqueue.worker", false)).await;
    std::future::pending::<()>().await;
}

/// An application in a process of its own, to be killed and frozen.
struct Application {
    port: u16,
    redis: String,
    child: Child,
}

impl Application {
    async fn start(redis: &RedisServer) -> Self {
        let (port, redis) = (free_port(), redis.addr());
        let child = Self::spawn(port, &redis);
        let application = Self { port, redis, child };
        application.answers().await;
        application
    }

    fn spawn(port: u16, redis: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["truth::an_application_process", "--exact", "--nocapture"])
            .env("TEST_PAGES_OF", format!("{port} {redis}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    async fn answers(&self) {
        support::until(async || {
            reqwest::get(self.pages().replace("/ui", "/health")).await.ok().map(drop)
        })
        .await;
    }

    fn pages(&self) -> String {
        format!("http://127.0.0.1:{}/api/dm-jobqueue/ui", self.port)
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = Self::spawn(self.port, &self.redis);
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // A frozen process obeys this signal too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SENTENCE: &str = "[data-sentence]";

impl Browser {
    /// Waits until the page says that the connection is lost, and looks at its figures.
    async fn until_lost(&self, after: &str) {
        let since = Instant::now();
        self.until(SENTENCE, "Connection lost, as of ").await;
        println!("{after}: said after {} ms", since.elapsed().as_millis());
        let sentence = self.see(SENTENCE).await;
        let time = sentence.rsplit(' ').next().unwrap();
        assert!(time.len() == 8 && time.matches(':').count() == 2, "a time of day: {sentence}");
        self.until_count("main[data-state='lost']", 1).await;
        let grey = "return getComputedStyle(document.querySelector('[data-content]')).filter";
        let grey = self.client.execute(grey, Vec::new()).await.unwrap();
        // It turns grey, by a transition.
        assert!(grey.as_str().unwrap().starts_with("grayscale"), "{grey}");
        let age = self.see("[data-age]").await;
        assert!(age.contains("ago"), "{age}");
    }

    async fn until_live(&self) {
        self.until(SENTENCE, "Live, as of ").await;
        self.until_count("main[data-state='live']", 1).await;
    }

    /// What a job that is enqueued now changes on the overview.
    async fn until_pending(&self, expected: &str) {
        self.until("tbody td:nth-of-type(1)", expected).await;
    }
}

async fn enqueue(redis: &RedisServer) {
    let (_, queue) = pages_of(idle_on(redis)).await;
    queue.enqueue_raw("mail", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_says_that_its_store_or_its_application_is_away_and_comes_back() {
    let mut redis = RedisServer::start::<&str>(&[]);
    enqueue(&redis).await;
    let mut application = Application::start(&redis).await;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&application.pages()).await;
    browser.until_live().await;
    browser.until_pending("1").await;

    redis.freeze();
    browser.until_lost("the store is frozen").await;
    browser.shoot("truth-lost").await;
    redis.thaw();
    browser.until_live().await;

    redis.stop();
    browser.until_lost("the store is dead").await;
    // Another page says so from its beginning, and comes back as well.
    browser.open_page(&format!("{}/queues/default", application.pages())).await;
    browser.until("[role=alert]", "Redis is not connected").await;
    browser.until_lost("a page without its store").await;
    redis.restart();
    enqueue(&redis).await;
    browser.until_live().await;
    browser.until("h1", "Queue default").await;
    browser.until(".tabs [aria-current]", "pending 1").await;

    browser.open_page(&application.pages()).await;
    browser.until_live().await;
    application.signal("-STOP");
    browser.until_lost("the application is frozen").await;
    application.signal("-CONT");
    browser.until_live().await;

    application.kill();
    browser.until_lost("the application is killed").await;
    enqueue(&redis).await;
    application.start_again();
    browser.until_live().await;
    browser.until_pending("2").await;
    browser.close().await;
}

/// A proxy that hands an answer on when it is complete, as some do with a stream.
async fn hoarder(application: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move { hoard(client, application).await.ok() });
        }
    });
    at
}

async fn hoard(mut client: TcpStream, application: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head =
        String::from_utf8_lossy(&head).replace("Connection: keep-alive", "Connection: close");
    let mut upstream = TcpStream::connect(application).await?;
    upstream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await?;
    client.write_all(&answer).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_behind_a_proxy_that_keeps_streams_back_follows_and_tells_a_loss() {
    let redis = RedisServer::start::<&str>(&[]);
    let (pages, queue) = pages_of(idle_on(&redis)).await;
    queue.enqueue_raw("mail", None).await.unwrap();
    let application = pages.split('/').nth(2).unwrap();
    let proxy = hoarder(application.parse().unwrap()).await;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&pages.replace(application, &proxy.to_string())).await;
    browser.until_live().await;
    browser.until_pending("1").await;
    queue.enqueue_raw("mail", None).await.unwrap();
    browser.until_pending("2").await;
    browser.until_live().await;
    redis.freeze();
    browser.until_lost("the store is frozen, behind a proxy").await;
    redis.thaw();
    browser.until_live().await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_whose_updates_wait_says_so_and_its_age() {
    let (pages, queue) = operated().await;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&format!("{pages}/jobs?q=state:scheduled")).await;
    browser.until_live().await;
    browser.click("tbody tr:first-child input.choice").await;
    let later = Duration::from_secs(3600);
    queue.enqueue(Mail { to: "another".to_owned() }).delay(later).await.unwrap();
    browser.until(SENTENCE, "Updates wait while you work on this page, as of ").await;
    browser.until_count("tbody tr", 40).await;
    browser.click("tbody tr:first-child input.choice").await;
    browser.until_count("tbody tr", 41).await;
    browser.until_live().await;

    // The form of a limit is folded: the page behind it is live.
    let name = QueueName::new("default").unwrap();
    queue.inspector().pause(&name).await.unwrap();
    browser.open_page(&format!("{pages}/queues/default")).await;
    browser.until("[data-content]", "paused").await;
    queue.inspector().resume(&name).await.unwrap();
    browser.until_count("form[action$='/pause']", 1).await;
    browser.until_live().await;

    // A job that is gone is not shown as if it were there.
    let job = queue.enqueue(Mail { to: "short".to_owned() }).delay(later).await.unwrap();
    browser.open_page(&format!("{pages}/jobs/default/{}", job.id)).await;
    browser.until_live().await;
    queue.inspector().delete(&name, &job.id).await.unwrap();
    browser.until("[data-content]", "This job does not exist").await;
    browser.close().await;
}

#[tokio::test]
async fn a_page_without_scripts_says_of_when_it_is() {
    let (pages, _queue) = operated().await;
    let browser = Browser::open(Settings { scripts: false, ..PLAIN }).await;
    browser.open_page(&pages).await;
    let said = browser.see("[data-freshness]").await;
    assert!(said.starts_with("As of 20") && said.ends_with(" UTC"), "{said}");
    browser.close().await;
}

#[derive(Serialize, Deserialize)]
struct Long;

impl Job for Long {
    const TYPE: &'static str = "report:long";
}

/// Runs until it is cancelled.
async fn long(_job: Long) -> Result<(), JobError> {
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_names_its_deed_and_the_way_out() {
    let (pages, queue) = pages_of(JobQueue::fairing().memory().handle(long)).await;
    let job = queue.enqueue(Long).await.unwrap();
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&format!("{pages}/jobs/default/{}", job.id)).await;
    browser.until(".facts", "active").await;
    let question = "details:has(form[action$='/cancel'])";
    let inner = format!("{question} button");
    browser.unfold(&format!("{question} summary"), &inner).await;
    assert_eq!(browser.see(&format!("{question} summary")).await, "Cancel job…");
    let said = browser.see(&format!("{question} > div")).await;
    assert!(
        said.starts_with("Asks the worker to stop this attempt, and archives the job."),
        "{said}"
    );
    assert_eq!(browser.see(&inner).await, "Cancel job");
    browser.shoot("truth-question").await;
    browser.click(&format!("{question} [data-dismiss]")).await;
    browser.until_count("details.sure[open]", 0).await;
    browser.until(".facts", "active").await;
    assert_eq!(queue.job("default", &job.id).await.unwrap().unwrap().state, JobState::Active);

    browser.unfold(&format!("{question} summary"), &inner).await;
    browser.click(&inner).await;
    browser.until("[role=status]", "Cancellation requested.").await;
    // The page follows what becomes of it.
    browser.until(".facts", "archived").await;
    browser.close().await;
}

#[rstest]
#[case::light("truth-followed", PLAIN)]
#[case::without_scripts("truth-followed-plain", Settings { scripts: false, ..PLAIN })]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_were_run_are_followed_to_their_ends(
    #[case] name: &str,
    #[case] settings: Settings,
) {
    let (pages, queue) = operated().await;
    let (name_of_queue, browser) =
        (QueueName::new("default").unwrap(), Browser::open(settings).await);
    queue.inspector().pause(&name_of_queue).await.unwrap();
    let at = format!("{pages}/jobs?q=state:archived");
    if settings.scripts {
        browser.open_page(&at).await;
        browser.hold_still().await;
        browser.until_count("tbody tr", 4).await;
        browser.click("fieldset:nth-of-type(2) button[value='run']").await;
        browser.until("main form p", "Run 4 jobs. They are moved to pending").await;
        browser.click("main form:not(.find) button").await;
        browser.until("[role=status]", "4 jobs moved to pending.").await;
    } else {
        // What a click does: a driver's clicks hang without scripts.
        let answer = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let answer = answer.build().unwrap().post(format!("{pages}/jobs/act"));
        let answer = answer
            .header("Origin", pages.split("/api").next().unwrap())
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body("q=state:archived&all=run&sure=4");
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), 303);
        let to = answer.headers()["location"].to_str().unwrap().to_owned();
        browser.open_page(&format!("{}{to}", pages.split("/api").next().unwrap())).await;
    }
    browser.until(".followed", "0 of 4 have ended.").await;
    // They have not succeeded, and nothing says so.
    browser.until_count(".notice.good", 0).await;
    queue.inspector().resume(&name_of_queue).await.unwrap();
    if settings.scripts {
        browser.click("[data-freshness] button").await;
    } else {
        support::until(async || {
            browser.client.refresh().await.unwrap();
            browser.see(".followed").await.contains("4 of 4").then_some(())
        })
        .await;
    }
    browser.until(".followed", "4 of 4 have ended.").await;
    browser.until(".followed li", "4 archived Failed for good").await;
    browser.until_count(".followed li a", 4).await;
    browser.shoot(name).await;
    browser.close().await;
}

#[derive(Serialize, Deserialize)]
struct Nested {
    user: u64,
    note: String,
    tags: Vec<Vec<u64>>,
}

impl Job for Nested {
    const TYPE: &'static str = "report:nested";

    fn schema() -> Option<Value> {
        Some(json!({
            "type": "object",
            "required": ["user", "note", "tags"],
            "properties": {
                "user": { "type": "integer" },
                "note": { "type": "string", "minLength": 2 },
                "tags": { "type": "array" }
            }
        }))
    }
}

async fn nested(_job: Nested) -> Result<(), JobError> {
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_run_again_with_changes_and_its_payload_is_a_tree() {
    let fairing = JobQueue::fairing().memory().set("jobqueue.worker", false);
    let (pages, queue) = pages_of(fairing.handle(nested)).await;
    let job = Nested { user: u64::MAX, note: "a".into(), tags: vec![vec![1, 2], vec![]] };
    let job = queue.enqueue(job).max_retry(7).await.unwrap();
    let browser = Browser::open(PLAIN).await;
    let page = format!("{pages}/jobs/default/{}", job.id);
    browser.open_page(&page).await;
    browser.until_live().await;
    let tree = browser.see(".tree").await;
    assert!(tree.contains("user: 18446744073709551615"), "{tree}");
    assert!(tree.contains("tags: [2]") && tree.contains("0: [2]"), "{tree}");
    // What was closed stays closed when the page is fetched again.
    browser.click(".tree .tree details summary").await;
    browser.until_count(".tree details[open]", 1).await;
    queue.enqueue_raw("other", None).await.unwrap();
    let as_of = browser.see(SENTENCE).await;
    support::until(async || (browser.see(SENTENCE).await != as_of).then_some(())).await;
    browser.until_count(".tree details[open]", 1).await;
    browser.shoot("truth-tree").await;

    // Another payload has to fit the schema.
    browser.hold_still().await;
    browser.click("a[href$='?edit=payload']").await;
    let payload = browser.client.wait().for_element(Locator::Css("#payload")).await.unwrap();
    payload.clear().await.unwrap();
    payload.send_keys(r#"{"user": "x", "note": "ab", "tags": []}"#).await.unwrap();
    browser.click("form[action$='/edit'] button").await;
    browser.until("[role=alert]", "user").await;

    browser.open_page(&page).await;
    browser.click("a[href*='?like=']").await;
    browser.until("h1", "report:nested").await;
    assert_eq!(browser.value("[name='field.user']").await, "18446744073709551615");
    assert_eq!(browser.value("[name='max_retry']").await, "7");
    let note = browser.client.find(Locator::Css("[name='field.note']")).await.unwrap();
    note.send_keys("bc").await.unwrap();
    browser.click("main form[method=post] button").await;
    browser.until("[role=status]", "The job is enqueued.").await;
    browser.click("[role=status] a").await;
    browser.until(".tree", "note: \"abc\"").await;
    browser.until(".tree", "user: 18446744073709551615").await;
    browser.close().await;
}
