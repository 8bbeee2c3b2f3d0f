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

/// A browser on the overview, and how often something was clicked.
struct Hand {
    browser: Browser,
    clicks: usize,
}

impl Hand {
    async fn at(pages: &str) -> Self {
        let browser = Browser::open(PLAIN).await;
        browser.open_page(pages).await;
        browser.hold_still().await;
        Self { browser, clicks: 0 }
    }

    async fn clicks(&mut self, css: &str) {
        self.browser.click(css).await;
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
    support::until(async || {
        let alerts = queue.alerts().await.unwrap().alerts;
        (!alerts.is_empty()).then_some(())
    })
    .await;
    let mut hand = Hand::at(&pages).await;
    hand.clicks("section.notice li a").await;
    hand.browser.until("h1", "report:stuck").await;
    // Opened and answered: two clicks.
    let question = "details:has(form[action$='/cancel'])";
    let button = format!("{question} button");
    hand.browser.unfold(&format!("{question} summary"), &button).await;
    hand.clicks += 1;
    hand.clicks(&button).await;
    hand.browser.until("[role=status]", "Cancellation requested.").await;
    support::until(async || {
        let found = queue.job("default", &job.id).await.unwrap().unwrap();
        (found.state == JobState::Archived).then_some(())
    })
    .await;
    assert_eq!(hand.done().await, 3);
}
