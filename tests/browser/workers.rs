//! Worker processes changed from their page while they run.

use super::*;

/// How often a person clicks to drain a worker, and to change its slots: both from any page.
#[rstest]
#[case::light("workers-light", PLAIN)]
#[case::dark_phone("workers-phone", Settings { phone: true, dark: true, ..PLAIN })]
#[tokio::test]
async fn a_worker_is_drained_resumed_and_given_slots_with_three_clicks_each(
    #[case] name: &str,
    #[case] settings: Settings,
) {
    let fairing = JobQueue::fairing().memory().set("jobqueue.concurrency", 2).handle(mail);
    let (pages, queue) = pages_of(fairing).await;
    let browser = Browser::open(settings).await;
    browser.open_page(&pages).await;
    browser.hold_still().await;

    browser.click("nav a[href$='/ui/servers']").await;
    browser.until("h1", "Workers").await;
    let quiet = ".worker form[action$='/quiet'] button";
    browser.unfold(".worker details:has(form[action$='/quiet']) summary", quiet).await;
    browser.until(".worker details[open] p", "Its running jobs finish").await;
    browser.shoot(&format!("{name}-question")).await;
    browser.click(quiet).await;
    browser.until("[role=status]", "Asked to take no more jobs.").await;
    browser.until("tbody .tag", "quiet").await;
    browser.shoot(&format!("{name}-quiet")).await;
    queue.enqueue(Mail { to: "nobody".to_owned() }).await.unwrap();
    let sizes = async || {
        let default = QueueName::new("default").unwrap();
        queue.inspector().queue(&default).await.unwrap().sizes
    };
    assert_eq!(sizes().await["pending"], 1);

    browser.click(".worker form[action$='/resume'] button").await;
    browser.until("tbody .tag", "running").await;

    let change = ".worker form[action$='/change'] button";
    browser.unfold(".worker details:has(form[action$='/change']) summary", change).await;
    let slots = ".worker input[name='concurrency']";
    assert_eq!(browser.value(slots).await, "2");
    browser.client.find(Locator::Css(slots)).await.unwrap().clear().await.unwrap();
    browser.client.find(Locator::Css(slots)).await.unwrap().send_keys("7").await.unwrap();
    browser.shoot(&format!("{name}-change")).await;
    browser.click(change).await;
    browser.until("[role=status]", "The change was asked for.").await;
    browser.until("tbody td[data-label='Slots in use']", "0 / 7").await;
    browser.until("tbody td[data-label='Status'] .hint", "concurrency 7").await;

    browser.unfold("details:has(form[action$='/servers/quiet']) summary", "#all-quiet-hours").await;
    browser.shoot(&format!("{name}-all")).await;
    browser.close().await;
}
