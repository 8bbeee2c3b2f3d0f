//! What an operator does at 3 a.m., with the clicks counted: each task begins on the overview.

use super::*;

/// Fails, as all of its kind do.
#[derive(Serialize, Deserialize)]
struct Invoice {
    number: u32,
}

impl Job for Invoice {
    const TYPE: &'static str = "invoice:send";

    fn options() -> JobOptions {
        JobOptions::new().max_retry(0)
    }
}

async fn invoice(job: Invoice) -> Result<(), JobError> {
    Err(JobError::failed(format!("invoice {}: the mail server is away", job.number)))
}

/// Runs until it is cancelled.
#[derive(Serialize, Deserialize)]
struct Stuck;

impl Job for Stuck {
    const TYPE: &'static str = "report:stuck";
}

async fn stuck(_job: Stuck) -> Result<(), JobError> {
    std::future::pending().await
}

/// Takes longer than an invoice.
#[derive(Serialize, Deserialize)]
struct Slow;

impl Job for Slow {
    const TYPE: &'static str = "report:slow";
}

async fn slow(_job: Slow) -> Result<(), JobError> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(())
}

/// A browser on the overview, and how often something was clicked.
struct Hand {
    browser: Browser,
    clicks: usize,
}

impl Hand {
    async fn at(pages: &str) -> Self {
        Self::at_what(pages, "h1").await
    }

    /// The same once the overview shows what it will: it is still from then on.
    async fn at_what(pages: &str, css: &str) -> Self {
        let browser = Browser::open(PLAIN).await;
        browser.open_page(pages).await;
        browser.until_count(css, 1).await;
        browser.hold_still().await;
        Self { browser, clicks: 0 }
    }

    async fn clicks(&mut self, css: &str) {
        self.browser.click(css).await;
        self.clicks += 1;
    }

    /// Opens the question of a form: its button is seen then.
    async fn opens(&mut self, question: &str) {
        let button = format!("{question} form button");
        self.browser.unfold(&format!("{question} summary"), &button).await;
        self.clicks += 1;
    }

    /// The number of clicks since the overview.
    async fn done(self) -> usize {
        self.browser.close().await;
        self.clicks
    }
}

/// An application of version 2.4.1 whose invoices fail.
async fn failing() -> (String, JobQueue) {
    let fairing = JobQueue::fairing().memory().version("2.4.1").handle(invoice);
    let (pages, queue) = pages_of(fairing).await;
    for number in 0..5 {
        queue.enqueue(Invoice { number }).await.unwrap();
    }
    let name = QueueName::new("default").unwrap();
    loop {
        let info = queue.inspector().queue(&name).await.unwrap();
        if info.sizes.get("archived").copied() == Some(5) {
            return (pages, queue);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn why_it_failed_and_the_kind_again_take_three_clicks() {
    let (pages, _queue) = failing().await;
    let mut hand = Hand::at(&pages).await;
    hand.clicks("nav a[href$='/ui/failures']").await;
    hand.browser.until("tbody tr:first-child th", "the mail server is away").await;
    hand.browser.shoot("task-failures").await;
    hand.clicks("tbody tr:first-child form[action$='/ui/jobs/act'] button").await;
    hand.browser.until("main form p", "Run 5 jobs. They are moved to pending").await;
    hand.clicks("main form .actions button").await;
    hand.browser.until("[role=status]", "5 jobs moved to pending.").await;
    assert_eq!(hand.done().await, 3);
}

#[tokio::test]
async fn which_deploy_broke_it_takes_one_click() {
    let (pages, _queue) = failing().await;
    let mut hand = Hand::at(&pages).await;
    hand.clicks("nav a[href$='/ui/failures']").await;
    hand.browser.until("tbody tr:first-child", "2.4.1").await;
    assert_eq!(hand.done().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_job_is_found_and_cancelled_with_three_clicks() {
    let fairing = JobQueue::fairing().memory().set("jobqueue.alerts.job_running", "1s");
    let (pages, queue) = pages_of(fairing.handle(stuck)).await;
    let job = queue.enqueue(Stuck).await.unwrap();
    // The page looks again within 30 s; it is opened when there is something to see.
    support::until(async || {
        let alerts = queue.alerts().await.unwrap().alerts;
        (!alerts.is_empty()).then_some(())
    })
    .await;
    let mut hand = Hand::at_what(&pages, "section.notice li a").await;
    hand.clicks("section.notice li a").await;
    hand.browser.until("h1", "report:stuck").await;
    let question = "details:has(form[action$='/cancel'])";
    hand.opens(question).await;
    hand.clicks(&format!("{question} form button")).await;
    hand.browser.until("[role=status]", "Cancellation requested.").await;
    support::until(async || {
        let found = queue.job("default", &job.id).await.unwrap().unwrap();
        (found.state == JobState::Archived).then_some(())
    })
    .await;
    assert_eq!(hand.done().await, 3);
}

#[tokio::test]
async fn the_slowest_type_takes_one_click() {
    let fairing = JobQueue::fairing().memory().handle(invoice).handle(slow);
    let (pages, queue) = pages_of(fairing).await;
    for _ in 0..3 {
        queue.enqueue(Invoice { number: 1 }).await.unwrap();
    }
    queue.enqueue(Slow).await.unwrap();
    support::until(async || {
        let sizes = queue.inspector().queue(&QueueName::new("default").unwrap()).await.unwrap();
        (sizes.processed_today == 4).then_some(())
    })
    .await;
    // What was counted since the last report is stored.
    queue.shutdown().await;
    let mut hand = Hand::at(&pages).await;
    hand.clicks("nav a[href$='/ui/types']").await;
    hand.browser.until("tbody tr:first-child th", "report:slow").await;
    assert_eq!(hand.done().await, 1);
}

#[tokio::test]
async fn a_worker_is_made_quiet_and_given_slots_with_three_clicks_each() {
    let fairing = JobQueue::fairing().memory().set("jobqueue.concurrency", 2).handle(invoice);
    let (pages, _queue) = pages_of(fairing).await;
    let mut hand = Hand::at(&pages).await;
    hand.clicks("nav a[href$='/ui/servers']").await;
    let question = ".worker details:has(form[action$='/change'])";
    hand.opens(question).await;
    let slots = format!("{question} input[name='concurrency']");
    let slots = hand.browser.client.find(Locator::Css(&slots)).await.unwrap();
    slots.clear().await.unwrap();
    slots.send_keys("7").await.unwrap();
    hand.clicks(&format!("{question} form button")).await;
    hand.browser.until("tbody td[data-label='Slots in use']", "0 / 7").await;
    assert_eq!(hand.done().await, 3);

    let mut hand = Hand::at(&pages).await;
    hand.clicks("nav a[href$='/ui/servers']").await;
    let question = ".worker details:has(form[action$='/quiet'])";
    hand.opens(question).await;
    hand.clicks(&format!("{question} form button")).await;
    hand.browser.until("tbody .tag", "quiet").await;
    assert_eq!(hand.done().await, 3);
}
